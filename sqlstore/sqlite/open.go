package sqlite

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
	"time"

	_ "modernc.org/sqlite" // the driver of Open
)

// Open opens the SQLite database in the file path and creates it if it
// does not exist. Each connection has what a server needs:
//   - a write-ahead log, so that readers and the writer do not wait for each
//     other,
//   - 5 seconds of waiting for a writer of another process,
//   - foreign keys enforced,
//   - transactions that lock when they begin,
//   - each commit synced to the disk, so that a revocation survives a power
//     cut.
//
// Only its owner can read a file that Open creates (mode 0600). The
// caller closes the database.
//
// It is an error if the path is empty or ":memory:".
func Open(path string) (*sql.DB, error) {
	if path == "" {
		return nil, errors.New("sqlstore/sqlite: the path of the database is empty")
	}
	if path == ":memory:" {
		return nil, errors.New("sqlstore/sqlite: a database in memory is lost at the end; use a keyring.MemoryStore")
	}
	// The files that SQLite adds get the mode of this one.
	f, err := os.OpenFile(path, os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("sqlstore/sqlite: %w", err)
	}
	f.Close()
	db, err := sql.Open("sqlite", dataSource(path, url.Values{
		"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "foreign_keys(1)", "synchronous(FULL)"},
		"_txlock": {"immediate"},
	}))
	if err != nil {
		return nil, fmt.Errorf("sqlstore/sqlite: %w", err)
	}
	// To open a connection costs more than a lookup, so keep them.
	n := max(4, runtime.GOMAXPROCS(0))
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
}

// dataSource returns the data source name of the file path.
func dataSource(path string, settings url.Values) string {
	path = filepath.ToSlash(filepath.Clean(path)) // two slashes at the start would be a host in a URL
	if filepath.VolumeName(path) != "" {
		path = "/" + path
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + settings.Encode()
}

// checkTimeout is how long New waits for connections of a pool that is in use.
const checkTimeout = 10 * time.Second

// checkPragmas looks at two connections of a pool at once: a PRAGMA that was
// executed on one is missing on the other.
func checkPragmas(db *sql.DB) error {
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	n := 2
	if db.Stats().MaxOpenConnections == 1 {
		n = 1
	}
	for range n {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		for _, pragma := range [...]struct {
			name string
			ok   func(value string) bool
		}{
			{"journal_mode", func(v string) bool { return strings.EqualFold(v, "wal") }},
			{"busy_timeout", func(v string) bool { return v != "0" }},
			{"foreign_keys", func(v string) bool { return v == "1" }},
			{"locking_mode", func(v string) bool { return strings.EqualFold(v, "normal") }}, // else no other sees the file
		} {
			var value string
			if err := conn.QueryRowContext(ctx, "PRAGMA "+pragma.name).Scan(&value); err != nil {
				return fmt.Errorf("PRAGMA %s: %w", pragma.name, err)
			}
			if !pragma.ok(value) {
				return fmt.Errorf("a connection has %s %s: open the database with Open, or with "+
					"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1) after its name",
					pragma.name, value)
			}
		}
	}
	return nil
}
