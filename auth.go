// Package auth puts API-key authentication in front of an existing net/http API, as the inSigner API documents it:
// Bearer keys, granular scopes, problem details on failure.
//
//	store := new(auth.MemoryStore) // or a store of your own
//	a := auth.New(store, nil)
//
//	mux := http.NewServeMux()
//	mux.Handle("GET /api/v1/documents", auth.Require("documents.read")(list))
//	http.ListenAndServe("127.0.0.1:8080", a.Middleware(mux))
//
// # Keys
//
// A key is "isk_" and 44 URL-safe random characters, sent as "Authorization: Bearer isk_…" and nowhere else. A
// [Keyring] makes, lists, rotates and revokes keys. A [Store] holds a [Record] for each, found by the [Hash] of the
// key; the key itself is shown once and kept nowhere. A [KeyFormat] sets another prefix.
//
// # Scopes
//
// A key holds [Scopes], a route requires some: "documents.read". "documents.*" covers all below "documents.", and "*"
// covers everything. No scope is held by default.
//
// # Errors
//
// A refused request gets problem JSON (RFC 9457, formerly 7807) and a challenge (RFC 6750 section 3), from
// [WriteProblem]. In Go the reasons are [ErrMissingKey], [ErrInvalidFormat], [ErrInvalidKey], [ErrKeyRevoked],
// [ErrKeyExpired] and [ErrInsufficientScope]. A store that fails is [ErrStoreUnavailable] and 503: neither
// success nor the client's fault.
//
// # Security
//
// Everything fails closed: a route without its Middleware answers 500, a scope that is none grants nothing, a
// programmer's mistake panics at start-up. A [Key] cannot be printed. Nothing that a client sent is echoed or logged.
// Keys are hashed with BLAKE2b-256, fast because 264 random bits cannot be guessed; see [Hasher]. Serve over TLS: a
// Bearer key is good for whoever reads it on the way.
package auth

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Options configures an [Authenticator]. The zero value is the published behaviour.
type Options struct {
	// Format is what keys look like. Zero: "isk_". New panics on a prefix that is none.
	Format KeyFormat

	// Hashers map a presented key to the hash to look up, tried in order until the store knows one. Empty:
	// BLAKE2b(nil). More than one is for the time of a change: a new pepper, or a table with older hashes. Each
	// costs an unknown key a look-up.
	Hashers []Hasher

	// Realm is named in every challenge (RFC 9110 section 11.5). Empty: "api". New panics on a control character.
	Realm string

	// ProblemBase is what the type of every problem starts with; "unauthorized" and the like is put behind it.
	// Empty: "https://docs.insigner.com/errors/". It is used as it is, so a path ends in a slash.
	ProblemBase string

	// ErrorHandler answers a request that is refused, for a reason that [ProblemFor] and [errors.Is] tell. Nil:
	// [WriteProblem]. Whatever it does, the handler behind is not called.
	ErrorHandler func(w http.ResponseWriter, r *http.Request, err error)

	// OnDecision is called once for each decision, before the request goes on or is answered: for logs, metrics and
	// a [UseRecorder]. It runs on the request's goroutine. Nil: not called.
	OnDecision func(r *http.Request, d Decision)

	// Logger gets the failures of the store. Nil: slog.Default, as it is at the time.
	Logger *slog.Logger
}

// A Decision is what was decided about a request. It holds no secret. A request makes one for each Middleware and
// each Require that it passes: with a Middleware outside and a Require inside, first who it is, then whether it may.
type Decision struct {
	Err    error         // nil: let through; else why not, see ErrMissingKey and those beside it
	Time   time.Time     // when it was decided
	Lookup time.Duration // how long the store, be it a cache, took; 0 if it was not asked

	record   *Record
	required *requirement
}

// Record returns a copy of the key's record, and whether it is known. It is when the decision let the request
// through, and when the key was found to be revoked, expired or short of a scope. Its Scopes are not nil, known or not.
func (d Decision) Record() (Record, bool) {
	if d.record == nil {
		return Record{Scopes: Scopes{}}, false
	}
	return d.record.handOut(), true
}

// Format writes what LogValue returns, whatever the verb but %p and %T.
func (d Decision) Format(f fmt.State, verb rune) { io.WriteString(f, d.LogValue().String()) }

// KeyID returns the ID of the key's record, or "" if it is not known. It is cheaper than Record.
func (d Decision) KeyID() string {
	if d.record == nil {
		return ""
	}
	return d.record.ID
}

// Required returns a copy of the scopes that the route requires: nil for a decision without any.
func (d Decision) Required() Scopes {
	if d.required == nil {
		return nil
	}
	return slices.Clone(d.required.scopes)
}

// LogValue returns the outcome (a code of the published error table, or "OK"), the look-up's duration, the scopes
// required and, if it is known, the key.
func (d Decision) LogValue() slog.Value {
	code := "OK"
	if d.Err != nil {
		code = refusalFor(d.Err).problem.Code
	}
	attrs := []slog.Attr{slog.String("outcome", code), slog.Duration("lookup", d.Lookup)}
	if d.required != nil {
		attrs = append(attrs, slog.String("required", d.required.scopes.join(" ")))
	}
	if d.record != nil {
		attrs = append(attrs, slog.Any("key", d.record.LogValue()))
	}
	return slog.GroupValue(attrs...)
}

// An Authenticator decides whose request it is and whether it may pass. Make one with [New]; it is safe for
// concurrent use.
type Authenticator struct {
	store     Store
	snapshots SnapshotStore // store, if it is one
	prefix    string
	hashers   []Hasher
	voice     voice
	answer    func(http.ResponseWriter, *http.Request, error)
	hook      func(*http.Request, Decision)
	logger    *slog.Logger

	missing, format, invalid, revoked, expired, unavailable *refusal
}

// New returns an Authenticator for the keys in store. Nil opts: the defaults; otherwise opts is copied. It panics if
// the store is nil, and on options that cannot work.
func New(store Store, opts *Options) *Authenticator {
	if store == nil {
		panic("auth.New: the store is nil")
	}
	if opts == nil {
		opts = new(Options)
	}
	a := newAuthenticator(opts)
	a.store = store
	a.snapshots = snapshotsOf(store)
	return a
}

func newAuthenticator(opts *Options) *Authenticator {
	const call = "auth.New"
	a := &Authenticator{
		prefix:  opts.Format.check(call),
		hashers: slices.Clone(opts.Hashers),
		voice:   newVoice(call, opts),
		answer:  opts.ErrorHandler,
		hook:    opts.OnDecision,
		logger:  opts.Logger,
	}
	if len(a.hashers) == 0 {
		a.hashers = []Hasher{BLAKE2b(nil)}
	}
	if slices.ContainsFunc(a.hashers, func(h Hasher) bool { return h == nil }) {
		panic(call + ": there is a nil Hasher")
	}
	if a.answer == nil {
		a.answer = WriteProblem
	}
	a.missing = a.voice.refuse(ErrMissingKey)
	a.format = a.voice.refuse(ErrInvalidFormat)
	a.invalid = a.voice.refuse(ErrInvalidKey)
	a.revoked = a.voice.refuse(ErrKeyRevoked)
	a.expired = a.voice.refuse(ErrKeyExpired)
	a.unavailable = a.voice.refuse(ErrStoreUnavailable)
	return a
}

// Authenticate decides whose request r is; it writes nothing, and looks at no scope. The error matches
// [ErrMissingKey], [ErrInvalidFormat], [ErrInvalidKey], [ErrKeyRevoked], [ErrKeyExpired] or [ErrStoreUnavailable],
// and [WriteProblem] knows how to answer it. The record is the caller's to change; its Scopes are not nil.
func (a *Authenticator) Authenticate(r *http.Request) (Record, error) {
	id, err := a.authenticate(r, nil)
	if err != nil {
		return Record{}, err
	}
	return id.record.handOut(), nil
}

// authenticate makes the decision about r: that of all steps if there is a route that requires something, and
// that of all but the last otherwise. The error, if any, is a *refusal.
func (a *Authenticator) authenticate(r *http.Request, route *route) (*identity, error) {
	var d Decision
	id, refused := a.identify(r, &d)
	if refused == nil && route != nil {
		refused = route.check(a, id.record)
	}
	if id != nil {
		d.record = id.record
	}
	if route != nil {
		d.required = &route.requirement
	}
	return id, a.decided(r, d, refused)
}

// decided tells the hook and returns refused, as an error that is nil if there is none.
func (a *Authenticator) decided(r *http.Request, d Decision, refused *refusal) error {
	var err error
	if refused != nil {
		err = refused
	}
	if a.hook != nil {
		d.Err = err
		if d.Time.IsZero() {
			d.Time = time.Now()
		}
		a.hook(r, d)
	}
	return err
}

// identify takes the steps of a decision in their order, up to the check of the record. The identity is not nil if
// the record was found, even if it is refused.
func (a *Authenticator) identify(r *http.Request, d *Decision) (*identity, *refusal) {
	presented, ok := bearer(r.Header)
	if !ok {
		return nil, a.missing
	}
	switch checkKey(a.prefix, presented) {
	case nil:
	case ErrInvalidFormat:
		return nil, a.format
	default:
		return nil, a.invalid
	}

	id, refused := a.lookup(r, presented, d)
	if refused != nil {
		return nil, refused
	}
	d.Time = time.Now()
	switch id.record.check(d.Time) {
	case nil:
		return id, nil
	case ErrKeyRevoked:
		return id, a.revoked
	default:
		return id, a.expired
	}
}

// lookup finds the record of a well-formed key.
func (a *Authenticator) lookup(r *http.Request, presented string, d *Decision) (*identity, *refusal) {
	ctx := r.Context()
	if a.hook != nil {
		start := time.Now()
		defer func() { d.Lookup = max(time.Since(start), 1) }() // 0 says that the store was not asked
	}
	for _, hasher := range a.hashers {
		hash := hasher(presented)
		id, err := a.resolve(ctx, hash)
		if err != nil {
			if err == ErrNotFound || errors.Is(err, ErrNotFound) {
				continue
			}
			a.logFailure(ctx, err, presented, hash)
			return nil, a.unavailable
		}
		// The store compared already, or did it? A look-up by prefix, or folding case, opens the door to another key.
		if subtle.ConstantTimeCompare(id.record.Hash[:], hash[:]) != 1 {
			a.log().ErrorContext(ctx, "auth: the store returned a record with another hash than asked for",
				"key", id.record.LogValue())
			return nil, a.invalid
		}
		return id, nil
	}
	return nil, a.invalid
}

func (a *Authenticator) resolve(ctx context.Context, hash Hash) (*identity, error) {
	if a.snapshots != nil {
		s, err := a.snapshots.LookupSnapshot(ctx, hash)
		if err != nil {
			return nil, err
		}
		if s.record == nil {
			s.record = new(Record) // its hash is not the one that was asked for
		}
		return &identity{ctx, s.record, a}, nil
	}
	record, err := a.store.Lookup(ctx, hash)
	if err != nil {
		return nil, err
	}
	return ownIdentity(ctx, &record, a), nil
}

// logFailure logs a failure of the store; one that follows from the client's leaving is only for debugging.
func (a *Authenticator) logFailure(ctx context.Context, err error, presented string, hash Hash) {
	level := slog.LevelError
	if ctx.Err() == context.Canceled {
		level = slog.LevelDebug
	}
	if logger := a.log(); logger.Enabled(ctx, level) {
		// An error may quote its arguments, in whatever spelling; the log is no place for those.
		logger.Log(ctx, level, "auth: the key store failed", "error", hide(err.Error(), presented, hash))
	}
}

// hide returns text without the key and without the hash, as drivers and fmt spell it.
func hide(text, presented string, hash Hash) string {
	if !mayQuote(text) {
		return text
	}
	raw := hash[:]
	pairs := []string{presented, "[key]"}
	for _, spelling := range []string{
		hash.String(), strings.ToUpper(hash.String()), hex.EncodeToString([]byte(hash.String())),
		base64.RawStdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw), string(raw),
	} {
		pairs = append(pairs, spelling, "[hash]")
	}
	for _, format := range []string{"%v", "%#v", "% x", "% X", "%#x", "%o", "%b", "%c", "%q", "%+q", "%U"} {
		// Without what stands around the bytes, which differs.
		if s := strings.Trim(fmt.Sprintf(format, raw), "[]{}\"'`byteuin0123456789"+"()"); len(s) > len(hash) {
			pairs = append(pairs, s, "[hash]")
		}
	}
	return wordOrRow.ReplaceAllString(strings.NewReplacer(pairs...).Replace(text), "[hidden]")
}

// wordOrRow finds what may be a key or a hash in yet another spelling, such as that of a URL or with colons: a word of the
// length that the shortest of them has, or a row of 20 numbers. A UUID is shorter.
var wordOrRow = regexp.MustCompile(`[0-9A-Za-z_%+/=:-]{43,}|` +
	`\b` + number + `(?:[^0-9A-Za-z]{1,4}` + number + `){19,}`)

const number = `(?:0[xob]|[xXuUo]|U\+)?[0-9A-Fa-f]{1,8}\b`

// mayQuote reports whether text may hold a key or the bytes of a hash: as they are or escaped, in a long word, or in a row
// of numbers. What databases say of an outage does not look so, and then nothing need be done, on what may be every
// request.
func mayQuote(text string) bool {
	odd, word, row := 0, 0, 0
	for i := range len(text) {
		c := text[i]
		if c >= 0x7f || c < ' ' || c == '\\' {
			odd++ // some 20 of the 32 bytes of a hash
		}
		if keyChar[c] || strings.IndexByte("%+/=:", c) >= 0 {
			word++
		} else {
			word = 0
		}
		if strings.IndexByte("0123456789abcdefABCDEFXxUuo+,:;\\|\"' \t\n-", c) >= 0 {
			row++
		} else {
			row = 0
		}
		if odd >= 6 || word >= 43 || row >= 60 {
			return true
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

// bearer returns the credential of the Bearer scheme, and whether there is one.
func bearer(h http.Header) (string, bool) {
	var v string
	switch fields := h["Authorization"]; len(fields) {
	case 0:
		return "", false
	case 1:
		v = fields[0]
	default:
		// RFC 9110 section 5.3: a recipient may combine them so. What results is never a single credential.
		v = strings.Join(fields, ", ")
	}
	if v != "" && (v[0] <= ' ' || v[len(v)-1] <= ' ') { // HTTP/1 brings it without
		v = strings.Trim(v, " \t") // RFC 9110 section 5.5
	}
	// RFC 9110 section 11.4: a scheme in any case, spaces, a credential.
	const scheme = "bearer"
	if len(v) <= len(scheme) || v[len(scheme)] != ' ' {
		return "", false
	}
	for i := range len(scheme) {
		if v[i]|0x20 != scheme[i] { // the bit that tells ASCII letters' case; no other byte turns into a letter
			return "", false
		}
	}
	return strings.TrimLeft(v[len(scheme):], " "), true
}
