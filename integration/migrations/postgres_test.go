package migrations_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/amacneil/dbmate/v2/pkg/dbmate"
	_ "github.com/amacneil/dbmate/v2/pkg/driver/postgres"
	"github.com/golang-migrate/migrate/v4"
	_ "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	_ "github.com/golang-migrate/migrate/v4/database/postgres"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/insigner/auth"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
	tern "github.com/jackc/tern/v2/migrate"
	"github.com/pressly/goose/v3"
	sqlmigrate "github.com/rubenv/sql-migrate"
)

// postgresTools execute a file in a transaction, together with the note that
// they executed it, except golang-migrate and psql. The whole file is one
// message of golang-migrate to the server, so it is a transaction too. But the
// note is not part of it: after a failure the version is "dirty". psql needs
// --single-transaction.
var postgresTools = []tool{
	{name: "goose", up: goosePostgres((*goose.Provider).Up), down: goosePostgres((*goose.Provider).Down)},
	{name: "golang-migrate pgx", up: golangMigrate("pgx5", upAll), down: golangMigrate("pgx5", downOne)},
	{name: "golang-migrate pq", up: golangMigrate("postgres", upAll), down: golangMigrate("postgres", downOne)},
	{name: "sql-migrate", up: sqlMigratePostgres(sqlmigrate.Up), down: sqlMigratePostgres(sqlmigrate.Down)},
	{name: "dbmate", up: dbmatePostgres((*dbmate.DB).Migrate), down: dbmatePostgres((*dbmate.DB).Rollback)},
	{name: "tern", up: runTern((*tern.Migrator).Migrate), down: runTern(ternDown), refuses: true},
	{name: "psql", up: runPsql, repeats: true},
}

// gooseRun executes a command of goose in a database that is open.
func gooseRun[T any](t *testing.T, dialect goose.Dialect, db *sql.DB, files fs.FS,
	command func(*goose.Provider, context.Context) (T, error)) error {
	p, err := goose.NewProvider(dialect, db, files)
	if err != nil {
		return err
	}
	_, err = command(p, t.Context())
	return err
}

func goosePostgres[T any](command func(*goose.Provider, context.Context) (T, error)) run {
	return func(t *testing.T, dsn string, files fs.FS) error {
		db, err := sql.Open("pgx", dsn)
		if err != nil {
			return err
		}
		defer db.Close()
		return gooseRun(t, goose.DialectPostgres, db, files, command)
	}
}

// golangMigrate executes a command of golang-migrate with the driver for which
// the scheme stands.
func golangMigrate(scheme string, command func(*migrate.Migrate) error) run {
	return func(t *testing.T, dsn string, files fs.FS) error {
		source, err := iofs.New(files, ".")
		if err != nil {
			return err
		}
		if i := strings.Index(dsn, "://"); i >= 0 {
			dsn = dsn[i+len("://"):]
		}
		m, err := migrate.NewWithSourceInstance("iofs", source, scheme+"://"+dsn)
		if err != nil {
			return err
		}
		err = command(m)
		sourceErr, databaseErr := m.Close()
		return errors.Join(err, sourceErr, databaseErr)
	}
}

func upAll(m *migrate.Migrate) error {
	if err := m.Up(); !errors.Is(err, migrate.ErrNoChange) {
		return err
	}
	return nil
}

func downOne(m *migrate.Migrate) error { return m.Steps(-1) }

func sqlMigratePostgres(direction sqlmigrate.MigrationDirection) run {
	return func(t *testing.T, dsn string, files fs.FS) error {
		db, err := sql.Open("pgx", dsn)
		if err != nil {
			return err
		}
		defer db.Close()
		return sqlMigrate(t, db, "postgres", files, direction)
	}
}

func sqlMigrate(t *testing.T, db *sql.DB, dialect string, files fs.FS, direction sqlmigrate.MigrationDirection) error {
	count := 0 // no limit
	if direction == sqlmigrate.Down {
		count = 1
	}
	source := sqlmigrate.HttpFileSystemMigrationSource{FileSystem: http.FS(files)}
	_, err := sqlmigrate.ExecMaxContext(t.Context(), db, dialect, source, direction, count)
	return err
}

func dbmatePostgres(command func(*dbmate.DB) error) run {
	return func(_ *testing.T, dsn string, files fs.FS) error { return runDbmate(dsn, files, command) }
}

func runDbmate(dsn string, files fs.FS, command func(*dbmate.DB) error) error {
	u, err := url.Parse(dsn)
	if err != nil {
		return err
	}
	db := dbmate.New(u)
	db.FS, db.MigrationsDir, db.AutoDumpSchema, db.Log = files, []string{"."}, false, io.Discard
	return command(db)
}

func runTern(command func(*tern.Migrator, context.Context) error) run {
	return func(t *testing.T, dsn string, files fs.FS) error {
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			return err
		}
		defer conn.Close(context.Background())
		m, err := tern.NewMigrator(t.Context(), conn, "public.schema_version")
		if err != nil {
			return err
		}
		if err := m.LoadMigrations(files); err != nil {
			return err
		}
		return command(m, t.Context())
	}
}

func ternDown(m *tern.Migrator, ctx context.Context) error { return m.MigrateTo(ctx, 0) }

func runPsql(t *testing.T, dsn string, files fs.FS) error {
	return psql(t, dsn, files, "--single-transaction")
}

// psql executes each file, with further arguments.
func psql(t *testing.T, dsn string, files fs.FS, args ...string) error {
	dir := directory(t, files)
	names, err := fs.Glob(files, "*.sql")
	must(t, err)
	for _, name := range names {
		args := append([]string{dsn, "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-f", filepath.Join(dir, name)}, args...)
		if out, err := exec.CommandContext(t.Context(), psqlPath(t), args...).CombinedOutput(); err != nil {
			return fmt.Errorf("psql: %w: %s", err, out)
		}
	}
	return nil
}

// psqlPath returns the psql that came with the server.
func psqlPath(t *testing.T) string {
	paths, _ := filepath.Glob("/usr/lib/postgresql/*/bin/psql")
	if dir := os.Getenv(pgtest.EnvBin); dir != "" {
		paths = append(paths, filepath.Join(dir, "psql"))
	}
	if len(paths) > 0 {
		return paths[len(paths)-1]
	}
	path, err := exec.LookPath("psql")
	must(t, err)
	return path
}

// postgresParts returns a line for each relation, column, constraint, index,
// trigger and function with such a name. What Migrate notes for itself is left
// out.
func postgresParts(t testing.TB, db *sql.DB, prefix string) []string {
	t.Helper()
	return texts(t, db, strings.ReplaceAll(`
		WITH rels AS (SELECT * FROM pg_class WHERE relname LIKE 'PREFIX%' AND relname NOT LIKE '%\_goose%')
		SELECT format('relation %s %s', relkind, relname) FROM rels
		UNION ALL SELECT format('column %s.%s %s %s %s', relname, attname, format_type(atttypid, atttypmod), attnotnull,
			pg_get_expr(adbin, adrelid))
			FROM rels JOIN pg_attribute ON attrelid = rels.oid LEFT JOIN pg_attrdef ON adrelid = rels.oid AND adnum = attnum
			WHERE attnum > 0 AND NOT attisdropped
		UNION ALL SELECT format('constraint %s %s', conname, pg_get_constraintdef(c.oid))
			FROM rels JOIN pg_constraint c ON conrelid = rels.oid
		UNION ALL SELECT pg_get_indexdef(indexrelid) FROM rels JOIN pg_index ON indrelid = rels.oid
		UNION ALL SELECT format('%s %s', tgenabled, pg_get_triggerdef(t.oid))
			FROM rels JOIN pg_trigger t ON tgrelid = rels.oid WHERE NOT tgisinternal
		UNION ALL SELECT format('%s %s', pg_get_functiondef(oid), proacl) FROM pg_proc WHERE proname LIKE 'PREFIX%'`,
		"PREFIX", prefix))
}

func openPostgres(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func newPostgres(t testing.TB, db *sql.DB, table string) store {
	t.Helper()
	// The heartbeat ends no test.
	s, err := postgres.New(db, &postgres.Options{Table: table, Logger: quiet, HeartbeatTimeout: patience})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func revokeIn(table string) string {
	return "UPDATE " + table + " SET revoked_at = now() WHERE name = $1"
}

// onPostgres calls f with each tool and an empty database.
func onPostgres(t *testing.T, f func(t *testing.T, tool tool, dsn string, db *sql.DB)) {
	for _, tool := range postgresTools {
		t.Run(tool.name, func(t *testing.T) {
			dsn := pgtest.DSN(t)
			f(t, tool, dsn, openPostgres(t, dsn))
		})
	}
}

// A tool makes the tables, a Store uses them, and Migrate adopts them.
func TestPostgresEmpty(t *testing.T) {
	onPostgres(t, func(t *testing.T, tool tool, dsn string, db *sql.DB) {
		must(t, tool.up(t, dsn, postgres.Migrations))
		made := postgresParts(t, db, "api_keys")
		s := newPostgres(t, db, "")
		use(t, s, db, revokeIn("api_keys"))
		for range 2 {
			must(t, s.Migrate(t.Context()))
			wantUnchanged(t, "after Migrate", made, postgresParts(t, db, "api_keys"))
		}
		kept := insertKey(t, s)
		again := tool.up(t, dsn, postgres.Migrations)
		if tool.repeats {
			wantError(t, "the second run", again, `relation "api_keys" already exists`)
		} else {
			must(t, again)
		}
		wantUnchanged(t, "after the second run", made, postgresParts(t, db, "api_keys"))
		wantKey(t, s, kept)
		use(t, s, db, revokeIn("api_keys"))
	})
}

// insertKey inserts a key and returns its hash.
func insertKey(t *testing.T, s store) auth.Hash {
	t.Helper()
	_, key, err := keyring.NewManager(s, nil).Unconfined("alice").Create(t.Context(), keyring.Spec{Name: "kept",
		Owner: "org_1"})
	must(t, err)
	return auth.Scheme{}.Hashes(key)[0]
}

func wantKey(t *testing.T, s store, hash auth.Hash) {
	t.Helper()
	if _, err := s.Lookup(t.Context(), hash); err != nil {
		t.Errorf("a key that was there: %v", err)
	}
}

// A table with one of the names belongs to somebody else. Neither a tool nor
// Migrate touches it, or leaves a part of ours. With another name, both work.
func TestPostgresTaken(t *testing.T) {
	for _, taken := range []struct {
		name, sql, rows string
		tool, migrate   []string // in the errors
	}{
		{"table", `CREATE TABLE api_keys (id serial PRIMARY KEY, user_id int, token text);
			INSERT INTO api_keys (user_id, token) VALUES (7, 'theirs')`, "SELECT k::text FROM api_keys k",
			[]string{`relation "api_keys" already exists`},
			[]string{"Options.Table", "column api_keys.chain text NOT NULL", "more"}},
		{"view", `CREATE VIEW api_keys AS SELECT 7 AS user_id`, "SELECT k::text FROM api_keys k",
			[]string{`relation "api_keys" already exists`},
			[]string{"Options.Table", "column api_keys.chain text NOT NULL"}},
		{"events", `CREATE TABLE api_keys_events (id serial PRIMARY KEY, what text);
			INSERT INTO api_keys_events (what) VALUES ('theirs')`, "SELECT k::text FROM api_keys_events k",
			[]string{`relation "api_keys_events" already exists`},
			[]string{`relation "api_keys_events" already exists`}},
		{"function", `CREATE FUNCTION api_keys_notify() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$`,
			"SELECT 'no rows'",
			[]string{`function "api_keys_notify" already exists with same argument types`},
			[]string{`function "api_keys_notify" already exists with same argument types`}},
	} {
		t.Run(taken.name, func(t *testing.T) {
			onPostgres(t, func(t *testing.T, tool tool, dsn string, db *sql.DB) {
				execute(t, db, taken.sql)
				parts, rows := postgresParts(t, db, "api_keys"), texts(t, db, taken.rows)
				wantTheirs := func(what string) {
					t.Helper()
					wantUnchanged(t, what, parts, postgresParts(t, db, "api_keys"))
					wantUnchanged(t, what, rows, texts(t, db, taken.rows))
				}
				// Migrate is first, since it must not rely on what a tool notes.
				wantError(t, "Migrate", newPostgres(t, db, "").Migrate(t.Context()), taken.migrate...)
				wantTheirs("after Migrate")
				wantError(t, "the tool", tool.up(t, dsn, postgres.Migrations), taken.tool...)
				wantTheirs("after the tool")
				if strings.HasPrefix(tool.name, "golang-migrate") {
					// What its "force" does. -1: nothing was executed.
					must(t, golangMigrate("pgx5", func(m *migrate.Migrate) error { return m.Force(-1) })(t, dsn, postgres.Migrations))
				}
				must(t, tool.up(t, dsn, renamed(t, postgres.Migrations, "my_keys")))
				s := newPostgres(t, db, "my_keys")
				use(t, s, db, revokeIn("my_keys"))
				ours := postgresParts(t, db, "my_keys")
				for range 2 {
					must(t, s.Migrate(t.Context()))
					wantUnchanged(t, "after Migrate of my_keys", ours, postgresParts(t, db, "my_keys"))
				}
				use(t, s, db, revokeIn("my_keys"))
				wantTheirs("after my_keys was used")
			})
		})
	}
}

// Without --single-transaction, psql leaves the parts that come before the one
// that fails.
func TestPsqlWithoutTransaction(t *testing.T) {
	dsn := pgtest.DSN(t)
	db := openPostgres(t, dsn)
	execute(t, db, "CREATE TABLE api_keys_events (id int)")
	wantError(t, "psql", psql(t, dsn, postgres.Migrations), `relation "api_keys_events" already exists`)
	if len(texts(t, db, "SELECT relname FROM pg_class WHERE relname = 'api_keys'")) == 0 {
		t.Error("psql left nothing: the documents need not name --single-transaction")
	}
}

// After Migrate, each tool fails and changes nothing: it does not know that
// somebody has executed the file. Use one or the other. Who changes from Migrate
// to a tool tells the tool that the file was executed: "migrate force 1", or a
// row in its table.
func TestPostgresMigrateFirst(t *testing.T) {
	onPostgres(t, func(t *testing.T, tool tool, dsn string, db *sql.DB) {
		s := newPostgres(t, db, "")
		must(t, s.Migrate(t.Context()))
		kept := insertKey(t, s)
		made := postgresParts(t, db, "api_keys")
		for range 2 { // golang-migrate fails for another reason the second time
			if err := tool.up(t, dsn, postgres.Migrations); err == nil {
				t.Error("the tool succeeded, want an error")
			}
			wantUnchanged(t, "after the tool", made, postgresParts(t, db, "api_keys"))
		}
		must(t, s.Migrate(t.Context()))
		wantKey(t, s, kept)
		use(t, s, db, revokeIn("api_keys"))
	})
}

// The way back of a tool drops no key. tern refuses it. The others only forget
// that they executed the file, and then fail to execute it again.
func TestPostgresDown(t *testing.T) {
	onPostgres(t, func(t *testing.T, tool tool, dsn string, db *sql.DB) {
		if tool.down == nil {
			return // psql
		}
		must(t, tool.up(t, dsn, postgres.Migrations))
		s := newPostgres(t, db, "")
		kept := insertKey(t, s)
		made := postgresParts(t, db, "api_keys")
		down := tool.down(t, dsn, postgres.Migrations)
		if tool.refuses {
			wantError(t, "down", down)
		} else {
			must(t, down)
		}
		wantUnchanged(t, "after down", made, postgresParts(t, db, "api_keys"))
		again := tool.up(t, dsn, postgres.Migrations)
		if tool.refuses {
			must(t, again)
		} else {
			wantError(t, "up after down", again, `relation "api_keys" already exists`)
		}
		wantUnchanged(t, "after up", made, postgresParts(t, db, "api_keys"))
		wantKey(t, s, kept)
		use(t, s, db, revokeIn("api_keys"))
		must(t, s.Migrate(t.Context()))
	})
}

// Migrate refuses tables that somebody changed after a tool made them, and names
// the part. It leaves them alone.
func TestPostgresChanged(t *testing.T) {
	const recreate = "CREATE OR REPLACE FUNCTION "
	for _, change := range []struct{ name, sql, want string }{
		{"trigger dropped", "DROP TRIGGER api_keys_record_update ON api_keys", "trigger api_keys_record_update"},
		{"trigger disabled", "ALTER TABLE api_keys DISABLE TRIGGER api_keys_on_row", "trigger api_keys_on_row ALWAYS"},
		{"trigger not always", "ALTER TABLE api_keys ENABLE TRIGGER api_keys_on_update", "trigger api_keys_on_update ALWAYS"},
		{"trigger replaced", `DROP TRIGGER api_keys_on_row ON api_keys;
			CREATE TRIGGER api_keys_on_row AFTER INSERT ON api_keys FOR EACH ROW EXECUTE FUNCTION api_keys_notify();
			ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_on_row`, "trigger api_keys_on_row ALWAYS"},
		{"column dropped", "ALTER TABLE api_keys DROP COLUMN last_used_at", "column api_keys.last_used_at"},
		{"column renamed", "ALTER TABLE api_keys RENAME hint TO hints", "column api_keys.hint "},
		{"type", "ALTER TABLE api_keys_events ALTER made_by TYPE varchar(10)", "column api_keys_events.made_by text"},
		{"null", "ALTER TABLE api_keys ALTER last_used_at SET NOT NULL", "column api_keys.last_used_at"},
		{"not null", "ALTER TABLE api_keys ALTER hint DROP NOT NULL", "column api_keys.hint text NOT NULL"},
		{"default", "ALTER TABLE api_keys ALTER revision DROP DEFAULT", "column api_keys.revision"},
		{"collation", `DROP INDEX api_keys_events_key_idx;
			ALTER TABLE api_keys_events ALTER key_id TYPE text COLLATE "en-x-icu";
			CREATE INDEX api_keys_events_key_idx ON api_keys_events (key_id, id)`, "column api_keys_events.key_id"},
		{"identity", "ALTER TABLE api_keys_events ALTER id DROP IDENTITY", "column api_keys_events.id"},
		{"column of the events", "ALTER TABLE api_keys_events DROP COLUMN role", "column api_keys_events.role"},
		{"events dropped", "DROP TABLE api_keys_events", "column api_keys_events."},
		{"constraint", "ALTER TABLE api_keys DROP CONSTRAINT api_keys_hash_check", "constraint api_keys_hash_check"},
		{"unique", "ALTER TABLE api_keys DROP CONSTRAINT api_keys_hash_key", "constraint api_keys_hash_key"},
		{"index", "DROP INDEX api_keys_owner_idx", "index CREATE INDEX api_keys_owner_idx"},
		{"function replaced", recreate + "api_keys_notify() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
			"function api_keys_notify"},
		{"rights of a function", "ALTER FUNCTION api_keys_record() SECURITY INVOKER", "function api_keys_record"},
		{"search path of a function", "ALTER FUNCTION api_keys_record() RESET search_path", "function api_keys_record"},
		{"time zone of a function", "ALTER FUNCTION api_keys_record() RESET timezone", "function api_keys_record"},
		{"callers of a function", "GRANT EXECUTE ON FUNCTION api_keys_record() TO PUBLIC", "function api_keys_record"},
	} {
		t.Run(change.name, func(t *testing.T) {
			dsn := pgtest.DSN(t)
			db := openPostgres(t, dsn)
			must(t, runPsql(t, dsn, postgres.Migrations))
			execute(t, db, change.sql)
			changed := postgresParts(t, db, "api_keys")
			wantError(t, "Migrate", newPostgres(t, db, "").Migrate(t.Context()), change.want, "Options.Table")
			wantUnchanged(t, "after Migrate", changed, postgresParts(t, db, "api_keys"))
		})
	}
}

// What somebody added does not count: Migrate adopts the tables.
func TestPostgresAdded(t *testing.T) {
	for _, added := range []string{
		"ALTER TABLE api_keys ADD COLUMN team text",
		"CREATE INDEX mine ON api_keys (name)",
		"CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$; " +
			"CREATE TRIGGER mine BEFORE INSERT ON api_keys FOR EACH ROW EXECUTE FUNCTION mine()",
		"CREATE TABLE api_keys_other (id int)",
	} {
		dsn := pgtest.DSN(t)
		db := openPostgres(t, dsn)
		must(t, runPsql(t, dsn, postgres.Migrations))
		execute(t, db, added)
		if err := newPostgres(t, db, "").Migrate(t.Context()); err != nil {
			t.Errorf("%s: Migrate: %v", added, err)
		}
	}
}

// A tool may make the tables in a schema, with the search path. The names of
// some schemas are parts of the names of the tables.
func TestPostgresSchemas(t *testing.T) {
	for _, schema := range []string{"app", "keys", "s", "events", "Odd", "user"} {
		t.Run(schema, func(t *testing.T) {
			dsn := pgtest.DSN(t)
			db := openPostgres(t, dsn)
			execute(t, db, `CREATE SCHEMA "`+schema+`"`)
			inside := dsn + "&options=" + url.QueryEscape(`-csearch_path="`+schema+`"`)
			must(t, runPsql(t, inside, postgres.Migrations))
			s := newPostgres(t, db, schema+".api_keys")
			use(t, s, db, revokeIn(`"`+schema+`".api_keys`))
			for range 2 {
				must(t, s.Migrate(t.Context()))
			}
			// The name without the schema, in a session with the search path.
			must(t, newPostgres(t, openPostgres(t, inside), "").Migrate(t.Context()))
		})
	}
}

// A role owns the tables, for the tool. Another one is for the server: it may
// change keys, and read their events.
func TestPostgresRoles(t *testing.T) {
	onPostgres(t, func(t *testing.T, tool tool, dsn string, db *sql.DB) {
		as := func(role string) string {
			u, err := url.Parse(dsn)
			must(t, err)
			u.User = url.User(role)
			return u.String()
		}
		name := strings.TrimPrefix(mustParse(t, dsn).Path, "/")
		owner, server := name+"_owner", name+"_server"
		execute(t, db, fmt.Sprintf("CREATE ROLE %s LOGIN; CREATE ROLE %s LOGIN; GRANT CREATE ON SCHEMA public TO %s",
			owner, server, owner))
		t.Cleanup(func() {
			execute(t, db, fmt.Sprintf("DROP OWNED BY %[1]s, %[2]s CASCADE; DROP ROLE %[1]s, %[2]s", owner, server))
		})
		must(t, tool.up(t, as(owner), postgres.Migrations))
		execute(t, openPostgres(t, as(owner)), fmt.Sprintf(
			"GRANT SELECT, INSERT, UPDATE, DELETE ON api_keys TO %[1]s; GRANT SELECT ON api_keys_events TO %[1]s", server))
		serving := openPostgres(t, as(server))
		s := newPostgres(t, serving, "")
		use(t, s, serving, revokeIn("api_keys"))
		if err := s.Migrate(t.Context()); err == nil {
			t.Error("Migrate as the role of the server succeeded, want an error")
		}
		must(t, newPostgres(t, openPostgres(t, as(owner)), "").Migrate(t.Context()))
		use(t, s, serving, revokeIn("api_keys"))
	})
}

func mustParse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	must(t, err)
	return u
}
