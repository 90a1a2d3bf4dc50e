package authtest_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// noting breaks what an event holds.
func noting(f func(e *keyring.Event)) func(t *table) {
	return func(t *table) {
		t.notes = func(e *keyring.Event) bool {
			f(e)
			return true
		}
	}
}

// noEventOf breaks a store that keeps no event of some changes.
func noEventOf(hidden func(e *keyring.Event) bool) func(t *table) {
	return func(t *table) { t.notes = func(e *keyring.Event) bool { return !hidden(e) } }
}

// querying breaks which events are selected.
func querying(f func(q keyring.EventQuery, e keyring.Event) bool) func(t *table) {
	return func(t *table) {
		t.onEvents = func(_ context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
			if q.Limit < 1 {
				return t.listEvents(q)
			}
			older, err := t.olderThan(q.After, q.Owner)
			list := slices.DeleteFunc(older, func(e keyring.Event) bool { return !f(q, e) })
			return list[:min(q.Limit, len(list))], err
		}
	}
}

// asking is called before an Events that is right, whose query it can change.
func asking(f func(t *table, ctx context.Context, q *keyring.EventQuery) (done bool, err error)) func(t *table) {
	return func(t *table) {
		t.onEvents = func(ctx context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
			if done, err := f(t, ctx, &q); done {
				return nil, err
			}
			return t.listEvents(q)
		}
	}
}

// failedEvent breaks a store that keeps an event of a change that failed.
func failedEvent(t *table, r *auth.Record, err error) error {
	if err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.note(keyring.EventOf(nil, r, r.CreatedBy, r.CreatedAt))
	}
	return err
}

func lendEvents(t *table, l *lender) {
	t.onEvents = func(_ context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
		list, err := t.listEvents(q)
		for i, e := range list {
			if e.After != nil {
				list[i].After, _ = l.lend(e.After, nil)
			}
		}
		return list, err
	}
}

var eventFaults = []fault{
	{"enabling is an update", "Events of each change", true, noting(func(e *keyring.Event) {
		if e.Kind == keyring.EventEnabled {
			e.Kind = keyring.EventUpdated
		}
	})},
	{"a change is by who created the key", "Events of each change", false, noting(func(e *keyring.Event) {
		if e.After != nil {
			e.By = e.After.CreatedBy
		}
	})},
	{"the revision is that before the change", "Events of each change", false, noting(
		func(e *keyring.Event) { e.Revision-- })},
	{"After is as it was before", "Events of each change", false, noting(func(e *keyring.Event) {
		if e.Before != nil {
			e.After = e.Before
		}
	})},
	{"Before is missing", "Events of each change", false, noting(func(e *keyring.Event) { e.Before = nil })},
	{"the time of enabling is missing", "Events of each change", true, noting(func(e *keyring.Event) {
		if e.Kind == keyring.EventEnabled {
			e.Time = time.Time{}
		}
	})},
	{"a new key has no event", "Events of each change", false, noEventOf(
		func(e *keyring.Event) bool { return e.Before == nil })},
	{"an event keeps milliseconds", "Events keep every field", true, noting(func(e *keyring.Event) {
		if e.After != nil {
			e.After.ExpiresAt = e.After.ExpiresAt.Truncate(time.Millisecond)
		}
	})},
	{"an event has no microseconds of before", "Events keep every field", true, noting(func(e *keyring.Event) {
		if e.Before != nil {
			e.Before.DisabledAt = e.Before.DisabledAt.Truncate(time.Second)
		}
	})},
	{"an event leaves out metadata without a value", "Events keep every field", true, noting(func(e *keyring.Event) {
		if e.After != nil {
			maps.DeleteFunc(e.After.Metadata, func(_, value string) bool { return value == "" })
		}
	})},
	{"an event trims text", "Events keep every field", true, noting(func(e *keyring.Event) {
		if e.After != nil {
			e.After.Name = strings.TrimSpace(e.After.Name)
		}
	})},
	{"a successor has no event", "Events of a rotation", false, noEventOf(func(e *keyring.Event) bool {
		return e.Before == nil && e.After.RotatedFrom != ""
	})},
	{"a rotation makes a third event", "Events of a rotation", true, func(t *table) {
		t.notes = func(e *keyring.Event) bool {
			if e.Kind == keyring.EventRotated {
				pair := *e
				pair.ID, pair.KeyID = e.ID+"+", ""
				t.events = append(t.events, pair)
			}
			return true
		}
	}},
	{"a deletion is by nobody", "Events of a deleted key", true, noting(func(e *keyring.Event) {
		if e.After == nil {
			e.By = "nobody"
		}
	})},
	{"a deletion has a revision of its own", "Events of a deleted key", true, noting(func(e *keyring.Event) {
		if e.After == nil {
			e.Revision++
		}
	})},
	{"the events of a deleted key are deleted", "Events of a deleted key", true, func(t *table) {
		t.onDelete = func(_ context.Context, id, by string) error {
			t.mu.Lock()
			t.events = slices.DeleteFunc(t.events, func(e keyring.Event) bool { return e.KeyID == id })
			t.mu.Unlock()
			return t.delete(id, by)
		}
	}},
	{"Events is oldest first", "Events newest first", false, func(t *table) {
		t.onEvents = func(_ context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
			list, err := t.listEvents(q)
			slices.Reverse(list)
			return list, err
		}
	}},
	{"events are ordered by the text of the revision", "Events newest first", true, func(t *table) {
		t.onEvents = func(_ context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
			list, err := t.listEvents(q)
			if slices.ContainsFunc(list, func(e keyring.Event) bool { return e.Revision > 9 }) {
				slices.SortStableFunc(list, func(a, b keyring.Event) int {
					return cmp.Compare(fmt.Sprint(b.Revision), fmt.Sprint(a.Revision))
				})
			}
			return list, err
		}
	}},
	{"events have no ID", "Events page by page", false, func(t *table) {
		t.onEvents = func(_ context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
			list, err := t.listEvents(q)
			for i := range list {
				list[i].ID = ""
			}
			return list, err
		}
	}},
	{"the events of a transaction have one ID", "Events page by page", false, noting(func(e *keyring.Event) {
		if e.Before == nil && e.After.RotatedFrom != "" {
			e.ID = "rotation of " + e.After.RotatedFrom
		}
		if e.Kind == keyring.EventRotated {
			e.ID = "rotation of " + e.KeyID
		}
	})},
	{"a page of five events has four", "Events page by page", true, asking(
		func(_ *table, _ context.Context, q *keyring.EventQuery) (bool, error) {
			if q.Limit == 5 {
				q.Limit = 4
			}
			return false, nil
		})},
	{"After includes its event", "Events page by page", false, func(t *table) {
		t.onEvents = func(_ context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
			list, err := t.listEvents(q)
			if older, _ := t.olderThan("", ""); q.After != "" {
				i := slices.IndexFunc(older, func(e keyring.Event) bool { return e.ID == q.After })
				list = append(older[i:i+1:i+1], list...)
			}
			return list[:min(q.Limit, len(list))], err
		}
	}},
	{"After belongs to the key", "Events after an event that q does not select", true, asking(
		func(t *table, _ context.Context, q *keyring.EventQuery) (bool, error) {
			older, _ := t.olderThan("", "")
			i := slices.IndexFunc(older, func(e keyring.Event) bool { return e.ID == q.After })
			return i >= 0 && q.KeyID != "" && older[i].KeyID != q.KeyID, auth.ErrNotFound
		})},
	{"After may be another owner's", "Events after an event that q does not select", true, func(t *table) {
		t.onEvents = func(_ context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
			if q.After == "" || q.Limit < 1 {
				return t.listEvents(q)
			}
			older, err := t.olderThan(q.After, "")
			list := slices.DeleteFunc(older, func(e keyring.Event) bool { return !selects(q, e) })
			return list[:min(q.Limit, len(list))], err
		}
	}},
	{"After an unknown event gives no events", "Events after an unknown event", true, asking(
		func(t *table, _ context.Context, q *keyring.EventQuery) (bool, error) {
			older, _ := t.olderThan("", "")
			return q.After != "" && !slices.ContainsFunc(older, func(e keyring.Event) bool { return e.ID == q.After }), nil
		})},
	{"After an unknown event gives all events", "Events after an unknown event", true, asking(
		func(t *table, _ context.Context, q *keyring.EventQuery) (bool, error) {
			older, _ := t.olderThan("", "")
			if !slices.ContainsFunc(older, func(e keyring.Event) bool { return e.ID == q.After }) {
				q.After = ""
			}
			return false, nil
		})},
	{"an event ID that is not a number is an error of its own", "Events after an unknown event", true, asking(
		func(t *table, _ context.Context, q *keyring.EventQuery) (bool, error) {
			return q.After == "no-such-event", errors.New("invalid input syntax for type bigint")
		})},
	{"By is ignored", "Events by key, owner, actor and kind", true, asking(
		func(_ *table, _ context.Context, q *keyring.EventQuery) (bool, error) {
			q.By = ""
			return false, nil
		})},
	{"Kind is ignored with an owner", "Events by key, owner, actor and kind", true, asking(
		func(_ *table, _ context.Context, q *keyring.EventQuery) (bool, error) {
			if q.Owner != "" {
				q.Kind = ""
			}
			return false, nil
		})},
	{"To includes itself", "Events by time", true, timing(func(q keyring.EventQuery, at time.Time) bool {
		return !at.Before(q.From) && (q.To.IsZero() || !at.After(q.To))
	})},
	{"From excludes itself", "Events by time", true, timing(func(q keyring.EventQuery, at time.Time) bool {
		return (q.From.IsZero() || at.After(q.From)) && (q.To.IsZero() || at.Before(q.To))
	})},
	{"times are compared without their zone", "Events by time", true, timing(
		func(q keyring.EventQuery, at time.Time) bool {
			return (q.From.IsZero() || !at.Before(wallClock(q.From))) && (q.To.IsZero() || at.Before(wallClock(q.To)))
		})},
	{"an Insert that failed has an event", "Events of changes that failed", false, func(t *table) {
		t.onInsert = func(_ context.Context, r *auth.Record) error { return failedEvent(t, r, t.insert(r)) }
	}},
	{"an Update that failed has an event", "Events of changes that failed", false, func(t *table) {
		t.onUpdate = func(_ context.Context, r, successor *auth.Record) error {
			return failedEvent(t, r, t.update(r, successor))
		}
	}},
	{"a Delete that failed has an event", "Events of changes that failed", true, func(t *table) {
		t.onDelete = func(_ context.Context, id, by string) error {
			return failedEvent(t, &auth.Record{ID: id}, t.delete(id, by))
		}
	}},
	{"Touch makes an event", "Events of Touch", true, func(t *table) {
		t.onTouch = func(_ context.Context, lastUsed map[string]time.Time) error {
			t.touch(lastUsed)
			t.mu.Lock()
			defer t.mu.Unlock()
			for id := range lastUsed {
				t.note(keyring.Event{KeyID: id, Kind: keyring.EventUpdated})
			}
			return nil
		}
	}},
	{"a limit below 1 gives no events", "Events with a limit below 1", true, asking(
		func(_ *table, _ context.Context, q *keyring.EventQuery) (bool, error) { return q.Limit < 1, nil })},
	{"a limit below 1 is a limit of 100", "Events with a limit below 1", true, asking(
		func(_ *table, _ context.Context, q *keyring.EventQuery) (bool, error) {
			if q.Limit < 1 {
				q.Limit = 100
			}
			return false, nil
		})},
	{"events that cannot be read are none", "Events with a context that is done", true, asking(
		func(_ *table, ctx context.Context, q *keyring.EventQuery) (bool, error) { return ctx.Err() != nil, nil })},
	{"events that cannot be read are not supported", "Events with a context that is done", true, asking(
		func(_ *table, ctx context.Context, q *keyring.EventQuery) (bool, error) {
			return ctx.Err() != nil, errors.ErrUnsupported
		})},
	{"an event is written after the transaction", "Events in the transaction of the change", true, halfway(
		func(t *table, i int, r, successor *auth.Record) {
			t.put(i, r)
			t.add(successor)
			t.events = t.events[:len(t.events)-2]
		})},
	{"an event is written before the transaction", "Events in the transaction of the change", true, halfway(
		func(t *table, i int, r, successor *auth.Record) {
			t.note(keyring.EventOf(nil, successor, successor.CreatedBy, successor.CreatedAt))
		})},
	{"events at the same time overwrite each other", "Events of changes at the same time", true, func(t *table) {
		t.onUpdate = func(_ context.Context, r, successor *auth.Record) error {
			if successor != nil {
				return t.update(r, successor)
			}
			before, _ := t.olderThan("", "")
			slices.Reverse(before)
			time.Sleep(moment)
			err := t.update(r, nil)
			if err != nil {
				return err
			}
			t.mu.Lock()
			defer t.mu.Unlock()
			t.events = append(before, t.events[len(t.events)-1])
			return nil
		}
	}},
	{"a deletion writes to events that were returned", "What Events returned stays", true, lending(lendEvents, setName)},
	{"a store that keeps no events says so at first only", "Events if the store keeps none", true, asking(
		func(_ *table, _ context.Context, q *keyring.EventQuery) (bool, error) {
			if q.Limit == 1 && q.After == "" {
				return true, errors.ErrUnsupported
			}
			return true, nil
		})},
}

// timing breaks how From and To are compared with the time of an event.
func timing(within func(q keyring.EventQuery, at time.Time) bool) func(t *table) {
	return querying(func(q keyring.EventQuery, e keyring.Event) bool {
		rest := q
		rest.From, rest.To = time.Time{}, time.Time{}
		return selects(rest, e) && within(q, e.Time)
	})
}
