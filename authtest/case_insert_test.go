package authtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"html"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// inserting breaks what Insert makes of a record. A successor is inserted as it
// should be.
func inserting(f func(r *auth.Record)) func(t *table) {
	return func(t *table) {
		t.onInsert = func(_ context.Context, r *auth.Record) error {
			r = r.Clone()
			f(r)
			return t.insert(r)
		}
	}
}

// always breaks what is made of each record that is inserted.
func always(f func(r *auth.Record)) func(t *table) { return func(t *table) { t.inserts = f } }

// refusing breaks a table that refuses some rows.
func refusing(refused func(r *auth.Record) bool) func(t *table) {
	return func(t *table) {
		t.refuses = append(t.refuses, func(r *auth.Record) error {
			if refused(r) {
				return errors.New("data too long for column")
			}
			return nil
		})
	}
}

// wallClock returns the time that a clock on the wall shows, as if it were UTC.
func wallClock(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.Add(time.Duration(offset) * time.Second).UTC()
}

// joined returns scopes that were joined by sep and split again.
func joined(scopes auth.Scopes, sep string) auth.Scopes {
	var texts []string
	for _, s := range scopes {
		texts = append(texts, string(s))
	}
	var list auth.Scopes
	for s := range strings.SplitSeq(strings.Join(texts, sep), sep) {
		if s != "" {
			list = append(list, auth.Scope(s))
		}
	}
	return list
}

var insertFaults = []fault{
	{"the Hint is not kept", "Insert keeps every field", false, always(func(r *auth.Record) { r.Hint = "" })},
	{"CreatedBy is not kept", "Insert keeps every field", false, always(func(r *auth.Record) { r.CreatedBy = "" })},
	{"Insert sets CreatedAt", "Insert keeps every field", false, inserting(
		func(r *auth.Record) { r.CreatedAt = time.Now() })},
	{"Insert sets Revision to 1", "Insert keeps every field", false, inserting(
		func(r *auth.Record) { r.Revision = 1 })},
	{"Insert sets Chain", "Insert keeps every field", false, inserting(func(r *auth.Record) { r.Chain = r.ID })},
	{"Insert clears what only later changes set", "Insert keeps every field", false, inserting(func(r *auth.Record) {
		r.RotatedTo, r.RevokedAt, r.LastUsedAt = "", time.Time{}, time.Time{}
	})},
	{"the revision has 32 bits", "Insert keeps every field", true, inserting(
		func(r *auth.Record) { r.Revision &= 1<<31 - 1 })},

	{"some UUIDs of version 8 are refused", "Insert keeps any UUID", true, refusing(func(r *auth.Record) bool {
		return strings.HasPrefix(r.ID, "ffffffff-ffff-8")
	})},
	{"milliseconds", "Insert keeps microseconds", false, always(func(r *auth.Record) {
		r.ExpiresAt = r.ExpiresAt.Truncate(time.Millisecond)
	})},
	{"the last use in milliseconds", "Insert keeps microseconds", true, inserting(func(r *auth.Record) {
		r.LastUsedAt = r.LastUsedAt.Truncate(time.Millisecond)
	})},
	{"a time loses its zone", "Insert keeps times of any zone", false, always(func(r *auth.Record) {
		r.ExpiresAt = wallClock(r.ExpiresAt)
	})},
	{"the time of the last change loses its zone", "Insert keeps times of any zone", true, inserting(
		func(r *auth.Record) {
			r.UpdatedAt = wallClock(r.UpdatedAt)
		})},
	{"nanoseconds since 1970 in 64 bits", "Insert keeps early and late times", false, always(func(r *auth.Record) {
		if !r.ExpiresAt.IsZero() {
			r.ExpiresAt = time.Unix(0, r.ExpiresAt.UnixNano())
		}
	})},
	{"0 seconds since 1970 means not disabled", "Insert keeps early and late times", true, always(func(r *auth.Record) {
		if r.DisabledAt.Unix() == 0 {
			r.DisabledAt = time.Time{}
		}
	})},
	{"a zero time becomes 1970", "Insert keeps zero times", false, always(func(r *auth.Record) {
		if r.ExpiresAt.IsZero() {
			r.ExpiresAt = time.Unix(0, 0)
		}
	})},
	{"a time is zero in UTC only", "Insert keeps zero times", true, always(func(r *auth.Record) {
		if r.RevokedAt.IsZero() {
			r.RevokedAt = wallClock(r.RevokedAt)
		}
	})},

	{"scopes are sorted", "Insert keeps scopes", false, always(func(r *auth.Record) { slices.Sort(r.Scopes) })},
	{"scopes are in lower case", "Insert keeps scopes", true, inserting(func(r *auth.Record) {
		for i, s := range r.Scopes {
			r.Scopes[i] = auth.Scope(strings.ToLower(string(s)))
		}
	})},
	{"scopes are a set", "Insert keeps scopes", true, inserting(func(r *auth.Record) {
		var set auth.Scopes
		for _, s := range r.Scopes {
			if !slices.Contains(set, s) || s == "" {
				set = append(set, s)
			}
		}
		r.Scopes = set
	})},
	{"scopes are joined by commas", "Insert keeps invalid scopes", true, always(func(r *auth.Record) {
		r.Scopes = joined(r.Scopes, ",")
	})},
	{"scopes are joined by spaces", "Insert keeps invalid scopes", true, always(func(r *auth.Record) {
		r.Scopes = joined(r.Scopes, " ")
	})},
	{"invalid scopes are left out", "Insert keeps invalid scopes", true, always(func(r *auth.Record) {
		r.Scopes = slices.DeleteFunc(r.Scopes, func(s auth.Scope) bool { return !auth.Scopes{"*"}.Covers(s) })
	})},
	{"a record with an invalid scope is kept, and refused", "Insert keeps invalid scopes", true, func(t *table) {
		t.onInsert = func(_ context.Context, r *auth.Record) error {
			err := t.insert(r)
			if slices.ContainsFunc(r.Scopes, func(s auth.Scope) bool { return !auth.Scopes{"*"}.Covers(s) }) {
				err = errNoRows
			}
			return err
		}
	}},
	{"metadata without a value is left out", "Insert keeps metadata", true, inserting(func(r *auth.Record) {
		maps.DeleteFunc(r.Metadata, func(_, value string) bool { return value == "" })
	})},
	{"metadata is escaped for HTML", "Insert keeps metadata", true, inserting(func(r *auth.Record) {
		for key, value := range r.Metadata {
			r.Metadata[key] = html.EscapeString(value)
		}
	})},
	{"text is trimmed", "Insert keeps text", true, inserting(
		func(r *auth.Record) { r.Name = strings.TrimSpace(r.Name) })},
	{"a character has three bytes at most", "Insert keeps text", false, always(func(r *auth.Record) {
		r.Name = strings.Map(func(c rune) rune { return min(c, 0xfffd) }, r.Name)
	})},
	{"text is cut after 200 bytes", "Insert keeps long values", true, inserting(func(r *auth.Record) {
		r.CreatedBy = r.CreatedBy[:min(len(r.CreatedBy), 200)]
	})},
	{"200 scopes", "Insert keeps long values", true, inserting(func(r *auth.Record) {
		r.Scopes = r.Scopes[:min(len(r.Scopes), 200)]
	})},

	{"a list has 65535 bytes at most", "Insert keeps long values", false, refusing(func(r *auth.Record) bool {
		scopes, _ := json.Marshal(r.Scopes)
		return len(scopes) > 65535
	})},
	{"metadata has 65535 bytes at most", "Insert keeps long values", false, refusing(func(r *auth.Record) bool {
		metadata, _ := json.Marshal(r.Metadata)
		return len(metadata) > 65535
	})},

	{"Insert overwrites the record with that ID", "Insert with a taken ID", false, func(t *table) {
		t.onInsert = func(ctx context.Context, r *auth.Record) error {
			t.delete(r.ID, "")
			return t.insert(r)
		}
	}},
	{"Insert changes the record with that ID, and fails", "Insert with a taken ID", false, func(t *table) {
		t.onInsert = func(_ context.Context, r *auth.Record) error {
			err := t.insert(r)
			if err != nil {
				t.touchRows(map[string]time.Time{r.ID: {}}, func(old *auth.Record, _ time.Time) { old.Name = r.Name })
			}
			return err
		}
	}},
	{"Insert of the same record succeeds again", "Insert with a taken ID", true, func(t *table) {
		t.onInsert = func(_ context.Context, r *auth.Record) error {
			if old, err := t.get(r.ID); err == nil && old.Hash == r.Hash && old.RevokedAt.IsZero() {
				return nil
			}
			return t.insert(r)
		}
	}},
	{"a hash is unique for each owner", "Insert with a taken hash", true, func(t *table) {
		t.onInsert = func(_ context.Context, r *auth.Record) error {
			_, err := t.find(func(old *auth.Record) bool { return old.Owner != r.Owner && old.Hash == r.Hash })
			if err != nil {
				return t.insert(r)
			}
			t.addAnyway(r)
			return nil
		}
	}},
	{"Insert replaces a revoked record", "Insert with what a revoked record has", true, func(t *table) {
		t.onInsert = func(_ context.Context, r *auth.Record) error {
			if old, err := t.get(r.ID); err == nil && !old.RevokedAt.IsZero() {
				t.delete(r.ID, "")
			}
			return t.insert(r)
		}
	}},
	{"Insert needs no ID", "Insert of a record without an ID", true, func(t *table) {
		t.onInsert = func(_ context.Context, r *auth.Record) error {
			if r.ID != "" {
				return t.insert(r)
			}
			t.mu.Lock()
			defer t.mu.Unlock()
			return t.add(r)
		}
	}},
	{"an owner has only one key of a name", "Insert of records that differ only in ID and hash", false, oneName(1)},
	{"an owner has only five keys of a name", "Insert of records that differ only in ID and hash", true, oneName(5)},
	{"Insert sorts the caller's scopes", "Insert does not modify the record", true, func(t *table) {
		t.onInsert = func(_ context.Context, r *auth.Record) error {
			slices.Sort(r.Scopes)
			return t.insert(r)
		}
	}},
	{"Insert rounds the caller's time", "Insert does not modify the record", true, func(t *table) {
		t.onInsert = func(_ context.Context, r *auth.Record) error {
			r.CreatedAt = r.CreatedAt.Truncate(time.Microsecond)
			return t.insert(r)
		}
	}},
}

func oneName(most int) func(t *table) {
	return func(t *table) {
		t.onInsert = func(_ context.Context, r *auth.Record) error {
			same := func(old *auth.Record) bool { return old.Owner == r.Owner && old.Name == r.Name }
			if len(t.selected(keyring.Query{}, same)) >= most {
				return keyring.ErrExists
			}
			return t.insert(r)
		}
	}
}
