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
	takeTimeout = 50 * time.Millisecond
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

	mu        sync.Mutex // not held while a line is written
	since     time.Duration
	ended     time.Duration // the outage before, or 0
	need      int           // probes that must succeed, one after another
	succeeded int
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
func (m *remote) take(ctx context.Context, key string, limit Limit, n int) (Usage, bool) {
	i, now := m.refusals.id(key), m.clock.now()
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
		m.probed()
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

// A result is what the Counter returned, or the value it panicked with.
type result struct {
	usage    Usage
	err      error
	panicked any
}

// call asks the Counter. It returns after takeTimeout, whatever the Counter
// does, and at once with errOver if the upTime is over. Up is nil for a probe.
func (m *remote) call(ctx context.Context, up *upTime, key string, limit Limit, n int) (Usage, error) {
	// If the client leaves, that says nothing of the Counter.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeTimeout)
	defer cancel()
	var over chan struct{}
	if up != nil {
		over = up.over
	}
	select {
	case m.calls <- struct{}{}:
	default:
		select {
		case m.calls <- struct{}{}:
		case <-ctx.Done():
			return Usage{}, errBusy
		case <-over:
			return Usage{}, errOver
		}
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-m.calls }()
		done <- m.ask(ctx, key, limit, n)
	}()
	var r result
	select {
	case r = <-done:
	case <-over:
		return Usage{}, errOver
	case <-ctx.Done():
		select {
		case r = <-done:
		default:
			return Usage{}, errTimeout
		}
	}
	if r.panicked != nil {
		panic(r.panicked)
	}
	return r.usage, r.err
}

// ask calls the Counter on a goroutine of its own.
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
	m.succeeded = 0
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

// probed notes a probe that succeeded, and logs the end of the outage.
func (m *remote) probed() {
	if outage := m.succeed(); outage > 0 {
		m.log().Info("auth/ratelimit: the counter answers again", "after", outage.Round(time.Millisecond))
	}
}

// succeed returns how long the outage was if it is over. If the last one was
// over for less than a minute, it takes more than one probe: a part of the
// budgets may fail, as in a cluster that lacks a server.
func (m *remote) succeed() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.succeeded++; m.up.Load() != nil || m.succeeded < m.need {
		return 0
	}
	m.ended = m.clock.now()
	m.up.Store(&upTime{make(chan struct{})})
	return m.ended - m.since
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
