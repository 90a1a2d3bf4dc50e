// Package logs shows a server that keeps its API logs in an SQLite file.
package logs

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/sqlstore/sqlite"
)

// serve answers requests until ctx is done. The store has the keys, and mux the
// routes, each wrapped by auth.Require. The file, such as "logs.db", has the
// entries.
func serve(ctx context.Context, listener net.Listener, scheme auth.Scheme, store auth.Store, mux http.Handler, file string) error {
	db, err := sqlite.Open(file)
	if err != nil {
		return err
	}
	defer db.Close()
	logs, err := sqlite.NewLogs(db, nil)
	if err != nil {
		return err
	}
	if err := logs.Migrate(ctx); err != nil {
		return err
	}
	recorder := apilog.NewRecorder(logs, &apilog.Options{Scheme: scheme})
	a := auth.New(store, &auth.Options{Scheme: scheme, OnDecision: recorder.OnDecision})
	server := &http.Server{
		Handler:     recorder.Middleware(a.Middleware(mux)), // outermost
		ReadTimeout: 10 * time.Second,
	}
	down := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		down <- server.Shutdown(ctx) // finishes the requests in progress
	})
	served := server.Serve(listener)
	if errors.Is(served, http.ErrServerClosed) {
		served = <-down
	}
	closing, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return cmp.Or(served, recorder.Close(closing)) // writes what waits
}

// proxies are the networks of our own proxies.
var proxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}

// clientAddr returns the address of the client, or the zero Addr if it is not
// known.
func clientAddr(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	fields := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	if fields[0] == "" { // there is no such field
		fields = nil
	}
	fields = append(fields, host) // who connected is the rightmost
	for _, field := range slices.Backward(fields) {
		addr, err := netip.ParseAddr(strings.TrimSpace(field))
		if err != nil {
			return netip.Addr{} // what is left of it cannot be trusted either
		}
		addr = addr.Unmap() // ::ffff:10.0.0.1 is 10.0.0.1
		if !slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			return addr
		}
	}
	return netip.Addr{} // a request of one of our proxies
}

// newRecorder returns a Recorder for a server behind these proxies.
func newRecorder(logs apilog.Store, scheme auth.Scheme) *apilog.Recorder {
	return apilog.NewRecorder(logs, &apilog.Options{Scheme: scheme, RemoteAddr: clientAddr})
}
