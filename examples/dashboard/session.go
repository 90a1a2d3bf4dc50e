package main

import (
	"crypto/rand"
	"html/template"
	"net/http"
	"slices"
	"sync"

	"github.com/insigner/auth"
	"github.com/insigner/auth/dashboard"
	"github.com/insigner/auth/keyring"
)

// An identity is somebody who can sign in, without a password.
type identity struct {
	Name   string
	Viewer dashboard.Viewer
}

var identities = []identity{
	{"Ada, Acme", dashboard.Viewer{Actor: keyring.Actor{Name: "Ada", Owner: "Acme", Scopes: auth.Scopes{"*"}}}},
	{"Bob, Globex", dashboard.Viewer{Actor: keyring.Actor{Name: "Bob", Owner: "Globex",
		Scopes: auth.Scopes{"documents.*", "templates.read", "org.read"}}}},
	{"Sam, staff", dashboard.Viewer{Actor: keyring.Actor{Name: "Sam"}, Staff: true}},
	{"Rita, Acme, read only", dashboard.Viewer{Actor: keyring.Actor{Name: "Rita", Owner: "Acme"}, ReadOnly: true}},
}

// sessions are who is signed in, by cookie. Yours are in your session library.
type sessions struct{ byToken sync.Map }

const cookie = "session"

// viewer is for dashboard.Options.Viewer.
func (s *sessions) viewer(w http.ResponseWriter, r *http.Request) (dashboard.Viewer, bool) {
	if c, err := r.Cookie(cookie); err == nil {
		if v, ok := s.byToken.Load(c.Value); ok {
			return v.(dashboard.Viewer), true
		}
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return dashboard.Viewer{}, false
}

var signInPage = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Demonstration</title>
<link rel="stylesheet" href="/developers/assets/style.css">
</head>
<body>
<div class="keys-pages">
<main>
<h1>Demonstration</h1>
<p>Choose who you are. There is no password, since there is nothing to protect.</p>
<form method="post" action="/">
{{range .}}<p><button type="submit" name="identity" value="{{.Name}}">{{.Name}}</button></p>
{{end}}</form>
</main>
</div>
</body>
</html>
`))

// page is the page on which somebody signs in.
func (s *sessions) page(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	signInPage.Execute(w, identities)
}

// signIn answers the form of that page.
func (s *sessions) signIn(w http.ResponseWriter, r *http.Request) {
	name := r.PostFormValue("identity")
	i := slices.IndexFunc(identities, func(i identity) bool { return i.Name == name })
	if i < 0 {
		http.Error(w, "there is no such identity", http.StatusBadRequest)
		return
	}
	token := rand.Text()
	s.byToken.Store(token, identities[i].Viewer)
	http.SetCookie(w, &http.Cookie{Name: cookie, Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "/developers/", http.StatusSeeOther)
}
