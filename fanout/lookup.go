package fanout

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/insigner/auth"
)

// Lookup implements auth.Store. While the watch is lost, a cache asks for every
// request. If that happens to all instances at once, it is more than a database
// can answer. So a record is then used for up to LostAfter after it was read, as
// a cache with a watch may do.
func (w *watcher) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	if r := w.recent.get(hash, time.Now()); r != nil {
		return r, nil
	}
	select {
	case w.lookups <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("fanout: %d lookups are in progress: %w", cap(w.lookups), ctx.Err())
	}
	defer func() { <-w.lookups }()
	asked, spell := time.Now(), w.recent.current()
	r, err := w.store.Lookup(ctx, hash)
	if err == nil && r != nil && r.Hash == hash {
		w.recent.put(hash, r, asked, spell)
	}
	return r, err
}

// maxRecent is how many records are kept while the watch is lost.
const maxRecent = 10_000

// A recent keeps records while each call of Watch has lost its watch. It keeps
// none while there is a call that has not, and while there is no call.
type recent struct {
	limit time.Duration

	mu      sync.Mutex
	calls   int // of Watch
	watched int // of those
	spell   int // grows whenever it begins or ends to keep records, or forgets one
	records map[auth.Hash]recentRecord
	swept   time.Time
}

type recentRecord struct {
	record *auth.Record
	until  time.Time
}

// count counts calls of Watch. What was kept is forgotten before a watch starts.
// So no cache keeps a record that was read before.
func (c *recent) count(calls, watched int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.keeps()
	c.calls += calls
	c.watched += watched
	if c.keeps() != before {
		c.spell++
		c.records = nil
	}
}

func (c *recent) keeps() bool { return c.calls > 0 && c.watched == 0 }

func (c *recent) current() (spell int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spell
}

// get returns the record of that hash, or nil.
func (c *recent) get(hash auth.Hash, now time.Time) *auth.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.records[hash]; ok && now.Before(r.until) {
		return r.record
	}
	return nil
}

// forget removes a record that was changed. Lookups that are in progress may
// still return it, so what they return is not kept.
func (c *recent) forget(hash auth.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spell++
	delete(c.records, hash)
}

// put keeps a record that was asked for at that time in that spell.
func (c *recent) put(hash auth.Hash, r *auth.Record, asked time.Time, spell int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.keeps() || spell != c.spell {
		return
	}
	if c.records == nil {
		c.records = make(map[auth.Hash]recentRecord)
	}
	if len(c.records) >= maxRecent {
		c.sweep()
	}
	if len(c.records) < maxRecent {
		// Jitter, so that instances that lost their watch together do not ask
		// together again.
		c.records[hash] = recentRecord{r, asked.Add(c.limit/2 + rand.N(c.limit/2))}
	}
}

// sweep removes what is not used any more, but not more often than it is worth.
func (c *recent) sweep() {
	now := time.Now()
	if now.Sub(c.swept) < c.limit/10 {
		return
	}
	c.swept = now
	for hash, r := range c.records {
		if !now.Before(r.until) {
			delete(c.records, hash)
		}
	}
}
