package sqlstore_test

import (
	"database/sql"
	"testing"

	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/apilog/apilogtest"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/sqlstore/postgres"
)

// newPostgresLogs returns migrated Logs with their own pool, and that pool.
func newPostgresLogs(t testing.TB, dsn string) (*postgres.Logs, *sql.DB) {
	t.Helper()
	db := openPostgres(t, dsn)
	l, err := postgres.NewLogs(db, &postgres.LogsOptions{Logger: quiet})
	must(t, err)
	must(t, l.Migrate(t.Context()))
	return l, db
}

func TestPostgresLogs(t *testing.T) {
	apilogtest.TestStore(t, func(t *testing.T) apilog.Store {
		l, _ := newPostgresLogs(t, pgtest.DSN(t))
		return l
	})
}
