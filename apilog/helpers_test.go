package apilog_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
)

// ctx is for what no test cancels.
var ctx = context.Background()

var quiet = slog.New(slog.DiscardHandler)

// unlimited are options under which every request is kept.
func unlimited() *apilog.Options {
	return &apilog.Options{KeylessPerSecond: 1 << 30, QueueSize: 1 << 20, Logger: quiet}
}

// A keyStore is an auth.Store of records, and the keys of them.
type keyStore struct {
	mu      sync.Mutex
	records map[auth.Hash]auth.Record
}

// add stores a record and returns its key. What is empty in r gets a value.
func (s *keyStore) add(r auth.Record) (key string) {
	k := auth.Scheme{}.NewKey()
	r.Hash = auth.Scheme{}.Hashes(k)[0]
	if r.Scopes == nil {
		r.Scopes = auth.Scopes{"*"}
	}
	s.put(r)
	return k.Reveal()
}

func (s *keyStore) put(r auth.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.records == nil {
		s.records = make(map[auth.Hash]auth.Record)
	}
	s.records[r.Hash] = r
}

// revoke revokes the key with that ID.
func (s *keyStore) revoke(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for hash, r := range s.records {
		if r.ID == id {
			r.RevokedAt = time.Now()
			s.records[hash] = r
		}
	}
}

func (s *keyStore) Lookup(_ context.Context, hash auth.Hash) (*auth.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.records[hash]; ok {
		return &r, nil
	}
	return nil, auth.ErrNotFound
}

// A guarded handler is an API with keys behind a Recorder.
type guarded struct {
	http.Handler
	recorder *apilog.Recorder
	keys     *keyStore
	auth     *auth.Authenticator
}

// guard returns h, which needs a key, recorded to store.
func guard(store apilog.Store, opts *apilog.Options, h http.Handler) *guarded {
	g := &guarded{recorder: apilog.NewRecorder(store, opts), keys: new(keyStore)}
	g.auth = auth.New(g.keys, &auth.Options{OnDecision: g.recorder.OnDecision, Logger: quiet})
	g.Handler = g.recorder.Middleware(g.auth.Middleware(h))
	return g
}

// send serves a request with that key, or none.
func (g *guarded) send(key string) int { return serve(g, requestWith(key)).Code }

func requestWith(key string) *http.Request {
	r := httptest.NewRequest("GET", "/documents", nil)
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	return r
}

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// answer returns a handler that answers with a status.
func answer(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// recorded returns the entries of what use sends to h, oldest first. If opts is
// nil, every request is kept.
func recorded(t testing.TB, opts *apilog.Options, h http.Handler, use func(h http.Handler)) []apilog.Entry {
	t.Helper()
	if opts == nil {
		opts = unlimited()
	}
	store := apilog.NewMemoryStore(1 << 20)
	recorder := apilog.NewRecorder(store, opts)
	var serving sync.WaitGroup // a client may have its answer before the handler ends
	outer := recorder.Middleware(h)
	use(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serving.Add(1)
		defer serving.Done()
		outer.ServeHTTP(w, r)
	}))
	serving.Wait()
	return closed(t, recorder, store)
}

// closed closes the Recorder and returns all entries, oldest first.
func closed(t testing.TB, recorder *apilog.Recorder, store apilog.Store) []apilog.Entry {
	t.Helper()
	if err := recorder.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
	return entriesOf(t, store)
}

func entriesOf(t testing.TB, store apilog.Store) []apilog.Entry {
	t.Helper()
	list, err := store.List(ctx, apilog.Query{Limit: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(list)
	return list
}

// only returns the only entry.
func only(t testing.TB, entries []apilog.Entry) apilog.Entry {
	t.Helper()
	if len(entries) != 1 {
		t.Fatalf("%d entries, want 1: %+v", len(entries), entries)
	}
	return entries[0]
}

// entry returns the entry of a request that h serves without a network.
func entry(t testing.TB, opts *apilog.Options, r *http.Request, h http.Handler) apilog.Entry {
	t.Helper()
	return only(t, recorded(t, opts, h, func(h http.Handler) { serve(h, r) }))
}

// newServer starts a server that speaks HTTP/1.1, or HTTP/2 over TLS.
func newServer(t testing.TB, http2 bool, h http.Handler) *httptest.Server {
	return newLoggingServer(t, http2, h, io.Discard)
}

func newLoggingServer(t testing.TB, http2 bool, h http.Handler, text io.Writer) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(text, "", 0)
	if http2 {
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// overHTTP runs a test with a real server of each protocol.
func overHTTP(t *testing.T, test func(t *testing.T, http2 bool)) {
	for _, http2 := range []bool{false, true} {
		t.Run(map[bool]string{false: "HTTP1", true: "HTTP2"}[http2], func(t *testing.T) { test(t, http2) })
	}
}

// A testStore is a MemoryStore whose Append does first what a test wants.
type testStore struct {
	*apilog.MemoryStore
	appending atomic.Pointer[func(ctx context.Context, entries []apilog.Entry) error]
	deleting  atomic.Pointer[func(ctx context.Context, before time.Time) error]
	appended  atomic.Int64 // calls
}

func newTestStore() *testStore {
	return &testStore{MemoryStore: apilog.NewMemoryStore(1 << 20)}
}

// onAppend makes f what Append does first. If f is nil, it does nothing.
func (s *testStore) onAppend(f func(ctx context.Context, entries []apilog.Entry) error) {
	if f == nil {
		s.appending.Store(nil)
		return
	}
	s.appending.Store(&f)
}

func (s *testStore) Append(ctx context.Context, entries []apilog.Entry) error {
	s.appended.Add(1)
	if f := s.appending.Load(); f != nil {
		if err := (*f)(ctx, entries); err != nil {
			return err
		}
	}
	return s.MemoryStore.Append(ctx, entries)
}

func (s *testStore) DeleteBefore(ctx context.Context, before time.Time) (int64, error) {
	if f := s.deleting.Load(); f != nil {
		if err := (*f)(ctx, before); err != nil {
			return 0, err
		}
	}
	return s.MemoryStore.DeleteBefore(ctx, before)
}

// A logBuffer is what a logger has written. It is safe for concurrent use.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func captureLog() (*slog.Logger, *logBuffer) {
	b := new(logBuffer)
	return slog.New(slog.NewTextHandler(b, nil)), b
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// panicOf returns what f panics with, or nil.
func panicOf(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}

// wantPanic fails unless f panics with that text.
func wantPanic(t *testing.T, want string, f func()) {
	t.Helper()
	if got := fmt.Sprint(panicOf(f)); got != want {
		t.Errorf("panic %q, want %q", got, want)
	}
}

// eventually waits for a condition. It gives up after a minute.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// heap returns the bytes that are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
