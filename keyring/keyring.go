package keyring

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/insigner/auth"
)

const (
	maxAttempts = 100 // to change a record that others change too
	maxPause    = 200 * time.Microsecond
)

// A Spec says what a new key is for and what it may do.
type Spec struct {
	Name      string            // what its owner calls it; not blank
	Owner     string            // whom it acts for; if empty, Actor.Owner
	Scopes    auth.Scopes       // if nil or empty, the key passes no Require
	ExpiresAt time.Time         // if zero, never, or the latest that is permitted
	Metadata  map[string]string // at most 64 entries and 16 kB

	// Key, if not zero, is the key to store: a first key out of a secret
	// manager. Only an unconfined Keyring takes it.
	Key auth.Key

	// Once, if not empty, makes the call safe to repeat. As long as the key of
	// the first call exists, a second Create for this owner with the same Once
	// makes nothing, and its error is an *ExistsError. The ID of the key is
	// derived from the owner and Once. Its first Revision is not 1 but the time
	// in microseconds, since the ID can be used again after Delete.
	Once string
}

// Create makes a key and stores its record. The Key that it returns is the only
// copy: show it once.
//
// The error matches
//   - [ErrInvalidArgument] if the name is blank, a text is not valid UTF-8 or
//     too long, a scope is invalid or not in the Catalog, the owner is
//     another's, or the expiry is not in the future or later than is permitted,
//   - [auth.ErrInsufficientScope] if the actor does not cover a scope,
//   - [ErrExists] if there is a key for this Once or with this Key already,
//   - [ErrTooManyKeys] if the owner has Options.MaxKeys keys.
func (k *Keyring) Create(ctx context.Context, spec Spec) (auth.Record, auth.Key, error) {
	r, key, err := k.create(ctx, spec)
	if err != nil {
		return auth.Record{}, auth.Key{}, failed("create key", err)
	}
	return *r, key, nil
}

func (k *Keyring) create(ctx context.Context, spec Spec) (*auth.Record, auth.Key, error) {
	now := timestamp(time.Now())
	if err := k.may.act(now); err != nil {
		return nil, auth.Key{}, err
	}
	r, key, err := k.fromSpec(spec, now)
	if err != nil {
		return nil, auth.Key{}, err
	}
	if spec.Once != "" {
		if err := k.checkOnce(ctx, r); err != nil {
			return nil, auth.Key{}, err
		}
	}
	if spec.Key.Reveal() != "" {
		if err := k.checkUnknown(ctx, key); err != nil {
			return nil, auth.Key{}, err
		}
	}
	if err := k.checkRoom(ctx, r.Owner, k.may.maxKeys, now); err != nil {
		return nil, auth.Key{}, err
	}
	if err := k.manager.store.Insert(ctx, r.Clone()); err != nil {
		if spec.Once != "" && errors.Is(err, ErrExists) {
			// Perhaps a call with the same Once was faster.
			if first := k.checkOnce(ctx, r); first != nil {
				err = first
			}
		}
		return nil, auth.Key{}, err
	}
	k.tell(ctx, nil, r, now)
	return r, key, nil
}

// fromSpec returns the record and the key that spec asks for, or an error if
// the actor may not ask for them.
func (k *Keyring) fromSpec(spec Spec, now time.Time) (*auth.Record, auth.Key, error) {
	owner, err := k.may.owner(spec.Owner)
	if err != nil {
		return nil, auth.Key{}, err
	}
	scheme := k.manager.opts.Scheme
	key := scheme.NewKey()
	if text := spec.Key.Reveal(); text != "" {
		if !k.may.unconfined {
			return nil, auth.Key{}, invalid("Key", "this Keyring does not take a Spec.Key")
		}
		if key, err = scheme.ParseKey(text); err != nil {
			return nil, auth.Key{}, invalid("Key", "the Spec.Key is not a key of this Scheme")
		}
	}
	if err := checkName(spec.Name); err != nil {
		return nil, auth.Key{}, err
	}
	if err := checkMetadata(nil, spec.Metadata); err != nil {
		return nil, auth.Key{}, err
	}
	if err := checkScopes(scheme.Catalog, nil, spec.Scopes); err != nil {
		return nil, auth.Key{}, err
	}
	if _, err := checkExpiry(spec.ExpiresAt, now); err != nil {
		return nil, auth.Key{}, err
	}
	if err := k.may.grant("Scopes", spec.Scopes); err != nil {
		return nil, auth.Key{}, err
	}
	expires, err := k.may.expiry(spec.ExpiresAt, now)
	if err != nil {
		return nil, auth.Key{}, err
	}
	id := newID(now)
	if spec.Once != "" {
		id = onceID(owner, spec.Once)
	}
	r := &auth.Record{
		ID:        id,
		Chain:     id,
		Name:      spec.Name,
		Owner:     owner,
		Scopes:    slices.Clone(spec.Scopes),
		Metadata:  maps.Clone(spec.Metadata),
		ExpiresAt: expires,
	}
	k.stamp(r, key, now)
	if spec.Once != "" {
		// After Delete the ID is free again. The new key gets a revision that
		// the deleted one never had, so that a change which was checked on the
		// deleted key cannot be written to the new one.
		r.Revision = now.UnixMicro()
	}
	return r, key, nil
}

// stamp completes the record of a new key.
func (k *Keyring) stamp(r *auth.Record, key auth.Key, now time.Time) {
	r.Hash = k.manager.opts.Scheme.Hashes(key)[0]
	r.Hint = key.Hint()
	r.CreatedAt, r.CreatedBy = now, k.may.actor.Name
	r.UpdatedAt, r.UpdatedBy = now, k.may.actor.Name
	r.Revision = 1
}

// checkOnce returns an *ExistsError if there is a record with the ID of r.
func (k *Keyring) checkOnce(ctx context.Context, r *auth.Record) error {
	first, err := k.get(ctx, r.ID)
	switch {
	case errors.Is(err, auth.ErrNotFound):
		return nil
	case err != nil:
		return err
	case first.Owner != r.Owner:
		return ErrExists // it was not made by Create
	}
	return &ExistsError{*first}
}

// checkUnknown returns an error if the store knows key already, also under
// another hash: then revoking the new record would not end the key.
func (k *Keyring) checkUnknown(ctx context.Context, key auth.Key) error {
	_, err := k.find(ctx, key)
	switch {
	case errors.Is(err, auth.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	return ErrExists
}

// checkRoom returns an error if the owner has limit keys that are neither
// revoked nor expired.
func (k *Keyring) checkRoom(ctx context.Context, owner string, limit int, now time.Time) error {
	if k.may.unconfined {
		return nil
	}
	n, err := k.count(ctx, owner, limit, now)
	if err != nil {
		return err
	}
	return k.may.room(n, limit)
}

// Update lets change set the Name, the Scopes, the ExpiresAt and the Metadata
// of a record, and stores the result. It returns the record as it is then. If
// nothing changed, nothing is written.
//
// If somebody else changes the key at the same time, change is called again
// with the newer record. It can compare Revision to refuse that, as for
// If-Match. An error of change ends the call, and the error of Update matches
// it. Only what changes is validated.
//
// The error matches
//   - [auth.ErrNotFound] if there is no such key,
//   - [auth.ErrKeyRevoked] or [auth.ErrKeyExpired] if it has ended,
//   - [ErrInvalidArgument] if change sets another field or, as for Create, a
//     value that cannot be,
//   - [ErrRotated] if a rotated key would expire later,
//   - [auth.ErrInsufficientScope] if the actor does not cover a scope that is
//     added, or any scope of a key that would expire later,
//   - [ErrConflict] if others changed the key 100 times in between.
func (k *Keyring) Update(ctx context.Context, id string, change func(r *auth.Record) error) (auth.Record, error) {
	r, _, err := k.change(ctx, id, func(r *auth.Record, now time.Time) (*auth.Record, error) {
		return nil, k.update(r, change, now)
	})
	if err != nil {
		return auth.Record{}, failed("update key", err)
	}
	return *r, nil
}

func (k *Keyring) update(r *auth.Record, change func(r *auth.Record) error, now time.Time) error {
	if !r.RevokedAt.IsZero() {
		return auth.ErrKeyRevoked
	}
	if hasExpired(r, now) {
		return auth.ErrKeyExpired
	}
	asked := r.Clone()
	if err := change(asked); err != nil {
		return err
	}
	asked = asked.Clone() // change may have kept what it got
	switch name := changedFixedField(r, asked); {
	case name != "":
		return invalid(name, "Update does not change %s", name)
	case asked.Revision != r.Revision, !asked.UpdatedAt.Equal(r.UpdatedAt), asked.UpdatedBy != r.UpdatedBy:
		return invalid("Revision", "Update sets Revision, UpdatedAt and UpdatedBy itself")
	case !asked.LastUsedAt.Equal(r.LastUsedAt):
		return invalid("LastUsedAt", "Update does not change LastUsedAt")
	}
	if asked.Name != r.Name {
		if err := checkName(asked.Name); err != nil {
			return err
		}
	}
	if err := checkMetadata(r.Metadata, asked.Metadata); err != nil {
		return err
	}
	if err := checkScopes(k.manager.opts.Scheme.Catalog, r.Scopes, asked.Scopes); err != nil {
		return err
	}
	if err := k.may.change(r.Scopes, asked.Scopes); err != nil {
		return err
	}
	if r.RotatedTo != "" && later(timestamp(asked.ExpiresAt), r.ExpiresAt) {
		return ErrRotated
	}
	expires, err := k.may.changedExpiry(r.ExpiresAt, asked.ExpiresAt, now)
	if err != nil {
		return err
	}
	if later(expires, r.ExpiresAt) {
		if err := k.may.grant("ExpiresAt", asked.Scopes); err != nil {
			return err
		}
	}
	r.Name, r.Scopes, r.Metadata, r.ExpiresAt = asked.Name, asked.Scopes, asked.Metadata, expires
	return nil
}

// Rotate makes a successor with the same name, owner, scopes and metadata. It
// returns the successor's record and its key, which is the only copy. The old
// key stays valid for grace, 0 to [MaxGrace], but no longer than it would have
// been. The successor has the lifetime that the old key had, counted from now,
// or what is permitted if that is less.
//
// A key rotates once: of many calls at the same time, one succeeds.
//
// The error matches, in this order,
//   - [ErrInvalidArgument] if grace is out of range,
//   - [auth.ErrNotFound] if there is no such key,
//   - [auth.ErrKeyRevoked] if the key is revoked,
//   - [ErrRotated] if it has been rotated,
//   - [auth.ErrKeyDisabled] if it is disabled,
//   - [auth.ErrKeyExpired] if it has expired,
//   - [auth.ErrInsufficientScope] if the actor does not cover its scopes,
//   - [ErrTooManyKeys] if grace is not 0 and the owner has twice as many keys
//     as Options.MaxKeys.
func (k *Keyring) Rotate(ctx context.Context, id string, grace time.Duration) (auth.Record, auth.Key, error) {
	if grace < 0 || grace > MaxGrace {
		err := invalid("Grace", "the grace is %v; it must be between 0 and %v", grace, MaxGrace)
		return auth.Record{}, auth.Key{}, failed("rotate key", err)
	}
	var key auth.Key
	_, successor, err := k.change(ctx, id, func(r *auth.Record, now time.Time) (successor *auth.Record, err error) {
		successor, key, err = k.rotate(ctx, r, grace, now)
		return successor, err
	})
	if err != nil {
		return auth.Record{}, auth.Key{}, failed("rotate key", err)
	}
	return *successor, key, nil
}

// rotate turns r into a rotated key, and returns its successor.
func (k *Keyring) rotate(
	ctx context.Context, r *auth.Record, grace time.Duration, now time.Time,
) (*auth.Record, auth.Key, error) {
	switch {
	case !r.RevokedAt.IsZero():
		return nil, auth.Key{}, auth.ErrKeyRevoked
	case r.RotatedTo != "":
		return nil, auth.Key{}, ErrRotated
	}
	if err := r.Check(now); err != nil {
		return nil, auth.Key{}, err
	}
	if err := k.may.grant("", r.Scopes); err != nil {
		return nil, auth.Key{}, err
	}
	if grace > 0 { // otherwise the number of keys does not grow
		if err := k.checkRoom(ctx, r.Owner, 2*k.may.maxKeys, now); err != nil {
			return nil, auth.Key{}, err
		}
	}
	key := k.manager.opts.Scheme.NewKey()
	successor := &auth.Record{
		ID:          newID(now),
		Name:        r.Name,
		Owner:       r.Owner,
		Scopes:      slices.Clone(r.Scopes),
		Metadata:    maps.Clone(r.Metadata),
		ExpiresAt:   k.may.successorExpiry(r, now),
		RotatedFrom: r.ID,
		Chain:       r.Chain,
	}
	if successor.Chain == "" {
		successor.Chain = r.ID
	}
	k.stamp(successor, key, now)
	r.RotatedTo = successor.ID
	r.ExpiresAt = earlier(r.ExpiresAt, now.Add(grace))
	return successor, key, nil
}

// Disable refuses a key until Enable. If it is disabled already, nothing
// changes. An expired key can be disabled too.
//
// The error matches [auth.ErrNotFound] or [auth.ErrKeyRevoked].
func (k *Keyring) Disable(ctx context.Context, id string) error {
	return k.set(ctx, "disable key", id, func(r *auth.Record, now time.Time) error {
		if !r.RevokedAt.IsZero() {
			return auth.ErrKeyRevoked
		}
		if r.DisabledAt.IsZero() {
			r.DisabledAt = now
		}
		return nil
	})
}

// Enable undoes Disable. If the key is not disabled, nothing changes. An
// expired key stays expired.
//
// The error matches [auth.ErrNotFound], [auth.ErrKeyRevoked], or
// [auth.ErrInsufficientScope] if the actor does not cover the scopes of the
// key.
func (k *Keyring) Enable(ctx context.Context, id string) error {
	return k.set(ctx, "enable key", id, func(r *auth.Record, now time.Time) error {
		if !r.RevokedAt.IsZero() {
			return auth.ErrKeyRevoked
		}
		if r.DisabledAt.IsZero() {
			return nil
		}
		r.DisabledAt = time.Time{}
		return k.may.grant("", r.Scopes)
	})
}

// Revoke ends a key for good. If it is revoked already, nothing changes: the
// first time stands. A successor made by Rotate is a key of its own, and stays
// valid.
//
// The error matches [auth.ErrNotFound].
func (k *Keyring) Revoke(ctx context.Context, id string) error {
	return k.set(ctx, "revoke key", id, func(r *auth.Record, now time.Time) error {
		if r.RevokedAt.IsZero() {
			r.RevokedAt = now
		}
		return nil
	})
}

// set is change for methods that return only an error.
func (k *Keyring) set(ctx context.Context, call, id string, set func(r *auth.Record, now time.Time) error) error {
	_, _, err := k.change(ctx, id, func(r *auth.Record, now time.Time) (*auth.Record, error) {
		return nil, set(r, now)
	})
	if err != nil {
		return failed(call, err)
	}
	return nil
}

// Delete removes the record of a key, which is unknown from then on. Its events
// stay.
//
// The error matches [auth.ErrNotFound].
func (k *Keyring) Delete(ctx context.Context, id string) error {
	if err := k.delete(ctx, id); err != nil {
		return failed("delete key", err)
	}
	return nil
}

func (k *Keyring) delete(ctx context.Context, id string) error {
	now := timestamp(time.Now())
	if err := k.may.act(now); err != nil {
		return err
	}
	r, err := k.get(ctx, id)
	if err != nil {
		return err
	}
	if err := k.manager.store.Delete(ctx, r.ID, k.may.actor.Name); err != nil {
		return notFound(err)
	}
	k.tell(ctx, r, nil, now)
	return nil
}

// A stepFunc changes a record, or says why it may not be changed. It can return
// a successor to insert with the change. It can be called several times.
type stepFunc func(r *auth.Record, now time.Time) (successor *auth.Record, err error)

// change is how every record is changed. It reads the record, lets step change
// it, and stores the result if step changed something, with the successor that
// step returns, if any. If the stored record is no longer what was read, it
// starts again. So each check is made on the very revision that is replaced.
func (k *Keyring) change(ctx context.Context, id string, step stepFunc) (r, successor *auth.Record, err error) {
	for attempt := range maxAttempts {
		now := timestamp(time.Now())
		if err := k.may.act(now); err != nil {
			return nil, nil, err
		}
		before, err := k.get(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		r = before.Clone()
		if successor, err = step(r, now); err != nil {
			return nil, nil, err
		}
		if changedField(before, r) == "" {
			return r, nil, nil
		}
		r.UpdatedAt, r.UpdatedBy = now, k.may.actor.Name
		r.Revision = before.Revision + 1
		err = k.manager.store.Update(ctx, r.Clone(), cloned(successor))
		if err == nil {
			k.tell(ctx, before, r, now)
			if successor != nil {
				k.tell(ctx, nil, successor, now)
			}
			return r, successor, nil
		}
		if !errors.Is(err, ErrConflict) {
			return nil, nil, notFound(err)
		}
		if err := pause(ctx, attempt); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, fmt.Errorf("%w, %d times", ErrConflict, maxAttempts)
}

// pause waits before the next attempt, longer each time, so that competing
// callers spread out.
func pause(ctx context.Context, attempt int) error {
	timer := time.NewTimer(rand.N(maxPause * time.Duration(attempt+1) / 8))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
