package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/sqlstore"
	"github.com/insigner/auth/sqlstore/pgtest"
)

// A load uses a Store from many goroutines while something happens to it, and checks each answer that it gets: an
// error may come at any time, a wrong answer never.
type load struct {
	t        *testing.T
	s        *sqlstore.Store
	stop     context.CancelFunc
	workers  sync.WaitGroup
	answers  atomic.Int64
	failures atomic.Int64

	mu      sync.Mutex
	written []auth.Record // acknowledged
	revoked []auth.Record // acknowledged
}

func startLoad(t *testing.T, s *sqlstore.Store) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, s: s, stop: cancel}
	valid, revoked, unknown := inserted(t, s), inserted(t, s), record()
	must(t, s.Revoke(ctx, revoked.ID, time.Now()))
	for range 4 {
		l.work(ctx, func(ctx context.Context) error {
			r, err := s.Lookup(ctx, valid.Hash)
			if err == nil && (r.ID != valid.ID || !r.RevokedAt.IsZero()) || errors.Is(err, auth.ErrNotFound) {
				t.Errorf("a valid key: %v, %v", r, err)
			}
			return err
		})
		l.work(ctx, func(ctx context.Context) error {
			r, err := s.Lookup(ctx, revoked.Hash)
			if err == nil && r.RevokedAt.IsZero() || errors.Is(err, auth.ErrNotFound) {
				t.Errorf("a revoked key: %v, %v", r, err)
			}
			return err
		})
		l.work(ctx, func(ctx context.Context) error {
			r, err := s.Lookup(ctx, unknown.Hash)
			if err == nil {
				t.Errorf("an unknown key: %v", r)
			} else if errors.Is(err, auth.ErrNotFound) {
				return nil
			}
			return err
		})
	}
	for range 2 {
		l.work(ctx, l.write)
	}
	return l
}

// write inserts a key, rotates it and revokes both, and notes what was acknowledged.
func (l *load) write(ctx context.Context) error {
	r, next := record(), record()
	next.Replaces = r.ID
	if err := l.s.Insert(ctx, r); err != nil {
		return err
	}
	l.note(&l.written, r)
	if err := l.s.Touch(ctx, map[string]time.Time{r.ID: time.Now()}); err != nil {
		return err
	}
	if err := l.s.Replace(ctx, next, time.Now().Add(time.Hour)); err != nil {
		return err
	}
	l.note(&l.written, next)
	if err := l.s.Revoke(ctx, r.ID, time.Now()); err != nil {
		return err
	}
	l.note(&l.revoked, r)
	return nil
}

func (l *load) note(list *[]auth.Record, r auth.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*list = append(*list, r)
}

func (l *load) work(ctx context.Context, f func(context.Context) error) {
	l.workers.Go(func() {
		for ctx.Err() == nil {
			call, cancel := context.WithTimeout(ctx, 2*time.Second)
			if err := f(call); err != nil {
				l.failures.Add(1)
				time.Sleep(time.Millisecond)
			} else {
				l.answers.Add(1)
			}
			cancel()
		}
	})
}

// end stops the load and looks for everything that was acknowledged, through a Store whose connections no fault has hit.
func (l *load) end(s *sqlstore.Store) {
	l.t.Helper()
	l.stop()
	l.workers.Wait()
	l.t.Logf("%d answers, %d errors, %d keys written, %d revoked", l.answers.Load(), l.failures.Load(), len(l.written),
		len(l.revoked))
	if len(l.revoked) == 0 {
		l.t.Error("the load did nothing")
	}
	for _, r := range l.written {
		if got, err := s.Lookup(context.Background(), r.Hash); err != nil || got.ID != r.ID {
			l.t.Errorf("lost: %v, %v", got, err)
		}
	}
	for _, r := range l.revoked {
		if got, err := s.Lookup(context.Background(), r.Hash); err != nil || got.RevokedAt.IsZero() {
			l.t.Errorf("no longer revoked: %v, %v", got, err)
		}
	}
	checkRotations(l.t, s)
}

// checkRotations makes sure that each rotation happened whole or not at all.
func checkRotations(t *testing.T, s *sqlstore.Store) {
	t.Helper()
	ctx := context.Background()
	for after := (auth.Position{}); ; {
		page, err := s.List(ctx, "", after, 500)
		must(t, err)
		for _, r := range page {
			after = auth.Position{CreatedAt: r.CreatedAt, ID: r.ID}
			if r.Replaces != "" {
				if old, err := s.Get(ctx, r.Replaces); err != nil || old.ReplacedBy != r.ID {
					t.Errorf("%s replaces %s: %v, replaced by %q", r.ID, r.Replaces, err, old.ReplacedBy)
				}
			}
			if r.ReplacedBy != "" {
				if next, err := s.Get(ctx, r.ReplacedBy); err != nil || next.Replaces != r.ID || r.ExpiresAt.IsZero() {
					t.Errorf("%s is replaced by %s: %v, replaces %q", r.ID, r.ReplacedBy, err, next.Replaces)
				}
			}
		}
		if len(page) == 0 {
			return
		}
	}
}

func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestPostgresStopsUnderLoad(t *testing.T) {
	server := pgtest.Start(t)
	db := openPostgres(t, server.URL("postgres"))
	db.SetMaxOpenConns(8)
	s, err := sqlstore.NewPostgres(db, &quick)
	must(t, err)
	must(t, s.Migrate(t.Context()))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var watching atomic.Bool
	go s.Watch(ctx, func(c auth.Change) {
		if c.Kind != auth.RecordChanged {
			watching.Store(c.Kind == auth.ChangesSeen)
		}
	})
	l := startLoad(t, s)
	for _, stop := range []func(){server.Stop, server.Crash} {
		await(t, "watching", watching.Load)
		n := l.answers.Load()
		await(t, "answers", func() bool { return l.answers.Load() > n+200 })
		stop()
		await(t, "no longer watching", func() bool { return !watching.Load() })
		failed := l.failures.Load()
		await(t, "errors", func() bool { return l.failures.Load() > failed+20 })
		must(t, server.Start())
	}
	await(t, "watching", watching.Load)
	n := l.answers.Load()
	await(t, "answers", func() bool { return l.answers.Load() > n+200 })
	l.end(newPostgres(t, server.URL("postgres")))
}

func TestPostgresConnectionsCutUnderLoad(t *testing.T) {
	dsn := pgtest.DSN(t)
	s, db := newPostgres(t, dsn), openPostgres(t, dsn)
	l := startLoad(t, s)
	for range 8 {
		time.Sleep(100 * time.Millisecond)
		_, err := db.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity " +
			"WHERE datname = current_database() AND pid <> pg_backend_pid()")
		must(t, err)
	}
	await(t, "answers", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.revoked) > 20 })
	l.end(newPostgres(t, dsn))
}

// A client that leaves while its query waits gets its answer at once, and the pool goes on.
func TestPostgresClientLeaves(t *testing.T) {
	dsn := pgtest.DSN(t)
	s, db := newPostgres(t, dsn), openPostgres(t, dsn)
	r := inserted(t, s)
	tx, err := db.Begin()
	must(t, err)
	defer tx.Rollback()
	_, err = tx.Exec("LOCK TABLE api_keys")
	must(t, err)
	next := record()
	next.Replaces = r.ID
	for what, call := range map[string]func(ctx context.Context) error{
		"Lookup":  func(ctx context.Context) error { _, err := s.Lookup(ctx, r.Hash); return err },
		"Insert":  func(ctx context.Context) error { return s.Insert(ctx, record()) },
		"Revoke":  func(ctx context.Context) error { return s.Revoke(ctx, r.ID, time.Now()) },
		"Replace": func(ctx context.Context) error { return s.Replace(ctx, next, time.Now()) },
		"Touch":   func(ctx context.Context) error { return s.Touch(ctx, map[string]time.Time{r.ID: time.Now()}) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		err := call(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, auth.ErrNotFound) {
			t.Errorf("%s: %v, want the context's error", what, err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("%s came back after %v", what, took)
		}
	}
	must(t, tx.Rollback())
	if got, err := s.Lookup(t.Context(), r.Hash); err != nil || !got.RevokedAt.IsZero() || got.ReplacedBy != "" {
		t.Errorf("afterwards: %v, %v", fields(got), err)
	}
}

// The server, or the connection, goes between the two writes of a rotation: neither is there.
func TestPostgresCrashInRotation(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.URL("postgres")
	s, db := newPostgres(t, dsn), openPostgres(t, dsn)
	// The second write waits, so that the test knows when.
	_, err := db.Exec(`CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
		CREATE TRIGGER hold BEFORE UPDATE ON api_keys FOR EACH ROW WHEN (NEW.replaced_by <> '') EXECUTE FUNCTION hold()`)
	must(t, err)
	cut := map[string]func(*sql.Conn){
		"backend": func(c *sql.Conn) {
			_, err := c.ExecContext(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_locks "+
				"WHERE locktype = 'advisory' AND NOT granted")
			must(t, err)
		},
		"server": func(*sql.Conn) {
			server.Crash()
			must(t, server.Start())
		},
	}
	for name, cut := range cut {
		t.Run(name, func(t *testing.T) {
			old := inserted(t, s)
			conn, err := db.Conn(t.Context())
			must(t, err)
			defer conn.Close()
			_, err = conn.ExecContext(t.Context(), "SELECT pg_advisory_lock(1)")
			must(t, err)
			next := record()
			next.Replaces = old.ID
			done := make(chan error, 1)
			go func() { done <- s.Replace(context.Background(), next, time.Now()) }()
			for n := 0; n == 0; time.Sleep(5 * time.Millisecond) {
				err := conn.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").Scan(&n)
				must(t, err)
			}
			cut(conn)
			if err := <-done; err == nil {
				t.Error("Replace succeeded on a connection that was cut")
			}
			conn.ExecContext(t.Context(), "SELECT pg_advisory_unlock_all()")
			for _, hash := range []auth.Hash{old.Hash, next.Hash} {
				got, err := retry(t, func() (auth.Record, error) { return s.Lookup(t.Context(), hash) })
				if hash == next.Hash && !errors.Is(err, auth.ErrNotFound) {
					t.Errorf("the successor: %v, %v", got, err)
				}
				if hash == old.Hash && (err != nil || got.ReplacedBy != "" || !got.ExpiresAt.IsZero()) {
					t.Errorf("the old key: %v, %v", fields(got), err)
				}
			}
			checkRotations(t, s)
		})
	}
}

// A client dies without a sign, between any two of the messages that a call sends: what it locked does not stay locked,
// and least of all can it keep a key from being revoked.
func TestPostgresClientDies(t *testing.T) {
	dsn := pgtest.DSN(t)
	s := newPostgres(t, dsn)
	u, err := url.Parse(dsn)
	must(t, err)
	for name, call := range map[string]func(context.Context, *sqlstore.Store, auth.Record) error{
		"Insert": func(ctx context.Context, s *sqlstore.Store, _ auth.Record) error { return s.Insert(ctx, record()) },
		"Revoke": func(ctx context.Context, s *sqlstore.Store, r auth.Record) error {
			return s.Revoke(ctx, r.ID, time.Now())
		},
		"Replace": func(ctx context.Context, s *sqlstore.Store, r auth.Record) error {
			next := record()
			next.Replaces = r.ID
			return s.Replace(ctx, next, time.Now())
		},
		"Touch": func(ctx context.Context, s *sqlstore.Store, r auth.Record) error {
			return s.Touch(ctx, map[string]time.Time{r.ID: time.Now()})
		},
	} {
		for n := range 20 {
			t.Run(fmt.Sprint(name, n), func(t *testing.T) {
				t.Parallel()
				p := newProxy(t, u.Host)
				through := *u
				through.Host = p.l.Addr().String()
				db := openPostgres(t, through.String())
				must(t, db.Ping())
				dying, err := sqlstore.NewPostgres(db, &quick)
				must(t, err)
				r := inserted(t, s)
				p.fallSilent(n)
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				if err := call(ctx, dying, r); !p.isSilent() {
					must(t, err)
					return // it took fewer messages
				} else if err == nil {
					t.Error("a call that got no answer succeeded")
				}
				start := time.Now()
				ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				must(t, s.Touch(ctx, map[string]time.Time{r.ID: time.Now()}))
				must(t, s.Revoke(ctx, r.ID, time.Now()))
				t.Log("after", time.Since(start).Round(time.Millisecond))
			})
		}
	}
}

// retry calls f until the answer is known.
func retry(t *testing.T, f func() (auth.Record, error)) (r auth.Record, err error) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if r, err = f(); err == nil || errors.Is(err, auth.ErrNotFound) {
			return r, err
		}
	}
	return r, err
}

// isolated calls f with the DSN of a database whose transactions are isolated like that by default, for each level.
func isolated(t *testing.T, f func(t *testing.T, dsn string)) {
	for _, level := range []string{"read committed", "repeatable read", "serializable"} {
		t.Run(level, func(t *testing.T) {
			dsn := pgtest.DSN(t)
			_, err := openPostgres(t, dsn).Exec("ALTER DATABASE " + quoteName(dsn) +
				" SET default_transaction_isolation TO '" + level + "'")
			must(t, err)
			f(t, dsn)
		})
	}
}

// Last uses are written while keys are revoked: each call succeeds, however the database isolates transactions.
func TestTouchAndRevokeTogether(t *testing.T) {
	isolated(t, func(t *testing.T, dsn string) {
		s := newPostgres(t, dsn)
		used := make(map[string]time.Time)
		for range 80 {
			used[inserted(t, s).ID] = time.Time{}
		}
		ids := slices.Collect(maps.Keys(used))
		latest := time.Now().Add(time.Hour).Truncate(time.Microsecond)
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				mine := maps.Clone(used)
				for j := range 10 {
					for id := range mine {
						mine[id] = latest.Add(time.Duration(j-9) * time.Minute)
					}
					if err := s.Touch(t.Context(), mine); err != nil {
						t.Error(err)
					}
				}
			})
			wg.Go(func() {
				for _, id := range ids[20*i : 20*(i+1)] {
					if err := s.Revoke(t.Context(), id, time.Now()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		for id := range used {
			if r, err := s.Get(t.Context(), id); err != nil || r.RevokedAt.IsZero() || !r.LastUsedAt.Equal(latest) {
				t.Errorf("got %v, %v", fields(r), err)
			}
		}
	})
}

// Many instances rotate one key: exactly one succeeds, also if the database isolates transactions by default.
func TestRotateTogether(t *testing.T) {
	isolated(t, func(t *testing.T, dsn string) { rotateTogether(t, newPostgres(t, dsn), newPostgres(t, dsn)) })
	t.Run("sqlite", func(t *testing.T) {
		path := t.TempDir() + "/db"
		a, _ := newSQLite(t, path)
		b, _ := newSQLite(t, path)
		rotateTogether(t, a, b)
	})
	// A pool of the caller's own, whose transactions begin without a lock.
	t.Run("sqlite deferred", func(t *testing.T) {
		db := openDeferred(t, t.TempDir()+"/db")
		s, err := sqlstore.NewSQLite(db, &quick)
		must(t, err)
		must(t, s.Migrate(t.Context()))
		rotateTogether(t, s)
	})
}

func rotateTogether(t *testing.T, stores ...*sqlstore.Store) {
	for range 10 {
		old := inserted(t, stores[0])
		var won atomic.Int64
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				next := record()
				next.Replaces = old.ID
				switch err := stores[i%len(stores)].Replace(t.Context(), next, time.Now().Add(time.Hour)); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, auth.ErrSuperseded):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%d rotations of one key succeeded", won.Load())
		}
	}
	checkRotations(t, stores[0])
}
