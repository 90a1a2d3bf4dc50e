package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cmd/isk/internal/transfer"
	"github.com/insigner/auth/keyring"
)

var holdsKey = func(text string) bool { return strings.Contains(text, "isk_") }

// checked returns the record of the only row of a CSV, or the error.
func checked(t *testing.T, c *transfer.Checker, file string) (*auth.Record, error) {
	t.Helper()
	rows, problems := read(file, transfer.CSV)
	if len(rows) != 1 {
		t.Fatalf("%q: %v", file, problems)
	}
	return c.Record(t.Context(), rows[0])
}

func TestNewRecordByHash(t *testing.T) {
	c := transfer.NewChecker(auth.Scheme{}, "bob", new(keyring.MemoryStore), holdsKey)
	before := time.Now().UTC().Truncate(time.Microsecond)
	r, err := checked(t, c, "name,owner,scopes,hash\nCI,acme,a b,"+hash1+"\n")
	must(t, err)
	if r.CreatedAt.Before(before) || !r.UpdatedAt.Equal(r.CreatedAt) {
		t.Errorf("created at %v and updated at %v, want now", r.CreatedAt, r.UpdatedAt)
	}
	if r.ID == "" || r.Chain != r.ID {
		t.Errorf("the ID is %q and the chain %q", r.ID, r.Chain)
	}
	want := &auth.Record{ID: r.ID, Chain: r.ID, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, Name: "CI", Owner: "acme",
		Scopes: auth.Scopes{"a", "b"}, CreatedBy: "staff:bob", UpdatedBy: "staff:bob", Revision: 1}
	want.Hash[31] = 1
	if got := fields(r); got != fields(want) {
		t.Errorf("the record is\n %s\nwant\n %s", got, fields(want))
	}
}

func TestNewRecordByKey(t *testing.T) {
	scheme := auth.Scheme{Hashers: []auth.Hasher{auth.BLAKE2b([]byte("pepper")), auth.SHA256(nil)}}
	c := transfer.NewChecker(scheme, "bob", new(keyring.MemoryStore), holdsKey)
	key := scheme.NewKey()
	r, err := checked(t, c, "name,owner,scopes,key\nCI,acme,a,"+key.Reveal()+"\n")
	must(t, err)
	if r.Hash != scheme.Hashes(key)[0] {
		t.Error("the hash is not that of the first hasher")
	}
	if r.Hint != key.Hint() {
		t.Errorf("the hint is %q, want %q", r.Hint, key.Hint())
	}
}

// A key that the store knows under another hash would stay valid after the new
// record is revoked.
func TestNewRecordOfAKnownKey(t *testing.T) {
	scheme := auth.Scheme{Hashers: []auth.Hasher{auth.BLAKE2b([]byte("pepper")), auth.SHA256(nil)}}
	key := scheme.NewKey()
	store := new(keyring.MemoryStore)
	must(t, store.Insert(t.Context(), &auth.Record{ID: "old", Hash: scheme.Hashes(key)[1]}))
	c := transfer.NewChecker(scheme, "bob", store, holdsKey)
	_, err := checked(t, c, "name,owner,scopes,key\nCI,acme,a,"+key.Reveal()+"\n")
	if err == nil || err.Error() != "line 2: the key is in the database already" {
		t.Errorf("the error is %v", err)
	}
	down := errors.New("the store is down")
	c = transfer.NewChecker(scheme, "bob", broken{down}, holdsKey)
	if _, err := checked(t, c, "name,owner,scopes,key\nCI,acme,a,"+key.Reveal()+"\n"); !errors.Is(err, down) {
		t.Errorf("the error is %v, want %v", err, down)
	}
}

type broken struct{ err error }

func (b broken) Lookup(context.Context, auth.Hash) (*auth.Record, error) { return nil, b.err }

func TestNewRecordWithHistory(t *testing.T) {
	c := transfer.NewChecker(auth.Scheme{}, "bob", new(keyring.MemoryStore), holdsKey)
	r, err := checked(t, c, "id,hash,hint,name,owner,scopes,createdAt,createdBy,expiresAt,revokedAt,lastUsedAt,revision\n"+
		"old_1,"+hash1+",sk_…1234,CI,acme,a,2020-01-01T00:00:00Z,alice,2021-01-01,2020-06-01T00:00:00.1234567Z,2020-05-01T00:00:00Z,9\n")
	must(t, err)
	for _, field := range []struct{ name, got, want string }{
		{"id", r.ID, "old_1"},
		{"chain", r.Chain, "old_1"},
		{"hint", r.Hint, "sk_…1234"},
		{"createdAt", r.CreatedAt.Format(time.RFC3339Nano), "2020-01-01T00:00:00Z"},
		{"createdBy", r.CreatedBy, "alice"},
		{"updatedBy", r.UpdatedBy, "staff:bob"},
		{"expiresAt", r.ExpiresAt.Format(time.RFC3339Nano), "2021-01-02T00:00:00Z"},
		{"revokedAt", r.RevokedAt.Format(time.RFC3339Nano), "2020-06-01T00:00:00.123456Z"},
		{"lastUsedAt", r.LastUsedAt.Format(time.RFC3339Nano), "2020-05-01T00:00:00Z"},
		{"revision", fmt.Sprint(r.Revision), "9"},
	} {
		if field.got != field.want {
			t.Errorf("%s is %q, want %q", field.name, field.got, field.want)
		}
	}
}

func TestNewRecordRefuses(t *testing.T) {
	long := strings.Repeat("x", 256)
	catalog := auth.Catalog{{Scope: "secret.read", Description: "Read"}}
	for _, c := range []struct {
		name    string
		header  string
		row     string
		catalog auth.Catalog
		want    string
	}{
		{"blank name", "name,owner,scopes,hash", " ,acme,a," + hash1, nil, "name: the name is blank"},
		{"invisible name", "name,owner,scopes,hash", "\u2028,acme,a," + hash1, nil, "name: the name is blank"},
		{"blank owner", "name,owner,scopes,hash", "CI, ,a," + hash1, nil, "owner is blank"},
		{"no scope", "name,owner,scopes,hash", "CI,acme,," + hash1, nil, "scopes are empty"},
		{"invalid scope", "name,owner,scopes,hash", "CI,acme,a se..cret," + hash1, nil, "scope 2 is invalid"},
		{"unlisted scope", "name,owner,scopes,hash", "CI,acme,secret.read secret.write," + hash1, catalog, "scope 2 is invalid, or is not in the catalog"},
		{"long name", "name,owner,scopes,hash", long + ",acme,a," + hash1, nil, "name has 256 bytes"},
		{"long ID", "name,owner,scopes,hash,id", "CI,acme,a," + hash1 + "," + long, nil, "id has 256 bytes"},
		{"key in the name", "name,owner,scopes,hash", "the key isk_SECRET,acme,a," + hash1, nil, "name holds a key"},
		{"key in the hint", "name,owner,scopes,hash,hint", "CI,acme,a," + hash1 + ",isk_SECRET", nil, "hint holds a key"},
		{"key in the metadata", "name,owner,scopes,hash,metadata", "CI,acme,a," + hash1 + `,"{""k"":""isk_SECRET""}"`, nil, "metadata holds a key"},
		{"key in a name of the metadata", "name,owner,scopes,hash,metadata", "CI,acme,a," + hash1 + `,"{""isk_SECRET"":""v""}"`, nil, "metadata holds a key"},
		{"key in a scope", "name,owner,scopes,hash", "CI,acme,isk_SECRET," + hash1, nil, "scopes hold a key"},
		{"expired", "name,owner,scopes,hash,expiresAt", "CI,acme,a," + hash1 + ",2020-01-01", nil, "expiresAt: the expiry is not in the future"},
		{"great metadata", "name,owner,scopes,hash,metadata", "CI,acme,a," + hash1 + `,"{""secret"":""` + strings.Repeat("x", 17_000) + `""}"`, nil, "metadata: the metadata has 17006 bytes"},
		{"NUL in metadata", "name,owner,scopes,hash,metadata", "CI,acme,a," + hash1 + `,"{""secret"":""\u0000""}"`, nil, "metadata: the metadata is not valid"},
		{"key of another API", "name,owner,scopes,key", "CI,acme,a,sk_live_secret", nil, "key is not a key of this API"},
		{"short key", "name,owner,scopes,key", "CI,acme,a,isk_SECRET", nil, "key is not a key of this API"},
	} {
		checker := transfer.NewChecker(auth.Scheme{Catalog: c.catalog}, "bob", new(keyring.MemoryStore), holdsKey)
		_, err := checked(t, checker, c.header+"\n"+c.row+"\n")
		if err == nil || !strings.HasPrefix(err.Error(), "line 2: "+c.want) {
			t.Errorf("%s: %v, want line 2: %s", c.name, err, c.want)
			continue
		}
		if text := strings.ToLower(err.Error()); strings.Contains(text, "secret") || strings.Contains(text, "xxx") {
			t.Errorf("%s: the error shows the row: %v", c.name, err)
		}
	}
}

// What is in a store can be restored, also what Create would refuse.
func TestCompleteRowsAreTaken(t *testing.T) {
	c := transfer.NewChecker(auth.Scheme{Catalog: auth.Catalog{}}, "bob", broken{errors.New("asked")}, holdsKey)
	odd := full()
	odd.Name, odd.Owner, odd.Scopes, odd.ExpiresAt = "", "", auth.Scopes{"not a scope"}, time.Unix(0, 0).UTC()
	odd.Hint, odd.CreatedBy = "isk_SECRET", strings.Repeat("x", 1000)
	for _, format := range formats {
		rows, problems := read(written(t, format, odd), "")
		if len(rows) != 1 {
			t.Fatalf("%s: %v", format, problems)
		}
		r, err := c.Record(t.Context(), rows[0])
		must(t, err)
		if got := fields(r); got != fields(odd) {
			t.Errorf("%s: the record is\n %s\nwant\n %s", format, got, fields(odd))
		}
	}
}

// Package keyring finds no key by a longer ID, so nobody could revoke it.
func TestCompleteRowsWithLongIDs(t *testing.T) {
	c := transfer.NewChecker(auth.Scheme{}, "bob", new(keyring.MemoryStore), holdsKey)
	for length, want := range map[int]string{255: "<nil>", 256: "line 2: id has 256 bytes; at most 255 are permitted"} {
		r := full()
		r.ID = strings.Repeat("x", length)
		rows, problems := read(written(t, transfer.CSV, r), "")
		if len(rows) != 1 {
			t.Fatal(problems)
		}
		if _, err := c.Record(t.Context(), rows[0]); !strings.HasPrefix(fmt.Sprint(err), want) {
			t.Errorf("an ID of %d bytes: %v, want %s", length, err, want)
		}
	}
}

func TestActor(t *testing.T) {
	by := func(name string) (string, error) {
		return transfer.NewChecker(auth.Scheme{}, name, new(keyring.MemoryStore), holdsKey).Actor(t.Context())
	}
	if name, err := by("bob"); name != "staff:bob" || err != nil {
		t.Errorf("the actor is %q, %v, want staff:bob", name, err)
	}
	if _, err := by("\x00"); !errors.Is(err, keyring.ErrInvalidArgument) {
		t.Errorf("the error is %v, want ErrInvalidArgument", err)
	}
}
