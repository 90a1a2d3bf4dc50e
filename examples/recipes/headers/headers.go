// Package headers shows an API that also accepts keys in X-API-Key.
package headers

import (
	"fmt"
	"net/http"

	"github.com/insigner/auth"
)

// NewApp returns an API that accepts "X-API-Key: isk_…" as well as
// "Authorization: Bearer isk_…".
func NewApp(store auth.Store) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /documents", auth.Require("documents.read")(http.HandlerFunc(list)))
	return FromHeader("X-API-Key", auth.New(store, nil).Middleware(mux))
}

// FromHeader moves a key from the header field with that name to Authorization,
// where an Authenticator reads it. If there is an Authorization, that decides.
func FromHeader(name string, next http.Handler) http.Handler {
	name = http.CanonicalHeaderKey(name)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		values := r.Header[name]
		if len(values) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		inner := r.Clone(r.Context())
		inner.Header.Del(name) // so that no log and no other service gets the key
		if len(r.Header["Authorization"]) == 0 {
			for _, value := range values { // several are refused, as of Authorization
				inner.Header.Add("Authorization", "Bearer "+value)
			}
		}
		// For logs outside, and for the server, which removes uploaded files.
		defer func() { r.Pattern, r.MultipartForm = inner.Pattern, inner.MultipartForm }()
		next.ServeHTTP(w, inner)
	})
}

func list(w http.ResponseWriter, r *http.Request) {
	key, _ := auth.FromContext(r.Context())
	fmt.Fprint(w, "the documents of ", key.Owner)
}
