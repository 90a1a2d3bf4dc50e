package sqlstore_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/insigner/auth/sqlstore/sqlite"
	"github.com/jackc/pgx/v5"
)

func TestTableNameRefused(t *testing.T) {
	db := openPostgres(t, "postgres://127.0.0.1:1/")
	for _, name := range []string{
		"a b", "1a", "a.b.c", ".a", "a.", `a"b`, "a;b", "é", "a-b", "a'b", "a\x00", `s"s.a`, "1s.a", "s s.a",
		strings.Repeat("a", 49), strings.Repeat("s", 64) + ".a",
	} {
		if _, err := postgres.New(db, &postgres.Options{Table: name}); err == nil {
			t.Errorf("postgres.New accepts the table name %q", name)
		}
	}
	if _, err := makeSQLite(openSQLite(t, sqliteFile(t)), &postgres.Options{Table: "main.api_keys"}); err == nil {
		t.Error("sqlite.New accepts a schema")
	}
}

func TestOptionsRefused(t *testing.T) {
	db := openPostgres(t, "postgres://127.0.0.1:1/")
	for name, opts := range map[string]postgres.Options{
		"HeartbeatInterval": {HeartbeatInterval: -1},
		"HeartbeatTimeout":  {HeartbeatTimeout: -1},
		"MaxLookups":        {MaxLookups: -1},
		"WatchConfig":       {WatchConfig: new(pgx.ConnConfig)}, // not from pgx.ParseConfig
	} {
		if _, err := postgres.New(db, &opts); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("postgres.New with a wrong %s: %v, want an error that names it", name, err)
		}
	}
	if _, err := postgres.New(nil, nil); err == nil {
		t.Error("postgres.New accepts a nil *sql.DB")
	}
	if _, err := sqlite.New(nil, nil); err == nil {
		t.Error("sqlite.New accepts a nil *sql.DB")
	}
}

// A database of the wrong kind is refused before the first query.
func TestWrongDatabase(t *testing.T) {
	if _, err := postgres.New(openSQLite(t, sqliteFile(t)), nil); err == nil ||
		!strings.Contains(err.Error(), "postgres: the driver is *sqlite.Driver") {
		t.Errorf("postgres.New with SQLite: %v", err)
	}
	if _, err := sqlite.New(openPostgres(t, "postgres://127.0.0.1:1/"), nil); err == nil ||
		!strings.Contains(err.Error(), "sqlite: the driver is *stdlib.Driver") {
		t.Errorf("sqlite.New with PostgreSQL: %v", err)
	}
}

// Each method needs one connection at a time, so a pool of one is enough.
func TestPoolOfOneConnection(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) (*sql.DB, func(*sql.DB, *postgres.Options) (store, error)){
		"postgres": func(t *testing.T) (*sql.DB, func(*sql.DB, *postgres.Options) (store, error)) {
			return openPostgres(t, pgtest.DSN(t)), makePostgres
		},
		"sqlite": func(t *testing.T) (*sql.DB, func(*sql.DB, *postgres.Options) (store, error)) {
			return openSQLite(t, sqliteFile(t)), makeSQLite
		},
	} {
		t.Run(name, func(t *testing.T) {
			db, newStore := open(t)
			db.SetMaxOpenConns(1)
			s, err := newStore(db, &steady)
			must(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			must(t, s.Migrate(ctx))
			useAll(t, ctx, s)
		})
	}
}

// useAll calls each method that changes keys.
func useAll(t *testing.T, ctx context.Context, s store) {
	t.Helper()
	r := newRecord()
	must(t, s.Insert(ctx, r.Clone()))
	if err := s.Insert(ctx, r.Clone()); err == nil {
		t.Error("Insert of the same record again succeeds")
	}
	next, successor := rotated(r)
	must(t, s.Update(ctx, next.Clone(), successor.Clone()))
	if err := s.Update(ctx, next.Clone(), nil); err == nil {
		t.Error("Update of the same revision again succeeds")
	}
	last := revoked(successor)
	must(t, s.Update(ctx, last.Clone(), nil))
	used := time.Now().UTC().Truncate(time.Microsecond)
	must(t, s.Touch(ctx, map[string]time.Time{r.ID: used}))
	next.LastUsedAt = used
	wantStored(t, s, next)
	wantStored(t, s, last)
	page, err := s.List(ctx, keyring.Query{Owner: r.Owner, Limit: 10})
	must(t, err)
	if len(page) != 2 {
		t.Errorf("List returns %d records, want 2", len(page))
	}
	must(t, s.Delete(ctx, last.ID, "somebody"))
	wantMissing(t, s, last.Hash)
}
