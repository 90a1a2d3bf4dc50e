package keyapi

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// An access is what a request needs for a route.
type access int

const (
	toManage access = iota // an actor who manages keys
	toSelf                 // any key: its own
	toAll                  // nothing more than to reach the handler
)

type route struct {
	method, pattern string
	access          access
	serve           func(c *call) error
}

// self stands for the key of the request in a path, and for no ID.
const self = "self"

// routes are all operations. Of the patterns that match a path, the first
// counts. Openapi.json describes them; a test compares the two.
var routes = []route{
	{"GET", "/", toManage, (*call).list},
	{"POST", "/", toManage, (*call).create},
	{"GET", "/openapi.json", toAll, (*call).serveOpenAPI},
	{"GET", "/scopes", toManage, (*call).scopes},
	{"GET", "/events", toManage, (*call).events},
	{"GET", "/self", toSelf, (*call).self},
	{"POST", "/self/rotate", toSelf, (*call).rotate},
	{"POST", "/self/revoke", toSelf, (*call).revokeSelf},
	{"GET", "/{id}", toManage, (*call).get},
	{"PATCH", "/{id}", toManage, (*call).update},
	{"DELETE", "/{id}", toManage, (*call).delete},
	{"POST", "/{id}/rotate", toManage, (*call).rotate},
	{"POST", "/{id}/disable", toManage, (*call).disable},
	{"POST", "/{id}/enable", toManage, (*call).enable},
	{"POST", "/{id}/revoke", toManage, (*call).revoke},
	{"GET", "/{id}/events", toManage, (*call).events},
}

// A call is one request. Its methods serve the routes. What they return is
// answered as a problem; then they have written nothing.
type call struct {
	*handler
	w     http.ResponseWriter
	r     *http.Request
	id    string           // of the key that the request is about, or ""
	named bool             // the path names the ID
	text  string           // that a list is filtered by, or ""
	key   *auth.Record     // of the request, if the key itself acts
	owner string           // of the actor
	keys  *keyring.Keyring // of the actor
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	c := &call{handler: h, w: w, r: r}
	if err := c.dispatch(); err != nil {
		c.fail(err)
	}
}

func (c *call) dispatch() error {
	segments, ok := split(c.r.URL)
	if !ok {
		return c.notFound()
	}
	pattern, method, ofSelf := "", c.r.Method, false
	if method == http.MethodHead {
		method = http.MethodGet
	}
	var allowed []string
	for _, rt := range routes {
		if pattern != "" && rt.pattern != pattern {
			continue
		}
		id, ok := match(rt.pattern, segments)
		if !ok {
			continue
		}
		if id == self {
			ofSelf = true
			continue
		}
		pattern = rt.pattern
		allowed = append(allowed, rt.method)
		if rt.method == method {
			c.id, c.named = id, id != ""
			return c.serveRoute(rt)
		}
	}
	switch {
	case pattern == "" && ofSelf:
		return c.problem(http.StatusNotFound, "NOT_FOUND", "There is no such path; use the ID of the key in place of self")
	case pattern == "":
		return c.notFound()
	}
	if slices.Contains(allowed, http.MethodGet) {
		allowed = append(allowed, http.MethodHead)
	}
	slices.Sort(allowed)
	list := strings.Join(allowed, ", ")
	c.w.Header().Set("Allow", list) // RFC 9110 section 15.5.6
	return c.problem(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "The path permits "+list+" only")
}

func (c *call) serveRoute(rt route) error {
	if c.holdsKey(c.id) {
		return c.noSuchKey() // no store is asked for a secret, and no log has it
	}
	// A browser attaches a session or a client certificate to the request of
	// any page, but not a Bearer credential.
	if auth.Bearer(c.r.Header["Authorization"]...) == "" {
		if err := c.origins.Check(c.r); err != nil {
			p := c.problem(http.StatusForbidden, "CROSS_ORIGIN", "The request comes from the page of another site")
			p.Parameter = "Origin"
			return p
		}
	}
	if err := c.admit(rt.access); err != nil {
		return err
	}
	return rt.serve(c)
}

// split returns the unescaped segments of the path, none for "" and "/". A
// slash at the end is ignored. It reports false if the path is no path of this
// API.
func split(u *url.URL) ([]string, bool) {
	path := u.EscapedPath()
	if path == "" || path == "/" {
		return nil, true
	}
	if path[0] != '/' {
		return nil, false
	}
	segments := strings.Split(strings.TrimSuffix(path[1:], "/"), "/")
	for i, s := range segments {
		s, err := url.PathUnescape(s)
		if err != nil || s == "" {
			return nil, false
		}
		segments[i] = s
	}
	return segments, true
}

// match reports whether the segments match a pattern, and returns the segment
// that stands for {id}.
func match(pattern string, segments []string) (id string, ok bool) {
	var want []string
	if pattern != "/" {
		want = strings.Split(pattern[1:], "/")
	}
	if len(want) != len(segments) {
		return "", false
	}
	for i, s := range want {
		if s == "{id}" {
			id = segments[i]
		} else if s != segments[i] {
			return "", false
		}
	}
	return id, true
}
