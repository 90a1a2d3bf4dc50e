package ratelimit_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
	"github.com/throttled/throttled/v2"

	"github.com/insigner/auth"
	"github.com/insigner/auth/internal/redistest"
	"github.com/insigner/auth/ratelimit"
)

const high = 1_000_000_000 // requests a minute, so that none is refused

// inTurns runs things that are compared, in turns of n calls each, in an order
// that changes, and reports the fastest turn of each. A turn counts if valid
// returns true after it.
func inTurns(b *testing.B, n int, names []string, things []func(n int), valid func() bool) {
	b.Helper()
	fastest := make([]time.Duration, len(things))
	order := rand.Perm(len(things))
	for b.Loop() {
		for _, i := range order {
			start := time.Now()
			things[i](n)
			if d := time.Since(start); valid() && (fastest[i] == 0 || d < fastest[i]) {
				fastest[i] = d
			}
		}
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	b.ReportMetric(0, "ns/op")
	for i, name := range names {
		b.ReportMetric(float64(fastest[i].Nanoseconds())/float64(n), name+"-ns")
	}
}

// BenchmarkMemory compares a route with and without a Limiter, and what the
// Limiter adds with the library alone, over a simple store.
func BenchmarkMemory(b *testing.B) {
	for _, keys := range []int{16, 100_000} {
		for _, goroutines := range []int{1, 16} {
			b.Run(fmt.Sprintf("keys=%d/goroutines=%d", keys, goroutines), func(b *testing.B) {
				var names []string
				for range keys {
					names = append(names, fmt.Sprintf("01a20ba9-4beb-8a52-8f60-%012d", len(names)))
				}
				rand.Shuffle(keys, func(i, j int) { names[i], names[j] = names[j], names[i] })
				store := storeOf(auth.Record{ID: "k", Chain: "k", Owner: "org_1", Scopes: auth.Scopes{"a.b"}})
				a := auth.New(store, nil)
				var next atomic.Int64
				l := ratelimit.New(nil, &ratelimit.Options{
					Limit: func(auth.Record) ratelimit.Limit { return ratelimit.Limit{Requests: 999, Period: 1} }, // a million a second each
					Key:   func(auth.Record) string { return names[int(next.Add(1))%keys] },
				})
				r := store.request()
				handler := func(h http.Handler) func(n int) {
					h = a.Middleware(h)
					return func(n int) {
						w := &blank{header: make(http.Header)}
						for range n {
							clear(w.header)
							if h.ServeHTTP(w, r); w.status != 200 {
								b.Errorf("the status is %d", w.status)
							}
						}
					}
				}
				gcra, err := throttled.NewGCRARateLimiterCtx(&simple{budgets: make(map[string]int64)},
					throttled.RateQuota{MaxRate: throttled.PerDuration(1, time.Microsecond), MaxBurst: high - 1})
				if err != nil {
					b.Fatal(err)
				}
				gcra.SetMaxCASAttemptsLimit(1000)
				library := func(n int) {
					for range n {
						if _, _, err := gcra.RateLimitCtx(context.Background(), names[int(next.Add(1))%keys], 1); err != nil {
							b.Error(err)
						}
					}
				}
				spread := func(f func(n int)) func(n int) {
					return func(n int) {
						var wg sync.WaitGroup
						for range goroutines {
							wg.Go(func() { f(n / goroutines) })
						}
						wg.Wait()
					}
				}
				things := []func(int){spread(handler(ok)), spread(handler(l.Middleware(ok))), spread(library)}
				for _, thing := range things[1:] { // all keys are there
					thing(keys)
				}
				inTurns(b, 8000, []string{"without", "with", "library"}, things, func() bool { return true })
			})
		}
	}
}

// A simple is the least store that throttled needs.
type simple struct {
	mu      sync.Mutex
	budgets map[string]int64
}

func (s *simple) GetWithTime(_ context.Context, key string) (int64, time.Time, error) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	full, known := s.budgets[key]
	if !known {
		full = -1
	}
	return full, now, nil
}

func (s *simple) SetIfNotExistsWithTTL(_ context.Context, key string, full int64, _ time.Duration) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.budgets[key]; known {
		return false, nil
	}
	s.budgets[key] = full
	return true, nil
}

func (s *simple) CompareAndSwapWithTTL(_ context.Context, key string, old, full int64, _ time.Duration) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.budgets[key] != old {
		return false, nil
	}
	s.budgets[key] = full
	return true, nil
}

// BenchmarkRefused is what a request beyond the limit costs.
func BenchmarkRefused(b *testing.B) {
	store := storeOf(recordOf("k"))
	h := auth.New(store, nil).Middleware(ratelimit.New(nil, limited(1, day)).Middleware(ok))
	r := store.request()
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(&blank{header: make(http.Header)}, r)
	}
}

// BenchmarkRedis compares decisions by one Redis with the library alone, for 50
// goroutines and 10,000 keys. The numbers are per decision, of all goroutines
// together.
func BenchmarkRedis(b *testing.B) {
	const goroutines, keys = 50, 10_000
	s := redistest.Start(b)
	client := redis.NewClient(&redis.Options{Addr: s.Addr(), PoolSize: goroutines})
	defer client.Close()
	log := new(journal)
	l := ratelimit.New(ratelimit.NewRedis(client, nil), &ratelimit.Options{
		Limit:  func(auth.Record) ratelimit.Limit { return ratelimit.Limit{Requests: high} },
		Key:    func(auth.Record) string { return strconv.Itoa(rand.IntN(keys)) },
		Logger: log.logger(),
	})
	store := storeOf(recordOf("k"))
	h := auth.New(store, nil).Middleware(l.Middleware(ok))
	r := store.request()
	spread := func(f func()) func(n int) {
		return func(n int) {
			var wg sync.WaitGroup
			for range goroutines {
				wg.Go(func() {
					for range n / goroutines {
						f()
					}
				})
			}
			wg.Wait()
		}
	}
	rate := redis_rate.NewLimiter(client)
	outages := 0
	inTurns(b, 10_000, []string{"limiter", "library"}, []func(int){
		spread(func() { h.ServeHTTP(&blank{header: make(http.Header)}, r) }),
		spread(func() {
			if _, err := rate.Allow(context.Background(), strconv.Itoa(rand.IntN(keys)), redis_rate.PerMinute(high)); err != nil {
				b.Error(err)
			}
		}),
	}, func() bool { // without a decision in memory
		last := outages
		outages = len(log.lines("fails"))
		return outages == last && !l.Local()
	})
	b.ReportMetric(float64(outages), "outages")
}

// BenchmarkFrozen is how long requests wait with a Redis that hangs, 100 of them
// at a time for three seconds.
func BenchmarkFrozen(b *testing.B) {
	for b.Loop() {
		s := redistest.Start(b)
		client := redis.NewClient(&redis.Options{Addr: s.Addr()})
		opts := limited(high, time.Minute)
		opts.Logger = new(journal).logger()
		l := ratelimit.New(ratelimit.NewRedis(client, nil), opts)
		h := l.Middleware(ok)
		r := requestOf(b, recordOf("k"))
		serve(h, r)
		s.Freeze()
		waits := latencies(100, 3*time.Second, time.Millisecond, func() { serve(h, r) })
		s.Thaw()
		client.Close()
		n, _ := slices.BinarySearch(waits, 40*time.Millisecond)
		b.ReportMetric(float64(len(waits)), "requests")
		b.ReportMetric(float64(len(waits)-n), "waited-40ms")
		b.ReportMetric(waits[len(waits)-1].Seconds()*1e3, "max-ms")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkNeighbors is how long requests of other keys take, with and without
// one key at 100 times its limit.
func BenchmarkNeighbors(b *testing.B) {
	for _, loud := range []bool{false, true} {
		b.Run(fmt.Sprintf("loud=%v", loud), func(b *testing.B) {
			for b.Loop() {
				h := ratelimit.New(nil, nil).Middleware(ok)
				stop := make(chan struct{})
				var wg sync.WaitGroup
				if loud {
					r := requestOf(b, recordOf("loud"))
					tick := time.NewTicker(5 * time.Millisecond) // 200 a second, 100 times the rate
					defer tick.Stop()
					wg.Go(func() {
						for {
							select {
							case <-tick.C:
								serve(h, r)
							case <-stop:
								return
							}
						}
					})
				}
				var n atomic.Int64
				waits := latencies(4, 2*time.Second, time.Millisecond, func() {
					if w := serve(h, requestOf(b, recordOf(strconv.Itoa(int(n.Add(1)%1000))))); w.Code != 200 {
						b.Errorf("another key is answered with %d", w.Code)
					}
				})
				close(stop)
				wg.Wait()
				report(b, waits)
			}
		})
	}
}

// BenchmarkFlood is how long requests take while a million keys are used for the
// first time, and while they are swept.
func BenchmarkFlood(b *testing.B) {
	const keys = 1_000_000
	for b.Loop() {
		send := keyed(b, ratelimit.Limit{Requests: 120, Period: 10 * time.Second})
		var waits []time.Duration
		for i := range 4 * keys {
			start := time.Now()
			send(strconv.Itoa(i % keys))
			waits = append(waits, time.Since(start))
		}
		slices.Sort(waits)
		report(b, waits)
	}
}

// latencies calls f from many goroutines, with pauses, and returns how long the
// calls took, the shortest first.
func latencies(goroutines int, long, pause time.Duration, f func()) (list []time.Duration) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	begin := time.Now()
	for range goroutines {
		wg.Go(func() {
			for time.Since(begin) < long {
				start := time.Now()
				f()
				d := time.Since(start)
				mu.Lock()
				list = append(list, d)
				mu.Unlock()
				time.Sleep(pause)
			}
		})
	}
	wg.Wait()
	slices.Sort(list)
	return list
}

func report(b *testing.B, waits []time.Duration) {
	b.Helper()
	for name, at := range map[string]float64{"p50": 0.5, "p99": 0.99, "max": 1} {
		b.ReportMetric(float64(waits[int(at*float64(len(waits)-1))].Microseconds()), name+"-µs")
	}
	b.ReportMetric(0, "ns/op")
}
