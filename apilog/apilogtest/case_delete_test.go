package apilogtest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/insigner/auth/apilog"
)

// remembering breaks a store that remembers what was deleted: f gets a function
// that returns the deleted entries.
func remembering(f func(s *store, deleted func() []apilog.Entry)) func(s *store) {
	return func(s *store) {
		var mu sync.Mutex
		var graves []apilog.Entry
		bury := func(delete func() (int64, error)) (int64, error) {
			mu.Lock()
			defer mu.Unlock()
			before := s.all()
			n, err := delete()
			left := s.all()
			graves = append(graves, slices.DeleteFunc(before, func(e apilog.Entry) bool { return slices.Contains(left, e) })...)
			return n, err
		}
		s.onDeleteBefore = func(ctx context.Context, t time.Time) (int64, error) {
			return bury(func() (int64, error) { return s.MemoryStore.DeleteBefore(ctx, t) })
		}
		s.onDeleteOwner = func(ctx context.Context, owner string) (int64, error) {
			return bury(func() (int64, error) { return s.MemoryStore.DeleteOwner(ctx, owner) })
		}
		f(s, func() []apilog.Entry {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(graves)
		})
	}
}

// daysOf returns the days of the entries, the first one first.
func daysOf(s *store) []time.Time {
	var days []time.Time
	for _, e := range s.all() {
		days = append(days, e.Time.Truncate(24*time.Hour))
	}
	slices.SortFunc(days, time.Time.Compare)
	return slices.Compact(days)
}

var deleteFaults = []fault{
	{"Delete fails as long as nothing was ever written", "Delete in an empty store", true, func(s *store) {
		s.onDeleteBefore = func(ctx context.Context, t time.Time) (int64, error) {
			if !s.written() {
				return 0, errors.New("no such table")
			}
			return s.MemoryStore.DeleteBefore(ctx, t)
		}
	}},
	{"DeleteBefore deletes whole days", "DeleteBefore", false, sparing(
		func(_ *store, t time.Time, e *apilog.Entry) bool { return !e.Time.Before(t.Truncate(24 * time.Hour)) })},
	{"DeleteBefore deletes three days at most", "DeleteBefore", true, func(s *store) {
		sparing(func(s *store, t time.Time, e *apilog.Entry) bool { return false })(s)
		right := s.onDeleteBefore
		s.onDeleteBefore = func(ctx context.Context, t time.Time) (int64, error) {
			if days := daysOf(s); len(days) > 3 && days[3].Before(t) {
				t = days[3]
			}
			return right(ctx, t)
		}
	}},
	{"DeleteBefore counts what it does not delete", "DeleteBefore", false, func(s *store) {
		s.onDeleteBefore = func(ctx context.Context, t time.Time) (int64, error) {
			n, err := s.MemoryStore.DeleteBefore(ctx, t)
			return n + 1, err
		}
	}},
	{"DeleteBefore deletes whole milliseconds", "DeleteBefore at the microsecond", true, sparing(
		func(_ *store, t time.Time, e *apilog.Entry) bool { return !e.Time.Before(t.Truncate(time.Millisecond)) })},
	{"DeleteBefore leaves 1970", "DeleteBefore with odd clocks", true, sparing(
		func(_ *store, _ time.Time, e *apilog.Entry) bool { return e.Time.Year() == 1970 })},
	{"DeleteBefore leaves the future", "DeleteBefore with odd clocks", true, sparing(
		func(_ *store, _ time.Time, e *apilog.Entry) bool { return e.Time.Year() == 2199 })},
	{"DeleteBefore leaves entries without an owner", "DeleteBefore deletes entries of any kind", true, sparing(
		func(_ *store, _ time.Time, e *apilog.Entry) bool { return e.Owner == "" })},
	{"DeleteBefore leaves lost entries", "DeleteBefore deletes entries of any kind", true, sparing(
		func(_ *store, _ time.Time, e *apilog.Entry) bool { return e.Lost != 0 })},
	{"DeleteOwner deletes what begins with the owner", "DeleteOwner", false, deletingOwner(
		func(owner string, e *apilog.Entry) bool { return strings.HasPrefix(e.Owner, owner) })},
	{"DeleteOwner deletes what ends with a digit", "DeleteOwner", true, deletingOwner(
		func(owner string, e *apilog.Entry) bool {
			return e.Owner == owner || owner == "1" && strings.HasSuffix(e.Owner, owner)
		})},
	{"DeleteOwner returns one more", "DeleteOwner", false, func(s *store) {
		s.onDeleteOwner = func(ctx context.Context, owner string) (int64, error) {
			n, err := s.MemoryStore.DeleteOwner(ctx, owner)
			return n + 1, err
		}
	}},
	{"DeleteOwner ignores the case", "DeleteOwner whose name is like another's", true, deletingOwner(
		func(owner string, e *apilog.Entry) bool { return strings.EqualFold(owner, e.Owner) })},
	{"DeleteOwner ignores blanks at the end", "DeleteOwner whose name is like another's", true, deletingOwner(
		func(owner string, e *apilog.Entry) bool {
			return strings.TrimRight(owner, " ") == strings.TrimRight(e.Owner, " ") && owner != " "
		})},
	{"DeleteOwner deletes what is like the owner", "DeleteOwner whose name has wildcards", true, deletingOwner(
		func(owner string, e *apilog.Entry) bool { return like(owner, e.Owner) })},
	{"DeleteOwner leaves entries without a key", "DeleteOwner deletes entries of any kind", true, deletingOwner(
		func(owner string, e *apilog.Entry) bool { return e.Owner == owner && e.KeyID != "" })},
	{"DeleteOwner leaves lost entries", "DeleteOwner deletes entries of any kind", true, deletingOwner(
		func(owner string, e *apilog.Entry) bool { return e.Owner == owner && e.Lost == 0 })},
	{"an empty owner is nobody", "DeleteOwner of nobody", true, func(s *store) {
		s.onDeleteOwner = func(ctx context.Context, owner string) (int64, error) {
			if owner == "" {
				return 0, nil
			}
			return s.MemoryStore.DeleteOwner(ctx, owner)
		}
	}},
	{"an empty owner is an error, and everybody", "DeleteOwner of nobody", true, func(s *store) {
		s.onDeleteOwner = func(ctx context.Context, owner string) (int64, error) {
			if owner == "" {
				s.remove(func(*apilog.Entry) bool { return true })
			}
			return s.MemoryStore.DeleteOwner(ctx, owner)
		}
	}},
	{"DeleteOwner deletes 1000 entries at most", "Delete of many entries", true, func(s *store) {
		s.onDeleteOwner = func(ctx context.Context, owner string) (int64, error) {
			if ctx.Err() != nil || owner == "" {
				return s.MemoryStore.DeleteOwner(ctx, owner)
			}
			var n int64
			return s.remove(func(e *apilog.Entry) bool {
				if e.Owner == owner && n < 1000 {
					n++
					return true
				}
				return false
			}), nil
		}
	}},
	{"Histogram counts deleted entries", "Deleted entries are gone", true, remembering(
		func(s *store, deleted func() []apilog.Entry) {
			s.onHistogram = func(ctx context.Context, q apilog.Query, step time.Duration) ([]apilog.Bucket, error) {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				return s.counted(q, step, slices.Concat(s.all(), deleted()), (*apilog.Bucket).Add)
			}
		})},
	{"a deleted ID is known for ever", "Append of an ID that was deleted", true, remembering(
		func(s *store, deleted func() []apilog.Entry) {
			s.onAppend = func(ctx context.Context, entries []apilog.Entry) error {
				known := deleted()
				return s.MemoryStore.Append(ctx, slices.DeleteFunc(slices.Clone(entries), func(e apilog.Entry) bool {
					return slices.ContainsFunc(known, func(old apilog.Entry) bool { return old.ID == e.ID })
				}))
			}
		})},
}
