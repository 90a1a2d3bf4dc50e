package cache_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
)

// However many made-up keys come, the good ones stay, and memory stays within the bound. AUTH_TEST_FLOOD sets how
// many; 10000000 is what BENCHMARKS.md shows.
func TestFlood(t *testing.T) {
	flood, good := 200_000, 10_000
	if n, err := strconv.Atoi(os.Getenv("AUTH_TEST_FLOOD")); err == nil {
		flood = n
	}
	m := memory(t)
	for n := range good {
		if err := m.Insert(t.Context(), record(n)); err != nil {
			t.Fatal(err)
		}
	}
	w := newWatched(m)
	s := cache.New(w, quiet(nil))
	defer s.Close()
	w.report(auth.ChangesSeen, auth.Hash{})
	for n := range good {
		look(s, record(n).Hash)
	}
	hashes := make([]auth.Hash, good)
	for n := range hashes {
		hashes[n] = record(n).Hash
	}
	heap, resident := memoryInUse()
	before := w.calls.Load()
	for n := range flood {
		var hash auth.Hash
		binary.LittleEndian.PutUint64(hash[8:], uint64(n)+1<<40)
		rand.Read(hash[16:])
		s.LookupSnapshot(context.Background(), hash)
		if n%10 == 9 { // one request in eleven is a good one
			if _, err := s.LookupSnapshot(context.Background(), hashes[n/10%good]); err != nil {
				t.Fatal(err)
			}
		}
	}
	asked := w.calls.Load() - before
	missed := asked - int64(flood)
	heapAfter, residentAfter := memoryInUse()
	t.Logf("%d random keys, and %d requests with %d good keys: %d of these asked the store, hit rate %.4f %%",
		flood, flood/10, good, missed, 100-100*float64(missed)/float64(flood/10))
	t.Logf("heap %.1f MiB before, %.1f MiB after; resident set %.1f MiB before, %.1f MiB after",
		heap, heapAfter, resident, residentAfter)
	if missed != 0 {
		t.Errorf("the store was asked %d times for keys that were known", missed)
	}
	// MaxUnknown times what the package says that one takes, and what the heap's own bookkeeping does.
	if heapAfter-heap > 10_000*150/1e6+4 {
		t.Errorf("the heap grew from %.1f to %.1f MiB", heap, heapAfter)
	}
	runtime.KeepAlive(s)
}

// memoryInUse returns the live heap and the resident set (0 where the system does not tell), in MiB.
func memoryInUse() (heap, resident float64) {
	time.Sleep(100 * time.Millisecond) // for what the cache does in the background
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

// MaxKeys bounds the records, MaxUnknown the rest: what is pushed out is asked for again.
func TestBounds(t *testing.T) {
	m := memory(t)
	for n := range 1000 {
		m.Insert(t.Context(), record(n))
	}
	w := newWatched(m)
	s := cache.New(w, quiet(&cache.Options{MaxKeys: 100, MaxUnknown: 100, UnknownTTL: time.Hour}))
	defer s.Close()
	w.report(auth.ChangesSeen, auth.Hash{})
	for what, first := range map[string]int{"known": 0, "unknown": 10_000} {
		for range 2 {
			for n := range 1000 {
				look(s, record(first+n).Hash)
			}
			time.Sleep(50 * time.Millisecond) // what is too much is pushed out in the background
		}
		before := w.calls.Load()
		for n := range 1000 {
			look(s, record(first+n).Hash)
		}
		// Some more may be remembered for a moment.
		if asked := w.calls.Load() - before; asked < 700 {
			t.Errorf("%s: of 1000, where there is room for 100, %d were asked for", what, asked)
		}
	}
}
