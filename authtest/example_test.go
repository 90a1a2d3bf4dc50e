package authtest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
)

// routes is the one list from which an application registers its routes and its test checks them.
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

// A handler behind auth.Require is tested without any key.
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

// A whole application is tested with a key.
func ExampleNewKey() {
	test := func(t *testing.T) {
		store := new(auth.MemoryStore)
		app := newApp(store)
		key := authtest.NewKey(t, store, "documents.read")

		r := httptest.NewRequest("GET", "/api/v1/documents", nil)
		w := httptest.NewRecorder()
		app.ServeHTTP(w, authtest.WithKey(r, key))
		if body, _ := io.ReadAll(w.Body); w.Code != http.StatusOK {
			t.Errorf("status %d: %s", w.Code, body)
		}
	}
	_ = test
}

// A forgotten Require shows.
func ExampleCheckRoutes() {
	test := func(t *testing.T) {
		store := new(auth.MemoryStore)
		var patterns []string
		for _, r := range routes {
			patterns = append(patterns, r.pattern)
		}
		authtest.CheckRoutes(t, newApp(store), authtest.NewKey(t, store), patterns...)
	}
	_ = test
}

func TestExamples(t *testing.T) {
	store := new(auth.MemoryStore)
	for _, r := range routes {
		authtest.CheckRoutes(t, newApp(store), authtest.NewKey(t, store), r.pattern)
	}
	w := answer(newApp(store), authtest.WithKey(httptest.NewRequest("GET", "/api/v1/documents", nil),
		authtest.NewKey(t, store, "documents.read")))
	if got := w.Body.String(); got != "documents of org_test\n" {
		t.Errorf("got %q", got)
	}
}
