package apilog_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth/apilog"
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

func TestRequestBytes(t *testing.T) {
	cases := []struct {
		name   string
		method string
		body   string
		read   int64 // -1 is all
		want   int64
	}{
		{"all", "POST", strings.Repeat("x", 100_000), -1, 100_000},
		{"a part", "POST", strings.Repeat("x", 100_000), 10, 10},
		{"nothing of it", "POST", strings.Repeat("x", 100_000), 0, 0},
		{"no body", "POST", "", -1, 0},
		{"GET", "GET", "", -1, 0},
	}
	overHTTP(t, func(t *testing.T, http2 bool) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				noBody := false
				h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					noBody = r.Body == http.NoBody
					if c.read < 0 {
						io.Copy(io.Discard, r.Body)
					} else {
						io.CopyN(io.Discard, r.Body, c.read)
					}
				})
				e := only(t, recorded(t, nil, h, func(h http.Handler) {
					s := newServer(t, http2, h)
					r, _ := http.NewRequest(c.method, s.URL, strings.NewReader(c.body))
					resp, err := s.Client().Do(r)
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
					s.Close()
				}))
				if e.RequestBytes != c.want {
					t.Errorf("%d bytes, want %d", e.RequestBytes, c.want)
				}
				if want := c.body == "" && !http2; noBody != want { // HTTP/2 never has it
					t.Errorf("the body is http.NoBody: %t, want %t", noBody, want)
				}
			})
		}
	})
}

// A server sends 100 only if the handler reads the body (RFC 9110 section
// 10.1.1).
func TestExpectContinue(t *testing.T) {
	for _, reads := range []bool{false, true} {
		h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if reads {
				io.Copy(io.Discard, r.Body)
			}
		})
		recorded(t, nil, h, func(h http.Handler) {
			s := newServer(t, false, h)
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
			if line, _ := bufio.NewReader(conn).ReadString('\n'); strings.Contains(line, "100") != reads {
				t.Errorf("the first line of the answer is %q; the handler reads: %t", line, reads)
			}
		})
	}
}

func TestMultipartFilesAreRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	stored := 0
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(1); err != nil {
			t.Error(err)
		}
		files, _ := filepath.Glob(os.TempDir() + "/multipart-*")
		stored = len(files)
	})
	recorded(t, nil, h, func(h http.Handler) {
		s := newServer(t, false, h)
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		part, _ := form.CreateFormFile("file", "f.txt")
		part.Write(make([]byte, 1<<20))
		form.Close()
		resp, err := http.Post(s.URL, form.FormDataContentType(), &body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		s.Close()
	})
	if stored != 1 {
		t.Errorf("the handler sees %d files, want 1", stored)
	}
	if files, _ := filepath.Glob(os.TempDir() + "/multipart-*"); len(files) > 0 {
		t.Errorf("the server left %v", files)
	}
}

func TestRoute(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /documents/{id}", func(http.ResponseWriter, *http.Request) {})
	outside := ""
	e := only(t, recorded(t, nil, mux, func(h http.Handler) {
		serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r)
			outside = r.Pattern
		}), httptest.NewRequest("GET", "/documents/42?secret=1", nil))
	}))
	if want := "GET /documents/{id}"; e.Route != want {
		t.Errorf("route %q, want %q", e.Route, want)
	}
	if e.Path != "/documents/42" {
		t.Errorf("path %q", e.Path)
	}
	if outside != e.Route {
		t.Errorf("a handler outside sees the pattern %q, want %q", outside, e.Route)
	}
}

// What a handler changes of a request is not what the client sent.
func TestEntryIsOfTheRequestThatCame(t *testing.T) {
	h := http.StripPrefix("/v1", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		r.URL.Path, r.Method, r.RemoteAddr = "/other", "PATCH", "192.0.2.9:1"
		r.Header.Set("User-Agent", "other")
		r.Header.Set("X-Request-Id", "other")
	}))
	h2 := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		r.Method, r.RemoteAddr = "PUT", "192.0.2.10:1"
	})
	r := httptest.NewRequest("POST", "/v1/documents", nil)
	r.Header.Set("User-Agent", "curl")
	r.Header.Set("X-Request-Id", "req_1")
	r.RemoteAddr = "[::ffff:203.0.113.9]:41000"
	e := entry(t, nil, r, h2)
	for _, c := range []struct{ name, got, want string }{
		{"method", e.Method, "POST"},
		{"path", e.Path, "/v1/documents"},
		{"user agent", e.UserAgent, "curl"},
		{"request ID", e.RequestID, "req_1"},
		{"address", e.RemoteAddr.String(), "203.0.113.9"},
	} {
		if c.got != c.want {
			t.Errorf("%s %q, want %q", c.name, c.got, c.want)
		}
	}
}

func TestRequestIDOfTheAnswer(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("X-Request-Id", "theirs")
	e := entry(t, nil, r, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Request-Id", "ours")
	}))
	if e.RequestID != "ours" {
		t.Errorf("request ID %q, want that of the answer", e.RequestID)
	}
}

func TestRemoteAddr(t *testing.T) {
	for _, c := range []struct{ address, want string }{
		{"192.0.2.1:80", "192.0.2.1"},
		{"[2001:db8::1]:80", "2001:db8::1"},
		{"[fe80::1%eth0]:80", "fe80::1"},
		{"@", "invalid IP"}, // a Unix socket
		{"", "invalid IP"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.address
		r.Header.Set("X-Forwarded-For", "198.51.100.7")
		if got := entry(t, nil, r, answer(200)).RemoteAddr.String(); got != c.want {
			t.Errorf("the address of %q is %s, want %s", c.address, got, c.want)
		}
	}
	opts := unlimited()
	opts.RemoteAddr = clientAddr
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "10.0.0.1:80"
	r.Header.Set("X-Forwarded-For", "198.51.100.7")
	if got := entry(t, opts, r, answer(200)).RemoteAddr.String(); got != "198.51.100.7" {
		t.Errorf("the address of Options.RemoteAddr is %s", got)
	}
}

func TestContext(t *testing.T) {
	type key struct{}
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		parent := r.Context()
		if parent.Value(key{}) != "outer" {
			t.Error("a value of the outer context is gone")
		}
		if got := fmt.Sprintf("%v %+v", parent, parent); strings.Contains(got, "/documents") {
			t.Errorf("the context prints itself as %s", got)
		}
		before := runtime.NumGoroutine()
		var cancels []context.CancelFunc
		for range 200 {
			ctx, cancel := context.WithCancel(context.WithValue(parent, key{}, "inner"))
			cancels = append(cancels, cancel)
			context.AfterFunc(ctx, func() {})
		}
		if n := runtime.NumGoroutine() - before; n > 100 {
			t.Errorf("200 contexts in that of a visit start %d goroutines", n)
		}
		for _, cancel := range cancels {
			cancel()
		}
	})
	outer, cancel := context.WithCancelCause(context.WithValue(ctx, key{}, "outer"))
	defer cancel(nil)
	cause := errors.New("a cause")
	entry(t, nil, requestWith("").WithContext(outer), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h(w, r)
		called := make(chan struct{})
		context.AfterFunc(r.Context(), func() { close(called) })
		cancel(cause)
		<-called
		if got := context.Cause(r.Context()); got != cause {
			t.Errorf("the cause is %v", got)
		}
	}))
}

var panics = []struct {
	name   string
	serve  func(w http.ResponseWriter)
	value  any
	logged bool
}{
	{"a panic", func(http.ResponseWriter) { panic("some value") }, "some value", true},
	{"a panic after 200", func(w http.ResponseWriter) { w.WriteHeader(200); panic("some value") }, "some value", true},
	{"a panic with a slice", func(http.ResponseWriter) { panic([]int{1}) }, []int{1}, true},
	{"ErrAbortHandler", func(w http.ResponseWriter) { w.WriteHeader(200); panic(http.ErrAbortHandler) }, http.ErrAbortHandler, false},
	{"a panic with nil", func(http.ResponseWriter) { panic(nil) }, new(runtime.PanicNilError), true},
	{"Goexit", func(http.ResponseWriter) { runtime.Goexit() }, nil, false},
}

func handlerThatPanics(serve func(http.ResponseWriter)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { serve(w) })
}

func TestPanics(t *testing.T) {
	overHTTP(t, func(t *testing.T, http2 bool) {
		for _, c := range panics {
			if http2 && c.name == "Goexit" {
				continue // the server would wait for its handler for ever
			}
			t.Run(c.name, func(t *testing.T) {
				var got any
				left := make(chan struct{})
				text := new(logBuffer)
				e := only(t, recorded(t, nil, handlerThatPanics(c.serve), func(h http.Handler) {
					s := newLoggingServer(t, http2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						defer close(left)
						defer func() {
							if got = recover(); got != nil {
								panic(got)
							}
						}()
						h.ServeHTTP(w, r)
					}), text)
					if c.name == "Goexit" {
						conn, err := net.Dial("tcp", s.Listener.Addr().String())
						if err != nil {
							t.Fatal(err)
						}
						io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
						<-left
						conn.Close()
						return
					}
					if resp, err := s.Client().Get(s.URL); err == nil {
						io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
					}
					<-left
					s.Close()
					eventually(t, "the server logs", func() bool { return !c.logged || text.String() != "" })
				}))
				if e.Status != 500 {
					t.Errorf("status %d, want 500", e.Status)
				}
				if !reflect.DeepEqual(got, c.value) {
					t.Errorf("%#v goes on, want %#v", got, c.value)
				}
				if has := strings.Contains(text.String(), "handlerThatPanics"); has != c.logged {
					t.Errorf("the log of the server has the stack of the handler: %t, want %t:\n%s", has, c.logged, text)
				}
			})
		}
	})
}

func TestSkip(t *testing.T) {
	opts := unlimited()
	opts.Skip = func(r *http.Request) bool { return r.URL.Path == "/health" }
	entries := recorded(t, opts, answer(200), func(h http.Handler) {
		serve(h, httptest.NewRequest("GET", "/health", nil))
		serve(h, httptest.NewRequest("GET", "/documents", nil))
	})
	if e := only(t, entries); e.Path != "/documents" {
		t.Errorf("the entry is that of %s", e.Path)
	}
}

func TestReverseProxy(t *testing.T) {
	upstream := newServer(t, false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Request-Id", "upstream")
		w.WriteHeader(418)
		fmt.Fprintf(w, "%d bytes", len(body))
	}))
	target, _ := url.Parse(upstream.URL)
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		FlushInterval: time.Millisecond,
		ErrorLog:      slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	overHTTP(t, func(t *testing.T, http2 bool) {
		e := only(t, recorded(t, nil, proxy, func(h http.Handler) {
			s := newServer(t, http2, h)
			resp, err := s.Client().Post(s.URL, "text/plain", strings.NewReader("12345"))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			s.Close()
		}))
		if e.Status != 418 {
			t.Errorf("status %d, want that of upstream", e.Status)
		}
		if e.RequestBytes != 5 {
			t.Errorf("%d bytes of the request, want 5", e.RequestBytes)
		}
		if e.ResponseBytes != int64(len("5 bytes")) {
			t.Errorf("%d bytes of the answer", e.ResponseBytes)
		}
		if e.RequestID != "upstream" {
			t.Errorf("request ID %q, want that of upstream", e.RequestID)
		}
	})
}

// A request of HTTP/1.0 is answered as without a Recorder.
func TestHTTP10(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	e := only(t, recorded(t, nil, h, func(h http.Handler) {
		s := newServer(t, false, h)
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "GET /old HTTP/1.0\r\n\r\n")
		got, _ := io.ReadAll(conn)
		if !bytes.HasPrefix(got, []byte("HTTP/1.0 200 OK\r\n")) || !bytes.HasSuffix(got, []byte("\r\n\r\nhello")) {
			t.Errorf("the answer is %q", got)
		}
		s.Close()
	}))
	if e.Path != "/old" {
		t.Errorf("path %q", e.Path)
	}
}

func TestMiddlewarePanics(t *testing.T) {
	recorder := apilog.NewRecorder(apilog.NewMemoryStore(1), nil)
	defer recorder.Close(ctx)
	const want = "apilog.Recorder.Middleware: the handler is nil"
	wantPanic(t, want, func() { recorder.Middleware(nil) })
	wantPanic(t, want, func() { recorder.Middleware(http.HandlerFunc(nil)) })
}
