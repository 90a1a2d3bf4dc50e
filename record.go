package auth

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"
)

// A Record is what a [Store] knows about a key. It never holds the key itself.
//
// A Record keeps its Hash out of fmt, slog and JSON. Its JSON members are in
// camelCase.
type Record struct {
	ID    string `json:"id"`   // public identifier, safe in logs and URLs
	Hint  string `json:"hint"` // "isk_…U1v2", see Key.Hint
	Name  string `json:"name"`
	Owner string `json:"owner,omitempty"` // organization or account that the key acts for
	Hash  Hash   `json:"-"`

	Scopes   Scopes            `json:"scopes"`
	Metadata map[string]string `json:"metadata,omitempty"`

	CreatedAt time.Time `json:"createdAt"`
	CreatedBy string    `json:"createdBy,omitempty"` // who created it

	// The newest change and who made it. A use is not a change.
	UpdatedAt time.Time `json:"updatedAt,omitzero"`
	UpdatedBy string    `json:"updatedBy,omitempty"`

	// Revision is 1 when the record is created, and one more with each change.
	// A key created with keyring.Spec.Once starts with a higher one.
	Revision int64 `json:"revision"`

	ExpiresAt  time.Time `json:"expiresAt,omitzero"`  // if zero, never
	DisabledAt time.Time `json:"disabledAt,omitzero"` // if zero, not disabled
	RevokedAt  time.Time `json:"revokedAt,omitzero"`  // if zero, not revoked
	LastUsedAt time.Time `json:"lastUsedAt,omitzero"` // if zero, not used

	RotatedFrom string `json:"rotatedFrom,omitempty"` // ID of the key that this one replaced
	RotatedTo   string `json:"rotatedTo,omitempty"`   // ID of the key that replaced this one

	// Chain is the ID of the first key of its rotations. For that first key it
	// is the key's own ID.
	Chain string `json:"chain,omitempty"`
}

// Check returns the first of these that applies, or nil: [ErrKeyRevoked] if
// RevokedAt is set, [ErrKeyDisabled] if DisabledAt is set, at any time,
// and [ErrKeyExpired] if ExpiresAt is set and not after now. It compares wall
// clocks and ignores time zones and monotonic readings.
func (r *Record) Check(now time.Time) error {
	if !r.RevokedAt.IsZero() {
		return ErrKeyRevoked
	}
	if !r.DisabledAt.IsZero() {
		return ErrKeyDisabled
	}
	// Round(0) strips the monotonic reading, which stops while a machine
	// sleeps.
	if !r.ExpiresAt.IsZero() && !r.ExpiresAt.Round(0).After(now) {
		return ErrKeyExpired
	}
	return nil
}

// Clone returns a copy that shares no memory with r.
func (r *Record) Clone() *Record {
	c := *r
	c.Scopes = slices.Clone(r.Scopes)
	c.Metadata = maps.Clone(r.Metadata)
	return &c
}

// String returns the ID and the Hint, on one line.
func (r Record) String() string { return oneLine(r.ID) + " (" + oneLine(r.Hint) + ")" }

// Format writes what String returns, for every verb but %p, %T and %w, which
// package fmt does not pass on.
func (r Record) Format(f fmt.State, verb rune) { io.WriteString(f, r.String()) }

// LogValue returns the ID, the Hint, the Name and the Owner.
func (r Record) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", r.ID), slog.String("hint", r.Hint),
		slog.String("name", r.Name), slog.String("owner", r.Owner))
}
