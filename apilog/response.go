package apilog

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/felixge/httpsnoop"
)

// wrap returns w such that v notes what is written to it. It has the methods
// that w has, and no others. Package httpsnoop does that for any w, with some 20
// allocations. For those of net/http it takes one.
func (v *visit) wrap(w http.ResponseWriter) http.ResponseWriter {
	if s, ok := w.(serverWriter); ok {
		reader, reads := w.(io.ReaderFrom)
		hijacker, hijacks := w.(http.Hijacker)
		pusher, pushes := w.(http.Pusher)
		switch {
		case reads && hijacks && !pushes:
			return &http1Writer{watchedWriter{s, v}, reader, hijacker}
		case !reads && !hijacks && pushes:
			return &http2Writer{watchedWriter{s, v}, pusher}
		}
	}
	return httpsnoop.Wrap(w, v.hooks(w))
}

// A serverWriter is what the ResponseWriters of net/http have in common.
type serverWriter interface {
	http.ResponseWriter
	http.Flusher
	io.StringWriter
	FlushError() error
	CloseNotify() <-chan bool
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	EnableFullDuplex() error
}

type watchedWriter struct {
	serverWriter
	visit *visit
}

type http1Writer struct {
	watchedWriter
	reader   io.ReaderFrom
	hijacker http.Hijacker
}

type http2Writer struct {
	watchedWriter
	http.Pusher
}

// Unwrap is for http.ResponseController.
func (w *watchedWriter) Unwrap() http.ResponseWriter { return w.serverWriter }

func (w *watchedWriter) WriteHeader(code int) {
	w.visit.began(code)
	w.serverWriter.WriteHeader(code)
}

func (w *watchedWriter) Write(b []byte) (int, error) {
	w.visit.began(http.StatusOK)
	n, err := w.serverWriter.Write(b)
	w.visit.wrote.Add(int64(n))
	return n, err
}

func (w *watchedWriter) WriteString(s string) (int, error) {
	w.visit.began(http.StatusOK)
	n, err := w.serverWriter.WriteString(s)
	w.visit.wrote.Add(int64(n))
	return n, err
}

func (w *watchedWriter) Flush() {
	w.visit.began(http.StatusOK)
	w.serverWriter.Flush()
}

func (w *watchedWriter) FlushError() error {
	w.visit.began(http.StatusOK)
	return w.serverWriter.FlushError()
}

func (w *http1Writer) ReadFrom(src io.Reader) (int64, error) {
	w.visit.began(http.StatusOK)
	n, err := w.reader.ReadFrom(src)
	w.visit.wrote.Add(n)
	return n, err
}

func (w *http1Writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := w.hijacker.Hijack()
	if err == nil {
		w.visit.began(http.StatusSwitchingProtocols)
	}
	return conn, buf, err
}

// hooks returns those of httpsnoop that w has a method for. Without others,
// WriteString is led to Write, and FlushError to Flush.
func (v *visit) hooks(w http.ResponseWriter) httpsnoop.Hooks {
	hooks := httpsnoop.Hooks{
		WriteHeader: func(next httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
			return func(code int) {
				v.began(code)
				next(code)
			}
		},
		Write: func(next httpsnoop.WriteFunc) httpsnoop.WriteFunc {
			return func(b []byte) (int, error) {
				v.began(http.StatusOK)
				n, err := next(b)
				v.wrote.Add(int64(n))
				return n, err
			}
		},
	}
	if _, ok := w.(io.ReaderFrom); ok {
		hooks.ReadFrom = func(next httpsnoop.ReadFromFunc) httpsnoop.ReadFromFunc {
			return func(src io.Reader) (int64, error) {
				v.began(http.StatusOK)
				n, err := next(src)
				v.wrote.Add(n)
				return n, err
			}
		}
	}
	if _, ok := w.(http.Flusher); ok {
		hooks.Flush = func(next httpsnoop.FlushFunc) httpsnoop.FlushFunc {
			return func() {
				v.began(http.StatusOK)
				next()
			}
		}
	}
	if _, ok := w.(http.Hijacker); ok {
		hooks.Hijack = func(next httpsnoop.HijackFunc) httpsnoop.HijackFunc {
			return func() (net.Conn, *bufio.ReadWriter, error) {
				conn, buf, err := next()
				if err == nil {
					v.began(http.StatusSwitchingProtocols)
				}
				return conn, buf, err
			}
		}
	}
	return hooks
}
