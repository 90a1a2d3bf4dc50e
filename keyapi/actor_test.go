package keyapi_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
)

// manages are requests that only an actor who manages keys may send.
var manages = []struct{ method, path, body string }{
	{"GET", "", ""}, {"POST", "", `{"name":"key"}`}, {"GET", "/x", ""}, {"PATCH", "/x", `{"name":"key"}`},
	{"DELETE", "/x", ""},
	{"POST", "/x/rotate", ""}, {"POST", "/x/disable", ""}, {"POST", "/x/enable", ""}, {"POST", "/x/revoke", ""},
	{"GET", "/x/events", ""}, {"GET", "/events", ""}, {"GET", "/scopes", ""},
}

func TestActingKeyNeedsScope(t *testing.T) {
	s := newServer(t, func(o *keyapi.Options, _ *keyring.Options) { o.Scope = "keys.manage" })
	narrow, wide := s.client("acme", "keys", "keys.managed", "keys.manage.x"), s.client("acme", "keys.*")
	for _, m := range manages {
		a := narrow.do(m.method, m.path, m.body)
		a.refused(a.what, 403, "INSUFFICIENT_SCOPE", "")
		same(t, a.what+": requiredScopes", a.body["requiredScopes"], []string{"keys.manage"})
		equal(t, a.what+": challenge", a.header.Get("WWW-Authenticate"),
			`Bearer realm="api", error="insufficient_scope", scope="keys.manage"`)
		if a = wide.do(m.method, m.path, m.body); a.status == 403 {
			t.Errorf("%s: status 403 with the scope", a.what)
		}
	}
	for _, path := range []string{"/self", "/openapi.json"} {
		narrow.do("GET", path, "").is(200)
	}
}

func TestNoKey(t *testing.T) {
	s := newServer(t)
	for _, path := range []string{"", "/self", "/openapi.json"} {
		(&client{s: s}).do("GET", path, "").refused("without a key", 401, "MISSING_KEY", "")
		(&client{s: s, secret: "isk_x"}).do("GET", path, "").refused("with a malformed key", 401, "INVALID_KEY", "")
	}
}

// Without an Authenticator outside, every request is refused.
func TestNoMiddleware(t *testing.T) {
	s := newServer(t)
	h := keyapi.New(s.manager, &keyapi.Options{Logger: slog.New(slog.NewTextHandler(s.log, nil))})
	for _, path := range []string{"/", "/self", "/events"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		equal(t, path, w.Code, 500)
	}
	for _, call := range []string{"Authorize", "Recheck"} {
		contains(t, "log", s.log.String(), `msg="keyapi: the keys cannot be managed" error="auth: auth.`+call+
			`: the context has not passed a Middleware or Optional"`, true)
	}
}

func TestOptional(t *testing.T) {
	s := newServer(t)
	h := auth.New(s.store, nil).Optional(keyapi.New(s.manager, nil))
	for _, path := range []string{"/", "/self", "/events"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		equal(t, path, w.Code, 401)
	}
}

// The host vouches for somebody without a key.
func TestVouch(t *testing.T) {
	s := newServer(t)
	h := keyapi.New(s.manager, nil)
	ada := auth.Record{ID: "ada", Owner: "acme", Name: "Ada", Scopes: auth.Scopes{"*"}}
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/", 200}, {"GET", "/self", 200}, {"POST", "/self/rotate", 404}, {"POST", "/self/revoke", 404},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r.WithContext(authtest.NewContext(r.Context(), ada)))
		equal(t, c.method+" "+c.path, w.Code, c.want)
	}
}

// What the Authenticator believes about a key may be old, if it has a cache.
// The Manager's store counts.
func TestStaleKey(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		what   string
		change func(k *keyring.Keyring, id string) error
		code   string
		self   int
	}{
		{"revoked", func(k *keyring.Keyring, id string) error { return k.Revoke(ctx, id) }, "KEY_REVOKED", 401},
		{"disabled", func(k *keyring.Keyring, id string) error { return k.Disable(ctx, id) }, "KEY_DISABLED", 401},
		{"deleted", func(k *keyring.Keyring, id string) error { return k.Delete(ctx, id) }, "INVALID_KEY", 401},
		{"rotated", func(k *keyring.Keyring, id string) error { _, _, err := k.Rotate(ctx, id, 0); return err },
			"KEY_EXPIRED", 401},
		{"narrowed", func(k *keyring.Keyring, id string) error {
			_, err := k.Update(ctx, id, func(r *auth.Record) error { r.Scopes = auth.Scopes{"a"}; return nil })
			return err
		}, "INSUFFICIENT_SCOPE", 200},
	} {
		s := newServer(t)
		key := s.client("acme", "*")
		old := s.record(key.id)
		must(t, c.change(s.manager.Unconfined("staff"), key.id))
		h := keyapi.New(s.manager, nil)
		send := func(method, path string) *answer {
			r := httptest.NewRequest(method, path, nil)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r.WithContext(authtest.NewContext(r.Context(), old)))
			return &answer{t: t, what: c.what, status: w.Code, text: w.Body.String()}
		}
		for _, m := range manages {
			a := send(m.method, "/"+m.path[min(1, len(m.path)):])
			contains(t, c.what+": "+m.method+" "+m.path, a.text, `"code":"`+c.code+`"`, true)
		}
		equal(t, c.what+": status of /self", send("GET", "/self").status, c.self)
	}
}

// After Delete, the ID of a key that was made once can be used again, for a key
// with another secret.
func TestStaleKeyWithID(t *testing.T) {
	s := newServer(t)
	admin := s.client("acme", "*")
	create := func() string {
		return admin.do("POST", "", `{"name":"key","scopes":["*"]}`, "Idempotency-Key", "1").is(201).str("id")
	}
	id := create()
	old := s.record(id)
	admin.do("DELETE", "/"+id, "").is(204)
	equal(t, "ID of the other key", create(), id)
	r := httptest.NewRequest("POST", "/self/revoke", nil)
	w := httptest.NewRecorder()
	keyapi.New(s.manager, nil).ServeHTTP(w, r.WithContext(authtest.NewContext(r.Context(), old)))
	equal(t, "status", w.Code, 401)
	equal(t, "the other key is revoked", !s.record(id).RevokedAt.IsZero(), false)
}

// A narrowed key that the Authenticator still believes to be wide grants what
// it holds now, and until when it is valid now.
func TestStaleActor(t *testing.T) {
	s := newServer(t, func(o *keyapi.Options, _ *keyring.Options) { o.Scope = "keys" })
	key := s.client("acme", "keys", "a", "b")
	old := s.record(key.id)
	end := time.Now().Add(day)
	_, err := s.manager.Unconfined("staff").Update(context.Background(), key.id, func(r *auth.Record) error {
		r.Scopes, r.ExpiresAt = auth.Scopes{"keys", "a"}, end
		return nil
	})
	must(t, err)
	r := httptest.NewRequest("POST", "/self/rotate", nil)
	w := httptest.NewRecorder()
	keyapi.New(s.manager, nil).ServeHTTP(w, r.WithContext(authtest.NewContext(r.Context(), old)))
	equal(t, "status", w.Code, 201)
	equal(t, "the successor ends in time", s.record(s.record(key.id).RotatedTo).ExpiresAt.After(end), false)
}

// The key that acts is revoked after it was let in, and before its new key is
// stored. Who revoked it has looked for keys that it made, and found none.
func TestRevokedWhileCreating(t *testing.T) {
	for _, path := range []string{"", "/other/rotate"} {
		s := newServer(t)
		c := s.client("acme", "*")
		other := c.create(`{"name":"other","scopes":["a"]}`)
		body := ""
		if path == "" {
			body = `{"name":"key"}`
		}
		var made string
		s.store.insert = func(r *auth.Record) error {
			made = r.ID
			must(t, s.manager.Unconfined("staff").Revoke(context.Background(), c.id))
			return s.store.MemoryStore.Insert(context.Background(), r)
		}
		s.store.update = func(r, successor *auth.Record) error {
			if successor != nil && path == "/other/rotate" {
				made = successor.ID
				must(t, s.manager.Unconfined("staff").Revoke(context.Background(), c.id))
			}
			return s.store.MemoryStore.Update(context.Background(), r, successor)
		}
		a := c.do("POST", map[string]string{"/other/rotate": "/" + other.id + "/rotate"}[path], body)
		a.refused("creating", 401, "KEY_REVOKED", "")
		contains(t, "answer", a.text, "isk_", false)
		equal(t, "the new key is revoked", s.record(made).RevokedAt.IsZero(), false)
	}
}

// If nobody knows whether the key that acts was revoked, no secret is given
// out.
func TestUnknownWhileCreating(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	var made string
	s.store.insert = func(r *auth.Record) error {
		made = r.ID
		s.store.get = func(id string) (*auth.Record, error) {
			if id == c.id {
				return nil, errors.New("away")
			}
			return s.store.MemoryStore.Get(context.Background(), id)
		}
		return s.store.MemoryStore.Insert(context.Background(), r)
	}
	c.do("POST", "", `{"name":"key"}`).refused("creating", 503, "STORE_UNAVAILABLE", "")
	equal(t, "the new key is revoked", s.record(made).RevokedAt.IsZero(), false)
}
