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
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
)

// codeOf returns the code of the only sentinel that err matches, "OK" for nil,
// and "" if it matches none.
func codeOf(err error) string {
	if err == nil {
		return "OK"
	}
	var codes []string
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			codes = append(codes, s.code)
		}
	}
	return strings.Join(codes, " and ")
}

// answeredCode returns the code that w tells the client, or "OK" for 200.
func answeredCode(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	if w.Code == http.StatusOK {
		return "OK"
	}
	return problemIn(t, w).Code
}

// recordIn returns the record of goodKey in a state: some of the words below.
func recordIn(state string, scopes ...auth.Scope) auth.Record {
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	r := scopedRecord(scopes...)
	for word := range strings.FieldsSeq(state) {
		switch word {
		case "revoked":
			r.RevokedAt = past
		case "revoked-from-later":
			r.RevokedAt = future
		case "disabled":
			r.DisabledAt = past
		case "disabled-from-later":
			r.DisabledAt = future
		case "expired":
			r.ExpiresAt = past
		case "expiring":
			r.ExpiresAt = future
		default:
			panic("no such state: " + word)
		}
	}
	return r
}

// TestDecisionOrder: the step that fails first decides, no matter what else is
// wrong.
func TestDecisionOrder(t *testing.T) {
	const all = "revoked disabled expired"
	for _, c := range []struct {
		name       string
		credential string
		state      string
		required   auth.Scope
		want       string
		lookups    int64
	}{
		{"no field", "", all, "x.y", "MISSING_KEY", 0},
		{"another scheme", "Basic " + goodKey, all, "x.y", "MISSING_KEY", 0},
		{"the scheme alone", "Bearer", all, "x.y", "MISSING_KEY", 0},
		{"the scheme and a space", "Bearer ", all, "x.y", "MISSING_KEY", 0},
		{"no prefix", "Bearer x", all, "x.y", "INVALID_FORMAT", 0},
		{"another prefix", "Bearer acme_" + goodKey[4:], all, "x.y", "INVALID_FORMAT", 0},
		{"the prefix alone", "Bearer isk_", all, "x.y", "INVALID_KEY", 0},
		{"43 characters", "Bearer " + goodKey[:47], all, "x.y", "INVALID_KEY", 0},
		{"45 characters", "Bearer " + goodKey + "x", all, "x.y", "INVALID_KEY", 0},
		{"a wrong character", "Bearer " + goodKey[:47] + "+", all, "x.y", "INVALID_KEY", 0},
		{"an unknown key", "Bearer " + keyOf("A"), all, "x.y", "INVALID_KEY", 1},
		{"revoked, disabled, expired, no scope", "Bearer " + goodKey, all, "x.y", "KEY_REVOKED", 1},
		{"revoked, disabled", "Bearer " + goodKey, "revoked disabled", "a.b", "KEY_REVOKED", 1},
		{"revoked, expired", "Bearer " + goodKey, "revoked expired", "a.b", "KEY_REVOKED", 1},
		{"revoked, no scope", "Bearer " + goodKey, "revoked expiring", "x.y", "KEY_REVOKED", 1},
		{"revoked", "Bearer " + goodKey, "revoked", "a.b", "KEY_REVOKED", 1},
		{"revoked in the future", "Bearer " + goodKey, "revoked-from-later", "a.b", "KEY_REVOKED", 1},
		{"disabled, expired, no scope", "Bearer " + goodKey, "disabled expired", "x.y", "KEY_DISABLED", 1},
		{"disabled, no scope", "Bearer " + goodKey, "disabled expiring", "x.y", "KEY_DISABLED", 1},
		{"disabled", "Bearer " + goodKey, "disabled", "a.b", "KEY_DISABLED", 1},
		{"disabled in the future", "Bearer " + goodKey, "disabled-from-later", "a.b", "KEY_DISABLED", 1},
		{"expired, no scope", "Bearer " + goodKey, "expired", "x.y", "KEY_EXPIRED", 1},
		{"expired", "Bearer " + goodKey, "expired", "a.b", "KEY_EXPIRED", 1},
		{"no scope", "Bearer " + goodKey, "expiring", "x.y", "INSUFFICIENT_SCOPE", 1},
		{"good", "Bearer " + goodKey, "expiring", "a.b", "OK", 1},
		{"good, never expires", "Bearer " + goodKey, "", "a.b", "OK", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := &countingStore{Store: newStore(recordIn(c.state, "a.b"))}
			a := auth.New(store, nil)
			called := 0
			h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called++ })
			request := func() *http.Request {
				store.calls.Store(0)
				called = 0
				r := httptest.NewRequest("GET", "/", nil)
				if c.credential != "" {
					r.Header.Set("Authorization", c.credential)
				}
				return r
			}
			for name, h := range map[string]http.Handler{
				"Middleware and Require":       a.Middleware(auth.Require(c.required)(h)),
				"Middleware and RequireAny":    a.Middleware(auth.RequireAny(c.required)(h)),
				"Middleware and a.Require":     a.Middleware(a.Require(c.required)(h)),
				"Middleware and Require twice": a.Middleware(auth.Require("a.b")(auth.Require(c.required)(h))),
				"Optional and Require":         a.Optional(auth.Require(c.required)(h)),
				"a.Require":                    a.Require(c.required)(h),
				"a.RequireAny":                 a.RequireAny(c.required)(h),
			} {
				w := serve(h, request())
				if got := answeredCode(t, w); got != c.want {
					t.Errorf("%s: answered %s, want %s", name, got, c.want)
				}
				if got := store.calls.Load(); got != c.lookups {
					t.Errorf("%s: %d lookups, want %d", name, got, c.lookups)
				}
				if want := c.want == "OK"; (called == 1) != want {
					t.Errorf("%s: the handler was called %d times, with %s", name, called, c.want)
				}
			}

			want := c.want
			if want == "INSUFFICIENT_SCOPE" {
				want = "OK" // Authenticate and Verify look at no scope
			}
			checkRecord(t, "Authenticate", want)(a.Authenticate(request()))
			if got := store.calls.Load(); got != c.lookups {
				t.Errorf("Authenticate: %d lookups, want %d", got, c.lookups)
			}
			checkRecord(t, "Verify", want)(a.Verify(t.Context(), auth.Bearer(request().Header["Authorization"]...)))
			if got := store.calls.Load(); got != c.lookups {
				t.Errorf("Verify: %d lookups, want %d", got, c.lookups)
			}
		})
	}
}

// checkRecord returns a check of what Authenticate or Verify returned.
func checkRecord(t *testing.T, call, want string) func(auth.Record, error) {
	return func(r auth.Record, err error) {
		t.Helper()
		if got := codeOf(err); got != want {
			t.Errorf("%s: %s, want %s", call, got, want)
		}
		wantID := ""
		if want == "OK" {
			wantID = "key_good"
		}
		if r.ID != wantID {
			t.Errorf("%s: the record of %q, want that of %q", call, r.ID, wantID)
		}
	}
}

// TestLongCredential: credentials of more than 512 bytes reach neither
// AlsoAccept nor a Hasher.
func TestLongCredential(t *testing.T) {
	long := func(prefix string, n int) string { return prefix + strings.Repeat("x", n-len(prefix)) }
	for _, c := range []struct {
		name, credential string
		accept           bool // by AlsoAccept
		want             string
		seen             bool // by AlsoAccept
		hashed           bool
	}{
		{"512 bytes", long("old_", 512), true, "OK", true, true},
		{"512 bytes with the prefix", long("isk_", 512), true, "OK", true, true},
		{"513 bytes", long("old_", 513), true, "INVALID_FORMAT", false, false},
		{"513 bytes with the prefix", long("isk_", 513), true, "INVALID_KEY", false, false},
		{"a million bytes", long("old_", 1e6), true, "INVALID_FORMAT", false, false},
		{"a million bytes with the prefix", long("isk_", 1e6), true, "INVALID_KEY", false, false},
		{"512 bytes, not accepted", long("old_", 512), false, "INVALID_FORMAT", true, false},
		{"512 bytes with the prefix, not accepted", long("isk_", 512), false, "INVALID_KEY", true, false},
	} {
		seen, hashed := false, false
		record := goodRecord()
		a := auth.New(newStore(record), &auth.Options{Scheme: auth.Scheme{
			Hashers:    []auth.Hasher{func(string) auth.Hash { hashed = true; return record.Hash }},
			AlsoAccept: func(string) bool { seen = true; return c.accept },
		}})
		checkRecord(t, c.name, c.want)(a.Authenticate(requestWith(c.credential)))
		if seen != c.seen {
			t.Errorf("%s: AlsoAccept was called: %v, want %v", c.name, seen, c.seen)
		}
		if hashed != c.hashed {
			t.Errorf("%s: hashed: %v, want %v", c.name, hashed, c.hashed)
		}
	}
}

// TestRefusedShapeIsNotHashed: a key that is refused by its shape is not
// hashed.
func TestRefusedShapeIsNotHashed(t *testing.T) {
	hashed := 0
	a := auth.New(newStore(), &auth.Options{Scheme: auth.Scheme{
		Hashers: []auth.Hasher{func(string) auth.Hash { hashed++; return auth.Hash{1} }},
	}})
	for _, c := range []struct {
		credential string
		want       int
	}{
		{"", 0},
		{"x", 0},
		{"isk_", 0},
		{goodKey[:47], 0},
		{goodKey + "A", 0},
		{goodKey[:47] + "*", 0},
		{goodKey, 1},
	} {
		hashed = 0
		a.Authenticate(requestWith(c.credential))
		if hashed != c.want {
			t.Errorf("%q was hashed %d times, want %d", c.credential, hashed, c.want)
		}
	}
}

// TestAuthenticateAlsoAccept: AlsoAccept takes keys that were issued by an
// earlier system.
func TestAuthenticateAlsoAccept(t *testing.T) {
	old := regexp.MustCompile(`^sk_live_[0-9a-f]{32}$|^isk_legacy[0-9]$`).MatchString
	acme := auth.Scheme{Prefix: "acme_"}
	const (
		oldKey     = "sk_live_0123456789abcdef0123456789abcdef"
		oldUnknown = "sk_live_ffffffffffffffffffffffffffffffff"
		oldRevoked = "sk_live_00000000000000000000000000000000"
	)
	acmeKey := acme.NewKey().Reveal()
	store := newStore(goodRecord())
	for key, revoked := range map[string]bool{oldKey: false, oldRevoked: true, "isk_legacy1": false, acmeKey: false} {
		r := goodRecord()
		r.Hash = auth.SHA256(nil)(key)
		if revoked {
			r.RevokedAt = epoch
		}
		store.put(r)
	}
	for _, c := range []struct {
		accept  func(string) bool
		key     string
		want    string
		lookups int64
	}{
		{old, oldKey, "OK", 2},
		{old, goodKey, "OK", 1},
		{old, oldUnknown, "INVALID_KEY", 2},
		{old, oldRevoked, "KEY_REVOKED", 2},
		{old, "isk_legacy1", "OK", 2},
		{old, "isk_legacyX", "INVALID_KEY", 0},
		{old, oldKey + "0", "INVALID_FORMAT", 0},
		{old, oldKey[1:], "INVALID_FORMAT", 0},
		{old, strings.ToUpper(oldKey), "INVALID_FORMAT", 0},
		{old, acmeKey, "INVALID_FORMAT", 0},
		{old, "", "MISSING_KEY", 0},
		{acme.Valid, acmeKey, "OK", 2},
		{acme.Valid, acmeKey[:48], "INVALID_FORMAT", 0},
		{acme.Valid, oldKey, "INVALID_FORMAT", 0},
		{nil, oldKey, "INVALID_FORMAT", 0},
		{nil, "isk_legacy1", "INVALID_KEY", 0},
	} {
		counter := &countingStore{Store: store}
		a := auth.New(counter, &auth.Options{Scheme: auth.Scheme{
			Hashers: []auth.Hasher{auth.BLAKE2b(nil), auth.SHA256(nil)}, AlsoAccept: c.accept,
		}})
		checkRecord(t, c.key, c.want)(a.Authenticate(requestWith(c.key)))
		if got := counter.calls.Load(); got != c.lookups {
			t.Errorf("%s: %d lookups, want %d", c.key, got, c.lookups)
		}
		checkRecord(t, c.key+" by Verify", c.want)(a.Verify(t.Context(), c.key))
	}

	// Several fields are no key, no matter what AlsoAccept takes.
	a := auth.New(store, &auth.Options{Scheme: auth.Scheme{Hashers: []auth.Hasher{auth.SHA256(nil)}, AlsoAccept: old}})
	r := requestWith(oldKey)
	r.Header.Add("Authorization", "Bearer "+oldKey)
	checkRecord(t, "two fields", "INVALID_FORMAT")(a.Authenticate(r))
}

func TestPrefix(t *testing.T) {
	scheme := auth.Scheme{Prefix: "acme_live_"}
	key := scheme.NewKey().Reveal()
	record := goodRecord()
	record.Hash = auth.BLAKE2b(nil)(key)
	a := auth.New(newStore(record), &auth.Options{Scheme: scheme})
	for _, c := range []struct{ name, key, want string }{
		{"good", key, "OK"},
		{"the default prefix", goodKey, "INVALID_FORMAT"},
		{"another prefix", "acme_test_" + key[10:], "INVALID_FORMAT"},
		{"the default prefix before the same secret", "isk_" + key[10:], "INVALID_FORMAT"},
		{"a part of the prefix", "acme_", "INVALID_FORMAT"},
		{"the prefix in upper case", "ACME_LIVE_" + key[10:], "INVALID_FORMAT"},
		{"the prefix alone", "acme_live_", "INVALID_KEY"},
		{"a character more", key + "x", "INVALID_KEY"},
		{"unknown", scheme.NewKey().Reveal(), "INVALID_KEY"},
	} {
		checkRecord(t, c.name, c.want)(a.Authenticate(requestWith(c.key)))
	}
}

// TestSeveralHashers: each Hasher is tried in order, until the store knows a
// hash.
func TestSeveralHashers(t *testing.T) {
	plain, old, pepper := auth.BLAKE2b(nil), auth.SHA256(nil), auth.BLAKE2b([]byte("pepper"))
	for _, c := range []struct {
		name    string
		hashers []auth.Hasher
		stored  auth.Hasher // if nil, the store is empty
		state   string
		failAt  int // the lookup that fails; 0: none
		want    string
		lookups int
	}{
		{"none given", nil, plain, "", 0, "OK", 1},
		{"empty", []auth.Hasher{}, plain, "", 0, "OK", 1},
		{"first", []auth.Hasher{pepper, old}, pepper, "", 0, "OK", 1},
		{"second", []auth.Hasher{pepper, old}, old, "", 0, "OK", 2},
		{"third", []auth.Hasher{plain, pepper, old}, old, "", 0, "OK", 3},
		{"unknown", []auth.Hasher{pepper, old}, nil, "", 0, "INVALID_KEY", 2},
		{"not among them", []auth.Hasher{pepper}, old, "", 0, "INVALID_KEY", 1},
		{"revoked, first", []auth.Hasher{pepper, old}, pepper, "revoked", 0, "KEY_REVOKED", 1},
		{"revoked, second", []auth.Hasher{pepper, old}, old, "revoked", 0, "KEY_REVOKED", 2},
		{"disabled, second", []auth.Hasher{pepper, old}, old, "disabled", 0, "KEY_DISABLED", 2},
		{"failing", []auth.Hasher{pepper, old}, old, "", 1, "STORE_UNAVAILABLE", 1},
		{"failing at the second", []auth.Hasher{pepper, old}, old, "", 2, "STORE_UNAVAILABLE", 2},
		{"failing at the third", []auth.Hasher{plain, pepper, old}, nil, "", 3, "STORE_UNAVAILABLE", 3},
	} {
		stored := newStore()
		if c.stored != nil {
			r := recordIn(c.state, "*")
			r.Hash = c.stored(goodKey)
			stored.put(r)
		}
		var asked []auth.Hash
		store := storeFunc(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
			if asked = append(asked, hash); len(asked) == c.failAt {
				return nil, errors.New("down")
			}
			return stored.Lookup(ctx, hash)
		})
		var want []auth.Hash
		for _, hasher := range c.hashers {
			want = append(want, hasher(goodKey))
		}
		if len(want) == 0 {
			want = []auth.Hash{goodHash}
		}
		a := auth.New(store, &auth.Options{Scheme: auth.Scheme{Hashers: c.hashers}, Logger: quiet()})
		checkRecord(t, c.name, c.want)(a.Authenticate(requestWith(goodKey)))
		if !slices.Equal(asked, want[:min(c.lookups, len(want))]) {
			t.Errorf("%s: the store was asked for %v, want %v", c.name, asked, want[:c.lookups])
		}
	}
}

// TestStoreReturnsAnotherHash: a store that returns a record with a different
// hash opens nothing.
func TestStoreReturnsAnotherHash(t *testing.T) {
	for name, change := range map[string]func(r *auth.Record){
		"first byte":    func(r *auth.Record) { r.Hash[0] ^= 1 },
		"middle":        func(r *auth.Record) { r.Hash[16] ^= 0x80 },
		"last byte":     func(r *auth.Record) { r.Hash[31] ^= 1 },
		"zero hash":     func(r *auth.Record) { r.Hash = auth.Hash{} },
		"nothing else":  func(r *auth.Record) { *r = auth.Record{ID: r.ID, Scopes: auth.Scopes{"*"}} },
		"revoked":       func(r *auth.Record) { r.Hash[5]++; r.RevokedAt = epoch },
		"the zero ID":   func(r *auth.Record) { r.Hash[5]++; r.ID = "" },
		"no record":     nil,
		"another's key": func(r *auth.Record) { r.Hash = auth.BLAKE2b(nil)(keyOf("A")) },
	} {
		t.Run(name, func(t *testing.T) {
			var record *auth.Record
			wantID := ""
			if change != nil {
				r := goodRecord()
				change(&r)
				record, wantID = &r, r.ID
			}
			known := true
			logger, out := captureLog()
			store := storeFunc(func(context.Context, auth.Hash) (*auth.Record, error) { return record, nil })
			a := auth.New(store, &auth.Options{
				Logger:     logger,
				OnDecision: func(_ context.Context, d auth.Decision) { _, known = d.Record() },
			})
			checkRecord(t, "Authenticate", "INVALID_KEY")(a.Authenticate(requestWith(goodKey)))
			if known {
				t.Error("the Decision has a record")
			}
			lines := out.lines(t)
			if len(lines) != 1 {
				t.Fatalf("%d log lines, want 1: %s", len(lines), out)
			}
			if got := lines[0]["level"]; got != "ERROR" {
				t.Errorf("logged with level %v, want ERROR", got)
			}
			key, _ := lines[0]["key"].(map[string]any)
			if got := key["id"]; got != wantID {
				t.Errorf("logged the ID %v, want %q", got, wantID)
			}
			if leaksAnyhow(out.String(), goodKey) {
				t.Errorf("the log holds the key: %s", out)
			}
			if leaksHash(out.String(), goodHash) {
				t.Errorf("the log holds the hash of the key: %s", out)
			}
			if record != nil && record.Hash != (auth.Hash{}) && leaksHash(out.String(), record.Hash) {
				t.Errorf("the log holds the hash of the record: %s", out)
			}
		})
	}
}

// TestAnotherHashEndsTheLookup: if the store returns a record with a different
// hash for one Hasher, the decision has been made, and no other Hasher is
// tried.
func TestAnotherHashEndsTheLookup(t *testing.T) {
	for name, wrong := range map[string]*auth.Record{
		"another hash": {ID: "other", Hash: auth.Hash{1}},
		"no record":    nil,
	} {
		asked := 0
		a := auth.New(storeFunc(func(_ context.Context, hash auth.Hash) (*auth.Record, error) {
			if asked++; asked == 1 {
				return wrong, nil
			}
			record := goodRecord()
			record.Hash = hash
			return &record, nil
		}), &auth.Options{
			Scheme: auth.Scheme{Hashers: []auth.Hasher{auth.SHA256(nil), auth.BLAKE2b(nil)}},
			Logger: quiet(),
		})
		checkRecord(t, name, "INVALID_KEY")(a.Authenticate(requestWith(goodKey)))
		if asked != 1 {
			t.Errorf("%s: the store was asked %d times, want once", name, asked)
		}
	}
}

// A notFoundError matches ErrNotFound by its method Is.
type notFoundError struct{}

func (notFoundError) Error() string        { return "no rows" }
func (notFoundError) Is(target error) bool { return target == auth.ErrNotFound }

// TestStoreErrors: the error of the store decides, also if there is a record
// with it.
func TestStoreErrors(t *testing.T) {
	live := context.Background()
	gone, cancel := context.WithCancel(live)
	cancel()
	late, cancel := context.WithDeadline(live, time.Unix(1, 0))
	defer cancel()
	down := errors.New("connection refused")
	for _, c := range []struct {
		name  string
		ctx   context.Context // of the request
		err   error
		want  string
		level string // of the one log line; "": no line
	}{
		{"outage", live, down, "STORE_UNAVAILABLE", "ERROR"},
		{"timeout of the store", live, context.DeadlineExceeded, "STORE_UNAVAILABLE", "ERROR"},
		{"canceled by the store", live, context.Canceled, "STORE_UNAVAILABLE", "ERROR"},
		{"timeout of the request", late, context.DeadlineExceeded, "STORE_UNAVAILABLE", "ERROR"},
		{"the client is gone", gone, context.Canceled, "STORE_UNAVAILABLE", "DEBUG"},
		{"the client is gone, wrapped", gone, fmt.Errorf("query: %w", context.Canceled), "STORE_UNAVAILABLE", "DEBUG"},
		{"the client is gone, another error", gone, down, "STORE_UNAVAILABLE", "DEBUG"},
		{"not found", live, auth.ErrNotFound, "INVALID_KEY", ""},
		{"not found, wrapped", live, fmt.Errorf("store: %w", auth.ErrNotFound), "INVALID_KEY", ""},
		{"not found, joined", live, errors.Join(down, auth.ErrNotFound), "INVALID_KEY", ""},
		{"not found, by its method Is", live, notFoundError{}, "INVALID_KEY", ""},
		{"not found, the client is gone", gone, auth.ErrNotFound, "INVALID_KEY", ""},
		{"not found, by its text only", live, errors.New(auth.ErrNotFound.Error()), "STORE_UNAVAILABLE", "ERROR"},
		{"another sentinel", live, auth.ErrInvalidKey, "STORE_UNAVAILABLE", "ERROR"},
		{"missing key, says the store", live, auth.ErrMissingKey, "STORE_UNAVAILABLE", "ERROR"},
		{"revoked, says the store", live, auth.ErrKeyRevoked, "STORE_UNAVAILABLE", "ERROR"},
		{"disabled, says the store", live, auth.ErrKeyDisabled, "STORE_UNAVAILABLE", "ERROR"},
		{"expired, says the store", live, auth.ErrKeyExpired, "STORE_UNAVAILABLE", "ERROR"},
		{"forbidden, says the store", live, auth.ErrInsufficientScope, "STORE_UNAVAILABLE", "ERROR"},
		{"a problem of the host", live, &auth.Problem{Status: 404, Code: "NO_TENANT"}, "STORE_UNAVAILABLE", "ERROR"},
	} {
		for call, do := range map[string]func(a *auth.Authenticator) (auth.Record, error){
			"Authenticate": func(a *auth.Authenticator) (auth.Record, error) {
				return a.Authenticate(requestWith(goodKey).WithContext(c.ctx))
			},
			"Verify": func(a *auth.Authenticator) (auth.Record, error) { return a.Verify(c.ctx, goodKey) },
		} {
			name := c.name + ", " + call
			logger, out := captureLog()
			r, err := do(auth.New(failingStore(c.err), &auth.Options{Logger: logger}))
			checkRecord(t, name, c.want)(r, err)
			if strings.Contains(err.Error(), c.err.Error()) && c.want == "STORE_UNAVAILABLE" {
				t.Errorf("%s: the error %q quotes that of the store", name, err)
			}
			var levels []string
			for _, line := range out.lines(t) {
				levels = append(levels, line["level"].(string))
				if got := line["error"]; got != c.err.Error() {
					t.Errorf("%s: logged the error %q, want %q", name, got, c.err)
				}
			}
			if got := strings.Join(levels, " "); got != c.level {
				t.Errorf("%s: log lines of the levels %q, want %q", name, got, c.level)
			}
		}
	}
}

// TestStoreErrorIsNotDisclosed: what the client of a failed lookup is told does
// not depend on the error.
func TestStoreErrorIsNotDisclosed(t *testing.T) {
	for _, err := range []error{
		errors.New("password authentication failed for user api"),
		&auth.Problem{Status: 404, Title: "tenant acme is unknown"},
		auth.ErrKeyRevoked,
	} {
		a := auth.New(failingStore(err), &auth.Options{Logger: quiet()})
		w := serve(a.Middleware(closed(t)), requestWith(goodKey))
		want := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			auth.WriteProblem(w, r, auth.ErrStoreUnavailable)
		}), requestWith(goodKey))
		if w.Code != 503 {
			t.Errorf("%v: status %d, want 503", err, w.Code)
		}
		if w.Body.String() != want.Body.String() {
			t.Errorf("%v: answered %s, want %s", err, w.Body, want.Body)
		}
	}
}

// TestStorePanics: a panic of the store reaches the host. Nothing is decided.
func TestStorePanics(t *testing.T) {
	decisions := 0
	a := auth.New(storeFunc(func(context.Context, auth.Hash) (*auth.Record, error) { panic("of the store") }),
		&auth.Options{OnDecision: func(context.Context, auth.Decision) { decisions++ }})
	w := httptest.NewRecorder()
	for name, call := range map[string]func(){
		"Middleware":   func() { a.Middleware(closed(t)).ServeHTTP(w, requestWith(goodKey)) },
		"Optional":     func() { a.Optional(closed(t)).ServeHTTP(w, requestWith(goodKey)) },
		"Require":      func() { a.Require("a.b")(closed(t)).ServeHTTP(w, requestWith(goodKey)) },
		"Authenticate": func() { a.Authenticate(requestWith(goodKey)) },
		"Verify":       func() { a.Verify(t.Context(), goodKey) },
	} {
		if got := panicOf(call); got != "of the store" {
			t.Errorf("%s: panic %q, want that of the store", name, got)
		}
		if got := w.Body.Len(); got > 0 {
			t.Errorf("%s: %d bytes were written", name, got)
		}
		if decisions != 0 {
			t.Errorf("%s: %d decisions, want 0", name, decisions)
		}
	}
}

// TestStoreEndsTheGoroutine: a store that ends the goroutine, as t.FailNow
// does, opens nothing.
func TestStoreEndsTheGoroutine(t *testing.T) {
	decisions := 0
	a := auth.New(storeFunc(func(context.Context, auth.Hash) (*auth.Record, error) {
		runtime.Goexit()
		return nil, nil
	}), &auth.Options{OnDecision: func(context.Context, auth.Decision) { decisions++ }})
	w := httptest.NewRecorder()
	for name, call := range map[string]func(){
		"Middleware":   func() { a.Middleware(closed(t)).ServeHTTP(w, requestWith(goodKey)) },
		"Require":      func() { a.Require("a.b")(closed(t)).ServeHTTP(w, requestWith(goodKey)) },
		"Authenticate": func() { a.Authenticate(requestWith(goodKey)) },
		"Verify":       func() { a.Verify(t.Context(), goodKey) },
	} {
		done := make(chan struct{})
		returned := false
		go func() {
			defer close(done)
			call()
			returned = true
		}()
		<-done
		if returned {
			t.Errorf("%s returned", name)
		}
		if got := w.Body.Len(); got > 0 {
			t.Errorf("%s: %d bytes were written", name, got)
		}
		if decisions != 0 {
			t.Errorf("%s: %d decisions, want 0", name, decisions)
		}
	}
}

// TestExpiryInstant: at the very instant of its expiry, a key is expired.
func TestExpiryInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		record := goodRecord()
		record.ExpiresAt = time.Now().Add(time.Hour)
		a := auth.New(newStore(record), nil)
		for _, c := range []struct {
			wait time.Duration
			want string
		}{
			{0, "OK"},
			{time.Hour - 1, "OK"},
			{1, "KEY_EXPIRED"},
			{1, "KEY_EXPIRED"},
			{time.Hour, "KEY_EXPIRED"},
		} {
			time.Sleep(c.wait)
			name := fmt.Sprint(time.Until(record.ExpiresAt), " before the expiry")
			checkRecord(t, "Authenticate, "+name, c.want)(a.Authenticate(requestWith(goodKey)))
			checkRecord(t, "Verify, "+name, c.want)(a.Verify(t.Context(), goodKey))
		}
	})
}

// TestExpiryDuringTheLookup: the state counts as it is after the lookup,
// however long that takes.
func TestExpiryDuringTheLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		record := goodRecord()
		record.ExpiresAt = time.Now().Add(time.Second)
		a := auth.New(storeFunc(func(context.Context, auth.Hash) (*auth.Record, error) {
			time.Sleep(2 * time.Second)
			return &record, nil
		}), nil)
		checkRecord(t, "Authenticate", "KEY_EXPIRED")(a.Authenticate(requestWith(goodKey)))
	})
}

// TestNewPanics: New panics on options that cannot work, and names the call and
// the value, unless the value may be a key.
func TestNewPanics(t *testing.T) {
	store := newStore()
	prefix := func(p string) *auth.Options { return &auth.Options{Scheme: auth.Scheme{Prefix: p}} }
	catalog := func(scopes ...auth.Scope) *auth.Options {
		var c auth.Catalog
		for _, s := range scopes {
			c = append(c, auth.ScopeInfo{Scope: s})
		}
		return &auth.Options{Scheme: auth.Scheme{Catalog: c}}
	}
	hashers := func(list ...auth.Hasher) *auth.Options { return &auth.Options{Scheme: auth.Scheme{Hashers: list}} }
	realm := func(realm string) *auth.Options { return &auth.Options{Realm: realm} }
	base := func(base string) *auth.Options { return &auth.Options{ProblemBase: base} }
	hidden := func(bytes int) string { return fmt.Sprintf("(not shown: %d bytes that may hold a key)", bytes) }
	const (
		prefixRule = " is not 1 to 32 characters of A-Z a-z 0-9 _ -, ending in _"
		scopeRule  = ", which is not a valid scope"
		realmRule  = " holds a control character"
		baseRule   = " is not the start of a URI"
		x32        = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	)
	for _, c := range []struct {
		store auth.Store
		opts  *auth.Options
		want  string
	}{
		{nil, nil, "auth.New: the store is nil"},
		{nil, &auth.Options{}, "auth.New: the store is nil"},
		{(*mapStore)(nil), nil, "auth.New: the store is a nil *auth_test.mapStore"},
		{(*countingStore)(nil), nil, "auth.New: the store is a nil *auth_test.countingStore"},
		{storeFunc(nil), nil, "auth.New: the store is a nil auth_test.storeFunc"},

		{store, prefix("isk"), `auth.New: the prefix "isk"` + prefixRule},
		{store, prefix("-"), `auth.New: the prefix "-"` + prefixRule},
		{store, prefix("i k_"), `auth.New: the prefix "i k_"` + prefixRule},
		{store, prefix("i.k_"), `auth.New: the prefix "i.k_"` + prefixRule},
		{store, prefix("isk_\n"), `auth.New: the prefix "isk_\n"` + prefixRule},
		{store, prefix("é_"), `auth.New: the prefix "é_"` + prefixRule},
		{store, prefix(x32 + "_"), `auth.New: the prefix "` + x32 + `_"` + prefixRule},
		{store, prefix(goodKey), "auth.New: the prefix " + hidden(48) + prefixRule},

		{store, hashers(nil), "auth.New: one of the hashers is nil"},
		{store, hashers(auth.SHA256(nil), nil), "auth.New: one of the hashers is nil"},

		{store, catalog("a.b", "a..b"), `auth.New: the catalog lists "a..b"` + scopeRule},
		{store, catalog(""), `auth.New: the catalog lists ""` + scopeRule},
		{store, catalog("a.b", "a b"), `auth.New: the catalog lists "a b"` + scopeRule},
		{store, catalog("*.a"), `auth.New: the catalog lists "*.a"` + scopeRule},
		{store, catalog(auth.Scope("." + goodKey[4:])), "auth.New: the catalog lists " + hidden(45) + scopeRule},

		{store, realm("a\nb"), `auth.New: the realm "a\nb"` + realmRule},
		{store, realm("a\r"), `auth.New: the realm "a\r"` + realmRule},
		{store, realm("\t"), `auth.New: the realm "\t"` + realmRule},
		{store, realm("a\x00"), `auth.New: the realm "a\x00"` + realmRule},
		{store, realm("\x1b[31m"), `auth.New: the realm "\x1b[31m"` + realmRule},
		{store, realm("\x7f"), `auth.New: the realm "\x7f"` + realmRule},
		{store, realm(goodKey[4:] + "\n"), "auth.New: the realm " + hidden(45) + realmRule},

		{store, base("://x"), `auth.New: the problem base "://x"` + baseRule},
		{store, base("http://a b/"), `auth.New: the problem base "http://a b/"` + baseRule},
		{store, base("/errors/\n"), `auth.New: the problem base "/errors/\n"` + baseRule},
		{store, base("://" + goodKey), "auth.New: the problem base " + hidden(51) + baseRule},

		{store, nil, ""},
		{store, &auth.Options{}, ""},
		{store, prefix("_"), ""},
		{store, prefix(strings.Repeat("x", 31) + "_"), ""},
		{store, prefix("aZ0-9_"), ""},
		{store, catalog(), ""},
		{store, catalog("*", "a.*", "a.b", "admin", "a:b"), ""},
		{store, &auth.Options{Realm: "é ü", ProblemBase: "urn:x:"}, ""},
		{store, &auth.Options{Realm: `"\`, ProblemBase: "/errors/?code="}, ""},
	} {
		got := panicOf(func() { auth.New(c.store, c.opts) })
		if got != c.want {
			t.Errorf("panic %q, want %q", got, c.want)
		}
		if leaks(got, goodKey) {
			t.Errorf("the panic %q holds a key", got)
		}
	}
}

// TestOptionsAreCopied: what the caller does with its Options after New changes
// nothing.
func TestOptionsAreCopied(t *testing.T) {
	hashers := []auth.Hasher{auth.BLAKE2b(nil)}
	catalog := auth.Catalog{{Scope: "a.b"}}
	opts := &auth.Options{
		Scheme:      auth.Scheme{Hashers: hashers, Catalog: catalog},
		Realm:       "one",
		ProblemBase: "/one/",
		Logger:      quiet(),
	}
	a := auth.New(newStore(goodRecord()), opts)
	hashers[0] = nil
	catalog[0].Scope = "x.y"
	decisions := 0
	*opts = auth.Options{
		Scheme:       auth.Scheme{Prefix: "two_", AlsoAccept: func(string) bool { return true }},
		Realm:        "two",
		ProblemBase:  "/two/",
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) bool { return true },
		OnDecision:   func(context.Context, auth.Decision) { decisions++ },
		Logger:       slog.New(panicHandler{}),
	}

	checkRecord(t, "hashers and prefix", "OK")(a.Authenticate(requestWith(goodKey)))
	checkRecord(t, "AlsoAccept", "INVALID_FORMAT")(a.Authenticate(requestWith("x")))
	if got := panicOf(func() { a.Require("a.b") }); got != "" {
		t.Errorf("a scope of the catalog: panic %q", got)
	}
	if got := panicOf(func() { a.Require("x.y") }); got == "" {
		t.Error("a scope that was put into the catalog later: no panic")
	}
	w := serve(a.Middleware(closed(t)), requestWith("x"))
	if got, want := w.Header().Get("WWW-Authenticate"), `Bearer realm="one", error="invalid_token"`; got != want {
		t.Errorf("challenge %s, want %s", got, want)
	}
	if got, want := problemIn(t, w).Type, "/one/unauthorized"; got != want {
		t.Errorf("problem type %s, want %s", got, want)
	}
	if decisions != 0 {
		t.Errorf("a hook that was set later was called %d times", decisions)
	}

	a = auth.New(failingStore(io.ErrUnexpectedEOF), &auth.Options{Logger: quiet()})
	checkRecord(t, "Logger", "STORE_UNAVAILABLE")(a.Authenticate(requestWith(goodKey)))
}

// A panicHandler panics at each log line.
type panicHandler struct{ slog.Handler }

func (panicHandler) Enabled(context.Context, slog.Level) bool { panic("logged") }

// TestNewDoesNotChangeOptions: Options that are shared by two Authenticators
// are not changed by New.
func TestNewDoesNotChangeOptions(t *testing.T) {
	opts := new(auth.Options)
	auth.New(newStore(), opts)
	if !reflect.DeepEqual(opts, new(auth.Options)) {
		t.Errorf("New has changed its Options to %+v", opts)
	}
}

// TestDefaultLogger: without a Logger, it is slog.Default() at the time of the
// call.
func TestDefaultLogger(t *testing.T) {
	a := auth.New(failingStore(io.ErrUnexpectedEOF), nil)
	one := defaultLog(t)
	a.Authenticate(requestWith(goodKey))
	if got := one.String(); strings.Count(got, "unexpected EOF") != 1 {
		t.Errorf("the first default logger wrote %q, want one line", got)
	}
	two := defaultLog(t)
	a.Authenticate(requestWith(goodKey))
	if got := two.String(); strings.Count(got, "unexpected EOF") != 1 {
		t.Errorf("the second default logger wrote %q, want one line", got)
	}
	if got := one.String(); strings.Count(got, "unexpected EOF") != 1 {
		t.Errorf("the first default logger has written again: %q", got)
	}

	own, out := captureLog()
	auth.New(failingStore(io.ErrUnexpectedEOF), &auth.Options{Logger: own}).Authenticate(requestWith(goodKey))
	if got := out.String(); strings.Count(got, "unexpected EOF") != 1 {
		t.Errorf("the own Logger wrote %q, want one line", got)
	}
	if got := two.String(); strings.Count(got, "unexpected EOF") != 1 {
		t.Errorf("the default logger has written with an own Logger: %q", got)
	}
}

// TestReturnedRecordIsACopy: Authenticate and Verify return a copy, which the
// caller may change.
func TestReturnedRecordIsACopy(t *testing.T) {
	stored := scopedRecord("a.b")
	a := auth.New(storeFunc(func(context.Context, auth.Hash) (*auth.Record, error) { return &stored, nil }), nil)
	for name, call := range map[string]func() (auth.Record, error){
		"Authenticate": func() (auth.Record, error) { return a.Authenticate(requestWith(goodKey)) },
		"Verify":       func() (auth.Record, error) { return a.Verify(t.Context(), goodKey) },
		"Authenticate, vouched": func() (auth.Record, error) {
			r := httptest.NewRequest("GET", "/", nil)
			return a.Authenticate(r.WithContext(a.Vouch(t.Context(), stored)))
		},
	} {
		r, err := call()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := scopedRecord("a.b"); !reflect.DeepEqual(r, want) {
			t.Errorf("%s: got %#v, want %#v", name, r, want)
		}
		r.Scopes[0] = "*"
		r.Metadata["env"] = "changed"
		r.Name = "changed"
		if want := scopedRecord("a.b"); !reflect.DeepEqual(stored, want) {
			t.Fatalf("%s: a change of the returned record reached the store", name)
		}
	}
}

// TestAuthenticateVouched: without a Bearer credential, Authenticate accepts
// who was vouched for.
func TestAuthenticateVouched(t *testing.T) {
	a, other := auth.New(newStore(goodRecord()), nil), auth.New(newStore(goodRecord()), nil)
	session := auth.Record{ID: "session_7", Scopes: auth.Scopes{"a.b"}}
	revoked := session
	revoked.RevokedAt = epoch
	for _, c := range []struct {
		name       string
		ctx        context.Context
		credential string
		want, id   string
	}{
		{"vouched", a.Vouch(t.Context(), session), "", "OK", "session_7"},
		{"vouched, another scheme", a.Vouch(t.Context(), session), "Basic x", "OK", "session_7"},
		{"vouched, a good key", a.Vouch(t.Context(), session), "Bearer " + goodKey, "OK", "key_good"},
		{"vouched, a bad key", a.Vouch(t.Context(), session), "Bearer isk_x", "INVALID_KEY", ""},
		{"vouched, revoked", a.Vouch(t.Context(), revoked), "", "KEY_REVOKED", ""},
		{"vouched, revoked, a good key", a.Vouch(t.Context(), revoked), "Bearer " + goodKey, "OK", "key_good"},
		{"vouched by another Authenticator", other.Vouch(t.Context(), session), "", "MISSING_KEY", ""},
		{"not vouched", t.Context(), "", "MISSING_KEY", ""},
	} {
		r := httptest.NewRequest("GET", "/", nil).WithContext(c.ctx)
		r.Header.Set("Authorization", c.credential)
		record, err := a.Authenticate(r)
		if got := codeOf(err); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if record.ID != c.id {
			t.Errorf("%s: the record of %q, want that of %q", c.name, record.ID, c.id)
		}
	}
}

func TestAuthenticateWithoutHeader(t *testing.T) {
	a := auth.New(newStore(goodRecord()), nil)
	checkRecord(t, "the zero Request", "MISSING_KEY")(a.Authenticate(&http.Request{}))
}

func TestVerify(t *testing.T) {
	var last *auth.Decision
	a := auth.New(newStore(goodRecord()), &auth.Options{
		OnDecision: func(_ context.Context, d auth.Decision) { last = &d },
	})
	for _, c := range []struct{ key, want string }{
		{goodKey, "OK"},
		{"", "MISSING_KEY"},
		{" ", "INVALID_FORMAT"},
		{"x", "INVALID_FORMAT"},
		{"Bearer " + goodKey, "INVALID_FORMAT"},
		{" " + goodKey, "INVALID_FORMAT"},
		{goodKey + " ", "INVALID_KEY"},
		{goodKey + "\n", "INVALID_KEY"},
		{goodKey[4:], "INVALID_FORMAT"},
		{goodHash.String(), "INVALID_FORMAT"},
		{"isk_" + goodHash.String(), "INVALID_KEY"},
		{"isk_…U1v2", "INVALID_KEY"},
		{keyOf("A"), "INVALID_KEY"},
	} {
		last = nil
		checkRecord(t, strconv.Quote(c.key), c.want)(a.Verify(t.Context(), c.key))
		if last == nil {
			t.Errorf("%q: no decision", c.key)
			continue
		}
		if last.Request != nil {
			t.Errorf("%q: the Decision has a Request", c.key)
		}
		if got := codeOf(last.Err); got != c.want {
			t.Errorf("%q: the Decision says %s, want %s", c.key, got, c.want)
		}
		if got := last.Step; got != auth.StepAuthenticate {
			t.Errorf("%q: the step is %s, want %s", c.key, got, auth.StepAuthenticate)
		}
	}

	// Verify looks at nothing but the key.
	ctx := a.Vouch(t.Context(), goodRecord())
	checkRecord(t, "vouched, no key", "MISSING_KEY")(a.Verify(ctx, ""))
}

// TestStoreGetsTheContext: the store gets the context of the request, with its
// values.
func TestStoreGetsTheContext(t *testing.T) {
	type tenantKey struct{}
	var got any
	record := goodRecord()
	a := auth.New(storeFunc(func(ctx context.Context, _ auth.Hash) (*auth.Record, error) {
		got = ctx.Value(tenantKey{})
		return &record, nil
	}), nil)
	ctx := context.WithValue(t.Context(), tenantKey{}, "acme")
	for name, call := range map[string]func(){
		"Authenticate": func() { a.Authenticate(requestWith(goodKey).WithContext(ctx)) },
		"Verify":       func() { a.Verify(ctx, goodKey) },
		"Middleware":   func() { serve(a.Middleware(http.NotFoundHandler()), requestWith(goodKey).WithContext(ctx)) },
	} {
		got = nil
		call()
		if got != "acme" {
			t.Errorf("%s: the store found %v in its context, want acme", name, got)
		}
	}
}

func TestBearer(t *testing.T) {
	for _, c := range []struct {
		fields []string
		want   string
	}{
		{[]string{"Bearer x"}, "x"},
		{[]string{"bearer x"}, "x"},
		{[]string{"BEARER x"}, "x"},
		{[]string{"bEaReR x"}, "x"},
		{[]string{"Bearer    x"}, "x"},
		{[]string{"  Bearer x\t "}, "x"},
		{[]string{"\tBearer x"}, "x"},
		{[]string{"Bearer x y"}, "x y"},
		{[]string{"Bearer x,y"}, "x,y"},
		{[]string{"Bearer \tx"}, "\tx"},
		{[]string{`Bearer "x"`}, `"x"`},
		{[]string{"Bearer Bearer x"}, "Bearer x"},
		{[]string{"Bearer x\n"}, "x\n"},
		{[]string{"Bearer x\u00a0 "}, "x\u00a0"},
		{[]string{"Bearer " + goodKey}, goodKey},

		{nil, ""},
		{[]string{""}, ""},
		{[]string{" "}, ""},
		{[]string{"Bearer"}, ""},
		{[]string{"Bearer "}, ""},
		{[]string{"Bearer \t"}, ""},
		{[]string{"Bearer\tx"}, ""},
		{[]string{"Bearerx"}, ""},
		{[]string{"Bearer:x"}, ""},
		{[]string{"Bearers x"}, ""},
		{[]string{"Beare x"}, ""},
		{[]string{"x"}, ""},
		{[]string{"Basic x"}, ""},
		{[]string{"\x02earer x"}, ""}, // the letters without their highest bits
		{[]string{"\"earer x"}, ""},
		{[]string{"Bea\u200brer x"}, ""},
		{[]string{"\u00a0Bearer x"}, ""},
		{[]string{"Bearer\u00a0x"}, ""},
		{[]string{"\nBearer x"}, ""},

		{[]string{"Bearer x", "Bearer y"}, "x, Bearer y"},
		{[]string{"Bearer x", "Bearer x"}, "x, Bearer x"},
		{[]string{"Bearer x", ""}, "x,"},
		{[]string{"Bearer x", "", ""}, "x, ,"},
		{[]string{"Bearer x", "Basic y"}, "x, Basic y"},
		{[]string{"", "Bearer x"}, ""},
		{[]string{" ", "Bearer x"}, ""},
		{[]string{"Basic x", "Bearer y"}, ""},
		{[]string{"Bearer", "x"}, ""},
		{[]string{"", ""}, ""},
	} {
		if got := auth.Bearer(c.fields...); got != c.want {
			t.Errorf("Bearer(%q) = %q, want %q", c.fields, got, c.want)
		}
	}
}

// TestSeveralFieldsAreNoKey: no number of fields, in no order, makes a key of
// several fields.
func TestSeveralFieldsAreNoKey(t *testing.T) {
	a := auth.New(newStore(goodRecord()), nil)
	values := []string{
		"Bearer " + goodKey, "bearer " + goodKey + " ", goodKey,
		"", " ", ",", "Bearer", "Bearer ", "Bearer isk_x", "Basic x",
	}
	tried := 0
	for _, one := range values {
		for _, two := range values {
			for _, fields := range [][]string{{one, two}, {one, two, one}, {one, two, two}, {one, one, two}} {
				tried++
				if key := auth.Bearer(fields...); key == goodKey {
					t.Errorf("Bearer(%q) is the key", fields)
				}
				r := &http.Request{Header: http.Header{"Authorization": fields}}
				if _, err := a.Authenticate(r); err == nil {
					t.Errorf("%q is accepted", fields)
				}
			}
		}
	}
	if tried != 400 {
		t.Errorf("%d combinations, want 400", tried)
	}
}

// TestRefusedAllocations: at most 8 allocations for a refused request, also in
// an outage.
func TestRefusedAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector changes what is allocated")
	}
	outage := fmt.Errorf("lookup: %w", errors.New("failed to connect to `user=api database=keys`: "+
		"127.0.0.1:5432 (127.0.0.1): dial error: dial tcp 127.0.0.1:5432: connect: connection refused"))
	const good = "Bearer " + goodKey
	for _, c := range []struct {
		name          string
		store         auth.Store
		authorization string
		want          int
	}{
		{"missing", newStore(goodRecord()), "", 401},
		{"format", newStore(goodRecord()), "Bearer x", 401},
		{"malformed", newStore(goodRecord()), "Bearer isk_x", 401},
		{"long", newStore(goodRecord()), "Bearer isk_" + strings.Repeat("x", 10_000), 401},
		{"unknown", newStore(goodRecord()), "Bearer " + keyOf("A"), 401},
		{"revoked", newStore(recordIn("revoked", "a.x")), good, 401},
		{"disabled", newStore(recordIn("disabled", "a.x")), good, 401},
		{"expired", newStore(recordIn("expired", "a.x")), good, 401},
		{"scope", newStore(scopedRecord("b.x")), good, 403},
		{"outage", failingStore(outage), good, 503},
		{"canceled by the store", failingStore(context.Canceled), good, 503},
	} {
		for hasherName, hasher := range map[string]auth.Hasher{
			"BLAKE2b": auth.BLAKE2b(nil),
			"SHA256":  auth.SHA256(nil),
		} {
			store := c.store
			if s, ok := store.(*mapStore); ok && hasherName == "SHA256" {
				r := *first(s.Lookup(t.Context(), goodHash))
				r.Hash = hasher(goodKey)
				store = newStore(r)
			}
			a := auth.New(store, &auth.Options{
				Scheme: auth.Scheme{Hashers: []auth.Hasher{hasher}},
				Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
			})
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Authorization", c.authorization)
			for name, h := range map[string]http.Handler{
				"Middleware and Require": a.Middleware(auth.Require("a.x")(closed(t))),
				"Optional and Require":   a.Optional(auth.Require("a.x")(closed(t))),
				"Require":                a.Require("a.x")(closed(t)),
			} {
				name = fmt.Sprintf("%s, %s, %s", c.name, name, hasherName)
				if got := serve(h, r).Code; got != c.want {
					t.Errorf("%s: status %d, want %d", name, got, c.want)
				}
				w := nullWriter{http.Header{}}
				if got := testing.AllocsPerRun(200, func() { h.ServeHTTP(w, r) }); got > 8 {
					t.Errorf("%s: %v allocations, want at most 8", name, got)
				}
			}
		}
	}
}

// TestErrorHandlerUploads checks that the server removes the files of a form that
// an ErrorHandler has parsed. Otherwise any client could fill the disk.
func TestErrorHandlerUploads(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(name, dir)
	}
	files := func() int {
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	file, err := form.CreateFormFile("file", "lease.pdf")
	if err != nil {
		t.Fatal(err)
	}
	file.Write(make([]byte, 11<<20)) // more than ParseMultipartForm keeps in memory
	form.Close()

	a := auth.New(newStore(), &auth.Options{ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) bool {
		if err := r.ParseMultipartForm(1); err != nil {
			t.Errorf("ParseMultipartForm: %v", err)
		}
		if got := files(); got != 1 {
			t.Errorf("%d files while the ErrorHandler runs, want 1", got)
		}
		return false
	}})
	server := httptest.NewServer(a.Middleware(http.NotFoundHandler()))
	response, err := http.Post(server.URL, form.FormDataContentType(), &body)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	server.Close() // returns when the request has ended
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d, want 401", response.StatusCode)
	}
	if got := files(); got != 0 {
		t.Errorf("%d files are left, want 0", got)
	}
}

// A knownError is one that a store has logged itself.
type knownError struct{ logged bool }

func (*knownError) Error() string  { return "the database is down" }
func (e *knownError) Logged() bool { return e.logged }

// An error that the store has logged is not logged again for each request.
func TestFailureThatIsLogged(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{&knownError{true}, "DEBUG"},
		{fmt.Errorf("wrapped: %w", &knownError{true}), "DEBUG"},
		{&knownError{false}, "ERROR"},
		{errors.New("the database is down"), "ERROR"},
	} {
		var log strings.Builder
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		a := auth.New(failingStore(test.err), &auth.Options{Logger: logger})
		a.Verify(t.Context(), goodKey)
		if got := log.String(); !strings.Contains(got, "level="+test.want+" ") {
			t.Errorf("%v: logged as %q, want level %s", test.err, got, test.want)
		}
	}
}
