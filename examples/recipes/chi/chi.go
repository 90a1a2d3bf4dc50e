// Package chi shows an API built with chi.
package chi

import (
	"fmt"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/insigner/auth"
)

// NewApp returns an API whose routes require scopes.
func NewApp(store auth.Store) http.Handler {
	a := auth.New(store, nil)
	router := chi.NewRouter()
	router.Get("/health", noContent)

	router.Route("/api", func(api chi.Router) {
		api.Use(a.Middleware)
		api.With(auth.Require("documents.read")).Get("/documents", list)
		api.With(auth.Require("documents.delete")).Delete("/documents/{id}", noContent)
	})
	return router
}

func list(w http.ResponseWriter, r *http.Request) {
	key, _ := auth.FromContext(r.Context())
	fmt.Fprint(w, "the documents of ", key.Owner)
}

func noContent(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }
