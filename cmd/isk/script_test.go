package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/internal/redistest"
	"github.com/rogpeppe/go-internal/testscript"
)

// A withServers runs the tests with a PostgreSQL server, and with Redis.
type withServers struct{ m *testing.M }

func (w withServers) Run() int {
	defer redistest.Report()
	return pgtest.Main(w.m)
}

func TestMain(m *testing.M) {
	testscript.Main(withServers{m}, map[string]func(){
		"isk": func() { os.Exit(run()) },
	})
}

// TestScripts runs each script on SQLite and on PostgreSQL. ISK_DATABASE_URL
// names an empty database. DATABASE is "sqlite" or "postgres", as is the
// condition.
func TestScripts(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		scripts(t, "sqlite", func(dir string) string {
			return (&url.URL{Scheme: "sqlite", Path: filepath.ToSlash(filepath.Join(dir, "keys.db"))}).String()
		})
	})
	t.Run("postgres", func(t *testing.T) {
		pgtest.DSN(t) // skips all of them if there is no PostgreSQL
		scripts(t, "postgres", func(string) string { return pgtest.DSN(t) })
	})
}

func scripts(t *testing.T, kind string, database func(dir string) string) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("ISK_DATABASE_URL", database(e.WorkDir))
			e.Setenv("DATABASE", kind)
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("GORACE", "atexit_sleep_ms=10") // else each process sleeps for a second at its end
			return nil
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "sqlite", "postgres":
				return name == kind, nil
			}
			return false, fmt.Errorf("there is no condition %s", name)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits,
			"save":  save,
			"sql":   sqlFile,
		},
	})
}

// exits CODE COMMAND [ARG...] executes a command and expects its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if err != nil {
		code = fmt.Sprint(exitCode(err))
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

// save NAME saves the last standard output, without its line break, as $NAME.
func save(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: save NAME")
	}
	text := ts.ReadFile("stdout")
	if n := len(text); n > 0 && text[n-1] == '\n' {
		text = text[:n-1]
	}
	ts.Setenv(args[0], text)
}

// sql FILE executes the SQL in a file, in the database of the script.
func sqlFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sql FILE")
	}
	ts.Check(execute(ts.Getenv("ISK_DATABASE_URL"), ts.ReadFile(args[0])))
}
