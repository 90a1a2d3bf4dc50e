package auth_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/insigner/auth"
)

// publishedScopes is the specification's table, with what each scope grants of all the scopes in it: rows by number.
var publishedScopes = []struct {
	scope, description string
	grants             string
}{
	{"*", "Full access to all resources", "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22"},
	{"documents.*", "Full access to documents", "1 2 3 4 5 6"},
	{"documents.read", "List and retrieve documents", "2"},
	{"documents.create", "Create new documents", "3"},
	{"documents.write", "Update documents, add fields/signers, upload files", "4"},
	{"documents.send", "Send documents and reminders", "5"},
	{"documents.delete", "Delete documents", "6"},
	{"templates.read", "List and retrieve templates", "7"},
	{"campaigns.*", "Full access to campaigns", "8 9 10 11 12"},
	{"campaigns.read", "List and retrieve campaigns", "9"},
	{"campaigns.create", "Create campaigns", "10"},
	{"campaigns.update", "Update campaigns", "11"},
	{"campaigns.delete", "Delete campaigns", "12"},
	{"bulk_sends.*", "Full access to bulk sends", "13 14 15 16"},
	{"bulk_sends.read", "List and retrieve bulk sends", "14"},
	{"bulk_sends.create", "Create bulk sends", "15"},
	{"bulk_sends.delete", "Delete bulk sends", "16"},
	{"webhooks.*", "Full access to webhooks", "17 18 19 20 21"},
	{"webhooks.read", "List and retrieve webhooks", "18"},
	{"webhooks.create", "Create webhooks", "19"},
	{"webhooks.update", "Update webhooks", "20"},
	{"webhooks.delete", "Delete webhooks", "21"},
	{"org.read", "Read organization info and members", "22"},
}

func TestDefaultCatalog(t *testing.T) {
	if len(auth.DefaultCatalog) != len(publishedScopes) || len(publishedScopes) != 23 {
		t.Fatalf("%d scopes, and %d published", len(auth.DefaultCatalog), len(publishedScopes))
	}
	for i, want := range publishedScopes {
		if got := auth.DefaultCatalog[i]; string(got.Scope) != want.scope || got.Description != want.description {
			t.Errorf("row %d: %v, want %v", i, got, want)
		}
		if err := auth.DefaultCatalog.Validate(auth.Scope(want.scope)); err != nil {
			t.Errorf("%s: %v", want.scope, err)
		}
	}
}

// TestPublishedScopes tries every published scope on a route for every published scope.
func TestPublishedScopes(t *testing.T) {
	for _, held := range publishedScopes {
		a := auth.New(newStore(scopedRecord(auth.Scope(held.scope))), nil)
		grants := " " + held.grants + " "
		for j, required := range publishedScopes {
			want := strings.Contains(grants, " "+itoa(j)+" ")
			h := a.Require(auth.Scope(required.scope))(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, requestWith(goodKey))
			if wantCode := map[bool]int{true: 200, false: 403}[want]; w.Code != wantCode {
				t.Errorf("a key with %s on a route for %s: %d, want %d", held.scope, required.scope, w.Code, wantCode)
			}
			if got := auth.Scope(held.scope).Covers(auth.Scope(required.scope)); got != want {
				t.Errorf("%s covers %s: %v, want %v", held.scope, required.scope, got, want)
			}
		}
	}
}

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
	{strings.Repeat("a", 1000) + ".b", true},
	{"", false},
	{"documents", false},
	{"**", false},
	{".", false},
	{"..", false},
	{".*", false},
	{"*.", false},
	{"*.*", false},
	{"*.read", false},
	{"documents.", false},
	{".read", false},
	{"documents..read", false},
	{"documents.read.", false},
	{".documents.read", false},
	{"documents.**", false},
	{"documents.re*", false},
	{"documents.*d", false},
	{"documents.*.read", false},
	{"documents.*.*", false},
	{"documents.*.", false},
	{"docu*", false},
	{"Documents.read", false},
	{"documents.Read", false},
	{"DOCUMENTS.READ", false},
	{"documents.read ", false},
	{" documents.read", false},
	{"documents. read", false},
	{"documents.read\n", false},
	{"documents.read\x00", false},
	{"documents read", false},
	{"documents.read templates.read", false},
	{"documents.read,templates.read", false},
	{"documents:read", false},
	{"documents/read", false},
	{"documents.read+", false},
	{"documents.r\u00e9ad", false},
	{"documents.re\u0430d", false},
	{"documents\u3002read", false},
	{"\uff0a", false},
	{"documents.%2a", false},
	{`documents."read"`, false},
	{"documents.\xff", false},
}

func TestParseScope(t *testing.T) {
	for _, c := range scopeTexts {
		s, err := auth.ParseScope(c.text)
		if (err == nil) != c.valid || c.valid && string(s) != c.text || !c.valid && s != "" {
			t.Errorf("ParseScope(%.40q): %.40q, %v; valid: %v", c.text, s, err, c.valid)
		}
	}
	for c := range 256 {
		text := "a.x" + string([]byte{byte(c)}) + "y"
		_, err := auth.ParseScope(text)
		if want := strings.IndexByte("abcdefghijklmnopqrstuvwxyz0123456789_-.", byte(c)) >= 0; (err == nil) != want {
			t.Errorf("ParseScope(%q): %v; valid: %v", text, err, want)
		}
	}
	if _, err := auth.ParseScope(goodKey); err == nil || leaks(err.Error(), goodKey) {
		t.Errorf("ParseScope of a key: %v", err)
	}
	if _, err := auth.ParseScope(strings.Repeat("é", 1000)); len(err.Error()) > 1000 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

// TestInvalidScope: what is no scope covers nothing and is covered by nothing, itself neither, and breaks nothing.
func TestInvalidScope(t *testing.T) {
	for _, c := range scopeTexts {
		s := auth.Scope(c.text)
		if got := s.Covers(s); got != c.valid {
			t.Errorf("%.40q covers itself: %v", s, got)
		}
		if got := auth.Scope("*").Covers(s); got != c.valid {
			t.Errorf("* covers %.40q: %v", s, got)
		}
		if got := (auth.Scopes{"*"}).Allow(s); got != c.valid {
			t.Errorf("[*] allow %.40q: %v", s, got)
		}
		if c.valid {
			continue
		}
		for _, required := range []auth.Scope{"*", "documents.*", "documents.read", "documents.fields.read", "a.b"} {
			if s.Covers(required) || (auth.Scopes{s}).Allow(required) {
				t.Errorf("%q covers %s", s, required)
			}
			if !(auth.Scopes{s, "*", s}).Allow(required) {
				t.Errorf("beside %q, * does not cover %s", s, required)
			}
		}
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		held, required auth.Scope
		want           bool
	}{
		{"*", "documents.read", true},
		{"*", "documents.*", true},
		{"*", "*", true},
		{"*", "anything.at-all.what_ever", true},
		{"documents.*", "*", false},
		{"documents.*", "documents.*", true},
		{"documents.*", "documents.read", true},
		{"documents.*", "documents.fields.read", true},
		{"documents.*", "documents.fields.*", true},
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
		{"documents.read", "documents.read", true},
		{"documents.read", "documents.*", false},
		{"documents.read", "*", false},
		{"documents.read", "documents.readx", false},
		{"documents.read", "documents.rea", false},
		{"documents.read", "documents.read.all", false},
		{"documents.read.all", "documents.read", false},
		{"documents.read", "documents.write", false},
		{"documents.read", "templates.read", false},
		{"bulk_sends.*", "bulk_sends.read", true},
		{"bulk_sends.*", "bulk-sends.read", false},
		{"a.*", "a.b", true},
		{"a.*", "aa.b", false},
	} {
		if got := c.held.Covers(c.required); got != c.want {
			t.Errorf("%s covers %s: %v, want %v", c.held, c.required, got, c.want)
		}
		if got := (auth.Scopes{"x.y", c.held}).Allow(c.required); got != c.want {
			t.Errorf("[x.y %s] allow %s: %v, want %v", c.held, c.required, got, c.want)
		}
	}
	for _, none := range []auth.Scopes{nil, {}} {
		if none.Allow("documents.read") || none.Allow("*") || none.Allow("") {
			t.Errorf("%#v allow something", none)
		}
	}
}

func TestCatalogValidate(t *testing.T) {
	small := auth.Catalog{{Scope: "documents.read"}, {Scope: "templates.*"}}
	for _, c := range []struct {
		catalog auth.Catalog
		scopes  auth.Scopes
		message string // empty: valid
	}{
		{small, nil, ""},
		{small, auth.Scopes{"documents.read"}, ""},
		{small, auth.Scopes{"documents.read", "templates.*"}, ""},
		{small, auth.Scopes{"templates.read"}, `auth: the catalog does not list the scope "templates.read"`}, // below the wildcard, not listed
		{small, auth.Scopes{"documents.*"}, `auth: the catalog does not list the scope "documents.*"`},
		{small, auth.Scopes{"*"}, `auth: the catalog does not list the scope "*"`},
		{small, auth.Scopes{"documents.read", "nope", "x.y"}, `auth: "nope" is not a scope`},
		{small, auth.Scopes{""}, `auth: "" is not a scope`},
		{auth.Catalog{}, nil, ""},
		{auth.Catalog{}, auth.Scopes{"*"}, `auth: the catalog does not list the scope "*"`},
		{nil, auth.Scopes{"any.thing", "*", "x.*"}, ""},
		{nil, auth.Scopes{"any"}, `auth: "any" is not a scope`},
		{auth.Catalog{{Scope: "any"}}, auth.Scopes{"any"}, `auth: "any" is not a scope`},
		{auth.DefaultCatalog, auth.Scopes{"templates.*"}, `auth: the catalog does not list the scope "templates.*"`},
		{auth.DefaultCatalog, auth.Scopes{"org.write"}, `auth: the catalog does not list the scope "org.write"`},
	} {
		err := c.catalog.Validate(c.scopes...)
		if got := errorText(err); got != c.message {
			t.Errorf("%v.Validate(%v): %q, want %q", c.catalog, c.scopes, got, c.message)
		}
	}
}
