package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Record is what a [Store] knows of a key; never the key itself.
//
// Its JSON has camelCase members and leaves the Hash out, so that an API that answers with a Record discloses none;
// [Record.String] and slog leave it out too.
type Record struct {
	ID         string            `json:"id"` // public identifier: safe in logs and URLs
	Hash       Hash              `json:"-"`
	Hint       string            `json:"hint"` // "isk_…U1v2", see Key.Hint
	Name       string            `json:"name"`
	Owner      string            `json:"owner,omitempty"` // organization or account the key acts for
	Scopes     Scopes            `json:"scopes"`
	CreatedAt  time.Time         `json:"createdAt"`
	ExpiresAt  time.Time         `json:"expiresAt,omitzero"`   // zero: never
	RevokedAt  time.Time         `json:"revokedAt,omitzero"`   // zero: not revoked
	LastUsedAt time.Time         `json:"lastUsedAt,omitzero"`  // zero: never seen
	CreatedBy  string            `json:"createdBy,omitempty"`  // who made it, as the host says
	Replaces   string            `json:"replaces,omitempty"`   // ID of the key that this one was rotated from
	ReplacedBy string            `json:"replacedBy,omitempty"` // ID of its successor, once rotated
	Metadata   map[string]string `json:"metadata,omitempty"`
}

// Check returns [ErrKeyRevoked] if RevokedAt is set, whatever its time; [ErrKeyExpired] if ExpiresAt is set and not
// later than now; and nil otherwise. It compares wall clocks, whatever zone or monotonic reading the times carry.
func (r Record) Check(now time.Time) error { return r.check(now) }

func (r *Record) check(now time.Time) error {
	if !r.RevokedAt.IsZero() {
		return ErrKeyRevoked
	}
	// Round(0) strips the monotonic reading: a laptop's sleep does not stop the calendar.
	if !r.ExpiresAt.IsZero() && !r.ExpiresAt.Round(0).After(now) {
		return ErrKeyExpired
	}
	return nil
}

// String returns the ID and the Hint.
func (r Record) String() string { return r.ID + " (" + r.Hint + ")" }

// Format writes what String does, whatever the verb but %p and %T: a numeric one would show the Hash as numbers.
func (r Record) Format(f fmt.State, verb rune) { io.WriteString(f, r.String()) }

// LogValue returns the ID, the Hint, the Name and the Owner.
func (r Record) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", r.ID), slog.String("hint", r.Hint),
		slog.String("name", r.Name), slog.String("owner", r.Owner))
}

// handOut returns a clone whose Scopes are not nil: a nil Ceiling is none, and who may do nothing passes on nothing.
func (r *Record) handOut() Record {
	c := r.clone()
	if c.Scopes == nil {
		c.Scopes = Scopes{}
	}
	return c
}

// clone returns a copy that shares no memory with r that could be changed.
func (r *Record) clone() Record {
	c := *r
	c.Scopes = slices.Clone(r.Scopes)
	c.Metadata = maps.Clone(r.Metadata)
	return c
}

// A Snapshot is a Record that nobody can change: cheap to pass on, safe to share between requests. The zero
// Snapshot holds the zero Record.
type Snapshot struct{ record *Record }

// NewSnapshot takes a copy of r.
func NewSnapshot(r Record) Snapshot {
	c := r.clone()
	return Snapshot{&c}
}

// Format writes what [Record.String] does, whatever the verb but %p and %T.
func (s Snapshot) Format(f fmt.State, verb rune) { io.WriteString(f, s.Record().String()) }

// Record returns a copy, the caller's to change.
func (s Snapshot) Record() Record {
	if s.record == nil {
		return Record{}
	}
	return s.record.clone()
}

// A Store resolves the hash of a presented key. It is all that an [Authenticator] needs. Its methods must be safe
// for concurrent use.
type Store interface {
	// Lookup returns the record whose Hash is hash, revoked and expired ones too. If there is none the error matches
	// [ErrNotFound]; any other error means that the answer is unknown. It must not return a record that a later
	// call changes; the caller does not change it either. It returns soon after ctx is done.
	Lookup(ctx context.Context, hash Hash) (Record, error)
}

// A SnapshotStore is a Store that can share its records instead of copying them. An [Authenticator] whose store is
// one uses it; the answers must be those of Lookup. A store that makes each Record anew has no use for it.
type SnapshotStore interface {
	Store
	LookupSnapshot(ctx context.Context, hash Hash) (Snapshot, error)

	// Snapshots returns the store itself. It is what tells a SnapshotStore from a type that embeds one and has a Lookup
	// of its own: there it returns the store inside, and LookupSnapshot, which knows nothing of that Lookup, is not used.
	Snapshots() Store
}

// snapshotsOf returns store as a SnapshotStore, or nil if it is none.
func snapshotsOf(store Store) SnapshotStore {
	if s, ok := store.(SnapshotStore); ok && s.Snapshots() == store {
		return s
	}
	return nil
}

// A KeyStore is a Store that a [Keyring] can manage. It keeps what it is given and decides nothing: whether a key is
// revoked or expired is [Record.Check]'s to say. Times must survive with microseconds at least; the zone need not.
// Neither what is passed in nor what is returned shares memory with the store that either side could change. A method
// that returns an error has changed nothing, or cannot know (a lost connection).
//
// Package authtest has a test suite for implementations.
type KeyStore interface {
	Store

	// Insert adds a record. If there is one with its ID or its Hash already, the error matches [ErrExists]. A record
	// without an ID is an error.
	Insert(ctx context.Context, r Record) error

	// Get returns the record with that ID, or an error that matches [ErrNotFound].
	Get(ctx context.Context, id string) (Record, error)

	// List returns at most limit records in ascending order of CreatedAt, then of ID (byte by byte), beginning behind
	// the position after; a zero Position is the beginning. An owner that is not empty leaves only that owner's.
	// A limit below 1 is an error. No record need stand at the position.
	List(ctx context.Context, owner string, after Position, limit int) ([]Record, error)

	// Revoke sets RevokedAt to at, unless it is set already: the first revocation stands, and the second is no error.
	// If there is no record with that ID the error matches [ErrNotFound]. A zero at, which would revoke nothing, is
	// an error.
	Revoke(ctx context.Context, id string, at time.Time) error

	// Replace, in one atomic step, inserts successor and gives the record with the ID successor.Replaces its
	// ReplacedBy (the successor's ID) and its ExpiresAt, which becomes expires if it was zero or later than that.
	// If that record is not there the error matches [ErrNotFound]; if it is revoked, [ErrKeyRevoked]; if its
	// ReplacedBy is set, [ErrSuperseded]; if the successor's ID or Hash is taken, [ErrExists]. They are looked at
	// in this order, and on an error nothing has changed. Of many calls for one record exactly one succeeds. An
	// expired record can be replaced. A zero expires, which would mean never, and a successor without an ID are errors.
	Replace(ctx context.Context, successor Record, expires time.Time) error

	// Touch sets LastUsedAt of each record, by ID, to the time given if that is later than what it holds. It changes
	// nothing else, and passes over IDs that it does not know. The map may be empty or nil, and of any size.
	Touch(ctx context.Context, lastUsed map[string]time.Time) error
}

// A Position is a place in a list of records ordered by CreatedAt, then ID: that of the last record seen.
type Position struct {
	CreatedAt time.Time
	ID        string
}

func (p Position) compare(q Position) int {
	return cmp.Or(p.CreatedAt.Compare(q.CreatedAt), cmp.Compare(p.ID, q.ID))
}

// A Watcher is a Store that reports which records changed, so that a cache in front of it can forget them.
type Watcher interface {
	Store

	// Watch calls notify with what happens, first of all [ChangesSeen], until ctx is done, and then returns ctx's error;
	// it returns earlier only if watching is impossible. It reconnects by itself. Between a [ChangesSeen] and the next [ChangesLost] every
	// change that decides a request (revocation, expiry, scopes, hash, owner, insertion, deletion, not last use) is
	// reported after it is committed, and one made through this very Store before the call that made it returns.
	// Any number of calls may watch. notify is called from several goroutines at once, perhaps in the middle of a
	// change: it must return soon, and must not call the Store.
	Watch(ctx context.Context, notify func(Change)) error
}

// A Change is what a [Watcher] reports.
type Change struct {
	Kind ChangeKind
	Hash Hash `json:"-"` // of the record, for RecordChanged
}

// String returns the Kind. The Hash stays out of logs.
func (c Change) String() string { return c.Kind.String() }

// Format writes what String does, whatever the verb but %p and %T.
func (c Change) Format(f fmt.State, verb rune) { io.WriteString(f, c.String()) }

// LogValue returns the Kind and the first digits of the Hash.
func (c Change) LogValue() slog.Value {
	return slog.GroupValue(slog.String("kind", c.Kind.String()), slog.Any("hash", c.Hash.LogValue()))
}

// A ChangeKind says what a [Change] is about.
type ChangeKind int

const (
	// RecordChanged: the record with that hash was inserted, changed or deleted. What was read before may be wrong.
	RecordChanged ChangeKind = iota + 1
	// ChangesSeen: from now on changes are reported. What was read before may be wrong.
	ChangesSeen
	// ChangesLost: from now on changes are not reported, until the next ChangesSeen.
	ChangesLost
)

// String returns the name of k.
func (k ChangeKind) String() string {
	switch k {
	case RecordChanged:
		return "RecordChanged"
	case ChangesSeen:
		return "ChangesSeen"
	case ChangesLost:
		return "ChangesLost"
	}
	return fmt.Sprintf("ChangeKind(%d)", int(k))
}

// A MemoryStore keeps records in memory: for tests, and for keys that are read from a file at start-up. It is a
// [KeyStore], a [SnapshotStore] and a [Watcher]. The zero value is empty and ready; it must not be copied after
// first use. Records are never removed. Look-ups take no lock, so none waits for a writer.
type MemoryStore struct {
	table atomic.Pointer[memoryTable]

	mu       sync.Mutex             // guards writes to the table, and what follows
	byID     map[string]func() Hash // the key of each record in the table; of a func, fmt shows but an address
	order    []Position             // of every record
	ordered  int                    // how many of them, from the start, are ascending; the rest came out of order
	watchers map[*func(Change)]struct{}
}

// A memoryTable is a hash table with linear probing whose readers take no lock. Its records are never changed, only
// replaced; a slot in use stays in use. At most half of the slots are, so every probe ends.
type memoryTable struct {
	seed  maphash.Seed             // so that nobody can choose hashes that collide
	slots []atomic.Pointer[Record] // their number is a power of two
}

// slot returns where the record with that hash is, and the record, or else the empty slot where it would go, and nil.
// A reader must not load the slot again: by then a writer may have put another record into an empty one.
func (t *memoryTable) slot(hash *Hash) (*atomic.Pointer[Record], *Record) {
	for i := maphash.Bytes(t.seed, hash[:]); ; i++ {
		s := &t.slots[i&uint64(len(t.slots)-1)]
		if r := s.Load(); r == nil || r.Hash == *hash {
			return s, r
		}
	}
}

// grown returns a table that holds what t does and has room for n records.
func (t *memoryTable) grown(n int) *memoryTable {
	size := 16
	for size < 2*n {
		size *= 2
	}
	if t != nil && len(t.slots) >= size {
		return t
	}
	bigger := &memoryTable{seed: maphash.MakeSeed(), slots: make([]atomic.Pointer[Record], size)}
	if t != nil {
		for i := range t.slots {
			if r := t.slots[i].Load(); r != nil {
				s, _ := bigger.slot(&r.Hash)
				s.Store(r)
			}
		}
	}
	return bigger
}

// find returns the record with that hash, or nil. The record must not be changed.
func (m *MemoryStore) find(hash *Hash) *Record {
	t := m.table.Load()
	if t == nil {
		return nil
	}
	_, r := t.slot(hash)
	return r
}

// Lookup implements [Store].
func (m *MemoryStore) Lookup(ctx context.Context, hash Hash) (Record, error) {
	s, err := m.LookupSnapshot(ctx, hash)
	return s.Record(), err
}

// LookupSnapshot implements [SnapshotStore].
func (m *MemoryStore) LookupSnapshot(_ context.Context, hash Hash) (Snapshot, error) {
	r := m.find(&hash)
	if r == nil {
		return Snapshot{}, ErrNotFound
	}
	return Snapshot{r}, nil
}

// Snapshots implements [SnapshotStore].
func (m *MemoryStore) Snapshots() Store { return m }

// Format writes how many keys there are, whatever the verb: fmt would print their hashes.
func (m *MemoryStore) Format(f fmt.State, verb rune) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fmt.Fprintf(f, "auth.MemoryStore(%d)", len(m.byID))
}

// Insert implements [KeyStore].
func (m *MemoryStore) Insert(_ context.Context, r Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.canAdd(&r); err != nil {
		return err
	}
	m.add(r)
	m.report(r.Hash)
	return nil
}

// canAdd says why r cannot be added, or nil; the caller holds m.mu.
func (m *MemoryStore) canAdd(r *Record) error {
	if r.ID == "" {
		return errors.New("auth: insert a record without an ID")
	}
	if _, taken := m.byID[r.ID]; taken || m.find(&r.Hash) != nil {
		return ErrExists
	}
	return nil
}

// add adds a copy of r; the caller holds m.mu.
func (m *MemoryStore) add(r Record) {
	if m.byID == nil {
		m.byID = make(map[string]func() Hash)
	}
	hash := r.Hash
	m.byID[r.ID] = func() Hash { return hash }
	p := Position{r.CreatedAt.Round(0), r.ID} // by the wall clock, as Check does
	if n := len(m.order); m.ordered == n && (n == 0 || m.order[n-1].compare(p) < 0) {
		m.ordered++
	}
	m.order = append(m.order, p)
	m.table.Store(m.table.Load().grown(len(m.byID)))
	m.put(r.clone())
}

// put makes r, which nobody else may change, the record with its hash; the caller holds m.mu.
func (m *MemoryStore) put(r Record) {
	s, _ := m.table.Load().slot(&r.Hash)
	s.Store(&r)
}

// report tells the watchers, once all is as it shall be; the caller holds m.mu.
func (m *MemoryStore) report(hashes ...Hash) {
	for notify := range m.watchers {
		for _, hash := range hashes {
			(*notify)(Change{RecordChanged, hash})
		}
	}
}

// get returns the record with that ID, or nil; the caller holds m.mu. The record must not be changed.
func (m *MemoryStore) get(id string) *Record {
	if f := m.byID[id]; f != nil {
		hash := f()
		return m.find(&hash)
	}
	return nil
}

// Get implements [KeyStore].
func (m *MemoryStore) Get(_ context.Context, id string) (Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.get(id); r != nil {
		return r.clone(), nil
	}
	return Record{}, ErrNotFound
}

// List implements [KeyStore].
func (m *MemoryStore) List(_ context.Context, owner string, after Position, limit int) ([]Record, error) {
	if limit < 1 {
		return nil, fmt.Errorf("auth: list with limit %d", limit)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ordered < len(m.order) {
		slices.SortFunc(m.order, Position.compare)
		m.ordered = len(m.order)
	}
	i, found := slices.BinarySearchFunc(m.order, after, Position.compare)
	if found {
		i++
	}
	var page []Record
	for ; i < len(m.order) && len(page) < limit; i++ {
		if r := m.get(m.order[i].ID); owner == "" || r.Owner == owner {
			page = append(page, r.clone())
		}
	}
	return page, nil
}

// Revoke implements [KeyStore].
func (m *MemoryStore) Revoke(_ context.Context, id string, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.get(id)
	if r == nil {
		return ErrNotFound
	}
	if at.IsZero() {
		return errors.New("auth: revoke at the zero time, which means not revoked")
	}
	if r.RevokedAt.IsZero() {
		changed := *r
		changed.RevokedAt = at
		m.put(changed)
		m.report(r.Hash)
	}
	return nil
}

// Replace implements [KeyStore].
func (m *MemoryStore) Replace(_ context.Context, successor Record, expires time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.get(successor.Replaces)
	switch {
	case r == nil:
		return ErrNotFound
	case !r.RevokedAt.IsZero():
		return ErrKeyRevoked
	case r.ReplacedBy != "":
		return ErrSuperseded
	}
	if expires.IsZero() {
		return errors.New("auth: replace with the zero expiry, which means never")
	}
	if err := m.canAdd(&successor); err != nil {
		return err
	}
	changed := *r
	changed.ReplacedBy = successor.ID
	if changed.ExpiresAt.IsZero() || changed.ExpiresAt.After(expires) {
		changed.ExpiresAt = expires
	}
	// Whoever finds the successor finds the old record as it is from now on.
	m.put(changed)
	m.add(successor)
	m.report(r.Hash, successor.Hash)
	return nil
}

// Touch implements [KeyStore].
func (m *MemoryStore) Touch(_ context.Context, lastUsed map[string]time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, at := range lastUsed {
		if r := m.get(id); r != nil && at.Round(0).After(r.LastUsedAt) {
			changed := *r
			changed.LastUsedAt = at
			m.put(changed)
		}
	}
	return nil
}

// Watch implements [Watcher].
func (m *MemoryStore) Watch(ctx context.Context, notify func(Change)) error {
	defer m.unwatch(&notify)
	m.watch(&notify)
	<-ctx.Done()
	return ctx.Err()
}

func (m *MemoryStore) watch(notify *func(Change)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watchers == nil {
		m.watchers = make(map[*func(Change)]struct{})
	}
	m.watchers[notify] = struct{}{}
	(*notify)(Change{Kind: ChangesSeen})
}

func (m *MemoryStore) unwatch(notify *func(Change)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer delete(m.watchers, notify)
	(*notify)(Change{Kind: ChangesLost}) // before it is so
}
