package cache_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/keyring"
)

func TestLookup(t *testing.T) {
	authtest.TestLookup(t, func(t *testing.T, records ...auth.Record) auth.Store {
		m := memory(t)
		for _, r := range records {
			if err := m.Insert(t.Context(), &r); err != nil {
				t.Fatal(err)
			}
		}
		return newCache(t, m, nil)
	})
}

func TestNewPanics(t *testing.T) {
	for _, test := range []struct {
		want  string
		store auth.Store
		opts  cache.Options
	}{
		{"cache.New: the store is nil", nil, cache.Options{}},
		{"cache.New: the store is a nil *keyring.MemoryStore", (*keyring.MemoryStore)(nil), cache.Options{}},
		{"cache.New: MaxKeys -1 is negative", memory(t), cache.Options{MaxKeys: -1}},
		{"cache.New: MaxUnknown -2 is negative", memory(t), cache.Options{MaxUnknown: -2}},
		{"cache.New: TTL -1s is negative", memory(t), cache.Options{TTL: -time.Second}},
		{"cache.New: UnknownTTL -1ns is negative", memory(t), cache.Options{UnknownTTL: -1}},
		{"cache.New: StaleIfError -1ns is negative", memory(t), cache.Options{StaleIfError: -1}},
		{"cache.New: LookupTimeout -1m0s is negative", memory(t), cache.Options{LookupTimeout: -time.Minute}},
		{"cache.New: MaxLookups -64 is negative", memory(t), cache.Options{MaxLookups: -64}},
		{"cache.New: QueueTimeout -1s is negative", memory(t), cache.Options{QueueTimeout: -time.Second}},
	} {
		func() {
			defer func() {
				if got := recover(); got != test.want {
					t.Errorf("got panic %v, want %s", got, test.want)
				}
			}()
			cache.New(test.store, &test.opts)
		}()
	}
}

// The options belong to the cache from the call of New.
func TestNewCopiesOptions(t *testing.T) {
	var logs logbook
	w := newWatched(t)
	o := cache.Options{Logger: logs.logger()}
	s := cache.New(w, &o)
	defer s.Close()
	o.Logger = nil
	w.report(auth.WatchStarted)
	if got := len(logs.read()); got != 1 {
		t.Errorf("got %d lines in the logger that New was given, want 1", got)
	}
}

// The greatest values do not overflow.
func TestLargestOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{keys: memory(t, record(1))}
		s := newCache(t, store, &cache.Options{
			MaxKeys:       math.MaxInt,
			MaxUnknown:    math.MaxInt,
			TTL:           math.MaxInt64,
			UnknownTTL:    math.MaxInt64,
			StaleIfError:  math.MaxInt64,
			LookupTimeout: math.MaxInt64,
			MaxLookups:    math.MaxInt,
			QueueTimeout:  math.MaxInt64,
		})
		time.Sleep(time.Hour)
		check(t, "known", s, store, record(1).Hash, 1, nil)
		check(t, "unknown", s, store, record(2).Hash, 1, auth.ErrNotFound)
		time.Sleep(24 * 365 * time.Hour)
		check(t, "known, after a year", s, store, record(1).Hash, 0, nil)
		check(t, "unknown, after a year", s, store, record(2).Hash, 0, auth.ErrNotFound)
	})
}

// A hit returns the record that the store returned, which nobody modifies.
func TestHitReturnsSharedRecord(t *testing.T) {
	want := record(1)
	store := new(scripted)
	store.do(func(context.Context, auth.Hash) (*auth.Record, error) { return want, nil })
	s := newCache(t, store, nil)
	for _, what := range []string{"miss", "hit"} {
		got, err := s.Lookup(t.Context(), want.Hash)
		if err != nil {
			t.Errorf("%s: got error %v, want nil", what, err)
		}
		if got != want {
			t.Errorf("%s: got the record at %p, want that at %p", what, got, want)
		}
	}
	if got := store.calls.Load(); got != 1 {
		t.Errorf("got %d lookups in the store, want 1", got)
	}
}

func TestHitAllocatesNothing(t *testing.T) {
	store := &scripted{keys: memory(t, record(1))}
	s := newCache(t, store, &cache.Options{TTL: time.Hour, UnknownTTL: time.Hour})
	ctx := t.Context()
	for what, hash := range map[string]auth.Hash{"known": record(1).Hash, "unknown": record(2).Hash} {
		if got := testing.AllocsPerRun(1000, func() { s.Lookup(ctx, hash) }); got != 0 {
			t.Errorf("%s: got %v allocations, want 0", what, got)
		}
	}
}

func BenchmarkHit(b *testing.B) {
	store := &scripted{keys: memory(b, record(1))}
	s := newCache(b, store, &cache.Options{TTL: time.Hour})
	ctx, hash := b.Context(), record(1).Hash
	b.Run("one goroutine", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Lookup(ctx, hash)
		}
	})
	b.Run("many goroutines", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				s.Lookup(ctx, hash)
			}
		})
	})
}

// Expiry does not depend on any TTL.
func TestExpiryIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memory(t)
		_, key, err := keyring.NewManager(m, nil).Unconfined("test").Create(t.Context(), keyring.Spec{
			Name:      "n",
			Owner:     "o",
			Scopes:    auth.Scopes{"documents.read"},
			ExpiresAt: time.Now().Add(time.Minute),
		})
		if err != nil {
			t.Fatal(err)
		}
		store := &scripted{keys: m}
		s := newCache(t, store, &cache.Options{TTL: time.Hour, StaleIfError: time.Hour})
		inner := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
		handler := auth.New(s, nil).Require("documents.read")(inner)
		status := func(what string, want int) {
			t.Helper()
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, authtest.WithKey(httptest.NewRequest("GET", "/", nil), key))
			if w.Code != want {
				t.Errorf("%s: got status %d, want %d", what, w.Code, want)
			}
		}
		status("new", 200)
		store.fail()
		time.Sleep(time.Minute - 1)
		status("a nanosecond before its expiry", 200)
		time.Sleep(time.Nanosecond)
		status("at its expiry", 401)
		if got := store.calls.Load(); got != 1 {
			t.Errorf("got %d lookups in the store, want 1", got)
		}
	})
}

// What a change through the store did is seen when the call returns.
func TestOwnChangesCountAtOnce(t *testing.T) {
	m := memory(t)
	s := newCache(t, m, nil)
	keys := keyring.NewManager(m, nil).Unconfined("test")
	for range 30 {
		r, key, err := keys.Create(t.Context(), keyring.Spec{Name: "n", Owner: "o"})
		if err != nil {
			t.Fatal(err)
		}
		hash := auth.Scheme{}.Hashes(key)[0]
		stop := make(chan struct{})
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						decide(s, hash)
						runtime.Gosched()
					}
				}
			})
		}
		var next auth.Record
		for _, step := range []struct {
			name string
			call func() error
			want error
		}{
			{"Create", func() error { return nil }, nil},
			{"Disable", func() error { return keys.Disable(t.Context(), r.ID) }, auth.ErrKeyDisabled},
			{"Enable", func() error { return keys.Enable(t.Context(), r.ID) }, nil},
			{"Rotate", func() (err error) {
				next, _, err = keys.Rotate(t.Context(), r.ID, 0)
				return err
			}, auth.ErrKeyExpired},
			{"Revoke", func() error { return keys.Revoke(t.Context(), r.ID) }, auth.ErrKeyRevoked},
			{"Delete", func() error { return keys.Delete(t.Context(), r.ID) }, auth.ErrNotFound},
		} {
			if err := step.call(); err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			if got := decide(s, hash); !errors.Is(got, step.want) {
				t.Errorf("after %s: got error %v, want %v", step.name, got, step.want)
			}
		}
		if got := decide(s, next.Hash); got != nil {
			t.Errorf("the successor: got error %v, want nil", got)
		}
		close(stop)
		group.Wait()
	}
}

// Under concurrent lookups, changes, evictions and losses of the watch, no
// revoked key is valid, and no key is unknown.
func TestConcurrentChanges(t *testing.T) {
	w := newWatched(t)
	s := newCache(t, w, &cache.Options{MaxKeys: 64, MaxUnknown: 16, MaxLookups: 2, StaleIfError: time.Hour})
	w.report(auth.WatchStarted)
	const keys = 300
	var inserted, revoked [keys]atomic.Bool
	stop, lose := make(chan struct{}), make(chan struct{}, 1)
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := worker; ; i = (i + 7) % (keys + 5) {
				select {
				case <-stop:
					return
				default:
				}
				if i >= keys {
					if got := decide(s, record(i).Hash); !errors.Is(got, auth.ErrNotFound) {
						t.Errorf("a key that does not exist: got error %v, want %v", got, auth.ErrNotFound)
					}
					continue
				}
				there, gone := inserted[i].Load(), revoked[i].Load()
				got := decide(s, record(i).Hash)
				if gone && !errors.Is(got, auth.ErrKeyRevoked) {
					t.Errorf("the revoked key %d: got error %v, want %v", i, got, auth.ErrKeyRevoked)
				}
				if there && errors.Is(got, auth.ErrNotFound) {
					t.Errorf("the key %d: got error %v", i, got)
				}
			}
		})
	}
	group.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-lose:
				w.report(auth.WatchLost)
				w.report(auth.WatchStarted)
			}
		}
	})
	for i := range keys {
		if err := w.memory.Insert(t.Context(), record(i)); err != nil {
			t.Fatal(err)
		}
		w.changed(record(i).Hash)
		inserted[i].Store(true)
		if j := i / 2; i%2 == 1 {
			update(t, w.memory, record(j).ID, revoke)
			w.changed(record(j).Hash)
			revoked[j].Store(true)
		}
		if i%10 == 0 {
			select {
			case lose <- struct{}{}:
			default:
			}
		}
		runtime.Gosched()
	}
	close(stop)
	group.Wait()
}

// While the store hangs and fails now and then, so that stale records are used,
// no revoked key is valid.
func TestConcurrentChangesInOutage(t *testing.T) {
	const keys = 50
	w := newWatched(t)
	for i := range keys {
		if err := w.memory.Insert(t.Context(), record(i)); err != nil {
			t.Fatal(err)
		}
	}
	s := newCache(t, w, &cache.Options{
		TTL:           time.Millisecond,
		StaleIfError:  time.Hour,
		LookupTimeout: time.Millisecond,
		MaxLookups:    2,
		QueueTimeout:  2 * time.Millisecond,
	})
	w.report(auth.WatchStarted)
	var lookups, accepted atomic.Int64
	w.do(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
		r, err := w.keys.Lookup(ctx, hash) // before a change, perhaps, and answered after it
		switch lookups.Add(1) % 4 {
		case 0:
			return hang(ctx, hash)
		case 1:
			return nil, errDown
		case 2:
			runtime.Gosched()
		}
		return r, err
	})
	var current atomic.Int64 // the key that is about to be revoked
	stop := make(chan struct{})
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if decide(s, record(int(current.Load())).Hash) == nil {
					accepted.Add(1)
				}
			}
		})
	}
	for i := range keys {
		current.Store(int64(i))
		for before := accepted.Load(); accepted.Load() < before+5; {
			runtime.Gosched()
		}
		update(t, w.memory, record(i).ID, revoke)
		w.changed(record(i).Hash)
		for range 3 {
			if got := decide(s, record(i).Hash); got == nil {
				t.Errorf("the revoked key %d is valid", i)
			}
		}
	}
	close(stop)
	group.Wait()
}

// The Authenticator refuses and logs such an answer.
func TestWrongAnswerIsPassedOnAndNotCached(t *testing.T) {
	for what, want := range map[string]*auth.Record{
		"a record with another hash": record(2),
		"no record, no error":        nil,
	} {
		store := new(scripted)
		store.do(func(context.Context, auth.Hash) (*auth.Record, error) { return want, nil })
		s := newCache(t, store, nil)
		for range 2 {
			got, err := s.Lookup(t.Context(), record(1).Hash)
			if err != nil {
				t.Errorf("%s: got error %v, want nil", what, err)
			}
			if got != want {
				t.Errorf("%s: got record %v, want %v", what, got, want)
			}
		}
		if got := store.calls.Load(); got != 2 {
			t.Errorf("%s: got %d lookups in the store, want 2", what, got)
		}
	}
}

// If a record comes with an error, the error counts.
func TestErrorCountsMoreThanRecord(t *testing.T) {
	for _, want := range []error{errDown, auth.ErrNotFound} {
		store := new(scripted)
		store.do(func(context.Context, auth.Hash) (*auth.Record, error) { return record(1), want })
		s := newCache(t, store, nil)
		got, err := s.Lookup(t.Context(), record(1).Hash)
		if !errors.Is(err, want) {
			t.Errorf("got error %v, want %v", err, want)
		}
		if got != nil {
			t.Errorf("with error %v: got record %v, want nil", want, got)
		}
	}
}

// The bubble of synctest ends only when no goroutine is left in it.
func TestClose(t *testing.T) {
	for _, watch := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWatched(t, record(1))
			var store auth.Store = &w.scripted
			if watch {
				store = w
			}
			s := newCache(t, store, nil)
			if watch {
				w.report(auth.WatchStarted)
			}
			for n := range 100 {
				decide(s, record(n).Hash)
			}
			what := fmt.Sprintf("watched %v, closed", watch)
			for range 2 {
				if got := s.Close(); got != nil {
					t.Errorf("%s: got error %v, want nil", what, got)
				}
				check(t, what, s, &w.scripted, record(1).Hash, 1, nil)
				check(t, what+", unknown", s, &w.scripted, record(100).Hash, 1, auth.ErrNotFound)
			}
		})
	}
}

func TestCloseWaitsForWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		w.slow = time.Second
		s := newCache(t, w, nil)
		w.report(auth.WatchStarted)
		start := time.Now()
		s.Close()
		if got := time.Since(start); got != w.slow {
			t.Errorf("got %v in Close, want %v, as long as Watch takes to return", got, w.slow)
		}
	})
}

// A Store does not print the hashes of lookups in progress.
func TestFormat(t *testing.T) {
	store := &scripted{keys: memory(t, record(1))}
	s := newCache(t, store, nil)
	var got string
	store.do(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
		got = fmt.Sprintf("%v %+v %#v %s %d", s, s, s, s, s)
		return store.keys.Lookup(ctx, hash)
	})
	decide(s, record(1).Hash)
	if want := strings.TrimSpace(strings.Repeat("cache.Store ", 5)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
