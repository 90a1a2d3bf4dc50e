package apilogtest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insigner/auth/apilog"
)

const (
	filterRule = "A Query selects the entries with all of its fields. A field that is empty selects all of them."
	exactRule  = "Texts are compared byte by byte."
	statusRule = "StatusFrom and StatusTo are the first and the last status. If one is 0, that end is open."
	timeRule   = "From ≤ Time < To, in any zone. What is less than a microsecond is cut off."
)

// A textFilter is a field of a query that selects by a text.
type textFilter struct {
	name string
	of   func(q *apilog.Query) *string
	in   func(e *apilog.Entry) *string
}

var textFilters = []textFilter{
	{"Owner", func(q *apilog.Query) *string { return &q.Owner }, func(e *apilog.Entry) *string { return &e.Owner }},
	{"KeyID", func(q *apilog.Query) *string { return &q.KeyID }, func(e *apilog.Entry) *string { return &e.KeyID }},
	{"Method", func(q *apilog.Query) *string { return &q.Method }, func(e *apilog.Entry) *string { return &e.Method }},
	{"Route", func(q *apilog.Query) *string { return &q.Route }, func(e *apilog.Entry) *string { return &e.Route }},
	{"Code", func(q *apilog.Query) *string { return &q.Code }, func(e *apilog.Entry) *string { return &e.Code }},
	{"RequestID", func(q *apilog.Query) *string { return &q.RequestID },
		func(e *apilog.Entry) *string { return &e.RequestID }},
}

// query returns a query that selects by the value.
func (f *textFilter) query(value string) (q apilog.Query) {
	*f.of(&q) = value
	return q
}

// selectsEach stores an entry for each value of each filter, and reports a value
// that selects another entry.
func (p *probe) selectsEach(values ...string) {
	var all []apilog.Entry
	for _, f := range textFilters {
		list := each(values, func(e *apilog.Entry, value string) { *f.in(e) = value })
		p.append(list...)
		for i, value := range values {
			if value != "" {
				p.lists(f.query(value), list[i])
			}
		}
		all = append(all, list...)
	}
	p.holds(all...)
}

var filterCases = []storeCase{
	{name: "Filter by a text", rule: filterRule, check: func(p *probe) {
		p.selectsEach("a", "b", "ab", "abc", "c", "")
	}},
	{name: "Filter by a text in another case", rule: exactRule, check: func(p *probe) {
		p.selectsEach("Acme", "acme", "ACME", "acmé", "ACMÉ", "acme\u0301", "straße", "strasse")
	}},
	{name: "Filter by a text with blanks", rule: exactRule, check: func(p *probe) {
		p.selectsEach("acme", "acme ", " acme", "acme  ", "acme\t", "acme\u00a0", " ", "  ")
	}},
	{name: "Filter by a text with wildcards", rule: exactRule, check: func(p *probe) {
		p.selectsEach("%", "_", "a%", "a_", "abc", "a", `a\%`, `\`, "*", "?", "[a]", "'", "a'", `"`)
	}},
	{name: "Filter by the longest text", rule: exactRule, check: func(p *probe) {
		for _, f := range textFilters {
			limit := 0
			for _, field := range textFields {
				if field.name == f.name {
					limit = field.limit
				}
			}
			start := strings.Repeat("x", limit-1)
			values := []string{start, start + "y", start + "z"}
			list := each(values, func(e *apilog.Entry, value string) { *f.in(e) = value })
			p.append(list...)
			for i := range list {
				p.lists(f.query(*f.in(&list[i])), list[i])
			}
			p.lists(f.query(start + "yy")) // longer than any
		}
	}},
	{name: "Filter by an address", rule: filterRule, check: func(p *probe) {
		var list []apilog.Entry
		for _, addr := range []string{
			"192.0.2.1", "192.0.2.10", "192.0.2.2", "::c000:201", "2001:db8::1", "2001:db8::2", "0.0.0.0", "::",
		} {
			list = append(list, entry(len(list), func(e *apilog.Entry) { e.RemoteAddr = netip.MustParseAddr(addr) }))
		}
		p.append(list...)
		p.append(entry(100, func(e *apilog.Entry) { e.RemoteAddr = netip.Addr{} }))
		for _, e := range list {
			p.lists(apilog.Query{RemoteAddr: e.RemoteAddr}, e)
		}
		p.lists(apilog.Query{RemoteAddr: netip.MustParseAddr("192.0.2.3")})
		p.lists(apilog.Query{RemoteAddr: netip.MustParseAddr("2001:db8::3")})
	}},
	{name: "Filter by status", rule: statusRule, check: func(p *probe) {
		list := each([]int{0, 101, 200, 299, 300, 400, 403, 404, 499, 500, 503, 599}, func(e *apilog.Entry, status int) {
			e.Status = status
		})
		p.append(list...)
		for _, r := range [][2]int{
			{0, 0}, {200, 299}, {400, 499}, {500, 599}, {404, 404}, {405, 498}, {400, 0}, {0, 400}, {0, 1}, {1, 0}, {600, 0},
			{499, 400}, {101, 200},
		} {
			q := apilog.Query{StatusFrom: r[0], StatusTo: r[1]}
			p.lists(q, only(list, q)...)
		}
	}},
	{name: "Filter by time", rule: timeRule, check: func(p *probe) {
		var list []apilog.Entry
		for i := range 5 {
			list = append(list, entryAt(epoch.Add(time.Duration(i)*time.Microsecond)))
		}
		p.append(list...)
		times := []time.Time{{}}
		for i := -1; i <= 5; i++ {
			times = append(times, epoch.Add(time.Duration(i)*time.Microsecond))
		}
		for _, from := range times {
			for _, to := range times {
				q := apilog.Query{From: from, To: to}
				p.lists(q, only(list, q)...)
			}
		}
	}},
	{name: "Filter by time in any zone", rule: timeRule, check: func(p *probe) {
		list := newest(entries(20, func(i int, e *apilog.Entry) {
			*e = entryAt(epoch.Add(time.Duration(i) * time.Hour))
		}))
		p.append(list...)
		for _, hours := range []int{14, -12, 2} {
			zone := time.FixedZone("zone", hours*3600)
			p.lists(apilog.Query{From: list[12].Time.In(zone)}, list[:13]...)
			p.lists(apilog.Query{To: list[12].Time.In(zone)}, list[13:]...)
			p.lists(apilog.Query{From: list[12].Time.In(zone), To: list[3].Time}, list[4:13]...)
		}
	}},
	{name: "Filter by time below a microsecond", rule: timeRule, check: func(p *probe) {
		list := newest(atEach(epoch, epoch.Add(time.Microsecond), epoch.Add(2*time.Microsecond)))
		p.append(list...)
		for _, ns := range []time.Duration{1, 499, 500, 999} {
			p.lists(apilog.Query{From: list[1].Time.Add(ns)}, list[:2]...)
			p.lists(apilog.Query{To: list[1].Time.Add(ns)}, list[2:]...)
		}
	}},
	{name: "Filter lost entries", rule: filterRule + " Lost entries have an ID, a time, a key and an owner only.",
		check: func(p *probe) {
			lost := lostOf(epoch.Add(time.Minute), 3)
			nobodys := apilog.Entry{ID: apilog.NewID(epoch), Time: epoch, Lost: 1}
			list := []apilog.Entry{entry(0), lost, nobodys}
			p.append(list...)
			for _, q := range []apilog.Query{
				{}, {Owner: "org_1"}, {KeyID: "key_1"}, {Owner: "org_1", KeyID: "key_1"}, {StatusTo: 299}, {StatusFrom: 1},
				{Method: "POST"}, {From: epoch.Add(time.Second)}, {RemoteAddr: list[0].RemoteAddr},
			} {
				p.lists(q, only(list, q)...)
			}
		}},
	{name: "Filters together", rule: filterRule, check: func(p *probe) {
		list := entries(1<<8, func(i int, e *apilog.Entry) {
			*e = entryAt(epoch.Add(time.Duration(i) * time.Microsecond))
			for bit, change := range []func(){
				func() { e.Owner = "org_2" }, func() { e.KeyID = "key_2" }, func() { e.Method = "GET" },
				func() { e.Route = "GET /documents" }, func() { e.Code = "KEY_REVOKED" }, func() { e.RequestID = "request_2" },
				func() { e.RemoteAddr = netip.MustParseAddr("2001:db8::1") }, func() { e.Status = 401 },
			} {
				if i>>bit&1 > 0 {
					change()
				}
			}
		})
		p.append(list...)
		for i := range 1 << 8 {
			q := apilog.Query{From: epoch.Add(2 * time.Microsecond), To: epoch.Add(250 * time.Microsecond)}
			for bit, set := range []func(){
				func() { q.Owner = "org_2" }, func() { q.KeyID = "key_2" }, func() { q.Method = "GET" },
				func() { q.Route = "GET /documents" }, func() { q.Code = "KEY_REVOKED" }, func() { q.RequestID = "request_2" },
				func() { q.RemoteAddr = netip.MustParseAddr("2001:db8::1") }, func() { q.StatusFrom = 400 },
			} {
				if i>>bit&1 > 0 {
					set()
				}
			}
			p.lists(q, only(list, q)...)
		}
	}},
	{name: "Filter finds few among many", rule: filterRule, check: func(p *probe) {
		list := entries(2100, func(i int, e *apilog.Entry) {
			if e.RequestID = fmt.Sprint("request_", i); i%1000 == 0 {
				e.KeyID, e.Owner = "key_2", "org_2"
			}
		})
		p.append(list...)
		p.lists(apilog.Query{RequestID: "request_1"}, list[1])
		few := newest([]apilog.Entry{list[0], list[1000], list[2000]})
		p.lists(apilog.Query{KeyID: "key_2"}, few...)
		p.lists(apilog.Query{Owner: "org_2", Limit: 2}, few[:2]...)
		p.sameIDs("List of an owner, page by page", p.pages(apilog.Query{Owner: "org_2", Limit: 1}, 3), slices.Clone(few))
	}},
}
