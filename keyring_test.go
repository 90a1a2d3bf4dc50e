package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
)

const day = 24 * time.Hour

func TestCreate(t *testing.T) {
	pepper := auth.HMACSHA256([]byte("pepper"))
	for _, opts := range []*auth.KeyringOptions{nil, {}, {Format: auth.KeyFormat{Prefix: "acme_live_"}, Hasher: pepper, Catalog: slices.Clone(auth.DefaultCatalog)}} {
		store := newStore()
		ring := auth.NewKeyring(store, opts)
		var format auth.KeyFormat
		hasher := auth.BLAKE2b(nil)
		if opts != nil && opts.Hasher != nil {
			format, hasher = opts.Format, opts.Hasher
			clear(opts.Catalog)
			opts.Format, opts.Hasher, opts.Catalog = auth.KeyFormat{Prefix: "changed_"}, auth.SHA256, auth.Catalog{} // it was copied
		}
		expires := time.Now().Add(time.Hour).In(time.FixedZone("east", 3600))
		g := auth.Grant{Name: "Production Backend", Owner: "org_1", CreatedBy: "ada", Scopes: auth.Scopes{"documents.read", "templates.read"},
			Ceiling: auth.Scopes{"documents.*", "templates.read"}, ExpiresAt: expires, Metadata: map[string]string{"env": "prod"}}
		before := time.Now().Truncate(time.Microsecond)
		r, k, err := ring.Create(ctx, g)
		if err != nil {
			t.Fatal(err)
		}
		want := auth.Record{ID: r.ID, Hash: hasher(k.Reveal()), Hint: k.Hint(), Name: g.Name, Owner: g.Owner, CreatedBy: g.CreatedBy,
			Scopes: slices.Clone(g.Scopes), CreatedAt: r.CreatedAt, ExpiresAt: expires.Truncate(time.Microsecond).UTC(), Metadata: map[string]string{"env": "prod"}}
		if !reflect.DeepEqual(r, want) || !regexp.MustCompile(`\Akey_[a-z2-7]{26}\z`).MatchString(r.ID) {
			t.Errorf("%#v\nwant %#v", r, want)
		}
		if r.CreatedAt.Before(before) || r.CreatedAt.After(time.Now()) || r.CreatedAt != r.CreatedAt.Truncate(time.Microsecond).UTC() {
			t.Errorf("created at %v", r.CreatedAt)
		}
		if parsed, err := format.ParseKey(k.Reveal()); err != nil || parsed.Reveal() != k.Reveal() {
			t.Errorf("the key: %v", err)
		}
		// Neither what went in nor what came out is what is stored.
		g.Scopes[0], r.Scopes[0] = "*", "*"
		g.Metadata["env"], r.Metadata["env"] = "x", "y"
		if got, err := ring.Get(ctx, r.ID); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Get: %#v, %v\nwant %#v", got, err, want)
		}
		if got, err := auth.New(store, &auth.Options{Format: format, Hashers: []auth.Hasher{hasher}}).Authenticate(requestWith(k.Reveal())); err != nil || got.ID != r.ID {
			t.Errorf("the key does not open: %v", err)
		}
		if other, otherKey, err := ring.Create(ctx, auth.Grant{Name: "n"}); err != nil || other.ID == r.ID || otherKey.Reveal() == k.Reveal() ||
			other.Scopes == nil || len(other.Scopes) > 0 || !other.ExpiresAt.IsZero() || other.Owner != "" {
			t.Errorf("the least that may be asked for: %#v, %v", other, err)
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		catalog := auth.Catalog{{Scope: "documents.read"}, {Scope: "documents.*"}, {Scope: "*"}}
		for _, c := range []struct {
			catalog auth.Catalog
			grant   auth.Grant
			want    error
			text    string
		}{
			{nil, auth.Grant{}, auth.ErrInvalidArgument, "the name is blank"},
			{nil, auth.Grant{Name: " \t\n\u00a0"}, auth.ErrInvalidArgument, "the name is blank"},
			{nil, auth.Grant{Name: "n\x00"}, auth.ErrInvalidArgument, "the name is not valid UTF-8 or holds a NUL"},
			{nil, auth.Grant{Name: "n\xff"}, auth.ErrInvalidArgument, "the name is not valid UTF-8 or holds a NUL"},
			{nil, auth.Grant{Name: "n", Owner: "\xff"}, auth.ErrInvalidArgument, "the owner is not valid UTF-8 or holds a NUL"},
			{nil, auth.Grant{Name: "n", CreatedBy: "\x00"}, auth.ErrInvalidArgument, "the creator is not valid UTF-8 or holds a NUL"},
			{nil, auth.Grant{Name: "n", Metadata: map[string]string{"\xff": ""}}, auth.ErrInvalidArgument, "the metadata is not valid UTF-8 or holds a NUL"},
			{nil, auth.Grant{Name: "n", Metadata: map[string]string{"a": "\x00"}}, auth.ErrInvalidArgument, "the metadata is not valid UTF-8 or holds a NUL"},
			{nil, auth.Grant{Name: "n", Scopes: auth.Scopes{"documents"}}, auth.ErrInvalidArgument, `"documents" is not a scope`},
			{nil, auth.Grant{Name: "n", Scopes: auth.Scopes{""}}, auth.ErrInvalidArgument, `"" is not a scope`},
			{nil, auth.Grant{Name: "n", Scopes: auth.Scopes{goodKey}}, auth.ErrInvalidArgument, "(not shown: 48 bytes that may hold a key) is not a scope"},
			{nil, auth.Grant{Name: "n", Scopes: auth.Scopes{"any.thing", "x.*", "*"}}, nil, ""},
			{catalog, auth.Grant{Name: "n", Scopes: auth.Scopes{"documents.read", "documents.*", "*"}}, nil, ""},
			{catalog, auth.Grant{Name: "n", Scopes: auth.Scopes{"documents.read", "documents.write"}}, auth.ErrInvalidArgument, `does not list the scope "documents.write"`},
			{auth.Catalog{}, auth.Grant{Name: "n", Scopes: auth.Scopes{"documents.read"}}, auth.ErrInvalidArgument, "does not list"},
			{auth.Catalog{}, auth.Grant{Name: "n"}, nil, ""},
			{nil, auth.Grant{Name: "n", Scopes: auth.Scopes{"a.x"}, Ceiling: auth.Scopes{}}, auth.ErrInsufficientScope, "a.x is above the ceiling"},
			{nil, auth.Grant{Name: "n", Ceiling: auth.Scopes{}}, nil, ""},
			{nil, auth.Grant{Name: "n", Scopes: auth.Scopes{"a.x"}, Ceiling: auth.Scopes{"a.x"}}, nil, ""},
			{nil, auth.Grant{Name: "n", Scopes: auth.Scopes{"a.x", "b.x"}, Ceiling: auth.Scopes{"a.x"}}, auth.ErrInsufficientScope, "b.x is above the ceiling"},
			{nil, auth.Grant{Name: "n", Scopes: auth.Scopes{"a.*"}, Ceiling: auth.Scopes{"a.x", "a.y"}}, auth.ErrInsufficientScope, "a.* is above the ceiling"},
			{nil, auth.Grant{Name: "n", Scopes: auth.Scopes{"*"}, Ceiling: auth.Scopes{"a.*"}}, auth.ErrInsufficientScope, "* is above the ceiling"},
			{nil, auth.Grant{Name: "n", Scopes: auth.Scopes{"a.x", "a.b.*", "a.*"}, Ceiling: auth.Scopes{"a.*"}}, nil, ""},
			{nil, auth.Grant{Name: "n", Scopes: auth.Scopes{"*"}, Ceiling: auth.Scopes{"*"}}, nil, ""},
			{nil, auth.Grant{Name: "n", Scopes: auth.Scopes{"a.x"}, Ceiling: auth.Scopes{"a", "**", ".*", "a.*.*"}}, auth.ErrInsufficientScope, "a.x is above the ceiling"},
			{nil, auth.Grant{Name: "n", ExpiresAt: now.Add(time.Microsecond)}, nil, ""},
			{nil, auth.Grant{Name: "n", ExpiresAt: now.Add(999)}, auth.ErrInvalidArgument, "the expiry is not in the future"},
			{nil, auth.Grant{Name: "n", ExpiresAt: now}, auth.ErrInvalidArgument, "the expiry is not in the future"},
			{nil, auth.Grant{Name: "n", ExpiresAt: now.Add(-time.Hour)}, auth.ErrInvalidArgument, "the expiry is not in the future"},
			{nil, auth.Grant{Name: "n", ExpiresAt: time.Time{}.Add(1)}, auth.ErrInvalidArgument, "the expiry is not in the future"},
			{nil, auth.Grant{Name: "n", ExpiresAt: time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)}, nil, ""},
		} {
			store := newStore()
			r, k, err := auth.NewKeyring(store, &auth.KeyringOptions{Catalog: c.catalog}).Create(ctx, c.grant)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || !strings.Contains(errorText(err), c.text) || strings.Count(errorText(err), "auth: ") > 1 || leaks(errorText(err), goodKey) {
				t.Errorf("%+v: %v, want %v: %s", c.grant, err, c.want, c.text)
			}
			page, _ := store.List(ctx, "", auth.Position{}, 10)
			if (len(page) == 1) != (c.want == nil) || c.want != nil && (r.ID != "" || k.Reveal() != "") || len(page) == 1 && page[0].ID != r.ID {
				t.Errorf("%+v: %d records and %v after %v", c.grant, len(page), r, err)
			}
		}
	})
}

// A brokenStore is a KeyStore whose methods, but for List's first page, fail.
type brokenStore struct {
	auth.KeyStore
	err   error
	lists int
}

func (s *brokenStore) Insert(context.Context, auth.Record) error             { return s.err }
func (s *brokenStore) Get(context.Context, string) (auth.Record, error)      { return goodRecord(), s.err }
func (s *brokenStore) Revoke(context.Context, string, time.Time) error       { return s.err }
func (s *brokenStore) Replace(context.Context, auth.Record, time.Time) error { return s.err }
func (s *brokenStore) Touch(context.Context, map[string]time.Time) error     { return s.err }
func (s *brokenStore) List(_ context.Context, owner string, after auth.Position, limit int) ([]auth.Record, error) {
	if s.lists++; s.lists > 1 {
		return nil, s.err
	}
	return s.KeyStore.List(ctx, owner, after, limit)
}

// TestKeyringErrors: the store's error comes through, in the name of what was done, and nothing beside it.
func TestKeyringErrors(t *testing.T) {
	for _, cause := range []error{io.ErrUnexpectedEOF, auth.ErrExists, auth.ErrNotFound} {
		broken := &brokenStore{newStore(), cause, 0}
		for i := range 300 {
			broken.KeyStore.(*auth.MemoryStore).Insert(ctx, numbered(i))
		}
		ring := auth.NewKeyring(broken, nil)
		r1, k1, err1 := ring.Create(ctx, auth.Grant{Name: "n"})
		r2, k2, err2 := ring.Rotate(ctx, "x", 0)
		r3, err3 := ring.Get(ctx, "x")
		var seen int
		var err4 error
		for _, err := range ring.List(ctx, auth.Filter{}) {
			if err4 = err; err == nil {
				seen++
			}
		}
		for _, err := range []struct {
			got  error
			name string
		}{{err1, "create"}, {err2, "rotate"}, {err3, "get"}, {err4, "list"}, {ring.Revoke(ctx, "x"), "revoke"}} {
			if !errors.Is(err.got, cause) || !strings.HasPrefix(err.got.Error(), "auth: "+err.name+" key") {
				t.Errorf("%s: %v, want %v", err.name, err.got, cause)
			}
		}
		if r1.ID+r2.ID+r3.ID+k1.Reveal()+k2.Reveal() != "" || seen != 200 {
			t.Errorf("%v, %v, %v beside an error, and %d records", r1, r2, r3, seen)
		}
	}
}

func TestList(t *testing.T) {
	const n = 650 // more than three pages
	m := newStore()
	now := time.Now()
	var all []auth.Record
	for i := range n {
		r := numbered(i)
		r.CreatedAt = epoch.Add(time.Duration(i/7) * time.Second) // seven at a time, in the order of their IDs
		switch i % 5 {
		case 1:
			r.ExpiresAt = now.Add(-time.Duration(i) * time.Hour)
		case 2:
			r.ExpiresAt = now.Add(time.Duration(i) * time.Hour)
		case 3:
			r.RevokedAt = epoch
		case 4:
			r.RevokedAt, r.ExpiresAt = epoch, now.Add(time.Duration(i)*time.Hour)
		}
		all = append(all, r)
	}
	for _, i := range []int{3, 1, 2} { // some out of order
		m.Insert(ctx, all[i])
	}
	for _, r := range all {
		m.Insert(ctx, r)
	}
	ring := auth.NewKeyring(m, nil)
	expiring := func(r auth.Record, from, before time.Time) bool {
		return !r.ExpiresAt.IsZero() && !r.ExpiresAt.Before(from) && r.ExpiresAt.Before(before)
	}
	edge := all[102].ExpiresAt
	for _, c := range []struct {
		name   string
		filter auth.Filter
		want   func(i int, r auth.Record) bool
	}{
		{"all", auth.Filter{}, func(i int, r auth.Record) bool { return true }},
		{"owner", auth.Filter{Owner: "org_1"}, func(i int, r auth.Record) bool { return i%3 == 1 }},
		{"nobody's", auth.Filter{Owner: "org"}, func(i int, r auth.Record) bool { return false }},
		{"active", auth.Filter{State: auth.StateActive}, func(i int, r auth.Record) bool { return r.Check(now) == nil }},
		{"revoked", auth.Filter{State: auth.StateRevoked}, func(i int, r auth.Record) bool { return i%5 >= 3 }},
		{"expired", auth.Filter{State: auth.StateExpired}, func(i int, r auth.Record) bool { return i%5 == 1 }},
		{"owner's active", auth.Filter{Owner: "org_2", State: auth.StateActive}, func(i int, r auth.Record) bool { return i%3 == 2 && r.Check(now) == nil }},
		{"expiry from", auth.Filter{ExpiresFrom: edge}, func(i int, r auth.Record) bool { return expiring(r, edge, now.Add(9999*day)) }},
		{"expiry before", auth.Filter{ExpiresBefore: edge}, func(i int, r auth.Record) bool { return expiring(r, epoch.Add(-9999*day), edge) }},
		{"expiry within", auth.Filter{ExpiresFrom: edge, ExpiresBefore: edge.Add(50 * time.Hour)},
			func(i int, r auth.Record) bool { return expiring(r, edge, edge.Add(50*time.Hour)) }},
		{"to warn of", auth.Filter{State: auth.StateActive, ExpiresBefore: now.Add(7 * day)},
			func(i int, r auth.Record) bool { return r.Check(now) == nil && expiring(r, now, now.Add(7*day)) }},
		{"empty window", auth.Filter{ExpiresFrom: edge, ExpiresBefore: edge}, func(i int, r auth.Record) bool { return false }},
		{"after", auth.Filter{After: all[321].ID}, func(i int, r auth.Record) bool { return i > 321 }},
		{"after the last", auth.Filter{After: all[n-1].ID}, func(i int, r auth.Record) bool { return false }},
		{"after one of the owner's", auth.Filter{After: all[322].ID, Owner: "org_1"}, func(i int, r auth.Record) bool { return i > 322 && i%3 == 1 }},
	} {
		var want, got []string
		for i, r := range all {
			if c.want(i, r) {
				want = append(want, r.ID)
			}
		}
		seq := ring.List(ctx, c.filter)
		for range 2 { // a Seq2 may be ranged over again
			got = nil
			for r, err := range seq {
				if err != nil {
					t.Fatal(c.name, err)
				}
				if i := slices.IndexFunc(all, func(x auth.Record) bool { return x.ID == r.ID }); !reflect.DeepEqual(r, all[i]) {
					t.Fatalf("%s: %#v came changed", c.name, r)
				}
				got = append(got, r.ID)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %d records, want %d", c.name, len(got), len(want))
			}
		}
	}
	for _, c := range []struct {
		filter auth.Filter
		want   error
	}{{auth.Filter{State: 4}, auth.ErrInvalidArgument}, {auth.Filter{State: -1}, auth.ErrInvalidArgument}, {auth.Filter{After: "nobody"}, auth.ErrNotFound},
		{auth.Filter{After: all[321].ID, Owner: "org_1"}, auth.ErrNotFound}} { // whose keys others have is nobody's business
		count := 0
		for r, err := range ring.List(ctx, c.filter) {
			if count++; !errors.Is(err, c.want) || r.ID != "" {
				t.Errorf("%+v: %v, %v, want %v", c.filter, r, err, c.want)
			}
		}
		if count != 1 {
			t.Errorf("%+v: %d answers", c.filter, count)
		}
	}
}

// TestListMeanwhile: a list may be left early, and what it shows may be changed while it runs.
func TestListMeanwhile(t *testing.T) {
	m := newStore()
	for i := range 500 {
		m.Insert(ctx, numbered(i))
	}
	counter := &brokenStore{m, nil, 0}
	for range auth.NewKeyring(counter, nil).List(ctx, auth.Filter{}) {
		break
	}
	if counter.lists != 1 {
		t.Errorf("%d pages were read for one record", counter.lists)
	}
	ring := auth.NewKeyring(m, nil)
	seen := make(map[string]int)
	for r, err := range ring.List(ctx, auth.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if seen[r.ID]++; seen[r.ID] > 1 {
			t.Fatalf("%s came twice", r.ID)
		}
		if len(seen) > 600 {
			break // those made meanwhile come at the end, as long as one makes more
		}
		if err := ring.Revoke(ctx, r.ID); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ring.Create(ctx, auth.Grant{Name: "made meanwhile"}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 500 {
		if seen[numbered(i).ID] != 1 {
			t.Errorf("%s was left out", numbered(i).ID)
		}
	}
}

func TestRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := auth.NewKeyring(newStore(numbered(1), numbered(2)), nil)
		start := time.Now().UTC()
		for range 3 {
			time.Sleep(time.Hour)
			if err := ring.Revoke(ctx, numbered(1).ID); err != nil {
				t.Fatal(err)
			}
			if r, _ := ring.Get(ctx, numbered(1).ID); !r.RevokedAt.Equal(start.Add(time.Hour)) || r.Check(time.Time{}) != auth.ErrKeyRevoked {
				t.Errorf("revoked at %v, first at %v", r.RevokedAt, start.Add(time.Hour))
			}
		}
		if r, _ := ring.Get(ctx, numbered(2).ID); !r.RevokedAt.IsZero() {
			t.Error("another was revoked too")
		}
		for _, id := range []string{"nobody", "", goodKey} {
			if err := ring.Revoke(ctx, id); !errors.Is(err, auth.ErrNotFound) || leaks(err.Error(), goodKey) {
				t.Errorf("Revoke(%.6q…): %v", id, err)
			}
			if _, err := ring.Get(ctx, id); !errors.Is(err, auth.ErrNotFound) || leaks(err.Error(), goodKey) {
				t.Errorf("Get(%.6q…): %v", id, err)
			}
		}
	})
}

func TestRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now().UTC()
		never := time.Time{}
		far := time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)
		for _, c := range []struct {
			name             string
			created, expires time.Time
			grace            time.Duration
			wantOld, wantNew time.Time
		}{
			{"never expires, no grace", start.Add(-day), never, 0, start, never},
			{"never expires, an hour", start.Add(-day), never, time.Hour, start.Add(time.Hour), never},
			{"never expires, the longest", start.Add(-day), never, auth.MaxGrace, start.Add(30 * day), never},
			{"no grace", start.Add(-10 * day), start.Add(20 * day), 0, start, start.Add(30 * day)},
			{"a day", start.Add(-10 * day), start.Add(20 * day), day, start.Add(day), start.Add(30 * day)},
			{"a day, but an hour was left", start.Add(-10 * day), start.Add(time.Hour), day, start.Add(time.Hour), start.Add(10*day + time.Hour)},
			{"exactly what was left", start.Add(-10 * day), start.Add(day), day, start.Add(day), start.Add(11 * day)},
			{"a microsecond was left", start.Add(-day), start.Add(time.Microsecond), day, start.Add(time.Microsecond), start.Add(day + time.Microsecond)},
			{"made at an unknown time", never, start.Add(5 * day), 0, start, start.Add(5 * day)},
			{"unknown time, never expires", never, never, 0, start, never},
			{"18,000 years", start, far, day, start.Add(day), far},
			{"18,000 years, an old key", start.AddDate(-1, 0, 0), far, 0, start, far.Add(start.Sub(start.AddDate(-1, 0, 0)))},
		} {
			old := goodRecord()
			old.CreatedAt, old.ExpiresAt, old.CreatedBy, old.LastUsedAt = c.created, c.expires, "ada", start
			store := newStore(old)
			ring := auth.NewKeyring(store, nil)
			r, k, err := ring.Rotate(ctx, old.ID, c.grace)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			want := auth.Record{ID: r.ID, Hash: auth.BLAKE2b(nil)(k.Reveal()), Hint: k.Hint(), Name: old.Name, Owner: old.Owner, CreatedBy: "ada",
				Scopes: old.Scopes, Metadata: old.Metadata, CreatedAt: start, ExpiresAt: c.wantNew, Replaces: old.ID}
			if !reflect.DeepEqual(r, want) || r.ID == old.ID || r.Hash == old.Hash {
				t.Errorf("%s: the successor is %#v\nwant %#v", c.name, r, want)
			}
			r.Scopes[0] = "x.y"
			r.Metadata["env"] = "x"
			if got, _ := ring.Get(ctx, r.ID); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: stored is %#v\nwant %#v", c.name, got, want)
			}
			old.ReplacedBy, old.ExpiresAt = r.ID, c.wantOld
			if got, _ := ring.Get(ctx, old.ID); !reflect.DeepEqual(got, old) {
				t.Errorf("%s: the old one is %#v\nwant %#v", c.name, got, old)
			}
			// The old key opens until its expiry and not at it; the new one at once.
			a := auth.New(store, nil)
			if _, err := a.Authenticate(requestWith(k.Reveal())); err != nil {
				t.Errorf("%s: the new key: %v", c.name, err)
			}
			if _, err := a.Authenticate(requestWith(goodKey)); (err == nil) != c.wantOld.After(start) {
				t.Errorf("%s: the old key: %v", c.name, err)
			}
			if _, _, err := ring.Rotate(ctx, r.ID, 0); err != nil {
				t.Errorf("%s: the successor cannot be rotated: %v", c.name, err)
			}
		}
	})
}

func TestRotateRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().UTC()
		change := func(f func(r *auth.Record)) auth.Record {
			r := goodRecord()
			f(&r)
			return r
		}
		for _, c := range []struct {
			name   string
			record auth.Record
			id     string
			grace  time.Duration
			want   error
		}{
			{"negative grace", goodRecord(), "key_good", -1, auth.ErrInvalidArgument},
			{"too long a grace", goodRecord(), "key_good", auth.MaxGrace + 1, auth.ErrInvalidArgument},
			{"nobody", goodRecord(), "nobody", 0, auth.ErrNotFound},
			{"the key for an ID", goodRecord(), goodKey, 0, auth.ErrNotFound},
			{"the hash for an ID", goodRecord(), goodHash.String(), 0, auth.ErrNotFound},
			{"revoked", change(func(r *auth.Record) { r.RevokedAt = now }), "key_good", 0, auth.ErrKeyRevoked},
			{"revoked from tomorrow", change(func(r *auth.Record) { r.RevokedAt = now.Add(day) }), "key_good", time.Hour, auth.ErrKeyRevoked},
			{"revoked and expired", change(func(r *auth.Record) { r.RevokedAt, r.ExpiresAt = now, now }), "key_good", 0, auth.ErrKeyRevoked},
			{"revoked and rotated", change(func(r *auth.Record) { r.RevokedAt, r.ReplacedBy = now, "x" }), "key_good", 0, auth.ErrKeyRevoked},
			{"expired", change(func(r *auth.Record) { r.ExpiresAt = now.Add(-day) }), "key_good", time.Hour, auth.ErrKeyExpired},
			{"expired this instant", change(func(r *auth.Record) { r.ExpiresAt = now }), "key_good", time.Hour, auth.ErrKeyExpired},
			{"rotated", change(func(r *auth.Record) { r.ReplacedBy, r.ExpiresAt = "x", now.Add(day) }), "key_good", time.Hour, auth.ErrSuperseded},
			{"rotated, its grace over", change(func(r *auth.Record) { r.ReplacedBy, r.ExpiresAt = "x", now }), "key_good", time.Hour, auth.ErrSuperseded},
		} {
			store := newStore(c.record)
			r, k, err := auth.NewKeyring(store, nil).Rotate(ctx, c.id, c.grace)
			page, _ := store.List(ctx, "", auth.Position{}, 10)
			if !errors.Is(err, c.want) || r.ID != "" || k.Reveal() != "" || len(page) != 1 || !reflect.DeepEqual(page[0], c.record) || leaks(err.Error(), goodKey) {
				t.Errorf("%s: %v, want %v; %d records", c.name, err, c.want, len(page))
			}
		}
	})
}

// A gateStore holds every Get until as many callers as it waits for have their answer.
type gateStore struct {
	auth.KeyStore
	all sync.WaitGroup
}

func (s *gateStore) Get(ctx context.Context, id string) (auth.Record, error) {
	r, err := s.KeyStore.Get(ctx, id)
	s.all.Done()
	s.all.Wait()
	return r, err
}

// TestRotateOnce: of a hundred rotations that all saw the key unrotated, one succeeds, whatever the grace; and when a
// revocation is among them, the key does not live on.
func TestRotateOnce(t *testing.T) {
	const n = 100
	for _, grace := range []time.Duration{0, time.Hour, auth.MaxGrace} {
		for _, gated := range []bool{true, false} {
			memory := newStore(goodRecord())
			var store auth.KeyStore = memory
			if gated {
				gate := &gateStore{KeyStore: memory}
				gate.all.Add(n)
				store = gate
			}
			ring := auth.NewKeyring(store, nil)
			winners := make(chan string, n)
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() {
					switch r, k, err := ring.Rotate(ctx, "key_good", grace); {
					case err == nil:
						winners <- r.ID
					case !errors.Is(err, auth.ErrSuperseded) || k.Reveal() != "":
						t.Errorf("grace %v: %v", grace, err)
					}
				})
			}
			wg.Wait()
			page, _ := memory.List(ctx, "", auth.Position{}, n)
			if len(winners) != 1 || len(page) != 2 {
				t.Fatalf("grace %v: %d winners, %d records", grace, len(winners), len(page))
			}
			if old, _ := memory.Get(ctx, "key_good"); old.ReplacedBy != <-winners || old.ExpiresAt.After(time.Now().Add(grace)) {
				t.Errorf("grace %v: the old key is replaced by %s, expires %v", grace, old.ReplacedBy, old.ExpiresAt)
			}
		}
	}

	gate := &gateStore{KeyStore: newStore(goodRecord())}
	gate.all.Add(2)
	result := make(chan error)
	go func() {
		_, _, err := auth.NewKeyring(gate, nil).Rotate(ctx, "key_good", time.Hour)
		result <- err
	}()
	gate.Revoke(ctx, "key_good", epoch) // after the rotation's Get, or before it
	gate.all.Done()
	if err := <-result; !errors.Is(err, auth.ErrKeyRevoked) {
		t.Errorf("revoked during a rotation: %v", err)
	}
	if r, _ := gate.KeyStore.Get(ctx, "key_good"); !r.RevokedAt.Equal(epoch) || r.ReplacedBy != "" {
		t.Errorf("revoked during a rotation: %#v", fmt.Sprint(r.RevokedAt, r.ReplacedBy))
	}
}

// A maker without scopes has a ceiling of nothing, not none, whatever its store returns.
func TestCeilingOfAMakerWithoutScopes(t *testing.T) {
	store := new(auth.MemoryStore)
	keyring := auth.NewKeyring(store, nil)
	_, key, err := keyring.Create(t.Context(), auth.Grant{Name: "maker"})
	if err != nil {
		t.Fatal(err)
	}
	var decided auth.Record
	a := auth.New(store, &auth.Options{OnDecision: func(_ *http.Request, d auth.Decision) { decided, _ = d.Record() }})
	r := httptest.NewRequest("POST", "/keys", nil)
	r.Header.Set("Authorization", "Bearer "+key.Reveal())
	authenticated, err := a.Authenticate(r)
	if err != nil {
		t.Fatal(err)
	}
	a.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		maker, _ := auth.FromContext(r.Context())
		nobody, _ := auth.FromContext(context.Background()) // a route that forgot its Middleware
		unknown, _ := auth.Decision{}.Record()
		store.Insert(r.Context(), auth.Record{ID: "key_nil", Hash: auth.Hash{7}, Owner: "org_nil"}) // a store may return nil for none
		got, _ := keyring.Get(r.Context(), "key_nil")
		listed := auth.Record{Scopes: nil}
		for record := range keyring.List(r.Context(), auth.Filter{Owner: "org_nil"}) {
			listed = record
		}
		rotated, _, err := keyring.Rotate(r.Context(), "key_nil", 0)
		if err != nil {
			t.Error(err)
		}
		for _, ceiling := range []auth.Scopes{maker.Scopes, authenticated.Scopes, decided.Scopes, nobody.Scopes, unknown.Scopes,
			got.Scopes, listed.Scopes, rotated.Scopes} {
			_, _, err := keyring.Create(r.Context(), auth.Grant{Name: "made", Scopes: auth.Scopes{"*"}, Ceiling: ceiling})
			if !errors.Is(err, auth.ErrInsufficientScope) {
				t.Errorf("a key without scopes made one for everything: %v", err)
			}
		}
	})).ServeHTTP(httptest.NewRecorder(), r)
}

// The successor of a key that expires further away than microseconds count expires when that does.
func TestRotateFarExpiry(t *testing.T) {
	store := new(auth.MemoryStore)
	r := auth.Record{ID: "key_far", Hash: auth.Hash{1}, CreatedAt: time.Now(), ExpiresAt: time.Date(300_000, 1, 1, 0, 0, 0, 0, time.UTC)}
	if err := store.Insert(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	got, _, err := auth.NewKeyring(store, nil).Rotate(t.Context(), r.ID, 0)
	if err != nil || !got.ExpiresAt.Equal(r.ExpiresAt) {
		t.Errorf("expires %v, %v", got.ExpiresAt, err)
	}
}

// The successor of a key that ends with the year 9999 does too: a later year does not fit JSON.
func TestRotateIn9999(t *testing.T) {
	keyring := auth.NewKeyring(new(auth.MemoryStore), nil)
	for _, c := range []struct{ expires, want time.Time }{
		{time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)},
		{time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}, // whoever asks for it
	} {
		old, _, err := keyring.Create(t.Context(), auth.Grant{Name: "n", ExpiresAt: c.expires})
		if err != nil {
			t.Fatal(err)
		}
		old.CreatedAt = old.CreatedAt.AddDate(0, 0, -2)
		old.ID, old.Hash = "key_old"+c.expires.Format("2006"), auth.Hash{byte(c.expires.Year())}
		store := newStore(old)
		got, _, err := auth.NewKeyring(store, nil).Rotate(t.Context(), old.ID, 0)
		if err != nil || got.ExpiresAt.Before(c.want) || c.expires.Year() == 9999 && !got.ExpiresAt.Equal(c.want) {
			t.Errorf("%v: the successor expires %v, %v", c.expires, got.ExpiresAt, err)
		}
		if _, err := json.Marshal(got); (err == nil) != (c.expires.Year() == 9999) {
			t.Error(err)
		}
	}
}
