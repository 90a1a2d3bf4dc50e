package main

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/sqlstore"
)

func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "sqlite.exe")
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

func start(t *testing.T, program, file string) *running {
	t.Helper()
	r := &running{cmd: exec.Command(program, "-addr", "127.0.0.1:0", "-db", file)}
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

// The first start prints keys, which work; the next prints none, and they go on.
func TestStarts(t *testing.T) {
	program, file := build(t), filepath.Join(t.TempDir(), "keys.db")
	r := start(t, program, file)
	keys := r.keys
	if len(keys) != 4 || len(r.curls) != 6 {
		t.Fatalf("%d keys and %d curl lines were printed, want 4 and 6", len(keys), len(r.curls))
	}
	for i, want := range []string{"200", "201", "200", "403", "401", "401"} {
		if !strings.HasPrefix(r.curls[i], want+" ") {
			t.Errorf("curl line %d is %s, want %s", i+1, r.curls[i], want)
		}
	}
	holds := func() {
		t.Helper()
		for i, want := range []int{200, 200, 401, 401} {
			if got := r.status(t, keys[i]); got != want {
				t.Errorf("key %d: %d, want %d", i, got, want)
			}
		}
	}
	holds()
	r.stop(t)
	r = start(t, program, file)
	if len(r.keys) > 0 {
		t.Error("the second start prints keys")
	}
	holds()
	r.stop(t)

	db, err := sqlstore.OpenSQLite(file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store, err := sqlstore.NewSQLite(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r, err := range auth.NewKeyring(store, nil).List(t.Context(), auth.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, r.Name)
		if used := r.Name == "full access" || r.Name == "read-only"; used == r.LastUsedAt.IsZero() {
			t.Errorf("%s was last used at %v", r.Name, r.LastUsedAt)
		}
	}
	if want := []string{"full access", "read-only", "expired", "revoked"}; !slices.Equal(names, want) {
		t.Errorf("the table has %v, want %v", names, want)
	}
}

func TestBadFile(t *testing.T) {
	out, err := exec.Command(build(t), "-addr", "127.0.0.1:0", "-db", filepath.Join(t.TempDir(), "none", "keys.db")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "sqlite: ") {
		t.Errorf("a file in a directory that is not there: %v: %s", err, out)
	}
}
