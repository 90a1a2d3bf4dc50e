package authtest

import (
	"fmt"
	"time"

	"github.com/insigner/auth"
)

const (
	revokes = "Revoke sets RevokedAt to at, unless it is set already: the first revocation stands, and the second is no " +
		"error."
	touches     = "Touch sets LastUsedAt of each record, by ID, to the time given if that is later than what it holds."
	touchesOnly = "Touch changes nothing else, and passes over IDs that it does not know."
)

var revokeCases = []storeCase{
	{name: "Revoke sets RevokedAt", rule: revokes, check: func(p *probe) {
		list := records(4)
		p.insert(list...)
		list[1].RevokedAt = epoch.Add(time.Microsecond)
		p.revoke(list[1].ID, list[1].RevokedAt)
		list[2].RevokedAt = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC) // the future counts too
		p.revoke(list[2].ID, list[2].RevokedAt.In(time.FixedZone("", 5*3600)))
		p.holds(list...)
	}},
	{name: "Revoke keeps the first time", rule: revokes, check: func(p *probe) {
		list := records(2)
		list[1].RevokedAt = epoch
		p.insert(list...)
		list[0].RevokedAt = epoch
		p.revoke(list[0].ID, epoch)
		for _, later := range []time.Duration{0, time.Hour, -time.Hour} {
			p.revoke(list[0].ID, epoch.Add(later))
			p.revoke(list[1].ID, epoch.Add(later))
			p.holds(list...)
		}
	}},
	{name: "Revoke changes nothing else", rule: revokes, check: func(p *probe) {
		list := records(4)
		list[0].LastUsedAt, list[0].Replaces, list[0].ReplacedBy = epoch.Add(time.Hour), "key_before", "key_behind"
		list[1].ExpiresAt = epoch // expired
		list[2].ExpiresAt = time.Time{}
		list[3].Metadata, list[3].Scopes = nil, auth.Scopes{"", "b.c", "a.b", "b.c"}
		p.insert(list...)
		for i := range list {
			list[i].RevokedAt = epoch.Add(time.Duration(i) * time.Minute)
			p.revoke(list[i].ID, list[i].RevokedAt)
			p.holds(list...)
		}
	}},
	{name: "Revoke refuses a zero time", rule: "Revoke: a zero at, which would revoke nothing, is an error.", check: func(p *probe) {
		r := record(1)
		p.insert(r)
		for _, at := range []time.Time{{}, time.Time{}.In(time.FixedZone("", 3600))} {
			p.refused("Revoke at the zero time", p.keys.Revoke(p.ctx, r.ID, at))
			p.holds(r)
		}
	}},
	{name: "Revoke finds none", rule: "Revoke: if there is no record with that ID the error matches ErrNotFound.",
		check: func(p *probe) {
			p.fails("Revoke in an empty store", p.keys.Revoke(p.ctx, "key_0001", epoch), auth.ErrNotFound)
			r := record(1)
			p.insert(r)
			for _, id := range []string{"", "key_0002", "KEY_0001", "key_", "%", "key_0001 "} {
				p.fails(fmt.Sprintf("Revoke %q", id), p.keys.Revoke(p.ctx, id, epoch), auth.ErrNotFound)
			}
			p.holds(r)
		}},
}

var touchCases = []storeCase{
	{name: "Touch sets LastUsedAt", rule: touches, check: func(p *probe) {
		list := records(4)
		list[1].LastUsedAt = epoch
		p.insert(list...)
		for i := range 3 {
			list[i].LastUsedAt = epoch.Add(time.Duration(i+1) * time.Microsecond)
		}
		p.touch(map[string]time.Time{
			list[0].ID: list[0].LastUsedAt,
			list[1].ID: list[1].LastUsedAt.In(time.FixedZone("", -11*3600)),
			list[2].ID: list[2].LastUsedAt,
		})
		p.holds(list...)
	}},
	{name: "Touch moves forward only", rule: touches, check: func(p *probe) {
		list := records(2)
		list[0].LastUsedAt = epoch
		p.insert(list...)
		for _, earlier := range []time.Time{epoch, epoch.Add(-time.Microsecond), epoch.AddDate(-1, 0, 0),
			epoch.Add(-time.Hour).In(time.FixedZone("", 14*3600)), time.Unix(0, 0), {}} {
			p.touch(map[string]time.Time{list[0].ID: earlier})
			p.holds(list...)
		}
		list[1].LastUsedAt = epoch.Add(time.Hour)
		p.touch(map[string]time.Time{list[0].ID: epoch.Add(-1 * time.Hour), list[1].ID: list[1].LastUsedAt})
		p.holds(list...)
		list[0].LastUsedAt = epoch.Add(time.Hour)
		p.touch(map[string]time.Time{list[0].ID: list[0].LastUsedAt, list[1].ID: epoch})
		p.holds(list...)
	}},
	{name: "Touch changes nothing else", rule: touchesOnly, check: func(p *probe) {
		list := records(5)
		list[0].RevokedAt, list[0].Replaces, list[0].ReplacedBy = epoch, "key_before", "key_behind"
		list[1].ExpiresAt = epoch // expired
		list[2].ExpiresAt = time.Time{}
		list[3].Metadata, list[3].Scopes = nil, auth.Scopes{"", "b.c", "a.b", "b.c"}
		p.insert(list...)
		p.revoke(list[4].ID, epoch)
		list[4].RevokedAt = epoch
		used := make(map[string]time.Time)
		for i := range list {
			list[i].LastUsedAt = epoch.AddDate(20, 0, i)
			used[list[i].ID] = list[i].LastUsedAt
		}
		p.touch(used)
		p.holds(list...)
		p.lists("", auth.Position{}, 10, ids(list)...)
	}},
	{name: "Touch passes over unknown IDs", rule: touchesOnly, check: func(p *probe) {
		p.touch(map[string]time.Time{"key_0001": epoch})
		p.lacks(record(1))
		list := records(2)
		p.insert(list...)
		list[1].LastUsedAt = epoch
		p.touch(map[string]time.Time{"": epoch, "%": epoch, "key_": epoch, "KEY_0001": epoch, list[1].ID: epoch,
			"a'b": epoch, "key_0001 ": epoch})
		p.holds(list...)
		p.lists("", auth.Position{}, 10, ids(list)...)
	}},
	{name: "Touch of nothing", rule: touches, check: func(p *probe) {
		r := record(1)
		p.insert(r)
		p.touch(nil)
		p.touch(map[string]time.Time{})
		p.holds(r)
	}},
	{name: "Touch of very many", rule: touches + " The map may be of any size.", check: func(p *probe) {
		var known []auth.Record
		used := make(map[string]time.Time)
		for i := range 2000 {
			r := record(i)
			r.LastUsedAt = epoch.Add(time.Duration(i) * time.Millisecond)
			used[r.ID] = r.LastUsedAt
			if i%100 == 99 {
				known = append(known, r)
				r.LastUsedAt = time.Time{}
				p.insert(r)
			}
		}
		p.touch(used)
		p.holds(known...)
		p.lists("", auth.Position{}, 100, ids(known)...)
	}},
}
