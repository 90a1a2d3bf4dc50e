package keyapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
)

func TestProblemFor(t *testing.T) {
	keys := keyring.NewManager(new(keyring.MemoryStore), nil).For(keyring.Actor{Name: "ada", Owner: "acme"})
	_, _, blank := keys.Create(context.Background(), keyring.Spec{Name: " "})
	_, _, scope := keys.Create(context.Background(), keyring.Spec{Name: "key", Scopes: auth.Scopes{"a"}})
	_, nobody := keyring.NewManager(new(keyring.MemoryStore),
		nil).For(keyring.Actor{Name: "ada"}).Get(context.Background(), "x")
	for _, c := range []struct {
		err    error
		status int
		code   string
		detail string
	}{
		{auth.ErrNotFound, 404, "NOT_FOUND", "There is no such key"},
		{keyring.ErrRotated, 409, "KEY_ROTATED", "The key has been rotated already; rotate its successor, rotatedTo"},
		{auth.ErrKeyRevoked, 409, "KEY_REVOKED", "The key has been revoked"},
		{auth.ErrKeyDisabled, 409, "KEY_DISABLED", "The key has been disabled"},
		{auth.ErrKeyExpired, 409, "KEY_EXPIRED", "The key has expired"},
		{keyring.ErrTooManyKeys, 409, "TOO_MANY_KEYS", "There are as many keys as are permitted; revoke one first"},
		{keyring.ErrExists, 409, "KEY_EXISTS", "The key exists already"},
		{&keyring.ExistsError{}, 409, "KEY_EXISTS", "The key exists already"},
		{keyring.ErrConflict, 409, "CONFLICT", "The key was changed at the same time; try again"},
		{keyring.ErrInvalidArgument, 422, "INVALID_ARGUMENT", "The request asks for something that cannot be"},
		{blank, 422, "INVALID_ARGUMENT", "The name is blank"},
		{auth.ErrInsufficientScope, 403, "INSUFFICIENT_SCOPE", "The key has a scope that you do not hold"},
		{scope, 403, "INSUFFICIENT_SCOPE", `The actor does not hold the scope "a"`},
		{nobody, 403, "FORBIDDEN", "The actor has no owner"},
		{errors.ErrUnsupported, 501, "NOT_IMPLEMENTED", "No events are kept here"},
		{&keyring.RecordError{ID: "x", Err: errors.New("secret")}, 500, "INTERNAL_ERROR",
			"The server could not answer the request"},
		{nil, 500, "INTERNAL_ERROR", "The server could not answer the request"},
		{errors.New("secret"), 503, "STORE_UNAVAILABLE", "The keys could not be reached; try again later"},
		{context.DeadlineExceeded, 503, "STORE_UNAVAILABLE", "The keys could not be reached; try again later"},
		{auth.ErrMissingKey, 401, "MISSING_KEY", "Invalid or missing API key"},
		{auth.ErrStoreUnavailable, 503, "STORE_UNAVAILABLE", "The API key could not be checked; try again later"},
		{&auth.Problem{Status: 418, Code: "TEAPOT", Detail: "short"}, 418, "TEAPOT", "short"},
		{&auth.Problem{Status: 200}, 500, "INTERNAL_ERROR", "The server could not answer the request"},
	} {
		for _, err := range []error{c.err, fmt.Errorf("wrapped: %w", c.err)} {
			if c.err == nil {
				err = nil
			}
			what := fmt.Sprint(err)
			p := keyapi.ProblemFor(err)
			equal(t, what+": status", p.Status, c.status)
			equal(t, what+": code", p.Code, c.code)
			equal(t, what+": detail", p.Detail, c.detail)
			w := httptest.NewRecorder()
			auth.WriteProblem(w, httptest.NewRequest("GET", "/", nil), p)
			equal(t, what+": answered status", w.Code, c.status)
			equal(t, what+": challenge", w.Header().Get("WWW-Authenticate"), "")
		}
	}
	p := keyapi.ProblemFor(auth.ErrNotFound)
	p.Detail = "changed"
	equal(t, "a copy", keyapi.ProblemFor(auth.ErrNotFound).Detail, "There is no such key")
	equal(t, "type", p.Type, "https://docs.insigner.com/errors/not-found")
	equal(t, "title", p.Title, "Not Found")
}

// Header fields that an outer handler set for its own answer do not stay.
func TestProblemHeader(t *testing.T) {
	s := newServer(t, actAs)
	for _, encoding := range []string{"", "gzip"} {
		w := httptest.NewRecorder()
		h := w.Header()
		h.Set("Content-Length", "7")
		h.Set("Etag", `"x"`)
		h.Set("Last-Modified", "x")
		h.Set("Cache-Control", "public")
		h.Set("X-Request-Id", "r1")
		if encoding != "" {
			h.Set("Content-Encoding", encoding)
		}
		s.ServeHTTP(w, httptest.NewRequest("GET", prefix+"/unknown", nil))
		for name, want := range map[string]string{"Etag": "", "Last-Modified": "", "Cache-Control": "no-store",
			"X-Request-Id": "r1",
			"Content-Type": "application/problem+json", "Content-Length": fmt.Sprint(w.Body.Len())} {
			if name == "Content-Length" && encoding != "" {
				want = ""
			}
			equal(t, "with encoding "+encoding+": "+name, h.Get(name), want)
		}
	}
}

func TestStoreFailures(t *testing.T) {
	s := newServer(t, actAs)
	c := &client{s: s}
	id := c.create(`{"name":"key"}`).id
	away := errors.New("dial tcp 10.0.0.7:5432: refused")
	s.store.get = func(string) (*auth.Record, error) { return nil, away }
	s.store.list = func(keyring.Query) ([]*auth.Record, error) { return nil, away }
	s.store.events = func(keyring.EventQuery) ([]keyring.Event, error) { return nil, away }
	s.store.insert = func(*auth.Record) error { return away }
	for _, m := range []struct{ method, path, body string }{
		{"GET", "", ""}, {"POST", "", `{"name":"key"}`}, {"GET", "/" + id, ""}, {"PATCH", "/" + id, `{"name":"new"}`},
		{"DELETE", "/" + id, ""},
		{"POST", "/" + id + "/rotate", ""}, {"POST", "/" + id + "/disable", ""}, {"POST", "/" + id + "/enable", ""},
		{"POST", "/" + id + "/revoke", ""},
		{"POST", "/" + id + "/revoke", andCreated}, {"GET", "/" + id + "/events", ""}, {"GET", "/events", ""},
	} {
		s.log.Reset()
		a := c.do(m.method, m.path, m.body)
		a.refused(a.what, http.StatusServiceUnavailable, "STORE_UNAVAILABLE", "")
		contains(t, a.what, a.text, "10.0.0.7", false)
		contains(t, a.what+": log", s.log.String(), "10.0.0.7", true)
	}
}

// A client that goes away is no failure of the store.
func TestClientGone(t *testing.T) {
	s := newServer(t, actAs)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.store.list = func(keyring.Query) ([]*auth.Record, error) { return nil, ctx.Err() }
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", prefix, nil).WithContext(ctx))
	equal(t, "status", w.Code, 503)
	equal(t, "log", s.log.String(), "")
}
