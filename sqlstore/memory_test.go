package sqlstore_test

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/sqlstore"
)

// Whatever is asked of it, in whatever order, a Store answers as a MemoryStore does.
func TestLikeMemoryStore(t *testing.T) {
	eachKind(t, func(t *testing.T, s *sqlstore.Store, _ *sql.DB) {
		ctx := t.Context()
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 0))
		epoch := time.Date(2026, 1, 1, 0, 0, 0, 123456000, time.UTC)
		at := func() time.Time { return epoch.Add(time.Duration(random.IntN(20)) * time.Microsecond) }
		optional := func() (t time.Time) {
			if random.IntN(2) == 0 {
				t = at()
			}
			return t
		}
		id := func() string { return fmt.Sprintf("key_%d", random.IntN(60)) }
		hash := func() auth.Hash { return auth.Hash{31: byte(random.IntN(60))} }
		owner := func() string { return []string{"", "a", "b"}[random.IntN(3)] }
		made := func() auth.Record {
			return auth.Record{ID: id(), Hash: hash(), Owner: owner(), CreatedAt: at(), ExpiresAt: optional()}
		}
		memory := new(auth.MemoryStore)
		sentinels := []error{auth.ErrNotFound, auth.ErrExists, auth.ErrKeyRevoked, auth.ErrSuperseded}
		counts := make(map[string]int)
		for i := range 1500 {
			var what string
			ask := func(auth.KeyStore) (any, error) { return nil, nil }
			switch random.IntN(7) {
			case 0:
				r := made()
				what, ask = "Insert", func(s auth.KeyStore) (any, error) { return nil, s.Insert(ctx, r) }
			case 1:
				id := id()
				what, ask = "Get", func(s auth.KeyStore) (any, error) { return s.Get(ctx, id) }
			case 2:
				hash := hash()
				what, ask = "Lookup", func(s auth.KeyStore) (any, error) { return s.Lookup(ctx, hash) }
			case 3:
				owner, after, limit := owner(), auth.Position{CreatedAt: at(), ID: id()}, random.IntN(12)
				if random.IntN(3) == 0 {
					after = auth.Position{}
				}
				what, ask = "List", func(s auth.KeyStore) (any, error) {
					page, err := s.List(ctx, owner, after, limit)
					return append([]auth.Record{}, page...), err
				}
			case 4:
				id, at := id(), at()
				if random.IntN(3) > 0 {
					continue // or soon all are revoked
				}
				what, ask = "Revoke", func(s auth.KeyStore) (any, error) { return nil, s.Revoke(ctx, id, at) }
			case 5:
				r, expires := made(), at()
				r.Replaces = id()
				what, ask = "Replace", func(s auth.KeyStore) (any, error) { return nil, s.Replace(ctx, r, expires) }
			case 6:
				used := map[string]time.Time{id(): at(), id(): at(), "none": at()}
				what, ask = "Touch", func(s auth.KeyStore) (any, error) { return nil, s.Touch(ctx, used) }
			}
			want, wantErr := ask(memory)
			got, err := ask(s)
			for _, sentinel := range sentinels {
				if errors.Is(wantErr, sentinel) {
					counts[what+": "+sentinel.Error()]++
				}
				if errors.Is(err, sentinel) != errors.Is(wantErr, sentinel) {
					t.Fatalf("seed %d, step %d: %s: %v, want %v", seed, i, what, err, wantErr)
				}
			}
			if (err == nil) != (wantErr == nil) || !reflect.DeepEqual(got, want) {
				t.Fatalf("seed %d, step %d: %s:\n got %v, %v\nwant %v, %v", seed, i, what, got, err, want, wantErr)
			}
		}
		want, _ := memory.List(ctx, "", auth.Position{}, 1000)
		got, err := s.List(ctx, "", auth.Position{}, 1000)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("seed %d: afterwards:\n got %v, %v\nwant %v", seed, got, err, want)
		}
		for _, what := range []string{"Insert: " + auth.ErrExists.Error(), "Replace: " + auth.ErrExists.Error(),
			"Replace: " + auth.ErrKeyRevoked.Error(), "Replace: " + auth.ErrSuperseded.Error(), "Replace: " + auth.ErrNotFound.Error()} {
			if counts[what] == 0 {
				t.Errorf("seed %d: never met %q", seed, what)
			}
		}
	})
}
