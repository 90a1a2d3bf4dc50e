package auth_test

import (
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/insigner/auth"
)

// legacy matches keys of an earlier system, for Scheme.AlsoAccept.
var legacy = regexp.MustCompile(`\Ask_live_[0-9a-f]{32}\z`)

const legacyKey = "sk_live_0123456789abcdef0123456789abcdef"

func TestNewKey(t *testing.T) {
	longest := strings.Repeat("x", 31) + "_"
	for _, c := range []struct {
		scheme auth.Scheme
		prefix string
	}{
		{auth.Scheme{}, "isk_"},
		{auth.Scheme{Prefix: "isk_"}, "isk_"},
		{auth.Scheme{Prefix: "acme_live_"}, "acme_live_"},
		{auth.Scheme{Prefix: "-A9_"}, "-A9_"},
		{auth.Scheme{Prefix: "_"}, "_"},
		{auth.Scheme{Prefix: longest}, longest},
		{auth.Scheme{AlsoAccept: func(string) bool { return false }, Catalog: auth.Catalog{}}, "isk_"},
	} {
		form := regexp.MustCompile(`\A` + c.prefix + `[A-Za-z0-9_-]{44}\z`)
		seen := make(map[string]bool)
		var chars [256]int
		for range 2000 {
			k := c.scheme.NewKey()
			text := k.Reveal()
			if !form.MatchString(text) {
				t.Fatalf("%q: a key of another form than %s", c.prefix, form)
			}
			if seen[text] {
				t.Fatalf("%q: a key came twice", c.prefix)
			}
			seen[text] = true
			if !c.scheme.Valid(text) {
				t.Fatalf("%q: a new key is not Valid", c.prefix)
			}
			parsed, err := c.scheme.ParseKey(text)
			if err != nil {
				t.Fatalf("%q: a new key does not parse: %v", c.prefix, err)
			}
			if parsed.Reveal() != text {
				t.Fatalf("%q: a parsed key reveals another text", c.prefix)
			}
			if got, want := k.Hint(), c.prefix+"…"+text[len(text)-4:]; got != want {
				t.Fatalf("%q: hint %q, want %q", c.prefix, got, want)
			}
			if parsed.Hint() != k.Hint() {
				t.Fatalf("%q: hint of the parsed key %q, want %q", c.prefix, parsed.Hint(), k.Hint())
			}
			for _, b := range []byte(text[len(c.prefix):]) {
				chars[b]++
			}
		}
		for _, b := range []byte(keyChars) {
			if n := chars[b]; n < 1375-400 || n > 1375+400 { // 2000*44/64, give or take eleven standard deviations
				t.Errorf("%q: %q came %d times, want about 1375", c.prefix, b, n)
			}
		}
	}
}

func TestParseKey(t *testing.T) {
	for _, c := range []struct {
		prefix, text string
		want         error
	}{
		{"", goodKey, nil},
		{"isk_", goodKey, nil},
		{"", "isk_" + strings.Repeat("-", 44), nil},
		{"acme_live_", "acme_live_" + goodKey[4:], nil},
		{"_", "_" + goodKey[4:], nil},
		{"acme_live_", goodKey, auth.ErrInvalidFormat},
		{"acme_live_", "acme_test_" + goodKey[4:], auth.ErrInvalidFormat},
		{"acme_", "acme_live_" + goodKey[4:], auth.ErrInvalidKey},
		{"", "acme_live_" + goodKey[4:], auth.ErrInvalidFormat},
		{"", "", auth.ErrInvalidFormat},
		{"", "isk", auth.ErrInvalidFormat},
		{"", "ISK_" + goodKey[4:], auth.ErrInvalidFormat},
		{"", " " + goodKey, auth.ErrInvalidFormat},
		{"", goodHash.String(), auth.ErrInvalidFormat},
		{"", legacyKey, auth.ErrInvalidFormat},
		{"", "isk_", auth.ErrInvalidKey},
		{"", goodKey + " ", auth.ErrInvalidKey},
		{"", goodKey + "\n", auth.ErrInvalidKey},
		{"", goodKey[:47], auth.ErrInvalidKey},
		{"", goodKey + "x", auth.ErrInvalidKey},
		{"", goodKey + strings.Repeat("x", 1000), auth.ErrInvalidKey},
		{"", goodKey[:47] + "=", auth.ErrInvalidKey},
		{"", goodKey[:47] + "+", auth.ErrInvalidKey},
		{"", goodKey[:47] + "/", auth.ErrInvalidKey},
		{"", goodKey[:46] + "é", auth.ErrInvalidKey},
		{"", "isk_…U1v2", auth.ErrInvalidKey},
	} {
		scheme := auth.Scheme{Prefix: c.prefix}
		k, err := scheme.ParseKey(c.text)
		if err != c.want {
			t.Errorf("%q: ParseKey(%.80q): %v, want %v", c.prefix, c.text, err, c.want)
		}
		want := c.text
		if c.want != nil {
			want = ""
		}
		if got := k.Reveal(); got != want {
			t.Errorf("%q: ParseKey(%.80q) reveals %.80q, want %.80q", c.prefix, c.text, got, want)
		}
		if leaks(errorText(err), goodKey) {
			t.Errorf("%q: the error of ParseKey(%.80q) quotes it: %v", c.prefix, c.text, err)
		}
		if got := scheme.Valid(c.text); got != (c.want == nil) {
			t.Errorf("%q: Valid(%.80q): %v, want %v", c.prefix, c.text, got, c.want == nil)
		}
	}
	// Any byte at any place after the prefix.
	for i := len(auth.DefaultPrefix); i < len(goodKey); i++ {
		for c := range 256 {
			text := goodKey[:i] + string([]byte{byte(c)}) + goodKey[i+1:]
			var want error
			if strings.IndexByte(keyChars, byte(c)) < 0 {
				want = auth.ErrInvalidKey
			}
			if _, err := (auth.Scheme{}).ParseKey(text); err != want {
				t.Errorf("ParseKey(%q): %v, want %v", text, err, want)
			}
			if got := (auth.Scheme{}).Valid(text); got != (want == nil) {
				t.Errorf("Valid(%q): %v, want %v", text, got, want == nil)
			}
		}
	}
}

func TestAlsoAccept(t *testing.T) {
	anything := func(string) bool { return true }
	for _, c := range []struct {
		name       string
		alsoAccept func(string) bool
		text       string
		want       error
		asked      int
	}{
		{"of the Scheme's own shape", legacy.MatchString, goodKey, nil, 0},
		{"of the other shape", legacy.MatchString, legacyKey, nil, 1},
		{"of neither shape", legacy.MatchString, legacyKey + "0", auth.ErrInvalidFormat, 1},
		{"of neither shape, with the prefix", legacy.MatchString, "isk_x", auth.ErrInvalidKey, 1},
		{"another shape with the prefix", anything, "isk_x", nil, 1},
		{"the prefix alone", anything, "isk_", nil, 1},
		{"one byte", anything, "x", nil, 1},
		{"no text at all", anything, "\x00\xff", nil, 1},
		{"nothing", anything, "", auth.ErrInvalidFormat, 0},
		{"512 bytes", anything, strings.Repeat("x", 512), nil, 1},
		{"513 bytes", anything, strings.Repeat("x", 513), auth.ErrInvalidFormat, 0},
		{"512 bytes with the prefix", anything, "isk_" + strings.Repeat("x", 508), nil, 1},
		{"513 bytes with the prefix", anything, "isk_" + strings.Repeat("x", 509), auth.ErrInvalidKey, 0},
		{"a million bytes", anything, strings.Repeat("x", 1e6), auth.ErrInvalidFormat, 0},
	} {
		asked := 0
		scheme := auth.Scheme{AlsoAccept: func(key string) bool {
			asked++
			if key != c.text {
				t.Errorf("%s: AlsoAccept got %.80q, want %.80q", c.name, key, c.text)
			}
			return c.alsoAccept(key)
		}}
		k, err := scheme.ParseKey(c.text)
		if err != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if asked != c.asked {
			t.Errorf("%s: AlsoAccept was called %d times, want %d", c.name, asked, c.asked)
		}
		want := c.text
		if c.want != nil {
			want = ""
		}
		if got := k.Reveal(); got != want {
			t.Errorf("%s: reveals %.80q, want %.80q", c.name, got, want)
		}

		// Valid does not ask AlsoAccept.
		asked = 0
		if got, want := scheme.Valid(c.text), c.text == goodKey; got != want {
			t.Errorf("%s: Valid is %v, want %v", c.name, got, want)
		}
		if asked != 0 {
			t.Errorf("%s: Valid called AlsoAccept %d times", c.name, asked)
		}

		// An Authenticator decides in the same way, before it hashes anything.
		hashed := 0
		also := scheme
		also.Hashers = []auth.Hasher{func(key string) auth.Hash { hashed++; return auth.SHA256(nil)(key) }}
		store := &countingStore{Store: newStore()}
		_, err = auth.New(store, &auth.Options{Scheme: also}).Verify(t.Context(), c.text)
		wantVerify, wantCalls := c.want, 0
		switch {
		case c.text == "":
			wantVerify = auth.ErrMissingKey
		case c.want == nil:
			wantVerify, wantCalls = auth.ErrInvalidKey, 1 // the store does not know it
		}
		if !errors.Is(err, wantVerify) {
			t.Errorf("%s: Verify: %v, want %v", c.name, err, wantVerify)
		}
		if hashed != wantCalls {
			t.Errorf("%s: Verify hashed it %d times, want %d", c.name, hashed, wantCalls)
		}
		if got := int(store.calls.Load()); got != wantCalls {
			t.Errorf("%s: Verify asked the store %d times, want %d", c.name, got, wantCalls)
		}
	}
}

// TestSchemeOfAnEarlierSystem: keys of an earlier system, in a table of plain
// SHA-256 hashes, are accepted together with new ones.
func TestSchemeOfAnEarlierSystem(t *testing.T) {
	scheme := auth.Scheme{
		Hashers:    []auth.Hasher{auth.BLAKE2b([]byte("pepper")), auth.SHA256(nil)},
		AlsoAccept: legacy.MatchString,
	}
	newer, older := goodRecord(), goodRecord()
	newer.ID, newer.Hash = "key_new", auth.BLAKE2b([]byte("pepper"))(goodKey)
	older.ID, older.Hash = "key_old", auth.SHA256(nil)(legacyKey)
	a := auth.New(newStore(newer, older), &auth.Options{Scheme: scheme})
	for _, c := range []struct {
		key  string
		id   string
		want error
	}{
		{goodKey, "key_new", nil},
		{legacyKey, "key_old", nil},
		{strings.ToUpper(legacyKey), "", auth.ErrInvalidFormat},
		{"sk_live_" + strings.Repeat("0", 32), "", auth.ErrInvalidKey},
		{older.Hash.String(), "", auth.ErrInvalidFormat},
	} {
		got, err := a.Authenticate(requestWith(c.key))
		if !errors.Is(err, c.want) {
			t.Errorf("%.12s…: %v, want %v", c.key, err, c.want)
		}
		if got.ID != c.id {
			t.Errorf("%.12s…: record %q, want %q", c.key, got.ID, c.id)
		}
	}
}

func TestValidAsAlsoAccept(t *testing.T) {
	old := auth.Scheme{Prefix: "old_"}
	scheme := auth.Scheme{Prefix: "new_", AlsoAccept: old.Valid}
	secret := goodKey[4:]
	for _, c := range []struct {
		text string
		want error
	}{
		{"new_" + secret, nil},
		{"old_" + secret, nil},
		{"older_" + secret, auth.ErrInvalidFormat},
		{"old_" + secret[1:], auth.ErrInvalidFormat},
		{"new_" + secret[1:], auth.ErrInvalidKey},
		{"isk_" + secret, auth.ErrInvalidFormat},
		{"", auth.ErrInvalidFormat},
	} {
		if _, err := scheme.ParseKey(c.text); err != c.want {
			t.Errorf("ParseKey(%q): %v, want %v", c.text, err, c.want)
		}
	}
	k, err := scheme.ParseKey("old_" + secret)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := k.Hint(), "…U1v2"; got != want {
		t.Errorf("the hint of a key of the other Scheme is %q, want %q", got, want)
	}
}

func TestSchemeHashes(t *testing.T) {
	peppered := auth.BLAKE2b([]byte("pepper"))
	k := mustKey(goodKey)
	for _, c := range []struct {
		name    string
		hashers []auth.Hasher
		want    []auth.Hash
	}{
		{"default", nil, []auth.Hash{goodHash}},
		{"empty", []auth.Hasher{}, []auth.Hash{goodHash}},
		{"one", []auth.Hasher{peppered}, []auth.Hash{peppered(goodKey)}},
		{"three", []auth.Hasher{peppered, auth.SHA256(nil), auth.BLAKE2b(nil)},
			[]auth.Hash{peppered(goodKey), auth.SHA256(nil)(goodKey), goodHash}},
		{"one twice", []auth.Hasher{peppered, peppered}, []auth.Hash{peppered(goodKey), peppered(goodKey)}},
	} {
		scheme := auth.Scheme{Hashers: c.hashers}
		got := scheme.Hashes(k)
		if len(got) != len(c.want) {
			t.Errorf("%s: %d hashes, want %d", c.name, len(got), len(c.want))
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: hash %d is %v, want %v", c.name, i, got[i], c.want[i])
			}
		}
		if got := scheme.Hashes(auth.Key{}); len(got) != 0 {
			t.Errorf("%s: the zero Key has the hashes %v, want none", c.name, got)
		}
	}
	// The hash is that of the whole key, with its prefix, of any shape.
	scheme := auth.Scheme{AlsoAccept: legacy.MatchString, Hashers: []auth.Hasher{auth.SHA256(nil)}}
	old, err := scheme.ParseKey(legacyKey)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := scheme.Hashes(old)[0], auth.SHA256(nil)(legacyKey); got != want {
		t.Errorf("a key of an earlier system has the hash %v, want %v", got, want)
	}
}

// invalidSchemes are Schemes that cannot work, with what Validate says after
// "auth: ".
var invalidSchemes = func() map[string]auth.Scheme {
	prefix := func(p string) auth.Scheme { return auth.Scheme{Prefix: p} }
	const rule = " is not 1 to 32 characters of A-Z a-z 0-9 _ -, ending in _"
	long := strings.Repeat("x", 32) + "_"
	return map[string]auth.Scheme{
		`the prefix "isk"` + rule:                                     prefix("isk"),
		`the prefix "-"` + rule:                                       prefix("-"),
		`the prefix "i k_"` + rule:                                    prefix("i k_"),
		`the prefix "é_"` + rule:                                      prefix("é_"),
		`the prefix "isk_ "` + rule:                                   prefix("isk_ "),
		`the prefix "isk_\n"` + rule:                                  prefix("isk_\n"),
		`the prefix "\xff_"` + rule:                                   prefix("\xff_"),
		`the prefix "a.b_"` + rule:                                    prefix("a.b_"),
		`the prefix "` + long + `"` + rule:                            prefix(long),
		"the prefix (not shown: 48 bytes that may hold a key)" + rule: prefix(goodKey),
		"one of the hashers is nil":                                   {Hashers: []auth.Hasher{auth.SHA256(nil), nil}},
		`the catalog lists "no.", which is not a valid scope`: {Catalog: auth.Catalog{{Scope: "a.b"},
			{Scope: "no."}}},
		`the catalog lists "", which is not a valid scope`: {Catalog: auth.Catalog{{}}},
		"the catalog lists (not shown: 56 bytes that may hold a key), which is not a valid scope": {
			Catalog: auth.Catalog{{Scope: "Bearer " + goodKey + " "}}},
	}
}()

func TestSchemeValidate(t *testing.T) {
	for want, scheme := range invalidSchemes {
		if got := errorText(scheme.Validate()); got != "auth: "+want {
			t.Errorf("Validate: %q, want %q", got, "auth: "+want)
		}
	}
	for name, scheme := range map[string]auth.Scheme{
		"the zero Scheme":      {},
		"the default prefix":   {Prefix: auth.DefaultPrefix},
		"the shortest prefix":  {Prefix: "_"},
		"the longest prefix":   {Prefix: strings.Repeat("x", 31) + "_"},
		"any of the letters":   {Prefix: "Az09-_"},
		"two hashers":          {Hashers: []auth.Hasher{auth.SHA256(nil), auth.BLAKE2b(nil)}},
		"no hashers":           {Hashers: []auth.Hasher{}},
		"AlsoAccept":           {AlsoAccept: func(string) bool { return true }},
		"an empty catalog":     {Catalog: auth.Catalog{}},
		"a catalog of one":     {Catalog: auth.Catalog{{Scope: "admin"}}},
		"the published scopes": {Catalog: auth.PublishedCatalog()},
	} {
		if err := scheme.Validate(); err != nil {
			t.Errorf("%s: %v, want nil", name, err)
		}
	}
}

func TestInvalidSchemePanics(t *testing.T) {
	k := mustKey(goodKey)
	for reason, scheme := range invalidSchemes {
		for call, f := range map[string]func(){
			"auth.Scheme.NewKey":   func() { scheme.NewKey() },
			"auth.Scheme.ParseKey": func() { scheme.ParseKey(goodKey) },
			"auth.Scheme.Valid":    func() { scheme.Valid(goodKey) },
			"auth.Scheme.Hashes":   func() { scheme.Hashes(k) },
			"auth.New":             func() { auth.New(newStore(), &auth.Options{Scheme: scheme}) },
		} {
			if got, want := panicOf(f), call+": "+reason; got != want {
				t.Errorf("panic %q, want %q", got, want)
			}
		}
	}
}

// TestSchemeIsCopied: what the host changes in a Scheme after New has no
// effect.
func TestSchemeIsCopied(t *testing.T) {
	hashers := []auth.Hasher{auth.BLAKE2b(nil)}
	catalog := auth.Catalog{{Scope: "documents.read"}}
	scheme := auth.Scheme{Hashers: hashers, Catalog: catalog}
	a := auth.New(newStore(goodRecord()), &auth.Options{Scheme: scheme})
	hashers[0] = nil
	catalog[0].Scope = "x"
	if _, err := a.Authenticate(requestWith(goodKey)); err != nil {
		t.Errorf("after a change of the hashers: %v, want nil", err)
	}
	never := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	if got := panicOf(func() { a.Require("documents.read")(never) }); got != "" {
		t.Errorf("after a change of the catalog: panic %q, want none", got)
	}
}

func TestSchemeOfAnAuthenticator(t *testing.T) {
	scheme := auth.Scheme{Prefix: "acme_live_"}
	k := scheme.NewKey()
	record := goodRecord()
	record.Hash = scheme.Hashes(k)[0]
	a := auth.New(newStore(record), &auth.Options{Scheme: scheme})
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
		{scheme.NewKey().Reveal(), auth.ErrInvalidKey},
	} {
		if _, err := a.Authenticate(requestWith(c.key)); !errors.Is(err, c.want) {
			t.Errorf("%.10s…: %v, want %v", c.key, err, c.want)
		}
	}
}
