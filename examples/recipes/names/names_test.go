package names_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/examples/recipes/internal/try"
	"github.com/insigner/auth/examples/recipes/names"
	"github.com/insigner/auth/keyring"
)

var scheme = names.Scheme([]byte("0123456789abcdef0123456789abcdef"))

func TestKeys(t *testing.T) {
	store := new(keyring.MemoryStore)
	_, key, err := names.NewManager(store, scheme).Unconfined("test").Create(t.Context(), keyring.Spec{
		Name: "key", Owner: "org_1", Scopes: auth.Scopes{"orders:*"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(key.Reveal(), "acme_live_") {
		t.Errorf("the key is %v, want one that starts with acme_live_", key)
	}
	url := try.Server(t, names.NewApp(store, scheme)) + "/orders"
	if got := try.Send(t, "GET", url, try.Bearer(key)); got.Status != 200 {
		t.Errorf("status %d, want 200", got.Status)
	}
	// Keys of the default Scheme, and of one with another pepper.
	for want, other := range map[string]auth.Key{
		"INVALID_FORMAT": auth.Scheme{}.NewKey(),
		"INVALID_KEY":    scheme.NewKey(),
	} {
		if got := try.Send(t, "GET", url, try.Bearer(other)); got.Code() != want {
			t.Errorf("for %v the code is %q, want %q", other, got.Code(), want)
		}
	}
}

func TestRefusal(t *testing.T) {
	got := try.Send(t, "GET", try.Server(t, names.NewApp(new(keyring.MemoryStore), scheme))+"/orders", nil)
	if challenge := got.Header.Get("WWW-Authenticate"); challenge != `Bearer realm="Acme"` {
		t.Errorf("WWW-Authenticate is %q, want one of the realm Acme", challenge)
	}
	var problem auth.Problem
	if err := json.Unmarshal([]byte(got.Body), &problem); err != nil {
		t.Fatal(err)
	}
	if want := "https://developers.acme.example/problems/unauthorized"; problem.Type != want {
		t.Errorf("the type is %q, want %q", problem.Type, want)
	}
}

func TestCatalog(t *testing.T) {
	store := new(keyring.MemoryStore)
	_, _, err := names.NewManager(store, scheme).Unconfined("test").Create(t.Context(), keyring.Spec{
		Name: "key", Owner: "org_1", Scopes: auth.Scopes{"orders:raed"},
	})
	if err == nil {
		t.Error("a key with an unlisted scope is created")
	}
	defer func() {
		if text := fmt.Sprint(recover()); !strings.Contains(text, "orders:raed") {
			t.Errorf("Require of an unlisted scope: the panic is %q, want one that names it", text)
		}
	}()
	auth.New(store, &auth.Options{Scheme: scheme}).Require("orders:raed")
}
