package dashboard_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/dashboard"
	"github.com/insigner/auth/keyring"
)

var (
	ctx   = context.Background()
	quiet = slog.New(slog.DiscardHandler)
)

const prefix = "/developers/"

// The people who sign in.
var (
	ada  = dashboard.Viewer{Actor: keyring.Actor{Name: "ada@acme.example", Owner: "acme", Scopes: auth.Scopes{"*"}}}
	bob  = dashboard.Viewer{Actor: keyring.Actor{Name: "bob@globex.example", Owner: "globex", Scopes: auth.Scopes{"documents.*"}}}
	sam  = dashboard.Viewer{Actor: keyring.Actor{Name: "sam"}, Staff: true}
	rita = dashboard.Viewer{Actor: ada.Actor, ReadOnly: true}
)

// A site is the pages with their stores, and who is signed in.
type site struct {
	http.Handler
	t       testing.TB
	store   *keyring.MemoryStore
	manager *keyring.Manager
	logs    *apilog.MemoryStore
	viewer  dashboard.Viewer
	out     bool // nobody is signed in
}

func newSite(t testing.TB, changes ...func(o *dashboard.Options, k *keyring.Options)) *site {
	t.Helper()
	s := &site{t: t, store: new(keyring.MemoryStore), logs: apilog.NewMemoryStore(10_000), viewer: ada}
	k := keyring.Options{Scheme: auth.Scheme{Catalog: auth.PublishedCatalog()}}
	o := dashboard.Options{
		Viewer: func(w http.ResponseWriter, r *http.Request) (dashboard.Viewer, bool) {
			if s.out {
				http.Error(w, "sign in", http.StatusUnauthorized)
			}
			return s.viewer, !s.out
		},
		Logs: s.logs, Prefix: prefix, APIBase: "https://api.example.com/api/v1/keys", Logger: quiet,
	}
	for _, change := range changes {
		change(&o, &k)
	}
	s.manager = keyring.NewManager(s.store, &k)
	o.Manager = s.manager
	s.Handler = dashboard.New(o)
	return s
}

// as signs somebody in.
func (s *site) as(v dashboard.Viewer) *site { s.viewer = v; return s }

// create makes a key of an owner.
func (s *site) create(spec keyring.Spec) auth.Record {
	s.t.Helper()
	if spec.Owner == "" {
		spec.Owner = "acme"
	}
	if spec.Name == "" {
		spec.Name = "Backend"
	}
	if spec.Scopes == nil {
		spec.Scopes = auth.Scopes{"documents.read"}
	}
	r, _, err := s.manager.Unconfined("setup").Create(ctx, spec)
	must(s.t, err)
	return r
}

// record returns what the store has about a key.
func (s *site) record(id string) auth.Record {
	s.t.Helper()
	r, err := s.store.Get(ctx, id)
	must(s.t, err)
	return *r
}

// keys returns all keys.
func (s *site) keys() (all []auth.Record) {
	s.t.Helper()
	for r, err := range s.manager.Unconfined("test").List(ctx, keyring.Filter{}) {
		must(s.t, err)
		all = append(all, r)
	}
	return all
}

// log adds a request with a key to the logs, some time ago.
func (s *site) log(r auth.Record, ago time.Duration, change ...func(e *apilog.Entry)) {
	s.t.Helper()
	at := time.Now().UTC().Truncate(time.Microsecond).Add(-ago)
	e := apilog.Entry{ID: apilog.NewID(at), Time: at, Duration: 12 * time.Millisecond, KeyID: r.ID, Owner: r.Owner,
		Method: "GET", Route: "GET /documents/{id}", Path: "/documents/doc_1", Status: 200,
		RemoteAddr: netip.MustParseAddr("192.0.2.7"), RequestID: "req_1", UserAgent: "curl/8"}
	for _, f := range change {
		f(&e)
	}
	must(s.t, s.logs.Append(ctx, []apilog.Entry{e}))
}

// An answer is a page.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	body   string
}

// get asks for a page. The path is without the prefix.
func (s *site) get(path string, fields ...string) *answer {
	s.t.Helper()
	return s.send(httptest.NewRequest("GET", prefix+path, nil), fields...)
}

// post sends a form as the viewer who is signed in, unless values say otherwise.
func (s *site) post(path string, values url.Values, fields ...string) *answer {
	s.t.Helper()
	form := url.Values{"as": {s.viewer.Name}, "for": {s.viewer.Owner}}
	if s.viewer.Staff {
		form.Set("for", "")
	}
	for name, v := range values {
		form[name] = v
	}
	r := httptest.NewRequest("POST", prefix+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return s.send(r, fields...)
}

func (s *site) send(r *http.Request, fields ...string) *answer {
	s.t.Helper()
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return &answer{s.t, r.Method + " " + r.URL.Path, w.Code, w.Header(), w.Body.String()}
}

// is expects a status.
func (a *answer) is(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: status %d, want %d\n%s", a.what, a.status, status, a.text())
	}
	return a
}

// has expects texts in the page.
func (a *answer) has(texts ...string) *answer {
	a.t.Helper()
	for _, text := range texts {
		if !strings.Contains(a.text(), text) {
			a.t.Errorf("%s: the page has no %q:\n%s", a.what, text, a.text())
		}
	}
	return a
}

// hasBody expects a text in the HTML.
func (a *answer) hasBody(text string) *answer {
	a.t.Helper()
	if !strings.Contains(a.body, text) {
		a.t.Errorf("%s: the page has no %q:\n%s", a.what, text, a.body)
	}
	return a
}

// hasNot expects that texts are not in the page.
func (a *answer) hasNot(texts ...string) *answer {
	a.t.Helper()
	for _, text := range texts {
		if strings.Contains(a.body, text) {
			a.t.Errorf("%s: the page has %q:\n%s", a.what, text, a.body)
		}
	}
	return a
}

// goes expects a redirect, and returns where it leads to from the prefix.
func (a *answer) goes() string {
	a.t.Helper()
	a.is(303)
	base, err := url.Parse("https://example.com/proxy" + strings.Fields(a.what)[1])
	must(a.t, err)
	to, err := base.Parse(a.header.Get("Location"))
	must(a.t, err)
	path, ok := strings.CutPrefix(to.String(), "https://example.com/proxy"+prefix)
	if !ok {
		a.t.Fatalf("%s: the Location is %q, which leaves the prefix", a.what, a.header.Get("Location"))
	}
	return path
}

var (
	tag    = regexp.MustCompile(`(?s)<(style|script).*?</(style|script)>|<[^>]*>`)
	blanks = regexp.MustCompile(`\s+`)
)

// text returns what a reader sees.
func (a *answer) text() string {
	text := strings.NewReplacer("&#34;", `"`, "&#39;", "'", "&lt;", "<", "&gt;", ">", "&#43;", "+", "&amp;", "&").Replace(
		tag.ReplaceAllString(a.body, " "))
	return strings.TrimSpace(blanks.ReplaceAllString(text, " "))
}

// field returns the value of an input.
func (a *answer) field(name string) string {
	a.t.Helper()
	m := regexp.MustCompile(`<input[^>]* name="` + name + `" value="([^"]*)"`).FindStringSubmatch(a.body)
	if m == nil {
		a.t.Fatalf("%s: the page has no field %q", a.what, name)
	}
	return m[1]
}

// secret returns the key that the page shows.
func (a *answer) secret() string {
	a.t.Helper()
	m := regexp.MustCompile(`id="key" value="(isk_[A-Za-z0-9_-]{44})"`).FindStringSubmatch(a.body)
	if m == nil {
		a.t.Fatalf("%s: the page shows no key:\n%s", a.what, a.text())
	}
	return m[1]
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
