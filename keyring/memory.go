package keyring

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/insigner/auth"
)

const (
	maxEvents = 100_000 // that a MemoryStore keeps for certain
	chunkSize = 512     // entries in a chunk of an index
	batchSize = 4096    // records that List looks at under one lock
)

// A MemoryStore keeps records in memory: for tests, and for keys that are read
// from a file at startup. It is a [Store] and an [auth.Watcher]. The zero value
// is empty and ready. It must not be copied after first use.
//
// A lookup takes no lock, so it waits for no other call. The newest 100,000
// events are kept, and perhaps some more.
type MemoryStore struct {
	table atomic.Pointer[memoryTable]

	mu       sync.RWMutex // guards writes to the table, and what follows
	byID     map[string]*memoryEntry
	all      memoryIndex
	owners   map[string]*memoryIndex
	events   []*Event // oldest first; they share their records with the table
	dropped  int64    // events that were dropped
	watchers map[*func(auth.Change)]struct{}
}

// A memoryEntry holds the current record of a key. A record is never modified,
// only replaced. It is two pointers away from a MemoryStore, and so are those
// of an Event: package fmt follows one, even for an unexported field.
type memoryEntry struct{ record *auth.Record }

// Lookup implements [auth.Store].
func (m *MemoryStore) Lookup(_ context.Context, hash auth.Hash) (*auth.Record, error) {
	if t := m.table.Load(); t != nil {
		if r := t.find(&hash); r != nil {
			return r, nil
		}
	}
	return nil, auth.ErrNotFound
}

// Insert implements [Store].
func (m *MemoryStore) Insert(_ context.Context, r *auth.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.canAdd(r); err != nil {
		return err
	}
	m.add(r.Clone())
	m.report(r.Hash)
	return nil
}

// canAdd returns an error if r cannot be added. The caller holds m.mu.
func (m *MemoryStore) canAdd(r *auth.Record) error {
	if r.ID == "" {
		return errors.New("keyring: the record to insert has no ID")
	}
	if m.byID[r.ID] != nil {
		return ErrExists
	}
	if t := m.table.Load(); t != nil && t.find(&r.Hash) != nil {
		return ErrExists
	}
	return nil
}

// add adds r, which is not modified from now on. The caller holds m.mu.
func (m *MemoryStore) add(r *auth.Record) {
	if m.byID == nil {
		m.byID = make(map[string]*memoryEntry)
		m.owners = make(map[string]*memoryIndex)
	}
	e := &memoryEntry{r}
	m.table.Store(m.table.Load().withRoom(len(m.byID)))
	m.table.Load().put(r)
	m.byID[r.ID] = e
	m.all.insert(e)
	if m.owners[r.Owner] == nil {
		m.owners[r.Owner] = new(memoryIndex)
	}
	m.owners[r.Owner].insert(e)
	m.note(eventOf(nil, r, r.CreatedBy, r.CreatedAt))
}

// replace makes r the record of e. The caller holds m.mu.
func (m *MemoryStore) replace(e *memoryEntry, r *auth.Record) {
	e.record = r
	m.table.Load().put(r)
}

// Get implements [Store].
func (m *MemoryStore) Get(_ context.Context, id string) (*auth.Record, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if e := m.byID[id]; e != nil {
		return e.record.Clone(), nil
	}
	return nil, auth.ErrNotFound
}

// List implements [Store].
func (m *MemoryStore) List(ctx context.Context, q Query) ([]*auth.Record, error) {
	if q.Limit < 1 {
		return nil, fmt.Errorf("keyring: list with the limit %d", q.Limit)
	}
	q.Text = strings.ToLower(q.Text)
	var page []*auth.Record
	for n := min(q.Limit, batchSize); ; n = min(2*n, batchSize) {
		batch := m.batch(&q, n)
		for _, r := range batch {
			if !q.Matches(r) {
				continue
			}
			if page = append(page, r.Clone()); len(page) == q.Limit {
				return page, nil
			}
		}
		if len(batch) < n {
			return page, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		q.After = PositionOf(batch[n-1])
	}
}

// batch returns n records, or what there is, that follow q.After.
func (m *MemoryStore) batch(q *Query, n int) []*auth.Record {
	m.mu.RLock()
	defer m.mu.RUnlock()
	x := &m.all
	if q.Owner != "" {
		if x = m.owners[q.Owner]; x == nil {
			return nil
		}
	}
	if q.NewestFirst {
		return x.before(q.After, n)
	}
	return x.after(q.After, n)
}

// Update implements [Store].
func (m *MemoryStore) Update(_ context.Context, r, successor *auth.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.byID[r.ID]
	if e == nil {
		return auth.ErrNotFound
	}
	old := e.record
	if old.Revision != r.Revision-1 {
		return ErrConflict
	}
	if successor != nil {
		if err := m.canAdd(successor); err != nil {
			return err
		}
	}
	changed := r.Clone()
	changed.Hash, changed.Owner = old.Hash, old.Owner
	changed.CreatedAt, changed.CreatedBy = old.CreatedAt, old.CreatedBy
	changed.LastUsedAt = old.LastUsedAt
	// A lookup that finds the successor finds the old record changed.
	m.replace(e, changed)
	m.note(eventOf(old, changed, changed.UpdatedBy, changed.UpdatedAt))
	if successor == nil {
		m.report(old.Hash)
		return nil
	}
	m.add(successor.Clone())
	m.report(old.Hash, successor.Hash)
	return nil
}

// Delete implements [Store].
func (m *MemoryStore) Delete(_ context.Context, id, by string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.byID[id]
	if e == nil {
		return auth.ErrNotFound
	}
	r := e.record
	m.table.Load().remove(&r.Hash)
	delete(m.byID, id)
	m.all.remove(e)
	owner := m.owners[r.Owner]
	if owner.remove(e); len(owner.chunks) == 0 {
		delete(m.owners, r.Owner)
	}
	m.note(eventOf(r, nil, by, timestamp(time.Now())))
	m.report(r.Hash)
	return nil
}

// Touch implements [Store].
func (m *MemoryStore) Touch(_ context.Context, lastUsed map[string]time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, at := range lastUsed {
		e := m.byID[id]
		if e == nil || !at.Round(0).After(e.record.LastUsedAt) {
			continue
		}
		touched := *e.record
		touched.LastUsedAt = at.Round(0)
		m.replace(e, &touched)
	}
	return nil
}

// Events implements [Store].
func (m *MemoryStore) Events(_ context.Context, q EventQuery) ([]Event, error) {
	if q.Limit < 1 {
		return nil, fmt.Errorf("keyring: list events with the limit %d", q.Limit)
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	end := len(m.events)
	if q.After != "" {
		n, err := strconv.ParseInt(q.After, 10, 64)
		if err != nil || n < 1 || n > m.dropped+int64(end) || eventID(n) != q.After {
			return nil, auth.ErrNotFound
		}
		if n <= m.dropped && q.Owner != "" {
			return nil, auth.ErrNotFound // whose it was is not known
		}
		if n <= m.dropped {
			return nil, nil // nothing older is kept
		}
		end = int(n - m.dropped - 1)
		if q.Owner != "" && m.events[end].Owner != q.Owner {
			return nil, auth.ErrNotFound
		}
	}
	var page []Event
	for i := end - 1; i >= 0 && len(page) < q.Limit; i-- {
		if q.matches(m.events[i]) {
			e := *m.events[i]
			e.Before, e.After = cloned(e.Before), cloned(e.After)
			page = append(page, e)
		}
	}
	return page, nil
}

// note keeps e, unless nothing changed. The caller holds m.mu.
func (m *MemoryStore) note(e Event) {
	if e.Kind == "" {
		return
	}
	if len(m.events) == 2*maxEvents {
		m.events = slices.Clone(m.events[maxEvents:])
		m.dropped += maxEvents
	}
	e.ID = eventID(m.dropped + int64(len(m.events)) + 1)
	m.events = append(m.events, &e)
}

// eventID returns the ID of the event with that number, from 1.
func eventID(n int64) string { return strconv.FormatInt(n, 10) }

// Watch implements [auth.Watcher].
func (m *MemoryStore) Watch(ctx context.Context, notify func(auth.Change)) error {
	defer m.unwatch(&notify)
	m.watch(&notify)
	<-ctx.Done()
	return ctx.Err()
}

func (m *MemoryStore) watch(notify *func(auth.Change)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watchers == nil {
		m.watchers = make(map[*func(auth.Change)]struct{})
	}
	m.watchers[notify] = struct{}{}
	(*notify)(auth.Change{Kind: auth.WatchStarted})
}

func (m *MemoryStore) unwatch(notify *func(auth.Change)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer delete(m.watchers, notify)
	(*notify)(auth.Change{Kind: auth.WatchLost}) // before a change is missed
}

// report tells the watchers, after everything is changed. The caller holds
// m.mu.
func (m *MemoryStore) report(hashes ...auth.Hash) {
	for notify := range m.watchers {
		for _, hash := range hashes {
			(*notify)(auth.Change{Kind: auth.RecordChanged, Hash: hash})
		}
	}
}

// Format writes how many keys there are, for every verb. Package fmt would
// otherwise print everything.
func (m *MemoryStore) Format(f fmt.State, verb rune) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	fmt.Fprintf(f, "keyring.MemoryStore(%d)", len(m.byID))
}

// A memoryTable finds a record by its hash. It is a hash table with linear
// probing, whose readers take no lock: a writer only ever replaces the pointer
// in a slot, or makes a new table. At most half of the slots are in use, so
// every search ends at an empty one.
type memoryTable struct {
	seed  maphash.Seed                  // so that nobody can choose hashes that collide
	slots []atomic.Pointer[auth.Record] // their number is a power of two
	used  int                           // slots that are not nil; for writers
}

// removed stands in the slot of a record that was deleted, so that searches for
// others do not end there.
var removed = new(auth.Record)

// find returns the record with that hash, or nil.
func (t *memoryTable) find(hash *auth.Hash) *auth.Record {
	for i := maphash.Bytes(t.seed, hash[:]); ; i++ {
		r := t.slots[i&uint64(len(t.slots)-1)].Load()
		if r == nil || r.Hash == *hash && r != removed {
			return r
		}
	}
}

// put makes r the record with its hash.
func (t *memoryTable) put(r *auth.Record) {
	var free *atomic.Pointer[auth.Record]
	for i := maphash.Bytes(t.seed, r.Hash[:]); ; i++ {
		slot := &t.slots[i&uint64(len(t.slots)-1)]
		switch old := slot.Load(); {
		case old == nil:
			if free == nil {
				free = slot
				t.used++
			}
			free.Store(r)
			return
		case old == removed:
			if free == nil {
				free = slot
			}
		case old.Hash == r.Hash:
			slot.Store(r)
			return
		}
	}
}

// remove removes the record with that hash, which is there.
func (t *memoryTable) remove(hash *auth.Hash) {
	for i := maphash.Bytes(t.seed, hash[:]); ; i++ {
		slot := &t.slots[i&uint64(len(t.slots)-1)]
		if r := slot.Load(); r != removed && r.Hash == *hash {
			slot.Store(removed)
			return
		}
	}
}

// withRoom returns a table that holds the n records of t, which may be nil, and
// has room for one more.
func (t *memoryTable) withRoom(n int) *memoryTable {
	if t != nil && 2*(t.used+1) <= len(t.slots) {
		return t
	}
	size := 16
	for 3*size < 8*(n+1) { // leaves an eighth to fill before the next time
		size *= 2
	}
	bigger := &memoryTable{seed: maphash.MakeSeed(), slots: make([]atomic.Pointer[auth.Record], size)}
	if t != nil {
		for i := range t.slots {
			if r := t.slots[i].Load(); r != nil && r != removed {
				bigger.put(r)
			}
		}
	}
	return bigger
}

// A memoryIndex holds entries in the order of their positions. They are in
// chunks, so that an insertion anywhere moves only a few of them.
type memoryIndex struct{ chunks [][]*memoryEntry } // none is empty

// search returns where the first entry is that is not before p, and whether it
// is at p.
func (x *memoryIndex) search(p Position) (chunk, i int, found bool) {
	chunk, _ = slices.BinarySearchFunc(x.chunks, p, func(c []*memoryEntry, p Position) int {
		return c[len(c)-1].compare(p)
	})
	if chunk < len(x.chunks) {
		i, found = slices.BinarySearchFunc(x.chunks[chunk], p, (*memoryEntry).compare)
	}
	return chunk, i, found
}

func (e *memoryEntry) compare(p Position) int { return PositionOf(e.record).compare(p) }

func (x *memoryIndex) insert(e *memoryEntry) {
	chunk, i, _ := x.search(PositionOf(e.record))
	if last := len(x.chunks) - 1; chunk > last { // e is the newest
		if last < 0 || len(x.chunks[last]) == chunkSize {
			x.chunks = append(x.chunks, []*memoryEntry{e})
		} else {
			x.chunks[last] = append(x.chunks[last], e)
		}
		return
	}
	c := slices.Insert(x.chunks[chunk], i, e)
	if len(c) > chunkSize {
		half := len(c) / 2
		x.chunks = slices.Insert(x.chunks, chunk+1, slices.Clone(c[half:]))
		clear(c[half:])
		c = c[:half]
	}
	x.chunks[chunk] = c
}

// remove removes e, which is there.
func (x *memoryIndex) remove(e *memoryEntry) {
	chunk, i, _ := x.search(PositionOf(e.record))
	if x.chunks[chunk] = slices.Delete(x.chunks[chunk], i, i+1); len(x.chunks[chunk]) == 0 {
		x.chunks = slices.Delete(x.chunks, chunk, chunk+1)
	}
}

// after returns the first n records after p, oldest first. If p is zero, it
// starts with the oldest.
func (x *memoryIndex) after(p Position, n int) []*auth.Record {
	var chunk, i int
	if !p.IsZero() {
		var found bool
		if chunk, i, found = x.search(p); found {
			i++
		}
	}
	var records []*auth.Record
	for ; chunk < len(x.chunks); chunk, i = chunk+1, 0 {
		for _, e := range x.chunks[chunk][i:] {
			if records = append(records, e.record); len(records) == n {
				return records
			}
		}
	}
	return records
}

// before returns the last n records before p, newest first. If p is zero, it
// starts with the newest.
func (x *memoryIndex) before(p Position, n int) []*auth.Record {
	chunk, i := len(x.chunks), 0
	if !p.IsZero() {
		chunk, i, _ = x.search(p)
	}
	var records []*auth.Record
	for {
		if i == 0 {
			if chunk == 0 {
				return records
			}
			chunk--
			i = len(x.chunks[chunk])
		}
		i--
		if records = append(records, x.chunks[chunk][i].record); len(records) == n {
			return records
		}
	}
}
