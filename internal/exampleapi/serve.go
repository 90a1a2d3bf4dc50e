package exampleapi

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// CloseTimeout is how long an example takes to finish its requests, and then to
// write what waits.
const CloseTimeout = 10 * time.Second

// Serve answers requests with the handler until ctx is done. Then it finishes
// those in progress.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
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
