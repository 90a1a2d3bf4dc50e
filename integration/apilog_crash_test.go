package integration

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/sqlstore/sqlite"
)

// crashEnv names the variable that makes the test binary a server with API logs
// in the file of that name.
const crashEnv = "INTEGRATION_CRASH"

// runCrash serves requests, prints the URL, and runs until it is killed.
func runCrash(file string) {
	logs, _, err := openLogs(file)
	if err != nil {
		log.Fatal(err)
	}
	recorder := apilog.NewRecorder(logs, &apilog.Options{KeylessPerSecond: 1 << 20})
	server := httptest.NewServer(recorder.Middleware(http.HandlerFunc(list)))
	fmt.Println(server.URL)
	select {}
}

func openLogs(file string) (logs *sqlite.Logs, close func() error, err error) {
	db, err := sqlite.Open(file)
	if err != nil {
		return nil, nil, err
	}
	if logs, err = sqlite.NewLogs(db, nil); err == nil {
		err = logs.Migrate(context.Background())
	}
	return logs, db.Close, err
}

// A server that is killed loses at most the entries of the last flush interval:
// those that were written before are whole, and none between them is missing.
func TestLogsSurviveAKill(t *testing.T) {
	file := filepath.Join(t.TempDir(), "logs.db")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+file)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the server does not start: %v", err)
	}
	url = strings.TrimSpace(url)
	logs, closeLogs, err := openLogs(file)
	if err != nil {
		t.Fatal(err)
	}
	defer closeLogs()

	sent := 0
	send := func(n int) {
		for range n {
			status, err := get(t.Context(), http.DefaultClient, fmt.Sprintf("%s/%d", url, sent), "")
			if status != http.StatusOK {
				t.Fatalf("request %d: %d, %v", sent, status, err)
			}
			sent++
		}
	}
	for range 3 {
		send(100)
		eventually(t, "the entries are flushed", func() bool { return len(paths(t, logs)) == sent })
	}
	flushed := sent
	send(200)
	cmd.Process.Kill()
	cmd.Wait()

	kept := paths(t, logs)
	if len(kept) < flushed {
		t.Errorf("%d entries are left of the %d that were stored", len(kept), flushed)
	}
	for i := range len(kept) {
		if !kept[fmt.Sprint("/", i)] {
			t.Errorf("the entry of request %d is missing, though there are later ones", i)
		}
	}
	t.Logf("%d of %d entries are lost", sent-len(kept), sent)
}

// paths returns the paths of all entries.
func paths(t *testing.T, logs *sqlite.Logs) map[string]bool {
	t.Helper()
	entries, err := logs.List(t.Context(), apilog.Query{Limit: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	set := make(map[string]bool)
	for _, e := range entries {
		set[e.Path] = true
	}
	return set
}
