package auth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
)

// outcomes returns the steps and outcomes in l, such as "authenticate OK".
func outcomes(l *hookLog) string {
	var list []string
	for _, d := range l.list {
		list = append(list, string(d.Step)+" "+codeOf(d.Err))
	}
	return strings.Join(list, ", ")
}

// slow returns a Store whose lookups take that long.
func slow(store auth.Store, wait time.Duration) auth.Store {
	return storeFunc(func(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
		time.Sleep(wait)
		return store.Lookup(ctx, hash)
	})
}

// TestDecision: all that a Decision tells, for each outcome of a.Require.
func TestDecision(t *testing.T) {
	const second = time.Second
	const good = "Bearer " + goodKey
	for _, c := range []struct {
		code          string
		step          auth.Step
		store         auth.Store
		authorization string
		known         bool
		lookups       time.Duration // each takes a second
	}{
		{"OK", "authorize", newStore(scopedRecord("a.*")), good, true, 1},
		{"INSUFFICIENT_SCOPE", "authorize", newStore(scopedRecord("a.x")), good, true, 1},
		{"KEY_REVOKED", "authenticate", newStore(recordIn("revoked", "*")), good, true, 1},
		{"KEY_DISABLED", "authenticate", newStore(recordIn("disabled", "*")), good, true, 1},
		{"KEY_EXPIRED", "authenticate", newStore(scopedRecord("*")), good, true, 1},
		{"INVALID_KEY", "authenticate", newStore(), good, false, 2},
		{"STORE_UNAVAILABLE", "authenticate", failingStore(errors.New("down")), good, false, 1},
		{"INVALID_KEY", "authenticate", newStore(), "Bearer isk_x", false, 0},
		{"INVALID_FORMAT", "authenticate", newStore(), "Bearer x", false, 0},
		{"MISSING_KEY", "authenticate", newStore(), "", false, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			if c.code == "KEY_EXPIRED" {
				record := scopedRecord("*")
				record.ExpiresAt = time.Now()
				c.store = newStore(record)
			}
			var decisions hookLog
			a := auth.New(slow(c.store, second), &auth.Options{
				Scheme:     auth.Scheme{Hashers: []auth.Hasher{auth.BLAKE2b(nil), auth.SHA256(nil)}},
				Logger:     quiet(),
				OnDecision: decisions.add,
			})
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Authorization", c.authorization)
			serve(a.Require("a.x", "a.y")(http.NotFoundHandler()), r)
			if n := len(decisions.list); n != 1 {
				t.Fatalf("%s: %d decisions, want 1", c.code, n)
			}
			d := decisions.list[0]
			if d.Step != c.step {
				t.Errorf("%s: step %q, want %q", c.code, d.Step, c.step)
			}
			if got := codeOf(d.Err); got != c.code {
				t.Errorf("%s: the error is %s", c.code, got)
			}
			wantCode := c.code
			if wantCode == "OK" {
				wantCode = ""
			}
			if d.Code != wantCode {
				t.Errorf("%s: Code %q, want %q", c.code, d.Code, wantCode)
			}
			if want := c.lookups * second; d.Lookup != want {
				t.Errorf("%s: Lookup %v, want %v", c.code, d.Lookup, want)
			}
			if !d.Time.Equal(time.Now()) {
				t.Errorf("%s: Time %v, want %v", c.code, d.Time, time.Now())
			}
			if d.Request != r {
				t.Errorf("%s: Request %p, want %p", c.code, d.Request, r)
			}
			if got, want := d.Required(), (auth.Scopes{"a.x", "a.y"}); !slices.Equal(got, want) {
				t.Errorf("%s: Required %v, want %v", c.code, got, want)
			}
			record, known := d.Record()
			if known != c.known {
				t.Errorf("%s: the record is known: %v, want %v", c.code, known, c.known)
			}
			wantID := ""
			if c.known {
				wantID = "key_good"
			}
			if record.ID != wantID {
				t.Errorf("%s: the record of %q, want that of %q", c.code, record.ID, wantID)
			}
			if got := d.KeyID(); got != wantID {
				t.Errorf("%s: KeyID %q, want %q", c.code, got, wantID)
			}
		})
	}
}

// TestDecisionLookup: Lookup is 0 only if the store was not asked, however fast
// it is.
func TestDecisionLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // here a lookup takes no time at all
		var decisions hookLog
		a := auth.New(newStore(goodRecord()), &auth.Options{OnDecision: decisions.add})
		api := a.Middleware(auth.Require("a.x")(http.NotFoundHandler()))
		serve(api, requestWith(goodKey))
		serve(api, requestWith("isk_x"))
		serve(api, requestWith(keyOf("A")))
		serve(a.Middleware(http.NotFoundHandler()),
			httptest.NewRequest("GET", "/", nil).WithContext(a.Vouch(t.Context(), goodRecord())))
		a.Verify(t.Context(), "")
		a.Verify(t.Context(), goodKey)
		want := []struct {
			name  string
			asked bool
		}{
			{"authenticated", true},
			{"authorized after that", false},
			{"malformed", false},
			{"unknown", true},
			{"vouched", false},
			{"Verify without a key", false},
			{"Verify", true},
		}
		if len(decisions.list) != len(want) {
			t.Fatalf("%d decisions, want %d: %s", len(decisions.list), len(want), outcomes(&decisions))
		}
		for i, d := range decisions.list {
			if got := d.Lookup != 0; got != want[i].asked {
				t.Errorf("%s: Lookup %v, but the store was asked: %v", want[i].name, d.Lookup, want[i].asked)
			}
		}
	})
}

// TestDecisionForEachCall: each call that decides about a key tells OnDecision
// once, and no other does.
func TestDecisionForEachCall(t *testing.T) {
	var decisions hookLog
	opts := &auth.Options{OnDecision: decisions.add, Logger: quiet()}
	a := auth.New(newStore(scopedRecord("a.x")), opts)
	session := auth.Record{ID: "session_7", Scopes: auth.Scopes{"a.x"}}
	do := func(f func(ctx context.Context)) wrapper { // f does something inside
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				f(r.Context())
				next.ServeHTTP(w, r)
			})
		}
	}
	authorize := func(scope auth.Scope) wrapper {
		return do(func(ctx context.Context) { auth.Authorize(ctx, scope) })
	}
	inside := func(more ...wrapper) []wrapper { return append([]wrapper{a.Middleware}, more...) }
	const ok = "authenticate OK"
	vouch := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(a.Vouch(r.Context(), session)))
		})
	}
	defaultLog(t) // Require without Middleware logs
	unknown := keyOf("A")
	for _, c := range []struct {
		name  string
		key   string
		wraps []wrapper // outermost first
		want  string
	}{
		{"Middleware", goodKey, inside(), ok},
		{"Middleware, bad key", "x", inside(), "authenticate INVALID_FORMAT"},
		{"Middleware, no key", "", inside(), "authenticate MISSING_KEY"},
		{"Middleware and Require", goodKey, inside(auth.Require("a.x")), ok + ", authorize OK"},
		{"Middleware and Require, no scope", goodKey, inside(auth.Require("b.x")),
			ok + ", authorize INSUFFICIENT_SCOPE"},
		{"Middleware and Require, bad key", unknown, inside(auth.Require("a.x")), "authenticate INVALID_KEY"},
		{"Middleware and RequireAny", goodKey, inside(auth.RequireAny("b.x", "a.x")), ok + ", authorize OK"},
		{"Middleware and a.Require", goodKey, inside(a.Require("a.x")), ok + ", authorize OK"},
		{"a.Require", goodKey, []wrapper{a.Require("a.x")}, "authorize OK"},
		{"a.Require, no scope", goodKey, []wrapper{a.Require("b.x")}, "authorize INSUFFICIENT_SCOPE"},
		{"a.Require, bad key", unknown, []wrapper{a.Require("a.x")}, "authenticate INVALID_KEY"},
		{"a.Require, no key", "", []wrapper{a.Require("a.x")}, "authenticate MISSING_KEY"},
		{"a.RequireAny", goodKey, []wrapper{a.RequireAny("a.x")}, "authorize OK"},
		{"a.Require and a.Require", goodKey, []wrapper{a.Require("a.x"), a.Require("a.x")},
			"authorize OK, authorize OK"},
		{"a.Require and Require", goodKey, []wrapper{a.Require("a.x"), auth.Require("b.x")},
			"authorize OK, authorize INSUFFICIENT_SCOPE"},
		{"Optional", goodKey, []wrapper{a.Optional}, "authenticate OK"},
		{"Optional, bad key", unknown, []wrapper{a.Optional}, "authenticate INVALID_KEY"},
		{"Optional, no key", "", []wrapper{a.Optional}, ""},
		{"Optional and Require", goodKey, []wrapper{a.Optional, auth.Require("a.x")}, "authenticate OK, authorize OK"},
		{"Optional and Require, no key", "", []wrapper{a.Optional, auth.Require("a.x")}, "authenticate MISSING_KEY"},
		{"Optional and a.Require, no key", "", []wrapper{a.Optional, a.Require("a.x")}, "authenticate MISSING_KEY"},
		{"vouched, Middleware", "", []wrapper{vouch, a.Middleware}, "authenticate OK"},
		{"vouched, Middleware, bad key", unknown, []wrapper{vouch, a.Middleware}, "authenticate INVALID_KEY"},
		{"vouched, Optional", "", []wrapper{vouch, a.Optional}, "authenticate OK"},
		{"vouched, a.Require", "", []wrapper{vouch, a.Require("a.x")}, "authorize OK"},
		{"vouched, Require", "", []wrapper{vouch, auth.Require("a.x")}, "authorize OK"},
		{"Vouch decides nothing", "", []wrapper{vouch}, ""},
		{"Require without Middleware", goodKey, []wrapper{auth.Require("a.x")}, ""},
		{"FromContext", goodKey, inside(do(func(ctx context.Context) { auth.FromContext(ctx) })), ok},
		{"Authorize", goodKey, inside(authorize("a.x")), ok + ", authorize OK"},
		{"Authorize, no scope", goodKey, inside(authorize("b.x")), ok + ", authorize INSUFFICIENT_SCOPE"},
		{"Authorize, no key", "", []wrapper{a.Optional, authorize("a.x")}, "authenticate MISSING_KEY"},
		{"Authorize, invalid scope", goodKey, inside(authorize("a b")), ok},
		{"AuthorizeAny", goodKey, inside(do(func(ctx context.Context) { auth.AuthorizeAny(ctx, "b.x", "a.x") })),
			ok + ", authorize OK"},
		{"Recheck", goodKey, inside(do(func(ctx context.Context) { auth.Recheck(ctx) })), ok + ", recheck OK"},
		{"Authenticate", "", []wrapper{do(func(context.Context) { a.Authenticate(requestWith(goodKey)) })}, ok},
		{"Authenticate, bad key", "", []wrapper{do(func(context.Context) { a.Authenticate(requestWith("x")) })},
			"authenticate INVALID_FORMAT"},
		{"Verify", "", []wrapper{do(func(ctx context.Context) { a.Verify(ctx, goodKey) })}, ok},
		{"Verify, no key", "", []wrapper{do(func(ctx context.Context) { a.Verify(ctx, "") })},
			"authenticate MISSING_KEY"},
		{"ProblemFor, Code and Challenge", "", []wrapper{do(func(context.Context) {
			auth.ProblemFor(auth.ErrInvalidKey)
			auth.Code(auth.ErrInvalidKey)
			auth.Challenge(auth.ErrInvalidKey)
		})}, ""},
	} {
		decisions.list = nil
		h := nest(http.NotFoundHandler(), c.wraps...)
		r := httptest.NewRequest("GET", "/", nil)
		if c.key != "" {
			r = requestWith(c.key)
		}
		serve(h, r)
		if got := outcomes(&decisions); got != c.want {
			t.Errorf("%s: decisions %q, want %q", c.name, got, c.want)
		}
	}
}

// TestDecisionRequest: which request each of the decisions of one request is
// about, and with which context the hook is called.
func TestDecisionRequest(t *testing.T) {
	type contextKey struct{}
	var requests []*http.Request
	var values []any
	a := auth.New(newStore(goodRecord()), &auth.Options{OnDecision: func(ctx context.Context, d auth.Decision) {
		requests = append(requests, d.Request)
		values = append(values, ctx.Value(contextKey{}))
	}})
	var inner *http.Request
	outer := requestWith(goodKey)
	outer = outer.WithContext(context.WithValue(outer.Context(), contextKey{}, "value"))
	serve(a.Middleware(auth.Require("a.x")(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		inner = r
		auth.Authorize(r.Context(), "a.x")
		auth.Recheck(r.Context())
	}))), outer)
	a.Verify(outer.Context(), goodKey)
	auth.Authorize(a.Vouch(outer.Context(), goodRecord()), "a.x")
	want := []*http.Request{outer, inner, inner, nil, nil, nil}
	calls := []string{"Middleware", "Require", "Authorize", "Recheck", "Verify", "Authorize outside a request"}
	for i, call := range calls {
		if i >= len(requests) {
			t.Errorf("%s: no decision", call)
			continue
		}
		if requests[i] != want[i] {
			t.Errorf("%s: Request %p, want %p", call, requests[i], want[i])
		}
		if values[i] != "value" {
			t.Errorf("%s: the context of the hook holds %v, want the value of the caller", call, values[i])
		}
	}
}

// TestDecisionRequired: Middleware tells no scopes, for it knows none. Require
// does.
func TestDecisionRequired(t *testing.T) {
	var decisions hookLog
	a := auth.New(newStore(scopedRecord("a.x")), &auth.Options{OnDecision: decisions.add})
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { auth.Authorize(r.Context(), "d.x") })
	serve(a.Middleware(auth.RequireAny("b.x", "a.x")(h)), requestWith(goodKey))
	want := []auth.Scopes{nil, {"b.x", "a.x"}, {"d.x"}}
	if len(decisions.list) != len(want) {
		t.Fatalf("%d decisions, want %d", len(decisions.list), len(want))
	}
	for i, d := range decisions.list {
		if got := d.Required(); !reflect.DeepEqual(got, want[i]) {
			t.Errorf("decision %d: Required %#v, want %#v", i, got, want[i])
		}
	}
}

// TestDecisionComesFirst: the hook is called before the request is passed on or
// answered.
func TestDecisionComesFirst(t *testing.T) {
	for _, c := range []struct{ key, want string }{
		{goodKey, "told, told, called"},
		{"x", "told, answered"},
		{"", "told, answered"},
	} {
		var events []string
		a := auth.New(newStore(scopedRecord("a.x")), &auth.Options{
			OnDecision: func(context.Context, auth.Decision) { events = append(events, "told") },
			ErrorHandler: func(http.ResponseWriter, *http.Request, error) bool {
				events = append(events, "answered")
				return true
			},
		})
		h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { events = append(events, "called") })
		serve(a.Middleware(auth.Require("a.x")(h)), requestWith(c.key))
		if got := strings.Join(events, ", "); got != c.want {
			t.Errorf("key %q: %s, want %s", c.key, got, c.want)
		}
	}
}

// TestDecisionReturnsCopies: what the hook does with what a Decision returns
// changes nothing.
func TestDecisionReturnsCopies(t *testing.T) {
	stored := scopedRecord("a.x")
	store := storeFunc(func(context.Context, auth.Hash) (*auth.Record, error) { return &stored, nil })
	calls := 0
	var h http.Handler
	a := auth.New(store, &auth.Options{OnDecision: func(_ context.Context, d auth.Decision) {
		calls++
		for range 2 {
			record, _ := d.Record()
			if want := scopedRecord("a.x"); !reflect.DeepEqual(record, want) {
				t.Errorf("call %d: the record %#v, want %#v", calls, record, want)
			}
			record.ID = "changed"
			record.Scopes[0] = "*"
			record.Metadata["env"] = "changed"
			required := d.Required()
			if want := (auth.Scopes{"b.x", "c.x"}); required != nil && !slices.Equal(required, want) {
				t.Errorf("call %d: Required %v, want %v", calls, required, want)
			}
			for i := range required {
				required[i] = "a.x"
			}
		}
	}})
	for name, wrap := range map[string]func(http.Handler) http.Handler{
		"a.Require": a.Require("b.x", "c.x"),
		"Middleware and Require": func(next http.Handler) http.Handler {
			return a.Middleware(auth.Require("b.x", "c.x")(next))
		},
	} {
		h = wrap(closed(t))
		for range 3 {
			if got := serve(h, requestWith(goodKey)).Code; got != http.StatusForbidden {
				t.Errorf("%s: status %d, want 403", name, got)
			}
		}
	}
	if calls != 3+6 {
		t.Errorf("%d decisions, want 9", calls)
	}
	if want := scopedRecord("a.x"); !reflect.DeepEqual(stored, want) {
		t.Errorf("the stored record is now %#v, want %#v", stored, want)
	}
}

func TestZeroDecision(t *testing.T) {
	var d auth.Decision
	if got := d.KeyID(); got != "" {
		t.Errorf("KeyID %q, want none", got)
	}
	record, known := d.Record()
	if known {
		t.Error("the record is known")
	}
	if !reflect.DeepEqual(record, auth.Record{}) {
		t.Errorf("the record is %#v, want the zero Record", record)
	}
	if got := d.Required(); got != nil {
		t.Errorf("Required %v, want nil", got)
	}
	if got, want := d.String(), `step="" outcome=OK lookup=0s`; got != want {
		t.Errorf("String %s, want %s", got, want)
	}
}

// TestDecisionOfTheHost: a Decision that a host makes, in a test of its hook,
// prints the code of Err.
func TestDecisionOfTheHost(t *testing.T) {
	for _, c := range []struct {
		d    auth.Decision
		want string
	}{
		{auth.Decision{Step: auth.StepRecheck}, "step=recheck outcome=OK lookup=0s"},
		{auth.Decision{Step: "authorize", Err: auth.ErrKeyRevoked}, "step=authorize outcome=KEY_REVOKED lookup=0s"},
		{auth.Decision{Step: "authorize", Err: auth.ErrKeyRevoked, Code: "X"}, "step=authorize outcome=X lookup=0s"},
		{auth.Decision{Step: "a b", Lookup: time.Second}, `step="a b" outcome=OK lookup=1s`},
	} {
		if got := c.d.String(); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

// decisionsOf returns decisions of each kind, about requests that hold goodKey.
func decisionsOf(t *testing.T, change func(r *auth.Record)) map[string]auth.Decision {
	t.Helper()
	all := make(map[string]auth.Decision)
	for name, store := range map[string]auth.Store{
		"accepted": newStore(scopedRecord("a.x")),
		"scope":    newStore(scopedRecord("b.x")),
		"revoked":  newStore(recordIn("revoked", "a.x")),
		"disabled": newStore(recordIn("disabled", "a.x")),
		"expired":  newStore(recordIn("expired", "a.x")),
		"unknown":  newStore(),
		"outage":   failingStore(fmt.Errorf("no row with %v for %s", goodHash, goodKey)),
	} {
		if s, ok := store.(*mapStore); ok && change != nil && name != "unknown" {
			r := *first(s.Lookup(t.Context(), goodHash))
			change(&r)
			s.put(r)
		}
		var decisions hookLog
		a := auth.New(store, &auth.Options{OnDecision: decisions.add, Logger: quiet()})
		r := requestWith(goodKey)
		r.URL.RawQuery = "key=" + goodKey
		r.Header.Set("X-Api-Key", goodKey)
		serve(a.Require("a.x")(http.NotFoundHandler()), r)
		a.Verify(t.Context(), goodKey)
		all[name] = decisions.list[0]
		all[name+", Verify"] = decisions.list[1]
	}
	if got, want := all["accepted"].Request.Header.Get("Authorization"), "Bearer "+goodKey; got != want {
		t.Fatalf("the request of a Decision holds %q, want %q", got, want)
	}
	return all
}

// spellings returns d as fmt, slog and JSON print it, also inside other values.
// The keys say how.
func spellings(t *testing.T, d auth.Decision) map[string]string {
	t.Helper()
	texts := make(map[string]string)
	values := map[string]any{
		"value":            d,
		"pointer":          &d,
		"field":            struct{ D auth.Decision }{d},
		"pointer field":    struct{ D *auth.Decision }{&d},
		"unexported field": struct{ d auth.Decision }{d},
		"slice":            []auth.Decision{d},
		"map":              map[string]auth.Decision{"d": d},
		"any":              []any{d, &d},
		"error":            d.Err,
	}
	for name, v := range values {
		verbs := []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%p", "%T", "%c"}
		if name == "unexported field" {
			verbs = verbs[:3] // another verb makes fmt print what the Request holds
		}
		for _, verb := range verbs {
			texts["fmt "+verb+" of "+name] = fmt.Sprintf(verb, v)
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Errorf("JSON of %s: %v", name, err)
		}
		texts["JSON of "+name] = string(text)
		var out bytes.Buffer
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		texts["slog text of "+name] = out.String()
		out.Reset()
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
		texts["slog JSON of "+name] = out.String()
	}
	return texts
}

// TestDecisionPrintsNoSecret: however a Decision is printed, it shows neither
// the key, which its Request holds, nor its hash.
func TestDecisionPrintsNoSecret(t *testing.T) {
	for name, d := range decisionsOf(t, nil) {
		texts := spellings(t, d)
		all := strings.Join(slices.Collect(maps.Values(texts)), "\n")
		if leaksAnyhow(all, goodKey) {
			t.Errorf("%s: the key is in what is printed", name)
		}
		if leaksHash(all, goodHash) {
			t.Errorf("%s: the hash is in what is printed", name)
		}
		for how, text := range texts {
			if text == "" {
				t.Errorf("%s, %s: nothing is printed", name, how)
			}
			if t.Failed() && (leaksAnyhow(text, goodKey) || leaksHash(text, goodHash)) {
				t.Logf("%s, %s: %.300s", name, how, text)
			}
		}
	}
}

// TestDecisionPrints: a Decision prints what an operator needs.
func TestDecisionPrints(t *testing.T) {
	const key = ` key.id=key_good key.hint=isk_…U1v2 key.name="Production Backend" key.owner=org_1`
	synctest.Test(t, func(t *testing.T) {
		all := decisionsOf(t, nil)
		for name, want := range map[string]string{
			"accepted":         "step=authorize outcome=OK lookup=1ns required=a.x" + key,
			"scope":            "step=authorize outcome=INSUFFICIENT_SCOPE lookup=1ns required=a.x" + key,
			"revoked":          "step=authenticate outcome=KEY_REVOKED lookup=1ns required=a.x" + key,
			"disabled":         "step=authenticate outcome=KEY_DISABLED lookup=1ns required=a.x" + key,
			"expired":          "step=authenticate outcome=KEY_EXPIRED lookup=1ns required=a.x" + key,
			"unknown":          "step=authenticate outcome=INVALID_KEY lookup=1ns required=a.x",
			"outage":           "step=authenticate outcome=STORE_UNAVAILABLE lookup=1ns required=a.x",
			"accepted, Verify": "step=authenticate outcome=OK lookup=1ns" + key,
			"unknown, Verify":  "step=authenticate outcome=INVALID_KEY lookup=1ns",
			"disabled, Verify": "step=authenticate outcome=KEY_DISABLED lookup=1ns" + key,
		} {
			d := all[name]
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
				if got := fmt.Sprintf(verb, d); got != want {
					t.Errorf("%s, %s: got %s, want %s", name, verb, got, want)
				}
			}
			if got := d.String(); got != want {
				t.Errorf("%s, String: got %s, want %s", name, got, want)
			}
			var out bytes.Buffer
			slog.New(slog.NewTextHandler(&out, nil)).Info("m", "", d)
			if got := out.String(); !strings.HasSuffix(got, " msg=m "+want+"\n") {
				t.Errorf("%s, slog: got %s, want %s", name, got, want)
			}
		}
	})
}

// TestDecisionPrintsSeveralScopes: several required scopes are one value.
func TestDecisionPrintsSeveralScopes(t *testing.T) {
	var decisions hookLog
	a := auth.New(newStore(scopedRecord("*")), &auth.Options{OnDecision: decisions.add})
	serve(a.Require("a.x", "b.x")(http.NotFoundHandler()), requestWith(goodKey))
	if got, want := decisions.list[0].String(), ` required="a.x b.x" `; !strings.Contains(got, want) {
		t.Errorf("got %s, want it to contain %s", got, want)
	}
}

// quoted finds the values in quotes of what Decision.String returns.
var quoted = regexp.MustCompile(`"(\\.|[^"\\])*"`)

// unprintable reports whether c can end a line, or change how a line looks.
func unprintable(c rune) bool {
	return c < ' ' || c == 0x7f || strings.ContainsRune("\u0085\u2028\u2029\u202e", c)
}

// TestDecisionWithLineBreaks: no text in a record can forge a line, a field, or
// a color in a log.
func TestDecisionWithLineBreaks(t *testing.T) {
	for _, text := range []string{
		"a\nlevel=INFO msg=\"all is well\"",
		"a\r\nb",
		"a\rb",
		"a\u2028b\u2029c\u0085d",
		"a\vb\fc",
		"a\x1b[2Kb",
		"a\u202eb", // right-to-left override
		"a\x00b\x7fc",
		"a\xffb",
		`a" outcome=OK x="`,
		"a outcome=OK",
		"a=b",
		"",
	} {
		all := decisionsOf(t, func(r *auth.Record) {
			r.ID, r.Name, r.Owner, r.Hint = "id"+text, "name"+text, "owner"+text, "hint"+text
		})
		for _, name := range []string{"accepted", "revoked, Verify"} {
			d := all[name]
			for how, got := range spellings(t, d) {
				if strings.HasSuffix(how, " of error") {
					continue // it holds nothing of the record
				}
				got = strings.TrimSuffix(got, "\n")
				if strings.HasPrefix(how, "slog JSON") || strings.HasPrefix(how, "JSON") {
					// RFC 8259 section 7 demands fewer escapes.
					if strings.ContainsAny(got, "\n\r\x00\x1b") {
						t.Errorf("%s, %s: %q holds a control character", name, how, got)
					}
					continue
				}
				if i := strings.IndexFunc(got, unprintable); i >= 0 {
					t.Errorf("%s, %s: %q holds a control character at %d", name, how, got, i)
				}
			}
			if got := strings.Count(quoted.ReplaceAllString(d.String(), ""), " outcome="); got != 1 {
				t.Errorf("%s: %s has %d outcomes, want 1", name, d, got)
			}
		}
	}
}

// TestDecisionJSON: the JSON of a Decision has no Request, and so no header.
func TestDecisionJSON(t *testing.T) {
	for name, d := range decisionsOf(t, nil) {
		text, err := json.Marshal(d)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var members map[string]any
		if err := json.Unmarshal(text, &members); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, ok := members["Request"]; ok {
			t.Errorf("%s: the JSON %s has a Request", name, text)
		}
		if got := members["Step"]; got != string(d.Step) {
			t.Errorf("%s: Step %v, want %s", name, got, d.Step)
		}
		if got := members["Code"]; got != d.Code {
			t.Errorf("%s: Code %v, want %s", name, got, d.Code)
		}
	}
}
