package main

import "github.com/spf13/cobra"

func init() { register(keyCommands, newShow) }

func newShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show a key",
		Long: `Show prints what is known of the key with this ID: its name, owner, scopes,
state and metadata. The key itself is not stored, so it cannot be shown again.`,
		Example: `  isk show 0198c2f4-7a3e-7b1c-9d5e-2f8a6b4c1d0e`,
		Args:    exactly("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.open(c.Context())
			if err != nil {
				return err
			}
			r, err := s.keys.Get(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.showKey(&r)
		},
	}
}
