package auth_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
)

// The specification's error table, and what DESIGN.md adds to it.
var problems = []struct {
	err                            error
	status                         int
	code, name, title, detail, www string
}{
	{auth.ErrMissingKey, 401, "MISSING_KEY", "unauthorized", "Unauthorized", "Invalid or missing API key", `Bearer realm="api"`},
	{auth.ErrInvalidFormat, 401, "INVALID_FORMAT", "unauthorized", "Unauthorized", "Invalid or missing API key", invalidToken},
	{auth.ErrInvalidKey, 401, "INVALID_KEY", "unauthorized", "Unauthorized", "Invalid or missing API key", invalidToken},
	{auth.ErrKeyRevoked, 401, "KEY_REVOKED", "unauthorized", "Unauthorized", "API key has been revoked", invalidToken},
	{auth.ErrKeyExpired, 401, "KEY_EXPIRED", "unauthorized", "Unauthorized", "API key has expired", invalidToken},
	{auth.ErrInsufficientScope, 403, "INSUFFICIENT_SCOPE", "forbidden", "Forbidden", "API key lacks the required scope",
		`Bearer realm="api", error="insufficient_scope"`},
	{auth.ErrStoreUnavailable, 503, "STORE_UNAVAILABLE", "service-unavailable", "Service Unavailable",
		"The API key could not be checked; try again later", ""},
	{nil, 500, "INTERNAL_ERROR", "internal-error", "Internal Server Error", "The server could not answer the request", ""},
	{errors.New("dial 10.0.0.1: refused"), 500, "INTERNAL_ERROR", "internal-error", "Internal Server Error",
		"The server could not answer the request", ""},
	{auth.ErrNotFound, 500, "INTERNAL_ERROR", "internal-error", "Internal Server Error", "The server could not answer the request", ""},
	{auth.ErrInvalidArgument, 500, "INTERNAL_ERROR", "internal-error", "Internal Server Error", "The server could not answer the request", ""},
}

func TestProblemFor(t *testing.T) {
	for _, c := range problems {
		want := auth.Problem{Type: "https://docs.insigner.com/errors/" + c.name, Title: c.title, Status: c.status, Detail: c.detail, Code: c.code}
		errs := []error{c.err}
		if c.err != nil {
			errs = append(errs, fmt.Errorf("key 1234567890abcdef: %w", c.err), errors.Join(io.EOF, c.err))
		}
		for _, err := range errs {
			if got := auth.ProblemFor(err); !reflect.DeepEqual(got, want) {
				t.Errorf("%v: %+v, want %+v", err, got, want)
			}
			if got := auth.Challenge(err); got != c.www {
				t.Errorf("%v: challenge %q, want %q", err, got, c.www)
			}
			for _, r := range []*http.Request{nil, httptest.NewRequest("GET", "/", nil), httptest.NewRequest("HEAD", "/", nil)} {
				w := httptest.NewRecorder()
				auth.WriteProblem(w, r, err)
				body, _ := json.Marshal(want)
				if r != nil && r.Method == "HEAD" {
					if w.Body.Len() != 0 {
						t.Errorf("%v: a body to HEAD", err)
					}
				} else if w.Body.String() != string(body)+"\n" {
					t.Errorf("%v: %s, want %s", err, w.Body, body)
				}
				header := http.Header{"Content-Type": {"application/problem+json"}, "Content-Length": {itoa(len(body) + 1)},
					"Cache-Control": {"no-store"}, "X-Content-Type-Options": {"nosniff"}}
				if c.www != "" {
					header["Www-Authenticate"] = []string{c.www}
				}
				if c.status == 503 {
					header["Retry-After"] = []string{"5"}
				}
				if w.Code != c.status || !reflect.DeepEqual(w.Header(), header) {
					t.Errorf("%v: %d %v, want %d %v", err, w.Code, w.Header(), c.status, header)
				}
			}
		}
	}
	// The members that may be left out, and their order.
	text, err := json.Marshal(auth.Problem{Type: "t", Title: "T", Status: 1, Detail: "d", Instance: "i", Code: "c", RequiredScopes: auth.Scopes{"a.b"}})
	if want := `{"type":"t","title":"T","status":1,"detail":"d","instance":"i","code":"c","requiredScopes":["a.b"]}`; string(text) != want || err != nil {
		t.Errorf("%s, %v", text, err)
	}
}

// TestSentinels: each says something, and matches itself alone.
func TestSentinels(t *testing.T) {
	all := []error{auth.ErrMissingKey, auth.ErrInvalidFormat, auth.ErrInvalidKey, auth.ErrKeyRevoked, auth.ErrKeyExpired,
		auth.ErrInsufficientScope, auth.ErrStoreUnavailable, auth.ErrNotFound, auth.ErrExists, auth.ErrSuperseded, auth.ErrInvalidArgument}
	for i, a := range all {
		for j, b := range all {
			if errors.Is(a, b) != (i == j) {
				t.Errorf("%v is %v: %v", a, b, i != j)
			}
		}
		if !strings.HasPrefix(a.Error(), "auth: ") {
			t.Errorf("%q", a)
		}
	}
}

// refuse returns how a refuses a request on a route that wrap makes.
func refuse(t *testing.T, opts auth.Options, key string, wrap func(a *auth.Authenticator) func(http.Handler) http.Handler) (*httptest.ResponseRecorder, error) {
	t.Helper()
	var refusal error
	opts.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
		refusal = err
		auth.WriteProblem(w, r, err)
	}
	a := auth.New(newStore(scopedRecord("templates.read", "secret.scope")), &opts)
	r := httptest.NewRequest("GET", "/", nil)
	if key != "" {
		r = requestWith(key)
	}
	w := httptest.NewRecorder()
	wrap(a)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })).ServeHTTP(w, r)
	if refusal == nil {
		t.Fatal("no refusal")
	}
	return w, refusal
}

func TestForbidden(t *testing.T) {
	type wrapper = func(a *auth.Authenticator) func(http.Handler) http.Handler
	behind := func(require func(http.Handler) http.Handler) wrapper {
		return func(a *auth.Authenticator) func(http.Handler) http.Handler {
			return func(h http.Handler) http.Handler { return a.Middleware(require(h)) }
		}
	}
	all := func(s auth.Scope, more ...auth.Scope) []wrapper {
		return []wrapper{behind(auth.Require(s, more...)), func(a *auth.Authenticator) func(http.Handler) http.Handler { return a.Require(s, more...) }}
	}
	one := func(s auth.Scope, more ...auth.Scope) []wrapper {
		return []wrapper{behind(auth.RequireAny(s, more...)), func(a *auth.Authenticator) func(http.Handler) http.Handler { return a.RequireAny(s, more...) }}
	}
	for _, c := range []struct {
		wraps                   []wrapper
		detail, scope, required string
	}{
		{all("documents.delete"), "API key lacks the required scope: documents.delete", `, scope="documents.delete"`, "documents.delete"},
		{all("b.x", "a.x"), "API key lacks the required scopes: b.x, a.x", `, scope="b.x a.x"`, "b.x a.x"},
		{all("templates.read", "a.x"), "API key lacks the required scopes: templates.read, a.x", `, scope="templates.read a.x"`, "templates.read a.x"},
		{all("*"), "API key lacks the required scope: *", `, scope="*"`, "*"},
		{one("b.x", "a.x"), "API key lacks one of the required scopes: b.x, a.x", "", "b.x a.x"},
		{one("documents.delete"), "API key lacks one of the required scopes: documents.delete", "", "documents.delete"},
	} {
		for _, wrap := range c.wraps {
			w, err := refuse(t, auth.Options{}, goodKey, wrap)
			var required auth.Scopes
			for s := range strings.FieldsSeq(c.required) {
				required = append(required, auth.Scope(s))
			}
			want := auth.Problem{Type: "https://docs.insigner.com/errors/forbidden", Title: "Forbidden", Status: 403, Detail: c.detail,
				Code: "INSUFFICIENT_SCOPE", RequiredScopes: required}
			if got := auth.ProblemFor(err); !reflect.DeepEqual(got, want) {
				t.Errorf("%+v, want %+v", got, want)
			}
			challenge := `Bearer realm="api", error="insufficient_scope"` + c.scope
			if got := w.Header().Get("WWW-Authenticate"); got != challenge || auth.Challenge(err) != challenge || w.Code != 403 {
				t.Errorf("%d %q, want %q", w.Code, got, challenge)
			}
			if strings.Contains(w.Body.String(), "secret.scope") || !errors.Is(err, auth.ErrInsufficientScope) {
				t.Errorf("%v: %s", err, w.Body)
			}
			// A caller's change does not reach the next one.
			auth.ProblemFor(err).RequiredScopes[0] = "changed.it"
			if got := auth.ProblemFor(err); !reflect.DeepEqual(got, want) {
				t.Errorf("after a change: %+v, want %+v", got, want)
			}
			if wrapped := fmt.Errorf("wrapped: %w", err); !reflect.DeepEqual(auth.ProblemFor(wrapped), want) || auth.Challenge(wrapped) != challenge {
				t.Errorf("wrapped: %+v", auth.ProblemFor(wrapped))
			}
		}
	}
}

// TestVoice: realm and problem base go with the error, wherever it is written.
func TestVoice(t *testing.T) {
	middleware := func(a *auth.Authenticator) func(http.Handler) http.Handler { return a.Middleware }
	for _, c := range []struct{ realm, base, wantRealm, wantType string }{
		{"", "", `"api"`, "https://docs.insigner.com/errors/unauthorized"},
		{"acme", "https://acme.example/problems#", `"acme"`, "https://acme.example/problems#unauthorized"},
		{`a "b" \c`, "/errors/", `"a \"b\" \\c"`, "/errors/unauthorized"},
		{"caf\u00e9 \u00fc", "urn:problem:", "\"caf\u00e9 \u00fc\"", "urn:problem:unauthorized"},
		{`", error="x`, "x?a=1&b=", `"\", error=\"x"`, "x?a=1&b=unauthorized"},
	} {
		w, err := refuse(t, auth.Options{Realm: c.realm, ProblemBase: c.base}, "", middleware)
		if got := w.Header().Get("WWW-Authenticate"); got != "Bearer realm="+c.wantRealm || auth.ProblemFor(err).Type != c.wantType {
			t.Errorf("realm %q, base %q: %s, %s", c.realm, c.base, got, auth.ProblemFor(err).Type)
		}
		w, err = refuse(t, auth.Options{Realm: c.realm, ProblemBase: c.base}, goodKey,
			func(a *auth.Authenticator) func(http.Handler) http.Handler { return a.Require("a.x") })
		if got := w.Header().Get("WWW-Authenticate"); got != "Bearer realm="+c.wantRealm+`, error="insufficient_scope", scope="a.x"` ||
			auth.ProblemFor(err).Type != strings.Replace(c.wantType, "unauthorized", "forbidden", 1) {
			t.Errorf("realm %q, base %q: %s, %s", c.realm, c.base, got, auth.ProblemFor(err).Type)
		}
	}

	// One route behind two Authenticators speaks for each in turn.
	route := auth.Require("a.x")(http.NotFoundHandler())
	for range 2 {
		for _, realm := range []string{"one", "two"} {
			w := httptest.NewRecorder()
			auth.New(newStore(scopedRecord()), &auth.Options{Realm: realm}).Middleware(route).ServeHTTP(w, requestWith(goodKey))
			if got := w.Header().Get("WWW-Authenticate"); !strings.HasPrefix(got, `Bearer realm="`+realm+`"`) || w.Code != 403 {
				t.Errorf("%d %s, want that of %s", w.Code, got, realm)
			}
		}
	}
}

// TestRefusalsSayNothing: no error, in whatever spelling, holds the key, the hash or what the key holds.
func TestRefusalsSayNothing(t *testing.T) {
	hex := goodHash.String()
	revoked, expired := goodRecord(), goodRecord()
	revoked.RevokedAt = time.Unix(1, 0)
	expired.ExpiresAt = time.Unix(1, 0)
	for name, store := range map[string]auth.Store{
		"unknown": newStore(), "scope": newStore(scopedRecord("secret.scope")), "revoked": newStore(revoked), "expired": newStore(expired),
		"failing": failingStore(fmt.Errorf("no row with %v for %s", goodHash, goodKey)),
		"lying": storeFunc(func(ctx context.Context, h auth.Hash) (auth.Record, error) {
			return auth.Record{ID: "other", Hash: auth.Hash{1}}, nil
		}),
	} {
		var out bytes.Buffer
		level := new(slog.LevelVar)
		level.Set(slog.LevelDebug)
		logger := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: level}))
		a := auth.New(store, &auth.Options{Logger: logger,
			OnDecision: func(r *http.Request, d auth.Decision) {
				logger.Info("decision", "d", d, "err", d.Err, "key", d.KeyID())
				text, _ := json.Marshal(d)
				fmt.Fprintf(&out, "%v %+v %#v %s %s %+v %#v", d, d, d, text, d.Err, d.Err, d.Err)
				r2, _ := d.Record()
				fmt.Fprintf(&out, "%v %+v %#v %d %x %s %q", r2, r2, r2, r2, r2, r2, &r2)
				logger.Info("record", "r", r2)
				text, _ = json.Marshal(r2)
				out.Write(text)
			},
			ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
				fmt.Fprintf(&out, "%v %+v %#v %s %q %d", err, err, err, err, err, err)
				auth.WriteProblem(w, r, err)
			}})
		w := httptest.NewRecorder()
		a.Require("documents.read")(http.NotFoundHandler()).ServeHTTP(w, requestWith(goodKey))
		text := fmt.Sprint(out.String(), w.Header(), w.Body)
		if leaksAnyhow(text, goodKey) || strings.Contains(strings.ToLower(text), hex[:16]) ||
			strings.Contains(text, strings.Trim(fmt.Sprint(goodHash[:8]), "[]")) {
			t.Errorf("%s: the key or its hash is in what is said", name)
		}
		if strings.Contains(fmt.Sprint(w.Header(), w.Body), "secret.scope") || !strings.Contains(text, "decision") {
			t.Errorf("%s: the answer lists what the key holds, or no decision was made", name)
		}
	}
}

// TestBehindCompression: a handler outside that compresses whatever passes sends a whole answer.
func TestBehindCompression(t *testing.T) {
	inner := auth.New(newStore(), nil).Middleware(http.NotFoundHandler())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Length", "7") // preset for another answer
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
	var p auth.Problem
	body, err := io.ReadAll(response.Body)
	if err := cmp.Or(err, json.Unmarshal(body, &p)); err != nil || response.StatusCode != 401 || p.Code != "MISSING_KEY" {
		t.Errorf("%s, %+v, %v", response.Status, p, err)
	}
}

type zipWriter struct {
	http.ResponseWriter
	zip *gzip.Writer
}

func (w zipWriter) Write(p []byte) (int, error) { return w.zip.Write(p) }

// TestFieldsAreApart: a writer outside that adds to a field does not overwrite the next.
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

type addingWriter struct{ http.ResponseWriter }

func (w addingWriter) WriteHeader(status int) {
	for _, name := range []string{"Content-Type", "Content-Length", "Cache-Control", "X-Content-Type-Options", "WWW-Authenticate"} {
		w.Header().Add(name, "x")
	}
	w.ResponseWriter.WriteHeader(status)
}
