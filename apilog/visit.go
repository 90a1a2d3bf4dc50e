package apilog

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/insigner/auth"
)

// statusClientClosed is the status of a request whose client left before an
// answer. It is not registered, but common.
const statusClientClosed = 499

// A visit is a request while it is served, and its context.
type visit struct {
	context.Context
	by    *Recorder
	start time.Time

	// As the client sent them: handlers may change the request, even later.
	path, requestID, userAgent string
	addr                       netip.Addr

	status atomic.Int32 // of the answer; 0 before it begins
	late   atomic.Bool  // the client had left when the answer began
	wrote  atomic.Int64
	body   countedBody

	mu           sync.Mutex
	keyID, owner string
	route        string // as the last Decision knew it
	refusal      string // the Code of the last Decision, and its status
	refused      int
	step         auth.Step
	answerID     string // X-Request-Id of the answer, when it began
	code         string // by SetCode
	number       int64  // in the queue, once it is there
	omitted      bool   // by Omit
}

type visitKey struct{}

// Value implements context.Context, without an allocation for the visit.
//
// Under the key (*auth.Problem)(nil) it has SetCode for this context, for
// modules of this repository that refuse requests and do not import this one,
// such as ratelimit.
func (v *visit) Value(key any) any {
	switch key.(type) {
	case visitKey:
		return v
	case *auth.Problem:
		return func(code string) { SetCode(v, code) }
	}
	return v.Context.Value(key)
}

// String keeps package fmt from printing the fields.
func (v *visit) String() string { return "apilog.Context" }

// visitOf returns the innermost visit in ctx, or nil.
func visitOf(ctx context.Context) *visit {
	v, _ := ctx.Value(visitKey{}).(*visit)
	return v
}

// visitOf returns the visit of r in ctx, or nil.
func (r *Recorder) visitOf(ctx context.Context) *visit {
	v := visitOf(ctx)
	for v != nil && v.by != r {
		v = visitOf(v.Context)
	}
	return v
}

// decided notes a decision about the key of the request. A handler may have
// others verified, such as a key that the body names: they say nothing about the
// request, unless it came without a key that is known, as with gRPC.
func (v *visit) decided(d auth.Decision) {
	v.mu.Lock()
	defer v.mu.Unlock()
	id, owner := d.KeyID(), d.Owner()
	if d.Request == nil && (v.keyID != "" || v.owner != "") {
		same, none := id == v.keyID && owner == v.owner, id == "" && owner == "" // none if the key was deleted
		if d.Step == auth.StepAuthenticate || !same && !(d.Step == auth.StepRecheck && none) {
			return
		}
	}
	if id != "" || owner != "" {
		v.keyID, v.owner = id, owner
	}
	if d.Request != nil && d.Request.Pattern != "" {
		v.route = d.Request.Pattern // which the request that the server knows may not have
	}
	v.refusal, v.refused, v.step = d.Code, 0, d.Step
	if d.Err != nil {
		v.refused = auth.ProblemFor(d.Err).Status
	}
	if v.number != 0 && v.code == "" && d.Step == auth.StepRecheck {
		v.by.queue.amend(v.number, v.by.cleaner.clean(d.Code, maxCode)) // WithRecheck tells it after it has ended the stream
	}
}

func (v *visit) omit() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.omitted = true
}

func (v *visit) setCode(code string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.code = code
}

// Middleware records each request. It has to be the outermost handler, so that
// it sees the status that the client gets. It hides nothing of the
// ResponseWriter: streams, hijacking and deadlines work as without it. A request
// that passes it twice is recorded once. Middleware panics if next is nil.
func (r *Recorder) Middleware(next http.Handler) http.Handler {
	if f, ok := next.(http.HandlerFunc); next == nil || ok && f == nil {
		panic("apilog.Recorder.Middleware: the handler is nil")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if r.visitOf(req.Context()) != nil || r.skip != nil && r.skip(req) {
			next.ServeHTTP(w, req)
			return
		}
		v := &visit{
			Context:   req.Context(),
			by:        r,
			start:     time.Now(),
			path:      req.URL.Path,
			requestID: header(req.Header, "X-Request-Id"),
			userAgent: header(req.Header, "User-Agent"),
		}
		inner := req.WithContext(v)
		if req.Body != nil && req.Body != http.NoBody {
			v.body.ReadCloser = req.Body
			inner.Body = &v.body
		}
		returned := false
		defer func() {
			panicked := recover()
			giveBack(req, inner)
			aborted := panicked == http.ErrAbortHandler
			r.record(v, w, req, !returned && !aborted, aborted)
			if panicked != nil {
				panic(panicked)
			}
		}()
		v.addr = r.clientAddr(req)
		next.ServeHTTP(v.wrap(w), inner)
		returned = true
	})
}

// giveBack copies what handlers set to the request that the server knows: the
// route for outer handlers, and the files that the server removes.
func giveBack(req, inner *http.Request) {
	if inner.Pattern != req.Pattern {
		req.Pattern = inner.Pattern
	}
	if inner.MultipartForm != req.MultipartForm {
		req.MultipartForm = inner.MultipartForm
	}
}

// began notes the status of the answer. Other informational ones than 101 are
// followed by another (RFC 9110 section 15.2).
func (v *visit) began(w http.ResponseWriter, code int) {
	if code < 200 && code != http.StatusSwitchingProtocols || code > 999 { // net/http panics above, and below 100
		return
	}
	if v.status.CompareAndSwap(0, int32(code)) {
		v.late.Store(v.gone())
		if id := header(w.Header(), "X-Request-Id"); id != "" {
			v.mu.Lock()
			v.answerID = id
			v.mu.Unlock()
		}
	}
}

// gone reports whether the client has left. Package net/http cancels the context
// then, without a cause. If the host cancels the BaseContext of its server, that
// is another cause, as with signal.NotifyContext.
func (v *visit) gone() bool { return context.Cause(v.Context) == context.Canceled }

// record queues the entry of a request that was served. Failed says that the
// handler did not return, aborted that it said so itself.
func (r *Recorder) record(v *visit, w http.ResponseWriter, req *http.Request, failed, aborted bool) {
	e := Entry{
		Time:          v.start.Round(0).UTC().Truncate(time.Microsecond),
		Duration:      time.Since(v.start).Truncate(time.Microsecond),
		Method:        r.cleaner.clean(req.Method, maxMethod),
		Path:          r.cleaner.clean(v.path, maxPath),
		Status:        v.result(failed, aborted),
		RequestBytes:  v.body.read.Load(),
		ResponseBytes: v.wrote.Load(),
		UserAgent:     r.cleaner.clean(v.userAgent, maxUserAgent),
		RemoteAddr:    v.addr,
	}
	if len(req.Method)+len(req.RequestURI) > maxPath { // both can be parts of one line, and would keep it in memory
		e.Method, e.Path = strings.Clone(e.Method), strings.Clone(e.Path)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.omitted {
		return
	}
	if v.status.Load() == 0 {
		v.answerID = header(w.Header(), "X-Request-Id")
	}
	e.Route = r.cleaner.clean(cmp.Or(v.route, req.Pattern), maxPath)
	e.RequestID = r.cleaner.clean(cmp.Or(v.answerID, v.requestID), maxRequestID)
	e.KeyID, e.Owner = identity(v.keyID), identity(v.owner)
	// A handler may ask whether a key may do more, and answer something else.
	if e.Status == v.refused || v.step == auth.StepRecheck {
		e.Code = v.refusal
	}
	if v.code != "" {
		e.Code = v.code
	}
	e.Code = r.cleaner.clean(e.Code, maxCode)
	number, full := r.queue.add(&e, v.start.Add(e.Duration))
	v.number = number
	if full {
		r.writer.wake()
	}
}

// result returns the status of the entry.
func (v *visit) result(failed, aborted bool) int {
	status, gone := int(v.status.Load()), v.gone()
	switch {
	case failed, aborted && !gone:
		return http.StatusInternalServerError
	case status == 0 && gone:
		return statusClientClosed
	case status == 0:
		return http.StatusOK // as the server answers
	case status >= 500 && v.late.Load():
		return statusClientClosed // the error of a handler whose client had left
	}
	return status
}

func (r *Recorder) clientAddr(req *http.Request) netip.Addr {
	var addr netip.Addr
	if r.remoteAddr != nil {
		addr = r.remoteAddr(req)
	} else if ap, err := netip.ParseAddrPort(req.RemoteAddr); err == nil {
		addr = ap.Addr()
	}
	return addr.Unmap().WithZone("")
}

// header returns the first value of a field in canonical form.
func header(h http.Header, field string) string {
	if values := h[field]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// A countedBody counts what is read of the body of a request.
type countedBody struct {
	io.ReadCloser
	read atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read.Add(int64(n))
	return n, err
}
