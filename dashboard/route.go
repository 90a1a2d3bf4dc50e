package dashboard

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/insigner/auth/apilog"
)

// maxBody is the longest form, in bytes.
const maxBody = 64 << 10

// A right is what a viewer needs for a route.
type right int

const (
	anything  right = iota // also a form that is of no session
	mayLook                // everybody who is signed in
	mayEnd                 // disable and revoke: not ReadOnly
	mayChange              // everything else: neither ReadOnly nor staff without StaffSecrets
)

// routes registers the pages, each with what a viewer needs for it.
func (h *handler) routes() {
	for _, route := range []struct {
		pattern string
		right   right
		serve   func(*call) error
	}{
		{"GET {$}", mayLook, (*call).listKeys},
		{"POST search", mayLook, (*call).search},
		{"POST keys/revoke", mayEnd, (*call).revokeSelected},
		{"GET keys/new", mayChange, (*call).newKey},
		{"POST keys/new", mayChange, (*call).create},
		{"GET keys/{id}", mayLook, (*call).showKey},
		{"GET keys/{id}/used", mayLook, (*call).used},
		{"GET keys/{id}/edit", mayChange, (*call).editKey},
		{"POST keys/{id}/edit", mayChange, (*call).save},
		{"GET keys/{id}/rotate", mayChange, (*call).rotateKey},
		{"POST keys/{id}/rotate", mayChange, (*call).rotate},
		{"POST keys/{id}/replace", mayChange, (*call).replace},
		{"GET keys/{id}/revoke", mayEnd, (*call).revokeKey},
		{"POST keys/{id}/revoke", mayEnd, (*call).revoke},
		{"POST keys/{id}/disable", mayEnd, (*call).disable},
		{"POST keys/{id}/enable", mayChange, (*call).enable},
		{"GET activity", mayLook, (*call).activity},
		{"GET activity.csv", mayLook, (*call).activityCSV},
		{"GET logs", mayLook, (*call).apiLogs},
		{"GET logs.csv", mayLook, (*call).logsCSV},
		{"", anything, (*call).noSuchPage},
	} {
		method, path, ok := strings.Cut(route.pattern, " ")
		pattern := h.Prefix
		if ok {
			pattern = method + " " + h.Prefix + path
		}
		h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			h.serve(w, r, route.right, route.serve)
		})
	}
	h.mux.HandleFunc("GET "+h.Prefix+"assets/{name}", serveAsset)
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	apilog.Omit(r.Context()) // the customer made no request of the API
	if !strings.HasPrefix(r.URL.Path, h.Prefix) {
		http.NotFound(w, r)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// serve answers a request with the page that serve writes, if the viewer may see
// it.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, right right, serve func(*call) error) {
	c := &call{handler: h, w: w, r: r, id: r.PathValue("id"), nonce: newNonce()}
	c.base = strings.Repeat("../", max(0, strings.Count(r.URL.EscapedPath(), "/")-strings.Count(h.Prefix, "/")))
	if err := h.crossOrigin.Check(r); err != nil {
		c.setHeaders()
		c.fail(&failure{status: http.StatusForbidden, title: "The form came from another site",
			detail: "Open the page here, and send the form again."})
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody) // before Viewer, which may read the form
	viewer, ok := h.Viewer(w, r)
	if !ok {
		return
	}
	c.setHeaders() // not before: the host's own answer may need another policy
	c.signIn(viewer)
	if err := c.permitted(right); err != nil {
		c.fail(err)
		return
	}
	if err := serve(c); err == errAnswered {
		return
	} else if err != nil {
		c.fail(err)
	}
}

// permitted returns an error if the viewer may not do what needs the right, or
// if a form is not one that can be obeyed.
func (c *call) permitted(right right) error {
	if right > mayLook && c.viewer.ReadOnly {
		return &failure{status: http.StatusForbidden, title: "You can only look",
			detail: "Your account may not change keys."}
	}
	if right == mayChange && !c.mayChange() {
		return &failure{status: http.StatusForbidden, title: "Staff can only look, disable and revoke",
			detail: "The customer has to do this."}
	}
	if _, err := url.ParseQuery(c.r.URL.RawQuery); err != nil {
		return &failure{status: http.StatusBadRequest, title: "This address is not valid"}
	}
	if c.r.Method != http.MethodPost || right == anything {
		return nil
	}
	if err := c.r.ParseForm(); err != nil {
		return badForm(err)
	}
	if !sameText(c.r.PostForm.Get("as"), c.viewer.Name) || !sameText(c.r.PostForm.Get("for"), c.viewer.Owner) {
		return &failure{status: http.StatusConflict, title: "You are now signed in as somebody else",
			detail: "The form was opened by another account. Nothing has been changed. Open the page again."}
	}
	return nil
}

// sameText compares texts of forms, in which browsers change the ends of lines.
func sameText(a, b string) bool {
	lines := strings.NewReplacer("\r\n", "\n", "\r", "\n")
	return lines.Replace(a) == lines.Replace(b)
}

// mayChange reports whether the viewer may create and change keys.
func (c *call) mayChange() bool {
	return !c.viewer.ReadOnly && (!c.viewer.Staff || c.StaffSecrets)
}

// noSuchPage answers unknown paths, and other methods than those of a page.
func (c *call) noSuchPage() error {
	return &failure{status: http.StatusNotFound, title: "There is no such page"}
}
