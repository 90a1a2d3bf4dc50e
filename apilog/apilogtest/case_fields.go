package apilogtest

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insigner/auth/apilog"
)

const (
	keeps = "A store keeps each field of an entry as it is."
	micro = "Time and Duration are to the microsecond."
)

// textFields are the fields with a text, but the ID, and the longest text in
// bytes that a Recorder writes.
var textFields = []struct {
	name  string
	limit int
	of    func(e *apilog.Entry) *string
}{
	{"KeyID", 1024, func(e *apilog.Entry) *string { return &e.KeyID }},
	{"Owner", 1024, func(e *apilog.Entry) *string { return &e.Owner }},
	{"Method", 32, func(e *apilog.Entry) *string { return &e.Method }},
	{"Route", 1024, func(e *apilog.Entry) *string { return &e.Route }},
	{"Path", 1024, func(e *apilog.Entry) *string { return &e.Path }},
	{"Code", 64, func(e *apilog.Entry) *string { return &e.Code }},
	{"RequestID", 128, func(e *apilog.Entry) *string { return &e.RequestID }},
	{"UserAgent", 512, func(e *apilog.Entry) *string { return &e.UserAgent }},
}

// oddTexts are those that a careless store changes, takes for a number or runs.
var oddTexts = []string{
	" ", " both sides ", "trailing ", "trailing\t", "tab\tand\r\nline", "\x01\x1f\x7f", "\u200b\u202e\u2028\ufeff",
	"'", `"`, "''", `\`, `\\`, `\'`, `\x41`, `\N`, "%", "_", "%s%d", "$1", "?", ":name", "@p1", "`", "[a]", "{}", "*",
	"';--", "/* */", "a\nb", "NULL", "null", "0", "00", "1e3", "true", "\u00e9", "e\u0301", "ß", "İ", "日本語", "😀", "👩‍👩‍👧",
	"\U0010fffd", "\ufffd", "<script>", "=1+1",
}

// keepsAll appends the entries and reports those that come back changed.
func (p *probe) keepsAll(list []apilog.Entry) {
	p.append(list...)
	p.same("List", p.page(apilog.Query{}), newest(list))
}

var fieldCases = []storeCase{
	{name: "Each field", rule: keeps, check: func(p *probe) {
		refused := entry(1, answered(403), func(e *apilog.Entry) {
			e.Code, e.KeyID, e.Owner, e.Method = "INSUFFICIENT_SCOPE", "key_2", "org_2", "GET"
		})
		bare := apilog.Entry{ID: apilog.NewID(epoch), Time: epoch}
		p.keepsAll([]apilog.Entry{entry(2), refused, bare, lostOf(epoch.Add(time.Minute), 7)})
	}},
	{name: "Longest texts", rule: keeps, check: func(p *probe) {
		var list []apilog.Entry
		for _, unit := range []string{"x", "\u00e9", "\U0001f600"} { // of 1, 2 and 4 bytes
			list = append(list, entry(len(list), func(e *apilog.Entry) {
				for _, f := range textFields {
					*f.of(e) = strings.Repeat(unit, f.limit/len(unit))
				}
			}))
		}
		for _, f := range textFields {
			list = append(list, entry(len(list), func(e *apilog.Entry) { *f.of(e) = strings.Repeat("y", f.limit) }))
		}
		p.keepsAll(list)
	}},
	{name: "Odd texts", rule: keeps, check: func(p *probe) {
		p.keepsAll(each(oddTexts, func(e *apilog.Entry, text string) {
			for _, f := range textFields {
				*f.of(e) = text
			}
		}))
	}},
	{name: "Foreign IDs", rule: keeps + " An ID may be one that NewID did not make.", check: func(p *probe) {
		p.keepsAll([]apilog.Entry{
			entry(0, withID("1")),
			entry(1, withID("request 17")),
			entry(2, withID("0198c5a4-7d3e-7b1a-9f42-6c1d2e3f4a5b")),
			entry(3, withID("zzzzzzzzzzzzzzzzzzzz")), // as long as one of NewID
			entry(4),
		})
	}},
	{name: "Addresses", rule: keeps, check: func(p *probe) {
		p.keepsAll(each([]netip.Addr{
			{},
			netip.MustParseAddr("0.0.0.0"),
			netip.MustParseAddr("255.255.255.255"),
			netip.MustParseAddr("192.0.2.1"),
			netip.MustParseAddr("::"),
			netip.MustParseAddr("::1"),
			netip.MustParseAddr("::192.0.2.1"),
			netip.MustParseAddr("64:ff9b::192.0.2.1"),
			netip.MustParseAddr("2001:db8::1"),
			netip.MustParseAddr("2001:db8:1:2:3:4:5:6"),
			netip.MustParseAddr("fe80::1"),
			netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
		}, func(e *apilog.Entry, addr netip.Addr) { e.RemoteAddr = addr }))
	}},
	{name: "Numbers", rule: keeps, check: func(p *probe) {
		var list []apilog.Entry
		for _, n := range []int64{0, 1, math.MaxInt32, math.MaxInt32 + 1, math.MaxUint32, 1<<53 + 1, math.MaxInt64} {
			list = append(list,
				entry(len(list), func(e *apilog.Entry) { e.RequestBytes = n }),
				entry(len(list)+1, func(e *apilog.Entry) { e.ResponseBytes = n }),
				lostOf(epoch.Add(time.Hour).Add(time.Duration(n%1000)*time.Second), n))
		}
		for _, status := range []int{0, 100, 101, 418, 499, 500, 599, 999} {
			list = append(list, entry(len(list), answered(status)))
		}
		p.keepsAll(list)
	}},
	{name: "Microseconds", rule: keeps + " " + micro, check: func(p *probe) {
		list := atEach(epoch, epoch.Add(time.Microsecond), epoch.Add(999*time.Microsecond), epoch.Add(1001*time.Microsecond),
			epoch.Add(123456*time.Microsecond), epoch.Add(999999*time.Microsecond))
		for i, d := range []time.Duration{
			0, 1, 999, 1000, 1001, 999_999, 1_000_001, 3_600_000_001, 40 * 24 * 3600 * 1e6, 1<<53/1000 + 1, math.MaxInt64 / 1000,
		} {
			list = append(list, entry(i+1, func(e *apilog.Entry) { e.Duration = d * time.Microsecond }))
		}
		p.keepsAll(list)
	}},
	{name: "Odd clocks", rule: keeps + " " + anyOrder, check: func(p *probe) {
		list := atEach(
			time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
			time.Date(1970, 1, 1, 0, 0, 0, 1000, time.UTC),
			time.Date(1970, 1, 1, 0, 0, 1, 0, time.UTC),
			time.Date(1999, 12, 31, 23, 59, 59, 999999000, time.UTC),
			time.Date(2028, 2, 29, 12, 0, 0, 0, time.UTC),
			time.Date(2038, 1, 19, 3, 14, 8, 0, time.UTC),
			time.Date(2106, 2, 7, 6, 28, 16, 0, time.UTC),
			time.Date(2199, 12, 31, 23, 59, 59, 999999000, time.UTC),
		)
		now := entries(3, nil)
		p.append(shuffled(slices.Concat(list, now))...)
		early, late := epoch.AddDate(-1, 0, 0), epoch.AddDate(1, 0, 0)
		p.same("List of 1970 to 2025", p.page(apilog.Query{To: early}), newest(list[:4]))
		p.same("List of 2027 to 2199", p.page(apilog.Query{From: late}), newest(list[4:]))
		all := newest(slices.Concat(list, now))
		p.lists(apilog.Query{}, all...)
		p.sameIDs("List of all times, page by page", p.pages(apilog.Query{Limit: 2}, len(all)), all)
	}},
	{name: "Times are in UTC", rule: "Time is in UTC.", check: func(p *probe) {
		list := atEach(epoch, epoch.AddDate(0, 6, 0)) // one of them in summer time, in most zones that have it
		p.append(list...)
		for _, e := range p.page(apilog.Query{}) {
			if e.Time.Location() != time.UTC {
				p.errorf("List: the time of %s is in zone %q, want UTC", e.ID, e.Time.Location())
			}
		}
	}},
}
