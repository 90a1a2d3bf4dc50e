package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/sqlstore/internal/logs"
	"github.com/insigner/auth/sqlstore/internal/records"
	"github.com/pressly/goose/v3"
)

// DefaultLogsTable is the name of the table if [LogsOptions] name none.
const DefaultLogsTable = records.DefaultLogsTable

// LogsOptions configures [Logs]. The zero LogsOptions are valid.
type LogsOptions struct {
	// Table is the name of the table, as in [Options]. If empty,
	// DefaultLogsTable.
	Table string

	// Logger gets what Migrate reports, which is nothing at present. If nil,
	// slog.Default().
	Logger *slog.Logger
}

// Logs keeps API logs in a table. It is an [apilog.Store], and is safe for
// concurrent use. [NewLogs] makes one.
//
// Use a file of its own. In the file of the keys, a change of a key waits for
// each batch of entries, and a backup of the keys holds all entries.
//
// The space of deleted entries is used again, but the file does not shrink.
//
// A connection that has appended keeps a larger cache: all connections of the
// pool together have at most 512 MB, and one of them at most 128 MB. It writes
// the log of SQLite back when that has 64 MB. With a smaller cache it would read
// most pages of the indexes again for each batch.
type Logs struct {
	db     *sql.DB
	table  records.Table
	turn   turn
	logger *slog.Logger
}

var _ apilog.Store = (*Logs)(nil)

// NewLogs returns Logs in an SQLite database, which is as [New] wants it: opened
// with [Open], or with the same settings. If opts is nil, the defaults are used.
func NewLogs(db *sql.DB, opts *LogsOptions) (*Logs, error) {
	l, err := newLogs(db, opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dialect.Package, err)
	}
	return l, nil
}

func newLogs(db *sql.DB, opts *LogsOptions) (*Logs, error) {
	if db == nil {
		return nil, errors.New("the *sql.DB is nil")
	}
	if opts == nil {
		opts = new(LogsOptions)
	}
	t, err := records.ParseTable(cmp.Or(opts.Table, DefaultLogsTable), false)
	if err != nil {
		return nil, err
	}
	path, err := check(db)
	if err != nil {
		return nil, err
	}
	return &Logs{db: db, table: t, turn: turnOf(path), logger: opts.Logger}, nil
}

// LogsMigrations holds the SQL for your migration tool, as [Migrations] does for
// keys: 00001_api_logs.up.sql and, in later releases, further files. If one
// database has both, give each its own table of versions, or renumber the
// files.
//
//go:embed *_api_logs.up.sql
var LogsMigrations embed.FS

// Migrate creates the table if it does not exist, and brings it up to date, as
// [Store.Migrate] does.
func (l *Logs) Migrate(ctx context.Context) error {
	logger := l.logger
	if logger == nil {
		logger = slog.Default()
	}
	m := records.Migration{DB: l.db, Table: l.table, Option: "LogsOptions.Table", Logger: logger, Turn: l.turn.wait, Dialect: &records.Dialect{
		Package: dialect.Package, Numbered: dialect.Numbered, Migrations: LogsMigrations,
		Goose: goose.DialectSQLite3, Exists: dialect.Exists, Differs: differs,
	}}
	return wrapLogs("migrate", m.Up(ctx))
}

func wrapLogs(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s: %w", dialect.Package, what, err)
}

var logsDialect = &logs.Dialect{
	Param: "?",
	Time:  func(t time.Time) any { return t.UnixMicro() },
	Addr: func(a netip.Addr) any {
		if !a.IsValid() {
			return ""
		}
		return a.WithZone("").String()
	},
	Read: func(column string) string { return column },
	Rest: "+%s",
}

// The size of the log of SQLite, in pages, at which a connection that writes
// writes it back. To write back few pages more often takes longer in all, but
// others wait less each time.
const (
	forAppend = 16000
	forDelete = 500
)

// settings returns the settings of a connection that writes.
func (l *Logs) settings(checkpoint int) string {
	const all, most = 512 << 10, 128 << 10 // KiB
	cache := 16 << 10                      // if the pool has no limit
	if n := l.db.Stats().MaxOpenConnections; n > 0 {
		cache = min(all/n, most)
	}
	return fmt.Sprintf("PRAGMA cache_size = -%d; PRAGMA wal_autocheckpoint = %d", cache, checkpoint)
}

// connTurn returns a connection whose turn it is to write. It waits for the
// connection first: those that read may hold all of them, and other writers shall
// not wait for that. Who has the turn may wait for a connection too, so it gives
// its own back now and then.
func (l *Logs) connTurn(ctx context.Context) (conn *sql.Conn, end func(), err error) {
	const patience = 20 * time.Millisecond
	for {
		conn, err := l.db.Conn(ctx)
		if err != nil {
			return nil, nil, err
		}
		waiting, cancel := context.WithTimeout(ctx, patience)
		end, err := l.turn.wait(waiting)
		cancel()
		if err == nil {
			return conn, end, nil
		}
		conn.Close()
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
	}
}

// write calls f in a transaction, when it is this writer's turn. It returns how
// long that took.
func (l *Logs) write(ctx context.Context, checkpoint int, f func(tx *sql.Tx) error) (took time.Duration, err error) {
	conn, end, err := l.connTurn(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer end()
	start := time.Now()
	if _, err := conn.ExecContext(ctx, l.settings(checkpoint)); err != nil {
		return 0, err
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return 0, err
	}
	err = tx.Commit()
	return time.Since(start), err
}

// Append implements [apilog.Store], in one transaction.
func (l *Logs) Append(ctx context.Context, entries []apilog.Entry) error {
	return wrapLogs("append log entries", l.append(ctx, entries))
}

func (l *Logs) append(ctx context.Context, entries []apilog.Entry) error {
	for i := range entries {
		if err := logs.Check(&entries[i]); err != nil {
			return err
		}
	}
	if len(entries) == 0 {
		return ctx.Err()
	}
	parameters := make([]string, len(logs.Columns))
	for i := range parameters {
		parameters[i] = fmt.Sprint("?", i+1)
	}
	query := "INSERT INTO " + l.table.Quoted("") + " (" + strings.Join(logs.Columns, ", ") +
		") VALUES (" + strings.Join(parameters, ", ") + ") ON CONFLICT (at, id) DO NOTHING"
	_, err := l.write(ctx, forAppend, func(tx *sql.Tx) error {
		insert, err := tx.PrepareContext(ctx, query)
		if err != nil {
			return err
		}
		defer insert.Close()
		for i := range entries {
			if _, err := insert.ExecContext(ctx, logsDialect.Values(&entries[i])...); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// List implements [apilog.Store].
func (l *Logs) List(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, apilog.ReadTimeout)
	defer cancel()
	list, err := l.list(ctx, q)
	if err != nil {
		err = cmp.Or(ctx.Err(), err) // the driver may say that it was interrupted
	}
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
	// Only the first step of a statement ends with its context. Here it finds all
	// rows.
	rows, err := l.db.QueryContext(ctx, "WITH page AS MATERIALIZED ("+s.SQL+") SELECT * FROM page ORDER BY at DESC, id DESC",
		s.Args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []apilog.Entry
	for rows.Next() {
		var row logs.Row
		var micros int64
		if err := rows.Scan(row.Dest(&micros)...); err != nil {
			return nil, err
		}
		list = append(list, row.Entry(time.UnixMicro(micros)))
	}
	return list, rows.Err()
}

// position returns the time of the entry q.After.
func (l *Logs) position(ctx context.Context, q apilog.Query) (time.Time, error) {
	if at, ok := apilog.TimeOf(q.After); ok {
		return at, nil
	}
	var micros int64
	err := l.db.QueryRowContext(ctx, "SELECT at FROM "+l.table.Quoted("")+` WHERE id = ?1
		AND (length(id) <> 20 OR id GLOB '*[^0-9a-v]*') -- as the index has it
		AND (owner = ?2 OR ?2 = '') LIMIT 1`, q.After, q.Owner).Scan(&micros)
	if errors.Is(err, sql.ErrNoRows) {
		err = logs.ErrAfter
	}
	return time.UnixMicro(micros), err
}

// Histogram implements [apilog.Store].
func (l *Logs) Histogram(ctx context.Context, q apilog.Query, step time.Duration) ([]apilog.Bucket, error) {
	ctx, cancel := context.WithTimeout(ctx, apilog.ReadTimeout)
	defer cancel()
	buckets, err := l.histogram(ctx, q, step)
	if err != nil {
		err = cmp.Or(ctx.Err(), err)
	}
	return buckets, wrapLogs("count log entries", err)
}

func (l *Logs) histogram(ctx context.Context, q apilog.Query, step time.Duration) ([]apilog.Bucket, error) {
	buckets, err := apilog.Buckets(q, step)
	if err != nil || len(buckets) == 0 {
		return buckets, cmp.Or(err, ctx.Err())
	}
	tx, err := l.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // so that all of it is of one moment
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	count := func(i int) logs.Select {
		part := q
		part.From = buckets[i].Start
		if i+1 < len(buckets) {
			part.To = buckets[i+1].Start
		}
		return logsDialect.Bucket(l.table.Quoted(""), part)
	}
	// One for each bucket: GROUP BY sorts all rows, and takes three times as long.
	statement, err := tx.PrepareContext(ctx, count(0).SQL)
	if err != nil {
		return nil, err
	}
	defer statement.Close()
	for i := range buckets {
		b := &buckets[i]
		err := statement.QueryRowContext(ctx, count(i).Args...).Scan(&b.Requests, &b.ClientErrors, &b.ServerErrors)
		if err != nil {
			return nil, err
		}
	}
	return buckets, nil
}

// DeleteBefore implements [apilog.Store]. It deletes in slices, so that a writer
// waits for a fraction of a second only.
func (l *Logs) DeleteBefore(ctx context.Context, t time.Time) (int64, error) {
	n, err := l.delete(ctx, "at < ?1", t.UnixMicro())
	return n, wrapLogs("delete old log entries", err)
}

// DeleteOwner implements [apilog.Store]. It deletes in slices.
func (l *Logs) DeleteOwner(ctx context.Context, owner string) (int64, error) {
	if owner == "" {
		return 0, wrapLogs("delete the log entries of an owner", errors.New("the owner is empty"))
	}
	n, err := l.delete(ctx, "owner = ?1", owner)
	return n, wrapLogs("delete the log entries of an owner", err)
}

const (
	firstSlice = 100                   // entries in the first transaction
	sliceTime  = 20 * time.Millisecond // that a transaction should take
)

// delete deletes the entries for which a condition on ?1 holds, oldest first.
func (l *Logs) delete(ctx context.Context, condition string, arg any) (deleted int64, err error) {
	table := l.table.Quoted("")
	remove := "DELETE FROM " + table + " WHERE (at, id) IN (SELECT at, id FROM " + table +
		" WHERE " + condition + " ORDER BY at, id LIMIT ?2)"
	left := "SELECT EXISTS (SELECT 1 FROM " + table + " WHERE " + condition + ")"
	// Else the first slice writes back what others have written, and they wait.
	if _, err := l.db.ExecContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
		return 0, err
	}
	for slice := firstSlice; ; {
		var n int64
		took, err := l.write(ctx, forDelete, func(tx *sql.Tx) error {
			result, err := tx.ExecContext(ctx, remove, arg, slice)
			if err != nil {
				return err
			}
			if n, err = result.RowsAffected(); err != nil || n > 0 {
				return err
			}
			var prevented bool // by a trigger
			err = tx.QueryRowContext(ctx, left, arg).Scan(&prevented)
			if prevented {
				err = errors.New("the database deleted nothing, and reported no error")
			}
			return err
		})
		if err != nil || n == 0 {
			return deleted, err
		}
		deleted += n
		if took < sliceTime {
			slice = min(slice*3/2, 10_000)
		} else {
			slice = max(slice/2, 10)
		}
		select { // for other processes, whose turn is not known here
		case <-time.After(took):
		case <-ctx.Done():
			return deleted, ctx.Err()
		}
	}
}
