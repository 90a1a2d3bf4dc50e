package fanout

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A Conn is what two channels need of a client of a broker: one for the messages
// of publishers, and one for the hellos of subscribers. [NewRedis] returns one.
// It must be safe for concurrent use.
//
// An error that means that the client is not permitted to do what it was asked
// to do matches fs.ErrPermission. Publish and Watch return it at once, if they
// get it before anything else. After any other error they try again.
type Conn interface {
	// Publish sends message to those that have subscribed to channel at that
	// time. It returns soon after ctx is done, and does not modify the message.
	Publish(ctx context.Context, channel string, message []byte) error

	// Subscribe receives from channel until ctx is done or the connection is
	// lost, and then returns the error. It need not connect again by itself,
	// since it is called again. It calls ready once messages arrive, and receive
	// with each message, in order, one after another. The message belongs to
	// receive. Messages may be lost or repeated; that is found out.
	Subscribe(ctx context.Context, channel string, ready func(), receive func(message []byte)) error
}

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// pause sleeps for between half of d and d, or until ctx is done. The jitter is
// for instances that lose their connections together.
func pause(ctx context.Context, d time.Duration) { sleep(ctx, d/2+rand.N(d/2)) }

// sleep sleeps for d, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// orDone returns the error of ctx if it is done, otherwise err.
func orDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// signal sends a value, unless the last one was not taken yet.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// An outage logs when something begins to fail, and when it succeeds again.
type outage struct {
	*settings
	what string

	mu        sync.Mutex
	succeeded bool // ever
	failing   bool
}

func (o *outage) ok() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failing {
		o.log().Info("auth/fanout: the broker answers again", "to", o.what)
	}
	o.succeeded, o.failing = true, false
}

// failed reports whether the failure is final: since a right is missing, and
// nothing has succeeded yet. Later, it may be that the rights are being changed.
func (o *outage) failed(err error) (final bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.succeeded && errors.Is(err, fs.ErrPermission) {
		return true
	}
	if !o.failing {
		o.log().Warn("auth/fanout: the broker fails; trying again", "to", o.what, "error", err)
	}
	o.failing = true
	return false
}

// errSilent is why a subscription ends that may be dead without a sign.
var errSilent = errors.New("nothing was heard")

// maxSilence is how often a subscription is made again at least, in multiples of
// LostAfter, while nothing is heard on any.
const maxSilence = 12

// A subscription is one that is made again whenever it is lost.
type subscription struct {
	*settings
	conn    Conn
	channel string
	silence time.Duration             // after which it is made again; if zero, never
	ready   func()                    // called whenever messages begin to arrive
	receive func(message []byte) bool // reports whether the message was authentic
}

// run receives until ctx is done, or until it turns out that this is not
// permitted. It returns why.
func (s *subscription) run(ctx context.Context) error {
	o := &outage{settings: s.settings, what: "subscribe to " + s.channel}
	backoff, silence := minBackoff, s.silence
	for {
		start := time.Now()
		heard, err := s.once(ctx, silence, o)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if heard {
			silence = s.silence
		}
		if err == errSilent {
			silence = min(2*silence, maxSilence*s.silence)
			continue
		}
		if o.failed(err) {
			return err
		}
		if heard || time.Since(start) > maxBackoff { // a connection may be lost as soon as it is there
			backoff = minBackoff
		}
		pause(ctx, backoff)
		backoff = min(2*backoff, maxBackoff)
	}
}

// once subscribes once. It returns whether a message arrived, and why it ended.
func (s *subscription) once(ctx context.Context, silence time.Duration, o *outage) (heard bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	heardOf := func() {}
	if silence > 0 {
		limit := time.AfterFunc(silence, func() { cancel(errSilent) })
		defer limit.Stop()
		heardOf = func() { limit.Reset(silence) }
	}
	var authentic atomic.Bool // a Conn may call receive after it has returned
	err = s.conn.Subscribe(ctx, s.channel, func() {
		o.ok()
		s.ready()
	}, func(message []byte) {
		if !s.receive(message) {
			return
		}
		authentic.Store(true)
		heardOf()
	})
	if context.Cause(ctx) == errSilent {
		err = errSilent
	}
	return authentic.Load(), err
}
