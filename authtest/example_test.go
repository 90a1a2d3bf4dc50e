package authtest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/keyring"
)

// routes is the one list from which an application registers its routes and its
// test checks them.
var routes = []struct {
	pattern string
	scope   auth.Scope
	handler http.HandlerFunc
}{
	{"GET /api/v1/documents", "documents.read", listDocuments},
	{"DELETE /api/v1/documents/{id}", "documents.delete", deleteDocument},
}

func newApp(store auth.Store) http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.Handle(r.pattern, auth.Require(r.scope)(r.handler))
	}
	return auth.New(store, nil).Middleware(mux)
}

func listDocuments(w http.ResponseWriter, r *http.Request) {
	record, _ := auth.FromContext(r.Context())
	fmt.Fprintln(w, "documents of", record.Owner)
}

func deleteDocument(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

// A handler wrapped by auth.Require is tested without a key.
func ExampleWithScopes() {
	handler := auth.Require("documents.read")(http.HandlerFunc(listDocuments))

	for _, scope := range []auth.Scope{"documents.read", "templates.read"} {
		r := httptest.NewRequest("GET", "/api/v1/documents", nil)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, authtest.WithScopes(r, scope))
		fmt.Println(w.Code)
	}
	// Output:
	// 200
	// 403
}

// A handler that uses more of the record than its scopes gets a record.
func ExampleNewContext() {
	record := auth.Record{ID: "key_1", Owner: "org_acme", Scopes: auth.Scopes{"documents.read"}}

	r := httptest.NewRequest("GET", "/api/v1/documents", nil)
	r = r.WithContext(authtest.NewContext(r.Context(), record))
	w := httptest.NewRecorder()
	auth.Require("documents.read")(http.HandlerFunc(listDocuments)).ServeHTTP(w, r)
	fmt.Print(w.Body)
	// Output: documents of org_acme
}

// A whole application is tested with a key.
func ExampleNewKey() {
	_ = func(t *testing.T) { // TestListDocuments
		store := new(keyring.MemoryStore)
		app := newApp(store)
		key := authtest.NewKey(t, store, "documents.read")

		r := httptest.NewRequest("GET", "/api/v1/documents", nil)
		w := httptest.NewRecorder()
		app.ServeHTTP(w, authtest.WithKey(r, key))
		if w.Code != http.StatusOK {
			t.Errorf("got status %d, want 200: %s", w.Code, w.Body)
		}
	}
}

// A forgotten Require is found.
func ExampleCheckRoutes() {
	_ = func(t *testing.T) { // TestRoutes
		store := new(keyring.MemoryStore)
		var patterns []string
		for _, r := range routes {
			patterns = append(patterns, r.pattern)
		}
		authtest.CheckRoutes(t, newApp(store), authtest.NewKey(t, store), patterns...)
	}
}

// A store whose owners are the customers of a database.
func ExampleTestStoreWith() {
	_ = func(t *testing.T) { // TestStore
		newStore := func(t *testing.T) keyring.Store { return newTable() }
		authtest.TestStoreWith(t, newStore, &authtest.StoreOptions{
			NewOwner: func(t *testing.T, store keyring.Store) string {
				return insertCustomer(t, store)
			},
		})
	}
}

// What the examples show must be true.
func TestExamples(t *testing.T) {
	store := new(keyring.MemoryStore)
	for _, r := range routes {
		authtest.CheckRoutes(t, newApp(store), authtest.NewKey(t, store), r.pattern)
	}
	r := httptest.NewRequest("GET", "/api/v1/documents", nil)
	w := answer(newApp(store), authtest.WithKey(r, authtest.NewKey(t, store, "documents.read")))
	if got, want := w.Body.String(), "documents of org_test\n"; got != want {
		t.Errorf("got body %q, want %q", got, want)
	}
}
