package authtest

import (
	"context"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// A Case is a case of TestStore, to be run on a store that is meant to fail it.
type Case struct {
	Name, Rule string

	// Run returns what is wrong with s, or nil. If opts is not nil, the
	// functions in it get t.
	Run func(t *testing.T, s keyring.Store, opts *StoreOptions) error

	// About reports whether the case is about such a store.
	About func(ctx context.Context, s keyring.Store) bool
}

// Cases returns the cases of TestStore.
func Cases() []Case {
	var list []Case
	for _, c := range storeCases() {
		list = append(list, Case{
			Name: c.name,
			Rule: c.rule,
			Run: func(t *testing.T, s keyring.Store, opts *StoreOptions) error {
				return c.run(t.Context(), s, newMaker(t, s, opts))
			},
			About: func(ctx context.Context, s keyring.Store) bool { return c.unfit(ctx, s) == "" },
		})
	}
	return list
}

// A LookupCase is a case of TestLookup.
type LookupCase struct {
	Name, Rule string
	Run        func(ctx context.Context, newStore func(records ...auth.Record) auth.Store) error
	About      func(s auth.Store) bool
}

// LookupCases returns the cases of TestLookup.
func LookupCases() []LookupCase {
	var list []LookupCase
	for _, c := range lookupCases() {
		list = append(list, LookupCase{
			Name: c.name,
			Rule: c.rule,
			Run: func(ctx context.Context, newStore func(records ...auth.Record) auth.Store) error {
				return c.run(ctx, newStore(c.given()...))
			},
			About: func(s auth.Store) bool { return c.unfit(s) == "" },
		})
	}
	return list
}
