// Package keyring makes and manages the API keys that package auth checks:
// create, list, change, rotate, disable, revoke, delete.
//
//	scheme := auth.Scheme{Catalog: auth.PublishedCatalog()}
//	store := new(keyring.MemoryStore) // or one of module sqlstore
//	manager := keyring.NewManager(store, &keyring.Options{Scheme: scheme})
//	a := auth.New(store, &auth.Options{Scheme: scheme})
//
//	keys := manager.For(keyring.Actor{
//		Name:   user.Email,
//		Owner:  user.Organization,
//		Scopes: user.Scopes,
//	})
//	record, key, err := keys.Create(ctx, keyring.Spec{
//		Name:   "Production Backend",
//		Scopes: auth.Scopes{"documents.read"},
//	})
//	fmt.Fprintln(w, key.Reveal()) // the only time that it is shown
//
// # Actors
//
// A [Manager] changes no key itself. A [Keyring] does, in the name of one
// actor. [Manager.For] returns one that is confined to the keys of one owner:
// it is how an endpoint or a page serves a customer. [Manager.Unconfined]
// returns one for staff and scripts, which sees every key.
//
// A confined Keyring
//   - sees, creates and changes the keys of Actor.Owner only: any other key is
//     [auth.ErrNotFound], exactly like one that does not exist,
//   - grants no scope that Actor.Scopes does not cover, and rotates, enables or
//     extends only a key whose scopes they cover,
//   - sets no expiry later than Actor.ExpiresAt and Options.MaxLifetime permit,
//   - creates no more keys than Options.MaxKeys permits.
//
// Renaming, narrowing, shortening, disabling, revoking and deleting one's own
// keys is always possible.
//
// # Lifecycle
//
// A key is created with a name, an owner, scopes and perhaps an expiry. Update
// changes all of that but the owner. Rotate creates a successor, and the old
// key stays valid for a while. Disable pauses a key, and Enable resumes it.
// Revoke ends it for good. Delete removes its record, but not its events.
//
// Each change makes an [Event]: who, when, what the key was, what it became.
// The last use of a key is not a change; a [LastUsedRecorder] keeps it.
//
// Calls for the same key can be made at the same time, also by several
// processes with one database. Each check is made on the very revision of the
// record that the change replaces.
//
// # Errors
//
// Errors match these with [errors.Is]:
//   - [auth.ErrNotFound]: there is no such key,
//   - [ErrInvalidArgument]: what is asked for cannot be,
//   - [auth.ErrInsufficientScope]: the actor does not cover a scope,
//   - [auth.ErrKeyRevoked], [auth.ErrKeyDisabled], [auth.ErrKeyExpired],
//     [ErrRotated]: the key is not in a state for this change,
//   - [ErrTooManyKeys]: the owner has as many keys as are permitted,
//   - [ErrExists]: the key exists already,
//   - [ErrConflict]: other changes were faster a hundred times.
//
// An [*ArgumentError] says which argument was refused, so that a form or an
// endpoint can point at it.
//
// Any other error comes from the [Store] and is for the operator: do not show
// it to a customer.
//
// # Security
//
// A key is returned once, by Create and Rotate, and stored nowhere: a Store
// holds its hash. No error of this package quotes a key or a hash. An error of
// a Store may.
package keyring

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/insigner/auth"
)

// Options configures a [Manager]. The zero Options are those of the inSigner
// API.
type Options struct {
	// Scheme describes the keys. It is the Scheme of the auth.Authenticator
	// that checks them.
	Scheme auth.Scheme

	// MaxKeys is how many keys of one owner, neither revoked nor expired, a
	// confined Keyring creates. Rotation with a grace may make it twice as
	// many. Concurrent calls may exceed it by those in flight. If 0, it is 100.
	MaxKeys int

	// MaxLifetime, if not 0, is how far from now the expiry of a key may be
	// that a confined Keyring sets. Then it does not set "never" either.
	MaxLifetime time.Duration

	// OnEvent, if not nil, is called after each change, before the call that
	// made it returns, with the context of that call: to mail the owner, or
	// for an audit stream. It must be safe for concurrent use, and must not
	// panic: the key that Create is about to return would be lost.
	OnEvent func(ctx context.Context, e Event)
}

// A Manager hands out a [Keyring] to those who manage keys: by For to
// customers, by Unconfined to staff. [NewManager] makes one. It is safe for
// concurrent use.
type Manager struct {
	store Store
	opts  Options // with its defaults
}

// NewManager returns a Manager for the keys in store. If opts is nil, the zero
// Options are used; otherwise opts is copied. NewManager panics if store is
// nil, and on options that cannot work.
func NewManager(store Store, opts *Options) *Manager {
	const call = "keyring.NewManager"
	mustHave(call, store)
	var o Options
	if opts != nil {
		o = *opts
	}
	if err := o.Scheme.Validate(); err != nil {
		panic(call + ": " + strings.TrimPrefix(err.Error(), "auth: "))
	}
	if o.MaxKeys < 0 {
		panic(fmt.Sprintf("%s: MaxKeys is %d, which is negative", call, o.MaxKeys))
	}
	if o.MaxLifetime < 0 {
		panic(fmt.Sprintf("%s: MaxLifetime is %v, which is negative", call, o.MaxLifetime))
	}
	if o.Scheme.Prefix == "" {
		o.Scheme.Prefix = auth.DefaultPrefix
	}
	if len(o.Scheme.Hashers) == 0 {
		o.Scheme.Hashers = []auth.Hasher{auth.BLAKE2b(nil)}
	}
	if o.MaxKeys == 0 {
		o.MaxKeys = 100
	}
	o.MaxKeys = min(o.MaxKeys, math.MaxInt/2) // Rotate permits twice that
	return &Manager{store, o.clone()}
}

func (o Options) clone() Options {
	o.Scheme.Hashers = slices.Clone(o.Scheme.Hashers)
	o.Scheme.Catalog = slices.Clone(o.Scheme.Catalog)
	return o
}

// Options returns a copy of the options, with the defaults filled in.
func (m *Manager) Options() Options { return m.opts.clone() }

// For returns the Keyring of a, confined to the keys of a.Owner. It always
// returns one. If a cannot act, since it has no owner, has expired, or has an
// invalid name, every method of the Keyring returns an error that matches
// [ErrInvalidArgument].
func (m *Manager) For(a Actor) *Keyring {
	return &Keyring{m, confined(a, m.opts.MaxKeys, m.opts.MaxLifetime)}
}

// Unconfined returns a Keyring that sees and changes every key, without regard
// to owner, scopes, MaxKeys and MaxLifetime. It is for staff and scripts; do
// not serve a customer with it. It is recorded as "staff:" + by, at most 255
// bytes.
func (m *Manager) Unconfined(by string) *Keyring {
	return &Keyring{m, unconfined(by)}
}

// A Keyring manages keys in the name of one [Actor]. [Manager.For] and
// [Manager.Unconfined] make one; it costs next to nothing, so make one for each
// request. It is safe for concurrent use.
type Keyring struct {
	manager *Manager
	may     permission
}

// tell calls OnEvent with a change that is stored.
func (k *Keyring) tell(ctx context.Context, before, after *auth.Record, now time.Time) {
	if hook := k.manager.opts.OnEvent; hook != nil {
		hook(ctx, EventOf(before, after, k.may.actor.Name, now))
	}
}

// A callError says which call failed. The name of the package stands in front
// once.
type callError struct {
	call string
	err  error
}

func failed(call string, err error) error { return &callError{call, err} }

func (e *callError) Error() string {
	text := strings.TrimPrefix(e.err.Error(), "keyring: ")
	return "keyring: " + e.call + ": " + strings.TrimPrefix(text, "auth: ")
}

func (e *callError) Unwrap() error { return e.err }

// notFound returns err, or auth.ErrNotFound itself if err matches it: a store's
// own text would tell a key that does not exist from one that is another's.
func notFound(err error) error {
	if errors.Is(err, auth.ErrNotFound) {
		return auth.ErrNotFound
	}
	return err
}

// newID returns a UUID of version 7 (RFC 9562 section 5.7). It begins with the
// time, so that new rows stand together in an index. A counter follows, so that
// the IDs of one millisecond are in order too (section 6.2, method 1).
func newID(now time.Time) string {
	var b [16]byte
	rand.Read(b[:])
	ms := uint64(now.UnixMilli())
	binary.BigEndian.PutUint16(b[0:], uint16(ms>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(ms))
	n := idCounter.next(ms)
	binary.BigEndian.PutUint16(b[6:], uint16(n>>12))
	binary.BigEndian.PutUint16(b[8:], uint16(n&0xfff)<<2|uint16(b[9]&3))
	return formatUUID(b, 7)
}

var idCounter msCounter

// A msCounter counts the IDs of one millisecond, modulo 2²⁴.
type msCounter struct {
	mu sync.Mutex
	ms uint64
	n  uint32
}

func (c *msCounter) next(ms uint64) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n++; c.ms != ms {
		c.ms, c.n = ms, 0
	}
	return c.n & 0xffffff
}

// onceID returns the UUID of version 8 (RFC 9562 section 5.8) of the key that
// an owner makes once. The length keeps the two texts apart.
func onceID(owner, once string) string {
	h := sha256.New()
	fmt.Fprintf(h, "github.com/insigner/auth/keyring once %d %s%s", len(owner), owner, once)
	id := [16]byte(h.Sum(nil)[:16])
	id[8] |= 1 // the type uuid of MariaDB refuses version 8 with 0x80 here
	return formatUUID(id, 8)
}

func formatUUID(b [16]byte, version byte) string {
	b[6] = version<<4 | b[6]&0x0f
	b[8] = 0x80 | b[8]&0x3f
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
