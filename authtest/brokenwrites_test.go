package authtest_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/insigner/auth"
)

// Faults of Revoke, Replace and Touch, of memory, contexts and concurrency.
var writeFaults = []fault{
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
	{"Revoke takes a zero time", "Revoke refuses a zero time", func(t *table) {
		t.revoke = func(_ context.Context, id string, at time.Time) error {
			return t.change(id, func(r *auth.Record) {
				if r.RevokedAt.IsZero() {
					r.RevokedAt = at
				}
			})
		}
	}},
	{"Revoke at a zero time revokes now", "Revoke refuses a zero time", func(t *table) {
		t.revoke = func(_ context.Context, id string, at time.Time) error {
			if at.IsZero() {
				at = time.Now()
			}
			return t.change(id, func(r *auth.Record) { r.RevokedAt = at })
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
	{"a zero expiry goes in", "Replace refuses a zero expiry", checking(func(t *table) []check {
		return []check{notRevoked, notSuperseded, t.free}
	})},
	{"a successor needs no ID", "Replace refuses a successor without an ID", checking(func(t *table) []check {
		return []check{notRevoked, notSuperseded, t.free}
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
