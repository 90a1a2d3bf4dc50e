package main

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

func main() {
	store := new(keyring.MemoryStore)
	keys := keyring.NewManager(store, nil).Unconfined("startup")
	_, key, err := keys.Create(context.Background(), keyring.Spec{
		Name:   "Production Backend",
		Owner:  "org_1",
		Scopes: auth.Scopes{"documents.read"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.Reveal()) // a key is shown once
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", newApp(store)))
}

func newApp(store auth.Store) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /api/v1/documents", auth.Require("documents.read")(http.HandlerFunc(list)))
	mux.Handle("DELETE /api/v1/documents/{id}", auth.Require("documents.delete")(http.HandlerFunc(remove)))
	return auth.New(store, nil).Middleware(mux)
}

func list(w http.ResponseWriter, r *http.Request) {
	key, _ := auth.FromContext(r.Context())
	fmt.Fprintln(w, "the documents of", key.Owner)
}

func remove(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusNoContent)
}
