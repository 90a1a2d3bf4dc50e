package keyapi_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
)

const legacyKey = "legacy-0123456789abcdef"

// withLegacy makes the API accept keys of another shape, and UUIDs too.
func withLegacy(_ *keyapi.Options, k *keyring.Options) {
	k.Scheme.AlsoAccept = func(key string) bool {
		return len(key) == len(legacyKey) && strings.HasPrefix(key, "legacy-") || len(key) == 36
	}
}

// held are texts that hold a key.
func held(secret string) []string {
	return []string{secret, secret + "\n", " " + secret, secret + " ", "key=" + secret + ";", secret + "x", "x" + secret,
		legacyKey, legacyKey + "\n", "my key " + legacyKey, "0c9f3b7e-52a1-4d6e-9b1c-3f2a7d8e6b50"}
}

// No store is asked for a text that holds a secret, and no log has it.
func TestHeldKeysInURL(t *testing.T) {
	s := newServer(t, withLegacy)
	c := s.client("acme", "*")
	asked := ""
	s.store.get = func(id string) (*auth.Record, error) {
		if id != c.id {
			asked += id + "\n"
		}
		return s.store.MemoryStore.Get(t.Context(), id)
	}
	s.store.list = func(q keyring.Query) ([]*auth.Record, error) {
		asked += q.Text + "\n"
		return s.store.MemoryStore.List(t.Context(), q)
	}
	for _, text := range held(c.secret) {
		a := c.do("GET", "/"+url.PathEscape(text), "")
		a.refused(fmt.Sprintf("path %q", text), 404, "NOT_FOUND", "id")
		c.do("GET", "?q="+url.QueryEscape(text), "").refused(fmt.Sprintf("q %q", text), 400, "INVALID_REQUEST", "q")
	}
	equal(t, "what the store is asked", asked, "")
	equal(t, "log", s.log.String(), "")
	c.do("GET", "/"+c.id, "").is(200) // although AlsoAccept takes it
	c.do("GET", "?q="+c.id, "").is(200)
	c.do("GET", "?q=isk_", "").is(200)
}

// What a name, a scope or an entry holds is in many answers, and in the store.
func TestHeldKeysInBody(t *testing.T) {
	s := newServer(t, withLegacy, func(o *keyapi.Options, _ *keyring.Options) { o.Metadata = []string{"team"} })
	c := s.client("acme", "*")
	for _, text := range held(c.secret) {
		quoted := canonical(text)
		for _, b := range []struct{ body, place string }{
			{`{"name":` + quoted + `}`, "/name"},
			{`{"name":"key","scopes":["a",` + quoted + `]}`, "/scopes/1"},
			{`{"name":"key","metadata":{"team":` + quoted + `}}`, "/metadata/team"},
		} {
			for _, a := range []*answer{c.do("POST", "", b.body), c.do("PATCH", "/"+c.id, b.body)} {
				a.refused(a.what+" "+b.body, 400, "INVALID_REQUEST", b.place)
				contains(t, "answer", a.text, strings.TrimSpace(text), false)
			}
		}
	}
	equal(t, "keys", len(c.do("GET", "", "").ids()), 1)
	equal(t, "revision", s.record(c.id).Revision, 1)
	c.do("POST", "", `{"name":"isk_…U1v2","scopes":["isk_read"],"metadata":{"team":"`+c.id+`"}}`).is(201)
}

// A part of a key is not a key, so the store is asked for it. Its errors are logged
// without it.
func TestTextsOfClientInLog(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	part := c.secret[:30]
	s.store.get = func(id string) (*auth.Record, error) {
		if id == c.id {
			return s.store.MemoryStore.Get(t.Context(), id)
		}
		return nil, errors.New("no row for " + id)
	}
	s.store.list = func(q keyring.Query) ([]*auth.Record, error) { return nil, errors.New("no match for " + q.Text) }
	c.do("GET", "/"+part, "").is(503)
	c.do("GET", "?q="+part, "").is(503)
	contains(t, "log", s.log.String(), part, false)
	contains(t, "log", s.log.String(), "no row for [redacted]", true)
	contains(t, "log", s.log.String(), "no match for [redacted]", true)

	const id = "0190b5d2-7c3a-7e41-8f20-5a6b7c8d9e0f"
	c.do("GET", "/"+id, "").is(503)
	c.do("GET", "?q=short", "").is(503)
	contains(t, "log", s.log.String(), "no row for "+id, true)
	contains(t, "log", s.log.String(), "no match for short", true)
}
