package apilogtest

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/insigner/auth/apilog"
)

const (
	bucketRule = "Histogram returns a bucket for each step from q.From until q.To, oldest first, empty ones included."
	endRule    = "The last one may end after q.To, but counts nothing from then on."
	countRule  = "Requests counts all of them. ClientErrors have a status from 400 to 499, ServerErrors one from 500."
	lostRule   = "Requests counts those that were lost, too."
	stepRule   = "The error matches ErrInvalidQuery if q and step make no sense, as Buckets says."
)

// histogram returns what Histogram should.
func histogram(list []apilog.Entry, q apilog.Query, step time.Duration) []apilog.Bucket {
	var buckets []apilog.Bucket
	for start := q.From; start.Before(q.To); start = start.Add(step) {
		b := apilog.Bucket{Start: start}
		for _, e := range list {
			if !q.Matches(&e) || e.Time.Before(start) || !e.Time.Before(start.Add(step)) {
				continue
			}
			b.Requests += max(e.Lost, 1)
			if e.Status >= 400 && e.Status <= 499 {
				b.ClientErrors++
			}
			if e.Status >= 500 {
				b.ServerErrors++
			}
		}
		buckets = append(buckets, b)
	}
	return buckets
}

// isCounted reports that Histogram returns anything else than it should when
// the store has these entries.
func (p *probe) isCounted(list []apilog.Entry, q apilog.Query, step time.Duration) {
	p.counts(q, step, histogram(list, q, step))
}

// after returns a query from d1 after epoch until d2 after it.
func after(d1, d2 time.Duration) apilog.Query {
	return apilog.Query{From: epoch.Add(d1), To: epoch.Add(d2)}
}

var histogramCases = []storeCase{
	{name: "Histogram of an empty store", rule: bucketRule, check: func(p *probe) {
		p.isCounted(nil, after(0, 3*time.Hour), time.Hour)
		p.isCounted(nil, after(0, 0), time.Hour)
	}},
	{name: "Histogram", rule: bucketRule, check: func(p *probe) {
		var list []apilog.Entry
		for _, minute := range []int{-61, -1, 0, 1, 59, 60, 61, 61, 119, 300, 359, 360, 600} {
			list = append(list, entryAt(epoch.Add(time.Duration(minute)*time.Minute)))
		}
		p.append(shuffled(list)...)
		p.isCounted(list, after(0, 6*time.Hour), time.Hour)
		p.isCounted(list, after(0, 6*time.Hour), 6*time.Hour)
		p.isCounted(list, after(30*time.Minute, 330*time.Minute), 10*time.Minute)
		p.isCounted(list, after(0, 0), time.Hour)
	}},
	{name: "Histogram whose last bucket ends after To", rule: bucketRule + " " + endRule, check: func(p *probe) {
		list := atEach(epoch, epoch.Add(59*time.Second), epoch.Add(100*time.Second-time.Microsecond),
			epoch.Add(100*time.Second), epoch.Add(100*time.Second+time.Microsecond), epoch.Add(119*time.Second))
		p.append(list...)
		p.isCounted(list, after(0, 100*time.Second), time.Minute)
		p.isCounted(list, after(0, 100*time.Second), 1000*time.Hour)
		p.isCounted(list, after(0, 100*time.Second+time.Microsecond), 10*time.Second)
	}},
	{name: "Histogram at the microsecond", rule: bucketRule + " " + endRule, check: func(p *probe) {
		var list []apilog.Entry
		for i := range 9 {
			list = append(list, entryAt(epoch.Add(time.Duration(500*i)*time.Microsecond)),
				entryAt(epoch.Add(time.Duration(500*i-1)*time.Microsecond)))
		}
		p.append(list...)
		for _, start := range []time.Duration{0, time.Microsecond, -time.Microsecond, 333 * time.Microsecond} {
			p.isCounted(list, after(start, 4*time.Millisecond), time.Millisecond)
			p.isCounted(list, after(start, 4*time.Millisecond+start), 1001*time.Microsecond)
		}
	}},
	{name: "Histogram below a microsecond", rule: timeRule, check: func(p *probe) {
		list := atEach(epoch, epoch.Add(time.Millisecond-time.Microsecond), epoch.Add(time.Millisecond),
			epoch.Add(2*time.Millisecond), epoch.Add(3*time.Millisecond))
		p.append(list...)
		want := histogram(list, after(0, 3*time.Millisecond), time.Millisecond)
		for _, ns := range []time.Duration{1, 500, 999} {
			p.counts(after(ns, 3*time.Millisecond), time.Millisecond, want)
			p.counts(after(0, 3*time.Millisecond+ns), time.Millisecond, want)
			p.counts(after(0, 3*time.Millisecond), time.Millisecond+ns, want)
		}
	}},
	{name: "Histogram of errors", rule: countRule, check: func(p *probe) {
		var list []apilog.Entry
		for i, status := range []int{0, 101, 200, 399, 400, 401, 404, 429, 499, 500, 503, 599, 999} {
			for range 1 + i%3 {
				list = append(list, entry(i, answered(status)))
			}
		}
		p.append(list...)
		p.isCounted(list, after(0, 20*time.Second), time.Second)
		p.isCounted(list, after(0, 20*time.Second), 20*time.Second)
	}},
	{name: "Histogram of lost entries", rule: lostRule, check: func(p *probe) {
		list := []apilog.Entry{
			entry(0), lostOf(epoch, 41), lostOf(epoch.Add(time.Hour), 1), lostOf(epoch.Add(2*time.Hour), 1<<40),
			lostOf(epoch.Add(2*time.Hour), 7), lostOf(epoch.Add(3*time.Hour), 5),
		}
		p.append(list...)
		p.isCounted(list, after(0, 3*time.Hour), time.Hour)
	}},
	{name: "Histogram with filters", rule: filterRule, check: func(p *probe) {
		list := entries(64, func(i int, e *apilog.Entry) {
			if i%2 > 0 {
				e.Owner = "Org_1"
			}
			if i/2%2 > 0 {
				e.KeyID, e.RequestID = "key_2", "request_2"
			}
			if i/4%2 > 0 {
				e.Method, e.Route, e.RemoteAddr = "GET", "GET /documents", netip.MustParseAddr("2001:db8::1")
			}
			if i/8%2 > 0 {
				e.Status, e.Code = 401, "KEY_REVOKED"
			}
		})
		p.append(list...)
		for _, q := range []apilog.Query{
			{Owner: "org_1"}, {Owner: "org"}, {KeyID: "key_2"}, {RequestID: "request_2"}, {Method: "GET"},
			{Route: "GET /documents"}, {RemoteAddr: list[4].RemoteAddr}, {Code: "KEY_REVOKED"}, {StatusFrom: 201},
			{StatusTo: 200}, {StatusFrom: 401, StatusTo: 401},
			{Owner: "Org_1", KeyID: "key_1", Method: "GET", Code: "KEY_REVOKED"}, {Owner: "org_1", KeyID: "key_2"},
			{Owner: "org_1", StatusFrom: 400}, {KeyID: "key_1", Route: "POST /documents/{id}"},
		} {
			q.From, q.To = epoch, epoch.Add(time.Minute)
			p.isCounted(list, q, 17*time.Second)
		}
	}},
	{name: "Histogram with After or Limit", rule: "A histogram heeds neither After nor Limit.", check: func(p *probe) {
		list := entries(8, nil)
		p.append(list...)
		for _, q := range []apilog.Query{{Limit: 1}, {Limit: -1}, {After: list[4].ID}, {After: "unknown"}} {
			q.From, q.To = epoch, epoch.Add(time.Minute)
			p.isCounted(list, q, time.Minute)
		}
	}},
	{name: "Histogram of many entries", rule: bucketRule, check: func(p *probe) {
		list := entries(1500, nil)
		p.append(list...)
		p.isCounted(list, after(0, time.Hour), time.Hour)
		p.isCounted(list, after(100*time.Second, 1300*time.Second), 10*time.Minute)
	}},
	{name: "Histogram of many buckets", rule: bucketRule + " " + stepRule, check: func(p *probe) {
		list := entries(10, nil)
		p.append(list...)
		want := make([]apilog.Bucket, apilog.MaxBuckets)
		for i := range want {
			if want[i].Start = epoch.Add(time.Duration(i) * time.Millisecond); i%1000 == 0 {
				want[i].Requests = 1
			}
		}
		end := apilog.MaxBuckets * time.Millisecond
		p.counts(after(0, end), time.Millisecond, want)
		_, err := p.Histogram(p.ctx, after(0, end+time.Microsecond), time.Millisecond)
		p.invalid(fmt.Sprintf("Histogram of %d buckets", apilog.MaxBuckets+1), err)
	}},
	{name: "Histogram of centuries", rule: bucketRule, check: func(p *probe) {
		const year = 8766 * time.Hour
		list := atEach(time.Unix(0, 0).UTC(), time.Unix(1, 0).UTC(), epoch, time.Date(2038, 1, 19, 3, 14, 8, 0, time.UTC),
			time.Date(2199, 12, 31, 23, 59, 59, 999999000, time.UTC))
		p.append(list...)
		from, to := time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
		p.isCounted(list, apilog.Query{From: from, To: to}, year)
		p.isCounted(list, apilog.Query{From: from, To: to}, 100*year)
		p.isCounted(list, apilog.Query{From: time.Unix(0, 0), To: to}, year)
	}},
	{name: "Histogram in any zone", rule: bucketRule + " " + timeRule, check: func(p *probe) {
		var list []apilog.Entry
		for i := range 72 {
			list = append(list, entryAt(epoch.Add(time.Duration(i)*time.Hour)))
		}
		p.append(list...)
		for _, zone := range []*time.Location{time.FixedZone("", 14*3600), time.FixedZone("", -(9*3600 + 1800))} {
			q := after(5*time.Hour, 60*time.Hour)
			q.From, q.To = q.From.In(zone), q.To.In(time.FixedZone("", 3600))
			p.isCounted(list, q, 24*time.Hour)
		}
	}},
	{name: "Histogram that makes no sense", rule: stepRule, check: func(p *probe) {
		p.append(entries(3, nil)...)
		day := after(0, 24*time.Hour)
		for _, c := range []struct {
			what string
			q    apilog.Query
			step time.Duration
		}{
			{"neither From nor To", apilog.Query{}, time.Hour},
			{"no From", apilog.Query{To: epoch}, time.Hour},
			{"no To", apilog.Query{From: epoch}, time.Hour},
			{"To before From", after(time.Microsecond, 0), time.Hour},
			{"a step of 0", day, 0},
			{"a step below a millisecond", day, time.Millisecond - 1},
			{"a negative step", day, -time.Hour},
			{"the least step", day, math.MinInt64},
			{"too many buckets", day, time.Millisecond},
			{"far too many buckets", apilog.Query{From: time.Unix(0, 0), To: time.Unix(1<<37, 0)}, time.Millisecond},
		} {
			_, err := p.Histogram(p.ctx, c.q, c.step)
			p.invalid("Histogram with "+c.what, err)
		}
	}},
}
