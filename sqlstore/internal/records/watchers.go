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
	all     map[*func(auth.Change)]context.CancelCauseFunc
	closed  bool
	running sync.WaitGroup
}

var errClosed = errors.New("the Store is closed")

// Run calls watch with a context that is done when ctx is, and when Close is
// called. Until watch returns, notify hears of the changes of this Store. Run
// returns why the context was done.
func (w *Watchers) Run(ctx context.Context, notify func(auth.Change), watch func(context.Context)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !w.add(&notify, cancel) {
		return errClosed
	}
	defer w.remove(&notify)
	watch(ctx)
	if context.Cause(ctx) == errClosed {
		return errClosed
	}
	return ctx.Err()
}

func (w *Watchers) add(notify *func(auth.Change), cancel context.CancelCauseFunc) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	if w.all == nil {
		w.all = make(map[*func(auth.Change)]context.CancelCauseFunc)
	}
	w.all[notify] = cancel
	w.running.Add(1)
	return true
}

// remove returns when notify is no longer called.
func (w *Watchers) remove(notify *func(auth.Change)) {
	defer w.running.Done()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, notify)
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
	for notify := range w.all {
		for _, hash := range hashes {
			(*notify)(auth.Change{Kind: auth.RecordChanged, Hash: hash})
		}
	}
}
