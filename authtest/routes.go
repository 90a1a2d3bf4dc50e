package authtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/insigner/auth"
)

// CheckRoutes reports each route of h that a key without scopes opens, because
// its Require was forgotten, and each one that does not refuse that key as an
// [auth.Authenticator] does:
//
//	authtest.CheckRoutes(t, app, authtest.NewKey(t, store),
//		"GET /api/v1/documents",
//		"DELETE /api/v1/documents/{id}",
//	)
//
// The key must be one that h accepts, and hold no scopes. CheckRoutes cannot
// see what it holds, and reports the routes that its scopes open. Each route
// must answer the key with 403 and the challenge "insufficient_scope", and a
// request without a key with 401. [auth.WriteProblem] does both; an
// ErrorHandler that answers by itself should send the [auth.Challenge]. So a
// handler that answers 403 for a reason of its own is not taken for a Require.
//
// CheckRoutes also reports a handler that ran although the request was refused:
// some routers call the next handler unless they are told to stop. It
// recognizes a handler that answers too, or that reads the body of the request.
// It cannot recognize one that does neither, such as one that deletes something
// and answers with a status alone, which gin and echo drop.
//
// A route is a pattern of [http.ServeMux]: a method (GET if it names no method),
// perhaps a host, and a path, whose wildcards are filled in with "authtest".
// For a router that wants something else there, give a path. A route that h
// does not have is reported too. Routes that are not listed are not checked, so
// register and check them from one list, if you can.
//
// The requests have an empty body. A handler that should not be reached is
// reached if its Require was forgotten, so run CheckRoutes on test data.
func CheckRoutes(t testing.TB, h http.Handler, key auth.Key, routes ...string) {
	t.Helper()
	if len(routes) == 0 {
		t.Errorf("authtest.CheckRoutes: there are no routes")
	}
	if key.Reveal() == "" {
		t.Errorf("authtest.CheckRoutes: the key is the zero Key")
		return
	}
	for _, route := range routes {
		if err := checkRoute(t, h, key, route); err != nil {
			t.Errorf("%s: %v", route, err)
		}
	}
}

// checkRoute returns what is wrong with the route, or nil.
func checkRoute(t testing.TB, h http.Handler, key auth.Key, route string) error {
	method, host, path, err := parseRoute(route)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+host+path, nil)
	if err != nil {
		return fmt.Errorf("not a route: %w", err)
	}
	r.RequestURI, r.RemoteAddr = path, "192.0.2.1:1234" // as a server sets them
	// The request without a key is first: its answer says more about what is
	// wrong.
	anonymous, err := serve(h, r.Clone(t.Context()))
	if err != nil {
		return fmt.Errorf("without a key, the handler was reached: %w", err)
	}
	scopeless, err := serve(h, WithKey(r, key))
	if err != nil {
		return fmt.Errorf("with a key without scopes, the handler was reached; is its Require missing? %w", err)
	}
	return errors.Join(judge("without a key", anonymous, http.StatusUnauthorized),
		judge("with a key without scopes", scopeless, http.StatusForbidden))
}

// serve returns the answer of h, or an error if h panics.
func serve(h http.Handler, r *http.Request) (a *answer, err error) {
	a = &answer{header: make(http.Header), head: r.Method == http.MethodHead}
	r.Body = requestBody{a}
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("it panicked: %v", v)
		}
	}()
	h.ServeHTTP(a, r)
	return a, nil
}

// judge returns how the answer is not the refusal that it should be, or nil.
func judge(who string, a *answer, want int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.send(http.StatusOK) // unless it is sent
	var why string
	switch challenge := a.sent.Get("WWW-Authenticate"); {
	case a.status == want && want == http.StatusForbidden && !strings.Contains(challenge, `error="insufficient_scope"`):
		return fmt.Errorf(`%s: status 403, but no WWW-Authenticate field with error="insufficient_scope"; is this the `+
			"handler's own answer, or that of an ErrorHandler without auth.Challenge?", who)
	case a.status == want:
		if ran := a.ran(); ran != "" {
			return fmt.Errorf("%s: the request was refused with status %d, but the handler ran: %s; is the router told to "+
				"stop after a refusal?", who, want, ran)
		}
		return nil
	case a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed:
		why = `there is no such route (a wildcard is filled in with "authtest": where that does not match, give a ` +
			"path), or its Require is missing"
	case a.status/100 == 3:
		why = "a redirect, not the route itself"
	case a.status == http.StatusInternalServerError:
		why = "perhaps an auth.Require without a Middleware outside, or of a scope that is not in the Catalog; the log " +
			"says which"
	case a.status == http.StatusUnauthorized:
		why = "the key is not accepted, so this says nothing about a Require; is it a key of this store and this Scheme?"
	case want == http.StatusUnauthorized:
		why = "the route is open to everybody"
	default:
		why = "is its Require missing?"
	}
	return fmt.Errorf("%s: status %d, want %d: %s", who, a.status, want, why)
}

// An answer is an [http.ResponseWriter] that notes what is done after the
// answer is complete. The code that refuses a request does nothing more then.
// So it comes from a handler that ran all the same.
type answer struct {
	head   bool // the request is a HEAD request
	header http.Header

	mu     sync.Mutex
	sent   http.Header // the header as it was sent; nil if it was not
	status int
	body   bytes.Buffer
	late   []string // what was done after the answer was complete
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sent != nil {
		a.late = append(a.late, fmt.Sprintf("the status %d was written", status))
		return
	}
	if status >= 200 { // otherwise the final answer is still to come
		a.send(status)
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.send(http.StatusOK)
	if len(p) == 0 {
		return 0, nil
	}
	if a.complete() {
		if _, ok := a.length(); ok || len(bytes.TrimSpace(p)) > 0 {
			a.late = append(a.late, fmt.Sprintf("%d bytes were written", len(p)))
		}
		return len(p), nil
	}
	if length, ok := a.length(); ok && a.body.Len()+len(p) > length {
		a.late = append(a.late, fmt.Sprintf("%d bytes more than the Content-Length were written", a.body.Len()+len(p)-length))
		n, _ := a.body.Write(p[:length-a.body.Len()])
		return n, http.ErrContentLength
	}
	return a.body.Write(p)
}

// Flush implements [http.Flusher], which some handlers need.
func (a *answer) Flush() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.send(http.StatusOK)
}

// send sends the header, unless it is sent. The caller holds a.mu.
func (a *answer) send(status int) {
	if a.sent == nil {
		a.status, a.sent = status, a.header.Clone()
	}
}

// length returns the Content-Length, if it is set. The caller holds a.mu.
func (a *answer) length() (n int, ok bool) {
	n, err := strconv.Atoi(a.sent.Get("Content-Length"))
	return n, err == nil && n >= 0
}

// complete reports whether the answer is complete: the body has its
// Content-Length, or if that is not known, it is a whole JSON value. The caller
// holds a.mu.
func (a *answer) complete() bool {
	if a.sent == nil {
		return false
	}
	if a.head {
		return true
	}
	if length, ok := a.length(); ok {
		return a.body.Len() >= length
	}
	return a.isJSON() && json.Valid(a.body.Bytes())
}

func (a *answer) isJSON() bool { return strings.Contains(a.sent.Get("Content-Type"), "json") }

// answerFields are the header fields of an answer's own content. Those that a
// handler outside may set at any time are not among them.
var answerFields = []string{"Content-Type", "Content-Encoding", "Content-Language", "Content-Length",
	"Content-Location", "Content-Disposition", "Etag", "Last-Modified", "Location", "Set-Cookie"}

// ran says what shows that the handler ran after the refusal, or returns "".
// The caller holds a.mu.
func (a *answer) ran() string {
	for _, name := range answerFields {
		if !slices.Equal(a.header[name], a.sent[name]) {
			return "the header field " + name + " was changed after it was sent"
		}
	}
	if body := a.body.Bytes(); a.isJSON() && len(body) > 0 && !json.Valid(body) {
		return "the body is not one JSON value, but " + brief(a.body.String())
	}
	return strings.Join(a.late, ", ")
}

// A requestBody is an empty body that notes if it is read after the answer is
// complete.
type requestBody struct{ answer *answer }

func (b requestBody) Read([]byte) (int, error) {
	b.answer.mu.Lock()
	defer b.answer.mu.Unlock()
	if b.answer.complete() {
		b.answer.late = append(b.answer.late, "the body of the request was read")
	}
	return 0, io.EOF
}

func (b requestBody) Close() error { return nil }

// parseRoute splits a pattern of http.ServeMux and fills in its wildcards.
func parseRoute(route string) (method, host, path string, err error) {
	method, rest := http.MethodGet, route
	if i := strings.IndexAny(route, " \t"); i >= 0 {
		method, rest = route[:i], strings.TrimLeft(route[i:], " \t")
	}
	slash := strings.IndexByte(rest, '/')
	if slash < 0 || method == "" || strings.ContainsAny(rest, " \t?#") {
		return "", "", "", errors.New(`not a route: want a pattern like "GET /documents/{id}"`)
	}
	host, path = rest[:slash], rest[slash:]
	if host == "" {
		host = "example.com"
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		switch {
		case s == "{$}" && i == len(segments)-1:
			segments[i] = ""
		case strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}"):
			segments[i] = "authtest"
		case strings.ContainsAny(s, "{}"):
			return "", "", "", errors.New("not a route: a wildcard is a whole segment of the path")
		}
	}
	return method, host, strings.Join(segments, "/"), nil
}
