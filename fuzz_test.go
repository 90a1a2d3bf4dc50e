package auth_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/insigner/auth"
)

// The references below are written from DESIGN.md, not from the code that they judge: regular expressions and
// strings.Split, slow and plain.
var (
	plainBearer = regexp.MustCompile(`\A[Bb][Ee][Aa][Rr][Ee][Rr] +([^ ](?s:.*))\z`)
	plainSecret = regexp.MustCompile(`\A[A-Za-z0-9_-]{44}\z`)
	plainPrefix = regexp.MustCompile(`\A[A-Za-z0-9_-]{0,31}_\z`)
	plainHash   = regexp.MustCompile(`\A[0-9a-fA-F]{64}\z`)
	plainScope  = regexp.MustCompile(`\A(?:\*|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.(?:\*|[a-z0-9_-]+))\z`)
)

// plainCredential returns what the fields present to be checked, and whether the store is to be asked about it.
func plainCredential(fields []string) (string, error) {
	if len(fields) == 0 {
		return "", auth.ErrMissingKey
	}
	m := plainBearer.FindStringSubmatch(strings.Trim(strings.Join(fields, ","), " \t"))
	if m == nil {
		return "", auth.ErrMissingKey
	}
	return m[1], plainParse("isk_", m[1])
}

func plainParse(prefix, s string) error {
	secret, ok := strings.CutPrefix(s, prefix)
	switch {
	case !ok:
		return auth.ErrInvalidFormat
	case !plainSecret.MatchString(secret):
		return auth.ErrInvalidKey
	}
	return nil
}

func plainCovers(s, required string) bool {
	if !plainScope.MatchString(s) || !plainScope.MatchString(required) {
		return false
	}
	if s == "*" {
		return true
	}
	have, want := strings.Split(s, "."), strings.Split(required, ".")
	for i, segment := range have {
		if segment == "*" {
			return i < len(want)
		}
		if i >= len(want) || segment != want[i] {
			return false
		}
	}
	return len(have) == len(want)
}

// FuzzAuthorization: Authenticate says of any field values what the plain parser says, asks the store exactly when
// it should, and says the same of the fields when a proxy has joined them.
func FuzzAuthorization(f *testing.F) {
	for _, s := range []string{"", "Bearer", "Bearer ", "Bearer " + goodKey, "bEARER   " + goodKey + " \t", "Bearer\t" + goodKey,
		"Basic aXNrXzp4", "Bearer isk_", "Bearer isk_short", "Bearer ISK_" + goodKey[4:], "Bearer " + goodKey + ",",
		"Bearer, " + goodKey, "Bearer \t" + goodKey, "Bearer " + goodKey[:47] + "=", "\u212aearer x", "Bearer \xff", "bearer isk_\n"} {
		f.Add(s, "", uint8(1))
		f.Add(s, s, uint8(2))
		f.Add(s, "", uint8(2))
		f.Add("", s, uint8(2))
	}
	f.Add("", "", uint8(0))
	store := &countingStore{Store: newStore(goodRecord())}
	a := auth.New(store, nil)
	ask := func(fields ...string) (calls int64, err error) {
		before := store.calls.Load()
		r := &http.Request{Method: "GET", Header: http.Header{}}
		if fields != nil {
			r.Header["Authorization"] = fields
		}
		record, err := a.Authenticate(r)
		if (err == nil) != (record.ID != "") {
			panic("a record beside an error, or neither")
		}
		return store.calls.Load() - before, err
	}
	f.Fuzz(func(t *testing.T, v1, v2 string, n uint8) {
		fields := []string{v1, v2}[:n%3]
		calls, err := ask(fields...)
		credential, want := plainCredential(fields)
		wantCalls := int64(0)
		if want == nil {
			wantCalls = 1
			if credential != goodKey {
				want = auth.ErrInvalidKey
			}
		}
		if !errors.Is(err, want) || calls != wantCalls {
			t.Errorf("%q: %v with %d calls to the store, want %v with %d", fields, err, calls, want, wantCalls)
		}
		if len(fields) > 1 {
			if err == nil {
				t.Errorf("%q: two fields, and success", fields)
			}
			for _, sep := range []string{",", ", "} {
				if _, joined := ask(v1 + sep + v2); !errors.Is(joined, errors.Unwrap(err)) {
					t.Errorf("%q: %v, but joined by %q: %v", fields, err, sep, joined)
				}
			}
		}
	})
}

// FuzzParseKey: a key parses just if the plain reference says so, comes back from Reveal as it went in, and shows
// nothing but its hint; a refusal quotes nothing; a format is refused just if its prefix is none.
func FuzzParseKey(f *testing.F) {
	for _, prefix := range []string{"", "isk_", "acme_live_", "_", "x", "a b_", strings.Repeat("p", 31) + "_", strings.Repeat("p", 32) + "_"} {
		for _, s := range []string{"", prefix, prefix + goodKey[4:], prefix + goodKey[5:], prefix + goodKey[4:] + "x",
			"x" + prefix + goodKey[4:], prefix + strings.Repeat("\u00e9", 22), prefix + goodKey[4:47] + "=", prefix + goodKey[4:47] + "\n"} {
			f.Add(prefix, s)
		}
	}
	f.Fuzz(func(t *testing.T, prefix, s string) {
		format := auth.KeyFormat{Prefix: prefix}
		if prefix != "" && !plainPrefix.MatchString(prefix) {
			if message := panicOf(func() { format.ParseKey(s) }); !strings.HasPrefix(message, "auth.KeyFormat.ParseKey: ") {
				t.Errorf("prefix %q: panic %q", prefix, message)
			}
			return
		}
		want := plainParse(orElse(prefix, "isk_"), s)
		k, err := format.ParseKey(s)
		if err != want {
			t.Fatalf("%q.ParseKey(%q): %v, want %v", prefix, s, err, want)
		}
		if err != nil {
			if k != (auth.Key{}) {
				t.Errorf("a Key beside %v", err)
			}
			return
		}
		if k.Reveal() != s || k.Hint() != orElse(prefix, "isk_")+"…"+s[len(s)-4:] || k.String() != k.Hint() {
			t.Errorf("ParseKey(%q): Reveal %q, Hint %q", s, k.Reveal(), k.Hint())
		}
	})
}

// FuzzCovers: Covers, Allow and ParseScope agree with a reference that goes segment by segment, whatever the text.
func FuzzCovers(f *testing.F) {
	texts := []string{"*", "", ".", "documents", "documents.*", "documents.read", "documentsx.read", "documents.fields.read",
		"documents.fields.*", "documents.", ".read", "*.read", "documents.*.read", "documents..read", "documents.re*",
		"Documents.read", "bulk_sends.read", "a.b.c.d.e", "a-b.*", "documents.read ", "**", ".*", "*.*", "documents.\u0072ead"}
	for _, a := range texts {
		for _, b := range texts {
			f.Add(a, b)
		}
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		want := plainCovers(a, b)
		if got := auth.Scope(a).Covers(auth.Scope(b)); got != want {
			t.Errorf("%q covers %q: %v, want %v", a, b, got, want)
		}
		if got := (auth.Scopes{"other.scope", auth.Scope(a)}).Allow(auth.Scope(b)); got != (want || b == "other.scope") {
			t.Errorf("%q allow %q: %v, want %v", a, b, got, want)
		}
		if got, err := auth.ParseScope(a); (err == nil) != plainScope.MatchString(a) || err == nil && string(got) != a {
			t.Errorf("ParseScope(%q): %q, %v", a, got, err)
		}
	})
}

// FuzzProblem: a Problem survives JSON, and what a client reads off a refusal is what ProblemFor says of its error,
// with the realm as the host gave it.
func FuzzProblem(f *testing.F) {
	f.Add("api", "https://docs.insigner.com/errors/", "documents.delete", "/r/1", uint8(0))
	f.Add(`a"b\c`, "/errors/", "a.b", "", uint8(1))
	f.Add("caf\u00e9 \u2028<&>", "urn:x:", "*", "x\u0000y", uint8(2))
	f.Add("", "", "documents.*", "\\", uint8(3))
	f.Add("a\x7fb", "://", "none", "", uint8(4))
	f.Add("\xff", "%zz", "a.b-c_d.*", "", uint8(5))
	f.Fuzz(func(t *testing.T, realm, base, scope, text string, kind uint8) {
		p := auth.Problem{Type: base, Title: realm, Status: int(kind), Detail: text, Instance: scope, Code: text}
		if scope != "" {
			p.RequiredScopes = auth.Scopes{auth.Scope(scope), auth.Scope(text)}
		}
		if utf8.ValidString(realm + "." + base + "." + scope + "." + text) {
			b, err := json.Marshal(p)
			var back auth.Problem
			if err != nil || json.Unmarshal(b, &back) != nil || !reflect.DeepEqual(back, p) {
				t.Errorf("%+v became %s, %v and %+v", p, b, err, back)
			}
		}

		var refusal error
		var a *auth.Authenticator
		opts := &auth.Options{Realm: realm, ProblemBase: base, ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			refusal = err
			auth.WriteProblem(w, r, err)
		}}
		if panicOf(func() { a = auth.New(newStore(scopedRecord("other.scope")), opts) }) != "" {
			return // refused at start-up: auth_test.go says when
		}
		if _, err := auth.ParseScope(scope); err != nil {
			scope = "documents.read"
		}
		never := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })
		r := httptest.NewRequest("GET", "/", nil)
		value := []string{"", "Bearer x", "Bearer isk_x", "Bearer " + goodKey}[kind%4]
		r.Header.Set("Authorization", value)
		if scope == "other.scope" {
			scope += ".not"
		}
		w := httptest.NewRecorder()
		a.Require(auth.Scope(scope))(never).ServeHTTP(w, r)

		want := auth.ProblemFor(refusal)
		var got auth.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if utf8.ValidString(base) && !reflect.DeepEqual(got, want) {
			t.Errorf("the client reads %+v of %+v", got, want)
		}
		wantStatus := 401
		if kind%4 == 3 {
			wantStatus = 403
		}
		if w.Code != wantStatus || want.Status != wantStatus {
			t.Errorf("status %d, and %d in the body; want %d", w.Code, want.Status, wantStatus)
		}
		if got, ok := realmOf(w.Header().Get("WWW-Authenticate")); !ok || got != orElse(realm, "api") {
			t.Errorf("realm %q in %q, want %q", got, w.Header().Get("WWW-Authenticate"), realm)
		}
	})
}

// realmOf reads the realm's quoted-string (RFC 9110 section 5.6.4) byte by byte.
func realmOf(challenge string) (string, bool) {
	s, ok := strings.CutPrefix(challenge, `Bearer realm="`)
	var realm []byte
	for i := 0; ok && i < len(s); i++ {
		switch s[i] {
		case '"':
			rest := s[i+1:]
			return string(realm), rest == "" || strings.HasPrefix(rest, `, error="`)
		case '\\':
			if i++; i == len(s) {
				return "", false
			}
		}
		realm = append(realm, s[i])
	}
	return "", false
}

// FuzzParseHash: 64 hex digits of any case and nothing else; the text comes back in lower case.
func FuzzParseHash(f *testing.F) {
	full := strings.Repeat("0123456789abcdef", 4)
	for _, s := range []string{"", full, strings.ToUpper(full), full[1:], full + "0", full[:63] + "g", "0x" + full[2:], full[:63] + "\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := auth.ParseHash(s)
		if (err == nil) != plainHash.MatchString(s) {
			t.Fatalf("ParseHash(%q): %v", s, err)
		}
		if err != nil {
			if h != (auth.Hash{}) || len(s) > 8 && strings.Contains(err.Error(), s) {
				t.Errorf("ParseHash(%q): %v beside %v", s, h, err)
			}
			return
		}
		text, _ := h.MarshalText()
		var back auth.Hash
		if err := back.UnmarshalText(text); err != nil || back != h || h.String() != strings.ToLower(s) || string(text) != h.String() {
			t.Errorf("%q became %v and %s and %v, %v", s, h, text, back, err)
		}
	})
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
