package main

import (
	"errors"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
	"github.com/spf13/cobra"
)

func init() { register(keyCommands, newList) }

func newList(a *app) *cobra.Command {
	var f filter
	var limit int
	var newest bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List keys",
		Long: `List prints keys, oldest first. On a terminal it is a table. Otherwise each key
is a line with the ID, state, hint, owner, name, scopes, expiry and last use,
separated by tabs. With --json it is an array, which is [] if there is no key.`,
		Example: `  isk list --owner acme
  isk list --state active --expires-before 14d
  isk list --text prod --json`,
		Args: noArguments,
		RunE: func(c *cobra.Command, args []string) error {
			filter, err := f.filter(c, a.now())
			if err != nil {
				return err
			}
			if limit < 0 {
				return wrongUsage("--limit is negative")
			}
			filter.NewestFirst = newest
			s, err := a.open(c.Context())
			if err != nil {
				return err
			}
			rows := a.newRows("ID", "STATE", "HINT", "OWNER", "NAME", "SCOPES", "EXPIRES", "LAST USED")
			n := 0
			bad, err := a.each(s.keys.List(c.Context(), filter), func(r *auth.Record) error {
				if n++; limit > 0 && n > limit {
					return errEnough
				}
				if a.json {
					return rows.addJSON(a.jsonOf(r))
				}
				return rows.add(r.ID, a.statusOf(r), r.Hint, r.Owner, r.Name, scopesText(r.Scopes),
					timeOr(r.ExpiresAt, "never"), timeOr(r.LastUsedAt, "-"))
			})
			if err != nil {
				return err
			}
			if err := rows.end(); err != nil {
				return err
			}
			return unreadable(bad)
		},
	}
	f.add(c)
	c.Flags().IntVar(&limit, "limit", 0, "at most that many (0: all)")
	c.Flags().BoolVar(&newest, "newest", false, "newest first")
	return c
}

// errEnough ends a loop over a list.
var errEnough = errors.New("enough")

// each calls f for each key of a list. A row that cannot be read is told, and
// counted in bad.
func (a *app) each(list func(func(auth.Record, error) bool), f func(r *auth.Record) error) (bad int, err error) {
	for r, listed := range list {
		if row, ok := asRecordError(listed); ok {
			bad++
			a.warn("the record %s cannot be read: %v", row.ID, row.Err)
			continue
		}
		if err = listed; err == nil {
			err = f(&r)
		}
		if err != nil {
			break
		}
	}
	if err == errEnough {
		err = nil
	}
	return bad, err
}

func asRecordError(err error) (*keyring.RecordError, bool) {
	return errors.AsType[*keyring.RecordError](err)
}

// unreadable returns an error if there are rows that cannot be read.
func unreadable(bad int) error {
	switch bad {
	case 0:
		return nil
	case 1:
		return &failure{code: "UNREADABLE", exit: exitFailed, message: "1 record cannot be read"}
	}
	f := failf("%d records cannot be read", bad).(*failure)
	f.code = "UNREADABLE"
	return f
}
