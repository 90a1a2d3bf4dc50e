package exampleapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/insigner/auth/keyring"
)

// CloseTimeout is how long an example takes to finish its requests, and then to
// write what waits.
const CloseTimeout = 10 * time.Second

// Serve listens on addr, prints keys, and answers requests with the handler
// until ctx is done. Then it finishes those in progress.
func Serve(ctx context.Context, addr string, manager *keyring.Manager, handler http.Handler) error {
	return ListenAndServe(ctx, addr, handler, func(at net.Addr) error { return printKeys(ctx, manager, at) })
}

// ListenAndServe is Serve, with another function that prints something once it
// listens.
func ListenAndServe(ctx context.Context, addr string, handler http.Handler, announce func(at net.Addr) error) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%w; -addr sets another address", err)
	}
	defer listener.Close()
	if err := announce(listener.Addr()); err != nil {
		return err
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
	}
	down := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), CloseTimeout)
		defer cancel()
		down <- server.Shutdown(ctx)
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-down
}
