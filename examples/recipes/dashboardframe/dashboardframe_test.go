package dashboardframe_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/dashboard"
	"github.com/insigner/auth/examples/recipes/dashboardframe"
	"github.com/insigner/auth/keyring"
)

func get(t *testing.T, path, language string) *httptest.ResponseRecorder {
	t.Helper()
	manager := keyring.NewManager(new(keyring.MemoryStore), &keyring.Options{Scheme: auth.Scheme{Catalog: auth.PublishedCatalog()}})
	pages := dashboardframe.New(manager, func(http.ResponseWriter, *http.Request) (dashboard.Viewer, bool) {
		return dashboard.Viewer{Actor: keyring.Actor{Name: "Ada", Owner: "acme", Scopes: auth.Scopes{"*"}}}, true
	})
	r := httptest.NewRequest("GET", path, nil)
	r.Header.Set("Accept-Language", language)
	w := httptest.NewRecorder()
	pages.ServeHTTP(w, r)
	return w
}

func TestFrame(t *testing.T) {
	for path, status := range map[string]int{"/developers/": 200, "/developers/keys/unknown": 404} {
		w := get(t, path, "en")
		if w.Code != status {
			t.Errorf("%s: status %d, want %d", path, w.Code, status)
		}
		own := strings.Index(w.Body.String(), "/assets/style.css")
		host := strings.Index(w.Body.String(), "/static/acme.css")
		if own < 0 || host < own {
			t.Errorf("%s: the style sheet of the host does not come last:\n%s", path, w.Body)
		}
		if n := strings.Count(w.Body.String(), "<main"); n != 1 {
			t.Errorf("%s: there are %d elements main", path, n)
		}
		if !strings.Contains(w.Body.String(), "<title>") || !strings.Contains(w.Body.String(), "· Acme</title>") {
			t.Errorf("%s: the title is not that of the page and of the host", path)
		}
	}
	if w := get(t, "/static/acme.css", "en"); w.Code != 200 {
		t.Errorf("the style sheet: status %d", w.Code)
	}
}

func TestLanguage(t *testing.T) {
	for language, texts := range map[string][]string{
		"de-CH,de;q=0.9": {`<html lang="de">`, "API-Schlüssel anlegen", "Ada für acme"},
		"fr":             {`<html lang="en">`, "Create API Key", "Ada for acme"},
	} {
		page := get(t, "/developers/", language).Body.String()
		for _, text := range texts {
			if !strings.Contains(page, text) {
				t.Errorf("%s: the page has no %q:\n%s", language, text, page)
			}
		}
	}
}

// TestGerman checks that each text exists, and that its translation takes the
// same arguments.
func TestGerman(t *testing.T) {
	texts := dashboard.Texts()
	for english, translated := range dashboardframe.German {
		if !slices.Contains(texts, english) {
			t.Errorf("there is no text %q", english)
		}
		var args []any
		for i := range len(english) - 1 {
			switch english[i : i+2] {
			case "%s":
				args = append(args, "text")
			case "%d":
				args = append(args, 1)
			}
		}
		if got := fmt.Sprintf(translated, args...); strings.Contains(got, "%!") {
			t.Errorf("the translation of %q takes other arguments: %s", english, got)
		}
	}
}
