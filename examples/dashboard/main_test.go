package main

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insigner/auth/internal/pgtest"
)

const instanceEnv = "AUTH_TEST_DASHBOARD_INSTANCE"

// TestMain runs the program itself if a test has started it.
func TestMain(m *testing.M) {
	if os.Getenv(instanceEnv) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// start starts the program and returns its URL, and how to end it.
func start(t *testing.T, args ...string) (url string, stop func()) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), instanceEnv+"=yes")
	stderr := new(strings.Builder)
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line := make([]byte, 200)
	n, _ := stdout.Read(line)
	url, _, ok := strings.Cut(strings.TrimPrefix(string(line[:n]), "Listening on "), ". Open")
	if !ok {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("it printed %q, then: %s", line[:n], stderr)
	}
	return url, func() {
		t.Helper()
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, stderr)
		}
	}
}

// client returns a client in whose name somebody signed in.
func client(t *testing.T, site, identity string) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	must(t, err)
	c := &http.Client{Jar: jar, Timeout: 20 * time.Second}
	resp, err := c.PostForm(site+"/", url.Values{"identity": {identity}})
	must(t, err)
	resp.Body.Close()
	return c
}

func page(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	resp, err := c.Get(url)
	must(t, err)
	return read(t, resp)
}

func read(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return string(body)
}

func has(t *testing.T, page string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(page, text) {
			t.Errorf("the page has no %q:\n%s", text, page)
		}
	}
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "dashboard.db")
	try(t, "-db", file)
	try(t, "-db", file) // the data is there already
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	try(t, "-dsn", dsn)
	try(t, "-dsn", dsn)
}

// try looks at the pages as each identity.
func try(t *testing.T, args ...string) {
	t.Helper()
	site, stop := start(t, args...)
	defer stop()
	has(t, page(t, http.DefaultClient, site+"/developers/"), "Demonstration", "Ada, Acme", "Bob, Globex", "Sam, staff", "Rita, Acme, read only")
	ada := page(t, client(t, site, "Ada, Acme"), site+"/developers/")
	has(t, ada, "Production Backend", "Nightly export", "Expires soon", "Rotated, ends", "Disabled", "Create API Key")
	if n := strings.Count(ada, "Production Backend</a>"); n != 1 {
		t.Errorf("Production Backend is listed %d times", n)
	}
	has(t, page(t, client(t, site, "Ada, Acme"), site+"/developers/logs"), "/api/v1/documents", "KEY_EXPIRED")
	has(t, page(t, client(t, site, "Bob, Globex"), site+"/developers/"), "No keys yet")
	has(t, page(t, client(t, site, "Sam, staff"), site+"/developers/"), "Sam, staff", "Acme")
	has(t, page(t, client(t, site, "Rita, Acme, read only"), site+"/developers/"), "Production Backend", "Read only")
	resp, err := http.Get(site + "/api/v1/documents")
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("the API answers %d without a key", resp.StatusCode)
	}
	resp, err = http.PostForm(site+"/", url.Values{"identity": {"Eve"}})
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("an unknown identity is answered with %d", resp.StatusCode)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := run(ctx, "127.0.0.1:0", filepath.Join(t.TempDir(), "no", "such", "directory", "x.db"), ""); err == nil {
		t.Error("a file that cannot be created is no error")
	}
	if err := run(ctx, "256.0.0.1:0", filepath.Join(t.TempDir(), "x.db"), ""); err == nil || !strings.Contains(err.Error(), "-addr") {
		t.Errorf("an invalid address: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
