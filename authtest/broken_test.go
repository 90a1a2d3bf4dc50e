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
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
)

// Each of these faults has one case of TestStore that is there to catch it, and each case has one at least.
var faults = []struct {
	fault  string
	caught string // the name of the case
	do     func(t *table)
}{
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

	{"Revoke says now", "Revoke sets RevokedAt", func(t *table) {
		t.revoke = func(_ context.Context, id string, _ time.Time) error {
			return t.change(id, func(r *auth.Record) { r.RevokedAt = time.Now() })
		}
	}},
	{"the last revocation stands", "Revoke keeps the first time", func(t *table) {
		t.revoke = func(_ context.Context, id string, at time.Time) error {
			return t.change(id, func(r *auth.Record) { r.RevokedAt = at })
		}
	}},
	{"the second revocation is an error", "Revoke keeps the first time", func(t *table) {
		t.revoke = func(_ context.Context, id string, at time.Time) (err error) {
			t.change(id, func(r *auth.Record) {
				if err = notRevoked(r, nil); err == nil {
					r.RevokedAt = at
				}
			})
			return err
		}
	}},
	{"Revoke ends the key too", "Revoke changes nothing else", func(t *table) {
		t.revoke = func(_ context.Context, id string, at time.Time) error {
			return t.change(id, func(r *auth.Record) { r.RevokedAt, r.ExpiresAt = at, at })
		}
	}},
	{"Revoke of none is no error", "Revoke finds none", func(t *table) {
		t.revoke = func(_ context.Context, id string, at time.Time) error {
			t.change(id, func(r *auth.Record) { r.RevokedAt = at })
			return nil
		}
	}},

	{"Replace forgets ReplacedBy", "Replace sets both records", replacing(func(old *auth.Record, _ time.Time) { old.ReplacedBy = "" })},
	{"Replace copies the old record", "Replace sets both records", func(t *table) {
		t.replace = func(_ context.Context, next auth.Record, expires time.Time) error {
			return t.rotate(next, func(old *auth.Record) {
				old.ReplacedBy, old.ExpiresAt = next.ID, expires
				t.rows[len(t.rows)-1].Owner = old.Owner
			}, notRevoked, notSuperseded, t.free)
		}
	}},
	{"a successor cannot be replaced", "Replace makes chains", func(t *table) {
		t.replace = func(_ context.Context, next auth.Record, expires time.Time) error {
			return t.rotate(next, func(old *auth.Record) { old.ReplacedBy, old.ExpiresAt = next.ID, expires },
				func(old, _ *auth.Record) error {
					if old.Replaces != "" {
						return auth.ErrSuperseded
					}
					return nil
				})
		}
	}},
	{"what never expires never will", "Replace gives an expiry to what had none", replacing(func(old *auth.Record, expires time.Time) {
		if old.ExpiresAt.Equal(expires) {
			old.ExpiresAt = time.Time{}
		}
	})},
	{"the expiry stays", "Replace shortens a later expiry", replacing(func(old *auth.Record, expires time.Time) {
		old.ExpiresAt = expires.Add(time.Hour)
	})},
	{"Replace extends", "Replace never extends", replacing(func(old *auth.Record, expires time.Time) { old.ExpiresAt = expires })},
	{"Replace revives", "Replace does not revive", replacing(func(old *auth.Record, expires time.Time) { old.ExpiresAt = expires })},
	{"Replace refuses what has expired", "Replace does not revive", checking(func(t *table) []check {
		return []check{notRevoked, notSuperseded, func(old, _ *auth.Record) error { return old.Check(time.Now()) }, t.free}
	})},
	{"Replace of none is an Insert", "Replace of an unknown record", func(t *table) {
		t.replace = func(_ context.Context, next auth.Record, _ time.Time) error {
			err := t.rotate(next, func(*auth.Record) {})
			if err != nil {
				err = t.add(next)
			}
			return err
		}
	}},
	{"Replace inserts first", "Replace of an unknown record", insertsFirst},
	{"Replace of a revoked record", "Replace of a revoked record", checking(func(t *table) []check { return []check{notSuperseded, t.free} })},
	{"Replace inserts before it looks whether the record is revoked", "Replace of a revoked record", insertsFirst},
	{"Replace any number of times", "Replace of a superseded record", checking(func(t *table) []check { return []check{notRevoked, t.free} })},
	{"Replace inserts before it looks whether the record is superseded", "Replace of a superseded record", insertsFirst},
	{"Replace changes the old record first", "Replace by an ID that exists", marksFirst},
	{"a successor's ID is not looked at", "Replace by an ID that exists", checking(func(t *table) []check {
		return []check{notRevoked, notSuperseded}
	})},
	{"Replace marks the record, and then fails", "Replace by a hash that exists", marksFirst},
	{"a successor's hash is not looked at", "Replace by a hash that exists", checking(func(t *table) []check {
		return []check{notRevoked, notSuperseded, func(_, next *auth.Record) error {
			if slices.ContainsFunc(t.rows, func(r *auth.Record) bool { return r.ID == next.ID }) {
				return auth.ErrExists
			}
			return nil
		}}
	})},
	{"superseded before revoked", "Replace checks in order", checking(func(t *table) []check { return []check{notSuperseded, notRevoked, t.free} })},
	{"taken before superseded", "Replace checks in order", checking(func(t *table) []check { return []check{notRevoked, t.free, notSuperseded} })},

	{"Touch does nothing", "Touch sets LastUsedAt", func(t *table) {
		t.touch = func(context.Context, map[string]time.Time) error { return nil }
	}},
	{"Touch of the first only", "Touch sets LastUsedAt", func(t *table) {
		t.touch = func(_ context.Context, lastUsed map[string]time.Time) error {
			for id, at := range lastUsed {
				return cmp.Or(t.change(id, func(r *auth.Record) { r.LastUsedAt = at }), nil)
			}
			return nil
		}
	}},
	{"Touch moves back", "Touch moves forward only", touching(func(r *auth.Record, at time.Time) { r.LastUsedAt = at })},
	{"Touch with the newest time of all", "Touch moves forward only", func(t *table) {
		t.touch = func(_ context.Context, lastUsed map[string]time.Time) error {
			newest := slices.MaxFunc(slices.Collect(maps.Values(lastUsed)), time.Time.Compare)
			for id := range lastUsed {
				t.change(id, func(r *auth.Record) { r.LastUsedAt = newest })
			}
			return nil
		}
	}},
	{"Touch writes the whole record, as it was inserted", "Touch changes nothing else", touching(func(r *auth.Record, at time.Time) {
		r.LastUsedAt, r.RevokedAt = at, time.Time{}
	})},
	{"Touch of an unknown ID is an error", "Touch passes over unknown IDs", func(t *table) {
		t.touch = func(_ context.Context, lastUsed map[string]time.Time) (err error) {
			for id := range lastUsed {
				err = cmp.Or(t.change(id, func(*auth.Record) {}), err)
			}
			return err
		}
	}},
	{"Touch inserts unknown IDs", "Touch passes over unknown IDs", func(t *table) {
		t.touch = func(_ context.Context, lastUsed map[string]time.Time) error {
			for id := range lastUsed {
				if t.change(id, func(*auth.Record) {}) != nil {
					t.add(auth.Record{ID: id})
				}
			}
			return nil
		}
	}},
	{"IN () is a syntax error", "Touch of nothing", func(t *table) {
		t.touch = func(_ context.Context, lastUsed map[string]time.Time) error {
			if len(lastUsed) == 0 {
				return errors.New("syntax error near )")
			}
			return nil
		}
	}},
	{"999 parameters", "Touch of very many", func(t *table) {
		t.touch = func(_ context.Context, lastUsed map[string]time.Time) error {
			if len(lastUsed) > 999 {
				return errors.New("too many parameters")
			}
			return nil
		}
	}},

	{"Insert keeps the caller's memory", "Insert copies", func(t *table) { t.in = func(*auth.Record) {} }},
	{"Insert keeps the caller's map", "Insert copies", func(t *table) { t.in = func(r *auth.Record) { r.Scopes = slices.Clone(r.Scopes) } }},
	{"Replace keeps the caller's memory", "Replace copies", func(t *table) { t.in = func(*auth.Record) {} }},
	{"Touch empties the map", "Touch copies", func(t *table) {
		t.touch = func(_ context.Context, lastUsed map[string]time.Time) error { clear(lastUsed); return nil }
	}},
	{"Touch is done later", "Touch copies", func(t *table) {
		var waiting map[string]time.Time
		t.touch = func(_ context.Context, lastUsed map[string]time.Time) error { waiting = lastUsed; return nil }
		t.out = func(r *auth.Record) {
			deepCopy(r)
			r.LastUsedAt = waiting[r.ID]
		}
	}},
	{"Lookup returns the store's memory", "Lookup returns a copy", func(t *table) { t.out = func(*auth.Record) {} }},
	{"Get returns the store's memory", "Get returns a copy", func(t *table) { t.out = func(*auth.Record) {} }},
	{"List returns the store's scopes", "List returns copies", func(t *table) {
		t.out = func(r *auth.Record) { r.Metadata = maps.Clone(r.Metadata) }
	}},
	{"Revoke writes to the list that was returned", "What was returned stays", func(t *table) {
		t.out = func(*auth.Record) {}
		t.revoke = func(_ context.Context, id string, at time.Time) error {
			return t.change(id, func(r *auth.Record) { r.RevokedAt, r.Metadata["revoked"] = at, "yes" })
		}
	}},

	{"a failed query finds no rows", "Reading with a cancelled context", func(t *table) {
		t.lookup = func(ctx context.Context, hash auth.Hash) (auth.Record, error) {
			return t.find(func(r *auth.Record) bool { return r.Hash == hash && ctx.Err() == nil })
		}
	}},
	{"a failed list is an empty one", "Reading with a cancelled context", func(t *table) {
		t.list = func(ctx context.Context, _ string, _ auth.Position, _ int) ([]auth.Record, error) {
			return t.page(byteOrder, func(*auth.Record) bool { return ctx.Err() == nil }, auth.Position{}), nil
		}
	}},
	{"whatever fails exists", "Writing with a cancelled context", func(t *table) {
		t.insert = func(ctx context.Context, r auth.Record) error {
			if ctx.Err() != nil {
				return auth.ErrExists
			}
			return t.add(r)
		}
	}},
	{"a write that failed is a success", "Writing with a cancelled context", func(t *table) {
		t.revoke = func(ctx context.Context, id string, at time.Time) error {
			if ctx.Err() != nil {
				return nil
			}
			return t.change(id, func(r *auth.Record) { r.RevokedAt = at })
		}
	}},
	{"Replace in two transactions", "Replace cancelled on the way", func(t *table) {
		t.replace = func(ctx context.Context, next auth.Record, expires time.Time) error {
			t.change(next.Replaces, func(old *auth.Record) { old.ReplacedBy, old.ExpiresAt = next.ID, expires })
			time.Sleep(100 * time.Microsecond)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return t.add(next)
		}
	}},

	{"Insert looks first and adds later", "Insert at the same time", func(t *table) {
		t.insert = func(_ context.Context, r auth.Record) error {
			t.mu.Lock()
			taken := t.taken(r)
			t.mu.Unlock()
			if taken {
				return auth.ErrExists
			}
			time.Sleep(time.Millisecond)
			t.mu.Lock()
			defer t.mu.Unlock()
			return t.add(r)
		}
	}},
	{"Replace looks first and changes later", "Replace at the same time", func(t *table) {
		t.replace = func(ctx context.Context, next auth.Record, expires time.Time) error {
			if old, _ := t.Get(ctx, next.Replaces); old.ReplacedBy != "" {
				return auth.ErrSuperseded
			}
			time.Sleep(time.Millisecond)
			return t.rotate(next, func(old *auth.Record) { old.ReplacedBy, old.ExpiresAt = next.ID, expires })
		}
	}},
	{"Replace fails when another does", "Replace at the same time", func(t *table) {
		var busy atomic.Bool
		t.replace = func(_ context.Context, next auth.Record, expires time.Time) error {
			if busy.Swap(true) {
				return errors.New("could not serialize access")
			}
			return t.rotate(next, func(old *auth.Record) { old.ReplacedBy, old.ExpiresAt = next.ID, expires }, notSuperseded)
		}
	}},
	{"Replace looks first whether the hash is taken", "Replace by one hash at the same time", func(t *table) {
		t.replace = func(ctx context.Context, next auth.Record, expires time.Time) error {
			if _, err := t.Lookup(ctx, next.Hash); err == nil {
				return auth.ErrExists
			}
			time.Sleep(time.Millisecond)
			return t.rotate(next, func(old *auth.Record) { old.ReplacedBy, old.ExpiresAt = next.ID, expires })
		}
	}},
	{"Revoke looks first and sets later", "Revoke at the same time", func(t *table) {
		t.revoke = func(ctx context.Context, id string, at time.Time) error {
			if r, err := t.Get(ctx, id); err != nil || !r.RevokedAt.IsZero() {
				return err
			}
			time.Sleep(time.Millisecond)
			return t.change(id, func(r *auth.Record) { r.RevokedAt = at })
		}
	}},
	{"Replace writes back what it read", "Revoke beside Replace", func(t *table) {
		t.replace = func(ctx context.Context, next auth.Record, expires time.Time) error {
			read, _ := t.Get(ctx, next.Replaces)
			if err := notRevoked(&read, nil); err != nil {
				return err
			}
			time.Sleep(time.Millisecond)
			read.ReplacedBy, read.ExpiresAt = next.ID, expires
			return t.rotate(next, func(old *auth.Record) { *old = read })
		}
	}},
	{"Touch writes back what it read", "Touch beside Revoke and Replace", func(t *table) {
		t.touch = func(ctx context.Context, lastUsed map[string]time.Time) error {
			for id, at := range lastUsed {
				read, err := t.Get(ctx, id)
				if err != nil || !at.After(read.LastUsedAt) {
					continue
				}
				time.Sleep(100 * time.Microsecond)
				read.LastUsedAt = at
				t.change(id, func(r *auth.Record) { *r = read })
			}
			return nil
		}
	}},
	{"rows are locked in the order of a map", "Touch at the same time", func(t *table) {
		var busy atomic.Int64
		t.touch = func(context.Context, map[string]time.Time) error {
			defer busy.Add(-1)
			if busy.Add(1) > 1 {
				return errors.New("deadlock detected")
			}
			time.Sleep(time.Millisecond)
			return nil
		}
	}},
	{"Replace is seen half done", "Reading beside writing", func(t *table) {
		t.replace = func(_ context.Context, next auth.Record, expires time.Time) error {
			t.change(next.Replaces, func(old *auth.Record) { old.ReplacedBy, old.ExpiresAt = next.ID, expires })
			time.Sleep(time.Millisecond)
			t.mu.Lock()
			defer t.mu.Unlock()
			return t.add(next)
		}
	}},
}

type check = func(old, next *auth.Record) error

func anyRecord(*auth.Record) bool { return true }

// in breaks what goes into the table.
func in(f func(r *auth.Record)) func(t *table) {
	return func(t *table) {
		t.in = func(r *auth.Record) {
			deepCopy(r)
			f(r)
		}
	}
}

// listed breaks a page.
func listed(f func(page []auth.Record) ([]auth.Record, error)) func(t *table) {
	return func(t *table) {
		t.list = func(_ context.Context, _ string, after auth.Position, limit int) ([]auth.Record, error) {
			all := t.page(byteOrder, anyRecord, after)
			return f(all[:min(limit, len(all))])
		}
	}
}

func ordered(order func(a, b auth.Position) int) func(t *table) {
	return func(t *table) {
		t.list = func(_ context.Context, _ string, after auth.Position, limit int) ([]auth.Record, error) {
			all := t.page(order, anyRecord, after)
			return all[:min(limit, len(all))], nil
		}
	}
}

func owned(match func(has, owner string) bool) func(t *table) {
	return func(t *table) {
		t.list = func(_ context.Context, owner string, after auth.Position, limit int) ([]auth.Record, error) {
			all := t.page(byteOrder, func(r *auth.Record) bool { return owner == "" || match(r.Owner, owner) }, after)
			return all[:min(limit, len(all))], nil
		}
	}
}

// replacing breaks what a Replace that is right so far makes of the old record.
func replacing(f func(old *auth.Record, expires time.Time)) func(t *table) {
	return func(t *table) {
		t.replace = func(_ context.Context, next auth.Record, expires time.Time) error {
			return t.rotate(next, func(old *auth.Record) {
				old.ReplacedBy = next.ID
				if old.ExpiresAt.IsZero() || old.ExpiresAt.After(expires) {
					old.ExpiresAt = expires
				}
				f(old, expires)
			}, notRevoked, notSuperseded, t.free)
		}
	}
}

// checking breaks which checks a Replace makes, and in which order.
func checking(checks func(t *table) []check) func(t *table) {
	return func(t *table) {
		t.replace = func(_ context.Context, next auth.Record, expires time.Time) error {
			return t.rotate(next, func(old *auth.Record) {
				old.ReplacedBy = next.ID
				if old.ExpiresAt.IsZero() || old.ExpiresAt.After(expires) {
					old.ExpiresAt = expires
				}
			}, checks(t)...)
		}
	}
}

func insertsFirst(t *table) {
	t.replace = func(_ context.Context, next auth.Record, expires time.Time) error {
		t.add(next)
		err := auth.ErrNotFound
		t.change(next.Replaces, func(old *auth.Record) { err = cmp.Or(notRevoked(old, nil), notSuperseded(old, nil)) })
		return err
	}
}

func marksFirst(t *table) {
	t.replace = func(_ context.Context, next auth.Record, expires time.Time) error {
		t.change(next.Replaces, func(old *auth.Record) { old.ReplacedBy = next.ID })
		if t.taken(next) {
			return auth.ErrExists
		}
		return t.add(next)
	}
}

func touching(f func(r *auth.Record, at time.Time)) func(t *table) {
	return func(t *table) {
		t.touch = func(_ context.Context, lastUsed map[string]time.Time) error {
			for id, at := range lastUsed {
				t.change(id, func(r *auth.Record) { f(r, at) })
			}
			return nil
		}
	}
}

// Every broken store fails the case that is there for it, and every case catches a broken store.
func TestBrokenStores(t *testing.T) {
	cases := make(map[string]authtest.Case)
	catches := make(map[string]int)
	for _, c := range authtest.Cases() {
		if _, again := cases[c.Name]; again || c.Rule == "" {
			t.Errorf("the case %q is there twice, or has no rule", c.Name)
		}
		cases[c.Name] = c
	}
	expect := func(fault, caught string, s auth.KeyStore) {
		t.Run(fault, func(t *testing.T) {
			catches[caught]++
			c, ok := cases[caught]
			if !ok {
				t.Fatalf("there is no case %q", caught)
			}
			err := c.Run(t.Context(), s)
			if err == nil {
				t.Fatalf("%q does not catch it", caught)
			}
			t.Logf("%v\nthe rule: %s", err, c.Rule)
		})
	}
	for _, f := range faults {
		s := newTable()
		f.do(s)
		expect(f.fault, f.caught, s)
	}
	for _, f := range optionalFaults {
		expect(f.fault, f.caught, f.store())
	}
	for name := range cases {
		if catches[name] == 0 {
			t.Errorf("nothing broken shows that %q catches anything", name)
		}
	}
	t.Logf("%d cases, %d broken stores", len(cases), len(faults)+len(optionalFaults))
}
