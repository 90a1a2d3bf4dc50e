package main

import (
	"context"
	"database/sql"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/internal/exampletest"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/internal/redistest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
)

func TestMain(m *testing.M) {
	exampletest.Main(main, func() int {
		defer redistest.Report()
		return pgtest.Main(m)
	})
}

const documents = "/api/v1/documents"

// Three processes, of which two publish, share the budget of a key, log its
// requests, and refuse it once it is revoked.
func TestProcesses(t *testing.T) {
	dsn, server := pgtest.DSN(t), redistest.Start(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-dsn", dsn, "-redis", "redis://" + server.Addr(), "-secret-file", secret}
	all := []*exampletest.Instance{
		exampletest.Start(t, append(args, "-publish")...),
		exampletest.Start(t, append(args, "-publish")...),
		exampletest.Start(t, args...),
	}
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store, err := postgres.New(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	keys := keyring.NewManager(store, nil).Unconfined("test")
	r, key, err := keys.Create(ctx, keyring.Spec{Name: "k", Owner: "org_1", Scopes: auth.Scopes{"documents.read", "org.read"}})
	if err != nil {
		t.Fatal(err)
	}

	accepted, begun := 0, time.Now()
	for i := range 180 {
		switch resp, _ := all[i%len(all)].Do(t, "GET", documents, key.Reveal(), ""); resp.StatusCode {
		case http.StatusOK:
			accepted++
		case http.StatusTooManyRequests:
			if resp.Header.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
		default:
			t.Fatal(resp.Status)
		}
	}
	back := int(2 * time.Since(begun).Seconds()) // two a second come back
	if accepted < 120 || accepted > 121+back {
		t.Errorf("three processes accepted %d requests, want 120 and at most %d that came back", accepted, 1+back)
	}

	if err := keys.Revoke(ctx, r.ID); err != nil {
		t.Fatal(err)
	}
	for i, p := range all {
		for {
			resp, body := p.Do(t, "GET", documents, key.Reveal(), "")
			if resp.StatusCode == http.StatusUnauthorized {
				if !strings.Contains(body, "KEY_REVOKED") {
					t.Errorf("process %d refuses the key with %s", i, body)
				}
				break
			}
			time.Sleep(time.Millisecond) // the process ends after a minute
		}
		p.Stop(t, syscall.SIGTERM)
	}
	var limited int
	if err := db.QueryRow("SELECT count(*) FROM api_logs WHERE key_id = $1 AND status = 429 AND code = 'RATE_LIMITED'", r.ID).
		Scan(&limited); err != nil {
		t.Fatal(err)
	}
	if limited == 0 {
		t.Error("the API logs have no request that was beyond the limit")
	}
}

// A secret that is missing or too short is an error, not a panic.
func TestSecret(t *testing.T) {
	short := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(short, []byte(strings.Repeat("s", 31)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"": "it is missing", short: "has 31 bytes", short + "x": "no such file"} {
		out, err := exampletest.Program(t, "-secret-file", file).CombinedOutput()
		if err == nil {
			t.Errorf("-secret-file %q: it ends without an error", file)
		}
		if text := string(out); !strings.Contains(text, "-secret-file: ") || !strings.Contains(text, want) {
			t.Errorf("-secret-file %q: it says %q, want %q", file, text, want)
		}
	}
}

// A process that may not publish ends at once, with an error.
func TestNotPermitted(t *testing.T) {
	dsn := pgtest.DSN(t)
	server := redistest.Start(t, "--user", "default", "on", "nopass", "~*", "+@all", "-publish", "&*")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exampletest.Program(t, "-dsn", dsn, "-redis", "redis://"+server.Addr(), "-secret-file", secret, "-publish").CombinedOutput()
	if err == nil {
		t.Error("it ends without an error")
	}
	if !strings.Contains(string(out), "fanout.Publish") || !strings.Contains(string(out), "NOPERM") {
		t.Errorf("it says %q, want the reason", out)
	}
}
