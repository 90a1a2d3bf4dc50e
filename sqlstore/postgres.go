package sqlstore

import (
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

var postgres = &dialect{
	name:    "postgres",
	schemas: true,
	lock:    "SELECT hash, revoked_at, replaced_by, expires_at FROM {table} WHERE id = $1 FOR UPDATE",

	// The rows are locked in the order of their IDs, so that of two that touch the same keys one waits for the other
	// and neither for both. A row that was locked is looked at again, so the later time wins.
	touch: `WITH used AS (SELECT * FROM unnest($1::text[], $2::timestamptz[]) AS used (id, at)),
		locked AS (
			SELECT k.id, used.at FROM {table} k JOIN used ON used.id = k.id
			WHERE k.last_used_at IS NULL OR k.last_used_at < used.at
			ORDER BY k.id FOR NO KEY UPDATE OF k)
		UPDATE {table} k SET last_used_at = locked.at FROM locked
		WHERE k.id = locked.id AND (k.last_used_at IS NULL OR k.last_used_at < locked.at)`,

	taken: func(err error) bool {
		var e *pgconn.PgError
		return errors.As(err, &e) && e.Code == "23505" // unique_violation
	},
}

// NewPostgres returns a Store in a PostgreSQL database, whose driver must be that of github.com/jackc/pgx/v5/stdlib.
// Nil opts: the defaults; otherwise opts is copied. It does not connect. The error says what is wrong with opts.
func NewPostgres(db *sql.DB, opts *Options) (*Store, error) { return newStore(db, postgres, opts) }
