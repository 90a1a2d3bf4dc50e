// Package cache keeps the records of an [auth.Store] in memory, so that an accepted request costs no query.
//
//	cached := cache.New(store, nil) // store: an sqlstore.Store, or a Store of your own
//	defer cached.Close()
//	a := auth.New(cached, nil)
//
// # Revocation
//
// How long a revoked key goes on depends on the store behind:
//
//   - An [auth.Watcher] reports changes. One made through this very store counts from the moment that the call
//     returns; one made elsewhere from the moment that the report arrives. From the report that the watcher's connection
//     is lost until the report that it is back, nothing is answered from memory, but what Options.StaleIfError permits.
//     A connection that dies without a sign is lost when the watcher notices: for an sqlstore.Store that is at most its
//     Options.HeartbeatInterval plus Options.HeartbeatTimeout, 10 seconds unless set.
//   - Any other store: Options.TTL.
//   - While the store fails, with Options.StaleIfError: that much on top.
//   - A process that was paused as a whole, with its machine or by a signal, learns what happened meanwhile within moments
//     of going on, not before.
//
// A look-up that was under way when its record changed is made again, and never remembered. A record that is known to
// be revoked is never replaced by one that is not. For this the store must read where the changes are made: look-ups
// from a lagging replica bring back what the watcher has just reported as gone.
//
// Expiry is exact whatever the times to live, since the Authenticator checks the record on every request.
//
// # Memory
//
// At most Options.MaxKeys records are remembered (some 500 bytes each, and what their texts take), and at most
// Options.MaxUnknown hashes that the store does not know (some 150 bytes each), apart from each other: a flood of
// made-up keys does not push a good one out. Of each hash one look-up is under way at a time, if the store heeds its
// context, and none that no request has waited for in the last second.
package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/insigner/auth"
	"github.com/maypok86/otter/v2"
)

// Options configures a [Store]. The zero value is ready.
type Options struct {
	MaxKeys    int // records remembered at most; 0: 100,000
	MaxUnknown int // hashes remembered as unknown at most; 0: 10,000

	TTL        time.Duration // of a record, or up to 1/64 less; 0: 5 minutes if the store is an auth.Watcher, else 30 seconds
	UnknownTTL time.Duration // of a hash that the store does not know; 0: 5 seconds

	// StaleIfError is for how long after its TTL a record goes on while the store answers with errors, also where the
	// watcher's connection is lost. In that time a revocation may go unseen. A record that was reported as changed does
	// not go on. 0: not at all.
	StaleIfError time.Duration

	// LookupTimeout ends a look-up that the store does not answer, if the store heeds its context. 0: 5 seconds.
	LookupTimeout time.Duration

	Logger *slog.Logger // is told when changes are lost and seen again; nil: slog.Default, as it is at the time
}

const (
	staleRetry = time.Second // how long a stale record is used before the store is asked again
	leaveAfter = time.Second // how long a look-up that nobody waits for goes on
	maxReads   = 8           // of a record that changes during every look-up
)

// A Store answers from memory or from the store behind it. It is an [auth.SnapshotStore], safe for concurrent use.
type Store struct {
	behind    auth.Store
	snapshots auth.SnapshotStore // behind, if it is one
	o         Options

	known   *otter.Cache[auth.Hash, *entry]
	unknown *otter.Cache[auth.Hash, *entry]

	// epoch tells entries that may be used from those of before the watcher's connection was lost. 0: it is lost.
	epoch atomic.Uint64

	// clock is the time since begin, as of the last tick: reading the system's would take as long as all else that a
	// hit does. An entry is taken for older than it is by a tick, so it is never used for too long.
	clock atomic.Int64
	begin time.Time
	tick  time.Duration

	// resets counts how often all that was read became unfit, so that a failure of before is none of after.
	resets atomic.Uint64

	mu      sync.Mutex // never held during a look-up
	epochs  uint64     // the last one given out
	flights map[auth.Hash]*flight

	stop       context.CancelFunc
	background sync.WaitGroup
}

// An entry is what was found, never changed. Its times count from Store.begin.
type entry struct {
	snapshot auth.Snapshot // of a known key
	revoked  bool
	epoch    uint64        // 0: to be read again before use
	fresh    time.Duration // until when it may be used
	stale    time.Duration // until when it may be used if the store fails
	failed   *failure      // of the store, when it was to be read again
}

// A failure lets a stale entry be used for a while without asking the store.
type failure struct {
	resets uint64 // as of then
	retry  time.Duration
}

// A flight is a look-up that is under way, for all who wait for it. Its first part is guarded by Store.mu, the rest
// is valid once done is closed.
type flight struct {
	waiting int
	changed bool // the record changed meanwhile: what is found may be of before
	cancel  context.CancelFunc

	done     chan struct{}
	again    bool
	snapshot auth.Snapshot
	err      error
	panicked any
}

// New returns a Store in front of behind. Nil opts: the defaults; otherwise opts is copied. If behind is an
// [auth.Watcher] it is watched until Close. It panics if behind is nil or an option is negative.
func New(behind auth.Store, opts *Options) *Store {
	if behind == nil {
		panic("cache.New: the store is nil")
	}
	var o Options
	if opts != nil {
		o = *opts
	}
	watcher, watched := behind.(auth.Watcher)
	ttl := 30 * time.Second
	if watched {
		ttl = 5 * time.Minute
	}
	byDefault(&o.MaxKeys, "MaxKeys", 100_000)
	byDefault(&o.MaxUnknown, "MaxUnknown", 10_000)
	byDefault(&o.TTL, "TTL", ttl)
	byDefault(&o.UnknownTTL, "UnknownTTL", 5*time.Second)
	byDefault(&o.StaleIfError, "StaleIfError", 0)
	byDefault(&o.LookupTimeout, "LookupTimeout", 5*time.Second)

	s := &Store{
		behind:  behind,
		o:       o,
		known:   otter.Must(&otter.Options[auth.Hash, *entry]{MaximumSize: o.MaxKeys}),
		unknown: otter.Must(&otter.Options[auth.Hash, *entry]{MaximumSize: o.MaxUnknown}),
		flights: make(map[auth.Hash]*flight),
		begin:   time.Now(),
		tick:    max(o.TTL/64, time.Millisecond),
	}
	if snapshots, ok := behind.(auth.SnapshotStore); ok && snapshots.Snapshots() == behind {
		s.snapshots = snapshots
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.background.Go(func() { s.keepTime(ctx) })
	if watched {
		s.background.Go(func() { s.watch(ctx, watcher) })
	} else {
		s.reset(true)
	}
	return s
}

func byDefault[T int | time.Duration](option *T, name string, value T) {
	if *option < 0 {
		panic(fmt.Sprintf("cache.New: %s %v is negative", name, *option))
	}
	if *option == 0 {
		*option = value
	}
	*option = min(*option, math.MaxInt/4) // 73 years, as a time: the sum of two and the time of now is one too
}

// Close stops what runs in the background and waits for the end of it. Afterwards the store behind is asked about
// every request. It returns nil.
func (s *Store) Close() error {
	s.stop()
	s.background.Wait()
	s.reset(false)
	return nil
}

func (s *Store) now() time.Duration { return time.Since(s.begin) }

func (s *Store) keepTime(ctx context.Context) {
	ticker := time.NewTicker(s.tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.clock.Store(int64(s.now()))
		case <-ctx.Done():
			return
		}
	}
}

func (s *Store) watch(ctx context.Context, w auth.Watcher) {
	err := w.Watch(ctx, func(c auth.Change) { s.notify(ctx, c) })
	s.reset(false)
	if ctx.Err() == nil {
		s.log().Error("auth/cache: the store cannot be watched; it is asked about every request", "error", err)
	}
}

func (s *Store) log() *slog.Logger {
	if s.o.Logger != nil {
		return s.o.Logger
	}
	return slog.Default()
}

// notify takes what the watcher reports. That it no longer watches once ctx has ended is no news.
func (s *Store) notify(ctx context.Context, c auth.Change) {
	switch c.Kind {
	case auth.RecordChanged:
		s.forget(c.Hash)
	case auth.ChangesSeen:
		s.reset(true)
		s.log().Info("auth/cache: the store reports its changes; records are answered from memory")
	case auth.ChangesLost:
		s.reset(false)
		if ctx.Err() == nil {
			s.log().Warn("auth/cache: the store does not report its changes; it is asked about every request")
		}
	}
}

// reset makes everything that was read up to now unfit for use without asking the store again; trust tells whether
// what is read from now on is fit.
func (s *Store) reset(trust bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resets.Add(1)
	if trust {
		s.epochs++
		s.epoch.Store(s.epochs)
	} else {
		s.epoch.Store(0)
	}
	for hash := range s.flights {
		s.overtake(hash)
	}
}

// forget drops what is known of a hash. That a key is revoked is not forgotten, but read again.
func (s *Store) forget(hash auth.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.overtake(hash)
	s.unknown.Invalidate(hash)
	if e, ok := s.known.GetIfPresent(hash); ok && e.revoked {
		old := *e
		old.epoch = 0
		s.known.Set(hash, &old)
	} else {
		s.known.Invalidate(hash)
	}
}

// overtake takes a flight from the list, so that nobody joins it any more and what it finds is read again.
func (s *Store) overtake(hash auth.Hash) {
	if f := s.flights[hash]; f != nil {
		f.changed = true
		delete(s.flights, hash)
	}
}

// Lookup implements [auth.Store].
func (s *Store) Lookup(ctx context.Context, hash auth.Hash) (auth.Record, error) {
	snapshot, err := s.LookupSnapshot(ctx, hash)
	return snapshot.Record(), err
}

// Format writes "cache.Store", whatever the verb but %p and %T: fmt would print the hashes that are being looked up.
func (s *Store) Format(f fmt.State, verb rune) { io.WriteString(f, "cache.Store") }

// Snapshots implements [auth.SnapshotStore].
func (s *Store) Snapshots() auth.Store { return s }

// LookupSnapshot implements [auth.SnapshotStore].
func (s *Store) LookupSnapshot(ctx context.Context, hash auth.Hash) (auth.Snapshot, error) {
	epoch := s.epoch.Load()
	if e, ok := s.known.GetIfPresent(hash); ok {
		if epoch != 0 && e.epoch == epoch && s.clock.Load() < int64(e.fresh) {
			return e.snapshot, nil
		}
		if e.failed != nil && e.failed.resets == s.resets.Load() && s.now() < e.failed.retry {
			return e.snapshot, nil
		}
	} else if e, ok := s.unknown.GetIfPresent(hash); ok && epoch != 0 && e.epoch == epoch && s.now() < e.fresh {
		return auth.Snapshot{}, auth.ErrNotFound
	}
	for reads := 1; ; reads++ {
		f := s.join(ctx, hash)
		select {
		case <-f.done:
			if f.panicked != nil {
				panic(f.panicked) // on the request's goroutine, for the host's own recovery
			}
			// What was read last is of after this request began, if not of after the last change.
			if !f.again || reads == maxReads {
				return f.snapshot, f.err
			}
		case <-ctx.Done():
			s.leave(hash, f)
			return auth.Snapshot{}, ctx.Err()
		}
	}
}

// join returns the flight for hash, and begins it if there is none.
func (s *Store) join(ctx context.Context, hash auth.Hash) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flights[hash]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		// It outlives the request that began it, for the others.
		ctx, f.cancel = context.WithTimeout(context.WithoutCancel(ctx), s.o.LookupTimeout)
		s.flights[hash] = f
		go s.fly(ctx, hash, f, s.epoch.Load())
	}
	f.waiting++
	return f
}

// leave ends a flight that nobody waits for any more, after a while: most are about to end, and a database pays for a
// query that is called off with the connection.
func (s *Store) leave(hash auth.Hash, f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.waiting--; f.waiting == 0 {
		time.AfterFunc(leaveAfter, func() { s.callOff(hash, f) })
	}
}

func (s *Store) callOff(hash auth.Hash, f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.waiting > 0 {
		return // somebody has joined it
	}
	f.cancel()
	if s.flights[hash] == f {
		delete(s.flights, hash)
	}
}

// fly asks the store and remembers what it answers.
func (s *Store) fly(ctx context.Context, hash auth.Hash, f *flight, epoch uint64) {
	defer f.cancel()
	asked := s.now() // a time to live begins before the store reads
	finished := false
	defer func() {
		if !finished { // the store panicked, or called runtime.Goexit
			if f.panicked = recover(); f.panicked == nil {
				f.err = errors.New("auth/cache: the look-up ended its goroutine")
			}
		}
		s.land(hash, f, epoch, asked)
		close(f.done)
	}()
	f.snapshot, f.err = s.ask(ctx, hash)
	finished = true
}

func (s *Store) ask(ctx context.Context, hash auth.Hash) (auth.Snapshot, error) {
	if s.snapshots != nil {
		return s.snapshots.LookupSnapshot(ctx, hash)
	}
	r, err := s.behind.Lookup(ctx, hash)
	if err != nil {
		return auth.Snapshot{}, err
	}
	return auth.NewSnapshot(r), nil
}

// land decides what becomes of an answer. From here to the end of the flight s.mu is held, so no change slips
// between the look at f.changed and the filling of the cache.
func (s *Store) land(hash auth.Hash, f *flight, epoch uint64, asked time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flights[hash] == f {
		delete(s.flights, hash)
	}
	old, _ := s.known.GetIfPresent(hash)
	if r := f.snapshot.Record(); f.err == nil && r.Hash == hash && r.RevokedAt.IsZero() && old != nil && old.revoked {
		f.snapshot = old.snapshot // revoking is for good
	}
	if f.changed {
		f.again = true
		return
	}
	if f.panicked != nil || f.waiting == 0 {
		return // there is no answer, or it is that of a look-up which was called off
	}
	now := s.now()
	switch {
	case f.err == nil:
		r := f.snapshot.Record()
		if r.Hash != hash {
			return // the Authenticator will say so
		}
		s.known.Set(hash, &entry{f.snapshot, !r.RevokedAt.IsZero(), epoch, asked + s.o.TTL - s.tick,
			asked + s.o.TTL + s.o.StaleIfError, nil})
	case errors.Is(f.err, auth.ErrNotFound):
		s.known.Invalidate(hash)
		s.unknown.Set(hash, &entry{epoch: epoch, fresh: asked + s.o.UnknownTTL})
	case old != nil && s.o.StaleIfError > 0 && now < old.stale:
		e := *old
		e.failed = &failure{s.resets.Load(), min(now+staleRetry, old.stale)}
		s.known.Set(hash, &e)
		f.snapshot, f.err = old.snapshot, nil
	}
}
