package apilogtest_test

import (
	"cmp"
	"context"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/insigner/auth/apilog"
)

// A store is a MemoryStore made to be broken: every method can be replaced.
type store struct {
	*apilog.MemoryStore

	mu       sync.Mutex
	appended bool // or deleted from

	gate sync.RWMutex // nothing else is written while remove does its work

	onAppend       func(ctx context.Context, entries []apilog.Entry) error
	onList         func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error)
	onHistogram    func(ctx context.Context, q apilog.Query, step time.Duration) ([]apilog.Bucket, error)
	onDeleteBefore func(ctx context.Context, t time.Time) (int64, error)
	onDeleteOwner  func(ctx context.Context, owner string) (int64, error)
}

func newStore() *store { return &store{MemoryStore: apilog.NewMemoryStore(10_000)} }

func (s *store) write() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.appended = true
}

// written reports whether a method that writes was ever called.
func (s *store) written() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.appended
}

func (s *store) Append(ctx context.Context, entries []apilog.Entry) error {
	s.write()
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.onAppend != nil {
		return s.onAppend(ctx, entries)
	}
	return s.MemoryStore.Append(ctx, entries)
}

func (s *store) List(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
	if s.onList != nil {
		return s.onList(ctx, q)
	}
	return s.MemoryStore.List(ctx, q)
}

func (s *store) Histogram(ctx context.Context, q apilog.Query, step time.Duration) ([]apilog.Bucket, error) {
	if s.onHistogram != nil {
		return s.onHistogram(ctx, q, step)
	}
	return s.MemoryStore.Histogram(ctx, q, step)
}

func (s *store) DeleteBefore(ctx context.Context, t time.Time) (int64, error) {
	defer s.write()
	if s.onDeleteBefore != nil {
		return s.onDeleteBefore(ctx, t)
	}
	s.gate.RLock()
	defer s.gate.RUnlock()
	return s.MemoryStore.DeleteBefore(ctx, t)
}

func (s *store) DeleteOwner(ctx context.Context, owner string) (int64, error) {
	defer s.write()
	if s.onDeleteOwner != nil {
		return s.onDeleteOwner(ctx, owner)
	}
	s.gate.RLock()
	defer s.gate.RUnlock()
	return s.MemoryStore.DeleteOwner(ctx, owner)
}

// all returns all entries, newest first.
func (s *store) all() []apilog.Entry {
	list, err := s.MemoryStore.List(context.Background(), apilog.Query{Limit: math.MaxInt})
	if err != nil {
		panic(err)
	}
	return list
}

// find returns the entry with that ID.
func (s *store) find(id string) (e apilog.Entry, ok bool) {
	list := s.all()
	i := slices.IndexFunc(list, func(e apilog.Entry) bool { return e.ID == id })
	if i < 0 {
		return e, false
	}
	return list[i], true
}

// remove deletes the entries that match, and stores the others again.
func (s *store) remove(match func(e *apilog.Entry) bool) int64 {
	s.gate.Lock()
	defer s.gate.Unlock()
	all := s.all()
	left := slices.DeleteFunc(slices.Clone(all), func(e apilog.Entry) bool { return match(&e) })
	ctx := context.Background()
	s.MemoryStore.DeleteBefore(ctx, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
	s.MemoryStore.Append(ctx, left)
	return int64(len(all) - len(left))
}

// newestFirst is the order of List.
func newestFirst(a, b apilog.Entry) int {
	return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.ID, a.ID))
}

// selected does what List does, with another selection and another order.
func (s *store) selected(ctx context.Context, q apilog.Query, match func(e *apilog.Entry) bool,
	order func(a, b apilog.Entry) int) ([]apilog.Entry, error) {
	if _, err := s.MemoryStore.List(ctx, q); err != nil {
		return nil, err
	}
	after, ok := s.find(q.After)
	if !ok {
		after.ID = q.After
		after.Time, _ = apilog.TimeOf(q.After)
	}
	list := slices.DeleteFunc(s.all(), func(e apilog.Entry) bool {
		return !match(&e) || q.After != "" && order(e, after) <= 0
	})
	slices.SortStableFunc(list, order)
	if q.Limit <= 0 {
		q.Limit = apilog.DefaultLimit
	}
	return list[:min(q.Limit, len(list))], nil
}

// appending breaks what is stored: f returns what is appended.
func appending(f func(s *store, entries []apilog.Entry) ([]apilog.Entry, error)) func(s *store) {
	return func(s *store) {
		s.onAppend = func(ctx context.Context, entries []apilog.Entry) error {
			entries, err := f(s, entries)
			if err != nil {
				return err
			}
			return s.MemoryStore.Append(ctx, entries)
		}
	}
}

// asking breaks the query of List.
func asking(f func(s *store, q *apilog.Query) error) func(s *store) {
	return func(s *store) {
		s.onList = func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
			if err := f(s, &q); err != nil {
				return nil, err
			}
			return s.MemoryStore.List(ctx, q)
		}
	}
}

// showing breaks the entries that List returns.
func showing(f func(e *apilog.Entry)) func(s *store) {
	return func(s *store) {
		s.onList = func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
			page, err := s.MemoryStore.List(ctx, q)
			for i := range page {
				f(&page[i])
			}
			return page, err
		}
	}
}

// ordering breaks the order of List, which After follows.
func ordering(order func(a, b apilog.Entry) int) func(s *store) {
	return func(s *store) {
		s.onList = func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
			return s.selected(ctx, q, q.Matches, order)
		}
	}
}

// leavingOut breaks the selection of List: it leaves out what hidden selects.
func leavingOut(hidden func(q apilog.Query, e *apilog.Entry) bool) func(s *store) {
	return func(s *store) {
		s.onList = func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
			match := func(e *apilog.Entry) bool { return q.Matches(e) && !hidden(q, e) }
			return s.selected(ctx, q, match, newestFirst)
		}
	}
}

// comparing breaks a filter of List by a text: same says whether a value that
// was asked for is the one of an entry.
func comparing(of func(q *apilog.Query) *string, in func(e *apilog.Entry) *string,
	same func(want, have string) bool) func(s *store) {
	return func(s *store) {
		s.onList = func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
			want, others := *of(&q), q
			*of(&others) = ""
			match := func(e *apilog.Entry) bool { return others.Matches(e) && (want == "" || same(want, *in(e))) }
			return s.selected(ctx, q, match, newestFirst)
		}
	}
}

// counting breaks the query of Histogram.
func counting(f func(s *store, q *apilog.Query, step *time.Duration) error) func(s *store) {
	return func(s *store) {
		s.onHistogram = func(ctx context.Context, q apilog.Query, step time.Duration) ([]apilog.Bucket, error) {
			if err := f(s, &q, &step); err != nil {
				return nil, err
			}
			return s.MemoryStore.Histogram(ctx, q, step)
		}
	}
}

// counted does what Histogram does, with the counts of count and of the entries
// that match.
func (s *store) counted(q apilog.Query, step time.Duration, list []apilog.Entry,
	count func(b *apilog.Bucket, e *apilog.Entry)) ([]apilog.Bucket, error) {
	buckets, err := apilog.Buckets(q, step)
	for i := range list {
		if e := &list[i]; err == nil && q.Matches(e) {
			count(&buckets[(e.Time.UnixMicro()-q.From.UnixMicro())/step.Microseconds()], e)
		}
	}
	return buckets, err
}

// adding breaks how Histogram counts an entry.
func adding(count func(b *apilog.Bucket, e *apilog.Entry)) func(s *store) {
	return func(s *store) {
		s.onHistogram = func(ctx context.Context, q apilog.Query, step time.Duration) ([]apilog.Bucket, error) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return s.counted(q, step, s.all(), count)
		}
	}
}

// sparing breaks DeleteBefore: it spares what spared selects.
func sparing(spared func(s *store, t time.Time, e *apilog.Entry) bool) func(s *store) {
	return func(s *store) {
		s.onDeleteBefore = func(ctx context.Context, t time.Time) (int64, error) {
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			t = t.Truncate(time.Microsecond)
			return s.remove(func(e *apilog.Entry) bool { return e.Time.Before(t) && !spared(s, t, e) }), nil
		}
	}
}

// deletingOwner breaks DeleteOwner: it deletes what match selects.
func deletingOwner(match func(owner string, e *apilog.Entry) bool) func(s *store) {
	return func(s *store) {
		s.onDeleteOwner = func(ctx context.Context, owner string) (int64, error) {
			if ctx.Err() != nil || owner == "" {
				return s.MemoryStore.DeleteOwner(ctx, owner)
			}
			return s.remove(func(e *apilog.Entry) bool { return match(owner, e) }), nil
		}
	}
}

// raceEnabled reports whether the race detector is on, which makes a test that
// does much take ten times as long.
var raceEnabled = func() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}()
