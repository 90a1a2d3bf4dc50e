package connect_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	recipe "github.com/insigner/auth/examples/recipes/connect"
	"github.com/insigner/auth/examples/recipes/internal/try"
	"github.com/insigner/auth/keyring"
)

type text = wrapperspb.StringValue

var protocols = map[string][]connect.ClientOption{
	"Connect":  nil,
	"gRPC":     {connect.WithGRPC()},
	"gRPC-Web": {connect.WithGRPCWeb()},
}

// start starts the service with TLS and HTTP/2, which gRPC needs.
func start(t *testing.T, store auth.Store) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(recipe.NewApp(store, 10*time.Millisecond))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// reason returns the code of package auth in an error.
func reason(t *testing.T, err error) string {
	t.Helper()
	refused, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return ""
	}
	for _, detail := range refused.Details() {
		value, err := detail.Value()
		if err != nil {
			t.Error(err)
		}
		if info, ok := value.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

func TestUnary(t *testing.T) {
	store := new(keyring.MemoryStore)
	server := start(t, store)
	for _, c := range []struct {
		name   string
		key    auth.Key
		want   connect.Code
		reason string
	}{
		{"the scope", authtest.NewKey(t, store, "documents.read"), 0, ""},
		{"another scope", authtest.NewKey(t, store, "documents.write"), connect.CodePermissionDenied, "INSUFFICIENT_SCOPE"},
		{"no key", auth.Key{}, connect.CodeUnauthenticated, "MISSING_KEY"},
		{"an unknown key", auth.Scheme{}.NewKey(), connect.CodeUnauthenticated, "INVALID_KEY"},
	} {
		for protocol, options := range protocols {
			client := connect.NewClient[emptypb.Empty, text](server.Client(), server.URL+recipe.List, options...)
			request := connect.NewRequest(new(emptypb.Empty))
			if c.key.Reveal() != "" {
				request.Header().Set("Authorization", "Bearer "+c.key.Reveal())
			}
			response, err := client.CallUnary(t.Context(), request)
			if c.want == 0 {
				if err != nil {
					t.Errorf("%s, %s: %v", c.name, protocol, err)
				} else if got := response.Msg.GetValue(); got != "the documents of org_test" {
					t.Errorf("%s, %s: the answer is %q, want that of org_test", c.name, protocol, got)
				}
				continue
			}
			if got := connect.CodeOf(err); got != c.want {
				t.Errorf("%s, %s: the code is %v, want %v", c.name, protocol, got, c.want)
			}
			if got := reason(t, err); got != c.reason {
				t.Errorf("%s, %s: the reason is %q, want %q", c.name, protocol, got, c.reason)
			}
		}
	}
}

func TestOutage(t *testing.T) {
	server := start(t, failing{})
	for protocol, options := range protocols {
		client := connect.NewClient[emptypb.Empty, text](server.Client(), server.URL+recipe.List, options...)
		request := connect.NewRequest(new(emptypb.Empty))
		request.Header().Set("Authorization", "Bearer "+auth.Scheme{}.NewKey().Reveal())
		_, err := client.CallUnary(t.Context(), request)
		if got := connect.CodeOf(err); got != connect.CodeUnavailable {
			t.Errorf("%s: the code is %v, want %v", protocol, got, connect.CodeUnavailable)
		}
	}
}

type failing struct{}

func (failing) Lookup(context.Context, auth.Hash) (*auth.Record, error) {
	return nil, errors.New("the database is down")
}

// TestPlainRequest checks that a client that speaks none of the protocols gets
// problem JSON.
func TestPlainRequest(t *testing.T) {
	url := try.Server(t, recipe.NewApp(new(keyring.MemoryStore), time.Minute))
	if got := try.Send(t, "GET", url+"/", nil); got.Code() != "MISSING_KEY" {
		t.Errorf("the code is %q, want MISSING_KEY", got.Code())
	}
}

// TestChallenge checks that a 401 of the Connect protocol has the challenge that
// HTTP requires.
func TestChallenge(t *testing.T) {
	url := try.Server(t, recipe.NewApp(new(keyring.MemoryStore), time.Minute))
	header := try.Header("Content-Type", "application/json", "Connect-Protocol-Version", "1")
	got := try.Send(t, "POST", url+recipe.List, header)
	if got.Status != 401 {
		t.Errorf("status %d, want 401", got.Status)
	}
	if challenge := got.Header.Get("WWW-Authenticate"); challenge != `Bearer realm="api"` {
		t.Errorf("WWW-Authenticate is %q, want that of package auth", challenge)
	}
	if cache := got.Header.Get("Cache-Control"); cache != "no-store" {
		t.Errorf("Cache-Control is %q, want no-store", cache)
	}
}

func TestServerStream(t *testing.T) {
	for protocol, options := range protocols {
		store := new(keyring.MemoryStore)
		server := start(t, store)
		key := authtest.NewKey(t, store, "documents.read")
		client := connect.NewClient[emptypb.Empty, text](server.Client(), server.URL+recipe.Watch, options...)
		request := connect.NewRequest(new(emptypb.Empty))
		request.Header().Set("Authorization", "Bearer "+key.Reveal())
		stream, err := client.CallServerStream(t.Context(), request)
		if err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		if !stream.Receive() {
			t.Fatalf("%s: no message: %v", protocol, stream.Err())
		}
		revoke(t, store, key)
		if stream.Receive() {
			t.Errorf("%s: a message after the key was revoked", protocol)
		}
		if got := reason(t, stream.Err()); got != "KEY_REVOKED" {
			t.Errorf("%s: the reason is %q, want KEY_REVOKED: %v", protocol, got, stream.Err())
		}
		stream.Close()
	}
}

// TestBidiStream checks that a stream ends while the server waits for a message
// of the client.
func TestBidiStream(t *testing.T) {
	for _, protocol := range []string{"Connect", "gRPC"} { // gRPC-Web has none in browsers
		store := new(keyring.MemoryStore)
		server := start(t, store)
		key := authtest.NewKey(t, store, "documents.write")
		client := connect.NewClient[text, text](server.Client(), server.URL+recipe.Sync, protocols[protocol]...)
		stream := client.CallBidiStream(t.Context())
		stream.RequestHeader().Set("Authorization", "Bearer "+key.Reveal())
		if err := stream.Send(wrapperspb.String("hello")); err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		if _, err := stream.Receive(); err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		revoke(t, store, key)
		_, err := stream.Receive()
		if got := reason(t, err); got != "KEY_REVOKED" {
			t.Errorf("%s: the reason is %q, want KEY_REVOKED: %v", protocol, got, err)
		}
		stream.CloseRequest()
		stream.CloseResponse()
	}
}

func TestStreamWithoutScope(t *testing.T) {
	store := new(keyring.MemoryStore)
	server := start(t, store)
	client := connect.NewClient[emptypb.Empty, text](server.Client(), server.URL+recipe.Watch)
	request := connect.NewRequest(new(emptypb.Empty))
	request.Header().Set("Authorization", "Bearer "+authtest.NewKey(t, store, "documents.write").Reveal())
	stream, err := client.CallServerStream(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if stream.Receive() {
		t.Error("a message without the scope")
	}
	if got := connect.CodeOf(stream.Err()); got != connect.CodePermissionDenied {
		t.Errorf("the code is %v, want %v", got, connect.CodePermissionDenied)
	}
}

func TestPatternIsSeenOutside(t *testing.T) {
	store := new(keyring.MemoryStore)
	r := authtest.WithKey(httptest.NewRequest("POST", recipe.List, http.NoBody), authtest.NewKey(t, store, "*"))
	recipe.NewApp(store, time.Minute).ServeHTTP(httptest.NewRecorder(), r)
	if r.Pattern != recipe.List {
		t.Errorf("after the request its Pattern is %q, want %q", r.Pattern, recipe.List)
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
