// Package inside shows checks of one's own that need to know whose key it is.
package inside

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/insigner/auth"
)

// Suspended reports whether an owner may not use the API for now. An error
// means that it is unknown.
type Suspended func(ctx context.Context, owner string) (bool, error)

// NewApp returns an API with two checks of its own.
func NewApp(store auth.Store, suspended Suspended) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /documents", auth.Require("documents.read")(http.HandlerFunc(list)))
	return auth.New(store, nil).Middleware(checkAddress(checkOwner(suspended, mux)))
}

// checkAddress refuses a key that is used from an address outside its list,
// which is in its metadata: "192.0.2.0/24 2001:db8::/32".
func checkAddress(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, _ := auth.FromContext(r.Context())
		if list, limited := key.Metadata["addresses"]; limited && !contains(list, r.RemoteAddr) {
			auth.WriteProblem(w, r, wrongAddress)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// contains reports whether list has the address of a client. It has none that it
// cannot read.
func contains(list, remoteAddr string) bool {
	client, err := netip.ParseAddrPort(remoteAddr)
	if err != nil {
		return false
	}
	for _, text := range strings.Fields(list) {
		network, err := netip.ParsePrefix(text)
		if err == nil && network.Contains(client.Addr().Unmap().WithZone("")) {
			return true
		}
	}
	return false
}

// checkOwner refuses the keys of an owner who is suspended.
func checkOwner(suspended Suspended, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, _ := auth.FromContext(r.Context())
		yes, err := suspended(r.Context(), key.Owner)
		if err != nil {
			auth.WriteProblem(w, r, unknownOwner) // an outage is neither yes nor no
			return
		}
		if yes {
			auth.WriteProblem(w, r, suspendedOwner)
			return
		}
		next.ServeHTTP(w, r)
	})
}

var (
	wrongAddress = &auth.Problem{
		Type:   "https://api.example.com/problems/wrong-address",
		Title:  "Forbidden",
		Status: http.StatusForbidden,
		Detail: "The key may not be used from this address",
		Code:   "WRONG_ADDRESS",
	}
	suspendedOwner = &auth.Problem{
		Type:   "https://api.example.com/problems/account-suspended",
		Title:  "Forbidden",
		Status: http.StatusForbidden,
		Detail: "The account is suspended; see your email",
		Code:   "ACCOUNT_SUSPENDED",
	}
	unknownOwner = &auth.Problem{
		Type:   "https://api.example.com/problems/service-unavailable",
		Title:  "Service Unavailable",
		Status: http.StatusServiceUnavailable,
		Detail: "The account could not be checked; try again later",
		Code:   "ACCOUNTS_UNAVAILABLE",
	}
)

func list(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "the documents") }
