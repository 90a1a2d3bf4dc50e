package authtest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/insigner/auth"
)

const (
	concurrent = "A Store's methods must be safe for concurrent use."
	atMost     = "Of many calls for one record exactly one succeeds."
	workers    = 16
)

var concurrencyCases = []storeCase{
	{name: "Insert at the same time", rule: exists + " " + concurrent, check: func(p *probe) {
		for round := range 4 {
			var won atomic.Int64
			together(workers, func(i int) {
				r := record(100*round + i)
				r.Name = fmt.Sprint("by ", i)
				if round%2 == 0 {
					r.Hash = record(100 * round).Hash
				} else {
					r.ID = record(100 * round).ID
				}
				switch err := p.keys.Insert(p.ctx, r); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, auth.ErrExists):
					p.errorf("Insert at the same time: got error %v, want one that matches %q", err, auth.ErrExists)
				}
			})
			if n := won.Load(); n != 1 {
				p.errorf("%d calls at the same time inserted a record with one hash or one ID; want 1", n)
			}
			if n := len(p.list("", auth.Position{}, 100)); n != round+1 {
				p.errorf("List returned %d records, want %d", n, round+1)
			}
		}
	}},
	{name: "Replace at the same time", rule: "Replace: " + atMost + " " + onceOnly, check: func(p *probe) {
		for round := range 4 {
			old := record(100 * round)
			p.insert(old)
			var won atomic.Int64
			together(workers, func(i int) {
				switch err := p.keys.Replace(p.ctx, successor(100*round+i+1, old), epoch); {
				case err == nil:
					won.Add(int64(i) + 1 + 1000)
				case !errors.Is(err, auth.ErrSuperseded):
					p.errorf("Replace at the same time: got error %v, want one that matches %q", err, auth.ErrSuperseded)
				}
			})
			if n := won.Load() / 1000; n != 1 {
				p.errorf("%d calls of Replace for one record succeeded at the same time; want 1", n)
				continue
			}
			next := successor(100*round+int(won.Load()%1000), old)
			p.holds(replaced(old, next.ID, epoch), next)
			if n := len(p.list("", auth.Position{}, 1000)); n != 2*(round+1) {
				p.errorf("List returned %d records, want %d", n, 2*(round+1))
			}
		}
	}},
	{name: "Replace by one hash at the same time", rule: takenRule + " " + noChange + " " + concurrent,
		check: func(p *probe) {
			p.insert(records(workers)...)
			var won atomic.Int64
			together(workers, func(i int) {
				next := successor(100+i, record(i))
				next.Hash = record(100).Hash
				switch err := p.keys.Replace(p.ctx, next, epoch); {
				case err == nil:
					won.Add(int64(i) + 1000)
				case !errors.Is(err, auth.ErrExists):
					p.errorf("Replace at the same time: got error %v, want one that matches %q", err, auth.ErrExists)
				}
			})
			if n := won.Load() / 1000; n != 1 {
				p.errorf("%d calls of Replace with one hash succeeded at the same time; want 1", n)
				return
			}
			for i := range workers {
				want := record(i)
				if i == int(won.Load()%1000) {
					want = replaced(want, record(100+i).ID, epoch)
				}
				p.holds(want)
			}
		}},
	{name: "Revoke at the same time", rule: revokes + " " + concurrent, check: func(p *probe) {
		r := record(1)
		p.insert(r)
		times := make([]time.Time, workers) // what each found afterwards
		together(workers, func(i int) {
			p.revoke(r.ID, epoch.Add(time.Duration(i+1)*time.Second))
			got, err := p.keys.Get(p.ctx, r.ID)
			p.ok("Get after Revoke", err)
			times[i] = got.RevokedAt
		})
		for _, t := range times {
			if !t.Equal(times[0]) || t.IsZero() {
				p.errorf("after a Revoke, RevokedAt is at one time %s and %s at another", brief(times[0]), brief(t))
				break
			}
		}
		r.RevokedAt = times[0]
		p.holds(r)
	}},
	{name: "Revoke beside Replace", rule: "Revoke and Replace change only what is theirs. " + concurrent,
		check: func(p *probe) {
			for round := range 8 {
				old, next := record(2*round), record(2*round+1)
				next.Replaces = old.ID
				p.insert(old)
				var err error
				together(2, func(i int) {
					if i == 0 {
						p.revoke(old.ID, epoch)
						return
					}
					err = p.keys.Replace(p.ctx, next, epoch)
				})
				switch {
				case err == nil:
					old = replaced(old, next.ID, epoch)
					p.holds(next)
				case errors.Is(err, auth.ErrKeyRevoked):
					p.lacks(next)
				default:
					p.errorf("Replace beside Revoke: %w", err)
				}
				old.RevokedAt = epoch
				p.holds(old)
			}
		}},
	{name: "Touch beside Revoke and Replace", rule: touchesOnly + " " + concurrent, check: func(p *probe) {
		for i := range workers {
			r, next := record(i), record(100+i)
			next.Replaces = r.ID
			p.insert(r)
			together(3, func(j int) { // all three write the same row
				switch {
				case j > 0:
					p.touch(map[string]time.Time{r.ID: epoch.Add(time.Duration(j) * time.Hour)})
				case i%2 == 0:
					p.revoke(r.ID, epoch)
				default:
					p.replace(next, epoch)
				}
			})
			if i%2 == 0 {
				r.RevokedAt = epoch
			} else {
				r = replaced(r, next.ID, epoch)
				p.holds(next)
			}
			r.LastUsedAt = epoch.Add(2 * time.Hour)
			p.holds(r)
		}
	}},
	{name: "Touch at the same time", rule: touches + " " + concurrent + " So calls with the same IDs, in whatever order, " +
		"do not wait for each other for ever.", check: func(p *probe) {
		const n = 200
		list := records(n)
		p.insert(list[:workers]...)
		together(8, func(i int) {
			for round := range 4 {
				used := make(map[string]time.Time) // of which each call sees another order
				for j := range n {
					if (i+j+round)%3 != 0 || j < workers {
						used[list[(j*(2*i+1))%n].ID] = epoch.Add(time.Duration(i*4+round) * time.Second)
					}
				}
				for _, r := range list[:workers] {
					used[r.ID] = epoch.Add(time.Duration(i*4+round) * time.Second)
				}
				p.touch(used)
			}
		})
		for _, r := range list[:workers] {
			r.LastUsedAt = epoch.Add(31 * time.Second) // the newest of all
			p.holds(r)
		}
	}},
	{name: "Reading beside writing", rule: concurrent + " Replace is one atomic step.", check: func(p *probe) {
		const n = 24
		steady := record(1000)
		p.insert(append(records(n), steady)...)
		var done atomic.Bool
		together(6, func(i int) {
			switch i {
			case 0:
				defer done.Store(true)
				for j := range n {
					switch j % 3 {
					case 0:
						p.replace(successor(100+j, record(j)), epoch)
					case 1:
						p.revoke(record(j).ID, epoch)
					case 2:
						p.insert(record(200 + j))
					}
				}
			case 1:
				for j := 0; !done.Load(); j++ {
					p.touch(map[string]time.Time{steady.ID: epoch.Add(time.Duration(j) * time.Millisecond)})
				}
			default:
				for j := 0; !done.Load(); j++ {
					if i%2 == 0 {
						p.ok("Lookup of a record that nobody changes", p.whole(steady))
					}
					p.ok("reading beside writing", p.whole(record(j%n)))
					if page := p.list("", auth.Position{}, n); len(page) != n {
						p.errorf("List beside writers returned %d records, though there are at least %d", len(page), n)
					}
				}
			}
		})
		for j := range n {
			p.ok("reading after writing", p.whole(record(j)))
		}
	}},
}

// whole returns what is wrong with a record that may have been revoked at epoch, used, or replaced and then been given
// epoch as its expiry.
func (p *probe) whole(want auth.Record) error {
	got, err := p.Lookup(p.ctx, want.Hash)
	if err != nil {
		return err
	}
	want.LastUsedAt = got.LastUsedAt
	if !got.RevokedAt.IsZero() {
		want.RevokedAt = epoch
	}
	if got.ReplacedBy != "" {
		want = replaced(want, got.ReplacedBy, epoch)
		next, err := p.keys.Get(p.ctx, got.ReplacedBy)
		if err != nil {
			return fmt.Errorf("the successor of %s: %w", want.ID, err)
		}
		if next.Replaces != want.ID {
			return fmt.Errorf("%s is replaced by %s, which replaces %q", want.ID, next.ID, next.Replaces)
		}
	}
	return differences(got, want)
}
