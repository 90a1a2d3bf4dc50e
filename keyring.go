package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxGrace is the longest time that a rotated key goes on beside its successor.
const MaxGrace = 30 * 24 * time.Hour

const listPage = 200 // records a List holds at a time

// A Keyring makes, lists, rotates and revokes the keys in a [KeyStore]. It is safe for concurrent use, and knows
// keys by their IDs, never by the keys themselves or their hashes.
//
// An error that the caller's input caused matches [ErrInvalidArgument], [ErrInsufficientScope] or one of the errors
// that the method names. The text of the first two may be shown to whoever asked; that of any other may have come from
// the store, and is for the log.
type Keyring struct {
	store   KeyStore
	format  KeyFormat
	hasher  Hasher
	catalog Catalog
}

// KeyringOptions configures a [Keyring]. Format and Hasher must be those of the [Authenticator].
type KeyringOptions struct {
	Format  KeyFormat // zero: "isk_"; NewKeyring panics on a prefix that is none
	Hasher  Hasher    // nil: BLAKE2b(nil)
	Catalog Catalog   // the scopes that may be granted; nil: any valid scope
}

// NewKeyring returns a Keyring for the keys in store. Nil opts: the defaults; otherwise opts is copied. It panics if
// the store is nil, and on options that cannot work.
func NewKeyring(store KeyStore, opts *KeyringOptions) *Keyring {
	const call = "auth.NewKeyring"
	if store == nil {
		panic(call + ": the store is nil")
	}
	if opts == nil {
		opts = new(KeyringOptions)
	}
	opts.Format.check(call)
	k := &Keyring{store, opts.Format, opts.Hasher, slices.Clone(opts.Catalog)}
	if k.hasher == nil {
		k.hasher = BLAKE2b(nil)
	}
	for _, info := range k.catalog {
		if !info.Scope.valid() {
			panic(call + ": " + quote(string(info.Scope)) + " in the Catalog is not a scope")
		}
	}
	return k
}

// A Grant says what a new key is for and what it may do.
type Grant struct {
	Name      string    // required: what its owner calls it
	Owner     string    // organization or account the key acts for
	CreatedBy string    // who asks for it
	Scopes    Scopes    // empty: the key may do nothing
	Ceiling   Scopes    // not nil: every scope granted must be covered by it; pass what FromContext says the maker holds
	ExpiresAt time.Time // in the future, kept to the microsecond; zero: never
	Metadata  map[string]string
}

// Create makes a key and stores its record. The Key returned is the only copy there is: show it once. The error
// matches [ErrInsufficientScope] if the Ceiling does not cover a scope, and [ErrInvalidArgument] if the name is
// blank, a scope is none or not in the Catalog, the expiry is not in the future, or a text is not valid UTF-8 or
// holds a NUL, which databases refuse.
func (k *Keyring) Create(ctx context.Context, g Grant) (Record, Key, error) {
	now := timestamp(time.Now())
	expires := timestamp(g.ExpiresAt)
	if err := k.checkGrant(g, now, expires); err != nil {
		return Record{}, Key{}, failed("create key", err)
	}
	r, key := k.mint(Record{
		Name:      g.Name,
		Owner:     g.Owner,
		Scopes:    append(Scopes{}, g.Scopes...), // not nil: it is [] in JSON
		CreatedAt: now,
		ExpiresAt: expires,
		CreatedBy: g.CreatedBy,
		Metadata:  maps.Clone(g.Metadata),
	})
	if err := k.store.Insert(ctx, r); err != nil {
		return Record{}, Key{}, failed("create key", err)
	}
	return r.clone(), key, nil
}

func (k *Keyring) checkGrant(g Grant, now, expires time.Time) error {
	if strings.TrimSpace(g.Name) == "" {
		return fmt.Errorf("%w: the name is blank", ErrInvalidArgument)
	}
	if err := cmp.Or(checkText("name", g.Name), checkText("owner", g.Owner), checkText("creator", g.CreatedBy)); err != nil {
		return err
	}
	for key, value := range g.Metadata {
		if err := cmp.Or(checkText("metadata", key), checkText("metadata", value)); err != nil {
			return err
		}
	}
	if err := k.catalog.Validate(g.Scopes...); err != nil {
		return fmt.Errorf("%w: %s", ErrInvalidArgument, strings.TrimPrefix(err.Error(), "auth: "))
	}
	for _, s := range g.Scopes {
		if g.Ceiling != nil && !g.Ceiling.allow(s) {
			return fmt.Errorf("%w: %s is above the ceiling", ErrInsufficientScope, s)
		}
	}
	if !g.ExpiresAt.IsZero() && !expires.After(now) {
		return fmt.Errorf("%w: the expiry is not in the future", ErrInvalidArgument)
	}
	return nil
}

// A callError says which call failed. What is inside need not say once more that it is this package's.
type callError struct {
	call string
	err  error
}

func failed(call string, err error) error { return &callError{call, err} }

func (e *callError) Error() string {
	return "auth: " + e.call + ": " + strings.TrimPrefix(e.err.Error(), "auth: ")
}

func (e *callError) Unwrap() error { return e.err }

func checkText(what, s string) error {
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return fmt.Errorf("%w: the %s is not valid UTF-8 or holds a NUL", ErrInvalidArgument, what)
	}
	return nil
}

// mint completes r with an ID and a key of its own.
func (k *Keyring) mint(r Record) (Record, Key) {
	key := k.format.NewKey()
	r.ID = "key_" + strings.ToLower(rand.Text())
	r.Hash = k.hasher(key.Reveal())
	r.Hint = key.Hint()
	return r, key
}

// timestamp returns t as every store can keep it: to the microsecond, in UTC, by the wall clock.
func timestamp(t time.Time) time.Time { return t.Truncate(time.Microsecond).UTC() }

// Get returns the record of a key. Its Scopes are not nil, as with all that a Keyring returns, so that they can be a
// Ceiling. The error matches [ErrNotFound] if there is none with that ID.
func (k *Keyring) Get(ctx context.Context, id string) (Record, error) {
	r, err := k.store.Get(ctx, id)
	if err != nil {
		return Record{}, failed("get key", err)
	}
	return r.handOut(), nil
}

// A State is what [Record.Check] finds.
type State int

const (
	StateAny     State = iota // whatever it finds
	StateActive               // nil
	StateRevoked              // ErrKeyRevoked
	StateExpired              // ErrKeyExpired
)

// A Filter selects keys for [Keyring.List]. The zero Filter selects every key.
type Filter struct {
	// Owner selects the keys of one owner. Empty: the keys of EVERY owner. An endpoint that lists a client's own keys
	// must refuse a client whose Owner is empty.
	Owner string
	State State // as of the time that List begins; zero: in whatever state

	// The expiry is not before ExpiresFrom and before ExpiresBefore; zero: no such limit. A key that never expires
	// is left out if either is set. Active keys with an ExpiresBefore in a week are those to warn of.
	ExpiresFrom, ExpiresBefore time.Time

	// After is the ID of a key to continue behind, such as the last of an earlier page; with an Owner, one of that
	// owner's. Empty: from the start.
	After string
}

func (f *Filter) selects(r *Record, now time.Time) bool {
	if !f.ExpiresFrom.IsZero() || !f.ExpiresBefore.IsZero() {
		if r.ExpiresAt.IsZero() || r.ExpiresAt.Before(f.ExpiresFrom) ||
			!f.ExpiresBefore.IsZero() && !r.ExpiresAt.Before(f.ExpiresBefore) {
			return false
		}
	}
	switch f.State {
	case StateActive:
		return r.check(now) == nil
	case StateRevoked:
		return r.check(now) == ErrKeyRevoked
	case StateExpired:
		return r.check(now) == ErrKeyExpired
	}
	return true
}

// List returns the keys that f selects, oldest first, those of one moment by ID. It reads pages of 200 and holds one
// at a time, so other calls may be made meanwhile; to end a page of your own, leave the loop. An error ends the list;
// it matches [ErrNotFound] if f.After is the ID of no key or of another owner's, and [ErrInvalidArgument] if f.State
// is none.
//
// Owner is selected by the store, the rest by reading all of that owner's keys.
func (k *Keyring) List(ctx context.Context, f Filter) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		fail := func(err error) { yield(Record{}, failed("list keys", err)) }
		if f.State < StateAny || f.State > StateExpired {
			fail(fmt.Errorf("%w: there is no State %d", ErrInvalidArgument, f.State))
			return
		}
		now := time.Now().Round(0)
		var at Position
		if f.After != "" {
			r, err := k.store.Get(ctx, f.After)
			if err == nil && f.Owner != "" && r.Owner != f.Owner {
				err = ErrNotFound // whether others have such a key is not this owner's business
			}
			if err != nil {
				fail(err)
				return
			}
			at = Position{r.CreatedAt, r.ID}
		}
		for {
			page, err := k.store.List(ctx, f.Owner, at, listPage)
			if err != nil {
				fail(err)
				return
			}
			for _, r := range page {
				if f.selects(&r, now) && !yield(r.handOut(), nil) {
					return
				}
				at = Position{r.CreatedAt, r.ID}
			}
			if len(page) < listPage {
				return
			}
		}
	}
}

// Revoke ends a key for good. Revoking it again is no error and changes nothing: the first time stands. The error
// matches [ErrNotFound] if there is no key with that ID. A successor made by Rotate is a key of its own.
func (k *Keyring) Revoke(ctx context.Context, id string) error {
	if err := k.store.Revoke(ctx, id, timestamp(time.Now())); err != nil {
		return failed("revoke key", err)
	}
	return nil
}

// Rotate makes a successor with the same name, owner, creator, scopes and metadata, and lets the old key go on for
// the grace, 0 to [MaxGrace], but never for longer than it had. If the old key expires, the successor gets the same
// lifetime from now, but for the year 9999, which it does not outlive; if not, it does not either. The Key returned is the only copy there is.
//
// It checks nobody's permission: a host whose clients name the id sees to it that the key's Owner is theirs, and that
// they hold its scopes, which the successor has as well, whether or not the Catalog still lists them.
//
// A key rotates once: of many calls, however they interleave, exactly one succeeds. The error matches [ErrNotFound],
// [ErrKeyRevoked], [ErrKeyExpired], [ErrSuperseded] if the key has been rotated already, or [ErrInvalidArgument] if
// the grace is out of range.
func (k *Keyring) Rotate(ctx context.Context, id string, grace time.Duration) (Record, Key, error) {
	r, key, err := k.rotate(ctx, id, grace)
	if err != nil {
		return Record{}, Key{}, failed("rotate key", err)
	}
	return r, key, nil
}

func (k *Keyring) rotate(ctx context.Context, id string, grace time.Duration) (Record, Key, error) {
	if grace < 0 || grace > MaxGrace {
		return Record{}, Key{}, fmt.Errorf("%w: a grace of %v is not between 0 and %v", ErrInvalidArgument, grace, MaxGrace)
	}
	old, err := k.store.Get(ctx, id)
	if err != nil {
		return Record{}, Key{}, err
	}
	now := timestamp(time.Now())
	// A key that was rotated without grace is expired as well; that it was rotated is what its loser wants to hear.
	err = old.check(now)
	if old.ReplacedBy != "" && !errors.Is(err, ErrKeyRevoked) {
		err = ErrSuperseded
	}
	if err != nil {
		return Record{}, Key{}, err
	}
	successor, key := k.mint(Record{
		Name:      old.Name,
		Owner:     old.Owner,
		Scopes:    old.Scopes,
		CreatedAt: now,
		ExpiresAt: successorExpiry(&old, now),
		CreatedBy: old.CreatedBy,
		Replaces:  old.ID,
		Metadata:  old.Metadata,
	})
	if err := k.store.Replace(ctx, successor, now.Add(grace)); err != nil {
		return Record{}, Key{}, err
	}
	return successor.handOut(), key, nil
}

// successorExpiry gives the successor the lifetime that old had; old's own expiry if nobody knows when it was made.
func successorExpiry(old *Record, now time.Time) time.Time {
	if old.ExpiresAt.IsZero() || old.CreatedAt.IsZero() {
		return timestamp(old.ExpiresAt)
	}
	// In microseconds, since a time.Duration ends at 292 years; they in turn end in the year 294246.
	if old.ExpiresAt.Year() > 200_000 {
		return timestamp(old.ExpiresAt)
	}
	expires := time.UnixMicro(now.UnixMicro() + old.ExpiresAt.UnixMicro() - old.CreatedAt.UnixMicro()).UTC()
	if expires.Year() > 9999 && old.ExpiresAt.Year() <= 9999 {
		// The end of 9999 is somebody's "never", and a later year does not fit JSON (RFC 3339 section 1).
		return time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	}
	return expires
}
