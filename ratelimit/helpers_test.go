package ratelimit_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/internal/redistest"
	"github.com/insigner/auth/ratelimit"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{}) // the client logs what it cannot reach
	os.Exit(redistest.Main(m))
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

var ok = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })

// recordOf returns the record of a key that was never rotated.
func recordOf(id string) auth.Record { return auth.Record{ID: id, Owner: "org_1", Chain: id} }

// requestOf returns a request that an Authenticator has accepted for r.
func requestOf(t testing.TB, r auth.Record) *http.Request {
	t.Helper()
	req := httptest.NewRequest("GET", "/documents", nil)
	return req.WithContext(authtest.NewContext(req.Context(), r))
}

// serve returns the answer of h.
func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// call sends a request with the key of r through l, and returns its answer.
func call(t testing.TB, l *ratelimit.Limiter, r auth.Record) *httptest.ResponseRecorder {
	t.Helper()
	return serve(l.Middleware(ok), requestOf(t, r))
}

// accepted reports whether l accepts a request with the key of r.
func accepted(t testing.TB, l *ratelimit.Limiter, r auth.Record) bool {
	t.Helper()
	w := call(t, l, r)
	if w.Code != 200 && w.Code != 429 {
		t.Fatalf("the status is %d, want 200 or 429", w.Code)
	}
	return w.Code == 200
}

// burst returns how many of n requests l accepts, one after another.
func burst(t testing.TB, l *ratelimit.Limiter, r auth.Record, n int) (count int) {
	t.Helper()
	for range n {
		if accepted(t, l, r) {
			count++
		}
	}
	return count
}

// number returns the value of a field.
func number(t testing.TB, h http.Header, field string) int {
	t.Helper()
	n, err := strconv.Atoi(h.Get(field))
	if err != nil {
		t.Errorf("%s is %q, want a number", field, h.Get(field))
	}
	return n
}

// limited returns Options with that limit for every key.
func limited(requests int, period time.Duration) *ratelimit.Options {
	return &ratelimit.Options{Limit: func(auth.Record) ratelimit.Limit {
		return ratelimit.Limit{Requests: requests, Period: period}
	}}
}

// A journal is what a logger wrote. It is safe for concurrent use.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(b)
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// lines returns the lines that hold text.
func (j *journal) lines(text string) (list []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.buf.String()) {
		if strings.Contains(line, text) {
			list = append(list, line)
		}
	}
	return list
}

// wants checks how many lines hold text.
func (j *journal) wants(t testing.TB, n int, text string) {
	t.Helper()
	if got := j.lines(text); len(got) != n {
		t.Errorf("%d lines hold %q, want %d: %q", len(got), text, n, got)
	}
}

const (
	fails   = "the counter fails"
	answers = "the counter answers again"
)

// wantsOutages checks that there is one line when an outage begins and one when
// it ends, and at least n outages. There may be more: a busy machine does not
// run Redis for 50 milliseconds now and then.
func (j *journal) wantsOutages(t testing.TB, n int) {
	t.Helper()
	list := j.lines("")
	for i, line := range list {
		if want := []string{fails, answers}[i%2]; !strings.Contains(line, want) {
			t.Errorf("line %d is %q, want %q", i, line, want)
		}
	}
	if got := len(j.lines(fails)); got < n {
		t.Errorf("there are %d outages in the log, want at least %d: %q", got, n, list)
	}
}

// undisturbed calls f, which returns what is wrong, until there is no outage
// during a call: none begins or ends, and none goes on all the time.
func undisturbed(t testing.TB, log *journal, f func(try int) (problems []string)) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for try := 0; time.Now().Before(deadline); try++ {
		before := len(log.lines(""))
		problems := f(try)
		if len(log.lines("")) > before || len(log.lines(fails)) > len(log.lines(answers)) {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		for _, problem := range problems {
			t.Error(problem)
		}
		return
	}
	t.Error("there is an outage each time: ", log.lines(""))
}

// eventually waits until f reports true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not happen: ", what)
		}
	}
}

// wallClock returns the real time, in a bubble of synctest too.
func wallClock() time.Duration {
	var tv syscall.Timeval
	syscall.Gettimeofday(&tv)
	return time.Duration(tv.Nano())
}

// A keyStore is a store of one key.
type keyStore struct {
	key    auth.Key
	record auth.Record
}

func storeOf(r auth.Record) *keyStore {
	key := auth.Scheme{}.NewKey()
	r.Hash, r.Hint = auth.Scheme{}.Hashes(key)[0], key.Hint()
	return &keyStore{key, r}
}

func (s *keyStore) Lookup(_ context.Context, hash auth.Hash) (*auth.Record, error) {
	if hash != s.record.Hash {
		return nil, auth.ErrNotFound
	}
	return &s.record, nil
}

// request returns a request with the key.
func (s *keyStore) request() *http.Request {
	return authtest.WithKey(httptest.NewRequest("GET", "/documents", nil), s.key)
}
