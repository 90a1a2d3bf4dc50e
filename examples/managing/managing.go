// Package managing has endpoints by which the clients of an API manage their
// own keys, to copy from.
package managing

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
)

// An API serves the endpoints. A key that manages keys is the actor: it sees
// the keys of its own owner, and grants no more than it holds.
type API struct{ Manager *keyring.Manager }

// Routes returns the endpoints. Wrap them with the Middleware of an
// Authenticator.
func (a API) Routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /keys", auth.Require("keys.create")(http.HandlerFunc(a.create)))
	mux.Handle("GET /keys", auth.Require("keys.read")(http.HandlerFunc(a.list)))
	mux.Handle("POST /keys/{id}/rotate", auth.Require("keys.rotate")(http.HandlerFunc(a.rotate)))
	mux.Handle("DELETE /keys/{id}", auth.Require("keys.revoke")(http.HandlerFunc(a.revoke)))
	return mux
}

// keys returns the keyring of the client.
func (a API) keys(r *http.Request) *keyring.Keyring {
	me, _ := auth.FromContext(r.Context())
	return a.Manager.For(keyring.ActorOf(me))
}

// A newKey is the only answer that contains a key.
type newKey struct {
	auth.Record
	Key string `json:"key"`
}

var badBody = &auth.Problem{
	Type:   "https://api.example.com/problems/bad-body",
	Title:  "Bad Request",
	Status: http.StatusBadRequest,
	Detail: "The body must be a JSON object of at most 8 kB with a name, scopes and expiresAt",
	Code:   "BAD_BODY",
}

func (a API) create(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Name      string
		Scopes    auth.Scopes
		ExpiresAt time.Time
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<13)).Decode(&in); err != nil {
		a.fail(w, r, badBody)
		return
	}
	record, key, err := a.keys(r).Create(r.Context(), keyring.Spec{Name: in.Name, Scopes: in.Scopes, ExpiresAt: in.ExpiresAt})
	if err != nil {
		a.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusCreated, newKey{record, key.Reveal()})
}

// list answers with one page. The cursor is the ID of its last key.
func (a API) list(w http.ResponseWriter, r *http.Request) {
	keys := a.keys(r)
	filter := keyring.Filter{NewestFirst: true}
	if cursor := r.FormValue("cursor"); cursor != "" {
		last, err := keys.Get(r.Context(), cursor)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		filter.After = keyring.PositionOf(&last)
	}
	const size = 50
	page, more := []auth.Record{}, false
	for record, err := range keys.List(r.Context(), filter) {
		if err != nil {
			a.fail(w, r, err)
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

// rotate lets the old key work for another day.
func (a API) rotate(w http.ResponseWriter, r *http.Request) {
	record, key, err := a.keys(r).Rotate(r.Context(), r.PathValue("id"), 24*time.Hour)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusCreated, newKey{record, key.Reveal()})
}

func (a API) revoke(w http.ResponseWriter, r *http.Request) {
	if err := a.keys(r).Revoke(r.Context(), r.PathValue("id")); err != nil {
		a.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// fail answers an error of a Keyring. It is about the key that the client
// manages, not about the one that it came with.
func (a API) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := keyapi.ProblemFor(err)
	if p.Status >= http.StatusInternalServerError { // the text is the store's and not for clients
		slog.ErrorContext(r.Context(), "managing keys", "error", err)
	}
	auth.WriteProblem(w, r, p)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // it may contain a key
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}
