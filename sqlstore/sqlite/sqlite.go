package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore"
	"github.com/insigner/auth/sqlstore/internal/records"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// DefaultTable is the name of the table if [Options] name none.
const DefaultTable = records.DefaultTable

// Options configures a [Store]. The zero Options are valid.
type Options struct {
	// Table is the name of the table: a letter or underscore, then up to 47
	// letters, digits and underscores. If empty, DefaultTable.
	Table string

	// Logger gets the state of Watch: when it starts, and why it was lost. If
	// nil, slog.Default().
	Logger *slog.Logger
}

// A Store keeps keys in a table. It is a [keyring.Store] and an [auth.Watcher],
// and is safe for concurrent use. [New] makes one.
type Store struct {
	keys *records.Store
	path string // of the file
	file os.FileInfo
}

var (
	_ keyring.Store = (*Store)(nil)
	_ auth.Watcher  = (*Store)(nil)
)

var dialect = &records.Dialect{
	Package:      "sqlstore/sqlite",
	Microseconds: true,
	Numbered:     "?", // "$1" would be a parameter with a name

	By:     "%s",
	Same:   "IS",
	Delete: "DELETE FROM {table} WHERE id = $1 AND hash = $2 AND $3 IS NOT NULL",
	Begin:  "INSERT OR REPLACE INTO {table_actor} (one, made_by) VALUES (1, $1)",
	End:    "DELETE FROM {table_actor}",

	// WHERE keeps the parser from taking ON for that of a join.
	InsertAll: `INSERT INTO {table} ({columns}) SELECT {values} FROM json_each($1) WHERE true
		ON CONFLICT DO NOTHING RETURNING id, hash`,
	Member:     "value ->> '{column}'",
	HashMember: "unhex(value ->> 'hash')",
	Actor:      "INSERT OR REPLACE INTO {table_actor} (one, made_by) VALUES (1, $1)",
	Spool:      true,

	Touch: `UPDATE {table} SET last_used_at = used.at
		FROM (SELECT value ->> 0 AS id, value ->> 1 AS at FROM json_each($1)) AS used
		WHERE {table}.id = used.id AND (last_used_at IS NULL OR last_used_at < used.at - $2)`,
	TouchArg: func(ids []string, micros []int64) (string, error) {
		pairs := make([][2]any, len(ids))
		for i := range ids {
			pairs[i] = [2]any{ids[i], micros[i]}
		}
		text, err := json.Marshal(pairs)
		return string(text), err
	},

	// lower() knows only ASCII. A text with other letters always passes, since
	// only Go knows their lower case.
	Contains: `(instr(lower(name || char(10) || owner || char(10) || id || char(10) || hint), $1) > 0
		OR length(name || owner || id || replace(hint, '…', '')) <>
			length(CAST(name || owner || id || replace(hint, '…', '') AS BLOB)))`,

	Taken: func(err error) bool {
		var e *sqlite.Error
		return errors.As(err, &e) &&
			(e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
	},
	Again: func(error) bool { return false }, // a statement waits for its turn

	Migrations: Migrations,
	Goose:      goose.DialectSQLite3,
	Exists:     "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type IN ('table', 'view') AND name = $1)",
	Differs:    differs,
}

// New returns a Store in an SQLite database. The driver of db must be that of
// modernc.org/sqlite. If opts is nil, the defaults are used.
//
// It is an error if a connection lacks what a server needs: journal_mode WAL, a
// busy_timeout above 0, foreign_keys on, and locking_mode NORMAL. Set them in
// the data source name, so that each connection of the pool has them, or use
// [Open].
//
// A database in memory has no write-ahead log, so it is an error too: each
// connection of a pool would see another database. Use a keyring.MemoryStore,
// or a file in a temporary directory.
func New(db *sql.DB, opts *Options) (*Store, error) {
	s, err := newStore(db, opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dialect.Package, err)
	}
	return s, nil
}

func newStore(db *sql.DB, opts *Options) (*Store, error) {
	if db == nil {
		return nil, errors.New("the *sql.DB is nil")
	}
	if opts == nil {
		opts = new(Options)
	}
	keys, err := records.New(db, dialect, opts.Table, opts.Logger)
	if err != nil {
		return nil, err
	}
	s := &Store{keys: keys}
	if s.path, err = check(db); err != nil {
		return nil, err
	}
	if s.file, err = os.Stat(s.path); err != nil {
		return nil, err
	}
	keys.Turn = turnOf(s.path).wait
	return s, nil
}

// check returns the path of the file, or what is wrong with db.
func check(db *sql.DB) (path string, err error) {
	if err := checkDriver(db); err != nil {
		return "", err
	}
	if err := checkPragmas(db); err != nil {
		return "", err
	}
	err = db.QueryRow("SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&path)
	return path, err
}

// checkDriver returns an error if the driver is certainly another one. It may
// be wrapped.
func checkDriver(db *sql.DB) error {
	if _, ok := db.Driver().(*sqlite.Driver); ok {
		return nil
	}
	name := fmt.Sprintf("%T", db.Driver())
	for _, other := range []string{"*stdlib.Driver", "*sqlite3.SQLiteDriver", "*pq.Driver", "*mysql.MySQLDriver"} {
		if name == other {
			return fmt.Errorf("the driver is %s: open the *sql.DB with Open, or with that of modernc.org/sqlite", name)
		}
	}
	return nil
}

// Close ends each call of Watch. The *sql.DB stays open: it is the caller's.
// Close returns nil. It must not be called by notify, since it waits for that.
func (s *Store) Close() error {
	s.keys.Watchers.Close()
	return nil
}

// Lookup implements [auth.Store]. A row that cannot be read is a
// [*keyring.RecordError].
func (s *Store) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	return s.keys.Lookup(ctx, hash)
}

// Get implements [keyring.Store]. A row that cannot be read is a
// [*keyring.RecordError].
func (s *Store) Get(ctx context.Context, id string) (*auth.Record, error) { return s.keys.Get(ctx, id) }

// Insert implements [keyring.Store].
func (s *Store) Insert(ctx context.Context, r *auth.Record) error { return s.keys.Insert(ctx, r) }

// InsertAll inserts all records as they are, or none, in one transaction. It
// returns how many they are. If opts is nil, the defaults are used. The events
// of the records are by opts.By.
//
// It reads records once, and holds 500 of them or about a megabyte at a time. An
// error that records yields ends it, and is matched by the error of InsertAll.
//
// Records whose ID or hash is taken, by the table or by an earlier record, and
// those that cannot be stored do not end it. The error then is or wraps a
// [*sqlstore.RefusedError], which says which they are. If the database does not
// confirm the commit, the error matches [sqlstore.ErrOutcomeUnknown].
//
// Others can read all the time. They cannot write while the transaction lasts,
// and a writer of another process fails after its busy_timeout. So InsertAll
// reads all records before the transaction begins. If they are more than 500, it
// keeps them in a file in [os.TempDir], which only its owner can read and which
// holds no key. A record that cannot be stored ends it before the transaction.
//
// If there are more than a thousand records, caches discard all copies. If ctx
// is done, the transaction is rolled back.
func (s *Store) InsertAll(
	ctx context.Context, records iter.Seq2[*auth.Record, error], opts *sqlstore.InsertAllOptions,
) (int64, error) {
	return s.keys.InsertAll(ctx, records, opts)
}

// List implements [keyring.Store]. It selects by everything in q. By q.Text it
// may select more: it returns each record that has letters outside of ASCII.
func (s *Store) List(ctx context.Context, q keyring.Query) ([]*auth.Record, error) {
	return s.keys.List(ctx, q)
}

// Update implements [keyring.Store], in one transaction.
//
// If the database reports success but changed no row, Update returns an error
// that says so. The reason is a trigger.
func (s *Store) Update(ctx context.Context, r, successor *auth.Record) error {
	return s.keys.Update(ctx, r, successor)
}

// Delete implements [keyring.Store].
func (s *Store) Delete(ctx context.Context, id, by string) error { return s.keys.Delete(ctx, id, by) }

// Touch implements [keyring.Store], in one statement.
func (s *Store) Touch(ctx context.Context, lastUsed map[string]time.Time) error {
	return s.keys.Touch(ctx, lastUsed)
}

// TouchOlder is Touch, but skips a record whose LastUsedAt is less than age
// before the given time. A [keyring.LastUsedRecorder] calls it, so that a key
// costs one write per interval, however many processes use it.
func (s *Store) TouchOlder(ctx context.Context, lastUsed map[string]time.Time, age time.Duration) error {
	return s.keys.TouchOlder(ctx, lastUsed, age)
}

// Events implements [keyring.Store]. A record of an event that cannot be read is
// nil.
func (s *Store) Events(ctx context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
	return s.keys.Events(ctx, q)
}

// Migrations holds the SQL for your migration tool: 00001_api_keys.up.sql and,
// in later releases, further files. goose, golang-migrate, sql-migrate, dbmate
// and the sqlite3 shell each run them. The table is api_keys. For another name,
// replace it in the files: sed s/api_keys/my_keys/g.
//
//go:embed *_api_keys.up.sql
var Migrations embed.FS

// Migrate creates the tables if they do not exist, and brings them up to date.
// It adopts tables that a migration tool made from [Migrations]. If there is
// another table with the name, the error says how it differs.
//
// Several processes may call it at the same time: one migrates, and the others
// wait for it until ctx is done. A table with the suffix _goose holds what was
// done.
func (s *Store) Migrate(ctx context.Context) error { return s.keys.Migrate(ctx) }

// differs returns which parts of the tables are missing, or are others than
// those of Migrations. Parts that somebody added do not count.
func differs(ctx context.Context, tx *sql.Tx, t records.Table, files []string) ([]string, error) {
	model, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return nil, err
	}
	defer model.Close()
	model.SetMaxOpenConns(1) // each connection would have a database of its own
	for _, text := range files {
		if _, err := model.ExecContext(ctx, t.Render(text)); err != nil {
			return nil, err
		}
	}
	want, err := partsOf(ctx, model, t)
	if err != nil {
		return nil, err
	}
	have, err := partsOf(ctx, tx, t)
	if err != nil {
		return nil, err
	}
	for i, part := range have {
		for _, w := range want {
			if extends(part, w) {
				have[i] = w
			}
		}
	}
	return records.Missing(want, have), nil
}

// extends reports whether the SQL of a table is that of want, with more at one
// place. ALTER TABLE adds each column there.
func extends(have, want string) bool {
	if !strings.HasPrefix(want, "table ") || len(have) < len(want) {
		return false
	}
	prefix := 0
	for prefix < len(want) && have[prefix] == want[prefix] {
		prefix++
	}
	return strings.HasSuffix(have, want[prefix:])
}

// partsQuery returns a line for each column of the tables of ?1, for each index
// and for each trigger.
const partsQuery = `
	WITH tables AS (
		SELECT name FROM sqlite_master WHERE type = 'table' AND name IN (?1, ?1 || '_events', ?1 || '_actor'))
	SELECT 'column ' || tables.name || '.' || c.name || ' ' || c.type || CASE c."notnull" WHEN 1 THEN ' NOT NULL' ELSE '' END
	FROM tables JOIN pragma_table_info(tables.name) AS c
	UNION ALL
	SELECT type || ' ' || CASE type WHEN 'table' THEN name || ': ' ELSE '' END || sql FROM sqlite_master
	WHERE type IN ('table', 'index', 'trigger') AND tbl_name IN (SELECT name FROM tables) AND sql IS NOT NULL`

func partsOf(ctx context.Context, db interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}, t records.Table) ([]string, error) {
	rows, err := db.QueryContext(ctx, partsQuery, t.Name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var parts []string
	for rows.Next() {
		var part string
		if err := rows.Scan(&part); err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	slices.Sort(parts)
	return parts, rows.Err()
}
