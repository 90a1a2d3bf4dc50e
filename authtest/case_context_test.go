package authtest_test

import (
	"context"
	"errors"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// halfway breaks an Update with a successor whose context ends in the middle: f
// gets the table, with the caller holding t.mu, as it was at the start.
func halfway(f func(t *table, i int, r, successor *auth.Record)) func(t *table) {
	return func(t *table) {
		t.onUpdate = func(ctx context.Context, r, successor *auth.Record) error {
			if successor == nil {
				return t.update(r, successor)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			time.Sleep(100 * time.Microsecond)
			if ctx.Err() == nil {
				return t.update(r, successor)
			}
			t.mu.Lock()
			defer t.mu.Unlock()
			for i, old := range t.rows {
				if old.ID == r.ID {
					f(t, i, r, successor)
				}
			}
			return ctx.Err()
		}
	}
}

var contextFaults = []fault{
	{"a failed query finds no row", "Lookup with a context that is done", true, func(t *table) {
		t.onLookup = func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
			if ctx.Err() != nil {
				return nil, auth.ErrNotFound
			}
			return t.lookup(hash)
		}
	}},
	{"a failed query returns nil and nil", "Lookup with a context that is done", true, func(t *table) {
		t.onLookup = func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
			if ctx.Err() != nil {
				return nil, nil
			}
			return t.lookup(hash)
		}
	}},
	{"a failed Get finds no row", "Get and List with a context that is done", true, func(t *table) {
		t.onGet = func(ctx context.Context, id string) (*auth.Record, error) {
			if ctx.Err() != nil {
				return nil, auth.ErrNotFound
			}
			return t.get(id)
		}
	}},
	{"a failed List is an empty one", "Get and List with a context that is done", true, func(t *table) {
		t.onList = func(ctx context.Context, q keyring.Query) ([]*auth.Record, error) {
			if ctx.Err() != nil {
				return nil, nil
			}
			return t.list(q)
		}
	}},
	{"each error of Insert means that it is taken", "Changes with a context that is done", true, func(t *table) {
		t.onInsert = func(ctx context.Context, r *auth.Record) error {
			if ctx.Err() != nil {
				return keyring.ErrExists
			}
			return t.insert(r)
		}
	}},
	{"a failed Update says that there is no such row", "Changes with a context that is done", true, func(t *table) {
		t.onUpdate = func(ctx context.Context, r, successor *auth.Record) error {
			if ctx.Err() != nil && successor == nil {
				return auth.ErrNotFound
			}
			return t.update(r, successor)
		}
	}},
	{"a failed Delete succeeds", "Changes with a context that is done", true, func(t *table) {
		t.onDelete = func(ctx context.Context, id, by string) error {
			if ctx.Err() != nil {
				return nil
			}
			return t.delete(id, by)
		}
	}},
	{"Touch fails, and says that it is another revision", "Changes with a context that is done", true, func(t *table) {
		t.onTouch = func(ctx context.Context, lastUsed map[string]time.Time) error {
			if ctx.Err() != nil {
				return errors.Join(ctx.Err(), keyring.ErrConflict)
			}
			return t.touch(lastUsed)
		}
	}},
	{"Update in two transactions", "Update whose context ends in the middle", false, halfway(
		func(t *table, i int, r, successor *auth.Record) { t.put(i, r) })},
	{"Update in two transactions, the successor first", "Update whose context ends in the middle", false, halfway(
		func(t *table, i int, r, successor *auth.Record) { t.add(successor) })},
	{"Update in two transactions, the events in the first", "Update whose context ends in the middle", true, halfway(
		func(t *table, i int, r, successor *auth.Record) {
			t.put(i, r)
			t.note(keyring.EventOf(nil, successor, successor.CreatedBy, successor.CreatedAt))
		})},
}
