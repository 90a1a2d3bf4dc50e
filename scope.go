package auth

import (
	"fmt"
	"slices"
	"strings"
)

// A Scope names something that a key may do: "documents.read". It is "*", or dot-separated segments of a-z 0-9 _
// and -, at least two, the last of which may be "*". Nothing else is a scope: where a route requires it the program
// panics at start-up, and in a [Record] it grants nothing.
type Scope string

// ParseScope returns s as a Scope, or an error if it is none.
func ParseScope(s string) (Scope, error) {
	if !Scope(s).valid() {
		return "", fmt.Errorf("auth: %s is not a scope", quote(s))
	}
	return Scope(s), nil
}

func (s Scope) valid() bool {
	if s == "*" {
		return true
	}
	segments, length := 1, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_', c == '-':
			length++
		case c == '.' && length > 0:
			segments++
			length = 0
		case c == '*' && length == 0 && segments > 1 && i == len(s)-1:
			return true
		default:
			return false
		}
	}
	return segments > 1 && length > 0
}

// Covers reports whether a key that holds s may do what required asks for. "*" covers every scope; "documents.*"
// covers itself and all below it at any depth, but neither "documents" nor "documentsx.read"; any other scope covers
// itself. Case matters. What is not a scope covers nothing and is covered by nothing.
func (s Scope) Covers(required Scope) bool {
	return required.valid() && s.covers(required)
}

// covers is Covers for a required scope that is known to be one. Then s needs no check of its own: if it equals
// required, or is a start of it up to a dot with "*" behind it, it is a scope too.
func (s Scope) covers(required Scope) bool {
	if s == required || s == "*" {
		return true
	}
	stem, wild := strings.CutSuffix(string(s), ".*")
	return wild && len(required) > len(stem)+1 && required[len(stem)] == '.' && string(required[:len(stem)]) == stem
}

// Scopes is what a key holds, or what a route requires. Empty Scopes grant nothing.
type Scopes []Scope

// Allow reports whether one of ss covers required.
func (ss Scopes) Allow(required Scope) bool {
	return required.valid() && ss.allow(required)
}

func (ss Scopes) allow(required Scope) bool {
	for _, s := range ss {
		if s.covers(required) {
			return true
		}
	}
	return false
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

// A Catalog lists the scopes that an API defines, in display order.
type Catalog []ScopeInfo

// ScopeInfo is a scope with what it permits, in a few words for whoever chooses it.
type ScopeInfo struct {
	Scope       Scope  `json:"scope"`
	Description string `json:"description"`
}

// DefaultCatalog is the published one (inSigner API documentation, "Scopes").
var DefaultCatalog = Catalog{
	{"*", "Full access to all resources"},
	{"documents.*", "Full access to documents"},
	{"documents.read", "List and retrieve documents"},
	{"documents.create", "Create new documents"},
	{"documents.write", "Update documents, add fields/signers, upload files"},
	{"documents.send", "Send documents and reminders"},
	{"documents.delete", "Delete documents"},
	{"templates.read", "List and retrieve templates"},
	{"campaigns.*", "Full access to campaigns"},
	{"campaigns.read", "List and retrieve campaigns"},
	{"campaigns.create", "Create campaigns"},
	{"campaigns.update", "Update campaigns"},
	{"campaigns.delete", "Delete campaigns"},
	{"bulk_sends.*", "Full access to bulk sends"},
	{"bulk_sends.read", "List and retrieve bulk sends"},
	{"bulk_sends.create", "Create bulk sends"},
	{"bulk_sends.delete", "Delete bulk sends"},
	{"webhooks.*", "Full access to webhooks"},
	{"webhooks.read", "List and retrieve webhooks"},
	{"webhooks.create", "Create webhooks"},
	{"webhooks.update", "Update webhooks"},
	{"webhooks.delete", "Delete webhooks"},
	{"org.read", "Read organization info and members"},
}

// Validate returns an error that names the first of scopes that is not a scope, or that c does not list. A wildcard
// counts only where c lists it. A nil Catalog takes every scope; one that is empty but not nil takes none.
func (c Catalog) Validate(scopes ...Scope) error {
	for _, s := range scopes {
		if _, err := ParseScope(string(s)); err != nil {
			return err
		}
		if c != nil && !slices.ContainsFunc(c, func(info ScopeInfo) bool { return info.Scope == s }) {
			return fmt.Errorf("auth: the catalog does not list the scope %s", quote(string(s)))
		}
	}
	return nil
}
