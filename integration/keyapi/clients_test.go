package keyapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/internal/exampleapi"
	"github.com/insigner/auth/internal/exampletest"
	"github.com/insigner/auth/keyring"
)

func TestMain(m *testing.M) { exampletest.Main(example, m.Run) }

// example serves the API of the examples.
func example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(ctx context.Context) error {
	store := new(keyring.MemoryStore)
	manager := keyring.NewManager(store, nil)
	api := exampleapi.API(manager, apilog.NewMemoryStore(1))
	return exampleapi.Serve(ctx, "127.0.0.1:0", manager, auth.New(store, nil).Middleware(api))
}

func TestGoClient(t *testing.T) {
	t.Parallel()
	dir := copied(t, "testdata/goclient")
	const alone = "GOWORK=off"
	run(t, dir, alone, "go", "tool", "oapi-codegen", "-config", "oapi-codegen.yaml", "openapi.json")
	run(t, dir, alone, "go", "vet", ".")
	run(t, dir, alone, "go", "build", "-o", "client", ".")
	manages(t, "from Go", dir, "./client")
}

func TestTypeScriptClient(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed; on Debian, \"apt-get install nodejs npm\" provides it", program)
		}
	}
	dir := copied(t, "testdata/typescript")
	const quiet, bin = "npm_config_update_notifier=false", "./node_modules/.bin/"
	run(t, dir, quiet, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	run(t, dir, quiet, bin+"openapi-typescript", "openapi.json", "--output", "api.d.ts")
	run(t, dir, quiet, bin+"tsc", "--project", ".")
	manages(t, "from TypeScript", dir, "node", "client.js")
}

// copied returns a copy of a directory, with the document in it.
func copied(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS(name)))
	must(t, os.WriteFile(filepath.Join(dir, "openapi.json"), served(t), 0o600))
	return dir
}

// run runs a program in a directory, with one more variable.
func run(t *testing.T, dir, variable, program string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), variable)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// manages runs a client of an example. It expects that the client has created
// a key with that name, rotated it, and revoked the successor.
func manages(t *testing.T, name, dir, program string, args ...string) {
	t.Helper()
	api := exampletest.Start(t)
	run(t, dir, "API_KEY="+api.Keys[0], program, append(args, api.URL+"/api/v1/keys")...)

	_, body := api.Do(t, "GET", "/api/v1/keys?q="+url.QueryEscape(name), api.Keys[0], "")
	var list struct {
		Data []struct {
			ID, Name, Status string
			RotatedFrom      *string
		}
	}
	must(t, json.Unmarshal([]byte(body), &list))
	if len(list.Data) != 2 {
		t.Fatalf("%d keys %q, want 2: %s", len(list.Data), name, body)
	}
	successor, first := list.Data[0], list.Data[1]
	if successor.RotatedFrom == nil || *successor.RotatedFrom != first.ID {
		t.Errorf("the newest key was not rotated from the other: %s", body)
	}
	if successor.Status != "revoked" {
		t.Errorf("the successor is %s, want revoked", successor.Status)
	}
	api.Stop(t, syscall.SIGTERM)
}
