package keyapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
)

func TestNewPanics(t *testing.T) {
	manager := keyring.NewManager(new(keyring.MemoryStore), nil)
	listed := keyring.NewManager(new(keyring.MemoryStore),
		&keyring.Options{Scheme: auth.Scheme{Catalog: auth.Catalog{{Scope: "a"}}}})
	const mend = "; add it to the Catalog, or set Options.Scope to the scope that a key needs to manage keys"
	for _, c := range []struct {
		manager *keyring.Manager
		opts    keyapi.Options
		want    string
	}{
		{nil, keyapi.Options{}, "keyapi.New: the manager is nil"},
		{manager, keyapi.Options{Scope: "a b"}, `keyapi.New: Scope: "a b" is not a valid scope`},
		{listed, keyapi.Options{Scope: "b"}, `keyapi.New: Scope: the catalog does not list the scope "b"` + mend},
		{listed, keyapi.Options{}, `keyapi.New: Scope: the catalog does not list the scope "*"` + mend},
		{manager, keyapi.Options{Metadata: []string{"a", ""}}, `keyapi.New: Metadata holds "", which cannot be shown`},
		{manager, keyapi.Options{Metadata: []string{"\xff"}}, `keyapi.New: Metadata holds "\xff", which cannot be shown`},
		{manager, keyapi.Options{Metadata: []string{"\x00"}}, `keyapi.New: Metadata holds "\x00", which cannot be shown`},
		{manager, keyapi.Options{Metadata: []string{keyapi.DigestEntry}},
			`keyapi.New: Metadata holds "keyapi.request", which cannot be shown`},
		{manager, keyapi.Options{Metadata: []string{"a", "b", "a"}}, `keyapi.New: Metadata holds "a" twice`},
		{manager, keyapi.Options{ProblemBase: ":"}, `keyapi.New: the problem base ":" is not the start of a URI`},
	} {
		panics(t, c.want, c.want, func() { keyapi.New(c.manager, &c.opts) })
	}
	func() {
		defer func() { equal(t, "an invalid origin panics", recover() != nil, true) }()
		keyapi.New(manager, &keyapi.Options{Origins: []string{"example.com/path"}})
	}()
	keyapi.New(listed, &keyapi.Options{Scope: "a"})
	keyapi.New(listed, &keyapi.Options{Actor: func(*http.Request) (keyring.Actor, error) { return keyring.Actor{}, nil }})
}

func TestOptionsAreCopied(t *testing.T) {
	names := []string{"team"}
	s := newServer(t, func(o *keyapi.Options, _ *keyring.Options) { o.Metadata = names })
	names[0] = "plan"
	c := s.client("acme", "*")
	c.do("POST", "", `{"name":"key","metadata":{"team":"red"}}`).is(201)
}

func TestProblemBase(t *testing.T) {
	s := newServer(t, func(o *keyapi.Options, _ *keyring.Options) { o.ProblemBase = "https://acme.example/errors/" })
	a := s.client("acme", "*").do("GET", "/unknown", "").is(404)
	equal(t, "type", a.str("type"), "https://acme.example/errors/not-found")
	a = newServer(t).client("acme", "*").do("POST", "", `{"name":""}`).is(422)
	equal(t, "type", a.str("type"), "https://docs.insigner.com/errors/unprocessable-entity")
}

func TestMounting(t *testing.T) {
	c := newServer(t).client("acme", "*")
	for _, path := range []string{"", "/"} {
		c.do("POST", path, `{"name":"key"}`).is(201)
		c.do("GET", path, "").is(200)
	}
}

func TestOptionsActor(t *testing.T) {
	actor, err := keyring.Actor{Name: "ada", Owner: "acme", Scopes: auth.Scopes{"a.*"}}, error(nil)
	s := newServer(t, func(o *keyapi.Options, _ *keyring.Options) {
		o.Actor = func(*http.Request) (keyring.Actor, error) { return actor, err }
	})
	c := &client{s: s}
	a := c.do("POST", "", `{"name":"key","scopes":["a.b"]}`).is(201)
	equal(t, "creator", s.record(a.str("id")).CreatedBy, "ada")
	c.do("POST", "", `{"name":"key","scopes":["b"]}`).refused("scope", 403, "INSUFFICIENT_SCOPE", "/scopes/0")
	for _, path := range []string{"/self/rotate", "/self/revoke"} {
		c.do("POST", path, "").refused(path, 401, "MISSING_KEY", "")
	}
	a = c.do("GET", "/self", "")
	a.refused("self", 401, "MISSING_KEY", "")
	equal(t, "challenge", a.header.Get("WWW-Authenticate"), `Bearer realm="api"`)

	actor = keyring.Actor{Name: "staff:ada", Owner: "acme"}
	c.do("GET", "", "").refused("forged", 403, "FORBIDDEN", "")
	actor = keyring.Actor{Name: "ada", Owner: "acme"}
	for _, e := range []struct {
		err       error
		status    int
		code      string
		challenge string
	}{
		{&auth.Problem{Status: 418, Code: "TEAPOT"}, 418, "TEAPOT", ""},
		{auth.ErrMissingKey, 401, "MISSING_KEY", `Bearer realm="api"`},
		{auth.ErrKeyRevoked, 401, "KEY_REVOKED", `Bearer realm="api", error="invalid_token"`},
		{keyring.ErrInvalidArgument, 422, "INVALID_ARGUMENT", ""},
		{errors.New("the database of sessions is away"), 503, "STORE_UNAVAILABLE", ""},
	} {
		err = e.err
		a := c.do("GET", "", "")
		a.refused(e.err.Error(), e.status, e.code, "")
		equal(t, e.err.Error()+": challenge", a.header.Get("WWW-Authenticate"), e.challenge)
		contains(t, "answer", a.text, "database", false)
	}
	contains(t, "log", s.log.String(), "the database of sessions is away", true)
}

func TestOptionsActorAndScope(t *testing.T) {
	scopes := auth.Scopes{"a"}
	s := newServer(t, func(o *keyapi.Options, _ *keyring.Options) {
		o.Scope = "keys"
		o.Actor = func(*http.Request) (keyring.Actor, error) {
			return keyring.Actor{Name: "ada", Owner: "acme", Scopes: scopes}, nil
		}
	})
	a := (&client{s: s}).do("GET", "", "")
	a.refused("without the scope", 403, "INSUFFICIENT_SCOPE", "")
	same(t, "requiredScopes", a.body["requiredScopes"], []string{"keys"})
	scopes = auth.Scopes{"keys"}
	(&client{s: s}).do("GET", "", "").is(200)
}

// A hook that panics ends the request, and nothing is done.
func TestOptionsActorPanics(t *testing.T) {
	s := newServer(t, func(o *keyapi.Options, _ *keyring.Options) {
		o.Actor = func(*http.Request) (keyring.Actor, error) { panic("boom") }
	})
	panics(t, "panic", "boom", func() { (&client{s: s}).do("POST", "", `{"name":"key"}`) })
	equal(t, "store", fmt.Sprint(s.store.MemoryStore), "keyring.MemoryStore(0)")
}

func TestOnRefusal(t *testing.T) {
	var codes []string
	type name struct{}
	s := newServer(t, func(o *keyapi.Options, _ *keyring.Options) {
		o.OnRefusal = func(ctx context.Context, code string) {
			codes = append(codes, fmt.Sprint(ctx.Value(name{}), " ", code))
		}
	})
	admin, narrow := s.client("acme", "*"), s.client("acme", "a")
	for _, c := range []struct {
		client             *client
		method, path, body string
		code               string
	}{
		{admin, "GET", "", "", ""},
		{admin, "POST", "", `{"name":"key"}`, ""},
		{admin, "POST", "", `{"name":" "}`, "INVALID_ARGUMENT"},
		{admin, "POST", "", `{`, "INVALID_REQUEST"},
		{admin, "GET", "/unknown", "", "NOT_FOUND"},
		{admin, "GET", "/x/y/z", "", "NOT_FOUND"},
		{admin, "PUT", "", "", "METHOD_NOT_ALLOWED"},
		{narrow, "GET", "", "", "INSUFFICIENT_SCOPE"},
	} {
		codes = nil
		r := httptest.NewRequest(c.method, prefix+c.path, strings.NewReader(c.body))
		r.Header.Set("Authorization", "Bearer "+c.client.secret)
		r.Header.Set("Content-Type", "application/json")
		a := s.send(r.WithContext(context.WithValue(r.Context(), name{}, "ctx")))
		var want []string
		if c.code != "" {
			want = []string{"ctx " + c.code}
		}
		same(t, a.what+" "+c.body, codes, want)
		equal(t, a.what+": code of the answer", a.str("code"), c.code)
	}
}

// A host can serve sessions and keys under the same paths.
func TestSessionOrKey(t *testing.T) {
	s := newServer(t)
	bySession := keyapi.New(s.manager, &keyapi.Options{Actor: func(r *http.Request) (keyring.Actor, error) {
		if r.Header.Get("Cookie") == "" {
			return keyring.Actor{}, &auth.Problem{Status: http.StatusUnauthorized, Code: "NOT_SIGNED_IN"}
		}
		return keyring.Actor{Name: "ada", Owner: "acme", Scopes: auth.Scopes{"a"}}, nil
	}})
	byKey := keyapi.New(s.manager, nil)
	either := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := auth.FromContext(r.Context()); ok {
			byKey.ServeHTTP(w, r)
			return
		}
		bySession.ServeHTTP(w, r)
	})
	wide, narrow := s.client("acme", "*"), s.client("acme", "a")
	s.Handler = auth.New(s.store, nil).Optional(http.StripPrefix(prefix, either))
	nobody := &client{s: s}
	nobody.do("GET", "/", "", "Cookie", "session").is(200)
	nobody.do("GET", "/self", "", "Cookie", "session").refused("a session has no key", 401, "MISSING_KEY", "")
	nobody.do("GET", "/", "").refused("nobody", 401, "NOT_SIGNED_IN", "")
	wide.do("GET", "/", "").is(200)
	narrow.do("GET", "/self", "").is(200)
	narrow.do("GET", "/", "", "Cookie", "session").refused("a key without the scope", 403, "INSUFFICIENT_SCOPE", "")
	(&client{s: s, secret: "isk_x"}).do("GET", "/", "", "Cookie", "session").refused("a wrong key", 401, "INVALID_KEY", "")
}
