package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func init() { register(otherCommands, newHelp) }

func newHelp(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Explain a command",
		Long: `Help explains a command, or lists all of them. With --json it describes the
command with its flags, for programs.`,
		Example: `  isk help revoke
  isk help --json`,
		RunE: func(c *cobra.Command, args []string) error {
			about := c.Root()
			for _, name := range args {
				sub := find(about, name)
				if sub == nil {
					return unknownCommand(c.Root(), name)
				}
				about = sub
			}
			if a.json {
				return a.writeJSON(describe(about))
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
		ValidArgsFunction: func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if len(args) == 0 {
				for _, sub := range c.Root().Commands() {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func find(c *cobra.Command, name string) *cobra.Command {
	for _, sub := range c.Commands() {
		if sub.Name() == name {
			return sub
		}
	}
	return nil
}

// A commandJSON describes a command. Program internal/man makes the manual page
// of it.
type commandJSON struct {
	Name     string        `json:"name"`
	Use      string        `json:"use"`
	Short    string        `json:"short"`
	Long     string        `json:"long"`
	Example  string        `json:"example"`
	Flags    []flagJSON    `json:"flags"`
	Commands []commandJSON `json:"commands"`
}

type flagJSON struct {
	Name      string `json:"name"`
	Shorthand string `json:"shorthand,omitempty"`
	Value     string `json:"value,omitempty"` // what the value is; empty if it has no value
	Usage     string `json:"usage"`
	Default   string `json:"default,omitempty"`
}

func describe(c *cobra.Command) commandJSON {
	d := commandJSON{Name: c.Name(), Use: c.Use, Short: c.Short, Long: c.Long, Example: c.Example,
		Flags: []flagJSON{}, Commands: []commandJSON{}}
	flags := c.LocalFlags()
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		j := flagJSON{Name: f.Name, Shorthand: f.Shorthand, Value: value, Usage: usage}
		if f.DefValue != "false" && f.DefValue != "[]" {
			j.Default = f.DefValue
		}
		d.Flags = append(d.Flags, j)
	})
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			d.Commands = append(d.Commands, describe(sub))
		}
	}
	return d
}
