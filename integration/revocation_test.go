package integration

import (
	"context"
	crand "crypto/rand"
	"encoding/base64"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth/sqlstore/pgtest"
)

// Two processes on one PostgreSQL, both under load: a key that one of them revokes is refused by the other.
// AUTH_TEST_REVOCATIONS sets how many; 300 is what BENCHMARKS.md shows.
func TestRevocationReachesAnotherProcess(t *testing.T) {
	revocations := 20
	if n, err := strconv.Atoi(os.Getenv("AUTH_TEST_REVOCATIONS")); err == nil {
		revocations = n
	}
	dsn := pgtest.DSN(t)
	a := start(t, dsn, nil, nil)
	other := spawn(t, dsn)
	var busy []string
	for range 50 {
		_, key := a.create(t)
		busy = append(busy, key)
	}

	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var served atomic.Int64
	for _, url := range []string{a.server.URL, other} {
		for range 2 {
			load.Go(func() {
				client := &http.Client{Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				for ctx.Err() == nil {
					key, want := busy[rand.IntN(len(busy))], 200
					if rand.IntN(100) == 0 {
						key, want = madeUp(), 401
					}
					got, err := get(ctx, client, url, key)
					if err == nil && got != want {
						t.Errorf("under load: %d, want %d", got, want)
					}
					served.Add(1)
				}
			})
		}
	}

	poller := &http.Client{Transport: &http.Transport{}}
	defer poller.CloseIdleConnections()
	poll := func(key string) int {
		got, err := get(context.Background(), poller, other, key)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	begin := time.Now()
	var lasted []time.Duration
	for range revocations {
		id, key := a.create(t)
		for range 3 {
			if got := poll(key); got != 200 {
				t.Fatalf("a new key, in the other process: %d", got)
			}
		}
		revoked := make(chan time.Time)
		go func() {
			time.Sleep(rand.N(5 * time.Millisecond))
			if err := a.keys.Revoke(context.Background(), id); err != nil {
				t.Error(err)
			}
			at := time.Now()
			if got := a.status(t, key); got != 401 {
				t.Errorf("in the process that revoked it, after that: %d", got)
			}
			revoked <- at
		}()
		last := time.Now() // when the last 200 came
		for poll(key) == 200 {
			last = time.Now()
		}
		lasted = append(lasted, max(0, last.Sub(<-revoked)))
		for range 3 {
			if got := poll(key); got != 401 {
				t.Errorf("once it was refused: %d", got)
			}
		}
	}
	took := time.Since(begin)
	stop()
	load.Wait()
	slices.Sort(lasted)
	t.Logf("%d revocations, %.0f requests a second meanwhile: the other process's last 200 came "+
		"%v (median), %v (99th percentile), %v (maximum) after Revoke had returned", revocations,
		float64(served.Load())/took.Seconds(), lasted[len(lasted)/2], lasted[len(lasted)*99/100], lasted[len(lasted)-1])
}

func madeUp() string {
	var b [33]byte
	crand.Read(b[:])
	return "isk_" + base64.RawURLEncoding.EncodeToString(b[:])
}
