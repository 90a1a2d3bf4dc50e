package authtest

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

const (
	orderRule = "List returns records in the order of their CreatedAt and then, byte by byte, of their ID."
	newestRow = "NewestFirst: the reverse of that order."
	pageRule  = "List returns at most q.Limit records. A page shorter than q.Limit is the last one."
	afterRule = "After: only keys that follow it in that order; none need be there."
)

// page returns what List returns. It reports an error, and a page that cannot
// be right for any store. If q.Limit is 0, the page is of any
// length.
func (p *probe) page(q keyring.Query) []*auth.Record {
	if q.Limit == 0 {
		q.Limit = 1000
	}
	page, err := p.keys.List(p.ctx, q)
	if !p.ok(describe(q), err) {
		return nil
	}
	if len(page) > q.Limit {
		p.errorf("%s: got %d records, want at most %d", describe(q), len(page), q.Limit)
	}
	if slices.Contains(page, nil) {
		p.errorf("%s: got a nil record", describe(q))
		return nil
	}
	return page
}

// lists reports that List returns other records than these, or in another
// order.
func (p *probe) lists(q keyring.Query, want ...string) {
	p.sameIDs(describe(q), p.page(q), want)
}

// pages returns all that List returns, a page of q.Limit at a time. It stops at
// a page that is shorter, or after most records.
func (p *probe) pages(q keyring.Query, most int) []*auth.Record {
	var all []*auth.Record
	for {
		page := p.page(q)
		all = append(all, page...)
		if len(page) < q.Limit {
			return all
		}
		if len(all) > most {
			p.errorf("%s, page by page: got %d records so far, want at most %d", describe(q), len(all), most)
			return all
		}
		q.After = keyring.PositionOf(page[len(page)-1])
	}
}

// describe returns the call of List with the fields of q that are set.
func describe(q keyring.Query) string {
	var fields []string
	add := func(name string, set bool, value any) {
		if set {
			fields = append(fields, fmt.Sprintf("%s: %v", name, value))
		}
	}
	add("Owner", q.Owner != "", brief(q.Owner))
	add("Chain", q.Chain != "", brief(q.Chain))
	add("CreatedBy", q.CreatedBy != "", brief(q.CreatedBy))
	add("NewestFirst", q.NewestFirst, true)
	add("After", !q.After.IsZero(), brief(q.After.CreatedAt)+" "+q.After.ID)
	add("States", q.States != 0, q.States)
	add("Now", !q.Now.IsZero(), brief(q.Now))
	add("ExpiresFrom", !q.ExpiresFrom.IsZero(), brief(q.ExpiresFrom))
	add("ExpiresBefore", !q.ExpiresBefore.IsZero(), brief(q.ExpiresBefore))
	add("Text", q.Text != "", brief(q.Text))
	add("Limit", q.Limit != 0, q.Limit)
	return "List {" + strings.Join(fields, ", ") + "}"
}

// inOrder returns the records oldest first.
func inOrder(list []*auth.Record) []*auth.Record {
	return slices.SortedFunc(slices.Values(list), func(a, b *auth.Record) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
}

func reversed(ids []string) []string {
	ids = slices.Clone(ids)
	slices.Reverse(ids)
	return ids
}

// insertShuffled inserts the records in an order that is neither theirs nor its
// reverse.
func (p *probe) insertShuffled(list []*auth.Record) {
	n := len(list)
	step := 5
	for n%step == 0 || step%n == 0 {
		step += 2
	}
	for i := range list {
		p.insert(list[i*step%n])
	}
}

// scattered inserts n records, of which each five were created at one time.
func (p *probe) scattered(n int) []*auth.Record {
	list := p.records(n)
	for i, r := range list {
		r.CreatedAt = epoch.Add(time.Duration(i/5) * time.Microsecond)
	}
	p.insertShuffled(list)
	return list
}

var listCases = []storeCase{
	{name: "List of an empty store", rule: pageRule, check: func(p *probe) {
		p.lists(keyring.Query{})
		p.lists(keyring.Query{Owner: p.owner(0), NewestFirst: true, Limit: 1, After: keyring.PositionOf(p.record(1))})
	}},
	{name: "List keeps every field", rule: keeps, check: func(p *probe) {
		full, bare := p.record(0), p.record(1)
		full.DisabledAt, full.RevokedAt = epoch.Add(time.Hour), epoch.Add(2*time.Hour)
		full.LastUsedAt, full.UpdatedAt = epoch.Add(3*time.Hour), epoch.Add(4*time.Hour)
		full.UpdatedBy, full.Revision = changer, 7
		full.RotatedFrom, full.RotatedTo, full.Chain = p.id(10), p.id(11), p.id(12)
		bare.ExpiresAt, bare.Scopes, bare.Metadata = time.Time{}, nil, nil
		p.insert(full, bare)
		page := p.page(keyring.Query{})
		if p.sameIDs("List", page, []string{full.ID, bare.ID}); len(page) == 2 {
			p.ok("List: "+full.ID, differences(page[0], full))
			p.ok("List: "+bare.ID, differences(page[1], bare))
		}
	}},
	{name: "List of records in any state", rule: keeps + " Whether a key is good is for Record.Check to say.",
		check: func(p *probe) {
			list := p.inStates()
			p.insert(list...)
			p.lists(keyring.Query{}, ids(list)...)
		}},
	{name: "List shows changes", rule: "List returns the records as they are.", check: func(p *probe) {
		list := p.records(4)
		p.insert(list...)
		list[0] = revoked(list[0])
		p.update(list[0])
		list[1] = used(list[1], epoch.Add(time.Hour))
		p.touch(map[string]time.Time{list[1].ID: list[1].LastUsedAt})
		old, successor := p.rotated(list[2], 4)
		p.rotate(old, successor)
		list[2] = old
		p.delete(list[3].ID)
		list[3] = successor
		page := p.page(keyring.Query{})
		if p.sameIDs("List", page, ids(list)); len(page) == len(list) {
			for i, got := range page {
				p.ok("List: "+got.ID, differences(got, list[i]))
			}
		}
	}},
	{name: "List orders by CreatedAt", rule: orderRule, check: func(p *probe) {
		zones := []*time.Location{time.UTC, time.FixedZone("", 14*3600), time.FixedZone("", -12*3600)}
		list := p.records(9)
		for i, r := range list {
			r.CreatedAt = epoch.Add(time.Duration(i) * time.Microsecond).In(zones[i%3])
		}
		list[0].CreatedAt = time.Date(1969, 7, 20, 20, 17, 40, 0, time.UTC)
		list[8].CreatedAt = time.Date(2262, 4, 12, 0, 0, 0, 0, time.UTC) // nanoseconds since 1970 do not reach so far
		p.insertShuffled(list)
		p.lists(keyring.Query{}, ids(list)...)
	}},
	{name: "List orders by ID byte by byte", rule: orderRule, check: func(p *probe) {
		list := p.records(18)
		for _, r := range list {
			r.CreatedAt = epoch
		}
		p.insert(list...)
		want := ids(inOrder(list))
		p.lists(keyring.Query{}, want...)
		p.lists(keyring.Query{NewestFirst: true}, reversed(want)...)
	}},
	{name: "List newest first", rule: newestRow, check: func(p *probe) {
		p.scattered(12)
		newest := reversed(ids(p.page(keyring.Query{})))
		p.lists(keyring.Query{NewestFirst: true}, newest...)
		p.lists(keyring.Query{NewestFirst: true, Owner: p.owner(0), Limit: 7}, newest[:min(7, len(newest))]...)
	}},
	{name: "List page by page", rule: pageRule + " " + afterRule, check: func(p *probe) {
		list := p.scattered(23)
		for _, newest := range []bool{false, true} {
			want := ids(p.page(keyring.Query{NewestFirst: newest}))
			if len(want) != len(list) {
				p.errorf("List: got %d records, want %d", len(want), len(list))
			}
			for limit := 1; limit <= len(list)+1; limit++ {
				q := keyring.Query{NewestFirst: newest, Limit: limit}
				p.sameIDs(describe(q)+", page by page", p.pages(q, len(list)), want)
			}
		}
	}},
	{name: "List page by page while records change", rule: pageRule + " " + afterRule, check: func(p *probe) {
		list := p.records(6)
		p.insert(list...)
		first := p.page(keyring.Query{Limit: 3})
		newest := p.page(keyring.Query{Limit: 3, NewestFirst: true})
		p.sameIDs("the first page", first, ids(list[:3]))
		p.sameIDs("the first page, newest first", newest, reversed(ids(list[3:])))
		if len(first) != 3 || len(newest) != 3 {
			return
		}
		for _, i := range []int{2, 3} { // those at the positions
			p.update(revoked(list[i]))
			p.touch(map[string]time.Time{list[i].ID: epoch})
		}
		early := with(p.record(10), func(r *auth.Record) { r.CreatedAt = epoch.Add(-time.Hour) })
		late := p.record(11)
		p.insert(early, late)
		p.lists(keyring.Query{After: keyring.PositionOf(first[2])}, append(ids(list[3:]), late.ID)...)
		p.lists(keyring.Query{After: keyring.PositionOf(newest[2]), NewestFirst: true},
			append(reversed(ids(list[:3])), early.ID)...)
	}},
	{name: "List after any position", rule: afterRule, check: func(p *probe) {
		list := p.records(12)
		for i, r := range list {
			r.CreatedAt = epoch.Add(time.Duration(i/4) * time.Second)
		}
		p.insert(list...)
		list = inOrder(list)
		gone := list[5] // a position may be that of a record that is no longer there
		p.delete(gone.ID)
		var positions []keyring.Position
		for _, at := range []time.Duration{-time.Hour, 0, time.Microsecond, time.Second, 2 * time.Second, time.Hour} {
			for _, id := range []string{p.id(100), p.id(101), list[2].ID, gone.ID} {
				positions = append(positions, keyring.Position{CreatedAt: epoch.Add(at), ID: id})
			}
		}
		list = slices.Delete(list, 5, 6)
		for _, r := range list {
			positions = append(positions, keyring.PositionOf(r))
		}
		for _, after := range positions {
			var older, newer []string
			for _, r := range list {
				switch c := cmp.Or(r.CreatedAt.Compare(after.CreatedAt), cmp.Compare(r.ID, after.ID)); {
				case c < 0:
					older = append(older, r.ID)
				case c > 0:
					newer = append(newer, r.ID)
				}
			}
			p.lists(keyring.Query{After: after}, newer...)
			after.CreatedAt = after.CreatedAt.In(time.FixedZone("", 14*3600))
			p.lists(keyring.Query{After: after, NewestFirst: true}, reversed(older)...)
		}
	}},
	{name: "List from the start", rule: "After: a zero Position is the start of the order.", check: func(p *probe) {
		list := p.records(4)
		list[0].CreatedAt = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
		list[3].CreatedAt = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
		p.insert(list...)
		p.lists(keyring.Query{}, ids(list)...)
		p.lists(keyring.Query{Owner: p.owner(0), Limit: 1}, list[0].ID)
		p.lists(keyring.Query{NewestFirst: true, Limit: 1}, list[3].ID)
	}},
	{name: "List with a limit below 1", rule: "List: a Limit below 1 is an error.", check: func(p *probe) {
		p.insert(p.record(1))
		for _, limit := range []int{0, -1, math.MinInt32} {
			for _, owner := range []string{"", p.owner(0), p.owner(1)} {
				q := keyring.Query{Owner: owner, Limit: limit}
				_, err := p.keys.List(p.ctx, q)
				p.refused(fmt.Sprint(describe(q), " with the limit ", limit), err)
			}
		}
	}},
	{name: "List with a large limit", rule: pageRule, check: func(p *probe) {
		p.insert(p.records(3)...)
		p.lists(keyring.Query{Limit: math.MaxInt32}, ids(p.records(3))...)
	}},
}
