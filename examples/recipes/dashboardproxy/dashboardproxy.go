// Package dashboardproxy shows the dashboard behind a proxy that signs users in,
// such as oauth2-proxy.
package dashboardproxy

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/dashboard"
	"github.com/insigner/auth/keyring"
)

// An Account is what the application knows about a user.
type Account struct {
	Owner    string
	Scopes   auth.Scopes // what this person may grant
	ReadOnly bool
}

// A SignIn takes the word of a proxy for who is signed in.
type SignIn struct {
	// Proxies are the addresses from which the proxy connects. Nothing else can
	// connect from there.
	Proxies []netip.Prefix

	// Account returns the account with an email, or nil if nobody has it.
	Account func(ctx context.Context, email string) (*Account, error)
}

// Viewer is for dashboard.Options.Viewer.
func (s SignIn) Viewer(w http.ResponseWriter, r *http.Request) (v dashboard.Viewer, ok bool) {
	if !s.fromProxy(r) {
		slog.WarnContext(r.Context(), "a request did not come from the proxy", "address", r.RemoteAddr)
		http.Error(w, "This page is only served through the proxy", http.StatusForbidden)
		return v, false
	}
	emails, groups := r.Header["X-Auth-Request-Email"], r.Header["X-Auth-Request-Groups"]
	if len(emails) != 1 || emails[0] == "" || len(groups) > 1 { // more than one: the proxy has kept what the client sent
		http.Error(w, "Nobody is signed in", http.StatusUnauthorized)
		return v, false
	}
	email := emails[0]
	if len(groups) == 1 && slices.Contains(strings.Split(groups[0], ","), "support") {
		return dashboard.Viewer{Actor: keyring.Actor{Name: email}, Staff: true}, true
	}
	account, err := s.Account(r.Context(), email)
	if err != nil {
		slog.ErrorContext(r.Context(), "the accounts cannot be read", "error", err)
		http.Error(w, "Try again in a moment", http.StatusServiceUnavailable)
		return v, false
	}
	if account == nil {
		http.Error(w, "You have no account here", http.StatusForbidden)
		return v, false
	}
	return dashboard.Viewer{
		Actor:    keyring.Actor{Name: email, Owner: account.Owner, Scopes: account.Scopes},
		ReadOnly: account.ReadOnly,
	}, true
}

// fromProxy reports whether the proxy sent the request. It looks at the
// connection: a client can send any X-Forwarded-For.
func (s SignIn) fromProxy(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	addr := peer.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(s.Proxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// New returns the dashboard. It logs what staff see.
func New(signIn SignIn, manager *keyring.Manager, logs apilog.Store, audit *slog.Logger) http.Handler {
	return dashboard.New(dashboard.Options{
		Manager: manager,
		Viewer:  signIn.Viewer,
		Logs:    logs,
		Prefix:  "/developers/",
		OnStaffRead: func(ctx context.Context, by, owner, keyID, page string) {
			audit.InfoContext(ctx, "staff read", "by", by, "owner", owner, "key", keyID, "page", page)
		},
	})
}
