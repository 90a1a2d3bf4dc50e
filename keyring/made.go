package keyring

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/insigner/auth"
)

// Made returns the keys that a key made: those that it created, those that it
// rotated itself into, and those that these made in turn. It finds keys that are
// deleted by their events, and returns what these know of them, without a Hash.
//
// If the store fails, or ctx ends, Made returns what it has found together with
// the first error. The error matches auth.ErrNotFound if the Keyring sees neither the
// record nor an event of the key.
func (k *Keyring) Made(ctx context.Context, id string) ([]auth.Record, error) {
	s, err := k.searchMade(ctx, id)
	if err != nil {
		return nil, err
	}
	for n := 0; n < len(s.found) && ctx.Err() == nil; n++ {
		s.searchKey(s.found[n].ID)
	}
	return s.found[1:], cmp.Or(s.failure, ctx.Err())
}

// RevokeMade revokes a key that has leaked, and all keys that it made. It
// returns the IDs of those that are revoked now, also of those that were
// revoked before.
//
// The key may go on making keys at the same time: of its rotations the newest is
// revoked first, and what it revokes is searched until nothing more is found. A
// failure does not spare the other keys: RevokeMade returns what it has
// revoked together with the first error, and can be repeated. The key itself may
// be deleted.
//
// The error matches auth.ErrNotFound if the Keyring sees neither the record nor
// an event of the key.
func (k *Keyring) RevokeMade(ctx context.Context, id string) (revoked []string, err error) {
	s, err := k.searchMade(ctx, id)
	if err != nil {
		return nil, err
	}
	var again []string // what was good, and may have made more before it was revoked
	ended := make(map[string]bool)
	for n := 0; n < len(s.found); {
		found := slices.Clone(s.found[n:])
		n = len(s.found)
		for _, r := range slices.Backward(found) {
			if r.RevokedAt.IsZero() {
				if err := k.Revoke(ctx, r.ID); errors.Is(err, auth.ErrNotFound) {
					continue
				} else if err != nil {
					s.fail(err)
					continue
				}
				again = append(again, r.ID)
			}
			ended[r.ID] = true
		}
		for _, r := range found {
			s.searchKey(r.ID)
		}
		if n == len(s.found) {
			for _, id := range again {
				s.searchKey(id)
			}
		}
	}
	for _, r := range s.found {
		if ended[r.ID] {
			revoked = append(revoked, r.ID)
		}
	}
	return revoked, s.failure
}

// A search finds the keys that a key made.
type search struct {
	keys    *Keyring
	ctx     context.Context
	found   []auth.Record   // the key itself first; of a deleted one, what an event knows
	ids     map[string]bool // of found
	chains  map[string]bool // that were searched
	failure error           // the first one
}

// searchMade begins a search with the key itself and its own rotations.
//
// It returns an error if there is neither a record nor an event of the key.
// Otherwise the name of an actor would stand for the keys that the actor
// created, and an empty ID for all keys.
func (k *Keyring) searchMade(ctx context.Context, id string) (*search, error) {
	q, err := k.eventQuery(EventFilter{KeyID: id})
	if err != nil {
		return nil, err
	}
	if id == "" {
		return nil, auth.ErrNotFound
	}
	s := &search{keys: k, ctx: ctx, ids: make(map[string]bool), chains: make(map[string]bool)}
	r, err := k.Get(ctx, id)
	switch {
	case err == nil:
		s.add(r)
	case !errors.Is(err, auth.ErrNotFound):
		return nil, err
	default:
		if err := k.checkKnown(ctx, q); errors.Is(err, errors.ErrUnsupported) {
			return nil, auth.ErrNotFound
		} else if err != nil {
			return nil, err
		}
		s.add(auth.Record{ID: id})
	}
	return s, nil
}

// searchKey adds the keys that a key created, as far as they can be read. Those
// that are deleted are only known from their events.
func (s *search) searchKey(id string) {
	for r, err := range s.keys.List(s.ctx, Filter{CreatedBy: id}) {
		if s.fail(err) {
			s.add(r)
		}
	}
	for e, err := range s.keys.Events(s.ctx, EventFilter{By: id, Kind: EventCreated}) {
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			return
		case s.fail(err) && e.After != nil:
			r := *e.After
			r.Hash = auth.Hash{}
			s.add(r)
		case err == nil:
			s.add(auth.Record{ID: e.KeyID})
		}
	}
}

// add adds a key, and the keys into which it and its successors rotated
// themselves: all of them by one list, since a thief may rotate a key a thousand
// times.
func (s *search) add(r auth.Record) {
	if s.ids[r.ID] {
		return
	}
	s.ids[r.ID] = true
	s.found = append(s.found, r)
	if r.Chain == "" || s.chains[r.Chain] {
		return
	}
	s.chains[r.Chain] = true
	for next, err := range s.keys.List(s.ctx, Filter{Chain: r.Chain}) { // oldest first
		if s.fail(err) && s.ids[next.CreatedBy] {
			s.add(next)
		}
	}
}

// fail keeps the first failure, and reports whether err is nil.
func (s *search) fail(err error) bool {
	s.failure = cmp.Or(s.failure, err)
	return err == nil
}
