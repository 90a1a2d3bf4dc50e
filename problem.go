package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	defaultRealm       = "api"
	defaultProblemBase = "https://docs.insigner.com/errors/"
)

// A Problem is a problem detail (RFC 9457, the successor of RFC 7807). It has
// two extension members: the code of the inSigner API's error table, and the
// scopes that the route requires.
//
// A *Problem is an error. If a handler passes one of its own to [WriteProblem],
// it is answered as it is.
type Problem struct {
	Type           string `json:"type,omitempty"`     // URI reference: the problem base and a name
	Title          string `json:"title,omitempty"`    // of all problems of this type
	Status         int    `json:"status"`             // 400 to 599
	Detail         string `json:"detail,omitempty"`   // for people
	Instance       string `json:"instance,omitempty"` // URI of this occurrence; never set by this package
	Code           string `json:"code,omitempty"`
	RequiredScopes Scopes `json:"requiredScopes,omitempty"`
}

// Error returns the status, the title and the detail.
func (p *Problem) Error() string {
	text := strconv.Itoa(p.Status)
	for _, part := range []string{p.Title, p.Detail} {
		if part != "" {
			text += ": " + oneLine(part)
		}
	}
	return text
}

// ProblemFor returns what a client is told about err, as a copy.
//
//   - For an error of an [Authenticator], it uses the problem base of that
//     Authenticator and the scopes of the route.
//   - For a *Problem, it returns a copy of it.
//   - For one of the sentinels, such as [ErrKeyRevoked], it uses the default
//     problem base.
//   - For any other error, for a *Problem with a status outside 400 to 599, and
//     for nil, it returns a problem with status 500 that discloses nothing.
func ProblemFor(err error) *Problem {
	p := refusalFor(nil, err).problem
	p.RequiredScopes = slices.Clone(p.RequiredScopes)
	return &p
}

// Code returns the code of err: "KEY_REVOKED" for an error that matches
// [ErrKeyRevoked], "STORE_UNAVAILABLE" for one that matches
// [ErrStoreUnavailable], and so on. For a *Problem it returns its Code. For any
// other error, such as a programmer's mistake, and for nil, it returns "".
func Code(err error) string {
	if err == nil {
		return ""
	}
	return refusalFor(nil, err).code
}

// Challenge returns the WWW-Authenticate field for err (RFC 6750 section 3). It
// returns "" for an error whose status is neither 401 nor 403, and for a
// *Problem of the host. [WriteProblem] sends the challenge. An
// Options.ErrorHandler should send it too, since a 401 must have one (RFC 9110
// section 15.5.2).
func Challenge(err error) string { return refusalFor(nil, err).challenge }

// WriteProblem answers a request with [ProblemFor] err as
// application/problem+json, with its [Challenge], "Cache-Control: no-store"
// and, for [ErrStoreUnavailable], Retry-After. For one of the sentinels it uses
// the realm and the problem base of the Authenticator that r has passed or that
// refused it, if any.
//
// Header fields that an outer handler set for its own answer (Content-Length,
// Content-Type, ETag, Last-Modified, Cache-Control) are replaced or removed.
// All others stay. The challenge is added to any WWW-Authenticate that is
// already there. If Content-Encoding is set, WriteProblem assumes that an outer
// handler compresses the answer, and leaves the Content-Length to it. So a
// handler that has set Content-Encoding, Content-Disposition or Content-Range
// for its own answer must delete them first.
//
// Call WriteProblem before anything is written. It writes nothing of r, and
// does not log.
func WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	f := refusalFor(r, err)
	if f.body == nil {
		f.render() // a problem of the host
	}
	h := w.Header() // its keys are in canonical form
	length, challenge := f.length, f.challenge
	if len(h) > 0 {
		delete(h, "Etag")
		delete(h, "Last-Modified")
		if encoding := h["Content-Encoding"]; len(encoding) > 0 && encoding[0] != "" {
			delete(h, "Content-Length")
			length = ""
		}
		if outer := h["Www-Authenticate"]; len(outer) > 0 {
			if challenge != "" && !slices.Contains(outer, challenge) {
				h["Www-Authenticate"] = append(slices.Clone(outer), challenge)
			}
			challenge = ""
		}
	}

	fields := [...]struct{ name, value string }{
		{"Content-Type", "application/problem+json"},
		{"Content-Length", length},
		{"Cache-Control", "no-store"},
		{"X-Content-Type-Options", "nosniff"},
		{"Www-Authenticate", challenge},
		{"Retry-After", f.retryAfter},
	}
	values := make([]string, len(fields)) // one allocation for all fields
	for i, field := range fields {
		if field.value != "" {
			values[i] = field.value
			h[field.name] = values[i : i+1 : i+1]
		}
	}
	w.WriteHeader(f.problem.Status)
	if r == nil || r.Method != http.MethodHead {
		w.Write(f.body)
	}
}

// A refusal is an error and its answer to the client, in one value. It is made
// once for each reason and route, and nothing derives the answer again.
type refusal struct {
	sentinel   error  // what errors.Is finds
	misuse     string // of a programmer's mistake: what to change
	code       string // what Code returns
	problem    Problem
	challenge  string
	retryAfter string
	body       []byte
	length     string
}

func (f *refusal) Error() string {
	switch {
	case f.misuse != "":
		return "auth: " + f.misuse
	case len(f.problem.RequiredScopes) > 0:
		return f.sentinel.Error() + ": " + f.problem.RequiredScopes.join(", ")
	}
	return f.sentinel.Error()
}

func (f *refusal) Unwrap() error { return f.sentinel }

const (
	invalidToken      = `, error="invalid_token"`      // RFC 6750 section 3.1
	insufficientScope = `, error="insufficient_scope"` // RFC 6750 section 3.1
	keyDetail         = "Invalid or missing API key"
	retryAfter        = "5" // seconds
)

// reasons is the error table of the inSigner API's documentation, and what this
// package adds to it. The last reason is that of every other error.
var reasons = [...]struct {
	sentinel         error
	status           int
	name, code       string // the name follows the problem base
	detail, errorTag string
}{
	{ErrMissingKey, 401, "unauthorized", "MISSING_KEY", keyDetail, ""},
	{ErrInvalidFormat, 401, "unauthorized", "INVALID_FORMAT", keyDetail, invalidToken},
	{ErrInvalidKey, 401, "unauthorized", "INVALID_KEY", keyDetail, invalidToken},
	{ErrKeyRevoked, 401, "unauthorized", "KEY_REVOKED", "API key has been revoked", invalidToken},
	{ErrKeyDisabled, 401, "unauthorized", "KEY_DISABLED", "API key has been disabled", invalidToken},
	{ErrKeyExpired, 401, "unauthorized", "KEY_EXPIRED", "API key has expired", invalidToken},
	{ErrInsufficientScope, 403, "forbidden", "INSUFFICIENT_SCOPE", "API key lacks the required scope", insufficientScope},
	{ErrStoreUnavailable, 503, "service-unavailable", "STORE_UNAVAILABLE",
		"The API key could not be checked; try again later", ""},
	{errMisuse, 500, "internal-error", "INTERNAL_ERROR", "The server could not answer the request", ""},
}

// Refusals are the answers of one Authenticator, made at startup.
type refusals struct {
	realm, base string
	list        [len(reasons)]refusal // in the order of reasons
}

func newRefusals(realm, base string) *refusals {
	f := &refusals{realm: realm, base: base}
	for i, reason := range reasons {
		f.list[i] = refusal{
			sentinel: reason.sentinel,
			code:     reason.code,
			problem: Problem{
				Type:   base + reason.name,
				Title:  http.StatusText(reason.status),
				Status: reason.status,
				Detail: reason.detail,
				Code:   reason.code,
			},
		}
		switch reason.status {
		case 401, 403:
			f.list[i].challenge = f.challenge(reason.errorTag)
		case 503:
			f.list[i].retryAfter = retryAfter
		case 500:
			f.list[i].code = "" // it is no decision about a key
		}
		f.list[i].render()
	}
	return f
}

// checkAnswers returns an error if a realm or a problem base cannot be sent.
func checkAnswers(realm, base string) error {
	if strings.ContainsFunc(realm, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return fmt.Errorf("the realm %s holds a control character", quote(realm))
	}
	if _, err := url.Parse(base); err != nil {
		return fmt.Errorf("the problem base %s is not the start of a URI", quote(base))
	}
	return nil
}

// of returns the refusal for a sentinel.
func (f *refusals) of(sentinel error) *refusal {
	for i := range f.list {
		if f.list[i].sentinel == sentinel {
			return &f.list[i]
		}
	}
	return f.internal()
}

// internal returns the refusal for an error that is unknown here.
func (f *refusals) internal() *refusal { return &f.list[len(f.list)-1] }

// matching returns the refusal for the sentinel that err matches.
func (f *refusals) matching(err error) *refusal {
	for i := range f.list[:len(f.list)-1] {
		if errors.Is(err, f.list[i].sentinel) {
			return &f.list[i]
		}
	}
	return f.internal()
}

// forbidden returns the refusal of a key that does not meet q.
func (f *refusals) forbidden(q *requirement) *refusal {
	refused := *f.of(ErrInsufficientScope)
	list := q.scopes.join(", ")
	switch {
	case q.any:
		// No scope attribute: RFC 6750 section 3 wants all scopes that are
		// listed there.
		refused.problem.Detail = "API key lacks one of the required scopes: " + list
	case len(q.scopes) > 1:
		refused.problem.Detail += "s: " + list
		refused.challenge += `, scope="` + q.scopes.join(" ") + `"`
	default:
		refused.problem.Detail += ": " + list
		refused.challenge += `, scope="` + list + `"`
	}
	refused.problem.RequiredScopes = slices.Clone(q.scopes)
	refused.render()
	return &refused
}

// misuse returns the refusal for a programmer's mistake that only a request
// reveals. The client is told nothing; the text is for the log.
func (f *refusals) misuse(text string) *refusal {
	refused := *f.internal()
	refused.misuse = text
	return &refused
}

// quotedString escapes what RFC 9110 section 5.6.4 says must be escaped.
var quotedString = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// challenge returns a challenge (RFC 6750 section 3). The attributes are
// constants and need no escaping.
func (f *refusals) challenge(attributes string) string {
	return `Bearer realm="` + quotedString.Replace(f.realm) + `"` + attributes
}

func (f *refusal) render() {
	body, err := json.Marshal(f.problem)
	if err != nil {
		panic("auth: " + err.Error()) // strings and an int can always be marshaled
	}
	f.body = append(body, '\n')
	f.length = strconv.Itoa(len(f.body))
}

// defaultRefusals answer where there is no Authenticator.
var defaultRefusals = newRefusals(defaultRealm, defaultProblemBase)

// refusalsKey is the context key of the *refusals of the Authenticator that a
// request has passed.
type refusalsKey struct{}

// refusalFor returns the refusal that err is, or else the one that belongs to
// it: that of a *Problem, or that of the sentinel which err matches, in the
// words of the Authenticator that r has passed. R may be nil.
func refusalFor(r *http.Request, err error) *refusal {
	if f, ok := err.(*refusal); ok {
		return f
	}
	if f, ok := errors.AsType[*refusal](err); ok {
		return f
	}
	answers := defaultRefusals
	if r != nil {
		if f, ok := r.Context().Value(refusalsKey{}).(*refusals); ok {
			answers = f
		}
	}
	if p, ok := errors.AsType[*Problem](err); ok && p != nil {
		if p.Status < 400 || p.Status > 599 {
			internal := *answers.internal()
			internal.code = p.Code
			return &internal
		}
		return &refusal{sentinel: p, code: p.Code, problem: *p}
	}
	return answers.matching(err)
}
