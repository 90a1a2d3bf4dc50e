package sqlstore_test

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/sqlstore"
	"github.com/insigner/auth/sqlstore/pgtest"
)

// Ten instances start at once: first on an empty database, then, as after an upgrade, on one that has noted earlier
// migrations. Afterwards all work.
func TestMigrateTogether(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) func() *sql.DB{
		"postgres": func(t *testing.T) func() *sql.DB {
			dsn := pgtest.DSN(t)
			return func() *sql.DB { return openPostgres(t, dsn) }
		},
		"sqlite": func(t *testing.T) func() *sql.DB {
			path := filepath.Join(t.TempDir(), "db")
			return func() *sql.DB {
				db, err := sqlstore.OpenSQLite(path)
				must(t, err)
				t.Cleanup(func() { db.Close() })
				return db
			}
		},
		"sqlite deferred": func(t *testing.T) func() *sql.DB {
			path := filepath.Join(t.TempDir(), "db")
			return func() *sql.DB { return openDeferred(t, path) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			next := open(t)
			stores := make([]*sqlstore.Store, 10)
			undo := "DROP TABLE api_keys; DELETE FROM api_keys_goose WHERE version_id > 0"
			for i := range stores {
				var err error
				if name == "postgres" {
					stores[i], err = sqlstore.NewPostgres(next(), &quick)
				} else {
					stores[i], err = sqlstore.NewSQLite(next(), &quick)
				}
				must(t, err)
			}
			if name == "postgres" {
				undo += "; DROP FUNCTION api_keys_notify"
			}
			for range 2 {
				migrateTogether(t, stores)
				_, err := next().Exec(undo)
				must(t, err)
			}
		})
	}
}

func migrateTogether(t *testing.T, stores []*sqlstore.Store) {
	t.Helper()
	for _, s := range stores {
		// A connection each, so that all begin at the same moment.
		if _, err := s.Get(t.Context(), "none"); err == nil || errors.Is(err, auth.ErrNotFound) {
			t.Fatalf("before Migrate: %v", err)
		}
	}
	var wg sync.WaitGroup
	start := make(chan struct{})
	for _, s := range stores {
		wg.Go(func() {
			<-start
			if err := s.Migrate(t.Context()); err != nil {
				t.Error(err)
			} else if err := s.Insert(t.Context(), record()); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	page, err := stores[0].List(t.Context(), "", auth.Position{}, 100)
	if err != nil || len(page) != len(stores) {
		t.Errorf("%d records, %v", len(page), err)
	}
}

// Tables with other names, side by side in one database, each with a watcher of its own.
func TestTableNames(t *testing.T) {
	dsn := pgtest.DSN(t)
	db := openPostgres(t, dsn)
	_, err := db.Exec(`CREATE SCHEMA "Odd"; CREATE SCHEMA "user"; CREATE SCHEMA empty; ALTER DATABASE ` + quoteName(dsn) +
		` SET search_path TO public`)
	must(t, err)
	lite, err := sqlstore.OpenSQLite(filepath.Join(t.TempDir(), "db"))
	must(t, err)
	defer lite.Close()
	names := []string{"", "keys", "Keys", "select", "Odd.api_keys", "Odd.Table", "user.order", "_",
		strings.Repeat("n", 48), strings.Repeat("s", 63) + "." + strings.Repeat("m", 48)}
	_, err = db.Exec(`CREATE SCHEMA "` + strings.Repeat("s", 63) + `"`)
	must(t, err)
	for _, name := range names {
		opts := quick
		opts.Table = name
		t.Run("postgres "+name, func(t *testing.T) {
			s, err := sqlstore.NewPostgres(db, &opts)
			must(t, err)
			must(t, s.Migrate(t.Context()))
			must(t, s.Migrate(t.Context()))
			w := watch(t, s)
			useAll(t, s)
			w.expect() // still there
			r := record()
			table := name
			if name == "" {
				table = "api_keys"
			}
			_, err = db.Exec(`INSERT INTO "`+strings.ReplaceAll(table, ".", `"."`)+`" (id, hash) VALUES ($1, $2)`, r.ID, r.Hash[:])
			must(t, err)
			for c := w.next(5 * time.Second); c.Hash != r.Hash; c = w.next(5 * time.Second) {
				if c.Kind != auth.RecordChanged {
					t.Fatalf("reported %v", c)
				}
			}
		})
		if strings.Contains(name, ".") || name == "Keys" { // capitals do not tell tables apart in SQLite
			continue
		}
		t.Run("sqlite "+name, func(t *testing.T) {
			s, err := sqlstore.NewSQLite(lite, &opts)
			must(t, err)
			must(t, s.Migrate(t.Context()))
			must(t, s.Migrate(t.Context()))
			useAll(t, s)
		})
	}
}

func quoteName(dsn string) string {
	return dsn[strings.LastIndex(dsn, "/")+1 : strings.Index(dsn+"?", "?")]
}

// useAll calls every method once.
func useAll(t *testing.T, s *sqlstore.Store) {
	t.Helper()
	ctx := t.Context()
	r, next := inserted(t, s), record()
	next.Replaces = r.ID
	must(t, s.Replace(ctx, next, time.Now()))
	must(t, s.Revoke(ctx, next.ID, time.Now()))
	must(t, s.Touch(ctx, map[string]time.Time{r.ID: time.Now()}))
	page, err := s.List(ctx, r.Owner, auth.Position{}, 10)
	if err != nil || len(page) != 2 {
		t.Errorf("%d records, %v", len(page), err)
	}
}

// The files work with any tool: nothing in them is for one alone, and they have the default name.
func TestMigrationsAreSQL(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			var db *sql.DB
			var s *sqlstore.Store
			var err error
			if k.name == "postgres" {
				db = openPostgres(t, pgtest.DSN(t))
				s, err = sqlstore.NewPostgres(db, &quick)
			} else {
				db, err = sqlstore.OpenSQLite(filepath.Join(t.TempDir(), "db"))
				must(t, err)
				t.Cleanup(func() { db.Close() })
				s, err = sqlstore.NewSQLite(db, &quick)
			}
			must(t, err)
			files, err := fs.Glob(sqlstore.Migrations, "migrations/"+k.name+"/*.sql")
			if err != nil || len(files) == 0 {
				t.Fatal(files, err)
			}
			for _, file := range files {
				text, err := fs.ReadFile(sqlstore.Migrations, file)
				must(t, err)
				if _, err := db.Exec(string(text)); err != nil {
					t.Fatal(fmt.Errorf("%s: %w", file, err))
				}
			}
			watch(t, s)
			useAll(t, s)
		})
	}
}
