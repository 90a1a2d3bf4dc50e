package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/insigner/auth/internal/exampletest"
	"github.com/insigner/auth/sqlstore/sqlite"
)

func TestMain(m *testing.M) { exampletest.Main(main, m.Run) }

// TestStarts checks that the first start prints keys that work, and that the next
// start prints none while those of the first stay valid.
func TestStarts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.db")
	first := exampletest.Start(t, "-db", file)
	first.Promises(t, first)
	first.Stop(t, syscall.SIGTERM)

	db, err := sqlite.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store, err := sqlite.New(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	exampletest.Used(t, store)

	second := exampletest.Start(t, "-db", file)
	if strings.Contains(second.Out, "isk_") {
		t.Errorf("the second start prints keys:\n%s", second.Out)
	}
	if !strings.Contains(second.Out, "The keys of the first start stay valid") {
		t.Errorf("the second start does not mention the first:\n%s", second.Out)
	}
	second.Promises(t, first)
	second.Stop(t, os.Interrupt)
}

// TestBadFile checks that the error says what is wrong with the file.
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
		if err == nil {
			t.Errorf("%s: exit code 0, want a failure", file)
		}
		if !strings.Contains(string(out), "sqlite: ") {
			t.Errorf("%s: the error %q does not name the command", file, out)
		}
		if !strings.Contains(string(out), want) {
			t.Errorf("%s: the error is %q, want %q in it", file, out, want)
		}
	}
}
