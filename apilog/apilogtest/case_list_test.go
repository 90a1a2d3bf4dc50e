package apilogtest_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/insigner/auth/apilog"
)

var listFaults = []fault{
	{"List fails as long as nothing was ever written", "List of an empty store", true, asking(
		func(s *store, _ *apilog.Query) error {
			if !s.written() {
				return errors.New("no such table")
			}
			return nil
		})},
	{"List is oldest first", "List orders by time", false, ordering(
		func(a, b apilog.Entry) int { return newestFirst(b, a) })},
	{"List orders by ID only", "List orders by time", false, ordering(
		func(a, b apilog.Entry) int { return cmp.Compare(b.ID, a.ID) })},
	{"List orders by milliseconds and then by ID", "List orders by time", true, ordering(
		func(a, b apilog.Entry) int {
			return cmp.Or(cmp.Compare(b.Time.UnixMilli(), a.Time.UnixMilli()), cmp.Compare(b.ID, a.ID))
		})},
	{"those of one time are in the ascending order of their IDs", "List orders those of one time by ID", false, ordering(
		func(a, b apilog.Entry) int { return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(a.ID, b.ID)) })},
	{"those of one time are in no order if there is a limit of 12", "List orders those of one time by ID", true,
		func(s *store) {
			s.onList = func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
				page, err := s.MemoryStore.List(ctx, q)
				if q.Limit == 12 {
					slices.Reverse(page[1:])
				}
				return page, err
			}
		}},
	{"List returns one entry more", "Limit", false, asking(func(_ *store, q *apilog.Query) error {
		if q.Limit > 0 && q.Limit < 1000 {
			q.Limit++
		}
		return nil
	})},
	{"a limit of 5 is one of 4", "Limit", true, asking(func(_ *store, q *apilog.Query) error {
		if q.Limit == 5 {
			q.Limit = 4
		}
		return nil
	})},
	{"a limit of 0 is no limit", "Limit of 0 or less", true, asking(func(_ *store, q *apilog.Query) error {
		if q.Limit == 0 {
			q.Limit = 1 << 40
		}
		return nil
	})},
	{"a limit below 0 is an error", "Limit of 0 or less", true, asking(func(_ *store, q *apilog.Query) error {
		if q.Limit < 0 {
			return errors.New("LIMIT must not be negative")
		}
		return nil
	})},
	{"a large limit is an error", "Large limit", true, asking(func(_ *store, q *apilog.Query) error {
		if q.Limit > 1<<31-1 {
			return errors.New("value out of range")
		}
		return nil
	})},
}

// continuing breaks After: follows says whether an entry comes after the one
// with that ID and time.
func continuing(follows func(q apilog.Query, e *apilog.Entry, at time.Time) bool) func(s *store) {
	return func(s *store) {
		s.onList = func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
			if _, err := s.MemoryStore.List(ctx, q); err != nil || q.After == "" {
				return s.MemoryStore.List(ctx, q)
			}
			after, ok := s.find(q.After)
			if !ok {
				after.Time, _ = apilog.TimeOf(q.After)
			}
			all := q
			all.After = ""
			match := func(e *apilog.Entry) bool { return q.Matches(e) && follows(q, e, after.Time) }
			return s.selected(ctx, all, match, newestFirst)
		}
	}
}

var afterFaults = []fault{
	{"After compares times only", "List page by page", false, continuing(
		func(q apilog.Query, e *apilog.Entry, at time.Time) bool { return e.Time.Before(at) })},
	{"After includes its entry", "List page by page", false, continuing(
		func(q apilog.Query, e *apilog.Entry, at time.Time) bool {
			return e.Time.Before(at) || e.Time.Equal(at) && e.ID <= q.After
		})},
	{"After is ignored with a limit of 22", "List page by page", true, asking(func(_ *store, q *apilog.Query) error {
		if q.Limit == 22 {
			q.After = ""
		}
		return nil
	})},
	{"After is a number of entries", "List page by page while entries are appended", true, func(s *store) {
		before := make(map[string]int)
		s.onList = func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			query := q
			query.After, query.Limit = "", 0
			skip, ok := before[fmt.Sprint(q.After, query)]
			if !ok && q.After != "" || q.Limit <= 0 || q.Limit >= 1<<20 {
				return s.MemoryStore.List(ctx, q)
			}
			query.Limit = skip + q.Limit
			page, err := s.MemoryStore.List(ctx, query)
			page = page[min(skip, len(page)):]
			if query.Limit = 0; len(page) > 0 {
				before[fmt.Sprint(page[len(page)-1].ID, query)] = skip + len(page)
			}
			return page, err
		}
	}},
	{"the filters must select After", "After an entry that the filters leave out", true, asking(
		func(s *store, q *apilog.Query) error {
			if e, ok := s.find(q.After); ok && !q.Matches(&e) {
				return apilog.ErrInvalidQuery
			}
			return nil
		})},
	{"After must be there", "After an entry that is gone", true, asking(func(s *store, q *apilog.Query) error {
		if _, ok := s.find(q.After); !ok && q.After != "" && s.written() {
			return apilog.ErrInvalidQuery
		}
		return nil
	})},
	{"After must be an ID of NewID", "After an ID that NewID did not make", true, asking(
		func(_ *store, q *apilog.Query) error {
			if _, ok := apilog.TimeOf(q.After); !ok && q.After != "" {
				return apilog.ErrInvalidQuery
			}
			return nil
		})},
	{"an unknown After lists from the start", "After an unknown ID that NewID did not make", true, asking(
		func(s *store, q *apilog.Query) error {
			_, own := apilog.TimeOf(q.After)
			if _, ok := s.find(q.After); !ok && !own {
				q.After = ""
			}
			return nil
		})},
	{"an unknown After is an error of its own", "After an unknown ID that NewID did not make", true, asking(
		func(s *store, q *apilog.Query) error {
			_, own := apilog.TimeOf(q.After)
			if _, ok := s.find(q.After); !ok && !own && q.After != "" {
				return errors.New("no rows in result set")
			}
			return nil
		})},
	{"After may be another owner's", "After an unknown ID that NewID did not make", true, func(s *store) {
		s.onList = func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
			anyOwner := q
			anyOwner.Owner, anyOwner.Limit = "", 10_000
			page, err := s.MemoryStore.List(ctx, anyOwner)
			page = slices.DeleteFunc(page, func(e apilog.Entry) bool { return !q.Matches(&e) })
			if q.Limit <= 0 {
				q.Limit = apilog.DefaultLimit
			}
			return page[:min(q.Limit, len(page))], err
		}
	}},
}
