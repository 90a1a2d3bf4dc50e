package auth_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
)

// Tokens are the keys in a table that was there before:
//
//	CREATE TABLE api_tokens (
//		id          bigint PRIMARY KEY,
//		sha256      bytea NOT NULL UNIQUE, -- of the whole key
//		account     text NOT NULL,
//		permissions text NOT NULL,         -- "documents.read documents.create"
//		expires_at  timestamptz,
//		disabled_at timestamptz
//	)
type Tokens struct{ DB *sql.DB }

// Lookup implements auth.Store.
func (t Tokens) Lookup(ctx context.Context, hash auth.Hash) (auth.Record, error) {
	const query = `SELECT id, account, permissions, expires_at, disabled_at FROM api_tokens WHERE sha256 = $1`
	r := auth.Record{Hash: hash}
	var permissions string
	var expires, disabled sql.NullTime
	err := t.DB.QueryRowContext(ctx, query, hash[:]).Scan(&r.ID, &r.Owner, &permissions, &expires, &disabled)
	if errors.Is(err, sql.ErrNoRows) {
		return auth.Record{}, auth.ErrNotFound
	}
	if err != nil {
		return auth.Record{}, err // an outage is not "no such key": clients get 503, not 401
	}
	for _, p := range strings.Fields(permissions) {
		r.Scopes = append(r.Scopes, auth.Scope(p))
	}
	r.ExpiresAt, r.RevokedAt = expires.Time, disabled.Time // the zero Time for NULL; Record.Check decides
	return r, nil
}

// A look-up by hash is all that an Authenticator needs of a store.
func ExampleStore() {
	const key = "acme_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v2"
	db := openTokens(auth.Record{ID: "7", Hash: auth.SHA256(key), Owner: "org_1", Scopes: auth.Scopes{"documents.read"}})
	defer db.Close()

	a := auth.New(Tokens{db}, &auth.Options{
		Format:  auth.KeyFormat{Prefix: "acme_"},
		Hashers: []auth.Hasher{auth.SHA256},
	})

	mux := http.NewServeMux()
	mux.Handle("GET /api/v1/documents", a.Require("documents.read")(http.HandlerFunc(list)))
	fmt.Println(ask(mux, "GET", "/api/v1/documents", key))
	fmt.Println(ask(mux, "GET", "/api/v1/documents", strings.ToUpper(key)))
	// Output:
	// 200 the documents of org_1
	// 401 INVALID_FORMAT
}

func TestTokens(t *testing.T) {
	authtest.TestLookup(t, func(t *testing.T, records ...auth.Record) auth.Store {
		db := openTokens(records...)
		t.Cleanup(func() { db.Close() })
		return Tokens{db}
	})
}

// TestTokensOutage: what a database says when it is not there is not "no such key".
func TestTokensOutage(t *testing.T) {
	db := openTokens()
	db.Close()
	if _, err := (Tokens{db}).Lookup(t.Context(), auth.Hash{}); err == nil || errors.Is(err, auth.ErrNotFound) {
		t.Errorf("Lookup in a closed database: %v", err)
	}
	db = openTokens()
	defer db.Close()
	ctx, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if _, err := (Tokens{db}).Lookup(ctx, auth.Hash{}); err == nil || errors.Is(err, auth.ErrNotFound) {
		t.Errorf("Lookup too late: %v", err)
	}
}
