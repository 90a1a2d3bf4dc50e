package apilog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// A MemoryStore keeps the newest entries in memory, for tests and
// demonstrations. [NewMemoryStore] makes one. The zero value cannot be used.
type MemoryStore struct {
	mu      sync.RWMutex
	max     int
	entries []Entry              // oldest first
	times   map[string]time.Time // of entries, by ID
}

// NewMemoryStore returns a Store of the newest n entries. It panics if n is not
// positive.
func NewMemoryStore(n int) *MemoryStore {
	if n <= 0 {
		panic(fmt.Sprintf("apilog.NewMemoryStore(%d): not positive", n))
	}
	return &MemoryStore{max: n, times: make(map[string]time.Time)}
}

// order compares entries: the oldest first.
func order(a, b Entry) int {
	return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.ID, b.ID))
}

// Append implements [Store].
func (s *MemoryStore) Append(ctx context.Context, entries []Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.insert(s.unknown(entries))
	if n := len(s.entries) - s.max; n > 0 {
		for i := range s.entries[:n] {
			delete(s.times, s.entries[i].ID)
		}
		clear(s.entries[:n])
		s.entries = s.entries[n:]
	}
	return nil
}

// unknown returns the entries that are not stored yet, oldest first.
func (s *MemoryStore) unknown(entries []Entry) []Entry {
	list := make([]Entry, 0, len(entries))
	for _, e := range entries {
		if _, ok := s.times[e.ID]; !ok {
			s.times[e.ID] = e.Time
			list = append(list, e)
		}
	}
	slices.SortFunc(list, order)
	return list
}

// insert merges a sorted list into the entries. It begins at the end, where
// nearly all of them belong.
func (s *MemoryStore) insert(list []Entry) {
	old := len(s.entries)
	s.entries = append(s.entries, list...)
	for i := len(s.entries) - 1; len(list) > 0; i-- {
		last := len(list) - 1
		if old > 0 && order(s.entries[old-1], list[last]) > 0 {
			s.entries[i] = s.entries[old-1]
			old--
		} else {
			s.entries[i] = list[last]
			list = list[:last]
		}
	}
}

// List implements [Store].
func (s *MemoryStore) List(ctx context.Context, q Query) ([]Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if q.Limit <= 0 {
		q.Limit = DefaultLimit
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	end := len(s.entries)
	if q.After != "" {
		i, err := s.position(q.After, q.Owner)
		if err != nil {
			return nil, err
		}
		end = i
	}
	var list []Entry
	for i := end - 1; i >= 0 && len(list) < q.Limit; i-- {
		if e := &s.entries[i]; q.Matches(e) {
			list = append(list, *e)
		}
	}
	return list, nil
}

// position returns how many entries are older than the one with that ID.
func (s *MemoryStore) position(id, owner string) (int, error) {
	at, own := TimeOf(id)
	stored, found := s.times[id]
	if found {
		at = stored
	}
	i, _ := slices.BinarySearchFunc(s.entries, Entry{ID: id, Time: at}, order)
	if !own && (!found || owner != "" && s.entries[i].Owner != owner) {
		return 0, fmt.Errorf("%w: After is not the ID of an entry", ErrInvalidQuery)
	}
	return i, nil
}

// Histogram implements [Store].
func (s *MemoryStore) Histogram(ctx context.Context, q Query, step time.Duration) ([]Bucket, error) {
	buckets, err := Buckets(q, step)
	if err := cmp.Or(err, ctx.Err()); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := range s.entries {
		if e := &s.entries[i]; q.Matches(e) {
			buckets[(e.Time.UnixMicro()-q.From.UnixMicro())/step.Microseconds()].Add(e)
		}
	}
	return buckets, nil
}

// DeleteBefore implements [Store].
func (s *MemoryStore) DeleteBefore(ctx context.Context, t time.Time) (int64, error) {
	return s.delete(ctx, func(e Entry) bool { return e.Time.UnixMicro() < t.UnixMicro() })
}

// DeleteOwner implements [Store].
func (s *MemoryStore) DeleteOwner(ctx context.Context, owner string) (int64, error) {
	if owner == "" {
		return 0, errors.New("apilog: delete the entries of an owner: the owner is empty")
	}
	return s.delete(ctx, func(e Entry) bool { return e.Owner == owner })
}

func (s *MemoryStore) delete(ctx context.Context, which func(Entry) bool) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.entries)
	s.entries = slices.DeleteFunc(s.entries, func(e Entry) bool {
		if which(e) {
			delete(s.times, e.ID)
			return true
		}
		return false
	})
	return int64(before - len(s.entries)), nil
}
