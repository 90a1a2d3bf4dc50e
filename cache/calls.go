package cache

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/insigner/auth"
)

// A group shares each lookup among all requests for the same hash, as package
// singleflight does. It limits how many lookups are in progress; the others
// wait in a queue, first come, first served.
type group struct {
	store        auth.Store
	table        *table        // where the answers go
	timeout      time.Duration // of a lookup
	limit        int           // of lookups in progress
	queueTimeout time.Duration
	queueErr     error         // what a request gets after queueTimeout
	grace        time.Duration // how long a lookup continues that no request waits for
	staleWait    time.Duration // how long a request waits if there is a stale record
	outage       *outage

	mu      sync.Mutex          // never held during a lookup
	calls   map[auth.Hash]*call // those that a new request may wait for
	running int                 // lookups in progress
	queue   list.List           // of *call
}

// A call is one lookup, for all requests that wait for it.
type call struct {
	hash    auth.Hash
	ctx     context.Context // that of the request that made the call, but never done
	made    time.Time
	started chan struct{} // closed when the lookup begins
	done    chan struct{} // closed when the answer is there

	// Guarded by group.mu.
	queued  *list.Element // nil once started
	cancel  context.CancelFunc
	waiting int         // requests
	unused  *time.Timer // set once no request has waited

	// forgotten is set if the record may have changed during the lookup, so
	// that the answer may be old. Guarded by group.mu until done is closed.
	forgotten bool

	// Valid once done is closed.
	record   *auth.Record
	err      error
	panicked any
}

// errLate is for a request that can use a stale record instead of an answer.
var errLate = errors.New("auth/cache: the store has not answered yet")

// do returns the call for hash when it is done. It makes the call if there is
// no such call yet. Its error is that of ctx, or queueErr, or, if hasStale,
// errLate.
//
// If the store panicked, do panics. So the panic is on the goroutine of the
// request, where the host can recover from it.
func (g *group) do(ctx context.Context, hash auth.Hash, hasStale bool) (*call, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := g.enter(ctx, hash)
	if err := g.wait(ctx, c, hasStale); err != nil {
		return nil, err
	}
	if c.panicked != nil {
		panic(c.panicked)
	}
	return c, nil
}

// enter returns the call for hash and counts the request that waits for it.
func (g *group) enter(ctx context.Context, hash auth.Hash) *call {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.calls[hash]
	if c == nil {
		c = &call{
			hash:    hash,
			ctx:     context.WithoutCancel(ctx), // other requests may wait for longer
			made:    time.Now(),
			started: make(chan struct{}),
			done:    make(chan struct{}),
		}
		g.calls[hash] = c
		if g.running < g.limit {
			g.start(c)
		} else {
			c.queued = g.queue.PushBack(c)
		}
	}
	c.waiting++
	return c
}

// wait returns nil when c is done. If hasStale, it waits until staleWait after c
// was made, in the queue and for the lookup together. So of all requests that
// share a lookup that hangs, only the first ones wait.
func (g *group) wait(ctx context.Context, c *call, hasStale bool) error {
	var late <-chan time.Time
	if hasStale {
		timer := time.NewTimer(g.staleWait - time.Since(c.made))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-c.started:
	default:
		if err := g.waitInQueue(ctx, c, late); err != nil {
			return err
		}
	}
	select {
	case <-c.done:
		return nil
	case <-late:
		g.leaveLate(c)
		return errLate
	case <-ctx.Done():
		g.leave(c)
		return ctx.Err()
	}
}

// waitInQueue returns nil when c has started.
func (g *group) waitInQueue(ctx context.Context, c *call, late <-chan time.Time) error {
	timer := time.NewTimer(g.queueTimeout)
	defer timer.Stop()
	select {
	case <-c.started:
		return nil
	case <-late:
		g.leaveLate(c)
		return errLate
	case <-timer.C:
		g.leave(c)
		g.outage.failed(c.hash, g.queueErr)
		return g.queueErr
	case <-ctx.Done():
		g.leave(c)
		return ctx.Err()
	}
}

// leave is for a request that waits for c no longer.
func (g *group) leave(c *call) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaveLocked(c)
}

// leaveLate is for a request that uses a stale record instead. If the lookup has
// begun, it continues as if the request still waited, so that its answer can be
// kept.
func (g *group) leaveLate(c *call) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.queued != nil || c.forgotten {
		g.leaveLocked(c)
	}
}

func (g *group) leaveLocked(c *call) {
	c.waiting--
	if c.waiting > 0 {
		return
	}
	if c.queued != nil {
		g.queue.Remove(c.queued)
		delete(g.calls, c.hash)
		return
	}
	// Most lookups are about to end, and a canceled query may cost a connection
	// to the database. So the lookup continues for a while.
	if c.unused == nil {
		c.unused = time.AfterFunc(g.grace, func() { g.abandon(c) })
	} else {
		c.unused.Reset(g.grace)
	}
}

// abandon cancels the lookup of c, unless a request waits for it again.
func (g *group) abandon(c *call) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.waiting == 0 {
		c.cancel()
		g.forgetLocked(c)
	}
}

// forget is for a hash whose record may have changed. If a lookup is in
// progress, no later request waits for it, and its answer is not kept. The
// requests that wait for it look up again.
func (g *group) forget(hash auth.Hash) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.calls[hash]; c != nil {
		g.forgetLocked(c)
	}
}

// forgetAll does the same for every hash.
func (g *group) forgetAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.calls {
		g.forgetLocked(c)
	}
}

func (g *group) forgetLocked(c *call) {
	if c.queued == nil && g.calls[c.hash] == c { // it has begun, and is not done
		c.forgotten = true
		delete(g.calls, c.hash)
	}
}

// start begins the lookup of c. The caller holds g.mu.
func (g *group) start(c *call) {
	g.running++
	c.queued = nil
	ctx, cancel := context.WithTimeout(c.ctx, g.timeout)
	c.cancel = cancel
	close(c.started)
	go g.run(ctx, c)
}

// run asks the store. It logs when an outage begins and ends.
func (g *group) run(ctx context.Context, c *call) {
	defer c.cancel()
	asked := g.table.question()
	returned := false
	defer func() {
		if !returned { // the store panicked, or called runtime.Goexit
			if c.panicked = recover(); c.panicked == nil {
				c.err = errors.New("auth/cache: the store ended the goroutine of its lookup")
			}
		}
		err, abandoned := c.err, ctx.Err() == context.Canceled
		if c.panicked != nil { // perhaps no request waits that would see it
			err = fmt.Errorf("auth/cache: the store panicked: %v", c.panicked)
		}
		if c.err != nil && !errors.Is(c.err, auth.ErrNotFound) {
			c.err = &reported{c.err}
		}
		g.finish(c, asked)
		switch {
		case err == nil || errors.Is(err, auth.ErrNotFound):
			g.outage.answered()
		case !abandoned:
			g.outage.failed(c.hash, err)
		}
	}()
	c.record, c.err = g.store.Lookup(ctx, c.hash)
	returned = true
}

// finish keeps the answer of c and gives its place to the first call in the
// queue. It holds g.mu throughout, so c cannot be forgotten between the check
// and the use of its answer.
func (g *group) finish(c *call, asked question) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !c.forgotten {
		delete(g.calls, c.hash)
		c.record, c.err = g.table.keep(c.hash, asked, c.record, c.err)
	}
	close(c.done)
	g.running--
	if first := g.queue.Front(); first != nil {
		g.start(g.queue.Remove(first).(*call))
	}
}
