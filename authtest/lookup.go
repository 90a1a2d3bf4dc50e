package authtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/insigner/auth"
)

// TestLookup checks that a store which only looks keys up, perhaps in a table that was there before, does what
// [auth.Store] says, and [auth.SnapshotStore] if it is one. It runs a subtest for each rule; one that fails quotes the
// rule. The subtests run one after another.
//
// newStore returns a store that holds these records and no others, a new one for each subtest.
//
// The records are such that most tables can hold them: an ID is a decimal number, a time has whole seconds and lies
// in the years 2000 to 2037. A store need not keep all of a record: a Hint, Name, Owner, CreatedAt, LastUsedAt,
// CreatedBy or Metadata may come back empty, but not changed; RevokedAt may be another time if it is set; Scopes may be
// in another order. The rest decides requests, and must be right.
func TestLookup(t *testing.T, newStore func(t *testing.T, records ...auth.Record) auth.Store) {
	t.Helper()
	for _, c := range lookupOnlyCases {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t, c.records()...)
			if s == nil {
				t.Fatal("authtest.TestLookup: newStore returned nil")
			}
			if err := c.run(t.Context(), s); err != nil {
				t.Errorf("%v\nthe rule: %s", err, c.rule)
			}
		})
	}
}

// A lookupCase checks one rule, on a store that holds the records.
type lookupCase struct {
	name    string
	rule    string // as the contract has it
	records func() []auth.Record
	check   func(p *probe, records []auth.Record)
}

// run returns what is wrong with s, or nil.
func (c *lookupCase) run(ctx context.Context, s auth.Store) error {
	ctx, cancel := context.WithTimeout(ctx, caseTime)
	defer cancel()
	p := &probe{ctx: ctx, Store: s}
	c.check(p, c.records())
	return p.err()
}

// plain returns n records as TestLookup promises them.
func plain(n int) []auth.Record {
	list := records(n)
	for i := range list {
		r := &list[i]
		r.ID = fmt.Sprint(1001 + i)
		r.CreatedAt = r.CreatedAt.Truncate(time.Second)
		r.ExpiresAt = time.Date(2037, 1, 1, 0, 0, i, 0, time.UTC)
	}
	return list
}

// varied returns records of which each decides a request in another way.
func varied() []auth.Record {
	list := plain(8)
	list[1].ExpiresAt = time.Time{}
	list[2].ExpiresAt = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	list[3].RevokedAt = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	list[4].RevokedAt, list[4].ExpiresAt = time.Date(2037, 1, 1, 0, 0, 0, 0, time.UTC), time.Time{}
	list[5].Scopes = nil
	list[6].Scopes = auth.Scopes{"*"}
	list[7].Scopes = auth.Scopes{"templates.read", "documents.*", "documents.fields.read", "documents_2.a-b"}
	return list
}

// finds reports if Lookup, or LookupSnapshot, finds something else than these records.
func (p *probe) finds(list ...auth.Record) {
	for _, want := range list {
		what := "Lookup of the hash of " + want.ID
		if got, err := p.Lookup(p.ctx, want.Hash); p.ok(what, err) {
			p.ok(what, decides(got, want))
		}
		if s, ok := snapshots(p.Store); ok {
			what := "LookupSnapshot of the hash of " + want.ID
			if got, err := s.LookupSnapshot(p.ctx, want.Hash); p.ok(what, err) {
				p.ok(what, decides(got.Record(), want))
			}
		}
	}
}

// findsNone reports if there is a record with that hash.
func (p *probe) findsNone(what string, hash auth.Hash) {
	_, err := p.Lookup(p.ctx, hash)
	p.fails("Lookup of "+what, err, auth.ErrNotFound)
	if s, ok := snapshots(p.Store); ok {
		_, err := s.LookupSnapshot(p.ctx, hash)
		p.fails("LookupSnapshot of "+what, err, auth.ErrNotFound)
	}
}

// decides is like differences, but lets go what a store that only looks up need not keep.
func decides(got, want auth.Record) error {
	for _, field := range []struct{ got, want *string }{{&got.Hint, &want.Hint}, {&got.Name, &want.Name},
		{&got.Owner, &want.Owner}, {&got.CreatedBy, &want.CreatedBy}} {
		if *field.got == "" {
			*field.want = ""
		}
	}
	if got.CreatedAt.IsZero() {
		want.CreatedAt = time.Time{}
	}
	if len(got.Metadata) == 0 {
		want.Metadata = nil
	}
	if !got.RevokedAt.IsZero() && !want.RevokedAt.IsZero() {
		want.RevokedAt = got.RevokedAt
	}
	got.Scopes, want.Scopes = slices.Clone(got.Scopes), slices.Clone(want.Scopes)
	slices.Sort(got.Scopes)
	slices.Sort(want.Scopes)
	return differences(got, want)
}

var lookupOnlyCases = []lookupCase{
	{"empty", notFound, func() []auth.Record { return nil }, func(p *probe, _ []auth.Record) {
		p.findsNone("a hash in an empty store", record(1).Hash)
		p.findsNone("the zero hash in an empty store", auth.Hash{})
	}},
	{"known", "Lookup returns the record whose Hash is hash.", func() []auth.Record { return plain(20) },
		func(p *probe, list []auth.Record) { p.finds(list...) }},
	{"unknown", notFound, varied, func(p *probe, list []auth.Record) {
		p.findsNone("an unknown hash", record(100).Hash)
		for _, r := range list {
			var text auth.Hash
			copy(text[:], r.Hash.String())
			p.findsNone("the hex digits of a hash", text)
		}
	}},
	{"revoked", lookup, varied, func(p *probe, list []auth.Record) { p.finds(list[3:5]...) }},
	{"expired", lookup, varied, func(p *probe, list []auth.Record) { p.finds(list[2]) }},
	{"never expires", "A zero ExpiresAt: never.", varied, func(p *probe, list []auth.Record) { p.finds(list[1]) }},
	{"scopes", "The Scopes are those of the record, and no others.", varied,
		func(p *probe, list []auth.Record) { p.finds(list[5:]...) }},
	{"whole hash", lookup + " " + notFound, func() []auth.Record { return plain(1) },
		func(p *probe, list []auth.Record) {
			for _, other := range similar(list[0].Hash) {
				p.findsNone(other.what, other.hash)
			}
			p.finds(list...)
		}},
	{"odd hashes", lookup, func() []auth.Record {
		list := plain(len(oddHashes()))
		for i, hash := range oddHashes() {
			list[i].Hash = hash
		}
		return list
	}, func(p *probe, list []auth.Record) { p.finds(list...) }},
	{"copies", "Lookup must not return a record that a later call changes.", varied,
		func(p *probe, list []auth.Record) {
			for _, r := range list {
				first, err := p.Lookup(p.ctx, r.Hash)
				p.ok("Lookup", err)
				p.finds(list...)
				p.ok("what was returned before changed later: "+r.ID, decides(first, r))
			}
		}},
	{"context", unknown, varied, func(p *probe, list []auth.Record) {
		ctx, cancel := context.WithCancel(p.ctx)
		cancel()
		for _, r := range list {
			got, err := p.Lookup(ctx, r.Hash)
			switch {
			case errors.Is(err, auth.ErrNotFound):
				p.errorf("Lookup with a cancelled context: got error %v for a record that is there", err)
			case err == nil:
				p.ok("Lookup with a cancelled context", decides(got, r))
			}
		}
		if _, err := p.Lookup(ctx, record(100).Hash); err == nil {
			p.errorf("Lookup of an unknown hash with a cancelled context: no error")
		}
		p.finds(list...)
	}},
	{"at the same time", concurrent, varied, func(p *probe, list []auth.Record) {
		together(workers, func(i int) {
			for range 4 {
				p.finds(list[i%len(list)])
				p.findsNone("an unknown hash", record(100+i).Hash)
			}
		})
	}},
}
