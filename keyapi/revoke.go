package keyapi

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// set makes a change that needs no body, and answers with the key.
func (c *call) set(change func(k *keyring.Keyring, ctx context.Context, id string) error) error {
	if err := c.none(); err != nil {
		return err
	}
	return c.setNow(change)
}

func (c *call) setNow(change func(k *keyring.Keyring, ctx context.Context, id string) error) error {
	if err := c.checkIfMatch(); err != nil {
		return err
	}
	if err := change(c.keys, c.r.Context(), c.id); err != nil {
		return err
	}
	r, err := c.keys.Get(c.r.Context(), c.id)
	if err != nil {
		return err
	}
	return c.writeKey(http.StatusOK, &r, auth.Key{})
}

// revokeSelf ends the key of the request, and no other.
func (c *call) revokeSelf() error { return c.set((*keyring.Keyring).Revoke) }

func (c *call) revoke() error {
	if _, err := c.query(); err != nil {
		return err
	}
	members, err := c.body("andCreated")
	if err != nil {
		return err
	}
	andCreated := false
	if value, ok := members["andCreated"]; ok && !decode(value, &andCreated) {
		return c.badMember("/andCreated", "It is neither true nor false")
	}
	if !andCreated {
		return c.setNow((*keyring.Keyring).Revoke)
	}
	if err := c.checkIfMatch(); err != nil {
		return err
	}
	last, err := c.last()
	if err != nil {
		return err
	}
	revoked, err := c.revokeAll()
	if err != nil {
		p := *c.problemOf(err)
		p.RevokedKeys = revoked
		return &p
	}
	if r, err := c.keys.Get(c.r.Context(), c.id); err == nil {
		last = r
	} else if !errors.Is(err, auth.ErrNotFound) {
		return err
	}
	k := c.keyOf(&last)
	k.RevokedKeys = append([]string{}, revoked...) // not null
	c.w.Header().Set("Etag", entityTag(&last))
	c.write(http.StatusOK, plainJSON, k)
	return nil
}

// last returns the record of the key. That of a deleted key comes from its last
// event, and is revoked. So deleting a leaked key does not save the keys that
// it created.
func (c *call) last() (auth.Record, error) {
	ctx := c.r.Context()
	r, err := c.keys.Get(ctx, c.id)
	if !errors.Is(err, auth.ErrNotFound) {
		return r, err
	}
	events, _, eventsErr := take(c, c.keys.Events(ctx, keyring.EventFilter{KeyID: c.id}), 1)
	switch {
	case errors.Is(eventsErr, auth.ErrNotFound), errors.Is(eventsErr, errors.ErrUnsupported):
		return r, err
	case eventsErr != nil:
		return r, eventsErr
	case events[0].Kind != keyring.EventDeleted, events[0].Before == nil:
		return r, err
	}
	r = *events[0].Before
	if r.RevokedAt.IsZero() {
		r.RevokedAt = events[0].Time
	}
	return r, nil
}

// revokeAll revokes the key and all that it created, directly or not. Each key
// is revoked before those that it created are looked for, since it may be
// creating more. It repeats that until nothing is new. A failure does not spare
// the other keys. It returns the IDs of those that are revoked, and the first
// failure.
func (c *call) revokeAll() (revoked []string, failure error) {
	ctx := c.r.Context()
	ids := []string{c.id} // also of keys that are deleted
	for n := 0; n < len(ids); {
		for ; n < len(ids); n++ {
			err := c.keys.Revoke(ctx, ids[n])
			if err == nil {
				revoked = append(revoked, ids[n])
			} else if !errors.Is(err, auth.ErrNotFound) {
				failure = cmp.Or(failure, err)
			}
		}
		for _, creator := range ids {
			created, err := c.created(creator)
			failure = cmp.Or(failure, err)
			for _, id := range created {
				if !slices.Contains(ids, id) {
					ids = append(ids, id)
				}
			}
		}
	}
	return revoked, failure
}

// created returns the IDs of the keys that a key created or rotated itself
// into, as far as they can be read, and the first failure. Those that are
// deleted are only known from their events.
func (c *call) created(creator string) (ids []string, failure error) {
	ctx := c.r.Context()
	for r, err := range c.keys.List(ctx, keyring.Filter{CreatedBy: creator}) {
		if err == nil {
			ids = append(ids, r.ID)
		}
		failure = cmp.Or(failure, err)
	}
	for e, err := range c.keys.Events(ctx, keyring.EventFilter{By: creator, Kind: keyring.EventCreated}) {
		switch {
		case err == nil:
			ids = append(ids, e.KeyID)
		case !errors.Is(err, errors.ErrUnsupported):
			failure = cmp.Or(failure, err)
		}
	}
	return ids, failure
}
