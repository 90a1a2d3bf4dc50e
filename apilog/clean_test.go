package apilog_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
)

// goodKey is the key that the inSigner API documentation shows.
const goodKey = "isk_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v2"

const secret = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v2"

// cleaned returns the path of the entry of a request with that path.
func cleaned(t testing.TB, scheme auth.Scheme, path string) string {
	t.Helper()
	opts := unlimited()
	opts.Scheme = scheme
	r := httptest.NewRequest("GET", "/", nil)
	r.URL.Path = path
	return entry(t, opts, r, answer(200)).Path
}

func escapeAll(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteString("%" + string("0123456789ABCDEF"[s[i]>>4]) + string("0123456789ABCDEF"[s[i]&15]))
	}
	return b.String()
}

var keysInPaths = []struct{ path, want string }{
	{goodKey, "[key]"},
	{"/" + goodKey, "/[key]"},
	{"/v1/" + goodKey + "/x", "/v1/[key]/x"},
	{"/ISK_" + secret, "/[key]"},
	{"/Isk_" + secret, "/[key]"},
	{"/a=" + goodKey + "&b=" + goodKey, "/a=[key]&b=[key]"},
	{"/Bearer " + goodKey, "/Bearer [key]"},
	{"/x" + goodKey, "/x[key]"},
	{"/" + goodKey + "more", "/[key]"},
	{"/isk_" + goodKey, "/[key]"},
	{"/%69sk_" + secret, "/[key]"},
	{"/%2569sk%255f" + secret, "/[key]"},
	{"/" + escapeAll(goodKey), "/[key]"},
	{"/" + escapeAll(escapeAll(goodKey)), "/[key]"},
	{"/isk_" + secret[:24] + escapeAll(secret[24:]), "/[key]"},
	{"/%2Fisk_" + secret[:30] + "%2F", "//[key]/"},
	{"/%%36%39sk_" + secret, "/[key]"}, // "%69" once its digits are decoded
	{"/\x00" + goodKey + "\xff", "/\uFFFD[key]\uFFFD"},
	{"/isk_" + secret[:24], "/[key]"}, // cut off
	{"/isk_" + secret[:23], "/isk_" + secret[:23]},
	{"/tokenisk_" + secret[:40], "/token[key]"}, // cut off, in a word
	{`/isk\u005f` + secret, "/[key]"},
	{`/isk%u005F` + secret, "/[key]"},
	{`/isk%255Cu005f` + secret, "/[key]"},
	{`/isk\x5f` + secret, "/[key]"},
	{"/isk&#95;" + secret, "/[key]"},
	{"/isk&#x5F;" + secret, "/[key]"},
	{"/isk&#0000095;" + secret, "/[key]"},
	{"/isk_" + secret[:8] + "%20" + secret[8:], "/[key]"}, // wrapped
	{"/isk_" + secret[:8] + "\r\n " + secret[8:], "/[key]"},
	{"/isk_" + secret[:8] + "\x00" + secret[8:], "/[key]"},
	{"/isk_" + secret[:8] + "%" + secret[8:], "/[key]"},
	{"/isk_ " + secret[:20] + "\u00a0" + secret[20:], "/[key]"},

	// Without keys, paths stay.
	{"", ""},
	{"/", "/"},
	{"/risk_assessment_report", "/risk_assessment_report"},
	{"/api/v1/task_list", "/api/v1/task_list"},
	{"/disk_usage_of_all_virtual_machines", "/disk_usage_of_all_virtual_machines"},
	{"/isk_", "/isk_"},
	{"/isk_short", "/isk_short"},
	{"/a%2Fb", "/a%2Fb"},
	{"/100%", "/100%"},
	{"/isk_client 1 for documents of every kind", "/isk_client 1 for documents of every kind"},
	{`/a\u005fb&#95;c\x5fd&#300;&#;;&x#5;`, `/a\u005fb&#95;c\x5fd&#300;&#;;&x#5;`},
	{"/disk_550e8400-e29b-41d4-a716-446655440000", "/disk_550e8400-e29b-41d4-a716-446655440000"},
	{"/%zz%4", "/%zz%4"},
	{"/%252F%2525", "/%252F%2525"},
	{"/ünïcödé/日本", "/ünïcödé/日本"},
	{"/" + secret, "/" + secret},
	{"/a\x00b", "/a\uFFFDb"},
	{"/a\xff\xfeb", "/a\uFFFDb"},
}

func TestKeysAreStruckOut(t *testing.T) {
	for _, c := range keysInPaths {
		if got := cleaned(t, auth.Scheme{}, c.path); got != c.want {
			t.Errorf("%q becomes %q, want %q", c.path, got, c.want)
		}
	}
}

func TestKeysOfOtherSchemesAreStruckOut(t *testing.T) {
	legacy := regexp.MustCompile(`^legacy-[0-9a-f]{16}$`)
	base64 := regexp.MustCompile(`^[A-Za-z0-9+/]{42}==$`)
	also := func(re *regexp.Regexp) auth.Scheme { return auth.Scheme{AlsoAccept: re.MatchString} }
	prefix := func(p string) auth.Scheme { return auth.Scheme{Prefix: p} }
	inBase64 := "AAAAAAAAAA/BBBBBBBBBB/CCCCCCCCC+DDDDDDDDDD=="
	for _, c := range []struct {
		name       string
		scheme     auth.Scheme
		path, want string
	}{
		{"a prefix", prefix("acme_live_"), "/acme_live_" + secret, "/[key]"},
		{"a prefix, escaped", prefix("acme_live_"), "/%61cme%5Flive_" + secret, "/[key]"},
		{"another prefix", prefix("acme_live_"), "/acme_test_x/" + goodKey, "/acme_test_x/" + goodKey},
		{"an upper-case prefix", prefix("ACME_"), "/acme_" + secret, "/[key]"},
		{"a hex prefix", prefix("ab_"), "/%ab_" + secret, "/\uFFFD[key]"},
		{"a hex prefix, escaped", prefix("ab_"), "/%25ab_" + secret, "/\uFFFD[key]"},
		{"half of a hex prefix", prefix("b_"), "/%25ab_" + secret, "/\uFFFD[key]"},
		{"a hex prefix and letters", prefix("dev_"), "/%25dev_" + secret, "/\uFFFD[key]"},
		{"the shortest prefix", prefix("_"), "/_" + secret, "/[key]"},
		{"the shortest prefix, in a word", prefix("_"), "/a_long_name_of_a_report", "/a_long_name_of_a_report"},

		{"a hex prefix, escaped as four digits", prefix("ab_"), `/\u00ab_` + secret, `/\u00[key]`},

		{"a legacy key", also(legacy), "/x/legacy-0123456789abcdef/y", "/x/[key]/y"},
		{"a legacy key and a line break", also(legacy), "/legacy-0123456789abcdef%0A", "/[key]%0A"},
		{"a legacy key after a tab", also(legacy), "/\tlegacy-0123456789abcdef", "/\t[key]"},
		{"a legacy key and a dot", also(legacy), "/legacy-0123456789abcdef.", "/[key]."},
		{"a legacy key and a bar", also(legacy), "/x|legacy-0123456789abcdef", "/x|[key]"},
		{"an escape in a legacy key, and another key", also(regexp.MustCompile(`^50%25-[0-9]{10}$`)),
			"/50%25-0123456789/" + goodKey, "/[key]/[key]"},
		{"a legacy key, escaped", also(legacy), "/%256Cegacy-0123456789abcdef", "/[key]"},
		{"a legacy key in a query", also(legacy), "/?a=legacy-0123456789abcdef&b", "/?a=[key]&b"},
		{"both", also(legacy), "/legacy-0123456789abcdef/" + goodKey, "/[key]/[key]"},
		{"no legacy key", also(legacy), "/legacy-0123456789/documents", "/legacy-0123456789/documents"},
		{"no legacy key, escaped", also(legacy), "/a%2Fb", "/a%2Fb"},
		{"base64", also(base64), "/v1/" + inBase64 + "/x", "/v1/[key]/x"},
		{"base64, escaped", also(base64), "/v1/" + escapeAll(inBase64), "/v1/[key]"},
		{"a key with an escape", also(regexp.MustCompile(`^50%25-[0-9]{10}$`)), "/50%25-0123456789", "/[key]"},
		{"a panic", auth.Scheme{AlsoAccept: func(key string) bool { return key[3] == '-' }}, "/abcd/ab", "/abcd/[key]"},
	} {
		if got := cleaned(t, c.scheme, c.path); got != c.want {
			t.Errorf("%s: %q becomes %q, want %q", c.name, c.path, got, c.want)
		}
	}
}

// A text that is too long ends with a whole character, and a key at its end is
// struck out before it is cut off.
func TestLongTexts(t *testing.T) {
	for _, path := range []string{
		strings.Repeat("x", 5000),
		strings.Repeat("ü", 5000),
		"x" + strings.Repeat("ü", 5000),
		"xx" + strings.Repeat("日", 5000),
		strings.Repeat("x", 1023) + "\xff",
	} {
		got := cleaned(t, auth.Scheme{}, path)
		if len(got) > 1024 || len(got) < 1021 {
			t.Errorf("%.10q…: %d bytes are left, want 1024 but for a character", path, len(got))
		}
		if !utf8.ValidString(got) {
			t.Errorf("%.10q…: what is left is not valid UTF-8", path)
		}
	}
	for _, path := range []string{strings.Repeat("\xff", 5000), strings.Repeat("\xff\x00", 5000)} {
		if got := cleaned(t, auth.Scheme{}, path); len(got) > 1024 || !utf8.ValidString(got) {
			t.Errorf("%.10q…: %d bytes are left: %.20q", path, len(got), got)
		}
	}
	for n := 950; n < 1030; n++ {
		path := strings.Repeat("/", n) + goodKey + strings.Repeat("/", 100)
		if got := cleaned(t, auth.Scheme{}, path); strings.Contains(got, secret[:4]) {
			t.Errorf("a key after %d bytes is not struck out: %s", n, got[n:])
		}
	}
}

// What moves to the front because something before it is struck out is clean as
// well.
func TestManyKeys(t *testing.T) {
	legacy := regexp.MustCompile(`^legacy-[0-9a-f]{16}$`)
	for _, scheme := range []auth.Scheme{{}, {AlsoAccept: legacy.MatchString}} {
		for _, part := range []string{"/legacy-0123456789abcdef/x" + goodKey, "/%6Cegacy-0123456789abcdef/x" + escapeAll(goodKey)} {
			if got := cleaned(t, scheme, strings.Repeat(part, 200)); strings.Contains(got, secret[:8]) {
				t.Errorf("a key is left in %s", got)
			}
		}
	}
}

// An attacker's text of a megabyte takes no time that grows with its square.
// With one that does, the test would take hours.
func TestCleanIsLinear(t *testing.T) {
	legacy := regexp.MustCompile(`^legacy-[0-9a-f]{16}$`)
	for _, scheme := range []auth.Scheme{{}, {Prefix: "ab_"}, {Prefix: "_"}, {AlsoAccept: legacy.MatchString}} {
		for _, part := range []string{
			"%25", "25", "%", "isk_", "_", "ab_", "/", "=", "%2525252", "isk_%25", "/legacy-0123456789abcdef", "isk", "x", "\xff",
		} {
			path := "%" + strings.Repeat(part, 1<<20/len(part))
			if got := cleaned(t, scheme, path); len(got) > 1024 {
				t.Errorf("%q…: %d bytes are left", part, len(got))
			}
		}
	}
}

// Redact may cut a text off where it wants.
func TestRedact(t *testing.T) {
	opts := unlimited()
	opts.Redact = func(e *apilog.Entry) {
		e.UserAgent = e.UserAgent[:2]
		e.Path = ""
		e.Owner = "\xff"
		e.Time = e.Time.Truncate(time.Hour)
	}
	r := httptest.NewRequest("GET", "/private", nil)
	r.Header.Set("User-Agent", "xü")
	e := entry(t, opts, r, answer(200))
	if e.Path != "" {
		t.Errorf("path %q", e.Path)
	}
	if e.UserAgent != "x\uFFFD" {
		t.Errorf("user agent %q", e.UserAgent)
	}
	if e.Owner != "" {
		t.Errorf("owner %q", e.Owner)
	}
	if at, _ := apilog.TimeOf(e.ID); !at.Equal(e.Time) {
		t.Errorf("the ID says %v, the entry %v", at, e.Time)
	}
}

// Redact may clear all of an entry. What it stands for stays.
func TestRedactClears(t *testing.T) {
	opts := unlimited()
	opts.KeylessPerSecond = 5
	opts.Redact = func(e *apilog.Entry) { *e = apilog.Entry{Time: e.Time} }
	kept, lost := perKey(recorded(t, opts, answer(200), func(h http.Handler) {
		for range 7 {
			serve(h, requestWith(""))
		}
	}))
	if kept[""] != 5 {
		t.Errorf("%d entries, want 5", kept[""])
	}
	if lost[""] != 2 {
		t.Errorf("%d are lost, want 2", lost[""])
	}
}

// An entry for which Redact panics is counted, and says nothing of itself.
func TestRedactPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTestStore()
		opts := unlimited()
		logger, text := captureLog()
		opts.Logger = logger
		opts.Redact = func(e *apilog.Entry) {
			if e.Path == "/documents" {
				panic(e.UserAgent)
			}
		}
		g := guard(store, opts, answer(200))
		key := g.keys.add(auth.Record{ID: "key_1", Owner: "org_1"})
		r := requestWith(key)
		r.Header.Set("User-Agent", "some browser")
		serve(g, r)
		serve(g, httptest.NewRequest("GET", "/other", nil))
		time.Sleep(5 * time.Second)
		entries := closed(t, g.recorder, store)
		var lost int64
		for _, e := range entries {
			if lost += e.Lost; e.KeyID != "" {
				t.Errorf("an entry of the key: %+v", e)
			}
		}
		if len(entries) != 2 {
			t.Errorf("%d entries, want one and a count", len(entries))
		}
		if lost != 1 {
			t.Errorf("%d are lost, want 1", lost)
		}
		if strings.Contains(text.String(), "some browser") {
			t.Errorf("the log holds the value of the panic: %s", text)
		}
	})
}
