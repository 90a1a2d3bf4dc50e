// Package dashboardframe shows the dashboard in the frame, the colors and the
// language of the host.
package dashboardframe

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"strings"

	"github.com/insigner/auth/dashboard"
	"github.com/insigner/auth/keyring"
)

//go:embed acme.css
var static embed.FS

// frame is what all pages of the host have in common.
var frame = template.Must(template.New("").Parse(`<!doctype html>
<html lang="{{.Lang}}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{.Title}}</title>
{{.Head}}
<link rel="stylesheet" href="/static/acme.css">
</head>
<body>
<div class="acme"><a href="/">Acme</a></div>
{{.Main}}
</body>
</html>
`))

// layout is for dashboard.Options.Layout.
func layout(w http.ResponseWriter, r *http.Request, p dashboard.Page) error {
	var page bytes.Buffer
	if err := frame.Execute(&page, p); err != nil {
		return err // nothing is written yet, so the answer is 500
	}
	_, err := page.WriteTo(w)
	return err
}

// German is a part of a translation.
var German = map[string]string{
	"en":                       "de",
	"API Keys":                 "API-Schlüssel",
	"API key":                  "API-Schlüssel",
	"Activity":                 "Verlauf",
	"Create API Key":           "API-Schlüssel anlegen",
	"Name":                     "Name",
	"No keys yet":              "Noch keine Schlüssel",
	"Requests":                 "Anfragen",
	"Rotate %s":                "%s austauschen",
	"Save your key":            "Schlüssel sichern",
	"From %s until %s.":        "Bis %[2]s, ab %[1]s.",
	"%s for %s":                "%s für %s",
	"(%d days)":                "(%d Tage)",
	"There is no such key":     "Diesen Schlüssel gibt es nicht",
	"Skip to the content":      "Zum Inhalt",
	"The key is disabled":      "Der Schlüssel ist gesperrt",
	"The key has expired":      "Der Schlüssel ist abgelaufen",
	"The key has been revoked": "Der Schlüssel ist widerrufen",
	"The form is too long":     "Das Formular ist zu lang",
	"Enter a name.":            "Geben Sie einen Namen ein.",
	"Last used":                "Zuletzt benutzt",
	"Expires":                  "Läuft ab",
	"There is no such page":    "Diese Seite gibt es nicht",
	"There are too many keys":  "Es sind zu viele Schlüssel",
}

// text is for dashboard.Options.Text.
func text(r *http.Request, english string) string {
	if strings.HasPrefix(r.Header.Get("Accept-Language"), "de") {
		if translated, ok := German[english]; ok {
			return translated
		}
	}
	return english
}

// New returns the pages of the host, with the dashboard in the same frame.
func New(manager *keyring.Manager, viewer func(w http.ResponseWriter, r *http.Request) (dashboard.Viewer, bool)) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /static/", http.StripPrefix("/static/", http.FileServerFS(static)))
	mux.Handle("/developers/", dashboard.New(dashboard.Options{
		Manager: manager,
		Viewer:  viewer,
		Prefix:  "/developers/",
		Title:   "Acme",
		Layout:  layout,
		Text:    text,
	}))
	return mux
}
