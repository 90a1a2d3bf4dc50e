package apilog

import (
	"slices"
	"sync"
	"time"
)

const (
	batchSize         = 1000 // entries in one Append
	keysInQueue       = 16   // a key holds at most that part of the queue
	ownersInQueue     = 8    // an owner holds at most that part of the queue, with all keys
	refusalsPerSecond = 20   // of one key
	refusalsOfOwner   = 100  // a second, of all keys of one owner
	holdersPerEntry   = 8    // of the queue's size: keys that are remembered
)

// A queue holds the entries that wait to be written, and the counts of those
// that were lost. Its lock is held for short times only.
type queue struct {
	max, share, ownerShare, keyless int

	mu                sync.Mutex
	closed, abandoned bool
	batches           []*batch // oldest first; the last one grows
	free              []*batch // to be used again
	waiting           int      // entries in batches
	size              int      // and those that are being written
	holders           map[who]*holder
	owners            map[string]*holder
	added             int64  // entries in all
	lost              uint64 // in all
	counting          int64  // lost ones whose counts are being written
}

// A batch is what one Append gets.
type batch struct {
	first   int64 // number of the first entry
	entries []Entry
	holders []*holder // of entries
}

// Who is a key, or all requests without one.
type who struct{ keyID, owner string }

// A holder is a key that has entries in the queue, or lost some, or an owner of
// such keys.
type holder struct {
	owner *holder // of a key that has one
	keys  int     // of an owner: how many holders have it

	size   int   // entries in the queue
	second int64 // in which kept were kept, of those that are limited
	kept   int
	lost   int64 // since the last count that was written
}

func newQueue(size, keyless int) *queue {
	return &queue{
		max:        size,
		share:      max(size/keysInQueue, 1),
		ownerShare: max(size/ownersInQueue, 1),
		keyless:    keyless,
		holders:    make(map[who]*holder),
		owners:     make(map[string]*holder),
	}
}

// add queues an entry and returns its number, or counts it as lost and returns
// 0. It reports whether the entries should be written now.
func (q *queue) add(e *Entry, now time.Time) (number int64, full bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	h := q.holder(who{e.KeyID, e.Owner})
	if q.closed || q.size >= q.max || !q.hasRoom(h) || !q.permits(h, e, now) {
		h.lost++
		q.lost++
		return 0, false
	}
	q.added++
	b := q.last()
	b.entries, b.holders = append(b.entries, *e), append(b.holders, h)
	q.waiting++
	q.size++
	h.hold(1)
	full = q.waiting >= min(batchSize, q.max/2) || h.size >= q.share/2 || h.owner != nil && h.owner.size >= q.ownerShare/2
	return q.added, full
}

// hasRoom reports whether a key and its owner may hold one more entry. Nobody
// fills the queue alone, whether with one key or with many.
func (q *queue) hasRoom(h *holder) bool {
	return h.size < q.share && (h.owner == nil || h.owner.size < q.ownerShare)
}

// permits reports whether an entry is within the limit of a second.
func (q *queue) permits(h *holder, e *Entry, now time.Time) bool {
	switch {
	case e.KeyID == "" && e.Owner == "":
		return h.within(q.keyless, now)
	case e.Code != "":
		return h.within(refusalsPerSecond, now) && (h.owner == nil || h.owner.within(refusalsOfOwner, now))
	}
	return true
}

// hold counts n more entries of a key and its owner.
func (h *holder) hold(n int) {
	h.size += n
	if h.owner != nil {
		h.owner.size += n
	}
}

// amend sets the code of the entry with that number, if it still waits.
func (q *queue) amend(number int64, code string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, b := range q.batches {
		if i := number - b.first; i >= 0 && i < int64(len(b.entries)) {
			b.entries[i].Code = code
		}
	}
}

// last returns a batch with room for the entry that was just counted as added.
func (q *queue) last() *batch {
	if n := len(q.batches); n > 0 && len(q.batches[n-1].entries) < batchSize {
		return q.batches[n-1]
	}
	b := new(batch)
	if n := len(q.free); n > 0 {
		b, q.free = q.free[n-1], q.free[:n-1]
	}
	b.first = q.added
	q.batches = append(q.batches, b)
	return b
}

// holder returns that of a key. If there are too many already, all further keys
// share one.
func (q *queue) holder(w who) *holder {
	h := q.holders[w]
	if h == nil && len(q.holders) >= holdersPerEntry*q.max {
		w = who{}
		h = q.holders[w]
	}
	if h == nil {
		h = new(holder)
		q.holders[w] = h
		if w.owner != "" {
			if h.owner = q.owners[w.owner]; h.owner == nil {
				h.owner = new(holder)
				q.owners[w.owner] = h.owner
			}
			h.owner.keys++
		}
	}
	return h
}

// forget removes a key that has nothing in the queue, and its owner with the
// last one.
func (q *queue) forget(w who, h *holder) {
	delete(q.holders, w)
	if h.owner != nil {
		if h.owner.keys--; h.owner.keys == 0 {
			delete(q.owners, w.owner)
		}
	}
}

// within reports whether the second of now has room for one more, and counts it.
func (h *holder) within(limit int, now time.Time) bool {
	if second := now.Unix(); second != h.second {
		h.second, h.kept = second, 0
	}
	if h.kept >= limit {
		return false
	}
	h.kept++
	return true
}

// waits returns how many batches wait.
func (q *queue) waits() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.batches)
}

// take returns the oldest batch, or nil. Its entries count until done.
func (q *queue) take() *batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.batches) == 0 {
		return nil
	}
	b := q.batches[0]
	q.batches = slices.Delete(q.batches, 0, 1)
	q.waiting -= len(b.entries)
	return b
}

// done removes a batch of take, of which some entries could not be written.
func (q *queue) done(b *batch, failed []Entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.abandoned {
		return
	}
	q.size -= len(b.entries)
	for _, h := range b.holders {
		h.hold(-1)
	}
	for i := range failed {
		q.holder(who{failed[i].KeyID, failed[i].Owner}).lost++
		q.lost++
	}
	clear(b.entries)
	clear(b.holders)
	b.entries, b.holders = b.entries[:0], b.holders[:0]
	q.free = append(q.free, b)
}

// takeLost returns an entry for each key of which some were lost, and forgets
// the keys that have nothing in the queue. The counts are those of the queue
// until counted.
func (q *queue) takeLost(now time.Time) []Entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	var counts []Entry
	for w, h := range q.holders {
		if h.lost > 0 {
			counts = append(counts, Entry{
				Time: now.Round(0).UTC().Truncate(time.Microsecond), KeyID: w.keyID, Owner: w.owner, Lost: h.lost,
			})
			q.counting += h.lost
			h.lost = 0
		} else if h.size == 0 && h.second != now.Unix() {
			q.forget(w, h)
		}
	}
	return counts
}

// counted removes counts of takeLost that stand for so many lost entries, but
// for those that could not be written.
func (q *queue) counted(lost int64, failed []Entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.abandoned {
		return
	}
	q.counting -= lost
	for i := range failed {
		q.holder(who{failed[i].KeyID, failed[i].Owner}).lost += failed[i].Lost
	}
}

// close makes every later entry a lost one. It returns how many were lost so far.
func (q *queue) close() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	return q.lost
}

// abandon counts all that is in the queue as lost, and returns how many
// entries were lost and are in no count that was written.
func (q *queue) abandon() (lost int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost += uint64(q.size)
	lost = int64(q.size) + q.counting
	for _, h := range q.holders {
		lost += h.lost
	}
	q.abandoned = true
	q.batches, q.free, q.holders, q.owners = nil, nil, make(map[who]*holder), make(map[string]*holder)
	q.waiting, q.size, q.counting = 0, 0, 0
	return lost
}

func (q *queue) dropped() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lost
}
