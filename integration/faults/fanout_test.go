package faults_test

import (
	"bufio"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/fanout"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/internal/redistest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/redis/go-redis/v9"
)

// publisherEnv is the variable that makes the test binary a process that
// publishes changes until its standard input ends. Its value is a
// publisherConfig.
const publisherEnv = "AUTH_TEST_PUBLISHER"

type publisherConfig struct {
	DSN, Redis                   string
	LostAfter, Interval, Timeout time.Duration // if zero, the defaults
}

var fanoutSecret = []byte("a secret of thirty-two bytes or so")

func (c publisherConfig) options() *fanout.Options {
	return &fanout.Options{Secret: fanoutSecret, LostAfter: c.LostAfter, WatchBound: 2 * (c.Interval + c.Timeout), Logger: quiet}
}

// bound is what Options.LostAfter promises for each of the faults, plus the
// delays of a busy machine.
func (c publisherConfig) bound() time.Duration { return cmp.Or(c.LostAfter, 5*time.Second) + bound }

func servePublisher(text string) {
	var c publisherConfig
	err := json.Unmarshal([]byte(text), &c)
	var db *sql.DB
	if err == nil {
		db, err = sql.Open("pgx", c.DSN)
	}
	var store *postgres.Store
	if err == nil {
		store, err = postgres.New(db, &postgres.Options{Logger: quiet, HeartbeatInterval: c.Interval, HeartbeatTimeout: c.Timeout})
	}
	if err == nil {
		ctx, cancel := context.WithCancel(context.Background())
		go func() { io.Copy(io.Discard, os.Stdin); cancel() }()
		fmt.Println("ready")
		err = fanout.Publish(ctx, store, fanout.NewRedis(redis.NewClient(&redis.Options{Addr: c.Redis})), c.options())
	}
	if !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A publisherProcess is a process that publishes.
type publisherProcess struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

func startPublisher(t testing.TB, c publisherConfig) *publisherProcess {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	text, err := json.Marshal(c)
	must(t, err)
	p := &publisherProcess{cmd: exec.Command(exe)}
	p.cmd.Env = append(os.Environ(), publisherEnv+"="+string(text))
	p.cmd.Stderr = os.Stderr
	p.stdin, err = p.cmd.StdinPipe()
	must(t, err)
	stdout, err := p.cmd.StdoutPipe()
	must(t, err)
	must(t, p.cmd.Start())
	_, err = bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	return p
}

func (p *publisherProcess) signal(s syscall.Signal) { p.cmd.Process.Signal(s) }

func (p *publisherProcess) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// A crowd are caches that hear of changes through Redis, and two processes that
// publish them.
type crowd struct {
	config     publisherConfig
	pg         *pgtest.Server
	redis      *redistest.Server
	toPG       *proxy // of the first publisher
	toPG2      *proxy // of the second
	toRedis    *proxy // of every second subscriber
	publishers [2]*publisherProcess
	dsns       [2]string
	db         *sql.DB
	manage     *keyring.Keyring
	members    []*member
}

// A member is one cache. It counts its lookups.
type member struct {
	auth.Watcher
	lookups atomic.Int64
	cache   *cache.Store
}

func (m *member) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	m.lookups.Add(1)
	return m.Watcher.Lookup(ctx, hash)
}

func startCrowd(t testing.TB, members int, config publisherConfig) *crowd {
	c := &crowd{config: config, pg: pgtest.Start(t, "max_connections=200"), redis: redistest.Start(t)}
	dsn := c.pg.URL("postgres")
	c.db = open2(t, dsn)
	store, err := postgres.New(c.db, &postgres.Options{Logger: quiet})
	must(t, err)
	must(t, store.Migrate(t.Context()))
	c.manage = keyring.NewManager(store, nil).Unconfined("test")
	c.toPG, c.dsns[0] = newProxy(t, dsn)
	c.toPG2, c.dsns[1] = newProxy(t, dsn)
	c.config.Redis = c.redis.Addr()
	for i := range c.publishers {
		c.startPublisher(t, i)
		t.Cleanup(func() { c.publishers[i].kill() })
	}
	c.toRedis, _ = newProxy(t, "redis://"+c.redis.Addr())
	for i := range members {
		addr := c.redis.Addr()
		if i%2 == 1 {
			addr = c.toRedis.listener.Addr().String()
		}
		client := redis.NewClient(&redis.Options{Addr: addr, PoolSize: 1})
		m := &member{Watcher: fanout.New(store, fanout.NewRedis(client), c.config.options())}
		m.cache = cache.New(m, &cache.Options{Logger: quiet, LookupTimeout: 2 * time.Second})
		c.members = append(c.members, m)
		t.Cleanup(func() { m.cache.Close(); client.Close() })
	}
	return c
}

func open2(t testing.TB, dsn string) *sql.DB {
	db, err := sql.Open("pgx", dsn)
	must(t, err)
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	t.Cleanup(func() { db.Close() })
	return db
}

func (c *crowd) startPublisher(t testing.TB, i int) {
	config := c.config
	config.DSN = c.dsns[i]
	c.publishers[i] = startPublisher(t, config)
}

// accepts reports whether a member accepts a key.
func (m *member) accepts(hash auth.Hash) bool {
	r, err := m.cache.Lookup(context.Background(), hash)
	return err == nil && r.Check(time.Now()) == nil
}

// remember waits until each member answers for the key from memory.
func (c *crowd) remember(t testing.TB, hash auth.Hash) {
	t.Helper()
	for _, m := range c.members {
		eventually(t, "a cache has the key", func() bool {
			if !m.accepts(hash) {
				return false
			}
			before := m.lookups.Load()
			return m.accepts(hash) && m.lookups.Load() == before
		})
	}
}

// refuse waits until no member accepts the key, and returns how long that took.
func (c *crowd) refuse(t testing.TB, hash auth.Hash) time.Duration {
	t.Helper()
	start := time.Now()
	took := make([]time.Duration, len(c.members))
	var waiting sync.WaitGroup
	for i, m := range c.members {
		waiting.Go(func() {
			for m.accepts(hash) && time.Since(start) < 2*c.config.bound() {
				time.Sleep(2 * time.Millisecond)
				took[i] = time.Since(start)
			}
		})
	}
	waiting.Wait()
	return slices.Max(took)
}

// A crowdFault is what happens to a crowd. A key is revoked right afterwards,
// unless the database fails.
type crowdFault struct {
	name         string
	database     bool // fails
	fail, repair func(t testing.TB, c *crowd)
}

func nothing(testing.TB, *crowd) {}

func both(f func(c *crowd, i int)) func(testing.TB, *crowd) {
	return func(_ testing.TB, c *crowd) { f(c, 0); f(c, 1) }
}

var crowdFaults = []crowdFault{
	{"nothing fails", false, nothing, nothing},
	{"Redis killed", false, func(_ testing.TB, c *crowd) { c.redis.Kill() },
		func(t testing.TB, c *crowd) { must(t, c.redis.Restart()) }},
	{"Redis frozen", false, func(_ testing.TB, c *crowd) { c.redis.Freeze() },
		func(_ testing.TB, c *crowd) { c.redis.Thaw() }},
	{"Redis restarted", false, func(t testing.TB, c *crowd) { c.redis.Kill(); must(t, c.redis.Restart()) }, nothing},
	{"half of the subscribers cut off", false, func(_ testing.TB, c *crowd) { c.toRedis.set(silent) },
		func(_ testing.TB, c *crowd) { c.toRedis.set(cut); c.toRedis.set(passing) }},
	{"both publishers killed", false, both(func(c *crowd, i int) { c.publishers[i].kill() }),
		func(t testing.TB, c *crowd) { c.startPublisher(t, 0); c.startPublisher(t, 1) }},
	{"both publishers frozen", false, both(func(c *crowd, i int) { c.publishers[i].signal(syscall.SIGSTOP) }),
		both(func(c *crowd, i int) { c.publishers[i].signal(syscall.SIGCONT) })},
	{"one publisher killed", false, func(_ testing.TB, c *crowd) { c.publishers[0].kill() },
		func(t testing.TB, c *crowd) { c.startPublisher(t, 0) }},
	{"one publisher frozen", false, func(_ testing.TB, c *crowd) { c.publishers[1].signal(syscall.SIGSTOP) },
		func(_ testing.TB, c *crowd) { c.publishers[1].signal(syscall.SIGCONT) }},
	{"one publisher cut off from PostgreSQL", false, func(_ testing.TB, c *crowd) { c.toPG.set(silent) },
		func(_ testing.TB, c *crowd) { c.toPG.set(cut); c.toPG.set(passing) }},
	{"both publishers cut off from PostgreSQL", false,
		func(_ testing.TB, c *crowd) { c.toPG.set(silent); c.toPG2.set(silent) },
		func(_ testing.TB, c *crowd) {
			c.toPG.set(cut)
			c.toPG.set(passing)
			c.toPG2.set(cut)
			c.toPG2.set(passing)
		}},
	{"PostgreSQL killed", true, func(_ testing.TB, c *crowd) { c.pg.Crash() },
		func(t testing.TB, c *crowd) { must(t, c.pg.Start()) }},
	{"PostgreSQL frozen", true, func(t testing.TB, c *crowd) { signalAll(t, c.pg.PID(), syscall.SIGSTOP) },
		func(t testing.TB, c *crowd) { signalAll(t, c.pg.PID(), syscall.SIGCONT) }},
}

// run makes the fault happen, and returns how long after a key was revoked no
// cache accepted it any more. If the database fails, the key is not revoked.
func (f crowdFault) run(t testing.TB, c *crowd) time.Duration {
	r, _, err := c.manage.Create(context.Background(), keyring.Spec{Name: "test", Owner: "org_1", Scopes: auth.Scopes{"documents.read"}})
	must(t, err)
	c.remember(t, r.Hash)
	f.fail(t, c)
	if !f.database {
		must(t, c.manage.Revoke(context.Background(), r.ID))
	}
	took := c.refuse(t, r.Hash)
	f.repair(t, c)
	if took > c.config.bound() {
		t.Errorf("%s: accepted %v after it was revoked", f.name, took)
	}
	return took
}

// TestFanoutFaults revokes a key while something fails between the database and
// the caches. All refuse it within the bound. The heartbeat of the publishers'
// watch is too slow to be of help.
func TestFanoutFaults(t *testing.T) {
	c := startCrowd(t, 6, publisherConfig{LostAfter: 500 * time.Millisecond, Interval: time.Minute, Timeout: time.Minute})
	for _, f := range crowdFaults {
		t.Run(f.name, func(t *testing.T) { t.Logf("refused after %v", f.run(t, c)) })
	}
}

// BenchmarkFanoutFaults measures how late 100 caches see a revocation when
// something fails, with the default options.
//
//	go test -run '^$' -bench FanoutFaults -benchtime 3x -timeout 1h ./faults
func BenchmarkFanoutFaults(b *testing.B) {
	c := startCrowd(b, 100, publisherConfig{})
	for _, f := range crowdFaults {
		b.Run(f.name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				if strings.HasPrefix(f.name, "one publisher") {
					time.Sleep(25 * time.Second) // until both have been there for WatchBound and LostAfter
				}
				took = append(took, f.run(b, c))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ms(quantile(took, 0.5)), "median-ms")
			b.ReportMetric(ms(slices.Max(took)), "max-ms")
		})
	}
}
