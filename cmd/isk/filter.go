package main

import (
	"strings"
	"time"

	"github.com/insigner/auth/keyring"
	"github.com/spf13/cobra"
)

// A filter is the flags that select keys.
type filter struct {
	owner, text, createdBy, chain string
	states                        []string
	expiresFrom, expiresBefore    string
}

var filterFlags = []string{"owner", "state", "text", "created-by", "chain", "expires-from", "expires-before"}

func (f *filter) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.owner, "owner", "", "only keys of that owner")
	flags.StringSliceVar(&f.states, "state", nil, "only keys in that `state`: active, disabled, revoked, expired; can be repeated")
	flags.StringVar(&f.text, "text", "", "only keys whose name, owner, ID or hint contains it")
	flags.StringVar(&f.createdBy, "created-by", "", "only keys that `who` created: the ID of a key, or staff:NAME")
	flags.StringVar(&f.chain, "chain", "", "only keys of that chain of rotations: the `ID` of the first")
	flags.StringVar(&f.expiresFrom, "expires-from", "", "only keys that expire then or later: 7d, a date, a `time`")
	flags.StringVar(&f.expiresBefore, "expires-before", "", "only keys that expire earlier: 7d, a date, a `time`")
	c.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(stateNames(), cobra.ShellCompDirectiveNoFileComp))
	for _, name := range filterFlags {
		if name == "state" {
			continue
		}
		c.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
}

// isSet reports whether one of the flags is set. An empty owner would select the
// keys of everybody, so a flag counts that is set to nothing, too.
func (f *filter) isSet(c *cobra.Command) bool {
	for _, name := range filterFlags {
		if c.Flags().Changed(name) {
			return true
		}
	}
	return false
}

// filter returns the keyring.Filter. A flag that is set to nothing is wrong
// usage: the variable of a script is empty.
func (f *filter) filter(c *cobra.Command, now time.Time) (k keyring.Filter, err error) {
	for _, name := range filterFlags {
		if flag := c.Flags().Lookup(name); flag.Changed && (flag.Value.String() == "" || flag.Value.String() == "[]") {
			return k, wrongUsage("--%s is empty", name)
		}
	}
	k = keyring.Filter{Owner: f.owner, Text: f.text, CreatedBy: f.createdBy, Chain: f.chain}
	for _, name := range f.states {
		state, ok := stateOf[strings.TrimSpace(name)]
		if !ok {
			return k, wrongUsage("--state is one of %s", strings.Join(stateNames(), ", "))
		}
		k.States |= state
	}
	if k.ExpiresFrom, err = parseTime("--expires-from", f.expiresFrom, now, 1); err != nil {
		return k, err
	}
	k.ExpiresBefore, err = parseTime("--expires-before", f.expiresBefore, now, 1)
	return k, err
}

var stateOf = map[string]keyring.States{
	"active":   keyring.Active,
	"disabled": keyring.Disabled,
	"revoked":  keyring.Revoked,
	"expired":  keyring.Expired,
}

func stateNames() []string { return []string{"active", "disabled", "revoked", "expired"} }
