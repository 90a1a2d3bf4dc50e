package auth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
)

// TestRequireScopes: all of them for Require, one of them for RequireAny, alone and behind Middleware alike.
func TestRequireScopes(t *testing.T) {
	for _, c := range []struct {
		held     string
		required string
		all, any bool
	}{
		{"", "a.x", false, false},
		{"a.x", "a.x", true, true},
		{"a.x", "b.x", false, false},
		{"a.x", "a.x b.x", false, true},
		{"b.x", "a.x b.x", false, true},
		{"b.x a.x", "a.x b.x", true, true},
		{"a.x b.x c.x", "a.x b.x", true, true},
		{"a.*", "a.x a.y", true, true},
		{"a.*", "a.x b.x", false, true},
		{"a.*", "b.x a.x", false, true},
		{"*", "a.x b.x", true, true},
		{"a.x", "*", false, false},
		{"a.x", "* a.x", false, true},
		{"c.x", "a.x b.x", false, false},
		{"a b.*.c A.x **", "a.x b.x", false, false},
		{"a.x", "a.x a.x", true, true},
		{"a.x", "a.x b.x c.x", false, true},
		{"c.x", "a.x b.x c.x", false, true},
	} {
		var held, required []auth.Scope
		for s := range strings.FieldsSeq(c.held) {
			held = append(held, auth.Scope(s))
		}
		for s := range strings.FieldsSeq(c.required) {
			required = append(required, auth.Scope(s))
		}
		a := auth.New(newStore(scopedRecord(held...)), nil)
		s, more := required[0], slices.Clone(required[1:])
		wraps := map[string]func(http.Handler) http.Handler{
			"Require":                       auth.Require(s, more...),
			"Authenticator.Require":         a.Require(s, more...),
			"RequireAny":                    auth.RequireAny(s, more...),
			"Authenticator.RequireAny":      a.RequireAny(s, more...),
			"Authenticator.Require only":    a.Require(s, more...),
			"Authenticator.RequireAny only": a.RequireAny(s, more...),
		}
		clear(more) // they were copied
		for name, wrap := range wraps {
			opened := 0
			h := wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { opened++ }))
			if !strings.HasSuffix(name, "only") {
				h = a.Middleware(h)
			}
			want := c.all
			if strings.Contains(name, "Any") {
				want = c.any
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, requestWith(goodKey))
			if (opened == 1) != want || (w.Code == 403) == want {
				t.Errorf("%s: a key with %q on a route for %q: %d, want %v", name, c.held, c.required, w.Code, want)
			}
		}
	}
}

// TestWhoAuthenticates: how often each store is asked and whose record the handler sees, for every nesting.
func TestWhoAuthenticates(t *testing.T) {
	otherKey := "isk_" + strings.Repeat("B", 44)
	record := func(id, key string) auth.Record {
		r := goodRecord()
		r.ID, r.Hash = id, auth.BLAKE2b(nil)(key)
		return r
	}
	type wrapper = func(http.Handler) http.Handler
	aStore, bStore := &countingStore{Store: newStore(record("a_both", goodKey))}, &countingStore{Store: newStore(record("b_both", goodKey), record("b_own", otherKey))}
	decisions := map[string]int{}
	options := func(name string) *auth.Options {
		return &auth.Options{Realm: name, OnDecision: func(*http.Request, auth.Decision) { decisions[name]++ }}
	}
	a, b := auth.New(aStore, options("a")), auth.New(bStore, options("b"))
	again := auth.New(aStore, options("again")) // another Authenticator of the same store
	fake := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r.WithContext(auth.NewContext(r.Context(), auth.Record{ID: "fake", Scopes: auth.Scopes{"*"}})))
		})
	}
	plain := func(h http.Handler) http.Handler {
		type key struct{}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithCancel(context.WithValue(r.Context(), key{}, 1))
			defer cancel()
			h.ServeHTTP(w, r.WithContext(ctx))
		})
	}
	for _, c := range []struct {
		name                         string
		wraps                        []wrapper // outermost first
		key                          string
		status                       int
		id                           string
		aCalls, bCalls, aSaid, bSaid int
	}{
		{"Middleware alone", []wrapper{a.Middleware}, goodKey, 200, "a_both", 1, 0, 1, 0},
		{"Middleware, Require", []wrapper{a.Middleware, auth.Require("a.x")}, goodKey, 200, "a_both", 1, 0, 2, 0},
		{"a.Require alone", []wrapper{a.Require("a.x")}, goodKey, 200, "a_both", 1, 0, 1, 0},
		{"a.Require behind its own", []wrapper{a.Middleware, a.Require("a.x")}, goodKey, 200, "a_both", 1, 0, 2, 0},
		{"with other contexts between", []wrapper{a.Middleware, plain, a.Require("a.x"), plain, auth.Require("a.y")}, goodKey, 200, "a_both", 1, 0, 3, 0},
		{"a.Require twice", []wrapper{a.Require("a.x"), a.RequireAny("a.y")}, goodKey, 200, "a_both", 1, 0, 2, 0},
		{"behind another's Middleware", []wrapper{b.Middleware, a.Require("a.x")}, goodKey, 200, "a_both", 1, 1, 1, 1},
		{"a key of the other store", []wrapper{b.Middleware, a.Require("a.x")}, otherKey, 401, "", 1, 1, 1, 1},
		{"a key of the other store, auth.Require", []wrapper{b.Middleware, auth.Require("a.x")}, otherKey, 200, "b_own", 0, 1, 0, 2},
		{"a route of both", []wrapper{b.Require("b.x"), a.Require("a.x"), auth.Require("a.y")}, goodKey, 200, "a_both", 1, 1, 2, 1},
		{"two Middlewares, the inner counts", []wrapper{b.Middleware, a.Middleware, auth.Require("a.x")}, goodKey, 200, "a_both", 1, 1, 2, 1},
		{"behind one of the same store", []wrapper{again.Middleware, a.Require("a.x")}, goodKey, 200, "a_both", 2, 0, 1, 0},
		{"a test's context, auth.Require", []wrapper{fake, auth.Require("a.x")}, "", 200, "fake", 0, 0, 0, 0},
		{"a test's context, a.Require", []wrapper{fake, a.Require("a.x")}, "", 401, "", 0, 0, 1, 0},
		{"a test's context, a.Middleware", []wrapper{fake, a.Middleware}, "", 401, "", 0, 0, 1, 0},
		{"a test's context inside", []wrapper{a.Middleware, fake, a.Require("a.x")}, goodKey, 200, "a_both", 2, 0, 2, 0},
		{"refused outside, not decided inside", []wrapper{a.Middleware, auth.Require("a.x")}, "isk_x", 401, "", 0, 0, 1, 0},
		{"nobody", []wrapper{auth.Require("a.x")}, goodKey, 500, "", 0, 0, 0, 0},
		{"nobody, any", []wrapper{auth.RequireAny("a.x")}, goodKey, 500, "", 0, 0, 0, 0},
	} {
		previous := slog.Default()
		slog.SetDefault(slog.New(slog.DiscardHandler))
		aStore.calls.Store(0)
		bStore.calls.Store(0)
		clear(decisions)
		id := ""
		var h http.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			record, _ := auth.FromContext(r.Context())
			id = record.ID
		})
		for _, wrap := range slices.Backward(c.wraps) {
			h = wrap(h)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, requestWith(c.key))
		slog.SetDefault(previous)
		if w.Code != c.status || id != c.id {
			t.Errorf("%s: %d for %q, want %d for %q", c.name, w.Code, id, c.status, c.id)
		}
		if x, y := int(aStore.calls.Load()), int(bStore.calls.Load()); x != c.aCalls || y != c.bCalls {
			t.Errorf("%s: %d and %d look-ups, want %d and %d", c.name, x, y, c.aCalls, c.bCalls)
		}
		if x, y := decisions["a"], decisions["b"]; x != c.aSaid || y != c.bSaid {
			t.Errorf("%s: %d and %d decisions, want %d and %d", c.name, x, y, c.aSaid, c.bSaid)
		}
		if www := w.Header().Get("WWW-Authenticate"); c.status == 401 && !strings.Contains(www, `realm="a"`) {
			t.Errorf("%s: %s", c.name, www)
		}
	}
}

// TestNoMiddleware: 500, logged with the call and the route, and the handler is not called.
func TestNoMiddleware(t *testing.T) {
	previous := slog.Default()
	defer slog.SetDefault(previous)
	for name, wrap := range map[string]func(http.Handler) http.Handler{"auth.Require": auth.Require("a.x"), "auth.RequireAny": auth.RequireAny("a.x")} {
		var out bytes.Buffer
		slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
		mux := http.NewServeMux()
		mux.Handle("GET /things/{id}", wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })))
		r := requestWith(goodKey)
		r.URL.Path = "/things/7"
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		want := `{"type":"https://docs.insigner.com/errors/internal-error","title":"Internal Server Error","status":500,` +
			`"detail":"The server could not answer the request","code":"INTERNAL_ERROR"}` + "\n"
		if w.Code != 500 || w.Body.String() != want || w.Header().Get("WWW-Authenticate") != "" {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if s := out.String(); !strings.Contains(s, "level=ERROR") || !strings.Contains(s, name+": no Authenticator.Middleware") ||
			!strings.Contains(s, "/things/{id}") || leaks(s, goodKey) {
			t.Errorf("%s: logged %s", name, s)
		}
	}
}

// TestDecisions: what the hook is told, once for each decision, and before anything is answered.
func TestDecisions(t *testing.T) {
	past := time.Now().Add(-time.Hour)
	revoked, expired := goodRecord(), goodRecord()
	revoked.RevokedAt, expired.ExpiresAt = past, past
	for _, c := range []struct {
		name     string
		store    auth.Store
		key      string
		err      error
		known    bool
		lookedUp bool
	}{
		{"ok", newStore(scopedRecord("a.*")), goodKey, nil, true, true},
		{"ok of a plain Store", storeFunc(newStore(scopedRecord("a.*")).Lookup), goodKey, nil, true, true},
		{"scope", newStore(scopedRecord("b.x")), goodKey, auth.ErrInsufficientScope, true, true},
		{"revoked", newStore(revoked), goodKey, auth.ErrKeyRevoked, true, true},
		{"expired", newStore(expired), goodKey, auth.ErrKeyExpired, true, true},
		{"unknown", newStore(), goodKey, auth.ErrInvalidKey, false, true},
		{"failing", failingStore(context.DeadlineExceeded), goodKey, auth.ErrStoreUnavailable, false, true},
		{"malformed", newStore(), "isk_x", auth.ErrInvalidKey, false, false},
		{"format", newStore(), "x", auth.ErrInvalidFormat, false, false},
		{"missing", newStore(), "", auth.ErrMissingKey, false, false},
	} {
		var got []auth.Decision
		w := httptest.NewRecorder()
		a := auth.New(c.store, &auth.Options{Logger: slog.New(slog.DiscardHandler), OnDecision: func(r *http.Request, d auth.Decision) {
			if w.Body.Len() > 0 || r.URL.Path != "/" {
				t.Errorf("%s: told after the answer, or of another request", c.name)
			}
			got = append(got, d)
		}})
		before := time.Now()
		a.Require("a.x", "a.y")(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello")) })).ServeHTTP(w, requestWith(c.key))
		if len(got) != 1 {
			t.Errorf("%s: %d decisions", c.name, len(got))
			continue
		}
		d := got[0]
		r, known := d.Record()
		if !errors.Is(d.Err, c.err) || (d.Err == nil) != (c.err == nil) || known != c.known || (d.KeyID() == "key_good") != c.known || (r.ID == "key_good") != c.known {
			t.Errorf("%s: %v, record %v %v", c.name, d.Err, r, known)
		}
		if (d.Lookup > 0) != c.lookedUp || d.Time.Before(before) || d.Time.After(time.Now()) || !reflect.DeepEqual(d.Required(), auth.Scopes{"a.x", "a.y"}) {
			t.Errorf("%s: looked up in %v, at %v, for %v", c.name, d.Lookup, d.Time, d.Required())
		}
		var out bytes.Buffer
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "d", d)
		wantLog := "d.outcome=" + orElse(auth.ProblemFor(c.err).Code, "OK")
		if c.err == nil {
			wantLog = "d.outcome=OK"
		}
		if c.known {
			wantLog += fmt.Sprintf(" d.lookup=%v d.required=\"a.x a.y\" d.key.id=key_good ", d.Lookup)
		}
		if !strings.Contains(out.String(), wantLog) || strings.Contains(out.String(), "d.key.id") != c.known {
			t.Errorf("%s: logged %s, want %s", c.name, out.String(), wantLog)
		}
	}

	// Middleware and Require: who it is, then whether it may.
	var got []auth.Decision
	a := auth.New(newStore(scopedRecord("b.x")), &auth.Options{OnDecision: func(_ *http.Request, d auth.Decision) { got = append(got, d) }})
	a.Middleware(auth.Require("a.x")(http.NotFoundHandler())).ServeHTTP(httptest.NewRecorder(), requestWith(goodKey))
	if len(got) != 2 || got[0].Err != nil || got[0].Required() != nil || got[0].Lookup == 0 ||
		!errors.Is(got[1].Err, auth.ErrInsufficientScope) || got[1].Lookup != 0 || got[1].KeyID() != "key_good" || got[1].Time.IsZero() {
		t.Errorf("%+v", got)
	}
	if _, err := a.Authenticate(requestWith(goodKey)); err != nil || len(got) != 3 {
		t.Errorf("Authenticate: %v, and %d decisions", err, len(got))
	}
	// Both are told before the handler runs.
	var order []string
	told := auth.New(newStore(scopedRecord("a.x")), &auth.Options{OnDecision: func(*http.Request, auth.Decision) { order = append(order, "told") }})
	told.Middleware(auth.Require("a.x")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { order = append(order, "called") }))).
		ServeHTTP(httptest.NewRecorder(), requestWith(goodKey))
	told.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { order = append(order, "called") })).
		ServeHTTP(httptest.NewRecorder(), requestWith(goodKey))
	if want := []string{"told", "told", "called", "told", "called"}; !reflect.DeepEqual(order, want) {
		t.Errorf("%v, want %v", order, want)
	}
	if r, known := (auth.Decision{}).Record(); known || r.ID != "" || (auth.Decision{}).KeyID() != "" || (auth.Decision{}).Required() != nil {
		t.Error("the zero Decision knows something")
	}
}

// TestCopiesDoNotWiden: whatever the caller does with what it got, the next request is judged by what is stored.
func TestCopiesDoNotWiden(t *testing.T) {
	spoil := func(r auth.Record) {
		if len(r.Scopes) != 1 || r.Metadata["env"] != "prod" {
			t.Errorf("the record came changed: %v %v", r.Scopes, r.Metadata)
		}
		for i := range r.Scopes {
			r.Scopes[i] = "*"
		}
		_ = append(r.Scopes[:0], "*", "*")
		r.Metadata["env"] = "spoilt"
		delete(r.Metadata, "env")
	}
	record := scopedRecord("a.x")
	memory := newStore(record)
	spoil(record) // what went in
	held := scopedRecord("a.x")
	for name, store := range map[string]auth.Store{"MemoryStore": memory, "plain": storeFunc(memory.Lookup),
		"a store that shares": storeFunc(func(context.Context, auth.Hash) (auth.Record, error) { return held, nil })} {
		required := auth.Scopes{}
		a := auth.New(store, &auth.Options{OnDecision: func(_ *http.Request, d auth.Decision) {
			if r, ok := d.Record(); ok {
				spoil(r)
			}
			required = d.Required()
			for i := range required {
				required[i] = "a.x"
			}
		}})
		closed := auth.Require("b.x")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Errorf("%s: a key was widened", name) }))
		for range 3 {
			r, err := a.Authenticate(requestWith(goodKey))
			if err != nil {
				t.Fatal(err)
			}
			spoil(r)
			a.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				one, _ := auth.FromContext(r.Context())
				spoil(one)
				two, _ := auth.FromContext(r.Context())
				spoil(two)
				closed.ServeHTTP(httptest.NewRecorder(), r)
			})).ServeHTTP(httptest.NewRecorder(), requestWith(goodKey))
		}
	}
	r, _ := memory.Lookup(context.Background(), goodHash)
	spoil(r)
	snapshot, _ := memory.LookupSnapshot(context.Background(), goodHash)
	spoil(snapshot.Record())
	spoil(snapshot.Record())
	r, _ = memory.Get(context.Background(), "key_good")
	spoil(r)
	page, _ := memory.List(context.Background(), "", auth.Position{}, 10)
	spoil(page[0])
	given := scopedRecord("a.x")
	snapshot = auth.NewSnapshot(given)
	ctx := auth.NewContext(context.Background(), given)
	spoil(given)
	spoil(snapshot.Record())
	r, _ = auth.FromContext(ctx)
	spoil(r)
	r, _ = auth.FromContext(ctx)
	spoil(r)
	r, _ = memory.Get(context.Background(), "key_good")
	spoil(r)
}

// TestHostPanics: a panic of the hook or of the ErrorHandler reaches the host, and no handler.
func TestHostPanics(t *testing.T) {
	never := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })
	panics := func(what string) func(http.ResponseWriter, *http.Request, error) {
		return func(http.ResponseWriter, *http.Request, error) { panic(what) }
	}
	hook := func(*http.Request, auth.Decision) { panic("hook") }
	later := func(_ *http.Request, d auth.Decision) {
		if d.Required() != nil {
			panic("hook")
		}
	}
	for _, c := range []struct {
		name string
		opts auth.Options
		key  string
		want string
	}{
		{"hook, accepted", auth.Options{OnDecision: hook}, goodKey, "hook"},
		{"hook, refused", auth.Options{OnDecision: hook}, "x", "hook"},
		{"hook of the Require", auth.Options{OnDecision: later}, goodKey, "hook"},
		{"ErrorHandler, 401", auth.Options{ErrorHandler: panics("handler")}, "x", "handler"},
		{"ErrorHandler, 403", auth.Options{ErrorHandler: panics("handler")}, goodKey, "handler"},
		{"ErrorHandler that does nothing, 401", auth.Options{ErrorHandler: func(http.ResponseWriter, *http.Request, error) {}}, "x", ""},
		{"ErrorHandler that does nothing, 403", auth.Options{ErrorHandler: func(http.ResponseWriter, *http.Request, error) {}}, goodKey, ""},
	} {
		a := auth.New(newStore(scopedRecord("b.x")), &c.opts)
		for name, h := range map[string]http.Handler{"Require": a.Require("a.x")(never), "behind Middleware": a.Middleware(a.Require("a.x")(never)),
			"auth.Require": a.Middleware(auth.RequireAny("a.x")(never))} {
			if got := panicOf(func() { h.ServeHTTP(httptest.NewRecorder(), requestWith(c.key)) }); got != c.want {
				t.Errorf("%s, %s: panic %q, want %q", c.name, name, got, c.want)
			}
		}
	}
}

func TestContext(t *testing.T) {
	type key struct{}
	outer, cancel := context.WithTimeout(context.WithValue(context.Background(), key{}, "outer"), time.Hour)
	a := auth.New(newStore(goodRecord()), nil)
	called := false
	a.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		called = true
		ctx := r.Context()
		if ctx.Value(key{}) != "outer" || ctx.Value("other") != nil || ctx.Err() != nil {
			t.Error("the values of the outer context are gone")
		}
		want, _ := outer.Deadline()
		if got, ok := ctx.Deadline(); !ok || got != want {
			t.Error("the deadline of the outer context is gone")
		}
		cancel()
		<-ctx.Done()
		if ctx.Err() != context.Canceled {
			t.Error(ctx.Err())
		}
		got, ok := auth.FromContext(context.WithValue(ctx, key{}, "inner"))
		if !ok || !reflect.DeepEqual(got, goodRecord()) {
			t.Errorf("%v, %v", got, ok)
		}
		text := fmt.Sprintf("%v %+v %#v %s %v", ctx, ctx, ctx, ctx, context.WithValue(ctx, key{}, 1))
		if !strings.Contains(text, "key_good") || strings.Contains(text, "Production Backend") || strings.Contains(text, goodHash.String()[:8]) {
			t.Errorf("a context prints as %.500s", text)
		}
	})).ServeHTTP(nil, requestWith(goodKey).WithContext(outer))
	if !called {
		t.Error("the handler was not called")
	}
	if r, ok := auth.FromContext(context.Background()); ok || r.ID != "" {
		t.Errorf("%v from an empty context", r)
	}
	if r, ok := auth.FromContext(auth.NewContext(context.Background(), goodRecord())); !ok || !reflect.DeepEqual(r, goodRecord()) {
		t.Errorf("%v, %v", r, ok)
	}
}

// A nullWriter is a ResponseWriter that allocates nothing.
type nullWriter struct{ header http.Header }

func (w nullWriter) Header() http.Header         { return w.header }
func (w nullWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w nullWriter) WriteHeader(int)             {}

// TestAllocations: at most 2 for an accepted request, Middleware and Require together, and 8 for a refused one.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	past := time.Now().Add(-time.Hour)
	stores := func(r auth.Record) map[string]auth.Store {
		byHash := map[auth.Hash]auth.Record{r.Hash: r}
		return map[string]auth.Store{"MemoryStore": newStore(r), "map": storeFunc(func(_ context.Context, h auth.Hash) (auth.Record, error) {
			if r, ok := byHash[h]; ok {
				return r, nil
			}
			return auth.Record{}, auth.ErrNotFound
		})}
	}
	revoked, expired := goodRecord(), goodRecord()
	revoked.RevokedAt, expired.ExpiresAt = past, past
	down := fmt.Errorf("look up: %w", errors.New("failed to connect to `user=api database=keys`: "+
		"127.0.0.1:5432 (127.0.0.1): dial error: dial tcp 127.0.0.1:5432: connect: connection refused"))
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	for _, c := range []struct {
		name   string
		stores map[string]auth.Store
		value  string
		most   float64
	}{
		{"accepted", stores(scopedRecord("a.*")), "Bearer " + goodKey, 2},
		{"missing", stores(goodRecord()), "", 8},
		{"format", stores(goodRecord()), "Bearer x", 8},
		{"malformed", stores(goodRecord()), "Bearer isk_x", 8},
		{"unknown", stores(goodRecord()), "Bearer isk_" + strings.Repeat("A", 44), 8},
		{"revoked", stores(revoked), "Bearer " + goodKey, 8},
		{"expired", stores(expired), "Bearer " + goodKey, 8},
		{"scope", stores(scopedRecord("b.x")), "Bearer " + goodKey, 8},
		{"outage", map[string]auth.Store{"failing": failingStore(down), "cancelled": failingStore(context.Canceled)}, "Bearer " + goodKey, 8},
	} {
		for storeName, store := range c.stores {
			for hasherName, hasher := range map[string]auth.Hasher{"BLAKE2b": auth.BLAKE2b(nil), "SHA256": auth.SHA256} {
				store := store
				if hasherName == "SHA256" && c.most == 2 {
					r := scopedRecord("a.*")
					r.Hash = auth.SHA256(goodKey)
					store = stores(r)[storeName]
				}
				a := auth.New(store, &auth.Options{Hashers: []auth.Hasher{hasher}, Logger: logger})
				opened := 0
				h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { opened++ })
				r := httptest.NewRequest("GET", "/", nil)
				r.Header.Set("Authorization", c.value)
				w := nullWriter{http.Header{}}
				for name, h := range map[string]http.Handler{"Middleware and Require": a.Middleware(auth.Require("a.x")(h)), "Require": a.Require("a.x")(h)} {
					opened = 0
					if got := testing.AllocsPerRun(200, func() { h.ServeHTTP(w, r) }); got > c.most || (opened > 0) != (c.most == 2) {
						t.Errorf("%s, %s, %s, %s: %v allocations, want at most %v", c.name, name, storeName, hasherName, got, c.most)
					}
				}
			}
		}
	}
	for name, hasher := range map[string]auth.Hasher{"keyed BLAKE2b": auth.BLAKE2b([]byte("pepper")), "HMACSHA256": auth.HMACSHA256([]byte("pepper"))} {
		if got := testing.AllocsPerRun(200, func() { hasher(goodKey) }); got > 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}

// TestUploadsAreRemoved: the server removes what a handler behind had it write to the disk.
func TestUploadsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(name, dir)
	}
	a := auth.New(newStore(scopedRecord("a.x")), nil)
	upload := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(1); err != nil {
			t.Error(err)
		}
		if files, _ := os.ReadDir(dir); len(files) != 1 {
			t.Errorf("%d files while the handler runs", len(files))
		}
	})
	for name, h := range map[string]http.Handler{
		"Middleware and Require": a.Middleware(auth.Require("a.x")(upload)),
		"Require":                a.Require("a.x")(upload),
		"a panic": recovering(a.Require("a.x")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			upload(w, r)
			panic("of the handler")
		}))),
	} {
		server := httptest.NewServer(h)
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		file, _ := form.CreateFormFile("file", "lease.pdf")
		file.Write(make([]byte, 11<<20)) // 10 MiB stay in memory
		form.Close()
		r, _ := http.NewRequest("POST", server.URL, &body)
		r.Header.Set("Content-Type", form.FormDataContentType())
		r.Header.Set("Authorization", "Bearer "+goodKey)
		response, err := server.Client().Do(r)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatal(name, response, err)
		}
		response.Body.Close()
		server.Close() // waits for the end of the request
		if files, _ := os.ReadDir(dir); len(files) != 0 {
			t.Errorf("%s: %d files are left", name, len(files))
		}
	}
}

func recovering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { recover() }()
		next.ServeHTTP(w, r)
	})
}

// TestSharedRequest is for the race detector: one request may be given to several handlers at once, each with a mux inside.
func TestSharedRequest(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("GET /documents/{id}", auth.Require("a.x")(http.NotFoundHandler()))
	h := auth.New(newStore(scopedRecord("a.x")), nil).Middleware(mux)
	r := requestWith(goodKey)
	r.URL.Path = "/documents/7"
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, r); w.Code != http.StatusNotFound {
				t.Errorf("status %d", w.Code)
			}
		})
	}
	group.Wait()
	if _, ok := auth.FromContext(r.Context()); ok {
		t.Error("the key is in the context outside")
	}
}
