package main

import (
	"context"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
	"github.com/spf13/cobra"
)

func init() { register(moveCommands, newPurge) }

func newPurge(a *app) *cobra.Command {
	var deadFor string
	var dryRun bool
	c := &cobra.Command{
		Use:   "purge --dead-for DURATION",
		Short: "Delete the records of keys that ended long ago",
		Long: `Purge deletes the records of keys that were revoked, or have expired, longer ago
than --dead-for. Their events stay. With --dry-run it only says how many these
are. It refuses to work if the clock of this machine and that of the server
differ by more than a minute.

It asks first, with the number of keys. Without a terminal and without --yes
nothing is changed, and the exit code is 2. It goes on over single failures.`,
		Example: `  isk purge --dead-for 90d --dry-run
  isk purge --dead-for 1y --yes`,
		Args: noArguments,
		RunE: func(c *cobra.Command, args []string) error {
			if deadFor == "" {
				return wrongUsage("--dead-for is missing, or empty")
			}
			if d, err := parseDuration("--dead-for", deadFor); err != nil {
				return err
			} else if d == 0 {
				return wrongUsage("--dead-for is zero")
			}
			before, _ := after(a.now(), deadFor, -1)
			ctx := c.Context()
			s, err := a.open(ctx)
			if err != nil {
				return err
			}
			if err := s.agreesOnTime(ctx, a.now()); err != nil {
				return err
			}
			dead := func(r *auth.Record) bool {
				end := endOf(r, a.now())
				return !end.IsZero() && end.Before(before)
			}
			filter := keyring.Filter{States: keyring.Revoked | keyring.Expired}
			total, err := a.count(s.keys.List(ctx, filter), dead)
			if err != nil {
				return err
			}
			if dryRun {
				if a.json {
					return a.writeJSON(map[string]any{"dryRun": true, "count": total})
				}
				a.say("This would delete the records of %s.", keysText(total))
				return nil
			}
			if total > 0 {
				err := a.confirm("Delete the records of %s that ended before %s?", keysText(total), timeText(before))
				if err != nil {
					return err
				}
			}
			b := a.newBulk("Deleted", "deletedKeys", total)
			bad, err := a.each(s.keys.List(ctx, filter), func(r *auth.Record) error {
				if !dead(r) {
					return nil
				}
				return b.try(ctx, r.ID, title(r), s.keys.Delete)
			})
			return b.end(ctx, err, bad)
		},
	}
	c.Flags().StringVar(&deadFor, "dead-for", "", "how long ago they ended at least: 90d, 12w, 1y")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "change nothing, and say how many they are")
	c.RegisterFlagCompletionFunc("dead-for", cobra.NoFileCompletions)
	a.addYes(c)
	return c
}

// endOf returns when a key ended, or the zero time if it has not.
func endOf(r *auth.Record, now time.Time) time.Time {
	end := r.RevokedAt
	if !r.ExpiresAt.IsZero() && !r.ExpiresAt.After(now) && (end.IsZero() || r.ExpiresAt.Before(end)) {
		end = r.ExpiresAt
	}
	return end
}

// agreesOnTime returns an error if the clock of the server is far from now. With
// a clock that is ahead, keys that still work would seem to have ended.
func (s *session) agreesOnTime(ctx context.Context, now time.Time) error {
	if s.kind != "postgres" {
		return nil // there is no other clock
	}
	var clock time.Time
	if err := s.db.QueryRowContext(ctx, "SELECT clock_timestamp()").Scan(&clock); err != nil {
		return unavailable(err)
	}
	if ahead := now.Sub(clock).Round(time.Second); ahead.Abs() > time.Minute {
		return failf("nothing was deleted: the clock of this machine is %v ahead of that of the server", ahead)
	}
	return nil
}
