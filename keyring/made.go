package keyring

import (
	"cmp"
	"context"
	"errors"

	"github.com/insigner/auth"
)

// Made returns the IDs of the keys that a key made: those that it created, those
// that it rotated itself into, and those that these made in turn. It finds keys
// that are deleted by their events.
//
// If the store fails, Made returns what it has found together with the first
// error. The error matches auth.ErrNotFound if the Keyring sees neither the
// record nor an event of the key.
func (k *Keyring) Made(ctx context.Context, id string) ([]string, error) {
	if err := k.checkMaker(ctx, id); err != nil {
		return nil, err
	}
	var made idSet
	made.add(id)
	var failure error
	for n := 0; n < len(made.ids); n++ {
		failure = cmp.Or(failure, k.addMade(ctx, &made, made.ids[n]))
	}
	return made.ids[1:], failure
}

// RevokeMade revokes a key that has leaked, and all keys that it made. It
// returns the IDs of those that are revoked now, also of those that were
// revoked before.
//
// A key is revoked before the keys that it made are searched, and the search is
// repeated until it finds no more. So a key cannot escape by making another at
// the same time. A failure does not spare the other keys: RevokeMade returns
// what it has revoked together with the first error, and can be repeated. The
// key itself may be deleted.
//
// The error matches auth.ErrNotFound if the Keyring sees neither the record nor
// an event of the key.
func (k *Keyring) RevokeMade(ctx context.Context, id string) (revoked []string, err error) {
	if err := k.checkMaker(ctx, id); err != nil {
		return nil, err
	}
	var made idSet // also of keys that are deleted
	made.add(id)
	for n := 0; n < len(made.ids); {
		for ; n < len(made.ids); n++ {
			switch failure := k.Revoke(ctx, made.ids[n]); {
			case failure == nil:
				revoked = append(revoked, made.ids[n])
			case !errors.Is(failure, auth.ErrNotFound):
				err = cmp.Or(err, failure)
			}
		}
		for i := range n {
			err = cmp.Or(err, k.addMade(ctx, &made, made.ids[i]))
		}
	}
	return revoked, err
}

// checkMaker returns an error if there is neither a record nor an event of the
// key. Without it, the name of an actor would stand for the keys that the actor
// created, and an empty ID for all keys.
func (k *Keyring) checkMaker(ctx context.Context, id string) error {
	q, err := k.eventQuery(EventFilter{KeyID: id})
	if err != nil {
		return err
	}
	if id == "" {
		return auth.ErrNotFound
	}
	if err := k.checkKnown(ctx, q); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return auth.ErrNotFound
}

// addMade adds the IDs of the keys that a key created, as far as they can be
// read. It returns the first failure.
func (k *Keyring) addMade(ctx context.Context, made *idSet, id string) (failure error) {
	for r, err := range k.List(ctx, Filter{CreatedBy: id}) {
		if err == nil {
			made.add(r.ID)
		}
		failure = cmp.Or(failure, err)
	}
	for e, err := range k.Events(ctx, EventFilter{By: id, Kind: EventCreated}) {
		switch {
		case err == nil:
			made.add(e.KeyID)
		case !errors.Is(err, errors.ErrUnsupported):
			failure = cmp.Or(failure, err)
		}
	}
	return failure
}

// An idSet holds IDs in the order in which they were added.
type idSet struct {
	ids  []string
	seen map[string]bool
}

func (s *idSet) add(id string) {
	if s.seen[id] {
		return
	}
	if s.seen == nil {
		s.seen = make(map[string]bool)
	}
	s.seen[id] = true
	s.ids = append(s.ids, id)
}
