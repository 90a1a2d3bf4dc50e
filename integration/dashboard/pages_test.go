// Package dashboard_test drives the pages of the dashboard with a real browser.
package dashboard_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth/integration/dashboard/browser"
)

// The appearances in which each page has to work.
var appearances = []browser.Options{
	{Width: 1280}, {Width: 1280, Dark: true, NoScript: true}, {Width: 390, NoScript: true}, {Width: 390, Dark: true},
}

func name(o browser.Options) string {
	return fmt.Sprintf("%d px, dark %v, without scripts %v", o.Width, o.Dark, o.NoScript)
}

var shape = regexp.MustCompile(`^isk_[A-Za-z0-9_-]{44}$`)

// A customer creates a key, uses it, sees the request, rotates the key and
// revokes it.
func TestFlow(t *testing.T) {
	t.Parallel()
	for _, look := range appearances {
		t.Run(name(look), func(t *testing.T) {
			t.Parallel()
			p := open(t, start(t), look).signIn("Bob, Globex")
			p.heading("API Keys")
			p.has("No keys yet", "Bob for Globex")
			p.click("link", "Create API Key")
			p.heading("Create API Key")
			p.click("button", "Create")
			p.has("Enter a name.", "Choose at least one scope.")
			p.fill("textbox", "Name", "Production Backend")
			p.click("checkbox", "documents.read")
			p.choose("Expires", "90 days")
			p.click("button", "Create")
			p.heading("Save your key")
			p.has("You will not be able to see it again.")
			secret := p.value("textbox", "API key")
			if !shape.MatchString(secret) {
				t.Fatalf("the key is %q", secret)
			}
			if n, err := p.Count("button", "Copy"); err != nil || (n == 0) != look.NoScript {
				t.Errorf("%d buttons Copy, %v", n, err)
			}
			if !look.NoScript {
				p.click("button", "Copy")
				p.has("Copied")
			}
			p.click("link", "I have saved it")
			p.heading("Production Backend")
			p.has("Waiting for the first request")

			use(t, p.url, secret)
			time.Sleep(1500 * time.Millisecond) // the interval in which logs are written
			p.goTo(p.path())
			p.has("/api/v1/documents", "200", "127.0.0.1")

			p.click("link", "Rotate")
			p.click("radio", "1 hour")
			p.click("button", "Rotate key")
			p.heading("Save your key")
			if second := p.value("textbox", "API key"); second == secret || !shape.MatchString(second) {
				t.Errorf("the new key is %q", second)
			}
			p.goTo("/developers/")
			p.has("Rotated, ends")
			p.click("link", "Successor")
			p.click("link", "Revoke")
			p.heading("Revoke Production Backend")
			p.click("button", "Revoke key")
			p.has("The key has been revoked.", "Create a key like this")
			p.click("link", "Activity")
			p.has("Revoked", "Rotated", "Created")
			p.click("link", "API Logs")
			p.has("/api/v1/documents", "127.0.0.1")

			history, err := p.History()
			p.must(err)
			for _, url := range append(history, p.Requests()...) {
				if strings.Contains(url, secret[4:]) {
					t.Errorf("the key is in the URL %s", url)
				}
			}
		})
	}
}

// use calls the API with a key.
func use(t *testing.T, url, key string) {
	t.Helper()
	r, err := http.NewRequest("GET", url+"/api/v1/documents", nil)
	must(t, err)
	r.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(r)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Fatalf("the API answers %d", resp.StatusCode)
	}
}

// callAPI manages keys over HTTP, and returns the ID in the answer.
func callAPI(t *testing.T, method, url, key, body string) string {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	must(t, err)
	r.Header.Set("Authorization", "Bearer "+key)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(r)
	must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %d", method, url, resp.StatusCode)
	}
	var answer struct{ ID string }
	json.NewDecoder(resp.Body).Decode(&answer) // there may be none
	return answer.ID
}

// Axe-core finds nothing on any page, in any state.
func TestAccessibility(t *testing.T) {
	t.Parallel()
	p := open(t, start(t), browser.Options{})
	p.goTo("/")
	p.accessible("sign-in")
	p.signIn("Bob, Globex")
	p.accessible("empty list")
	p.goTo("/developers/logs")
	p.accessible("empty logs")
	p.goTo("/developers/activity")
	p.accessible("empty activity")
	p.signIn("Ada, Acme")
	p.accessible("list")
	for _, path := range []string{"?status=any", "?q=nothing", "?notice=unknown", "keys/new", "activity", "activity?kind=x", "logs",
		"logs?address=x&from=x&to=x&status=x", "keys/unknown"} {
		p.goTo("/developers/" + path)
		p.accessible(path)
	}
	p.goTo("/developers/keys/new")
	p.click("button", "Create")
	p.accessible("mistakes")
	p.fill("textbox", "Name", strings.Repeat("A long name without blanks ", 8)+strings.Repeat("W", 39))
	p.click("checkbox", "*")
	p.choose("Expires", "Custom date")
	p.click("button", "Create")
	p.accessible("a missing date")
	p.choose("Expires", "7 days")
	p.click("button", "Create")
	p.heading("Save your key")
	p.accessible("saved")
	secret := p.value("textbox", "API key")
	p.must(p.Reload())
	p.heading("This key already exists")
	p.accessible("sent twice")
	p.click("link", "I have saved it")
	p.accessible("a long name")
	leaked := p.path()
	child := callAPI(t, "POST", p.url+"/api/v1/keys", secret, `{"name": "Child", "scopes": ["documents.read"]}`)
	p.goTo(leaked + "/revoke")
	p.accessible("revoke with what it made")
	p.click("button", "Revoke key")
	p.has("Choose which keys to revoke.")
	p.accessible("revoke without a choice")
	callAPI(t, "DELETE", p.url+"/api/v1/keys/"+child, secret, "")
	p.goTo("/developers/keys/" + child)
	p.accessible("deleted")
	p.goTo("/developers/")
	p.accessible("long names")
	p.click("checkbox", "Select Nightly export")
	p.click("button", "Revoke selected")
	p.accessible("revoke selected")
	for _, name := range []string{"Edit", "Rotate", "Revoke"} {
		p.goTo("/developers/")
		p.click("link", "Production Backend")
		p.accessible("one key")
		p.click("link", name)
		p.accessible(name)
	}
	p.signIn("Sam, staff")
	p.accessible("list for staff")
	p.signIn("Rita, Acme, read only")
	p.accessible("read only")
}

// Everything can be done with the keyboard alone: Tab finds each control in the
// order of the page, and shows where the focus is.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	p := open(t, start(t), browser.Options{}).signIn("Bob, Globex")
	tabTo := func(role, name string) {
		t.Helper()
		var seen []string
		for range 80 {
			p.press("Tab")
			r, n, err := p.Focused()
			p.must(err)
			if r == role && n == name {
				outline, err := browser.Eval[string](p.Page, "getComputedStyle(document.activeElement).outlineStyle")
				p.must(err)
				if outline == "none" {
					t.Errorf("%s %q shows no focus", role, name)
				}
				return
			}
			seen = append(seen, r+" "+n)
		}
		t.Fatalf("Tab does not lead to %s %q, but to %q", role, name, seen)
	}
	tabTo("link", "Skip to the content")
	p.press("Enter")
	tabTo("link", "Create API Key")
	p.press("Enter")
	p.heading("Create API Key")
	tabTo("textbox", "Name")
	p.must(p.Type("From the keyboard"))
	tabTo("checkbox", "documents.read")
	p.press(" ")
	tabTo("combobox", "Expires")
	p.press("ArrowUp")
	tabTo("button", "Create")
	p.press("Enter")
	p.heading("Save your key")
	tabTo("textbox", "API key")
	tabTo("button", "Copy")
	p.press("Enter")
	p.has("Copied")
	tabTo("link", "I have saved it")
	p.press("Enter")
	p.heading("From the keyboard")
	tabTo("link", "Revoke")
	p.press("Enter")
	p.heading("Revoke From the keyboard")
	if role, name, err := p.Focused(); err != nil || role != "link" || name != "Cancel" {
		t.Errorf("the focus is on %s %q, %v, want Cancel", role, name, err)
	}
	tabTo("button", "Revoke key")
	p.press("Enter")
	p.has("The key has been revoked.")
}

// An impatient customer clicks twice, reloads, and goes back. There is one key, and
// nobody is left with one whose secret nobody saw.
func TestImpatience(t *testing.T) {
	t.Parallel()
	for _, noScript := range []bool{false, true} {
		p := open(t, start(t), browser.Options{NoScript: noScript}).signIn("Bob, Globex")
		p.goTo("/developers/keys/new")
		p.fill("textbox", "Name", "Twice")
		p.click("checkbox", "documents.read")
		p.must(p.DoubleClick("button", "Create"))
		time.Sleep(time.Second)
		if n, err := p.Count("heading", "Save your key"); err != nil || n == 0 {
			p.heading("This key already exists")
			p.click("button", "Replace the key")
			p.heading("Save your key")
		}
		secret := p.value("textbox", "API key")
		p.must(p.Reload())
		p.has("The form was sent more than once.")
		use(t, p.url, secret)
		p.must(p.Back())
		time.Sleep(200 * time.Millisecond)
		text, err := p.Text()
		p.must(err)
		if strings.Contains(text, secret) {
			t.Error("Back shows the key")
		}
		p.goTo("/developers/")
		p.heading("API Keys")
		if n, err := p.Count("link", "Twice"); err != nil || n != 1 {
			t.Errorf("there are %d keys, %v", n, err)
		}
	}
}

// The key does not come back with Back, after it was left.
func TestBack(t *testing.T) {
	t.Parallel()
	for _, noScript := range []bool{false, true} {
		p := open(t, start(t), browser.Options{NoScript: noScript}).signIn("Bob, Globex")
		p.goTo("/developers/keys/new")
		p.fill("textbox", "Name", "Once")
		p.click("checkbox", "documents.read")
		p.click("button", "Create")
		p.heading("Save your key")
		secret := p.value("textbox", "API key")
		p.click("link", "I have saved it")
		p.heading("Once")
		p.must(p.Back())
		time.Sleep(300 * time.Millisecond)
		shown, err := browser.Eval[string](p.Page, "document.documentElement.outerHTML + [...document.querySelectorAll('input')].map(i => i.value)")
		p.must(err)
		if strings.Contains(shown, secret[4:]) {
			t.Errorf("without scripts %v: Back shows the key", noScript)
		}
	}
}

// Over plain HTTP by name there is no clipboard API, and no Sec-Fetch-Site.
func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	url := strings.Replace(start(t), "127.0.0.1", "dashboard.test", 1)
	p := open(t, url, browser.Options{}).signIn("Bob, Globex")
	p.goTo("/developers/keys/new")
	p.fill("textbox", "Name", "Plain")
	p.click("checkbox", "documents.read")
	p.click("button", "Create")
	p.heading("Save your key")
	if secure, err := browser.Eval[bool](p.Page, "isSecureContext"); err != nil || secure {
		t.Fatalf("the context is secure: %v, %v", secure, err)
	}
	p.click("button", "Copy")
	p.has("Copied")
}

// Two tabs edit one key: the second is told what changed in between.
func TestTwoTabs(t *testing.T) {
	t.Parallel()
	p := open(t, start(t), browser.Options{}).signIn("Ada, Acme")
	p.click("link", "Production Backend")
	p.click("link", "Edit")
	other, err := p.Duplicate()
	must(t, err)
	second := &tab{other, t, p.url}
	second.goTo(p.path())
	p.fill("textbox", "Name", "From the first tab")
	p.click("button", "Save")
	p.has("Your changes have been saved.")
	second.fill("textbox", "Name", "From the second tab")
	second.click("button", "Save")
	second.has("The key was changed since you opened this page", "What changed in between", "From the first tab")
	if name := second.value("textbox", "Name"); name != "From the second tab" {
		t.Errorf("the name that was typed is %q now", name)
	}
	second.click("button", "Save")
	second.heading("From the second tab")

	// Somebody else signs in, in the other tab.
	second.click("link", "Edit")
	p.signIn("Bob, Globex")
	second.click("button", "Save")
	second.heading("You are now signed in as somebody else")
}

// Times and dates are in the zone of the reader, and a chosen day ends at its end
// there.
func TestZone(t *testing.T) {
	t.Parallel()
	p := open(t, start(t), browser.Options{Zone: "Asia/Kolkata"}).signIn("Bob, Globex")
	p.goTo("/developers/keys/new")
	p.fill("textbox", "Name", "In Kolkata")
	p.click("checkbox", "documents.read")
	p.choose("Expires", "Custom date")
	day := time.Now().AddDate(0, 0, 10).Format(time.DateOnly)
	_, err := browser.Eval[bool](p.Page, `(() => {
		const date = document.querySelector('[name=date]');
		date.value = "`+day+`";
		date.dispatchEvent(new Event('input', {bubbles: true}));
		return true;
	})()`)
	p.must(err)
	next := time.Now().AddDate(0, 0, 11).Format(time.DateOnly)
	p.has(next + " 00:00 GMT+5:30")
	p.click("button", "Create")
	p.has(next + " 00:00 GMT+5:30")
	p.click("link", "I have saved it")
	instant, err := browser.Eval[string](p.Page, "[...document.querySelectorAll('time')].map(t => t.dateTime).join(' ')")
	p.must(err)
	if want := day + "T18:30:00Z"; !strings.Contains(instant, want) {
		t.Errorf("the page has the times %s, want %s", instant, want)
	}
	p.goTo("/developers/logs?from=2026-01-02T03:04&to=2026-01-03T00:00")
	p.has("From 2026-01-02 08:34 GMT+5:30 until 2026-01-03 05:30 GMT+5:30")
	p.click("button", "Apply") // which means the same, in the zone of the reader
	p.has("From 2026-01-02 08:34 GMT+5:30 until 2026-01-03 05:30 GMT+5:30")
}
