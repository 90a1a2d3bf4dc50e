package authtest

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// NewContext returns a context that has passed an [auth.Authenticator] with the
// key of r. [auth.FromContext], [auth.Authorize] and [auth.Require] accept it,
// as far as the state and the scopes of r permit, and [auth.Recheck] finds r
// again.
//
// The Authenticator is one of its own. Any other, and so each one that an
// application makes, does not accept the context: see [NewKey].
func NewContext(ctx context.Context, r auth.Record) context.Context {
	return auth.New(oneRecord{r.Clone()}, nil).Vouch(ctx, r)
}

// A oneRecord is a store of one record.
type oneRecord struct{ record *auth.Record }

func (s oneRecord) Lookup(_ context.Context, hash auth.Hash) (*auth.Record, error) {
	if hash != s.record.Hash {
		return nil, auth.ErrNotFound
	}
	return s.record, nil
}

// WithScopes returns a copy of r that [auth.Require] takes for a request with a
// key that holds these scopes. [auth.FromContext] returns a record with the ID
// "key_test" and the Owner "org_test". For another record, use [NewContext].
//
// The copy carries no Bearer credential, since that would decide instead.
// WithScopes panics if a scope is invalid: the test would be refused for the
// wrong reason.
func WithScopes(r *http.Request, scopes ...auth.Scope) *http.Request {
	for _, s := range scopes {
		if _, err := auth.ParseScope(string(s)); err != nil {
			panic("authtest.WithScopes: " + err.Error())
		}
	}
	created := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ctx := NewContext(r.Context(), auth.Record{
		ID:        "key_test",
		Hint:      "isk_…test",
		Name:      "test",
		Owner:     "org_test",
		Scopes:    scopes,
		CreatedAt: created,
		CreatedBy: "authtest",
		UpdatedAt: created,
		UpdatedBy: "authtest",
		Revision:  1,
		Chain:     "key_test",
	})
	if auth.Bearer(r.Header["Authorization"]...) == "" {
		return r.WithContext(ctx)
	}
	r = r.Clone(ctx)
	r.Header.Del("Authorization")
	return r
}

// NewKey puts a key with these scopes into store and returns it, for requests
// to an [auth.Authenticator] with the zero Scheme. Its Name is that of the
// test, its Owner is "org_test", and it never expires. If store fails, NewKey
// ends the test. For any other key, use a [keyring.Manager].
func NewKey(t testing.TB, store keyring.Store, scopes ...auth.Scope) auth.Key {
	t.Helper()
	name := t.Name()
	name = strings.ToValidUTF8(name[:min(len(name), 200)], "")
	_, key, err := keyring.NewManager(store, nil).Unconfined("authtest").Create(t.Context(), keyring.Spec{
		Name:   name,
		Owner:  "org_test",
		Scopes: scopes,
	})
	if err != nil {
		t.Fatalf("authtest.NewKey: %v", err)
	}
	return key
}

// WithKey returns a copy of r that carries key, and no other credential.
func WithKey(r *http.Request, key auth.Key) *http.Request {
	r = r.Clone(r.Context())
	if r.Header == nil {
		r.Header = make(http.Header)
	}
	r.Header.Set("Authorization", "Bearer "+key.Reveal())
	return r
}
