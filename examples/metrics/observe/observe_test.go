package observe_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/examples/metrics/observe"
	"github.com/insigner/auth/keyring"
)

var errDown = errors.New("the database is down")

func TestResults(t *testing.T) {
	background := context.Background()
	canceled, cancel := context.WithCancel(background)
	cancel()
	late, stop := context.WithTimeout(background, 0)
	defer stop()
	fails := func(err error) lookup { return func(context.Context) (*auth.Record, error) { return nil, err } }
	for _, test := range []struct {
		what  string
		ctx   context.Context
		store lookup
		want  observe.Result
	}{
		{"found", background, found, observe.Found},
		{"found although the client left", canceled, found, observe.Found},
		{"unknown", background, fails(auth.ErrNotFound), observe.NotFound},
		{"unknown, wrapped", background, fails(fmt.Errorf("no: %w", auth.ErrNotFound)), observe.NotFound},
		{"unknown although it is late", late, fails(auth.ErrNotFound), observe.NotFound},
		{"down", background, fails(errDown), observe.Failed},
		{"neither a record nor an error", background, fails(nil), observe.Failed},
		{"the client left", canceled, fails(canceled.Err()), observe.Canceled},
		{"the client left, another error", canceled, fails(errDown), observe.Canceled},
		{"canceled by the store itself", background, fails(context.Canceled), observe.Failed},
		{"late", late, fails(late.Err()), observe.Timeout},
		{"late, another error", late, fails(errDown), observe.Timeout},
		{"a timeout of the store itself", background, fails(context.DeadlineExceeded), observe.Timeout},
	} {
		var d diary
		store := observe.Store(test.store, d.hooks())
		wantRecord, wantErr := test.store(test.ctx)
		record, err := store.Lookup(test.ctx, auth.Hash{})
		if err != wantErr {
			t.Errorf("%s: got error %v, want %v", test.what, err, wantErr)
		}
		if (record == nil) != (wantRecord == nil) {
			t.Errorf("%s: got record %v, want %v", test.what, record, wantRecord)
		}
		d.check(t, test.what, "started", string(test.want))
	}
}

func TestPanic(t *testing.T) {
	var d diary
	store := observe.Store(lookup(func(context.Context) (*auth.Record, error) { panic("broken") }), d.hooks())
	defer func() {
		if v := recover(); v != "broken" {
			t.Errorf("got panic %v, want that of the store", v)
		}
		d.check(t, "a panic", "started", "error")
	}()
	store.Lookup(t.Context(), auth.Hash{})
}

// A store becomes a Watcher exactly if package cache would watch it.
func TestWatcher(t *testing.T) {
	w := &watched{lookup: found}
	cached := cache.New(new(keyring.MemoryStore), &cache.Options{Logger: slog.New(slog.DiscardHandler)})
	defer cached.Close()
	for _, test := range []struct {
		what  string
		store auth.Store
		want  bool
	}{
		{"a Watcher", w, true},
		{"wrapped", wrapper{w}, true},
		{"wrapped twice", wrapper{wrapper{w}}, true},
		{"observed twice", observe.Store(w, new(diary).hooks()), true},
		{"a Store", lookup(found), false},
		{"a wrapped Store", wrapper{lookup(found)}, false},
		{"wraps nothing", wrapper{}, false},
		{"hidden", hider{w}, false},
		{"a Store observed twice", observe.Store(lookup(found), new(diary).hooks()), false},
		{"a cache", cached, false},
	} {
		var d diary
		if _, got := observe.Store(test.store, d.hooks()).(auth.Watcher); got != test.want {
			t.Errorf("%s: got a Watcher %v, want %v", test.what, got, test.want)
		}
		if test.want {
			d.check(t, test.what, "up false")
		} else {
			d.check(t, test.what)
		}
	}
}

func TestWatch(t *testing.T) {
	const started, changed, lost = auth.WatchStarted, auth.RecordChanged, auth.WatchLost
	for _, test := range []struct {
		what  string
		kinds []auth.ChangeKind
		stop  bool // the context is done before Watch returns
		want  []string
	}{
		{"started", []auth.ChangeKind{started}, false, []string{"up true", "lost", "up false"}},
		{"stopped", []auth.ChangeKind{started}, true, []string{"up true", "up false", "up false"}},
		{"impossible", nil, false, []string{"up false"}},
		{"stopped before the start", nil, true, []string{"up false", "up false"}},
		{"changes", []auth.ChangeKind{started, changed, changed}, true,
			[]string{"up true", "changed", "changed", "up false", "up false"}},
		{"lost", []auth.ChangeKind{started, lost}, true, []string{"up true", "lost", "up false", "up false", "up false"}},
		{"lost twice", []auth.ChangeKind{started, lost, lost}, true,
			[]string{"up true", "lost", "up false", "up false", "up false", "up false"}},
		{"lost and back", []auth.ChangeKind{started, lost, started}, true,
			[]string{"up true", "lost", "up false", "up true", "up false", "up false"}},
		{"started twice", []auth.ChangeKind{started, started}, true,
			[]string{"up true", "up true", "up false", "up false"}},
	} {
		var d diary
		w := &watched{found, make(chan *watch)}
		store := observe.Store(w, d.hooks()).(auth.Watcher)
		d.check(t, test.what+": not watched", "up false")
		ctx, cancel := context.WithCancel(t.Context())
		var got []auth.ChangeKind
		returned := make(chan error)
		go func() { returned <- store.Watch(ctx, func(c auth.Change) { got = append(got, c.Kind) }) }()
		call := <-w.watches
		d.check(t, test.what+": called", "up false")
		call.report(test.kinds...)
		if test.stop {
			cancel()
		}
		call.end <- errDown
		if err := <-returned; err != errDown {
			t.Errorf("%s: Watch returned %v, want the error of the store", test.what, err)
		}
		cancel()
		if fmt.Sprint(got) != fmt.Sprint(test.kinds) {
			t.Errorf("%s: passed on %v, want %v", test.what, got, test.kinds)
		}
		d.check(t, test.what, test.want...)
	}
}

// A cache and a publisher can watch the same store. It is up if both are.
func TestTwoWatches(t *testing.T) {
	var d diary
	w := &watched{found, make(chan *watch)}
	store := observe.Store(w, d.hooks()).(auth.Watcher)
	begin := func() (*watch, func()) {
		ctx, cancel := context.WithCancel(t.Context())
		returned := make(chan error)
		go func() { returned <- store.Watch(ctx, func(auth.Change) {}) }()
		call := <-w.watches
		return call, func() {
			cancel()
			call.end <- ctx.Err()
			<-returned
		}
	}
	first, stopFirst := begin()
	first.report(auth.WatchStarted)
	d.check(t, "the first", "up false", "up false", "up true")
	second, stopSecond := begin()
	d.check(t, "the second begins", "up false")
	second.report(auth.WatchStarted)
	d.check(t, "the second", "up true")
	first.report(auth.RecordChanged)
	second.report(auth.RecordChanged)
	d.check(t, "both report a change", "changed")
	second.report(auth.WatchLost)
	d.check(t, "the second is lost", "lost", "up false")
	second.report(auth.WatchStarted)
	d.check(t, "the second is back", "up true")
	stopFirst()
	d.check(t, "the first ends", "up false", "up true")
	second.report(auth.RecordChanged)
	d.check(t, "the second reports a change", "changed")
	stopSecond()
	d.check(t, "the second ends", "up false", "up false")
}

// The cache hears of a change before the hooks do.
func TestNotifyComesFirst(t *testing.T) {
	var d diary
	w := &watched{found, make(chan *watch)}
	store := observe.Store(w, d.hooks()).(auth.Watcher)
	returned := make(chan error)
	go func() { returned <- store.Watch(t.Context(), func(auth.Change) { d.note("notify") }) }()
	call := <-w.watches
	call.report(auth.RecordChanged)
	call.end <- nil
	<-returned
	d.check(t, "a change", "up false", "up false", "notify", "changed", "up false")
}

// TestCache checks that a cache watches an observed store and discards what has
// changed.
func TestCache(t *testing.T) {
	var d diary
	var log bytes.Buffer
	store := new(keyring.MemoryStore)
	key := authtest.NewKey(t, store, "documents.read")
	cached := cache.New(observe.Store(store, d.hooks()), &cache.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	a := auth.New(cached, nil)
	waitUntilWatched(t, &d)
	var id string
	for n := range 3 {
		r, err := a.Verify(t.Context(), key.Reveal())
		if err != nil {
			t.Fatalf("request %d: %v", n, err)
		}
		id = r.ID
	}
	d.check(t, "three requests with one key", "started", "found")
	if err := keyring.NewManager(store, nil).Unconfined("test").Revoke(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Verify(t.Context(), key.Reveal()); !errors.Is(err, auth.ErrKeyRevoked) {
		t.Errorf("revoked: got %v, want ErrKeyRevoked", err)
	}
	d.check(t, "revoked", "changed", "started", "found")
	cached.Close()
	if strings.Contains(log.String(), "not watching") {
		t.Errorf("the cache says: %s", log.String())
	}
}

// waitUntilWatched waits until the newest note is that the watch is up, and
// forgets the notes.
func waitUntilWatched(t *testing.T, d *diary) {
	t.Helper()
	for watched := false; !watched; time.Sleep(time.Millisecond) {
		if t.Context().Err() != nil {
			t.Fatal("the store is not watched")
		}
		d.mu.Lock()
		if n := len(d.lines); n > 0 && d.lines[n-1] == "up true" {
			watched, d.lines = true, nil
		}
		d.mu.Unlock()
	}
}

// The store is one that package authtest accepts.
func TestLookup(t *testing.T) {
	authtest.TestLookup(t, func(t *testing.T, records ...auth.Record) auth.Store {
		store := new(keyring.MemoryStore)
		for _, r := range records {
			if err := store.Insert(t.Context(), &r); err != nil {
				t.Fatal(err)
			}
		}
		return observe.Store(store, new(diary).hooks())
	})
}
