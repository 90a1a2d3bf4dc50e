package sqlstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/insigner/auth"
)

// columns are those of a record, in the order in which scan reads and values writes them.
const columns = "id, hash, hint, name, owner, scopes, metadata, created_at, expires_at, revoked_at, last_used_at, " +
	"created_by, replaces, replaced_by"

// Microseconds since 1970 end in the year 294247, a timestamptz 29 years later. Nothing begins before the zero time: it is the start of a list.
var maxTime = time.Date(294247, 1, 1, 0, 0, 0, 0, time.UTC).Add(-time.Microsecond)

var errTime = errors.New("does not fit: a time is in the years 1 to 294246")

// truncate returns t in UTC and microseconds, or an error if it cannot be kept.
func truncate(t time.Time) (time.Time, error) {
	if t.Before(time.Time{}) || t.After(maxTime) {
		return t, errTime
	}
	return time.UnixMicro(t.UnixMicro()).UTC(), nil
}

// A column that is NULL for the zero time must not get it by truncation: it would say that the key never expires.
var errZero = errors.New("is within a microsecond of the zero time, which has a meaning of its own")

func truncateOptional(t time.Time) (time.Time, error) {
	u, err := truncate(t)
	if err == nil && u.IsZero() && !t.IsZero() {
		err = errZero
	}
	return u, err
}

// value returns the parameter for t, which has been truncated.
func (d *dialect) value(t time.Time) any {
	if d.microseconds {
		return t.UnixMicro()
	}
	return t
}

func (d *dialect) optional(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return d.value(t)
}

// values returns the parameters for the columns of r, or an error if r cannot be kept as it is.
func (d *dialect) values(r *auth.Record) ([]any, error) {
	if r.ID == "" {
		return nil, errors.New("the record has no ID")
	}
	for _, text := range [...]struct{ name, value string }{
		{"ID", r.ID}, {"Hint", r.Hint}, {"Name", r.Name}, {"Owner", r.Owner}, {"CreatedBy", r.CreatedBy},
		{"Replaces", r.Replaces}, {"ReplacedBy", r.ReplacedBy},
	} {
		if !storable(text.value) {
			return nil, fmt.Errorf("the record's %s is not valid UTF-8 or holds a NUL", text.name)
		}
	}
	scopes, err := encode(r.Scopes, func(yield func(string)) {
		for _, s := range r.Scopes {
			yield(string(s))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("the record's Scopes: %w", err)
	}
	metadata, err := encode(r.Metadata, func(yield func(string)) {
		for k, v := range r.Metadata {
			yield(k)
			yield(v)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("the record's Metadata: %w", err)
	}
	created, err := truncate(r.CreatedAt)
	if err != nil {
		return nil, fmt.Errorf("the record's CreatedAt %w", err)
	}
	var optional [3]time.Time
	for i, t := range [...]struct {
		name string
		time time.Time
	}{{"ExpiresAt", r.ExpiresAt}, {"RevokedAt", r.RevokedAt}, {"LastUsedAt", r.LastUsedAt}} {
		if optional[i], err = truncateOptional(t.time); err != nil {
			return nil, fmt.Errorf("the record's %s %w", t.name, err)
		}
	}
	return []any{r.ID, r.Hash[:], r.Hint, r.Name, r.Owner, scopes, metadata, d.value(created), d.optional(optional[0]),
		d.optional(optional[1]), d.optional(optional[2]), r.CreatedBy, r.Replaces, r.ReplacedBy}, nil
}

// storable reports whether a text column keeps s as it is. PostgreSQL refuses the rest; so that both databases behave
// alike, so do we.
func storable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// encode returns v as JSON. Package json replaces what is not UTF-8 without a word, so it looks at the strings first.
func encode(v any, each func(yield func(string))) (string, error) {
	valid := true
	each(func(s string) { valid = valid && utf8.ValidString(s) })
	if !valid {
		return "", errors.New("not valid UTF-8")
	}
	text, err := json.Marshal(v)
	return string(text), err
}

// scan reads a row with the columns of a record, in their order.
func scan(row interface{ Scan(...any) error }) (auth.Record, error) {
	var r auth.Record
	err := row.Scan(&r.ID, (*hashColumn)(&r.Hash), &r.Hint, &r.Name, &r.Owner, jsonColumn{&r.Scopes},
		jsonColumn{&r.Metadata}, timeColumn{&r.CreatedAt, false}, timeColumn{&r.ExpiresAt, true},
		timeColumn{&r.RevokedAt, true}, timeColumn{&r.LastUsedAt, true}, &r.CreatedBy, &r.Replaces, &r.ReplacedBy)
	if err != nil {
		return auth.Record{}, err
	}
	return r, nil
}

type hashColumn auth.Hash

func (c *hashColumn) Scan(src any) error {
	b, ok := src.([]byte)
	if !ok || len(b) != len(c) {
		return errors.New("not 32 bytes")
	}
	copy(c[:], b)
	return nil
}

type jsonColumn struct{ dst any }

// Scan fails on whatever encode does not write. The error leaves out the text.
func (c jsonColumn) Scan(src any) error {
	var text []byte
	switch src := src.(type) {
	case string:
		text = []byte(src)
	case []byte:
		text = src
	default:
		return errors.New("not text")
	}
	if !utf8.Valid(text) || json.Unmarshal(text, c.dst) != nil {
		return errors.New("not the JSON that belongs here")
	}
	return nil
}

type timeColumn struct {
	dst      *time.Time
	optional bool
}

// Scan fails on a time that would be taken for none, and on 'infinity', which comes as a string.
func (c timeColumn) Scan(src any) error {
	switch src := src.(type) {
	case nil:
		if c.optional {
			return nil
		}
	case time.Time:
		*c.dst = src.UTC()
		return c.check()
	case int64:
		*c.dst = time.UnixMicro(src).UTC()
		return c.check()
	}
	return errors.New("not a time")
}

func (c timeColumn) check() error {
	if c.optional && c.dst.IsZero() {
		return errZero
	}
	return nil
}
