package keyapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
)

// keyMembers are the members of a key, without its secret.
var keyMembers = []string{"createdAt", "disabledAt", "expiresAt", "hint", "id", "lastUsedAt", "name", "owner",
	"revision", "revokedAt", "rotatedFrom", "rotatedTo", "scopes", "status"}

func TestCreate(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	expires := time.Now().Add(day).UTC().Truncate(time.Second).Format(time.RFC3339)
	a := c.do("POST", "", `{"name":"Backend","scopes":["documents.read"],"expiresAt":"`+expires+`"}`).is(201)
	same(t, "members", slices.Sorted(maps.Keys(a.body)),
		slices.Sorted(slices.Values(append([]string{"key"}, keyMembers...))))
	r := s.record(a.str("id"))
	for _, f := range []struct {
		member string
		want   any
	}{
		{"name", "Backend"},
		{"owner", "acme"},
		{"scopes", []string{"documents.read"}},
		{"hint", r.Hint},
		{"createdAt", r.CreatedAt},
		{"expiresAt", expires},
		{"disabledAt", nil},
		{"revokedAt", nil},
		{"lastUsedAt", nil},
		{"rotatedFrom", nil},
		{"rotatedTo", nil},
		{"status", "active"},
		{"revision", 1},
	} {
		same(t, f.member, a.body[f.member], f.want)
	}
	equal(t, "creator", r.CreatedBy, c.id)
	equal(t, "ETag", a.header.Get("ETag"), `"1"`)

	created := &client{s, a.str("id"), a.str("key")}
	equal(t, "ID of itself", created.do("GET", "/self", "").is(200).str("id"), created.id)
}

func TestCreateWithoutScopes(t *testing.T) {
	for _, body := range []string{`{"name":"key"}`, `{"name":"key","scopes":[]}`,
		`{"name":"key","scopes":null,"expiresAt":null}`} {
		a := newServer(t).client("acme", "*").do("POST", "", body).is(201)
		same(t, body+": scopes", a.body["scopes"], []string{})
		same(t, body+": expiresAt", a.body["expiresAt"], nil)
	}
}

// TestSecretOnce asks for a key in every way after it was made.
func TestSecretOnce(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	for _, make := range []func() *answer{
		func() *answer { return c.do("POST", "", `{"name":"key"}`, "Idempotency-Key", "1").is(201) },
		func() *answer { return c.do("POST", "/"+c.create(`{"name":"key"}`).id+"/rotate", "").is(201) },
		func() *answer { return c.create(`{"name":"key"}`).do("POST", "/self/rotate", "").is(201) },
	} {
		made := make()
		id, secret := made.str("id"), made.str("key")
		if secret == "" {
			t.Fatalf("%s: no secret", made.what)
		}
		for _, a := range []*answer{
			c.do("GET", "/"+id, ""),
			c.do("GET", "", ""),
			c.do("GET", "/events", ""),
			c.do("GET", "/"+id+"/events", ""),
			c.do("POST", "", `{"name":"key"}`, "Idempotency-Key", "1"),
			c.do("PATCH", "/"+id, `{"name":"new"}`),
			c.do("POST", "/"+id+"/disable", ""),
			c.do("POST", "/"+id+"/enable", ""),
			c.do("POST", "/"+id+"/revoke", `{"andCreated":true}`),
		} {
			contains(t, a.what, a.text, secret, false)
			contains(t, a.what+": hash", a.text, s.record(id).Hash.String(), false)
		}
	}
	contains(t, "log", s.log.String(), "isk_", false)
}

func TestUpdate(t *testing.T) {
	soon, later := time.Now().Add(day).UTC().Truncate(time.Second), time.Now().Add(2*day).UTC().Truncate(time.Second)
	quote := func(t time.Time) string { return t.Format(time.RFC3339) }
	for _, c := range []struct {
		patch     string
		name      string
		scopes    []string
		expiresAt any
		revision  int
	}{
		{`{}`, "old", []string{"a", "b"}, quote(soon), 1},
		{`{"name":"new"}`, "new", []string{"a", "b"}, quote(soon), 2},
		{`{"name":"old"}`, "old", []string{"a", "b"}, quote(soon), 1},
		{`{"scopes":["b"]}`, "old", []string{"b"}, quote(soon), 2},
		{`{"scopes":[]}`, "old", []string{}, quote(soon), 2},
		{`{"scopes":null}`, "old", []string{}, quote(soon), 2},
		{`{"expiresAt":null}`, "old", []string{"a", "b"}, nil, 2},
		{`{"expiresAt":"` + quote(later) + `"}`, "old", []string{"a", "b"}, quote(later), 2},
		{`{"expiresAt":"` + soon.In(time.FixedZone("", 14*3600)).Format(time.RFC3339) + `"}`, "old", []string{"a", "b"},
			quote(soon), 1},
		{`{"name":"new","scopes":["c"],"expiresAt":null}`, "new", []string{"c"}, nil, 2},
	} {
		for _, mediaType := range []string{"application/json", "application/merge-patch+json",
			"Application/Merge-Patch+JSON; charset=utf-8"} {
			s := newServer(t)
			admin := s.client("acme", "*")
			key := s.clientWith(keyring.Spec{Name: "old", Owner: "acme", Scopes: auth.Scopes{"a", "b"}, ExpiresAt: soon})
			a := admin.do("PATCH", "/"+key.id, c.patch, "Content-Type", mediaType).is(200)
			equal(t, c.patch+": name", a.str("name"), c.name)
			same(t, c.patch+": scopes", a.body["scopes"], c.scopes)
			same(t, c.patch+": expiresAt", a.body["expiresAt"], c.expiresAt)
			same(t, c.patch+": revision", a.body["revision"], c.revision)
			equal(t, c.patch+": ETag", a.header.Get("ETag"), fmt.Sprintf(`"%d"`, c.revision))
			same(t, c.patch+": stored", admin.do("GET", "/"+key.id, "").is(200).body, a.body)
		}
	}
}

// A key that acts grants no more time than it has, and MaxLifetime no more than
// it permits, neither by a value nor by null.
func TestLifetime(t *testing.T) {
	s := newServer(t, func(_ *keyapi.Options, k *keyring.Options) { k.MaxLifetime = 10 * day })
	end := time.Now().Add(5 * day).UTC().Truncate(time.Second)
	expiring := s.clientWith(keyring.Spec{Name: "client", Owner: "acme", Scopes: auth.Scopes{"*"}, ExpiresAt: end})
	for _, body := range []string{`{"name":"key"}`, `{"name":"key","expiresAt":null}`} {
		a := expiring.do("POST", "", body).is(201)
		same(t, "expiry of "+body, a.body["expiresAt"], end)
		a = expiring.do("PATCH", "/"+a.str("id"), `{"expiresAt":null}`).is(200)
		same(t, "expiry after null", a.body["expiresAt"], end)
	}
	late := end.Add(time.Second).Format(time.RFC3339)
	expiring.do("POST", "", `{"name":"key","expiresAt":"`+late+`"}`).refused("later than the actor", 422,
		"INVALID_ARGUMENT", "/expiresAt")
	expiring.do("PATCH", "/"+expiring.id, `{"expiresAt":"`+late+`"}`).refused("itself later", 422, "INVALID_ARGUMENT",
		"/expiresAt")
	expiring.do("PATCH", "/"+expiring.id, `{"expiresAt":null}`).is(200)
	same(t, "its own expiry", expiring.do("GET", "/self", "").body["expiresAt"], end)

	forever := s.client("acme", "*")
	late = time.Now().Add(11 * day).Format(time.RFC3339)
	forever.do("POST", "", `{"name":"key","expiresAt":"`+late+`"}`).refused("later than MaxLifetime", 422,
		"INVALID_ARGUMENT", "/expiresAt")
}

func TestScopes(t *testing.T) {
	s := newServer(t, func(o *keyapi.Options, _ *keyring.Options) { o.Scope = "keys" })
	c := s.client("acme", "keys", "a.*")
	c.do("POST", "", `{"name":"key","scopes":["a.b","b"]}`).refused("create", 403, "INSUFFICIENT_SCOPE", "/scopes/1")
	key := c.create(`{"name":"key","scopes":["a.b"]}`)
	c.do("PATCH", "/"+key.id, `{"scopes":["a.c","a.b","*"]}`).refused("widen", 403, "INSUFFICIENT_SCOPE", "/scopes/2")
	a := c.do("PATCH", "/"+c.id, `{"scopes":["keys","*"]}`)
	a.refused("widen itself", 403, "INSUFFICIENT_SCOPE", "/scopes/1")
	equal(t, "challenge", a.header.Get("WWW-Authenticate"), "")

	wide := s.client("acme", "*")
	c.do("POST", "/"+wide.id+"/rotate", "").refused("rotate a wider key", 403, "INSUFFICIENT_SCOPE", "id")
	wide.do("POST", "/"+wide.id+"/disable", "").is(200)
	c.do("POST", "/"+wide.id+"/enable", "").refused("enable a wider key", 403, "INSUFFICIENT_SCOPE", "id")
	c.do("POST", "/"+wide.id+"/revoke", "").is(200)
}

func TestRotate(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	for _, body := range []string{"", `{}`, `{"graceSeconds":0}`} {
		old := c.create(`{"name":"key","scopes":["a"]}`)
		a := c.do("POST", "/"+old.id+"/rotate", body).is(201)
		equal(t, body+": rotatedFrom", a.str("rotatedFrom"), old.id)
		equal(t, body+": name", a.str("name"), "key")
		same(t, body+": scopes", a.body["scopes"], []string{"a"})
		old.do("GET", "/self", "").is(401)
		(&client{s, a.str("id"), a.str("key")}).do("GET", "/self", "").is(200)
		is := c.do("GET", "/"+old.id, "").is(200)
		equal(t, body+": rotatedTo", is.str("rotatedTo"), a.str("id"))
		equal(t, body+": status", is.str("status"), "expired")
		c.do("POST", "/"+old.id+"/rotate", "").refused("again", 409, "KEY_ROTATED", "id")
	}
	old := c.create(`{"name":"key"}`)
	c.do("POST", "/"+old.id+"/rotate", `{"graceSeconds":2592000}`).is(201)
	old.do("GET", "/self", "").is(200)
	equal(t, "status in the grace", c.do("GET", "/"+old.id, "").str("status"), "active")
}

func TestDisableEnableRevokeDelete(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	key := c.create(`{"name":"key"}`)
	for _, step := range []struct {
		method, path, status string
		usable               bool
	}{
		{"POST", "/disable", "disabled", false},
		{"POST", "/disable", "disabled", false},
		{"POST", "/enable", "active", true},
		{"POST", "/enable", "active", true},
		{"POST", "/revoke", "revoked", false},
		{"POST", "/revoke", "revoked", false},
	} {
		a := c.do(step.method, "/"+key.id+step.path, "").is(200)
		equal(t, a.what+": status", a.str("status"), step.status)
		same(t, a.what+": stored", c.do("GET", "/"+key.id, "").body, a.body)
		equal(t, a.what+": usable", key.do("GET", "/self", "").status == 200, step.usable)
	}
	for _, path := range []string{"/disable", "/enable", "/rotate"} {
		c.do("POST", "/"+key.id+path, "").refused(path, 409, "KEY_REVOKED", "id")
	}
	c.do("PATCH", "/"+key.id, `{"name":"new"}`).refused("PATCH", 409, "KEY_REVOKED", "id")
	a := c.do("DELETE", "/"+key.id, "").is(204)
	equal(t, "body", a.text, "")
	c.do("DELETE", "/"+key.id, "").refused("deleted", 404, "NOT_FOUND", "id")
	c.do("GET", "/"+key.id, "").refused("deleted", 404, "NOT_FOUND", "id")
}

func TestStates(t *testing.T) {
	s := newServer(t, func(_ *keyapi.Options, k *keyring.Options) { k.MaxKeys = 3 })
	c := s.client("acme", "*")
	disabled := c.create(`{"name":"key"}`)
	c.do("POST", "/"+disabled.id+"/disable", "").is(200)
	c.do("POST", "/"+disabled.id+"/rotate", "").refused("rotate", 409, "KEY_DISABLED", "id")
	c.create(`{"name":"key"}`)
	c.do("POST", "", `{"name":"key"}`).refused("create", 409, "TOO_MANY_KEYS", "")

	expired := auth.Record{ID: "expired", Owner: "acme", Name: "key", Hash: auth.BLAKE2b(nil)("x"), CreatedAt: epoch,
		ExpiresAt: epoch.Add(day), Revision: 1}
	must(t, s.store.Insert(context.Background(), &expired))
	equal(t, "status", c.do("GET", "/expired", "").str("status"), "expired")
	c.do("POST", "/expired/rotate", "").refused("rotate", 409, "KEY_EXPIRED", "id")
	c.do("PATCH", "/expired", `{"name":"new"}`).refused("update", 409, "KEY_EXPIRED", "id")
}

// A record that was written with SQL may hold what this API never writes.
func TestOddRecords(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	odd := auth.Record{ID: "odd", Owner: "acme", Name: "\xff", Hash: auth.BLAKE2b(nil)("x"),
		ExpiresAt: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC), DisabledAt: time.Date(-300, 1, 1, 0, 0, 0, 0, time.UTC)}
	must(t, s.store.Insert(context.Background(), &odd))
	a := c.do("GET", "/odd", "").is(200)
	same(t, "createdAt", a.body["createdAt"], "0001-01-01T00:00:00Z")
	same(t, "expiresAt", a.body["expiresAt"], "9999-12-31T23:59:59Z")
	same(t, "scopes", a.body["scopes"], []string{})
	c.do("GET", "", "").is(200)
	c.do("GET", "/events", "").is(200)
}

func TestIdempotencyKey(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	const body = `{"name":"key","scopes":["a","b"],"expiresAt":null}`
	first := c.do("POST", "", body, "Idempotency-Key", "4f1c").is(201)
	equal(t, "first is replayed", first.header.Get("Idempotency-Replayed"), "")

	again := s.client("acme", "*")
	for _, same := range []string{body, ` {"scopes": ["a", "b"], "name": "k\u0065y"} `} {
		a := again.do("POST", "", same, "Idempotency-Key", "4f1c").is(200)
		equal(t, "replayed", a.header.Get("Idempotency-Replayed"), "true")
		equal(t, "ID", a.str("id"), first.str("id"))
		equal(t, "secret", a.str("key"), "")
	}
	for _, other := range []string{`{"name":"Key","scopes":["a","b"]}`, `{"name":"key","scopes":["b","a"]}`,
		`{"name":"key","scopes":["a"]}`, `{"name":"key","scopes":["a","b"],"expiresAt":"2999-01-01T00:00:00Z"}`} {
		a := c.do("POST", "", other, "Idempotency-Key", "4f1c")
		a.refused(other, 422, "IDEMPOTENCY_KEY_REUSED", "Idempotency-Key")
		equal(t, "replayed", a.header.Get("Idempotency-Replayed"), "")
	}
	// The key may have changed since.
	c.do("PATCH", "/"+first.str("id"), `{"name":"new","scopes":[]}`).is(200)
	equal(t, "name", c.do("POST", "", body, "Idempotency-Key", "4f1c").is(200).str("name"), "new")

	other := s.client("globex", "*").do("POST", "", body, "Idempotency-Key", "4f1c").is(201)
	equal(t, "the key of another owner", other.str("id") == first.str("id"), false)
	c.do("DELETE", "/"+first.str("id"), "").is(204)
	c.do("POST", "", body, "Idempotency-Key", "4f1c").is(201)
}

// Clients cannot take the Spec.Once of the host.
func TestIdempotencyKeyAndOnce(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	c.do("POST", "", `{"name":"key"}`, "Idempotency-Key", "first key").is(201)
	_, _, err := s.manager.Unconfined("setup").Create(context.Background(),
		keyring.Spec{Name: "key", Owner: "acme", Once: "first key"})
	must(t, err)
}

// A record that lost its digest can no longer tell what it was made of.
func TestIdempotencyKeyWithoutDigest(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	id := c.do("POST", "", `{"name":"key"}`, "Idempotency-Key", "1").is(201).str("id")
	_, err := s.manager.Unconfined("staff").Update(context.Background(), id,
		func(r *auth.Record) error { r.Metadata = nil; return nil })
	must(t, err)
	c.do("POST", "", `{"name":"key"}`, "Idempotency-Key", "1").refused("repeat", 422, "IDEMPOTENCY_KEY_REUSED",
		"Idempotency-Key")
}

func TestIdempotencyKeyField(t *testing.T) {
	c := newServer(t).client("acme", "*")
	for _, value := range []string{strings.Repeat("x", 249), "a\nb", "a\x00b", "\u202ea", "ä", "a\tb"} {
		c.do("POST", "", `{"name":"key"}`, "Idempotency-Key", value).refused(fmt.Sprintf("%q", value), 400,
			"INVALID_REQUEST", "Idempotency-Key")
	}
	c.do("POST", "", `{"name":"key"}`, "Idempotency-Key", "a", "Idempotency-Key", "a").refused("twice", 400,
		"INVALID_REQUEST", "Idempotency-Key")
	c.do("POST", "", `{"name":"key"}`, "Idempotency-Key", strings.Repeat("x", 248)).is(201)
	equal(t, "keys", len(c.do("GET", "", "").ids()), 2)
}

func TestIdempotencyKeyAtOnce(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	answers := make([]*answer, 20)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = c.do("POST", "", `{"name":"key"}`, "Idempotency-Key", "1") })
	}
	wg.Wait()
	made := 0
	for _, a := range answers {
		equal(t, "ID", a.str("id"), answers[0].str("id"))
		if a.status == 201 {
			made++
		} else {
			equal(t, "status", a.status, 200)
		}
	}
	equal(t, "keys that were made", made, 1)
}

func TestMetadata(t *testing.T) {
	s := newServer(t, func(o *keyapi.Options, _ *keyring.Options) { o.Metadata = []string{"team", "a/b~c"} })
	c := s.client("acme", "*")
	key := s.clientWith(keyring.Spec{Name: "key", Owner: "acme",
		Metadata: map[string]string{"plan": "gold", "team": "red"}})
	same(t, "metadata", c.do("GET", "/"+key.id, "").body["metadata"], map[string]string{"team": "red"})
	for _, step := range []struct {
		patch  string
		stored map[string]string
	}{
		{`{"metadata":{"a/b~c":"x"}}`, map[string]string{"plan": "gold", "team": "red", "a/b~c": "x"}},
		{`{"metadata":{}}`, map[string]string{"plan": "gold", "team": "red", "a/b~c": "x"}},
		{`{"name":"new"}`, map[string]string{"plan": "gold", "team": "red", "a/b~c": "x"}},
		{`{"metadata":{"team":null}}`, map[string]string{"plan": "gold", "a/b~c": "x"}},
		{`{"metadata":null}`, map[string]string{"plan": "gold"}},
	} {
		c.do("PATCH", "/"+key.id, step.patch).is(200)
		same(t, step.patch, s.record(key.id).Metadata, step.stored)
	}
	c.do("PATCH", "/"+key.id, `{"metadata":{"plan":null}}`).refused("hidden", 400, "INVALID_REQUEST", "/metadata/plan")
	c.do("PATCH", "/"+key.id, `{"metadata":{"team":7}}`).refused("number", 400, "INVALID_REQUEST", "/metadata/team")
	c.do("PATCH", "/"+key.id, `{"metadata":{"a/b~c":[]}}`).refused("array", 400, "INVALID_REQUEST", "/metadata/a~1b~0c")
	c.do("PATCH", "/"+key.id, `{"metadata":{"a/b~c":"\u0000"}}`).refused("NUL", 422, "INVALID_ARGUMENT",
		"/metadata/a~1b~0c")
	c.do("PATCH", "/"+key.id, `{"metadata":{"team":"","team":""}}`).refused("twice", 400, "INVALID_REQUEST",
		"/metadata/team")
	c.do("PATCH", "/"+key.id, `{"metadata":["team"]}`).refused("list", 400, "INVALID_REQUEST", "/metadata")
	c.do("POST", "", `{"name":"key","metadata":{"team":"`+strings.Repeat("x", 16<<10)+`"}}`).refused("long", 422,
		"INVALID_ARGUMENT", "/metadata")

	a := c.do("POST", "", `{"name":"key","metadata":{"team":"blue"}}`, "Idempotency-Key", "1").is(201)
	same(t, "digest is hidden", a.body["metadata"], map[string]string{"team": "blue"})
	c.do("POST", "", `{"name":"key","metadata":{"team":"green"}}`, "Idempotency-Key", "1").refused("reuse", 422,
		"IDEMPOTENCY_KEY_REUSED", "Idempotency-Key")
	c.do("PATCH", "/"+a.str("id"), `{"metadata":null}`).is(200)
	c.do("POST", "", `{"name":"key","metadata":{"team":"blue"}}`, "Idempotency-Key", "1").is(200)
}

func TestMetadataIsHidden(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	key := s.clientWith(keyring.Spec{Name: "key", Owner: "acme", Metadata: map[string]string{"plan": "gold"}})
	for _, a := range []*answer{c.do("GET", "/"+key.id, ""), c.do("GET", "", ""), c.do("GET", "/events", ""),
		c.do("POST", "/"+key.id+"/rotate", "")} {
		contains(t, a.what, a.text, "gold", false)
		contains(t, a.what, a.text, "metadata", false)
	}
	c.do("PATCH", "/"+key.id, `{"metadata":null}`).refused("patch", 400, "INVALID_REQUEST", "/metadata")
	same(t, "metadata", s.record(key.id).Metadata, map[string]string{"plan": "gold"})
}

func TestSelf(t *testing.T) {
	s := newServer(t, func(_ *keyapi.Options, k *keyring.Options) { k.MaxLifetime = 90 * day })
	end := time.Now().Add(day).UTC().Truncate(time.Second)
	c := s.clientWith(keyring.Spec{Name: "key", Owner: "acme", Scopes: auth.Scopes{"a"}, ExpiresAt: end})
	a := c.do("GET", "/self", "").is(200)
	want, err := json.Marshal(map[string]any{"id": c.id, "name": "key", "hint": s.record(c.id).Hint,
		"scopes": []string{"a"}, "expiresAt": end, "revision": 1,
		"limits": map[string]any{"maxKeys": 100, "maxGraceSeconds": 2592000, "maxLifetimeSeconds": 7776000}})
	must(t, err)
	same(t, "body", a.body, json.RawMessage(want))
	equal(t, "ETag", a.header.Get("Etag"), `"1"`)
	c.do("GET", "", "").refused("list", 403, "INSUFFICIENT_SCOPE", "")

	successor := c.do("POST", "/self/rotate", `{"graceSeconds":60}`).is(201)
	same(t, "expiry of the successor", successor.body["expiresAt"], end)
	same(t, "scopes of the successor", successor.body["scopes"], []string{"a"})
	next := &client{s, successor.str("id"), successor.str("key")}
	equal(t, "status", next.do("POST", "/self/revoke", "").is(200).str("status"), "revoked")
	next.do("GET", "/self", "").is(401)
	c.do("GET", "/self", "").is(200)
	c.do("POST", "/self/revoke", `{"andCreated":true}`).refused("no more than itself", 400, "INVALID_REQUEST",
		"/andCreated")
}

func TestSelfWithoutOwner(t *testing.T) {
	s := newServer(t)
	c := s.client("", "*")
	c.do("GET", "/self", "").is(200)
	for _, a := range []*answer{c.do("GET", "", ""), c.do("POST", "", `{"name":"key"}`), c.do("GET", "/events", ""),
		c.do("POST", "/self/revoke", "")} {
		a.refused(a.what, 403, "FORBIDDEN", "")
	}
}
