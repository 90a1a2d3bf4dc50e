package exampleapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// printKeys creates four keys for an API that listens on addr, and prints them
// with commands to try. If an earlier start has created them, or another
// instance creates them now, it prints only the address.
func printKeys(ctx context.Context, manager *keyring.Manager, listening net.Addr) error {
	addr := *listening.(*net.TCPAddr)
	if addr.IP.IsUnspecified() {
		addr.IP = net.IPv4(127, 0, 0, 1)
	}
	keys := manager.Unconfined("example")
	reading := auth.Scopes{"documents.read", "templates.read", "org.read"}
	var secrets []string
	var soon time.Time
	for _, spec := range []keyring.Spec{
		{Name: "full access", Scopes: auth.Scopes{"*"}, Once: "example"},
		{Name: "read-only", Scopes: reading},
		{Name: "expired", Scopes: reading},
		{Name: "revoked", Scopes: reading},
	} {
		spec.Owner = "org_1"
		record, key, err := keys.Create(ctx, spec)
		for patience := 300 * time.Millisecond; spec.Name == "expired" && err == nil; patience *= 2 {
			soon = time.Now().Add(patience)
			_, err = keys.Update(ctx, record.ID, func(r *auth.Record) error { r.ExpiresAt = soon; return nil })
			if !errors.Is(err, keyring.ErrInvalidArgument) { // a busy database may take longer than that
				break
			}
			err = nil
		}
		if errors.Is(err, keyring.ErrExists) {
			fmt.Printf("Listening on http://%s. The keys of the first start stay valid. Press Ctrl-C to stop.\n", &addr)
			return nil
		}
		if err == nil && spec.Name == "revoked" {
			err = keys.Revoke(ctx, record.ID)
		}
		if err != nil {
			return err
		}
		secrets = append(secrets, key.Reveal())
	}
	time.Sleep(time.Until(soon)) // a key cannot be created expired, nor become so

	fmt.Print("These keys are for trying out. An API shows a key once, to its owner, and logs none.\n\n")
	for i, name := range []string{"full access", "read-only", "expired", "revoked"} {
		fmt.Printf("%-11s  %s\n", name, secrets[i])
	}
	for _, c := range []struct {
		key           int
		comment, curl string
	}{
		{0, "200: full access lists", "/documents"},
		{0, "201: full access creates", `/documents --json '{"title": "Lease"}'`},
		{1, "200: read-only lists", "/documents"},
		{1, "403: read-only does not delete", "/documents/doc_1 -X DELETE"},
		{1, "200: read-only shows itself", "/keys/self"},
		{1, "403: read-only does not manage keys", "/keys"},
		{0, "201: full access creates a key", `/keys --json '{"name": "CI", "scopes": ["documents.read"]}'`},
		{0, "200: full access lists keys", "/keys"},
		{0, "200: the newest requests of this owner", "/logs"},
		{2, "401: expired", "/documents"},
		{3, "401: revoked", "/documents"},
	} {
		fmt.Printf("\n# %s\ncurl -i -H 'Authorization: Bearer %s' http://%s/api/v1%s\n", c.comment, secrets[c.key], &addr, c.curl)
	}
	fmt.Printf("\nListening on http://%s. Press Ctrl-C to stop.\n", &addr)
	return nil
}
