package main

import (
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var (
	secretField = regexp.MustCompile(`value="(isk_[A-Za-z0-9_-]{44})"`)
	keyLink     = regexp.MustCompile(`href="[./]*keys/([0-9a-f-]{36})"`)
	leftNow     = regexp.MustCompile(`<dt>Left now</dt><dd>(\d+) of 120, all of them in \d+ s`)
)

// The page of a key shows what is left of its limit, and the API logs show what
// was beyond it.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	site, stop := start(t, "-db", filepath.Join(t.TempDir(), "dashboard.db"))
	defer stop()
	bob := client(t, site, "Bob, Globex")
	resp, err := bob.PostForm(site+"/developers/keys/new", url.Values{"as": {"Bob"}, "for": {"Globex"}, "once": {"x"},
		"name": {"Limited"}, "scope": {"documents.read"}, "expires": {"90d"}})
	must(t, err)
	created := read(t, resp)
	secret := secretField.FindStringSubmatch(created)
	if secret == nil {
		t.Fatalf("the page shows no key:\n%s", created)
	}
	id := keyLink.FindStringSubmatch(page(t, bob, site+"/developers/"))
	if id == nil {
		t.Fatal("the list has no key")
	}
	path := site + "/developers/keys/" + id[1]
	has(t, page(t, bob, path), "<dt>Rate limit</dt><dd>120 a minute</dd>", "<dt>Left now</dt><dd>120 of 120</dd>")

	refused := 0
	for range 400 {
		r, err := http.NewRequest("GET", site+"/api/v1/documents", nil)
		must(t, err)
		r.Header.Set("Authorization", "Bearer "+secret[1])
		resp, err := http.DefaultClient.Do(r)
		must(t, err)
		body := read(t, resp)
		if resp.StatusCode == http.StatusTooManyRequests && strings.Contains(body, "RATE_LIMITED") {
			refused++
			break
		}
	}
	if refused == 0 {
		t.Fatal("400 requests were accepted")
	}
	if now := page(t, bob, path); !leftNow.MatchString(now) {
		t.Errorf("the page does not show what is left now:\n%s", now)
	}
	logs := site + "/developers/logs?code=RATE_LIMITED&key=" + id[1]
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		shown := page(t, bob, logs)
		if strings.Contains(shown, ">429<") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the API logs show no 429:\n%s", shown)
		}
	}
}
