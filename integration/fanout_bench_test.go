package integration

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

// subscribers is how many there are. Each has a subscription on a connection of
// its own, over TCP.
const subscribers = 1000

// A fanoutBench is a database, a Redis, two publishers and their settings. All
// options are the defaults.
type fanoutBench struct {
	pg    *pgtest.Server
	redis *redistest.Server
	psql  *sql.DB
	store *postgres.Store
	keys  *keyring.Keyring
	opts  *fanout.Options
}

func startFanout(b *testing.B) *fanoutBench {
	redis.SetLogger(noLog{})
	f := &fanoutBench{pg: pgtest.Start(b, "max_connections=200"), redis: redistest.Start(b)}
	f.opts = &fanout.Options{Secret: []byte("a secret of thirty-two bytes or so"), Logger: silent}
	f.psql = open(b, f.pg.URL("postgres"))
	f.psql.SetMaxOpenConns(20)
	f.psql.SetMaxIdleConns(20)
	var err error
	if f.store, err = postgres.New(f.psql, &postgres.Options{Logger: silent}); err == nil {
		err = f.store.Migrate(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	f.keys = keyring.NewManager(f.store, nil).Unconfined("benchmark")
	for range 2 {
		db := open(b, f.pg.URL("postgres"))
		db.SetMaxOpenConns(2)
		store, err := postgres.New(db, &postgres.Options{Logger: silent})
		if err != nil {
			b.Fatal(err)
		}
		f.background(b, func(ctx context.Context) { fanout.Publish(ctx, store, f.conn(b), f.opts) })
	}
	return f
}

func (f *fanoutBench) conn(b *testing.B) fanout.Conn {
	client := redis.NewClient(&redis.Options{Addr: f.redis.Addr(), PoolSize: 1})
	b.Cleanup(func() { client.Close() })
	return fanout.NewRedis(client)
}

// background runs f until the end of the benchmark.
func (*fanoutBench) background(b *testing.B, f func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f(ctx) })
	b.Cleanup(func() { cancel(); running.Wait() })
}

// info returns a number that Redis tells about itself.
func (f *fanoutBench) info(b *testing.B, name string) float64 {
	text, err := f.redis.Do("INFO")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatal("INFO does not tell " + name)
	return 0
}

// A fanoutRound is what subscribers hear of one change.
type fanoutRound struct {
	first   []time.Time // of the reports to each
	reports int
}

func (r *fanoutRound) arrived(subscriber int, at time.Time) {
	r.reports++
	if r.first[subscriber].IsZero() {
		r.first[subscriber] = at
	}
}

// BenchmarkFanout measures 1,000 subscribers on one Redis, with the default
// options: how long they take to start, what they cost while nothing happens,
// and how late they hear of a revocation.
//
//	go test -run '^$' -bench 'Fanout$' -benchtime 300x -timeout 20m .
func BenchmarkFanout(b *testing.B) {
	f := startFanout(b)
	var mu sync.Mutex
	rounds := make(map[auth.Hash]*fanoutRound)
	var watched, losses atomic.Int64
	begin := time.Now()
	for i := range subscribers {
		w := fanout.New(f.store, f.conn(b), f.opts)
		f.background(b, func(ctx context.Context) {
			w.Watch(ctx, func(c auth.Change) {
				switch c.Kind {
				case auth.WatchStarted:
					watched.Add(1)
				case auth.WatchLost:
					watched.Add(-1)
					if ctx.Err() == nil {
						losses.Add(1)
					}
				case auth.RecordChanged:
					now := time.Now()
					mu.Lock()
					defer mu.Unlock()
					if r := rounds[c.Hash]; r != nil {
						r.arrived(i, now)
					}
				}
			})
		})
	}
	eventually(b, "all are watched", func() bool { return watched.Load() == subscribers })
	metrics := map[string]float64{"start-s": time.Since(begin).Seconds()}

	time.Sleep(6 * time.Second)
	transactions, cpuPG, cpuRedis := transactionsOf(b, f.psql), cpuOf(b, f.pg.PID()), cpuOf(b, f.redis.PID())
	commands, bytes, idle := f.info(b, "total_commands_processed"), f.info(b, "total_net_output_bytes"), time.Now()
	time.Sleep(idleTime)
	passed := time.Since(idle).Seconds()
	metrics["redis-commands/s"] = (f.info(b, "total_commands_processed") - commands) / passed
	metrics["redis-kB/s"] = (f.info(b, "total_net_output_bytes") - bytes) / passed / 1000
	metrics["redis-cpu-%"] = 100 * (cpuOf(b, f.redis.PID()) - cpuRedis) / passed
	metrics["pg-cpu-%"] = 100 * (cpuOf(b, f.pg.PID()) - cpuPG) / passed
	metrics["pg-tx/s"] = (transactionsOf(b, f.psql) - transactions) / passed

	// heard makes a change and waits until all have heard of it, twice.
	heard := func(hash auth.Hash, change func() error) (late []time.Duration) {
		r := &fanoutRound{first: make([]time.Time, subscribers)}
		mu.Lock()
		rounds[hash] = r
		mu.Unlock()
		if err := change(); err != nil {
			b.Fatal(err)
		}
		committed := time.Now()
		eventually(b, "all hear of it, from both publishers", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return r.reports == 2*subscribers
		})
		for _, at := range r.first {
			late = append(late, max(0, at.Sub(committed)))
		}
		return late
	}
	var late, last []time.Duration
	for b.Loop() {
		key := auth.Scheme{}.NewKey()
		hash := auth.Scheme{}.Hashes(key)[0]
		var r auth.Record
		heard(hash, func() (err error) {
			r, _, err = f.keys.Create(b.Context(), keyring.Spec{Name: "benchmark", Owner: "org_1", Key: key})
			return err
		})
		l := heard(hash, func() error { return f.keys.Revoke(b.Context(), r.ID) })
		late = append(late, l...)
		last = append(last, slices.Max(l))
	}
	slices.Sort(late)
	slices.Sort(last)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	metrics["revoked-p50-ms"] = ms(late[len(late)/2])
	metrics["revoked-p99-ms"] = ms(late[len(late)*99/100])
	metrics["all-p50-ms"] = ms(last[len(last)/2])
	metrics["all-p99-ms"] = ms(last[len(last)*99/100])
	metrics["all-max-ms"] = ms(last[len(last)-1])
	metrics["lost"] = float64(losses.Load())
	metrics["ns/op"] = 0
	for unit, n := range metrics { // after b.Loop, which forgets what was reported before
		b.ReportMetric(n, unit)
	}
}

// noLog keeps what go-redis says about connections out of the figures.
type noLog struct{}

func (noLog) Printf(context.Context, string, ...any) {}

// BenchmarkFanoutLoss measures 1,000 caches with 5 keys each, which together get
// 3,000 requests a second, before, while and after Redis is gone: how long a
// request takes, how many fail, and what the database gets.
//
//	go test -run '^$' -bench FanoutLoss -benchtime 1x -timeout 20m .
func BenchmarkFanoutLoss(b *testing.B) {
	for b.Loop() {
		measureLoss(b)
	}
}

func measureLoss(b *testing.B) {
	const keys, hot, rate = 1000, 5, 3000
	f := startFanout(b)
	var hashes []auth.Hash
	for range keys {
		key := auth.Scheme{}.NewKey()
		if _, _, err := f.keys.Create(b.Context(), keyring.Spec{Name: "benchmark", Owner: "org_1", Key: key}); err != nil {
			b.Fatal(err)
		}
		hashes = append(hashes, auth.Scheme{}.Hashes(key)[0])
	}
	counting := &countingStore{Store: f.store}
	client := redis.NewClient(&redis.Options{Addr: f.redis.Addr(), PoolSize: 10}) // for hellos
	b.Cleanup(func() { client.Close() })
	var caches []*cache.Store
	var starts atomic.Int64
	for range subscribers {
		w := countedWatch{fanout.New(counting, fanout.NewRedis(client), f.opts), &starts}
		c := cache.New(w, &cache.Options{Logger: silent})
		b.Cleanup(func() { c.Close() })
		caches = append(caches, c)
	}
	phase := func(name string, d time.Duration) {
		var mu sync.Mutex
		var took []time.Duration
		failed := 0
		counting.most.Store(0)
		lookups, started := counting.lookups.Load(), starts.Load()
		var running sync.WaitGroup
		begin := time.Now()
		for n := 0; time.Since(begin) < d; time.Sleep(time.Millisecond) {
			for ; float64(n) < time.Since(begin).Seconds()*rate; n++ {
				i := rand.IntN(len(caches))
				hash := hashes[(i*7+rand.IntN(hot))%keys]
				running.Go(func() {
					start := time.Now()
					_, err := caches[i].Lookup(context.Background(), hash)
					passed := time.Since(start)
					mu.Lock()
					defer mu.Unlock()
					took = append(took, passed)
					if err != nil {
						failed++
					}
				})
			}
		}
		running.Wait()
		slices.Sort(took)
		ms := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000 }
		b.Logf("%-24s requests/s %.0f failed %d p50 %.2f p99 %.2f max %.0f ms; lookups/s %.0f, at a time %d; watches started %d", name,
			float64(len(took))/d.Seconds(), failed, ms(0.5), ms(0.99), ms(1),
			float64(counting.lookups.Load()-lookups)/d.Seconds(), counting.most.Load(), starts.Load()-started)
	}
	phase("the caches are empty", 10*time.Second)
	phase("the caches are full", 10*time.Second)
	f.redis.Kill()
	phase("Redis is gone: 0 to 5 s", 5*time.Second)
	phase("5 to 10 s", 5*time.Second)
	phase("10 to 30 s", 20*time.Second)
	if err := f.redis.Restart(); err != nil {
		b.Fatal(err)
	}
	phase("it is back: 0 to 10 s", 10*time.Second)
	phase("10 to 20 s", 10*time.Second)
}

// A countingStore counts lookups, and the most that are in progress at a time.
type countingStore struct {
	auth.Store
	lookups, now, most atomic.Int64
}

func (c *countingStore) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	c.lookups.Add(1)
	n := c.now.Add(1)
	defer c.now.Add(-1)
	for old := c.most.Load(); n > old && !c.most.CompareAndSwap(old, n); old = c.most.Load() {
	}
	return c.Store.Lookup(ctx, hash)
}

// A countedWatch counts how often its watch starts.
type countedWatch struct {
	auth.Watcher
	starts *atomic.Int64
}

func (w countedWatch) Watch(ctx context.Context, notify func(auth.Change)) error {
	return w.Watcher.Watch(ctx, func(c auth.Change) {
		if c.Kind == auth.WatchStarted {
			w.starts.Add(1)
		}
		notify(c)
	})
}
