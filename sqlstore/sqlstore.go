// Package sqlstore keeps API keys in PostgreSQL or SQLite. Its [Store] is a
// [keyring.Store] over database/sql. It reports changes, as an [auth.Watcher].
//
//	db, err := sql.Open("pgx", dsn) // import _ "github.com/jackc/pgx/v5/stdlib"
//	...
//	store, err := sqlstore.NewPostgres(db, nil)
//	...
//	err = store.Migrate(ctx)
//	...
//	a := auth.New(store, nil)
//	manager := keyring.NewManager(store, nil)
//
// # Schema
//
// A table, api_keys unless [Options] name another, has one row for each key. It
// holds hashes and no key. The columns are called like the fields of
// [auth.Record]: id, hash (32 bytes, unique), hint, name, owner, scopes,
// metadata, created_at, created_by, updated_at, updated_by, revision,
// expires_at, disabled_at, revoked_at, last_used_at, rotated_from, rotated_to,
// chain.
//
// [Migrations] holds the SQL for your migration tool. [Store.Migrate] runs it
// for those who use none.
//
// Times keep their microseconds. The rest is cut off. They come back in UTC,
// and must be in the years 1 to 9999. Scopes and metadata are JSON text. Nil
// and empty ones come back as nil. Text must be valid UTF-8. Except in scopes
// and metadata it must not have a NUL. Other records are errors, and nothing is
// written.
//
// # Writing with SQL
//
// Other programs and psql may change rows. A trigger then counts the revision
// up, sets updated_at to the current time, and updated_by to "sql:" and the
// database role. So a [keyring.Keyring] that read the row before does not
// overwrite the change. A writer who sets a higher revision sets these columns
// too.
//
// A new row needs an id, a hash and its id again as chain.
//
// CHECK constraints refuse most of what cannot be read. A row that cannot be
// read all the same fails its own lookup, so that its key is answered with 503.
// In a list it is a [*keyring.RecordError], together with the other records.
//
// # PostgreSQL
//
// PostgreSQL 13 and later, with the driver of github.com/jackc/pgx/v5/stdlib.
// Connect to the primary server: a replica may be late, so it shows a revoked
// key as valid, and a cache that is filled from it keeps the key for its whole
// time to live. With PgBouncer in transaction mode, set Options.WatchConfig to
// connect without it.
//
// # SQLite
//
// SQLite 3.37 and later, with the driver of modernc.org/sqlite, which needs no
// cgo. [OpenSQLite] opens a file with the settings that a server needs.
// [NewSQLite] refuses a database that lacks them. The Stores of one process
// that write to the same file take turns.
//
// # Watching
//
// On PostgreSQL, triggers announce each change except a new last use, and
// [Store.Watch] listens. A revocation arrives within milliseconds after its
// commit, also one that was made with psql. A Store reports its own changes
// before the call that made them returns.
//
// A lost connection is reported at once, as [auth.WatchLost]. Watch connects
// again after 50 milliseconds to 5 seconds. A heartbeat finds a connection that
// is silent without being closed. It is reported after at most
// Options.HeartbeatInterval plus Options.HeartbeatTimeout, 10 seconds by
// default. In that time a cache may still accept a key that was revoked.
//
// A TRUNCATE is reported as [auth.WatchLost] and [auth.WatchStarted]. The
// heartbeat also finds DROP TABLE and disabled triggers, unless they are
// enabled again before it.
//
// The heartbeat is sent through the *sql.DB and comes back on the connection of
// Watch. So it also finds out that the two lead to different servers, as after
// a failover. It needs a connection of the pool for a moment. If queries of the
// application may hold all of them for longer than Options.HeartbeatTimeout,
// give the Store a *sql.DB of its own. Otherwise a cache answers nothing from
// memory during that time.
//
// Watch takes the password from a connection of the pool. If passwords expire,
// as tokens of a cloud do, limit the life of connections by SetConnMaxLifetime.
//
// On SQLite, only the changes made through the same Store are reported. A cache
// sees those of another process or another Store when its copies expire. If
// there are any, give it a short time to live.
//
// # Security
//
// The announcements hold hashes. Everybody who may connect to the database can
// listen to them. A hash alone is of no use, as in the hash column: it is not a
// key. Everybody who may connect can also send announcements, which make a
// cache discard copies and do nothing else. Let only those connect who need to.
// If others may create schemas, name the schema in Options.Table.
package sqlstore

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"
)

// DefaultTable is the name of the table if [Options] name none.
const DefaultTable = "api_keys"

// Options configures a [Store]. The zero Options are valid.
type Options struct {
	// Table is the name of the table: a letter or underscore, then up to 47
	// letters, digits and underscores. On PostgreSQL a schema and a dot may
	// precede it. The name is quoted, so on PostgreSQL the letter case matters.
	// If empty, DefaultTable.
	Table string

	// Logger gets the state of Watch: when it starts, and why it was lost. If
	// nil, slog.Default().
	Logger *slog.Logger

	// WatchConfig says how Watch connects to PostgreSQL. It must come from
	// [pgx.ParseConfig]. If nil, Watch connects like the *sql.DB, except for
	// what its AfterConnect hook sets. Set it if the *sql.DB connects through a
	// pooler that shares connections among clients, since LISTEN does not work
	// there, and if its driver is wrapped.
	WatchConfig *pgx.ConnConfig

	// HeartbeatInterval is the time between two checks of the connection of
	// Watch. If zero, 5 seconds.
	HeartbeatInterval time.Duration

	// HeartbeatTimeout is the time that such a check may take, and an attempt
	// to connect. If zero, 5 seconds.
	HeartbeatTimeout time.Duration
}

// A Store keeps keys in a table. It is a [keyring.Store] and an [auth.Watcher],
// and is safe for concurrent use. It has nothing to close: the *sql.DB is the
// caller's.
type Store struct {
	db       *sql.DB
	dialect  *dialect
	table    table
	queries  queries
	turn     turn // of writers, on SQLite
	logger   *slog.Logger
	config   *pgx.ConnConfig
	interval time.Duration
	timeout  time.Duration
	watchers watchers
}

var (
	_ keyring.Store = (*Store)(nil)
	_ auth.Watcher  = (*Store)(nil)
)

// newStore checks and completes the options.
func newStore(db *sql.DB, d *dialect, opts *Options) (*Store, error) {
	if db == nil {
		return nil, errors.New("sqlstore: the *sql.DB is nil")
	}
	// Only what is certainly wrong: a driver may be wrapped.
	switch db.Driver().(type) {
	case *stdlib.Driver:
		if d != postgres {
			return nil, errors.New("sqlstore: the *sql.DB is for PostgreSQL: use NewPostgres")
		}
	case *sqlite.Driver:
		if d == postgres {
			return nil, errors.New("sqlstore: the *sql.DB is for SQLite: use NewSQLite")
		}
	}
	if opts == nil {
		opts = new(Options)
	}
	t, err := parseTable(cmp.Or(opts.Table, DefaultTable), d)
	if err != nil {
		return nil, err
	}
	if opts.HeartbeatInterval < 0 {
		return nil, fmt.Errorf("sqlstore: HeartbeatInterval %v is negative", opts.HeartbeatInterval)
	}
	if opts.HeartbeatTimeout < 0 {
		return nil, fmt.Errorf("sqlstore: HeartbeatTimeout %v is negative", opts.HeartbeatTimeout)
	}
	s := &Store{
		db:       db,
		dialect:  d,
		table:    t,
		queries:  d.queries(t),
		logger:   opts.Logger,
		interval: cmp.Or(opts.HeartbeatInterval, 5*time.Second),
		timeout:  cmp.Or(opts.HeartbeatTimeout, 5*time.Second),
	}
	if opts.WatchConfig != nil {
		if opts.WatchConfig.DialFunc == nil { // pgx would panic when it connects
			return nil, errors.New("sqlstore: WatchConfig was not created by pgx.ParseConfig")
		}
		s.config = opts.WatchConfig.Copy()
	}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	return s, nil
}

// A table is a name that was checked, so that it can be quoted. Names derived
// from it fit in the 63 bytes that PostgreSQL allows.
type table struct{ schema, name string }

var (
	tablePattern  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,47}$`)
	schemaPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)
)

func parseTable(s string, d *dialect) (table, error) {
	schema, name, qualified := strings.Cut(s, ".")
	if !qualified {
		schema, name = "", s
	}
	if qualified && !(d.schemas && schemaPattern.MatchString(schema)) || !tablePattern.MatchString(name) {
		return table{}, fmt.Errorf("sqlstore: %q is not the name of a table", s)
	}
	return table{schema, name}, nil
}

// quoted returns the name of the table with a suffix, as SQL needs it.
func (t table) quoted(suffix string) string {
	if t.schema == "" {
		return `"` + t.name + suffix + `"`
	}
	return `"` + t.schema + `"."` + t.name + suffix + `"`
}

// channel is what the triggers notify. A table with the same name in another
// schema notifies the same channel. That costs a cache a few lookups and does
// no harm.
func (t table) channel() string { return t.name + "_changed" }
