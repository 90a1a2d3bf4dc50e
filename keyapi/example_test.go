package keyapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
)

// The first key comes from a script or from a page. It manages the others.
func Example() {
	scheme := auth.Scheme{Catalog: auth.PublishedCatalog()}
	store := new(keyring.MemoryStore) // or one of module sqlstore
	manager := keyring.NewManager(store, &keyring.Options{Scheme: scheme})
	a := auth.New(store, &auth.Options{Scheme: scheme})

	mux := http.NewServeMux()
	keys := a.Middleware(http.StripPrefix("/api/v1/keys", keyapi.New(manager, nil)))
	mux.Handle("/api/v1/keys", keys)
	mux.Handle("/api/v1/keys/", keys)

	_, first, err := manager.Unconfined("setup").Create(context.Background(), keyring.Spec{
		Name:   "First key",
		Owner:  "acme",
		Scopes: auth.Scopes{"*"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	r := httptest.NewRequest("POST", "/api/v1/keys", strings.NewReader(`{"name":"Backend","scopes":["documents.read"]}`))
	r.Header.Set("Authorization", "Bearer "+first.Reveal())
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)

	var created struct{ Name, Owner, Key string }
	if err := json.NewDecoder(w.Body).Decode(&created); err != nil {
		fmt.Println(err)
	}
	fmt.Println(w.Code, created.Name, created.Owner, strings.HasPrefix(created.Key, "isk_"))
	// Output: 201 Backend acme true
}

// Users who are signed in manage the keys of their organization, too.
func ExampleOptions_actor() {
	manager := keyring.NewManager(new(keyring.MemoryStore), nil)
	user := func(r *http.Request) (name, organization string, err error) { // by the session of the host
		return "ada@acme.example", "acme", nil
	}

	keys := http.StripPrefix("/keys", keyapi.New(manager, &keyapi.Options{
		Actor: func(r *http.Request) (keyring.Actor, error) {
			name, organization, err := user(r)
			if err != nil {
				return keyring.Actor{}, &auth.Problem{Status: http.StatusUnauthorized, Title: "Sign in first"}
			}
			return keyring.Actor{Name: name, Owner: organization, Scopes: auth.Scopes{"documents.*"}}, nil
		},
	}))
	http.Handle("/keys", keys)
	http.Handle("/keys/", keys)
}

// An endpoint of the host that uses a Keyring answers its errors as this API
// does.
func ExampleProblemFor() {
	p := keyapi.ProblemFor(fmt.Errorf("renew the key: %w", keyring.ErrRotated))
	fmt.Println(p.Status, p.Code)

	p = keyapi.ProblemFor(errors.New("dial tcp 10.0.0.7:5432: connection refused"))
	fmt.Println(p.Status, p.Detail)
	// Output:
	// 409 KEY_ROTATED
	// 503 The keys could not be reached; try again later
}
