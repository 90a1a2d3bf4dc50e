// Command quickstart is a small API for documents, protected by API keys. It
// creates four keys and prints commands to try. The routes of the API are in
// internal/exampleapi.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/insigner/auth"
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

// run serves until ctx is done, and then finishes the requests in progress.
func run(ctx context.Context, addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%w; -addr sets another address", err)
	}
	store := new(keyring.MemoryStore)
	if err := exampleapi.PrintKeys(ctx, keyring.NewManager(store, nil), listener.Addr()); err != nil {
		return err
	}
	server := &http.Server{
		Handler:           requestID(auth.New(store, nil).Middleware(exampleapi.API())),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
	}
	down := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		down <- server.Shutdown(ctx)
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-down
}

// requestID goes outside the Middleware, so that a refused request has an ID
// too.
func requestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "req_"+rand.Text())
		next.ServeHTTP(w, r)
	})
}
