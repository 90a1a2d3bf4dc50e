package fanout_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/fanout"
	"github.com/insigner/auth/keyring"
)

// What a publisher hears of is reported to all subscribers, by all publishers.
func TestChangesArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		var all []*watch
		for range 10 {
			w := watchOf(t, fanout.New(s.store, s.conn, options()))
			w.expect(started)
			all = append(all, w)
		}
		r := insert(t, s.store)
		for _, w := range all {
			w.expect(changed(r))
		}
		start := time.Now()
		s.end()
		for _, w := range all {
			w.expect(lost)
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("the end of the publisher was noticed after %v, want at once", took)
		}
	})
}

// A synced store reports its own changes before the call that made them returns,
// as authtest demands. That is not what New promises: the store waits for it.
type synced struct {
	keyring.Store
	watcher auth.Watcher

	mu      sync.Mutex
	watches map[*syncedWatch]bool
}

type syncedWatch struct {
	on   bool
	seen map[auth.Hash]int
	news chan struct{}
}

func (s *synced) Watch(ctx context.Context, notify func(auth.Change)) error {
	w := &syncedWatch{seen: make(map[auth.Hash]int), news: make(chan struct{}, 1)}
	s.mu.Lock()
	if s.watches == nil {
		s.watches = make(map[*syncedWatch]bool)
	}
	s.watches[w] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watches, w)
		close(w.news)
	}()
	return s.watcher.Watch(ctx, func(c auth.Change) {
		notify(c)
		s.mu.Lock()
		defer s.mu.Unlock()
		switch c.Kind {
		case auth.RecordChanged:
			w.seen[c.Hash]++
		default:
			w.on = c.Kind == auth.WatchStarted
		}
		select {
		case w.news <- struct{}{}:
		default:
		}
	})
}

// after makes a change and waits until each watch has reported it.
func (s *synced) after(hash auth.Hash, change func() error) error {
	s.mu.Lock()
	before := make(map[*syncedWatch]int)
	for w := range s.watches {
		if w.on {
			before[w] = w.seen[hash]
		}
	}
	s.mu.Unlock()
	err := change()
	if err != nil {
		return err
	}
	for w, n := range before {
		for {
			s.mu.Lock()
			done := !w.on || w.seen[hash] > n || !s.watches[w]
			s.mu.Unlock()
			if done {
				break
			}
			select {
			case <-w.news:
			case <-time.After(10 * time.Second):
				return errors.New("not reported in 10 seconds")
			}
		}
	}
	return nil
}

func (s *synced) Insert(ctx context.Context, r *auth.Record) error {
	return s.after(r.Hash, func() error { return s.Store.Insert(ctx, r) })
}

func (s *synced) Update(ctx context.Context, r, successor *auth.Record) error {
	last := r.Hash
	if successor != nil {
		last = successor.Hash
	}
	return s.after(last, func() error {
		return s.after(r.Hash, func() error { return s.Store.Update(ctx, r, successor) })
	})
}

func (s *synced) Delete(ctx context.Context, id, by string) error {
	r, err := s.Store.Get(ctx, id)
	if err != nil {
		return s.Store.Delete(ctx, id, by)
	}
	return s.after(r.Hash, func() error { return s.Store.Delete(ctx, id, by) })
}

func testStore(t *testing.T, newConn func(t *testing.T) fanout.Conn) {
	authtest.TestStore(t, func(t *testing.T) keyring.Store {
		store, conn, opts := new(keyring.MemoryStore), newConn(t), options()
		opts.LostAfter = 500 * time.Millisecond
		publish(t, store, conn, opts)
		return &synced{Store: store, watcher: fanout.New(store, conn, opts)}
	})
}

func TestStore(t *testing.T) {
	testStore(t, func(*testing.T) fanout.Conn { return new(broker) })
}

func TestLookupAndWatch(t *testing.T) {
	authtest.TestLookup(t, func(t *testing.T, records ...auth.Record) auth.Store {
		store, conn := new(keyring.MemoryStore), new(broker)
		for i := range records {
			must(t, store.Insert(t.Context(), &records[i]))
		}
		publish(t, store, conn, options())
		return fanout.New(store, conn, options())
	})
}

// New makes no more lookups at a time than permitted.
func TestMaxLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for limit, opts := range map[int]*fanout.Options{4: options(), 2: {Secret: secret, MaxLookups: 2}} {
			store := &blocked{begun: make(chan struct{}, 100), end: make(chan struct{})}
			w := fanout.New(store, new(broker), opts)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			errs := make(chan error)
			for range 10 {
				go func() { _, err := w.Lookup(ctx, auth.Hash{}); errs <- err }()
			}
			synctest.Wait()
			if got := len(store.begun); got != limit {
				t.Errorf("%d lookups in progress, want %d", got, limit)
			}
			for range 10 - limit {
				if got := <-errs; !errors.Is(got, context.DeadlineExceeded) {
					t.Errorf("a lookup that waits: got error %v, want %v", got, context.DeadlineExceeded)
				}
			}
			close(store.end)
			for range limit {
				if got := <-errs; got != auth.ErrNotFound {
					t.Errorf("a lookup: got error %v, want that of the store", got)
				}
			}
		}
	})
}

type blocked struct{ begun, end chan struct{} }

func (b *blocked) Lookup(context.Context, auth.Hash) (*auth.Record, error) {
	b.begun <- struct{}{}
	<-b.end
	return nil, auth.ErrNotFound
}

// What is not permitted is an error at once.
func TestNotPermitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, store := &broker{fail: fs.ErrPermission}, new(keyring.MemoryStore)
		start := time.Now()
		if got := fanout.Publish(t.Context(), store, conn, options()); !errors.Is(got, fs.ErrPermission) {
			t.Errorf("Publish: got error %v, want %v", got, fs.ErrPermission)
		}
		err := fanout.New(store, conn, options()).Watch(t.Context(), func(auth.Change) {})
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("Watch: got error %v, want %v", err, fs.ErrPermission)
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("it took %v, want nothing", took)
		}
	})
}

// Later, a right may be missing for a moment only.
func TestNotPermittedForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		s.conn.set(func() { s.conn.fail = fs.ErrPermission })
		s.watch.expect(lost)
		time.Sleep(time.Hour)
		s.conn.set(func() { s.conn.fail = nil })
		s.watch.expect(started)
	})
}

// A Watcher that cannot watch is an error of Publish.
func TestCannotWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := errors.New("no triggers")
		if got := fanout.Publish(t.Context(), hopeless{new(keyring.MemoryStore), err}, new(broker), options()); !errors.Is(got, err) {
			t.Errorf("got error %v, want %v", got, err)
		}
	})
}

type hopeless struct {
	auth.Store
	err error
}

func (h hopeless) Watch(context.Context, func(auth.Change)) error { return h.err }

// A broken Conn says that it is ready, again and again, delivers garbage, and
// returns at once. It keeps nobody busy and fills no log. What it delivers after
// it has returned, and after the end, does no harm.
func TestBrokenConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, log, store := new(brokenConn), new(lines), new(keyring.MemoryStore)
		opts := options()
		opts.Logger = slog.New(slog.NewTextHandler(log, nil))
		end := publish(t, store, conn, opts)
		w := watchOf(t, fanout.New(store, conn, opts))
		time.Sleep(time.Hour)
		w.quiet("a broken Conn")
		w.end()
		end()
		time.Sleep(time.Minute)
		// Two subscriptions, with pauses of 2.5 seconds or more.
		if got := conn.calls.Load(); got > 2*1500 {
			t.Errorf("Subscribe was called %d times in an hour, want 3,000 at most", got)
		}
		if got := strings.Count(log.String(), "\n"); got > 4*1500 {
			t.Errorf("%d lines are logged in an hour, want 6,000 at most", got)
		}
	})
}

type brokenConn struct{ calls atomic.Int64 }

func (*brokenConn) Publish(context.Context, string, []byte) error { return nil }

func (b *brokenConn) Subscribe(_ context.Context, _ string, ready func(), receive func([]byte)) error {
	b.calls.Add(1)
	time.AfterFunc(time.Second, func() { ready(); receive(make([]byte, 100)) })
	ready()
	ready()
	receive(nil)
	return nil
}

// A Watcher that reports after the end, or all the time, makes nothing be
// published after the end.
func TestLateWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, w := new(broker), &lateWatcher{MemoryStore: new(keyring.MemoryStore)}
		end := publish(t, w, conn, options())
		watch := watchOf(t, fanout.New(w, conn, options()))
		watch.expect(started)
		end()
		watch.expect(lost)
		messages := conn.record(changes)
		w.notify(started)
		w.notify(auth.Change{Kind: auth.RecordChanged})
		time.Sleep(time.Minute)
		if n := len(messages()); n > 0 {
			t.Errorf("%d messages are published after the end", n)
		}
		watch.quiet("after the end of the publisher")
	})
}

type lateWatcher struct {
	*keyring.MemoryStore
	notify func(auth.Change)
}

func (w *lateWatcher) Watch(ctx context.Context, notify func(auth.Change)) error {
	w.notify = notify
	notify(started)
	<-ctx.Done()
	notify(started)
	time.Sleep(10 * time.Second) // it does not return soon
	notify(auth.Change{Kind: auth.RecordChanged})
	return ctx.Err()
}

// Neither leaves a goroutine, if the broker works, fails or does not answer.
func TestNoGoroutineIsLeft(t *testing.T) {
	for _, fail := range []error{nil, errors.New("down")} {
		synctest.Test(t, func(t *testing.T) { // it panics if one is left
			conn, store := &broker{fail: fail}, new(keyring.MemoryStore)
			ctx, cancel := context.WithCancelCause(t.Context())
			var ended sync.WaitGroup
			ended.Go(func() {
				if got := fanout.Publish(ctx, store, conn, options()); !errors.Is(got, context.Canceled) {
					t.Errorf("Publish: got error %v, want %v", got, context.Canceled)
				}
			})
			ended.Go(func() {
				got := fanout.New(store, conn, options()).Watch(ctx, func(auth.Change) {})
				if !errors.Is(got, context.Canceled) {
					t.Errorf("Watch: got error %v, want %v", got, context.Canceled)
				}
			})
			time.Sleep(time.Minute)
			cancel(errors.New("a cause"))
			ended.Wait()
			buf := make([]byte, 1<<20)
			if stacks := string(buf[:runtime.Stack(buf, true)]); strings.Contains(stacks, "fanout.(*") {
				t.Errorf("a goroutine is left:\n%s", stacks)
			}
		})
	}
}
