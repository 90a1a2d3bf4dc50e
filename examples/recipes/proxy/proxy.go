// Package proxy shows a reverse proxy that authenticates for another service.
package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/insigner/auth"
)

// New returns a reverse proxy that tells the upstream service whose request it
// is, in X-Key-Id and X-Owner, and keeps the key to itself. The key of a stream
// that stays open is looked up again at each interval.
func New(store auth.Store, upstream *url.URL, interval time.Duration) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			r.SetXForwarded()
			identify(r)
		},
		ErrorHandler: badGateway,
	}
	a := auth.New(store, nil)
	mux := http.NewServeMux()
	mux.Handle("GET /", a.Require("documents.read")(recheck(interval, proxy)))
	mux.Handle("/", a.Require("documents.write")(recheck(interval, proxy)))
	return mux
}

// identify replaces the key in a request by what the upstream service may know.
func identify(r *httputil.ProxyRequest) {
	h := r.Out.Header
	h.Del("Authorization")
	for name := range h {
		switch strings.ToLower(strings.ReplaceAll(name, "_", "-")) { // some servers read X_Owner as X-Owner
		case "x-key-id", "x-owner":
			delete(h, name) // the client's word
		case "x-http-method-override", "x-http-method", "x-method-override":
			delete(h, name) // the method has decided which scope is required
		}
	}
	key, _ := auth.FromContext(r.In.Context())
	h.Set("X-Key-Id", key.ID)
	h.Set("X-Owner", key.Owner)
}

// recheck ends a stream when its key is revoked.
func recheck(interval time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := auth.WithRecheck(r.Context(), interval)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// badGateway answers for an upstream service that did not.
func badGateway(w http.ResponseWriter, r *http.Request, err error) {
	if cause := context.Cause(r.Context()); auth.Code(cause) != "" {
		auth.WriteProblem(w, r, cause) // the key was revoked before there was an answer
		return
	}
	if !errors.Is(err, context.Canceled) { // the client has not gone away
		slog.ErrorContext(r.Context(), "the upstream service failed", "error", err)
	}
	auth.WriteProblem(w, r, &auth.Problem{
		Type:   "https://api.example.com/problems/bad-gateway",
		Title:  "Bad Gateway",
		Status: http.StatusBadGateway,
		Detail: "The service did not answer; try again later",
		Code:   "BAD_GATEWAY",
	})
}
