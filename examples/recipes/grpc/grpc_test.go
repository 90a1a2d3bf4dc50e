package grpc_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	recipe "github.com/insigner/auth/examples/recipes/grpc"
	"github.com/insigner/auth/keyring"
)

// start starts a server with two services that come with gRPC: one with a unary
// method and a stream of the server, and one with a stream of both sides. It
// returns a connection to it. Of the methods, Health.List is not listed.
func start(t *testing.T, store auth.Store, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	guard := recipe.Guard{
		Authenticator: auth.New(store, nil),
		Scopes: map[string]auth.Scope{
			grpc_health_v1.Health_Check_FullMethodName:                              "health.check",
			grpc_health_v1.Health_Watch_FullMethodName:                              "health.watch",
			grpc_reflection_v1.ServerReflection_ServerReflectionInfo_FullMethodName: "reflection",
		},
		Interval: 10 * time.Millisecond,
	}
	// The certificate of httptest, for example.com.
	web := httptest.NewTLSServer(nil)
	t.Cleanup(web.Close)
	server := recipe.NewServer(guard, grpc.Creds(credentials.NewServerTLSFromCert(&web.TLS.Certificates[0])))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	reflection.Register(server)
	listener := bufconn.Listen(1 << 16)
	go server.Serve(listener)
	t.Cleanup(server.Stop)

	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	opts = append([]grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "example.com"})),
	}, opts...)
	conn, err := grpc.NewClient("passthrough:///", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// with returns a context with these authorization fields.
func with(t *testing.T, fields ...string) context.Context {
	ctx := t.Context()
	for _, field := range fields {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", field)
	}
	return ctx
}

// reason returns the code of package auth in an error.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

func TestUnary(t *testing.T) {
	store := new(keyring.MemoryStore)
	client := grpc_health_v1.NewHealthClient(start(t, store))
	good := "Bearer " + authtest.NewKey(t, store, "health.check").Reveal()
	other := "Bearer " + authtest.NewKey(t, store, "health.watch").Reveal()
	for _, c := range []struct {
		name   string
		fields []string
		want   codes.Code
		reason string
	}{
		{"the scope", []string{good}, codes.OK, ""},
		{"another scope", []string{other}, codes.PermissionDenied, "INSUFFICIENT_SCOPE"},
		{"no key", nil, codes.Unauthenticated, "MISSING_KEY"},
		{"another scheme", []string{"Basic YTpi"}, codes.Unauthenticated, "MISSING_KEY"},
		{"no key of ours", []string{"Bearer hello"}, codes.Unauthenticated, "INVALID_FORMAT"},
		{"an unknown key", []string{"Bearer " + auth.Scheme{}.NewKey().Reveal()}, codes.Unauthenticated, "INVALID_KEY"},
		{"the same key twice", []string{good, good}, codes.Unauthenticated, "INVALID_KEY"},
	} {
		_, err := client.Check(with(t, c.fields...), new(grpc_health_v1.HealthCheckRequest))
		if got := status.Code(err); got != c.want {
			t.Errorf("%s: the code is %v, want %v", c.name, got, c.want)
		}
		if got := reason(err); got != c.reason {
			t.Errorf("%s: the reason is %q, want %q", c.name, got, c.reason)
		}
	}
}

// TestUnlistedMethod checks that a method without a scope is closed, for any
// key.
func TestUnlistedMethod(t *testing.T) {
	store := new(keyring.MemoryStore)
	client := grpc_health_v1.NewHealthClient(start(t, store))
	ctx := with(t, "Bearer "+authtest.NewKey(t, store, "*").Reveal())
	_, err := client.List(ctx, new(grpc_health_v1.HealthListRequest))
	if got := status.Code(err); got != codes.Internal {
		t.Errorf("the code is %v, want %v", got, codes.Internal)
	}
}

func TestOutage(t *testing.T) {
	client := grpc_health_v1.NewHealthClient(start(t, failing{}))
	ctx := with(t, "Bearer "+auth.Scheme{}.NewKey().Reveal())
	_, err := client.Check(ctx, new(grpc_health_v1.HealthCheckRequest))
	if got := status.Code(err); got != codes.Unavailable {
		t.Errorf("the code is %v, want %v", got, codes.Unavailable)
	}
}

type failing struct{}

func (failing) Lookup(context.Context, auth.Hash) (*auth.Record, error) {
	return nil, errors.New("the database is down")
}

func TestServerStream(t *testing.T) {
	store := new(keyring.MemoryStore)
	client := grpc_health_v1.NewHealthClient(start(t, store))
	key := authtest.NewKey(t, store, "health.watch")
	stream, err := client.Watch(with(t, "Bearer "+key.Reveal()), new(grpc_health_v1.HealthCheckRequest))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	revoke(t, store, key)
	_, err = stream.Recv()
	if got := status.Code(err); got != codes.Unauthenticated {
		t.Errorf("the code is %v, want %v", got, codes.Unauthenticated)
	}
	if got := reason(err); got != "KEY_REVOKED" {
		t.Errorf("the reason is %q, want KEY_REVOKED", got)
	}
}

// TestBidiStream checks that a stream ends while the server waits for a message
// of the client.
func TestBidiStream(t *testing.T) {
	store := new(keyring.MemoryStore)
	client := grpc_reflection_v1.NewServerReflectionClient(start(t, store))
	key := authtest.NewKey(t, store, "reflection")
	stream, err := client.ServerReflectionInfo(with(t, "Bearer "+key.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	revoke(t, store, key)
	if _, err = stream.Recv(); reason(err) != "KEY_REVOKED" {
		t.Errorf("the reason is %q, want KEY_REVOKED: %v", reason(err), err)
	}
}

func TestStreamWithoutScope(t *testing.T) {
	store := new(keyring.MemoryStore)
	client := grpc_health_v1.NewHealthClient(start(t, store))
	ctx := with(t, "Bearer "+authtest.NewKey(t, store, "health.check").Reveal())
	stream, err := client.Watch(ctx, new(grpc_health_v1.HealthCheckRequest))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = stream.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the code is %v, want %v", status.Code(err), codes.PermissionDenied)
	}
}

func TestCredentials(t *testing.T) {
	store := new(keyring.MemoryStore)
	key := recipe.Credentials{Key: authtest.NewKey(t, store, "health.check")}
	client := grpc_health_v1.NewHealthClient(start(t, store, grpc.WithPerRPCCredentials(key)))
	if _, err := client.Check(t.Context(), new(grpc_health_v1.HealthCheckRequest)); err != nil {
		t.Errorf("Check: %v", err)
	}
	_, err := grpc.NewClient("passthrough:///", grpc.WithPerRPCCredentials(key),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err == nil {
		t.Error("without TLS there is a client that would send the key")
	}
}

func revoke(t *testing.T, store keyring.Store, key auth.Key) {
	t.Helper()
	staff := keyring.NewManager(store, nil).Unconfined("test")
	record, err := staff.Find(t.Context(), key)
	if err == nil {
		err = staff.Revoke(t.Context(), record.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
}
