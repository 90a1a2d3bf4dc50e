// Package pgbouncer tests a store whose *sql.DB connects through PgBouncer.
package pgbouncer_test

import (
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/insigner/auth/internal/notice"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
)

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	if n := skipped.Load(); n > 0 {
		notice.Print(fmt.Sprintf("pgbouncer: %v: the tests of it were skipped (%d); install it with: "+
			"apt-get install pgbouncer; then run: go test -count=1", errMissing, n))
	}
	os.Exit(code)
}

// patience is how long a test waits for what must happen before it fails. No
// test passes because it is over.
const patience = time.Minute

var quiet = slog.New(slog.DiscardHandler)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await waits until f returns true.
func await(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func open(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	must(t, err)
	db.SetMaxOpenConns(50)
	db.SetMaxIdleConns(50)
	t.Cleanup(func() { db.Close() })
	return db
}

// migrate creates the tables. The *sql.DB connects without PgBouncer.
func migrate(t testing.TB, db *sql.DB, opts *postgres.Options) {
	t.Helper()
	s, err := postgres.New(db, opts)
	must(t, err)
	must(t, s.Migrate(t.Context()))
}

// newStore returns a Store as the documentation of package postgres tells: it
// connects through PgBouncer, and watches without. The caller has migrated.
func newStore(t testing.TB, b *bouncer, dsn string, opts postgres.Options) (*postgres.Store, *sql.DB) {
	t.Helper()
	db := open(t, b.url(dsn))
	var err error
	opts.WatchConfig, err = pgx.ParseConfig(dsn)
	must(t, err)
	if opts.Logger == nil {
		opts.Logger = quiet
	}
	s, err := postgres.New(db, &opts)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s, db
}
