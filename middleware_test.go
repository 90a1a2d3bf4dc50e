package auth_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/insigner/auth"
)

// A probe is a handler that notes how often it was called, and what FromContext
// said the last time.
type probe struct {
	calls  int
	record auth.Record
	known  bool
}

func (p *probe) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	p.calls++
	p.record, p.known = auth.FromContext(r.Context())
}

// A way is a way to require scopes.
type way struct {
	name string
	any  bool // one scope is enough
	own  bool // a method of the Authenticator, which can stand alone
	wrap func(scope auth.Scope, more ...auth.Scope) func(http.Handler) http.Handler
}

// waysOf returns all ways to require scopes.
func waysOf(a *auth.Authenticator) []way {
	return []way{
		{"auth.Authenticator.Require", false, true, a.Require},
		{"auth.Authenticator.RequireAny", true, true, a.RequireAny},
		{"auth.Require", false, false, auth.Require},
		{"auth.RequireAny", true, false, auth.RequireAny},
		{"auth.Authorize", false, false, authorizing(auth.Authorize)},
		{"auth.AuthorizeAny", true, false, authorizing(auth.AuthorizeAny)},
	}
}

// authorizing makes a wrapper of Authorize or AuthorizeAny.
func authorizing(f func(context.Context, auth.Scope, ...auth.Scope) error) func(auth.Scope, ...auth.Scope) wrapper {
	return func(scope auth.Scope, more ...auth.Scope) wrapper {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := f(r.Context(), scope, more...); err != nil {
					auth.WriteProblem(w, r, err)
					return
				}
				next.ServeHTTP(w, r)
			})
		}
	}
}

// vouching makes a wrapper of Vouch.
func vouching(a *auth.Authenticator, record auth.Record) wrapper {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(a.Vouch(r.Context(), record)))
		})
	}
}

// before returns a wrapper that calls f before each request.
func before(f func(w http.ResponseWriter, r *http.Request)) wrapper {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f(w, r)
			next.ServeHTTP(w, r)
		})
	}
}

// recovering recovers from a panic of next, as a host does.
func recovering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { recover() }()
		next.ServeHTTP(w, r)
	})
}

// TestRequireScopes: each way to require scopes needs all of them, or with Any
// one of them.
func TestRequireScopes(t *testing.T) {
	for _, c := range []struct {
		held, required string
		all, any       bool
	}{
		{"", "a.x", false, false},
		{"a.x", "a.x", true, true},
		{"a.x", "b.x", false, false},
		{"a.x", "a.x b.x", false, true},
		{"b.x", "a.x b.x", false, true},
		{"b.x a.x", "a.x b.x", true, true},
		{"a.x b.x c.x", "a.x b.x", true, true},
		{"a.*", "a.x a.y", true, true},
		{"a.*", "a.x b.x", false, true},
		{"a.*", "b.x a.x", false, true},
		{"a.*", "a:x", false, false},
		{"a:*", "a:x a:y:z", true, true},
		{"admin", "admin", true, true},
		{"admin", "Admin", false, false},
		{"*", "a.x b.x", true, true},
		{"a.x", "*", false, false},
		{"a.x", "* a.x", false, true},
		{"c.x", "a.x b.x", false, false},
		{"a b.*.c A.x **", "a.x b.x", false, false},
		{"a.x", "a.x a.x", true, true},
		{"a.x", "a.x b.x c.x", false, true},
		{"c.x", "a.x b.x c.x", false, true},
	} {
		required := scopesOf(c.required)
		a := auth.New(newStore(scopedRecord(scopesOf(c.held)...)), nil)
		for _, way := range waysOf(a) {
			wrap := way.wrap(required[0], required[1:]...)
			places := map[string][]wrapper{"in Middleware": {a.Middleware, wrap}, "in Optional": {a.Optional, wrap}}
			if way.own {
				places["alone"] = []wrapper{wrap}
			}
			wantCalls, wantStatus := 0, http.StatusForbidden
			if way.any && c.any || !way.any && c.all {
				wantCalls, wantStatus = 1, http.StatusOK
			}
			for place, wraps := range places {
				p := new(probe)
				w := serve(nest(p, wraps...), requestWith(goodKey))
				if p.calls != wantCalls {
					t.Errorf("%s %s: a key with %q on a route for %q: the handler was called %d times, want %d",
						way.name, place, c.held, c.required, p.calls, wantCalls)
				}
				if w.Code != wantStatus {
					t.Errorf("%s %s: a key with %q on a route for %q: status %d, want %d",
						way.name, place, c.held, c.required, w.Code, wantStatus)
				}
			}
		}
	}
}

// TestRequireCopiesScopes: a change of the slice after the call changes no
// route.
func TestRequireCopiesScopes(t *testing.T) {
	a := auth.New(newStore(scopedRecord("a.x")), nil)
	for _, way := range waysOf(a)[:4] {
		want, more := http.StatusForbidden, []auth.Scope{"b.x"}
		if way.any {
			want, more = http.StatusOK, []auth.Scope{"a.x"}
		}
		wrap := way.wrap("c.x", more...)
		if !way.any {
			wrap = way.wrap("a.x", more...)
		}
		for i := range more {
			more[i] = map[bool]auth.Scope{false: "a.x", true: "c.x"}[way.any]
		}
		if got := serve(a.Middleware(wrap(new(probe))), requestWith(goodKey)).Code; got != want {
			t.Errorf("%s: status %d after a change of the slice, want %d", way.name, got, want)
		}
	}
}

// TestMiddlewarePanicsAtStartup: a nil handler and an invalid scope are
// programmers' mistakes. The panic names the call and the value.
func TestMiddlewarePanicsAtStartup(t *testing.T) {
	a := auth.New(newStore(), nil)
	for _, c := range []struct {
		name string
		call func()
		want string
	}{
		{"Middleware(nil)", func() { a.Middleware(nil) }, "auth.Authenticator.Middleware: the handler is nil"},
		{"Optional(nil)", func() { a.Optional(nil) }, "auth.Authenticator.Optional: the handler is nil"},
		{"a.Require(nil)", func() { a.Require("a.x")(nil) }, "auth.Authenticator.Require: the handler is nil"},
		{"a.RequireAny(nil)", func() { a.RequireAny("a.x")(nil) }, "auth.Authenticator.RequireAny: the handler is nil"},
		{"Require(nil)", func() { auth.Require("a.x")(nil) }, "auth.Require: the handler is nil"},
		{"RequireAny(nil)", func() { auth.RequireAny("a.x")(nil) }, "auth.RequireAny: the handler is nil"},
		{"nil HandlerFunc", func() { auth.Require("a")(http.HandlerFunc(nil)) }, "auth.Require: the handler is nil"},
		{"a.Require, empty", func() { a.Require("") }, `auth.Authenticator.Require: "" is not a valid scope`},
		{"a.Require, first", func() { a.Require("a b") }, `auth.Authenticator.Require: "a b" is not a valid scope`},
		{"second", func() { a.Require("a", "b..c") }, `auth.Authenticator.Require: "b..c" is not a valid scope`},
		{"a.RequireAny", func() { a.RequireAny("*.b") }, `auth.Authenticator.RequireAny: "*.b" is not a valid scope`},
		{"Require", func() { auth.Require("a", "b", "c.") }, `auth.Require: "c." is not a valid scope`},
		{"RequireAny", func() { auth.RequireAny("a*") }, `auth.RequireAny: "a*" is not a valid scope`},
		{"Vouch, nil context", func() { var none context.Context; a.Vouch(none, goodRecord()) }, "auth.Authenticator.Vouch: the context is nil"},
		{"all valid", func() { a.Require("a", "b:c", "d.*", "*"); auth.RequireAny("a", "*")(new(probe)) }, ""},
	} {
		if got := panicOf(c.call); got != c.want {
			t.Errorf("%s: panic %q, want %q", c.name, got, c.want)
		}
	}
	if got := panicOf(func() { auth.Require(auth.Scope("a " + goodKey)) }); leaks(got, goodKey) {
		t.Errorf("a key in the place of a scope: the panic shows it")
	}
}

// TestNesting drives every nesting of up to three wrappers of two
// Authenticators, against a model. Each Authenticator asks its own store, and
// once, except that Middleware and Optional always ask. The handler sees the
// record of the innermost wrapper.
func TestNesting(t *testing.T) {
	both, ofA, ofB := keyOf("C"), keyOf("A"), keyOf("B")
	stores := [2]*countingStore{
		{Store: newStore(recordOf("a_both", both, "a.x"), recordOf("a_own", ofA, "a.x"))},
		{Store: newStore(recordOf("b_both", both, "a.x"), recordOf("b_own", ofB, "a.x"))},
	}
	ids := [2]map[string]string{{both: "a_both", ofA: "a_own"}, {both: "b_both", ofB: "b_own"}}
	a := auth.New(stores[0], &auth.Options{Realm: "a", Logger: quiet()})
	b := auth.New(stores[1], &auth.Options{Realm: "b", Logger: quiet()})
	defaultLog(t) // which gets the mistakes of auth.Require under nothing

	const always, optional, require = 0, 1, 2
	layers := []struct {
		name string
		who  int // -1: the innermost
		kind int
		wrap wrapper
	}{
		{"a.Middleware", 0, always, a.Middleware}, {"b.Middleware", 1, always, b.Middleware},
		{"a.Optional", 0, optional, a.Optional}, {"b.Optional", 1, optional, b.Optional},
		{"a.Require", 0, require, a.Require("a.x")}, {"b.Require", 1, require, b.Require("a.x")},
		{"auth.Require", -1, require, auth.Require("a.x")},
	}
	type outcome struct {
		status  int
		realm   string // of the challenge
		id      string // "" if the handler was not called, or sees no record
		called  bool
		lookups [2]int64
	}
	// model returns what the layers, the outermost first, should do.
	model := func(picked []int, key string) (o outcome) {
		inner, known, admitted := -1, false, [2]bool{}
		for _, i := range picked {
			who := layers[i].who
			if who < 0 {
				if who = inner; who < 0 {
					o.status = http.StatusInternalServerError
					return o
				}
			}
			if layers[i].kind == require && admitted[who] {
				inner, known = who, true
				continue
			}
			if layers[i].kind == optional && key == "" {
				inner, known = who, false
				continue
			}
			if key != "" {
				o.lookups[who]++
			}
			if ids[who][key] == "" {
				o.status, o.realm = http.StatusUnauthorized, string("ab"[who])
				return o
			}
			inner, known, admitted[who] = who, true, true
		}
		o.status, o.called = http.StatusOK, true
		if known {
			o.id = ids[inner][key]
		}
		return o
	}

	try := func(picked []int, key string) {
		var names []string
		var wraps []wrapper
		for _, i := range picked {
			names, wraps = append(names, layers[i].name), append(wraps, layers[i].wrap)
		}
		for _, s := range stores {
			s.calls.Store(0)
		}
		p := new(probe)
		w := serve(nest(p, wraps...), requestWith(key))
		got := outcome{w.Code, "", p.record.ID, p.calls == 1, [2]int64{stores[0].calls.Load(), stores[1].calls.Load()}}
		if _, rest, ok := strings.Cut(w.Header().Get("WWW-Authenticate"), `realm="`); ok {
			got.realm = rest[:1]
		}
		if want := model(picked, key); got != want {
			t.Errorf("%s, key %.5q: got %+v, want %+v", strings.Join(names, "("), key, got, want)
		}
	}
	n := len(layers)
	for i := range n * n * n {
		for _, key := range []string{"", both, ofA, ofB} {
			try([]int{i / n / n, i / n % n, i % n}, key)
			if i < n*n {
				try([]int{i / n, i % n}, key)
			}
			if i < n {
				try([]int{i}, key)
			}
		}
	}
}

// TestWhoAuthenticates: how often the stores are asked, what is decided, and
// whose record the handler sees, where contexts of others are in between.
func TestWhoAuthenticates(t *testing.T) {
	otherKey := keyOf("B")
	aStore := &countingStore{Store: newStore(recordOf("a_both", goodKey, "*"))}
	bStore := &countingStore{Store: newStore(recordOf("b_both", goodKey, "*"), recordOf("b_own", otherKey, "*"))}
	decisions := map[string]int{}
	options := func(name string) *auth.Options {
		return &auth.Options{Realm: name, OnDecision: func(context.Context, auth.Decision) { decisions[name]++ }}
	}
	a, b := auth.New(aStore, options("a")), auth.New(bStore, options("b"))
	again := auth.New(aStore, options("again")) // another Authenticator of the same store
	session := vouching(auth.New(newStore(), options("session")), vouchable("session", "*"))
	ours := vouching(a, vouchable("ours", "*"))
	remove := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r = r.Clone(r.Context())
			r.Header.Del("Authorization")
			next.ServeHTTP(w, r)
		})
	}
	plain := func(next http.Handler) http.Handler {
		type key struct{}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithCancel(context.WithValue(r.Context(), key{}, 1))
			defer cancel()
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
	ax, ay, own := auth.Require("a.x"), auth.Require("a.y"), a.Require("a.x")
	for _, c := range []struct {
		name                         string
		wraps                        []wrapper // outermost first
		key                          string
		status                       int
		id                           string
		aCalls, bCalls, aSaid, bSaid int
		realm                        string // of a refusal
	}{
		{"Middleware", []wrapper{a.Middleware}, goodKey, 200, "a_both", 1, 0, 1, 0, ""},
		{"Middleware, Require", []wrapper{a.Middleware, ax}, goodKey, 200, "a_both", 1, 0, 2, 0, ""},
		{"a.Require", []wrapper{own}, goodKey, 200, "a_both", 1, 0, 1, 0, ""},
		{"Middleware, a.Require", []wrapper{a.Middleware, own}, goodKey, 200, "a_both", 1, 0, 2, 0, ""},
		{"contexts between", []wrapper{a.Middleware, plain, own, plain, ay}, goodKey, 200, "a_both", 1, 0, 3, 0, ""},
		{"a.Require twice", []wrapper{own, a.RequireAny("a.y")}, goodKey, 200, "a_both", 1, 0, 2, 0, ""},
		{"under another", []wrapper{b.Middleware, own}, goodKey, 200, "a_both", 1, 1, 1, 1, ""},
		{"key of another", []wrapper{b.Middleware, own}, otherKey, 401, "", 1, 1, 1, 1, "a"},
		{"key of another, Require", []wrapper{b.Middleware, ax}, otherKey, 200, "b_own", 0, 1, 0, 2, ""},
		{"route of both", []wrapper{b.Require("b.x"), own, ay}, goodKey, 200, "a_both", 1, 1, 2, 1, ""},
		{"two Middlewares", []wrapper{b.Middleware, a.Middleware, ax}, goodKey, 200, "a_both", 1, 1, 2, 1, ""},
		{"the outer one's route", []wrapper{a.Middleware, b.Middleware, own}, goodKey, 200, "a_both", 1, 1, 2, 1, ""},
		{"and Require in it", []wrapper{a.Middleware, b.Middleware, own, ay}, goodKey, 200, "a_both", 1, 1, 3, 1, ""},
		{"same store, another", []wrapper{again.Middleware, own}, goodKey, 200, "a_both", 2, 0, 1, 0, ""},
		{"session, Require", []wrapper{session, ax}, "", 200, "session", 0, 0, 0, 0, ""},
		{"session of another, a.Require", []wrapper{session, own}, "", 401, "", 0, 0, 1, 0, "a"},
		{"session of another, Middleware", []wrapper{session, a.Middleware}, "", 401, "", 0, 0, 1, 0, "a"},
		{"session inside, a.Require", []wrapper{a.Middleware, session, own}, goodKey, 200, "a_both", 1, 0, 2, 0, ""},
		{"session inside, Require", []wrapper{a.Middleware, session, ax}, goodKey, 401, "", 1, 0, 1, 0, "session"},
		{"own session inside, a.Require", []wrapper{a.Middleware, ours, own}, goodKey, 200, "a_both", 1, 0, 2, 0, ""},
		{"field removed, Middleware", []wrapper{a.Middleware, remove, a.Middleware}, goodKey, 401, "", 1, 0, 2, 0, "a"},
		{"field removed, Optional", []wrapper{a.Middleware, remove, a.Optional}, goodKey, 200, "", 1, 0, 1, 0, ""},
		{"field removed, a.Require", []wrapper{a.Middleware, remove, own}, goodKey, 200, "a_both", 1, 0, 2, 0, ""},
		{"refused outside", []wrapper{a.Middleware, ax}, "isk_x", 401, "", 0, 0, 1, 0, "a"},
	} {
		aStore.calls.Store(0)
		bStore.calls.Store(0)
		clear(decisions)
		p := new(probe)
		w := serve(nest(p, c.wraps...), requestWith(c.key))
		if w.Code != c.status {
			t.Errorf("%s: status %d, want %d", c.name, w.Code, c.status)
		}
		if p.record.ID != c.id {
			t.Errorf("%s: the handler saw the record %q, want %q", c.name, p.record.ID, c.id)
		}
		if got := int(aStore.calls.Load()); got != c.aCalls {
			t.Errorf("%s: %d lookups of a, want %d", c.name, got, c.aCalls)
		}
		if got := int(bStore.calls.Load()); got != c.bCalls {
			t.Errorf("%s: %d lookups of b, want %d", c.name, got, c.bCalls)
		}
		if got := decisions["a"]; got != c.aSaid {
			t.Errorf("%s: %d decisions of a, want %d", c.name, got, c.aSaid)
		}
		if got := decisions["b"]; got != c.bSaid {
			t.Errorf("%s: %d decisions of b, want %d", c.name, got, c.bSaid)
		}
		got, want := w.Header().Get("WWW-Authenticate"), `realm="`+c.realm+`"`
		if c.realm != "" && !strings.Contains(got, want) {
			t.Errorf("%s: the challenge is %q, want one with %s", c.name, got, want)
		}
	}
}

// TestNoMiddleware: without an Authenticator, every way to require scopes
// answers 500 and logs the call and the route. The handler is not called.
func TestNoMiddleware(t *testing.T) {
	const wantBody = `{"type":"https://docs.insigner.com/errors/internal-error","title":"Internal Server Error",` +
		`"status":500,"detail":"The server could not answer the request","code":"INTERNAL_ERROR"}` + "\n"
	for _, way := range waysOf(auth.New(newStore(), nil))[2:] {
		output := defaultLog(t)
		mux := http.NewServeMux()
		mux.Handle("GET /things/{id}", way.wrap("a.x")(closed(t)))
		r := requestWith(goodKey)
		r.URL.Path = "/things/7"
		w := serve(mux, r)
		if w.Code != http.StatusInternalServerError {
			t.Errorf("%s: status %d, want 500", way.name, w.Code)
		}
		if got := w.Body.String(); got != wantBody {
			t.Errorf("%s: got %s, want %s", way.name, got, wantBody)
		}
		if got := w.Header().Get("WWW-Authenticate"); got != "" {
			t.Errorf("%s: the challenge is %q, want none", way.name, got)
		}
		lines := output.lines(t)
		if len(lines) != 1 {
			t.Fatalf("%s: %d log lines, want 1", way.name, len(lines))
		}
		if got := lines[0]["level"]; got != "ERROR" {
			t.Errorf("%s: logged at level %v, want ERROR", way.name, got)
		}
		if got := fmt.Sprint(lines[0]["msg"]); !strings.HasPrefix(got, "auth: "+way.name+": ") {
			t.Errorf("%s: logged %q, want the call", way.name, got)
		}
		if got := fmt.Sprint(lines[0]["msg"]); !strings.Contains(got, "Middleware or Optional") {
			t.Errorf("%s: logged %q, want what is missing", way.name, got)
		}
		if got := lines[0]["route"]; strings.Contains(way.name, "Require") && got != "GET /things/{id}" {
			t.Errorf("%s: logged the route %q, want GET /things/{id}", way.name, got)
		}
		if leaks(output.String(), goodKey) {
			t.Errorf("%s: the log holds the key", way.name)
		}
	}
}

// TestAuthorizeErrors: what Authorize returns, under each kind of context.
func TestAuthorizeErrors(t *testing.T) {
	defaultLog(t)
	a := auth.New(newStore(scopedRecord("a.*")), &auth.Options{Realm: "own", Logger: quiet()})
	expired := vouchable("session", "*")
	expired.ExpiresAt = epoch
	none := func(next http.Handler) http.Handler { return next }
	for _, c := range []struct {
		name, key string
		wrap      wrapper
		scopes    string
		all, any  error
		status    int // of the error of all; 0: none
		challenge string
	}{
		{"held", goodKey, a.Middleware, "a.x a.y", nil, nil, 0, ""},
		{"one held", goodKey, a.Middleware, "a.x b.x", auth.ErrInsufficientScope, nil, 403,
			`Bearer realm="own", error="insufficient_scope", scope="a.x b.x"`},
		{"not held", goodKey, a.Middleware, "b.x", auth.ErrInsufficientScope, auth.ErrInsufficientScope, 403,
			`Bearer realm="own", error="insufficient_scope", scope="b.x"`},
		{"no key", "", a.Optional, "a.x", auth.ErrMissingKey, auth.ErrMissingKey, 401, `Bearer realm="own"`},
		{"expired session", "", vouching(a, expired), "a.x", auth.ErrKeyExpired, auth.ErrKeyExpired, 401,
			`Bearer realm="own", error="invalid_token"`},
	} {
		nest(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			scopes := scopesOf(c.scopes)
			all := auth.Authorize(r.Context(), scopes[0], scopes[1:]...)
			if !errors.Is(all, c.all) {
				t.Errorf("%s: Authorize: %v, want %v", c.name, all, c.all)
			}
			if got := auth.AuthorizeAny(r.Context(), scopes[0], scopes[1:]...); !errors.Is(got, c.any) {
				t.Errorf("%s: AuthorizeAny: %v, want %v", c.name, got, c.any)
			}
			if all == nil {
				return
			}
			if got := auth.ProblemFor(all).Status; got != c.status {
				t.Errorf("%s: status %d, want %d", c.name, got, c.status)
			}
			if got := auth.Challenge(all); got != c.challenge {
				t.Errorf("%s: challenge %q, want %q", c.name, got, c.challenge)
			}
		}), c.wrap).ServeHTTP(httptest.NewRecorder(), requestWith(c.key))
	}

	// An invalid scope is a programmer's mistake, whether or not a scope before
	// it would decide, and under any context.
	for name, wrap := range map[string]wrapper{"Middleware": a.Middleware, "nothing": none} {
		for _, scopes := range []string{"**", "a.x b..c", "b.x .", "a.x *.x"} {
			nest(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				list := scopesOf(scopes)
				for _, err := range []error{
					auth.Authorize(r.Context(), list[0], list[1:]...),
					auth.AuthorizeAny(r.Context(), list[0], list[1:]...),
				} {
					if got := auth.ProblemFor(err).Status; got != http.StatusInternalServerError {
						t.Errorf("%s, scopes %q: status %d for %v, want 500", name, scopes, got, err)
					}
					if errors.Is(err, auth.ErrInsufficientScope) {
						t.Errorf("%s, scopes %q: %v, which matches ErrInsufficientScope", name, scopes, err)
					}
				}
			}), wrap).ServeHTTP(httptest.NewRecorder(), requestWith(goodKey))
		}
	}
}

// TestOptional: what passes, what its answer carries, and what it costs.
func TestOptional(t *testing.T) {
	revoked := recordOf("revoked", keyOf("R"))
	revoked.RevokedAt = epoch
	store := &countingStore{Store: newStore(recordOf("key_good", goodKey), revoked)}
	said := 0
	a := auth.New(store, &auth.Options{OnDecision: func(context.Context, auth.Decision) { said++ }})
	const vary = "Authorization"
	for _, c := range []struct {
		name, authorization string
		outer               []string // Vary, as an outer handler set it
		status, calls       int
		id                  string
		vary                []string
		cacheControl        string
		lookups             int64
		said                int
		code                string
	}{
		{"no field", "", nil, 200, 1, "", []string{vary}, "", 0, 0, ""},
		{"another scheme", "Basic eDp5", nil, 200, 1, "", []string{vary}, "", 0, 0, ""},
		{"no credential", "Bearer  ", nil, 200, 1, "", []string{vary}, "", 0, 0, ""},
		{"joined", "", []string{"Origin"}, 200, 1, "", []string{"Origin", vary}, "", 0, 0, ""},
		{"not doubled", "", []string{vary}, 200, 1, "", []string{vary}, "", 0, 0, ""},
		{"not doubled, last", "", []string{"Origin", vary}, 200, 1, "", []string{"Origin", vary}, "", 0, 0, ""},
		{"not doubled, in a list", "", []string{"Origin,  authorization , Accept"}, 200, 1, "",
			[]string{"Origin,  authorization , Accept"}, "", 0, 0, ""},
		{"part of a name", "", []string{"X-" + vary}, 200, 1, "", []string{"X-" + vary, vary}, "", 0, 0, ""},
		{"good", "Bearer " + goodKey, []string{"Origin"}, 200, 1, "key_good", []string{"Origin"}, "private", 1, 1, ""},
		{"bad format", "Bearer x", nil, 401, 0, "", nil, "no-store", 0, 1, "INVALID_FORMAT"},
		{"malformed", "Bearer isk_x", nil, 401, 0, "", nil, "no-store", 0, 1, "INVALID_KEY"},
		{"unknown", "Bearer " + keyOf("U"), nil, 401, 0, "", nil, "no-store", 1, 1, "INVALID_KEY"},
		{"revoked", "Bearer " + keyOf("R"), nil, 401, 0, "", nil, "no-store", 1, 1, "KEY_REVOKED"},
	} {
		store.calls.Store(0)
		said = 0
		p := new(probe)
		shared := append(make([]string, 0, 8), c.outer...)
		r := httptest.NewRequest("GET", "/", nil)
		if c.authorization != "" {
			r.Header.Set("Authorization", c.authorization)
		}
		w := serve(nest(p, before(func(w http.ResponseWriter, _ *http.Request) {
			if c.outer != nil {
				w.Header()["Vary"] = shared
			}
		}), a.Optional), r)
		if w.Code != c.status {
			t.Errorf("%s: status %d, want %d", c.name, w.Code, c.status)
		}
		if p.calls != c.calls {
			t.Errorf("%s: the handler was called %d times, want %d", c.name, p.calls, c.calls)
		}
		if p.record.ID != c.id {
			t.Errorf("%s: the handler saw the record %q, want %q", c.name, p.record.ID, c.id)
		}
		if p.known != (c.id != "") {
			t.Errorf("%s: FromContext said %v, want %v", c.name, p.known, c.id != "")
		}
		if got := w.Header()["Vary"]; !slices.Equal(got, c.vary) {
			t.Errorf("%s: Vary %q, want %q", c.name, got, c.vary)
		}
		if got := shared[:cap(shared)][len(c.outer)]; got != "" {
			t.Errorf("%s: the outer handler's slice got %q", c.name, got)
		}
		if got := w.Header().Get("Cache-Control"); got != c.cacheControl {
			t.Errorf("%s: Cache-Control %q, want %q", c.name, got, c.cacheControl)
		}
		if got := store.calls.Load(); got != c.lookups {
			t.Errorf("%s: %d lookups, want %d", c.name, got, c.lookups)
		}
		if said != c.said {
			t.Errorf("%s: %d decisions, want %d", c.name, said, c.said)
		}
		if c.code != "" {
			if got := problemIn(t, w).Code; got != c.code {
				t.Errorf("%s: code %q, want %q", c.name, got, c.code)
			}
		}
	}
	down := auth.New(failingStore(errors.New("down")), &auth.Options{Logger: quiet()})
	if got := serve(down.Optional(closed(t)), requestWith(goodKey)).Code; got != http.StatusServiceUnavailable {
		t.Errorf("an outage: status %d, want 503", got)
	}
	if got := serve(down.Optional(new(probe)), requestWith("")).Code; got != http.StatusOK {
		t.Errorf("an outage, without a key: status %d, want 200", got)
	}
}

// TestOptionalRequire: a route that requires a scope, under Optional and
// without a key, answers 401.
func TestOptionalRequire(t *testing.T) {
	var said []auth.Decision
	a := auth.New(newStore(goodRecord()), &auth.Options{Realm: "own",
		OnDecision: func(_ context.Context, d auth.Decision) { said = append(said, d) }})
	for _, way := range waysOf(a) {
		said = nil
		w := serve(a.Optional(way.wrap("a.x", "b.x")(closed(t))), requestWith(""))
		if w.Code != http.StatusUnauthorized {
			t.Errorf("%s: status %d, want 401", way.name, w.Code)
		}
		if got := problemIn(t, w).Code; got != "MISSING_KEY" {
			t.Errorf("%s: code %q, want MISSING_KEY", way.name, got)
		}
		if got, want := w.Header().Get("WWW-Authenticate"), `Bearer realm="own"`; got != want {
			t.Errorf("%s: challenge %q, want %q", way.name, got, want)
		}
		if len(said) != 1 {
			t.Fatalf("%s: %d decisions, want 1", way.name, len(said))
		}
		if d := said[0]; !errors.Is(d.Err, auth.ErrMissingKey) {
			t.Errorf("%s: the decision was %v, want %v", way.name, d.Err, auth.ErrMissingKey)
		}
		if got := said[0].Step; got != auth.StepAuthenticate {
			t.Errorf("%s: the step was %q, want %q", way.name, got, auth.StepAuthenticate)
		}
		if got, want := said[0].Required(), scopesOf("a.x b.x"); !slices.Equal(got, want) {
			t.Errorf("%s: %v was required, want %v", way.name, got, want)
		}
		if w := serve(a.Optional(way.wrap("a.x")(new(probe))), requestWith(goodKey)); w.Code != http.StatusOK {
			t.Errorf("%s: status %d with a key, want 200", way.name, w.Code)
		}
	}
}

// A place is where an Authenticator decides about a request.
type place struct {
	name    string
	wraps   []wrapper
	decides bool // it sees the request, so that a Bearer credential decides
}

// placesOf returns each place where an identity that the host vouched for with
// a counts. Each requires a.x, if it requires a scope.
func placesOf(a *auth.Authenticator) []place {
	list := []place{
		{"Middleware", []wrapper{a.Middleware}, true},
		{"Optional", []wrapper{a.Optional}, true},
	}
	for _, way := range waysOf(a) {
		wrap := way.wrap("a.x")
		list = append(list,
			place{way.name, []wrapper{wrap}, strings.Contains(way.name, "Require")},
			place{way.name + " in Middleware", []wrapper{a.Middleware, wrap}, true},
			place{way.name + " in Optional", []wrapper{a.Optional, wrap}, true},
			place{way.name + " in Require", []wrapper{a.Require("a.y"), wrap}, true})
	}
	return list
}

// TestVouch: an identity that the host vouched for passes everywhere, for the
// same Authenticator, unless the request carries a Bearer credential or
// Record.Check refuses it.
func TestVouch(t *testing.T) {
	revoked := recordOf("revoked", keyOf("R"), "*")
	revoked.RevokedAt = epoch
	store := &countingStore{Store: newStore(recordOf("key_good", goodKey, "*"), revoked)}
	a, other := auth.New(store, nil), auth.New(newStore(), nil)
	session := vouchable("session", "a.*")
	sessionB := vouchable("session", "b.*")

	type expect struct {
		name   string
		wrap   wrapper
		key    string
		status int
		code   string
		id     string
	}
	check := func(p place, c expect) {
		t.Helper()
		name := c.name + ", " + p.name
		got := new(probe)
		w := serve(nest(got, append([]wrapper{c.wrap}, p.wraps...)...), requestWith(c.key))
		if w.Code != c.status {
			t.Errorf("%s: status %d, want %d", name, w.Code, c.status)
		}
		if (got.calls == 1) != (c.status == http.StatusOK) {
			t.Errorf("%s: the handler was called %d times, with status %d", name, got.calls, c.status)
		}
		if got.record.ID != c.id {
			t.Errorf("%s: the handler saw the record %q, want %q", name, got.record.ID, c.id)
		}
		if c.code != "" && w.Code != http.StatusOK {
			if got := problemIn(t, w).Code; got != c.code {
				t.Errorf("%s: code %q, want %q", name, got, c.code)
			}
		}
	}

	for _, p := range placesOf(a) {
		store.calls.Store(0)
		check(p, expect{"same Authenticator", vouching(a, session), "", 200, "", "session"})
		if got := store.calls.Load(); got != 0 {
			t.Errorf("%s: %d lookups for a session, want 0", p.name, got)
		}
		if p.name != "Middleware" && p.name != "Optional" {
			check(p, expect{"without the scope", vouching(a, sessionB), "", 403, "INSUFFICIENT_SCOPE", ""})
		}
		for _, state := range badStates {
			bad := session
			state.set(&bad)
			check(p, expect{state.code, vouching(a, bad), "", 401, state.code, ""})
			if p.decides {
				check(p, expect{state.code + " and a good key", vouching(a, bad), goodKey, 200, "", "key_good"})
			}
		}
		if p.decides {
			check(p, expect{"good key", vouching(a, session), goodKey, 200, "", "key_good"})
			check(p, expect{"bad format", vouching(a, session), "x", 401, "INVALID_FORMAT", ""})
			check(p, expect{"malformed key", vouching(a, session), "isk_x", 401, "INVALID_KEY", ""})
			check(p, expect{"unknown key", vouching(a, session), keyOf("U"), 401, "INVALID_KEY", ""})
			check(p, expect{"revoked key", vouching(a, session), keyOf("R"), 401, "KEY_REVOKED", ""})
		}
		switch {
		case p.name == "Optional":
			check(p, expect{"another Authenticator", vouching(other, session), "", 200, "", ""})
		case p.name == "Middleware", strings.Contains(p.name, " in "), strings.Contains(p.name, "Authenticator"):
			check(p, expect{"another Authenticator", vouching(other, session), "", 401, "MISSING_KEY", ""})
		}
	}
}

// TestVouchNewest: the newest identity that the host vouched for counts, in
// each place and of each Authenticator for itself.
func TestVouchNewest(t *testing.T) {
	a, b := auth.New(newStore(recordOf("key_good", goodKey, "*")), nil), auth.New(newStore(), nil)
	of := func(by *auth.Authenticator, id string) wrapper { return vouching(by, vouchable(id, "*")) }
	revoked := vouchable("bad", "*")
	revoked.RevokedAt = epoch
	bad, own, route := vouching(a, revoked), a.Require("a.x"), auth.Require("a.x")
	for _, c := range []struct {
		name   string
		wraps  []wrapper
		key    string
		status int
		id     string
	}{
		{"Middleware", []wrapper{of(a, "1"), of(a, "2"), a.Middleware}, "", 200, "2"},
		{"Optional", []wrapper{of(a, "1"), of(a, "2"), a.Optional}, "", 200, "2"},
		{"a.Require", []wrapper{of(a, "1"), of(a, "2"), own}, "", 200, "2"},
		{"newest bad", []wrapper{of(a, "1"), bad, a.Middleware}, "", 401, ""},
		{"oldest bad", []wrapper{bad, of(a, "2"), a.Middleware}, "", 200, "2"},
		{"of b between", []wrapper{of(a, "1"), of(b, "2"), a.Middleware}, "", 200, "1"},
		{"of b between, a.Require", []wrapper{of(a, "1"), of(b, "2"), own}, "", 200, "1"},
		{"in Middleware, a.Require", []wrapper{of(a, "1"), a.Middleware, of(a, "2"), own}, "", 200, "2"},
		{"in Middleware, Require", []wrapper{of(a, "1"), a.Middleware, of(a, "2"), route}, "", 200, "2"},
		{"bad in Middleware, a.Require", []wrapper{of(a, "1"), a.Middleware, bad, own}, "", 401, ""},
		{"bad in Middleware, Require", []wrapper{of(a, "1"), a.Middleware, bad, route}, "", 401, ""},
		{"of b in Middleware, a.Require", []wrapper{of(a, "1"), a.Middleware, of(b, "2"), own}, "", 200, "1"},
		{"key, in Middleware", []wrapper{a.Middleware, of(a, "2"), a.Middleware}, goodKey, 200, "key_good"},
		{"key, in Middleware, a.Require", []wrapper{a.Middleware, of(a, "2"), own}, goodKey, 200, "key_good"},
		{"key, in Middleware, Require", []wrapper{a.Middleware, of(a, "2"), route}, goodKey, 200, "key_good"},
		{"in Optional, a.Require", []wrapper{a.Optional, of(a, "2"), own}, "", 200, "2"},
		{"in Optional, Require", []wrapper{a.Optional, of(a, "2"), route}, "", 200, "2"},
		{"in Optional, Authorize", []wrapper{a.Optional, of(a, "2"), authorizing(auth.Authorize)("a.x")}, "", 200, "2"},
	} {
		p := new(probe)
		w := serve(nest(p, c.wraps...), requestWith(c.key))
		if w.Code != c.status {
			t.Errorf("%s: status %d, want %d", c.name, w.Code, c.status)
		}
		if p.record.ID != c.id {
			t.Errorf("%s: the handler saw the record %q, want %q", c.name, p.record.ID, c.id)
		}
	}
}

// TestVouchExpiresOnTheWay: a session that expires between Middleware and the
// route does not open the route.
func TestVouchExpiresOnTheWay(t *testing.T) {
	a, b := auth.New(newStore(), nil), auth.New(newStore(), nil)
	session := vouching(b, vouchable("of b", "*"))
	for _, outer := range []struct {
		name string
		wrap wrapper
	}{
		{"Middleware", a.Middleware},
		{"Optional", a.Optional},
		{"Require", a.Require("a.y")},
		{"Require around another session", func(h http.Handler) http.Handler {
			return nest(h, a.Middleware, session, a.Require("a.y"))
		}},
	} {
		for _, way := range waysOf(a) {
			for _, c := range []struct {
				wait   time.Duration
				status int
			}{{time.Minute - 1, http.StatusOK}, {time.Minute, http.StatusUnauthorized}} {
				synctest.Test(t, func(t *testing.T) {
					session := vouchable("session", "a.*")
					session.ExpiresAt = time.Now().Add(time.Minute)
					name := fmt.Sprintf("%s in %s, after %v", way.name, outer.name, c.wait)
					known := false
					p := new(probe)
					w := serve(nest(p, vouching(a, session), outer.wrap,
						before(func(_ http.ResponseWriter, r *http.Request) {
							time.Sleep(c.wait)
							_, known = auth.FromContext(r.Context())
						}), way.wrap("a.x")), requestWith(""))
					if w.Code != c.status {
						t.Errorf("%s: status %d, want %d", name, w.Code, c.status)
					}
					if want := c.status == http.StatusOK; known != want {
						t.Errorf("%s: FromContext said %v, want %v", name, known, want)
					}
					if want := c.status == http.StatusOK; (p.calls == 1) != want {
						t.Errorf("%s: the handler was called %d times with status %d", name, p.calls, c.status)
					}
					if c.status != http.StatusOK {
						if got := problemIn(t, w).Code; got != "KEY_EXPIRED" {
							t.Errorf("%s: code %q, want KEY_EXPIRED", name, got)
						}
					}
				})
			}
		}
	}
}

// TestVouchAnswer: the fields of the answer, and the decisions, for an identity
// that the host vouched for.
func TestVouchAnswer(t *testing.T) {
	var said []auth.Decision
	a := auth.New(newStore(recordOf("key_good", goodKey, "*")), &auth.Options{
		OnDecision: func(_ context.Context, d auth.Decision) { said = append(said, d) }})
	session := vouchable("session", "a.x")
	revoked := session
	revoked.RevokedAt = epoch
	for _, c := range []struct {
		name, key          string
		record             auth.Record
		wraps              []wrapper
		vary, cacheControl string
		steps              string // of the decisions
		id                 string // of all decisions
	}{
		{"Middleware", "", session, []wrapper{a.Middleware}, "", "private", "authenticate", "session"},
		{"Optional", "", session, []wrapper{a.Optional}, "Authorization", "private", "authenticate", "session"},
		{"Optional, key", goodKey, session, []wrapper{a.Optional}, "", "private", "authenticate", "key_good"},
		{"revoked", "", revoked, []wrapper{a.Optional}, "Authorization", "no-store", "authenticate", "session"},
		{"a.Require", "", session, []wrapper{a.Require("a.x")}, "", "private", "authorize", "session"},
		{"a.Require, revoked", "", revoked, []wrapper{a.Require("a.x")}, "", "no-store", "authenticate", "session"},
		{"Require", "", session, []wrapper{auth.Require("a.x")}, "", "private", "authorize", "session"},
		{"Middleware, Require", "", session, []wrapper{a.Middleware, auth.Require("a.x")}, "", "private",
			"authenticate authorize", "session"},
		{"Middleware, a.Require", "", session, []wrapper{a.Middleware, a.Require("a.x")}, "", "private",
			"authenticate authorize", "session"},
		{"Authorize", "", session, []wrapper{authorizing(auth.Authorize)("a.x")}, "", "", "authorize", "session"},
	} {
		said = nil
		w := serve(nest(new(probe), append([]wrapper{vouching(a, c.record)}, c.wraps...)...), requestWith(c.key))
		if got := strings.Join(w.Header()["Vary"], ";"); got != c.vary {
			t.Errorf("%s: Vary %q, want %q", c.name, got, c.vary)
		}
		if got := strings.Join(w.Header()["Cache-Control"], ";"); got != c.cacheControl {
			t.Errorf("%s: Cache-Control %q, want %q", c.name, got, c.cacheControl)
		}
		var steps []string
		for _, d := range said {
			steps = append(steps, string(d.Step))
			if got := d.KeyID(); got != c.id {
				t.Errorf("%s: decision about %q, want %q", c.name, got, c.id)
			}
			if (d.Lookup > 0) != (c.key != "") {
				t.Errorf("%s: a lookup of %v for the key %q", c.name, d.Lookup, c.key)
			}
		}
		if got := strings.Join(steps, " "); got != c.steps {
			t.Errorf("%s: steps %q, want %q", c.name, got, c.steps)
		}
	}
}

// TestSharedRecord: modules of this repository find the record without a copy,
// where FromContext finds one.
func TestSharedRecord(t *testing.T) {
	a := auth.New(newStore(goodRecord()), nil)
	expired := goodRecord()
	expired.ExpiresAt = time.Now().Add(-time.Hour)
	passed := func(wrap func(http.Handler) http.Handler, r *http.Request) (ctx context.Context) {
		serve(wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ctx = r.Context() })), r)
		return ctx
	}
	anonymous := requestWith("")
	anonymous.Header.Del("Authorization")
	for name, c := range map[string]struct {
		ctx   context.Context
		known bool // that it passed an Authenticator
		has   bool
	}{
		"nothing":     {t.Context(), false, false},
		"Middleware":  {passed(a.Middleware, requestWith(goodKey)), true, true},
		"Require":     {passed(a.Require("documents.read"), requestWith(goodKey)), true, true},
		"Optional":    {passed(a.Optional, anonymous), true, false},
		"Vouch":       {a.Vouch(t.Context(), goodRecord()), true, true},
		"Vouch, late": {a.Vouch(t.Context(), expired), true, false},
	} {
		got, known := c.ctx.Value((*auth.Record)(nil)).(*auth.Record)
		if known != c.known {
			t.Errorf("%s: it passed an Authenticator: %v, want %v", name, known, c.known)
		}
		if (got != nil) != c.has {
			t.Errorf("%s: the record is %v, want one: %v", name, got, c.has)
		}
		copied, has := auth.FromContext(c.ctx)
		if has != c.has {
			t.Errorf("%s: FromContext reports %v, want %v", name, has, c.has)
		}
		if has && !reflect.DeepEqual(*got, copied) {
			t.Errorf("%s: the record is %#v, and FromContext returns %#v", name, *got, copied)
		}
	}
}

// TestFromContext: what is known where, and what the context is.
func TestFromContext(t *testing.T) {
	type key struct{}
	outer, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "outer"), time.Hour)
	defer cancel()
	a := auth.New(newStore(goodRecord()), nil)
	called := false
	serve(a.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		called = true
		ctx := r.Context()
		if got := ctx.Value(key{}); got != "outer" {
			t.Errorf("the value of the outer context is %v, want outer", got)
		}
		if got := ctx.Value("other"); got != nil {
			t.Errorf("a value that nobody set is %v, want nil", got)
		}
		want, _ := outer.Deadline()
		if got, _ := ctx.Deadline(); !got.Equal(want) {
			t.Errorf("deadline %v, want %v", got, want)
		}
		if err := ctx.Err(); err != nil {
			t.Errorf("the context is done: %v", err)
		}
		cancel()
		<-ctx.Done()
		if err := ctx.Err(); err != context.Canceled {
			t.Errorf("error %v after the cancellation, want %v", err, context.Canceled)
		}
		got, ok := auth.FromContext(context.WithValue(ctx, key{}, "inner"))
		if !ok {
			t.Error("a derived context has no record")
		}
		if want := goodRecord(); !reflect.DeepEqual(got, want) {
			t.Errorf("the record is %#v, want %#v", got, want)
		}
		text := fmt.Sprintf("%v %+v %#v %s %v", ctx, ctx, ctx, ctx, context.WithValue(ctx, key{}, 1))
		if !strings.Contains(text, "key_good") {
			t.Errorf("the context prints as %.300q, want the ID in it", text)
		}
		if strings.Contains(text, "Production Backend") {
			t.Error("the context prints the name of the key")
		}
		if leaksHash(text, goodHash) {
			t.Error("the context prints the hash of the key")
		}
		if leaks(text, goodKey) {
			t.Error("the context prints the key")
		}
	})), requestWith(goodKey).WithContext(outer))
	if !called {
		t.Error("the handler was not called")
	}
	if got, ok := auth.FromContext(t.Context()); ok {
		t.Errorf("a context that passed no Authenticator has the record %v", got)
	}
	anonymous := ""
	a.Optional(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		anonymous = fmt.Sprint(r.Context())
	})).ServeHTTP(httptest.NewRecorder(), requestWith(""))
	if want := "auth.Context()"; anonymous != want {
		t.Errorf("the context without a record prints as %q, want %q", anonymous, want)
	}
}

// TestOutsideRequire: a handler that needs the record, such as a limiter, must
// be inside of what authenticates. Outside of it FromContext reports false, and
// Authorize and Recheck refuse, so that it cannot take all keys for one.
func TestOutsideRequire(t *testing.T) {
	defaultLog(t)
	a := auth.New(newStore(goodRecord()), nil)
	route := auth.Require("a.x")
	for _, c := range []struct {
		name  string
		outer []wrapper // outside the limiter
		inner []wrapper // inside the limiter
		want  bool
	}{
		{"outside a.Require", nil, []wrapper{a.Require("a.x")}, false},
		{"outside Middleware", nil, []wrapper{a.Middleware, route}, false},
		{"outside Optional", nil, []wrapper{a.Optional, route}, false},
		{"inside a.Require", []wrapper{a.Require("a.x")}, nil, true},
		{"between Middleware and Require", []wrapper{a.Middleware}, []wrapper{route}, true},
		{"between Optional and Require", []wrapper{a.Optional}, []wrapper{route}, true},
		{"inside Require", []wrapper{a.Middleware, route}, nil, true},
	} {
		ran := false
		limiter := before(func(_ http.ResponseWriter, r *http.Request) {
			ran = true
			record, known := auth.FromContext(r.Context())
			if known != c.want {
				t.Errorf("%s: FromContext said %v, want %v", c.name, known, c.want)
			}
			if got := record.ID == "key_good"; got != c.want {
				t.Errorf("%s: the record is %q", c.name, record.ID)
			}
			if err := auth.Authorize(r.Context(), "a.x"); (err == nil) != c.want {
				t.Errorf("%s: Authorize: %v", c.name, err)
			}
			if _, err := auth.Recheck(r.Context()); (err == nil) != c.want {
				t.Errorf("%s: Recheck: %v", c.name, err)
			}
		})
		r := requestWith(goodKey)
		p := new(probe)
		serve(nest(p, slices.Concat(c.outer, []wrapper{limiter}, c.inner)...), r)
		if !ran {
			t.Errorf("%s: the limiter did not run", c.name)
		}
		if p.calls != 1 {
			t.Errorf("%s: the handler was called %d times, want 1", c.name, p.calls)
		}
		if _, known := auth.FromContext(r.Context()); known {
			t.Errorf("%s: the request of the outer handler got the record", c.name)
		}
	}
}

// TestMiddlewareCopies: nothing that a caller does with what it gave or got
// changes how the next request is decided.
func TestMiddlewareCopies(t *testing.T) {
	spoil := func(name string, r auth.Record) {
		t.Helper()
		if want := scopesOf("a.x"); !slices.Equal(r.Scopes, want) {
			t.Errorf("%s: the scopes are %v, want %v", name, r.Scopes, want)
		}
		if got := r.Metadata["env"]; got != "prod" {
			t.Errorf("%s: the metadata is %q, want prod", name, got)
		}
		for i := range r.Scopes {
			r.Scopes[i] = "*"
		}
		_ = append(r.Scopes[:0], "*", "*")
		r.Metadata["env"] = "spoilt"
		delete(r.Metadata, "env")
	}
	held := scopedRecord("a.x")
	shares := storeFunc(func(context.Context, auth.Hash) (*auth.Record, error) { return &held, nil })
	for name, store := range map[string]auth.Store{"map": newStore(held), "a store that shares": shares} {
		a := auth.New(store, &auth.Options{OnDecision: func(_ context.Context, d auth.Decision) {
			if r, ok := d.Record(); ok {
				spoil(name+", Decision.Record", r)
			}
			required := d.Required()
			for i := range required {
				required[i] = "a.x"
			}
		}})
		route := auth.Require("b.x")(closed(t))
		for range 3 {
			r, err := a.Authenticate(requestWith(goodKey))
			if err != nil {
				t.Fatalf("%s: Authenticate: %v", name, err)
			}
			spoil(name+", Authenticate", r)
			if r, err = a.Verify(t.Context(), goodKey); err != nil {
				t.Fatalf("%s: Verify: %v", name, err)
			}
			spoil(name+", Verify", r)
			serve(a.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				for range 2 {
					record, _ := auth.FromContext(r.Context())
					spoil(name+", FromContext", record)
					record, err := auth.Recheck(r.Context())
					if err != nil {
						t.Errorf("%s: Recheck: %v", name, err)
					}
					spoil(name+", Recheck", record)
				}
				if got := serve(route, r).Code; got != http.StatusForbidden {
					t.Errorf("%s: status %d for a scope that the key lacks, want 403", name, got)
				}
			})), requestWith(goodKey))
		}
		given := scopedRecord("a.x")
		given.Hash = auth.Hash{}
		ctx := a.Vouch(t.Context(), given)
		spoil(name+", given to Vouch", given)
		for range 2 {
			record, _ := auth.FromContext(ctx)
			spoil(name+", FromContext of Vouch", record)
			record, _ = auth.Recheck(ctx)
			spoil(name+", Recheck of Vouch", record)
		}
		if err := auth.Authorize(ctx, "b.x"); !errors.Is(err, auth.ErrInsufficientScope) {
			t.Errorf("%s: Authorize of Vouch: %v, want %v", name, err, auth.ErrInsufficientScope)
		}
	}
}

// TestCatalogAtStartup: a.Require accepts only what the catalog lists, and a
// wildcard only as itself.
func TestCatalogAtStartup(t *testing.T) {
	catalog := auth.Catalog{{Scope: "documents.*"}, {Scope: "documents.read"}, {Scope: "admin"}}
	a := auth.New(newStore(), &auth.Options{Scheme: auth.Scheme{Catalog: catalog}})
	catalog[0].Scope = "spoilt" // it was copied
	for _, c := range []struct {
		scopes, unlisted string
	}{
		{"documents.read", ""},
		{"documents.*", ""},
		{"admin documents.read documents.*", ""},
		{"documents.raed", "documents.raed"},
		{"documents.write", "documents.write"}, // which documents.* covers
		{"documents.read.*", "documents.read.*"},
		{"*", "*"},
		{"documents:read", "documents:read"},
		{"Admin", "Admin"},
		{"admin spoilt", "spoilt"},
	} {
		for _, way := range waysOf(a)[:2] {
			want := ""
			if c.unlisted != "" {
				want = way.name + `: the catalog does not list the scope "` + c.unlisted + `"`
			}
			scopes := scopesOf(c.scopes)
			if got := panicOf(func() { way.wrap(scopes[0], scopes[1:]...) }); got != want {
				t.Errorf("%s(%s): panic %q, want %q", way.name, c.scopes, got, want)
			}
		}
		for _, way := range waysOf(a)[2:4] { // they do not know the catalog yet
			scopes := scopesOf(c.scopes)
			if got := panicOf(func() { way.wrap(scopes[0], scopes[1:]...) }); got != "" {
				t.Errorf("%s(%s): panic %q, want none", way.name, c.scopes, got)
			}
		}
	}
	empty := auth.New(newStore(), &auth.Options{Scheme: auth.Scheme{Catalog: auth.Catalog{}}})
	if got := panicOf(func() { empty.Require("a") }); got == "" {
		t.Error("an empty catalog: a.Require did not panic")
	}
	if got := panicOf(func() { a.Require(auth.Scope(goodKey)) }); leaks(got, goodKey) {
		t.Error("a key in the place of a scope: the panic shows it")
	}
}

// TestCatalogOnRequest: the package's functions know the catalog only when a
// request comes. A scope that it does not list is 500, for every key and
// without one, and a log line names it.
func TestCatalogOnRequest(t *testing.T) {
	logger, output := captureLog()
	said := 0
	var handled []error
	a := auth.New(newStore(goodRecord()), &auth.Options{
		Scheme:     auth.Scheme{Catalog: auth.PublishedCatalog()},
		Logger:     logger,
		OnDecision: func(_ context.Context, d auth.Decision) { said++ },
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) bool {
			handled = append(handled, err)
			return false
		},
	})
	for _, way := range waysOf(a)[2:] {
		for _, c := range []struct {
			name     string
			outer    wrapper
			key      string
			scopes   string
			unlisted string
		}{
			{"listed", a.Middleware, goodKey, "documents.read", ""},
			{"listed wildcard", a.Middleware, goodKey, "documents.*", ""},
			{"typo", a.Middleware, goodKey, "documents.raed", "documents.raed"},
			{"unlisted wildcard", a.Middleware, goodKey, "documents.read.*", "documents.read.*"},
			{"typo after a listed one", a.Middleware, goodKey, "documents.read documents.raed", "documents.raed"},
			{"typo, without a key", a.Optional, "", "documents.raed", "documents.raed"},
			{"typo, session", vouching(a, vouchable("session", "*")), "", "documents.raed", "documents.raed"},
		} {
			name := way.name + ", " + c.name
			before, lines := said, len(output.lines(t))
			handled = nil
			scopes := scopesOf(c.scopes)
			p := new(probe)
			mux := http.NewServeMux()
			mux.Handle("GET /documents/{id}", way.wrap(scopes[0], scopes[1:]...)(p))
			r := requestWith(c.key)
			r.URL.Path = "/documents/7"
			w := serve(nest(mux, c.outer), r)
			if c.unlisted == "" {
				if w.Code != http.StatusOK {
					t.Errorf("%s: status %d, want 200", name, w.Code)
				}
				if p.calls != 1 {
					t.Errorf("%s: the handler was called %d times, want 1", name, p.calls)
				}
				if got := len(output.lines(t)); got != lines {
					t.Errorf("%s: %d log lines, want none", name, got-lines)
				}
				continue
			}
			if w.Code != http.StatusInternalServerError {
				t.Errorf("%s: status %d, want 500", name, w.Code)
			}
			if p.calls != 0 {
				t.Errorf("%s: the handler was called %d times, want 0", name, p.calls)
			}
			if strings.Contains(w.Body.String(), c.unlisted) {
				t.Errorf("%s: the answer %s discloses the scope", name, w.Body)
			}
			logged := output.lines(t)[lines:]
			if len(logged) != 1 {
				t.Fatalf("%s: %d log lines, want 1", name, len(logged))
			}
			want := "auth: " + way.name + `: the catalog does not list the scope "` + c.unlisted + `"`
			if got := logged[0]["msg"]; got != want {
				t.Errorf("%s: logged %q, want %q", name, got, want)
			}
			if got := logged[0]["level"]; got != "ERROR" {
				t.Errorf("%s: logged at level %v, want ERROR", name, got)
			}
			wantRoute := "GET /documents/{id}"
			if c.name == "typo, session" && strings.Contains(way.name, "Authorize") {
				wantRoute = "" // no wrapper of an Authenticator saw the request
			}
			if got := logged[0]["route"]; got != wantRoute {
				t.Errorf("%s: logged the route %q, want %q", name, got, wantRoute)
			}
			decided := map[bool]int{true: 1}[c.key != ""] // that of Middleware
			if got := said - before; got != decided {
				t.Errorf("%s: %d decisions, want %d", name, got, decided)
			}
			if !strings.Contains(way.name, "Require") {
				continue
			}
			if len(handled) != 1 {
				t.Fatalf("%s: the ErrorHandler was called %d times, want 1", name, len(handled))
			}
			if got := auth.ProblemFor(handled[0]).Code; got != "INTERNAL_ERROR" {
				t.Errorf("%s: the ErrorHandler got the code %q, want INTERNAL_ERROR", name, got)
			}
		}
	}
}

// TestAuthorizeMisuse: an invalid or unlisted scope is logged and becomes 500.
// The log shows no key that stands in its place.
func TestAuthorizeMisuse(t *testing.T) {
	for _, c := range []struct {
		name    string
		catalog auth.Catalog
		scope   auth.Scope
		want    string // in the log, after the call
	}{
		{"empty", nil, "", `"" is not a valid scope`},
		{"invalid", nil, "a b", `"a b" is not a valid scope`},
		{"line break", nil, "a\nlevel=INFO", `"a\nlevel=INFO" is not a valid scope`},
		{"invalid, with a catalog", auth.PublishedCatalog(), "org..read", `"org..read" is not a valid scope`},
		{"unlisted", auth.PublishedCatalog(), "documents", `the catalog does not list the scope "documents"`},
		{"empty catalog", auth.Catalog{}, "a", `the catalog does not list the scope "a"`},
		{"a key", auth.Catalog{}, auth.Scope(goodKey), "the catalog does not list the scope (not shown: 48 bytes"},
	} {
		logger, output := captureLog()
		a := auth.New(newStore(goodRecord()), &auth.Options{Scheme: auth.Scheme{Catalog: c.catalog}, Logger: logger})
		for _, way := range waysOf(a)[4:] {
			lines := len(output.lines(t))
			if got := serve(a.Middleware(way.wrap(c.scope)(closed(t))), requestWith(goodKey)).Code; got != 500 {
				t.Errorf("%s, %s: status %d, want 500", way.name, c.name, got)
			}
			logged := output.lines(t)[lines:]
			if len(logged) != 1 {
				t.Fatalf("%s, %s: %d log lines, want 1", way.name, c.name, len(logged))
			}
			if got, want := fmt.Sprint(logged[0]["msg"]), "auth: "+way.name+": "+c.want; !strings.HasPrefix(got, want) {
				t.Errorf("%s, %s: logged %q, want %q", way.name, c.name, got, want)
			}
		}
		if leaks(output.String(), goodKey) {
			t.Errorf("%s: the log holds a key", c.name)
		}
	}
}

// TestErrorHandlerMisuse: the ErrorHandler gets the errors of misuse too. What
// it does not answer is answered with 500.
func TestErrorHandlerMisuse(t *testing.T) {
	for _, answers := range []bool{true, false} {
		var got error
		a := auth.New(newStore(goodRecord()), &auth.Options{
			Scheme: auth.Scheme{Catalog: auth.PublishedCatalog()}, Logger: quiet(),
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) bool {
				got = err
				if answers {
					w.WriteHeader(http.StatusTeapot)
				}
				return answers
			}})
		want := map[bool]int{true: http.StatusTeapot, false: http.StatusInternalServerError}[answers]
		if w := serve(a.Middleware(auth.Require("typo")(closed(t))), requestWith(goodKey)); w.Code != want {
			t.Errorf("answered %v: status %d, want %d", answers, w.Code, want)
		}
		if got == nil {
			t.Fatalf("answered %v: the ErrorHandler was not called", answers)
		}
		if status := auth.ProblemFor(got).Status; status != http.StatusInternalServerError {
			t.Errorf("answered %v: the ErrorHandler got status %d, want 500", answers, status)
		}
		if text := got.Error(); !strings.Contains(text, `"typo"`) {
			t.Errorf("answered %v: the ErrorHandler got %q, want the scope in it", answers, text)
		}
	}
}

// TestWordsOfTheAuthenticator: a handler that answers a bare sentinel uses the
// realm and the problem base of the Authenticator whose identity it sees.
func TestWordsOfTheAuthenticator(t *testing.T) {
	a := auth.New(newStore(goodRecord()), &auth.Options{Realm: "a", ProblemBase: "https://a.example/"})
	b := auth.New(newStore(goodRecord()), &auth.Options{Realm: "b", ProblemBase: "https://b.example/"})
	for _, c := range []struct {
		name, key   string
		wraps       []wrapper
		realm, base string
	}{
		{"nothing", goodKey, nil, "api", "https://docs.insigner.com/errors/"},
		{"Middleware", goodKey, []wrapper{a.Middleware}, "a", "https://a.example/"},
		{"Optional", "", []wrapper{a.Optional}, "a", "https://a.example/"},
		{"a.Require", goodKey, []wrapper{a.Require("a.x")}, "a", "https://a.example/"},
		{"Vouch", "", []wrapper{vouching(a, vouchable("session"))}, "a", "https://a.example/"},
		{"two", goodKey, []wrapper{a.Middleware, b.Middleware}, "b", "https://b.example/"},
		{"a's route in b", goodKey, []wrapper{a.Middleware, b.Middleware, a.Require("a.x")}, "a", "https://a.example/"},
	} {
		w := serve(nest(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			auth.WriteProblem(w, r, auth.ErrInsufficientScope)
		}), c.wraps...), requestWith(c.key))
		if got, want := problemIn(t, w).Type, c.base+"forbidden"; got != want {
			t.Errorf("%s: problem %q, want %q", c.name, got, want)
		}
		want := `Bearer realm="` + c.realm + `", error="insufficient_scope"`
		if got := w.Header().Get("WWW-Authenticate"); got != want {
			t.Errorf("%s: challenge %q, want %q", c.name, got, want)
		}
	}
}

// TestCacheControl: an accepted request gets "private", unless an outer handler
// has set a Cache-Control. The inner handler may replace it.
func TestCacheControl(t *testing.T) {
	a := auth.New(newStore(goodRecord()), nil)
	b, none := auth.New(newStore(goodRecord()), nil), auth.New(newStore(), nil)
	header := func(values ...string) wrapper {
		return before(func(w http.ResponseWriter, _ *http.Request) { w.Header()["Cache-Control"] = values })
	}
	replace := before(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Cache-Control", "no-cache") })
	add := before(func(w http.ResponseWriter, _ *http.Request) { w.Header().Add("Cache-Control", "no-cache") })
	remove := before(func(w http.ResponseWriter, _ *http.Request) { w.Header().Del("Cache-Control") })
	route := auth.Require("a.x")
	for _, c := range []struct {
		name, key string
		wraps     []wrapper
		want      []string
	}{
		{"Middleware", goodKey, []wrapper{a.Middleware}, []string{"private"}},
		{"Middleware, Require", goodKey, []wrapper{a.Middleware, route}, []string{"private"}},
		{"Optional", goodKey, []wrapper{a.Optional}, []string{"private"}},
		{"Optional, no key", "", []wrapper{a.Optional}, nil},
		{"a.Require", goodKey, []wrapper{a.Require("a.x")}, []string{"private"}},
		{"twice", goodKey, []wrapper{a.Middleware, b.Middleware, a.Require("a.x")}, []string{"private"}},
		{"set outside", goodKey, []wrapper{header("no-store"), a.Middleware, route}, []string{"no-store"}},
		{"set outside, two", goodKey, []wrapper{header("no-cache", "a=1"), a.Middleware}, []string{"no-cache", "a=1"}},
		{"set outside, a.Require", goodKey, []wrapper{header("public"), a.Require("a.x")}, []string{"public"}},
		{"set outside, no key", "", []wrapper{header("public"), a.Optional}, []string{"public"}},
		{"empty outside", goodKey, []wrapper{header(), a.Middleware}, []string{"private"}},
		{"replaced inside", goodKey, []wrapper{a.Middleware, replace}, []string{"no-cache"}},
		{"replaced between", goodKey, []wrapper{a.Middleware, replace, a.Require("a.x")}, []string{"no-cache"}},
		{"added inside", goodKey, []wrapper{a.Middleware, add}, []string{"private", "no-cache"}},
		{"removed inside", goodKey, []wrapper{a.Middleware, remove}, nil},
		{"removed between", goodKey, []wrapper{a.Middleware, remove, a.Require("a.x")}, nil},
		{"refused", "x", []wrapper{a.Middleware}, []string{"no-store"}},
		{"refused, set outside", "x", []wrapper{header("public"), a.Middleware}, []string{"no-store"}},
		{"refused inside", goodKey, []wrapper{a.Middleware, route, none.Require("a.x")}, []string{"no-store"}},
	} {
		w := serve(nest(new(probe), c.wraps...), requestWith(c.key))
		if got := w.Header()["Cache-Control"]; !slices.Equal(got, c.want) {
			t.Errorf("%s: Cache-Control %q, want %q", c.name, got, c.want)
		}
	}

	// No two requests share the value.
	for name, wrap := range map[string]wrapper{"Middleware": a.Middleware, "a.Require": a.Require("a.x")} {
		for range 3 {
			serve(wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				values := w.Header()["Cache-Control"]
				if want := []string{"private"}; !slices.Equal(values, want) {
					t.Fatalf("%s: Cache-Control %q, want %q", name, values, want)
				}
				values[0] = "public"
				_ = append(values, "public")
			})), requestWith(goodKey))
		}
	}
}

// TestRouteIsKnownOutside: a log outside sees the route that a mux inside
// chose, for requests that are accepted and refused.
func TestRouteIsKnownOutside(t *testing.T) {
	a, b := auth.New(newStore(scopedRecord("a.x")), nil), auth.New(newStore(goodRecord()), nil)
	const route = "GET /documents/{id}"
	for _, c := range []struct {
		name  string
		wraps []wrapper
		key   string
		scope auth.Scope
		path  string
		code  int
		want  string
	}{
		{"Middleware", []wrapper{a.Middleware}, goodKey, "a.x", "/documents/7", 200, route},
		{"Middleware, refused inside", []wrapper{a.Middleware}, goodKey, "b.x", "/documents/7", 403, route},
		{"Middleware, no route", []wrapper{a.Middleware}, goodKey, "a.x", "/nothing", 404, ""},
		{"Middleware, refused", []wrapper{a.Middleware}, "x", "a.x", "/documents/7", 401, ""},
		{"Optional", []wrapper{a.Optional}, goodKey, "a.x", "/documents/7", 200, route},
		{"Optional, no key", []wrapper{a.Optional}, "", "a.x", "/documents/7", 401, route},
		{"a.Require", []wrapper{a.Require("a.x")}, goodKey, "a.x", "/documents/7", 200, route},
		{"a.RequireAny", []wrapper{a.RequireAny("a.x")}, goodKey, "b.x", "/documents/7", 403, route},
		{"two", []wrapper{b.Middleware, a.Middleware}, goodKey, "a.x", "/documents/7", 200, route},
		{"three", []wrapper{a.Middleware, b.Middleware, a.Require("a.x")}, goodKey, "a.x", "/documents/7", 200, route},
	} {
		mux := http.NewServeMux()
		mux.Handle(route, auth.Require(c.scope)(new(probe)))
		api := nest(mux, c.wraps...)
		logged := "the log did not run"
		logging := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			api.ServeHTTP(w, r)
			logged = r.Pattern
		})
		r := requestWith(c.key)
		r.URL.Path = c.path
		if got := serve(logging, r).Code; got != c.code {
			t.Errorf("%s: status %d, want %d", c.name, got, c.code)
		}
		if logged != c.want {
			t.Errorf("%s: the log has the route %q, want %q", c.name, logged, c.want)
		}
	}
}

// A passing is a wrapper that passes a copy of the request on.
type passing struct {
	name, key string
	wrap      wrapper
}

func passingsOf(a, b *auth.Authenticator) []passing {
	nested := func(wraps ...wrapper) wrapper { return func(h http.Handler) http.Handler { return nest(h, wraps...) } }
	return []passing{
		{"Middleware", goodKey, a.Middleware},
		{"Optional", goodKey, a.Optional},
		{"Optional, no key", "", a.Optional},
		{"a.Require", goodKey, a.Require("a.x")},
		{"a.RequireAny", goodKey, a.RequireAny("a.x")},
		{"Middleware, Require", goodKey, nested(a.Middleware, auth.Require("a.x"))},
		{"two Middlewares", goodKey, nested(a.Middleware, b.Middleware)},
		{"three", goodKey, nested(a.Middleware, b.Middleware, a.Require("a.x"))},
	}
}

// TestGiveBack: the request that a wrapper was given gets Pattern and
// MultipartForm of the copy, also if the handler panics, and nothing else. What
// did not change is not written.
func TestGiveBack(t *testing.T) {
	a, b := auth.New(newStore(goodRecord()), nil), auth.New(newStore(goodRecord()), nil)
	form, other := new(multipart.Form), new(multipart.Form)
	for _, p := range passingsOf(a, b) {
		for _, c := range []struct {
			name        string
			do          func(r *http.Request)
			pattern     string
			form        *multipart.Form
			samePattern bool // its bytes are those of before
		}{
			{"nothing", func(r *http.Request) {}, "before", form, true},
			{"a pattern", func(r *http.Request) { r.Pattern = "after" }, "after", form, false},
			{"no pattern", func(r *http.Request) { r.Pattern = "" }, "", form, false},
			{"an equal pattern", func(r *http.Request) { r.Pattern = strings.Clone(r.Pattern) }, "before", form, true},
			{"a form", func(r *http.Request) { r.MultipartForm = other }, "before", other, true},
			{"no form", func(r *http.Request) { r.MultipartForm = nil }, "before", nil, true},
			{"both, and a panic", func(r *http.Request) {
				r.Pattern, r.MultipartForm = "after", other
				panic("of the handler")
			}, "after", other, false},
			{"the rest", func(r *http.Request) {
				r.Method, r.URL, r.Host, r.RequestURI = "PUT", nil, "other", "other"
				r.Form = map[string][]string{"a": {"b"}}
			}, "before", form, true},
		} {
			name := p.name + ", " + c.name
			r := requestWith(p.key)
			r.Pattern, r.MultipartForm = "before", form
			want := *r
			patternBytes := unsafe.StringData(r.Pattern)
			serve(recovering(p.wrap(http.HandlerFunc(func(_ http.ResponseWriter, own *http.Request) {
				if own == r {
					t.Errorf("%s: the handler got the request itself, want a copy", name)
				}
				c.do(own)
			}))), r)
			if r.Pattern != c.pattern {
				t.Errorf("%s: Pattern %q, want %q", name, r.Pattern, c.pattern)
			}
			if same := unsafe.StringData(r.Pattern) == patternBytes; same != c.samePattern {
				t.Errorf("%s: Pattern is the very string of before: %v, want %v", name, same, c.samePattern)
			}
			if r.MultipartForm != c.form {
				t.Errorf("%s: MultipartForm %p, want %p", name, r.MultipartForm, c.form)
			}
			want.Pattern, want.MultipartForm = c.pattern, c.form
			if !reflect.DeepEqual(*r, want) {
				t.Errorf("%s: the request is %+v, want %+v", name, *r, want)
			}
		}
	}
}

// TestUnchangedRequest: a request is not written to if nothing changed. Readers
// outside do not have to wait for the handler. Only the race detector can see a
// failure.
func TestUnchangedRequest(t *testing.T) {
	a, b := auth.New(newStore(goodRecord()), nil), auth.New(newStore(goodRecord()), nil)
	for _, p := range passingsOf(a, b) {
		r := requestWith(p.key)
		r.Pattern, r.MultipartForm = "before", new(multipart.Form)
		h := p.wrap(new(nopHandler))
		var done atomic.Bool
		var readers, handlers sync.WaitGroup
		for range 2 {
			readers.Go(func() {
				for !done.Load() {
					if copied := *r; copied.Pattern != "before" { // reads each field
						t.Errorf("%s: Pattern %q, want before", p.name, copied.Pattern)
					}
					runtime.Gosched()
				}
			})
			handlers.Go(func() { // one request, in two handlers at once
				for range 20 {
					if got := serve(h, r).Code; got != http.StatusOK {
						t.Errorf("%s: status %d, want 200", p.name, got)
					}
				}
			})
		}
		handlers.Wait()
		done.Store(true)
		readers.Wait()
		if _, known := auth.FromContext(r.Context()); known {
			t.Errorf("%s: the request outside has the record in its context", p.name)
		}
	}
}

// A nopHandler does nothing.
type nopHandler struct{}

func (*nopHandler) ServeHTTP(http.ResponseWriter, *http.Request) {}

// TestUploadsAreRemoved: the server removes the files that a handler inside had
// ParseMultipartForm write to the disk.
func TestUploadsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(name, dir)
	}
	filesIn := func() int {
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	file, err := form.CreateFormFile("file", "lease.pdf")
	if err != nil {
		t.Fatal(err)
	}
	file.Write(make([]byte, 11<<20)) // ParseMultipartForm keeps 10 MiB more than it is told in memory
	form.Close()

	a, b := auth.New(newStore(goodRecord()), nil), auth.New(newStore(goodRecord()), nil)
	for _, p := range passingsOf(a, b) {
		for _, panics := range []bool{false, true} {
			name := fmt.Sprintf("%s, panic %v", p.name, panics)
			h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if err := r.ParseMultipartForm(1); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if got := filesIn(); got != 1 {
					t.Errorf("%s: %d files while the handler runs, want 1", name, got)
				}
				if panics {
					panic("of the handler")
				}
			})
			server := httptest.NewServer(recovering(p.wrap(h)))
			r, err := http.NewRequest("POST", server.URL, bytes.NewReader(body.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", form.FormDataContentType())
			if p.key != "" {
				r.Header.Set("Authorization", "Bearer "+p.key)
			}
			response, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(name, err)
			}
			response.Body.Close()
			if response.StatusCode != http.StatusOK {
				t.Errorf("%s: status %d, want 200", name, response.StatusCode)
			}
			server.Close() // waits for the end of the request
			if got := filesIn(); got != 0 {
				t.Errorf("%s: %d files are left, want 0", name, got)
			}
		}
	}
}

// TestHostPanics: a panic of the store, the hook or the ErrorHandler reaches
// the host's recovery, and the handler is not called.
func TestHostPanics(t *testing.T) {
	handler := func(answered bool, panics string) func(http.ResponseWriter, *http.Request, error) bool {
		return func(http.ResponseWriter, *http.Request, error) bool {
			if panics != "" {
				panic(panics)
			}
			return answered
		}
	}
	hook := func(context.Context, auth.Decision) { panic("hook") }
	later := func(_ context.Context, d auth.Decision) {
		if d.Required() != nil {
			panic("hook")
		}
	}
	good := newStore(scopedRecord("b.x"))
	broken := storeFunc(func(context.Context, auth.Hash) (*auth.Record, error) { panic("store") })
	for _, c := range []struct {
		name  string
		store auth.Store
		opts  auth.Options
		key   string
		want  string
	}{
		{"store", broken, auth.Options{}, goodKey, "store"},
		{"store, with a hook", broken, auth.Options{OnDecision: new(hookLog).add}, goodKey, "store"},
		{"store, not asked", broken, auth.Options{}, "x", ""},
		{"hook, accepted", good, auth.Options{OnDecision: hook}, goodKey, "hook"},
		{"hook, refused", good, auth.Options{OnDecision: hook}, "x", "hook"},
		{"hook of Require", good, auth.Options{OnDecision: later}, goodKey, "hook"},
		{"ErrorHandler, 401", good, auth.Options{ErrorHandler: handler(true, "handler")}, "x", "handler"},
		{"ErrorHandler, 403", good, auth.Options{ErrorHandler: handler(true, "handler")}, goodKey, "handler"},
		{"ErrorHandler that answers nothing, 401", good, auth.Options{ErrorHandler: handler(true, "")}, "x", ""},
		{"ErrorHandler that answers nothing, 403", good, auth.Options{ErrorHandler: handler(true, "")}, goodKey, ""},
		{"ErrorHandler that declines, 401", good, auth.Options{ErrorHandler: handler(false, "")}, "x", ""},
		{"ErrorHandler that declines, 403", good, auth.Options{ErrorHandler: handler(false, "")}, goodKey, ""},
	} {
		a := auth.New(c.store, &c.opts)
		for name, wraps := range map[string][]wrapper{
			"a.Require":                {a.Require("a.x")},
			"a.Require in Middleware":  {a.Middleware, a.Require("a.x")},
			"RequireAny in Middleware": {a.Middleware, auth.RequireAny("a.x")},
			"Require in Optional":      {a.Optional, auth.Require("a.x")},
		} {
			h := nest(closed(t), wraps...)
			if got := panicOf(func() { serve(h, requestWith(c.key)) }); got != c.want {
				t.Errorf("%s, %s: panic %q, want %q", c.name, name, got, c.want)
			}
		}
	}
	declining := auth.New(good, &auth.Options{ErrorHandler: handler(false, "")})
	if got := serve(declining.Require("a.x")(closed(t)), requestWith(goodKey)).Code; got != http.StatusForbidden {
		t.Errorf("an ErrorHandler that declines: status %d, want 403", got)
	}
}

// TestMiddlewareAllocations: an accepted request costs 2 allocations,
// Middleware and Require together. A refused one costs at most 8.
func TestMiddlewareAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector changes what is allocated")
	}
	revoked, expired := goodRecord(), goodRecord()
	revoked.RevokedAt, expired.ExpiresAt = epoch, time.Unix(1, 0)
	down := fmt.Errorf("lookup: %w", errors.New("failed to connect to `user=api database=keys`: "+
		"127.0.0.1:5432 (127.0.0.1): dial error: dial tcp 127.0.0.1:5432: connect: connection refused"))
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	hook := func(context.Context, auth.Decision) {}
	for _, c := range []struct {
		name  string
		store auth.Store
		value string
		both  float64 // Middleware and Require
		alone float64 // a.Require
		exact bool    // of both; otherwise these are limits
	}{
		{"accepted", newStore(scopedRecord("documents.*")), "Bearer " + goodKey, 2, 2, true},
		{"missing", newStore(), "", 8, 8, false},
		{"format", newStore(), "Bearer x", 8, 8, false},
		{"malformed", newStore(), "Bearer isk_x", 8, 8, false},
		{"unknown", newStore(), "Bearer " + keyOf("A"), 8, 8, false},
		{"revoked", newStore(revoked), "Bearer " + goodKey, 8, 8, false},
		{"expired", newStore(expired), "Bearer " + goodKey, 8, 8, false},
		{"scope", newStore(scopedRecord("a.x")), "Bearer " + goodKey, 8, 8, false},
		{"outage", failingStore(down), "Bearer " + goodKey, 8, 8, false},
		{"canceled", failingStore(context.Canceled), "Bearer " + goodKey, 8, 8, false},
	} {
		for optsName, opts := range map[string]*auth.Options{
			"no options": {Logger: logger},
			"catalog":    {Logger: logger, Scheme: auth.Scheme{Catalog: auth.PublishedCatalog()}},
			"hook":       {Logger: logger, OnDecision: hook},
		} {
			if optsName == "hook" && c.exact {
				continue // a Decision may cost more
			}
			a := auth.New(c.store, opts)
			calls := 0
			h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls++ })
			r := httptest.NewRequest("GET", "/", nil)
			if c.value != "" {
				r.Header.Set("Authorization", c.value)
			}
			w := nullWriter{http.Header{}}
			count := func(h http.Handler) float64 {
				return testing.AllocsPerRun(200, func() {
					clear(w.header)
					h.ServeHTTP(w, r)
				})
			}
			got := count(a.Middleware(auth.Require("documents.read")(h)))
			if got > c.both {
				t.Errorf("%s, %s: %v allocations, want at most %v", c.name, optsName, got, c.both)
			}
			if c.exact && got != c.both {
				t.Errorf("%s, %s: %v allocations, want %v", c.name, optsName, got, c.both)
			}
			if got := count(a.Require("documents.read")(h)); got > c.alone {
				t.Errorf("%s, %s: a.Require alone: %v allocations, want at most %v", c.name, optsName, got, c.alone)
			}
			if (calls > 0) != c.exact {
				t.Errorf("%s, %s: the handler was called %d times", c.name, optsName, calls)
			}
		}
	}
}

// TestRouteOfTwoAuthenticators: one Require may be used under two
// Authenticators, in turn and at once. Each answers with its own realm and its
// own catalog.
func TestRouteOfTwoAuthenticators(t *testing.T) {
	store := newStore(scopedRecord("b.x"))
	a := auth.New(store, &auth.Options{Realm: "a"})
	b := auth.New(store, &auth.Options{Realm: "b", ProblemBase: "https://b.example/"})
	catalog := auth.Catalog{{Scope: "b.x"}}
	c := auth.New(store, &auth.Options{Logger: quiet(), Scheme: auth.Scheme{Catalog: catalog}})
	route := auth.Require("a.x")(closed(t))
	const base = "https://docs.insigner.com/errors/"
	var group sync.WaitGroup
	for _, want := range []struct {
		name      string
		by        *auth.Authenticator
		status    int
		challenge string
		problem   string
	}{
		{"a", a, 403, `Bearer realm="a", error="insufficient_scope", scope="a.x"`, base + "forbidden"},
		{"b", b, 403, `Bearer realm="b", error="insufficient_scope", scope="a.x"`, "https://b.example/forbidden"},
		{"c", c, 500, "", base + "internal-error"},
	} {
		group.Go(func() {
			for range 50 {
				w := serve(want.by.Middleware(route), requestWith(goodKey))
				if w.Code != want.status {
					t.Errorf("%s: status %d, want %d", want.name, w.Code, want.status)
				}
				if got := w.Header().Get("WWW-Authenticate"); got != want.challenge {
					t.Errorf("%s: challenge %q, want %q", want.name, got, want.challenge)
				}
				if got := problemIn(t, w).Type; got != want.problem {
					t.Errorf("%s: problem %q, want %q", want.name, got, want.problem)
				}
			}
		})
	}
	group.Wait()
}

// TestMiddlewareDecisions: what the hook is told, once for each decision and
// before the answer.
func TestMiddlewareDecisions(t *testing.T) {
	revoked, disabled, expired := scopedRecord("a.*"), scopedRecord("a.*"), scopedRecord("a.*")
	revoked.RevokedAt, disabled.DisabledAt, expired.ExpiresAt = epoch, epoch, time.Unix(1, 0)
	const authenticate, authorize = auth.StepAuthenticate, auth.StepAuthorize
	for _, c := range []struct {
		name     string
		store    auth.Store
		key      string
		step     auth.Step
		err      error
		code     string
		known    bool
		lookedUp bool
	}{
		{"good", newStore(scopedRecord("a.*")), goodKey, authorize, nil, "", true, true},
		{"scope", newStore(scopedRecord("a.x")), goodKey, authorize, auth.ErrInsufficientScope,
			"INSUFFICIENT_SCOPE", true, true},
		{"revoked", newStore(revoked), goodKey, authenticate, auth.ErrKeyRevoked, "KEY_REVOKED", true, true},
		{"disabled", newStore(disabled), goodKey, authenticate, auth.ErrKeyDisabled, "KEY_DISABLED", true, true},
		{"expired", newStore(expired), goodKey, authenticate, auth.ErrKeyExpired, "KEY_EXPIRED", true, true},
		{"unknown", newStore(), goodKey, authenticate, auth.ErrInvalidKey, "INVALID_KEY", false, true},
		{"outage", failingStore(context.DeadlineExceeded), goodKey, authenticate, auth.ErrStoreUnavailable,
			"STORE_UNAVAILABLE", false, true},
		{"malformed", newStore(), "isk_x", authenticate, auth.ErrInvalidKey, "INVALID_KEY", false, false},
		{"format", newStore(), "x", authenticate, auth.ErrInvalidFormat, "INVALID_FORMAT", false, false},
		{"missing", newStore(), "", authenticate, auth.ErrMissingKey, "MISSING_KEY", false, false},
	} {
		var said []auth.Decision
		type key struct{}
		w := httptest.NewRecorder()
		a := auth.New(c.store, &auth.Options{Logger: quiet(), OnDecision: func(ctx context.Context, d auth.Decision) {
			if w.Body.Len() > 0 {
				t.Errorf("%s: the hook was told after the answer", c.name)
			}
			if got := ctx.Value(key{}); got != c.name {
				t.Errorf("%s: the hook got a context with the value %v, want that of the request", c.name, got)
			}
			said = append(said, d)
		}})
		r := requestWith(c.key)
		r = r.WithContext(context.WithValue(r.Context(), key{}, c.name))
		start := time.Now()
		a.Require("a.x", "a.y")(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "hello")
		})).ServeHTTP(w, r)
		if len(said) != 1 {
			t.Fatalf("%s: %d decisions, want 1", c.name, len(said))
		}
		d := said[0]
		if d.Step != c.step {
			t.Errorf("%s: step %q, want %q", c.name, d.Step, c.step)
		}
		if !errors.Is(d.Err, c.err) {
			t.Errorf("%s: error %v, want %v", c.name, d.Err, c.err)
		}
		if d.Code != c.code {
			t.Errorf("%s: code %q, want %q", c.name, d.Code, c.code)
		}
		if d.Request != r {
			t.Errorf("%s: the decision is about another request", c.name)
		}
		record, known := d.Record()
		if known != c.known {
			t.Errorf("%s: the record is known: %v, want %v", c.name, known, c.known)
		}
		if got := record.ID == "key_good"; got != c.known {
			t.Errorf("%s: the record is %q", c.name, record.ID)
		}
		if got := d.KeyID() == "key_good"; got != c.known {
			t.Errorf("%s: KeyID %q", c.name, d.KeyID())
		}
		if got := d.Lookup > 0; got != c.lookedUp {
			t.Errorf("%s: the lookup took %v; the store was asked: %v", c.name, d.Lookup, c.lookedUp)
		}
		if d.Time.Before(start) {
			t.Errorf("%s: decided at %v, before the request at %v", c.name, d.Time, start)
		}
		if now := time.Now(); d.Time.After(now) {
			t.Errorf("%s: decided at %v, which is after %v", c.name, d.Time, now)
		}
		if got, want := d.Required(), scopesOf("a.x a.y"); !slices.Equal(got, want) {
			t.Errorf("%s: %v was required, want %v", c.name, got, want)
		}
	}
}

// TestDecisionsOfOneRequest: Middleware decides who it is, and then each
// Require and each Authorize decides once whether it may, before the handler
// runs.
func TestDecisionsOfOneRequest(t *testing.T) {
	var said []string
	a := auth.New(newStore(scopedRecord("a.x")), &auth.Options{OnDecision: func(_ context.Context, d auth.Decision) {
		said = append(said, strings.TrimRight(fmt.Sprintf("%s %s", d.Step, d.Code), " "))
	}})
	note := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { said = append(said, "called") })
	const ok, forbidden, refused = "a.x", "b.x", "authenticate, authorize INSUFFICIENT_SCOPE"
	authorize, authorizeAny := authorizing(auth.Authorize), authorizing(auth.AuthorizeAny)
	for _, c := range []struct {
		name  string
		wraps []wrapper
		want  string
	}{
		{"Middleware", []wrapper{a.Middleware}, "authenticate, called"},
		{"Require", []wrapper{a.Middleware, auth.Require(ok)}, "authenticate, authorize, called"},
		{"Require, 403", []wrapper{a.Middleware, auth.Require(forbidden)}, refused},
		{"a.Require", []wrapper{a.Middleware, a.RequireAny(ok)}, "authenticate, authorize, called"},
		{"a.Require, 403", []wrapper{a.Middleware, a.RequireAny(forbidden)}, refused},
		{"a.Require alone", []wrapper{a.Require(ok)}, "authorize, called"},
		{"a.Require alone, 403", []wrapper{a.Require(forbidden)}, "authorize INSUFFICIENT_SCOPE"},
		{"Authorize", []wrapper{a.Middleware, authorize(ok)}, "authenticate, authorize, called"},
		{"AuthorizeAny, 403", []wrapper{a.Middleware, authorizeAny(forbidden)}, refused},
		{"both", []wrapper{a.Optional, auth.Require(ok), authorize(ok)}, "authenticate, authorize, authorize, called"},
	} {
		said = nil
		serve(nest(note, c.wraps...), requestWith(goodKey))
		if got := strings.Join(said, ", "); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}

	// The decision about the scopes is about the request that the route got.
	log := new(hookLog)
	a = auth.New(newStore(scopedRecord("b.x")), &auth.Options{OnDecision: log.add})
	for _, way := range waysOf(a) {
		log.list = nil
		var route *http.Request
		serve(nest(closed(t), a.Middleware, before(func(_ http.ResponseWriter, r *http.Request) { route = r }),
			way.wrap("a.x")), requestWith(goodKey))
		if len(log.list) != 2 {
			t.Fatalf("%s: %d decisions, want 2", way.name, len(log.list))
		}
		who, may := log.list[0], log.list[1]
		if who.Required() != nil {
			t.Errorf("%s: Middleware required %v, want nothing", way.name, who.Required())
		}
		if who.Lookup == 0 {
			t.Errorf("%s: the decision of Middleware has no time for the lookup", way.name)
		}
		if got, want := may.Required(), scopesOf("a.x"); !slices.Equal(got, want) {
			t.Errorf("%s: %v was required, want %v", way.name, got, want)
		}
		if may.Lookup != 0 {
			t.Errorf("%s: the decision about the scopes has a lookup of %v, want none", way.name, may.Lookup)
		}
		if got := may.KeyID(); got != "key_good" {
			t.Errorf("%s: the decision about the scopes is about %q, want key_good", way.name, got)
		}
		if may.Time.IsZero() {
			t.Errorf("%s: the decision about the scopes has no time", way.name)
		}
		if may.Request != route {
			t.Errorf("%s: the decision about the scopes is about another request", way.name)
		}
	}
}

// A rawAnswer is what a client gets, byte for byte except for the Date, and
// what it costs the store.
type rawAnswer struct {
	code  string // of the error table, or OK
	calls int64  // to the store
	text  string // the whole response; if empty, net/http refuses the request itself with 400
}

// wireProblem returns a whole response. The lengths are written out, so that a
// changed body shows twice.
func wireProblem(status, length, challenge, extra, body string) string {
	if challenge != "" {
		challenge = "Www-Authenticate: " + challenge + "\r\n"
	}
	return "HTTP/1.1 " + status + "\r\nCache-Control: no-store\r\nContent-Length: " + length +
		"\r\nContent-Type: application/problem+json\r\n" + extra + challenge +
		"X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n" + body + "\n"
}

func wire401(code string, calls int64, length, attribute, detail string) rawAnswer {
	return rawAnswer{code, calls, wireProblem("401 Unauthorized", length, `Bearer realm="api"`+attribute, "",
		`{"type":"https://docs.insigner.com/errors/unauthorized","title":"Unauthorized","status":401,`+
			`"detail":"`+detail+`","code":"`+code+`"}`)}
}

const (
	wireInvalidToken = `, error="invalid_token"`
	wireKeyDetail    = "Invalid or missing API key"
)

var (
	wireOK = rawAnswer{"OK", 1, "HTTP/1.1 200 OK\r\nCache-Control: private\r\nContent-Length: 5\r\n" +
		"Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\nhello"}

	wireMissing   = wire401("MISSING_KEY", 0, "152", "", wireKeyDetail)
	wireFormat    = wire401("INVALID_FORMAT", 0, "155", wireInvalidToken, wireKeyDetail)
	wireMalformed = wire401("INVALID_KEY", 0, "152", wireInvalidToken, wireKeyDetail)
	wireUnknown   = wire401("INVALID_KEY", 1, "152", wireInvalidToken, wireKeyDetail)
	wireRevoked   = wire401("KEY_REVOKED", 1, "150", wireInvalidToken, "API key has been revoked")
	wireDisabled  = wire401("KEY_DISABLED", 1, "152", wireInvalidToken, "API key has been disabled")
	wireExpired   = wire401("KEY_EXPIRED", 1, "145", wireInvalidToken, "API key has expired")
	wireForbidden = rawAnswer{"INSUFFICIENT_SCOPE", 1, wireProblem("403 Forbidden", "211",
		`Bearer realm="api", error="insufficient_scope", scope="documents.read"`, "",
		`{"type":"https://docs.insigner.com/errors/forbidden","title":"Forbidden","status":403,`+
			`"detail":"API key lacks the required scope: documents.read","code":"INSUFFICIENT_SCOPE",`+
			`"requiredScopes":["documents.read"]}`)}
	wireUnavailable = rawAnswer{"STORE_UNAVAILABLE", 1, wireProblem("503 Service Unavailable", "195", "",
		"Retry-After: 5\r\n",
		`{"type":"https://docs.insigner.com/errors/service-unavailable","title":"Service Unavailable","status":503,`+
			`"detail":"The API key could not be checked; try again later","code":"STORE_UNAVAILABLE"}`)}

	wireRefused = rawAnswer{code: "400"}
)

// A wireServer is an API with an Authenticator. It counts all that happens.
type wireServer struct {
	*httptest.Server
	store                       *countingStore
	opened, decisions, answered atomic.Int64
	last                        atomic.Pointer[auth.Decision]
}

// newWireServer starts a server with Middleware and Require. With http2, it
// speaks HTTP/2 over TLS.
func newWireServer(t *testing.T, store auth.Store, http2 bool) *wireServer {
	s := &wireServer{store: &countingStore{Store: store}}
	a := auth.New(s.store, &auth.Options{
		Logger: quiet(),
		OnDecision: func(_ context.Context, d auth.Decision) {
			if d.Required() == nil { // that of Middleware
				s.decisions.Add(1)
			}
			s.last.Store(&d)
		},
	})
	api := a.Middleware(auth.Require("documents.read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.opened.Add(1)
		io.WriteString(w, "hello")
	})))
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.answered.Add(1)
		api.ServeHTTP(w, r)
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	if http2 {
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

var wireDate = regexp.MustCompile(`(?m)^Date: .*\r\n`)

// roundTrip writes a request as it is, and reads until the server closes the
// connection.
func (s *wireServer) roundTrip(t *testing.T, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute)) // so that a server that hangs fails the test
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return wireDate.ReplaceAllString(string(response), "")
}

// check sends a request and compares the response, the lookups, the decisions,
// and whether a handler was called.
func (s *wireServer) check(t *testing.T, want rawAnswer, request string) {
	t.Helper()
	calls, opened, decisions, answered := s.store.calls.Load(), s.opened.Load(), s.decisions.Load(), s.answered.Load()
	s.last.Store(nil)
	got := s.roundTrip(t, request)
	if want.text == "" {
		if !strings.HasPrefix(got, "HTTP/1.1 400 ") {
			t.Errorf("got %.300q, want 400 from net/http", got)
		}
		if n := s.answered.Load() - answered; n != 0 {
			t.Errorf("%d requests reached the handlers, want 0", n)
		}
		return
	}
	wantText := want.text
	if strings.HasPrefix(request, "HEAD ") {
		head, _, _ := strings.Cut(wantText, "\r\n\r\n")
		wantText = head + "\r\n\r\n"
	}
	if got != wantText {
		t.Error(differ(got, wantText))
	}
	if n := s.store.calls.Load() - calls; n != want.calls {
		t.Errorf("%d calls to the store, want %d", n, want.calls)
	}
	if n := s.opened.Load() - opened; (n == 1) != (want.code == "OK") {
		t.Errorf("the handler was called %d times, with %s", n, want.code)
	}
	if n := s.decisions.Load() - decisions; n != 1 {
		t.Errorf("%d decisions, want 1", n)
	}
	d := s.last.Load()
	if d == nil {
		t.Fatal("no decision")
	}
	code := d.Code
	if d.Err == nil {
		code = "OK"
	}
	if code != want.code {
		t.Errorf("the decision was %s, want %s", code, want.code)
	}
	ofMiddleware := d.Required() == nil
	if ofMiddleware && (d.Lookup > 0) != (want.calls > 0) {
		t.Errorf("the decision has a lookup of %v, with %d calls to the store", d.Lookup, want.calls)
	}
}

// differ tells where got and want differ.
func differ(got, want string) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	from := max(0, i-20)
	return fmt.Sprintf("byte %d: got %.60q, want %.60q", i, got[min(from, len(got)):], want[min(from, len(want)):])
}

// rawRequest puts the Host and "Connection: close" after the request line.
func rawRequest(request string) string {
	line, rest, _ := strings.Cut(wireText.Replace(request), "\r\n")
	if !strings.Contains(rest, "\r\n\r\n") {
		rest = strings.TrimLeft(rest+"\r\n", "\r\n") + "\r\n"
	}
	return line + "\r\nHost: api.example\r\nConnection: close\r\n" + rest
}

// values returns the field values of one of wireValues.
func (c wireCase) values() []string {
	return strings.Split(wireText.Replace(c.fields), "\n")
}

func (c wireCase) name() string {
	return strings.ReplaceAll(strconv.QuoteToASCII(c.fields[:min(len(c.fields), 60)]), "/", "|")
}

// TestWireHTTP1 sends raw bytes over TCP.
func TestWireHTTP1(t *testing.T) {
	s := newWireServer(t, newStore(goodRecord()), false)
	for _, c := range wireValues {
		t.Run(c.name(), func(t *testing.T) {
			var fields strings.Builder
			for _, v := range c.values() {
				fields.WriteString("Authorization: " + v + "\r\n")
			}
			s.check(t, c.want, rawRequest("GET /api/v1/documents HTTP/1.1\r\n"+fields.String()))
		})
	}
	for _, c := range wireFields {
		t.Run(c.name(), func(t *testing.T) {
			s.check(t, c.want, "GET / HTTP/1.1\r\n"+wireText.Replace(c.fields)+
				"\r\nHost: api.example\r\nConnection: close\r\n\r\n")
		})
	}
	for _, c := range wireRequests {
		t.Run(c.name(), func(t *testing.T) { s.check(t, c.want, rawRequest(c.fields)) })
	}
}

// TestWireRecords: what depends on the record, with several methods.
func TestWireRecords(t *testing.T) {
	change := func(f func(r *auth.Record)) auth.Store {
		r := scopedRecord("documents.read")
		f(&r)
		return newStore(r)
	}
	past := time.Unix(1, 0)
	for _, c := range []struct {
		name  string
		store auth.Store
		want  rawAnswer
	}{
		{"good", change(func(r *auth.Record) {}), wireOK},
		{"revoked", change(func(r *auth.Record) { r.RevokedAt = past }), wireRevoked},
		{"revoked and disabled", change(func(r *auth.Record) { r.RevokedAt, r.DisabledAt = past, past }), wireRevoked},
		{"revoked and expired", change(func(r *auth.Record) { r.RevokedAt, r.ExpiresAt = past, past }), wireRevoked},
		{"disabled", change(func(r *auth.Record) { r.DisabledAt = past }), wireDisabled},
		{"disabled and expired", change(func(r *auth.Record) { r.DisabledAt, r.ExpiresAt = past, past }), wireDisabled},
		{"expired", change(func(r *auth.Record) { r.ExpiresAt = past }), wireExpired},
		{"expired and without scope", change(func(r *auth.Record) { r.ExpiresAt, r.Scopes = past, nil }), wireExpired},
		{"without scope", change(func(r *auth.Record) { r.Scopes = nil }), wireForbidden},
		{"another scope", change(func(r *auth.Record) { r.Scopes = scopesOf("documents.write") }), wireForbidden},
		{"unknown", newStore(), wireUnknown},
		{"outage", failingStore(errors.New("disk on fire")), wireUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newWireServer(t, c.store, false)
			for _, method := range []string{"GET", "HEAD", "DELETE"} {
				s.check(t, c.want, rawRequest(method+" / HTTP/1.1\r\nAuthorization: Bearer KEY"))
			}
		})
	}
}

// TestWireHTTP2 sends what a client of net/http can send. The answers are those
// of HTTP/1.1.
func TestWireHTTP2(t *testing.T) {
	s := newWireServer(t, newStore(goodRecord()), true)
	client := s.Client()
	type request struct {
		name   string
		header http.Header
		want   rawAnswer
	}
	requests := []request{{"key in another field", http.Header{"X-Api-Key": {goodKey}}, wireMissing}}
	for _, c := range wireValues {
		requests = append(requests, request{c.name(), http.Header{"Authorization": c.values()}, c.want})
	}
	for _, c := range requests {
		for _, method := range []string{"GET", "HEAD"} {
			name := method + " " + c.name
			req, err := http.NewRequest(method, s.URL+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header = c.header.Clone()
			calls, opened, decisions := s.store.calls.Load(), s.opened.Load(), s.decisions.Load()
			response, err := client.Do(req)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil {
				t.Errorf("%s: reading the body: %v", name, err)
			}
			if response.ProtoMajor != 2 {
				t.Fatalf("%s: answered with %s, want HTTP/2", name, response.Proto)
			}
			want, err := http.ReadResponse(bufio.NewReader(strings.NewReader(c.want.text)), nil)
			if err != nil {
				t.Fatal(err)
			}
			wantBody, err := io.ReadAll(want.Body)
			if err != nil {
				t.Fatal(err)
			}
			if method == "HEAD" {
				wantBody = nil
			}
			response.Header.Del("Date")
			want.Header.Del("Connection")
			if response.StatusCode != want.StatusCode {
				t.Errorf("%s: status %d, want %d", name, response.StatusCode, want.StatusCode)
			}
			if !bytes.Equal(body, wantBody) {
				t.Errorf("%s: body %q, want %q", name, body, wantBody)
			}
			if !maps.EqualFunc(response.Header, want.Header, slices.Equal) {
				t.Errorf("%s: header %v, want %v", name, response.Header, want.Header)
			}
			if n := s.store.calls.Load() - calls; n != c.want.calls {
				t.Errorf("%s: %d calls to the store, want %d", name, n, c.want.calls)
			}
			if n := s.opened.Load() - opened; (n == 1) != (c.want.code == "OK") {
				t.Errorf("%s: the handler was called %d times, with %s", name, n, c.want.code)
			}
			if n := s.decisions.Load() - decisions; n != 1 {
				t.Errorf("%s: %d decisions, want 1", name, n)
			}
		}
	}
}

// TestWireTrailer: a key is not read from a trailer, not even if an outer
// handler has read the body.
func TestWireTrailer(t *testing.T) {
	a := auth.New(newStore(goodRecord()), nil)
	arrived := ""
	s := &wireServer{Server: httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		arrived = r.Trailer.Get("Authorization")
		a.Middleware(closed(t)).ServeHTTP(w, r)
	}))}
	defer s.Close()
	got := s.roundTrip(t, rawRequest("POST / HTTP/1.1\r\nTrailer: Authorization\r\nTransfer-Encoding: chunked\r\n\r\n"+
		"1\r\nx\r\n0\r\nAuthorization: Bearer KEY\r\n\r\n"))
	if got != wireMissing.text {
		t.Error(differ(got, wireMissing.text))
	}
	if want := "Bearer " + goodKey; arrived != want {
		t.Errorf("the outer handler got the trailer %q, want %q", arrived, want)
	}
}

// TestWireKeepAlive: after a refusal the connection is good for the next
// request.
func TestWireKeepAlive(t *testing.T) {
	s := newWireServer(t, newStore(goodRecord()), false)
	got := s.roundTrip(t, wireText.Replace("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"+
		"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"+
		"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer KEY\r\nConnection: close\r\n\r\n"))
	kept := strings.Replace(wireMissing.text, "Connection: close\r\n", "", 1)
	head, _, _ := strings.Cut(kept, "\r\n\r\n")
	if want := kept + head + "\r\n\r\n" + wireOK.text; got != want {
		t.Error(differ(got, want))
	}
}

// TestWireOuterHeaders: a refusal removes what an outer handler set for its own
// answer, and keeps what it set for every answer.
func TestWireOuterHeaders(t *testing.T) {
	a := auth.New(newStore(), nil)
	s := &wireServer{Server: httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, field := range []string{
			"Content-Length: 3", "Content-Type: text/html", `ETag: "x"`, "Last-Modified: yesterday",
			"Cache-Control: public, max-age=60", "Cache-Control: immutable",
			"Access-Control-Allow-Origin: *", "Vary: Origin", "X-Request-Id: req_1",
		} {
			name, value, _ := strings.Cut(field, ": ")
			w.Header().Add(name, value)
		}
		a.Middleware(closed(t)).ServeHTTP(w, r)
	}))}
	defer s.Close()
	want := strings.Replace(wireMissing.text, "\r\n", "\r\nAccess-Control-Allow-Origin: *\r\n", 1)
	want = strings.Replace(want, "\r\nWww-", "\r\nVary: Origin\r\nWww-", 1)
	want = strings.Replace(want, "nosniff\r\n", "nosniff\r\nX-Request-Id: req_1\r\n", 1)
	for _, method := range []string{"GET", "HEAD"} {
		if method == "HEAD" {
			want = want[:strings.Index(want, "\r\n\r\n")+4]
		}
		if got := s.roundTrip(t, rawRequest(method+" / HTTP/1.1")); got != want {
			t.Error(method, differ(got, want))
		}
	}
}

// A wireCase is the Authorization fields of a request, one in each line. KEY,
// SECRET (the key without its prefix), KEY43 (without its last character),
// HASH, HINT and BASE64 (of the key) stand for those of a good key.
type wireCase struct {
	fields string
	want   rawAnswer
}

var wireText = strings.NewReplacer(
	"KEY43", goodKey[:47], "KEY", goodKey, "SECRET", goodKey[4:], "HASH", goodHash.String(),
	"HINT", "isk_…U1v2", "BASE64", base64.StdEncoding.EncodeToString([]byte(goodKey+":")))

// wireValues follow "Authorization: ".
var wireValues = []wireCase{
	// The scheme.
	{"Bearer KEY", wireOK},
	{"bearer KEY", wireOK}, // RFC 9110 section 11.1: case-insensitive
	{"BEARER KEY", wireOK},
	{"bEaReR KEY", wireOK},
	{"", wireMissing},
	{" ", wireMissing},
	{"\t", wireMissing},
	{"Bearer", wireMissing},
	{"bearer", wireMissing},
	{"Bearer ", wireMissing},
	{"Bearer \t ", wireMissing},
	{"BearerKEY", wireMissing},
	{"Bearer:KEY", wireMissing},
	{"Bearer: KEY", wireMissing},
	{"Bearer=KEY", wireMissing},
	{"Bearer,KEY", wireMissing},
	{"Bearer, KEY", wireMissing},
	{"Bearer/KEY", wireMissing},
	{"Bearer%20KEY", wireMissing},
	{"Bearer+KEY", wireMissing},
	{"%42earer KEY", wireMissing},
	{"KEY", wireMissing},
	{"isk_", wireMissing},
	{"SECRET", wireMissing},
	{"Basic BASE64", wireMissing},
	{"Basic KEY", wireMissing},
	{"Basic x, Bearer KEY", wireMissing},
	{"Token KEY", wireMissing},
	{"ApiKey KEY", wireMissing},
	{"OAuth KEY", wireMissing},
	{"DPoP KEY", wireMissing},
	{`Digest username="KEY"`, wireMissing},
	{"Bearers KEY", wireMissing},
	{"Beare KEY", wireMissing},
	{"XBearer KEY", wireMissing},
	{"Be arer KEY", wireMissing},
	{"Be-arer KEY", wireMissing},
	{`"Bearer KEY"`, wireMissing},
	{`"Bearer" KEY`, wireMissing},
	{"'Bearer KEY'", wireMissing},
	{"Authorization: Bearer KEY", wireMissing},
	{",Bearer KEY", wireMissing},

	// White space.
	{"  Bearer KEY", wireOK},
	{"\tBearer KEY", wireOK},
	{" \t Bearer KEY", wireOK},
	{"Bearer KEY ", wireOK},
	{"Bearer KEY\t \t", wireOK},
	{"Bearer  KEY", wireOK}, // RFC 9110 section 11.4: 1*SP
	{"Bearer          KEY", wireOK},
	{"Bearer\tKEY", wireMissing},
	{"Bearer\t KEY", wireMissing},
	{"Bearer \tKEY", wireFormat},
	{"Bearer  \t KEY", wireFormat},
	{"Bearer\u00a0KEY", wireMissing}, // no-break space
	{"Bearer\xa0KEY", wireMissing},   // the same in Latin-1
	{"Bearer\u2003KEY", wireMissing}, // em space
	{"Bearer\u3000KEY", wireMissing}, // ideographic space
	{"Bearer\u2028KEY", wireMissing}, // line separator
	{"Bearer\u0085KEY", wireMissing}, // next line
	{"\u00a0Bearer KEY", wireMissing},
	{"\ufeffBearer KEY", wireMissing}, // byte order mark
	{"\u200bBearer KEY", wireMissing}, // zero width space
	{"Bea\u200brer KEY", wireMissing},
	{"Bearer \u00a0KEY", wireFormat},
	{"Bearer \u200bKEY", wireFormat},
	{"Bearer \ufeffKEY", wireFormat},
	{"Bearer KEY\u00a0", wireMalformed},
	{"Bearer KEY\u200b", wireMalformed},
	{"Bearer KEY KEY", wireMalformed},
	{"Bearer KEY x", wireMalformed},
	{"Bearer KEY\tx", wireMalformed},
	{"Bearer isk_ SECRET", wireMalformed},

	// Letters that look alike, or that case folding makes the same.
	{"\u0412earer KEY", wireMissing}, // Cyrillic Ve
	{"B\u0435arer KEY", wireMissing}, // Cyrillic ie
	{"Be\u0430rer KEY", wireMissing}, // Cyrillic a
	{"\uff22earer KEY", wireMissing}, // fullwidth B
	{"\u1d2eearer KEY", wireMissing}, // modifier B
	{"\xc2earer KEY", wireMissing},   // B with the eighth bit
	{"\"earer KEY", wireMissing},     // b without its two highest bits
	{"Be!rer KEY", wireMissing},      // a without them
	{"Beare2 KEY", wireMissing},      // r without one of them
	{"Bearer\u0301 KEY", wireMissing},
	{"Bearer \u0456sk_SECRET", wireFormat}, // Cyrillic i
	{"Bearer \u0131sk_SECRET", wireFormat}, // dotless i
	{"Bearer \u0130sk_SECRET", wireFormat}, // I with a dot
	{"Bearer i\u017fk_SECRET", wireFormat}, // long s, folds to s
	{"Bearer is\u212a_SECRET", wireFormat}, // Kelvin sign, folds to k
	{"Bearer isk\uff3fSECRET", wireFormat}, // fullwidth low line
	{"Bearer \uff49\uff53\uff4b\uff3fSECRET", wireFormat},
	{"Bearer isk_\u0410" + goodKey[6:], wireMalformed},     // Cyrillic A: two bytes, so the length is right
	{"Bearer isk_\uff21" + goodKey[7:], wireMalformed},     // fullwidth A
	{"Bearer isk_\u212a" + goodKey[7:], wireMalformed},     // Kelvin sign
	{"Bearer isk_A\u0301" + goodKey[7:], wireMalformed},    // combining acute
	{"Bearer KEY\u0301", wireMalformed},                    // the same at the end
	{"Bearer " + goodKey[:46] + "\u0661", wireMalformed},   // Arabic digit
	{"Bearer " + goodKey[:47] + "\xff", wireMalformed},     // no UTF-8
	{"Bearer " + goodKey[:46] + "\xc0\x80", wireMalformed}, // overlong NUL

	// The prefix.
	{"Bearer x", wireFormat},
	{"Bearer *", wireFormat},
	{"Bearer null", wireFormat},
	{"Bearer ISK_SECRET", wireFormat},
	{"Bearer Isk_SECRET", wireFormat},
	{"Bearer isK_SECRET", wireFormat},
	{"Bearer isk-SECRET", wireFormat},
	{"Bearer iskSECRET", wireFormat},
	{"Bearer isk", wireFormat},
	{"Bearer sk_SECRET", wireFormat},
	{"Bearer _isk_SECRET", wireFormat},
	{"Bearer acme_live_SECRET", wireFormat},
	{"Bearer SECRET", wireFormat},
	{"Bearer Bearer KEY", wireFormat},
	{`Bearer "KEY"`, wireFormat},
	{"Bearer 'KEY'", wireFormat},
	{"Bearer <KEY>", wireFormat},
	{"Bearer =KEY", wireFormat},
	{"Bearer ,KEY", wireFormat},
	{"Bearer token=KEY", wireFormat},
	{`Bearer key="KEY"`, wireFormat},
	{"Bearer %69sk_SECRET", wireFormat},
	{"Bearer &#105;sk_SECRET", wireFormat},
	{`Bearer \u0069sk_SECRET`, wireFormat},
	{"Bearer =?utf-8?q?KEY?=", wireFormat}, // RFC 2047
	{"Bearer BASE64", wireFormat},
	{"Bearer eyJhbGciOiJub25lIn0.e30.", wireFormat},
	{"Bearer HASH", wireFormat},
	{"Bearer " + strings.Repeat("x", 200_000), wireFormat},

	// What follows it.
	{"Bearer isk_", wireMalformed},
	{"Bearer isk_YOUR_API_KEY", wireMalformed},
	{"Bearer KEY43", wireMalformed},
	{"Bearer KEYx", wireMalformed},
	{"Bearer KEY=", wireMalformed},
	{"Bearer KEY==", wireMalformed},
	{"Bearer KEY43=", wireMalformed},
	{"Bearer KEY43+", wireMalformed}, // base64, not base64url
	{"Bearer KEY43/", wireMalformed},
	{"Bearer KEY43.", wireMalformed},
	{"Bearer KEY43~", wireMalformed},
	{"Bearer KEY,", wireMalformed},
	{"Bearer KEY, ", wireMalformed},
	{"Bearer KEY,KEY", wireMalformed},
	{"Bearer KEY, Bearer KEY", wireMalformed},
	{"Bearer KEY, Basic x", wireMalformed},
	{"Bearer KEY;", wireMalformed},
	{`Bearer KEY"`, wireMalformed},
	{"Bearer KEY%00", wireMalformed},
	{"Bearer KEY%20", wireMalformed},
	{"Bearer KEY#", wireMalformed},
	{"Bearer isk_%41" + goodKey[5:], wireMalformed},
	{"Bearer isk_isk_SECRET", wireMalformed},
	{"Bearer KEYKEY", wireMalformed},
	{"Bearer isk_HASH", wireMalformed},
	{"Bearer HINT", wireMalformed},
	{"Bearer isk_U1v2", wireMalformed},
	{"Bearer isk_" + strings.Repeat("%", 44), wireMalformed}, // wildcards of SQL LIKE
	{"Bearer isk_" + strings.Repeat("*", 44), wireMalformed},
	{"Bearer isk_' OR '1'='1' OR 'aaaaaaaaaaaaaaaaaaaaaaaaa'='", wireMalformed},
	{"Bearer isk_" + strings.Repeat("A", 200_000), wireMalformed},
	{"Bearer KEY" + strings.Repeat("A", 200_000), wireMalformed},
	{"Bearer KEY" + strings.Repeat(" ", 200_000) + "x", wireMalformed},
	{"Bearer" + strings.Repeat(" ", 200_000) + "KEY", wireOK},

	// Well-formed, but unknown.
	{"Bearer isk_" + strings.Repeat("A", 44), wireUnknown},
	{"Bearer isk_" + strings.Repeat("_", 44), wireUnknown},
	{"Bearer isk_" + strings.Repeat("-", 44), wireUnknown},
	{"Bearer KEY433", wireUnknown},
	{"Bearer isk_B" + goodKey[5:], wireUnknown},
	{"Bearer isk_" + strings.ToLower(goodKey[4:]), wireUnknown},
	{"Bearer isk_" + strings.ToUpper(goodKey[4:]), wireUnknown},
	{"Bearer isk_" + goodHash.String()[:44], wireUnknown},
	{"Bearer isk_" + base64.RawURLEncoding.EncodeToString(goodHash[:]) + "A", wireUnknown},

	// Several fields (RFC 9110 section 5.3): one value, joined by commas, and
	// never a key.
	{"Bearer KEY\nBearer KEY", wireMalformed},
	{"Bearer KEY\nBearer KEY\nBearer KEY", wireMalformed},
	{"Bearer KEY\nBearer isk_x", wireMalformed},
	{"Bearer isk_x\nBearer KEY", wireMalformed},
	{"Bearer KEY\nBearer x", wireMalformed},
	{"Bearer x\nBearer KEY", wireFormat},
	{"Bearer KEY\nBasic x", wireMalformed},
	{"Basic x\nBearer KEY", wireMissing},
	{"Bearer KEY\n", wireMalformed},
	{"\nBearer KEY", wireMissing},
	{"\n", wireMissing},
	{"Bearer\nKEY", wireMissing},
	{"Bearer isk_\nSECRET", wireMalformed},
	{"Bearer KEY\nKEY", wireMalformed},
}

// wireFields are whole header lines: other names, and what only raw bytes can
// say.
var wireFields = []wireCase{
	{"authorization: Bearer KEY", wireOK},
	{"AUTHORIZATION: Bearer KEY", wireOK},
	{"Authorization:Bearer KEY", wireOK},
	{"Authorization: Bearer KEY\r\nauthorization: Bearer KEY", wireMalformed},
	{"Authorization: Bearer KEY\nX-Other: bare line feed", wireOK}, // RFC 9112 section 2.2 lets a recipient take it
	{"Authorization: Bearer KEY\r\nProxy-Authorization: Bearer x", wireOK},

	// Obsolete line folding (RFC 9112 section 5.2): net/http makes it one
	// space.
	{"Authorization:\r\n Bearer KEY", wireOK},
	{"Authorization: Bearer\r\n KEY", wireOK},
	{"Authorization: Bearer\r\n\tKEY", wireOK},
	{"Authorization: Bearer KEY\r\n ", wireOK},
	{"Authorization: Bearer isk_\r\n SECRET", wireMalformed},
	{"Authorization: Bearer KEY\r\n Bearer KEY", wireMalformed},
	{"Authorization: Bearer KEY\r\n , Bearer KEY", wireMalformed},
	{"X-Other: x\r\n Authorization: Bearer KEY", wireMissing},

	// A key elsewhere is never read.
	{"X-Other: x", wireMissing},
	{"Proxy-Authorization: Bearer KEY", wireMissing},
	{"X-Api-Key: KEY", wireMissing},
	{"Api-Key: KEY", wireMissing},
	{"X-Authorization: Bearer KEY", wireMissing},
	{"X-Forwarded-Authorization: Bearer KEY", wireMissing},
	{"Authorisation: Bearer KEY", wireMissing},
	{"Authentication: Bearer KEY", wireMissing},
	{"Authorizatio: Bearer KEY", wireMissing},
	{"Authorization2: Bearer KEY", wireMissing},
	{"Authorization-Key: Bearer KEY", wireMissing},
	{"X-Isk: KEY", wireMissing},
	{"Cookie: Authorization=Bearer KEY", wireMissing},
	{"Cookie: api_key=KEY; token=KEY; access_token=KEY; key=KEY; auth=KEY; isk=KEY; session=KEY", wireMissing},
	{"Sec-WebSocket-Protocol: bearer, KEY", wireMissing},
	{"Www-Authenticate: Bearer KEY", wireMissing},
	{"Referer: https://example.com/?key=KEY", wireMissing},
	{"User-Agent: Bearer KEY", wireMissing},
	{"X-Api-Key: KEY\r\nAuthorization: Bearer x", wireFormat},

	// What net/http itself refuses: control bytes, and invalid names.
	{"Authorization: Bearer KEY\x00", wireRefused},
	{"Authorization: \x00Bearer KEY", wireRefused},
	{"Authorization: Bearer\x00KEY", wireRefused},
	{"Authorization: Bearer isk_\x00SECRET", wireRefused},
	{"Authorization: Bearer KEY\x01", wireRefused},
	{"Authorization: Bearer\x07KEY", wireRefused},
	{"Authorization: Bearer KEY\x08", wireRefused},
	{"Authorization: Bearer\x0bKEY", wireRefused},
	{"Authorization: Bearer\x0cKEY", wireRefused},
	{"Authorization: Bearer KEY\x1b[0m", wireRefused},
	{"Authorization: Bearer KEY\x1f", wireRefused},
	{"Authorization: Bearer KEY\x7f", wireRefused},
	{"Authorization: Bearer\rKEY", wireRefused},
	{"Authorization : Bearer KEY", wireRefused},
	{" Authorization: Bearer KEY", wireRefused},
	{"Author ization: Bearer KEY", wireRefused},
	{"\u0410uthorization: Bearer KEY", wireRefused},
	{"Authorization Bearer KEY", wireRefused},
	{"Authorization\x00: Bearer KEY", wireRefused},
}

// wireRequests are whole requests, except for the Host and the end of the
// header.
var wireRequests = []wireCase{
	{"GET /?api_key=KEY&access_token=KEY&authorization=Bearer+KEY HTTP/1.1", wireMissing},
	{"GET /KEY HTTP/1.1", wireMissing},
	{"GET http://KEY:@api.example/ HTTP/1.1", wireMissing},
	{"GET http://isk_:KEY@api.example/ HTTP/1.1", wireMissing},
	{"POST / HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 61\r\n\r\n" +
		"access_token=KEY", wireMissing},
	{"POST / HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 61\r\n\r\n" +
		`{"apiKey":"KEY"}`, wireMissing},
	{"POST / HTTP/1.1\r\nTrailer: Authorization\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"1\r\nx\r\n0\r\nAuthorization: Bearer KEY\r\n\r\n", wireMissing},
	{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"1\r\nx\r\n0\r\nAuthorization: Bearer KEY\r\n\r\n", wireMissing},
	{"POST / HTTP/1.1\r\nAuthorization: Bearer x\r\nContent-Length: 1\r\n\r\nx", wireFormat},
	{"OPTIONS / HTTP/1.1\r\nAccess-Control-Request-Method: GET", wireMissing},
	{"GET / HTTP/1.1\r\nX-Http-Method-Override: OPTIONS", wireMissing},
	{"HEAD / HTTP/1.1", wireMissing},
	{"HEAD / HTTP/1.1\r\nAuthorization: Bearer x", wireFormat},
	{"HEAD / HTTP/1.1\r\nAuthorization: Bearer isk_x", wireMalformed},
	{"HEAD / HTTP/1.1\r\nAuthorization: Bearer isk_" + "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB", wireUnknown},
	{"GET / HTTP/1.1\r\nAccept: text/html", wireMissing},
	{"GET / HTTP/1.1\r\nAccept: application/xml;q=1, */*;q=0", wireMissing},
	{"GET / HTTP/1.1\r\nAccept-Encoding: gzip\r\nAccept-Language: de", wireMissing},
	{"GET / HTTP/1.1\r\nIf-None-Match: *\r\nRange: bytes=0-1", wireMissing},
}
