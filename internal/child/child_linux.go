package child

import (
	"os/exec"
	"runtime"
	"syscall"
)

// start has the kernel send a signal to the server when its parent ends. To the
// kernel the thread that started it is the parent, so that thread must stay.
func start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
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
