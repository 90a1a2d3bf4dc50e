package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/jackc/pgx/v5"
)

// What a Store changes is reported before the call returns. On PostgreSQL the
// announcements of the database do not arrive in this test.
func TestWatchOwnChanges(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			s, _ := d.open(t)
			if onPostgres(t) {
				dsn := pgtest.DSN(t)
				newPostgres(t, dsn, nil)
				p, config := proxied(t, dsn)
				opts := steady
				opts.WatchConfig = config
				s = newPostgres(t, dsn, &opts)
				defer p.silence(true)
			}
			w := watch(t, s)
			wantReported := func(what string, hashes ...auth.Hash) {
				t.Helper()
				changes := w.all()
				for _, hash := range hashes {
					if !slices.Contains(changes, change(hash)) {
						t.Errorf("%s returns before the change is reported", what)
					}
				}
			}
			old := inserted(t, s)
			wantReported("Insert", old.Hash)
			next, successor := rotated(old)
			must(t, s.Update(t.Context(), next, successor))
			wantReported("Update with a successor", old.Hash, successor.Hash)
			must(t, s.Update(t.Context(), revoked(next), nil))
			wantReported("Update", old.Hash)
			other := changed(successor, func(r *auth.Record) { r.Hash, r.Name = auth.Hash{1}, "other" })
			must(t, s.Update(t.Context(), other, nil))
			wantReported("Update with another hash", successor.Hash)
			must(t, s.Delete(t.Context(), old.ID, "somebody"))
			wantReported("Delete", old.Hash)

			// The outcome of a call that fails may be unknown to the client.
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			r := newRecord()
			if err := s.Insert(gone, r.Clone()); err == nil {
				t.Error("Insert of a client that has left succeeds")
			}
			wantReported("Insert with an unknown outcome", r.Hash)
			if err := s.Update(gone, revoked(other), nil); err == nil {
				t.Error("Update of a client that has left succeeds")
			}
			wantReported("Update with an unknown outcome", other.Hash)
		})
	}
}

// proxied returns a proxy to the server of a URL, and how to connect through
// it.
func proxied(t *testing.T, dsn string) (*proxy, *pgx.ConnConfig) {
	t.Helper()
	u, err := url.Parse(dsn)
	must(t, err)
	p := newProxy(t, u.Host)
	u.Host = p.address
	config, err := pgx.ParseConfig(u.String())
	must(t, err)
	return p, config
}

// The last report is WatchLost. After Watch has returned, nothing is reported.
func TestWatchEnd(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		w := watch(t, s)
		inserted(t, s)
		w.end()
		changes := w.all()
		if last := changes[len(changes)-1]; last != lost {
			t.Errorf("the last report is %v, want %v", last, lost)
		}
		inserted(t, s)
		if after := w.all(); len(after) > 0 {
			t.Errorf("after the end %v is reported, want nothing", after)
		}
	})
}

// A change is reported when it can be read. A cache that read earlier would
// keep what was there before.
func TestWatchReportsCommitted(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		a, b, c := inserted(t, s), inserted(t, s), inserted(t, s)
		next, successor := rotated(b)
		committed := map[auth.Hash]string{
			a.Hash:         "SELECT count(*) = 1 FROM api_keys WHERE revoked_at IS NOT NULL AND id = '" + a.ID + "'",
			b.Hash:         "SELECT count(*) = 1 FROM api_keys WHERE rotated_to <> '' AND id = '" + b.ID + "'",
			successor.Hash: "SELECT count(*) = 1 FROM api_keys WHERE id = '" + successor.ID + "'",
			c.Hash:         "SELECT count(*) = 0 FROM api_keys WHERE id = '" + c.ID + "'",
		}
		var mu sync.Mutex
		reported := make(map[auth.Hash]bool)
		ctx, cancel := context.WithCancel(t.Context())
		ready, ended := make(chan bool, 1), make(chan error)
		go func() {
			ended <- s.Watch(ctx, func(c auth.Change) {
				if c == started {
					ready <- true
				}
				if query, ok := committed[c.Hash]; ok && c.Kind == auth.RecordChanged {
					var there bool
					if err := db.QueryRow(query).Scan(&there); err != nil || !there {
						t.Errorf("reported, but not committed: %s: %v", query, err)
					}
					mu.Lock()
					reported[c.Hash] = true
					mu.Unlock()
				}
			})
		}()
		<-ready
		must(t, s.Update(t.Context(), revoked(a), nil))
		must(t, s.Update(t.Context(), next, successor))
		must(t, s.Delete(t.Context(), c.ID, "somebody"))
		cancel()
		<-ended
		if len(reported) != len(committed) {
			t.Errorf("%d changes are reported, want %d", len(reported), len(committed))
		}
	})
}

// A marker changes a row of its own. What is committed earlier is reported
// earlier, so after the marker's change nothing is missing.
type marker struct {
	t      *testing.T
	db     *sql.DB
	record *auth.Record
}

func newMarker(t *testing.T, s store, db *sql.DB) *marker {
	return &marker{t, db, inserted(t, s)}
}

// until returns what was reported before the marker's next change, each change
// once.
func (m *marker) until(w *watching) (changes []auth.Change) {
	m.t.Helper()
	execute(m.t, m.db, "INSERT INTO api_keys (id, hash) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = api_keys.name || '.'",
		m.record.ID, m.record.Hash[:])
	for {
		c := w.next()
		if c == change(m.record.Hash) {
			return changes
		}
		if !slices.Contains(changes, c) {
			changes = append(changes, c)
		}
	}
}

// A change made with psql is reported, and a new last use is not.
func TestWatchForeignChanges(t *testing.T) {
	dsn := pgtest.DSN(t)
	s, db := newPostgres(t, dsn, nil), openPostgres(t, dsn)
	mark := newMarker(t, s, db)
	r := inserted(t, s)
	w := watch(t, s)
	fresh := auth.Hash{1}
	for _, test := range []struct {
		query string
		want  []auth.Change
	}{
		{"UPDATE api_keys SET revoked_at = now() WHERE id = $1", []auth.Change{change(r.Hash)}},
		{"UPDATE api_keys SET revoked_at = NULL WHERE id = $1", []auth.Change{change(r.Hash)}},
		{"UPDATE api_keys SET disabled_at = now() WHERE id = $1", []auth.Change{change(r.Hash)}},
		{"UPDATE api_keys SET disabled_at = NULL WHERE id = $1", []auth.Change{change(r.Hash)}},
		{"UPDATE api_keys SET expires_at = now() WHERE id = $1", []auth.Change{change(r.Hash)}},
		{"UPDATE api_keys SET scopes = '[]' WHERE id = $1", []auth.Change{change(r.Hash)}},
		{"UPDATE api_keys SET owner = 'b' WHERE id = $1", []auth.Change{change(r.Hash)}},
		{"UPDATE api_keys SET name = 'b' WHERE id = $1", []auth.Change{change(r.Hash)}},
		{"UPDATE api_keys SET hint = 'b' WHERE id = $1", []auth.Change{change(r.Hash)}},
		{"UPDATE api_keys SET metadata = '{\"a\":\"b\"}' WHERE id = $1", []auth.Change{change(r.Hash)}},
		{"UPDATE api_keys SET rotated_to = 'b' WHERE id = $1", []auth.Change{change(r.Hash)}},
		{"UPDATE api_keys SET rotated_from = 'b' WHERE id = $1", []auth.Change{change(r.Hash)}},
		{"UPDATE api_keys SET chain = 'b' WHERE id = $1", []auth.Change{change(r.Hash)}},
		{"UPDATE api_keys SET created_by = 'b' WHERE id = $1", []auth.Change{change(r.Hash)}},
		{"UPDATE api_keys SET revision = revision + 1 WHERE id = $1", []auth.Change{change(r.Hash)}},
		{"UPDATE api_keys SET last_used_at = now() WHERE id = $1", nil},
		{"UPDATE api_keys SET owner = owner WHERE id = $1", nil},
		{"UPDATE api_keys SET hash = '\\x01" + strings.Repeat("00", 31) + "' WHERE id = $1",
			[]auth.Change{change(r.Hash), change(fresh)}},
		{"DELETE FROM api_keys WHERE id = $1", []auth.Change{change(fresh)}},
		{"INSERT INTO api_keys (id, hash) VALUES ($1, '\\x01" + strings.Repeat("00", 31) + "')",
			[]auth.Change{change(fresh)}},
		{"UPDATE api_keys SET id = id || '_moved' WHERE id = $1", []auth.Change{change(fresh)}},
	} {
		execute(t, db, test.query, r.ID)
		if got := mark.until(w); !slices.Equal(got, test.want) {
			t.Errorf("%s: reported %v, want %v", test.query, got, test.want)
		}
	}

	other := inserted(t, s)
	mark.until(w)
	must(t, s.Touch(t.Context(), map[string]time.Time{other.ID: time.Now()}))
	if got := mark.until(w); len(got) > 0 {
		t.Errorf("Touch: reported %v, want nothing", got)
	}

	tx, err := db.Begin()
	must(t, err)
	execute(t, tx, "UPDATE api_keys SET revoked_at = now() WHERE id = $1", other.ID)
	must(t, tx.Rollback())
	if got := mark.until(w); len(got) > 0 {
		t.Errorf("rollback: reported %v, want nothing", got)
	}
}

// What logical replication or a restore writes is reported. An ordinary trigger
// does not see it.
func TestWatchReplicatedChanges(t *testing.T) {
	dsn := pgtest.DSN(t)
	s, db := newPostgres(t, dsn, nil), openPostgres(t, dsn)
	mark := newMarker(t, s, db)
	r := inserted(t, s)
	w := watch(t, s)
	for _, query := range []string{
		"UPDATE api_keys SET revoked_at = now() WHERE hash = $1",
		"DELETE FROM api_keys WHERE hash = $1",
		"INSERT INTO api_keys (id, hash) VALUES ('replicated', $1)",
	} {
		tx, err := db.Begin()
		must(t, err)
		execute(t, tx, "SET LOCAL session_replication_role = replica")
		execute(t, tx, query, r.Hash[:])
		must(t, tx.Commit())
		if got, want := mark.until(w), []auth.Change{change(r.Hash)}; !slices.Equal(got, want) {
			t.Errorf("%s: reported %v, want %v", query, got, want)
		}
	}
}

func TestWatchTruncate(t *testing.T) {
	dsn := pgtest.DSN(t)
	s, db := newPostgres(t, dsn, nil), openPostgres(t, dsn)
	mark := newMarker(t, s, db)
	w := watch(t, s)
	for _, role := range []string{"origin", "replica"} {
		execute(t, db, "BEGIN; SET LOCAL session_replication_role = "+role+"; TRUNCATE api_keys; COMMIT")
		if got, want := mark.until(w), []auth.Change{lost, started}; !slices.Equal(got, want) {
			t.Errorf("TRUNCATE as %s: reported %v, want %v", role, got, want)
		}
	}
}

// A Store reports the changes of another one, to each of its watchers.
func TestWatchOtherStore(t *testing.T) {
	dsn := pgtest.DSN(t)
	a, b := newPostgres(t, dsn, nil), newPostgres(t, dsn, nil)
	w1, w2 := watch(t, b), watch(t, b)
	r := inserted(t, a)
	w1.expect(change(r.Hash))
	w2.expect(change(r.Hash))
	must(t, a.Update(t.Context(), revoked(r), nil))
	w1.expect(change(r.Hash))
	w2.expect(change(r.Hash))
	w1.end()
	w1.all()
	next := inserted(t, a)
	w2.expect(change(next.Hash))
	if got := w1.all(); len(got) > 0 {
		t.Errorf("after the end of one watcher it is told %v, want nothing", got)
	}
}

// The connection of a watcher is cut again and again. Each time it connects
// again at once, for it had worked.
func TestWatchReconnects(t *testing.T) {
	dsn := pgtest.DSN(t)
	db := openPostgres(t, dsn)
	logged := new(logs)
	opts := steady // no heartbeat finds it out
	opts.Logger = slog.New(logged)
	var err error
	opts.WatchConfig, err = pgx.ParseConfig(dsn)
	must(t, err)
	opts.WatchConfig.RuntimeParams["application_name"] = "watcher"
	s := newPostgres(t, dsn, &opts)
	w := watch(t, s)
	const cuts = 8 // more than it takes until the pause would be long
	for range cuts {
		var n int
		must(t, db.QueryRow("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "+
			"WHERE datname = current_database() AND application_name = 'watcher'").Scan(&n))
		if n == 0 {
			t.Fatal("no connection of a watcher")
		}
		w.expect(lost)
		w.expect(started)
		r := newRecord()
		execute(t, db, "INSERT INTO api_keys (id, hash) VALUES ($1, $2)", r.ID, r.Hash[:])
		w.expect(change(r.Hash))
	}
	pauses := logged.values("retry")
	if len(pauses) != cuts {
		t.Errorf("%d pauses are logged, want %d", len(pauses), cuts)
	}
	for _, pause := range pauses {
		if d := pause.Duration(); d > 50*time.Millisecond {
			t.Errorf("the pause is %v, want at most 50ms", d)
		}
	}
}

// Nothing is promised while nothing announces changes.
func TestWatchWithoutTriggers(t *testing.T) {
	dsn := pgtest.DSN(t)
	db := openPostgres(t, dsn)
	logged := new(logs)
	opts := postgres.Options{Logger: slog.New(logged), HeartbeatInterval: 20 * time.Millisecond, HeartbeatTimeout: patience}
	s, err := postgres.New(db, &opts)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- s.Watch(ctx, func(c auth.Change) { t.Errorf("without a table, %v is reported", c) })
	}()
	await(t, "attempts without a table", func() bool { return logged.count("the table does not exist: call Migrate") >= 2 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch: %v, want context.Canceled", err)
	}

	must(t, s.Migrate(t.Context()))
	w := watch(t, s)
	for _, test := range []struct{ breaks, repairs, logged string }{
		{"ALTER TABLE api_keys DISABLE TRIGGER api_keys_on_update",
			"ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_on_update", "ENABLE ALWAYS TRIGGER: api_keys_on_update"},
		{"ALTER TABLE api_keys ENABLE TRIGGER api_keys_on_update", // as on the publisher's side only
			"ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_on_update", "ENABLE ALWAYS TRIGGER: api_keys_on_update"},
		{"ALTER TABLE api_keys ENABLE REPLICA TRIGGER api_keys_on_truncate",
			"ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_on_truncate", "ENABLE ALWAYS TRIGGER: api_keys_on_truncate"},
		{"CREATE TABLE child () INHERITS (api_keys)", "DROP TABLE child", "partitions or children"},
		{"DROP TRIGGER api_keys_on_row ON api_keys",
			"CREATE TRIGGER api_keys_on_row AFTER INSERT OR DELETE ON api_keys FOR EACH ROW EXECUTE FUNCTION api_keys_notify(); " +
				"ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_on_row", "ENABLE ALWAYS TRIGGER: api_keys_on_row"},
		{"ALTER TABLE api_keys RENAME TO old", "ALTER TABLE old RENAME TO api_keys", "the table does not exist"},
	} {
		before := logged.count(test.logged)
		execute(t, db, test.breaks)
		w.expect(lost)
		await(t, "attempts after "+test.breaks, func() bool { return logged.count(test.logged) >= before+2 })
		if got := w.all(); len(got) > 0 {
			t.Errorf("%s: reported %v, want nothing", test.breaks, got)
		}
		execute(t, db, test.repairs)
		w.expect(started)
	}
}

// Another table with the same name is another table, also if its changes are
// announced: those before are not known.
func TestWatchReplacedTable(t *testing.T) {
	dsn := pgtest.DSN(t)
	opts := steady
	opts.HeartbeatInterval = 20 * time.Millisecond
	s, db := newPostgres(t, dsn, &opts), openPostgres(t, dsn)
	w := watch(t, s)
	execute(t, db, `BEGIN;
		CREATE TABLE new (LIKE api_keys INCLUDING ALL);
		CREATE TRIGGER api_keys_on_row AFTER INSERT OR DELETE ON new FOR EACH ROW EXECUTE FUNCTION api_keys_notify();
		CREATE TRIGGER api_keys_on_update AFTER UPDATE ON new FOR EACH ROW EXECUTE FUNCTION api_keys_notify();
		CREATE TRIGGER api_keys_on_truncate AFTER TRUNCATE ON new FOR EACH STATEMENT EXECUTE FUNCTION api_keys_notify();
		ALTER TABLE new ENABLE ALWAYS TRIGGER api_keys_on_row, ENABLE ALWAYS TRIGGER api_keys_on_update,
			ENABLE ALWAYS TRIGGER api_keys_on_truncate;
		ALTER TABLE api_keys RENAME TO old;
		ALTER TABLE new RENAME TO api_keys;
		COMMIT`)
	w.expect(lost)
	w.expect(started)
	r := inserted(t, s)
	w.expect(change(r.Hash))
}

// A watcher holds no connection of the pool.
func TestWatchPoolOfOneConnection(t *testing.T) {
	db := openPostgres(t, pgtest.DSN(t))
	db.SetMaxOpenConns(1)
	opts := steady
	opts.HeartbeatInterval = 20 * time.Millisecond
	s, err := postgres.New(db, &opts)
	must(t, err)
	must(t, s.Migrate(t.Context()))
	w := watch(t, s)
	r := inserted(t, s)
	w.expect(change(r.Hash))
	must(t, s.Update(t.Context(), revoked(r), nil))
	w.expect(change(r.Hash))
}

// The heartbeat finds a connection on which nothing arrives, though nobody has
// closed it.
func TestWatchHalfOpen(t *testing.T) {
	dsn := pgtest.DSN(t)
	newPostgres(t, dsn, nil)
	for _, name := range []string{"derived from the pool", "WatchConfig"} {
		t.Run(name, func(t *testing.T) {
			p, config := proxied(t, dsn)
			opts := quick
			s, err := postgres.New(openPostgres(t, config.ConnString()), &opts)
			if name == "WatchConfig" {
				opts.WatchConfig = config
				s, err = postgres.New(openPostgres(t, dsn), &opts)
			}
			must(t, err)
			w := watch(t, s)
			p.silence(true)
			for w.next() != lost { // a slow heartbeat may have been lost before
			}
			p.silence(false)
			for w.next() != started {
			}
		})
	}
}

// A heartbeat that comes back keeps a good connection.
func TestWatchHeartbeat(t *testing.T) {
	dsn := pgtest.DSN(t)
	db := openPostgres(t, dsn)
	opts := steady
	opts.HeartbeatInterval = time.Millisecond
	s := newPostgres(t, dsn, &opts)
	mark := newMarker(t, s, db)
	w := watch(t, s)
	heard := heartbeats(t, dsn)
	for range 5 {
		<-heard
	}
	if got := mark.until(w); len(got) > 0 {
		t.Errorf("reported %v, want nothing", got)
	}
}

// heartbeats returns a channel with the heartbeats of watchers.
func heartbeats(t *testing.T, dsn string) <-chan string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	must(t, err)
	_, err = conn.Exec(t.Context(), "LISTEN api_keys_changed")
	must(t, err)
	heard := make(chan string)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done; conn.Close(context.Background()) })
	go func() {
		defer close(done)
		for {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				return
			}
			if strings.HasPrefix(n.Payload, "beat ") {
				select {
				case heard <- n.Payload:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return heard
}

// With a driver that hides what it wraps and no WatchConfig, Watch cannot know
// how to connect.
func TestWatchWrappedDriver(t *testing.T) {
	dsn := pgtest.DSN(t)
	newPostgres(t, dsn, nil)
	spy := &wrappedDriver{inner: openPostgres(t, dsn).Driver(), name: dsn, opaque: true}
	db := sql.OpenDB(spy)
	defer db.Close()
	_, err := postgres.New(db, &steady)
	if err == nil || !strings.Contains(err.Error(), "WatchConfig") {
		t.Errorf("New: %v, want an error that names WatchConfig", err)
	}
	opts := steady
	opts.WatchConfig, err = pgx.ParseConfig(dsn)
	must(t, err)
	s, err := postgres.New(db, &opts)
	must(t, err)
	watch(t, s).end()

	spy.opaque = false
	db.SetMaxIdleConns(0)
	s, err = postgres.New(db, &steady)
	must(t, err)
	watch(t, s)
}

// watchGoroutines returns how many goroutines belong to Watch, and their
// stacks.
func watchGoroutines() (n int, stacks string) {
	buf := make([]byte, 1<<22)
	buf = buf[:runtime.Stack(buf, true)]
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(stack, "sqlstore/postgres.(*") || strings.Contains(stack, "pgconn.") || strings.Contains(stack, "ctxwatch.") {
			n++
			stacks += stack + "\n\n"
		}
	}
	return n, stacks
}

// Watch leaves no goroutine when it returns.
func TestWatchLeavesNothing(t *testing.T) {
	dsn := pgtest.DSN(t)
	s := newPostgres(t, dsn, nil)
	before, _ := watchGoroutines()
	check := func(what string) {
		t.Helper()
		var stacks string
		defer func() {
			if t.Failed() {
				t.Logf("%s:\n%s", what, stacks)
			}
		}()
		await(t, "the end of goroutines "+what, func() bool {
			var n int
			n, stacks = watchGoroutines()
			return n <= before
		})
	}
	for range 3 {
		watch(t, s).end()
	}
	check("after Watch")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Watch(ctx, func(c auth.Change) { t.Errorf("reported %v", c) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Watch with a context that is done: %v, want context.Canceled", err)
	}
	check("after Watch with a context that is done")

	// The connection is half-open, and Watch ends after some attempts to
	// connect.
	for attempts := range 3 {
		t.Run(fmt.Sprint("half-open ", attempts), func(t *testing.T) {
			p, config := proxied(t, dsn)
			logged := new(logs)
			s, err := postgres.New(openPostgres(t, dsn), &postgres.Options{Logger: slog.New(logged), WatchConfig: config,
				HeartbeatInterval: 20 * time.Millisecond, HeartbeatTimeout: 200 * time.Millisecond})
			must(t, err)
			w := watch(t, s)
			p.silence(true)
			for w.next() != lost {
			}
			await(t, "attempts", func() bool { return len(logged.values("retry")) >= attempts })
			w.end()
			check("after a half-open connection")
		})
	}
}

// A watcher whose connection leads to another database than the pool, as after
// a failover, hears nothing and says so.
func TestWatchOtherDatabase(t *testing.T) {
	here, there := pgtest.DSN(t), pgtest.DSN(t)
	// The heartbeat of another watcher there is not taken for its own.
	watch(t, newPostgres(t, there, &postgres.Options{Logger: quiet, HeartbeatInterval: 10 * time.Millisecond, HeartbeatTimeout: patience}))
	config, err := pgx.ParseConfig(there)
	must(t, err)
	logged := new(logs)
	s := newPostgres(t, here, &postgres.Options{Logger: slog.New(logged), WatchConfig: config,
		HeartbeatInterval: 10 * time.Millisecond, HeartbeatTimeout: patience})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Watch(ctx, func(c auth.Change) { t.Errorf("reported %v", c) }) }()
	await(t, "attempts", func() bool { return len(logged.values("retry")) >= 3 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch: %v, want context.Canceled", err)
	}
}
