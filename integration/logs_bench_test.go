package integration

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/insigner/auth/sqlstore/sqlite"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// The entries of the benchmark: 30 days of 1,000 owners with ten keys each. One
// owner has two million of the ten million, and one 316,000.
const (
	logEntries = 10_000_000
	logDays    = 30
	logOwners  = 1000
	logKeys    = 10 // of an owner
)

var logsEnd = time.Now().UTC().Truncate(24 * time.Hour)

// logEntry returns entry i of n, in the order of their times.
func logEntry(i, n int) apilog.Entry {
	at := logsEnd.Add(-logDays * 24 * time.Hour).Add(time.Duration(float64(i) / float64(n) * logDays * 24 * float64(time.Hour)))
	at = at.Truncate(time.Microsecond)
	owner := 2 + rand.IntN(logOwners-2)
	switch p := rand.IntN(10_000); {
	case p < 2000:
		owner = 0
	case p < 2316:
		owner = 1
	}
	e := apilog.Entry{
		ID: apilog.NewID(at), Time: at, Duration: time.Duration(rand.IntN(100_000)) * time.Microsecond,
		KeyID: logKey(owner, rand.IntN(logKeys)), Owner: logOwner(owner),
		Method: "GET", Route: "GET /api/v1/documents/{id}", Path: fmt.Sprint("/api/v1/documents/doc_", rand.IntN(1e6)),
		Status: 200, ResponseBytes: int64(rand.IntN(10_000)), RequestID: fmt.Sprintf("req_%016x", rand.Uint64()),
		UserAgent: "acme-backend/1.4", RemoteAddr: netip.AddrFrom4([4]byte{192, 0, 2, byte(rand.IntN(256))}),
	}
	switch p := rand.IntN(100); {
	case p < 3:
		e.Status, e.Code = 403, "INSUFFICIENT_SCOPE"
	case p < 4:
		e.Status = 500
	}
	return e
}

func logOwner(owner int) string { return fmt.Sprintf("org_%05d", owner) }
func logKey(owner, key int) string {
	return fmt.Sprintf("019b2e5c-7c2a-7000-8000-%06d%06d", owner, key)
}

// BenchmarkLogs measures the log stores with ten million entries. It prints the
// plan of each query.
//
//	go test -run '^$' -bench Logs -benchtime 1x -timeout 1h .
func BenchmarkLogs(b *testing.B) {
	b.Run("postgres", func(b *testing.B) {
		db, logs, config := loadedPostgres(b)
		last := new(lastQuery)
		config.Tracer = last
		traced := stdlib.OpenDB(*config)
		traced.SetMaxOpenConns(1)
		reads, err := postgres.NewLogs(traced, nil)
		fatal(b, err)
		measureLogs(b, reads, func(string, []any) string {
			return plan(b, traced, "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) "+last.sql, last.args...)
		})
		traced.Close()
		var bytes int64
		fatal(b, db.QueryRow(`SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits
			WHERE inhparent = 'api_logs'::regclass`).Scan(&bytes))
		measureAppends(b, logs, 2)
		fmt.Printf("\n# a million entries take %d MB\n", bytes/(logEntries/1_000_000)>>20)
		measureRetention(b, logs)
	})
	b.Run("sqlite", func(b *testing.B) {
		db, logs := loadedSQLite(b)
		measureLogs(b, logs, func(query string, args []any) string { return plan(b, db, "EXPLAIN QUERY PLAN "+query, args...) })
		var bytes int64
		fatal(b, db.QueryRow("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").Scan(&bytes))
		measureAppends(b, logs, 1)
		fmt.Printf("\n# a million entries take %d MB\n", bytes/(logEntries/1_000_000)>>20)
		measureRetention(b, logs)
	})
}

// loadedPostgres returns a store with all entries.
func loadedPostgres(b *testing.B) (*sql.DB, *postgres.Logs, *pgx.ConnConfig) {
	b.Helper()
	config, err := pgx.ParseConfig(pgtest.DSN(b))
	fatal(b, err)
	db := stdlib.OpenDB(*config)
	b.Cleanup(func() { db.Close() })
	logs, err := postgres.NewLogs(db, nil)
	fatal(b, err)
	fatal(b, logs.Migrate(b.Context()))
	for day := range logDays + 1 {
		from := logsEnd.AddDate(0, 0, -day)
		execSQL(b, db, fmt.Sprintf(`CREATE TABLE IF NOT EXISTS api_logs_p%s PARTITION OF api_logs FOR VALUES FROM ('%s+00') TO ('%s+00')
			WITH (autovacuum_vacuum_insert_threshold = 100000, autovacuum_vacuum_insert_scale_factor = 0)`,
			from.Format("20060102"), from.Format(time.DateTime), from.AddDate(0, 0, 1).Format(time.DateTime)))
	}
	loadLogs(b, db, logs, nil, nil)
	execSQL(b, db, "VACUUM (ANALYZE) api_logs")
	return db, logs, config
}

// loadedSQLite returns a store with all entries.
func loadedSQLite(b *testing.B) (*sql.DB, *sqlite.Logs) {
	b.Helper()
	db, err := sqlite.Open(filepath.Join(b.TempDir(), "logs.db"))
	fatal(b, err)
	b.Cleanup(func() { db.Close() })
	logs, err := sqlite.NewLogs(db, nil)
	fatal(b, err)
	fatal(b, logs.Migrate(b.Context()))
	loadLogs(b, db, logs, []string{"DROP INDEX api_logs_key_idx", "DROP INDEX api_logs_owner_idx"}, []string{
		"CREATE INDEX api_logs_key_idx ON api_logs (key_id, at, id, owner, status, lost)",
		"CREATE INDEX api_logs_owner_idx ON api_logs (owner, at, id, status, lost)"})
	return db, logs
}

func execSQL(b *testing.B, db *sql.DB, query string) {
	b.Helper()
	if _, err := db.Exec(query); err != nil {
		b.Fatalf("%s: %v", query, err)
	}
}

func loadLogs(b *testing.B, db *sql.DB, logs apilog.Store, before, after []string) {
	b.Helper()
	for _, query := range before {
		execSQL(b, db, query)
	}
	start := time.Now()
	const batch = 20_000
	entries := make([]apilog.Entry, batch)
	for i := 0; i < logEntries; i += batch {
		for j := range entries {
			entries[j] = logEntry(i+j, logEntries)
		}
		fatal(b, logs.Append(b.Context(), entries))
	}
	for _, query := range after {
		execSQL(b, db, query)
	}
	fmt.Printf("\n# %d entries loaded in %v\n", logEntries, time.Since(start).Round(time.Second))
}

// measureLogs prints how long reads take, and their plans. Explain returns that
// of the last read. It gets the query as SQLite has it, whose driver tells
// nobody what it executes.
func measureLogs(b *testing.B, logs apilog.Store, explain func(query string, args []any) string) {
	from, day := logsEnd.AddDate(0, 0, -logDays), 24*time.Hour
	big, medium := logOwner(0), logOwner(1)
	for _, test := range []struct {
		name string
		n    int
		read func(i int) error
		plan string
		args []any
	}{
		{"newest 50 of a key", 200, func(i int) error {
			return newest50(logs, apilog.Query{Owner: logOwner(i), KeyID: logKey(i, i%logKeys), Limit: 50})
		}, "SELECT * FROM api_logs WHERE +owner = ?1 AND key_id = ?2 ORDER BY at DESC, id DESC LIMIT 50",
			[]any{logOwner(7), logKey(7, 7)}},
		{"newest 50 of an owner", 200, func(i int) error { return newest50(logs, apilog.Query{Owner: logOwner(i), Limit: 50}) },
			"SELECT * FROM api_logs WHERE owner = ?1 ORDER BY at DESC, id DESC LIMIT 50", []any{logOwner(7)}},
		{"newest 50 of everybody", 200, func(int) error { return newest50(logs, apilog.Query{Limit: 50}) },
			"SELECT * FROM api_logs ORDER BY at DESC, id DESC LIMIT 50", nil},
		{"30 days of an owner of 8,000", 100, func(i int) error {
			_, err := logs.Histogram(b.Context(), apilog.Query{Owner: logOwner(2 + i), From: from, To: logsEnd}, day)
			return err
		}, "", nil},
		{"30 days of an owner of 316,000", 20, func(int) error {
			_, err := logs.Histogram(b.Context(), apilog.Query{Owner: medium, From: from, To: logsEnd}, day)
			return err
		}, "SELECT count(*), sum(status), sum(lost) FROM api_logs WHERE owner = ?1 AND at >= 0 AND at < 1", []any{medium}},
		{"30 days of an owner of 2 million", 5, func(int) error {
			_, err := logs.Histogram(b.Context(), apilog.Query{Owner: big, From: from, To: logsEnd}, day)
			return err
		}, "", nil},
		{"30 days of a key of 200,000", 20, func(i int) error {
			_, err := logs.Histogram(b.Context(), apilog.Query{Owner: big, KeyID: logKey(0, i%logKeys), From: from, To: logsEnd}, day)
			return err
		}, "", nil},
		{"one day of everybody", 5, func(int) error {
			_, err := logs.Histogram(b.Context(), apilog.Query{From: logsEnd.Add(-day), To: logsEnd}, time.Hour)
			return err
		}, "", nil},
	} {
		var took []time.Duration
		for i := range test.n {
			start := time.Now()
			if err := test.read(i); err != nil {
				b.Errorf("%s: %v", test.name, err)
				break
			}
			took = append(took, time.Since(start))
		}
		if len(took) == 0 {
			continue
		}
		fmt.Printf("\n# %s: first %v, %s\n", test.name, took[0].Round(10*time.Microsecond), quantiles(took[1:]))
		if test.plan != "" {
			fmt.Println(explain(test.plan, test.args))
		}
	}
}

func newest50(logs apilog.Store, q apilog.Query) error {
	entries, err := logs.List(context.Background(), q)
	if err == nil && len(entries) != 50 {
		err = fmt.Errorf("%d entries", len(entries))
	}
	return err
}

func quantiles(took []time.Duration) string {
	slices.Sort(took)
	ms := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000 }
	return fmt.Sprintf("p50 %.2f ms, p99 %.2f ms", ms(0.5), ms(0.99))
}

func plan(b *testing.B, db *sql.DB, query string, args ...any) string {
	rows, err := db.Query(query, args...)
	fatal(b, err)
	defer rows.Close()
	columns, err := rows.Columns()
	fatal(b, err)
	var lines []string
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		fatal(b, rows.Scan(values...))
		lines = append(lines, fmt.Sprint(*values[len(values)-1].(*any)))
	}
	if len(lines) > 12 { // one partition is like another
		lines = append(lines[:12], fmt.Sprintf("… %d more lines", len(lines)-12))
	}
	return strings.Join(lines, "\n")
}

// measureAppends appends batches of 1,000 for 20 seconds.
func measureAppends(b *testing.B, logs apilog.Store, writers int) {
	var mu sync.Mutex
	var took []time.Duration
	var group sync.WaitGroup
	start := time.Now()
	for range writers {
		group.Go(func() {
			entries := make([]apilog.Entry, 1000)
			for time.Since(start) < 20*time.Second {
				for i := range entries {
					entries[i] = logEntry(rand.IntN(1000), 1000)
					entries[i].Time = time.Now().UTC().Truncate(time.Microsecond)
					entries[i].ID = apilog.NewID(entries[i].Time)
				}
				begin := time.Now()
				if err := logs.Append(context.Background(), entries); err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(begin))
				mu.Unlock()
			}
		})
	}
	group.Wait()
	slices.Sort(took)
	median := took[len(took)/2]
	fmt.Printf("\n# %d writers append 1,000 entries: %s; %.0f entries/s by the median, %.0f/s in all\n",
		writers, quantiles(took), 1000*float64(writers)/median.Seconds(), 1000*float64(len(took))/time.Since(start).Seconds())
}

// measureRetention deletes the two oldest days while another writer appends.
func measureRetention(b *testing.B, logs apilog.Store) {
	var stop atomic.Bool
	var took []time.Duration
	var group sync.WaitGroup
	group.Go(func() {
		for !stop.Load() {
			e := logEntry(1, 1)
			e.Time = time.Now().UTC().Truncate(time.Microsecond)
			e.ID = apilog.NewID(e.Time)
			begin := time.Now()
			if err := logs.Append(context.Background(), []apilog.Entry{e}); err != nil {
				b.Error(err)
				return
			}
			took = append(took, time.Since(begin))
			time.Sleep(5 * time.Millisecond)
		}
	})
	begin := time.Now()
	n, err := logs.DeleteBefore(context.Background(), logsEnd.AddDate(0, 0, -logDays+2))
	fmt.Printf("\n# two days deleted: %d entries in %v, error %v\n", n, time.Since(begin).Round(time.Millisecond), err)
	stop.Store(true)
	group.Wait()
	slices.Sort(took)
	fmt.Printf("\n# meantime an append took %s, maximum %v\n", quantiles(took), took[len(took)-1].Round(100*time.Microsecond))
}
