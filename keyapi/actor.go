package keyapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// A refused error is a decision about the identity of the request, which
// auth.WriteProblem answers with a challenge.
type refused struct{ error }

func (e refused) Unwrap() error { return e.error }

// admit finds out who acts, and refuses who may not.
func (c *call) admit(to access) error {
	switch {
	case to == toAll:
		return nil
	case to == toSelf:
		if err := c.readKey(); err != nil {
			return err
		}
		c.id = c.key.ID
		c.act(keyring.ActorOf(*c.key))
		return nil
	case c.actor != nil:
		return c.admitActor()
	}
	if err := auth.Authorize(c.r.Context(), c.scope); err != nil {
		return refused{err}
	}
	if err := c.readKey(); err != nil {
		return err
	}
	if !c.key.Scopes.Covers(c.scope) { // it may have lost the scope a moment ago
		return refused{auth.ErrInsufficientScope}
	}
	c.act(keyring.ActorOf(*c.key))
	return nil
}

// act sets who acts.
func (c *call) act(a keyring.Actor) { c.owner, c.keys = a.Owner, c.manager.For(a) }

func (c *call) admitActor() error {
	actor, err := c.actor(c.r)
	if err != nil {
		if _, ok := errors.AsType[*auth.Problem](err); ok || auth.Code(err) != "" {
			return refused{err}
		}
		return err
	}
	if c.scope != "" && !actor.Scopes.Covers(c.scope) {
		p := c.problem(http.StatusForbidden, "INSUFFICIENT_SCOPE", "You may not manage keys")
		p.RequiredScopes = auth.Scopes{c.scope}
		return p
	}
	c.act(actor)
	return nil
}

// readKey sets c.key to the record of the key that the request came with, as
// the store of the Manager has it now. A record without a hash stands for
// somebody without a key, for whom the host vouched, and is taken as it is.
func (c *call) readKey() error {
	ctx := c.r.Context()
	key, ok := auth.FromContext(ctx)
	if !ok {
		if c.actor != nil {
			return refused{auth.ErrMissingKey} // a session has no key
		}
		var err error
		if key, err = auth.Recheck(ctx); err != nil {
			return refused{err}
		}
	}
	c.key = &key
	if key.Hash == (auth.Hash{}) || key.Owner == "" { // the latter can manage nothing
		return nil
	}
	now, err := c.reread(ctx)
	if err != nil {
		return err
	}
	if err := now.Check(time.Now()); err != nil {
		return refused{err}
	}
	c.key = now
	return nil
}

// reread returns the record of c.key as it is now.
func (c *call) reread(ctx context.Context) (*auth.Record, error) {
	own := c.manager.For(keyring.Actor{Name: c.key.ID, Owner: c.key.Owner})
	now, err := own.Get(ctx, c.key.ID)
	if errors.Is(err, auth.ErrNotFound) || err == nil && now.Hash != c.key.Hash {
		return nil, refused{auth.ErrInvalidKey}
	}
	return &now, err
}

// checkMade is called before the secret of a new key is given out. If the key
// that acts was revoked since the request began, the new key is revoked too:
// who revoked the one may have looked for those that it made already.
func (c *call) checkMade(made auth.Record) error {
	if c.key == nil || c.key.Hash == (auth.Hash{}) {
		return nil
	}
	ctx := c.r.Context()
	now, err := c.reread(ctx)
	if err == nil {
		if now.RevokedAt.IsZero() {
			return nil
		}
		err = refused{auth.ErrKeyRevoked}
	}
	// Nobody has the secret, so a failure leaves a key that nobody can use.
	if err := c.keys.Revoke(context.WithoutCancel(ctx), made.ID); err != nil {
		c.logFailure(err)
	}
	return err
}
