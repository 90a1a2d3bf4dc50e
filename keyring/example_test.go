package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// An API, and an endpoint under which its customers create keys.
func Example() {
	scheme := auth.Scheme{Catalog: auth.PublishedCatalog()}
	store := new(keyring.MemoryStore) // or one of module sqlstore
	manager := keyring.NewManager(store, &keyring.Options{Scheme: scheme})
	a := auth.New(store, &auth.Options{Scheme: scheme})

	mux := http.NewServeMux()
	mux.Handle("GET /documents", a.Require("documents.read")(http.NotFoundHandler()))
	mux.Handle("POST /keys", a.Require("*")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		record, _ := auth.FromContext(r.Context())
		keys := manager.For(keyring.ActorOf(record)) // only its owner's keys, no more than its own scopes
		_, key, err := keys.Create(r.Context(), keyring.Spec{
			Name:   r.FormValue("name"),
			Scopes: auth.Scopes{"documents.read"},
		})
		switch {
		case errors.Is(err, keyring.ErrInvalidArgument):
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		case err != nil:
			http.Error(w, "try again later", http.StatusServiceUnavailable)
		default:
			w.Header().Set("Cache-Control", "no-store")
			fmt.Fprintln(w, key.Reveal()) // the only time that it is shown
		}
	})))
}

// The first key of an owner is made by staff, or by a script.
func ExampleManager_Unconfined() {
	manager := keyring.NewManager(new(keyring.MemoryStore), nil)
	record, _, err := manager.Unconfined("setup").Create(context.Background(), keyring.Spec{
		Name:   "First key",
		Owner:  "acme",
		Scopes: auth.Scopes{"*"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(record.Name, "of", record.Owner, "by", record.CreatedBy)
	// Output: First key of acme by staff:setup
}

// A customer sees only the keys of their own organization.
func ExampleManager_For() {
	ctx := context.Background()
	manager := keyring.NewManager(new(keyring.MemoryStore), nil)
	ada := manager.For(keyring.Actor{Name: "ada@acme.example", Owner: "acme", Scopes: auth.Scopes{"documents.*"}})
	bob := manager.For(keyring.Actor{Name: "bob@globex.example", Owner: "globex", Scopes: auth.Scopes{"*"}})

	record, _, err := ada.Create(ctx, keyring.Spec{Name: "Backend", Scopes: auth.Scopes{"documents.read"}})
	fmt.Println(record.Name, record.Owner, err)

	_, _, err = ada.Create(ctx, keyring.Spec{Name: "Admin", Scopes: auth.Scopes{"*"}})
	fmt.Println(err)

	err = bob.Revoke(ctx, record.ID)
	fmt.Println(err)
	// Output:
	// Backend acme <nil>
	// keyring: create key: the actor does not hold the scope "*"
	// keyring: revoke key: no such key
}

// A form that is sent twice makes one key.
func ExampleKeyring_Create_once() {
	ctx := context.Background()
	keys := keyring.NewManager(new(keyring.MemoryStore), nil).For(keyring.Actor{Name: "ada", Owner: "acme"})
	spec := keyring.Spec{Name: "Backend", Once: "a random value in the form"}
	record, _, _ := keys.Create(ctx, spec)

	_, _, err := keys.Create(ctx, spec)
	exists, ok := errors.AsType[*keyring.ExistsError](err)
	fmt.Println(ok && exists.Record.ID == record.ID)
	// Output: true
}

// The keys of an owner that expire within a week.
func ExampleKeyring_List() {
	ctx := context.Background()
	keys := keyring.NewManager(new(keyring.MemoryStore), nil).For(keyring.Actor{Name: "ada", Owner: "acme"})
	keys.Create(ctx, keyring.Spec{Name: "Backend"})
	keys.Create(ctx, keyring.Spec{Name: "Trial", ExpiresAt: time.Now().Add(24 * time.Hour)})

	week := time.Now().Add(7 * 24 * time.Hour)
	for record, err := range keys.List(ctx, keyring.Filter{States: keyring.Active, ExpiresBefore: week}) {
		if err != nil {
			fmt.Println(err)
			continue // a row that cannot be read costs only itself
		}
		fmt.Println(record.Name)
	}
	// Output: Trial
}

// A rename that is refused if somebody else changed the key since the page was
// made.
func ExampleKeyring_Update() {
	ctx := context.Background()
	keys := keyring.NewManager(new(keyring.MemoryStore), nil).For(keyring.Actor{Name: "ada", Owner: "acme"})
	record, _, _ := keys.Create(ctx, keyring.Spec{Name: "Backend"})

	rename := func(name string, revision int64) error {
		_, err := keys.Update(ctx, record.ID, func(r *auth.Record) error {
			if r.Revision != revision {
				return keyring.ErrConflict
			}
			r.Name = name
			return nil
		})
		return err
	}
	fmt.Println(rename("Production", 1))
	fmt.Println(rename("Staging", 1))
	// Output:
	// <nil>
	// keyring: update key: the key was changed at the same time
}

// The old key stays valid for a day, so that its users can change over.
func ExampleKeyring_Rotate() {
	ctx := context.Background()
	keys := keyring.NewManager(new(keyring.MemoryStore), nil).For(keyring.Actor{Name: "ada", Owner: "acme"})
	record, _, _ := keys.Create(ctx, keyring.Spec{Name: "Backend"})

	successor, key, err := keys.Rotate(ctx, record.ID, 24*time.Hour)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(successor.RotatedFrom == record.ID, successor.Hint == key.Hint())

	_, _, err = keys.Rotate(ctx, record.ID, 0)
	fmt.Println(err)
	// Output:
	// true true
	// keyring: rotate key: the key has been rotated already
}

// A key that somebody found in a public repository is revoked.
func ExampleKeyring_Find() {
	ctx := context.Background()
	scheme := auth.Scheme{}
	manager := keyring.NewManager(new(keyring.MemoryStore), &keyring.Options{Scheme: scheme})
	_, leaked, _ := manager.Unconfined("setup").Create(ctx, keyring.Spec{Name: "Backend", Owner: "acme"})

	key, err := scheme.ParseKey(leaked.Reveal()) // what was found
	if err != nil {
		fmt.Println(err)
		return
	}
	staff := manager.Unconfined("scanner")
	record, err := staff.Find(ctx, key)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(record.Owner, staff.Revoke(ctx, record.ID))
	// Output: acme <nil>
}

// Who changed a key, when, and how.
func ExampleKeyring_Events() {
	ctx := context.Background()
	manager := keyring.NewManager(new(keyring.MemoryStore), nil)
	keys := manager.For(keyring.Actor{Name: "ada", Owner: "acme"})
	record, _, _ := keys.Create(ctx, keyring.Spec{Name: "Backend"})
	keys.Disable(ctx, record.ID)
	manager.Unconfined("sam").Revoke(ctx, record.ID)

	for event, err := range keys.Events(ctx, keyring.EventFilter{KeyID: record.ID}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(event.Revision, event.Kind, "by", event.By)
	}
	// Output:
	// 3 revoked by staff:sam
	// 2 disabled by ada
	// 1 created by ada
}

// The last use of each key, written once a minute.
func ExampleNewLastUsedRecorder() {
	store := new(keyring.MemoryStore)
	lastUsed := keyring.NewLastUsedRecorder(store, nil)
	defer lastUsed.Close() // after the HTTP server has shut down
	a := auth.New(store, &auth.Options{OnDecision: lastUsed.OnDecision})
	_ = a
}
