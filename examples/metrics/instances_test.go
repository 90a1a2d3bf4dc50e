package main

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/examples/metrics/authprom"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/insigner/auth/sqlstore/sqlite"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/prometheus/client_golang/prometheus"
)

// A durable store is one of module sqlstore.
type durable interface {
	keyring.Store
	Migrate(ctx context.Context) error
	io.Closer
}

// TestTwoInstances checks with real databases what the alert about changes
// relies on: both instances hear of a change, and the one that makes it hears
// of it twice.
func TestTwoInstances(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	for name, open := range map[string]func(t *testing.T) func() (*sql.DB, durable, error){
		"PostgreSQL": func(t *testing.T) func() (*sql.DB, durable, error) {
			dsn := pgtest.DSN(t)
			return func() (*sql.DB, durable, error) {
				db, err := sql.Open("pgx", dsn)
				if err != nil {
					return nil, nil, err
				}
				store, err := postgres.New(db, &postgres.Options{Logger: quiet})
				return db, store, err
			}
		},
		"SQLite": func(t *testing.T) func() (*sql.DB, durable, error) {
			file := filepath.Join(t.TempDir(), "keys.db")
			return func() (*sql.DB, durable, error) {
				db, err := sqlite.Open(file)
				if err != nil {
					return nil, nil, err
				}
				store, err := sqlite.New(db, &sqlite.Options{Logger: quiet})
				return db, store, err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			start := open(t)
			var stores [2]durable
			var registries [2]*prometheus.Registry
			var instances [2]*auth.Authenticator
			for i := range stores {
				db, store, err := start()
				if err == nil {
					t.Cleanup(func() { store.Close(); db.Close() })
					err = store.Migrate(t.Context())
				}
				if err != nil {
					t.Fatal(err)
				}
				stores[i], registries[i] = store, prometheus.NewRegistry()
				m := authprom.New(registries[i])
				cached := cache.New(m.Store(store), &cache.Options{Logger: quiet})
				t.Cleanup(func() { cached.Close() })
				instances[i] = auth.New(cached, &auth.Options{OnDecision: m.OnDecision})
				waitForLine(t, registries[i], "auth_watch_up 1")
			}

			key := authtest.NewKey(t, stores[0], "documents.read")
			waitForLine(t, registries[0], "auth_watch_changes_total 2")
			waitForLine(t, registries[1], "auth_watch_changes_total 1")
			var record auth.Record
			for _, a := range instances {
				r, err := a.Verify(t.Context(), key.Reveal())
				if err != nil {
					t.Fatal(err)
				}
				record = r
			}
			if err := keyring.NewManager(stores[0], nil).Unconfined("test").Revoke(t.Context(), record.ID); err != nil {
				t.Fatal(err)
			}
			waitForLine(t, registries[0], "auth_watch_changes_total 4")
			waitForLine(t, registries[1], "auth_watch_changes_total 2")
			for i, a := range instances {
				if _, err := a.Verify(t.Context(), key.Reveal()); !errors.Is(err, auth.ErrKeyRevoked) {
					t.Errorf("instance %d, revoked: got %v, want ErrKeyRevoked", i, err)
				}
				waitForLine(t, registries[i], `auth_store_lookup_duration_seconds_count{result="found"} 2`)
			}
		})
	}
}

// waitForLine waits until the metrics have this line.
func waitForLine(t *testing.T, registry *prometheus.Registry, line string) {
	t.Helper()
	url := "http://" + serve(t, registry)
	for !strings.Contains(get(t, url), "\n"+line+"\n") {
		time.Sleep(10 * time.Millisecond)
	}
}
