// Package observe tells what a key store does, for a metrics library. It counts
// nothing itself. Packages authprom and authotel use it.
package observe

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/insigner/auth"
)

// A Result says how a lookup in a store ended.
type Result string

const (
	Found    Result = "found"
	NotFound Result = "not_found" // the store knows no such key
	Timeout  Result = "timeout"   // the deadline of the context has passed
	Canceled Result = "canceled"  // no client waited for it any more
	Failed   Result = "error"     // any other error of the store, and a panic
)

// Results are all of them.
var Results = []Result{Found, NotFound, Timeout, Canceled, Failed}

// Hooks are called by a store that [Store] returns, from many goroutines. All
// of them must be set. They must return soon. They get no key, hash or record.
type Hooks struct {
	// LookupStarted is called when a lookup begins, and LookupDone once when
	// it is done, with the time that it took.
	LookupStarted func(ctx context.Context)
	LookupDone    func(ctx context.Context, result Result, took time.Duration)

	// The others are called only if the store is an auth.Watcher.
	//
	// WatchState is called at first with false, and then with true when every
	// Watch reports changes, and with false when one does not. WatchLost is
	// called when a Watch that reported changes does so no longer, except that
	// it was ended by its context. RecordChanged is called for each report of a
	// change, by one Watch of several. The stores of module sqlstore report a
	// change twice where it was made: at once, and as every other instance
	// hears of it.
	WatchState    func(up bool)
	WatchLost     func()
	RecordChanged func()
}

// Store returns a store that calls the hooks. Give it to cache.New in place of
// store, so that the lookups are those that the cache could not answer. Changes
// still go to the underlying store: give that to keyring.NewManager.
//
// It is an [auth.Watcher] if store is one, or wraps one in the way that package
// cache describes, and only then.
func Store(store auth.Store, hooks Hooks) auth.Store {
	timed := timedStore{store, hooks}
	for inner := store; ; {
		switch s := inner.(type) {
		case auth.Watcher:
			hooks.WatchState(false)
			return &watchedStore{timedStore: timed, watcher: s}
		case interface{ Unwrap() auth.Store }:
			inner = s.Unwrap()
		default:
			return timed
		}
	}
}

type timedStore struct {
	store auth.Store
	hooks Hooks
}

// Lookup implements auth.Store.
func (t timedStore) Lookup(ctx context.Context, hash auth.Hash) (record *auth.Record, err error) {
	t.hooks.LookupStarted(ctx)
	start, result := time.Now(), Failed // unless Lookup returns
	defer func() { t.hooks.LookupDone(ctx, result, time.Since(start)) }()
	record, err = t.store.Lookup(ctx, hash)
	result = resultOf(ctx, record, err)
	return record, err
}

// Unwrap returns the underlying store.
func (t timedStore) Unwrap() auth.Store { return t.store }

func resultOf(ctx context.Context, record *auth.Record, err error) Result {
	switch {
	case err == nil && record != nil:
		return Found
	case errors.Is(err, auth.ErrNotFound):
		return NotFound
	case err != nil && ctx.Err() == context.Canceled:
		return Canceled
	case err != nil && ctx.Err() == context.DeadlineExceeded, errors.Is(err, context.DeadlineExceeded):
		return Timeout
	}
	return Failed
}

// A watchedStore is an auth.Watcher. Watch may be called several times, for
// example by a cache and by fanout.Publish.
type watchedStore struct {
	timedStore
	watcher auth.Watcher

	mu      sync.Mutex
	watches []*watching
	counts  atomic.Pointer[watching] // the first of them: a change counts once
}

// A watching is a call of Watch. It is up while it reports changes.
type watching struct{ up bool }

// Watch implements auth.Watcher.
func (w *watchedStore) Watch(ctx context.Context, notify func(auth.Change)) error {
	this := new(watching)
	w.change(func() { w.watches = append(w.watches, this) })
	set := func(up bool) {
		w.change(func() {
			if this.up && !up && ctx.Err() == nil {
				w.hooks.WatchLost()
			}
			this.up = up
		})
	}
	err := w.watcher.Watch(ctx, func(c auth.Change) {
		notify(c) // first: a cache must not wait for metrics
		switch c.Kind {
		case auth.RecordChanged:
			if w.counts.Load() == this {
				w.hooks.RecordChanged()
			}
		case auth.WatchStarted:
			set(true)
		case auth.WatchLost:
			set(false)
		}
	})
	set(false)
	if ctx.Err() != nil { // otherwise watching is impossible, and stays down
		w.change(func() {
			w.watches = slices.DeleteFunc(w.watches, func(other *watching) bool { return other == this })
		})
	}
	return err
}

// change makes a change of the watches and tells what became of them.
func (w *watchedStore) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	down := func(other *watching) bool { return !other.up }
	w.hooks.WatchState(len(w.watches) > 0 && !slices.ContainsFunc(w.watches, down))
	if len(w.watches) > 0 {
		w.counts.Store(w.watches[0])
	}
}
