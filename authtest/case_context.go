package authtest

import (
	"context"
	"errors"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

const (
	unknown  = "If there is no such record, the error matches auth.ErrNotFound. Any other error means \"unknown\"."
	orUnsure = "A method that returns an error has changed nothing, or cannot know whether it has, as after a lost " +
		"connection."
)

// unsure reports an error that says more than a store can know when the context
// is done.
func (p *probe) unsure(what string, err error) {
	for _, sentinel := range []error{auth.ErrNotFound, keyring.ErrExists, keyring.ErrConflict} {
		if errors.Is(err, sentinel) {
			p.errorf("%s with a context that is done: got error %v, which is a wrong answer", what, err)
		}
	}
}

// doneContexts returns one that is canceled, and one whose deadline has passed.
func (p *probe) doneContexts() []context.Context {
	canceled, cancel := context.WithCancel(p.ctx)
	cancel()
	expired, cancel := context.WithDeadline(p.ctx, time.Unix(0, 0))
	cancel()
	return []context.Context{canceled, expired}
}

var contextCases = []storeCase{
	{name: "Lookup with a context that is done", rule: unknown, check: func(p *probe) {
		r := p.record(1)
		p.insert(r)
		for _, ctx := range p.doneContexts() {
			got, err := p.Lookup(ctx, r.Hash)
			if p.unsure("Lookup", err); err == nil {
				p.same("Lookup with a context that is done", got, err, r)
			}
			got, err = p.Lookup(ctx, hashOf(2))
			p.refused("Lookup of an unknown hash with a context that is done", errOrNil(got, err))
		}
		p.holds(r) // all is well with another context
	}},
	{name: "Get and List with a context that is done", rule: unknown, check: func(p *probe) {
		list := p.records(3)
		p.insert(list...)
		for _, ctx := range p.doneContexts() {
			got, err := p.keys.Get(ctx, list[1].ID)
			if p.unsure("Get", err); err == nil {
				p.same("Get with a context that is done", got, err, list[1])
			}
			page, err := p.keys.List(ctx, keyring.Query{Limit: 10})
			if p.unsure("List", err); err == nil {
				p.sameIDs("List with a context that is done", page, ids(list))
			}
		}
		p.holds(list...)
	}},
	{name: "Changes with a context that is done", rule: orUnsure, check: func(p *probe) {
		for i, ctx := range p.doneContexts() {
			list := p.records(10 * (i + 1))[10*i:]
			p.insert(list[:4]...)

			err := p.keys.Insert(ctx, list[4])
			if p.unsure("Insert", err); err == nil {
				p.holds(list[4])
			}
			renamed := renamed(list[0], "another name")
			err = p.keys.Update(ctx, renamed, nil)
			if p.unsure("Update", err); err == nil {
				p.holds(renamed)
			}
			old, successor := p.rotated(list[1], 10*i+5)
			err = p.keys.Update(ctx, old, successor)
			if p.unsure("Update with a successor", err); err == nil {
				p.holds(old, successor)
			}
			err = p.keys.Delete(ctx, list[2].ID, deleter)
			if p.unsure("Delete", err); err == nil {
				p.lacks(list[2])
			}
			err = p.keys.Touch(ctx, map[string]time.Time{list[3].ID: epoch})
			if p.unsure("Touch", err); err == nil {
				p.holds(used(list[3], epoch))
			}
		}
	}},
	{name: "Update whose context ends in the middle", rule: both + " " + orUnsure, check: func(p *probe) {
		for i := range 40 {
			r := p.record(2 * i)
			p.insert(r)
			old, successor := p.rotated(r, 2*i+1)
			ctx, cancel := context.WithTimeout(p.ctx, time.Duration(i)*50*time.Microsecond)
			err := p.keys.Update(ctx, old, successor)
			cancel()
			p.unsure("Update", err)
			if err == nil {
				p.holds(old, successor)
				continue
			}
			// The change may be written later, so the order of the reads counts:
			// a successor that is there has been inserted with the change.
			if _, err := p.keys.Get(p.ctx, successor.ID); err == nil {
				p.holds(old, successor)
				continue
			}
			got, err := p.keys.Get(p.ctx, r.ID)
			if !p.ok("Get after an Update", errOrNil(got, err)) {
				return
			}
			if got.RotatedTo != "" {
				p.holds(old, successor)
			} else {
				p.same("Get after an Update that was not made", got, err, r)
			}
		}
	}},
}
