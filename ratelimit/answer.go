package ratelimit

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/insigner/auth"
)

// An authenticator is what an answer tells of the auth.Authenticator.
type authenticator struct {
	body, challenge string // of the answer
	realm, base     string
}

var lastAsked atomic.Pointer[authenticator]

// askAuthenticator returns the realm and the problem base of the Authenticator
// that r has passed. Both are parts of the answer that auth.WriteProblem writes
// for one of its errors.
func askAuthenticator(r *http.Request) *authenticator {
	w := &answer{header: make(http.Header)}
	auth.WriteProblem(w, r, auth.ErrMissingKey)
	challenge := w.header.Get("WWW-Authenticate")
	if a := lastAsked.Load(); a != nil && a.body == string(w.body) && a.challenge == challenge {
		return a
	}
	var p auth.Problem
	json.Unmarshal(w.body, &p)
	a := &authenticator{
		body:      string(w.body),
		challenge: challenge,
		realm:     realmOf(challenge),
		base:      strings.TrimSuffix(p.Type, "unauthorized"),
	}
	lastAsked.Store(a)
	return a
}

// realmOf returns the realm of a challenge (RFC 9110 section 11.5).
func realmOf(challenge string) string {
	_, quoted, _ := strings.Cut(challenge, `realm="`)
	var b strings.Builder
	for i := 0; i < len(quoted) && quoted[i] != '"'; i++ {
		if quoted[i] == '\\' && i+1 < len(quoted) { // RFC 9110 section 5.6.4
			i++
		}
		b.WriteByte(quoted[i])
	}
	return b.String()
}

// An answer is a http.ResponseWriter that keeps what is written.
type answer struct {
	header http.Header
	body   []byte
}

func (a *answer) Header() http.Header { return a.header }
func (a *answer) WriteHeader(int)     {}
func (a *answer) Write(b []byte) (int, error) {
	a.body = b // which WriteProblem does not modify
	return len(b), nil
}
