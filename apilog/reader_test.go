package apilog_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth/apilog"
)

// A spyStore keeps the queries that it gets. If f is not nil, a read calls it
// first.
type spyStore struct {
	apilog.Store
	asked []apilog.Query
	f     func(ctx context.Context) error
}

func (s *spyStore) ask(ctx context.Context, q apilog.Query) error {
	s.asked = append(s.asked, q)
	if s.f == nil {
		return nil
	}
	return s.f(ctx)
}

func (s *spyStore) List(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
	if err := s.ask(ctx, q); err != nil {
		return nil, err
	}
	return s.Store.List(ctx, q)
}

func (s *spyStore) Histogram(ctx context.Context, q apilog.Query, step time.Duration) ([]apilog.Bucket, error) {
	if err := s.ask(ctx, q); err != nil {
		return nil, err
	}
	return s.Store.Histogram(ctx, q, step)
}

// A leakyStore ignores the owner of a query.
type leakyStore struct{ apilog.Store }

func (s leakyStore) List(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
	q.Owner = ""
	return s.Store.List(ctx, q)
}

// ofCustomers returns a store of the entries of two customers and of nobody. The
// path of each tells whose it is. The IDs "a" and "g" are not of NewID.
func ofCustomers(t testing.TB) (s *apilog.MemoryStore, byPath map[string]apilog.Entry) {
	t.Helper()
	byPath = make(map[string]apilog.Entry)
	var list []apilog.Entry
	for i, owner := range []string{"acme", "globex", "acme", "globex", "", "Acme", "acme "} {
		e := at(i)
		e.Owner, e.Path, e.Status = owner, fmt.Sprintf("/%s/%d", owner, i), 200
		e.RemoteAddr = netip.MustParseAddr("192.0.2.1")
		if owner != "" {
			e.KeyID, e.RequestID = "key_of_"+owner, "request_of_"+owner
		}
		switch i {
		case 2:
			e.ID = "a"
		case 3:
			e.ID = "g"
		}
		byPath[e.Path] = e
		list = append(list, e)
	}
	s = apilog.NewMemoryStore(100)
	if err := s.Append(ctx, list); err != nil {
		t.Fatal(err)
	}
	return s, byPath
}

// reads returns the paths that r lists, and how many requests it counts.
func reads(t testing.TB, r *apilog.Reader, q apilog.Query) (paths string, count int64) {
	t.Helper()
	list, err := r.List(ctx, q)
	if err != nil {
		t.Errorf("List %+v: %v", q, err)
	}
	var all []string
	for _, e := range list {
		all = append(all, e.Path)
	}
	q.From, q.To = noon.Add(-time.Hour), noon.Add(time.Hour)
	buckets, err := r.Histogram(ctx, q, time.Minute)
	if err != nil {
		t.Errorf("Histogram %+v: %v", q, err)
	}
	if len(buckets) != 120 {
		t.Errorf("Histogram %+v: %d buckets, want 120", q, len(buckets))
	}
	for _, b := range buckets {
		count += b.Requests
	}
	return strings.Join(all, " "), count
}

func TestReaderIsConfined(t *testing.T) {
	s, byPath := ofCustomers(t)
	addr := netip.MustParseAddr("192.0.2.1")
	const both = "/acme/2 /acme/0"
	for _, c := range []struct {
		what  string
		q     apilog.Query
		want  string
		count int64 // a histogram ignores After
	}{
		{"all", apilog.Query{}, both, 2},
		{"their own", apilog.Query{Owner: "acme"}, both, 2},
		{"their own key", apilog.Query{KeyID: "key_of_acme"}, both, 2},
		{"their own request", apilog.Query{RequestID: "request_of_acme"}, both, 2},
		{"what others have too", apilog.Query{RemoteAddr: addr, StatusFrom: 200, StatusTo: 200}, both, 2},
		{"another owner", apilog.Query{Owner: "globex"}, "", 0},
		{"an owner in another case", apilog.Query{Owner: "Acme"}, "", 0},
		{"an owner with a blank", apilog.Query{Owner: "acme "}, "", 0},
		{"a wildcard", apilog.Query{Owner: "%"}, "", 0},
		{"another's key", apilog.Query{KeyID: "key_of_globex"}, "", 0},
		{"another's request", apilog.Query{RequestID: "request_of_globex"}, "", 0},
		{"another owner and key", apilog.Query{Owner: "globex", KeyID: "key_of_globex"}, "", 0},
		{"after their own", apilog.Query{After: "a"}, "/acme/0", 2},
		{"after another's", apilog.Query{After: byPath["/globex/1"].ID}, "/acme/0", 2},
		{"after a later one of nobody", apilog.Query{After: byPath["//4"].ID}, both, 2},
		{"the last page", apilog.Query{After: byPath["/acme/0"].ID}, "", 2},
	} {
		got, count := reads(t, apilog.For(s, "acme"), c.q)
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
		if count != c.count {
			t.Errorf("%s: %d requests counted, want %d", c.what, count, c.count)
		}
		leaked, _ := reads(t, apilog.For(leakyStore{s}, "acme"), c.q)
		if leaked != c.want {
			t.Errorf("%s, of a store that ignores the owner: got %q, want %q", c.what, leaked, c.want)
		}
	}
}

// An ID that tells no time must not tell either whether another has it.
func TestReaderAfterAnothersID(t *testing.T) {
	s, _ := ofCustomers(t)
	var texts []string
	for _, id := range []string{"g", "unknown"} {
		list, err := apilog.For(s, "acme").List(ctx, apilog.Query{After: id})
		if !errors.Is(err, apilog.ErrInvalidQuery) {
			t.Errorf("after %q: %v, error %v, want ErrInvalidQuery", id, list, err)
		}
		texts = append(texts, fmt.Sprint(err))
	}
	if texts[0] != texts[1] {
		t.Errorf("the error of another's ID %q is not that of an unknown one %q", texts[0], texts[1])
	}
}

func TestReaderOfNobody(t *testing.T) {
	s, byPath := ofCustomers(t)
	for what, r := range map[string]*apilog.Reader{
		"an empty owner": apilog.For(s, ""), "the zero Reader": new(apilog.Reader),
	} {
		for _, q := range []apilog.Query{
			{}, {Owner: "acme"}, {KeyID: "key_of_acme"}, {Limit: -1}, {After: byPath["//4"].ID}, {After: "a"},
		} {
			got, count := reads(t, r, q)
			if got != "" {
				t.Errorf("%s, %+v: got %q, want nothing", what, q, got)
			}
			if count != 0 {
				t.Errorf("%s, %+v: %d requests counted, want 0", what, q, count)
			}
		}
		_, err := r.Histogram(ctx, apilog.Query{}, time.Hour)
		if !errors.Is(err, apilog.ErrInvalidQuery) {
			t.Errorf("%s, Histogram without From: error %v, want ErrInvalidQuery", what, err)
		}
	}
}

func TestReaderOfAll(t *testing.T) {
	s, _ := ofCustomers(t)
	for _, c := range []struct {
		q    apilog.Query
		want int64
	}{
		{apilog.Query{}, 7}, {apilog.Query{Owner: "globex"}, 2}, {apilog.Query{KeyID: "key_of_Acme"}, 1},
		{apilog.Query{Owner: "acme", KeyID: "key_of_globex"}, 0},
	} {
		got, count := reads(t, apilog.All(s), c.q)
		if n := len(strings.Fields(strings.ReplaceAll(got, "acme ", "acme_"))); int64(n) != c.want {
			t.Errorf("%+v: got %q, want %d", c.q, got, c.want)
		}
		if count != c.want {
			t.Errorf("%+v: %d requests counted, want %d", c.q, count, c.want)
		}
	}
}

func TestReaderLimits(t *testing.T) {
	for _, c := range []struct{ limit, want int }{
		{0, 100}, {-1, 100}, {-1 << 63, 100}, {1, 1}, {50, 50}, {1000, 1000}, {1001, 1000}, {1<<63 - 1, 1000},
	} {
		s := &spyStore{Store: apilog.NewMemoryStore(1)}
		for _, r := range []*apilog.Reader{apilog.For(s, "acme"), apilog.All(s)} {
			r.List(ctx, apilog.Query{Limit: c.limit})
			if got := s.asked[len(s.asked)-1].Limit; got != c.want {
				t.Errorf("a limit of %d: the store is asked for %d, want %d", c.limit, got, c.want)
			}
		}
	}
}

// What no entry can have finds nothing, and does not reach a database, which
// would return an error.
func TestReaderOfImpossibleTexts(t *testing.T) {
	memory, _ := ofCustomers(t)
	s := &spyStore{Store: memory}
	for _, r := range []*apilog.Reader{apilog.For(s, "acme"), apilog.All(s)} {
		for _, text := range []string{"\x00", "a\x00b", "\xff", "\xed\xa0\x80"} {
			for _, q := range []apilog.Query{
				{Owner: text}, {KeyID: text}, {Method: text}, {Route: text}, {Code: text}, {RequestID: text},
			} {
				if got, count := reads(t, r, q); got != "" || count != 0 {
					t.Errorf("%+v: got %q and %d requests, want nothing", q, got, count)
				}
			}
			if _, err := r.List(ctx, apilog.Query{After: text}); !errors.Is(err, apilog.ErrInvalidQuery) {
				t.Errorf("after %q: error %v, want ErrInvalidQuery", text, err)
			}
		}
	}
	if len(s.asked) > 0 {
		t.Errorf("the store was asked for %+v", s.asked)
	}
}

// Entries have neither zones nor IPv4 in IPv6.
func TestReaderRemoteAddr(t *testing.T) {
	s := &spyStore{Store: apilog.NewMemoryStore(1)}
	for _, c := range []struct{ addr, want string }{
		{"192.0.2.1", "192.0.2.1"}, {"::ffff:192.0.2.1", "192.0.2.1"}, {"fe80::1%eth0", "fe80::1"},
		{"2001:db8::1", "2001:db8::1"},
	} {
		reads(t, apilog.For(s, "acme"), apilog.Query{RemoteAddr: netip.MustParseAddr(c.addr)})
		for _, q := range s.asked[len(s.asked)-2:] {
			if got := q.RemoteAddr.String(); got != c.want {
				t.Errorf("%s: the store is asked for %s, want %s", c.addr, got, c.want)
			}
		}
	}
}

func TestReaderWithoutStore(t *testing.T) {
	wantPanic(t, "apilog.For: the store is nil", func() { apilog.For(nil, "acme") })
	wantPanic(t, "apilog.For: the store is nil", func() { apilog.For(nil, "") })
	wantPanic(t, "apilog.All: the store is nil", func() { apilog.All(nil) })
	wantPanic(t, "apilog.All: the store is a nil *apilog.MemoryStore", func() { apilog.All((*apilog.MemoryStore)(nil)) })
}

func TestReaderErrors(t *testing.T) {
	failure := errors.New("connection refused")
	s := &spyStore{Store: apilog.NewMemoryStore(1), f: func(context.Context) error { return failure }}
	for _, r := range []*apilog.Reader{apilog.For(s, "acme"), apilog.All(s)} {
		if list, err := r.List(ctx, apilog.Query{}); !errors.Is(err, failure) || list != nil {
			t.Errorf("List: got %v, error %v, want that of the store", list, err)
		}
		buckets, err := r.Histogram(ctx, apilog.Query{From: noon, To: noon.Add(time.Hour)}, time.Hour)
		if !errors.Is(err, failure) || buckets != nil {
			t.Errorf("Histogram: got %v, error %v, want that of the store", buckets, err)
		}
	}
}

func TestReaderCanceled(t *testing.T) {
	s, _ := ofCustomers(t)
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	for _, r := range []*apilog.Reader{apilog.For(s, "acme"), apilog.All(s)} {
		if _, err := r.List(canceled, apilog.Query{}); !errors.Is(err, context.Canceled) {
			t.Errorf("List: error %v, want context.Canceled", err)
		}
		_, err := r.Histogram(canceled, apilog.Query{From: noon, To: noon.Add(time.Hour)}, time.Hour)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Histogram: error %v, want context.Canceled", err)
		}
	}
}

func TestReaderEndsReads(t *testing.T) {
	for _, c := range []struct{ deadline, want time.Duration }{
		{time.Hour, apilog.ReadTimeout}, {time.Second, time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &spyStore{Store: apilog.NewMemoryStore(1), f: func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			}}
			for _, r := range []*apilog.Reader{apilog.For(s, "acme"), apilog.All(s)} {
				for what, read := range map[string]func(ctx context.Context) error{
					"List": func(ctx context.Context) error {
						_, err := r.List(ctx, apilog.Query{})
						return err
					},
					"Histogram": func(ctx context.Context) error {
						_, err := r.Histogram(ctx, apilog.Query{From: time.Now().Add(-time.Hour)}, time.Hour)
						return err
					},
				} {
					ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
					start := time.Now()
					err := read(ctx)
					cancel()
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("%s that hangs: error %v, want context.DeadlineExceeded", what, err)
					}
					if took := time.Since(start); took != c.want {
						t.Errorf("%s that hangs: ended after %v, want %v", what, took, c.want)
					}
				}
			}
		})
	}
}

func TestReaderHistogramUntilNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(999_999_999) // now is not a whole microsecond
		now := time.Now()
		s := apilog.NewMemoryStore(10)
		var list []apilog.Entry
		for _, age := range []time.Duration{
			-time.Second, 0, time.Microsecond, time.Second, 59 * time.Minute, 61 * time.Minute,
		} {
			e := apilog.Entry{Time: now.Add(-age).UTC().Truncate(time.Microsecond), Owner: "acme"}
			e.ID = apilog.NewID(e.Time)
			list = append(list, e)
		}
		s.Append(t.Context(), list)
		buckets, err := apilog.For(s, "acme").Histogram(t.Context(), apilog.Query{From: now.Add(-time.Hour)}, 30*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, b := range buckets {
			got = append(got, b.Requests)
		}
		if want := []int64{1, 2}; !slices.Equal(got, want) {
			t.Errorf("got %d, want %d", got, want)
		}
	})
}

func TestReaderHistogramErrors(t *testing.T) {
	s := &spyStore{Store: apilog.NewMemoryStore(1)}
	for _, r := range []*apilog.Reader{apilog.For(s, "acme"), apilog.For(s, ""), apilog.All(s)} {
		for _, c := range []struct {
			what string
			q    apilog.Query
			step time.Duration
		}{
			{"no From", apilog.Query{}, time.Hour},
			{"To before From", apilog.Query{From: noon, To: noon.Add(-time.Hour)}, time.Hour},
			{"no step", apilog.Query{From: noon, To: noon.Add(time.Hour)}, 0},
			{"too many buckets", apilog.Query{From: noon, To: noon.Add(time.Hour)}, time.Millisecond},
		} {
			if _, err := r.Histogram(ctx, c.q, c.step); !errors.Is(err, apilog.ErrInvalidQuery) {
				t.Errorf("%s: error %v, want ErrInvalidQuery", c.what, err)
			}
		}
	}
	if len(s.asked) > 0 {
		t.Errorf("the store was asked for %+v", s.asked)
	}
}
