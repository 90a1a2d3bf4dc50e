package auth_test

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/insigner/auth"
)

// The oracles below are written from the documentation and not from the code:
// regular expressions and splits, slow and plain.
var (
	plainBearer  = regexp.MustCompile(`\A[Bb][Ee][Aa][Rr][Ee][Rr] +([^ ](?s:.*))\z`)
	plainSecret  = regexp.MustCompile(`\A[A-Za-z0-9_-]{44}\z`)
	plainPrefix  = regexp.MustCompile(`\A[A-Za-z0-9_-]{0,31}_\z`)
	plainHash    = regexp.MustCompile(`\A[0-9a-fA-F]{64}\z`)
	plainScope   = regexp.MustCompile(`\A(?:\*|[A-Za-z0-9_-]+(?:[.:][A-Za-z0-9_-]+)*(?:[.:]\*)?)\z`)
	plainSegment = regexp.MustCompile(`[^.:]+[.:]?`)
	controlChar  = regexp.MustCompile(`[\x00-\x1f\x7f]`)
)

// plainCredential returns what Bearer returns.
func plainCredential(fields []string) string {
	m := plainBearer.FindStringSubmatch(strings.Trim(strings.Join(fields, ", "), " \t"))
	if m == nil {
		return ""
	}
	return m[1]
}

// oldKey is the AlsoAccept of the targets.
func oldKey(key string) bool { return strings.HasPrefix(key, "sk_") || strings.HasSuffix(key, "_old") }

// plainCheck returns what ParseKey returns, with oldKey as AlsoAccept.
func plainCheck(prefix, s string) error {
	secret, ok := strings.CutPrefix(s, prefix)
	switch {
	case ok && plainSecret.MatchString(secret):
		return nil
	case s != "" && len(s) <= 512 && oldKey(s):
		return nil
	case ok:
		return auth.ErrInvalidKey
	}
	return auth.ErrInvalidFormat
}

func plainIsScope(s string) bool { return len(s) <= 255 && plainScope.MatchString(s) }

func plainCovers(s, required string) bool {
	if !plainIsScope(s) || !plainIsScope(required) {
		return false
	}
	if s == "*" {
		return true
	}
	held, want := plainSegment.FindAllString(s, -1), plainSegment.FindAllString(required, -1)
	for i, segment := range held {
		if segment == "*" {
			return i < len(want)
		}
		if i >= len(want) || segment != want[i] {
			return false
		}
	}
	return len(held) == len(want)
}

// FuzzAuthorization: Bearer and Authenticate read any field values as the plain
// parser does. The store is asked exactly when it should be. Fields that a
// proxy has joined are read as the fields themselves.
func FuzzAuthorization(f *testing.F) {
	for _, s := range []string{"", "Bearer", "Bearer ", "Bearer " + goodKey,
		"bEARER   " + goodKey + " \t", "Bearer\t" + goodKey,
		"Basic aXNrXzp4", "Bearer isk_", "Bearer isk_short", "Bearer ISK_" + goodKey[4:], "Bearer " + goodKey + ",",
		"Bearer, " + goodKey, "Bearer \t" + goodKey, "Bearer " + goodKey[:47] + "=", "\u212aearer x",
		"Bearer \xff", "bearer isk_\n",
		"Bearer sk_1", "Bearer x_old", "Bearer isk_old", "Bearer sk_" + strings.Repeat("x", 509),
		"Bearer sk_" + strings.Repeat("x", 510)} {
		f.Add(s, "", uint8(1))
		f.Add(s, s, uint8(2))
		f.Add(s, "", uint8(2))
		f.Add("", s, uint8(2))
	}
	f.Add("", "", uint8(0))
	store := &countingStore{Store: newStore(goodRecord())}
	also := auth.New(store, &auth.Options{Scheme: auth.Scheme{AlsoAccept: oldKey}})
	only := auth.New(store, nil)
	f.Fuzz(func(t *testing.T, v1, v2 string, n uint8) {
		ask := func(a *auth.Authenticator, fields ...string) (calls int64, err error) {
			before := store.calls.Load()
			r := &http.Request{Method: "GET", Header: http.Header{}}
			if len(fields) > 0 {
				r.Header["Authorization"] = fields
			}
			record, err := a.Authenticate(r)
			if (err == nil) != (record.ID == "key_good") {
				t.Errorf("%q: the record %q with the error %v", fields, record.ID, err)
			}
			return store.calls.Load() - before, err
		}
		fields := []string{v1, v2}[:n%3]
		credential := plainCredential(fields)
		if got := auth.Bearer(fields...); got != credential {
			t.Errorf("Bearer(%q): %q, want %q", fields, got, credential)
		}

		want, wantCalls := plainCheck("isk_", credential), int64(0)
		switch {
		case credential == "":
			want = auth.ErrMissingKey
		case want == nil:
			wantCalls = 1
			if credential != goodKey {
				want = auth.ErrInvalidKey
			}
		}
		calls, err := ask(also, fields...)
		if !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", fields, err, want)
		}
		if calls != wantCalls {
			t.Errorf("%q: %d calls to the store, want %d", fields, calls, wantCalls)
		}

		if len(fields) < 2 {
			return
		}
		_, err = ask(only, fields...)
		if err == nil {
			t.Errorf("%q: two fields are accepted", fields)
		}
		for _, sep := range []string{",", ", "} {
			if _, joined := ask(only, v1+sep+v2); !errors.Is(joined, errors.Unwrap(err)) {
				t.Errorf("%q: %v, but joined by %q: %v", fields, err, sep, joined)
			}
		}
	})
}

// FuzzParseKey: a text parses exactly if the plain parser says so, Reveal
// returns it, and the hint discloses at most four characters. A Scheme panics
// exactly if its prefix is invalid.
func FuzzParseKey(f *testing.F) {
	longest := strings.Repeat("p", 31) + "_"
	for _, prefix := range []string{"", "isk_", "acme_live_", "_", "x", "a b_", "sk_", longest, "p" + longest} {
		for _, s := range []string{"", prefix, prefix + goodKey[4:], prefix + goodKey[5:], prefix + goodKey[4:] + "x",
			"x" + prefix + goodKey[4:], prefix + strings.Repeat("\u00e9", 22), prefix + goodKey[4:47] + "=",
			prefix + goodKey[4:47] + "\n",
			"sk_", "_old", "sk_" + goodKey, "sk_" + strings.Repeat("x", 509), "sk_" + strings.Repeat("x", 510),
			"sk_0123456789abcdefghi\u00e9abc"} {
			f.Add(prefix, s)
		}
	}
	f.Fuzz(func(t *testing.T, prefix, s string) {
		scheme := auth.Scheme{Prefix: prefix, AlsoAccept: func(key string) bool {
			if key != s {
				t.Errorf("AlsoAccept got %q, want %q", key, s)
			}
			if key == "" {
				t.Error("AlsoAccept got nothing")
			}
			if len(key) > 512 {
				t.Errorf("AlsoAccept got %d bytes", len(key))
			}
			return oldKey(key)
		}}
		valid := prefix == "" || plainPrefix.MatchString(prefix)
		if err := scheme.Validate(); (err == nil) != valid {
			t.Errorf("prefix %q: Validate: %v, want valid: %v", prefix, err, valid)
		}
		if !valid {
			message := panicOf(func() { scheme.ParseKey(s) })
			if !strings.HasPrefix(message, "auth.Scheme.ParseKey: ") {
				t.Errorf("prefix %q: panic %q", prefix, message)
			}
			return
		}
		prefix = cmp.Or(prefix, auth.DefaultPrefix)
		want := plainCheck(prefix, s)
		k, err := scheme.ParseKey(s)
		if err != want {
			t.Fatalf("%q: ParseKey(%q): %v, want %v", prefix, s, err, want)
		}
		secret, ok := strings.CutPrefix(s, prefix)
		ok = ok && plainSecret.MatchString(secret)
		if got := scheme.Valid(s); got != ok {
			t.Errorf("%q: Valid(%q): %v, want %v", prefix, s, got, ok)
		}
		if err != nil {
			if got := k.Reveal() + k.Hint(); got != "" {
				t.Errorf("%q: ParseKey(%q) returns a Key with %v", prefix, s, err)
			}
			return
		}
		if got := k.Reveal(); got != s {
			t.Errorf("%q: ParseKey(%q) reveals %q", prefix, s, got)
		}
		if got, want := scheme.Hashes(k)[0], auth.BLAKE2b(nil)(s); got != want {
			t.Errorf("%q: the hash of %q is %v, want %v", prefix, s, got, want)
		}
		hint := k.Hint()
		shown, end, _ := strings.Cut(hint, "…")
		if shown != "" && shown != prefix {
			t.Errorf("%q: the hint of %q starts with %q", prefix, s, shown)
		}
		if ok && hint != prefix+"…"+s[len(s)-4:] {
			t.Errorf("%q: the hint of %q is %q", prefix, s, hint)
		}
		if end != "" && len(end) != 4 {
			t.Errorf("%q: the hint of %q discloses %q", prefix, s, end)
		}
		if utf8.RuneCountInString(s) < 24 && hint != "…" {
			t.Errorf("%q: the hint of %q is %q, want …", prefix, s, hint)
		}
		if !utf8.ValidString(hint) {
			t.Errorf("%q: the hint of %q is not UTF-8: %q", prefix, s, hint)
		}
		if strings.ContainsFunc(hint, unicode.IsControl) {
			t.Errorf("%q: the hint of %q has control characters: %q", prefix, s, hint)
		}
		for _, got := range []string{k.String(), fmt.Sprintf("%v%x%#v", k, k, k)[2*len(hint):]} {
			if got != hint {
				t.Errorf("%q: %q prints as %q, want %q", prefix, s, got, hint)
			}
		}
	})
}

// FuzzCovers: Covers and ParseScope agree with an oracle that goes segment by
// segment.
func FuzzCovers(f *testing.F) {
	texts := []string{"*", "", ".", "documents", "documents.*", "documents.read", "documentsx.read",
		"documents.fields.read",
		"documents.fields.*", "documents.", ".read", "*.read", "documents.*.read", "documents..read", "documents.re*",
		"Documents.read", "Documents.*", "bulk_sends.read", "a.b.c.d.e", "a-b.*", "documents.read ", "**", ".*", "*.*",
		"documents:read", "documents:*", "documents:fields.read", "documents.fields:*", "documents:", ":",
		":*", "documents.:*", "admin", "Admin",
		strings.Repeat("a", 255), strings.Repeat("a", 256), strings.Repeat("a", 253) + ".*",
		strings.Repeat("a", 253) + ".b", strings.Repeat("a", 254) + ".*"}
	for i, a := range texts {
		for _, b := range []string{a, texts[(i+1)%len(texts)], "documents.read", "documents:read", "documents.*", "*"} {
			f.Add(a, b)
			f.Add(b, a)
		}
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		want := plainCovers(a, b)
		if got := auth.Scope(a).Covers(auth.Scope(b)); got != want {
			t.Errorf("%q covers %q: %v, want %v", a, b, got, want)
		}
		want = want || b == "other.scope"
		if got := (auth.Scopes{"other.scope", auth.Scope(a)}).Covers(auth.Scope(b)); got != want {
			t.Errorf("[other.scope %q] covers %q: %v, want %v", a, b, got, want)
		}
		got, err := auth.ParseScope(a)
		if (err == nil) != plainIsScope(a) {
			t.Errorf("ParseScope(%q): %v, want a scope: %v", a, err, plainIsScope(a))
		}
		if err == nil && string(got) != a {
			t.Errorf("ParseScope(%q): %q", a, got)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("ParseScope(%q): the error has two lines: %v", a, err)
		}
	})
}

// FuzzProblem: a Problem survives JSON, is an error of one line, and is
// answered as it is if its status is one of an error. What a client reads from
// a refusal is what ProblemFor says of its error, with the realm that the host
// gave.
func FuzzProblem(f *testing.F) {
	f.Add("api", "https://docs.insigner.com/errors/", "documents.delete", "/r/1", uint16(400))
	f.Add(`a"b\c`, "/errors/", "a.b", "", uint16(1))
	f.Add("caf\u00e9 \u2028<&>", "urn:x:", "*", "x\u0000y", uint16(599))
	f.Add("", "", "documents:*", "\\", uint16(600))
	f.Add("a\x7fb", "://", "none", "", uint16(399))
	f.Add("\xff", "%zz", "a.b-c_d.*", "a\nb", uint16(503))
	f.Fuzz(func(t *testing.T, realm, base, scope, text string, status uint16) {
		p := auth.Problem{Type: base, Title: realm, Status: int(status), Detail: text, Instance: scope, Code: text}
		if scope != "" {
			p.RequiredScopes = auth.Scopes{auth.Scope(scope), auth.Scope(text)}
		}
		odd := func(c rune) bool { return !strconv.IsPrint(c) || c == utf8.RuneError }
		if line := p.Error(); strings.ContainsFunc(line, odd) {
			t.Errorf("%+v: the error is %q", p, line)
		}
		own := p.Status >= 400 && p.Status <= 599
		answered := auth.ProblemFor(fmt.Errorf("wrapped: %w", &p))
		if own && !reflect.DeepEqual(*answered, p) {
			t.Errorf("%+v is answered as %+v", p, *answered)
		}
		if !own && answered.Status != 500 {
			t.Errorf("%+v is answered with %d, want 500", p, answered.Status)
		}
		if utf8.ValidString(realm + "." + base + "." + scope + "." + text) {
			b, err := json.Marshal(p)
			if err != nil {
				t.Fatalf("%+v: %v", p, err)
			}
			var back auth.Problem
			if err := json.Unmarshal(b, &back); err != nil {
				t.Errorf("%s: %v", b, err)
			}
			if !reflect.DeepEqual(back, p) {
				t.Errorf("%+v became %s and %+v", p, b, back)
			}
		}

		var refusal error
		var a *auth.Authenticator
		opts := &auth.Options{Realm: realm, ProblemBase: base, ErrorHandler: func(_ http.ResponseWriter,
			_ *http.Request, err error) bool {
			refusal = err
			return false
		}}
		_, badBase := url.Parse(base)
		invalid := controlChar.MatchString(realm) || badBase != nil
		message := panicOf(func() { a = auth.New(newStore(scopedRecord("other.scope")), opts) })
		if (message != "") != invalid {
			t.Errorf("realm %q, base %q: panic %q, want one: %v", realm, base, message, invalid)
		}
		if message != "" {
			return
		}
		if !plainIsScope(scope) || scope == "other.scope" {
			scope = "documents.read"
		}
		never := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", []string{"", "Bearer x", "Bearer isk_x", "Bearer " + goodKey}[status%4])
		wantStatus := 401
		if status%4 == 3 {
			wantStatus = 403
		}
		w := httptest.NewRecorder()
		a.Require(auth.Scope(scope))(never).ServeHTTP(w, r)

		want := auth.ProblemFor(refusal)
		var got auth.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if utf8.ValidString(base) && !reflect.DeepEqual(got, *want) {
			t.Errorf("the client reads %+v, want %+v", got, *want)
		}
		if w.Code != wantStatus {
			t.Errorf("status %d, want %d", w.Code, wantStatus)
		}
		if want.Status != wantStatus {
			t.Errorf("status %d in the body, want %d", want.Status, wantStatus)
		}
		challenge := w.Header().Get("WWW-Authenticate")
		gotRealm, ok := realmOf(challenge)
		if !ok {
			t.Errorf("malformed challenge %q", challenge)
		}
		if want := cmp.Or(realm, "api"); gotRealm != want {
			t.Errorf("realm %q in %q, want %q", gotRealm, challenge, want)
		}
	})
}

// realmOf reads the realm's quoted-string (RFC 9110 section 5.6.4) byte by
// byte.
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

// FuzzParseHash: 64 hex digits of either case parse, and nothing else does. The
// text comes back in lower case.
func FuzzParseHash(f *testing.F) {
	full := strings.Repeat("0123456789abcdef", 4)
	for _, s := range []string{"", full, strings.ToUpper(full), full[1:], full + "0",
		full[:63] + "g", "0x" + full[2:], full[:63] + "\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := auth.ParseHash(s)
		if (err == nil) != plainHash.MatchString(s) {
			t.Fatalf("ParseHash(%q): %v", s, err)
		}
		if err != nil {
			if h != (auth.Hash{}) {
				t.Errorf("ParseHash(%q): the hash %v with an error", s, h)
			}
			if len(s) > 8 && strings.Contains(err.Error(), s) {
				t.Errorf("ParseHash(%q): the error quotes it: %v", s, err)
			}
			return
		}
		text, err := h.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(text), strings.ToLower(s); got != want {
			t.Errorf("%q became %q, want %q", s, got, want)
		}
		if got := h.String(); got != string(text) {
			t.Errorf("String: %q, want %q", got, text)
		}
		var back auth.Hash
		if err := back.UnmarshalText(text); err != nil {
			t.Fatal(err)
		}
		if back != h {
			t.Errorf("%q became %v and %v", s, h, back)
		}
	})
}

// FuzzLog: the log hides any key and any hash that the error of a store spells
// in one of many ways, between any texts, and loses nothing else of a text
// without long words.
func FuzzLog(f *testing.F) {
	f.Add("dial tcp: ", ": refused", []byte("0123456789abcdef"), uint8(0))
	f.Add("a", "b", []byte(`\\%41"'`), uint8(3))
	f.Add("[", "]", []byte("\xc3\xa9\xff\x00"), uint8(5))
	f.Add("", "", []byte{}, uint8(9))
	f.Add(`\x`, `\n`, []byte("isk_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v2"), uint8(14))
	f.Fuzz(func(t *testing.T, before, after string, bytes []byte, n uint8) {
		hash := auth.BLAKE2b(nil)(string(bytes))
		copy(hash[:], bytes)
		scheme := auth.Scheme{Hashers: []auth.Hasher{func(string) auth.Hash { return hash }}}
		text := before + after
		plain := !slices.ContainsFunc(strings.FieldsFunc(text,
			func(c rune) bool { return !strings.ContainsRune(keyChars, c) }),
			func(word string) bool { return len(word) >= 44 })
		if got := loggedError(t, auth.Scheme{}, goodKey, text); plain && got != string([]rune(text)) {
			t.Errorf("%q is logged as %q", text, got)
		}

		spellings := []string{
			hash.String(), strings.ToUpper(hash.String()), string(hash[:]), goodKey,
			fmt.Sprintf("%q", hash[:]), fmt.Sprintf("%+q", hash[:]), fmt.Sprint(hash[:]), fmt.Sprintf("%#v", hash[:]),
			fmt.Sprintf("% x", hash[:]), fmt.Sprintf("%#x", hash[:]), fmt.Sprintf("%o", hash[:]),
			fmt.Sprintf("%b", hash[:]), fmt.Sprintf("%U", hash[:]),
			fmt.Sprintf("%c", hash[:]), fmt.Sprintf("%x", hash.String()), fmt.Sprint([]byte(hash.String())),
			url.QueryEscape(string(hash[:])), url.PathEscape(string(hash[:])),
			base64.StdEncoding.EncodeToString(hash[:]), base64.RawURLEncoding.EncodeToString(hash[:]),
			url.QueryEscape(base64.StdEncoding.EncodeToString(hash[:])),
		}
		spelling := spellings[int(n)%len(spellings)]
		got := loggedError(t, scheme, goodKey, before+" <"+spelling+"> "+after)
		if !strings.Contains(got, "[hash]") && !strings.Contains(got, "[key]") {
			t.Errorf("%q between %q and %q is logged as %q", spelling, before, after, got)
		}
		if strings.Contains(got, spelling) {
			t.Errorf("%q is logged with it: %q", spelling, got)
		}
	})
}
