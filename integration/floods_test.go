package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A flood is what clients do who want to do harm.
type flood struct {
	name    string
	clients int
	header  func() string // Authorization; may be empty
	leaves  time.Duration // a client hangs up after up to that time, if it is not 0
	bare    bool          // the server checks no key: what the flood costs without auth
	streams int           // the server's HTTP2.MaxConcurrentStreams, if it is not 0
}

func madeUp() string { return "Bearer " + auth.Scheme{}.NewKey().Reveal() }

var floods = []flood{
	{"none", 0, nil, 0, false, 0},
	{"made-up keys", 600, madeUp, 0, false, 0},
	{"made-up keys, bare", 600, madeUp, 0, true, 0},
	{"made-up keys, hanging up", 600, madeUp, 3 * time.Millisecond, false, 0},
	{"made-up keys, hanging up, bare", 600, madeUp, 3 * time.Millisecond, true, 0},
	{"streams opened and reset", 600, madeUp, 200 * time.Microsecond, false, 0},
	{"streams opened and reset, bare", 600, madeUp, 200 * time.Microsecond, true, 0},
	{"made-up keys, hanging up, 32 streams", 600, madeUp, 3 * time.Millisecond, false, 32},
	{"streams opened and reset, 32 streams", 600, madeUp, 200 * time.Microsecond, false, 32},
	{"missing keys", 600, func() string { return "" }, 0, false, 0},
	{"one valid key", 600, nil, 0, false, 0}, // the header is that of floodEnv
}

// What a server with the default options stays under in each flood. The
// server has a goroutine for each stream that is open: 250 for each connection.
const (
	poolSize      = 20
	floodConns    = 8
	maxGoroutines = 250*floodConns + 1000
	maxHeap       = 256 << 20
)

// floodEnv names the variable that makes the test binary a flood: its number,
// the URL, a valid key and the duration, separated by spaces.
const floodEnv = "INTEGRATION_FLOOD"

// runFlood sends requests until the time is over and the server has answered
// one, and prints how many.
func runFlood(spec string) {
	var number int
	var url, key string
	var seconds float64
	if _, err := fmt.Sscan(spec, &number, &url, &key, &seconds); err != nil {
		log.Fatal(err)
	}
	f := floods[number]
	header := f.header
	if header == nil {
		header = func() string { return "Bearer " + key }
	}
	ctx, cancel := context.WithCancel(context.Background())
	var sent atomic.Int64
	time.AfterFunc(time.Duration(seconds*float64(time.Second)), func() {
		for sent.Load() == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	})
	var clients sync.WaitGroup
	for range floodConns {
		if f.leaves > 0 {
			clients.Go(func() {
				for ctx.Err() == nil {
					reset(ctx, strings.TrimPrefix(url, "https://"), f.clients/floodConns, header, f.leaves, &sent)
				}
			})
			continue
		}
		client := newClient()
		for range f.clients / floodConns {
			clients.Go(func() {
				for ctx.Err() == nil {
					if _, err := send(ctx, client, url, header()); err == nil {
						sent.Add(1)
					}
				}
			})
		}
	}
	clients.Wait()
	fmt.Println(sent.Load())
}

// reset opens streams on one connection of HTTP/2 (RFC 9113), and resets each
// after up to some time. It returns when the server closes the connection.
func reset(ctx context.Context, address string, streams int, header func() string, leaves time.Duration,
	sent *atomic.Int64) {
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	var mu sync.Mutex // of everything that is written
	write := func(f func() error) bool {
		mu.Lock()
		defer mu.Unlock()
		return f() == nil
	}
	write(func() error { return framer.WriteSettings() })
	var clients sync.WaitGroup
	var buf bytes.Buffer
	encoder := hpack.NewEncoder(&buf)
	next := uint32(1)
	for range streams {
		clients.Go(func() {
			for {
				var id uint32
				if !write(func() error {
					id, next = next, next+2
					buf.Reset()
					for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":path", "/"},
						{":authority", address}, {"authorization", header()}} {
						encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true})
					}
					return framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: buf.Bytes(),
						EndStream: true, EndHeaders: true})
				}) {
					return
				}
				time.Sleep(rand.N(leaves))
				if !write(func() error { return framer.WriteRSTStream(id, http2.ErrCodeCancel) }) {
					return
				}
				sent.Add(1)
			}
		})
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			break
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				write(framer.WriteSettingsAck)
			}
		case *http2.DataFrame:
			if n := frame.Length; n > 0 {
				write(func() error { return framer.WriteWindowUpdate(0, n) })
			}
		}
	}
	conn.Close()
	clients.Wait()
}

// newClient returns a client that speaks HTTP/2 on a connection of its own.
func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true,
	}}
}

func send(ctx context.Context, client *http.Client, url, header string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return 0, err
	}
	if header != "" {
		r.Header.Set("Authorization", header)
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Body.Close()
}

// A floodResult is what a server went through.
type floodResult struct {
	sent                        int // requests of the flood that were answered or reset
	after                       int // the status of a valid key after the flood
	valid, revoke               []time.Duration
	unavailable                 int // answers to valid keys
	goroutines                  int
	heap                        uint64
	sessions, newSessions, pool int
}

// withstand starts a server with the default options on PostgreSQL, and measures
// valid keys and revocations during the flood.
func withstand(t testing.TB, number int, d time.Duration) floodResult {
	dsn := pgtest.DSN(t)
	psql, db := openDB(t, dsn), openDB(t, dsn)
	db.SetMaxOpenConns(poolSize)
	db.SetMaxIdleConns(poolSize)
	store, err := postgres.New(db, &postgres.Options{Logger: silent})
	fatal(t, err)
	fatal(t, store.Migrate(t.Context()))
	defer store.Close()
	cached := cache.New(store, &cache.Options{Logger: silent})
	defer cached.Close()
	uses := keyring.NewLastUsedRecorder(store, &keyring.LastUsedOptions{Logger: silent})
	defer uses.Close()
	a := auth.New(cached, &auth.Options{Logger: slog.New(slog.DiscardHandler), OnDecision: uses.OnDecision})
	var handler http.Handler = http.HandlerFunc(list)
	if !floods[number].bare {
		handler = a.Middleware(auth.Require("documents.read")(handler))
	}
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: floods[number].streams}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	keys := keyring.NewManager(store, nil).Unconfined("test")
	create := func() (auth.Record, string) {
		r, key, err := keys.Create(t.Context(), keyring.Spec{Name: "test", Owner: "org_1", Scopes: auth.Scopes{"documents.read"}})
		fatal(t, err)
		return r, "Bearer " + key.Reveal()
	}
	var valid []string
	for range 20 {
		_, header := create()
		valid = append(valid, header)
	}
	client := newClient()
	defer client.CloseIdleConnections()

	for _, header := range valid { // as a server that has run for a while
		status, err := send(t.Context(), client, server.URL, header)
		fatal(t, err)
		if status != 200 {
			t.Fatalf("a valid key: %d", status)
		}
	}
	result := floodResult{}
	begin := sessionsOf(t, psql)
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var running sync.WaitGroup
	exe, err := os.Executable()
	fatal(t, err)
	child := exec.Command(exe)
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s %s %g", floodEnv, number, server.URL,
		strings.TrimPrefix(valid[0], "Bearer "), d.Seconds()))
	child.Stderr = os.Stderr
	running.Go(func() {
		out, err := child.Output()
		if err != nil {
			t.Errorf("the flood: %v", err)
		}
		fmt.Sscan(string(out), &result.sent)
	})
	running.Go(func() { // valid keys
		for i := 0; ctx.Err() == nil; i++ {
			start := time.Now()
			status, err := send(context.Background(), client, server.URL, valid[i%len(valid)])
			switch status {
			case 200:
				result.valid = append(result.valid, time.Since(start))
			case 503:
				result.unavailable++
			default:
				t.Errorf("a valid key: %d, %v", status, err)
			}
			time.Sleep(time.Millisecond)
		}
	})
	running.Go(func() { // revocations
		for ctx.Err() == nil {
			r, header := create()
			start := time.Now()
			if err := keys.Revoke(context.Background(), r.ID); err != nil {
				t.Errorf("Revoke: %v", err)
			}
			result.revoke = append(result.revoke, time.Since(start))
			if floods[number].bare {
				time.Sleep(50 * time.Millisecond)
				continue
			}
			// It is new here, so the database has to be asked.
			if status, err := send(context.Background(), client, server.URL, header); status != 401 && status != 503 {
				t.Errorf("a revoked key: %d, %v", status, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	for ctx.Err() == nil {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		result.heap = max(result.heap, m.HeapInuse)
		result.goroutines = max(result.goroutines, runtime.NumGoroutine())
		result.pool = max(result.pool, db.Stats().OpenConnections)
		var n int
		fatal(t, psql.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()").Scan(&n))
		result.sessions = max(result.sessions, n)
		time.Sleep(100 * time.Millisecond)
	}
	running.Wait()
	result.after, err = send(t.Context(), client, server.URL, valid[0])
	fatal(t, err)
	result.newSessions = sessionsOf(t, psql) - begin
	slices.Sort(result.valid)
	slices.Sort(result.revoke)
	return result
}

func openDB(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	fatal(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func sessionsOf(t testing.TB, db *sql.DB) (n int) {
	t.Helper()
	fatal(t, db.QueryRow("SELECT sessions FROM pg_stat_database WHERE datname = current_database()").Scan(&n))
	return n
}

func (r *floodResult) check(t testing.TB, f flood) {
	t.Helper()
	if r.sent == 0 && f.clients > 0 {
		t.Fatal("the flood reached nothing")
	}
	if len(r.valid) == 0 {
		t.Fatal("no valid key was accepted during the flood")
	}
	if len(r.revoke) == 0 {
		t.Fatal("no key was revoked during the flood")
	}
	if r.after != 200 {
		t.Errorf("after the flood, a valid key gets %d, want 200", r.after)
	}
	if r.goroutines > maxGoroutines {
		t.Errorf("%d goroutines, want at most %d", r.goroutines, maxGoroutines)
	}
	if r.heap > maxHeap {
		t.Errorf("%d MB of heap, want at most %d", r.heap>>20, maxHeap>>20)
	}
	if r.pool > poolSize {
		t.Errorf("%d connections in the pool, want at most %d", r.pool, poolSize)
	}
	// The pool, Watch, its heartbeat, and the test.
	if most := poolSize + 4; r.sessions > most {
		t.Errorf("%d sessions at once, want at most %d", r.sessions, most)
	}
	// The pool once, and a heartbeat every few seconds.
	if most := poolSize + 30; r.newSessions > most {
		t.Errorf("%d new sessions, want at most %d", r.newSessions, most)
	}
}

// TestFloods checks for some seconds that the bounds hold. No answer to a valid or
// to a revoked key is wrong.
func TestFloods(t *testing.T) {
	for i, f := range floods {
		if f.bare || f.streams > 0 { // for the benchmark
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			r := withstand(t, i, 3*time.Second)
			r.check(t, f)
		})
	}
}

// BenchmarkFloods measures valid keys and revocations during a flood of 30
// seconds, and what the same flood does to a server that checks no key. Server,
// flood and database share the machine.
//
//	go test -run '^$' -bench Floods -benchtime 1x .
func BenchmarkFloods(b *testing.B) {
	for i, f := range floods {
		b.Run(strings.NewReplacer(",", "", " ", "-").Replace(f.name), func(b *testing.B) {
			for b.Loop() {
				r := withstand(b, i, 30*time.Second)
				r.check(b, f)
				ms := func(list []time.Duration, q float64) float64 {
					return float64(list[int(q*float64(len(list)-1))].Microseconds()) / 1000
				}
				b.ReportMetric(ms(r.valid, 0.5), "valid-p50-ms")
				b.ReportMetric(ms(r.valid, 0.99), "valid-p99-ms")
				b.ReportMetric(float64(r.unavailable), "valid-503")
				b.ReportMetric(ms(r.revoke, 1), "revoke-max-ms")
				b.ReportMetric(float64(r.goroutines), "goroutines")
				b.ReportMetric(float64(r.heap>>20), "heap-MB")
				b.ReportMetric(float64(r.sessions), "sessions")
				b.ReportMetric(float64(r.newSessions), "new-sessions")
				b.ReportMetric(0, "ns/op")
				b.Logf("the flood sent %d requests; %d with valid keys, %d revocations", r.sent, len(r.valid), len(r.revoke))
			}
		})
	}
}
