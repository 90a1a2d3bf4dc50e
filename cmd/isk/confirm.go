package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// addYes adds the flag of commands that ask.
func (a *app) addYes(c *cobra.Command) {
	c.Flags().BoolVarP(&a.yes, "yes", "y", false, "do not ask")
}

// confirm asks a question, which ends in a question mark. It returns nil if the
// answer is yes. Without a terminal nobody answers, so that is wrong usage
// without --yes, and so it is with --json.
func (a *app) confirm(format string, args ...any) error {
	if a.yes {
		return nil
	}
	question := printable(fmt.Sprintf(format, args...))
	if a.json || !isTerminal(a.stdin) || !isTerminal(a.stderr) {
		return wrongUsage("nothing was changed, since nobody can be asked: %s "+
			"To answer yes, repeat the command with --yes", question)
	}
	a.ask(question + " [y/N] ")
	line, err := a.wait(func() ([]byte, error) { return bufio.NewReader(io.LimitReader(a.stdin, 1024)).ReadBytes('\n') })
	if err != nil {
		a.ask("\n")
	}
	if a.ctx.Err() != nil {
		return a.ctx.Err()
	}
	switch strings.ToLower(strings.TrimSpace(string(line))) {
	case "y", "yes":
		return nil
	}
	return failf("nothing was changed")
}

// ask writes to the terminal of a person.
func (a *app) ask(text string) { io.WriteString(a.stderr, text) }

// wait returns what read reads, or an error as soon as the run is interrupted.
func (a *app) wait(read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		input []byte
		err   error
	}
	done := make(chan result, 1)
	go func() {
		input, err := read()
		done <- result{input, err}
	}()
	select {
	case r := <-done:
		return r.input, r.err
	case <-a.ctx.Done():
		return nil, a.ctx.Err()
	}
}

// keysText returns "1 key" or "3 keys".
func keysText(n int) string {
	if n == 1 {
		return "1 key"
	}
	return fmt.Sprintf("%d keys", n)
}
