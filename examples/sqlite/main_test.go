package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/insigner/auth/examples/exampletest"
	"github.com/insigner/auth/sqlstore"
)

func TestMain(m *testing.M) { exampletest.Main(main, m.Run) }

// The first start prints keys, which hold; the next prints none, and they go on. A start that failed while it made
// the keys is made up for.
func TestStarts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.db")
	first := exampletest.Start(t, "-db", file)
	first.Promises(t, first)
	first.Stop(t, syscall.SIGTERM)

	db, err := sqlstore.OpenSQLite(file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store, err := sqlstore.NewSQLite(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	exampletest.Used(t, store)

	second := exampletest.Start(t, "-db", file)
	if strings.Contains(second.Out, "isk_") || !strings.Contains(second.Out, "the keys of the first start go on") {
		t.Errorf("the second start prints\n%s", second.Out)
	}
	second.Promises(t, first)
	second.Stop(t, os.Interrupt)

	for _, failed := range []string{
		"UPDATE api_keys SET revoked_at = NULL WHERE name = 'revoked'",
		"DELETE FROM api_keys WHERE name IN ('expired', 'revoked')",
	} {
		if _, err := db.Exec(failed); err != nil {
			t.Fatal(err)
		}
		r := exampletest.Start(t, "-db", file)
		r.Promises(t, r)
		r.Stop(t, syscall.SIGTERM)
	}
}

// What is wrong with the file is said.
func TestBadFile(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		filepath.Join(dir, "none", "keys.db"): "no such file",
		dir:                                   "is a directory",
		other:                                 "not a database",
	} {
		out, err := exampletest.Program(t, "-db", file).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "sqlite: ") || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v: %s, want %q", file, err, out, want)
		}
	}
}
