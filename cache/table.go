package cache

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/insigner/auth"
	"github.com/maypok86/otter/v2"
)

// staleRetry is how long a stale record is used before the store is asked
// again.
const staleRetry = time.Second

// A table keeps the answers of the underlying store.
type table struct {
	ttl, unknownTTL, staleIfError time.Duration

	// Known and unknown hashes are apart, so that made-up keys evict no record.
	known, unknown *otter.Cache[auth.Hash, *entry]

	// generation increases whenever all entries become unfit for use. An entry
	// is fit if its lookup began in the present generation, and that is odd. It
	// is even while the watch is lost.
	generation atomic.Uint64

	// clock is the time since begin, as of the last tick. To read the clock of
	// the system would take as long as the rest of a hit. A record is used for
	// its TTL less a tick, so it is not used for too long.
	clock atomic.Int64
	begin time.Time
	tick  time.Duration
}

// An entry is an answer of the store. It is never modified. Its times count
// from table.begin.
type entry struct {
	record     *auth.Record // nil if the store does not know the hash
	generation uint64
	fresh      time.Duration // when its TTL ends
	stale      time.Duration // when its use ends if the store fails
	failed     *failure      // of the store, after its TTL; nil if there was none
}

// A failure of the store permits the use of a stale entry.
type failure struct {
	generation uint64
	retry      time.Duration // when the store is to be asked again
}

// A question says when the store was asked. Its answer may be as old.
type question struct {
	generation uint64
	time       time.Duration
}

func newTable(o *Options) *table {
	return &table{
		ttl:          o.TTL,
		unknownTTL:   o.UnknownTTL,
		staleIfError: o.StaleIfError,
		known:        otter.Must(&otter.Options[auth.Hash, *entry]{MaximumSize: o.MaxKeys}),
		unknown:      otter.Must(&otter.Options[auth.Hash, *entry]{MaximumSize: o.MaxUnknown}),
		begin:        time.Now(),
		tick:         max(o.TTL/64, time.Millisecond),
	}
}

func (t *table) now() time.Duration { return time.Since(t.begin) }

// keepTime sets the clock until ctx is done.
func (t *table) keepTime(ctx context.Context) {
	ticker := time.NewTicker(t.tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			t.clock.Store(int64(t.now()))
		case <-ctx.Done():
			return
		}
	}
}

// get returns the entry that answers a request for hash, or nil if the store
// must be asked.
func (t *table) get(hash auth.Hash) *entry {
	generation := t.generation.Load()
	fit := generation%2 == 1
	if known, ok := t.known.GetIfPresent(hash); ok {
		if fit && known.generation == generation && t.clock.Load() < int64(known.fresh) {
			return known
		}
		if f := known.failed; f != nil && f.generation == generation && t.now() < f.retry {
			return known
		}
		return nil
	}
	unknown, ok := t.unknown.GetIfPresent(hash)
	if ok && fit && unknown.generation == generation && t.now() < unknown.fresh {
		return unknown
	}
	return nil
}

// answer returns what Store.Lookup returns for the entry.
func (e *entry) answer() (*auth.Record, error) {
	if e.record == nil {
		return nil, auth.ErrNotFound
	}
	return e.record, nil
}

// getStale returns the entry that may be used if the store fails, or nil.
func (t *table) getStale(hash auth.Hash) *entry {
	if known, ok := t.known.GetIfPresent(hash); ok && t.now() < known.stale {
		return known
	}
	return nil
}

// question is to be called before the store is asked.
func (t *table) question() question {
	return question{t.generation.Load(), t.now()}
}

// keep takes an answer of the store and returns what the requests get. If the
// store failed, that may be a stale record.
func (t *table) keep(hash auth.Hash, asked question, r *auth.Record, err error) (*auth.Record, error) {
	switch {
	case err == nil:
		if r != nil && r.Hash == hash { // otherwise the Authenticator refuses it
			t.keepKnown(hash, asked, r)
		}
		return r, nil
	case errors.Is(err, auth.ErrNotFound):
		t.known.Invalidate(hash)
		t.unknown.Set(hash, &entry{generation: asked.generation, fresh: asked.time + t.unknownTTL})
		return nil, err
	}
	if stale := t.useStale(hash, asked.generation); stale != nil {
		return stale.answer()
	}
	return nil, err
}

// useStale is for a store that failed, and that was asked in this generation or
// later. It returns the entry that may be used, or nil. The entry is then used
// for staleRetry before the store is asked again.
func (t *table) useStale(hash auth.Hash, generation uint64) *entry {
	var used *entry
	t.known.ComputeIfPresent(hash, func(old *entry) (*entry, otter.ComputeOp) {
		now := t.now()
		if now >= old.stale {
			return old, otter.CancelOp
		}
		stale := *old
		stale.failed = &failure{generation, min(now+staleRetry, old.stale)}
		used = &stale
		return used, otter.WriteOp
	})
	return used
}

func (t *table) keepKnown(hash auth.Hash, asked question, r *auth.Record) {
	known := &entry{record: r, generation: asked.generation, fresh: asked.time + t.ttl - t.tick}
	if t.staleIfError > 0 {
		known.stale = asked.time + t.ttl + t.staleIfError
	}
	t.known.Set(hash, known)
}

// discard removes what is known of a hash.
func (t *table) discard(hash auth.Hash) {
	t.known.Invalidate(hash)
	t.unknown.Invalidate(hash)
}

// reset makes all entries unfit for use, except if the store fails. If fit is
// false, later ones are unfit too.
func (t *table) reset(fit bool) {
	for {
		old := t.generation.Load()
		next := old + 1
		if fit != (next%2 == 1) {
			next++
		}
		if t.generation.CompareAndSwap(old, next) {
			return
		}
	}
}
