// Package dashboardscs shows the dashboard for users who are signed in with a
// session of github.com/alexedwards/scs.
package dashboardscs

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/dashboard"
	"github.com/insigner/auth/keyring"
)

// A User is somebody who can sign in.
type User struct {
	Email, Org string
	Scopes     auth.Scopes // what this person may grant
	ReadOnly   bool
}

// Users is where the application keeps its users.
type Users interface {
	// Check returns the ID of the user with that email and password, or "".
	Check(ctx context.Context, email, password string) (id string, err error)
	// Get returns a user, or nil if the account is closed.
	Get(ctx context.Context, id string) (*User, error)
}

type app struct {
	users    Users
	sessions *scs.SessionManager
	fresh    time.Duration
}

// New returns an application with the dashboard. A sign-in is fresh for that
// time.
func New(users Users, manager *keyring.Manager, logs apilog.Store, fresh time.Duration) http.Handler {
	sessions := scs.New() // in memory
	sessions.Cookie.Secure = true
	a := &app{users, sessions, fresh}
	mux := http.NewServeMux()
	mux.Handle("/developers/", dashboard.New(dashboard.Options{
		Manager: manager,
		Viewer:  a.viewer,
		Confirm: a.confirm,
		Logs:    logs,
		Prefix:  "/developers/",
	}))
	ownPages := http.NewCrossOriginProtection()
	mux.HandleFunc("GET /signin", signInPage)
	mux.Handle("POST /signin", ownPages.Handler(http.HandlerFunc(a.signIn)))
	mux.Handle("POST /signout", ownPages.Handler(http.HandlerFunc(a.signOut)))
	return sessions.LoadAndSave(mux)
}

// viewer is for dashboard.Options.Viewer.
func (a *app) viewer(w http.ResponseWriter, r *http.Request) (dashboard.Viewer, bool) {
	var user *User
	if id := a.sessions.GetString(r.Context(), "user"); id != "" {
		var err error
		if user, err = a.users.Get(r.Context(), id); err != nil {
			http.Error(w, "Try again in a moment", http.StatusServiceUnavailable)
			return dashboard.Viewer{}, false
		}
	}
	if user == nil {
		http.Redirect(w, r, "/signin", http.StatusSeeOther)
		return dashboard.Viewer{}, false
	}
	return dashboard.Viewer{
		Actor:    keyring.Actor{Name: user.Email, Owner: user.Org, Scopes: user.Scopes},
		ReadOnly: user.ReadOnly,
	}, true
}

// confirm is for dashboard.Options.Confirm. It demands a fresh sign-in.
func (a *app) confirm(r *http.Request, _ dashboard.Viewer, _ dashboard.Action) (signInURL string) {
	at := time.Unix(a.sessions.GetInt64(r.Context(), "signedInAt"), 0)
	if time.Since(at) < a.fresh {
		return ""
	}
	return "/signin"
}

// signIn answers the form of the sign-in page.
func (a *app) signIn(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	id, err := a.users.Check(ctx, r.PostFormValue("email"), r.PostFormValue("password"))
	if err != nil {
		http.Error(w, "Try again in a moment", http.StatusServiceUnavailable)
		return
	}
	if id == "" {
		http.Error(w, "The email or the password is wrong", http.StatusUnauthorized)
		return
	}
	if err := a.sessions.RenewToken(ctx); err != nil { // nobody else knows the new one
		http.Error(w, "Try again in a moment", http.StatusServiceUnavailable)
		return
	}
	a.sessions.Put(ctx, "user", id)
	a.sessions.Put(ctx, "signedInAt", time.Now().Unix())
	http.Redirect(w, r, "/developers/", http.StatusSeeOther)
}

func (a *app) signOut(w http.ResponseWriter, r *http.Request) {
	if err := a.sessions.Destroy(r.Context()); err != nil {
		http.Error(w, "Try again in a moment", http.StatusServiceUnavailable)
		return
	}
	http.Redirect(w, r, "/signin", http.StatusSeeOther)
}

func signInPage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, `<!doctype html>
<html lang="en">
<title>Sign in</title>
<form method="post" action="/signin">
<p><label>Email <input type="email" name="email" autocomplete="username"></label></p>
<p><label>Password <input type="password" name="password" autocomplete="current-password"></label></p>
<p><button>Sign in</button></p>
</form>
</html>
`)
}
