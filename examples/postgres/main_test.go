package main

import (
	"database/sql"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insigner/auth/internal/exampletest"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
)

func TestMain(m *testing.M) { exampletest.Main(main, func() int { return pgtest.Main(m) }) }

// TestInstances starts three instances at once on an empty database. One of them
// prints keys, which work on all of them and stay valid after the next start. A
// key that is revoked is refused by all instances.
func TestInstances(t *testing.T) {
	dsn := pgtest.DSN(t)
	var all []*exampletest.Instance
	for range 3 {
		all = append(all, exampletest.Begin(t, "-dsn", dsn))
	}
	var first *exampletest.Instance
	for _, r := range all {
		if err := r.Serves(); err != nil {
			t.Fatal(err)
		}
		if len(r.Keys) == 0 {
			continue
		}
		if first != nil {
			t.Fatal("two instances print keys")
		}
		first = r
	}
	if first == nil {
		t.Fatal("no instance prints keys")
	}
	for _, r := range all {
		r.Promises(t, first)
	}
	for _, r := range all {
		r.Stop(t, syscall.SIGTERM)
	}
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store, err := postgres.New(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	exampletest.Used(t, store)

	all = []*exampletest.Instance{exampletest.Start(t, "-dsn", dsn), exampletest.Start(t, "-dsn", dsn)}
	for _, r := range all {
		if strings.Contains(r.Out, "isk_") {
			t.Errorf("the second start prints keys:\n%s", r.Out)
		}
		if !strings.Contains(r.Out, "The keys of the first start stay valid") {
			t.Errorf("the second start does not mention the first:\n%s", r.Out)
		}
		r.Promises(t, first)
	}
	refused := func(key string) {
		t.Helper()
		for _, r := range all {
			status := func() int { resp, _ := r.Do(t, "GET", "/api/v1/documents", key, ""); return resp.StatusCode }
			for end := time.Now().Add(time.Minute); status() != http.StatusUnauthorized; {
				if time.Now().After(end) {
					t.Fatal("a revoked key is accepted for a minute")
				}
			}
		}
	}
	keys := keyring.NewManager(store, nil).Unconfined("test")
	for r, err := range keys.List(t.Context(), keyring.Filter{Text: "full access"}) {
		if err == nil {
			err = keys.Revoke(t.Context(), r.ID)
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

// TestStopDuringStartup checks that an instance that waits for the database ends
// well.
func TestStopDuringStartup(t *testing.T) {
	dsn := pgtest.DSN(t)
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	first := exampletest.Start(t, "-dsn", dsn)
	first.Stop(t, syscall.SIGTERM)
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	r := exampletest.Begin(t, "-dsn", dsn)
	const query = "SELECT count(*) FROM pg_locks WHERE relation = 'api_keys'::regclass AND NOT granted"
	for waiting := 0; waiting == 0; {
		if err := tx.QueryRow(query).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	r.Stop(t, syscall.SIGTERM)
}

// TestBadDSN checks that the error says what is wrong with the database, without
// its password.
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
		if err == nil {
			t.Errorf("%s: exit code 0, want a failure", dsn)
		}
		if !strings.Contains(string(out), "postgres: ") {
			t.Errorf("%s: the error %q does not name the command", dsn, out)
		}
		if strings.Contains(string(out), "pa55word") {
			t.Errorf("%s: the error %q shows the password", dsn, out)
		}
	}
}
