package fanout

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/insigner/auth"
)

const (
	maxQueued    = 1 << 16 // changes that are not sent yet
	maxGreetings = 1 << 12 // hellos that are not answered yet

	// answersPerLost is how many frames with answers are sent in LostAfter at
	// most.
	answersPerLost = 50
)

// Publish watches w, and publishes its changes through conn until ctx is done.
// Then it returns the error of ctx. Two or more processes do this at the same
// time, for each table of keys: a few of the instances of the API, or the
// command isk publish.
//
// Each beat proves that the store answers: five times in LostAfter, Publish looks
// up a random hash, which no key has, and sends a beat if it gets an answer, be
// it [auth.ErrNotFound]. A beat is as old as that lookup, which has two fifths of
// LostAfter. So w needs room for it among its other lookups.
//
// If w loses its watch or does not answer, Publish stops its beats until it does
// again. If the broker fails, it tries again until it succeeds. It returns
// another error at once if opts are wrong, if conn is not permitted to publish or
// to subscribe, or if watching w is impossible. It waits for what it has started.
func Publish(ctx context.Context, w auth.Watcher, conn Conn, opts *Options) error {
	s, err := opts.settings()
	switch {
	case err != nil:
	case w == nil:
		err = errors.New("the Watcher is nil")
	case conn == nil:
		err = errors.New("the Conn is nil")
	default:
		p := &publisher{
			settings: s,
			conn:     conn,
			begin:    time.Now(),
			sending:  outage{settings: s, what: "publish on " + s.changes.name},
			wake:     make(chan struct{}, 1),
		}
		err = p.run(ctx, w)
	}
	return fmt.Errorf("fanout.Publish: %w", err)
}

type publisher struct {
	*settings
	conn    Conn
	begin   time.Time // what the times in frames count from
	sending outage
	wake    chan struct{} // gets one whenever there may be something to send

	mu         sync.Mutex
	asked      time.Time   // when the newest lookup began that was answered; zero if none was
	stream     *outgoing   // nil while the watch is lost
	ended      []*outgoing // whose end is not sent yet; at most maxEnded
	greetings  []nonce     // of hellos that are not answered yet
	nextAnswer time.Time
}

const maxEnded = 8

// An outgoing is the stream of frames of one epoch.
type outgoing struct {
	epoch  epoch
	number uint64
	proven time.Duration // that of the last frame
	queue  []auth.Hash
}

func newOutgoing() *outgoing {
	o := new(outgoing)
	rand.Read(o.epoch[:])
	return o
}

// end returns the last frame.
func (o *outgoing) end() *frame {
	return &frame{epoch: o.epoch, number: o.number + 1, now: o.proven, proven: o.proven, end: true}
}

func (p *publisher) run(parent context.Context, w auth.Watcher) error {
	ctx, fail := context.WithCancelCause(parent)
	var background sync.WaitGroup
	defer background.Wait()
	defer fail(nil)
	// The end of an epoch that nobody follows says nothing, but shows that
	// publishing is permitted.
	if err := p.send(ctx, newOutgoing().end()); err != nil {
		return orDone(parent, err)
	}
	background.Go(func() { fail(p.hear(ctx)) })
	background.Go(func() { p.prove(ctx, w) })
	background.Go(func() {
		err := w.Watch(ctx, func(c auth.Change) {
			if ctx.Err() == nil { // else the watch ends as it should
				p.notify(c)
			}
		})
		if ctx.Err() == nil {
			fail(fmt.Errorf("cannot watch: %w", err))
		}
	})
	p.sendAll(ctx)
	p.sayGoodbye(ctx)
	return orDone(parent, context.Cause(ctx))
}

// notify is what the Watcher calls.
func (p *publisher) notify(c auth.Change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch c.Kind {
	case auth.WatchStarted:
		p.endStream()
		p.stream = newOutgoing()
		p.log().Info("auth/fanout: publishing changes")
	case auth.WatchLost:
		if p.stream != nil {
			p.log().Warn("auth/fanout: lost watch on store; publishing nothing")
		}
		p.endStream()
	case auth.RecordChanged:
		switch {
		case p.stream == nil: // nothing was promised
		case len(p.stream.queue) < maxQueued:
			p.stream.queue = append(p.stream.queue, c.Hash)
		default:
			p.log().Warn("auth/fanout: changes cannot be published fast enough; all caches are to discard their copies")
			p.endStream()
			p.stream = newOutgoing()
		}
	}
	signal(p.wake)
}

// endStream ends the stream, if there is one. The caller holds p.mu. Should the
// last frame not arrive, the subscribers notice that there are no more.
func (p *publisher) endStream() {
	if p.stream != nil && len(p.ended) < maxEnded {
		p.ended = append(p.ended, p.stream)
	}
	p.stream = nil
}

// hear receives hellos until ctx is done, or until it turns out that this is not
// permitted. It returns why.
func (p *publisher) hear(ctx context.Context) error {
	s := &subscription{settings: p.settings, conn: p.conn, channel: p.hellos.name, ready: func() {}}
	s.receive = func(message []byte) bool {
		message, ok := p.hellos.open(message)
		if !ok {
			return false
		}
		n, ok := decodeHello(message)
		if ok {
			p.greet(n)
		}
		return ok
	}
	return s.run(ctx)
}

func (p *publisher) greet(n nonce) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stream != nil && len(p.greetings) < maxGreetings && !slices.Contains(p.greetings, n) {
		p.greetings = append(p.greetings, n)
		signal(p.wake)
	}
}

// prove asks the store, again and again, until ctx is done. One lookup is in
// progress at a time.
func (p *publisher) prove(ctx context.Context, store auth.Store) {
	for failing := false; ctx.Err() == nil; {
		asked := time.Now()
		err := p.ask(ctx, store)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if failing {
				p.log().Info("auth/fanout: the store answers again")
			}
			p.mu.Lock()
			p.asked = asked
			p.mu.Unlock()
			signal(p.wake)
		case !failing:
			p.log().Warn("auth/fanout: the store does not answer; sending no beats", "error", err)
		}
		failing = err != nil
		sleep(ctx, p.every-time.Since(asked))
	}
}

// ask returns nil if the store answers in the time of two beats. If it took
// longer, the last answer would be older than LostAfter when the next one comes.
func (p *publisher) ask(ctx context.Context, store auth.Store) error {
	ctx, cancel := context.WithTimeout(ctx, 2*p.every)
	defer cancel()
	var hash auth.Hash // a random one, so that only the store can answer
	rand.Read(hash[:])
	if _, err := store.Lookup(ctx, hash); err != nil && !errors.Is(err, auth.ErrNotFound) {
		return err
	}
	return ctx.Err()
}

// sendAll sends what there is to send until ctx is done.
func (p *publisher) sendAll(ctx context.Context) {
	for ctx.Err() == nil {
		f, wait := p.take()
		if f != nil {
			p.send(ctx, f)
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-p.wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// take returns the next frame to send, or nil and how long there is nothing to
// send unless something is signaled.
func (p *publisher) take() (f *frame, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ended) > 0 {
		f := p.ended[0].end()
		p.ended = slices.Delete(p.ended, 0, 1)
		return f, 0
	}
	s, now := p.stream, time.Now()
	if s == nil || p.asked.IsZero() {
		p.greetings = nil // those who wait say hello again when they hear a beat
		return nil, p.every
	}
	n := min(len(s.queue), maxHashes)
	proven := p.asked.Sub(p.begin)
	answer := len(p.greetings) > 0 && !now.Before(p.nextAnswer)
	switch beat := s.number == 0 || proven > s.proven; {
	case n > 0, beat, answer:
	case len(p.greetings) > 0:
		return nil, p.nextAnswer.Sub(now)
	default:
		return nil, p.every
	}
	s.number++
	f = &frame{epoch: s.epoch, number: s.number, now: now.Sub(p.begin), every: p.every, bound: p.watchBound,
		hashes: s.queue[:n:n]}
	s.queue = s.queue[n:]
	if len(s.queue) == 0 { // otherwise the frame proves no more than the last one
		s.queue = nil
		s.proven = proven
	}
	f.proven = s.proven
	if answer {
		m := min(len(p.greetings), maxNonces)
		f.nonces = slices.Clone(p.greetings[:m])
		p.greetings = slices.Delete(p.greetings, 0, m)
		p.nextAnswer = now.Add(p.lostAfter / answersPerLost)
	}
	return f, 0
}

// send sends f until that succeeds or ctx is done, or until it turns out that
// this is not permitted. It returns why. A frame that is sent twice is accepted
// once.
func (p *publisher) send(ctx context.Context, f *frame) error {
	message := p.changes.seal(f.encode())
	for backoff := minBackoff; ; backoff = min(2*backoff, p.every) {
		err := p.sendOnce(ctx, message)
		switch {
		case err == nil:
			p.sending.ok()
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case p.sending.failed(err):
			return err
		}
		pause(ctx, backoff)
	}
}

func (p *publisher) sendOnce(ctx context.Context, message []byte) error {
	ctx, cancel := context.WithTimeout(ctx, p.lostAfter)
	defer cancel()
	return p.conn.Publish(ctx, p.changes.name, message)
}

// sayGoodbye sends the last frame, so that nobody waits for a beat.
func (p *publisher) sayGoodbye(ctx context.Context) {
	p.mu.Lock()
	p.endStream()
	ended := p.ended
	p.ended = nil
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.every)
	defer cancel()
	for _, s := range ended {
		if p.sendOnce(ctx, p.changes.seal(s.end().encode())) != nil {
			return
		}
	}
}
