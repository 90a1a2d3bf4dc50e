package main

import (
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth/internal/pgtest"
	_ "github.com/jackc/pgx/v5/stdlib"
)

// patience is how long a test waits for what must happen before it fails.
const patience = time.Minute

// onDatabases runs f with the URL of a migrated database of each kind.
func onDatabases(t *testing.T, f func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) {
		u := (&url.URL{Scheme: "sqlite", Path: filepath.ToSlash(filepath.Join(t.TempDir(), "keys.db"))}).String()
		mustRun(t, u, "", "migrate")
		f(t, u)
	})
	t.Run("postgres", func(t *testing.T) {
		u := pgtest.DSN(t)
		mustRun(t, u, "", "migrate")
		f(t, u)
	})
}

// command returns isk with these arguments.
func command(url string, args ...string) *exec.Cmd {
	c := exec.Command("isk", args...)
	c.Env = append(os.Environ(), "ISK_DATABASE_URL="+url)
	return c
}

// mustRun runs isk and returns its standard output.
func mustRun(t *testing.T, url, stdin string, args ...string) string {
	t.Helper()
	c := command(url, args...)
	c.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("isk %s: %v: %s", args[0], err, stderr.Bytes())
	}
	return string(out)
}

// newRows returns a CSV of new keys. Its header is line 1.
func newRows(n int) string {
	var b strings.Builder
	b.WriteString("hash,name,owner,scopes\n")
	for i := range n {
		fmt.Fprintf(&b, "%064x,Key %d,acme,documents.read\n", i+1, i)
	}
	return b.String()
}

// A running is an isk import - that waits for more.
type running struct {
	t      *testing.T
	c      *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer
}

// startImport returns an import that has read most of the rows: a pipe holds 64
// kB.
func startImport(t *testing.T, url, rows string, args ...string) *running {
	t.Helper()
	r := &running{t: t, c: command(url, append([]string{"import", "-"}, args...)...)}
	r.c.Stderr = &r.stderr
	var err error
	if r.stdin, err = r.c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.c.Process.Kill() })
	if _, err := io.WriteString(r.stdin, rows); err != nil {
		t.Fatalf("%v: %s", err, r.stderr.Bytes())
	}
	return r
}

// wantExit fails unless the command ends with this code and text, and the
// database is empty.
func (r *running) wantExit(url string, code int, text string) {
	r.t.Helper()
	r.c.Wait()
	if got := r.c.ProcessState.ExitCode(); got != code {
		r.t.Errorf("exit code %d, want %d", got, code)
	}
	if !strings.Contains(r.stderr.String(), text) {
		r.t.Errorf("it tells %q, want %q", r.stderr.String(), text)
	}
	if left := mustRun(r.t, url, "", "list"); left != "" {
		r.t.Errorf("there are %d keys, want none", strings.Count(left, "\n"))
	}
}

func TestImportInterrupted(t *testing.T) {
	onDatabases(t, func(t *testing.T, url string) {
		r := startImport(t, url, newRows(3000))
		if err := r.c.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		r.wantExit(url, 1, "interrupted; nothing was imported")
	})
}

func TestImportCutOff(t *testing.T) {
	onDatabases(t, func(t *testing.T, url string) {
		rows := newRows(3000)
		r := startImport(t, url, rows[:len(rows)-20])
		r.stdin.Close()
		r.wantExit(url, 1, "line 3001: it has 3 cells, but there are 4 columns")
	})
}

func TestImportKilled(t *testing.T) {
	onDatabases(t, func(t *testing.T, url string) {
		r := startImport(t, url, newRows(3000))
		r.c.Process.Kill()
		r.wantExit(url, -1, "")
		mustRun(t, url, newRows(3000), "import", "-") // nothing is locked
	})
}

func TestImportLosesTheServer(t *testing.T) {
	u := pgtest.DSN(t)
	mustRun(t, u, "", "migrate")
	db, err := sql.Open("pgx", u)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r := startImport(t, u, newRows(3000))
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		var n int
		err := db.QueryRow(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'isk' AND state = 'idle in transaction'`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("waited in vain for the transaction of the import")
		}
	}
	io.WriteString(r.stdin, strings.SplitN(newRows(5000), "\n", 3002)[3001]) // may fail, since it is gone
	r.stdin.Close()
	r.wantExit(u, 4, "nothing was imported: sqlstore/postgres: insert all:")
}

// While somebody types, others can write.
func TestImportLeavesTheDatabaseToOthers(t *testing.T) {
	onDatabases(t, func(t *testing.T, url string) {
		r := startImport(t, url, newRows(3000))
		mustRun(t, url, "", "create", "--name", "other", "--owner", "acme", "--scope", "documents.read")
		r.stdin.Close()
		if err := r.c.Wait(); err != nil {
			t.Errorf("%v: %s", err, r.stderr.Bytes())
		}
		if n := strings.Count(mustRun(t, url, "", "list"), "\n"); n != 3001 {
			t.Errorf("there are %d keys, want 3001", n)
		}
	})
}

// The lines are those of the file, also far down, and what comes twice is told
// by the line where it comes again.
func TestImportTellsLinesFarDown(t *testing.T) {
	onDatabases(t, func(t *testing.T, url string) {
		rows := newRows(2000)
		rows = strings.Replace(rows, "Key 700,", "\"Key\n\n700\",", 1)                       // line 702 has three
		rows = strings.Replace(rows, fmt.Sprintf("%064x", 1501), fmt.Sprintf("%064x", 9), 1) // line 1502, and two
		r := startImport(t, url, rows)
		r.stdin.Close()
		r.wantExit(url, 1, "line 1504: the hash is taken")
	})
}

// The export says that it is not complete if its connection is lost.
func TestExportLosesTheServer(t *testing.T) {
	u := pgtest.DSN(t)
	mustRun(t, u, "", "migrate")
	mustRun(t, u, newRows(5000), "import", "-")
	db, err := sql.Open("pgx", u)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c := command(u, "export")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil { // the pipe is full soon, and it waits
		t.Fatal(err)
	}
	if _, err := db.Exec("ALTER TABLE api_keys RENAME TO gone"); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, out)
	c.Wait()
	if code := c.ProcessState.ExitCode(); code != 4 {
		t.Errorf("exit code %d, want 4", code)
	}
	if !strings.Contains(stderr.String(), "the export is not complete: ") {
		t.Errorf("it tells %q", stderr.String())
	}
}
