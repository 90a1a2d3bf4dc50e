package sqlstore_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/apilog/apilogtest"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/insigner/auth/sqlstore/sqlite"
)

// tables numbers the tables of tests that share a database.
var tables atomic.Int64

// newPostgresLogs returns migrated Logs in a table of their own.
func newPostgresLogs(t testing.TB, db *sql.DB) (l *postgres.Logs, table string) {
	t.Helper()
	table = fmt.Sprint("logs_", tables.Add(1))
	l, err := postgres.NewLogs(db, &postgres.LogsOptions{Table: table, Logger: quiet})
	must(t, err)
	must(t, l.Migrate(t.Context()))
	return l, table
}

// newSQLiteLogs returns migrated Logs in a file of their own.
func newSQLiteLogs(t testing.TB) (*sqlite.Logs, *sql.DB) {
	t.Helper()
	db, err := sqlite.Open(filepath.Join(t.TempDir(), "logs.db"))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	l, err := sqlite.NewLogs(db, &sqlite.LogsOptions{Logger: quiet})
	must(t, err)
	must(t, l.Migrate(t.Context()))
	return l, db
}

func TestLogs(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		db := openPostgres(t, pgtest.DSN(t))
		apilogtest.TestStore(t, func(t *testing.T) apilog.Store {
			l, _ := newPostgresLogs(t, db)
			return l
		})
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		apilogtest.TestStore(t, func(t *testing.T) apilog.Store {
			l, _ := newSQLiteLogs(t)
			return l
		})
	})
}
