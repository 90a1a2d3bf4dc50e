// Package handlertests shows an API and the tests of its handlers.
package handlertests

import (
	"fmt"
	"net/http"

	"github.com/insigner/auth"
)

// Routes are the routes of the API, in one list for the mux and for the tests.
var Routes = []struct {
	Pattern string
	Scope   auth.Scope
	Handler http.HandlerFunc
}{
	{"GET /documents", "documents.read", List},
	{"DELETE /documents/{id}", "documents.delete", Remove},
}

// NewApp returns the API.
func NewApp(store auth.Store) http.Handler {
	mux := http.NewServeMux()
	for _, route := range Routes {
		mux.Handle(route.Pattern, auth.Require(route.Scope)(route.Handler))
	}
	return auth.New(store, nil).Middleware(mux)
}

// List answers with the documents of the owner of the key.
func List(w http.ResponseWriter, r *http.Request) {
	key, _ := auth.FromContext(r.Context())
	fmt.Fprint(w, "the documents of ", key.Owner)
	if key.Scopes.Covers("documents.delete") {
		fmt.Fprint(w, ", which may be deleted")
	}
}

// Remove deletes a document.
func Remove(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }
