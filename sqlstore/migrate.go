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

// Migrations holds plain SQL for the tool that you use, in the directories migrations/postgres and migrations/sqlite.
// Each file is for one transaction; they go in the order of their names, and a release only ever adds files. The table
// is [DefaultTable].
//
//go:embed migrations
var Migrations embed.FS

// Migrate brings the table up to date and makes it if there is none. Any number of processes may do so at once: on
// PostgreSQL one works and the others wait, for as long as ctx lets them. What was done is noted in a table that is
// called like that of the keys, with _goose behind it. Use either Migrate or a tool of your own, not both. Behind a
// pooler that shares connections, connect around it: the lock is the session's.
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
		goose.WithDisableGlobalRegistry(true), // the caller's own are none of ours
		goose.WithSlog(s.logger),
	}
	if s.dialect == postgres {
		opts = append(opts, goose.WithSessionLocker(s.table.advisoryLock()))
	}
	provider, err := goose.NewProvider(goose.DialectCustom, s.db, nil, opts...)
	if err != nil {
		return err
	}
	// SQLite has no lock that outlives a transaction. Who was overtaken fails, and finds it done when it looks again.
	for attempt := 1; ; attempt++ {
		if _, err = provider.Up(ctx); err == nil || s.dialect == postgres || attempt == 20 || ctx.Err() != nil {
			return err
		}
		time.Sleep(rand.N(50 * time.Millisecond))
	}
}

// An advisoryLock is a lock.SessionLocker. Goose's own asks again each second, so that ten instances that start at
// once take ten; this one is woken.
type advisoryLock int64

var _ lock.SessionLocker = advisoryLock(0)

func (t table) advisoryLock() advisoryLock {
	id := fnv.New64a()
	id.Write([]byte("sqlstore " + t.name)) // without the schema, which need not be spelled out
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

// migrations returns the SQL in Migrations, rendered for the Store's table.
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

// render puts the table's name where text has the default one. A schema belongs before the table and the function,
// but not before indexes and triggers, which are in the table's.
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

// A versionTable is goose's own, but for a name that is quoted.
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
