package apilogtest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/insigner/auth/apilog"
)

// moment is what a broken store takes between two of its steps, so that calls
// at the same time come between them.
const moment = 10 * time.Millisecond

var concurrencyFaults = []fault{
	{"two Appends at the same time are an error", "Append at the same time", true, func(s *store) {
		var running atomic.Int64
		s.onAppend = func(ctx context.Context, entries []apilog.Entry) error {
			if len(entries) != 10 { // as many as in the case
				return s.MemoryStore.Append(ctx, entries)
			}
			defer running.Add(-1)
			if running.Add(1) > 1 {
				return errors.New("database is locked")
			}
			time.Sleep(moment)
			return s.MemoryStore.Append(ctx, entries)
		}
	}},
	{"Append looks first which IDs are stored", "Append of the same entries at the same time", true, func(s *store) {
		var mu sync.Mutex
		stored := func(entries []apilog.Entry) map[string]bool {
			known := make(map[string]bool)
			for _, e := range s.all() {
				known[e.ID] = true
			}
			return known
		}
		s.onAppend = func(ctx context.Context, entries []apilog.Entry) error {
			if len(entries) < 100 {
				return s.MemoryStore.Append(ctx, entries)
			}
			known := stored(entries)
			missing := slices.DeleteFunc(slices.Clone(entries), func(e apilog.Entry) bool { return known[e.ID] })
			time.Sleep(moment)
			mu.Lock()
			defer mu.Unlock()
			known = stored(entries)
			if slices.ContainsFunc(missing, func(e apilog.Entry) bool { return known[e.ID] }) {
				return errors.New("duplicate key value violates unique constraint")
			}
			return s.MemoryStore.Append(ctx, missing)
		}
	}},
	{"Append stores one half after the other", "Reading while entries are appended", true, func(s *store) {
		s.onAppend = func(ctx context.Context, entries []apilog.Entry) error {
			if len(entries) != 12 {
				return s.MemoryStore.Append(ctx, entries)
			}
			if err := s.MemoryStore.Append(ctx, entries[:6]); err != nil {
				return err
			}
			time.Sleep(moment)
			return s.MemoryStore.Append(ctx, entries[6:])
		}
	}},
	{"DeleteOwner counts first", "Delete while entries are appended", true, func(s *store) {
		var counted atomic.Int32
		s.onDeleteOwner = func(ctx context.Context, owner string) (int64, error) {
			if ctx.Err() != nil || owner != "org_2" {
				return s.MemoryStore.DeleteOwner(ctx, owner)
			}
			n := 0
			for _, e := range s.all() {
				if e.Owner == owner {
					n++
				}
			}
			counted.Add(1)
			for i := 0; counted.Load() < 2 && i < 1000; i++ { // until another call has counted the same
				time.Sleep(time.Millisecond)
			}
			_, err := s.MemoryStore.DeleteOwner(ctx, owner)
			return int64(n), err
		}
	}},
}
