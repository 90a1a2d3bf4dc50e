package apilogtest

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/insigner/auth/apilog"
)

const (
	listRule  = "List returns the entries that q selects."
	orderRule = "List returns the newest first, and those of one time in the descending order of their IDs."
	limitRule = "Limit is the most that a list returns. If it is 0 or less, it is DefaultLimit."
	afterRule = "After is the ID of an entry. A list continues after it."
	goneRule  = "If NewID made the ID, the entry need not be there any more."
	elseRule  = "Else it must be there, and be one of Owner if that is set, or the error matches ErrInvalidQuery."
)

// scattered stores n entries, of which each five are of one time.
func (p *probe) scattered(n int) []apilog.Entry {
	var list []apilog.Entry
	for i := range n {
		list = append(list, entryAt(epoch.Add(time.Duration(i/5)*time.Microsecond)))
	}
	p.append(shuffled(list)...)
	return newest(list)
}

var listCases = []storeCase{
	{name: "List of an empty store", rule: listRule, check: func(p *probe) {
		p.lists(apilog.Query{})
		p.lists(apilog.Query{Owner: "org_1", From: epoch, Limit: 1, After: apilog.NewID(epoch)})
	}},
	{name: "List orders by time", rule: orderRule, check: func(p *probe) {
		var list []apilog.Entry
		for i := range 12 { // the IDs are in the opposite order
			list = append(list, entryAt(epoch.Add(time.Duration(i)*time.Microsecond), withID(fmt.Sprintf("entry%02d", 99-i))))
		}
		p.append(shuffled(list)...)
		p.lists(apilog.Query{}, newest(list)...)
		p.lists(apilog.Query{Owner: "org_1", Limit: 9}, newest(list)[:9]...)
	}},
	{name: "List orders those of one time by ID", rule: orderRule, check: func(p *probe) {
		list := slices.Concat(atEach(slices.Repeat([]time.Time{epoch}, 20)...), atEach(epoch.Add(time.Second)))
		p.append(shuffled(list)...)
		p.lists(apilog.Query{}, newest(list)...)
		p.lists(apilog.Query{KeyID: "key_1", Limit: 12}, newest(list)[:12]...)
	}},
	{name: "Limit", rule: limitRule, check: func(p *probe) {
		list := entries(7, nil)
		p.append(list...)
		for limit := 1; limit <= 8; limit++ {
			p.lists(apilog.Query{Limit: limit}, newest(list)[:min(limit, 7)]...)
		}
	}},
	{name: "Limit of 0 or less", rule: limitRule, check: func(p *probe) {
		list := entries(apilog.DefaultLimit+50, nil)
		p.append(list...)
		for _, limit := range []int{0, -1, math.MinInt} {
			got, err := p.List(p.ctx, apilog.Query{Limit: limit})
			what := fmt.Sprintf("List with a limit of %d", limit)
			if p.ok(what, err) {
				p.sameIDs(what, got, newest(list)[:apilog.DefaultLimit])
			}
		}
	}},
	{name: "Large limit", rule: limitRule, check: func(p *probe) {
		list := entries(3, nil)
		p.append(list...)
		for _, limit := range []int{1 << 20, math.MaxInt32, math.MaxInt} {
			p.lists(apilog.Query{Limit: limit}, newest(list)...)
		}
	}},
}

var afterCases = []storeCase{
	{name: "List page by page", rule: orderRule + " " + afterRule, check: func(p *probe) {
		list := p.scattered(23)
		for _, limit := range []int{1, 2, 3, 7, 22, 23, 24} {
			q := apilog.Query{Limit: limit}
			p.sameIDs(describe(q)+", page by page", p.pages(q, len(list)), list)
		}
		p.lists(apilog.Query{After: list[len(list)-1].ID}) // the last page is empty
	}},
	{name: "List page by page while entries are appended", rule: afterRule, check: func(p *probe) {
		list := newest(entries(9, nil))
		p.append(list[3:]...)
		first := p.page(apilog.Query{Limit: 3})
		if p.sameIDs("the first page", first, list[3:6]); len(first) != 3 {
			return
		}
		old := entry(-1)
		p.append(list[0], list[1], list[2], old)
		p.lists(apilog.Query{After: first[2].ID}, append(slices.Clone(list[6:]), old)...)
		p.lists(apilog.Query{After: list[2].ID, Limit: 3}, list[3:6]...)
	}},
	{name: "After an entry that the filters leave out", rule: afterRule + " Whether or not the other fields select it.",
		check: func(p *probe) {
			list := newest(entries(12, func(i int, e *apilog.Entry) {
				e.KeyID = []string{"key_1", "key_2", "key_3"}[i%3]
				e.Status = 200 + i
			}))
			p.append(list...)
			for i, e := range list {
				for _, q := range []apilog.Query{
					{KeyID: "key_2"}, {KeyID: "key_2", Limit: 1}, {StatusFrom: 204, StatusTo: 208}, {To: epoch.Add(8 * time.Second)},
					{From: epoch.Add(3 * time.Second), Owner: "org_1"},
				} {
					want := only(list[i+1:], q)
					if q.Limit > 0 {
						want = want[:min(q.Limit, len(want))]
					}
					q.After = e.ID
					p.lists(q, want...)
				}
			}
		}},
	{name: "After an entry that is gone", rule: afterRule + " " + goneRule, check: func(p *probe) {
		list := p.scattered(15)
		gone := []apilog.Entry{
			entryAt(epoch.Add(-time.Hour)), entryAt(list[7].Time, owned("org_2")), entryAt(list[12].Time),
			entryAt(epoch.Add(time.Hour)),
		}
		p.append(gone[1])
		_, err := p.DeleteOwner(p.ctx, "org_2")
		p.ok("DeleteOwner", err)
		for _, e := range gone { // one that was there, and some that never were
			all := newest(append(slices.Clone(list), e))
			i := slices.Index(ids(all), e.ID)
			p.lists(apilog.Query{After: e.ID}, all[i+1:]...)
			p.lists(apilog.Query{After: e.ID, Owner: "org_1"}, all[i+1:]...)
		}
	}},
	{name: "After an ID that NewID did not make", rule: afterRule + " " + elseRule, check: func(p *probe) {
		list := newest(entries(9, func(i int, e *apilog.Entry) {
			if i%2 == 0 { // in no order
				e.ID = []string{"1", "entry 7", "entry-8", "zzzzzzzzzzzzzzzzzzzz", "%"}[i/2]
			}
		}))
		p.append(list...)
		for i, e := range list {
			p.lists(apilog.Query{After: e.ID}, list[i+1:]...)
			p.lists(apilog.Query{After: e.ID, Owner: "org_1", Limit: 2}, list[i+1:min(i+3, len(list))]...)
		}
	}},
	{name: "After an unknown ID that NewID did not make", rule: elseRule, check: func(p *probe) {
		p.append(entry(0), entry(1, withID("entry 1")), entry(2, withID("entry 2"), owned("org_2")))
		for _, id := range []string{
			" ", "0", "%", "entry", "ENTRY 1", "entry 1 ", "entry 11", "'", `\`, "0198c5a4-7d3e-7b1a-9f42-6c1d2e3f4a5b",
			"zzzzzzzzzzzzzzzzzzzz", "😀",
		} {
			_, err := p.List(p.ctx, apilog.Query{After: id})
			p.invalid(describe(apilog.Query{After: id}), err)
		}
		q := apilog.Query{After: "entry 2", Owner: "org_1"} // another owner's
		_, err := p.List(p.ctx, q)
		p.invalid(describe(q), err)
	}},
}
