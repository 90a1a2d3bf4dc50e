package pgtest_test

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/insigner/auth/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const childEnv = "PGTEST_CHILD"

// TestChild is what the tests below run in another process, as if PostgreSQL
// were not installed. In this process it does nothing.
func TestChild(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		return
	}
	pgtest.DSN(t)
	t.Error("DSN returned, although PostgreSQL is not installed")
}

const notice = "pgtest: PostgreSQL is not installed: the tests against it were skipped (1); install it with: " +
	"apt-get install postgresql; then run: go test -count=1\n"

// runChild runs a command with TestChild, in an environment without PostgreSQL.
// TestChild needs it if child is "1".
func runChild(t *testing.T, child, name string, args ...string) (stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), childEnv+"="+child, pgtest.EnvBin+"="+t.TempDir(), pgtest.EnvDSN+"=")
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	if failed := cmd.Run(); failed != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, failed, &out, &err)
	}
	return out.String(), err.String()
}

func TestNoticeOfSkippedTests(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, stderr := runChild(t, "1", exe, "-test.run=^TestChild$")
	if stderr != notice {
		t.Errorf("standard error is %q, want %q", stderr, notice)
	}
}

// The go command drops the output of a package whose tests pass.
func TestNoticeOfGoCommand(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only where /proc leads to the standard error of the go command")
	}
	for _, mode := range []string{"-v=false", "-v=true"} {
		stdout, stderr := runChild(t, "1", "go", "test", "-count=1", mode, "-run=^TestChild$",
			"github.com/insigner/auth/internal/pgtest")
		if n := strings.Count(stdout+stderr, notice); n != 1 {
			t.Errorf("go test %s prints the notice %d times, want once:\n%s%s", mode, n, stdout, stderr)
		}
	}
}

func TestNoNoticeWithoutSkippedTests(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if _, stderr := runChild(t, "", exe, "-test.run=^TestChild$"); stderr != "" {
		t.Errorf("standard error is %q, want nothing", stderr)
	}
}
