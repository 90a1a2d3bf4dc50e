package main

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/insigner/auth/internal/exampletest"
	"github.com/insigner/auth/internal/notice"
	"github.com/insigner/auth/internal/pgtest"
)

var skipped atomic.Int64 // tests

func TestMain(m *testing.M) {
	exampletest.Main(main, func() int {
		code := pgtest.Main(m)
		if n := skipped.Load(); n > 0 {
			notice.Print(fmt.Sprintf("metrics: Prometheus is not installed: the tests against it were skipped (%d); "+
				"install it with: apt-get install prometheus; then run: go test -count=1", n))
		}
		return code
	})
}

// installed returns the path of a program of Prometheus, or skips the test.
func installed(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		skipped.Add(1)
		t.Skipf("%s is not installed; on Debian, \"apt-get install prometheus\" provides it", program)
	}
	return path
}

// TestProgram runs the program, and scrapes it while it serves.
func TestProgram(t *testing.T) {
	r := exampletest.Start(t, "-metrics", "127.0.0.1:0")
	r.Promises(t, r)
	m := regexp.MustCompile(`(?m)^Metrics on (127\.0\.0\.1:\d+/metrics)$`).FindStringSubmatch(r.Out)
	if m == nil {
		t.Fatalf("it does not say where the metrics are: %s", r.Out)
	}
	text := get(t, "http://"+m[1])
	for _, line := range []string{
		`auth_decisions_total\{code="OK",step="authenticate"\} [1-9]`,
		`auth_decisions_total\{code="KEY_REVOKED",step="authenticate"\} [1-9]`,
		`auth_decisions_total\{code="KEY_EXPIRED",step="authenticate"\} [1-9]`,
		`auth_decisions_total\{code="INSUFFICIENT_SCOPE",step="authorize"\} [1-9]`,
		`auth_lookup_duration_seconds_count [1-9]`,
		`auth_store_lookup_duration_seconds_count\{result="found"\} [1-9]`,
		`auth_watch_up 1`,
		`auth_log_entries_dropped_total 0`,
		`auth_last_uses_dropped_total 0`,
		`go_goroutines [1-9]`,
	} {
		if !regexp.MustCompile(`(?m)^` + line).MatchString(text) {
			t.Errorf("no line %s in\n%s", line, text)
		}
	}
	for _, key := range r.Keys {
		if strings.Contains(text, key) {
			t.Error("the metrics show a key")
		}
	}
	if resp, _ := r.Do(t, "GET", "/metrics", r.Keys[0], ""); resp.StatusCode != 404 {
		t.Errorf("a customer asks for the metrics: status %d, want 404", resp.StatusCode)
	}
	r.Stop(t, syscall.SIGTERM)
}

// get returns the body of an answer with status 200.
func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		t.Fatalf("%s: status %d: %s", url, resp.StatusCode, body)
	}
	return string(body)
}
