package main

import (
	"cmp"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insigner/auth/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(main, m.Run) }

// TestCurlLines checks that four keys are printed in this order, and that what is
// printed about the curl commands is true.
func TestCurlLines(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", ":0"} {
		t.Run(addr, func(t *testing.T) {
			r := exampletest.Start(t, "-addr", addr)
			r.Promises(t, r)
			for i, name := range []string{"full access", "read-only", "expired", "revoked"} {
				if i >= len(r.Keys) || !regexp.MustCompile(`(?m)^`+name+` +`+r.Keys[i]+`$`).MatchString(r.Out) {
					t.Errorf("key %d is not that of %s:\n%s", i+1, name, r.Out)
				}
			}
			for _, key := range append(r.Keys, "") { // accepted or refused
				if resp, _ := r.Do(t, "GET", "/api/v1/documents", key, ""); resp.Header.Get("X-Request-Id") == "" {
					t.Errorf("an answer with %s has no X-Request-Id", resp.Status)
				}
			}
			r.Stop(t, syscall.SIGTERM)
		})
	}
}

func TestRoutes(t *testing.T) {
	r := exampletest.Start(t)
	created, body := r.Do(t, "POST", "/api/v1/documents", r.Keys[0], `{"id": "doc_1", "title": "Lease"}`)
	var doc struct{ ID, Title string }
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatalf("the answer %s is not JSON: %v", body, err)
	}
	if created.StatusCode != 201 {
		t.Errorf("created with status %d, want 201", created.StatusCode)
	}
	if doc.ID == "doc_1" {
		t.Error("the client chose the ID")
	}
	if doc.Title != "Lease" {
		t.Errorf("title %q, want Lease", doc.Title)
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
		{"GET", "/keys/scopes", "", 200, `"scope":"documents.read"`},
		{"POST", "/keys", `{"name": "CI", "scopes": ["documents.raed"]}`, 422, `"pointer":"/scopes/0"`},
	} {
		resp, body := r.Do(t, c.method, "/api/v1"+c.path, r.Keys[0], c.body)
		if resp.StatusCode != c.status {
			t.Errorf("%s %s: status %d, want %d", c.method, c.path, resp.StatusCode, c.status)
		}
		if !strings.Contains(body, c.contains) {
			t.Errorf("%s %s: got %s, want %s in it", c.method, c.path, body, c.contains)
		}
		want := "application/json"
		switch {
		case c.status >= 400:
			want = "application/problem+json"
		case c.status == 204:
			want = ""
		}
		if got := resp.Header.Get("Content-Type"); got != want {
			t.Errorf("%s %s: Content-Type %q, want %q", c.method, c.path, got, want)
		}
	}
	if resp, _ := r.Do(t, "GET", "/api/v1/documents", "", ""); resp.StatusCode != 401 {
		t.Errorf("without a key: %s", resp.Status)
	}
	r.Stop(t, syscall.SIGTERM)
}

func TestAddressInUse(t *testing.T) {
	r := exampletest.Start(t)
	addr := strings.TrimPrefix(r.URL, "http://")
	said, err := exampletest.Program(t, "-addr", addr).CombinedOutput()
	if err == nil {
		t.Errorf("a second instance on %s starts", addr)
	}
	if want := "quickstart: listen tcp " + addr; !strings.Contains(string(said), want) {
		t.Errorf("a second instance prints %q, want %q in it", said, want)
	}
	if strings.Contains(string(said), "isk_") {
		t.Errorf("a second instance prints keys: %q", said)
	}
	r.Stop(t, syscall.SIGTERM)
}

// TestLogs checks that the API logs show what was done with the keys of an
// owner, and no secret.
func TestLogs(t *testing.T) {
	r := exampletest.Start(t)
	r.Promises(t, r)
	for _, want := range []string{
		`"method":"POST","path":"/api/v1/documents","status":201`,
		`"method":"DELETE","path":"/api/v1/documents/doc_1","status":403,"code":"INSUFFICIENT_SCOPE"`,
		`"status":401,"code":"KEY_REVOKED"`,
		`"status":401,"code":"KEY_EXPIRED"`,
		`"path":"/api/v1/keys/self","status":200`,
	} {
		var body string
		for range 200 { // entries are written once a second
			if _, body = r.Do(t, "GET", "/api/v1/logs", r.Keys[1], ""); strings.Contains(body, want) {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if !strings.Contains(body, want) {
			t.Errorf("no entry has %s: %s", want, body)
		}
		if strings.Contains(body, "isk_") {
			t.Errorf("the logs hold a key: %s", body)
		}
	}
}

// TestLastUse checks that a key shows its last use, a second later.
func TestLastUse(t *testing.T) {
	r := exampletest.Start(t)
	const unused = `"lastUsedAt":null`
	var body string
	for range 200 {
		if _, body = r.Do(t, "GET", "/api/v1/keys?q=full+access", r.Keys[0], ""); !strings.Contains(body, unused) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if !strings.Contains(body, `"lastUsedAt":"`) {
		t.Errorf("no last use after ten seconds: %s", body)
	}
	r.Stop(t, syscall.SIGTERM)
}

// TestREADME checks the commands of the README of the examples.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	r := exampletest.Start(t)
	command := regexp.MustCompile(`(?m)^curl -i -H "Authorization: Bearer \$KEY" http://127.0.0.1:8080(\S+)(?: --json '(.*)')?(?: -X (\w+))?$`)
	commands := command.FindAllStringSubmatch(string(readme), -1)
	if n := strings.Count(string(readme), "\ncurl "); len(commands) != n {
		t.Errorf("%d of %d commands have the form that this test knows", len(commands), n)
	}
	id := ""
	for _, m := range commands {
		method, want := "GET", 200
		if m[2] != "" {
			method, want = "POST", 201
		}
		resp, body := r.Do(t, cmp.Or(m[3], method), strings.ReplaceAll(m[1], "$ID", id), r.Keys[0], m[2])
		if resp.StatusCode != want {
			t.Errorf("%s\nanswers %s, want %d: %s", m[0], resp.Status, want, body)
		}
		var created struct{ ID string }
		if json.Unmarshal([]byte(body), &created) == nil && resp.StatusCode == 201 {
			id = created.ID
		}
	}
}
