package main

import "github.com/spf13/cobra"

func init() {
	register(keyCommands, newDisable)
	register(keyCommands, newEnable)
}

func newDisable(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "disable ID...",
		Short: "Refuse keys until they are enabled again",
		Long: `Disable refuses keys until isk enable accepts them again. A key that is disabled
already stays as it is.`,
		Example: `  isk disable 0198c2f4-7a3e-7b1c-9d5e-2f8a6b4c1d0e`,
		Args:    atLeastOne("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.open(c.Context())
			if err != nil {
				return err
			}
			return a.changeIDs(c.Context(), "Disabled", "disabledKeys", args, s.keys.Disable)
		},
	}
}

func newEnable(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "enable ID...",
		Short: "Accept disabled keys again",
		Long: `Enable accepts keys again that isk disable refused. A key that has expired stays
expired.`,
		Example: `  isk enable 0198c2f4-7a3e-7b1c-9d5e-2f8a6b4c1d0e`,
		Args:    atLeastOne("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.open(c.Context())
			if err != nil {
				return err
			}
			return a.changeIDs(c.Context(), "Enabled", "enabledKeys", args, s.keys.Enable)
		},
	}
}
