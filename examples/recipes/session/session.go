// Package session shows routes that accept a browser session or an API key.
package session

import (
	"fmt"
	"net/http"
	"time"

	"github.com/insigner/auth"
)

// A User is somebody who has signed in.
type User struct {
	ID, Name, Org string
	Scopes        auth.Scopes // what this person may do
	Until         time.Time   // the end of the session
}

// NewApp returns an application whose routes accept a session or a key.
//
// userOf returns the user of the session that a request belongs to, or nil if
// nobody is signed in. It is what your session library offers. An error means that
// the sessions cannot be read.
func NewApp(store auth.Store, userOf func(r *http.Request) (*User, error)) http.Handler {
	a := auth.New(store, nil)
	mux := http.NewServeMux()
	mux.Handle("GET /documents", a.Require("documents.read")(http.HandlerFunc(list)))
	mux.Handle("POST /documents", a.Require("documents.create")(http.HandlerFunc(create)))
	return withSession(a, userOf, mux)
}

// withSession tells a whose session a request belongs to.
func withSession(a *auth.Authenticator, userOf func(r *http.Request) (*User, error), next http.Handler) http.Handler {
	ownPages := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Cookie")
		if auth.Bearer(r.Header["Authorization"]...) != "" {
			next.ServeHTTP(w, r) // a key decides if there is one
			return
		}
		user, err := userOf(r)
		if err != nil {
			auth.WriteProblem(w, r, err) // 500, which discloses nothing
			return
		}
		if user == nil {
			next.ServeHTTP(w, r) // a.Require answers 401
			return
		}
		if ownPages.Check(r) != nil {
			auth.WriteProblem(w, r, crossOrigin)
			return
		}
		inner := r.WithContext(a.Vouch(r.Context(), auth.Record{
			ID:        "user:" + user.ID,
			Name:      user.Name,
			Owner:     user.Org,
			Scopes:    user.Scopes,
			ExpiresAt: user.Until,
		}))
		// For logs outside, and for the server, which removes uploaded files.
		defer func() { r.Pattern, r.MultipartForm = inner.Pattern, inner.MultipartForm }()
		next.ServeHTTP(w, inner)
	})
}

var crossOrigin = &auth.Problem{
	Type:   "https://api.example.com/problems/cross-origin",
	Title:  "Forbidden",
	Status: http.StatusForbidden,
	Detail: "A session is accepted from our own pages only",
	Code:   "CROSS_ORIGIN",
}

func list(w http.ResponseWriter, r *http.Request) {
	who, _ := auth.FromContext(r.Context())
	fmt.Fprintf(w, "the documents of %s for %s", who.Owner, who.Name)
}

func create(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusCreated) }
