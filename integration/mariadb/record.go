package mariadb

import (
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// The columns of api_keys, as valuesOf and scanRecord have them.
const columns = `id, hash, hint, name, owner, scopes, metadata, created_at, created_by, updated_at, updated_by,
	revision, expires_at, disabled_at, revoked_at, last_used_at, rotated_from, rotated_to, chain`

var (
	placeholders = strings.Repeat("?, ", strings.Count(columns, ",")) + "?"
	assignments  = strings.ReplaceAll(columns, ",", " = ?,") + " = ?"
)

// valuesOf returns the values of the columns.
func valuesOf(r *auth.Record) ([]any, error) {
	id, ok := parseID(r.ID)
	if !ok {
		return nil, fmt.Errorf("mariadb: the ID %q is not a UUID in canonical form", r.ID)
	}
	var links [3][]byte // nil is NULL
	for i, id := range []string{r.RotatedFrom, r.RotatedTo, r.Chain} {
		if links[i], ok = parseID(id); !ok && id != "" {
			return nil, fmt.Errorf("mariadb: the ID %q is not a UUID in canonical form", id)
		}
	}
	scopes, err := json.Marshal(r.Scopes)
	if err != nil {
		return nil, err
	}
	metadata, err := json.Marshal(r.Metadata)
	if err != nil {
		return nil, err
	}
	return []any{
		id, r.Hash[:], r.Hint, r.Name, r.Owner, string(scopes), string(metadata), r.CreatedAt, r.CreatedBy,
		nullable(r.UpdatedAt), r.UpdatedBy, r.Revision, nullable(r.ExpiresAt), nullable(r.DisabledAt),
		nullable(r.RevokedAt), nullable(r.LastUsedAt), links[0], links[1], links[2],
	}, nil
}

// nullable returns NULL for the zero time.
func nullable(t time.Time) sql.NullTime { return sql.NullTime{Time: t, Valid: !t.IsZero()} }

// scanRecord reads a row. If only its content is wrong, the error is a
// *keyring.RecordError.
func scanRecord(row interface{ Scan(dest ...any) error }) (*auth.Record, error) {
	var (
		r                                             auth.Record
		id, hash, rotatedFrom, rotatedTo, chain       []byte
		scopes, metadata                              []byte
		updated, expires, disabled, revoked, lastUsed sql.NullTime
	)
	err := row.Scan(&id, &hash, &r.Hint, &r.Name, &r.Owner, &scopes, &metadata, &r.CreatedAt, &r.CreatedBy, &updated,
		&r.UpdatedBy, &r.Revision, &expires, &disabled, &revoked, &lastUsed, &rotatedFrom, &rotatedTo, &chain)
	if err != nil {
		return nil, err
	}
	r.ID, r.RotatedFrom, r.RotatedTo, r.Chain = formatID(id), formatID(rotatedFrom), formatID(rotatedTo), formatID(chain)
	copy(r.Hash[:], hash)
	r.UpdatedAt, r.ExpiresAt, r.DisabledAt = updated.Time, expires.Time, disabled.Time
	r.RevokedAt, r.LastUsedAt = revoked.Time, lastUsed.Time
	if err := json.Unmarshal(scopes, &r.Scopes); err != nil {
		return nil, unreadable(&r, "scopes", err)
	}
	if err := json.Unmarshal(metadata, &r.Metadata); err != nil {
		return nil, unreadable(&r, "metadata", err)
	}
	return &r, nil
}

func unreadable(r *auth.Record, column string, err error) error {
	return &keyring.RecordError{ID: r.ID, At: keyring.PositionOf(r), Err: fmt.Errorf("%s: %w", column, err)}
}

// parseID returns the bytes of a UUID in canonical form. There is no other key
// for any other text.
func parseID(id string) (b []byte, ok bool) {
	if len(id) != 36 {
		return nil, false
	}
	b, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(b) != 16 || formatID(b) != id {
		return nil, false
	}
	return b, true
}

// formatID returns a UUID in canonical form, or "" for NULL.
func formatID(b []byte) string {
	if len(b) != 16 {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
