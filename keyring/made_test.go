package keyring_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// A leaked key makes keys, one of which makes more, rotates itself and is
// deleted. TestMade finds all of them, and nothing else.
func TestMade(t *testing.T) {
	manager, _ := newManager(nil)
	keys := manager.For(ada)
	leaked := create(t, keys, keyring.Spec{Name: "leaked", Scopes: auth.Scopes{"*"}})
	create(t, keys, keyring.Spec{Name: "by ada"})
	child := create(t, manager.For(keyring.ActorOf(leaked)), keyring.Spec{Name: "child", Scopes: auth.Scopes{"*"}})
	byChild := manager.For(keyring.ActorOf(child))
	grandchild := create(t, byChild, keyring.Spec{Name: "grandchild"})
	successor, _, err := byChild.Rotate(ctx, child.ID, day)
	must(t, err)
	late := create(t, manager.For(keyring.ActorOf(successor)), keyring.Spec{Name: "late"})
	must(t, keys.Delete(ctx, child.ID))
	want := []string{child.ID, grandchild.ID, successor.ID, late.ID}

	made, err := keys.Made(ctx, leaked.ID)
	must(t, err)
	if slices.Sort(made); !slices.Equal(made, slices.Sorted(slices.Values(want))) {
		t.Errorf("Made: %q, want %q", made, want)
	}
	made, err = keys.Made(ctx, late.ID)
	must(t, err)
	if len(made) != 0 {
		t.Errorf("Made of a key that made nothing: %q", made)
	}

	must(t, keys.Delete(ctx, leaked.ID))
	revoked, err := keys.RevokeMade(ctx, leaked.ID) // which does not save the others
	must(t, err)
	if want := 3; len(revoked) != want {
		t.Errorf("RevokeMade: %q, want %d keys", revoked, want)
	}
	for r, err := range keys.List(ctx, keyring.Filter{}) {
		must(t, err)
		if r.RevokedAt.IsZero() != (r.Name == "by ada") {
			t.Errorf("key %q was revoked at %v", r.Name, r.RevokedAt)
		}
	}
}

// Neither an actor's name nor nothing nor another owner's key stands for keys.
func TestMadeUnknown(t *testing.T) {
	manager, _ := newManager(nil)
	keys := manager.For(ada)
	create(t, keys, keyring.Spec{})
	foreign := create(t, manager.For(bob), keyring.Spec{Scopes: auth.Scopes{"*"}})
	create(t, manager.For(keyring.ActorOf(foreign)), keyring.Spec{})
	for _, id := range []string{"", "ada", "unknown", foreign.ID} {
		if made, err := keys.Made(ctx, id); !errors.Is(err, auth.ErrNotFound) || len(made) != 0 {
			t.Errorf("Made(%q): %q, %v, want ErrNotFound", id, made, err)
		}
		if revoked, err := keys.RevokeMade(ctx, id); !errors.Is(err, auth.ErrNotFound) || len(revoked) != 0 {
			t.Errorf("RevokeMade(%q): %q, %v, want ErrNotFound", id, revoked, err)
		}
	}
	for r, err := range manager.Unconfined("test").List(ctx, keyring.Filter{States: keyring.Revoked}) {
		t.Errorf("%v is revoked, %v", r, err)
	}
}
