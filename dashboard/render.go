package dashboard

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/insigner/auth"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed assets
var assetFiles embed.FS

// pages are the templates, by the name of the file. Each consists of the parts in
// parts.html and of its own file.
var pages = func() map[string]*template.Template {
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		panic(err)
	}
	parsed := make(map[string]*template.Template)
	parts := template.Must(template.ParseFS(templateFiles, "templates/parts.html"))
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name != "parts" {
			parsed[name] = template.Must(template.Must(parts.Clone()).ParseFS(templateFiles, file))
		}
	}
	return parsed
}()

// A view is what a template sees: the call, and the data of the page.
type view struct {
	*call
	Name  string // of the page, such as "keys"
	Title string // translated
	Data  any
}

// render answers the request with a page. The title is a text, or a name that is
// shown as it is if it comes from shown.
func (c *call) render(status int, name, title string, data any) error {
	return c.renderTitle(status, name, c.text(title), data)
}

func (c *call) renderTitle(status int, name, title string, data any) error {
	v := &view{call: c, Name: name, Title: title, Data: data}
	page := Page{Title: title + " · " + c.Options.Title, Lang: c.text("en"), Nonce: c.nonce}
	for part, to := range map[string]*template.HTML{"head": &page.Head, "main": &page.Main} {
		var b bytes.Buffer
		if err := pages[name].ExecuteTemplate(&b, part, v); err != nil {
			c.logFailure(err)
			http.Error(c.w, "Internal Server Error", http.StatusInternalServerError)
			return errAnswered
		}
		*to = template.HTML(b.String())
	}
	c.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	layout := c.Layout
	if layout == nil {
		layout = frame
	}
	w := &statusWriter{ResponseWriter: c.w, status: status}
	err := layout(w, c.r, page)
	switch {
	case err != nil && !w.wrote:
		http.Error(c.w, "Internal Server Error", http.StatusInternalServerError)
		fallthrough
	case err != nil:
		c.logFailure(fmt.Errorf("Options.Layout: %w", err))
		return errAnswered
	}
	w.WriteHeader(status) // if the layout wrote nothing
	return nil
}

// A statusWriter writes the status of a page before its first byte.
type statusWriter struct {
	http.ResponseWriter
	status int
	wrote  bool
}

func (w *statusWriter) WriteHeader(int) {
	if !w.wrote {
		w.wrote = true
		w.ResponseWriter.WriteHeader(w.status)
	}
}

func (w *statusWriter) Write(p []byte) (int, error) {
	w.WriteHeader(w.status)
	return w.ResponseWriter.Write(p)
}

// FlushError is for http.ResponseController, which would flush another status.
func (w *statusWriter) FlushError() error {
	w.WriteHeader(w.status)
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// frame is the Layout of a host that has none.
func frame(w http.ResponseWriter, r *http.Request, p Page) error {
	var b bytes.Buffer
	if err := pages["frame"].ExecuteTemplate(&b, "frame", p); err != nil {
		return err
	}
	_, err := b.WriteTo(w)
	return err
}

// assetVersion is in the URL of an asset, so that it can be cached for ever.
var assetVersion = func() string {
	sum := sha256.New()
	for _, name := range []string{"style.css", "script.js", "icon.svg"} {
		text, err := assetFiles.ReadFile("assets/" + name)
		if err != nil {
			panic(err)
		}
		sum.Write(text)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}()

func serveAsset(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	if r.URL.Query().Get("v") == assetVersion {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeFileFS(w, r, assetFiles, "assets/"+r.PathValue("name"))
}

// What templates call.

// Base is the path from the page to that at Prefix.
func (v *view) Base() string {
	if v.base == "" {
		return "./"
	}
	return v.base
}

// Prefix is what keys begin with.
func (v *view) Prefix() string { return cmp.Or(v.keyOptions.Scheme.Prefix, auth.DefaultPrefix) }

func (v *view) Nonce() string        { return v.nonce }
func (v *view) AssetVersion() string { return assetVersion }
func (v *view) Brand() string        { return v.Options.Title }
func (v *view) SignedIn() bool       { return v.signedIn }
func (v *view) Viewer() Viewer       { return v.viewer }
func (v *view) HasLogs() bool        { return v.logs != nil }
func (v *view) MayChange() bool      { return v.signedIn && v.mayChange() }
func (v *view) MayEnd() bool         { return v.signedIn && !v.viewer.ReadOnly }

// Section is the page of the navigation that is current.
func (v *view) Section() string {
	switch v.Name {
	case "activity", "logs", "failure":
		return v.Name
	}
	return "keys"
}

// Notice is what the last POST did, or "".
func (v *view) Notice() string { return v.notice }

// noticeOf returns the notice that a link asks for, if that is true of the key: a
// link of others must not claim that a key is revoked.
func (c *call) noticeOf(r *auth.Record) string {
	lately := time.Since(r.UpdatedAt) < time.Hour
	switch c.r.URL.Query().Get("notice") {
	case "saved":
		if lately {
			return c.text("Your changes have been saved.")
		}
	case "unchanged":
		return c.text("Nothing has been changed.")
	case "disabled":
		if !r.DisabledAt.IsZero() {
			return c.text("The key is disabled. Requests with it are refused until it is enabled.")
		}
	case "enabled":
		if lately && r.DisabledAt.IsZero() && r.RevokedAt.IsZero() {
			return c.text("The key is enabled.")
		}
	case "revoked":
		if !r.RevokedAt.IsZero() {
			return c.text("The key has been revoked.")
		}
	case "ended":
		if !r.RevokedAt.IsZero() {
			return c.text("The key and those that it made have been revoked.")
		}
	}
	return ""
}

// T returns a text in the language of the viewer, as HTML. Arguments that are
// HTML stay so; all others are shown as they are.
func (v *view) T(english string, args ...any) template.HTML {
	text := template.HTMLEscapeString(v.call.translated(english))
	if len(args) == 0 {
		return template.HTML(text)
	}
	safe := make([]any, len(args))
	for i, arg := range args {
		switch arg := arg.(type) {
		case template.HTML, int, int64:
			safe[i] = arg
		case string:
			safe[i] = template.HTMLEscapeString(shown(arg))
		default:
			safe[i] = template.HTMLEscapeString(shown(fmt.Sprint(arg)))
		}
	}
	return template.HTML(fmt.Sprintf(text, safe...))
}

// Count returns one of two texts: that of one, or that of many with the number.
func (v *view) Count(n int, one, many string) template.HTML {
	if n == 1 {
		return v.T(one)
	}
	return v.T(many, n)
}

// Show returns a text of others, so that all of it can be seen.
func (v *view) Show(text any) string { return shown(fmt.Sprint(text)) }

// NameOf returns the name of a key, or its hint if the name cannot be seen.
func (v *view) NameOf(r auth.Record) string { return nameOf(&r) }

// Time returns an instant in UTC, which the script shows in the reader's zone.
func (v *view) Time(t time.Time) template.HTML {
	t = t.UTC()
	if t.Year() < 0 || t.Year() > 9999 { // a record that was written with SQL
		return template.HTML(template.HTMLEscapeString(t.Format(time.DateTime)))
	}
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s</time>`, t.Format(time.RFC3339), utc(t)))
}

func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// Seconds is Time with seconds.
func (v *view) Seconds(t time.Time) template.HTML {
	t = t.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s" data-seconds>%s</time>`, t.Format(time.RFC3339Nano),
		t.Format("2006-01-02 15:04:05 UTC")))
}

// LogsOf is the query of the API logs of a key, as far back as they go but for a
// month.
func (v *view) LogsOf(id string) template.URL {
	length := 30 * day
	if v.LogsRetention > 0 {
		length = min(length, v.LogsRetention)
	}
	return template.URL(url.Values{"key": {id}, "from": {time.Now().UTC().Add(-length).Format(localTime)}}.Encode())
}

// LogsWith is the path of the API logs with one filter.
func (v *view) LogsWith(name, value string) string {
	return v.Base() + "logs?" + url.Values{name: {value}}.Encode()
}

// KeyPath is the path of the page of a key, or of another page about it.
func (v *view) KeyPath(id string, more ...string) string {
	return v.Base() + "keys/" + strings.Join(append([]string{url.PathEscape(id)}, more...), "/")
}

// Pair is the view and a value, for templates that need both.
func (v *view) Pair(value any) [2]any { return [2]any{v, value} }

// View is the view itself.
func (v *view) View() *view { return v }

// Class is that of the badge of a status.
func (v *view) Class(s status) string {
	switch s {
	case statusActive:
		return "good"
	case statusSoon, statusRotated:
		return "warn"
	case statusDisabled:
		return "plain"
	}
	return "bad"
}

// ID is that of the key that the path names.
func (v *view) ID() string { return v.id }
