package ratelimit

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"

	"github.com/insigner/auth"
)

// RedisOptions configures the [Counter] that [NewRedis] makes.
type RedisOptions struct {
	// Prefix keeps the budgets of one API apart from those of others on the
	// same Redis. Instances that share budgets have the same. The keys in Redis
	// are "rate:", the Prefix, ":" and a name.
	//
	// If empty, it is "ratelimit:" and the Realm of the auth.Authenticator that
	// the request has passed, or a digest of a Realm that is long or has spaces
	// or other unusual characters. A program that shows a Usage, but has not
	// limited a request yet, does not know that. If it is only for pages, set
	// Prefix.
	//
	// If requests pass two Limiters, each needs a Prefix of its own, such as
	// "minute" and "day". With the same one, both count in the same budgets, and
	// refuse requests that are within their limits.
	Prefix string
}

// NewRedis returns a [Counter] that keeps the budgets in Redis, for many
// instances. It does not connect yet, and never closes the client. If opts is
// nil, the zero RedisOptions are used; otherwise opts is copied.
//
// Redis may be a single server, a cluster or watched by Sentinel: what
// redis.NewUniversalClient returns. One decision is one script with one key, by
// the clock of Redis. It sets the expiry too. Decisions at the same time share
// round trips, in pipelines of the client.
//
// The client's own options need no change. For calls that were given up, its
// ReadTimeout counts. ContextTimeoutEnabled ends them sooner.
func NewRedis(client redis.UniversalClient, opts *RedisOptions) Counter {
	if v := reflect.ValueOf(client); client == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		panic("ratelimit.NewRedis: the client is nil")
	}
	c := &redisCounter{client: client, limiter: redis_rate.NewLimiter(&batcher{UniversalClient: client})}
	if opts != nil {
		c.prefix = opts.Prefix
	}
	return c
}

type redisCounter struct {
	client  redis.UniversalClient
	limiter *redis_rate.Limiter
	prefix  string
	realm   atomic.Pointer[string] // as a prefix, of the last request
}

// Take implements [Counter].
func (c *redisCounter) Take(ctx context.Context, key string, limit Limit, n int) (Usage, error) {
	limit, ok := limit.complete()
	switch {
	case !ok:
		return Usage{}, fmt.Errorf("auth/ratelimit: %v", limit)
	case n < 0:
		return Usage{}, fmt.Errorf("auth/ratelimit: cannot take %d requests", n)
	case limit.Requests == Unlimited:
		return Usage{Limit: limit, Allowed: true, Remaining: Unlimited}, nil
	}
	prefix, err := c.prefixFor(ctx)
	if err != nil {
		return Usage{}, err
	}
	name := prefix + ":" + nameOf(key)
	ask := n
	if n > limit.Requests {
		ask = 0
	}
	u, err := c.decide(ctx, name, limit, ask)
	if err != nil {
		return Usage{}, &redisError{c.redact(err.Error()), err}
	}
	if ask != n {
		u.Allowed, u.RetryAfter = false, u.Reset
	}
	return u, nil
}

// decide makes a decision. If what is stored is not of this limit, it is mended
// first.
func (c *redisCounter) decide(ctx context.Context, name string, limit Limit, n int) (Usage, error) {
	i := limit.interval()
	full := i.duration() * time.Duration(limit.Requests)
	for attempt := 1; ; attempt++ {
		r, err := c.allow(ctx, name, i, limit.Requests, n)
		strange := err == nil && (r.ResetAfter < 0 || r.ResetAfter > full+time.Millisecond)
		if strange {
			err = errors.New("the key in Redis holds no budget")
		}
		if err == nil {
			return usageOf(r, limit, i, full, n), nil
		}
		if attempt > 1 || !strange && !isForeign(err) {
			return Usage{}, err
		}
		if err := mend.Run(ctx, c.client, []string{redisRatePrefix + name}, i.parts, uint64(1)<<i.shift, limit.Requests).
			Err(); err != nil {
			return Usage{}, err
		}
	}
}

// allow asks redis_rate. An answer that it does not expect makes it panic.
func (c *redisCounter) allow(ctx context.Context, name string, i interval, requests, n int) (r *redis_rate.Result, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("an unexpected answer: %v", v)
		}
	}()
	return c.limiter.AllowN(ctx, name, redis_rate.Limit{
		Rate:   1 << i.shift,
		Period: time.Duration(i.parts) * time.Second,
		Burst:  requests,
	}, n)
}

func usageOf(r *redis_rate.Result, limit Limit, i interval, full time.Duration, n int) Usage {
	u := Usage{
		Limit:     limit,
		Allowed:   r.Allowed > 0,
		Remaining: min(max(r.Remaining, 0), limit.Requests),
		Reset:     r.ResetAfter,
	}
	if n == 0 {
		u.Allowed = u.Remaining > 0
	}
	if !u.Allowed {
		// The numbers have 14 digits, so they may be a little too small.
		u.RetryAfter = max(u.Reset+time.Duration(max(n, 1))*i.duration()-full, 0) + time.Microsecond
		if n > 1 {
			u.Remaining = int(max(full-u.Reset, 0) / i.duration())
		}
	}
	return u
}

// redisRatePrefix is what redis_rate puts before each key.
const redisRatePrefix = "rate:"

// isForeign reports whether the key in Redis is of another type, or no number.
func isForeign(err error) bool {
	if _, ok := errors.AsType[*strconv.NumError](err); ok {
		return true
	}
	_, ok := errors.AsType[redis.Error](err)
	return ok && (strings.Contains(err.Error(), "WRONGTYPE") || strings.Contains(err.Error(), "number expected"))
}

// mend deletes a key that holds no number. A budget that would be full later
// than an empty one under this limit becomes an empty one: the limit had a
// longer Period, or the clock of Redis was set back, or somebody else wrote it.
// Times are seconds since the beginning of 2017, as redis_rate has them.
var mend = redis.NewScript(`
local kind = redis.call('TYPE', KEYS[1])['ok']
local at = kind == 'string' and tonumber(redis.call('GET', KEYS[1]))
if not at or at ~= at then
  return redis.call('DEL', KEYS[1])
end
local full = ARGV[1] / ARGV[2] * ARGV[3]
local now = redis.call('TIME')
local last = (now[1] - 1483228800) + (now[2] / 1000000) + full
if at > last then
  redis.call('SET', KEYS[1], string.format('%.17g', last), 'EX', math.ceil(full))
end
return 1
`)

// prefixFor returns what the names of keys start with.
func (c *redisCounter) prefixFor(ctx context.Context) (string, error) {
	if c.prefix != "" {
		return c.prefix, nil
	}
	if _, passed := ctx.Value((*auth.Record)(nil)).(*auth.Record); passed {
		prefix := "ratelimit:" + nameOf(askAuthenticator(new(http.Request).WithContext(ctx)).realm)
		if last := c.realm.Load(); last == nil || *last != prefix {
			c.realm.Store(&prefix)
		}
		return prefix, nil
	}
	if last := c.realm.Load(); last != nil {
		return *last, nil
	}
	return "", errPrefix
}

var errPrefix = errors.New("the realm is not known yet: set RedisOptions.Prefix")

// ready returns an error if the Counter does not know where it counts.
func (c *redisCounter) ready(ctx context.Context) error {
	_, err := c.prefixFor(ctx)
	return err
}

// nameOf returns text itself if it is short and of plain characters, and
// otherwise a digest of it. So no text is taken for another, or for a hash tag
// of a cluster, and none is long.
func nameOf(text string) string {
	const longest = 64
	plain := text != "" && len(text) <= longest
	for i := 0; plain && i < len(text); i++ {
		c := text[i]
		plain = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-' || c == '@'
	}
	if plain {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	return "h:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// A redisError has the text of an error without the password.
type redisError struct {
	text string
	err  error
}

func (e *redisError) Error() string { return e.text }
func (e *redisError) Unwrap() error { return e.err }

func (c *redisCounter) redact(text string) string {
	var password string
	switch client := c.client.(type) {
	case *redis.Client:
		password = client.Options().Password
	case *redis.ClusterClient:
		password = client.Options().Password
	case *redis.Ring:
		password = client.Options().Password
	}
	if password != "" {
		text = strings.ReplaceAll(text, password, "[password]")
	}
	return text
}
