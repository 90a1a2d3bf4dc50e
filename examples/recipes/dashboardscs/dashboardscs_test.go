package dashboardscs_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/examples/recipes/dashboardscs"
	"github.com/insigner/auth/keyring"
)

// users have their name as their ID, and the password "secret".
type users struct {
	mu     sync.Mutex
	byID   map[string]*dashboardscs.User
	outage bool
}

func (u *users) Check(ctx context.Context, email, password string) (string, error) {
	id, _, _ := strings.Cut(email, "@")
	if user, err := u.Get(ctx, id); user == nil || password != "secret" {
		return "", err
	}
	return id, nil
}

func (u *users) Get(ctx context.Context, id string) (*dashboardscs.User, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.outage {
		return nil, errors.New("the database of the users is down")
	}
	return u.byID[id], nil
}

// change calls f, which changes the users.
func (u *users) change(f func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f()
}

// A browser keeps its cookies and follows no redirects.
type browser struct {
	t      *testing.T
	base   string
	client *http.Client
	form   url.Values // in every form: who was signed in when it was made
}

type site struct {
	t       *testing.T
	server  *httptest.Server
	users   *users
	manager *keyring.Manager
}

func newSite(t *testing.T, fresh time.Duration) *site {
	manager := keyring.NewManager(new(keyring.MemoryStore), &keyring.Options{Scheme: auth.Scheme{Catalog: auth.PublishedCatalog()}})
	all := &users{byID: map[string]*dashboardscs.User{
		"ada":  {Email: "ada@acme.example", Org: "acme", Scopes: auth.Scopes{"documents.*"}},
		"bob":  {Email: "bob@globex.example", Org: "globex", Scopes: auth.Scopes{"*"}},
		"rita": {Email: "rita@acme.example", Org: "acme", ReadOnly: true},
	}}
	server := httptest.NewTLSServer(dashboardscs.New(all, manager, apilog.NewMemoryStore(100), fresh))
	t.Cleanup(server.Close)
	return &site{t, server, all, manager}
}

func (s *site) browser() *browser {
	client := *s.server.Client()
	client.Jar, _ = cookiejar.New(nil)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &browser{s.t, s.server.URL, &client, nil}
}

// key creates a key of an owner and returns its ID.
func (s *site) key(owner string) string {
	s.t.Helper()
	r, _, err := s.manager.Unconfined("test").Create(s.t.Context(), keyring.Spec{
		Name: "Backend", Owner: owner, Scopes: auth.Scopes{"documents.read"}})
	if err != nil {
		s.t.Fatal(err)
	}
	return r.ID
}

// want sends a request, and compares its status and a text of its body, or where
// it leads to.
func (b *browser) want(method, path string, form url.Values, status int, text string) {
	b.t.Helper()
	var body io.Reader
	if method == "POST" {
		values := url.Values{}
		for name, v := range b.form {
			values[name] = v
		}
		for name, v := range form {
			values[name] = v
		}
		body = strings.NewReader(values.Encode())
	}
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.base+path, body)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if response.StatusCode != status {
		b.t.Errorf("%s %s: status %d, want %d", method, path, response.StatusCode, status)
	}
	if got := response.Header.Get("Location") + string(page); !strings.Contains(got, text) {
		b.t.Errorf("%s %s: the answer has no %q:\n%s", method, path, text, got)
	}
}

func (b *browser) signIn(name, owner string) {
	b.t.Helper()
	email := name + "@" + owner + ".example"
	b.want("POST", "/signin", url.Values{"email": {email}, "password": {"secret"}}, 303, "/developers/")
	b.form = url.Values{"as": {email}, "for": {owner}}
}

var newKey = url.Values{"name": {"CI"}, "scope": {"documents.read"}, "expires": {"never"}, "once": {"x"}}

func TestNotSignedIn(t *testing.T) {
	s := newSite(t, time.Hour)
	b := s.browser()
	b.want("GET", "/developers/", nil, 303, "/signin")
	b.want("POST", "/developers/keys/new", newKey, 303, "/signin")
	b.want("POST", "/signin", url.Values{"email": {"ada@acme.example"}, "password": {"guess"}}, 401, "wrong")
	b.want("GET", "/developers/", nil, 303, "/signin")
	b.want("GET", "/signin", nil, 200, "Password")
}

func TestSignedIn(t *testing.T) {
	s := newSite(t, time.Hour)
	own, others := s.key("acme"), s.key("globex")
	b := s.browser()
	b.signIn("ada", "acme")
	b.want("GET", "/developers/", nil, 200, "ada@acme.example for acme")
	b.want("GET", "/developers/keys/"+own, nil, 200, "Backend")
	b.want("GET", "/developers/keys/"+others, nil, 404, "There is no such key")
	b.want("POST", "/developers/keys/"+others+"/revoke", url.Values{"also": {"only"}}, 404, "There is no such key")
	b.want("POST", "/developers/keys/new", newKey, 200, "Save your key")
	b.want("POST", "/signout", nil, 303, "/signin")
	b.want("GET", "/developers/", nil, 303, "/signin")
}

func TestReadOnly(t *testing.T) {
	s := newSite(t, time.Hour)
	b := s.browser()
	b.signIn("rita", "acme")
	b.want("GET", "/developers/keys/"+s.key("acme"), nil, 200, "Read only")
	b.want("POST", "/developers/keys/new", newKey, 403, "You can only look")
}

// TestOtherUser checks a form that was opened before somebody else signed in, in
// the same browser.
func TestOtherUser(t *testing.T) {
	s := newSite(t, time.Hour)
	b := s.browser()
	b.signIn("ada", "acme")
	form := b.form
	b.signIn("bob", "globex")
	b.form = form
	b.want("POST", "/developers/keys/new", newKey, 409, "You are now signed in as somebody else")
}

func TestFreshSignIn(t *testing.T) {
	s := newSite(t, 0) // never fresh
	b := s.browser()
	b.signIn("ada", "acme")
	b.want("GET", "/developers/", nil, 200, "ada@acme.example")
	b.want("POST", "/developers/keys/new", newKey, 403, `href="/signin"`)
	b.want("POST", "/developers/keys/new", newKey, 403, `value="CI"`) // what was typed stays
	b.want("POST", "/developers/keys/"+s.key("acme")+"/disable", nil, 303, "notice=disabled")
}

func TestAccountIsClosed(t *testing.T) {
	s := newSite(t, time.Hour)
	b := s.browser()
	b.signIn("ada", "acme")
	s.users.change(func() { s.users.outage = true })
	b.want("GET", "/developers/", nil, 503, "Try again")
	s.users.change(func() { s.users.outage = false; delete(s.users.byID, "ada") })
	b.want("GET", "/developers/", nil, 303, "/signin")
}
