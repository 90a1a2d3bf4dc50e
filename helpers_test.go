package auth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
)

// goodKey is the key that the inSigner API documentation shows.
const goodKey = "isk_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v2"

const keyChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

var goodHash = auth.BLAKE2b(nil)(goodKey)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// goodRecord returns the record of goodKey, with the scope "*".
func goodRecord() auth.Record { return scopedRecord("*") }

// scopedRecord returns the record of goodKey, with these scopes.
func scopedRecord(scopes ...auth.Scope) auth.Record {
	return auth.Record{
		ID:        "key_good",
		Hint:      "isk_…U1v2",
		Name:      "Production Backend",
		Owner:     "org_1",
		Hash:      goodHash,
		Scopes:    scopes,
		Metadata:  map[string]string{"env": "prod"},
		CreatedAt: epoch,
		CreatedBy: "staff:ada",
		UpdatedAt: epoch,
		UpdatedBy: "staff:ada",
		Revision:  1,
		Chain:     "key_good",
	}
}

// mustKey returns the Key of the zero Scheme with that text.
func mustKey(text string) auth.Key {
	k, err := auth.Scheme{}.ParseKey(text)
	if err != nil {
		panic(err)
	}
	return k
}

// A mapStore is a Store of records in memory. Its zero value is empty.
type mapStore struct {
	mu      sync.RWMutex
	records map[auth.Hash]*auth.Record
}

func newStore(records ...auth.Record) *mapStore {
	s := new(mapStore)
	for _, r := range records {
		s.put(r)
	}
	return s
}

// put stores a copy of r in place of the record with its hash, if any.
func (s *mapStore) put(r auth.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.records == nil {
		s.records = make(map[auth.Hash]*auth.Record)
	}
	s.records[r.Hash] = r.Clone()
}

// remove deletes the record with that hash.
func (s *mapStore) remove(hash auth.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, hash)
}

func (s *mapStore) Lookup(_ context.Context, hash auth.Hash) (*auth.Record, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if r := s.records[hash]; r != nil {
		return r, nil
	}
	return nil, auth.ErrNotFound
}

// A countingStore counts the lookups of another Store.
type countingStore struct {
	auth.Store
	calls atomic.Int64
}

func (s *countingStore) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	s.calls.Add(1)
	return s.Store.Lookup(ctx, hash)
}

// A storeFunc is a Store that is its own Lookup.
type storeFunc func(ctx context.Context, hash auth.Hash) (*auth.Record, error)

func (f storeFunc) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	return f(ctx, hash)
}

// failingStore returns a Store whose lookups all fail with err. They return a
// record too, which would be accepted without the error.
func failingStore(err error) auth.Store {
	record := goodRecord()
	return storeFunc(func(context.Context, auth.Hash) (*auth.Record, error) { return &record, err })
}

// requestWith returns a request that carries key.
func requestWith(key string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+key)
	return r
}

// A nullWriter is a ResponseWriter that allocates nothing.
type nullWriter struct{ header http.Header }

func (w nullWriter) Header() http.Header         { return w.header }
func (w nullWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w nullWriter) WriteHeader(int)             {}

// quiet returns a logger that drops everything.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// A logBuffer is what captureLog's logger has written. It is safe for
// concurrent use.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// captureLog returns a logger of all levels that writes JSON, and its output.
func captureLog() (*slog.Logger, *logBuffer) {
	b := new(logBuffer)
	return slog.New(slog.NewJSONHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug})), b
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

// lines returns the log lines so far, such as {"level": "ERROR", "msg": "…"}.
func (b *logBuffer) lines(t *testing.T) []map[string]any {
	t.Helper()
	var list []map[string]any
	for text := range strings.Lines(b.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("log line %q: %v", text, err)
		}
		list = append(list, line)
	}
	return list
}

// defaultLog makes slog.Default the logger of captureLog until the test ends.
func defaultLog(t *testing.T) *logBuffer {
	t.Helper()
	logger, b := captureLog()
	previous, writer, flags := slog.Default(), log.Writer(), log.Flags()
	slog.SetDefault(logger) // redirects package log too
	t.Cleanup(func() {
		slog.SetDefault(previous)
		log.SetOutput(writer)
		log.SetFlags(flags)
	})
	return b
}

// panicOf returns what f panics with, or "" if it does not panic.
func panicOf(f func()) (message string) {
	defer func() {
		if v := recover(); v != nil {
			message = fmt.Sprint(v)
		}
	}()
	f()
	return ""
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func first[A, B any](a A, _ B) A { return a }

func second[A, B any](_ A, b B) B { return b }

// leaks reports whether text holds eight characters in a row of the secret part
// of key.
func leaks(text, key string) bool {
	for i := len(auth.DefaultPrefix); i+8 <= len(key); i++ {
		if strings.Contains(text, key[i:i+8]) {
			return true
		}
	}
	return false
}

// leaksAnyhow is leaks, also for the spellings of bytes that fmt and encoders
// have.
func leaksAnyhow(text, key string) bool {
	for i := len(auth.DefaultPrefix); i+8 <= len(key); i++ {
		run := key[i : i+8]
		if slices.ContainsFunc([]string{
			run,
			fmt.Sprintf("%x", run), fmt.Sprintf("%X", run), fmt.Sprintf("% x", run), fmt.Sprintf("% X", run),
			strings.Trim(fmt.Sprint([]byte(run)), "[]"),
			strings.Trim(fmt.Sprintf("%#v", []byte(run)), "[]byte{}"),
		}, func(spelling string) bool { return strings.Contains(text, spelling) }) {
			return true
		}
	}
	return false
}

// leaksHash reports whether text holds eight bytes in a row of hash, in a
// spelling that fmt and encoders have.
func leaksHash(text string, hash auth.Hash) bool {
	for i := range len(hash) - 7 {
		run := hash[i : i+8]
		if slices.ContainsFunc([]string{
			string(run),
			fmt.Sprintf("%x", run), fmt.Sprintf("%X", run), fmt.Sprintf("% x", run), fmt.Sprintf("% X", run),
			fmt.Sprintf("%x", fmt.Sprintf("%x", run)),
			strings.Trim(fmt.Sprint(run), "[]"),
			strings.Trim(fmt.Sprintf("%#v", run), "[]byte{}"),
		}, func(spelling string) bool { return strings.Contains(text, spelling) }) {
			return true
		}
	}
	return false
}

// raceEnabled reports whether the race detector is on. It makes sync.Pool drop
// values at random, so that allocations cannot be counted.
var raceEnabled = func() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}()

// serve returns the answer of h to r.
func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// closed returns a handler that fails the test if it is called.
func closed(t *testing.T) http.Handler {
	return http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Helper()
		t.Error("the wrapped handler was called")
	})
}

// problemIn returns the problem that w holds.
func problemIn(t *testing.T, w *httptest.ResponseRecorder) auth.Problem {
	t.Helper()
	var p auth.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("the answer %q is not a problem: %v", w.Body, err)
	}
	return p
}

// A wrapper is what Middleware, Optional and Require are.
type wrapper = func(http.Handler) http.Handler

// keyOf returns a well-formed key of 44 times c.
func keyOf(c string) string { return auth.DefaultPrefix + strings.Repeat(c, 44) }

// recordOf returns a record with that ID, for that key and these scopes.
func recordOf(id, key string, scopes ...auth.Scope) auth.Record {
	r := scopedRecord(scopes...)
	r.ID, r.Hash = id, auth.BLAKE2b(nil)(key)
	return r
}

// vouchable returns a record without a hash, as a host makes it for a session.
func vouchable(id string, scopes ...auth.Scope) auth.Record {
	return auth.Record{ID: id, Scopes: scopes}
}

// scopesOf returns the scopes in text, which spaces separate.
func scopesOf(text string) auth.Scopes {
	var scopes auth.Scopes
	for s := range strings.FieldsSeq(text) {
		scopes = append(scopes, auth.Scope(s))
	}
	return scopes
}

// badStates are the states in which Record.Check refuses a record.
var badStates = []struct {
	code string
	err  error
	set  func(r *auth.Record)
}{
	{"KEY_REVOKED", auth.ErrKeyRevoked, func(r *auth.Record) { r.RevokedAt = epoch }},
	{"KEY_DISABLED", auth.ErrKeyDisabled, func(r *auth.Record) { r.DisabledAt = epoch }},
	{"KEY_EXPIRED", auth.ErrKeyExpired, func(r *auth.Record) { r.ExpiresAt = time.Unix(1, 0) }},
}

// A hookLog holds what OnDecision was told.
type hookLog struct {
	mu   sync.Mutex
	list []auth.Decision
}

func (l *hookLog) add(_ context.Context, d auth.Decision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, d)
}

// rechecks returns the decisions of Recheck and WithRecheck.
func (l *hookLog) rechecks() []auth.Decision {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.list), func(d auth.Decision) bool { return d.Step != auth.StepRecheck })
}

// nest wraps h, with the first of wraps outermost.
func nest(h http.Handler, wraps ...wrapper) http.Handler {
	for _, wrap := range slices.Backward(wraps) {
		h = wrap(h)
	}
	return h
}
