package integration

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/sqlstore"
	"github.com/insigner/auth/sqlstore/pgtest"
	"github.com/jackc/pgx/v5"
)

// A load sends requests until it ends, and reports each wrong answer: a valid key is never refused, a revoked one
// never let through. 503 is not wrong while the database is away.
type load struct {
	stop     context.CancelFunc
	group    sync.WaitGroup
	answered [600]atomic.Int64
}

func underLoad(t *testing.T, a *instance, valid, revoked []string) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{stop: stop}
	for worker := range 4 {
		l.group.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for i := worker; ctx.Err() == nil; i++ {
				key, want := valid[i%len(valid)], 200
				switch i % 5 {
				case 1:
					key, want = revoked[i%len(revoked)], 401
				case 2:
					key, want = madeUp(), 401
				}
				got, err := get(ctx, client, a.server.URL, key)
				if err != nil {
					continue
				}
				l.answered[got].Add(1)
				if got != want && got != 503 {
					t.Errorf("a key whose answer is %d or 503 got %d", want, got)
				}
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) end() {
	l.stop()
	l.group.Wait()
}

// terminate ends the connections that match, and returns how many there were.
func terminate(t *testing.T, db *sql.DB, where string) (n int) {
	t.Helper()
	err := db.QueryRow("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()" +
		" AND pid <> pg_backend_pid() AND " + where).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The watcher's is the connection whose last query was its heartbeat, or its LISTEN.
const watchers = "(query LIKE '%pg_notify%' OR query LIKE 'LISTEN%')"

func TestFaultsUnderLoad(t *testing.T) {
	for name, fault := range map[string]func(t *testing.T, server *pgtest.Server, admin *sql.DB){
		"stopped and started": func(t *testing.T, server *pgtest.Server, _ *sql.DB) {
			server.Stop()
			time.Sleep(300 * time.Millisecond)
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
		},
		"crashed and started": func(t *testing.T, server *pgtest.Server, _ *sql.DB) {
			server.Crash()
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
		},
		"all connections cut": func(t *testing.T, _ *pgtest.Server, admin *sql.DB) {
			eventually(t, "there are connections to cut", func() bool { return terminate(t, admin, "true") >= 2 })
		},
		"the watcher's connection cut": func(t *testing.T, _ *pgtest.Server, admin *sql.DB) {
			eventually(t, "the watcher has a connection to cut", func() bool { return terminate(t, admin, watchers) == 1 })
		},
	} {
		for _, stale := range []time.Duration{0, time.Hour} {
			if stale > 0 {
				name += ", with StaleIfError"
			}
			t.Run(name, func(t *testing.T) {
				server := pgtest.Start(t)
				dsn := server.URL("postgres")
				admin, err := sql.Open("pgx", dsn)
				if err != nil {
					t.Fatal(err)
				}
				defer admin.Close()
				a := start(t, dsn, nil, &cache.Options{Logger: silent, StaleIfError: stale})
				var valid, revoked []string
				for range 10 {
					_, key := a.create(t)
					valid = append(valid, key)
					id, key := a.create(t)
					if got := a.status(t, key); got != 200 {
						t.Fatalf("a new key: %d", got)
					}
					if err := a.keys.Revoke(t.Context(), id); err != nil {
						t.Fatal(err)
					}
					revoked = append(revoked, key)
				}
				id, late := a.create(t)
				a.warm(t, append(slices.Clone(valid), late)...)
				l := underLoad(t, a, valid, revoked)
				for range 2 {
					fault(t, server, admin)
				}
				// With psql, before or while the watcher comes back.
				eventually(t, "a revocation by SQL", func() bool {
					_, err := admin.Exec("UPDATE api_keys SET revoked_at = now() WHERE id = $1", id)
					return err == nil
				})
				a.becomes(t, "revoked after the fault", late, 401)
				a.warm(t, valid...)
				for _, key := range revoked {
					a.becomes(t, "revoked before the fault", key, 401)
				}
				l.end()
				if l.answered[200].Load() == 0 || l.answered[401].Load() == 0 {
					t.Error("the load was none")
				}
				t.Logf("%d times 200, %d times 401, %d times 503", l.answered[200].Load(), l.answered[401].Load(),
					l.answered[503].Load())
			})
		}
	}
}

// What is changed by SQL arrives, for the triggers announce it.
func TestChangesBySQL(t *testing.T) {
	a := start(t, pgtest.DSN(t), nil, nil)
	id, key := a.create(t)
	a.warm(t, key)
	change := func(query string) {
		t.Helper()
		if _, err := a.db.Exec(query, id); err != nil {
			t.Fatal(err)
		}
	}
	change(`UPDATE api_keys SET scopes = '["org.read"]' WHERE id = $1`)
	a.becomes(t, "scopes taken away", key, 403)
	change(`UPDATE api_keys SET scopes = '["documents.*"]' WHERE id = $1`)
	a.becomes(t, "scopes given", key, 200)
	change(`UPDATE api_keys SET expires_at = now() WHERE id = $1`)
	a.becomes(t, "expired", key, 401)
	change(`UPDATE api_keys SET expires_at = NULL WHERE id = $1`)
	a.becomes(t, "not expired", key, 200)
	change(`DELETE FROM api_keys WHERE id = $1`)
	a.becomes(t, "deleted", key, 401)
}

// Writing last uses empties no cache.
func TestLastUseCostsNoLookup(t *testing.T) {
	a := start(t, pgtest.DSN(t), nil, nil)
	id, key := a.create(t)
	a.warm(t, key)
	before := a.counted.lookups.Load()
	eventually(t, "a last use in the table", func() bool {
		if got := a.status(t, key); got != 200 {
			t.Fatalf("a valid key: %d", got)
		}
		r, err := a.keys.Get(t.Context(), id)
		return err == nil && !r.LastUsedAt.IsZero()
	})
	if n := a.counted.lookups.Load() - before; n != 0 {
		t.Errorf("%d look-ups", n)
	}
}

// A proxy passes bytes on until it goes silent: then it takes them and passes none on, and closes nothing.
type proxy struct {
	net.Listener
	silent atomic.Bool
}

func newProxy(t *testing.T, target string) *proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: listener}
	var mu sync.Mutex
	var conns []net.Conn
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			c.Close()
		}
	})
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				in.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, in, out)
			mu.Unlock()
			born := p.silent.Load() // those of after stay as they are
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					defer way[1].Close()
					buf := make([]byte, 4096)
					for {
						n, err := way[0].Read(buf)
						if err != nil {
							return
						}
						if p.silent.Load() == born {
							way[1].Write(buf[:n])
						}
					}
				}()
			}
		}
	}()
	return p
}

// A watcher's connection that dies without a sign is noticed within HeartbeatInterval plus HeartbeatTimeout: so long
// may a revoked key live, and no longer.
func TestHalfOpenWatcher(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.URL("postgres")
	p := newProxy(t, server.Addr())
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, p.Addr().String())
	}
	const interval, timeout = 300 * time.Millisecond, 500 * time.Millisecond
	a := start(t, dsn, &sqlstore.Options{Logger: silent, WatchConfig: config, HeartbeatInterval: interval,
		HeartbeatTimeout: timeout}, nil)
	b := start(t, dsn, nil, nil)
	for range 3 {
		id, key := a.create(t)
		a.warm(t, key)
		p.silent.Store(!p.silent.Load())
		if err := b.keys.Revoke(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		revoked := time.Now()
		a.becomes(t, "revoked while nothing was heard", key, 401)
		t.Logf("refused after %v; the bound is %v", time.Since(revoked), interval+timeout)
		_, key = a.create(t)
		a.warm(t, key) // it reconnects, and serves from memory again
	}
}

// A query that hangs holds up only those who wait for it. Who leaves is gone at once; the others get their answer.
func TestSlowQuery(t *testing.T) {
	a := start(t, pgtest.DSN(t), nil, nil)
	_, cold := a.create(t)
	_, warm := a.create(t)
	a.warm(t, warm)
	tx, err := a.db.Begin()
	if err == nil {
		_, err = tx.Exec("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()

	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	left, answered := make(chan error, 1), make(chan int, 5)
	go func() {
		_, err := get(ctx, a.client, a.server.URL, cold)
		left <- err
	}()
	eventually(t, "the query waits", func() bool { return a.db.Stats().InUse == 2 })
	for range cap(answered) {
		go func() {
			status, err := get(context.Background(), a.client, a.server.URL, cold)
			if err != nil {
				t.Error(err)
			}
			answered <- status
		}()
	}
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the client that left: %v", err)
	}
	if got := a.status(t, warm); got != 200 {
		t.Errorf("a key that is in memory: %d", got)
	}
	if n := a.db.Stats().InUse; n > 3 {
		t.Errorf("%d connections are in use for one look-up", n)
	}
	tx.Rollback()
	for range cap(answered) {
		if got := <-answered; got != 200 {
			t.Errorf("a client that stayed: %d", got)
		}
	}

	// When all leave, the connection comes back, though the table is still locked.
	tx, err = a.db.Begin()
	if err == nil {
		_, err = tx.Exec("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	ctx, leave = context.WithCancel(t.Context())
	go func() {
		_, err := get(ctx, a.client, a.server.URL, madeUp())
		left <- err
	}()
	eventually(t, "the query waits", func() bool { return a.db.Stats().InUse == 2 })
	leave()
	<-left
	eventually(t, "the query is called off", func() bool { return a.db.Stats().InUse == 1 })
}

// Nothing is left running, even if the database is away while all is closed.
func TestNothingIsLeftRunning(t *testing.T) {
	server := pgtest.Start(t)
	before := runtime.NumGoroutine()
	for _, down := range []bool{false, true} {
		a, err := newInstance(server.URL("postgres"), &sqlstore.Options{Logger: silent}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, key := a.create(t)
		a.warm(t, key)
		if down {
			server.Stop()
			a.status(t, madeUp())
		}
		if err := a.close(); (err != nil) != down {
			t.Errorf("down %v: close: %v", down, err)
		}
	}
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
}

// A small service: SQLite in a file, a cache, one process.
func TestSQLite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	open := func(co *cache.Options) *instance {
		db, err := sqlstore.OpenSQLite(path)
		if err != nil {
			t.Fatal(err)
		}
		store, err := sqlstore.NewSQLite(db, nil)
		if err == nil {
			err = store.Migrate(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		a := serve(db, store, co)
		t.Cleanup(func() { a.close() })
		return a
	}
	a := open(nil)
	b := open(&cache.Options{Logger: silent, TTL: time.Second}) // as another process would

	id, key := a.create(t)
	a.warm(t, key)
	b.warm(t, key)
	if err := a.keys.Revoke(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := a.status(t, key); got != 401 {
		t.Errorf("revoked through the very store: %d", got)
	}
	b.becomes(t, "revoked through another store, a time to live ago", key, 401)

	// A full disk: what is known goes on, what cannot be written is an error, and it recovers by itself.
	id, key = a.create(t)
	a.warm(t, key)
	a.db.SetMaxOpenConns(1) // max_page_count is a connection's
	limit := func(pages int) {
		if _, err := a.db.Exec("PRAGMA max_page_count = " + []string{0: "1", 1: "1000000"}[pages]); err != nil {
			t.Fatal(err)
		}
	}
	limit(0)
	full := func() error {
		_, _, err := a.keys.Create(t.Context(), auth.Grant{Name: "large", Metadata: map[string]string{"k": largeText}})
		return err
	}
	eventually(t, "the disk is full", func() bool { return full() != nil })
	if got := a.status(t, key); got != 200 {
		t.Errorf("with a full disk: %d", got)
	}
	if got := a.status(t, madeUp()); got != 401 {
		t.Errorf("nobody's key, with a full disk: %d", got)
	}
	limit(1)
	if err := full(); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
	if err := a.keys.Revoke(t.Context(), id); err != nil {
		t.Error(err)
	}
	if got := a.status(t, key); got != 401 {
		t.Errorf("revoked when there was room again: %d", got)
	}
}

var largeText = func() string {
	b := make([]byte, 100_000)
	for i := range b {
		b[i] = 'a' + byte(i%26)
	}
	return string(b)
}()
