// Package legacy shows an API that still accepts the keys of an earlier system.
package legacy

import (
	"context"
	"database/sql"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// Scheme describes new keys, acme_ and 44 characters, and the earlier ones,
// sk_live_ and 32 hex digits. New keys are stored under the first hasher.
func Scheme(pepper []byte) auth.Scheme {
	return auth.Scheme{
		Prefix:     "acme_",
		AlsoAccept: regexp.MustCompile(`^sk_live_[0-9a-f]{32}$`).MatchString,
		Hashers:    []auth.Hasher{auth.BLAKE2b(pepper), auth.SHA256(nil)},
	}
}

// A Table is the table of the earlier system:
//
//	CREATE TABLE tokens (
//		id          INTEGER PRIMARY KEY,
//		sha256      TEXT NOT NULL UNIQUE, -- of the whole key, 64 hex digits
//		last4       TEXT NOT NULL,        -- the last characters of the key, or ''
//		label       TEXT NOT NULL,
//		account     TEXT NOT NULL,
//		permissions TEXT NOT NULL,        -- "documents.read documents.create"
//		created_at  TIMESTAMP NOT NULL,
//		expires_at  TIMESTAMP,
//		revoked     BOOLEAN NOT NULL
//	)
type Table struct{ DB *sql.DB }

const columns = `id, sha256, last4, label, account, permissions, created_at, expires_at, revoked`

// Lookup implements [auth.Store].
func (t Table) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	row := t.DB.QueryRowContext(ctx, `SELECT `+columns+` FROM tokens WHERE sha256 = ?`, hash.String())
	r, err := scan(row)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, auth.ErrNotFound
	}
	return r, err // any other error is not "no such key": clients get 503, not 401
}

// scan reads one row. It returns any state: Record.Check decides.
func scan(row interface{ Scan(dest ...any) error }) (*auth.Record, error) {
	var (
		r                              auth.Record
		id, digits, last4, permissions string
		expires                        sql.NullTime
		revoked                        bool
	)
	err := row.Scan(&id, &digits, &last4, &r.Name, &r.Owner, &permissions, &r.CreatedAt, &expires, &revoked)
	if err != nil {
		return nil, err
	}
	if r.Hash, err = auth.ParseHash(digits); err != nil {
		return nil, err
	}
	r.ID = "sk_" + id
	if last4 != "" {
		r.Hint = "sk_live_…" + last4
	}
	for _, p := range strings.Fields(permissions) {
		r.Scopes = append(r.Scopes, auth.Scope(p))
	}
	r.ExpiresAt = expires.Time // zero for NULL: never
	if revoked {
		r.RevokedAt = r.CreatedAt // the table does not say when
	}
	return &r, nil
}

const importer = "import of tokens"

// Import copies the rows of the table to the store of the new keys. It may be
// repeated: it skips what is there already, and what it cannot read.
func Import(ctx context.Context, t Table, store keyring.Store) error {
	rows, err := t.DB.QueryContext(ctx, `SELECT `+columns+` FROM tokens ORDER BY id`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var unread []error
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			unread = append(unread, err)
			continue
		}
		r.Chain, r.Revision = r.ID, 1
		r.CreatedBy, r.UpdatedBy, r.UpdatedAt = importer, importer, r.CreatedAt
		if err := store.Insert(ctx, r); err != nil && !errors.Is(err, keyring.ErrExists) {
			return err
		}
	}
	return errors.Join(append(unread, rows.Err())...)
}

// Both looks in the store of the new keys first, and then in the table.
type Both struct {
	New auth.Store
	Old Table
}

// Lookup implements [auth.Store].
func (b Both) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	r, err := b.New.Lookup(ctx, hash)
	if errors.Is(err, auth.ErrNotFound) {
		return b.Old.Lookup(ctx, hash)
	}
	return r, err
}

// Replace gives the owner of an imported key a new one. Both work for two weeks.
func Replace(ctx context.Context, manager *keyring.Manager, id string) (auth.Key, error) {
	_, key, err := manager.Unconfined("migration").Rotate(ctx, id, 14*24*time.Hour)
	return key, err
}

// Remaining returns the imported keys that still work and have no successor.
func Remaining(ctx context.Context, manager *keyring.Manager) ([]auth.Record, error) {
	var list []auth.Record
	imported := keyring.Filter{CreatedBy: importer, States: keyring.Active}
	for r, err := range manager.Unconfined("migration").List(ctx, imported) {
		if err != nil {
			return nil, err
		}
		if r.RotatedTo == "" {
			list = append(list, r)
		}
	}
	return list, nil
}
