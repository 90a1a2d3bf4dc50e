package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// A method is a call of a Keyring about the key with an ID.
type method struct {
	name string
	call func(k *keyring.Keyring, id string) error
}

// methods are all methods that take an ID.
var methods = []method{
	{"Get", func(k *keyring.Keyring, id string) error { _, err := k.Get(context.Background(), id); return err }},
	{"Update name", func(k *keyring.Keyring, id string) error {
		_, err := k.Update(context.Background(), id, func(r *auth.Record) error { r.Name = "taken over"; return nil })
		return err
	}},
	{"Update scopes", func(k *keyring.Keyring, id string) error {
		_, err := k.Update(context.Background(), id, func(r *auth.Record) error { r.Scopes = auth.Scopes{"*"}; return nil })
		return err
	}},
	{"Update nothing", func(k *keyring.Keyring, id string) error {
		_, err := k.Update(context.Background(), id, func(r *auth.Record) error { return nil })
		return err
	}},
	{"Rotate", func(k *keyring.Keyring, id string) error {
		_, key, err := k.Rotate(context.Background(), id, time.Hour)
		if key.Reveal() != "" {
			return errors.New("Rotate returned a key")
		}
		return err
	}},
	{"Disable", func(k *keyring.Keyring, id string) error { return k.Disable(context.Background(), id) }},
	{"Enable", func(k *keyring.Keyring, id string) error { return k.Enable(context.Background(), id) }},
	{"Revoke", func(k *keyring.Keyring, id string) error { return k.Revoke(context.Background(), id) }},
	{"Delete", func(k *keyring.Keyring, id string) error { return k.Delete(context.Background(), id) }},
	{"Events", func(k *keyring.Keyring, id string) error {
		for e, err := range k.Events(context.Background(), keyring.EventFilter{KeyID: id}) {
			if err == nil {
				return fmt.Errorf("Events returned %v", e)
			}
			return err
		}
		return errors.New("Events returned nothing")
	}},
}

// A careless store ignores what a Query selects, except for its limit, and what
// an EventQuery selects.
type careless struct{ *keyring.MemoryStore }

func (s careless) List(ctx context.Context, q keyring.Query) ([]*auth.Record, error) {
	return s.MemoryStore.List(ctx, keyring.Query{After: q.After, NewestFirst: q.NewestFirst, Limit: q.Limit})
}

func (s careless) Events(ctx context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
	return s.MemoryStore.Events(ctx, keyring.EventQuery{After: q.After, Limit: q.Limit})
}

// content returns everything in a store as text, hashes aside.
func content(t *testing.T, s keyring.Store) string {
	t.Helper()
	records, err := s.List(t.Context(), keyring.Query{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, r := range records {
		fmt.Fprintln(&b, r.ID, r.Name, r.Owner, r.Scopes, r.ExpiresAt, r.DisabledAt, r.RevokedAt, r.RotatedTo, r.Revision)
	}
	return b.String()
}

// A victim is an owner with one key in each state, in a store that others attack.
type victim struct {
	store   keyring.Store
	manager *keyring.Manager
	ids     map[string]string // by state
}

func newVictim(t *testing.T, store keyring.Store, opts *keyring.Options) *victim {
	t.Helper()
	v := &victim{store, keyring.NewManager(store, opts), make(map[string]string)}
	keys := v.manager.Unconfined("setup")
	create := func(state string, scopes ...auth.Scope) string {
		r, _, err := keys.Create(t.Context(), keyring.Spec{Name: state, Owner: "victim", Scopes: scopes})
		if err != nil {
			t.Fatal(err)
		}
		v.ids[state] = r.ID
		return r.ID
	}
	create("active", "a.b")
	create("full", "*")
	for state, end := range map[string]func(id string) error{
		"disabled": func(id string) error { return keys.Disable(t.Context(), id) },
		"revoked":  func(id string) error { return keys.Revoke(t.Context(), id) },
		"rotated":  func(id string) error { _, _, err := keys.Rotate(t.Context(), id, time.Hour); return err },
	} {
		if err := end(create(state, "a.b")); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// TestAnotherOwner drives every method with the IDs of another owner. The answer
// must be that for an ID that does not exist, word for word, and nothing changes.
func TestAnotherOwner(t *testing.T) {
	for name, store := range map[string]keyring.Store{
		"MemoryStore":    new(keyring.MemoryStore),
		"careless store": careless{new(keyring.MemoryStore)},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVictim(t, store, nil)
			before := content(t, store)
			for _, owner := range []string{"attacker", "victi", "Victim", "victim ", "victim\x00", "*", "%", "vic%"} {
				attacker := v.manager.For(keyring.Actor{Name: "attacker", Owner: owner, Scopes: auth.Scopes{"*"}})
				for _, m := range methods {
					unknown := m.call(attacker, "01890000-0000-7000-8000-000000000000")
					for state, id := range v.ids {
						err := m.call(attacker, id)
						if owner != "victim\x00" && !errors.Is(err, auth.ErrNotFound) {
							t.Errorf("owner %q, %s of a key that is %s: got %v, want %v", owner, m.name, state, err, auth.ErrNotFound)
						}
						if fmt.Sprint(err) != fmt.Sprint(unknown) {
							t.Errorf("owner %q, %s of a key that is %s: got %q, want %q as for an unknown ID", owner, m.name, state, err, unknown)
						}
					}
				}
				for r, err := range attacker.List(t.Context(), keyring.Filter{}) {
					if err == nil {
						t.Errorf("owner %q lists %v", owner, r)
					}
				}
				for e, err := range attacker.Events(t.Context(), keyring.EventFilter{}) {
					if err == nil {
						t.Errorf("owner %q sees the event %v", owner, e)
					}
				}
			}
			if after := content(t, store); after != before {
				t.Errorf("the store was changed from\n%s to\n%s", before, after)
			}
		})
	}
}

// TestFiltersOfAnotherOwner checks that no filter widens what a confined Keyring
// sees.
func TestFiltersOfAnotherOwner(t *testing.T) {
	store := careless{new(keyring.MemoryStore)}
	v := newVictim(t, store, nil)
	attacker := v.manager.For(keyring.Actor{Name: "attacker", Owner: "attacker", Scopes: auth.Scopes{"*"}})
	for _, f := range []keyring.Filter{
		{Owner: "attacker"},
		{Chain: v.ids["rotated"]},
		{CreatedBy: "staff:setup"},
		{Text: "victim"},
		{States: keyring.Active},
		{NewestFirst: true},
		{After: keyring.Position{CreatedAt: time.Unix(1, 0)}},
		{ExpiresFrom: time.Unix(1, 0)},
	} {
		for r, err := range attacker.List(t.Context(), f) {
			t.Errorf("List(%+v): got %v, %v, want nothing", f, r, err)
		}
	}
	for _, err := range attacker.List(t.Context(), keyring.Filter{Owner: "victim"}) {
		if !errors.Is(err, keyring.ErrInvalidArgument) {
			t.Errorf("List of another owner: got %v, want %v", err, keyring.ErrInvalidArgument)
		}
	}
	if _, _, err := attacker.Create(t.Context(), keyring.Spec{Name: "key", Owner: "victim"}); !errors.Is(err, keyring.ErrInvalidArgument) {
		t.Errorf("Create for another owner: got %v, want %v", err, keyring.ErrInvalidArgument)
	}
}

// TestActorsWhoCanDoNothing drives every method with actors that cannot act.
func TestActorsWhoCanDoNothing(t *testing.T) {
	store := new(keyring.MemoryStore)
	v := newVictim(t, store, nil)
	before := content(t, store)
	for name, actor := range map[string]keyring.Actor{
		"zero":             {},
		"no owner":         {Name: "x", Scopes: auth.Scopes{"*"}},
		"expired":          {Name: "x", Owner: "victim", Scopes: auth.Scopes{"*"}, ExpiresAt: time.Now().Add(-time.Second)},
		"staff by name":    {Name: "staff:root", Owner: "victim", Scopes: auth.Scopes{"*"}},
		"database by name": {Name: "sql:postgres", Owner: "victim", Scopes: auth.Scopes{"*"}},
		"long name":        {Name: strings.Repeat("x", 256), Owner: "victim", Scopes: auth.Scopes{"*"}},
		"name with NUL":    {Name: "a\x00", Owner: "victim", Scopes: auth.Scopes{"*"}},
		"name not UTF-8":   {Name: "\xff", Owner: "victim", Scopes: auth.Scopes{"*"}},
	} {
		keys := v.manager.For(actor)
		for _, m := range methods {
			if err := m.call(keys, v.ids["active"]); !errors.Is(err, keyring.ErrInvalidArgument) {
				t.Errorf("%s, %s: got %v, want %v", name, m.name, err, keyring.ErrInvalidArgument)
			}
		}
		if _, _, err := keys.Create(t.Context(), keyring.Spec{Name: "key", Scopes: auth.Scopes{"a.b"}}); !errors.Is(err, keyring.ErrInvalidArgument) {
			t.Errorf("%s, Create: got %v, want %v", name, err, keyring.ErrInvalidArgument)
		}
		if _, err := keys.Find(t.Context(), auth.Scheme{}.NewKey()); !errors.Is(err, keyring.ErrInvalidArgument) {
			t.Errorf("%s, Find: got %v, want %v", name, err, keyring.ErrInvalidArgument)
		}
		listed := false
		for _, err := range keys.List(t.Context(), keyring.Filter{}) {
			listed = true
			if !errors.Is(err, keyring.ErrInvalidArgument) {
				t.Errorf("%s, List: got %v, want %v", name, err, keyring.ErrInvalidArgument)
			}
		}
		if !listed {
			t.Errorf("%s, List: no error", name)
		}
	}
	if after := content(t, store); after != before {
		t.Errorf("the store was changed from\n%s to\n%s", before, after)
	}
}

// TestActorsWithoutScopes checks that nil and empty scopes grant nothing, and
// what is possible all the same.
func TestActorsWithoutScopes(t *testing.T) {
	for name, scopes := range map[string]auth.Scopes{"nil": nil, "empty": {}, "invalid": {"", "a b", "**"}} {
		v := newVictim(t, new(keyring.MemoryStore), nil)
		keys := v.manager.For(keyring.Actor{Name: "weak", Owner: "victim", Scopes: scopes})
		update := func(change func(r *auth.Record)) error {
			_, err := keys.Update(t.Context(), v.ids["active"], func(r *auth.Record) error { change(r); return nil })
			return err
		}
		create := func(scopes ...auth.Scope) error {
			_, _, err := keys.Create(t.Context(), keyring.Spec{Name: "key", Scopes: scopes})
			return err
		}
		for _, c := range []struct {
			name string
			err  error
			want error
		}{
			{"create with *", create("*"), auth.ErrInsufficientScope},
			{"create with a scope", create("a.b"), auth.ErrInsufficientScope},
			{"create without scopes", create(), nil},
			{"widen", update(func(r *auth.Record) { r.Scopes = auth.Scopes{"a.b", "a.c"} }), auth.ErrInsufficientScope},
			{"replace", update(func(r *auth.Record) { r.Scopes = auth.Scopes{"*"} }), auth.ErrInsufficientScope},
			{"enable", keys.Enable(t.Context(), v.ids["disabled"]), auth.ErrInsufficientScope},
			{"rotate", second(keys.Rotate(t.Context(), v.ids["active"], 0)), auth.ErrInsufficientScope},
			{"rename", update(func(r *auth.Record) { r.Name = "renamed" }), nil},
			{"shorten", update(func(r *auth.Record) { r.ExpiresAt = time.Now().Add(time.Hour) }), nil},
			{"extend", update(func(r *auth.Record) { r.ExpiresAt = time.Time{} }), auth.ErrInsufficientScope},
			{"extend and narrow at once", update(func(r *auth.Record) { r.ExpiresAt, r.Scopes = time.Time{}, nil }), nil},
			{"narrow", update(func(r *auth.Record) { r.Scopes = nil }), nil},
			{"disable", keys.Disable(t.Context(), v.ids["active"]), nil},
			{"revoke", keys.Revoke(t.Context(), v.ids["full"]), nil},
		} {
			if !errors.Is(c.err, c.want) {
				t.Errorf("%s scopes, %s: got %v, want %v", name, c.name, c.err, c.want)
			}
		}
	}
}

func second(_ auth.Record, _ auth.Key, err error) error { return err }

// TestKeyThatRotatesItself checks that an expiring key cannot gain time, however
// often it rotates itself (case C3).
func TestKeyThatRotatesItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		manager := keyring.NewManager(new(keyring.MemoryStore), nil)
		self, _, err := manager.Unconfined("setup").Create(t.Context(), keyring.Spec{Name: "key", Owner: "o",
			Scopes: auth.Scopes{"a.b"}, ExpiresAt: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		end := self.ExpiresAt
		for rotations := 0; ; rotations++ {
			time.Sleep(11 * time.Minute)
			next, _, err := manager.For(keyring.ActorOf(self)).Rotate(t.Context(), self.ID, 0)
			if err != nil {
				if rotations != 5 {
					t.Errorf("%d rotations until %v, want 5", rotations, err)
				}
				break
			}
			if next.ExpiresAt.After(end) {
				t.Fatalf("rotation %d: expires %v, want at most %v", rotations, next.ExpiresAt, end)
			}
			self = next
		}
		if time.Now().Before(end) {
			t.Errorf("it can rotate no more at %v, before its end at %v", time.Now(), end)
		}
	})
}

// An interleaver calls other once, before the first Update, as if another
// process changed the key between the check and the write.
type interleaver struct {
	*keyring.MemoryStore
	other func() // nil when it has been called
}

func (s *interleaver) Update(ctx context.Context, r, successor *auth.Record) error {
	if other := s.other; other != nil {
		s.other = nil
		other()
	}
	return s.MemoryStore.Update(ctx, r, successor)
}

// TestChangesInBetween lets staff change a key while a customer changes it, at
// the worst moment. Each check must hold for the revision that is written.
func TestChangesInBetween(t *testing.T) {
	type state struct {
		err error
		r   auth.Record // of the key
		new auth.Record // of a successor
	}
	narrow := func(k *keyring.Keyring, id string) error {
		_, err := k.Update(context.Background(), id, func(r *auth.Record) error { r.Scopes = auth.Scopes{"a.b"}; return nil })
		return err
	}
	widen := func(k *keyring.Keyring, id string) error {
		_, err := k.Update(context.Background(), id, func(r *auth.Record) error { r.Scopes = auth.Scopes{"*"}; return nil })
		return err
	}
	shorten := func(k *keyring.Keyring, id string) error {
		_, err := k.Update(context.Background(), id, func(r *auth.Record) error { r.ExpiresAt = r.CreatedAt.Add(time.Hour); return nil })
		return err
	}
	byName := make(map[string]func(k *keyring.Keyring, id string) error)
	for _, m := range methods {
		byName[m.name] = m.call
	}
	var next auth.Record
	rotate := func(k *keyring.Keyring, id string) (err error) {
		next, _, err = k.Rotate(context.Background(), id, time.Hour)
		return err
	}
	for _, c := range []struct {
		name        string
		mine, other func(k *keyring.Keyring, id string) error
		want        func(s state) string // what is wrong, or ""
	}{
		{"rotate while it is narrowed (case C2)", rotate, narrow, func(s state) string {
			return differs(s.new.Scopes, auth.Scopes{"a.b"})
		}},
		{"rotate while it is widened", rotate, widen, func(s state) string {
			return differs(s.err, auth.ErrInsufficientScope)
		}},
		{"rotate while it is revoked", rotate, byName["Revoke"], func(s state) string { return differs(s.err, auth.ErrKeyRevoked) }},
		{"rotate while it is disabled", rotate, byName["Disable"], func(s state) string { return differs(s.err, auth.ErrKeyDisabled) }},
		{"rotate while it is rotated", rotate, byName["Rotate"], func(s state) string { return differs(s.err, keyring.ErrRotated) }},
		{"rotate while it is deleted", rotate, byName["Delete"], func(s state) string { return differs(s.err, auth.ErrNotFound) }},
		{"rotate while it is shortened", rotate, shorten, func(s state) string {
			return differs(s.new.ExpiresAt.Sub(s.new.CreatedAt), time.Hour)
		}},
		{"rename while it is revoked", byName["Update name"], byName["Revoke"], func(s state) string { return differs(s.err, auth.ErrKeyRevoked) }},
		{"rename while it is narrowed", byName["Update name"], narrow, func(s state) string {
			return differs(s.r.Scopes, auth.Scopes{"a.b"}) + differs(s.r.Name, "taken over")
		}},
		{"narrow while it is widened", narrow, widen, func(s state) string { return differs(s.r.Scopes, auth.Scopes{"a.b"}) }},
		{"disable while it is revoked", byName["Disable"], byName["Revoke"], func(s state) string { return differs(s.err, auth.ErrKeyRevoked) }},
		{"revoke while it is widened", byName["Revoke"], widen, func(s state) string { return differs(s.r.RevokedAt.IsZero(), false) }},
		{"revoke while it is rotated", byName["Revoke"], byName["Rotate"], func(s state) string { return differs(s.r.RevokedAt.IsZero(), false) }},
	} {
		synctest.Test(t, func(t *testing.T) {
			store := &interleaver{MemoryStore: new(keyring.MemoryStore)}
			manager := keyring.NewManager(store, nil)
			staff := manager.Unconfined("other")
			r, _, err := staff.Create(t.Context(), keyring.Spec{Name: "key", Owner: "o", Scopes: auth.Scopes{"a.*"},
				ExpiresAt: time.Now().Add(10 * time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			store.other = func() {
				if err := c.other(staff, r.ID); err != nil && c.name != "rotate while it is rotated" && c.name != "revoke while it is rotated" {
					t.Errorf("%s: the other change: %v", c.name, err)
				}
			}
			next = auth.Record{}
			s := state{err: c.mine(manager.For(keyring.Actor{Name: "me", Owner: "o", Scopes: auth.Scopes{"a.*"}}), r.ID)}
			s.r, _ = staff.Get(t.Context(), r.ID)
			s.new = next
			if wrong := c.want(s); wrong != "" {
				t.Errorf("%s: %s", c.name, wrong)
			}
		})
	}
}

// differs says that got is not want, or returns "". Errors match.
func differs(got, want any) string {
	if g, ok := got.(error); ok {
		if w, ok := want.(error); ok && errors.Is(g, w) {
			return ""
		}
	}
	if fmt.Sprint(got) == fmt.Sprint(want) {
		return ""
	}
	return fmt.Sprintf("got %v, want %v; ", got, want)
}

// TestReusedID deletes a key in the middle of a change by the same actor, and
// creates another one with its ID. What was checked on the deleted key must not
// be written to the new one.
func TestReusedID(t *testing.T) {
	manager := keyring.NewManager(new(keyring.MemoryStore), &keyring.Options{MaxLifetime: 24 * time.Hour})
	old, _, err := manager.Unconfined("setup").Create(t.Context(), keyring.Spec{Name: "old", Owner: "o",
		Scopes: auth.Scopes{"*"}, Once: "x"})
	if err != nil {
		t.Fatal(err)
	}
	weak := manager.For(keyring.Actor{Name: "weak", Owner: "o", Scopes: auth.Scopes{"a.b"}})
	checks := 0
	_, err = weak.Update(t.Context(), old.ID, func(r *auth.Record) error {
		if checks++; checks == 1 {
			if err := weak.Delete(t.Context(), old.ID); err != nil {
				t.Fatal(err)
			}
			_, _, err := weak.Create(t.Context(), keyring.Spec{Name: "new", Scopes: auth.Scopes{"a.b"}, Once: "x"})
			if err != nil {
				t.Fatal(err)
			}
		}
		r.Name = "renamed"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checks != 2 {
		t.Errorf("the change was checked %d times, want 2", checks)
	}
	r, err := weak.Get(t.Context(), old.ID)
	if err != nil {
		t.Fatal(err)
	}
	if r.Scopes.Covers("c") {
		t.Errorf("the new key holds %v, which its actor does not", r.Scopes)
	}
	if r.ExpiresAt.IsZero() {
		t.Error("the new key never expires, although MaxLifetime is a day")
	}
}

// TestMaxKeysIsLarge checks that a MaxKeys that stands for "no limit" permits a
// rotation, which may have twice as many.
func TestMaxKeysIsLarge(t *testing.T) {
	manager := keyring.NewManager(new(keyring.MemoryStore), &keyring.Options{MaxKeys: math.MaxInt})
	keys := manager.For(keyring.Actor{Name: "a", Owner: "o", Scopes: auth.Scopes{"*"}})
	r, _, err := keys.Create(t.Context(), keyring.Spec{Name: "key"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := keys.Rotate(t.Context(), r.ID, time.Hour); err != nil {
		t.Errorf("Rotate: %v", err)
	}
}
