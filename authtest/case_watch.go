package authtest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/insigner/auth"
)

const (
	reports = "Watch: between a ChangesSeen and the next ChangesLost, every change that decides a request is reported " +
		"after it is committed, and one made through this very Store before the call that made it returns."
	returns = "Watch calls notify with what happens until ctx is done, and then returns ctx's error; it returns earlier " +
		"only if watching is impossible."
)

// seenTime is what a Watcher may take until ChangesSeen, and to return when its context is done.
var seenTime = 30 * time.Second // shorter in this package's own tests

// A watch is a call of Watch.
type watch struct {
	cancel context.CancelFunc
	seen   chan struct{} // closed at the first ChangesSeen
	ended  chan error

	mu     sync.Mutex
	first  auth.ChangeKind
	lost   bool // since the last ChangesSeen
	hashes []auth.Hash
	odd    []auth.Change // of no known kind
}

// watch calls Watch and waits for ChangesSeen; it returns nil if that does not come, which it reports.
func (p *probe) watch() *watch {
	ctx, cancel := context.WithCancel(p.ctx)
	w := &watch{cancel: cancel, seen: make(chan struct{}), ended: make(chan error, 1)}
	go func() { w.ended <- p.Store.(auth.Watcher).Watch(ctx, w.notify) }()
	select {
	case <-w.seen:
		return w
	case err := <-w.ended:
		p.errorf("Watch returned before its context was done: %v", err)
	case <-time.After(seenTime):
		p.errorf("Watch did not report ChangesSeen within %v", seenTime)
	}
	cancel()
	return nil
}

func (w *watch) notify(c auth.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first == 0 && c.Kind != auth.ChangesLost {
		w.first = c.Kind
	}
	switch c.Kind {
	case auth.ChangesSeen:
		w.lost = false
		select {
		case <-w.seen:
		default:
			close(w.seen)
		}
	case auth.ChangesLost:
		w.lost = true
	case auth.RecordChanged:
		w.hashes = append(w.hashes, c.Hash)
	default:
		w.odd = append(w.odd, c)
	}
}

// reported says whether a record was reported since the last clear, or if the watch was interrupted.
func (w *watch) reported(r auth.Record) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost || slices.Contains(w.hashes, r.Hash)
}

func (w *watch) interrupted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

func (w *watch) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hashes = nil
}

// end stops the watch and reports if it does not return the context's error.
func (p *probe) end(w *watch) {
	w.cancel()
	select {
	case err := <-w.ended:
		p.fails("Watch, its context being cancelled,", err, context.Canceled)
	case <-time.After(seenTime):
		p.errorf("Watch did not return within %v of the end of its context", seenTime)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.odd {
		p.errorf("Watch reported %v, which is no ChangeKind", c.Kind)
	}
}

var watchCases = []storeCase{
	{name: "Watch begins with ChangesSeen", rule: "ChangesSeen: from now on changes are reported.", check: func(p *probe) {
		p.insert(record(1))
		w := p.watch()
		if w == nil {
			return
		}
		p.end(w)
		if w.first != auth.ChangesSeen {
			p.errorf("Watch reported %v first, want %v", w.first, auth.ChangesSeen)
		}
	}},
	{name: "Watch reports Insert", rule: reports, check: func(p *probe) {
		p.reported(nil, func() { p.insert(record(1)) }, record(1))
	}},
	{name: "Watch reports Revoke", rule: reports, check: func(p *probe) {
		p.reported(records(2), func() { p.revoke(record(1).ID, epoch) }, record(1))
	}},
	{name: "Watch reports both records of Replace", rule: reports, check: func(p *probe) {
		next := successor(2, record(1))
		p.reported(records(2), func() { p.replace(next, epoch) }, record(1), next)
	}},
	{name: "Watch reports after the change", rule: reports + " A cache that looks a record up when it is reported finds " +
		"it changed.", check: func(p *probe) {
		r := record(1)
		p.insert(r)
		w := p.watch()
		if w == nil {
			return
		}
		defer p.end(w)
		// Whoever reads after the report, in another goroutine, finds the change.
		found := make(chan error, 1)
		ctx, cancel := context.WithTimeout(p.ctx, seenTime)
		defer cancel()
		go func() {
			for !w.reported(r) && ctx.Err() == nil {
				time.Sleep(50 * time.Microsecond)
			}
			got, err := p.Lookup(ctx, r.Hash)
			if err == nil && got.RevokedAt.IsZero() && !w.interrupted() {
				err = errors.New("after Watch reported a Revoke, Lookup returns the record as it was before")
			}
			found <- err
		}()
		p.revoke(r.ID, epoch)
		p.ok("Lookup after a report", <-found)
	}},
	{name: "Watch does not report Touch", rule: "Every change that decides a request is reported, not last use.",
		check: func(p *probe) {
			p.insert(records(2)...)
			w := p.watch()
			if w == nil {
				return
			}
			defer p.end(w)
			p.touch(map[string]time.Time{record(1).ID: epoch})
			p.insert(record(2)) // what is reported behind it
			w.mu.Lock()
			defer w.mu.Unlock()
			if slices.Contains(w.hashes, record(1).Hash) {
				p.errorf("Watch reported a Touch")
			}
		}},
	{name: "Watch any number of times", rule: "Any number of calls may watch. " + returns, check: func(p *probe) {
		var watches []*watch
		for range 3 {
			w := p.watch()
			if w == nil {
				return
			}
			watches = append(watches, w)
		}
		p.insert(record(1))
		for i, w := range watches {
			if !w.reported(record(1)) {
				p.errorf("the call %d of Watch did not report an Insert before it returned", i+1)
			}
		}
		p.end(watches[1])
		for i, w := range watches {
			w.clear()
			p.insert(record(2 + i))
			if i != 1 && !w.reported(record(2+i)) {
				p.errorf("with one of three calls of Watch over, another did not report an Insert")
			}
		}
		p.end(watches[0])
		p.end(watches[2])
		p.insert(record(9)) // with nobody watching any more
	}},
	{name: "Watch with a context that is done", rule: returns, check: func(p *probe) {
		ctx, cancel := context.WithCancel(p.ctx)
		cancel()
		ended := make(chan error, 1)
		go func() { ended <- p.Store.(auth.Watcher).Watch(ctx, func(auth.Change) {}) }()
		select {
		case err := <-ended:
			p.fails("Watch with a context that is done", err, context.Canceled)
		case <-time.After(seenTime):
			p.errorf("Watch with a context that is done did not return within %v", seenTime)
		}
	}},
}

// reported reports if, with the given records in the store, change is not reported for each of want before it returns.
func (p *probe) reported(before []auth.Record, change func(), want ...auth.Record) {
	p.insert(before...)
	w := p.watch()
	if w == nil {
		return
	}
	defer p.end(w)
	w.clear()
	change()
	for _, r := range want {
		if !w.reported(r) {
			p.errorf("Watch did not report %s before the call that changed it returned", r.ID)
		}
	}
}
