package faults_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/sqlstore/postgres"
)

// childEnv is the variable that makes the test binary an instance in its own
// process. Its value is the URL of the database. The instance prints its own URL and
// serves until its standard input ends.
const childEnv = "AUTH_TEST_CHILD_DSN"

func serveChild(dsn string) {
	in, err := defaultInstance(dsn)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(in.server.URL)
	io.Copy(io.Discard, os.Stdin)
	if err := in.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// defaultInstance returns an instance without options.
func defaultInstance(dsn string) (*instance, error) {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	s, err := postgres.New(db, &postgres.Options{Logger: quiet})
	if err != nil {
		return nil, err
	}
	if err := s.Migrate(context.Background()); err != nil {
		return nil, err
	}
	return newInstance(db, s, cache.Options{}), nil
}

// startChild returns the URL of an instance in another process.
func startChild(t testing.TB, dsn string) string {
	t.Helper()
	url, _ := startChildProcess(t, dsn)
	return url
}

// startChildProcess returns its process ID too.
func startChildProcess(t testing.TB, dsn string) (url string, pid int) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	child := exec.Command(exe)
	child.Env = append(os.Environ(), childEnv+"="+dsn)
	child.Stderr = os.Stderr
	stdin, err := child.StdinPipe()
	must(t, err)
	stdout, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	t.Cleanup(func() {
		stdin.Close()
		if err := child.Wait(); err != nil {
			t.Errorf("the other process: %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	return strings.TrimSpace(line), child.Process.Pid
}

// BenchmarkTwoProcesses revokes keys in one process and asks another, both under
// load, and reports how long the other one still answers 200.
//
//	go test -run '^$' -bench TwoProcesses -benchtime 250x ./faults
func BenchmarkTwoProcesses(b *testing.B) {
	p := startTwoProcesses(b)
	for b.Loop() {
		p.revoke(b)
	}
	last := p.report(b)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(quantile(last, 0.5)), "median-ms")
	b.ReportMetric(ms(quantile(last, 0.99)), "p99-ms")
	b.ReportMetric(ms(slices.Max(last)), "max-ms")
}

func TestTwoProcesses(t *testing.T) {
	p := startTwoProcesses(t)
	for range 20 {
		p.revoke(t)
	}
	p.report(t)
}

type twoProcesses struct {
	here   *instance
	there  string // the URL of the other process
	client *http.Client

	last, first []time.Duration // from the return of Revoke to the last 200 and the first 401
	answers     func() int64
}

func startTwoProcesses(t testing.TB) *twoProcesses {
	dsn := pgtest.DSN(t)
	here, err := defaultInstance(dsn)
	must(t, err)
	t.Cleanup(func() { here.close() })
	p := &twoProcesses{here: here, there: startChild(t, dsn), client: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(p.client.CloseIdleConnections)
	p.answers = p.load(t)
	return p
}

// load keeps both processes busy with other keys, known and unknown, until the test
// ends.
func (p *twoProcesses) load(t testing.TB) (answers func() int64) {
	var keys []string
	for range 100 {
		_, key := p.here.create(t)
		keys = append(keys, key)
	}
	ctx, cancel := context.WithCancel(context.Background())
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	var workers sync.WaitGroup
	var n atomic.Int64
	for _, url := range []string{p.here.server.URL, p.there} {
		for i := range 10 {
			workers.Go(func() {
				for j := i; ctx.Err() == nil; j++ {
					key, want := keys[j%len(keys)], accepted
					if i >= 8 {
						key, want = auth.Scheme{}.NewKey().Reveal(), unknown
					}
					if got := get(context.Background(), client, url, key); got != want {
						t.Errorf("%q, want %q", got, want)
					}
					n.Add(1)
				}
			})
		}
	}
	t.Cleanup(func() { cancel(); workers.Wait(); client.CloseIdleConnections() })
	return n.Load
}

// revoke creates a key, waits until the other process has it in memory, revokes it
// here and asks there again and again.
func (p *twoProcesses) revoke(t testing.TB) {
	r, key := p.here.create(t)
	warm := make(chan bool, 1)
	refused := make(chan bool)
	var last, first time.Time
	go func() {
		defer close(refused)
		start := time.Now()
		for n := 0; ; n++ {
			got := get(context.Background(), p.client, p.there, key)
			now := time.Now()
			switch {
			case got == accepted && first.IsZero():
				last = now
			case got == revoked && first.IsZero():
				first, n = now, 0
			case got != revoked:
				t.Errorf("%q", got)
				return
			}
			if n == 3 {
				if !first.IsZero() {
					return
				}
				warm <- true
			}
			if now.Sub(start) > time.Minute {
				t.Error("accepted for a minute")
				return
			}
		}
	}()
	select {
	case <-warm:
	case <-refused:
		t.Fatal("not accepted before it is revoked")
	}
	must(t, p.here.manage.Revoke(context.Background(), r.ID))
	committed := time.Now()
	<-refused
	p.last = append(p.last, max(0, last.Sub(committed)))
	p.first = append(p.first, first.Sub(committed))
}

func (p *twoProcesses) report(t testing.TB) (last []time.Duration) {
	for _, list := range []struct {
		what  string
		after []time.Duration
	}{{"last 200", p.last}, {"first 401", p.first}} {
		t.Logf("%s after Revoke returned, of %d revocations: median %.1f ms, 99th percentile %.1f ms, maximum %.1f ms",
			list.what, len(list.after), ms(quantile(list.after, 0.5)), ms(quantile(list.after, 0.99)), ms(slices.Max(list.after)))
	}
	n := 0
	for _, d := range p.last {
		if d > 0 {
			n++
		}
	}
	t.Logf("in %d cases there was a 200 after it; %d other requests at the same time", n, p.answers())
	return p.last
}

// quantile returns the smallest element that is not exceeded by that share of all
// elements.
func quantile(list []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
