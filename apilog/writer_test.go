package apilog_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
)

// What stores do wrong, and how many of ten entries are lost by it.
var faults = []struct {
	name   string
	append func(ctx context.Context, entries []apilog.Entry) error
	lost   int64
}{
	{"it fails", func(context.Context, []apilog.Entry) error { return errDown }, 10},
	{"it panics", func(context.Context, []apilog.Entry) error { panic("isk_secret") }, 10},
	{"it hangs until its context ends", func(ctx context.Context, _ []apilog.Entry) error { <-ctx.Done(); return ctx.Err() }, 10},
	{"it refuses one entry", refuses(3), 1},
	{"it refuses three entries", refuses(0, 1, 9), 3},
	{"it refuses all entries", refuses(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), 10},
	{"it fails for a second", failsUntil(time.Second), 0},
}

// refuses fails batches that hold an entry with one of these paths.
func refuses(numbers ...int) func(context.Context, []apilog.Entry) error {
	return func(_ context.Context, entries []apilog.Entry) error {
		for _, e := range entries {
			for _, n := range numbers {
				if e.Path == fmt.Sprint("/", n) {
					return errors.New("a bad entry")
				}
			}
		}
		return nil
	}
}

func failsUntil(d time.Duration) func(context.Context, []apilog.Entry) error {
	var once sync.Once
	var until time.Time
	return func(context.Context, []apilog.Entry) error {
		once.Do(func() { until = time.Now().Add(d) })
		if time.Now().Before(until) {
			return errDown
		}
		return nil
	}
}

func TestFaultsOfTheStore(t *testing.T) {
	for _, c := range faults {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newTestStore()
				store.onAppend(c.append)
				opts := unlimited()
				logger, text := captureLog()
				opts.Logger = logger
				g := guard(store, opts, answer(200))
				key := g.keys.add(auth.Record{ID: "key_1", Owner: "org_1"})
				for i := range 10 {
					r := requestWith(key)
					r.URL.Path = fmt.Sprint("/", i)
					serve(g, r)
				}
				time.Sleep(3 * time.Minute)
				if n := g.recorder.Dropped(); n != uint64(c.lost) {
					t.Errorf("Dropped is %d, want %d", n, c.lost)
				}
				store.onAppend(nil)
				time.Sleep(10 * time.Second) // more than the longest Append
				kept, lost := perKey(entriesOf(t, store))
				if want := 10 - c.lost; kept["key_1"] != want {
					t.Errorf("%d entries, want %d", kept["key_1"], want)
				}
				if lost["key_1"] != c.lost {
					t.Errorf("once the store is back it has a count of %d, want %d", lost["key_1"], c.lost)
				}
				if n := strings.Count(text.String(), "entries were lost"); n != int(min(c.lost, 1)) {
					t.Errorf("%d log lines:\n%s", n, text)
				}
				if strings.Contains(text.String(), "isk_secret") {
					t.Errorf("the log has the value of a panic: %s", text)
				}
				closed(t, g.recorder, store)
			})
		})
	}
}

// Lost entries are logged once a minute, without what they are.
func TestLogOfLostEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTestStore()
		store.onAppend(func(context.Context, []apilog.Entry) error { return errDown })
		opts := unlimited()
		logger, text := captureLog()
		opts.Logger = logger
		g := guard(store, opts, answer(200))
		key := g.keys.add(auth.Record{ID: "key_1", Owner: "org_1"})
		for range 100 {
			r := requestWith(key)
			r.Header.Set("User-Agent", "some browser")
			serve(g, r)
			time.Sleep(3 * time.Second)
		}
		lines := strings.Split(strings.TrimSpace(text.String()), "\n")
		if n := len(lines); n < 5 || n > 6 {
			t.Errorf("%d log lines in 5 minutes:\n%s", n, text)
		}
		for _, line := range lines {
			if !strings.Contains(line, errDown.Error()) {
				t.Errorf("the log does not say why: %s", line)
			}
		}
		for _, never := range []string{"some browser", "/documents", "key_1", "org_1", key} {
			if strings.Contains(text.String(), never) {
				t.Errorf("the log holds %q:\n%s", never, text)
			}
		}
		store.onAppend(nil)
		closed(t, g.recorder, store)
	})
}

// An entry is in the store within the FlushInterval, and sooner if there are
// many.
func TestFlushInterval(t *testing.T) {
	for _, c := range []struct {
		interval, want time.Duration
		requests       int
	}{{0, time.Second, 10}, {time.Minute, time.Minute, 10}, {time.Minute, 0, 1000}} {
		synctest.Test(t, func(t *testing.T) {
			store := newTestStore()
			opts := unlimited()
			opts.FlushInterval = c.interval
			recorder := apilog.NewRecorder(store, opts)
			h := recorder.Middleware(answer(200))
			for range c.requests {
				serve(h, requestWith(""))
			}
			if c.want > 0 {
				time.Sleep(c.want - 1)
				synctest.Wait()
				if n := len(entriesOf(t, store)); n > 0 {
					t.Errorf("%d entries are written before %v", n, c.want)
				}
				time.Sleep(time.Nanosecond)
			}
			synctest.Wait()
			if n := len(entriesOf(t, store)); n != c.requests {
				t.Errorf("%d entries after %v, want %d", n, c.want, c.requests)
			}
			closed(t, recorder, store)
		})
	}
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTestStore()
		opts := unlimited()
		opts.KeylessPerSecond = 5
		recorder := apilog.NewRecorder(store, opts)
		h := recorder.Middleware(answer(200))
		for range 7 {
			serve(h, requestWith(""))
		}
		began := time.Now()
		kept, lost := perKey(closed(t, recorder, store))
		if took := time.Since(began); took > 0 {
			t.Errorf("Close took %v", took)
		}
		if kept[""] != 5 || lost[""] != 2 {
			t.Errorf("%d entries and %d lost, want 5 and 2", kept[""], lost[""])
		}
		calls := store.appended.Load()
		serve(h, requestWith(""))
		if n := recorder.Dropped(); n != 3 {
			t.Errorf("Dropped is %d after a request that came too late, want 3", n)
		}
		if err := recorder.Close(ctx); err != nil {
			t.Errorf("the second Close: %v", err)
		}
		time.Sleep(time.Hour)
		if n := store.appended.Load() - calls; n != 0 {
			t.Errorf("%d writes after Close", n)
		}
	})
}

// Close of a store that hangs ends with its context, and says what is lost.
func TestCloseOfAHungStore(t *testing.T) {
	for _, heeds := range []bool{false, true} {
		for _, keyless := range []int{1 << 30, -1} { // entries, or only a count
			synctest.Test(t, func(t *testing.T) {
				store := newTestStore()
				release := hang(store)
				if heeds {
					store.onAppend(func(ctx context.Context, _ []apilog.Entry) error { <-ctx.Done(); return ctx.Err() })
				}
				opts := unlimited()
				opts.KeylessPerSecond = keyless
				logger, text := captureLog()
				opts.Logger = logger
				recorder := apilog.NewRecorder(store, opts)
				h := recorder.Middleware(answer(200))
				for range 7 {
					serve(h, requestWith(""))
				}
				time.Sleep(1500 * time.Millisecond) // the writer hangs
				began := time.Now()
				ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
				defer cancel()
				err := recorder.Close(ctx)
				if took := time.Since(began); took != 3*time.Second {
					t.Errorf("Close took %v, want the 3 s of its context", took)
				}
				if err == nil || !strings.Contains(err.Error(), "has no count of 7") {
					t.Errorf("Close: %v, want an error of 7 entries", err)
				}
				if again := recorder.Close(context.Background()); again != err {
					t.Errorf("the second Close: %v, want %v", again, err)
				}
				if n := recorder.Dropped(); n != 7 {
					t.Errorf("Dropped is %d, want 7", n)
				}
				if !strings.Contains(text.String(), "entries=7") {
					t.Errorf("the log does not tell it: %s", text)
				}
				calls := store.appended.Load()
				serve(h, requestWith("")) // is lost
				release()
				synctest.Wait()
				if n := store.appended.Load() - calls; n != 0 {
					t.Errorf("%d writes after Close", n)
				}
			})
		}
	}
}

// Close gives up batches that the writer was about to take.
func TestCloseWhileBatchesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTestStore()
		next := make(chan struct{})
		store.onAppend(func(context.Context, []apilog.Entry) error { <-next; return nil })
		recorder := apilog.NewRecorder(store, unlimited())
		h := recorder.Middleware(answer(200))
		serve(h, requestWith(""))
		time.Sleep(1100 * time.Millisecond) // it is being written
		for range 3000 {
			serve(h, requestWith(""))
		}
		next <- struct{}{}
		synctest.Wait() // the first of three batches is being written
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		if err := recorder.Close(ctx); err == nil {
			t.Error("Close: no error, though batches wait")
		}
		close(next)
		synctest.Wait()
		if n := recorder.Dropped(); n != 3000 {
			t.Errorf("Dropped is %d, want 3000", n)
		}
	})
}

// Close waits for a store that comes back in time.
func TestCloseWaitsForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTestStore()
		store.onAppend(failsUntil(1500 * time.Millisecond))
		recorder := apilog.NewRecorder(store, unlimited())
		serve(recorder.Middleware(answer(200)), requestWith(""))
		time.Sleep(1100 * time.Millisecond) // it is being written
		only(t, closed(t, recorder, store))
	})
}

// Requests during Close are entries or lost, and never block it.
func TestCloseDuringRequests(t *testing.T) {
	for range 20 {
		store := newTestStore()
		g := guard(store, unlimited(), answer(200))
		const clients, each = 4, 200
		started := make(chan struct{}, clients)
		var done sync.WaitGroup
		for i := range clients {
			key := g.keys.add(auth.Record{ID: fmt.Sprint(i), Owner: "org_1"})
			done.Go(func() {
				for n := range each {
					g.send(key)
					if n == 10 {
						started <- struct{}{}
					}
				}
			})
		}
		for range clients {
			<-started
		}
		var closing sync.WaitGroup
		for range 3 {
			closing.Go(func() { g.recorder.Close(ctx) })
		}
		closing.Wait()
		done.Wait()
		kept, _ := perKey(entriesOf(t, store))
		var stored int64
		for _, n := range kept {
			stored += n
		}
		if got := stored + int64(g.recorder.Dropped()); got != clients*each {
			t.Errorf("%d entries and %d dropped of %d requests", stored, g.recorder.Dropped(), clients*each)
		}
	}
}

// Each request is an entry, or is counted, or Close
// says that it is not. A count is that of its key.
func TestEveryRequestIsAccountedFor(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { account(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func account(t *testing.T, random *rand.Rand) {
	store := newTestStore()
	var mu sync.Mutex
	mode, modes := 0, rand.New(rand.NewPCG(random.Uint64(), 1))
	store.onAppend(func(ctx context.Context, entries []apilog.Entry) error {
		mu.Lock()
		mode, roll := mode, modes.IntN(100)
		mu.Unlock()
		for _, e := range entries {
			if mode == 5 && e.Lost == 0 && e.Path == "/bad" {
				return errors.New("a bad entry")
			}
		}
		switch {
		case mode == 1, mode == 4 && roll < 40:
			return errDown
		case mode == 2, mode == 4 && roll < 50:
			panic("down")
		case mode == 3, mode == 4 && roll < 52:
			<-ctx.Done()
			return ctx.Err()
		case mode == 6:
			time.Sleep(time.Duration(roll) * time.Millisecond)
		}
		return nil
	})
	opts := unlimited()
	opts.QueueSize = 1 + random.IntN(300)
	opts.KeylessPerSecond = random.IntN(60) - 1
	g := guard(store, opts, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			apilog.SetCode(r.Context(), "RATE_LIMITED")
			w.WriteHeader(429)
		}
	}))
	keys := []string{""}
	ids := []string{""}
	for i := range 1 + random.IntN(20) {
		ids = append(ids, fmt.Sprint("key_", i))
		keys = append(keys, g.keys.add(auth.Record{ID: ids[i+1], Owner: "org_1"}))
	}
	sent := make(map[string]int64)
	bad := int64(0)
	onlyBad := random.IntN(2) == 0 // the store's only fault
	for range 200 {
		switch random.IntN(10) {
		case 0:
			mu.Lock()
			if mode = random.IntN(7); onlyBad {
				mode = 5
			}
			mu.Unlock()
		case 1, 2:
			time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
		default:
			k := random.IntN(len(keys))
			path := []string{"/", "/", "/bad", "/refused"}[random.IntN(4)]
			for range 1 + random.IntN(40) {
				r := httptest.NewRequest("GET", path, nil)
				if keys[k] != "" {
					r.Header.Set("Authorization", "Bearer "+keys[k])
				}
				serve(g, r)
				sent[ids[k]]++
				if path == "/bad" {
					bad++
				}
			}
		}
	}
	if random.IntN(2) == 0 {
		mu.Lock()
		mode = 0
		mu.Unlock()
		time.Sleep(10 * time.Minute)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(random.IntN(20_000))*time.Millisecond)
	defer cancel()
	err := g.recorder.Close(ctx)
	var lostNow, uncounted int64
	if err != nil {
		text, _, _ := strings.Cut(err.Error(), "\n")
		if _, err := fmt.Sscanf(text, "apilog: close: %d entries were lost; the store has no count of %d", &lostNow, &uncounted); err != nil {
			t.Fatalf("the error of Close is %q: %v", text, err)
		}
	}
	kept, lost := perKey(entriesOf(t, store))
	var requests, stored, counted int64
	for id, n := range sent {
		requests += n
		stored += kept[id]
		counted += lost[id]
		if got := kept[id] + lost[id]; got > n {
			t.Errorf("%q: %d entries and %d lost of %d requests", id, kept[id], lost[id], n)
		} else if got != n && uncounted == 0 {
			t.Errorf("%q: %d entries and %d lost of %d requests, and Close knows of no others", id, kept[id], lost[id], n)
		}
	}
	// What the store was about to store when ctx ended may be counted as well.
	inTime := ctx.Err() == nil
	if got := stored + counted + uncounted; got < requests || inTime && got > requests {
		t.Errorf("%d entries, %d counted and %d others of %d requests: %v", stored, counted, uncounted, requests, err)
	}
	if want := uint64(requests - stored); g.recorder.Dropped() < want || inTime && g.recorder.Dropped() > want {
		t.Errorf("Dropped is %d, want %d", g.recorder.Dropped(), want)
	}
}

// A second Close waits for the first one, but no longer than its context.
func TestSecondClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTestStore()
		release := hang(store)
		g := guard(store, unlimited(), answer(200))
		g.send(g.keys.add(auth.Record{ID: "key_1", Owner: "org_1"}))
		first := make(chan error)
		go func() { first <- g.recorder.Close(context.Background()) }()
		synctest.Wait()
		short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		if err := g.recorder.Close(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the second Close: %v, want the error of its context", err)
		}
		release()
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

// The error of a store may quote what it was given. A key is not logged.
func TestErrorsAreCleaned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTestStore()
		store.onAppend(func(context.Context, []apilog.Entry) error { return errors.New("bad value " + goodKey) })
		logger, text := captureLog()
		opts := unlimited()
		opts.Logger = logger
		g := guard(store, opts, answer(200))
		g.send(g.keys.add(auth.Record{ID: "key_1", Owner: "org_1"}))
		g.recorder.Close(context.Background())
		if !strings.Contains(text.String(), "bad value [key]") {
			t.Errorf("the log is %q, want the error with [key]", text)
		}
	})
}
