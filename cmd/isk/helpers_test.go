package main

import (
	"errors"
	"os/exec"
)

// exitCode returns the exit code that an error of package exec says, or -1.
func exitCode(err error) int {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	return -1
}
