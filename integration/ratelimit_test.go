package integration

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/ratelimit"
)

// TestRefusalIsLogged: a request beyond the limit is an entry of the API logs
// with its key, its owner and its code. One that a handler answers with 429 has
// no code, and a host that answers refusals itself keeps it.
func TestRefusalIsLogged(t *testing.T) {
	for name, handler := range map[string]func(w http.ResponseWriter, r *http.Request, err error) bool{
		"problem JSON": nil,
		"own answer": func(w http.ResponseWriter, _ *http.Request, err error) bool {
			w.WriteHeader(auth.ProblemFor(err).Status)
			return true
		},
	} {
		store := new(keyring.MemoryStore)
		record, key, err := keyring.NewManager(store, nil).Unconfined("test").Create(t.Context(), keyring.Spec{
			Name: "test", Owner: "org_1", Scopes: auth.Scopes{"a.b"},
		})
		if err != nil {
			t.Fatal(err)
		}
		logs := apilog.NewMemoryStore(100)
		recorder := apilog.NewRecorder(logs, nil)
		a := auth.New(store, &auth.Options{OnDecision: recorder.OnDecision})
		mux := http.NewServeMux()
		mux.Handle("GET /documents", auth.Require("a.b")(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {})))
		mux.Handle("GET /busy", auth.Require("a.b")(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTooManyRequests)
		})))
		limiter := ratelimit.New(nil, &ratelimit.Options{
			Limit:        func(auth.Record) ratelimit.Limit { return ratelimit.Limit{Requests: 2} },
			ErrorHandler: handler,
		})
		server := httptest.NewServer(recorder.Middleware(a.Middleware(limiter.Middleware(mux))))
		for _, path := range []string{"/documents", "/busy", "/documents"} {
			r, err := http.NewRequest("GET", server.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+key.Reveal())
			res, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		server.Close()
		if err := recorder.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		entries, err := logs.List(t.Context(), apilog.Query{Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != 3 {
			t.Fatalf("%s: there are %d entries, want 3", name, len(entries))
		}
		for i, want := range []struct { // the newest is first
			status int
			code   string
		}{{429, "RATE_LIMITED"}, {429, ""}, {200, ""}} {
			e := entries[i]
			if e.Status != want.status {
				t.Errorf("%s: entry %d has status %d, want %d", name, i, e.Status, want.status)
			}
			if e.Code != want.code {
				t.Errorf("%s: entry %d has code %q, want %q", name, i, e.Code, want.code)
			}
			if e.KeyID != record.ID {
				t.Errorf("%s: entry %d has key %q, want %q", name, i, e.KeyID, record.ID)
			}
			if e.Owner != "org_1" {
				t.Errorf("%s: entry %d has owner %q, want org_1", name, i, e.Owner)
			}
		}
	}
}
