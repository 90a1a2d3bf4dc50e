package chi_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	framework "github.com/go-chi/chi/v5"

	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/examples/recipes/chi"
	"github.com/insigner/auth/examples/recipes/internal/try"
	"github.com/insigner/auth/keyring"
)

func TestRouter(t *testing.T) { try.Router(t, chi.NewApp) }

// TestPatternIsSeenOutside checks what an access log in the router sees. What is
// outside the router sees no pattern, with or without keys.
func TestPatternIsSeenOutside(t *testing.T) {
	store := new(keyring.MemoryStore)
	var pattern string
	router := framework.NewRouter()
	router.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r)
			pattern = r.Pattern
		})
	})
	router.Mount("/", chi.NewApp(store))
	r := authtest.WithKey(httptest.NewRequest("GET", "/api/documents", nil), authtest.NewKey(t, store, "documents.read"))
	router.ServeHTTP(httptest.NewRecorder(), r)
	if pattern != "/api/documents" {
		t.Errorf("after the request its Pattern is %q, want %q", pattern, "/api/documents")
	}
}
