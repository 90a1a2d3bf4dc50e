package main

import (
	"github.com/spf13/cobra"
)

func init() { register(databaseCommands, newMigrate) }

func newMigrate(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "migrate",
		Short:   "Create the tables, or bring them up to date",
		Example: `  isk migrate`,
		Args:    noArguments,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.connect(c.Context(), true)
			if err != nil {
				return err
			}
			if err := s.raw.Migrate(c.Context()); err != nil {
				return err
			}
			logs, err := s.logs()
			if err != nil {
				return err
			}
			return logs.Migrate(c.Context())
		},
	}
}
