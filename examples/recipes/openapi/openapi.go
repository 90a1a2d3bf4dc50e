// Package openapi shows an API whose routes require the scopes that its OpenAPI
// document names.
package openapi

import (
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/insigner/auth"
)

//go:embed openapi.yaml
var document []byte

// NewApp returns an API that requires what the document says.
func NewApp(store auth.Store) (http.Handler, error) {
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return nil, err
	}
	security, err := NewSecurity(doc, "apiKey", "")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /documents", security.Require(http.HandlerFunc(list)))
	mux.Handle("DELETE /documents/{id}", security.Require(http.HandlerFunc(noContent)))
	mux.Handle("POST /documents/{id}/send", security.Require(http.HandlerFunc(noContent)))
	mux.Handle("GET /account", security.Require(http.HandlerFunc(account)))
	mux.Handle("GET /health", security.Require(http.HandlerFunc(noContent)))
	return auth.New(store, nil).Optional(mux), nil
}

// Security has the alternatives of each operation, by its pattern, such as
// "GET /documents/{id}". A key needs all scopes of one alternative. An
// operation without alternatives is public.
type Security map[string][]auth.Scopes

// NewSecurity reads the security requirements of a document. The scheme is the
// name of the security scheme for API keys, and base is the path that precedes
// the paths of the document, such as "/api/v1".
func NewSecurity(doc *openapi3.T, scheme, base string) (Security, error) {
	if len(doc.Security) == 0 {
		return nil, errors.New("the document has no security of its own: an operation that forgets it would be public")
	}
	s := make(Security)
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			requirements := doc.Security
			if operation.Security != nil {
				requirements = *operation.Security // replaces that of the document, even if it is empty
			}
			pattern := method + " " + base + path
			s[pattern] = nil
			for _, requirement := range requirements {
				scopes, known := requirement[scheme]
				if !known || len(requirement) != 1 {
					return nil, fmt.Errorf("%s: a requirement is not exactly one of %s: %v", pattern, scheme, requirement)
				}
				var alternative auth.Scopes
				for _, text := range scopes {
					scope, err := auth.ParseScope(text)
					if err != nil {
						return nil, fmt.Errorf("%s: %w", pattern, err)
					}
					alternative = append(alternative, scope)
				}
				s[pattern] = append(s[pattern], alternative)
			}
		}
	}
	return s, nil
}

// Require wraps the handler of an operation, inside a mux and the Optional of an
// Authenticator.
func (s Security) Require(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.authorize(r); err != nil {
			auth.WriteProblem(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s Security) authorize(r *http.Request) error {
	alternatives, known := s[r.Pattern]
	if !known {
		slog.ErrorContext(r.Context(), "the document does not have this operation", "pattern", r.Pattern)
		return errors.New("unknown operation") // 500, which discloses nothing
	}
	if len(alternatives) == 0 {
		return nil // public
	}
	key, authenticated := auth.FromContext(r.Context())
	// One call decides, so that logs and metrics have one decision: about the
	// alternative that the key meets, or else about the first one.
	scopes := alternatives[0]
	for _, alternative := range alternatives {
		if !slices.ContainsFunc(alternative, func(s auth.Scope) bool { return !key.Scopes.Covers(s) }) {
			scopes = alternative
			break
		}
	}
	if len(scopes) > 0 {
		return auth.Authorize(r.Context(), scopes[0], scopes[1:]...)
	}
	if !authenticated {
		return auth.ErrMissingKey
	}
	return nil // any key will do
}

func list(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "the documents") }

func account(w http.ResponseWriter, r *http.Request) {
	key, _ := auth.FromContext(r.Context())
	fmt.Fprint(w, key.Owner)
}

func noContent(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }
