package apilog_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
)

// hang makes Append of s wait until the function that it returns is called. A
// context does not end it.
func hang(s *testStore) (release func()) {
	released := make(chan struct{})
	s.onAppend(func(context.Context, []apilog.Entry) error {
		<-released
		return nil
	})
	return sync.OnceFunc(func() { close(released) })
}

// perKey returns how many entries of each KeyID there are, and how many were
// lost.
func perKey(entries []apilog.Entry) (kept, lost map[string]int64) {
	kept, lost = make(map[string]int64), make(map[string]int64)
	for _, e := range entries {
		if e.Lost != 0 {
			lost[e.KeyID] += e.Lost
		} else {
			kept[e.KeyID]++
		}
	}
	return kept, lost
}

// A key fills a sixteenth of the queue. What is beyond is counted, and other
// keys lose nothing.
func TestShareOfAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTestStore()
		release := hang(store)
		opts := unlimited()
		opts.QueueSize = 1600
		g := guard(store, opts, answer(200))
		flooding := g.keys.add(auth.Record{ID: "flooding", Owner: "org_1"})
		calm := g.keys.add(auth.Record{ID: "calm", Owner: "org_1"})
		for range 1000 {
			g.send(flooding)
			g.send("")
		}
		for range 100 {
			g.send(calm)
		}
		release()
		kept, lost := perKey(closed(t, g.recorder, store))
		for _, c := range []struct {
			key        string
			kept, lost int64
		}{{"flooding", 100, 900}, {"", 100, 900}, {"calm", 100, 0}} {
			if kept[c.key] != c.kept {
				t.Errorf("%d entries of %q, want %d", kept[c.key], c.key, c.kept)
			}
			if lost[c.key] != c.lost {
				t.Errorf("%d lost of %q, want %d", lost[c.key], c.key, c.lost)
			}
		}
		if n := g.recorder.Dropped(); n != 1800 {
			t.Errorf("Dropped is %d, want 1800", n)
		}
	})
}

// An owner with many keys fills no more than an eighth of the queue, also with
// keys that are revoked.
func TestShareOfAnOwner(t *testing.T) {
	for _, revoked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			store := newTestStore()
			release := hang(store)
			opts := unlimited()
			opts.QueueSize = 320
			g := guard(store, opts, answer(200))
			for i := range 40 {
				id := fmt.Sprint("key_", i)
				key := g.keys.add(auth.Record{ID: id, Owner: "flooding"})
				if revoked {
					g.keys.revoke(id)
				}
				for range 10 {
					g.send(key)
				}
			}
			g.send(g.keys.add(auth.Record{ID: "calm", Owner: "calm"}))
			release()
			ofOwner := make(map[string]int64)
			var lost int64
			for _, e := range closed(t, g.recorder, store) {
				if e.Lost == 0 {
					ofOwner[e.Owner]++
				}
				lost += e.Lost
			}
			if n := ofOwner["flooding"]; n != 40 {
				t.Errorf("revoked %v: %d entries of the owner who floods, want 40 of 320", revoked, n)
			}
			if n := ofOwner["calm"]; n != 1 {
				t.Errorf("revoked %v: %d entries of the calm owner, want 1", revoked, n)
			}
			if lost != 360 {
				t.Errorf("revoked %v: %d are counted as lost, want 360", revoked, lost)
			}
		})
	}
}

// The queue is bounded.
func TestQueueIsBounded(t *testing.T) {
	for _, size := range []int{1, 2, 15, 16, 17, 100} {
		synctest.Test(t, func(t *testing.T) {
			store := newTestStore()
			release := hang(store)
			opts := unlimited()
			opts.QueueSize = size
			g := guard(store, opts, answer(200))
			for i := range 500 {
				g.send(g.keys.add(auth.Record{ID: fmt.Sprint(i), Owner: fmt.Sprint("org_", i)}))
			}
			release()
			kept, lost := perKey(closed(t, g.recorder, store))
			if len(kept) != size {
				t.Errorf("QueueSize %d: %d entries are kept", size, len(kept))
			}
			var sum int64
			for _, n := range lost {
				sum += n
			}
			if want := int64(500 - size); sum != want {
				t.Errorf("QueueSize %d: %d are counted as lost, want %d", size, sum, want)
			}
		})
	}
}

// What was written makes room again.
func TestShareIsFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTestStore()
		opts := unlimited()
		opts.QueueSize = 160
		g := guard(store, opts, answer(200))
		key := g.keys.add(auth.Record{ID: "key_1", Owner: "org_1"})
		for range 100 {
			for range 10 {
				g.send(key)
			}
			time.Sleep(2 * time.Second) // more than the flush interval
		}
		kept, lost := perKey(closed(t, g.recorder, store))
		if kept["key_1"] != 1000 {
			t.Errorf("%d of 1000 entries are kept", kept["key_1"])
		}
		if len(lost) > 0 {
			t.Errorf("%v are lost", lost)
		}
	})
}

// Of some requests, so many are kept in a second.
func TestRates(t *testing.T) {
	for _, c := range []struct {
		name    string
		keyless int
		key     string // of keysOf
		status  int
		want    int64
	}{
		{"no key", 0, "", 200, 20},
		{"an unknown key", 0, "unknown", 200, 20},
		{"no key, with an option", 3, "", 200, 3},
		{"no key, none are kept", -1, "", 200, 0},
		{"refusals of a key", 0, "revoked", 200, 20},
		{"refusals of a key, with an option", -1, "revoked", 200, 20},
		{"a good key", 0, "good", 200, 100},
		{"errors of a good key", 0, "good", 404, 100},
	} {
		synctest.Test(t, func(t *testing.T) {
			store := newTestStore()
			g := guard(store, &apilog.Options{KeylessPerSecond: c.keyless, Logger: quiet}, answer(c.status))
			key := keysOf(g.keys)[c.key]
			seconds := int64(3)
			for range seconds {
				for range 100 {
					g.send(key)
				}
				time.Sleep(time.Second)
			}
			var kept, lost int64
			for _, e := range closed(t, g.recorder, store) {
				if e.Lost == 0 {
					kept++
				}
				lost += e.Lost
			}
			if kept != seconds*c.want {
				t.Errorf("%s: %d entries in %d s, want %d in each", c.name, kept, seconds, c.want)
			}
			if kept+lost != seconds*100 {
				t.Errorf("%s: %d entries and %d lost of %d requests", c.name, kept, lost, seconds*100)
			}
		})
	}
}

// The refusals of an owner with many revoked keys are limited, too.
func TestRateOfAnOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTestStore()
		g := guard(store, &apilog.Options{Logger: quiet}, answer(200))
		for i := range 30 {
			id := fmt.Sprint("key_", i)
			key := g.keys.add(auth.Record{ID: id, Owner: "org_1"})
			g.keys.revoke(id)
			for range 10 {
				g.send(key)
			}
		}
		kept, _ := perKey(closed(t, g.recorder, store))
		var n int64
		for _, of := range kept {
			n += of
		}
		if n != 100 {
			t.Errorf("%d of 300 refusals are kept, want 100 a second", n)
		}
	})
}

// Other modules' refusals are limited as those of auth.
func TestRateOfSetCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTestStore()
		g := guard(store, &apilog.Options{Logger: quiet}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			apilog.SetCode(r.Context(), "RATE_LIMITED")
			w.WriteHeader(429)
		}))
		key := g.keys.add(auth.Record{ID: "key_1", Owner: "org_1"})
		for range 100 {
			g.send(key)
		}
		entries := closed(t, g.recorder, store)
		if len(entries) != 21 {
			t.Fatalf("%d entries, want 20 and a count", len(entries))
		}
		count := entries[slices.IndexFunc(entries, func(e apilog.Entry) bool { return e.Lost != 0 })]
		want := apilog.Entry{ID: count.ID, Time: count.Time, KeyID: "key_1", Owner: "org_1", Lost: 80}
		if count != want {
			t.Errorf("the count is %+v, want %+v", count, want)
		}
	})
}

// A request waits for no write: not even for one that never ends.
func TestNoRequestWaits(t *testing.T) {
	store := newTestStore()
	release := hang(store)
	g := guard(store, &apilog.Options{QueueSize: 1000, Logger: quiet}, answer(200))
	var clients sync.WaitGroup
	for i := range 32 {
		key := g.keys.add(auth.Record{ID: fmt.Sprint(i), Owner: "org_1"})
		clients.Go(func() {
			for range 500 {
				g.send(key)
			}
		})
	}
	clients.Wait() // would not end
	release()
	kept, lost := perKey(closed(t, g.recorder, store))
	for i := range 32 {
		if n := kept[fmt.Sprint(i)] + lost[fmt.Sprint(i)]; n != 500 {
			t.Errorf("key %d: %d of 500 requests", i, n)
		}
	}
}

// An entry that waits keeps neither the query of its request in memory, nor the
// rest of a long path.
func TestMemory(t *testing.T) {
	const requests, size = 5_000, 20_000
	store := newTestStore()
	release := hang(store)
	opts := unlimited()
	opts.QueueSize = 16 * requests // so that all are kept
	recorder := apilog.NewRecorder(store, opts)
	h := recorder.Middleware(answer(200))
	long := strings.Repeat("x", size)
	texts := []string{
		"GET /documents?q=" + long + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /" + long + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /%41" + long + " HTTP/1.1\r\nHost: x\r\n\r\n",
		long + " / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: " + long + "\r\nX-Request-Id: " + long + "\r\n\r\n",
	}
	before := heap()
	for i := range requests {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(texts[i%len(texts)])))
		if err != nil {
			t.Fatal(err)
		}
		serve(h, r)
	}
	used := int64(heap()) - int64(before)
	if most := int64(requests * 4000); used > most { // kept, it would be 100 MB
		t.Errorf("%d entries that wait need %d kB", requests, used>>10)
	}
	if n := recorder.Dropped(); n > 0 {
		t.Errorf("%d entries do not wait", n)
	}
	release()
	closed(t, recorder, store)
}

// So many keys that no count for each can be kept share one.
func TestManyKeysLose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTestStore()
		release := hang(store)
		opts := unlimited()
		opts.QueueSize = 16
		g := guard(store, opts, answer(200))
		const keys = 1000
		for i := range keys {
			g.send(g.keys.add(auth.Record{ID: fmt.Sprint(i), Owner: fmt.Sprint("org_", i)}))
		}
		release()
		kept, lost := perKey(closed(t, g.recorder, store))
		if len(lost) > 8*16+1 {
			t.Errorf("%d counts are kept for a queue of 16", len(lost))
		}
		var sum int64
		for _, n := range lost {
			sum += n
		}
		if got := sum + int64(len(kept)); got != keys {
			t.Errorf("%d entries and counts of %d requests", got, keys)
		}
	})
}

// Counts are written while a busy server keeps the writer busy.
func TestCountsOfABusyServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTestStore()
		store.onAppend(func(context.Context, []apilog.Entry) error {
			time.Sleep(10 * time.Millisecond)
			return nil
		})
		opts := unlimited()
		opts.QueueSize = 2000 // whose half wakes the writer
		opts.FlushInterval = 100 * time.Millisecond
		logger, text := captureLog()
		opts.Logger = logger
		g := guard(store, opts, answer(200))
		key := g.keys.add(auth.Record{ID: "key_1", Owner: "org_1"})
		for range 400 {
			time.Sleep(time.Millisecond)
			for range 30 {
				g.send(key)
			}
		}
		_, lost := perKey(entriesOf(t, store))
		if lost["key_1"] == 0 {
			t.Error("after 400 ms of work, no count is written")
		}
		if text.String() == "" {
			t.Error("after 400 ms of work, nothing is logged")
		}
		closed(t, g.recorder, store)
	})
}

var errDown = errors.New("the store is down")
