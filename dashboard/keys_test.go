package dashboard_test

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/dashboard"
	"github.com/insigner/auth/keyring"
)

// A customer makes a key, uses it, rotates it and revokes it.
func TestFlow(t *testing.T) {
	s := newSite(t)
	s.get("").is(200).has("API Keys", "No keys yet", "Create API Key", "ada@acme.example for acme")
	form := s.get("keys/new").is(200).has("Create API Key", "documents.read", "List and retrieve documents", "No expiration")
	values := url.Values{"name": {"Production Backend"}, "scope": {"documents.read", "documents.send"}, "expires": {"90d"},
		"once": {form.field("once")}}
	saved := s.post("keys/new", values).is(200).has("Save your key", "You will not be able to see it again.", "I have saved it",
		"https://api.example.com/api/v1/keys/self")
	secret := saved.secret()
	r := s.keys()[0]
	equal(t, "name", r.Name, "Production Backend")
	equal(t, "creator", r.CreatedBy, "ada@acme.example")
	if d := time.Until(r.ExpiresAt) - 90*24*time.Hour; d > 0 || d < -time.Minute {
		t.Errorf("it expires at %v, want in 90 days", r.ExpiresAt)
	}

	again := s.post("keys/new", values).is(409).has("This key already exists", "Replace the key").hasNot(secret, "isk_"+secret[4:20])
	equal(t, "number of keys", len(s.keys()), 1)
	if again.field("as") == "" {
		t.Error("the form does not say who")
	}
	replaced := s.post("keys/"+r.ID+"/replace", nil).is(200).has("Save your key").secret()
	if replaced == secret {
		t.Error("the key was not replaced")
	}
	s.post("keys/"+r.ID+"/replace", nil).is(409).has("The key was replaced already", "sent more than once", "Replace the key").hasNot(replaced)
	equal(t, "number of keys", len(s.keys()), 2)
	old, r := s.record(r.ID), s.record(s.record(r.ID).RotatedTo)
	equal(t, "the old one", keyring.StateOf(&old, time.Now()), keyring.Expired)

	s.get("keys/"+r.ID).is(200).has("Production Backend", "Waiting for the first request", "Active", "documents.send", "Created").hasNot(replaced)
	s.log(r, time.Minute)
	s.get("keys/"+r.ID).is(200).hasNot("Waiting for").has("Newest requests", "/documents/doc_1")
	s.post("keys/"+r.ID+"/replace", nil).is(409).has("The key cannot be replaced")

	s.get("keys/"+r.ID+"/rotate").is(200).has("Rotate Production Backend", "24 hours")
	s.post("keys/"+r.ID+"/rotate", url.Values{"grace": {"x"}}).is(422).has("Choose how long")
	s.post("keys/"+r.ID+"/rotate", url.Values{"grace": {"1h"}}).is(200).has("Save your key")
	s.post("keys/"+r.ID+"/rotate", url.Values{"grace": {"1h"}}).is(409).has("rotated already")
	r = s.record(r.ID)
	s.get("").is(200).has("Rotated, ends", "Successor")
	s.get("?status=rotated").is(200).has("Rotated, ends")

	s.get("keys/"+r.ID+"/revoke").is(200).has("Revoke Production Backend", "Requests in the last 24 hours", "192.0.2.7", "Cancel")
	equal(t, "after Revoke", s.post("keys/"+r.ID+"/revoke", nil).goes(), "keys/"+r.ID+"?notice=revoked")
	s.get("keys/"+r.ID+"?notice=revoked").is(200).has("The key has been revoked.", "Create a key like this")
	s.get("keys/new?like=" + r.ID).is(200).has("Create API Key")
	s.get("activity").is(200).has("Revoked", "Rotated", "Created", "ada@acme.example")
	s.get("logs").is(200).has("API Logs", "/documents/doc_1", "192.0.2.7", ") (revoked)", "30 days")
	s.get("logs?key=" + r.ID).is(200).has("/documents/doc_1")
	s.get("logs.csv").is(200)
	s.get("activity.csv").is(200)
}

func TestSearch(t *testing.T) {
	s := newSite(t)
	r := s.create(keyring.Spec{Name: "Backend"})
	_, key, err := s.manager.Unconfined("setup").Create(ctx, keyring.Spec{Name: "Mine", Owner: "acme"})
	must(t, err)
	_, foreign, err := s.manager.Unconfined("setup").Create(ctx, keyring.Spec{Name: "Theirs", Owner: "globex"})
	must(t, err)
	mine, err := s.manager.Unconfined("test").Find(ctx, key)
	must(t, err)
	whole := key.Reveal()
	for _, c := range []struct{ text, goes string }{
		{"backend", "?q=backend"},
		{" backend ", "?q=backend"},
		{r.ID, "?q=" + r.ID},
		{whole, "keys/" + mine.ID},
		{"Bearer " + whole, "keys/" + mine.ID},
		{whole[44:], "?q=" + whole[44:]},
		{whole[:30], "?q=" + whole[26:30]},
		{whole[10:40], "?q=" + whole[36:40]},
		{foreign.Reveal(), "?notice=unknown"},
		{s.manager.Options().Scheme.NewKey().Reveal(), "?notice=unknown"},
		{mine.Hint, "?q=" + url.QueryEscape(mine.Hint)},
	} {
		equal(t, c.text, s.post("search", url.Values{"q": {c.text}}).goes(), c.goes)
	}
	s.get("?q=" + whole[44:]).is(200).has("Mine").hasNot("Backend")
	s.get("?notice=unknown").is(200).has("No key matches the key that you entered")
	s.as(rita).post("search", url.Values{"q": {"x"}}).goes()
}

// Nothing of another owner is seen or changed.
func TestOtherOwner(t *testing.T) {
	s := newSite(t)
	r := s.create(keyring.Spec{Name: "Secret project"})
	s.log(r, time.Minute)
	s.as(bob)
	for _, path := range []string{"keys/" + r.ID, "keys/" + r.ID + "/edit", "keys/" + r.ID + "/rotate", "keys/" + r.ID + "/revoke",
		"keys/" + r.ID + "/used", "keys/new?like=" + r.ID} {
		s.get(path).is(404).hasNot("Secret project")
	}
	for _, path := range []string{"edit", "rotate", "replace", "revoke", "disable", "enable"} {
		s.post("keys/"+r.ID+"/"+path, url.Values{"grace": {"now"}, "also": {"only"}, "name": {"x"}, "expires": {"keep"}}).is(404)
	}
	mine := s.create(keyring.Spec{Name: "Mine", Owner: "globex"})
	s.post("keys/revoke", url.Values{"id": {mine.ID, r.ID}, "confirmed": {"2"}}).is(404)
	s.post("keys/revoke", url.Values{"all": {"yes"}, "owner": {"acme"}, "confirmed": {"2"}, "status": {"any"}}).is(409).hasNot("Secret project")
	for _, path := range []string{"", "?owner=acme", "?status=any", "activity?owner=acme", "logs?owner=acme", "logs?key=" + r.ID,
		"logs.csv?owner=acme", "logs.csv?key=" + r.ID, "activity.csv?owner=acme"} {
		s.get(path).is(200).hasNot("Secret project", "doc_1", "192.0.2.7")
	}
	s.get("activity?key=" + r.ID).is(422).hasNot("Secret project")
	equal(t, "revision", s.record(r.ID).Revision, 1)
	equal(t, "revision of the own one", s.record(mine.ID).Revision, 1)
}

func TestEdit(t *testing.T) {
	s := newSite(t)
	r := s.create(keyring.Spec{Name: "Backend", Scopes: auth.Scopes{"templates.read", "documents.read"}})
	path := "keys/" + r.ID + "/edit"
	page := s.get(path).is(200).has("Edit Backend", "Keep: never expires")
	unchanged := url.Values{"name": {"Backend"}, "scope": {"documents.read", "templates.read"}, "expires": {"keep"},
		"revision": {page.field("revision")}}
	equal(t, "unchanged", s.post(path, unchanged).goes(), "keys/"+r.ID+"?notice=unchanged")
	equal(t, "revision", s.record(r.ID).Revision, 1)
	changed := url.Values{"name": {"Worker"}, "scope": {"documents.read"}, "expires": {"30d"}, "revision": {"1"}}
	equal(t, "changed", s.post(path, changed).goes(), "keys/"+r.ID+"?notice=saved")
	equal(t, "name", s.record(r.ID).Name, "Worker")
	stale := s.post(path, unchanged).is(409).has("The key was changed since you opened this page", "Worker", "What changed in between")
	equal(t, "revision of the form", stale.field("revision"), "2")
	equal(t, "name that was typed", stale.field("name"), "Backend")
	s.post(path, url.Values{"name": {"\u200b"}, "expires": {"keep"}, "revision": {"2"}}).is(422).has("Enter a name.")
	s.post(path, url.Values{"name": {"x"}, "expires": {"custom"}, "date": {"2020-01-01"}, "revision": {"2"}}).is(422).has("The date has passed")
}

// Scopes that are not offered are kept unless they are removed.
func TestScopesApart(t *testing.T) {
	s := newSite(t)
	r := s.create(keyring.Spec{Owner: "globex", Scopes: auth.Scopes{"templates.read", "documents.read"}})
	old := s.record(r.ID)
	old.Scopes = append(old.Scopes, "faxes.send")
	old.Revision++
	must(t, s.store.Update(ctx, &old, nil))
	s.as(bob)
	path := "keys/" + r.ID + "/edit"
	s.get(path).is(200).has("No longer offered", "Not yours to give", "faxes.send", "templates.read").hasNot("webhooks")
	form := url.Values{"name": {"New"}, "scope": {"documents.read", "templates.read", "faxes.send"}, "expires": {"keep"}, "revision": {"2"}}
	s.post(path, form).goes()
	equal(t, "scopes", len(s.record(r.ID).Scopes), 3)
	form["scope"], form["revision"] = []string{"documents.read"}, []string{"3"}
	s.post(path, form).goes()
	equal(t, "scopes", len(s.record(r.ID).Scopes), 1)
	form["scope"], form["revision"] = []string{"documents.read", "webhooks.read"}, []string{"4"}
	s.post(path, form).is(422).has("A scope cannot be granted")
}

func TestPagesOfKeys(t *testing.T) {
	s := newSite(t)
	for range 120 {
		s.create(keyring.Spec{Name: "k"})
	}
	link := func(a *answer, name string) string {
		i := strings.Index(a.body, ">"+name+"</a>")
		if i < 0 {
			return ""
		}
		j := strings.LastIndex(a.body[:i], `href="`) + 6
		return strings.ReplaceAll(a.body[j:j+strings.IndexByte(a.body[j:], '"')], "&amp;", "&")
	}
	seen := make(map[string]bool)
	var sizes []int
	a := s.get("").is(200)
	equal(t, "Newer on the first page", link(a, "Newer"), "")
	for {
		n := 0
		for _, r := range s.keys() {
			if strings.Contains(a.body, `value="`+r.ID+`"`) {
				n++
				seen[r.ID] = true
			}
		}
		sizes = append(sizes, n)
		next := link(a, "Older")
		if next == "" {
			break
		}
		a = s.get(next).is(200)
	}
	equal(t, "pages", len(sizes), 3)
	equal(t, "keys", len(seen), 120)
	back := s.get(link(a, "Newer")).is(200)
	equal(t, "Newer of the second", link(back, "Newer") != "", true)
	equal(t, "the first page", s.get(link(back, "Newer")).goes(), "")
	for _, bad := range []string{"?older=x", "?newer=1", "?status=x"} {
		s.get(bad).is(400)
	}
}

func TestLogFilters(t *testing.T) {
	s := newSite(t)
	r := s.create(keyring.Spec{})
	s.log(r, time.Hour, func(e *apilog.Entry) { e.Path, e.Status, e.Code = "/a", 403, "INSUFFICIENT_SCOPE" })
	s.log(r, 2*time.Hour, func(e *apilog.Entry) { e.Path, e.Method, e.RequestID = "/b", "POST", "req_b" })
	s.log(r, 30*24*time.Hour, func(e *apilog.Entry) { e.Path = "/old" })
	s.log(r, time.Hour, func(e *apilog.Entry) { *e = apilog.Entry{ID: e.ID, Time: e.Time, KeyID: r.ID, Owner: "acme", Lost: 12} })
	for _, c := range []struct{ query, has, not string }{
		{"", "/a", "/old"},
		{"", "12 requests were not recorded", "/old"},
		{"?status=4xx", "/a<", "/b<"},
		{"?status=403", "/a<", "/b<"},
		{"?status=INSUFFICIENT_SCOPE", "/a<", "/b<"},
		{"?status=2xx", "/b", "/a<"},
		{"?method=POST", "/b", "/a<"},
		{"?request=req_b", "/b", "/a<"},
		{"?address=192.0.2.7", "/b", "/old"},
		{"?address=192.0.2.8", "No request matches", "/b<"},
		{"?from=2000-01-01T00:00&to=2000-01-02T00:00", "No request matches", "/b<"},
		{"?from=" + time.Now().UTC().Add(-40*24*time.Hour).Format("2006-01-02T15:04"), "/old", "xxx"},
	} {
		s.get("logs" + c.query).is(200).hasBody(c.has).hasNot(c.not)
	}
	for query, want := range map[string]string{
		"?status=x": "Choose a status.", "?status=1000": "Choose a status.", "?address=x": "Enter an address",
		"?from=x": "Enter a date and a time.", "?to=1": "Enter a date and a time.", "?from=2026-01-02T00:00&to=2026-01-01T00:00": "The end is not after",
		"?from=2000-01-01T00:00": "longer than 400 days", "?from=2026-01-01T00:00&fromOffset=9999": "Enter a date",
	} {
		s.get("logs" + query).is(422).has(want)
	}
}

// A chart has the whole range, and at most 400 buckets.
func TestChart(t *testing.T) {
	s := newSite(t)
	r := s.create(keyring.Spec{})
	s.log(r, 30*time.Minute, func(e *apilog.Entry) { e.Status = 500 })
	now := time.Now().UTC()
	for _, length := range []time.Duration{time.Minute, time.Hour, 100 * time.Minute, day, 7 * day, 30 * day, 101 * day, 399 * day} {
		page := s.get("logs?from=" + now.Add(-length).Format("2006-01-02T15:04") + "&to=" + now.Add(time.Minute).Format("2006-01-02T15:04")).is(200)
		m := regexp.MustCompile(`viewBox="0 0 (\d+) 100"`).FindStringSubmatch(page.body)
		if length < time.Hour {
			page.has("No request matches")
			continue
		}
		if m == nil {
			t.Fatalf("%v: no chart", length)
		}
		if width, _ := strconv.Atoi(m[1]); width < 10 || width > 4000 {
			t.Errorf("%v: %d buckets, want at most 400", length, width/10)
		}
		page.has("Requests: 1. Client errors: 0. Server errors: 1.")
	}
}

const day = 24 * time.Hour

// A new maximum lifetime: the list shows which keys break it.
func TestTooLong(t *testing.T) {
	s := newSite(t, func(_ *dashboard.Options, k *keyring.Options) { k.MaxLifetime = 60 * day })
	s.create(keyring.Spec{Name: "Forever"})
	s.create(keyring.Spec{Name: "Short", ExpiresAt: time.Now().Add(30 * day)})
	s.get("?status=long").is(200).has("Forever", "Longer than permitted").hasNot("Short")
	newSite(t).get("?status=long").is(400)
}

// The newest entry of the logs is a use as well.
func TestLastUse(t *testing.T) {
	s := newSite(t)
	r := s.create(keyring.Spec{})
	s.get("keys/" + r.ID).has("Last used Never")
	s.log(r, 0)
	s.get("keys/" + r.ID).has("Last used In the last two minutes")
}
