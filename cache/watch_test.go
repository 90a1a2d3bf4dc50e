package cache_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
)

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, record(1), record(2))
		s := newCache(t, w, nil)
		a, b, unknown := record(1).Hash, record(2).Hash, record(3).Hash
		for range 2 {
			check(t, "before the start", s, &w.scripted, a, 1, nil)
			check(t, "unknown, before the start", s, &w.scripted, unknown, 1, auth.ErrNotFound)
		}
		w.report(auth.WatchStarted)
		check(t, "started", s, &w.scripted, a, 1, nil)
		check(t, "started, cached", s, &w.scripted, a, 0, nil)
		check(t, "another", s, &w.scripted, b, 1, nil)
		w.changed(a)
		check(t, "changed", s, &w.scripted, a, 1, nil)
		check(t, "the other did not change", s, &w.scripted, b, 0, nil)

		check(t, "unknown", s, &w.scripted, unknown, 1, auth.ErrNotFound)
		check(t, "unknown, cached", s, &w.scripted, unknown, 0, auth.ErrNotFound)
		w.memory.Insert(t.Context(), record(3))
		w.changed(unknown)
		check(t, "inserted", s, &w.scripted, unknown, 1, nil)

		w.memory.Delete(t.Context(), record(1).ID, "test")
		w.changed(a)
		check(t, "deleted", s, &w.scripted, a, 1, auth.ErrNotFound)

		w.report(auth.WatchLost)
		for range 2 {
			check(t, "lost", s, &w.scripted, b, 1, nil)
			check(t, "unknown, lost", s, &w.scripted, a, 1, auth.ErrNotFound)
		}
		w.report(auth.WatchStarted)
		check(t, "started again", s, &w.scripted, b, 1, nil)
		check(t, "unknown, started again", s, &w.scripted, a, 1, auth.ErrNotFound)
		check(t, "started again, cached", s, &w.scripted, b, 0, nil)
		w.report(auth.WatchStarted)
		check(t, "started twice", s, &w.scripted, b, 1, nil)
		check(t, "started twice, cached", s, &w.scripted, b, 0, nil)
	})
}

// What a lookup found before a change is neither answered nor cached.
func TestChangeDuringLookup(t *testing.T) {
	for what, report := range map[string]func(w *watched){
		"changed": func(w *watched) { w.changed(record(1).Hash) },
		"lost":    func(w *watched) { w.report(auth.WatchLost) },
		"started": func(w *watched) { w.report(auth.WatchStarted) },
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWatched(t, record(1))
			s := newCache(t, w, nil)
			w.report(auth.WatchStarted)
			gate := make(chan struct{})
			w.do(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
				r, err := w.keys.Lookup(ctx, hash)
				<-gate
				return r, err
			})
			results := make(chan error, 10)
			for range cap(results) {
				go func() { results <- decide(s, record(1).Hash) }()
			}
			synctest.Wait()
			update(t, w.memory, record(1).ID, revoke)
			report(w)
			close(gate)
			for range cap(results) {
				if got := <-results; !errors.Is(got, auth.ErrKeyRevoked) {
					t.Errorf("%s, a request that waited: got error %v, want %v", what, got, auth.ErrKeyRevoked)
				}
			}
			if got := decide(s, record(1).Hash); !errors.Is(got, auth.ErrKeyRevoked) {
				t.Errorf("%s, the next request: got error %v, want %v", what, got, auth.ErrKeyRevoked)
			}
		})
	}
}

// A request after a change does not wait for a lookup that began before it. The
// answer of that lookup does not replace the newer one.
func TestRequestAfterChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, record(1))
		s := newCache(t, w, nil)
		w.report(auth.WatchStarted)
		gate := make(chan struct{})
		w.do(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
			r, err := w.keys.Lookup(ctx, hash)
			<-gate
			return r, err
		})
		before := make(chan error, 1)
		go func() { before <- decide(s, record(1).Hash) }()
		synctest.Wait()
		update(t, w.memory, record(1).ID, revoke)
		w.changed(record(1).Hash)
		w.do(nil)
		check(t, "a request after the change", s, &w.scripted, record(1).Hash, 1, auth.ErrKeyRevoked)
		close(gate)
		if got := <-before; !errors.Is(got, auth.ErrKeyRevoked) {
			t.Errorf("a request before the change: got error %v, want %v", got, auth.ErrKeyRevoked)
		}
		check(t, "the next request", s, &w.scripted, record(1).Hash, 0, auth.ErrKeyRevoked)
	})
}

// A lookup that began before a change may be canceled later. That does not
// concern the lookup after the change.
func TestAbandonedLookupAfterChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, record(1))
		s := newCache(t, w, nil)
		w.report(auth.WatchStarted)
		gate := make(chan struct{})
		w.do(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
			<-gate
			return record(1), ctx.Err()
		})
		ctx, cancel := context.WithCancel(t.Context())
		lookup(ctx, s, record(1).Hash)
		synctest.Wait()
		w.changed(record(1).Hash)
		after := lookup(t.Context(), s, record(1).Hash)
		cancel()
		time.Sleep(time.Second)
		another := lookup(t.Context(), s, record(1).Hash)
		synctest.Wait()
		close(gate)
		for what, result := range map[string]<-chan error{"after the change": after, "another": another} {
			if got := <-result; got != nil {
				t.Errorf("%s: got error %v, want nil", what, got)
			}
		}
		if got := w.calls.Load(); got != 2 {
			t.Errorf("got %d lookups in the store, want 2: one before the change, one after it", got)
		}
	})
}

// A record that changes during every lookup is not looked up without end.
func TestChangeDuringEveryLookup(t *testing.T) {
	w := newWatched(t, record(1))
	s := newCache(t, w, nil)
	w.report(auth.WatchStarted)
	w.do(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
		w.changed(hash)
		return w.keys.Lookup(ctx, hash)
	})
	check(t, "a valid key", s, &w.scripted, record(1).Hash, 8, nil)
	update(t, w.memory, record(1).ID, revoke)
	check(t, "a revoked key", s, &w.scripted, record(1).Hash, 8, auth.ErrKeyRevoked)
}

// A key that was enabled again, or restored, is accepted after the next lookup.
func TestRecordIsGoodAgain(t *testing.T) {
	for _, test := range []struct {
		what       string
		bad, good  func(*auth.Record)
		want       error
		reportGood func(w *watched)
	}{
		{"enabled, reported", disable, enable, auth.ErrKeyDisabled, func(w *watched) { w.changed(record(1).Hash) }},
		{"restored, reported", revoke, restore, auth.ErrKeyRevoked, func(w *watched) { w.changed(record(1).Hash) }},
		{"enabled, after a loss", disable, enable, auth.ErrKeyDisabled, func(w *watched) {
			w.report(auth.WatchLost)
			w.report(auth.WatchStarted)
		}},
		{"restored, after a loss", revoke, restore, auth.ErrKeyRevoked, func(w *watched) {
			w.report(auth.WatchLost)
			w.report(auth.WatchStarted)
		}},
		{"enabled, after TTL", disable, enable, auth.ErrKeyDisabled, func(*watched) { time.Sleep(5 * time.Minute) }},
		{"restored, after TTL", revoke, restore, auth.ErrKeyRevoked, func(*watched) { time.Sleep(5 * time.Minute) }},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWatched(t, record(1))
			s := newCache(t, w, nil)
			w.report(auth.WatchStarted)
			check(t, test.what+": first", s, &w.scripted, record(1).Hash, 1, nil)
			update(t, w.memory, record(1).ID, test.bad)
			w.changed(record(1).Hash)
			check(t, test.what+": bad", s, &w.scripted, record(1).Hash, 1, test.want)
			check(t, test.what+": bad, cached", s, &w.scripted, record(1).Hash, 0, test.want)
			update(t, w.memory, record(1).ID, test.good)
			check(t, test.what+": before the report", s, &w.scripted, record(1).Hash, 0, test.want)
			test.reportGood(w)
			check(t, test.what+": good", s, &w.scripted, record(1).Hash, 1, nil)
			check(t, test.what+": good, cached", s, &w.scripted, record(1).Hash, 0, nil)
		})
	}
}

// A store that disables keys in a table of its own, and reports nothing.
func TestRecordIsGoodAgainWithoutWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memory(t, record(1))
		store := &scripted{keys: m}
		s := newCache(t, store, nil)
		update(t, m, record(1).ID, revoke)
		check(t, "revoked", s, store, record(1).Hash, 1, auth.ErrKeyRevoked)
		update(t, m, record(1).ID, restore)
		check(t, "restored, before TTL", s, store, record(1).Hash, 0, auth.ErrKeyRevoked)
		time.Sleep(30 * time.Second)
		check(t, "restored, after TTL", s, store, record(1).Hash, 1, nil)
	})
}

// If Watch returns, the cache trusts it no longer.
func TestWatchReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &quitter{scripted{keys: memory(t, record(1))}, make(chan struct{})}
		s := newCache(t, w, nil)
		synctest.Wait()
		check(t, "watched", s, &w.scripted, record(1).Hash, 1, nil)
		check(t, "watched, cached", s, &w.scripted, record(1).Hash, 0, nil)
		close(w.quit)
		synctest.Wait()
		for range 2 {
			check(t, "not watched", s, &w.scripted, record(1).Hash, 1, nil)
		}
	})
}

// A quitter watches until quit is closed, and reports no WatchLost.
type quitter struct {
	scripted
	quit chan struct{}
}

func (q *quitter) Watch(ctx context.Context, notify func(auth.Change)) error {
	notify(auth.Change{Kind: auth.WatchStarted})
	select {
	case <-q.quit:
		return errDown
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A logging store adds something to each lookup. New finds what it wraps.
type logging struct {
	auth.Store
	calls *int
}

func (l logging) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	*l.calls++
	return l.Store.Lookup(ctx, hash)
}

func (l logging) Unwrap() auth.Store { return l.Store }

// A hiding store embeds an interface value, so it has no method Watch.
type hiding struct{ auth.Store }

// An embedding store embeds a Watcher, so it has its method Watch.
type embedding struct{ *watched }

func (e embedding) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	return e.watched.Lookup(ctx, hash)
}

func TestWatchThroughWrappers(t *testing.T) {
	type wrapFunc = func(t *testing.T, w *watched) auth.Store
	log := func(s auth.Store) auth.Store { return logging{s, new(int)} }
	for _, test := range []struct {
		what string
		wrap wrapFunc
		want bool
	}{
		{"a Watcher", func(_ *testing.T, w *watched) auth.Store { return w }, true},
		{"Unwrap", func(_ *testing.T, w *watched) auth.Store { return log(w) }, true},
		{"Unwrap twice", func(_ *testing.T, w *watched) auth.Store { return log(log(w)) }, true},
		{"embeds a Watcher", func(_ *testing.T, w *watched) auth.Store { return embedding{w} }, true},
		{"not a Watcher", func(_ *testing.T, w *watched) auth.Store { return &w.scripted }, false},
		{"embeds a Store", func(_ *testing.T, w *watched) auth.Store { return hiding{w} }, false},
		{"Unwrap, not a Watcher", func(_ *testing.T, w *watched) auth.Store { return log(&w.scripted) }, false},
		{"Unwrap, embeds a Store", func(_ *testing.T, w *watched) auth.Store { return log(hiding{w}) }, false},
		{"embeds a Store, Unwrap", func(_ *testing.T, w *watched) auth.Store { return hiding{log(w)} }, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWatched(t, record(1))
			s := newCache(t, test.wrap(t, w), nil)
			synctest.Wait()
			if got := w.notify != nil; got != test.want {
				t.Errorf("%s: got watched %v, want %v", test.what, got, test.want)
			}
			if !test.want {
				return
			}
			w.report(auth.WatchStarted)
			check(t, test.what, s, &w.scripted, record(1).Hash, 1, nil)
			update(t, w.memory, record(1).ID, revoke)
			w.changed(record(1).Hash)
			check(t, test.what+", revoked", s, &w.scripted, record(1).Hash, 1, auth.ErrKeyRevoked)
		})
	}
}

// A cache of a cache does not watch past the inner one, which could still
// answer with what was before the report.
func TestCacheIsNotWatched(t *testing.T) {
	var s any = newCache(t, newWatched(t), nil)
	if _, ok := s.(auth.Watcher); ok {
		t.Errorf("got a Watcher")
	}
	if _, ok := s.(interface{ Unwrap() auth.Store }); ok {
		t.Errorf("got a method Unwrap")
	}
}

// Unwrap may return nil.
func TestUnwrapNil(t *testing.T) {
	w := newWatched(t, record(1))
	s := newCache(t, unwrapsNil{&w.scripted}, nil)
	check(t, "not watched", s, &w.scripted, record(1).Hash, 1, nil)
}

type unwrapsNil struct{ auth.Store }

func (unwrapsNil) Unwrap() auth.Store { return nil }

// Lookups go through the outermost wrapper.
func TestLookupsGoThroughWrapper(t *testing.T) {
	outer, inner := new(int), new(int)
	w := newWatched(t, record(1))
	s := newCache(t, logging{logging{w, inner}, outer}, nil)
	decide(s, record(1).Hash)
	if *outer != 1 {
		t.Errorf("got %d lookups through the outer wrapper, want 1", *outer)
	}
	if *inner != 1 {
		t.Errorf("got %d lookups through the inner wrapper, want 1", *inner)
	}
}

func TestLogs(t *testing.T) {
	const (
		watching = "INFO auth/cache: watching store for changes"
		lost     = "WARN auth/cache: lost watch on store; asking it for every request"
		broken   = "ERROR auth/cache: cannot watch store for changes; asking it for every request" +
			" error=the database is down"
		unwatch = "WARN auth/cache: not watching store for changes; a revoked key stays valid for a while"
	)
	report := func(kinds ...auth.ChangeKind) func(*watched) {
		return func(w *watched) {
			for _, kind := range kinds {
				w.report(kind)
			}
		}
	}
	for _, test := range []struct {
		what string
		wrap func(w *watched) auth.Store
		opts cache.Options
		run  func(w *watched)
		want []string
	}{
		{"a Watcher", watcher, cache.Options{}, report(auth.WatchStarted), []string{watching}},
		{"a change", watcher, cache.Options{}, report(auth.RecordChanged), nil},
		{"a loss", watcher, cache.Options{}, report(auth.WatchStarted, auth.WatchLost, auth.WatchStarted),
			[]string{watching, lost, watching}},
		{"Watch fails", watcher, cache.Options{}, func(w *watched) {}, []string{broken}},
		{"a wrapper with Unwrap", func(w *watched) auth.Store { return logging{w, new(int)} }, cache.Options{},
			report(auth.WatchStarted), []string{watching}},
		{"a wrapper without Unwrap", func(w *watched) auth.Store { return hiding{w} }, cache.Options{}, nil,
			[]string{unwatch + " store=cache_test.hiding at_most=30s"}},
		{"no Watcher", func(w *watched) auth.Store { return &w.scripted }, cache.Options{}, nil,
			[]string{unwatch + " store=*cache_test.scripted at_most=30s"}},
		{"no Watcher, with TTL", func(w *watched) auth.Store { return &w.scripted },
			cache.Options{TTL: time.Minute}, nil,
			[]string{unwatch + " store=*cache_test.scripted at_most=1m0s"}},
		{"no Watcher, with StaleIfError", func(w *watched) auth.Store { return &w.scripted },
			cache.Options{StaleIfError: time.Hour}, nil,
			[]string{unwatch + " store=*cache_test.scripted at_most=30s at_most_if_store_fails=1h0m30s"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			var logs logbook
			test.opts.Logger = logs.logger()
			w := newWatched(t, record(1))
			if slices.Equal(test.want, []string{broken}) {
				w.broken = errDown
			}
			s := cache.New(test.wrap(w), &test.opts)
			if test.run != nil {
				test.run(w)
			}
			synctest.Wait()
			s.Close() // is not logged
			if got := logs.read(); !slices.Equal(got, test.want) {
				t.Errorf("%s: got\n%q\nwant\n%q", test.what, got, test.want)
			}
		})
	}
}

func watcher(w *watched) auth.Store { return w }

// Without a Logger, it is the default of the moment.
func TestDefaultLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		s := cache.New(w, nil)
		defer s.Close()
		var logs logbook
		defer slog.SetDefault(slog.Default())
		slog.SetDefault(logs.logger())
		w.report(auth.WatchStarted)
		want := []string{"INFO auth/cache: watching store for changes"}
		if got := logs.read(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// A Watch that cannot work leaves the store in use for every request.
func TestWatchFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, record(1))
		w.broken = errDown
		s := newCache(t, w, nil)
		synctest.Wait()
		for n := range 2 {
			check(t, fmt.Sprint("lookup ", n), s, &w.scripted, record(1).Hash, 1, nil)
		}
	})
}
