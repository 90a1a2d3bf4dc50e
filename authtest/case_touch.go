package authtest

import (
	"time"

	"github.com/insigner/auth/keyring"
)

const (
	touches     = "Touch sets the LastUsedAt of each record, by ID, to the given time if that is later."
	touchesOnly = "Touch: a use is not a change, and makes no revision."
	touchSkips  = "Touch skips an ID that it does not hold."
	touchMap    = "Touch: the map may be nil, and of any size."
)

var touchCases = []storeCase{
	{name: "Touch sets LastUsedAt", rule: touches, check: func(p *probe) {
		list := p.records(5)
		list[1].LastUsedAt = epoch
		p.insert(list...)
		lastUsed := make(map[string]time.Time)
		for i := range 4 {
			at := epoch.Add(time.Duration(i+1) * time.Microsecond)
			list[i] = used(list[i], at)
			lastUsed[list[i].ID] = at.In(time.FixedZone("", -11*3600))
		}
		p.touch(lastUsed)
		p.holds(list...)
	}},
	{name: "Touch sets no earlier time", rule: touches, check: func(p *probe) {
		r := p.record(0)
		r.LastUsedAt = epoch
		p.insert(r)
		for _, earlier := range []time.Time{epoch, epoch.Add(-time.Microsecond), epoch.AddDate(-1, 0, 0),
			epoch.Add(-time.Hour).In(time.FixedZone("", 14*3600)), time.Unix(0, 0), {}} {
			p.touch(map[string]time.Time{r.ID: earlier})
			p.holds(r)
		}
	}},
	{name: "Touch gives each record its own time", rule: touches, check: func(p *probe) {
		list := p.records(3)
		p.insert(list...)
		for _, minutes := range [][3]int{{5, 1, 0}, {4, 6, 0}, {7, 6, 9}, {8, 0, 8}} {
			lastUsed := make(map[string]time.Time)
			for i, n := range minutes {
				at := epoch.Add(time.Duration(n) * time.Minute)
				if n == 0 {
					continue
				}
				lastUsed[list[i].ID] = at
				if at.After(list[i].LastUsedAt) {
					list[i] = used(list[i], at)
				}
			}
			p.touch(lastUsed)
			p.holds(list...)
		}
	}},
	{name: "Touch changes nothing else", rule: touchesOnly, check: func(p *probe) {
		list := p.inStates()
		list[3].RotatedFrom, list[3].RotatedTo = p.id(100), p.id(101)
		list[4].Scopes, list[4].Metadata = nil, nil
		p.insert(list...)
		list[5] = renamed(list[5], "another name")
		p.update(list[5])
		for round := range 2 {
			lastUsed := make(map[string]time.Time)
			for i, r := range list {
				list[i] = used(r, epoch.AddDate(20+round, 0, i))
				lastUsed[r.ID] = list[i].LastUsedAt
			}
			p.touch(lastUsed)
			p.holds(list...)
		}
		list[6] = revoked(list[6]) // it is still of the revision that it was
		p.update(list[6])
		p.holds(list...)
	}},
	{name: "Touch skips unknown IDs", rule: touchSkips, check: func(p *probe) {
		p.touch(map[string]time.Time{p.id(1): epoch})
		p.lacks(p.record(1))
		list := p.records(3)
		p.insert(list...)
		p.delete(list[2].ID)
		list[1] = used(list[1], epoch)
		p.touch(map[string]time.Time{p.id(10): epoch, p.id(11): epoch, list[1].ID: epoch, list[2].ID: epoch, p.id(12): epoch})
		p.holds(list[0], list[1])
		p.lacksID(p.id(10))
		p.lacks(list[2])
	}},
	{name: "Touch of nothing", rule: touchMap, check: func(p *probe) {
		r := p.record(1)
		p.insert(r)
		p.touch(nil)
		p.touch(map[string]time.Time{})
		p.holds(r)
	}},
	{name: "Touch of very many", rule: touchMap, check: func(p *probe) {
		lastUsed := make(map[string]time.Time)
		known := p.records(10)
		p.insert(known...)
		for i := range 3000 {
			lastUsed[p.id(i)] = epoch.Add(time.Duration(i) * time.Millisecond)
		}
		for i, r := range known {
			known[i] = used(r, lastUsed[r.ID])
		}
		p.touch(lastUsed)
		p.holds(known...)
		p.lists(keyring.Query{}, ids(known)...)
	}},
	{name: "Touch does not keep the map", rule: "Touch neither modifies the map nor reads it after it has returned.",
		check: func(p *probe) {
			r := p.record(1)
			p.insert(r)
			lastUsed := map[string]time.Time{r.ID: epoch, p.id(2): epoch}
			p.touch(lastUsed)
			if len(lastUsed) != 2 {
				p.errorf("Touch modified the map: it has %d entries, want 2", len(lastUsed))
			}
			lastUsed[r.ID] = epoch.Add(time.Hour)
			p.holds(used(r, epoch))
		}},
}
