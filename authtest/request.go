package authtest

import (
	"net/http"
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
