package authtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/insigner/auth"
)

// A lookupCase checks one rule of TestLookup, on a store that holds the
// records.
type lookupCase struct {
	name    string
	rule    string // as the contract has it
	records func() []*auth.Record
	check   func(p *probe, records []*auth.Record)
	needs   power
}

// lookupCases returns all cases of TestLookup.
func lookupCases() []lookupCase {
	all := slices.Clone(lookupOnlyCases)
	for _, c := range startCases {
		all = append(all, lookupCase{c.name, c.rule, none, func(p *probe, _ []*auth.Record) { c.check(p) }, watcher})
	}
	return all
}

// given returns copies of the records, for newStore.
func (c *lookupCase) given() []auth.Record {
	var list []auth.Record
	for _, r := range c.records() {
		list = append(list, *r)
	}
	return list
}

// unfit says why the case is not about s, or returns "".
func (c *lookupCase) unfit(s auth.Store) string {
	if c.needs == watcher {
		return notWatcher(s)
	}
	return ""
}

// run returns what is wrong with s, or nil.
func (c *lookupCase) run(ctx context.Context, s auth.Store) error {
	ctx, cancel := context.WithTimeout(ctx, caseTime)
	defer cancel()
	p := &probe{ctx: ctx, Store: s, maker: new(maker)}
	c.check(p, c.records())
	return p.err()
}

func none() []*auth.Record { return nil }

// plain returns n records as TestLookup promises them.
func plain(n int) []*auth.Record {
	list := make([]*auth.Record, n)
	for i := range list {
		list[i] = newRecord(i, fmt.Sprint(1001+i), "org_1")
		list[i].ExpiresAt = time.Date(2037, 1, 1, 0, 0, i, 0, time.UTC)
	}
	return list
}

// varied returns records of which each decides a request in another way.
func varied() []*auth.Record {
	list := plain(11)
	list[1].ExpiresAt = time.Time{}
	list[2].ExpiresAt = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	list[3].RevokedAt = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	list[4].RevokedAt = time.Date(2037, 1, 1, 0, 0, 0, 0, time.UTC) // a time in the future counts too
	list[5].DisabledAt, list[5].RevokedAt = list[3].RevokedAt, list[3].RevokedAt
	list[6].DisabledAt = list[3].RevokedAt
	list[7].Scopes = nil
	list[8].Scopes = auth.Scopes{"*"}
	list[9].Scopes = auth.Scopes{"templates.read", "documents.*", "documents.fields.read", "documents_2.a-b"}
	list[10].Scopes = auth.Scopes{"Admin", "admin", "documents:read", "documents:*"}
	return list
}

// decidesAs reports that Lookup finds something else than these records.
func (p *probe) decidesAs(list ...*auth.Record) {
	seen := make(map[string]string) // the ID of the record, by the ID that came back
	for _, want := range list {
		what := "Lookup of the hash of " + want.ID
		got, err := p.Lookup(p.ctx, want.Hash)
		if !p.ok(what, errOrNil(got, err)) {
			continue
		}
		p.ok(what, decides(got, want))
		if other, again := seen[got.ID]; again && other != want.ID {
			p.errorf("%s: the ID is %q, which is also that of %s", what, got.ID, other)
		}
		seen[got.ID] = want.ID
	}
}

// findsNone reports that there is a record with that hash.
func (p *probe) findsNone(what string, hash auth.Hash) {
	got, err := p.Lookup(p.ctx, hash)
	p.fails("Lookup of "+what, errOrNil(got, err), auth.ErrNotFound)
}

// decides is like differences, but ignores what a store that only looks keys up
// need not keep.
func decides(got, want *auth.Record) error {
	if got == nil {
		return errNil
	}
	if got.ID == "" {
		return errors.New("the ID is empty")
	}
	got, want = got.Clone(), want.Clone()
	if got.Chain == got.ID {
		got.Chain = want.Chain // which is the ID too
	}
	got.ID = want.ID
	for _, f := range []struct{ got, want *string }{
		{&got.Hint, &want.Hint}, {&got.Name, &want.Name}, {&got.Owner, &want.Owner}, {&got.Chain, &want.Chain},
		{&got.CreatedBy, &want.CreatedBy}, {&got.UpdatedBy, &want.UpdatedBy},
	} {
		if *f.got == "" {
			*f.want = ""
		}
	}
	for _, f := range []struct{ got, want *time.Time }{
		{&got.CreatedAt, &want.CreatedAt}, {&got.UpdatedAt, &want.UpdatedAt},
	} {
		if f.got.IsZero() {
			*f.want = time.Time{}
		}
	}
	if got.Revision == 0 {
		want.Revision = 0
	}
	if len(got.Metadata) == 0 {
		want.Metadata = nil
	}
	stopped := !got.RevokedAt.IsZero() || !got.DisabledAt.IsZero()
	switch {
	case !want.RevokedAt.IsZero() && got.RevokedAt.IsZero():
		return errors.New("RevokedAt is zero, want it set")
	case !want.DisabledAt.IsZero() && !stopped:
		return errors.New("DisabledAt and RevokedAt are zero, want one of them set")
	case want.RevokedAt.IsZero() && want.DisabledAt.IsZero() && stopped:
		return errors.New("DisabledAt or RevokedAt is set, want them zero")
	}
	want.RevokedAt, want.DisabledAt = got.RevokedAt, got.DisabledAt
	slices.Sort(got.Scopes)
	slices.Sort(want.Scopes)
	return differences(got, want)
}

var lookupOnlyCases = []lookupCase{
	{"empty", lookupUnheld, none, func(p *probe, _ []*auth.Record) {
		p.findsNone("a hash in an empty store", hashOf(1))
		p.findsNone("the zero hash in an empty store", auth.Hash{})
	}, anyStore},
	{"known", lookupRule, func() []*auth.Record { return plain(20) }, func(p *probe, list []*auth.Record) {
		p.decidesAs(list...)
	}, anyStore},
	{"unknown", lookupUnheld, varied, func(p *probe, list []*auth.Record) {
		p.findsNone("an unknown hash", hashOf(100))
		for _, r := range list {
			var text auth.Hash
			copy(text[:], r.Hash.String())
			p.findsNone("the hex digits of a hash", text)
		}
	}, anyStore},
	{"revoked", lookupRule, varied, func(p *probe, list []*auth.Record) { p.decidesAs(list[3:6]...) }, anyStore},
	{"disabled", lookupRule + " A disabled key may come back as a revoked one, but not as a good one.", varied,
		func(p *probe, list []*auth.Record) { p.decidesAs(list[6]) }, anyStore},
	{"expired", lookupRule, varied, func(p *probe, list []*auth.Record) { p.decidesAs(list[2]) }, anyStore},
	{"never expires", "A zero ExpiresAt: never.", varied,
		func(p *probe, list []*auth.Record) { p.decidesAs(list[1]) }, anyStore},
	{"scopes", "The Scopes are those of the record, and no others.", varied,
		func(p *probe, list []*auth.Record) { p.decidesAs(list[7:]...) }, anyStore},
	{"whole hash", lookupRule + " " + lookupUnheld, func() []*auth.Record { return plain(1) },
		func(p *probe, list []*auth.Record) {
			for _, other := range similar(list[0].Hash) {
				p.findsNone(other.what, other.hash)
			}
			p.decidesAs(list...)
		}, anyStore},
	{"odd hashes", lookupRule, func() []*auth.Record {
		list := plain(len(oddHashes()))
		for i, hash := range oddHashes() {
			list[i].Hash = hash
		}
		return list
	}, func(p *probe, list []*auth.Record) { p.decidesAs(list...) }, anyStore},
	{"stays", stays, eight, func(p *probe, list []*auth.Record) {
		var then []returned
		for range 2 {
			for _, r := range list {
				got, err := p.Lookup(p.ctx, r.Hash)
				p.ok("Lookup", err)
				then = append(then, remembered(got)...)
			}
		}
		p.stay("Lookup", then)
	}, anyStore},
	{"context", unknown, eight, func(p *probe, list []*auth.Record) {
		for _, ctx := range p.doneContexts() {
			for _, r := range list {
				got, err := p.Lookup(ctx, r.Hash)
				if p.unsure("Lookup", err); err == nil {
					p.ok("Lookup with a context that is done", decides(got, r))
				}
			}
			got, err := p.Lookup(ctx, hashOf(100))
			p.refused("Lookup of an unknown hash with a context that is done", errOrNil(got, err))
		}
		p.decidesAs(list...) // all is well with another context
	}, anyStore},
	{"at the same time", concurrent, eight, func(p *probe, list []*auth.Record) {
		together(workers, func(i int) {
			for range 4 {
				p.decidesAs(list[i%len(list)])
				p.findsNone("an unknown hash", hashOf(100+i))
			}
		})
	}, anyStore},
}

func eight() []*auth.Record { return plain(8) }
