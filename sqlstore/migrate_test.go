package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/insigner/auth/sqlstore/sqlite"
)

// Ten instances migrate together: first an empty database, then, as after an
// upgrade, one in which earlier migrations are recorded.
func TestMigrateConcurrent(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) func() *sql.DB{
		"postgres": func(t *testing.T) func() *sql.DB {
			dsn := pgtest.DSN(t)
			return func() *sql.DB { return openPostgres(t, dsn) }
		},
		"sqlite": func(t *testing.T) func() *sql.DB {
			path := sqliteFile(t)
			return func() *sql.DB { return openSQLite(t, path) }
		},
		"sqlite deferred": func(t *testing.T) func() *sql.DB {
			path := sqliteFile(t)
			return func() *sql.DB { return openDeferred(t, path) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			next := open(t)
			newStore, undo := makeSQLite, "; DROP TABLE api_keys_actor"
			if name == "postgres" {
				newStore, undo = makePostgres, "; DROP FUNCTION api_keys_notify, api_keys_revise, api_keys_record"
			}
			stores := make([]store, 10)
			for i := range stores {
				var err error
				stores[i], err = newStore(next(), &steady)
				must(t, err)
			}
			for range 2 {
				migrateConcurrently(t, stores)
				execute(t, next(), "DROP TABLE api_keys; DROP TABLE api_keys_events; DELETE FROM api_keys_goose WHERE version_id > 0"+undo)
			}
		})
	}
}

func migrateConcurrently(t *testing.T, stores []store) {
	t.Helper()
	for _, s := range stores {
		// It connects, so that all begin at the same moment.
		_, err := s.Get(t.Context(), "none")
		if err == nil || errors.Is(err, auth.ErrNotFound) {
			t.Fatalf("Get before Migrate: %v, want an error that does not match ErrNotFound", err)
		}
	}
	var wg sync.WaitGroup
	start := make(chan struct{})
	for _, s := range stores {
		wg.Go(func() {
			<-start
			if err := s.Migrate(t.Context()); err != nil {
				t.Errorf("Migrate: %v", err)
			} else if err := s.Insert(t.Context(), newRecord()); err != nil {
				t.Errorf("Insert: %v", err)
			}
		})
	}
	close(start)
	wg.Wait()
	if n := len(list(t, stores[0], keyring.Query{})); n != len(stores) {
		t.Errorf("%d records, want %d", n, len(stores))
	}
}

// Tables with other names work in one database, and each has its own watcher.
func TestTableNames(t *testing.T) {
	dsn := pgtest.DSN(t)
	db := openPostgres(t, dsn)
	long := strings.Repeat("s", 63)
	execute(t, db, `CREATE SCHEMA "Odd"; CREATE SCHEMA "user"; CREATE SCHEMA "`+long+`"; ALTER DATABASE `+quoteName(dsn)+
		` SET search_path TO public`)
	lite := openSQLite(t, sqliteFile(t))
	for _, name := range []string{"", "keys", "Keys", "select", "Odd.api_keys", "Odd.Table", "user.order", "_",
		strings.Repeat("n", 48), long + "." + strings.Repeat("m", 48)} {
		opts := steady
		opts.Table = name
		t.Run("postgres "+name, func(t *testing.T) {
			s, err := postgres.New(db, &opts)
			must(t, err)
			must(t, s.Migrate(t.Context()))
			must(t, s.Migrate(t.Context()))
			w := watch(t, s)
			useAll(t, t.Context(), s)
			r := newRecord()
			table := name
			if name == "" {
				table = postgres.DefaultTable
			}
			execute(t, db, `INSERT INTO "`+strings.ReplaceAll(table, ".", `"."`)+`" (id, hash) VALUES ($1, $2)`, r.ID, r.Hash[:])
			for c := w.next(); c != change(r.Hash); c = w.next() {
				if c.Kind != auth.RecordChanged {
					t.Fatalf("reported %v, want no %v", c, c.Kind)
				}
			}
		})
		if strings.Contains(name, ".") || name == "Keys" { // in SQLite "keys" and "Keys" are the same table
			continue
		}
		t.Run("sqlite "+name, func(t *testing.T) {
			s, err := makeSQLite(lite, &opts)
			must(t, err)
			must(t, s.Migrate(t.Context()))
			must(t, s.Migrate(t.Context()))
			useAll(t, t.Context(), s)
		})
	}
}

// The files are plain SQL, and their table is DefaultTable.
func TestMigrationsArePlainSQL(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			var db *sql.DB
			newStore, migrations := makeSQLite, sqlite.Migrations
			if d.name == "postgres" {
				db, newStore, migrations = openPostgres(t, pgtest.DSN(t)), makePostgres, postgres.Migrations
			} else {
				db = openSQLite(t, sqliteFile(t))
			}
			s, err := newStore(db, &steady)
			must(t, err)
			files, err := fs.Glob(migrations, "*.sql")
			must(t, err)
			if len(files) == 0 {
				t.Fatal("there are no files")
			}
			for _, file := range files {
				text, err := fs.ReadFile(migrations, file)
				must(t, err)
				execute(t, db, string(text))
			}
			watch(t, s)
			useAll(t, t.Context(), s)
		})
	}
}

// Migrate gives up when its context is done.
func TestMigrateCanceled(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Migrate(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Migrate: %v, want context.Canceled", err)
		}
	})
}
