package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// A touchStore is a MemoryStore that notes what is written when, and fails or
// hangs on demand.
type touchStore struct {
	*keyring.MemoryStore
	keys []auth.Key // of the records numbered(i)

	mu     sync.Mutex
	at     []time.Time
	writes []map[string]time.Time
	err    error
	hangs  bool
}

func (s *touchStore) Touch(ctx context.Context, lastUsed map[string]time.Time) error {
	s.mu.Lock()
	s.at = append(s.at, time.Now())
	s.writes = append(s.writes, maps.Clone(lastUsed))
	err, hangs := s.err, s.hangs
	s.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	return s.MemoryStore.Touch(ctx, lastUsed)
}

func (s *touchStore) set(err error, hangs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.hangs = err, hangs
}

func (s *touchStore) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.writes)
}

func (s *touchStore) lastUsed(i int) time.Time {
	r, err := s.Get(context.Background(), numbered(i).ID)
	if err != nil {
		return time.Time{}
	}
	return r.LastUsedAt
}

// newTouchStore returns a store with n keys.
func newTouchStore(t *testing.T, n int) *touchStore {
	t.Helper()
	s := &touchStore{MemoryStore: new(keyring.MemoryStore)}
	for i := range n {
		key := auth.Scheme{}.NewKey()
		r := numbered(i)
		r.Hash, r.Scopes = auth.Scheme{}.Hashes(key)[0], auth.Scopes{"a.x"}
		put(t, s, r)
		s.keys = append(s.keys, key)
	}
	return s
}

// newRecorder returns a recorder for s, and a func that uses the key of
// numbered(i).
func newRecorder(t *testing.T, s keyring.Store, keys []auth.Key,
	opts *keyring.LastUsedOptions) (*keyring.LastUsedRecorder, func(i int)) {
	recorder := keyring.NewLastUsedRecorder(s, opts)
	a := auth.New(s, &auth.Options{OnDecision: recorder.OnDecision})
	return recorder, func(i int) {
		if _, err := a.Verify(ctx, keys[i].Reveal()); err != nil {
			t.Errorf("key %d: %v", i, err)
		}
	}
}

func quiet() *keyring.LastUsedOptions {
	return &keyring.LastUsedOptions{Logger: slog.New(slog.DiscardHandler)}
}

func TestNewLastUsedRecorderPanics(t *testing.T) {
	store := new(keyring.MemoryStore)
	for _, c := range []struct {
		name  string
		store keyring.Store
		opts  keyring.LastUsedOptions
		want  string
	}{
		{"no store", nil, keyring.LastUsedOptions{}, "keyring.NewLastUsedRecorder: the store is nil"},
		{"Interval", store, keyring.LastUsedOptions{Interval: -1},
			"keyring.NewLastUsedRecorder: Interval is -1ns, which is negative"},
		{"MaxKeys", store, keyring.LastUsedOptions{MaxKeys: -1},
			"keyring.NewLastUsedRecorder: MaxKeys is -1, which is negative"},
	} {
		panics(t, c.name, c.want, func() { keyring.NewLastUsedRecorder(c.store, &c.opts) })
	}
}

// There is one write in an interval, give or take a tenth, however often a key
// is used.
func TestLastUsedIsWrittenOncePerInterval(t *testing.T) {
	for _, interval := range []time.Duration{0, time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			store := newTouchStore(t, 2)
			recorder, use := newRecorder(t, store, store.keys, &keyring.LastUsedOptions{Interval: interval})
			if interval == 0 {
				interval = time.Minute
			}
			start := time.Now()
			var newest time.Time
			for time.Since(start) < 50*interval {
				for range 20 {
					newest = time.Now()
					use(0)
				}
				time.Sleep(interval / 16)
			}
			synctest.Wait()
			waits := make(map[time.Duration]bool)
			last := start
			for i, at := range store.at {
				wait := at.Sub(last)
				last = at
				waits[wait] = true
				equal(t, "a wait of less than nine tenths", wait < interval*9/10, false)
				equal(t, "a wait of more than eleven tenths", wait > interval*11/10, false)
				equal(t, "keys written", len(store.writes[i]), 1)
			}
			equal(t, "writes, about 50", store.count() >= 45 && store.count() <= 56, true)
			equal(t, "different waits", len(waits) >= 10, true)
			must(t, recorder.Close())
			equal(t, "last used", store.lastUsed(0), newest.Truncate(time.Microsecond).UTC())
			equal(t, "the key that was not used", store.lastUsed(1).IsZero(), true)
		})
	}
}

// If no key is used, nothing is written.
func TestLastUsedWithoutUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTouchStore(t, 1)
		recorder, _ := newRecorder(t, store, store.keys, nil)
		time.Sleep(time.Hour)
		fails(t, "Close", recorder.Close(), nil, "")
		equal(t, "writes", store.count(), 0)
		equal(t, "dropped", recorder.Dropped(), 0)
	})
}

// A use is a decision for which the store was asked, and the key was good.
func TestWhatIsAUse(t *testing.T) {
	type wrapper = func(a *auth.Authenticator, h http.Handler) http.Handler
	middleware := func(a *auth.Authenticator, h http.Handler) http.Handler { return a.Middleware(h) }
	both := func(a *auth.Authenticator, h http.Handler) http.Handler { return a.Middleware(auth.Require("a.x")(h)) }
	alone := func(a *auth.Authenticator, h http.Handler) http.Handler { return a.Require("a.x")(h) }
	lacking := func(a *auth.Authenticator, h http.Handler) http.Handler { return a.Require("b.x")(h) }
	lackingBoth := func(a *auth.Authenticator, h http.Handler) http.Handler { return a.Middleware(a.Require("b.x")(h)) }
	none := func(r *auth.Record) {}
	for _, c := range []struct {
		name   string
		wrap   wrapper
		change func(r *auth.Record)
		key    string // instead of the right one
		want   bool
	}{
		{"Middleware", middleware, none, "", true},
		{"Middleware and Require", both, none, "", true},
		{"Require", alone, none, "", true},
		{"without the scope", lacking, none, "", true},
		{"without the scope, in Middleware", lackingBoth, none, "", true},
		{"revoked", alone, func(r *auth.Record) { r.RevokedAt = epoch }, "", false},
		{"disabled", both, func(r *auth.Record) { r.DisabledAt = epoch }, "", false},
		{"expired", both, func(r *auth.Record) { r.ExpiresAt = time.Unix(1, 0) }, "", false},
		{"unknown", both, none, "isk_" + strings.Repeat("A", 44), false},
		{"malformed", both, none, "isk_", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			store := newTouchStore(t, 1)
			r, err := store.Get(ctx, numbered(0).ID)
			must(t, err)
			must(t, store.Delete(ctx, r.ID, ""))
			c.change(r)
			put(t, store, *r)
			recorder := keyring.NewLastUsedRecorder(store, nil)
			decisions := 0
			a := auth.New(store, &auth.Options{OnDecision: func(ctx context.Context, d auth.Decision) {
				decisions++
				recorder.OnDecision(ctx, d)
				time.Sleep(time.Second) // tells the decisions of one request apart
			}})
			request := httptest.NewRequest("GET", "/", nil)
			key := c.key
			if key == "" {
				key = store.keys[0].Reveal()
			}
			request.Header.Set("Authorization", "Bearer "+key)
			want := time.Time{}
			if c.want {
				want = time.Now().UTC()
			}
			c.wrap(a, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(httptest.NewRecorder(),
				request)
			must(t, recorder.Close())
			equal(t, c.name+": decisions", decisions > 0, true)
			equal(t, c.name+": last used", store.lastUsed(0), want)
			got, err := store.Get(ctx, r.ID)
			must(t, err)
			got.LastUsedAt = time.Time{}
			same(t, c.name+": the rest", *got, *r)
		})
	}
}

// Uses that come in another order than they were do not set the time back.
func TestLastUsedGoesForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTouchStore(t, 1)
		var told []auth.Decision
		a := auth.New(store, &auth.Options{OnDecision: func(_ context.Context,
			d auth.Decision) {
			told = append(told, d)
		}})
		for range 5 {
			_, err := a.Verify(ctx, store.keys[0].Reveal())
			must(t, err)
			time.Sleep(time.Second)
		}
		recorder := keyring.NewLastUsedRecorder(store, nil)
		for _, i := range []int{2, 4, 0, 3, 1} {
			recorder.OnDecision(ctx, told[i])
		}
		time.Sleep(2 * time.Minute)
		equal(t, "last used", store.lastUsed(0), told[4].Time.UTC())
		recorder.OnDecision(ctx, told[0])
		must(t, recorder.Close())
		equal(t, "after an earlier use", store.lastUsed(0), told[4].Time.UTC())
	})
}

// What cannot be written waits for the next write. What the last write cannot
// write is counted.
func TestLastUsedStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTouchStore(t, 3)
		var log bytes.Buffer
		recorder, use := newRecorder(t, store, store.keys,
			&keyring.LastUsedOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		store.set(errors.New("disk full"), false)
		first := time.Now().UTC()
		use(0)
		use(1)
		time.Sleep(2 * time.Minute)
		use(1)
		second := time.Now().UTC()
		synctest.Wait()
		equal(t, "writes", store.count() > 0, true)
		equal(t, "log lines", strings.Count(log.String(),
			`level=ERROR msg="auth/keyring: cannot write last uses" keys=2 error="disk full"`), store.count())
		store.set(nil, false)
		time.Sleep(2 * time.Minute)
		equal(t, "first key", store.lastUsed(0), first)
		equal(t, "second key", store.lastUsed(1), second)
		equal(t, "third key", store.lastUsed(2).IsZero(), true)
		n := store.count()
		time.Sleep(time.Hour)
		equal(t, "further writes", store.count(), n)
		equal(t, "dropped", recorder.Dropped(), 0)

		store.set(errors.New("disk full"), false)
		use(0)
		use(2)
		for range 2 {
			err := recorder.Close()
			if err == nil {
				t.Fatal("Close: no error")
			}
			equal(t, "Close", err.Error(), "keyring: write last uses: disk full")
			equal(t, "dropped", recorder.Dropped(), 2)
		}
		use(0)
		equal(t, "dropped after Close", recorder.Dropped(), 3)
	})
}

// No more than MaxKeys keys wait. Further ones are dropped and counted.
func TestLastUsedMaxKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTouchStore(t, 5)
		recorder, use := newRecorder(t, store, store.keys, &keyring.LastUsedOptions{MaxKeys: 2})
		for _, i := range []int{0, 1, 2, 3, 2} {
			use(i)
		}
		time.Sleep(time.Second)
		use(1)
		newest := time.Now().UTC()
		equal(t, "dropped", recorder.Dropped(), 3)
		time.Sleep(2 * time.Minute)
		equal(t, "a key that waited", store.lastUsed(1), newest)
		equal(t, "a key that was dropped", store.lastUsed(2).IsZero(), true)
		use(2) // there is room again
		must(t, recorder.Close())
		equal(t, "after the write", store.lastUsed(2).IsZero(), false)
		equal(t, "dropped", recorder.Dropped(), 3)
	})
}

// A write holds at most 1000 keys, and every key is written, also after a
// failure.
func TestLastUsedOfManyKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 2500
		store := newTouchStore(t, n)
		recorder, use := newRecorder(t, store, store.keys, quiet())
		for i := range n {
			use(i)
		}
		used := time.Now().UTC()
		store.set(errors.New("down"), false)
		time.Sleep(70 * time.Second)
		equal(t, "writes while it is down", store.count(), 1)
		store.set(nil, false)
		must(t, recorder.Close())
		var sizes []int
		for _, w := range store.writes {
			sizes = append(sizes, len(w))
		}
		same(t, "sizes", sizes, []int{1000, 1000, 1000, 500})
		for i := range n {
			if !store.lastUsed(i).Equal(used) {
				t.Fatalf("key %d was left out", i)
			}
		}
		equal(t, "dropped", recorder.Dropped(), 0)
	})
}

// While a write hangs, uses are noted at once. After 10 seconds it is given up,
// and so is that of Close.
func TestLastUsedStoreHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTouchStore(t, 2)
		store.set(nil, true)
		var log bytes.Buffer
		recorder, use := newRecorder(t, store, store.keys,
			&keyring.LastUsedOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		use(0)
		for store.count() == 0 {
			time.Sleep(time.Second)
		}
		start := time.Now()
		use(0)
		use(1)
		equal(t, "time for two uses", time.Since(start), 0)
		time.Sleep(5 * time.Second)
		start = time.Now()
		err := recorder.Close() // ends the write that hangs, and makes its own
		fails(t, "Close", err, context.DeadlineExceeded, "")
		equal(t, "time for Close", time.Since(start), 10*time.Second)
		equal(t, "dropped", recorder.Dropped(), 2)
		equal(t, "log lines", strings.Count(log.String(), "\n"), 1) // for the write that Close made
	})
}

// What hung is written when the store answers again.
func TestLastUsedStoreRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTouchStore(t, 1)
		store.set(nil, true)
		recorder, use := newRecorder(t, store, store.keys, quiet())
		defer recorder.Close()
		used := time.Now().UTC()
		use(0)
		for store.count() == 0 {
			time.Sleep(time.Second)
		}
		store.set(nil, false)
		time.Sleep(10*time.Second + 66*time.Second)
		equal(t, "writes", store.count(), 2)
		equal(t, "last used", store.lastUsed(0), used)
	})
}

// For the race detector: many uses, writes, and several Close at once.
func TestLastUsedConcurrently(t *testing.T) {
	store := newTouchStore(t, 50)
	recorder, use := newRecorder(t, store, store.keys, &keyring.LastUsedOptions{Interval: 100 * time.Microsecond})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				use((i*7 + g) % 50)
			}
		})
	}
	wg.Wait()
	for range 3 {
		wg.Go(func() {
			if err := recorder.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range 50 {
		equal(t, "a key that was left out", store.lastUsed(i).IsZero(), false)
	}
	equal(t, "dropped", recorder.Dropped(), 0)
}

// A store that panics does not end the process, and what it panics with is not
// logged: it may hold a secret.
func TestLastUsedStorePanics(t *testing.T) {
	store := panickingStore{newTouchStore(t, 1)}
	var log bytes.Buffer
	recorder, use := newRecorder(t, store, store.keys,
		&keyring.LastUsedOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	use(0)
	err := recorder.Close()
	if err == nil {
		t.Fatal("Close: no error")
	}
	equal(t, "Close", err.Error(), "keyring: write last uses: the store panicked with a string")
	equal(t, "dropped", recorder.Dropped(), 1)
	equal(t, "logged", strings.Contains(log.String(), "panicked"), true)
	equal(t, "secret logged", strings.Contains(log.String(), "secret"), false)
}

type panickingStore struct{ *touchStore }

func (panickingStore) Touch(context.Context, map[string]time.Time) error { panic("secret") }

// Without a Logger, slog.Default at the time of the call is used.
func TestLastUsedDefaultLogger(t *testing.T) {
	store := newTouchStore(t, 1)
	store.set(errors.New("down"), false)
	recorder, use := newRecorder(t, store, store.keys, nil)
	before := slog.Default()
	defer slog.SetDefault(before)
	var log bytes.Buffer
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	use(0)
	fails(t, "Close", recorder.Close(), store.err, "down")
	equal(t, "logged", strings.Contains(log.String(), "cannot write last uses"), true)
}
