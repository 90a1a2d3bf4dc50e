package apilogtest

import (
	"slices"
	"time"

	"github.com/insigner/auth/apilog"
)

const ownedByCaller = "The caller may change what is returned."

var sharingCases = []storeCase{
	{name: "A list belongs to the caller", rule: ownedByCaller, check: func(p *probe) {
		list := newest(entries(6, nil))
		p.append(list...)
		first, second := p.page(apilog.Query{Limit: 4}), p.page(apilog.Query{Limit: 4})
		for i := range first {
			first[i] = apilog.Entry{}
		}
		_ = append(first, entry(10), entry(11), entry(12)) // beyond its length
		p.same("a list that was returned before", second, list[:4])
		p.same("List after a list was changed", p.page(apilog.Query{}), list)
	}},
	{name: "A histogram belongs to the caller", rule: ownedByCaller, check: func(p *probe) {
		list := entries(6, nil)
		p.append(list...)
		q := after(0, 6*time.Second)
		for range 2 {
			buckets, err := p.Histogram(p.ctx, q, time.Second)
			p.ok("Histogram", err)
			for i := range buckets {
				buckets[i].Requests = 100
			}
		}
		p.isCounted(list, q, time.Second)
	}},
	{name: "A list stays as it is", rule: "A later call does not change what was returned.", check: func(p *probe) {
		list := newest(entries(6, func(i int, e *apilog.Entry) {
			if i%2 > 0 {
				e.Owner = "org_2"
			}
		}))
		p.append(list...)
		page := p.page(apilog.Query{Limit: 6})
		p.append(entry(-1), entry(100))
		p.deleteOwner("org_2", 3)
		p.deleteBefore(epoch.Add(3*time.Second), 3)
		p.page(apilog.Query{Limit: 6, Owner: "org_1"})
		p.same("a list that was returned before", page, slices.Clone(list))
	}},
}
