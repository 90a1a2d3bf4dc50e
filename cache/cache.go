// Package cache provides an [auth.Store] that keeps the records of another
// store in memory, so that an accepted request costs no query.
//
//	store := new(keyring.MemoryStore) // or one of module sqlstore, or your own
//	cached := cache.New(store, nil)
//	defer cached.Close()
//	a := auth.New(cached, nil)
//
// Requests go through the cache. Changes go to the underlying store: pass the
// store, not the cache, to keyring.NewManager.
//
// # Revocation
//
// How soon a revocation is seen depends on the underlying store. New logs which
// of these applies:
//
//   - The store is an [auth.Watcher]. Then the cache watches it. A change made
//     through this very store counts when the call that made it returns. Any
//     other change counts when its report arrives.
//   - Any other store. Then a revoked key stays valid for up to Options.TTL.
//
// While the watch is lost, the store is asked for every request. If a
// connection dies without a sign, the watch is lost when the Watcher notices
// it. For sqlstore/postgres this takes at most its HeartbeatInterval plus its
// HeartbeatTimeout, 10 seconds by default. A process that was paused, alone or
// with its machine, sees what it missed shortly after it continues.
//
// While the store fails or hangs, Options.StaleIfError permits the use of older
// records.
//
// A lookup that began before the report of a change never answers a request
// that came after the report, and its answer is not kept. So a revoked key
// stays revoked. The next lookup decides again: a record that was enabled
// again, or restored from a backup, is accepted.
//
// The store must read where the changes are made. Otherwise a replica that lags
// brings back what the Watcher has just reported as changed.
//
// Expiry is always exact, since the Authenticator checks the record on every
// request.
//
// # Wrappers
//
// A wrapper that adds logs or metrics to a store hides a Watcher, if it embeds
// an auth.Store. New finds the Watcher if the wrapper has this method:
//
//	func (w wrapper) Unwrap() auth.Store { return w.Store }
//
// Lookups still go through the wrapper. Its Lookup must return the records of
// the wrapped store, found by the same hashes, and keep none of them. The same
// holds for a wrapper that embeds a Watcher and so is a Watcher itself.
//
// # Limits
//
// At most Options.MaxKeys records are kept, about 500 bytes each plus their
// texts. At most Options.MaxUnknown hashes that the store does not know are
// kept, about 150 bytes each. They are kept apart, so a flood of made-up keys
// evicts no record.
//
// Requests for the same hash share one lookup. At most Options.MaxLookups
// lookups are in progress, and more requests wait in a queue. A client that
// disconnects leaves the queue at once. If no client waits for a lookup any
// more, its context is canceled soon, unless one has got a stale record
// instead. All this requires that the store obeys the context.
package cache

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"reflect"
	"sync"
	"time"

	"github.com/insigner/auth"
)

// Options configures a [Store]. The zero Options are ready to use.
type Options struct {
	// MaxKeys is how many records are kept. If zero, 100,000.
	MaxKeys int

	// MaxUnknown is how many hashes that the store does not know are kept. If
	// zero, 10,000.
	MaxUnknown int

	// TTL is how long a record is used before the store is asked again, or up
	// to 1/64 less. If zero, 5 minutes if the store is watched, otherwise 30
	// seconds.
	TTL time.Duration

	// UnknownTTL is the same for a hash that the store does not know. If zero,
	// 5 seconds.
	UnknownTTL time.Duration

	// StaleIfError is how long after its TTL a record is still used while the
	// store fails. It fails if it returns an error, or if a request has waited
	// for 250 milliseconds in the queue and for the lookup together, or for
	// LookupTimeout or QueueTimeout if that is less. A lookup that has begun
	// continues, and its answer is kept. All this also holds while the watch is
	// lost.
	//
	// A revocation may not be seen in that time. A record that was reported as
	// changed is not used. If zero, no such record is used.
	StaleIfError time.Duration

	// LookupTimeout is how long one lookup in the store may take. If zero, 5
	// seconds.
	LookupTimeout time.Duration

	// MaxLookups is how many lookups in the store are in progress at most. If
	// zero, 64.
	MaxLookups int

	// QueueTimeout is how long a request waits while MaxLookups other lookups
	// are in progress. After that, it gets an error that matches
	// [auth.ErrStoreUnavailable]. If zero, 1 second.
	QueueTimeout time.Duration

	// Logger gets a line at startup if the store is not watched, and otherwise
	// whenever the watch starts or is lost.
	//
	// It also gets a line when lookups begin to fail, one a minute while they
	// do, and one when the store answers again. A request that waited for
	// QueueTimeout counts as a failure. A hash that the store does not know
	// does not, nor does a client that left. The error is that of the store,
	// without the hash. An Authenticator logs these failures at level Debug.
	//
	// If nil, it is slog.Default() at the time of the call.
	Logger *slog.Logger
}

const (
	// maxAttempts is how many lookups one request causes at most, if the record
	// changes during each of them.
	maxAttempts = 8

	// maxGrace is how long a lookup continues at most that no request waits
	// for.
	maxGrace = time.Second

	// maxStaleWait is how long a request waits at most if there is a stale
	// record for it.
	maxStaleWait = 250 * time.Millisecond
)

// A Store is an [auth.Store] that answers from memory if it can, and otherwise
// asks the underlying store. [New] makes one. It is safe for concurrent use.
type Store struct {
	table   *table
	calls   *group
	changes *listener

	stop       context.CancelFunc
	background sync.WaitGroup
}

// New returns a Store that keeps records of store in memory. If store is an
// [auth.Watcher], or wraps one, the Store watches it. Otherwise New logs how
// long a revoked key stays valid.
//
// If opts is nil, the zero Options are used; otherwise opts is copied. New
// panics if store is nil, and on negative options. Call Close to end what runs
// in the background.
func New(store auth.Store, opts *Options) *Store {
	mustStore(store)
	var o Options
	if opts != nil {
		o = *opts
	}
	watcher := findWatcher(store)
	o.setDefaults(watcher != nil)

	table := newTable(&o)
	calls := &group{
		store:        store,
		table:        table,
		timeout:      o.LookupTimeout,
		limit:        o.MaxLookups,
		queueTimeout: o.QueueTimeout,
		queueErr: &reported{fmt.Errorf("auth/cache: %d lookups in progress, no place for another within %v: %w",
			o.MaxLookups, o.QueueTimeout, auth.ErrStoreUnavailable)},
		grace:     min(maxGrace, o.QueueTimeout/4), // so that the queue moves before its requests give up
		staleWait: min(maxStaleWait, o.LookupTimeout),
		outage:    &outage{opts: &o},
		calls:     make(map[auth.Hash]*call),
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Store{table: table, calls: calls, changes: &listener{table, calls, &o}, stop: stop}
	s.background.Go(func() { table.keepTime(ctx) })
	if watcher != nil {
		s.background.Go(func() { s.changes.listen(ctx, watcher) })
	} else {
		table.reset(true)
		s.changes.unwatched(store)
	}
	return s
}

func mustStore(store auth.Store) {
	if store == nil {
		panic("cache.New: the store is nil")
	}
	if v := reflect.ValueOf(store); (v.Kind() == reflect.Pointer || v.Kind() == reflect.Func) && v.IsNil() {
		panic(fmt.Sprintf("cache.New: the store is a nil %T", store))
	}
}

func (o *Options) setDefaults(watched bool) {
	ttl := 30 * time.Second
	if watched {
		ttl = 5 * time.Minute
	}
	setDefault(&o.MaxKeys, "MaxKeys", 100_000)
	setDefault(&o.MaxUnknown, "MaxUnknown", 10_000)
	setDefault(&o.TTL, "TTL", ttl)
	setDefault(&o.UnknownTTL, "UnknownTTL", 5*time.Second)
	setDefault(&o.StaleIfError, "StaleIfError", 0)
	setDefault(&o.LookupTimeout, "LookupTimeout", 5*time.Second)
	setDefault(&o.MaxLookups, "MaxLookups", 64)
	setDefault(&o.QueueTimeout, "QueueTimeout", time.Second)
	for _, d := range []*time.Duration{&o.TTL, &o.UnknownTTL, &o.StaleIfError, &o.LookupTimeout, &o.QueueTimeout} {
		*d = min(*d, math.MaxInt64/4) // 73 years, so that three of them can be added
	}
}

func (o *Options) log() *slog.Logger {
	if o.Logger != nil {
		return o.Logger
	}
	return slog.Default()
}

func setDefault[T int | time.Duration](option *T, name string, value T) {
	if *option < 0 {
		panic(fmt.Sprintf("cache.New: %s %v is negative", name, *option))
	}
	if *option == 0 {
		*option = value
	}
}

// Lookup implements [auth.Store]. Requests share the record, so it must not be
// modified. If the underlying store is asked, its context has the values of
// ctx, or of that of another request for the same hash.
func (s *Store) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	if e := s.table.get(hash); e != nil {
		return e.answer()
	}
	return s.ask(ctx, hash)
}

// ask asks the store, again if the record changes while it does so.
func (s *Store) ask(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	for attempt := 1; ; attempt++ {
		generation := s.table.generation.Load()
		c, err := s.calls.do(ctx, hash, s.table.getStale(hash) != nil)
		switch err {
		case nil:
			// Even if the record changed during the last lookup, its answer is
			// not older than this request.
			if !c.forgotten || attempt >= maxAttempts {
				return c.record, c.err
			}
		case errLate, s.calls.queueErr:
			if e := s.table.useStale(hash, generation); e != nil {
				return e.answer()
			}
			if err == s.calls.queueErr {
				return nil, err
			}
			// The stale record was removed while the request waited.
		default:
			return nil, err
		}
		if e := s.table.get(hash); e != nil {
			return e.answer()
		}
	}
}

// Close ends what New started, waits for it, and returns nil. After that, the
// underlying store is asked for every request.
func (s *Store) Close() error {
	s.stop()
	s.background.Wait()
	s.changes.reset(false)
	return nil
}

// Format writes "cache.Store", for every verb but %p, %T and %w. So package fmt
// does not print hashes.
func (s *Store) Format(f fmt.State, verb rune) { io.WriteString(f, "cache.Store") }
