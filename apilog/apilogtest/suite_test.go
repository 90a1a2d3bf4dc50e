package apilogtest

import (
	"context"

	"github.com/insigner/auth/apilog"
)

// A Case is a case of TestStore, to be run on a store that is meant to fail it.
type Case struct {
	Name, Rule string

	// Run returns what is wrong with s, or nil.
	Run func(ctx context.Context, s apilog.Store) error
}

// Cases returns the cases of TestStore.
func Cases() []Case {
	var list []Case
	for _, c := range storeCases() {
		list = append(list, Case{Name: c.name, Rule: c.rule, Run: c.run})
	}
	return list
}
