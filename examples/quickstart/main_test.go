package main

import (
	"bufio"
	"encoding/json"
	"io"
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
)

// A curl line of the output, with the status that the comment above it promises.
var curlLine = regexp.MustCompile(`(?m)^# (\d+): .*\ncurl -i -H '(Authorization): (Bearer isk_[A-Za-z0-9_-]{44})' (http://\S+)(?: -d '(.*)')?(?: -X (\w+))?$`)

func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "quickstart.exe")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// start returns the output up to its last curl line, and what to wait for.
func start(t *testing.T, program, addr string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(program, "-addr", addr)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	t.Cleanup(func() { limit.Stop(); cmd.Process.Kill() })
	var out strings.Builder
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		out.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "# 401: revoked") {
			lines.Scan()
			out.WriteString(lines.Text() + "\n")
			break
		}
	}
	return cmd, out.String()
}

func call(t *testing.T, method, url, authorization, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// TestCurlLines does what the program says one should, and sees what it says one will.
func TestCurlLines(t *testing.T) {
	program := build(t)
	for _, addr := range []string{"127.0.0.1:0", ":0"} {
		t.Run(addr, func(t *testing.T) {
			cmd, out := start(t, program, addr)
			var keys, statuses []string
			for _, key := range regexp.MustCompile(`isk_[A-Za-z0-9_-]{44}`).FindAllString(out, -1) {
				if !slices.Contains(keys, key) {
					keys = append(keys, key)
				}
			}
			if len(keys) != 4 {
				t.Fatalf("%d keys in\n%s", len(keys), out)
			}
			for i, name := range []string{"full access", "read-only", "expired", "revoked"} {
				if !regexp.MustCompile(`(?m)^` + name + ` +` + keys[i] + `$`).MatchString(out) {
					t.Errorf("key %d is not that of %s:\n%s", i+1, name, out)
				}
			}
			for _, m := range curlLine.FindAllStringSubmatch(out, -1) {
				status, authorization, url, body, method := m[1], m[3], m[4], m[5], m[6]
				if method == "" && body != "" {
					method = "POST"
				}
				resp := call(t, method, url, authorization, body)
				statuses = append(statuses, status)
				if !strings.HasPrefix(resp.Status, status+" ") {
					t.Errorf("%s\nanswers %s", m[0], resp.Status)
				}
				if resp.Header.Get("X-Request-Id") == "" {
					t.Errorf("%s\nhas no X-Request-Id", m[0])
				}
			}
			if want := []string{"200", "201", "200", "403", "401", "401"}; !slices.Equal(statuses, want) {
				t.Errorf("curl lines for %v, want %v:\n%s", statuses, want, out)
			}
			stop(t, cmd)
		})
	}
}

// stop asks the program to end, and expects that it ends well.
func stop(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error("after SIGTERM: ", err)
	}
}

func TestRoutes(t *testing.T) {
	cmd, out := start(t, build(t), "127.0.0.1:0")
	base := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(out) + "/api/v1"
	bearer := regexp.MustCompile(`Bearer isk_[A-Za-z0-9_-]{44}`).FindString(out)
	created := call(t, "POST", base+"/documents", bearer, `{"id": "doc_1", "title": "Lease"}`)
	var doc struct{ ID, Title string }
	if err := json.NewDecoder(created.Body).Decode(&doc); err != nil || doc.ID == "doc_1" || doc.Title != "Lease" {
		t.Errorf("created %+v, %v", doc, err)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		contains           string
	}{
		{"GET", "/documents", "", 200, `"meta":{"count":3,"hasMore":false,"nextCursor":null}`},
		{"GET", "/documents/" + doc.ID, "", 200, `"title":"Lease"`},
		{"DELETE", "/documents/" + doc.ID, "", 204, ""},
		{"DELETE", "/documents/" + doc.ID, "", 404, `"status":404`},
		{"GET", "/documents/" + doc.ID, "", 404, `"title":"Not Found"`},
		{"POST", "/documents", `{"title": ""}`, 400, `"status":400`},
		{"POST", "/documents", `{"title": "` + strings.Repeat("x", 1<<16) + `"}`, 400, `"status":400`},
		{"GET", "/templates", "", 200, `"data":[{"id":"tpl_1"`},
		{"GET", "/org", "", 200, `"id":"org_1"`},
	} {
		resp := call(t, c.method, base+c.path, bearer, c.body)
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != c.status || !strings.Contains(string(body), c.contains) {
			t.Errorf("%s %s: %d %s %v, want %d with %s", c.method, c.path, resp.StatusCode, body, err, c.status, c.contains)
		}
		if want := map[bool]string{true: "application/problem+json", false: "application/json"}[c.status >= 400]; c.status != 204 &&
			resp.Header.Get("Content-Type") != want {
			t.Errorf("%s %s: Content-Type %q, want %q", c.method, c.path, resp.Header.Get("Content-Type"), want)
		}
	}
	if resp := call(t, "GET", base+"/documents", "", ""); resp.StatusCode != 401 {
		t.Errorf("without a key: %s", resp.Status)
	}
	stop(t, cmd)
}

func TestAddressInUse(t *testing.T) {
	program := build(t)
	cmd, out := start(t, program, "127.0.0.1:0")
	addr := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(out)
	said, err := exec.Command(program, "-addr", addr).CombinedOutput()
	if err == nil || !strings.Contains(string(said), "quickstart: listen tcp "+addr) || strings.Contains(string(said), "isk_") {
		t.Errorf("a second one on %s: %v, %s", addr, err, said)
	}
	stop(t, cmd)
}
