package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var sqliteDialect = &dialect{
	name:         "sqlite",
	microseconds: true,

	// A transaction that begins with a write holds the only write lock from there on, and cannot fail half-way
	// because another wrote after it read, however it was begun.
	lock: "UPDATE {table} SET id = id WHERE id = $1 RETURNING hash, revoked_at, replaced_by, expires_at",

	touch: `UPDATE {table} SET last_used_at = used.at
		FROM (SELECT value ->> 0 AS id, value ->> 1 AS at FROM json_each($1)) AS used
		WHERE {table}.id = used.id AND (last_used_at IS NULL OR last_used_at < used.at)`,

	taken: func(err error) bool {
		var e *sqlite.Error
		return errors.As(err, &e) &&
			(e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
	},
	tooLate: func(error) bool { return false }, // a single statement waits for its turn
}

// OpenSQLite opens the SQLite database in the file path, and makes it if there is none, with what a server needs on
// each of its connections: a write-ahead log, so that readers and the writer do not wait for each other; 5 seconds of
// patience with another writer; foreign keys enforced; transactions that lock as they begin; and each commit synced to
// the disk, so that a revocation outlives a power cut. A file that it makes is for its owner alone (mode 0600). The
// caller closes the database.
//
// The path is that of a file: an empty one and ":memory:" are errors.
func OpenSQLite(path string) (*sql.DB, error) {
	if path == "" {
		return nil, errors.New("sqlstore: the path of the database is empty")
	}
	if path == ":memory:" {
		return nil, errors.New("sqlstore: a database in memory does not last; use an auth.MemoryStore")
	}
	// Who the keys are for, and their hashes, are nobody else's business. What SQLite puts beside it takes after it.
	if f, err := os.OpenFile(path, os.O_CREATE, 0o600); err == nil {
		f.Close()
	} else {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	path = filepath.ToSlash(filepath.Clean(path)) // two slashes at the start would be a host in a URL
	if filepath.VolumeName(path) != "" {
		path = "/" + path
	}
	settings := url.Values{
		"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "foreign_keys(1)", "synchronous(FULL)"},
		"_txlock": {"immediate"},
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+settings.Encode())
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	// To open a connection costs more than a look-up: keep them.
	n := max(4, runtime.GOMAXPROCS(0))
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
}

// NewSQLite returns a Store in an SQLite database, whose driver must be that of modernc.org/sqlite. Nil opts: the
// defaults; otherwise opts is copied.
//
// It returns an error if a connection lacks what a server needs: journal_mode WAL, a busy_timeout above 0 and
// foreign_keys on. Set them in the data source name, so that each connection of the pool has them, or use
// [OpenSQLite]. A database in memory has no write-ahead log and is refused: of a pool each connection would see another
// one. Use an [auth.MemoryStore], or a file in a temporary directory.
func NewSQLite(db *sql.DB, opts *Options) (*Store, error) {
	s, err := newStore(db, sqliteDialect, opts)
	if err != nil {
		return nil, err
	}
	if err := checkPragmas(db); err != nil {
		return nil, err
	}
	return s, nil
}

// checkPragmas looks at two connections of a pool at once: a PRAGMA that was executed on one is missing on the other.
func checkPragmas(db *sql.DB) error {
	ctx := context.Background()
	n := 2
	if db.Stats().MaxOpenConnections == 1 {
		n = 1
	}
	for range n {
		conn, err := db.Conn(ctx)
		if err != nil {
			return fmt.Errorf("sqlstore: %w", err)
		}
		defer conn.Close()
		for _, pragma := range [...]struct {
			name string
			ok   func(value string) bool
		}{
			{"journal_mode", func(v string) bool { return strings.EqualFold(v, "wal") }},
			{"busy_timeout", func(v string) bool { return v != "0" }},
			{"foreign_keys", func(v string) bool { return v == "1" }},
		} {
			var value string
			if err := conn.QueryRowContext(ctx, "PRAGMA "+pragma.name).Scan(&value); err != nil {
				return fmt.Errorf("sqlstore: PRAGMA %s: %w", pragma.name, err)
			}
			if !pragma.ok(value) {
				return fmt.Errorf("sqlstore: a connection has %s %s: open the database with sqlstore.OpenSQLite, or with "+
					"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1) behind its name",
					pragma.name, value)
			}
		}
	}
	return nil
}
