// Package notice tells people that tests were skipped.
package notice

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Print prints one line where people see it. The go command drops the
// output of a package whose tests pass, unless it has -v or names no package.
// So the line goes to the standard error of the go command too, where /proc
// leads there.
func Print(line string) {
	fmt.Fprintln(os.Stderr, line)
	if testing.Verbose() {
		return
	}
	parent := fmt.Sprintf("/proc/%d/", os.Getppid())
	if exe, err := os.Readlink(parent + "exe"); err != nil || filepath.Base(exe) != "go" {
		return
	}
	own, err := os.Stderr.Stat()
	if err != nil {
		return
	}
	for _, fd := range []string{"fd/1", "fd/2"} {
		if info, err := os.Stat(parent + fd); err != nil || os.SameFile(info, own) {
			return // it was not dropped
		}
	}
	if f, err := os.OpenFile(parent+"fd/2", os.O_WRONLY|os.O_APPEND, 0); err == nil {
		fmt.Fprintln(f, line)
		f.Close()
	}
}
