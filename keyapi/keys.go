package keyapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// A key is a record as clients see it.
type key struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Hint        string            `json:"hint"`
	Owner       string            `json:"owner"`
	Scopes      auth.Scopes       `json:"scopes"`
	CreatedAt   string            `json:"createdAt"`
	ExpiresAt   *string           `json:"expiresAt"`
	DisabledAt  *string           `json:"disabledAt"`
	RevokedAt   *string           `json:"revokedAt"`
	LastUsedAt  *string           `json:"lastUsedAt"`
	RotatedFrom *string           `json:"rotatedFrom"`
	RotatedTo   *string           `json:"rotatedTo"`
	Status      string            `json:"status"`
	Revision    int64             `json:"revision"`
	Metadata    map[string]string `json:"metadata,omitzero"`

	Secret      string   `json:"key,omitempty"`        // of a key that was just made
	RevokedKeys []string `json:"revokedKeys,omitzero"` // of a revocation with andCreated
}

func (h *handler) keyOf(r *auth.Record) key {
	return key{
		ID:          r.ID,
		Name:        r.Name,
		Hint:        r.Hint,
		Owner:       r.Owner,
		Scopes:      r.Scopes,
		CreatedAt:   timeText(r.CreatedAt),
		ExpiresAt:   optionalTime(r.ExpiresAt),
		DisabledAt:  optionalTime(r.DisabledAt),
		RevokedAt:   optionalTime(r.RevokedAt),
		LastUsedAt:  optionalTime(r.LastUsedAt),
		RotatedFrom: optional(r.RotatedFrom),
		RotatedTo:   optional(r.RotatedTo),
		Status:      keyring.StateOf(r, time.Now()).String(),
		Revision:    r.Revision,
		Metadata:    h.visible(r.Metadata),
	}
}

// visible returns the entries that clients see, or nil if there can be none.
func (h *handler) visible(metadata map[string]string) map[string]string {
	if len(h.metadata) == 0 {
		return nil
	}
	entries := make(map[string]string)
	for _, name := range h.metadata {
		if value, ok := metadata[name]; ok {
			entries[name] = value
		}
	}
	return entries
}

// timeText returns t as JSON has it. A record that was written with SQL may
// have a time that RFC 3339 cannot express.
func timeText(t time.Time) string {
	t = t.UTC()
	switch {
	case t.Year() < 0:
		t = time.Time{}
	case t.Year() > 9999:
		t = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	return t.Format(time.RFC3339Nano)
}

// optionalTime returns nil for the zero time, which is null in JSON.
func optionalTime(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return new(timeText(t))
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// writeKey answers with a key, and with its secret if there is one.
func (c *call) writeKey(status int, r *auth.Record, secret auth.Key) error {
	if status == http.StatusCreated {
		c.w.Header().Set("Location", c.location(r.ID))
	}
	k := c.keyOf(r)
	k.Secret = secret.Reveal()
	c.w.Header().Set("Etag", entityTag(r))
	c.write(status, plainJSON, k)
	return nil
}

// location returns where a key is, relative to the URI that the client asked for:
// a proxy or http.StripPrefix may have changed the path (RFC 9110 section
// 10.2.2).
func (c *call) location(id string) string {
	path, _, _ := strings.Cut(c.r.RequestURI, "?")
	stem, slash := strings.CutSuffix(path, "/")
	rotates := strings.HasSuffix(stem, "/rotate")
	up := ""
	switch {
	case rotates && slash:
		up = "../../"
	case rotates:
		up = "../"
	case !slash:
		up = path[strings.LastIndexByte(path, '/')+1:] + "/"
	}
	return "./" + up + url.PathEscape(id) // "./" since an ID may have a colon
}

func (c *call) get() error {
	if _, err := c.query(); err != nil {
		return err
	}
	check, err := c.preconditions()
	if err != nil {
		return err
	}
	r, err := c.keys.Get(c.r.Context(), c.id)
	if err != nil {
		return err
	}
	switch err := check(&r); {
	case err == errNotModified:
		c.w.Header().Set("Etag", entityTag(&r))
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	case err != nil:
		return err
	}
	return c.writeKey(http.StatusOK, &r, auth.Key{})
}

func (c *call) create() error {
	if _, err := c.query(); err != nil {
		return err
	}
	once, err := c.idempotencyKey()
	if err != nil {
		return err
	}
	asked, err := c.change()
	if err != nil {
		return err
	}
	var spec keyring.Spec
	if asked.name != nil {
		spec.Name = *asked.name
	}
	if asked.scopes != nil {
		spec.Scopes = scopesOf(*asked.scopes)
	}
	if asked.expiresAt != nil {
		spec.ExpiresAt = *asked.expiresAt
	}
	spec.Metadata = merged(nil, asked.metadata)
	asks := digest(&spec)
	if once != "" {
		// The keys of a host's own Spec.Once are out of a client's reach.
		spec.Once = ofClient + once
		spec.Metadata[DigestEntry] = asks
	}
	r, secret, err := c.keys.Create(c.r.Context(), spec)
	if first, ok := errors.AsType[*keyring.ExistsError](err); ok {
		return c.replay(&first.Record, asks)
	}
	if err != nil {
		return err
	}
	if err := c.checkMade(r); err != nil {
		return err
	}
	return c.writeKey(http.StatusCreated, &r, secret)
}

const (
	ofClient = "keyapi " // starts the Spec.Once of a client
	maxOnce  = maxText - len(ofClient)
)

// idempotencyKey returns the Idempotency-Key of the request, or "".
func (c *call) idempotencyKey() (string, error) {
	const field = "Idempotency-Key"
	values := c.r.Header.Values(field)
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", c.badParameter(field, "The field occurs twice")
	case values[0] == "" || len(values[0]) > maxOnce:
		return "", c.badParameter(field, fmt.Sprintf("Idempotency-Key must have 1 to %d characters", maxOnce))
	case strings.ContainsFunc(values[0], func(r rune) bool { return r < ' ' || r > '~' }):
		return "", c.badParameter(field, "Idempotency-Key must be printable ASCII")
	}
	return values[0], nil
}

// digest returns a digest of what spec asks for. The form of the JSON does not
// matter.
func digest(spec *keyring.Spec) string {
	text, err := json.Marshal([]any{spec.Name, spec.Scopes, spec.ExpiresAt, spec.Metadata})
	if err != nil {
		panic("keyapi: " + err.Error()) // all of it came out of JSON
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// replay answers a repeated request with the key of the first.
func (c *call) replay(first *auth.Record, asked string) error {
	if first.Metadata[DigestEntry] != asked {
		p := c.problem(http.StatusUnprocessableEntity, "IDEMPOTENCY_KEY_REUSED",
			"This Idempotency-Key was used for another request, or that can no longer be checked; use a new one")
		p.Parameter = "Idempotency-Key"
		return p
	}
	c.w.Header().Set("Idempotency-Replayed", "true")
	return c.writeKey(http.StatusOK, first, auth.Key{})
}

func scopesOf(texts []string) auth.Scopes {
	scopes := make(auth.Scopes, len(texts))
	for i, s := range texts {
		scopes[i] = auth.Scope(s)
	}
	return scopes
}

// merged returns the metadata with the entries set or removed.
func merged(metadata map[string]string, entries map[string]*string) map[string]string {
	merged := maps.Clone(metadata)
	if merged == nil {
		merged = make(map[string]string)
	}
	for name, value := range entries {
		if value == nil {
			delete(merged, name)
		} else {
			merged[name] = *value
		}
	}
	return merged
}

func (c *call) update() error {
	if _, err := c.query(); err != nil {
		return err
	}
	check, err := c.preconditions()
	if err != nil {
		return err
	}
	asked, err := c.change()
	if err != nil {
		return err
	}
	r, err := c.keys.Update(c.r.Context(), c.id, func(r *auth.Record) error {
		if err := check(r); err != nil {
			return err
		}
		if asked.name != nil {
			r.Name = *asked.name
		}
		if asked.scopes != nil {
			r.Scopes = scopesOf(*asked.scopes)
		}
		if asked.expiresAt != nil {
			r.ExpiresAt = *asked.expiresAt
		}
		if asked.metadata != nil {
			r.Metadata = merged(r.Metadata, asked.metadata)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.writeKey(http.StatusOK, &r, auth.Key{})
}

func (c *call) delete() error {
	if err := c.none(); err != nil {
		return err
	}
	if err := c.checkPreconditions(); err != nil {
		return err
	}
	if err := c.keys.Delete(c.r.Context(), c.id); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (c *call) rotate() error {
	if _, err := c.query(); err != nil {
		return err
	}
	members, err := c.body("graceSeconds")
	if err != nil {
		return err
	}
	var grace time.Duration
	if value, ok := members["graceSeconds"]; ok {
		if grace, err = c.graceSeconds(value); err != nil {
			return err
		}
	}
	if err := c.checkPreconditions(); err != nil {
		return err
	}
	r, secret, err := c.keys.Rotate(c.r.Context(), c.id, grace)
	if err != nil {
		return err
	}
	if err := c.checkMade(r); err != nil {
		return err
	}
	return c.writeKey(http.StatusCreated, &r, secret)
}

func (c *call) disable() error { return c.set((*keyring.Keyring).Disable) }
func (c *call) enable() error  { return c.set((*keyring.Keyring).Enable) }

// self answers with the key of the request, and with what limits it in managing
// keys.
func (c *call) self() error {
	if _, err := c.query(); err != nil {
		return err
	}
	type limits struct {
		MaxKeys            int    `json:"maxKeys"`
		MaxGraceSeconds    int64  `json:"maxGraceSeconds"`
		MaxLifetimeSeconds *int64 `json:"maxLifetimeSeconds"`
	}
	type answer struct {
		ID        string      `json:"id"`
		Name      string      `json:"name"`
		Hint      string      `json:"hint"`
		Scopes    auth.Scopes `json:"scopes"`
		ExpiresAt *string     `json:"expiresAt"`
		Revision  int64       `json:"revision"`
		Limits    limits      `json:"limits"`
	}
	opts := c.manager.Options()
	l := limits{MaxKeys: opts.MaxKeys, MaxGraceSeconds: int64(keyring.MaxGrace / time.Second)}
	if opts.MaxLifetime > 0 {
		l.MaxLifetimeSeconds = new(int64(opts.MaxLifetime / time.Second))
	}
	c.w.Header().Set("Etag", entityTag(c.key))
	c.write(http.StatusOK, plainJSON, answer{c.key.ID, c.key.Name, c.key.Hint, c.key.Scopes, optionalTime(c.key.ExpiresAt),
		c.key.Revision, l})
	return nil
}
