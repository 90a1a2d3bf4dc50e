package main

import (
	"bytes"
	"io"

	"github.com/spf13/cobra"
)

func init() { register(otherCommands, newCompletion) }

var shells = []string{"bash", "zsh", "fish"}

func newCompletion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print the completion script of a shell",
		Long: `Completion prints a script with which the shell completes commands, flags,
states, and the scopes of the catalog. It never connects to the database. To
load it in each new shell:

  bash  isk completion bash > ~/.local/share/bash-completion/completions/isk
  zsh   isk completion zsh > "${fpath[1]}/_isk"
  fish  isk completion fish > ~/.config/fish/completions/isk.fish

The script for bash needs the package bash-completion.`,
		Example:   `  source <(isk completion bash)`,
		ValidArgs: shells,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] != "bash" && args[0] != "zsh" && args[0] != "fish" {
				return wrongUsage("isk completion takes the name of a shell: bash, zsh or fish")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) (err error) {
			var b bytes.Buffer
			switch root := c.Root(); args[0] {
			case "bash":
				err = root.GenBashCompletionV2(&b, true)
			case "zsh":
				err = root.GenZshCompletion(&b)
			case "fish":
				err = root.GenFishCompletion(&b, true)
			}
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(map[string]string{"shell": args[0], "script": b.String()})
			}
			_, err = io.Copy(a.stdout, &b)
			return err
		},
	}
}
