package authtest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
)

func ok(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "reached ", r.URL.Path) }

func answer(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestWithScopes(t *testing.T) {
	h := auth.Require("documents.read", "audit.read")(http.HandlerFunc(ok))
	for _, c := range []struct {
		scopes []auth.Scope
		want   int
	}{
		{nil, 403},
		{[]auth.Scope{"documents.read"}, 403},
		{[]auth.Scope{"documents.read", "audit.*"}, 200},
		{[]auth.Scope{"*"}, 200},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		if got := answer(h, authtest.WithScopes(r, c.scopes...)).Code; got != c.want {
			t.Errorf("with %q: status %d, want %d", c.scopes, got, c.want)
		}
		if _, known := auth.FromContext(r.Context()); known {
			t.Error("WithScopes changed the request it was given")
		}
	}
	scopes := []auth.Scope{"a.b"}
	r := authtest.WithScopes(httptest.NewRequest("GET", "/", nil), scopes...)
	scopes[0] = "*"
	got, known := auth.FromContext(r.Context())
	if !known || got.ID != "key_test" || got.Owner != "org_test" || !slices.Equal(got.Scopes, auth.Scopes{"a.b"}) {
		t.Errorf("FromContext: got %v with %q of %q, %v", got, got.Scopes, got.Owner, known)
	}
	defer func() {
		if v := fmt.Sprint(recover()); !strings.HasPrefix(v, "authtest.WithScopes: ") || !strings.Contains(v, `"documents"`) {
			t.Errorf("a scope that is none: panic %q", v)
		}
	}()
	authtest.WithScopes(r, "documents.read", "documents")
}

func TestNewKey(t *testing.T) {
	store := new(auth.MemoryStore)
	a := auth.New(store, nil)
	h := a.Require("documents.read")(http.HandlerFunc(ok))
	reader, none := authtest.NewKey(t, store, "documents.*"), authtest.NewKey(t, store)
	bare := httptest.NewRequest("GET", "/", strings.NewReader("body"))
	for _, c := range []struct {
		name string
		r    *http.Request
		want int
	}{
		{"no key", bare, 401},
		{"scopes", authtest.WithScopes(bare, "*"), 401}, // which an Authenticator does not believe
		{"a key", authtest.WithKey(bare, reader), 200},
		{"a key without scopes", authtest.WithKey(bare, none), 403},
		{"a key instead of another", authtest.WithKey(authtest.WithKey(bare, none), reader), 200},
		{"an unknown key", authtest.WithKey(bare, auth.NewKey()), 401},
		{"a key of another store", authtest.WithKey(bare, authtest.NewKey(t, new(auth.MemoryStore), "*")), 401},
		{"no key, after all this", bare, 401},
	} {
		if got := answer(h, c.r).Code; got != c.want {
			t.Errorf("%s: status %d, want %d", c.name, got, c.want)
		}
	}
	record, err := store.Lookup(t.Context(), auth.BLAKE2b(nil)(reader.Reveal()))
	if err != nil || record.Name != t.Name() || record.Owner != "org_test" || !record.ExpiresAt.IsZero() {
		t.Errorf("Lookup: %v of %q, %v", record, record.Owner, err)
	}
	failed := observe(t, func(t testing.TB) { authtest.NewKey(t, store, "documents") })
	if len(failed) != 1 || !strings.HasPrefix(failed[0], "authtest.NewKey: ") {
		t.Errorf("NewKey with a scope that is none: %q", failed)
	}
}

// A failing is a testing.TB that gathers failures instead of failing.
type failing struct {
	testing.TB
	failures []string
}

func (f *failing) Helper() {}

func (f *failing) Errorf(format string, args ...any) {
	f.failures = append(f.failures, fmt.Sprintf(format, args...))
}

func (f *failing) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	panic(f)
}

// observe returns what f reports.
func observe(t *testing.T, f func(t testing.TB)) (failures []string) {
	fake := &failing{TB: t}
	defer func() {
		if v := recover(); v != nil && v != any(fake) {
			panic(v)
		}
		failures = fake.failures
	}()
	f(fake)
	return
}

func TestCheckRoutes(t *testing.T) {
	store := new(auth.MemoryStore)
	a := auth.New(store, nil)
	plain := auth.New(store, &auth.Options{ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
		w.WriteHeader(auth.ProblemFor(err).Status)
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
		"GET /forgotten/{id}": h,
		"GET /forbidding":     http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }),
		"GET /empty":          http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }),
		"GET /failing":        http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("no body") }),
		"GET /aborting":       http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
	} {
		inner.Handle(pattern, handler)
	}
	mux.Handle("PUT /alone/{id}", a.Require("documents.update")(h))
	mux.Handle("GET /public", h)
	mux.Handle("GET /public/failing", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("no record") }))
	mux.Handle("GET /unguarded", auth.Require("documents.read")(h))
	mux.Handle("GET /plain", plain.Require("documents.read")(h))

	key := authtest.NewKey(t, store)
	for _, c := range []struct {
		route string
		want  string // in the report; empty: no report
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

		{"GET /forgotten", "with a key without scopes: status 200, want 403"},
		{"GET /forgotten/{id}", "is its Require missing?"},
		{"GET /forbidding", "insufficient_scope"},
		{"GET /empty", "status 404"},
		{"GET /failing", "it panicked: no body"},
		{"GET /aborting", "is its Require missing?"},
		{"GET /public", "without a key: status 200, want 401: the route is open to everybody"},
		{"GET /public/failing", "without a key, the handler was reached: it panicked"},
		{"GET /unguarded", "no Middleware outside"},
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
		got := observe(t, func(t testing.TB) { authtest.CheckRoutes(t, mux, key, c.route) })
		switch {
		case c.want == "" && len(got) > 0:
			t.Errorf("%q: reported %q", c.route, got)
		case c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.route+": ") || !strings.Contains(got[0], c.want)):
			t.Errorf("%q: reported %q, want %q", c.route, got, c.want)
		}
		if strings.Contains(fmt.Sprint(got), key.Reveal()) {
			t.Errorf("%q: the report quotes the key", c.route)
		}
	}

	routes := []string{"GET /documents", "GET /forgotten", "POST /documents", "GET /document"}
	if got := observe(t, func(t testing.TB) { authtest.CheckRoutes(t, mux, key, routes...) }); len(got) != 2 {
		t.Errorf("two of four routes are wrong: reported %q", got)
	}
	if got := observe(t, func(t testing.TB) { authtest.CheckRoutes(t, mux, key) }); len(got) != 1 {
		t.Errorf("no routes: reported %q", got)
	}
	if got := observe(t, func(t testing.TB) { authtest.CheckRoutes(t, mux, auth.Key{}, "GET /documents") }); len(got) != 1 {
		t.Errorf("the zero Key: reported %q", got)
	}
	got := observe(t, func(t testing.TB) { authtest.CheckRoutes(t, mux, auth.NewKey(), "GET /documents") })
	if len(got) != 1 || !strings.Contains(got[0], "does not accept the key") {
		t.Errorf("an unknown key: reported %q", got)
	}
	strong := authtest.NewKey(t, store, "documents.read")
	if got := observe(t, func(t testing.TB) { authtest.CheckRoutes(t, mux, strong, routes[0]) }); len(got) != 1 {
		t.Errorf("a key that may: reported %q", got)
	}
}
