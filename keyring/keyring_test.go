package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

func TestCreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scheme := auth.Scheme{Prefix: "acme_live_",
			Hashers: []auth.Hasher{auth.SHA256([]byte("pepper")), auth.SHA256(nil)},
			Catalog: auth.PublishedCatalog()}
		m, store := newManager(&keyring.Options{Scheme: scheme})
		time.Sleep(1234)
		now := time.Now().UTC().Truncate(time.Microsecond)
		expires := now.Add(time.Hour + 999).In(time.FixedZone("east", 3600))
		r, key, err := m.For(ada).Create(ctx, keyring.Spec{Name: "Production Backend",
			Scopes:    auth.Scopes{"documents.read"},
			ExpiresAt: expires, Metadata: map[string]string{"env": "prod"}})
		must(t, err)
		same(t, "record", r, auth.Record{
			ID: r.ID, Chain: r.ID, Hint: key.Hint(), Name: "Production Backend", Owner: "acme",
			Hash:   scheme.Hashers[0](key.Reveal()),
			Scopes: auth.Scopes{"documents.read"}, Metadata: map[string]string{"env": "prod"},
			CreatedAt: now, CreatedBy: "ada", UpdatedAt: now, UpdatedBy: "ada", Revision: 1,
			ExpiresAt: now.Add(time.Hour),
		})
		stored, err := store.Get(ctx, r.ID)
		must(t, err)
		same(t, "stored", *stored, r)

		a := auth.New(store, &auth.Options{Scheme: scheme})
		verified, err := a.Verify(ctx, key.Reveal())
		must(t, err)
		equal(t, "the key opens", verified.ID, r.ID)
	})
}

func TestCreateTheLeast(t *testing.T) {
	m, _ := newManager(nil)
	r := create(t, m.For(ada), keyring.Spec{Name: "key"})
	equal(t, "scopes", len(r.Scopes), 0)
	equal(t, "expiry", r.ExpiresAt.IsZero(), true)
	equal(t, "owner", r.Owner, "acme")
	another, key, err := m.For(ada).Create(ctx, keyring.Spec{Name: "key"})
	must(t, err)
	equal(t, "the same ID", another.ID == r.ID, false)
	equal(t, "the same hash", another.Hash == r.Hash, false)
	equal(t, "length of the key", len(key.Reveal()), 48)
}

func TestCreateArguments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		many := func(n int) map[string]string {
			m := make(map[string]string)
			for i := range n {
				m[fmt.Sprint(i)] = ""
			}
			return m
		}
		scopes := func(n int) (ss auth.Scopes) {
			for i := range n {
				ss = append(ss, auth.Scope(fmt.Sprintf("a.x%d", i)))
			}
			return ss
		}
		endOf9999 := time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
		west := time.FixedZone("west", -5*3600)
		for _, c := range []struct {
			name string
			spec keyring.Spec
			text string // of the error; "" without an error
		}{
			{"no name", keyring.Spec{Name: ""}, "the name is blank"},
			{"blank name", keyring.Spec{Name: " \t\n\u00a0\u2003"}, "the name is blank"},
			{"invisible name", keyring.Spec{Name: "\u200b\u202e\x01"}, "the name is blank"},
			{"name of one letter", keyring.Spec{Name: " 名 "}, ""},
			{"name with a line break", keyring.Spec{Name: "a\nb"}, ""},
			{"longest name", keyring.Spec{Name: strings.Repeat("é", 127) + "e"}, ""},
			{"long name", keyring.Spec{Name: strings.Repeat("é", 128)},
				"the name has 256 bytes; at most 255 are permitted"},
			{"name with NUL", keyring.Spec{Name: "n\x00"}, "the name is not valid UTF-8, or holds a NUL"},
			{"name not UTF-8", keyring.Spec{Name: "n\xff"}, "the name is not valid UTF-8, or holds a NUL"},
			{"own owner", keyring.Spec{Name: "n", Owner: "acme"}, ""},
			{"another owner", keyring.Spec{Name: "n", Owner: "globex"}, "the owner is not that of the actor"},
			{"owner in another case", keyring.Spec{Name: "n", Owner: "Acme"}, "the owner is not that of the actor"},
			{"Spec.Key", keyring.Spec{Name: "n", Key: auth.Scheme{}.NewKey()}, "this Keyring does not take a Spec.Key"},
			{"metadata key", keyring.Spec{Name: "n", Metadata: map[string]string{"\xff": ""}},
				"the metadata is not valid UTF-8, or holds a NUL"},
			{"metadata value", keyring.Spec{Name: "n", Metadata: map[string]string{"a": "\x00"}},
				"the metadata is not valid UTF-8, or holds a NUL"},
			{"metadata, halves of a letter", keyring.Spec{Name: "n", Metadata: map[string]string{"\xc3": "\xa9"}},
				"the metadata is not valid UTF-8, or holds a NUL"},
			{"most metadata", keyring.Spec{Name: "n", Metadata: many(64)}, ""},
			{"too much metadata", keyring.Spec{Name: "n", Metadata: many(65)},
				"the metadata has 65 entries; at most 64 are permitted"},
			{"longest metadata", keyring.Spec{Name: "n",
				Metadata: map[string]string{"a": strings.Repeat("b", 16383)}}, ""},
			{"long metadata", keyring.Spec{Name: "n", Metadata: map[string]string{"a": strings.Repeat("b", 16384)}},
				"the metadata has 16385 bytes; at most 16384 are permitted"},
			{"most scopes", keyring.Spec{Name: "n", Scopes: scopes(256)}, ""},
			{"too many scopes", keyring.Spec{Name: "n", Scopes: scopes(257)},
				"the key has 257 scopes; at most 256 are permitted"},
			{"scope of one word", keyring.Spec{Name: "n", Scopes: auth.Scopes{"Admin"}}, ""},
			{"invalid scope", keyring.Spec{Name: "n", Scopes: auth.Scopes{"a.x", "a..x"}},
				`"a..x" is not a valid scope`},
			{"empty scope", keyring.Spec{Name: "n", Scopes: auth.Scopes{""}}, `"" is not a valid scope`},
			{"expired now", keyring.Spec{Name: "n", ExpiresAt: now}, "the expiry is not in the future"},
			{"expired before", keyring.Spec{Name: "n", ExpiresAt: now.Add(-time.Hour)},
				"the expiry is not in the future"},
			{"expired in year 1", keyring.Spec{Name: "n", ExpiresAt: time.Time{}.Add(1)},
				"the expiry is not in the future"},
			{"expires in 999 ns", keyring.Spec{Name: "n", ExpiresAt: now.Add(999)}, "the expiry is not in the future"},
			{"expires in 1 µs", keyring.Spec{Name: "n", ExpiresAt: now.Add(1000)}, ""},
			{"expires with year 9999", keyring.Spec{Name: "n", ExpiresAt: endOf9999}, ""},
			{"expires with year 10000", keyring.Spec{Name: "n", ExpiresAt: endOf9999.Add(1)},
				"the expiry is after the year 9999 in UTC"},
			{"expires in the west", keyring.Spec{Name: "n", ExpiresAt: time.Date(9999, 12, 31, 23, 59, 59, 0, west)},
				"the expiry is after the year 9999 in UTC"},
		} {
			m, store := newManager(nil)
			r, key, err := m.For(ada).Create(ctx, c.spec)
			want, stored := error(nil), 1
			if c.text != "" {
				want, stored = keyring.ErrInvalidArgument, 0
				same(t, c.name+": record", r, auth.Record{})
				equal(t, c.name+": key", key.Reveal(), "")
			}
			fails(t, c.name, err, want, c.text)
			page, err := store.List(ctx, keyring.Query{Limit: 10})
			must(t, err)
			equal(t, c.name+": records", len(page), stored)
		}
	})
}

// An unconfined Keyring may name any owner, but not any text.
func TestCreateOwnerUnconfined(t *testing.T) {
	m, _ := newManager(nil)
	for _, c := range []struct{ owner, text string }{
		{"", ""},
		{"globex", ""},
		{strings.Repeat("o", 255), ""},
		{strings.Repeat("o", 256), "the owner has 256 bytes; at most 255 are permitted"},
		{"o\x00", "the owner is not valid UTF-8, or holds a NUL"},
		{"o\xff", "the owner is not valid UTF-8, or holds a NUL"},
	} {
		r, _, err := m.Unconfined("sam").Create(ctx, keyring.Spec{Name: "key", Owner: c.owner})
		if c.text != "" {
			fails(t, c.owner, err, keyring.ErrInvalidArgument, c.text)
			continue
		}
		must(t, err)
		equal(t, "owner", r.Owner, c.owner)
	}
}

// No error quotes what may be a key.
func TestErrorsQuoteNoKey(t *testing.T) {
	m, _ := newManager(nil)
	text := auth.Scheme{}.NewKey().Reveal()
	secret := text[4:]
	k := m.For(holding("a.*"))
	r := create(t, k, keyring.Spec{})
	for _, c := range []struct {
		name string
		call func() error
	}{
		{"scope to create", func() error {
			_, _, err := k.Create(ctx, keyring.Spec{Name: "key", Scopes: auth.Scopes{auth.Scope(text)}})
			return err
		}},
		{"malformed scope", func() error {
			_, _, err := k.Create(ctx, keyring.Spec{Name: "key", Scopes: auth.Scopes{auth.Scope(text + " ")}})
			return err
		}},
		{"scope to add", func() error {
			_, err := k.Update(ctx, r.ID, func(r *auth.Record) error {
				r.Scopes = auth.Scopes{auth.Scope(text)}
				return nil
			})
			return err
		}},
		{"ID", func() error { _, err := k.Get(ctx, text); return err }},
		{"owner", func() error { return firstError(k.List(ctx, keyring.Filter{Owner: text})) }},
		{"event", func() error { return firstError(k.Events(ctx, keyring.EventFilter{After: text})) }},
	} {
		err := c.call()
		if err == nil {
			t.Fatalf("%s: no error", c.name)
		}
		equal(t, c.name+": "+err.Error()+" quotes the key", strings.Contains(err.Error(), secret), false)
	}
}

// A line break in what a caller asks for does not break a line of a log.
func TestErrorsAreOneLine(t *testing.T) {
	m, _ := newManager(nil)
	_, _, err := m.For(ada).Create(ctx, keyring.Spec{Name: "key", Scopes: auth.Scopes{"a\nlevel=ERROR"}})
	equal(t, "line breaks in "+err.Error(), strings.Count(err.Error(), "\n"), 0)
}

func TestCreateScopes(t *testing.T) {
	catalog := auth.Catalog{{Scope: "a.x"}, {Scope: "a.*"}, {Scope: "*"}}
	for _, c := range []struct {
		name    string
		catalog auth.Catalog
		holds   auth.Scopes
		asks    auth.Scopes
		want    error
	}{
		{"nothing of nothing", nil, nil, nil, nil},
		{"nil grants nothing", nil, nil, auth.Scopes{"a.x"}, auth.ErrInsufficientScope},
		{"empty grants nothing", nil, auth.Scopes{}, auth.Scopes{"a.x"}, auth.ErrInsufficientScope},
		{"the same", nil, auth.Scopes{"a.x"}, auth.Scopes{"a.x"}, nil},
		{"one more", nil, auth.Scopes{"a.x"}, auth.Scopes{"a.x", "b.x"}, auth.ErrInsufficientScope},
		{"wildcard of its parts", nil, auth.Scopes{"a.x", "a.y"}, auth.Scopes{"a.*"}, auth.ErrInsufficientScope},
		{"everything of a wildcard", nil, auth.Scopes{"a.*"}, auth.Scopes{"*"}, auth.ErrInsufficientScope},
		{"below a wildcard", nil, auth.Scopes{"a.*"}, auth.Scopes{"a.x", "a.b.*", "a.*"}, nil},
		{"other separator", nil, auth.Scopes{"a.*"}, auth.Scopes{"a:x"}, auth.ErrInsufficientScope},
		{"everything", nil, auth.Scopes{"*"}, auth.Scopes{"*", "a.x"}, nil},
		{"invalid ones grant nothing", nil, auth.Scopes{"a*", "**", ".*", "a.*.*"}, auth.Scopes{"a.x"},
			auth.ErrInsufficientScope},
		{"in the catalog", catalog, auth.Scopes{"*"}, auth.Scopes{"a.x", "a.*", "*"}, nil},
		{"not in the catalog", catalog, auth.Scopes{"*"}, auth.Scopes{"a.y"}, keyring.ErrInvalidArgument},
		{"empty catalog", auth.Catalog{}, auth.Scopes{"*"}, auth.Scopes{"a.x"}, keyring.ErrInvalidArgument},
		{"empty catalog, no scope", auth.Catalog{}, auth.Scopes{"*"}, nil, nil},
	} {
		m, _ := newManager(&keyring.Options{Scheme: auth.Scheme{Catalog: c.catalog}})
		_, _, err := m.For(holding(c.holds...)).Create(ctx, keyring.Spec{Name: "key", Scopes: c.asks})
		fails(t, c.name, err, c.want, "")
	}
}

// What went in and what came out share nothing with what is stored.
func TestNothingIsShared(t *testing.T) {
	m, store := newManager(nil)
	k := m.For(ada)
	spec := keyring.Spec{Name: "key", Scopes: auth.Scopes{"a.x"}, Metadata: map[string]string{"env": "prod"}}
	spoil := func(r auth.Record) { r.Scopes[0], r.Metadata["env"] = "*", "changed" }
	check := func(what, id string) {
		t.Helper()
		r, err := store.Get(ctx, id)
		must(t, err)
		equal(t, what+": scope", r.Scopes[0], "a.x")
		equal(t, what+": metadata", r.Metadata["env"], "prod")
	}
	r := create(t, k, spec)
	spoil(r)
	spec.Scopes[0], spec.Metadata["env"] = "*", "changed"
	check("Create", r.ID)

	got, err := k.Get(ctx, r.ID)
	must(t, err)
	spoil(got)
	check("Get", r.ID)
	for got, err := range k.List(ctx, keyring.Filter{}) {
		must(t, err)
		spoil(got)
	}
	check("List", r.ID)

	var kept *auth.Record
	got, err = k.Update(ctx, r.ID, func(r *auth.Record) error {
		kept, r.Name = r, "new"
		r.Scopes, r.Metadata = slices.Clone(r.Scopes), maps.Clone(r.Metadata)
		return nil
	})
	must(t, err)
	spoil(*kept)
	equal(t, "Update: what was returned", got.Scopes[0], "a.x")
	spoil(got)
	check("Update", r.ID)

	successor, _, err := k.Rotate(ctx, r.ID, time.Hour)
	must(t, err)
	spoil(successor)
	check("Rotate", r.ID)
	check("Rotate, successor", successor.ID)
	for e, err := range k.Events(ctx, keyring.EventFilter{}) {
		must(t, err)
		spoil(*e.After)
	}
	for e, err := range k.Events(ctx, keyring.EventFilter{}) {
		must(t, err)
		equal(t, "Events: scope", e.After.Scopes[0], "a.x")
	}
}

// A store that keeps what it gets and hands out what it has is no danger.
func TestStoreThatShares(t *testing.T) {
	m, store := newHooked(nil)
	k := m.For(ada)
	r := create(t, k, keyring.Spec{Scopes: auth.Scopes{"a.x"}})
	shared, err := store.MemoryStore.Get(ctx, r.ID)
	must(t, err)
	store.get = func(string) (*auth.Record, error) { return shared, nil }
	store.list = func(keyring.Query) ([]*auth.Record, error) { return []*auth.Record{shared}, nil }
	store.lookup = func(auth.Hash) (*auth.Record, error) { c := *shared; return &c, nil }
	var written *auth.Record
	store.update = func(r, _ *auth.Record) error { written = r; return nil }

	got, err := k.Get(ctx, r.ID)
	must(t, err)
	got.Scopes[0] = "*"
	for got, err := range k.List(ctx, keyring.Filter{}) {
		must(t, err)
		got.Scopes[0] = "*"
	}
	got, err = k.Update(ctx, r.ID, func(r *auth.Record) error { r.Name = "new"; r.Scopes[0] = "b.x"; return nil })
	must(t, err)
	got.Scopes[0] = "*"
	equal(t, "what the store has", shared.Scopes[0], "a.x")
	equal(t, "what the store got", written.Scopes[0], "b.x")
}

func TestCreateOnce(t *testing.T) {
	m, store := newManager(&keyring.Options{MaxKeys: 1})
	k := m.For(ada)
	first := create(t, k, keyring.Spec{Name: "first", Once: "form 1"})
	repeat := func(k *keyring.Keyring, spec keyring.Spec) error {
		spec.Name, spec.Once = "second", "form 1"
		r, key, err := k.Create(ctx, spec)
		same(t, "record", r, auth.Record{})
		equal(t, "key", key.Reveal(), "")
		return err
	}
	must(t, k.Disable(ctx, first.ID))
	err := repeat(k, keyring.Spec{}) // counts before ErrTooManyKeys
	fails(t, "a repeat", err, keyring.ErrExists, "the key exists already: "+first.ID)
	exists, ok := errors.AsType[*keyring.ExistsError](err)
	if !ok {
		t.Fatalf("%T is not an ExistsError", err)
	}
	equal(t, "ID", exists.Record.ID, first.ID)
	equal(t, "name", exists.Record.Name, "first")
	equal(t, "as it is now", exists.Record.DisabledAt.IsZero(), false)
	fails(t, "a repeat by staff", repeat(m.Unconfined("sam"), keyring.Spec{Owner: "acme"}), keyring.ErrExists, "")
	fails(t, "a bad repeat", repeat(k, keyring.Spec{Scopes: auth.Scopes{"a..x"}}), keyring.ErrInvalidArgument, "")

	_, _, err = k.Create(ctx, keyring.Spec{Name: "key", Once: "form 2"})
	fails(t, "another Once", err, keyring.ErrTooManyKeys, "")
	_, _, err = m.For(bob).Create(ctx, keyring.Spec{Name: "key", Once: "form 1"})
	fails(t, "another owner", err, nil, "")
	must(t, k.Revoke(ctx, first.ID))
	fails(t, "after Revoke", repeat(k, keyring.Spec{}), keyring.ErrExists, "")
	must(t, k.Delete(ctx, first.ID))
	again := create(t, k, keyring.Spec{Once: "form 1"})
	equal(t, "ID after Delete", again.ID, first.ID)
	page, err := store.List(ctx, keyring.Query{Owner: "acme", Limit: 10})
	must(t, err)
	equal(t, "records", len(page), 1)
}

// Of many calls at once, one makes the key, and the others get its record.
func TestCreateOnceConcurrently(t *testing.T) {
	m, store := newManager(nil)
	var mu sync.Mutex
	var made, found []string
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			r, _, err := m.For(ada).Create(ctx, keyring.Spec{Name: "key", Once: "1"})
			mu.Lock()
			defer mu.Unlock()
			if exists, ok := errors.AsType[*keyring.ExistsError](err); ok {
				found = append(found, exists.Record.ID)
				return
			}
			if err != nil {
				t.Error(err)
			}
			made = append(made, r.ID)
		})
	}
	wg.Wait()
	equal(t, "keys made", len(made), 1)
	equal(t, "repeats", len(found), 49)
	equal(t, "all the same", len(slices.Compact(append(found, made...))), 1)
	page, err := store.List(ctx, keyring.Query{Limit: 10})
	must(t, err)
	equal(t, "records", len(page), 1)
}

// The other call can also insert between the check and the insertion.
func TestCreateOnceLateConflict(t *testing.T) {
	m, store := newHooked(nil)
	store.insert = func(r *auth.Record) error {
		store.insert = nil
		first := r.Clone()
		first.Name, first.Hash[0] = "first", first.Hash[0]+1
		must(t, store.Insert(ctx, first))
		return store.Insert(ctx, r)
	}
	_, _, err := m.For(ada).Create(ctx, keyring.Spec{Name: "key", Once: "1"})
	exists, ok := errors.AsType[*keyring.ExistsError](err)
	if !ok {
		t.Fatalf("%v is not an ExistsError", err)
	}
	equal(t, "name", exists.Record.Name, "first")
}

// A record that has the ID but another owner is not disclosed.
func TestCreateOnceForeignRecord(t *testing.T) {
	m, store := newManager(nil)
	r := create(t, m.For(ada), keyring.Spec{Once: "1"})
	must(t, m.For(ada).Delete(ctx, r.ID))
	r.Owner = "globex"
	put(t, store, r)
	for _, c := range []struct {
		name string
		ring *keyring.Keyring
	}{{"confined", m.For(ada)}, {"unconfined", m.Unconfined("sam")}} {
		_, _, err := c.ring.Create(ctx, keyring.Spec{Name: "key", Owner: "acme", Once: "1"})
		fails(t, c.name, err, keyring.ErrExists, "")
		_, ok := errors.AsType[*keyring.ExistsError](err)
		equal(t, c.name+": with the record", ok, false)
	}
}

func TestCreateWithKey(t *testing.T) {
	old := func(key string) bool { return strings.HasPrefix(key, "sk_live_") && len(key) == 40 }
	scheme := auth.Scheme{Hashers: []auth.Hasher{auth.BLAKE2b(nil), auth.SHA256(nil)}, AlsoAccept: old}
	m, store := newManager(&keyring.Options{Scheme: scheme})
	staff := m.Unconfined("sam")
	parse := func(s auth.Scheme, text string) auth.Key {
		key, err := s.ParseKey(text)
		must(t, err)
		return key
	}
	legacy := parse(scheme, "sk_live_0123456789abcdef0123456789abcdef")
	for _, c := range []struct {
		name string
		key  auth.Key
		hint string
	}{
		{"of the Scheme", parse(scheme, "isk_"+strings.Repeat("A", 43)+"b"), "isk_…AAAb"},
		{"accepted", legacy, "…cdef"},
	} {
		r, key, err := staff.Create(ctx, keyring.Spec{Name: "first", Owner: "acme", Key: c.key})
		must(t, err)
		equal(t, c.name+": key", key.Reveal(), c.key.Reveal())
		equal(t, c.name+": hint", r.Hint, c.hint)
		equal(t, c.name+": hash", r.Hash, auth.BLAKE2b(nil)(c.key.Reveal()))
		_, _, err = staff.Create(ctx, keyring.Spec{Name: "again", Owner: "globex", Key: c.key})
		fails(t, c.name+" again", err, keyring.ErrExists, "")
	}

	// The store knows this key under the hash of the second Hasher.
	known := numbered(1)
	known.Hash = auth.SHA256(nil)("isk_" + strings.Repeat("B", 44))
	put(t, store, known)
	_, _, err := staff.Create(ctx, keyring.Spec{Name: "key", Key: parse(scheme, "isk_"+strings.Repeat("B", 44))})
	fails(t, "known by another hash", err, keyring.ErrExists, "")

	other := auth.Scheme{Prefix: "other_"}
	_, _, err = staff.Create(ctx, keyring.Spec{Name: "key", Key: other.NewKey()})
	fails(t, "of another Scheme", err, keyring.ErrInvalidArgument, "the Spec.Key is not a key of this Scheme")

	// Made with the prefix of another Scheme, it has the hint of this one.
	wide := auth.Scheme{Prefix: "x_", AlsoAccept: scheme.Valid}
	r, _, err := staff.Create(ctx, keyring.Spec{Name: "key", Key: parse(wide, "isk_"+strings.Repeat("C", 44))})
	must(t, err)
	equal(t, "hint", r.Hint, "isk_…CCCC")

	r, _, err = staff.Create(ctx, keyring.Spec{Name: "key", Once: "1", Key: scheme.NewKey()})
	must(t, err)
	_, _, err = staff.Create(ctx, keyring.Spec{Name: "key", Once: "1", Key: scheme.NewKey()})
	exists, _ := errors.AsType[*keyring.ExistsError](err)
	equal(t, "with Once too", exists != nil && exists.Record.ID == r.ID, true)
}

// While it is not known whether a key exists, none is made.
func TestCreateDuringAnOutage(t *testing.T) {
	for _, c := range []struct {
		name string
		spec keyring.Spec
	}{
		{"Once", keyring.Spec{Name: "key", Once: "1"}},
		{"Key", keyring.Spec{Name: "key", Key: auth.Scheme{}.NewKey()}},
	} {
		m, store := newHooked(nil)
		store.get = func(string) (*auth.Record, error) { return nil, http.ErrServerClosed }
		store.lookup = func(auth.Hash) (*auth.Record, error) { return nil, http.ErrServerClosed }
		_, _, err := m.Unconfined("sam").Create(ctx, c.spec)
		fails(t, c.name, err, http.ErrServerClosed, "")
		page, err := store.MemoryStore.List(ctx, keyring.Query{Limit: 10})
		must(t, err)
		equal(t, c.name+": records", len(page), 0)
	}
}

func TestMaxKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, store := newManager(&keyring.Options{MaxKeys: 3})
		k := m.For(ada)
		tooMany := func(what string, err error, n int) {
			t.Helper()
			fails(t, what, err, keyring.ErrTooManyKeys,
				fmt.Sprintf("the owner has %d, and at most %d are permitted", n, n))
		}
		tryCreate := func() error { _, _, err := k.Create(ctx, keyring.Spec{Name: "key"}); return err }
		soon := create(t, k, keyring.Spec{ExpiresAt: time.Now().Add(time.Hour)})
		disabled := create(t, k, keyring.Spec{})
		third := create(t, k, keyring.Spec{})
		must(t, k.Disable(ctx, disabled.ID))
		tooMany("a fourth", tryCreate(), 3)
		_, _, err := k.Create(ctx, keyring.Spec{Name: " "})
		fails(t, "the last of the checks", err, keyring.ErrInvalidArgument, "")
		fails(t, "another owner", func() error {
			_, _,
				err := m.For(bob).Create(ctx, keyring.Spec{Name: "key"})
			return err
		}(), nil, "")
		_, _, err = m.Unconfined("sam").Create(ctx, keyring.Spec{Name: "key", Owner: "acme"})
		fails(t, "staff", err, nil, "") // there are four now
		tooMany("a fifth", tryCreate(), 3)

		// Expired and revoked keys do not count, also if they are disabled.
		must(t, k.Disable(ctx, soon.ID))
		must(t, k.Revoke(ctx, third.ID))
		tooMany("one is revoked", tryCreate(), 3)
		time.Sleep(time.Hour)
		fails(t, "one has expired", tryCreate(), nil, "")
		tooMany("three again", tryCreate(), 3)

		// Rotation without a grace adds no key. With a grace it adds one, until
		// there are twice as many.
		var last auth.Record
		for r, err := range k.List(ctx, keyring.Filter{States: keyring.Active}) {
			must(t, err)
			last = r
		}
		for range 4 {
			last, _, err = k.Rotate(ctx, last.ID, 0)
			fails(t, "without a grace", err, nil, "")
		}
		for range 3 {
			last, _, err = k.Rotate(ctx, last.ID, time.Hour)
			fails(t, "with a grace", err, nil, "")
		}
		_, _, err = k.Rotate(ctx, last.ID, time.Hour)
		tooMany("with a grace, the seventh", err, 6)
		last, _, err = k.Rotate(ctx, last.ID, 0)
		fails(t, "without a grace, the seventh", err, nil, "")
		_, _, err = m.Unconfined("sam").Rotate(ctx, last.ID, time.Hour)
		fails(t, "staff, with a grace", err, nil, "")
		time.Sleep(time.Hour)
		page, err := store.List(ctx, keyring.Query{Owner: "acme", States: keyring.Active | keyring.Disabled,
			Now: time.Now(), Limit: 100})
		must(t, err)
		equal(t, "after the grace", len(page), 4) // one of them is disabled and has expired
	})
}

// Keys are counted over all pages, and on what the records say.
func TestMaxKeysOverPages(t *testing.T) {
	m, store := newHooked(&keyring.Options{MaxKeys: 300})
	for i := range 600 {
		r := numbered(i)
		if i%2 == 0 {
			r.RevokedAt = epoch
		}
		put(t, store, r)
	}
	lists := 0
	store.list = func(q keyring.Query) ([]*auth.Record, error) {
		lists++
		equal(t, "Owner", q.Owner, "acme")
		q.States = 0 // a store need not filter
		return store.MemoryStore.List(ctx, q)
	}
	_, _, err := m.For(ada).Create(ctx, keyring.Spec{Name: "key"})
	fails(t, "300 of 600", err, keyring.ErrTooManyKeys, "")
	must(t, m.For(ada).Delete(ctx, numbered(1).ID))
	_, _, err = m.For(ada).Create(ctx, keyring.Spec{Name: "key"})
	fails(t, "299 of 599", err, nil, "")
	equal(t, "pages read", lists > 3, true)
}

// A row that cannot be read may be a key, so it counts.
func TestMaxKeysCountsUnreadableRows(t *testing.T) {
	m, store := newHooked(&keyring.Options{MaxKeys: 2})
	r := create(t, m.For(ada), keyring.Spec{})
	store.list = func(q keyring.Query) ([]*auth.Record, error) {
		return []*auth.Record{&r}, errors.Join(&keyring.RecordError{ID: "bad",
			At: keyring.Position{CreatedAt: epoch, ID: "bad"}, Err: errors.New("bad scopes")})
	}
	_, _, err := m.For(ada).Create(ctx, keyring.Spec{Name: "key"})
	fails(t, "Create", err, keyring.ErrTooManyKeys, "")
}

func TestLatestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().UTC()
		never := time.Time{}
		in := func(d time.Duration) time.Time { return now.Add(d) }
		year20000 := time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)
		endOf9999 := time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
		for _, c := range []struct {
			name        string
			maxLifetime time.Duration
			actor       time.Time
			asked       time.Time
			want        time.Time
			refused     bool
		}{
			{"no limit, never", 0, never, never, never, false},
			{"no limit, later", 0, never, in(999 * day), in(999 * day), false},
			{"lifetime, never", 90 * day, never, never, in(90 * day), false},
			{"lifetime, as late as that", 90 * day, never, in(90 * day), in(90 * day), false},
			{"lifetime, later", 90 * day, never, in(90*day + time.Microsecond), never, true},
			{"lifetime, earlier", 90 * day, never, in(day), in(day), false},
			{"actor, never", 0, in(7 * day), never, in(7 * day), false},
			{"actor, as late as that", 0, in(7 * day), in(7 * day), in(7 * day), false},
			{"actor, later", 0, in(7 * day), in(7*day + time.Microsecond), never, true},
			{"actor, earlier", 0, in(7 * day), in(day), in(day), false},
			{"both, actor earlier", 90 * day, in(7 * day), never, in(7 * day), false},
			{"both, lifetime earlier", 3 * day, in(7 * day), never, in(3 * day), false},
			{"both, between them", 3 * day, in(7 * day), in(5 * day), never, true},
			{"actor of the year 20000, never", 0, year20000, never, endOf9999, false},
			{"actor with nanoseconds", 0, in(day + 999), in(day + 999), in(day), false},
		} {
			m, _ := newManager(&keyring.Options{MaxLifetime: c.maxLifetime})
			r, _, err := m.For(until(c.actor)).Create(ctx, keyring.Spec{Name: "key", ExpiresAt: c.asked})
			if c.refused {
				fails(t, c.name, err, keyring.ErrInvalidArgument, "the latest that is permitted")
				continue
			}
			fails(t, c.name, err, nil, "")
			equal(t, c.name, r.ExpiresAt, c.want)
		}
	})
}

func TestUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, store := newManager(nil)
		r := create(t, m.For(ada), keyring.Spec{Scopes: auth.Scopes{"a.x"}})
		must(t, store.Touch(ctx, map[string]time.Time{r.ID: time.Now().UTC()}))
		time.Sleep(time.Hour)
		now := time.Now().UTC()
		got, err := m.Unconfined("sam").Update(ctx, r.ID, func(r *auth.Record) error {
			r.Name, r.Scopes = "new", auth.Scopes{"b.x"}
			r.ExpiresAt, r.Metadata = now.Add(day+999), map[string]string{"env": "prod"}
			return nil
		})
		must(t, err)
		want := r
		want.Name, want.Scopes = "new", auth.Scopes{"b.x"}
		want.ExpiresAt, want.Metadata = now.Add(day), map[string]string{"env": "prod"}
		want.UpdatedAt, want.UpdatedBy, want.Revision = now, "staff:sam", 2
		want.LastUsedAt = now.Add(-time.Hour)
		same(t, "returned", got, want)
		stored, err := store.Get(ctx, r.ID)
		must(t, err)
		same(t, "stored", *stored, want)
	})
}

func TestUpdateThatChangesNothing(t *testing.T) {
	m, store := newHooked(nil)
	k := m.For(holding())
	full := numbered(1)
	full.Scopes, full.Metadata = auth.Scopes{"a..x"}, map[string]string{"\xff": "\x00"}
	full.ExpiresAt = time.Now().Add(day)
	bare := put(t, store, numbered(2))
	put(t, store, full)
	store.update = func(*auth.Record, *auth.Record) error {
		t.Error("a write")
		return nil
	}
	for _, c := range []struct {
		name   string
		id     string
		change func(r *auth.Record)
	}{
		{"nothing", full.ID, func(r *auth.Record) {}},
		{"the same", full.ID, func(r *auth.Record) { r.Name, r.Scopes = full.Name, slices.Clone(full.Scopes) }},
		{"nanoseconds", full.ID, func(r *auth.Record) { r.ExpiresAt = r.ExpiresAt.Truncate(time.Microsecond) }},
		{"time zone", full.ID, func(r *auth.Record) { r.ExpiresAt = r.ExpiresAt.In(time.FixedZone("east", 3600)) }},
		{"empty scopes", bare.ID, func(r *auth.Record) { r.Scopes = auth.Scopes{} }},
		{"empty metadata", bare.ID, func(r *auth.Record) { r.Metadata = map[string]string{} }},
	} {
		got, err := k.Update(ctx, c.id, func(r *auth.Record) error { c.change(r); return nil })
		fails(t, c.name, err, nil, "")
		equal(t, c.name+": revision", got.Revision, 1)
		equal(t, c.name+": UpdatedBy", got.UpdatedBy, "ada")
	}
}

func TestUpdateChangesNothingElse(t *testing.T) {
	m, _ := newManager(nil)
	k := m.Unconfined("sam")
	r := create(t, k, keyring.Spec{Owner: "acme", Scopes: auth.Scopes{"a.x"}})
	for _, c := range []struct {
		field  string
		change func(r *auth.Record)
	}{
		{"ID", func(r *auth.Record) { r.ID = "other" }},
		{"Hash", func(r *auth.Record) { r.Hash[0]++ }},
		{"Hint", func(r *auth.Record) { r.Hint = "" }},
		{"Owner", func(r *auth.Record) { r.Owner = "globex" }},
		{"Owner", func(r *auth.Record) { r.Owner = "" }},
		{"CreatedAt", func(r *auth.Record) { r.CreatedAt = epoch }},
		{"CreatedBy", func(r *auth.Record) { r.CreatedBy = "bob" }},
		{"UpdatedAt", func(r *auth.Record) { r.UpdatedAt = epoch }},
		{"UpdatedBy", func(r *auth.Record) { r.UpdatedBy = "bob" }},
		{"Revision", func(r *auth.Record) { r.Revision++ }},
		{"DisabledAt", func(r *auth.Record) { r.DisabledAt = epoch }},
		{"RevokedAt", func(r *auth.Record) { r.RevokedAt = epoch }},
		{"LastUsedAt", func(r *auth.Record) { r.LastUsedAt = epoch }},
		{"RotatedFrom", func(r *auth.Record) { r.RotatedFrom = "other" }},
		{"RotatedTo", func(r *auth.Record) { r.RotatedTo = "other" }},
		{"Chain", func(r *auth.Record) { r.Chain = "" }},
	} {
		_, err := k.Update(ctx, r.ID, func(r *auth.Record) error { r.Name = "new"; c.change(r); return nil })
		fails(t, c.field, err, keyring.ErrInvalidArgument, c.field)
	}
	got, err := k.Get(ctx, r.ID)
	must(t, err)
	same(t, "the record", got, r)
}

// Only what changes is validated.
func TestUpdateValidates(t *testing.T) {
	m, store := newManager(&keyring.Options{Scheme: auth.Scheme{Catalog: auth.Catalog{{Scope: "a.x"}, {Scope: "b.x"}}}})
	k := m.For(ada)
	odd := numbered(1) // as another program wrote it
	odd.Name, odd.Scopes = "", auth.Scopes{"a..x", "gone.x", "a.x"}
	odd.Metadata = map[string]string{"\xff": "\x00", "long": strings.Repeat("x", 20_000)}
	for i := range 70 {
		odd.Metadata[fmt.Sprint(i)] = ""
	}
	for _, c := range []struct {
		name   string
		change func(r *auth.Record)
		text   string // of the error; "" without an error
	}{
		{"name", func(r *auth.Record) { r.Name = "new" }, ""},
		{"another blank name", func(r *auth.Record) { r.Name = " " }, "the name is blank"},
		{"name with NUL", func(r *auth.Record) { r.Name = "\x00" }, "the name is not valid UTF-8"},
		{"long name", func(r *auth.Record) { r.Name = strings.Repeat("x", 256) }, "the name has 256 bytes"},
		{"expiry", func(r *auth.Record) { r.ExpiresAt = time.Now().Add(day) }, ""},
		{"expiry in the past", func(r *auth.Record) { r.ExpiresAt = time.Now().Add(-time.Second) },
			"the expiry is not in the future"},
		{"expiry after 9999", func(r *auth.Record) { r.ExpiresAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
			"the expiry is after the year 9999"},
		{"add a scope", func(r *auth.Record) { r.Scopes = append(r.Scopes, "b.x") }, ""},
		{"add an invalid scope", func(r *auth.Record) { r.Scopes = append(r.Scopes, "b..x") },
			`"b..x" is not a valid scope`},
		{"add an unlisted scope", func(r *auth.Record) { r.Scopes = append(r.Scopes, "c.x") },
			`the catalog does not list the scope "c.x"`},
		{"remove odd scopes", func(r *auth.Record) { r.Scopes = auth.Scopes{"a.x"} }, ""},
		{"remove other scopes", func(r *auth.Record) { r.Scopes = r.Scopes[:2] }, ""},
		{"remove all scopes", func(r *auth.Record) { r.Scopes = nil }, ""},
		{"change metadata", func(r *auth.Record) { r.Metadata["0"] = "x"; delete(r.Metadata, "1") }, ""},
		{"remove metadata", func(r *auth.Record) { clear(r.Metadata) }, ""},
		{"remove odd metadata", func(r *auth.Record) { delete(r.Metadata, "\xff") }, ""},
		{"add metadata to too much", func(r *auth.Record) { r.Metadata["new"] = "" },
			"the metadata has 73 entries; at most 64 are permitted"},
		{"lengthen long metadata", func(r *auth.Record) { r.Metadata["0"] = "x" },
			"the metadata has 20137 bytes; at most 16384 are permitted"},
		{"odd metadata", func(r *auth.Record) { r.Metadata["0"] = "\xff"; delete(r.Metadata, "long") },
			"the metadata is not valid UTF-8"},
		{"nil metadata", func(r *auth.Record) { r.Metadata = nil }, ""},
	} {
		before := put(t, store, odd)
		got, err := k.Update(ctx, odd.ID, func(r *auth.Record) error { c.change(r); return nil })
		if c.text == "" {
			fails(t, c.name, err, nil, "")
			equal(t, c.name+": revision", got.Revision, 2)
		} else {
			fails(t, c.name, err, keyring.ErrInvalidArgument, c.text)
			stored, err := store.Get(ctx, odd.ID)
			must(t, err)
			same(t, c.name, *stored, before)
		}
		must(t, store.Delete(ctx, odd.ID, ""))
	}
}

// An actor adds only scopes that it covers, and may remove any.
func TestUpdateScopes(t *testing.T) {
	for _, c := range []struct {
		name               string
		holds, before, now auth.Scopes
		want               error
	}{
		{"add what is covered", auth.Scopes{"a.*"}, nil, auth.Scopes{"a.x", "a.y"}, nil},
		{"add what is not", auth.Scopes{"a.x"}, auth.Scopes{"a.x"}, auth.Scopes{"a.x", "b.x"},
			auth.ErrInsufficientScope},
		{"add a wildcard", auth.Scopes{"a.x"}, auth.Scopes{"a.x"}, auth.Scopes{"a.*"}, auth.ErrInsufficientScope},
		{"keep what is not covered", auth.Scopes{"a.*"}, auth.Scopes{"b.x"}, auth.Scopes{"b.x", "a.x"}, nil},
		{"keep, in another order", nil, auth.Scopes{"a.x", "b.x"}, auth.Scopes{"b.x", "a.x"}, nil},
		{"remove", nil, auth.Scopes{"a.x", "b.x"}, auth.Scopes{"b.x"}, nil},
		{"remove all", nil, auth.Scopes{"*"}, nil, nil},
		{"replace a wildcard by a part", nil, auth.Scopes{"a.*"}, auth.Scopes{"a.x", "a.b.*"}, nil},
		{"replace everything by a part", nil, auth.Scopes{"*"}, auth.Scopes{"a.*"}, nil},
		{"replace a part by another", nil, auth.Scopes{"a.x"}, auth.Scopes{"a.y"}, auth.ErrInsufficientScope},
		{"swap for a covered one", auth.Scopes{"c.x"}, auth.Scopes{"b.x"}, auth.Scopes{"c.x"}, nil},
		{"nil holds nothing", nil, nil, auth.Scopes{"a.x"}, auth.ErrInsufficientScope},
	} {
		m, store := newManager(nil)
		r := numbered(1)
		r.Scopes = c.before
		put(t, store, r)
		got, err := m.For(holding(c.holds...)).Update(ctx, r.ID,
			func(r *auth.Record) error { r.Scopes = c.now; return nil })
		fails(t, c.name, err, c.want, "")
		if c.want == nil {
			equal(t, c.name, slices.Equal(got.Scopes, c.now), true)
		}
	}
}

func TestUpdateExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().UTC()
		never := time.Time{}
		in := func(days int) time.Time { return now.AddDate(0, 0, days) }
		all, some := auth.Scopes{"*"}, auth.Scopes{"b.x"} // the key holds a.x
		for _, c := range []struct {
			name        string
			holds       auth.Scopes
			maxLifetime int
			actor       time.Time
			before, ask time.Time
			rotated     bool
			want        time.Time
			err         error
		}{
			{"extend", all, 0, never, in(10), in(20), false, in(20), nil},
			{"extend to never", all, 0, never, in(10), never, false, never, nil},
			{"shorten", all, 0, never, in(10), in(5), false, in(5), nil},
			{"shorten never", all, 0, never, never, in(5), false, in(5), nil},
			{"leave", all, 0, never, in(10), in(10), false, in(10), nil},
			{"extend, scopes not covered", some, 0, never, in(10), in(20), false, never, auth.ErrInsufficientScope},
			{"extend to never, scopes not covered", some, 0, never, in(10), never, false, never,
				auth.ErrInsufficientScope},
			{"shorten, scopes not covered", nil, 0, never, in(10), in(5), false, in(5), nil},
			{"shorten never, scopes not covered", nil, 0, never, never, in(5), false, in(5), nil},
			{"leave, scopes not covered", nil, 0, never, in(10), in(10), false, in(10), nil},
			{"extend within the lifetime", all, 30, never, in(10), in(30), false, in(30), nil},
			{"extend past the lifetime", all, 30, never, in(10), in(31), false, never, keyring.ErrInvalidArgument},
			{"extend to never within a lifetime", all, 30, never, in(10), never, false, in(30), nil},
			{"leave past the lifetime", all, 30, never, in(99), in(99), false, in(99), nil},
			{"leave never", all, 30, never, never, never, false, never, nil},
			{"shorten past the lifetime", all, 30, never, in(99), in(88), false, in(88), nil},
			{"shorten never past the lifetime", all, 30, never, never, in(88), false, in(88), nil},
			{"never, from past the lifetime", nil, 30, never, in(99), never, false, in(30), nil},
			{"extend within the actor's", all, 0, in(20), in(10), in(20), false, in(20), nil},
			{"extend past the actor's", all, 0, in(20), in(10), in(21), false, never, keyring.ErrInvalidArgument},
			{"extend to never within the actor's", all, 0, in(20), in(10), never, false, in(20), nil},
			{"never, as the actor's", all, 0, in(20), in(20), never, false, in(20), nil},
			{"into the past", all, 0, never, in(10), in(0), false, never, keyring.ErrInvalidArgument},
			{"extend a rotated key", all, 0, never, in(10), in(20), true, never, keyring.ErrRotated},
			{"extend a rotated key past the lifetime", all, 15, never, in(10), in(20), true, never, keyring.ErrRotated},
			{"extend a rotated key to never", all, 0, never, in(10), never, true, never, keyring.ErrRotated},
			{"shorten a rotated key", all, 0, never, in(10), in(5), true, in(5), nil},
			{"leave a rotated key", all, 0, never, in(10), in(10), true, in(10), nil},
		} {
			m, store := newManager(&keyring.Options{MaxLifetime: time.Duration(c.maxLifetime) * day})
			r := numbered(1)
			r.Scopes, r.ExpiresAt = auth.Scopes{"a.x"}, c.before
			if c.rotated {
				r.RotatedTo = "next"
			}
			put(t, store, r)
			actor := holding(c.holds...)
			actor.ExpiresAt = c.actor
			got, err := m.For(actor).Update(ctx, r.ID,
				func(r *auth.Record) error { r.Name, r.ExpiresAt = "new", c.ask; return nil })
			fails(t, c.name, err, c.err, "")
			if c.err == nil {
				equal(t, c.name, got.ExpiresAt, c.want)
				equal(t, c.name+": name", got.Name, "new")
			}
		}
	})
}

// When a change extends and narrows at once, the resulting scopes count.
func TestUpdateExtendsAndNarrows(t *testing.T) {
	for _, c := range []struct {
		name   string
		scopes auth.Scopes
		want   error
	}{
		{"to what is covered", auth.Scopes{"a.x"}, nil},
		{"to a part of a wildcard", auth.Scopes{"a.y"}, nil},
		{"to what is not covered", auth.Scopes{"b.x"}, auth.ErrInsufficientScope},
		{"not at all", auth.Scopes{"a.*", "b.x"}, auth.ErrInsufficientScope},
	} {
		m, store := newManager(nil)
		r := numbered(1)
		r.Scopes, r.ExpiresAt = auth.Scopes{"a.*", "b.x"}, time.Now().Add(day)
		put(t, store, r)
		_, err := m.For(holding("a.*")).Update(ctx, r.ID, func(r *auth.Record) error {
			r.Scopes, r.ExpiresAt = c.scopes, r.ExpiresAt.Add(day)
			return nil
		})
		fails(t, c.name, err, c.want, "")
	}
}

func TestUpdateOfEndedKeys(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(r *auth.Record)
		want   error
	}{
		{"revoked", func(r *auth.Record) { r.RevokedAt = epoch }, auth.ErrKeyRevoked},
		{"expired", func(r *auth.Record) { r.ExpiresAt = epoch }, auth.ErrKeyExpired},
		{"revoked and expired", func(r *auth.Record) { r.RevokedAt, r.ExpiresAt = epoch, epoch }, auth.ErrKeyRevoked},
		{"disabled and expired", func(r *auth.Record) { r.DisabledAt, r.ExpiresAt = epoch, epoch }, auth.ErrKeyExpired},
		{"disabled", func(r *auth.Record) { r.DisabledAt = epoch }, nil},
		{"rotated", func(r *auth.Record) { r.RotatedTo, r.ExpiresAt = "next", time.Now().Add(day) }, nil},
	} {
		m, store := newManager(nil)
		r := numbered(1)
		c.change(&r)
		put(t, store, r)
		called := false
		_, err := m.For(ada).Update(ctx, r.ID, func(r *auth.Record) error { called, r.Name = true, "new"; return nil })
		fails(t, c.name, err, c.want, "")
		equal(t, c.name+": change is called", called, c.want == nil)
	}
}

// Any error of change ends the call, and a panic passes through.
func TestUpdateChangeFails(t *testing.T) {
	m, _ := newManager(nil)
	k := m.For(ada)
	r := create(t, k, keyring.Spec{})
	for _, cause := range []error{http.ErrNoCookie, keyring.ErrConflict, auth.ErrNotFound, context.Canceled} {
		calls := 0
		_, err := k.Update(ctx, r.ID, func(r *auth.Record) error {
			calls++
			r.Name = "new"
			return fmt.Errorf("refused: %w", cause)
		})
		fails(t, "Update", err, cause, "keyring: update key: refused: ")
		equal(t, "calls", calls, 1)
	}
	panics(t, "Update", "change", func() { k.Update(ctx, r.ID, func(r *auth.Record) error { panic("change") }) })
	got, err := k.Get(ctx, r.ID)
	must(t, err)
	same(t, "the record", got, r)
}

// Every check is made on the revision that is replaced: while a call is under
// way, somebody else changes the key.
func TestChecksAreMadeOnTheRevisionWritten(t *testing.T) {
	type call = func(k *keyring.Keyring, id string) error
	update := func(change func(r *auth.Record)) call {
		return func(k *keyring.Keyring, id string) error {
			_, err := k.Update(ctx, id, func(r *auth.Record) error { change(r); return nil })
			return err
		}
	}
	rename := update(func(r *auth.Record) { r.Name = "new" })
	extend := update(func(r *auth.Record) { r.ExpiresAt = time.Time{} })
	addMetadata := update(func(r *auth.Record) { r.Metadata = map[string]string{"env": "prod"} })
	widen := update(func(r *auth.Record) { r.Scopes = auth.Scopes{"a.x", "b.x"} })
	narrow := update(func(r *auth.Record) { r.Scopes = nil })
	rotate := func(k *keyring.Keyring, id string) error { _, _, err := k.Rotate(ctx, id, time.Hour); return err }
	disable := func(k *keyring.Keyring, id string) error { return k.Disable(ctx, id) }
	enable := func(k *keyring.Keyring, id string) error { return k.Enable(ctx, id) }
	revoke := func(k *keyring.Keyring, id string) error { return k.Revoke(ctx, id) }
	remove := func(k *keyring.Keyring, id string) error { return k.Delete(ctx, id) }
	for _, c := range []struct {
		name        string
		disabled    bool // at first
		call, other call // other is made by staff, after call has read the record
		want        error
		changes     string // that are in the record afterwards
	}{
		{"rename, add metadata", false, rename, addMetadata, nil, "renamed metadata revision 3"},
		{"rename, rename", false, rename, rename, nil, "renamed revision 2"},
		{"rename, disable", false, rename, disable, nil, "renamed disabled revision 3"},
		{"rename, revoke", false, rename, revoke, auth.ErrKeyRevoked, "revoked revision 2"},
		{"rename, delete", false, rename, remove, auth.ErrNotFound, "deleted"},
		{"extend, widen", false, extend, widen, auth.ErrInsufficientScope, "scopes [a.x b.x] revision 2"},
		{"extend, rotate", false, extend, rotate, keyring.ErrRotated, "rotated revision 2"},
		{"rotate, widen", false, rotate, widen, auth.ErrInsufficientScope, "scopes [a.x b.x] revision 2"},
		{"rotate, narrow", false, rotate, narrow, nil, "scopes [] rotated successor [] revision 3"},
		{"rotate, rotate", false, rotate, rotate, keyring.ErrRotated, "rotated revision 2"},
		{"rotate, disable", false, rotate, disable, auth.ErrKeyDisabled, "disabled revision 2"},
		{"rotate, revoke", false, rotate, revoke, auth.ErrKeyRevoked, "revoked revision 2"},
		{"enable, widen", true, enable, widen, auth.ErrInsufficientScope, "scopes [a.x b.x] disabled revision 3"},
		{"enable, revoke", true, enable, revoke, auth.ErrKeyRevoked, "disabled revoked revision 3"},
		{"enable, enable", true, enable, enable, nil, "revision 3"},
		{"disable, revoke", false, disable, revoke, auth.ErrKeyRevoked, "revoked revision 2"},
		{"disable, rename", false, disable, rename, nil, "renamed disabled revision 3"},
		{"revoke, rotate", false, revoke, rotate, nil, "rotated revoked revision 3"},
		{"revoke, delete", false, revoke, remove, auth.ErrNotFound, "deleted"},
	} {
		m, store := newHooked(nil)
		k, staff := m.For(holding("a.*")), m.Unconfined("sam")
		r := create(t, k, keyring.Spec{Scopes: auth.Scopes{"a.x"}, ExpiresAt: time.Now().Add(day)})
		if c.disabled {
			must(t, k.Disable(ctx, r.ID))
		}
		store.update = func(r, successor *auth.Record) error {
			store.update = nil
			must(t, c.other(staff, r.ID))
			return store.Update(ctx, r, successor)
		}
		fails(t, c.name, c.call(k, r.ID), c.want, "")
		equal(t, c.name, describe(staff, r.ID), c.changes)
	}
}

// describe says what became of a key "key" with the scope a.x.
func describe(k *keyring.Keyring, id string) string {
	r, err := k.Get(ctx, id)
	if err != nil {
		return "deleted"
	}
	var b strings.Builder
	say := func(is bool, format string, args ...any) {
		if is {
			fmt.Fprintf(&b, format+" ", args...)
		}
	}
	say(r.Name != "key", "renamed")
	say(len(r.Metadata) > 0, "metadata")
	say(!slices.Equal(r.Scopes, auth.Scopes{"a.x"}), "scopes %v", r.Scopes)
	say(r.RotatedTo != "", "rotated")
	if next, err := k.Get(ctx, r.RotatedTo); err == nil {
		say(!slices.Equal(next.Scopes, auth.Scopes{"a.x"}), "successor %v", next.Scopes)
	}
	say(!r.DisabledAt.IsZero(), "disabled")
	say(!r.RevokedAt.IsZero(), "revoked")
	return fmt.Sprintf("%srevision %d", b.String(), r.Revision)
}

// A key that is moved to another owner while a call is under way is gone.
func TestOwnerMovesInBetween(t *testing.T) {
	m, store := newHooked(nil)
	r := create(t, m.For(ada), keyring.Spec{})
	store.update = func(r, successor *auth.Record) error {
		store.update = nil
		must(t, store.Delete(ctx, r.ID, "sql:dba"))
		moved := r.Clone()
		moved.Owner = "globex"
		put(t, store, *moved)
		return keyring.ErrConflict
	}
	_, err := m.For(ada).Update(ctx, r.ID, func(r *auth.Record) error { r.Name = "new"; return nil })
	fails(t, "Update", err, auth.ErrNotFound, "")
}

// A call gives up after 100 attempts, or when its context ends.
func TestConflictsEnd(t *testing.T) {
	m, store := newHooked(nil)
	k := m.For(ada)
	r := create(t, k, keyring.Spec{})
	attempts := 0
	store.update = func(*auth.Record, *auth.Record) error {
		attempts++
		return fmt.Errorf("again: %w", keyring.ErrConflict)
	}
	err := k.Disable(ctx, r.ID)
	fails(t, "Disable", err, keyring.ErrConflict,
		"keyring: disable key: the key was changed at the same time, 100 times")
	equal(t, "attempts", attempts, 100)

	ctx, cancel := context.WithCancel(ctx)
	attempts = 0
	store.update = func(*auth.Record, *auth.Record) error {
		if attempts++; attempts == 5 {
			cancel()
		}
		return keyring.ErrConflict
	}
	_, _, err = k.Rotate(ctx, r.ID, 0)
	fails(t, "Rotate", err, context.Canceled, "keyring: rotate key: ")
	equal(t, "attempts", attempts, 5)
}

// Nothing but a conflict is tried again: a write that failed may have been
// made.
func TestFailedWriteIsNotRepeated(t *testing.T) {
	for _, cause := range []error{http.ErrServerClosed, keyring.ErrExists, auth.ErrNotFound} {
		m, store := newHooked(nil)
		r := create(t, m.For(ada), keyring.Spec{})
		attempts := 0
		store.update = func(*auth.Record, *auth.Record) error { attempts++; return fmt.Errorf("database: %w", cause) }
		_, key, err := m.For(ada).Rotate(ctx, r.ID, 0)
		fails(t, "Rotate", err, cause, "")
		equal(t, "attempts", attempts, 1)
		equal(t, "key", key.Reveal(), "")
	}
}

// Changes that many make at once all take place.
func TestConcurrentUpdates(t *testing.T) {
	m, _ := newManager(nil)
	r := create(t, m.For(ada), keyring.Spec{})
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			_, err := m.For(ada).Update(ctx, r.ID, func(r *auth.Record) error {
				if r.Metadata == nil {
					r.Metadata = make(map[string]string)
				}
				r.Metadata[fmt.Sprint(i)] = ""
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, err := m.For(ada).Get(ctx, r.ID)
	must(t, err)
	equal(t, "entries", len(got.Metadata), 40)
	equal(t, "revision", got.Revision, 41)
}

func TestRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, store := newManager(nil)
		old := create(t, m.For(ada), keyring.Spec{Name: "Production", Scopes: auth.Scopes{"a.x"},
			Metadata: map[string]string{"env": "prod"}})
		time.Sleep(time.Hour)
		now := time.Now().UTC()
		next, key, err := m.Unconfined("sam").Rotate(ctx, old.ID, day)
		must(t, err)
		same(t, "successor", next, auth.Record{
			ID: next.ID, Chain: old.ID, RotatedFrom: old.ID, Hint: key.Hint(), Name: "Production", Owner: "acme",
			Hash: auth.BLAKE2b(nil)(key.Reveal()), Scopes: auth.Scopes{"a.x"},
			Metadata:  map[string]string{"env": "prod"},
			CreatedAt: now, CreatedBy: "staff:sam", UpdatedAt: now, UpdatedBy: "staff:sam", Revision: 1,
		})
		stored, err := store.Get(ctx, next.ID)
		must(t, err)
		same(t, "stored", *stored, next)

		want := old
		want.RotatedTo, want.ExpiresAt, want.Revision = next.ID, now.Add(day), 2
		want.UpdatedAt, want.UpdatedBy = now, "staff:sam"
		stored, err = store.Get(ctx, old.ID)
		must(t, err)
		same(t, "old key", *stored, want)

		third, _, err := m.For(ada).Rotate(ctx, next.ID, 0)
		must(t, err)
		equal(t, "chain of the third", third.Chain, old.ID)
		same(t, "the chain", ids(t, m.For(ada).List(ctx, keyring.Filter{Chain: old.ID})),
			[]string{old.ID, next.ID, third.ID})
		stored, err = store.Get(ctx, next.ID)
		must(t, err)
		fails(t, "without a grace", stored.Check(time.Now()), auth.ErrKeyExpired, "")
	})
}

// A record from elsewhere has no Chain; its successor begins one with its ID.
func TestRotateWithoutChain(t *testing.T) {
	m, store := newManager(nil)
	r := numbered(1)
	r.Chain = ""
	put(t, store, r)
	next, _, err := m.For(ada).Rotate(ctx, r.ID, 0)
	must(t, err)
	equal(t, "Chain", next.Chain, r.ID)
}

func TestRotateGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().UTC()
		never := time.Time{}
		for _, c := range []struct {
			name    string
			expires time.Time
			grace   time.Duration
			want    time.Time
			err     error
		}{
			{"none", never, 0, now, nil},
			{"an hour", never, time.Hour, now.Add(time.Hour), nil},
			{"the longest", never, 30 * day, now.Add(30 * day), nil},
			{"too long", never, 30*day + 1, never, keyring.ErrInvalidArgument},
			{"negative", never, -1, never, keyring.ErrInvalidArgument},
			{"less than was left", now.Add(2 * day), day, now.Add(day), nil},
			{"more than was left", now.Add(2 * day), 3 * day, now.Add(2 * day), nil},
			{"none, with an expiry", now.Add(2 * day), 0, now, nil},
		} {
			m, store := newManager(nil)
			r := numbered(1)
			r.ExpiresAt = c.expires
			put(t, store, r)
			_, _, err := m.For(ada).Rotate(ctx, r.ID, c.grace)
			fails(t, c.name, err, c.err, "")
			got, err := store.Get(ctx, r.ID)
			must(t, err)
			if c.err == nil {
				equal(t, c.name, got.ExpiresAt, c.want)
			} else {
				same(t, c.name, *got, r)
			}
		}
	})
}

// The successor has the lifetime that the old key had, within what is
// permitted.
func TestRotateLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().UTC()
		never := time.Time{}
		in := func(days int) time.Time { return now.AddDate(0, 0, days) }
		endOf9999 := time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
		for _, c := range []struct {
			name             string
			created, expires time.Time
			maxLifetime      int
			actor            time.Time
			want             time.Time
		}{
			{"never", in(-5), never, 0, never, never},
			{"10 days, 5 of them gone", in(-5), in(5), 0, never, in(10)},
			{"one second left", in(-5), now.Add(time.Second), 0, never, now.Add(5*day + time.Second)},
			{"500 years", in(-5), in(500 * 365), 0, never, in(500*365 + 5)},
			{"until 9999", in(-5), endOf9999, 0, never, endOf9999},
			{"after 9999", in(-5), time.Date(300_000, 1, 1, 0, 0, 0, 0, time.UTC), 0, never, endOf9999},
			{"created at an unknown time", never, in(5), 0, never, in(5)},
			{"created after the expiry", in(6), in(5), 0, never, in(5)},
			{"within the lifetime", in(-5), in(5), 20, never, in(10)},
			{"past the lifetime", in(-5), in(50), 20, never, in(20)},
			{"never, with a lifetime", in(-5), never, 20, never, in(20)},
			{"past the actor's", in(-5), in(5), 0, in(3), in(3)},
			{"past the lifetime and the actor's", in(-5), in(50), 20, in(3), in(3)},
			{"never, with the actor's", in(-5), never, 20, in(30), in(20)},
		} {
			m, store := newManager(&keyring.Options{MaxLifetime: time.Duration(c.maxLifetime) * day})
			r := numbered(1)
			r.CreatedAt, r.ExpiresAt = c.created, c.expires
			put(t, store, r)
			next, _, err := m.For(until(c.actor)).Rotate(ctx, r.ID, 0)
			fails(t, c.name, err, nil, "")
			equal(t, c.name, next.ExpiresAt, c.want)
			must(t, store.Delete(ctx, r.ID, ""))
			put(t, store, r)
			next, _, err = m.Unconfined("sam").Rotate(ctx, r.ID, 0)
			must(t, err)
			if c.maxLifetime == 0 && c.actor.IsZero() {
				equal(t, c.name+", by staff", next.ExpiresAt, c.want)
			}
		}
	})
}

// An expiring key that rotates itself again and again gains no time.
func TestRotatingKeyGainsNoTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := newManager(nil)
		end := time.Now().UTC().Add(day)
		r := create(t, m.For(ada), keyring.Spec{Scopes: auth.Scopes{"*"}, ExpiresAt: end})
		for range 5 {
			time.Sleep(time.Hour)
			next, _, err := m.For(keyring.ActorOf(r)).Rotate(ctx, r.ID, time.Minute)
			must(t, err)
			equal(t, "expiry", next.ExpiresAt, end)
			equal(t, "CreatedBy", next.CreatedBy, r.ID)
			r = next
		}
		time.Sleep(time.Until(end))
		_, _, err := m.For(keyring.ActorOf(r)).Rotate(ctx, r.ID, 0)
		fails(t, "at the end", err, keyring.ErrInvalidArgument, "the actor has expired")
	})
}

// Errors come in the order revoked, rotated, disabled, expired, scopes.
func TestRotateErrors(t *testing.T) {
	type change = func(r *auth.Record)
	revoked := func(r *auth.Record) { r.RevokedAt = epoch }
	rotated := func(r *auth.Record) { r.RotatedTo = "next" }
	disabled := func(r *auth.Record) { r.DisabledAt = epoch }
	expired := func(r *auth.Record) { r.ExpiresAt = epoch }
	wide := func(r *auth.Record) { r.Scopes = auth.Scopes{"b.x"} }
	for _, c := range []struct {
		name    string
		changes []change
		want    error
	}{
		{"all", []change{revoked, rotated, disabled, expired, wide}, auth.ErrKeyRevoked},
		{"but revoked", []change{rotated, disabled, expired, wide}, keyring.ErrRotated},
		{"but rotated", []change{disabled, expired, wide}, auth.ErrKeyDisabled},
		{"but disabled", []change{expired, wide}, auth.ErrKeyExpired},
		{"scopes", []change{wide}, auth.ErrInsufficientScope},
		{"too many", nil, keyring.ErrTooManyKeys},
	} {
		m, store := newManager(&keyring.Options{MaxKeys: 1})
		put(t, store, numbered(2))
		put(t, store, numbered(3))
		r := numbered(1)
		for _, change := range c.changes {
			change(&r)
		}
		put(t, store, r)
		next, key, err := m.For(holding("a.*")).Rotate(ctx, r.ID, time.Hour)
		fails(t, c.name, err, c.want, "")
		same(t, c.name+": record", next, auth.Record{})
		equal(t, c.name+": key", key.Reveal(), "")
		got, err := store.Get(ctx, r.ID)
		must(t, err)
		same(t, c.name+": old key", *got, r)
	}
}

// Of many rotations at once, one succeeds.
func TestRotateConcurrently(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Hour} {
		m, _ := newManager(nil)
		r := create(t, m.For(ada), keyring.Spec{})
		var mu sync.Mutex
		var made []string
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				next, _, err := m.For(ada).Rotate(ctx, r.ID, grace)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					made = append(made, next.ID)
					return
				}
				fails(t, "the others", err, keyring.ErrRotated, "")
			})
		}
		wg.Wait()
		got, err := m.For(ada).Get(ctx, r.ID)
		must(t, err)
		same(t, "successors", made, []string{got.RotatedTo})
		equal(t, "records", len(ids(t, m.For(ada).List(ctx, keyring.Filter{}))), 2)
	}
}

// An actor rotates and enables only a key whose scopes it covers.
func TestScopesToRotateAndEnable(t *testing.T) {
	for _, c := range []struct {
		name        string
		holds, keys auth.Scopes
		want        error
	}{
		{"no scopes", nil, nil, nil},
		{"the same", auth.Scopes{"a.x"}, auth.Scopes{"a.x"}, nil},
		{"covered", auth.Scopes{"a.*"}, auth.Scopes{"a.x", "a.*"}, nil},
		{"one not covered", auth.Scopes{"a.*"}, auth.Scopes{"a.x", "b.x"}, auth.ErrInsufficientScope},
		{"everything", auth.Scopes{"a.*"}, auth.Scopes{"*"}, auth.ErrInsufficientScope},
		{"nil holds nothing", nil, auth.Scopes{"a.x"}, auth.ErrInsufficientScope},
		{"invalid scope", auth.Scopes{"*"}, auth.Scopes{"a..x"}, auth.ErrInsufficientScope},
	} {
		m, store := newManager(nil)
		k := m.For(holding(c.holds...))
		active, disabled := numbered(1), numbered(2)
		active.Scopes, disabled.Scopes, disabled.DisabledAt = c.keys, c.keys, epoch
		put(t, store, active)
		put(t, store, disabled)
		_, _, err := k.Rotate(ctx, active.ID, 0)
		fails(t, "Rotate, "+c.name, err, c.want, "")
		fails(t, "Enable, "+c.name, k.Enable(ctx, disabled.ID), c.want, "")
		got, err := store.Get(ctx, disabled.ID)
		must(t, err)
		equal(t, "Enable, "+c.name+": disabled", !got.DisabledAt.IsZero(), c.want != nil)
	}
}

// Renaming, narrowing, shortening, disabling, revoking and deleting need no
// scope.
func TestAlwaysPossible(t *testing.T) {
	m, store := newManager(&keyring.Options{MaxKeys: 1, MaxLifetime: time.Hour})
	k := m.For(holding())
	r := numbered(1)
	r.Scopes = auth.Scopes{"*"}
	put(t, store, r)
	put(t, store, numbered(2))
	for _, c := range []struct {
		name   string
		change func(r *auth.Record)
	}{
		{"rename", func(r *auth.Record) { r.Name = "new" }},
		{"narrow", func(r *auth.Record) { r.Scopes = auth.Scopes{"a.*"} }},
		{"shorten", func(r *auth.Record) { r.ExpiresAt = time.Now().Add(day) }},
		{"metadata", func(r *auth.Record) { r.Metadata = map[string]string{"env": "prod"} }},
	} {
		_, err := k.Update(ctx, r.ID, func(r *auth.Record) error { c.change(r); return nil })
		fails(t, c.name, err, nil, "")
	}
	fails(t, "disable", k.Disable(ctx, r.ID), nil, "")
	fails(t, "revoke", k.Revoke(ctx, r.ID), nil, "")
	fails(t, "delete", k.Delete(ctx, r.ID), nil, "")
}

func TestDisableEnableRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().UTC()
		never, before := time.Time{}, now.Add(-day)
		type call = func(k *keyring.Keyring, ctx context.Context, id string) error
		disable, enable, revoke := (*keyring.Keyring).Disable, (*keyring.Keyring).Enable, (*keyring.Keyring).Revoke
		for _, c := range []struct {
			name              string
			call              call
			disabled, revoked time.Time
			expired           bool
			err               error
			wantDisabled      time.Time
			wantRevoked       time.Time
			written           bool
		}{
			{"disable", disable, never, never, false, nil, now, never, true},
			{"disable a disabled key", disable, before, never, false, nil, before, never, false},
			{"disable an expired key", disable, never, never, true, nil, now, never, true},
			{"disable a revoked key", disable, never, before, false, auth.ErrKeyRevoked, never, before, false},
			{"disable a revoked and disabled key", disable, before, before, false, auth.ErrKeyRevoked, before, before,
				false},
			{"enable", enable, before, never, false, nil, never, never, true},
			{"enable a key that is not disabled", enable, never, never, false, nil, never, never, false},
			{"enable an expired key", enable, before, never, true, nil, never, never, true},
			{"enable an expired key that is not disabled", enable, never, never, true, nil, never, never, false},
			{"enable a revoked key", enable, before, before, false, auth.ErrKeyRevoked, before, before, false},
			{"enable a revoked key that is not disabled", enable, never, before, false, auth.ErrKeyRevoked, never,
				before, false},
			{"revoke", revoke, never, never, false, nil, never, now, true},
			{"revoke a revoked key", revoke, never, before, false, nil, never, before, false},
			{"revoke a disabled key", revoke, before, never, false, nil, before, now, true},
			{"revoke an expired key", revoke, never, never, true, nil, never, now, true},
		} {
			m, store := newManager(nil)
			r := numbered(1)
			r.DisabledAt, r.RevokedAt = c.disabled, c.revoked
			if c.expired {
				r.ExpiresAt = before
			}
			put(t, store, r)
			fails(t, c.name, c.call(m.For(ada), ctx, r.ID), c.err, "")
			want := r
			want.DisabledAt, want.RevokedAt = c.wantDisabled, c.wantRevoked
			if c.written {
				want.Revision, want.UpdatedAt, want.UpdatedBy = 2, now, "ada"
			}
			got, err := store.Get(ctx, r.ID)
			must(t, err)
			same(t, c.name, *got, want)
		}
	})
}

// A key whose scopes the actor does not cover, but which is not disabled, needs
// no enabling.
func TestEnableOfAnEnabledKey(t *testing.T) {
	m, store := newManager(nil)
	r := numbered(1)
	r.Scopes = auth.Scopes{"*"}
	put(t, store, r)
	fails(t, "Enable", m.For(holding()).Enable(ctx, r.ID), nil, "")
}

func TestDelete(t *testing.T) {
	m, store := newManager(nil)
	k := m.For(ada)
	r, key, err := k.Create(ctx, keyring.Spec{Name: "key"})
	must(t, err)
	must(t, k.Revoke(ctx, r.ID))
	fails(t, "Delete", k.Delete(ctx, r.ID), nil, "")
	_, err = k.Get(ctx, r.ID)
	fails(t, "Get", err, auth.ErrNotFound, "")
	_, err = store.Lookup(ctx, r.Hash)
	fails(t, "Lookup", err, auth.ErrNotFound, "")
	_, err = auth.New(store, nil).Verify(ctx, key.Reveal())
	fails(t, "the key", err, auth.ErrInvalidKey, "")
	fails(t, "Delete again", k.Delete(ctx, r.ID), auth.ErrNotFound, "")
	same(t, "events", kinds(t, k.Events(ctx, keyring.EventFilter{KeyID: r.ID})),
		[]string{"created " + r.ID, "revoked " + r.ID, "deleted " + r.ID})
}

func TestActorOf(t *testing.T) {
	r := numbered(1)
	r.Scopes, r.ExpiresAt = auth.Scopes{"a.x"}, epoch
	actor := keyring.ActorOf(r)
	same(t, "actor", actor, keyring.Actor{Name: r.ID, Owner: "acme", Scopes: auth.Scopes{"a.x"}, ExpiresAt: epoch})
	r.Scopes[0] = "*"
	equal(t, "scope", actor.Scopes[0], "a.x")
}
