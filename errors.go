package auth

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Why a request is refused (inSigner API documentation, "Authentication errors"). An [Authenticator]'s errors match
// one of these with [errors.Is].
var (
	ErrMissingKey        = errors.New("auth: no API key: no Authorization header, or not the Bearer scheme")
	ErrInvalidFormat     = errors.New("auth: the API key does not start with the prefix")
	ErrInvalidKey        = errors.New("auth: the API key is malformed or unknown")
	ErrKeyRevoked        = errors.New("auth: the API key has been revoked")
	ErrKeyExpired        = errors.New("auth: the API key has expired")
	ErrInsufficientScope = errors.New("auth: the API key lacks a required scope")

	// ErrStoreUnavailable: the store failed, so nobody knows whether the key is good. The cause goes to
	// Options.Logger only. It is also what becomes of a look-up whose client has gone away: then the request's
	// context is done.
	ErrStoreUnavailable = errors.New("auth: the key store is unavailable")
)

// What stores and keyrings return.
var (
	ErrNotFound        = errors.New("auth: no such key")
	ErrExists          = errors.New("auth: there is a key with this ID or hash already")
	ErrSuperseded      = errors.New("auth: the key has been rotated already")
	ErrInvalidArgument = errors.New("auth: invalid argument") // what was asked of a Keyring makes no sense
)

const (
	defaultRealm       = "api"
	defaultProblemBase = "https://docs.insigner.com/errors/"
	retryAfter         = "5" // seconds, with 503
)

// A Problem is a problem detail (RFC 9457, formerly RFC 7807) with two extension members: the code of the inSigner
// API's error table, and the scopes that the route requires.
type Problem struct {
	Type           string `json:"type"` // URI reference: the problem base, then a name
	Title          string `json:"title"`
	Status         int    `json:"status"`
	Detail         string `json:"detail"`
	Instance       string `json:"instance,omitempty"`
	Code           string `json:"code"`
	RequiredScopes Scopes `json:"requiredScopes,omitempty"`
}

// ProblemFor returns what a client is told about err. For an error of an [Authenticator] it uses that one's problem
// base and the route's scopes; for one of the errors above alone, the published base. About any other error, nil
// too, it says 500 and discloses nothing.
func ProblemFor(err error) Problem {
	p := refusalFor(err).problem
	p.RequiredScopes = slices.Clone(p.RequiredScopes)
	return p
}

// Challenge returns the WWW-Authenticate field that belongs to err (RFC 6750 section 3), or "" if its status is
// neither 401 nor 403. [WriteProblem] sends it; an error handler that writes a body of its own should too, for a 401
// must have one (RFC 9110 section 15.5.2).
func Challenge(err error) string { return refusalFor(err).challenge }

// WriteProblem answers with [ProblemFor] err as application/problem+json, with its challenge, "Cache-Control:
// no-store" and, on a 503, Retry-After. Header fields that an outer handler set for an answer of its own
// (Content-Length, Content-Type, ETag, Last-Modified, Cache-Control) are replaced or removed; others stay. Behind a
// handler that compresses, as Content-Encoding tells, the Content-Length is left to it. It does not log, and writes
// nothing of r.
func WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	f := refusalFor(err)
	h := w.Header()
	h.Del("ETag")
	h.Del("Last-Modified")
	length := f.length
	if h.Get("Content-Encoding") != "" {
		// A compressing handler outside has set it for all that passes through it, so the length is not this one's
		// to know.
		h.Del("Content-Length")
		length = ""
	}

	fields := [...]struct{ name, value string }{
		{"Content-Type", "application/problem+json"},
		{"Content-Length", length},
		{"Cache-Control", "no-store"},
		{"X-Content-Type-Options", "nosniff"},
		{"Www-Authenticate", f.challenge},
		{"Retry-After", f.retryAfter},
	}
	values := make([]string, len(fields)) // one allocation for them all
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

// A refusal is the error that an Authenticator hands to its ErrorHandler: a sentinel, and the answer to the client,
// which is the same for every request that the route refuses so.
type refusal struct {
	sentinel   error
	problem    Problem
	challenge  string
	retryAfter string
	body       []byte
	length     string
}

func (f *refusal) Error() string {
	if len(f.problem.RequiredScopes) == 0 {
		return f.sentinel.Error()
	}
	return f.sentinel.Error() + ": " + f.problem.RequiredScopes.join(", ")
}

func (f *refusal) Unwrap() error { return f.sentinel }

// A voice is what an Authenticator says beside the facts.
type voice struct{ realm, base string }

func newVoice(call string, opts *Options) voice {
	v := voice{defaultRealm, defaultProblemBase}
	if opts.Realm != "" {
		v.realm = opts.Realm
	}
	if strings.ContainsFunc(v.realm, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		panic(call + ": the realm " + quote(v.realm) + " holds a control character")
	}
	if opts.ProblemBase != "" {
		v.base = opts.ProblemBase
	}
	if _, err := url.Parse(v.base); err != nil {
		panic(call + ": the problem base " + quote(v.base) + " is not the start of a URI")
	}
	return v
}

const unauthorizedDetail = "Invalid or missing API key"

// refuse returns the refusal for a sentinel other than ErrInsufficientScope; for an error that is none, 500.
func (v voice) refuse(sentinel error) *refusal {
	switch sentinel {
	case ErrMissingKey:
		return v.unauthorized(sentinel, "MISSING_KEY", unauthorizedDetail, "")
	case ErrInvalidFormat:
		return v.unauthorized(sentinel, "INVALID_FORMAT", unauthorizedDetail, invalidToken)
	case ErrInvalidKey:
		return v.unauthorized(sentinel, "INVALID_KEY", unauthorizedDetail, invalidToken)
	case ErrKeyRevoked:
		return v.unauthorized(sentinel, "KEY_REVOKED", "API key has been revoked", invalidToken)
	case ErrKeyExpired:
		return v.unauthorized(sentinel, "KEY_EXPIRED", "API key has expired", invalidToken)
	case ErrInsufficientScope:
		return v.forbidden(nil)
	case ErrStoreUnavailable:
		f := render(refusal{sentinel: sentinel, problem: Problem{Type: v.base + "service-unavailable",
			Title: "Service Unavailable", Status: http.StatusServiceUnavailable,
			Detail: "The API key could not be checked; try again later", Code: "STORE_UNAVAILABLE"}})
		f.retryAfter = retryAfter
		return f
	}
	return render(refusal{sentinel: sentinel, problem: Problem{Type: v.base + "internal-error",
		Title: "Internal Server Error", Status: http.StatusInternalServerError,
		Detail: "The server could not answer the request", Code: "INTERNAL_ERROR"}})
}

const invalidToken = `, error="invalid_token"`

func (v voice) unauthorized(sentinel error, code, detail, attributes string) *refusal {
	return render(refusal{sentinel: sentinel, challenge: v.challenge(attributes),
		problem: Problem{Type: v.base + "unauthorized", Title: "Unauthorized",
			Status: http.StatusUnauthorized, Detail: detail, Code: code}})
}

// forbidden returns the refusal of a key that does not meet q. A nil q: what was required is not known.
func (v voice) forbidden(q *requirement) *refusal {
	attributes := `, error="insufficient_scope"`
	detail := "API key lacks the required scope"
	var required Scopes
	if q != nil {
		required = slices.Clone(q.scopes)
		list := required.join(", ")
		switch {
		case q.any:
			detail = "API key lacks one of the required scopes: " + list
		case len(required) > 1:
			detail += "s: " + list
		default:
			detail += ": " + list
		}
		if !q.any { // RFC 6750 section 3: all that are listed are necessary
			attributes += `, scope="` + required.join(" ") + `"`
		}
	}
	return render(refusal{sentinel: ErrInsufficientScope, challenge: v.challenge(attributes),
		problem: Problem{Type: v.base + "forbidden", Title: "Forbidden", Status: http.StatusForbidden,
			Detail: detail, Code: "INSUFFICIENT_SCOPE", RequiredScopes: required}})
}

// quotedString escapes what RFC 9110 section 5.6.4 says must be.
var quotedString = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// challenge returns a challenge of RFC 6750 section 3. The attributes are constants and scopes: no need to escape.
func (v voice) challenge(attributes string) string {
	return `Bearer realm="` + quotedString.Replace(v.realm) + `"` + attributes
}

func render(f refusal) *refusal {
	body, err := json.Marshal(f.problem)
	if err != nil {
		panic("auth: " + err.Error()) // strings and an int always marshal
	}
	f.body = append(body, '\n')
	f.length = strconv.Itoa(len(f.body))
	return &f
}

// The refusals of a bare error.
var (
	bareRefusals = func() (list []*refusal) {
		for _, sentinel := range []error{ErrMissingKey, ErrInvalidFormat, ErrInvalidKey, ErrKeyRevoked, ErrKeyExpired,
			ErrInsufficientScope, ErrStoreUnavailable} {
			list = append(list, voice{defaultRealm, defaultProblemBase}.refuse(sentinel))
		}
		return list
	}()
	errInternal  = errors.New("auth: internal error")
	bareInternal = voice{defaultRealm, defaultProblemBase}.refuse(errInternal)
)

// refusalFor returns the refusal that err carries, or else the one for the sentinel that it matches.
func refusalFor(err error) *refusal {
	if f, ok := err.(*refusal); ok {
		return f
	}
	if f, ok := errors.AsType[*refusal](err); ok {
		return f
	}
	for _, f := range bareRefusals {
		if errors.Is(err, f.sentinel) {
			return f
		}
	}
	return bareInternal
}
