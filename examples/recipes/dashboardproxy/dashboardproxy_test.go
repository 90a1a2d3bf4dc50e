package dashboardproxy_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/examples/recipes/dashboardproxy"
	"github.com/insigner/auth/keyring"
)

const (
	proxy  = "10.0.0.7:41000"
	client = "198.51.100.7:41000"
)

func accountOf(ctx context.Context, email string) (*dashboardproxy.Account, error) {
	switch email {
	case "ada@acme.example":
		return &dashboardproxy.Account{Owner: "acme", Scopes: auth.Scopes{"documents.*"}}, nil
	case "rita@acme.example":
		return &dashboardproxy.Account{Owner: "acme", ReadOnly: true}, nil
	case "outage@acme.example":
		return nil, errors.New("the database of the accounts is down")
	}
	return nil, nil
}

func TestDashboard(t *testing.T) {
	manager := keyring.NewManager(new(keyring.MemoryStore), &keyring.Options{Scheme: auth.Scheme{Catalog: auth.PublishedCatalog()}})
	create := func(owner string) string {
		r, _, err := manager.Unconfined("test").Create(t.Context(), keyring.Spec{
			Name: "Backend", Owner: owner, Scopes: auth.Scopes{"documents.read"}})
		if err != nil {
			t.Fatal(err)
		}
		return r.ID
	}
	own, others := create("acme"), create("globex")
	var audit bytes.Buffer
	pages := dashboardproxy.New(dashboardproxy.SignIn{
		Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/29"), netip.MustParsePrefix("fd00::/120")},
		Account: accountOf,
	}, manager, apilog.NewMemoryStore(100), slog.New(slog.NewTextHandler(&audit, nil)))

	signedIn := func(email string) http.Header { return http.Header{"X-Auth-Request-Email": {email}} }
	with := func(h http.Header, name string, values ...string) http.Header { h[name] = values; return h }
	ada := func() http.Header { return signedIn("ada@acme.example") }
	for _, c := range []struct {
		name, peer, path string
		header           http.Header
		status           int
		text             string
	}{
		{"signed in", proxy, "", ada(), 200, "ada@acme.example for acme"},
		{"signed in, IPv6", "[fd00::7]:41000", "", ada(), 200, "for acme"},
		{"signed in, IPv4 in IPv6", "[::ffff:10.0.0.7]:41000", "", ada(), 200, "for acme"},
		{"own key", proxy, "keys/" + own, ada(), 200, "Backend"},
		{"another owner's key", proxy, "keys/" + others, ada(), 404, "There is no such key"},
		{"read only", proxy, "keys/" + own, signedIn("rita@acme.example"), 200, "Read only"},
		{"staff", proxy, "keys/" + others, with(signedIn("sam@insigner.example"), "X-Auth-Request-Groups", "all,support"), 200, "staff"},
		{"another group", proxy, "keys/" + others, with(ada(), "X-Auth-Request-Groups", "support-trainees"), 404, "no such key"},

		{"not signed in", proxy, "", nil, 401, "Nobody is signed in"},
		{"an empty field", proxy, "", signedIn(""), 401, "Nobody is signed in"},
		{"no account", proxy, "", signedIn("eve@evil.example"), 403, "You have no account here"},
		{"accounts that cannot be read", proxy, "", signedIn("outage@acme.example"), 503, "Try again"},
		{"a field that the proxy added to", proxy, "", with(ada(), "X-Auth-Request-Email", "ada@acme.example", "eve@evil.example"), 401, "Nobody"},
		{"groups that the proxy added to", proxy, "", with(ada(), "X-Auth-Request-Groups", "support", "all"), 401, "Nobody"},

		{"forged", client, "", ada(), 403, "only served through the proxy"},
		{"forged, as staff", client, "", with(ada(), "X-Auth-Request-Groups", "support"), 403, "only served through the proxy"},
		{"forged, with an address", client, "", with(ada(), "X-Forwarded-For", "10.0.0.7"), 403, "only served through the proxy"},
		{"forged, from a neighbor of the proxy", "10.0.0.8:41000", "", ada(), 403, "only served through the proxy"},
		{"no address", "@", "", ada(), 403, "only served through the proxy"},
	} {
		r := httptest.NewRequest("GET", "/developers/"+c.path, nil)
		r.RemoteAddr = c.peer
		if c.header != nil {
			r.Header = c.header
		}
		w := httptest.NewRecorder()
		pages.ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("%s: status %d, want %d", c.name, w.Code, c.status)
		}
		if !strings.Contains(w.Body.String(), c.text) {
			t.Errorf("%s: the answer has no %q:\n%s", c.name, c.text, w.Body)
		}
	}
	if got, want := strings.Count(audit.String(), "\n"), 1; got != want {
		t.Errorf("the audit has %d lines, want %d:\n%s", got, want, &audit)
	}
	if want := "by=sam@insigner.example owner=globex key=" + others + " page=keys/" + others; !strings.Contains(audit.String(), want) {
		t.Errorf("the audit has no %q:\n%s", want, &audit)
	}
}
