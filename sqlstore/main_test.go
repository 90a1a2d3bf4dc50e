package sqlstore_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/sqlstore"
	"github.com/insigner/auth/sqlstore/pgtest"
	_ "github.com/jackc/pgx/v5/stdlib"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		crashInRotation(path)
	}
	os.Exit(pgtest.Main(m))
}

var quiet = slog.New(slog.DiscardHandler)

// quick makes the watcher notice within half a second.
var quick = sqlstore.Options{Logger: quiet, HeartbeatInterval: 200 * time.Millisecond, HeartbeatTimeout: 300 * time.Millisecond}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openPostgres(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	must(t, err)
	db.SetMaxIdleConns(16)
	t.Cleanup(func() { db.Close() })
	return db
}

// newPostgres returns a Store in a database of its own, and how to connect to that.
func newPostgres(t testing.TB, dsn string) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.NewPostgres(openPostgres(t, dsn), &quick)
	must(t, err)
	must(t, s.Migrate(t.Context()))
	return s
}

func newSQLite(t testing.TB, path string) (*sqlstore.Store, *sql.DB) {
	t.Helper()
	db, err := sqlstore.OpenSQLite(path)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	s, err := sqlstore.NewSQLite(db, &quick)
	must(t, err)
	must(t, s.Migrate(t.Context()))
	return s, db
}

// openDeferred opens an SQLite database with the settings that are required, and no other.
func openDeferred(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)")
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

// A kind is a database that the tests run on.
type kind struct {
	name string
	open func(t *testing.T) (*sqlstore.Store, *sql.DB)
}

var kinds = []kind{
	{"postgres", func(t *testing.T) (*sqlstore.Store, *sql.DB) {
		dsn := pgtest.DSN(t)
		return newPostgres(t, dsn), openPostgres(t, dsn)
	}},
	{"sqlite", func(t *testing.T) (*sqlstore.Store, *sql.DB) {
		return newSQLite(t, filepath.Join(t.TempDir(), "keys.db"))
	}},
}

func eachKind(t *testing.T, f func(t *testing.T, s *sqlstore.Store, db *sql.DB)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			s, db := k.open(t)
			f(t, s, db)
		})
	}
}

// record returns a record with an ID and a hash of its own.
func record() auth.Record {
	r := auth.Record{ID: "key_" + strings.ToLower(rand.Text()), Name: "test", Owner: "org_1",
		Scopes: auth.Scopes{"documents.read"}, CreatedAt: time.Now().Truncate(time.Microsecond).UTC()}
	rand.Read(r.Hash[:])
	return r
}

func inserted(t testing.TB, s auth.KeyStore) auth.Record {
	t.Helper()
	r := record()
	must(t, s.Insert(t.Context(), r))
	return r
}

// A watching collects what a Watch reports.
type watching struct {
	t       *testing.T
	changes chan auth.Change
	stop    context.CancelFunc
	ended   chan error
}

// watch returns when the Store watches.
func watch(t *testing.T, s auth.Watcher) *watching {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watching{t, make(chan auth.Change, 10000), cancel, make(chan error, 1)}
	go func() { w.ended <- s.Watch(ctx, func(c auth.Change) { w.changes <- c }) }()
	t.Cleanup(w.end)
	w.expect(auth.Change{Kind: auth.ChangesSeen})
	return w
}

func (w *watching) end() {
	w.stop()
	select {
	case <-w.ended:
		w.ended <- nil
	case <-time.After(5 * time.Second):
		w.t.Error("Watch does not end")
	}
}

// next returns the next change, or the zero Change if none comes within d.
func (w *watching) next(d time.Duration) auth.Change {
	select {
	case c := <-w.changes:
		return c
	case <-time.After(d):
		return auth.Change{}
	}
}

// expect reads until each of the changes has come, in whatever order, and fails on others.
func (w *watching) expect(want ...auth.Change) {
	w.t.Helper()
	missing := slices.Clone(want)
	for len(missing) > 0 {
		c := w.next(10 * time.Second)
		if c == (auth.Change{}) {
			w.t.Fatalf("not reported: %v", missing)
		}
		if !slices.Contains(want, c) {
			w.t.Fatalf("reported %v, want %v", c, want)
		}
		missing = slices.DeleteFunc(missing, func(m auth.Change) bool { return m == c })
	}
}

// silent fails if anything is reported, other than what is repeated.
func (w *watching) silent(d time.Duration, but ...auth.Change) {
	w.t.Helper()
	for end := time.Now().Add(d); ; {
		c := w.next(time.Until(end))
		if c == (auth.Change{}) {
			return
		}
		if !slices.Contains(but, c) {
			w.t.Fatalf("reported %v, want nothing", c)
		}
	}
}

func changed(hash auth.Hash) auth.Change {
	return auth.Change{Kind: auth.RecordChanged, Hash: hash}
}
