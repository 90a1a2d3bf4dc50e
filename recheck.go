package auth

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"
)

// Recheck decides again whether the key in ctx is good, after a new lookup, and
// returns its record as it is now. It is for streams, WebSockets and long
// polls, which outlive the decision that let them in. It looks at no scope, and
// does not change what [FromContext] and [Authorize] see.
//
// Its errors are those of Authenticator.Authenticate; a key that was deleted is
// [ErrInvalidKey]. If ctx has not passed an [Authenticator], the error becomes
// 500 and is logged. An identity that the host vouched for is looked up if its
// record has a Hash; otherwise only its Record.Check counts.
func Recheck(ctx context.Context) (Record, error) {
	id := identityFrom(ctx)
	if id == nil {
		return Record{}, outside.misused(ctx, "auth.Recheck: the context has not passed a Middleware or Optional", nil)
	}
	d := Decision{Step: StepRecheck}
	refused := id.recheck(ctx, &d)
	if err := id.by.decided(ctx, &d, refused); err != nil {
		return Record{}, err
	}
	return *d.record.Clone(), nil
}

func (id *identity) recheck(ctx context.Context, d *Decision) *refusal {
	if id.record == nil {
		return id.by.refusals.of(ErrMissingKey)
	}
	d.record = id.record
	if id.record.Hash != (Hash{}) {
		d.record = nil
		known, refused := id.by.find(ctx, id.record.Hash, "", d)
		if refused != nil {
			return refused
		}
		if !known {
			return id.by.refusals.of(ErrInvalidKey)
		}
	}
	return id.by.judge(d)
}

// WithRecheck returns a context that is canceled when the key in ctx is
// revoked, disabled, deleted or expires, or when it no longer covers what its
// scopes covered when it was let in. [context.Cause] tells the reason, which
// [WriteProblem] can answer.
//
// It is canceled exactly at the expiry that was last seen. Other changes are
// seen by a lookup, at most every later, plus the delay of a cache without a
// [Watcher]. An outage of the store does not cancel the context; nor does a
// lookup that takes longer than 10 seconds. A panic of the store does, with
// that as the cause. The reason is told to Options.OnDecision once.
//
// The context is canceled at once if the record in ctx fails its Check now, or
// if ctx has no record. WithRecheck panics if every is not positive. Call the
// CancelFunc when the stream ends, to free its timers.
func WithRecheck(ctx context.Context, every time.Duration) (context.Context, context.CancelFunc) {
	const call = "auth.WithRecheck"
	if every <= 0 {
		panic(fmt.Sprintf("%s: the interval %v is not positive", call, every))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := func() { cancel(context.Canceled) }
	id := identityFrom(ctx)
	if id == nil {
		cancel(outside.misused(ctx, call+": the context has not passed a Middleware or Optional", nil))
		return ctx, stop
	}
	s := &stream{ctx: ctx, cancel: cancel, id: id, every: every}
	d := Decision{Step: StepRecheck}
	if id.record == nil {
		refused := id.by.refusals.of(ErrMissingKey)
		s.finish(&d, refused, refused.code)
	} else if refused := id.judge(&d); refused != nil {
		s.finish(&d, refused, refused.code)
	} else {
		s.start()
	}
	return ctx, stop
}

const recheckTimeout = 10 * time.Second // for one lookup

// A stream is a context that is rechecked. Its tick asks the store, its expiry
// is the exact moment in last, and finish wins once. It has no goroutine
// between two lookups, since there may be many streams.
type stream struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	id     *identity
	every  time.Duration

	mu     sync.Mutex
	last   *Record     // as last seen
	tick   *time.Timer // for the next lookup
	expiry *time.Timer
}

func (s *stream) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick = time.AfterFunc(s.every, s.look)
	s.expiry = time.AfterFunc(math.MaxInt64, s.expire) // see sets it
	s.see(s.id.record)
	context.AfterFunc(s.ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.tick.Stop()
		s.expiry.Stop()
	})
}

// see sets the timer for the expiry of r. The caller holds s.mu.
func (s *stream) see(r *Record) {
	s.last = r
	if r.ExpiresAt.IsZero() || s.ctx.Err() != nil {
		s.expiry.Stop()
		return
	}
	s.expiry.Reset(time.Until(r.ExpiresAt.Round(0))) // by the wall clock
}

// look looks the key up again. It runs on its own goroutine, so it must recover
// a panic of the store.
func (s *stream) look() {
	defer s.recoverHook()
	began := time.Now()
	d := Decision{Step: StepRecheck}
	returned := false
	defer func() {
		if !returned {
			s.panicked(&d, recover())
		}
	}()
	refused := s.recheck(&d)
	returned = true
	if refused != nil && refused.sentinel != ErrStoreUnavailable {
		s.finish(&d, refused, refused.code)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	record := s.last
	if refused == nil {
		record = d.record
	}
	s.see(record) // also during an outage: the machine may have slept
	if s.ctx.Err() == nil {
		s.tick.Reset(max(s.every-time.Since(began), 0))
	}
}

// recheck decides again. A store that hangs is an outage.
func (s *stream) recheck(d *Decision) *refusal {
	ctx, cancel := context.WithTimeout(s.ctx, recheckTimeout)
	defer cancel()
	if refused := s.id.recheck(ctx, d); refused != nil {
		return refused
	}
	return s.narrowed(d.record)
}

// narrowed returns the refusal for a scope that covered something when the
// stream was let in and that r no longer covers, or nil.
func (s *stream) narrowed(r *Record) *refusal {
	for _, scope := range s.id.record.Scopes {
		if scope.valid() && !r.Scopes.covers(scope) {
			return s.id.by.refusals.forbidden(&requirement{scopes: Scopes{scope}})
		}
	}
	return nil
}

// expire ends the stream if its key has expired. A wall clock that was set back
// may say that it has not.
func (s *stream) expire() {
	defer s.recoverHook()
	d := Decision{Step: StepRecheck}
	s.mu.Lock()
	d.record = s.last
	refused := s.id.by.judge(&d)
	if refused == nil {
		s.see(s.last)
	}
	s.mu.Unlock()
	if refused != nil {
		s.finish(&d, refused, refused.code)
	}
}

// panicked ends the stream because the store panicked with v.
func (s *stream) panicked(d *Decision, v any) {
	if v == nil {
		v = "it called runtime.Goexit"
	}
	err := &storePanic{text: s.redact(v)}
	err.cause, _ = v.(error)
	s.id.by.log().ErrorContext(s.ctx, "auth: the key store panicked in WithRecheck", "panic", err.text)
	s.finish(d, err, Code(err))
}

// finish cancels the context and then tells the hook, once.
func (s *stream) finish(d *Decision, cause error, code string) {
	s.mu.Lock()
	over := s.ctx.Err() != nil
	s.cancel(cause)
	over = over || context.Cause(s.ctx) != cause // the caller was faster
	s.mu.Unlock()
	hook := s.id.by.hook
	if over || hook == nil {
		return
	}
	d.Err, d.Code = cause, code
	if d.Time.IsZero() {
		d.Time = time.Now()
	}
	hook(context.WithoutCancel(s.ctx), *d)
}

// recoverHook recovers a panic of OnDecision on a goroutine of a timer, where
// no recovery of the host would.
func (s *stream) recoverHook() {
	if v := recover(); v != nil {
		s.id.by.log().ErrorContext(s.ctx, "auth: OnDecision panicked in WithRecheck", "panic", s.redact(v))
	}
}

// redact returns the value of a panic as text for a log, without the hash of
// the key.
func (s *stream) redact(v any) string {
	var hash Hash
	if s.id.record != nil {
		hash = s.id.record.Hash
	}
	return redact(fmt.Sprint(v), s.id.by.scheme.Prefix, "", hash)
}

// A storePanic is a panic of the store, as the cause of a canceled context.
type storePanic struct {
	text  string
	cause error // what the store panicked with, if that is an error
}

func (p *storePanic) Error() string { return "auth: the key store panicked: " + oneLine(p.text) }

func (p *storePanic) Unwrap() []error {
	if p.cause == nil {
		return []error{ErrStoreUnavailable}
	}
	return []error{ErrStoreUnavailable, p.cause}
}
