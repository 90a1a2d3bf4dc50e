package keyring_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

var (
	ctx   = context.Background()
	epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

const day = 24 * time.Hour

// ada may do everything with the keys of acme, bob with those of globex.
var (
	ada = keyring.Actor{Name: "ada", Owner: "acme", Scopes: auth.Scopes{"*"}}
	bob = keyring.Actor{Name: "bob", Owner: "globex", Scopes: auth.Scopes{"*"}}
)

// holding returns ada, who may grant only these scopes.
func holding(scopes ...auth.Scope) keyring.Actor {
	return keyring.Actor{Name: "ada", Owner: "acme", Scopes: scopes}
}

// until returns ada, who may grant expiries until t.
func until(t time.Time) keyring.Actor {
	return keyring.Actor{Name: "ada", Owner: "acme", Scopes: auth.Scopes{"*"}, ExpiresAt: t}
}

// newManager returns a Manager for an empty store.
func newManager(opts *keyring.Options) (*keyring.Manager, *keyring.MemoryStore) {
	store := new(keyring.MemoryStore)
	return keyring.NewManager(store, opts), store
}

// create creates a key with a name, and fails the test if that is refused.
func create(t *testing.T, k *keyring.Keyring, spec keyring.Spec) auth.Record {
	t.Helper()
	if spec.Name == "" {
		spec.Name = "key"
	}
	r, _, err := k.Create(ctx, spec)
	must(t, err)
	return r
}

// put stores a record as it is, and returns it.
func put(t *testing.T, store keyring.Store, r auth.Record) auth.Record {
	t.Helper()
	must(t, store.Insert(ctx, &r))
	return r
}

// numbered returns a record with its own ID and hash. Each is a second younger
// than the one before.
func numbered(i int) auth.Record {
	id := fmt.Sprintf("key-%07d", i)
	at := epoch.Add(time.Duration(i) * time.Second)
	return auth.Record{
		ID: id, Chain: id, Hint: "isk_…U1v2", Name: "key", Owner: "acme", Hash: auth.BLAKE2b(nil)(id),
		CreatedAt: at, CreatedBy: "ada", UpdatedAt: at, UpdatedBy: "ada", Revision: 1,
	}
}

// must ends the test if err is not nil.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// equal checks one value.
func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// same checks one value that is not comparable.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		g, _ := json.Marshal(got)
		w, _ := json.Marshal(want)
		t.Errorf("%s:\ngot  %.1000s\nwant %.1000s", what, g, w)
	}
}

// fails checks that err matches want, and that its text contains text. If want
// is nil, err must be nil.
func fails(t *testing.T, what string, err, want error, text string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got the error %v, want %v", what, err, want)
	}
	if err != nil && !strings.Contains(err.Error(), text) {
		t.Errorf("%s: the error %q does not contain %q", what, err, text)
	}
}

// panics checks that f panics with exactly this text.
func panics(t *testing.T, what, text string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if got := fmt.Sprint(recover()); got != text {
			t.Errorf("%s: panic %q, want %q", what, got, text)
		}
	}()
	f()
}

// ids returns the IDs of a list, and fails the test if it holds an error.
func ids(t *testing.T, list iter.Seq2[auth.Record, error]) []string {
	t.Helper()
	var got []string
	for r, err := range list {
		must(t, err)
		got = append(got, r.ID)
	}
	return got
}

// kinds returns kind and key of each event, oldest first.
func kinds(t *testing.T, list iter.Seq2[keyring.Event, error]) []string {
	t.Helper()
	var got []string
	for e, err := range list {
		must(t, err)
		got = append(got, string(e.Kind)+" "+e.KeyID)
	}
	slices.Reverse(got)
	return got
}

// firstError returns the first error of a list.
func firstError[T any](list iter.Seq2[T, error]) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

// callEach calls each method of k once for a key with that ID, and passes on
// the name of the method and its error.
func callEach(k *keyring.Keyring, id string, check func(method string, err error)) {
	_, _, err := k.Create(ctx, keyring.Spec{Name: "key"})
	check("Create", err)
	_, err = k.Get(ctx, id)
	check("Get", err)
	_, err = k.Find(ctx, auth.Scheme{}.NewKey())
	check("Find", err)
	check("List", firstError(k.List(ctx, keyring.Filter{})))
	_, err = k.Update(ctx, id, func(r *auth.Record) error { r.Name += "!"; return nil })
	check("Update", err)
	_, _, err = k.Rotate(ctx, id, 0)
	check("Rotate", err)
	check("Disable", k.Disable(ctx, id))
	check("Enable", k.Enable(ctx, id))
	check("Revoke", k.Revoke(ctx, id))
	check("Events", firstError(k.Events(ctx, keyring.EventFilter{KeyID: id})))
	check("Delete", k.Delete(ctx, id))
}

// A hookedStore is a MemoryStore with methods that a test can replace.
type hookedStore struct {
	*keyring.MemoryStore
	insert func(r *auth.Record) error
	get    func(id string) (*auth.Record, error)
	list   func(q keyring.Query) ([]*auth.Record, error)
	update func(r, successor *auth.Record) error
	events func(q keyring.EventQuery) ([]keyring.Event, error)
	delete func(id, by string) error
	lookup func(hash auth.Hash) (*auth.Record, error)
}

func (s *hookedStore) Insert(ctx context.Context, r *auth.Record) error {
	if s.insert != nil {
		return s.insert(r)
	}
	return s.MemoryStore.Insert(ctx, r)
}

func (s *hookedStore) Get(ctx context.Context, id string) (*auth.Record, error) {
	if s.get != nil {
		return s.get(id)
	}
	return s.MemoryStore.Get(ctx, id)
}

func (s *hookedStore) List(ctx context.Context, q keyring.Query) ([]*auth.Record, error) {
	if s.list != nil {
		return s.list(q)
	}
	return s.MemoryStore.List(ctx, q)
}

func (s *hookedStore) Update(ctx context.Context, r, successor *auth.Record) error {
	if s.update != nil {
		return s.update(r, successor)
	}
	return s.MemoryStore.Update(ctx, r, successor)
}

func (s *hookedStore) Events(ctx context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
	if s.events != nil {
		return s.events(q)
	}
	return s.MemoryStore.Events(ctx, q)
}

func (s *hookedStore) Delete(ctx context.Context, id, by string) error {
	if s.delete != nil {
		return s.delete(id, by)
	}
	return s.MemoryStore.Delete(ctx, id, by)
}

func (s *hookedStore) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	if s.lookup != nil {
		return s.lookup(hash)
	}
	return s.MemoryStore.Lookup(ctx, hash)
}

// newHooked returns a hookedStore and a Manager for it.
func newHooked(opts *keyring.Options) (*keyring.Manager, *hookedStore) {
	store := &hookedStore{MemoryStore: new(keyring.MemoryStore)}
	return keyring.NewManager(store, opts), store
}
