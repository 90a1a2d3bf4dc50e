package mariadb_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth/integration/mariadb"
	"github.com/insigner/auth/internal/notice"
)

// A server is a MariaDB server for the tests, from the binaries on the machine.
// It listens on a socket in a directory of its own, and keeps nothing.
type server struct {
	dir    string
	cmd    *exec.Cmd
	leash  io.Closer
	exited chan struct{}
}

var (
	errMissing = errors.New("MariaDB is not installed")
	skipped    atomic.Int64 // tests
	databases  atomic.Int64
	running    *server // by sharedServer
)

var sharedServer = sync.OnceValues(func() (*server, error) {
	s, err := startServer()
	running = s
	return s, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if running != nil {
		running.stop()
	}
	if n := skipped.Load(); n > 0 {
		notice.Print(fmt.Sprintf("mariadb: %v: the tests against it were skipped (%d); install it with: "+
			"apt-get install mariadb-server; then run: go test -count=1", errMissing, n))
	}
	os.Exit(code)
}

// newDatabase returns a new database with the tables of the store. It is
// dropped when the test ends.
func newDatabase(t *testing.T) *sql.DB {
	t.Helper()
	s, err := sharedServer()
	if errors.Is(err, errMissing) {
		skipped.Add(1)
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	admin := s.open(t, "")
	name := fmt.Sprint("auth_test_", databases.Add(1))
	execute(t, admin, "CREATE DATABASE "+name)
	t.Cleanup(func() { execute(t, admin, "DROP DATABASE "+name) })
	execute(t, s.open(t, name+"?multiStatements=true"), mariadb.Schema)
	return s.open(t, name)
}

// open opens a database of the server until the test ends.
func (s *server) open(t *testing.T, database string) *sql.DB {
	t.Helper()
	db, err := mariadb.Open(s.dsn(database))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func (s *server) dsn(database string) string {
	return "root@unix(" + filepath.Join(s.dir, "socket") + ")/" + database
}

func execute(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// startServer creates a data directory and starts a server.
func startServer() (*server, error) {
	for _, name := range []string{"mariadbd", "mariadb-install-db"} {
		if _, err := exec.LookPath(name); err != nil {
			return nil, errMissing
		}
	}
	dir, err := os.MkdirTemp("", "mariadb") // short, as the path of a socket must be
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir}
	if err := s.start(); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// leash runs a command that ends with this process, even if this is killed: it
// is killed when its standard input ends.
const leash = `exec 3<&0
"$@" 3<&- &
server=$!
{ cat <&3 >/dev/null; kill -9 $server; } &
wait $server`

func (s *server) start() error {
	data := filepath.Join(s.dir, "data")
	common := []string{"--no-defaults", "--datadir=" + data}
	if os.Geteuid() == 0 {
		common = append(common, "--user=root") // or it refuses to run
	}
	out, err := exec.Command("mariadb-install-db", append(common, "--auth-root-authentication-method=normal",
		"--skip-test-db")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mariadb-install-db: %w: %s", err, out)
	}
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	args := append([]string{"-c", leash, "sh", "mariadbd"}, common...)
	s.cmd = exec.Command("sh", append(args, "--skip-networking", "--socket="+filepath.Join(s.dir, "socket"),
		"--pid-file="+filepath.Join(s.dir, "pid"), "--skip-log-bin", "--innodb-flush-log-at-trx-commit=0")...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if s.leash, err = s.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.exited = make(chan struct{})
	go func() { s.cmd.Wait(); close(s.exited) }()
	return s.wait()
}

// wait returns when the server answers or has ended.
func (s *server) wait() error {
	db, err := mariadb.Open(s.dsn(""))
	if err != nil {
		return err
	}
	defer db.Close()
	for {
		if db.Ping() == nil {
			return nil
		}
		select {
		case <-s.exited:
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("mariadbd ended: %s", bytes.TrimSpace(text))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends the server and removes its directory.
func (s *server) stop() {
	if s.exited != nil {
		s.leash.Close()
		<-s.exited
	}
	os.RemoveAll(s.dir)
}
