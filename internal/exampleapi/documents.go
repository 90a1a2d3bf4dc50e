// Package exampleapi is the API that the examples protect with keys: documents
// in memory, routes that require the published scopes, the keys themselves, and
// the API logs. It is not part of the library and may change at any time.
package exampleapi

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"slices"
	"sync"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
)

// API returns the routes. Each says which scope it requires. Wrap them with the
// Middleware of an Authenticator.
func API(manager *keyring.Manager, logs apilog.Store) http.Handler {
	d := newDocuments()
	mux := http.NewServeMux()
	handle := func(pattern string, scope auth.Scope, h http.HandlerFunc) {
		mux.Handle(pattern, auth.Require(scope)(h))
	}
	handle("GET /api/v1/documents", "documents.read", d.list)
	handle("POST /api/v1/documents", "documents.create", d.create)
	handle("GET /api/v1/documents/{id}", "documents.read", d.get)
	handle("DELETE /api/v1/documents/{id}", "documents.delete", d.delete)
	handle("GET /api/v1/templates", "templates.read", func(w http.ResponseWriter, r *http.Request) {
		writeList(w, []document{{"tpl_1", "Offer letter"}})
	})
	handle("GET /api/v1/org", "org.read", func(w http.ResponseWriter, r *http.Request) {
		key, _ := auth.FromContext(r.Context())
		write(w, http.StatusOK, map[string]string{"id": key.Owner, "name": "Demonstration Ltd"})
	})
	handle("GET /api/v1/logs", "org.read", listLogs(logs))

	keys := http.StripPrefix("/api/v1/keys", keyapi.New(manager, &keyapi.Options{OnRefusal: apilog.SetCode}))
	mux.Handle("/api/v1/keys", keys)
	mux.Handle("/api/v1/keys/", keys)
	return mux
}

type document struct {
	ID    string `json:"id"`
	Title string `json:"title"`
}

// documents answers the requests that were accepted.
type documents struct{ byID sync.Map }

func newDocuments() *documents {
	d := new(documents)
	d.byID.Store("doc_1", document{"doc_1", "Employment contract"})
	d.byID.Store("doc_2", document{"doc_2", "Non-disclosure agreement"})
	return d
}

func (d *documents) list(w http.ResponseWriter, r *http.Request) {
	all := []document{}
	for _, doc := range d.byID.Range {
		all = append(all, doc.(document))
	}
	slices.SortFunc(all, func(a, b document) int { return cmp.Compare(a.ID, b.ID) })
	writeList(w, all)
}

func (d *documents) create(w http.ResponseWriter, r *http.Request) {
	var doc document
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&doc)
	if err != nil || doc.Title == "" {
		writeProblem(w, http.StatusBadRequest, "bad-request", "The body must be JSON with a title")
		return
	}
	doc.ID = "doc_" + rand.Text()
	d.byID.Store(doc.ID, doc)
	write(w, http.StatusCreated, doc)
}

func (d *documents) get(w http.ResponseWriter, r *http.Request) {
	if doc, ok := d.byID.Load(r.PathValue("id")); ok {
		write(w, http.StatusOK, doc)
		return
	}
	writeProblem(w, http.StatusNotFound, "not-found", "There is no such document")
}

func (d *documents) delete(w http.ResponseWriter, r *http.Request) {
	if _, ok := d.byID.LoadAndDelete(r.PathValue("id")); ok {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	writeProblem(w, http.StatusNotFound, "not-found", "There is no such document")
}

// writeList answers with a list that has one page.
func writeList[T any](w http.ResponseWriter, data []T) { writePage(w, data, "") }

// writePage answers with a part of a list. The cursor is that of the next one,
// or "".
func writePage[T any](w http.ResponseWriter, data []T, cursor string) {
	meta := map[string]any{"count": len(data), "hasMore": cursor != "", "nextCursor": nil}
	if cursor != "" {
		meta["nextCursor"] = cursor
	}
	write(w, http.StatusOK, map[string]any{"data": data, "meta": meta})
}

func writeProblem(w http.ResponseWriter, status int, name, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	write(w, status, map[string]any{"type": "https://docs.insigner.com/errors/" + name,
		"title": http.StatusText(status), "status": status, "detail": detail})
}

func write(w http.ResponseWriter, status int, body any) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}
