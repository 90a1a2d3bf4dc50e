package cache_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/keyring"
)

var quiet = slog.New(slog.DiscardHandler)

// A revocation through the store counts at once, since the store is an
// auth.Watcher.
func Example() {
	store := new(keyring.MemoryStore) // or one of module sqlstore
	cached := cache.New(store, &cache.Options{Logger: quiet})
	defer cached.Close()
	a := auth.New(cached, nil)                // requests go through the cache,
	manager := keyring.NewManager(store, nil) // changes go to the store

	ctx := context.Background()
	keys := manager.Unconfined("ops")
	record, key, err := keys.Create(ctx, keyring.Spec{
		Name:   "CI",
		Owner:  "org_1",
		Scopes: auth.Scopes{"org.read"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	_, err = a.Verify(ctx, key.Reveal())
	fmt.Println(err)
	if err := keys.Revoke(ctx, record.ID); err != nil {
		fmt.Println(err)
	}
	_, err = a.Verify(ctx, key.Reveal())
	fmt.Println(err)
	// Output:
	// <nil>
	// auth: the API key has been revoked
}

// Known keys stay valid for 15 minutes while the database is down.
func ExampleOptions_staleIfError() {
	store := new(keyring.MemoryStore) // or one of module sqlstore
	cached := cache.New(store, &cache.Options{
		StaleIfError: 15 * time.Minute, // a revocation may not be seen in that time
		Logger:       quiet,
	})
	defer cached.Close()
	_ = auth.New(cached, nil)
}

// A Timed store measures the lookups in another one. The cache finds the
// Watcher that it wraps.
type Timed struct{ auth.Store }

func (t Timed) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	defer func(start time.Time) {
		slog.DebugContext(ctx, "lookup", "duration", time.Since(start))
	}(time.Now())
	return t.Store.Lookup(ctx, hash)
}

// Unwrap returns the store whose changes are watched.
func (t Timed) Unwrap() auth.Store { return t.Store }

// A wrapper that has Unwrap does not hide the Watcher.
func ExampleNew_wrapper() {
	store := new(keyring.MemoryStore)
	cached := cache.New(Timed{store}, &cache.Options{Logger: quiet})
	defer cached.Close()
	_ = auth.New(cached, nil)
}
