package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	takeTimeout = 50 * time.Millisecond // of a request
	callTimeout = time.Second           // of the Counter
	probeEvery  = time.Second
	maxProbes   = 60  // that must succeed before the Counter decides again
	maxCalls    = 512 // in progress, those that nobody waits for included

	// maxRefusal is how long a request is refused at most without asking the
	// Counter. An operator may have deleted the budget there.
	maxRefusal = time.Second
)

// A remote asks a Counter, as long as it answers in time. It is a circuit
// breaker: after one failure, nobody waits for the Counter but one probe a
// second.
type remote struct {
	counter  Counter
	clock    clock
	log      func() *slog.Logger
	refusals *table[refusal]
	calls    chan struct{} // holds a token for each call in progress

	up      atomic.Pointer[upTime] // nil while the Counter fails
	probeAt atomic.Int64           // when the next probe is due while it fails

	mu      sync.Mutex    // not held while a line is written
	since   time.Duration // when the outage began
	ended   time.Duration // when the outage before ended by a probe, or 0
	need    int           // probes that must succeed, one after another
	success int           // those that did
}

// An upTime is a time in which the Counter answers.
type upTime struct{ over chan struct{} }

// A refusal is what the Counter said of a budget with nothing in it. Until then
// nothing can be taken from it.
type refusal struct {
	limit Limit
	until time.Duration // when it counts no longer
	again time.Duration // when a request will be accepted
	full  time.Duration
}

func (r refusal) end() time.Duration { return r.until }

func newRemote(counter Counter, clock clock, log func() *slog.Logger) *remote {
	m := &remote{
		counter:  counter,
		clock:    clock,
		log:      log,
		refusals: newTable[refusal](),
		calls:    make(chan struct{}, maxCalls),
	}
	m.up.Store(&upTime{make(chan struct{})})
	return m
}

func (m *remote) down() bool { return m.up.Load() == nil }

// take reports false if the Counter cannot decide now.
func (m *remote) take(ctx context.Context, key string, i id, limit Limit, n int) (Usage, bool) {
	now := m.clock.now()
	if n == 1 {
		if u, refused := m.refused(i, limit, now); refused {
			return u, true
		}
	}
	up := m.up.Load()
	if up == nil && (n == 0 || !m.probeDue(now)) {
		return Usage{}, false
	}
	u, err := m.call(ctx, up, key, limit, n)
	switch {
	case err == errOver:
		return Usage{}, false
	case err != nil:
		m.failed(up, err)
		return Usage{}, false
	}
	if up == nil {
		m.succeeded(false)
	}
	u.Limit, u.Remaining = limit, min(max(u.Remaining, 0), limit.Requests)
	u.Reset, u.RetryAfter = max(u.Reset, 0), max(u.RetryAfter, 0)
	if n == 1 && !u.Allowed {
		m.refuse(i, u, now)
	}
	return u, true
}

var (
	errOver    = errors.New("another call has failed")
	errTimeout = fmt.Errorf("no answer within %v", takeTimeout)
	errBusy    = fmt.Errorf("%d calls in progress, no place for another within %v", maxCalls, takeTimeout)
)

// A pending is a call of the Counter.
type pending struct {
	state atomic.Int32 // one of those below
	done  chan result  // gets a result if the call is over before the request leaves
}

const (
	waited  int32 = iota // for by a request
	over                 // the Counter has returned
	late                 // the request waited for takeTimeout and left
	dropped              // the request left since another was late
)

// A result is what the Counter returned, or the value it panicked with.
type result struct {
	usage    Usage
	err      error
	panicked any
}

// call asks the Counter. It returns after takeTimeout, even if the Counter does
// not, and at once with errOver if the upTime is over. Up is nil for a probe.
//
// The call itself has a second. If it was late, but has an answer then, that is
// as good as a probe: a short stall costs no more than its own time.
func (m *remote) call(ctx context.Context, up *upTime, key string, limit Limit, n int) (Usage, error) {
	timer := time.NewTimer(takeTimeout)
	defer timer.Stop()
	var isOver chan struct{}
	if up != nil {
		isOver = up.over
	}
	select {
	case m.calls <- struct{}{}:
	default:
		select {
		case m.calls <- struct{}{}:
		case <-timer.C:
			return Usage{}, errBusy
		case <-isOver:
			return Usage{}, errOver
		}
	}
	p := &pending{done: make(chan result, 1)}
	// If the client leaves, that says nothing of the Counter.
	go m.run(context.WithoutCancel(ctx), p, key, limit, n)
	var r result
	select {
	case r = <-p.done:
	case <-timer.C:
		if p.state.CompareAndSwap(waited, late) {
			return Usage{}, errTimeout
		}
		r = <-p.done
	case <-isOver:
		if p.state.CompareAndSwap(waited, dropped) {
			return Usage{}, errOver
		}
		r = <-p.done
	}
	if r.panicked != nil {
		panic(r.panicked)
	}
	return r.usage, r.err
}

// run is a call of the Counter, on a goroutine of its own.
func (m *remote) run(ctx context.Context, p *pending, key string, limit Limit, n int) {
	defer func() { <-m.calls }()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r := m.ask(ctx, key, limit, n)
	if p.state.CompareAndSwap(waited, over) {
		p.done <- r
	} else if p.state.Load() == late && n > 0 && r.err == nil && r.panicked == nil {
		m.succeeded(true)
	}
}

// ask calls the Counter.
func (m *remote) ask(ctx context.Context, key string, limit Limit, n int) (r result) {
	defer func() {
		if v := recover(); v != nil {
			r.panicked = v
			if v != http.ErrAbortHandler {
				r.panicked = fmt.Sprintf("%v\n\n%s", v, debug.Stack())
			}
		}
	}()
	r.usage, r.err = m.counter.Take(ctx, key, limit, n)
	return r
}

// probeDue reports whether this request is to ask the Counter while it fails.
func (m *remote) probeDue(now time.Duration) bool {
	at := m.probeAt.Load()
	return int64(now) >= at && m.probeAt.CompareAndSwap(at, int64(now+probeEvery))
}

// failed notes a failure in an upTime, or of a probe if up is nil, and logs the
// first.
func (m *remote) failed(up *upTime, err error) {
	if m.fail(up) {
		m.log().Warn("auth/ratelimit: the counter fails; counting in memory", "error", err)
	}
}

// fail reports whether the upTime is over.
func (m *remote) fail(up *upTime) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.success = 0
	if up == nil || m.up.Load() != up {
		return false
	}
	now := m.clock.now()
	m.need = min(2*m.need, maxProbes)
	if m.ended == 0 || now-m.ended > time.Minute {
		m.need = 1
	}
	m.since = now
	m.probeAt.Store(int64(now + probeEvery))
	m.up.Store(nil)
	close(up.over)
	return true
}

// succeeded notes a probe that succeeded, or a late answer, and logs the end of
// the outage.
func (m *remote) succeeded(late bool) {
	if outage, ended := m.succeed(late); ended {
		m.log().Info("auth/ratelimit: the counter answers again", "after", outage.Round(time.Millisecond))
	}
}

// succeed reports whether the outage is over, and how long it was. If the last
// one was over for less than a minute, it takes more than one probe: a part of
// the budgets may fail, as in a cluster that lacks a server.
func (m *remote) succeed(late bool) (outage time.Duration, ended bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.up.Load() != nil {
		return 0, false
	}
	if m.success++; m.success < m.need {
		return 0, false
	}
	now := m.clock.now()
	if !late {
		m.ended = now
	}
	m.up.Store(&upTime{make(chan struct{})})
	return now - m.since, true
}

// refuse remembers that the Counter refused a request. It was asked at that
// time.
func (m *remote) refuse(i id, u Usage, asked time.Duration) {
	m.refusals.sweep(asked)
	s := m.refusals.lock(i)
	defer s.mu.Unlock()
	again := asked + u.RetryAfter
	s.put(i, refusal{u.Limit, min(again, asked+maxRefusal), again, asked + u.Reset})
}

// refused reports whether the Counter would refuse a request too. Its word
// holds for the limit that it was given.
func (m *remote) refused(i id, limit Limit, now time.Duration) (Usage, bool) {
	s := m.refusals.lock(i)
	defer s.mu.Unlock()
	r, ok := s.values[i]
	if !ok || r.limit != limit || now >= r.until {
		return Usage{}, false
	}
	return Usage{Limit: limit, Reset: max(r.full-now, 0), RetryAfter: r.again - now}, true
}
