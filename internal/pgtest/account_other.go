//go:build !unix

package pgtest

import "syscall"

// An account is who runs the server.
type account struct{}

func unprivileged() (account, error) { return account{}, errMissing }

func (account) attributes() *syscall.SysProcAttr { return nil }

func (account) own(string) error { return nil }
