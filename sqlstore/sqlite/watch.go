package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/sqlstore/internal/records"
)

const (
	// pollInterval is how often Watch looks whether anybody has changed the
	// file. It costs some microseconds.
	pollInterval = 200 * time.Millisecond

	// retryInterval is how long it waits after a failure.
	retryInterval = time.Second

	// maxEvents is how many events Watch reads at once. If there are more, it
	// tells caches to discard all copies instead.
	maxEvents = 10_000
)

// Watch implements [auth.Watcher]. Watching, above, says what it reports and
// when. Each call has its own connection to the file, which is not in the pool
// of the *sql.DB. If the tables or their triggers are missing, Watch logs why
// and tries again. notify must not change the Store.
//
// Watch returns the error of ctx when ctx is done, and another error once the
// Store is closed.
func (s *Store) Watch(ctx context.Context, notify func(auth.Change)) error {
	err := s.keys.Watchers.Run(ctx, notify, s.watch)
	return fmt.Errorf("%s: watch: %w", dialect.Package, err)
}

func (s *Store) watch(ctx context.Context, notify func(auth.Change)) {
	logger := s.keys.Logger.With("table", s.keys.Table.Name)
	last := ""
	for {
		started, err := s.follow(ctx, notify, logger)
		if ctx.Err() != nil {
			return
		}
		if text := err.Error(); started || text != last { // not each second
			logger.Warn("sqlstore/sqlite: not watching for changes", "error", err, "retry", retryInterval)
			last = text
		}
		select {
		case <-time.After(retryInterval):
		case <-ctx.Done():
			return
		}
	}
}

// follow reports what is written to the file until that fails or ctx is done. It
// returns whether it reported WatchStarted, and why it ended.
func (s *Store) follow(ctx context.Context, notify func(auth.Change), logger *slog.Logger) (started bool, err error) {
	f, err := s.openFeed(ctx)
	if err != nil {
		return false, err
	}
	defer f.close()
	if _, err := f.poll(ctx); err != nil {
		return false, err
	}
	notify(auth.Change{Kind: auth.WatchStarted})
	defer notify(auth.Change{Kind: auth.WatchLost})
	logger.Debug("sqlstore/sqlite: watching for changes")
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return true, ctx.Err()
		}
		hashes, err := f.poll(ctx)
		switch {
		case errors.Is(err, errGap):
			notify(auth.Change{Kind: auth.WatchLost})
			notify(auth.Change{Kind: auth.WatchStarted})
		case err != nil:
			return true, err
		}
		for _, hash := range hashes {
			notify(auth.Change{Kind: auth.RecordChanged, Hash: hash})
		}
	}
}

// A feed reads the events that were written since the last poll.
type feed struct {
	db    *sql.DB
	conn  *sql.Conn
	table records.Table
	path  string
	file  os.FileInfo // of the database that the Store uses

	begun   bool
	version int64 // PRAGMA data_version, which changes with each commit of another connection
	schema  int64 // PRAGMA schema_version
	last    int64 // the number of the last event
}

func (s *Store) openFeed(ctx context.Context) (*feed, error) {
	db, err := sql.Open("sqlite", dataSource(s.path, url.Values{
		"_pragma": {"busy_timeout(5000)", "query_only(1)"},
		"mode":    {"rw"}, // a file that is gone is not created
	}))
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		db.Close()
		return nil, err
	}
	return &feed{db: db, conn: conn, table: s.keys.Table, path: s.path, file: s.file}, nil
}

func (f *feed) close() {
	f.conn.Close()
	f.db.Close()
}

var (
	// errGap means that events are missing, or are too many.
	errGap = errors.New("the events have a gap")

	errReplaced = errors.New("the file was removed or replaced; open the database again")
)

// poll returns the hashes that the new events name.
func (f *feed) poll(ctx context.Context) (hashes []auth.Hash, err error) {
	if file, err := os.Stat(f.path); err != nil || !os.SameFile(file, f.file) {
		return nil, errReplaced
	}
	var version int64
	if err := f.conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version); err != nil {
		return nil, err
	}
	if f.begun && version == f.version {
		return nil, nil
	}
	tx, err := f.conn.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // so that all of it is of one moment
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	schema := f.schema
	if err := f.checkSchema(ctx, tx); err != nil {
		return nil, err
	}
	var newest int64
	err = tx.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?1",
		f.table.Name+"_events").Scan(&newest)
	if err != nil {
		return nil, err
	}
	since := f.last
	if f.begun {
		hashes, err = f.read(ctx, tx, since, newest)
		if err == nil && f.schema != schema {
			err = errGap // a trigger may have been away for a moment
		}
	}
	if err == nil || errors.Is(err, errGap) {
		f.begun, f.version, f.last = true, version, newest
	}
	return hashes, err
}

func (f *feed) read(ctx context.Context, tx *sql.Tx, since, newest int64) (hashes []auth.Hash, err error) {
	if newest == since {
		return nil, nil
	}
	if newest-since > maxEvents {
		return nil, errGap
	}
	rows, err := tx.QueryContext(ctx, `SELECT before ->> 'hash', after ->> 'hash',
			kind = 'created' AND made_by = 'sql:' OR before ->> 'id' <> after ->> 'id'
		FROM `+f.table.Quoted("_events")+` WHERE id > ?1`, since)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for n := since; ; n++ {
		if !rows.Next() {
			if err := rows.Err(); err != nil || n == newest {
				return hashes, err
			}
			return nil, errGap
		}
		var texts [2]sql.NullString
		var replaces sql.NullBool // perhaps another row, for which SQLite calls no trigger
		if err := rows.Scan(&texts[0], &texts[1], &replaces); err != nil {
			return nil, err
		}
		if replaces.Bool {
			return nil, errGap
		}
		for i, text := range texts {
			if !text.Valid || i == 1 && text == texts[0] {
				continue
			}
			hash, err := auth.ParseHash(text.String)
			if err != nil {
				return nil, errGap // the hash of a row that no lookup can read
			}
			hashes = append(hashes, hash)
		}
	}
}

// checkSchema returns an error if the triggers that write events are missing.
func (f *feed) checkSchema(ctx context.Context, tx *sql.Tx) error {
	var schema int64
	if err := tx.QueryRowContext(ctx, "PRAGMA schema_version").Scan(&schema); err != nil {
		return err
	}
	if f.begun && schema == f.schema {
		return nil
	}
	var triggers int
	err := tx.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?1
		AND name IN (?1 || '_record_insert', ?1 || '_record_delete', ?1 || '_record_update', ?1 || '_revise')`,
		f.table.Name).Scan(&triggers)
	if err == nil && triggers != 4 {
		err = fmt.Errorf("%d triggers of the table record changes, not 4: call Migrate", triggers)
	}
	f.schema = schema
	return err
}
