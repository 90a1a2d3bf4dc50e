package cache_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/cache"
)

func TestLookup(t *testing.T) {
	authtest.TestLookup(t, func(t *testing.T, records ...auth.Record) auth.Store {
		m := new(auth.MemoryStore)
		for _, r := range records {
			if err := m.Insert(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		s := cache.New(m, nil)
		t.Cleanup(func() { s.Close() })
		return s
	})
}

// paused is a store whose next look-up waits between the reading and the return.
type paused struct {
	*auth.MemoryStore
	read, resume chan struct{}
}

func (p *paused) LookupSnapshot(ctx context.Context, hash auth.Hash) (auth.Snapshot, error) {
	s, err := p.MemoryStore.LookupSnapshot(ctx, hash)
	select {
	case p.read <- struct{}{}:
		<-p.resume
	default:
	}
	return s, err
}

func TestRevocationOvertakesLookup(t *testing.T) {
	p := &paused{new(auth.MemoryStore), make(chan struct{}), make(chan struct{})}
	r := auth.Record{ID: "a", Hash: auth.Hash{1}, Name: "n", CreatedAt: time.Now()}
	if err := p.Insert(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	s := cache.New(p, nil)
	defer s.Close()
	answer := make(chan auth.Record)
	go func() {
		got, _ := s.Lookup(context.Background(), r.Hash)
		answer <- got
	}()
	<-p.read
	if err := p.Revoke(t.Context(), "a", time.Now()); err != nil {
		t.Fatal(err)
	}
	close(p.resume)
	<-answer
	for range 3 {
		got, err := s.Lookup(t.Context(), r.Hash)
		if err != nil || !errors.Is(got.Check(time.Now()), auth.ErrKeyRevoked) {
			t.Fatalf("after a revocation: %v, %v", got.Check(time.Now()), err)
		}
	}
}
