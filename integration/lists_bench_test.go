package integration

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// A lastQuery is a tracer that keeps the last query of a connection.
type lastQuery struct {
	sql  string
	args []any
}

func (q *lastQuery) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	q.sql, q.args = d.SQL, d.Args
	return ctx
}

func (q *lastQuery) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// BenchmarkLists lists keys of a PostgreSQL server that has a million of them, of
// 10,000 owners. It prints the plan of each query.
//
//	go test -run '^$' -bench Lists .
func BenchmarkLists(b *testing.B) {
	config, err := pgx.ParseConfig(pgtest.DSN(b))
	fatal(b, err)
	last := new(lastQuery)
	config.Tracer = last
	db := stdlib.OpenDB(*config)
	b.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	store, err := postgres.New(db, &postgres.Options{Logger: silent})
	fatal(b, err)
	fatal(b, store.Migrate(b.Context()))
	for _, query := range []string{
		"ALTER TABLE api_keys DISABLE TRIGGER USER",
		`INSERT INTO api_keys (id, hash, hint, name, owner, scopes, created_at, created_by, expires_at, disabled_at, revoked_at, chain)
			SELECT 'key_' || n, sha256(n::text::bytea), 'isk_…' || n % 10000, 'key ' || md5(n::text), 'org_' || n % 10000,
				'["documents.read"]', now() - n * interval '1 second', 'user_' || n % 20000,
				CASE WHEN n % 3 = 0 THEN now() + (n - 500000) * interval '1 second' END,
				CASE WHEN n % 1000 = 1 THEN now() END, CASE WHEN n % 10 = 0 THEN now() END, 'key_' || n
			FROM generate_series(1, 1000000) n`,
		"ALTER TABLE api_keys ENABLE TRIGGER USER",
		"VACUUM ANALYZE api_keys",
	} {
		if _, err := db.Exec(query); err != nil {
			b.Fatal(err)
		}
	}
	now := time.Now()
	for _, test := range []struct {
		name string
		q    keyring.Query
		want int
	}{
		{"newest 50 of an owner", keyring.Query{Owner: "org_77"}, 50},
		{"active keys of an owner", keyring.Query{Owner: "org_77", States: keyring.Active, Now: now}, 50},
		{"text within an owner", keyring.Query{Owner: "org_77", Text: "a1b"}, -1},
		{"newest 50 of everybody", keyring.Query{}, 50},
		{"disabled keys of everybody", keyring.Query{States: keyring.Disabled, Now: now}, 50},
		{"expiring in an hour of everybody", keyring.Query{ExpiresFrom: now, ExpiresBefore: now.Add(time.Hour)}, 50},
		{"text over everybody, rare", keyring.Query{Text: "key_123456"}, 1},
		{"text over everybody, none", keyring.Query{Text: "no such text"}, 0},
	} {
		b.Run(strings.ReplaceAll(test.name, " ", "-"), func(b *testing.B) {
			test.q.NewestFirst, test.q.Limit = true, 50
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				page, err := store.List(b.Context(), test.q)
				fatal(b, err)
				took = append(took, time.Since(start))
				if test.want >= 0 && len(page) != test.want {
					b.Fatalf("%d keys, want %d", len(page), test.want)
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			rows, err := db.Query("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) "+last.sql, last.args...)
			fatal(b, err)
			defer rows.Close()
			var plan strings.Builder
			for rows.Next() {
				var line string
				fatal(b, rows.Scan(&line))
				plan.WriteString("\n    " + line)
			}
			fatal(b, rows.Err())
			b.Log(test.name + plan.String())
		})
	}
}
