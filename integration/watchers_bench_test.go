package integration

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/jackc/pgx/v5"
)

// BenchmarkWatchers measures N instances that watch one PostgreSQL server, with
// the default options: how long they take to start, what they cost while nothing
// happens, and how late they hear of a revocation.
//
// Run it with -benchtime=1x.
func BenchmarkWatchers(b *testing.B) {
	for _, n := range []int{10, 50, 100, 300, 500} {
		b.Run(fmt.Sprint("n=", n), func(b *testing.B) {
			for b.Loop() {
				measureWatchers(b, n)
			}
		})
	}
}

// idleTime is how long idle instances are measured.
const idleTime = 20 * time.Second

func measureWatchers(b *testing.B, n int) {
	server := pgtest.Start(b, "max_connections="+strconv.Itoa(3*n+50))
	dsn := server.URL("postgres")
	psql := open(b, dsn)
	first, err := postgres.New(psql, &postgres.Options{Logger: silent})
	if err == nil {
		err = first.Migrate(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	var mu sync.Mutex
	arrived := make(map[auth.Hash][]time.Time)
	losses := 0
	var starting, watching sync.WaitGroup
	ctx, stop := context.WithCancel(b.Context())
	defer watching.Wait()
	defer stop()
	begin := time.Now()
	for range n {
		db := open(b, dsn)
		db.SetMaxOpenConns(2)
		store, err := postgres.New(db, &postgres.Options{Logger: silent})
		if err != nil {
			b.Fatal(err)
		}
		starting.Add(1)
		started := sync.OnceFunc(starting.Done)
		watching.Go(func() {
			store.Watch(ctx, func(c auth.Change) {
				switch c.Kind {
				case auth.WatchStarted:
					started()
				case auth.WatchLost:
					if ctx.Err() == nil {
						mu.Lock()
						losses++
						mu.Unlock()
					}
				case auth.RecordChanged:
					now := time.Now()
					mu.Lock()
					arrived[c.Hash] = append(arrived[c.Hash], now)
					mu.Unlock()
				}
			})
		})
	}
	starting.Wait()
	b.ReportMetric(time.Since(begin).Seconds(), "start-s")

	time.Sleep(6 * time.Second) // until one of them sends the heartbeat
	beats := countBeats(b, dsn)
	transactions, cpu := transactionsOf(b, psql), cpuOf(b, server.PID())
	before := beats()
	time.Sleep(idleTime)
	// A session that receives an announcement has a transaction for it. It
	// counts that only when it executes a statement.
	received := float64(n * (beats() - before))
	b.ReportMetric((transactionsOf(b, psql)-transactions+received)/idleTime.Seconds(), "tx/s")
	b.ReportMetric(100*(cpuOf(b, server.PID())-cpu)/idleTime.Seconds(), "server-cpu-%")

	keys := keyring.NewManager(first, nil).Unconfined("benchmark")
	var late []time.Duration
	for range 20 {
		r, _, err := keys.Create(b.Context(), keyring.Spec{Name: "benchmark", Owner: "org_1"})
		if err == nil {
			err = keys.Revoke(b.Context(), r.ID)
		}
		if err != nil {
			b.Fatal(err)
		}
		committed := time.Now()
		eventually(b, "all hear of it", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(arrived[r.Hash]) == 2*n
		})
		for _, at := range arrived[r.Hash][n:] {
			late = append(late, max(0, at.Sub(committed)))
		}
	}
	slices.Sort(late)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(late[len(late)/2]), "revoked-p50-ms")
	b.ReportMetric(ms(late[len(late)*99/100]), "revoked-p99-ms")
	b.ReportMetric(ms(late[len(late)-1]), "revoked-max-ms")
	b.ReportMetric(float64(losses), "lost")
	b.ReportMetric(0, "ns/op")
}

func open(b *testing.B, dsn string) *sql.DB {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	return db
}

// countBeats returns a function that returns how many beats have been heard.
func countBeats(b *testing.B, dsn string) func() int {
	ctx, cancel := context.WithCancel(b.Context())
	conn, err := pgx.Connect(ctx, dsn)
	if err == nil {
		_, err = conn.Exec(ctx, "LISTEN api_keys_changed")
	}
	if err != nil {
		b.Fatal(err)
	}
	var count atomic.Int64
	var listening sync.WaitGroup
	listening.Go(func() {
		for {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				return
			}
			if strings.HasPrefix(n.Payload, "beat ") {
				count.Add(1)
			}
		}
	})
	b.Cleanup(func() { cancel(); listening.Wait(); conn.Close(context.Background()) })
	return func() int { return int(count.Load()) }
}

// transactionsOf returns how many transactions the database has ended.
func transactionsOf(b *testing.B, db *sql.DB) (n float64) {
	time.Sleep(1500 * time.Millisecond) // each session reports once a second
	err := db.QueryRow("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()").Scan(&n)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// cpuOf returns the seconds of CPU time that a server and its children have used.
func cpuOf(b *testing.B, pid int) (seconds float64) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	const perSecond = 100 // USER_HZ
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest) // from the state, field 3
		ticks := func(i int) float64 { n, _ := strconv.ParseFloat(fields[i-3], 64); return n / perSecond }
		switch {
		case filepath.Base(filepath.Dir(file)) == strconv.Itoa(pid):
			seconds += ticks(14) + ticks(15) + ticks(16) + ticks(17) // with the children that have ended
		case fields[4-3] == strconv.Itoa(pid):
			seconds += ticks(14) + ticks(15)
		}
	}
	return seconds
}
