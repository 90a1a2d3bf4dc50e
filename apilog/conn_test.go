package apilog_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
)

// The first event of a stream arrives while the handler still runs.
func TestEventStream(t *testing.T) {
	flushes := map[string]func(w http.ResponseWriter) error{
		"Flusher":            func(w http.ResponseWriter) error { w.(http.Flusher).Flush(); return nil },
		"ResponseController": func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() },
	}
	overHTTP(t, func(t *testing.T, http2 bool) {
		for name, flush := range flushes {
			t.Run(name, func(t *testing.T) {
				arrived := make(chan struct{})
				h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					io.WriteString(w, "data: 1\n\n")
					if err := flush(w); err != nil {
						t.Errorf("flush: %v", err)
					}
					<-arrived
					io.WriteString(w, "data: 2\n\n")
				})
				e := only(t, recorded(t, nil, h, func(h http.Handler) {
					s := newServer(t, http2, h)
					resp, err := s.Client().Get(s.URL)
					if err != nil {
						t.Fatal(err)
					}
					events := bufio.NewReader(resp.Body)
					if line, _ := events.ReadString('\n'); line != "data: 1\n" {
						t.Errorf("the first event is %q", line)
					}
					close(arrived)
					io.Copy(io.Discard, events)
					resp.Body.Close()
					s.Close()
				}))
				if e.ResponseBytes != 18 {
					t.Errorf("%d bytes, want 18", e.ResponseBytes)
				}
			})
		}
	})
}

func TestHijack(t *testing.T) {
	served := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(conn, buf)
	})
	var asked time.Duration
	e := only(t, recorded(t, nil, h, func(h http.Handler) {
		s := newServer(t, false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(served)
			h.ServeHTTP(w, r)
		}))
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		buf := bufio.NewReader(conn)
		resp, err := http.ReadResponse(buf, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 101 {
			t.Errorf("the answer is %s", resp.Status)
		}
		began := time.Now()
		for range 3 {
			io.WriteString(conn, "hello\n")
			if line, _ := buf.ReadString('\n'); line != "hello\n" {
				t.Errorf("the echo is %q", line)
			}
		}
		asked = time.Since(began)
		conn.Close()
		<-served
	}))
	if e.Status != 101 {
		t.Errorf("status %d, want 101", e.Status)
	}
	if e.Duration < asked.Truncate(time.Microsecond) {
		t.Errorf("duration %v, but the connection was used for %v", e.Duration, asked)
	}
}

// A handler that cannot hijack may still answer.
func TestHijackFails(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, _, err := http.NewResponseController(w).Hijack(); err != nil {
			http.Error(w, err.Error(), http.StatusNotImplemented)
		}
	})
	use := map[string]func(h http.Handler){
		"HTTP2": func(h http.Handler) { // which has no Hijacker
			s := newServer(t, true, h)
			if resp, err := s.Client().Get(s.URL); err == nil {
				resp.Body.Close()
			}
			s.Close()
		},
		"a Hijacker that fails": func(h http.Handler) { h.ServeHTTP(failingHijacker{httptest.NewRecorder()}, requestWith("")) },
	}
	for name, use := range use {
		if e := only(t, recorded(t, nil, h, use)); e.Status != 501 {
			t.Errorf("%s: status %d, want that of the handler, 501", name, e.Status)
		}
	}
}

type failingHijacker struct{ http.ResponseWriter }

func (failingHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("not today")
}

// A fileListener notes whether its connections are given a file to send, as
// sendfile needs it.
type fileListener struct {
	net.Listener
	files atomic.Int64
}

func (l *fileListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return fileConn{conn, &l.files}, err
}

type fileConn struct {
	net.Conn
	files *atomic.Int64
}

func (c fileConn) ReadFrom(src io.Reader) (int64, error) {
	inner := src
	if limited, ok := src.(*io.LimitedReader); ok {
		inner = limited.R
	}
	if _, ok := inner.(*os.File); ok {
		c.files.Add(1)
	}
	return c.Conn.(io.ReaderFrom).ReadFrom(src)
}

func TestSendfile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(path, []byte(fileContent), 0o600); err != nil {
		t.Fatal(err)
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) })
	var files int64
	e := only(t, recorded(t, nil, h, func(h http.Handler) {
		s := httptest.NewUnstartedServer(h)
		l := &fileListener{Listener: s.Listener}
		s.Listener = l
		s.Start()
		resp, err := http.Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(got) != fileContent {
			t.Errorf("%d bytes arrive, which are not the file", len(got))
		}
		s.Close()
		files = l.files.Load()
	}))
	if files != 1 {
		t.Errorf("the connection was given %d files, want 1", files)
	}
	if want := int64(len(fileContent)); e.ResponseBytes != want {
		t.Errorf("%d bytes, want %d", e.ResponseBytes, want)
	}
}

// What a handler does once its client has left, and the status of the entry.
var leaving = []struct {
	name   string
	serve  func(w http.ResponseWriter)
	status int
	panics bool
}{
	{"answers nothing", func(http.ResponseWriter) {}, 499, false},
	{"answers 500", func(w http.ResponseWriter) { w.WriteHeader(500) }, 499, false},
	{"answers 503", func(w http.ResponseWriter) { http.Error(w, "down", http.StatusServiceUnavailable) }, 499, false},
	{"answers 200", func(w http.ResponseWriter) { io.WriteString(w, "hello") }, 200, false},
	{"answers 404", func(w http.ResponseWriter) { w.WriteHeader(404) }, 404, false},
	{"aborts", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, 499, false},
	{"panics", func(http.ResponseWriter) { panic("some value") }, 500, false},
}

func TestClientThatLeaves(t *testing.T) {
	overHTTP(t, func(t *testing.T, http2 bool) {
		for _, c := range leaving {
			t.Run(c.name, func(t *testing.T) {
				came, served := make(chan struct{}), make(chan struct{})
				h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					close(came)
					<-r.Context().Done()
					c.serve(w)
				})
				e := only(t, recorded(t, nil, h, func(h http.Handler) {
					s := newServer(t, http2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						defer close(served)
						h.ServeHTTP(w, r)
					}))
					ctx, leave := context.WithCancel(ctx)
					go func() {
						<-came
						leave()
					}()
					r, _ := http.NewRequestWithContext(ctx, "GET", s.URL, nil)
					if resp, err := s.Client().Do(r); err == nil {
						resp.Body.Close()
					}
					<-served
					s.Close()
				}))
				if e.Status != c.status {
					t.Errorf("status %d, want %d", e.Status, c.status)
				}
			})
		}
	})
}

// A client that leaves in the middle of an answer had one.
func TestClientThatLeavesLater(t *testing.T) {
	overHTTP(t, func(t *testing.T, http2 bool) {
		for _, status := range []int{200, 500} {
			served := make(chan struct{})
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(status)
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			})
			e := only(t, recorded(t, nil, h, func(h http.Handler) {
				s := newServer(t, http2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer close(served)
					h.ServeHTTP(w, r)
				}))
				resp, err := s.Client().Get(s.URL)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				s.Client().CloseIdleConnections()
				<-served
				s.Close()
			}))
			if e.Status != status {
				t.Errorf("status %d, want %d", e.Status, status)
			}
		}
	})
}

// A client that has sent all it has may close its side (RFC 9112 section 9.6).
// The server takes it for one that left, but the answer arrives.
func TestHalfClosedClient(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		io.WriteString(w, "hello")
	})
	e := only(t, recorded(t, nil, h, func(h http.Handler) {
		s := newServer(t, false, h)
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		conn.(*net.TCPConn).CloseWrite()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 200 {
			t.Errorf("the client gets %s", resp.Status)
		}
		s.Close()
	}))
	if e.Status != 200 {
		t.Errorf("status %d, want 200", e.Status)
	}
}

// Shutdown waits for all requests, and Close writes all of them.
func TestNothingIsLostInAShutdown(t *testing.T) {
	for range 10 {
		store := apilog.NewMemoryStore(1 << 20)
		recorder := apilog.NewRecorder(store, unlimited())
		var served atomic.Int64
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: recorder.Middleware(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			served.Add(1)
			io.WriteString(w, "hello")
		}))}
		go server.Serve(l)
		clients := make(chan struct{})
		for range 8 {
			go func() {
				defer func() { clients <- struct{}{} }()
				client := &http.Client{Transport: new(http.Transport)}
				defer client.CloseIdleConnections()
				for {
					resp, err := client.Get("http://" + l.Addr().String())
					if err != nil {
						return
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}()
		}
		eventually(t, "100 requests", func() bool { return served.Load() >= 100 })
		if err := server.Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
		if n := len(closed(t, recorder, store)); int64(n) != served.Load() {
			t.Errorf("%d entries of %d requests", n, served.Load())
		}
		for range 8 {
			<-clients
		}
	}
}

// A deadline is no client that left.
func TestDeadlineOfAnOuterHandler(t *testing.T) {
	ctx, cancel := context.WithTimeout(ctx, 0)
	defer cancel()
	<-ctx.Done()
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, fmt.Sprint(r.Context().Err()), http.StatusServiceUnavailable)
	})
	if e := entry(t, nil, requestWith("").WithContext(ctx), h); e.Status != 503 {
		t.Errorf("after a deadline, status %d, want 503", e.Status)
	}
}

// A lookup that fails because the client left refuses nobody.
func TestClientThatLeavesHasNoCode(t *testing.T) {
	store := apilog.NewMemoryStore(10)
	g := guard(store, unlimited(), answer(200))
	failing := auth.New(leftStore{}, &auth.Options{OnDecision: g.recorder.OnDecision, Logger: quiet})
	ctx, leave := context.WithCancel(ctx)
	leave()
	serve(g.recorder.Middleware(failing.Middleware(answer(200))), requestWith(auth.Scheme{}.NewKey().Reveal()).WithContext(ctx))
	e := only(t, closed(t, g.recorder, store))
	if e.Status != 499 {
		t.Errorf("status %d, want 499", e.Status)
	}
	if e.Code != "" {
		t.Errorf("code %q, want none", e.Code)
	}
}

type leftStore struct{}

func (leftStore) Lookup(ctx context.Context, _ auth.Hash) (*auth.Record, error) {
	return nil, ctx.Err()
}
