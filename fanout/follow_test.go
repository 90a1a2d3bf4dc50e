package fanout_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/fanout"
	"github.com/insigner/auth/keyring"
)

const lostAfter = 5 * time.Second // the default

// on makes the broker treat the messages of publishers so.
func (s *setup) on(deliver func(message []byte, put func([]byte))) {
	s.conn.set(func() {
		s.conn.deliver = func(channel string, message []byte, put func([]byte)) {
			if channel == changes {
				deliver(message, put)
			} else {
				put(message)
			}
		}
	})
}

func TestMissingMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		time.Sleep(time.Minute)
		s.on(func([]byte, func([]byte)) {})
		insert(t, s.store) // its message is lost
		synctest.Wait()
		s.on(func(m []byte, put func([]byte)) { put(m) })
		start := time.Now()
		s.watch.expect(lost, started)
		if took := time.Since(start); took > time.Second {
			t.Errorf("noticed after %v, want with the next beat, within a second", took)
		}
		s.watch.arrives(s.store)
	})
}

// Messages that come twice, or again later, change nothing.
func TestRepeatedMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		var old [][]byte
		s.on(func(m []byte, put func([]byte)) {
			old = append(old, slices.Clone(m))
			put(m)
			put(m)
			put(old[rand.IntN(len(old))])
		})
		for range 100 {
			time.Sleep(time.Second)
			s.watch.quiet("beats")
			r := insert(t, s.store)
			synctest.Wait()
			s.watch.expect(changed(r))
		}
	})
}

// Two messages in the wrong order are as good as one that is missing.
func TestReorderedMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		var held []byte
		s.on(func(m []byte, put func([]byte)) {
			if held == nil {
				held = slices.Clone(m)
				return
			}
			put(m)
			put(held)
			held = nil
		})
		s.watch.expect(lost, started)
	})
}

// A frozen broker delivers nothing and fails nothing.
func TestBeatsStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, limit := range []time.Duration{0, 100 * time.Millisecond, 20 * time.Second} {
			opts := options()
			opts.LostAfter = limit
			store, conn := new(keyring.MemoryStore), new(broker)
			publish(t, store, conn, opts)
			w := watchOf(t, fanout.New(store, conn, opts))
			w.expect(started)
			if limit == 0 {
				limit = lostAfter
			}
			time.Sleep(10 * limit)
			w.quiet("while beats arrive")
			conn.set(func() { conn.deliver = func(string, []byte, func([]byte)) {} })
			start := time.Now()
			w.expect(lost)
			if took := time.Since(start); took > limit {
				t.Errorf("LostAfter %v: lost after %v", limit, took)
			}
			if took := time.Since(start); took < limit/2 {
				t.Errorf("LostAfter %v: lost after %v, too early", limit, took)
			}
		}
	})
}

// A connection that becomes slow delivers each message, but late.
func TestLateMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		s.on(func(m []byte, put func([]byte)) {
			m = slices.Clone(m)
			time.AfterFunc(10*time.Second, func() { put(m) })
		})
		start := time.Now()
		s.watch.expect(lost)
		if took := time.Since(start); took > lostAfter {
			t.Errorf("lost after %v, want %v", took, lostAfter)
		}
		time.Sleep(time.Hour)
		s.watch.quiet("messages that are 10 seconds old")
		s.on(func(m []byte, put func([]byte)) { put(m) })
		s.watch.expect(started)
	})
}

// A connection that gets slower by and by is noticed too.
func TestLaterAndLaterMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		begin := time.Now()
		s.on(func(m []byte, put func([]byte)) { // a second takes 1.1 seconds
			m = slices.Clone(m)
			time.AfterFunc(time.Since(begin)/10, func() { put(m) })
		})
		s.watch.expect(lost)
		if delay := time.Since(begin) / 10; delay > lostAfter {
			t.Errorf("lost when messages were %v late, want %v at most", delay, lostAfter)
		}
	})
}

// A publisher whose watch is lost sends no beats.
func TestPublisherLosesWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, conn, store := new(database), new(broker), new(keyring.MemoryStore)
		source := db.newSource()
		publish(t, source, conn, options())
		w := watchOf(t, fanout.New(store, conn, options()))
		w.expect(started)
		source.trouble <- 10 * time.Second
		time.Sleep(modelBound)
		w.expect(lost)
		start := time.Now()
		w.expect(started)
		if took := time.Since(start); took < 9*time.Second {
			t.Errorf("started again after %v, before the watch of the publisher", took)
		}

		// The message that says so is lost, and the watch is there again at once.
		time.Sleep(time.Minute)
		conn.set(func() { conn.deliver = func(string, []byte, func([]byte)) {} })
		source.trouble <- time.Millisecond
		time.Sleep(modelBound + 500*time.Millisecond)
		conn.set(func() { conn.deliver = nil })
		w.expect(lost, started)
	})
}

// While one of two publishers is complete, nobody notices the end of the other.
func TestTwoPublishers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		time.Sleep(time.Minute)
		for range 3 {
			end := publish(t, s.store, s.conn, options())
			time.Sleep(time.Minute)
			s.watch.quiet("another publisher")
			s.end()
			s.end = end
			time.Sleep(time.Minute)
			s.watch.quiet("one of two publishers ended")
			r := insert(t, s.store)
			s.watch.expect(changed(r))
		}
		s.end()
		s.watch.expect(lost)
	})
}

// What two publishers report is reported twice.
func TestPublishedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		publish(t, s.store, s.conn, options())
		time.Sleep(time.Minute)
		r := insert(t, s.store)
		s.watch.expect(changed(r), changed(r))
	})
}

// A publisher that has just come does not know what the other one has missed. If
// that is lost so soon, copies are discarded.
func TestPublisherThatHasJustCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		time.Sleep(time.Minute)
		publish(t, s.store, s.conn, options())
		time.Sleep(19 * time.Second) // less than WatchBound and LostAfter
		s.watch.quiet("another publisher")
		s.end()
		s.watch.expect(lost, started)
	})
}

// A publisher that misses changes without knowing it, and is replaced.
func TestPublisherThatIsDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, conn, store := new(database), new(broker), new(keyring.MemoryStore)
		opts := options()
		opts.WatchBound = modelBound
		deaf := db.newSource()
		end := publish(t, deaf, conn, opts)
		w := watchOf(t, fanout.New(store, conn, opts))
		w.expect(started)
		deaf.trouble <- time.Hour
		time.Sleep(time.Millisecond)
		db.commit() // nobody hears of it
		publish(t, db.newSource(), conn, opts)
		w.expect(lost, started)
		_ = end
	})
}

// If the connection is back before anything was missed, no copy is discarded.
func TestShortDisconnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, store := &network{random: rand.New(rand.NewPCG(1, 2)), perfect: true}, new(keyring.MemoryStore)
		publish(t, store, net.newLink(), options())
		link := net.newLink()
		w := watchOf(t, fanout.New(store, link, options()))
		w.expect(started)
		for range 100 {
			time.Sleep(time.Second)
			link.set(true, false)
			link.set(false, false)
		}
		for _, c := range w.all() { // a beat may have come in that moment
			if c.Kind == auth.RecordChanged {
				t.Errorf("reported %v, though nothing was changed", c)
			}
		}
		time.Sleep(10 * time.Second)
		link.set(true, false)
		insert(t, store)
		time.Sleep(10 * time.Millisecond)
		link.set(false, false)
		w.expect(lost, started)
	})
}

// The machine was suspended, and its monotonic clock stood still.
func TestSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var offset atomic.Int64
		defer fanout.SetWall(func(now time.Time) time.Time {
			return now.Round(0).Add(time.Duration(offset.Load()))
		})()
		s := newSetup(t)
		for _, d := range []time.Duration{2 * time.Second, time.Hour, -time.Minute} {
			time.Sleep(10 * time.Minute)
			s.watch.quiet("before it is suspended")
			offset.Add(int64(d))
			start := time.Now()
			s.watch.expect(lost)
			if took := time.Since(start); took > 500*time.Millisecond {
				t.Errorf("suspended for %v: noticed after %v", d, took)
			}
			s.watch.expect(started)
		}
		s.watch.end()
		s.end()
	})
}

// Old messages of a publisher keep nobody content, neither one who knew it nor
// one who did not.
func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		messages := s.conn.record(changes)
		time.Sleep(time.Minute)
		r := insert(t, s.store)
		s.watch.expect(changed(r))
		time.Sleep(time.Minute)
		recorded := messages()
		if len(recorded) < 100 {
			t.Fatalf("recorded %d messages, want 100", len(recorded))
		}
		s.conn.set(func() { s.conn.fail = errors.New("down") })
		s.end()
		s.watch.expect(lost)
		s.conn.set(func() { s.conn.fail = nil })
		w := watchOf(t, fanout.New(s.store, s.conn, options()))
		for range 3 {
			for _, m := range recorded {
				s.conn.Publish(t.Context(), changes, m)
				time.Sleep(time.Second)
			}
		}
		s.watch.quiet("a recording, to one who knew the publisher")
		w.quiet("a recording, to one who did not")
	})
}

// Without the secret, nothing can be changed, made up, or sent on another
// channel.
func TestForgery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		messages := s.conn.record(changes)
		insert(t, s.store)
		time.Sleep(2 * time.Second)
		recorded := messages()
		s.watch.all()
		for range 2 {
			for _, m := range recorded {
				for bit := range 8 * len(m) {
					forged := slices.Clone(m)
					forged[bit/8] ^= 1 << (bit % 8)
					s.conn.Publish(t.Context(), changes, forged)
				}
				for n := range m {
					s.conn.Publish(t.Context(), changes, m[:n])
					s.conn.Publish(t.Context(), changes, append(slices.Clone(m), m[:n]...))
				}
				s.conn.Publish(t.Context(), changes, make([]byte, 1<<20))
				time.Sleep(time.Second)
			}
		}
		s.watch.quiet("forged messages")

		opts := options()
		opts.Secret = []byte("another secret of 32 bytes or so")
		publish(t, s.store, s.conn, opts)
		opts = options()
		opts.Realm = "other"
		other := newOther(t, opts)
		for _, m := range other {
			s.conn.Publish(t.Context(), changes, m)
		}
		time.Sleep(time.Minute)
		s.watch.quiet("messages under another secret, and those of another API")
	})
}

// newOther returns what a publisher of another API sends.
func newOther(t *testing.T, opts *fanout.Options) [][]byte {
	store, conn := new(keyring.MemoryStore), new(broker)
	messages := conn.record("auth:other:changes")
	publish(t, store, conn, opts)
	insert(t, store)
	time.Sleep(time.Minute)
	list := messages()
	if len(list) < 10 {
		t.Fatalf("recorded %d messages, want 10", len(list))
	}
	return list
}

// Two APIs that have the same Prefix and Secret by mistake do not mix.
func TestSamePrefix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, conn, opts, other := new(keyring.MemoryStore), new(broker), options(), options()
		opts.Prefix, opts.Realm = "auth:", "a"
		other.Prefix, other.Realm = "auth:", "b"
		publish(t, store, conn, other)
		w := watchOf(t, fanout.New(store, conn, opts))
		time.Sleep(time.Minute)
		w.quiet("the publisher of another API")
		publish(t, store, conn, opts)
		w.expect(started)
	})
}

// Somebody who passes on all messages between two APIs with the same secret
// makes nobody content with the publisher of the other.
func TestOtherAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, conn := new(keyring.MemoryStore), new(broker)
		pass := func(from, to string) {
			ctx, cancel := context.WithCancel(t.Context())
			done, ready := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				conn.Subscribe(ctx, from, func() { close(ready) }, func(m []byte) { conn.Publish(ctx, to, m) })
			}()
			<-ready
			t.Cleanup(func() { cancel(); <-done })
		}
		opts := options()
		opts.Realm = "other"
		pass("auth:other:changes", changes)
		pass(hellos, "auth:other:hellos")
		publish(t, store, conn, opts)
		w := watchOf(t, fanout.New(store, conn, options()))
		time.Sleep(time.Minute)
		w.quiet("the publisher of another API")
	})
}
