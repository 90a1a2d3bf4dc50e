// Package apilogtest tests what a host builds on package apilog: a store of its
// own.
//
//	func TestStore(t *testing.T) {
//		apilogtest.TestStore(t, func(t *testing.T) apilog.Store {
//			return mystore.New(emptyDatabase(t))
//		})
//	}
package apilogtest

import (
	"testing"

	"github.com/insigner/auth/apilog"
)

// TestStore checks that a store does what [apilog.Store] says. It runs a subtest
// for each rule, one after another. A subtest that fails quotes its rule.
//
// newStore returns an empty store, a new one for each subtest. It registers
// what must be closed with t.Cleanup. The store must have room for 4,200
// entries, and must not delete old ones by itself.
//
// The entries are such as an [apilog.Recorder] writes, of the years 1970 to
// 2199. Most IDs are those of [apilog.NewID]. Some are other texts of at most 36
// bytes.
//
// TestStore cannot make a database that drops a write, nor one that is too
// slow. What happens then, test yourself.
//
// Run it with the race detector too: some of the subtests call the store from
// many goroutines at once.
func TestStore(t *testing.T, newStore func(t *testing.T) apilog.Store) {
	t.Helper()
	for _, c := range storeCases() {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t)
			if s == nil {
				t.Fatal("apilogtest.TestStore: newStore returned nil")
			}
			if err := c.run(t.Context(), s); err != nil {
				t.Errorf("%v\nthe rule: %s", err, c.rule)
			}
		})
	}
}
