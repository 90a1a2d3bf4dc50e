// Package grpc shows interceptors that protect a gRPC server.
package grpc

import (
	"context"
	"net/http"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/insigner/auth"
)

// A Guard decides who may call which method.
type Guard struct {
	Authenticator *auth.Authenticator
	Scopes        map[string]auth.Scope // by full method: "/documents.v1.DocumentService/List"
	Interval      time.Duration         // how often the key of a stream is looked up again
}

// NewServer returns a server of which g guards every method.
func NewServer(g Guard, opts ...grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append(opts, grpc.ChainUnaryInterceptor(g.unary), grpc.ChainStreamInterceptor(g.stream))...)
}

// admit returns a context that has the key of a call, or the status of a
// refusal.
func (g Guard) admit(ctx context.Context, method string) (context.Context, error) {
	fields := metadata.ValueFromIncomingContext(ctx, "authorization")
	key, err := g.Authenticator.Verify(ctx, auth.Bearer(fields...))
	if err != nil {
		return nil, statusOf(err)
	}
	ctx = g.Authenticator.Vouch(ctx, key)
	// A method that is not listed requires an invalid scope, which no key has:
	// the code is Internal, and the method is logged.
	if err := auth.Authorize(ctx, g.Scopes[method]); err != nil {
		return nil, statusOf(err)
	}
	return ctx, nil
}

// statusOf returns the status for an error of package auth.
func statusOf(err error) error {
	problem := auth.ProblemFor(err)
	code := codes.Internal
	switch problem.Status {
	case http.StatusUnauthorized:
		code = codes.Unauthenticated
	case http.StatusForbidden:
		code = codes.PermissionDenied
	case http.StatusServiceUnavailable:
		code = codes.Unavailable
	}
	s := status.New(code, problem.Detail)
	info := &errdetails.ErrorInfo{Reason: problem.Code, Domain: "api.example.com"}
	if detailed, err := s.WithDetails(info); err == nil {
		s = detailed
	}
	return s.Err()
}

func (g Guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := g.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (g Guard) stream(server any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := g.admit(s.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	ctx, cancel := auth.WithRecheck(ctx, g.Interval)
	defer cancel()
	err = next(server, &stream{s, ctx})
	if cause := context.Cause(ctx); auth.Code(cause) != "" {
		return statusOf(cause) // the key was revoked
	}
	return err
}

// A stream is a ServerStream that ends with its context.
type stream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements [grpc.ServerStream].
func (s *stream) Context() context.Context { return s.ctx }

// RecvMsg implements [grpc.ServerStream].
func (s *stream) RecvMsg(m any) error {
	return s.until(func() error { return s.ServerStream.RecvMsg(m) })
}

// SendMsg implements [grpc.ServerStream].
func (s *stream) SendMsg(m any) error {
	return s.until(func() error { return s.ServerStream.SendMsg(m) })
}

// until calls f, which may wait for the client, but does not wait longer than
// the context lasts. A call that is left ends when the handler returns.
func (s *stream) until(f func() error) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// Credentials send a key with each call of a client.
type Credentials struct{ Key auth.Key }

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (c Credentials) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + c.Key.Reveal()}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials: without TLS
// there is no connection.
func (c Credentials) RequireTransportSecurity() bool { return true }
