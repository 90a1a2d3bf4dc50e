package ratelimit_test

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/ratelimit"
)

var fields = []string{"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"}

// wantFields checks the three fields of an answer.
func wantFields(t *testing.T, what string, h http.Header, want ...string) {
	t.Helper()
	for i, field := range fields {
		if got := strings.Join(h.Values(field), ", "); got != want[i] {
			t.Errorf("%s: %s is %q, want %q", what, field, got, want[i])
		}
	}
}

// TestFields: each answer of an authenticated route has the fields, of any
// handler.
func TestFields(t *testing.T) {
	inside := func(h http.HandlerFunc) http.Handler { return h }
	store := storeOf(recordOf("k"))
	for _, c := range []struct {
		name    string
		handler http.Handler
		status  int
	}{
		{"nothing", inside(func(http.ResponseWriter, *http.Request) {}), 200},
		{"a body", inside(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") }), 200},
		{"no content", inside(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }), 204},
		{"not modified", inside(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }), 304},
		{"http.Error", inside(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "x", 500) }), 500},
		{"not found", http.NewServeMux(), 404},
		{"WriteProblem", inside(func(w http.ResponseWriter, r *http.Request) {
			auth.WriteProblem(w, r, &auth.Problem{Status: 409})
		}), 409},
		{"Require", auth.Require("a.b")(ok), 403},
		{"TimeoutHandler", http.TimeoutHandler(ok, time.Minute, ""), 200},
	} {
		h := auth.New(store, nil).Middleware(ratelimit.New(nil, nil).Middleware(c.handler))
		w := serve(h, store.request())
		if w.Code != c.status {
			t.Errorf("%s: the status is %d, want %d", c.name, w.Code, c.status)
		}
		wantFields(t, c.name, w.Header(), "120", "119", "1")
	}

	h := ratelimit.New(nil, nil).Middleware(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("RateLimit-Limit", "7")
		w.Header().Del("RateLimit-Reset")
	}))
	wantFields(t, "a handler that sets them", serve(h, requestOf(t, recordOf("k"))).Header(), "7", "119", "")
}

// TestRefusal: the answer beyond the limit.
func TestRefusal(t *testing.T) {
	store := storeOf(recordOf("k"))
	for _, c := range []struct {
		base, want string
	}{
		{"", "https://docs.insigner.com/errors/rate-limited"},
		{"https://acme.example/errors/", "https://acme.example/errors/rate-limited"},
		{"urn:acme:", "urn:acme:rate-limited"},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := ratelimit.New(nil, nil)
			called := 0
			h := auth.New(store, &auth.Options{ProblemBase: c.base}).Middleware(
				l.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called++ })))
			for range 120 {
				serve(h, store.request())
			}
			if called != 120 {
				t.Errorf("%d requests at once are accepted, want 120", called)
			}
			var w *httptest.ResponseRecorder
			for range 1000 { // refusals cost nothing
				w = serve(h, store.request())
			}
			if w.Code != http.StatusTooManyRequests {
				t.Errorf("the status is %d, want 429", w.Code)
			}
			wantFields(t, "429", w.Header(), "120", "0", "60")
			for field, want := range map[string]string{
				"Retry-After":   "1",
				"Content-Type":  "application/problem+json",
				"Cache-Control": "no-store",
			} {
				if got := w.Header().Get(field); got != want {
					t.Errorf("%s is %q, want %q", field, got, want)
				}
			}
			var got auth.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Error(err)
			}
			want := auth.Problem{Type: c.want, Title: "Too Many Requests", Status: 429, Code: "RATE_LIMITED",
				Detail: "The limit is 120 requests a minute; try again in 1 second"}
			if got.Error() != want.Error() || got.Type != want.Type || got.Code != want.Code {
				t.Errorf("the problem is %+v, want %+v", got, want)
			}
			r := store.request()
			r.Method = http.MethodHead
			if w := serve(h, r); w.Body.Len() != 0 {
				t.Errorf("HEAD is answered with a body: %s", w.Body)
			}
			time.Sleep(time.Second)
			if w := serve(h, store.request()); w.Code != 200 {
				t.Errorf("after Retry-After, the status is %d", w.Code)
			} else {
				wantFields(t, "after a second", w.Header(), "120", "1", "60")
			}
			if called != 121 {
				t.Errorf("the handler was called %d times, want 121", called)
			}
		})
	}
}

func TestDetail(t *testing.T) {
	for _, c := range []struct {
		limit ratelimit.Limit
		want  string
	}{
		{ratelimit.Limit{Requests: 1, Period: time.Second}, "The limit is 1 request a second; try again in 1 second"},
		{ratelimit.Limit{Requests: 2, Period: time.Hour}, "The limit is 2 requests an hour; try again in 1800 seconds"},
		{ratelimit.Limit{Requests: 3, Period: day}, "The limit is 3 requests a day; try again in 28800 seconds"},
		{ratelimit.Limit{Requests: 4, Period: 10 * time.Second}, "The limit is 4 requests in 10s; try again in 3 seconds"},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := ratelimit.New(nil, limited(c.limit.Requests, c.limit.Period))
			burst(t, l, recordOf("k"), c.limit.Requests)
			var p auth.Problem
			json.Unmarshal(call(t, l, recordOf("k")).Body.Bytes(), &p)
			if p.Detail != c.want {
				t.Errorf("the detail is %q, want %q", p.Detail, c.want)
			}
		})
	}
}

// TestRetryAfter: a client that waits for Retry-After is accepted. Remaining
// falls by one with each accepted request, and rises only with time. Reset is
// the time until the budget is full.
func TestRetryAfter(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 100 {
		requests := 1 + random.IntN(40)
		period := 1 + time.Duration(random.Int64N(int64([]time.Duration{time.Second, time.Minute, day}[random.IntN(3)])))
		synctest.Test(t, func(t *testing.T) {
			l := ratelimit.New(nil, limited(requests, period))
			r := recordOf("k")
			remaining := requests
			for range 100 {
				w := call(t, l, r)
				got := number(t, w.Header(), "RateLimit-Remaining")
				if w.Code == 429 {
					if got != 0 {
						t.Fatalf("%d in %v: refused with %d remaining", requests, period, got)
					}
					wait := number(t, w.Header(), "Retry-After")
					if wait < 1 {
						t.Fatalf("%d in %v: Retry-After is %d", requests, period, wait)
					}
					time.Sleep(time.Duration(wait) * time.Second)
					if w = call(t, l, r); w.Code != 200 {
						t.Fatalf("%d in %v: refused after Retry-After %d", requests, period, wait)
					}
					got = number(t, w.Header(), "RateLimit-Remaining")
				} else if got != remaining-1 {
					t.Fatalf("%d in %v: %d remain, and after the next request %d", requests, period, remaining, got)
				}
				remaining = got
				if random.IntN(20) == 0 {
					time.Sleep(time.Duration(number(t, w.Header(), "RateLimit-Reset")) * time.Second)
					if remaining = requests; burst(t, l, r, 1) == 1 {
						u, _ := l.Usage(t.Context(), r)
						if u.Remaining != requests-1 {
							t.Fatalf("%d in %v: after Reset the budget is not full: %d remain", requests, period, u.Remaining+1)
						}
						remaining--
					}
				}
			}
		})
	}
}

// TestWhoIsLimited: which requests are limited, and together with which.
func TestWhoIsLimited(t *testing.T) {
	first := auth.Record{ID: "first", Chain: "first", Owner: "org_1"}
	second := auth.Record{ID: "second", Chain: "first", Owner: "org_1", RotatedFrom: "first"}
	other := auth.Record{ID: "other", Chain: "other", Owner: "org_1"}
	foreign := auth.Record{ID: "foreign", Chain: "foreign", Owner: "first"}
	byOwner := func(r auth.Record) string { return r.Owner }
	nobody := func(auth.Record) string { return "" }
	for _, c := range []struct {
		name   string
		key    func(auth.Record) string
		a, b   auth.Record
		shared bool
	}{
		{"a rotation", nil, first, second, true},
		{"a rotation, successor first", nil, second, first, true},
		{"two keys", nil, first, other, false},
		{"an own table without rotations", nil, auth.Record{ID: "a"}, auth.Record{ID: "b"}, false},
		{"an own table with the successor's chain only", nil, auth.Record{ID: "a"}, auth.Record{ID: "b", Chain: "a"}, true},
		{"an own table without IDs", nil, auth.Record{Hash: auth.Hash{1}}, auth.Record{Hash: auth.Hash{2}}, false},
		{"by owner", byOwner, first, other, true},
		{"by owner, another", byOwner, first, foreign, false},
		{"by owner, without one", byOwner, auth.Record{ID: "a"}, auth.Record{ID: "b"}, false},
		{"by owner, a key without one and an owner of its ID", byOwner, auth.Record{ID: "first"}, foreign, false},
		{"an empty Key", nobody, first, second, true},
		{"an empty Key, two keys", nobody, first, other, false},
	} {
		opts := limited(1, time.Hour)
		opts.Key = c.key
		l := ratelimit.New(nil, opts)
		if !accepted(t, l, c.a) {
			t.Errorf("%s: the first request is refused", c.name)
		}
		if got := !accepted(t, l, c.b); got != c.shared {
			t.Errorf("%s: they share a budget: %v, want %v", c.name, got, c.shared)
		}
	}
}

// TestMounted: outside an Authenticator it answers 500, and says so. A request
// that Optional passed without a key is not limited.
func TestMounted(t *testing.T) {
	var log journal
	opts := limited(1, time.Hour)
	opts.Logger = log.logger()
	l := ratelimit.New(nil, opts)
	called := 0
	h := l.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called++ }))
	w := serve(h, httptest.NewRequest("GET", "/documents", nil))
	if w.Code != 500 {
		t.Errorf("outside an Authenticator, the status is %d, want 500", w.Code)
	}
	if called != 0 {
		t.Error("outside an Authenticator, the handler is called")
	}
	log.wants(t, 1, "no Middleware, Optional or Require of an Authenticator is outside")

	store := storeOf(recordOf("k"))
	a := auth.New(store, nil)
	for range 3 {
		w := serve(a.Optional(h), httptest.NewRequest("GET", "/documents", nil))
		if w.Code != 200 {
			t.Errorf("without a key, the status is %d, want 200", w.Code)
		}
		wantFields(t, "without a key", w.Header(), "", "", "")
	}
	for i, want := range []int{200, 429} {
		if w := serve(a.Optional(h), store.request()); w.Code != want {
			t.Errorf("under Optional, the status of request %d is %d, want %d", i, w.Code, want)
		}
	}
	scoped := recordOf("scoped")
	scoped.Scopes = auth.Scopes{"a.b"}
	store = storeOf(scoped)
	for i, want := range []int{200, 429} {
		if w := serve(auth.New(store, nil).Require("a.b")(h), store.request()); w.Code != want {
			t.Errorf("under Require, the status of request %d is %d, want %d", i, w.Code, want)
		}
	}
	for i, want := range []int{401, 401} {
		r := httptest.NewRequest("GET", "/documents", nil)
		if w := serve(a.Middleware(h), r); w.Code != want {
			t.Errorf("a missing key: the status of request %d is %d, want %d", i, w.Code, want)
		} else {
			wantFields(t, "401", w.Header(), "", "", "")
		}
	}

	// An identity that the host vouched for is limited, as long as it is valid.
	vouched := recordOf("session")
	vouched.ExpiresAt = time.Now().Add(time.Hour)
	r := httptest.NewRequest("GET", "/documents", nil)
	r = r.WithContext(a.Vouch(r.Context(), vouched))
	for i, want := range []int{200, 429} {
		if w := serve(a.Middleware(h), r); w.Code != want {
			t.Errorf("vouched for: the status of request %d is %d, want %d", i, w.Code, want)
		}
	}
}

// TestUnlimited: such a key is not counted and has no fields.
func TestUnlimited(t *testing.T) {
	l := ratelimit.New(nil, limited(ratelimit.Unlimited, 0))
	for range 1000 {
		w := call(t, l, recordOf("k"))
		if w.Code != 200 {
			t.Fatalf("the status is %d", w.Code)
		}
		wantFields(t, "unlimited", w.Header(), "", "", "")
	}
}

// TestInvalidLimit: it is not accepted, and logged once a minute.
func TestInvalidLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		opts := limited(-5, time.Minute)
		opts.Logger = log.logger()
		l := ratelimit.New(nil, opts)
		for range 100 {
			if w := call(t, l, recordOf("k")); w.Code != 500 {
				t.Fatalf("the status is %d, want 500", w.Code)
			}
		}
		log.wants(t, 1, "invalid limit of -5 requests in 1m0s")
		time.Sleep(time.Minute)
		call(t, l, recordOf("k"))
		log.wants(t, 2, "invalid limit")
		log.wants(t, 2, "key.id=k")
	})
}

// TestNested: of two Limiters, the answer has the fields of the tighter one, and
// Retry-After is enough for both, and no longer.
func TestNested(t *testing.T) {
	for _, c := range []struct {
		outer, inner ratelimit.Limit
		fields       []string // of the last answer
		status       int
		requests     int
		after        string
	}{
		{ratelimit.Limit{Requests: 10}, ratelimit.Limit{Requests: 20}, []string{"10", "9", "6"}, 200, 1, ""},
		{ratelimit.Limit{Requests: 20}, ratelimit.Limit{Requests: 10}, []string{"10", "9", "6"}, 200, 1, ""},
		{ratelimit.Limit{Requests: 2}, ratelimit.Limit{Requests: 20}, []string{"2", "0", "60"}, 429, 3, "30"},
		{ratelimit.Limit{Requests: 20}, ratelimit.Limit{Requests: 2}, []string{"2", "0", "60"}, 429, 3, "30"},
		{ratelimit.Limit{Requests: 3, Period: time.Hour}, ratelimit.Limit{Requests: 2}, []string{"2", "0", "60"}, 429, 3, "1200"},
		{ratelimit.Limit{Requests: 7, Period: day}, ratelimit.Limit{Requests: 6}, []string{"6", "0", "60"}, 429, 7, "12343"},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := ratelimit.New(nil, limited(c.outer.Requests, c.outer.Period)).Middleware(
				ratelimit.New(nil, limited(c.inner.Requests, c.inner.Period)).Middleware(ok))
			var w *httptest.ResponseRecorder
			for range c.requests {
				w = serve(h, requestOf(t, recordOf("k")))
			}
			if w.Code != c.status {
				t.Errorf("%v, %v: the status is %d, want %d", c.outer, c.inner, w.Code, c.status)
			}
			wantFields(t, c.outer.String()+", "+c.inner.String(), w.Header(), c.fields...)
			if got := w.Header().Get("Retry-After"); got != c.after {
				t.Errorf("%v, %v: Retry-After is %q, want %q", c.outer, c.inner, got, c.after)
			}
			if w.Code == 429 {
				time.Sleep(time.Duration(number(t, w.Header(), "Retry-After")) * time.Second)
				if w := serve(h, requestOf(t, recordOf("k"))); w.Code != 200 {
					t.Errorf("%v, %v: refused after Retry-After", c.outer, c.inner)
				}
			}
		})
	}
}

// TestExposed: scripts of other origins may read the fields, on 200 and 429.
func TestExposed(t *testing.T) {
	const names = "RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After"
	h := ratelimit.New(nil, limited(2, time.Hour)).Middleware(ok)
	cors := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Expose-Headers", "X-Request-Id")
		h.ServeHTTP(w, r)
	})
	request := func(origin string) *http.Request {
		r := requestOf(t, recordOf("k"))
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		return r
	}
	for _, c := range []struct {
		handler http.Handler
		origin  string
		status  int
		want    string
	}{
		{h, "", 200, ""},
		{cors, "https://app.example.com", 200, "X-Request-Id, " + names},
		{h, "https://app.example.com", 429, names},
		{cors, "https://app.example.com", 429, "X-Request-Id, " + names},
	} {
		w := serve(c.handler, request(c.origin))
		if w.Code != c.status {
			t.Errorf("origin %q: the status is %d, want %d", c.origin, w.Code, c.status)
		}
		if got := strings.Join(w.Header().Values("Access-Control-Expose-Headers"), ", "); got != c.want {
			t.Errorf("origin %q, %d: exposed are %q, want %q", c.origin, w.Code, got, c.want)
		}
	}
	nested := ratelimit.New(nil, nil).Middleware(ratelimit.New(nil, nil).Middleware(ok))
	if got := serve(nested, request("https://app.example.com")).Header()["Access-Control-Expose-Headers"]; len(got) != 1 {
		t.Errorf("nested: the fields are exposed by %q, want one value", got)
	}
}

// TestErrorHandler: a host may answer a refusal in its own format.
func TestErrorHandler(t *testing.T) {
	for _, answers := range []bool{true, false} {
		opts := limited(1, time.Hour)
		opts.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) bool {
			if got := auth.Code(err); got != "RATE_LIMITED" {
				t.Errorf("the code of the error is %q", got)
			}
			if answers {
				w.WriteHeader(auth.ProblemFor(err).Status)
				io.WriteString(w, "own")
			}
			return answers
		}
		l := ratelimit.New(nil, opts)
		call(t, l, recordOf("k"))
		w := call(t, l, recordOf("k"))
		if w.Code != 429 {
			t.Errorf("the status is %d, want 429", w.Code)
		}
		if got := w.Body.String() == "own"; got != answers {
			t.Errorf("the handler answers %v, and the body is %s", answers, w.Body)
		}
		if got := w.Header().Get("Retry-After"); got != "3600" {
			t.Errorf("Retry-After is %q, want 3600", got)
		}
	}
}

// TestNeighbors: a key at 100 times its limit changes nobody else's answers.
func TestNeighbors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ratelimit.New(nil, nil)
		for range 60 {
			burst(t, l, recordOf("loud"), 200)
			w := call(t, l, recordOf("quiet"))
			if w.Code != 200 {
				t.Fatalf("another key is answered with %d", w.Code)
			}
			wantFields(t, "another key", w.Header(), "120", "119", "1")
			time.Sleep(time.Second)
		}
	})
}

// TestUsage: it shows what a request would find, and takes nothing.
func TestUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ratelimit.New(nil, nil)
		limit := ratelimit.Limit{Requests: 120, Period: time.Minute}
		for _, c := range []struct {
			requests int
			want     ratelimit.Usage
		}{
			{0, ratelimit.Usage{Limit: limit, Allowed: true, Remaining: 120}},
			{1, ratelimit.Usage{Limit: limit, Allowed: true, Remaining: 119, Reset: time.Second / 2}},
			{119, ratelimit.Usage{Limit: limit, Remaining: 0, Reset: time.Minute, RetryAfter: time.Second / 2}},
		} {
			burst(t, l, recordOf("k"), c.requests)
			for range 2 {
				got, err := l.Usage(t.Context(), recordOf("k"))
				if err != nil {
					t.Error(err)
				}
				if got != c.want {
					t.Errorf("after %d more requests: %+v, want %+v", c.requests, got, c.want)
				}
			}
		}
	})
	got, err := ratelimit.New(nil, limited(ratelimit.Unlimited, 0)).Usage(t.Context(), recordOf("k"))
	want := ratelimit.Usage{Limit: ratelimit.Limit{Requests: ratelimit.Unlimited}, Allowed: true, Remaining: ratelimit.Unlimited}
	if got != want || err != nil {
		t.Errorf("unlimited: %+v, %v, want %+v", got, err, want)
	}
}

func TestPanics(t *testing.T) {
	for name, f := range map[string]func(){
		"ratelimit.New":                func() { ratelimit.New((*fake)(nil), nil) },
		"ratelimit.Limiter.Middleware": func() { ratelimit.New(nil, nil).Middleware(nil) },
	} {
		func() {
			defer func() {
				if v, _ := recover().(string); !strings.HasPrefix(v, name+": ") {
					t.Errorf("%s: panic %q, want one that names the call", name, v)
				}
			}()
			f()
		}()
	}
}

// FuzzFields: the fields are whole seconds, rounded up, never negative, and
// Retry-After is at least 1, for any answer of a Counter.
func FuzzFields(f *testing.F) {
	f.Add(true, 5, int64(1), int64(0))
	f.Add(false, 0, int64(time.Second+1), int64(time.Second))
	f.Add(false, -3, int64(-1), int64(-1))
	f.Add(false, math.MaxInt, int64(1<<63-1), int64(1<<63-1))
	fields := func(t *testing.T, allowed bool, remaining int, reset, retry int64) {
		l := ratelimit.New(&fake{take: func(context.Context, string, ratelimit.Limit, int) (ratelimit.Usage, error) {
			return ratelimit.Usage{Allowed: allowed, Remaining: remaining, Reset: time.Duration(reset),
				RetryAfter: time.Duration(retry)}, nil
		}}, nil)
		w := call(t, l, recordOf("k"))
		if got := number(t, w.Header(), "RateLimit-Limit"); got != 120 {
			t.Errorf("RateLimit-Limit is %d, want 120", got)
		}
		if got, want := number(t, w.Header(), "RateLimit-Remaining"), min(max(remaining, 0), 120); got != want {
			t.Errorf("RateLimit-Remaining is %d, want %d", got, want)
		}
		up := func(d int64) int {
			n := int(d / 1e9)
			if n*1e9 < int(d) {
				n++
			}
			return max(n, 0)
		}
		if got, want := number(t, w.Header(), "RateLimit-Reset"), up(reset); got != want {
			t.Errorf("RateLimit-Reset is %d for %v, want %d", got, time.Duration(reset), want)
		}
		if allowed {
			if w.Code != 200 || w.Header().Get("Retry-After") != "" {
				t.Errorf("the status is %d with Retry-After %q", w.Code, w.Header().Get("Retry-After"))
			}
			return
		}
		if got, want := number(t, w.Header(), "Retry-After"), max(up(retry), 1); got != want {
			t.Errorf("Retry-After is %d for %v, want %d", got, time.Duration(retry), want)
		}
	}
	f.Fuzz(func(t *testing.T, allowed bool, remaining int, reset, retry int64) {
		synctest.Test(t, func(t *testing.T) { fields(t, allowed, remaining, reset, retry) }) // no stall is an outage there
	})
}
