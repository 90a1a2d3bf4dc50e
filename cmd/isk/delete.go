package main

import "github.com/spf13/cobra"

func init() { register(keyCommands, newDelete) }

func newDelete(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "delete ID...",
		Short: "Delete the records of keys",
		Long: `Delete removes the records of keys, which are unknown from then on. Their events
stay. To end a key and keep its record, use isk revoke.

It asks first. Without a terminal and without --yes nothing is changed, and the
exit code is 2.`,
		Example: `  isk delete 0198c2f4-7a3e-7b1c-9d5e-2f8a6b4c1d0e --yes`,
		Args:    atLeastOne("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.open(c.Context())
			if err != nil {
				return err
			}
			if err := a.confirm("Delete the records of %s?", keysText(len(args))); err != nil {
				return err
			}
			return a.changeIDs(c.Context(), "Deleted", "deletedKeys", args, s.keys.Delete)
		},
	}
	a.addYes(c)
	return c
}
