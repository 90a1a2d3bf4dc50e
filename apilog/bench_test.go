package apilog

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/felixge/httpsnoop"
	"github.com/insigner/auth"
)

// discard is a Store that keeps nothing, so that only the Recorder is measured.
type discard struct{ Store }

func (discard) Append(context.Context, []Entry) error                             { return nil }
func (discard) DeleteBefore(context.Context, time.Time) (int64, error)            { return 0, nil }
func (discard) List(context.Context, Query) ([]Entry, error)                      { return nil, nil }
func (discard) DeleteOwner(context.Context, string) (int64, error)                { return 0, nil }
func (discard) Histogram(context.Context, Query, time.Duration) ([]Bucket, error) { return nil, nil }

// A plainWriter has what the ResponseWriter of HTTP/1 has.
type plainWriter struct{ header http.Header }

func (w *plainWriter) Header() http.Header                          { return w.header }
func (w *plainWriter) WriteHeader(int)                              {}
func (w *plainWriter) Write(b []byte) (int, error)                  { return len(b), nil }
func (w *plainWriter) WriteString(s string) (int, error)            { return len(s), nil }
func (w *plainWriter) Flush()                                       {}
func (w *plainWriter) FlushError() error                            { return nil }
func (w *plainWriter) ReadFrom(src io.Reader) (int64, error)        { return io.Copy(io.Discard, src) }
func (w *plainWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, io.EOF }
func (w *plainWriter) SetReadDeadline(time.Time) error              { return nil }
func (w *plainWriter) SetWriteDeadline(time.Time) error             { return nil }
func (w *plainWriter) EnableFullDuplex() error                      { return nil }
func (w *plainWriter) CloseNotify() <-chan bool                     { return nil }

// A oneKey is an auth.Store of one record.
type oneKey struct{ record *auth.Record }

func (s oneKey) Lookup(_ context.Context, hash auth.Hash) (*auth.Record, error) {
	if hash != s.record.Hash {
		return nil, auth.ErrNotFound
	}
	return s.record, nil
}

// A harness serves one request in several ways.
type harness struct {
	recorder *Recorder
	w        *plainWriter
	request  *http.Request
	key      auth.Key
	store    oneKey
}

func newHarness(t testing.TB) *harness {
	h := &harness{
		recorder: NewRecorder(discard{}, &Options{KeylessPerSecond: 1 << 30, QueueSize: 1 << 20}),
		w:        &plainWriter{header: http.Header{}},
		request:  httptest.NewRequest("GET", "/documents/42", nil),
		key:      auth.Scheme{}.NewKey(),
	}
	t.Cleanup(func() { h.recorder.Close(context.Background()) })
	h.request.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	h.request.Header.Set("X-Request-Id", "req_123456")
	h.request.Header.Set("Authorization", "Bearer "+h.key.Reveal())
	h.store.record = &auth.Record{ID: "key_1", Owner: "org_1", Hash: auth.Scheme{}.Hashes(h.key)[0], Scopes: auth.Scopes{"*"}}
	return h
}

var body = []byte(`{"data":[]}`)

func answerBody(w http.ResponseWriter, _ *http.Request) { w.Write(body) }

// serve returns a function that serves the request by handler.
func (h *harness) serve(handler http.Handler) func() {
	return func() { handler.ServeHTTP(h.w, h.request) }
}

// snoop wraps a handler with httpsnoop alone, with the hooks of a Recorder.
func snoop(handler http.Handler) http.Handler {
	v := &visit{Context: context.Background()}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(httpsnoop.Wrap(w, v.hooks(w)), r)
	})
}

func capture(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		httpsnoop.CaptureMetrics(handler, w, r)
	})
}

// authenticated wraps a handler with an Authenticator.
func (h *harness) authenticated(hook func(context.Context, auth.Decision), handler http.Handler) http.Handler {
	return auth.New(h.store, &auth.Options{OnDecision: hook}).Middleware(handler)
}

// BenchmarkMiddleware compares a recorded request with one that httpsnoop wraps
// with the same hooks, and with httpsnoop.CaptureMetrics. They take turns of
// 1,000 requests each. What the Recorder has queued is written before the next
// turn, and not measured: no request waits for it.
//
//	go test -run '^$' -bench Middleware -benchtime 500x -count 6 .
func BenchmarkMiddleware(b *testing.B) {
	h := newHarness(b)
	handler := http.HandlerFunc(answerBody)
	turns := []struct {
		name  string
		serve func()
		took  []float64 // ns for each request
	}{
		{name: "bare", serve: h.serve(handler)},
		{name: "snoop", serve: h.serve(snoop(handler))},
		{name: "metrics", serve: h.serve(capture(handler))},
		{name: "recorder", serve: h.serve(h.recorder.Middleware(handler))},
	}
	for b.Loop() {
		for i := range turns {
			turn := &turns[i]
			const requests = 1000
			began := time.Now()
			for range requests {
				turn.serve()
			}
			turn.took = append(turn.took, float64(time.Since(began))/requests)
			h.recorder.writer.wake()
			for h.recorder.queue.held() > 0 {
				runtime.Gosched()
			}
		}
	}
	b.ReportMetric(0, "ns/op") // of all turns, which says nothing
	for _, turn := range turns {
		slices.Sort(turn.took)
		b.ReportMetric(turn.took[len(turn.took)/2], turn.name+"-ns")
	}
}

func (q *queue) held() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.size
}

// A connection that could not be hijacked is one that can be answered.
func TestHijackOfHTTP1Fails(t *testing.T) {
	v := &visit{Context: context.Background()}
	w := v.wrap(&plainWriter{header: http.Header{}}).(*http1Writer)
	if _, _, err := w.Hijack(); err != io.EOF {
		t.Errorf("the error is %v", err)
	}
	if status := v.status.Load(); status != 0 {
		t.Errorf("status %d, want none yet", status)
	}
}

// A recorded request makes at most two allocations more than one of
// httpsnoop.CaptureMetrics. With the ResponseWriter of a server it makes fewer.
func TestMiddlewareAllocates(t *testing.T) {
	h := newHarness(t)
	handler := http.HandlerFunc(answerBody)
	ignore := func(context.Context, auth.Decision) {}
	wraps := []struct {
		name           string
		captured, ours http.Handler
	}{
		{"without a key", capture(handler), h.recorder.Middleware(handler)},
		{"with a key", capture(h.authenticated(ignore, handler)), h.recorder.Middleware(h.authenticated(h.recorder.OnDecision, handler))},
	}
	for name, w := range map[string]http.ResponseWriter{
		"HTTP/1":     h.w,
		"a bare one": struct{ http.ResponseWriter }{h.w},
		"a Flusher": struct {
			http.ResponseWriter
			http.Flusher
		}{h.w, h.w},
	} {
		for _, c := range wraps {
			base := testing.AllocsPerRun(2000, func() { c.captured.ServeHTTP(w, h.request) })
			got := testing.AllocsPerRun(2000, func() { c.ours.ServeHTTP(w, h.request) })
			t.Logf("ResponseWriter of %s, %s: %.0f allocations, %.0f with httpsnoop", name, c.name, got, base)
			if got > base+2 {
				t.Errorf("ResponseWriter of %s, %s: %.0f allocations, want at most 2 more than %.0f", name, c.name, got, base)
			}
		}
	}
}
