package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/examples/recipes/internal/try"
	"github.com/insigner/auth/examples/recipes/proxy"
	"github.com/insigner/auth/keyring"
)

// start starts an upstream service and a proxy for it.
func start(t *testing.T, upstream http.HandlerFunc) (store *keyring.MemoryStore, base string) {
	t.Helper()
	target, err := url.Parse(try.Server(t, upstream))
	if err != nil {
		t.Fatal(err)
	}
	store = new(keyring.MemoryStore)
	return store, try.Server(t, proxy.New(store, target, 10*time.Millisecond))
}

func TestProxy(t *testing.T) {
	store, base := start(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "upstream") })
	reader := authtest.NewKey(t, store, "documents.read")
	for _, c := range []struct {
		name, method string
		key          auth.Key
		want         int
	}{
		{"the scope", "GET", reader, 200},
		{"another scope", "DELETE", reader, 403},
		{"that scope", "DELETE", authtest.NewKey(t, store, "documents.write"), 200},
		{"no key", "GET", auth.Key{}, 401},
		{"an unknown key", "GET", auth.Scheme{}.NewKey(), 401},
	} {
		got := try.Send(t, c.method, base+"/documents", try.Bearer(c.key))
		if got.Status != c.want {
			t.Errorf("%s: status %d, want %d", c.name, got.Status, c.want)
		}
		if reached := got.Body == "upstream"; reached != (c.want == 200) {
			t.Errorf("%s: the upstream service answered: %v", c.name, reached)
		}
	}
}

func TestUpstreamSeesOwnerAndNoKey(t *testing.T) {
	seen := make(chan http.Header, 1)
	store, base := start(t, func(w http.ResponseWriter, r *http.Request) { seen <- r.Header })
	key := authtest.NewKey(t, store, "documents.read")
	record, err := keyring.NewManager(store, nil).Unconfined("test").Find(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	h := try.Header("X-Owner", "forged", "X_Owner", "forged", "x-key_id", "forged", "X-Key-Id", "forged",
		"Connection", "X-Owner", "X-HTTP-Method-Override", "DELETE", "X-Forwarded-For", "forged", "X-Other", "kept")
	h.Set("Authorization", "Bearer "+key.Reveal())
	try.Send(t, "GET", base+"/documents", h)
	got := <-seen
	for name, want := range map[string]string{
		"X-Owner":                "org_test",
		"X-Key-Id":               record.ID,
		"X-Other":                "kept",
		"X-Forwarded-For":        "127.0.0.1",
		"Authorization":          "",
		"X-Http-Method-Override": "",
	} {
		if value := strings.Join(got.Values(name), ","); value != want {
			t.Errorf("the upstream service gets %s: %q, want %q", name, value, want)
		}
	}
	for name, values := range got {
		if strings.Contains(strings.Join(values, ","), "forged") {
			t.Errorf("the upstream service gets the client's %s", name)
		}
		if strings.Contains(strings.Join(values, ","), key.Reveal()) {
			t.Errorf("the upstream service gets the key in %s", name)
		}
	}
}

// TestCacheControl checks that no shared cache may store an answer, even if the
// upstream service permits it.
func TestCacheControl(t *testing.T) {
	for upstream, want := range map[string]string{
		"":                   "private",
		"no-store":           "private, no-store",
		"max-age=60":         "private, max-age=60",
		"public, max-age=60": "private, public, max-age=60",
	} {
		store, base := start(t, func(w http.ResponseWriter, r *http.Request) {
			if upstream != "" {
				w.Header().Set("Cache-Control", upstream)
			}
		})
		got := try.Send(t, "GET", base+"/", try.Bearer(authtest.NewKey(t, store, "documents.read")))
		if value := strings.Join(got.Header.Values("Cache-Control"), ", "); value != want {
			t.Errorf("for %q Cache-Control is %q, want %q", upstream, value, want)
		}
	}
}

func TestStreamEndsWithItsKey(t *testing.T) {
	ended := make(chan struct{})
	store, base := start(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		fmt.Fprintln(w, "data: first")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	key := authtest.NewKey(t, store, "documents.read")
	r, err := http.NewRequestWithContext(t.Context(), "GET", base+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(authtest.WithKey(r, key))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body := bufio.NewReader(response.Body)
	if line, err := body.ReadString('\n'); line != "data: first\n" {
		t.Fatalf("the first line is %q, %v", line, err)
	}
	revoke(t, store, key)
	if _, err := io.ReadAll(body); err == nil {
		t.Error("the stream ended as if it were complete")
	}
	<-ended
}

// TestUpgradedStreamEndsWithItsKey checks a stream for which the connection is
// handed over, as for a WebSocket.
func TestUpgradedStreamEndsWithItsKey(t *testing.T) {
	store, base := start(t, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\nhello\n")
		io.Copy(io.Discard, conn) // until the proxy closes it
	})
	key := authtest.NewKey(t, store, "documents.read")
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: test\r\n"+
		"Authorization: Bearer %s\r\n\r\n", key.Reveal())
	in := bufio.NewReader(conn)
	for line := ""; line != "hello\n"; {
		if line, err = in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	revoke(t, store, key)
	if rest, err := io.ReadAll(in); len(rest) > 0 {
		t.Errorf("after the key was revoked there is %q, %v", rest, err)
	}
}

func TestRevokedBeforeTheAnswer(t *testing.T) {
	asked := make(chan struct{})
	store, base := start(t, func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	})
	key := authtest.NewKey(t, store, "documents.read")
	go func() {
		<-asked
		revoke(t, store, key)
	}()
	if got := try.Send(t, "GET", base+"/", try.Bearer(key)); got.Code() != "KEY_REVOKED" {
		t.Errorf("the code is %q, want KEY_REVOKED", got.Code())
	}
}

func TestBadGateway(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	target, err := url.Parse(gone.URL)
	if err != nil {
		t.Fatal(err)
	}
	store := new(keyring.MemoryStore)
	base := try.Server(t, proxy.New(store, target, time.Minute))
	got := try.Send(t, "GET", base+"/", try.Bearer(authtest.NewKey(t, store, "*")))
	if got.Status != 502 {
		t.Errorf("status %d, want 502", got.Status)
	}
	if strings.Contains(got.Body, target.Host) {
		t.Errorf("the body names the upstream service: %s", got.Body)
	}
}

func revoke(t *testing.T, store keyring.Store, key auth.Key) {
	staff := keyring.NewManager(store, nil).Unconfined("test")
	record, err := staff.Find(t.Context(), key)
	if err == nil {
		err = staff.Revoke(t.Context(), record.ID)
	}
	if err != nil {
		t.Error(err)
	}
}
