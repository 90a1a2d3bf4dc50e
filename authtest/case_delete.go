package authtest

import (
	"fmt"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

const (
	deletes      = "Delete removes the record with that ID."
	deleteUnheld = "Delete: if there is no record with that ID, the error matches auth.ErrNotFound."
)

var deleteCases = []storeCase{
	{name: "Delete removes the record", rule: deletes, check: func(p *probe) {
		list := p.inStates()
		p.insert(list...)
		for i := 0; i < len(list); i += 2 {
			p.delete(list[i].ID)
			p.lacks(list[i])
		}
		var left []*auth.Record
		for i := 1; i < len(list); i += 2 {
			left = append(left, list[i])
		}
		p.holds(left...)
		p.lists(keyring.Query{}, ids(left)...)
		p.lists(keyring.Query{NewestFirst: true, Owner: p.owner(0), Limit: 3}, reversed(ids(left))[:3]...)
	}},
	{name: "Delete removes one record", rule: deletes, check: func(p *probe) {
		list := p.records(5)
		for _, r := range list[1:4] { // alike in all but ID and hash
			id, hash := r.ID, r.Hash
			*r = *list[0].Clone()
			r.ID, r.Hash = id, hash
		}
		p.insert(list...)
		old, successor := p.rotated(list[4], 5)
		p.rotate(old, successor)
		next, last := p.rotated(successor, 6)
		p.rotate(next, last)
		p.delete(list[1].ID)
		p.delete(next.ID) // from the middle of its chain
		p.holds(list[0], list[2], list[3], old, last)
		p.delete(old.ID)
		p.holds(list[0], list[2], list[3], last)
	}},
	{name: "Delete of an unknown ID", rule: deleteUnheld + " " + noChange, check: func(p *probe) {
		p.fails("Delete in an empty store", p.keys.Delete(p.ctx, p.id(1), deleter), auth.ErrNotFound)
		r := p.record(1)
		p.insert(r, p.record(2))
		for _, id := range append(notIDs(r.ID), p.id(3)) {
			p.fails(fmt.Sprintf("Delete %s, which is not there", brief(id)), p.keys.Delete(p.ctx, id, deleter), auth.ErrNotFound)
		}
		p.holds(r, p.record(2))
	}},
	{name: "Delete twice", rule: deleteUnheld, check: func(p *probe) {
		r := p.record(1)
		p.insert(r)
		p.delete(r.ID)
		p.fails("the second Delete", p.keys.Delete(p.ctx, r.ID, deleter), auth.ErrNotFound)
	}},
	{name: "Insert after Delete", rule: deletes + " Its ID and its hash are free again.", check: func(p *probe) {
		r := p.record(1)
		p.insert(r)
		p.touch(map[string]time.Time{r.ID: epoch.Add(time.Hour)})
		p.update(revoked(used(r, epoch.Add(time.Hour))))
		p.delete(r.ID)
		p.insert(p.record(1))
		p.holds(p.record(1))
		p.delete(r.ID)
		other := with(p.record(2), func(r *auth.Record) { r.Hash = hashOf(1) })
		p.insert(other)
		p.holds(other)
		p.lacksID(r.ID)
		p.insert(p.record(3))
		old, successor := p.rotated(p.record(3), 1)
		successor.Hash = hashOf(4)
		p.rotate(old, successor)
		p.holds(old, successor, other)
	}},
	{name: "Update after Delete", rule: updateUnheld, check: func(p *probe) {
		r := p.record(1)
		p.insert(r)
		p.delete(r.ID)
		p.fails("Update of a deleted record", p.keys.Update(p.ctx, renamed(r, "another name"), nil), auth.ErrNotFound)
		p.lacks(r)
		old, successor := p.rotated(r, 2)
		p.fails("Update with a successor of a deleted record", p.keys.Update(p.ctx, old, successor), auth.ErrNotFound)
		p.lacks(r)
		p.lacks(successor)
	}},
}
