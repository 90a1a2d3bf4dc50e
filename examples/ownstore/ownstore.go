// Package ownstore is a Store over a table of keys that was there before, to
// copy from. It needs nothing but database/sql.
package ownstore

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"strings"

	"github.com/insigner/auth"
)

// Tokens are the keys in an existing table:
//
//	CREATE TABLE api_tokens (
//		id          bigint PRIMARY KEY,
//		sha256      bytea NOT NULL UNIQUE, -- of the whole key
//		account     text NOT NULL,
//		permissions text NOT NULL,         -- "documents.read documents.create"
//		expires_at  timestamptz,
//		disabled_at timestamptz,
//		revoked_at  timestamptz
//	)
type Tokens struct{ DB *sql.DB }

// Lookup implements auth.Store.
func (t Tokens) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	const query = `SELECT id, account, permissions, expires_at, disabled_at, revoked_at
		FROM api_tokens WHERE sha256 = $1`
	r := &auth.Record{Hash: hash}
	var permissions string
	var expires, disabled, revoked sql.NullTime
	err := t.DB.QueryRowContext(ctx, query, hash[:]).Scan(&r.ID, &r.Owner, &permissions, &expires, &disabled, &revoked)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, auth.ErrNotFound
	}
	if err != nil {
		return nil, err // an outage is not "no such key": clients get 503, not 401
	}
	for _, p := range strings.Fields(permissions) {
		r.Scopes = append(r.Scopes, auth.Scope(p))
	}
	// The zero Time for NULL. Record.Check decides about expired keys.
	r.ExpiresAt, r.DisabledAt, r.RevokedAt = expires.Time, disabled.Time, revoked.Time
	return r, nil
}

func newApp(db *sql.DB, list http.Handler) http.Handler {
	a := auth.New(Tokens{db}, &auth.Options{Scheme: auth.Scheme{
		Prefix:  "acme_",
		Hashers: []auth.Hasher{auth.SHA256(nil)},
	}})
	return a.Require("documents.read")(list)
}
