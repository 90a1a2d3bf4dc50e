package ratelimit_test

import (
	"context"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/insigner/auth"
	"github.com/insigner/auth/internal/redistest"
	"github.com/insigner/auth/ratelimit"
)

const prefix = "ratelimit:test"

// newRedis returns a server, a client and a Counter.
func newRedis(t testing.TB, args ...string) (*redistest.Server, *redis.Client, ratelimit.Counter) {
	t.Helper()
	s := redistest.Start(t, args...)
	client := redis.NewClient(&redis.Options{Addr: s.Addr()})
	t.Cleanup(func() { client.Close() })
	return s, client, ratelimit.NewRedis(client, &ratelimit.RedisOptions{Prefix: prefix})
}

func take(t testing.TB, c ratelimit.Counter, key string, limit ratelimit.Limit, n int) ratelimit.Usage {
	t.Helper()
	u, err := c.Take(context.Background(), key, limit, n)
	if err != nil {
		t.Fatalf("Take(%q, %v, %d): %v", key, limit, n, err)
	}
	return u
}

func do(t testing.TB, s *redistest.Server, args ...string) string {
	t.Helper()
	out, err := s.Do(args...)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out
}

// TestRedisCounts: a full budget at once, one less with each request, and
// nothing taken by a refusal or a look.
func TestRedisCounts(t *testing.T) {
	_, _, counter := newRedis(t)
	// Times that are no binary fractions of a second must not lose a request.
	for _, limit := range []ratelimit.Limit{
		{Requests: 120, Period: time.Hour},
		{Requests: 100, Period: time.Hour},
		{Requests: 7, Period: time.Hour},
		{Requests: 1, Period: time.Hour},
		{Requests: 1000, Period: 7 * day},
		{Requests: 3, Period: 366 * day},
	} {
		key := limit.String()
		for i := range limit.Requests {
			want := limit.Requests - i
			if u := take(t, counter, key, limit, 0); u.Remaining != want || !u.Allowed {
				t.Fatalf("%v: before request %d: %+v, want %d remaining", limit, i, u, want)
			}
			u := take(t, counter, key, limit, 1)
			if !u.Allowed {
				t.Fatalf("%v: request %d is refused: %+v", limit, i, u)
			}
			if u.Remaining != want-1 {
				t.Fatalf("%v: after request %d, %d remain, want %d", limit, i, u.Remaining, want-1)
			}
			if u.RetryAfter != 0 {
				t.Errorf("%v: an accepted request has RetryAfter %v", limit, u.RetryAfter)
			}
		}
		for _, n := range []int{1, 0, 1} {
			u := take(t, counter, key, limit, n)
			if u.Allowed {
				t.Errorf("%v: a request beyond the limit is accepted", limit)
			}
			interval := limit.Period / time.Duration(limit.Requests)
			if u.RetryAfter > interval+time.Millisecond || u.RetryAfter < interval-time.Minute {
				t.Errorf("%v: RetryAfter is %v, want nearly %v", limit, u.RetryAfter, interval)
			}
		}
	}
}

// TestRedisRetryAfter: a client that waits for RetryAfter is accepted.
func TestRedisRetryAfter(t *testing.T) {
	_, _, counter := newRedis(t)
	for _, limit := range []ratelimit.Limit{
		{Requests: 1, Period: 70 * time.Millisecond},
		{Requests: 3, Period: 100 * time.Millisecond},
	} {
		for range 20 {
			for {
				u := take(t, counter, limit.String(), limit, 1)
				if u.Allowed {
					continue
				}
				time.Sleep(u.RetryAfter)
				break
			}
			if u := take(t, counter, limit.String(), limit, 1); !u.Allowed {
				t.Fatalf("%v: refused after RetryAfter, for another %v", limit, u.RetryAfter)
			}
		}
	}
}

// TestRedisTakesMany: a Counter takes all or nothing.
func TestRedisTakesMany(t *testing.T) {
	_, _, counter := newRedis(t)
	limit := ratelimit.Limit{Requests: 10, Period: day}
	for _, c := range []struct {
		n         int
		allowed   bool
		remaining int
		retry     time.Duration // nearly
	}{
		{4, true, 6, 0},
		{7, false, 6, 1 * day / 10},
		{10, false, 6, 4 * day / 10},
		{11, false, 6, 4 * day / 10}, // never; when the budget is full
		{6, true, 0, 0},
	} {
		u := take(t, counter, "k", limit, c.n)
		if u.Allowed != c.allowed || u.Remaining != c.remaining {
			t.Errorf("%d requests: %+v, want %v and %d remaining", c.n, u, c.allowed, c.remaining)
		}
		if u.RetryAfter > c.retry+time.Millisecond || u.RetryAfter < c.retry-time.Minute {
			t.Errorf("%d requests: RetryAfter is %v, want nearly %v", c.n, u.RetryAfter, c.retry)
		}
	}
}

// TestRedisTakesArguments: a host may call a Counter itself.
func TestRedisTakesArguments(t *testing.T) {
	_, _, counter := newRedis(t)
	for _, c := range []struct {
		limit     ratelimit.Limit
		n         int
		remaining int // -1: an error
	}{
		{ratelimit.Limit{}, 1, 119},
		{ratelimit.Limit{Requests: 5}, 1, 4},
		{ratelimit.Limit{Requests: ratelimit.Unlimited}, 1, ratelimit.Unlimited},
		{ratelimit.Limit{Requests: 1e9, Period: 366 * day}, 1e9, 0},
		{ratelimit.Limit{Period: day}, 1, -1},
		{ratelimit.Limit{Requests: -1, Period: day}, 1, -1},
		{ratelimit.Limit{Requests: 1, Period: -day}, 1, -1},
		{ratelimit.Limit{Requests: 10, Period: day}, -1, -1},
	} {
		u, err := counter.Take(t.Context(), fmt.Sprint(c), c.limit, c.n)
		if c.remaining < 0 {
			if err == nil {
				t.Errorf("Take(%v, %d) returns %+v, want an error", c.limit, c.n, u)
			}
			continue
		}
		if err != nil {
			t.Errorf("Take(%v, %d): %v", c.limit, c.n, err)
		}
		if u.Remaining != c.remaining {
			t.Errorf("Take(%v, %d): %d remain, want %d", c.limit, c.n, u.Remaining, c.remaining)
		}
	}
}

// age makes time pass for a budget in Redis: it is full d sooner. A script does
// it, as Redis writes the number.
func age(t testing.TB, client *redis.Client, name string, d time.Duration) {
	t.Helper()
	err := client.Eval(context.Background(), `
		local at = redis.call('GET', KEYS[1])
		if at then redis.call('SET', KEYS[1], string.format('%.17g', at - ARGV[1]), 'KEEPTTL') end
		return 1`, []string{name}, strconv.FormatFloat(d.Seconds(), 'f', -1, 64)).Err()
	if err != nil {
		t.Fatal(err)
	}
}

// TestParity: memory and Redis decide alike, call by call, over random limits,
// pauses and changes of the limit. Time in memory is that of the test; in Redis
// real time passes too, some milliseconds in all. So Reset may be that much
// less there, and what comes back in that time remains there. An interval in
// memory may be a nanosecond longer.
func TestParity(t *testing.T) {
	_, client, counter := newRedis(t)
	r := recordOf("k")
	name := "rate:" + prefix + ":" + r.Chain
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	randomLimit := func() ratelimit.Limit {
		requests := []int{1, 2, 3, 7, 10, 60, 100, 120, 999, 1e6, 1e9}[random.IntN(11)]
		period := []time.Duration{time.Millisecond, time.Second, time.Minute, time.Hour, day, 30 * day}[random.IntN(6)]
		return ratelimit.Limit{Requests: requests, Period: period + time.Duration(random.Int64N(int64(period)))}
	}
	// Outside the bubble of synctest, where real time passes.
	type question struct {
		limit ratelimit.Limit
		n     int
		pause time.Duration
	}
	ask, answers := make(chan question), make(chan ratelimit.Usage)
	go func() {
		defer close(answers)
		for q := range ask {
			if q.pause < 0 {
				client.Del(context.Background(), name)
			} else {
				age(t, client, name, q.pause)
			}
			u, err := counter.Take(context.Background(), r.Chain, q.limit, q.n)
			if err != nil {
				t.Error(err)
			}
			answers <- u
		}
	}()
	decisions, refused, exact := 0, 0, 0
	for range 30 {
		limit := randomLimit()
		synctest.Test(t, func(t *testing.T) {
			l := ratelimit.New(nil, &ratelimit.Options{Limit: func(auth.Record) ratelimit.Limit { return limit }})
			h := l.Middleware(ok)
			began, pause := wallClock(), time.Duration(-1)
			for range 60 {
				if random.IntN(40) == 0 {
					limit = randomLimit()
				}
				interval := intervalOf(limit)
				before, _ := l.Usage(t.Context(), r)
				n := min(random.IntN(6), 1)
				ask <- question{limit, n, pause}
				remote := <-answers
				local := before
				if n == 1 {
					local.Allowed = serve(h, requestOf(t, r)).Code == 200
					after, _ := l.Usage(t.Context(), r)
					local.Remaining, local.Reset = after.Remaining, after.Reset
				}
				decisions++
				if !remote.Allowed {
					refused++
				}
				// Has passed in Redis only, at most; and memory rounds intervals up to
				// nanoseconds.
				drift := wallClock() - began + time.Millisecond + time.Duration(limit.Requests)
				if part := before.Reset % interval; interval <= drift || part > 0 && part <= drift {
					if local.Allowed != remote.Allowed {
						return // a request came back to Redis only
					}
				} else {
					exact++
					if local.Allowed != remote.Allowed {
						t.Fatalf("%v: accepted: %v in memory, %v in Redis", limit, local.Allowed, remote.Allowed)
					}
					if local.Remaining != remote.Remaining {
						t.Fatalf("%v: %d remain in memory, %d in Redis", limit, local.Remaining, remote.Remaining)
					}
				}
				if d := local.Reset - remote.Reset; d < -time.Millisecond || d > drift {
					t.Fatalf("%v: Reset is %v in memory and %v in Redis", limit, local.Reset, remote.Reset)
				}
				if more := remote.Remaining - local.Remaining; more < -limit.Requests/int(interval) || more > int(drift/interval)+1 {
					t.Fatalf("%v: %d remain in memory, %d in Redis", limit, local.Remaining, remote.Remaining)
				}
				pause = 0
				if random.IntN(3) == 0 {
					pause = time.Duration(random.Int64N(int64(3*interval) + 1))
				}
				time.Sleep(pause)
			}
		})
	}
	close(ask)
	<-answers
	if exact < decisions/5 || refused < decisions/50 {
		t.Errorf("of %d decisions, %d were compared exactly and %d were refusals: the test has grown weak", decisions, exact, refused)
	}
}

// intervalOf is the interval of a limit: Period/Requests, at least a
// microsecond, rounded up to a binary fraction of a second, and that to
// nanoseconds.
func intervalOf(l ratelimit.Limit) time.Duration {
	exact := big.NewRat(int64(l.Period), int64(l.Requests)*int64(time.Second))
	if least := big.NewRat(1, 1e6); exact.Cmp(least) < 0 {
		exact = least
	}
	up := func(r *big.Rat) int64 {
		q, m := new(big.Int).DivMod(r.Num(), r.Denom(), new(big.Int))
		if m.Sign() > 0 {
			return q.Int64() + 1
		}
		return q.Int64()
	}
	for parts := int64(1) << 23; ; parts /= 2 {
		if n := up(new(big.Rat).Mul(exact, big.NewRat(parts, 1))); n < 1<<33 {
			return time.Duration(up(big.NewRat(n, 1).Mul(big.NewRat(n, parts), big.NewRat(int64(time.Second), 1))))
		}
	}
}

// TestRedisWorstWindow is TestWorstWindow by the clock of Redis.
func TestRedisWorstWindow(t *testing.T) {
	_, _, counter := newRedis(t)
	for _, limit := range []ratelimit.Limit{
		{Requests: 12, Period: 600 * time.Millisecond},
		{Requests: 7, Period: 300 * time.Millisecond},
		{Requests: 1, Period: 100 * time.Millisecond},
	} {
		start := time.Now()
		var began, done []time.Duration // of accepted requests
		for time.Since(start) < 3*limit.Period {
			b := time.Since(start)
			if u := take(t, counter, limit.String(), limit, 1); u.Allowed {
				began, done = append(began, b), append(done, time.Since(start))
			} else {
				time.Sleep(time.Millisecond)
			}
		}
		for i := range began {
			n := 0
			for j := i; j < len(done) && done[j] < began[i]+limit.Period; j++ {
				n++ // it was decided within a Period of the decision about i
			}
			if most := 2*limit.Requests - 1; n > most {
				t.Errorf("%v: %d accepted within a Period, want at most %d", limit, n, most)
			}
		}
		// The budget was never full again, so nothing that came back was lost.
		interval := limit.Period / time.Duration(limit.Requests)
		if least := limit.Requests + int((began[len(began)-1]-done[0])/interval); len(began) < least-1 {
			t.Errorf("%v: %d accepted in all, want at least %d", limit, len(began), least-1)
		}
	}
}

// TestRedisShared: two instances share one budget, to the request.
func TestRedisShared(t *testing.T) {
	s, _, _ := newRedis(t)
	log := new(journal)
	var limiters [2]*ratelimit.Limiter
	for i := range limiters {
		client := redis.NewClient(&redis.Options{Addr: s.Addr()})
		defer client.Close()
		opts := limited(120, day)
		opts.Logger = log.logger()
		limiters[i] = ratelimit.New(ratelimit.NewRedis(client, nil), opts)
	}
	undisturbed(t, log, func(try int) (problems []string) {
		var accepts, refusals atomic.Int64
		var wg sync.WaitGroup
		for _, l := range limiters {
			h := l.Middleware(ok)
			for range 20 {
				wg.Go(func() {
					for range 10 {
						switch w := serve(h, requestOf(t, recordOf(fmt.Sprint("key", try)))); w.Code {
						case 200:
							accepts.Add(1)
						case 429:
							refusals.Add(1)
						default:
							t.Errorf("the status is %d", w.Code)
						}
					}
				})
			}
		}
		wg.Wait()
		if got := accepts.Load(); got != 120 {
			problems = append(problems, fmt.Sprintf("two instances accept %d, want 120", got))
		}
		if got := refusals.Load(); got != 280 {
			problems = append(problems, fmt.Sprintf("two instances refuse %d, want 280", got))
		}
		return problems
	})
}

// TestRedisKeys: what is in Redis has an expiry and no secret, and its name is
// safe.
func TestRedisKeys(t *testing.T) {
	s, client, _ := newRedis(t)
	for _, c := range []struct {
		key, name string // "" for a digest
	}{
		{"01a20ba9-4beb-8a52-8f60-1c2d3e4f5a6b", "01a20ba9-4beb-8a52-8f60-1c2d3e4f5a6b"},
		{"ada@example.com", "ada@example.com"},
		{"h:x", ""},
		{"{org}", ""},
		{"Ä org\x00\r\n*", ""},
		{strings.Repeat("x", 1<<20), ""},
		{"", "01a20ba9"}, // the Chain; checked below
	} {
		log := new(journal)
		l := ratelimit.New(ratelimit.NewRedis(client, nil), &ratelimit.Options{
			Key:    func(auth.Record) string { return c.key },
			Logger: log.logger(),
		})
		undisturbed(t, log, func(int) (problems []string) {
			do(t, s, "FLUSHALL")
			if w := call(t, l, recordOf("01a20ba9")); w.Code != 200 {
				problems = append(problems, fmt.Sprintf("key %.20q: the status is %d", c.key, w.Code))
			}
			return problems
		})
		got := do(t, s, "KEYS", "*")
		want := "rate:ratelimit:api:" + c.name
		switch {
		case c.key == "", c.name == "":
			const begin = "rate:ratelimit:api:h:"
			if !strings.HasPrefix(got, begin) || len(got) != len(begin)+43 {
				t.Errorf("key %.20q: the keys in Redis are %q, want one with a digest", c.key, got)
			}
		case got != want:
			t.Errorf("key %.20q: the keys in Redis are %q, want %q", c.key, got, want)
		}
		if ttl, _ := strconv.Atoi(do(t, s, "TTL", got)); ttl < 1 || ttl > 60 {
			t.Errorf("key %.20q: it expires after %d s, want up to 60", c.key, ttl)
		}
	}
}

// TestRedisMends: what somebody else wrote blocks nobody, opens nothing, and
// gets an expiry.
func TestRedisMends(t *testing.T) {
	s, _, counter := newRedis(t)
	name := "rate:" + prefix + ":k"
	limit := ratelimit.Limit{Requests: 3, Period: time.Hour}
	for _, c := range []struct {
		command  []string
		accepted int // of 5
	}{
		{[]string{"LPUSH", name, "x"}, 3},
		{[]string{"SADD", name, "x"}, 3},
		{[]string{"XADD", name, "*", "f", "v"}, 3},
		{[]string{"SET", name, "text"}, 3},
		{[]string{"SET", name, ""}, 3},
		{[]string{"SET", name, "nan"}, 3},
		{[]string{"SET", name, "-nan"}, 3},
		{[]string{"SET", name, "-inf"}, 3},
		{[]string{"SET", name, "1"}, 3},
		{[]string{"SET", name, "inf"}, 0},
		{[]string{"SET", name, "1e300"}, 0},
		{[]string{"SET", name, "1e12"}, 0},
	} {
		do(t, s, "DEL", name)
		do(t, s, c.command...)
		got := 0
		var u ratelimit.Usage
		for range 5 {
			if u = take(t, counter, "k", limit, 1); u.Allowed {
				got++
			}
		}
		if got != c.accepted {
			t.Errorf("%.40q: %d are accepted, want %d", c.command, got, c.accepted)
		}
		if u.RetryAfter > 20*time.Minute+time.Millisecond {
			t.Errorf("%.40q: RetryAfter is %v, want an interval at most", c.command, u.RetryAfter)
		}
		if ttl, _ := strconv.Atoi(do(t, s, "TTL", name)); ttl < 1 || ttl > 3600 {
			t.Errorf("%.40q: it expires after %d s, want up to 3600", c.command, ttl)
		}
	}
}

// TestRedisLimitChanges is TestLimitChanges on Redis.
func TestRedisLimitChanges(t *testing.T) {
	_, _, counter := newRedis(t)
	for _, c := range []struct {
		before, after ratelimit.Limit
		used          int
		accepted      int // at once after the change
	}{
		{ratelimit.Limit{Requests: 120, Period: day}, ratelimit.Limit{Requests: 240, Period: day}, 120, 0},
		{ratelimit.Limit{Requests: 120, Period: day}, ratelimit.Limit{Requests: 240, Period: day}, 60, 120},
		{ratelimit.Limit{Requests: 240, Period: day}, ratelimit.Limit{Requests: 120, Period: day}, 120, 60},
		{ratelimit.Limit{Requests: 10, Period: 300 * day}, ratelimit.Limit{Requests: 120, Period: day}, 10, 0},
	} {
		key := fmt.Sprint(c)
		for range c.used {
			if !take(t, counter, key, c.before, 1).Allowed {
				t.Fatalf("%v: refused before the change", c)
			}
		}
		got := 0
		var u ratelimit.Usage
		for range c.accepted + 5 {
			if u = take(t, counter, key, c.after, 1); u.Allowed {
				got++
			}
		}
		if got != c.accepted {
			t.Errorf("%v: %d accepted at once after the change, want %d", c, got, c.accepted)
		}
		if interval := c.after.Period / time.Duration(c.after.Requests); u.RetryAfter > interval+time.Millisecond {
			t.Errorf("%v: RetryAfter is %v, want at most %v", c, u.RetryAfter, interval)
		}
	}
}

// TestRedisPrefix: by default, each realm has budgets of its own, and Usage looks
// at those of the requests.
func TestRedisPrefix(t *testing.T) {
	_, client, _ := newRedis(t)
	counter := ratelimit.NewRedis(client, nil)
	log := new(journal)
	opts := limited(5, day)
	opts.Logger = log.logger()
	l := ratelimit.New(counter, opts)
	if _, err := l.Usage(t.Context(), recordOf("k")); err == nil || !strings.Contains(err.Error(), "RedisOptions.Prefix") {
		t.Errorf("before the first request, Usage returns %v, want an error that names RedisOptions.Prefix", err)
	}
	for _, realm := range []string{"", "orders", `a "quoted" \ realm`} {
		undisturbed(t, log, func(try int) (problems []string) {
			r := recordOf(fmt.Sprint("key", try))
			store := storeOf(r)
			h := auth.New(store, &auth.Options{Realm: realm}).Middleware(l.Middleware(ok))
			for want := 4; want >= 2; want-- {
				w := serve(h, store.request())
				if got := number(t, w.Header(), "RateLimit-Remaining"); got != want {
					problems = append(problems, fmt.Sprintf("realm %q: %d remain, want %d", realm, got, want))
				}
			}
			u, err := l.Usage(t.Context(), r)
			if err != nil {
				t.Errorf("realm %q: %v", realm, err)
			}
			if u.Remaining != 2 {
				problems = append(problems, fmt.Sprintf("realm %q: Usage returns %+v, want 2 remaining", realm, u))
			}
			return problems
		})
	}
}

// TestRedisNested: two Limiters with a Prefix each count in budgets of their own.
func TestRedisNested(t *testing.T) {
	_, client, _ := newRedis(t)
	log := new(journal)
	limiter := func(name string, requests int, period time.Duration) *ratelimit.Limiter {
		opts := limited(requests, period)
		opts.Logger = log.logger()
		return ratelimit.New(ratelimit.NewRedis(client, &ratelimit.RedisOptions{Prefix: name}), opts)
	}
	h := limiter("day", 12, day).Middleware(limiter("hour", 10, time.Hour).Middleware(ok))
	undisturbed(t, log, func(try int) (problems []string) {
		r := requestOf(t, recordOf(fmt.Sprint("key", try)))
		for i := range 11 {
			want := 200
			if i == 10 {
				want = 429
			}
			if got := serve(h, r).Code; got != want {
				problems = append(problems, fmt.Sprintf("the status of request %d is %d, want %d", i, got, want))
			}
		}
		return problems
	})
}

func TestNewRedisPanics(t *testing.T) {
	for name, client := range map[string]redis.UniversalClient{"nil": nil, "typed nil": (*redis.Client)(nil)} {
		func() {
			defer func() {
				if v := recover(); v == nil || !strings.Contains(v.(string), "ratelimit.NewRedis") {
					t.Errorf("%s: panic %v, want one that names the call", name, v)
				}
			}()
			ratelimit.NewRedis(client, nil)
		}()
	}
}
