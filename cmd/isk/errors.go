package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitUnavailable = 4
)

// A failure is an error with what scripts are told about it.
type failure struct {
	code    string // in upper case, as in the key API
	exit    int
	message string
	err     error // what it wraps, or nil

	// more are further members of the object that --json prints.
	more map[string]any
}

func (f *failure) Error() string { return f.message }
func (f *failure) Unwrap() error { return f.err }

// wrongUsage returns a failure with exit code 2. The text must not quote what
// could be a secret.
func wrongUsage(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &failure{code: "WRONG_USAGE", exit: exitUsage, message: err.Error(), err: errors.Unwrap(err)}
}

// failf returns a failure with exit code 1.
func failf(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &failure{code: "FAILED", exit: exitFailed, message: err.Error(), err: errors.Unwrap(err)}
}

// notFound returns a failure with exit code 3.
func notFound(format string, args ...any) error {
	return &failure{code: "NOT_FOUND", exit: exitNotFound, message: fmt.Sprintf(format, args...)}
}

// unavailable returns a failure with exit code 4, for an error of the store that
// a session does not mark itself.
func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return &storeError{err}
}

// A storeError is an error of the store that says nothing about a key.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

// asFailure returns what is told about an error.
func asFailure(ctx context.Context, err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		if f.message != err.Error() { // it was wrapped
			wrapped := *f
			wrapped.message = err.Error()
			return &wrapped
		}
		return f
	}
	if ctx.Err() != nil {
		return &failure{code: "INTERRUPTED", exit: exitFailed, message: "interrupted", err: err}
	}
	f := &failure{code: "FAILED", exit: exitFailed, message: err.Error(), err: err}
	for _, known := range []struct {
		err     error
		code    string
		exit    int
		message string
	}{
		{auth.ErrNotFound, "NOT_FOUND", exitNotFound, "there is no such key"},
		{keyring.ErrRotated, "KEY_ROTATED", exitFailed,
			"the key has been rotated already, so it can neither be rotated nor live longer; use its successor"},
		{auth.ErrKeyRevoked, "KEY_REVOKED", exitFailed, "the key has been revoked"},
		{auth.ErrKeyDisabled, "KEY_DISABLED", exitFailed, "the key has been disabled"},
		{auth.ErrKeyExpired, "KEY_EXPIRED", exitFailed, "the key has expired"},
		{keyring.ErrExists, "KEY_EXISTS", exitFailed, "the key exists already"},
		{keyring.ErrConflict, "CONFLICT", exitFailed, "the key was changed at the same time; try again"},
		{errors.ErrUnsupported, "NOT_IMPLEMENTED", exitFailed, ""},
	} {
		if errors.Is(err, known.err) {
			f.code, f.exit = known.code, known.exit
			if known.message != "" {
				f.message = known.message
			}
			return f
		}
	}
	if argument, ok := errors.AsType[*keyring.ArgumentError](err); ok {
		f.code, f.exit, f.message = "INVALID_ARGUMENT", exitUsage, argument.Reason
		return f
	}
	if errors.Is(err, keyring.ErrInvalidArgument) {
		f.code, f.exit = "INVALID_ARGUMENT", exitUsage
		return f
	}
	if row, ok := errors.AsType[*keyring.RecordError](err); ok {
		f.code, f.message = "UNREADABLE", "the record "+row.ID+" cannot be read: "+row.Err.Error()
		return f
	}
	if _, ok := errors.AsType[*storeError](err); ok {
		f.code, f.exit = "STORE_UNAVAILABLE", exitUnavailable
	}
	return f
}

// unknownCommand refuses a command that does not exist. It quotes it only if it
// is a word that a person would type.
func unknownCommand(root *cobra.Command, name string) error {
	if !plainWord.MatchString(name) {
		return wrongUsage("there is no such command; isk help lists them")
	}
	if similar := root.SuggestionsFor(name); len(similar) > 0 {
		return wrongUsage("there is no command %s; is it %s?", name, strings.Join(similar, " or "))
	}
	return wrongUsage("there is no command %s; isk help lists them", name)
}

var plainWord = regexp.MustCompile(`^[a-z][a-z-]{0,19}$`)

// flagError returns what is wrong with a flag, without its value: that could be
// a secret.
func flagError(c *cobra.Command, err error) error {
	see := "; see " + c.CommandPath() + " --help"
	var (
		unknown *pflag.NotExistError
		empty   *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
	)
	switch {
	case errors.As(err, &unknown):
		if name := unknown.GetSpecifiedName(); plainWord.MatchString(name) {
			return wrongUsage("there is no flag %s%s%s", dashes(name), name, see)
		}
		return wrongUsage("there is no such flag%s", see)
	case errors.As(err, &empty):
		return wrongUsage("the flag --%s needs a value%s", empty.GetFlag().Name, see)
	case errors.As(err, &invalid):
		return wrongUsage("the value of --%s is not valid%s", invalid.GetFlag().Name, see)
	case errors.Is(err, pflag.ErrHelp):
		return err
	}
	return wrongUsage("the flags cannot be understood%s", see)
}

func dashes(name string) string {
	if len(name) == 1 {
		return "-"
	}
	return "--"
}

// noArguments is for commands without arguments.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return wrongUsage("%s takes no argument, but there are %d; see %s --help", c.CommandPath(), len(args), c.CommandPath())
	}
	return nil
}

// exactly is for commands with one argument of each name.
func exactly(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return wrongUsage("%s takes %s, but there are %d arguments; see %s --help",
				c.CommandPath(), strings.Join(names, " and "), len(args), c.CommandPath())
		}
		return notEmpty(args)
	}
}

// atLeastOne is for commands with several arguments of the same kind.
func atLeastOne(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return wrongUsage("%s takes at least one %s; see %s --help", c.CommandPath(), name, c.CommandPath())
		}
		return notEmpty(args)
	}
}

// notEmpty refuses empty arguments: variables of a script that are not set.
func notEmpty(args []string) error {
	for _, arg := range args {
		if arg == "" {
			return wrongUsage("an argument is empty")
		}
	}
	return nil
}

// fileError returns the error of a file without the operation, which people do
// not need.
func fileError(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}
