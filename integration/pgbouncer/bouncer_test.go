package pgbouncer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxServers is how many connections to the server PgBouncer shares among its
// clients, in each database.
const maxServers = 3

var (
	errMissing = errors.New("PgBouncer is not installed")
	skipped    atomic.Int64 // tests
)

// A bouncer is a PgBouncer, from the program on the machine. It listens on the
// loopback interface and keeps nothing.
type bouncer struct {
	program, dir string
	port         int
	leash        io.Closer
	exited       chan struct{}
}

// startBouncer starts a PgBouncer in front of the server of dsn, with that
// pool_mode. It ends with the test. Without PgBouncer it skips the test.
func startBouncer(t *testing.T, dsn, mode string) *bouncer {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/pgbouncer")
	}
	if err != nil {
		skipped.Add(1)
		t.Skip(errMissing)
	}
	dir, err := os.MkdirTemp("", "pgbouncer")
	must(t, err)
	b := &bouncer{program: program, dir: dir}
	t.Cleanup(func() {
		b.stop()
		os.RemoveAll(dir)
	})
	// A port that is free now may be taken a moment later. Then try another.
	for range 5 {
		must(t, b.configure(dsn, mode))
		if err = b.start(); err == nil {
			return b
		}
	}
	t.Fatal(err)
	return nil
}

// configure writes the files of PgBouncer, with a port that is free.
func (b *bouncer) configure(dsn, mode string) error {
	server, err := url.Parse(dsn)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	port := server.Port()
	if port == "" {
		port = "5432"
	}
	password, _ := server.User.Password()
	users := fmt.Sprintf("%q %q\n", server.User.Username(), password)
	config := fmt.Sprintf(`[databases]
* = host=%s port=%s

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s
admin_users = %s
pool_mode = %s
default_pool_size = %d
max_client_conn = 1000
server_login_retry = 1
`, server.Hostname(), port, b.port, b.path("users"), server.User.Username(), mode, maxServers)
	return errors.Join(os.WriteFile(b.path("users"), []byte(users), 0o644),
		os.WriteFile(b.path("ini"), []byte(config), 0o644),
		os.Chmod(b.dir, 0o755)) // PgBouncer reads the users as another account
}

func (b *bouncer) path(name string) string { return filepath.Join(b.dir, name) }

// leash runs a command that ends with this process, even if this is killed: it
// is killed when its standard input ends.
const leash = `exec 3<&0
"$@" 3<&- &
{ cat <&3 >/dev/null; kill -9 $!; } &
wait %1`

// start starts it, also after stop, and waits until it answers.
func (b *bouncer) start() error {
	log, err := os.OpenFile(b.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"-c", leash, "sh", b.program, "-q"}
	if os.Geteuid() == 0 { // it refuses to run as root
		name := "postgres"
		if _, err := user.Lookup(name); err != nil {
			name = "nobody"
		}
		args = append(args, "-u", name)
	}
	cmd := exec.Command("sh", append(args, b.path("ini"))...)
	cmd.Stdout, cmd.Stderr = log, log
	if b.leash, err = cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	b.exited = exited
	for b.admin("SHOW VERSION") != nil {
		select {
		case <-exited:
			text, _ := os.ReadFile(b.path("log"))
			return fmt.Errorf("PgBouncer ended: %s", text)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// stop cuts its connections and ends it.
func (b *bouncer) stop() {
	if b.exited != nil {
		b.leash.Close()
		<-b.exited
	}
}

// admin executes a command on the console.
func (b *bouncer) admin(command string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	text, err := os.ReadFile(b.path("users"))
	if err != nil {
		return err
	}
	var name, password string
	fmt.Sscanf(string(text), "%q %q", &name, &password)
	console := url.URL{Scheme: "postgres", User: url.User(name), Host: b.address(), Path: "/pgbouncer",
		RawQuery: "sslmode=disable"}
	conn, err := pgconn.Connect(ctx, console.String())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, command).ReadAll()
	return err
}

func (b *bouncer) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port)) }

// url returns how to connect to the database of dsn through PgBouncer, with the
// mode of executing queries that the documentation of package postgres names.
func (b *bouncer) url(dsn string) string { return b.urlWith(dsn, "exec") }

// urlWith is url with another mode, or with the default of pgx if mode is
// empty.
func (b *bouncer) urlWith(dsn, mode string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		return dsn
	}
	u.Host = b.address()
	q := url.Values{"sslmode": {"disable"}}
	if mode != "" {
		q.Set("default_query_exec_mode", mode)
	}
	u.RawQuery = q.Encode()
	return u.String()
}
