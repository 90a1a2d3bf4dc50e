package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/keyring"
)

func TestList(t *testing.T) {
	r := httptest.NewRequest("GET", "/api/v1/documents", nil)
	w := httptest.NewRecorder()
	list(w, authtest.WithScopes(r, "documents.read"))
	if got, want := w.Body.String(), "the documents of org_test\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEveryRouteRequiresAScope(t *testing.T) {
	store := new(keyring.MemoryStore)
	authtest.CheckRoutes(t, newApp(store), authtest.NewKey(t, store),
		"GET /api/v1/documents",
		"DELETE /api/v1/documents/{id}",
	)
}

func TestRemove(t *testing.T) {
	w := httptest.NewRecorder()
	remove(w, httptest.NewRequest("DELETE", "/api/v1/documents/1", nil))
	if w.Code != http.StatusNoContent {
		t.Errorf("status %d, want 204", w.Code)
	}
}
