package auth

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

const maxScopeLen = 255 // bytes

// A Scope names something that a key may do, such as "documents.read".
//
// A scope is "*", or segments joined by "." or ":". A segment consists of ASCII
// letters, digits, "_" and "-". The last of several segments may be "*". One
// segment alone, such as "admin", is a scope. A scope has at most 255 bytes,
// and case matters.
//
// Any other string is an invalid scope. [Require] panics on it at startup. In a
// [Record] it grants nothing.
type Scope string

// ParseScope returns s as a Scope, or an error if it is invalid.
func ParseScope(s string) (Scope, error) {
	if !Scope(s).valid() {
		return "", fmt.Errorf("auth: %s is not a valid scope", quote(s))
	}
	return Scope(s), nil
}

func (s Scope) valid() bool {
	if s == "*" {
		return true
	}
	if len(s) > maxScopeLen {
		return false
	}
	start := 0 // of the segment that i is in
	for i := range len(s) {
		switch c := s[i]; {
		case keyChar[c]:
		case (c == '.' || c == ':') && i > start:
			start = i + 1
		case c == '*' && i == start && i > 0 && i == len(s)-1:
			return true
		default:
			return false
		}
	}
	return len(s) > start
}

// Covers reports whether a key that holds s may do what required asks for.
//
// "*" covers every scope. "documents.*" covers itself and everything below
// "documents." at any depth, but neither "documents" nor "documents:read". Any
// other scope covers only itself. An invalid scope covers nothing and is
// covered by nothing.
func (s Scope) Covers(required Scope) bool {
	return required.valid() && s.covers(required)
}

// covers is Covers for a required scope that is valid. Then s needs no check of
// its own: it is valid too if it equals required, or if it is a separator and
// "*" after a beginning of required.
func (s Scope) covers(required Scope) bool {
	if s == required || s == "*" {
		return true
	}
	n := len(s) - 1 // of the stem, with its separator
	return n > 1 && s[n] == '*' && (s[n-1] == '.' || s[n-1] == ':') &&
		len(required) > n && required[:n] == s[:n]
}

// Scopes are what a key holds, or what a route requires. Nil and empty Scopes
// are the same: they grant nothing, and in JSON they are [].
type Scopes []Scope

// Covers reports whether one of ss covers required.
func (ss Scopes) Covers(required Scope) bool {
	return required.valid() && ss.covers(required)
}

func (ss Scopes) covers(required Scope) bool {
	for _, s := range ss {
		if s.covers(required) {
			return true
		}
	}
	return false
}

// MarshalJSON returns an array of strings, never null.
func (ss Scopes) MarshalJSON() ([]byte, error) {
	return json.Marshal(append([]Scope{}, ss...))
}

func (ss Scopes) join(sep string) string {
	var b strings.Builder
	for i, s := range ss {
		if i > 0 {
			b.WriteString(sep)
		}
		b.WriteString(string(s))
	}
	return b.String()
}

// A requirement is what a route requires of a key.
type requirement struct {
	scopes Scopes // not empty
	any    bool   // one of them is enough; otherwise all are needed
}

func newRequirement(any bool, scope Scope, more []Scope) requirement {
	return requirement{slices.Concat(Scopes{scope}, more), any}
}

// met reports whether a key that holds these scopes meets q, whose scopes are
// valid.
func (q *requirement) met(held Scopes) bool {
	for _, s := range q.scopes {
		if held.covers(s) == q.any {
			return q.any
		}
	}
	return !q.any
}
