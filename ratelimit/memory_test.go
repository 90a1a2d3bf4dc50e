package ratelimit_test

import (
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/ratelimit"
)

// heap returns the bytes that are in use after a collection.
func heap() int {
	runtime.GC()
	runtime.GC() // empties what a sync.Pool keeps
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// keyed returns a function that sends a request of one key through a Limiter.
func keyed(t testing.TB, limit ratelimit.Limit) func(key string) (status int) {
	t.Helper()
	var key string
	h := ratelimit.New(nil, &ratelimit.Options{
		Limit: func(auth.Record) ratelimit.Limit { return limit },
		Key:   func(auth.Record) string { return key },
	}).Middleware(ok)
	r := requestOf(t, recordOf("k"))
	w := &blank{header: make(http.Header)}
	return func(k string) int {
		key, w.status = k, 0
		clear(w.header)
		h.ServeHTTP(w, r)
		return w.status
	}
}

// A blank is a ResponseWriter that costs little.
type blank struct {
	header http.Header
	status int
}

func (b *blank) Header() http.Header         { return b.header }
func (b *blank) Write(p []byte) (int, error) { return len(p), nil }
func (b *blank) WriteHeader(status int)      { b.status = status }

// TestMemory: each key costs a bounded number of bytes, and nothing once its
// budget is full again: at the next request, or during the next few if other
// keys are in use.
func TestMemory(t *testing.T) {
	const keys = 130_000
	synctest.Test(t, func(t *testing.T) {
		send := keyed(t, ratelimit.Limit{})
		send("first")
		before := heap()
		for i := range keys {
			send(strconv.Itoa(i))
		}
		full := heap() - before
		t.Logf("%d keys: %d bytes each", keys, full/keys)
		if full/keys > 40 {
			t.Errorf("%d keys need %d bytes each, want at most 40", keys, full/keys)
		}
		time.Sleep(time.Minute)
		send("one request")
		if got := heap() - before; got > full/50 {
			t.Errorf("a minute and one request later, %d of %d bytes are in use", got, full)
		}

		// Some keys stay in use.
		for i := range keys {
			send(strconv.Itoa(i))
		}
		for range 8 {
			time.Sleep(10 * time.Second)
			for i := range keys / 100 {
				send(strconv.Itoa(i))
			}
		}
		if got := heap() - before; got > full/10 {
			t.Errorf("with one key of a hundred in use, %d of %d bytes are in use", got, full)
		}
		runtime.KeepAlive(send)
	})
}

// TestMemoryKeepsLongPeriods: a budget is kept until it is full.
func TestMemoryKeepsLongPeriods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		send := keyed(t, ratelimit.Limit{Requests: 2, Period: 2 * day})
		send("k")
		send("k")
		for range 23 {
			time.Sleep(time.Hour)
			for i := range 3000 {
				send(strconv.Itoa(i)) // sweeps
			}
			if got := send("k"); got != 429 {
				t.Fatalf("the status is %d, want 429", got)
			}
		}
		time.Sleep(time.Hour)
		if got := send("k"); got != 200 {
			t.Errorf("after a day, the status is %d, want 200", got)
		}
	})
}

// TestConcurrent: one key, many goroutines, exactly its limit. Other keys lose
// nothing.
func TestConcurrent(t *testing.T) {
	l := ratelimit.New(nil, limited(120, day))
	var mu sync.Mutex
	statuses := make(map[string]int)
	var wg sync.WaitGroup
	for g := range 50 {
		wg.Go(func() {
			for range 100 {
				hot, own := call(t, l, recordOf("hot")).Code, call(t, l, recordOf(strconv.Itoa(g))).Code
				mu.Lock()
				statuses["hot "+strconv.Itoa(hot)]++
				statuses["own "+strconv.Itoa(own)]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for what, want := range map[string]int{"hot 200": 120, "hot 429": 4880, "own 200": 5000} {
		if got := statuses[what]; got != want {
			t.Errorf("%s: %d answers, want %d", what, got, want)
		}
	}
}

// TestManyLimits: each key may have a limit of its own.
func TestManyLimits(t *testing.T) {
	limit := ratelimit.Limit{Period: day}
	l := ratelimit.New(nil, &ratelimit.Options{Limit: func(auth.Record) ratelimit.Limit { return limit }})
	for i := range 10_000 {
		limit.Requests = i + 1
		w := call(t, l, recordOf(strconv.Itoa(i)))
		if got := number(t, w.Header(), "RateLimit-Remaining"); got != i {
			t.Fatalf("limit %d: %d remain, want %d", i+1, got, i)
		}
	}
}

// TestAllocations: a decision in memory costs one allocation at most, with any
// limit, and with functions for plans and owners.
func TestAllocations(t *testing.T) {
	store := storeOf(auth.Record{ID: "k", Chain: "k", Owner: "org_1", Scopes: auth.Scopes{"a.b", "c.d"},
		Metadata: map[string]string{"plan": "pro"}})
	a := auth.New(store, nil)
	r := store.request()
	measure := func(h http.Handler) float64 {
		h = a.Middleware(h)
		return testing.AllocsPerRun(2000, func() { h.ServeHTTP(&blank{header: make(http.Header)}, r) })
	}
	without := measure(ok)
	for name, opts := range map[string]*ratelimit.Options{
		"one limit": limited(100_000, time.Second),
		"plans": {
			Limit: func(r auth.Record) ratelimit.Limit {
				return map[string]ratelimit.Limit{"pro": {Requests: 1e6}}[r.Metadata["plan"]]
			},
			Key: func(r auth.Record) string { return r.Owner },
		},
		"unlimited": limited(ratelimit.Unlimited, 0),
	} {
		if got := measure(ratelimit.New(nil, opts).Middleware(ok)) - without; got > 1 {
			t.Errorf("%s: %v allocations more, want at most 1", name, got)
		}
	}
}
