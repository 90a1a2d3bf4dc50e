package migrations_test

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/golang-migrate/migrate/v4"
	_ "github.com/golang-migrate/migrate/v4/database/sqlite"
	"github.com/insigner/auth"
	"github.com/insigner/auth/sqlstore/sqlite"
	"github.com/pressly/goose/v3"
	sqlmigrate "github.com/rubenv/sql-migrate"
)

// sqliteTools execute a file in a transaction. The shell needs BEGIN and COMMIT
// around it.
var sqliteTools = []tool{
	{name: "goose", up: gooseSQLite((*goose.Provider).Up), down: gooseSQLite((*goose.Provider).Down)},
	{name: "golang-migrate", up: golangMigrate("sqlite", upAll), down: golangMigrate("sqlite", downOne)},
	{name: "sql-migrate", up: sqlMigrateSQLite(sqlmigrate.Up), down: sqlMigrateSQLite(sqlmigrate.Down)},
	{name: "sqlite3", up: runShell, repeats: true},
}

func gooseSQLite[T any](command func(*goose.Provider, context.Context) (T, error)) run {
	return func(t *testing.T, path string, files fs.FS) error {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			return err
		}
		defer db.Close()
		return gooseRun(t, goose.DialectSQLite3, db, files, command)
	}
}

func sqlMigrateSQLite(direction sqlmigrate.MigrationDirection) run {
	return func(t *testing.T, path string, files fs.FS) error {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			return err
		}
		defer db.Close()
		return sqlMigrate(t, db, "sqlite3", files, direction)
	}
}

// runShell executes each file with the sqlite3 shell.
func runShell(t *testing.T, path string, files fs.FS) error {
	dir := directory(t, files)
	names, err := fs.Glob(files, "*.sql")
	must(t, err)
	for _, name := range names {
		out, err := exec.CommandContext(t.Context(), "sqlite3", "-batch", "-bail", "-init", "/dev/null", path,
			"BEGIN", ".read "+filepath.Join(dir, name), "COMMIT").CombinedOutput()
		if err != nil {
			return fmt.Errorf("sqlite3: %w: %s", err, out)
		}
	}
	return nil
}

// onSQLite calls f with each tool and the path of a file that does not exist.
func onSQLite(t *testing.T, f func(t *testing.T, tool tool, path string)) {
	for _, tool := range sqliteTools {
		t.Run(tool.name, func(t *testing.T) {
			if tool.name == "sqlite3" {
				if _, err := exec.LookPath("sqlite3"); err != nil {
					t.Skip("the sqlite3 shell is not installed")
				}
			}
			f(t, tool, filepath.Join(t.TempDir(), "keys.db"))
		})
	}
}

// inSQLite calls f with the database, and a Store on the table. It closes both.
func inSQLite(t *testing.T, path, table string, f func(s store, db *sql.DB)) {
	t.Helper()
	db, err := sqlite.Open(path)
	must(t, err)
	defer db.Close()
	s, err := sqlite.New(db, &sqlite.Options{Table: table, Logger: quiet})
	must(t, err)
	defer s.Close()
	f(s, db)
}

// sqliteParts returns each statement that made a part with such a name, except
// what Migrate notes for itself.
func sqliteParts(t *testing.T, path, prefix string) (parts []string) {
	t.Helper()
	inSQLite(t, path, "", func(_ store, db *sql.DB) { parts = sqlitePartsIn(t, db, prefix) })
	return parts
}

func sqlitePartsIn(t *testing.T, db *sql.DB, prefix string) []string {
	t.Helper()
	return texts(t, db, `SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_master
		WHERE tbl_name LIKE '`+prefix+`%' AND tbl_name NOT LIKE '%_goose'`)
}

func revokeInSQLite(table string) string {
	return "UPDATE " + table + " SET revoked_at = unixepoch() * 1000000 WHERE name = ?"
}

// A tool makes the tables, a Store uses them, and Migrate adopts them.
func TestSQLiteEmpty(t *testing.T) {
	onSQLite(t, func(t *testing.T, tool tool, path string) {
		must(t, tool.up(t, path, sqlite.Migrations))
		made := sqliteParts(t, path, "api_keys")
		var kept auth.Hash
		inSQLite(t, path, "", func(s store, db *sql.DB) {
			use(t, s, db, revokeInSQLite("api_keys"))
			for range 2 {
				must(t, s.Migrate(t.Context()))
				wantUnchanged(t, "after Migrate", made, sqlitePartsIn(t, db, "api_keys"))
			}
			kept = insertKey(t, s)
		})
		again := tool.up(t, path, sqlite.Migrations)
		if tool.repeats {
			wantError(t, "the second run", again, `table "api_keys" already exists`)
		} else {
			must(t, again)
		}
		wantUnchanged(t, "after the second run", made, sqliteParts(t, path, "api_keys"))
		inSQLite(t, path, "", func(s store, db *sql.DB) {
			wantKey(t, s, kept)
			use(t, s, db, revokeInSQLite("api_keys"))
		})
	})
}

// A table with one of the names belongs to somebody else. Neither a tool nor
// Migrate touches it, or leaves a part of ours. With another name, both work.
func TestSQLiteTaken(t *testing.T) {
	for _, taken := range []struct {
		name, sql, rows string
		tool, migrate   []string // in the errors
	}{
		{"table", `CREATE TABLE api_keys (id INTEGER PRIMARY KEY, user_id INTEGER, token TEXT);
			INSERT INTO api_keys (user_id, token) VALUES (7, 'theirs')`, "SELECT user_id || token FROM api_keys",
			[]string{"api_keys", "already exists"},
			[]string{"Options.Table", "column api_keys.chain TEXT NOT NULL", "more"}},
		{"view", "CREATE VIEW api_keys AS SELECT 7 AS user_id", "SELECT user_id || '' FROM api_keys",
			[]string{"api_keys", "already exists"},
			[]string{"Options.Table", "column api_keys.chain TEXT NOT NULL"}},
		{"events", `CREATE TABLE api_keys_events (id INTEGER PRIMARY KEY, what TEXT);
			INSERT INTO api_keys_events (what) VALUES ('theirs')`, "SELECT what FROM api_keys_events",
			[]string{"api_keys_events", "already exists"},
			[]string{"api_keys_events", "already exists"}},
	} {
		t.Run(taken.name, func(t *testing.T) {
			onSQLite(t, func(t *testing.T, tool tool, path string) {
				var parts, rows []string
				wantTheirs := func(what string, db *sql.DB) {
					t.Helper()
					wantUnchanged(t, what, parts, sqlitePartsIn(t, db, "api_keys"))
					wantUnchanged(t, what, rows, texts(t, db, taken.rows))
				}
				inSQLite(t, path, "", func(s store, db *sql.DB) {
					execute(t, db, taken.sql)
					parts, rows = sqlitePartsIn(t, db, "api_keys"), texts(t, db, taken.rows)
					// Migrate is first, since it must not rely on what a tool notes.
					wantError(t, "Migrate", s.Migrate(t.Context()), taken.migrate...)
					wantTheirs("after Migrate", db)
				})
				wantError(t, "the tool", tool.up(t, path, sqlite.Migrations), taken.tool...)
				inSQLite(t, path, "", func(_ store, db *sql.DB) { wantTheirs("after the tool", db) })
				if tool.name == "golang-migrate" {
					// What its "force" does. -1: nothing was executed.
					must(t, golangMigrate("sqlite", func(m *migrate.Migrate) error { return m.Force(-1) })(t, path, sqlite.Migrations))
				}
				must(t, tool.up(t, path, renamed(t, sqlite.Migrations, "my_keys")))
				inSQLite(t, path, "my_keys", func(s store, db *sql.DB) {
					use(t, s, db, revokeInSQLite("my_keys"))
					ours := sqlitePartsIn(t, db, "my_keys")
					for range 2 {
						must(t, s.Migrate(t.Context()))
						wantUnchanged(t, "after Migrate of my_keys", ours, sqlitePartsIn(t, db, "my_keys"))
					}
					use(t, s, db, revokeInSQLite("my_keys"))
					wantTheirs("after my_keys was used", db)
				})
			})
		})
	}
}

// After Migrate, each tool fails and changes nothing, as with PostgreSQL.
func TestSQLiteMigrateFirst(t *testing.T) {
	onSQLite(t, func(t *testing.T, tool tool, path string) {
		var kept auth.Hash
		inSQLite(t, path, "", func(s store, _ *sql.DB) {
			must(t, s.Migrate(t.Context()))
			kept = insertKey(t, s)
		})
		made := sqliteParts(t, path, "api_keys")
		for range 2 { // golang-migrate fails for another reason the second time
			if err := tool.up(t, path, sqlite.Migrations); err == nil {
				t.Error("the tool succeeded, want an error")
			}
			wantUnchanged(t, "after the tool", made, sqliteParts(t, path, "api_keys"))
		}
		inSQLite(t, path, "", func(s store, db *sql.DB) {
			must(t, s.Migrate(t.Context()))
			wantKey(t, s, kept)
			use(t, s, db, revokeInSQLite("api_keys"))
		})
	})
}

// The way back of a tool drops no key. The tool only forgets that it executed
// the file, and then fails to execute it again.
func TestSQLiteDown(t *testing.T) {
	onSQLite(t, func(t *testing.T, tool tool, path string) {
		if tool.down == nil {
			return // the shell
		}
		must(t, tool.up(t, path, sqlite.Migrations))
		var kept auth.Hash
		inSQLite(t, path, "", func(s store, _ *sql.DB) { kept = insertKey(t, s) })
		made := sqliteParts(t, path, "api_keys")
		must(t, tool.down(t, path, sqlite.Migrations))
		wantUnchanged(t, "after down", made, sqliteParts(t, path, "api_keys"))
		wantError(t, "up after down", tool.up(t, path, sqlite.Migrations), "api_keys", "already exists")
		wantUnchanged(t, "after up", made, sqliteParts(t, path, "api_keys"))
		inSQLite(t, path, "", func(s store, db *sql.DB) {
			wantKey(t, s, kept)
			use(t, s, db, revokeInSQLite("api_keys"))
			must(t, s.Migrate(t.Context()))
		})
	})
}

// Migrate refuses tables that somebody changed after a tool made them, and names
// the part. It leaves them alone.
func TestSQLiteChanged(t *testing.T) {
	file, err := fs.ReadFile(sqlite.Migrations, "00001_api_keys.up.sql")
	must(t, err)
	for _, change := range []struct {
		name     string
		old, new string // replaced in the file, before the tool executes it
		sql      string // executed after the tool
		want     string // in the error of Migrate
	}{
		{name: "trigger dropped", sql: "DROP TRIGGER api_keys_record_update",
			want: `trigger CREATE TRIGGER "api_keys_record_update"`},
		{name: "trigger replaced", sql: "DROP TRIGGER api_keys_check_insert; " +
			"CREATE TRIGGER api_keys_check_insert BEFORE INSERT ON api_keys BEGIN SELECT 1; END",
			want: `trigger CREATE TRIGGER "api_keys_check_insert"`},
		{name: "index dropped", sql: "DROP INDEX api_keys_owner_idx", want: `index CREATE INDEX "api_keys_owner_idx"`},
		{name: "column renamed", sql: "ALTER TABLE api_keys RENAME hint TO hints",
			want: "column api_keys.hint TEXT NOT NULL"},
		{name: "column of the events renamed", sql: "ALTER TABLE api_keys_events RENAME made_by TO by",
			want: "column api_keys_events.made_by TEXT NOT NULL"},
		{name: "actors dropped", sql: "DROP TABLE api_keys_actor", want: "column api_keys_actor.made_by TEXT NOT NULL"},
		{name: "type", old: "revision     INTEGER", new: "revision     TEXT   ",
			want: "column api_keys.revision INTEGER NOT NULL"},
		{name: "not null", old: "hint         TEXT    NOT NULL", new: "hint         TEXT            ",
			want: "column api_keys.hint TEXT NOT NULL"},
		{name: "unique", old: "NOT NULL UNIQUE CHECK", new: "NOT NULL CHECK", want: "api_keys"},
		{name: "primary key", old: "NOT NULL PRIMARY KEY", new: "NOT NULL", want: "api_keys"},
		{name: "check", old: "CHECK (length(hash) = 32)", new: "", want: "api_keys"},
		{name: "default", old: "INTEGER NOT NULL DEFAULT 1,", new: "INTEGER NOT NULL,", want: "api_keys"},
		{name: "strict", old: ") STRICT;", new: ");", want: "api_keys"},
		{name: "collation", old: "id           TEXT    NOT NULL", new: "id TEXT COLLATE NOCASE NOT NULL", want: "api_keys"},
		{name: "autoincrement", old: "PRIMARY KEY AUTOINCREMENT", new: "PRIMARY KEY", want: "api_keys_events"},
	} {
		t.Run(change.name, func(t *testing.T) {
			text := string(file)
			if change.old != "" {
				if !strings.Contains(text, change.old) {
					t.Fatalf("the file has no %q", change.old)
				}
				text = strings.ReplaceAll(text, change.old, change.new)
			}
			inSQLite(t, filepath.Join(t.TempDir(), "keys.db"), "", func(s store, db *sql.DB) {
				execute(t, db, text)
				if change.sql != "" {
					execute(t, db, change.sql)
				}
				changed := sqlitePartsIn(t, db, "api_keys")
				wantError(t, "Migrate", s.Migrate(t.Context()), change.want, "Options.Table")
				wantUnchanged(t, "after Migrate", changed, sqlitePartsIn(t, db, "api_keys"))
			})
		})
	}
}

// What somebody added does not count: Migrate adopts the tables.
func TestSQLiteAdded(t *testing.T) {
	for _, added := range []string{
		"ALTER TABLE api_keys ADD COLUMN team TEXT",
		"CREATE INDEX mine ON api_keys (name)",
		"CREATE TRIGGER mine AFTER INSERT ON api_keys BEGIN SELECT 1; END",
		"CREATE TABLE api_keys_other (id INTEGER)",
	} {
		path := filepath.Join(t.TempDir(), "keys.db")
		must(t, golangMigrate("sqlite", upAll)(t, path, sqlite.Migrations))
		inSQLite(t, path, "", func(s store, db *sql.DB) {
			execute(t, db, added)
			if err := s.Migrate(t.Context()); err != nil {
				t.Errorf("%s: Migrate: %v", added, err)
			}
		})
	}
}
