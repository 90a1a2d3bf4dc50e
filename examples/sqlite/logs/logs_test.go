package logs

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/sqlite"
)

// TestServe checks that a request is in the file when the server has stopped.
func TestServe(t *testing.T) {
	store := new(keyring.MemoryStore)
	key := authtest.NewKey(t, store, "documents.read")
	mux := http.NewServeMux()
	mux.Handle("GET /documents", auth.Require("documents.read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "logs.db")
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- serve(ctx, listener, auth.Scheme{}, store, mux, file) }()
	r, err := http.NewRequest("GET", "http://"+listener.Addr().String()+"/documents", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key.Reveal())
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	stop()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	logs, err := sqlite.NewLogs(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	found, err := apilog.All(logs).List(t.Context(), apilog.Query{})
	if err != nil || len(found) != 1 {
		t.Fatalf("%d entries, want 1; error %v", len(found), err)
	}
	if found[0].Route != "GET /documents" {
		t.Errorf("route %q, want GET /documents", found[0].Route)
	}
	if found[0].KeyID == "" {
		t.Error("the entry has no key")
	}
}

// TestWithoutMigrate checks what the documentation says about a forgotten
// Migrate.
func TestWithoutMigrate(t *testing.T) {
	db, err := sqlite.Open(filepath.Join(t.TempDir(), "logs.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	logs, err := sqlite.NewLogs(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	recorder := apilog.NewRecorder(logs, &apilog.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	h := recorder.Middleware(http.NotFoundHandler())
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	if err := recorder.Close(t.Context()); err == nil {
		t.Error("Close returns nil, want an error")
	}
	if !strings.Contains(log.String(), "no such table") {
		t.Errorf("the log is %q, want \"no such table\" in it", log.String())
	}
}

func TestClientAddr(t *testing.T) {
	for _, c := range []struct{ from, forwarded, want string }{
		{"192.0.2.1:5", "", "192.0.2.1"},
		{"192.0.2.1:5", "198.51.100.7", "192.0.2.1"}, // forged
		{"10.0.0.1:5", "198.51.100.7", "198.51.100.7"},
		{"[::ffff:10.0.0.1]:5", "198.51.100.7", "198.51.100.7"},
		{"10.0.0.1:5", "203.0.113.9, 198.51.100.7,::ffff:10.0.0.2", "198.51.100.7"},
		{"10.0.0.1:5", "2001:db8::1", "2001:db8::1"},
		{"10.0.0.1:5", "198.51.100.7, unknown", ""},
		{"10.0.0.1:5", "", ""},
		{"@", "", ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.from
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		want := netip.Addr{}
		if c.want != "" {
			want = netip.MustParseAddr(c.want)
		}
		if got := clientAddr(r); got != want {
			t.Errorf("from %s for %q: %v, want %v", c.from, c.forwarded, got, want)
		}
	}
	if err := newRecorder(apilog.NewMemoryStore(1), auth.Scheme{}).Close(t.Context()); err != nil {
		t.Error(err)
	}
}
