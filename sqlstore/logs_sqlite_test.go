package sqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/sqlstore/sqlite"
	modernc "modernc.org/sqlite"
)

// logsOn returns migrated Logs in a database.
func logsOn(t testing.TB, db *sql.DB) *sqlite.Logs {
	t.Helper()
	l, err := sqlite.NewLogs(db, &sqlite.LogsOptions{Logger: quiet})
	must(t, err)
	must(t, l.Migrate(t.Context()))
	return l
}

func logsFile(t testing.TB) string { return filepath.Join(t.TempDir(), "logs.db") }

var logsEpoch = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// logEntries returns n entries, a second apart, oldest first.
func logEntries(n int) []apilog.Entry {
	list := make([]apilog.Entry, n)
	for i := range list {
		at := logsEpoch.Add(time.Duration(i) * time.Second)
		list[i] = apilog.Entry{ID: apilog.NewID(at), Time: at, KeyID: "key_1", Owner: "org_1", Method: "GET", Path: "/", Status: 200}
	}
	return list
}

// wantEntries fails unless the store holds exactly these entries.
func wantEntries(t testing.TB, l apilog.Store, want []apilog.Entry) {
	t.Helper()
	got, err := l.List(context.Background(), apilog.Query{Limit: len(want) + 1})
	must(t, err)
	slices.Reverse(got)
	if !slices.Equal(got, want) {
		t.Errorf("stored are %d entries, want these %d", len(got), len(want))
	}
}

// The settings that the store needs are enough: writers of several pools do not
// fail because another has written.
func TestSQLiteLogsDeferred(t *testing.T) {
	path := logsFile(t)
	list := logEntries(80)
	first := logsOn(t, openDeferred(t, path))
	var group sync.WaitGroup
	for part := range slices.Chunk(list, 20) {
		l := logsOn(t, openDeferred(t, path))
		group.Go(func() {
			for i := range part {
				if err := l.Append(t.Context(), part[i:i+1]); err != nil {
					t.Errorf("Append: %v", err)
				}
				if _, err := l.DeleteOwner(t.Context(), "org_2"); err != nil {
					t.Errorf("DeleteOwner: %v", err)
				}
			}
		})
	}
	group.Wait()
	wantEntries(t, first, list)
}

func TestSQLiteLogsRefused(t *testing.T) {
	good := openSQLite(t, logsFile(t))
	lax, err := sql.Open("sqlite", "file:"+logsFile(t))
	must(t, err)
	defer lax.Close()
	for name, test := range map[string]struct {
		db    *sql.DB
		table string
		want  string
	}{
		"no database":      {nil, "", "nil"},
		"no write-ahead":   {lax, "", "journal_mode"},
		"a name to escape": {good, `a"b`, "not the name of a table"},
		"a schema":         {good, "main.logs", "not the name of a table"},
		"a long name":      {good, strings.Repeat("n", 49), "not the name of a table"},
	} {
		if _, err := sqlite.NewLogs(test.db, &sqlite.LogsOptions{Table: test.table}); err == nil ||
			!strings.Contains(err.Error(), test.want) {
			t.Errorf("NewLogs with %s: %v, want an error with %q", name, err, test.want)
		}
	}
}

// Ten instances migrate together. Each can append then.
func TestSQLiteLogsMigrateConcurrent(t *testing.T) {
	path := logsFile(t)
	list := logEntries(10)
	stores := make([]*sqlite.Logs, len(list))
	for i := range stores {
		var err error
		stores[i], err = sqlite.NewLogs(openSQLite(t, path), &sqlite.LogsOptions{Logger: quiet})
		must(t, err)
	}
	var group sync.WaitGroup
	for i, l := range stores {
		group.Go(func() {
			for range 2 {
				if err := l.Migrate(t.Context()); err != nil {
					t.Errorf("Migrate: %v", err)
				}
			}
			if err := l.Append(t.Context(), list[i:i+1]); err != nil {
				t.Errorf("Append: %v", err)
			}
		})
	}
	group.Wait()
	wantEntries(t, stores[0], list)
}

// A migration tool may have made the table. One with the same name and other
// columns is left alone.
func TestSQLiteLogsMigrateAdopts(t *testing.T) {
	text, err := fs.ReadFile(sqlite.LogsMigrations, "00001_api_logs.up.sql")
	must(t, err)
	db := openSQLite(t, logsFile(t))
	execute(t, db, string(text))
	l := logsOn(t, db)
	must(t, l.Append(t.Context(), logEntries(3)))

	db = openSQLite(t, logsFile(t))
	execute(t, db, strings.Replace(string(text), "STRICT, ", "", 1))
	l, err = sqlite.NewLogs(db, &sqlite.LogsOptions{Logger: quiet})
	must(t, err)
	if err := l.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "choose another LogsOptions.Table: ") {
		t.Errorf("Migrate of another table: %v, want an error that says so", err)
	}
}

// Keys and logs can share a file, and logs can have several tables. Entries are
// no changes of keys.
func TestSQLiteLogsShareFile(t *testing.T) {
	path := logsFile(t)
	keys, db := newSQLite(t, path)
	first := logsOn(t, db)
	second, err := sqlite.NewLogs(db, &sqlite.LogsOptions{Table: "other_logs", Logger: quiet})
	must(t, err)
	must(t, second.Migrate(t.Context()))
	r := inserted(t, keys)
	w := watch(t, keys)
	list := logEntries(50)
	for i, e := range list {
		must(t, []*sqlite.Logs{first, second}[i%2].Append(t.Context(), []apilog.Entry{e}))
	}
	must(t, keys.Update(t.Context(), revoked(r), nil))
	for {
		c := w.next()
		if c.Kind == change(r.Hash).Kind {
			break
		}
		t.Errorf("reported %v, want nothing but the revocation", c)
	}
	if _, err := first.DeleteOwner(t.Context(), "org_1"); err != nil {
		t.Errorf("DeleteOwner: %v", err)
	}
	wantEntries(t, first, nil)
	if n := countRows(t, db, "other_logs"); n != 25 {
		t.Errorf("the other table has %d entries, want 25", n)
	}
}

func countRows(t testing.TB, db *sql.DB, table string) (n int) {
	t.Helper()
	must(t, db.QueryRow("SELECT count(*) FROM "+table).Scan(&n))
	return n
}

// What SQL writes is listed, counted and deleted. Values of another type are
// refused.
func TestSQLiteLogsWrittenWithSQL(t *testing.T) {
	path := logsFile(t)
	l := logsOn(t, openSQLite(t, path))
	other := openSQLite(t, path)
	const insert = `INSERT INTO api_logs VALUES (?1, ?2, 1500, 'key_1', 'org_1', 'GET', '', '/', 404, '', 0, 0, '', '', '10.0.0.1', 0)`
	execute(t, other, insert, "by hand", logsEpoch.UnixMicro())
	if _, err := other.Exec(insert, "by hand too", "yesterday"); err == nil {
		t.Error("a text is accepted as a time")
	}
	list, err := l.List(t.Context(), apilog.Query{Owner: "org_1"})
	must(t, err)
	if len(list) != 1 || list[0].ID != "by hand" || list[0].Duration != 1500*time.Microsecond {
		t.Errorf("listed are %+v, want the row", list)
	}
	buckets, err := l.Histogram(t.Context(), apilog.Query{From: logsEpoch, To: logsEpoch.Add(time.Hour)}, time.Hour)
	must(t, err)
	if b := buckets[0]; b.Requests != 1 || b.ClientErrors != 1 {
		t.Errorf("counted is %+v, want one client error", b)
	}
	if n, err := l.DeleteOwner(t.Context(), "org_1"); n != 1 || err != nil {
		t.Errorf("DeleteOwner: %d, %v, want 1", n, err)
	}
}

// If the database refuses one entry, none is stored. The error is that of the
// database, and has no text of an entry.
func TestSQLiteLogsAllOrNothing(t *testing.T) {
	db := openSQLite(t, logsFile(t))
	l := logsOn(t, db)
	execute(t, db, `CREATE TRIGGER guard BEFORE INSERT ON api_logs WHEN new.path = '/secret' BEGIN SELECT RAISE(ABORT, 'refused'); END;
		CREATE UNIQUE INDEX one_request ON api_logs (request_id) WHERE request_id <> ''`)
	for name, spoil := range map[string]func(list []apilog.Entry){
		"a trigger":        func(list []apilog.Entry) { list[7].Path = "/secret" },
		"another index":    func(list []apilog.Entry) { list[3].RequestID, list[7].RequestID = "secret", "secret" },
		"a NUL":            func(list []apilog.Entry) { list[7].Path = "/secret\x00" },
		"no UTF-8":         func(list []apilog.Entry) { list[7].UserAgent = "secret\xff" },
		"an ID with a NUL": func(list []apilog.Entry) { list[7].ID = "secret\x00" },
	} {
		list := logEntries(10)
		spoil(list)
		err := l.Append(t.Context(), list)
		if err == nil {
			t.Errorf("Append succeeds against %s", name)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("Append against %s: the error %q has a text of the entry", name, err)
		}
		wantEntries(t, l, nil)
	}
	list := logEntries(10)
	must(t, l.Append(t.Context(), list))
	wantEntries(t, l, list)
}

// On a full disk an Append fails as a whole, and works again when there is room.
func TestSQLiteLogsDiskFull(t *testing.T) {
	db := openSQLite(t, logsFile(t))
	db.SetMaxOpenConns(1) // max_page_count is per connection
	l := logsOn(t, db)
	execute(t, db, "PRAGMA max_page_count = 60")
	list := logEntries(2000)
	kept := 0
	for ; kept < len(list); kept += 100 {
		if err := l.Append(t.Context(), list[kept:kept+100]); err != nil {
			break
		}
	}
	if kept == 0 || kept == len(list) {
		t.Fatalf("%d entries were stored before the disk was full", kept)
	}
	wantEntries(t, l, list[:kept])
	execute(t, db, "PRAGMA max_page_count = 100000")
	must(t, l.Append(t.Context(), list[kept:]))
	wantEntries(t, l, list)
}

func TestSQLiteLogsRestart(t *testing.T) {
	path := logsFile(t)
	db := openSQLite(t, path)
	list := logEntries(500)
	must(t, logsOn(t, db).Append(t.Context(), list))
	must(t, db.Close())
	l := logsOn(t, openSQLite(t, path))
	wantEntries(t, l, list)
	must(t, l.Append(t.Context(), list)) // they are there already
	wantEntries(t, l, list)
}

// While another process holds the write lock, entries are read, and a writer
// waits as long as its context allows.
func TestSQLiteLogsLockedByAnother(t *testing.T) {
	path := logsFile(t)
	db := openSQLite(t, path)
	l := logsOn(t, db)
	list := logEntries(10)
	must(t, l.Append(t.Context(), list[:5]))
	tx, err := openSQLite(t, path).Begin()
	must(t, err)
	defer tx.Rollback()
	wantEntries(t, l, list[:5])
	for name, write := range map[string]func(ctx context.Context) error{
		"Append":       func(ctx context.Context) error { return l.Append(ctx, list[5:]) },
		"DeleteBefore": func(ctx context.Context) error { _, err := l.DeleteBefore(ctx, list[9].Time); return err },
		"DeleteOwner":  func(ctx context.Context) error { _, err := l.DeleteOwner(ctx, "org_1"); return err },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- write(ctx) }()
		await(t, name+" to begin", func() bool { return db.Stats().InUse > 0 })
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s whose context ends: %v, want context.Canceled", name, err)
		}
	}
	must(t, tx.Rollback())
	must(t, l.Append(t.Context(), list[5:]))
	wantEntries(t, l, list)
}

// A read that takes too long ends with its context, also after it has found a
// row, and after ReadTimeout at the latest.
func TestSQLiteLogsReadEnds(t *testing.T) {
	db := openSQLite(t, logsFile(t))
	l := logsOn(t, db)
	list := logEntries(2)
	list[0].RequestID = "slow"
	must(t, l.Append(t.Context(), list))
	execute(t, db, `ALTER TABLE api_logs RENAME TO stored;
		CREATE VIEW api_logs AS SELECT id, at, duration_us, key_id, owner, method, route, path,
			CASE WHEN request_id = 'slow' THEN (WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n)
				ELSE status END AS status,
			code, request_bytes, response_bytes, request_id, user_agent, remote_addr, lost FROM stored`)
	if got, err := l.List(t.Context(), apilog.Query{Limit: 1}); len(got) != 1 || err != nil {
		t.Fatalf("List of the newest: %v, %v, want one entry", got, err)
	}
	query := apilog.Query{From: logsEpoch, To: logsEpoch.Add(time.Hour)}
	for name, read := range map[string]func(ctx context.Context) error{
		"List":      func(ctx context.Context) error { _, err := l.List(ctx, apilog.Query{}); return err },
		"Histogram": func(ctx context.Context) error { _, err := l.Histogram(ctx, query, time.Minute); return err },
	} {
		canceled, cancel := context.WithCancel(t.Context())
		for what, test := range map[string]struct {
			ctx  context.Context
			want error
		}{"its context": {canceled, context.Canceled}, "ReadTimeout": {context.Background(), context.DeadlineExceeded}} {
			done := make(chan error, 1)
			go func() { done <- read(test.ctx) }()
			if test.ctx == canceled {
				await(t, name+" to begin", func() bool { return db.Stats().InUse > 0 })
				cancel()
			}
			select {
			case err := <-done:
				if !errors.Is(err, test.want) {
					t.Errorf("%s that ends with %s: %v, want %v", name, what, err, test.want)
				}
			case <-time.After(patience):
				t.Fatalf("%s does not end with %s", name, what)
			}
		}
		cancel()
	}
}

// Each slice is a transaction of its own. What is appended in between stays.
func TestSQLiteLogsDeleteInSlices(t *testing.T) {
	old := logEntries(1000)
	for name, remove := range map[string]func(l *sqlite.Logs) (int64, error){
		"DeleteBefore": func(l *sqlite.Logs) (int64, error) {
			return l.DeleteBefore(context.Background(), old[len(old)-1].Time.Add(time.Second))
		},
		"DeleteOwner": func(l *sqlite.Logs) (int64, error) { return l.DeleteOwner(context.Background(), "org_1") },
	} {
		t.Run(name, func(t *testing.T) {
			path := logsFile(t)
			l := logsOn(t, openSQLite(t, path))
			must(t, l.Append(t.Context(), old))
			trace, db := openTraced(t, path)
			deleting := logsOn(t, db)
			trace.reset()

			var added []apilog.Entry
			stop := make(chan struct{})
			var group sync.WaitGroup
			group.Go(func() {
				for i := 0; ; i++ {
					at := logsEpoch.AddDate(0, 1, 0).Add(time.Duration(i) * time.Second)
					e := apilog.Entry{ID: apilog.NewID(at), Time: at, Owner: "org_2"}
					if err := l.Append(context.Background(), []apilog.Entry{e}); err != nil {
						t.Errorf("Append while entries are deleted: %v", err)
						return
					}
					added = append(added, e)
					select {
					case <-stop:
						return
					default:
					}
				}
			})
			n, err := remove(deleting)
			close(stop)
			group.Wait()
			if n != int64(len(old)) || err != nil {
				t.Errorf("deleted %d entries, error %v, want %d", n, err, len(old))
			}
			wantEntries(t, l, added)

			slices, open := 0, false
			for _, s := range trace.all() {
				switch {
				case s.query == "BEGIN":
					open = true
				case s.query == "COMMIT":
					open = false
				case strings.HasPrefix(s.query, "DELETE"):
					if !open {
						t.Error("two slices are in one transaction")
					}
					open = false
					if slices++; s.rows > 500 {
						t.Errorf("a slice of %d entries is too large", s.rows)
					}
				}
			}
			if slices < 4 {
				t.Errorf("deleted in %d slices, want more", slices)
			}
		})
	}
}

// A failure in the middle says how many entries were deleted.
func TestSQLiteLogsDeleteFails(t *testing.T) {
	for name, test := range map[string]struct{ action, want string }{
		"an error": {"RAISE(ABORT, 'refused')", "refused"},
		"nothing":  {"RAISE(IGNORE)", "deleted nothing"},
	} {
		db := openSQLite(t, logsFile(t))
		l := logsOn(t, db)
		list := logEntries(400)
		list[399].Code = "KEEP"
		must(t, l.Append(t.Context(), list))
		execute(t, db, "CREATE TRIGGER guard BEFORE DELETE ON api_logs WHEN old.code = 'KEEP' BEGIN SELECT "+test.action+"; END")
		for what, remove := range map[string]func() (int64, error){
			"DeleteBefore": func() (int64, error) { return l.DeleteBefore(t.Context(), logsEpoch.AddDate(1, 0, 0)) },
			"DeleteOwner":  func() (int64, error) { return l.DeleteOwner(t.Context(), "org_1") },
		} {
			before := countRows(t, db, "api_logs")
			n, err := remove()
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s with a trigger that does %s: %v, want an error with %q", what, name, err, test.want)
			}
			if left := countRows(t, db, "api_logs"); int64(before-left) != n {
				t.Errorf("%s with a trigger that does %s: returned %d, want %d", what, name, n, before-left)
			}
			if countRows(t, db, "api_logs") == 400 {
				t.Errorf("%s with a trigger that does %s: deleted nothing before", what, name)
			}
		}
	}
}

// An index finds the newest entries of a key, of an owner and of all, and what
// follows them. A histogram reads no row of the table.
func TestSQLiteLogsPlans(t *testing.T) {
	const sorted = "USE TEMP B-TREE"
	trace, db := openTraced(t, logsFile(t))
	l := logsOn(t, db)
	after := apilog.NewID(logsEpoch)
	from, to := logsEpoch, logsEpoch.Add(time.Hour)
	for _, test := range []struct {
		histogram bool
		query     apilog.Query
		want      string
	}{
		{false, apilog.Query{}, "SCAN api_logs\n"},
		{false, apilog.Query{Owner: "o"}, "USING INDEX api_logs_owner_idx (owner=?)"},
		{false, apilog.Query{KeyID: "k"}, "USING INDEX api_logs_key_idx (key_id=?)"},
		{false, apilog.Query{Owner: "o", KeyID: "k"}, "USING INDEX api_logs_key_idx (key_id=?)"},
		{false, apilog.Query{After: after}, "USING PRIMARY KEY (at<?)"},
		{false, apilog.Query{Owner: "o", After: after}, "USING INDEX api_logs_owner_idx (owner=? AND at<?)"},
		{false, apilog.Query{Owner: "o", KeyID: "k", After: after}, "USING INDEX api_logs_key_idx (key_id=? AND at<?)"},
		{false, apilog.Query{Owner: "o", From: from, To: to.AddDate(1, 0, 0), After: after},
			"USING INDEX api_logs_owner_idx (owner=? AND at>? AND at<?)"},
		{false, apilog.Query{Owner: "o", From: from, To: to}, "USING INDEX api_logs_owner_idx (owner=? AND at>? AND at<?)"},
		{false, apilog.Query{After: "foreign"}, "USING INDEX api_logs_id_idx (id=?)"},
		{true, apilog.Query{From: from, To: to}, "USING PRIMARY KEY (at>? AND at<?)"},
		{true, apilog.Query{Owner: "o", From: from, To: to}, "USING COVERING INDEX api_logs_owner_idx (owner=? AND at>? AND at<?)"},
		{true, apilog.Query{Owner: "o", KeyID: "k", StatusFrom: 400, From: from, To: to},
			"USING COVERING INDEX api_logs_key_idx (key_id=? AND at>? AND at<?)"},
	} {
		trace.reset()
		if test.histogram {
			_, err := l.Histogram(t.Context(), test.query, time.Hour)
			must(t, err)
		} else if _, err := l.List(t.Context(), test.query); err != nil && !errors.Is(err, apilog.ErrInvalidQuery) {
			t.Fatal(err)
		}
		statements := trace.all()
		plan := explain(t, db, statements)
		if !strings.Contains(plan, test.want) {
			t.Errorf("the plan of %+v is\n%s\nwant one with %q", test.query, plan, test.want)
		}
		if strings.Contains(plan, sorted) {
			t.Errorf("the plan of %+v sorts:\n%s", test.query, plan)
		}
		// Of two bounds the planner may take To, and read all that After skips.
		if query := statements[0].query; test.query.After != "" && strings.Contains(query, "at < ") {
			t.Errorf("the statement of %+v has two upper bounds: %s", test.query, query)
		}
	}
	trace.reset()
	_, err := l.DeleteOwner(t.Context(), "o")
	must(t, err)
	_, err = l.DeleteBefore(t.Context(), to)
	must(t, err)
	plan := explain(t, db, trace.all())
	for _, want := range []string{
		"SEARCH api_logs USING PRIMARY KEY (at=? AND id=?)",
		"SEARCH api_logs USING COVERING INDEX api_logs_owner_idx (owner=?)",
		"SEARCH api_logs USING PRIMARY KEY (at<?)",
	} {
		if !strings.Contains(plan, want) {
			t.Errorf("the plans of the deletions are\n%s\nwant one with %q", plan, want)
		}
	}
}

var parameter = regexp.MustCompile(`\?[0-9]+`)

// explain returns the plans of the statements that name the table.
func explain(t *testing.T, db *sql.DB, statements []statement) string {
	t.Helper()
	var plan strings.Builder
	for _, s := range statements {
		if !strings.Contains(s.query, "api_logs") {
			continue
		}
		args := make([]any, len(parameter.FindAllString(s.query, -1)))
		rows, err := db.Query("EXPLAIN QUERY PLAN "+s.query, args...)
		must(t, err)
		for rows.Next() {
			var id, parent, unused int
			var detail string
			must(t, rows.Scan(&id, &parent, &unused, &detail))
			fmt.Fprintln(&plan, detail)
		}
		must(t, rows.Close())
	}
	return plan.String()
}

// A statement is one that was executed, and how many rows it changed.
type statement struct {
	query string
	rows  int64
}

// A trace is a driver.Connector that keeps the statements.
type trace struct {
	name string

	mu         sync.Mutex
	statements []statement
}

// openTraced opens an SQLite database, as sqlite.Open does.
func openTraced(t testing.TB, path string) (*trace, *sql.DB) {
	t.Helper()
	tr := &trace{name: requiredSettings(path) + "&_txlock=immediate"}
	db := sql.OpenDB(tr)
	t.Cleanup(func() { db.Close() })
	return tr, db
}

func (tr *trace) Driver() driver.Driver { return tr }

func (tr *trace) Connect(context.Context) (driver.Conn, error) { return tr.Open(tr.name) }

func (tr *trace) Open(name string) (driver.Conn, error) {
	c, err := new(modernc.Driver).Open(name)
	return tracedConn{c, tr}, err
}

func (tr *trace) add(query string, rows int64) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.statements = append(tr.statements, statement{query, rows})
}

func (tr *trace) reset() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.statements = nil
}

func (tr *trace) all() []statement {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return slices.Clone(tr.statements)
}

type tracedConn struct {
	driver.Conn
	trace *trace
}

func (c tracedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.trace.add(query, 0)
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c tracedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	c.trace.add(query, 0)
	return c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
}

func (c tracedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	result, err := c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	if err != nil {
		return nil, err
	}
	n, err := result.RowsAffected()
	c.trace.add(query, n)
	return result, err
}

func (c tracedConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	c.trace.add("BEGIN", 0)
	tx, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
	return tracedTx{tx, c.trace}, err
}

type tracedTx struct {
	driver.Tx
	trace *trace
}

func (tx tracedTx) Commit() error {
	err := tx.Tx.Commit()
	tx.trace.add("COMMIT", 0)
	return err
}

// Those who read hold all connections of the logs. Keys in the same file are
// written nevertheless.
func TestSQLiteLogsPoolIsBusy(t *testing.T) {
	path := logsFile(t)
	keys, _ := newSQLite(t, path)
	db := openSQLite(t, path)
	l := logsOn(t, db)
	db.SetMaxOpenConns(1)
	reading, err := db.Conn(t.Context())
	must(t, err)
	appended := make(chan error)
	go func() { appended <- l.Append(t.Context(), logEntries(1)) }()
	for db.Stats().WaitCount == 0 {
		time.Sleep(time.Millisecond)
	}
	r := inserted(t, keys)
	must(t, keys.Update(t.Context(), revoked(r), nil))
	select {
	case err := <-appended:
		t.Fatalf("Append returned without a connection: %v", err)
	default:
	}
	must(t, reading.Close())
	must(t, <-appended)
}

// Keys and logs share the only connection. Neither keeps the other from its turn.
func TestSQLiteLogsOneConnection(t *testing.T) {
	keys, db := newSQLite(t, logsFile(t))
	l := logsOn(t, db)
	db.SetMaxOpenConns(1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	errs := make(chan error)
	for i := range 4 {
		go func() {
			for range 20 {
				if i%2 == 0 {
					if err := keys.Insert(ctx, newRecord()); err != nil {
						errs <- err
						return
					}
				} else if err := l.Append(ctx, logEntries(1)); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 4 {
		must(t, <-errs)
	}
}

// All connections have appended. Their caches are bounded together.
func TestSQLiteLogsCache(t *testing.T) {
	for _, c := range []struct{ conns, want int }{{0, 16 << 10}, {1, 128 << 10}, {4, 128 << 10}, {64, 8 << 10}} {
		db := openSQLite(t, logsFile(t))
		l := logsOn(t, db)
		db.SetMaxOpenConns(c.conns)
		db.SetMaxIdleConns(1) // that which appends
		must(t, l.Append(t.Context(), logEntries(1)))
		var got int
		must(t, db.QueryRowContext(t.Context(), "PRAGMA cache_size").Scan(&got))
		if got != -c.want {
			t.Errorf("%d connections: the cache size is %d, want %d KiB", c.conns, got, -c.want)
		}
	}
}
