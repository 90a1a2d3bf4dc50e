package authtest_test

import (
	"context"
	"errors"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// graves are the records that were deleted, by ID.
type graves map[string]*auth.Record

// remembering breaks a store that remembers what was deleted.
func remembering(f func(t *table, g graves)) func(t *table) {
	return func(t *table) {
		g := make(graves)
		t.onDelete = func(_ context.Context, id, by string) error {
			r, _ := t.get(id)
			err := t.delete(id, by)
			if err == nil {
				g[id] = r
			}
			return err
		}
		f(t, g)
	}
}

// deleting is called before a Delete that is right, which it can prevent.
func deleting(f func(t *table, id string) (done bool, err error)) func(t *table) {
	return func(t *table) {
		t.onDelete = func(_ context.Context, id, by string) error {
			if done, err := f(t, id); done {
				return err
			}
			return t.delete(id, by)
		}
	}
}

var deleteFaults = []fault{
	{"Delete does nothing", "Delete removes the record", false, deleting(func(t *table, id string) (bool, error) {
		_, err := t.get(id)
		return true, err
	})},
	{"Lookup finds deleted keys that never expire", "Delete removes the record", true, remembering(
		func(t *table, g graves) {
			t.onLookup = func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
				for _, r := range g {
					if r.Hash == hash && r.ExpiresAt.IsZero() {
						return r, nil
					}
				}
				return t.lookup(hash)
			}
		})},
	{"Get finds deleted keys that never expire", "Delete removes the record", true, remembering(
		func(t *table, g graves) {
			t.onGet = func(_ context.Context, id string) (*auth.Record, error) {
				if r := g[id]; r != nil && r.ExpiresAt.IsZero() {
					return r, nil
				}
				return t.get(id)
			}
		})},
	{"List returns deleted keys that never expire", "Delete removes the record", true, remembering(
		func(t *table, g graves) {
			t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
				page, err := t.list(q)
				for _, r := range g {
					if r.ExpiresAt.IsZero() {
						page = append(page, r)
					}
				}
				return page, err
			}
		})},
	{"Delete removes all keys of that name", "Delete removes one record", true, deleting(
		func(t *table, id string) (bool, error) {
			r, err := t.get(id)
			if err != nil {
				return true, err
			}
			same := func(old *auth.Record) bool { return old.Name == r.Name && old.ID != id }
			for _, r := range t.selected(keyring.Query{}, same) {
				t.delete(r.ID, "")
			}
			return false, nil
		})},
	{"Delete removes the rest of the chain", "Delete removes one record", true, deleting(
		func(t *table, id string) (bool, error) {
			r, err := t.get(id)
			if err == nil && r.RotatedFrom != "" && r.RotatedTo != "" {
				t.delete(r.RotatedTo, "")
			}
			return false, nil
		})},
	{"Delete of a text that is not a UUID returns an error of its own", "Delete of an unknown ID", true, deleting(
		func(_ *table, id string) (bool, error) {
			return len(id) != 36, errors.New("invalid input syntax for type uuid")
		})},
	{"Delete of an unknown ID succeeds", "Delete of an unknown ID", false, func(t *table) {
		t.onDelete = func(_ context.Context, id, by string) error {
			t.delete(id, by)
			return nil
		}
	}},
	{"Delete takes a pattern", "Delete of an unknown ID", true, deleting(func(t *table, id string) (bool, error) {
		if id != "%" {
			return false, nil
		}
		for _, r := range t.selected(keyring.Query{}, func(*auth.Record) bool { return true }) {
			t.delete(r.ID, "")
		}
		return true, auth.ErrNotFound
	})},
	{"a second Delete succeeds", "Delete twice", true, remembering(func(t *table, g graves) {
		first := t.onDelete
		t.onDelete = func(ctx context.Context, id, by string) error {
			if err := first(ctx, id, by); err != nil && g[id] == nil {
				return err
			}
			return nil
		}
	})},
	{"a deleted ID stays taken", "Insert after Delete", false, remembering(func(t *table, g graves) {
		t.onInsert = func(_ context.Context, r *auth.Record) error {
			if g[r.ID] != nil {
				return keyring.ErrExists
			}
			return t.insert(r)
		}
	})},
	{"a deleted hash stays taken", "Insert after Delete", true, remembering(func(t *table, g graves) {
		t.onInsert = func(_ context.Context, r *auth.Record) error {
			for id, old := range g {
				if old.Hash == r.Hash && id != r.ID {
					return keyring.ErrExists
				}
			}
			return t.insert(r)
		}
	})},
	{"a new record gets the last use of a deleted one", "Insert after Delete", true, remembering(
		func(t *table, g graves) {
			t.inserts = func(r *auth.Record) {
				if old := g[r.ID]; old != nil && r.LastUsedAt.IsZero() {
					r.LastUsedAt = old.LastUsedAt
				}
			}
		})},
	{"Update brings a deleted record back", "Update after Delete", true, remembering(func(t *table, g graves) {
		t.onUpdate = func(_ context.Context, r, successor *auth.Record) error {
			err := t.update(r, successor)
			if err == auth.ErrNotFound && successor == nil && g[r.ID] != nil {
				return t.insert(r)
			}
			return err
		}
	})},
	{"Update of a deleted record is of another revision", "Update after Delete", true, remembering(
		func(t *table, g graves) {
			t.onUpdate = func(_ context.Context, r, successor *auth.Record) error {
				err := t.update(r, successor)
				if err == auth.ErrNotFound && successor == nil && g[r.ID] != nil {
					return keyring.ErrConflict
				}
				return err
			}
		})},
}
