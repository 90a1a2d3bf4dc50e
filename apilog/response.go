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
	return v.watchUnwrap(w, httpsnoop.Wrap(w, v.hooks(w)))
}

// watchUnwrap returns a watched writer such that v also notes what
// http.ResponseController does to the writers that w unwraps to, because w itself
// cannot flush or cannot hijack.
func (v *visit) watchUnwrap(w, watched http.ResponseWriter) http.ResponseWriter {
	u, ok := w.(unwrapper)
	_, flushes := w.(http.Flusher)
	_, hijacks := w.(http.Hijacker)
	_, reads := w.(io.ReaderFrom)
	_, pushes := w.(http.Pusher)
	if !ok || flushes && hijacks || reads || pushes { // the last two would be hidden
		return watched
	}
	unwrapping := unwrappingWriter{watched, u, v}
	switch {
	case flushes:
		return &unwrappingFlusher{unwrapping, watched.(http.Flusher)}
	case hijacks:
		return &unwrappingHijacker{unwrapping, watched.(http.Hijacker)}
	}
	return &unwrapping
}

type unwrapper interface{ Unwrap() http.ResponseWriter }

type unwrappingWriter struct {
	http.ResponseWriter
	of    unwrapper
	visit *visit
}

func (w *unwrappingWriter) Unwrap() http.ResponseWriter { return w.visit.wrap(w.of.Unwrap()) }

type unwrappingFlusher struct {
	unwrappingWriter
	http.Flusher
}

type unwrappingHijacker struct {
	unwrappingWriter
	http.Hijacker
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
	w.visit.began(w.serverWriter, code)
	w.serverWriter.WriteHeader(code)
}

func (w *watchedWriter) Write(b []byte) (int, error) {
	w.visit.began(w.serverWriter, http.StatusOK)
	n, err := w.serverWriter.Write(b)
	w.visit.wrote.Add(int64(n))
	return n, err
}

func (w *watchedWriter) WriteString(s string) (int, error) {
	w.visit.began(w.serverWriter, http.StatusOK)
	n, err := w.serverWriter.WriteString(s)
	w.visit.wrote.Add(int64(n))
	return n, err
}

func (w *watchedWriter) Flush() {
	w.visit.began(w.serverWriter, http.StatusOK)
	w.serverWriter.Flush()
}

func (w *watchedWriter) FlushError() error {
	w.visit.began(w.serverWriter, http.StatusOK)
	return w.serverWriter.FlushError()
}

func (w *http1Writer) ReadFrom(src io.Reader) (int64, error) {
	n, err := w.reader.ReadFrom(src)
	w.visit.copied(w.serverWriter, n)
	return n, err
}

func (w *http1Writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := w.hijacker.Hijack()
	if err == nil {
		w.visit.began(w.serverWriter, http.StatusSwitchingProtocols)
	}
	return conn, buf, err
}

// copied counts what ReadFrom wrote. If that is nothing, the answer has not begun,
// and the handler can still choose a status.
func (v *visit) copied(w http.ResponseWriter, n int64) {
	if n > 0 {
		v.began(w, http.StatusOK)
		v.wrote.Add(n)
	}
}

// hooks returns those of httpsnoop that w has a method for. Without others,
// WriteString is led to Write, and FlushError to Flush.
func (v *visit) hooks(w http.ResponseWriter) httpsnoop.Hooks {
	hooks := httpsnoop.Hooks{
		WriteHeader: func(next httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
			return func(code int) {
				v.began(w, code)
				next(code)
			}
		},
		Write: func(next httpsnoop.WriteFunc) httpsnoop.WriteFunc {
			return func(b []byte) (int, error) {
				v.began(w, http.StatusOK)
				n, err := next(b)
				v.wrote.Add(int64(n))
				return n, err
			}
		},
	}
	if _, ok := w.(io.ReaderFrom); ok {
		hooks.ReadFrom = func(next httpsnoop.ReadFromFunc) httpsnoop.ReadFromFunc {
			return func(src io.Reader) (int64, error) {
				n, err := next(src)
				v.copied(w, n)
				return n, err
			}
		}
	}
	if _, ok := w.(http.Flusher); ok {
		hooks.Flush = func(next httpsnoop.FlushFunc) httpsnoop.FlushFunc {
			return func() {
				v.began(w, http.StatusOK)
				next()
			}
		}
	}
	if _, ok := w.(http.Hijacker); ok {
		hooks.Hijack = func(next httpsnoop.HijackFunc) httpsnoop.HijackFunc {
			return func() (net.Conn, *bufio.ReadWriter, error) {
				conn, buf, err := next()
				if err == nil {
					v.began(w, http.StatusSwitchingProtocols)
				}
				return conn, buf, err
			}
		}
	}
	return hooks
}
