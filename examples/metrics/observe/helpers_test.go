package observe_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/examples/metrics/observe"
)

// A diary notes the calls of its hooks.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// check compares what was noted since the last check.
func (d *diary) check(t *testing.T, what string, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, want) {
		t.Errorf("%s: got %q, want %q", what, d.lines, want)
	}
	d.lines = nil
}

func (d *diary) hooks() observe.Hooks {
	return observe.Hooks{
		LookupStarted: func(context.Context) { d.note("started") },
		LookupDone: func(_ context.Context, result observe.Result, took time.Duration) {
			if took < 0 {
				d.note("it took %v", took)
			}
			d.note("%s", result)
		},
		WatchState:    func(up bool) { d.note("up %v", up) },
		WatchLost:     func() { d.note("lost") },
		RecordChanged: func() { d.note("changed") },
	}
}

// A lookup is a store that does what it does.
type lookup func(ctx context.Context) (*auth.Record, error)

func (l lookup) Lookup(ctx context.Context, _ auth.Hash) (*auth.Record, error) { return l(ctx) }

func found(context.Context) (*auth.Record, error) { return new(auth.Record), nil }

// A wrapper has nothing but what package cache asks of one.
type wrapper struct{ auth.Store }

func (w wrapper) Unwrap() auth.Store { return w.Store }

// A hider is a wrapper without Unwrap.
type hider struct{ auth.Store }

// A watched store is an auth.Watcher whose test says what each Watch reports.
type watched struct {
	lookup
	watches chan *watch
}

// A watch is one call of Watch.
type watch struct {
	ctx    context.Context
	notify func(auth.Change)
	end    chan error
}

func (w *watched) Watch(ctx context.Context, notify func(auth.Change)) error {
	called := &watch{ctx, notify, make(chan error)}
	w.watches <- called
	return <-called.end
}

func (w *watch) report(kinds ...auth.ChangeKind) {
	for _, kind := range kinds {
		w.notify(auth.Change{Kind: kind})
	}
}
