package handlertests_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/examples/recipes/handlertests"
	"github.com/insigner/auth/keyring"
)

// A handler needs no key in its test.
func TestList(t *testing.T) {
	r := httptest.NewRequest("GET", "/documents", nil)
	w := httptest.NewRecorder()
	handlertests.List(w, authtest.WithScopes(r, "documents.read"))
	if want := "the documents of org_test"; w.Body.String() != want {
		t.Errorf("the body is %q, want %q", w.Body, want)
	}
}

// A record of its own says more than scopes: an owner, metadata, an expiry.
func TestListOfOwner(t *testing.T) {
	ctx := authtest.NewContext(t.Context(), auth.Record{Owner: "org_7", Scopes: auth.Scopes{"documents.*"}})
	r := httptest.NewRequestWithContext(ctx, "GET", "/documents", nil)
	w := httptest.NewRecorder()
	handlertests.List(w, r)
	if want := "the documents of org_7, which may be deleted"; w.Body.String() != want {
		t.Errorf("the body is %q, want %q", w.Body, want)
	}
}

// A route that is wrapped by auth.Require needs no key either.
func TestRemoveRequiresScope(t *testing.T) {
	route := auth.Require("documents.delete")(http.HandlerFunc(handlertests.Remove))
	for _, c := range []struct {
		scope auth.Scope
		want  int
	}{
		{"documents.delete", 204},
		{"documents.read", 403},
	} {
		r := httptest.NewRequest("DELETE", "/documents/1", nil)
		w := httptest.NewRecorder()
		route.ServeHTTP(w, authtest.WithScopes(r, c.scope))
		if w.Code != c.want {
			t.Errorf("with %s: status %d, want %d", c.scope, w.Code, c.want)
		}
	}
}

// The whole API needs a key, since its Authenticator accepts nothing else.
func TestApp(t *testing.T) {
	store := new(keyring.MemoryStore)
	server := httptest.NewServer(handlertests.NewApp(store))
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/documents", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := server.Client().Do(authtest.WithKey(r, authtest.NewKey(t, store, "documents.read")))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("status %d, want %d", response.StatusCode, http.StatusOK)
	}
}

// A key without scopes opens nothing.
func TestEveryRouteRequiresScope(t *testing.T) {
	store := new(keyring.MemoryStore)
	var patterns []string
	for _, route := range handlertests.Routes {
		patterns = append(patterns, route.Pattern)
	}
	authtest.CheckRoutes(t, handlertests.NewApp(store), authtest.NewKey(t, store), patterns...)
}
