package authtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/insigner/auth"
)

const (
	sharing  = "Records that are returned share no memory with the store that either side could change."
	shareIn  = "A store keeps what it is given: it shares no memory with a record that was passed in."
	unknown  = "If there is no such record the error matches ErrNotFound; any other error means that the answer is unknown."
	orUnsure = "A method that returns an error has changed nothing, or cannot know (a lost connection)."
)

// spoil changes all the memory that a copy of r shares with it.
func spoil(r auth.Record) {
	for i := range r.Scopes {
		r.Scopes[i] = "*"
	}
	_ = append(r.Scopes[:0:cap(r.Scopes)], "*")
	for key := range r.Metadata {
		r.Metadata[key] = "spoiled"
	}
	if r.Metadata != nil {
		r.Metadata["spoiled"] = "yes"
	}
}

var sharingCases = []storeCase{
	{name: "Insert copies", rule: shareIn, check: func(p *probe) {
		r := record(1)
		p.insert(r)
		spoil(r)
		p.holds(record(1))
	}},
	{name: "Replace copies", rule: shareIn, check: func(p *probe) {
		p.insert(record(1))
		next := successor(2, record(1))
		p.replace(next, epoch)
		spoil(next)
		p.holds(replaced(record(1), next.ID, epoch), successor(2, record(1)))
	}},
	{name: "Touch copies", rule: "A store does not keep the map that Touch was given.", check: func(p *probe) {
		r := record(1)
		p.insert(r)
		used := map[string]time.Time{r.ID: epoch}
		p.touch(used)
		used[r.ID] = epoch.Add(time.Hour)
		r.LastUsedAt = epoch
		p.holds(r)
		if len(used) != 1 {
			p.errorf("Touch changed the map that it was given: it has %d entries, not 1", len(used))
		}
	}},
	{name: "Lookup returns a copy", rule: sharing, check: func(p *probe) {
		p.insert(record(1))
		got, _ := p.Lookup(p.ctx, record(1).Hash)
		spoil(got)
		p.holds(record(1))
	}},
	{name: "Get returns a copy", rule: sharing, check: func(p *probe) {
		p.insert(record(1))
		got, _ := p.keys.Get(p.ctx, record(1).ID)
		spoil(got)
		p.holds(record(1))
	}},
	{name: "List returns copies", rule: sharing, check: func(p *probe) {
		list := records(3)
		p.insert(list...)
		page := p.list("", auth.Position{}, 10)
		for i := range page {
			spoil(page[i])
			page[i] = auth.Record{}
		}
		p.holds(records(3)...)
		for i, got := range p.list("", auth.Position{}, 3) {
			p.ok("List: "+got.ID, differences(got, record(i)))
		}
	}},
	{name: "What was returned stays", rule: "Lookup must not return a record that a later call changes. " + sharing,
		check: func(p *probe) {
			list := records(3)
			p.insert(list...)
			var got []auth.Record
			for _, r := range list {
				found, err := p.Lookup(p.ctx, r.Hash)
				p.ok("Lookup", err)
				got = append(got, found)
			}
			got = append(got, p.list("", auth.Position{}, 3)...)
			p.revoke(list[0].ID, epoch)
			p.replace(successor(3, list[1]), epoch)
			p.touch(map[string]time.Time{list[2].ID: epoch})
			for i, r := range got {
				p.ok("what was returned before changed later: "+r.ID, differences(r, record(i%3)))
			}
		}},
}

// unsure reports an error that says more than a store can know when the context is done.
func (p *probe) unsure(what string, err error) {
	for _, sentinel := range []error{auth.ErrNotFound, auth.ErrExists, auth.ErrKeyRevoked, auth.ErrSuperseded} {
		if errors.Is(err, sentinel) {
			p.errorf("%s with a context that is done: got error %v, which is a wrong answer", what, err)
		}
	}
}

var contextCases = []storeCase{
	{name: "Reading with a cancelled context", rule: unknown, check: func(p *probe) {
		list := records(3)
		p.insert(list...)
		ctx, cancel := context.WithCancel(p.ctx)
		cancel()
		expired, cancel := context.WithDeadline(p.ctx, time.Unix(0, 0))
		defer cancel()
		for _, ctx := range []context.Context{ctx, expired} {
			got, err := p.Lookup(ctx, list[1].Hash)
			if p.unsure("Lookup", err); err == nil {
				p.ok("Lookup with a context that is done", differences(got, list[1]))
			}
			got, err = p.keys.Get(ctx, list[1].ID)
			if p.unsure("Get", err); err == nil {
				p.ok("Get with a context that is done", differences(got, list[1]))
			}
			page, err := p.keys.List(ctx, "", auth.Position{}, 10)
			if p.unsure("List", err); err == nil {
				p.sameIDs("List with a context that is done", page, ids(list))
			}
			if _, err = p.Lookup(ctx, record(9).Hash); err == nil {
				p.errorf("Lookup of an unknown hash with a context that is done: no error")
			}
		}
		p.holds(list...) // and with a context that is not, all is well
	}},
	{name: "Writing with a cancelled context", rule: orUnsure, check: func(p *probe) {
		list := records(3)
		p.insert(list...)
		ctx, cancel := context.WithCancel(p.ctx)
		cancel()

		fresh := record(10)
		err := p.keys.Insert(ctx, fresh)
		if p.unsure("Insert", err); err == nil {
			p.holds(fresh)
		}
		err = p.keys.Revoke(ctx, list[0].ID, epoch)
		if p.unsure("Revoke", err); err == nil {
			list[0].RevokedAt = epoch
			p.holds(list[0])
		}
		next := successor(11, list[1])
		err = p.keys.Replace(ctx, next, epoch)
		if p.unsure("Replace", err); err == nil {
			p.holds(replaced(list[1], next.ID, epoch), next)
		}
		err = p.keys.Touch(ctx, map[string]time.Time{list[2].ID: epoch})
		if p.unsure("Touch", err); err == nil {
			list[2].LastUsedAt = epoch
			p.holds(list[2])
		}
	}},
	{name: "Replace cancelled on the way", rule: "Replace does what it does in one atomic step. " + orUnsure,
		check: func(p *probe) {
			for i := range 40 {
				old, next := record(2*i), record(2*i+1)
				next.Replaces = old.ID
				p.insert(old)
				ctx, cancel := context.WithTimeout(p.ctx, time.Duration(i)*50*time.Microsecond)
				err := p.keys.Replace(ctx, next, epoch)
				cancel()
				p.unsure("Replace", err)
				got, getErr := p.keys.Get(p.ctx, old.ID)
				if !p.ok("Get after a Replace", getErr) {
					return
				}
				if got.ReplacedBy != "" || err == nil {
					p.holds(replaced(old, next.ID, epoch), next)
				} else {
					p.holds(old)
					p.lacks(next)
				}
			}
			if n := len(p.list("", auth.Position{}, 100)); n < 40 {
				p.errorf("List returned %d records, though at least 40 were inserted", n)
			}
		}},
}

var snapshotCases = []storeCase{
	{name: "LookupSnapshot answers as Lookup does", rule: "LookupSnapshot: the answers must be those of Lookup.",
		check: func(p *probe) {
			s := p.Store.(auth.SnapshotStore)
			same := func(list ...auth.Record) {
				for _, want := range list {
					got, err := s.LookupSnapshot(p.ctx, want.Hash)
					if what := fmt.Sprintf("LookupSnapshot of the hash of %s", want.ID); p.ok(what, err) {
						p.ok(what, differences(got.Record(), want))
					}
				}
			}
			_, err := s.LookupSnapshot(p.ctx, record(0).Hash)
			p.fails("LookupSnapshot in an empty store", err, auth.ErrNotFound)
			list := records(5)
			list[3].RevokedAt = epoch
			list[4].ExpiresAt = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
			p.insert(list...)
			same(list...)
			for _, other := range similar(list[0].Hash) {
				_, err := s.LookupSnapshot(p.ctx, other.hash)
				p.fails("LookupSnapshot of "+other.what, err, auth.ErrNotFound)
			}

			p.revoke(list[0].ID, epoch)
			list[0].RevokedAt = epoch
			p.touch(map[string]time.Time{list[1].ID: epoch})
			list[1].LastUsedAt = epoch
			next := successor(6, list[2])
			p.replace(next, epoch)
			list[2] = replaced(list[2], next.ID, epoch)
			same(append(list, next)...)
		}},
	{name: "Snapshots stay", rule: "A Snapshot is a Record that nobody can change.", check: func(p *probe) {
		s := p.Store.(auth.SnapshotStore)
		r := record(1)
		p.insert(r)
		first, err := s.LookupSnapshot(p.ctx, r.Hash)
		p.ok("LookupSnapshot", err)
		spoil(r)
		p.revoke(r.ID, epoch)
		p.touch(map[string]time.Time{r.ID: epoch})
		p.ok("a Snapshot changed later", differences(first.Record(), record(1)))
	}},
}
