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
	"slices"
	"strings"
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
// The role of a server needs
//
//	GRANT SELECT, INSERT ON api_logs TO server;
//	GRANT EXECUTE ON FUNCTION api_logs_prepare TO server;
//	GRANT EXECUTE ON FUNCTION api_logs_expire TO server;
//
// The functions have the rights of their owner. The first makes partitions. The
// second deletes old entries, for the retention of an [apilog.Recorder]. To keep
// a server from deleting any, leave it out, set Options.Retention of the
// Recorder to -1, and let another role call DeleteBefore. DeleteOwner needs
// SELECT and DELETE on the table.
//
// # PgBouncer
//
// In transaction mode, connect with default_query_exec_mode=exec in the DSN.
// Call Migrate without PgBouncer.
type Logs struct {
	db        *sql.DB
	table     records.Table
	logger    *slog.Logger
	prepareAt atomic.Pointer[time.Time] // when to make partitions again; nil at first
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
	m := records.Migration{DB: l.db, Table: l.table, Option: "LogsOptions.Table", Logger: l.log(), Dialect: &records.Dialect{
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
	Time:  func(t time.Time) any { return inRange(t.UTC().Truncate(time.Microsecond)) },
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
	Rest: "CASE WHEN %s THEN TRUE END",
}

// inRange returns t, or the nearest time that no store of entries goes beyond.
// PostgreSQL refuses others.
func inRange(t time.Time) time.Time {
	switch {
	case t.Year() < 1:
		return time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	case t.Year() > 9999:
		return time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	}
	return t
}

// Append implements [apilog.Store]. It is one COPY, or one INSERT if an entry is
// stored already.
func (l *Logs) Append(ctx context.Context, entries []apilog.Entry) error {
	if len(entries) == 0 {
		return ctx.Err()
	}
	l.prepare(ctx)
	// In one order, so that two calls with the same entries wait for each other
	// one after the other, and not both.
	entries = slices.SortedFunc(slices.Values(entries), func(a, b apilog.Entry) int {
		return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.ID, b.ID))
	})
	err := l.copy(ctx, entries)
	if code(err) == "23505" { // unique_violation
		err = l.insert(ctx, entries)
	}
	return wrapLogs("append log entries", err)
}

const (
	prepareEvery = time.Hour        // Append makes sure that there are partitions
	prepareAgain = 10 * time.Minute // after a failure
	prepareTime  = 2 * time.Second  // at most, and half of what Append has
)

// prepare makes partitions. Without them entries go to the default partition,
// so an error is no reason not to append.
func (l *Logs) prepare(ctx context.Context) {
	now, next := time.Now(), l.prepareAt.Load()
	if next != nil && now.Before(*next) || !l.prepareAt.CompareAndSwap(next, new(now.Add(prepareEvery))) {
		return
	}
	patience := prepareTime
	if end, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(end)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := l.db.ExecContext(ctx, "SELECT "+l.table.Quoted("_prepare")+"()"); err != nil {
		l.prepareAt.Store(new(now.Add(prepareAgain)))
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
		if err := logs.Check(&entries[i]); err != nil { // JSON would change the text
			return err
		}
		rows[i] = make(map[string]any)
		for j, value := range logsDialect.Values(&entries[i]) {
			rows[i][logs.Columns[j]] = value
		}
	}
	text, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	table, columns := l.table.Quoted(""), strings.Join(logs.Columns, ", ") // the host may have added others
	_, err = l.db.ExecContext(ctx, "INSERT INTO "+table+" ("+columns+") SELECT "+columns+
		" FROM json_populate_recordset(NULL::"+table+", $1::json) ON CONFLICT DO NOTHING", string(text))
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
		at, err := l.position(ctx, q)
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

// position returns the time of the entry q.After.
func (l *Logs) position(ctx context.Context, q apilog.Query) (at time.Time, err error) {
	if at, ok := apilog.TimeOf(q.After); ok {
		return at, nil
	}
	err = l.db.QueryRowContext(ctx, "SELECT at FROM "+l.table.Quoted("")+
		" WHERE id = $1 AND (octet_length(id) <> 20 OR id ~ '[^0-9a-v]')"+ // as the index has it
		" AND (owner = $2 OR $2 = '') LIMIT 1", q.After, q.Owner).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		err = logs.ErrAfter
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
	// In a double precision, microseconds are exact from 1833 to 2106.
	s := logsDialect.Histogram(l.table.Quoted(""), q, step,
		"((date_part('epoch', at) * 1000000)::bigint - %s::bigint) / %s::bigint")
	rows, err := l.db.QueryContext(ctx, s.SQL, s.Args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	return buckets, logs.Fill(rows, buckets)
}

// DeleteBefore implements [apilog.Store]. It drops whole partitions, and deletes
// other entries in slices. If another instance does it already, it returns 0.
//
// To drop a partition, it waits until nobody uses the table. Others queue up
// for that time, so it gives up after 200 milliseconds, and tries again, for
// half a minute. It is an error if somebody, such as pg_dump, uses the table all
// the time.
func (l *Logs) DeleteBefore(ctx context.Context, t time.Time) (int64, error) {
	deleted, err := inSlices(ctx, func() (n sql.NullInt64, err error) {
		err = l.db.QueryRowContext(ctx, "SELECT "+l.table.Quoted("_expire")+"($1)", logsDialect.Time(t)).Scan(&n)
		return n, err
	})
	return deleted, wrapLogs("delete old log entries", err)
}

// DeleteOwner implements [apilog.Store]. It deletes in slices.
func (l *Logs) DeleteOwner(ctx context.Context, owner string) (int64, error) {
	const what = "delete the log entries of an owner"
	if owner == "" {
		return 0, wrapLogs(what, errors.New("the owner is empty"))
	}
	deleted, err := inSlices(ctx, func() (sql.NullInt64, error) { return l.deleteSlice(ctx, owner) })
	return deleted, wrapLogs(what, err)
}

// deleteSlice deletes some entries of an owner. It returns how many, or NULL if
// there are none left.
func (l *Logs) deleteSlice(ctx context.Context, owner string) (n sql.NullInt64, err error) {
	table := l.table.Quoted("")
	var last sql.NullTime
	err = l.db.QueryRowContext(ctx, "SELECT max(at) FROM (SELECT at FROM "+table+
		" WHERE owner = $1 ORDER BY at LIMIT 5000) e", owner).Scan(&last)
	if err != nil || !last.Valid {
		return n, err
	}
	result, err := l.db.ExecContext(ctx, "DELETE FROM "+table+" WHERE owner = $1 AND at <= $2", owner, last.Time)
	if err != nil {
		return n, err
	}
	n.Valid = true
	if n.Int64, err = result.RowsAffected(); err != nil || n.Int64 > 0 {
		return n, err
	}
	// Another call deleted them, or a policy or a rule prevents it.
	var left bool
	err = l.db.QueryRowContext(ctx, "SELECT EXISTS (SELECT FROM "+table+" WHERE owner = $1 AND at <= $2)",
		owner, last.Time).Scan(&left)
	if left {
		err = errors.New("the database deleted nothing, and reported no error")
	}
	return n, err
}

const (
	deleteTries = 30 // to get a lock
	deletePause = time.Second
)

// inSlices calls a function that deletes some entries, until it returns NULL.
func inSlices(ctx context.Context, slice func() (sql.NullInt64, error)) (deleted int64, err error) {
	for tries := 0; ; {
		n, err := slice()
		if err == nil && n.Valid {
			deleted += n.Int64
			tries = 0
			continue
		}
		if tries++; !isBusy(err) || tries >= deleteTries {
			return deleted, err
		}
		select {
		case <-time.After(deletePause):
		case <-ctx.Done():
			return deleted, ctx.Err()
		}
	}
}

// isBusy reports that others were in the way, so that it may succeed later.
func isBusy(err error) bool {
	switch code(err) {
	case "55P03", "40P01", "40001": // lock_not_available, deadlock_detected, serialization_failure
		return true
	}
	return false
}
