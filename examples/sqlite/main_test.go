package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/sqlstore"
)

const instanceEnv = "AUTH_TEST_SQLITE_INSTANCE"

// TestMain is the program itself where a test has started it, so that the race detector sees it too.
func TestMain(m *testing.M) {
	if os.Getenv(instanceEnv) != "" {
		main()
		os.Exit(leftOver())
	}
	os.Exit(m.Run())
}

// leftOver returns the exit code of an instance that has ended well, and is not 0 if a goroutine goes on.
func leftOver() int {
	stacks := make([]byte, 1<<20)
	for range 500 { // what was told to end may take a moment
		ended := true
		all := string(stacks[:runtime.Stack(stacks, true)])
		for i, goroutine := range strings.Split(all, "\n\n") {
			ended = ended && (i == 0 || strings.Contains(goroutine, "os/signal.loop")) // 0 is this one
		}
		if ended {
			return 0
		}
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Fprintf(os.Stderr, "goroutines are left:\n%s\n", stacks[:runtime.Stack(stacks, true)])
	return 3
}

// A running is an instance of the program, in a process of its own.
type running struct {
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr strings.Builder
	out    string   // what it printed when it began
	keys   []string // in that, if it is the first
	url    string
}

var (
	key  = regexp.MustCompile(`(?m)^[a-z -]+  (isk_[A-Za-z0-9_-]{44})$`)
	base = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
	curl = regexp.MustCompile(`(?m)^# (\d+): .*\ncurl -i -H 'Authorization: Bearer (\S+)' http://[^/]+(/\S+)(?: -d '(.*)')?(?: -X (\w+))?$`)
)

// program returns the command that runs main in a process of its own, as built for the test.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), instanceEnv+"=1")
	return cmd
}

// begin starts an instance, which prints something once it serves.
func begin(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{cmd: program(t, args...)}
	r.cmd.Stderr = &r.stderr
	stdout, err := r.cmd.StdoutPipe()
	if err == nil {
		r.stdout = bufio.NewReader(stdout)
		err = r.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(time.Minute, func() { r.cmd.Process.Kill() })
	t.Cleanup(func() { limit.Stop(); r.cmd.Process.Kill(); r.cmd.Wait() })
	return r
}

// serves waits until it does.
func (r *running) serves() error {
	for {
		line, err := r.stdout.ReadString('\n')
		r.out += line
		if err != nil {
			return fmt.Errorf("it printed %q, then: %w; %s", r.out, cmp.Or(r.cmd.Wait(), err), r.stderr.String())
		}
		if strings.HasPrefix(line, "Listening on") || len(curl.FindAllString(r.out, -1)) == 6 {
			break
		}
	}
	for _, m := range key.FindAllStringSubmatch(r.out, -1) {
		r.keys = append(r.keys, m[1])
	}
	r.url = base.FindString(r.out)
	return nil
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	r := begin(t, args...)
	if err := r.serves(); err != nil {
		t.Fatal(err)
	}
	return r
}

// promises does on r what first, which printed keys, said that one should, and sees whether r answers as promised.
func (r *running) promises(t *testing.T, first *running) {
	t.Helper()
	var statuses []string
	for _, m := range curl.FindAllStringSubmatch(first.out, -1) {
		method := m[5]
		if method == "" && m[4] != "" {
			method = "POST"
		}
		if got := r.status(t, method, m[3], m[2], m[4]); got != m[1] {
			t.Errorf("%s\nanswers %s", m[0], got)
		}
		statuses = append(statuses, m[1])
	}
	if want := []string{"200", "201", "200", "403", "401", "401"}; !slices.Equal(statuses, want) || len(first.keys) != 4 {
		t.Errorf("%d keys and curl lines for %v, want 4 and %v", len(first.keys), statuses, want)
	}
}

func (r *running) status(t *testing.T, method, path, key, body string) string {
	t.Helper()
	req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.Status[:3]
}

// stop asks it to end, and expects that it ends well, has logged no key, and prints nothing more.
func (r *running) stop(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r.stdout)
	if err := cmp.Or(r.cmd.Wait(), err); err != nil || len(rest) > 0 {
		t.Errorf("after %v: %q, %v\n%s", sig, rest, err, r.stderr.String())
	}
	if strings.Contains(r.stderr.String(), "isk_") {
		t.Errorf("the log has a key: %s", r.stderr.String())
	}
}

// used expects the four keys in the table, and the uses of those that were let through.
func used(t *testing.T, store auth.KeyStore) {
	t.Helper()
	var names []string
	for r, err := range auth.NewKeyring(store, nil).List(t.Context(), auth.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, r.Name)
		if want := r.Name == "full access" || r.Name == "read-only"; want == r.LastUsedAt.IsZero() {
			t.Errorf("%s was last used at %v", r.Name, r.LastUsedAt)
		}
	}
	if want := []string{"full access", "read-only", "expired", "revoked"}; !slices.Equal(names, want) {
		t.Fatalf("the table has %v, want %v", names, want)
	}
}

// The first start prints keys, which hold; the next prints none, and they go on. A start that failed while it made
// the keys is made up for.
func TestStarts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.db")
	first := start(t, "-db", file)
	first.promises(t, first)
	first.stop(t, syscall.SIGTERM)

	db, err := sqlstore.OpenSQLite(file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store, err := sqlstore.NewSQLite(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	used(t, store)

	second := start(t, "-db", file)
	if strings.Contains(second.out, "isk_") || !strings.Contains(second.out, "the keys of the first start go on") {
		t.Errorf("the second start prints\n%s", second.out)
	}
	second.promises(t, first)
	second.stop(t, os.Interrupt)

	for _, failed := range []string{
		"UPDATE api_keys SET revoked_at = NULL WHERE name = 'revoked'",
		"DELETE FROM api_keys WHERE name IN ('expired', 'revoked')",
	} {
		if _, err := db.Exec(failed); err != nil {
			t.Fatal(err)
		}
		r := start(t, "-db", file)
		r.promises(t, r)
		r.stop(t, syscall.SIGTERM)
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
		out, err := program(t, "-db", file).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "sqlite: ") || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v: %s, want %q", file, err, out, want)
		}
	}
}
