package ratelimit_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/ratelimit"
)

// A fake is a Counter of a test.
type fake struct {
	take  func(ctx context.Context, key string, limit ratelimit.Limit, n int) (ratelimit.Usage, error)
	calls atomic.Int64
}

func (f *fake) Take(ctx context.Context, key string, limit ratelimit.Limit, n int) (ratelimit.Usage, error) {
	f.calls.Add(1)
	return f.take(ctx, key, limit, n)
}

func accept(context.Context, string, ratelimit.Limit, int) (ratelimit.Usage, error) {
	return ratelimit.Usage{Allowed: true, Remaining: 77}, nil
}

var errDown = errors.New("connection refused")

// A valve is a Counter that fails or hangs while a test wants it.
type valve struct {
	fake
	err     atomic.Pointer[error]
	hanging atomic.Pointer[chan struct{}]
}

func newValve() *valve {
	v := new(valve)
	v.fake.take = func(ctx context.Context, key string, limit ratelimit.Limit, n int) (ratelimit.Usage, error) {
		if hang := v.hanging.Load(); hang != nil {
			<-*hang // even if ctx ends
		}
		if err := v.err.Load(); err != nil {
			return ratelimit.Usage{}, *err
		}
		return accept(ctx, key, limit, n)
	}
	return v
}

func (v *valve) fail() { v.err.Store(&errDown) }

// hang lets calls wait until the returned function is called.
func (v *valve) hang() (release func()) {
	c := make(chan struct{})
	v.hanging.Store(&c)
	return func() {
		v.hanging.Store(nil)
		close(c)
	}
}

// remote reports whether the Counter decided about a request, and how long that
// took.
func remote(t *testing.T, l *ratelimit.Limiter) (bool, time.Duration) {
	t.Helper()
	start := time.Now()
	w := call(t, l, recordOf("k"))
	if w.Code != 200 {
		t.Fatalf("the status is %d", w.Code)
	}
	return w.Header().Get("RateLimit-Remaining") == "77", time.Since(start)
}

// TestOutage: a Counter that fails is asked once a second, and the Limiter counts
// in memory. Each change of state is one line.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		opts := limited(1000, time.Minute)
		opts.Logger = log.logger()
		v := newValve()
		v.fail() // at the start
		l := ratelimit.New(v, opts)
		if l.Local() {
			t.Error("before the first request, Local is true")
		}
		for range 100 { // 5 seconds
			if by, _ := remote(t, l); by {
				t.Error("a Counter that fails has decided")
			}
			time.Sleep(50 * time.Millisecond)
		}
		if !l.Local() {
			t.Error("during an outage, Local is false")
		}
		if got := v.calls.Load(); got != 5 {
			t.Errorf("in 5 seconds, the Counter is asked %d times, want 5", got)
		}
		log.wants(t, 1, "")
		log.wants(t, 1, `level=WARN msg="auth/ratelimit: the counter fails; counting in memory" error="connection refused"`)

		v.err.Store(nil)
		time.Sleep(time.Second)
		if by, _ := remote(t, l); !by {
			t.Error("the probe did not decide about its request")
		}
		if by, _ := remote(t, l); !by {
			t.Error("after the probe, the Counter does not decide")
		}
		if l.Local() {
			t.Error("after the outage, Local is true")
		}
		log.wants(t, 2, "")
		log.wants(t, 1, `level=INFO msg="auth/ratelimit: the counter answers again" after=6s`)
	})
}

// TestHanging: of the requests with a Counter that hangs, those that came before
// it was known wait for 50 milliseconds. Then only one probe a second waits.
func TestHanging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ratelimit.New(newValveThatHangs(t), limited(1000, time.Minute))
		var mu sync.Mutex
		waits := make(map[time.Duration]int)
		var wg sync.WaitGroup
		for range 40 { // 10 seconds, 3 requests at a time
			for range 3 {
				wg.Go(func() {
					by, d := remote(t, l)
					if by {
						t.Error("a Counter that hangs has decided")
					}
					mu.Lock()
					defer mu.Unlock()
					waits[d]++
				})
			}
			time.Sleep(250 * time.Millisecond)
		}
		wg.Wait()
		const long = 50 * time.Millisecond
		if got, most := waits[long], 3+9; got > most || got < 3+8 {
			t.Errorf("%d requests waited for %v, want 3 and about one a second: %v", got, long, waits)
		}
		if got := waits[0] + waits[long]; got != 120 {
			t.Errorf("others waited for something else: %v", waits)
		}
	})
}

func newValveThatHangs(t *testing.T) *valve {
	v := newValve()
	t.Cleanup(v.hang())
	return v
}

// TestLateAnswer: if the answer comes after its request has left, the outage is
// over at once, and no longer outage follows from it.
func TestLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		opts := limited(1000, time.Minute)
		opts.Logger = log.logger()
		v := newValve()
		l := ratelimit.New(v, opts)
		for i := range 5 {
			release := v.hang()
			if by, d := remote(t, l); by || d != 50*time.Millisecond {
				t.Errorf("stall %d: decided by the Counter: %v, after %v", i, by, d)
			}
			time.Sleep(10 * time.Millisecond)
			if by, d := remote(t, l); by || d != 0 {
				t.Errorf("during stall %d: decided by the Counter: %v, after %v", i, by, d)
			}
			release()
			synctest.Wait()
			if by, _ := remote(t, l); !by {
				t.Errorf("after stall %d, the Counter does not decide", i)
			}
			time.Sleep(time.Second)
		}
		log.wants(t, 5, "answers again\" after=10ms")

		// A late error is no answer.
		v.fail()
		release := v.hang()
		remote(t, l)
		release()
		synctest.Wait()
		if !l.Local() {
			t.Error("a late error ends the outage")
		}
	})
}

// TestStall: when a Counter that has refused a key does not answer for a moment,
// the key gets no second budget. What is taken during a stall stays taken in the
// next one, though the Counter does not know of it.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval, most = 6 * time.Minute, time.Hour
		hang := make(chan struct{})
		close(hang)
		var full time.Time
		f := &fake{take: func(_ context.Context, key string, limit ratelimit.Limit, n int) (ratelimit.Usage, error) {
			<-hang
			if key != "k" {
				return ratelimit.Usage{Allowed: true, Reset: 100 * most}, nil // a mistake of the Counter
			}
			reset := max(time.Until(full), 0) + interval
			if reset > most {
				return ratelimit.Usage{Reset: reset - interval, RetryAfter: reset - most}, nil
			}
			full = time.Now().Add(reset)
			return ratelimit.Usage{Allowed: true, Reset: reset}, nil
		}}
		opts := limited(10, time.Hour)
		opts.Logger = new(journal).logger()
		l := ratelimit.New(f, opts)
		stall := func(requests, want int) {
			hang = make(chan struct{})
			if got := burst(t, l, recordOf("k"), requests); got != want {
				t.Errorf("%d requests are accepted during a stall, want %d", got, want)
			}
			close(hang)
			synctest.Wait()
		}
		burst(t, l, recordOf("k"), 7)
		stall(3, 3) // the late call takes one from the Counter, which has two more
		if got := burst(t, l, recordOf("k"), 1); got != 1 {
			t.Error("the Counter does not decide after a stall")
		}
		stall(5, 0)
		time.Sleep(interval) // one comes back
		stall(5, 1)

		if got := call(t, l, recordOf("wrong")).Code; got != 200 {
			t.Errorf("the status is %d, want that of the Counter, 200", got)
		}
		time.Sleep(most) // after which an empty budget is full
		hang = make(chan struct{})
		if got := burst(t, l, recordOf("wrong"), 20); got != 10 {
			t.Errorf("after a mistake of the Counter, %d requests are accepted, want 10", got)
		}
		close(hang)
	})
}

// TestOthersLeave: when one request has found out that the Counter fails, those
// that wait leave at once.
func TestOthersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newValve()
		release := v.hang()
		defer release()
		l := ratelimit.New(v, nil)
		var waits [3]time.Duration
		var wg sync.WaitGroup
		for i := range waits {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 20 * time.Millisecond)
				_, waits[i] = remote(t, l)
			})
		}
		wg.Wait()
		for i, want := range []time.Duration{50, 30, 10} {
			if got := waits[i] / time.Millisecond; got != want {
				t.Errorf("request %d waited for %d ms, want %d", i, got, want)
			}
		}
	})
}

// TestBounded: calls that hang for longer than their request are at most 512.
func TestBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newValve()
		release := v.hang()
		l := ratelimit.New(v, limited(1e6, time.Minute))
		var wg sync.WaitGroup
		for range 2000 {
			wg.Go(func() {
				if _, d := remote(t, l); d > 50*time.Millisecond {
					t.Errorf("a request waited for %v", d)
				}
			})
		}
		wg.Wait()
		for range 100 {
			time.Sleep(time.Second)
			if _, d := remote(t, l); d > 50*time.Millisecond {
				t.Errorf("a request waited for %v", d)
			}
		}
		if got := v.calls.Load(); got != 512 {
			t.Errorf("%d calls are in progress, want 512", got)
		}
		release()
		synctest.Wait() // in a bubble, a goroutine that stays would be an error
		time.Sleep(time.Second)
		if by, _ := remote(t, l); !by {
			t.Error("the Counter is not asked again")
		}
	})
}

// TestFlapping: a Counter that fails for a part of the keys does not make a line
// each second.
func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		n := 0
		f := &fake{take: func(ctx context.Context, key string, limit ratelimit.Limit, _ int) (ratelimit.Usage, error) {
			if n++; n%3 == 0 {
				return ratelimit.Usage{}, errDown
			}
			return accept(ctx, key, limit, 1)
		}}
		opts := limited(1e6, time.Minute)
		opts.Logger = log.logger()
		l := ratelimit.New(f, opts)
		for range 6000 { // 10 minutes
			call(t, l, recordOf("k"))
			time.Sleep(100 * time.Millisecond)
		}
		if got := len(log.lines("the counter fails")); got < 1 || got > 3 {
			t.Errorf("there are %d lines about an outage, want 1 to 3", got)
		}
	})
}

// TestClientLeaves: a client that is gone says nothing about the Counter.
func TestClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		f := &fake{take: func(ctx context.Context, key string, limit ratelimit.Limit, n int) (ratelimit.Usage, error) {
			select {
			case <-ctx.Done():
				return ratelimit.Usage{}, ctx.Err()
			case <-time.After(20 * time.Millisecond):
				return accept(ctx, key, limit, n)
			}
		}}
		l := ratelimit.New(f, &ratelimit.Options{Logger: log.logger()})
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			r := requestOf(t, recordOf("k"))
			r = r.WithContext(mergeValues{ctx, r.Context()})
			if w := serve(l.Middleware(ok), r); w.Header().Get("RateLimit-Remaining") != "77" {
				t.Errorf("the Counter did not decide: %v", w.Header())
			}
			cancel()
		}
		if l.Local() {
			t.Error("clients that left count as an outage")
		}
		log.wants(t, 0, "")
	})
}

// mergeValues is a context with the values of another.
type mergeValues struct {
	context.Context
	values context.Context
}

func (m mergeValues) Value(key any) any { return m.values.Value(key) }

// TestCounterPanics: the request is not accepted, and net/http answers.
func TestCounterPanics(t *testing.T) {
	f := &fake{take: func(context.Context, string, ratelimit.Limit, int) (ratelimit.Usage, error) { panic("broken") }}
	called := false
	h := ratelimit.New(f, nil).Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	defer func() {
		if v, _ := recover().(string); !strings.HasPrefix(v, "broken\n") || !strings.Contains(v, "remote_test.go") {
			t.Errorf("the panic is %.200q, want that of the Counter, with its stack", v)
		}
		if called {
			t.Error("the request is accepted")
		}
	}()
	serve(h, requestOf(t, recordOf("k")))
	t.Error("there is no panic")
}

// TestLocalRefusal: what the Counter refused is refused without asking it, until
// its RetryAfter or for a second, and for the same limit only.
func TestLocalRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		retry := 10 * time.Second
		f := &fake{take: func(_ context.Context, _ string, limit ratelimit.Limit, _ int) (ratelimit.Usage, error) {
			return ratelimit.Usage{Reset: time.Minute, RetryAfter: retry}, nil
		}}
		limit := ratelimit.Limit{Requests: 6}
		l := ratelimit.New(f, &ratelimit.Options{Limit: func(auth.Record) ratelimit.Limit { return limit }})
		h := l.Middleware(ok)
		ask := func(id string) *httptest.ResponseRecorder { return serve(h, requestOf(t, recordOf(id))) }
		for _, c := range []struct {
			what       string
			change     func()
			id         string
			asked      int64
			after      string
			resetAfter string
		}{
			{"first", func() {}, "k", 1, "10", "60"},
			{"again", func() {}, "k", 1, "10", "60"},
			{"another key", func() {}, "other", 2, "10", "60"},
			{"shortly before a second", func() { time.Sleep(time.Second - 1) }, "k", 2, "10", "60"},
			{"after a second", func() { time.Sleep(time.Nanosecond) }, "k", 3, "10", "60"},
			{"half a second later", func() { time.Sleep(time.Second / 2) }, "k", 3, "10", "60"},
			{"another limit", func() { limit.Requests = 7 }, "k", 4, "10", "60"},
			{"again with that", func() { retry = 300 * time.Millisecond }, "k", 4, "10", "60"},
			{"a shorter time", func() { limit.Requests = 8 }, "k", 5, "1", "60"},
			{"before that", func() { time.Sleep(300*time.Millisecond - 1) }, "k", 5, "1", "60"},
			{"after that", func() { time.Sleep(time.Nanosecond) }, "k", 6, "1", "60"},
		} {
			c.change()
			w := ask(c.id)
			if w.Code != 429 {
				t.Errorf("%s: the status is %d, want 429", c.what, w.Code)
			}
			if got := f.calls.Load(); got != c.asked {
				t.Errorf("%s: the Counter was asked %d times, want %d", c.what, got, c.asked)
			}
			if got := w.Header().Get("Retry-After"); got != c.after {
				t.Errorf("%s: Retry-After is %s, want %s", c.what, got, c.after)
			}
			if got := w.Header().Get("RateLimit-Reset"); got != c.resetAfter {
				t.Errorf("%s: Reset is %s, want %s", c.what, got, c.resetAfter)
			}
		}
	})
}

// TestRemoteUsage: Usage asks the Counter while it answers, and is no probe.
func TestRemoteUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newValve()
		l := ratelimit.New(v, &ratelimit.Options{Logger: new(journal).logger()})
		if u, err := l.Usage(t.Context(), recordOf("k")); u.Remaining != 77 || err != nil {
			t.Errorf("Usage returns %+v, %v, want the answer of the Counter", u, err)
		}
		v.fail()
		remote(t, l)
		calls := v.calls.Load()
		time.Sleep(time.Minute)
		if u, err := l.Usage(t.Context(), recordOf("k")); u.Remaining != 120 || err != nil {
			t.Errorf("Usage returns %+v, %v, want what is counted in memory", u, err)
		}
		if got := v.calls.Load(); got != calls {
			t.Error("during an outage, Usage asks the Counter")
		}
	})
}
