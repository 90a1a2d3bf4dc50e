package sqlstore

import (
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

var postgres = &dialect{
	name:    "postgres",
	schemas: true,

	// The rows are locked in the order of their IDs. So of two calls that touch
	// the same keys one waits for the other, and there is no deadlock. A row
	// that was locked is checked again, so the later time wins.
	touch: `WITH used AS (SELECT * FROM unnest($1::text[], $2::timestamptz[]) AS used (id, at)),
		locked AS (
			SELECT k.id, used.at FROM {table} k JOIN used ON used.id = k.id
			WHERE k.last_used_at IS NULL OR k.last_used_at < used.at
			ORDER BY k.id FOR NO KEY UPDATE OF k)
		UPDATE {table} k SET last_used_at = locked.at FROM locked
		WHERE k.id = locked.id AND (k.last_used_at IS NULL OR k.last_used_at < locked.at)`,

	// Under COLLATE "C" lower() knows only ASCII, in every database. A text
	// with other letters always passes, since only Go knows their lower case.
	contains: `(strpos(lower((name || chr(10) || owner || chr(10) || id || chr(10) || hint) COLLATE "C"), $1) > 0
		OR octet_length(name || owner || id || replace(hint, '…', '')) <>
			char_length(name || owner || id || replace(hint, '…', '')))`,

	// A client that dies without closing its connection would keep the row
	// locked until the server notices, after two hours by default. Until then
	// nobody could revoke the key.
	beginRotation: "SET LOCAL idle_in_transaction_session_timeout = '5s'",

	taken:   func(err error) bool { return hasCode(err, "23505") }, // unique_violation
	tooLate: func(err error) bool { return hasCode(err, "40001") }, // serialization_failure
}

func hasCode(err error, code string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == code
}

// NewPostgres returns a Store in a PostgreSQL database. The driver of db must
// be that of github.com/jackc/pgx/v5/stdlib. If opts is nil, the defaults are
// used. NewPostgres does not connect. The error says what is wrong with the
// options.
func NewPostgres(db *sql.DB, opts *Options) (*Store, error) { return newStore(db, postgres, opts) }
