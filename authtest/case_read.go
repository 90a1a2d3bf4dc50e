package authtest

import (
	"fmt"
	"strings"
	"time"

	"github.com/insigner/auth"
)

const (
	lookupRule   = "Lookup returns the record with that hash, in any state."
	lookupUnheld = "Lookup: if there is no such record, the error matches auth.ErrNotFound."
	getUnheld    = "Get returns the record with that ID. If no record has it, the error matches auth.ErrNotFound."
)

var past = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)

// inStates returns records in all states and combinations of them: expired,
// disabled, revoked, and never to expire.
func (m *maker) inStates() []*auth.Record {
	list := m.records(12)
	for i, r := range list {
		switch i / 4 {
		case 1:
			r.ExpiresAt = past
		case 2:
			r.ExpiresAt = time.Time{}
		}
		if i&1 != 0 {
			r.DisabledAt = epoch.AddDate(0, 1, 0)
		}
		if i&2 != 0 {
			r.RevokedAt = epoch.AddDate(0, 2, 0)
		}
	}
	return list
}

var readCases = []storeCase{
	{name: "Lookup in any state", rule: lookupRule, check: func(p *probe) {
		list := p.inStates()
		list[2].RevokedAt = epoch.AddDate(70, 0, 0) // a time in the future counts too
		p.insert(list...)
		p.holds(list...)
	}},
	{name: "Lookup in an empty store", rule: lookupUnheld, check: func(p *probe) {
		p.lacksHash(p.record(1))
	}},
	{name: "Lookup of an unknown hash", rule: lookupUnheld, check: func(p *probe) {
		r := p.record(1)
		p.insert(r)
		for i := range 20 {
			p.lacksHash(p.record(2 + i))
		}
		digits := p.record(1)
		copy(digits.Hash[:], r.Hash.String()) // as text, half of it
		p.lacksHash(digits)
	}},
	{name: "Lookup compares the whole hash", rule: lookupRule + " " + lookupUnheld, check: func(p *probe) {
		r := p.record(1)
		p.insert(r)
		for _, other := range similar(r.Hash) {
			got, err := p.Lookup(p.ctx, other.hash)
			p.fails("Lookup of "+other.what, errOrNil(got, err), auth.ErrNotFound)
		}
	}},
	{name: "Lookup of hashes that are no text", rule: lookupRule, check: func(p *probe) {
		var list []*auth.Record
		for i, hash := range oddHashes() {
			list = append(list, with(p.record(i), func(r *auth.Record) { r.Hash = hash }))
		}
		p.insert(list...)
		p.holds(list...)
	}},
	{name: "Get of an unknown ID", rule: getUnheld, check: func(p *probe) {
		r := p.record(1)
		p.insert(r)
		for i := range 5 {
			p.lacksID(p.id(2 + i))
		}
		for _, id := range notIDs(r.ID) {
			p.lacksID(id)
		}
		p.holds(r)
	}},
}

// notIDs returns texts that a careless comparison takes for id. A client may
// send any of them.
func notIDs(id string) []string {
	var list []string
	for _, other := range []string{
		"", "0", "%", "_", "'", "*", "no-such-key",
		id[:len(id)-1], id[:len(id)-1] + "_", id[:len(id)-1] + "%", "%" + id[1:],
		id + "x", id + "%", id + "'--", fmt.Sprintf("%s' OR 'a'='a", id), strings.Repeat("x", 300),
	} {
		if other != id {
			list = append(list, other)
		}
	}
	return list
}
