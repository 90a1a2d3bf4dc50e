package authtest

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
)

// WithScopes returns a copy of r that [auth.Require] and [auth.RequireAny] take for one that a Middleware has
// authenticated with a key that holds these scopes; [auth.FromContext] finds a record with the ID "key_test" and the
// Owner "org_test". It panics if one of them is not a scope: a typing error would test a refusal for the wrong reason.
//
// For a record of your own use [auth.NewContext]. An Authenticator's own Middleware and Require believe neither; they
// need a key, see [NewKey].
func WithScopes(r *http.Request, scopes ...auth.Scope) *http.Request {
	for _, s := range scopes {
		if _, err := auth.ParseScope(string(s)); err != nil {
			panic("authtest.WithScopes: " + err.Error())
		}
	}
	return r.WithContext(auth.NewContext(r.Context(), auth.Record{
		ID:        "key_test",
		Hint:      "isk_…test",
		Name:      "test",
		Owner:     "org_test",
		Scopes:    scopes,
		CreatedAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}))
}

// NewKey puts a key with these scopes into store and returns it, for requests through an [auth.Authenticator] with the
// default format and hasher. Its Name is that of the test, its Owner "org_test"; it never expires. It ends the test if
// that fails. For any other key use an [auth.Keyring].
func NewKey(t testing.TB, store auth.KeyStore, scopes ...auth.Scope) auth.Key {
	t.Helper()
	_, key, err := auth.NewKeyring(store, nil).Create(t.Context(), auth.Grant{Name: t.Name(), Owner: "org_test",
		Scopes: scopes})
	if err != nil {
		t.Fatalf("authtest.NewKey: %v", err)
	}
	return key
}

// WithKey returns a copy of r that presents key, and no other.
func WithKey(r *http.Request, key auth.Key) *http.Request {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+key.Reveal())
	return r
}

// CheckRoutes reports every route of h that lets a key without scopes through, because its Require was forgotten, or
// that does not refuse it as an Authenticator does:
//
//	authtest.CheckRoutes(t, app, authtest.NewKey(t, store),
//		"GET /api/v1/documents",
//		"DELETE /api/v1/documents/{id}",
//	)
//
// The key must be one that h knows, and that holds no scopes: CheckRoutes cannot see what it holds, and reports the
// routes that a scope of its opens. Each route must answer 403 to it, with the challenge "insufficient_scope", and 401
// without a key. Both come from [auth.WriteProblem]; an ErrorHandler that writes something else should send the
// [auth.Challenge]. So a handler that answers 403 for a reason of its own does not pass for a Require.
//
// A route is a pattern of [http.ServeMux]: a method (GET if there is none), perhaps a host, and a path whose wildcards
// are filled in with "authtest"; where another router wants something else, give a path. One that h does not have answers 404, which is reported too. Routes that are not listed
// are not checked: register and check from one list, if you can.
//
// Requests have no body. A handler that should not be reached is, if its Require was forgotten: run this on test data.
func CheckRoutes(t testing.TB, h http.Handler, key auth.Key, routes ...string) {
	t.Helper()
	if len(routes) == 0 {
		t.Errorf("authtest.CheckRoutes: no routes")
	}
	if key.Reveal() == "" {
		t.Errorf("authtest.CheckRoutes: the key is the zero Key")
		return
	}
	for _, route := range routes {
		if err := checkRoute(t, h, key, route); err != nil {
			t.Errorf("%s: %v", route, err)
		}
	}
}

// checkRoute returns what is wrong with the route, or nil.
func checkRoute(t testing.TB, h http.Handler, key auth.Key, route string) error {
	method, host, path, err := parseRoute(route)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+host+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("not a route: %w", err)
	}
	r.RequestURI, r.RemoteAddr = path, "192.0.2.1:1234" // as a server has them
	// Without a key first: an answer to that says more about what is wrong.
	anonymous, err := serve(h, r.Clone(t.Context()))
	if err != nil {
		return fmt.Errorf("without a key, the handler was reached: %w", err)
	}
	scopeless, err := serve(h, WithKey(r, key))
	if err != nil {
		return fmt.Errorf("with a key without scopes, the handler was reached; is its Require missing? %w", err)
	}
	return errors.Join(judge("without a key", anonymous, http.StatusUnauthorized),
		judge("with a key without scopes", scopeless, http.StatusForbidden))
}

// serve returns the response of h, or an error if it panics.
func serve(h http.Handler, r *http.Request) (response *http.Response, err error) {
	w := httptest.NewRecorder()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("it panicked: %v", v)
		}
	}()
	h.ServeHTTP(w, r)
	return w.Result(), nil
}

// judge returns how the response is not the refusal that it should be, or nil.
func judge(who string, response *http.Response, want int) error {
	var why string
	got := response.StatusCode
	switch challenge := response.Header.Get("WWW-Authenticate"); {
	case got == want && got == http.StatusForbidden && !strings.Contains(challenge, `error="insufficient_scope"`):
		return fmt.Errorf(`%s: status 403, but no WWW-Authenticate field with error="insufficient_scope"; is this the `+
			"handler's own answer, or that of an ErrorHandler without auth.Challenge?", who)
	case got == want:
		return nil
	case got == http.StatusNotFound || got == http.StatusMethodNotAllowed:
		why = "there is no such route (a wildcard is filled in with \"authtest\": where that does not match, write a path), or its Require is missing"
	case got/100 == 3:
		why = "a redirect, not the route itself"
	case got == http.StatusInternalServerError:
		why = "perhaps an auth.Require with no Middleware outside"
	case got == http.StatusUnauthorized:
		why = "the handler does not accept the key, so this says nothing about its Require"
	case want == http.StatusUnauthorized:
		why = "the route is open to everybody"
	default:
		why = "is its Require missing?"
	}
	return fmt.Errorf("%s: status %d, want %d: %s", who, got, want, why)
}

// parseRoute splits a pattern of http.ServeMux and fills in its wildcards.
func parseRoute(route string) (method, host, path string, err error) {
	method, rest := http.MethodGet, route
	if i := strings.IndexAny(route, " \t"); i >= 0 {
		method, rest = route[:i], strings.TrimLeft(route[i:], " \t")
	}
	slash := strings.IndexByte(rest, '/')
	if slash < 0 || method == "" || strings.ContainsAny(rest, " \t?#") {
		return "", "", "", errors.New(`not a route: want a pattern like "GET /documents/{id}"`)
	}
	host, path = rest[:slash], rest[slash:]
	if host == "" {
		host = "example.com"
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		switch {
		case s == "{$}" && i == len(segments)-1:
			segments[i] = ""
		case strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}"):
			segments[i] = "authtest"
		case strings.ContainsAny(s, "{}"):
			return "", "", "", errors.New("not a route: a wildcard is a whole segment of the path")
		}
	}
	return method, host, strings.Join(segments, "/"), nil
}
