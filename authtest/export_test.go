package authtest

import (
	"context"
	"time"

	"github.com/insigner/auth"
)

// The broken watchers of the tests are waited for in vain.
func init() { seenTime = 2 * time.Second }

// A Case is a case of TestStore or TestLookup, to be run on a store that is meant to fail it.
type Case struct {
	Name, Rule string
	Run        func(ctx context.Context, s auth.KeyStore) error
}

// Cases returns the cases of TestStore.
func Cases() []Case {
	var list []Case
	for _, c := range storeCases() {
		list = append(list, Case{c.name, c.rule, func(ctx context.Context, s auth.KeyStore) error {
			if !c.applies(s) {
				return nil
			}
			return c.run(ctx, s)
		}})
	}
	return list
}

// A LookupCase is a case of TestLookup.
type LookupCase struct {
	Name, Rule string
	Run        func(ctx context.Context, newStore func(records ...auth.Record) auth.Store) error
}

// LookupCases returns the cases of TestLookup.
func LookupCases() []LookupCase {
	var list []LookupCase
	for _, c := range lookupOnlyCases {
		list = append(list, LookupCase{c.name, c.rule,
			func(ctx context.Context, newStore func(records ...auth.Record) auth.Store) error {
				return c.run(ctx, newStore(c.records()...))
			}})
	}
	return list
}
