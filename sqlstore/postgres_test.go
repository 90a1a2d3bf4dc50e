package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
)

// A load uses a Store from many goroutines while something happens to it. An
// error may come at any time, a wrong answer never.
type load struct {
	t        *testing.T
	s        store
	stop     context.CancelFunc
	workers  sync.WaitGroup
	answers  atomic.Int64
	failures atomic.Int64

	mu      sync.Mutex
	written []*auth.Record // acknowledged
	revoked []*auth.Record // acknowledged
}

func startLoad(t *testing.T, s store) *load {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	l := &load{t: t, s: s, stop: cancel}
	valid, gone, unknown := inserted(t, s), inserted(t, s), newRecord()
	must(t, s.Update(ctx, revoked(gone), nil))
	for range 4 {
		l.lookup(ctx, valid.Hash, func(r *auth.Record, err error) error {
			if r != nil && !r.RevokedAt.IsZero() {
				return errors.New("it is revoked")
			}
			return found(err)
		})
		l.lookup(ctx, gone.Hash, func(r *auth.Record, err error) error {
			if r != nil && r.RevokedAt.IsZero() {
				return errors.New("it is not revoked")
			}
			return found(err)
		})
		l.lookup(ctx, unknown.Hash, func(r *auth.Record, err error) error {
			if r != nil {
				return errors.New("it does not exist")
			}
			return nil
		})
	}
	for range 2 {
		l.work(ctx, l.write)
	}
	return l
}

func found(err error) error {
	if errors.Is(err, auth.ErrNotFound) {
		return err
	}
	return nil
}

// lookup looks a hash up again and again. An answer for which wrong returns an
// error fails the test.
func (l *load) lookup(ctx context.Context, hash auth.Hash, wrong func(*auth.Record, error) error) {
	l.work(ctx, func(ctx context.Context) error {
		r, err := l.s.Lookup(ctx, hash)
		if wrong := wrong(r, err); wrong != nil {
			l.t.Errorf("Lookup returns %+v, %v: %v", fields(r), err, wrong)
		}
		if errors.Is(err, auth.ErrNotFound) {
			return nil
		}
		return err
	})
}

// write inserts a key, rotates it and revokes it, and keeps what was
// acknowledged.
func (l *load) write(ctx context.Context) error {
	r := newRecord()
	if err := l.s.Insert(ctx, r.Clone()); err != nil {
		return err
	}
	l.keep(&l.written, r)
	if err := l.s.Touch(ctx, map[string]time.Time{r.ID: time.Now()}); err != nil {
		return err
	}
	next, successor := rotated(r)
	if err := l.s.Update(ctx, next.Clone(), successor.Clone()); err != nil {
		return err
	}
	l.keep(&l.written, successor)
	if err := l.s.Update(ctx, revoked(next), nil); err != nil {
		return err
	}
	l.keep(&l.revoked, r)
	return nil
}

func (l *load) keep(list *[]*auth.Record, r *auth.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*list = append(*list, r)
}

// rotations returns how many keys were rotated and revoked.
func (l *load) rotations() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.revoked)
}

func (l *load) work(ctx context.Context, f func(context.Context) error) {
	l.workers.Go(func() {
		for ctx.Err() == nil {
			call, cancel := context.WithTimeout(ctx, 2*time.Second)
			if err := f(call); err != nil {
				l.failures.Add(1)
				time.Sleep(time.Millisecond) // lets the others work
			} else {
				l.answers.Add(1)
			}
			cancel()
		}
	})
}

// awaitWork waits until there are more answers and more rotated keys.
func (l *load) awaitWork() {
	l.t.Helper()
	answers, rotations := l.answers.Load(), l.rotations()
	await(l.t, "answers", func() bool { return l.answers.Load() > answers+200 })
	await(l.t, "rotations", func() bool { return l.rotations() > rotations+2 })
}

// end stops the load and checks that what was acknowledged is stored. The Store
// s has connections that no fault has hit.
func (l *load) end(s store) {
	l.t.Helper()
	l.stop()
	l.workers.Wait()
	l.t.Logf("%d answers, %d errors, %d keys written, %d revoked",
		l.answers.Load(), l.failures.Load(), len(l.written), len(l.revoked))
	for _, r := range l.written {
		got, err := s.Lookup(context.Background(), r.Hash)
		if err != nil {
			l.t.Errorf("Lookup of an inserted key: %v", err)
		} else if got.ID != r.ID {
			l.t.Errorf("Lookup returns %q, want %q", got.ID, r.ID)
		}
	}
	for _, r := range l.revoked {
		got, err := s.Lookup(context.Background(), r.Hash)
		if err != nil {
			l.t.Errorf("Lookup of a revoked key: %v", err)
		} else if got.RevokedAt.IsZero() {
			l.t.Errorf("%s is no longer revoked", r.ID)
		}
	}
	wantWholeRotations(l.t, s)
}

func TestPostgresStopsUnderLoad(t *testing.T) {
	server := pgtest.Start(t)
	db := openPostgres(t, server.URL("postgres"))
	db.SetMaxOpenConns(8)
	s, err := postgres.New(db, &steady)
	must(t, err)
	must(t, s.Migrate(t.Context()))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var watching atomic.Bool
	go s.Watch(ctx, func(c auth.Change) {
		if c.Kind != auth.RecordChanged {
			watching.Store(c.Kind == auth.WatchStarted)
		}
	})
	l := startLoad(t, s)
	for _, stop := range []func(){server.Stop, server.Crash} {
		await(t, "WatchStarted", watching.Load)
		l.awaitWork()
		stop()
		await(t, "WatchLost", func() bool { return !watching.Load() })
		failed := l.failures.Load()
		await(t, "errors", func() bool { return l.failures.Load() > failed+20 })
		must(t, server.Start())
	}
	await(t, "WatchStarted", watching.Load)
	l.awaitWork()
	l.end(newPostgres(t, server.URL("postgres"), nil))
}

func TestPostgresConnectionsCutUnderLoad(t *testing.T) {
	dsn := pgtest.DSN(t)
	s, db := newPostgres(t, dsn, nil), openPostgres(t, dsn)
	l := startLoad(t, s)
	for range 8 {
		l.awaitWork()
		execute(t, db, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "+
			"WHERE datname = current_database() AND pid <> pg_backend_pid()")
	}
	l.awaitWork()
	l.end(newPostgres(t, dsn, nil))
}

// A client that leaves while its query waits gets its answer, and the pool
// works on.
func TestPostgresClientLeaves(t *testing.T) {
	dsn := pgtest.DSN(t)
	s, db := newPostgres(t, dsn, nil), openPostgres(t, dsn)
	r := inserted(t, s)
	tx, err := db.Begin()
	must(t, err)
	defer tx.Rollback()
	execute(t, tx, "LOCK TABLE api_keys")
	next, successor := rotated(r)
	for what, call := range map[string]func(ctx context.Context) error{
		"Lookup":                func(ctx context.Context) error { _, err := s.Lookup(ctx, r.Hash); return err },
		"Get":                   func(ctx context.Context) error { _, err := s.Get(ctx, r.ID); return err },
		"List":                  func(ctx context.Context) error { _, err := s.List(ctx, keyring.Query{Limit: 1}); return err },
		"Insert":                func(ctx context.Context) error { return s.Insert(ctx, newRecord()) },
		"Update":                func(ctx context.Context) error { return s.Update(ctx, revoked(r), nil) },
		"Update with successor": func(ctx context.Context) error { return s.Update(ctx, next.Clone(), successor.Clone()) },
		"Delete":                func(ctx context.Context) error { return s.Delete(ctx, r.ID, "somebody") },
		"Touch":                 func(ctx context.Context) error { return s.Touch(ctx, map[string]time.Time{r.ID: time.Now()}) },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- call(ctx) }()
		await(t, what+" to wait for the lock", func() bool { return waitingForLock(t, db) == 1 })
		cancel()
		select {
		case err := <-done: // while the table is still locked
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v, want context.Canceled", what, err)
			}
		case <-time.After(patience):
			t.Fatalf("%s does not return after its client has left", what)
		}
		await(t, "the server to notice", func() bool { return waitingForLock(t, db) == 0 })
	}
	must(t, tx.Rollback())
	wantStored(t, s, r)
	wantMissing(t, s, successor.Hash)
}

// waitingForLock returns how many sessions of the database wait for a lock.
func waitingForLock(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	must(t, db.QueryRow("SELECT count(*) FROM pg_stat_activity "+
		"WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&n))
	return n
}

// The server or the connection is lost between the two writes of a rotation, so
// there is neither.
func TestPostgresCrashInRotation(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.URL("postgres")
	newPostgres(t, dsn, nil)
	// The second write waits, so that the test knows when.
	execute(t, openPostgres(t, dsn), `CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
		CREATE TRIGGER hold BEFORE INSERT ON api_keys FOR EACH ROW WHEN (NEW.rotated_from <> '') EXECUTE FUNCTION hold()`)
	for name, cut := range map[string]func(*sql.Conn){
		"connection": func(c *sql.Conn) {
			execute(t, c, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
		},
		"server": func(*sql.Conn) {
			server.Crash()
			must(t, server.Start())
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newPostgres(t, dsn, nil)
			old := inserted(t, s)
			conn, err := openPostgres(t, dsn).Conn(t.Context())
			must(t, err)
			defer conn.Close()
			execute(t, conn, "SELECT pg_advisory_lock(1)")
			next, successor := rotated(old)
			done := make(chan error, 1)
			go func() { done <- s.Update(context.Background(), next.Clone(), successor.Clone()) }()
			await(t, "the second write", func() (waits bool) {
				must(t, conn.QueryRowContext(t.Context(),
					"SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)").Scan(&waits))
				return waits
			})
			cut(conn)
			if err := <-done; err == nil {
				t.Error("Update succeeds on a connection that was cut")
			}
			conn.ExecContext(t.Context(), "SELECT pg_advisory_unlock_all()")
			after := newPostgres(t, dsn, nil) // its connections are new
			wantStored(t, after, old)
			wantMissing(t, after, successor.Hash)
		})
	}
}

// A client dies without closing its connection, between any two messages that a
// call sends. What it locked does not stay locked: others can change the key.
func TestPostgresClientDies(t *testing.T) {
	t.Parallel() // it waits most of the time
	dsn := pgtest.DSN(t)
	s := newPostgres(t, dsn, nil)
	u, err := url.Parse(dsn)
	must(t, err)
	for name, call := range map[string]func(context.Context, store, *auth.Record) error{
		"Insert": func(ctx context.Context, s store, _ *auth.Record) error { return s.Insert(ctx, newRecord()) },
		"Update": func(ctx context.Context, s store, r *auth.Record) error {
			return s.Update(ctx, revoked(r), nil)
		},
		"Update with successor": func(ctx context.Context, s store, r *auth.Record) error {
			next, successor := rotated(r)
			return s.Update(ctx, next, successor)
		},
		"Delete": func(ctx context.Context, s store, r *auth.Record) error {
			return s.Delete(ctx, r.ID, "somebody")
		},
		"Touch": func(ctx context.Context, s store, r *auth.Record) error {
			return s.Touch(ctx, map[string]time.Time{r.ID: time.Now()})
		},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 0; ; n++ {
				p := newProxy(t, u.Host)
				through := *u
				through.Host = p.address
				db := openPostgres(t, through.String())
				must(t, db.Ping())
				dying, err := postgres.New(db, &steady)
				must(t, err)
				r := inserted(t, s)
				ctx, cancel := context.WithCancel(t.Context())
				silent := p.fallSilent(n)
				go func() {
					select {
					case <-silent: // the call would wait forever
					case <-ctx.Done():
					}
					cancel()
				}()
				err = call(ctx, dying, r)
				cancel()
				if err == nil {
					if n == 0 {
						t.Error("a call succeeds without a message")
					}
					return // it sends n messages
				}
				wantChangeable(t, s, r.ID)
			}
		})
	}
}

// wantChangeable changes a key, and fails if it stays locked.
func wantChangeable(t *testing.T, s store, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, s.Touch(ctx, map[string]time.Time{id: time.Now()}))
	r, err := s.Get(ctx, id)
	must(t, err)
	must(t, s.Update(ctx, revoked(r), nil))
}
