package authtest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/keyring"
)

func ok(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "reached ", r.URL.Path) }

var created = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func testRecord() auth.Record {
	return auth.Record{
		ID:        "key_1",
		Name:      "Production Backend",
		Owner:     "org_1",
		Scopes:    auth.Scopes{"documents.read"},
		Metadata:  map[string]string{"plan": "pro"},
		CreatedAt: created,
		Revision:  3,
		Chain:     "key_1",
	}
}

func TestNewContextIsAccepted(t *testing.T) {
	ctx := authtest.NewContext(t.Context(), testRecord())
	got, known := auth.FromContext(ctx)
	if !known {
		t.Fatal("FromContext: got no record")
	}
	if got.ID != "key_1" {
		t.Errorf("FromContext: got ID %q, want key_1", got.ID)
	}
	if got.Metadata["plan"] != "pro" {
		t.Errorf("FromContext: got metadata %v, want the plan pro", got.Metadata)
	}
	if err := auth.Authorize(ctx, "documents.read"); err != nil {
		t.Errorf("Authorize of a scope that it holds: %v", err)
	}
	if err := auth.Authorize(ctx, "documents.delete"); !errors.Is(err, auth.ErrInsufficientScope) {
		t.Errorf("Authorize of a scope that it lacks: got error %v, want %v", err, auth.ErrInsufficientScope)
	}
	for _, c := range []struct {
		scope auth.Scope
		want  int
	}{
		{"documents.read", 200},
		{"documents.delete", 403},
	} {
		r := httptest.NewRequest("GET", "/", nil).WithContext(ctx)
		if got := answer(auth.Require(c.scope)(http.HandlerFunc(ok)), r).Code; got != c.want {
			t.Errorf("Require(%q): got status %d, want %d", c.scope, got, c.want)
		}
	}
}

func TestNewContextOfBadKey(t *testing.T) {
	for _, c := range []struct {
		want   error
		change func(r *auth.Record)
	}{
		{auth.ErrKeyRevoked, func(r *auth.Record) { r.RevokedAt = created }},
		{auth.ErrKeyDisabled, func(r *auth.Record) { r.DisabledAt = created }},
		{auth.ErrKeyExpired, func(r *auth.Record) { r.ExpiresAt = created.AddDate(-20, 0, 0) }},
	} {
		r := testRecord()
		c.change(&r)
		ctx := authtest.NewContext(t.Context(), r)
		if err := auth.Authorize(ctx, "documents.read"); !errors.Is(err, c.want) {
			t.Errorf("Authorize: got error %v, want %v", err, c.want)
		}
		request := httptest.NewRequest("GET", "/", nil).WithContext(ctx)
		if got := answer(auth.Require("documents.read")(http.HandlerFunc(ok)), request).Code; got != 401 {
			t.Errorf("Require with a key that fails with %v: got status %d, want 401", c.want, got)
		}
	}
}

func TestNewContextKeepsCopy(t *testing.T) {
	r := testRecord()
	r.Hash[0] = 1
	ctx := authtest.NewContext(t.Context(), r)
	r.Scopes[0], r.Metadata["plan"] = "*", "free"
	got, _ := auth.FromContext(ctx)
	if !slices.Equal(got.Scopes, auth.Scopes{"documents.read"}) {
		t.Errorf("FromContext: got scopes %q after the caller changed its own", got.Scopes)
	}
	again, err := auth.Recheck(ctx)
	if err != nil {
		t.Fatalf("Recheck: %v", err)
	}
	if again.Metadata["plan"] != "pro" {
		t.Errorf("Recheck: got metadata %v after the caller changed its own", again.Metadata)
	}
}

func TestNewContextIsRechecked(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(r *auth.Record)
		want   error
	}{
		{"without a hash", func(*auth.Record) {}, nil},
		{"with a hash", func(r *auth.Record) { r.Hash[0] = 1 }, nil},
		{"revoked", func(r *auth.Record) { r.RevokedAt = created }, auth.ErrKeyRevoked},
		{"revoked, with a hash", func(r *auth.Record) { r.RevokedAt = created; r.Hash[0] = 1 }, auth.ErrKeyRevoked},
	} {
		r := testRecord()
		c.change(&r)
		got, err := auth.Recheck(authtest.NewContext(t.Context(), r))
		if !errors.Is(err, c.want) {
			t.Errorf("%s: Recheck: got error %v, want %v", c.name, err, c.want)
		}
		if c.want == nil && got.ID != r.ID {
			t.Errorf("%s: Recheck: got ID %q, want %q", c.name, got.ID, r.ID)
		}
	}
}

func TestNewContextIsNotAcceptedByOthers(t *testing.T) {
	store := new(keyring.MemoryStore)
	r := testRecord()
	r.Hash[0] = 1
	if err := store.Insert(t.Context(), &r); err != nil {
		t.Fatal(err)
	}
	a := auth.New(store, nil)
	require := auth.Require("documents.read")(http.HandlerFunc(ok))
	for _, c := range []struct {
		name string
		h    http.Handler
	}{
		{"Middleware", a.Middleware(http.HandlerFunc(ok))},
		{"Middleware and Require", a.Middleware(require)},
		{"the Authenticator's own Require", a.Require("documents.read")(http.HandlerFunc(ok))},
		{"Optional and Require", a.Optional(require)},
	} {
		request := httptest.NewRequest("GET", "/", nil)
		request = request.WithContext(authtest.NewContext(request.Context(), r))
		if got := answer(c.h, request).Code; got != 401 {
			t.Errorf("%s: got status %d, want 401", c.name, got)
		}
	}
	request := httptest.NewRequest("GET", "/", nil)
	request = request.WithContext(authtest.NewContext(request.Context(), r))
	if _, err := a.Authenticate(request); !errors.Is(err, auth.ErrMissingKey) {
		t.Errorf("Authenticate: got error %v, want %v", err, auth.ErrMissingKey)
	}
	other := authtest.NewContext(context.Background(), r) // another call, another Authenticator
	ctx := authtest.NewContext(other, auth.Record{ID: "key_2"})
	if got, _ := auth.FromContext(ctx); got.ID != "key_2" {
		t.Errorf("FromContext after two calls: got ID %q, want that of the second, key_2", got.ID)
	}
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
			t.Errorf("with %q: got status %d, want %d", c.scopes, got, c.want)
		}
		if _, known := auth.FromContext(r.Context()); known {
			t.Error("WithScopes changed the request that it was given")
		}
	}
}

func TestWithScopesRecord(t *testing.T) {
	scopes := []auth.Scope{"a.b"}
	r := authtest.WithScopes(httptest.NewRequest("GET", "/", nil), scopes...)
	scopes[0] = "*"
	got, known := auth.FromContext(r.Context())
	if !known {
		t.Fatal("FromContext: got no record")
	}
	if got.ID != "key_test" {
		t.Errorf("got ID %q, want key_test", got.ID)
	}
	if got.Owner != "org_test" {
		t.Errorf("got owner %q, want org_test", got.Owner)
	}
	if !slices.Equal(got.Scopes, auth.Scopes{"a.b"}) {
		t.Errorf("got scopes %q after the caller changed its own, want a.b", got.Scopes)
	}
}

func TestWithScopesReplacesCredential(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+auth.Scheme{}.NewKey().Reveal())
	copied := authtest.WithScopes(r, "documents.read")
	if got := answer(auth.Require("documents.read")(http.HandlerFunc(ok)), copied).Code; got != 200 {
		t.Errorf("with scopes, and a key that nobody knows: got status %d, want 200", got)
	}
	if r.Header.Get("Authorization") == "" {
		t.Error("WithScopes changed the request that it was given")
	}
	r.Header.Set("Authorization", "Basic YTpi")
	if got := authtest.WithScopes(r, "documents.read").Header.Get("Authorization"); got != "Basic YTpi" {
		t.Errorf("a Basic credential: got %q, want it kept", got)
	}
}

func TestWithScopesPanicsOnInvalidScope(t *testing.T) {
	defer func() {
		v := fmt.Sprint(recover())
		if !strings.HasPrefix(v, "authtest.WithScopes: ") {
			t.Errorf("got panic %q, want it to name the call", v)
		}
		if !strings.Contains(v, `"documents read"`) {
			t.Errorf("got panic %q, want it to name the scope", v)
		}
	}()
	authtest.WithScopes(httptest.NewRequest("GET", "/", nil), "documents.read", "documents read")
}

func TestNewKey(t *testing.T) {
	store := new(keyring.MemoryStore)
	h := auth.New(store, nil).Require("documents.read")(http.HandlerFunc(ok))
	reader, powerless := authtest.NewKey(t, store, "documents.*"), authtest.NewKey(t, store)
	bare := httptest.NewRequest("GET", "/", strings.NewReader("body"))
	for _, c := range []struct {
		name string
		r    *http.Request
		want int
	}{
		{"no key", bare, 401},
		{"scopes, which the Authenticator does not accept", authtest.WithScopes(bare, "*"), 401},
		{"a key", authtest.WithKey(bare, reader), 200},
		{"a key without scopes", authtest.WithKey(bare, powerless), 403},
		{"a key instead of another", authtest.WithKey(authtest.WithKey(bare, powerless), reader), 200},
		{"an unknown key", authtest.WithKey(bare, auth.Scheme{}.NewKey()), 401},
		{"a key of another store", authtest.WithKey(bare, authtest.NewKey(t, new(keyring.MemoryStore), "*")), 401},
		{"a request without a header", authtest.WithKey(&http.Request{Method: "GET", URL: bare.URL}, reader), 200},
		{"no key, after all this", bare, 401},
	} {
		if got := answer(h, c.r).Code; got != c.want {
			t.Errorf("%s: got status %d, want %d", c.name, got, c.want)
		}
	}
}

func TestNewKeyRecord(t *testing.T) {
	store := new(keyring.MemoryStore)
	key := authtest.NewKey(t, store, "documents.*", "audit")
	r, err := store.Lookup(t.Context(), auth.BLAKE2b(nil)(key.Reveal()))
	if err != nil {
		t.Fatalf("Lookup: %v", err)
	}
	if r.Name != t.Name() {
		t.Errorf("got name %q, want %q", r.Name, t.Name())
	}
	if r.Owner != "org_test" {
		t.Errorf("got owner %q, want org_test", r.Owner)
	}
	if !slices.Equal(r.Scopes, auth.Scopes{"documents.*", "audit"}) {
		t.Errorf("got scopes %q, want documents.* and audit", r.Scopes)
	}
	if !r.ExpiresAt.IsZero() {
		t.Errorf("got expiry %v, want none", r.ExpiresAt)
	}
}

func TestNewKeyInTestWithLongName(t *testing.T) {
	t.Run(strings.Repeat("ä", 300), func(t *testing.T) {
		authtest.NewKey(t, new(keyring.MemoryStore), "documents.read")
	})
}

func TestNewKeyEndsTest(t *testing.T) {
	for name, f := range map[string]func(t testing.TB){
		"an invalid scope": func(t testing.TB) { authtest.NewKey(t, new(keyring.MemoryStore), "documents read") },
		"a store that fails": func(t testing.TB) {
			s := newTable()
			s.onInsert = func(context.Context, *auth.Record) error { return errNoRows }
			authtest.NewKey(t, s, "documents.read")
		},
	} {
		got := failuresOf(t, f)
		if len(got) != 1 {
			t.Errorf("%s: got failures %q, want one", name, got)
			continue
		}
		if !strings.HasPrefix(got[0], "authtest.NewKey: ") {
			t.Errorf("%s: got failure %q, want it to name the call", name, got[0])
		}
	}
}
