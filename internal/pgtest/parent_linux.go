package pgtest

import (
	"os/exec"
	"runtime"
	"syscall"
)

// startWithParent starts a server that ends when this process does, even if it
// is killed. To the kernel the thread that started it is the parent, so that
// thread must stay.
func startWithParent(cmd *exec.Cmd) error {
	cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			select {}
		}
	}()
	return <-started
}
