package apilogtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/insigner/auth/apilog"
)

const (
	appends      = "Append stores the entries."
	allOrNothing = "Append stores all of the entries or none."
	anyOrder     = "They may be of any time, in any order."
	again        = "An entry whose ID is stored already is left as it is; that is no error."
	borrowed     = "The store may neither keep the slice nor change it."
)

// appendedAgain returns an entry with the ID and the time of e, and nothing else
// of it.
func appendedAgain(e apilog.Entry) apilog.Entry {
	return apilog.Entry{
		ID: e.ID, Time: e.Time, KeyID: "key_2", Owner: "org_2", Method: "GET", Route: "GET /", Path: "/", Status: 500,
		Code: "INTERNAL", RequestID: "request_2", UserAgent: "other",
	}
}

// allOrNone reports that a part of the entries is stored, or none though Append
// returned no error. Nothing else must be stored.
func (p *probe) allOrNone(what string, list []apilog.Entry, err error) {
	switch got := len(p.pages(apilog.Query{Limit: most}, len(list))); {
	case err == nil && got != len(list):
		p.errorf("%s: got no error, but there are %d of %d entries", what, got, len(list))
	case got != 0 && got != len(list):
		p.errorf("%s: got error %q, and there are %d of %d entries, want all or none", what, err, got, len(list))
	}
}

var appendCases = []storeCase{
	{name: "Append of no entries", rule: appends, check: func(p *probe) {
		p.ok("Append of nil", p.Append(p.ctx, nil))
		p.ok("Append of an empty slice", p.Append(p.ctx, []apilog.Entry{}))
		p.holds()
	}},
	{name: "Append of many entries", rule: appends, check: func(p *probe) {
		list := entries(4200, nil)
		p.ok("Append of 4200 entries", p.Append(p.ctx, slices.Clone(list)))
		p.holds(list...)
	}},
	{name: "Append in any order of times", rule: appends + " " + anyOrder, check: func(p *probe) {
		var list []apilog.Entry
		for i := range 30 {
			list = append(list, entryAt(epoch.AddDate(0, 0, -40*i)))
		}
		list = shuffled(list)
		p.append(list[:10]...)
		p.append(list[10:15]...)
		for _, e := range list[15:] {
			p.append(e)
		}
		p.holds(list...)
	}},
	{name: "Append of an ID again", rule: again, check: func(p *probe) {
		list := entries(6, nil)
		p.append(list[:4]...)
		p.append(list[:4]...)
		p.append(appendedAgain(list[0]))
		p.append(list[4], appendedAgain(list[1]), list[5], appendedAgain(list[2])) // the new ones are stored
		p.same("List", p.page(apilog.Query{}), newest(list))
	}},
	{name: "Append of one ID twice", rule: again, check: func(p *probe) {
		list := entries(4, nil)
		p.append(list[0], list[1], list[0], list[1], list[1])
		p.holds(list[:2]...)
		p.append(list[2], list[2], list[0], list[3])
		p.holds(list...)
	}},
	{name: "Append of an entry that no store can keep", rule: allOrNothing, check: func(p *probe) {
		for i, path := range []string{"/\x00", "/\xff", "/\xed\xa0\x80", "/" + strings.Repeat("x", 1<<20)} {
			list := entries(7, nil)
			list[3+i].Path = path
			what := fmt.Sprintf("Append of 7 entries, of which one has the path %s", brief(path))
			p.allOrNone(what, list, p.Append(p.ctx, slices.Clone(list)))
			_, err := p.DeleteBefore(p.ctx, epoch.AddDate(1, 0, 0))
			p.ok("DeleteBefore", err)
		}
	}},
	{name: "Append whose context ends in the middle", rule: allOrNothing, check: func(p *probe) {
		for i := range 25 {
			list := entries(200, nil)
			ctx, cancel := context.WithTimeout(p.ctx, time.Duration(i)*100*time.Microsecond)
			err := p.Append(ctx, slices.Clone(list))
			cancel()
			p.allOrNone("Append whose context ends", list, err)
			// What Append did not know may be written later.
			_, err = p.DeleteBefore(p.ctx, epoch.AddDate(1, 0, 0))
			if !p.ok("DeleteBefore", err) {
				return
			}
		}
	}},
	{name: "Append keeps no slice", rule: borrowed, check: func(p *probe) {
		list := entries(8, nil)
		lent := slices.Clone(list)
		p.ok("Append", p.Append(p.ctx, lent[:5]))
		for i := range lent {
			lent[i] = appendedAgain(entry(100 + i))
		}
		p.ok("Append of another slice", p.Append(p.ctx, slices.Clone(list[5:])))
		p.same("List after the slice has changed", p.page(apilog.Query{}), newest(list))
	}},
	{name: "Append changes no slice", rule: borrowed, check: func(p *probe) {
		list := shuffled(entries(8, nil))
		lent := slices.Clone(list)
		p.ok("Append", p.Append(p.ctx, lent[:5]))
		p.ok("Append of some of them again", p.Append(p.ctx, lent[:7]))
		if !slices.Equal(lent, list) {
			p.errorf("Append: the slice is %s now, want %s, with the same fields", brief(ids(lent)), brief(ids(list)))
		}
	}},
}
