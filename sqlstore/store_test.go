package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/sqlstore"
	"github.com/insigner/auth/sqlstore/pgtest"
	"github.com/jackc/pgx/v5"
)

// What is inserted comes back as it was, or is refused.
func TestRoundTrip(t *testing.T) {
	zone := time.FixedZone("odd", 5*3600+1800+7)
	date := func(year int) time.Time { return time.Date(year, 2, 3, 4, 5, 6, 123456000, zone) }
	odd := "a,b\"'`\\\x01\u2028\U0001F511é <&>{}[]"
	eachKind(t, func(t *testing.T, s *sqlstore.Store, _ *sql.DB) {
		for name, change := range map[string]func(*auth.Record){
			"plain": func(*auth.Record) {},
			"full": func(r *auth.Record) {
				r.Hint, r.CreatedBy, r.Replaces, r.ReplacedBy = "isk_…U1v2", "me", "key_a", "key_b"
				r.ExpiresAt, r.RevokedAt, r.LastUsedAt = date(2031), date(2032), date(2033)
			},
			"nil scopes":       func(r *auth.Record) { r.Scopes = nil },
			"no scopes":        func(r *auth.Record) { r.Scopes = auth.Scopes{} },
			"odd scopes":       func(r *auth.Record) { r.Scopes = auth.Scopes{"", auth.Scope(odd), "\x00", "*", ""} },
			"no metadata":      func(r *auth.Record) { r.Metadata = map[string]string{} },
			"odd metadata":     func(r *auth.Record) { r.Metadata = map[string]string{"": "", odd: odd, "\x00": "a\x00b"} },
			"large metadata":   func(r *auth.Record) { r.Metadata = map[string]string{"k": strings.Repeat("é\x00", 100000)} },
			"odd text":         func(r *auth.Record) { r.ID, r.Hint, r.Name, r.Owner, r.CreatedBy = odd, odd, odd, odd, odd },
			"no name or owner": func(r *auth.Record) { r.Name, r.Owner = "", "" },
			"year 1":           func(r *auth.Record) { r.CreatedAt, r.ExpiresAt = date(1), time.Time{}.Add(time.Microsecond) },
			"zero creation":    func(r *auth.Record) { r.CreatedAt = time.Time{} },
			"year 9999":        func(r *auth.Record) { r.CreatedAt, r.ExpiresAt, r.LastUsedAt = date(9999), date(9999), date(9999) },
			"year 294246":      func(r *auth.Record) { r.CreatedAt, r.ExpiresAt, r.RevokedAt = date(294246), date(294246), date(294246) },
			"before 1970":      func(r *auth.Record) { r.CreatedAt, r.RevokedAt = date(1969), time.Unix(0, -1000) },
			"zero hash":        func(r *auth.Record) { r.Hash = auth.Hash{} },
		} {
			want := record()
			change(&want)
			if err := s.Insert(t.Context(), want); err != nil {
				t.Errorf("%s: Insert: %v", name, err)
				continue
			}
			for _, at := range []*time.Time{&want.CreatedAt, &want.ExpiresAt, &want.RevokedAt, &want.LastUsedAt} {
				*at = at.UTC()
			}
			if got, err := s.Lookup(t.Context(), want.Hash); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: Lookup:\n got %#v, %v\nwant %#v", name, fields(got), err, fields(want))
			}
			if got, err := s.Get(t.Context(), want.ID); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: Get:\n got %#v, %v\nwant %#v", name, fields(got), err, fields(want))
			}
		}
		for name, change := range map[string]func(*auth.Record){
			"no ID":                 func(r *auth.Record) { r.ID = "" },
			"ID with NUL":           func(r *auth.Record) { r.ID = "a\x00b" },
			"name with NUL":         func(r *auth.Record) { r.Name = "a\x00b" },
			"owner not UTF-8":       func(r *auth.Record) { r.Owner = "a\xff" },
			"scope not UTF-8":       func(r *auth.Record) { r.Scopes = auth.Scopes{"a\xff"} },
			"metadata not UTF-8":    func(r *auth.Record) { r.Metadata = map[string]string{"a": "\xff"} },
			"metadata key likewise": func(r *auth.Record) { r.Metadata = map[string]string{"\xff": "a"} },
			"too late":              func(r *auth.Record) { r.ExpiresAt = date(294247) },
			"far too late":          func(r *auth.Record) { r.ExpiresAt = time.Unix(math.MaxInt64/2, 0) },
			"too early":             func(r *auth.Record) { r.RevokedAt = date(0) },
			"created too late":      func(r *auth.Record) { r.CreatedAt = date(300000) },
			"as good as never":      func(r *auth.Record) { r.ExpiresAt = time.Time{}.Add(time.Nanosecond) },
		} {
			r := record()
			change(&r)
			if err := s.Insert(t.Context(), r); err == nil || errors.Is(err, auth.ErrExists) {
				t.Errorf("%s: Insert: %v, want an error of its own", name, err)
			}
			if _, err := s.Lookup(t.Context(), r.Hash); !errors.Is(err, auth.ErrNotFound) {
				t.Errorf("%s: it was refused and is there: %v", name, err)
			}
		}
		r := record()
		r.CreatedAt = time.Date(2026, 1, 2, 3, 4, 5, 999999999, time.UTC)
		r.ExpiresAt = time.Date(1926, 1, 2, 3, 4, 5, 999999999, time.UTC)
		must(t, s.Insert(t.Context(), r))
		got, err := s.Get(t.Context(), r.ID)
		must(t, err)
		if got.CreatedAt.Nanosecond() != 999999000 || got.ExpiresAt.Nanosecond() != 999999000 {
			t.Errorf("nanoseconds are not cut off: %v, %v", got.CreatedAt, got.ExpiresAt)
		}
	})
}

// fields shows everything, which a Record does not.
func fields(r auth.Record) any {
	type record auth.Record
	return record(r)
}

// Questions about what no text column can hold have answers.
func TestUnstorableIDs(t *testing.T) {
	eachKind(t, func(t *testing.T, s *sqlstore.Store, _ *sql.DB) {
		ctx := t.Context()
		kept := inserted(t, s)
		for _, id := range []string{"", "\x00", "\xff", kept.ID + "\x00"} {
			if _, err := s.Get(ctx, id); !errors.Is(err, auth.ErrNotFound) {
				t.Errorf("Get(%q): %v", id, err)
			}
			if err := s.Revoke(ctx, id, time.Now()); !errors.Is(err, auth.ErrNotFound) {
				t.Errorf("Revoke(%q): %v", id, err)
			}
			if err := s.Touch(ctx, map[string]time.Time{id: time.Now()}); err != nil {
				t.Errorf("Touch(%q): %v", id, err)
			}
			if page, err := s.List(ctx, id, auth.Position{}, 10); id != "" && (err != nil || len(page) > 0) {
				t.Errorf("List of owner %q: %v, %v", id, page, err)
			}
		}
	})
}

func TestTimesThatMeanSomethingElse(t *testing.T) {
	eachKind(t, func(t *testing.T, s *sqlstore.Store, _ *sql.DB) {
		ctx := t.Context()
		r := inserted(t, s)
		for _, at := range []time.Time{{}, time.Time{}.Add(1), time.Time{}.Add(-1), time.Unix(1e15, 0)} {
			if err := s.Revoke(ctx, r.ID, at); err == nil {
				t.Errorf("Revoke at %v succeeded", at)
			}
			next := record()
			next.Replaces = r.ID
			if err := s.Replace(ctx, next, at); err == nil {
				t.Errorf("Replace until %v succeeded", at)
			}
		}
		must(t, s.Touch(ctx, map[string]time.Time{r.ID: {}}))
		if got, err := s.Get(ctx, r.ID); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("a refused change changed something: %v, %v", fields(got), err)
		}
		for _, after := range []auth.Position{{}, {CreatedAt: time.Time{}.Add(-1)}, {CreatedAt: time.Unix(-1e15, 0), ID: "z"}} {
			if page, err := s.List(ctx, "", after, 10); err != nil || len(page) != 1 {
				t.Errorf("List after %v: %v, %v", after, page, err)
			}
		}
		first := record()
		first.ID, first.CreatedAt = "a", time.Time{} // nothing is earlier
		must(t, s.Insert(ctx, first))
		if page, err := s.List(ctx, "", auth.Position{CreatedAt: time.Unix(-1e15, 0), ID: "z"}, 10); err != nil || len(page) != 2 {
			t.Errorf("List from before the first time: %v, %v", page, err)
		}
		if page, err := s.List(ctx, "", auth.Position{CreatedAt: time.Unix(1e15, 0)}, 10); err != nil || len(page) != 0 {
			t.Errorf("List behind the last time: %v, %v", page, err)
		}
	})
}

// A row that was edited into nonsense is unknown, never a key that may do more or lasts longer.
func TestUnreadableRows(t *testing.T) {
	both := []string{"scopes = ''", "scopes = '*'", `scopes = '"*"'`, `scopes = '{"a":"*"}'`, `scopes = '["*"'`,
		`scopes = '["*"] x'`, `scopes = '[["*"]]'`, "metadata = '[]'", `metadata = '{"a":1}'`, "metadata = ''"}
	edits := map[string][]string{
		"postgres": append(both, "expires_at = 'infinity'", "expires_at = '-infinity'", "revoked_at = '-infinity'",
			"expires_at = '0001-01-01 00:00:00+00'", "revoked_at = '0001-01-01 00:00:00+00'", "created_at = 'infinity'"),
		"sqlite": append(both, "expires_at = -62135596800000000", "revoked_at = -62135596800000000",
			"scopes = CAST(x'5b22ff225d' AS TEXT)"),
	}
	// What the schema itself refuses.
	refused := map[string][]string{
		"postgres": {"hash = '\\x00'", "hash = NULL", "scopes = NULL", "created_at = NULL"},
		"sqlite":   {"hash = x'00'", "hash = 'a'", "hash = NULL", "scopes = NULL", "expires_at = 'never'", "expires_at = 1.5"},
	}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			s, db := k.open(t)
			for _, edit := range edits[k.name] {
				r := inserted(t, s)
				if _, err := db.Exec("UPDATE api_keys SET " + edit + " WHERE id = '" + r.ID + "'"); err != nil {
					t.Errorf("%s: %v", edit, err)
				}
				got, err := s.Lookup(t.Context(), r.Hash)
				if err == nil || errors.Is(err, auth.ErrNotFound) || !reflect.DeepEqual(got, auth.Record{}) {
					t.Errorf("%s: Lookup: %v, %v", edit, fields(got), err)
				}
				if err != nil && strings.Contains(err.Error(), "*") {
					t.Errorf("%s: the error tells what is there: %v", edit, err)
				}
			}
			for _, edit := range refused[k.name] {
				r := inserted(t, s)
				if _, err := db.Exec("UPDATE api_keys SET " + edit + " WHERE id = '" + r.ID + "'"); err == nil {
					t.Errorf("the schema lets %s pass", edit)
				}
			}
		})
	}
}

// Nor is a hash of another length one, in a table that somebody has rid of its check.
func TestShortHash(t *testing.T) {
	dsn := pgtest.DSN(t)
	s := newPostgres(t, dsn)
	r := inserted(t, s)
	_, err := openPostgres(t, dsn).Exec("ALTER TABLE api_keys DROP CONSTRAINT api_keys_hash_check; UPDATE api_keys SET hash = '\\x00'")
	must(t, err)
	if got, err := s.Get(t.Context(), r.ID); err == nil || errors.Is(err, auth.ErrNotFound) || got.ID != "" {
		t.Errorf("got %v, %v", fields(got), err)
	}
}

// IDs stand in the order of their bytes, whatever the database's language.
func TestOrder(t *testing.T) {
	eachKind(t, func(t *testing.T, s *sqlstore.Store, db *sql.DB) {
		if strings.HasSuffix(t.Name(), "postgres") { // this server's own language may have that order anyway
			inserted(t, s)
			var collation string
			must(t, db.QueryRow("SELECT pg_collation_for(id) FROM api_keys").Scan(&collation))
			if collation != `"C"` {
				t.Errorf("the order of IDs is that of %s", collation)
			}
			_, err := db.Exec("DELETE FROM api_keys")
			must(t, err)
		}
		var want []string
		at := time.Now().Truncate(time.Microsecond)
		for _, id := range []string{"a", "B", "_", "é", "e", "-", "Z", "aa", "a-b", "ab", "a_", "\U0001F511", "\uFFFD", "1", "10", "2"} {
			r := record()
			r.ID, r.CreatedAt = id, at
			must(t, s.Insert(t.Context(), r))
			want = append(want, id)
		}
		slices.Sort(want)
		for _, owner := range []string{"", "org_1"} {
			var got []string
			after := auth.Position{}
			for {
				page, err := s.List(t.Context(), owner, after, 3)
				must(t, err)
				if len(page) == 0 {
					break
				}
				for _, r := range page {
					got = append(got, r.ID)
					after = auth.Position{CreatedAt: r.CreatedAt, ID: r.ID}
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("owner %q:\n got %q\nwant %q", owner, got, want)
			}
		}
	})
}

// The order does not hang on the plan: without an index it is the same.
func TestOrderWithoutIndex(t *testing.T) {
	dsn := pgtest.DSN(t)
	newPostgres(t, dsn)
	db := openPostgres(t, dsn)
	db.SetMaxOpenConns(1)
	_, err := db.Exec("SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off")
	must(t, err)
	s, err := sqlstore.NewPostgres(db, &quick)
	must(t, err)
	at := time.Now().Truncate(time.Microsecond)
	for _, id := range []string{"c", "b", "a"} {
		r := record()
		r.ID, r.CreatedAt = id, at
		must(t, s.Insert(t.Context(), r))
	}
	for _, owner := range []string{"", "org_1"} {
		page, err := s.List(t.Context(), owner, auth.Position{}, 10)
		if err != nil || len(page) != 3 || page[0].ID != "a" || page[1].ID != "b" || page[2].ID != "c" {
			t.Errorf("owner %q: %v, %v", owner, page, err)
		}
	}
}

// Look-ups and lists use an index, however many keys there are.
func TestIndexes(t *testing.T) {
	queries := []struct{ query, index string }{
		{"SELECT * FROM api_keys WHERE hash = %s", "index"},
		{"SELECT * FROM api_keys WHERE id = 'a'", "index"},
		{"SELECT * FROM api_keys WHERE (created_at, id) > (%s, 'a') ORDER BY created_at, id LIMIT 10", "created_idx"},
		{"SELECT * FROM api_keys WHERE owner = 'a' AND (created_at, id) > (%s, 'a') ORDER BY created_at, id LIMIT 10",
			"owner_idx"},
	}
	values := map[string][2]string{"postgres": {"'\\x00'", "now()"}, "sqlite": {"x'00'", "1"}}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			s, db := k.open(t)
			must(t, s.Migrate(t.Context()))
			conn, err := db.Conn(t.Context())
			must(t, err)
			defer conn.Close()
			explain := "EXPLAIN QUERY PLAN "
			if k.name == "postgres" {
				explain = "EXPLAIN "
				_, err := conn.ExecContext(t.Context(), "SET enable_seqscan = off; SET enable_bitmapscan = off")
				must(t, err)
			}
			for i, test := range queries {
				query := test.query
				if strings.Contains(query, "%s") {
					query = fmt.Sprintf(query, values[k.name][min(i, 1)])
				}
				rows, err := conn.QueryContext(t.Context(), explain+query)
				must(t, err)
				var plan strings.Builder
				columns, err := rows.Columns()
				must(t, err)
				for rows.Next() {
					line := make([]any, len(columns))
					for i := range line {
						line[i] = new(any)
					}
					must(t, rows.Scan(line...))
					fmt.Fprintln(&plan, *line[len(line)-1].(*any))
				}
				must(t, rows.Err())
				p := strings.ToLower(plan.String())
				if !strings.Contains(p, test.index) || strings.Contains(p, "seq scan") || strings.Contains(p, "sort") ||
					strings.Contains(p, "temp b-tree") || strings.Contains(p, "scan api_keys\n") {
					t.Errorf("%s:\n%s", query, &plan)
				}
			}
		})
	}
}

func TestTouch(t *testing.T) {
	eachKind(t, func(t *testing.T, s *sqlstore.Store, db *sql.DB) {
		ctx := t.Context()
		records := make([]auth.Record, 50)
		for i := range records {
			records[i] = inserted(t, s)
		}
		// Far more than a UseRecorder writes at once, mostly of keys that are not there.
		many := make(map[string]time.Time)
		for i := range 12000 {
			many[fmt.Sprintf("no_%d", i)] = time.Now()
		}
		at := time.Date(9999, 1, 2, 3, 4, 5, 123456789, time.UTC)
		for _, r := range records {
			many[r.ID] = at
		}
		must(t, s.Touch(ctx, many))
		must(t, s.Touch(ctx, map[string]time.Time{records[0].ID: at.Add(-time.Hour)}))
		must(t, s.Touch(ctx, nil))
		for _, r := range records {
			r.LastUsedAt = at.Truncate(time.Microsecond)
			if got, err := s.Get(ctx, r.ID); err != nil || !reflect.DeepEqual(got, r) {
				t.Errorf("got %v, %v\nwant %v", fields(got), err, fields(r))
			}
		}
		if err := s.Touch(ctx, map[string]time.Time{records[0].ID: time.Unix(1e15, 0)}); err == nil {
			t.Error("Touch with a time that does not fit succeeded")
		}

		// Many at once, each with all keys: none waits for one that waits for it, and the latest time stands.
		var wg sync.WaitGroup
		latest := at.Add(time.Duration(10*10) * time.Hour)
		for i := range 10 {
			wg.Go(func() {
				for j := range 10 {
					used := make(map[string]time.Time)
					for k := range maps.Keys(many) {
						if strings.HasPrefix(k, "key_") {
							used[k] = latest.Add(-time.Duration(i*10+j) * time.Hour)
						}
					}
					if err := s.Touch(ctx, used); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		for _, r := range records {
			got, err := s.Get(ctx, r.ID)
			must(t, err)
			if !got.LastUsedAt.Equal(latest.Truncate(time.Microsecond)) {
				t.Errorf("last used %v, want %v", got.LastUsedAt, latest)
			}
		}
	})
}

// However the database finds the rows, they are locked in one order: a plan that follows that of the call, which is
// random, must not end in a deadlock.
func TestTouchTogetherByIndex(t *testing.T) {
	dsn := pgtest.DSN(t)
	s := newPostgres(t, dsn)
	ids := make([]string, 200)
	for i := range ids {
		ids[i] = inserted(t, s).ID
	}
	u, err := url.Parse(dsn)
	must(t, err)
	q := u.Query()
	for _, plan := range []string{"enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin"} {
		q.Set(plan, "off")
	}
	u.RawQuery = q.Encode()
	s, err = sqlstore.NewPostgres(openPostgres(t, u.String()), &quick)
	must(t, err)
	at := time.Now()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				used := make(map[string]time.Time)
				for _, id := range ids {
					used[id] = at.Add(time.Duration(j*8+i) * time.Minute)
				}
				if err := s.Touch(t.Context(), used); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// One connection is enough for every method: none holds it while it asks for another.
func TestOneConnection(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			var s *sqlstore.Store
			var err error
			if k.name == "postgres" {
				db := openPostgres(t, pgtest.DSN(t))
				db.SetMaxOpenConns(1)
				s, err = sqlstore.NewPostgres(db, &quick)
			} else {
				db, err2 := sqlstore.OpenSQLite(filepath.Join(t.TempDir(), "db"))
				must(t, err2)
				t.Cleanup(func() { db.Close() })
				db.SetMaxOpenConns(1)
				s, err = sqlstore.NewSQLite(db, &quick)
			}
			must(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			must(t, s.Migrate(ctx))
			r, next := inserted(t, s), record()
			next.Replaces = r.ID
			must(t, s.Replace(ctx, next, time.Now()))
			if err := s.Replace(ctx, next, time.Now()); !errors.Is(err, auth.ErrSuperseded) {
				t.Error(err)
			}
			must(t, s.Revoke(ctx, r.ID, time.Now()))
			must(t, s.Touch(ctx, map[string]time.Time{r.ID: time.Now()}))
			page, err := s.List(ctx, "", auth.Position{}, 10)
			if err != nil || len(page) != 2 {
				t.Error(page, err)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	db := openPostgres(t, "postgres://127.0.0.1:1/")
	for _, table := range []string{"a b", "1a", "a.b.c", ".a", "a.", `a"b`, "a;b", "é", "a-b", strings.Repeat("a", 49),
		strings.Repeat("s", 64) + ".a", "a'b", "a\x00", `s"s.a`, "1s.a", "s s.a"} {
		if _, err := sqlstore.NewPostgres(db, &sqlstore.Options{Table: table}); err == nil {
			t.Errorf("a table may be called %q", table)
		}
	}
	if _, err := sqlstore.NewPostgres(nil, nil); err == nil {
		t.Error("a nil *sql.DB is taken")
	}
	if _, err := sqlstore.NewPostgres(db, &sqlstore.Options{HeartbeatInterval: -1}); err == nil {
		t.Error("a negative interval is taken")
	}
	if _, err := sqlstore.NewPostgres(db, &sqlstore.Options{HeartbeatTimeout: -1}); err == nil {
		t.Error("a negative timeout is taken")
	}
	if _, err := sqlstore.NewPostgres(db, &sqlstore.Options{WatchConfig: new(pgx.ConnConfig)}); err == nil {
		t.Error("a configuration that pgx did not make is taken")
	}
}

func TestSQLiteSettings(t *testing.T) {
	good := []string{"busy_timeout(100)", "journal_mode(WAL)", "foreign_keys(1)"}
	open := func(name string, pragmas ...string) error {
		dsn := name + "?_pragma=" + strings.Join(pragmas, "&_pragma=")
		db, err := sql.Open("sqlite", dsn)
		must(t, err)
		defer db.Close()
		_, err = sqlstore.NewSQLite(db, nil)
		return err
	}
	file := func() string { return "file:" + filepath.Join(t.TempDir(), "db") }
	must(t, open(file(), good...))
	for i, name := range []string{"busy_timeout", "journal_mode", "foreign_keys"} {
		err := open(file(), slices.Delete(slices.Clone(good), i, i+1)...)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	if err := open("file::memory:", good...); err == nil || !strings.Contains(err.Error(), "journal_mode") {
		t.Errorf("in memory: %v", err)
	}
	// Set on one connection, missing on the next.
	db, err := sql.Open("sqlite", file()+"?_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)")
	must(t, err)
	defer db.Close()
	_, err = db.Exec("PRAGMA busy_timeout = 100")
	must(t, err)
	if _, err := sqlstore.NewSQLite(db, nil); err == nil {
		t.Error("a busy_timeout on one connection of many is taken")
	}
	// A schema is PostgreSQL's.
	_, db = newSQLite(t, filepath.Join(t.TempDir(), "a?b #c%20d&é'.db"))
	if _, err := sqlstore.NewSQLite(db, &sqlstore.Options{Table: "main.api_keys"}); err == nil {
		t.Error("a schema is taken")
	}
	// What OpenSQLite adds: commits are synced, and a transaction locks as it begins.
	var synchronous int
	must(t, db.QueryRow("PRAGMA synchronous").Scan(&synchronous))
	if synchronous != 2 {
		t.Errorf("synchronous is %d, want 2, FULL", synchronous)
	}
	tx, err := db.Begin()
	must(t, err)
	defer tx.Rollback()
	other, err := db.Conn(t.Context())
	must(t, err)
	defer other.Close()
	_, err = other.ExecContext(t.Context(), "PRAGMA busy_timeout = 0")
	must(t, err)
	if _, err := other.ExecContext(t.Context(), "DELETE FROM api_keys"); err == nil {
		t.Error("a transaction that has begun locks nothing")
	}
}

// What OpenSQLite makes is for the owner alone.
func TestSQLiteFileMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // it has no such modes
	}
	path := filepath.Join(t.TempDir(), "keys.db")
	s, _ := newSQLite(t, path)
	inserted(t, s)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path+suffix, info.Mode(), err)
		}
	}
	if db, err := sqlstore.OpenSQLite(path + "\x00.bak"); err == nil {
		db.Close()
		t.Error("a path with a NUL was opened")
	}
}

// The wrong database is refused before anything is asked of it, and so is what is no file.
func TestWrongDatabase(t *testing.T) {
	_, lite := newSQLite(t, filepath.Join(t.TempDir(), "db"))
	if _, err := sqlstore.NewPostgres(lite, nil); err == nil || !strings.Contains(err.Error(), "use NewSQLite") {
		t.Error(err)
	}
	if _, err := sqlstore.NewSQLite(openPostgres(t, "postgres://127.0.0.1:1/"), nil); err == nil || !strings.Contains(err.Error(), "use NewPostgres") {
		t.Error(err)
	}
	t.Chdir(t.TempDir())
	for path, want := range map[string]string{"": "empty", ":memory:": "MemoryStore"} {
		if _, err := sqlstore.OpenSQLite(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", path, err)
		}
	}
	if files, _ := os.ReadDir("."); len(files) > 0 {
		t.Errorf("files were made: %v", files)
	}
}

// Two slashes at the start are a path, and not a host in a URL.
func TestSQLitePath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	s, _ := newSQLite(t, "/"+path)
	inserted(t, s)
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Errorf("%v, %v", info, err)
	}
}
