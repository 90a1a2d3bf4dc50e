//go:build linux

package main

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insigner/auth/internal/pgtest"
)

// BenchmarkTransfer imports and exports many keys by the command itself, and
// reports the seconds, and the peak of the resident memory of the command. With
// -v it prints the processor time, too:
//
//	ISK_BENCH_ROWS=10000,100000,1000000 go test -run '^$' -bench Transfer -benchtime 1x -timeout 2h ./cmd/isk
func BenchmarkTransfer(b *testing.B) {
	sizes := os.Getenv("ISK_BENCH_ROWS")
	if sizes == "" {
		sizes = "10000"
	}
	for _, kind := range []string{"sqlite", "postgres"} {
		for size := range strings.SplitSeq(sizes, ",") {
			rows, err := strconv.Atoi(size)
			if err != nil {
				b.Fatal("ISK_BENCH_ROWS is numbers, separated by commas")
			}
			b.Run(fmt.Sprintf("%s/rows=%d", kind, rows), func(b *testing.B) { benchmarkTransfer(b, kind, rows) })
		}
	}
}

func benchmarkTransfer(b *testing.B, kind string, rows int) {
	dir := b.TempDir()
	database := func() string {
		u := (&url.URL{Scheme: "sqlite", Path: filepath.Join(dir, rand.Text())}).String()
		if kind == "postgres" {
			u = pgtest.DSN(b)
		}
		runIsk(b, u, "migrate")
		return u
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	writeNewKeys(b, file("new.csv"), rows)
	first, second := database(), database()
	b.ResetTimer()
	for _, step := range []struct {
		name, url string
		args      []string
	}{
		{"import-csv", first, []string{"import", file("new.csv")}},
		{"export-csv", first, []string{"export", "--output", file("all.csv")}},
		{"export-jsonl", first, []string{"export", "--format", "jsonl", "--output", file("all.jsonl")}},
		{"import-jsonl", second, []string{"import", file("all.jsonl")}}, // a restore
	} {
		before := b.Elapsed()
		used := runIsk(b, step.url, step.args...)
		b.ReportMetric((b.Elapsed() - before).Seconds(), step.name+"-s")
		b.ReportMetric(float64(used.Maxrss)/1024, step.name+"-peak-MB")
		b.Logf("%s: %.1f s of processor time", step.name, time.Duration(used.Utime.Nano()+used.Stime.Nano()).Seconds())
	}
}

// runIsk runs the command and returns what it has used.
func runIsk(b *testing.B, database string, args ...string) *syscall.Rusage {
	b.Helper()
	c := command(database, args...)
	if out, err := c.CombinedOutput(); err != nil {
		b.Fatalf("isk %s: %v: %s", args[0], err, out)
	}
	return c.ProcessState.SysUsage().(*syscall.Rusage)
}

// writeNewKeys writes a CSV with hashes, as an import from another system has.
func writeNewKeys(b *testing.B, name string, rows int) {
	b.Helper()
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, "hash,name,owner,scopes,expiresAt,metadata")
	hash := make([]byte, 32)
	for i := range rows {
		rand.Read(hash)
		fmt.Fprintf(w, "%x,Key %d,org_%d,documents.read documents.create,2099-12-31,\"{\"\"team\"\":\"\"%d\"\"}\"\n", hash, i, i%1000, i%7)
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}
