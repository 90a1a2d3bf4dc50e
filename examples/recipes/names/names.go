// Package names shows an API with names of its own.
package names

import (
	"fmt"
	"net/http"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// Scheme describes the keys of the Acme API. What checks keys and what creates
// them both use it. The pepper is a secret of 32 random bytes.
func Scheme(pepper []byte) auth.Scheme {
	return auth.Scheme{
		Prefix:  "acme_live_",
		Hashers: []auth.Hasher{auth.BLAKE2b(pepper)},
		Catalog: auth.Catalog{
			{Scope: "orders:*", Description: "Full access to orders"},
			{Scope: "*", Description: "Full access"},
			{Scope: "orders:read", Description: "List and retrieve orders"},
			{Scope: "orders:write", Description: "Create and change orders"},
			{Scope: "admin", Description: "Manage the account"},
		},
	}
}

// NewManager returns the Manager of the keys.
func NewManager(store keyring.Store, scheme auth.Scheme) *keyring.Manager {
	return keyring.NewManager(store, &keyring.Options{Scheme: scheme})
}

// NewApp returns the API.
func NewApp(store auth.Store, scheme auth.Scheme) http.Handler {
	a := auth.New(store, &auth.Options{
		Scheme:      scheme,
		Realm:       "Acme",
		ProblemBase: "https://developers.acme.example/problems/",
	})
	mux := http.NewServeMux()
	mux.Handle("GET /orders", a.Require("orders:read")(http.HandlerFunc(list)))
	return mux
}

func list(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "the orders") }
