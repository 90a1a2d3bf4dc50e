// Package keyapi serves the JSON API under which the clients of an API manage
// its keys.
//
//	a := auth.New(store, &auth.Options{Scheme: scheme})
//	manager := keyring.NewManager(store, &keyring.Options{Scheme: scheme})
//
//	api := http.StripPrefix("/api/v1/keys", keyapi.New(manager, nil))
//	keys := a.Middleware(api)
//	mux.Handle("/api/v1/keys", keys)
//	mux.Handle("/api/v1/keys/", keys)
//
// With the second pattern alone, [http.ServeMux] redirects the path without the
// slash, and not every client follows a redirect with its body and its key.
//
// # Operations
//
//	GET    /                list keys: limit, cursor, status, q
//	POST   /                create a key: name, scopes, expiresAt
//	GET    /{id}            one key
//	PATCH  /{id}            change name, scopes, expiresAt (RFC 7396)
//	DELETE /{id}            delete a key; its events stay
//	POST   /{id}/rotate     replace a key: graceSeconds
//	POST   /{id}/disable    refuse a key until it is enabled
//	POST   /{id}/enable     accept it again
//	POST   /{id}/revoke     end a key for good: andCreated
//	GET    /{id}/events     the changes of a key, also of a deleted one
//	GET    /events          all changes: limit, cursor, kind, from, to
//	GET    /scopes          the scopes that exist
//	GET    /self            the key of the request
//	POST   /self/rotate     replace it
//	POST   /self/revoke     end it
//	GET    /openapi.json    all of this as OpenAPI 3.1
//
// A trailing slash makes no difference. HEAD works where GET does.
//
// # Who acts
//
// By default the key of the request acts: it manages the keys of its own owner,
// grants no scope and no lifetime that it does not have itself, and must hold
// Options.Scope. So not every key manages keys. Any key may see, rotate and
// revoke itself under /self. Its successor has the same scopes and no more time
// than the lifetime that the key had.
//
// The key that acts is read from the Manager's store for each request. A key
// that has been revoked creates nothing from then on, even if a cache of the
// [auth.Authenticator] still accepts it. A key that the Manager does not hold
// cannot act. With Options.Actor the host says who acts, by a session for
// instance.
//
// # Revoking a leaked key
//
// A key that creates keys is their creator. Revoke with {"andCreated": true}
// ends the key, then those that it created or rotated itself into, those that
// these created, and so on, until it finds none that is new. Keys that were
// deleted in between do not break this chain if the store keeps events. The
// answer lists all of them in revokedKeys. A failure in between is an error
// that lists what is revoked already, and the call can be repeated. A successor
// that somebody else rotated the key into stays valid.
//
// # Changes at the same time
//
// The ETag of a key is its revision, which a use of the key does not change.
// So If-None-Match is answered 304 though lastUsedAt may be another, but not if
// the key has expired, which is no revision either. If-Match refuses a change of
// another revision with 412, and If-None-Match one of that revision. A weak tag is accepted, and so
// is the suffix of a proxy that compresses, as in "5-gzip". PATCH compares the
// very revision that it replaces. The other methods compare first and then
// make the change, so another change may come in between; none of them
// overwrites what that one did.
//
// Idempotency-Key is unique for an owner, as long as the key exists. A repeat
// gets the key without its secret, with Idempotency-Replayed: true. A request
// with another body is refused. For that, a digest of the first request is kept
// in the metadata of the record, as [DigestEntry].
//
// # Errors
//
// Each error is problem JSON (RFC 9457) with a code. In addition to the members
// of [auth.Problem] it has a pointer to the member that is wrong (RFC 6901;
// "" is the whole body), or a parameter: the name of the query parameter, path
// parameter or header field. [ProblemFor] is for a host's own endpoints.
//
// # Security
//
// A secret is in exactly one response, and no response is stored by a cache. No
// response tells the key of another owner from one that does not exist. An
// unknown or repeated member or parameter is refused, and so is a second value,
// and what is almost JSON. A request without a Bearer credential
// that a browser sends from another site is refused. Set the ReadTimeout of
// [http.Server] against slow bodies; a body has at most 64 KiB.
//
// A key that a client puts into a path, a query, a name, a scope or metadata by
// mistake is refused, so that no store, log or answer has it. That goes for keys
// with the prefix, and for words that Scheme.AlsoAccept takes, except those in
// the form of an ID that a Keyring makes.
//
// Customers read "Support" where staff or the database made a change, and no
// metadata but Options.Metadata.
package keyapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// Options configures [New]. The zero Options are for keys that manage keys.
type Options struct {
	// Actor, if not nil, says who acts: a user who is signed in, for instance.
	// Otherwise it is the key of the request. A session has no key, so wrap the
	// handler with the Optional of the Authenticator, not with its Middleware,
	// which would answer 401.
	//
	// If nobody is signed in, return an *auth.Problem with the status 401. It
	// is answered as it is, and an error of package auth by auth.WriteProblem.
	// Any other error is answered with ProblemFor: 503, as a failure of the
	// store, and logged. API logs have no owner for requests by a session.
	//
	// Paths under /self are for the key of the request, and do not call Actor.
	// For keys that manage others, make a second handler without Actor: it
	// checks the key again in the store. The example has both.
	Actor func(r *http.Request) (keyring.Actor, error)

	// Scope is what a key must hold to manage keys. If empty, it is "*", or
	// none if Actor is set. If both are set, the scopes of the Actor must cover
	// it. New panics if the Catalog of the Manager does not list it.
	Scope auth.Scope

	// Metadata names the entries of the metadata that clients see and set. All
	// others are hidden from them, and stay when they change a key.
	Metadata []string

	// Origins are other origins, such as "https://app.example.com", whose pages
	// may send requests without a Bearer credential: by a session. They do not
	// answer CORS preflight requests. Your CORS middleware goes outside.
	Origins []string

	// ProblemBase starts the type of each problem. It is that of the
	// auth.Authenticator. If empty, it is "https://docs.insigner.com/errors/".
	ProblemBase string

	// OnRefusal, if not nil, is called before each answer of 400 and above,
	// with the code of the problem. It is for apilog.SetCode, so that the API
	// logs say why this API refused a request. Ctx is that of the request.
	OnRefusal func(ctx context.Context, code string)

	// Logger gets failures of the store. If nil, it is slog.Default() at the
	// time of the call.
	Logger *slog.Logger
}

// DigestEntry is the entry of the metadata of a key that was created with an
// Idempotency-Key. It holds a digest of the request. Without it, a repeat is
// refused, since nobody can tell whether it is the same request.
const DigestEntry = "keyapi.request"

const (
	defaultProblemBase = "https://docs.insigner.com/errors/"
	maxText            = 255 // bytes of a text in a header field or a query
)

type handler struct {
	*detector
	manager  *keyring.Manager
	actor    func(r *http.Request) (keyring.Actor, error)
	scope    auth.Scope // may be empty if actor is set
	metadata []string
	openAPI  []byte
	origins  *http.CrossOriginProtection
	base     string
	refusal  func(ctx context.Context, code string)
	logger   *slog.Logger
}

// New returns the handler of the API for the keys of manager. Mount it with
// [http.StripPrefix], inside the Middleware of the [auth.Authenticator] that
// checks these keys, or inside its Optional if Options.Actor is set. If opts is
// nil, the zero Options are used; otherwise opts is copied. New panics if manager
// is nil, and on options that cannot work, such as a Scope that the Catalog does
// not list.
func New(manager *keyring.Manager, opts *Options) http.Handler {
	const call = "keyapi.New"
	if manager == nil {
		panic(call + ": the manager is nil")
	}
	var o Options
	if opts != nil {
		o = *opts
	}
	h := &handler{
		detector: newDetector(manager.Options().Scheme),
		manager:  manager,
		actor:    o.Actor,
		scope:    o.Scope,
		metadata: slices.Clone(o.Metadata),
		openAPI:  openAPIFor(o.Metadata),
		origins:  http.NewCrossOriginProtection(),
		base:     o.ProblemBase,
		refusal:  o.OnRefusal,
		logger:   o.Logger,
	}
	if h.scope == "" && h.actor == nil {
		h.scope = "*"
	}
	if h.base == "" {
		h.base = defaultProblemBase
	}
	if h.scope != "" {
		if err := h.scheme.Catalog.Validate(h.scope); err != nil {
			text := call + ": Scope: " + strings.TrimPrefix(err.Error(), "auth: ")
			if auth.Catalog(nil).Validate(h.scope) == nil { // it is valid, but not listed
				text += "; add it to the Catalog, or set Options.Scope to the scope that a key needs to manage keys"
			}
			panic(text)
		}
	}
	for i, name := range h.metadata {
		switch {
		case name == "" || name == DigestEntry || !utf8.ValidString(name) || strings.ContainsRune(name, 0):
			panic(fmt.Sprintf("%s: Metadata holds %q, which cannot be shown", call, name))
		case slices.Contains(h.metadata[:i], name):
			panic(fmt.Sprintf("%s: Metadata holds %q twice", call, name))
		}
	}
	for _, origin := range o.Origins {
		if err := h.origins.AddTrustedOrigin(origin); err != nil {
			panic(fmt.Sprintf("%s: Origins holds %q: %v", call, origin, err))
		}
	}
	if _, err := url.Parse(h.base); err != nil {
		panic(fmt.Sprintf("%s: the problem base %q is not the start of a URI", call, h.base))
	}
	return h
}

func (h *handler) log() *slog.Logger {
	if h.logger != nil {
		return h.logger
	}
	return slog.Default()
}
