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
	"sync"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var sqliteDialect = &dialect{
	name:         "sqlite",
	microseconds: true,

	touch: `UPDATE {table} SET last_used_at = used.at
		FROM (SELECT value ->> 0 AS id, value ->> 1 AS at FROM json_each($1)) AS used
		WHERE {table}.id = used.id AND (last_used_at IS NULL OR last_used_at < used.at)`,

	// lower() knows only ASCII. A text with other letters always passes, since
	// only Go knows their lower case.
	contains: `(instr(lower(name || char(10) || owner || char(10) || id || char(10) || hint), $1) > 0
		OR length(name || owner || id || replace(hint, '…', '')) <>
			length(CAST(name || owner || id || replace(hint, '…', '') AS BLOB)))`,

	taken: func(err error) bool {
		var e *sqlite.Error
		return errors.As(err, &e) &&
			(e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
	},
	tooLate: func(error) bool { return false }, // a statement waits for its turn
}

// OpenSQLite opens the SQLite database in the file path and creates it if it
// does not exist. Each connection has what a server needs:
//   - a write-ahead log, so that readers and the writer do not wait for each
//     other,
//   - 5 seconds of waiting for another writer,
//   - foreign keys enforced,
//   - transactions that lock when they begin,
//   - each commit synced to the disk, so that a revocation survives a power
//     cut.
//
// Only its owner can read a file that OpenSQLite creates (mode 0600). The
// caller closes the database.
//
// It is an error if the path is empty or ":memory:".
func OpenSQLite(path string) (*sql.DB, error) {
	if path == "" {
		return nil, errors.New("sqlstore: the path of the database is empty")
	}
	if path == ":memory:" {
		return nil, errors.New("sqlstore: a database in memory is lost at the end; use a keyring.MemoryStore")
	}
	// The files that SQLite adds get the mode of this one.
	f, err := os.OpenFile(path, os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	f.Close()
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
	// To open a connection costs more than a lookup, so keep them.
	n := max(4, runtime.GOMAXPROCS(0))
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
}

// NewSQLite returns a Store in an SQLite database. The driver of db must be
// that of modernc.org/sqlite. If opts is nil, the defaults are used.
//
// It is an error if a connection lacks what a server needs: journal_mode WAL, a
// busy_timeout above 0, and foreign_keys on. Set them in the data source name,
// so that each connection of the pool has them, or use [OpenSQLite].
//
// A database in memory has no write-ahead log, so it is an error too: each
// connection of a pool would see another database. Use a keyring.MemoryStore,
// or a file in a temporary directory.
func NewSQLite(db *sql.DB, opts *Options) (*Store, error) {
	s, err := newStore(db, sqliteDialect, opts)
	if err != nil {
		return nil, err
	}
	if err := checkPragmas(db); err != nil {
		return nil, err
	}
	if s.turn, err = writerTurn(db); err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	return s, nil
}

// checkPragmas looks at two connections of a pool at once: a PRAGMA that was
// executed on one is missing on the other.
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
					"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1) after its name",
					pragma.name, value)
			}
		}
	}
	return nil
}

// A turn lets one writer at a time pass, in the order in which they came. With
// a nil turn nobody waits.
type turn chan struct{}

// turns holds the turn of each SQLite file that this process has opened.
//
// SQLite itself lets a writer try again and again for the busy_timeout. That is
// not fair, so under load a writer fails with SQLITE_BUSY. The writers of this
// process wait for each other here, also those of several pools.
var turns sync.Map // of turn, by path

func writerTurn(db *sql.DB) (turn, error) {
	var path string
	err := db.QueryRow("SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&path)
	if err != nil {
		return nil, err
	}
	t, _ := turns.LoadOrStore(path, make(turn, 1))
	return t.(turn), nil
}

// wait waits for the turn and returns how to end it. Its error is that of ctx.
func (t turn) wait(ctx context.Context) (end func(), err error) {
	if t == nil {
		return func() {}, nil
	}
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
