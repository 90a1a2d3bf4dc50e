package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/jackc/pgx/v5"
)

// A fleet are Stores that watch one table.
func fleet(t *testing.T, dsn string, n int, opts postgres.Options) (all []*watching) {
	t.Helper()
	for range n {
		all = append(all, watch(t, newPostgres(t, dsn, &opts)))
	}
	return all
}

// wantQuiet checks that nothing has been reported.
func wantQuiet(t *testing.T, all []*watching) {
	t.Helper()
	for i, w := range all {
		if got := w.all(); len(got) > 0 {
			t.Errorf("to watcher %d %v is reported, want nothing", i, got)
		}
	}
}

// author returns which listener sent a beat.
func author(beat string) string { return strings.Fields(beat)[1] }

// One instance sends the heartbeat for all. When it ends, another one does.
func TestHeartbeatIsShared(t *testing.T) {
	t.Parallel() // it waits most of the time
	dsn := pgtest.DSN(t)
	newPostgres(t, dsn, nil)
	heard := heartbeats(t, dsn)
	received := make(chan string)
	ctx, cancel := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	reading.Go(func() { // so that a beat is not late
		for {
			select {
			case beat := <-heard:
				select {
				case received <- beat:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	opts := steady
	opts.HeartbeatInterval = time.Second
	all := fleet(t, dsn, 10, opts)
	most := func() (count int) {
		authors := make(map[string]int)
		for range 10 {
			authors[author(<-received)]++
		}
		for _, n := range authors {
			count = max(count, n)
		}
		return count
	}
	<-received // perhaps several begin
	if n := most(); n < 5 {
		t.Errorf("the instance that sent most of 10 beats sent %d, want at least 5", n)
	}
	wantQuiet(t, all)
	for _, w := range all[:5] {
		w.end()
	}
	if n := most(); n < 5 {
		t.Errorf("after the end of half of them: the instance that sent most of 10 beats sent %d, want at least 5", n)
	}
	wantQuiet(t, all[5:])
}

// The heartbeat does not wait for the pool. So a flood of queries ends no watch.
func TestHeartbeatWithoutPool(t *testing.T) {
	dsn := pgtest.DSN(t)
	db := openPostgres(t, dsn)
	db.SetMaxOpenConns(2)
	opts := steady
	opts.HeartbeatInterval = 20 * time.Millisecond
	opts.HeartbeatTimeout = 10 * time.Second
	s, err := postgres.New(db, &opts)
	must(t, err)
	must(t, s.Migrate(t.Context()))
	w := watch(t, s)
	for range 2 {
		conn, err := db.Conn(t.Context())
		must(t, err)
		defer conn.Close()
	}
	heard := heartbeats(t, dsn)
	for range 10 {
		<-heard
	}
	wantQuiet(t, []*watching{w})
	r := newRecord()
	execute(t, openPostgres(t, dsn), "INSERT INTO api_keys (id, hash) VALUES ($1, $2)", r.ID, r.Hash[:])
	w.expect(change(r.Hash))
}

// If the server has no connection to spare, the heartbeat uses the one that
// listens.
func TestHeartbeatWithoutNewConnections(t *testing.T) {
	dsn := pgtest.DSN(t)
	newPostgres(t, dsn, nil)
	role := "watcher_" + strings.Trim(quoteName(dsn), `"`)
	execute(t, openPostgres(t, dsn), `CREATE ROLE "`+role+`" LOGIN CONNECTION LIMIT 1`)
	t.Cleanup(func() { execute(t, openPostgres(t, dsn), `DROP ROLE "`+role+`"`) })
	config, err := pgx.ParseConfig(strings.Replace(dsn, "postgres@", role+"@", 1))
	must(t, err)
	opts := steady
	opts.HeartbeatInterval = 20 * time.Millisecond
	opts.WatchConfig = config
	w := watch(t, newPostgres(t, dsn, &opts))
	heard := heartbeats(t, dsn)
	for range 5 {
		<-heard
	}
	wantQuiet(t, []*watching{w})
	r := newRecord()
	execute(t, openPostgres(t, dsn), "INSERT INTO api_keys (id, hash) VALUES ($1, $2)", r.ID, r.Hash[:])
	w.expect(change(r.Hash))
}

// silentHost returns the address of a server that accepts connections and says
// nothing.
func silentHost(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// Each host of a DSN gets its own timeout, also of the heartbeat.
func TestWatchSilentHost(t *testing.T) {
	dsn := pgtest.DSN(t)
	newPostgres(t, dsn, nil)
	for _, hosts := range []string{"%s,%s", "%[1]s,%[1]s,%[2]s"} {
		config, err := pgx.ParseConfig(strings.Replace(dsn, hostOf(dsn), fmt.Sprintf(hosts, silentHost(t), hostOf(dsn)), 1))
		must(t, err)
		opts := postgres.Options{Logger: quiet, WatchConfig: config, HeartbeatInterval: 50 * time.Millisecond,
			HeartbeatTimeout: 2 * time.Second}
		w := watch(t, newPostgres(t, dsn, &opts))
		heard := heartbeats(t, dsn)
		<-heard
		wantQuiet(t, []*watching{w})
		w.end()
	}
}

func hostOf(dsn string) string {
	_, rest, _ := strings.Cut(dsn, "@")
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// A connection of the pool that leads to another server than the one that
// listens ends the watch, even while announcements arrive.
func TestWatchComparesPool(t *testing.T) {
	here, there := pgtest.DSN(t), pgtest.DSN(t)
	newPostgres(t, there, nil)
	config, err := pgx.ParseConfig(here)
	must(t, err)
	logged := new(logs)
	db := sql.OpenDB(&switchedConnector{openPostgres(t, here).Driver(), []string{here, there}})
	defer db.Close()
	db.SetMaxIdleConns(0) // each query connects
	s, err := postgres.New(db, &postgres.Options{Logger: slog.New(logged), WatchConfig: config,
		HeartbeatInterval: 50 * time.Millisecond, HeartbeatTimeout: patience})
	must(t, err)
	must(t, s.Migrate(t.Context()))
	w := watch(t, s)
	db.Driver().(*switchedConnector).next() // as after a failover
	for w.next() != lost {
	}
	await(t, "why it was lost", func() bool { return logged.count("the *sql.DB leads to another") > 0 })
}

// Idle connections of the pool that lead to the old server are discarded, so that
// lookups reach the new one.
func TestWatchDiscardsOldConnections(t *testing.T) {
	here, there := pgtest.DSN(t), pgtest.DSN(t)
	newPostgres(t, here, nil)
	r := inserted(t, newPostgres(t, there, nil))
	config, err := pgx.ParseConfig(there)
	must(t, err)
	connector := &switchedConnector{openPostgres(t, here).Driver(), []string{here, there}}
	db := sql.OpenDB(connector)
	defer db.Close()
	db.SetMaxIdleConns(8)
	opts := steady
	opts.WatchConfig = config
	s, err := postgres.New(db, &opts)
	must(t, err)
	var old []*sql.Conn
	for range 8 {
		conn, err := db.Conn(t.Context())
		must(t, err)
		old = append(old, conn)
	}
	db.SetMaxIdleConns(9)
	connector.next()
	newest, err := db.Conn(t.Context()) // the pool hands it out first
	must(t, err)
	must(t, newest.Raw(func(any) error { return nil }))
	for _, conn := range append(old, newest) {
		must(t, conn.Close())
	}
	watch(t, s)
	for range 8 {
		conn, err := db.Conn(t.Context())
		must(t, err)
		defer conn.Close()
		var n int
		must(t, conn.QueryRowContext(t.Context(), "SELECT count(*) FROM api_keys WHERE id = $1", r.ID).Scan(&n))
		if n != 1 {
			t.Error("a connection of the pool leads to the old server")
		}
	}
}

// Close ends each Watch and leaves no connection. Lookups go on.
func TestClose(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		r := inserted(t, s)
		ended := make(chan error)
		var changes []auth.Change
		began := make(chan struct{})
		go func() {
			ended <- s.Watch(t.Context(), func(c auth.Change) {
				if changes = append(changes, c); c == started {
					close(began)
				}
			})
		}()
		<-began
		must(t, s.Close())
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("Watch: %v, want that the Store is closed", err)
		}
		if last := changes[len(changes)-1]; last != lost {
			t.Errorf("the last report is %v, want %v", last, lost)
		}
		if err := s.Watch(t.Context(), func(c auth.Change) { t.Errorf("reported %v", c) }); err == nil {
			t.Error("Watch of a closed Store returns nil")
		}
		must(t, s.Close())
		wantStored(t, s, r)
		if !onPostgres(t) {
			return
		}
		await(t, "the end of its connections", func() bool {
			var n int
			must(t, db.QueryRow(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
				AND query LIKE 'LISTEN%'`).Scan(&n))
			return n == 0
		})
	})
}

// A transaction that announces cannot be prepared. So no change is committed
// later, by another session, without an announcement.
func TestPrepareTransaction(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.URL("postgres")
	db := openPostgres(t, dsn)
	execute(t, db, "ALTER SYSTEM SET max_prepared_transactions = 10")
	server.Stop()
	must(t, server.Start())
	var s store
	await(t, "the server", func() bool { return db.Ping() == nil })
	s = newPostgres(t, dsn, nil)
	r := inserted(t, s)
	conn, err := db.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	execute(t, conn, "BEGIN")
	execute(t, conn, "PREPARE TRANSACTION 'empty'") // it works for others
	execute(t, conn, "COMMIT PREPARED 'empty'")
	execute(t, conn, "BEGIN")
	execute(t, conn, "UPDATE api_keys SET revoked_at = now() WHERE id = $1", r.ID)
	_, err = conn.ExecContext(t.Context(), "PREPARE TRANSACTION 'change'")
	if err == nil || !strings.Contains(err.Error(), "NOTIFY") {
		t.Errorf("PREPARE TRANSACTION: %v, want an error about NOTIFY", err)
	}
	wantStored(t, s, r)
}
