package fanout_test

import (
	"errors"
	"slices"
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
