package exampleapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/internal/exampleapi"
	"github.com/insigner/auth/keyring"
)

// get sends a request with a key of org_1 to an API with these logs.
func get(t *testing.T, logs apilog.Store, path string) *httptest.ResponseRecorder {
	t.Helper()
	store := new(keyring.MemoryStore)
	api := exampleapi.API(keyring.NewManager(store, nil), logs)
	ada := auth.Record{ID: "ada", Owner: "org_1", Scopes: auth.Scopes{"*"}}
	r := httptest.NewRequest("GET", path, nil)
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r.WithContext(authtest.NewContext(r.Context(), ada)))
	return w
}

// TestLogPages checks that the cursors lead through all entries of the owner,
// and through no others.
func TestLogPages(t *testing.T) {
	logs := apilog.NewMemoryStore(100)
	at := time.Now().Add(-time.Hour)
	for i := range 5 {
		for _, owner := range []string{"org_1", "org_2"} {
			e := apilog.Entry{ID: apilog.NewID(at), Time: at, Owner: owner, Method: "GET", Path: fmt.Sprint("/", i), Status: 200}
			if err := logs.Append(t.Context(), []apilog.Entry{e}); err != nil {
				t.Fatal(err)
			}
			at = at.Add(time.Second)
		}
	}
	for limit, pages := range map[int]string{1: "/4 | /3 | /2 | /1 | /0", 2: "/4 /3 | /2 /1 | /0", 5: "/4 /3 /2 /1 /0"} {
		var got []string
		for cursor := ""; ; {
			w := get(t, logs, fmt.Sprintf("/api/v1/logs?limit=%d%s", limit, cursor))
			var page struct {
				Data []struct{ Path string }
				Meta struct {
					HasMore    bool
					NextCursor string
				}
			}
			if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil {
				t.Fatalf("status %d: %v", w.Code, err)
			}
			var paths []string
			for _, e := range page.Data {
				paths = append(paths, e.Path)
			}
			got = append(got, strings.Join(paths, " "))
			if page.Meta.HasMore != (page.Meta.NextCursor != "") {
				t.Errorf("limit %d: hasMore is %v with the cursor %q", limit, page.Meta.HasMore, page.Meta.NextCursor)
			}
			if !page.Meta.HasMore {
				break
			}
			cursor = "&cursor=" + page.Meta.NextCursor
		}
		if text := strings.Join(got, " | "); text != pages {
			t.Errorf("limit %d: pages %s, want %s", limit, text, pages)
		}
	}
}

func TestLogParameters(t *testing.T) {
	logs := apilog.NewMemoryStore(1)
	for _, query := range []string{"limit=0", "limit=201", "limit=x", "limit=1&limit=1", "cursor=", "cursor=x", "owner=org_2",
		"Limit=1", "a;b", "%zz"} {
		if w := get(t, logs, "/api/v1/logs?"+query); w.Code != http.StatusBadRequest {
			t.Errorf("%s: status %d, want 400", query, w.Code)
		}
	}
	if w := get(t, logs, "/api/v1/logs?limit=200"); w.Code != http.StatusOK {
		t.Errorf("limit=200: status %d, want 200", w.Code)
	}
}

// TestKeyAPICodes checks that the API logs have the codes of the key API.
func TestKeyAPICodes(t *testing.T) {
	store, logs := new(keyring.MemoryStore), apilog.NewMemoryStore(10)
	mux := exampleapi.API(keyring.NewManager(store, nil), logs)
	recorder := apilog.NewRecorder(logs, nil)
	a := auth.New(store, &auth.Options{OnDecision: recorder.OnDecision})
	handler := recorder.Middleware(a.Middleware(mux)) // outermost
	key := authtest.NewKey(t, store, "*")
	r := httptest.NewRequest("GET", "/api/v1/keys/unknown", nil)
	r.Header.Set("Authorization", "Bearer "+key.Reveal())
	handler.ServeHTTP(httptest.NewRecorder(), r)
	if err := recorder.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	found, err := logs.List(t.Context(), apilog.Query{})
	if err != nil || len(found) != 1 {
		t.Fatalf("%d entries, error %v", len(found), err)
	}
	if found[0].Code != "NOT_FOUND" {
		t.Errorf("code %q, want NOT_FOUND", found[0].Code)
	}
}
