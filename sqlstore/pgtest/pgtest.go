//go:build unix

// Package pgtest starts PostgreSQL servers for tests, from the binaries on the machine. They listen on the loopback
// interface, keep nothing, and end with the test.
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
//	func TestStore(t *testing.T) {
//		db, err := sql.Open("pgx", pgtest.DSN(t))
//		...
//	}
//
// A test that needs a server is skipped if there are no binaries in the PATH or in /usr/lib/postgresql.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Env names the variable with the URL of a server that DSN uses instead of starting one. Its user must be allowed to
// create databases.
const Env = "AUTH_TEST_POSTGRES_DSN"

var errMissing = errors.New("no PostgreSQL found: install it (apt-get install postgresql) or set " + Env)

var shared struct {
	mu     sync.Mutex
	main   bool // Main runs and will stop the server
	server *Server
}

// Main runs the tests of a package that share one server, started by the first call of DSN. It returns their exit
// code, after it has stopped the server.
func Main(m *testing.M) int {
	shared.mu.Lock()
	shared.main = true
	shared.mu.Unlock()
	code := m.Run()
	if shared.server != nil {
		shared.server.remove()
	}
	return code
}

var databases atomic.Int64

// DSN returns the URL of a new, empty database: on the server that [Env] names, or on one that the tests of the
// package share if they run under Main, or on one for this test. It is dropped when the test ends.
func DSN(t testing.TB) string {
	t.Helper()
	base := os.Getenv(Env)
	if base == "" {
		base = sharedServer(t).URL("postgres")
	}
	name := fmt.Sprintf("auth_test_%d_%d", os.Getpid(), databases.Add(1))
	admin(t, base, "CREATE DATABASE "+name)
	t.Cleanup(func() { admin(t, base, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	u, err := url.Parse(base)
	if err != nil {
		t.Fatalf("pgtest: %s is not a URL", Env)
	}
	u.Path = "/" + name
	return u.String()
}

func admin(t testing.TB, dsn, query string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err == nil {
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, query)
	}
	if err != nil {
		t.Fatalf("pgtest: %s: %v", query, err)
	}
}

func sharedServer(t testing.TB) *Server {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if !shared.main {
		return Start(t)
	}
	if shared.server == nil {
		s, err := newServer()
		if errors.Is(err, errMissing) {
			t.Skip(err)
		} else if err != nil {
			t.Fatal("pgtest: ", err)
		}
		shared.server = s
	}
	return shared.server
}

// A Server is a PostgreSQL server that a test may stop and start. Its methods are for one goroutine at a time, but
// for URL and Addr.
type Server struct {
	bin, dir string
	port     int
	account  *syscall.SysProcAttr
	cmd      *exec.Cmd
	exited   chan struct{}
}

// Start starts a server for the test, which ends with it. Faults in it disturb no other test.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := newServer()
	if errors.Is(err, errMissing) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal("pgtest: ", err)
	}
	t.Cleanup(s.remove)
	return s
}

// URL returns how to connect to a database; "postgres" exists.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable", s.Addr(), database)
}

// Addr returns the host and port on which the server listens, also while it is stopped.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Stop cuts the connections and shuts the server down.
func (s *Server) Stop() { s.signal(syscall.SIGINT) }

// Crash ends the server without a shutdown: what was not committed is lost when it is started again.
func (s *Server) Crash() { s.signal(syscall.SIGQUIT) }

func (s *Server) signal(signal syscall.Signal) {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(signal)
	<-s.exited
	s.cmd = nil
}

// Start starts the server again after Stop or Crash and waits until it answers.
func (s *Server) Start() error {
	if s.cmd != nil {
		return errors.New("pgtest: the server runs")
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.command("postgres", "-D", filepath.Join(s.dir, "data"), "-p", strconv.Itoa(s.port), "-h", "127.0.0.1",
		"-k", s.dir, "-c", "fsync=off", "-c", "max_connections=200")
	cmd.Stdout, cmd.Stderr = log, log
	if err := startWithParent(cmd); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	s.cmd, s.exited = cmd, exited
	for deadline := time.Now().Add(30 * time.Second); ; {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			conn.Close(ctx)
			cancel()
			return nil
		}
		cancel()
		select {
		case <-exited:
			s.cmd = nil
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("pgtest: the server ended: %s", text)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.Crash()
			return err
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
	attr := *s.account
	cmd.SysProcAttr = &attr
	return cmd
}

// newServer makes a cluster in a temporary directory and starts it.
func newServer() (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	account, uid, gid, err := unprivileged()
	if err != nil {
		return nil, err
	}
	// Short, since the path of a socket must be.
	dir, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, dir: dir, account: account}
	if err := s.init(uid, gid); err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

func (s *Server) init(uid, gid int) error {
	if uid >= 0 {
		if err := os.Chown(s.dir, uid, gid); err != nil {
			return err
		}
	}
	out, err := s.command("initdb", "-D", filepath.Join(s.dir, "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8",
		"--no-sync", "--no-instructions").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	// A port that is free now may be taken in a moment; then try another.
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

// binaries returns the directory with initdb and postgres: the newest under /usr/lib/postgresql, or that in the PATH.
func binaries() (string, error) {
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
		if executable(dir, "postgres") && executable(dir, "initdb") {
			return dir, nil
		}
	}
	return "", errMissing
}

func executable(dir, name string) bool {
	info, err := os.Stat(filepath.Join(dir, name))
	return err == nil && info.Mode()&0o111 != 0
}

// unprivileged returns how to run the server, which refuses to be root: then it is postgres, or else nobody.
func unprivileged() (attr *syscall.SysProcAttr, uid, gid int, err error) {
	if os.Geteuid() != 0 {
		return new(syscall.SysProcAttr), -1, -1, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		if account, err = user.Lookup("nobody"); err != nil {
			return nil, 0, 0, err
		}
	}
	uid, err1 := strconv.Atoi(account.Uid)
	gid, err2 := strconv.Atoi(account.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return nil, 0, 0, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, uid, gid, nil
}
