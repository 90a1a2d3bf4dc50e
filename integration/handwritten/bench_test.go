package handwritten_test

import (
	"fmt"
	"math"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"
)

var pairs = map[int]func() *pair{
	10_000:    sync.OnceValue(func() *pair { return newPair(10_000) }),
	1_000_000: sync.OnceValue(func() *pair { return newPair(1_000_000) }),
}

// each runs f for each outcome, number of keys and number of goroutines.
func each(b *testing.B, f func(b *testing.B, p *pair, requests []*http.Request, goroutines int)) {
	for _, outcome := range outcomes {
		for _, keys := range []int{10_000, 1_000_000} {
			for _, goroutines := range []int{1, 8 * runtime.GOMAXPROCS(0)} {
				b.Run(fmt.Sprintf("%s/keys=%d/goroutines=%d", outcome, keys, goroutines), func(b *testing.B) {
					p := pairs[keys]()
					f(b, p, p.requests[outcome], goroutines)
				})
			}
		}
	}
}

// serve sends n requests to h from each of the goroutines, and returns how many
// nanoseconds one request took.
func serve(h http.Handler, requests []*http.Request, goroutines, from, n int) float64 {
	one := func(from int) {
		w := nullWriter{make(http.Header)}
		for i := from; i < from+n; i++ {
			clear(w.header)
			h.ServeHTTP(w, requests[i%len(requests)])
		}
	}
	start := time.Now()
	if goroutines == 1 {
		one(from)
	} else {
		var group sync.WaitGroup
		for g := range goroutines {
			group.Go(func() { one(from + g*977) })
		}
		group.Wait()
	}
	return float64(time.Since(start)) / float64(n*goroutines)
}

// BenchmarkRequest measures package auth and the handler written by hand, for
// benchstat.
func BenchmarkRequest(b *testing.B) {
	each(b, func(b *testing.B, p *pair, requests []*http.Request, goroutines int) {
		for i, name := range []string{"auth", "hand"} {
			b.Run("impl="+name, func(b *testing.B) {
				b.ReportAllocs()
				serve([]http.Handler{p.auth, p.hand}[i], requests, goroutines, 0, b.N/goroutines+1)
			})
		}
	})
}

// BenchmarkHandwritten measures both in short turns, in an order that changes, and
// reports the fastest turn of each. Other work of the machine slows down some
// turns, but not all.
func BenchmarkHandwritten(b *testing.B) {
	each(b, func(b *testing.B, p *pair, requests []*http.Request, goroutines int) {
		const n = 400 // for each goroutine
		fastest := [2]float64{math.Inf(1), math.Inf(1)}
		for turn := 0; b.Loop(); turn++ {
			for i := range 2 {
				which := (turn + i) % 2
				took := serve([]http.Handler{p.auth, p.hand}[which], requests, goroutines, turn*n, n)
				fastest[which] = min(fastest[which], took)
			}
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(fastest[0], "auth-ns")
		b.ReportMetric(fastest[1], "hand-ns")
		b.ReportMetric(fastest[0]/fastest[1], "ratio")
	})
}

type nullWriter struct{ header http.Header }

func (w nullWriter) Header() http.Header         { return w.header }
func (w nullWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w nullWriter) WriteHeader(int)             {}
