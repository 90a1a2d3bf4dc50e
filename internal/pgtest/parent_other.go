//go:build !linux

package pgtest

import "os/exec"

func startWithParent(cmd *exec.Cmd) error { return cmd.Start() }
