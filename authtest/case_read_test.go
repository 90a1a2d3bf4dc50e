package authtest_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

var errNoRows = errors.New("no rows in result set")

// lookingUp breaks which row Lookup finds.
func lookingUp(match func(r *auth.Record, hash auth.Hash) bool) func(t *table) {
	return func(t *table) {
		t.onLookup = func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
			return t.find(func(r *auth.Record) bool { return match(r, hash) })
		}
	}
}

// getting breaks which row Get finds.
func getting(match func(r *auth.Record, id string) bool) func(t *table) {
	return func(t *table) {
		t.onGet = func(_ context.Context, id string) (*auth.Record, error) {
			return t.find(func(r *auth.Record) bool { return match(r, id) })
		}
	}
}

var readFaults = []fault{
	{"Lookup leaves out revoked keys", "Lookup in any state", false, lookingUp(
		func(r *auth.Record, hash auth.Hash) bool {
			return r.Hash == hash && r.RevokedAt.IsZero()
		})},
	{"Lookup leaves out disabled keys", "Lookup in any state", false, lookingUp(
		func(r *auth.Record, hash auth.Hash) bool {
			return r.Hash == hash && r.DisabledAt.IsZero()
		})},
	{"Lookup leaves out expired keys", "Lookup in any state", false, lookingUp(
		func(r *auth.Record, hash auth.Hash) bool {
			return r.Hash == hash && (r.ExpiresAt.IsZero() || r.ExpiresAt.After(time.Now()))
		})},
	{"Lookup leaves out keys revoked in the future", "Lookup in any state", true, lookingUp(
		func(r *auth.Record, hash auth.Hash) bool { return r.Hash == hash && r.RevokedAt.Year() < 2090 })},
	{"Lookup of a key that is not there returns nil and nil", "Lookup of an unknown hash", false, func(t *table) {
		t.onLookup = func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
			r, _ := t.lookup(hash)
			return r, nil
		}
	}},
	{"Lookup of a key that is not there returns an error of its own", "Lookup of an unknown hash", false,
		func(t *table) {
			t.onLookup = func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
				r, err := t.lookup(hash)
				if err != nil {
					err = errNoRows
				}
				return r, err
			}
		}},
	{"Lookup fails as long as nothing was ever written", "Lookup in an empty store", true, func(t *table) {
		t.onLookup = func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
			if !t.written() {
				return nil, errors.New("no such table")
			}
			return t.lookup(hash)
		}
	}},
	{"Lookup takes the digits of a hash", "Lookup of an unknown hash", true, lookingUp(
		func(r *auth.Record, hash auth.Hash) bool {
			return r.Hash == hash || strings.HasPrefix(r.Hash.String(), string(hash[:]))
		})},
	{"Lookup compares half of the hash", "Lookup compares the whole hash", true, lookingUp(
		func(r *auth.Record, hash auth.Hash) bool { return bytes.Equal(r.Hash[:16], hash[:16]) })},
	{"Lookup compares as text in any case", "Lookup compares the whole hash", false, lookingUp(
		func(r *auth.Record, hash auth.Hash) bool {
			return strings.EqualFold(string(r.Hash[:]), string(hash[:]))
		})},
	{"Lookup takes a hash for a C string", "Lookup of hashes that are no text", true, lookingUp(
		func(r *auth.Record, hash auth.Hash) bool { return r.Hash == hash && (hash[0] != 0 || hash[1] != 1) })},
	{"Get takes a pattern", "Get of an unknown ID", true, getting(func(r *auth.Record, id string) bool {
		before, _, pattern := strings.Cut(id, "%")
		return r.ID == id || pattern && strings.HasPrefix(r.ID, before)
	})},
	{"Get takes the start of an ID", "Get of an unknown ID", false, getting(func(r *auth.Record, id string) bool {
		return strings.HasPrefix(r.ID, id)
	})},
	{"Get of a text that is not a UUID returns an error of its own", "Get of an unknown ID", true, func(t *table) {
		t.onGet = func(_ context.Context, id string) (*auth.Record, error) {
			if len(id) != 36 && id != "" {
				return nil, errors.New("invalid input syntax for type uuid")
			}
			return t.get(id)
		}
	}},
	{"Get of a key that is not there returns nil and nil", "Get of an unknown ID", false, func(t *table) {
		t.onGet = func(_ context.Context, id string) (*auth.Record, error) {
			r, _ := t.get(id)
			return r, nil
		}
	}},
	{"Get does not know what it looks for", "Get of an unknown ID", false, func(t *table) {
		t.onGet = func(_ context.Context, id string) (*auth.Record, error) {
			r, err := t.get(id)
			if err != nil {
				err = keyring.ErrConflict
			}
			return r, err
		}
	}},
}
