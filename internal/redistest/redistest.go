// Package redistest starts Redis servers for tests, from the redis-server on
// the machine. They listen on the loopback interface, keep nothing, and end
// with the test.
//
//	func TestMain(m *testing.M) { os.Exit(redistest.Main(m)) }
//
//	func TestCounter(t *testing.T) {
//		client := redis.NewClient(&redis.Options{Addr: redistest.Start(t).Addr()})
//		...
//	}
//
// A test that needs a server is skipped if Redis is not installed: if there is
// no redis-server in the PATH. Main then prints one line that says so.
package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/insigner/auth/internal/child"
	"github.com/insigner/auth/internal/notice"
)

var skipped atomic.Int64 // tests

// Main runs the tests of a package and returns their exit code. If tests were
// skipped since Redis is not installed, it prints a line about it.
func Main(m *testing.M) int {
	code := m.Run()
	Report()
	return code
}

// Report prints that line, for packages with another Main.
func Report() {
	if n := skipped.Load(); n > 0 {
		name := strings.TrimSuffix(filepath.Base(os.Args[0]), ".test")
		notice.Print(fmt.Sprintf("%s: Redis is not installed: the tests against it were skipped (%d); install it with: "+
			"apt-get install redis-server; then run: go test -count=1", name, n))
	}
}

// A Server is a Redis server that a test may freeze, stop and start. One
// goroutine at a time may call its methods. Addr may be called at any time.
type Server struct {
	bin, dir string
	port     int
	args     []string
	config   string // if not empty, the file of a sentinel
	cmd      *exec.Cmd
	exited   chan struct{}
}

// Start starts a server for the test, with arguments such as "--maxmemory",
// "2mb".
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		skipped.Add(1)
		t.Skip("Redis is not installed")
	}
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		t.Fatal("redistest: ", err)
	}
	s := &Server{bin: bin, dir: dir, args: args}
	t.Cleanup(func() {
		s.Kill()
		os.RemoveAll(dir)
	})
	if err := s.startSomewhere(); err != nil {
		t.Fatal("redistest: ", err)
	}
	return s
}

// startSomewhere starts the server on a free port. In a cluster it takes the
// port 10,000 above too, so the port must be below that.
func (s *Server) startSomewhere() (err error) {
	for range 10 {
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return err
		}
		s.port = l.Addr().(*net.TCPAddr).Port
		l.Close()
		if s.port >= 1<<16-10_000 {
			s.port -= 20_000
		}
		if err = s.Restart(); err == nil {
			return nil
		}
	}
	return err
}

// Addr returns the host and port of the server. They stay the same when it is
// killed and started again.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// PID returns the process ID of the server, or 0 if it does not run.
func (s *Server) PID() int {
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// Kill ends the server at once. Its data is lost.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	<-s.exited
	s.cmd = nil
}

// Freeze stops the process of the server, which keeps its connections open and
// answers nothing, until Thaw.
func (s *Server) Freeze() { s.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (s *Server) Thaw() { s.cmd.Process.Signal(syscall.SIGCONT) }

// Restart starts the server again after Kill, and waits until it answers. It is
// empty then.
func (s *Server) Restart() error {
	if s.cmd != nil {
		return errors.New("the server runs")
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := append([]string{"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--save", "",
		"--appendonly", "no", "--maxclients", "20000"}, s.args...)
	if s.config != "" {
		args = []string{s.config, "--sentinel"}
	}
	cmd := exec.Command(s.bin, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, log, log
	if err := child.Start(cmd); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	s.cmd, s.exited = cmd, exited
	for {
		// If another server has taken the port, it answers instead.
		if info, err := s.Do("INFO", "server"); strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", cmd.Process.Pid)) {
			return nil
		} else if err != nil && strings.Contains(err.Error(), "NOAUTH") {
			return nil // the default user may do nothing, as the arguments want it
		}
		select {
		case <-exited:
			s.cmd = nil
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("the server ended: %s", text)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Do sends one command on a connection of its own and returns the answer: a
// string or a number, or the strings of a list, one a line.
func (s *Server) Do(args ...string) (string, error) {
	conn, err := net.DialTimeout("tcp", s.Addr(), 5*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	request := fmt.Sprintf("*%d\r\n", len(args))
	for _, arg := range args {
		request += fmt.Sprintf("$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return "", err
	}
	return answer(bufio.NewReader(conn))
}

// answer reads one answer in the form of RESP2.
func answer(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	kind, text := line[0], strings.TrimSuffix(line[1:], "\r\n")
	switch kind {
	case '-':
		return "", errors.New(text)
	case '+', ':':
		return text, nil
	case '$', '*':
	default:
		return "", fmt.Errorf("an answer begins with %q", kind)
	}
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return "", err
	case n < 0:
		return "", nil
	case kind == '$':
		body := make([]byte, n+len("\r\n"))
		_, err := io.ReadFull(r, body)
		return string(body[:n]), err
	}
	parts := make([]string, n)
	for i := range parts {
		if parts[i], err = answer(r); err != nil {
			return "", err
		}
	}
	return strings.Join(parts, "\n"), nil
}

// StartCluster starts a cluster of three primaries without replicas, and waits
// until each of them knows all slots.
func StartCluster(t testing.TB) []*Server {
	t.Helper()
	const slots = 16384
	servers := make([]*Server, 3)
	for i := range servers {
		servers[i] = Start(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000",
			"--cluster-config-file", fmt.Sprintf("nodes-%d.conf", i))
	}
	do := func(s *Server, args ...string) string {
		t.Helper()
		out, err := s.Do(args...)
		if err != nil {
			t.Fatalf("redistest: %v: %v", args, err)
		}
		return out
	}
	for i, s := range servers {
		first, last := i*slots/len(servers), (i+1)*slots/len(servers)-1
		do(s, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(first), strconv.Itoa(last))
		do(s, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		if i > 0 {
			do(s, "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(servers[0].port))
		}
	}
	knows := func(s *Server) bool {
		info := do(s, "CLUSTER", "INFO")
		return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3")
	}
	for deadline := time.Now().Add(time.Minute); slices.ContainsFunc(servers, func(s *Server) bool { return !knows(s) }); {
		if time.Now().After(deadline) {
			t.Fatal("redistest: the cluster does not form: ", do(servers[0], "CLUSTER", "NODES"))
		}
		time.Sleep(20 * time.Millisecond)
	}
	return servers
}

// StartSentinel starts a primary, a replica of it, and a sentinel that calls the
// primary "primary" and fails over half a second after it is gone.
func StartSentinel(t testing.TB) (primary, replica, sentinel *Server) {
	t.Helper()
	primary = Start(t)
	replica = Start(t, "--replicaof", "127.0.0.1", strconv.Itoa(primary.port))
	replica.says(t, "master_link_status:up", "INFO", "replication")
	sentinel = Start(t) // for a free port
	sentinel.Kill()
	sentinel.config = filepath.Join(sentinel.dir, "sentinel.conf")
	text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor primary 127.0.0.1 %d 1\n"+
		"sentinel down-after-milliseconds primary 500\nsentinel failover-timeout primary 3000\n",
		sentinel.port, sentinel.dir, primary.port)
	if err := os.WriteFile(sentinel.config, []byte(text), 0o600); err != nil {
		t.Fatal("redistest: ", err)
	}
	if err := sentinel.Restart(); err != nil {
		t.Fatal("redistest: ", err)
	}
	// It asks the primary for replicas, and cannot fail over to one that it does not know.
	sentinel.says(t, "\nslave-priority\n100\n", "SENTINEL", "REPLICAS", "primary")
	sentinel.says(t, "\nmaster-link-status\nok\n", "SENTINEL", "REPLICAS", "primary")
	return primary, replica, sentinel
}

// says waits until the answer to a command has a text.
func (s *Server) says(t testing.TB, text string, command ...string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		out, err := s.Do(command...)
		if strings.Contains(out, text) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("redistest: %v does not answer %q, but: %v: %s", command, text, err, out)
		}
	}
}
