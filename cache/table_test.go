package cache_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
)

func TestTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{keys: memory(t, record(1))}
		s := newCache(t, store, &cache.Options{TTL: 64 * time.Second, UnknownTTL: 3 * time.Second})
		known, unknown := record(1).Hash, record(2).Hash
		check(t, "known, first", s, store, known, 1, nil)
		check(t, "unknown, first", s, store, unknown, 1, auth.ErrNotFound)
		time.Sleep(3*time.Second - 1)
		check(t, "unknown, a nanosecond before UnknownTTL", s, store, unknown, 0, auth.ErrNotFound)
		time.Sleep(time.Nanosecond)
		check(t, "unknown, after UnknownTTL", s, store, unknown, 1, auth.ErrNotFound)
		time.Sleep(59 * time.Second) // 62 since the first lookup
		check(t, "known, 1/32 of the TTL before its end", s, store, known, 0, nil)
		time.Sleep(2 * time.Second)
		check(t, "known, after TTL", s, store, known, 1, nil)
		check(t, "known, read again", s, store, known, 0, nil)
	})
}

func TestDefaultTTL(t *testing.T) {
	for _, test := range []struct {
		what  string
		watch bool
		ttl   time.Duration
	}{{"not watched", false, 30 * time.Second}, {"watched", true, 5 * time.Minute}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWatched(t, record(1))
			var store auth.Store = &w.scripted
			if test.watch {
				store = w
			}
			s := newCache(t, store, nil)
			if test.watch {
				w.report(auth.WatchStarted)
			}
			check(t, test.what+", first", s, &w.scripted, record(1).Hash, 1, nil)
			time.Sleep(test.ttl - test.ttl/32)
			check(t, test.what+", before TTL", s, &w.scripted, record(1).Hash, 0, nil)
			time.Sleep(test.ttl / 32)
			check(t, test.what+", after TTL", s, &w.scripted, record(1).Hash, 1, nil)
			check(t, test.what+", unknown", s, &w.scripted, record(2).Hash, 1, auth.ErrNotFound)
			time.Sleep(5*time.Second - 1)
			check(t, test.what+", unknown, before UnknownTTL", s, &w.scripted, record(2).Hash, 0, auth.ErrNotFound)
			time.Sleep(time.Nanosecond)
			check(t, test.what+", unknown, after UnknownTTL", s, &w.scripted, record(2).Hash, 1, auth.ErrNotFound)
		})
	}
}

// The store may have read at once and answered late, so the TTL begins when it
// is asked.
func TestTTLBeginsWhenStoreIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{keys: memory(t, record(1))}
		store.do(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
			defer time.Sleep(2 * time.Second)
			return store.keys.Lookup(ctx, hash)
		})
		s := newCache(t, store, &cache.Options{TTL: 3 * time.Second, UnknownTTL: 3 * time.Second})
		check(t, "known, first", s, store, record(1).Hash, 1, nil)
		time.Sleep(time.Second)
		check(t, "known, TTL after it was asked", s, store, record(1).Hash, 1, nil)
		check(t, "unknown, first", s, store, record(2).Hash, 1, auth.ErrNotFound)
		time.Sleep(time.Second)
		check(t, "unknown, UnknownTTL after it was asked", s, store, record(2).Hash, 1, auth.ErrNotFound)
	})
}

func TestErrorsAreNotCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{keys: memory(t, record(1))}
		s := newCache(t, store, &cache.Options{TTL: time.Minute})
		store.fail()
		for range 3 {
			check(t, "down", s, store, record(1).Hash, 1, errDown)
		}
		store.do(nil)
		check(t, "up", s, store, record(1).Hash, 1, nil)
		store.fail()
		time.Sleep(time.Minute - 1) // the record is used for up to 1/64 less
		for range 3 {
			check(t, "down again, without StaleIfError", s, store, record(1).Hash, 1, errDown)
		}
		store.do(nil)
		check(t, "up again", s, store, record(1).Hash, 1, nil)
		check(t, "up again, cached", s, store, record(1).Hash, 0, nil)
	})
}

// A deleted record is not used when the store fails later.
func TestDeletedRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{keys: memory(t, record(1))}
		s := newCache(t, store, &cache.Options{TTL: time.Second, StaleIfError: time.Hour})
		check(t, "first", s, store, record(1).Hash, 1, nil)
		store.do(memory(t).Lookup)
		time.Sleep(time.Second)
		check(t, "deleted", s, store, record(1).Hash, 1, auth.ErrNotFound)
		check(t, "deleted, cached", s, store, record(1).Hash, 0, auth.ErrNotFound)
		store.fail()
		time.Sleep(5 * time.Second)
		check(t, "deleted, and down", s, store, record(1).Hash, 1, errDown)
	})
}

// An error that wraps ErrNotFound means the same.
func TestWrappedNotFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{keys: memory(t, record(1))}
		s := newCache(t, store, &cache.Options{TTL: time.Second, StaleIfError: time.Hour})
		check(t, "first", s, store, record(1).Hash, 1, nil)
		store.do(func(context.Context, auth.Hash) (*auth.Record, error) {
			return nil, fmt.Errorf("table: %w", auth.ErrNotFound)
		})
		time.Sleep(time.Second)
		for what, hash := range map[string]auth.Hash{"deleted": record(1).Hash, "never there": record(2).Hash} {
			check(t, what, s, store, hash, 1, auth.ErrNotFound)
			check(t, what+", cached", s, store, hash, 0, auth.ErrNotFound)
		}
	})
}

func TestStaleIfError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		revoked, expiring := record(2), record(3)
		revoked.RevokedAt = time.Now()
		expiring.ExpiresAt = time.Now().Add(70 * time.Second)
		store := &scripted{keys: memory(t, record(1), revoked, expiring)}
		s := newCache(t, store, &cache.Options{TTL: time.Minute, StaleIfError: time.Minute})
		check(t, "first", s, store, record(1).Hash, 1, nil)
		check(t, "revoked", s, store, revoked.Hash, 1, auth.ErrKeyRevoked)
		check(t, "expiring", s, store, expiring.Hash, 1, nil)

		store.fail()
		time.Sleep(time.Minute)
		check(t, "stale", s, store, record(1).Hash, 1, nil)
		check(t, "stale, revoked", s, store, revoked.Hash, 1, auth.ErrKeyRevoked)
		check(t, "never read", s, store, record(9).Hash, 1, errDown)
		time.Sleep(time.Second - 1)
		check(t, "stale, within a second of the failure", s, store, record(1).Hash, 0, nil)
		time.Sleep(time.Nanosecond)
		check(t, "stale, a second after the failure", s, store, record(1).Hash, 1, nil)
		time.Sleep(10 * time.Second)
		check(t, "stale, expired", s, store, expiring.Hash, 1, auth.ErrKeyExpired)

		store.do(nil)
		check(t, "up again", s, store, record(1).Hash, 1, nil)
		check(t, "up again, cached", s, store, record(1).Hash, 0, nil)

		store.fail()
		time.Sleep(2*time.Minute - 500*time.Millisecond)
		check(t, "half a second before StaleIfError ends", s, store, record(1).Hash, 1, nil)
		time.Sleep(500*time.Millisecond - 1)
		check(t, "a nanosecond before StaleIfError ends", s, store, record(1).Hash, 0, nil)
		time.Sleep(time.Nanosecond)
		check(t, "after StaleIfError", s, store, record(1).Hash, 1, errDown)
	})
}

// A record that was reported as changed is not used, of any kind.
func TestStaleIfErrorAfterChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		revoked := record(3)
		revoked.RevokedAt = time.Now()
		w := newWatched(t, record(1), record(2), revoked)
		s := newCache(t, w, &cache.Options{StaleIfError: time.Hour})
		w.report(auth.WatchStarted)
		check(t, "first", s, &w.scripted, record(1).Hash, 1, nil)
		check(t, "second", s, &w.scripted, record(2).Hash, 1, nil)
		check(t, "revoked", s, &w.scripted, revoked.Hash, 1, auth.ErrKeyRevoked)
		w.fail()
		w.changed(record(1).Hash)
		w.changed(revoked.Hash)
		check(t, "changed", s, &w.scripted, record(1).Hash, 1, errDown)
		check(t, "revoked, changed", s, &w.scripted, revoked.Hash, 1, errDown)
		check(t, "not changed", s, &w.scripted, record(2).Hash, 0, nil)
		w.report(auth.WatchLost)
		check(t, "watch lost", s, &w.scripted, record(2).Hash, 1, nil)
		check(t, "watch lost, within a second", s, &w.scripted, record(2).Hash, 0, nil)
		w.changed(record(2).Hash) // through this very store
		check(t, "changed while watch lost", s, &w.scripted, record(2).Hash, 1, errDown)
	})
}

// That the store failed before the watch started again, or was lost again, does
// not count afterwards.
func TestStaleIfErrorAfterWatchStarted(t *testing.T) {
	for _, kinds := range [][]auth.ChangeKind{{auth.WatchStarted}, {auth.WatchStarted, auth.WatchLost}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWatched(t, record(1))
			s := newCache(t, w, &cache.Options{StaleIfError: time.Hour})
			w.report(auth.WatchStarted)
			check(t, "first", s, &w.scripted, record(1).Hash, 1, nil)
			w.report(auth.WatchLost)
			w.fail()
			check(t, "down", s, &w.scripted, record(1).Hash, 1, nil)
			check(t, "down, within a second", s, &w.scripted, record(1).Hash, 0, nil)
			update(t, w.memory, record(1).ID, revoke) // no report
			w.do(nil)
			for _, kind := range kinds {
				w.report(kind)
			}
			check(t, fmt.Sprint("after ", kinds), s, &w.scripted, record(1).Hash, 1, auth.ErrKeyRevoked)
		})
	}
}

// A request that waited too long while the watch started again says nothing
// about the store afterwards.
func TestStaleIfErrorWhileWatchStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, record(1))
		s := newCache(t, w, &cache.Options{StaleIfError: time.Hour})
		w.report(auth.WatchStarted)
		check(t, "first", s, &w.scripted, record(1).Hash, 1, nil)
		w.report(auth.WatchLost)
		w.hang()
		defer leave(func() {})
		result := lookup(t.Context(), s, record(1).Hash)
		time.Sleep(100 * time.Millisecond)
		update(t, w.memory, record(1).ID, revoke) // no report
		w.report(auth.WatchStarted)
		if got := <-result; got != nil {
			t.Errorf("a request that waited: got error %v, want nil", got)
		}
		w.do(nil)
		check(t, "the next request", s, &w.scripted, record(1).Hash, 1, auth.ErrKeyRevoked)
	})
}

func TestMaxKeysAndMaxUnknown(t *testing.T) {
	for what, first := range map[string]int{"MaxKeys": 0, "MaxUnknown": 10_000} {
		synctest.Test(t, func(t *testing.T) {
			w := newWatched(t)
			for n := range 1000 {
				w.memory.Insert(t.Context(), record(n))
			}
			s := newCache(t, w, &cache.Options{MaxKeys: 100, MaxUnknown: 100})
			w.report(auth.WatchStarted)
			for range 2 {
				for n := range 1000 {
					decide(s, record(first+n).Hash)
				}
			}
			synctest.Wait() // for evictions in the background
			before := w.calls.Load()
			for n := range 1000 {
				decide(s, record(first+n).Hash)
			}
			if got := w.calls.Load() - before; got < 900 {
				t.Errorf("%s is 100: got %d lookups in the store for 1000 hashes, want at least 900", what, got)
			}
		})
	}
}

// A flood of made-up keys evicts no record, and takes no more memory than
// MaxUnknown permits. AUTH_TEST_FLOOD sets the number of keys; the figures in
// BENCHMARKS.md are for 10000000.
func TestFlood(t *testing.T) {
	flood, good := 50_000, 10_000
	if n, err := strconv.Atoi(os.Getenv("AUTH_TEST_FLOOD")); err == nil {
		flood = n
	}
	w := newWatched(t)
	hashes := make([]auth.Hash, good)
	for n := range hashes {
		r := record(n)
		hashes[n] = r.Hash
		if err := w.memory.Insert(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	s := newCache(t, w, nil)
	w.report(auth.WatchStarted)
	for _, hash := range hashes {
		decide(s, hash)
	}
	heap, resident := memoryInUse()
	before := w.calls.Load()
	for n := range flood {
		var hash auth.Hash
		binary.LittleEndian.PutUint64(hash[8:], uint64(n)+1<<40)
		rand.Read(hash[16:])
		decide(s, hash)
		if n%10 == 9 {
			if got := decide(s, hashes[n/10%good]); got != nil {
				t.Fatalf("a good key: got error %v, want nil", got)
			}
		}
	}
	missed := w.calls.Load() - before - int64(flood)
	if missed != 0 {
		t.Errorf("got %d lookups in the store for good keys, want 0", missed)
	}

	// MaxUnknown times what the package doc says that one takes, and what the
	// heap itself needs. The cache evicts in the background.
	const limit = 10_000*150/1e6 + 4
	heapAfter, residentAfter := memoryInUse()
	for deadline := time.Now().Add(10 * time.Second); heapAfter-heap > limit && time.Now().Before(deadline); {
		runtime.Gosched()
		heapAfter, residentAfter = memoryInUse()
	}
	if got := heapAfter - heap; got > limit {
		t.Errorf("the heap grew by %.1f MiB, want at most %.1f", got, limit)
	}
	t.Logf("%d random keys, %d requests with %d good keys: hit rate %.4f %%",
		flood, flood/10, good, 100-100*float64(missed)/float64(flood/10))
	t.Logf("heap %.1f MiB before, %.1f MiB after; resident set %.1f MiB before, %.1f MiB after",
		heap, heapAfter, resident, residentAfter)
	runtime.KeepAlive(s)
}

// memoryInUse returns the live heap and the resident set in MiB. The resident
// set is 0 if the system does not tell.
func memoryInUse() (heap, resident float64) {
	debug.FreeOSMemory()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmRSS:" {
			kib, _ := strconv.ParseFloat(fields[1], 64)
			resident = kib / 1024
		}
	}
	return float64(stats.HeapAlloc) / (1 << 20), resident
}
