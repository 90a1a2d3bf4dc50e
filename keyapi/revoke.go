package keyapi

import (
	"context"
	"errors"
	"net/http"

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
	if err := c.checkPreconditions(); err != nil {
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
		return c.badMember("/andCreated", "andCreated must be true or false")
	}
	if !andCreated {
		return c.setNow((*keyring.Keyring).Revoke)
	}
	if err := c.checkPreconditions(); err != nil {
		return err
	}
	last, err := c.last()
	if err != nil {
		return err
	}
	revoked, err := c.keys.RevokeMade(c.r.Context(), c.id)
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
	events, _, eventsErr := take(c.keys.Events(ctx, keyring.EventFilter{KeyID: c.id}), 1)
	switch {
	case errors.Is(eventsErr, auth.ErrNotFound), errors.Is(eventsErr, errors.ErrUnsupported):
		return r, err
	case eventsErr != nil:
		return r, eventsErr
	case len(events) == 0: // since then, there is a record
		return c.keys.Get(ctx, c.id)
	case events[0].Kind != keyring.EventDeleted, events[0].Before == nil:
		return r, err
	}
	r = *events[0].Before
	if r.RevokedAt.IsZero() {
		r.RevokedAt = events[0].Time
	}
	return r, nil
}
