package fanout_test

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/fanout"
	"github.com/insigner/auth/keyring"
)

// A counting store counts its lookups.
type counting struct {
	keyring.MemoryStore
	lookups atomic.Int64
	during  func() // called after the record was read
}

func (c *counting) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	c.lookups.Add(1)
	r, err := c.MemoryStore.Lookup(ctx, hash)
	if c.during != nil {
		c.during()
	}
	return r, err
}

// asks checks how many lookups in the store one lookup makes.
func (c *counting) asks(t *testing.T, what string, s auth.Store, hash auth.Hash, want int64) (*auth.Record, error) {
	t.Helper()
	before := c.lookups.Load()
	r, err := s.Lookup(t.Context(), hash)
	if got := c.lookups.Load() - before; got != want {
		t.Errorf("%s: %d lookups in the store, want %d", what, got, want)
	}
	return r, err
}

// While the watch is lost, and only then, a record is used again, for LostAfter
// at most.
func TestRecentRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, conn := new(counting), new(broker)
		r := insert(t, store)
		w := fanout.New(store, conn, options())
		for range 2 {
			store.asks(t, "without a watch", w, r.Hash, 1)
		}
		end := publish(t, &store.MemoryStore, conn, options())
		watch := watchOf(t, w)
		watch.expect(started)
		for range 2 {
			store.asks(t, "with a watch", w, r.Hash, 1)
		}
		end()
		watch.expect(lost)
		store.asks(t, "lost, the first time", w, r.Hash, 1)
		time.Sleep(lostAfter/2 - 1)
		store.asks(t, "lost, and read soon before", w, r.Hash, 0)
		unknown := newRecord().Hash
		for range 2 {
			if _, err := store.asks(t, "unknown", w, unknown, 1); err != auth.ErrNotFound {
				t.Errorf("unknown: got error %v, want %v", err, auth.ErrNotFound)
			}
		}
		revoked := r.Clone()
		revoked.RevokedAt = time.Now()
		revoked.Revision++
		must(t, store.Update(t.Context(), revoked, nil))
		time.Sleep(lostAfter/2 + 1)
		if got, _ := store.asks(t, "LostAfter after it was read", w, r.Hash, 1); got.RevokedAt.IsZero() {
			t.Error("LostAfter after it was read, the record is the old one")
		}

		publish(t, &store.MemoryStore, conn, options())
		store.asks(t, "lost still", w, r.Hash, 0)
		for len(watch.all()) == 0 { // so that it was read just before
			_, err := w.Lookup(t.Context(), r.Hash)
			must(t, err)
			time.Sleep(100 * time.Millisecond)
		}
		store.asks(t, "with a watch again", w, r.Hash, 1)
		watch.end()
		store.asks(t, "without a watch again", w, r.Hash, 1)
	})
}

// A lookup that began before the watch was lost, or before it started again, is
// not used again.
func TestRecentRecordsAtTheEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, conn := new(counting), new(broker)
		r := insert(t, store)
		w := fanout.New(store, conn, options())
		end := publish(t, &store.MemoryStore, conn, options())
		watch := watchOf(t, w)
		watch.expect(started)
		store.during = func() { end(); watch.expect(lost) }
		store.asks(t, "the watch is lost during it", w, r.Hash, 1)
		store.during = nil
		store.asks(t, "afterwards", w, r.Hash, 1)
		store.asks(t, "after that", w, r.Hash, 0)

		other := insert(t, store)
		store.during = func() {
			store.during = nil
			end = publish(t, &store.MemoryStore, conn, options())
			watch.expect(started)
			end()
			watch.expect(lost)
		}
		store.asks(t, "the watch starts and is lost during it", w, other.Hash, 1)
		store.asks(t, "afterwards", w, other.Hash, 1)
	})
}

// After an outage, messages arrive before the watch starts again. What they
// report is not used again.
func TestRecentRecordsThatChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, store := newSetup(t), new(counting)
		var instances []auth.Watcher
		for range 20 {
			w := fanout.New(store, s.conn, options())
			watchOf(t, w).expect(started)
			instances = append(instances, w)
		}
		s.on(func([]byte, func([]byte)) {})
		s.watch.expect(lost)
		time.Sleep(time.Minute)
		s.on(func(m []byte, put func([]byte)) { put(m) })
		time.Sleep(2 * time.Second) // then they follow the publisher, and some are watched
		r := insert(t, store)
		other := insert(t, store)
		for _, w := range instances {
			store.asks(t, "before", w, r.Hash, 1)
		}
		must(t, s.store.Insert(t.Context(), r)) // this is what the publisher hears of
		synctest.Wait()
		for _, w := range instances {
			store.asks(t, "when it was changed", w, r.Hash, 1)
			changed := false
			store.during = func() {
				if !changed {
					changed = true
					other.Revision++
					s.store.Delete(t.Context(), other.ID, "test")
					must(t, s.store.Insert(t.Context(), other))
					synctest.Wait()
				}
			}
			store.asks(t, "when it is changed during the lookup", w, other.Hash, 1)
			store.during = nil
			store.asks(t, "afterwards", w, other.Hash, 1)
		}
	})
}

func TestRecentRecordsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(counting)
		w := fanout.New(store, new(broker), options())
		watchOf(t, w)
		synctest.Wait()
		const most = 10_000
		var hashes []auth.Hash
		for range most + 1 {
			hashes = append(hashes, insert(t, store).Hash)
		}
		for _, hash := range hashes {
			store.asks(t, "the first time", w, hash, 1)
		}
		store.asks(t, "the last one that is kept", w, hashes[most-1], 0)
		store.asks(t, "one more", w, hashes[most], 1)
		time.Sleep(lostAfter)
		store.asks(t, "one more, after the others", w, hashes[most], 1)
		store.asks(t, "the same again", w, hashes[most], 0)
	})
}

// Instances that lost their watch together start again at different times.
func TestStartsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		var all []*watch
		var at [100]atomic.Int64
		begin := time.Now()
		for i := range at {
			w := watchOf(t, observed{fanout.New(s.store, s.conn, options()), func(c auth.Change) {
				if c.Kind == auth.WatchStarted {
					at[i].Store(int64(time.Since(begin)))
				}
			}})
			w.expect(started)
			all = append(all, w)
		}
		s.on(func([]byte, func([]byte)) {})
		time.Sleep(time.Minute)
		s.on(func(m []byte, put func([]byte)) { put(m) })
		back := time.Since(begin)
		first, last := time.Hour, time.Duration(0)
		for i, w := range all {
			w.expect(lost, started)
			first = min(first, time.Duration(at[i].Load())-back)
			last = max(last, time.Duration(at[i].Load())-back)
		}
		if last-first < lostAfter/2 {
			t.Errorf("they started again from %v to %v, want times that differ by %v", first, last, lostAfter)
		}
		if last > 3*lostAfter {
			t.Errorf("the last one started again after %v, want %v at most", last, 3*lostAfter)
		}
	})
}

// An observed Watcher calls a function with each change first.
type observed struct {
	auth.Watcher
	observe func(auth.Change)
}

func (o observed) Watch(ctx context.Context, notify func(auth.Change)) error {
	return o.Watcher.Watch(ctx, func(c auth.Change) { o.observe(c); notify(c) })
}

// When the broker fails, publishers do not cease to be good at the same time.
// The watch is lost once all the same.
func TestLostOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		var first []byte // the epoch of the first publisher
		s.on(func(m []byte, put func([]byte)) { first = m[2:18]; put(m) })
		time.Sleep(5 * time.Second)
		s.on(func(m []byte, put func([]byte)) { put(m) })
		publish(t, s.store, s.conn, options())
		time.Sleep(10 * time.Second)
		s.watch.quiet("two publishers")
		s.on(func(m []byte, put func([]byte)) {
			if !bytes.Equal(m[2:18], first) {
				put(m)
			}
		})
		time.Sleep(1500 * time.Millisecond)
		s.on(func([]byte, func([]byte)) {})
		time.Sleep(time.Minute)
		s.watch.expect(lost)
		s.watch.quiet("afterwards")
	})
}
