package main

import (
	"github.com/insigner/auth/keyring"
	"github.com/spf13/cobra"
)

func init() { register(keyCommands, newRotate) }

func newRotate(a *app) *cobra.Command {
	var grace string
	c := &cobra.Command{
		Use:   "rotate ID [--grace DURATION]",
		Short: "Replace a key, and print its successor once",
		Long: `Rotate makes a successor with the same name, owner, scopes and metadata, and the
lifetime that the key had, counted from now. It prints the successor to the
standard output, alone on its line. The old key works until the grace is over,
but no longer than it would have. The grace is at most 30 days; with 0 the old
key ends at once.`,
		Example: `  isk rotate 0198c2f4-7a3e-7b1c-9d5e-2f8a6b4c1d0e
  isk rotate 0198c2f4-7a3e-7b1c-9d5e-2f8a6b4c1d0e --grace 7d`,
		Args: exactly("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			d, err := parseDuration("--grace", grace)
			if err != nil {
				return err
			}
			if d > keyring.MaxGrace {
				return wrongUsage("--grace is longer than 30d")
			}
			s, err := a.open(c.Context())
			if err != nil {
				return err
			}
			r, key, err := s.keys.Rotate(c.Context(), args[0], d)
			if err != nil {
				return err
			}
			until := "until the grace is over"
			if old, err := s.keys.Get(c.Context(), args[0]); err == nil {
				until = "until " + timeText(old.ExpiresAt)
			}
			a.say("Rotated the key %s, which works %s.", args[0], until)
			a.say("Its successor is %s. It expires: %s. It is printed only now:", title(&r), timeOr(r.ExpiresAt, "never"))
			return a.showSecret(&r, key)
		},
	}
	c.Flags().StringVar(&grace, "grace", "24h", "how long the old key still works: 24h, 7d, 0")
	c.RegisterFlagCompletionFunc("grace", cobra.NoFileCompletions)
	return c
}
