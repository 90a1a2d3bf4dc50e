package oapicodegen_test

import (
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/examples/recipes/internal/try"
	"github.com/insigner/auth/examples/recipes/oapicodegen"
	"github.com/insigner/auth/keyring"
)

func TestOperations(t *testing.T) {
	store := new(keyring.MemoryStore)
	app, err := oapicodegen.NewApp(store)
	if err != nil {
		t.Fatal(err)
	}
	url := try.Server(t, app) + "/api/v1"
	scopes := func(list ...auth.Scope) auth.Key { return authtest.NewKey(t, store, list...) }
	var none auth.Key
	try.Check(t, url, try.Cases{
		{"the scope", "GET /documents", scopes("documents.read"), 200, ""},
		{"another scope", "GET /documents", scopes("documents.delete"), 403, "INSUFFICIENT_SCOPE"},
		{"no key", "GET /documents", none, 401, "MISSING_KEY"},
		{"an unknown key", "GET /documents", auth.Scheme{}.NewKey(), 401, "INVALID_KEY"},
		{"the first alternative", "DELETE /documents/1", scopes("documents.delete"), 204, ""},
		{"the second alternative", "DELETE /documents/1", scopes("documents.write", "org.admin"), 204, ""},
		{"half of an alternative", "DELETE /documents/1", scopes("org.admin"), 403, "INSUFFICIENT_SCOPE"},
		{"public", "GET /health", none, 204, ""},
		{"a wrong parameter", "GET /documents?limit=many", scopes("documents.read"), 400, ""},
	})
}

func TestHandlerSeesKey(t *testing.T) {
	store := new(keyring.MemoryStore)
	app, err := oapicodegen.NewApp(store)
	if err != nil {
		t.Fatal(err)
	}
	key := authtest.NewKey(t, store, "documents.read")
	got := try.Send(t, "GET", try.Server(t, app)+"/api/v1/documents", try.Bearer(key))
	if want := "[\"a document of org_test\"]\n"; got.Body != want {
		t.Errorf("the body is %q, want %q", got.Body, want)
	}
}
