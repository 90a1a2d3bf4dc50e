package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

func TestGet(t *testing.T) {
	m, store := newHooked(nil)
	r := create(t, m.For(ada), keyring.Spec{Scopes: auth.Scopes{"a.x"}})
	got, err := m.For(ada).Get(ctx, r.ID)
	must(t, err)
	same(t, "record", got, r)

	asked := 0
	store.get = func(id string) (*auth.Record, error) { asked++; return store.MemoryStore.Get(ctx, id) }
	for _, c := range []struct {
		name, id string
		asks     int
	}{
		{"unknown", "none", 1},
		{"in another case", strings.ToUpper(r.ID), 1},
		{"empty", "", 0},
		{"NUL", "a\x00", 0},
		{"not UTF-8", "a\xff", 0},
		{"long", strings.Repeat("a", 256), 0},
	} {
		asked = 0
		got, err := m.Unconfined("sam").Get(ctx, c.id)
		fails(t, c.name, err, auth.ErrNotFound, "keyring: get key: no such key")
		same(t, c.name, got, auth.Record{})
		equal(t, c.name+": store asked", asked, c.asks)
	}
}

// A store that returns neither a record nor an error does not make a panic.
func TestStoreWithoutAnswer(t *testing.T) {
	m, store := newHooked(nil)
	store.get = func(string) (*auth.Record, error) { return nil, nil }
	store.lookup = func(auth.Hash) (*auth.Record, error) { return nil, nil }
	_, err := m.For(ada).Get(ctx, "x")
	equal(t, "Get", fmt.Sprint(err), "keyring: get key: the store returned neither a record nor an error")
	_, err = m.For(ada).Find(ctx, auth.Scheme{}.NewKey())
	equal(t, "Find", fmt.Sprint(err), "keyring: find key: the store returned neither a record nor an error")
}

// What a store says about a key that is not there is not passed on: it would
// tell that key from another owner's.
func TestNotFoundIsAlwaysTheSame(t *testing.T) {
	m, store := newHooked(nil)
	his := create(t, m.For(bob), keyring.Spec{})
	store.get = func(id string) (*auth.Record, error) {
		r, err := store.MemoryStore.Get(ctx, id)
		if err != nil {
			err = fmt.Errorf("SELECT … WHERE id = %q: %w", id, err)
		}
		return r, err
	}
	_, foreign := m.For(ada).Get(ctx, his.ID)
	_, missing := m.For(ada).Get(ctx, "none")
	equal(t, "missing", missing.Error(), foreign.Error())

	// A key can also go away between two calls of the store.
	hers := create(t, m.For(ada), keyring.Spec{})
	gone := fmt.Errorf("DELETE …: %w", auth.ErrNotFound)
	store.delete = func(string, string) error { return gone }
	store.update = func(*auth.Record, *auth.Record) error { return gone }
	for _, id := range []string{hers.ID, his.ID} {
		equal(t, "Delete", m.For(ada).Delete(ctx, id).Error(), "keyring: delete key: no such key")
		equal(t, "Revoke", m.For(ada).Revoke(ctx, id).Error(), "keyring: revoke key: no such key")
	}
}

func TestFind(t *testing.T) {
	scheme := auth.Scheme{Hashers: []auth.Hasher{auth.BLAKE2b(nil), auth.SHA256(nil)}}
	m, store := newHooked(&keyring.Options{Scheme: scheme})
	r, key, err := m.For(ada).Create(ctx, keyring.Spec{Name: "key"})
	must(t, err)
	must(t, m.For(ada).Revoke(ctx, r.ID))
	got, err := m.For(ada).Find(ctx, key)
	must(t, err)
	equal(t, "its own", got.ID, r.ID)
	equal(t, "revoked", got.RevokedAt.IsZero(), false)
	got, err = m.Unconfined("sam").Find(ctx, key)
	must(t, err)
	equal(t, "by staff", got.ID, r.ID)

	// This key is stored under the hash of the second Hasher.
	old := scheme.NewKey()
	earlier := numbered(1)
	earlier.Hash = auth.SHA256(nil)(old.Reveal())
	put(t, store, earlier)
	got, err = m.For(ada).Find(ctx, old)
	must(t, err)
	equal(t, "by the second hash", got.ID, earlier.ID)

	for _, c := range []struct {
		name string
		ring *keyring.Keyring
		key  auth.Key
	}{
		{"another owner's", m.For(bob), key},
		{"unknown", m.Unconfined("sam"), scheme.NewKey()},
		{"zero", m.Unconfined("sam"), auth.Key{}},
	} {
		got, err := c.ring.Find(ctx, c.key)
		fails(t, c.name, err, auth.ErrNotFound, "keyring: find key: no such key")
		same(t, c.name, got, auth.Record{})
	}

	// A store that returns another record than that of the hash is not
	// believed, and is not asked for the next hash, as by an Authenticator.
	lookups := 0
	store.lookup = func(auth.Hash) (*auth.Record, error) { lookups++; return &earlier, nil }
	_, err = m.For(ada).Find(ctx, key)
	fails(t, "wrong record", err, auth.ErrNotFound, "")
	equal(t, "lookups", lookups, 1)
	store.lookup = func(auth.Hash) (*auth.Record, error) { return nil, io.ErrUnexpectedEOF }
	_, err = m.For(ada).Find(ctx, key)
	fails(t, "outage", err, io.ErrUnexpectedEOF, "keyring: find key: unexpected EOF")
}

// fill stores n records of three owners, seven at a time of the same moment, in
// all states.
func fill(t *testing.T, store keyring.Store, n int, now time.Time) []auth.Record {
	t.Helper()
	var all []auth.Record
	for i := range n {
		r := numbered(i)
		r.CreatedAt = epoch.Add(time.Duration(i/7) * time.Second)
		r.Owner = []string{"acme", "globex", "initech"}[i%3]
		r.CreatedBy = []string{"ada", "bob"}[i%2]
		r.Chain = fmt.Sprintf("chain-%d", i/10)
		r.Name = fmt.Sprintf("Key N° %d", i)
		switch i % 5 {
		case 1:
			r.ExpiresAt = now.Add(-time.Duration(i) * time.Hour)
		case 2:
			r.ExpiresAt = now.Add(time.Duration(i) * time.Hour)
		case 3:
			r.RevokedAt = epoch
		case 4:
			r.DisabledAt = epoch
		}
		all = append(all, r)
	}
	for i := range all { // not in order
		put(t, store, all[(i*61)%n])
	}
	return all
}

func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 650 // more than three pages
		m, store := newManager(nil)
		now := time.Now()
		all := fill(t, store, n, now)
		staff := m.Unconfined("sam")
		edge := all[102].ExpiresAt
		position := func(i int) keyring.Position { return keyring.PositionOf(&all[i]) }
		for _, c := range []struct {
			name   string
			filter keyring.Filter
			want   func(i int, r auth.Record) bool
		}{
			{"all", keyring.Filter{}, func(i int, r auth.Record) bool { return true }},
			{"owner", keyring.Filter{Owner: "globex"}, func(i int, r auth.Record) bool { return i%3 == 1 }},
			{"unknown owner", keyring.Filter{Owner: "glob"}, func(i int, r auth.Record) bool { return false }},
			{"chain", keyring.Filter{Chain: "chain-3"}, func(i int, r auth.Record) bool { return i/10 == 3 }},
			{"creator", keyring.Filter{CreatedBy: "bob"}, func(i int, r auth.Record) bool { return i%2 == 1 }},
			{"owner and creator", keyring.Filter{Owner: "acme", CreatedBy: "bob"},
				func(i int, r auth.Record) bool { return i%6 == 3 }},
			{"active", keyring.Filter{States: keyring.Active},
				func(i int, r auth.Record) bool { return r.Check(now) == nil }},
			{"disabled", keyring.Filter{States: keyring.Disabled}, func(i int, r auth.Record) bool { return i%5 == 4 }},
			{"revoked", keyring.Filter{States: keyring.Revoked}, func(i int, r auth.Record) bool { return i%5 == 3 }},
			{"expired", keyring.Filter{States: keyring.Expired}, func(i int, r auth.Record) bool { return i%5 == 1 }},
			{"ended", keyring.Filter{States: keyring.Revoked | keyring.Expired},
				func(i int, r auth.Record) bool { return i%5 == 3 || i%5 == 1 }},
			{"all states", keyring.Filter{States: 15}, func(i int, r auth.Record) bool { return true }},
			{"unknown bit", keyring.Filter{States: 16}, func(i int, r auth.Record) bool { return false }},
			{"unknown bits and one", keyring.Filter{States: 0xf0 | keyring.Disabled},
				func(i int, r auth.Record) bool { return i%5 == 4 }},
			{"expires from", keyring.Filter{ExpiresFrom: edge},
				func(i int, r auth.Record) bool { return !r.ExpiresAt.Before(edge) }},
			{"expires before", keyring.Filter{ExpiresBefore: edge},
				func(i int, r auth.Record) bool { return !r.ExpiresAt.IsZero() && r.ExpiresAt.Before(edge) }},
			{"expires just after", keyring.Filter{ExpiresFrom: edge.Add(1)},
				func(i int, r auth.Record) bool { return r.ExpiresAt.After(edge) }},
			{"expires until", keyring.Filter{ExpiresBefore: edge.Add(1)},
				func(i int, r auth.Record) bool { return !r.ExpiresAt.IsZero() && !r.ExpiresAt.After(edge) }},
			{"to warn of", keyring.Filter{States: keyring.Active, ExpiresBefore: now.Add(7 * day)},
				func(i int, r auth.Record) bool { return i%5 == 2 && i < 7*24 }},
			{"text", keyring.Filter{Text: "kEY n° 64"},
				func(i int, r auth.Record) bool { return i == 64 || i/10 == 64 }},
			{"text of an owner", keyring.Filter{Text: "GLOB"}, func(i int, r auth.Record) bool { return i%3 == 1 }},
			{"after", keyring.Filter{After: position(321)}, func(i int, r auth.Record) bool { return i > 321 }},
			{"after the last", keyring.Filter{After: position(n - 1)},
				func(i int, r auth.Record) bool { return false }},
			{"after one of another owner", keyring.Filter{After: position(321), Owner: "globex"},
				func(i int, r auth.Record) bool { return i > 321 && i%3 == 1 }},
			{"after no key", keyring.Filter{After: keyring.Position{CreatedAt: all[70].CreatedAt, ID: "z"}},
				func(i int, r auth.Record) bool { return i > 76 }},
		} {
			for _, newestFirst := range []bool{false, true} {
				f, name := c.filter, c.name
				var want []string
				for i, r := range all {
					if c.want(i, r) {
						want = append(want, r.ID)
					}
				}
				if newestFirst {
					f.NewestFirst, name = true, name+", newest first"
					slices.Reverse(want)
					if !f.After.IsZero() {
						continue // the other half; see TestListPages
					}
				}
				list := staff.List(ctx, f)
				for range 2 { // it can be read again
					got := ids(t, list)
					if !slices.Equal(got, want) {
						t.Errorf("%s: %d records, want %d\ngot  %.200v\nwant %.200v", name, len(got), len(want), got,
							want)
					}
				}
			}
		}
		for r, err := range staff.List(ctx, keyring.Filter{}) {
			must(t, err)
			i := slices.IndexFunc(all, func(x auth.Record) bool { return x.ID == r.ID })
			same(t, r.ID, r, all[i])
		}
	})
}

// Pages that a caller makes, each after the last key of the one before, hold
// every key once, in both orders.
func TestListPages(t *testing.T) {
	m, store := newManager(nil)
	fill(t, store, 100, time.Now())
	for _, newestFirst := range []bool{false, true} {
		f := keyring.Filter{NewestFirst: newestFirst}
		want := ids(t, m.Unconfined("sam").List(ctx, f))
		var got []string
		for len(got) < len(want) {
			before := len(got)
			for r, err := range m.Unconfined("sam").List(ctx, f) {
				must(t, err)
				got = append(got, r.ID)
				if f.After = keyring.PositionOf(&r); len(got) == before+9 {
					break
				}
			}
			if len(got) == before {
				t.Fatalf("the list ends after %d keys", before)
			}
		}
		same(t, "pages", got, want)
	}
}

// A list reads no more than it needs, and other calls can be made in the loop.
func TestListWhileKeysChange(t *testing.T) {
	m, store := newHooked(nil)
	for i := range 500 {
		put(t, store, numbered(i))
	}
	pages := 0
	store.list = func(q keyring.Query) ([]*auth.Record, error) { pages++; return store.MemoryStore.List(ctx, q) }
	for range m.For(ada).List(ctx, keyring.Filter{}) {
		break
	}
	equal(t, "pages for one record", pages, 1)

	k := m.For(ada)
	seen := make(map[string]int)
	for r, err := range k.List(ctx, keyring.Filter{}) {
		must(t, err)
		if seen[r.ID]++; len(seen) == 600 {
			break // the new ones come at the end, without end
		}
		must(t, k.Revoke(ctx, r.ID))
		create(t, m.Unconfined("sam"), keyring.Spec{Owner: "acme"})
	}
	for i := range 500 {
		equal(t, numbered(i).ID, seen[numbered(i).ID], 1)
	}
}

func TestListArguments(t *testing.T) {
	m, store := newHooked(nil)
	create(t, m.For(ada), keyring.Spec{})
	store.list = func(keyring.Query) ([]*auth.Record, error) {
		t.Error("the store is asked")
		return nil, nil
	}
	for _, c := range []struct {
		name   string
		filter keyring.Filter
		text   string
	}{
		{"another owner", keyring.Filter{Owner: "globex"}, "the owner is not that of the actor"},
		{"text", keyring.Filter{Text: "\x00"}, "the text of the filter is not valid UTF-8, or holds a NUL"},
		{"chain", keyring.Filter{Chain: "\xff"}, "the text of the filter is not valid UTF-8, or holds a NUL"},
		{"creator", keyring.Filter{CreatedBy: "\xff"}, "the text of the filter is not valid UTF-8, or holds a NUL"},
		{"position", keyring.Filter{After: keyring.Position{ID: "\x00"}},
			"the text of the filter is not valid UTF-8, or holds a NUL"},
	} {
		count := 0
		for r, err := range m.For(ada).List(ctx, c.filter) {
			count++
			fails(t, c.name, err, keyring.ErrInvalidArgument, c.text)
			same(t, c.name, r, auth.Record{})
		}
		equal(t, c.name+": answers", count, 1)
	}
	equal(t, "unknown states", len(ids(t, m.For(ada).List(ctx, keyring.Filter{States: 32}))), 0)
}

// What the store gets says whom and what the list is about.
func TestListQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, store := newHooked(nil)
		var got keyring.Query
		store.list = func(q keyring.Query) ([]*auth.Record, error) { got = q; return nil, nil }
		at := keyring.Position{CreatedAt: epoch, ID: "x"}
		f := keyring.Filter{Chain: "c", CreatedBy: "b", States: 0xf0 | keyring.Active, Text: "t", NewestFirst: true,
			After:       at,
			ExpiresFrom: epoch.Add(1), ExpiresBefore: epoch.Add(1000)}
		ids(t, m.For(ada).List(ctx, f))
		want := keyring.Query{Owner: "acme", Chain: "c", CreatedBy: "b", States: keyring.Active,
			Now: time.Now().Round(0), Text: "t",
			NewestFirst: true, After: at, ExpiresFrom: epoch.Add(1000), ExpiresBefore: epoch.Add(1000),
			Limit: got.Limit}
		same(t, "query", got, want)
		ids(t, m.Unconfined("sam").List(ctx, keyring.Filter{}))
		equal(t, "owner for staff", got.Owner, "")
	})
}

// A store that forgets a part of the query discloses nothing.
func TestListOfAForgetfulStore(t *testing.T) {
	m, store := newHooked(nil)
	all := fill(t, store, 450, time.Now())
	store.list = func(q keyring.Query) ([]*auth.Record, error) {
		return store.MemoryStore.List(ctx, keyring.Query{NewestFirst: q.NewestFirst, After: q.After, Limit: q.Limit})
	}
	for _, c := range []struct {
		name   string
		filter keyring.Filter
		want   func(i int) bool
	}{
		{"owner", keyring.Filter{}, func(i int) bool { return i%3 == 0 }},
		{"chain", keyring.Filter{Chain: "chain-3"}, func(i int) bool { return i%3 == 0 && i/10 == 3 }},
		{"creator", keyring.Filter{CreatedBy: "bob"}, func(i int) bool { return i%6 == 3 }},
		{"states", keyring.Filter{States: keyring.Revoked}, func(i int) bool { return i%15 == 3 }},
		{"text", keyring.Filter{Text: "globex"}, func(i int) bool { return false }},
		{"expiry", keyring.Filter{ExpiresBefore: epoch}, func(i int) bool { return false }},
	} {
		var want []string
		for i, r := range all {
			if c.want(i) {
				want = append(want, r.ID)
			}
		}
		got := ids(t, m.For(ada).List(ctx, c.filter))
		equal(t, c.name, slices.Equal(got, want), true)
	}
}

// A store that does not continue makes an error, not a list without end.
func TestListOfAStoreThatDoesNotAdvance(t *testing.T) {
	m, store := newHooked(nil)
	for i := range 450 {
		put(t, store, numbered(i))
	}
	for _, newestFirst := range []bool{false, true} {
		for _, c := range []struct {
			name string
			list func(q keyring.Query) ([]*auth.Record, error)
		}{
			{"forgets After", func(q keyring.Query) ([]*auth.Record, error) {
				q.After = keyring.Position{}
				return store.MemoryStore.List(ctx, q)
			}},
			{"includes After", func(q keyring.Query) ([]*auth.Record, error) {
				if !q.After.IsZero() {
					last, _ := store.MemoryStore.Get(ctx, q.After.ID)
					page, err := store.MemoryStore.List(ctx, q)
					return append([]*auth.Record{last}, page...), err
				}
				return store.MemoryStore.List(ctx, q)
			}},
			{"forgets the order", func(q keyring.Query) ([]*auth.Record, error) {
				q.NewestFirst = !q.NewestFirst
				if !q.After.IsZero() {
					q.After = keyring.Position{}
				}
				return store.MemoryStore.List(ctx, q)
			}},
		} {
			store.list = c.list
			n, last := 0, error(nil)
			for _, err := range m.For(ada).List(ctx, keyring.Filter{NewestFirst: newestFirst}) {
				if n++; n > 1000 {
					t.Fatalf("%s: a list without end", c.name)
				}
				last = err
			}
			if last == nil {
				t.Fatalf("%s: no error", c.name)
			}
			equal(t, c.name, last.Error(), "keyring: list keys: the store does not continue after Query.After")
			equal(t, c.name+": answers", n, 201)
		}
	}
}

// An error of the store ends the list.
func TestListErrors(t *testing.T) {
	m, store := newHooked(nil)
	for i := range 450 {
		put(t, store, numbered(i))
	}
	page := 0
	store.list = func(q keyring.Query) ([]*auth.Record, error) {
		records, err := store.MemoryStore.List(ctx, q)
		if page++; page == 2 {
			err = errors.Join(&keyring.RecordError{ID: "x", Err: io.EOF}, io.ErrUnexpectedEOF)
		}
		return records, err
	}
	n := 0
	for _, err := range m.For(ada).List(ctx, keyring.Filter{}) {
		if n++; n > 200 {
			fails(t, "the 201st", err, io.ErrUnexpectedEOF, "keyring: list keys: ")
		}
	}
	equal(t, "answers", n, 201)
}

// A row that cannot be read costs only itself: it comes at its place, and the
// list goes on after it.
func TestListUnreadableRows(t *testing.T) {
	for _, newestFirst := range []bool{false, true} {
		m, store := newHooked(nil)
		const n = 450
		bad := func(i int) bool { return i%50 == 49 || i == 0 || i >= 190 && i < 420 } // whole pages of them
		var want []string
		for i := range n {
			put(t, store, numbered(i))
			want = append(want, fmt.Sprintf("%s %t", numbered(i).ID, bad(i)))
		}
		if newestFirst {
			slices.Reverse(want)
		}
		store.list = func(q keyring.Query) ([]*auth.Record, error) {
			all, err := store.MemoryStore.List(ctx, q)
			must(t, err)
			var good []*auth.Record
			var errs []error
			for _, r := range all {
				var i int
				fmt.Sscanf(r.ID, "key-%d", &i)
				if bad(i) {
					errs = append(errs, &keyring.RecordError{ID: r.ID, At: keyring.PositionOf(r),
						Err: io.ErrUnexpectedEOF})
				} else {
					good = append(good, r)
				}
			}
			if len(errs) > 0 {
				err = fmt.Errorf("database: %w", errors.Join(errs...))
			}
			return good, err
		}
		var got []string
		for r, err := range m.For(ada).List(ctx, keyring.Filter{NewestFirst: newestFirst}) {
			if e, ok := errors.AsType[*keyring.RecordError](err); ok {
				fails(t, "cause", err, io.ErrUnexpectedEOF,
					"keyring: list keys: record "+e.ID+" cannot be read: unexpected EOF")
				equal(t, "record", r.ID, "")
				got = append(got, e.ID+" true")
				continue
			}
			must(t, err)
			got = append(got, r.ID+" false")
		}
		equal(t, "answers", len(got), len(want))
		equal(t, "in order", slices.Equal(got, want), true)
	}
}

// Rows whose place cannot be read either: a short page is the last one, and a
// full page of them is an error, not a list without end.
func TestListRowsWithoutPosition(t *testing.T) {
	m, store := newHooked(nil)
	n := 0
	store.list = func(q keyring.Query) ([]*auth.Record, error) {
		var errs []error
		for range n {
			errs = append(errs, &keyring.RecordError{ID: "x", Err: io.EOF})
		}
		return nil, errors.Join(errs...)
	}
	for _, c := range []struct{ rows, want int }{{3, 3}, {200, 201}} {
		n = c.rows
		got := 0
		for _, err := range m.For(ada).List(ctx, keyring.Filter{}) {
			if err == nil {
				t.Fatal("no error")
			}
			if got++; got > 1000 {
				t.Fatal("a list without end")
			}
		}
		equal(t, fmt.Sprintf("answers for %d rows", c.rows), got, c.want)
	}
}

// A caller may leave a list at an error.
func TestListLeftAtAnError(t *testing.T) {
	m, store := newHooked(nil)
	store.list = func(q keyring.Query) ([]*auth.Record, error) {
		return nil, errors.Join(&keyring.RecordError{ID: "x", Err: io.EOF}, &keyring.RecordError{ID: "y", Err: io.EOF})
	}
	fails(t, "List", firstError(m.For(ada).List(ctx, keyring.Filter{})), io.EOF, "record x")
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := newManager(nil)
		start := time.Now().UTC()
		tick := func() { time.Sleep(time.Minute) }
		hers := create(t, m.For(ada), keyring.Spec{}) // at 0 minutes
		tick()
		his := create(t, m.For(bob), keyring.Spec{})
		tick()
		must(t, m.For(ada).Disable(ctx, hers.ID))
		tick()
		must(t, m.Unconfined("sam").Revoke(ctx, hers.ID))
		tick()
		must(t, m.For(ada).Delete(ctx, hers.ID))
		tick()
		another := create(t, m.For(ada), keyring.Spec{})
		at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
		staff := m.Unconfined("sam")
		var last string // ID of ada's event at 3 minutes
		for e, err := range staff.Events(ctx, keyring.EventFilter{Kind: keyring.EventRevoked}) {
			must(t, err)
			last = e.ID
		}
		all := []string{"created " + hers.ID, "created " + his.ID, "disabled " + hers.ID, "revoked " + hers.ID,
			"deleted " + hers.ID, "created " + another.ID}
		for _, c := range []struct {
			name   string
			ring   *keyring.Keyring
			filter keyring.EventFilter
			want   []int // of all
		}{
			{"staff", staff, keyring.EventFilter{}, []int{0, 1, 2, 3, 4, 5}},
			{"ada", m.For(ada), keyring.EventFilter{}, []int{0, 2, 3, 4, 5}},
			{"bob", m.For(bob), keyring.EventFilter{}, []int{1}},
			{"her owner", m.For(ada), keyring.EventFilter{Owner: "acme"}, []int{0, 2, 3, 4, 5}},
			{"staff, owner", staff, keyring.EventFilter{Owner: "globex"}, []int{1}},
			{"of a deleted key", m.For(ada), keyring.EventFilter{KeyID: hers.ID}, []int{0, 2, 3, 4}},
			{"of a key", staff, keyring.EventFilter{KeyID: his.ID}, []int{1}},
			{"by", m.For(ada), keyring.EventFilter{By: "staff:sam"}, []int{3}},
			{"kind", staff, keyring.EventFilter{Kind: keyring.EventCreated}, []int{0, 1, 5}},
			{"unknown kind", staff, keyring.EventFilter{Kind: "made"}, nil},
			{"from", staff, keyring.EventFilter{From: at(3)}, []int{3, 4, 5}},
			{"just after", staff, keyring.EventFilter{From: at(3).Add(1)}, []int{4, 5}},
			{"to", staff, keyring.EventFilter{To: at(3)}, []int{0, 1, 2}},
			{"until", staff, keyring.EventFilter{To: at(3).Add(1)}, []int{0, 1, 2, 3}},
			{"after", m.For(ada), keyring.EventFilter{After: last}, []int{0, 2}},
			{"after, of a key", m.For(ada), keyring.EventFilter{After: last, KeyID: hers.ID}, []int{0, 2}},
			{"of a key, none of that kind", m.For(ada),
				keyring.EventFilter{KeyID: hers.ID, Kind: keyring.EventRotated}, nil},
			{"of a key that is there, none so early", m.For(ada), keyring.EventFilter{KeyID: another.ID, To: at(1)},
				nil},
		} {
			var want []string
			for _, i := range c.want {
				want = append(want, all[i])
			}
			same(t, c.name, kinds(t, c.ring.Events(ctx, c.filter)), want)
		}
		for _, c := range []struct {
			name   string
			ring   *keyring.Keyring
			filter keyring.EventFilter
			want   error
		}{
			{"another's key", m.For(ada), keyring.EventFilter{KeyID: his.ID}, auth.ErrNotFound},
			{"another's deleted key", m.For(bob), keyring.EventFilter{KeyID: hers.ID}, auth.ErrNotFound},
			{"unknown key", staff, keyring.EventFilter{KeyID: "none"}, auth.ErrNotFound},
			{"another owner", m.For(ada), keyring.EventFilter{Owner: "globex"}, keyring.ErrInvalidArgument},
			{"after another's event", m.For(bob), keyring.EventFilter{After: last}, auth.ErrNotFound},
			{"after no event", staff, keyring.EventFilter{After: "none"}, auth.ErrNotFound},
			{"NUL", staff, keyring.EventFilter{By: "\x00"}, keyring.ErrInvalidArgument},
			{"NUL in the key", staff, keyring.EventFilter{KeyID: "\x00"}, keyring.ErrInvalidArgument},
		} {
			count := 0
			for e, err := range c.ring.Events(ctx, c.filter) {
				count++
				fails(t, c.name, err, c.want, "keyring: list events: ")
				same(t, c.name, e, keyring.Event{})
			}
			equal(t, c.name+": answers", count, 1)
		}
	})
}

// Events come newest first, page by page.
func TestEventsPages(t *testing.T) {
	m, store := newHooked(nil)
	r := create(t, m.For(ada), keyring.Spec{})
	for range 240 {
		must(t, m.For(ada).Disable(ctx, r.ID))
		must(t, m.For(ada).Enable(ctx, r.ID))
	}
	pages := 0
	store.events = func(q keyring.EventQuery) ([]keyring.Event, error) {
		pages++
		equal(t, "Owner", q.Owner, "acme")
		return store.MemoryStore.Events(ctx, q)
	}
	want := int64(481)
	for e, err := range m.For(ada).Events(ctx, keyring.EventFilter{}) {
		must(t, err)
		equal(t, "revision", e.Revision, want)
		want--
	}
	equal(t, "the last", want, 0)
	equal(t, "pages", pages, 3)
	pages = 0
	for range m.For(ada).Events(ctx, keyring.EventFilter{}) {
		break
	}
	equal(t, "pages for one event", pages, 1)
}

func TestEventsErrors(t *testing.T) {
	m, store := newHooked(nil)
	r := create(t, m.For(ada), keyring.Spec{})
	for _, cause := range []error{errors.ErrUnsupported, io.ErrUnexpectedEOF} {
		store.events = func(keyring.EventQuery) ([]keyring.Event, error) { return nil, fmt.Errorf("store: %w", cause) }
		fails(t, "all", firstError(m.For(ada).Events(ctx, keyring.EventFilter{})), cause,
			"keyring: list events: store: ")
		fails(t, "of a key", firstError(m.For(ada).Events(ctx, keyring.EventFilter{KeyID: r.ID})), cause, "")
	}

	// The store fails when a key without selected events is looked for.
	store.events = func(q keyring.EventQuery) ([]keyring.Event, error) { return nil, nil }
	store.get = func(string) (*auth.Record, error) { return nil, io.ErrUnexpectedEOF }
	fails(t, "Get fails", firstError(m.For(ada).Events(ctx, keyring.EventFilter{KeyID: r.ID})), io.ErrUnexpectedEOF, "")
}

// A store that forgets a part of the query discloses nothing.
func TestEventsOfAForgetfulStore(t *testing.T) {
	m, store := newHooked(nil)
	hers, his := create(t, m.For(ada), keyring.Spec{}), create(t, m.For(bob), keyring.Spec{})
	must(t, m.For(ada).Disable(ctx, hers.ID))
	store.events = func(q keyring.EventQuery) ([]keyring.Event, error) {
		return store.MemoryStore.Events(ctx, keyring.EventQuery{After: q.After, Limit: q.Limit})
	}
	same(t, "all", kinds(t, m.For(ada).Events(ctx, keyring.EventFilter{})),
		[]string{"created " + hers.ID, "disabled " + hers.ID})
	same(t, "kind", kinds(t, m.For(ada).Events(ctx, keyring.EventFilter{Kind: "disabled"})),
		[]string{"disabled " + hers.ID})
	fails(t, "another's key", firstError(m.For(ada).Events(ctx, keyring.EventFilter{KeyID: his.ID})),
		auth.ErrNotFound, "")
}

// A store that does not continue makes an error, not a list without end.
func TestEventsOfAStoreThatDoesNotAdvance(t *testing.T) {
	m, store := newHooked(nil)
	for _, c := range []struct {
		name string
		page func(q keyring.EventQuery) []keyring.Event
	}{
		{"forgets After", func(q keyring.EventQuery) (page []keyring.Event) {
			for i := range q.Limit {
				page = append(page, keyring.Event{ID: fmt.Sprint(i), Owner: "acme", KeyID: "x"})
			}
			return page
		}},
		{"has no IDs", func(q keyring.EventQuery) []keyring.Event {
			return slices.Repeat([]keyring.Event{{Owner: "acme", KeyID: "x"}}, q.Limit)
		}},
	} {
		store.events = func(q keyring.EventQuery) ([]keyring.Event, error) { return c.page(q), nil }
		n := 0
		for _, err := range m.For(ada).Events(ctx, keyring.EventFilter{}) {
			if n++; n > 1000 {
				t.Fatalf("%s: a list without end", c.name)
			}
			if err != nil {
				fails(t, c.name, err, err, "the store does not continue after EventQuery.After")
			}
		}
	}
}

// When a key was moved to another owner with SQL, the new owner does not see
// what it was before.
func TestEventsHideForeignRecords(t *testing.T) {
	m, store := newHooked(nil)
	before, after := numbered(1), numbered(1)
	before.Owner = "globex"
	moved := keyring.EventOf(&before, &after, "sql:dba", epoch)
	back := keyring.EventOf(&after, &before, "sql:dba", epoch)
	moved.ID, back.ID, back.Owner = "1", "2", "acme"
	store.events = func(q keyring.EventQuery) ([]keyring.Event, error) { return []keyring.Event{moved, back}, nil }
	var got []keyring.Event
	for e, err := range m.For(ada).Events(ctx, keyring.EventFilter{}) {
		must(t, err)
		got = append(got, e)
	}
	equal(t, "Before of another owner", got[0].Before == nil, true)
	equal(t, "After of hers", got[0].After.Owner, "acme")
	equal(t, "Before of hers", got[1].Before.Owner, "acme")
	equal(t, "After of another owner", got[1].After == nil, true)
	for e, err := range m.Unconfined("sam").Events(ctx, keyring.EventFilter{}) {
		must(t, err)
		equal(t, "staff see Before", e.Before != nil, true)
		equal(t, "staff see After", e.After != nil, true)
	}
}

// A list that the caller gives up with its context ends.
func TestListEndsWithItsContext(t *testing.T) {
	m, store := newHooked(nil)
	store.list = func(keyring.Query) ([]*auth.Record, error) { return nil, context.Canceled }
	fails(t, "List", firstError(m.For(ada).List(ctx, keyring.Filter{})), context.Canceled, "")
}
