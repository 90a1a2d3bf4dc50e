// Package sqlstore keeps API keys in PostgreSQL or SQLite: an [auth.KeyStore] over database/sql that also reports
// changes, as an [auth.Watcher].
//
//	db, err := sql.Open("pgx", dsn) // import _ "github.com/jackc/pgx/v5/stdlib"
//	...
//	store, err := sqlstore.NewPostgres(db, nil)
//	...
//	err = store.Migrate(ctx)
//	...
//	keyring := auth.NewKeyring(store, nil)
//	a := auth.New(store, nil)
//
// # Schema
//
// One table, api_keys unless [Options] say otherwise, has a row for each key: id, hash (32 bytes, unique), hint, name,
// owner, scopes, metadata, created_at, expires_at, revoked_at, last_used_at, created_by, replaces, replaced_by. No key
// is in it, only hashes. [Migrations] holds the SQL, for the tool that you use; [Store.Migrate] runs it for those who
// use none.
//
// Times keep their microseconds, what is finer is cut off; they come back in UTC. The years 1 to 294246 fit. Scopes
// and metadata are JSON text and survive whatever they hold, a NUL too, and nil stays apart from empty. Text must be
// valid UTF-8, and without NUL in the other columns. What cannot be kept as it is is refused with an error, and
// nothing is written. A row that somebody edited into something unreadable is an error, so that its key is answered
// with 503, never with more than it may do.
//
// # PostgreSQL
//
// Version 13 and newer, through the driver of pgx. Let connections go to the primary: a replica that lags shows a
// revoked key as valid, and a cache that is filled from it keeps that for as long as it keeps anything. Behind
// PgBouncer in transaction mode give the watcher a way around it, see Options.WatchConfig.
//
// A client that dies in the middle of a rotation, without its connection being closed, keeps that one key from being
// changed for at most 5 seconds; everything else is a single statement, which leaves nothing locked.
//
// # SQLite
//
// Version 3.37 and newer, through the driver of modernc.org/sqlite, which needs no cgo. [OpenSQLite] opens a file with
// the settings that a server needs; [NewSQLite] refuses a database that lacks them.
//
// # Watching
//
// On PostgreSQL triggers announce each change that decides a request, whoever makes it, and [Store.Watch] listens: a
// revocation arrives within milliseconds of its commit, also one made with psql. Changes made through a Store are
// reported by that Store before the call that made them returns. When the connection is lost, that is reported at
// once, and the watcher reconnects after 50 milliseconds to 5 seconds. A connection that goes silent without being
// closed is noticed by a heartbeat: at most Options.HeartbeatInterval plus Options.HeartbeatTimeout, 10 seconds unless
// set, pass until it is reported. That is the bound on how long a cache may serve what has been revoked. A TRUNCATE is
// reported as [auth.ChangesLost] and [auth.ChangesSeen]. DROP TABLE, and triggers that are disabled, are noticed by
// the heartbeat too, unless they are enabled again before it.
//
// The heartbeat goes out through the *sql.DB and comes back on the watcher's connection, so it also notices when the
// two lead to different servers, as after a failover. It needs a connection of the pool for a moment: where an
// application's own queries may hold all of them for longer than Options.HeartbeatTimeout, give the Store a *sql.DB of
// its own, for a cache stops answering meanwhile. Where passwords do not last, such as tokens of a cloud, limit the
// connections' lives to theirs by SetConnMaxLifetime, for the watcher takes the password from one of them.
//
// The announcements hold the hashes: whoever may connect to the database can listen to them, and can do as much with
// them as with the hash column, which is nothing without the key. Whoever may connect can send announcements too, and
// so make caches look again; nobody can make them believe anything. Let only those connect who need to, and where
// others may create schemas give Options.Table its schema.
//
// On SQLite only the changes made through the very Store are reported. Those of another process, or of another Store,
// are seen when a cache looks again: give it a short time to live if there are any.
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
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"
)

// DefaultTable is the name of the table unless [Options] say otherwise.
const DefaultTable = "api_keys"

// Options configures a [Store]. The zero Options are the defaults.
type Options struct {
	// Table is a letter or underscore, then up to 47 letters, digits and underscores; on PostgreSQL a schema of up
	// to 63 and a dot may stand before it. It is quoted, so on PostgreSQL capitals count. Empty: DefaultTable.
	Table string

	// Logger is told of connections that Watch loses and makes. Nil: slog.Default().
	Logger *slog.Logger

	// WatchConfig, made by [pgx.ParseConfig], says how Watch connects to PostgreSQL. Nil: as the connections of the
	// *sql.DB do, except for what its AfterConnect hook sets. Set it if the *sql.DB goes through a pooler that shares
	// connections between clients, since LISTEN does not work through one, or if its driver is wrapped.
	WatchConfig *pgx.ConnConfig

	// HeartbeatInterval is the time between two proofs that Watch's connection works, HeartbeatTimeout the time
	// that each may take, as may each attempt to connect. Zero: 5 seconds.
	HeartbeatInterval, HeartbeatTimeout time.Duration
}

// A Store keeps keys in a table. It is an [auth.KeyStore] and an [auth.Watcher], and safe for concurrent use. It has
// nothing to close: the *sql.DB is the caller's.
type Store struct {
	db       *sql.DB
	dialect  *dialect
	table    table
	queries  queries
	logger   *slog.Logger
	config   *pgx.ConnConfig
	interval time.Duration
	timeout  time.Duration
	watchers watchers
}

var (
	_ auth.KeyStore = (*Store)(nil)
	_ auth.Watcher  = (*Store)(nil)
)

// newStore checks and completes the options.
func newStore(db *sql.DB, d *dialect, opts *Options) (*Store, error) {
	if db == nil {
		return nil, errors.New("sqlstore: the *sql.DB is nil")
	}
	// Only what is surely wrong: a driver may be wrapped.
	switch db.Driver().(type) {
	case *stdlib.Driver:
		if d != postgres {
			return nil, errors.New("sqlstore: the *sql.DB is one of PostgreSQL: use NewPostgres")
		}
	case *sqlite.Driver:
		if d == postgres {
			return nil, errors.New("sqlstore: the *sql.DB is one of SQLite: use NewSQLite")
		}
	}
	if opts == nil {
		opts = new(Options)
	}
	t, err := parseTable(cmp.Or(opts.Table, DefaultTable), d)
	if err != nil {
		return nil, err
	}
	if opts.HeartbeatInterval < 0 || opts.HeartbeatTimeout < 0 {
		return nil, errors.New("sqlstore: the heartbeat's interval or timeout is negative")
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
		if opts.WatchConfig.DialFunc == nil { // pgx would panic, when it is used
			return nil, errors.New("sqlstore: the WatchConfig is not made by pgx.ParseConfig")
		}
		s.config = opts.WatchConfig.Copy()
	}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	return s, nil
}

// A table is a name that has been checked, so that it can be quoted. What is derived from it fits in the 63 bytes
// that PostgreSQL allows.
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

// quoted returns the name of the table, or of what is called like it with a suffix, as SQL wants it.
func (t table) quoted(suffix string) string {
	if t.schema == "" {
		return `"` + t.name + suffix + `"`
	}
	return `"` + t.schema + `"."` + t.name + suffix + `"`
}

// channel is what the triggers notify. A table with the same name in another schema notifies the same, which costs
// a cache some look-ups and does no harm.
func (t table) channel() string { return t.name + "_changed" }
