package apilogtest

import (
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/insigner/auth/apilog"
)

const (
	concurrent = "The methods of a Store may be called at the same time."
	workers    = 8
)

var concurrencyCases = []storeCase{
	{name: "Append at the same time", rule: appends + " " + concurrent, check: func(p *probe) {
		list := entries(workers*40, nil)
		together(workers, func(i int) {
			for part := range slices.Chunk(list[40*i:40*(i+1)], 10) {
				p.append(part...)
			}
		})
		p.holds(list...)
	}},
	{name: "Append of the same entries at the same time", rule: again + " " + concurrent +
		" Calls with the same entries, in any order, do not wait for each other forever.", check: func(p *probe) {
		const rounds, size = 3, 200
		var all []apilog.Entry
		for range rounds {
			list := entries(size, nil)
			all = append(all, list...)
			together(workers, func(i int) {
				mine := slices.Clone(list)
				if i%2 > 0 {
					slices.Reverse(mine)
				}
				p.append(mine[i:]...)
			})
		}
		p.holds(all...)
	}},
	{name: "Reading while entries are appended", rule: allOrNothing + " " + concurrent, check: func(p *probe) {
		const batches, size = 20, 12
		request := func(i int) string { return fmt.Sprint("request_", i) }
		all := []apilog.Entry{entry(-1)}
		p.append(all...)
		for i := range batches {
			all = append(all, entries(size, func(_ int, e *apilog.Entry) { e.RequestID = request(i) })...)
		}
		var done atomic.Bool
		together(4, func(i int) {
			if i == 0 {
				defer done.Store(true)
				for part := range slices.Chunk(all[1:], size) {
					p.append(part...)
				}
				return
			}
			for j := 0; !done.Load(); j++ {
				q := apilog.Query{RequestID: request(j % batches), From: epoch, To: epoch.Add(time.Hour)}
				var n int64
				if i == 1 {
					buckets, err := p.Histogram(p.ctx, q, time.Hour)
					if p.ok("Histogram while entries are appended", err); len(buckets) == 1 {
						n = buckets[0].Requests
					}
				} else {
					n = int64(len(p.page(q)))
				}
				if n != 0 && n != size {
					p.errorf("while entries are appended: got %d of %d entries of an Append, want all or none", n, size)
				}
				runtime.Gosched() // on one processor, the writer takes turns with the readers
			}
		})
		p.holds(all...)
	}},
	{name: "Delete while entries are appended", rule: ownerRule + " " + concurrent, check: func(p *probe) {
		const rounds, size = 10, 20
		old := entries(rounds*size, func(i int, e *apilog.Entry) { *e = entryAt(epoch.Add(-time.Hour), owned("org_3")) })
		gone := entries(rounds*size, func(_ int, e *apilog.Entry) { e.Owner = "org_2" })
		kept := entries(rounds*size, nil)
		p.append(slices.Concat(old, gone)...)
		var deleted atomic.Int64
		together(6, func(i int) {
			switch i {
			case 0:
				for part := range slices.Chunk(kept, size) {
					p.append(part...)
				}
			case 1, 2, 3:
				n, err := p.DeleteOwner(p.ctx, "org_2")
				p.ok("DeleteOwner while entries are appended", err)
				deleted.Add(n)
			default:
				_, err := p.DeleteBefore(p.ctx, epoch)
				p.ok("DeleteBefore while entries are appended", err)
			}
		})
		if n := deleted.Load(); n != int64(len(gone)) {
			p.errorf("DeleteOwner at the same time: got %d deleted entries in all, want %d", n, len(gone))
		}
		p.holds(kept...)
	}},
}
