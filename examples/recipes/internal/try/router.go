package try

import (
	"net/http"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/keyring"
)

// Router tests the app of a recipe for a router. It has GET /api/documents, DELETE
// of one, and a public GET /health.
func Router(t *testing.T, newApp func(store auth.Store) http.Handler) {
	store := new(keyring.MemoryStore)
	app := newApp(store)
	url := Server(t, app)
	reader := authtest.NewKey(t, store, "documents.read")
	weak := authtest.NewKey(t, store)

	t.Run("routes", func(t *testing.T) {
		Check(t, url, Cases{
			{"the scope", "GET /api/documents", reader, 200, ""},
			{"another scope", "DELETE /api/documents/1", reader, 403, "INSUFFICIENT_SCOPE"},
			{"that scope", "DELETE /api/documents/1", authtest.NewKey(t, store, "documents.*"), 204, ""},
			{"no key", "GET /api/documents", auth.Key{}, 401, "MISSING_KEY"},
			{"an unknown key", "GET /api/documents", auth.Scheme{}.NewKey(), 401, "INVALID_KEY"},
			{"public", "GET /health", auth.Key{}, 204, ""},
		})
	})
	t.Run("handler sees key", func(t *testing.T) {
		got := Send(t, "GET", url+"/api/documents", Bearer(reader))
		if want := "the documents of org_test"; strings.TrimSpace(got.Body) != want {
			t.Errorf("the body is %q, want %q", got.Body, want)
		}
	})
	t.Run("refusal is whole answer", func(t *testing.T) {
		got := Send(t, "DELETE", url+"/api/documents/1", Bearer(weak))
		if kind := got.Header.Get("Content-Type"); kind != "application/problem+json" {
			t.Errorf("Content-Type is %q, want application/problem+json", kind)
		}
		if !strings.HasSuffix(got.Body, "}\n") {
			t.Errorf("the body is %q, want only a problem", got.Body)
		}
	})
	t.Run("every route requires a scope", func(t *testing.T) {
		authtest.CheckRoutes(t, app, weak, "GET /api/documents", "DELETE /api/documents/{id}")
	})
}
