// Command quickstart is a small documents API behind API keys. It prints the keys that it made, and what to paste.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/insigner/auth"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done, then finishes the requests that are under way.
func run(ctx context.Context, addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	store := new(auth.MemoryStore)
	if err := printKeys(ctx, auth.NewKeyring(store, nil), listener.Addr().(*net.TCPAddr)); err != nil {
		return err
	}
	server := &http.Server{
		Handler:           requestID(auth.New(store, nil).Middleware(routes(newDocuments()))),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
	}
	down := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		down <- server.Shutdown(ctx)
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-down
}

// requestID goes outside the Middleware, so that a refused request has an ID too.
func requestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "req_"+rand.Text())
		next.ServeHTTP(w, r)
	})
}

// routes is the API that the keys guard: each route says which scope it requires.
func routes(d *documents) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, scope auth.Scope, h http.HandlerFunc) {
		mux.Handle(pattern, auth.Require(scope)(h))
	}
	handle("GET /api/v1/documents", "documents.read", d.list)
	handle("POST /api/v1/documents", "documents.create", d.create)
	handle("GET /api/v1/documents/{id}", "documents.read", d.get)
	handle("DELETE /api/v1/documents/{id}", "documents.delete", d.delete)
	handle("GET /api/v1/templates", "templates.read", func(w http.ResponseWriter, r *http.Request) {
		writeList(w, []document{{"tpl_1", "Offer letter"}})
	})
	handle("GET /api/v1/org", "org.read", func(w http.ResponseWriter, r *http.Request) {
		key, _ := auth.FromContext(r.Context())
		write(w, http.StatusOK, map[string]string{"id": key.Owner, "name": "Demonstration Ltd"})
	})
	return mux
}

// printKeys makes four keys, and prints them and what to do with them.
func printKeys(ctx context.Context, keyring *auth.Keyring, addr *net.TCPAddr) error {
	fmt.Print("Printed for the demonstration; an API shows a key once, to its owner, and logs none.\n\n")
	reading := auth.Scopes{"documents.read", "templates.read", "org.read"}
	soon := time.Now().Add(100 * time.Millisecond) // an expiry in the past would be refused
	var keys [4]string
	for i, g := range []auth.Grant{
		{Name: "full access", Owner: "org_1", Scopes: auth.Scopes{"*"}},
		{Name: "read-only", Owner: "org_1", Scopes: reading},
		{Name: "expired", Owner: "org_1", Scopes: reading, ExpiresAt: soon},
		{Name: "revoked", Owner: "org_1", Scopes: reading},
	} {
		record, key, err := keyring.Create(ctx, g)
		if err == nil && g.Name == "revoked" {
			err = keyring.Revoke(ctx, record.ID)
		}
		if err != nil {
			return err
		}
		keys[i] = key.Reveal()
		fmt.Printf("%-11s  %s\n", g.Name, keys[i])
	}
	time.Sleep(time.Until(soon))

	if addr.IP.IsUnspecified() {
		addr.IP = net.IPv4(127, 0, 0, 1)
	}
	for _, c := range []struct {
		key           int
		comment, curl string
	}{
		{0, "200: full access lists", "/documents"},
		{0, "201: full access creates", `/documents -d '{"title": "Lease"}'`},
		{1, "200: read-only lists", "/documents"},
		{1, "403: read-only does not delete", "/documents/doc_1 -X DELETE"},
		{2, "401: expired", "/documents"},
		{3, "401: revoked", "/documents"},
	} {
		fmt.Printf("\n# %s\ncurl -i -H 'Authorization: Bearer %s' http://%s/api/v1%s\n", c.comment, keys[c.key], addr, c.curl)
	}
	return nil
}
