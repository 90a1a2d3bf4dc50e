// Package example runs the program examples/dashboard, for tests and screenshots.
package example

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// A Program is one that runs, on an SQLite file of its own.
type Program struct {
	URL string // without a slash at the end
	cmd *exec.Cmd
}

var listening = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

// Build builds the program into a directory.
func Build(dir string) (path string, err error) {
	path = filepath.Join(dir, "dashboard")
	cmd := exec.Command("go", "build", "-o", path, "github.com/insigner/auth/examples/dashboard")
	cmd.Stderr = os.Stderr
	return path, cmd.Run()
}

// Start starts the program that Build has made. Its files are in dir.
func Start(path, dir string) (*Program, error) {
	cmd := exec.Command(path, "-addr", "127.0.0.1:0", "-db", filepath.Join(dir, "dashboard.db"))
	stderr := new(strings.Builder)
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Program{cmd: cmd}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if p.URL = listening.FindString(line); p.URL == "" {
		p.Stop()
		return nil, fmt.Errorf("the program printed %q, %v, %s", line, err, stderr)
	}
	return p, nil
}

// Stop ends the program, and waits until it has ended.
func (p *Program) Stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	return p.cmd.Wait()
}
