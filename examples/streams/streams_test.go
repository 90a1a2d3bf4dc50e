package streams

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/keyring"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const every = 20 * time.Millisecond

// An api has keys in memory, and logs its requests.
type api struct {
	store    *keyring.MemoryStore
	manager  *keyring.Manager
	auth     *auth.Authenticator
	logs     *apilog.MemoryStore
	recorder *apilog.Recorder
	serving  sync.WaitGroup // a server does not wait for a connection that was hijacked
}

func newAPI() *api {
	store, logs := new(keyring.MemoryStore), apilog.NewMemoryStore(100)
	recorder := apilog.NewRecorder(logs, nil)
	a := auth.New(store, &auth.Options{OnDecision: recorder.OnDecision})
	return &api{store: store, manager: keyring.NewManager(store, nil), auth: a, logs: logs, recorder: recorder}
}

// serve returns a server of a stream that needs a key.
func (a *api) serve(stream http.Handler) *httptest.Server {
	h := a.recorder.Middleware(a.auth.Require("events.read")(stream))
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.serving.Add(1)
		defer a.serving.Done()
		h.ServeHTTP(w, r)
	}))
}

// logged expects one entry with that status, the key and the code with which the
// stream ended, once the server is closed.
func (a *api) logged(t *testing.T, status int, keyID, code string) {
	t.Helper()
	a.serving.Wait()
	if err := a.recorder.Close(t.Context()); err != nil {
		t.Error(err)
	}
	entries, err := apilog.All(a.logs).List(t.Context(), apilog.Query{})
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) == 0 && status == 0 {
		return // no HTTP
	}
	if len(entries) != 1 {
		t.Fatalf("%d entries, want 1: %+v", len(entries), entries)
	}
	e := entries[0]
	if e.Status != status {
		t.Errorf("the entry has status %d, want %d", e.Status, status)
	}
	if e.KeyID != keyID {
		t.Errorf("the entry has key %q, want %q", e.KeyID, keyID)
	}
	if e.Code != code {
		t.Errorf("the entry has code %q, want %q", e.Code, code)
	}
}

// An end is a way in which a key ends, with the code that the client sees.
type end struct {
	name string
	end  func(keys *keyring.Keyring, id string) error
	code string
}

var ends = []end{
	{"revoked", func(k *keyring.Keyring, id string) error { return k.Revoke(context.Background(), id) }, "KEY_REVOKED"},
	{"disabled", func(k *keyring.Keyring, id string) error { return k.Disable(context.Background(), id) }, "KEY_DISABLED"},
	{"deleted", func(k *keyring.Keyring, id string) error { return k.Delete(context.Background(), id) }, "INVALID_KEY"},
	{"expired", func(k *keyring.Keyring, id string) error {
		_, err := k.Update(context.Background(), id, func(r *auth.Record) error {
			r.ExpiresAt = time.Now().Add(2 * every)
			return nil
		})
		return err
	}, "KEY_EXPIRED"},
	{"narrowed", func(k *keyring.Keyring, id string) error {
		_, err := k.Update(context.Background(), id, func(r *auth.Record) error {
			r.Scopes = nil
			return nil
		})
		return err
	}, "INSUFFICIENT_SCOPE"},
}

// each runs f for each way in which a key ends. F starts a stream with the key,
// calls begun when it has seen that the stream works, and returns the code with
// which the stream ends. Then its entry in the API logs has that status. If
// status is 0, nothing is logged.
func each(t *testing.T, status int, f func(t *testing.T, a *api, key auth.Key, begun func()) string) {
	for _, e := range ends {
		t.Run(e.name, func(t *testing.T) {
			a := newAPI()
			keys := a.manager.Unconfined("test")
			record, key, err := keys.Create(t.Context(), keyring.Spec{Name: "stream", Scopes: auth.Scopes{"events.read"}})
			if err != nil {
				t.Fatal(err)
			}
			begun := func() {
				if err := e.end(keys, record.ID); err != nil {
					t.Fatal(err)
				}
			}
			if got := f(t, a, key, begun); got != e.code {
				t.Errorf("the stream ends with %q, want %q", got, e.code)
			}
			a.logged(t, status, record.ID, e.code)
		})
	}
}

func TestServerSentEvents(t *testing.T) {
	each(t, 200, func(t *testing.T, a *api, key auth.Key, begun func()) string {
		source := make(chan string, 1)
		source <- "hello"
		server := a.serve(events(every, source))
		defer server.Close()
		r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(authtest.WithKey(r, key))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		code, ended := "", false
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			data, isData := strings.CutPrefix(lines.Text(), "data: ")
			switch {
			case isData && ended:
				code = data
			case isData && data == "hello":
				begun()
			case lines.Text() == "event: end":
				ended = true
			}
		}
		return code
	})
}

func TestWebSocket(t *testing.T) {
	each(t, 101, func(t *testing.T, a *api, key auth.Key, begun func()) string {
		server := a.serve(echo(every))
		defer server.Close()
		conn, _, err := websocket.Dial(t.Context(), server.URL, &websocket.DialOptions{
			HTTPHeader: http.Header{"Authorization": {"Bearer " + key.Reveal()}}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		if err := conn.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		_, message, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if string(message) != "hello" {
			t.Errorf("echo of hello is %q", message)
		}
		begun()
		_, _, err = conn.Read(t.Context())
		if status := websocket.CloseStatus(err); status != websocket.StatusPolicyViolation {
			t.Errorf("close status %v, want %v", status, websocket.StatusPolicyViolation)
		}
		_, reason, _ := strings.Cut(err.Error(), `reason = "`)
		reason, _, _ = strings.Cut(reason, `"`)
		return reason
	})
}

// A watcher is a service of gRPC whose stream lasts as long as its context.
type watcher struct {
	healthpb.UnimplementedHealthServer
}

func (watcher) Watch(_ *healthpb.HealthCheckRequest, stream healthpb.Health_WatchServer) error {
	if err := stream.Send(&healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

// dial starts a server of gRPC and returns a client of it.
func dial(t *testing.T, a *auth.Authenticator) healthpb.HealthClient {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.StreamInterceptor(streamAuth(a, "events.read", every)))
	healthpb.RegisterHealthServer(server, watcher{})
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return healthpb.NewHealthClient(conn)
}

func TestGRPCStream(t *testing.T) {
	each(t, 0, func(t *testing.T, a *api, key auth.Key, begun func()) string {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+key.Reveal())
		stream, err := dial(t, a.auth).Watch(ctx, new(healthpb.HealthCheckRequest))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		begun()
		_, err = stream.Recv()
		return status.Convert(err).Message()
	})
}

func TestGRPCRefuses(t *testing.T) {
	a := newAPI()
	client := dial(t, a.auth)
	key := authtest.NewKey(t, a.store)
	for _, c := range []struct {
		name, authorization string
		want                codes.Code
	}{
		{"no key", "", codes.Unauthenticated},
		{"unknown key", "Bearer " + auth.Scheme{}.NewKey().Reveal(), codes.Unauthenticated},
		{"key without scopes", "Bearer " + key.Reveal(), codes.PermissionDenied},
	} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", c.authorization)
		stream, err := client.Watch(ctx, new(healthpb.HealthCheckRequest))
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		if got := status.Code(err); got != c.want {
			t.Errorf("%s: code %v, want %v", c.name, got, c.want)
		}
	}
}
