package openapi_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/examples/recipes/internal/try"
	"github.com/insigner/auth/examples/recipes/openapi"
	"github.com/insigner/auth/keyring"
)

func TestOperations(t *testing.T) {
	store := new(keyring.MemoryStore)
	app, err := openapi.NewApp(store)
	if err != nil {
		t.Fatal(err)
	}
	url := try.Server(t, app)
	scopes := func(list ...auth.Scope) auth.Key { return authtest.NewKey(t, store, list...) }
	var none auth.Key
	try.Check(t, url, try.Cases{
		{"one scope", "GET /documents", scopes("documents.read"), 200, ""},
		{"a wildcard", "GET /documents", scopes("documents.*"), 200, ""},
		{"another scope", "GET /documents", scopes("documents.delete"), 403, "INSUFFICIENT_SCOPE"},
		{"no key", "GET /documents", none, 401, "MISSING_KEY"},
		{"an unknown key", "GET /documents", auth.Scheme{}.NewKey(), 401, "INVALID_KEY"},
		{"the first alternative", "DELETE /documents/1", scopes("documents.delete"), 204, ""},
		{"the second alternative", "DELETE /documents/1", scopes("documents.write", "org.admin"), 204, ""},
		{"half of the second alternative", "DELETE /documents/1", scopes("documents.write"), 403, "INSUFFICIENT_SCOPE"},
		{"the other half", "DELETE /documents/1", scopes("org.admin"), 403, "INSUFFICIENT_SCOPE"},
		{"neither alternative", "DELETE /documents/1", scopes("documents.read"), 403, "INSUFFICIENT_SCOPE"},
		{"alternatives, no key", "DELETE /documents/1", none, 401, "MISSING_KEY"},
		{"both scopes", "POST /documents/1/send", scopes("documents.write", "documents.send"), 204, ""},
		{"the first of both", "POST /documents/1/send", scopes("documents.write"), 403, "INSUFFICIENT_SCOPE"},
		{"the second of both", "POST /documents/1/send", scopes("documents.send"), 403, "INSUFFICIENT_SCOPE"},
		{"any key", "GET /account", scopes(), 200, ""},
		{"any key, but none", "GET /account", none, 401, "MISSING_KEY"},
		{"public", "GET /health", none, 204, ""},
		{"public, with a key", "GET /health", scopes(), 204, ""},
		{"public, with a key that is unknown", "GET /health", auth.Scheme{}.NewKey(), 401, "INVALID_KEY"},
	})
}

// TestOneDecision checks that a request which meets the second alternative is
// not counted as a refusal of the first.
func TestOneDecision(t *testing.T) {
	var steps []string
	store := new(keyring.MemoryStore)
	a := auth.New(store, &auth.Options{OnDecision: func(_ context.Context, d auth.Decision) {
		steps = append(steps, string(d.Step)+" "+d.Code)
	}})
	mux := http.NewServeMux()
	security := openapi.Security{"GET /": {{"a"}, {"b"}}}
	mux.Handle("GET /", security.Require(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	r := httptest.NewRequest("GET", "/", nil)
	a.Optional(mux).ServeHTTP(httptest.NewRecorder(), authtest.WithKey(r, authtest.NewKey(t, store, "b")))
	if got, want := strings.Join(steps, ","), "authenticate ,authorize "; got != want {
		t.Errorf("the decisions are %q, want %q", got, want)
	}
}

func TestUnknownOperationIsRefused(t *testing.T) {
	store := new(keyring.MemoryStore)
	mux := http.NewServeMux()
	mux.Handle("GET /forgotten", openapi.Security{}.Require(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the handler was reached")
	})))
	url := try.Server(t, auth.New(store, nil).Optional(mux))
	if got := try.Send(t, "GET", url+"/forgotten", try.Bearer(authtest.NewKey(t, store, "*"))); got.Status != 500 {
		t.Errorf("status %d, want 500", got.Status)
	}
}

func TestDocuments(t *testing.T) {
	const rest = `
openapi: 3.1.0
info: {title: t, version: "1"}
paths: {/a: {get: {responses: {"200": {description: d}}}}}
components: {securitySchemes: {apiKey: {type: http, scheme: bearer}, other: {type: http, scheme: basic}}}
`
	for _, c := range []struct{ name, security, want string }{
		{"good", "security: [{apiKey: [a.b]}]", ""},
		{"base", "security: [{apiKey: []}, {apiKey: ['*']}]", ""},
		{"none", "", "no security of its own"},
		{"empty", "security: []", "no security of its own"},
		{"an invalid scope", "security: [{apiKey: [a b]}]", "GET /v1/a: "},
		{"another scheme", "security: [{other: []}]", "GET /v1/a: "},
		{"two schemes at once", "security: [{apiKey: [a.b], other: []}]", "GET /v1/a: "},
		{"anybody", "security: [{}, {apiKey: [a.b]}]", "GET /v1/a: "},
	} {
		doc, err := openapi3.NewLoader().LoadFromData([]byte(c.security + rest))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		security, err := openapi.NewSecurity(doc, "apiKey", "/v1")
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if _, known := security["GET /v1/a"]; !known {
				t.Errorf("%s: the operation is not known", c.name)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: no error", c.name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the error is %q, want one with %q", c.name, err, c.want)
		}
	}
}
