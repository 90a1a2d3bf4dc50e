package authtest_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// listing breaks what List returns: f gets a page that is right.
func listing(f func(q keyring.Query, page []*auth.Record) ([]*auth.Record, error)) func(t *table) {
	return func(t *table) {
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			page, err := t.list(q)
			if err != nil {
				return nil, err
			}
			return f(q, page)
		}
	}
}

// showing breaks the records that List returns.
func showing(f func(r *auth.Record)) func(t *table) {
	return listing(func(_ keyring.Query, page []*auth.Record) ([]*auth.Record, error) {
		for i, r := range page {
			page[i] = r.Clone()
			f(page[i])
		}
		return page, nil
	})
}

// leavingOut breaks List: it leaves out what hidden selects.
func leavingOut(hidden func(q keyring.Query, r *auth.Record) bool) func(t *table) {
	return func(t *table) {
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			if q.Limit < 1 {
				return t.list(q)
			}
			return limited(t.selected(q, func(r *auth.Record) bool { return q.Matches(r) && !hidden(q, r) }), q.Limit), nil
		}
	}
}

// ordering breaks the order of List, which After follows.
func ordering(order func(a, b keyring.Position) int) func(t *table) {
	return func(t *table) {
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			if q.Limit < 1 {
				return t.list(q)
			}
			all := q
			all.After = keyring.Position{}
			list := t.sorted(q, func(r *auth.Record) bool {
				c := order(keyring.PositionOf(r), q.After)
				return all.Matches(r) && (q.After.IsZero() || (c < 0) == q.NewestFirst && c != 0)
			}, order)
			return limited(list, q.Limit), nil
		}
	}
}

// after breaks what After means.
func after(matches func(t *table, q keyring.Query, r *auth.Record) (bool, error)) func(t *table) {
	return func(t *table) {
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			all := q
			all.After = keyring.Position{}
			if q.Limit < 1 || q.After.IsZero() {
				return t.list(q)
			}
			var failure error
			list := t.selected(q, func(r *auth.Record) bool {
				ok, err := matches(t, q, r)
				if failure == nil {
					failure = err
				}
				return ok && all.Matches(r)
			})
			return limited(list, q.Limit), failure
		}
	}
}

func lastGroup(id string) string { return id[strings.LastIndexByte(id, '-')+1:] }

var listFaults = []fault{
	{"no records are an error", "List of an empty store", false, listing(
		func(_ keyring.Query, page []*auth.Record) ([]*auth.Record, error) {
			if len(page) == 0 {
				return nil, auth.ErrNotFound
			}
			return page, nil
		})},
	{"List fails as long as nothing was ever written", "List of an empty store", true, func(t *table) {
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			if !t.written() {
				return nil, errors.New("no such table")
			}
			return t.list(q)
		}
	}},
	{"List leaves out the hash", "List keeps every field", false, showing(
		func(r *auth.Record) { r.Hash = auth.Hash{} })},
	{"List leaves out the metadata", "List keeps every field", false, showing(
		func(r *auth.Record) { r.Metadata = nil })},
	{"List leaves out when a revoked key was used", "List keeps every field", true, showing(func(r *auth.Record) {
		if !r.RevokedAt.IsZero() {
			r.LastUsedAt = time.Time{}
		}
	})},
	{"List returns good keys only", "List of records in any state", false, leavingOut(
		func(_ keyring.Query, r *auth.Record) bool { return r.Check(time.Now()) != nil })},
	{"List leaves out revoked keys that never expire", "List of records in any state", true, leavingOut(
		func(q keyring.Query, r *auth.Record) bool {
			return q.Now.IsZero() && !r.RevokedAt.IsZero() && r.ExpiresAt.IsZero() && r.DisabledAt.IsZero()
		})},
	{"List returns records as they were inserted", "List shows changes", true, showing(func(r *auth.Record) {
		if r.RevokedAt.IsZero() {
			r.LastUsedAt = time.Time{}
		}
	})},
	{"List shows a rotated key as it was", "List shows changes", true, showing(func(r *auth.Record) {
		if r.RevokedAt.IsZero() {
			r.RotatedTo = ""
		}
	})},

	{"List orders by ID only", "List orders by CreatedAt", false, ordering(func(a, b keyring.Position) int {
		return cmp.Compare(a.ID, b.ID)
	})},
	{"List orders by the text of the time", "List orders by CreatedAt", false, ordering(textOrder)},
	{"List orders by the text of the time, but not After", "List orders by CreatedAt", true, func(t *table) {
		ordering(textOrder)(t)
		byText := t.onList
		t.onList = func(ctx context.Context, q keyring.Query) ([]*auth.Record, error) {
			q.After.CreatedAt = q.After.CreatedAt.UTC()
			return byText(ctx, q)
		}
	}},
	{"List orders by nanoseconds since 1970", "List orders by CreatedAt", false, ordering(
		func(a, b keyring.Position) int {
			return cmp.Or(cmp.Compare(a.CreatedAt.UnixNano(), b.CreatedAt.UnixNano()), cmp.Compare(a.ID, b.ID))
		})},
	{"List orders by the last group of the ID", "List orders by ID byte by byte", false, ordering(lastGroups)},
	{"List orders more than 12 records by the last group of the ID", "List orders by ID byte by byte", true,
		func(t *table) {
			t.onList = func(ctx context.Context, q keyring.Query) ([]*auth.Record, error) {
				order := byteOrder
				if len(t.selected(q, func(*auth.Record) bool { return true })) > 12 {
					order = lastGroups
				}
				broken := &table{rows: t.selected(q, func(*auth.Record) bool { return true })}
				ordering(order)(broken)
				return broken.List(ctx, q)
			}
		}},
	{"NewestFirst is ignored", "List newest first", false, func(t *table) {
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			q.NewestFirst = false
			return t.list(q)
		}
	}},
	{"NewestFirst turns the oldest page around", "List newest first", false, func(t *table) {
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			newest := q.NewestFirst
			q.NewestFirst = false
			page, err := t.list(q)
			if newest {
				slices.Reverse(page)
			}
			return page, err
		}
	}},
	{"NewestFirst is ignored with an owner and a limit of 7", "List newest first", true, func(t *table) {
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			if q.Owner != "" && q.Limit == 7 {
				q.NewestFirst = false
			}
			return t.list(q)
		}
	}},
	{"List returns one record more", "List page by page", false, func(t *table) {
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			if q.Limit > 0 {
				q.Limit++
			}
			return t.list(q)
		}
	}},
	{"the position is CreatedAt alone", "List page by page", false, after(
		func(_ *table, q keyring.Query, r *auth.Record) (bool, error) {
			c := r.CreatedAt.Compare(q.After.CreatedAt)
			return c > 0 && !q.NewestFirst || c < 0 && q.NewestFirst, nil
		})},
	{"After is ignored newest first", "List page by page", false, after(
		func(_ *table, q keyring.Query, r *auth.Record) (bool, error) {
			return q.NewestFirst || byteOrder(keyring.PositionOf(r), q.After) > 0, nil
		})},
	{"a page of 22 records has 21", "List page by page", true, listing(
		func(q keyring.Query, page []*auth.Record) ([]*auth.Record, error) {
			if len(page) == 22 && q.Limit == 22 {
				return page[:21], nil
			}
			return page, nil
		})},
	{"the position is a number of records", "List page by page while records change", false, func(t *table) {
		before := make(map[keyring.Position]int)
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			skip := before[q.After]
			q.After = keyring.Position{}
			all := t.selected(q, q.Matches)
			page := limited(all[min(skip, len(all)):], max(q.Limit, 0))
			if len(page) > 0 {
				before[keyring.PositionOf(page[len(page)-1])] = skip + len(page)
			}
			return page, nil
		}
	}},
	{"the record at the position must be unchanged", "List page by page while records change", true, after(
		func(t *table, q keyring.Query, r *auth.Record) (bool, error) {
			if r.ID == q.After.ID && r.Revision > 1 {
				return false, auth.ErrNotFound
			}
			return follows(q, r), nil
		})},
	{"there must be a record at the position", "List after any position", true, func(t *table) {
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			all := t.selected(q, func(*auth.Record) bool { return true })
			found := slices.ContainsFunc(all, func(r *auth.Record) bool { return r.ID == q.After.ID })
			if len(all) > 0 && !q.After.IsZero() && !found {
				return nil, auth.ErrNotFound
			}
			return t.list(q)
		}
	}},
	{"List includes the position", "List after any position", false, after(
		func(_ *table, q keyring.Query, r *auth.Record) (bool, error) {
			return follows(q, r) || keyring.PositionOf(r) == q.After, nil
		})},
	{"List starts in 1960", "List from the start", true, leavingOut(func(q keyring.Query, r *auth.Record) bool {
		return r.CreatedAt.Year() < 1960
	})},
	{"List ends in 2300", "List from the start", true, leavingOut(func(q keyring.Query, r *auth.Record) bool {
		return r.CreatedAt.Year() > 2300
	})},
	{"a limit below 1 is no limit", "List with a limit below 1", true, func(t *table) {
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			if q.Limit < 1 {
				q.Limit = 1000
			}
			return t.list(q)
		}
	}},
	{"a limit below 1 gives an empty page", "List with a limit below 1", true, func(t *table) {
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			if q.Limit < 1 {
				return nil, nil
			}
			return t.list(q)
		}
	}},
	{"a large limit is refused", "List with a large limit", true, func(t *table) {
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			if q.Limit > 1e6 {
				return nil, errors.New("out of memory")
			}
			return t.list(q)
		}
	}},
}

func textOrder(a, b keyring.Position) int {
	return cmp.Or(cmp.Compare(a.CreatedAt.Format(time.DateTime), b.CreatedAt.Format(time.DateTime)),
		a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
}

func lastGroups(a, b keyring.Position) int {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(lastGroup(a.ID), lastGroup(b.ID)))
}

func follows(q keyring.Query, r *auth.Record) bool {
	c := byteOrder(keyring.PositionOf(r), q.After)
	return c > 0 && !q.NewestFirst || c < 0 && q.NewestFirst
}
