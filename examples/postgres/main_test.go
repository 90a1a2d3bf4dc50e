package main

import (
	"context"
	"database/sql"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/examples/exampletest"
	"github.com/insigner/auth/sqlstore"
	"github.com/insigner/auth/sqlstore/pgtest"
)

func TestMain(m *testing.M) { exampletest.Main(main, func() int { return pgtest.Main(m) }) }

func open(t *testing.T, dsn string) (*sql.DB, *sqlstore.Store) {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	store, err := sqlstore.NewPostgres(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	return db, store
}

// firstStartLock takes the lock under which the keys are made. The functions wait until n instances wait for it, and
// give it back.
func firstStartLock(t *testing.T, dsn string) (waiting func(n int), release func()) {
	t.Helper()
	db, _ := open(t, dsn)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtext('auth/examples/postgres'))"); err != nil {
		t.Fatal(err)
	}
	const query = `SELECT count(*) FROM pg_locks own JOIN pg_locks other USING (locktype, database, classid, objid, objsubid)
		WHERE locktype = 'advisory' AND own.pid = pg_backend_pid() AND NOT other.granted`
	waiting = func(n int) {
		t.Helper()
		for got := 0; got < n; {
			if err := tx.QueryRowContext(ctx, query).Scan(&got); err != nil {
				t.Fatalf("%d instances wait for the lock, want %d: %v", got, n, err)
			}
		}
	}
	return waiting, func() { tx.Rollback() }
}

// Of three that start at once on an empty database one prints keys, which hold on all, and go on at the next start;
// one that is revoked is refused by all.
func TestInstances(t *testing.T) {
	dsn := pgtest.DSN(t)
	waiting, release := firstStartLock(t, dsn)
	var all []*exampletest.Instance
	for range 3 {
		all = append(all, exampletest.Begin(t, "-dsn", dsn))
	}
	waiting(len(all))
	release()
	var first *exampletest.Instance
	for _, r := range all {
		if err := r.Serves(); err != nil {
			t.Fatal(err)
		}
		if len(r.Keys) > 0 && first != nil {
			t.Fatal("two of them print keys")
		}
		if len(r.Keys) > 0 {
			first = r
		}
	}
	if first == nil {
		t.Fatal("none of them prints keys")
	}
	for _, r := range all {
		r.Promises(t, first)
	}
	for _, r := range all {
		r.Stop(t, syscall.SIGTERM)
	}
	db, store := open(t, dsn)
	exampletest.Used(t, store)

	all = []*exampletest.Instance{exampletest.Start(t, "-dsn", dsn), exampletest.Start(t, "-dsn", dsn)}
	for _, r := range all {
		if strings.Contains(r.Out, "isk_") || !strings.Contains(r.Out, "the keys of the first start go on") {
			t.Errorf("the second start prints\n%s", r.Out)
		}
		r.Promises(t, first)
	}
	refused := func(key string) {
		t.Helper()
		for _, r := range all {
			status := func() int { resp, _ := r.Do(t, "GET", "/api/v1/documents", key, ""); return resp.StatusCode }
			for end := time.Now().Add(time.Minute); status() != http.StatusUnauthorized; {
				if time.Now().After(end) {
					t.Fatal("a revoked key is let through for a minute")
				}
			}
		}
	}
	keyring := auth.NewKeyring(store, nil)
	for r, err := range keyring.List(t.Context(), auth.Filter{}) {
		if err == nil && r.Name == "full access" {
			err = keyring.Revoke(t.Context(), r.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	refused(first.Keys[0])
	if _, err := db.Exec("UPDATE api_keys SET revoked_at = now() WHERE name = 'read-only'"); err != nil { // as with psql
		t.Fatal(err)
	}
	refused(first.Keys[1])
	for _, r := range all {
		r.Stop(t, os.Interrupt)
	}
}

// A start that failed while it made the keys is made up for by the next, all of whose keys hold.
func TestHalfWay(t *testing.T) {
	dsn := pgtest.DSN(t)
	db, _ := open(t, dsn)
	r := exampletest.Start(t, "-dsn", dsn)
	r.Stop(t, syscall.SIGTERM)
	for _, failed := range []string{
		"UPDATE api_keys SET revoked_at = NULL WHERE name = 'revoked'",
		"DELETE FROM api_keys WHERE name IN ('expired', 'revoked')",
	} {
		if _, err := db.Exec(failed); err != nil {
			t.Fatal(err)
		}
		r := exampletest.Start(t, "-dsn", dsn)
		r.Promises(t, r)
		r.Stop(t, syscall.SIGTERM)
	}
}

// Who is told to end while another makes the keys ends well too.
func TestStopWhileStarting(t *testing.T) {
	dsn := pgtest.DSN(t)
	waiting, _ := firstStartLock(t, dsn)
	r := exampletest.Begin(t, "-dsn", dsn)
	waiting(1)
	r.Stop(t, syscall.SIGTERM)
}

// What is wrong with the database is said, without its password.
func TestBadDSN(t *testing.T) {
	for _, dsn := range []string{
		"postgres://user:pa55word@127.0.0.1:1/none",
		"postgres://user:pa55word@127.0.0.1:port/none",
		"postgres://user:pa55word@127.0.0.1:1/none?sslmode=none",
		"postgres://user:pa55word@[::1/none",
		"postgres://user:pa55word%zz@127.0.0.1/none",
		"host=127.0.0.1 port=1 user=user password=pa55word dbname=none",
		"host=127.0.0.1 port=port user=user password='pa55word' dbname=none",
		"user=user password=pa55word nonsense",
	} {
		out, err := exampletest.Program(t, "-dsn", dsn).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "postgres: ") || strings.Contains(string(out), "pa55word") {
			t.Errorf("%s: %v: %s", dsn, err, out)
		}
	}
}
