package records

import (
	"context"
	"errors"
	"sync"

	"github.com/insigner/auth"
)

// Watchers are the calls of Watch. They hear at once of what this Store changes.
type Watchers struct {
	mu      sync.RWMutex
	all     map[*watcher]context.CancelCauseFunc
	closed  bool
	running sync.WaitGroup
}

var errClosed = errors.New("the Store is closed")

// A watcher is a call of Watch.
type watcher struct {
	notify func(auth.Change)

	mu sync.Mutex // held while WatchStarted and WatchLost are reported
	on bool       // the last of them was WatchStarted
}

// report calls notify.
func (w *watcher) report(c auth.Change) {
	if c.Kind == auth.RecordChanged {
		w.notify(c)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on = c.Kind == auth.WatchStarted
	w.notify(c)
}

// reset makes a cache discard all copies, unless it has none yet.
func (w *watcher) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.on {
		w.notify(auth.Change{Kind: auth.WatchLost})
		w.notify(auth.Change{Kind: auth.WatchStarted})
	}
}

// Run calls watch with a context that is done when ctx is, and when Close is
// called, and with what reports to notify. Until watch returns, notify hears of
// the changes of this Store. Run returns why the context was done.
func (w *Watchers) Run(
	ctx context.Context, notify func(auth.Change), watch func(ctx context.Context, notify func(auth.Change)),
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	call := &watcher{notify: notify}
	if !w.add(call, cancel) {
		return errClosed
	}
	defer w.remove(call)
	watch(ctx, call.report)
	if context.Cause(ctx) == errClosed {
		return errClosed
	}
	return ctx.Err()
}

func (w *Watchers) add(call *watcher, cancel context.CancelCauseFunc) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	if w.all == nil {
		w.all = make(map[*watcher]context.CancelCauseFunc)
	}
	w.all[call] = cancel
	w.running.Add(1)
	return true
}

// remove returns when notify is no longer called.
func (w *Watchers) remove(call *watcher) {
	defer w.running.Done()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, call)
}

// Close ends each Run and waits for it. Later calls of Run fail.
func (w *Watchers) Close() {
	w.mu.Lock()
	w.closed = true
	for _, cancel := range w.all {
		cancel(errClosed)
	}
	w.mu.Unlock()
	w.running.Wait()
}

func (w *Watchers) changed(hashes ...auth.Hash) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for call := range w.all {
		for _, hash := range hashes {
			call.notify(auth.Change{Kind: auth.RecordChanged, Hash: hash})
		}
	}
}

// reset reports that any record may have changed.
func (w *Watchers) reset() {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for call := range w.all {
		call.reset()
	}
}
