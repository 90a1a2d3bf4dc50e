package apilog_test

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth/apilog"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func TestQueryMatches(t *testing.T) {
	e := apilog.Entry{
		ID: "1", Time: noon, KeyID: "k", Owner: "acme", Method: "GET", Route: "GET /a", Path: "/a", Status: 404, Code: "C",
		RequestID: "r", RemoteAddr: netip.MustParseAddr("192.0.2.1"),
	}
	lost := apilog.Entry{ID: "2", Time: noon, KeyID: "k", Owner: "acme", Lost: 5}
	for _, c := range []struct {
		q          apilog.Query
		want, lost bool
	}{
		{apilog.Query{}, true, true},
		{apilog.Query{After: "0", Limit: -1}, true, true},
		{apilog.Query{Owner: "acme"}, true, true},
		{apilog.Query{Owner: "Acme"}, false, false},
		{apilog.Query{Owner: "acme "}, false, false},
		{apilog.Query{KeyID: "k"}, true, true},
		{apilog.Query{KeyID: "K"}, false, false},
		{apilog.Query{Method: "GET"}, true, false},
		{apilog.Query{Method: "get"}, false, false},
		{apilog.Query{Route: "GET /a"}, true, false},
		{apilog.Query{Route: "/a"}, false, false},
		{apilog.Query{Code: "C"}, true, false},
		{apilog.Query{Code: "D"}, false, false},
		{apilog.Query{RequestID: "r"}, true, false},
		{apilog.Query{RequestID: "%"}, false, false},
		{apilog.Query{RemoteAddr: netip.MustParseAddr("192.0.2.1")}, true, false},
		{apilog.Query{RemoteAddr: netip.MustParseAddr("192.0.2.2")}, false, false},
		{apilog.Query{RemoteAddr: netip.MustParseAddr("::ffff:192.0.2.1")}, false, false},
		{apilog.Query{StatusFrom: 404}, true, false},
		{apilog.Query{StatusFrom: 405}, false, false},
		{apilog.Query{StatusTo: 404}, true, true},
		{apilog.Query{StatusTo: 403}, false, true},
		{apilog.Query{StatusFrom: 404, StatusTo: 404}, true, false},
		{apilog.Query{StatusFrom: 500, StatusTo: 400}, false, false},
		{apilog.Query{From: noon}, true, true},
		{apilog.Query{From: noon.Add(999)}, true, true}, // below a microsecond
		{apilog.Query{From: noon.Add(time.Microsecond)}, false, false},
		{apilog.Query{To: noon}, false, false},
		{apilog.Query{To: noon.Add(999)}, false, false},
		{apilog.Query{To: noon.Add(time.Microsecond)}, true, true},
		{apilog.Query{From: noon.In(time.FixedZone("", 3600)), To: noon.Add(time.Second)}, true, true},
		{apilog.Query{Owner: "acme", KeyID: "other"}, false, false},
		{apilog.Query{Owner: "other", KeyID: "k"}, false, false},
	} {
		if got := c.q.Matches(&e); got != c.want {
			t.Errorf("%+v matches the request: %t, want %t", c.q, got, c.want)
		}
		if got := c.q.Matches(&lost); got != c.lost {
			t.Errorf("%+v matches the lost ones: %t, want %t", c.q, got, c.lost)
		}
	}
}

func TestRequests(t *testing.T) {
	for _, c := range []struct {
		e    apilog.Entry
		want int64
	}{
		{apilog.Entry{}, 1}, {apilog.Entry{Status: 200}, 1}, {apilog.Entry{Lost: 1}, 1}, {apilog.Entry{Lost: 7}, 7},
	} {
		if got := c.e.Requests(); got != c.want {
			t.Errorf("%+v stands for %d requests, want %d", c.e, got, c.want)
		}
	}
}

func TestBucketAdd(t *testing.T) {
	for _, c := range []struct {
		e    apilog.Entry
		want apilog.Bucket
	}{
		{apilog.Entry{Status: 200}, apilog.Bucket{Requests: 1}},
		{apilog.Entry{Status: 399}, apilog.Bucket{Requests: 1}},
		{apilog.Entry{Status: 400}, apilog.Bucket{Requests: 1, ClientErrors: 1}},
		{apilog.Entry{Status: 499}, apilog.Bucket{Requests: 1, ClientErrors: 1}},
		{apilog.Entry{Status: 500}, apilog.Bucket{Requests: 1, ServerErrors: 1}},
		{apilog.Entry{Status: 999}, apilog.Bucket{Requests: 1, ServerErrors: 1}},
		{apilog.Entry{Lost: 8}, apilog.Bucket{Requests: 8}},
	} {
		var got apilog.Bucket
		if got.Add(&c.e); got != c.want {
			t.Errorf("%+v counts as %+v, want %+v", c.e, got, c.want)
		}
	}
}

func TestBuckets(t *testing.T) {
	zone := time.FixedZone("", 3600)
	for _, c := range []struct {
		from, to time.Time
		step     time.Duration
		want     int
	}{
		{noon, noon, time.Hour, 0},
		{noon, noon.Add(999), time.Hour, 0}, // below a microsecond
		{noon, noon.Add(time.Microsecond), time.Hour, 1},
		{noon, noon.Add(time.Hour), time.Hour, 1},
		{noon, noon.Add(time.Hour + time.Microsecond), time.Hour, 2},
		{noon, noon.Add(time.Hour + 999), time.Hour, 1},
		{noon.Add(999), noon.Add(time.Hour), time.Hour, 1},
		{noon.In(zone), noon.Add(3 * time.Hour), time.Hour, 3},
		{noon, noon.Add(time.Minute), 7 * time.Second, 9},
		{noon, noon.Add(3 * time.Millisecond), time.Millisecond + 999, 3},
		{noon, noon.Add(10 * time.Second), time.Millisecond, 10_000},
		{noon, noon.Add(time.Hour), math.MaxInt64, 1},
		{time.Unix(0, 0), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), math.MaxInt64, 28},
		{time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), noon, 365 * 24 * time.Hour, 2027},
	} {
		what := fmt.Sprintf("buckets from %v to %v in steps of %v", c.from, c.to, c.step)
		list, err := apilog.Buckets(apilog.Query{From: c.from, To: c.to}, c.step)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if len(list) != c.want {
			t.Errorf("%s: %d, want %d", what, len(list), c.want)
		}
		if len(list) > 0 && !list[0].Start.Equal(c.from.Truncate(time.Microsecond)) {
			t.Errorf("%s: the first one starts at %v", what, list[0].Start)
		}
		for i, b := range list {
			if b.Start.Location() != time.UTC {
				t.Errorf("%s: bucket %d is not in UTC", what, i)
			}
			if i > 0 && b.Start.Sub(list[i-1].Start) != c.step.Truncate(time.Microsecond) {
				t.Errorf("%s: bucket %d starts %v after the one before", what, i, b.Start.Sub(list[i-1].Start))
			}
		}
	}
}

func TestBucketsErrors(t *testing.T) {
	far := time.Unix(1<<60, 0) // beyond what has a number of microseconds
	for _, c := range []struct {
		from, to time.Time
		step     time.Duration
		want     string
	}{
		{time.Time{}, time.Time{}, time.Hour, "a histogram needs From and To"},
		{time.Time{}, noon, time.Hour, "a histogram needs From and To"},
		{noon, time.Time{}, time.Hour, "a histogram needs From and To"},
		{noon, noon.Add(-1), time.Hour, "To is before From"},
		{far, noon, time.Hour, "To is before From"},
		{noon, noon.Add(time.Hour), 0, "the step is less than a millisecond"},
		{noon, noon.Add(time.Hour), -time.Hour, "the step is less than a millisecond"},
		{noon, noon.Add(time.Hour), math.MinInt64, "the step is less than a millisecond"},
		{noon, noon.Add(time.Hour), time.Millisecond - 1, "the step is less than a millisecond"},
		{noon, noon.Add(10*time.Second + time.Microsecond), time.Millisecond, "more than 10000 buckets"},
		{time.Date(-200_000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(200_000, 1, 1, 0, 0, 0, 0, time.UTC), time.Millisecond,
			"more than 10000 buckets"},
	} {
		list, err := apilog.Buckets(apilog.Query{From: c.from, To: c.to}, c.step)
		if !errors.Is(err, apilog.ErrInvalidQuery) {
			t.Errorf("from %v to %v in steps of %v: error %v", c.from, c.to, c.step, err)
			continue
		}
		if want := "apilog: invalid query: " + c.want; err.Error() != want {
			t.Errorf("from %v to %v in steps of %v: error %q, want %q", c.from, c.to, c.step, err, want)
		}
		if list != nil {
			t.Errorf("from %v to %v in steps of %v: buckets with an error", c.from, c.to, c.step)
		}
	}
}

// A time that has no number of microseconds gives a wrong answer, not a panic.
func TestHistogramOfImpossibleTimes(t *testing.T) {
	s := apilog.NewMemoryStore(10)
	s.Append(ctx, []apilog.Entry{{ID: apilog.NewID(noon), Time: noon}})
	for _, from := range []time.Time{time.Unix(-1<<60, 0), time.Unix(1<<60, 0), noon} {
		for _, to := range []time.Time{time.Unix(-1<<60, 0), time.Unix(1<<60, 0), noon.Add(time.Hour)} {
			s.Histogram(ctx, apilog.Query{From: from, To: to}, math.MaxInt64)
		}
	}
}

func TestNewID(t *testing.T) {
	var ids []string
	for i := range 1000 {
		at := noon.Add(time.Duration(i) * time.Microsecond)
		for range 3 {
			id := apilog.NewID(at.Add(999)) // what is less than a microsecond is cut off
			got, ok := apilog.TimeOf(id)
			if !ok {
				t.Fatalf("%q has no time", id)
			}
			if got != at {
				t.Errorf("%q has the time %v, want %v", id, got, at)
			}
			if len(id) != 20 || strings.Trim(id, "0123456789abcdefghijklmnopqrstuv") != "" {
				t.Errorf("%q is not 20 characters of 0 to 9 and a to v", id)
			}
			ids = append(ids, id)
		}
	}
	for i, id := range ids {
		if i >= 3 && id <= ids[i-3] {
			t.Errorf("the ID %q of a later time is not greater than %q", id, ids[i-3])
		}
	}
	slices.Sort(ids)
	if n := len(slices.Compact(ids)); n != 3000 {
		t.Errorf("%d different IDs, want 3000", n)
	}
}

func TestNewIDOfOddClocks(t *testing.T) {
	first, last := time.UnixMicro(0).UTC(), time.UnixMicro(1<<56-1).UTC()
	for _, c := range []struct{ at, want time.Time }{
		{time.Time{}, first},
		{time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC), first},
		{first, first},
		{first.Add(time.Microsecond), first.Add(time.Microsecond)},
		{time.Date(2199, 12, 31, 23, 59, 59, 999999000, time.UTC), time.Date(2199, 12, 31, 23, 59, 59, 999999000, time.UTC)},
		{last, last},
		{last.Add(time.Microsecond), last},
		{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), last},
	} {
		id := apilog.NewID(c.at)
		if got, ok := apilog.TimeOf(id); !ok || got != c.want {
			t.Errorf("the ID %q of %v has the time %v, %t, want %v", id, c.at, got, ok, c.want)
		}
	}
}

func TestTimeOfForeignIDs(t *testing.T) {
	id := apilog.NewID(noon)
	for _, foreign := range []string{
		"", "1", id[:19], id + "0", strings.ToUpper(apilog.NewID(time.UnixMicro(1<<56 - 1))), id[:19] + "w", id[:19] + "=",
		id[:19] + " ", id[:18] + "é", id[:19] + "\x00", id[:19] + "\xff", id[:10] + "-" + id[11:],
		"0198c5a4-7d3e-7b1a-9f42-6c1d2e3f4a5b",
	} {
		if at, ok := apilog.TimeOf(foreign); ok || !at.IsZero() {
			t.Errorf("%q has the time %v, %t, want none", foreign, at, ok)
		}
	}
}

func FuzzTimeOf(f *testing.F) {
	for _, id := range []string{
		"", apilog.NewID(noon), "00000000000000000000", "vvvvvvvvvvvvvvvvvvvv", "ABCDEFGHIJKLMNOPQRST",
	} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		at, ok := apilog.TimeOf(id)
		if !ok {
			return
		}
		// The first 11 characters are 55 of the 56 bits of the time.
		if got := apilog.NewID(at); got[:11] != id[:11] {
			t.Errorf("%q has the time %v, whose IDs begin with %q", id, at, got[:11])
		}
	})
}
