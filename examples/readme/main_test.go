package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
)

func TestList(t *testing.T) {
	r := httptest.NewRequest("GET", "/api/v1/documents", nil)
	w := httptest.NewRecorder()
	list(w, authtest.WithScopes(r, "documents.read"))
	if w.Code != http.StatusOK || w.Body.String() != "the documents of org_test\n" {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestEveryRouteRequiresAScope(t *testing.T) {
	store := new(auth.MemoryStore)
	authtest.CheckRoutes(t, newApp(store), authtest.NewKey(t, store),
		"GET /api/v1/documents",
		"DELETE /api/v1/documents/{id}",
	)
}
