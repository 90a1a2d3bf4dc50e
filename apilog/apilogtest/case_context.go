package apilogtest

import (
	"context"
	"slices"
	"time"

	"github.com/insigner/auth/apilog"
)

const doneRule = "A method whose ctx is done when it is called returns an error and changes nothing."

// doneContexts returns one that is canceled, and one whose deadline has passed.
func (p *probe) doneContexts() []context.Context {
	canceled, cancel := context.WithCancel(p.ctx)
	cancel()
	expired, cancel := context.WithDeadline(p.ctx, time.Unix(0, 0))
	cancel()
	return []context.Context{canceled, expired}
}

var contextCases = []storeCase{
	{name: "Reading with a context that is done", rule: doneRule, check: func(p *probe) {
		list := entries(3, nil)
		p.append(list...)
		for _, ctx := range p.doneContexts() {
			_, err := p.List(ctx, apilog.Query{})
			p.refused("List with a context that is done", err)
			_, err = p.List(ctx, apilog.Query{Owner: "nobody"})
			p.refused("List of nothing with a context that is done", err)
			_, err = p.Histogram(ctx, after(0, time.Hour), time.Minute)
			p.refused("Histogram with a context that is done", err)
		}
		p.holds(list...) // all is well with another context
	}},
	{name: "Append with a context that is done", rule: doneRule, check: func(p *probe) {
		list := entries(3, nil)
		p.append(list...)
		for _, ctx := range p.doneContexts() {
			p.refused("Append with a context that is done", p.Append(ctx, entries(5, nil)))
			p.refused("Append again with a context that is done", p.Append(ctx, slices.Clone(list)))
		}
		p.holds(list...)
	}},
	{name: "Delete with a context that is done", rule: doneRule, check: func(p *probe) {
		list := entries(3, nil)
		p.append(list...)
		for _, ctx := range p.doneContexts() {
			_, err := p.DeleteBefore(ctx, epoch.Add(time.Hour))
			p.refused("DeleteBefore with a context that is done", err)
			_, err = p.DeleteOwner(ctx, "org_1")
			p.refused("DeleteOwner with a context that is done", err)
		}
		p.holds(list...)
	}},
}
