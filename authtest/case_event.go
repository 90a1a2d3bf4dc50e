package authtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

const (
	eventRule    = "A Store writes an event in the transaction of the change. keyring.EventOf says what it holds."
	byRule       = "By is UpdatedBy of an updated record, CreatedBy of an inserted one. The event of a deletion names by."
	newestEvents = "Events returns the changes that q selects, newest first."
	eventPages   = "Events returns at most q.Limit changes. A page shorter than q.Limit is the last one."
	eventFilters = "EventQuery: a Store must obey all of it."
	eventAfter   = "After is the ID of an event; those that are older follow."
	eventTimes   = "From ≤ Time < To."
)

// events returns what Events returns. It reports an error. If q.Limit is 0, the
// page is of any length.
func (p *probe) events(q keyring.EventQuery) []keyring.Event {
	if q.Limit == 0 {
		q.Limit = 10000
	}
	events, err := p.keys.Events(p.ctx, q)
	if !p.ok(describeEvents(q), err) {
		return nil
	}
	if len(events) > q.Limit {
		p.errorf("%s: got %d events, want at most %d", describeEvents(q), len(events), q.Limit)
	}
	return events
}

// describeEvents returns the call of Events with the fields of q that are set.
func describeEvents(q keyring.EventQuery) string {
	text := fmt.Sprintf("Events {KeyID: %q, Owner: %q, By: %q, Kind: %q, After: %q, Limit: %d", q.KeyID, q.Owner, q.By,
		q.Kind, q.After, q.Limit)
	if !q.From.IsZero() {
		text += ", From: " + brief(q.From)
	}
	if !q.To.IsZero() {
		text += ", To: " + brief(q.To)
	}
	return text + "}"
}

// eventDifferences says in which fields got is not want, or returns nil. It
// ignores the ID and the time, which are the store's, and the Hash and the
// LastUsedAt of both records, which an event need not keep.
func eventDifferences(got, want keyring.Event) error {
	var errs []error
	for _, f := range []struct{ field, got, want string }{
		{"Kind", string(got.Kind), string(want.Kind)},
		{"KeyID", got.KeyID, want.KeyID},
		{"Owner", got.Owner, want.Owner},
		{"By", got.By, want.By},
		{"Revision", brief(got.Revision), brief(want.Revision)},
	} {
		if f.got != f.want {
			errs = append(errs, fmt.Errorf("%s is %q, want %q", f.field, f.got, f.want))
		}
	}
	for _, f := range []struct {
		field     string
		got, want *auth.Record
	}{
		{"Before", got.Before, want.Before},
		{"After", got.After, want.After},
	} {
		if f.got == nil || f.want == nil {
			if f.got != f.want {
				errs = append(errs, fmt.Errorf("%s is nil: %v, want %v", f.field, f.got == nil, f.want == nil))
			}
			continue
		}
		want := used(f.want, f.got.LastUsedAt)
		want.Hash = f.got.Hash
		if err := differences(f.got, want); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.field, err))
		}
	}
	return errors.Join(errs...)
}

// sameEvents reports that got is not want, newest first.
func (p *probe) sameEvents(what string, got []keyring.Event, want ...keyring.Event) {
	if len(got) != len(want) {
		p.errorf("%s: got %d events %v, want %d events %v", what, len(got), got, len(want), want)
		return
	}
	for i := range got {
		p.ok(fmt.Sprintf("%s: event %d of %d (%v)", what, i+1, len(got), want[i]), eventDifferences(got[i], want[i]))
	}
}

func eventIDs(events []keyring.Event) []string {
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	return ids
}

// created, updated and deleted return the event of a change.
func created(r *auth.Record) keyring.Event {
	return keyring.EventOf(nil, r, r.CreatedBy, r.CreatedAt)
}

func updated(before, after *auth.Record) keyring.Event {
	return keyring.EventOf(before, after, after.UpdatedBy, after.UpdatedAt)
}

func deleted(r *auth.Record) keyring.Event {
	return keyring.EventOf(r, nil, deleter, time.Time{})
}

// history makes changes of several keys by several actors.
func (p *probe) history() {
	list := p.records(6)
	for i, r := range list {
		r.Owner = p.owner(i & 1)
	}
	p.insert(list...)
	for i, r := range list {
		list[i] = changed(r, func(r *auth.Record) { r.Name, r.UpdatedBy = "another name", fmt.Sprint("actor_", i%3) })
		p.update(list[i])
	}
	for i, r := range list[:3] {
		old, successor := p.rotated(r, 10+i)
		successor.Owner = old.Owner
		p.rotate(old, successor)
		p.update(revoked(old))
	}
	p.delete(list[5].ID)
}

var eventCases = []storeCase{
	{name: "Events of each change", rule: eventRule + " " + byRule, check: func(p *probe) {
		r := p.record(1)
		p.insert(r)
		want := []keyring.Event{created(r)}
		at := epoch.Add(time.Hour)
		for i, change := range []func(r *auth.Record){
			func(r *auth.Record) { r.Name = "another name" },
			func(r *auth.Record) { r.Scopes, r.Metadata = auth.Scopes{"audit"}, map[string]string{"number": "0"} },
			func(r *auth.Record) { r.ExpiresAt = at },
			func(r *auth.Record) { r.DisabledAt = at },
			func(r *auth.Record) { r.DisabledAt = time.Time{} },
			func(r *auth.Record) { r.RevokedAt = at },
		} {
			after := changed(r, change)
			after.UpdatedBy = fmt.Sprint("actor_", i)
			p.update(after)
			want = append(want, updated(r, after))
			r = after
		}
		slices.Reverse(want)
		got := p.events(keyring.EventQuery{})
		p.sameEvents("Events", got, want...)
		for _, e := range got {
			if e.Time.IsZero() {
				p.errorf("Events: the time of %v is zero", e)
			}
		}
	}},
	{name: "Events keep every field", rule: eventRule + " It holds the record as it was before and after.",
		check: func(p *probe) {
			for i, change := range slices.Concat(oddTimes, oddScopes, oddMetadata, oddTexts) {
				r := p.record(i)
				p.insert(r)
				p.update(changed(r, func(r *auth.Record) {
					r.Metadata = nil // so that each change is an event of some kind
					change(r)
				}))
				stored, err := p.keys.Get(p.ctx, r.ID)
				if !p.ok("Get", errOrNil(stored, err)) {
					continue
				}
				next := revoked(stored)
				p.update(next)
				p.sameEvents("Events", p.events(keyring.EventQuery{KeyID: r.ID}), updated(stored, next), updated(r, stored),
					created(r))
			}
		}},
	{name: "Events of a rotation", rule: eventRule + " A rotation makes two: of the old key and of its successor.",
		check: func(p *probe) {
			r := p.record(1)
			p.insert(r)
			old, successor := p.rotated(r, 2)
			p.rotate(old, successor)
			p.sameEvents("Events of the old key", p.events(keyring.EventQuery{KeyID: r.ID}), updated(r, old), created(r))
			p.sameEvents("Events of its successor", p.events(keyring.EventQuery{KeyID: successor.ID}), created(successor))
			if got := len(p.events(keyring.EventQuery{})); got != 3 {
				p.errorf("Events: got %d, want 3", got)
			}
		}},
	{name: "Events of a deleted key", rule: "Delete: its events stay. " + byRule, check: func(p *probe) {
		r := p.record(1)
		p.insert(r)
		disabled := changed(r, func(r *auth.Record) { r.DisabledAt = epoch })
		p.update(disabled)
		p.delete(r.ID)
		want := []keyring.Event{deleted(disabled), updated(r, disabled), created(r)}
		p.sameEvents("Events", p.events(keyring.EventQuery{KeyID: r.ID}), want...)
		again := with(p.record(1), func(r *auth.Record) { r.CreatedBy = "another actor" })
		p.insert(again)
		want = append([]keyring.Event{created(again)}, want...)
		p.sameEvents("Events after another Insert", p.events(keyring.EventQuery{KeyID: r.ID}), want...)
	}},
	{name: "Events newest first", rule: newestEvents, check: func(p *probe) {
		r := p.record(0)
		p.insert(r)
		var want []int64
		for i := range 12 {
			r = renamed(r, fmt.Sprint("change ", i))
			p.update(r)
		}
		for revision := r.Revision; revision > 0; revision-- {
			want = append(want, revision)
		}
		var got []int64
		for _, e := range p.events(keyring.EventQuery{}) {
			got = append(got, e.Revision)
		}
		if !slices.Equal(got, want) {
			p.errorf("Events: got those of the revisions %d, want %d", got, want)
		}
	}},
	{name: "Events page by page", rule: eventPages + " " + eventAfter, check: func(p *probe) {
		p.history()
		for _, q := range []keyring.EventQuery{{}, {Owner: p.owner(1)}, {Kind: keyring.EventUpdated}} {
			want := eventIDs(p.events(q))
			if len(want) < 4 {
				p.errorf("%s: got %d events, want at least 4", describeEvents(q), len(want))
				continue
			}
			if slices.Contains(want, "") {
				p.errorf("%s: an event has no ID", describeEvents(q))
				continue
			}
			if sorted := slices.Sorted(slices.Values(want)); len(slices.Compact(sorted)) != len(want) {
				p.errorf("%s: two of %d events have one ID: %q", describeEvents(q), len(want), want)
				continue
			}
			for _, limit := range []int{1, 2, 3, 5, len(want), len(want) + 1} {
				q := q
				q.Limit = limit
				var got []string
				for len(got) <= len(want) {
					page := eventIDs(p.events(q))
					got = append(got, page...)
					if len(page) < limit {
						break
					}
					q.After = page[len(page)-1]
				}
				q.After = ""
				if !slices.Equal(got, want) {
					p.errorf("%s, page by page: got %d events %q, want %d %q", describeEvents(q), len(got), got, len(want), want)
				}
			}
		}
	}},
	{name: "Events after an event that q does not select", rule: eventAfter + " If it is not the ID of an event of " +
		"Owner, the error matches auth.ErrNotFound.", check: func(p *probe) {
		p.history()
		all := p.events(keyring.EventQuery{})
		for i, e := range all {
			for _, owner := range []string{"", p.owner(0), p.owner(1)} {
				q := keyring.EventQuery{Owner: owner, KeyID: p.id(0), After: e.ID}
				if owner != "" && owner != e.Owner {
					q.KeyID = ""
					_, err := p.keys.Events(p.ctx, keyring.EventQuery{Owner: owner, After: e.ID, Limit: 1})
					p.fails(describeEvents(q)+", an event of another owner", err, auth.ErrNotFound)
					continue
				}
				var want []string
				for _, older := range all[i+1:] {
					if older.KeyID == q.KeyID && (owner == "" || older.Owner == owner) {
						want = append(want, older.ID)
					}
				}
				if got := eventIDs(p.events(q)); !slices.Equal(got, want) {
					p.errorf("%s: got %q, want %q", describeEvents(q), got, want)
				}
			}
		}
	}},
	{name: "Events after an unknown event", rule: eventAfter + " If it is not the ID of an event, the error matches " +
		"auth.ErrNotFound.", check: func(p *probe) {
		p.insert(p.record(1), p.record(2))
		known := eventIDs(p.events(keyring.EventQuery{Limit: 10}))
		if len(known) != 2 {
			p.errorf("Events: got %d, want 2", len(known))
			return
		}
		for _, id := range []string{"no-such-event", known[0] + "x", "-1", "' OR ''='", fmt.Sprint(int64(math.MaxInt64)), p.id(1)} {
			if slices.Contains(known, id) { // the ID of a key may be that of an event
				continue
			}
			for _, owner := range []string{"", p.owner(0)} {
				q := keyring.EventQuery{Owner: owner, After: id, Limit: 10}
				_, err := p.keys.Events(p.ctx, q)
				p.fails(describeEvents(q), err, auth.ErrNotFound)
			}
		}
	}},
	{name: "Events by key, owner, actor and kind", rule: eventFilters, check: func(p *probe) {
		p.history()
		all := p.events(keyring.EventQuery{})
		keys := []string{"", p.id(0), p.id(1), p.id(5), p.id(10), p.id(100)}
		owners := []string{"", p.owner(0), p.owner(1), "nobody"}
		actors := []string{"", creator, changer, deleter, "actor_1", "Actor_1", "actor"}
		kinds := []keyring.EventKind{"", keyring.EventCreated, keyring.EventUpdated, keyring.EventRotated,
			keyring.EventRevoked, keyring.EventDeleted, keyring.EventDisabled, "unknown"}
		check := func(q keyring.EventQuery) {
			var want []string
			for _, e := range all {
				if (q.KeyID == "" || e.KeyID == q.KeyID) && (q.Owner == "" || e.Owner == q.Owner) &&
					(q.By == "" || e.By == q.By) && (q.Kind == "" || e.Kind == q.Kind) {
					want = append(want, e.ID)
				}
			}
			if got := eventIDs(p.events(q)); !slices.Equal(got, want) {
				p.errorf("%s: got %q, want %q", describeEvents(q), got, want)
			}
		}
		for _, owner := range owners {
			for _, key := range keys {
				check(keyring.EventQuery{Owner: owner, KeyID: key})
			}
			for _, actor := range actors {
				check(keyring.EventQuery{Owner: owner, By: actor})
			}
			for _, kind := range kinds {
				check(keyring.EventQuery{Owner: owner, Kind: kind})
			}
		}
		check(keyring.EventQuery{KeyID: p.id(1), Owner: p.owner(1), By: "actor_1", Kind: keyring.EventUpdated})
		check(keyring.EventQuery{KeyID: p.id(1), Owner: p.owner(1), By: "actor_2", Kind: keyring.EventUpdated})
	}},
	{name: "Events by time", rule: eventTimes + " " + eventFilters, check: func(p *probe) {
		p.history()
		all := p.events(keyring.EventQuery{})
		times := []time.Time{{}, epoch.AddDate(-100, 0, 0), epoch.AddDate(1000, 0, 0)}
		for _, e := range all {
			if !slices.ContainsFunc(times, e.Time.Equal) && len(times) < 12 {
				times = append(times, e.Time.In(time.FixedZone("", 14*3600)))
			}
		}
		for _, from := range times {
			for _, to := range times {
				var want []string
				for _, e := range all {
					if !e.Time.Before(from) && (to.IsZero() || e.Time.Before(to)) {
						want = append(want, e.ID)
					}
				}
				q := keyring.EventQuery{From: from, To: to}
				if got := eventIDs(p.events(q)); !slices.Equal(got, want) {
					p.errorf("%s: got %q, want %q", describeEvents(q), got, want)
				}
			}
		}
	}},
	{name: "Events of changes that failed", rule: eventRule + " So a change that failed has none.",
		check: func(p *probe) {
			r := p.record(1)
			p.insert(r, p.record(2))
			want := []keyring.Event{created(p.record(2)), created(r)}
			other := with(p.record(3), func(c *auth.Record) { c.ID = r.ID })
			p.fails("Insert of a taken ID", p.keys.Insert(p.ctx, other), keyring.ErrExists)
			other = with(p.record(3), func(c *auth.Record) { c.Hash = r.Hash })
			p.fails("Insert of a taken hash", p.keys.Insert(p.ctx, other), keyring.ErrExists)
			wrong := with(renamed(r, "wrong"), func(c *auth.Record) { c.Revision = 3 })
			p.fails("Update of another revision", p.keys.Update(p.ctx, wrong, nil), keyring.ErrConflict)
			wrong = renamed(p.record(3), "wrong")
			p.fails("Update of an unknown record", p.keys.Update(p.ctx, wrong, nil), auth.ErrNotFound)
			old, successor := p.rotated(r, 3)
			successor.Hash = hashOf(2)
			p.fails("Update with a taken successor", p.keys.Update(p.ctx, old, successor), keyring.ErrExists)
			p.fails("Delete of an unknown ID", p.keys.Delete(p.ctx, p.id(3), deleter), auth.ErrNotFound)
			p.sameEvents("Events", p.events(keyring.EventQuery{}), want...)
		}},
	{name: "Events of Touch", rule: "Touch makes neither a revision nor an event.", check: func(p *probe) {
		r := p.record(1)
		p.insert(r)
		p.touch(map[string]time.Time{r.ID: epoch, p.id(2): epoch})
		p.sameEvents("Events", p.events(keyring.EventQuery{}), created(r))
		next := renamed(r, "another name")
		p.update(next)
		p.touch(map[string]time.Time{r.ID: epoch.Add(time.Hour)})
		p.sameEvents("Events", p.events(keyring.EventQuery{}), updated(r, next), created(r))
	}},
	{name: "Events with a limit below 1", rule: "Events: a Limit below 1 is an error.", check: func(p *probe) {
		p.insert(p.record(1))
		for _, limit := range []int{0, -1, math.MinInt32} {
			for _, owner := range []string{"", p.owner(0), p.owner(1)} {
				_, err := p.keys.Events(p.ctx, keyring.EventQuery{Owner: owner, Limit: limit})
				p.refused(fmt.Sprintf("Events of owner %q with the limit %d", owner, limit), err)
			}
		}
	}},
	{name: "Events with a context that is done", rule: "If the events cannot be read, Events returns an error.",
		check: func(p *probe) {
			p.insert(p.record(1), p.record(2))
			for _, ctx := range p.doneContexts() {
				events, err := p.keys.Events(ctx, keyring.EventQuery{Limit: 10})
				if p.unsure("Events", err); err == nil {
					p.sameEvents("Events with a context that is done", events, created(p.record(2)), created(p.record(1)))
				}
				if errors.Is(err, errors.ErrUnsupported) {
					p.errorf("Events with a context that is done: got error %v, though the store keeps events", err)
				}
			}
		}},
	{name: "Events in the transaction of the change", rule: eventRule + " " + orUnsure, check: func(p *probe) {
		for i := range 30 {
			r := p.record(2 * i)
			p.insert(r)
			old, successor := p.rotated(r, 2*i+1)
			ctx, cancel := context.WithTimeout(p.ctx, time.Duration(i)*50*time.Microsecond)
			p.keys.Update(ctx, old, successor)
			cancel()
			var rotated bool
			var events, next []keyring.Event
			for range 2 { // a change that is written between the reads is there for the second ones
				got, err := p.keys.Get(p.ctx, r.ID)
				if !p.ok("Get after an Update", errOrNil(got, err)) {
					return
				}
				rotated = got.RotatedTo != ""
				events = p.events(keyring.EventQuery{KeyID: r.ID})
				next = p.events(keyring.EventQuery{KeyID: successor.ID})
				if rotated == (len(events) > 1) && rotated == (len(next) > 0) {
					break
				}
			}
			want := []keyring.Event{created(r)}
			var wantNext []keyring.Event
			if rotated {
				want = []keyring.Event{updated(r, old), created(r)}
				wantNext = []keyring.Event{created(successor)}
			}
			p.sameEvents("Events of a key whose Update was canceled", events, want...)
			p.sameEvents("Events of its successor", next, wantNext...)
		}
	}},
	{name: "Events of changes at the same time", rule: eventRule + " " + concurrent, check: func(p *probe) {
		const rounds = 4
		list := p.records(workers)
		together(workers, func(i int) {
			p.insert(list[i])
			for n := range rounds {
				list[i] = renamed(list[i], fmt.Sprint("change ", n))
				p.update(list[i])
			}
		})
		if got, want := len(p.events(keyring.EventQuery{})), workers*(1+rounds); got != want {
			p.errorf("Events: got %d, want %d: one for each change", got, want)
		}
		for _, r := range list {
			var got []int64
			for _, e := range p.events(keyring.EventQuery{KeyID: r.ID}) {
				got = append(got, e.Revision)
			}
			if want := []int64{5, 4, 3, 2, 1}; !slices.Equal(got, want) {
				p.errorf("Events of %s: got those of the revisions %d, want %d", r.ID, got, want)
			}
		}
	}},
	{name: "What Events returned stays", rule: stays, check: func(p *probe) {
		list := p.records(6)
		p.insert(list...)
		list[0] = renamed(list[0], "another name")
		p.update(list[0])
		events := p.events(keyring.EventQuery{})
		var then []returned
		for _, e := range events {
			then = append(then, remembered(e.Before, e.After)...)
		}
		p.changeAll(list)
		p.stay("Events", then)
	}},
}

var noEventCases = []storeCase{
	{name: "Events if the store keeps none", rule: "Events: if the Store keeps no events, the error matches " +
		"errors.ErrUnsupported.", check: func(p *probe) {
		if keepsEvents(p.ctx, p.keys) {
			return
		}
		p.insert(p.record(1))
		p.update(renamed(p.record(1), "another name"))
		for _, q := range []keyring.EventQuery{
			{Limit: 1}, {Limit: 10, KeyID: p.id(1)}, {Limit: 10, Owner: p.owner(1)}, {Limit: 1, After: "1"},
		} {
			_, err := p.keys.Events(p.ctx, q)
			p.fails(describeEvents(q), err, errors.ErrUnsupported)
		}
	}},
}
