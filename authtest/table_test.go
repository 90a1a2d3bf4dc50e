package authtest_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
)

func TestMemoryStore(t *testing.T) {
	authtest.TestStore(t, func(*testing.T) auth.KeyStore { return new(auth.MemoryStore) })
}

// The plain store that the broken ones are made from passes, or they would prove nothing.
func TestTable(t *testing.T) {
	authtest.TestStore(t, func(*testing.T) auth.KeyStore { return newTable() })
}

// A table is the plainest KeyStore there is, made to be broken: every method, and the copying of what goes in and
// comes out, can be replaced.
type table struct {
	mu   sync.Mutex
	rows []*auth.Record

	in, out func(r *auth.Record) // instead of a deep copy
	lookup  func(ctx context.Context, hash auth.Hash) (auth.Record, error)
	insert  func(ctx context.Context, r auth.Record) error
	get     func(ctx context.Context, id string) (auth.Record, error)
	list    func(ctx context.Context, owner string, after auth.Position, limit int) ([]auth.Record, error)
	revoke  func(ctx context.Context, id string, at time.Time) error
	replace func(ctx context.Context, successor auth.Record, expires time.Time) error
	touch   func(ctx context.Context, lastUsed map[string]time.Time) error
}

func deepCopy(r *auth.Record) {
	r.Scopes = slices.Clone(r.Scopes)
	r.Metadata = maps.Clone(r.Metadata)
}

func newTable() *table { return &table{in: deepCopy, out: deepCopy} }

// find returns a copy of the row for which match is true.
func (t *table) find(match func(r *auth.Record) bool) (auth.Record, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.rows {
		if match(r) {
			c := *r
			t.out(&c)
			return c, nil
		}
	}
	return auth.Record{}, auth.ErrNotFound
}

// change calls f with the row of that ID.
func (t *table) change(id string, f func(r *auth.Record)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.rows {
		if r.ID == id {
			f(r)
			return nil
		}
	}
	return auth.ErrNotFound
}

// add appends a row without a look at those that are there.
func (t *table) add(r auth.Record) error {
	t.in(&r)
	t.rows = append(t.rows, &r)
	return nil
}

func (t *table) taken(r auth.Record) bool {
	return slices.ContainsFunc(t.rows, func(o *auth.Record) bool { return o.ID == r.ID || o.Hash == r.Hash })
}

func (t *table) Lookup(ctx context.Context, hash auth.Hash) (auth.Record, error) {
	if t.lookup != nil {
		return t.lookup(ctx, hash)
	}
	return t.find(func(r *auth.Record) bool { return r.Hash == hash })
}

func (t *table) Get(ctx context.Context, id string) (auth.Record, error) {
	if t.get != nil {
		return t.get(ctx, id)
	}
	return t.find(func(r *auth.Record) bool { return r.ID == id })
}

func (t *table) Insert(ctx context.Context, r auth.Record) error {
	if t.insert != nil {
		return t.insert(ctx, r)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := cmp.Or(named(nil, &r), t.free(nil, &r)); err != nil {
		return err
	}
	return t.add(r)
}

func (t *table) List(ctx context.Context, owner string, after auth.Position, limit int) ([]auth.Record, error) {
	if t.list != nil {
		return t.list(ctx, owner, after, limit)
	}
	if limit < 1 {
		return nil, errors.New("limit below 1")
	}
	page := t.page(byteOrder, func(r *auth.Record) bool { return owner == "" || r.Owner == owner }, after)
	return page[:min(limit, len(page))], nil
}

func byteOrder(a, b auth.Position) int {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
}

// page returns all that match and lie behind the position, in order.
func (t *table) page(order func(a, b auth.Position) int, match func(*auth.Record) bool, after auth.Position) []auth.Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []auth.Record
	for _, r := range t.rows {
		if c := *r; match(r) && order(position(c), after) > 0 {
			t.out(&c)
			all = append(all, c)
		}
	}
	slices.SortStableFunc(all, func(a, b auth.Record) int { return order(position(a), position(b)) })
	return all
}

func position(r auth.Record) auth.Position { return auth.Position{CreatedAt: r.CreatedAt, ID: r.ID} }

func (t *table) Revoke(ctx context.Context, id string, at time.Time) error {
	if t.revoke != nil {
		return t.revoke(ctx, id, at)
	}
	if at.IsZero() {
		return errors.New("a zero time")
	}
	return t.change(id, func(r *auth.Record) {
		if r.RevokedAt.IsZero() {
			r.RevokedAt = at
		}
	})
}

func (t *table) Replace(ctx context.Context, successor auth.Record, expires time.Time) error {
	if t.replace != nil {
		return t.replace(ctx, successor, expires)
	}
	if expires.IsZero() {
		return errors.New("a zero expiry")
	}
	return t.rotate(successor, func(old *auth.Record) {
		old.ReplacedBy = successor.ID
		if old.ExpiresAt.IsZero() || old.ExpiresAt.After(expires) {
			old.ExpiresAt = expires
		}
	}, notRevoked, notSuperseded, named, t.free)
}

// rotate inserts successor and calls f with the row that it replaces, unless one of the checks is not passed.
func (t *table) rotate(successor auth.Record, f func(old *auth.Record), checks ...func(old, next *auth.Record) error) error {
	err := auth.ErrNotFound
	if changeErr := t.change(successor.Replaces, func(old *auth.Record) {
		for _, check := range checks {
			if err = check(old, &successor); err != nil {
				return
			}
		}
		err = t.add(successor)
		f(old)
	}); changeErr != nil {
		return changeErr
	}
	return err
}

func notRevoked(old, _ *auth.Record) error {
	if !old.RevokedAt.IsZero() {
		return auth.ErrKeyRevoked
	}
	return nil
}

func notSuperseded(old, _ *auth.Record) error {
	if old.ReplacedBy != "" {
		return auth.ErrSuperseded
	}
	return nil
}

func named(_, next *auth.Record) error {
	if next.ID == "" {
		return errors.New("no ID")
	}
	return nil
}

func (t *table) free(_, next *auth.Record) error {
	if t.taken(*next) {
		return auth.ErrExists
	}
	return nil
}

func (t *table) Touch(ctx context.Context, lastUsed map[string]time.Time) error {
	if t.touch != nil {
		return t.touch(ctx, lastUsed)
	}
	for id, at := range lastUsed {
		t.change(id, func(r *auth.Record) {
			if at.After(r.LastUsedAt) {
				r.LastUsedAt = at
			}
		})
	}
	return nil
}
