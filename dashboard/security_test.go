package dashboard_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/dashboard"
	"github.com/insigner/auth/keyring"
)

func TestHeaders(t *testing.T) {
	s := newSite(t)
	r := s.create(keyring.Spec{})
	for _, path := range []string{"", "keys/new", "keys/" + r.ID, "keys/" + r.ID + "/revoke", "keys/unknown", "nowhere", "logs", "activity"} {
		a := s.get(path)
		for name, want := range map[string]string{
			"Cache-Control": "private, no-store", "Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff",
			"X-Frame-Options": "DENY", "Content-Type": "text/html; charset=utf-8",
		} {
			equal(t, path+": "+name, a.header.Get(name), want)
		}
		policy := a.header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%s: the policy lacks %s: %s", path, part, policy)
			}
		}
		if strings.Contains(policy, "unsafe") {
			t.Errorf("%s: the policy is %s", path, policy)
		}
		nonce := regexp.MustCompile(`script-src 'nonce-([A-Z2-7]{26})'`).FindStringSubmatch(policy)
		if nonce == nil || !strings.Contains(a.body, `nonce="`+nonce[1]+`"`) {
			t.Errorf("%s: the policy has no nonce of the page: %s", path, policy)
		}
		if m := regexp.MustCompile(` (style|on[a-z]+)="`).FindString(a.body); m != "" {
			t.Errorf("%s: the page has an inline style or script: %s", path, m)
		}
		for _, m := range regexp.MustCompile(`(?:href|src|action)="([^"]*)"`).FindAllStringSubmatch(a.body, -1) {
			if !strings.HasPrefix(m[1], "./") && !strings.HasPrefix(m[1], "../") && !strings.HasPrefix(m[1], "#") && !strings.HasPrefix(m[1], "?") &&
				!strings.HasPrefix(m[1], "logs.csv") && !strings.HasPrefix(m[1], "activity.csv") {
				t.Errorf("%s: %s is not relative", path, m[1])
			}
		}
	}
	a, b := s.get("").header.Get("Content-Security-Policy"), s.get("").header.Get("Content-Security-Policy")
	if a == b {
		t.Error("two pages have one nonce")
	}
}

func TestAssets(t *testing.T) {
	s := newSite(t)
	page := s.get("")
	s.out = true // they are nobody's secret
	for _, m := range regexp.MustCompile(`(?:href|src)="\./(assets/[^"]*)"`).FindAllStringSubmatch(page.body, -1) {
		a := s.get(m[1]).is(200)
		equal(t, m[1]+": Cache-Control", a.header.Get("Cache-Control"), "public, max-age=31536000, immutable")
	}
	equal(t, "Cache-Control of another version", s.get("assets/style.css?v=1").header.Get("Cache-Control"), "")
	s.get("assets/nothing").is(404)
	s.get("assets/..%2fdoc.go").is(400)
	s.get("").is(401)
}

// A form is not obeyed from another site, nor from another session.
func TestForms(t *testing.T) {
	s := newSite(t, func(o *dashboard.Options, _ *keyring.Options) { o.Origins = []string{"https://www.example.com"} })
	r := s.create(keyring.Spec{})
	path := "keys/" + r.ID + "/disable"
	for _, c := range []struct {
		name   string
		values url.Values
		fields []string
		status int
	}{
		{"another site", nil, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"another site without Sec-Fetch-Site", nil, []string{"Origin", "https://evil.example"}, 403},
		{"Origin null", nil, []string{"Origin", "null"}, 403},
		{"another user", url.Values{"as": {"bob@globex.example"}}, nil, 409},
		{"another owner", url.Values{"for": {"globex"}}, nil, 409},
		{"nobody", url.Values{"as": {}}, nil, 409},
		{"a long body", url.Values{"x": {strings.Repeat("x", 70_000)}}, nil, 413},
		{"another site, by another session", url.Values{"as": {"x"}}, []string{"Sec-Fetch-Site", "cross-site"}, 403},
	} {
		a := s.post(path, c.values, c.fields...)
		equal(t, c.name, a.status, c.status)
	}
	s.as(rita).post(path, url.Values{"as": {"x"}}).is(403).has("You can only look")
	equal(t, "revision", s.record(r.ID).Revision, 1)
	s.as(ada)
	equal(t, "a trusted origin", s.post(path, nil, "Origin", "https://www.example.com", "Sec-Fetch-Site", "same-site").goes(), "keys/"+r.ID+"?notice=disabled")
	s.get("keys/"+r.ID).has("Disabled", "Enable")
	equal(t, "enable", s.post("keys/"+r.ID+"/enable", nil, "Sec-Fetch-Site", "same-origin").goes(), "keys/"+r.ID+"?notice=enabled")
	for _, get := range []string{"disable", "enable", "replace"} {
		s.get("keys/" + r.ID + "/" + get).is(404)
	}
}

func TestReadOnly(t *testing.T) {
	s := newSite(t)
	r := s.create(keyring.Spec{})
	s.as(rita)
	for _, path := range []string{"", "keys/" + r.ID, "activity", "logs"} {
		page := s.get(path).is(200).has("Read only")
		if m := regexp.MustCompile(`<form[^>]*method="post"[^>]*>`).FindAllString(page.body, -1); len(m) > 2 || path != "" && len(m) > 0 {
			t.Errorf("%s: the page has forms: %q", path, m)
		}
		page.hasNot("Revoke selected", "Create API Key</a>", ">Edit<", ">Rotate<", ">Revoke<", ">Disable<")
	}
	for _, path := range []string{"keys/new", "keys/" + r.ID + "/edit", "keys/" + r.ID + "/rotate", "keys/" + r.ID + "/revoke"} {
		s.get(path).is(403)
		s.post(path, nil).is(403)
	}
	s.post("keys/revoke", url.Values{"all": {"yes"}}).is(403)
	equal(t, "revision", s.record(r.ID).Revision, 1)
}

func TestStaff(t *testing.T) {
	var mu sync.Mutex
	var reads []string
	secrets := false
	site := func() *site {
		return newSite(t, func(o *dashboard.Options, _ *keyring.Options) {
			o.StaffSecrets = secrets
			o.OnStaffRead = func(_ context.Context, by, owner, keyID, page string) {
				mu.Lock()
				defer mu.Unlock()
				reads = append(reads, strings.Join([]string{by, owner, keyID, page}, " "))
			}
		}).as(sam)
	}
	s := site()
	r := s.create(keyring.Spec{Name: "Of Acme"})
	other := s.create(keyring.Spec{Name: "Of Globex", Owner: "globex"})
	s.get("").is(200).has("sam, staff", "Of Acme", "Of Globex", "Owner").hasNot("Create API Key")
	s.get("?owner=globex").is(200).has("Of Globex").hasNot("Of Acme")
	s.get("keys/"+r.ID).is(200).has("Of Acme", "acme", "Disable", "Revoke").hasNot(">Edit<", ">Rotate<")
	s.get("logs?owner=acme").is(200)
	want := "sam   |sam globex  |sam acme " + r.ID + " keys/" + r.ID + "|sam acme  logs"
	equal(t, "reads", strings.Join(reads, "|"), want)
	for _, path := range []string{"keys/new", "keys/" + r.ID + "/edit", "keys/" + r.ID + "/rotate", "keys/" + r.ID + "/enable", "keys/" + r.ID + "/replace"} {
		s.post(path, url.Values{"grace": {"now"}}).is(403)
	}
	s.post("keys/"+r.ID+"/disable", nil).goes()
	s.post("keys/"+other.ID+"/revoke", nil).goes()
	equal(t, "who", s.record(r.ID).UpdatedBy, "staff:sam")
	s.as(ada).get("activity").is(200).has("Support").hasNot("sam")

	secrets = true
	s = site()
	s.post("keys/new", url.Values{"name": {"x"}, "scope": {"*"}, "expires": {"never"}}).is(422).has("Enter the owner")
	s.post("keys/new", url.Values{"name": {"x"}, "scope": {"*"}, "expires": {"never"}, "owner": {"globex"}}).is(200).has("Save your key")
	equal(t, "owner", s.keys()[0].Owner, "globex")
}

// What others wrote is shown as text.
func TestTextsOfOthers(t *testing.T) {
	s := newSite(t)
	const script = `<script>alert(1)</script>" onfocus="alert(1)`
	long := strings.Repeat("W", 10_000)
	for _, name := range []string{script, "a\u202egnp.exe", "\u3164\u200b", long[:255], "=1+1", "<b>", "🧑‍🚀 crew", "\u2800"} {
		r := s.create(keyring.Spec{Name: name, Metadata: map[string]string{"x": script}})
		s.log(r, time.Minute, func(e *apilog.Entry) { e.Path, e.UserAgent, e.Route, e.RequestID = "/"+name, script, script, "=cmd()" })
		s.log(r, time.Minute, func(e *apilog.Entry) { e.Path = "/" + long })
	}
	r := s.record(s.keys()[0].ID)
	r.Name, r.CreatedBy = long, script // with SQL
	r.Revision++
	must(t, s.store.Update(ctx, &r, nil))
	pages := []string{"", "logs", "activity", "keys/new?like=" + s.keys()[0].ID}
	for _, k := range s.keys() {
		for _, page := range []string{"", "/edit", "/rotate", "/revoke"} {
			pages = append(pages, "keys/"+k.ID+page)
		}
	}
	for _, path := range pages {
		page := s.get(path).is(200)
		for _, bad := range []string{"<script>alert", `" onfocus="`, "\u202e", "\u200b", "<b>"} {
			if strings.Contains(page.body, bad) && !(bad[0] > 'z' && strings.HasSuffix(path, "/edit")) { // where it can be removed
				t.Errorf("%s: the page has %q", path, bad)
			}
		}
		if strings.Count(page.body, long[:5000]) > 0 && !strings.Contains(path, "edit") && !strings.Contains(path, "like") {
			t.Errorf("%s: the page has a text of 10,000 characters", path)
		}
	}
	list := s.get("").is(200)
	list.has("a[U+202E]gnp.exe", "🧑‍🚀 crew", "isk_…")
	if regexp.MustCompile(`<a href="\./keys/[^"]*">\s*</a>`).MatchString(list.body) {
		t.Error("a key without a visible name has an empty link")
	}
}

// Cells that a spreadsheet would take for formulas are neutralized; numbers are
// not.
func TestCSV(t *testing.T) {
	s := newSite(t)
	for name, want := range map[string]string{
		"=1+1": "'=1+1", "+1": "+1", "+1+cmd": "'+1+cmd", "@x": "'@x", "-x": "'-x", " =x": " '=x", "x;=cmd()": "x;'=cmd()", "a, b": "a, b", "a,-b": "a,'-b", "\t=x": "'\t=x", "＝x": "'＝x", "|cmd": "'|cmd", "%x": "'%x",
		"plain": "plain", "a=b": "a=b", `"q", x`: `"q", x`, "two\nlines": "two\nlines", "\rx": "'x", "'=x": "''=x",
	} {
		s := newSite(t)
		r := s.create(keyring.Spec{})
		s.log(r, time.Minute, func(e *apilog.Entry) { e.UserAgent = name })
		rows, err := csv.NewReader(strings.NewReader(s.get("logs.csv").is(200).body)).ReadAll()
		must(t, err)
		equal(t, "rows", len(rows), 2)
		equal(t, name, rows[1][10], strings.ReplaceAll(want, "\r\n", "\n"))
		equal(t, "status", rows[1][3], "200")
		equal(t, "duration", rows[1][5], "12.000")
		equal(t, "route", rows[1][8], "GET /documents/{id}")
	}
	r := s.create(keyring.Spec{Name: "=cmd()"})
	for i := range 2500 {
		s.log(r, time.Duration(i)*time.Second)
	}
	s.log(r, 20*24*time.Hour)
	a := s.get("logs.csv").is(200)
	equal(t, "Content-Type", a.header.Get("Content-Type"), "text/csv; charset=utf-8; header=present")
	if !strings.HasPrefix(a.header.Get("Content-Disposition"), `attachment; filename="api-logs-`) {
		t.Errorf("Content-Disposition is %q", a.header.Get("Content-Disposition"))
	}
	rows, err := csv.NewReader(strings.NewReader(a.body)).ReadAll()
	must(t, err)
	equal(t, "rows of the range, and the head", len(rows), 2501)
	equal(t, "key", rows[1][6], "'=cmd() ("+r.Hint+")")
	rows, err = csv.NewReader(strings.NewReader(s.get("activity.csv").is(200).body)).ReadAll()
	must(t, err)
	equal(t, "rows of the activity, and the head", len(rows), 2)
	equal(t, "name", rows[1][1], "'=cmd() ("+r.Hint+")")
}

// A failingLog fails after some lists.
type failingLog struct {
	*apilog.MemoryStore
	good  atomic.Int64  // lists
	block chan struct{} // if not nil, what a list waits for that fails
	fails chan struct{} // gets something when a list fails
}

func newFailingLog(good int64) *failingLog {
	l := &failingLog{MemoryStore: apilog.NewMemoryStore(10_000), fails: make(chan struct{}, 10)}
	l.good.Store(good)
	return l
}

func (l *failingLog) List(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
	if l.good.Add(-1) >= 0 {
		return l.MemoryStore.List(ctx, q)
	}
	l.fails <- struct{}{}
	if l.block != nil {
		<-l.block
	}
	return nil, errors.New("away: isk_" + strings.Repeat("x", 44))
}

// A download that fails in the middle does not look complete.
func TestDownloadBreaksOff(t *testing.T) {
	var text bytes.Buffer
	logs := newFailingLog(2)
	s := newSite(t, func(o *dashboard.Options, _ *keyring.Options) {
		o.Logs, o.Logger = logs, slog.New(slog.NewTextHandler(&text, nil))
	})
	s.logs = logs.MemoryStore
	r := s.create(keyring.Spec{})
	for i := range 2500 {
		s.log(r, time.Duration(i)*time.Second)
	}
	server := httptest.NewServer(s)
	defer server.Close()
	resp, err := http.Get(server.URL + prefix + "logs.csv")
	must(t, err)
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("a part of %d bytes looks complete", len(body))
	}
	server.Close() // which waits for the handler
	if strings.Contains(text.String(), "xxxx") || !strings.Contains(text.String(), "[redacted]") {
		t.Errorf("the log is %s", &text)
	}
	s.get("logs.csv").is(503)
	s.get("logs").is(503)
	s.get("keys/" + r.ID).is(200).has("The API logs cannot be reached now")
}

func TestOneDownloadAtATime(t *testing.T) {
	logs := newFailingLog(1)
	logs.block = make(chan struct{})
	s := newSite(t, func(o *dashboard.Options, _ *keyring.Options) { o.Logs = logs })
	s.logs = logs.MemoryStore
	r := s.create(keyring.Spec{})
	for i := range 1000 {
		s.log(r, time.Duration(i)*time.Second)
	}
	server := httptest.NewServer(s)
	defer server.Close()
	first, err := http.Get(server.URL + prefix + "logs.csv")
	must(t, err)
	defer first.Body.Close()
	<-logs.fails
	logs.good.Store(10_000)
	s.get("logs.csv").is(429).has("Another download is running")
	close(logs.block)
	io.Copy(io.Discard, first.Body)
	for range 1000 { // until the first has ended
		if s.get("logs.csv").status == 200 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Error("the slot is not given back")
}

func TestConfirm(t *testing.T) {
	var asked []dashboard.Action
	fresh := false
	s := newSite(t, func(o *dashboard.Options, _ *keyring.Options) {
		o.Confirm = func(_ *http.Request, _ dashboard.Viewer, a dashboard.Action) string {
			asked = append(asked, a)
			if fresh {
				return ""
			}
			return "https://login.example/again"
		}
	})
	r := s.create(keyring.Spec{ExpiresAt: time.Now().Add(24 * time.Hour)})
	s.get("keys/new").is(200).has("Sign in again").hasBody(`href="https://login.example/again"`)
	s.post("keys/new", url.Values{"name": {"Typed"}, "scope": {"documents.read"}, "expires": {"never"}}).is(403).
		has("Sign in again").hasBody(`value="Typed"`)
	s.post("keys/"+r.ID+"/rotate", url.Values{"grace": {"now"}}).is(403).has("Sign in again")
	edit := func(values url.Values) *answer {
		form := url.Values{"name": {"Backend"}, "scope": {"documents.read"}, "expires": {"keep"}, "revision": {"1"}}
		for name, v := range values {
			form[name] = v
		}
		return s.post("keys/"+r.ID+"/edit", form)
	}
	edit(url.Values{"scope": {"documents.*"}}).is(403)
	edit(url.Values{"expires": {"never"}}).is(403)
	want := []dashboard.Action{"create", "create", "rotate", "widen", "extend"}
	for i, a := range want {
		if i >= len(asked) || asked[i] != a {
			t.Fatalf("asked for %q, want %q", asked, want)
		}
	}
	equal(t, "revision", s.record(r.ID).Revision, 1)
	edit(url.Values{"name": {"Renamed"}}).goes() // which needs no fresh sign-in
	s.post("keys/"+r.ID+"/disable", nil).goes()
	s.post("keys/"+r.ID+"/enable", nil).is(403)
	fresh = true
	s.post("keys/"+r.ID+"/enable", nil).goes()
}

func TestBulk(t *testing.T) {
	s := newSite(t)
	var ids []string
	for range 60 {
		ids = append(ids, s.create(keyring.Spec{Name: "bulk"}).ID)
	}
	kept := s.create(keyring.Spec{Name: "kept"})
	s.post("keys/revoke", nil).is(422).has("No key is selected")
	s.post("keys/revoke", url.Values{"id": ids[:2]}).is(200).has("Revoke 2 keys", "Cancel")
	equal(t, "revoked", s.record(ids[0]).RevokedAt.IsZero(), true)
	two := s.post("keys/revoke", url.Values{"id": {ids[0], ids[1], ids[0]}}).is(200).has("Revoke 2 keys")
	s.post("keys/revoke", url.Values{"id": ids[:2], "confirmed": {"3"}, "set": {two.field("set")}}).is(409).has("These are other keys than when you were asked")
	s.post("keys/revoke", url.Values{"id": ids[2:4], "confirmed": {"2"}, "set": {two.field("set")}}).is(409)
	s.post("keys/revoke", url.Values{"id": ids[:2], "confirmed": {"2"}, "set": {two.field("set")}}).is(200).has("2 keys have been revoked")
	all := url.Values{"all": {"yes"}, "q": {"bulk"}, "status": {"current"}}
	page := s.post("keys/revoke", all).is(200).has("Revoke 58 keys", "newest 50 of them")
	equal(t, "filter", page.field("q"), "bulk")
	all["confirmed"], all["set"] = []string{"58"}, []string{page.field("set")}
	s.post("keys/revoke", all).is(200).has("58 keys have been revoked").hasBody(`href="../?q=bulk"`)
	n := 0
	for _, r := range s.keys() {
		if !r.RevokedAt.IsZero() {
			n++
		}
	}
	equal(t, "revoked keys", n, 60)
	equal(t, "the other", s.record(kept.ID).RevokedAt.IsZero(), true)
}

// A key that leaked made others.
func TestRevokeMade(t *testing.T) {
	s := newSite(t)
	leaked := s.create(keyring.Spec{Scopes: auth.Scopes{"*"}})
	child, _, err := s.manager.For(keyring.ActorOf(leaked)).Create(ctx, keyring.Spec{Name: "Child"})
	must(t, err)
	path := "keys/" + leaked.ID + "/revoke"
	s.get(path).is(200).has("Only this key", "Also the key that it made", "Child")
	s.post(path, nil).is(422).has("Choose which keys to revoke.")
	s.post(path, url.Values{"also": {"made"}}).goes()
	equal(t, "the child", s.record(child.ID).RevokedAt.IsZero(), false)
}

func TestLimits(t *testing.T) {
	s := newSite(t, func(_ *dashboard.Options, k *keyring.Options) { k.MaxKeys, k.MaxLifetime = 2, 60*24*time.Hour })
	s.create(keyring.Spec{Name: "First"})
	s.create(keyring.Spec{Name: "Second"})
	form := url.Values{"name": {"Third"}, "scope": {"documents.read"}, "expires": {"latest"}}
	s.get("keys/new").is(200).has("Latest permitted date", "30 days").hasNot("No expiration", "90 days", "1 year")
	s.post("keys/new", form).is(422).has("You have 2 keys that are neither revoked nor expired; 2 are permitted", "First").hasBody(`value="Third"`)
	form.Set("expires", "custom")
	form.Set("date", time.Now().AddDate(1, 0, 0).Format(time.DateOnly))
	s.post("keys/"+s.keys()[0].ID+"/revoke", nil).goes()
	s.post("keys/new", form).is(422).has("The expiry is not permitted")
	form.Set("expires", "latest")
	s.post("keys/new", form).is(200)
}

// A chosen day ends at its end, in the zone of the reader.
func TestCustomDate(t *testing.T) {
	s := newSite(t)
	date := time.Now().UTC().AddDate(0, 0, 10)
	for offset, hours := range map[string]int{"": 24, "60": 23, "-300": 29, "840": 10} {
		form := url.Values{"name": {"Key" + offset}, "scope": {"documents.read"}, "expires": {"custom"}, "date": {date.Format(time.DateOnly)},
			"offset": {offset}}
		s.post("keys/new", form).is(200)
		for _, r := range s.keys() {
			if r.Name == "Key"+offset {
				equal(t, "offset "+offset, r.ExpiresAt.Equal(date.Truncate(24*time.Hour).Add(time.Duration(hours)*time.Hour)), true)
			}
		}
	}
	for _, bad := range []string{"900", "-721", "x"} {
		s.post("keys/new", url.Values{"name": {"x"}, "scope": {"*"}, "expires": {"custom"}, "date": {date.Format(time.DateOnly)}, "offset": {bad}}).is(422)
	}
}

func TestLayout(t *testing.T) {
	fail := false
	s := newSite(t, func(o *dashboard.Options, _ *keyring.Options) {
		o.Layout = func(w http.ResponseWriter, r *http.Request, p dashboard.Page) error {
			if fail {
				return errors.New("no frame")
			}
			return template.Must(template.New("").Parse(`<title>{{.Title}}</title>{{.Head}}<i nonce={{.Nonce}}>mine</i>{{.Main}}`)).Execute(w, p)
		}
	})
	s.get("").is(200).has("mine", "API Keys").hasBody("<title>API Keys · Developers</title>")
	s.get("keys/unknown").is(404).has("mine", "There is no such key")
	fail = true
	s.get("").is(500)
}

// Another policy of the host stays.
func TestPolicyOfTheHost(t *testing.T) {
	s := newSite(t)
	w := httptest.NewRecorder()
	w.Header().Set("Content-Security-Policy", "default-src 'self'")
	s.ServeHTTP(w, httptest.NewRequest("GET", prefix, nil))
	equal(t, "policies", len(w.Header()["Content-Security-Policy"]), 2)
}

// The pages are not in the logs that they show.
func TestPagesAreNotLogged(t *testing.T) {
	s := newSite(t)
	recorder := apilog.NewRecorder(s.logs, &apilog.Options{Logger: quiet})
	w := httptest.NewRecorder()
	recorder.Middleware(s).ServeHTTP(w, httptest.NewRequest("GET", prefix+"logs", nil))
	equal(t, "status", w.Code, 200)
	must(t, recorder.Close(ctx))
	entries, err := s.logs.List(ctx, apilog.Query{})
	must(t, err)
	equal(t, "entries", len(entries), 0)
}

func TestNewPanics(t *testing.T) {
	good := func() dashboard.Options {
		return dashboard.Options{
			Manager: keyring.NewManager(new(keyring.MemoryStore), &keyring.Options{Scheme: auth.Scheme{Catalog: auth.PublishedCatalog()}}),
			Viewer:  func(http.ResponseWriter, *http.Request) (dashboard.Viewer, bool) { return ada, true },
		}
	}
	dashboard.New(good())
	for want, change := range map[string]func(o *dashboard.Options){
		"Options.Manager is nil":              func(o *dashboard.Options) { o.Manager = nil },
		"has no Catalog":                      func(o *dashboard.Options) { o.Manager = keyring.NewManager(new(keyring.MemoryStore), nil) },
		"Options.Viewer is nil":               func(o *dashboard.Options) { o.Viewer = nil },
		`Options.Prefix "developers/" is not`: func(o *dashboard.Options) { o.Prefix = "developers/" },
		`Options.Prefix "/developers" is not`: func(o *dashboard.Options) { o.Prefix = "/developers" },
		`Options.Prefix "/{x}/" is not`:       func(o *dashboard.Options) { o.Prefix = "/{x}/" },
		"Options.Origins":                     func(o *dashboard.Options) { o.Origins = []string{"example.com"} },
	} {
		func() {
			defer func() {
				if v, _ := recover().(string); !strings.HasPrefix(v, "dashboard.New: ") || !strings.Contains(v, want) {
					t.Errorf("New panics with %q, want %q", v, want)
				}
			}()
			o := good()
			change(&o)
			dashboard.New(o)
		}()
	}
}
