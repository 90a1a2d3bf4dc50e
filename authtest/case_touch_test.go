package authtest_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/insigner/auth"
)

// touching breaks what Touch makes of each record.
func touching(f func(r *auth.Record, at time.Time)) func(t *table) {
	return func(t *table) {
		t.onTouch = func(_ context.Context, lastUsed map[string]time.Time) error {
			t.touchRows(lastUsed, f)
			return nil
		}
	}
}

// alsoTouching breaks what Touch does in addition to what is right.
func alsoTouching(f func(r *auth.Record)) func(t *table) {
	return touching(func(r *auth.Record, at time.Time) {
		forward(r, at)
		f(r)
	})
}

func forward(r *auth.Record, at time.Time) {
	if at.After(r.LastUsedAt) {
		r.LastUsedAt = at
	}
}

// touchingAll breaks what Touch does with the whole map.
func touchingAll(f func(t *table, lastUsed map[string]time.Time) error) func(t *table) {
	return func(t *table) {
		t.onTouch = func(_ context.Context, lastUsed map[string]time.Time) error { return f(t, lastUsed) }
	}
}

var touchFaults = []fault{
	{"Touch does nothing", "Touch sets LastUsedAt", false, touching(func(*auth.Record, time.Time) {})},
	{"Touch sets the time of the call", "Touch sets LastUsedAt", false, touching(func(r *auth.Record, _ time.Time) {
		r.LastUsedAt = time.Now()
	})},
	{"Touch stores milliseconds", "Touch sets LastUsedAt", true, touching(func(r *auth.Record, at time.Time) {
		forward(r, at.Truncate(time.Millisecond))
	})},
	{"Touch sets an earlier time", "Touch sets no earlier time", false, touching(func(r *auth.Record, at time.Time) {
		r.LastUsedAt = at
	})},
	{"Touch with a zero time clears LastUsedAt", "Touch sets no earlier time", true, touching(
		func(r *auth.Record, at time.Time) {
			if forward(r, at); at.IsZero() {
				r.LastUsedAt = at
			}
		})},
	{"Touch sets one time for all", "Touch gives each record its own time", false, touchingAll(
		func(t *table, lastUsed map[string]time.Time) error {
			if len(lastUsed) == 0 {
				return nil
			}
			latest := slices.MaxFunc(slices.Collect(maps.Values(lastUsed)), time.Time.Compare)
			t.touchRows(lastUsed, func(r *auth.Record, _ time.Time) { forward(r, latest) })
			return nil
		})},
	{"an earlier time stops Touch", "Touch gives each record its own time", true, touchingAll(
		func(t *table, lastUsed map[string]time.Time) error {
			earlier := false
			t.touchRows(lastUsed, func(r *auth.Record, at time.Time) { earlier = earlier || at.Before(r.LastUsedAt) })
			if earlier {
				return nil
			}
			return t.touch(lastUsed)
		})},
	{"Touch makes a revision", "Touch changes nothing else", false, alsoTouching(
		func(r *auth.Record) { r.Revision++ })},
	{"Touch sets UpdatedAt", "Touch changes nothing else", false, alsoTouching(
		func(r *auth.Record) { r.UpdatedAt = time.Now() })},
	{"Touch clears RotatedFrom", "Touch changes nothing else", true, alsoTouching(
		func(r *auth.Record) { r.RotatedFrom = "" })},
	{"Touch enables a key", "Touch changes nothing else", true, alsoTouching(
		func(r *auth.Record) { r.DisabledAt = time.Time{} })},
	{"Touch of an unknown ID fails", "Touch skips unknown IDs", false, touchingAll(
		func(t *table, lastUsed map[string]time.Time) error {
			for id := range lastUsed {
				if _, err := t.get(id); err != nil {
					return err
				}
			}
			return t.touch(lastUsed)
		})},
	{"Touch inserts an unknown ID", "Touch skips unknown IDs", false, touchingAll(
		func(t *table, lastUsed map[string]time.Time) error {
			for id := range lastUsed {
				if _, err := t.get(id); err != nil {
					t.addAnyway(&auth.Record{ID: id})
				}
			}
			return t.touch(lastUsed)
		})},
	{"Touch brings a deleted record back", "Touch skips unknown IDs", true, remembering(func(t *table, g graves) {
		t.onTouch = func(_ context.Context, lastUsed map[string]time.Time) error {
			for id := range lastUsed {
				if g[id] != nil {
					t.insert(g[id])
				}
			}
			return t.touch(lastUsed)
		}
	})},
	{"Touch of nothing fails", "Touch of nothing", true, touchingAll(
		func(t *table, lastUsed map[string]time.Time) error {
			if len(lastUsed) == 0 {
				return errors.New("syntax error at or near )")
			}
			return t.touch(lastUsed)
		})},
	{"Touch of nothing touches all", "Touch of nothing", true, touchingAll(
		func(t *table, lastUsed map[string]time.Time) error {
			if len(lastUsed) == 0 {
				t.changeRows(func(*auth.Record) bool { return true }, func(r *auth.Record) { r.LastUsedAt = time.Now() })
			}
			return t.touch(lastUsed)
		})},
	{"Touch of more than 999 fails", "Touch of very many", true, touchingAll(
		func(t *table, lastUsed map[string]time.Time) error {
			if len(lastUsed) > 999 {
				return errors.New("too many parameters")
			}
			return t.touch(lastUsed)
		})},
	{"Touch empties the map", "Touch does not keep the map", true, touchingAll(
		func(t *table, lastUsed map[string]time.Time) error {
			defer clear(lastUsed)
			return t.touch(lastUsed)
		})},
	{"Touch is done at the next Lookup", "Touch does not keep the map", true, func(t *table) {
		waiting := make(chan map[string]time.Time, 1000)
		t.onTouch = func(_ context.Context, lastUsed map[string]time.Time) error {
			if len(lastUsed) != 2 {
				return t.touch(lastUsed)
			}
			waiting <- lastUsed
			return nil
		}
		t.onLookup = func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
			select {
			case lastUsed := <-waiting:
				t.touch(lastUsed)
			default:
			}
			return t.lookup(hash)
		}
	}},
}
