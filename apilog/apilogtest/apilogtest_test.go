package apilogtest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/apilog/apilogtest"
)

func TestStoreAcceptsMemoryStore(t *testing.T) {
	apilogtest.TestStore(t, func(*testing.T) apilog.Store { return apilog.NewMemoryStore(4_200) })
}

// A fault is something wrong with a store, and the case of TestStore that is
// there to find it.
type fault struct {
	what  string
	found string // the name of the case
	only  bool   // no other case finds it
	apply func(s *store)
}

var faults = slices.Concat(appendFaults, fieldFaults, listFaults, afterFaults, filterFaults, histogramFaults,
	deleteFaults, sharingFaults, contextFaults, concurrencyFaults)

// findings returns what a case finds wrong with a store to which apply was
// applied.
func findings(t *testing.T, c apilogtest.Case, apply func(s *store)) error {
	s := newStore()
	apply(s)
	return c.Run(t.Context(), s)
}

func TestStoreRejectsBrokenStores(t *testing.T) {
	cases := apilogtest.Cases()
	for _, f := range faults {
		t.Run(f.what, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(cases, func(c apilogtest.Case) bool { return c.Name == f.found })
			if i < 0 {
				t.Fatalf("there is no case %q", f.found)
			}
			err := findings(t, cases[i], f.apply)
			if err == nil {
				t.Fatalf("the case %q does not find it", f.found)
			}
			t.Logf("%v\nthe rule: %s", err, cases[i].Rule)
			if !f.only || raceEnabled {
				return
			}
			for _, c := range slices.Delete(slices.Clone(cases), i, i+1) {
				if err := findings(t, c, f.apply); err != nil {
					t.Errorf("the case %q finds it too: %v", c.Name, err)
				}
			}
		})
	}
}

// No case could be left out: each finds a fault that no other one finds.
func TestStoreHasNoUselessCase(t *testing.T) {
	for _, c := range apilogtest.Cases() {
		if !slices.ContainsFunc(faults, func(f fault) bool { return f.only && f.found == c.Name }) {
			t.Errorf("there is no fault that only the case %q finds", c.Name)
		}
	}
}

func TestStoreNamesEachRule(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range apilogtest.Cases() {
		if seen[c.Name] {
			t.Errorf("there are two cases %q", c.Name)
		}
		seen[c.Name] = true
		if strings.TrimSpace(c.Rule) == "" {
			t.Errorf("the case %q has no rule", c.Name)
		}
	}
}

// peculiarities are what distinguishes a right store from a MemoryStore.
// TestStore must accept each of them.
var peculiarities = []struct {
	what  string
	apply func(s *store)
}{
	{"nothing", func(*store) {}},
	{"each call takes its time", func(s *store) {
		wait := func(ctx context.Context) {
			select {
			case <-time.After(moment / 10):
			case <-ctx.Done():
			}
		}
		s.onAppend = func(ctx context.Context, entries []apilog.Entry) error {
			wait(ctx)
			return s.MemoryStore.Append(ctx, entries)
		}
		s.onList = func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
			wait(ctx)
			return s.MemoryStore.List(ctx, q)
		}
		s.onHistogram = func(ctx context.Context, q apilog.Query, step time.Duration) ([]apilog.Bucket, error) {
			wait(ctx)
			return s.MemoryStore.Histogram(ctx, q, step)
		}
		s.onDeleteBefore = func(ctx context.Context, t time.Time) (int64, error) {
			wait(ctx)
			return s.MemoryStore.DeleteBefore(ctx, t)
		}
		s.onDeleteOwner = func(ctx context.Context, owner string) (int64, error) {
			wait(ctx)
			return s.MemoryStore.DeleteOwner(ctx, owner)
		}
	}},
	{"texts and slices are copies", func(s *store) {
		s.onList = func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
			page, err := s.MemoryStore.List(ctx, q)
			copies := make([]apilog.Entry, 0, len(page)+3)
			for _, e := range page {
				e.ID, e.Owner, e.Path = strings.Clone(e.ID), strings.Clone(e.Owner), strings.Clone(e.Path)
				e.Time = time.UnixMicro(e.Time.UnixMicro()).UTC()
				copies = append(copies, e)
			}
			return copies, err
		}
	}},
	{"a bad entry is an error", appending(func(_ *store, entries []apilog.Entry) ([]apilog.Entry, error) {
		if slices.ContainsFunc(entries, bad) {
			return nil, errBad
		}
		return entries, nil
	})},
	{"a bad entry is made good", appending(func(_ *store, entries []apilog.Entry) ([]apilog.Entry, error) {
		entries = slices.Clone(entries)
		for i := range entries {
			if bad(entries[i]) {
				entries[i].Path = "/"
			}
		}
		return entries, nil
	})},
	{"a connection is lost after each Append whose context ends", func(s *store) {
		s.onAppend = func(ctx context.Context, entries []apilog.Entry) error {
			if end, ok := ctx.Deadline(); ctx.Err() != nil || !ok || time.Until(end) > time.Second {
				return s.MemoryStore.Append(ctx, entries)
			}
			s.MemoryStore.Append(context.WithoutCancel(ctx), entries)
			return errors.New("connection reset by peer")
		}
	}},
	{"DeleteBefore returns about how many", func(s *store) {
		s.onDeleteBefore = func(ctx context.Context, t time.Time) (int64, error) {
			n, err := s.MemoryStore.DeleteBefore(ctx, t)
			return n / 100, err
		}
	}},
	{"the buckets are in the zone of From", func(s *store) {
		s.onHistogram = func(ctx context.Context, q apilog.Query, step time.Duration) ([]apilog.Bucket, error) {
			buckets, err := s.MemoryStore.Histogram(ctx, q, step)
			for i := range buckets {
				buckets[i].Start = buckets[i].Start.In(q.From.Location())
			}
			return buckets, err
		}
	}},
}

func TestStoreAcceptsPeculiarStores(t *testing.T) {
	for _, p := range peculiarities {
		t.Run(p.what, func(t *testing.T) {
			t.Parallel()
			for _, c := range apilogtest.Cases() {
				if err := findings(t, c, p.apply); err != nil {
					t.Errorf("the case %q: %v", c.Name, err)
				}
			}
		})
	}
}
