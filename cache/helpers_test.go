package cache_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/keyring"
)

// record returns a record that differs from that of any other n.
func record(n int) *auth.Record {
	r := &auth.Record{
		ID:        fmt.Sprint("key_", n),
		Name:      "n",
		Scopes:    auth.Scopes{"documents.read"},
		CreatedAt: time.Now(),
		Revision:  1,
	}
	r.Chain = r.ID
	copy(r.Hash[:], fmt.Sprintf("%032d", n))
	return r
}

// memory returns a store that holds these records.
func memory(t testing.TB, records ...*auth.Record) *keyring.MemoryStore {
	t.Helper()
	m := new(keyring.MemoryStore)
	for _, r := range records {
		if err := m.Insert(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// update changes a record in m.
func update(t testing.TB, m *keyring.MemoryStore, id string, change func(r *auth.Record)) {
	t.Helper()
	r, err := m.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	change(r)
	r.Revision++
	if err := m.Update(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
}

func revoke(r *auth.Record)  { r.RevokedAt = time.Now() }
func restore(r *auth.Record) { r.RevokedAt = time.Time{} }
func disable(r *auth.Record) { r.DisabledAt = time.Now() }
func enable(r *auth.Record)  { r.DisabledAt = time.Time{} }

// newCache returns a cache that is closed when the test ends. Unless opts has a
// Logger, it logs nothing.
func newCache(t testing.TB, store auth.Store, opts *cache.Options) *cache.Store {
	t.Helper()
	var o cache.Options
	if opts != nil {
		o = *opts
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := cache.New(store, &o)
	t.Cleanup(func() { s.Close() })
	return s
}

type lookupFunc = func(ctx context.Context, hash auth.Hash) (*auth.Record, error)

// A scripted store counts its lookups, and does what the test says. It is not a
// Watcher.
type scripted struct {
	keys   auth.Store
	calls  atomic.Int64
	script atomic.Pointer[lookupFunc] // if not nil, it replaces the lookup in keys
}

func (s *scripted) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	s.calls.Add(1)
	if script := s.script.Load(); script != nil {
		return (*script)(ctx, hash)
	}
	return s.keys.Lookup(ctx, hash)
}

// do sets the script. If f is nil, lookups are those in keys again.
func (s *scripted) do(f lookupFunc) {
	if f == nil {
		s.script.Store(nil)
		return
	}
	s.script.Store(&f)
}

// fail makes all lookups fail.
func (s *scripted) fail() {
	s.do(func(context.Context, auth.Hash) (*auth.Record, error) { return nil, errDown })
}

// hang makes all lookups wait until their context is done.
func (s *scripted) hang() { s.do(hang) }

func hang(ctx context.Context, _ auth.Hash) (*auth.Record, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

var errDown = errors.New("the database is down")

// A watched store is a scripted one whose test says what is reported.
type watched struct {
	scripted
	memory *keyring.MemoryStore // the same as keys; its own reports are not used
	notify func(auth.Change)
	broken error         // what Watch returns at once, if not nil
	slow   time.Duration // how long Watch takes to return at the end
	ready  chan struct{} // closed once notify is set
}

func newWatched(t testing.TB, records ...*auth.Record) *watched {
	t.Helper()
	m := memory(t, records...)
	return &watched{scripted: scripted{keys: m}, memory: m, ready: make(chan struct{})}
}

func (w *watched) Watch(ctx context.Context, notify func(auth.Change)) error {
	if w.broken != nil {
		return w.broken
	}
	w.notify = notify
	close(w.ready)
	<-ctx.Done()
	w.notify(auth.Change{Kind: auth.WatchLost})
	time.Sleep(w.slow)
	return ctx.Err()
}

// report reports a change to the cache that watches w.
func (w *watched) report(kind auth.ChangeKind) { w.send(auth.Change{Kind: kind}) }

// changed reports that the record with that hash changed.
func (w *watched) changed(hash auth.Hash) {
	w.send(auth.Change{Kind: auth.RecordChanged, Hash: hash})
}

func (w *watched) send(c auth.Change) {
	<-w.ready
	w.notify(c)
}

// decide looks a hash up and returns what an Authenticator would make of it.
func decide(s auth.Store, hash auth.Hash) error {
	r, err := s.Lookup(context.Background(), hash)
	if err != nil {
		return err
	}
	return r.Check(time.Now())
}

// check reports if the decision about a hash is not want, or if the number of
// lookups that it takes in the store is not calls.
func check(t *testing.T, what string, s auth.Store, store *scripted, hash auth.Hash, calls int64, want error) {
	t.Helper()
	before := store.calls.Load()
	if got := decide(s, hash); !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
	if got := store.calls.Load() - before; got != calls {
		t.Errorf("%s: got %d lookups in the store, want %d", what, got, calls)
	}
}

// A logbook keeps what is logged, a line for each record.
type logbook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logbook) logger() *slog.Logger { return slog.New(l) }

// read returns the lines and removes them.
func (l *logbook) read() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

func (l *logbook) Handle(_ context.Context, r slog.Record) error {
	line := fmt.Sprint(r.Level, " ", r.Message)
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	return nil
}

func (l *logbook) Enabled(context.Context, slog.Level) bool { return true }
func (l *logbook) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logbook) WithGroup(string) slog.Handler            { return l }
