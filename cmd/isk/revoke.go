package main

import (
	"context"
	"fmt"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
	"github.com/spf13/cobra"
)

func init() { register(keyCommands, newRevoke) }

func newRevoke(a *app) *cobra.Command {
	var f filter
	var allMatching bool
	var made string
	c := &cobra.Command{
		Use:   "revoke ID... | --made ID | --owner OWNER | --all-matching FILTER...",
		Short: "End keys for good",
		Long: `Revoke ends keys for good. Their records stay, and their events. A key that is
revoked already stays as it is. A successor of a rotation is a key of its own,
and stays valid.

With --made it revokes a key that has leaked, with all keys that it made: those
that it created or rotated itself into, and those that these made in turn.

With --owner it revokes all keys of an owner, and with --all-matching all keys
that the flags select, which are those of isk list. Keys that are made in the
meantime are revoked too. It goes on over single failures.

With flags it asks first, with the number of keys. Without a terminal and
without --yes nothing is changed, and the exit code is 2.`,
		Example: `  isk revoke 0198c2f4-7a3e-7b1c-9d5e-2f8a6b4c1d0e
  isk revoke --made 0198c2f4-7a3e-7b1c-9d5e-2f8a6b4c1d0e --yes
  isk revoke --owner acme
  isk revoke --all-matching --text ci- --expires-before 2027-01-31`,
		Args: func(c *cobra.Command, args []string) error { return notEmpty(args) },
		RunE: func(c *cobra.Command, args []string) error {
			filter, err := f.filter(c, a.now())
			if err != nil {
				return err
			}
			ways := 0
			for _, way := range []bool{len(args) > 0, c.Flags().Changed("made"), f.isSet(c) || allMatching} {
				if way {
					ways++
				}
			}
			switch {
			case ways != 1:
				return wrongUsage("name the keys in one way: by their IDs, by --made, by --owner or by --all-matching")
			case c.Flags().Changed("made") && made == "":
				return wrongUsage("--made is empty")
			case allMatching && !f.isSet(c):
				return wrongUsage("--all-matching needs a flag that selects keys; for all keys that work it is --state active")
			case f.isSet(c) && !allMatching && !f.onlyOwner(c):
				return wrongUsage("to revoke all keys that these flags select, add --all-matching")
			}
			s, err := a.open(c.Context())
			if err != nil {
				return err
			}
			switch {
			case len(args) > 0:
				return a.changeIDs(c.Context(), "Revoked", "revokedKeys", args, s.keys.Revoke)
			case made != "":
				return a.revokeMade(c.Context(), s, made)
			}
			return a.revokeMatching(c.Context(), s, filter)
		},
	}
	f.add(c)
	c.Flags().BoolVar(&allMatching, "all-matching", false, "all keys that the other flags select")
	c.Flags().StringVar(&made, "made", "", "the key with this `ID`, and all that it made")
	c.RegisterFlagCompletionFunc("made", cobra.NoFileCompletions)
	a.addYes(c)
	return c
}

// onlyOwner reports whether no other flag than --owner selects.
func (f *filter) onlyOwner(c *cobra.Command) bool {
	other := false
	for _, name := range filterFlags {
		other = other || name != "owner" && c.Flags().Changed(name)
	}
	return !other && c.Flags().Changed("owner")
}

// revokeMade revokes a key and what it made.
func (a *app) revokeMade(ctx context.Context, s *session, id string) error {
	found, err := s.keys.Made(ctx, id)
	if err != nil {
		return err
	}
	if err := a.confirm("Revoke the key %s and the %s that it made?", id, keysText(len(found))); err != nil {
		return err
	}
	revoked, err := s.keys.RevokeMade(ctx, id)
	if revoked == nil {
		revoked = []string{}
	}
	result := map[string]any{"revokedKeys": revoked, "failures": []failureJSON{}}
	if err != nil {
		f := *asFailure(ctx, err)
		if len(revoked) > 0 {
			f.exit = exitFailed
			f.message = fmt.Sprintf("%s are revoked; repeat the command, for others failed: %s", keysText(len(revoked)), f.message)
		}
		f.more = result
		return &f
	}
	if a.json {
		return a.writeJSON(result)
	}
	for i, id := range revoked {
		if i < maxTold {
			a.say("Revoked the key %s.", id)
		}
	}
	a.say("Revoked %s.", keysText(len(revoked)))
	return nil
}

// revokeMatching revokes the keys that a filter selects.
func (a *app) revokeMatching(ctx context.Context, s *session, f keyring.Filter) error {
	open := func(r *auth.Record) bool { return r.RevokedAt.IsZero() }
	total, err := a.count(s.keys.List(ctx, f), open)
	if err != nil {
		return err
	}
	if total > 0 {
		if err := a.confirm("Revoke %s?", keysText(total)); err != nil {
			return err
		}
	}
	b := a.newBulk("Revoked", "revokedKeys", total)
	bad := 0
	for pass := 1; ; pass++ {
		before := len(b.done)
		list := s.keys.List(ctx, f)
		n, err := a.each(list, func(r *auth.Record) error {
			if !open(r) || b.failed[r.ID] {
				return nil
			}
			return b.try(ctx, r.ID, title(r), s.keys.Revoke)
		})
		if pass == 1 {
			bad = n
		}
		// Again, for keys that were made in the meantime.
		if err != nil || len(b.done) == before {
			return b.end(ctx, err, bad)
		}
	}
}
