package cache_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
)

// lookup makes a lookup in a goroutine. The test gets its error.
func lookup(ctx context.Context, s auth.Store, hash auth.Hash) <-chan error {
	result := make(chan error, 1)
	go func() {
		_, err := s.Lookup(ctx, hash)
		result <- err
	}()
	return result
}

// leave cancels requests and waits until their lookups are canceled.
func leave(cancel context.CancelFunc) {
	cancel()
	time.Sleep(time.Minute) // in the bubble of synctest
}

// Requests for one hash share a lookup, also if the request that made it
// leaves.
func TestSharedLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(scripted)
		gate := make(chan struct{})
		store.do(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
			<-gate
			return record(1), ctx.Err()
		})
		s := newCache(t, store, nil)
		ctx, cancel := context.WithCancel(t.Context())
		first := lookup(ctx, s, record(1).Hash)
		synctest.Wait()
		var others []<-chan error
		for range 100 {
			others = append(others, lookup(t.Context(), s, record(1).Hash))
		}
		synctest.Wait()
		cancel()
		if got := <-first; got != context.Canceled {
			t.Errorf("the first request: got error %v, want %v", got, context.Canceled)
		}
		time.Sleep(time.Second)
		close(gate)
		for _, other := range others {
			if got := <-other; got != nil {
				t.Errorf("another request: got error %v, want nil", got)
			}
		}
		if got := store.calls.Load(); got != 1 {
			t.Errorf("got %d lookups in the store for 101 requests, want 1", got)
		}
	})
}

// A lookup has the values of the context of a request, but its own deadline.
func TestContextOfLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		var used context.Context
		store := new(scripted)
		store.do(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
			used = ctx
			if got := ctx.Value(key{}); got != "trace" {
				t.Errorf("got value %v, want trace", got)
			}
			deadline, _ := ctx.Deadline()
			if got := time.Until(deadline); got != 5*time.Second {
				t.Errorf("got a deadline in %v, want LookupTimeout, 5s", got)
			}
			return record(1), nil
		})
		s := newCache(t, store, nil)
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "trace"), time.Second)
		defer cancel()
		if _, err := s.Lookup(ctx, record(1).Hash); err != nil {
			t.Errorf("got error %v, want nil", err)
		}
		synctest.Wait()
		if got := used.Err(); got != context.Canceled {
			t.Errorf("after the lookup: got context error %v, want %v", got, context.Canceled)
		}
	})
}

// A request that is over before it begins costs the store nothing.
func TestCanceledRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{keys: memory(t, record(1))}
		s := newCache(t, store, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Lookup(ctx, record(1).Hash); err != context.Canceled {
			t.Errorf("got error %v, want %v", err, context.Canceled)
		}
		synctest.Wait()
		if got := store.calls.Load(); got != 0 {
			t.Errorf("got %d lookups in the store, want 0", got)
		}
	})
}

// A lookup that no request waits for continues for a quarter of QueueTimeout,
// since a canceled query costs a database the connection.
func TestAbandonedLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var canceled atomic.Int64
		store := &scripted{keys: memory(t, record(1))}
		store.do(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
			defer canceled.Add(1)
			return hang(ctx, hash)
		})
		s := newCache(t, store, &cache.Options{StaleIfError: time.Hour})
		want := func(what string, calls, ended int64) {
			t.Helper()
			synctest.Wait()
			if got := store.calls.Load(); got != calls {
				t.Errorf("%s: got %d lookups in the store, want %d", what, got, calls)
			}
			if got := canceled.Load(); got != ended {
				t.Errorf("%s: got %d lookups canceled, want %d", what, got, ended)
			}
		}
		const grace = 250 * time.Millisecond
		ctx, cancel := context.WithCancel(t.Context())
		for range 10 {
			lookup(ctx, s, record(1).Hash)
		}
		want("all wait", 1, 0)
		cancel()
		time.Sleep(grace - 1)
		want("a nanosecond before the end", 1, 0)

		ctx, cancel = context.WithCancel(t.Context())
		lookup(ctx, s, record(1).Hash)
		want("another request waits for it", 1, 0)
		time.Sleep(grace)
		want("and still waits", 1, 0)
		cancel()
		time.Sleep(grace - 1)
		want("a nanosecond before the end again", 1, 0)
		time.Sleep(time.Nanosecond)
		want("nobody waited", 1, 1)

		// That clients left is no failure of the store.
		store.do(nil)
		check(t, "afterwards", s, store, record(1).Hash, 1, nil)
		check(t, "afterwards, cached", s, store, record(1).Hash, 0, nil)
		time.Sleep(30 * time.Second)
		store.hang()
		ctx, cancel = context.WithCancel(t.Context())
		lookup(ctx, s, record(1).Hash)
		synctest.Wait()
		cancel()
		time.Sleep(grace)
		synctest.Wait()
		store.do(nil)
		check(t, "after another client left", s, store, record(1).Hash, 1, nil)
	})
}

// If the store answers in time, the answer is cached, though the client left.
func TestAnswerAfterClientLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{keys: memory(t, record(1))}
		store.do(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
			time.Sleep(100 * time.Millisecond)
			return store.keys.Lookup(ctx, hash)
		})
		s := newCache(t, store, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if got := <-lookup(ctx, s, record(1).Hash); got != context.DeadlineExceeded {
			t.Errorf("got error %v, want %v", got, context.DeadlineExceeded)
		}
		time.Sleep(100 * time.Millisecond)
		check(t, "the next request", s, store, record(1).Hash, 0, nil)
	})
}

// If the store answers after the lookup was canceled, the answer does not
// count.
func TestAnswerAfterLookupWasCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{keys: memory(t, record(1))}
		store.do(func(context.Context, auth.Hash) (*auth.Record, error) {
			time.Sleep(10 * time.Second)
			return nil, auth.ErrNotFound
		})
		s := newCache(t, store, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		<-lookup(ctx, s, record(1).Hash)
		time.Sleep(time.Second)
		store.do(nil)
		check(t, "during it", s, store, record(1).Hash, 1, nil)
		time.Sleep(10 * time.Second)
		check(t, "after it", s, store, record(1).Hash, 0, nil)
	})
}

func TestLookupTimeout(t *testing.T) {
	for want, opts := range map[time.Duration]*cache.Options{
		5 * time.Second: nil,
		time.Minute:     {LookupTimeout: time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			store := new(scripted)
			store.hang()
			s := newCache(t, store, opts)
			start := time.Now()
			check(t, "a store that does not answer", s, store, record(1).Hash, 1, context.DeadlineExceeded)
			if got := time.Since(start); got != want {
				t.Errorf("got an answer after %v, want %v", got, want)
			}
		})
	}
}

func TestPanicOfStore(t *testing.T) {
	store := &scripted{keys: memory(t, record(1))}
	s := newCache(t, store, &cache.Options{MaxLookups: 1})
	store.do(func(context.Context, auth.Hash) (*auth.Record, error) { panic(http.ErrAbortHandler) })
	func() {
		defer func() {
			if got := recover(); got != http.ErrAbortHandler {
				t.Errorf("got panic %v on the goroutine of the request, want %v", got, http.ErrAbortHandler)
			}
		}()
		decide(s, record(1).Hash)
	}()
	store.do(func(context.Context, auth.Hash) (*auth.Record, error) { runtime.Goexit(); return nil, nil })
	err := decide(s, record(1).Hash)
	if err == nil {
		t.Errorf("a lookup that called Goexit: got no error")
	}
	if errors.Is(err, auth.ErrNotFound) {
		t.Errorf("a lookup that called Goexit: got error %v, want one that means unknown", err)
	}
	store.do(nil)
	check(t, "afterwards", s, store, record(1).Hash, 1, nil)
}

func TestMaxLookups(t *testing.T) {
	for limit, opts := range map[int]*cache.Options{64: nil, 3: {MaxLookups: 3}} {
		synctest.Test(t, func(t *testing.T) {
			store := new(scripted)
			gate := make(chan struct{})
			store.do(func(context.Context, auth.Hash) (*auth.Record, error) {
				<-gate
				return nil, auth.ErrNotFound
			})
			s := newCache(t, store, opts)
			const more = 10
			var results []<-chan error
			for n := range limit + more {
				results = append(results, lookup(t.Context(), s, record(n).Hash))
			}
			for ended := range more {
				synctest.Wait()
				if got, want := store.calls.Load(), int64(limit+ended); got != want {
					t.Errorf("limit %d, %d ended: got %d lookups in the store, want %d", limit, ended, got, want)
				}
				gate <- struct{}{}
			}
			close(gate)
			for _, result := range results {
				if got := <-result; !errors.Is(got, auth.ErrNotFound) {
					t.Errorf("limit %d: got error %v, want %v", limit, got, auth.ErrNotFound)
				}
			}
		})
	}
}

func TestQueueTimeout(t *testing.T) {
	for want, opts := range map[time.Duration]*cache.Options{
		time.Second: {MaxLookups: 1},
		time.Minute: {MaxLookups: 1, QueueTimeout: time.Minute, LookupTimeout: time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			store := &scripted{keys: memory(t, record(1))}
			store.hang()
			s := newCache(t, store, opts)
			ctx, cancel := context.WithCancel(t.Context())
			defer leave(cancel)
			lookup(ctx, s, record(1).Hash)
			synctest.Wait()
			start := time.Now()
			check(t, "a request in the queue", s, store, record(2).Hash, 0, auth.ErrStoreUnavailable)
			if got := time.Since(start); got != want {
				t.Errorf("got an answer after %v, want %v", got, want)
			}
			check(t, "another request in the queue", s, store, record(2).Hash, 0, auth.ErrStoreUnavailable)
		})
	}
}

// QueueTimeout is for the queue, not for the lookup that follows.
func TestQueueTimeoutEndsWithQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{keys: memory(t, record(1), record(2))}
		store.do(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
			time.Sleep(900 * time.Millisecond)
			return store.keys.Lookup(ctx, hash)
		})
		s := newCache(t, store, &cache.Options{MaxLookups: 1})
		first := lookup(t.Context(), s, record(1).Hash)
		synctest.Wait()
		second := lookup(t.Context(), s, record(2).Hash)
		for what, result := range map[string]<-chan error{"first": first, "second": second} {
			if got := <-result; got != nil {
				t.Errorf("%s: got error %v, want nil", what, got)
			}
		}
	})
}

// The queue is served in order. Requests for one hash have one place in it.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(scripted)
		gate := make(chan struct{})
		var mu sync.Mutex
		var order string
		store.do(func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
			mu.Lock()
			order += string(hash[len(hash)-1])
			mu.Unlock()
			<-gate
			return nil, auth.ErrNotFound
		})
		s := newCache(t, store, &cache.Options{MaxLookups: 1})
		var results []<-chan error
		for _, n := range []int{1, 5, 3, 5, 4, 3, 5} {
			results = append(results, lookup(t.Context(), s, record(n).Hash))
			synctest.Wait()
		}
		close(gate)
		for _, result := range results {
			if got := <-result; !errors.Is(got, auth.ErrNotFound) {
				t.Errorf("got error %v, want %v", got, auth.ErrNotFound)
			}
		}
		if want := "1534"; order != want {
			t.Errorf("got lookups in the order %s, want %s", order, want)
		}
	})
}

// A client that disconnects leaves the queue. Others that wait for the same
// hash stay in it.
func TestLeaveQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(scripted)
		gate := make(chan struct{})
		store.do(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
			<-gate
			return record(int(hash[len(hash)-1] - '0')), ctx.Err()
		})
		s := newCache(t, store, &cache.Options{MaxLookups: 1})
		first := lookup(t.Context(), s, record(1).Hash)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		alone := lookup(ctx, s, record(2).Hash)
		shared := lookup(ctx, s, record(3).Hash)
		stays := lookup(t.Context(), s, record(3).Hash)
		synctest.Wait()
		cancel()
		for what, result := range map[string]<-chan error{"alone": alone, "shared": shared} {
			if got := <-result; got != context.Canceled {
				t.Errorf("%s: got error %v, want %v", what, got, context.Canceled)
			}
		}
		close(gate)
		for what, result := range map[string]<-chan error{"first": first, "stays": stays} {
			if got := <-result; got != nil {
				t.Errorf("%s: got error %v, want nil", what, got)
			}
		}
		if got := store.calls.Load(); got != 2 {
			t.Errorf("got %d lookups in the store, want 2", got)
		}
		check(t, "the hash that left", s, store, record(2).Hash, 1, nil)
	})
}

// A lookup that is still in the queue begins after a change, so it is not made
// again.
func TestChangeDuringQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, record(2))
		s := newCache(t, w, &cache.Options{MaxLookups: 1})
		w.report(auth.WatchStarted)
		gate := make(chan struct{})
		w.do(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
			<-gate
			return w.keys.Lookup(ctx, hash)
		})
		lookup(t.Context(), s, record(1).Hash)
		synctest.Wait()
		result := lookup(t.Context(), s, record(2).Hash)
		synctest.Wait()
		w.changed(record(2).Hash)
		close(gate)
		if got := <-result; got != nil {
			t.Errorf("got error %v, want nil", got)
		}
		if got := w.calls.Load(); got != 2 {
			t.Errorf("got %d lookups in the store, want 2", got)
		}
		check(t, "the next request", s, &w.scripted, record(2).Hash, 0, nil)
	})
}

// What a lookup found before a change does not count, even if the lookup had
// been in the queue.
func TestChangeDuringLookupAfterQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, record(2))
		s := newCache(t, w, &cache.Options{MaxLookups: 1})
		w.report(auth.WatchStarted)
		gate := make(chan struct{})
		w.do(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
			r, err := w.keys.Lookup(ctx, hash)
			<-gate
			return r, err
		})
		lookup(t.Context(), s, record(1).Hash)
		synctest.Wait()
		result := make(chan error, 1)
		go func() { result <- decide(s, record(2).Hash) }()
		synctest.Wait()
		gate <- struct{}{}
		synctest.Wait()
		update(t, w.memory, record(2).ID, revoke)
		w.changed(record(2).Hash)
		close(gate)
		if got := <-result; !errors.Is(got, auth.ErrKeyRevoked) {
			t.Errorf("got error %v, want %v", got, auth.ErrKeyRevoked)
		}
	})
}

// A stale record is used if there is no place for a lookup.
func TestStaleIfQueueIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{keys: memory(t, record(1))}
		s := newCache(t, store, &cache.Options{
			TTL:           time.Second,
			StaleIfError:  time.Minute,
			MaxLookups:    1,
			LookupTimeout: time.Hour,
		})
		check(t, "first", s, store, record(1).Hash, 1, nil)
		store.hang()
		ctx, cancel := context.WithCancel(t.Context())
		defer leave(cancel)
		lookup(ctx, s, record(2).Hash)
		time.Sleep(time.Second)
		check(t, "stale", s, store, record(1).Hash, 0, nil)
		time.Sleep(time.Minute)
		check(t, "too old", s, store, record(1).Hash, 0, auth.ErrStoreUnavailable)
	})
}

// A request waits for a store that hangs, or in the queue, for 250 milliseconds
// at most if there is a stale record for it.
func TestStaleIfStoreHangs(t *testing.T) {
	const second = time.Second
	for _, test := range []struct {
		what    string
		opts    cache.Options
		inQueue bool
		want    time.Duration
	}{
		{"by default", cache.Options{}, false, 250 * time.Millisecond},
		{"long LookupTimeout", cache.Options{LookupTimeout: 30 * second}, false, 250 * time.Millisecond},
		{"short LookupTimeout", cache.Options{LookupTimeout: 20 * time.Millisecond}, false, 20 * time.Millisecond},
		{"short QueueTimeout", cache.Options{QueueTimeout: 30 * time.Millisecond}, false, 250 * time.Millisecond},
		{"queue", cache.Options{}, true, 250 * time.Millisecond},
		{"queue, short LookupTimeout", cache.Options{LookupTimeout: 20 * time.Millisecond}, true, 20 * time.Millisecond},
		{"queue, short QueueTimeout", cache.Options{QueueTimeout: 30 * time.Millisecond}, true, 30 * time.Millisecond},
		{"queue, long QueueTimeout", cache.Options{QueueTimeout: time.Hour}, true, 250 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			store := &scripted{keys: memory(t, record(1))}
			test.opts.TTL, test.opts.StaleIfError, test.opts.MaxLookups = second, time.Minute, 1
			s := newCache(t, store, &test.opts)
			check(t, test.what+": first", s, store, record(1).Hash, 1, nil)
			time.Sleep(second)
			store.hang()
			defer leave(func() {})
			calls := int64(1)
			if test.inQueue {
				gate := make(chan struct{})
				defer close(gate)
				store.do(func(context.Context, auth.Hash) (*auth.Record, error) { <-gate; return nil, errDown })
				lookup(t.Context(), s, record(2).Hash)
				synctest.Wait()
				calls = 0
			}
			took := func(what string, calls int64, want time.Duration) {
				t.Helper()
				start := time.Now()
				check(t, test.what+": "+what, s, store, record(1).Hash, calls, nil)
				if got := time.Since(start); got != want {
					t.Errorf("%s: %s: got an answer after %v, want %v", test.what, what, got, want)
				}
			}
			took("stale", calls, test.want)
			took("stale again", 0, 0)
			time.Sleep(second - 1)
			took("a nanosecond before the next attempt", 0, 0)
			store.do(func(context.Context, auth.Hash) (*auth.Record, error) {
				t.Errorf("%s: got a lookup that no request waits for", test.what)
				return nil, errDown
			})
		})
	}
}

// A lookup that took too long for a stale record continues. Later requests do
// not wait for it either, and its answer is kept.
func TestLookupContinuesAfterStaleAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memory(t, record(1))
		store := &scripted{keys: m}
		s := newCache(t, store, &cache.Options{TTL: time.Minute, StaleIfError: time.Minute})
		check(t, "first", s, store, record(1).Hash, 1, nil)
		update(t, m, record(1).ID, revoke)
		time.Sleep(time.Minute)
		store.do(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
			time.Sleep(4 * time.Second)
			r, _ := m.Lookup(ctx, hash)
			return r, ctx.Err()
		})
		start := time.Now()
		check(t, "stale", s, store, record(1).Hash, 1, nil)
		for time.Since(start) < 4*time.Second-10*time.Millisecond {
			before := time.Now()
			check(t, "stale again", s, store, record(1).Hash, 0, nil)
			if got := time.Since(before); got != 0 {
				t.Errorf("stale again: got an answer after %v, want at once", got)
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		check(t, "the answer", s, store, record(1).Hash, 0, auth.ErrKeyRevoked)
	})
}

// While the store hangs, few requests wait, and none for long.
func TestOutageWithStaleRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const keys = 100 // more than MaxLookups
		store := &scripted{keys: memory(t)}
		store.do(func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
			r := record(1)
			r.Hash = hash
			return r, nil
		})
		s := newCache(t, store, &cache.Options{TTL: time.Second, StaleIfError: time.Hour})
		for n := range keys {
			decide(s, record(n).Hash)
		}
		time.Sleep(time.Second)
		store.hang()
		defer leave(func() {})
		var requests, waited atomic.Int64
		var group sync.WaitGroup
		for range 600 { // a minute
			for n := range keys {
				group.Go(func() {
					start := time.Now()
					if got := decide(s, record(n).Hash); got != nil {
						t.Errorf("got error %v, want nil", got)
					}
					requests.Add(1)
					switch got := time.Since(start); {
					case got > 250*time.Millisecond:
						t.Errorf("got an answer after %v, want at most 250ms", got)
					case got > 0:
						waited.Add(1)
					}
				})
			}
			time.Sleep(100 * time.Millisecond)
		}
		group.Wait()
		if got, want := waited.Load(), requests.Load()/4; got > want {
			t.Errorf("%d of %d requests waited, want at most %d", got, requests.Load(), want)
		}
	})
}

// A record that is reported as changed while a request waits is not used.
func TestChangeWhileStoreHangs(t *testing.T) {
	for _, test := range []struct {
		what    string
		inQueue bool
		want    error
	}{{"lookup", false, context.DeadlineExceeded}, {"queue", true, auth.ErrStoreUnavailable}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWatched(t, record(1))
			s := newCache(t, w, &cache.Options{
				TTL:           time.Second,
				StaleIfError:  time.Minute,
				LookupTimeout: 20 * time.Second,
				MaxLookups:    1,
				QueueTimeout:  10 * time.Second,
			})
			w.report(auth.WatchStarted)
			check(t, test.what+": first", s, &w.scripted, record(1).Hash, 1, nil)
			time.Sleep(time.Second)
			w.hang()
			ctx, cancel := context.WithCancel(t.Context())
			defer leave(cancel)
			if test.inQueue {
				lookup(ctx, s, record(2).Hash)
				synctest.Wait()
			}
			result := lookup(t.Context(), s, record(1).Hash)
			time.Sleep(100 * time.Millisecond)
			w.changed(record(1).Hash)
			if got := <-result; !errors.Is(got, test.want) {
				t.Errorf("%s: got error %v, want %v", test.what, got, test.want)
			}
		})
	}
}

// Clients that send a key and disconnect at once, in a loop, keep neither
// goroutines nor places. A key that is known is answered at any time, and
// another one within QueueTimeout.
func TestClientsThatDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{keys: memory(t, record(1), record(2))}
		s := newCache(t, store, nil)
		check(t, "first", s, store, record(1).Hash, 1, nil)
		var running, most atomic.Int64
		store.do(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
			if hash == record(2).Hash {
				return store.keys.Lookup(ctx, hash)
			}
			now := running.Add(1)
			defer running.Add(-1)
			for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
			}
			return hang(ctx, hash)
		})
		goroutines := runtime.NumGoroutine()
		defer leave(func() {})
		for n := range 10_000 {
			ctx, cancel := context.WithCancel(t.Context())
			result := lookup(ctx, s, record(10+n).Hash)
			synctest.Wait()
			cancel()
			<-result
		}
		if got := runtime.NumGoroutine() - goroutines; got > 64+10 {
			t.Errorf("got %d more goroutines, want at most 64, and some of the runtime", got)
		}
		check(t, "a known key", s, store, record(1).Hash, 0, nil)
		check(t, "another key", s, store, record(2).Hash, 1, nil)
		if got := most.Load(); got != 64 {
			t.Errorf("got at most %d lookups in progress, want 64", got)
		}
	})
}

// An HTTP/2 client that opens a stream with a new key and resets it, in a loop,
// keeps neither goroutines nor memory. A key that is known is answered from
// memory at any time.
//
// For one connection, net/http runs MaxConcurrentStreams handlers at most, also
// of streams that were reset. A handler that waits for the cache returns when
// its stream is reset. So only lookups remain.
func TestHTTP2Resets(t *testing.T) {
	const (
		resets     = 4000
		workers    = 8
		streams    = 16 // MaxConcurrentStreams
		maxLookups = 8
		// A worker has two goroutines, and its request one. The client has some
		// for streams that are being reset, and the server one for each
		// handler. A lookup that ends may overlap with the next one. The rest
		// is for two connections, and the request with the known key.
		limit = workers*3 + streams*2 + maxLookups*2 + 16
	)
	good := auth.Scheme{}.NewKey()
	r := record(1)
	r.Hash = auth.Scheme{}.Hashes(good)[0]
	store := &scripted{keys: memory(t, r)}
	s := newCache(t, store, &cache.Options{MaxLookups: maxLookups, TTL: time.Hour})
	handler := auth.New(s, &auth.Options{Logger: slog.New(slog.DiscardHandler)}).Require("documents.read")(
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	arrived := make(map[string]chan struct{}) // by path; one for each worker
	for n := range workers {
		arrived[fmt.Sprint("/", n)] = make(chan struct{}, 1)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case arrived[r.URL.Path] <- struct{}{}:
		default:
		}
		handler.ServeHTTP(w, r)
	}))
	server.EnableHTTP2 = true
	server.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
	server.StartTLS()
	defer server.Close()

	// newClient returns a function that sends a request and returns its status.
	// It has a connection of its own.
	type client = func(ctx context.Context, path string, key auth.Key) (int, error)
	newClient := func() client {
		transport := server.Client().Transport.(*http.Transport).Clone()
		transport.HTTP2 = &http.HTTP2Config{StrictMaxConcurrentRequests: true}
		t.Cleanup(transport.CloseIdleConnections)
		return func(ctx context.Context, path string, key auth.Key) (int, error) {
			request, err := http.NewRequestWithContext(ctx, "GET", server.URL+path, nil)
			if err != nil {
				return 0, err
			}
			request.Header.Set("Authorization", "Bearer "+key.Reveal())
			response, err := transport.RoundTrip(request)
			if err != nil {
				return 0, err
			}
			response.Body.Close()
			if response.ProtoMajor != 2 {
				return 0, errors.New("not HTTP/2: " + response.Proto)
			}
			return response.StatusCode, nil
		}
	}
	attacker, known := newClient(), newClient()
	accepted := func(what string, c client) {
		t.Helper()
		status, err := c(t.Context(), "/", good)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if status != http.StatusOK {
			t.Fatalf("%s: got status %d, want %d", what, status, http.StatusOK)
		}
	}
	accepted("the client that will reset its streams", attacker)
	accepted("another client", known)
	store.do(hang)
	heap, _ := memoryInUse()
	before := runtime.NumGoroutine()
	most := 0

	var left atomic.Int64
	left.Store(resets)
	var group sync.WaitGroup
	for n := range workers {
		group.Go(func() {
			path := fmt.Sprint("/", n)
			for left.Add(-1) >= 0 {
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					attacker(ctx, path, auth.Scheme{}.NewKey())
					close(done)
				}()
				select {
				case <-arrived[path]:
				case <-done:
				}
				cancel()
				<-done
			}
		})
	}
	over := make(chan struct{})
	go func() { group.Wait(); close(over) }()
	for running := true; running; {
		select {
		case <-over:
			running = false
		default:
			most = max(most, runtime.NumGoroutine()-before)
			accepted("the known key", known)
		}
	}
	if most > limit {
		t.Errorf("got %d more goroutines, want at most %d", most, limit)
	}
	heapAfter, _ := memoryInUse()
	if got := heapAfter - heap; got > 8 {
		t.Errorf("the heap grew by %.1f MiB, want at most 8", got)
	}
	accepted("the known key, from the other client", attacker)
	t.Logf("%d resets: at most %d more goroutines, the heap grew by %.1f MiB", resets, most, heapAfter-heap)
}
