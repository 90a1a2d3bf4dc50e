package managing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

func newManager(store keyring.Store) (auth.Scheme, *keyring.Manager) {
	scheme := auth.Scheme{Catalog: auth.PublishedCatalog()}
	manager := keyring.NewManager(store, &keyring.Options{
		Scheme:      scheme,
		MaxKeys:     20,
		MaxLifetime: 365 * 24 * time.Hour,
	})
	return scheme, manager
}

// deliver creates a key for a customer, and replaces it at once.
func deliver(ctx context.Context, manager *keyring.Manager, w io.Writer) error {
	keys := manager.For(keyring.Actor{Name: "ada@example.com", Owner: "org_1", Scopes: auth.Scopes{"documents.*"}})
	record, key, err := keys.Create(ctx, keyring.Spec{
		Name:      "Production Backend",
		Scopes:    auth.Scopes{"documents.read"},
		ExpiresAt: time.Now().AddDate(0, 3, 0),
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(w, record.Name, key.Reveal())
	{
		successor, key, err := keys.Rotate(ctx, record.ID, 24*time.Hour)
		if err != nil {
			return err
		}
		fmt.Fprintln(w, successor.Name, key.Reveal())
	}
	return nil
}

// A user is somebody who is signed in.
type user struct {
	Email, Org string
	Scopes     auth.Scopes
}

// keysOf returns the keyring of a user.
func keysOf(manager *keyring.Manager, user user) *keyring.Keyring {
	actor := keyring.Actor{Name: user.Email, Owner: user.Org, Scopes: user.Scopes}
	return manager.For(actor)
}

// revokeFound revokes a key that somebody found.
func revokeFound(ctx context.Context, scheme auth.Scheme, manager *keyring.Manager, text string) error {
	found, err := scheme.ParseKey(text)
	if err != nil {
		return err // it is not a key of this API
	}
	staff := manager.Unconfined("security")
	record, err := staff.Find(ctx, found)
	if err != nil {
		return err
	}
	return staff.Revoke(ctx, record.ID)
}

// revokeLeaked revokes a key that has leaked, and the keys that it made.
func revokeLeaked(ctx context.Context, manager *keyring.Manager, id string, w io.Writer) error {
	staff := manager.Unconfined("security")
	made, err := staff.Made(ctx, id)
	if err != nil {
		return err
	}
	fmt.Fprintln(w, "it made", len(made), "keys")
	revoked, err := staff.RevokeMade(ctx, id)
	fmt.Fprintln(w, "revoked:", revoked) // also if there is an error: it can be repeated
	return err
}

var errStale = errors.New("somebody else changed the key")

// narrow leaves a key one scope, if it is still at the revision that was seen.
func narrow(ctx context.Context, keys *keyring.Keyring, id string, seen int64) (auth.Record, error) {
	record, err := keys.Update(ctx, id, func(r *auth.Record) error {
		if r.Revision != seen {
			return errStale
		}
		r.Scopes = auth.Scopes{"documents.read"}
		return nil
	})
	return record, err
}

// printExpiring prints the keys that expire within a week.
func printExpiring(ctx context.Context, keys *keyring.Keyring) error {
	soon := keyring.Filter{States: keyring.Active, ExpiresBefore: time.Now().AddDate(0, 0, 7)}
	for record, err := range keys.List(ctx, soon) {
		if err != nil {
			return err
		}
		fmt.Println(record.Name, "expires", record.ExpiresAt)
	}
	return nil
}
