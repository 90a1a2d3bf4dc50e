package echo_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/examples/recipes/echo"
	"github.com/insigner/auth/examples/recipes/internal/try"
	"github.com/insigner/auth/keyring"
)

func TestRoutes(t *testing.T) {
	store := new(keyring.MemoryStore)
	reader := authtest.NewKey(t, store, "documents.read")
	url := try.Server(t, echo.NewApp(store))
	var none auth.Key
	for _, c := range []struct {
		name, route string
		key         auth.Key
		status      int
		code        string
	}{
		{"the scope", "GET /api/documents", reader, 200, ""},
		{"another scope", "DELETE /api/documents/1", reader, 403, "INSUFFICIENT_SCOPE"},
		{"that scope", "DELETE /api/documents/1", authtest.NewKey(t, store, "documents.*"), 204, ""},
		{"no key", "GET /api/documents", none, 401, "MISSING_KEY"},
		{"an unknown key", "GET /api/documents", auth.Scheme{}.NewKey(), 401, "INVALID_KEY"},
		{"public", "GET /health", none, 204, ""},
	} {
		method, path, _ := strings.Cut(c.route, " ")
		got := try.Send(t, method, url+path, try.Bearer(c.key))
		if got.Status != c.status {
			t.Errorf("%s: %s: status %d, want %d", c.name, c.route, got.Status, c.status)
		}
		if got.Code() != c.code {
			t.Errorf("%s: %s: code %q, want %q", c.name, c.route, got.Code(), c.code)
		}
	}
}

func TestHandlerSeesKey(t *testing.T) {
	store := new(keyring.MemoryStore)
	url := try.Server(t, echo.NewApp(store)) + "/api/documents"
	got := try.Send(t, "GET", url, try.Bearer(authtest.NewKey(t, store, "documents.read")))
	if want := "the documents of org_test"; got.Body != want {
		t.Errorf("the body is %q, want %q", got.Body, want)
	}
}

func TestRefusalIsWholeAnswer(t *testing.T) {
	store := new(keyring.MemoryStore)
	url := try.Server(t, echo.NewApp(store)) + "/api/documents/1"
	got := try.Send(t, "DELETE", url, try.Bearer(authtest.NewKey(t, store)))
	if got.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("Content-Type is %q, want application/problem+json", got.Header.Get("Content-Type"))
	}
	if !strings.HasSuffix(got.Body, "}\n") {
		t.Errorf("the body is %q, want only a problem", got.Body)
	}
}

func TestPatternIsSeenOutside(t *testing.T) {
	store := new(keyring.MemoryStore)
	r := authtest.WithKey(httptest.NewRequest("GET", "/api/documents", nil), authtest.NewKey(t, store, "documents.read"))
	echo.NewApp(store).ServeHTTP(httptest.NewRecorder(), r)
	if !strings.HasSuffix(r.Pattern, "/api/documents") {
		t.Errorf("after the request its Pattern is %q, want one of /api/documents", r.Pattern)
	}
}

func TestEveryRouteRequiresScope(t *testing.T) {
	store := new(keyring.MemoryStore)
	authtest.CheckRoutes(t, echo.NewApp(store), authtest.NewKey(t, store),
		"GET /api/documents", "DELETE /api/documents/{id}")
}
