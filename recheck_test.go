package auth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
	"weak"

	"github.com/insigner/auth"
)

// A liveStore is a store that changes while streams run.
type liveStore struct {
	mapStore
	calls atomic.Int64
	first atomic.Pointer[func(ctx context.Context) error]
}

// newLiveStore returns a liveStore of goodKey alone.
func newLiveStore(scopes ...auth.Scope) *liveStore {
	s := new(liveStore)
	s.put(scopedRecord(scopes...))
	return s
}

// fail makes each lookup call f first. If f returns an error, the lookup fails
// with it. A nil f ends that.
func (s *liveStore) fail(f func(ctx context.Context) error) {
	if f == nil {
		s.first.Store(nil)
		return
	}
	s.first.Store(&f)
}

// edit changes the record of goodKey.
func (s *liveStore) edit(f func(r *auth.Record)) {
	r, err := s.mapStore.Lookup(context.Background(), goodHash)
	if err != nil {
		panic(err)
	}
	changed := r.Clone()
	f(changed)
	s.put(*changed)
}

func (s *liveStore) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	s.calls.Add(1)
	if f := s.first.Load(); f != nil {
		if err := (*f)(ctx); err != nil {
			return nil, err
		}
	}
	return s.mapStore.Lookup(ctx, hash)
}

// contextIn returns the context of a request that has passed wrap.
func contextIn(t *testing.T, wrap wrapper, r *http.Request) context.Context {
	t.Helper()
	var ctx context.Context
	w := serve(wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ctx = r.Context() })), r)
	if ctx == nil {
		t.Fatalf("the request was refused: %d %s", w.Code, w.Body)
	}
	return ctx
}

// until waits for the end of a stream, in a bubble, and returns how long it
// took.
func until(t *testing.T, ctx context.Context) time.Duration {
	t.Helper()
	start := time.Now()
	select {
	case <-ctx.Done():
	case <-time.After(24 * time.Hour):
		t.Fatal("the stream did not end within a day")
	}
	return time.Since(start)
}

// An ending is what ends a stream, or fails a Recheck, by a change in the
// store.
type ending struct {
	name   string
	change func(s *liveStore)
	want   error
	code   string
	known  bool // the Decision has the record
}

// editing returns the change of a liveStore that f makes in the record.
func editing(f func(r *auth.Record)) func(s *liveStore) { return func(s *liveStore) { s.edit(f) } }

var endings = []ending{
	{"revoked", editing(badStates[0].set), auth.ErrKeyRevoked, "KEY_REVOKED", true},
	{"disabled", editing(badStates[1].set), auth.ErrKeyDisabled, "KEY_DISABLED", true},
	{"expired", editing(badStates[2].set), auth.ErrKeyExpired, "KEY_EXPIRED", true},
	{"all of these", editing(func(r *auth.Record) {
		r.RevokedAt, r.DisabledAt, r.ExpiresAt = epoch, epoch, time.Unix(1, 0)
	}), auth.ErrKeyRevoked, "KEY_REVOKED", true},
	{"deleted", func(s *liveStore) { s.remove(goodHash) }, auth.ErrInvalidKey, "INVALID_KEY", false},
	{"another record", func(s *liveStore) {
		s.mu.Lock()
		defer s.mu.Unlock()
		other := goodRecord()
		other.Hash[31]++
		s.records[goodHash] = &other
	}, auth.ErrInvalidKey, "INVALID_KEY", false},
}

// TestRecheck: the record as it is now, or why the key is no longer good.
func TestRecheck(t *testing.T) {
	for _, c := range slices.Concat(endings, []ending{
		{"unchanged", func(s *liveStore) {}, nil, "", true},
		{"changed", editing(func(r *auth.Record) {
			r.Name, r.Scopes, r.Revision = "Renamed", scopesOf("b.x"), 2
		}), nil, "", true},
		{"no scopes", editing(func(r *auth.Record) { r.Scopes = nil }), nil, "", true},
		{"outage", func(s *liveStore) {
			s.fail(func(context.Context) error { return errors.New("connection refused") })
		}, auth.ErrStoreUnavailable, "STORE_UNAVAILABLE", false},
	}) {
		store, said := newLiveStore("a.x"), new(hookLog)
		a := auth.New(store, &auth.Options{Logger: quiet(), OnDecision: said.add})
		ctx := contextIn(t, a.Middleware, requestWith(goodKey))
		c.change(store)
		calls := store.calls.Load()
		start := time.Now()
		got, err := auth.Recheck(ctx)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
		var want auth.Record
		if c.want == nil {
			r, _ := store.mapStore.Lookup(ctx, goodHash)
			want = *r
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", c.name, got, want)
		}
		if n := store.calls.Load() - calls; n != 1 {
			t.Errorf("%s: %d lookups, want 1", c.name, n)
		}
		if got, _ := auth.FromContext(ctx); !reflect.DeepEqual(got, scopedRecord("a.x")) {
			t.Errorf("%s: FromContext changed to %v", c.name, got)
		}
		if err := auth.Authorize(ctx, "a.x"); err != nil {
			t.Errorf("%s: Authorize changed: %v", c.name, err)
		}
		list := said.rechecks()
		if len(list) != 1 {
			t.Fatalf("%s: %d decisions, want 1", c.name, len(list))
		}
		d := list[0]
		if !errors.Is(d.Err, c.want) {
			t.Errorf("%s: the decision was %v, want %v", c.name, d.Err, c.want)
		}
		if d.Code != c.code {
			t.Errorf("%s: the code was %q, want %q", c.name, d.Code, c.code)
		}
		if d.Request != nil {
			t.Errorf("%s: the decision has a request", c.name)
		}
		if d.Required() != nil {
			t.Errorf("%s: %v was required, want nothing", c.name, d.Required())
		}
		if d.Lookup <= 0 {
			t.Errorf("%s: the lookup took %v, want more than 0", c.name, d.Lookup)
		}
		if d.Time.Before(start) {
			t.Errorf("%s: decided at %v, before the call at %v", c.name, d.Time, start)
		}
		if got := d.KeyID() == "key_good"; got != c.known {
			t.Errorf("%s: the decision is about %q", c.name, d.KeyID())
		}
	}
}

// TestRecheckExpiry: a key that was good when it was let in expires.
func TestRecheckExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newLiveStore("a.x")
		store.edit(func(r *auth.Record) { r.ExpiresAt = time.Now().Add(time.Minute) })
		ctx := contextIn(t, auth.New(store, nil).Middleware, requestWith(goodKey))
		time.Sleep(time.Minute - 1)
		if _, err := auth.Recheck(ctx); err != nil {
			t.Errorf("just before the expiry: %v, want nil", err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := auth.Recheck(ctx); !errors.Is(err, auth.ErrKeyExpired) {
			t.Errorf("at the expiry: %v, want %v", err, auth.ErrKeyExpired)
		}
	})
}

// TestRecheckContexts: what Recheck does in each kind of context.
func TestRecheckContexts(t *testing.T) {
	logs := defaultLog(t)
	store := &countingStore{Store: newStore(scopedRecord("a.x"))}
	said := new(hookLog)
	a := auth.New(store, &auth.Options{Realm: "own", OnDecision: said.add})
	b := auth.New(newStore(recordOf("of_b", goodKey, "b.x")), nil)
	hashed, unknown := vouchable("session", "*"), vouchable("session", "*")
	hashed.Hash, unknown.Hash = goodHash, auth.BLAKE2b(nil)(keyOf("U"))
	type row struct {
		name    string
		ctx     context.Context
		want    error
		status  int
		id      string
		lookups int64
		said    int
	}
	rows := []row{
		{"Middleware", contextIn(t, a.Middleware, requestWith(goodKey)), nil, 0, "key_good", 1, 1},
		{"Require", contextIn(t, a.Require("a.x"), requestWith(goodKey)), nil, 0, "key_good", 1, 1},
		{"Optional", contextIn(t, a.Optional, requestWith(goodKey)), nil, 0, "key_good", 1, 1},
		{"Optional, no key", contextIn(t, a.Optional, requestWith("")), auth.ErrMissingKey, 401, "", 0, 1},
		{"two Authenticators", contextIn(t, func(h http.Handler) http.Handler { return b.Middleware(a.Middleware(h)) },
			requestWith(goodKey)), nil, 0, "key_good", 1, 1},
		{"two the other way", contextIn(t, func(h http.Handler) http.Handler { return a.Middleware(b.Middleware(h)) },
			requestWith(goodKey)), nil, 0, "of_b", 0, 0},
		{"nothing", t.Context(), nil, 500, "", 0, 0},
		{"vouched for", a.Vouch(t.Context(), vouchable("session", "*")), nil, 0, "session", 0, 1},
		{"vouched for, Middleware", contextIn(t, a.Middleware,
			requestWith("").WithContext(a.Vouch(t.Context(), vouchable("session", "*")))), nil, 0, "session", 0, 1},
		{"vouched for with a hash", a.Vouch(t.Context(), hashed), nil, 0, "key_good", 1, 1},
		{"vouched for with an unknown hash", a.Vouch(t.Context(), unknown), auth.ErrInvalidKey, 401, "", 1, 1},
	}
	for _, state := range badStates {
		bad, hashed := vouchable("session", "*"), vouchable("session", "*")
		state.set(&bad)
		hashed.Hash = goodHash
		rows = append(rows,
			row{"vouched for, " + state.code, a.Vouch(t.Context(), bad), state.err, 401, "", 0, 1})
	}
	for _, c := range rows {
		store.calls.Store(0)
		before, lines := len(said.rechecks()), len(logs.lines(t))
		got, err := auth.Recheck(c.ctx)
		if c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
		if (err != nil) != (c.status != 0) {
			t.Errorf("%s: error %v, want status %d", c.name, err, c.status)
		}
		if err != nil {
			if got := auth.ProblemFor(err).Status; got != c.status {
				t.Errorf("%s: status %d, want %d", c.name, got, c.status)
			}
		}
		if got.ID != c.id {
			t.Errorf("%s: record %q, want %q", c.name, got.ID, c.id)
		}
		if got := store.calls.Load(); got != c.lookups {
			t.Errorf("%s: %d lookups, want %d", c.name, got, c.lookups)
		}
		if got := len(said.rechecks()) - before; got != c.said {
			t.Errorf("%s: %d decisions, want %d", c.name, got, c.said)
		}
		wantLines := map[bool]int{true: 1}[c.status == http.StatusInternalServerError]
		logged := logs.lines(t)[lines:]
		if len(logged) != wantLines {
			t.Fatalf("%s: %d log lines, want %d", c.name, len(logged), wantLines)
		}
		if wantLines == 0 {
			continue
		}
		if got := fmt.Sprint(logged[0]["msg"]); !strings.HasPrefix(got, "auth: auth.Recheck: ") {
			t.Errorf("%s: logged %q, want the call", c.name, got)
		}
		if got := logged[0]["level"]; got != "ERROR" {
			t.Errorf("%s: logged at level %v, want ERROR", c.name, got)
		}
	}
}

// TestRecheckStore: the store gets the context, and its panic passes to the
// caller.
func TestRecheckStore(t *testing.T) {
	type key struct{}
	store := newLiveStore("a.x")
	a := auth.New(store, &auth.Options{Logger: quiet()})
	ctx := context.WithValue(contextIn(t, a.Middleware, requestWith(goodKey)), key{}, "value")
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	store.fail(func(ctx context.Context) error {
		if got := ctx.Value(key{}); got != "value" {
			t.Errorf("the store got a context with the value %v, want that of the caller", got)
		}
		return ctx.Err()
	})
	if _, err := auth.Recheck(ctx); !errors.Is(err, auth.ErrStoreUnavailable) {
		t.Errorf("a canceled context: %v, want %v", err, auth.ErrStoreUnavailable)
	}
	store.fail(func(context.Context) error { panic("of the store") })
	if got := panicOf(func() { auth.Recheck(ctx) }); got != "of the store" {
		t.Errorf("panic %q, want that of the store", got)
	}
}

// TestRecheckVouched is what a gRPC server does: Verify, Vouch, Recheck.
func TestRecheckVouched(t *testing.T) {
	for _, c := range endings {
		store := newLiveStore("a.x")
		a := auth.New(store, &auth.Options{Logger: quiet()})
		record, err := a.Verify(t.Context(), goodKey)
		if err != nil {
			t.Fatal(err)
		}
		ctx := a.Vouch(t.Context(), record)
		if _, err := auth.Recheck(ctx); err != nil {
			t.Errorf("%s: before it, %v", c.name, err)
		}
		c.change(store)
		if _, err := auth.Recheck(ctx); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
	}
}

// TestWithRecheckEnds: each change ends a stream at most one interval later, at
// any phase of it. The cause can be answered, and the hook is told once.
func TestWithRecheckEnds(t *testing.T) {
	const every = time.Minute
	narrowed := ending{"narrowed", editing(func(r *auth.Record) { r.Scopes = scopesOf("b.x") }),
		auth.ErrInsufficientScope, "INSUFFICIENT_SCOPE", true}
	for _, c := range slices.Concat(endings, []ending{narrowed}) {
		for _, after := range []time.Duration{0, 1, every / 2, every - 1, every, every + 1, 10*every + every/3} {
			for _, vouched := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					name := fmt.Sprintf("%s after %v, vouched for: %v", c.name, after, vouched)
					store, said := newLiveStore("a.x"), new(hookLog)
					a := auth.New(store, &auth.Options{Realm: "own", Logger: quiet(), OnDecision: said.add})
					ctx := contextIn(t, a.Middleware, requestWith(goodKey))
					if vouched {
						record, _ := auth.FromContext(ctx)
						ctx = a.Vouch(t.Context(), record)
					}
					ctx, stop := auth.WithRecheck(ctx, every)
					defer stop()
					time.Sleep(after)
					if err := ctx.Err(); err != nil {
						t.Fatalf("%s: ended before the change: %v", name, context.Cause(ctx))
					}
					c.change(store)
					if got := until(t, ctx); got > every {
						t.Errorf("%s: ended %v later, want at most %v", name, got, every)
					}
					if err := ctx.Err(); err != context.Canceled {
						t.Errorf("%s: error %v, want %v", name, err, context.Canceled)
					}
					cause := context.Cause(ctx)
					if !errors.Is(cause, c.want) {
						t.Errorf("%s: cause %v, want %v", name, cause, c.want)
					}
					w := httptest.NewRecorder()
					auth.WriteProblem(w, httptest.NewRequest("GET", "/", nil), cause)
					if got := problemIn(t, w).Code; got != c.code {
						t.Errorf("%s: answered with %q, want %q", name, got, c.code)
					}
					challenge, want := w.Header().Get("WWW-Authenticate"), `Bearer realm="own", error=`
					if !strings.HasPrefix(challenge, want) {
						t.Errorf("%s: answered with the challenge %q, want %s…", name, challenge, want)
					}
					time.Sleep(3 * every)
					list := said.rechecks()
					if len(list) != 1 {
						t.Fatalf("%s: %d decisions, want 1", name, len(list))
					}
					d := list[0]
					if d.Err != cause {
						t.Errorf("%s: the hook got %v, want the cause %v", name, d.Err, cause)
					}
					if d.Code != c.code {
						t.Errorf("%s: the hook got the code %q, want %q", name, d.Code, c.code)
					}
					if d.Request != nil {
						t.Errorf("%s: the hook got a request", name)
					}
					if d.Lookup <= 0 {
						t.Errorf("%s: the hook got a lookup of %v, want more than 0", name, d.Lookup)
					}
					if got := d.KeyID() == "key_good"; got != c.known {
						t.Errorf("%s: the hook was told about %q", name, d.KeyID())
					}
					if got := time.Since(d.Time); got < 3*every {
						t.Errorf("%s: decided %v ago, want %v or more", name, got, 3*every)
					}
				})
			}
		}
	}
}

// TestWithRecheckExpiry: the expiry as last seen is exact.
func TestWithRecheckExpiry(t *testing.T) {
	const every, never = time.Minute, time.Duration(0)
	type change struct{ at, expires time.Duration } // after the start
	for _, c := range []struct {
		name    string
		every   time.Duration
		expires time.Duration
		change  change
		want    time.Duration // if 0, it does not end
	}{
		{"before the first tick", every, 7 * time.Second, change{}, 7 * time.Second},
		{"to the nanosecond", every, 7*time.Second + 1, change{}, 7*time.Second + 1},
		{"at a tick", every, 2 * every, change{}, 2 * every},
		{"between ticks", every, 90 * time.Second, change{}, 90 * time.Second},
		{"long before a tick", 1000 * time.Hour, time.Hour, change{}, time.Hour},
		{"never", every, never, change{}, 0},
		{"shortened, seen", every, time.Hour, change{30 * time.Second, 90 * time.Second}, 90 * time.Second},
		{"shortened, seen late", every, time.Hour, change{70 * time.Second, 100 * time.Second}, 120 * time.Second},
		{"set", every, never, change{30 * time.Second, 90 * time.Second}, 90 * time.Second},
		{"extended, seen", every, 90 * time.Second, change{30 * time.Second, 500 * time.Second}, 500 * time.Second},
		{"extended, not seen", every, 90 * time.Second, change{70 * time.Second, 500 * time.Second}, 90 * time.Second},
		{"removed", every, 90 * time.Second, change{30 * time.Second, never}, 0},
		{"removed, not seen", every, 50 * time.Second, change{30 * time.Second, never}, 50 * time.Second},
	} {
		for _, vouched := range []string{"", "with a hash", "without a hash"} {
			if vouched == "without a hash" && c.change != (change{}) {
				continue // the store is not asked
			}
			synctest.Test(t, func(t *testing.T) {
				name := strings.TrimRight(c.name+", vouched for "+vouched, " ")
				start := time.Now()
				at := func(d time.Duration) time.Time {
					if d == never {
						return time.Time{}
					}
					return start.Add(d).In(time.FixedZone("elsewhere", 5*3600))
				}
				store, said := newLiveStore("a.x"), new(hookLog)
				store.edit(func(r *auth.Record) { r.ExpiresAt = at(c.expires) })
				a := auth.New(store, &auth.Options{OnDecision: said.add})
				ctx := contextIn(t, a.Middleware, requestWith(goodKey))
				if vouched != "" {
					record, _ := auth.FromContext(ctx)
					if vouched == "without a hash" {
						record.Hash = auth.Hash{}
					}
					ctx = a.Vouch(t.Context(), record)
				}
				ctx, stop := auth.WithRecheck(ctx, c.every)
				defer stop()
				if c.change != (change{}) {
					time.AfterFunc(c.change.at, func() {
						store.edit(func(r *auth.Record) { r.ExpiresAt = at(c.change.expires) })
					})
				}
				if c.want == 0 {
					time.Sleep(24 * time.Hour)
					if err := ctx.Err(); err != nil {
						t.Errorf("%s: ended with %v, want no end", name, context.Cause(ctx))
					}
					return
				}
				if got := until(t, ctx); got != c.want {
					t.Errorf("%s: ended after %v, want %v", name, got, c.want)
				}
				if got := context.Cause(ctx); !errors.Is(got, auth.ErrKeyExpired) {
					t.Errorf("%s: cause %v, want %v", name, got, auth.ErrKeyExpired)
				}
				time.Sleep(time.Hour)
				list := said.rechecks()
				if len(list) != 1 {
					t.Fatalf("%s: %d decisions, want 1", name, len(list))
				}
				if got := list[0].KeyID(); got != "key_good" {
					t.Errorf("%s: the hook was told about %q, want key_good", name, got)
				}
				if got := list[0].Time; !got.Equal(start.Add(c.want)) {
					t.Errorf("%s: decided at %v, want %v", name, got, start.Add(c.want))
				}
			})
		}
	}
}

// TestWithRecheckExtendedAtTheInstant: a lookup at the very instant of the
// expiry sees a later one. Either may count, and the later one is exact too.
func TestWithRecheckExtendedAtTheInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		store, said := newLiveStore("a.x"), new(hookLog)
		store.edit(func(r *auth.Record) { r.ExpiresAt = start.Add(time.Minute) })
		a := auth.New(store, &auth.Options{OnDecision: said.add})
		admitted := contextIn(t, a.Middleware, requestWith(goodKey))
		store.edit(func(r *auth.Record) { r.ExpiresAt = start.Add(time.Hour + 1) })
		const streams = 100
		for range streams {
			ctx, stop := auth.WithRecheck(admitted, time.Minute)
			defer stop()
			context.AfterFunc(ctx, func() {
				if got := time.Since(start); got != time.Minute && got != time.Hour+1 {
					t.Errorf("ended after %v, want 1m or 1h and 1ns", got)
				}
				if got := context.Cause(ctx); !errors.Is(got, auth.ErrKeyExpired) {
					t.Errorf("cause %v, want %v", got, auth.ErrKeyExpired)
				}
			})
		}
		time.Sleep(2 * time.Hour)
		if got := len(said.rechecks()); got != streams {
			t.Errorf("%d decisions, want %d", got, streams)
		}
	})
}

// TestWithRecheckWallClock: a monotonic reading in the expiry, as of a clock
// that was set since, does not count.
func TestWithRecheckWallClock(t *testing.T) {
	expires := time.Now().Add(20 * time.Millisecond)
	monotonic := (*int64)(unsafe.Add(unsafe.Pointer(&expires), unsafe.Sizeof(uint64(0))))
	*monotonic += int64(time.Hour)
	if got := time.Until(expires); got < 59*time.Minute {
		t.Fatalf("the monotonic reading is %v away, want an hour", got)
	}
	if got := time.Until(expires.Round(0)); got > time.Second {
		t.Fatalf("the wall clock is %v away, want milliseconds", got)
	}
	record := vouchable("session", "*")
	record.ExpiresAt = expires
	ctx, stop := auth.WithRecheck(auth.New(newStore(), nil).Vouch(t.Context(), record), time.Hour)
	defer stop()
	select {
	case <-ctx.Done():
	case <-time.After(time.Minute):
		t.Fatal("the stream did not end")
	}
	if got := context.Cause(ctx); !errors.Is(got, auth.ErrKeyExpired) {
		t.Errorf("cause %v, want %v", got, auth.ErrKeyExpired)
	}
}

// TestWithRecheckOutage: a store that fails, or hangs, ends no stream. The
// expiry stays exact, and afterwards a revocation is seen again.
func TestWithRecheckOutage(t *testing.T) {
	const every = time.Minute
	for _, c := range []struct {
		name string
		fail func(ctx context.Context) error
		late time.Duration // how much later than every a change may be seen
		deaf bool          // the store ignores that its context is done
	}{
		{"fails", func(context.Context) error { return errors.New("connection refused") }, 0, false},
		{"fails after 3 seconds", func(context.Context) error {
			time.Sleep(3 * time.Second)
			return errors.New("connection refused")
		}, 3 * time.Second, false},
		{"hangs", func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}, 10 * time.Second, false},
		{"hangs for an hour", func(context.Context) error {
			time.Sleep(time.Hour)
			return errors.New("connection refused")
		}, time.Hour, true},
		{"is slow", func(context.Context) error {
			time.Sleep(9 * time.Second)
			return nil
		}, 9 * time.Second, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			store, said := newLiveStore("a.x"), new(hookLog)
			a := auth.New(store, &auth.Options{Logger: quiet(), OnDecision: said.add})
			ctx, stop := auth.WithRecheck(contextIn(t, a.Middleware, requestWith(goodKey)), every)
			defer stop()
			store.fail(c.fail)
			calls := store.calls.Load()
			time.Sleep(2*time.Hour + every/2)
			if ctx.Err() != nil {
				t.Fatalf("a store that %s: the stream ended with %v", c.name, context.Cause(ctx))
			}
			// One lookup at a time, and each begins an interval after the last.
			n := store.calls.Load() - calls
			if want := int64(2 * time.Hour / every); !c.deaf && n != want {
				t.Errorf("a store that %s: %d lookups in 2 hours, want %d", c.name, n, want)
			}
			if c.deaf && n < 2 {
				t.Errorf("a store that %s: %d lookups in 2 hours, want 2 or more", c.name, n)
			}
			if got := len(said.rechecks()); got != 0 {
				t.Errorf("a store that %s: %d decisions, want 0", c.name, got)
			}
			store.fail(nil)
			store.edit(func(r *auth.Record) { r.RevokedAt = epoch })
			if got := until(t, ctx); got > every+c.late {
				t.Errorf("a store that %s: revocation seen %v later, want at most %v", c.name, got, every+c.late)
			}
			if got := context.Cause(ctx); !errors.Is(got, auth.ErrKeyRevoked) {
				t.Errorf("a store that %s: cause %v, want %v", c.name, got, auth.ErrKeyRevoked)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			store, said := newLiveStore("a.x"), new(hookLog)
			expires := time.Now().Add(2*time.Hour + 7)
			store.edit(func(r *auth.Record) { r.ExpiresAt = expires })
			a := auth.New(store, &auth.Options{Logger: quiet(), OnDecision: said.add})
			ctx, stop := auth.WithRecheck(contextIn(t, a.Middleware, requestWith(goodKey)), every)
			defer stop()
			store.fail(c.fail)
			until(t, ctx)
			if now := time.Now(); !now.Equal(expires) {
				t.Errorf("a store that %s: ended at %v, want the expiry %v", c.name, now, expires)
			}
			if got := context.Cause(ctx); !errors.Is(got, auth.ErrKeyExpired) {
				t.Errorf("a store that %s: cause %v, want %v", c.name, got, auth.ErrKeyExpired)
			}
			time.Sleep(2 * time.Hour) // until a lookup that began before returns
			if got := len(said.rechecks()); got != 1 {
				t.Errorf("a store that %s: %d decisions, want 1", c.name, got)
			}
			calls := store.calls.Load()
			time.Sleep(time.Hour)
			if got := store.calls.Load() - calls; got != 0 {
				t.Errorf("a store that %s: %d lookups after the end, want 0", c.name, got)
			}
		})
	}
}

// TestWithRecheckTicks: one lookup in each interval, also if a lookup takes a
// part of it, and no decision.
func TestWithRecheckTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		start := time.Now()
		said := new(hookLog)
		record := scopedRecord("a.x")
		a := auth.New(storeFunc(func(ctx context.Context, _ auth.Hash) (*auth.Record, error) {
			at = append(at, time.Since(start))
			if len(at) == 4 {
				time.Sleep(3 * time.Second)
			}
			if len(at) == 6 {
				time.Sleep(9 * time.Second) // longer than the interval
			}
			return &record, nil
		}), &auth.Options{OnDecision: said.add})
		ctx := contextIn(t, a.Middleware, requestWith(goodKey))
		at = nil
		ctx, stop := auth.WithRecheck(ctx, 5*time.Second)
		time.Sleep(time.Minute - 1)
		stop()
		synctest.Wait()
		want := []time.Duration{5, 10, 15, 20, 25, 30, 39, 44, 49, 54, 59}
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(at, want) {
			t.Errorf("lookups at %v, want %v", at, want)
		}
		if got := len(said.rechecks()); got != 0 {
			t.Errorf("%d decisions, want 0", got)
		}
		<-ctx.Done()
	})
}

// TestWithRecheckScopes: a stream ends when the key no longer covers what one
// of its scopes covered when it was let in.
func TestWithRecheckScopes(t *testing.T) {
	for _, c := range []struct {
		held, now string
		lost      auth.Scope // "": it does not end
	}{
		{"a.x", "a.x", ""},
		{"a.x", "b.x", "a.x"},
		{"a.x", "", "a.x"},
		{"a.x b.x", "b.x a.x", ""},
		{"a.x b.x", "a.x", "b.x"},
		{"a.x a.x", "a.x", ""},
		{"a.x", "a.x b.x", ""},
		{"a.x", "a.*", ""},
		{"a.x", "*", ""},
		{"a.*", "*", ""},
		{"a.* a.x", "a.*", ""},
		{"a.*", "a.* a.x", ""},
		{"a.x a.y", "a.*", ""},
		{"a.*", "a.x a.y", "a.*"},
		{"a.*", "a:*", "a.*"},
		{"a.*", "a.b.*", "a.*"},
		{"a.b.*", "a.*", ""},
		{"*", "a.*", "*"},
		{"*", "* a.x", ""},
		{"admin", "Admin", "admin"},
		{"", "", ""},
		{"", "a.x", ""},
		{"a.x b.*.c ** .", "a.x", ""}, // invalid scopes granted nothing
		{"b.*.c **", "", ""},          // nor here
		{"a.x", "a.x b.*.c **", ""},   // nor do they now
		{"a.x", "a.x* b.*.c **", "a.x"},
	} {
		synctest.Test(t, func(t *testing.T) {
			name := fmt.Sprintf("%q becomes %q", c.held, c.now)
			store, said := newLiveStore(scopesOf(c.held)...), new(hookLog)
			a := auth.New(store, &auth.Options{OnDecision: said.add})
			ctx, stop := auth.WithRecheck(contextIn(t, a.Middleware, requestWith(goodKey)), time.Minute)
			defer stop()
			store.edit(func(r *auth.Record) { r.Scopes = scopesOf(c.now) })
			if c.lost == "" {
				time.Sleep(time.Hour)
				if ctx.Err() != nil {
					t.Errorf("%s: ended with %v, want no end", name, context.Cause(ctx))
				}
				return
			}
			if got := until(t, ctx); got != time.Minute {
				t.Errorf("%s: ended after %v, want 1m", name, got)
			}
			cause := context.Cause(ctx)
			if !errors.Is(cause, auth.ErrInsufficientScope) {
				t.Errorf("%s: cause %v, want %v", name, cause, auth.ErrInsufficientScope)
			}
			if got, want := auth.ProblemFor(cause).RequiredScopes, (auth.Scopes{c.lost}); !slices.Equal(got, want) {
				t.Errorf("%s: the cause names %v, want %v", name, got, want)
			}
			synctest.Wait() // the hook is told after the end
			if got := len(said.rechecks()); got != 1 {
				t.Errorf("%s: %d decisions, want 1", name, got)
			}
		})
	}
}

// TestWithRecheckScopesOfTheStart: what counts is the scopes that the key had
// when it was let in, not those that it had in between.
func TestWithRecheckScopesOfTheStart(t *testing.T) {
	for _, c := range []struct {
		steps string // one each 10 minutes
		ends  bool
	}{
		{"a.* | * | a.*", false},
		{"a.x | a.x b.x | a.x", false},
		{"a.x | a.* | a.y", true},
	} {
		synctest.Test(t, func(t *testing.T) {
			steps := strings.Split(c.steps, "|")
			store := newLiveStore(scopesOf(steps[0])...)
			admitted := contextIn(t, auth.New(store, nil).Middleware, requestWith(goodKey))
			ctx, stop := auth.WithRecheck(admitted, time.Minute)
			defer stop()
			for _, scopes := range steps[1:] {
				store.edit(func(r *auth.Record) { r.Scopes = scopesOf(scopes) })
				time.Sleep(10 * time.Minute)
			}
			if got := ctx.Err() != nil; got != c.ends {
				t.Errorf("%s: ended: %v, want %v", c.steps, got, c.ends)
			}
		})
	}
}

// TestWithRecheckUnseen: what changes back within an interval is not seen.
func TestWithRecheckUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newLiveStore("a.x")
		admitted := contextIn(t, auth.New(store, nil).Middleware, requestWith(goodKey))
		ctx, stop := auth.WithRecheck(admitted, time.Minute)
		defer stop()
		time.Sleep(61 * time.Second)
		store.edit(func(r *auth.Record) { r.DisabledAt, r.Scopes = epoch, nil })
		time.Sleep(58 * time.Second)
		store.edit(func(r *auth.Record) { r.DisabledAt, r.Scopes = time.Time{}, scopesOf("a.x") })
		time.Sleep(time.Hour)
		if ctx.Err() != nil {
			t.Errorf("ended with %v, want no end", context.Cause(ctx))
		}
	})
}

// TestWithRecheckAtOnce: a context that holds no good key is canceled before
// WithRecheck returns.
func TestWithRecheckAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := defaultLog(t)
		store, said := newLiveStore("a.x"), new(hookLog)
		store.edit(func(r *auth.Record) { r.ExpiresAt = time.Now().Add(time.Minute) })
		a := auth.New(store, &auth.Options{Realm: "own", OnDecision: said.add})
		admitted := contextIn(t, a.Middleware, requestWith(goodKey))
		time.Sleep(time.Minute)
		calls := store.calls.Load()
		type row struct {
			name   string
			ctx    context.Context
			want   error // nil: any
			status int
			id     string // of the decision
			said   int
			lines  int
		}
		rows := []row{
			{"no record", contextIn(t, a.Optional, requestWith("")), auth.ErrMissingKey, 401, "", 1, 0},
			{"no Middleware", t.Context(), nil, 500, "", 0, 1},
			{"expired since", admitted, auth.ErrKeyExpired, 401, "key_good", 1, 0},
		}
		for _, state := range badStates {
			for _, hash := range []auth.Hash{{}, goodHash} {
				bad := vouchable("session", "*")
				state.set(&bad)
				bad.Hash = hash
				rows = append(rows, row{state.code, a.Vouch(t.Context(), bad), state.err, 401, "session", 1, 0})
			}
		}
		for _, c := range rows {
			before, lines := len(said.rechecks()), len(logs.lines(t))
			ctx, stop := auth.WithRecheck(c.ctx, time.Second)
			if err := ctx.Err(); err != context.Canceled {
				t.Errorf("%s: error %v, want %v", c.name, err, context.Canceled)
			}
			cause := context.Cause(ctx)
			if c.want != nil && !errors.Is(cause, c.want) {
				t.Errorf("%s: cause %v, want %v", c.name, cause, c.want)
			}
			if got := auth.ProblemFor(cause).Status; got != c.status {
				t.Errorf("%s: status %d, want %d", c.name, got, c.status)
			}
			if got := len(said.rechecks()) - before; got != c.said {
				t.Errorf("%s: %d decisions, want %d", c.name, got, c.said)
			}
			time.Sleep(time.Hour)
			stop()
			list := said.rechecks()[before:]
			if len(list) != c.said {
				t.Fatalf("%s: %d decisions in the end, want %d", c.name, len(list), c.said)
			}
			if c.said > 0 {
				if got := list[0].KeyID(); got != c.id {
					t.Errorf("%s: the hook was told about %q, want %q", c.name, got, c.id)
				}
				if got := list[0].Err; got != cause {
					t.Errorf("%s: the hook got %v, want %v", c.name, got, cause)
				}
				if list[0].Time.IsZero() {
					t.Errorf("%s: the hook got no time", c.name)
				}
			}
			logged := logs.lines(t)[lines:]
			if len(logged) != c.lines {
				t.Fatalf("%s: %d log lines, want %d", c.name, len(logged), c.lines)
			}
			if c.lines > 0 {
				if got := fmt.Sprint(logged[0]["msg"]); !strings.HasPrefix(got, "auth: auth.WithRecheck: ") {
					t.Errorf("%s: logged %q, want the call", c.name, got)
				}
			}
		}
		if got := store.calls.Load() - calls; got != 0 {
			t.Errorf("%d lookups, want 0", got)
		}
	})
}

// TestWithRecheckInterval: an interval that is not positive is a programmer's
// mistake, whether or not there is a key.
func TestWithRecheckInterval(t *testing.T) {
	ctx := auth.New(newStore(), nil).Vouch(t.Context(), vouchable("session", "*"))
	for _, c := range []struct {
		every time.Duration
		want  string
	}{
		{0, "auth.WithRecheck: the interval 0s is not positive"},
		{-1, "auth.WithRecheck: the interval -1ns is not positive"},
		{-time.Hour, "auth.WithRecheck: the interval -1h0m0s is not positive"},
		{1, ""},
		{1<<63 - 1, ""},
	} {
		got := panicOf(func() {
			_, stop := auth.WithRecheck(ctx, c.every)
			stop()
		})
		if got != c.want {
			t.Errorf("%v: panic %q, want %q", c.every, got, c.want)
		}
	}
	if got := panicOf(func() { auth.WithRecheck(t.Context(), 0) }); got == "" {
		t.Error("without a key: no panic")
	}
}

// TestWithRecheckStorePanics: a panic of the store ends the stream, not the
// process. The cause holds an error that was panicked with, and no secret.
func TestWithRecheckStorePanics(t *testing.T) {
	own := errors.New("of the store")
	for _, c := range []struct {
		name  string
		panic func()
		is    error
		text  string // in the cause and in the log
	}{
		{"an error", func() { panic(own) }, own, "of the store"},
		{"a wrapped error", func() { panic(fmt.Errorf("lookup: %w", own)) }, own, "lookup: of the store"},
		{"a text", func() { panic("index out of order") }, nil, "index out of order"},
		{"a hash", func() { panic(fmt.Sprintf("no shard for %x at db.example", goodHash[:])) }, nil, "at db.example"},
		{"nil", func() { panic(nil) }, nil, "nil"},
		{"runtime.Goexit", func() { runtime.Goexit() }, nil, "runtime.Goexit"},
		{"a runtime error", func() { _ = []int{}[len(own.Error())] }, nil, "index out of range"},
	} {
		synctest.Test(t, func(t *testing.T) {
			logger, logs := captureLog()
			store, said := newLiveStore("a.x"), new(hookLog)
			a := auth.New(store, &auth.Options{Logger: logger, OnDecision: said.add})
			ctx, stop := auth.WithRecheck(contextIn(t, a.Middleware, requestWith(goodKey)), time.Minute)
			defer stop()
			store.fail(func(context.Context) error {
				c.panic()
				return nil
			})
			if got := until(t, ctx); got != time.Minute {
				t.Errorf("%s: ended after %v, want 1m", c.name, got)
			}
			synctest.Wait()
			cause := context.Cause(ctx)
			if !errors.Is(cause, auth.ErrStoreUnavailable) {
				t.Errorf("%s: cause %v, want %v", c.name, cause, auth.ErrStoreUnavailable)
			}
			if c.is != nil && !errors.Is(cause, c.is) {
				t.Errorf("%s: cause %v, want one that matches %v", c.name, cause, c.is)
			}
			if got := cause.Error(); !strings.Contains(got, c.text) {
				t.Errorf("%s: cause %q, want %q in it", c.name, got, c.text)
			}
			for _, verb := range []string{"%s", "%v", "%+v", "%#v", "%q", "%x", "%d"} {
				if leaksHash(fmt.Sprintf(verb, cause), goodHash) {
					t.Errorf("%s: %s of the cause holds the hash", c.name, verb)
				}
			}
			w := httptest.NewRecorder()
			auth.WriteProblem(w, httptest.NewRequest("GET", "/", nil), cause)
			if w.Code != http.StatusServiceUnavailable {
				t.Errorf("%s: answered with %d, want 503", c.name, w.Code)
			}
			if got := problemIn(t, w).Code; got != "STORE_UNAVAILABLE" {
				t.Errorf("%s: answered with %q, want STORE_UNAVAILABLE", c.name, got)
			}
			if strings.Contains(w.Body.String(), c.text) {
				t.Errorf("%s: the answer %s discloses the panic", c.name, w.Body)
			}
			time.Sleep(time.Hour)
			list := said.rechecks()
			if len(list) != 1 {
				t.Fatalf("%s: %d decisions, want 1", c.name, len(list))
			}
			if list[0].Err != cause {
				t.Errorf("%s: the hook got %v, want the cause", c.name, list[0].Err)
			}
			if got := list[0].Code; got != "STORE_UNAVAILABLE" {
				t.Errorf("%s: the hook got the code %q, want STORE_UNAVAILABLE", c.name, got)
			}
			lines := logs.lines(t)
			if len(lines) != 1 {
				t.Fatalf("%s: %d log lines, want 1", c.name, len(lines))
			}
			if got := lines[0]["level"]; got != "ERROR" {
				t.Errorf("%s: logged at level %v, want ERROR", c.name, got)
			}
			if got := logs.String(); !strings.Contains(got, c.text) {
				t.Errorf("%s: logged %s, want %q in it", c.name, got, c.text)
			}
			if leaksHash(logs.String(), goodHash) {
				t.Errorf("%s: the log holds the hash", c.name)
			}
		})
	}
}

// TestWithRecheckHookPanics: a hook that panics in the background does not end
// the process. It is logged.
func TestWithRecheckHookPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logger, logs := captureLog()
		store := newLiveStore("a.x")
		a := auth.New(store, &auth.Options{Logger: logger, OnDecision: func(ctx context.Context, d auth.Decision) {
			if d.Step != auth.StepRecheck {
				return
			}
			if err := ctx.Err(); err != nil {
				t.Errorf("the context of the hook has ended: %v", err)
			}
			if _, ok := auth.FromContext(ctx); !ok {
				t.Error("the context of the hook has no record")
			}
			panic("of the hook " + goodHash.String())
		}})
		ctx, stop := auth.WithRecheck(contextIn(t, a.Middleware, requestWith(goodKey)), time.Minute)
		defer stop()
		store.edit(func(r *auth.Record) { r.RevokedAt = epoch })
		until(t, ctx)
		synctest.Wait()
		if got := context.Cause(ctx); !errors.Is(got, auth.ErrKeyRevoked) {
			t.Errorf("cause %v, want %v", got, auth.ErrKeyRevoked)
		}
		if got := logs.String(); !strings.Contains(got, "of the hook") {
			t.Errorf("logged %q, want the panic", got)
		}
		if leaksHash(logs.String(), goodHash) {
			t.Error("the log holds the hash")
		}
	})
}

// TestWithRecheckCanceled: what else ends the context. The hook is not told,
// and the store is not asked again.
func TestWithRecheckCanceled(t *testing.T) {
	own := errors.New("the server shuts down")
	type contexts struct {
		ctx          context.Context
		cancelParent context.CancelCauseFunc
		stop         context.CancelFunc
	}
	for _, c := range []struct {
		name  string
		end   func(c contexts)
		err   error
		cause error
	}{
		{"CancelFunc", func(c contexts) { c.stop() }, context.Canceled, context.Canceled},
		{"CancelFunc twice", func(c contexts) { c.stop(); c.stop() }, context.Canceled, context.Canceled},
		{"parent", func(c contexts) { c.cancelParent(own) }, context.Canceled, own},
		{"parent, without a cause", func(c contexts) { c.cancelParent(nil) }, context.Canceled, context.Canceled},
		{"deadline", func(c contexts) { <-c.ctx.Done() }, context.DeadlineExceeded, context.DeadlineExceeded},
		{"parent, then CancelFunc", func(c contexts) { c.cancelParent(own); c.stop() }, context.Canceled, own},
	} {
		for _, inLookup := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				name := fmt.Sprintf("%s, in a lookup: %v", c.name, inLookup)
				store, said := newLiveStore("a.x"), new(hookLog)
				store.edit(func(r *auth.Record) { r.ExpiresAt = time.Now().Add(3 * time.Hour) })
				a := auth.New(store, &auth.Options{Logger: quiet(), OnDecision: said.add})
				parent := contextIn(t, a.Middleware, requestWith(goodKey))
				parent, cancelTime := context.WithTimeout(parent, 125*time.Second)
				defer cancelTime()
				parent, cancel := context.WithCancelCause(parent)
				defer cancel(nil)
				ctx, stop := auth.WithRecheck(parent, 2*time.Minute)
				defer stop()
				var running atomic.Int64
				if inLookup {
					store.fail(func(ctx context.Context) error {
						running.Add(1)
						<-ctx.Done()
						running.Add(-1)
						return nil // the lookup finds what follows
					})
					time.Sleep(2*time.Minute + time.Second)
					store.edit(func(r *auth.Record) { r.RevokedAt = epoch })
					if got := running.Load(); got != 1 {
						t.Fatalf("%s: %d lookups are running, want 1", name, got)
					}
				}
				c.end(contexts{ctx, cancel, stop})
				if err := ctx.Err(); err != c.err {
					t.Errorf("%s: error %v, want %v", name, err, c.err)
				}
				if got := context.Cause(ctx); got != c.cause {
					t.Errorf("%s: cause %v, want %v", name, got, c.cause)
				}
				synctest.Wait()
				if got := running.Load(); got != 0 {
					t.Errorf("%s: %d lookups are running, want 0", name, got)
				}
				calls := store.calls.Load()
				time.Sleep(24 * time.Hour)
				if got := store.calls.Load() - calls; got != 0 {
					t.Errorf("%s: %d lookups afterwards, want 0", name, got)
				}
				if got := len(said.rechecks()); got != 0 {
					t.Errorf("%s: %d decisions, want 0", name, got)
				}
			})
		}
	}
}

// TestWithRecheckOfADeadContext: a parent that has ended before.
func TestWithRecheckOfADeadContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := errors.New("the server shuts down")
		store, said := newLiveStore("a.x"), new(hookLog)
		a := auth.New(store, &auth.Options{OnDecision: said.add})
		for name, ctx := range map[string]context.Context{
			"a key":  contextIn(t, a.Middleware, requestWith(goodKey)),
			"no key": contextIn(t, a.Optional, requestWith("")),
		} {
			parent, cancel := context.WithCancelCause(ctx)
			cancel(own)
			calls := store.calls.Load()
			ctx, stop := auth.WithRecheck(parent, time.Minute)
			if got := context.Cause(ctx); got != own {
				t.Errorf("%s: cause %v, want that of the parent", name, got)
			}
			time.Sleep(time.Hour)
			stop()
			if got := store.calls.Load() - calls; got != 0 {
				t.Errorf("%s: %d lookups, want 0", name, got)
			}
			if got := len(said.rechecks()); got != 0 {
				t.Errorf("%s: %d decisions, want 0", name, got)
			}
		}
	})
}

// TestWithRecheckToldOnce: what comes first ends the stream, and the hook
// is told if and only if it was not the caller.
func TestWithRecheckToldOnce(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			store, said := newLiveStore("a.x"), new(hookLog)
			end := time.Now().Add(time.Minute)
			store.edit(func(r *auth.Record) { r.ExpiresAt = end })
			a := auth.New(store, &auth.Options{OnDecision: said.add})
			admitted := contextIn(t, a.Middleware, requestWith(goodKey))
			store.edit(func(r *auth.Record) { r.RevokedAt = epoch })
			ended := 0 // by WithRecheck
			var list []context.Context
			for i := range 20 {
				ctx, stop := auth.WithRecheck(admitted, time.Minute) // the tick is at the expiry
				defer stop()
				list = append(list, ctx)
				if i%2 == 0 {
					time.AfterFunc(time.Minute, stop)
				}
			}
			time.Sleep(2 * time.Minute)
			for _, ctx := range list {
				if err := ctx.Err(); err == nil {
					t.Fatal("a stream did not end")
				}
				cause := context.Cause(ctx)
				if cause == context.Canceled {
					continue
				}
				ended++
				if !errors.Is(cause, auth.ErrKeyRevoked) && !errors.Is(cause, auth.ErrKeyExpired) {
					t.Errorf("cause %v, want one of the two", cause)
				}
			}
			if got := len(said.rechecks()); got != ended {
				t.Errorf("%d decisions about %d streams that ended", got, ended)
			}
		})
	}
}

// TestWithRecheckIdentity: the context still carries the identity as it was let
// in, also after a change of the record, and after its end.
func TestWithRecheckIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		store := newLiveStore("a.x")
		a := auth.New(store, nil)
		parent := context.WithValue(contextIn(t, a.Middleware, requestWith(goodKey)), key{}, "value")
		ctx, stop := auth.WithRecheck(parent, time.Minute)
		store.edit(func(r *auth.Record) { r.Name, r.Scopes = "Renamed", scopesOf("a.* b.x") })
		check := func(when string) {
			t.Helper()
			if got, _ := auth.FromContext(ctx); !reflect.DeepEqual(got, scopedRecord("a.x")) {
				t.Errorf("%s: FromContext got %v, want the record of before", when, got)
			}
			if err := auth.Authorize(ctx, "a.x"); err != nil {
				t.Errorf("%s: Authorize: %v, want nil", when, err)
			}
			if err := auth.Authorize(ctx, "b.x"); !errors.Is(err, auth.ErrInsufficientScope) {
				t.Errorf("%s: Authorize: %v, want %v", when, err, auth.ErrInsufficientScope)
			}
			if got, err := auth.Recheck(ctx); got.Name != "Renamed" {
				t.Errorf("%s: Recheck got %q and %v, want the new name", when, got.Name, err)
			}
			if got := ctx.Value(key{}); got != "value" {
				t.Errorf("%s: the value is %v, want that of the parent", when, got)
			}
		}
		check("at first")
		time.Sleep(time.Hour)
		check("after ticks")
		stop()
		check("after the end")
	})
}

// TestWithRecheckGoroutines: a stream has no goroutine between two lookups.
func TestWithRecheckGoroutines(t *testing.T) {
	const streams = 10_000
	store := newLiveStore("a.x")
	a := auth.New(store, nil)
	parent, cancel := context.WithCancel(contextIn(t, a.Middleware, requestWith(goodKey)))
	before := runtime.NumGoroutine()
	for range streams {
		auth.WithRecheck(parent, time.Hour)
	}
	if got := runtime.NumGoroutine() - before; got > streams/100 {
		t.Errorf("%d streams have %d goroutines, want none", streams, got)
	}
	cancel()
	for start := time.Now(); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Since(start) > time.Minute {
			t.Fatalf("%d goroutines are left, want %d", runtime.NumGoroutine(), before)
		}
	}
}

// TestWithRecheckIsFreed: after the CancelFunc no timer holds the stream, also
// if a lookup returns later.
func TestWithRecheckIsFreed(t *testing.T) {
	for _, inLookup := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			start := func() (weak.Pointer[auth.Record], context.CancelFunc) {
				record := scopedRecord("a.x")
				record.ExpiresAt = time.Now().Add(24 * time.Hour)
				asked := 0
				store := storeFunc(func(context.Context, auth.Hash) (*auth.Record, error) {
					if asked++; asked == 2 && inLookup {
						<-release
					}
					return &record, nil
				})
				a := auth.New(store, nil)
				_, stop := auth.WithRecheck(contextIn(t, a.Middleware, requestWith(goodKey)), time.Hour)
				return weak.Make(&record), stop
			}
			held, stop := start()
			time.Sleep(time.Hour + time.Minute)
			collect := func() bool {
				for range 20 {
					if runtime.GC(); held.Value() == nil {
						return true
					}
				}
				return false
			}
			if collect() {
				t.Fatalf("in a lookup: %v: the record is gone while the stream runs", inLookup)
			}
			stop()
			stop = nil
			synctest.Wait()
			close(release)
			time.Sleep(time.Minute) // the runtime forgets stopped timers when it looks at the others
			if !collect() {
				t.Errorf("in a lookup: %v: the record is still held", inLookup)
			}
		})
	}
}
