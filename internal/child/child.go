// Package child starts servers for tests that end with the test.
package child

import (
	"os"
	"os/exec"
	"path/filepath"
)

// Executable reports whether there is a program of that name in dir.
func Executable(dir, name string) bool {
	info, err := os.Stat(filepath.Join(dir, name))
	return err == nil && info.Mode()&0o111 != 0
}

// Start starts a server that ends when this process does, even if it is killed.
// Only Linux can do that. Elsewhere the server is started, no more.
func Start(cmd *exec.Cmd) error { return start(cmd) }
