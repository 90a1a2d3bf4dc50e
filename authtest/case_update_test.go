package authtest_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// storing breaks what Update makes of a row.
func storing(f func(old, r *auth.Record)) func(t *table) { return func(t *table) { t.updates = f } }

// succeeding breaks what Update makes of a successor.
func succeeding(f func(old, successor *auth.Record)) func(t *table) {
	return func(t *table) {
		t.onUpdate = func(_ context.Context, r, successor *auth.Record) error {
			if old, err := t.get(r.ID); err == nil && successor != nil {
				successor = successor.Clone()
				f(old, successor)
			}
			return t.update(r, successor)
		}
	}
}

// updating is called before an Update that is right, which it can prevent.
func updating(f func(t *table, r, successor *auth.Record) (done bool, err error)) func(t *table) {
	return func(t *table) {
		t.onUpdate = func(_ context.Context, r, successor *auth.Record) error {
			if done, err := f(t, r, successor); done {
				return err
			}
			return t.update(r, successor)
		}
	}
}

// changeRows makes f of each row that matches, and returns how many there are.
func (t *table) changeRows(match func(r *auth.Record) bool, f func(r *auth.Record)) int {
	rows := make(map[string]time.Time)
	for _, r := range t.selected(keyring.Query{}, match) {
		rows[r.ID] = time.Time{}
	}
	t.touchRows(rows, func(r *auth.Record, _ time.Time) { f(r) })
	return len(rows)
}

// addAnyway adds a row even if its ID or its hash is taken.
func (t *table) addAnyway(r *auth.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.add(r)
}

// replaceRevoked inserts a successor in place of a revoked record that has the
// same, and then updates.
func replaceRevoked(same func(a, b *auth.Record) bool) func(t *table) {
	return updating(func(t *table, r, successor *auth.Record) (bool, error) {
		if successor == nil {
			return false, nil
		}
		taken, err := t.find(func(old *auth.Record) bool { return same(old, successor) && !old.RevokedAt.IsZero() })
		if err == nil {
			t.delete(taken.ID, "")
		}
		return false, nil
	})
}

var updateFaults = []fault{
	{"Update does nothing", "Update stores each change", false, updating(
		func(*table, *auth.Record, *auth.Record) (bool, error) { return true, nil })},
	{"Update does not store the name", "Update stores each change", false, storing(
		func(old, r *auth.Record) { r.Name = old.Name })},
	{"Update does not store a revocation", "Update stores each change", false, storing(func(old, r *auth.Record) {
		r.RevokedAt = old.RevokedAt
	})},
	{"a key cannot be enabled", "Update stores each change", false, storing(func(old, r *auth.Record) {
		if r.DisabledAt.IsZero() {
			r.DisabledAt = old.DisabledAt
		}
	})},
	{"an expiry cannot be removed", "Update stores each change", true, storing(func(old, r *auth.Record) {
		if r.ExpiresAt.IsZero() {
			r.ExpiresAt = old.ExpiresAt
		}
	})},
	{"Update sets UpdatedAt", "Update stores each change", false, storing(
		func(_, r *auth.Record) { r.UpdatedAt = time.Now() })},
	{"Update leaves UpdatedBy", "Update stores each change", false, storing(
		func(old, r *auth.Record) { r.UpdatedBy = old.UpdatedBy })},
	{"Update counts the revision twice", "Update stores each change", false, storing(
		func(_, r *auth.Record) { r.Revision++ })},
	{"Update merges metadata", "Update stores each change", true, storing(func(old, r *auth.Record) {
		if _, ok := r.Metadata["new"]; ok {
			merged := maps.Clone(old.Metadata)
			maps.Copy(merged, r.Metadata)
			r.Metadata = merged
		}
	})},
	{"Update stores milliseconds", "Update keeps microseconds", true, storing(func(_, r *auth.Record) {
		r.ExpiresAt = r.ExpiresAt.Truncate(time.Millisecond)
	})},
	{"Update leaves out metadata without a value", "Update keeps scopes and metadata", true, storing(
		func(_, r *auth.Record) {
			maps.DeleteFunc(r.Metadata, func(_, value string) bool { return value == "" })
		})},
	{"the scopes of a successor are a set", "Update keeps scopes and metadata", true, succeeding(
		func(_, s *auth.Record) {
			s.Scopes = slices.Compact(s.Scopes)
		})},
	{"Update trims text", "Update keeps text", true, storing(
		func(_, r *auth.Record) { r.Name = strings.TrimSpace(r.Name) })},
	{"Update cuts text after 200 bytes", "Update keeps text", true, storing(func(_, r *auth.Record) {
		r.UpdatedBy = r.UpdatedBy[:min(len(r.UpdatedBy), 200)]
	})},
	{"Update changes all records of that revision", "Update changes one record", false, updating(
		func(t *table, r, _ *auth.Record) (bool, error) {
			t.changeRows(func(old *auth.Record) bool { return old.Revision == r.Revision-1 && old.ID != r.ID },
				func(old *auth.Record) { old.Name = r.Name })
			return false, nil
		})},
	{"Update changes all records of that time", "Update changes one record", true, updating(
		func(t *table, r, _ *auth.Record) (bool, error) {
			if _, err := t.get(r.ID); err == nil && r.Revision == 2 {
				t.changeRows(func(old *auth.Record) bool { return old.CreatedAt.Equal(r.CreatedAt) && old.ID != r.ID },
					func(old *auth.Record) { old.Name = r.Name })
			}
			return false, nil
		})},
	{"Update stores LastUsedAt", "Update does not store LastUsedAt", false, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			err := t.update(r, successor)
			if err == nil {
				t.changeRows(func(old *auth.Record) bool { return old.ID == r.ID },
					func(old *auth.Record) { old.LastUsedAt = r.LastUsedAt })
			}
			return true, err
		})},
	{"Update stores a later LastUsedAt", "Update does not store LastUsedAt", true, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			err := t.update(r, successor)
			if err == nil && successor == nil && !r.LastUsedAt.IsZero() {
				t.touch(map[string]time.Time{r.ID: r.LastUsedAt})
			}
			return true, err
		})},
	{"Update stores the hash", "Update does not store what never changes", true, anyway(
		func(old, r *auth.Record) { old.Hash = r.Hash })},
	{"Update stores the owner", "Update does not store what never changes", true, anyway(
		func(old, r *auth.Record) { old.Owner = r.Owner })},
	{"Update stores CreatedAt", "Update does not store what never changes", true, anyway(func(old, r *auth.Record) {
		old.CreatedAt = r.CreatedAt
	})},
	{"Update stores CreatedBy", "Update does not store what never changes", true, anyway(func(old, r *auth.Record) {
		old.CreatedBy = r.CreatedBy
	})},
	{"the revision is not compared", "Update of another revision", false, updating(forced)},
	{"a revision over a million is not compared", "Update of another revision", true, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			if r.Revision < 1e6 {
				return false, nil
			}
			return forced(t, r, successor)
		})},
	{"Update of another revision passes over it", "Update of another revision", false, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			err := t.update(r, successor)
			if err == keyring.ErrConflict {
				err = nil
			}
			return true, err
		})},
	{"a successor of another revision is inserted", "Update of another revision inserts no successor", false, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			err := t.update(r, successor)
			if err == keyring.ErrConflict && successor != nil {
				t.insert(successor)
			}
			return true, err
		})},
	{"a successor of a future revision is inserted", "Update of another revision inserts no successor", true, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			if old, err := t.get(r.ID); err == nil && successor != nil && r.Revision > old.Revision+1 {
				t.insert(successor)
			}
			return false, nil
		})},
	{"Update of an unknown record inserts it", "Update of an unknown record", false, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			err := t.update(r, successor)
			if err == auth.ErrNotFound {
				err = t.insert(r)
			}
			return true, err
		})},
	{"Update finds the record by its hash", "Update of an unknown record", true, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			old, err := t.lookup(r.Hash)
			if _, unknown := t.get(r.ID); err != nil || unknown == nil {
				return false, nil
			}
			r = r.Clone()
			r.ID = old.ID
			return true, t.update(r, successor)
		})},
	{"an unknown record is of another revision", "Update of an unknown record", false, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			err := t.update(r, successor)
			if err == auth.ErrNotFound {
				err = keyring.ErrConflict
			}
			return true, err
		})},
	{"a successor of an unknown record is inserted", "Update of an unknown record inserts no successor", false, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			err := t.update(r, successor)
			if err == auth.ErrNotFound && successor != nil {
				t.insert(successor)
			}
			return true, err
		})},
	{"Update inserts a successor into an empty table", "Update of an unknown record inserts no successor", true, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			if len(t.events) == 0 && successor != nil {
				t.insert(successor)
				return true, auth.ErrNotFound
			}
			return false, nil
		})},
	{"Update does not insert the successor", "Update inserts the successor", false, updating(
		func(t *table, r, _ *auth.Record) (bool, error) { return true, t.update(r, nil) })},
	{"a successor gets the owner of the old record", "Update inserts the successor", true, succeeding(
		func(old, s *auth.Record) { s.Owner = old.Owner })},
	{"a successor starts with revision 1", "Update inserts the successor", true, succeeding(
		func(_, s *auth.Record) { s.Revision = 1 })},
	{"a successor has no successor", "Update makes chains", false, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			return r.RotatedFrom != "" && successor != nil, keyring.ErrConflict
		})},
	{"a chain has at most four keys", "Update makes chains", true, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			chain := t.selected(keyring.Query{}, func(old *auth.Record) bool {
				return old.Chain == r.Chain && old.RotatedFrom != ""
			})
			return len(chain) >= 3 && successor != nil, keyring.ErrConflict
		})},
	{"the ID of a successor may be taken", "Update with a taken successor ID", false, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			if successor == nil {
				return false, nil
			}
			if _, err := t.get(successor.ID); err != nil {
				return false, nil
			}
			err := t.update(r, nil)
			if err == nil {
				t.addAnyway(successor)
			}
			return true, err
		})},
	{"Update stores the record, and then fails", "Update with a taken successor ID", false, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			err := t.update(r, nil)
			if err == nil && successor != nil {
				err = t.insert(successor)
			}
			return true, err
		})},
	{"a successor replaces a revoked record with its ID", "Update with a taken successor ID", true, replaceRevoked(
		func(a, b *auth.Record) bool { return a.ID == b.ID && a.Hash != b.Hash })},
	{"a successor replaces a revoked record with its hash", "Update with a taken successor hash", true, replaceRevoked(
		func(a, b *auth.Record) bool { return a.Hash == b.Hash && a.ID != b.ID })},
	{"the hash of a successor may be taken", "Update with a taken successor hash", false, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			if successor == nil {
				return false, nil
			}
			if _, err := t.lookup(successor.Hash); err != nil {
				return false, nil
			}
			err := t.update(r, nil)
			if err == nil {
				t.addAnyway(successor)
			}
			return true, err
		})},
	{"a successor needs no ID", "Update with a successor without an ID", true, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			if successor == nil || successor.ID != "" {
				return false, nil
			}
			err := t.update(r, nil)
			if err == nil {
				t.addAnyway(successor)
			}
			return true, err
		})},
	{"Update stores the record before it looks at an ID", "Update with a successor without an ID", true, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			if successor == nil || successor.ID != "" {
				return false, nil
			}
			return true, errors.Join(t.update(r, nil), errors.New("no ID"))
		})},
	{"Update sorts the caller's scopes", "Update does not modify the records", true, updating(
		func(_ *table, r, _ *auth.Record) (bool, error) {
			slices.Sort(r.Scopes)
			return false, nil
		})},
	{"Update sets the LastUsedAt of the caller's record", "Update does not modify the records", true, updating(
		func(t *table, r, successor *auth.Record) (bool, error) {
			if old, err := t.get(r.ID); err == nil && successor != nil && len(r.Scopes) == 2 && r.Scopes[0] > r.Scopes[1] {
				r.LastUsedAt = old.LastUsedAt
			}
			return false, nil
		})},
}

// forced updates a record of any revision.
func forced(t *table, r, successor *auth.Record) (bool, error) {
	old, err := t.get(r.ID)
	if err != nil {
		return true, err
	}
	t.changeRows(func(row *auth.Record) bool { return row == old },
		func(row *auth.Record) { row.Revision = r.Revision - 1 })
	return true, t.update(r, successor)
}

// anyway breaks Update: it stores what never changes.
func anyway(f func(old, r *auth.Record)) func(t *table) {
	return updating(func(t *table, r, successor *auth.Record) (bool, error) {
		err := t.update(r, successor)
		if err == nil {
			t.changeRows(func(old *auth.Record) bool { return old.ID == r.ID }, func(old *auth.Record) { f(old, r) })
		}
		return true, err
	})
}
