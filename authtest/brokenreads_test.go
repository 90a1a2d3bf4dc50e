package authtest_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/insigner/auth"
)

// Faults of Lookup, Get, Insert and List.
var readFaults = []fault{
	{"Lookup returns the newest record, whatever the hash", "Lookup finds", func(t *table) {
		t.lookup = func(context.Context, auth.Hash) (auth.Record, error) {
			var last auth.Record
			_, err := t.find(func(r *auth.Record) bool { last = *r; return false })
			if len(t.rows) > 0 {
				err = nil
			}
			return last, err
		}
	}},
	{"Lookup leaves out revoked records", "Lookup finds revoked", func(t *table) {
		t.lookup = func(_ context.Context, hash auth.Hash) (auth.Record, error) {
			return t.find(func(r *auth.Record) bool { return r.Hash == hash && r.RevokedAt.IsZero() })
		}
	}},
	{"Lookup leaves out expired records", "Lookup finds expired", func(t *table) {
		t.lookup = func(_ context.Context, hash auth.Hash) (auth.Record, error) {
			return t.find(func(r *auth.Record) bool {
				return r.Hash == hash && (r.ExpiresAt.IsZero() || r.ExpiresAt.After(time.Now()))
			})
		}
	}},
	{"Lookup returns the zero Record for none", "Lookup finds none", func(t *table) {
		t.lookup = func(_ context.Context, hash auth.Hash) (auth.Record, error) {
			r, _ := t.find(func(r *auth.Record) bool { return r.Hash == hash })
			return r, nil
		}
	}},
	{"Lookup returns an error of its own for none", "Lookup finds none", func(t *table) {
		t.lookup = func(_ context.Context, hash auth.Hash) (auth.Record, error) {
			r, err := t.find(func(r *auth.Record) bool { return r.Hash == hash })
			if err != nil {
				err = errors.New("no rows")
			}
			return r, err
		}
	}},
	{"Lookup compares the first half", "Lookup compares the whole hash", func(t *table) {
		t.lookup = func(_ context.Context, hash auth.Hash) (auth.Record, error) {
			return t.find(func(r *auth.Record) bool { return bytes.Equal(r.Hash[:16], hash[:16]) })
		}
	}},
	{"Lookup compares as text, in any case", "Lookup compares the whole hash", func(t *table) {
		t.lookup = func(_ context.Context, hash auth.Hash) (auth.Record, error) {
			return t.find(func(r *auth.Record) bool { return strings.EqualFold(string(r.Hash[:]), string(hash[:])) })
		}
	}},
	{"Get ignores case", "Get finds none", func(t *table) {
		t.get = func(_ context.Context, id string) (auth.Record, error) {
			return t.find(func(r *auth.Record) bool { return strings.EqualFold(r.ID, id) })
		}
	}},
	{"Get is a prefix search", "Get finds none", func(t *table) {
		t.get = func(_ context.Context, id string) (auth.Record, error) {
			return t.find(func(r *auth.Record) bool { return strings.HasPrefix(r.ID, id) })
		}
	}},

	{"Hint is not kept", "Insert keeps every field", in(func(r *auth.Record) { r.Hint = "" })},
	{"CreatedBy is not kept", "Insert keeps every field", in(func(r *auth.Record) { r.CreatedBy = "" })},
	{"Insert clears what it takes for its own", "Insert keeps every field", in(func(r *auth.Record) {
		r.ReplacedBy = ""
	})},
	{"Insert sets CreatedAt", "Insert keeps every field", in(func(r *auth.Record) { r.CreatedAt = time.Now() })},
	{"milliseconds", "Insert keeps microseconds", in(func(r *auth.Record) {
		r.CreatedAt, r.ExpiresAt = r.CreatedAt.Truncate(time.Millisecond), r.ExpiresAt.Truncate(time.Millisecond)
	})},
	{"the clock on the wall without its zone", "Insert keeps instants in any zone", in(func(r *auth.Record) {
		_, offset := r.ExpiresAt.Zone()
		r.ExpiresAt = r.ExpiresAt.Add(time.Duration(offset) * time.Second).UTC()
	})},
	{"nanoseconds since 1970 in an int64", "Insert keeps early and late times", in(func(r *auth.Record) {
		if !r.ExpiresAt.IsZero() {
			r.ExpiresAt = time.Unix(0, r.ExpiresAt.UnixNano())
		}
	})},
	{"seconds since 1970, 0 for none", "Insert keeps early and late times", in(func(r *auth.Record) {
		if r.RevokedAt.Unix() == 0 {
			r.RevokedAt = time.Time{}
		}
	})},
	{"a zero time becomes 1970", "Insert keeps zero times", in(func(r *auth.Record) {
		if r.ExpiresAt.IsZero() {
			r.ExpiresAt = time.Unix(0, 0)
		}
	})},
	{"scopes are sorted", "Insert keeps scopes", in(func(r *auth.Record) { slices.Sort(r.Scopes) })},
	{"scopes are a set", "Insert keeps scopes", in(func(r *auth.Record) { r.Scopes = slices.Compact(r.Scopes) })},
	{"scopes are joined by commas", "Insert keeps scopes", in(func(r *auth.Record) {
		var joined []string
		for _, s := range r.Scopes {
			joined = append(joined, string(s))
		}
		r.Scopes = nil
		for s := range strings.SplitSeq(strings.Join(joined, ","), ",") {
			r.Scopes = append(r.Scopes, auth.Scope(s))
		}
	})},
	{"scopes that are none are left out", "Insert keeps scopes", in(func(r *auth.Record) {
		r.Scopes = slices.DeleteFunc(r.Scopes, func(s auth.Scope) bool { _, err := auth.ParseScope(string(s)); return err != nil })
	})},
	{"empty metadata is left out", "Insert keeps metadata", in(func(r *auth.Record) {
		maps.DeleteFunc(r.Metadata, func(_, value string) bool { return value == "" })
	})},
	{"metadata passes through HTML", "Insert keeps metadata", in(func(r *auth.Record) {
		for key, value := range r.Metadata {
			text, _ := json.Marshal(value)
			r.Metadata[key] = strings.Trim(string(text), `"`)
		}
	})},
	{"text is trimmed", "Insert keeps text", in(func(r *auth.Record) { r.Name = strings.TrimSpace(r.Name) })},
	{"text of three bytes a character", "Insert keeps text", in(func(r *auth.Record) {
		r.Name = strings.Map(func(c rune) rune { return min(c, 0xfffd) }, r.Name)
	})},
	{"VARCHAR(255), cut", "Insert keeps long values", in(func(r *auth.Record) { r.Owner = r.Owner[:min(len(r.Owner), 255)] })},
	{"Insert needs no ID", "Insert refuses a record without an ID", func(t *table) {
		t.insert = func(_ context.Context, r auth.Record) error {
			t.mu.Lock()
			defer t.mu.Unlock()
			if err := t.free(nil, &r); err != nil {
				return err
			}
			return t.add(r)
		}
	}},
	{"Insert overwrites the record with that ID", "Insert refuses an ID that exists", func(t *table) {
		t.insert = func(_ context.Context, r auth.Record) error {
			if t.change(r.ID, func(old *auth.Record) { *old = r; t.in(old) }) == nil {
				return nil
			}
			return t.add(r)
		}
	}},
	{"Insert fails, having changed the record", "Insert refuses an ID that exists", func(t *table) {
		t.insert = func(_ context.Context, r auth.Record) error {
			if t.change(r.ID, func(old *auth.Record) { old.Name = r.Name }) == nil {
				return auth.ErrExists
			}
			return t.add(r)
		}
	}},
	{"the hash is not unique", "Insert refuses a hash that exists", func(t *table) {
		t.insert = func(ctx context.Context, r auth.Record) error {
			if _, err := t.Get(ctx, r.ID); err == nil {
				return auth.ErrExists
			}
			return t.add(r)
		}
	}},
	{"Insert takes the place of a revoked record", "Insert refuses what a revoked record has", func(t *table) {
		t.insert = func(ctx context.Context, r auth.Record) error {
			t.rows = slices.DeleteFunc(t.rows, func(old *auth.Record) bool {
				return old.Hash == r.Hash && !old.RevokedAt.IsZero()
			})
			if t.taken(r) {
				return auth.ErrExists
			}
			return t.add(r)
		}
	}},
	{"IDs differ in more than case", "Insert tells records apart by ID and hash only", func(t *table) {
		t.insert = func(ctx context.Context, r auth.Record) error {
			if slices.ContainsFunc(t.rows, func(o *auth.Record) bool { return strings.EqualFold(o.ID, r.ID) }) {
				return auth.ErrExists
			}
			return t.add(r)
		}
	}},
	{"names are unique", "Insert tells records apart by ID and hash only", func(t *table) {
		t.insert = func(ctx context.Context, r auth.Record) error {
			if slices.ContainsFunc(t.rows, func(o *auth.Record) bool { return o.Name == r.Name }) {
				return auth.ErrExists
			}
			return t.add(r)
		}
	}},

	{"none is an error", "List of an empty store", listed(func(page []auth.Record) ([]auth.Record, error) {
		if len(page) == 0 {
			return nil, auth.ErrNotFound
		}
		return page, nil
	})},
	{"List leaves out metadata", "List keeps every field", listed(func(page []auth.Record) ([]auth.Record, error) {
		for i := range page {
			page[i].Metadata = nil
		}
		return page, nil
	})},
	{"List has active keys", "List has revoked and expired records", listed(func(page []auth.Record) ([]auth.Record, error) {
		return slices.DeleteFunc(page, func(r auth.Record) bool { return r.Check(time.Now()) != nil }), nil
	})},
	{"List shows records as they were inserted", "List shows what changed", listed(func(page []auth.Record) ([]auth.Record, error) {
		for i := range page {
			page[i].RevokedAt, page[i].ReplacedBy = time.Time{}, ""
		}
		return page, nil
	})},
	{"List orders by ID", "List orders by CreatedAt", ordered(func(a, b auth.Position) int { return cmp.Compare(a.ID, b.ID) })},
	{"List orders by the text of the time", "List orders by CreatedAt", ordered(func(a, b auth.Position) int {
		return cmp.Or(strings.Compare(a.CreatedAt.Format(time.RFC3339Nano), b.CreatedAt.Format(time.RFC3339Nano)),
			cmp.Compare(a.ID, b.ID))
	})},
	{"IDs have a collation", "List orders by ID byte by byte", ordered(func(a, b auth.Position) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(strings.ToLower(a.ID), strings.ToLower(b.ID)),
			cmp.Compare(a.ID, b.ID))
	})},
	{"the position is CreatedAt alone", "List pages give every record once", func(t *table) {
		t.list = func(_ context.Context, _ string, after auth.Position, limit int) ([]auth.Record, error) {
			all := t.page(byteOrder, func(r *auth.Record) bool {
				return after.CreatedAt.IsZero() || r.CreatedAt.After(after.CreatedAt)
			}, after)
			return all[:min(limit, len(all))], nil
		}
	}},
	{"List returns one more", "List pages give every record once", func(t *table) {
		t.list = func(_ context.Context, _ string, after auth.Position, limit int) ([]auth.Record, error) {
			all := t.page(byteOrder, anyRecord, after)
			return all[:min(limit+1, len(all))], nil
		}
	}},
	{"the position is a number of records", "List pages past records that came and changed", func(t *table) {
		before := make(map[auth.Position]int)
		t.list = func(_ context.Context, _ string, after auth.Position, limit int) ([]auth.Record, error) {
			all := t.page(byteOrder, anyRecord, auth.Position{})
			all = all[min(before[after], len(all)):]
			all = all[:min(limit, len(all))]
			if len(all) > 0 {
				before[position(all[len(all)-1])] = before[after] + len(all)
			}
			return all, nil
		}
	}},
	{"a record must stand at the position", "List begins behind any position", func(t *table) {
		t.list = func(_ context.Context, _ string, after auth.Position, limit int) ([]auth.Record, error) {
			if _, err := t.find(func(r *auth.Record) bool { return r.ID == after.ID }); err != nil && after.ID != "" {
				return nil, err
			}
			all := t.page(byteOrder, anyRecord, after)
			return all[:min(limit, len(all))], nil
		}
	}},
	{"List includes the position", "List begins behind any position", func(t *table) {
		t.list = func(_ context.Context, _ string, after auth.Position, limit int) ([]auth.Record, error) {
			all := t.page(byteOrder, anyRecord, auth.Position{})
			all = slices.DeleteFunc(all, func(r auth.Record) bool { return byteOrder(position(r), after) < 0 })
			return all[:min(limit, len(all))], nil
		}
	}},
	{"List begins in 1970", "List begins at the zero Position", func(t *table) {
		t.list = func(_ context.Context, owner string, after auth.Position, limit int) ([]auth.Record, error) {
			all := t.page(byteOrder, anyRecord, auth.Position{CreatedAt: time.Unix(0, 0)})
			return all[:min(limit, len(all))], nil
		}
	}},
	{"the owner is a pattern", "List of an owner", owned(func(has, owner string) bool {
		return strings.HasPrefix(has, strings.TrimSuffix(owner, "%"))
	})},
	{"the owner in any case", "List of an owner", owned(strings.EqualFold)},
	{"trailing spaces of the owner do not count", "List of an owner", owned(func(has, owner string) bool {
		return strings.TrimRight(has, " ") == strings.TrimRight(owner, " ")
	})},
	{"the owner is looked at behind the limit", "List of an owner in pages", func(t *table) {
		t.list = func(_ context.Context, owner string, after auth.Position, limit int) ([]auth.Record, error) {
			all := t.page(byteOrder, anyRecord, after)
			all = all[:min(limit, len(all))]
			return slices.DeleteFunc(all, func(r auth.Record) bool { return owner != "" && r.Owner != owner }), nil
		}
	}},
	{"a limit of 0 is no limit", "List refuses a limit below 1", func(t *table) {
		t.list = func(context.Context, string, auth.Position, int) ([]auth.Record, error) {
			return t.page(byteOrder, anyRecord, auth.Position{}), nil
		}
	}},
}
