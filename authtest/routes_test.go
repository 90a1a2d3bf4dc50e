package authtest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/keyring"
)

// newRoutes returns an application with routes of all kinds, right and wrong.
func newRoutes(store auth.Store) http.Handler {
	a := auth.New(store, nil)
	plain := auth.New(store, &auth.Options{ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) bool {
		w.WriteHeader(auth.ProblemFor(err).Status)
		return true
	}})
	page := auth.New(store, &auth.Options{ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) bool {
		w.Header().Set("WWW-Authenticate", auth.Challenge(err))
		status := auth.ProblemFor(err).Status
		w.WriteHeader(status)
		fmt.Fprint(w, status) // which is JSON, but not the whole answer
		fmt.Fprintln(w, " Sorry")
		return true
	}})
	h := http.HandlerFunc(ok)
	inner := http.NewServeMux()
	mux := http.NewServeMux()
	mux.Handle("/", a.Middleware(inner))
	for pattern, handler := range map[string]http.Handler{
		"GET /documents":                 auth.Require("documents.read")(h),
		"POST /documents":                auth.Require("documents.create")(h),
		"DELETE /documents/{id}":         auth.RequireAny("documents.delete", "documents.admin")(h),
		"GET /files/{path...}":           auth.Require("documents.read", "audit.read")(h),
		"GET /{$}":                       auth.Require("org.read")(h),
		"api.example.org/tenants/{t}/me": auth.Require("org.read")(h),
		"GET /folder/":                   auth.Require("org.read")(h),

		"GET /forgotten":      h,
		"GET /silent":         http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		"GET /forgotten/{id}": h,
		"GET /forbidding":     http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }),
		"GET /empty":          http.HandlerFunc(http.NotFound),
		"GET /failing":        http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("no body") }),
		"GET /aborting":       http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
	} {
		inner.Handle(pattern, handler)
	}
	mux.Handle("PUT /alone/{id}", a.Require("documents.update")(h))
	mux.Handle("GET /optional", a.Optional(auth.Require("documents.read")(h)))
	mux.Handle("GET /page", page.Require("documents.read")(h))
	mux.Handle("GET /public", h)
	mux.Handle("GET /public/failing", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("no record") }))
	mux.Handle("GET /unguarded", auth.Require("documents.read")(h))
	mux.Handle("GET /plain", plain.Require("documents.read")(h))
	return mux
}

func TestCheckRoutes(t *testing.T) {
	store := new(keyring.MemoryStore)
	app, key := newRoutes(store), authtest.NewKey(t, store)
	for _, c := range []struct {
		route string
		want  string // in the report; if empty, it reports nothing
	}{
		{"GET /documents", ""},
		{"GET\t /documents", ""},
		{"/documents", ""},
		{"HEAD /documents", ""},
		{"POST /documents", ""},
		{"DELETE /documents/{id}", ""},
		{"DELETE /documents/7", ""},
		{"GET /files/{path...}", ""},
		{"GET /{$}", ""},
		{"GET api.example.org/tenants/{t}/me", ""},
		{"GET /folder/", ""},
		{"PUT /alone/{id}", ""},
		{"GET /optional", ""},
		{"GET /page", ""},

		{"GET /forgotten", "with a key without scopes: status 200, want 403"},
		{"GET /silent", "with a key without scopes: status 200, want 403"},
		{"GET /forgotten/{id}", "is its Require missing?"},
		{"GET /forbidding", "insufficient_scope"},
		{"GET /empty", "status 404"},
		{"GET /failing", "it panicked: no body"},
		{"GET /aborting", "is its Require missing?"},
		{"GET /public", "without a key: status 200, want 401: the route is open to everybody"},
		{"GET /public/failing", "without a key, the handler was reached: it panicked"},
		{"GET /unguarded", "without a Middleware outside"},
		{"GET /plain", "auth.Challenge"},

		{"GET /document", "with a key without scopes: status 404, want 403: there is no such route"},
		{"PATCH /documents", "status 405"},
		{"GET /folder", "a redirect"},
		{"DELETE /alone/{id}", "status 404"},

		{"", "not a route"},
		{"GET", "not a route"},
		{"GET documents", "not a route"},
		{" /documents", "not a route"},
		{"GET  /documents /x", "not a route"},
		{"GET /documents?all=1", "not a route"},
		{"GET /documents/a{id}", "a whole segment"},
		{"GET /documents/%zz", "not a route"},
		{"GE(T /documents", "not a route"},
	} {
		checkReport(t, app, key, c.route, c.want)
	}
}

// checkReport checks what CheckRoutes reports of a route: a text that holds
// want, or nothing if that is empty.
func checkReport(t *testing.T, app http.Handler, key auth.Key, route, want string) {
	t.Helper()
	got := failuresOf(t, func(t testing.TB) { authtest.CheckRoutes(t, app, key, route) })
	if strings.Contains(fmt.Sprint(got), key.Reveal()) {
		t.Errorf("%q: the report quotes the key", route)
	}
	if want == "" {
		if len(got) > 0 {
			t.Errorf("%q: got report %q, want none", route, got)
		}
		return
	}
	if len(got) != 1 {
		t.Errorf("%q: got %d reports %q, want one with %q", route, len(got), got, want)
		return
	}
	if !strings.HasPrefix(got[0], route+": ") {
		t.Errorf("%q: got report %q, want it to name the route", route, got[0])
	}
	if !strings.Contains(got[0], want) {
		t.Errorf("%q: got report %q, want one with %q", route, got[0], want)
	}
}

func TestCheckRoutesOfSeveralRoutes(t *testing.T) {
	store := new(keyring.MemoryStore)
	app, key := newRoutes(store), authtest.NewKey(t, store)
	for _, c := range []struct {
		name   string
		key    auth.Key
		routes []string
		want   []string // reports
	}{
		{"two of four are wrong", key, []string{"GET /documents", "GET /forgotten", "POST /documents", "GET /document"},
			[]string{"GET /forgotten: ", "GET /document: "}},
		{"there are no routes", key, nil, []string{"there are no routes"}},
		{"the zero Key", auth.Key{}, []string{"GET /documents"}, []string{"the key is the zero Key"}},
		{"a key that may", authtest.NewKey(t, store, "documents.read"), []string{"GET /documents"}, []string{"status 200"}},
		{"an unknown key", auth.Scheme{}.NewKey(), []string{"GET /documents"}, []string{"the key is not accepted"}},
	} {
		got := failuresOf(t, func(t testing.TB) { authtest.CheckRoutes(t, app, c.key, c.routes...) })
		if len(got) != len(c.want) {
			t.Errorf("%s: got reports %q, want %d", c.name, got, len(c.want))
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("%s: got report %q, want one with %q", c.name, got[i], want)
			}
		}
	}
}

// A router calls one handler after another until it is told to stop, as gin
// does. Like gin, it passes on only the first status.
type router []func(c *call)

type call struct {
	http.ResponseWriter
	r       *http.Request
	stopped bool
	status  bool
}

func (c *call) WriteHeader(status int) {
	if !c.status {
		c.status = true
		c.ResponseWriter.WriteHeader(status)
	}
}

func (chain router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{ResponseWriter: w, r: r}
	for _, handler := range chain {
		if handler(c); c.stopped {
			return
		}
	}
}

// require is a handler of a router that refuses requests. It stops only if
// told.
func require(a *auth.Authenticator, stop bool) func(c *call) {
	return func(c *call) {
		passed := false
		a.Require("documents.read")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed = true })).
			ServeHTTP(c, c.r)
		c.stopped = !passed && stop
	}
}

func TestCheckRoutesFindsHandlerThatRan(t *testing.T) {
	store := new(keyring.MemoryStore)
	key := authtest.NewKey(t, store)
	a := auth.New(store, nil)
	text := auth.New(store, &auth.Options{ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) bool {
		w.Header().Set("WWW-Authenticate", auth.Challenge(err))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(auth.ProblemFor(err).Status)
		fmt.Fprint(w, `{"error": `)
		fmt.Fprint(w, `"no"}`)
		fmt.Fprintln(w)
		return true
	}})
	for _, c := range []struct {
		what    string
		route   string
		handler func(c *call)
		want    string // in the report
	}{
		{"writes a body", "GET /", func(c *call) { fmt.Fprint(c, "reached") }, "7 bytes were written"},
		{"writes JSON", "POST /", func(c *call) { fmt.Fprint(c, "{}\n") }, "3 bytes were written"},
		{"writes a space", "GET /", func(c *call) { fmt.Fprint(c, " ") }, "1 bytes were written"},
		{"writes to a HEAD request", "HEAD /", func(c *call) { fmt.Fprint(c, "reached") }, "7 bytes were written"},
		{"sends a status", "DELETE /", func(c *call) { c.ResponseWriter.WriteHeader(204) }, "the status 204 was written"},
		{"sets a cookie", "GET /", func(c *call) { http.SetCookie(c, &http.Cookie{Name: "a", Value: "b"}) }, "Set-Cookie"},
		{"sets a location", "POST /", func(c *call) { c.Header().Set("Location", "/1"); c.WriteHeader(201) }, "Location"},
		{"sets a content type", "GET /", func(c *call) { c.Header().Set("Content-Type", "text/html") }, "Content-Type"},
		{"removes a content type", "GET /", func(c *call) { c.Header().Del("Content-Type") }, "Content-Type"},
		{"reads the body", "PUT /", func(c *call) { io.ReadAll(c.r.Body) }, "the body of the request was read"},
		{"parses a form", "POST /", func(c *call) {
			c.r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			c.r.ParseForm()
		}, "the body of the request was read"},
		{"panics", "GET /", func(c *call) { panic("no record") }, "it panicked: no record"},
		{"writes a body after another refusal", "GET /own", func(c *call) { fmt.Fprint(c, "reached") }, "were written"},
	} {
		t.Run(c.what, func(t *testing.T) {
			guard := a
			if strings.HasSuffix(c.route, "/own") {
				guard = text
			}
			checkReport(t, router{require(guard, false), c.handler}, key, c.route, c.want)
			checkReport(t, router{require(guard, true), c.handler}, key, c.route, "")
		})
	}
}

func TestCheckRoutesNamesBothRequests(t *testing.T) {
	store := new(keyring.MemoryStore)
	app := router{require(auth.New(store, nil), false), func(c *call) { fmt.Fprint(c, "reached") }}
	key := authtest.NewKey(t, store)
	for _, want := range []string{
		"without a key: the request was refused with status 401, but the handler ran",
		"with a key without scopes: the request was refused with status 403, but the handler ran",
	} {
		checkReport(t, app, key, "GET /", want)
	}
}

// Some handlers outside collect the answer and write it at once.
func TestCheckRoutesFindsHandlerThatRanInBuffer(t *testing.T) {
	store := new(keyring.MemoryStore)
	key := authtest.NewKey(t, store)
	app := func(length, stop bool) http.Handler {
		inner := router{require(auth.New(store, nil), stop), func(c *call) { fmt.Fprint(c, `{"documents": []}`) }}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b := answer(inner, r)
			for name, values := range b.Result().Header {
				w.Header()[name] = values
			}
			if !length {
				w.Header().Del("Content-Length")
			}
			w.WriteHeader(b.Code)
			w.Write(b.Body.Bytes())
		})
	}
	checkReport(t, app(true, false), key, "GET /", "bytes more than the Content-Length")
	checkReport(t, app(false, false), key, "GET /", "the body is not one JSON value")
	checkReport(t, app(true, true), key, "GET /", "")
	checkReport(t, app(false, true), key, "GET /", "")
}

// What handlers outside do after a refusal is no sign of a handler inside.
func TestCheckRoutesAcceptsHandlersOutside(t *testing.T) {
	store := new(keyring.MemoryStore)
	key := authtest.NewKey(t, store)
	guarded := auth.New(store, nil).Require("documents.read")(http.HandlerFunc(ok))
	for _, c := range []struct {
		what    string
		outside func(w http.ResponseWriter, r *http.Request)
	}{
		{"reads the body before", func(w http.ResponseWriter, r *http.Request) {
			io.ReadAll(r.Body)
			guarded.ServeHTTP(w, r)
		}},
		{"closes the body after", func(w http.ResponseWriter, r *http.Request) {
			guarded.ServeHTTP(w, r)
			r.Body.Close()
		}},
		{"looks at the context after", func(w http.ResponseWriter, r *http.Request) {
			guarded.ServeHTTP(w, r)
			r.Context().Value("request ID")
			r.Context().Err()
		}},
		{"flushes after", func(w http.ResponseWriter, r *http.Request) {
			guarded.ServeHTTP(w, r)
			http.NewResponseController(w).Flush()
		}},
		{"sets a header of its own after", func(w http.ResponseWriter, r *http.Request) {
			guarded.ServeHTTP(w, r)
			w.Header().Set("X-Response-Time", "1 ms")
		}},
		{"writes nothing after", func(w http.ResponseWriter, r *http.Request) {
			guarded.ServeHTTP(w, r)
			w.Write(nil)
		}},
		{"sends an early status", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			guarded.ServeHTTP(w, r)
		}},
		{"sets cookies before", func(w http.ResponseWriter, r *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
			guarded.ServeHTTP(w, r)
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			for _, route := range []string{"GET /", "POST /", "HEAD /"} {
				checkReport(t, http.HandlerFunc(c.outside), key, route, "")
			}
		})
	}
}
