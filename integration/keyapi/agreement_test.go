package keyapi_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// The API refuses what the document does not permit.
func TestRequestsRefused(t *testing.T) {
	doc := newDocument(t, closed(t, served(t)))
	long := strings.Repeat("x", 256)
	for _, c := range []struct {
		operation, query, body string
		field, value           string // of the header
		status                 int
	}{
		{"listKeys", "limit=0", "", "", "", 400},
		{"listKeys", "limit=201", "", "", "", 400},
		{"listKeys", "limit=many", "", "", "", 400},
		{"listKeys", "status=rotated", "", "", "", 400},
		{"listKeys", "status=active,rotated", "", "", "", 400},
		{"listKeys", "q=" + long, "", "", "", 400},
		{"listKeys", "kind=created", "", "", "", 400},
		{"listEvents", "kind=used", "", "", "", 400},
		{"listEvents", "from=yesterday", "", "", "", 400},
		{"listEvents", "to=2026-01-01", "", "", "", 400},
		{"createKey", "", ``, "", "", 400},
		{"createKey", "", `{}`, "", "", 422},
		{"createKey", "", `[]`, "", "", 400},
		{"createKey", "", `{"name":`, "", "", 400},
		{"createKey", "", `{"name":null}`, "", "", 422},
		{"createKey", "", `{"name":1}`, "", "", 400},
		{"createKey", "", `{"name":"n","owner":"acme"}`, "", "", 400},
		{"createKey", "", `{"name":"n","scopes":"a"}`, "", "", 400},
		{"createKey", "", `{"name":"n","scopes":[1]}`, "", "", 400},
		{"createKey", "", `{"name":"n","scopes":["a` + strings.Repeat(`","a`, 256) + `"]}`, "", "", 422},
		{"createKey", "", `{"name":"n","expiresAt":"tomorrow"}`, "", "", 400},
		{"createKey", "", `{"name":"n","expiresAt":1}`, "", "", 400},
		{"createKey", "", `{"name":"n","metadata":[]}`, "", "", 400},
		{"createKey", "", `{"name":"n","metadata":{"team":1}}`, "", "", 400},
		{"createKey", "", `{"name":"n"}`, "Idempotency-Key", long, 400},
		{"createKey", "", `{"name":"n"}`, "Content-Type", "text/plain", 415},
		{"createKey", "", `{"name":"n"}`, "Content-Type", "application/merge-patch+json", 415},
		{"updateKey", "", `{"name":1}`, "", "", 400},
		{"updateKey", "", `{"disabledAt":null}`, "", "", 400},
		{"rotateKey", "", `{"graceSeconds":-1}`, "", "", 422},
		{"rotateKey", "", `{"graceSeconds":0.5}`, "", "", 400},
		{"rotateKey", "", `{"graceSeconds":null}`, "", "", 400},
		{"rotateSelf", "", `{"scopes":["*"]}`, "", "", 400},
		{"revokeKey", "", `{"andCreated":"yes"}`, "", "", 400},
		{"disableKey", "", `{"name":"n"}`, "", "", 400},
		{"revokeSelf", "", `{"andCreated":true}`, "", "", 400},
	} {
		a := newAPI(t, doc)
		r, _ := a.request(c.operation)
		r.path, r.body, r.undocumented = r.path+"?"+c.query, c.body, true
		if c.field != "" {
			r.fields = map[string]string{c.field: c.value}
		}
		a.do(c.operation, r, c.status)
	}
}

// The API accepts what the document permits.
func TestRequestsAccepted(t *testing.T) {
	doc := newDocument(t, closed(t, served(t)))
	for _, c := range []struct {
		operation, query, body string
		field, value           string // of the header
		status                 int
	}{
		{"listKeys", "limit=1", "", "", "", 200},
		{"listKeys", "limit=200&status=active,disabled,revoked,expired&q=isk", "", "", "", 200},
		{"listKeys", "q=" + strings.Repeat("x", 255), "", "", "", 200},
		{"listEvents", "limit=1&kind=created&from=2026-01-01T00:00:00Z&to=2999-01-01T00:00:00.5%2B01:00", "", "", "", 200},
		{"listKeyEvents", "limit=200&kind=deleted", "", "", "", 200},
		{"createKey", "", `{"name":"n"}`, "", "", 201},
		{"createKey", "", `{"name":"n","scopes":null,"expiresAt":null,"metadata":null}`, "", "", 201},
		{"createKey", "", `{"name":"n","metadata":{"team":null}}`, "", "", 201},
		{"createKey", "", `{"name":"n"}`, "Idempotency-Key", strings.Repeat("x", 248), 201},
		{"createKey", "", `{"name":"n"}`, "Content-Type", "application/json; charset=utf-8", 201},
		{"updateKey", "", `{}`, "", "", 200},
		{"updateKey", "", `{"scopes":null}`, "Content-Type", "application/merge-patch+json", 200},
		{"updateKey", "", `{"metadata":null}`, "If-Match", `"1"`, 200},
		{"rotateKey", "", ``, "If-Match", `W/"1"`, 201},
		{"rotateKey", "", `{}`, "", "", 201},
		{"rotateKey", "", `{"graceSeconds":2592000}`, "", "", 201},
		{"rotateSelf", "", ``, "", "", 201},
		{"revokeKey", "", ``, "", "", 200},
		{"revokeKey", "", `{"andCreated":false}`, "If-Match", `*`, 200},
		{"getKey", "", ``, "If-None-Match", `"2"`, 200},
	} {
		a := newAPI(t, doc)
		r, _ := a.request(c.operation)
		r.path, r.body = r.path+"?"+c.query, c.body
		if c.field != "" {
			r.fields = map[string]string{c.field: c.value}
		}
		a.do(c.operation, r, c.status)
	}
}

// The answers about a key that has everything, and about one that has nothing,
// are as the document says. So are those with several pages.
func TestAnswersOfEachKind(t *testing.T) {
	a := newAPI(t, newDocument(t, closed(t, served(t))))
	_, secret := a.create(owner, "*")
	do := func(operation, query, id, body string, status int) answer {
		t.Helper()
		op := a.doc.operations[operation]
		path := strings.Replace(op.path, "{id}", id, 1) + "?" + query
		return a.do(operation, request{method: op.method, path: path, body: body, secret: secret}, status)
	}
	full := do("createKey", "", "", `{"name":"full","scopes":["a.b","c"],"expiresAt":"2999-01-01T00:00:00Z"}`, 422)
	if full.str("pointer") != "/expiresAt" {
		t.Errorf("an expiry after MaxLifetime: pointer %q, want /expiresAt", full.str("pointer"))
	}
	full = do("createKey", "", "", `{"name":"full","scopes":["a.b","c"],"metadata":{"team":"blue"}}`, 201)
	empty := do("createKey", "", "", `{"name":"empty"}`, 201)
	do("disableKey", "", full.str("id"), "", 200)
	do("enableKey", "", full.str("id"), "", 200)
	do("updateKey", "", full.str("id"), `{"name":"renamed","scopes":[],"metadata":{"team":"red"}}`, 200)
	next := do("rotateKey", "", full.str("id"), `{"graceSeconds":60}`, 201)
	must(t, a.store.Touch(t.Context(), map[string]time.Time{full.str("id"): time.Now()}))
	if got := do("getKey", "", full.str("id"), "", 200); got["lastUsedAt"] == nil || got["rotatedTo"] != next["id"] {
		t.Errorf("last use %v and successor %v of a key that has both", got["lastUsedAt"], got["rotatedTo"])
	}
	do("revokeKey", "", next.str("id"), `{"andCreated":true}`, 200)
	do("deleteKey", "", empty.str("id"), "", 204)

	for _, list := range []string{"listKeys", "listEvents"} {
		page, n := do(list, "limit=1", "", "", 200), 1
		for ; page.meta()["hasMore"] == true; n++ {
			page = do(list, "limit=1&cursor="+page.meta()["nextCursor"].(string), "", "", 200)
		}
		if n < 3 {
			t.Errorf("%s has %d pages, want at least 3", list, n)
		}
	}
	kinds := map[string]bool{}
	for _, e := range do("listEvents", "", "", "", 200)["data"].([]any) {
		kinds[e.(map[string]any)["kind"].(string)] = true
	}
	if len(kinds) != 7 {
		t.Errorf("events of the kinds %v, want all 7", kinds)
	}
}

// A method that the document does not have is refused. Allow names those that
// it has.
func TestMethods(t *testing.T) {
	doc := newDocument(t, closed(t, served(t)))
	a := newAPI(t, doc)
	id, _ := a.create(owner)
	_, secret := a.create(owner, "*")
	allowed := map[string][]string{}
	for _, op := range doc.operations {
		allowed[op.path] = append(allowed[op.path], op.method)
		if op.method == "GET" {
			allowed[op.path] = append(allowed[op.path], "HEAD") // RFC 9110 section 9.1
		}
	}
	for path, want := range allowed {
		slices.Sort(want)
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"} {
			if slices.Contains(want, method) {
				continue
			}
			r := httptest.NewRequest(method, strings.Replace(path, "{id}", id, 1), nil)
			r.Header.Set("Authorization", "Bearer "+secret)
			w := httptest.NewRecorder()
			a.ServeHTTP(w, r)
			if w.Code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: status %d, want 405", method, path, w.Code)
			}
			if allow := w.Header().Get("Allow"); allow != strings.Join(want, ", ") {
				t.Errorf("%s %s: Allow is %q, want %v", method, path, allow, want)
			}
		}
	}
}

// Answers that are not as the document says are noticed, so it means something
// that those of the API are not.
func TestWrongAnswersAreNoticed(t *testing.T) {
	a := newAPI(t, newDocument(t, closed(t, served(t))))
	for _, c := range []struct {
		name, operation string
		change          func(answer *http.Response, body answer)
	}{
		{"an unknown member", "getKey", func(_ *http.Response, b answer) { b["hash"] = "" }},
		{"an unknown member deep in a list", "listEvents", func(_ *http.Response, b answer) {
			b.first()["changes"] = map[string]any{"name": map[string]any{"from": "", "to": "", "at": ""}}
		}},
		{"a missing member", "getKey", func(_ *http.Response, b answer) { delete(b, "hint") }},
		{"null where it may not be", "getKey", func(_ *http.Response, b answer) { b["name"] = nil }},
		{"an unknown status of a key", "getKey", func(_ *http.Response, b answer) { b["status"] = "rotated" }},
		{"an invalid time", "getKey", func(_ *http.Response, b answer) { b["expiresAt"] = "never" }},
		{"a number with a fraction", "getKey", func(_ *http.Response, b answer) { b["revision"] = 1.5 }},
		{"a secret", "getKey", func(_ *http.Response, b answer) { b["key"] = "isk_" }},
		{"an unknown status", "getKey", func(r *http.Response, _ answer) { r.StatusCode = 418 }},
		{"the status of another operation", "getKey", func(r *http.Response, _ answer) { r.StatusCode = 201 }},
		{"another media type", "getKey", func(r *http.Response, _ answer) { r.Header.Set("Content-Type", "text/json") }},
		{"no media type", "getKey", func(r *http.Response, _ answer) { r.Header.Del("Content-Type") }},
		{"a missing field", "getKey", func(r *http.Response, _ answer) { r.Header.Del("ETag") }},
		{"an unknown field", "getKey", func(r *http.Response, _ answer) { r.Header.Set("Location", "/") }},
		{"a body without content", "deleteKey", func(_ *http.Response, b answer) { b["id"] = "" }},
		{"content without a body", "getKey", func(_ *http.Response, b answer) { clear(b) }},
	} {
		r, _ := a.request(c.operation)
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r.http())
		body := answer{}
		if w.Body.Len() > 0 {
			must(t, json.Unmarshal(w.Body.Bytes(), &body))
		}
		wrong := w.Result()
		c.change(wrong, body)
		text, err := json.Marshal(body)
		must(t, err)
		if len(body) == 0 {
			text = nil
		}
		wrong.Body = io.NopCloser(bytes.NewReader(text))
		if a.doc.checkAnswer(c.operation, r.http(), wrong) == "" {
			t.Errorf("%s: not noticed", c.name)
		}
	}
}
