package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// exitCode returns the exit code that an error of package exec says, or -1.
func exitCode(err error) int {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	return -1
}

// A result is what a run of the command printed, and its exit code.
type result struct {
	stdout, stderr string
	code           int
}

// An env is the environment of a run of the command.
type env map[string]string

// run runs the command in this process.
func (e env) run(t *testing.T, args ...string) result {
	t.Helper()
	return e.runWith(t.Context(), "", args...)
}

func (e env) runWith(ctx context.Context, stdin string, args ...string) result {
	var stdout, stderr bytes.Buffer
	a := newApp(strings.NewReader(stdin), &stdout, &stderr, func(name string) string { return e[name] })
	code := a.run(ctx, args)
	return result{stdout.String(), stderr.String(), code}
}

// must is run, for what must succeed.
func (e env) must(t *testing.T, args ...string) result {
	t.Helper()
	r := e.run(t, args...)
	if r.code != 0 {
		t.Fatalf("isk %s: exit code %d: %s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r
}

// sqliteURL returns the URL of an SQLite file that does not exist.
func sqliteURL(t *testing.T) string {
	return fileURL(filepath.Join(t.TempDir(), "keys.db"))
}

func fileURL(path string) string {
	return (&url.URL{Scheme: "sqlite", Path: filepath.ToSlash(path)}).String()
}

// migrated returns the environment of a database with tables.
func migrated(t *testing.T) env {
	t.Helper()
	e := env{envDatabase: sqliteURL(t)}
	e.must(t, "migrate")
	return e
}

// execute executes SQL in the database that a URL names.
func execute(database, query string) error {
	driver := "pgx"
	if path, ok := strings.CutPrefix(database, "sqlite://"); ok {
		driver, database = "sqlite", "file:"+path+"?_pragma=busy_timeout(5000)"
	}
	db, err := sql.Open(driver, database)
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	_, err = db.Exec(query)
	return err
}

// createKey creates a key and returns its ID.
func createKey(t *testing.T, e env, flags ...string) string {
	t.Helper()
	r := e.must(t, append([]string{"create", "--name", "x", "--owner", "acme", "--scope", "a.read", "--json"}, flags...)...)
	var key struct{ ID string }
	if err := json.Unmarshal([]byte(r.stdout), &key); err != nil {
		t.Fatal(err)
	}
	return key.ID
}
