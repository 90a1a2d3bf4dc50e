package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func init() { register(keyCommands, newFind) }

func newFind(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "find",
		Short: "Find the record of a key that somebody found",
		Long: `Find reads a key from the standard input, and prints its record: whose it is,
and the ID for isk revoke. On a terminal it asks for the key and does not show
it. Blanks and a line break around the key are dropped. The exit code is 3 if
there is no such key.

A key is never an argument, since that would stand in the history of the shell
and in the list of processes.`,
		Example: `  isk find < leaked-key.txt
  pbpaste | isk find --json`,
		Args: noArguments,
		RunE: func(c *cobra.Command, args []string) error {
			scheme, err := a.scheme()
			if err != nil {
				return err
			}
			text, err := a.readKey()
			if err != nil {
				return err
			}
			s, err := a.open(c.Context())
			if err != nil {
				return err
			}
			// A key may have been issued before this library came.
			formed := scheme.Valid(text)
			scheme.AlsoAccept = func(key string) bool { return key == text }
			key, err := scheme.ParseKey(text)
			if err != nil {
				return wrongUsage("what stands on the standard input is too long for a key")
			}
			manager := keyring.NewManager(s.store, &keyring.Options{Scheme: scheme})
			r, err := manager.Unconfined(s.by).Find(c.Context(), key)
			if errors.Is(err, auth.ErrNotFound) {
				if !formed {
					return notFound("there is no such key, and it does not have the form of those that this API issues")
				}
				return notFound("there is no such key; if the API has a pepper, check " + envPepper)
			}
			if err != nil {
				return err
			}
			return a.showKey(&r)
		},
	}
}

// maxKeyInput is the most that find reads.
const maxKeyInput = 4096

// readKey reads a key from the standard input. No error quotes what was read.
func (a *app) readKey() (string, error) {
	var input []byte
	var err error
	if f, ok := a.stdin.(*os.File); ok && isTerminal(f) {
		fd := int(f.Fd())
		if state, err := term.GetState(fd); err == nil {
			defer term.Restore(fd, state) // if it is interrupted
		}
		a.ask("Key (it is not shown): ")
		input, err = a.wait(func() ([]byte, error) { return term.ReadPassword(fd) })
		a.ask("\n")
	} else {
		input, err = a.wait(func() ([]byte, error) { return io.ReadAll(io.LimitReader(a.stdin, maxKeyInput)) })
	}
	if a.ctx.Err() != nil {
		return "", a.ctx.Err()
	}
	if err != nil {
		return "", wrongUsage("the standard input cannot be read: %v", fileError(err))
	}
	if len(input) == maxKeyInput {
		return "", wrongUsage("what stands on the standard input is too long for a key")
	}
	text := strings.TrimSpace(string(bytes.TrimPrefix(bytes.TrimSpace(input), []byte("\ufeff"))))
	a.secrets.add(text)
	switch {
	case text == "":
		return "", wrongUsage("the standard input is empty: find reads a key from it")
	case len(strings.Fields(text)) > 1 || len(a.keys.pattern.FindAllString(text, 2)) > 1:
		return "", wrongUsage("there is more than one key, or more than a key, on the standard input: give one at a time")
	}
	return text, nil
}
