package auth

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
)

// Middleware authenticates every request, whatever its route, and hands it on with the key's [Record] in its context
// for [FromContext], [Require] and [RequireAny]; it refuses all others. CORS and request-id handlers go outside it: a
// browser's preflight request carries no key.
//
// The handlers behind get a copy of the request, as from [http.Request.WithContext], so those outside do not see the
// Pattern that a mux behind sets. The key is known by the context from then on: whoever makes another request with that
// context, as a handler for batches may, makes it with that key, whatever its header says.
func (a *Authenticator) Middleware(next http.Handler) http.Handler {
	mustHandler("auth.Authenticator.Middleware", next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := a.authenticate(r, nil)
		if err != nil {
			a.answer(w, r, err)
			return
		}
		id.serve(next, w, r)
	})
}

// Require wraps a route that needs all of the scopes given: it authenticates the request, unless a's own Middleware
// outside did so, and checks the scopes. It panics at once if one of them is not a scope.
func (a *Authenticator) Require(scope Scope, more ...Scope) func(http.Handler) http.Handler {
	return newRoute("auth.Authenticator.Require", a, false, scope, more).wrap
}

// RequireAny is like Require, but one of the scopes is enough.
func (a *Authenticator) RequireAny(scope Scope, more ...Scope) func(http.Handler) http.Handler {
	return newRoute("auth.Authenticator.RequireAny", a, true, scope, more).wrap
}

// Require wraps a route that needs all of the scopes given, behind an [Authenticator]'s Middleware. Without one it
// answers 500, logs the mistake with slog.Default, and does not call the handler. It panics at once if one of them is
// not a scope.
func Require(scope Scope, more ...Scope) func(http.Handler) http.Handler {
	return newRoute("auth.Require", nil, false, scope, more).wrap
}

// RequireAny is like [Require], but one of the scopes is enough.
func RequireAny(scope Scope, more ...Scope) func(http.Handler) http.Handler {
	return newRoute("auth.RequireAny", nil, true, scope, more).wrap
}

// A requirement is what a route asks of a key.
type requirement struct {
	scopes Scopes // all of them valid
	any    bool   // one is enough
}

func (q *requirement) met(held Scopes) bool {
	for _, s := range q.scopes {
		if held.allow(s) == q.any {
			return q.any
		}
	}
	return !q.any
}

// A route is a requirement in a place.
type route struct {
	requirement
	call  string
	by    *Authenticator             // nil: that of the Middleware outside
	cache atomic.Pointer[routeReply] // of the last Authenticator that refused somebody here
}

type routeReply struct {
	by      *Authenticator
	refusal *refusal
}

func newRoute(call string, by *Authenticator, any bool, scope Scope, more []Scope) *route {
	rt := &route{requirement: requirement{append(Scopes{scope}, more...), any}, call: call, by: by}
	for _, s := range rt.scopes {
		if !s.valid() {
			panic(call + ": " + quote(string(s)) + " is not a scope")
		}
	}
	return rt
}

// check makes the last decision: nil if the record's scopes meet the requirement.
func (rt *route) check(a *Authenticator, record *Record) *refusal {
	if rt.met(record.Scopes) {
		return nil
	}
	reply := rt.cache.Load()
	if reply == nil || reply.by != a {
		reply = &routeReply{a, a.voice.forbidden(&rt.requirement)}
		rt.cache.Store(reply)
	}
	return reply.refusal
}

func (rt *route) wrap(next http.Handler) http.Handler {
	mustHandler(rt.call, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := identityFrom(r.Context())
		if rt.by != nil && (id == nil || id.by != rt.by) {
			// Nobody has authenticated this request, or somebody else with other keys.
			id, err := rt.by.authenticate(r, rt)
			if err != nil {
				rt.by.answer(w, r, err)
				return
			}
			id.serve(next, w, r)
			return
		}
		if id == nil {
			unguarded.log().ErrorContext(r.Context(), rt.call+": no Authenticator.Middleware is outside this route",
				"route", r.Pattern)
			WriteProblem(w, r, errNoMiddleware)
			return
		}
		d := Decision{record: id.record, required: &rt.requirement}
		if err := id.by.decided(r, d, rt.check(id.by, id.record)); err != nil {
			id.by.answer(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func mustHandler(call string, next http.Handler) {
	if next == nil {
		panic(call + ": the handler is nil")
	}
}

var errNoMiddleware = errors.New("auth: no Middleware outside this route")

// unguarded speaks where there is no Authenticator: for a record of NewContext, and for a misplaced Require.
var unguarded = newAuthenticator(new(Options))

// An identity is the context of a request whose key is known: one allocation instead of context.WithValue's two, for
// which values of contexts outside are found some nanoseconds later.
type identity struct {
	context.Context
	record *Record // not to be changed
	by     *Authenticator
}

// serve hands r on with the identity as its context. The form is carried back to r, since the server removes from the
// disk, when the request ends, what was uploaded with the request that it knows.
func (id *identity) serve(next http.Handler, w http.ResponseWriter, r *http.Request) {
	own := r.WithContext(id)
	defer func() {
		if own.MultipartForm != r.MultipartForm {
			r.MultipartForm = own.MultipartForm
		}
	}()
	next.ServeHTTP(w, own)
}

type identityKey struct{}

func (id *identity) Value(key any) any {
	if key == (identityKey{}) {
		return id
	}
	return id.Context.Value(key)
}

// String keeps fmt from looking inside.
func (id *identity) String() string { return "auth.Context(" + id.record.ID + ")" }

// ownIdentity returns an identity with a copy of record, in a single allocation.
func ownIdentity(ctx context.Context, record *Record, by *Authenticator) *identity {
	own := &struct {
		identity
		record Record
	}{record: *record}
	own.identity = identity{ctx, &own.record, by}
	return &own.identity
}

func identityFrom(ctx context.Context) *identity {
	id, _ := ctx.Value(identityKey{}).(*identity)
	return id
}

// FromContext returns the record of the key that the request was authenticated with, and whether there is one. It
// is a copy, the caller's to change. Its Scopes are not nil even if there is none, so that they can be a Ceiling:
// whoever is nobody passes on nothing.
func FromContext(ctx context.Context) (Record, bool) {
	id := identityFrom(ctx)
	if id == nil {
		return Record{Scopes: Scopes{}}, false
	}
	return id.record.handOut(), true
}

// NewContext returns a context with a copy of r for [FromContext], [Require] and [RequireAny] to find, as if a
// Middleware had authenticated the request: for tests of handlers. An [Authenticator]'s own Require and Middleware
// do not believe it.
func NewContext(ctx context.Context, r Record) context.Context {
	if ctx == nil {
		panic("auth.NewContext: the context is nil")
	}
	c := r.clone()
	return ownIdentity(ctx, &c, unguarded)
}
