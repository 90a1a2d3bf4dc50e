// Package authtest tests what a host builds on package auth: stores of its own,
// and handlers that need a key.
//
// # Stores
//
// [TestStore] checks a [keyring.Store] against each sentence of its contract,
// and [TestLookup] an [auth.Store] that only looks keys up:
//
//	func TestStore(t *testing.T) {
//		authtest.TestStore(t, func(t *testing.T) keyring.Store {
//			return mystore.New(emptyDatabase(t))
//		})
//	}
//
// # Handlers
//
// [WithScopes] tests a handler wrapped by [auth.Require] without a key:
//
//	r := httptest.NewRequest("GET", "/api/v1/documents", nil)
//	handler.ServeHTTP(w, authtest.WithScopes(r, "documents.read"))
//
// A whole application, with its Authenticator, needs a key: [NewKey] makes one,
// and [WithKey] sends it. [CheckRoutes] finds the routes that a key without
// scopes opens, because somebody forgot their Require.
package authtest

import (
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// TestStore checks that a store does what [keyring.Store] says, and what
// [auth.Watcher] says if it is one. It runs a subtest for each rule, one after
// another. A subtest that fails quotes its rule. If the store keeps no events,
// the subtests about events are skipped.
//
// newStore returns an empty store, a new one for each subtest. It registers
// what must be closed with t.Cleanup.
//
// The records are such as a [keyring.Manager] writes. An ID is a UUID in
// canonical form. A text is valid UTF-8 without NUL and has at most 255 bytes.
// There are at most 256 scopes, and at most 64 entries and 16 kB of metadata. A
// time lies in the years 1900 to 9999. Some records name the ID of a record that
// is not there, as a record does when its predecessor is deleted. A store may
// refuse an invalid scope. For a store that takes only other IDs, or only owners
// that it knows, use [TestStoreWith].
//
// TestStore cannot make a row that the store cannot read, nor a database that
// drops a write. What the contract says about those, test yourself.
//
// Run it with the race detector too: some of the subtests call the store from
// many goroutines at once.
func TestStore(t *testing.T, newStore func(t *testing.T) keyring.Store) {
	t.Helper()
	TestStoreWith(t, newStore, nil)
}

// StoreOptions adapt [TestStoreWith] to what a store accepts. The zero
// StoreOptions are those of [TestStore].
type StoreOptions struct {
	// NewID returns the ID of a record that does not exist yet, a new one with
	// each call. If nil, IDs are UUIDs in canonical form.
	//
	// IDs that sort differently by language than by bytes, such as "b", "B" and
	// "a-1", test more of a store whose IDs are text.
	NewID func() string

	// NewOwner returns an owner whose keys the store accepts, a new one with
	// each call. It may add the owner to the database that store uses. If nil,
	// owners are any text.
	NewOwner func(t *testing.T, store keyring.Store) string
}

// TestStoreWith is [TestStore] for a store with IDs or owners of its own kind.
// If opts is nil, the zero StoreOptions are used.
func TestStoreWith(t *testing.T, newStore func(t *testing.T) keyring.Store, opts *StoreOptions) {
	t.Helper()
	for _, c := range storeCases() {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t)
			if s == nil {
				t.Fatal("authtest.TestStore: newStore returned nil")
			}
			if why := c.unfit(t.Context(), s); why != "" {
				t.Skip(why)
			}
			if err := c.run(t.Context(), s, newMaker(t, s, opts)); err != nil {
				t.Errorf("%v\nthe rule: %s", err, c.rule)
			}
		})
	}
}

// TestLookup checks that a store that only looks keys up, perhaps in a table
// that was there before, does what [auth.Store] says, and as much of what
// [auth.Watcher] says as can be checked without a change. It runs a subtest for
// each rule, one after another. A subtest that fails quotes its rule.
//
// newStore returns a store that holds these records and no others, a new one
// for each subtest. It registers what must be closed with t.Cleanup.
//
// The records are such that most tables can hold them: an ID is a decimal
// number, and a time has whole seconds and lies in the years 2000 to 2037.
//
// A store need not keep all of a record. It must keep the Hash, the ExpiresAt,
// the Scopes in any order, and whether the key is revoked. In addition:
//   - A record has an ID of its own. It may be another one than was given.
//   - A disabled record may come back as a revoked one.
//   - RevokedAt and DisabledAt may be other times.
//   - All else may come back empty, but not changed.
func TestLookup(t *testing.T, newStore func(t *testing.T, records ...auth.Record) auth.Store) {
	t.Helper()
	for _, c := range lookupCases() {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t, c.given()...)
			if s == nil {
				t.Fatal("authtest.TestLookup: newStore returned nil")
			}
			if why := c.unfit(s); why != "" {
				t.Skip(why)
			}
			if err := c.run(t.Context(), s); err != nil {
				t.Errorf("%v\nthe rule: %s", err, c.rule)
			}
		})
	}
}
