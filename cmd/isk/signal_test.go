package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insigner/auth/internal/pgtest"
)

// process returns the command as a process of its own.
func process(t *testing.T, e env, args ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &exec.Cmd{Path: program, Args: append([]string{"isk"}, args...), Env: os.Environ()}
	for name, value := range e {
		c.Env = append(c.Env, name+"="+value)
	}
	return c
}

// TestClosedOutput writes to a pipe that nobody reads any more.
func TestClosedOutput(t *testing.T) {
	e := migrated(t)
	e.must(t, "create", "--name", "x", "--owner", "acme", "--scope", "a.read")
	for _, test := range []struct {
		args   []string
		code   int
		stderr string // what it has
	}{
		{[]string{"list"}, exitDone, ""},
		{[]string{"list", "--json"}, exitDone, ""},
		{[]string{"events"}, exitDone, ""},
		{[]string{"help"}, exitDone, ""},
		{[]string{"completion", "bash"}, exitDone, ""},
		{[]string{"create", "--name", "lost", "--owner", "acme", "--scope", "a.read"}, exitFailed, "nobody has it: run isk revoke"},
		{[]string{"create", "--name", "lost", "--owner", "acme", "--scope", "a.read", "--json"}, exitFailed, "KEY_LOST"},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		var stderr bytes.Buffer
		c := process(t, e, test.args...)
		c.Stdout, c.Stderr = w, &stderr
		err = c.Run()
		w.Close()
		if code := c.ProcessState.ExitCode(); code != test.code {
			t.Errorf("isk %v: exit code %d, want %d: %v", test.args, code, test.code, err)
		}
		if test.stderr == "" && stderr.Len() > 0 || !strings.Contains(stderr.String(), test.stderr) {
			t.Errorf("isk %v: %q, want %q", test.args, &stderr, test.stderr)
		}
	}
}

// TestClosedConnection loses the connection to the database in the middle of an
// import. Writing to it fails as writing to an output that nobody reads does.
func TestClosedConnection(t *testing.T) {
	server, err := url.Parse(pgtest.DSN(t))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "isk") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Skip("no Unix sockets: ", err)
	}
	defer listener.Close()
	var mu sync.Mutex
	var conns []net.Conn
	cut := func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			c.Close()
		}
	}
	defer cut()
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			database, err := net.Dial("tcp", server.Host)
			if err != nil {
				client.Close()
				return
			}
			mu.Lock()
			conns = append(conns, client, database)
			mu.Unlock()
			go io.Copy(client, database)
			go io.Copy(database, client)
		}
	}()
	local := *server
	local.Host = ""
	local.RawQuery = url.Values{"host": {dir}, "port": {"5432"}, "sslmode": {"disable"}}.Encode()
	e := env{envDatabase: local.String()}
	e.must(t, "migrate")

	rows := strings.Builder{}
	for i := range 1200 {
		fmt.Fprintf(&rows, "%064x,n,o,a.read\n", i)
	}
	written := strings.NewReader(rows.String())
	first := io.MultiReader(strings.NewReader("hash,name,owner,scopes\n"), io.LimitReader(written, 600*80))
	var stdout, stderr bytes.Buffer
	a := newApp(io.MultiReader(first, &doing{f: cut}, written), &stdout, &stderr, func(name string) string { return e[name] })
	if code := a.run(t.Context(), []string{"import", "-"}); code != exitUnavailable {
		t.Errorf("exit code %d, want %d", code, exitUnavailable)
	}
	if !strings.Contains(stderr.String(), "nothing was imported: ") {
		t.Errorf("it says %q", &stderr)
	}
}

// A doing is an empty file that does something when it is read.
type doing struct{ f func() }

func (d *doing) Read([]byte) (int, error) {
	d.f()
	return 0, io.EOF
}

// A canceler cancels once it has seen a text some times.
type canceler struct {
	bytes.Buffer
	text   string
	times  int
	cancel func()
}

func (c *canceler) Write(p []byte) (int, error) {
	n, err := c.Buffer.Write(p)
	if strings.Count(c.String(), c.text) >= c.times {
		c.cancel()
	}
	return n, err
}

func TestInterruptedRevocation(t *testing.T) {
	e := migrated(t)
	for range 5 {
		e.must(t, "create", "--name", "x", "--owner", "acme", "--scope", "a.read")
	}
	ctx, cancel := context.WithCancel(t.Context())
	stderr := &canceler{text: "Revoked the key", times: 3, cancel: cancel}
	a := newApp(strings.NewReader(""), io.Discard, stderr, func(name string) string { return e[name] })
	if code := a.run(ctx, []string{"revoke", "--owner", "acme", "--yes"}); code != exitFailed {
		t.Errorf("exit code %d, want 1", code)
	}
	if !strings.Contains(stderr.String(), "isk: interrupted: Revoked 3 keys\n") {
		t.Errorf("it does not say how many are revoked: %s", stderr)
	}
	if n := strings.Count(e.must(t, "list", "--state", "revoked").stdout, "\n"); n != 3 {
		t.Errorf("%d keys are revoked, want 3", n)
	}
}

// TestInterruptedInput interrupts commands that wait for input.
func TestInterruptedInput(t *testing.T) {
	e := migrated(t)
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stderr bytes.Buffer
	a := newApp(r, io.Discard, &stderr, func(name string) string { return e[name] })
	if code := a.run(ctx, []string{"find"}); code != exitFailed {
		t.Errorf("exit code %d, want 1", code)
	}
	if stderr.String() != "isk: interrupted\n" {
		t.Errorf("it says %q", &stderr)
	}
}

// TestSIGINT interrupts a process that waits for a lock of the database.
func TestSIGINT(t *testing.T) {
	e := env{envDatabase: pgtest.DSN(t)}
	e.must(t, "migrate")
	db, err := sql.Open("pgx", e[envDatabase])
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	separator := "?"
	if strings.Contains(e[envDatabase], "?") {
		separator = "&"
	}
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		id := createKey(t, e) // of its own: the server may still make the change that was interrupted
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec("SELECT FROM api_keys FOR UPDATE"); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		name := "isk-" + signal.String() // of the session, since that of the last one may still be there
		c := process(t, env{envDatabase: e[envDatabase] + separator + "application_name=" + name}, "revoke", id, "--json")
		c.Stdout, c.Stderr = &stdout, &stderr
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for waits := false; !waits; time.Sleep(time.Millisecond) {
			err := db.QueryRow(`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = $1
				AND wait_event_type = 'Lock' AND datname = current_database())`, name).Scan(&waits)
			if err != nil {
				t.Fatal(err)
			}
			if time.Since(begin) > time.Minute {
				t.Fatal("the process does not wait for the lock")
			}
		}
		c.Process.Signal(signal)
		c.Wait()
		if code := c.ProcessState.ExitCode(); code != exitFailed {
			t.Errorf("%v: exit code %d, want 1", signal, code)
		}
		if stdout.Len() > 0 || !strings.HasPrefix(stderr.String(), `{"code":"INTERRUPTED","exit":1,`) ||
			!strings.Contains(stderr.String(), "that of "+id+" may have been done too") {
			t.Errorf("%v: it prints %q and %q", signal, &stdout, &stderr)
		}
		tx.Rollback()
	}
}
