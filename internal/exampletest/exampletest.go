// Package exampletest runs the examples as their users do, for their tests. It
// is not part of the library and may change at any time.
package exampletest

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth/keyring"
)

const instanceEnv = "AUTH_TEST_EXAMPLE_INSTANCE"

// Main is for TestMain. It runs the tests. If a test has started this program
// again, it runs the main function of the example, so that the race detector
// sees that too.
func Main(main func(), tests func() int) {
	if os.Getenv(instanceEnv) != "" {
		main()
		os.Exit(leftOver())
	}
	os.Exit(tests())
}

// leftOver returns the exit code of an instance that has ended. It is not 0 if
// a goroutine is left.
func leftOver() int {
	stacks := make([]byte, 1<<20)
	for range 500 { // a goroutine may need a moment to end
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

// An Instance is an example that runs in its own process.
type Instance struct {
	Out  string   // what it printed at startup
	Keys []string // that it printed, if it created them
	URL  string   // of its root, without a slash at the end

	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr strings.Builder
}

var (
	key  = regexp.MustCompile(`(?m)^[a-z -]+  (isk_[A-Za-z0-9_-]{44})$`)
	base = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
	curl = regexp.MustCompile(`(?m)^# (\d+): .*\ncurl -i -H 'Authorization: Bearer (\S+)' http://[^/]+(/\S+)(?: --json '(.*)')?(?: -X (\w+))?$`)
)

// Program returns the command that runs main in its own process, as it was
// built for the test.
func Program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), instanceEnv+"=1")
	return cmd
}

// Begin starts an instance on a free port. It ends with the test.
func Begin(t *testing.T, args ...string) *Instance {
	t.Helper()
	r := &Instance{cmd: Program(t, args...)}
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

// Serves waits until the instance serves.
func (r *Instance) Serves() error {
	for {
		line, err := r.stdout.ReadString('\n')
		r.Out += line
		if err != nil {
			return fmt.Errorf("it printed %q, then: %w; %s", r.Out, cmp.Or(r.cmd.Wait(), err), r.stderr.String())
		}
		if strings.HasPrefix(line, "Listening on") {
			break
		}
	}
	for _, m := range key.FindAllStringSubmatch(r.Out, -1) {
		r.Keys = append(r.Keys, m[1])
	}
	r.URL = base.FindString(r.Out)
	return nil
}

// Start calls Begin and then Serves.
func Start(t *testing.T, args ...string) *Instance {
	t.Helper()
	r := Begin(t, args...)
	if err := r.Serves(); err != nil {
		t.Fatal(err)
	}
	return r
}

// Promises sends to r the requests that first printed, with its keys, and
// compares the answers with what first printed about them.
func (r *Instance) Promises(t *testing.T, first *Instance) {
	t.Helper()
	var statuses []string
	for _, m := range curl.FindAllStringSubmatch(first.Out, -1) {
		method := m[5]
		if method == "" && m[4] != "" {
			method = "POST"
		}
		if resp, _ := r.Do(t, method, m[3], m[2], m[4]); resp.Status[:3] != m[1] {
			t.Errorf("%s\nanswers %s", m[0], resp.Status)
		}
		statuses = append(statuses, m[1])
	}
	if want := []string{"200", "201", "200", "403", "200", "403", "201", "200", "200", "401", "401"}; !slices.Equal(statuses, want) {
		t.Errorf("curl lines for %v, want %v", statuses, want)
	}
	if len(first.Keys) != 4 {
		t.Errorf("%d keys, want 4", len(first.Keys))
	}
}

// Do sends a request with the key, unless that is "", and returns the answer
// and its body.
func (r *Instance) Do(t *testing.T, method, path, key, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, r.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// Stop sends a signal. It expects that the instance ends with exit code 0, has
// logged no key, and prints nothing more.
func (r *Instance) Stop(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r.stdout)
	if err := cmp.Or(r.cmd.Wait(), err); err != nil {
		t.Errorf("after %v: %v\n%s", sig, err, r.stderr.String())
	}
	if len(rest) > 0 {
		t.Errorf("after %v it prints %q", sig, rest)
	}
	if strings.Contains(r.stderr.String(), "isk_") {
		t.Errorf("the log has a key: %s", r.stderr.String())
	}
}

// Used expects the four keys in the store, and those that Promises created. It
// expects a last use of those that were accepted.
func Used(t *testing.T, store keyring.Store) {
	t.Helper()
	var names []string
	for r, err := range keyring.NewManager(store, nil).Unconfined("test").List(t.Context(), keyring.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, r.Name)
		wantUse := r.Name == "full access" || r.Name == "read-only"
		if used := !r.LastUsedAt.IsZero(); used != wantUse {
			t.Errorf("%s was last used at %v, want a use: %v", r.Name, r.LastUsedAt, wantUse)
		}
	}
	if want := []string{"full access", "read-only", "expired", "revoked", "CI"}; !slices.Equal(slices.Compact(names), want) {
		t.Fatalf("the store has %v, want %v", names, want)
	}
}
