package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
	"github.com/spf13/cobra"
)

func init() { register(recordCommands, newEvents) }

// defaultLimit is how many events and log entries are listed without --limit.
const defaultLimit = 100

func newEvents(a *app) *cobra.Command {
	var f keyring.EventFilter
	var kind, from, to string
	var limit int
	c := &cobra.Command{
		Use:   "events [ID]",
		Short: "List the changes of keys, newest first",
		Long: `Events prints who changed which key and when, newest first: of one key, also of
a deleted one, or of all. On a terminal it is a table. Otherwise each event is a
line with the time, kind, ID of the key, owner, actor and changes, separated by
tabs. With --json it is an array, which is [] if there is no event.`,
		Example: `  isk events 0198c2f4-7a3e-7b1c-9d5e-2f8a6b4c1d0e
  isk events --owner acme --kind revoked --from 7d --json`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exactly("ID")(c, args)
			}
			return notEmpty(args)
		},
		RunE: func(c *cobra.Command, args []string) (err error) {
			if f.From, err = parseTime("--from", from, a.now(), -1); err != nil {
				return err
			}
			if f.To, err = parseTime("--to", to, a.now(), -1); err != nil {
				return err
			}
			f.Kind = keyring.EventKind(kind)
			if kind != "" && !slices.Contains(kindNames(), kind) {
				return wrongUsage("--kind is one of %s", strings.Join(kindNames(), ", "))
			}
			if err := notSetToNothing(c, "owner", "by", "kind", "from", "to"); err != nil {
				return err
			}
			if limit < 0 {
				return wrongUsage("--limit is negative")
			}
			if len(args) > 0 {
				f.KeyID = args[0]
			}
			s, err := a.open(c.Context())
			if err != nil {
				return err
			}
			rows := a.newRows("TIME", "KIND", "KEY", "OWNER", "BY", "CHANGES")
			n := 0
			for e, err := range s.keys.Events(c.Context(), f) {
				if err != nil {
					return err
				}
				if n++; limit > 0 && n > limit {
					a.sayLimit(c, limit)
					break
				}
				if a.json {
					err = rows.addJSON(eventOf(&e))
				} else {
					err = rows.add(timeText(e.Time), string(e.Kind), e.KeyID, e.Owner, e.By, changesText(&e))
				}
				if err != nil {
					return err
				}
			}
			return rows.end()
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.Owner, "owner", "", "only changes of keys of that owner")
	flags.StringVar(&f.By, "by", "", "only changes by that `actor`, as the list shows it")
	flags.StringVar(&kind, "kind", "", "only changes of that kind: "+strings.Join(kindNames(), ", "))
	flags.StringVar(&from, "from", "", "only changes then or later: 7d (ago), a date, a `time`")
	flags.StringVar(&to, "to", "", "only changes earlier than that `time`")
	flags.IntVar(&limit, "limit", defaultLimit, "at most that many (0: all)")
	c.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(kindNames(), cobra.ShellCompDirectiveNoFileComp))
	for _, name := range []string{"owner", "by", "from", "to"} {
		c.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	return c
}

// sayLimit tells that a list was cut off, unless the limit was asked for.
func (a *app) sayLimit(c *cobra.Command, limit int) {
	if !c.Flags().Changed("limit") {
		a.say("These are the newest %d; --limit 0 lists all.", limit)
	}
}

// notSetToNothing refuses flags that are set to an empty text: the variable of a
// script is empty.
func notSetToNothing(c *cobra.Command, names ...string) error {
	for _, name := range names {
		if flag := c.Flags().Lookup(name); flag.Changed && flag.Value.String() == "" {
			return wrongUsage("--%s is empty", name)
		}
	}
	return nil
}

func kindNames() []string {
	return []string{
		string(keyring.EventCreated), string(keyring.EventUpdated), string(keyring.EventRotated), string(keyring.EventDisabled),
		string(keyring.EventEnabled), string(keyring.EventRevoked), string(keyring.EventDeleted),
	}
}

// An eventJSON is an event as --json has it: the members of the key API, and
// what staff may see.
type eventJSON struct {
	ID       string                `json:"id"`
	Time     string                `json:"time"`
	Kind     keyring.EventKind     `json:"kind"`
	KeyID    string                `json:"keyId"`
	Owner    string                `json:"owner"`
	By       string                `json:"by"`
	Revision int64                 `json:"revision"`
	Changes  map[string]changeJSON `json:"changes"`
}

// A changeJSON is what a member of a key was and became.
type changeJSON struct {
	From any `json:"from"`
	To   any `json:"to"`
}

func eventOf(e *keyring.Event) eventJSON {
	return eventJSON{e.ID, jsonTime(e.Time), e.Kind, e.KeyID, e.Owner, e.By, e.Revision, changesOf(e)}
}

// changesOf returns the members that an event changed. Null stands for a key
// that was not there.
func changesOf(e *keyring.Event) map[string]changeJSON {
	changes := make(map[string]changeJSON)
	if e.Before == nil && e.Kind != keyring.EventCreated || e.After == nil && e.Kind != keyring.EventDeleted {
		return changes // one of the records could not be read
	}
	before, after := membersOf(e.Before), membersOf(e.After)
	for _, name := range memberNames {
		if from, to := before[name], after[name]; !reflect.DeepEqual(from, to) {
			changes[name] = changeJSON{from, to}
		}
	}
	return changes
}

// memberNames are the members that can change, in the order in which people see
// them.
var memberNames = []string{"name", "scopes", "expiresAt", "disabledAt", "revokedAt", "rotatedFrom", "rotatedTo", "metadata"}

func membersOf(r *auth.Record) map[string]any {
	if r == nil {
		return nil
	}
	metadata := map[string]string{}
	for name, value := range r.Metadata {
		metadata[name] = value
	}
	return map[string]any{
		"name":        r.Name,
		"scopes":      append(auth.Scopes{}, r.Scopes...),
		"expiresAt":   orNull(optionalTime(r.ExpiresAt)),
		"disabledAt":  orNull(optionalTime(r.DisabledAt)),
		"revokedAt":   orNull(optionalTime(r.RevokedAt)),
		"rotatedFrom": orNull(optional(r.RotatedFrom)),
		"rotatedTo":   orNull(optional(r.RotatedTo)),
		"metadata":    metadata,
	}
}

// orNull returns what p points to, or a nil interface.
func orNull(p *string) any {
	if p == nil {
		return nil
	}
	return *p
}

// changesText returns the changes for people. Of a key that was created or
// deleted it has the name.
func changesText(e *keyring.Event) string {
	switch {
	case e.Kind == keyring.EventCreated && e.After != nil:
		return fmt.Sprintf("%q %s", e.After.Name, scopesText(e.After.Scopes))
	case e.Kind == keyring.EventDeleted && e.Before != nil:
		return fmt.Sprintf("%q", e.Before.Name)
	}
	changes := changesOf(e)
	var texts []string
	for _, name := range memberNames {
		if change, ok := changes[name]; ok {
			texts = append(texts, fmt.Sprintf("%s: %s → %s", name, valueText(change.From), valueText(change.To)))
		}
	}
	return strings.Join(texts, "; ")
}

// valueText returns a member for people.
func valueText(value any) string {
	switch v := value.(type) {
	case nil:
		return "none"
	case auth.Scopes:
		return scopesText(v)
	}
	text, err := encodeJSON(value)
	if err != nil {
		return "?"
	}
	return string(text)
}
