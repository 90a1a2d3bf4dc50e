package keyapi

import (
	"reflect"
	"strings"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

var eventKinds = []keyring.EventKind{keyring.EventCreated, keyring.EventUpdated, keyring.EventRotated,
	keyring.EventDisabled, keyring.EventEnabled, keyring.EventRevoked, keyring.EventDeleted}

// An event is a change as clients see it.
type event struct {
	ID      string                  `json:"id"`
	Time    string                  `json:"time"`
	Kind    keyring.EventKind       `json:"kind"`
	KeyID   string                  `json:"keyId"`
	By      string                  `json:"by"`
	Changes map[string]memberChange `json:"changes"`
}

// A memberChange is what a member of a key was and became. Null stands for a
// key that was not there, too.
type memberChange struct {
	From any `json:"from"`
	To   any `json:"to"`
}

func (h *handler) eventOf(e *keyring.Event) event {
	return event{
		ID:      e.ID,
		Time:    timeText(e.Time),
		Kind:    e.Kind,
		KeyID:   e.KeyID,
		By:      actorName(e.By),
		Changes: h.changes(e),
	}
}

// actorName returns who made a change, as customers see it.
func actorName(by string) string {
	if strings.HasPrefix(by, "staff:") || strings.HasPrefix(by, "sql:") {
		return "Support"
	}
	return by
}

// changes returns the members that the event changed.
func (h *handler) changes(e *keyring.Event) map[string]memberChange {
	changes := make(map[string]memberChange)
	if e.Before == nil && e.Kind != keyring.EventCreated || e.After == nil && e.Kind != keyring.EventDeleted {
		return changes // one of the records is not theirs to see
	}
	before, after := h.members(e.Before), h.members(e.After)
	for name := range h.members(new(auth.Record)) {
		if from, to := before[name], after[name]; !reflect.DeepEqual(from, to) {
			changes[name] = memberChange{from, to}
		}
	}
	return changes
}

// members returns what can change in a record, as JSON has it, or nothing if
// there is no record.
func (h *handler) members(r *auth.Record) map[string]any {
	if r == nil {
		return nil
	}
	members := map[string]any{
		"name":        r.Name,
		"scopes":      append(auth.Scopes{}, r.Scopes...),
		"expiresAt":   orNull(optionalTime(r.ExpiresAt)),
		"disabledAt":  orNull(optionalTime(r.DisabledAt)),
		"revokedAt":   orNull(optionalTime(r.RevokedAt)),
		"rotatedFrom": orNull(optional(r.RotatedFrom)),
		"rotatedTo":   orNull(optional(r.RotatedTo)),
	}
	if len(h.metadata) > 0 {
		members["metadata"] = h.visible(r.Metadata)
	}
	return members
}

// orNull returns what p points to, or a nil interface.
func orNull(p *string) any {
	if p == nil {
		return nil
	}
	return *p
}
