package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/sqlstore/internal/logs"
	"github.com/insigner/auth/sqlstore/internal/records"
	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"
)

// DefaultLogsTable is the name of the table if [LogsOptions] name none.
const DefaultLogsTable = records.DefaultLogsTable

// LogsOptions configures [Logs]. The zero LogsOptions are valid.
type LogsOptions struct {
	// Table is the name of the table, as in [Options]. If empty,
	// DefaultLogsTable.
	Table string

	// Logger gets failures to make partitions. If nil, slog.Default().
	Logger *slog.Logger
}

// Logs keeps API logs in a table. It is an [apilog.Store], and is safe for
// concurrent use. [NewLogs] makes one. The database may be another one than that
// of the keys.
//
// The table has a partition for each day in UTC. The migration makes those of
// the next days. Append makes further ones, once an hour if they are missing.
// What has no partition, since a clock is wrong, is in a default partition, and
// is listed and deleted like everything else.
//
// # Rights
//
// The role of a server needs SELECT and INSERT on the table, and EXECUTE on
// the function with the suffix _prepare, which makes partitions with the rights
// of its owner. For the retention of a [apilog.Recorder] it also needs EXECUTE
// on that with the suffix _expire, which deletes old entries. To keep a server
// from deleting any, set Options.Retention of its Recorder to -1, and let
// another role call DeleteBefore. DeleteOwner needs DELETE.
type Logs struct {
	db       *sql.DB
	table    records.Table
	logger   *slog.Logger
	prepared atomic.Int64 // when partitions were made, in Unix seconds
}

var _ apilog.Store = (*Logs)(nil)

// NewLogs returns Logs in a PostgreSQL database. The driver of db must be that
// of github.com/jackc/pgx/v5/stdlib, or wrap it. If opts is nil, the defaults
// are used. NewLogs does not connect.
func NewLogs(db *sql.DB, opts *LogsOptions) (*Logs, error) {
	if db == nil {
		return nil, fmt.Errorf("%s: the *sql.DB is nil", dialect.Package)
	}
	if opts == nil {
		opts = new(LogsOptions)
	}
	t, err := records.ParseTable(cmp.Or(opts.Table, DefaultLogsTable), true)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dialect.Package, err)
	}
	return &Logs{db: db, table: t, logger: opts.Logger}, nil
}

// LogsMigrations holds the SQL for your migration tool, as [Migrations] does for
// keys: 00001_api_logs.up.sql and, in later releases, further files. If one
// database has both, give each its own table of versions, or renumber
// the files.
//
//go:embed *_api_logs.up.sql
var LogsMigrations embed.FS

// Migrate creates the table if it does not exist, and brings it up to date, as
// [Store.Migrate] does.
func (l *Logs) Migrate(ctx context.Context) error {
	m := records.Migration{DB: l.db, Table: l.table, Logger: l.log(), Dialect: &records.Dialect{
		Package: dialect.Package, Schemas: true, Migrations: LogsMigrations,
		Goose: goose.DialectPostgres, Exists: dialect.Exists, Locker: locker, Differs: differs,
	}}
	return wrapLogs("migrate", m.Up(ctx))
}

func (l *Logs) log() *slog.Logger {
	if l.logger != nil {
		return l.logger
	}
	return slog.Default()
}

func wrapLogs(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s: %w%s", dialect.Package, what, err, dialect.Hint(err))
}

var logsDialect = &logs.Dialect{
	Param: "$",
	Time:  func(t time.Time) any { return t.UTC().Truncate(time.Microsecond) },
	Addr: func(a netip.Addr) any {
		if !a.IsValid() {
			return nil
		}
		return a.WithZone("").String()
	},
	Read: func(column string) string {
		if column == "remote_addr" {
			return "coalesce(host(remote_addr), '')"
		}
		return column
	},
}

// Append implements [apilog.Store]. It is one COPY, or one INSERT if an entry is
// stored already.
func (l *Logs) Append(ctx context.Context, entries []apilog.Entry) error {
	if len(entries) == 0 {
		return ctx.Err()
	}
	l.prepare(ctx)
	err := l.copy(ctx, entries)
	if code(err) == "23505" { // unique_violation
		err = l.insert(ctx, entries)
	}
	return wrapLogs("append log entries", err)
}

// prepareEvery is how often Append makes sure that there are partitions.
const prepareEvery = time.Hour

// prepare makes partitions. Without them entries go to the default partition,
// so an error is no reason not to append.
func (l *Logs) prepare(ctx context.Context) {
	now, last := time.Now().Unix(), l.prepared.Load()
	if now-last < int64(prepareEvery/time.Second) && now >= last || !l.prepared.CompareAndSwap(last, now) {
		return
	}
	if _, err := l.db.ExecContext(ctx, "SELECT "+l.table.Quoted("_prepare")+"()"); err != nil {
		l.log().Warn("sqlstore/postgres: cannot make partitions for API logs; entries go to the default partition "+
			"when those of the next days are used up", "error", err)
	}
}

func (l *Logs) copy(ctx context.Context, entries []apilog.Entry) error {
	conn, err := l.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	name := pgx.Identifier{l.table.Name}
	if l.table.Schema != "" {
		name = pgx.Identifier{l.table.Schema, l.table.Name}
	}
	return conn.Raw(func(driverConn any) error {
		c := unwrap(driverConn)
		if c == nil {
			return errors.New("the connection is not one of github.com/jackc/pgx/v5/stdlib")
		}
		_, err := c.Conn().CopyFrom(ctx, name, logs.Columns, pgx.CopyFromSlice(len(entries), func(i int) ([]any, error) {
			return logsDialect.Values(&entries[i]), nil
		}))
		return err
	})
}

// insert stores those of the entries that are not there yet.
func (l *Logs) insert(ctx context.Context, entries []apilog.Entry) error {
	rows := make([]map[string]any, len(entries))
	for i := range entries {
		rows[i] = make(map[string]any)
		for j, value := range logsDialect.Values(&entries[i]) {
			rows[i][logs.Columns[j]] = value
		}
	}
	text, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	_, err = l.db.ExecContext(ctx, "INSERT INTO "+l.table.Quoted("")+
		" SELECT * FROM json_populate_recordset(NULL::"+l.table.Quoted("")+", $1::json) ON CONFLICT DO NOTHING", string(text))
	return err
}

// List implements [apilog.Store].
func (l *Logs) List(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, apilog.ReadTimeout)
	defer cancel()
	list, err := l.list(ctx, q)
	return list, wrapLogs("list log entries", err)
}

func (l *Logs) list(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
	var after *logs.Position
	if q.After != "" {
		at, err := l.position(ctx, q.After)
		if err != nil {
			return nil, err
		}
		after = &logs.Position{Time: at, ID: q.After}
	}
	s := logsDialect.List(l.table.Quoted(""), q, after)
	rows, err := l.db.QueryContext(ctx, s.SQL, s.Args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []apilog.Entry
	for rows.Next() {
		var row logs.Row
		var at time.Time
		if err := rows.Scan(row.Dest(&at)...); err != nil {
			return nil, err
		}
		list = append(list, row.Entry(at))
	}
	return list, rows.Err()
}

// position returns the time of the entry with that ID.
func (l *Logs) position(ctx context.Context, id string) (time.Time, error) {
	if at, ok := apilog.TimeOf(id); ok {
		return at, nil
	}
	var at time.Time
	err := l.db.QueryRowContext(ctx, "SELECT at FROM "+l.table.Quoted("")+" WHERE id = $1 LIMIT 1", id).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("%w: After is not the ID of an entry", apilog.ErrInvalidQuery)
	}
	return at, err
}

// Histogram implements [apilog.Store].
func (l *Logs) Histogram(ctx context.Context, q apilog.Query, step time.Duration) ([]apilog.Bucket, error) {
	ctx, cancel := context.WithTimeout(ctx, apilog.ReadTimeout)
	defer cancel()
	buckets, err := l.histogram(ctx, q, step)
	return buckets, wrapLogs("count log entries", err)
}

func (l *Logs) histogram(ctx context.Context, q apilog.Query, step time.Duration) ([]apilog.Bucket, error) {
	buckets, err := apilog.Buckets(q, step)
	if err != nil {
		return nil, err
	}
	// Microseconds are exact in a double precision for 285 years.
	s := logsDialect.Histogram(l.table.Quoted(""), q, step,
		"(date_part('epoch', at - %s::timestamptz) * 1000000)::bigint / %s::bigint")
	rows, err := l.db.QueryContext(ctx, s.SQL, s.Args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	return buckets, logs.Fill(rows, buckets)
}

const (
	expireTries = 30 // to get the lock of a partition
	expirePause = time.Second
)

// DeleteBefore implements [apilog.Store]. It drops whole partitions, and deletes
// other entries in slices. If another instance does it already, it returns 0.
func (l *Logs) DeleteBefore(ctx context.Context, t time.Time) (int64, error) {
	deleted, err := l.deleteBefore(ctx, t)
	return deleted, wrapLogs("delete old log entries", err)
}

func (l *Logs) deleteBefore(ctx context.Context, t time.Time) (deleted int64, err error) {
	for tries := 0; ; {
		var n sql.NullInt64
		err := l.db.QueryRowContext(ctx, "SELECT "+l.table.Quoted("_expire")+"($1)", logsDialect.Time(t)).Scan(&n)
		switch {
		case code(err) == "55P03" && tries < expireTries: // lock_not_available: somebody reads
			tries++
			select {
			case <-time.After(expirePause):
			case <-ctx.Done():
				return deleted, ctx.Err()
			}
		case err != nil || !n.Valid:
			return deleted, err
		default:
			tries = 0
			deleted += n.Int64
		}
	}
}

const deleteSlice = 5000 // entries in one statement

// DeleteOwner implements [apilog.Store]. It deletes in slices.
func (l *Logs) DeleteOwner(ctx context.Context, owner string) (int64, error) {
	deleted, err := l.deleteOwner(ctx, owner)
	return deleted, wrapLogs("delete the log entries of an owner", err)
}

func (l *Logs) deleteOwner(ctx context.Context, owner string) (deleted int64, err error) {
	if owner == "" {
		return 0, errors.New("the owner is empty")
	}
	for {
		var last sql.NullTime
		err := l.db.QueryRowContext(ctx, fmt.Sprintf(
			"SELECT max(at) FROM (SELECT at FROM %s WHERE owner = $1 ORDER BY at LIMIT %d) e", l.table.Quoted(""), deleteSlice),
			owner).Scan(&last)
		if err != nil || !last.Valid {
			return deleted, err
		}
		result, err := l.db.ExecContext(ctx,
			"DELETE FROM "+l.table.Quoted("")+" WHERE owner = $1 AND at <= $2", owner, last.Time)
		if err != nil {
			return deleted, err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return deleted, err
		}
		if n == 0 { // a policy or a rule prevents it
			return deleted, errors.New("the database deleted nothing, and reported no error")
		}
		deleted += n
	}
}
