package sqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/sqlstore"
	"github.com/insigner/auth/sqlstore/pgtest"
	"github.com/jackc/pgx/v5"
)

var (
	seen = auth.Change{Kind: auth.ChangesSeen}
	lost = auth.Change{Kind: auth.ChangesLost}
)

// What the Store itself changes is reported before the call returns.
func TestWatchOwnChanges(t *testing.T) {
	eachKind(t, func(t *testing.T, s *sqlstore.Store, _ *sql.DB) {
		w := watch(t, s)
		reported := func(what string, hashes ...auth.Hash) {
			t.Helper()
			missing := make(map[auth.Hash]bool)
			for _, h := range hashes {
				missing[h] = true
			}
			for len(w.changes) > 0 {
				delete(missing, (<-w.changes).Hash)
			}
			if len(missing) > 0 {
				t.Errorf("%s returned before it was reported", what)
			}
		}
		old, next := inserted(t, s), record()
		reported("Insert", old.Hash)
		next.Replaces = old.ID
		must(t, s.Replace(t.Context(), next, time.Now()))
		reported("Replace", old.Hash, next.Hash)
		must(t, s.Revoke(t.Context(), next.ID, time.Now()))
		reported("Revoke", next.Hash)

		// Nobody waits for these: they may have been committed all the same.
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		r := record()
		if err := s.Insert(gone, r); err == nil {
			t.Error("Insert under a context that is done succeeded")
		}
		reported("Insert with an unknown outcome", r.Hash)

		// Nothing is reported after the end, and that is said.
		for len(w.changes) > 0 {
			<-w.changes
		}
		w.end()
		if c := w.next(time.Second); c != lost {
			t.Errorf("at the end %v is reported, want %v", c, lost)
		}
		inserted(t, s)
		if n := len(w.changes); n > 0 {
			t.Errorf("after the end %d more are reported", n)
		}
	})
}

// When a change is reported it is there for whoever looks: a cache that read before that would keep what was.
func TestWatchReportsCommitted(t *testing.T) {
	eachKind(t, func(t *testing.T, s *sqlstore.Store, db *sql.DB) {
		a, b, next := inserted(t, s), inserted(t, s), record()
		next.Replaces = b.ID
		committed := map[auth.Hash]string{
			a.Hash:    "SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL AND id = '" + a.ID + "'",
			b.Hash:    "SELECT count(*) FROM api_keys WHERE replaced_by <> '' AND id = '" + b.ID + "'",
			next.Hash: "SELECT count(*) FROM api_keys WHERE id = '" + next.ID + "'",
		}
		ctx, cancel := context.WithCancel(t.Context())
		ready, ended := make(chan bool, 1), make(chan error)
		go func() {
			ended <- s.Watch(ctx, func(c auth.Change) {
				if c == seen {
					ready <- true
				}
				if query, ok := committed[c.Hash]; ok && c.Kind == auth.RecordChanged {
					var n int
					if err := db.QueryRow(query).Scan(&n); err != nil || n != 1 {
						t.Errorf("reported, but not there: %s: %d, %v", query, n, err)
					}
				}
			})
		}()
		<-ready
		must(t, s.Revoke(t.Context(), a.ID, time.Now()))
		must(t, s.Replace(t.Context(), next, time.Now()))
		cancel()
		<-ended
	})
}

// What psql does is reported as well.
func TestWatchForeignChanges(t *testing.T) {
	dsn := pgtest.DSN(t)
	s, db := newPostgres(t, dsn), openPostgres(t, dsn)
	r, other := inserted(t, s), inserted(t, s)
	w := watch(t, s)
	var fresh auth.Hash
	fresh[0] = 1
	for _, test := range []struct {
		query string
		want  []auth.Change
	}{
		{"UPDATE api_keys SET revoked_at = now() WHERE id = $1", []auth.Change{changed(r.Hash)}},
		{"UPDATE api_keys SET revoked_at = NULL WHERE id = $1", []auth.Change{changed(r.Hash)}},
		{"UPDATE api_keys SET expires_at = now() WHERE id = $1", []auth.Change{changed(r.Hash)}},
		{"UPDATE api_keys SET scopes = '[]' WHERE id = $1", []auth.Change{changed(r.Hash)}},
		{"UPDATE api_keys SET owner = 'b' WHERE id = $1", []auth.Change{changed(r.Hash)}},
		{"UPDATE api_keys SET name = 'b' WHERE id = $1", []auth.Change{changed(r.Hash)}},
		{"UPDATE api_keys SET metadata = '{\"a\":\"b\"}' WHERE id = $1", []auth.Change{changed(r.Hash)}},
		{"UPDATE api_keys SET last_used_at = now() WHERE id = $1", nil},
		{"UPDATE api_keys SET owner = owner WHERE id = $1", nil},
		{"UPDATE api_keys SET hash = '\\x01" + strings.Repeat("00", 31) + "' WHERE id = $1",
			[]auth.Change{changed(r.Hash), changed(fresh)}},
		{"DELETE FROM api_keys WHERE id = $1", []auth.Change{changed(fresh)}},
		{"INSERT INTO api_keys (id, hash) VALUES ($1, '\\x01" + strings.Repeat("00", 31) + "')", []auth.Change{changed(fresh)}},
	} {
		_, err := db.Exec(test.query, r.ID)
		must(t, err)
		if test.want == nil {
			w.silent(100 * time.Millisecond)
		} else {
			w.expect(test.want...)
		}
	}
	must(t, s.Touch(t.Context(), map[string]time.Time{other.ID: time.Now()}))
	w.silent(100 * time.Millisecond)

	_, err := db.Exec("UPDATE api_keys SET id = id || '_moved' WHERE id = $1", other.ID)
	must(t, err)
	w.expect(changed(other.Hash))

	// What logical replication or a restore writes: no ordinary trigger sees it.
	for _, query := range []string{
		"UPDATE api_keys SET revoked_at = now() WHERE hash = $1",
		"DELETE FROM api_keys WHERE hash = $1",
		"INSERT INTO api_keys (id, hash) VALUES ('replicated', $1)",
	} {
		tx, err := db.Begin()
		must(t, err)
		_, err = tx.Exec("SET LOCAL session_replication_role = replica")
		must(t, err)
		_, err = tx.Exec(query, other.Hash[:])
		must(t, err)
		must(t, tx.Commit())
		w.expect(changed(other.Hash))
	}

	for _, role := range []string{"origin", "replica"} {
		_, err = db.Exec("BEGIN; SET LOCAL session_replication_role = " + role + "; TRUNCATE api_keys; COMMIT")
		must(t, err)
		if a, b := w.next(5*time.Second), w.next(5*time.Second); a != lost || b != seen {
			t.Errorf("TRUNCATE as %s is reported as %v, %v", role, a, b)
		}
	}
	w.silent(100 * time.Millisecond)

	// A transaction that is rolled back changed nothing.
	tx, err := db.Begin()
	must(t, err)
	_, err = tx.Exec("INSERT INTO api_keys (id, hash) VALUES ($1, $2)", r.ID, r.Hash[:])
	must(t, err)
	must(t, tx.Rollback())
	w.silent(100 * time.Millisecond)
}

// Two Stores on one database, several Watches on one Store.
func TestWatchFromElsewhere(t *testing.T) {
	dsn := pgtest.DSN(t)
	a, b := newPostgres(t, dsn), newPostgres(t, dsn)
	w1, w2 := watch(t, b), watch(t, b)
	r := inserted(t, a)
	w1.expect(changed(r.Hash))
	w2.expect(changed(r.Hash))
	start := time.Now()
	must(t, a.Revoke(t.Context(), r.ID, time.Now()))
	w1.expect(changed(r.Hash))
	t.Logf("a revocation arrives %v after the call of Revoke", time.Since(start))
	w2.expect(changed(r.Hash))
	w1.end()
	must(t, a.Insert(t.Context(), record()))
	w1.silent(50*time.Millisecond, lost)
}

// The connection of the watcher alone is cut.
func TestWatchReconnects(t *testing.T) {
	dsn := pgtest.DSN(t)
	db := openPostgres(t, dsn)
	// No heartbeat comes in time to notice it.
	s, err := sqlstore.NewPostgres(openPostgres(t, dsn), &sqlstore.Options{Logger: quiet, HeartbeatInterval: time.Minute})
	must(t, err)
	must(t, s.Migrate(t.Context()))
	w := watch(t, s)
	for range 8 { // more than it takes for the pause to grow long
		var n int
		err := db.QueryRow("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity " +
			"WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%pg_trigger%'").Scan(&n)
		must(t, err)
		if n != 1 {
			t.Fatalf("%d watchers, want 1", n)
		}
		w.expect(lost)
		start := time.Now()
		w.expect(seen)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("back after %v, though it was there before", took)
		}
		r := record()
		_, err = db.Exec("INSERT INTO api_keys (id, hash) VALUES ($1, $2)", r.ID, r.Hash[:])
		must(t, err)
		w.expect(changed(r.Hash))
	}
}

// Nothing is promised while there is nothing that announces.
func TestWatchWithoutTriggers(t *testing.T) {
	dsn := pgtest.DSN(t)
	db := openPostgres(t, dsn)
	s, err := sqlstore.NewPostgres(db, &quick)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err = s.Watch(ctx, func(c auth.Change) { t.Errorf("without a table, %v is reported", c) })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Watch: %v, want the context's error", err)
	}
	must(t, s.Migrate(t.Context()))
	w := watch(t, s)
	const again = "CREATE TRIGGER api_keys_on_row AFTER INSERT OR DELETE ON api_keys FOR EACH ROW EXECUTE FUNCTION api_keys_notify()"
	for query, repair := range map[string]string{
		"ALTER TABLE api_keys DISABLE TRIGGER api_keys_on_update":                                "ALTER TABLE api_keys ENABLE TRIGGER api_keys_on_update",
		"DROP TRIGGER api_keys_on_row ON api_keys":                                               again,
		"BEGIN; ALTER TABLE api_keys RENAME TO old; ALTER TABLE old DISABLE TRIGGER ALL; COMMIT": "ALTER TABLE old RENAME TO api_keys; ALTER TABLE api_keys ENABLE TRIGGER ALL",
	} {
		_, err := db.Exec(query)
		must(t, err)
		w.expect(lost)
		w.silent(500 * time.Millisecond)
		_, err = db.Exec(repair)
		must(t, err)
		w.expect(seen)
	}
}

// Another table under the same name is another table, whatever announces its changes: those of before are in question.
func TestWatchReplacedTable(t *testing.T) {
	dsn := pgtest.DSN(t)
	s, db := newPostgres(t, dsn), openPostgres(t, dsn)
	w := watch(t, s)
	_, err := db.Exec(`BEGIN;
		CREATE TABLE new (LIKE api_keys INCLUDING ALL);
		CREATE TRIGGER on_row AFTER INSERT OR DELETE ON new FOR EACH ROW EXECUTE FUNCTION api_keys_notify();
		CREATE TRIGGER on_update AFTER UPDATE ON new FOR EACH ROW EXECUTE FUNCTION api_keys_notify();
		CREATE TRIGGER on_truncate AFTER TRUNCATE ON new FOR EACH STATEMENT EXECUTE FUNCTION api_keys_notify();
		ALTER TABLE api_keys RENAME TO old;
		ALTER TABLE new RENAME TO api_keys;
		COMMIT`)
	must(t, err)
	w.expect(lost)
	w.expect(seen)
	r := inserted(t, s)
	w.expect(changed(r.Hash))
}

// The watcher needs none of the pool's connections but for a moment.
func TestWatchSmallPool(t *testing.T) {
	db := openPostgres(t, pgtest.DSN(t))
	db.SetMaxOpenConns(1)
	s, err := sqlstore.NewPostgres(db, &quick)
	must(t, err)
	must(t, s.Migrate(t.Context()))
	w := watch(t, s)
	r := inserted(t, s)
	w.expect(changed(r.Hash))
	must(t, s.Revoke(t.Context(), r.ID, time.Now()))
	w.expect(changed(r.Hash))
}

// A connection on which nothing arrives any more, though nobody closed it, is noticed within the bound.
func TestWatchHalfOpen(t *testing.T) {
	dsn := pgtest.DSN(t)
	newPostgres(t, dsn)
	u, err := url.Parse(dsn)
	must(t, err)
	p := newProxy(t, u.Host)
	u.Host = p.l.Addr().String()

	for _, test := range []struct {
		name string
		db   string
		opts sqlstore.Options
	}{
		{"derived", u.String(), quick},
		{"WatchConfig", dsn, quick},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.name == "WatchConfig" {
				test.opts.WatchConfig, err = pgx.ParseConfig(u.String())
				must(t, err)
			}
			s, err := sqlstore.NewPostgres(openPostgres(t, test.db), &test.opts)
			must(t, err)
			w := watch(t, s)
			w.silent(3 * quick.HeartbeatInterval) // the heartbeat of a good connection does no harm
			p.silence(true)
			start := time.Now()
			w.expect(lost)
			bound := quick.HeartbeatInterval + quick.HeartbeatTimeout
			if took := time.Since(start); took > bound+250*time.Millisecond {
				t.Errorf("noticed after %v, the bound is %v", took, bound)
			} else {
				t.Logf("noticed after %v, the bound is %v", took, bound)
			}
			w.silent(700*time.Millisecond, lost) // still cut off
			p.silence(false)
			w.expect(seen)
		})
	}
}

type wrapped struct{ inner driver.Driver }

func (w wrapped) Open(name string) (driver.Conn, error)        { return w.inner.Open(name) }
func (w wrapped) Connect(context.Context) (driver.Conn, error) { return w.inner.Open("file::memory:") }
func (w wrapped) Driver() driver.Driver                        { return w }

func TestWatchImpossible(t *testing.T) {
	lite, err := sqlstore.OpenSQLite(filepath.Join(t.TempDir(), "db"))
	must(t, err)
	defer lite.Close()
	db := sql.OpenDB(wrapped{lite.Driver()}) // nobody can tell what is in a driver that is wrapped
	defer db.Close()
	s, err := sqlstore.NewPostgres(db, &quick)
	must(t, err)
	if err := s.Watch(t.Context(), func(auth.Change) {}); err == nil || t.Context().Err() != nil {
		t.Errorf("Watch with a driver that cannot: %v", err)
	}
}

// Watch leaves no goroutine, however it ends.
func TestWatchLeavesNothing(t *testing.T) {
	dsn := pgtest.DSN(t)
	s := newPostgres(t, dsn)
	_, err := s.Get(t.Context(), "x")
	if !errors.Is(err, auth.ErrNotFound) {
		t.Fatal(err)
	}
	u, err := url.Parse(dsn)
	must(t, err)
	settle := func(most int) int {
		n := runtime.NumGoroutine()
		for end := time.Now().Add(3 * time.Second); n > most && time.Now().Before(end); n = runtime.NumGoroutine() {
			time.Sleep(5 * time.Millisecond)
		}
		return n
	}
	before := settle(0 + runtime.NumGoroutine())
	check := func(what string) {
		t.Helper()
		if n := settle(before); n > before {
			stacks := make([]byte, 1<<20)
			t.Errorf("%s: %d goroutines, before %d\n%s", what, n, before, stacks[:runtime.Stack(stacks, true)])
		}
	}
	for range 3 {
		w := watch(t, s)
		w.expect()
		w.end()
	}
	check("after Watch")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Watch(ctx, func(c auth.Change) { t.Errorf("reported %v", c) }); !errors.Is(err, context.Canceled) {
		t.Errorf("Watch under a context that is done: %v", err)
	}
	check("under a context that is done")

	// Half-open, and ended at different moments of the attempts to come back.
	for i := range 4 {
		t.Run("half-open", func(t *testing.T) {
			p := newProxy(t, u.Host)
			through := *u
			through.Host = p.l.Addr().String()
			opts := quick
			opts.WatchConfig, err = pgx.ParseConfig(through.String())
			must(t, err)
			s, err := sqlstore.NewPostgres(openPostgres(t, dsn), &opts)
			must(t, err)
			w := watch(t, s)
			p.silence(true)
			w.expect(lost)
			time.Sleep(time.Duration(i) * 70 * time.Millisecond)
			w.end()
		})
	}
	check("after a half-open connection")
}

// A watcher that listens elsewhere than where the changes are made, as after a failover, sees none and says so.
func TestWatchElsewhere(t *testing.T) {
	here, there := pgtest.DSN(t), pgtest.DSN(t)
	// Who watches there does no harm: a heartbeat is not another's.
	other, err := sqlstore.NewPostgres(openPostgres(t, there), &sqlstore.Options{Logger: quick.Logger, HeartbeatInterval: 20 * time.Millisecond})
	must(t, err)
	must(t, other.Migrate(t.Context()))
	watch(t, other)
	config, err := pgx.ParseConfig(there)
	must(t, err)
	s, err := sqlstore.NewPostgres(openPostgres(t, here), &sqlstore.Options{Logger: quick.Logger, WatchConfig: config,
		HeartbeatInterval: 50 * time.Millisecond, HeartbeatTimeout: 200 * time.Millisecond})
	must(t, err)
	must(t, s.Migrate(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err = s.Watch(ctx, func(c auth.Change) {
		if c.Kind == auth.ChangesSeen {
			t.Error("changes are seen, it says")
		}
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
