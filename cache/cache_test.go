package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
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
)

func TestLookup(t *testing.T) {
	authtest.TestLookup(t, func(t *testing.T, records ...auth.Record) auth.Store {
		s := cache.New(memory(t, records...), quiet(nil))
		t.Cleanup(func() { s.Close() })
		return s
	})
}

func memory(t testing.TB, records ...auth.Record) *auth.MemoryStore {
	m := new(auth.MemoryStore)
	for _, r := range records {
		if err := m.Insert(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func quiet(o *cache.Options) *cache.Options {
	if o == nil {
		o = new(cache.Options)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func record(n int) auth.Record {
	r := auth.Record{ID: fmt.Sprint("key_", n), Name: "n", Scopes: auth.Scopes{"documents.read"}, CreatedAt: time.Now()}
	copy(r.Hash[:], fmt.Sprintf("%032d", n))
	return r
}

// A scripted store counts, pauses and fails. It is no Watcher and no SnapshotStore.
type scripted struct {
	keys  auth.Store
	calls atomic.Int64
	do    atomic.Pointer[func(ctx context.Context, hash auth.Hash) (auth.Record, error)] // instead of keys
}

func (s *scripted) Lookup(ctx context.Context, hash auth.Hash) (auth.Record, error) {
	s.calls.Add(1)
	if do := s.do.Load(); do != nil {
		return (*do)(ctx, hash)
	}
	return s.keys.Lookup(ctx, hash)
}

func (s *scripted) set(do func(ctx context.Context, hash auth.Hash) (auth.Record, error)) {
	if do == nil {
		s.do.Store(nil)
		return
	}
	s.do.Store(&do)
}

func (s *scripted) fail() {
	s.set(func(context.Context, auth.Hash) (auth.Record, error) { return auth.Record{}, errDown })
}

var errDown = errors.New("the database is down")

// A watched store is a scripted one whose test says what is reported.
type watched struct {
	scripted
	notify func(auth.Change)
	ended  error         // what Watch returns at once, if it is not nil
	slow   time.Duration // how long Watch takes to return when it shall
	ready  chan struct{} // closed once notify is there
}

func newWatched(keys auth.Store) *watched {
	return &watched{scripted: scripted{keys: keys}, ready: make(chan struct{})}
}

func (w *watched) Watch(ctx context.Context, notify func(auth.Change)) error {
	if w.ended != nil {
		return w.ended
	}
	w.notify = notify
	close(w.ready)
	<-ctx.Done()
	w.notify(auth.Change{Kind: auth.ChangesLost})
	time.Sleep(w.slow)
	return ctx.Err()
}

func (w *watched) report(kind auth.ChangeKind, hash auth.Hash) {
	<-w.ready
	w.notify(auth.Change{Kind: kind, Hash: hash})
}

// look looks a hash up and says what a request would be answered.
func look(s auth.Store, hash auth.Hash) error {
	r, err := s.Lookup(context.Background(), hash)
	if err != nil {
		return err
	}
	return r.Check(time.Now())
}

// wants reports if a look-up does not end with that error, or how many calls of the store it takes.
func wants(t *testing.T, what string, s auth.Store, behind *scripted, hash auth.Hash, calls int64, want error) {
	t.Helper()
	before := behind.calls.Load()
	if err := look(s, hash); !errors.Is(err, want) || (err == nil) != (want == nil) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
	if n := behind.calls.Load() - before; n != calls {
		t.Errorf("%s: the store was asked %d times, want %d", what, n, calls)
	}
}

// inBubble runs a test with a clock that stands still while anything can go on.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func TestTimesToLive(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		behind := &scripted{keys: memory(t, record(1))}
		s := cache.New(behind, quiet(&cache.Options{TTL: 64 * time.Second, UnknownTTL: 3 * time.Second}))
		defer s.Close()
		known, unknown := record(1).Hash, record(2).Hash
		wants(t, "first", s, behind, known, 1, nil)
		wants(t, "first of an unknown one", s, behind, unknown, 1, auth.ErrNotFound)
		time.Sleep(3*time.Second - 1)
		wants(t, "unknown for less than UnknownTTL", s, behind, unknown, 0, auth.ErrNotFound)
		time.Sleep(time.Nanosecond)
		wants(t, "unknown for UnknownTTL", s, behind, unknown, 1, auth.ErrNotFound)
		time.Sleep(59 * time.Second) // 62 since the first
		wants(t, "for less than 63/64 of TTL", s, behind, known, 0, nil)
		time.Sleep(2 * time.Second)
		wants(t, "for TTL", s, behind, known, 1, nil)
		wants(t, "read again", s, behind, known, 0, nil)
	})
}

func TestDefaultTimesToLive(t *testing.T) {
	for _, c := range []struct {
		watched bool
		ttl     time.Duration
	}{{false, 30 * time.Second}, {true, 5 * time.Minute}} {
		inBubble(t, func(t *testing.T) {
			w := newWatched(memory(t, record(1)))
			var behind auth.Store = &w.scripted
			if c.watched {
				behind = w
			}
			s := cache.New(behind, quiet(nil))
			defer s.Close()
			if c.watched {
				w.report(auth.ChangesSeen, auth.Hash{})
			}
			wants(t, "first", s, &w.scripted, record(1).Hash, 1, nil)
			time.Sleep(c.ttl - c.ttl/32)
			wants(t, "before TTL", s, &w.scripted, record(1).Hash, 0, nil)
			time.Sleep(c.ttl / 32)
			wants(t, "after TTL", s, &w.scripted, record(1).Hash, 1, nil)
			wants(t, "unknown", s, &w.scripted, record(2).Hash, 1, auth.ErrNotFound)
			time.Sleep(5*time.Second - 1)
			wants(t, "unknown before UnknownTTL", s, &w.scripted, record(2).Hash, 0, auth.ErrNotFound)
			time.Sleep(time.Nanosecond)
			wants(t, "unknown after UnknownTTL", s, &w.scripted, record(2).Hash, 1, auth.ErrNotFound)
		})
	}
}

// The longest times there are do not wrap round into none.
func TestForEver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		behind := &scripted{keys: memory(t, record(1))}
		const forever = time.Duration(1<<63 - 1)
		s := cache.New(behind, quiet(&cache.Options{TTL: forever, UnknownTTL: forever, StaleIfError: forever, LookupTimeout: forever}))
		defer s.Close()
		time.Sleep(time.Hour)
		wants(t, "first", s, behind, record(1).Hash, 1, nil)
		wants(t, "unknown", s, behind, record(2).Hash, 1, auth.ErrNotFound)
		time.Sleep(24 * 365 * time.Hour)
		wants(t, "after a year", s, behind, record(1).Hash, 0, nil)
		wants(t, "unknown after a year", s, behind, record(2).Hash, 0, auth.ErrNotFound)
	})
}

// Expiry does not wait for any time to live.
func TestExpiryIsExact(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := memory(t)
		_, key, err := auth.NewKeyring(m, nil).Create(t.Context(), auth.Grant{Name: "n",
			Scopes: auth.Scopes{"documents.read"}, ExpiresAt: time.Now().Add(time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		behind := &scripted{keys: m}
		s := cache.New(behind, quiet(&cache.Options{TTL: time.Hour, StaleIfError: time.Hour}))
		defer s.Close()
		handler := auth.New(s, nil).Require("documents.read")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		status := func() int {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, authtest.WithKey(httptest.NewRequest("GET", "/", nil), key))
			return w.Code
		}
		if got := status(); got != 200 {
			t.Fatalf("a valid key: %d", got)
		}
		behind.fail()
		time.Sleep(time.Minute - 1)
		if got := status(); got != 200 {
			t.Errorf("a nanosecond before its expiry: %d", got)
		}
		time.Sleep(time.Nanosecond)
		if got := status(); got != 401 {
			t.Errorf("at its expiry: %d", got)
		}
		if n := behind.calls.Load(); n != 1 {
			t.Errorf("the store was asked %d times", n)
		}
	})
}

func TestOneLookupForAll(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		behind := &scripted{keys: memory(t, record(1))}
		gate := make(chan struct{})
		behind.set(func(ctx context.Context, hash auth.Hash) (auth.Record, error) {
			<-gate
			if ctx.Err() != nil {
				return auth.Record{}, ctx.Err()
			}
			return record(1), nil
		})
		s := cache.New(behind, quiet(nil))
		defer s.Close()

		first, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := s.Lookup(first, record(1).Hash)
			left <- err
		}()
		synctest.Wait()
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() {
				if err := look(s, record(1).Hash); err != nil {
					t.Errorf("waiting: %v", err)
				}
			})
		}
		synctest.Wait()
		leave() // the one whose request began it
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("leaving: %v", err)
		}
		close(gate)
		group.Wait()
		if n := behind.calls.Load(); n != 1 {
			t.Errorf("the store was asked %d times for 101 requests", n)
		}
	})
}

// When the last request leaves, the look-up ends; the next one begins another.
func TestAllLeave(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		behind := &scripted{keys: memory(t, record(1))}
		var ended atomic.Int64
		behind.set(func(ctx context.Context, _ auth.Hash) (auth.Record, error) {
			<-ctx.Done()
			ended.Add(1)
			return auth.Record{}, ctx.Err()
		})
		s := cache.New(behind, quiet(&cache.Options{TTL: time.Second, StaleIfError: time.Hour}))
		defer s.Close()
		ctx, leave := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				if _, err := s.Lookup(ctx, record(1).Hash); !errors.Is(err, context.Canceled) {
					t.Errorf("leaving: %v", err)
				}
			})
		}
		synctest.Wait()
		if ended.Load() != 0 {
			t.Fatal("the look-up ended while all waited")
		}
		leave()
		group.Wait()
		// For a second it goes on, so that clients who leave at once do not cost the database a connection each; who
		// comes meanwhile joins it.
		time.Sleep(time.Second - 1)
		synctest.Wait()
		late, leaveLate := context.WithCancel(t.Context())
		group.Go(func() { s.Lookup(late, record(1).Hash) })
		synctest.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		if ended.Load() != 0 || behind.calls.Load() != 1 {
			t.Errorf("%d of %d look-ups ended though somebody waited", ended.Load(), behind.calls.Load())
		}
		leaveLate()
		group.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		if ended.Load() != 1 || behind.calls.Load() != 1 {
			t.Errorf("%d of %d look-ups ended when all had left", ended.Load(), behind.calls.Load())
		}
		behind.set(nil)
		wants(t, "afterwards", s, behind, record(1).Hash, 1, nil)

		// That its clients left says nothing about the store: nobody gets a stale record for it.
		time.Sleep(2 * time.Second)
		behind.set(func(ctx context.Context, _ auth.Hash) (auth.Record, error) {
			<-ctx.Done()
			return auth.Record{}, ctx.Err()
		})
		ctx, leave = context.WithCancel(t.Context())
		group.Go(func() { s.Lookup(ctx, record(1).Hash) })
		synctest.Wait()
		leave()
		group.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		behind.set(nil)
		wants(t, "when a client had left", s, behind, record(1).Hash, 1, nil)
	})
}

func TestLookupTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		behind := new(scripted)
		behind.set(func(ctx context.Context, _ auth.Hash) (auth.Record, error) {
			<-ctx.Done()
			return auth.Record{}, ctx.Err()
		})
		s := cache.New(behind, quiet(nil))
		defer s.Close()
		start := time.Now()
		wants(t, "a store that does not answer", s, behind, record(1).Hash, 1, context.DeadlineExceeded)
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("it took %v, want 5 seconds", d)
		}
	})
}

func TestErrorsAreNotCached(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		behind := &scripted{keys: memory(t, record(1))}
		s := cache.New(behind, quiet(&cache.Options{TTL: time.Minute}))
		defer s.Close()
		behind.fail()
		for range 3 {
			wants(t, "down", s, behind, record(1).Hash, 1, errDown)
		}
		behind.set(nil)
		wants(t, "up", s, behind, record(1).Hash, 1, nil)
		behind.fail()
		time.Sleep(time.Minute - 1) // a tick before this it was last used
		for range 3 {               // without StaleIfError
			wants(t, "down again", s, behind, record(1).Hash, 1, errDown)
		}
		behind.set(nil)
		wants(t, "up again", s, behind, record(1).Hash, 1, nil)
		wants(t, "up again", s, behind, record(1).Hash, 0, nil)
	})
}

// A look-up that was called off is nobody's any more, however long the store goes on with it.
func TestCalledOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		behind := &scripted{keys: memory(t, record(1))}
		s := cache.New(behind, quiet(nil))
		defer s.Close()
		behind.set(func(ctx context.Context, hash auth.Hash) (auth.Record, error) {
			time.Sleep(time.Minute)
			return auth.Record{}, auth.ErrNotFound
		})
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		if _, err := s.Lookup(ctx, record(1).Hash); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("leaving: %v", err)
		}
		time.Sleep(time.Second) // then it is called off
		synctest.Wait()
		behind.set(nil)
		wants(t, "beside it", s, behind, record(1).Hash, 1, nil)
		time.Sleep(time.Minute)
		wants(t, "after it", s, behind, record(1).Hash, 1, nil) // its time to live is over
		wants(t, "after it", s, behind, record(1).Hash, 0, nil)
	})
}

// A deleted key is gone, also for a cache that is not told.
func TestDeleted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		behind := &scripted{keys: memory(t, record(1))}
		s := cache.New(behind, quiet(&cache.Options{TTL: time.Second, StaleIfError: time.Hour}))
		defer s.Close()
		wants(t, "there", s, behind, record(1).Hash, 1, nil)
		behind.set(memory(t).Lookup)
		time.Sleep(time.Second)
		wants(t, "gone", s, behind, record(1).Hash, 1, auth.ErrNotFound)
		wants(t, "gone", s, behind, record(1).Hash, 0, auth.ErrNotFound)
		behind.fail()
		time.Sleep(5 * time.Second)
		wants(t, "gone, and down", s, behind, record(1).Hash, 1, errDown)
	})
}

// A store that says with its own error that there is no such key says so all the same.
func TestWrappedNotFound(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		behind := &scripted{keys: memory(t, record(1))}
		s := cache.New(behind, quiet(&cache.Options{TTL: time.Second, StaleIfError: time.Hour}))
		defer s.Close()
		wants(t, "there", s, behind, record(1).Hash, 1, nil)
		behind.set(func(context.Context, auth.Hash) (auth.Record, error) {
			return auth.Record{}, fmt.Errorf("table: %w", auth.ErrNotFound)
		})
		time.Sleep(time.Second)
		wants(t, "gone", s, behind, record(1).Hash, 1, auth.ErrNotFound)
		wants(t, "gone", s, behind, record(1).Hash, 0, auth.ErrNotFound)
		wants(t, "never there", s, behind, record(2).Hash, 1, auth.ErrNotFound)
		wants(t, "never there", s, behind, record(2).Hash, 0, auth.ErrNotFound)
	})
}

// A Watch that gives up without a word, after it has watched, is trusted no longer.
func TestWatchGivesUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := &quitter{scripted{keys: memory(t, record(1))}, make(chan struct{})}
		s := cache.New(w, quiet(nil))
		defer s.Close()
		synctest.Wait()
		wants(t, "watched", s, &w.scripted, record(1).Hash, 1, nil)
		wants(t, "watched", s, &w.scripted, record(1).Hash, 0, nil)
		close(w.quit)
		synctest.Wait()
		for range 2 {
			wants(t, "watched no longer", s, &w.scripted, record(1).Hash, 1, nil)
		}
	})
}

// A quitter watches until quit is closed, and says no ChangesLost.
type quitter struct {
	scripted
	quit chan struct{}
}

func (q *quitter) Watch(ctx context.Context, notify func(auth.Change)) error {
	notify(auth.Change{Kind: auth.ChangesSeen})
	select {
	case <-q.quit:
		return errDown
	case <-ctx.Done():
		return ctx.Err()
	}
}

// What the store returns for another hash is for the Authenticator to refuse, and not to remember.
func TestAnotherHash(t *testing.T) {
	behind := new(scripted)
	behind.set(func(context.Context, auth.Hash) (auth.Record, error) { return record(2), nil })
	s := cache.New(behind, quiet(nil))
	defer s.Close()
	for range 2 {
		got, err := s.Lookup(t.Context(), record(1).Hash)
		if err != nil || got.Hash != record(2).Hash {
			t.Errorf("got %v, %v", got, err)
		}
	}
	if n := behind.calls.Load(); n != 2 {
		t.Errorf("the store was asked %d times, want 2", n)
	}
}

func TestPanicOfTheStore(t *testing.T) {
	behind := &scripted{keys: memory(t, record(1))}
	s := cache.New(behind, quiet(nil))
	defer s.Close()
	behind.set(func(context.Context, auth.Hash) (auth.Record, error) { panic(http.ErrAbortHandler) })
	func() {
		defer func() {
			if v := recover(); v != http.ErrAbortHandler {
				t.Errorf("recovered %v on the request's goroutine", v)
			}
		}()
		look(s, record(1).Hash)
	}()
	behind.set(func(context.Context, auth.Hash) (auth.Record, error) { runtime.Goexit(); panic("not reached") })
	if err := look(s, record(1).Hash); err == nil || errors.Is(err, auth.ErrNotFound) {
		t.Errorf("a look-up that ended its goroutine: %v", err)
	}
	behind.set(nil)
	wants(t, "afterwards", s, behind, record(1).Hash, 1, nil)
}

func TestStaleIfError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		revoked, expiring := record(2), record(3)
		revoked.RevokedAt = time.Now()
		expiring.ExpiresAt = time.Now().Add(70 * time.Second)
		behind := &scripted{keys: memory(t, record(1), revoked, expiring)}
		s := cache.New(behind, quiet(&cache.Options{TTL: time.Minute, StaleIfError: time.Minute}))
		defer s.Close()
		wants(t, "first", s, behind, record(1).Hash, 1, nil)
		wants(t, "a revoked one", s, behind, revoked.Hash, 1, auth.ErrKeyRevoked)
		wants(t, "one that expires", s, behind, expiring.Hash, 1, nil)
		behind.fail()
		time.Sleep(time.Minute)
		wants(t, "stale", s, behind, record(1).Hash, 1, nil)
		wants(t, "stale and revoked", s, behind, revoked.Hash, 1, auth.ErrKeyRevoked)
		wants(t, "never seen", s, behind, record(9).Hash, 1, errDown)
		time.Sleep(time.Second - 1)
		wants(t, "within a second", s, behind, record(1).Hash, 0, nil)
		time.Sleep(time.Nanosecond)
		wants(t, "after a second", s, behind, record(1).Hash, 1, nil)
		time.Sleep(10 * time.Second)
		wants(t, "stale and expired", s, behind, expiring.Hash, 1, auth.ErrKeyExpired)

		behind.set(nil) // it recovers by itself
		wants(t, "recovered", s, behind, record(1).Hash, 1, nil)
		wants(t, "recovered", s, behind, record(1).Hash, 0, nil)

		behind.fail()
		time.Sleep(2*time.Minute - 500*time.Millisecond)
		wants(t, "nearly too stale", s, behind, record(1).Hash, 1, nil)
		time.Sleep(500*time.Millisecond - 1)
		wants(t, "the last moment", s, behind, record(1).Hash, 0, nil)
		time.Sleep(time.Nanosecond)
		wants(t, "too stale", s, behind, record(1).Hash, 1, errDown)
	})
}

// What the watcher reported as changed is not what a failing store is spared to answer.
func TestStaleIfErrorAndChanges(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		revoked := record(3)
		revoked.RevokedAt = time.Now()
		w := newWatched(memory(t, record(1), record(2), revoked))
		s := cache.New(w, quiet(&cache.Options{StaleIfError: time.Hour}))
		defer s.Close()
		w.report(auth.ChangesSeen, auth.Hash{})
		for n := range 3 {
			look(s, record(n+1).Hash)
		}
		w.fail()
		w.report(auth.RecordChanged, record(1).Hash)
		w.report(auth.RecordChanged, revoked.Hash)
		wants(t, "changed", s, &w.scripted, record(1).Hash, 1, errDown)
		wants(t, "revoked, and changed", s, &w.scripted, revoked.Hash, 1, auth.ErrKeyRevoked)
		wants(t, "not changed", s, &w.scripted, record(2).Hash, 0, nil)
		w.report(auth.ChangesLost, auth.Hash{})
		wants(t, "not watched", s, &w.scripted, record(2).Hash, 1, nil)
		wants(t, "not watched", s, &w.scripted, record(2).Hash, 0, nil)
		w.report(auth.RecordChanged, record(2).Hash) // of this very Store
		wants(t, "changed while not watched", s, &w.scripted, record(2).Hash, 1, errDown)
	})
}

// Once changes are seen again, no record of before is used without asking; nor if they are lost again at once, for that
// the store failed before says nothing of what it does then.
func TestStaleEndsWhenChangesAreSeen(t *testing.T) {
	for _, then := range [][]auth.ChangeKind{{auth.ChangesSeen}, {auth.ChangesSeen, auth.ChangesLost}} {
		inBubble(t, func(t *testing.T) {
			w := newWatched(memory(t, record(1)))
			s := cache.New(w, quiet(&cache.Options{StaleIfError: time.Hour}))
			defer s.Close()
			w.report(auth.ChangesSeen, auth.Hash{})
			wants(t, "first", s, &w.scripted, record(1).Hash, 1, nil)
			w.report(auth.ChangesLost, auth.Hash{})
			w.fail()
			wants(t, "down", s, &w.scripted, record(1).Hash, 1, nil)
			wants(t, "down", s, &w.scripted, record(1).Hash, 0, nil)
			w.keys.(*auth.MemoryStore).Revoke(t.Context(), record(1).ID, time.Now()) // nobody reports it
			w.set(nil)
			for _, kind := range then {
				w.report(kind, auth.Hash{})
			}
			wants(t, fmt.Sprint("after ", then), s, &w.scripted, record(1).Hash, 1, auth.ErrKeyRevoked)
		})
	}
}

// A Store does not print the hashes that it looks up.
func TestFormat(t *testing.T) {
	behind := &scripted{keys: memory(t, record(1))}
	s := cache.New(behind, quiet(nil))
	defer s.Close()
	var shown string
	behind.set(func(ctx context.Context, hash auth.Hash) (auth.Record, error) {
		shown = fmt.Sprintf("%v %+v %#v %s", s, s, s, s)
		return behind.keys.Lookup(ctx, hash)
	})
	look(s, record(1).Hash)
	if want := strings.TrimSpace(strings.Repeat("cache.Store ", 4)); shown != want {
		t.Errorf("printed %q", shown)
	}
}

func TestChanges(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWatched(memory(t, record(1), record(2)))
		s := cache.New(w, quiet(nil))
		defer s.Close()
		a, b := record(1).Hash, record(2).Hash
		for range 2 {
			wants(t, "before changes are seen", s, &w.scripted, a, 1, nil)
			wants(t, "unknown, before changes are seen", s, &w.scripted, record(3).Hash, 1, auth.ErrNotFound)
		}
		w.report(auth.ChangesSeen, auth.Hash{})
		wants(t, "seen", s, &w.scripted, a, 1, nil)
		wants(t, "seen", s, &w.scripted, a, 0, nil)
		wants(t, "another", s, &w.scripted, b, 1, nil)
		w.report(auth.RecordChanged, a)
		wants(t, "changed", s, &w.scripted, a, 1, nil)
		wants(t, "the other did not change", s, &w.scripted, b, 0, nil)

		wants(t, "unknown", s, &w.scripted, record(3).Hash, 1, auth.ErrNotFound)
		wants(t, "unknown", s, &w.scripted, record(3).Hash, 0, auth.ErrNotFound)
		w.keys.(*auth.MemoryStore).Insert(t.Context(), record(3))
		w.report(auth.RecordChanged, record(3).Hash)
		wants(t, "inserted", s, &w.scripted, record(3).Hash, 1, nil)

		w.keys = memory(t, record(2))
		w.report(auth.RecordChanged, a)
		wants(t, "deleted", s, &w.scripted, a, 1, auth.ErrNotFound)

		w.report(auth.ChangesLost, auth.Hash{})
		for range 2 {
			wants(t, "lost", s, &w.scripted, b, 1, nil)
			wants(t, "unknown, lost", s, &w.scripted, a, 1, auth.ErrNotFound)
		}
		w.report(auth.ChangesSeen, auth.Hash{})
		wants(t, "seen again", s, &w.scripted, b, 1, nil)
		wants(t, "unknown, seen again", s, &w.scripted, a, 1, auth.ErrNotFound)
		wants(t, "seen again", s, &w.scripted, b, 0, nil)
		w.report(auth.ChangesSeen, auth.Hash{}) // a second one says the same as a loss before it
		wants(t, "seen twice", s, &w.scripted, b, 1, nil)
	})
}

// What a look-up found before the change that overtook it is neither answered nor remembered.
func TestChangeOvertakesLookup(t *testing.T) {
	for name, change := range map[string]func(w *watched){
		"reported": func(w *watched) { w.report(auth.RecordChanged, record(1).Hash) },
		"lost":     func(w *watched) { w.report(auth.ChangesLost, auth.Hash{}) },
		"seen":     func(w *watched) { w.report(auth.ChangesSeen, auth.Hash{}) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newWatched(memory(t, record(1)))
				s := cache.New(w, quiet(nil))
				defer s.Close()
				w.report(auth.ChangesSeen, auth.Hash{})
				resume := make(chan struct{})
				w.set(func(ctx context.Context, hash auth.Hash) (auth.Record, error) {
					r, err := w.keys.Lookup(ctx, hash)
					<-resume
					return r, err
				})
				answers := make(chan error, 10)
				for range cap(answers) {
					go func() { answers <- look(s, record(1).Hash) }()
				}
				synctest.Wait()
				w.keys.(*auth.MemoryStore).Revoke(t.Context(), record(1).ID, time.Now())
				change(w)
				close(resume)
				for range cap(answers) {
					if err := <-answers; !errors.Is(err, auth.ErrKeyRevoked) {
						t.Errorf("a request that waited: %v", err)
					}
				}
				if err := look(s, record(1).Hash); !errors.Is(err, auth.ErrKeyRevoked) {
					t.Errorf("the next request: %v", err)
				}
			})
		})
	}
}

// A request after a change does not wait for the look-up that it overtook.
func TestOvertakenLookupHoldsNobodyUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWatched(memory(t, record(1)))
		s := cache.New(w, quiet(nil))
		defer s.Close()
		w.report(auth.ChangesSeen, auth.Hash{})
		resume := make(chan struct{})
		w.set(func(ctx context.Context, hash auth.Hash) (auth.Record, error) {
			<-resume
			return w.keys.Lookup(ctx, hash)
		})
		go look(s, record(1).Hash)
		synctest.Wait()
		w.report(auth.RecordChanged, record(1).Hash)
		w.set(nil)
		wants(t, "after the change", s, &w.scripted, record(1).Hash, 1, nil)
		close(resume)
	})
}

// A record that changes during every look-up is answered as it was read last, not read for ever.
func TestChangesWithoutEnd(t *testing.T) {
	w := newWatched(memory(t, record(1)))
	s := cache.New(w, quiet(nil))
	defer s.Close()
	w.report(auth.ChangesSeen, auth.Hash{})
	w.set(func(ctx context.Context, hash auth.Hash) (auth.Record, error) {
		w.report(auth.RecordChanged, hash)
		return w.keys.Lookup(ctx, hash)
	})
	wants(t, "it changes again and again", s, &w.scripted, record(1).Hash, 8, nil)

	// Not even then does what was revoked come back.
	w.set(func(ctx context.Context, hash auth.Hash) (auth.Record, error) {
		r, err := w.keys.Lookup(ctx, hash)
		r.RevokedAt = time.Now()
		return r, err
	})
	wants(t, "revoked", s, &w.scripted, record(1).Hash, 1, auth.ErrKeyRevoked)
	w.set(func(ctx context.Context, hash auth.Hash) (auth.Record, error) {
		w.report(auth.RecordChanged, hash)
		return w.keys.Lookup(ctx, hash)
	})
	w.report(auth.RecordChanged, record(1).Hash)
	wants(t, "revoked, and it changes again and again", s, &w.scripted, record(1).Hash, 8, auth.ErrKeyRevoked)
}

// A store that lags cannot take a revocation back.
func TestRevokedStaysRevoked(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		fresh := memory(t, record(1))
		fresh.Revoke(t.Context(), record(1).ID, time.Now())
		w := newWatched(fresh)
		s := cache.New(w, quiet(&cache.Options{TTL: time.Minute}))
		defer s.Close()
		w.report(auth.ChangesSeen, auth.Hash{})
		wants(t, "revoked", s, &w.scripted, record(1).Hash, 1, auth.ErrKeyRevoked)
		lagging := memory(t, record(1))
		w.set(lagging.Lookup)
		for what, change := range map[string]func(){
			"after its time to live": func() { time.Sleep(time.Minute) },
			"after a change":         func() { w.report(auth.RecordChanged, record(1).Hash) },
			"after a loss":           func() { w.report(auth.ChangesLost, auth.Hash{}); w.report(auth.ChangesSeen, auth.Hash{}) },
		} {
			change()
			wants(t, what, s, &w.scripted, record(1).Hash, 1, auth.ErrKeyRevoked)
			wants(t, what, s, &w.scripted, record(1).Hash, 0, auth.ErrKeyRevoked)
		}
	})
}

// Through the very store that the cache is in front of, a change counts when the call returns.
func TestOwnChangesCountAtOnce(t *testing.T) {
	m := memory(t)
	s := cache.New(m, quiet(nil))
	defer s.Close()
	keys := auth.NewKeyring(m, nil)
	for range 50 {
		r, key, err := keys.Create(t.Context(), auth.Grant{Name: "n"})
		if err != nil {
			t.Fatal(err)
		}
		hash := auth.BLAKE2b(nil)(key.Reveal())
		stop := make(chan struct{})
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						look(s, hash)
					}
				}
			})
		}
		if err := look(s, hash); err != nil {
			t.Fatalf("a new key: %v", err)
		}
		next, _, err := keys.Rotate(t.Context(), r.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := look(s, hash); !errors.Is(err, auth.ErrKeyExpired) {
			t.Fatalf("after Rotate returned: %v", err)
		}
		if err := keys.Revoke(t.Context(), r.ID); err != nil {
			t.Fatal(err)
		}
		if err := look(s, hash); !errors.Is(err, auth.ErrKeyRevoked) {
			t.Fatalf("after Revoke returned: %v", err)
		}
		if err := look(s, next.Hash); err != nil {
			t.Fatalf("its successor: %v", err)
		}
		close(stop)
		group.Wait()
	}
}

// Whatever happens at the same time, no key is valid once its Revoke has returned, and none is unknown.
func TestEverythingAtOnce(t *testing.T) {
	m := memory(t)
	w := newWatched(m)
	s := cache.New(w, quiet(&cache.Options{MaxKeys: 64, MaxUnknown: 16, StaleIfError: time.Hour}))
	defer s.Close()
	w.report(auth.ChangesSeen, auth.Hash{})
	const keys = 300
	var inserted, revoked [keys]atomic.Bool
	stop := make(chan struct{})
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
					if err := look(s, record(i).Hash); !errors.Is(err, auth.ErrNotFound) {
						t.Errorf("nobody's key: %v", err)
					}
					continue
				}
				there, gone := inserted[i].Load(), revoked[i].Load()
				err := look(s, record(i).Hash)
				if gone && !errors.Is(err, auth.ErrKeyRevoked) || there && errors.Is(err, auth.ErrNotFound) {
					t.Errorf("key %d, inserted %v, revoked %v: %v", i, there, gone, err)
				}
			}
		})
	}
	group.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				w.report(auth.ChangesLost, auth.Hash{})
				w.report(auth.ChangesSeen, auth.Hash{})
			}
		}
	})
	for i := range keys {
		if err := m.Insert(t.Context(), record(i)); err != nil {
			t.Fatal(err)
		}
		w.report(auth.RecordChanged, record(i).Hash)
		inserted[i].Store(true)
		if j := i / 2; i%2 == 1 {
			m.Revoke(t.Context(), record(j).ID, time.Now())
			w.report(auth.RecordChanged, record(j).Hash)
			revoked[j].Store(true)
		}
		runtime.Gosched()
	}
	close(stop)
	group.Wait()
}

func TestLogs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log bytes.Buffer
		o := &cache.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}
		w := newWatched(memory(t, record(1)))
		s := cache.New(w, o)
		w.report(auth.ChangesSeen, auth.Hash{})
		w.report(auth.RecordChanged, record(1).Hash)
		w.report(auth.ChangesLost, auth.Hash{})
		s.Close()
		got := log.String()
		if strings.Count(got, "\n") != 2 || !strings.Contains(got, "level=INFO") || !strings.Contains(got, "level=WARN") {
			t.Errorf("logged:\n%s", got)
		}
		log.Reset()

		w = newWatched(memory(t, record(1)))
		w.ended = errDown
		s = cache.New(w, o)
		synctest.Wait()
		for range 2 {
			wants(t, "a store that cannot be watched", s, &w.scripted, record(1).Hash, 1, nil)
		}
		s.Close()
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=ERROR") ||
			!strings.Contains(got, errDown.Error()) {
			t.Errorf("logged:\n%s", got)
		}
	})
}

// The logger is slog's default of the moment, unless one is given.
func TestDefaultLogger(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWatched(memory(t))
		s := cache.New(w, nil)
		defer s.Close()
		var log bytes.Buffer
		defer slog.SetDefault(slog.Default())
		slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
		w.report(auth.ChangesSeen, auth.Hash{})
		if !strings.Contains(log.String(), "reports its changes") {
			t.Errorf("logged: %q", log.String())
		}
	})
}

// The bubble ends only if no goroutine is left in it.
func TestClose(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWatched(memory(t, record(1)))
		s := cache.New(w, quiet(nil))
		w.report(auth.ChangesSeen, auth.Hash{})
		for n := range 100 {
			look(s, record(n).Hash)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			wants(t, "closed", s, &w.scripted, record(1).Hash, 1, nil)
		}

		w = newWatched(memory(t))
		w.slow = time.Second
		s = cache.New(w, quiet(nil))
		w.report(auth.ChangesSeen, auth.Hash{})
		start := time.Now()
		s.Close()
		if time.Since(start) != time.Second {
			t.Errorf("Close did not wait for Watch")
		}

		behind := &scripted{keys: memory(t, record(1))}
		s = cache.New(behind, quiet(nil))
		look(s, record(1).Hash)
		s.Close()
		for range 2 {
			wants(t, "closed, and never watched", s, behind, record(1).Hash, 1, nil)
		}
	})
}

func TestNewPanics(t *testing.T) {
	for want, f := range map[string]func(){
		"cache.New: the store is nil":                func() { cache.New(nil, nil) },
		"cache.New: MaxKeys -1 is negative":          func() { cache.New(memory(t), &cache.Options{MaxKeys: -1}) },
		"cache.New: MaxUnknown -2 is negative":       func() { cache.New(memory(t), &cache.Options{MaxUnknown: -2}) },
		"cache.New: TTL -1s is negative":             func() { cache.New(memory(t), &cache.Options{TTL: -time.Second}) },
		"cache.New: UnknownTTL -1ns is negative":     func() { cache.New(memory(t), &cache.Options{UnknownTTL: -1}) },
		"cache.New: StaleIfError -1ns is negative":   func() { cache.New(memory(t), &cache.Options{StaleIfError: -1}) },
		"cache.New: LookupTimeout -1m0s is negative": func() { cache.New(memory(t), &cache.Options{LookupTimeout: -time.Minute}) },
	} {
		func() {
			defer func() {
				if got := recover(); got != want {
					t.Errorf("got panic %v, want %s", got, want)
				}
			}()
			f()
		}()
	}
}

// A record that is handed out is the caller's to change.
func TestRecordsAreCopies(t *testing.T) {
	s := cache.New(memory(t, record(1)), quiet(nil))
	defer s.Close()
	for range 2 {
		r, err := s.Lookup(t.Context(), record(1).Hash)
		if err != nil || r.Scopes[0] != "documents.read" {
			t.Fatalf("got %v, %v", r.Scopes, err)
		}
		r.Scopes[0] = "*"
	}
}

// A time to live begins when the store is asked, however long it takes: it may have read at once.
func TestTimeToLiveBeginsWithTheQuestion(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		behind := &scripted{keys: memory(t, record(1))}
		behind.set(func(ctx context.Context, hash auth.Hash) (auth.Record, error) {
			defer time.Sleep(2 * time.Second)
			return behind.keys.Lookup(ctx, hash)
		})
		s := cache.New(behind, quiet(&cache.Options{TTL: 3 * time.Second, UnknownTTL: 3 * time.Second}))
		defer s.Close()
		wants(t, "first", s, behind, record(1).Hash, 1, nil)
		time.Sleep(time.Second)
		wants(t, "three seconds after it was asked", s, behind, record(1).Hash, 1, nil)
		wants(t, "unknown", s, behind, record(2).Hash, 1, auth.ErrNotFound)
		time.Sleep(time.Second)
		wants(t, "unknown, three seconds after it was asked", s, behind, record(2).Hash, 1, auth.ErrNotFound)
	})
}

// A type that embeds a SnapshotStore and has a Lookup of its own is asked by that.
func TestEmbeddedSnapshotStore(t *testing.T) {
	s := cache.New(denying{memory(t, record(1))}, quiet(nil))
	defer s.Close()
	if err := look(s, record(1).Hash); !errors.Is(err, auth.ErrNotFound) {
		t.Error(err)
	}
}

type denying struct{ *auth.MemoryStore }

func (denying) Lookup(context.Context, auth.Hash) (auth.Record, error) {
	return auth.Record{}, auth.ErrNotFound
}
