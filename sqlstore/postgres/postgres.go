package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore"
	"github.com/insigner/auth/sqlstore/internal/records"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// DefaultTable is the name of the table if [Options] name none.
const DefaultTable = records.DefaultTable

// Options configures a [Store]. The zero Options are valid.
type Options struct {
	// Table is the name of the table: a letter or underscore, then up to 47
	// letters, digits and underscores. A schema and a dot may precede it. The
	// name is quoted, so the letter case matters. If empty, DefaultTable.
	Table string

	// WatchConfig says how Watch connects to the server. It must come from
	// [pgx.ParseConfig]. If nil, Watch connects like the *sql.DB, except for
	// what its AfterConnect hook sets. Set it if the *sql.DB connects through a
	// pooler that shares connections among clients, since LISTEN does not work
	// there, and if its driver is wrapped.
	WatchConfig *pgx.ConnConfig

	// HeartbeatInterval is how long Watch hears nothing before it checks its
	// connection. If zero, 5 seconds.
	HeartbeatInterval time.Duration

	// HeartbeatTimeout is how long that check may take. It is also how long
	// Watch waits for each address that it connects to. If zero, 5 seconds.
	HeartbeatTimeout time.Duration

	// MaxLookups is how many lookups use a connection of the *sql.DB at the same
	// time; the others wait until their context is done. So a flood of lookups
	// leaves connections for everything else. If zero, it is half of the
	// MaxOpenConns of the *sql.DB when New is called, or 32 if that is
	// unlimited. Set it for a *sql.DB over a pgxpool, which has its own limit.
	MaxLookups int

	// Logger gets the state of Watch: when it starts, and why it was lost. If
	// nil, slog.Default().
	Logger *slog.Logger
}

// A Store keeps keys in a table. It is a [keyring.Store] and an [auth.Watcher],
// and is safe for concurrent use. [New] makes one.
type Store struct {
	db       *sql.DB
	keys     *records.Store
	places   chan struct{} // one for each lookup in progress
	interval time.Duration
	timeout  time.Duration

	mu     sync.Mutex
	config *pgx.ConnConfig // how Watch connects; nil until it knows
	given  bool            // the config is Options.WatchConfig
	stale  bool            // the config is to be learned once more
}

var (
	_ keyring.Store = (*Store)(nil)
	_ auth.Watcher  = (*Store)(nil)
)

var dialect = &records.Dialect{
	Package: "sqlstore/postgres",
	Schemas: true,

	By:   "substr(set_config('insigner.by', 'by:' || %s::text, true), 4)",
	Same: "IS NOT DISTINCT FROM",
	Delete: `DELETE FROM {table} WHERE id = $1 AND hash = $2
		AND set_config('insigner.by', 'by:' || $3::text, true) IS NOT NULL`,

	// A client that dies without closing its connection would keep the row
	// locked until the server notices, after two hours by default. Until then
	// nobody could revoke the key. And after the first statement has waited for
	// a row, it must see the row as it is then.
	BeginRotation: "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = '5s'",

	InsertAll: `INSERT INTO {table} ({columns})
		SELECT {values} FROM json_to_recordset($1::json) AS given (id text, hash text, hint text, name text, owner text,
			scopes text, metadata text, created_at timestamptz, created_by text, updated_at timestamptz, updated_by text,
			revision bigint, expires_at timestamptz, disabled_at timestamptz, revoked_at timestamptz,
			last_used_at timestamptz, rotated_from text, rotated_to text, chain text)
		ON CONFLICT DO NOTHING RETURNING id, hash`,
	Member:     "{column}",
	HashMember: "decode(hash, 'hex')",

	// READ COMMITTED, since a record that another transaction inserts at the
	// same time is to be one that is refused, and no failure of all.
	BeginAll: "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = '5min'",
	Actor:    "SELECT set_config('insigner.by', 'by:' || $1::text, true)",
	Wide:     "SET LOCAL insigner.announce = 'all'",

	// The rows are locked in the order of their IDs. So of two calls that touch
	// the same keys one waits for the other, and there is no deadlock. A row
	// that was locked is checked again, so the later time wins.
	Touch: `WITH used AS (
			SELECT id, at, at - $2::bigint * interval '1 microsecond' AS older
			FROM json_to_recordset($1::json) AS used (id text, at timestamptz)),
		locked AS (
			SELECT k.id, used.at, used.older FROM {table} k JOIN used ON used.id = k.id
			WHERE k.last_used_at IS NULL OR k.last_used_at < used.older
			ORDER BY k.id FOR NO KEY UPDATE OF k)
		UPDATE {table} k SET last_used_at = locked.at FROM locked
		WHERE k.id = locked.id AND (k.last_used_at IS NULL OR k.last_used_at < locked.older)`,
	TouchArg: func(ids []string, micros []int64) (string, error) {
		type use struct {
			ID string    `json:"id"`
			At time.Time `json:"at"`
		}
		uses := make([]use, len(ids))
		for i := range ids {
			uses[i] = use{ids[i], time.UnixMicro(micros[i]).UTC()}
		}
		text, err := json.Marshal(uses)
		return string(text), err
	},

	// Under COLLATE "C" lower() knows only ASCII, in every database. A text
	// with other letters always passes, since only Go knows their lower case.
	Contains: `(strpos(lower((name || chr(10) || owner || chr(10) || id || chr(10) || hint) COLLATE "C"), $1) > 0
		OR octet_length(name || owner || id || replace(hint, '…', '')) <>
			char_length(name || owner || id || replace(hint, '…', '')))`,

	Taken: func(err error) bool { return code(err) == "23505" }, // unique_violation
	Again: func(err error) bool {
		switch code(err) {
		case "40001": // serialization_failure
			return true
		case "0A000": // feature_not_supported
			return strings.Contains(err.Error(), "cached plan must not change result type")
		}
		return false
	},

	Hint: func(err error) string {
		switch code(err) {
		case "42P05", "26000": // a prepared statement exists already, or does not exist
			return "; through PgBouncer, set default_query_exec_mode=exec in the DSN"
		}
		return ""
	},

	Migrations: Migrations,
	Goose:      goose.DialectPostgres,
	Exists:     "SELECT to_regclass($1) IS NOT NULL",
	Locker:     locker,
	Differs:    differs,
}

// code returns the SQLSTATE of an error of the server, or "".
func code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// New returns a Store in a PostgreSQL database. The driver of db must be that of
// github.com/jackc/pgx/v5/stdlib. If opts is nil, the defaults are used. The
// error says what is wrong with the options.
//
// New connects only if the driver is wrapped, as by otelsql, and
// Options.WatchConfig is nil. Then it needs a connection to find out how Watch
// can connect.
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
	if opts.HeartbeatInterval < 0 {
		return nil, fmt.Errorf("HeartbeatInterval %v is negative", opts.HeartbeatInterval)
	}
	if opts.HeartbeatTimeout < 0 {
		return nil, fmt.Errorf("HeartbeatTimeout %v is negative", opts.HeartbeatTimeout)
	}
	if opts.MaxLookups < 0 {
		return nil, fmt.Errorf("MaxLookups %d is negative", opts.MaxLookups)
	}
	if opts.WatchConfig != nil && opts.WatchConfig.DialFunc == nil { // pgx would panic when it connects
		return nil, errors.New("WatchConfig was not created by pgx.ParseConfig")
	}
	keys, err := records.New(db, dialect, opts.Table, opts.Logger)
	if err != nil {
		return nil, err
	}
	s := &Store{
		db:       db,
		keys:     keys,
		places:   make(chan struct{}, cmp.Or(opts.MaxLookups, defaultLookups(db))),
		interval: cmp.Or(opts.HeartbeatInterval, 5*time.Second),
		timeout:  cmp.Or(opts.HeartbeatTimeout, 5*time.Second),
	}
	if opts.WatchConfig != nil {
		s.config, s.given = opts.WatchConfig.Copy(), true
	}
	if err := s.checkDriver(); err != nil {
		return nil, err
	}
	return s, nil
}

func defaultLookups(db *sql.DB) int {
	if n := db.Stats().MaxOpenConnections; n > 0 {
		return max(1, n/2)
	}
	return 32
}

// checkDriver returns an error if the driver is not that of pgx.
func (s *Store) checkDriver() error {
	d := s.db.Driver()
	if _, ok := d.(*stdlib.Driver); ok {
		return nil
	}
	name := fmt.Sprintf("%T", d)
	for _, other := range []string{"pq.", "sqlite.", "sqlite3.", "mysql.", "mssql."} {
		if strings.Contains(name, other) {
			return fmt.Errorf("the driver is %s: open the *sql.DB with that of github.com/jackc/pgx/v5/stdlib", name)
		}
	}
	if s.given {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	if err := s.learnConfig(ctx); err != nil {
		return fmt.Errorf("the driver is %s, through which Watch cannot connect: %w", name, err)
	}
	return nil
}

var errDriver = errors.New("the connection is not one of github.com/jackc/pgx/v5/stdlib: set Options.WatchConfig")

// learnConfig keeps how a connection of the *sql.DB is configured. The password
// of a server can expire, so a newer connection may know another.
func (s *Store) learnConfig(ctx context.Context) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(driverConn any) error {
		c := unwrap(driverConn)
		if c == nil {
			return errDriver
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.config = c.Conn().Config()
		return nil
	})
}

// unwrap returns the connection of pgx that c is or wraps, or nil.
func unwrap(c any) *stdlib.Conn {
	for {
		switch wrapper := c.(type) {
		case *stdlib.Conn:
			return wrapper
		case interface{ Raw() driver.Conn }: // otelsql and others
			c = wrapper.Raw()
		case interface{ Unwrap() driver.Conn }:
			c = wrapper.Unwrap()
		default:
			if c = embedded(c); c == nil {
				return nil
			}
		}
	}
}

// embedded returns the driver.Conn that is embedded in the struct c, as many
// wrappers have it, or nil.
func embedded(c any) any {
	v := reflect.Indirect(reflect.ValueOf(c))
	if v.Kind() != reflect.Struct {
		return nil
	}
	f, ok := v.Type().FieldByName("Conn")
	if !ok || !f.Anonymous || f.Type != reflect.TypeFor[driver.Conn]() {
		return nil
	}
	return v.FieldByIndex(f.Index).Interface()
}

// Close ends each call of Watch and closes its connections. The *sql.DB stays
// open: it is the caller's. Close returns nil. It must not be called by notify,
// since it waits for that.
func (s *Store) Close() error {
	s.keys.Watchers.Close()
	return nil
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
// Others can read and write all the time, except that who inserts the same ID
// or hash waits. The first thousand records are announced one by one. If there
// are more, caches get one announcement for all others, and discard all copies.
//
// The transaction begins with the first 500 records. The server ends it if the
// next ones do not come for 5 minutes. If ctx is done it is rolled back. What it
// has written until then, also with opts.DryRun, is for VACUUM to remove.
func (s *Store) InsertAll(
	ctx context.Context, records iter.Seq2[*auth.Record, error], opts *sqlstore.InsertAllOptions,
) (int64, error) {
	return s.keys.InsertAll(ctx, records, opts)
}

// List implements [keyring.Store]. It selects by everything in q. By q.Text it
// may select more: it returns each record that has letters outside of ASCII.
//
// It is an error if q.After.ID is not valid UTF-8 or has a NUL.
func (s *Store) List(ctx context.Context, q keyring.Query) ([]*auth.Record, error) {
	return s.keys.List(ctx, q)
}

// Update implements [keyring.Store]. Without a successor it is a single
// statement. With one it is a transaction, which keeps the key from being
// changed for at most 5 seconds if the client dies in the middle.
//
// If the database reports success but changed no row, Update returns an error
// that says so. Reasons are row-level security, a trigger and a rule.
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
// costs one write per interval, however many instances use it.
func (s *Store) TouchOlder(ctx context.Context, lastUsed map[string]time.Time, age time.Duration) error {
	return s.keys.TouchOlder(ctx, lastUsed, age)
}

// Events implements [keyring.Store]. A record of an event that cannot be read is
// nil.
func (s *Store) Events(ctx context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
	return s.keys.Events(ctx, q)
}
