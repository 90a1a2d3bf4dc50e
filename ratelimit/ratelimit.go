package ratelimit

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/insigner/auth"
)

// Options configures a [Limiter]. The zero Options are those of the inSigner
// API.
type Options struct {
	// Limit, if not nil, returns the limit for a key, such as that of the plan
	// of its owner. It is called for each request, so a change counts at once.
	// If nil, it is 120 a minute for every key. An invalid Limit is a mistake:
	// the request is answered with 500, and logged.
	//
	// The Scopes and the Metadata of r are those of other requests too. They
	// must not be modified. The same holds for Key.
	Limit func(r auth.Record) Limit

	// Key, if not nil, returns whose budget a request takes from. Requests with
	// the same Key share one. It may be any text that is no secret. If it is
	// nil, or returns "", it is the Chain of the record, so that a rotation
	// gives no second budget.
	Key func(r auth.Record) string

	// ErrorHandler, if not nil, answers a refused request, as that of
	// auth.Options does. Err is an *auth.Problem with the Code "RATE_LIMITED";
	// the fields and Retry-After are set. If it returns false, it must not have
	// written anything, and auth.WriteProblem answers.
	ErrorHandler func(w http.ResponseWriter, r *http.Request, err error) (answered bool)

	// Logger gets mistakes, and a line when the Counter fails and when it
	// answers again. If nil, it is slog.Default() at the time of the call.
	Logger *slog.Logger
}

// A Limiter limits the requests of each key. [New] makes one. It is safe for
// concurrent use. It has no goroutine of its own and needs no Close.
type Limiter struct {
	limit        func(auth.Record) Limit
	key          func(auth.Record) string
	errorHandler func(http.ResponseWriter, *http.Request, error) bool
	logger       *slog.Logger

	local  *memory
	remote *remote // nil: local decides

	invalid atomic.Int64 // when the last invalid Limit was logged
}

// New returns a Limiter that counts with counter. If counter is nil, it counts
// in memory, for one instance. If opts is nil, the zero Options are used;
// otherwise opts is copied.
//
// If counter fails, or takes longer than 50 milliseconds, the Limiter counts in
// memory until counter answers again. See the package documentation. New does
// not call counter.
func New(counter Counter, opts *Options) *Limiter {
	if v := reflect.ValueOf(counter); counter != nil && v.Kind() == reflect.Pointer && v.IsNil() {
		panic(fmt.Sprintf("ratelimit.New: the counter is a nil %T", counter))
	}
	if opts == nil {
		opts = new(Options)
	}
	l := &Limiter{
		limit:        opts.Limit,
		key:          opts.Key,
		errorHandler: opts.ErrorHandler,
		logger:       opts.Logger,
		local:        newMemory(),
	}
	if counter != nil {
		l.remote = newRemote(counter, l.local.clock, l.log)
	}
	return l
}

func (l *Limiter) log() *slog.Logger {
	if l.logger != nil {
		return l.logger
	}
	return slog.Default()
}

// Local reports whether this instance counts by itself now: it has no Counter,
// or the Counter fails. It is for metrics. Only requests ask the Counter, so it
// stays true while there are none.
func (l *Limiter) Local() bool { return l.remote == nil || l.remote.down() }

// Middleware limits the requests of each key. It must be inside the Middleware,
// Optional or Require of an auth.Authenticator. If it is not, it answers 500,
// logs the mistake, and does not call next. An identity that the host vouched
// for is limited like a key. A request that Optional passed without a key is
// not limited.
//
// Each answer has the fields RateLimit-Limit, RateLimit-Remaining and
// RateLimit-Reset, in whole seconds: those of an error too, and those of the
// handlers inside. If there is a Limiter outside, and less remains of its
// budget, its fields stay.
//
// A request beyond the limit is answered with 429, the code RATE_LIMITED and
// Retry-After. It takes nothing from the budget.
//
// If a request has an Origin, Access-Control-Expose-Headers names the fields,
// so that scripts of other origins may read them. Without
// Access-Control-Allow-Origin, which is up to the host, this permits nothing.
func (l *Limiter) Middleware(next http.Handler) http.Handler {
	if f, ok := next.(http.HandlerFunc); next == nil || ok && f == nil {
		panic("ratelimit.Limiter.Middleware: the handler is nil")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		record, known := r.Context().Value((*auth.Record)(nil)).(*auth.Record)
		if !known {
			l.misused(w, r, "ratelimit.Limiter.Middleware: no Middleware, Optional or Require of an Authenticator is outside")
			return
		}
		if record == nil {
			next.ServeHTTP(w, r)
			return
		}
		limit, ok := l.limitOf(record)
		if !ok {
			l.wrongLimit(r.Context(), record, limit)
			auth.WriteProblem(w, r, errInvalid)
			return
		}
		if limit.Requests == Unlimited {
			next.ServeHTTP(w, r)
			return
		}
		u := l.take(r.Context(), l.keyOf(record), limit, 1)
		f := writeFields(w, r, u)
		if !u.Allowed {
			l.refuse(w, r, u, f)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Usage returns the limit of a key and how much of it is used now. It takes
// nothing. It is for pages and endpoints that show it. If the limit is
// Unlimited, so is Remaining.
//
// It returns an error if Options.Limit returns an invalid Limit, or if the
// counter does not know where it counts: see RedisOptions.Prefix. If the
// counter fails, the answer is that of this instance, as for a request.
func (l *Limiter) Usage(ctx context.Context, r auth.Record) (Usage, error) {
	limit, ok := l.limitOf(&r)
	switch {
	case !ok:
		return Usage{}, fmt.Errorf("auth/ratelimit: %v", limit)
	case limit.Requests == Unlimited:
		return Usage{Limit: limit, Allowed: true, Remaining: Unlimited}, nil
	}
	if l.remote != nil {
		if c, ok := l.remote.counter.(*redisCounter); ok {
			if err := c.ready(ctx); err != nil {
				return Usage{}, fmt.Errorf("auth/ratelimit: %w", err)
			}
		}
	}
	return l.take(ctx, l.keyOf(&r), limit, 0), nil
}

func (l *Limiter) take(ctx context.Context, key string, limit Limit, n int) Usage {
	i := idOf(key)
	if l.remote != nil {
		if u, ok := l.remote.take(ctx, key, i, limit, n); ok {
			l.local.learn(i, limit, u.Reset)
			return u
		}
	}
	return l.local.take(i, limit, n)
}

// limitOf returns the complete limit for a key, and whether it is valid.
func (l *Limiter) limitOf(r *auth.Record) (Limit, bool) {
	if l.limit == nil {
		return defaultLimit, true
	}
	return l.limit(*r).complete()
}

// keyOf returns whose budget a request takes from.
func (l *Limiter) keyOf(r *auth.Record) string {
	if l.key == nil {
		return chainOf(r)
	}
	if key := l.key(*r); key != "" {
		return key
	}
	return "\x00" + chainOf(r) // no Key of a host has a NUL
}

// chainOf returns the Chain. A store that keeps no rotations has none, and a
// table of the host may have no IDs either.
func chainOf(r *auth.Record) string {
	switch {
	case r.Chain != "":
		return r.Chain
	case r.ID != "":
		return r.ID
	}
	return "\x00" + r.Hash.String()
}

// errInvalid is answered with 500.
var errInvalid = fmt.Errorf("auth/ratelimit: invalid limit")

// wrongLimit logs an invalid Limit, once a minute.
func (l *Limiter) wrongLimit(ctx context.Context, r *auth.Record, limit Limit) {
	now, last := int64(l.local.clock.now()), l.invalid.Load()
	if last != 0 && now-last < int64(time.Minute) || !l.invalid.CompareAndSwap(last, now) {
		return
	}
	l.log().ErrorContext(ctx, "auth/ratelimit: Options.Limit returns an "+limit.String(), "key", r.LogValue())
}

func (l *Limiter) misused(w http.ResponseWriter, r *http.Request, text string) {
	l.log().ErrorContext(r.Context(), "auth/"+text, "route", r.Pattern)
	auth.WriteProblem(w, r, errInvalid)
}
