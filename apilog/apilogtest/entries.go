package apilogtest

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insigner/auth/apilog"
)

// epoch is the time of the first entry. It has whole seconds, so that only the
// cases about fractions depend on them.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// entryAt returns an entry of that time, with every field that a request has,
// after the changes. Its ID is a new one with each call.
func entryAt(at time.Time, changes ...func(e *apilog.Entry)) apilog.Entry {
	e := apilog.Entry{
		ID:            apilog.NewID(at),
		Time:          at,
		Duration:      1500 * time.Millisecond,
		KeyID:         "key_1",
		Owner:         "org_1",
		Method:        "POST",
		Route:         "POST /documents/{id}",
		Path:          "/documents/1",
		Status:        200,
		RequestBytes:  12,
		ResponseBytes: 345,
		RequestID:     "request_1",
		UserAgent:     "client/1.0",
		RemoteAddr:    netip.MustParseAddr("192.0.2.1"),
	}
	for _, change := range changes {
		change(&e)
	}
	return e
}

// entry returns an entry of i seconds after epoch.
func entry(i int, changes ...func(e *apilog.Entry)) apilog.Entry {
	return entryAt(epoch.Add(time.Duration(i)*time.Second), changes...)
}

// entries returns entry(0) to entry(n-1). If change is not nil, it gets each of
// them.
func entries(n int, change func(i int, e *apilog.Entry)) []apilog.Entry {
	list := make([]apilog.Entry, n)
	for i := range list {
		if list[i] = entry(i); change != nil {
			change(i, &list[i])
		}
	}
	return list
}

// each returns an entry for each value, which set gives to it.
func each[T any](values []T, set func(e *apilog.Entry, value T)) []apilog.Entry {
	return entries(len(values), func(i int, e *apilog.Entry) { set(e, values[i]) })
}

// atEach returns an entry for each time.
func atEach(times ...time.Time) []apilog.Entry {
	var list []apilog.Entry
	for _, at := range times {
		list = append(list, entryAt(at))
	}
	return list
}

// lostOf returns an entry that stands for n lost ones.
func lostOf(at time.Time, n int64) apilog.Entry {
	return apilog.Entry{ID: apilog.NewID(at), Time: at, KeyID: "key_1", Owner: "org_1", Lost: n}
}

func withID(id string) func(e *apilog.Entry)    { return func(e *apilog.Entry) { e.ID = id } }
func owned(owner string) func(e *apilog.Entry)  { return func(e *apilog.Entry) { e.Owner = owner } }
func answered(status int) func(e *apilog.Entry) { return func(e *apilog.Entry) { e.Status = status } }

// newest returns the entries in the order of List.
func newest(list []apilog.Entry) []apilog.Entry {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b apilog.Entry) int {
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.ID, a.ID))
	})
	return list
}

// only returns those of the entries that q selects, in the order of List.
func only(list []apilog.Entry, q apilog.Query) []apilog.Entry {
	var selected []apilog.Entry
	for i := range list {
		if q.Matches(&list[i]) {
			selected = append(selected, list[i])
		}
	}
	return newest(selected)
}

// shuffled returns the entries in an order that is neither theirs nor its
// reverse.
func shuffled(list []apilog.Entry) []apilog.Entry {
	n := len(list)
	step := 5
	for n%step == 0 || step%n == 0 {
		step += 2
	}
	mixed := make([]apilog.Entry, n)
	for i := range list {
		mixed[i] = list[i*step%n]
	}
	return mixed
}

func ids(list []apilog.Entry) []string {
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	return ids
}

// differences says in which fields got is not want, or returns nil. It ignores
// the zone of the time, which has a case of its own.
func differences(got, want *apilog.Entry) error {
	var list []string
	differ := func(field string, same bool, got, want any) {
		if !same {
			list = append(list, fmt.Sprintf("%s is %s, want %s", field, brief(got), brief(want)))
		}
	}
	differ("Time", got.Time.Equal(want.Time), got.Time, want.Time)
	differ("Duration", got.Duration == want.Duration, got.Duration, want.Duration)
	for _, f := range []struct{ field, got, want string }{
		{"ID", got.ID, want.ID},
		{"KeyID", got.KeyID, want.KeyID},
		{"Owner", got.Owner, want.Owner},
		{"Method", got.Method, want.Method},
		{"Route", got.Route, want.Route},
		{"Path", got.Path, want.Path},
		{"Code", got.Code, want.Code},
		{"RequestID", got.RequestID, want.RequestID},
		{"UserAgent", got.UserAgent, want.UserAgent},
	} {
		differ(f.field, f.got == f.want, f.got, f.want)
	}
	differ("Status", got.Status == want.Status, got.Status, want.Status)
	differ("RequestBytes", got.RequestBytes == want.RequestBytes, got.RequestBytes, want.RequestBytes)
	differ("ResponseBytes", got.ResponseBytes == want.ResponseBytes, got.ResponseBytes, want.ResponseBytes)
	differ("RemoteAddr", got.RemoteAddr == want.RemoteAddr, got.RemoteAddr, want.RemoteAddr)
	differ("Lost", got.Lost == want.Lost, got.Lost, want.Lost)
	if list == nil {
		return nil
	}
	return errors.New(strings.Join(list, "; "))
}

func brief(v any) string {
	var s string
	switch v := v.(type) {
	case time.Time:
		if s = v.Format(time.RFC3339Nano); v.IsZero() {
			s = "zero"
		}
	case string, []string:
		s = fmt.Sprintf("%q", v)
	default:
		s = fmt.Sprint(v)
	}
	if len(s) > 200 {
		s = fmt.Sprintf("%.100s… (%d bytes)", s, len(s))
	}
	return s
}
