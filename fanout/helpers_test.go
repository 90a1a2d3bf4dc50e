package fanout_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/fanout"
	"github.com/insigner/auth/internal/redistest"
	"github.com/insigner/auth/keyring"
)

func TestMain(m *testing.M) { os.Exit(redistest.Main(m)) }

var (
	quiet  = slog.New(slog.DiscardHandler)
	secret = []byte("0123456789abcdef0123456789abcdef")
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// options are those of most tests.
func options() *fanout.Options { return &fanout.Options{Secret: secret, Logger: quiet} }

// A broker is a Conn in memory.
type broker struct {
	mu   sync.Mutex
	subs map[string][]*subscriber
	fail error // what Publish and Subscribe return

	// deliver calls put with what a subscriber is to get of a message. If nil,
	// it gets the message.
	deliver func(channel string, message []byte, put func(message []byte))
}

type subscriber struct {
	receive func([]byte)
	queue   chan []byte
}

func (b *broker) Publish(ctx context.Context, channel string, message []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	for _, s := range b.subs[channel] {
		put := func(m []byte) { s.queue <- slices.Clone(m) }
		if b.deliver != nil {
			b.deliver(channel, message, put)
		} else {
			put(message)
		}
	}
	return ctx.Err()
}

func (b *broker) Subscribe(ctx context.Context, channel string, ready func(), receive func([]byte)) error {
	s := &subscriber{receive, make(chan []byte, 10_000)}
	b.mu.Lock()
	if b.fail != nil {
		defer b.mu.Unlock()
		return b.fail
	}
	if b.subs == nil {
		b.subs = make(map[string][]*subscriber)
	}
	b.subs[channel] = append(b.subs[channel], s)
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.subs[channel] = slices.DeleteFunc(b.subs[channel], func(o *subscriber) bool { return o == s })
	}()
	ready()
	for {
		select {
		case m := <-s.queue:
			receive(m)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// set changes the broker.
func (b *broker) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// record makes the broker keep what is published on a channel.
func (b *broker) record(channel string) (messages func() [][]byte) {
	var list [][]byte
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		b.Subscribe(ctx, channel, func() { close(ready) }, func(m []byte) { list = append(list, m) })
	}()
	<-ready
	return func() [][]byte { cancel(); <-done; return list }
}

// publish starts Publish, and returns a function that ends it and returns its
// error.
func publish(t testing.TB, w auth.Watcher, conn fanout.Conn, opts *fanout.Options) (end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- fanout.Publish(ctx, w, conn, opts) }()
	end = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := end(); !errors.Is(err, context.Canceled) {
			t.Errorf("Publish returned %v, want %v", err, context.Canceled)
		}
	})
	return end
}

// A watch is a call of Watch, with what it has reported.
type watch struct {
	t       testing.TB
	end     func() error
	mu      sync.Mutex
	changes []auth.Change
	news    chan struct{}
}

func watchOf(t testing.TB, w auth.Watcher) *watch {
	ctx, cancel := context.WithCancel(context.Background())
	got := &watch{t: t, news: make(chan struct{}, 1)}
	ended := make(chan error, 1)
	go func() { ended <- w.Watch(ctx, got.notify) }()
	got.end = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := got.end(); !errors.Is(err, context.Canceled) {
			t.Errorf("Watch returned %v, want %v", err, context.Canceled)
		}
	})
	return got
}

func (w *watch) notify(c auth.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes = append(w.changes, c)
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// all returns what was reported, and forgets it.
func (w *watch) all() []auth.Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.changes
	w.changes = nil
	return got
}

// expect waits for changes, in this order, and fails if another comes.
func (w *watch) expect(want ...auth.Change) {
	w.t.Helper()
	var got []auth.Change
	timeout := time.After(60 * time.Second)
	for len(got) < len(want) {
		got = append(got, w.all()...)
		if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
			break
		}
		if len(got) == len(want) {
			return
		}
		select {
		case <-w.news:
		case <-timeout:
			w.t.Fatalf("reported %v, want %v, and no more came in a minute", got, want)
		}
	}
	w.t.Fatalf("reported %v, want %v", got, want)
}

// quiet fails if something was reported.
func (w *watch) quiet(what string) {
	w.t.Helper()
	if got := w.all(); len(got) > 0 {
		w.t.Errorf("%s: reported %v, want nothing", what, got)
	}
}

const changes, hellos = "auth:api:changes", "auth:api:hellos"

// A setup is a store, a broker, a publisher and a subscriber that is watched.
type setup struct {
	store *keyring.MemoryStore
	conn  *broker
	end   func() error // ends the publisher
	watch *watch
}

func newSetup(t *testing.T) *setup {
	t.Helper()
	s := &setup{store: new(keyring.MemoryStore), conn: new(broker)}
	s.end = publish(t, s.store, s.conn, options())
	s.watch = watchOf(t, fanout.New(s.store, s.conn, options()))
	s.watch.expect(started)
	return s
}

var (
	started = auth.Change{Kind: auth.WatchStarted}
	lost    = auth.Change{Kind: auth.WatchLost}
)

func changed(r *auth.Record) auth.Change { return auth.Change{Kind: auth.RecordChanged, Hash: r.Hash} }

var scheme auth.Scheme

// newRecord returns a record with a random hash.
func newRecord() *auth.Record {
	key := scheme.NewKey()
	hash := scheme.Hashes(key)[0]
	id := hash.String()[:32]
	return &auth.Record{ID: id, Hash: hash, Chain: id, Revision: 1, Owner: "org_1", Name: "test"}
}

// insert inserts a new record.
func insert(t testing.TB, store keyring.Store) *auth.Record {
	t.Helper()
	r := newRecord()
	must(t, store.Insert(context.Background(), r))
	return r
}
