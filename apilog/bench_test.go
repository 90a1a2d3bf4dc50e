package apilog

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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

// newRequests returns the same request with httpsnoop alone, with the same
// hooks, and with a Recorder. The second result waits until all is written.
func newRequests(t testing.TB) (snoop, recorded func(), wait func()) {
	answer := []byte(`{"data":[]}`)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(answer)
	})
	var recorder *Recorder
	manyKeys := &auth.Record{ID: "key_1", Owner: "org_1"}
	_ = manyKeys
	recorder = NewRecorder(discard{}, &Options{KeylessPerSecond: 1 << 30, QueueSize: 1 << 20})
	t.Cleanup(func() { recorder.Close(context.Background()) })
	outer := recorder.Middleware(handler)
	request := httptest.NewRequest("GET", "/documents/42", nil)
	request.Header.Set("User-Agent", "curl/8.5.0")
	request.Header.Set("X-Request-Id", "req_123456")
	w := &plainWriter{header: http.Header{}}
	v := &visit{Context: context.Background()}
	snoop = func() {
		handler.ServeHTTP(httpsnoop.Wrap(w, v.hooks()), request)
	}
	recorded = func() { outer.ServeHTTP(w, request) }
	wait = func() { recorder.writer.wake() }
	return snoop, recorded, wait
}

// BenchmarkMiddleware compares a recorded request with one that httpsnoop wraps
// with the same hooks.
//
//	go test -run '^$' -bench Middleware -count 6 .
func BenchmarkMiddleware(b *testing.B) {
	snoop, recorded, wait := newRequests(b)
	b.Run("httpsnoop", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			snoop()
		}
	})
	b.Run("recorder", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			recorded()
		}
		wait()
	})
}

func TestMiddlewareAllocates(t *testing.T) {
	snoop, recorded, _ := newRequests(t)
	base := testing.AllocsPerRun(1000, snoop)
	if got := testing.AllocsPerRun(1000, recorded); got > base+2 {
		t.Errorf("a recorded request makes %.0f allocations, want at most 2 more than the %.0f of httpsnoop", got, base)
	}
}
