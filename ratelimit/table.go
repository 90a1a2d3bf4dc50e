package ratelimit

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

const (
	shards     = 1024 // so that one of them is swept quickly
	sweepEvery = 15 * time.Second
	sweepSize  = 4096 // values that one request looks at, and the rest of a shard
)

// A clock tells the time since it was made, plus 1. It is monotonic: steps of
// the clock of the machine do not change it.
type clock struct{ start time.Time }

func newClock() clock { return clock{time.Now()} }

func (c clock) now() time.Duration { return time.Since(c.start) + 1 }

// An id stands for a key: a hash with a seed of this process. So the garbage
// collector does not look at each of a million keys, and a long key costs no
// more memory than a short one. Two keys with one id would share a budget. Among
// a million keys, that has a probability of 1 in 37 million.
type id uint64

var seed = maphash.MakeSeed()

func idOf(key string) id { return id(maphash.String(seed, key)) }

// shard returns which shard it is in.
func (i id) shard() int { return int(i % shards) }

// A table keeps a value for each key until the value ends. It has no goroutine.
// Requests remove what has ended, a shard at a time, so the memory follows the
// number of keys in use.
type table[V ending] struct {
	shards [shards]shard[V]

	sweepAt atomic.Int64 // when the next sweep begins
	cursor  atomic.Int64 // the next shard of this one; shards if it is over
}

// An ending value counts as absent from end on.
type ending interface{ end() time.Duration }

type shard[V ending] struct {
	mu     sync.Mutex
	values map[id]V
	latest time.Duration // no value ends later
}

func newTable[V ending]() *table[V] {
	t := new(table[V])
	t.sweepAt.Store(int64(sweepEvery))
	t.cursor.Store(shards)
	return t
}

// lock returns the shard of an id, locked.
func (t *table[V]) lock(i id) *shard[V] {
	s := &t.shards[i.shard()]
	s.mu.Lock()
	return s
}

func (s *shard[V]) put(i id, v V) {
	if s.values == nil {
		s.values = make(map[id]V)
	}
	s.values[i] = v
	s.latest = max(s.latest, v.end())
}

// sweep continues the sweep that is due, if any, until it has looked at
// sweepSize values. A shard in which all have ended costs nothing.
func (t *table[V]) sweep(now time.Duration) {
	if t.cursor.Load() >= shards {
		at := t.sweepAt.Load()
		if int64(now) < at || !t.sweepAt.CompareAndSwap(at, int64(now+sweepEvery)) {
			return
		}
		t.cursor.Store(0)
	}
	for looked := 0; looked < sweepSize; {
		n := t.cursor.Add(1) - 1
		if n >= shards {
			return
		}
		looked += t.shards[n].sweep(now)
	}
}

// sweep returns how many values it has looked at.
func (s *shard[V]) sweep(now time.Duration) int {
	if !s.mu.TryLock() {
		return 0 // it will be swept the next time
	}
	defer s.mu.Unlock()
	if s.latest <= now {
		s.values = nil
		return 0
	}
	before := len(s.values)
	live := 0
	for _, v := range s.values {
		if v.end() > now {
			live++
		}
	}
	if live > len(s.values)/2 {
		for i, v := range s.values {
			if v.end() <= now {
				delete(s.values, i)
			}
		}
		return before
	}
	values := make(map[id]V, live) // a map does not shrink
	for i, v := range s.values {
		if v.end() > now {
			values[i] = v
		}
	}
	s.values = values
	return before
}
