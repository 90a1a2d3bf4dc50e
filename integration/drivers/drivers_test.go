package drivers_test

import (
	"database/sql"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/insigner/auth/sqlstore/sqlite"
	"github.com/jackc/pgx/v5"
)

// TestOtherSQLite runs a program that has the store in PostgreSQL and another
// driver with the name "sqlite".
func TestOtherSQLite(t *testing.T) {
	const program = "github.com/insigner/auth/integration/drivers/programs/othersqlite"
	out, err := exec.Command("go", "run", program).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"pgx", "sqlite"} {
		if !strings.Contains(" "+strings.TrimSpace(string(out))+" ", " "+name+" ") {
			t.Errorf("the driver %q is missing: %s", name, out)
		}
	}
}

// TestDriversRefused tests that a *sql.DB of a driver that cannot work is
// refused, by an error that says what to do. No server is needed for that.
func TestDriversRefused(t *testing.T) {
	config, err := pgx.ParseConfig("postgres://127.0.0.1:1/keys")
	must(t, err)
	newPostgres := func(db *sql.DB) error { _, err := postgres.New(db, nil); return err }
	watched := func(db *sql.DB) error {
		_, err := postgres.New(db, &postgres.Options{WatchConfig: config})
		return err
	}
	newSQLite := func(db *sql.DB) error { _, err := sqlite.New(db, nil); return err }
	const usePGX = "open the *sql.DB with that of github.com/jackc/pgx/v5/stdlib"
	const useModernc = "open the *sql.DB with Open, or with that of modernc.org/sqlite"

	for _, c := range []struct {
		store       string
		open        func(*sql.DB) error
		name, dsn   string
		driver, fix string // in the error
	}{
		{"postgres", newPostgres, "postgres", "postgres://127.0.0.1:1/keys", "*pq.Driver", usePGX},
		{"postgres", newPostgres, "sqlite3", "", "*sqlite3.SQLiteDriver", usePGX},
		{"postgres", newPostgres, "sqlite", "", "*sqlite.Driver", usePGX},
		{"postgres", newPostgres, "mysql", "root@tcp(127.0.0.1:1)/keys", "*mysql.MySQLDriver", usePGX},
		{"postgres with WatchConfig", watched, "postgres", "postgres://127.0.0.1:1/keys", "*pq.Driver", usePGX},
		{"postgres with WatchConfig", watched, "sqlite3", "", "*sqlite3.SQLiteDriver", usePGX},
		{"postgres with WatchConfig", watched, "mysql", "root@tcp(127.0.0.1:1)/keys", "*mysql.MySQLDriver", usePGX},
		{"sqlite", newSQLite, "pgx", "postgres://127.0.0.1:1/keys", "*stdlib.Driver", useModernc},
		{"sqlite", newSQLite, "postgres", "postgres://127.0.0.1:1/keys", "*pq.Driver", useModernc},
		{"sqlite", newSQLite, "sqlite3", "", "*sqlite3.SQLiteDriver", useModernc},
		{"sqlite", newSQLite, "mysql", "root@tcp(127.0.0.1:1)/keys", "*mysql.MySQLDriver", useModernc},
	} {
		t.Run(c.store+"/"+c.name, func(t *testing.T) {
			if c.dsn == "" {
				c.dsn = filepath.Join(t.TempDir(), "keys.db")
			}
			db, err := sql.Open(c.name, c.dsn)
			must(t, err)
			defer db.Close()
			err = c.open(db)
			if err == nil {
				t.Fatalf("a *sql.DB of %s is accepted", c.driver)
			}
			if !strings.Contains(err.Error(), c.driver) {
				t.Errorf("the error does not name the driver %s: %v", c.driver, err)
			}
			if !strings.Contains(err.Error(), c.fix) {
				t.Errorf("the error does not say %q: %v", c.fix, err)
			}
		})
	}
}
