package documents

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/insigner/auth"
)

// PrintKeys makes four keys for an API that listens on addr, the one named "revoked" last, and prints them and what
// to do with them.
func PrintKeys(ctx context.Context, keyring *auth.Keyring, listening net.Addr) error {
	addr := *listening.(*net.TCPAddr)
	fmt.Print("Printed for the demonstration; an API shows a key once, to its owner, and logs none.\n\n")
	reading := auth.Scopes{"documents.read", "templates.read", "org.read"}
	var soon time.Time
	var keys [4]string
	for i, g := range []auth.Grant{
		{Name: "full access", Owner: "org_1", Scopes: auth.Scopes{"*"}},
		{Name: "read-only", Owner: "org_1", Scopes: reading},
		{Name: "expired", Owner: "org_1", Scopes: reading},
		{Name: "revoked", Owner: "org_1", Scopes: reading},
	} {
		if g.Name == "expired" { // an expiry in the past would be refused
			soon = time.Now().Add(300 * time.Millisecond)
			g.ExpiresAt = soon
		}
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
		fmt.Printf("\n# %s\ncurl -i -H 'Authorization: Bearer %s' http://%s/api/v1%s\n", c.comment, keys[c.key], addr.String(), c.curl)
	}
	return nil
}
