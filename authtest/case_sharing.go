package authtest

import (
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

const stays = "A record that is returned must not be modified afterwards."

// A returned record is one that the store has returned, as it was then.
type returned struct{ record, then *auth.Record }

// stay reports that the store has modified a record that it has returned.
func (p *probe) stay(what string, list []returned) {
	for _, r := range list {
		p.ok("a record that "+what+" returned before", modified(r.record, r.then))
	}
}

func remembered(records ...*auth.Record) []returned {
	var list []returned
	for _, r := range records {
		if r != nil {
			list = append(list, returned{r, r.Clone()})
		}
	}
	return list
}

// changeAll makes each kind of change, to another one of six records each.
func (p *probe) changeAll(list []*auth.Record) {
	p.update(revoked(list[0]))
	old, successor := p.rotated(list[1], 10)
	p.rotate(old, successor)
	p.touch(map[string]time.Time{list[2].ID: epoch.Add(time.Hour)})
	p.delete(list[3].ID)
	p.insert(with(p.record(11), func(r *auth.Record) { r.CreatedAt = list[0].CreatedAt }))
	p.update(changed(list[4], func(r *auth.Record) {
		r.Name, r.Scopes, r.Metadata = "another name", auth.Scopes{"*", "audit"}, map[string]string{"number": "0"}
	}))
}

var sharingCases = []storeCase{
	{name: "What Lookup returned stays", rule: stays, check: func(p *probe) {
		list := p.records(6)
		p.insert(list...)
		var got []*auth.Record
		for _, r := range list {
			found, err := p.Lookup(p.ctx, r.Hash)
			p.ok("Lookup", err)
			got = append(got, found)
		}
		then := remembered(got...)
		p.changeAll(list)
		p.stay("Lookup", then)
	}},
	{name: "What Get returned stays", rule: stays, check: func(p *probe) {
		list := p.records(6)
		p.insert(list...)
		var got []*auth.Record
		for _, r := range list {
			found, err := p.keys.Get(p.ctx, r.ID)
			p.ok("Get", err)
			got = append(got, found)
		}
		then := remembered(got...)
		p.changeAll(list)
		p.stay("Get", then)
	}},
	{name: "What List returned stays", rule: stays, check: func(p *probe) {
		list := p.records(6)
		p.insert(list...)
		page := p.page(keyring.Query{Limit: 6})
		then := remembered(page...)
		p.changeAll(list)
		p.page(keyring.Query{Limit: 6, NewestFirst: true})
		p.stay("List", then)
		p.sameIDs("the page that List returned before", page, ids(list)) // the slice, too
	}},
}
