package keyapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// reasons are what the errors of a Keyring become. They are about the key that
// is managed, so none is 401.
var reasons = []struct {
	sentinel     error
	status       int
	code, detail string
}{
	{auth.ErrNotFound, http.StatusNotFound, "NOT_FOUND", "There is no such key"},
	{keyring.ErrInvalidArgument, http.StatusUnprocessableEntity, "INVALID_ARGUMENT",
		"The request asks for something that cannot be"},
	{auth.ErrInsufficientScope, http.StatusForbidden, "INSUFFICIENT_SCOPE", "The key has a scope that you do not hold"},
	{keyring.ErrRotated, http.StatusConflict, "KEY_ROTATED", "The key has been rotated already; rotate its successor, rotatedTo"},
	{auth.ErrKeyRevoked, http.StatusConflict, "KEY_REVOKED", "The key has been revoked"},
	{auth.ErrKeyDisabled, http.StatusConflict, "KEY_DISABLED", "The key has been disabled"},
	{auth.ErrKeyExpired, http.StatusConflict, "KEY_EXPIRED", "The key has expired"},
	{keyring.ErrTooManyKeys, http.StatusConflict, "TOO_MANY_KEYS",
		"There are as many keys as are permitted; revoke one first"},
	{keyring.ErrExists, http.StatusConflict, "KEY_EXISTS", "The key exists already"},
	{keyring.ErrConflict, http.StatusConflict, "CONFLICT", "The key was changed at the same time; try again"},
	{errors.ErrUnsupported, http.StatusNotImplemented, "NOT_IMPLEMENTED", "No events are kept here"},
}

// ProblemFor returns what a client is told about an error of a
// [keyring.Keyring], for the endpoints of a host. It is about the key that is
// managed and not about the one that the request came with, so
// [auth.WriteProblem] answers it without a challenge.
//
//   - 404 for auth.ErrNotFound
//   - 409 for keyring.ErrRotated, keyring.ErrTooManyKeys, keyring.ErrExists,
//     keyring.ErrConflict, auth.ErrKeyRevoked, auth.ErrKeyDisabled and
//     auth.ErrKeyExpired
//   - 422 for keyring.ErrInvalidArgument, with the reason, and 403 if the actor
//     can do nothing
//   - 403 for auth.ErrInsufficientScope
//   - 501 for errors.ErrUnsupported, from Events
//   - 500 for a *keyring.RecordError, and for nil
//   - 503 for any other error: the store has failed
//
// For an *auth.Problem it returns a copy. For other errors of package auth, it
// returns what auth.ProblemFor does.
func ProblemFor(err error) *auth.Problem { return problemFor(defaultProblemBase, err) }

func problemFor(base string, err error) *auth.Problem {
	if p, ok := errors.AsType[*auth.Problem](err); ok && p != nil {
		return auth.ProblemFor(err)
	}
	if wrong, ok := errors.AsType[*keyring.ArgumentError](err); ok {
		status, code := http.StatusUnprocessableEntity, "INVALID_ARGUMENT"
		switch {
		case errors.Is(err, auth.ErrInsufficientScope):
			status, code = http.StatusForbidden, "INSUFFICIENT_SCOPE"
		case wrong.Field == "Actor":
			status, code = http.StatusForbidden, "FORBIDDEN"
		}
		return newProblem(base, status, code, sentence(wrong.Reason))
	}
	for _, reason := range reasons {
		if errors.Is(err, reason.sentinel) {
			return newProblem(base, reason.status, reason.code, reason.detail)
		}
	}
	if auth.Code(err) != "" {
		return auth.ProblemFor(err)
	}
	if _, ok := errors.AsType[*keyring.RecordError](err); ok || err == nil {
		return newProblem(base, http.StatusInternalServerError, "INTERNAL_ERROR", "The server could not answer the request")
	}
	return newProblem(base, http.StatusServiceUnavailable, "STORE_UNAVAILABLE",
		"The keys could not be reached; try again later")
}

func newProblem(base string, status int, code, detail string) *auth.Problem {
	title := http.StatusText(status)
	name := strings.ReplaceAll(strings.ToLower(title), " ", "-")
	if status == http.StatusInternalServerError {
		name = "internal-error" // as in package auth
	}
	return &auth.Problem{Type: base + name, Title: title, Status: status, Detail: detail, Code: code}
}

// sentence returns a text that begins in upper case.
func sentence(text string) string {
	first, n := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[n:]
}

// A problem is an auth.Problem that says where in the request it is.
type problem struct {
	auth.Problem
	Pointer     *string  `json:"pointer,omitempty"`     // to a member of the body (RFC 6901)
	Parameter   string   `json:"parameter,omitempty"`   // of the path, the query or the header
	RevokedKeys []string `json:"revokedKeys,omitempty"` // what is done in spite of the failure

	cause error // for the log
}

func (c *call) problem(status int, code, detail string) *problem {
	return &problem{Problem: *newProblem(c.base, status, code, detail)}
}

func (c *call) notFound() error {
	return c.problem(http.StatusNotFound, "NOT_FOUND", "There is no such path")
}

func (c *call) noSuchKey() error { return c.problemOf(auth.ErrNotFound) }

// badParameter refuses a parameter of the path, the query or the header.
func (c *call) badParameter(name, detail string) *problem {
	p := c.problem(http.StatusBadRequest, "INVALID_REQUEST", detail)
	p.Parameter = name
	return p
}

// badMember refuses a member of the body, or the body if the pointer is empty.
func (c *call) badMember(pointer, detail string) *problem {
	p := c.problem(http.StatusBadRequest, "INVALID_REQUEST", detail)
	p.Pointer = &pointer
	return p
}

// problemOf returns the problem for an error of a Keyring, with the place that
// it is about.
func (c *call) problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	p := &problem{Problem: *problemFor(c.base, err), cause: err}
	if wrong, ok := errors.AsType[*keyring.ArgumentError](err); ok && wrong.Field != "" {
		p.Pointer, p.Parameter = place(wrong)
	} else if c.named && p.Status < 500 {
		p.Parameter = "id"
	}
	return p
}

// place returns where an argument of a Keyring comes from.
func place(wrong *keyring.ArgumentError) (pointer *string, parameter string) {
	switch wrong.Field {
	case "Text":
		return nil, "q"
	case "After":
		return nil, "cursor"
	case "Kind":
		return nil, "kind"
	}
	at, ok := map[string]string{"Name": "/name", "Scopes": "/scopes", "ExpiresAt": "/expiresAt", "Metadata": "/metadata",
		"Grace": "/graceSeconds"}[wrong.Field]
	if !ok {
		return nil, ""
	}
	if wrong.Element != "" {
		at += pointerTo(wrong.Element)
	}
	return &at, ""
}

// pointerTo returns a JSON pointer to a member (RFC 6901 section 3).
func pointerTo(name string) string {
	return "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// fail answers the request with an error.
func (c *call) fail(err error) {
	if e, ok := errors.AsType[refused](err); ok {
		p := auth.ProblemFor(e.error)
		if p.Status == http.StatusInternalServerError { // it is mounted without a Middleware, for instance
			c.logFailure(e.error)
		}
		c.refuse(p.Code)
		auth.WriteProblem(c.w, c.r, e.error)
		return
	}
	p := c.problemOf(err)
	if p.Status >= 500 {
		c.logFailure(p.cause)
	}
	c.refuse(p.Code)
	h := c.w.Header()
	for _, name := range []string{"Etag", "Last-Modified", "Idempotency-Replayed"} {
		h.Del(name)
	}
	if p.Status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "5")
	}
	c.write(p.Status, "application/problem+json", p)
}

// refuse tells the host why the request is refused.
func (c *call) refuse(code string) {
	if c.refusal != nil {
		c.refusal(c.r.Context(), code)
	}
}

// write answers the request with a value as JSON.
func (c *call) write(status int, mediaType string, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		panic("keyapi: " + err.Error()) // all types of this package can be marshaled
	}
	c.writeBody(status, mediaType, append(body, '\n'))
}

func (c *call) writeBody(status int, mediaType string, body []byte) {
	h := c.w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", mediaType)
	h.Del("Content-Length")
	if h.Get("Content-Encoding") == "" { // else an outer handler compresses
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	c.w.WriteHeader(status)
	if c.r.Method != http.MethodHead {
		c.w.Write(body)
	}
}

// logFailure logs an error that is for the operator.
func (c *call) logFailure(err error) {
	ctx := c.r.Context()
	level := slog.LevelError
	if ctx.Err() == context.Canceled {
		level = slog.LevelDebug // the client has gone away
	}
	c.log().Log(ctx, level, "keyapi: the keys cannot be managed", "error", redact(err.Error(), c.id, c.text))
}
