package session_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/examples/recipes/internal/try"
	"github.com/insigner/auth/examples/recipes/session"
	"github.com/insigner/auth/keyring"
)

var users = map[string]*session.User{
	"ada":   {ID: "1", Name: "Ada", Org: "org_1", Scopes: auth.Scopes{"documents.*"}, Until: time.Now().Add(time.Hour)},
	"guest": {ID: "2", Name: "Guest", Org: "org_1", Until: time.Now().Add(time.Hour)},
	"late":  {ID: "3", Name: "Late", Org: "org_1", Scopes: auth.Scopes{"*"}, Until: time.Now().Add(-time.Hour)},
}

// userOf takes the value of a cookie for a session of the user with that name.
func userOf(r *http.Request) (*session.User, error) {
	cookie, err := r.Cookie("session")
	if err != nil {
		return nil, nil
	}
	if cookie.Value == "outage" {
		return nil, errors.New("the database of the sessions is down")
	}
	return users[cookie.Value], nil
}

func TestSessionOrKey(t *testing.T) {
	store := new(keyring.MemoryStore)
	reader := "Bearer " + authtest.NewKey(t, store, "documents.read").Reveal()
	creator := "Bearer " + authtest.NewKey(t, store, "documents.create").Reveal()
	unknown := "Bearer " + auth.Scheme{}.NewKey().Reveal()
	url := try.Server(t, session.NewApp(store, userOf)) + "/documents"
	const cross = "cross-site"
	for _, c := range []struct {
		name, method, session, key, site string
		status                           int
		code                             string
	}{
		{"neither", "GET", "", "", "", 401, "MISSING_KEY"},
		{"a session", "GET", "ada", "", "", 200, ""},
		{"a session that has no scopes", "GET", "guest", "", "", 403, "INSUFFICIENT_SCOPE"},
		{"a session that is over", "GET", "late", "", "", 401, "KEY_EXPIRED"},
		{"an unknown session", "GET", "eve", "", "", 401, "MISSING_KEY"},
		{"sessions that cannot be read", "GET", "outage", "", "", 500, "INTERNAL_ERROR"},
		{"a key", "GET", "", reader, "", 200, ""},
		{"a key without the scope", "GET", "", creator, "", 403, "INSUFFICIENT_SCOPE"},
		{"a key decides, not the session", "GET", "ada", unknown, "", 401, "INVALID_KEY"},
		{"a key needs no sessions", "GET", "outage", reader, "", 200, ""},
		{"another scheme is no key", "GET", "ada", "Basic YTpi", "", 200, ""},
		{"a session, from our page", "POST", "ada", "", "same-origin", 201, ""},
		{"a session, from another site", "POST", "ada", "", cross, 403, "CROSS_ORIGIN"},
		{"a key, from another site", "POST", "", creator, cross, 201, ""},
		{"reading, from another site", "GET", "ada", "", cross, 200, ""},
	} {
		h := try.Header("Cookie", "session="+c.session)
		for name, value := range map[string]string{"Authorization": c.key, "Sec-Fetch-Site": c.site} {
			if value != "" {
				h.Set(name, value)
			}
		}
		got := try.Send(t, c.method, url, h)
		if got.Status != c.status {
			t.Errorf("%s: status %d, want %d", c.name, got.Status, c.status)
		}
		if got.Code() != c.code {
			t.Errorf("%s: code %q, want %q", c.name, got.Code(), c.code)
		}
		if vary := got.Header.Get("Vary"); vary != "Cookie" {
			t.Errorf("%s: Vary is %q, want Cookie", c.name, vary)
		}
	}
}

func TestHandlerSeesUser(t *testing.T) {
	url := try.Server(t, session.NewApp(new(keyring.MemoryStore), userOf)) + "/documents"
	got := try.Send(t, "GET", url, try.Header("Cookie", "session=ada"))
	if want := "the documents of org_1 for Ada"; got.Body != want {
		t.Errorf("the body is %q, want %q", got.Body, want)
	}
	if cache := got.Header.Get("Cache-Control"); cache != "private" {
		t.Errorf("Cache-Control is %q, want private", cache)
	}
}

func TestPatternIsSeenOutside(t *testing.T) {
	app := session.NewApp(new(keyring.MemoryStore), userOf)
	r := httptest.NewRequest("GET", "/documents", nil)
	r.Header.Set("Cookie", "session=ada")
	app.ServeHTTP(httptest.NewRecorder(), r)
	if r.Pattern != "GET /documents" {
		t.Errorf("after the request its Pattern is %q, want %q", r.Pattern, "GET /documents")
	}
}
