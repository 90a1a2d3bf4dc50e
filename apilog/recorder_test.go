package apilog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
)

func TestNewRecorderPanics(t *testing.T) {
	for _, c := range []struct {
		store apilog.Store
		opts  *apilog.Options
		want  string
	}{
		{nil, nil, "apilog.NewRecorder: the store is nil"},
		{newTestStore(), &apilog.Options{QueueSize: -1}, "apilog.NewRecorder: QueueSize is -1, which is negative"},
		{newTestStore(), &apilog.Options{FlushInterval: -time.Second}, "apilog.NewRecorder: FlushInterval is -1s, which is negative"},
		{newTestStore(), &apilog.Options{Scheme: auth.Scheme{Prefix: "x"}},
			`apilog.NewRecorder: the prefix "x" is not 1 to 32 characters of A-Z a-z 0-9 _ -, ending in _`},
	} {
		wantPanic(t, c.want, func() { apilog.NewRecorder(c.store, c.opts) })
	}
}

// Which key an entry has, and which code, after what an API does with it.
var decisions = []struct {
	name  string
	key   string // of keysOf
	serve func(a *auth.Authenticator, w http.ResponseWriter, r *http.Request)

	id, owner string
	status    int
	code      string
}{
	{"a good key", "good", nil, "key_good", "org_1", 200, ""},
	{"a revoked key", "revoked", nil, "key_revoked", "org_1", 401, "KEY_REVOKED"},
	{"a disabled key", "disabled", nil, "key_disabled", "org_2", 401, "KEY_DISABLED"},
	{"an expired key", "expired", nil, "key_expired", "", 401, "KEY_EXPIRED"},
	{"an unknown key", "unknown", nil, "", "", 401, "INVALID_KEY"},
	{"a malformed key", "malformed", nil, "", "", 401, "INVALID_FORMAT"},
	{"no key", "", nil, "", "", 401, "MISSING_KEY"},
	{"no scope", "good", requires("a.write"), "key_good", "org_1", 403, "INSUFFICIENT_SCOPE"},
	{"Authorize fails, but 200", "good", func(_ *auth.Authenticator, w http.ResponseWriter, r *http.Request) {
		auth.Authorize(r.Context(), "a.write")
		io.WriteString(w, "the public part")
	}, "key_good", "org_1", 200, ""},
	{"Authorize fails", "good", func(_ *auth.Authenticator, w http.ResponseWriter, r *http.Request) {
		auth.WriteProblem(w, r, auth.Authorize(r.Context(), "a.write"))
	}, "key_good", "org_1", 403, "INSUFFICIENT_SCOPE"},
	{"404", "good", func(_ *auth.Authenticator, w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
		"key_good", "org_1", 404, ""},
	{"SetCode", "good", func(_ *auth.Authenticator, w http.ResponseWriter, r *http.Request) {
		apilog.SetCode(r.Context(), "RATE_LIMITED")
		w.WriteHeader(429)
	}, "key_good", "org_1", 429, "RATE_LIMITED"},
	{"SetCode of 200", "good", func(_ *auth.Authenticator, w http.ResponseWriter, r *http.Request) {
		apilog.SetCode(r.Context(), "QUOTA")
	}, "key_good", "org_1", 200, "QUOTA"},
	{"SetCode in a derived context", "good", func(_ *auth.Authenticator, w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Hour)
		defer cancel()
		apilog.SetCode(ctx, "QUOTA")
		w.WriteHeader(402)
	}, "key_good", "org_1", 402, "QUOTA"},
	{"SetCode of a module that does not import apilog", "good", func(_ *auth.Authenticator, w http.ResponseWriter, r *http.Request) {
		r.Context().Value((*auth.Problem)(nil)).(func(string))("RATE_LIMITED")
		w.WriteHeader(429)
	}, "key_good", "org_1", 429, "RATE_LIMITED"},
	{"SetCode over a refusal", "good", func(_ *auth.Authenticator, w http.ResponseWriter, r *http.Request) {
		auth.Authorize(r.Context(), "a.write")
		apilog.SetCode(r.Context(), "TENANT_CLOSED")
		w.WriteHeader(403)
	}, "key_good", "org_1", 403, "TENANT_CLOSED"},
	{"Recheck passes", "good", func(_ *auth.Authenticator, w http.ResponseWriter, r *http.Request) {
		auth.Authorize(r.Context(), "a.write")
		auth.Recheck(r.Context())
	}, "key_good", "org_1", 200, ""},
	{"a key of an inner Authenticator", "good", func(a *auth.Authenticator, w http.ResponseWriter, r *http.Request) {
		a.Middleware(answer(200)).ServeHTTP(w, requestWith("isk_x").WithContext(r.Context()))
	}, "key_good", "org_1", 401, "INVALID_KEY"},
}

func requires(scope auth.Scope) func(*auth.Authenticator, http.ResponseWriter, *http.Request) {
	return func(_ *auth.Authenticator, w http.ResponseWriter, r *http.Request) {
		auth.Require(scope)(answer(200)).ServeHTTP(w, r)
	}
}

// keysOf adds keys in each state and returns them by name.
func keysOf(s *keyStore) map[string]string {
	return map[string]string{
		"good":      s.add(auth.Record{ID: "key_good", Owner: "org_1", Scopes: auth.Scopes{"a.read"}}),
		"revoked":   s.add(auth.Record{ID: "key_revoked", Owner: "org_1", RevokedAt: time.Unix(1, 0)}),
		"disabled":  s.add(auth.Record{ID: "key_disabled", Owner: "org_2", DisabledAt: time.Unix(1, 0)}),
		"expired":   s.add(auth.Record{ID: "key_expired", ExpiresAt: time.Unix(1, 0)}),
		"unknown":   auth.Scheme{}.NewKey().Reveal(),
		"malformed": "Basic",
		"":          "",
	}
}

func TestDecisions(t *testing.T) {
	for _, c := range decisions {
		t.Run(c.name, func(t *testing.T) {
			store := apilog.NewMemoryStore(10)
			var g *guarded
			g = guard(store, unlimited(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if c.serve != nil {
					c.serve(g.auth, w, r)
				}
			}))
			g.send(keysOf(g.keys)[c.key])
			e := only(t, closed(t, g.recorder, store))
			if e.KeyID != c.id {
				t.Errorf("KeyID %q, want %q", e.KeyID, c.id)
			}
			if e.Owner != c.owner {
				t.Errorf("Owner %q, want %q", e.Owner, c.owner)
			}
			if e.Status != c.status {
				t.Errorf("status %d, want %d", e.Status, c.status)
			}
			if e.Code != c.code {
				t.Errorf("code %q, want %q", e.Code, c.code)
			}
		})
	}
}

// A stream that ends because its key was revoked says so, though its status was
// 200 long before. WithRecheck tells it when the handler may have returned.
func TestStreamEndedByRecheck(t *testing.T) {
	for _, waits := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			store := apilog.NewMemoryStore(10)
			keys := new(keyStore)
			recorder := apilog.NewRecorder(store, unlimited())
			returned, told := make(chan struct{}), make(chan struct{})
			hook := func(ctx context.Context, d auth.Decision) {
				if d.Err == nil {
					recorder.OnDecision(ctx, d)
					return
				}
				if !waits {
					<-returned
				}
				recorder.OnDecision(ctx, d)
				close(told)
			}
			a := auth.New(keys, &auth.Options{OnDecision: hook, Logger: quiet})
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, "data: 1\n\n")
				ctx, stop := auth.WithRecheck(r.Context(), time.Second)
				defer stop()
				<-ctx.Done()
				if waits {
					<-told
				}
			})
			key := keys.add(auth.Record{ID: "key_1", Owner: "org_1"})
			time.AfterFunc(10500*time.Millisecond, func() { keys.revoke("key_1") })
			time.Sleep(time.Millisecond) // so that no flush comes at the same time
			serve(recorder.Middleware(a.Middleware(h)), requestWith(key))
			close(returned)
			<-told
			e := only(t, closed(t, recorder, store))
			if e.Status != 200 {
				t.Errorf("status %d, want 200", e.Status)
			}
			if e.Code != "KEY_REVOKED" {
				t.Errorf("code %q, want KEY_REVOKED; the handler waits: %t", e.Code, waits)
			}
			if e.Duration < 10*time.Second {
				t.Errorf("duration %v, want that of the stream", e.Duration)
			}
		})
	}
}

func TestWithoutRecorder(t *testing.T) {
	apilog.SetCode(ctx, "RATE_LIMITED") // does nothing
	recorder := apilog.NewRecorder(apilog.NewMemoryStore(1), nil)
	defer recorder.Close(ctx)
	recorder.OnDecision(ctx, auth.Decision{})
}

// A Recorder inside another one records as if it were alone. The same one twice
// records once.
func TestNestedRecorders(t *testing.T) {
	outerStore, innerStore := apilog.NewMemoryStore(10), apilog.NewMemoryStore(10)
	outer := apilog.NewRecorder(outerStore, unlimited())
	inner := apilog.NewRecorder(innerStore, unlimited())
	keys := new(keyStore)
	key := keys.add(auth.Record{ID: "key_1", Owner: "org_1"})
	a := auth.New(keys, &auth.Options{OnDecision: func(ctx context.Context, d auth.Decision) {
		outer.OnDecision(ctx, d)
		inner.OnDecision(ctx, d)
	}})
	h := a.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		apilog.SetCode(r.Context(), "QUOTA")
		w.WriteHeader(402)
	}))
	serve(outer.Middleware(inner.Middleware(outer.Middleware(inner.Middleware(h)))), requestWith(key))
	for name, list := range map[string][]apilog.Entry{
		"outer": closed(t, outer, outerStore),
		"inner": closed(t, inner, innerStore),
	} {
		e := only(t, list)
		if e.KeyID != "key_1" {
			t.Errorf("%s: KeyID %q", name, e.KeyID)
		}
		if e.Code != "QUOTA" {
			t.Errorf("%s: code %q", name, e.Code)
		}
		if e.Status != 402 {
			t.Errorf("%s: status %d", name, e.Status)
		}
	}
}

// Nothing of a request is recorded that the design does not name.
func TestNeverRecorded(t *testing.T) {
	store := apilog.NewMemoryStore(10)
	g := guard(store, unlimited(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Secret", "secret-answer-header")
		io.WriteString(w, "secret-answer")
	}))
	key := g.keys.add(auth.Record{ID: "key_1", Owner: "org_1", Name: "secret-name", Metadata: map[string]string{"a": "secret-meta"}})
	s := newServer(t, false, g)
	r, _ := http.NewRequest("POST", s.URL+"/a?secret-query="+key+"#secret-fragment", strings.NewReader("secret-body"))
	r.URL.User = nil
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Cookie", "a=secret-cookie")
	r.Header.Set("Referer", "http://x/secret-referer")
	r.Header.Set("X-Forwarded-For", "198.51.100.66")
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	s.Close()
	e := only(t, closed(t, g.recorder, store))
	text, _ := json.Marshal(e)
	for _, never := range []string{"secret", key, key[10:20], "198.51.100.66"} {
		if bytes.Contains(text, []byte(never)) {
			t.Errorf("the entry holds %q: %s", never, text)
		}
	}
	if e.Path != "/a" {
		t.Errorf("path %q, want /a", e.Path)
	}
}

// A key is struck out of each text that a client chooses.
func TestKeyInEachField(t *testing.T) {
	key := auth.Scheme{}.NewKey().Reveal()
	escaped := strings.NewReplacer("i", "%69", "s", "%2573", "_", "%25255F").Replace(key)
	for _, text := range []string{key, strings.ToUpper(key[:4]) + key[4:], escaped} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Method = text
		r.URL.Path = "/keys/" + text
		r.Pattern = "/" + text
		r.Header.Set("User-Agent", "curl "+text)
		r.Header.Set("X-Request-Id", text)
		e := entry(t, nil, r, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			apilog.SetCode(r.Context(), text)
			w.WriteHeader(400)
		}))
		got := fmt.Sprintf("%+v", e)
		for range 5 {
			if strings.Contains(got, key[10:]) {
				t.Errorf("the entry holds the key %s: %s", text, got)
			}
			if plain, err := url.PathUnescape(got); err == nil {
				got = plain
			}
		}
		if e.Path != "/keys/[key]" {
			t.Errorf("path %q, want /keys/[key]", e.Path)
		}
	}
}

// The ID of a key and its owner are never cut off: they would be those of
// another.
func TestIdentitiesAreWhole(t *testing.T) {
	for _, c := range []struct{ have, want string }{
		{strings.Repeat("x", 1024), strings.Repeat("x", 1024)},
		{strings.Repeat("x", 1025), ""},
		{"org\x00", ""},
		{"org\xff", ""},
		{"Müller", "Müller"},
	} {
		store := apilog.NewMemoryStore(10)
		g := guard(store, unlimited(), answer(200))
		g.send(g.keys.add(auth.Record{ID: c.have, Owner: c.have}))
		e := only(t, closed(t, g.recorder, store))
		if e.KeyID != c.want {
			t.Errorf("KeyID %.40q, want %.40q", e.KeyID, c.want)
		}
		if e.Owner != c.want {
			t.Errorf("Owner %.40q, want %.40q", e.Owner, c.want)
		}
	}
}

// A panic of the host's Skip or RemoteAddr goes to the server, as that of any
// handler. A request whose address is not known has an entry.
func TestHostPanics(t *testing.T) {
	boom := func() { panic("host") }
	opts := unlimited()
	opts.Skip = func(*http.Request) bool { boom(); return false }
	recorded(t, opts, answer(200), func(h http.Handler) {
		if got := panicOf(func() { serve(h, requestWith("")) }); got != "host" {
			t.Errorf("Skip: the panic is %v", got)
		}
	})
	opts = unlimited()
	opts.RemoteAddr = func(*http.Request) netip.Addr { boom(); return netip.Addr{} }
	e := only(t, recorded(t, opts, answer(200), func(h http.Handler) {
		if got := panicOf(func() { serve(h, requestWith("")) }); got != "host" {
			t.Errorf("RemoteAddr: the panic is %v", got)
		}
	}))
	if e.Status != 500 {
		t.Errorf("RemoteAddr: status %d, want 500", e.Status)
	}
}

func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1500 * time.Nanosecond)
		began := time.Now()
		e := entry(t, nil, requestWith(""), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			time.Sleep(3*time.Second + 1)
		}))
		if want := began.UTC().Truncate(time.Microsecond); e.Time != want.Round(0) {
			t.Errorf("time %v, want %v", e.Time, want)
		}
		if want := 3 * time.Second; e.Duration != want {
			t.Errorf("duration %v, want %v", e.Duration, want)
		}
	})
}

// Old entries are deleted at the start and about every hour.
func TestRetention(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		keep  time.Duration
		want  time.Duration // before the day in which it starts
		calls bool
	}{{0, 30 * day, true}, {7 * day, 7 * day, true}, {36 * time.Hour, 2 * day, true}, {-1, 0, false}} {
		synctest.Test(t, func(t *testing.T) {
			store := newTestStore()
			var mu sync.Mutex
			var at, before []time.Time
			delete := func(_ context.Context, t time.Time) error {
				mu.Lock()
				defer mu.Unlock()
				at, before = append(at, time.Now()), append(before, t)
				switch len(at) {
				case 2:
					return errors.New("disk full")
				case 3:
					panic("isk_secret")
				}
				return nil
			}
			store.deleting.Store(&delete)
			opts := unlimited()
			logger, text := captureLog()
			opts.Retention, opts.Logger = c.keep, logger
			recorder := apilog.NewRecorder(store, opts)
			today := time.Now().UTC().Truncate(day)
			time.Sleep(6 * time.Hour)
			synctest.Wait()
			closed(t, recorder, store)
			if !c.calls {
				if len(at) > 0 {
					t.Errorf("Retention %v: old entries are deleted", c.keep)
				}
				return
			}
			if n := len(at); n < 6 || n > 8 {
				t.Errorf("Retention %v: %d deletions in 6 hours", c.keep, n)
			}
			for _, got := range before {
				if want := today.Add(-c.want); !got.Equal(want) || got.Location() != time.UTC {
					t.Errorf("Retention %v: deletes before %v, want %v", c.keep, got, want)
				}
			}
			if n := strings.Count(text.String(), "cannot delete old entries"); n != 2 {
				t.Errorf("Retention %v: %d failures are logged, want 2:\n%s", c.keep, n, text)
			}
			if strings.Contains(text.String(), "isk_secret") {
				t.Errorf("the log has the value of a panic: %s", text)
			}
		})
	}
}

// Close ends a deletion, and waits for it.
func TestCloseEndsRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTestStore()
		ended := false
		hang := func(ctx context.Context, _ time.Time) error {
			<-ctx.Done()
			ended = true
			return ctx.Err()
		}
		store.deleting.Store(&hang)
		logger, text := captureLog()
		recorder := apilog.NewRecorder(store, &apilog.Options{Logger: logger})
		synctest.Wait()
		closed(t, recorder, store)
		if !ended {
			t.Error("Close returned before the deletion")
		}
		if text.String() != "" {
			t.Errorf("Close logs %s", text)
		}
	})
}

// Entries are found in the order of their IDs, which is that of their times.
func TestIDs(t *testing.T) {
	entries := recorded(t, nil, answer(200), func(h http.Handler) {
		for range 100 {
			serve(h, requestWith(""))
		}
	})
	seen := make(map[string]bool)
	for _, e := range entries {
		if at, ok := apilog.TimeOf(e.ID); !ok || !at.Equal(e.Time) {
			t.Errorf("the ID %s is of %v, want %v", e.ID, at, e.Time)
		}
		seen[e.ID] = true
	}
	if len(seen) != 100 {
		t.Errorf("%d IDs of 100 entries", len(seen))
	}
	if !slices.IsSortedFunc(entries, func(a, b apilog.Entry) int { return strings.Compare(a.ID, b.ID) }) {
		t.Error("the IDs are not in the order of the times")
	}
}
