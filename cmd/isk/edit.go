package main

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/spf13/cobra"
)

func init() { register(keyCommands, newEdit) }

// An edit is what the flags of isk edit change.
type edit struct {
	name, expires                              string
	scopes, addScopes, removeScopes            []string
	metadata, removeMetadata                   []string
	expiresAt                                  time.Time
	newScopes, additionalScopes, removedScopes auth.Scopes
	entries                                    map[string]string
}

func newEdit(a *app) *cobra.Command {
	var e edit
	c := &cobra.Command{
		Use:   "edit ID FLAG...",
		Short: "Change a key's name, scopes, expiry or metadata",
		Long: `Edit changes the name, the scopes, the expiry and the metadata of a key, and
prints what it is then. What no flag names stays as it is. A key that is revoked
or has expired cannot be changed.

With --scope these scopes replace all that the key has; --add-scope and
--remove-scope change single ones. The forms of --expires are those of isk
create.`,
		Example: `  isk edit 0198c2f4-7a3e-7b1c-9d5e-2f8a6b4c1d0e --name "Billing" --expires 2027-12-31
  isk edit 0198c2f4-7a3e-7b1c-9d5e-2f8a6b4c1d0e --add-scope templates.read --remove-scope 'documents.*'
  isk edit 0198c2f4-7a3e-7b1c-9d5e-2f8a6b4c1d0e --metadata team=billing --remove-metadata ticket`,
		Args: exactly("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := e.parse(a, c); err != nil {
				return err
			}
			s, err := a.open(c.Context())
			if err != nil {
				return err
			}
			r, err := s.keys.Update(c.Context(), args[0], func(r *auth.Record) error { return e.change(c, r) })
			if err != nil {
				return err
			}
			return a.showKey(&r)
		},
	}
	flags := c.Flags()
	flags.StringVar(&e.name, "name", "", "its new name")
	flags.StringVar(&e.expires, "expires", "", "when it expires: 90d, 12w, 1y, a date, a time, never")
	flags.StringArrayVar(&e.scopes, "scope", nil, "a scope; together they replace all that it has")
	flags.StringArrayVar(&e.addScopes, "add-scope", nil, "a scope that it gets")
	flags.StringArrayVar(&e.removeScopes, "remove-scope", nil, "a scope that it loses")
	flags.StringArrayVar(&e.metadata, "metadata", nil, "an entry `name=value` that it gets")
	flags.StringArrayVar(&e.removeMetadata, "remove-metadata", nil, "the `name` of an entry that it loses")
	for _, flag := range []string{"scope", "add-scope", "remove-scope"} {
		a.completeScopes(c, flag)
	}
	for _, flag := range []string{"name", "expires", "metadata", "remove-metadata"} {
		c.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	return c
}

var editFlags = []string{"name", "expires", "scope", "add-scope", "remove-scope", "metadata", "remove-metadata"}

// parse reads the flags.
func (e *edit) parse(a *app, c *cobra.Command) error {
	changed := c.Flags().Changed
	if !slices.ContainsFunc(editFlags, changed) {
		return wrongUsage("nothing to change: give one of --%s", strings.Join(editFlags, ", --"))
	}
	if changed("scope") && (changed("add-scope") || changed("remove-scope")) {
		return wrongUsage("--scope replaces all scopes, so it goes with neither --add-scope nor --remove-scope")
	}
	if changed("name") && strings.TrimSpace(e.name) == "" {
		return wrongUsage("--name is empty")
	}
	catalog, err := a.catalog()
	if err != nil {
		return err
	}
	if e.newScopes, err = parseScopes(e.scopes, catalog); err != nil {
		return err
	}
	if e.additionalScopes, err = parseScopes(e.addScopes, catalog); err != nil {
		return err
	}
	// One that the catalog no longer lists can be removed.
	if e.removedScopes, err = parseScopes(e.removeScopes, nil); err != nil {
		return err
	}
	if changed("expires") {
		if e.expiresAt, err = parseExpiry("--expires", e.expires, a.now()); err != nil {
			return err
		}
	}
	e.entries, err = parseMetadata(e.metadata)
	return err
}

// change changes a record as the flags say.
func (e *edit) change(c *cobra.Command, r *auth.Record) error {
	changed := c.Flags().Changed
	if changed("name") {
		r.Name = e.name
	}
	if changed("expires") {
		r.ExpiresAt = e.expiresAt
	}
	if changed("scope") {
		r.Scopes = slices.Clone(e.newScopes)
	}
	for _, scope := range e.additionalScopes {
		if !slices.Contains(r.Scopes, scope) {
			r.Scopes = append(r.Scopes, scope)
		}
	}
	for _, scope := range e.removedScopes {
		i := slices.Index(r.Scopes, scope)
		if i < 0 {
			return failf("the key does not have the scope %s, so it cannot lose it; it has %s", scope, scopesText(r.Scopes))
		}
		r.Scopes = slices.Delete(r.Scopes, i, i+1)
	}
	if len(e.removedScopes) > 0 && len(r.Scopes) == 0 {
		return wrongUsage("the key would be left without a scope; to end it, use isk disable or isk revoke")
	}
	for _, name := range e.removeMetadata {
		if _, ok := r.Metadata[name]; !ok {
			return failf("the key has no such entry of the metadata: %s", name)
		}
		delete(r.Metadata, name)
	}
	if len(e.entries) > 0 {
		if r.Metadata == nil {
			r.Metadata = make(map[string]string)
		}
		maps.Copy(r.Metadata, e.entries)
	}
	return nil
}
