package faults_test

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/internal/pgtest"
)

func open(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func execute(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	_, err := db.Exec(query, args...)
	must(t, err)
}

// TestPostgresStops stops the database and starts it again.
func TestPostgresStops(t *testing.T) {
	for _, test := range []struct {
		name  string
		stale time.Duration
	}{
		{"default", 0},
		{"StaleIfError", time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := pgtest.Start(t)
			dsn := server.URL("postgres")
			opts := cache.Options{StaleIfError: test.stale}
			a, b := startPostgres(t, dsn, "", opts), startPostgres(t, dsn, "", opts)
			l := startLoad(t, a, b)
			for _, stop := range []func(){server.Stop, server.Crash} {
				l.recovers()
				expires := time.Now().Add(700 * time.Millisecond)
				_, expiring := a.createUntil(t, expires)
				leaked, leakedKey := a.create(t)
				old, oldKey := a.create(t)
				for _, in := range l.instances {
					for _, k := range l.valid {
						in.remembers(t, k.key)
					}
					in.remembers(t, leakedKey)
					in.remembers(t, oldKey)
					in.wants(t, "a key that expires soon", expiring, accepted, expired)
				}
				resume := func() {}
				if test.stale > 0 {
					resume = l.pause() // with StaleIfError, a revocation just before the stop may not be seen
					l.remembered.Store(true)
				}
				must(t, a.manage.Revoke(t.Context(), leaked.ID))
				stop()
				resume()
				l.fails(20)
				if test.stale > 0 {
					l.grows(50)
				}
				// The instance that revoked it does not accept it again.
				a.wants(t, "revoked just before the end", leakedKey, revoked, unavailable)
				if err := a.manage.Revoke(t.Context(), old.ID); err == nil {
					t.Error("a revocation without a database succeeded")
				}
				time.Sleep(time.Until(expires))
				for _, in := range l.instances {
					if test.stale > 0 {
						in.wants(t, "no database, but the record is in memory", oldKey, accepted, unavailable)
						in.wants(t, "expired since", expiring, expired, unavailable)
					} else {
						in.wants(t, "no database", oldKey, unavailable)
					}
				}
				must(t, server.Start())
				revokeUntilKnown(t, a, old)
				at := time.Now()
				a.wants(t, "revoked just after the start", oldKey, revoked, unavailable)
				t.Logf("revoked just after the start, refused elsewhere after %v", b.refuses(t, "revoked just after the start", oldKey, at))
				b.refuses(t, "revoked just before the end", leakedKey, at)
				l.remembered.Store(false)
			}
			l.recovers()
			l.end()
		})
	}
}

// revokeUntilKnown revokes a key, and tries again until that succeeds.
func revokeUntilKnown(t *testing.T, in *instance, r auth.Record) {
	t.Helper()
	eventually(t, "a revocation", func() bool { return in.manage.Revoke(t.Context(), r.ID) == nil })
}

// TestPostgresConnectionsCut cuts all connections, also those of the watchers.
func TestPostgresConnectionsCut(t *testing.T) {
	dsn := pgtest.DSN(t)
	a, b := startPostgres(t, dsn, "", cache.Options{}), startPostgres(t, dsn, "", cache.Options{})
	db := open(t, dsn)
	l := startLoad(t, a, b)
	l.recovers()
	for range 10 {
		l.grows(100)
		execute(t, db, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	}
	l.recovers()
	l.end()
}

// TestWatchersCut cuts the connections of the watchers. No request fails, and no
// revocation is missed.
func TestWatchersCut(t *testing.T) {
	dsn := pgtest.DSN(t)
	a, b := startPostgres(t, dsn, "", cache.Options{}), startPostgres(t, dsn, "", cache.Options{})
	db := open(t, dsn)
	l := startLoad(t, a, b)
	l.recovers()
	l.healthy.Store(true)
	for range 8 {
		r, key := a.create(t)
		a.remembers(t, key)
		b.remembers(t, key)
		var n int
		must(t, db.QueryRow(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'watcher'`).Scan(&n))
		if n < 2 { // and perhaps the connection of a heartbeat
			t.Errorf("%d watchers, want 2", n)
		}
		execute(t, db, "UPDATE api_keys SET revoked_at = now() WHERE id = $1", r.ID)
		at := time.Now()
		a.refuses(t, "revoked while nobody watches", key, at)
		b.refuses(t, "revoked while nobody watches", key, at)
		a.remembers(t, l.valid[0].key)
		b.remembers(t, l.valid[0].key)
	}
	l.recovers()
	l.end()
}

// TestNobodyCanWatch checks that all answers come from the database while it
// cannot be watched, and that no older copy is used afterwards.
func TestNobodyCanWatch(t *testing.T) {
	dsn := pgtest.DSN(t)
	p, watchDSN := newProxy(t, dsn)
	in := startPostgres(t, dsn, watchDSN, cache.Options{TTL: time.Hour})
	db := open(t, dsn)
	l := startLoad(t, in)
	l.recovers()
	used, usedKey := in.create(t)
	unused, unusedKey := in.create(t)
	in.remembers(t, usedKey)
	in.remembers(t, unusedKey)
	p.set(cut)
	l.healthy.Store(true)
	for _, r := range []auth.Record{used, unused} {
		execute(t, db, "UPDATE api_keys SET revoked_at = now() WHERE id = $1", r.ID)
	}
	in.refuses(t, "revoked while nobody watches", usedKey, time.Now())
	// Each change is seen at once.
	for range 5 {
		r, key := in.create(t)
		in.wants(t, "a key that nobody watches", key, accepted)
		execute(t, db, "UPDATE api_keys SET revoked_at = now() WHERE id = $1", r.ID)
		in.wants(t, "a revocation that nobody watches", key, revoked)
	}
	p.set(passing)
	in.remembers(t, l.valid[0].key)
	in.wants(t, "revoked before it was watched again", unusedKey, revoked)
	in.wants(t, "revoked before it was watched again", usedKey, revoked)
	l.recovers()
	l.end()
}

// TestChangesBySQL checks that changes made with SQL are seen, although the cache
// would keep its records for an hour.
func TestChangesBySQL(t *testing.T) {
	dsn := pgtest.DSN(t)
	opts := cache.Options{TTL: time.Hour, UnknownTTL: time.Hour}
	a, b := startPostgres(t, dsn, "", opts), startPostgres(t, dsn, "", opts)
	db := open(t, dsn)
	l := startLoad(t, a, b)
	l.recovers()
	l.healthy.Store(true)
	for _, test := range []struct{ query, before, after string }{
		{"UPDATE api_keys SET revoked_at = now() WHERE id = $1", accepted, revoked},
		{"UPDATE api_keys SET expires_at = now() WHERE id = $1", accepted, expired},
		{"UPDATE api_keys SET scopes = '[]' WHERE id = $1", accepted, forbidden},
		{"UPDATE api_keys SET hash = sha256(hash) WHERE id = $1", accepted, unknown},
		{"DELETE FROM api_keys WHERE id = $1", accepted, unknown},
	} {
		r, key := a.create(t)
		a.remembers(t, key)
		b.remembers(t, key)
		execute(t, db, test.query, r.ID)
		for _, in := range l.instances {
			in.becomes(t, test.query, key, test.after, test.before)
		}
	}
	key := auth.Scheme{}.NewKey()
	hash := auth.BLAKE2b(nil)(key.Reveal())
	for _, in := range l.instances {
		in.wants(t, "before it is inserted", key.Reveal(), unknown)
	}
	execute(t, db, `INSERT INTO api_keys (id, hash, scopes) VALUES ('key_sql', $1, '["*"]')`, hash[:])
	for _, in := range l.instances {
		in.becomes(t, "inserted", key.Reveal(), accepted, unknown)
	}
	l.healthy.Store(false)
	l.end()
	execute(t, db, "TRUNCATE api_keys")
	for _, in := range l.instances {
		in.becomes(t, "TRUNCATE", key.Reveal(), unknown, accepted)
	}
}

// TestWatcherSilent lets the watcher's connection die without a sign. A revoked key
// is accepted no longer than promised, and later requests are answered from memory
// again.
func TestWatcherSilent(t *testing.T) {
	dsn := pgtest.DSN(t)
	p, watchDSN := newProxy(t, dsn)
	a := startPostgres(t, dsn, "", cache.Options{TTL: time.Hour})
	b := startPostgres(t, dsn, watchDSN, cache.Options{TTL: time.Hour})
	l := startLoad(t, a, b)
	for range 3 {
		l.recovers()
		l.healthy.Store(true)
		r, key := a.create(t)
		a.remembers(t, key)
		b.remembers(t, key)
		p.set(silent)
		must(t, a.manage.Revoke(t.Context(), r.ID))
		at := time.Now()
		a.wants(t, "revoked here", key, revoked)
		t.Logf("refused after %v; sqlstore promises %v", b.refuses(t, "revoked while the connection is dead", key, at), interval+timeout)
		p.set(passing)
		b.remembers(t, l.valid[0].key)
		b.wants(t, "when it is watched again", key, revoked)
		l.healthy.Store(false)
	}
	l.end()
}

// TestAllSilent lets all connections die without a sign.
func TestAllSilent(t *testing.T) {
	dsn := pgtest.DSN(t)
	p, through := newProxy(t, dsn)
	a := startPostgres(t, dsn, "", cache.Options{})
	b := startPostgres(t, through, "", cache.Options{LookupTimeout: 500 * time.Millisecond})
	l := startLoad(t, a, b)
	l.recovers()
	l.writing.Lock() // otherwise the writers of b would wait forever
	resume := sync.OnceFunc(l.writing.Unlock)
	defer resume()
	r, key := a.create(t)
	b.remembers(t, key)
	p.set(silent)
	must(t, a.manage.Revoke(t.Context(), r.ID))
	at := time.Now()
	b.becomes(t, "all connections dead", key, unavailable, accepted)
	if took := time.Since(at); took > bound {
		t.Errorf("refused after %v", took)
	}
	l.fails(20)
	p.set(passing)
	b.refuses(t, "all connections dead", key, at)
	resume()
	l.recovers()
	l.end()
}

// TestSlowQuery checks a query that takes long. A client that leaves costs nothing,
// and the others get their answer.
func TestSlowQuery(t *testing.T) {
	dsn := pgtest.DSN(t)
	in := startPostgres(t, dsn, "", cache.Options{LookupTimeout: 10 * time.Minute})
	db := open(t, dsn)
	_, warm := in.create(t)
	_, alone := in.create(t)
	_, shared := in.create(t)
	in.remembers(t, warm)
	must(t, in.uses.Close()) // otherwise its writes would wait too

	tx, err := db.Begin()
	must(t, err)
	defer tx.Rollback()
	_, err = tx.Exec("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
	must(t, err)
	waiting := func(n int) func() bool {
		return func() bool {
			var blocked int
			must(t, tx.QueryRow("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'api_keys'::regclass").Scan(&blocked))
			return blocked == n && in.db.Stats().InUse == n
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var left sync.WaitGroup
	goes := func(key string) {
		if got := in.get(ctx, key); ctx.Err() == nil {
			t.Errorf("an answer from a table that is locked: %q", got)
		}
	}
	for range 5 {
		left.Go(func() { goes(alone) })
	}
	eventually(t, "a query that waits", waiting(1))
	cancel()
	left.Wait()
	eventually(t, "an abandoned query gone", waiting(0))
	eventually(t, "its goroutines gone", func() bool { return len(goroutines(`sqlstore\.\(\*Store\)\.Lookup`)) == 0 })

	// The client that began the lookup leaves, and so do others. Later ones stay.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	left.Go(func() { goes(shared) })
	eventually(t, "a query that waits", waiting(1))
	stays := make(chan string, 3)
	for range cap(stays) {
		go func() { stays <- in.get(context.Background(), shared) }()
		left.Go(func() { goes(shared) })
	}
	clients := func(n int) func() bool {
		return func() bool { return len(goroutines(`cache\.\(\*Store\)\.Lookup`)) == n }
	}
	eventually(t, "all of them wait", clients(1+2*cap(stays)))
	cancel()
	left.Wait()
	eventually(t, "the clients that leave are gone", clients(cap(stays)))
	in.wants(t, "a key in memory", warm, accepted)
	select {
	case got := <-stays:
		t.Errorf("an answer from a table that is locked: %q", got)
	default:
	}
	eventually(t, "the query of the clients that stay continues", waiting(1))
	must(t, tx.Rollback())
	for range cap(stays) {
		if got := <-stays; got != accepted {
			t.Errorf("a client that stayed gets %q", got)
		}
	}
	in.wants(t, "a client that left and comes back", alone, accepted)
}
