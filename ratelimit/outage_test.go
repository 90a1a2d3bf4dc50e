package ratelimit_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/insigner/auth"
	"github.com/insigner/auth/internal/redistest"
	"github.com/insigner/auth/ratelimit"
)

// open returns a Limiter that counts with client, and what it logs. The limit is
// so high that every request is accepted.
func open(t testing.TB, client redis.UniversalClient) (*ratelimit.Limiter, *journal) {
	t.Helper()
	t.Cleanup(func() { client.Close() })
	log := new(journal)
	opts := limited(1e6, day)
	opts.Logger = log.logger()
	return ratelimit.New(ratelimit.NewRedis(client, &ratelimit.RedisOptions{Prefix: prefix}), opts), log
}

// comesTo waits until the Limiter counts in memory, or no longer. Requests are
// accepted all the time.
func comesTo(t testing.TB, l *ratelimit.Limiter, local bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("Local is %v", local), func() bool {
		if w := call(t, l, recordOf("k")); w.Code != 200 {
			t.Fatalf("the status is %d", w.Code)
		}
		return l.Local() == local
	})
}

// TestRedisDownAtStart: an instance starts without Redis, and uses it when it is
// there.
func TestRedisDownAtStart(t *testing.T) {
	s := redistest.Start(t)
	s.Kill()
	l, log := open(t, redis.NewClient(&redis.Options{Addr: s.Addr()}))
	comesTo(t, l, true)
	for range 1000 {
		call(t, l, recordOf("k"))
	}
	log.wants(t, 1, fails)
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	comesTo(t, l, false)
	log.wantsOutages(t, 1)
	if got := do(t, s, "DBSIZE"); got != "1" {
		t.Errorf("Redis has %s keys, want 1", got)
	}
}

// TestRedisRestarts: without the script, which Redis forgets.
func TestRedisRestarts(t *testing.T) {
	s := redistest.Start(t)
	l, log := open(t, redis.NewClient(&redis.Options{Addr: s.Addr()}))
	comesTo(t, l, false)
	do(t, s, "SCRIPT", "FLUSH")
	for range 3 {
		call(t, l, recordOf("k"))
	}
	log.wants(t, 0, "NOSCRIPT")
	s.Kill()
	comesTo(t, l, true)
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	comesTo(t, l, false)
	log.wantsOutages(t, 1)
}

// TestRedisFrozen: with any options of the client, a request waits for 50 ms at
// most, and hardly any request waits. The bound of the test has room for a
// busy machine; TestHanging is exact.
func TestRedisFrozen(t *testing.T) {
	for name, opts := range map[string]redis.Options{
		"defaults":       {},
		"no timeouts":    {ReadTimeout: -1, WriteTimeout: -1, DialTimeout: time.Hour, PoolTimeout: time.Hour, MaxRetries: 10},
		"one connection": {PoolSize: 1, PoolTimeout: time.Hour, ReadTimeout: time.Hour},
		"context":        {ContextTimeoutEnabled: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			opts.Addr = s.Addr()
			l, log := open(t, redis.NewClient(&opts))
			comesTo(t, l, false)
			s.Freeze()
			defer s.Thaw()
			var mu sync.Mutex
			slow, longest := 0, time.Duration(0)
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					for range 200 {
						start := time.Now()
						if w := call(t, l, recordOf("k")); w.Code != 200 {
							t.Errorf("the status is %d", w.Code)
						}
						d := time.Since(start)
						mu.Lock()
						longest = max(longest, d)
						if d >= 40*time.Millisecond {
							slow++
						}
						mu.Unlock()
						time.Sleep(time.Millisecond)
					}
				})
			}
			wg.Wait()
			t.Logf("%d of 2000 requests waited for 40 ms or more, %v at most", slow, longest)
			if longest > 2*time.Second {
				t.Errorf("a request took %v", longest)
			}
			s.Thaw()
			comesTo(t, l, false)
			log.wantsOutages(t, 1)
			if len(log.lines("no answer within 50ms")) == 0 {
				t.Error("the log does not say why")
			}
		})
	}
}

// TestRedisRefuses: errors of Redis itself are an outage, not a 500 and not an
// open door, until they are mended. No password is in the log.
func TestRedisRefuses(t *testing.T) {
	const password = "hunter2-not-in-the-log"
	for _, c := range []struct {
		name  string
		args  []string
		opts  redis.Options
		spoil []string // a command that makes it fail
		mend  []string
		want  string // in the log
	}{
		{"full", nil, redis.Options{}, []string{"CONFIG", "SET", "maxmemory", "1"}, []string{"CONFIG", "SET", "maxmemory", "0"}, "OOM"},
		{"a replica", nil, redis.Options{MaxRetries: -1}, []string{"REPLICAOF", "127.0.0.1", "1"}, []string{"REPLICAOF", "NO", "ONE"}, "READONLY"},
		{"no permission", nil, redis.Options{Username: "limits", Password: password},
			[]string{"ACL", "SETUSER", "limits", "on", ">" + password, "+@all", "resetkeys", "~other:*"},
			[]string{"ACL", "SETUSER", "limits", "resetkeys", "~rate:" + prefix + ":*"}, "NOPERM"},
		{"a wrong password", nil, redis.Options{Username: "limits", Password: password},
			[]string{"ACL", "SETUSER", "limits", "on", ">other", "+@all", "allkeys"},
			[]string{"ACL", "SETUSER", "limits", "resetpass", ">" + password}, "WRONGPASS"},
		{"no user", nil, redis.Options{Username: "limits", Password: password}, nil,
			[]string{"ACL", "SETUSER", "limits", "on", ">" + password, "+@all", "allkeys"}, "WRONGPASS"},
		{"too few commands", nil, redis.Options{Username: "limits", Password: password},
			[]string{"ACL", "SETUSER", "limits", "on", ">" + password, "allkeys", "-@all", "+evalsha"},
			[]string{"ACL", "SETUSER", "limits", "+eval", "+get", "+set", "+time", "+type", "+del"}, "NOPERM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := redistest.Start(t, c.args...)
			if c.spoil != nil {
				do(t, s, c.spoil...)
			}
			c.opts.Addr = s.Addr()
			client := redis.NewClient(&c.opts)
			l, log := open(t, client)
			comesTo(t, l, true)
			for range 100 {
				call(t, l, recordOf("k"))
			}
			if len(log.lines(c.want))+len(log.lines("no answer within 50ms")) == 0 { // the latter on a busy machine
				t.Errorf("the log does not say %s: %q", c.want, log.lines(""))
			}
			_, err := ratelimit.NewRedis(client, &ratelimit.RedisOptions{Prefix: prefix}).
				Take(t.Context(), "k", ratelimit.Limit{Requests: 1, Period: day}, 1)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Take returns %v, want an error with %s", err, c.want)
			}
			do(t, s, c.mend...)
			comesTo(t, l, false)
			log.wantsOutages(t, 1)
			log.wants(t, 0, password)
		})
	}
}

// TestRedisPermissions: the ACL of the guide is enough, with what is mended.
func TestRedisPermissions(t *testing.T) {
	s := redistest.Start(t)
	do(t, s, "ACL", "SETUSER", "limits", "on", ">secret", "resetkeys", "~rate:"+prefix+":*", "-@all",
		"+evalsha", "+eval", "+get", "+set", "+time", "+type", "+del")
	name := "rate:" + prefix + ":k"
	client := redis.NewClient(&redis.Options{Addr: s.Addr(), Username: "limits", Password: "secret"})
	defer client.Close()
	counter := ratelimit.NewRedis(client, &ratelimit.RedisOptions{Prefix: prefix})
	for _, spoil := range [][]string{{"DEL", name}, {"SET", name, "inf"}, {"LPUSH", name, "x"}} {
		do(t, s, "DEL", name)
		do(t, s, spoil...)
		for _, n := range []int{1, 0} {
			if _, err := counter.Take(t.Context(), "k", ratelimit.Limit{Requests: 2, Period: day}, n); err != nil {
				t.Errorf("after %v: Take(%d): %v", spoil, n, err)
			}
		}
	}
}

// TestErrorWithoutPassword: an error of the client's own may hold the password.
func TestErrorWithoutPassword(t *testing.T) {
	const password = "hunter2-not-in-the-log"
	dial := func(context.Context, string, string) (net.Conn, error) {
		return nil, fmt.Errorf("cannot connect to redis://user:%s@host", password)
	}
	for name, client := range map[string]redis.UniversalClient{
		"client":  redis.NewClient(&redis.Options{Dialer: dial, Password: password}),
		"cluster": redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, Dialer: dial, Password: password}),
		"ring":    redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}, Dialer: dial, Password: password}),
	} {
		l, log := open(t, client)
		comesTo(t, l, true)
		if len(log.lines(fails)) == 0 {
			t.Errorf("%s: the outage is not logged", name)
		}
		log.wants(t, 0, password)
		_, err := ratelimit.NewRedis(client, &ratelimit.RedisOptions{Prefix: prefix}).
			Take(t.Context(), "k", ratelimit.Limit{Requests: 1, Period: day}, 1)
		if err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("%s: Take returns %v", name, err)
		}
	}
}

// TestLocalBudget: in an outage each instance has what it knows to remain, and
// no more.
func TestLocalBudget(t *testing.T) {
	s := redistest.Start(t)
	var limiters [2]*ratelimit.Limiter
	log := new(journal)
	for i := range limiters {
		client := redis.NewClient(&redis.Options{Addr: s.Addr()})
		defer client.Close()
		opts := limited(10, day)
		opts.Logger = log.logger()
		limiters[i] = ratelimit.New(ratelimit.NewRedis(client, nil), opts)
	}
	var r auth.Record
	undisturbed(t, log, func(try int) (problems []string) {
		r = recordOf(fmt.Sprint("key", try))
		if got := burst(t, limiters[0], r, 4) + burst(t, limiters[1], r, 20); got != 10 {
			problems = append(problems, fmt.Sprintf("two instances accept %d, want 10", got))
		}
		return problems
	})
	want := [2]int{6, 0} // 4 were taken when the first one asked, and 10 when the second did
	s.Kill()
	for i, l := range limiters {
		eventually(t, "the outage is noticed", func() bool {
			if _, err := l.Usage(t.Context(), recordOf("other")); err != nil {
				t.Fatal(err)
			}
			return l.Local()
		})
		if got := burst(t, l, r, 20); got != want[i] {
			t.Errorf("instance %d accepts %d in the outage, want %d", i, got, want[i])
		}
		if got := burst(t, l, recordOf("not seen before"), 20); got != 10 {
			t.Errorf("instance %d accepts %d of another key in the outage, want 10", i, got)
		}
	}
}

// TestRedisCluster: each key is on the server that has its slot. If one is gone,
// no request fails.
func TestRedisCluster(t *testing.T) {
	servers := redistest.StartCluster(t)
	var addrs []string
	for _, s := range servers {
		addrs = append(addrs, s.Addr())
	}
	l, log := open(t, redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs}))
	comesTo(t, l, false)
	undisturbed(t, log, func(try int) (problems []string) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 60 { // at the same time, so that a pipeline has keys of all servers
			wg.Go(func() {
				for want := int(1e6 - 1); want > 1e6-3; want-- {
					w := call(t, l, recordOf(fmt.Sprintf("key%d-%d", try, i)))
					if got := number(t, w.Header(), "RateLimit-Remaining"); got != want {
						mu.Lock()
						problems = append(problems, fmt.Sprintf("key %d: %d remain, want %d", i, got, want))
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		return problems
	})
	for i, s := range servers {
		if do(t, s, "DBSIZE") == "0" {
			t.Errorf("server %d has no keys", i)
		}
	}
	servers[2].Kill()
	for i := range 200 {
		if w := call(t, l, recordOf(fmt.Sprint("key", i))); w.Code != 200 {
			t.Errorf("with a server gone, the status is %d", w.Code)
		}
	}
	if len(log.lines(fails)) == 0 {
		t.Error("the outage is not logged")
	}
}

// TestRedisSentinel: after a failover the new primary counts.
func TestRedisSentinel(t *testing.T) {
	primary, replica, sentinel := redistest.StartSentinel(t)
	l, log := open(t, redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName:    "primary",
		SentinelAddrs: []string{sentinel.Addr()},
	}))
	comesTo(t, l, false)
	if got := do(t, primary, "DBSIZE"); got != "1" {
		t.Errorf("the primary has %s keys, want 1", got)
	}
	primary.Kill()
	comesTo(t, l, true)
	comesTo(t, l, false)
	call(t, l, recordOf("after"))
	eventually(t, "the new primary has the key", func() bool {
		return strings.Contains(do(t, replica, "KEYS", "*"), ":after")
	})
	if len(log.lines(fails)) == 0 {
		t.Error("the outage is not logged")
	}
}
