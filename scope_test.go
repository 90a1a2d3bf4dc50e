package auth_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/insigner/auth"
)

// scopeTexts are texts and whether they are scopes.
var scopeTexts = []struct {
	text  string
	valid bool
}{
	{"*", true},
	{"documents.read", true},
	{"documents.*", true},
	{"documents.fields.read", true},
	{"documents.fields.*", true},
	{"a.b", true},
	{"0.9", true},
	{"-._", true},
	{"bulk_sends.re-ad2", true},
	{"a.b.c.d.e.f.g.h", true},

	// One segment alone.
	{"documents", true},
	{"admin", true},
	{"repo", true},
	{"a", true},
	{"0", true},
	{"-", true},
	{"_", true},

	// Letters of either case.
	{"Admin", true},
	{"DOCUMENTS.READ", true},
	{"Documents.read", true},
	{"documents.Read", true},

	// Either separator.
	{"documents:read", true},
	{"documents:*", true},
	{"lists:get_all", true},
	{"documents:fields.read", true},
	{"documents.fields:*", true},
	{"a:b:c", true},

	// At most 255 bytes.
	{strings.Repeat("a", 255), true},
	{strings.Repeat("a", 256), false},
	{strings.Repeat("a", 253) + ".b", true},
	{strings.Repeat("a", 254) + ".b", false},
	{strings.Repeat("a", 253) + ".*", true},
	{strings.Repeat("a", 254) + ".*", false},
	{strings.Repeat("a", 253) + ":*", true},
	{strings.Repeat("a", 254) + ":*", false},
	{strings.Repeat("a.", 127) + "a", true},
	{strings.Repeat("a.", 127) + "aa", false},
	{strings.Repeat("a", 1000000), false},

	{"", false},
	{"**", false},
	{".", false},
	{":", false},
	{"..", false},
	{"::", false},
	{".*", false},
	{":*", false},
	{"*.", false},
	{"*:", false},
	{"*.*", false},
	{"*:*", false},
	{"*.read", false},
	{"*:read", false},
	{"*a", false},
	{"a*", false},
	{"documents.", false},
	{"documents:", false},
	{".read", false},
	{":read", false},
	{"documents..read", false},
	{"documents::read", false},
	{"documents.:read", false},
	{"documents:.read", false},
	{"documents.read.", false},
	{"documents:read:", false},
	{".documents.read", false},
	{"documents.**", false},
	{"documents:**", false},
	{"documents.re*", false},
	{"documents:re*", false},
	{"documents.*d", false},
	{"documents.*.read", false},
	{"documents:*:read", false},
	{"documents.*:read", false},
	{"documents.*.*", false},
	{"documents.*.", false},
	{"documents.*:", false},
	{"docu*", false},
	{"documents.read ", false},
	{" documents.read", false},
	{"documents. read", false},
	{"documents.read\n", false},
	{"documents.read\x00", false},
	{"documents read", false},
	{"documents.read templates.read", false},
	{"documents.read,templates.read", false},
	{"documents/read", false},
	{"documents;read", false},
	{"documents.read+", false},
	{"documents.r\u00e9ad", false},
	{"documents.re\u0430d", false},
	{"documents\u3002read", false},
	{"documents\uff1aread", false},
	{"\uff0a", false},
	{"documents.%2a", false},
	{`documents."read"`, false},
	{"documents.\xff", false},
}

func TestParseScope(t *testing.T) {
	for _, c := range scopeTexts {
		got, err := auth.ParseScope(c.text)
		if (err == nil) != c.valid {
			t.Errorf("ParseScope(%.40q): %v, want a scope: %v", c.text, err, c.valid)
		}
		want := auth.Scope(c.text)
		if !c.valid {
			want = ""
		}
		if got != want {
			t.Errorf("ParseScope(%.40q): %.40q, want %.40q", c.text, got, want)
		}
	}
	// Any byte inside a segment, or between two.
	for c := range 256 {
		text := "a.x" + string([]byte{byte(c)}) + "y"
		_, err := auth.ParseScope(text)
		if want := strings.IndexByte(keyChars+".:", byte(c)) >= 0; (err == nil) != want {
			t.Errorf("ParseScope(%q): %v, want a scope: %v", text, err, want)
		}
	}
}

func TestParseScopeError(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", `auth: "" is not a valid scope`},
		{"a b", `auth: "a b" is not a valid scope`},
		{"a\nb", `auth: "a\nb" is not a valid scope`},
		{"Bearer " + goodKey, "auth: (not shown: 55 bytes that may hold a key) is not a valid scope"},
		{goodKey + ".", "auth: (not shown: 49 bytes that may hold a key) is not a valid scope"},
		{"a b" + strings.Repeat("é", 1000), `auth: "a b` + strings.Repeat("é", 48) + `\xc3"… is not a valid scope`},
	} {
		if _, err := auth.ParseScope(c.text); errorText(err) != c.want {
			t.Errorf("ParseScope(%.60q): %v, want %s", c.text, err, c.want)
		}
	}
}

// TestInvalidScope: a text that is not a scope covers nothing and is covered by
// nothing, not even by itself, and has no effect on other scopes.
func TestInvalidScope(t *testing.T) {
	for _, c := range scopeTexts {
		s := auth.Scope(c.text)
		if got := s.Covers(s); got != c.valid {
			t.Errorf("%.40q covers itself: %v, want %v", s, got, c.valid)
		}
		if got := auth.Scope("*").Covers(s); got != c.valid {
			t.Errorf("* covers %.40q: %v, want %v", s, got, c.valid)
		}
		if got := (auth.Scopes{"*"}).Covers(s); got != c.valid {
			t.Errorf("[*] covers %.40q: %v, want %v", s, got, c.valid)
		}
		if c.valid {
			continue
		}
		for _, required := range []auth.Scope{
			"*", "documents", "documents.*", "documents:*", "documents.read", "documents.fields.read", "a", "a.b",
		} {
			if s.Covers(required) {
				t.Errorf("%.40q covers %s", s, required)
			}
			if (auth.Scopes{s}).Covers(required) {
				t.Errorf("[%.40q] covers %s", s, required)
			}
			if !(auth.Scopes{s, "*", s}).Covers(required) {
				t.Errorf("[%.40q * %.40q] does not cover %s", s, s, required)
			}
		}
	}
}

func TestCovers(t *testing.T) {
	stem := strings.Repeat("a", 253)
	for _, c := range []struct {
		held, required auth.Scope
		want           bool
	}{
		{"*", "*", true},
		{"*", "documents.read", true},
		{"*", "documents.*", true},
		{"*", "documents:*", true},
		{"*", "admin", true},
		{"*", "anything.at-all:what_Ever", true},
		{"*", auth.Scope(stem + ".b"), true},

		{"documents.*", "*", false},
		{"documents.*", "documents.*", true},
		{"documents.*", "documents.read", true},
		{"documents.*", "documents.fields.read", true},
		{"documents.*", "documents.fields.*", true},
		{"documents.*", "documents.fields:*", true},
		{"documents.*", "documents.a.b.c.d", true},
		{"documents.*", "documents", false},
		{"documents.*", "documents.", false},
		{"documents.*", "documentsx.read", false},
		{"documents.*", "documents-x.read", false},
		{"documents.*", "document.read", false},
		{"documents.*", "xdocuments.read", false},
		{"documents.*", "x.documents.read", false},
		{"documents.*", "Documents.read", false},
		{"documents.*", "templates.read", false},
		{"documents.fields.*", "documents.fields.read", true},
		{"documents.fields.*", "documents.fields.*", true},
		{"documents.fields.*", "documents.fields", false},
		{"documents.fields.*", "documents.read", false},
		{"documents.fields.*", "documents.*", false},
		{auth.Scope(stem + ".*"), auth.Scope(stem + ".b"), true},
		{auth.Scope(stem + ".*"), auth.Scope(stem + ":b"), false},

		// The separators differ.
		{"documents:*", "documents:read", true},
		{"documents:*", "documents:fields:read", true},
		{"documents:*", "documents:fields.read", true},
		{"documents:*", "documents:*", true},
		{"documents:*", "documents.read", false},
		{"documents:*", "documents.*", false},
		{"documents:*", "documents", false},
		{"documents:*", "*", false},
		{"documents.*", "documents:read", false},
		{"documents.*", "documents:*", false},
		{"documents.fields:*", "documents.fields:read", true},
		{"documents.fields:*", "documents:fields:read", false},
		{"documents.fields:*", "documents.fields.read", false},
		{"documents:read", "documents:read", true},
		{"documents:read", "documents.read", false},
		{"documents.read", "documents:read", false},

		{"documents.read", "documents.read", true},
		{"documents.read", "documents.*", false},
		{"documents.read", "*", false},
		{"documents.read", "documents", false},
		{"documents.read", "documents.readx", false},
		{"documents.read", "documents.rea", false},
		{"documents.read", "documents.read.all", false},
		{"documents.read.all", "documents.read", false},
		{"documents.read", "documents.write", false},
		{"documents.read", "templates.read", false},

		// One segment alone covers nothing below it.
		{"documents", "documents", true},
		{"documents", "documents.read", false},
		{"documents", "documents:read", false},
		{"documents", "documents.*", false},
		{"admin", "admin", true},
		{"admin", "*", false},
		{"admin", "administrator", false},
		{"administrator", "admin", false},

		// Case matters.
		{"admin", "Admin", false},
		{"Admin", "admin", false},
		{"Admin", "Admin", true},
		{"Documents.*", "Documents.Read", true},
		{"Documents.*", "documents.read", false},

		{"bulk_sends.*", "bulk_sends.read", true},
		{"bulk_sends.*", "bulk-sends.read", false},
		{"a.*", "a.b", true},
		{"a.*", "aa.b", false},
		{"a:*", "a:b", true},
		{"a:*", "a.b", false},
	} {
		if got := c.held.Covers(c.required); got != c.want {
			t.Errorf("%.40s covers %.40s: %v, want %v", c.held, c.required, got, c.want)
		}
		if got := (auth.Scopes{"x.y", c.held}).Covers(c.required); got != c.want {
			t.Errorf("[x.y %.40s] covers %.40s: %v, want %v", c.held, c.required, got, c.want)
		}
		if got := (auth.Scopes{c.held, "x.y"}).Covers(c.required); got != c.want {
			t.Errorf("[%.40s x.y] covers %.40s: %v, want %v", c.held, c.required, got, c.want)
		}
	}
}

func TestNoScopes(t *testing.T) {
	for _, none := range []auth.Scopes{nil, {}} {
		for _, required := range []auth.Scope{"", "*", "documents.read", "admin"} {
			if none.Covers(required) {
				t.Errorf("%#v cover %q", none, required)
			}
		}
	}
}

func TestScopesJSON(t *testing.T) {
	type holder struct {
		Scopes  auth.Scopes
		Pointer *auth.Scopes
	}
	for _, c := range []struct {
		name  string
		value any
		want  string
	}{
		{"nil", auth.Scopes(nil), `[]`},
		{"empty", auth.Scopes{}, `[]`},
		{"one", auth.Scopes{"*"}, `["*"]`},
		{"two", auth.Scopes{"b.c", "a:b"}, `["b.c","a:b"]`},
		{"in a struct", holder{Pointer: new(auth.Scopes)}, `{"Scopes":[],"Pointer":[]}`},
		{"in a map", map[string]auth.Scopes{"a": nil}, `{"a":[]}`},
		{"in a slice", []auth.Scopes{nil, {"a"}}, `[[],["a"]]`},
	} {
		got, err := json.Marshal(c.value)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if string(got) != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	for _, c := range []struct {
		text string
		want auth.Scopes
	}{
		{`[]`, auth.Scopes{}},
		{`null`, nil},
		{`["b.c","a:b"]`, auth.Scopes{"b.c", "a:b"}},
		{`["no scope"]`, auth.Scopes{"no scope"}}, // it grants nothing
	} {
		var got auth.Scopes
		if err := json.Unmarshal([]byte(c.text), &got); err != nil {
			t.Errorf("%s: %v", c.text, err)
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %#v, want %#v", c.text, got, c.want)
		}
	}
	// Marshaling does not give the memory of the scopes away.
	scopes := make(auth.Scopes, 1, 8)
	scopes[0] = "a.b"
	if _, err := json.Marshal(scopes); err != nil {
		t.Fatal(err)
	}
	if got := scopes[:2][1]; got != "" {
		t.Errorf("marshaling wrote %q after the scopes", got)
	}
}
