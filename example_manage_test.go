package auth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"time"

	"github.com/insigner/auth"
)

// A KeyAPI is what an API offers its clients to manage their own keys with. Each sees those of its Owner alone, and
// hands on no more than it holds.
type KeyAPI struct{ Keyring *auth.Keyring }

// Routes returns the handler that goes behind an Authenticator's Middleware.
func (k KeyAPI) Routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /keys", auth.Require("keys.create")(http.HandlerFunc(k.create)))
	mux.Handle("GET /keys", auth.Require("keys.read")(http.HandlerFunc(k.list)))
	mux.Handle("POST /keys/{id}/rotate", auth.Require("keys.rotate")(http.HandlerFunc(k.rotate)))
	mux.Handle("DELETE /keys/{id}", auth.Require("keys.revoke")(http.HandlerFunc(k.revoke)))
	return mux
}

// A newKey is the one answer that has a key in it.
type newKey struct {
	auth.Record
	Key string `json:"key"`
}

func (k KeyAPI) create(w http.ResponseWriter, r *http.Request) {
	me, _ := auth.FromContext(r.Context())
	var in struct {
		Name      string
		Scopes    auth.Scopes
		ExpiresAt time.Time
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<13)).Decode(&in); err != nil {
		http.Error(w, "the body is not the JSON of a new key", http.StatusBadRequest)
		return
	}
	record, key, err := k.Keyring.Create(r.Context(), auth.Grant{Name: in.Name, Owner: me.Owner, CreatedBy: me.ID,
		Scopes: in.Scopes, Ceiling: me.Scopes, ExpiresAt: in.ExpiresAt})
	if err != nil {
		k.fail(w, err)
		return
	}
	writeJSON(w, http.StatusCreated, newKey{record, key.Reveal()})
}

// list answers with a page; the cursor is the ID of its last key.
func (k KeyAPI) list(w http.ResponseWriter, r *http.Request) {
	me, _ := auth.FromContext(r.Context())
	if me.Owner == "" { // an empty Filter.Owner would list the keys of everybody
		http.Error(w, "this key has no owner", http.StatusForbidden)
		return
	}
	const size = 2
	page, more := []auth.Record{}, false
	for record, err := range k.Keyring.List(r.Context(), auth.Filter{Owner: me.Owner, After: r.FormValue("cursor")}) {
		if err != nil {
			k.fail(w, err)
			return
		}
		if more = len(page) == size; more {
			break
		}
		page = append(page, record)
	}
	meta := map[string]any{"count": len(page), "hasMore": more, "nextCursor": nil}
	if more {
		meta["nextCursor"] = page[size-1].ID
	}
	writeJSON(w, http.StatusOK, map[string]any{"data": page, "meta": meta})
}

// rotate gives the old key a day. Its successor has all its scopes, so whoever gets that must hold them.
func (k KeyAPI) rotate(w http.ResponseWriter, r *http.Request) {
	me, _ := auth.FromContext(r.Context())
	record, err := k.own(r)
	for _, s := range record.Scopes {
		if err == nil && !me.Scopes.Allow(s) {
			err = auth.ErrInsufficientScope
		}
	}
	var key auth.Key
	if err == nil {
		record, key, err = k.Keyring.Rotate(r.Context(), record.ID, 24*time.Hour)
	}
	if err != nil {
		k.fail(w, err)
		return
	}
	writeJSON(w, http.StatusCreated, newKey{record, key.Reveal()})
}

func (k KeyAPI) revoke(w http.ResponseWriter, r *http.Request) {
	record, err := k.own(r)
	if err == nil {
		err = k.Keyring.Revoke(r.Context(), record.ID)
	}
	if err != nil {
		k.fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// own returns the key that the path names, if it is one of the client's own: that others have such a key is nobody's
// business.
func (k KeyAPI) own(r *http.Request) (auth.Record, error) {
	me, _ := auth.FromContext(r.Context())
	record, err := k.Keyring.Get(r.Context(), r.PathValue("id"))
	if err == nil && (record.Owner != me.Owner || me.Owner == "") {
		return auth.Record{}, auth.ErrNotFound
	}
	return record, err
}

// fail answers what a Keyring's error calls for. WriteProblem would speak of the key that the client came with.
func (k KeyAPI) fail(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, auth.ErrInvalidArgument):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case errors.Is(err, auth.ErrInsufficientScope):
		http.Error(w, "your key does not hold these scopes", http.StatusForbidden)
	case errors.Is(err, auth.ErrNotFound):
		http.Error(w, "there is no such key", http.StatusNotFound)
	case errors.Is(err, auth.ErrKeyRevoked), errors.Is(err, auth.ErrKeyExpired), errors.Is(err, auth.ErrSuperseded):
		http.Error(w, "the key has ended, or was rotated before", http.StatusConflict)
	default:
		http.Error(w, "try again later", http.StatusServiceUnavailable) // and log err: it is the store's
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // there may be a key in it
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

// Endpoints by which the clients of an API manage their keys.
func Example_managing() {
	store := new(auth.MemoryStore)
	keyring := auth.NewKeyring(store, nil)
	app := auth.New(store, nil).Middleware(KeyAPI{keyring}.Routes())
	_, key := create(keyring, "keys.*", "documents.read")

	id := regexp.MustCompile(`key_[a-z2-7]{26}`)
	call := func(method, path, body string) string {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+key)
		w := httptest.NewRecorder()
		app.ServeHTTP(w, r)
		shown := regexp.MustCompile(`"scopes":\[[^]]*\]|"meta":{[^}]*|^[^{].*`).FindAllString(w.Body.String(), -1)
		fmt.Println(strings.TrimSpace(fmt.Sprint(w.Code, " ", id.ReplaceAllString(strings.Join(shown, " "), "key_…"))))
		return id.FindString(w.Body.String())
	}
	made := call("POST", "/keys", `{"name": "CI", "scopes": ["documents.read"]}`)
	call("POST", "/keys", `{"name": "CI", "scopes": ["documents.delete"]}`)
	call("POST", "/keys", `{"name": "CI", "scopes": ["documents"]}`)
	call("POST", "/keys/"+made+"/rotate", "")
	call("POST", "/keys/"+made+"/rotate", "")
	call("GET", "/keys?cursor="+made, "")
	call("GET", "/keys", "")
	call("DELETE", "/keys/"+made, "")
	call("DELETE", "/keys/key_of_another", "")
	// Output:
	// 201 "scopes":["documents.read"]
	// 403 your key does not hold these scopes
	// 400 auth: create key: invalid argument: "documents" is not a scope
	// 201 "scopes":["documents.read"]
	// 409 the key has ended, or was rotated before
	// 200 "scopes":["documents.read"] "meta":{"count":1,"hasMore":false,"nextCursor":null
	// 200 "scopes":["keys.*","documents.read"] "scopes":["documents.read"] "meta":{"count":2,"hasMore":true,"nextCursor":"key_…"
	// 204
	// 404 there is no such key
}
