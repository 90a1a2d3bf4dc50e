package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

func TestNewManagerPanics(t *testing.T) {
	store := new(keyring.MemoryStore)
	var none *keyring.MemoryStore
	for _, c := range []struct {
		name  string
		store keyring.Store
		opts  keyring.Options
		want  string
	}{
		{"no store", nil, keyring.Options{}, "keyring.NewManager: the store is nil"},
		{"nil store", none, keyring.Options{}, "keyring.NewManager: the store is a nil *keyring.MemoryStore"},
		{"MaxKeys", store, keyring.Options{MaxKeys: -1}, "keyring.NewManager: MaxKeys is -1, which is negative"},
		{"MaxLifetime", store, keyring.Options{MaxLifetime: -time.Hour},
			"keyring.NewManager: MaxLifetime is -1h0m0s, which is negative"},
		{"hasher", store, keyring.Options{Scheme: auth.Scheme{Hashers: []auth.Hasher{nil}}},
			"keyring.NewManager: one of the hashers is nil"},
		{"prefix", store, keyring.Options{Scheme: auth.Scheme{Prefix: "isk"}},
			`keyring.NewManager: the prefix "isk" is not 1 to 32 characters of A-Z a-z 0-9 _ -, ending in _`},
		{"catalog", store, keyring.Options{Scheme: auth.Scheme{Catalog: auth.Catalog{{Scope: "a..b"}}}},
			`keyring.NewManager: the catalog lists "a..b", which is not a valid scope`},
	} {
		panics(t, c.name, c.want, func() { keyring.NewManager(c.store, &c.opts) })
	}
}

func TestManagerOptionsHaveDefaults(t *testing.T) {
	for _, opts := range []*keyring.Options{nil, {}} {
		m, _ := newManager(opts)
		o := m.Options()
		equal(t, "Prefix", o.Scheme.Prefix, "isk_")
		equal(t, "Hashers", len(o.Scheme.Hashers), 1)
		equal(t, "hash", o.Scheme.Hashers[0]("isk_x"), auth.BLAKE2b(nil)("isk_x"))
		equal(t, "MaxKeys", o.MaxKeys, 100)
		equal(t, "MaxLifetime", o.MaxLifetime, 0)
		equal(t, "no Catalog", o.Scheme.Catalog == nil, true)
	}
}

func TestManagerOptionsAreCopied(t *testing.T) {
	given := &keyring.Options{MaxKeys: 7, MaxLifetime: time.Hour, Scheme: auth.Scheme{
		Prefix:  "acme_",
		Hashers: []auth.Hasher{auth.SHA256(nil)},
		Catalog: auth.Catalog{{Scope: "a.x"}},
	}}
	m, _ := newManager(given)
	given.MaxKeys, given.Scheme.Prefix = 8, "other_"
	given.Scheme.Hashers[0], given.Scheme.Catalog[0].Scope = nil, "changed"
	returned := m.Options()
	returned.Scheme.Hashers[0], returned.Scheme.Catalog[0].Scope = nil, "changed"

	o := m.Options()
	equal(t, "MaxKeys", o.MaxKeys, 7)
	equal(t, "MaxLifetime", o.MaxLifetime, time.Hour)
	equal(t, "Prefix", o.Scheme.Prefix, "acme_")
	equal(t, "hash", o.Scheme.Hashers[0]("x"), auth.SHA256(nil)("x"))
	equal(t, "Catalog", o.Scheme.Catalog[0].Scope, "a.x")

	_, key, err := m.For(ada).Create(ctx, keyring.Spec{Name: "key", Scopes: auth.Scopes{"a.x"}})
	must(t, err)
	equal(t, "the key has the prefix", strings.HasPrefix(key.Reveal(), "acme_"), true)
}

// An empty Catalog permits no scope; no Catalog permits every valid scope.
func TestManagerKeepsAnEmptyCatalog(t *testing.T) {
	m, _ := newManager(&keyring.Options{Scheme: auth.Scheme{Catalog: auth.Catalog{}}})
	_, _, err := m.For(ada).Create(ctx, keyring.Spec{Name: "key", Scopes: auth.Scopes{"a.x"}})
	fails(t, "a scope", err, keyring.ErrInvalidArgument, `the catalog does not list the scope "a.x"`)
}

func TestActorThatCannotAct(t *testing.T) {
	m, store := newManager(nil)
	r := create(t, m.For(ada), keyring.Spec{})
	long := strings.Repeat("a", 256)
	for _, c := range []struct {
		name string
		ring *keyring.Keyring
		text string
	}{
		{"no owner", m.For(keyring.Actor{Name: "ada", Scopes: auth.Scopes{"*"}}), "the actor has no owner"},
		{"zero actor", m.For(keyring.Actor{}), "the actor has no owner"},
		{"zero Keyring", new(keyring.Keyring), "the actor has no owner"},
		{"staff", m.For(keyring.Actor{Name: "staff:ada", Owner: "acme"}), `the name of the actor begins with "staff:"`},
		{"staff alone", m.For(keyring.Actor{Name: "staff:", Owner: "acme"}),
			`the name of the actor begins with "staff:"`},
		{"sql", m.For(keyring.Actor{Name: "sql:ada", Owner: "acme"}), `the name of the actor begins with "sql:"`},
		{"long name", m.For(keyring.Actor{Name: long, Owner: "acme"}),
			"the name of the actor has 256 bytes; at most 255 are permitted"},
		{"NUL", m.For(keyring.Actor{Name: "a\x00", Owner: "acme"}),
			"the name of the actor is not valid UTF-8, or holds a NUL"},
		{"not UTF-8", m.For(keyring.Actor{Name: "a\xff", Owner: "acme"}),
			"the name of the actor is not valid UTF-8, or holds a NUL"},
		{"long owner", m.For(keyring.Actor{Name: "ada", Owner: long}),
			"the owner of the actor has 256 bytes; at most 255 are permitted"},
		{"owner with NUL", m.For(keyring.Actor{Name: "ada", Owner: "acme\x00"}),
			"the owner of the actor is not valid UTF-8, or holds a NUL"},
		{"expired", m.For(until(time.Now())), "the actor has expired"},
		{"expired long ago", m.For(until(time.Time{}.Add(1))), "the actor has expired"},
		{"long staff", m.Unconfined(strings.Repeat("a", 250)),
			"the name of the actor has 256 bytes; at most 255 are permitted"},
		{"staff with NUL", m.Unconfined("\x00"), "the name of the actor is not valid UTF-8, or holds a NUL"},
	} {
		callEach(c.ring, r.ID, func(method string, err error) {
			fails(t, c.name+" "+method, err, keyring.ErrInvalidArgument, c.text)
		})
	}
	got, err := store.Get(ctx, r.ID)
	must(t, err)
	same(t, "the key after all that", *got, r)
	page, err := store.List(ctx, keyring.Query{Limit: 10})
	must(t, err)
	equal(t, "keys after all that", len(page), 1)
}

func TestActorThatCanAct(t *testing.T) {
	m, _ := newManager(nil)
	long := strings.Repeat("a", 255)
	for _, c := range []struct {
		name string
		ring *keyring.Keyring
		by   string
	}{
		{"no name", m.For(keyring.Actor{Owner: "acme"}), ""},
		{"longest name", m.For(keyring.Actor{Name: long, Owner: "acme"}), long},
		{"longest owner", m.For(keyring.Actor{Name: "ada", Owner: long}), "ada"},
		{"staff within", m.For(keyring.Actor{Name: "a staff:", Owner: "acme"}), "a staff:"},
		{"expires soon", m.For(until(time.Now().Add(time.Hour))), "ada"},
		{"longest staff", m.Unconfined(long[6:]), "staff:" + long[6:]},
		{"staff without a name", m.Unconfined(""), "staff:"},
	} {
		r, _, err := c.ring.Create(ctx, keyring.Spec{Name: "key"})
		must(t, err)
		equal(t, c.name+": CreatedBy", r.CreatedBy, c.by)
		equal(t, c.name+": UpdatedBy", r.UpdatedBy, c.by)
	}
}

// An actor can expire while a Keyring is in use.
func TestActorExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := newManager(nil)
		k := m.For(until(time.Now().Add(time.Hour)))
		r := create(t, k, keyring.Spec{})
		time.Sleep(time.Hour - time.Microsecond)
		_, err := k.Get(ctx, r.ID)
		fails(t, "just before", err, nil, "")
		time.Sleep(time.Microsecond)
		_, err = k.Get(ctx, r.ID)
		fails(t, "then", err, keyring.ErrInvalidArgument, "the actor has expired")
	})
}

// The scopes of an actor are those that For got.
func TestForCopiesTheActor(t *testing.T) {
	m, _ := newManager(nil)
	actor := holding("a.x")
	k := m.For(actor)
	actor.Scopes[0] = "*"
	_, _, err := k.Create(ctx, keyring.Spec{Name: "key", Scopes: auth.Scopes{"b.x"}})
	fails(t, "a scope that was added later", err, auth.ErrInsufficientScope, "")
}

func TestUnconfinedSeesEverything(t *testing.T) {
	m, _ := newManager(&keyring.Options{MaxKeys: 1, MaxLifetime: time.Hour})
	staff := m.Unconfined("sam")
	hers := create(t, m.For(ada), keyring.Spec{})
	his := create(t, m.For(bob), keyring.Spec{Scopes: auth.Scopes{"a.x"}})
	same(t, "List", ids(t, staff.List(ctx, keyring.Filter{})), []string{hers.ID, his.ID})
	callEach(staff, his.ID, func(method string, err error) {
		switch method {
		case "Find":
			fails(t, method, err, auth.ErrNotFound, "")
		case "Disable", "Enable":
			fails(t, method, err, nil, "") // after Rotate
		default:
			fails(t, method, err, nil, "")
		}
	})
	another := create(t, staff, keyring.Spec{Owner: "acme", Scopes: auth.Scopes{"*"}})
	equal(t, "it never expires", another.ExpiresAt.IsZero(), true)
	equal(t, "Owner", another.Owner, "acme")
	equal(t, "CreatedBy", another.CreatedBy, "staff:sam")
}

// Each error begins with the package and the call, once, and matches its cause.
func TestErrorTexts(t *testing.T) {
	m, store := newHooked(nil)
	r := create(t, m.For(ada), keyring.Spec{})
	for _, c := range []struct {
		cause error
		text  string
	}{
		{io.ErrUnexpectedEOF, "unexpected EOF"},
		{fmt.Errorf("keyring: disk full: %w", io.ErrShortWrite), "disk full: short write"},
		{auth.ErrStoreUnavailable, "the key store is unavailable"},
	} {
		store.get = func(string) (*auth.Record, error) { return nil, c.cause }
		store.list = func(keyring.Query) ([]*auth.Record, error) { return nil, c.cause }
		store.events = func(keyring.EventQuery) ([]keyring.Event, error) { return nil, c.cause }
		store.insert = func(*auth.Record) error { return c.cause }
		store.lookup = func(auth.Hash) (*auth.Record, error) { return nil, c.cause }
		callEach(m.For(ada), r.ID, func(method string, err error) {
			call := strings.ToLower(method) + " key"
			if method == "List" || method == "Events" {
				call = map[string]string{"List": "list keys", "Events": "list events"}[method]
			}
			if err == nil {
				t.Fatalf("%s: no error", method)
			}
			equal(t, method, err.Error(), "keyring: "+call+": "+c.text)
			equal(t, method+" matches the cause", errors.Is(err, c.cause), true)
		})
	}
}

var uuid = regexp.MustCompile(`\A[0-9a-f]{8}-[0-9a-f]{4}-([78])[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\z`)

func TestIDs(t *testing.T) {
	m, _ := newManager(nil)
	staff := m.Unconfined("sam")
	version := func(what, id, want string) {
		t.Helper()
		match := uuid.FindStringSubmatch(id)
		if match == nil {
			t.Fatalf("%s: %q is not a UUID in canonical form", what, id)
		}
		equal(t, what+": version", match[1], want)
	}
	seen := make(map[string]string)
	for _, c := range []struct{ owner, once, version string }{
		{"acme", "", "7"}, {"acme", "1", "8"}, {"acme", "2", "8"}, {"globex", "1", "8"},
		{"ab", "c", "8"}, {"a", "bc", "8"}, {"", "abc", "8"}, {"abc", "\x00", "8"}, {"1", "1 1", "8"}, {"1 1", "1",
			"8"},
	} {
		what := fmt.Sprintf("owner %q, Once %q", c.owner, c.once)
		r := create(t, staff, keyring.Spec{Owner: c.owner, Once: c.once})
		version(what, r.ID, c.version)
		equal(t, what+": Chain", r.Chain, r.ID)
		equal(t, what+": the same as", seen[r.ID], "")
		seen[r.ID] = what
	}
	first := create(t, staff, keyring.Spec{})
	successor, _, err := staff.Rotate(ctx, first.ID, 0)
	must(t, err)
	version("successor", successor.ID, "7")
}

// The ID from an owner and Once never changes: it is stored.
func TestOnceIDIsStable(t *testing.T) {
	m, _ := newManager(nil)
	r := create(t, m.For(ada), keyring.Spec{Once: "first"})
	equal(t, "ID", r.ID, "44e187b7-e874-8526-991d-9e621dd75457")
}

// IDs of version 7 are in order, also those of one moment.
func TestIDsAreInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := newManager(nil)
		staff := m.Unconfined("sam")
		last := ""
		for i := range 5000 {
			r := create(t, staff, keyring.Spec{})
			if r.ID <= last {
				t.Fatalf("%s is not after %s", r.ID, last)
			}
			if last = r.ID; i%4500 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	})
}

type contextKey struct{}

// OnEvent gets each change after it is stored, with the context of the call.
func TestOnEvent(t *testing.T) {
	var m *keyring.Manager
	var got []keyring.Event
	var stored []string // revision in the store when the event came
	opts := &keyring.Options{OnEvent: func(ctx context.Context, e keyring.Event) {
		equal(t, "context", ctx.Value(contextKey{}), any("request"))
		got = append(got, e)
		r, err := m.Unconfined("test").Get(ctx, e.KeyID)
		if err != nil {
			stored = append(stored, "none")
			return
		}
		stored = append(stored, fmt.Sprint(r.Revision))
	}}
	m, _ = newManager(opts)
	ctx := context.WithValue(ctx, contextKey{}, "request")
	k := m.For(ada)
	r, _, err := k.Create(ctx, keyring.Spec{Name: "key"})
	must(t, err)
	_, err = k.Update(ctx, r.ID, func(r *auth.Record) error { r.Name = "new"; return nil })
	must(t, err)
	must(t, k.Disable(ctx, r.ID))
	must(t, k.Enable(ctx, r.ID))
	successor, _, err := k.Rotate(ctx, r.ID, time.Hour)
	must(t, err)
	must(t, k.Revoke(ctx, r.ID))
	must(t, m.Unconfined("sam").Delete(ctx, r.ID))

	var lines []string
	for i, e := range got {
		equal(t, "ID", e.ID, "")
		equal(t, "Owner", e.Owner, "acme")
		which := map[string]string{r.ID: "old", successor.ID: "successor"}[e.KeyID]
		lines = append(lines, fmt.Sprintf("%s %s by %s, revision %d, stored %s", e.Kind, which, e.By, e.Revision,
			stored[i]))
	}
	same(t, "events", lines, []string{
		"created old by ada, revision 1, stored 1",
		"updated old by ada, revision 2, stored 2",
		"disabled old by ada, revision 3, stored 3",
		"enabled old by ada, revision 4, stored 4",
		"rotated old by ada, revision 5, stored 5",
		"created successor by ada, revision 1, stored 1",
		"revoked old by ada, revision 6, stored 6",
		"deleted old by staff:sam, revision 6, stored none",
	})
	equal(t, "Before of created", got[0].Before == nil, true)
	equal(t, "Before of updated", got[1].Before.Name, "key")
	equal(t, "After of updated", got[1].After.Name, "new")
	equal(t, "After of deleted", got[7].After == nil, true)
}

// A call that is refused or changes nothing makes no event.
func TestNoEvent(t *testing.T) {
	events := 0
	m, store := newManager(&keyring.Options{OnEvent: func(context.Context, keyring.Event) { events++ }})
	k := m.For(ada)
	r := create(t, k, keyring.Spec{Once: "1", Scopes: auth.Scopes{"a.x"}})
	must(t, k.Revoke(ctx, r.ID))
	fails(t, "Revoke again", k.Revoke(ctx, r.ID), nil, "")
	fails(t, "Disable", k.Disable(ctx, r.ID), auth.ErrKeyRevoked, "")
	_, _, err := k.Rotate(ctx, r.ID, 0)
	fails(t, "Rotate", err, auth.ErrKeyRevoked, "")
	_, _, err = k.Create(ctx, keyring.Spec{Name: "key", Once: "1"})
	fails(t, "Create again", err, keyring.ErrExists, "")
	fails(t, "Delete another", k.Delete(ctx, "none"), auth.ErrNotFound, "")
	equal(t, "events told", events, 2)
	list, err := store.Events(ctx, keyring.EventQuery{Limit: 10})
	must(t, err)
	equal(t, "events stored", len(list), 2)
}

// What OnEvent gets is a copy.
func TestOnEventGetsCopies(t *testing.T) {
	m, _ := newManager(&keyring.Options{OnEvent: func(_ context.Context, e keyring.Event) {
		for _, r := range []*auth.Record{e.Before, e.After} {
			if r != nil {
				r.Scopes[0], r.Metadata["env"] = "*", "changed"
			}
		}
	}})
	k := m.For(ada)
	r := create(t, k, keyring.Spec{Scopes: auth.Scopes{"a.x"}, Metadata: map[string]string{"env": "prod"}})
	must(t, k.Disable(ctx, r.ID))
	got, err := k.Get(ctx, r.ID)
	must(t, err)
	equal(t, "scope", got.Scopes[0], "a.x")
	equal(t, "metadata", got.Metadata["env"], "prod")
}
