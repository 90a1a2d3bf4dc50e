package gin_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/examples/recipes/gin"
	"github.com/insigner/auth/examples/recipes/internal/try"
	"github.com/insigner/auth/keyring"
)

func TestRouter(t *testing.T) { try.Router(t, gin.NewApp) }

func TestPatternIsSeenOutside(t *testing.T) {
	store := new(keyring.MemoryStore)
	r := authtest.WithKey(httptest.NewRequest("GET", "/api/documents", nil), authtest.NewKey(t, store, "documents.read"))
	gin.NewApp(store).ServeHTTP(httptest.NewRecorder(), r)
	if !strings.HasSuffix(r.Pattern, "/api/documents") {
		t.Errorf("after the request its Pattern is %q, want one of /api/documents", r.Pattern)
	}
}
