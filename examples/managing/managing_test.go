package managing

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// A client is somebody with a key.
type client struct {
	app http.Handler
	key auth.Key
}

// call sends a request and returns the status and the decoded body.
func (c client) call(t *testing.T, method, path, body string) (int, map[string]any) {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+c.key.Reveal())
	w := httptest.NewRecorder()
	c.app.ServeHTTP(w, r)
	var answer map[string]any
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatalf("%s %s: the body is not JSON: %v", method, path, err)
		}
	}
	return w.Code, answer
}

// clients returns the clients of two owners, each with a key that manages keys.
func clients(t *testing.T) (acme, other client) {
	t.Helper()
	store := new(keyring.MemoryStore)
	manager := keyring.NewManager(store, nil)
	app := auth.New(store, nil).Middleware(API{manager}.Routes())
	var list [2]client
	for i, owner := range []string{"org_acme", "org_other"} {
		_, key, err := manager.Unconfined("test").Create(t.Context(), keyring.Spec{Name: "admin", Owner: owner,
			Scopes: auth.Scopes{"keys.*", "documents.read"}})
		if err != nil {
			t.Fatal(err)
		}
		list[i] = client{app, key}
	}
	return list[0], list[1]
}

func TestEndpoints(t *testing.T) {
	acme, other := clients(t)
	status, created := acme.call(t, "POST", "/keys", `{"name": "CI", "scopes": ["documents.read"]}`)
	if status != 201 {
		t.Fatalf("create: status %d, want 201", status)
	}
	id := created["id"].(string)
	if key, _ := created["key"].(string); !strings.HasPrefix(key, "isk_") {
		t.Error("create does not answer with a key")
	}
	for _, c := range []struct {
		name         string
		who          client
		method, path string
		body         string
		want         int
	}{
		{"scope that the key does not hold", acme, "POST", "/keys", `{"name": "CI", "scopes": ["documents.delete"]}`, 403},
		{"invalid scope", acme, "POST", "/keys", `{"name": "CI", "scopes": ["documents..read"]}`, 422},
		{"no name", acme, "POST", "/keys", `{"scopes": ["documents.read"]}`, 422},
		{"no JSON", acme, "POST", "/keys", `{`, 400},
		{"rotate another owner's key", other, "POST", "/keys/" + id + "/rotate", "", 404},
		{"revoke another owner's key", other, "DELETE", "/keys/" + id, "", 404},
		{"page after another owner's key", other, "GET", "/keys?cursor=" + id, "", 404},
		{"rotate", acme, "POST", "/keys/" + id + "/rotate", "", 201},
		{"rotate again", acme, "POST", "/keys/" + id + "/rotate", "", 409},
		{"revoke", acme, "DELETE", "/keys/" + id, "", 204},
		{"revoke again", acme, "DELETE", "/keys/" + id, "", 204},
		{"unknown key", acme, "DELETE", "/keys/none", "", 404},
	} {
		if status, _ := c.who.call(t, c.method, c.path, c.body); status != c.want {
			t.Errorf("%s: status %d, want %d", c.name, status, c.want)
		}
	}
}

func TestList(t *testing.T) {
	acme, other := clients(t)
	for range 60 {
		if status, _ := acme.call(t, "POST", "/keys", `{"name": "CI"}`); status != 201 {
			t.Fatalf("create: status %d, want 201", status)
		}
	}
	_, first := acme.call(t, "GET", "/keys", "")
	meta := first["meta"].(map[string]any)
	if meta["count"] != 50.0 {
		t.Errorf("the first page has %v keys, want 50", meta["count"])
	}
	cursor, _ := meta["nextCursor"].(string)
	_, second := acme.call(t, "GET", "/keys?cursor="+cursor, "")
	if got := second["meta"].(map[string]any); got["count"] != 11.0 {
		t.Errorf("the second page has %v keys, want 11", got["count"])
	}
	_, others := other.call(t, "GET", "/keys", "")
	if got := others["meta"].(map[string]any); got["count"] != 1.0 {
		t.Errorf("the other owner sees %v keys, want its own one", got["count"])
	}
}
