package authtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// caseTime is what a case may take before its context is done, so that a store
// that waits forever is reported.
const caseTime = 2 * time.Minute

// A power is what only some stores can do.
type power int

const (
	anyStore power = iota
	watcher        // it is an auth.Watcher
	eventful       // it keeps events
)

// A storeCase checks one rule, on an empty store of its own.
type storeCase struct {
	name  string
	rule  string // as the contract has it
	check func(p *probe)
	needs power
}

// storeCases returns all cases, the plain ones first: a later failure may
// follow from an earlier one.
func storeCases() []storeCase {
	var all []storeCase
	for _, group := range []struct {
		needs power
		cases []storeCase
	}{
		{anyStore, readCases},
		{anyStore, insertCases},
		{anyStore, listCases},
		{anyStore, filterCases},
		{anyStore, updateCases},
		{anyStore, deleteCases},
		{anyStore, touchCases},
		{anyStore, sharingCases},
		{anyStore, contextCases},
		{anyStore, concurrencyCases},
		{anyStore, noEventCases},
		{eventful, eventCases},
		{watcher, watchCases},
	} {
		for _, c := range group.cases {
			c.needs = group.needs
			all = append(all, c)
		}
	}
	return all
}

// unfit says why the case is not about s, or returns "".
func (c *storeCase) unfit(ctx context.Context, s keyring.Store) string {
	switch {
	case c.needs == watcher:
		return notWatcher(s)
	case c.needs == eventful && !keepsEvents(ctx, s):
		return "the store keeps no events"
	}
	return ""
}

// keepsEvents reports whether s keeps events.
func keepsEvents(ctx context.Context, s keyring.Store) bool {
	_, err := s.Events(ctx, keyring.EventQuery{Limit: 1})
	return !errors.Is(err, errors.ErrUnsupported)
}

func notWatcher(s auth.Store) string {
	if _, ok := s.(auth.Watcher); !ok {
		return "the store is not an auth.Watcher"
	}
	return ""
}

// run returns what is wrong with s, or nil.
func (c *storeCase) run(ctx context.Context, s keyring.Store, m *maker) error {
	ctx, cancel := context.WithTimeout(ctx, caseTime)
	defer cancel()
	p := &probe{ctx: ctx, Store: s, keys: s, maker: m}
	p.owner(0) // now, on the goroutine of the test
	c.check(p)
	return p.err()
}

// A probe calls a store and collects what is wrong with it. Its methods may be
// called from several goroutines at once.
type probe struct {
	auth.Store
	*maker
	keys keyring.Store // nil in TestLookup
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
		p.errorf("%s: got no error, want one", what)
	}
}

func (p *probe) insert(records ...*auth.Record) {
	for _, r := range records {
		p.ok("Insert "+r.ID, p.keys.Insert(p.ctx, r))
	}
}

// update makes r the record with its ID.
func (p *probe) update(r *auth.Record) {
	p.ok("Update "+r.ID, p.keys.Update(p.ctx, r, nil))
}

// rotate makes r the record with its ID, and inserts its successor.
func (p *probe) rotate(r, successor *auth.Record) {
	p.ok("Update "+r.ID+" with the successor "+successor.ID, p.keys.Update(p.ctx, r, successor))
}

func (p *probe) delete(id string) {
	p.ok("Delete "+id, p.keys.Delete(p.ctx, id, deleter))
}

func (p *probe) touch(lastUsed map[string]time.Time) {
	p.ok("Touch", p.keys.Touch(p.ctx, lastUsed))
}

// same reports that got, which came with err, is not want.
func (p *probe) same(what string, got *auth.Record, err error, want *auth.Record) {
	if p.ok(what, err) {
		p.ok(what, differences(got, want))
	}
}

// holds reports that Lookup or Get finds something else than these records.
func (p *probe) holds(records ...*auth.Record) {
	for _, want := range records {
		got, err := p.Lookup(p.ctx, want.Hash)
		p.same("Lookup of the hash of "+want.ID, got, err, want)
		got, err = p.keys.Get(p.ctx, want.ID)
		p.same("Get "+want.ID, got, err, want)
	}
}

// lacksID reports that there is a record with that ID.
func (p *probe) lacksID(id string) {
	got, err := p.keys.Get(p.ctx, id)
	p.fails(fmt.Sprintf("Get %s, which is not there", brief(id)), errOrNil(got, err), auth.ErrNotFound)
}

// lacksHash reports that there is a record with the hash of r.
func (p *probe) lacksHash(r *auth.Record) {
	got, err := p.Lookup(p.ctx, r.Hash)
	p.fails("Lookup of the hash of "+r.ID+", which is not there", errOrNil(got, err), auth.ErrNotFound)
}

// lacks reports that there is a record with the ID or the hash of r.
func (p *probe) lacks(r *auth.Record) {
	p.lacksID(r.ID)
	p.lacksHash(r)
}

var errNil = errors.New("none, but no record either")

// errOrNil returns err, or an error that says that there is neither a record
// nor an error.
func errOrNil(got *auth.Record, err error) error {
	if got == nil && err == nil {
		return errNil
	}
	return err
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
