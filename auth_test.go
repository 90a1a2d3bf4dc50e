package auth_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
)

// goodKey is the key that the inSigner API documentation shows.
const goodKey = "isk_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v2"

var goodHash = auth.BLAKE2b(nil)(goodKey)

func goodRecord() auth.Record { return scopedRecord("*") }

// scopedRecord is the record of goodKey, with these scopes.
func scopedRecord(scopes ...auth.Scope) auth.Record {
	return auth.Record{ID: "key_good", Hash: goodHash, Hint: "isk_…U1v2", Name: "Production Backend", Owner: "org_1",
		Scopes: scopes, CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Metadata: map[string]string{"env": "prod"}}
}

func newStore(records ...auth.Record) *auth.MemoryStore {
	m := new(auth.MemoryStore)
	for _, r := range records {
		if err := m.Insert(context.Background(), r); err != nil {
			panic(err)
		}
	}
	return m
}

// A countingStore counts look-ups. It hides whatever else its Store can do.
type countingStore struct {
	auth.Store
	calls atomic.Int64
}

func (s *countingStore) Lookup(ctx context.Context, h auth.Hash) (auth.Record, error) {
	s.calls.Add(1)
	return s.Store.Lookup(ctx, h)
}

// A storeFunc is a Store that answers what it is told to.
type storeFunc func(ctx context.Context, h auth.Hash) (auth.Record, error)

func (f storeFunc) Lookup(ctx context.Context, h auth.Hash) (auth.Record, error) { return f(ctx, h) }

// panicOf returns what f panics with, or "" if it does not.
func panicOf(f func()) (message string) {
	defer func() {
		if v := recover(); v != nil {
			message = fmt.Sprint(v)
		}
	}()
	f()
	return ""
}

// failingStore is a Store that answers every look-up with err, beside a record that would open the route.
func failingStore(err error) auth.Store {
	return storeFunc(func(context.Context, auth.Hash) (auth.Record, error) { return goodRecord(), err })
}

// requestWith is a request that presents key.
func requestWith(key string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+key)
	return r
}

func itoa(n int) string { return strconv.Itoa(n) }

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// leaks reports whether text holds eight characters in a row of the secret part of key.
func leaks(text, key string) bool {
	for i := len(auth.Prefix); i+8 <= len(key); i++ {
		if strings.Contains(text, key[i:i+8]) {
			return true
		}
	}
	return false
}

// TestDecisionOrder: what is wrong first decides, whatever else is wrong behind it.
func TestDecisionOrder(t *testing.T) {
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	other := "isk_" + strings.Repeat("A", 44)
	for _, c := range []struct {
		name             string
		header           string
		revoked, expires time.Time
		scope            auth.Scope
		want, wantWho    error // of Require, and of Authenticate, which looks at no scope
		calls            int64
	}{
		{"all wrong", "", past, past, "x.y", auth.ErrMissingKey, auth.ErrMissingKey, 0},
		{"all but the scheme wrong", "Bearer x", past, past, "x.y", auth.ErrInvalidFormat, auth.ErrInvalidFormat, 0},
		{"all behind the prefix wrong", "Bearer isk_", past, past, "x.y", auth.ErrInvalidKey, auth.ErrInvalidKey, 0},
		{"another key, and all wrong", "Bearer " + other, past, past, "x.y", auth.ErrInvalidKey, auth.ErrInvalidKey, 1},
		{"revoked, expired, no scope", "Bearer " + goodKey, past, past, "x.y", auth.ErrKeyRevoked, auth.ErrKeyRevoked, 1},
		{"revoked, no scope", "Bearer " + goodKey, past, future, "x.y", auth.ErrKeyRevoked, auth.ErrKeyRevoked, 1},
		{"revoked", "Bearer " + goodKey, past, time.Time{}, "a.b", auth.ErrKeyRevoked, auth.ErrKeyRevoked, 1},
		{"revoked from tomorrow", "Bearer " + goodKey, future, time.Time{}, "a.b", auth.ErrKeyRevoked, auth.ErrKeyRevoked, 1},
		{"expired, no scope", "Bearer " + goodKey, time.Time{}, past, "x.y", auth.ErrKeyExpired, auth.ErrKeyExpired, 1},
		{"expired", "Bearer " + goodKey, time.Time{}, past, "a.b", auth.ErrKeyExpired, auth.ErrKeyExpired, 1},
		{"no scope", "Bearer " + goodKey, time.Time{}, future, "x.y", auth.ErrInsufficientScope, nil, 1},
		{"all right", "Bearer " + goodKey, time.Time{}, future, "a.b", nil, nil, 1},
		{"all right, forever", "Bearer " + goodKey, time.Time{}, time.Time{}, "a.b", nil, nil, 1},
	} {
		record := scopedRecord("a.b")
		record.RevokedAt, record.ExpiresAt = c.revoked, c.expires
		memory := newStore(record)
		for _, store := range []auth.Store{memory, storeFunc(memory.Lookup)} { // as a SnapshotStore and as a plain one
			counter := &countingStore{Store: store}
			var got error
			opened := 0
			a := auth.New(counter, &auth.Options{ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) { got = err }})
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Authorization", c.header)
			a.Require(c.scope)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { opened++ })).ServeHTTP(nil, r)
			if !errors.Is(got, c.want) || (opened == 1) != (c.want == nil) || counter.calls.Load() != c.calls {
				t.Errorf("%s: %v after %d calls, opened %d times; want %v", c.name, got, counter.calls.Load(), opened, c.want)
			}
			who, err := auth.New(store, nil).Authenticate(r)
			if !errors.Is(err, c.wantWho) || (who.ID == record.ID) != (c.wantWho == nil) {
				t.Errorf("%s: Authenticate: %v, %v, want %v", c.name, who, err, c.wantWho)
			}
		}
	}
	if r := (&http.Request{}); !errors.Is(second(auth.New(newStore(), nil).Authenticate(r)), auth.ErrMissingKey) {
		t.Error("a request without a header at all")
	}
}

func second[A, B any](_ A, b B) B { return b }

// TestNotHashedInVain: what is refused before the store is refused before it is hashed.
func TestNotHashedInVain(t *testing.T) {
	hashed := 0
	a := auth.New(newStore(), &auth.Options{Hashers: []auth.Hasher{func(string) auth.Hash { hashed++; return auth.Hash{1} }}})
	for _, c := range []struct {
		key  string
		want int
	}{{"", 0}, {"x", 0}, {"isk_", 0}, {goodKey + strings.Repeat("A", 1e6), 0}, {goodKey[:47], 0}, {goodKey, 1}} {
		hashed = 0
		a.Authenticate(requestWith(c.key))
		if hashed != c.want {
			t.Errorf("%.60q was hashed %d times, want %d", c.key, hashed, c.want)
		}
	}
}

func TestFormatOption(t *testing.T) {
	format := auth.KeyFormat{Prefix: "acme_live_"}
	k := format.NewKey()
	record := goodRecord()
	record.Hash = auth.BLAKE2b(nil)(k.Reveal())
	a := auth.New(newStore(record), &auth.Options{Format: format})
	for _, c := range []struct {
		key  string
		want error
	}{
		{k.Reveal(), nil},
		{goodKey, auth.ErrInvalidFormat},
		{"acme_test_" + k.Reveal()[10:], auth.ErrInvalidFormat},
		{"isk_" + k.Reveal()[10:], auth.ErrInvalidFormat},
		{"acme_live_", auth.ErrInvalidKey},
		{k.Reveal() + "x", auth.ErrInvalidKey},
		{format.NewKey().Reveal(), auth.ErrInvalidKey},
	} {
		if _, err := a.Authenticate(requestWith(c.key)); !errors.Is(err, c.want) {
			t.Errorf("%.10s…: %v, want %v", c.key, err, c.want)
		}
	}
}

func TestSeveralHashers(t *testing.T) {
	old, new := auth.SHA256, auth.BLAKE2b([]byte("pepper"))
	down := errors.New("down")
	for _, c := range []struct {
		name    string
		hashers []auth.Hasher
		known   auth.Hasher // nil: none
		revoked bool
		failAt  int // which look-up fails; 0: none
		want    error
		calls   int
	}{
		{"first", []auth.Hasher{new, old}, new, false, 0, nil, 1},
		{"second", []auth.Hasher{new, old}, old, false, 0, nil, 2},
		{"third", []auth.Hasher{auth.BLAKE2b(nil), new, old}, old, false, 0, nil, 3},
		{"none", []auth.Hasher{new, old}, nil, false, 0, auth.ErrInvalidKey, 2},
		{"not among them", []auth.Hasher{new}, old, false, 0, auth.ErrInvalidKey, 1},
		{"revoked", []auth.Hasher{new, old}, new, true, 0, auth.ErrKeyRevoked, 1},
		{"revoked, second", []auth.Hasher{new, old}, old, true, 0, auth.ErrKeyRevoked, 2},
		{"failing", []auth.Hasher{new, old}, old, false, 1, auth.ErrStoreUnavailable, 1},
		{"failing after a miss", []auth.Hasher{new, old}, old, false, 2, auth.ErrStoreUnavailable, 2},
	} {
		memory := newStore()
		if c.known != nil {
			r := goodRecord()
			r.Hash = c.known(goodKey)
			if c.revoked {
				r.RevokedAt = time.Now()
			}
			memory = newStore(r)
		}
		var asked []auth.Hash
		store := storeFunc(func(ctx context.Context, h auth.Hash) (auth.Record, error) {
			if asked = append(asked, h); len(asked) == c.failAt {
				return auth.Record{}, down
			}
			return memory.Lookup(ctx, h)
		})
		a := auth.New(store, &auth.Options{Hashers: c.hashers, Logger: slog.New(slog.DiscardHandler)})
		c.hashers[0] = nil // it was copied
		if _, err := a.Authenticate(requestWith(goodKey)); !errors.Is(err, c.want) || len(asked) != c.calls {
			t.Errorf("%s: %v after %d look-ups, want %v after %d", c.name, err, len(asked), c.want, c.calls)
		}
	}
}

// A snapshots is a SnapshotStore that answers what it is told to, and whose plain Lookup must not be asked.
type snapshots struct {
	answer func(ctx context.Context, h auth.Hash) (auth.Snapshot, error)
}

func snapshotFunc(answer func(ctx context.Context, h auth.Hash) (auth.Snapshot, error)) auth.Store {
	return &snapshots{answer}
}

func (s *snapshots) Snapshots() auth.Store { return s }

func (s *snapshots) LookupSnapshot(ctx context.Context, h auth.Hash) (auth.Snapshot, error) {
	return s.answer(ctx, h)
}

func (s *snapshots) Lookup(context.Context, auth.Hash) (auth.Record, error) {
	panic("Lookup of a SnapshotStore")
}

// TestAnotherHash: a store that returns a record with another hash than it was asked for opens nothing.
func TestAnotherHash(t *testing.T) {
	for name, change := range map[string]func(r *auth.Record){
		"first byte": func(r *auth.Record) { r.Hash[0] ^= 1 },
		"middle":     func(r *auth.Record) { r.Hash[16] ^= 0x80 },
		"last byte":  func(r *auth.Record) { r.Hash[31] ^= 1 },
		"zero":       func(r *auth.Record) { r.Hash = auth.Hash{} },
		"nothing":    func(r *auth.Record) { *r = auth.Record{Scopes: auth.Scopes{"*"}} },
		"revoked":    func(r *auth.Record) { r.Hash[5]++; r.RevokedAt = time.Now() },
	} {
		r := goodRecord()
		change(&r)
		for _, store := range []auth.Store{
			storeFunc(func(context.Context, auth.Hash) (auth.Record, error) { return r, nil }),
			snapshotFunc(func(context.Context, auth.Hash) (auth.Snapshot, error) { return auth.NewSnapshot(r), nil }),
		} {
			var out bytes.Buffer
			known := true
			a := auth.New(store, &auth.Options{Logger: slog.New(slog.NewTextHandler(&out, nil)),
				OnDecision: func(_ *http.Request, d auth.Decision) { _, known = d.Record() }})
			got, err := a.Authenticate(requestWith(goodKey))
			if !errors.Is(err, auth.ErrInvalidKey) || got.ID != "" || known {
				t.Errorf("%s, %T: %v, %v", name, store, got, err)
			}
			if s := out.String(); !strings.Contains(s, "level=ERROR") || !strings.Contains(s, "key.id="+r.ID) || leaks(s, goodKey) ||
				strings.Contains(s, goodHash.String()[:10]) || strings.Contains(s, r.Hash.String()[:10]) {
				t.Errorf("%s, %T: logged %.300s", name, store, s)
			}
		}
	}
	var out bytes.Buffer
	a := auth.New(snapshotFunc(func(context.Context, auth.Hash) (auth.Snapshot, error) { return auth.Snapshot{}, nil }),
		&auth.Options{Logger: slog.New(slog.NewTextHandler(&out, nil))})
	if _, err := a.Authenticate(requestWith(goodKey)); !errors.Is(err, auth.ErrInvalidKey) || !strings.Contains(out.String(), "another hash") {
		t.Errorf("the zero Snapshot: %v, logged %q", err, out.String())
	}

	// Nor is another Hasher tried then: the decision has been made.
	asked := 0
	a = auth.New(storeFunc(func(_ context.Context, hash auth.Hash) (auth.Record, error) {
		r := goodRecord()
		if asked++; asked > 1 {
			r.Hash = hash
		}
		return r, nil
	}), &auth.Options{Hashers: []auth.Hasher{auth.SHA256, auth.BLAKE2b(nil)}, Logger: slog.New(slog.DiscardHandler)})
	if _, err := a.Authenticate(requestWith(goodKey)); !errors.Is(err, auth.ErrInvalidKey) || asked != 1 {
		t.Errorf("another hash for the first of two Hashers: %v, the store was asked %d times", err, asked)
	}
}

type notFoundError struct{}

func (notFoundError) Error() string        { return "no rows" }
func (notFoundError) Is(target error) bool { return target == auth.ErrNotFound }

func TestStoreErrors(t *testing.T) {
	live := context.Background()
	gone, cancel := context.WithCancel(live)
	cancel()
	late, cancel := context.WithDeadline(live, time.Unix(1, 0))
	defer cancel()
	down := errors.New("connection refused")
	for _, c := range []struct {
		name  string
		ctx   context.Context
		err   error
		want  error
		level string // of the one line that is logged; empty: nothing is
	}{
		{"an outage", live, down, auth.ErrStoreUnavailable, "ERROR"},
		{"a time-out of the store's own", live, context.DeadlineExceeded, auth.ErrStoreUnavailable, "ERROR"},
		{"cancelled by the store itself", live, context.Canceled, auth.ErrStoreUnavailable, "ERROR"},
		{"a time-out of the request", late, context.DeadlineExceeded, auth.ErrStoreUnavailable, "ERROR"},
		{"the client has gone", gone, context.Canceled, auth.ErrStoreUnavailable, "DEBUG"},
		{"the client has gone, wrapped", gone, fmt.Errorf("query: %w", context.Canceled), auth.ErrStoreUnavailable, "DEBUG"},
		{"the client has gone, unclear", gone, down, auth.ErrStoreUnavailable, "DEBUG"},
		{"not found", live, auth.ErrNotFound, auth.ErrInvalidKey, ""},
		{"not found, wrapped", live, fmt.Errorf("store: %w", auth.ErrNotFound), auth.ErrInvalidKey, ""},
		{"not found, by its Is", live, notFoundError{}, auth.ErrInvalidKey, ""},
		{"not found, and the client has gone", gone, auth.ErrNotFound, auth.ErrInvalidKey, ""},
		{"not found, by its text alone", live, errors.New(auth.ErrNotFound.Error()), auth.ErrStoreUnavailable, "ERROR"},
		{"another sentinel", live, auth.ErrInvalidKey, auth.ErrStoreUnavailable, "ERROR"},
		{"revoked, says the store", live, auth.ErrKeyRevoked, auth.ErrStoreUnavailable, "ERROR"},
		{"expired, says the store", live, auth.ErrKeyExpired, auth.ErrStoreUnavailable, "ERROR"},
	} {
		for _, store := range []auth.Store{
			failingStore(c.err),
			snapshotFunc(func(context.Context, auth.Hash) (auth.Snapshot, error) { return auth.NewSnapshot(goodRecord()), c.err }),
		} {
			var out bytes.Buffer
			a := auth.New(store, &auth.Options{Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
			got, err := a.Authenticate(requestWith(goodKey).WithContext(c.ctx))
			if !errors.Is(err, c.want) || got.ID != "" || c.want == auth.ErrStoreUnavailable && (errors.Is(err, c.err) || strings.Contains(err.Error(), c.err.Error())) {
				t.Errorf("%s: %v, %v, want %v", c.name, got, err, c.want)
			}
			s := out.String()
			if c.level == "" && s != "" || c.level != "" && (strings.Count(s, "level=") != 1 || !strings.Contains(s, "level="+c.level) || !strings.Contains(s, c.err.Error())) {
				t.Errorf("%s: logged %.300q, want %q", c.name, s, c.level)
			}
		}
	}
}

// TestLogHidesKeyAndHash: whatever way a store's error spells its arguments.
func TestLogHidesKeyAndHash(t *testing.T) {
	h := goodHash
	for _, text := range []string{
		goodKey, "a" + goodKey + "b", goodKey + goodKey, url.QueryEscape(goodKey), fmt.Sprintf("%q", goodKey),
		h.String(), strings.ToUpper(h.String()), fmt.Sprint(h), fmt.Sprintf("%x %X %v %d %#v %q", h, h, h, h, h, h),
		fmt.Sprintf("%x %X", h[:], h[:]), fmt.Sprintf(`\x%x`, h[:]), fmt.Sprint(h[:]), fmt.Sprintf("%x", h.String()),
		base64.StdEncoding.EncodeToString(h[:]), base64.URLEncoding.EncodeToString(h[:]), base64.RawURLEncoding.EncodeToString(h[:]),
		fmt.Sprintf("SELECT … [%v %s]: refused", h, goodKey),
	} {
		var out bytes.Buffer
		a := auth.New(failingStore(errors.New(text+" after 3 tries")), &auth.Options{Logger: slog.New(slog.NewJSONHandler(&out, nil))})
		a.Authenticate(requestWith(goodKey))
		s := out.String()
		if leaksAnyhow(s, goodKey) || strings.Contains(strings.ToLower(s), h.String()[8:24]) || strings.Contains(s, fmt.Sprintf("%x", h.String()[8:24])) ||
			strings.Contains(s, strings.Trim(fmt.Sprint(h[4:12]), "[]")) || strings.Contains(s, base64.StdEncoding.EncodeToString(h[:])[8:24]) ||
			!strings.Contains(s, "after 3 tries") {
			t.Errorf("an error of the form %.20q… left the key or its hash in the log", text)
		}
	}
}

// TestDefaultLogger: without a Logger it is slog.Default, as it is at the time.
func TestDefaultLogger(t *testing.T) {
	a := auth.New(failingStore(io.ErrUnexpectedEOF), nil)
	previous := slog.Default()
	defer slog.SetDefault(previous)
	var out bytes.Buffer
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
	a.Authenticate(requestWith(goodKey))
	if !strings.Contains(out.String(), "unexpected EOF") {
		t.Errorf("logged %q", out.String())
	}
}

func TestStorePanicPasses(t *testing.T) {
	for _, store := range []auth.Store{
		storeFunc(func(context.Context, auth.Hash) (auth.Record, error) { panic("store") }),
		snapshotFunc(func(context.Context, auth.Hash) (auth.Snapshot, error) { panic("store") }),
	} {
		decided := 0
		a := auth.New(store, &auth.Options{OnDecision: func(*http.Request, auth.Decision) { decided++ }})
		never := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })
		for name, h := range map[string]http.Handler{"Middleware": a.Middleware(never), "Require": a.Require("a.b")(never)} {
			w := httptest.NewRecorder()
			if got := panicOf(func() { h.ServeHTTP(w, requestWith(goodKey)) }); got != "store" || w.Body.Len() > 0 || decided > 0 {
				t.Errorf("%s: panic %q after %d decisions", name, got, decided)
			}
		}
	}
}

// TestExpiryInstant: at the instant of the expiry itself a key is expired.
func TestExpiryInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		record := goodRecord()
		record.ExpiresAt = time.Now().Add(time.Hour)
		a := auth.New(newStore(record), nil)
		for _, c := range []struct {
			wait time.Duration
			want error
		}{{0, nil}, {time.Hour - 1, nil}, {1, auth.ErrKeyExpired}, {1, auth.ErrKeyExpired}, {time.Hour, auth.ErrKeyExpired}} {
			time.Sleep(c.wait)
			if _, err := a.Authenticate(requestWith(goodKey)); !errors.Is(err, c.want) {
				t.Errorf("%v to go: %v, want %v", time.Until(record.ExpiresAt), err, c.want)
			}
		}
	})
}

// TestPanicsAtStartUp: a programmer's mistake names the call and the value, unless that may be a key.
func TestPanicsAtStartUp(t *testing.T) {
	store := newStore()
	a := auth.New(store, nil)
	h := http.NotFoundHandler()
	prefix := func(p string) auth.KeyFormat { return auth.KeyFormat{Prefix: p} }
	const rule = " is not 1 to 32 characters of A-Z a-z 0-9 _ -, ending in _"
	for _, c := range []struct {
		call func()
		want string
	}{
		{func() { auth.New(nil, nil) }, "auth.New: the store is nil"},
		{func() { auth.New(nil, &auth.Options{}) }, "auth.New: the store is nil"},
		{func() { auth.New(store, &auth.Options{Hashers: []auth.Hasher{auth.SHA256, nil}}) }, "auth.New: there is a nil Hasher"},
		{func() { auth.New(store, &auth.Options{Format: prefix("isk")}) }, `auth.New: KeyFormat prefix "isk"` + rule},
		{func() { auth.New(store, &auth.Options{Format: prefix("i k_")}) }, `auth.New: KeyFormat prefix "i k_"` + rule},
		{func() { auth.New(store, &auth.Options{Format: prefix("é_")}) }, `auth.New: KeyFormat prefix "é_"` + rule},
		{func() { auth.New(store, &auth.Options{Format: prefix(strings.Repeat("x", 32) + "_")}) },
			`auth.New: KeyFormat prefix "` + strings.Repeat("x", 32) + `_"` + rule},
		{func() { auth.New(store, &auth.Options{Format: prefix(goodKey)}) }, "auth.New: KeyFormat prefix (not shown: 48 bytes that may hold a key)" + rule},
		{func() { auth.New(store, &auth.Options{Realm: "a\nb"}) }, `auth.New: the realm "a\nb" holds a control character`},
		{func() { auth.New(store, &auth.Options{Realm: "a\r"}) }, `auth.New: the realm "a\r" holds a control character`},
		{func() { auth.New(store, &auth.Options{Realm: "\t"}) }, `auth.New: the realm "\t" holds a control character`},
		{func() { auth.New(store, &auth.Options{Realm: "a\x00"}) }, `auth.New: the realm "a\x00" holds a control character`},
		{func() { auth.New(store, &auth.Options{Realm: "\x7f"}) }, `auth.New: the realm "\x7f" holds a control character`},
		{func() { auth.New(store, &auth.Options{ProblemBase: "://x"}) }, `auth.New: the problem base "://x" is not the start of a URI`},
		{func() { auth.New(store, &auth.Options{ProblemBase: "http://a b/"}) }, `auth.New: the problem base "http://a b/" is not the start of a URI`},
		{func() { prefix("isk").NewKey() }, `auth.KeyFormat.NewKey: KeyFormat prefix "isk"` + rule},
		{func() { prefix("isk").ParseKey(goodKey) }, `auth.KeyFormat.ParseKey: KeyFormat prefix "isk"` + rule},
		{func() { auth.NewKeyring(nil, nil) }, "auth.NewKeyring: the store is nil"},
		{func() { auth.NewKeyring(store, &auth.KeyringOptions{Format: prefix("-")}) }, `auth.NewKeyring: KeyFormat prefix "-"` + rule},
		{func() {
			auth.NewKeyring(store, &auth.KeyringOptions{Catalog: auth.Catalog{{Scope: "a.b"}, {Scope: "no"}}})
		},
			`auth.NewKeyring: "no" in the Catalog is not a scope`},
		{func() { auth.NewContext(nil, auth.Record{}) }, "auth.NewContext: the context is nil"}, //lint:ignore SA1012 that is the mistake
		{func() { auth.NewUseRecorder(nil, nil) }, "auth.NewUseRecorder: the store is nil"},
		{func() { auth.NewUseRecorder(store, &auth.UseRecorderOptions{Interval: -1}) }, "auth.NewUseRecorder: Interval -1ns or MaxKeys 0 is negative"},
		{func() { auth.NewUseRecorder(store, &auth.UseRecorderOptions{MaxKeys: -1}) }, "auth.NewUseRecorder: Interval 0s or MaxKeys -1 is negative"},
		{func() { auth.Require("documents") }, `auth.Require: "documents" is not a scope`},
		{func() { auth.Require("") }, `auth.Require: "" is not a scope`},
		{func() { auth.Require("a.b", "c.d", "Documents.read") }, `auth.Require: "Documents.read" is not a scope`},
		{func() { auth.RequireAny("a.b", "documents.*.read") }, `auth.RequireAny: "documents.*.read" is not a scope`},
		{func() { a.Require("a b") }, `auth.Authenticator.Require: "a b" is not a scope`},
		{func() { a.RequireAny("a.b", "**") }, `auth.Authenticator.RequireAny: "**" is not a scope`},
		{func() { auth.Require(goodKey) }, "auth.Require: (not shown: 48 bytes that may hold a key) is not a scope"},
		{func() { a.Require("Bearer " + goodKey) }, "auth.Authenticator.Require: (not shown: 55 bytes that may hold a key) is not a scope"},
		{func() { auth.Require(auth.Scope(goodKey[4:])) }, "auth.Require: (not shown: 44 bytes that may hold a key) is not a scope"},
		{func() { auth.Require(auth.Scope(strings.Repeat("é", 300))) }, `auth.Require: "` + strings.Repeat("é", 50) + `"… is not a scope`},
		{func() { a.Middleware(nil) }, "auth.Authenticator.Middleware: the handler is nil"},
		{func() { a.Require("a.b")(nil) }, "auth.Authenticator.Require: the handler is nil"},
		{func() { a.RequireAny("a.b")(nil) }, "auth.Authenticator.RequireAny: the handler is nil"},
		{func() { auth.Require("a.b")(nil) }, "auth.Require: the handler is nil"},
		{func() { auth.RequireAny("a.b")(nil) }, "auth.RequireAny: the handler is nil"},
		{func() {
			auth.New(store, &auth.Options{Realm: "é ü", ProblemBase: "urn:x:", Format: prefix(strings.Repeat("x", 31) + "_")})
		}, ""},
		{func() { a.Require("*", "a.*", "b.c.d")(a.Middleware(h)) }, ""},
	} {
		if got := panicOf(c.call); got != c.want {
			t.Errorf("panic %q, want %q", got, c.want)
		}
	}
}

// denying changes the Lookup of the store that it embeds.
type denying struct{ *auth.MemoryStore }

func (denying) Lookup(context.Context, auth.Hash) (auth.Record, error) {
	return auth.Record{}, auth.ErrNotFound
}

// uncomparable does so too, and cannot be compared.
type uncomparable struct {
	denying
	_ []int
}

// TestEmbeddedSnapshotStore: the Lookup of a type that embeds a SnapshotStore is the one that counts.
func TestEmbeddedSnapshotStore(t *testing.T) {
	m := new(auth.MemoryStore)
	if err := m.Insert(t.Context(), goodRecord()); err != nil {
		t.Fatal(err)
	}
	for _, store := range []auth.Store{denying{m}, &denying{m}, uncomparable{denying: denying{m}}} {
		if got, err := auth.New(store, nil).Authenticate(requestWith(goodKey)); !errors.Is(err, auth.ErrInvalidKey) {
			t.Errorf("%T: %v, %v", store, got, err)
		}
	}
}

// TestStoreErrorsAreHidden: however a driver spells the hash or the key in its error, the log does not.
func TestStoreErrorsAreHidden(t *testing.T) {
	var high auth.Hash // no byte of it is ASCII
	for i := range high {
		high[i] = 0xff - byte(i)
	}
	for _, hash := range []auth.Hash{goodHash, high} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%+q", "%x", "%X", "% x", "%#x", "%o", "%d", "%b", "%c", "%U"} {
			for _, v := range []any{hash, hash[:], [32]byte(hash), string(hash[:]), &hash, goodKey} {
				if k, ok := v.(string); ok && k == goodKey && format != "%v" && format != "%s" && format != "%q" {
					continue // nobody has the key in another form
				}
				text := fmt.Sprintf(format, v)
				var out bytes.Buffer
				a := auth.New(storeFunc(func(context.Context, auth.Hash) (auth.Record, error) {
					return auth.Record{}, errors.New("query failed: " + text + " was the argument")
				}), &auth.Options{Hashers: []auth.Hasher{func(string) auth.Hash { return hash }}, Logger: slog.New(slog.NewJSONHandler(&out, nil))})
				if _, err := a.Authenticate(requestWith(goodKey)); !errors.Is(err, auth.ErrStoreUnavailable) {
					t.Fatal(err)
				}
				var line struct{ Error string }
				if err := json.Unmarshal(out.Bytes(), &line); err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(line.Error, "[hash]") && !strings.Contains(line.Error, "[key]") || len(line.Error) > 80 {
					t.Errorf("%s of %T: %s", format, v, line.Error)
				}
			}
		}
	}
}

// TestLogHidesOddSpellings: whatever looks like a key or a hash is no text for a log; what does not, stays.
func TestLogHidesOddSpellings(t *testing.T) {
	logged := func(text string) string {
		var out bytes.Buffer
		a := auth.New(failingStore(errors.New("query: "+text+" failed")), &auth.Options{Logger: slog.New(slog.NewJSONHandler(&out, nil))})
		a.Authenticate(requestWith(goodKey))
		var line struct{ Error string }
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		return line.Error
	}
	each := func(format, sep string) string {
		var list []string
		for _, b := range goodHash {
			list = append(list, fmt.Sprintf(format, b))
		}
		return strings.Join(list, sep)
	}
	numbers, _ := json.Marshal([32]byte(goodHash))
	hex := goodHash.String()
	for _, spelling := range []string{
		url.QueryEscape(base64.StdEncoding.EncodeToString(goodHash[:])), url.QueryEscape(base64.URLEncoding.EncodeToString(goodHash[:])),
		each("%%%02X", ""), string(numbers), each("%02x", ":"), each("%02x", "\n"), each(`\%03o`, ""), each("%03d", " "), each("%08b", " "),
		each("%#x", " "), each("%#o", ","), hex[:62], hex[:43], each(`\\x%02x`, ""), url.QueryEscape(goodKey) + "%0A",
	} {
		got := logged(spelling)
		if !strings.HasPrefix(got, "query: ") || !strings.HasSuffix(got, " failed") || len(got) > 40 {
			t.Errorf("%s is logged as %q", spelling, got)
		}
	}
	for _, plain := range []string{
		"dial tcp 127.0.0.1:5432: connect: connection refused", "request id 5f0c3c3e-8d9d-4b6e-9c0a-3e7f5a1b2c3d",
		`ERROR: relation "api_keys" does not exist (SQLSTATE 42P01)`, "délai dépassé", "https://keys.example.com/v1/keys?limit=1",
	} {
		if got := logged(plain); got != "query: "+plain+" failed" {
			t.Errorf("%q is logged as %q", plain, got)
		}
	}
}
