package auth_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/insigner/auth"
)

// publishedScopes is the table of the inSigner API documentation, "Scopes". It
// also says by row number which of these scopes each covers.
var publishedScopes = []struct {
	scope, description string
	covers             string
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

func TestPublishedCatalog(t *testing.T) {
	catalog := auth.PublishedCatalog()
	if got, want := len(catalog), 23; got != want {
		t.Fatalf("%d scopes, want %d", got, want)
	}
	for i, want := range publishedScopes {
		if got := string(catalog[i].Scope); got != want.scope {
			t.Errorf("row %d: scope %s, want %s", i, got, want.scope)
		}
		if got := catalog[i].Description; got != want.description {
			t.Errorf("row %d: %q, want %q", i, got, want.description)
		}
		if err := catalog.Validate(auth.Scope(want.scope)); err != nil {
			t.Errorf("%s: %v", want.scope, err)
		}
	}
	if err := (auth.Scheme{Catalog: catalog}).Validate(); err != nil {
		t.Errorf("as the Catalog of a Scheme: %v", err)
	}
}

// TestPublishedCatalogIsACopy: a caller that changes the catalog does not
// change it for others.
func TestPublishedCatalogIsACopy(t *testing.T) {
	mine := auth.PublishedCatalog()
	clear(mine)
	_ = append(mine[:1], auth.ScopeInfo{Scope: "x.y"})
	for i, want := range publishedScopes {
		got := auth.PublishedCatalog()[i]
		if string(got.Scope) != want.scope {
			t.Errorf("row %d: scope %q, want %s", i, got.Scope, want.scope)
		}
		if got.Description != want.description {
			t.Errorf("row %d: %q, want %q", i, got.Description, want.description)
		}
	}
}

// TestPublishedScopes tries a key with each published scope on a route for
// each.
func TestPublishedScopes(t *testing.T) {
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for _, held := range publishedScopes {
		opts := &auth.Options{Scheme: auth.Scheme{Catalog: auth.PublishedCatalog()}}
		a := auth.New(newStore(scopedRecord(auth.Scope(held.scope))), opts)
		covered := " " + held.covers + " "
		for j, required := range publishedScopes {
			want, wantStatus := false, 403
			if strings.Contains(covered, " "+strconv.Itoa(j)+" ") {
				want, wantStatus = true, 200
			}
			w := httptest.NewRecorder()
			a.Require(auth.Scope(required.scope))(handler).ServeHTTP(w, requestWith(goodKey))
			if w.Code != wantStatus {
				t.Errorf("a key with %s on a route for %s: %d, want %d", held.scope, required.scope, w.Code, wantStatus)
			}
			if got := auth.Scope(held.scope).Covers(auth.Scope(required.scope)); got != want {
				t.Errorf("%s covers %s: %v, want %v", held.scope, required.scope, got, want)
			}
		}
	}
}

func TestCatalogValidate(t *testing.T) {
	small := auth.Catalog{{Scope: "documents.read"}, {Scope: "templates.*"}, {Scope: "admin"}}
	const unlisted, invalid = "auth: the catalog does not list the scope %s", "auth: %s is not a valid scope"
	for _, c := range []struct {
		name    string
		catalog auth.Catalog
		scopes  auth.Scopes
		want    string // the error; empty if they are valid
	}{
		{"small", small, nil, ""},
		{"small", small, auth.Scopes{"documents.read"}, ""},
		{"small", small, auth.Scopes{"documents.read", "templates.*", "admin"}, ""},
		{"small", small, auth.Scopes{"templates.read"}, fmt.Sprintf(unlisted, `"templates.read"`)},
		// a wildcard counts only as itself
		{"small", small, auth.Scopes{"documents.*"}, fmt.Sprintf(unlisted, `"documents.*"`)},
		{"small", small, auth.Scopes{"documents:read"}, fmt.Sprintf(unlisted, `"documents:read"`)},
		{"small", small, auth.Scopes{"Admin"}, fmt.Sprintf(unlisted, `"Admin"`)},
		{"small", small, auth.Scopes{"*"}, fmt.Sprintf(unlisted, `"*"`)},
		{"small", small, auth.Scopes{"documents.read", "no.", "x.y"}, fmt.Sprintf(invalid, `"no."`)},
		{"small", small, auth.Scopes{"documents.read", "x.y", "no."}, fmt.Sprintf(unlisted, `"x.y"`)},
		{"small", small, auth.Scopes{""}, fmt.Sprintf(invalid, `""`)},
		{"small", small, auth.Scopes{goodKey}, fmt.Sprintf(unlisted, "(not shown: 48 bytes that may hold a key)")},
		{"empty", auth.Catalog{}, nil, ""},
		{"empty", auth.Catalog{}, auth.Scopes{"*"}, fmt.Sprintf(unlisted, `"*"`)},
		{"nil", nil, nil, ""},
		{"nil", nil, auth.Scopes{"any.thing", "*", "x.*", "any", "a:b"}, ""},
		{"nil", nil, auth.Scopes{"any", "no."}, fmt.Sprintf(invalid, `"no."`)},
		{"an invalid scope", auth.Catalog{{Scope: "no."}}, auth.Scopes{"no."}, fmt.Sprintf(invalid, `"no."`)},
		{"published", auth.PublishedCatalog(), auth.Scopes{"templates.*"}, fmt.Sprintf(unlisted, `"templates.*"`)},
		{"published", auth.PublishedCatalog(), auth.Scopes{"org.write"}, fmt.Sprintf(unlisted, `"org.write"`)},
	} {
		if got := errorText(c.catalog.Validate(c.scopes...)); got != c.want {
			t.Errorf("%s catalog: Validate(%v): %q, want %q", c.name, c.scopes, got, c.want)
		}
	}
}

func TestCatalogJSON(t *testing.T) {
	got, err := json.Marshal(auth.PublishedCatalog()[2:4])
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"scope":"documents.read","description":"List and retrieve documents"},` +
		`{"scope":"documents.create","description":"Create new documents"}]`
	if string(got) != want {
		t.Errorf("%s, want %s", got, want)
	}
}
