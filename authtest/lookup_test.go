package authtest_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/keyring"
)

func TestLookupAcceptsMemoryStore(t *testing.T) {
	authtest.TestLookup(t, func(t *testing.T, records ...auth.Record) auth.Store {
		s := new(keyring.MemoryStore)
		for _, r := range records {
			if err := s.Insert(t.Context(), &r); err != nil {
				t.Fatal(err)
			}
		}
		return s
	})
}

// An ownTable was there before this library: it keeps what it needs, in its own
// way.
type ownTable struct {
	rows     []ownRow
	onLookup func(ctx context.Context, hash auth.Hash) (*auth.Record, error) // if not nil, instead of find
}

type ownRow struct {
	id      int // numbered by the table itself
	hash    auth.Hash
	scopes  map[auth.Scope]bool
	expires int64 // in seconds since 1970; 0 means never
	stopped bool  // revoked or disabled
}

func newOwnTable(records ...auth.Record) *ownTable {
	s := new(ownTable)
	for i, r := range records {
		row := ownRow{
			id:      i + 1,
			hash:    r.Hash,
			scopes:  make(map[auth.Scope]bool),
			stopped: !r.RevokedAt.IsZero() || !r.DisabledAt.IsZero(),
		}
		for _, scope := range r.Scopes {
			row.scopes[scope] = true
		}
		if !r.ExpiresAt.IsZero() {
			row.expires = r.ExpiresAt.Unix()
		}
		s.rows = append(s.rows, row)
	}
	return s
}

func (s *ownTable) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	if s.onLookup != nil {
		return s.onLookup(ctx, hash)
	}
	return s.lookup(hash)
}

func (s *ownTable) lookup(hash auth.Hash) (*auth.Record, error) {
	return s.find(func(row ownRow) bool { return row.hash == hash })
}

func (s *ownTable) find(match func(row ownRow) bool) (*auth.Record, error) {
	i := slices.IndexFunc(s.rows, match)
	if i < 0 {
		return nil, auth.ErrNotFound
	}
	row := s.rows[i]
	r := &auth.Record{ID: strconv.Itoa(row.id), Hash: row.hash}
	for scope := range row.scopes {
		r.Scopes = append(r.Scopes, scope)
	}
	if row.expires != 0 {
		r.ExpiresAt = time.Unix(row.expires, 0)
	}
	if row.stopped {
		r.RevokedAt = time.Unix(0, 0)
	}
	return r, nil
}

func TestLookupAcceptsOwnTable(t *testing.T) {
	authtest.TestLookup(t, func(_ *testing.T, records ...auth.Record) auth.Store { return newOwnTable(records...) })
}

// An exactTable returns the records as they were given, so that a test can take
// something away from each.
type exactTable struct {
	records []auth.Record
	change  func(r *auth.Record)
}

func (s *exactTable) Lookup(_ context.Context, hash auth.Hash) (*auth.Record, error) {
	for _, r := range s.records {
		if r.Hash == hash {
			c := r.Clone()
			s.change(c)
			return c, nil
		}
	}
	return nil, auth.ErrNotFound
}

func TestLookupAcceptsWhatAStoreNeedNotKeep(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(r *auth.Record)
	}{
		{"the record as it is", func(*auth.Record) {}},
		{"an ID of its own", func(r *auth.Record) { r.ID, r.Chain = "key-"+r.ID, "key-"+r.Chain }},
		{"no texts", func(r *auth.Record) {
			r.Hint, r.Name, r.Owner, r.CreatedBy, r.UpdatedBy, r.Chain = "", "", "", "", "", ""
		}},
		{"no times", func(r *auth.Record) { r.CreatedAt, r.UpdatedAt = time.Time{}, time.Time{} }},
		{"no metadata", func(r *auth.Record) { r.Metadata = nil }},
		{"no revision", func(r *auth.Record) { r.Revision = 0 }},
		{"scopes in another order", func(r *auth.Record) { slices.Reverse(r.Scopes) }},
		{"another time of revocation", func(r *auth.Record) {
			if !r.RevokedAt.IsZero() {
				r.RevokedAt = time.Unix(1, 0)
			}
		}},
		{"another time of disabling", func(r *auth.Record) {
			if !r.DisabledAt.IsZero() {
				r.DisabledAt = time.Unix(1, 0)
			}
		}},
		{"disabled as revoked", func(r *auth.Record) {
			if !r.DisabledAt.IsZero() {
				r.RevokedAt, r.DisabledAt = r.DisabledAt, time.Time{}
			}
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			authtest.TestLookup(t, func(_ *testing.T, records ...auth.Record) auth.Store {
				return &exactTable{records, c.change}
			})
		})
	}
}

// A lookupFault is something wrong with a store, and the case of TestLookup
// that is there to find it.
type lookupFault struct {
	what  string
	found string
	only  bool // no other case finds it
	apply func(s *ownTable)
}

// changed breaks the records that Lookup returns.
func changed(change func(r *auth.Record)) func(s *ownTable) {
	return func(s *ownTable) {
		s.onLookup = func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
			r, err := s.lookup(hash)
			if err == nil {
				change(r)
			}
			return r, err
		}
	}
}

// finding breaks which row Lookup finds.
func finding(match func(row ownRow, hash auth.Hash) bool) func(s *ownTable) {
	return func(s *ownTable) {
		s.onLookup = func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
			return s.find(func(row ownRow) bool { return match(row, hash) })
		}
	}
}

// rewriting breaks a store that writes to what it has returned when the same
// key is looked up again.
func rewriting(f func(r *auth.Record)) func(s *ownTable) {
	return func(s *ownTable) {
		var mu sync.Mutex
		last := make(map[auth.Hash]*auth.Record)
		s.onLookup = func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
			mu.Lock()
			defer mu.Unlock()
			r, err := s.lookup(hash)
			if old := last[hash]; err == nil && old != nil {
				f(old)
			}
			last[hash] = r
			return r, err
		}
	}
}

var lookupFaults = []lookupFault{
	{"nil and nil", "empty", false, func(s *ownTable) {
		s.onLookup = func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
			r, _ := s.lookup(hash)
			return r, nil
		}
	}},
	{"nil and nil if there are no rows", "empty", true, func(s *ownTable) {
		s.onLookup = func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
			if len(s.rows) == 0 {
				return nil, nil
			}
			return s.lookup(hash)
		}
	}},
	{"a zero record for an unknown hash", "empty", false, func(s *ownTable) {
		s.onLookup = func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
			if r, err := s.lookup(hash); err == nil {
				return r, nil
			}
			return new(auth.Record), nil
		}
	}},
	{"the first row for any hash", "known", false, finding(func(ownRow, auth.Hash) bool { return true })},
	{"the first ten rows", "known", true, func(s *ownTable) {
		s.onLookup = func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
			rows := s.rows
			if len(rows) == 20 {
				rows = rows[:10]
			}
			return (&ownTable{rows: rows}).lookup(hash)
		}
	}},
	{"a name that nobody gave", "known", false, changed(func(r *auth.Record) { r.Name = "nobody" })},
	{"an expiry in milliseconds", "known", false, changed(
		func(r *auth.Record) { r.ExpiresAt = time.Unix(r.ExpiresAt.Unix()/1000, 0) })},
	{"no ID", "known", false, changed(func(r *auth.Record) { r.ID = "" })},
	{"one ID for all", "known", false, changed(func(r *auth.Record) { r.ID = "key" })},
	{"no hash", "known", false, changed(func(r *auth.Record) { r.Hash = auth.Hash{} })},
	{"an error of its own", "unknown", false, func(s *ownTable) {
		s.onLookup = func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
			r, err := s.lookup(hash)
			if err != nil {
				err = errNoRows
			}
			return r, err
		}
	}},
	{"the digits of a hash", "unknown", true, finding(func(row ownRow, hash auth.Hash) bool {
		return row.hash == hash || strings.HasPrefix(row.hash.String(), string(hash[:]))
	})},
	{"a revoked key is good", "revoked", false, changed(func(r *auth.Record) { r.RevokedAt = time.Time{} })},
	{"revoked and disabled keys are left out", "disabled", false, finding(func(row ownRow, hash auth.Hash) bool {
		return row.hash == hash && !row.stopped
	})},
	{"expired keys are left out", "expired", true, finding(func(row ownRow, hash auth.Hash) bool {
		return row.hash == hash && (row.expires == 0 || row.expires > time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).Unix())
	})},
	{"an expiry that has passed is forgotten", "expired", true, changed(func(r *auth.Record) {
		if r.ExpiresAt.Year() < 2020 {
			r.ExpiresAt = time.Time{}
		}
	})},
	{"never is 1970", "never expires", true, changed(func(r *auth.Record) {
		if r.ExpiresAt.IsZero() {
			r.ExpiresAt = time.Unix(0, 0)
		}
	})},
	{"a default scope", "scopes", true, changed(func(r *auth.Record) {
		if len(r.Scopes) == 0 {
			r.Scopes = auth.Scopes{"documents.read"}
		}
	})},
	{"three scopes at most", "scopes", true, changed(
		func(r *auth.Record) { r.Scopes = r.Scopes[:min(3, len(r.Scopes))] })},
	{"half of the hash", "whole hash", true, finding(func(row ownRow, hash auth.Hash) bool {
		return bytes.Equal(row.hash[:16], hash[:16])
	})},
	{"a hash as text in any case", "odd hashes", false, finding(func(row ownRow, hash auth.Hash) bool {
		return bytes.EqualFold(row.hash[:], hash[:])
	})},
	{"a hash as a C string", "odd hashes", true, finding(func(row ownRow, hash auth.Hash) bool {
		return row.hash == hash && (hash[0] != 0 || hash[1] != 1)
	})},
	{"one buffer for all", "stays", false, rewriting(func(r *auth.Record) { r.Scopes[0] = "*" })},
	{"what was returned changes its zone", "stays", true, rewriting(
		func(r *auth.Record) { r.ExpiresAt = r.ExpiresAt.UTC() })},
	{"a failed query finds no row", "context", true, func(s *ownTable) {
		s.onLookup = func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
			if ctx.Err() != nil {
				return nil, auth.ErrNotFound
			}
			return s.lookup(hash)
		}
	}},
	{"one at a time", "at the same time", true, func(s *ownTable) {
		var busy atomic.Int64
		s.onLookup = func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
			defer busy.Add(-1)
			n := busy.Add(1)
			time.Sleep(moment)
			if n > 1 {
				return nil, errors.New("connection is busy")
			}
			return s.lookup(hash)
		}
	}},
}

// lookupFindings returns what a case finds wrong with a store. Time is that of
// a bubble.
func lookupFindings(t *testing.T, c authtest.LookupCase, newStore func(records ...auth.Record) auth.Store) (err error) {
	synctest.Test(t, func(t *testing.T) {
		if c.About(newStore()) {
			err = c.Run(t.Context(), newStore)
		}
		time.Sleep(24 * time.Hour)
	})
	return err
}

func TestLookupRejectsBrokenStores(t *testing.T) {
	cases := authtest.LookupCases()
	check := func(what, found string, only bool, newStore func(records ...auth.Record) auth.Store) {
		t.Run(what, func(t *testing.T) {
			known := false
			for _, c := range cases {
				if c.Name != found && (!only || raceEnabled) { // a fault may be a race
					continue
				}
				err := lookupFindings(t, c, newStore)
				if c.Name != found {
					if err != nil {
						t.Errorf("the case %q finds it too: %v", c.Name, err)
					}
					continue
				}
				known = true
				if err == nil {
					t.Errorf("the case %q does not find it", found)
				}
				t.Logf("%v\nthe rule: %s", err, c.Rule)
			}
			if !known {
				t.Errorf("there is no case %q", found)
			}
		})
	}
	for _, f := range lookupFaults {
		check(f.what, f.found, f.only, func(records ...auth.Record) auth.Store {
			s := newOwnTable(records...)
			f.apply(s)
			return s
		})
	}
	for _, f := range splitFaults {
		check(f.what, f.found, f.only, func(records ...auth.Record) auth.Store {
			return &exactTable{records, f.change}
		})
	}
	for _, f := range watchFaults {
		if slices.ContainsFunc(cases, func(c authtest.LookupCase) bool { return c.Name == f.found }) {
			check(f.what, f.found, f.only, func(records ...auth.Record) auth.Store {
				s := newTable()
				for _, r := range records {
					s.insert(&r)
				}
				f.apply(s)
				return s
			})
		}
	}
}

// splitFaults are faults of a store that tells revoked keys from disabled ones.
var splitFaults = []struct {
	what   string
	found  string
	only   bool
	change func(r *auth.Record)
}{
	{"a revocation is lost", "revoked", true, func(r *auth.Record) { r.RevokedAt = time.Time{} }},
	{"a revocation in the future is lost", "revoked", true, func(r *auth.Record) {
		if r.RevokedAt.Year() > 2030 {
			r.RevokedAt = time.Time{}
		}
	}},
	{"a disabled key is good", "disabled", true, func(r *auth.Record) { r.DisabledAt = time.Time{} }},
	{"a good key is disabled", "known", false, func(r *auth.Record) { r.DisabledAt = time.Unix(1, 0) }},
	{"another owner", "known", false, func(r *auth.Record) { r.Owner = "org_2" }},
	{"another chain", "known", false, func(r *auth.Record) { r.RotatedTo = "1" }},
	{"two scopes become one", "known", false, func(r *auth.Record) {
		if len(r.Scopes) > 1 {
			r.Scopes = r.Scopes[:1]
		}
	}},
}

// No case could be left out: each finds a fault that no other one finds.
func TestLookupHasNoUselessCase(t *testing.T) {
	alone := make(map[string]bool)
	for _, f := range lookupFaults {
		alone[f.found] = alone[f.found] || f.only
	}
	for _, f := range splitFaults {
		alone[f.found] = alone[f.found] || f.only
	}
	for _, f := range watchFaults {
		alone[f.found] = alone[f.found] || f.only
	}
	for _, c := range authtest.LookupCases() {
		if !alone[c.Name] {
			t.Errorf("there is no fault that only the case %q finds", c.Name)
		}
		if c.Rule == "" {
			t.Errorf("the case %q has no rule", c.Name)
		}
	}
}
