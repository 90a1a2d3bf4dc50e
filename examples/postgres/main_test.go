package main

import (
	"bufio"
	"database/sql"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/sqlstore"
	"github.com/insigner/auth/sqlstore/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "postgres.exe")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// A running is an instance of the program.
type running struct {
	cmd   *exec.Cmd
	url   string
	keys  []string // that it printed, if it is the first
	curls []string // with the status that each promises in front
}

var (
	key  = regexp.MustCompile(`isk_[A-Za-z0-9_-]{44}`)
	base = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
)

func start(t *testing.T, program, dsn string) *running {
	t.Helper()
	r := &running{cmd: exec.Command(program, "-addr", "127.0.0.1:0", "-dsn", dsn)}
	r.cmd.Stderr = os.Stderr
	stdout, err := r.cmd.StdoutPipe()
	if err == nil {
		err = r.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.cmd.Process.Kill() })
	promised := ""
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		line := lines.Text()
		if url := base.FindString(line); url != "" {
			r.url = url
		}
		switch {
		case strings.HasPrefix(line, "# "):
			promised = line[2:5]
		case strings.HasPrefix(line, "curl "):
			r.curls = append(r.curls, promised+" "+line)
		case key.MatchString(line):
			r.keys = append(r.keys, key.FindString(line))
		}
		if strings.HasPrefix(line, "Listening on") || len(r.curls) == 6 {
			return r
		}
	}
	t.Error("it does not start")
	return r
}

func (r *running) status(t *testing.T, key string) int {
	t.Helper()
	req, err := http.NewRequest("GET", r.url+"/api/v1/documents", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cmd.Process.Signal(syscall.SIGTERM)
	if err := r.cmd.Wait(); err != nil {
		t.Error("after SIGTERM: ", err)
	}
}

// Of three that start at once on an empty database one prints keys, which work on all, and go on at the next start;
// one that is revoked is refused by all.
func TestInstances(t *testing.T) {
	program, dsn := build(t), pgtest.DSN(t)
	started := make(chan *running, 3)
	for range cap(started) {
		go func() { started <- start(t, program, dsn) }()
	}
	var all []*running
	var keys, curls []string
	for range cap(started) {
		r := <-started
		all = append(all, r)
		keys, curls = append(keys, r.keys...), append(curls, r.curls...)
	}
	if len(keys) != 4 || len(curls) != 6 {
		t.Fatalf("%d keys and %d curl lines were printed, want 4 and 6", len(keys), len(curls))
	}
	for i, want := range []string{"200", "201", "200", "403", "401", "401"} {
		if !strings.HasPrefix(curls[i], want+" ") {
			t.Errorf("curl line %d is %s, want %s", i+1, curls[i], want)
		}
	}
	holds := func(want ...int) {
		t.Helper()
		for i, r := range all {
			for j, key := range keys {
				if got := r.status(t, key); got != want[j] {
					t.Errorf("instance %d, key %d: %d, want %d", i, j, got, want[j])
				}
			}
		}
	}
	holds(200, 200, 401, 401)
	for _, r := range all {
		r.stop(t)
	}

	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store, err := sqlstore.NewPostgres(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	keyring := auth.NewKeyring(store, nil)
	var names []string
	for r, err := range keyring.List(t.Context(), auth.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, r.Name)
		if used := r.Name == "full access" || r.Name == "read-only"; used == r.LastUsedAt.IsZero() {
			t.Errorf("%s was last used at %v", r.Name, r.LastUsedAt)
		}
	}
	if want := []string{"full access", "read-only", "expired", "revoked"}; !slices.Equal(names, want) {
		t.Fatalf("the table has %v, want %v", names, want)
	}

	all = []*running{start(t, program, dsn), start(t, program, dsn)}
	for _, r := range all {
		if len(r.keys) > 0 {
			t.Error("the second start prints keys")
		}
	}
	holds(200, 200, 401, 401)
	for r, err := range keyring.List(t.Context(), auth.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Name == "full access" {
			if err := keyring.Revoke(t.Context(), r.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, r := range all {
		for deadline := time.Now().Add(time.Minute); r.status(t, keys[0]) != 401; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("a revoked key is let through for a minute")
			}
		}
	}
	holds(401, 200, 401, 401)
	for _, r := range all {
		r.stop(t)
	}
}

// What is wrong with the database is said, without its password.
func TestBadDSN(t *testing.T) {
	program := build(t)
	for _, dsn := range []string{"postgres://user:pa55word@127.0.0.1:1/none", "postgres://user:pa55word@127.0.0.1:port/none",
		"postgres://user:pa55word@127.0.0.1:1/none?sslmode=none"} {
		out, err := exec.Command(program, "-addr", "127.0.0.1:0", "-dsn", dsn).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "postgres: ") || strings.Contains(string(out), "pa55word") {
			t.Errorf("%v: %s", err, out)
		}
	}
}
