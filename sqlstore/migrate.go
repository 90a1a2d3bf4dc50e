package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

// Migrations holds plain SQL for your migration tool, in the directories
// migrations/postgres and migrations/sqlite. Run the files in the order of
// their names, each in one transaction. A release only adds files. The table is
// [DefaultTable].
//
//go:embed migrations
var Migrations embed.FS

// Migrate creates the table if it does not exist, and brings it up to date.
// Several processes may call it at the same time: one migrates, and the others
// wait for it until ctx is done.
//
// A table with the suffix _goose holds what was done. Use either Migrate or
// your own tool, not both. On PostgreSQL, do not call Migrate through a pooler
// that shares connections among clients: it holds a lock of the session.
func (s *Store) Migrate(ctx context.Context) error { return wrap("migrate", s.migrate(ctx)) }

func (s *Store) migrate(ctx context.Context) error {
	migrations, err := s.migrations()
	if err != nil {
		return err
	}
	versions, err := s.versionTable()
	if err != nil {
		return err
	}
	opts := []goose.ProviderOption{
		goose.WithStore(versions),
		goose.WithGoMigrations(migrations...),
		goose.WithDisableGlobalRegistry(true), // which holds migrations of the caller
		goose.WithSlog(s.logger),
	}
	if s.dialect == postgres {
		opts = append(opts, goose.WithSessionLocker(s.table.advisoryLock()))
	}
	provider, err := goose.NewProvider(goose.DialectCustom, s.db, nil, opts...)
	if err != nil {
		return err
	}
	end, err := s.turn.wait(ctx)
	if err != nil {
		return err
	}
	defer end()
	// SQLite has no lock that outlives a transaction. If another process was
	// faster, Up fails, and at the next attempt finds nothing to do.
	for attempt := 1; ; attempt++ {
		if _, err = provider.Up(ctx); err == nil || s.dialect == postgres || attempt == 20 || ctx.Err() != nil {
			return err
		}
		time.Sleep(rand.N(50 * time.Millisecond))
	}
}

// An advisoryLock is a lock.SessionLocker. That of goose asks once a second, so
// ten instances that start together take ten seconds. This one waits in the
// server.
type advisoryLock int64

var _ lock.SessionLocker = advisoryLock(0)

func (t table) advisoryLock() advisoryLock {
	id := fnv.New64a()
	id.Write([]byte("sqlstore " + t.name)) // not the schema, which may be left out
	return advisoryLock(id.Sum64())
}

func (l advisoryLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", int64(l))
	return err
}

func (l advisoryLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", int64(l))
	return err
}

// migrations returns the SQL in Migrations, with the name of the Store's table.
func (s *Store) migrations() ([]*goose.Migration, error) {
	dir := "migrations/" + s.dialect.name
	files, err := fs.ReadDir(Migrations, dir)
	if err != nil {
		return nil, err
	}
	var all []*goose.Migration
	for _, file := range files {
		text, err := fs.ReadFile(Migrations, path.Join(dir, file.Name()))
		if err != nil {
			return nil, err
		}
		number, _, _ := strings.Cut(file.Name(), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file.Name(), err)
		}
		query := s.table.render(string(text))
		all = append(all, goose.NewGoMigration(version, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, query)
			return err
		}}, nil))
	}
	return all, nil
}

var defaultName = regexp.MustCompile(`(["'])` + DefaultTable + `((?:_[a-z_]+)?)["'](\()?`)

// render replaces the default name in text by that of the table. The table and
// the functions get the schema. Indexes and triggers are in that of the table.
func (t table) render(text string) string {
	return defaultName.ReplaceAllStringFunc(text, func(match string) string {
		m := defaultName.FindStringSubmatch(match)
		quote, suffix, paren := m[1], m[2], m[3]
		if quote == `"` && (suffix == "" || paren != "") {
			return t.quoted(suffix) + paren
		}
		return quote + t.name + suffix + quote + paren
	})
}

// A versionTable is that of goose, with a name that is quoted.
type versionTable struct {
	database.Store
	exists string
	name   string
}

func (s *Store) versionTable() (*versionTable, error) {
	const suffix = "_goose"
	if s.dialect == postgres {
		store, err := database.NewStore(goose.DialectPostgres, s.table.quoted(suffix))
		return &versionTable{store, "SELECT to_regclass($1) IS NOT NULL", s.table.quoted(suffix)}, err
	}
	store, err := database.NewStore(goose.DialectSQLite3, s.table.quoted(suffix))
	return &versionTable{store, "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1)",
		s.table.name + suffix}, err
}

func (t *versionTable) TableExists(ctx context.Context, db database.DBTxConn) (exists bool, err error) {
	err = db.QueryRowContext(ctx, t.exists, t.name).Scan(&exists)
	return exists, err
}
