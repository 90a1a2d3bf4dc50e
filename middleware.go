package auth

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
)

// Middleware authenticates each request, for every route. It passes an accepted
// request on with the key's [Record] in its context, for [FromContext],
// [Require] and [Authorize], and refuses all others. Handlers for CORS and
// request IDs go outside it, since a preflight request of a browser carries no
// key.
//
// Without a Bearer credential, it accepts the identity that the host vouched
// for (see Vouch).
//
// An accepted request gets "Cache-Control: private", unless an outer handler
// has set a Cache-Control. The inner handler may replace it. So no shared cache
// gives the answer for one key to another client.
//
// The inner handler gets a copy of the request, as from
// [http.Request.WithContext]. When it returns, Pattern and MultipartForm are
// copied back if they changed, so that logs outside see the route. PathValue
// cannot be copied. Do not give one request to two handlers at once; clone it.
//
// The identity belongs to the context. If a handler serves another request with
// that context, as a handler for batches may, routes inside see the same key,
// with any Authorization of that request.
func (a *Authenticator) Middleware(next http.Handler) http.Handler {
	mustHandler("auth.Authenticator.Middleware", next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := a.admit(r, nil)
		if err != nil {
			a.refuse(w, r, err)
			return
		}
		id.serve(next, w, r)
	})
}

// Authenticate decides whose request r is. It writes nothing and looks at no
// scope. [WriteProblem] can answer its error, which matches one of these:
//
//   - [ErrMissingKey], [ErrInvalidFormat] or [ErrInvalidKey]
//   - [ErrKeyRevoked], [ErrKeyDisabled] or [ErrKeyExpired]
//   - [ErrStoreUnavailable]
//
// Without a Bearer credential, it accepts the identity that the host vouched
// for (see Vouch), as Middleware does. The record is the caller's to change.
func (a *Authenticator) Authenticate(r *http.Request) (Record, error) {
	id, err := a.admit(r, nil)
	if err != nil {
		return Record{}, err
	}
	return *id.record.Clone(), nil
}

// Optional is like Middleware, but a request without a Bearer credential passes
// too. Unless the host vouched for it, it has no record: FromContext reports
// false, and [Require] answers 401. A request whose key is refused does not
// pass.
//
// A request that passes without a credential gets "Vary: Authorization", so
// that a cache does not give its answer to a client with a key.
func (a *Authenticator) Optional(next http.Handler) http.Handler {
	mustHandler("auth.Authenticator.Optional", next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		anonymous := Bearer(r.Header["Authorization"]...) == ""
		if anonymous {
			if h := w.Header(); !varies(h["Vary"]) {
				h["Vary"] = append(slices.Clone(h["Vary"]), "Authorization")
			}
			if a.vouchedIn(r.Context()) == nil {
				id := &identity{Context: r.Context(), by: a}
				id.serve(next, w, r)
				return
			}
		}
		id, err := a.admit(r, nil)
		if err != nil {
			a.refuse(w, r, err)
			return
		}
		id.serve(next, w, r)
	})
}

// varies reports whether Vary fields name Authorization.
func varies(fields []string) bool {
	for _, field := range fields {
		for name := range strings.SplitSeq(field, ",") {
			if strings.EqualFold(strings.TrimSpace(name), "Authorization") {
				return true
			}
		}
	}
	return false
}

// Require wraps a route that needs all of the scopes. It authenticates the
// request, unless an outer Middleware of the same Authenticator has done so,
// and checks the scopes. It treats the answer and the request as Middleware
// does. Require panics if a scope is invalid or not in the Catalog.
func (a *Authenticator) Require(scope Scope, more ...Scope) func(http.Handler) http.Handler {
	return newRoute("auth.Authenticator.Require", a, newRequirement(false, scope, more)).wrap
}

// RequireAny is like Require, but one of the scopes is enough.
func (a *Authenticator) RequireAny(scope Scope, more ...Scope) func(http.Handler) http.Handler {
	return newRoute("auth.Authenticator.RequireAny", a, newRequirement(true, scope, more)).wrap
}

// Vouch returns a context in which the host says whose request it is: by a
// session, a client certificate, or a key that Verify accepted. Middleware,
// Optional and Require of the same Authenticator accept r for a request without
// a Bearer credential. If the request has one, the credential decides.
//
// [Authorize], [FromContext] and [Recheck] see no request. For them the newest
// Vouch decides, even over a credential. So call Vouch outside Middleware and
// Require, not inside.
//
// Other Authenticators do not accept r. Wherever r is used, its Check must
// pass. If r has a Hash, Recheck looks it up. Vouch keeps a copy of r.
func (a *Authenticator) Vouch(ctx context.Context, r Record) context.Context {
	if ctx == nil {
		panic("auth.Authenticator.Vouch: the context is nil")
	}
	return &identity{Context: ctx, record: r.Clone(), by: a, vouched: true}
}

// Require wraps a route that needs all of the scopes. It must be inside the
// Middleware or Optional of an [Authenticator]. If it is not, or if a scope is
// not in the Catalog of the Authenticator, it answers 500, logs the mistake,
// and does not call the handler. It panics if a scope is invalid.
func Require(scope Scope, more ...Scope) func(http.Handler) http.Handler {
	return newRoute("auth.Require", nil, newRequirement(false, scope, more)).wrap
}

// RequireAny is like [Require], but one of the scopes is enough.
func RequireAny(scope Scope, more ...Scope) func(http.Handler) http.Handler {
	return newRoute("auth.RequireAny", nil, newRequirement(true, scope, more)).wrap
}

// Authorize decides whether the key in ctx has all of the scopes. It is for
// scopes that are known only when a request comes: those of an operation in an
// OpenAPI document, or of a field in GraphQL. It returns nil, or an error that
// [WriteProblem] can answer:
//
//   - [ErrInsufficientScope] if the key lacks a scope
//   - [ErrMissingKey] if Optional let the request pass without a key
//   - the error of Record.Check, for an identity that the host vouched for
//   - another error, which becomes 500, if a scope is invalid or not in the
//     Catalog, or if ctx has not passed an [Authenticator]; it is logged
func Authorize(ctx context.Context, scope Scope, more ...Scope) error {
	return authorize(ctx, "auth.Authorize", newRequirement(false, scope, more))
}

// AuthorizeAny is like [Authorize], but one of the scopes is enough.
func AuthorizeAny(ctx context.Context, scope Scope, more ...Scope) error {
	return authorize(ctx, "auth.AuthorizeAny", newRequirement(true, scope, more))
}

// FromContext returns a copy of the record of the key that the request was
// authenticated with, and whether there is one.
func FromContext(ctx context.Context) (Record, bool) {
	id := identityFrom(ctx)
	if id == nil {
		return Record{}, false
	}
	record := id.valid()
	if record == nil {
		return Record{}, false
	}
	return *record.Clone(), true
}

// admit decides about a request: all steps if there is a route, otherwise all
// but the scopes. The identity that it returns is to be served.
func (a *Authenticator) admit(r *http.Request, rt *route) (*identity, error) {
	ctx := r.Context()
	d := Decision{Step: StepAuthenticate, Request: r}
	vouched := false
	var refused *refusal
	if credential := Bearer(r.Header["Authorization"]...); credential != "" {
		refused = a.identify(ctx, credential, &d)
	} else if id := a.vouchedIn(ctx); id != nil {
		vouched = true
		refused = id.judge(&d)
	} else {
		refused = a.refusals.of(ErrMissingKey)
	}
	if rt != nil {
		d.required = &rt.requirement
		if refused == nil {
			d.Step = StepAuthorize
			refused = rt.check(a, d.record)
		}
	}
	if err := a.decided(ctx, &d, refused); err != nil {
		return nil, err
	}
	return &identity{Context: ctx, record: d.record, by: a, vouched: vouched, admitted: true}, nil
}

// admittedIn returns the newest identity that a has accepted for r, or nil. An
// even newer one that the host vouched for has to be accepted first, unless r
// has a credential.
func (a *Authenticator) admittedIn(r *http.Request) *identity {
	for id := identityFrom(r.Context()); id != nil; id = identityFrom(id.Context) {
		if id.by != a || id.record == nil {
			continue
		}
		if id.admitted {
			return id
		}
		if Bearer(r.Header["Authorization"]...) == "" {
			return nil
		}
	}
	return nil
}

// vouchedIn returns the newest identity of a that the host vouched for, or nil.
func (a *Authenticator) vouchedIn(ctx context.Context) *identity {
	for id := identityFrom(ctx); id != nil; id = identityFrom(id.Context) {
		if id.by == a && id.vouched {
			return id
		}
	}
	return nil
}

// A route is a requirement at one place of a program.
type route struct {
	requirement
	call string
	by   *Authenticator // nil: that of the Middleware outside
	last atomic.Pointer[routeOf]
}

// A routeOf is what a route is under one Authenticator.
type routeOf struct {
	by      *Authenticator
	refusal *refusal
	misuse  string // why it cannot be served
}

func newRoute(call string, by *Authenticator, q requirement) *route {
	var catalog Catalog
	if by != nil {
		catalog = by.scheme.Catalog
	}
	if problem := misuse(call, catalog, q); problem != "" {
		panic(problem)
	}
	return &route{requirement: q, call: call, by: by}
}

// misuse says what is wrong with the scopes of q, or returns "".
func misuse(call string, c Catalog, q requirement) string {
	if err := c.Validate(q.scopes...); err != nil {
		return call + ": " + err.Error()[len("auth: "):]
	}
	return ""
}

// under returns what the route is under a. It remembers the last one.
func (rt *route) under(a *Authenticator) *routeOf {
	last := rt.last.Load()
	if last == nil || last.by != a {
		last = &routeOf{a, a.refusals.forbidden(&rt.requirement), misuse(rt.call, a.scheme.Catalog, rt.requirement)}
		rt.last.Store(last)
	}
	return last
}

// check decides whether the scopes of the record meet the requirement.
func (rt *route) check(a *Authenticator, record *Record) *refusal {
	if rt.met(record.Scopes) {
		return nil
	}
	return rt.under(a).refusal
}

func (rt *route) wrap(next http.Handler) http.Handler {
	mustHandler(rt.call, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := rt.by
		var id *identity
		if a != nil {
			id = a.admittedIn(r)
		} else {
			id = identityFrom(r.Context())
			if id == nil {
				err := outside.misused(r.Context(), rt.call+": no Middleware or Optional is outside this route", r)
				WriteProblem(w, r, err)
				return
			}
			a = id.by
			if a.scheme.Catalog != nil {
				if problem := rt.under(a).misuse; problem != "" {
					a.refuse(w, r, a.misused(r.Context(), problem, r))
					return
				}
			}
		}
		if id == nil || !id.admitted {
			id, err := a.admit(r, rt)
			if err != nil {
				a.refuse(w, r, err)
				return
			}
			id.serve(next, w, r)
			return
		}
		if err := id.authorize(r, rt); err != nil {
			a.refuse(w, r, err)
			return
		}
		if id != identityFrom(r.Context()) { // another Authenticator, or Vouch, is in between
			id = &identity{Context: r.Context(), record: id.record, by: a, vouched: id.vouched, admitted: true}
			id.serve(next, w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// authorize decides about the scopes of an identity that was accepted before.
func (id *identity) authorize(r *http.Request, rt *route) error {
	d := Decision{Step: StepAuthorize, Request: r, record: id.record, required: &rt.requirement}
	var refused *refusal
	if id.vouched {
		refused = id.judge(&d)
	}
	if refused == nil {
		refused = rt.check(id.by, id.record)
	}
	return id.by.decided(r.Context(), &d, refused)
}

// authorize decides about scopes that are known only now.
func authorize(ctx context.Context, call string, q requirement) error {
	id := identityFrom(ctx)
	if id == nil {
		return outside.misused(ctx, call+": the context has not passed a Middleware or Optional", nil)
	}
	if problem := misuse(call, id.by.scheme.Catalog, q); problem != "" {
		return id.by.misused(ctx, problem, id.request)
	}
	d := Decision{Step: StepAuthorize, Request: id.request, required: &q}
	var refused *refusal
	switch {
	case id.record == nil:
		d.Step = StepAuthenticate
		refused = id.by.refusals.of(ErrMissingKey)
	case id.vouched:
		refused = id.judge(&d)
	}
	if refused == nil {
		d.record = id.record
		if !q.met(id.record.Scopes) {
			refused = id.by.refusals.forbidden(&q)
		}
	}
	return id.by.decided(ctx, &d, refused)
}

// misused logs a programmer's mistake and returns it as an error with status
// 500. R may be nil.
func (a *Authenticator) misused(ctx context.Context, text string, r *http.Request) error {
	pattern := ""
	if r != nil {
		pattern = r.Pattern
	}
	a.log().ErrorContext(ctx, "auth: "+text, "route", pattern)
	return a.refusals.misuse(text)
}

// outside answers and logs where no Authenticator has been passed.
var outside = &Authenticator{refusals: defaultRefusals}

func mustHandler(call string, next http.Handler) {
	if f, ok := next.(http.HandlerFunc); next == nil || ok && f == nil {
		panic(call + ": the handler is nil")
	}
}

// An identity is the context of a request that has passed an Authenticator, or
// that the host vouched for. It is a context itself: that costs one allocation,
// context.WithValue two.
//
//	made by               record  vouched  admitted
//	Optional, no key      nil     no       no
//	Vouch                 yes     yes      no
//	admit, by a key       yes     no       yes
//	admit, by a Vouch     yes     yes      yes
//
// What is not admitted is decided when a route needs it. What is vouched for is
// checked again each time.
type identity struct {
	context.Context
	record   *Record // never modified
	by       *Authenticator
	vouched  bool
	admitted bool
	request  *http.Request // the one that the inner handler gets
	private  [1]string     // holds the value of Cache-Control, to save an allocation
}

// judge checks the record's state and puts the record into d.
func (id *identity) judge(d *Decision) *refusal {
	d.record = id.record
	return id.by.judge(d)
}

// serve passes r on with the identity as its context.
func (id *identity) serve(next http.Handler, w http.ResponseWriter, r *http.Request) {
	if id.record != nil {
		if h := w.Header(); len(h["Cache-Control"]) == 0 {
			id.private[0] = "private"
			h["Cache-Control"] = id.private[:]
		}
	}
	id.request = r.WithContext(id)
	defer giveBack(id.request, r)
	next.ServeHTTP(w, id.request)
}

type identityKey struct{}

// Value implements [context.Context].
//
// Under the key (*Record)(nil) it has what FromContext copies, for the other
// modules of this repository that run on each request. They must not modify the
// *Record. It is nil where FromContext reports false. A context that has passed
// no Authenticator has no such value.
func (id *identity) Value(key any) any {
	switch key.(type) {
	case identityKey:
		return id
	case refusalsKey:
		return id.by.refusals
	case *Record:
		return id.valid()
	}
	return id.Context.Value(key)
}

// valid returns the record. It returns nil without one, and if the host vouched
// for it and its Check fails.
func (id *identity) valid() *Record {
	if id.vouched {
		var d Decision
		if id.judge(&d) != nil {
			return nil
		}
	}
	return id.record
}

// String keeps package fmt from printing the fields.
func (id *identity) String() string {
	if id.record == nil {
		return "auth.Context()"
	}
	return "auth.Context(" + oneLine(id.record.ID) + ")"
}

func identityFrom(ctx context.Context) *identity {
	id, _ := ctx.Value(identityKey{}).(*identity)
	return id
}
