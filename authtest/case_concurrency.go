package authtest

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

const (
	concurrent = "A Store must be safe for concurrent use."
	workers    = 16
)

// one reports that not exactly one of the calls at the same time has succeeded,
// or that another one failed with an error that does not match want. It returns
// which one has succeeded.
func (p *probe) one(what string, want error, call func(i int) error) (winner int, ok bool) {
	errs := make([]error, workers)
	together(workers, func(i int) { errs[i] = call(i) })
	won := 0
	for i, err := range errs {
		if err == nil {
			won++
			winner = i
			continue
		}
		p.fails(what+" at the same time", err, want)
	}
	if won != 1 {
		p.errorf("%s at the same time: %d of %d calls succeeded, want 1", what, won, workers)
	}
	return winner, won == 1
}

// oneInsert reports that not exactly one of the records is inserted at the same
// time, or that something is left of another one, as lacks finds.
func (p *probe) oneInsert(what string, list []*auth.Record, lacks func(r *auth.Record)) {
	winner, ok := p.one(what, keyring.ErrExists, func(i int) error { return p.keys.Insert(p.ctx, list[i]) })
	if !ok {
		return
	}
	p.holds(list[winner])
	for i, r := range list {
		if i != winner {
			lacks(r)
		}
	}
}

var concurrencyCases = []storeCase{
	{name: "Insert of one ID at the same time", rule: taken + " " + concurrent, check: func(p *probe) {
		for round := range 3 {
			list := p.records((round + 1) * workers)[round*workers:]
			for _, r := range list {
				r.ID = list[0].ID
			}
			p.oneInsert("Insert of one ID", list, p.lacksHash)
		}
	}},
	{name: "Insert of one hash at the same time", rule: taken + " " + concurrent, check: func(p *probe) {
		for round := range 3 {
			list := p.records((round + 1) * workers)[round*workers:]
			for _, r := range list {
				r.Hash = list[0].Hash
			}
			p.oneInsert("Insert of one hash", list, func(r *auth.Record) { p.lacksID(r.ID) })
		}
	}},
	{name: "Update of one revision at the same time", rule: updates + " " + conflicts + " So of many calls with one " +
		"revision exactly one succeeds.", check: func(p *probe) {
		r := p.record(0)
		p.insert(r)
		for range 4 {
			winner, ok := p.one("Update of one revision", keyring.ErrConflict, func(i int) error {
				return p.keys.Update(p.ctx, renamed(r, fmt.Sprint("by ", i)), nil)
			})
			if !ok {
				return
			}
			r = renamed(r, fmt.Sprint("by ", winner))
			p.holds(r)
		}
	}},
	{name: "Update with successors at the same time", rule: conflicts + " " + both, check: func(p *probe) {
		r := p.record(0)
		p.insert(r)
		for round := range 3 {
			olds, successors := make([]*auth.Record, workers), make([]*auth.Record, workers)
			for i := range workers {
				olds[i], successors[i] = p.rotated(r, 100*(round+1)+i)
			}
			winner, ok := p.one("Update of one revision with successors", keyring.ErrConflict, func(i int) error {
				return p.keys.Update(p.ctx, olds[i], successors[i])
			})
			if !ok {
				return
			}
			p.holds(olds[winner])
			for i, successor := range successors {
				if i == winner {
					p.holds(successor)
				} else {
					p.lacks(successor)
				}
			}
			r = successors[winner]
		}
	}},
	{name: "Update with one successor hash at the same time", rule: updateTaken + " " + both, check: func(p *probe) {
		list := p.records(workers)
		p.insert(list...)
		olds, successors := make([]*auth.Record, workers), make([]*auth.Record, workers)
		for i, r := range list {
			olds[i], successors[i] = p.rotated(r, 100+i)
			successors[i].Hash = hashOf(100)
		}
		winner, ok := p.one("Update with one successor hash", keyring.ErrExists, func(i int) error {
			return p.keys.Update(p.ctx, olds[i], successors[i])
		})
		if !ok {
			return
		}
		for i := range workers {
			if i == winner {
				p.holds(olds[i], successors[i])
			} else {
				p.holds(list[i])
				p.lacksID(successors[i].ID)
			}
		}
	}},
	{name: "Update of many records at the same time", rule: updates + " " + concurrent, check: func(p *probe) {
		list := p.records(workers)
		p.insert(list...)
		together(workers, func(i int) {
			for n := range 8 {
				list[i] = renamed(list[i], fmt.Sprint("change ", n))
				p.update(list[i])
			}
		})
		p.holds(list...)
	}},
	{name: "Update and Delete at the same time", rule: updateUnheld + " " + concurrent, check: func(p *probe) {
		for i := range 8 {
			r := p.record(2 * i)
			p.insert(r)
			old, successor := p.rotated(r, 2*i+1)
			var err error
			together(2, func(j int) {
				if j == 0 {
					p.delete(r.ID)
				} else {
					err = p.keys.Update(p.ctx, old, successor)
				}
			})
			p.lacks(r)
			if err == nil {
				p.holds(successor)
				continue
			}
			p.fails("Update and Delete at the same time", err, auth.ErrNotFound)
			p.lacks(successor)
		}
	}},
	{name: "Touch and Update at the same time", rule: touchesOnly + " " + fixed, check: func(p *probe) {
		for i := range workers {
			r := p.record(i)
			p.insert(r)
			together(3, func(j int) { // all write the same row
				switch {
				case j > 0:
					p.touch(map[string]time.Time{r.ID: epoch.Add(time.Duration(j) * time.Hour)})
				case i%2 == 0:
					p.update(revoked(r))
				default:
					p.rotate(p.rotated(r, 100+i))
				}
			})
			if i%2 == 0 {
				r = revoked(r)
			} else {
				old, successor := p.rotated(r, 100+i)
				p.holds(successor)
				r = old
			}
			p.holds(used(r, epoch.Add(2*time.Hour)))
		}
	}},
	{name: "Touch at the same time", rule: touches + " " + concurrent + " Calls with the same IDs, in any order, do not " +
		"wait for each other forever.", check: func(p *probe) {
		const n, calls, rounds = 200, 8, 3
		list := p.records(workers)
		p.insert(list...)
		together(calls, func(i int) {
			for round := range rounds {
				at := epoch.Add(time.Duration(i*rounds+round) * time.Second)
				lastUsed := make(map[string]time.Time)
				for j := range n {
					if j < workers || (i+j+round)%3 != 0 {
						lastUsed[p.id(j)] = at
					}
				}
				p.touch(lastUsed)
			}
		})
		for _, r := range list {
			p.holds(used(r, epoch.Add((calls*rounds-1)*time.Second))) // the latest of all
		}
	}},
	{name: "Reading during changes", rule: both + " " + concurrent, check: func(p *probe) {
		const n = 24
		steady := p.record(1000)
		list := p.records(n)
		p.insert(append(list, steady)...)
		var done atomic.Bool
		together(6, func(i int) {
			switch i {
			case 0:
				defer done.Store(true)
				for j, r := range list {
					switch j % 3 {
					case 0:
						p.rotate(p.rotated(r, 100+j))
					case 1:
						p.update(revoked(r))
					case 2:
						p.insert(p.record(200 + j))
					}
				}
			case 1:
				for j := 0; !done.Load(); j++ {
					p.touch(map[string]time.Time{steady.ID: epoch.Add(time.Duration(j) * time.Millisecond)})
					runtime.Gosched()
				}
			default:
				for j := 0; !done.Load(); j++ {
					if i%2 == 0 {
						p.ok("Lookup of a record that nobody changes", p.whole(steady, 0))
					}
					p.ok("reading during changes", p.whole(list[j%n], 100+j%n))
					if got := len(p.page(keyring.Query{Limit: n})); got != n {
						p.errorf("List during changes: got %d records, want %d: there are at least that many", got, n)
					}
					runtime.Gosched() // on one processor, the changes take turns with the readers
				}
			}
		})
		for j, r := range list {
			p.ok("reading after changes", p.whole(r, 100+j))
		}
	}},
}

// whole returns what is wrong with r, which may have been revoked, used, or
// rotated to record(i).
func (p *probe) whole(r *auth.Record, i int) error {
	got, err := p.Lookup(p.ctx, r.Hash)
	if err := errOrNil(got, err); err != nil {
		return err
	}
	want := r
	if !got.RevokedAt.IsZero() {
		want = revoked(r)
	}
	if got.RotatedTo != "" {
		old, successor := p.rotated(r, i)
		want = old
		next, err := p.keys.Get(p.ctx, successor.ID)
		if err := errOrNil(next, err); err != nil {
			return fmt.Errorf("the successor of %s: %w", r.ID, err)
		}
		if err := differences(next, successor); err != nil {
			return fmt.Errorf("the successor of %s: %w", r.ID, err)
		}
	}
	return differences(got, used(want, got.LastUsedAt))
}
