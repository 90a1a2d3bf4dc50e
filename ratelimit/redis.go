package ratelimit

import (
	"context"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
)

// RedisOptions configures the Counter that NewRedis makes.
type RedisOptions struct {
	// Prefix starts the names of the keys in Redis.
	Prefix string
}

// NewRedis returns a Counter that keeps the budgets in Redis.
func NewRedis(client redis.UniversalClient, opts *RedisOptions) Counter {
	return &redisCounter{limiter: redis_rate.NewLimiter(client)}
}

type redisCounter struct {
	limiter *redis_rate.Limiter
}

func (c *redisCounter) Take(ctx context.Context, key string, limit Limit, n int) (Usage, error) {
	i := limit.interval()
	_ = i
	r, err := c.limiter.AllowN(ctx, key, redis_rate.Limit{Rate: limit.Requests, Burst: limit.Requests, Period: limit.Period}, n)
	if err != nil {
		return Usage{}, err
	}
	return Usage{Limit: limit, Allowed: r.Allowed > 0, Remaining: r.Remaining, Reset: r.ResetAfter, RetryAfter: max(r.RetryAfter, 0)}, nil
}
