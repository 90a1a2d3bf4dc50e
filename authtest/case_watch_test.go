package authtest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/insigner/auth"
)

// unreported breaks which changes are reported.
func unreported(hidden func(before, after *auth.Record) bool) func(t *table) {
	return func(t *table) {
		t.reports = func(before, after *auth.Record) bool { return !hidden(before, after) }
	}
}

// unreportedUpdate breaks which updates are reported: those that only do what
// same says, since all else is as it was, are not.
func unreportedUpdate(undo func(before, after *auth.Record)) func(t *table) {
	return unreported(func(before, after *auth.Record) bool {
		if before == nil || after == nil {
			return false
		}
		rest := after.Clone()
		undo(before, rest)
		return rest.Name == before.Name && slices.Equal(rest.Scopes, before.Scopes) && rest.RotatedTo == before.RotatedTo &&
			rest.ExpiresAt.Equal(before.ExpiresAt) && rest.DisabledAt.Equal(before.DisabledAt) &&
			rest.RevokedAt.Equal(before.RevokedAt)
	})
}

// watching breaks Watch. It gets the Watch that is right.
func watching(f func(ctx context.Context, notify func(auth.Change), right watchFunc) error) func(t *table) {
	return func(t *table) {
		t.onWatch = func(ctx context.Context, notify func(auth.Change)) error { return f(ctx, notify, t.watch) }
	}
}

type watchFunc func(ctx context.Context, notify func(auth.Change)) error

func wait(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

var watchFaults = []fault{
	{"Watch says nothing", "Watch starts with WatchStarted", false, watching(
		func(ctx context.Context, _ func(auth.Change), _ watchFunc) error { return wait(ctx) })},
	{"Watch returns at once", "Watch starts with WatchStarted", false, watching(
		func(context.Context, func(auth.Change), watchFunc) error { return errors.New("not today") })},
	{"Watch starts with a change", "Watch starts with WatchStarted", true, watching(
		func(ctx context.Context, notify func(auth.Change), right watchFunc) error {
			notify(auth.Change{Kind: auth.RecordChanged})
			return right(ctx, notify)
		})},
	{"Watch starts with WatchLost", "Watch starts with WatchStarted", true, watching(
		func(ctx context.Context, notify func(auth.Change), right watchFunc) error {
			notify(auth.Change{Kind: auth.WatchLost})
			return right(ctx, notify)
		})},
	{"Watch reports an unknown kind", "Watch starts with WatchStarted", false, watching(
		func(ctx context.Context, notify func(auth.Change), right watchFunc) error {
			defer notify(auth.Change{Kind: 7})
			return right(ctx, notify)
		})},
	{"Watch starts an hour after its context is done", "Watch with a context that is done", true, watching(
		func(ctx context.Context, notify func(auth.Change), right watchFunc) error {
			if ctx.Err() != nil {
				time.Sleep(time.Hour)
			}
			return right(ctx, notify)
		})},
	{"Watch returns nil", "Watch with a context that is done", false, watching(
		func(ctx context.Context, notify func(auth.Change), right watchFunc) error {
			right(ctx, notify)
			return nil
		})},
	{"Watch does not return", "Watch several times", false, watching(
		func(ctx context.Context, notify func(auth.Change), right watchFunc) error {
			right(ctx, notify)
			time.Sleep(time.Hour)
			return ctx.Err()
		})},
	{"Watch can be called four times at most", "Watch several times", true, func(t *table) {
		var calls atomic.Int64
		t.onWatch = func(ctx context.Context, notify func(auth.Change)) error {
			defer calls.Add(-1)
			if calls.Add(1) > 4 {
				return errors.New("too many connections")
			}
			return t.watch(ctx, notify)
		}
	}},
	{"Watch reports nothing", "Watch reports Insert", false, unreported(func(_, _ *auth.Record) bool { return true })},
	{"Watch reports a moment later", "Watch reports Insert", false, watching(
		func(ctx context.Context, notify func(auth.Change), right watchFunc) error {
			var group sync.WaitGroup
			defer group.Wait()
			return right(ctx, func(c auth.Change) {
				if c.Kind == auth.WatchStarted {
					notify(c)
					return
				}
				group.Go(func() {
					time.Sleep(moment)
					notify(c)
				})
			})
		})},
	{"Watch is lost at each change", "Watch reports Insert", false, watching(
		func(ctx context.Context, notify func(auth.Change), right watchFunc) error {
			return right(ctx, func(c auth.Change) {
				if c.Kind == auth.RecordChanged {
					notify(auth.Change{Kind: auth.WatchLost})
					c.Kind = auth.WatchStarted
				}
				notify(c)
			})
		})},
	{"Watch is lost and does not start again", "Watch reports Insert", false, watching(
		func(ctx context.Context, notify func(auth.Change), right watchFunc) error {
			return right(ctx, func(c auth.Change) {
				notify(c)
				notify(auth.Change{Kind: auth.WatchLost})
			})
		})},
	{"Watch does not report an insertion", "Watch reports Insert", true, unreported(
		func(before, after *auth.Record) bool {
			return before == nil && after.RotatedFrom == ""
		})},
	{"Watch does not report a deletion", "Watch reports Delete", true, unreported(func(_, after *auth.Record) bool {
		return after == nil
	})},
	{"Watch does not report a revocation", "Watch reports a revocation", true, unreportedUpdate(
		func(before, after *auth.Record) {
			after.RevokedAt = before.RevokedAt
		})},
	{"Watch does not report that a key is disabled", "Watch reports that a key is disabled", true, unreportedUpdate(
		func(before, after *auth.Record) {
			if !after.DisabledAt.IsZero() {
				after.DisabledAt = before.DisabledAt
			}
		})},
	{"Watch does not report that a key is enabled", "Watch reports that a key is enabled", true, unreportedUpdate(
		func(before, after *auth.Record) {
			if after.DisabledAt.IsZero() {
				after.DisabledAt = before.DisabledAt
			}
		})},
	{"Watch does not report an expiry", "Watch reports an expiry", true, unreportedUpdate(
		func(before, after *auth.Record) {
			after.ExpiresAt = before.ExpiresAt
		})},
	{"Watch does not report scopes", "Watch reports scopes", true, unreportedUpdate(func(before, after *auth.Record) {
		after.Scopes = before.Scopes
	})},
	{"Watch reports only the old key of a rotation", "Watch reports both records of a rotation", true, unreported(
		func(before, after *auth.Record) bool { return before == nil && after.RotatedFrom != "" })},
	{"Watch reports only the new key of a rotation", "Watch reports both records of a rotation", true, unreported(
		func(before, after *auth.Record) bool { return before != nil && after != nil && after.RotatedTo != "" })},
	{"Watch reports one of many changes", "Watch reports each of many changes", true, func(t *table) {
		var busy atomic.Int64
		t.reports = func(_, _ *auth.Record) bool {
			defer busy.Add(-1)
			n := busy.Add(1)
			time.Sleep(moment)
			return n == 1
		}
	}},
	{"Watch reports before the change", "Watch reports after the change", true, func(t *table) {
		t.reports = func(before, after *auth.Record) bool { return before == nil || after == nil }
		t.onUpdate = func(_ context.Context, r, successor *auth.Record) error {
			t.tell(auth.Change{Kind: auth.RecordChanged, Hash: r.Hash})
			time.Sleep(moment) // those who look now find the record as it was
			return t.update(r, successor)
		}
	}},
	{"Watch reports Touch", "Watch does not report Touch", true, func(t *table) {
		t.onTouch = func(_ context.Context, lastUsed map[string]time.Time) error {
			t.touch(lastUsed)
			for id := range lastUsed {
				if r, err := t.get(id); err == nil {
					t.report(r, r)
				}
			}
			return nil
		}
	}},
	{"the end of a Watch ends those that came later", "Watch reports to each call", true, func(t *table) {
		t.onWatch = func(ctx context.Context, notify func(auth.Change)) error {
			err := t.watch(ctx, notify)
			t.mu.Lock()
			defer t.mu.Unlock()
			if len(t.watchers) == 2 {
				t.watchers = t.watchers[:1]
			}
			return err
		}
	}},
	{"only the latest Watch gets reports", "Watch reports to each call", false, func(t *table) {
		t.reports = func(_, _ *auth.Record) bool {
			t.mu.Lock()
			defer t.mu.Unlock()
			if n := len(t.watchers); n > 1 {
				t.watchers = t.watchers[n-1:]
			}
			return true
		}
	}},
}
