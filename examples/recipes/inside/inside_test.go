package inside_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/examples/recipes/inside"
	"github.com/insigner/auth/examples/recipes/internal/try"
	"github.com/insigner/auth/keyring"
)

func suspended(_ context.Context, owner string) (bool, error) {
	if owner == "outage" {
		return false, errors.New("the database of the accounts is down")
	}
	return owner == "suspended", nil
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		name, list, client string
		want               int
	}{
		{"in the network", "192.0.2.0/24", "192.0.2.7:1234", 200},
		{"outside it", "192.0.2.0/24", "192.0.3.7:1234", 403},
		{"in the second network", "198.51.100.0/24 192.0.2.7/32", "192.0.2.7:1234", 200},
		{"IPv6", "2001:db8::/32", "[2001:db8::1]:1234", 200},
		{"IPv6 with a zone", "fe80::/10", "[fe80::1%eth0]:1234", 200},
		{"IPv4 in IPv6", "192.0.2.0/24", "[::ffff:192.0.2.7]:1234", 200},
		{"an empty list", "", "192.0.2.7:1234", 403},
		{"a list that cannot be read", "192.0.2.0", "192.0.2.0:1234", 403},
		{"one entry that cannot be read", "all 192.0.2.0/24", "192.0.2.7:1234", 200},
		{"a client without an address", "0.0.0.0/0 ::/0", "@", 403},
	} {
		store := new(keyring.MemoryStore)
		_, key, err := keyring.NewManager(store, nil).Unconfined("test").Create(t.Context(), keyring.Spec{
			Name:     "limited",
			Owner:    "org_1",
			Scopes:   auth.Scopes{"documents.read"},
			Metadata: map[string]string{"addresses": c.list},
		})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		r := authtest.WithKey(httptest.NewRequest("GET", "/documents", nil), key)
		r.RemoteAddr = c.client
		w := httptest.NewRecorder()
		inside.NewApp(store, suspended).ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: status %d, want %d", c.name, w.Code, c.want)
		}
	}
}

func TestOwners(t *testing.T) {
	store := new(keyring.MemoryStore)
	url := try.Server(t, inside.NewApp(store, suspended)) + "/documents"
	for _, c := range []struct {
		owner  string
		scopes auth.Scopes
		status int
		code   string
	}{
		{"org_1", auth.Scopes{"documents.read"}, 200, ""},
		{"org_1", nil, 403, "INSUFFICIENT_SCOPE"},
		{"suspended", auth.Scopes{"*"}, 403, "ACCOUNT_SUSPENDED"},
		{"outage", auth.Scopes{"*"}, 503, "ACCOUNTS_UNAVAILABLE"},
	} {
		_, key, err := keyring.NewManager(store, nil).Unconfined("test").Create(t.Context(), keyring.Spec{
			Name: "key", Owner: c.owner, Scopes: c.scopes,
		})
		if err != nil {
			t.Fatal(err)
		}
		got := try.Send(t, "GET", url, try.Bearer(key))
		if got.Status != c.status {
			t.Errorf("%s with %v: status %d, want %d", c.owner, c.scopes, got.Status, c.status)
		}
		if got.Code() != c.code {
			t.Errorf("%s with %v: code %q, want %q", c.owner, c.scopes, got.Code(), c.code)
		}
	}
}

// TestOwnProblem checks that a problem of the host has no challenge, since no
// other key would help.
func TestOwnProblem(t *testing.T) {
	store := new(keyring.MemoryStore)
	_, key, err := keyring.NewManager(store, nil).Unconfined("test").Create(t.Context(), keyring.Spec{
		Name: "key", Owner: "suspended", Scopes: auth.Scopes{"*"},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := try.Send(t, "GET", try.Server(t, inside.NewApp(store, suspended))+"/documents", try.Bearer(key))
	if challenge := got.Header.Get("WWW-Authenticate"); challenge != "" {
		t.Errorf("WWW-Authenticate is %q, want none", challenge)
	}
	if kind := got.Header.Get("Content-Type"); kind != "application/problem+json" {
		t.Errorf("Content-Type is %q, want application/problem+json", kind)
	}
}

func TestWithoutKey(t *testing.T) {
	url := try.Server(t, inside.NewApp(new(keyring.MemoryStore), func(context.Context, string) (bool, error) {
		t.Error("the owner is asked for without a key")
		return false, nil
	}))
	if got := try.Send(t, "GET", url+"/documents", http.Header{}); got.Status != 401 {
		t.Errorf("status %d, want 401", got.Status)
	}
}
