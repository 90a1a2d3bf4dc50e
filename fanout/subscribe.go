package fanout

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/insigner/auth"
)

// New returns a Watcher that looks keys up in store, at most Options.MaxLookups
// at a time, and hears of changes through conn, from those who call [Publish].
// The store must read where the changes are made: a replica that lags would
// bring back what was reported as changed. If store is a Watcher itself, that is
// not used.
//
// While no call of Watch is watched, Lookup uses a record for up to
// Options.LostAfter after it was read. So a cache, which then asks for every
// request, does not send all of them to the database. No bound gets longer by
// this: a cache that is watched may use a record for as long without a proof. A
// record is not used again when a message says that it was changed.
//
// Each call of Watch has a subscription of its own. Watch reports WatchLost
// while no publisher is known to be complete, for example since none runs. It
// returns an error at once if conn is not permitted to subscribe or to publish.
// A change that was made through store is reported when its message arrives.
//
// New panics if store or conn is nil, and on wrong options.
func New(store auth.Store, conn Conn, opts *Options) auth.Watcher {
	s, err := opts.settings()
	switch {
	case err != nil:
		panic("fanout.New: " + err.Error())
	case store == nil:
		panic("fanout.New: the Store is nil")
	case conn == nil:
		panic("fanout.New: the Conn is nil")
	}
	return &watcher{
		settings: s,
		store:    store,
		conn:     conn,
		lookups:  make(chan struct{}, s.maxLookups),
		recent:   recent{limit: s.lostAfter},
	}
}

type watcher struct {
	*settings
	store   auth.Store
	conn    Conn
	lookups chan struct{} // has one for each in progress
	recent  recent
}

// Format writes "fanout.Watcher", for every verb but %p, %T and %w, so that no
// secret is printed.
func (w *watcher) Format(f fmt.State, verb rune) { io.WriteString(f, "fanout.Watcher") }

// Watch implements auth.Watcher.
func (w *watcher) Watch(ctx context.Context, notify func(auth.Change)) error {
	g := &guest{
		settings: w.settings,
		conn:     w.conn,
		follower: newFollower(w.settings, func(c auth.Change) {
			switch c.Kind {
			case auth.WatchStarted:
				w.recent.count(0, 1)
			case auth.WatchLost:
				w.recent.count(0, -1)
			}
			notify(c)
		}, w.recent.forget),
		want:    make(chan struct{}, 1),
		sending: outage{settings: w.settings, what: "publish on " + w.hellos.name},
	}
	w.recent.count(1, 0)
	defer w.recent.count(-1, 0)
	return fmt.Errorf("fanout: watch: %w", g.run(ctx))
}

// A guest is one call of Watch: what it does on the network, around a follower.
type guest struct {
	*settings
	conn     Conn
	follower *follower
	want     chan struct{} // gets one when a hello is to be sent
	sending  outage

	mu     sync.Mutex
	warned bool // that the options differ from those of a publisher
}

func (g *guest) run(parent context.Context) error {
	ctx, fail := context.WithCancelCause(parent)
	var background sync.WaitGroup
	defer background.Wait()
	defer fail(nil)
	background.Go(func() { g.keepTime(ctx) })
	background.Go(func() {
		if err := g.greetAll(ctx); err != nil {
			fail(err)
		}
	})
	s := &subscription{settings: g.settings, conn: g.conn, channel: g.changes.name, silence: g.lostAfter}
	s.ready = func() { signal(g.want) }
	s.receive = g.receive
	err := s.run(ctx)
	g.follower.stop()
	return orDone(parent, err)
}

func (g *guest) receive(message []byte) (authentic bool) {
	message, ok := g.changes.open(message)
	if !ok {
		return false
	}
	f, ok := decode(message)
	if !ok {
		return false
	}
	g.warn(f)
	switch g.follower.receive(time.Now(), f) {
	case sendHello:
		signal(g.want)
	case noHello:
		select {
		case <-g.want:
		default:
		}
	}
	return true
}

// warn logs once that a publisher sends beats too rarely.
func (g *guest) warn(f *frame) {
	if f.every <= g.lostAfter/2 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.warned {
		g.log().Warn("auth/fanout: a publisher sends beats too rarely: its LostAfter differs from ours",
			"beats", f.every, "lost_after", g.lostAfter)
	}
	g.warned = true
}

// keepTime makes the follower notice what does not come.
func (g *guest) keepTime(ctx context.Context) {
	for ctx.Err() == nil {
		timer := time.NewTimer(g.follower.check(time.Now()))
		select {
		case <-timer.C:
		case <-g.follower.changed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// greetAll sends a hello whenever one is wanted, until ctx is done or it turns
// out that this is not permitted.
func (g *guest) greetAll(ctx context.Context) error {
	for first := true; ; first = false {
		select {
		case <-g.want:
		case <-ctx.Done():
			return nil
		}
		if !first {
			// All subscribers hear of a new publisher at the same time.
			pause(ctx, g.every/2)
		}
		if err := g.greet(ctx); err != nil && ctx.Err() == nil && g.sending.failed(err) {
			return err
		}
		pause(ctx, g.every)
	}
}

func (g *guest) greet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, g.lostAfter)
	defer cancel()
	n := g.follower.challenge(time.Now())
	err := g.conn.Publish(ctx, g.hellos.name, g.hellos.seal(encodeHello(n)))
	if err == nil {
		g.sending.ok()
	}
	return err
}
