package managing

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

func TestScripts(t *testing.T) {
	store := new(keyring.MemoryStore)
	scheme, manager := newManager(store)
	staff := manager.Unconfined("test")
	ctx := t.Context()

	var out strings.Builder
	if err := deliver(ctx, manager, &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(out.String())
	text := lines[len(lines)-1] // the key of the successor
	key, err := scheme.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	record, err := staff.Find(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := narrow(ctx, staff, record.ID, record.Revision+1); !errors.Is(err, errStale) {
		t.Errorf("narrow at another revision: got %v, want %v", err, errStale)
	}
	narrowed, err := narrow(ctx, staff, record.ID, record.Revision)
	if err != nil {
		t.Errorf("narrow: %v", err)
	}
	if want := (auth.Scopes{"documents.read"}); len(narrowed.Scopes) != 1 || narrowed.Scopes[0] != want[0] {
		t.Errorf("scopes %v, want %v", narrowed.Scopes, want)
	}
	customer := keysOf(manager, user{Email: "ada@example.com", Org: "org_1"})
	if _, err := customer.Get(ctx, record.ID); err != nil {
		t.Errorf("the customer does not see the key: %v", err)
	}
	if err := printExpiring(ctx, staff); err != nil {
		t.Errorf("printExpiring: %v", err)
	}
	if err := revokeFound(ctx, scheme, manager, text); err != nil {
		t.Errorf("revokeFound: %v", err)
	}
	if record, err = staff.Get(ctx, record.ID); err != nil {
		t.Fatal(err)
	}
	if err := record.Check(time.Now()); err != auth.ErrKeyRevoked {
		t.Errorf("the key that was found: got %v, want %v", err, auth.ErrKeyRevoked)
	}
	leaked := keyring.Actor{Name: record.ID, Owner: record.Owner}
	child, _, err := manager.For(leaked).Create(ctx, keyring.Spec{Name: "child"})
	if err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := revokeLeaked(ctx, manager, record.ID, &out); err != nil {
		t.Errorf("revokeLeaked: %v", err)
	}
	if !strings.Contains(out.String(), "it made 1 keys") {
		t.Errorf("revokeLeaked prints %q, want one key", out.String())
	}
	if child, err = staff.Get(ctx, child.ID); err != nil {
		t.Fatal(err)
	}
	if err := child.Check(time.Now()); err != auth.ErrKeyRevoked {
		t.Errorf("the key that the leaked key made: got %v, want %v", err, auth.ErrKeyRevoked)
	}
	if err := revokeFound(ctx, scheme, manager, "no key"); !errors.Is(err, auth.ErrInvalidFormat) {
		t.Errorf("revokeFound of another text: got %v, want %v", err, auth.ErrInvalidFormat)
	}
}
