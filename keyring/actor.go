package keyring

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/insigner/auth"
)

// MaxGrace is the longest time for which a rotated key stays valid.
const MaxGrace = 30 * 24 * time.Hour

const (
	maxText          = 255 // bytes of a name, an owner or an actor
	maxScopes        = 256 // of one key
	maxMetadata      = 64  // entries of one key
	maxMetadataBytes = 16 << 10

	staffPrefix = "staff:" // of the actor of an unconfined Keyring
	sqlPrefix   = "sql:"   // of a change that a database saw
)

// maxTime is the last expiry that JSON can hold (RFC 3339 section 1), and that
// every store can keep.
var maxTime = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)

// An Actor is somebody who manages keys through [Manager.For]: a customer who
// is signed in, or a key. The host fills it in from what it knows about the
// request, never from what the client says.
type Actor struct {
	// Name says who it is: a user ID or an address. It becomes CreatedBy and
	// UpdatedBy of the keys, and By of the events. It has at most 255 bytes and
	// does not begin with "staff:" or "sql:".
	Name string

	// Owner is the organization or account whose keys the actor manages. If it
	// is empty, the actor can do nothing.
	Owner string

	// Scopes are what the actor may grant. If nil or empty, it may grant
	// nothing.
	Scopes auth.Scopes

	// ExpiresAt, if not zero, is the latest expiry that the actor may set.
	// When it has passed, the actor can do nothing.
	ExpiresAt time.Time
}

// ActorOf returns a key as an Actor, for a key that manages keys: its ID,
// owner, scopes and expiry.
func ActorOf(r auth.Record) Actor {
	return Actor{Name: r.ID, Owner: r.Owner, Scopes: slices.Clone(r.Scopes), ExpiresAt: r.ExpiresAt}
}

// A permission is what a Keyring may do, and for whom. All rules for a confined
// Keyring are here. The zero permission is confined and has no owner, so it may
// do nothing.
type permission struct {
	actor       Actor // of an unconfined one, the Name alone
	unconfined  bool
	maxKeys     int
	maxLifetime time.Duration
	invalid     error // why actor cannot act; it is found out when the Keyring is made
}

func confined(a Actor, maxKeys int, maxLifetime time.Duration) permission {
	a.Scopes = slices.Clone(a.Scopes)
	p := permission{actor: a, maxKeys: maxKeys, maxLifetime: maxLifetime}
	for _, prefix := range []string{staffPrefix, sqlPrefix} {
		if strings.HasPrefix(a.Name, prefix) {
			p.invalid = invalid("Actor", "the name of the actor begins with %q", prefix)
			return p
		}
	}
	if p.invalid = checkText("Actor", "name of the actor", a.Name); p.invalid == nil {
		p.invalid = checkText("Actor", "owner of the actor", a.Owner)
	}
	return p
}

func unconfined(by string) permission {
	p := permission{actor: Actor{Name: staffPrefix + by}, unconfined: true}
	p.invalid = checkText("Actor", "name of the actor", p.actor.Name)
	return p
}

// act returns an error if the actor can do nothing at all.
func (p *permission) act(now time.Time) error {
	switch expires := p.actor.ExpiresAt; {
	case p.invalid != nil:
		return p.invalid
	case p.unconfined:
		return nil
	case p.actor.Owner == "":
		return invalid("Actor", "the actor has no owner")
	case !expires.IsZero() && !timestamp(expires).After(now):
		return invalid("Actor", "the actor has expired")
	}
	return nil
}

// see reports whether the keys of owner exist for the actor.
func (p *permission) see(owner string) bool {
	return p.unconfined || p.actor.Owner != "" && p.actor.Owner == owner
}

// owner returns the owner that asked stands for, in a Spec or a filter.
func (p *permission) owner(asked string) (string, error) {
	if p.unconfined {
		return asked, checkText("Owner", "owner", asked)
	}
	if asked != "" && asked != p.actor.Owner {
		return "", invalid("Owner", "the owner is not that of the actor")
	}
	return p.actor.Owner, nil
}

// grant returns an error if the actor does not cover one of scopes. Field is
// the argument that asks for them.
func (p *permission) grant(field string, scopes auth.Scopes) error {
	for i, s := range scopes {
		if !p.holds(s) {
			return notHeld(field, i, s)
		}
	}
	return nil
}

// change returns an error if the actor may not replace the scopes before by
// after. A scope may stay, and what the old scopes covered may be listed.
func (p *permission) change(before, after auth.Scopes) error {
	for i, s := range after {
		if !slices.Contains(before, s) && !before.Covers(s) && !p.holds(s) {
			return notHeld("Scopes", i, s)
		}
	}
	return nil
}

func (p *permission) holds(s auth.Scope) bool { return p.unconfined || p.actor.Scopes.Covers(s) }

// notHeld refuses scope i of a field. It speaks of the actor, not of the key
// that is managed.
func notHeld(field string, i int, s auth.Scope) error {
	refused := invalid(field, "the actor does not hold the scope %s", quote(string(s)))
	refused.sentinel = auth.ErrInsufficientScope
	if field == "Scopes" {
		refused.Element = strconv.Itoa(i)
	}
	return refused
}

// latest returns the latest expiry that the actor may set, or the zero time if
// there is no limit.
func (p *permission) latest(now time.Time) time.Time {
	if p.unconfined {
		return time.Time{}
	}
	limit := timestamp(p.actor.ExpiresAt)
	if p.maxLifetime > 0 {
		limit = earlier(limit, timestamp(now.Add(p.maxLifetime)))
	}
	if limit.IsZero() {
		return limit
	}
	return earlier(limit, maxTime)
}

// expiry returns the expiry of a new key for which asked is asked. The zero
// time becomes the latest that is permitted.
func (p *permission) expiry(asked, now time.Time) (time.Time, error) {
	expires, err := checkExpiry(asked, now)
	if err != nil {
		return time.Time{}, err
	}
	limit := p.latest(now)
	if !later(expires, limit) {
		return expires, nil
	}
	if expires.IsZero() {
		return checkExpiry(limit, now)
	}
	return time.Time{}, invalid("ExpiresAt", "the expiry is later than %s, the latest that is permitted", limit.Format(time.RFC3339))
}

// changedExpiry is expiry for a key that expired at before so far. An earlier
// expiry is always permitted, and so is no change.
func (p *permission) changedExpiry(before, asked, now time.Time) (time.Time, error) {
	if timestamp(asked).Equal(timestamp(before)) && asked.IsZero() == before.IsZero() {
		return before, nil
	}
	if !asked.IsZero() && !later(asked, before) {
		return checkExpiry(asked, now)
	}
	return p.expiry(asked, now)
}

// successorExpiry returns the expiry of the successor of r: the lifetime that r
// had, counted from now, as far as it is permitted.
func (p *permission) successorExpiry(r *auth.Record, now time.Time) time.Time {
	expires := timestamp(r.ExpiresAt)
	if expires.After(maxTime) {
		expires = maxTime
	}
	// Without a lifetime that makes sense, the successor expires when r does.
	if !expires.IsZero() && !r.CreatedAt.IsZero() && expires.After(r.CreatedAt) {
		// In microseconds, since a time.Duration ends at 292 years.
		expires = time.UnixMicro(now.UnixMicro() + expires.UnixMicro() - r.CreatedAt.UnixMicro()).UTC()
	}
	if expires.After(maxTime) {
		expires = maxTime
	}
	if limit := p.latest(now); later(expires, limit) {
		return limit
	}
	return expires
}

// room returns an error if the owner has n keys, and limit are permitted.
func (p *permission) room(n, limit int) error {
	if p.unconfined || n < limit {
		return nil
	}
	return fmt.Errorf("%w: the owner has %d, and at most %d are permitted", ErrTooManyKeys, n, limit)
}

// hasExpired reports whether r has expired, be it disabled or not.
func hasExpired(r *auth.Record, now time.Time) bool {
	return !r.ExpiresAt.IsZero() && !r.ExpiresAt.Round(0).After(now)
}

// later reports whether a key that expires at a outlives one that expires at b.
// The zero time is never.
func later(a, b time.Time) bool { return !b.IsZero() && (a.IsZero() || a.After(b)) }

// earlier returns the earlier of two expiries.
func earlier(a, b time.Time) time.Time {
	if later(a, b) {
		return b
	}
	return a
}

// timestamp returns t as every store can keep it: to the microsecond, in UTC,
// by the wall clock.
func timestamp(t time.Time) time.Time { return t.Truncate(time.Microsecond).UTC() }

// checkExpiry returns t as it is stored, or an error if no key can expire then.
func checkExpiry(t, now time.Time) (time.Time, error) {
	expires := timestamp(t)
	switch {
	case t.IsZero():
		return time.Time{}, nil
	case !expires.After(now):
		return time.Time{}, invalid("ExpiresAt", "the expiry is not in the future")
	case expires.After(maxTime):
		return time.Time{}, invalid("ExpiresAt", "the expiry is after the year 9999 in UTC")
	}
	return expires, nil
}

func checkName(name string) error {
	visible := func(c rune) bool { return unicode.IsGraphic(c) && !unicode.IsSpace(c) }
	if err := checkText("Name", "name", name); err != nil {
		return err
	}
	if !strings.ContainsFunc(name, visible) {
		return invalid("Name", "the name is blank")
	}
	return nil
}

// checkText returns an error if a text of at most 255 bytes cannot be stored.
// What is the word for field.
func checkText(field, what, s string) error {
	if len(s) > maxText {
		return invalid(field, "the %s has %d bytes; at most %d are permitted", what, len(s), maxText)
	}
	if !storable(s) {
		return notStorable(field, what)
	}
	return nil
}

// storable reports whether every database takes s.
func storable(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

func notStorable(field, what string) *ArgumentError {
	return invalid(field, "the %s is not valid UTF-8, or holds a NUL", what)
}

// checkMetadata returns an error if after cannot replace before. What is in
// before already is not checked again.
func checkMetadata(before, after map[string]string) error {
	const field = "Metadata"
	for key, value := range after {
		if old, ok := before[key]; ok && old == value {
			continue
		}
		if !storable(key) || !storable(value) {
			refused := notStorable(field, "metadata")
			refused.Element = key
			return refused
		}
	}
	if n := len(after); n > max(maxMetadata, len(before)) {
		return invalid(field, "the metadata has %d entries; at most %d are permitted", n, maxMetadata)
	}
	if n := metadataBytes(after); n > max(maxMetadataBytes, metadataBytes(before)) {
		return invalid(field, "the metadata has %d bytes; at most %d are permitted", n, maxMetadataBytes)
	}
	return nil
}

func metadataBytes(m map[string]string) (n int) {
	for key, value := range m {
		n += len(key) + len(value)
	}
	return n
}

// checkScopes returns an error if after cannot replace before. A scope that is
// in before already is not checked again.
func checkScopes(catalog auth.Catalog, before, after auth.Scopes) error {
	const field = "Scopes"
	if n := len(after); n > max(maxScopes, len(before)) {
		return invalid(field, "the key has %d scopes; at most %d are permitted", n, maxScopes)
	}
	for i, s := range after {
		if slices.Contains(before, s) {
			continue
		}
		if err := catalog.Validate(s); err != nil {
			refused := invalid(field, "%s", strings.TrimPrefix(err.Error(), "auth: "))
			refused.Element = strconv.Itoa(i)
			return refused
		}
	}
	return nil
}

// quote quotes what a caller asked for, unless it could be a key in the wrong
// place.
func quote(s string) string {
	run := 0
	for i := range len(s) {
		if run++; strings.IndexByte(keyChars, s[i]) < 0 {
			run = 0
		}
		if run >= 32 {
			return "(not shown: " + strconv.Itoa(len(s)) + " bytes that may hold a key)"
		}
	}
	return strconv.Quote(s[:min(len(s), 100)])
}

const keyChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
