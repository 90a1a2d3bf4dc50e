package migrations_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// A run executes a command of a tool on a database.
type run func(t *testing.T, dsn string, files fs.FS) error

// A tool is a program that executes the files. Each call uses connections of its
// own, and closes them.
type tool struct {
	name string

	// up executes the files that were not executed before.
	up run

	// down goes back by one file. If nil, the tool has no such command.
	down run

	// repeats is true if the tool does not note which files it executed. The
	// second time it fails.
	repeats bool

	// refuses is true if down is an error, since there is no way back. The other
	// tools only forget that they executed the file.
	refuses bool
}

// A store is what both packages have.
type store interface {
	keyring.Store
	auth.Watcher
	Migrate(ctx context.Context) error
	Close() error
}

var quiet = slog.New(slog.DiscardHandler)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// execute executes statements, as psql would.
func execute(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(context.Background(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// texts returns the first column of the rows, in order.
func texts(t testing.TB, db *sql.DB, query string) []string {
	t.Helper()
	rows, err := db.QueryContext(context.Background(), query)
	must(t, err)
	defer rows.Close()
	var all []string
	for rows.Next() {
		var text string
		must(t, rows.Scan(&text))
		all = append(all, text)
	}
	must(t, rows.Err())
	slices.Sort(all)
	return all
}

// renamed returns the files with another name of the table, as sed
// s/api_keys/my_keys/g writes them. The names of the files stay.
func renamed(t testing.TB, files fs.FS, table string) fs.FS {
	t.Helper()
	all := fstest.MapFS{}
	names, err := fs.Glob(files, "*.sql")
	must(t, err)
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		must(t, err)
		all[name] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(string(text), "api_keys", table)), Mode: 0o644}
	}
	return all
}

// directory writes the files to a directory, for programs.
func directory(t testing.TB, files fs.FS) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "migrations")
	must(t, os.CopyFS(dir, files))
	return dir
}

// wantError checks that err names each of the parts.
func wantError(t testing.TB, what string, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("%s succeeded, want an error", what)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: the error has no %q: %v", what, part, err)
		}
	}
}

// wantUnchanged checks that two lists of parts are the same.
func wantUnchanged(t testing.TB, what string, before, after []string) {
	t.Helper()
	if !slices.Equal(before, after) {
		t.Errorf("%s: there is\n%s\nwant\n%s", what, strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
}

// patience is how long a test waits for what must happen before it fails. No
// test passes because it is over.
const patience = time.Minute

// use checks that a key in the table can be made, changed, read and watched.
// Somebody else changes it by revoke, an SQL statement with the name of the key
// as its parameter.
func use(t *testing.T, s store, db *sql.DB, revoke string) {
	t.Helper()
	ctx := t.Context()
	k := keyring.NewManager(s, nil).Unconfined("alice")
	r, key, err := k.Create(ctx, keyring.Spec{Name: "first", Owner: "org_1", Scopes: auth.Scopes{"documents.read"}})
	must(t, err)
	_, err = k.Update(ctx, r.ID, func(r *auth.Record) error { r.Name = "second"; return nil })
	must(t, err)
	hash := auth.Scheme{}.Hashes(key)[0]

	changes := make(chan auth.Change, 1000)
	watching, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Watch(watching, func(c auth.Change) { changes <- c }) }()
	defer func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch returned %v, want context.Canceled", err)
		}
	}()
	wait := func(want auth.Change) {
		t.Helper()
		for {
			select {
			case c := <-changes:
				if c == want {
					return
				}
			case <-time.After(patience):
				t.Fatalf("Watch never reported %v", want)
			}
		}
	}
	wait(auth.Change{Kind: auth.WatchStarted})
	execute(t, db, revoke, "second")
	wait(auth.Change{Kind: auth.RecordChanged, Hash: hash})

	found, err := s.Lookup(ctx, hash)
	must(t, err)
	if err := found.Check(time.Now()); !errors.Is(err, auth.ErrKeyRevoked) {
		t.Errorf("after SQL revoked the key: %v, want ErrKeyRevoked", err)
	}
	var kinds []keyring.EventKind
	for e, err := range k.Events(ctx, keyring.EventFilter{KeyID: r.ID}) {
		must(t, err)
		kinds = append(kinds, e.Kind)
	}
	want := []keyring.EventKind{keyring.EventRevoked, keyring.EventUpdated, keyring.EventCreated}
	if !slices.Equal(kinds, want) {
		t.Errorf("events are %q, want %q", kinds, want)
	}
	must(t, k.Delete(ctx, r.ID)) // so that the next use finds no other key with its name
}
