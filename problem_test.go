package auth_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/insigner/auth"
)

const (
	invalidToken     = `Bearer realm="api", error="invalid_token"`
	invalidOrMissing = "Invalid or missing API key"
	notAnswered      = "The server could not answer the request"
)

// problems is the error table of the inSigner API's documentation, and what
// this package adds to it. It does not know the errors without a code.
var problems = []struct {
	err                                  error
	status                               int
	code, name, title, detail, challenge string
}{
	{auth.ErrMissingKey, 401, "MISSING_KEY", "unauthorized", "Unauthorized", invalidOrMissing, `Bearer realm="api"`},
	{auth.ErrInvalidFormat, 401, "INVALID_FORMAT", "unauthorized", "Unauthorized", invalidOrMissing, invalidToken},
	{auth.ErrInvalidKey, 401, "INVALID_KEY", "unauthorized", "Unauthorized", invalidOrMissing, invalidToken},
	{auth.ErrKeyRevoked, 401, "KEY_REVOKED", "unauthorized", "Unauthorized", "API key has been revoked", invalidToken},
	{auth.ErrKeyDisabled, 401, "KEY_DISABLED", "unauthorized", "Unauthorized", "API key has been disabled",
		invalidToken},
	{auth.ErrKeyExpired, 401, "KEY_EXPIRED", "unauthorized", "Unauthorized", "API key has expired", invalidToken},
	{auth.ErrInsufficientScope, 403, "INSUFFICIENT_SCOPE", "forbidden", "Forbidden", "API key lacks the required scope",
		`Bearer realm="api", error="insufficient_scope"`},
	{auth.ErrStoreUnavailable, 503, "STORE_UNAVAILABLE", "service-unavailable", "Service Unavailable",
		"The API key could not be checked; try again later", ""},
	{nil, 500, "", "internal-error", "Internal Server Error", notAnswered, ""},
	{errors.New("dial 10.0.0.1: refused"), 500, "", "internal-error", "Internal Server Error", notAnswered, ""},
	{auth.ErrNotFound, 500, "", "internal-error", "Internal Server Error", notAnswered, ""},
	{context.Canceled, 500, "", "internal-error", "Internal Server Error", notAnswered, ""},
}

// wrappings returns err, also wrapped in several ways. Nil stays alone.
func wrappings(err error) map[string]error {
	if err == nil {
		return map[string]error{"bare": nil}
	}
	return map[string]error{
		"bare":          err,
		"wrapped":       fmt.Errorf("key 1234567890abcdef: %w", err),
		"wrapped twice": fmt.Errorf("a: %w", fmt.Errorf("b: %w", err)),
		"joined":        errors.Join(io.EOF, err),
	}
}

// problemText returns the body that p is answered with.
func problemText(p any) string {
	text, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return string(text) + "\n"
}

// TestProblemFor: the problem, the code, the challenge and the whole answer for
// each error.
func TestProblemFor(t *testing.T) {
	for _, c := range problems {
		want := auth.Problem{
			Type:   "https://docs.insigner.com/errors/" + c.name,
			Title:  c.title,
			Status: c.status,
			Detail: c.detail,
			Code:   c.code,
		}
		if c.code == "" {
			want.Code = "INTERNAL_ERROR"
		}
		body := problemText(want)
		header := http.Header{
			"Content-Type":           {"application/problem+json"},
			"Content-Length":         {strconv.Itoa(len(body))},
			"Cache-Control":          {"no-store"},
			"X-Content-Type-Options": {"nosniff"},
		}
		if c.challenge != "" {
			header["Www-Authenticate"] = []string{c.challenge}
		}
		if c.status == 503 {
			header["Retry-After"] = []string{"5"}
		}
		for how, err := range wrappings(c.err) {
			name := fmt.Sprintf("%v, %s", c.err, how)
			if got := auth.ProblemFor(err); !reflect.DeepEqual(*got, want) {
				t.Errorf("%s: got %#v, want %#v", name, *got, want)
			}
			if got := auth.Code(err); got != c.code {
				t.Errorf("%s: Code %q, want %q", name, got, c.code)
			}
			if got := auth.Challenge(err); got != c.challenge {
				t.Errorf("%s: Challenge %q, want %q", name, got, c.challenge)
			}
			for method, r := range map[string]*http.Request{
				"no request": nil,
				"GET":        httptest.NewRequest("GET", "/", nil),
				"DELETE":     httptest.NewRequest("DELETE", "/", nil),
				"HEAD":       httptest.NewRequest("HEAD", "/", nil),
			} {
				w := httptest.NewRecorder()
				auth.WriteProblem(w, r, err)
				if w.Code != c.status {
					t.Errorf("%s, %s: status %d, want %d", name, method, w.Code, c.status)
				}
				if got := w.Header(); !reflect.DeepEqual(got, header) {
					t.Errorf("%s, %s: header %v, want %v", name, method, got, header)
				}
				wantBody := body
				if method == "HEAD" {
					wantBody = ""
				}
				if got := w.Body.String(); got != wantBody {
					t.Errorf("%s, %s: body %s, want %s", name, method, got, wantBody)
				}
			}
		}
	}
}

// TestProblemJSON: the JSON members of a Problem, their order, and which are
// omitted if empty.
func TestProblemJSON(t *testing.T) {
	for _, c := range []struct {
		p    auth.Problem
		want string
	}{
		{
			auth.Problem{
				Type: "t", Title: "T", Status: 418, Detail: "d", Instance: "i", Code: "c", RequiredScopes: auth.Scopes{"a.b", "*"},
			},
			`{"type":"t","title":"T","status":418,"detail":"d","instance":"i","code":"c","requiredScopes":["a.b","*"]}`,
		},
		{auth.Problem{}, `{"status":0}`},
		{auth.Problem{Status: 404, RequiredScopes: auth.Scopes{}}, `{"status":404}`},
		{auth.Problem{Status: 404, Title: "Not Found"}, `{"title":"Not Found","status":404}`},
		{auth.Problem{Status: 404, Instance: "/documents/7"}, `{"status":404,"instance":"/documents/7"}`},
		{auth.Problem{Status: 404, Detail: `"<`}, `{"status":404,"detail":"\"\u003c"}`},
	} {
		text, err := json.Marshal(c.p)
		if err != nil {
			t.Errorf("%#v: %v", c.p, err)
		}
		if got := string(text); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestProblemError(t *testing.T) {
	for _, c := range []struct {
		p    auth.Problem
		want string
	}{
		{auth.Problem{Status: 404, Title: "Not Found", Detail: "no document 7"}, "404: Not Found: no document 7"},
		{auth.Problem{Status: 404, Title: "Not Found"}, "404: Not Found"},
		{auth.Problem{Status: 404, Detail: "no document 7", Code: "X", Type: "t"}, "404: no document 7"},
		{auth.Problem{Status: 404}, "404"},
		{auth.Problem{Status: 404, Title: "a\nb", Detail: "c\u2028d"}, `404: a\nb: c\u2028d`},
	} {
		if got := c.p.Error(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// A wrapperOf makes a wrapper with an Authenticator.
type wrapperOf = func(*auth.Authenticator) wrapper

// refusalOf returns the answer of a route to a request with that key, and the
// error that led to it. The record of goodKey has the scopes templates.read and
// secret.scope.
func refusalOf(t *testing.T, opts auth.Options, key string, wrap wrapperOf) (*httptest.ResponseRecorder, error) {
	t.Helper()
	var refusal error
	opts.ErrorHandler = func(_ http.ResponseWriter, _ *http.Request, err error) bool {
		refusal = err
		return false
	}
	a := auth.New(newStore(scopedRecord("templates.read", "secret.scope")), &opts)
	r := httptest.NewRequest("GET", "/", nil)
	if key != "" {
		r = requestWith(key)
	}
	w := serve(wrap(a)(closed(t)), r)
	if refusal == nil {
		t.Fatal("the request was not refused")
	}
	return w, refusal
}

func middlewareOf(a *auth.Authenticator) func(http.Handler) http.Handler { return a.Middleware }

// TestForbidden: Detail, challenge and RequiredScopes of a 403 name what the
// route requires, and nothing that the key holds.
func TestForbidden(t *testing.T) {
	inside := func(require wrapper) wrapperOf {
		return func(a *auth.Authenticator) wrapper {
			return func(h http.Handler) http.Handler { return a.Middleware(require(h)) }
		}
	}
	asking := func(authorize func(context.Context) error) wrapperOf {
		return func(a *auth.Authenticator) wrapper {
			return func(h http.Handler) http.Handler {
				return a.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if err := authorize(r.Context()); err != nil {
						auth.WriteProblem(w, r, err)
						return
					}
					h.ServeHTTP(w, r)
				}))
			}
		}
	}
	all := func(s auth.Scope, more ...auth.Scope) map[string]wrapperOf {
		return map[string]wrapperOf{
			"Require":   inside(auth.Require(s, more...)),
			"a.Require": func(a *auth.Authenticator) wrapper { return a.Require(s, more...) },
			"Authorize": asking(func(ctx context.Context) error { return auth.Authorize(ctx, s, more...) }),
		}
	}
	one := func(s auth.Scope, more ...auth.Scope) map[string]wrapperOf {
		return map[string]wrapperOf{
			"RequireAny": inside(auth.RequireAny(s, more...)),
			"a.RequireAny": func(a *auth.Authenticator) wrapper {
				return a.RequireAny(s, more...)
			},
			"AuthorizeAny": asking(func(ctx context.Context) error { return auth.AuthorizeAny(ctx, s, more...) }),
		}
	}
	for _, c := range []struct {
		wraps         map[string]wrapperOf
		detail, scope string
		required      auth.Scopes
	}{
		{all("a.x"), " the required scope: a.x", `, scope="a.x"`, auth.Scopes{"a.x"}},
		{all("b.x", "a.x"), " the required scopes: b.x, a.x", `, scope="b.x a.x"`, auth.Scopes{"b.x", "a.x"}},
		{all("templates.read", "a.x"), " the required scopes: templates.read, a.x", `, scope="templates.read a.x"`,
			auth.Scopes{"templates.read", "a.x"}},
		{all("*"), " the required scope: *", `, scope="*"`, auth.Scopes{"*"}},
		{all("a:x", "admin"), " the required scopes: a:x, admin", `, scope="a:x admin"`, auth.Scopes{"a:x", "admin"}},
		{one("b.x", "a.x"), " one of the required scopes: b.x, a.x", "", auth.Scopes{"b.x", "a.x"}},
		{one("a.x"), " one of the required scopes: a.x", "", auth.Scopes{"a.x"}},
	} {
		for name, wrap := range c.wraps {
			name = fmt.Sprint(name, " of ", c.required)
			a := auth.New(newStore(scopedRecord("templates.read", "secret.scope")), nil)
			w := serve(wrap(a)(closed(t)), requestWith(goodKey))
			want := auth.Problem{
				Type:           "https://docs.insigner.com/errors/forbidden",
				Title:          "Forbidden",
				Status:         403,
				Detail:         "API key lacks" + c.detail,
				Code:           "INSUFFICIENT_SCOPE",
				RequiredScopes: c.required,
			}
			if w.Code != 403 {
				t.Errorf("%s: status %d, want 403", name, w.Code)
			}
			if got := w.Body.String(); got != problemText(want) {
				t.Errorf("%s: body %s, want %s", name, got, problemText(want))
			}
			challenge := `Bearer realm="api", error="insufficient_scope"` + c.scope
			if got := w.Header()["Www-Authenticate"]; !slices.Equal(got, []string{challenge}) {
				t.Errorf("%s: challenge %q, want %q", name, got, challenge)
			}
		}
	}
}

// TestForbiddenError: the error of a 403 carries all of it, also wrapped, and
// nobody can change it.
func TestForbiddenError(t *testing.T) {
	_, refusal := refusalOf(t, auth.Options{}, goodKey,
		func(a *auth.Authenticator) wrapper { return a.Require("a.x", "b.x") })
	want := auth.Problem{
		Type:           "https://docs.insigner.com/errors/forbidden",
		Title:          "Forbidden",
		Status:         403,
		Detail:         "API key lacks the required scopes: a.x, b.x",
		Code:           "INSUFFICIENT_SCOPE",
		RequiredScopes: auth.Scopes{"a.x", "b.x"},
	}
	for how, err := range wrappings(refusal) {
		if !errors.Is(err, auth.ErrInsufficientScope) {
			t.Errorf("%s: %v does not match ErrInsufficientScope", how, err)
		}
		const challenge = `Bearer realm="api", error="insufficient_scope", scope="a.x b.x"`
		if got := auth.Challenge(err); got != challenge {
			t.Errorf("%s: challenge %s, want %s", how, got, challenge)
		}
		for range 2 {
			got := auth.ProblemFor(err)
			if !reflect.DeepEqual(*got, want) {
				t.Errorf("%s: got %#v, want %#v", how, *got, want)
			}
			got.RequiredScopes[0] = "changed"
			got.Detail = "changed"
		}
		w := httptest.NewRecorder()
		auth.WriteProblem(w, nil, err)
		if got := w.Body.String(); got != problemText(want) {
			t.Errorf("%s: body %s, want %s", how, got, problemText(want))
		}
	}
	if got, want := refusal.Error(), "auth: the API key lacks a required scope: a.x, b.x"; got != want {
		t.Errorf("the error says %q, want %q", got, want)
	}
}

// TestProblemForReturnsCopies: the caller may change what ProblemFor returns.
func TestProblemForReturnsCopies(t *testing.T) {
	host := &auth.Problem{Status: 404, Code: "X", RequiredScopes: auth.Scopes{"a.x"}}
	for _, err := range []error{auth.ErrInvalidKey, auth.ErrInsufficientScope, io.EOF, nil, host} {
		want := *auth.ProblemFor(err)
		want.RequiredScopes = slices.Clone(want.RequiredScopes)
		got := auth.ProblemFor(err)
		for i := range got.RequiredScopes {
			got.RequiredScopes[i] = "changed"
		}
		got.Status, got.Code, got.Type = 200, "changed", "changed"
		if again := *auth.ProblemFor(err); !reflect.DeepEqual(again, want) {
			t.Errorf("%v: after a change of a copy: %#v, want %#v", err, again, want)
		}
	}
}

// TestRequiredScopesAreCopied: the scopes that were given to Require may change
// later.
func TestRequiredScopesAreCopied(t *testing.T) {
	more := []auth.Scope{"b.x"}
	w, _ := refusalOf(t, auth.Options{}, goodKey, func(a *auth.Authenticator) wrapper {
		require := a.Require("a.x", more...)
		more[0] = "templates.read"
		return require
	})
	if got, want := problemIn(t, w).RequiredScopes, (auth.Scopes{"a.x", "b.x"}); !slices.Equal(got, want) {
		t.Errorf("required %v, want %v", got, want)
	}
}

// TestProblemOfTheHost: a *Problem of the host is answered as it is, and gets
// no challenge.
func TestProblemOfTheHost(t *testing.T) {
	for name, p := range map[string]auth.Problem{
		"404": {
			Type:     "https://acme.example/no-document",
			Title:    "No document",
			Status:   404,
			Detail:   "There is no document 7",
			Instance: "/documents/7",
			Code:     "NO_DOCUMENT",
		},
		"400":           {Status: 400, Title: "Bad Request"},
		"401":           {Status: 401, Title: "Unauthorized", Code: "NO_SESSION"},
		"403":           {Status: 403, Title: "Forbidden", Code: "SUSPENDED", RequiredScopes: auth.Scopes{"a.x"}},
		"429":           {Status: 429, Title: "Too Many Requests", Code: "RATE_LIMITED"},
		"503":           {Status: 503, Title: "Service Unavailable"},
		"599":           {Status: 599, Code: "LAST"},
		"an empty code": {Status: 409, Title: "Conflict"},
		"our code":      {Status: 401, Code: "KEY_REVOKED"},
	} {
		for how, err := range wrappings(&p) {
			name := name + ", " + how
			if got := auth.ProblemFor(err); !reflect.DeepEqual(*got, p) {
				t.Errorf("%s: got %#v, want %#v", name, *got, p)
			}
			if got := auth.ProblemFor(err); got == &p {
				t.Errorf("%s: ProblemFor returns the host's own, want a copy", name)
			}
			if got := auth.Code(err); got != p.Code {
				t.Errorf("%s: Code %q, want %q", name, got, p.Code)
			}
			if got := auth.Challenge(err); got != "" {
				t.Errorf("%s: Challenge %q, want none", name, got)
			}
			w := httptest.NewRecorder()
			w.Header().Set("Retry-After", "7")
			auth.WriteProblem(w, httptest.NewRequest("GET", "/", nil), err)
			if w.Code != p.Status {
				t.Errorf("%s: status %d, want %d", name, w.Code, p.Status)
			}
			if got := w.Body.String(); got != problemText(&p) {
				t.Errorf("%s: body %s, want %s", name, got, problemText(&p))
			}
			if got := w.Header()["Www-Authenticate"]; got != nil {
				t.Errorf("%s: challenge %q, want none", name, got)
			}
			if got := w.Header().Get("Retry-After"); got != "7" {
				t.Errorf("%s: Retry-After %q, want that of the host", name, got)
			}
			if got, want := w.Header().Get("Content-Length"), strconv.Itoa(w.Body.Len()); got != want {
				t.Errorf("%s: Content-Length %s, want %s", name, got, want)
			}
		}
	}
}

// TestProblemWithAnotherStatus: a *Problem that is no error becomes 500, and
// nothing of it is disclosed.
func TestProblemWithAnotherStatus(t *testing.T) {
	for _, status := range []int{-1, 0, 99, 100, 200, 204, 302, 304, 399, 600, 1000} {
		p := &auth.Problem{Type: "secret", Title: "secret", Status: status, Detail: "secret", Code: "secret"}
		for how, err := range wrappings(p) {
			name := fmt.Sprintf("%d, %s", status, how)
			want := auth.ProblemFor(nil)
			if got := auth.ProblemFor(err); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %#v, want %#v", name, got, want)
			}
			if got := auth.Code(err); got != "secret" { // for the host, not for the client
				t.Errorf("%s: Code %q, want that of the problem", name, got)
			}
			if got := auth.Challenge(err); got != "" {
				t.Errorf("%s: Challenge %q, want none", name, got)
			}
			w := httptest.NewRecorder()
			auth.WriteProblem(w, nil, err)
			if w.Code != 500 {
				t.Errorf("%s: status %d, want 500", name, w.Code)
			}
			if got := w.Body.String(); got != problemText(want) {
				t.Errorf("%s: body %s, want %s", name, got, problemText(want))
			}
		}
	}
	for _, status := range []int{400, 499, 500, 599} {
		w := httptest.NewRecorder()
		auth.WriteProblem(w, nil, &auth.Problem{Status: status})
		if w.Code != status {
			t.Errorf("status %d, want %d", w.Code, status)
		}
	}
}

// TestNilProblem: a nil *Problem in an error is an unknown error.
func TestNilProblem(t *testing.T) {
	var p *auth.Problem
	for how, err := range map[string]error{
		"bare":    p,
		"wrapped": fmt.Errorf("handler: %w", error(p)),
	} {
		if got, want := auth.ProblemFor(err), auth.ProblemFor(nil); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v, want %#v", how, got, want)
		}
		if got := auth.Code(err); got != "" {
			t.Errorf("%s: Code %q, want none", how, got)
		}
		if got := auth.Challenge(err); got != "" {
			t.Errorf("%s: Challenge %q, want none", how, got)
		}
		w := httptest.NewRecorder()
		auth.WriteProblem(w, httptest.NewRequest("GET", "/", nil), err)
		if w.Code != 500 {
			t.Errorf("%s: status %d, want 500", how, w.Code)
		}
	}
}

// TestRealmAndProblemBase: the realm and the problem base go with the error,
// wherever it is written.
func TestRealmAndProblemBase(t *testing.T) {
	for _, c := range []struct{ realm, base, wantRealm, wantType string }{
		{"", "", `"api"`, "https://docs.insigner.com/errors/"},
		{"acme", "https://acme.example/problems#", `"acme"`, "https://acme.example/problems#"},
		{`a "b" \c`, "/errors/", `"a \"b\" \\c"`, "/errors/"},
		{"caf\u00e9 \u00fc", "urn:problem:", "\"caf\u00e9 \u00fc\"", "urn:problem:"},
		{`", error="x`, "x?a=1&b=", `"\", error=\"x"`, "x?a=1&b="},
		{`\`, "#", `"\\"`, "#"},
	} {
		opts := auth.Options{Realm: c.realm, ProblemBase: c.base}
		for _, part := range []struct {
			name, key  string
			wrap       func(*auth.Authenticator) wrapper
			attributes string
			typeName   string
		}{
			{"missing", "", middlewareOf, "", "unauthorized"},
			{"format", "x", middlewareOf, `, error="invalid_token"`, "unauthorized"},
			{"scope", goodKey, func(a *auth.Authenticator) wrapper { return a.Require("a.x") },
				`, error="insufficient_scope", scope="a.x"`, "forbidden"},
		} {
			name := fmt.Sprintf("%s, realm %q, base %q", part.name, c.realm, c.base)
			w, err := refusalOf(t, opts, part.key, part.wrap)
			challenge := "Bearer realm=" + c.wantRealm + part.attributes
			if got := w.Header().Get("WWW-Authenticate"); got != challenge {
				t.Errorf("%s: answered the challenge %s, want %s", name, got, challenge)
			}
			if got, want := problemIn(t, w).Type, c.wantType+part.typeName; got != want {
				t.Errorf("%s: answered the type %s, want %s", name, got, want)
			}
			for how, err := range wrappings(err) {
				if got := auth.Challenge(err); got != challenge {
					t.Errorf("%s, %s: Challenge %s, want %s", name, how, got, challenge)
				}
				if got, want := auth.ProblemFor(err).Type, c.wantType+part.typeName; got != want {
					t.Errorf("%s, %s: the type is %s, want %s", name, how, got, want)
				}
			}
		}
	}
}

// TestEveryErrorInItsOwnWords: every error of an Authenticator is in its own
// words.
func TestEveryErrorInItsOwnWords(t *testing.T) {
	opts := auth.Options{
		Scheme:      auth.Scheme{Catalog: auth.Catalog{{Scope: "a.x"}}},
		Realm:       "acme",
		ProblemBase: "/errors/",
		Logger:      quiet(),
	}
	errs := make(map[string]error)
	for code, c := range map[string]struct {
		store auth.Store
		key   string
	}{
		"MISSING_KEY":       {newStore(), ""},
		"INVALID_FORMAT":    {newStore(), "x"},
		"INVALID_KEY":       {newStore(), goodKey},
		"KEY_REVOKED":       {newStore(recordIn("revoked")), goodKey},
		"KEY_DISABLED":      {newStore(recordIn("disabled")), goodKey},
		"KEY_EXPIRED":       {newStore(recordIn("expired")), goodKey},
		"STORE_UNAVAILABLE": {failingStore(io.ErrUnexpectedEOF), goodKey},
	} {
		errs[code] = second(auth.New(c.store, &opts).Authenticate(requestWith(c.key)))
	}
	ctx := auth.New(newStore(), &opts).Vouch(t.Context(), scopedRecord())
	errs["INSUFFICIENT_SCOPE"] = auth.Authorize(ctx, "a.x")
	errs["INTERNAL_ERROR"] = auth.Authorize(ctx, "b.x") // not in the catalog
	for code, err := range errs {
		p := auth.ProblemFor(err)
		if p.Code != code {
			t.Errorf("%s: the code is %s", code, p.Code)
		}
		if !strings.HasPrefix(p.Type, "/errors/") {
			t.Errorf("%s: the type is %s, want one below /errors/", code, p.Type)
		}
		if got := auth.Challenge(err); got != "" && !strings.HasPrefix(got, `Bearer realm="acme"`) {
			t.Errorf("%s: the challenge is %s, want one of the realm acme", code, got)
		}
		if want := p.Status == 401 || p.Status == 403; (auth.Challenge(err) != "") != want {
			t.Errorf("%s: the challenge is %q, with status %d", code, auth.Challenge(err), p.Status)
		}
		w := httptest.NewRecorder()
		auth.WriteProblem(w, nil, err)
		if got := w.Body.String(); got != problemText(p) {
			t.Errorf("%s: body %s, want %s", code, got, problemText(p))
		}
	}
}

// writing returns a handler that answers with err.
func writing(err error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { auth.WriteProblem(w, r, err) })
}

// TestSentinelInsideAnAuthenticator: a handler that answers one of the
// sentinels itself uses the realm and the problem base of the Authenticator
// that its request has passed.
func TestSentinelInsideAnAuthenticator(t *testing.T) {
	a := auth.New(newStore(goodRecord()), &auth.Options{Realm: "acme", ProblemBase: "/errors/"})
	b := auth.New(newStore(goodRecord()), &auth.Options{Realm: "other", ProblemBase: "/other/"})
	vouch := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(a.Vouch(r.Context(), goodRecord())))
		})
	}
	deadline := func(next http.Handler) http.Handler {
		type key struct{}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithCancel(context.WithValue(r.Context(), key{}, 1))
			defer cancel()
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
	for _, place := range []struct {
		name        string
		key         string
		wraps       []wrapper // outermost first
		realm, base string
	}{
		{"Middleware", goodKey, []wrapper{a.Middleware}, "acme", "/errors/"},
		{"Middleware and another context", goodKey, []wrapper{a.Middleware, deadline}, "acme", "/errors/"},
		{"Middleware and Require", goodKey, []wrapper{a.Middleware, auth.Require("a.x")}, "acme", "/errors/"},
		{"a.Require", goodKey, []wrapper{a.Require("a.x")}, "acme", "/errors/"},
		{"Optional", goodKey, []wrapper{a.Optional}, "acme", "/errors/"},
		{"Optional, no key", "", []wrapper{a.Optional}, "acme", "/errors/"},
		{"Vouch", "", []wrapper{vouch}, "acme", "/errors/"},
		{"Vouch and Middleware", "", []wrapper{vouch, a.Middleware}, "acme", "/errors/"},
		{"two, the inner counts", goodKey, []wrapper{b.Middleware, a.Middleware}, "acme", "/errors/"},
		{"two, the inner is the other", goodKey, []wrapper{a.Middleware, b.Require("a.x")}, "other", "/other/"},
		{"no Authenticator", goodKey, nil, "api", "https://docs.insigner.com/errors/"},
	} {
		for _, c := range problems {
			for how, err := range wrappings(c.err) {
				h := nest(writing(err), place.wraps...)
				r := httptest.NewRequest("GET", "/", nil)
				if place.key != "" {
					r = requestWith(place.key)
				}
				w := serve(h, r)
				name := fmt.Sprintf("%s: %v, %s", place.name, c.err, how)
				if w.Code != c.status {
					t.Errorf("%s: status %d, want %d", name, w.Code, c.status)
				}
				if got, want := problemIn(t, w).Type, place.base+c.name; got != want {
					t.Errorf("%s: type %s, want %s", name, got, want)
				}
				want := strings.Replace(c.challenge, `"api"`, `"`+place.realm+`"`, 1)
				if got := w.Header().Get("WWW-Authenticate"); got != want {
					t.Errorf("%s: challenge %s, want %s", name, got, want)
				}
			}
		}
	}

	// What has words of its own keeps them.
	refused := second(b.Authenticate(httptest.NewRequest("GET", "/", nil)))
	host := &auth.Problem{Type: "/mine", Status: 401}
	for err, wantType := range map[error]string{refused: "/other/unauthorized", host: "/mine"} {
		w := serve(a.Middleware(writing(err)), requestWith(goodKey))
		if got := problemIn(t, w).Type; got != wantType {
			t.Errorf("%v: type %s, want %s", err, got, wantType)
		}
	}
}

// TestChallengesAreJoined: a challenge is added to those of outer handlers,
// unless it is there already.
func TestChallengesAreJoined(t *testing.T) {
	own := `Bearer realm="api"`
	for _, c := range []struct {
		name  string
		outer []string
		err   error
		want  []string
	}{
		{"none", nil, auth.ErrMissingKey, []string{own}},
		{"an empty list", []string{}, auth.ErrMissingKey, []string{own}},
		{"Basic", []string{`Basic realm="web"`}, auth.ErrMissingKey, []string{`Basic realm="web"`, own}},
		{"two", []string{"Basic", "DPoP"}, auth.ErrInvalidKey, []string{"Basic", "DPoP", invalidToken}},
		{"the same", []string{own}, auth.ErrMissingKey, []string{own}},
		{"the same and another", []string{own, "Basic"}, auth.ErrMissingKey, []string{own, "Basic"}},
		{"one of another realm", []string{`Bearer realm="x"`}, auth.ErrMissingKey, []string{`Bearer realm="x"`, own}},
		{"403", []string{"Basic"}, auth.ErrInsufficientScope, []string{"Basic", own + `, error="insufficient_scope"`}},
		{"no challenge with 503", []string{"Basic"}, auth.ErrStoreUnavailable, []string{"Basic"}},
		{"no challenge with 500", []string{"Basic"}, io.EOF, []string{"Basic"}},
		{"no challenge of the host's problem", []string{"Basic"}, &auth.Problem{Status: 401}, []string{"Basic"}},
	} {
		outer := slices.Clone(c.outer)
		w := httptest.NewRecorder()
		if c.outer != nil {
			w.Header()["Www-Authenticate"] = outer[:len(outer):len(outer)]
		}
		for range 2 { // the second time adds nothing
			auth.WriteProblem(w, nil, c.err)
			if got := w.Header()["Www-Authenticate"]; !slices.Equal(got, c.want) {
				t.Errorf("%s: challenges %q, want %q", c.name, got, c.want)
			}
		}
		if !slices.Equal(outer, c.outer) {
			t.Errorf("%s: the slice of the outer handler is now %q", c.name, outer)
		}
	}

	// A slice that the outer handler shares among requests is not written to.
	shared := append(make([]string, 0, 2), "Basic")
	w := httptest.NewRecorder()
	w.Header()["Www-Authenticate"] = shared
	auth.WriteProblem(w, nil, auth.ErrMissingKey)
	if got := shared[:2][1]; got != "" {
		t.Errorf("the challenge %q was written into a slice of the outer handler", got)
	}

	// The same for a refusal in a Middleware.
	a := auth.New(newStore(), nil)
	w = serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="web"`)
		a.Middleware(closed(t)).ServeHTTP(w, r)
	}), httptest.NewRequest("GET", "/", nil))
	if got, want := w.Header()["Www-Authenticate"], []string{`Basic realm="web"`, own}; !slices.Equal(got, want) {
		t.Errorf("Middleware: challenges %q, want %q", got, want)
	}
}

// TestOuterHeaders: what an outer handler set for its own answer is replaced or
// removed. What it set for every answer stays.
func TestOuterHeaders(t *testing.T) {
	a := auth.New(newStore(), nil)
	for _, c := range []struct {
		name  string
		outer []string
		want  []string
	}{
		{"Content-Length", []string{"3"}, []string{"152"}},
		{"Content-Type", []string{"text/html"}, []string{"application/problem+json"}},
		{"Cache-Control", []string{"public, max-age=60", "immutable"}, []string{"no-store"}},
		{"X-Content-Type-Options", []string{"other"}, []string{"nosniff"}},
		{"ETag", []string{`"x"`}, nil},
		{"Last-Modified", []string{"yesterday"}, nil},
		{"Access-Control-Allow-Origin", []string{"*"}, []string{"*"}},
		{"Vary", []string{"Origin", "Accept"}, []string{"Origin", "Accept"}},
		{"X-Request-Id", []string{"req_1"}, []string{"req_1"}},
		{"Set-Cookie", []string{"a=b", "c=d"}, []string{"a=b", "c=d"}},
		{"Strict-Transport-Security", []string{"max-age=1"}, []string{"max-age=1"}},
		{"RateLimit-Remaining", []string{"7"}, []string{"7"}},
		{"Retry-After", []string{"9"}, []string{"9"}},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			w := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for _, v := range c.outer {
					w.Header().Add(c.name, v)
				}
				a.Middleware(closed(t)).ServeHTTP(w, r)
			}), httptest.NewRequest(method, "/", nil))
			if got := w.Header().Values(c.name); !slices.Equal(got, c.want) {
				t.Errorf("%s, %s: %q, want %q", method, c.name, got, c.want)
			}
			if got := w.Code; got != 401 {
				t.Errorf("%s, %s: status %d, want 401", method, c.name, got)
			}
		}
	}
}

// TestForbiddenIsNotCached: a refusal inside an accepted request is not cached
// either.
func TestForbiddenIsNotCached(t *testing.T) {
	w, _ := refusalOf(t, auth.Options{}, goodKey, func(a *auth.Authenticator) wrapper {
		return func(h http.Handler) http.Handler { return a.Middleware(auth.Require("a.x")(h)) }
	})
	if got := w.Header()["Cache-Control"]; !slices.Equal(got, []string{"no-store"}) {
		t.Errorf("Cache-Control %q, want no-store", got)
	}
}

// TestRetryAfter: only a failed store makes the client try again later.
func TestRetryAfter(t *testing.T) {
	for _, c := range problems {
		w := httptest.NewRecorder()
		auth.WriteProblem(w, nil, c.err)
		var want []string
		if errors.Is(c.err, auth.ErrStoreUnavailable) {
			want = []string{"5"}
		}
		if got := w.Header()["Retry-After"]; !slices.Equal(got, want) {
			t.Errorf("%v: Retry-After %q, want %q", c.err, got, want)
		}
	}
	a := auth.New(failingStore(io.ErrUnexpectedEOF), &auth.Options{Logger: quiet()})
	w := serve(a.Middleware(closed(t)), requestWith(goodKey))
	if got, want := w.Header()["Retry-After"], []string{"5"}; !slices.Equal(got, want) {
		t.Errorf("Middleware: Retry-After %q, want %q", got, want)
	}
}

// TestContentEncoding: with a Content-Encoding, an outer handler compresses the
// answer and knows its length.
func TestContentEncoding(t *testing.T) {
	for encoding, want := range map[string]string{"": "152", "gzip": "", "br": "", "zstd": ""} {
		w := httptest.NewRecorder()
		w.Header().Set("Content-Length", "7") // of another answer
		if encoding != "" {
			w.Header().Set("Content-Encoding", encoding)
		}
		auth.WriteProblem(w, nil, auth.ErrMissingKey)
		if got := w.Header().Get("Content-Length"); got != want {
			t.Errorf("Content-Encoding %q: Content-Length %q, want %q", encoding, got, want)
		}
		if got := w.Header().Get("Content-Encoding"); got != encoding {
			t.Errorf("Content-Encoding %q, want %q", got, encoding)
		}
	}

	inner := auth.New(newStore(), nil).Middleware(closed(t))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		zip := gzip.NewWriter(w)
		defer zip.Close()
		inner.ServeHTTP(zipWriter{w, zip}, r)
	}))
	defer server.Close()
	response, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != 401 {
		t.Errorf("status %d, want 401", response.StatusCode)
	}
	if got, want := string(body), problemText(auth.ProblemFor(auth.ErrMissingKey)); got != want {
		t.Errorf("the decompressed body is %s, want %s", got, want)
	}
}

// A zipWriter compresses what is written to it.
type zipWriter struct {
	http.ResponseWriter
	zip *gzip.Writer
}

func (w zipWriter) Write(p []byte) (int, error) { return w.zip.Write(p) }

// TestFieldsAreApart: an outer writer that adds a value to a field does not
// change another field.
func TestFieldsAreApart(t *testing.T) {
	w := httptest.NewRecorder()
	auth.WriteProblem(addingWriter{w}, nil, auth.ErrMissingKey)
	for name, want := range map[string]string{
		"Content-Type":           "application/problem+json, x",
		"Content-Length":         "152, x",
		"Cache-Control":          "no-store, x",
		"X-Content-Type-Options": "nosniff, x",
		"WWW-Authenticate":       `Bearer realm="api", x`,
	} {
		if got := strings.Join(w.Header().Values(name), ", "); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// An addingWriter adds "x" to each field when the header is written.
type addingWriter struct{ http.ResponseWriter }

func (w addingWriter) WriteHeader(status int) {
	for _, name := range []string{
		"Content-Type", "Content-Length", "Cache-Control", "X-Content-Type-Options", "WWW-Authenticate",
	} {
		w.Header().Add(name, "x")
	}
	w.ResponseWriter.WriteHeader(status)
}

// TestErrorHandler: an ErrorHandler that returns false has not answered, and
// WriteProblem does. If it returns true, nothing else is written. An
// ErrorHandler with a forgotten branch does not compile.
func TestErrorHandler(t *testing.T) {
	var a *auth.Authenticator // of the case
	middleware := func(h http.Handler) http.Handler { return a.Middleware(h) }
	optional := func(h http.Handler) http.Handler { return a.Optional(h) }
	require := func(h http.Handler) http.Handler { return a.Require("b.x")(h) }
	requireAny := func(h http.Handler) http.Handler { return a.RequireAny("b.x")(h) }
	scheme := auth.Scheme{Catalog: auth.Catalog{{Scope: "a.x"}, {Scope: "b.x"}}}
	for _, c := range []struct {
		name  string
		key   string
		wraps []wrapper // outermost first
		want  string    // code; "INTERNAL_ERROR" for misuse
	}{
		{"Middleware", "x", []wrapper{middleware}, "INVALID_FORMAT"},
		{"Middleware, no key", "", []wrapper{middleware}, "MISSING_KEY"},
		{"Optional", "isk_x", []wrapper{optional}, "INVALID_KEY"},
		{"a.Require", "x", []wrapper{require}, "INVALID_FORMAT"},
		{"a.Require, scope", goodKey, []wrapper{require}, "INSUFFICIENT_SCOPE"},
		{"a.Require inside Middleware, scope", goodKey, []wrapper{middleware, require}, "INSUFFICIENT_SCOPE"},
		{"a.RequireAny, scope", goodKey, []wrapper{requireAny}, "INSUFFICIENT_SCOPE"},
		{"Require, scope", goodKey, []wrapper{middleware, auth.Require("b.x")}, "INSUFFICIENT_SCOPE"},
		{"Require, no key", "", []wrapper{optional, auth.Require("a.x")}, "MISSING_KEY"},
		{"Require of an unlisted scope", goodKey, []wrapper{middleware, auth.Require("c.x")}, "INTERNAL_ERROR"},
		{"RequireAny of an unlisted scope", goodKey, []wrapper{middleware, auth.RequireAny("c.x")}, "INTERNAL_ERROR"},
	} {
		request := httptest.NewRequest("GET", "/", nil)
		if c.key != "" {
			request = requestWith(c.key)
		}
		store := newStore(scopedRecord("a.x"))
		a = auth.New(store, &auth.Options{Scheme: scheme, Logger: quiet()})
		plain := serve(nest(closed(t), c.wraps...), request)
		if got := problemIn(t, plain).Code; got != c.want {
			t.Errorf("%s: without an ErrorHandler: %s, want %s", c.name, got, c.want)
		}
		for _, answered := range []bool{false, true} {
			var errs []error
			a = auth.New(store, &auth.Options{Scheme: scheme, Logger: quiet(),
				ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) bool {
					if got, want := r.URL.Path, request.URL.Path; got != want {
						t.Errorf("%s: the ErrorHandler got a request for %s, want %s", c.name, got, want)
					}
					errs = append(errs, err)
					return answered
				}})
			w := serve(nest(closed(t), c.wraps...), request)
			if len(errs) != 1 {
				t.Fatalf("%s, %v: the ErrorHandler was called %d times, want once", c.name, answered, len(errs))
			}
			if got := auth.ProblemFor(errs[0]).Code; got != c.want {
				t.Errorf("%s, %v: the ErrorHandler was told %s, want %s", c.name, answered, got, c.want)
			}
			if got := codeOf(errs[0]); got != c.want && c.want != "INTERNAL_ERROR" {
				t.Errorf("%s, %v: the error matches the sentinel of %q, want %s", c.name, answered, got, c.want)
			}
			want := plain
			if answered {
				want = httptest.NewRecorder()
			}
			if w.Code != want.Code {
				t.Errorf("%s, %v: status %d, want %d", c.name, answered, w.Code, want.Code)
			}
			if got := w.Body.String(); got != want.Body.String() {
				t.Errorf("%s, %v: body %q, want %q", c.name, answered, got, want.Body)
			}
			if !answered && !reflect.DeepEqual(w.Header(), want.Header()) {
				t.Errorf("%s: header %v, want %v", c.name, w.Header(), want.Header())
			}
			if answered && w.Header().Get("Content-Type") != "" {
				t.Errorf("%s: header %v, but the ErrorHandler has answered", c.name, w.Header())
			}
		}
	}
}

// TestErrorHandlerAnswers: what the ErrorHandler writes is the answer.
func TestErrorHandlerAnswers(t *testing.T) {
	a := auth.New(newStore(), &auth.Options{ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) bool {
		if errors.Is(err, auth.ErrMissingKey) {
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return true
		}
		w.Header().Set("X-Refused", auth.Code(err))
		return false
	}})
	h := a.Middleware(closed(t))
	w := serve(h, httptest.NewRequest("GET", "/", nil))
	if w.Code != http.StatusSeeOther {
		t.Errorf("no key: status %d, want 303", w.Code)
	}
	if got := w.Header().Get("Location"); got != "/login" {
		t.Errorf("no key: Location %q, want /login", got)
	}
	if got := w.Header().Get("WWW-Authenticate"); got != "" {
		t.Errorf("no key: challenge %q, but the ErrorHandler has answered", got)
	}
	w = serve(h, requestWith("x"))
	if w.Code != http.StatusUnauthorized {
		t.Errorf("bad key: status %d, want 401", w.Code)
	}
	if got, want := w.Header().Get("X-Refused"), "INVALID_FORMAT"; got != want {
		t.Errorf("bad key: X-Refused %q, want %q", got, want)
	}
	if got := problemIn(t, w).Code; got != "INVALID_FORMAT" {
		t.Errorf("bad key: answered %s, want INVALID_FORMAT", got)
	}
}

// TestErrorHandlerReplacesTheError: an ErrorHandler that answers another
// sentinel, such as one that tells less, uses the realm and the problem base of
// the Authenticator that refused.
func TestErrorHandlerReplacesTheError(t *testing.T) {
	opts := &auth.Options{Realm: "acme", ProblemBase: "/errors/",
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, _ error) bool {
			auth.WriteProblem(w, r, auth.ErrInvalidKey)
			return true
		}}
	a, b := auth.New(newStore(recordIn("revoked", "a.x")), opts), auth.New(newStore(scopedRecord()), opts)
	other := auth.New(newStore(goodRecord()), &auth.Options{Realm: "other", ProblemBase: "/other/"})
	for name, h := range map[string]http.Handler{
		"Middleware":        a.Middleware(closed(t)),
		"Optional":          a.Optional(closed(t)),
		"a.Require":         a.Require("a.x")(closed(t)),
		"inside another":    other.Middleware(a.Middleware(closed(t))),
		"Require, no scope": b.Middleware(auth.Require("a.x")(closed(t))),
	} {
		w := serve(h, requestWith(goodKey))
		if got, want := problemIn(t, w).Code, "INVALID_KEY"; got != want {
			t.Errorf("%s: answered %s, want %s", name, got, want)
		}
		if got, want := problemIn(t, w).Type, "/errors/unauthorized"; got != want {
			t.Errorf("%s: type %s, want %s", name, got, want)
		}
		if got, want := w.Header().Get("WWW-Authenticate"), `Bearer realm="acme", error="invalid_token"`; got != want {
			t.Errorf("%s: challenge %s, want %s", name, got, want)
		}
	}
}

// TestErrorHandlerReplacesTheProblem: an ErrorHandler can answer with a problem
// of its own.
func TestErrorHandlerReplacesTheProblem(t *testing.T) {
	a := auth.New(newStore(), &auth.Options{ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) bool {
		p := auth.ProblemFor(err)
		p.Instance = r.URL.Path
		w.Header().Set("WWW-Authenticate", auth.Challenge(err))
		auth.WriteProblem(w, r, p)
		return true
	}})
	w := serve(a.Middleware(closed(t)), httptest.NewRequest("GET", "/documents/7", nil))
	if got, want := problemIn(t, w).Instance, "/documents/7"; got != want {
		t.Errorf("instance %q, want %q", got, want)
	}
	if got, want := w.Header()["Www-Authenticate"], []string{`Bearer realm="api"`}; !slices.Equal(got, want) {
		t.Errorf("challenges %q, want %q", got, want)
	}
}

// TestMisuseIsNotDisclosed: the error of a programmer's mistake tells the
// operator what to change, and the client nothing.
func TestMisuseIsNotDisclosed(t *testing.T) {
	out := defaultLog(t)
	err := auth.Authorize(t.Context(), "a.x")
	if err == nil {
		t.Fatal("Authorize outside a Middleware returned nil")
	}
	if got, want := err.Error(), "auth.Authorize: the context has not passed"; !strings.Contains(got, want) {
		t.Errorf("the error %q does not say %q", got, want)
	}
	if got := codeOf(err); got != "" {
		t.Errorf("the error matches the sentinel of %s", got)
	}
	if got, want := auth.ProblemFor(err), auth.ProblemFor(nil); !reflect.DeepEqual(got, want) {
		t.Errorf("the client is told %#v, want %#v", got, want)
	}
	if got := auth.Code(err); got != "" {
		t.Errorf("Code %q, want none", got)
	}
	if got := auth.Challenge(err); got != "" {
		t.Errorf("Challenge %q, want none", got)
	}
	if got := len(out.lines(t)); got != 1 {
		t.Errorf("%d log lines, want 1: %s", got, out)
	}
}

// TestRefusalsHoldNoSecret: no error and no answer holds the key, its hash, or
// the scopes of the key.
func TestRefusalsHoldNoSecret(t *testing.T) {
	for name, store := range map[string]auth.Store{
		"unknown":  newStore(),
		"scope":    newStore(scopedRecord("secret.scope")),
		"revoked":  newStore(recordIn("revoked", "secret.scope")),
		"disabled": newStore(recordIn("disabled", "secret.scope")),
		"expired":  newStore(recordIn("expired", "secret.scope")),
		"failing":  failingStore(fmt.Errorf("no row with %v for %s", goodHash, goodKey)),
		"lying": storeFunc(func(context.Context, auth.Hash) (*auth.Record, error) {
			return &auth.Record{ID: "other", Hash: auth.Hash{1}, Scopes: auth.Scopes{"secret.scope"}}, nil
		}),
	} {
		logger, log := captureLog()
		var out bytes.Buffer
		handler := func(_ http.ResponseWriter, _ *http.Request, err error) bool {
			fmt.Fprintf(&out, "%v %+v %#v %s %q %d %x", err, err, err, err, err, err, err)
			fmt.Fprint(&out, errors.Unwrap(err), struct{ Err error }{err})
			logger.Info("refused", "err", err)
			return false
		}
		a := auth.New(store, &auth.Options{Logger: logger, ErrorHandler: handler})
		w := serve(a.Require("documents.read")(closed(t)), requestWith(goodKey))
		fmt.Fprint(&out, w.Header(), w.Body)
		if out.Len() == 0 {
			t.Errorf("%s: the request was not refused", name)
		}
		text := out.String() + log.String()
		if leaksAnyhow(text, goodKey) {
			t.Errorf("%s: the key is in %s", name, text)
		}
		if leaksHash(text, goodHash) {
			t.Errorf("%s: the hash is in %s", name, text)
		}
		if strings.Contains(text, "secret.scope") {
			t.Errorf("%s: the scopes of the key are in %s", name, text)
		}
	}
}
