package authtest

import (
	"slices"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

const (
	updates      = "Update stores r if the stored Revision is r.Revision-1."
	conflicts    = "Update: the error matches keyring.ErrConflict if the stored Revision is another."
	updateUnheld = "Update: the error matches auth.ErrNotFound if there is no record with that ID."
	updateTaken  = "Update: the error matches keyring.ErrExists if the ID or the Hash of successor is taken."
	both         = "Update inserts successor if it is not nil: both or neither."
	oneRow       = "Update: success means that exactly one row was written, and the successor if there is one."
	fixed        = "Update stores neither LastUsedAt nor a change of ID, Hash, Owner, CreatedAt or CreatedBy."
)

// updatesKeep returns a check that a record comes back as Update was given it,
// in each of these variants, and that a successor does.
func updatesKeep(changes ...func(r *auth.Record)) func(p *probe) {
	return func(p *probe) {
		for i, change := range changes {
			old := p.record(2 * i)
			p.insert(old)
			old, successor := p.rotated(old, 2*i+1)
			change(old)
			change(successor)
			p.rotate(old, successor)
			p.holds(old, successor)
		}
	}
}

var updateCases = []storeCase{
	{name: "Update stores each change", rule: updates, check: func(p *probe) {
		r := p.record(1)
		p.insert(r)
		at := epoch.Add(time.Hour)
		for _, change := range []func(r *auth.Record){
			func(r *auth.Record) { r.Name = "another name" },
			func(r *auth.Record) { r.Scopes = auth.Scopes{"webhooks.*", "documents.read", "audit"} },
			func(r *auth.Record) { r.Metadata = map[string]string{"number": "2", "new": "yes"} },
			func(r *auth.Record) { r.ExpiresAt = at },
			func(r *auth.Record) { r.DisabledAt = at },
			func(r *auth.Record) { r.DisabledAt = time.Time{} },
			func(r *auth.Record) { r.ExpiresAt = time.Time{} },
			func(r *auth.Record) { r.Scopes, r.Metadata = nil, nil },
			func(r *auth.Record) { r.RotatedTo = p.id(100) },
			func(r *auth.Record) { r.UpdatedAt, r.UpdatedBy = at, "another actor" },
			func(r *auth.Record) { r.DisabledAt, r.RevokedAt = at, at.Add(time.Hour) },
			func(*auth.Record) {}, // only Revision, UpdatedAt and UpdatedBy
			func(r *auth.Record) {
				r.Name, r.ExpiresAt, r.Scopes = "all at once", at, auth.Scopes{"*"}
				r.Metadata, r.DisabledAt = map[string]string{"a": "b"}, time.Time{}
			},
		} {
			r = changed(r, change)
			p.update(r)
			p.holds(r)
		}
	}},
	{name: "Update keeps microseconds", rule: times, check: updatesKeep(oddTimes...)},
	{name: "Update keeps scopes and metadata", rule: keeps,
		check: updatesKeep(slices.Concat(oddScopes, oddMetadata)...)},
	{name: "Update keeps text", rule: keeps, check: updatesKeep(slices.Concat(oddTexts, longValues)...)},
	{name: "Update changes one record", rule: oneRow, check: func(p *probe) {
		list := p.records(5)
		for _, r := range list[1:] { // alike in all but ID and hash
			id, hash := r.ID, r.Hash
			*r = *list[0].Clone()
			r.ID, r.Hash = id, hash
		}
		p.insert(list...)
		list[2] = renamed(list[2], "another name")
		p.update(list[2])
		p.holds(list...)
		old, successor := p.rotated(list[3], 5)
		p.rotate(old, successor)
		list[3] = old
		p.holds(append(list, successor)...)
	}},
	{name: "Update does not store LastUsedAt", rule: fixed, check: func(p *probe) {
		list := p.records(3)
		list[0].LastUsedAt = epoch.Add(time.Hour)
		p.insert(list...)
		list[1].LastUsedAt = epoch.Add(time.Hour)
		p.touch(map[string]time.Time{list[1].ID: list[1].LastUsedAt})
		for i, r := range list {
			for _, at := range []time.Time{{}, epoch, epoch.AddDate(1, 0, 0)} {
				want := renamed(list[i], "changed at "+brief(at))
				p.update(used(want, at))
				p.holds(want)
				list[i] = want
			}
			old, successor := p.rotated(list[i], 10+i)
			successor.LastUsedAt = epoch.Add(time.Minute) // it is inserted as it is
			p.rotate(used(old, epoch.AddDate(2, 0, 0)), successor)
			old.LastUsedAt = r.LastUsedAt
			p.holds(old, successor)
		}
	}},
	{name: "Update does not store what never changes", rule: fixed, check: func(p *probe) {
		for i, change := range []func(r *auth.Record){
			func(r *auth.Record) { r.Hash = hashOf(100) },
			func(r *auth.Record) { r.Owner = p.owner(1) },
			func(r *auth.Record) { r.CreatedAt = r.CreatedAt.Add(-time.Hour) },
			func(r *auth.Record) { r.CreatedBy = "another actor" },
		} {
			r := p.record(i)
			p.insert(r)
			want := renamed(r, "another name")
			// A store may refuse the change, or pass over it.
			if err := p.keys.Update(p.ctx, with(want.Clone(), change), nil); err != nil {
				want = r
			}
			p.holds(want)
			p.lacksHash(with(p.record(i), func(r *auth.Record) { r.Hash = hashOf(100) }))
			p.lists(keyring.Query{Owner: p.owner(1)})
			p.lists(keyring.Query{CreatedBy: "another actor"})
			p.lists(keyring.Query{Limit: i + 1}, ids(p.records(i+1))...)
		}
	}},
	{name: "Update of another revision", rule: conflicts + " " + noChange, check: func(p *probe) {
		r := p.record(1)
		p.insert(r)
		r = renamed(r, "revision 2")
		p.update(r)
		r = renamed(r, "revision 3")
		p.update(r)
		for _, revision := range []int64{-1, 0, 1, 2, 3, 5, 6, 1 << 40} {
			wrong := with(renamed(r, "wrong"), func(r *auth.Record) { r.Revision = revision })
			p.fails("Update of revision 3 to "+brief(revision), p.keys.Update(p.ctx, wrong, nil), keyring.ErrConflict)
			p.holds(r)
		}
		r = renamed(r, "revision 4")
		p.update(r)
		p.holds(r)
	}},
	{name: "Update of another revision inserts no successor", rule: conflicts + " " + both, check: func(p *probe) {
		r := p.record(1)
		p.insert(r)
		for i, revision := range []int64{0, 1, 3} {
			wrong, successor := p.rotated(r, 2+i)
			wrong.Revision = revision
			p.fails("Update with a successor of a record of revision 1 to "+brief(revision),
				p.keys.Update(p.ctx, wrong, successor), keyring.ErrConflict)
			p.holds(r)
			p.lacks(successor)
		}
	}},
	{name: "Update of an unknown record", rule: updateUnheld + " " + noChange, check: func(p *probe) {
		p.insert(p.record(1))
		unknown := renamed(p.record(2), "another name")
		for _, revision := range []int64{1, 2} {
			unknown.Revision = revision
			p.fails("Update of a record that is not there", p.keys.Update(p.ctx, unknown.Clone(), nil), auth.ErrNotFound)
		}
		p.lacks(unknown)
		mixed := with(renamed(p.record(1), "another name"), func(r *auth.Record) { r.ID = p.id(3) })
		p.fails("Update with the hash of a record, and another ID", p.keys.Update(p.ctx, mixed, nil), auth.ErrNotFound)
		p.lacksID(mixed.ID)
		p.holds(p.record(1))
	}},
	{name: "Update of an unknown record inserts no successor", rule: updateUnheld + " " + both, check: func(p *probe) {
		unknown, successor := p.rotated(p.record(1), 2)
		p.fails("Update with a successor of a record that is not there", p.keys.Update(p.ctx, unknown, successor),
			auth.ErrNotFound)
		p.lacks(unknown)
		p.lacks(successor)
	}},
	{name: "Update inserts the successor", rule: both, check: func(p *probe) {
		list := p.records(3)
		p.insert(list...)
		old, successor := p.rotated(list[1], 3)
		successor.Name, successor.Owner, successor.CreatedBy = "as it was given", p.owner(1), "another actor"
		successor.Scopes, successor.Metadata, successor.Revision = auth.Scopes{"audit"}, nil, 5
		successor.DisabledAt, successor.RevokedAt = epoch, epoch.Add(time.Hour)
		successor.CreatedAt = epoch.Add(-time.Hour)
		p.rotate(old, successor)
		list[1] = old
		p.holds(append(list, successor)...)
	}},
	{name: "Update makes chains", rule: both, check: func(p *probe) {
		first := p.record(0)
		p.insert(first)
		list := []*auth.Record{first}
		for i := range 4 {
			old, successor := p.rotated(list[i], i+1)
			p.rotate(old, successor)
			list[i] = old
			list = append(list, successor)
			p.holds(list...)
		}
		for i, r := range list { // each can still be changed
			list[i] = revoked(r)
			p.update(list[i])
		}
		p.holds(list...)
	}},
	{name: "Update with a taken successor ID", rule: updateTaken + " " + both, check: func(p *probe) {
		p.takenSuccessor(func(successor, by *auth.Record) { successor.ID = by.ID })
	}},
	{name: "Update with a taken successor hash", rule: updateTaken + " " + both, check: func(p *probe) {
		p.takenSuccessor(func(successor, by *auth.Record) { successor.Hash = by.Hash })
	}},
	{name: "Update with a successor without an ID", rule: "Insert: a record without an ID is an error. " + both,
		check: func(p *probe) {
			r := p.record(1)
			p.insert(r)
			old, successor := p.rotated(r, 2)
			successor.ID = ""
			p.refused("Update with a successor without an ID", p.keys.Update(p.ctx, old, successor))
			p.holds(r)
			p.lacks(successor)
		}},
	{name: "Update does not modify the records", rule: untouched, check: func(p *probe) {
		r := p.record(1)
		p.insert(r)
		old, successor := p.rotated(r, 2)
		for _, r := range []*auth.Record{old, successor} {
			r.Scopes = auth.Scopes{"templates.read", "documents.read"}
			r.ExpiresAt = r.ExpiresAt.Add(999).In(time.FixedZone("", 3600))
		}
		old.LastUsedAt = epoch
		oldBefore, successorBefore := old.Clone(), successor.Clone()
		p.rotate(old, successor)
		p.ok("the record that was updated", modified(old, oldBefore))
		p.ok("the successor", modified(successor, successorBefore))
		p.ok("the record that was inserted before", modified(r, p.record(1)))
	}},
}

// takenSuccessor checks that a successor is refused if take has given it what
// another record has: a third one, the one that is updated, and a revoked one.
func (p *probe) takenSuccessor(take func(successor, by *auth.Record)) {
	list := p.records(3)
	list[2].RevokedAt = epoch
	p.insert(list...)
	for i, by := range list {
		old, successor := p.rotated(list[0], 10+i)
		take(successor, by)
		p.fails("Update with a successor that has what "+by.Name+" has", p.keys.Update(p.ctx, old, successor),
			keyring.ErrExists)
		p.holds(list...)
		if successor.ID != by.ID {
			p.lacksID(successor.ID)
		}
		if successor.Hash != by.Hash {
			p.lacksHash(successor)
		}
	}
	old, successor := p.rotated(list[0], 20) // the attempts have cost nothing
	p.rotate(old, successor)
	p.holds(old, successor, list[1], list[2])
}
