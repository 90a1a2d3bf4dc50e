package dashboard

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/keyring"
)

// A call is one request of a page.
type call struct {
	*handler
	w     http.ResponseWriter
	r     *http.Request
	id    string // of the key that the path names, or ""
	base  string // from this page to that at Prefix, such as "../"
	nonce string

	notice   string // what the last POST did, as a text
	signedIn bool
	viewer   Viewer
	keys     *keyring.Keyring
	logs     *apilog.Reader // nil if there are none
}

func newNonce() string { return rand.Text() }

// signIn lets the call act for the viewer.
func (c *call) signIn(v Viewer) {
	c.viewer, c.signedIn = v, true
	if v.Staff {
		c.viewer.Owner = "" // they act for themselves
		c.keys = c.Manager.Unconfined(v.Name)
	} else {
		c.keys = c.Manager.For(v.Actor)
	}
	switch {
	case c.Logs == nil:
	case v.Staff:
		c.logs = apilog.All(c.Logs)
	default:
		c.logs = apilog.For(c.Logs, v.Owner)
	}
}

func (c *call) ctx() context.Context { return c.r.Context() }

// setHeaders sets the header fields of every page.
func (c *call) setHeaders() {
	h := c.w.Header()
	h.Set("Cache-Control", "private, no-store")
	h.Set("Referrer-Policy", "same-origin") // no-referrer would make browsers send our forms with "Origin: null"
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// Another policy of the host stays. Browsers obey all of them.
	h.Add("Content-Security-Policy", "default-src 'none'; script-src 'nonce-"+c.nonce+"'; style-src 'self' 'nonce-"+c.nonce+
		"'; img-src 'self'; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
}

// redirect answers a POST with another page. The path is relative to Prefix.
func (c *call) redirect(path string, query url.Values) error {
	location := c.base + path
	if location == "" {
		location = "./"
	}
	if len(query) > 0 {
		location += "?" + query.Encode()
	}
	c.w.Header().Set("Location", location) // http.Redirect would make the path absolute
	c.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// query returns the parameters of a link that have a value.
func query(parameters map[string]string) url.Values {
	q := make(url.Values)
	for name, value := range parameters {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

// staffRead tells the host that staff are about to see data of customers.
func (c *call) staffRead(owner, keyID string) {
	if c.viewer.Staff && c.OnStaffRead != nil {
		c.OnStaffRead(c.ctx(), c.viewer.Name, owner, keyID, c.r.URL.Path[len(c.Prefix):])
	}
}

// key returns the key that the path names.
func (c *call) key() (auth.Record, error) {
	r, err := c.keys.Get(c.ctx(), c.id)
	if err == nil {
		c.staffRead(r.Owner, r.ID)
	}
	return r, err
}

// confirmed returns the URL at which the viewer has to sign in before an action,
// or "".
func (c *call) confirmed(actions ...Action) string {
	if c.Confirm == nil {
		return ""
	}
	for _, a := range actions {
		if signIn := c.Confirm(c.r, c.viewer, a); signIn != "" {
			return signIn
		}
	}
	return ""
}

// A failure is an answer that shows an error and nothing else.
type failure struct {
	status        int
	title, detail string // texts
	cause         error  // for the log
}

func (f *failure) Error() string { return f.title }

// Detail is for the template.
func (f *failure) Detail() string { return f.detail }

// errAnswered means that the request is answered, although with an error.
var errAnswered = errors.New("dashboard: the request is answered")

func badForm(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &failure{status: http.StatusRequestEntityTooLarge, title: "The form is too long"}
	}
	return &failure{status: http.StatusBadRequest, title: "The form cannot be read"}
}

// failureOf returns what a viewer is told about an error.
func failureOf(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if wrong, ok := errors.AsType[*keyring.ArgumentError](err); ok && wrong.Field == "Actor" {
		return &failure{status: http.StatusForbidden, title: "Your account may not manage keys"}
	}
	switch {
	case errors.Is(err, auth.ErrNotFound):
		return &failure{status: http.StatusNotFound, title: "There is no such key",
			detail: "It may have been deleted, or belong to another account."}
	case errors.Is(err, auth.ErrKeyRevoked):
		return &failure{status: http.StatusConflict, title: "The key has been revoked"}
	case errors.Is(err, auth.ErrKeyExpired):
		return &failure{status: http.StatusConflict, title: "The key has expired"}
	case errors.Is(err, auth.ErrKeyDisabled):
		return &failure{status: http.StatusConflict, title: "The key is disabled"}
	case errors.Is(err, auth.ErrInsufficientScope):
		return &failure{status: http.StatusForbidden, title: "The key has a scope that you do not hold",
			detail: "Somebody who holds all of its scopes can do this."}
	case errors.Is(err, keyring.ErrConflict):
		return &failure{status: http.StatusConflict, title: "The key was changed at the same time", detail: "Try again."}
	case errors.Is(err, keyring.ErrInvalidArgument), errors.Is(err, apilog.ErrInvalidQuery):
		return &failure{status: http.StatusBadRequest, title: "This address is not valid"}
	case errors.Is(err, errors.ErrUnsupported):
		return &failure{status: http.StatusNotImplemented, title: "No activity is kept here"}
	}
	return &failure{status: http.StatusServiceUnavailable, title: "Your keys cannot be loaded right now",
		detail: "Try again in a moment.", cause: err}
}

// fail answers the request with an error.
func (c *call) fail(err error) {
	f := failureOf(err)
	if f.cause != nil {
		c.logFailure(f.cause)
	}
	if f.status == http.StatusServiceUnavailable {
		c.w.Header().Set("Retry-After", "5")
	}
	c.render(f.status, "failure", f.title, f)
}

// logFailure logs an error that is for the operator.
func (c *call) logFailure(err error) {
	level := slog.LevelError
	if c.ctx().Err() == context.Canceled {
		level = slog.LevelDebug // the client has gone away
	}
	c.log().Log(c.ctx(), level, "dashboard: the page cannot be shown", "path", c.r.Pattern, "error", redact(err.Error()))
}

// redact strikes out what could be a key or a hash in the error of a store. An ID
// is shorter.
func redact(text string) string { return longRun.ReplaceAllString(text, "[redacted]") }

var longRun = regexp.MustCompile(`[A-Za-z0-9_+-]{40,}`)

// position and its inverse carry a keyring.Position through a link.
func position(r *auth.Record) string {
	return fmt.Sprintf("%d.%s", r.CreatedAt.UnixMicro(), r.ID)
}

func parsePosition(text string) (p keyring.Position, ok bool) {
	micros, id, _ := strings.Cut(text, ".")
	n, err := strconv.ParseInt(micros, 10, 64)
	return keyring.Position{CreatedAt: time.UnixMicro(n).UTC(), ID: id}, err == nil && id != ""
}
