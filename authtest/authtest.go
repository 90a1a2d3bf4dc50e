// Package authtest helps to test with package auth: stores of one's own, and handlers behind Require.
//
// # Stores
//
// [TestStore] checks an [auth.KeyStore] against every sentence of its contract, [TestLookup] an [auth.Store] that only
// looks keys up:
//
//	func TestStore(t *testing.T) {
//		authtest.TestStore(t, func(t *testing.T) auth.KeyStore {
//			return mystore.New(emptyDatabase(t))
//		})
//	}
//
// # Handlers
//
// A handler behind [auth.Require] is tested without any key by [WithScopes]:
//
//	r := httptest.NewRequest("GET", "/api/v1/documents", nil)
//	handler.ServeHTTP(w, authtest.WithScopes(r, "documents.read"))
//
// A whole application, Middleware or an Authenticator's own Require included, needs a key: [NewKey] makes one, and
// [WithKey] sends it. [CheckRoutes] finds the routes whose Require somebody forgot.
package authtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
)

// TestStore checks that a store does what [auth.KeyStore] says, and [auth.SnapshotStore] and [auth.Watcher] if it is
// one of them. It runs a subtest for each rule; one that fails quotes the rule. The subtests run one after another.
//
// newStore returns an empty store, a new one for each subtest; what it must close again it registers with t.Cleanup.
// The IDs of the records are short and ASCII; other text is any that is valid UTF-8 and has no NUL.
//
// Run it with the race detector too: some of the subtests call the store from many goroutines at once.
func TestStore(t *testing.T, newStore func(t *testing.T) auth.KeyStore) {
	t.Helper()
	for _, c := range storeCases() {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t)
			if s == nil {
				t.Fatal("authtest.TestStore: newStore returned nil")
			}
			if !c.applies(s) {
				t.Skip("the store is not an auth." + c.needs)
			}
			if err := c.run(t.Context(), s); err != nil {
				t.Errorf("%v\nthe rule: %s", err, c.rule)
			}
		})
	}
}

// caseTime is what a case may take before its context is done, so that a store that waits for ever is reported.
const caseTime = 2 * time.Minute

// A storeCase checks one rule, on an empty store of its own.
type storeCase struct {
	name  string
	rule  string // as the contract has it
	check func(p *probe)
	needs string // the optional interface that it is about, if any
}

// storeCases returns all cases, the plain ones first: what fails further down may follow from what failed above.
func storeCases() []storeCase {
	var all []storeCase
	for _, group := range [][]storeCase{lookupCases, insertCases, listCases, revokeCases, replaceCases, touchCases,
		sharingCases, contextCases, concurrencyCases} {
		all = append(all, group...)
	}
	for _, c := range snapshotCases {
		c.needs = "SnapshotStore"
		all = append(all, c)
	}
	for _, c := range watchCases {
		c.needs = "Watcher"
		all = append(all, c)
	}
	return all
}

func (c *storeCase) applies(s auth.Store) bool {
	ok := true
	switch c.needs {
	case "SnapshotStore":
		_, ok = snapshots(s)
	case "Watcher":
		_, ok = s.(auth.Watcher)
	}
	return ok
}

// snapshots returns s as a SnapshotStore, and whether it is one and not a type that embeds one.
func snapshots(s auth.Store) (auth.SnapshotStore, bool) {
	shared, ok := s.(auth.SnapshotStore)
	return shared, ok && shared.Snapshots() == s
}

// run returns what is wrong with s, or nil.
func (c *storeCase) run(ctx context.Context, s auth.KeyStore) error {
	ctx, cancel := context.WithTimeout(ctx, caseTime)
	defer cancel()
	p := &probe{ctx: ctx, Store: s, keys: s}
	c.check(p)
	return p.err()
}

// A probe gathers what is wrong with a store. Its methods may be called from several goroutines at once.
type probe struct {
	auth.Store
	keys auth.KeyStore // nil in TestLookup
	ctx  context.Context

	mu   sync.Mutex
	errs []error
}

const maxErrors = 5 // reported for a case; the rest is counted

func (p *probe) errorf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.errs = append(p.errs, fmt.Errorf(format, args...))
}

func (p *probe) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.errs); n > maxErrors {
		return errors.Join(append(p.errs[:maxErrors:maxErrors], fmt.Errorf("and %d more", n-maxErrors))...)
	}
	return errors.Join(p.errs...)
}

// ok reports an error that should not be.
func (p *probe) ok(what string, err error) bool {
	if err != nil {
		p.errorf("%s: %w", what, err)
	}
	return err == nil
}

// fails reports an error that is not the one that it should be.
func (p *probe) fails(what string, err, want error) {
	if !errors.Is(err, want) {
		p.errorf("%s: got error %v, want one that matches %q", what, err, want)
	}
}

// refused reports that there is no error, which may be any.
func (p *probe) refused(what string, err error) {
	if err == nil {
		p.errorf("%s: no error", what)
	}
}

func (p *probe) insert(records ...auth.Record) {
	for _, r := range records {
		p.ok("Insert "+r.ID, p.keys.Insert(p.ctx, r))
	}
}

func (p *probe) revoke(id string, at time.Time) {
	p.ok("Revoke "+id, p.keys.Revoke(p.ctx, id, at))
}

func (p *probe) replace(successor auth.Record, expires time.Time) {
	p.ok("Replace "+successor.Replaces+" by "+successor.ID, p.keys.Replace(p.ctx, successor, expires))
}

func (p *probe) touch(lastUsed map[string]time.Time) {
	p.ok("Touch", p.keys.Touch(p.ctx, lastUsed))
}

// holds reports if Lookup or Get finds something else than these records.
func (p *probe) holds(records ...auth.Record) {
	for _, want := range records {
		got, err := p.Lookup(p.ctx, want.Hash)
		if what := "Lookup of the hash of " + want.ID; p.ok(what, err) {
			p.ok(what, differences(got, want))
		}
		got, err = p.keys.Get(p.ctx, want.ID)
		if what := "Get " + want.ID; p.ok(what, err) {
			p.ok(what, differences(got, want))
		}
	}
}

// lacks reports if there is a record with that ID or that Hash.
func (p *probe) lacks(r auth.Record) {
	_, err := p.Lookup(p.ctx, r.Hash)
	p.fails(fmt.Sprintf("Lookup of the hash of %q, which should not be there", r.ID), err, auth.ErrNotFound)
	_, err = p.keys.Get(p.ctx, r.ID)
	p.fails(fmt.Sprintf("Get %q, which should not be there", r.ID), err, auth.ErrNotFound)
}

// list returns a page, or nil if there is an error, which it reports.
func (p *probe) list(owner string, after auth.Position, limit int) []auth.Record {
	page, err := p.keys.List(p.ctx, owner, after, limit)
	if !p.ok("List", err) {
		return nil
	}
	if len(page) > limit {
		p.errorf("List with limit %d returned %d records", limit, len(page))
	}
	return page
}

// lists reports if the page has other records than these, or has them in another order.
func (p *probe) lists(owner string, after auth.Position, limit int, want ...string) {
	what := fmt.Sprintf("List of owner %q after %q", owner, after.ID)
	p.sameIDs(what, p.list(owner, after, limit), want)
}

// together runs f(0) to f(n-1) at the same time.
func together(n int, f func(i int)) {
	var group sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		group.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	group.Wait()
}
