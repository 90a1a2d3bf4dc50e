package pgtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/insigner/auth/internal/child"
)

// A Server is a PostgreSQL server that a test may stop and start. One goroutine
// at a time may call its methods. URL and Addr may be called at any time.
type Server struct {
	bin, dir string
	port     int
	account  account
	settings []string // such as "-c", "fsync=off"
	cmd      *exec.Cmd
	exited   chan struct{}
}

// Start starts a server for the test, with settings such as
// "max_connections=500". It ends with the test. Faults in it disturb no other
// test.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s, err := newServer(settings, (*Server).init)
	skip(t, err)
	t.Cleanup(s.remove)
	return s
}

// Standby starts a server that replicates s, until it is promoted. It ends with
// the test.
func (s *Server) Standby(t testing.TB) *Server {
	t.Helper()
	standby, err := newServer(nil, func(standby *Server) error { return standby.copy(s) })
	skip(t, err)
	t.Cleanup(standby.remove)
	return standby
}

// PID returns the process ID of the server, or 0 if it does not run.
func (s *Server) PID() int {
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// URL returns how to connect to a database. The database "postgres" exists.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable", s.Addr(), database)
}

// Addr returns the host and port of the server. They stay the same when it is
// stopped and started.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Stop cuts the connections and shuts the server down.
func (s *Server) Stop() { s.signal(syscall.SIGINT) }

// Crash ends the server without a shutdown. What was not committed is lost when
// it is started again.
func (s *Server) Crash() { s.signal(syscall.SIGQUIT) }

func (s *Server) signal(signal syscall.Signal) {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(signal)
	<-s.exited
	s.cmd = nil
}

// Start starts the server again after Stop or Crash, and waits until it
// answers.
func (s *Server) Start() error {
	if s.cmd != nil {
		return errors.New("pgtest: the server runs")
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := append([]string{"-D", filepath.Join(s.dir, "data"), "-p", strconv.Itoa(s.port), "-h", "127.0.0.1",
		"-k", s.dir, "-c", "fsync=off", "-c", "max_connections=200"}, s.settings...)
	cmd := s.command("postgres", args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := child.Start(cmd); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	s.cmd, s.exited = cmd, exited
	return s.wait()
}

// wait returns when the server answers or has ended.
func (s *Server) wait() error {
	db, err := sql.Open("pgx", s.URL("postgres"))
	if err != nil {
		s.Crash()
		return err
	}
	defer db.Close()
	for {
		// If another server has taken the port, it answers instead.
		var data string
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := db.QueryRowContext(ctx, "SHOW data_directory").Scan(&data)
		cancel()
		if err == nil && data == filepath.Join(s.dir, "data") {
			return nil
		}
		select {
		case <-s.exited:
			s.cmd = nil
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("pgtest: the server ended: %s", text)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) remove() {
	s.signal(syscall.SIGQUIT)
	os.RemoveAll(s.dir)
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PGOPTIONS=")
	cmd.SysProcAttr = s.account.attributes()
	return cmd
}

// newServer creates a cluster in a temporary directory by a function, and
// starts it.
func newServer(settings []string, create func(*Server) error) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	a, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pgtest") // short, as the path of a socket must be
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, dir: dir, account: a}
	for _, setting := range settings {
		s.settings = append(s.settings, "-c", setting)
	}
	err = s.account.own(s.dir)
	if err == nil {
		err = create(s)
	}
	if err == nil {
		err = s.startSomewhere()
	}
	if err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

func (s *Server) init() error {
	return s.runs("initdb", "-D", filepath.Join(s.dir, "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync",
		"--no-instructions")
}

// copy makes s a standby of primary.
func (s *Server) copy(primary *Server) error {
	return s.runs("pg_basebackup", "-D", filepath.Join(s.dir, "data"), "-d", primary.URL("postgres"), "-R", "-X", "stream",
		"-c", "fast", "--no-sync")
}

func (s *Server) runs(name string, args ...string) error {
	if out, err := s.command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// startSomewhere starts the server on a free port.
func (s *Server) startSomewhere() (err error) {
	// A port that is free now may be taken a moment later. Then try another.
	for range 5 {
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return err
		}
		s.port = l.Addr().(*net.TCPAddr).Port
		l.Close()
		if err = s.Start(); err == nil {
			return nil
		}
	}
	return err
}

// binaries returns the directory with initdb and postgres: the one that EnvBin
// names, else the newest in /usr/lib/postgresql, else the one in the PATH.
func binaries() (string, error) {
	if dir := os.Getenv(EnvBin); dir != "" {
		if !complete(dir) {
			return "", errMissing
		}
		return dir, nil
	}
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	version := func(dir string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		return n
	}
	slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	for _, dir := range dirs {
		if complete(dir) {
			return dir, nil
		}
	}
	return "", errMissing
}

func complete(dir string) bool {
	return child.Executable(dir, "postgres") && child.Executable(dir, "initdb")
}
