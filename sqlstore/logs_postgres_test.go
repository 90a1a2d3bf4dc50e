package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/jackc/pgx/v5/stdlib"
)

const day = 24 * time.Hour

// today is when the current day began in UTC. There are partitions from the day
// before until eight days later.
func today() time.Time { return time.Now().UTC().Truncate(day) }

// entriesAt returns n entries, of which the first is of time t and each further
// one of a microsecond later.
func entriesAt(t time.Time, n int, change ...func(e *apilog.Entry)) []apilog.Entry {
	list := make([]apilog.Entry, n)
	for i := range list {
		at := t.Add(time.Duration(i) * time.Microsecond)
		list[i] = apilog.Entry{ID: apilog.NewID(at), Time: at, KeyID: "key_1", Owner: "org_1", Method: "GET", Path: "/",
			Status: 200}
		for _, f := range change {
			f(&list[i])
		}
	}
	return list
}

// allLogs returns all entries, newest first. It reads pages that a slow machine
// can read in the time that a read has.
func allLogs(t *testing.T, l apilog.Store) (all []apilog.Entry) {
	t.Helper()
	q := apilog.Query{Limit: 2000}
	for {
		page, err := l.List(context.Background(), q)
		must(t, err)
		if all = append(all, page...); len(page) < q.Limit {
			return all
		}
		q.After = page[len(page)-1].ID
	}
}

// wantLogs fails unless the store holds exactly these entries.
func wantLogs(t *testing.T, l apilog.Store, want ...apilog.Entry) {
	t.Helper()
	got := allLogs(t, l)
	if len(got) != len(want) {
		t.Errorf("%d entries are stored, want %d", len(got), len(want))
	}
	stored := make(map[string]apilog.Entry)
	for _, e := range got {
		stored[e.ID] = e
	}
	for _, e := range want {
		if stored[e.ID] != e {
			t.Fatalf("stored is %+v, want %+v", stored[e.ID], e)
		}
	}
}

// rowsOf returns how many rows a table has, or -1 if there is no such table.
func rowsOf(t *testing.T, db *sql.DB, table string) (n int) {
	t.Helper()
	var exists bool
	must(t, db.QueryRow("SELECT to_regclass($1) IS NOT NULL", table).Scan(&exists))
	if !exists {
		return -1
	}
	must(t, db.QueryRow("SELECT count(*) FROM "+table).Scan(&n))
	return n
}

// partition returns the name of the partition of a day.
func partition(table string, day time.Time) string { return table + day.UTC().Format("_p20060102") }

// another returns Logs in a table that exists, as another process has them.
func another(t *testing.T, db *sql.DB, table string, logger *slog.Logger) *postgres.Logs {
	t.Helper()
	l, err := postgres.NewLogs(db, &postgres.LogsOptions{Table: table, Logger: logger})
	must(t, err)
	return l
}

// useLogs calls each method that a server needs, but no DeleteOwner.
func useLogs(t *testing.T, l *postgres.Logs) {
	t.Helper()
	list := entriesAt(today(), 3)
	must(t, l.Append(t.Context(), list[:2]))
	must(t, l.Append(t.Context(), list)) // some are there already
	wantLogs(t, l, list...)
	buckets, err := l.Histogram(t.Context(), apilog.Query{Owner: "org_1", From: today(), To: today().Add(day)}, day)
	must(t, err)
	if buckets[0].Requests != 3 {
		t.Errorf("Histogram counts %d, want 3", buckets[0].Requests)
	}
}

func TestPostgresLogsOptions(t *testing.T) {
	db := openPostgres(t, "postgres://127.0.0.1:1/none")
	for _, table := range []string{"1", "a b", `a"`, "a.b.c", strings.Repeat("n", 49), "."} {
		if _, err := postgres.NewLogs(db, &postgres.LogsOptions{Table: table}); err == nil {
			t.Errorf("NewLogs accepts the table %q", table)
		}
	}
	if _, err := postgres.NewLogs(nil, nil); err == nil {
		t.Error("NewLogs accepts a nil *sql.DB")
	}
	if _, err := postgres.NewLogs(db, nil); err != nil {
		t.Errorf("NewLogs without options: %v, want no error, since it does not connect", err)
	}
}

func TestPostgresLogsTableNames(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openPostgres(t, dsn)
	execute(t, db, `CREATE SCHEMA "Odd"; CREATE SCHEMA "it's"`)
	newPostgres(t, dsn, nil) // keys in the same database
	for _, name := range []string{"", "Logs", "select", "Odd.api_logs", "Odd.Table", strings.Repeat("n", 48)} {
		l := another(t, db, name, quiet)
		for range 2 {
			if err := l.Migrate(t.Context()); err != nil {
				t.Errorf("Migrate of %q: %v", name, err)
			}
		}
		useLogs(t, l)
		n, err := l.DeleteBefore(t.Context(), today().Add(day))
		must(t, err)
		if n != 3 {
			t.Errorf("DeleteBefore in %q: %d, want 3", name, n)
		}
	}
}

func TestPostgresLogsMigrate(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(postgres.LogsMigrations, "*")
	must(t, err)
	if !slices.Equal(files, []string{"00001_api_logs.up.sql"}) {
		t.Fatalf("the files are %q", files)
	}
	text, err := fs.ReadFile(postgres.LogsMigrations, files[0])
	must(t, err)
	for _, c := range []struct{ name, before, wantErr string }{
		{"an empty database", "", ""},
		{"the table of a tool", string(text), ""},
		{"the table of a tool with more in it", string(text) + "; ALTER TABLE api_logs ADD note text NOT NULL DEFAULT 'x'", ""},
		{"another table", "CREATE TABLE api_logs (id text)", "the table exists already, but is another than Migrate creates; if it is for something else, choose another LogsOptions.Table: "},
		{"no partitions", "CREATE TABLE api_logs (id text, at timestamptz) PARTITION BY RANGE (at)", "the table exists already, but is another than Migrate creates; if it is for something else, choose another LogsOptions.Table: "},
		{"no index", string(text) + "; DROP INDEX api_logs_key_idx", "api_logs_key_idx"},
		{"no default partition", string(text) + "; DROP TABLE api_logs_default", "api_logs_default"},
		{"a function that anybody may call", string(text) + "; GRANT EXECUTE ON FUNCTION api_logs_expire TO PUBLIC", "api_logs_expire"},
		{"another function", string(text) + "; ALTER FUNCTION api_logs_expire SET search_path = public", "api_logs_expire"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := openPostgres(t, pgtest.DSN(t))
			execute(t, db, c.before)
			l := another(t, db, "", quiet)
			err := l.Migrate(t.Context())
			switch {
			case c.wantErr == "" && err != nil:
				t.Errorf("Migrate: %v", err)
			case c.wantErr == "":
				useLogs(t, l)
			case err == nil || !strings.Contains(err.Error(), c.wantErr):
				t.Errorf("Migrate: %v, want an error with %q", err, c.wantErr)
			}
		})
	}
}

func TestPostgresLogsMigrateConcurrent(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	var instances sync.WaitGroup
	for range 8 {
		l := another(t, openPostgres(t, dsn), "", quiet)
		instances.Go(func() {
			if err := l.Migrate(t.Context()); err != nil {
				t.Errorf("Migrate: %v", err)
			} else if err := l.Append(t.Context(), entriesAt(today(), 5)); err != nil {
				t.Errorf("Append: %v", err)
			}
		})
	}
	instances.Wait()
}

// logsRole creates a role, and returns its name and a pool that connects as it.
func logsRole(t *testing.T, dsn, prefix string) (role string, as *sql.DB) {
	t.Helper()
	role = prefix + strings.Trim(quoteName(dsn), `"`)
	execute(t, openPostgres(t, dsn), `CREATE ROLE "`+role+`" LOGIN`)
	t.Cleanup(func() { execute(t, openPostgres(t, dsn), `DROP OWNED BY "`+role+`" CASCADE; DROP ROLE "`+role+`"`) })
	return role, openPostgres(t, strings.Replace(dsn, "postgres@", role+"@", 1))
}

// A role that may create tables in one schema can migrate.
func TestPostgresLogsOfOrdinaryOwner(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	role, as := logsRole(t, dsn, "owner_")
	execute(t, openPostgres(t, dsn), `CREATE SCHEMA app AUTHORIZATION "`+role+`"`)
	l := another(t, as, "app.api_logs", quiet)
	must(t, l.Migrate(t.Context()))
	useLogs(t, l)
	if n, err := l.DeleteOwner(t.Context(), "org_1"); err != nil || n != 3 {
		t.Errorf("DeleteOwner: %d, %v, want 3", n, err)
	}
}

// The role of a server appends, reads and makes partitions with few rights.
func TestPostgresLogsOfRestrictedRole(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openPostgres(t, dsn)
	_, table := newPostgresLogs(t, db)
	role, as := logsRole(t, dsn, "server_")
	grant := func(what string) { execute(t, db, fmt.Sprintf(what, table, role)) }

	grant(`GRANT SELECT, INSERT ON %s TO %q`)
	var warned logs
	l := another(t, as, table, slog.New(&warned))
	useLogs(t, l)
	if warned.count("permission denied") == 0 {
		t.Error("nothing is logged though no partitions can be made")
	}
	tomorrow := today().Add(day)
	execute(t, db, "DROP TABLE "+partition(table, tomorrow))
	grant(`GRANT EXECUTE ON FUNCTION %s_prepare TO %q`)
	l = another(t, as, table, quiet)
	must(t, l.Append(t.Context(), entriesAt(tomorrow, 2)))
	if n := rowsOf(t, db, partition(table, tomorrow)); n != 2 {
		t.Errorf("the partition that was made has %d rows, want 2", n)
	}
	if n, err := l.DeleteBefore(t.Context(), today().Add(9*day)); code(err) != "42501" { // insufficient_privilege
		t.Errorf("DeleteBefore without a right: %d, %v, want 42501", n, err)
	}
	if n, err := l.DeleteOwner(t.Context(), "org_1"); code(err) != "42501" {
		t.Errorf("DeleteOwner without a right: %d, %v, want 42501", n, err)
	}
	for _, query := range []string{
		"UPDATE %s SET path = ''", "TRUNCATE %s", "DROP TABLE %s", "SELECT * FROM %s_default", "CREATE TABLE %s_more ()",
		"SELECT %s_expire('infinity')",
	} {
		if _, err := as.Exec(fmt.Sprintf(query, table)); code(err) != "42501" {
			t.Errorf(query+": %v, want 42501", table, err)
		}
	}
	grant(`GRANT EXECUTE ON FUNCTION %s_expire TO %q`)
	if n, err := l.DeleteBefore(t.Context(), today().Add(9*day)); err != nil || n != 5 {
		t.Errorf("DeleteBefore: %d, %v, want 5", n, err)
	}
}

// code returns the SQLSTATE of an error, or "".
func code(err error) string {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState()
	}
	return ""
}

// A role that may call the functions cannot make them drop, create or call
// anything else.
func TestPostgresLogsFunctionsAreConfined(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openPostgres(t, dsn)
	l, table := newPostgresLogs(t, db)
	role, as := logsRole(t, dsn, "evil_")
	old := today().Add(-40 * day)
	execute(t, db, fmt.Sprintf(`GRANT SELECT, INSERT ON %[1]s TO %[2]q; CREATE SCHEMA evil AUTHORIZATION %[2]q;
		GRANT EXECUTE ON FUNCTION %[1]s_prepare, %[1]s_expire TO %[2]q; CREATE TABLE %[3]s (a int);
		CREATE TABLE %[1]s_parted (LIKE %[1]s) PARTITION BY RANGE (at);
		CREATE TABLE %[4]s PARTITION OF %[1]s_parted DEFAULT`, table, role, partition(table, old), partition(table, old.Add(-day))))
	conn, err := as.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	// Objects of the role come before others in its own search_path.
	execute(t, conn, fmt.Sprintf(`CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '2001-01-01Z' $$;
		CREATE FUNCTION evil.format(text, VARIADIC text[]) RETURNS text LANGUAGE sql AS $$ SELECT 'evil.victim' $$;
		CREATE TABLE evil.%[1]s (LIKE public.%[1]s) PARTITION BY RANGE (at); CREATE TEMP TABLE %[1]s (LIKE public.%[1]s);
		CREATE TABLE evil.%[2]s PARTITION OF evil.%[1]s DEFAULT;
		SET search_path = pg_temp, evil, pg_catalog, public; SET timezone = 'Asia/Tokyo'`, table, partition(table, old)))
	execute(t, db, "DROP TABLE "+partition(table, today()))
	execute(t, conn, "SELECT public."+table+"_prepare()")
	if rowsOf(t, db, partition(table, today())) != 0 {
		t.Error("the partition of today was not made")
	}
	var bound string
	must(t, db.QueryRow("SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = $1::regclass",
		partition(table, today())).Scan(&bound))
	if want := fmt.Sprintf("FOR VALUES FROM ('%s 00:00:00+00')", today().Format(time.DateOnly)); !strings.HasPrefix(bound, want) {
		t.Errorf("the partition of today is %s, want %s", bound, want)
	}
	must(t, l.Append(t.Context(), entriesAt(old, 2)))
	for range 4 {
		execute(t, conn, "SELECT public."+table+"_expire(pg_catalog.now())")
	}
	for _, other := range []string{partition(table, old), partition(table, old.Add(-day)), "evil." + partition(table, old)} {
		if rowsOf(t, db, other) != 0 {
			t.Errorf("%s was dropped, which is no partition of the table", other)
		}
	}
	wantLogs(t, l)
}

// Entries of days without a partition are in the default partition, where they
// are listed, counted and deleted like others.
func TestPostgresLogsOfOtherDays(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, pgtest.DSN(t))
	l, table := newPostgresLogs(t, db)
	year := today().Year()
	newYear := time.Date(year+2, 1, 1, 0, 0, 0, 0, time.UTC)
	midnight := today().Add(40 * day)
	list := slices.Concat(
		entriesAt(time.Unix(0, 0).UTC(), 1),
		entriesAt(time.Date(year-1, 12, 31, 23, 59, 59, 999_998_000, time.UTC), 4),
		entriesAt(today().Add(-time.Microsecond), 2),
		entriesAt(today().Add(9*day-time.Microsecond), 2), // the second one has no partition
		entriesAt(midnight.Add(-2*time.Microsecond), 4),
		entriesAt(newYear.Add(-2*time.Microsecond), 4))
	must(t, l.Append(t.Context(), list))
	wantLogs(t, l, list...)
	if n := rowsOf(t, db, table+"_default"); n != 14 {
		t.Errorf("the default partition has %d entries, want 14", n)
	}
	buckets, err := l.Histogram(t.Context(), apilog.Query{From: newYear.Add(-day), To: newYear.Add(day)}, day)
	must(t, err)
	if buckets[0].Requests != 2 || buckets[1].Requests != 2 {
		t.Errorf("Histogram counts %+v, want 2 before and 2 after the new year", buckets)
	}
	for _, c := range []struct {
		before  time.Time
		deleted int
	}{{midnight, 11}, {midnight, 0}, {newYear, 4}, {newYear.Add(time.Second), 2}} {
		n, err := l.DeleteBefore(t.Context(), c.before)
		must(t, err)
		if n != int64(c.deleted) {
			t.Errorf("DeleteBefore %v: %d, want %d", c.before, n, c.deleted)
		}
		list = list[c.deleted:]
		wantLogs(t, l, list...)
	}
}

// What is in the default partition when its day gets a partition moves there,
// unless it is so much that others would wait.
func TestPostgresLogsPartitionMadeLater(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, pgtest.DSN(t))
	l, table := newPostgresLogs(t, db)
	few, many := today().Add(day), today().Add(2*day)
	must(t, l.Append(t.Context(), entriesAt(today(), 1)))
	execute(t, db, "TRUNCATE "+table)
	execute(t, db, "DROP TABLE "+partition(table, few)+", "+partition(table, many))
	list := slices.Concat(entriesAt(few, 20_000), entriesAt(few.Add(-time.Microsecond), 1), entriesAt(many, 20_001))
	must(t, l.Append(t.Context(), list))
	more := entriesAt(many.Add(time.Hour), 10)
	for i := range more { // each tries to make partitions, for two seconds
		must(t, another(t, db, table, quiet).Append(t.Context(), more[i:i+1]))
	}
	if n := rowsOf(t, db, partition(table, few)); n != 20_000 {
		t.Errorf("%d entries are in the partition that was made, want 20000", n)
	}
	if n := rowsOf(t, db, partition(table, many)); n != -1 {
		t.Errorf("the partition of a day with many entries was made, with %d entries", n)
	}
	wantLogs(t, l, append(list, more...)...)
	must(t, l.Append(t.Context(), list[:10])) // where they are now, they are there already
	wantLogs(t, l, append(list, more...)...)
}

// Several instances append when there is no partition for the new day.
func TestPostgresLogsDayChange(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, pgtest.DSN(t))
	l, table := newPostgresLogs(t, db)
	for round := range 3 {
		for d := range 3 {
			execute(t, db, "DROP TABLE "+partition(table, today().Add(time.Duration(d)*day)))
		}
		var mu sync.Mutex
		var list []apilog.Entry
		var instances sync.WaitGroup
		for i := range 6 {
			l := another(t, db, table, quiet)
			instances.Go(func() {
				for j := range 5 {
					batch := entriesAt(today().Add(day+time.Duration(2*i+10*j-20)*time.Microsecond), 20)
					if err := l.Append(t.Context(), batch); err != nil {
						t.Errorf("Append: %v", err)
					}
					mu.Lock()
					list = append(list, batch...)
					mu.Unlock()
				}
			})
		}
		instances.Wait()
		wantLogs(t, l, list...)
		if n := rowsOf(t, db, table+"_default"); n != 0 {
			t.Errorf("round %d: %d entries are in the default partition, want 0", round, n)
		}
	}
}

// That no partitions can be made for a while is no reason not to append.
func TestPostgresLogsAppendWithoutPartitions(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, pgtest.DSN(t))
	_, table := newPostgresLogs(t, db)
	execute(t, db, "DROP TABLE "+partition(table, today()))
	reader, err := db.Begin() // as pg_dump does
	must(t, err)
	defer reader.Rollback()
	execute(t, reader, "LOCK TABLE "+table+"_default IN ACCESS SHARE MODE")
	var warned logs
	l := another(t, db, table, slog.New(&warned))
	list := entriesAt(today(), 3)
	must(t, l.Append(t.Context(), list))
	wantLogs(t, l, list...)
	if warned.count("lock timeout") != 1 {
		t.Errorf("logged %v, want one lock timeout", warned.values("error"))
	}
}

func TestPostgresLogsDeleteBeforeWaitsForReader(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, pgtest.DSN(t))
	l, table := newPostgresLogs(t, db)
	list := entriesAt(today().Add(-day), 7)
	must(t, l.Append(t.Context(), list))
	reader, err := db.Begin()
	must(t, err)
	defer reader.Rollback()
	execute(t, reader, "LOCK TABLE "+table+" IN ACCESS SHARE MODE")
	deleted := make(chan error, 1)
	var n int64
	go func() {
		var err error
		n, err = l.DeleteBefore(context.Background(), today())
		deleted <- err
	}()
	for range 2 { // it gives up the lock for which others would wait, and tries once more
		await(t, "DeleteBefore to wait", func() bool { return waitingForLock(t, db) == 1 })
		await(t, "DeleteBefore to wait no more", func() bool { return waitingForLock(t, db) == 0 })
	}
	must(t, reader.Rollback())
	must(t, <-deleted)
	if n != 7 {
		t.Errorf("DeleteBefore: %d, want 7", n)
	}
	if rowsOf(t, db, partition(table, today().Add(-day))) != -1 {
		t.Error("the partition is still there")
	}
}

// Of several instances one deletes.
func TestPostgresLogsDeleteBeforeOfOneInstance(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, pgtest.DSN(t))
	l, table := newPostgresLogs(t, db)
	list := entriesAt(today(), 3)
	must(t, l.Append(t.Context(), list))
	busy, err := db.Begin()
	must(t, err)
	defer busy.Rollback()
	execute(t, busy, "SELECT "+table+"_expire('2000-01-01')")
	if n, err := l.DeleteBefore(t.Context(), today().Add(day)); err != nil || n != 0 {
		t.Errorf("DeleteBefore while another instance deletes: %d, %v, want 0", n, err)
	}
	wantLogs(t, l, list...)
	must(t, busy.Rollback())
	if n, err := l.DeleteBefore(t.Context(), today().Add(day)); err != nil || n != 3 {
		t.Errorf("DeleteBefore: %d, %v, want 3", n, err)
	}
}

// Old entries are deleted, as partitions and in slices, while others are
// appended, and both are exact.
func TestPostgresLogsDeleteWhileAppending(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, pgtest.DSN(t))
	l, _ := newPostgresLogs(t, db)
	noon := today().Add(12 * time.Hour)
	old := slices.Concat(entriesAt(today().Add(-30*day), 6000), entriesAt(today().Add(-day), 3000), entriesAt(today(), 11_000))
	gone := entriesAt(noon, 12_000, func(e *apilog.Entry) { e.Owner = "org_2" })
	must(t, l.Append(t.Context(), slices.Concat(old, gone)))

	var stop atomic.Bool
	var kept []apilog.Entry
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; i < 5 || !stop.Load(); i++ {
			batch := entriesAt(noon.Add(time.Duration(i)*time.Millisecond), 50)
			if err := l.Append(context.Background(), batch); err != nil {
				t.Errorf("Append: %v", err)
			}
			kept = append(kept, batch...)
		}
	})
	n, err := l.DeleteBefore(t.Context(), noon)
	if err != nil || n != int64(len(old)) {
		t.Errorf("DeleteBefore: %d, %v, want %d", n, err, len(old))
	}
	n, err = l.DeleteOwner(t.Context(), "org_2")
	if err != nil || n != int64(len(gone)) {
		t.Errorf("DeleteOwner: %d, %v, want %d", n, err, len(gone))
	}
	stop.Store(true)
	writer.Wait()
	wantLogs(t, l, kept...)
}

// What the database prevents without an error is an error, and no endless loop.
func TestPostgresLogsDeletePrevented(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, pgtest.DSN(t))
	l, table := newPostgresLogs(t, db)
	list := entriesAt(today(), 3)
	must(t, l.Append(t.Context(), list))
	execute(t, db, `CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
		CREATE TRIGGER keep BEFORE DELETE ON `+table+` FOR EACH ROW EXECUTE FUNCTION keep()`)
	const want = "the database deleted nothing"
	if n, err := l.DeleteBefore(t.Context(), today().Add(time.Hour)); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("DeleteBefore: %d, %v, want an error with %q", n, err, want)
	}
	if n, err := l.DeleteOwner(t.Context(), "org_1"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("DeleteOwner: %d, %v, want an error with %q", n, err, want)
	}
	wantLogs(t, l, list...)
}

// A batch with a bad entry is refused as a whole, whether or not others of its
// entries are there already. The error quotes nothing.
func TestPostgresLogsAppendAllOrNothing(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, pgtest.DSN(t))
	l, table := newPostgresLogs(t, db)
	stored := entriesAt(today(), 5)
	must(t, l.Append(t.Context(), stored))
	execute(t, db, `CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100', MESSAGE = 'no space left'; END $$;
		CREATE TRIGGER full_disk BEFORE INSERT ON `+table+` FOR EACH ROW WHEN (NEW.status = 507) EXECUTE FUNCTION full_disk()`)
	for what, spoil := range map[string]func(e *apilog.Entry){
		"a NUL":          func(e *apilog.Entry) { e.Path = "/hidden\x00" },
		"invalid UTF-8":  func(e *apilog.Entry) { e.UserAgent = "hidden\xff" },
		"a large status": func(e *apilog.Entry) { e.Status = 1 << 40; e.Path = "/hidden" },
		"a full disk":    func(e *apilog.Entry) { e.Status = 507; e.Path = "/hidden" },
	} {
		for again := range 2 {
			batch := entriesAt(today().Add(time.Hour), 3000)
			batch = append(slices.Clone(stored[:again]), batch...)
			spoil(&batch[2900])
			err := l.Append(t.Context(), batch)
			if err == nil {
				t.Errorf("Append with %s succeeds", what)
			} else if strings.Contains(err.Error(), "hidden") {
				t.Errorf("Append with %s: the error quotes the entry: %v", what, err)
			}
			wantLogs(t, l, stored...)
		}
	}
}

// Append copies in each mode in which pgx executes queries. PgBouncer needs
// exec.
func TestPostgresLogsExecModes(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		db := openPostgres(t, dsn+"&default_query_exec_mode="+mode)
		l, _ := newPostgresLogs(t, db)
		useLogs(t, l)
		e := entriesAt(today().Add(-time.Hour), 1, func(e *apilog.Entry) { e.ID = "foreign" })[0]
		must(t, l.Append(t.Context(), []apilog.Entry{e}))
		if got, err := l.List(t.Context(), apilog.Query{After: "foreign", StatusTo: 200}); err != nil || len(got) != 0 {
			t.Errorf("%s: List: %v, %v", mode, got, err)
		}
		if n, err := l.DeleteOwner(t.Context(), "org_1"); err != nil || n != 4 {
			t.Errorf("%s: DeleteOwner: %d, %v, want 4", mode, n, err)
		}
		if n, err := l.DeleteBefore(t.Context(), today().Add(time.Hour)); err != nil || n != 0 {
			t.Errorf("%s: DeleteBefore: %d, %v, want 0", mode, n, err)
		}
	}
}

func TestPostgresLogsOfWrappedDriver(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	_, table := newPostgresLogs(t, openPostgres(t, dsn))
	for _, opaque := range []bool{false, true} {
		db := sql.OpenDB(&wrappedDriver{inner: stdlib.GetDefaultDriver(), name: dsn, opaque: opaque})
		t.Cleanup(func() { db.Close() })
		err := another(t, db, table, quiet).Append(t.Context(), entriesAt(today(), 1))
		if opaque && (err == nil || !strings.Contains(err.Error(), "not one of github.com/jackc/pgx")) {
			t.Errorf("Append through a driver that hides pgx: %v, want an error that says so", err)
		}
		if !opaque && err != nil {
			t.Errorf("Append through a wrapped driver: %v", err)
		}
	}
}

// A read ends though the server does not answer, and the server stops too.
func TestPostgresLogsReadOfHungServer(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, pgtest.DSN(t))
	l, table := newPostgresLogs(t, db)
	tx, err := db.Begin()
	must(t, err)
	defer tx.Rollback()
	execute(t, tx, "LOCK TABLE "+table)
	day := apilog.Query{From: today(), To: today().Add(day)}
	for what, read := range map[string]func() error{
		"List":       func() error { _, err := l.List(context.Background(), apilog.Query{}); return err },
		"List after": func() error { _, err := l.List(context.Background(), apilog.Query{After: "foreign"}); return err },
		"Histogram":  func() error { _, err := l.Histogram(context.Background(), day, time.Hour); return err },
	} {
		if err := read(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want context.DeadlineExceeded", what, err)
		}
		await(t, "the server to notice", func() bool { return waitingForLock(t, db) == 0 })
	}
}

// Each batch is there as a whole or not at all after the server has crashed, and
// what was acknowledged is there.
func TestPostgresLogsServerCrash(t *testing.T) {
	server := pgtest.Start(t)
	db := openPostgres(t, server.URL("postgres"))
	l, _ := newPostgresLogs(t, db)
	var acknowledged, failures atomic.Int64
	stop := make(chan struct{})
	batches := make(map[string]bool) // by request ID: whether it was acknowledged
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			id := fmt.Sprint("batch ", i)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			err := l.Append(ctx, entriesAt(today(), 200, func(e *apilog.Entry) { e.RequestID = id }))
			cancel()
			if batches[id] = err == nil; err == nil {
				acknowledged.Add(1)
			} else {
				failures.Add(1)
				time.Sleep(time.Millisecond)
			}
		}
	})
	for _, end := range []func(){server.Stop, server.Crash} {
		n := acknowledged.Load()
		await(t, "appended batches", func() bool { return acknowledged.Load() > n+10 })
		n = failures.Load()
		end()
		await(t, "errors", func() bool { return failures.Load() > n })
		must(t, server.Start())
	}
	n := acknowledged.Load()
	await(t, "appended batches", func() bool { return acknowledged.Load() > n+10 })
	close(stop)
	writer.Wait()
	stored := make(map[string]int)
	for _, e := range allLogs(t, l) {
		stored[e.RequestID]++
	}
	for id, acknowledged := range batches {
		if n := stored[id]; n != 200 && (n != 0 || acknowledged) {
			t.Errorf("%d of 200 entries of %q are stored (acknowledged: %v)", n, id, acknowledged)
		}
	}
}

// The statements of the store find rows by an index, and count them without
// reading the table.
func TestPostgresLogsPlans(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openPostgres(t, dsn)
	_, table := newPostgresLogs(t, db)
	execute(t, db, `INSERT INTO `+table+` SELECT 'id ' || n, current_date::timestamp AT TIME ZONE 'UTC' + n * interval '1 ms',
		0, 'key_' || n % 500, 'org_' || n % 100, 'GET', '', '/', 200, '', 0, 0, '', repeat('x', 200), NULL, 0
		FROM generate_series(1, 50000) n`)
	execute(t, db, "VACUUM ANALYZE "+table)
	spy := &wrappedDriver{inner: stdlib.GetDefaultDriver(), name: dsn}
	spied := sql.OpenDB(spy)
	t.Cleanup(func() { spied.Close() })
	l := another(t, spied, table, quiet)
	list := func(q apilog.Query) func() error {
		return func() error { _, err := l.List(t.Context(), q); return err }
	}
	count := func(q apilog.Query) func() error {
		q.From, q.To = today().Add(-29*day), today().Add(day)
		return func() error { _, err := l.Histogram(t.Context(), q, day); return err }
	}
	p := partition(table, today())
	after := apilog.NewID(today().Add(40 * time.Second))
	for _, c := range []struct {
		name    string
		read    func() error
		want    string
		wantErr error
	}{
		{"newest of a key", list(apilog.Query{KeyID: "key_7", Owner: "org_7", Limit: 50}), p + "_key_id_", nil},
		{"after, of a key", list(apilog.Query{KeyID: "key_7", After: after, Limit: 50}), p + "_key_id_", nil},
		{"newest of an owner", list(apilog.Query{Owner: "org_7", Limit: 50}), "Index Scan using " + p + "_owner_", nil},
		{"newest of everybody", list(apilog.Query{Limit: 50}), "Index Scan Backward using " + p + "_pkey", nil},
		{"after, of everybody", list(apilog.Query{After: after, Limit: 50}), "Index Scan Backward using " + p + "_pkey", nil},
		{"counts of an owner", count(apilog.Query{Owner: "org_7"}), "Index Only Scan using " + p + "_owner_", nil},
		{"counts of a key", count(apilog.Query{KeyID: "key_7", Owner: "org_7"}), "Index Only Scan using " + p + "_key_id_", nil},
		{"an ID", list(apilog.Query{After: "unknown"}), "using " + p + "_id_idx", apilog.ErrInvalidQuery},
	} {
		if err := c.read(); !errors.Is(err, c.wantErr) {
			t.Errorf("%s: %v, want %v", c.name, err, c.wantErr)
		}
		query, args := spy.last()
		rows, err := db.Query("EXPLAIN (COSTS OFF) "+query, args...)
		must(t, err)
		var plan strings.Builder
		for rows.Next() {
			var line string
			must(t, rows.Scan(&line))
			plan.WriteString(line + "\n")
		}
		must(t, rows.Err())
		if !strings.Contains(plan.String(), c.want) {
			t.Errorf("%s: no %s in the plan:\n%s", c.name, c.want, plan.String())
		}
	}
}

// Times that PostgreSQL refuses select what no entry goes beyond.
func TestPostgresLogsExtremeTimes(t *testing.T) {
	t.Parallel()
	l := another(t, openPostgres(t, pgtest.DSN(t)), "", quiet)
	must(t, l.Migrate(t.Context()))
	want := entriesAt(today(), 2)
	must(t, l.Append(t.Context(), want))
	found, err := l.List(t.Context(), apilog.Query{
		From: time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC), To: time.Date(300_000, 1, 1, 0, 0, 0, 0, time.UTC),
	})
	must(t, err)
	if len(found) != len(want) {
		t.Errorf("List returns %d entries, want %d", len(found), len(want))
	}
	if _, err := l.DeleteBefore(t.Context(), time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Errorf("DeleteBefore: %v", err)
	}
}
