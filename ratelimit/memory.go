package ratelimit

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/throttled/throttled/v2"
)

// maxQuotas is how many limits are kept ready to use.
const maxQuotas = 512

// A memory counts in this process.
type memory struct {
	clock     clock
	budgets   *table[budget]
	decisions [shards]decision // one for each shard of budgets

	quotas [maxQuotas]atomic.Pointer[quota] // at the place of their limit
}

// A budget is full at that time: the "theoretical arrival time" of GCRA.
type budget time.Duration

func (b budget) end() time.Duration { return time.Duration(b) }

// A quota is a complete Limit, ready to use.
type quota struct {
	limit Limit
	full  time.Duration // after which an empty budget is full
	gcra  *throttled.GCRARateLimiterCtx
}

func newMemory() *memory {
	return &memory{clock: newClock(), budgets: newTable[budget]()}
}

// quota returns the quota of a complete Limit.
func (m *memory) quota(l Limit) *quota {
	place := &m.quotas[(uint64(l.Requests)*0x9e3779b97f4a7c15^uint64(l.Period)*0xc2b2ae3d27d4eb4f)>>32%maxQuotas]
	q := place.Load()
	if q == nil || q.limit != l {
		q = newQuota(l)
		place.Store(q)
	}
	return q
}

func newQuota(l Limit) *quota {
	interval := l.interval().duration()
	gcra, err := throttled.NewGCRARateLimiterCtx(decisions{}, throttled.RateQuota{
		MaxRate:  throttled.PerDuration(1, interval),
		MaxBurst: l.Requests - 1,
	})
	if err != nil {
		panic("auth/ratelimit: " + err.Error()) // the limit is complete
	}
	return &quota{limit: l, full: interval * time.Duration(l.Requests), gcra: gcra}
}

// take takes n requests, 0 or 1, as Counter has it. It never fails.
func (m *memory) take(i id, limit Limit, n int) Usage {
	u, now := m.decide(m.quota(limit), i, n)
	m.budgets.sweep(now)
	return u
}

// learn notes what a Counter said of a budget: it is full after that time. So
// the first requests that are counted here continue from there. What was taken
// here before, and the Counter does not know of, stays taken.
func (m *memory) learn(i id, limit Limit, reset time.Duration) {
	if reset <= 0 {
		return
	}
	reset = min(reset, m.quota(limit).full)
	shard := m.budgets.lock(i)
	now := m.clock.now()
	if full := budget(now + reset); full > shard.values[i] {
		shard.put(i, full)
	}
	shard.mu.Unlock()
	m.budgets.sweep(now)
}

func (m *memory) decide(q *quota, i id, n int) (Usage, time.Duration) {
	shard := m.budgets.lock(i)
	defer shard.mu.Unlock()
	now := m.clock.now() // under the lock, so that it never goes back for a budget
	d := &m.decisions[i.shard()]
	d.shard, d.id, d.now, d.full, d.look = shard, i, now, q.full, n == 0
	limited, result, err := q.gcra.RateLimitCtx(d, "", n)
	if err != nil {
		panic("auth/ratelimit: " + err.Error()) // a decision returns none
	}
	u := Usage{Limit: q.limit, Allowed: !limited, Remaining: result.Remaining, Reset: max(result.ResetAfter, 0)}
	if limited || d.look && result.RetryAfter >= 0 {
		u.Allowed, u.RetryAfter = false, result.RetryAfter
	}
	return u, now
}

// A decision is one call of throttled, which passes its context on to the
// store. The shard is locked for all of the call. So nothing changes between
// throttled's reads and writes, and none has to be tried again.
type decision struct {
	context.Context // nil: throttled does not use it

	shard *shard[budget]
	id    id
	now   time.Duration
	full  time.Duration
	look  bool // change nothing
}

// Decisions is a throttled.GCRAStoreCtx for contexts that are decisions. Its
// times are those of a clock.
type decisions struct{}

// GetWithTime returns when the budget is full. If that is later than an empty
// one would be, requests were taken under a limit with a longer Period. Then the
// budget becomes an empty one.
func (decisions) GetWithTime(ctx context.Context, _ string) (int64, time.Time, error) {
	d := ctx.(*decision)
	now := time.Unix(0, int64(d.now))
	full, known := d.shard.values[d.id]
	if !known {
		return -1, now, nil
	}
	if empty := budget(d.now + d.full); full > empty {
		full = empty
		d.shard.put(d.id, full)
	}
	return int64(full), now, nil
}

func (decisions) SetIfNotExistsWithTTL(ctx context.Context, _ string, full int64, _ time.Duration) (bool, error) {
	if d := ctx.(*decision); !d.look {
		d.shard.put(d.id, budget(full))
	}
	return true, nil
}

func (s decisions) CompareAndSwapWithTTL(ctx context.Context, key string, _, full int64, ttl time.Duration) (bool, error) {
	return s.SetIfNotExistsWithTTL(ctx, key, full, ttl)
}
