package apilogtest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/insigner/auth/apilog"
)

func bad(e apilog.Entry) bool {
	return !utf8.ValidString(e.Path) || strings.Contains(e.Path, "\x00") || len(e.Path) > 1024
}

var errBad = errors.New("invalid byte sequence for encoding UTF8")

var appendFaults = []fault{
	{"no entries are an error", "Append of no entries", true, appending(
		func(_ *store, entries []apilog.Entry) ([]apilog.Entry, error) {
			if len(entries) == 0 {
				return nil, errors.New("no values")
			}
			return entries, nil
		})},
	{"Append stores 1000 entries at most", "Append of many entries", true, appending(
		func(_ *store, entries []apilog.Entry) ([]apilog.Entry, error) {
			return entries[:min(1000, len(entries))], nil
		})},
	{"Append of many entries is an error", "Append of many entries", true, appending(
		func(_ *store, entries []apilog.Entry) ([]apilog.Entry, error) {
			if len(entries)*16 > 65535 {
				return nil, errors.New("too many parameters")
			}
			return entries, nil
		})},
	{"what is a day older than the newest is dropped", "Append in any order of times", true, appending(
		func(s *store, entries []apilog.Entry) ([]apilog.Entry, error) {
			all := s.all()
			return slices.DeleteFunc(slices.Clone(entries), func(e apilog.Entry) bool {
				return len(all) > 0 && e.Time.Before(all[0].Time.Add(-24*time.Hour))
			}), nil
		})},
	{"a stored ID is an error", "Append of an ID again", false, appending(
		func(s *store, entries []apilog.Entry) ([]apilog.Entry, error) {
			for _, e := range entries {
				if _, ok := s.find(e.ID); ok {
					return nil, errors.New("duplicate key value violates unique constraint")
				}
			}
			return entries, nil
		})},
	{"a stored ID is overwritten", "Append of an ID again", true, func(s *store) {
		later := make(map[string]apilog.Entry)
		appending(func(s *store, entries []apilog.Entry) ([]apilog.Entry, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, e := range entries {
				later[e.ID] = e
			}
			return entries, nil
		})(s)
		showing(func(e *apilog.Entry) {
			s.mu.Lock()
			defer s.mu.Unlock()
			*e = later[e.ID]
		})(s)
	}},
	{"a batch that begins with a new entry and has a stored one is dropped", "Append of an ID again", true, appending(
		func(s *store, entries []apilog.Entry) ([]apilog.Entry, error) {
			if len(entries) == 4 {
				_, first := s.find(entries[0].ID)
				_, second := s.find(entries[1].ID)
				if !first && second {
					return nil, nil
				}
			}
			return entries, nil
		})},
	{"two entries with one ID are an error", "Append of one ID twice", true, appending(
		func(_ *store, entries []apilog.Entry) ([]apilog.Entry, error) {
			seen := make(map[string]bool)
			for _, e := range entries {
				if seen[e.ID] {
					return nil, errors.New("cannot affect row a second time")
				}
				seen[e.ID] = true
			}
			return entries, nil
		})},
	{"what comes before a bad entry is stored", "Append of an entry that no store can keep", true, func(s *store) {
		s.onAppend = func(ctx context.Context, entries []apilog.Entry) error {
			i := slices.IndexFunc(entries, bad)
			if i < 0 {
				return s.MemoryStore.Append(ctx, entries)
			}
			return errors.Join(s.MemoryStore.Append(ctx, entries[:i]), errBad)
		}
	}},
	{"a bad entry is left out, without an error", "Append of an entry that no store can keep", true, appending(
		func(_ *store, entries []apilog.Entry) ([]apilog.Entry, error) {
			return slices.DeleteFunc(slices.Clone(entries), bad), nil
		})},
	{"a batch in two transactions", "Append whose context ends in the middle", true, func(s *store) {
		s.onAppend = func(ctx context.Context, entries []apilog.Entry) error {
			end, ok := ctx.Deadline()
			if !ok || ctx.Err() != nil || time.Until(end) > time.Second {
				return s.MemoryStore.Append(ctx, entries)
			}
			err := s.MemoryStore.Append(ctx, entries[:len(entries)/2])
			<-ctx.Done()
			return errors.Join(err, ctx.Err())
		}
	}},
	{"the slice is stored later", "Append keeps no slice", true, func(s *store) {
		var mu sync.Mutex
		var kept [][]apilog.Entry
		flush := func() {
			mu.Lock()
			defer mu.Unlock()
			for _, entries := range kept {
				s.MemoryStore.Append(context.Background(), entries)
			}
			kept = nil
		}
		s.onAppend = func(ctx context.Context, entries []apilog.Entry) error {
			mu.Lock()
			defer mu.Unlock()
			if ctx.Err() == nil {
				kept = append(kept, entries)
			}
			return ctx.Err()
		}
		s.onList = func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
			flush()
			return s.MemoryStore.List(ctx, q)
		}
		s.onHistogram = func(ctx context.Context, q apilog.Query, step time.Duration) ([]apilog.Bucket, error) {
			flush()
			return s.MemoryStore.Histogram(ctx, q, step)
		}
		s.onDeleteBefore = func(ctx context.Context, t time.Time) (int64, error) {
			flush()
			return s.MemoryStore.DeleteBefore(ctx, t)
		}
		s.onDeleteOwner = func(ctx context.Context, owner string) (int64, error) {
			flush()
			return s.MemoryStore.DeleteOwner(ctx, owner)
		}
	}},
	{"the slice is sorted", "Append changes no slice", true, appending(
		func(_ *store, entries []apilog.Entry) ([]apilog.Entry, error) {
			slices.SortFunc(entries, func(a, b apilog.Entry) int { return newestFirst(b, a) })
			return entries, nil
		})},
	{"the array beyond the slice is overwritten", "Append changes no slice", true, appending(
		func(_ *store, entries []apilog.Entry) ([]apilog.Entry, error) {
			if len(entries) > 0 && len(entries) < cap(entries) {
				_ = append(entries, entries[0])
			}
			return entries, nil
		})},
}
