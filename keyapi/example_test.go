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
	keys := http.StripPrefix("/api/v1/keys", keyapi.New(manager, nil))
	mux.Handle("/api/v1/keys", keys)
	mux.Handle("/api/v1/keys/", keys)
	api := a.Middleware(mux)

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
	api.ServeHTTP(w, r)

	var created struct{ Name, Owner, Key string }
	if err := json.NewDecoder(w.Body).Decode(&created); err != nil {
		fmt.Println(err)
	}
	fmt.Println(w.Code, created.Name, created.Owner, strings.HasPrefix(created.Key, "isk_"))
	// Output: 201 Backend acme true
}

// Users who are signed in manage the keys of their organization, and so do keys
// with the scope "*". Wrap both with Optional: Middleware refuses a request
// without a key, and a session has none.
func ExampleOptions_actor() {
	store := new(keyring.MemoryStore)
	manager := keyring.NewManager(store, nil)
	a := auth.New(store, nil)
	userOf := func(r *http.Request) (*user, error) { return nil, nil } // by the session of the host

	bySession := keyapi.New(manager, &keyapi.Options{
		Actor: func(r *http.Request) (keyring.Actor, error) {
			user, err := userOf(r)
			if err != nil {
				return keyring.Actor{}, err // 503: the sessions cannot be read
			}
			if user == nil {
				return keyring.Actor{}, &auth.Problem{
					Type:   "https://acme.example/errors/not-signed-in",
					Title:  "Not Signed In",
					Status: http.StatusUnauthorized,
					Detail: "Sign in, or send a key",
					Code:   "NOT_SIGNED_IN",
				}
			}
			return keyring.Actor{Name: user.Email, Owner: user.Organization, Scopes: user.Scopes}, nil
		},
	})
	byKey := keyapi.New(manager, nil)
	either := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := auth.FromContext(r.Context()); ok {
			byKey.ServeHTTP(w, r)
			return
		}
		bySession.ServeHTTP(w, r)
	})
	mux := http.NewServeMux()
	keys := a.Optional(http.StripPrefix("/keys", either))
	mux.Handle("/keys", keys)
	mux.Handle("/keys/", keys)

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/keys", nil))
	fmt.Println(w.Code, strings.Contains(w.Body.String(), "NOT_SIGNED_IN"))
	// Output: 401 true
}

// A user is somebody who has signed in.
type user struct {
	Email, Organization string
	Scopes              auth.Scopes // what this person may grant
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
