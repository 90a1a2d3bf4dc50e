package sqlstore

import (
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

var postgres = &dialect{
	name:    "postgres",
	schemas: true,

	// A client that dies without a sign would leave the row locked, so that nobody could revoke the key, for as long as
	// the server takes to notice, two hours by default. So the transaction ends when it is idle for too long.
	lock: `SELECT hash, revoked_at, replaced_by, expires_at
		FROM {table} k, set_config('idle_in_transaction_session_timeout', '5s', true)
		WHERE id = $1 FOR UPDATE OF k`,

	// The rows are locked in the order of their IDs, so that of two that touch the same keys one waits for the other
	// and neither for both. A row that was locked is looked at again, so the later time wins.
	touch: `WITH used AS (SELECT * FROM unnest($1::text[], $2::timestamptz[]) AS used (id, at)),
		locked AS (
			SELECT k.id, used.at FROM {table} k JOIN used ON used.id = k.id
			WHERE k.last_used_at IS NULL OR k.last_used_at < used.at
			ORDER BY k.id FOR NO KEY UPDATE OF k)
		UPDATE {table} k SET last_used_at = locked.at FROM locked
		WHERE k.id = locked.id AND (k.last_used_at IS NULL OR k.last_used_at < locked.at)`,

	taken:   func(err error) bool { return hasCode(err, "23505") }, // unique_violation
	tooLate: func(err error) bool { return hasCode(err, "40001") }, // serialization_failure
}

func hasCode(err error, code string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == code
}

// NewPostgres returns a Store in a PostgreSQL database, whose driver must be that of github.com/jackc/pgx/v5/stdlib.
// Nil opts: the defaults; otherwise opts is copied. It does not connect. The error says what is wrong with opts.
func NewPostgres(db *sql.DB, opts *Options) (*Store, error) { return newStore(db, postgres, opts) }
