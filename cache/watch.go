package cache

import (
	"context"
	"fmt"

	"github.com/insigner/auth"
)

// findWatcher returns store if it is a Watcher, otherwise the Watcher that it
// wraps, or nil.
func findWatcher(store auth.Store) auth.Watcher {
	for {
		switch s := store.(type) {
		case auth.Watcher:
			return s
		case interface{ Unwrap() auth.Store }:
			store = s.Unwrap()
		default:
			return nil
		}
	}
}

// A listener applies what a Watcher reports to the entries and the calls.
type listener struct {
	table *table
	calls *group
	opts  *Options
}

// listen watches w until ctx is done.
func (l *listener) listen(ctx context.Context, w auth.Watcher) {
	err := w.Watch(ctx, func(c auth.Change) { l.notify(ctx, c) })
	l.reset(false)
	if ctx.Err() == nil {
		l.opts.log().Error("auth/cache: cannot watch store for changes; asking it for every request", "error", err)
	}
}

func (l *listener) notify(ctx context.Context, c auth.Change) {
	switch c.Kind {
	case auth.RecordChanged:
		l.discard(c.Hash)
	case auth.WatchStarted:
		l.reset(true)
		l.opts.log().Info("auth/cache: watching store for changes")
	case auth.WatchLost:
		l.reset(false)
		if ctx.Err() == nil { // otherwise the cache is being closed
			l.opts.log().Warn("auth/cache: lost watch on store; asking it for every request")
		}
	}
}

// unwatched logs how long a revoked key stays valid. A wrapper can hide a
// Watcher by mistake, so this must not be silent.
func (l *listener) unwatched(store auth.Store) {
	o := l.opts
	attrs := []any{"store", fmt.Sprintf("%T", store), "at_most", o.TTL.String()}
	if o.StaleIfError > 0 {
		attrs = append(attrs, "at_most_if_store_fails", (o.TTL + o.StaleIfError).String())
	}
	o.log().Warn("auth/cache: not watching store for changes; a revoked key stays valid for a while", attrs...)
}

// discard makes sure that a later request for hash is not answered by a lookup
// that has begun before. The calls come first: after that, none of them puts
// back what is removed.
func (l *listener) discard(hash auth.Hash) {
	l.calls.forget(hash)
	l.table.discard(hash)
}

// reset does the same for every hash, except if the store fails. If fit is
// false, later lookups are not kept either. The entries come first: after that,
// a call that begins is of the new generation.
func (l *listener) reset(fit bool) {
	l.table.reset(fit)
	l.calls.forgetAll()
}
