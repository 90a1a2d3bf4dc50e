package headers_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/examples/recipes/headers"
	"github.com/insigner/auth/examples/recipes/internal/try"
	"github.com/insigner/auth/keyring"
)

func TestHeader(t *testing.T) {
	store := new(keyring.MemoryStore)
	reader := authtest.NewKey(t, store, "documents.read").Reveal()
	scopeless := authtest.NewKey(t, store).Reveal()
	unknown := auth.Scheme{}.NewKey().Reveal()
	both := func(authorization, key string) http.Header {
		return try.Header("Authorization", authorization, "X-API-Key", key)
	}
	url := try.Server(t, headers.NewApp(store)) + "/documents"
	for _, c := range []struct {
		name   string
		header http.Header
		status int
		code   string
	}{
		{"no key", try.Header(), 401, "MISSING_KEY"},
		{"X-API-Key", try.Header("X-API-Key", reader), 200, ""},
		{"in another case", try.Header("x-api-key", reader), 200, ""},
		{"Authorization", try.Header("Authorization", "Bearer "+reader), 200, ""},
		{"without the scope", try.Header("X-API-Key", scopeless), 403, "INSUFFICIENT_SCOPE"},
		{"an unknown key", try.Header("X-API-Key", unknown), 401, "INVALID_KEY"},
		{"no key at all", try.Header("X-API-Key", "hello"), 401, "INVALID_FORMAT"},
		{"an empty field", try.Header("X-API-Key", ""), 401, "MISSING_KEY"},
		{"a scheme in front of the key", try.Header("X-API-Key", "Bearer "+reader), 401, "INVALID_FORMAT"},
		{"the same key twice", try.Header("X-API-Key", reader, "X-API-Key", reader), 401, "INVALID_KEY"},
		{"a good key, then another", try.Header("X-API-Key", reader, "X-API-Key", unknown), 401, "INVALID_KEY"},
		{"two keys in one field", try.Header("X-API-Key", reader+", "+reader), 401, "INVALID_KEY"},
		{"Authorization decides: bad", both("Bearer "+unknown, reader), 401, "INVALID_KEY"},
		{"Authorization decides: good", both("Bearer "+reader, unknown), 200, ""},
		{"Authorization decides: no Bearer", both("Basic YTpi", reader), 401, "MISSING_KEY"},
	} {
		got := try.Send(t, "GET", url, c.header)
		if got.Status != c.status {
			t.Errorf("%s: status %d, want %d", c.name, got.Status, c.status)
		}
		if got.Code() != c.code {
			t.Errorf("%s: code %q, want %q", c.name, got.Code(), c.code)
		}
	}
}

func TestQueryIsNotRead(t *testing.T) {
	store := new(keyring.MemoryStore)
	key := authtest.NewKey(t, store, "documents.read")
	url := try.Server(t, headers.NewApp(store)) + "/documents?api_key=" + key.Reveal()
	if got := try.Send(t, "GET", url, nil); got.Status != 401 {
		t.Errorf("with a key in the query the status is %d, want 401", got.Status)
	}
}

// inner records the request that the inner handler gets.
func inner(header http.Header) (outside, inside *http.Request) {
	outside = httptest.NewRequest("GET", "/documents", nil)
	outside.Header = header
	mux := http.NewServeMux()
	mux.HandleFunc("GET /documents", func(_ http.ResponseWriter, r *http.Request) { inside = r })
	headers.FromHeader("X-API-Key", mux).ServeHTTP(httptest.NewRecorder(), outside)
	return outside, inside
}

func TestFieldIsStripped(t *testing.T) {
	for name, header := range map[string]http.Header{
		"alone":              try.Header("X-API-Key", "key"),
		"with Authorization": try.Header("X-API-Key", "key", "Authorization", "Bearer other"),
	} {
		if _, inside := inner(header); len(inside.Header.Values("X-API-Key")) > 0 {
			t.Errorf("%s: the inner handler gets X-API-Key", name)
		}
	}
}

func TestRequestOutsideIsUnchanged(t *testing.T) {
	outside, _ := inner(try.Header("X-API-Key", "key"))
	if got := outside.Header.Get("X-API-Key"); got != "key" {
		t.Errorf("outside, X-API-Key is %q, want %q", got, "key")
	}
	if got := outside.Header.Values("Authorization"); len(got) > 0 {
		t.Error("outside, the request has an Authorization")
	}
}

func TestPatternIsSeenOutside(t *testing.T) {
	if outside, _ := inner(try.Header("X-API-Key", "key")); outside.Pattern != "GET /documents" {
		t.Errorf("after the request its Pattern is %q, want %q", outside.Pattern, "GET /documents")
	}
}
