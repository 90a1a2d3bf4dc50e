package authtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/insigner/auth"
)

const (
	startRule  = "Watch: the first change is WatchStarted."
	reportRule = "Watch: from WatchStarted to the next WatchLost, every change that decides a request is reported " +
		"after it is committed. A change made through this very Store is reported before the call that made it returns."
	returnRule = "Watch calls notify with each change until ctx is done, and then returns the error of ctx. It returns " +
		"earlier only if watching is impossible."
	manyRule = "Watch may be called any number of times."
)

const (
	watchTime     = 30 * time.Second // what a Watcher may take to start, to start again, or to return
	watchAttempts = 3                // to make a change without a WatchLost
)

// A watch is a call of Watch.
type watch struct {
	cancel context.CancelFunc
	ended  chan error

	mu      sync.Mutex
	first   auth.ChangeKind
	started chan struct{} // closed by WatchStarted, replaced by WatchLost
	breaks  int           // how often WatchStarted and WatchLost came
	hashes  []auth.Hash   // reported since the last clear
	odd     []auth.Change // of no known kind
	hash    auth.Hash     // whose reports call report
	report  func()
}

// watch calls Watch and waits for WatchStarted. It returns nil if that does not
// come, which it reports.
func (p *probe) watch() *watch {
	ctx, cancel := context.WithCancel(p.ctx)
	w := &watch{cancel: cancel, ended: make(chan error, 1), started: make(chan struct{})}
	go func() { w.ended <- p.Store.(auth.Watcher).Watch(ctx, w.notify) }()
	if err := w.wait(); err != nil {
		p.errorf("Watch: %w", err)
		cancel()
		return nil
	}
	return w
}

// wait waits until changes are reported.
func (w *watch) wait() error {
	w.mu.Lock()
	started := w.started
	w.mu.Unlock()
	timeout := time.NewTimer(watchTime)
	defer timeout.Stop()
	select {
	case <-started:
		return nil
	case err := <-w.ended:
		w.ended <- err
		return fmt.Errorf("it returned before its context was done: %w", err)
	case <-timeout.C:
		return fmt.Errorf("it did not report WatchStarted within %v", watchTime)
	}
}

func (w *watch) notify(c auth.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first == 0 {
		w.first = c.Kind
	}
	switch c.Kind {
	case auth.WatchStarted:
		w.breaks++
		select {
		case <-w.started:
		default:
			close(w.started)
		}
	case auth.WatchLost:
		w.breaks++
		select {
		case <-w.started:
			w.started = make(chan struct{})
		default:
		}
	case auth.RecordChanged:
		w.hashes = append(w.hashes, c.Hash)
		if w.report != nil && c.Hash == w.hash {
			w.report()
		}
	default:
		w.odd = append(w.odd, c)
	}
}

// clear forgets what was reported, and returns the number of breaks so far.
func (w *watch) clear() (breaks int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hashes = nil
	return w.breaks
}

// unbroken reports whether there was no break since there were so many.
func (w *watch) unbroken(breaks int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.breaks == breaks
}

// count returns how often the record was reported since the last clear.
func (w *watch) count(r *auth.Record) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, hash := range w.hashes {
		if hash == r.Hash {
			n++
		}
	}
	return n
}

// onReport makes f be called with each report of r. It must not wait.
func (w *watch) onReport(r *auth.Record, f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hash, w.report = r.Hash, f
}

// watches calls Watch n times and waits for WatchStarted of all. It returns
// those that have started.
func (p *probe) watches(n int) []*watch {
	list := make([]*watch, n)
	together(n, func(i int) { list[i] = p.watch() })
	return slices.DeleteFunc(list, func(w *watch) bool { return w == nil })
}

// end stops watches, and reports those that do not return the error of their
// context.
func (p *probe) end(list ...*watch) {
	together(len(list), func(i int) { p.endOne(list[i]) })
}

func (p *probe) endOne(w *watch) {
	w.cancel()
	timeout := time.NewTimer(watchTime)
	defer timeout.Stop()
	select {
	case err := <-w.ended:
		p.fails("Watch with a context that is canceled", err, context.Canceled)
	case <-timeout.C:
		p.errorf("Watch did not return within %v of the end of its context", watchTime)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.odd {
		p.errorf("Watch reported %v, which is not a kind of change", c.Kind)
	}
}

// reports checks that a change is reported before it returns. prepare makes
// what must be there before, and returns the change and the records whose
// reports it must cause. If the watch is lost in the middle of the change,
// nothing follows from it, and reports tries again with other records; i counts
// the attempts.
func (p *probe) reports(what string, prepare func(i int) (change func(), want []*auth.Record)) {
	if w := p.watch(); w != nil {
		p.reportsTo(what, prepare, w)
		p.end(w)
	}
}

// reportsTo is reports for watches that have started.
func (p *probe) reportsTo(what string, prepare func(i int) (change func(), want []*auth.Record), watches ...*watch) {
	for i := range watchAttempts {
		change, want := prepare(i)
		breaks := make([]int, len(watches))
		for j, w := range watches {
			if err := w.wait(); err != nil {
				p.errorf("Watch: %w", err)
				return
			}
			breaks[j] = w.clear()
		}
		change()
		broken := false
		for j, w := range watches {
			broken = broken || !w.unbroken(breaks[j])
		}
		if broken {
			continue
		}
		for _, w := range watches {
			for _, r := range want {
				if w.count(r) == 0 {
					p.errorf("Watch did not report %s of %s before the call returned", what, r.ID)
				}
			}
		}
		return
	}
	p.errorf("Watch reported WatchLost or WatchStarted during each of %d changes", watchAttempts)
}

// reportsUpdate checks that an update that makes after of a record is reported.
func (p *probe) reportsUpdate(what string, before, after func(r *auth.Record)) {
	p.reports(what, func(i int) (func(), []*auth.Record) {
		r := with(p.record(i), before)
		p.insert(r)
		return func() { p.update(changed(r, after)) }, []*auth.Record{r}
	})
}

func asItIs(*auth.Record) {}

// restrict makes a change of several kinds.
func restrict(r *auth.Record) {
	r.DisabledAt, r.ExpiresAt, r.Scopes = r.UpdatedAt, r.UpdatedAt.Add(time.Hour), r.Scopes[:1]
}

// startCases are about what a Watcher does without a change.
var startCases = []struct {
	name, rule string
	check      func(p *probe)
}{
	{"Watch starts with WatchStarted", startRule, func(p *probe) {
		w := p.watch()
		if w == nil {
			return
		}
		p.end(w)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.first != auth.WatchStarted {
			p.errorf("Watch: the first change is %v, want %v", w.first, auth.WatchStarted)
		}
	}},
	{"Watch with a context that is done", returnRule, func(p *probe) {
		contexts := p.doneContexts()
		together(len(contexts), func(i int) {
			ctx, ended := contexts[i], make(chan error, 1)
			go func() { ended <- p.Store.(auth.Watcher).Watch(ctx, func(auth.Change) {}) }()
			timeout := time.NewTimer(watchTime)
			defer timeout.Stop()
			select {
			case err := <-ended:
				p.fails("Watch with a context that is done", err, ctx.Err())
			case <-timeout.C:
				p.errorf("Watch with a context that is done did not return within %v", watchTime)
			}
		})
	}},
	{"Watch several times", manyRule + " " + startRule + " " + returnRule, func(p *probe) {
		p.end(p.watches(5)...)
	}},
}

var watchCases = func() []storeCase {
	var list []storeCase
	for _, c := range startCases {
		list = append(list, storeCase{name: c.name, rule: c.rule, check: c.check})
	}
	return append(list, changeCases...)
}()

var changeCases = []storeCase{
	{name: "Watch reports Insert", rule: reportRule, check: func(p *probe) {
		p.reports("the insertion", func(i int) (func(), []*auth.Record) {
			r := p.record(i)
			return func() { p.insert(r) }, []*auth.Record{r}
		})
	}},
	{name: "Watch reports Delete", rule: reportRule, check: func(p *probe) {
		p.reports("the deletion", func(i int) (func(), []*auth.Record) {
			r := p.record(i)
			p.insert(r)
			return func() { p.delete(r.ID) }, []*auth.Record{r}
		})
	}},
	{name: "Watch reports a revocation", rule: reportRule, check: func(p *probe) {
		p.reportsUpdate("the revocation", asItIs, func(r *auth.Record) { r.RevokedAt = epoch })
	}},
	{name: "Watch reports that a key is disabled", rule: reportRule, check: func(p *probe) {
		p.reportsUpdate("the disabling", asItIs, func(r *auth.Record) { r.DisabledAt = epoch })
	}},
	{name: "Watch reports that a key is enabled", rule: reportRule, check: func(p *probe) {
		p.reportsUpdate("the enabling", func(r *auth.Record) { r.DisabledAt = epoch },
			func(r *auth.Record) { r.DisabledAt = time.Time{} })
	}},
	{name: "Watch reports an expiry", rule: reportRule, check: func(p *probe) {
		p.reportsUpdate("the new expiry", asItIs, func(r *auth.Record) { r.ExpiresAt = epoch })
	}},
	{name: "Watch reports scopes", rule: reportRule, check: func(p *probe) {
		p.reportsUpdate("the new scopes", asItIs, func(r *auth.Record) { r.Scopes = r.Scopes[:1] })
	}},
	{name: "Watch reports both records of a rotation", rule: reportRule, check: func(p *probe) {
		p.reports("the rotation", func(i int) (func(), []*auth.Record) {
			r := p.record(2 * i)
			p.insert(r)
			old, successor := p.rotated(r, 2*i+1)
			return func() { p.rotate(old, successor) }, []*auth.Record{old, successor}
		})
	}},
	{name: "Watch reports each of many changes", rule: reportRule + " " + concurrent, check: func(p *probe) {
		p.reports("one of many changes", func(i int) (func(), []*auth.Record) {
			list := p.records((i + 1) * workers)[i*workers:]
			p.insert(list...)
			return func() {
				together(workers, func(j int) { p.update(changed(list[j], restrict)) })
			}, list
		})
	}},
	{name: "Watch reports after the change", rule: reportRule + " So a lookup that follows the report finds the change.",
		check: func(p *probe) {
			r := p.record(1)
			p.insert(r)
			w := p.watch()
			if w == nil {
				return
			}
			defer p.end(w)
			breaks := w.clear()
			// A report may also be a late one of the insertion. So it takes one
			// report whose lookup finds the change.
			reported := make(chan struct{}, 100)
			w.onReport(r, func() {
				select {
				case reported <- struct{}{}:
				default:
				}
			})
			var lookups, found int
			done := make(chan struct{})
			go func() {
				defer close(done)
				for range reported {
					got, err := p.Lookup(p.ctx, r.Hash)
					if p.ok("Lookup after a report", errOrNil(got, err)) {
						lookups++
						if !got.RevokedAt.IsZero() {
							found++
						}
					}
				}
			}()
			p.update(revoked(r))
			w.onReport(r, nil)
			close(reported)
			<-done
			if lookups > 0 && found == 0 && w.unbroken(breaks) {
				p.errorf("Watch reported a revocation, but Lookup then returned the record as it was before")
			}
		}},
	{name: "Watch does not report Touch", rule: "Watch: a new last use is not reported.", check: func(p *probe) {
		r := p.record(0)
		p.insert(r)
		w := p.watch()
		if w == nil {
			return
		}
		defer p.end(w)
		// The insertion may be reported late, and more than once. So only as
		// many reports as there are uses tell that uses are reported.
		const uses = 16
		for i := range uses {
			p.touch(map[string]time.Time{r.ID: epoch.Add(time.Duration(i) * time.Hour)})
		}
		p.insert(p.record(1)) // its report comes after those
		if n := w.count(r); n >= uses {
			p.errorf("Watch reported a record %d times during %d calls of Touch, want no report", n, uses)
		}
	}},
	{name: "Watch reports to each call", rule: manyRule + " " + reportRule, check: func(p *probe) {
		list := p.watches(3)
		if len(list) != 3 {
			p.end(list...)
			return
		}
		change := func(from int) func(i int) (func(), []*auth.Record) {
			return func(i int) (func(), []*auth.Record) {
				r := p.record(from + i)
				p.insert(r)
				return func() { p.update(changed(r, restrict)) }, []*auth.Record{r}
			}
		}
		p.reportsTo("a change, with three calls of Watch,", change(10), list...)
		p.end(list[1])
		p.reportsTo("a change, with one of three calls of Watch ended,", change(20), list[0], list[2])
		p.end(list[0], list[2])
		p.insert(p.record(30)) // with no call of Watch
	}},
}
