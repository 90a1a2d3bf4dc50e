package keyring_test

import (
	"context"
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

	found, err := keys.Made(ctx, leaked.ID)
	must(t, err)
	var made []string
	for _, r := range found {
		made = append(made, r.ID)
	}
	if slices.Sort(made); !slices.Equal(made, slices.Sorted(slices.Values(want))) {
		t.Errorf("Made: %q, want %q", made, want)
	}
	found, err = keys.Made(ctx, late.ID)
	must(t, err)
	if len(found) != 0 {
		t.Errorf("Made of a key that made nothing: %v", found)
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
			t.Errorf("Made(%q): %v, %v, want ErrNotFound", id, made, err)
		}
		if revoked, err := keys.RevokeMade(ctx, id); !errors.Is(err, auth.ErrNotFound) || len(revoked) != 0 {
			t.Errorf("RevokeMade(%q): %q, %v, want ErrNotFound", id, revoked, err)
		}
	}
	for r, err := range manager.Unconfined("test").List(ctx, keyring.Filter{States: keyring.Revoked}) {
		t.Errorf("%v is revoked, %v", r, err)
	}
}

// A countingStore counts the calls of its methods, and fails after some.
type countingStore struct {
	*keyring.MemoryStore
	calls int
	most  int    // calls that succeed; if 0, all do
	list  func() // if not nil, called before List
}

func (s *countingStore) count() error {
	if s.calls++; s.most > 0 && s.calls > s.most {
		return context.DeadlineExceeded
	}
	return nil
}

func (s *countingStore) Get(ctx context.Context, id string) (*auth.Record, error) {
	if err := s.count(); err != nil {
		return nil, err
	}
	return s.MemoryStore.Get(ctx, id)
}

func (s *countingStore) List(ctx context.Context, q keyring.Query) ([]*auth.Record, error) {
	if err := s.count(); err != nil {
		return nil, err
	}
	if s.list != nil {
		s.list()
	}
	return s.MemoryStore.List(ctx, q)
}

func (s *countingStore) Events(ctx context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
	if err := s.count(); err != nil {
		return nil, err
	}
	return s.MemoryStore.Events(ctx, q)
}

func (s *countingStore) Update(ctx context.Context, r, successor *auth.Record) error {
	if err := s.count(); err != nil {
		return err
	}
	return s.MemoryStore.Update(ctx, r, successor)
}

// A thief rotates a stolen key hundreds of times, so that revoking all of it
// takes long, and only the last key is good. That one is revoked at once, and
// the number of queries does not grow with the square.
func TestRevokeMadeChain(t *testing.T) {
	const rotations = 300
	store := &countingStore{MemoryStore: new(keyring.MemoryStore)}
	manager := keyring.NewManager(store, nil)
	keys := manager.For(ada)
	first := create(t, keys, keyring.Spec{Scopes: auth.Scopes{"*"}})
	last := first
	for range rotations {
		next, _, err := manager.For(keyring.ActorOf(last)).Rotate(ctx, last.ID, 0)
		must(t, err)
		last = next
	}
	store.calls, store.most = 0, 20
	if _, err := keys.RevokeMade(ctx, first.ID); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("RevokeMade: %v, want the error of the store", err)
	}
	store.most = 0
	r, err := keys.Get(ctx, last.ID)
	must(t, err)
	if r.RevokedAt.IsZero() {
		t.Error("the newest key is still good after 20 queries")
	}

	store.calls = 0
	revoked, err := keys.RevokeMade(ctx, first.ID)
	must(t, err)
	if len(revoked) != rotations+1 {
		t.Errorf("%d keys are revoked, want %d", len(revoked), rotations+1)
	}
	if most := 8 * rotations; store.calls > most {
		t.Errorf("%d queries for %d keys, want at most %d", store.calls, rotations, most)
	}
}

// A thief makes a key while the stolen one is revoked: after the search for what
// it made, and before the end.
func TestRevokeMadeRace(t *testing.T) {
	store := &countingStore{MemoryStore: new(keyring.MemoryStore)}
	manager := keyring.NewManager(store, nil)
	keys := manager.For(ada)
	stolen := create(t, keys, keyring.Spec{Scopes: auth.Scopes{"*"}})
	thief := manager.For(keyring.ActorOf(stolen))
	lists := 0
	store.list = func() {
		if lists++; lists == 3 { // the request began before the key was revoked
			create(t, thief, keyring.Spec{Name: "late"})
		}
	}
	_, err := keys.RevokeMade(ctx, stolen.ID)
	must(t, err)
	store.list = nil
	for r, err := range keys.List(ctx, keyring.Filter{}) {
		must(t, err)
		if r.RevokedAt.IsZero() {
			t.Errorf("key %q is still good", r.Name)
		}
	}
	if lists < 3 {
		t.Fatalf("the store was asked for %d lists, so nothing was made in between", lists)
	}
}
