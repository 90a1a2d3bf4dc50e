package apilogtest_test

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/insigner/auth/apilog"
)

func ofKeyID(q *apilog.Query) *string     { return &q.KeyID }
func inKeyID(e *apilog.Entry) *string     { return &e.KeyID }
func ofRoute(q *apilog.Query) *string     { return &q.Route }
func inRoute(e *apilog.Entry) *string     { return &e.Route }
func ofCode(q *apilog.Query) *string      { return &q.Code }
func inCode(e *apilog.Entry) *string      { return &e.Code }
func ofRequestID(q *apilog.Query) *string { return &q.RequestID }
func inRequestID(e *apilog.Entry) *string { return &e.RequestID }

// like reports whether text is like the pattern of SQL, of which only a percent
// sign at the end is known.
func like(pattern, text string) bool {
	start, ok := strings.CutSuffix(pattern, "%")
	return ok && strings.HasPrefix(text, start) || pattern == text
}

// wallClock returns what the clock in the zone of t shows, as if it were UTC.
func wallClock(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// roundedUp returns t in whole microseconds.
func roundedUp(t time.Time) time.Time { return t.Add(time.Microsecond - 1).Truncate(time.Microsecond) }

var filterFaults = []fault{
	{"Method is ignored", "Filter by a text", false, asking(func(_ *store, q *apilog.Query) error {
		q.Method = ""
		return nil
	})},
	{"a code of two letters is the start of one", "Filter by a text", true, comparing(ofCode, inCode,
		func(want, have string) bool {
			return want == have || len(want) == 2 && want > "a" && strings.HasPrefix(have, want)
		})},
	{"request IDs are compared without case", "Filter by a text in another case", true, comparing(ofRequestID, inRequestID,
		strings.EqualFold)},
	{"key IDs are compared without blanks at the end", "Filter by a text with blanks", true, comparing(ofKeyID, inKeyID,
		func(want, have string) bool { return strings.TrimRight(want, " ") == strings.TrimRight(have, " ") })},
	{"routes are compared with LIKE", "Filter by a text with wildcards", true, comparing(ofRoute, inRoute, like)},
	{"100 bytes of a request ID are compared", "Filter by the longest text", true, comparing(ofRequestID, inRequestID,
		func(want, have string) bool { return want[:min(100, len(want))] == have[:min(100, len(have))] })},
	{"RemoteAddr is ignored", "Filter by an address", false, asking(func(_ *store, q *apilog.Query) error {
		q.RemoteAddr = netip.Addr{}
		return nil
	})},
	{"a network is compared", "Filter by an address", true, func(s *store) {
		s.onList = func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
			all := q
			all.RemoteAddr = netip.Addr{}
			match := func(e *apilog.Entry) bool {
				if want, have := q.RemoteAddr, e.RemoteAddr; want.IsValid() && want != have {
					network, _ := want.Prefix(24)
					return want.Is4() && network.Contains(have) && all.Matches(e)
				}
				return all.Matches(e)
			}
			return s.selected(ctx, q, match, newestFirst)
		}
	}},
	{"StatusTo is not included", "Filter by status", false, leavingOut(
		func(q apilog.Query, e *apilog.Entry) bool { return q.StatusTo != 0 && e.Status == q.StatusTo })},
	{"the statuses are exchanged if the first one is the higher", "Filter by status", true, asking(
		func(_ *store, q *apilog.Query) error {
			if q.StatusTo != 0 && q.StatusFrom > q.StatusTo {
				q.StatusFrom, q.StatusTo = q.StatusTo, q.StatusFrom
			}
			return nil
		})},
	{"From is not included", "Filter by time", false, leavingOut(
		func(q apilog.Query, e *apilog.Entry) bool { return e.Time.Equal(q.From) })},
	{"To is included", "Filter by time", false, asking(func(_ *store, q *apilog.Query) error {
		if !q.To.IsZero() {
			q.To = q.To.Add(time.Microsecond)
		}
		return nil
	})},
	{"the times are exchanged if the first one is the later", "Filter by time", true, asking(
		func(_ *store, q *apilog.Query) error {
			if !q.To.IsZero() && q.From.After(q.To) {
				q.From, q.To = q.To, q.From
			}
			return nil
		})},
	{"the zone of From is ignored", "Filter by time in any zone", true, asking(func(_ *store, q *apilog.Query) error {
		q.From = wallClock(q.From)
		return nil
	})},
	{"the zone of To is ignored", "Filter by time in any zone", true, asking(func(_ *store, q *apilog.Query) error {
		q.To = wallClock(q.To)
		return nil
	})},
	{"From is rounded up", "Filter by time below a microsecond", true, asking(func(_ *store, q *apilog.Query) error {
		q.From = roundedUp(q.From)
		return nil
	})},
	{"To is rounded", "Filter by time below a microsecond", true, asking(func(_ *store, q *apilog.Query) error {
		q.To = q.To.Round(time.Microsecond)
		return nil
	})},
	{"StatusTo leaves out lost entries", "Filter lost entries", true, leavingOut(
		func(q apilog.Query, e *apilog.Entry) bool { return q.StatusTo != 0 && e.Lost != 0 })},
	{"Code is ignored with an address", "Filters together", true, asking(func(_ *store, q *apilog.Query) error {
		if q.RemoteAddr.IsValid() {
			q.Code = ""
		}
		return nil
	})},
	{"List looks at 1000 entries", "Filter finds few among many", true, func(s *store) {
		s.onList = func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
			if q.Owner == "" && q.KeyID == "" && q.RequestID == "" || q.After != "" {
				return s.MemoryStore.List(ctx, q)
			}
			if all := s.all(); len(all) > 1000 {
				q.From = all[999].Time
			}
			return s.MemoryStore.List(ctx, q)
		}
	}},
}
