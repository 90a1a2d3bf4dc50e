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
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
)

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

// A handler verifies another key, or asks whether the key of the request may do
// more. The entry is of the key that came, and has no code of what the client was
// not told.
func TestEntryIsOfTheKeyThatCame(t *testing.T) {
	for _, c := range []struct {
		name       string
		asks       func(a *auth.Authenticator, ctx context.Context, other string)
		status     int
		code, want string
	}{
		{"a good key of another", func(a *auth.Authenticator, ctx context.Context, other string) { a.Verify(ctx, other) }, 200, "", "mine"},
		{"nonsense", func(a *auth.Authenticator, ctx context.Context, _ string) { a.Verify(ctx, "isk_nonsense") }, 404, "", "mine"},
		{"nonsense, and 401", func(a *auth.Authenticator, ctx context.Context, _ string) { a.Verify(ctx, "isk_nonsense") }, 401, "", "mine"},
		{"a scope, for more", func(_ *auth.Authenticator, ctx context.Context, _ string) { auth.Authorize(ctx, "admin.read") }, 404, "", "mine"},
		{"a scope that is needed", func(_ *auth.Authenticator, ctx context.Context, _ string) { auth.Authorize(ctx, "admin.read") }, 403,
			"INSUFFICIENT_SCOPE", "mine"},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := newTestStore()
			var g *guarded
			var other string
			g = guard(store, unlimited(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c.asks(g.auth, r.Context(), other)
				w.WriteHeader(c.status)
			}))
			other = g.keys.add(auth.Record{ID: "other", Owner: "org_2"})
			g.send(g.keys.add(auth.Record{ID: "mine", Owner: "org_1", Scopes: auth.Scopes{"documents.read"}}))
			e := only(t, closed(t, g.recorder, store))
			if e.KeyID != c.want {
				t.Errorf("the entry is of %q, want %q", e.KeyID, c.want)
			}
			if e.Code != c.code {
				t.Errorf("its code is %q, want %q", e.Code, c.code)
			}
		})
	}
}

// Handlers between the Recorder and the mux pass another request on, so the
// server's own does not know the route.
func TestRouteBehindMiddleware(t *testing.T) {
	for name, between := range map[string]func(http.Handler) http.Handler{
		"WithContext": func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), new(int), 1)))
			})
		},
		"TimeoutHandler": func(next http.Handler) http.Handler { return http.TimeoutHandler(next, time.Minute, "") },
		"StripPrefix": func(next http.Handler) http.Handler {
			outer := http.NewServeMux()
			outer.Handle("/api/", http.StripPrefix("/api", next))
			return outer
		},
	} {
		store := newTestStore()
		keys := new(keyStore)
		recorder := apilog.NewRecorder(store, unlimited())
		a := auth.New(keys, &auth.Options{OnDecision: recorder.OnDecision, Logger: quiet})
		mux := http.NewServeMux()
		const route = "GET /{path...}"
		mux.Handle(route, a.Require("documents.read")(answer(200)))
		r := requestWith(keys.add(auth.Record{ID: "k", Scopes: auth.Scopes{"*"}}))
		r.URL.Path = "/api/x"
		serve(recorder.Middleware(between(mux)), r)
		if e := only(t, closed(t, recorder, store)); e.Route != route {
			t.Errorf("%s: the route is %q, want %q", name, e.Route, route)
		}
	}
}

// The host cancels the contexts of all requests, at its shutdown. No client left.
func TestBaseContextEnds(t *testing.T) {
	base, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	entries := recorded(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel(errors.New("shutdown"))
		<-r.Context().Done()
		w.WriteHeader(500)
	}), func(h http.Handler) {
		s := httptest.NewUnstartedServer(h)
		s.Config.BaseContext = func(net.Listener) context.Context { return base }
		s.Start()
		defer s.Close()
		resp, err := http.Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 500 {
			t.Fatalf("the client got %d", resp.StatusCode)
		}
	})
	if e := only(t, entries); e.Status != 500 {
		t.Errorf("the status is %d, want 500", e.Status)
	}
}

// What handlers do after the answer has begun does not change the entry, and what
// the server refuses does not begin it.
func TestAnswerThatBegan(t *testing.T) {
	for _, c := range []struct {
		name   string
		serve  func(w http.ResponseWriter)
		status int
		id     string
	}{
		{"a later ID", func(w http.ResponseWriter) {
			w.Header().Set("X-Request-Id", "sent")
			w.WriteHeader(200)
			w.Header().Set("X-Request-Id", "never-sent")
		}, 200, "sent"},
		{"a status that the server refuses", func(w http.ResponseWriter) {
			func() {
				defer func() { recover() }()
				w.WriteHeader(1000)
			}()
			w.WriteHeader(403)
		}, 403, ""},
		{"a copy of nothing", func(w http.ResponseWriter) {
			io.Copy(w, io.LimitReader(strings.NewReader("x"), 0))
			w.WriteHeader(404)
		}, 404, ""},
		{"a copy that fails at once", func(w http.ResponseWriter) {
			if _, err := io.Copy(w, iotest.ErrReader(errors.New("away"))); err != nil {
				http.Error(w, "bad gateway", http.StatusBadGateway)
			}
		}, 502, ""},
	} {
		overHTTP(t, func(t *testing.T, http2 bool) {
			got := 0
			e := only(t, recorded(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.serve(w) }),
				func(h http.Handler) {
					s := newServer(t, http2, h)
					resp, err := s.Client().Get(s.URL)
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
					got = resp.StatusCode
				}))
			if e.Status != got {
				t.Errorf("%s: the status is %d, but the client got %d", c.name, e.Status, got)
			}
			if got != c.status {
				t.Errorf("%s: the client got %d, want %d", c.name, got, c.status)
			}
			if e.RequestID != c.id {
				t.Errorf("%s: the ID is %q, want %q", c.name, e.RequestID, c.id)
			}
		})
	}
}

func TestOmit(t *testing.T) {
	entries := recorded(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		apilog.Omit(r.Context())
		panic(http.ErrAbortHandler)
	}), func(h http.Handler) {
		defer func() { recover() }()
		serve(h, requestWith(""))
	})
	if len(entries) != 0 {
		t.Errorf("%d entries, want none", len(entries))
	}
	apilog.Omit(t.Context()) // without a Recorder
}
