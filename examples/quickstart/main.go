// Command quickstart is a small API for documents, protected by API keys. It
// creates four keys and prints commands to try. The routes of the API are in
// internal/exampleapi.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/internal/exampleapi"
	"github.com/insigner/auth/keyring"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done. Then it finishes the requests in progress.
func run(ctx context.Context, addr string) error {
	scheme := auth.Scheme{Catalog: auth.PublishedCatalog()}
	store := new(keyring.MemoryStore)
	manager := keyring.NewManager(store, &keyring.Options{Scheme: scheme})
	logs := apilog.NewMemoryStore(10_000)
	lastUsed := keyring.NewLastUsedRecorder(store, &keyring.LastUsedOptions{Interval: time.Second}) // to be seen soon
	defer lastUsed.Close()
	recorder := apilog.NewRecorder(logs, &apilog.Options{Scheme: scheme})
	a := auth.New(store, &auth.Options{Scheme: scheme, OnDecision: func(ctx context.Context, d auth.Decision) {
		lastUsed.OnDecision(ctx, d)
		recorder.OnDecision(ctx, d)
	}})
	api := a.Middleware(exampleapi.API(manager, logs))
	served := exampleapi.Serve(ctx, addr, manager, recorder.Middleware(requestID(api)))
	closing, cancel := context.WithTimeout(context.Background(), exampleapi.CloseTimeout)
	defer cancel()
	return cmp.Or(served, recorder.Close(closing))
}

// requestID goes outside the Middleware, so that a refused request has an ID
// too.
func requestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "req_"+rand.Text())
		next.ServeHTTP(w, r)
	})
}
