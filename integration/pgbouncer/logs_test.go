package pgbouncer_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/apilog/apilogtest"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/sqlstore/postgres"
)

// TestLogs runs the suite of log stores through PgBouncer in transaction mode,
// with few connections to the server.
func TestLogs(t *testing.T) {
	dsn := pgtest.DSN(t)
	direct, pooled := open(t, dsn), open(t, startBouncer(t, dsn, "transaction").url(dsn))
	var tables atomic.Int64
	apilogtest.TestStore(t, func(t *testing.T) apilog.Store {
		opts := &postgres.LogsOptions{Table: fmt.Sprint("logs_", tables.Add(1))}
		migrated, err := postgres.NewLogs(direct, opts)
		must(t, err)
		must(t, migrated.Migrate(t.Context()))
		store, err := postgres.NewLogs(pooled, opts)
		must(t, err)
		return store
	})
}
