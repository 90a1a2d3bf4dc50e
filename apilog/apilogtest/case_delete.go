package apilogtest

import (
	"fmt"
	"slices"
	"time"

	"github.com/insigner/auth/apilog"
)

const (
	beforeRule = "DeleteBefore deletes the entries from before t, of which less than a microsecond is cut off."
	aboutRule  = "It returns how many, or about how many."
	ownerRule  = "DeleteOwner deletes all entries of an owner and returns how many."
	nobodyRule = "An empty owner is an error."
)

// deleteBefore deletes what is older than t. The store has n of them.
func (p *probe) deleteBefore(t time.Time, n int64) {
	what := "DeleteBefore " + brief(t)
	got, err := p.DeleteBefore(p.ctx, t)
	p.ok(what, err)
	if got < 0 {
		p.errorf("%s: got %d deleted entries", what, got)
	}
	if n == 0 && got > 0 {
		p.errorf("%s: got %d deleted entries, want 0: there are none", what, got)
	}
}

// deleteOwner deletes the n entries of an owner.
func (p *probe) deleteOwner(owner string, n int64) {
	got, err := p.DeleteOwner(p.ctx, owner)
	if p.ok(fmt.Sprintf("DeleteOwner %q", owner), err) && got != n {
		p.errorf("DeleteOwner %q: got %d deleted entries, want %d", owner, got, n)
	}
}

// ofOwners stores two entries for each of the owners.
func (p *probe) ofOwners(owners ...string) []apilog.Entry {
	list := each(slices.Concat(owners, owners), func(e *apilog.Entry, owner string) { e.Owner = owner })
	p.append(list...)
	return list
}

// deletesEach deletes the entries of each of the owners, one after the other.
func (p *probe) deletesEach(owners ...string) {
	list := p.ofOwners(owners...)
	for _, owner := range owners {
		list = slices.DeleteFunc(list, func(e apilog.Entry) bool { return e.Owner == owner })
		p.deleteOwner(owner, 2)
		p.holds(list...)
	}
}

var deleteCases = []storeCase{
	{name: "Delete in an empty store", rule: beforeRule + " " + ownerRule, check: func(p *probe) {
		p.deleteBefore(epoch, 0)
		p.deleteOwner("org_1", 0)
		p.holds()
	}},
	{name: "DeleteBefore", rule: beforeRule + " " + aboutRule, check: func(p *probe) {
		var list []apilog.Entry
		for i := range 40 { // days, and within days
			list = append(list, entryAt(epoch.AddDate(0, 0, i/2).Add(time.Duration(i%2)*7*time.Hour)))
		}
		p.append(shuffled(list)...)
		for _, n := range []int{1, 2, 7, 22, 39} {
			p.deleteBefore(list[n].Time, int64(n))
			p.holds(list[n:]...)
		}
		p.deleteBefore(list[39].Time, 0)
		p.deleteBefore(epoch.AddDate(1, 0, 0), 1)
		p.holds()
	}},
	{name: "DeleteBefore at the microsecond", rule: beforeRule, check: func(p *probe) {
		midnight := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		for _, at := range []time.Time{midnight, midnight.Add(12345678 * time.Microsecond)} {
			list := atEach(at.Add(-time.Microsecond), at, at.Add(time.Microsecond), at.Add(time.Second))
			p.append(list...)
			p.deleteBefore(at.Add(-time.Microsecond), 0)
			p.deleteBefore(at.Add(-1), 0)
			p.holds(list...)
			p.deleteBefore(at.In(time.FixedZone("", 9*3600)), 1)
			p.holds(list[1:]...)
			p.deleteBefore(at.Add(time.Microsecond+1), 1)
			p.holds(list[2:]...)
			p.deleteBefore(at.Add(time.Minute), 2)
		}
	}},
	{name: "DeleteBefore with odd clocks", rule: beforeRule, check: func(p *probe) {
		list := atEach(time.Unix(0, 0).UTC(), time.Date(1970, 6, 1, 0, 0, 0, 0, time.UTC), epoch, epoch.Add(time.Hour),
			time.Date(2199, 12, 31, 0, 0, 0, 0, time.UTC))
		p.append(shuffled(list)...)
		p.deleteBefore(list[0].Time, 0)
		p.holds(list...)
		p.deleteBefore(list[1].Time.Add(time.Hour), 2)
		p.holds(list[2:]...)
		p.deleteBefore(list[4].Time, 2)
		p.holds(list[4])
		p.deleteBefore(time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC), 1)
		p.holds()
	}},
	{name: "DeleteBefore deletes entries of any kind", rule: beforeRule, check: func(p *probe) {
		bare := apilog.Entry{ID: apilog.NewID(epoch), Time: epoch}
		list := []apilog.Entry{
			entry(0), entry(1, withID("foreign")), bare, lostOf(epoch, 3), entry(2, owned("")), entry(3, answered(500)),
			entry(60),
		}
		p.append(list...)
		p.deleteBefore(epoch.Add(time.Minute), 6)
		p.holds(list[6])
	}},
	{name: "DeleteOwner", rule: ownerRule, check: func(p *probe) {
		p.deletesEach("1", "org_1", "org_2", "org_", "org_11", "org_3")
	}},
	{name: "DeleteOwner whose name is like another's", rule: ownerRule + " " + exactRule, check: func(p *probe) {
		p.deletesEach("acme", "Acme", "acme ", " acme", "ACME", "acmé", "acme\t")
	}},
	{name: "DeleteOwner whose name has wildcards", rule: ownerRule + " " + exactRule, check: func(p *probe) {
		p.deletesEach("%", "_", "a%", "a_", `a\%`, `\`, "*", "a*", "?", "'", "' OR ''='", "ab", "a")
	}},
	{name: "DeleteOwner deletes entries of any kind", rule: ownerRule, check: func(p *probe) {
		lost := lostOf(epoch.Add(time.Hour), 3)
		odd := []apilog.Entry{
			entry(0), entry(1, withID("foreign")), entry(2, answered(500)), lost,
			entry(3, func(e *apilog.Entry) { e.KeyID = "" }),
			entryAt(time.Unix(0, 0).UTC()), entryAt(time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC)),
		}
		others := []apilog.Entry{entry(4, owned("org_2")), {ID: apilog.NewID(epoch), Time: epoch}}
		p.append(slices.Concat(odd, others)...)
		p.deleteOwner("org_1", int64(len(odd)))
		p.holds(others...)
	}},
	{name: "DeleteOwner of nobody", rule: nobodyRule, check: func(p *probe) {
		list := p.ofOwners("", "org_1")
		_, err := p.DeleteOwner(p.ctx, "")
		p.refused(`DeleteOwner ""`, err)
		p.deleteOwner("org_2", 0)
		p.deleteOwner(" ", 0)
		p.holds(list...)
	}},
	{name: "Delete of many entries", rule: beforeRule + " " + ownerRule, check: func(p *probe) {
		list := entries(3000, func(i int, e *apilog.Entry) {
			if i%2 > 0 {
				e.Owner = "org_2"
			}
		})
		p.append(list...)
		p.deleteOwner("org_2", 1500)
		list = slices.DeleteFunc(list, func(e apilog.Entry) bool { return e.Owner == "org_2" })
		p.holds(list...)
		p.deleteBefore(list[1200].Time, 1200)
		p.holds(list[1200:]...)
	}},
	{name: "Deleted entries are gone", rule: beforeRule + " " + ownerRule + " Histogram does not count them.",
		check: func(p *probe) {
			list := p.ofOwners("org_1", "org_2", "org_3", "org_4")
			p.isCounted(list, after(0, time.Minute), 2*time.Second)
			p.deleteOwner("org_2", 2)
			p.deleteBefore(epoch.Add(4*time.Second), 3)
			left := []apilog.Entry{list[4], list[6], list[7]}
			p.isCounted(left, after(0, time.Minute), 2*time.Second)
			for _, e := range list {
				q := apilog.Query{Owner: e.Owner}
				p.lists(q, only(left, q)...)
			}
		}},
	{name: "Append of an ID that was deleted", rule: "The ID of a deleted entry is free again.", check: func(p *probe) {
		list := p.ofOwners("org_1", "org_2")
		p.deleteOwner("org_1", 2)
		p.append(list[0], list[1])
		p.holds(list[0], list[1], list[3])
		p.deleteBefore(epoch.Add(time.Minute), 3)
		p.append(list...)
		p.holds(list...)
	}},
}
