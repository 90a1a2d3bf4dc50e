package fanout_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/fanout"
	"github.com/insigner/auth/keyring"
)

// A burst of changes is sent in few messages, of bounded size, and arrives whole
// and in order.
func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		messages, largest := 0, 0
		s.on(func(m []byte, put func([]byte)) {
			messages++
			largest = max(largest, len(m))
			put(m)
		})
		s.conn.set(func() { s.conn.fail = errors.New("down") }) // so that they queue up
		var want []auth.Change
		for range 1000 {
			want = append(want, changed(insert(t, s.store)))
		}
		s.conn.set(func() { s.conn.fail = nil })
		s.watch.expect(want...)
		s.conn.set(func() {
			if messages > 12 {
				t.Errorf("1,000 changes took %d messages, want 12 at most", messages)
			}
			if largest > 9000 {
				t.Errorf("a message has %d bytes, want 9,000 at most", largest)
			}
		})
	})
}

// A fickle store answers lookups as it is told.
type fickle struct {
	keyring.MemoryStore
	lookup func(ctx context.Context, hash auth.Hash) (*auth.Record, error) // guarded by mu
	mu     sync.Mutex
	asked  []auth.Hash
}

func (f *fickle) set(lookup func(context.Context, auth.Hash) (*auth.Record, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookup, f.asked = lookup, nil
}

func (f *fickle) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	f.mu.Lock()
	f.asked = append(f.asked, hash)
	lookup := f.lookup
	f.mu.Unlock()
	if lookup == nil {
		return f.MemoryStore.Lookup(ctx, hash)
	}
	return lookup(ctx, hash)
}

func (f *fickle) hashes() []auth.Hash {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// A store that does not answer keeps nobody content, though its watch is there.
func TestStoreDoesNotAnswer(t *testing.T) {
	down := errors.New("down")
	for what, lookup := range map[string]func(ctx context.Context, hash auth.Hash) (*auth.Record, error){
		"it is frozen": func(ctx context.Context, _ auth.Hash) (*auth.Record, error) { <-ctx.Done(); return nil, ctx.Err() },
		"it fails":     func(context.Context, auth.Hash) (*auth.Record, error) { return nil, down },
		"it is too slow, and does not obey ctx": func(ctx context.Context, _ auth.Hash) (*auth.Record, error) {
			time.Sleep(lostAfter / 2)
			return nil, auth.ErrNotFound
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			store, conn, log := new(fickle), new(broker), new(lines)
			opts := options()
			opts.Logger = slog.New(slog.NewTextHandler(log, nil))
			publish(t, store, conn, opts)
			w := watchOf(t, fanout.New(store, conn, options()))
			w.expect(started)
			time.Sleep(time.Minute)
			store.set(lookup)
			start := time.Now()
			w.expect(lost)
			if took := time.Since(start); took > lostAfter {
				t.Errorf("%s: lost after %v, want %v at most", what, took, lostAfter)
			}
			time.Sleep(time.Minute)
			w.quiet(what)
			store.set(nil)
			w.expect(started)
			r := insert(t, store)
			w.expect(changed(r))
			for _, line := range []string{"the store does not answer", "the store answers again"} {
				if n := strings.Count(log.String(), line); n != 1 {
					t.Errorf("%s: %q is logged %d times, want once", what, line, n)
				}
			}
		})
	}
}

// Before the first answer, nothing is said that a subscriber could believe.
func TestStoreHasNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, conn := new(fickle), new(broker)
		messages := conn.record(changes)
		store.set(func(context.Context, auth.Hash) (*auth.Record, error) { return nil, errors.New("down") })
		publish(t, store, conn, options())
		w := watchOf(t, fanout.New(store, conn, options()))
		time.Sleep(time.Minute)
		insert(t, store)
		time.Sleep(time.Minute)
		if n := len(messages()); n != 1 {
			t.Errorf("%d messages are published, want the one that tests the rights", n)
		}
		w.quiet("no answer")
		store.set(nil)
		w.expect(started)
	})
}

// What is committed while lookups fail is published at once.
func TestChangesWithoutProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, conn := new(fickle), new(broker)
		publish(t, store, conn, options())
		w := watchOf(t, fanout.New(store, conn, options()))
		w.expect(started)
		time.Sleep(time.Minute)
		store.set(func(context.Context, auth.Hash) (*auth.Record, error) { return nil, errors.New("down") })
		for range 3 {
			start := time.Now()
			r := insert(t, store)
			w.expect(changed(r))
			if took := time.Since(start); took > 0 {
				t.Errorf("published after %v, want at once", took)
			}
			time.Sleep(time.Second)
		}
		w.expect(lost)
	})
}

// A store that is slow, or has a record with the hash, does answer. It is asked
// once for each beat, for another hash each time, and one lookup after the other.
func TestStoreIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, took := range []time.Duration{0, 2*lostAfter/5 - time.Millisecond} {
			store, conn := new(fickle), new(broker)
			lookup := func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
				time.Sleep(took)
				return newRecord(), nil
			}
			end := publish(t, store, conn, options())
			w := watchOf(t, fanout.New(store, conn, options()))
			w.expect(started)
			store.set(lookup)
			time.Sleep(100 * time.Second)
			w.quiet("the store answers")
			asked := store.hashes()
			most := int(100*time.Second/max(took, lostAfter/5)) + 1
			if n := len(asked); n > most {
				t.Errorf("a lookup takes %v: %d lookups in 100 seconds, want %d at most", took, n, most)
			}
			for i, hash := range asked {
				if slices.Contains(asked[:i], hash) {
					t.Errorf("the hash %v is looked up twice", hash)
				}
			}
			end()
			w.end()
		}
	})
}

// If too many changes wait, all copies are discarded instead.
func TestTooManyChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, conn, store := new(database), new(broker), new(keyring.MemoryStore)
		source := db.newSource()
		publish(t, source, conn, options())
		w := watchOf(t, fanout.New(store, conn, options()))
		w.expect(started)
		conn.set(func() { conn.fail = errors.New("down") })
		for range 70_000 {
			source.report(auth.Hash{1})
		}
		conn.set(func() { conn.fail = nil })
		time.Sleep(20 * time.Second)
		got := w.all()
		if n := len(got); n > 1000 {
			t.Fatalf("%d changes are reported, want those of the first message at most", n)
		}
		if got := got[len(got)-2:]; !slices.Equal(got, []auth.Change{lost, started}) {
			t.Errorf("at last %v is reported, want %v, %v", got, lost, started)
		}
	})
}

// Hellos are answered in few messages, each once, and forged ones not at all.
func TestHellos(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		time.Sleep(time.Minute)
		heard := s.conn.record(hellos)
		var all []*watch
		for range 1000 {
			all = append(all, watchOf(t, fanout.New(s.store, s.conn, options())))
		}
		recorded := s.conn.record(changes)
		for _, w := range all {
			w.expect(started)
		}
		time.Sleep(2 * time.Second)
		if got := len(recorded()); got > 10 {
			t.Errorf("1,000 hellos were answered with %d messages, want 10 at most", got)
		}
		for _, w := range all {
			w.quiet("afterwards")
			w.end()
		}
		// A flood of old hellos and of garbage makes no flood of answers.
		hello := heard()
		recorded = s.conn.record(changes)
		for _, m := range hello[:1000] {
			s.conn.Publish(t.Context(), hellos, m)
			s.conn.Publish(t.Context(), hellos, m[1:])
			m[1]++
			s.conn.Publish(t.Context(), hellos, m)
			time.Sleep(5 * time.Millisecond)
		}
		list, size := recorded(), 0
		for _, m := range list {
			size += len(m)
		}
		if len(list) > 60 {
			t.Errorf("3,000 hellos in 5 seconds were answered with %d messages, want 60 at most", len(list))
		}
		if size > 1000*16+len(list)*200 {
			t.Errorf("the answers to 1,000 hellos take %d bytes", size)
		}
		s.watch.quiet("a flood of hellos")
	})
}
