package records

import (
	"sync"

	"github.com/insigner/auth"
)

// Watchers are the callers of Watch. They hear at once of what this Store
// changes.
type Watchers struct {
	mu     sync.RWMutex
	notify map[*func(auth.Change)]struct{}
}

// Add adds a caller.
func (w *Watchers) Add(notify *func(auth.Change)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.notify == nil {
		w.notify = make(map[*func(auth.Change)]struct{})
	}
	w.notify[notify] = struct{}{}
}

// Remove returns when notify is no longer called.
func (w *Watchers) Remove(notify *func(auth.Change)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.notify, notify)
}

func (w *Watchers) changed(hashes ...auth.Hash) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for notify := range w.notify {
		for _, hash := range hashes {
			(*notify)(auth.Change{Kind: auth.RecordChanged, Hash: hash})
		}
	}
}
