package cache_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
)

// A revocation through the store counts at once, for the store is an auth.Watcher.
func Example() {
	store := new(auth.MemoryStore) // or an sqlstore.Store
	cached := cache.New(store, &cache.Options{Logger: slog.New(slog.DiscardHandler)})
	defer cached.Close()
	a := auth.New(cached, nil)             // requests go through the cache,
	keyring := auth.NewKeyring(store, nil) // changes go to the store behind it
	http.Handle("/", a.Require("org.read")(http.NotFoundHandler()))

	ctx := context.Background()
	record, key, _ := keyring.Create(ctx, auth.Grant{Name: "CI", Scopes: auth.Scopes{"org.read"}})
	r, _ := http.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+key.Reveal())

	_, err := a.Authenticate(r)
	fmt.Println(err)
	keyring.Revoke(ctx, record.ID)
	_, err = a.Authenticate(r)
	fmt.Println(err)
	// Output:
	// <nil>
	// auth: the API key has been revoked
}

// Known keys go on for a quarter of an hour while the database is down.
func ExampleOptions_staleIfError() {
	store := new(auth.MemoryStore) // or an sqlstore.Store
	cached := cache.New(store, &cache.Options{
		StaleIfError: 15 * time.Minute, // a revocation may go unseen for so long
		Logger:       slog.New(slog.DiscardHandler),
	})
	defer cached.Close()
	_ = auth.New(cached, nil)
}
