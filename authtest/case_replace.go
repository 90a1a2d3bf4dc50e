package authtest

import (
	"time"

	"github.com/insigner/auth"
)

const (
	replaces = "Replace inserts successor and gives the record with the ID successor.Replaces its ReplacedBy (the " +
		"successor's ID) and its ExpiresAt."
	shortens   = "Replace: ExpiresAt becomes expires if it was zero or later than that."
	noChange   = "Replace: on an error nothing has changed."
	inOrder    = "Replace: ErrNotFound, ErrKeyRevoked, ErrSuperseded and ErrExists are looked at in this order."
	onceOnly   = "Replace: if the record's ReplacedBy is set, the error matches ErrSuperseded."
	takenRule  = "Replace: if the successor's ID or Hash is taken, the error matches ErrExists."
	goneRule   = "Replace: if the record successor.Replaces is not there, the error matches ErrNotFound."
	revokeRule = "Replace: if the record is revoked, the error matches ErrKeyRevoked."
)

// refuses reports a Replace that does not fail with want, or that changed a record: all those that there are.
func (p *probe) refuses(what string, next auth.Record, want error, all ...auth.Record) {
	p.fails("Replace "+what, p.keys.Replace(p.ctx, next, epoch.Add(time.Hour)), want)
	p.holds(all...)
	p.lists("", auth.Position{}, len(all)+2, ids(all)...)
}

var replaceCases = []storeCase{
	{name: "Replace sets both records", rule: replaces, check: func(p *probe) {
		list := records(3)
		list[1].LastUsedAt, list[1].Replaces = epoch.Add(time.Hour), "key_before"
		p.insert(list...)
		next := successor(3, list[1])
		next.Owner, next.Name, next.LastUsedAt = "org_2", "as it was given", epoch
		expires := epoch.Add(7*24*time.Hour + time.Microsecond)
		p.replace(next, expires.In(time.FixedZone("", 14*3600)))
		list[1] = replaced(list[1], next.ID, expires)
		p.holds(append(list, next)...)
		p.lists("", auth.Position{}, 10, ids(append(list, next))...)
	}},
	{name: "Replace makes chains", rule: replaces, check: func(p *probe) {
		list := records(4)
		p.insert(list[0])
		for i := 1; i < len(list); i++ {
			list[i].Replaces = list[i-1].ID
			expires := epoch.Add(time.Duration(i) * time.Hour)
			p.replace(list[i], expires)
			list[i-1] = replaced(list[i-1], list[i].ID, expires)
			p.holds(list[:i+1]...)
		}
	}},
	{name: "Replace gives an expiry to what had none", rule: shortens, check: func(p *probe) {
		old := record(1)
		old.ExpiresAt = time.Time{}
		p.insert(old)
		next := successor(2, old)
		next.ExpiresAt = time.Time{} // the successor's own stays
		p.replace(next, epoch.Add(time.Hour))
		p.holds(replaced(old, next.ID, epoch.Add(time.Hour)), next)
	}},
	{name: "Replace shortens a later expiry", rule: shortens, check: func(p *probe) {
		old := record(1)
		old.ExpiresAt = epoch.Add(time.Hour).In(time.FixedZone("", -12*3600)) // later, though not on the clock there
		p.insert(old)
		next := successor(2, old)
		p.replace(next, epoch.Add(time.Hour-time.Microsecond))
		p.holds(replaced(old, next.ID, epoch.Add(time.Hour-time.Microsecond)), next)
	}},
	{name: "Replace never extends", rule: shortens, check: func(p *probe) {
		old := record(1)
		old.ExpiresAt = epoch.Add(time.Hour).In(time.FixedZone("", 14*3600)) // earlier, though not on the clock there
		p.insert(old)
		next := successor(2, old)
		p.replace(next, epoch.Add(time.Hour+time.Microsecond))
		p.holds(replaced(old, next.ID, old.ExpiresAt), next)
	}},
	{name: "Replace does not revive", rule: shortens + " It decides nothing: whether a key is expired is Record.Check's to " +
		"say.", check: func(p *probe) {
		old := record(1)
		old.ExpiresAt = time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC)
		p.insert(old)
		next := successor(2, old)
		p.replace(next, time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC))
		p.holds(replaced(old, next.ID, old.ExpiresAt), next)
	}},
	{name: "Replace refuses a zero expiry", rule: "Replace: a zero expires, which would mean never, is an error. " + noChange,
		check: func(p *probe) {
			list := records(2)
			list[1].ExpiresAt = time.Time{}
			p.insert(list...)
			for i := range list {
				next := successor(3, list[i])
				p.refused("Replace with a zero expiry", p.keys.Replace(p.ctx, next, time.Time{}))
				p.holds(list...)
				p.lacks(next)
			}
		}},
	{name: "Replace refuses a successor without an ID", rule: "Replace: a successor without an ID is an error. " + noChange,
		check: func(p *probe) {
			list := records(1)
			p.insert(list...)
			next := successor(2, list[0])
			next.ID = ""
			p.refused("Replace by a record without an ID", p.keys.Replace(p.ctx, next, epoch))
			p.holds(list...)
			p.lacks(next)
		}},
	{name: "Replace of an unknown record", rule: goneRule + " " + noChange, check: func(p *probe) {
		r := record(1)
		p.insert(r)
		for _, id := range []string{"", "key_0000", "KEY_0001", "key_", "%", "key_0001 ", "key_0002"} {
			next := record(2)
			next.Replaces = id
			p.refuses("of the unknown "+id, next, auth.ErrNotFound, r)
			p.lacks(next)
		}
	}},
	{name: "Replace of a revoked record", rule: revokeRule + " " + noChange, check: func(p *probe) {
		list := records(2)
		list[1].RevokedAt = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC) // in the future, and set
		p.insert(list...)
		p.revoke(list[0].ID, epoch)
		list[0].RevokedAt = epoch
		for i := range list {
			next := successor(3, list[i])
			p.refuses("of a revoked record", next, auth.ErrKeyRevoked, list...)
			p.lacks(next)
		}
	}},
	{name: "Replace of a superseded record", rule: onceOnly + " " + noChange, check: func(p *probe) {
		list := records(3)
		list[2].ReplacedBy = "key_behind" // which need not be there
		p.insert(list[0], list[2])
		list[1].Replaces = list[0].ID
		p.replace(list[1], epoch)
		list[0] = replaced(list[0], list[1].ID, epoch)
		for _, i := range []int{0, 2} {
			next := successor(3, list[i])
			p.refuses("of a superseded record", next, auth.ErrSuperseded, list...)
			p.lacks(next)
		}
		p.revoke(list[1].ID, epoch) // that the successor is revoked changes nothing
		list[1].RevokedAt = epoch
		p.refuses("of a record whose successor is revoked", successor(3, list[0]), auth.ErrSuperseded, list...)
	}},
	{name: "Replace by an ID that exists", rule: takenRule + " " + noChange, check: func(p *probe) {
		list := records(2)
		p.insert(list...)
		for _, taken := range list { // another record's, and that of the one to replace
			next := successor(2, list[0])
			next.ID = taken.ID
			p.refuses("by an ID that exists", next, auth.ErrExists, list...)
			_, err := p.Lookup(p.ctx, next.Hash)
			p.fails("Lookup of the hash that was refused", err, auth.ErrNotFound)
		}
		next := successor(2, list[0])
		p.replace(next, list[0].ExpiresAt) // it is not spent
		p.holds(replaced(list[0], next.ID, list[0].ExpiresAt), next)
	}},
	{name: "Replace by a hash that exists", rule: takenRule + " " + noChange, check: func(p *probe) {
		list := records(2)
		p.insert(list...)
		for _, taken := range list {
			next := successor(2, list[0])
			next.Hash = taken.Hash
			p.refuses("by a hash that exists", next, auth.ErrExists, list...)
			_, err := p.keys.Get(p.ctx, next.ID)
			p.fails("Get of the ID that was refused", err, auth.ErrNotFound)
		}
		next := successor(2, list[0])
		p.replace(next, list[0].ExpiresAt)
		p.holds(replaced(list[0], next.ID, list[0].ExpiresAt), next)
	}},
	{name: "Replace checks in order", rule: inOrder, check: func(p *probe) {
		list := records(3)
		list[0].RevokedAt, list[0].ReplacedBy = epoch, "key_behind"
		list[1].ReplacedBy = "key_behind"
		p.insert(list...)

		taken := list[2]
		taken.Replaces = "key_none"
		p.refuses("of an unknown record by one that exists", taken, auth.ErrNotFound, list...)
		p.refuses("of a revoked and superseded record", successor(3, list[0]), auth.ErrKeyRevoked, list...)
		taken.Replaces = list[0].ID
		p.refuses("of a revoked record by one that exists", taken, auth.ErrKeyRevoked, list...)
		taken.Replaces = list[1].ID
		p.refuses("of a superseded record by one that exists", taken, auth.ErrSuperseded, list...)
	}},
}
