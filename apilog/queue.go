package apilog

import (
	"slices"
	"sync"
	"time"
)

const (
	batchSize         = 1000 // entries in one Append
	keysInQueue       = 16   // a key holds at most that part of the queue
	refusalsPerSecond = 20   // of one key
	holdersPerEntry   = 8    // of the queue's size: keys that are remembered
)

// A queue holds the entries that wait to be written, and the counts of those
// that were lost. Its lock is held for short times only.
type queue struct {
	max, share, keyless int

	mu                sync.Mutex
	closed, abandoned bool
	batches           []*batch // oldest first; the last one grows
	free              []*batch // to be used again
	waiting           int      // entries in batches
	size              int      // and those that are being written
	holders           map[who]*holder
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

// A holder is a key that has entries in the queue, or lost some.
type holder struct {
	size   int   // entries in the queue
	second int64 // in which kept were kept, of those that are limited
	kept   int
	lost   int64 // since the last count that was written
}

func newQueue(size, keyless int) *queue {
	return &queue{max: size, share: max(size/keysInQueue, 1), keyless: keyless, holders: make(map[who]*holder)}
}

// add queues an entry and returns its number, or counts it as lost and returns
// 0. It reports whether the entries should be written now.
func (q *queue) add(e *Entry, now time.Time) (number int64, full bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	h := q.holder(who{e.KeyID, e.Owner})
	if q.closed || q.size >= q.max || h.size >= q.share || !h.permits(q.limit(e), now) {
		h.lost++
		q.lost++
		return 0, false
	}
	q.added++
	b := q.last()
	b.entries, b.holders = append(b.entries, *e), append(b.holders, h)
	q.waiting++
	q.size++
	h.size++
	return q.added, q.waiting >= min(batchSize, q.max/2) || h.size >= q.share/2
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
	}
	return h
}

// limit returns how many entries like e are kept in a second, or -1 if all are.
func (q *queue) limit(e *Entry) int {
	switch {
	case e.KeyID == "" && e.Owner == "":
		return q.keyless
	case e.Code != "":
		return refusalsPerSecond
	}
	return -1
}

func (h *holder) permits(limit int, now time.Time) bool {
	if limit < 0 {
		return true
	}
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
		h.size--
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
			delete(q.holders, w)
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
	q.batches, q.free, q.holders = nil, nil, make(map[who]*holder)
	q.waiting, q.size, q.counting = 0, 0, 0
	return lost
}

func (q *queue) dropped() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lost
}
