package apilog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"
)

var fileContent = strings.Repeat("0123456789", 100_000)

// What handlers do to a ResponseWriter, and what an entry says about it. Bytes
// below 0 are not checked.
var answers = []struct {
	name   string
	method string
	serve  func(w http.ResponseWriter, r *http.Request)
	status int
	bytes  int64
}{
	{"nothing", "GET", func(http.ResponseWriter, *http.Request) {}, 200, 0},
	{"Write", "GET", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello")) }, 200, 5},
	{"WriteString", "GET", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }, 200, 5},
	{"Fprint", "GET", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello", 1) }, 200, 6},
	{"404", "GET", http.NotFound, 404, 19},
	{"302", "GET", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) }, 302, -1},
	{"two statuses", "GET", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); w.WriteHeader(500) }, 404, 0},
	{"a status after a body", "GET", func(w http.ResponseWriter, _ *http.Request) { w.Write(nil); w.WriteHeader(500) }, 200, 0},
	{"Flush", "GET", func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush(); w.WriteHeader(500) }, 200, 0},
	{"FlushError", "GET", func(w http.ResponseWriter, _ *http.Request) {
		http.NewResponseController(w).Flush()
		w.WriteHeader(500)
	}, 200, 0},
	{"204 with a body", "GET", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204); w.Write([]byte("no")) }, 204, 0},
	{"304 with a body", "GET", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304); io.WriteString(w, "no") }, 304, 0},
	{"HEAD", "HEAD", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello")) }, 200, 5},
	{"103 and 200", "GET", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(103)
		io.WriteString(w, "hello")
	}, 200, 5},
	{"103 and 404", "GET", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(404) }, 404, 0},
	{"trailers", "GET", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "Sum")
		io.WriteString(w, "hello")
		w.Header().Set("Sum", "1")
		w.Header().Set(http.TrailerPrefix+"More", "2")
	}, 200, 5},
	{"ServeContent", "GET", serveContent, 200, int64(len(fileContent))},
	{"ServeContent of HEAD", "HEAD", serveContent, 200, 0},
	{"a range", "GET", func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Range", "bytes=10-19")
		serveContent(w, r)
	}, 206, 10},
	{"io.Copy", "GET", func(w http.ResponseWriter, _ *http.Request) {
		io.Copy(w, strings.NewReader(fileContent))
	}, 200, int64(len(fileContent))},
	{"a body that is too large", "POST", func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 2)
		if _, err := io.ReadAll(r.Body); errors.As(err, new(*http.MaxBytesError)) {
			w.WriteHeader(413)
		}
	}, 413, 0},
	{"TimeoutHandler in time", "GET", func(w http.ResponseWriter, r *http.Request) {
		http.TimeoutHandler(http.NotFoundHandler(), time.Hour, "").ServeHTTP(w, r)
	}, 404, 19},
	{"own deadline", "GET", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 0)
		defer cancel()
		http.Error(w, ctx.Err().Error(), http.StatusGatewayTimeout)
	}, 504, -1},
	{"deadlines", "GET", func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		fmt.Fprint(w, c.SetReadDeadline(time.Now().Add(time.Hour)), c.SetWriteDeadline(time.Time{}), c.EnableFullDuplex())
	}, 200, -1},
	{"powers", "GET", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, powers(w)) }, 200, -1},
}

func serveContent(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "f.txt", time.Time{}, strings.NewReader(fileContent))
}

// powers returns what w can do beyond a ResponseWriter.
func powers(w http.ResponseWriter) []string {
	var has []string
	add := func(name string, ok bool) {
		if ok {
			has = append(has, name)
		}
	}
	_, ok := w.(http.Flusher)
	add("Flusher", ok)
	_, ok = w.(interface{ FlushError() error })
	add("FlushError", ok)
	_, ok = w.(http.Hijacker)
	add("Hijacker", ok)
	_, ok = w.(http.Pusher)
	add("Pusher", ok)
	_, ok = w.(io.ReaderFrom)
	add("ReaderFrom", ok)
	_, ok = w.(io.StringWriter)
	add("StringWriter", ok)
	//lint:ignore SA1019 handlers may still use it
	_, ok = w.(http.CloseNotifier)
	add("CloseNotifier", ok)
	return has
}

// exchange returns all that a client sees of an answer.
func exchange(t *testing.T, s *httptest.Server, method string) string {
	t.Helper()
	var got bytes.Buffer
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		fmt.Fprintln(&got, code, h)
		return nil
	}}
	body := io.Reader(http.NoBody)
	if method == "POST" {
		body = strings.NewReader("12345")
	}
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), method, s.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	client := *s.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	resp.Header.Del("Date")
	fmt.Fprintln(&got, resp.Proto, resp.Status, resp.Header, len(content), err, resp.Trailer)
	if len(content) < 1000 {
		got.Write(content)
	}
	return got.String()
}

func TestAnswers(t *testing.T) {
	overHTTP(t, func(t *testing.T, http2 bool) {
		for _, c := range answers {
			t.Run(c.name, func(t *testing.T) {
				h := http.HandlerFunc(c.serve)
				bare := exchange(t, newServer(t, http2, h), c.method)
				e := only(t, recorded(t, nil, h, func(h http.Handler) {
					s := newServer(t, http2, h)
					if got := exchange(t, s, c.method); got != bare {
						t.Errorf("a recorded answer is\n%s\nwithout a Recorder it is\n%s", got, bare)
					}
					s.Close()
				}))
				if e.Status != c.status {
					t.Errorf("status %d, want %d", e.Status, c.status)
				}
				if c.bytes >= 0 && e.ResponseBytes != c.bytes {
					t.Errorf("%d bytes, want %d", e.ResponseBytes, c.bytes)
				}
				if e.Method != c.method {
					t.Errorf("method %q, want %q", e.Method, c.method)
				}
			})
		}
	})
}

type (
	flusher    struct{ http.ResponseWriter }
	readerFrom struct{ http.ResponseWriter }
	pusher     struct{ flusher }
)

func (flusher) Flush()                                   {}
func (readerFrom) ReadFrom(src io.Reader) (int64, error) { return io.Copy(io.Discard, src) }
func (pusher) Push(string, *http.PushOptions) error      { return nil }

// The ResponseWriter of another Middleware outside keeps its methods, and what
// is done with them is noted.
func TestOtherResponseWriters(t *testing.T) {
	for _, w := range []http.ResponseWriter{
		httptest.NewRecorder(),
		struct{ http.ResponseWriter }{httptest.NewRecorder()},
		flusher{httptest.NewRecorder()},
		readerFrom{httptest.NewRecorder()},
		pusher{flusher{httptest.NewRecorder()}},
		failingHijacker{httptest.NewRecorder()},
	} {
		_, flushes := w.(http.Flusher)
		e := only(t, recorded(t, nil, http.HandlerFunc(func(inner http.ResponseWriter, _ *http.Request) {
			if got, want := powers(inner), powers(w); !slices.Equal(got, want) {
				t.Errorf("%T has %q, want %q", w, got, want)
			}
			if flushes {
				inner.(http.Flusher).Flush() // which is the status
			}
			inner.WriteHeader(http.StatusCreated)
			inner.Write([]byte("12"))
			io.WriteString(inner, "345")
			io.Copy(inner, struct{ io.Reader }{strings.NewReader("6789")}) // without its WriteTo
		}), func(h http.Handler) { h.ServeHTTP(w, requestWith("")) }))
		want := 201
		if flushes {
			want = 200
		}
		if e.Status != want {
			t.Errorf("%T: status %d, want %d", w, e.Status, want)
		}
		if e.ResponseBytes != 9 {
			t.Errorf("%T: %d bytes, want 9", w, e.ResponseBytes)
		}
	}
}

// The ResponseWriters of net/http take one allocation, so they must be known.
func TestResponseWritersOfServers(t *testing.T) {
	overHTTP(t, func(t *testing.T, http2 bool) {
		got := ""
		recorded(t, nil, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			got = fmt.Sprintf("%T", w)
		}), func(h http.Handler) { exchange(t, newServer(t, http2, h), "GET") })
		want := map[bool]string{false: "*apilog.http1Writer", true: "*apilog.http2Writer"}[http2]
		if got != want {
			t.Errorf("the ResponseWriter is wrapped as %s, want %s", got, want)
		}
	})
}

// An outer handler wraps the ResponseWriter, and offers only Unwrap. What
// http.ResponseController finds there is noted, too.
func TestUnwrapOnly(t *testing.T) {
	type unwraps interface {
		http.ResponseWriter
		Unwrap() http.ResponseWriter
	}
	for _, c := range []struct {
		name  string
		outer func(u unwraps) http.ResponseWriter
	}{
		{"nothing else", func(u unwraps) http.ResponseWriter { return u }},
		{"Flush", func(u unwraps) http.ResponseWriter {
			return struct {
				unwraps
				http.Flusher
			}{u, u.Unwrap().(http.Flusher)}
		}},
		{"Hijack", func(u unwraps) http.ResponseWriter {
			return struct {
				unwraps
				http.Hijacker
			}{u, u.Unwrap().(http.Hijacker)}
		}},
	} {
		for _, hijack := range []bool{true, false} {
			inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !hijack {
					http.NewResponseController(w).Flush()
					<-r.Context().Done() // the client has left, after an answer began
					return
				}
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
				conn.Close()
			})
			entries := recorded(t, nil, inner, func(h http.Handler) {
				done := make(chan struct{})
				s := newServer(t, false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer close(done)
					h.ServeHTTP(c.outer(onlyUnwraps{w}), r)
				}))
				resp, err := s.Client().Get(s.URL)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				<-done
			})
			want := 200
			if hijack {
				want = 101
			}
			if e := only(t, entries); e.Status != want {
				t.Errorf("%s, hijack %v: the status is %d, want %d", c.name, hijack, e.Status, want)
			}
		}
	}
}

type onlyUnwraps struct{ http.ResponseWriter }

func (w onlyUnwraps) Unwrap() http.ResponseWriter { return w.ResponseWriter }
