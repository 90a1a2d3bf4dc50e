package streams

import (
	"context"
	"errors"
	"time"

	"github.com/insigner/auth"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// streamAuth authenticates each stream, requires a scope of it, and ends it
// when its key ends.
func streamAuth(a *auth.Authenticator, scope auth.Scope, every time.Duration) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		ctx := stream.Context()
		record, err := a.Verify(ctx, auth.Bearer(metadata.ValueFromIncomingContext(ctx, "authorization")...))
		if err != nil {
			return statusOf(err)
		}
		ctx = a.Vouch(ctx, record)
		if err := auth.Authorize(ctx, scope); err != nil {
			return statusOf(err)
		}
		ctx, cancel := auth.WithRecheck(ctx, every)
		defer cancel()
		err = handler(srv, &checkedStream{stream, ctx})
		if cause := context.Cause(ctx); auth.Code(cause) != "" {
			return statusOf(cause)
		}
		return err
	}
}

// A checkedStream is a stream with the context of WithRecheck.
type checkedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *checkedStream) Context() context.Context { return s.ctx }

func (s *checkedStream) SendMsg(m any) error {
	if s.ctx.Err() != nil {
		return statusOf(context.Cause(s.ctx))
	}
	return s.ServerStream.SendMsg(m)
}

// RecvMsg waits for a message or for the end of the key. A message that arrives
// later is dropped.
func (s *checkedStream) RecvMsg(m any) error {
	received := make(chan error, 1)
	go func() { received <- s.ServerStream.RecvMsg(m) }()
	select {
	case err := <-received:
		return err
	case <-s.ctx.Done():
		return statusOf(context.Cause(s.ctx))
	}
}

// statusOf returns err as a status of gRPC.
func statusOf(err error) error {
	code := codes.Unauthenticated
	switch {
	case errors.Is(err, auth.ErrInsufficientScope):
		code = codes.PermissionDenied
	case errors.Is(err, auth.ErrStoreUnavailable):
		code = codes.Unavailable
	case auth.Code(err) == "":
		return status.FromContextError(err).Err()
	}
	return status.Error(code, auth.Code(err))
}
