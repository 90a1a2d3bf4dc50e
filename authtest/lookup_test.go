package authtest_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
)

func TestLookupOfMemoryStore(t *testing.T) {
	authtest.TestLookup(t, func(t *testing.T, records ...auth.Record) auth.Store {
		s := new(auth.MemoryStore)
		for _, r := range records {
			if err := s.Insert(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		return s
	})
}

// An ownTable was there before: it keeps what it needs, in its own way.
type ownTable struct {
	rows []ownRow
}

type ownRow struct {
	id      int
	hash    auth.Hash
	scopes  map[auth.Scope]bool
	expires int64 // seconds since 1970; 0: never
	revoked bool
}

func newOwnTable(records ...auth.Record) *ownTable {
	s := new(ownTable)
	for _, r := range records {
		row := ownRow{hash: r.Hash, scopes: make(map[auth.Scope]bool), revoked: !r.RevokedAt.IsZero()}
		row.id, _ = strconv.Atoi(r.ID)
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

func (s *ownTable) Lookup(_ context.Context, hash auth.Hash) (auth.Record, error) {
	return s.find(func(row ownRow) bool { return row.hash == hash })
}

func (s *ownTable) find(match func(row ownRow) bool) (auth.Record, error) {
	i := slices.IndexFunc(s.rows, match)
	if i < 0 {
		return auth.Record{}, auth.ErrNotFound
	}
	row := s.rows[i]
	r := auth.Record{ID: strconv.Itoa(row.id), Hash: row.hash}
	for scope := range row.scopes {
		r.Scopes = append(r.Scopes, scope)
	}
	if row.expires != 0 {
		r.ExpiresAt = time.Unix(row.expires, 0)
	}
	if row.revoked {
		r.RevokedAt = time.Unix(0, 0)
	}
	return r, nil
}

func TestLookupOfOwnTable(t *testing.T) {
	authtest.TestLookup(t, func(_ *testing.T, records ...auth.Record) auth.Store { return newOwnTable(records...) })
}

type lookupFunc func(ctx context.Context, hash auth.Hash) (auth.Record, error)

func (f lookupFunc) Lookup(ctx context.Context, hash auth.Hash) (auth.Record, error) {
	return f(ctx, hash)
}

// Every broken store fails the case that is there for it, and every case catches a broken store.
func TestBrokenLookups(t *testing.T) {
	changed := func(change func(r *auth.Record)) func(s *ownTable) lookupFunc {
		return func(s *ownTable) lookupFunc {
			return func(ctx context.Context, hash auth.Hash) (auth.Record, error) {
				r, err := s.Lookup(ctx, hash)
				change(&r)
				return r, err
			}
		}
	}
	catches := make(map[string]int)
	for _, c := range []struct {
		fault  string
		caught string
		do     func(s *ownTable) lookupFunc
	}{
		{"nil for none", "empty", func(s *ownTable) lookupFunc {
			return func(ctx context.Context, hash auth.Hash) (auth.Record, error) {
				r, _ := s.Lookup(ctx, hash)
				return r, nil
			}
		}},
		{"the first record", "known", func(s *ownTable) lookupFunc {
			return func(context.Context, auth.Hash) (auth.Record, error) {
				return s.find(func(ownRow) bool { return true })
			}
		}},
		{"a name made up", "known", changed(func(r *auth.Record) { r.Name = "nobody" })},
		{"an expiry in milliseconds", "known", changed(func(r *auth.Record) { r.ExpiresAt = time.Unix(r.ExpiresAt.Unix()/1000, 0) })},
		{"no ID", "known", changed(func(r *auth.Record) { r.ID = "" })},
		{"no Hash", "known", changed(func(r *auth.Record) { r.Hash = auth.Hash{} })},
		{"an error of its own for none", "unknown", func(s *ownTable) lookupFunc {
			return func(ctx context.Context, hash auth.Hash) (auth.Record, error) {
				r, err := s.Lookup(ctx, hash)
				if err != nil {
					err = errors.New("sql: no rows in result set")
				}
				return r, err
			}
		}},
		{"hex digits", "unknown", func(s *ownTable) lookupFunc {
			return func(_ context.Context, hash auth.Hash) (auth.Record, error) {
				return s.find(func(row ownRow) bool {
					return row.hash == hash || bytes.HasPrefix([]byte(row.hash.String()), hash[:])
				})
			}
		}},
		{"revoked records are not looked at", "revoked", changed(func(r *auth.Record) { r.RevokedAt = time.Time{} })},
		{"revoked records are left out", "revoked", func(s *ownTable) lookupFunc {
			return func(_ context.Context, hash auth.Hash) (auth.Record, error) {
				return s.find(func(row ownRow) bool { return row.hash == hash && !row.revoked })
			}
		}},
		{"expired records are left out", "expired", func(s *ownTable) lookupFunc {
			return func(_ context.Context, hash auth.Hash) (auth.Record, error) {
				return s.find(func(row ownRow) bool {
					return row.hash == hash && (row.expires == 0 || row.expires > time.Now().Unix())
				})
			}
		}},
		{"the time of an expired record is lost", "expired", changed(func(r *auth.Record) {
			if r.Check(time.Now()) != nil {
				r.ExpiresAt = time.Time{}
			}
		})},
		{"never is 1970", "never expires", changed(func(r *auth.Record) {
			if r.ExpiresAt.IsZero() {
				r.ExpiresAt = time.Unix(0, 0)
			}
		})},
		{"a default scope", "scopes", changed(func(r *auth.Record) {
			if len(r.Scopes) == 0 {
				r.Scopes = auth.Scopes{"documents.read"}
			}
		})},
		{"one scope is lost", "scopes", changed(func(r *auth.Record) { r.Scopes = r.Scopes[:min(3, len(r.Scopes))] })},
		{"the first 16 bytes", "whole hash", func(s *ownTable) lookupFunc {
			return func(_ context.Context, hash auth.Hash) (auth.Record, error) {
				return s.find(func(row ownRow) bool { return bytes.Equal(row.hash[:16], hash[:16]) })
			}
		}},
		{"text in any case", "odd hashes", func(s *ownTable) lookupFunc {
			return func(_ context.Context, hash auth.Hash) (auth.Record, error) {
				return s.find(func(row ownRow) bool { return bytes.EqualFold(row.hash[:], hash[:]) })
			}
		}},
		{"C strings", "odd hashes", func(s *ownTable) lookupFunc {
			return func(ctx context.Context, hash auth.Hash) (auth.Record, error) {
				if hash[0] == 0 {
					return auth.Record{}, auth.ErrNotFound
				}
				return s.Lookup(ctx, hash)
			}
		}},
		{"one buffer for all", "copies", func(s *ownTable) lookupFunc {
			buffer := make(auth.Scopes, 10)
			return func(ctx context.Context, hash auth.Hash) (auth.Record, error) {
				r, err := s.Lookup(ctx, hash)
				r.Scopes = buffer[:copy(buffer, r.Scopes)]
				return r, err
			}
		}},
		{"a failed query finds no rows", "context", func(s *ownTable) lookupFunc {
			return func(ctx context.Context, hash auth.Hash) (auth.Record, error) {
				if ctx.Err() != nil {
					return auth.Record{}, auth.ErrNotFound
				}
				return s.Lookup(ctx, hash)
			}
		}},
		{"one at a time", "at the same time", func(s *ownTable) lookupFunc {
			var busy atomic.Int64
			return func(ctx context.Context, hash auth.Hash) (auth.Record, error) {
				defer busy.Add(-1)
				if busy.Add(1) > 1 {
					return auth.Record{}, errors.New("connection is busy")
				}
				time.Sleep(time.Millisecond)
				return s.Lookup(ctx, hash)
			}
		}},
	} {
		t.Run(c.fault, func(t *testing.T) {
			catches[c.caught]++
			for _, lookup := range authtest.LookupCases() {
				if lookup.Name != c.caught {
					continue
				}
				err := lookup.Run(t.Context(), func(records ...auth.Record) auth.Store { return c.do(newOwnTable(records...)) })
				if err == nil {
					t.Fatalf("%q does not catch it", c.caught)
				}
				t.Logf("%v\nthe rule: %s", err, lookup.Rule)
			}
		})
	}
	for _, lookup := range authtest.LookupCases() {
		if catches[lookup.Name] == 0 || lookup.Rule == "" {
			t.Errorf("nothing broken shows that %q catches anything, or it has no rule", lookup.Name)
		}
	}
	// A SnapshotStore's other look-up is checked as well.
	stale := authtest.LookupCases()[1].Run(t.Context(), func(records ...auth.Record) auth.Store {
		s := new(emptySnapshots)
		for _, r := range records {
			s.Insert(t.Context(), r)
		}
		return s
	})
	if stale == nil {
		t.Error("TestLookup does not look at LookupSnapshot")
	}
}

type emptySnapshots struct{ auth.MemoryStore }

func (s *emptySnapshots) Snapshots() auth.Store { return s }

func (*emptySnapshots) LookupSnapshot(context.Context, auth.Hash) (auth.Snapshot, error) {
	return auth.Snapshot{}, auth.ErrNotFound
}
