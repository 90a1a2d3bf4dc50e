package apilogtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/insigner/auth/apilog"
)

// caseTime is what a case may take before its context is done, so that a store
// that waits forever is reported.
const caseTime = 2 * time.Minute

// A storeCase checks one rule, on an empty store of its own.
type storeCase struct {
	name  string
	rule  string // as the contract has it
	check func(p *probe)
}

// storeCases returns all cases, the plain ones first: a later failure may
// follow from an earlier one.
func storeCases() []storeCase {
	return slices.Concat(appendCases, fieldCases, listCases, afterCases, filterCases, histogramCases, deleteCases,
		sharingCases, contextCases, concurrencyCases)
}

// run returns what is wrong with s, or nil.
func (c *storeCase) run(ctx context.Context, s apilog.Store) error {
	ctx, cancel := context.WithTimeout(ctx, caseTime)
	defer cancel()
	p := &probe{Store: s, ctx: ctx}
	c.check(p)
	return p.err()
}

// A probe calls a store and collects what is wrong with it. Its methods may be
// called from several goroutines at once.
type probe struct {
	apilog.Store
	ctx context.Context

	mu   sync.Mutex
	errs []error
}

const maxErrors = 5 // reported for a case; the rest is counted

func (p *probe) errorf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.errs = append(p.errs, fmt.Errorf(format, args...))
}

func (p *probe) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.errs); n > maxErrors {
		return errors.Join(append(p.errs[:maxErrors:maxErrors], fmt.Errorf("and %d more", n-maxErrors))...)
	}
	return errors.Join(p.errs...)
}

// ok reports an error that should not be.
func (p *probe) ok(what string, err error) bool {
	if err != nil {
		p.errorf("%s: %w", what, err)
	}
	return err == nil
}

// invalid reports an error that is not ErrInvalidQuery.
func (p *probe) invalid(what string, err error) {
	if !errors.Is(err, apilog.ErrInvalidQuery) {
		p.errorf("%s: got error %v, want one that matches %q", what, err, apilog.ErrInvalidQuery)
	}
}

// refused reports that there is no error, which may be any.
func (p *probe) refused(what string, err error) {
	if err == nil {
		p.errorf("%s: got no error, want one", what)
	}
}

const batch = 500 // entries in an Append, unless the case is about many

// append stores the entries. The store gets a copy, so that the case can compare
// with them.
func (p *probe) append(entries ...apilog.Entry) {
	for part := range slices.Chunk(entries, batch) {
		if !p.ok(fmt.Sprintf("Append of %d entries", len(part)), p.Append(p.ctx, slices.Clone(part))) {
			return
		}
	}
}

// most is the Limit of a query that has none, in all cases but those about it.
const most = 1000

// page returns what List returns. It reports an error, and a page that is too
// long.
func (p *probe) page(q apilog.Query) []apilog.Entry {
	if q.Limit == 0 {
		q.Limit = most
	}
	page, err := p.List(p.ctx, q)
	if !p.ok(describe(q), err) {
		return nil
	}
	if len(page) > q.Limit {
		p.errorf("%s: got %d entries, want at most %d", describe(q), len(page), q.Limit)
	}
	return page
}

// lists reports that List returns other entries than these, or in another
// order. It compares the IDs.
func (p *probe) lists(q apilog.Query, want ...apilog.Entry) {
	p.sameIDs(describe(q), p.page(q), want)
}

// pages returns all that List returns, a page of q.Limit at a time. It stops at
// a page that is shorter, or after most entries.
func (p *probe) pages(q apilog.Query, most int) []apilog.Entry {
	var all []apilog.Entry
	for {
		page := p.page(q)
		all = append(all, page...)
		if len(page) < q.Limit {
			return all
		}
		if len(all) > most {
			p.errorf("%s, page by page: got %d entries so far, want at most %d", describe(q), len(all), most)
			return all
		}
		q.After = page[len(page)-1].ID
	}
}

// holds reports that the store has other entries than these.
func (p *probe) holds(entries ...apilog.Entry) {
	want := newest(entries)
	p.sameIDs("List of all entries", p.pages(apilog.Query{Limit: most}, len(want)), want)
}

func (p *probe) sameIDs(what string, got, want []apilog.Entry) {
	if got, want := ids(got), ids(want); !slices.Equal(got, want) {
		p.errorf("%s: got %d entries %s, want %d entries %s", what, len(got), brief(got), len(want), brief(want))
	}
}

// same reports that a field of an entry is not what was stored.
func (p *probe) same(what string, got, want []apilog.Entry) {
	if p.sameIDs(what, got, want); len(got) != len(want) {
		return
	}
	for i := range got {
		p.ok(what+": "+want[i].ID, differences(&got[i], &want[i]))
	}
}

// counts reports that Histogram returns anything else than these buckets.
func (p *probe) counts(q apilog.Query, step time.Duration, want []apilog.Bucket) {
	what := fmt.Sprintf("Histogram %s in steps of %v", fields(q), step)
	got, err := p.Histogram(p.ctx, q, step)
	if !p.ok(what, err) {
		return
	}
	if len(got) != len(want) {
		p.errorf("%s: got %d buckets, want %d", what, len(got), len(want))
		return
	}
	for i := range got {
		if !got[i].Start.Equal(want[i].Start) {
			p.errorf("%s: bucket %d starts at %s, want %s", what, i, brief(got[i].Start), brief(want[i].Start))
		}
		if got, want := countsOf(got[i]), countsOf(want[i]); got != want {
			p.errorf("%s: bucket %d has %s, want %s", what, i, got, want)
		}
	}
}

func countsOf(b apilog.Bucket) string {
	return fmt.Sprintf("%d requests, %d client errors and %d server errors", b.Requests, b.ClientErrors, b.ServerErrors)
}

// describe returns the call of List with the fields of q that are set.
func describe(q apilog.Query) string { return "List " + fields(q) }

func fields(q apilog.Query) string {
	var list []string
	add := func(name string, set bool, value any) {
		if set {
			list = append(list, name+": "+brief(value))
		}
	}
	add("Owner", q.Owner != "", q.Owner)
	add("KeyID", q.KeyID != "", q.KeyID)
	add("Method", q.Method != "", q.Method)
	add("Route", q.Route != "", q.Route)
	add("Code", q.Code != "", q.Code)
	add("RequestID", q.RequestID != "", q.RequestID)
	add("RemoteAddr", q.RemoteAddr.IsValid(), q.RemoteAddr)
	add("StatusFrom", q.StatusFrom != 0, q.StatusFrom)
	add("StatusTo", q.StatusTo != 0, q.StatusTo)
	add("From", !q.From.IsZero(), q.From)
	add("To", !q.To.IsZero(), q.To)
	add("After", q.After != "", q.After)
	add("Limit", q.Limit != 0, q.Limit)
	return "{" + strings.Join(list, ", ") + "}"
}

// together runs f(0) to f(n-1) at the same time.
func together(n int, f func(i int)) {
	var group sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		group.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	group.Wait()
}
