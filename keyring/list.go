package keyring

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/insigner/auth"
)

const pageSize = 200 // records or events that are read at a time

// Get returns the record of a key. The error matches [auth.ErrNotFound] if
// there is no such key.
func (k *Keyring) Get(ctx context.Context, id string) (auth.Record, error) {
	err := k.may.act(timestamp(time.Now()))
	if err == nil {
		var r *auth.Record
		if r, err = k.get(ctx, id); err == nil {
			return *r, nil
		}
	}
	return auth.Record{}, failed("get key", err)
}

// get returns a copy of the record with that ID, if it exists for the actor.
func (k *Keyring) get(ctx context.Context, id string) (*auth.Record, error) {
	if id == "" || checkText("ID", "ID", id) != nil {
		return nil, auth.ErrNotFound // no store would take it
	}
	r, err := k.manager.store.Get(ctx, id)
	switch {
	case err != nil:
		return nil, notFound(err)
	case r == nil:
		return nil, errors.New("the store returned neither a record nor an error")
	case !k.may.see(r.Owner):
		return nil, auth.ErrNotFound
	}
	return r.Clone(), nil
}

// Find returns the record of a key, for a key that somebody found in the wrong
// place. The error matches [auth.ErrNotFound] if there is no such key.
func (k *Keyring) Find(ctx context.Context, key auth.Key) (auth.Record, error) {
	err := k.may.act(timestamp(time.Now()))
	if err == nil {
		var r *auth.Record
		if r, err = k.find(ctx, key); err == nil {
			return *r, nil
		}
	}
	return auth.Record{}, failed("find key", err)
}

// find returns a copy of the record of key, if it exists for the actor. It
// decides as an Authenticator does: by the first hash that the store knows.
func (k *Keyring) find(ctx context.Context, key auth.Key) (*auth.Record, error) {
	for _, hash := range k.manager.opts.Scheme.Hashes(key) {
		r, err := k.manager.store.Lookup(ctx, hash)
		switch {
		case errors.Is(err, auth.ErrNotFound):
			continue
		case err != nil:
			return nil, err
		case r == nil:
			return nil, errors.New("the store returned neither a record nor an error")
		case subtle.ConstantTimeCompare(r.Hash[:], hash[:]) == 0 || !k.may.see(r.Owner):
			return nil, auth.ErrNotFound
		}
		return r.Clone(), nil
	}
	return nil, auth.ErrNotFound
}

// A Filter selects keys for [Keyring.List]. The zero Filter selects every key
// that the Keyring sees.
type Filter struct {
	Owner     string // only keys of that owner; of a confined Keyring, empty or its own
	Chain     string // only keys of that chain of rotations
	CreatedBy string // only keys that this actor created
	States    States // only keys that are in one of these states when List begins

	// ExpiresFrom and ExpiresBefore select keys by their expiry: not before the
	// one, before the other. If either is set, a key that never expires is left
	// out. Active keys with an ExpiresBefore in a week are those to warn of.
	ExpiresFrom, ExpiresBefore time.Time

	// Text selects keys whose name, owner, ID or hint contains it, in upper or
	// lower case.
	Text string

	NewestFirst bool     // otherwise oldest first
	After       Position // only keys after that position, such as that of the last key of a page
}

// List returns the keys that f selects, in the order of their CreatedAt and
// then of their ID. It reads them in pages, so other calls can be made in the
// loop. For a page of your own, leave the loop and continue after [PositionOf]
// the last key.
//
// A row that the store cannot read comes as an error, a [*RecordError], and the
// list continues. After any other error it ends.
//
// The error matches [ErrInvalidArgument] if f names another owner.
func (k *Keyring) List(ctx context.Context, f Filter) iter.Seq2[auth.Record, error] {
	return func(yield func(auth.Record, error) bool) {
		fail := func(err error) bool { return yield(auth.Record{}, failed("list keys", err)) }
		q, err := k.query(f)
		if err != nil {
			fail(err)
			return
		}
		if f.States != 0 && q.States == 0 {
			return // unknown bits select nothing
		}
		for r, err := range k.records(ctx, q) {
			more := false
			if err != nil {
				more = fail(err)
			} else {
				more = yield(*r.Clone(), nil)
			}
			if !more {
				return
			}
		}
	}
}

// query returns f as a Query of what the actor may see.
func (k *Keyring) query(f Filter) (Query, error) {
	now := time.Now().Round(0)
	if err := k.may.act(now); err != nil {
		return Query{}, err
	}
	owner, err := k.may.owner(f.Owner)
	if err != nil {
		return Query{}, err
	}
	err = cmp.Or(checkFilter("Chain", f.Chain), checkFilter("CreatedBy", f.CreatedBy),
		checkFilter("Text", f.Text), checkFilter("After", f.After.ID))
	if err != nil {
		return Query{}, err
	}
	return Query{
		Owner:         owner,
		Chain:         f.Chain,
		CreatedBy:     f.CreatedBy,
		NewestFirst:   f.NewestFirst,
		After:         f.After,
		Limit:         pageSize,
		States:        f.States & allStates,
		Now:           now,
		ExpiresFrom:   roundUp(f.ExpiresFrom),
		ExpiresBefore: roundUp(f.ExpiresBefore),
		Text:          f.Text,
	}, nil
}

// checkFilter returns an error if no database would take a text of a filter.
func checkFilter(field, text string) error {
	if !storable(text) {
		return notStorable(field, "text of the filter")
	}
	return nil
}

// roundUp returns the first microsecond that is not before t. Between times
// that stores keep, it separates like t.
func roundUp(t time.Time) time.Time {
	up := timestamp(t)
	if up.Before(t.Round(0)) {
		up = up.Add(time.Microsecond)
	}
	return up
}

// records returns what q selects and the actor sees, page by page. A row that
// cannot be read comes as a *RecordError. After any other error it ends.
//
// It checks again what the store should have, so that a store that forgets a
// part of q discloses nothing and does not make the list endless. The records
// are the store's and must not be modified.
func (k *Keyring) records(ctx context.Context, q Query) iter.Seq2[*auth.Record, error] {
	return func(yield func(*auth.Record, error) bool) {
		for {
			records, err := k.manager.store.List(ctx, q)
			unread, ok := recordErrors(err)
			if !ok {
				yield(nil, err)
				return
			}
			page := newPage(records, unread, &q)
			last := q.After
			for _, row := range page {
				if row.at.IsZero() {
					continue
				}
				if !q.After.IsZero() && !q.follows(row.at, q.After) {
					yield(nil, errors.New("the store does not continue after Query.After"))
					return
				}
				if last.IsZero() || q.follows(row.at, last) {
					last = row.at
				}
			}
			for _, row := range page {
				switch {
				case row.err != nil:
					if !yield(nil, row.err) {
						return
					}
				case k.may.see(row.record.Owner) && q.Matches(row.record):
					if !yield(row.record, nil) {
						return
					}
				}
			}
			if len(page) < q.Limit {
				return
			}
			if last == q.After {
				yield(nil, errors.New("the list cannot continue after rows that cannot be read"))
				return
			}
			q.After = last
		}
	}
}

// A row is what a store returned for one row: a record, or the error of reading
// it.
type row struct {
	at     Position
	record *auth.Record
	err    *RecordError
}

// newPage returns records and rows that could not be read, in the order of q.
func newPage(records []*auth.Record, unread []*RecordError, q *Query) []row {
	page := make([]row, 0, len(records)+len(unread))
	for _, r := range records {
		page = append(page, row{at: PositionOf(r), record: r})
	}
	for _, e := range unread {
		page = append(page, row{at: e.At, err: e})
	}
	if len(unread) > 0 {
		slices.SortStableFunc(page, func(a, b row) int {
			if q.NewestFirst {
				a, b = b, a
			}
			return a.at.compare(b.at)
		})
	}
	return page
}

// recordErrors returns the RecordErrors that err joins. It reports false if err
// holds any other error.
func recordErrors(err error) ([]*RecordError, bool) {
	switch e := err.(type) {
	case nil:
		return nil, true
	case *RecordError:
		return []*RecordError{e}, true
	case interface{ Unwrap() error }:
		if inside := e.Unwrap(); inside != nil {
			return recordErrors(inside)
		}
	case interface{ Unwrap() []error }:
		var all []*RecordError
		for _, inside := range e.Unwrap() {
			some, ok := recordErrors(inside)
			if !ok {
				return nil, false
			}
			all = append(all, some...)
		}
		return all, len(all) > 0
	}
	return nil, false
}

// count returns how many keys of owner are neither revoked nor expired, or
// limit if there are more. A row that cannot be read may be one.
func (k *Keyring) count(ctx context.Context, owner string, limit int, now time.Time) (int, error) {
	n := 0
	q := Query{Owner: owner, States: Active | Disabled, Now: now, Limit: min(limit, pageSize)}
	for r, err := range k.records(ctx, q) {
		if err != nil {
			if _, ok := err.(*RecordError); !ok {
				return 0, err
			}
		} else if hasExpired(r, now) {
			continue // also if it is disabled
		}
		if n++; n >= limit {
			break
		}
	}
	return n, nil
}

// An EventFilter selects events for [Keyring.Events]. The zero EventFilter
// selects every event that the Keyring sees.
type EventFilter struct {
	KeyID    string    // only events of that key
	Owner    string    // only events of keys of that owner; of a confined Keyring, empty or its own
	By       string    // only changes by that actor
	Kind     EventKind // only changes of that kind
	From, To time.Time // only changes with From ≤ Event.Time < To, if they are not zero
	After    string    // only events older than the one with that ID, such as the last of a page
}

// Events returns the changes that f selects, newest first, also those of
// deleted keys. It reads them in pages, so other calls can be made in the loop.
// An error ends the list.
//
// The error matches
//   - [errors.ErrUnsupported] if the store keeps no events,
//   - [auth.ErrNotFound] if the Keyring sees neither the record of f.KeyID nor
//     an event of it, or no event f.After,
//   - [ErrInvalidArgument] if f names another owner.
func (k *Keyring) Events(ctx context.Context, f EventFilter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		fail := func(err error) { yield(Event{}, failed("list events", err)) }
		q, err := k.eventQuery(f)
		if err != nil {
			fail(err)
			return
		}
		found := false
		for e, err := range k.events(ctx, q) {
			if err != nil {
				fail(err)
				return
			}
			if found = true; !yield(e, nil) {
				return
			}
		}
		if f.KeyID != "" && !found {
			if err := k.checkKnown(ctx, q); err != nil {
				fail(err)
			}
		}
	}
}

func (k *Keyring) eventQuery(f EventFilter) (EventQuery, error) {
	if err := k.may.act(timestamp(time.Now())); err != nil {
		return EventQuery{}, err
	}
	owner, err := k.may.owner(f.Owner)
	if err != nil {
		return EventQuery{}, err
	}
	err = cmp.Or(checkFilter("KeyID", f.KeyID), checkFilter("By", f.By),
		checkFilter("Kind", string(f.Kind)), checkFilter("After", f.After))
	if err != nil {
		return EventQuery{}, err
	}
	return EventQuery{
		KeyID: f.KeyID,
		Owner: owner,
		By:    f.By,
		Kind:  f.Kind,
		From:  roundUp(f.From),
		To:    roundUp(f.To),
		After: f.After,
		Limit: pageSize,
	}, nil
}

// events returns what q selects and the actor sees, page by page.
func (k *Keyring) events(ctx context.Context, q EventQuery) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			page, err := k.manager.store.Events(ctx, q)
			if err != nil {
				yield(Event{}, notFound(err))
				return
			}
			for _, e := range page {
				if e.ID == "" || e.ID == q.After {
					yield(Event{}, errors.New("the store does not continue after EventQuery.After"))
					return
				}
			}
			for _, e := range page {
				if k.may.see(e.Owner) && q.matches(&e) && !yield(k.visible(e), nil) {
					return
				}
			}
			if len(page) < q.Limit {
				return
			}
			q.After = page[len(page)-1].ID
		}
	}
}

// visible returns a copy of e without a record of an owner whom the actor does
// not see: somebody may have moved the key with SQL.
func (k *Keyring) visible(e Event) Event {
	for _, r := range []**auth.Record{&e.Before, &e.After} {
		if *r == nil {
			continue
		}
		if k.may.see((*r).Owner) {
			*r = (*r).Clone()
		} else {
			*r = nil
		}
	}
	return e
}

// checkKnown returns an error if the actor sees neither the record of q.KeyID
// nor any event of it.
func (k *Keyring) checkKnown(ctx context.Context, q EventQuery) error {
	if _, err := k.get(ctx, q.KeyID); !errors.Is(err, auth.ErrNotFound) {
		return err
	}
	for _, err := range k.events(ctx, EventQuery{KeyID: q.KeyID, Owner: q.Owner, Limit: pageSize}) {
		return err
	}
	return auth.ErrNotFound
}
