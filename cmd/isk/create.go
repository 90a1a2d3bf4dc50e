package main

import (
	"strings"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
	"github.com/spf13/cobra"
)

func init() { register(keyCommands, newCreate) }

func newCreate(a *app) *cobra.Command {
	var spec keyring.Spec
	var scopes, metadata []string
	var expires string
	c := &cobra.Command{
		Use:   "create --name NAME --owner OWNER --scope SCOPE [--scope SCOPE]...",
		Short: "Create a key, and print it once",
		Long: `Create makes a key and prints it to the standard output, alone on its line. It
is printed once: the database has only its hash. What else there is to say goes
to the standard error, so this works:

  KEY=$(isk create --name CI --owner acme --scope documents.read)

The expiry is a duration from now in days, weeks, years or hours (90d, 12w, 1y,
36h), a date (the end of that day in UTC), a time (2027-12-31T18:00:00Z) or
never. Without --expires the key never expires.`,
		Example: `  isk create --name "Production Backend" --owner acme --scope documents.read --expires 1y
  isk create --name CI --owner acme --scope 'documents.*' --scope templates.read --metadata team=billing`,
		Args: noArguments,
		RunE: func(c *cobra.Command, args []string) error {
			scheme, err := a.scheme()
			if err != nil {
				return err
			}
			if len(scopes) == 0 {
				return noScope(scheme.Catalog)
			}
			if spec.Scopes, err = parseScopes(scopes, scheme.Catalog); err != nil {
				return err
			}
			for flag, text := range map[string]string{"name": spec.Name, "owner": spec.Owner} {
				if strings.TrimSpace(text) == "" {
					return wrongUsage("--%s is missing, or empty", flag)
				}
			}
			if spec.ExpiresAt, err = parseExpiry("--expires", expires, a.now()); err != nil {
				return err
			}
			if spec.Metadata, err = parseMetadata(metadata); err != nil {
				return err
			}
			s, err := a.open(c.Context())
			if err != nil {
				return err
			}
			r, key, err := s.keys.Create(c.Context(), spec)
			if err != nil {
				return err
			}
			a.say("Created the key %s. It expires: %s. It is printed only now:", title(&r), timeOr(r.ExpiresAt, "never"))
			return a.showSecret(&r, key)
		},
	}
	flags := c.Flags()
	flags.StringVar(&spec.Name, "name", "", "what the key is called")
	flags.StringVar(&spec.Owner, "owner", "", "whom it acts for")
	flags.StringArrayVar(&scopes, "scope", nil, "what it may do; can be repeated")
	flags.StringVar(&expires, "expires", "never", "when it expires: 90d, 12w, 1y, a date, a time, never")
	flags.StringArrayVar(&metadata, "metadata", nil, "an entry `name=value`; can be repeated")
	a.completeScopes(c, "scope")
	return c
}

// noScope says that a scope is missing, and which ones there are.
func noScope(catalog auth.Catalog) error {
	if catalog == nil {
		return wrongUsage("--scope is missing: without a scope a key can do nothing. No catalog is set (%s), "+
			"so any scope can be granted, such as documents.read", envCatalog)
	}
	names := make([]string, len(catalog))
	for i, info := range catalog {
		names[i] = string(info.Scope)
	}
	return wrongUsage("--scope is missing: without a scope a key can do nothing. The scopes are: %s", strings.Join(names, ", "))
}

// parseScopes returns scopes, separated by commas or as several flags.
func parseScopes(texts []string, catalog auth.Catalog) (auth.Scopes, error) {
	var scopes auth.Scopes
	for _, text := range texts {
		for name := range strings.SplitSeq(text, ",") {
			scope, err := auth.ParseScope(strings.TrimSpace(name))
			if err == nil {
				err = catalog.Validate(scope)
			}
			if err != nil {
				return nil, wrongUsage("%s", strings.TrimPrefix(err.Error(), "auth: "))
			}
			scopes = append(scopes, scope)
		}
	}
	return scopes, nil
}

// parseMetadata returns the entries name=value.
func parseMetadata(texts []string) (map[string]string, error) {
	entries := make(map[string]string)
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, wrongUsage("--metadata is an entry such as team=billing")
		}
		if _, ok := entries[name]; ok {
			return nil, wrongUsage("--metadata sets an entry twice")
		}
		entries[name] = value
	}
	return entries, nil
}

// completeScopes completes a flag with the scopes of the catalog.
func (a *app) completeScopes(c *cobra.Command, flag string) {
	c.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		catalog, err := a.catalog()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var completions []string
		for _, info := range catalog {
			completions = append(completions, cobra.CompletionWithDesc(string(info.Scope), info.Description))
		}
		return completions, cobra.ShellCompDirectiveNoFileComp
	})
}
