package keyapi_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
)

func TestMethodNotAllowed(t *testing.T) {
	c := newServer(t).client("acme", "*")
	allowed := make(map[string][]string)
	for _, rt := range keyapi.Routes() {
		allowed[rt[1]] = append(allowed[rt[1]], rt[0])
		if rt[0] == "GET" {
			allowed[rt[1]] = append(allowed[rt[1]], "HEAD")
		}
	}
	for pattern, methods := range allowed {
		path := strings.ReplaceAll(pattern, "{id}", c.id)
		slices.Sort(methods)
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get",
			"REVOKE"} {
			if slices.Contains(methods, method) {
				continue
			}
			r := httptest.NewRequest(method, prefix+path, nil)
			r.Header.Set("Authorization", "Bearer "+c.secret)
			w := httptest.NewRecorder()
			c.s.ServeHTTP(w, r)
			equal(t, method+" "+path+": status", w.Code, http.StatusMethodNotAllowed)
			equal(t, method+" "+path+": Allow", w.Header().Get("Allow"), strings.Join(methods, ", "))
			equal(t, method+" "+path+": Content-Type", w.Header().Get("Content-Type"), "application/problem+json")
		}
	}
}

func TestNotFound(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	key := c.create(`{"name":"key"}`)
	for _, path := range []string{
		"/" + key.id + "/rotate/x", "/self/x", "/" + key.id + "/delete", "/x/y", "/events/x", "/openapi.json/x",
		"/" + key.id + "%2frotate", "/%2f" + key.id, "/" + key.id + "%00", "/" + key.id + "%20", "/" + key.id + "%ff",
		"/%2e%2e", "/" + strings.ToUpper(key.id), "/" + key.id[:35], "/self/disable", "/%73elf/enable", "/*", "/%25",
		"/" + strings.Repeat("x", 5000),
	} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			a := c.do(method, path, "")
			if a.status != 404 && a.status != 405 {
				t.Errorf("%s %.100s: got status %d, want 404 or 405", method, path, a.status)
			}
		}
	}
	equal(t, "status of the key", c.do("GET", "/"+key.id, "").str("status"), "active")
	equal(t, "revision of the key", s.record(key.id).Revision, 1)
}

// The handler may be mounted without http.ServeMux, which cleans paths.
func TestOddPaths(t *testing.T) {
	s := newServer(t, actAs)
	h := keyapi.New(s.manager, &keyapi.Options{Actor: func(*http.Request) (keyring.Actor, error) {
		return keyring.Actor{Name: "ada", Owner: "acme"}, nil
	}})
	for _, c := range []struct {
		path string
		want int
	}{
		{"", 200}, {"/", 200}, {"/events", 200}, {"/events/", 200}, {"/%65vents", 200},
		{"//", 404}, {"///", 404}, {"//events", 404}, {"/events//", 404}, {"xevents", 404}, {"*", 404}, {"/./events", 404},
		{"/x/../events", 404},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path, r.URL.RawPath = c.path, ""
		if strings.Contains(c.path, "%") {
			r.URL.Path, r.URL.RawPath = "/events", c.path
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		equal(t, "status of "+c.path, w.Code, c.want)
	}
}

func TestTrailingSlash(t *testing.T) {
	c := newServer(t).client("acme", "*")
	key := c.create(`{"name":"key"}`)
	for _, path := range []string{"/self/", "/events/", "/scopes/", "/openapi.json/", "/" + key.id + "/",
		"/" + key.id + "/events/"} {
		c.do("GET", path, "").is(200)
	}
	c.do("POST", "/"+key.id+"/revoke/", "").is(200)
}

func TestHead(t *testing.T) {
	c := newServer(t).client("acme", "*")
	for _, path := range []string{"", "/" + c.id, "/events", "/self", "/scopes", "/openapi.json", "/unknown"} {
		get, head := c.do("GET", path, ""), c.do("HEAD", path, "")
		equal(t, head.what+": status", head.status, get.status)
		equal(t, head.what+": Content-Length", head.header.Get("Content-Length"), get.header.Get("Content-Length"))
		equal(t, head.what+": body", head.text, "")
	}
}

// A secret in the place of an ID is not passed on to the store, whose errors
// and logs would have it, nor is it in the answer.
func TestSecretInURL(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	s.store.get = func(id string) (*auth.Record, error) {
		contains(t, "ID that the store is asked for", id, "isk_", false)
		return s.store.MemoryStore.Get(t.Context(), id)
	}
	for _, rt := range keyapi.Routes() {
		if strings.Contains(rt[1], "{id}") {
			a := c.do(rt[0], strings.ReplaceAll(rt[1], "{id}", c.secret), "")
			a.refused(a.what, 404, "NOT_FOUND", "id")
			contains(t, "answer", a.text, c.secret, false)
		}
	}
	for _, query := range []string{"?q=" + c.secret, "?" + c.secret, "?" + c.secret + "=1", "?cursor=" + c.secret,
		"?limit=" + c.secret, "?status=" + c.secret} {
		a := c.do("GET", query, "").is(400)
		contains(t, "answer to "+query, a.text, c.secret, false)
	}
	for _, body := range []string{`{"` + c.secret + `":1}`, `{"name":"key","scopes":["` + c.secret + `**"]}`,
		`{"name":"key","expiresAt":"` + c.secret + `"}`, c.secret} {
		contains(t, "answer to "+body, c.do("POST", "", body).text, c.secret, false)
	}
	contains(t, "answer", c.do("POST", "", c.secret, "Content-Type", c.secret).text, c.secret, false)
	contains(t, "answer", c.do("PATCH", "/"+c.id, `{}`, "If-Match", c.secret).text, c.secret, false)
	contains(t, "log", s.log.String(), "isk_", false)
}

// A browser attaches a session to the request of another site. Bearer
// credentials it does not.
func TestCrossOrigin(t *testing.T) {
	s := newServer(t, actAs, func(o *keyapi.Options,
		_ *keyring.Options) {
		o.Origins = []string{"https://app.example.com"}
	})
	c := &client{s: s}
	id := c.create(`{"name":"key"}`).id
	for _, f := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"},
		{"Origin", "https://evil.example"}, {"Origin", "null"}} {
		for _, rt := range keyapi.Routes() {
			if rt[0] != "GET" {
				a := c.do(rt[0], strings.ReplaceAll(rt[1], "{id}", id), "", f...)
				a.refused(a.what, 403, "CROSS_ORIGIN", "Origin")
			}
		}
		c.do("GET", "/"+id, "", f...).is(200)
	}
	c.do("POST", "/"+id+"/disable", "", "Sec-Fetch-Site", "same-origin").is(200)
	c.do("POST", "/"+id+"/disable", "", "Sec-Fetch-Site", "cross-site", "Origin", "https://app.example.com").is(200)
	other := newServer(t).client("acme", "*")
	other.do("POST", "/"+other.id+"/disable", "", "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example").is(200)
}
