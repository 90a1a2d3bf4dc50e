package authtest_test

import (
	"cmp"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
)

// A fault is something wrong with a store, and the case of TestStore that is there to catch it.
type fault struct {
	fault  string
	caught string // the name of the case
	do     func(t *table)
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
	faults := slices.Concat(readFaults, writeFaults)
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
