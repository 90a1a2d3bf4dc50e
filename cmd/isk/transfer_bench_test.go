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

	"github.com/insigner/auth/internal/pgtest"
)

// BenchmarkTransfer imports and exports many keys by the command itself, and
// reports the rows per second, the seconds of processor time of the command and
// its peak of resident memory:
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
			for _, format := range []string{"csv", "jsonl"} {
				b.Run(fmt.Sprintf("%s/%s/rows=%d", kind, format, rows), func(b *testing.B) {
					benchmarkTransfer(b, kind, format, rows)
				})
			}
		}
	}
}

func benchmarkTransfer(b *testing.B, kind, format string, rows int) {
	dir := b.TempDir()
	database := func() string {
		if kind == "postgres" {
			return pgtest.DSN(b)
		}
		return (&url.URL{Scheme: "sqlite", Path: filepath.Join(dir, rand.Text())}).String()
	}
	file, backup := filepath.Join(dir, "new.csv"), filepath.Join(dir, "backup."+format)
	writeNewKeys(b, file, rows)
	first, second := database(), database()
	runIsk(b, first, "migrate")
	runIsk(b, second, "migrate")
	runIsk(b, first, "import", file)
	b.ResetTimer()
	for _, step := range []struct {
		name string
		args []string
		url  string
	}{
		{"export", []string{"export", "--format", format, "--output", backup}, first},
		{"import", []string{"import", backup}, second},
	} {
		before := b.Elapsed()
		used := runIsk(b, step.url, step.args...)
		seconds := (b.Elapsed() - before).Seconds()
		b.ReportMetric(float64(rows)/seconds, step.name+"-rows/s")
		b.ReportMetric(float64(used.Utime.Sec)+float64(used.Stime.Sec), step.name+"-cpu-s")
		b.ReportMetric(float64(used.Maxrss)/1024, step.name+"-peak-MB")
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
