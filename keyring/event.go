package keyring

import (
	"maps"
	"slices"
	"time"

	"github.com/insigner/auth"
)

// EventOf returns the [Event] of a change that turned before into after. It is
// for stores. If before is nil, the key was created. If after is nil, it was
// deleted. The event holds copies of both, and by and at as they are given. Its
// ID is empty.
//
// The Kind is the first of these that applies:
//   - "created" or "deleted",
//   - "rotated" if RotatedTo is set for the first time,
//   - "revoked" if RevokedAt is set for the first time,
//   - "disabled" or "enabled" if DisabledAt is set or cleared,
//   - "updated" if anything else changed,
//   - "" if nothing changed. UpdatedAt, UpdatedBy, Revision and LastUsedAt
//     alone are no change.
func EventOf(before, after *auth.Record, by string, at time.Time) Event {
	return eventOf(cloned(before), cloned(after), by, at)
}

// eventOf is EventOf without the copies: the event shares the records.
func eventOf(before, after *auth.Record, by string, at time.Time) Event {
	e := Event{Time: at, Kind: kindOf(before, after), By: by, Before: before, After: after}
	r := after
	if r == nil {
		r = before
	}
	if r != nil {
		e.KeyID, e.Owner, e.Revision = r.ID, r.Owner, r.Revision
	}
	return e
}

func kindOf(before, after *auth.Record) EventKind {
	switch {
	case before == nil && after == nil:
		return ""
	case before == nil:
		return EventCreated
	case after == nil:
		return EventDeleted
	case before.RotatedTo == "" && after.RotatedTo != "":
		return EventRotated
	case before.RevokedAt.IsZero() && !after.RevokedAt.IsZero():
		return EventRevoked
	case before.DisabledAt.IsZero() && !after.DisabledAt.IsZero():
		return EventDisabled
	case !before.DisabledAt.IsZero() && after.DisabledAt.IsZero():
		return EventEnabled
	case changedField(before, after) != "":
		return EventUpdated
	default:
		return ""
	}
}

// changedField returns the name of a field in which a and b differ, or "". Nil
// and empty are equal, and so are two readings of one moment. It ignores
// UpdatedAt, UpdatedBy, Revision and LastUsedAt.
func changedField(a, b *auth.Record) string {
	if !slices.Equal(a.Scopes, b.Scopes) {
		return "Scopes"
	}
	if !maps.Equal(a.Metadata, b.Metadata) {
		return "Metadata"
	}
	if a.Name != b.Name {
		return "Name"
	}
	if !a.ExpiresAt.Equal(b.ExpiresAt) {
		return "ExpiresAt"
	}
	return changedFixedField(a, b)
}

// changedFixedField is changedField without the fields that Update may change.
func changedFixedField(a, b *auth.Record) string {
	for _, f := range []struct {
		name string
		same bool
	}{
		{"ID", a.ID == b.ID},
		{"Hash", a.Hash == b.Hash},
		{"Hint", a.Hint == b.Hint},
		{"Owner", a.Owner == b.Owner},
		{"CreatedAt", a.CreatedAt.Equal(b.CreatedAt)},
		{"CreatedBy", a.CreatedBy == b.CreatedBy},
		{"DisabledAt", a.DisabledAt.Equal(b.DisabledAt)},
		{"RevokedAt", a.RevokedAt.Equal(b.RevokedAt)},
		{"RotatedFrom", a.RotatedFrom == b.RotatedFrom},
		{"RotatedTo", a.RotatedTo == b.RotatedTo},
		{"Chain", a.Chain == b.Chain},
	} {
		if !f.same {
			return f.name
		}
	}
	return ""
}

// cloned returns a copy of r, which may be nil.
func cloned(r *auth.Record) *auth.Record {
	if r == nil {
		return nil
	}
	return r.Clone()
}
