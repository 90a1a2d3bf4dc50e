package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// A keyJSON is a key as --json has it: the members of the key API, and what
// staff may see.
type keyJSON struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Hint        string            `json:"hint"`
	Owner       string            `json:"owner"`
	Scopes      auth.Scopes       `json:"scopes"`
	CreatedAt   string            `json:"createdAt"`
	CreatedBy   string            `json:"createdBy"`
	UpdatedAt   *string           `json:"updatedAt"`
	UpdatedBy   string            `json:"updatedBy"`
	ExpiresAt   *string           `json:"expiresAt"`
	DisabledAt  *string           `json:"disabledAt"`
	RevokedAt   *string           `json:"revokedAt"`
	LastUsedAt  *string           `json:"lastUsedAt"`
	RotatedFrom *string           `json:"rotatedFrom"`
	RotatedTo   *string           `json:"rotatedTo"`
	Chain       string            `json:"chain"`
	Status      string            `json:"status"`
	Revision    int64             `json:"revision"`
	Metadata    map[string]string `json:"metadata"`

	Key string `json:"key,omitempty"` // the secret of a key that was just made; nothing else has one
}

func (a *app) jsonOf(r *auth.Record) keyJSON {
	k := keyJSON{
		ID:          r.ID,
		Name:        r.Name,
		Hint:        r.Hint,
		Owner:       r.Owner,
		Scopes:      r.Scopes,
		CreatedAt:   jsonTime(r.CreatedAt),
		CreatedBy:   r.CreatedBy,
		UpdatedAt:   optionalTime(r.UpdatedAt),
		UpdatedBy:   r.UpdatedBy,
		ExpiresAt:   optionalTime(r.ExpiresAt),
		DisabledAt:  optionalTime(r.DisabledAt),
		RevokedAt:   optionalTime(r.RevokedAt),
		LastUsedAt:  optionalTime(r.LastUsedAt),
		RotatedFrom: optional(r.RotatedFrom),
		RotatedTo:   optional(r.RotatedTo),
		Chain:       r.Chain,
		Status:      a.statusOf(r),
		Revision:    r.Revision,
		Metadata:    r.Metadata,
	}
	if k.Metadata == nil {
		k.Metadata = map[string]string{}
	}
	return k
}

// jsonTime returns t as JSON has it.
func jsonTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// optionalTime returns nil for the zero time, which is null in JSON.
func optionalTime(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return new(jsonTime(t))
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// statusOf returns the state of a key.
func (a *app) statusOf(r *auth.Record) string { return keyring.StateOf(r, a.now()).String() }

// scopesText returns the scopes for people.
func scopesText(scopes auth.Scopes) string {
	if len(scopes) == 0 {
		return "(none)"
	}
	texts := make([]string, len(scopes))
	for i, s := range scopes {
		texts[i] = string(s)
	}
	return strings.Join(texts, ",")
}

// title returns a key as messages name it.
func title(r *auth.Record) string {
	return fmt.Sprintf("%s (%s of %s)", r.ID, orNone(r.Name), orNone(r.Owner))
}

func orNone(text string) string {
	if text == "" {
		return "(none)"
	}
	return text
}

// showKey writes a key to the standard output.
func (a *app) showKey(r *auth.Record) error {
	if a.json {
		return a.writeJSON(a.jsonOf(r))
	}
	lines := [][2]string{
		{"ID", r.ID},
		{"Name", r.Name},
		{"Owner", r.Owner},
		{"Status", a.statusOf(r)},
		{"Hint", r.Hint},
		{"Scopes", scopesText(r.Scopes)},
		{"Expires", timeOr(r.ExpiresAt, "never")},
		{"Last used", timeOr(r.LastUsedAt, "never, or not recorded")},
		{"Created", timeText(r.CreatedAt) + " by " + orNone(r.CreatedBy)},
		{"Changed", timeOr(r.UpdatedAt, "(unknown)") + " by " + orNone(r.UpdatedBy)},
		{"Revision", strconv.FormatInt(r.Revision, 10)},
	}
	for _, l := range [][2]string{
		{"Disabled", timeOr(r.DisabledAt, "")},
		{"Revoked", timeOr(r.RevokedAt, "")},
		{"Rotated from", r.RotatedFrom},
		{"Rotated to", r.RotatedTo},
	} {
		if l[1] != "" {
			lines = append(lines, l)
		}
	}
	names := make([]string, 0, len(r.Metadata))
	for name := range r.Metadata {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		lines = append(lines, [2]string{"Metadata", name + "=" + r.Metadata[name]})
	}
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%-13s %s\n", l[0]+":", printable(l[1]))
	}
	_, err := io.WriteString(a.stdout, b.String())
	return err
}

// showSecret writes a key that was just made: alone on its line, or as the
// member key of the record. If that fails, nobody has it.
func (a *app) showSecret(r *auth.Record, key auth.Key) error {
	var err error
	if a.json {
		k := a.jsonOf(r)
		k.Key = key.Reveal()
		err = a.writeJSON(k)
	} else {
		_, err = io.WriteString(a.stdout, key.Reveal()+"\n")
	}
	if err != nil {
		return &failure{code: "KEY_LOST", exit: exitFailed, more: map[string]any{"id": r.ID},
			message: fmt.Sprintf("the key %s was made, but could not be written, and nobody has it: run isk revoke %s (%v)",
				r.ID, r.ID, fileError(err))}
	}
	return nil
}
