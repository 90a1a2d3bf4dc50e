package handwritten_test

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
	"golang.org/x/crypto/blake2b"
)

// This file has what a good engineer writes who needs API keys for one API. Package
// auth is compared with it. It has the same hash, a map with a lock, the same
// checks in the same order, the record in the context, and answers that are
// rendered at startup.

type handKeys struct {
	mu   sync.RWMutex
	keys map[[32]byte]*auth.Record
}

func (s *handKeys) lookup(hash [32]byte) *auth.Record {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.keys[hash]
}

type handContextKey struct{}

type handAnswer struct {
	status    int
	challenge string
	body      []byte
	length    string
}

func newHandAnswer(status int, kind, title, detail, code, attributes string, scopes ...string) *handAnswer {
	body, err := json.Marshal(struct {
		Type     string   `json:"type"`
		Title    string   `json:"title"`
		Status   int      `json:"status"`
		Detail   string   `json:"detail"`
		Code     string   `json:"code"`
		Required []string `json:"requiredScopes,omitempty"`
	}{"https://docs.insigner.com/errors/" + kind, title, status, detail, code, scopes})
	if err != nil {
		panic(err)
	}
	body = append(body, '\n')
	return &handAnswer{status, `Bearer realm="api"` + attributes, body, strconv.Itoa(len(body))}
}

const handInvalidToken = `, error="invalid_token"`

var (
	handMissing  = newHandAnswer(401, "unauthorized", "Unauthorized", "Invalid or missing API key", "MISSING_KEY", "")
	handFormat   = newHandAnswer(401, "unauthorized", "Unauthorized", "Invalid or missing API key", "INVALID_FORMAT", handInvalidToken)
	handInvalid  = newHandAnswer(401, "unauthorized", "Unauthorized", "Invalid or missing API key", "INVALID_KEY", handInvalidToken)
	handRevoked  = newHandAnswer(401, "unauthorized", "Unauthorized", "API key has been revoked", "KEY_REVOKED", handInvalidToken)
	handDisabled = newHandAnswer(401, "unauthorized", "Unauthorized", "API key has been disabled", "KEY_DISABLED", handInvalidToken)
	handExpired  = newHandAnswer(401, "unauthorized", "Unauthorized", "API key has expired", "KEY_EXPIRED", handInvalidToken)
)

func (a *handAnswer) write(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Del("ETag")
	h.Del("Last-Modified")
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", a.length)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("WWW-Authenticate", a.challenge)
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		w.Write(a.body)
	}
}

func handBearer(r *http.Request) (string, bool) {
	v := strings.Trim(strings.Join(r.Header.Values("Authorization"), ", "), " \t")
	const scheme = "bearer "
	if len(v) <= len(scheme) || !strings.EqualFold(v[:len(scheme)], scheme) {
		return "", false
	}
	return strings.TrimLeft(v[len(scheme):], " "), true
}

func handWellFormed(s string) bool {
	if len(s) != 44 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// authenticate is the middleware.
func (s *handKeys) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		record, refused := s.identify(r)
		if refused != nil {
			refused.write(w, r)
			return
		}
		if h := w.Header(); h.Get("Cache-Control") == "" {
			h.Set("Cache-Control", "private")
		}
		own := r.WithContext(context.WithValue(r.Context(), handContextKey{}, record))
		defer func() {
			if own.Pattern != r.Pattern {
				r.Pattern = own.Pattern
			}
			if own.MultipartForm != r.MultipartForm {
				r.MultipartForm = own.MultipartForm
			}
		}()
		next.ServeHTTP(w, own)
	})
}

func (s *handKeys) identify(r *http.Request) (*auth.Record, *handAnswer) {
	key, ok := handBearer(r)
	if !ok {
		return nil, handMissing
	}
	secret, ok := strings.CutPrefix(key, "isk_")
	if !ok {
		return nil, handFormat
	}
	if !handWellFormed(secret) {
		return nil, handInvalid
	}
	var text [len("isk_") + 44]byte // on the stack
	copy(text[:], key)
	hash := blake2b.Sum256(text[:])
	record := s.lookup(hash)
	if record == nil || subtle.ConstantTimeCompare(record.Hash[:], hash[:]) != 1 {
		return nil, handInvalid
	}
	if !record.RevokedAt.IsZero() {
		return nil, handRevoked
	}
	if !record.DisabledAt.IsZero() {
		return nil, handDisabled
	}
	if !record.ExpiresAt.IsZero() && !record.ExpiresAt.After(time.Now()) {
		return nil, handExpired
	}
	return record, nil
}

// handRequire wraps a route inside the middleware.
func handRequire(scope auth.Scope) func(next http.Handler) http.Handler {
	forbidden := newHandAnswer(403, "forbidden", "Forbidden", "API key lacks the required scope: "+string(scope),
		"INSUFFICIENT_SCOPE", `, error="insufficient_scope", scope="`+string(scope)+`"`, string(scope))
	covers := func(held auth.Scope) bool {
		if held == "*" || held == scope {
			return true
		}
		stem, ok := strings.CutSuffix(string(held), "*")
		return ok && strings.HasSuffix(stem, ".") && strings.HasPrefix(string(scope), stem) && len(scope) > len(stem)
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			record, ok := r.Context().Value(handContextKey{}).(*auth.Record)
			if !ok {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			if !slices.ContainsFunc(record.Scopes, covers) {
				forbidden.write(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// A pair is an API in both implementations, with the same keys.
type pair struct {
	auth, hand http.Handler
	requests   map[string][]*http.Request // by outcome
}

// outcomes are the decisions, in their order.
var outcomes = []string{"accepted", "missing", "format", "malformed", "unknown", "revoked", "disabled", "expired", "forbidden"}

const maxRequests = 8192 // of each outcome, each with its own key

func newPair(keys int) *pair {
	m, hand := new(keyring.MemoryStore), &handKeys{keys: make(map[[32]byte]*auth.Record, keys)}
	p := &pair{requests: make(map[string][]*http.Request)}
	add := func(n int, outcome, authorization string) {
		if len(p.requests[outcome]) <= n*maxRequests/keys { // spread over all keys
			r := httptest.NewRequest("GET", "/api/v1/documents", nil)
			if authorization != "" {
				r.Header.Set("Authorization", authorization)
			}
			p.requests[outcome] = append(p.requests[outcome], r)
		}
	}
	now := time.Now()
	for n := range keys {
		key := fmt.Sprintf("isk_%044d", n)
		r := &auth.Record{ID: "key_" + strconv.Itoa(n), Hash: auth.BLAKE2b(nil)(key), Name: "benchmark", Owner: "org_1",
			Scopes: auth.Scopes{"templates.read", "documents.read"}, CreatedAt: now.Add(time.Duration(n)), ExpiresAt: now.Add(24 * time.Hour)}
		outcome := "accepted"
		switch n % 8 {
		case 0:
			outcome, r.RevokedAt = "revoked", now
		case 1:
			outcome, r.ExpiresAt = "expired", now.Add(-time.Hour)
		case 2:
			outcome, r.Scopes = "forbidden", auth.Scopes{"templates.read", "documentsx.*"}
		case 3:
			outcome, r.DisabledAt = "disabled", now
		}
		if err := m.Insert(context.Background(), r); err != nil {
			panic(err)
		}
		hand.keys[r.Hash] = r.Clone()
		add(n, outcome, "Bearer "+key)
		add(n, "unknown", fmt.Sprintf("Bearer isk_%044d", n+keys))
	}
	add(0, "missing", "")
	add(0, "format", "Bearer sk_"+strings.Repeat("0", 45))
	add(0, "malformed", "Bearer isk_"+strings.Repeat("0", 43)+"=")
	for _, requests := range p.requests { // neighbors in memory are not asked one after another
		rand.Shuffle(len(requests), func(i, j int) { requests[i], requests[j] = requests[j], requests[i] })
	}
	open := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	p.auth = auth.New(m, nil).Middleware(auth.Require("documents.read")(open))
	p.hand = hand.authenticate(handRequire("documents.read")(open))
	return p
}

// TestSameAnswers checks that both implementations answer alike, byte for byte.
// Otherwise their speed could not be compared.
func TestSameAnswers(t *testing.T) {
	p := newPair(1000)
	for _, outcome := range outcomes {
		if len(p.requests[outcome]) == 0 {
			t.Errorf("no request is %s", outcome)
		}
		for _, method := range []string{"GET", "HEAD"} {
			for _, r := range p.requests[outcome] {
				r = r.Clone(t.Context())
				r.Method = method
				one, other := httptest.NewRecorder(), httptest.NewRecorder()
				p.auth.ServeHTTP(one, r)
				p.hand.ServeHTTP(other, r)
				got := fmt.Sprintf("%d %v %s", one.Code, one.Header(), one.Body)
				want := fmt.Sprintf("%d %v %s", other.Code, other.Header(), other.Body)
				if got != want {
					t.Fatalf("%s: got\n%s\nwant\n%s", outcome, got, want)
				}
				if accepted := one.Code == 200; accepted != (outcome == "accepted") {
					t.Fatalf("%s: status %d", outcome, one.Code)
				}
			}
		}
	}
}
