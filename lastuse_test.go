package auth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
)

// A touchLog is a KeyStore that notes what is written when, and fails or blocks on demand.
type touchLog struct {
	*auth.MemoryStore
	mu     sync.Mutex
	at     []time.Time
	writes []map[string]time.Time
	err    error
	block  chan bool // not nil: Touch waits for it
}

func (s *touchLog) Touch(ctx context.Context, lastUsed map[string]time.Time) error {
	s.mu.Lock()
	s.at = append(s.at, time.Now())
	s.writes = append(s.writes, maps.Clone(lastUsed))
	err, block := s.err, s.block
	s.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err != nil {
		return err
	}
	return s.MemoryStore.Touch(ctx, lastUsed)
}

func (s *touchLog) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *touchLog) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.writes)
}

func (s *touchLog) lastUsed(id string) time.Time {
	r, _ := s.Get(context.Background(), id)
	return r.LastUsedAt
}

// keysOf returns n keys of their own and a store that knows them.
func keysOf(n int) ([]string, *touchLog) {
	m := newStore()
	var keys []string
	for i := range n {
		r := numbered(i)
		key := fmt.Sprintf("isk_%044d", i)
		r.Hash = auth.BLAKE2b(nil)(key)
		m.Insert(ctx, r)
		keys = append(keys, key)
	}
	return keys, &touchLog{MemoryStore: m}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// TestUseBatches: one write an interval, give or take a tenth, however often a key is used; none if it is not.
func TestUseBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, interval := range []time.Duration{0, time.Second, time.Hour} {
			keys, store := keysOf(2)
			uses := auth.NewUseRecorder(store, &auth.UseRecorderOptions{Interval: interval})
			if interval == 0 {
				interval = time.Minute
			}
			a := auth.New(store, &auth.Options{OnDecision: uses.OnDecision})
			start := time.Now()
			var newest time.Time
			for time.Since(start) < 50*interval {
				for range 20 {
					newest = time.Now()
					a.Authenticate(requestWith(keys[0]))
				}
				time.Sleep(interval / 16)
			}
			synctest.Wait()
			if n := store.count(); n < 45 || n > 56 {
				t.Errorf("%v: %d writes in 50 intervals", interval, n)
			}
			waits := make(map[time.Duration]bool)
			last := start
			for i, at := range store.at {
				wait := at.Sub(last)
				if last = at; wait < interval*9/10 || wait > interval*11/10 {
					t.Errorf("%v: a write after %v", interval, wait)
				}
				waits[wait] = true
				if len(store.writes[i]) != 1 {
					t.Errorf("%v: wrote %v", interval, store.writes[i])
				}
			}
			if len(waits) < 10 {
				t.Errorf("%v: only %d different waits: no jitter", interval, len(waits))
			}
			if err := uses.Close(); err != nil {
				t.Error(err)
			}
			if got := store.lastUsed("key_0000000"); !got.Equal(newest.Truncate(time.Microsecond)) || got.Location() != time.UTC {
				t.Errorf("%v: last used at %v, want %v", interval, got, newest)
			}
			if got := store.lastUsed("key_0000001"); !got.IsZero() {
				t.Errorf("%v: a key that was not used was used at %v", interval, got)
			}
		}
		// Nothing to write, nothing written; and no goroutine stays, or synctest would say so.
		_, store := keysOf(1)
		uses := auth.NewUseRecorder(store, nil)
		time.Sleep(time.Hour)
		if err := uses.Close(); err != nil || store.count() != 0 || uses.Dropped() != 0 {
			t.Errorf("%v after %d writes", err, store.count())
		}
	})
}

// TestUseIs: a use is a request whose key passed Check, whether or not its scopes sufficed, and once a request.
func TestUseIs(t *testing.T) {
	type wrapper = func(a *auth.Authenticator, h http.Handler) http.Handler
	middleware := func(a *auth.Authenticator, h http.Handler) http.Handler { return a.Middleware(h) }
	both := func(a *auth.Authenticator, h http.Handler) http.Handler { return a.Middleware(auth.Require("a.x")(h)) }
	alone := func(a *auth.Authenticator, h http.Handler) http.Handler { return a.Require("a.x")(h) }
	lacking := func(a *auth.Authenticator, h http.Handler) http.Handler { return a.Require("b.x")(h) }
	lackingBoth := func(a *auth.Authenticator, h http.Handler) http.Handler { return a.Middleware(a.Require("b.x")(h)) }
	for _, c := range []struct {
		name   string
		wrap   wrapper
		change func(r *auth.Record)
		key    string
		want   bool
	}{
		{"Middleware", middleware, nil, goodKey, true},
		{"Middleware and Require", both, nil, goodKey, true},
		{"Require", alone, nil, goodKey, true},
		{"short of a scope", lacking, nil, goodKey, true},
		{"short of a scope, behind Middleware", lackingBoth, nil, goodKey, true},
		{"revoked", alone, func(r *auth.Record) { r.RevokedAt = epoch }, goodKey, false},
		{"expired", both, func(r *auth.Record) { r.ExpiresAt = time.Unix(1, 0) }, goodKey, false},
		{"another key", both, nil, "isk_" + strings.Repeat("A", 44), false},
		{"malformed", both, nil, "isk_", false},
		{"missing", both, nil, "", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := scopedRecord("a.x")
			if c.change != nil {
				c.change(&r)
			}
			store := &touchLog{MemoryStore: newStore(r)}
			uses := auth.NewUseRecorder(store, nil)
			said := 0
			a := auth.New(store, &auth.Options{OnDecision: func(r *http.Request, d auth.Decision) {
				said++
				uses.OnDecision(r, d)
				time.Sleep(time.Second) // the decisions of one request are told apart by their time
			}})
			start := time.Now()
			c.wrap(a, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(httptest.NewRecorder(), requestWith(c.key))
			uses.Close()
			want := time.Time{}
			if c.want {
				want = start
			}
			if got := store.lastUsed("key_good"); said == 0 || !got.Equal(want) || store.count() > 1 {
				t.Errorf("%s: last used at %v, want %v; %d writes", c.name, got, want, store.count())
			}
			if got, _ := store.Get(ctx, "key_good"); got.Name != r.Name || !got.RevokedAt.Equal(r.RevokedAt) || !got.ExpiresAt.Equal(r.ExpiresAt) {
				t.Errorf("%s: another column was touched", c.name)
			}
		})
	}
}

// TestUseForward: what is written never goes back, in whatever order uses are told.
func TestUseForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys, store := keysOf(1)
		var told []auth.Decision
		a := auth.New(store, &auth.Options{OnDecision: func(_ *http.Request, d auth.Decision) { told = append(told, d) }})
		for range 5 {
			a.Authenticate(requestWith(keys[0]))
			time.Sleep(time.Second)
		}
		uses := auth.NewUseRecorder(store, nil)
		for _, i := range []int{2, 4, 0, 3, 1} {
			uses.OnDecision(nil, told[i])
		}
		time.Sleep(2 * time.Minute)
		if got := store.lastUsed("key_0000000"); !got.Equal(told[4].Time) {
			t.Errorf("last used at %v, want %v", got, told[4].Time)
		}
		uses.OnDecision(nil, told[0])
		uses.Close()
		if got := store.lastUsed("key_0000000"); !got.Equal(told[4].Time) {
			t.Errorf("it went back to %v", got)
		}
	})
}

// TestUseFailure: what cannot be written waits for the next write, and no request does.
func TestUseFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys, store := keysOf(3)
		var out bytes.Buffer
		uses := auth.NewUseRecorder(store, &auth.UseRecorderOptions{Logger: slog.New(slog.NewTextHandler(&out, nil))})
		a := auth.New(store, &auth.Options{OnDecision: uses.OnDecision})
		store.fail(errors.New("disk full"))
		first := time.Now()
		a.Authenticate(requestWith(keys[0]))
		a.Authenticate(requestWith(keys[1]))
		time.Sleep(2 * time.Minute)
		a.Authenticate(requestWith(keys[1]))
		second := time.Now()
		synctest.Wait()
		if n := store.count(); n < 1 || strings.Count(out.String(), "disk full") != n || !strings.Contains(out.String(), "level=ERROR") {
			t.Errorf("%d writes, logged %s", n, out.String())
		}
		store.fail(nil)
		time.Sleep(2 * time.Minute)
		for i, want := range []time.Time{first, second, {}} {
			if got := store.lastUsed(numbered(i).ID); !got.Equal(want) {
				t.Errorf("key %d: last used at %v, want %v", i, got, want)
			}
		}
		n := store.count()
		time.Sleep(time.Hour)
		if store.count() != n || uses.Dropped() != 0 {
			t.Errorf("%d writes of what was written; %d dropped", store.count()-n, uses.Dropped())
		}

		// The last write fails: Close says so, and what is lost is counted.
		store.fail(errors.New("disk full"))
		a.Authenticate(requestWith(keys[0]))
		a.Authenticate(requestWith(keys[2]))
		for range 2 {
			if err := uses.Close(); err == nil || err.Error() != "auth: write last uses: disk full" || uses.Dropped() != 2 {
				t.Errorf("Close: %v, %d dropped", err, uses.Dropped())
			}
		}
		a.Authenticate(requestWith(keys[0]))
		if uses.Dropped() != 3 {
			t.Errorf("a use after Close: %d dropped", uses.Dropped())
		}
	})
}

// TestUseBounded: no more keys wait than MaxKeys; further ones are counted as dropped, and known ones go on.
func TestUseBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys, store := keysOf(5)
		uses := auth.NewUseRecorder(store, &auth.UseRecorderOptions{MaxKeys: 2, Logger: quiet()})
		a := auth.New(store, &auth.Options{OnDecision: uses.OnDecision})
		for _, i := range []int{0, 1, 2, 3, 2} {
			if _, err := a.Authenticate(requestWith(keys[i])); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(time.Second)
		a.Authenticate(requestWith(keys[1]))
		if uses.Dropped() != 3 {
			t.Errorf("%d dropped, want 3", uses.Dropped())
		}
		newest := time.Now()
		time.Sleep(2 * time.Minute)
		if !store.lastUsed(numbered(1).ID).Equal(newest) || !store.lastUsed(numbered(2).ID).IsZero() {
			t.Error("one that waited was not written, or one that was dropped was")
		}
		a.Authenticate(requestWith(keys[2])) // there is room again
		uses.Close()
		if store.lastUsed(numbered(2).ID).IsZero() || uses.Dropped() != 3 {
			t.Errorf("after a write: %d dropped", uses.Dropped())
		}
	})
}

// TestUseMany: a write holds at most a thousand keys, and all get their turn, also if the first fails.
func TestUseMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 2500
		keys, store := keysOf(n)
		uses := auth.NewUseRecorder(store, &auth.UseRecorderOptions{Logger: quiet()})
		a := auth.New(store, &auth.Options{OnDecision: uses.OnDecision})
		for _, key := range keys {
			a.Authenticate(requestWith(key))
		}
		used := time.Now()
		store.fail(errors.New("down"))
		time.Sleep(70 * time.Second)
		if store.count() != 1 || uses.Dropped() != 0 {
			t.Errorf("%d writes, %d dropped", store.count(), uses.Dropped())
		}
		store.fail(nil)
		if err := uses.Close(); err != nil {
			t.Error(err)
		}
		if len(store.writes) != 4 || len(store.writes[1]) != 1000 || len(store.writes[2]) != 1000 || len(store.writes[3]) != 500 {
			t.Errorf("%d writes", len(store.writes))
		}
		for i := range n {
			if !store.lastUsed(numbered(i).ID).Equal(used) {
				t.Fatalf("key %d was left out", i)
			}
		}
	})
}

// TestUseHanging: while a write hangs requests go on, and after 10 seconds it is given up, by Close too.
func TestUseHanging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys, store := keysOf(2)
		store.block = make(chan bool)
		var log bytes.Buffer
		uses := auth.NewUseRecorder(store, &auth.UseRecorderOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		a := auth.New(store, &auth.Options{OnDecision: uses.OnDecision})
		a.Authenticate(requestWith(keys[0]))
		for store.count() == 0 {
			time.Sleep(time.Second)
		}
		start := time.Now()
		for _, key := range keys {
			if _, err := a.Authenticate(requestWith(key)); err != nil || time.Since(start) > 0 {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		}
		time.Sleep(5 * time.Second)
		start = time.Now()
		err := uses.Close() // gives up the write that hangs, and then its own
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != 10*time.Second || uses.Dropped() != 2 {
			t.Errorf("Close: %v after %v, %d dropped", err, took, uses.Dropped())
		}
		if strings.Count(log.String(), "could not be written") != 1 || !strings.Contains(log.String(), "deadline") {
			t.Errorf("that Close ends a write is no failure; logged:\n%s", &log)
		}
	})

	// What hung is written with the next write, once the store answers again.
	synctest.Test(t, func(t *testing.T) {
		keys, store := keysOf(1)
		store.block = make(chan bool)
		uses := auth.NewUseRecorder(store, &auth.UseRecorderOptions{Logger: quiet()})
		defer uses.Close()
		used, _ := auth.New(store, &auth.Options{OnDecision: uses.OnDecision}).Authenticate(requestWith(keys[0]))
		for store.count() == 0 {
			time.Sleep(time.Second)
		}
		store.mu.Lock()
		store.block = nil
		store.mu.Unlock()
		time.Sleep(10*time.Second + 66*time.Second)
		if n := store.count(); n != 2 || store.lastUsed(used.ID).IsZero() {
			t.Errorf("after %d writes it was last used at %v", n, store.lastUsed(used.ID))
		}
	})
}

// TestUseConcurrent is for the race detector: many requests, writes and a Close at once.
func TestUseConcurrent(t *testing.T) {
	keys, store := keysOf(50)
	uses := auth.NewUseRecorder(store, &auth.UseRecorderOptions{Interval: 100 * time.Microsecond})
	a := auth.New(store, &auth.Options{OnDecision: uses.OnDecision})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				if _, err := a.Authenticate(requestWith(keys[(i*7+g)%len(keys)])); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for range 3 {
		wg.Go(func() {
			if err := uses.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range keys {
		if store.lastUsed(numbered(i).ID).IsZero() {
			t.Errorf("key %d was left out", i)
		}
	}
	if uses.Dropped() != 0 {
		t.Errorf("%d dropped", uses.Dropped())
	}
}

// A store that panics costs the times nothing, and the process neither.
type panicking struct{ *auth.MemoryStore }

func (panicking) Touch(context.Context, map[string]time.Time) error { panic("secret") }

func TestUsePanicOfTheStore(t *testing.T) {
	store := panicking{new(auth.MemoryStore)}
	if err := store.Insert(t.Context(), goodRecord()); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	uses := auth.NewUseRecorder(store, &auth.UseRecorderOptions{Logger: slog.New(slog.NewTextHandler(&out, nil))})
	a := auth.New(store, &auth.Options{OnDecision: uses.OnDecision})
	if _, err := a.Authenticate(requestWith(goodKey)); err != nil {
		t.Fatal(err)
	}
	if err := uses.Close(); err == nil || uses.Dropped() != 1 || strings.Contains(out.String(), "secret") ||
		!strings.Contains(out.String(), "panicked") {
		t.Errorf("%v, %d dropped, logged %s", err, uses.Dropped(), &out)
	}
}
