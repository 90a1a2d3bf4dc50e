package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

var (
	_ keyring.Store = (*keyring.MemoryStore)(nil)
	_ auth.Watcher  = (*keyring.MemoryStore)(nil)
)

func TestMemoryStoreIsEmptyAtFirst(t *testing.T) {
	var m keyring.MemoryStore
	_, err := m.Lookup(ctx, auth.Hash{})
	equal(t, "Lookup", err, auth.ErrNotFound)
	_, err = m.Get(ctx, "")
	equal(t, "Get", err, auth.ErrNotFound)
	r := numbered(1)
	equal(t, "Update", m.Update(ctx, &r, nil), auth.ErrNotFound)
	equal(t, "Delete", m.Delete(ctx, r.ID, ""), auth.ErrNotFound)
	equal(t, "Touch", m.Touch(ctx, map[string]time.Time{r.ID: epoch}), nil)
	page, err := m.List(ctx, keyring.Query{Limit: 1})
	must(t, err)
	equal(t, "records", len(page), 0)
	page, err = m.List(ctx, keyring.Query{Owner: "acme", NewestFirst: true, Limit: 1})
	must(t, err)
	equal(t, "records of an owner", len(page), 0)
	events, err := m.Events(ctx, keyring.EventQuery{Limit: 1})
	must(t, err)
	equal(t, "events", len(events), 0)
}

func TestMemoryStoreInsert(t *testing.T) {
	var m keyring.MemoryStore
	r := numbered(1)
	r.Revision, r.LastUsedAt = 7, epoch
	put(t, &m, r)
	sameID, sameHash, noID := numbered(2), numbered(3), numbered(4)
	sameID.ID, sameHash.Hash, noID.ID = r.ID, r.Hash, ""
	equal(t, "the same", m.Insert(ctx, &r), keyring.ErrExists)
	equal(t, "the same ID", m.Insert(ctx, &sameID), keyring.ErrExists)
	equal(t, "the same hash", m.Insert(ctx, &sameHash), keyring.ErrExists)
	equal(t, "no ID", m.Insert(ctx, &noID) == nil, false)
	for _, get := range []func() (*auth.Record, error){
		func() (*auth.Record, error) { return m.Get(ctx, r.ID) },
		func() (*auth.Record, error) { return m.Lookup(ctx, r.Hash) },
	} {
		got, err := get()
		must(t, err)
		same(t, "record", *got, r)
	}

	// After Delete the ID and the hash are free.
	must(t, m.Delete(ctx, r.ID, ""))
	put(t, &m, sameID)
	put(t, &m, sameHash)
}

// The zero hash is a hash like any other.
func TestMemoryStoreZeroHash(t *testing.T) {
	var m keyring.MemoryStore
	for i := range 12 { // with removed records in between
		put(t, &m, numbered(i))
	}
	for i := range 12 {
		must(t, m.Delete(ctx, numbered(i).ID, ""))
	}
	_, err := m.Lookup(ctx, auth.Hash{})
	equal(t, "before", err, auth.ErrNotFound)
	r := numbered(20)
	r.Hash = auth.Hash{}
	put(t, &m, r)
	got, err := m.Lookup(ctx, auth.Hash{})
	must(t, err)
	equal(t, "found", got.ID, r.ID)
	must(t, m.Delete(ctx, r.ID, ""))
	_, err = m.Lookup(ctx, auth.Hash{})
	equal(t, "after", err, auth.ErrNotFound)
}

func TestMemoryStoreUpdate(t *testing.T) {
	var m keyring.MemoryStore
	r := put(t, &m, numbered(1))
	put(t, &m, numbered(2))
	must(t, m.Touch(ctx, map[string]time.Time{r.ID: epoch}))

	changed := numbered(3) // other values in all fields
	changed.ID, changed.Revision = r.ID, 2
	changed.Owner, changed.CreatedBy, changed.LastUsedAt = "globex", "bob", epoch.Add(time.Hour)
	changed.Name, changed.Hint, changed.Scopes = "new", "…", auth.Scopes{"a.x"}
	changed.RotatedFrom, changed.RotatedTo, changed.Chain = "f", "t", "c"
	must(t, m.Update(ctx, &changed, nil))
	want := changed
	want.Hash, want.Owner, want.CreatedAt, want.CreatedBy, want.LastUsedAt = r.Hash, "acme", r.CreatedAt, "ada", epoch
	got, err := m.Lookup(ctx, r.Hash)
	must(t, err)
	same(t, "record", *got, want)
	_, err = m.Lookup(ctx, changed.Hash)
	equal(t, "by another hash", err, auth.ErrNotFound)

	unknown := numbered(9)
	for _, c := range []struct {
		name      string
		revision  int64
		successor *auth.Record
		want      error
	}{
		{"the same revision", 2, nil, keyring.ErrConflict},
		{"an older one", 1, nil, keyring.ErrConflict},
		{"one too new", 4, nil, keyring.ErrConflict},
		{"a successor that exists", 3, new(numbered(2)), keyring.ErrExists},
		{"itself as successor", 3, &want, keyring.ErrExists},
	} {
		r := want
		r.Revision, r.Name = c.revision, "newer"
		equal(t, c.name, m.Update(ctx, &r, c.successor), c.want)
		got, err := m.Get(ctx, r.ID)
		must(t, err)
		same(t, c.name, *got, want)
	}
	equal(t, "unknown", m.Update(ctx, &unknown, nil), auth.ErrNotFound)

	next, noID := numbered(4), auth.Record{}
	want.Revision = 3
	equal(t, "a successor without ID", m.Update(ctx, &want, &noID) == nil, false)
	must(t, m.Update(ctx, &want, &next))
	got, err = m.Get(ctx, next.ID)
	must(t, err)
	same(t, "successor", *got, next)
}

func TestMemoryStoreSharesNothing(t *testing.T) {
	var m keyring.MemoryStore
	r := numbered(1)
	r.Scopes, r.Metadata = auth.Scopes{"a.x"}, map[string]string{"env": "prod"}
	spoil := func(r *auth.Record) { r.Scopes[0], r.Metadata["env"], r.Name = "*", "changed", "changed" }
	must(t, m.Insert(ctx, &r))
	spoil(&r)
	for range 2 {
		got, err := m.Get(ctx, r.ID)
		must(t, err)
		equal(t, "Get", got.Name+string(got.Scopes[0])+got.Metadata["env"], "keya.xprod")
		spoil(got)
		page, err := m.List(ctx, keyring.Query{Limit: 1})
		must(t, err)
		equal(t, "List", page[0].Name+string(page[0].Scopes[0])+page[0].Metadata["env"], "keya.xprod")
		spoil(page[0])
		events, err := m.Events(ctx, keyring.EventQuery{Limit: 1})
		must(t, err)
		equal(t, "Events", events[0].After.Name+string(events[0].After.Scopes[0]), "keya.x")
		spoil(events[0].After)
	}
	changed, next := numbered(1), numbered(2)
	changed.Revision = 2
	changed.Scopes, next.Scopes = auth.Scopes{"a.x"}, auth.Scopes{"a.x"}
	must(t, m.Update(ctx, &changed, &next))
	changed.Scopes[0], next.Scopes[0] = "*", "*"
	for _, id := range []string{changed.ID, next.ID} {
		got, err := m.Get(ctx, id)
		must(t, err)
		equal(t, id, got.Scopes[0], "a.x")
	}
}

func TestMemoryStoreTouch(t *testing.T) {
	var m keyring.MemoryStore
	r := put(t, &m, numbered(1))
	for _, c := range []struct {
		name     string
		at, want time.Time
	}{
		{"first", epoch.Add(2), epoch.Add(2)},
		{"earlier", epoch.Add(1), epoch.Add(2)},
		{"the same", epoch.Add(2), epoch.Add(2)},
		{"zero", time.Time{}, epoch.Add(2)},
		{"later", epoch.Add(3), epoch.Add(3)},
	} {
		must(t, m.Touch(ctx, map[string]time.Time{r.ID: c.at, "unknown": c.at}))
		got, err := m.Lookup(ctx, r.Hash)
		must(t, err)
		want := r
		want.LastUsedAt = c.want
		same(t, c.name, *got, want)
	}
	must(t, m.Touch(ctx, nil))
	events, err := m.Events(ctx, keyring.EventQuery{Limit: 10})
	must(t, err)
	equal(t, "events", len(events), 1)
}

// The order of insertion, of one owner and of all, does not matter.
func TestMemoryStoreListInAnyOrder(t *testing.T) {
	const n = 2400 // several chunks
	for _, c := range []struct {
		name string
		at   func(i int) int
	}{
		{"ascending", func(i int) int { return i }},
		{"descending", func(i int) int { return n - 1 - i }},
		{"scattered", func(i int) int { return i * 1237 % n }},
		{"from the middle", func(i int) int {
			if i%2 == 0 {
				return (n - i) / 2 % n
			}
			return (n + i) / 2
		}},
	} {
		var m keyring.MemoryStore
		var want, wantAcme []string
		there := make([]bool, n)
		insert := func(i int) {
			r := numbered(i)
			r.CreatedAt = epoch.Add(time.Duration(i/4) * time.Second) // the same for four
			r.Owner = []string{"acme", "globex"}[i%2]
			put(t, &m, r)
			there[i] = true
		}
		for i := range n {
			if i := c.at(i); !there[i] {
				insert(i)
			}
		}
		for i := range n {
			if !there[i] {
				insert(i)
			}
		}
		for i := 0; i < n; i += 3 { // some are deleted, and a whole chunk
			must(t, m.Delete(ctx, numbered(i).ID, ""))
		}
		for i := 700; i < 1400; i++ {
			if i%3 != 0 {
				must(t, m.Delete(ctx, numbered(i).ID, ""))
			}
		}
		for i := range n {
			if id := numbered(i).ID; i%3 != 0 && (i < 700 || i >= 1400) {
				if want = append(want, id); i%2 == 0 {
					wantAcme = append(wantAcme, id)
				}
			}
		}
		for _, newestFirst := range []bool{false, true} {
			for _, limit := range []int{1, 7, 512, 513, 10_000} {
				if limit == 1 && c.name != "scattered" {
					continue
				}
				for owner, want := range map[string][]string{"": want, "acme": wantAcme} {
					if newestFirst {
						want = slices.Clone(want)
						slices.Reverse(want)
					}
					var got []string
					q := keyring.Query{Owner: owner, NewestFirst: newestFirst, Limit: limit}
					for {
						page, err := m.List(ctx, q)
						must(t, err)
						for _, r := range page {
							got = append(got, r.ID)
						}
						if len(page) < limit {
							break
						}
						q.After = keyring.PositionOf(page[len(page)-1])
					}
					equal(t, fmt.Sprintf("%s, owner %q, newest first %v, limit %d", c.name, owner, newestFirst, limit),
						slices.Equal(got, want), true)
				}
			}
		}
	}
}

// A filter that selects few of many fills the page all the same.
func TestMemoryStoreListSparse(t *testing.T) {
	var m keyring.MemoryStore
	var want []string
	for i := range 20_000 {
		r := numbered(i)
		if i%1999 == 5 {
			r.Chain = "rare"
			want = append(want, r.ID)
		}
		put(t, &m, r)
	}
	for _, limit := range []int{3, 10, 11, 12, 9999} {
		page, err := m.List(ctx, keyring.Query{Chain: "rare", Limit: limit})
		must(t, err)
		var got []string
		for _, r := range page {
			got = append(got, r.ID)
		}
		same(t, fmt.Sprint(limit), got, want[:min(limit, len(want))])
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err := m.List(canceled, keyring.Query{Chain: "rare", Limit: 9999})
	fails(t, "canceled", err, context.Canceled, "")
}

func TestMemoryStoreLimits(t *testing.T) {
	var m keyring.MemoryStore
	for _, limit := range []int{0, -1} {
		_, err := m.List(ctx, keyring.Query{Limit: limit})
		equal(t, fmt.Sprint("List ", limit), err == nil, false)
		_, err = m.Events(ctx, keyring.EventQuery{Limit: limit})
		equal(t, fmt.Sprint("Events ", limit), err == nil, false)
	}
}

func TestMemoryStoreEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m keyring.MemoryStore
		r := put(t, &m, numbered(1))
		time.Sleep(time.Hour)
		changed, next := r, numbered(2)
		changed.Revision, changed.RotatedTo = 2, next.ID
		changed.UpdatedAt, changed.UpdatedBy = epoch.Add(time.Hour), "sam"
		must(t, m.Update(ctx, &changed, &next))
		must(t, m.Delete(ctx, r.ID, "bob"))
		unchanged := next
		unchanged.Revision = 2
		must(t, m.Update(ctx, &unchanged, nil))
		equal(t, "refused", m.Insert(ctx, &next), keyring.ErrExists)

		var want []keyring.Event
		for i, e := range []keyring.Event{
			keyring.EventOf(nil, &r, "ada", r.CreatedAt),
			keyring.EventOf(&r, &changed, "sam", epoch.Add(time.Hour)),
			keyring.EventOf(nil, &next, "ada", next.CreatedAt),
			keyring.EventOf(&changed, nil, "bob", time.Now().UTC()),
		} {
			e.ID = fmt.Sprint(i + 1)
			want = append(want, e)
		}
		slices.Reverse(want)
		got, err := m.Events(ctx, keyring.EventQuery{Limit: 10})
		must(t, err)
		same(t, "events", got, want)
		got, err = m.Events(ctx, keyring.EventQuery{Limit: 2})
		must(t, err)
		same(t, "the newest two", got, want[:2])
		got, err = m.Events(ctx, keyring.EventQuery{After: "3", Limit: 10})
		must(t, err)
		same(t, "after the third", got, want[2:])
	})
}

func TestMemoryStoreEventsAfter(t *testing.T) {
	var m keyring.MemoryStore
	put(t, &m, numbered(1))
	his := numbered(2)
	his.Owner = "globex"
	put(t, &m, his)
	for _, c := range []struct {
		owner, after string
		want         error
	}{
		{"", "1", nil}, {"", "2", nil}, {"acme", "1", nil}, {"globex", "2", nil},
		{"acme", "2", auth.ErrNotFound}, {"globex", "1", auth.ErrNotFound},
		{"", "0", auth.ErrNotFound}, {"", "3", auth.ErrNotFound}, {"", "-1", auth.ErrNotFound}, {"", "x",
			auth.ErrNotFound},
		{"", "01", auth.ErrNotFound}, {"", "+1", auth.ErrNotFound}, {"", "99999999999999999999", auth.ErrNotFound},
	} {
		_, err := m.Events(ctx, keyring.EventQuery{Owner: c.owner, After: c.after, Limit: 1})
		equal(t, fmt.Sprintf("owner %q after %q", c.owner, c.after), err, c.want)
	}
}

// The newest 100,000 events are kept. A list that is at a dropped one ends.
func TestMemoryStoreDropsEvents(t *testing.T) {
	var m keyring.MemoryStore
	r := put(t, &m, numbered(1))
	const n = 200_011
	for i := range n - 1 {
		r.Revision++
		r.Name = fmt.Sprint(i)
		must(t, m.Update(ctx, &r, nil))
	}
	count := func(after string) (n int, oldest string) {
		page, err := m.Events(ctx, keyring.EventQuery{After: after, Limit: 1_000_000})
		must(t, err)
		if len(page) == 0 {
			return 0, ""
		}
		return len(page), page[len(page)-1].ID
	}
	kept, oldest := count("")
	equal(t, "kept", kept, 100_011)
	equal(t, "oldest", oldest, "100001")
	kept, _ = count("100101")
	equal(t, "after one that is kept", kept, 100)
	kept, _ = count("100001")
	equal(t, "after the oldest", kept, 0)
	for _, id := range []string{"100000", "99999", "1"} {
		page, err := m.Events(ctx, keyring.EventQuery{After: id, Limit: 1})
		must(t, err)
		equal(t, "after one that was dropped", len(page), 0)
		_, err = m.Events(ctx, keyring.EventQuery{Owner: "acme", After: id, Limit: 1})
		equal(t, "of an owner, after one that was dropped", err, auth.ErrNotFound)
	}
	_, err := m.Events(ctx, keyring.EventQuery{After: "200012", Limit: 1})
	equal(t, "after one that never was", err, auth.ErrNotFound)
}

// Lookups go on while the table grows and records come and go, and are right.
func TestMemoryStoreLookupsWhileItChanges(t *testing.T) {
	const n = 8000
	var m keyring.MemoryStore
	var inserted atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for inserted.Load() < n {
				if top := inserted.Load(); top > 0 {
					want := numbered(int(rand.Int64N(top)) &^ 1) // even ones stay
					if r, err := m.Lookup(ctx, want.Hash); err != nil {
						t.Errorf("%s: %v", want.ID, err)
						return
					} else if r.ID != want.ID {
						t.Errorf("%s: got %s", want.ID, r.ID)
						return
					}
				}
				if r, err := m.Lookup(ctx, auth.Hash{1, byte(rand.N(256))}); err != auth.ErrNotFound {
					t.Errorf("a hash that is not there: %v, %v", r, err)
					return
				}
			}
		})
	}
	for i := range n {
		put(t, &m, numbered(i))
		inserted.Store(int64(i + 1))
		if i%2 == 1 && i > 100 {
			must(t, m.Delete(ctx, numbered(i-100).ID, ""))
		}
	}
	wg.Wait()
	for i := range n {
		_, err := m.Lookup(ctx, numbered(i).Hash)
		gone := i%2 == 1 && i+100 < n
		equal(t, numbered(i).ID, err == auth.ErrNotFound, gone)
	}
}

// A store whose keys come and go does not fill up, and finds each of them.
func TestMemoryStoreComeAndGo(t *testing.T) {
	var m keyring.MemoryStore
	present := make(map[int]bool)
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		i := random.IntN(200)
		if present[i] {
			must(t, m.Delete(ctx, numbered(i).ID, ""))
		} else {
			put(t, &m, numbered(i))
		}
		present[i] = !present[i]
		j := random.IntN(200)
		_, err := m.Lookup(ctx, numbered(j).Hash)
		equal(t, numbered(j).ID, err == nil, present[j])
	}
}

// All methods at once, for the race detector; nothing is lost.
func TestMemoryStoreConcurrently(t *testing.T) {
	var m keyring.MemoryStore
	busy := put(t, &m, numbered(100_000))
	const workers, each = 4, 100
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				r, next := numbered(w*each+i), numbered(1000+w*each+i)
				at := epoch.Add(time.Duration(w*each + i))
				changed := r
				changed.Revision, changed.RotatedTo = 2, next.ID
				if err := errors.Join(m.Insert(ctx, &r), m.Touch(ctx, map[string]time.Time{busy.ID: at, r.ID: at}),
					m.Update(ctx, &changed, &next), m.Delete(ctx, next.ID, "")); err != nil {
					t.Error(err)
				}
				if got, err := m.Lookup(ctx, r.Hash); err != nil || got.RotatedTo != next.ID {
					t.Errorf("%s: %v, %v", r.ID, got, err)
				}
				if _, err := m.List(ctx, keyring.Query{Owner: "acme", Limit: 10}); err != nil {
					t.Error(err)
				}
				if _, err := m.Events(ctx, keyring.EventQuery{Limit: 10}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	page, err := m.List(ctx, keyring.Query{Limit: 10_000})
	must(t, err)
	equal(t, "records", len(page), 1+workers*each)
	events, err := m.Events(ctx, keyring.EventQuery{Limit: 10_000})
	must(t, err)
	equal(t, "events", len(events), 1+4*workers*each)
	got, err := m.Get(ctx, busy.ID)
	must(t, err)
	equal(t, "newest use", got.LastUsedAt, epoch.Add(workers*each-1))
}

// watch starts a watcher and returns what stops it.
func watch(m *keyring.MemoryStore, notify func(auth.Change)) (stop func() error) {
	watching, cancel := context.WithCancel(ctx)
	started, done := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() {
		done <- m.Watch(watching, func(c auth.Change) {
			notify(c)
			once.Do(func() { close(started) })
		})
	}()
	<-started
	return func() error { cancel(); return <-done }
}

func TestMemoryStoreWatch(t *testing.T) {
	var m keyring.MemoryStore
	put(t, &m, numbered(1))
	var got [2][]string
	var stops [2]func() error
	names := map[auth.Hash]string{numbered(1).Hash: " 1", numbered(2).Hash: " 2", numbered(3).Hash: " 3"}
	for i := range 2 {
		stops[i] = watch(&m, func(c auth.Change) { got[i] = append(got[i], c.String()+names[c.Hash]) })
	}
	// Each change is reported before the call that made it returns.
	expect := func(step string, want ...string) {
		t.Helper()
		for i := range got {
			equal(t, fmt.Sprintf("%s, watcher %d", step, i), fmt.Sprint(got[i]), fmt.Sprint(want))
			got[i] = nil
		}
	}
	changed, next, third := numbered(1), numbered(2), numbered(3)
	changed.Revision = 2
	expect("Watch", "WatchStarted")
	must(t, m.Insert(ctx, &third))
	expect("Insert", "RecordChanged 3")
	m.Insert(ctx, &third)
	expect("a refused Insert")
	must(t, m.Touch(ctx, map[string]time.Time{third.ID: epoch}))
	expect("Touch")
	must(t, m.Update(ctx, &changed, &next))
	expect("Update with successor", "RecordChanged 1", "RecordChanged 2")
	m.Update(ctx, &changed, nil)
	expect("a refused Update")
	changed.Revision = 3
	must(t, m.Update(ctx, &changed, nil))
	expect("Update", "RecordChanged 1")
	must(t, m.Delete(ctx, third.ID, ""))
	expect("Delete", "RecordChanged 3")
	m.Delete(ctx, third.ID, "")
	expect("a refused Delete")

	equal(t, "Watch returns", stops[0](), context.Canceled)
	must(t, m.Delete(ctx, next.ID, ""))
	equal(t, "the stopped watcher", fmt.Sprint(got[0]), "[WatchLost]")
	equal(t, "the other", fmt.Sprint(got[1]), "[RecordChanged 2]")
	equal(t, "Watch returns", stops[1](), context.Canceled)
}

// While a writer holds the lock, a lookup is answered.
func TestMemoryStoreLookupDoesNotWait(t *testing.T) {
	var m keyring.MemoryStore
	r := put(t, &m, numbered(1))
	held, release := make(chan struct{}), make(chan struct{})
	stop := watch(&m, func(c auth.Change) {
		if c.Kind == auth.RecordChanged {
			close(held)
			<-release
		}
	})
	written := make(chan error)
	go func() { next := numbered(2); written <- m.Insert(ctx, &next) }()
	<-held // Insert is under way until it is released
	got, err := m.Lookup(ctx, r.Hash)
	must(t, err)
	equal(t, "ID", got.ID, r.ID)
	close(release)
	must(t, <-written)
	stop()
}

// A watcher that is told of a rotation finds both records as they are then. If
// it panics, the store is whole and can be used.
func TestMemoryStoreUpdateIsOneStep(t *testing.T) {
	var m keyring.MemoryStore
	r, next := put(t, &m, numbered(1)), numbered(2)
	rotated := func() bool {
		got, err := m.Lookup(ctx, next.Hash)
		if err != nil {
			return false
		}
		old, err := m.Lookup(ctx, r.Hash)
		return err == nil && old.RotatedTo == got.ID
	}
	reports := 0
	stop := watch(&m, func(c auth.Change) {
		if c.Kind == auth.RecordChanged {
			reports++
			equal(t, "rotated when it is reported", rotated(), true)
			panic("watcher")
		}
	})
	r.Revision, r.RotatedTo = 2, next.ID
	panics(t, "Update", "watcher", func() { m.Update(ctx, &r, &next) })
	equal(t, "reports", reports, 1)
	equal(t, "rotated", rotated(), true)
	_, err := m.Get(ctx, next.ID)
	fails(t, "Get", err, nil, "")
	stop()
}

// A watcher that panics at once leaves no lock and is not called again.
func TestMemoryStoreWatcherPanics(t *testing.T) {
	var m keyring.MemoryStore
	calls := 0
	panics(t, "Watch", "watcher", func() { m.Watch(ctx, func(auth.Change) { calls++; panic("watcher") }) })
	before := calls
	put(t, &m, numbered(1))
	equal(t, "calls", calls, before)
}

// Package fmt prints how many keys there are, and no hash, also of a store in a
// struct.
func TestMemoryStorePrints(t *testing.T) {
	m := new(keyring.MemoryStore)
	r := put(t, m, numbered(1))
	hidden := &struct {
		keys keyring.MemoryStore
	}{}
	put(t, &hidden.keys, r)
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		equal(t, verb, fmt.Sprintf(verb, m), "keyring.MemoryStore(1)")
		fmt.Fprintf(&out, verb+"\n", hidden)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "store", m, "hidden", hidden)
	for _, spelling := range []string{r.Hash.String()[:12], fmt.Sprint(r.Hash[:6]),
		fmt.Sprint([]byte(r.Hash[:6]))[1:12], fmt.Sprintf("%#v", r.Hash[:3])[7:20]} {
		equal(t, "hash printed", strings.Contains(out.String(), spelling), false)
	}
}

// A lookup allocates nothing.
func TestMemoryStoreLookupAllocates(t *testing.T) {
	var m keyring.MemoryStore
	r := put(t, &m, numbered(1))
	equal(t, "allocations", testing.AllocsPerRun(100, func() { m.Lookup(ctx, r.Hash) }), 0)
	equal(t, "allocations for an unknown hash", testing.AllocsPerRun(100, func() { m.Lookup(ctx, auth.Hash{}) }), 0)
}

func BenchmarkMemoryStoreLookup(b *testing.B) {
	var m keyring.MemoryStore
	var hashes []auth.Hash
	for i := range 10_000 {
		r := numbered(i)
		m.Insert(ctx, &r)
		hashes = append(hashes, r.Hash)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := m.Lookup(ctx, hashes[i%len(hashes)]); err != nil {
			b.Fatal(err)
		}
	}
}
