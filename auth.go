// Package auth authenticates requests to a net/http API with API keys, as the
// inSigner API documents them: Bearer keys, granular scopes, problem details
// for refused requests.
//
//	store := new(keyring.MemoryStore) // or a Store of your own
//	a := auth.New(store, nil)
//
//	mux := http.NewServeMux()
//	mux.Handle("GET /api/v1/documents", auth.Require("documents.read")(http.HandlerFunc(list)))
//	http.ListenAndServe("127.0.0.1:8080", a.Middleware(mux))
//
// # Keys
//
// A [Key] is "isk_" and 44 URL-safe random characters. A client sends it as
// "Authorization: Bearer isk_…" and in no other way. A [Store] holds a [Record]
// for each key, and finds it by the [Hash] of the key. The key itself is shown
// once and stored nowhere. A [Scheme] sets another prefix, another hash, or a
// catalog of scopes.
//
// Package keyring creates, lists, rotates and revokes keys.
//
// # Scopes
//
// A key holds [Scopes], and a route requires some, such as "documents.read".
// "documents.*" covers everything below "documents.", and "*" covers
// everything. No scope is held by default.
//
// # Errors
//
// A refused request gets problem JSON (RFC 9457, the successor of RFC 7807) and
// a challenge (RFC 6750 section 3) from [WriteProblem]. In Go, the reasons are
// [ErrMissingKey], [ErrInvalidFormat], [ErrInvalidKey], [ErrKeyRevoked],
// [ErrKeyDisabled], [ErrKeyExpired] and [ErrInsufficientScope]. If the store
// fails, the reason is [ErrStoreUnavailable] and the status 503: this is
// neither success nor the client's fault.
//
// # Security
//
// Everything fails closed. A route wrapped by Require answers 500 if no
// Middleware is outside, an invalid scope grants nothing, and a programmer's
// mistake panics at startup where it can. A route without Require is open to
// every key; authtest.CheckRoutes finds it. A [Key] cannot be printed. Nothing
// that a client sent is echoed or logged. Keys are hashed with BLAKE2b-256,
// which is fast; see [Hasher] for why that is right. Serve over TLS: anybody
// who reads a Bearer key on its way can use it.
package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Options configures an [Authenticator]. The zero Options are those of the
// inSigner API.
type Options struct {
	// Scheme describes the keys. It is the Scheme of the keyring.Manager that
	// creates them.
	Scheme Scheme

	// Realm is named in each challenge (RFC 9110 section 11.5). If empty, it is
	// "api". It must not hold a control character.
	Realm string

	// ProblemBase starts the type of each problem; a name such as
	// "unauthorized" follows. If empty, it is
	// "https://docs.insigner.com/errors/".
	ProblemBase string

	// ErrorHandler, if not nil, answers a refused request. [ProblemFor], [Code]
	// and [errors.Is] tell the reason. If it returns false, it must not have
	// written anything, and [WriteProblem] answers. If it returns true, it must
	// have written a status: net/http sends 200 if nothing is written. The
	// wrapped handler is never called.
	ErrorHandler func(w http.ResponseWriter, r *http.Request, err error) (answered bool)

	// OnDecision, if not nil, is called once for each decision about a key,
	// before the request is passed on or answered. It is for logs, metrics and
	// a keyring.LastUsedRecorder. It runs on the goroutine of the request, or
	// in the background for WithRecheck, and must be safe for concurrent use.
	OnDecision func(ctx context.Context, d Decision)

	// Logger gets failures of the store and programmers' mistakes. If nil, it
	// is slog.Default() at the time of the call.
	Logger *slog.Logger
}

// An Authenticator decides whose request it is and whether it may pass. [New]
// makes one. It is safe for concurrent use.
type Authenticator struct {
	store    Store
	scheme   Scheme // with its defaults
	refusals *refusals
	handler  func(http.ResponseWriter, *http.Request, error) bool
	hook     func(context.Context, Decision)
	logger   *slog.Logger
}

// New returns an Authenticator for the keys in store. If opts is nil, the zero
// Options are used; otherwise opts is copied. New panics if store is nil, and
// on options that cannot work.
func New(store Store, opts *Options) *Authenticator {
	const call = "auth.New"
	if store == nil {
		panic(call + ": the store is nil")
	}
	if v := reflect.ValueOf(store); (v.Kind() == reflect.Pointer || v.Kind() == reflect.Func) && v.IsNil() {
		panic(fmt.Sprintf("%s: the store is a nil %T", call, store))
	}
	if opts == nil {
		opts = new(Options)
	}
	realm, base := opts.Realm, opts.ProblemBase
	if realm == "" {
		realm = defaultRealm
	}
	if base == "" {
		base = defaultProblemBase
	}
	if err := checkAnswers(realm, base); err != nil {
		panic(call + ": " + err.Error())
	}
	a := &Authenticator{
		store:    store,
		scheme:   opts.Scheme.must(call),
		refusals: newRefusals(realm, base),
		handler:  opts.ErrorHandler,
		hook:     opts.OnDecision,
		logger:   opts.Logger,
	}
	a.scheme.Hashers = slices.Clone(a.scheme.Hashers)
	a.scheme.Catalog = slices.Clone(a.scheme.Catalog)
	return a
}

// Verify decides whose key it is, outside HTTP: a key in gRPC metadata, in a
// message, in a command. The key is the whole text, "isk_…". Its errors are
// those of Authenticate; an empty key is [ErrMissingKey].
func (a *Authenticator) Verify(ctx context.Context, key string) (Record, error) {
	d := Decision{Step: StepAuthenticate}
	refused := a.refusals.of(ErrMissingKey)
	if key != "" {
		refused = a.identify(ctx, key, &d)
	}
	if err := a.decided(ctx, &d, refused); err != nil {
		return Record{}, err
	}
	return *d.record.Clone(), nil
}

// identify makes the decision about a credential, in the order of the steps,
// without the scopes. It returns nil if the key is good. The record, if it is
// found, is in d even if the key is refused.
func (a *Authenticator) identify(ctx context.Context, credential string, d *Decision) *refusal {
	if err := a.scheme.check(credential); err != nil {
		return a.refusals.of(err)
	}
	if refused := a.resolve(ctx, credential, d); refused != nil {
		return refused
	}
	return a.judge(d)
}

// resolve finds the record of a credential of the right shape, by each hasher
// in turn.
func (a *Authenticator) resolve(ctx context.Context, credential string, d *Decision) *refusal {
	for _, hasher := range a.scheme.Hashers {
		if known, refused := a.find(ctx, hasher(credential), credential, d); known || refused != nil {
			return refused
		}
	}
	return a.refusals.of(ErrInvalidKey)
}

// find asks the store for the record with that hash and puts it into d. It
// reports false if the store does not know the hash. The credential, if it is
// not "", is kept out of the log.
func (a *Authenticator) find(ctx context.Context, hash Hash, credential string, d *Decision) (known bool, refused *refusal) {
	if a.hook != nil {
		start := time.Now()
		defer func() { d.Lookup += max(time.Since(start), 1) }() // 0 means that the store was not asked
	}
	record, err := a.store.Lookup(ctx, hash)
	if err != nil {
		if err == ErrNotFound || errors.Is(err, ErrNotFound) {
			return false, nil
		}
		a.logFailure(ctx, err, credential, hash)
		return false, a.refusals.of(ErrStoreUnavailable)
	}
	// A store that finds records by a part of the hash, or ignores its case,
	// would accept one key for another.
	if record == nil || subtle.ConstantTimeCompare(record.Hash[:], hash[:]) != 1 {
		if record == nil {
			record = new(Record)
		}
		a.log().ErrorContext(ctx, "auth: the store returned a record with a different hash", "key", record.LogValue())
		return false, a.refusals.of(ErrInvalidKey)
	}
	d.record = record
	return true, nil
}

// judge checks the state of the record in d.
func (a *Authenticator) judge(d *Decision) *refusal {
	d.Time = time.Now()
	if err := d.record.Check(d.Time); err != nil {
		return a.refusals.of(err)
	}
	return nil
}

// decided completes d, tells the hook, and returns refused as an error, which
// is nil without one.
func (a *Authenticator) decided(ctx context.Context, d *Decision, refused *refusal) error {
	var err error
	if refused != nil {
		err = refused
	}
	if a.hook != nil {
		d.Err = err
		if refused != nil {
			d.Code = refused.code
		}
		if d.Time.IsZero() {
			d.Time = time.Now()
		}
		a.hook(ctx, *d)
	}
	return err
}

// logFailure logs the error of the store. The level is Debug if the client has
// gone away, from which the error follows, or if the error has a method Logged
// that returns true: a cache logs an outage once, not for each request.
func (a *Authenticator) logFailure(ctx context.Context, err error, credential string, hash Hash) {
	level := slog.LevelError
	if ctx.Err() == context.Canceled || isLogged(err) {
		level = slog.LevelDebug
	}
	if logger := a.log(); logger.Enabled(ctx, level) {
		logger.Log(ctx, level, "auth: the key store failed",
			"error", redact(err.Error(), a.scheme.Prefix, credential, hash))
	}
}

func isLogged(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if e, ok := err.(interface{ Logged() bool }); ok {
			return e.Logged()
		}
	}
	return false
}

func (a *Authenticator) log() *slog.Logger {
	if a.logger != nil {
		return a.logger
	}
	return slog.Default()
}

// refuse answers a refused request.
func (a *Authenticator) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if a.answers(w, r, err) {
		return
	}
	WriteProblem(w, r, err)
}

// answers lets the ErrorHandler answer, if there is one. The context of its
// request makes WriteProblem use the realm and the problem base of a.
func (a *Authenticator) answers(w http.ResponseWriter, r *http.Request, err error) bool {
	if a.handler == nil {
		return false
	}
	own := r.WithContext(context.WithValue(r.Context(), refusalsKey{}, a.refusals))
	defer giveBack(own, r)
	return a.handler(w, own, err)
}

// giveBack copies to r what a handler left in a copy of it, if it changed. So
// outer handlers see the route, and the server, which knows only r, removes the
// files of the multipart form.
func giveBack(own, r *http.Request) {
	if own.Pattern != r.Pattern {
		r.Pattern = own.Pattern
	}
	if own.MultipartForm != r.MultipartForm {
		r.MultipartForm = own.MultipartForm
	}
}

// Bearer returns the credential in the Authorization fields of a request, as
// Middleware reads it: what follows the scheme Bearer, in any case, and one or
// more spaces (RFC 9110 section 11.4). It returns "" without one. It is
// for other transports, such as gRPC metadata.
//
// Several fields are joined by commas (RFC 9110 section 5.3). No key of a
// Scheme has a comma, so neither the first nor the last field wins.
func Bearer(fields ...string) string {
	var v string
	switch len(fields) {
	case 0:
		return ""
	case 1:
		v = fields[0]
	default:
		v = strings.Join(fields, ", ")
	}
	if v != "" && (v[0] <= ' ' || v[len(v)-1] <= ' ') {
		v = strings.Trim(v, " \t") // RFC 9110 section 5.5; net/http has done it for HTTP/1
	}
	const scheme = "Bearer"
	if len(v) <= len(scheme) || v[len(scheme)] != ' ' || !strings.EqualFold(v[:len(scheme)], scheme) {
		return ""
	}
	return strings.TrimLeft(v[len(scheme):], " ")
}
