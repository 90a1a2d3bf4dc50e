// Package connect shows an RPC service built with Connect.
package connect

import (
	"context"
	"errors"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/insigner/auth"
)

// The procedures of the service. Generated code has such constants.
const (
	List  = "/documents.v1.DocumentService/List"
	Watch = "/documents.v1.DocumentService/Watch"
	Sync  = "/documents.v1.DocumentService/Sync"
)

// NewApp returns the service. The key of a stream is looked up again at each
// interval.
func NewApp(store auth.Store, interval time.Duration) http.Handler {
	a := auth.New(store, &auth.Options{ErrorHandler: answer})
	options := connect.WithInterceptors(scopes{
		List:  "documents.read",
		Watch: "documents.read",
		Sync:  "documents.write",
	})
	mux := http.NewServeMux()
	mux.Handle(List, connect.NewUnaryHandler(List, list, options))
	mux.Handle(Watch, connect.NewServerStreamHandler(Watch, watch, options))
	mux.Handle(Sync, connect.NewBidiStreamHandler(Sync, sync, options))
	return a.Middleware(recheck(interval, mux))
}

// rpcErrors takes a request for one of Connect only if it says so.
var rpcErrors = connect.NewErrorWriter(connect.WithRequireConnectProtocolHeader())

// answer tells a client of Connect, gRPC or gRPC-Web in its own protocol why its
// request is refused.
func answer(w http.ResponseWriter, r *http.Request, err error) (answered bool) {
	if !rpcErrors.IsSupported(r) {
		return false
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if challenge := auth.Challenge(err); challenge != "" {
		h.Add("WWW-Authenticate", challenge) // a 401 must have one
	}
	rpcErrors.Write(w, r, rpcError(err))
	return true
}

// rpcError returns the error of the protocol for an error of package auth.
func rpcError(err error) *connect.Error {
	problem := auth.ProblemFor(err)
	code := connect.CodeInternal
	switch problem.Status {
	case http.StatusUnauthorized:
		code = connect.CodeUnauthenticated
	case http.StatusForbidden:
		code = connect.CodePermissionDenied
	case http.StatusServiceUnavailable:
		code = connect.CodeUnavailable
	}
	e := connect.NewError(code, errors.New(problem.Detail))
	info := &errdetails.ErrorInfo{Reason: problem.Code, Domain: "api.example.com"}
	if detail, err := connect.NewErrorDetail(info); err == nil {
		e.AddDetail(detail)
	}
	return e
}

// scopes has the scope that each procedure requires. A procedure that is not
// listed requires an invalid scope, which no key has: the error is 500 and is
// logged.
type scopes map[string]auth.Scope

// WrapUnary implements [connect.Interceptor].
func (s scopes) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		if err := auth.Authorize(ctx, s[request.Spec().Procedure]); err != nil {
			return nil, rpcError(err)
		}
		return next(ctx, request)
	}
}

// WrapStreamingHandler implements [connect.Interceptor].
func (s scopes) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, stream connect.StreamingHandlerConn) error {
		if err := auth.Authorize(ctx, s[stream.Spec().Procedure]); err != nil {
			return rpcError(err)
		}
		err := next(ctx, stream)
		if cause := context.Cause(ctx); auth.Code(cause) != "" {
			return rpcError(cause) // the key was revoked
		}
		return err
	}
}

// WrapStreamingClient implements [connect.Interceptor].
func (s scopes) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// recheck ends a call when its key is revoked.
func recheck(interval time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := auth.WithRecheck(r.Context(), interval)
		defer cancel()
		// A Receive that waits for the client does not see ctx.
		done := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(done)
			http.NewResponseController(w).SetReadDeadline(time.Now())
		})
		defer func() {
			if !stop() {
				<-done // w must not be used when this handler has returned
			}
		}()
		inner := r.WithContext(ctx)
		defer func() { r.Pattern = inner.Pattern }() // for logs outside
		next.ServeHTTP(w, inner)
	})
}

func list(ctx context.Context, _ *connect.Request[emptypb.Empty]) (*connect.Response[wrapperspb.StringValue], error) {
	key, _ := auth.FromContext(ctx)
	return connect.NewResponse(wrapperspb.String("the documents of " + key.Owner)), nil
}

// watch sends one message and then waits for news, of which there are none.
func watch(
	ctx context.Context, _ *connect.Request[emptypb.Empty], stream *connect.ServerStream[wrapperspb.StringValue],
) error {
	if err := stream.Send(wrapperspb.String("the documents")); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// sync sends back what it receives.
func sync(_ context.Context, stream *connect.BidiStream[wrapperspb.StringValue, wrapperspb.StringValue]) error {
	for {
		message, err := stream.Receive()
		if err != nil {
			return err
		}
		if err := stream.Send(message); err != nil {
			return err
		}
	}
}
