package main

import (
	"bufio"
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/sqlstore"
	"github.com/insigner/auth/sqlstore/pgtest"
)

const instanceEnv = "AUTH_TEST_POSTGRES_INSTANCE"

// TestMain is the program itself where a test has started it, so that the race detector sees it too.
func TestMain(m *testing.M) {
	if os.Getenv(instanceEnv) != "" {
		main()
		os.Exit(leftOver())
	}
	os.Exit(pgtest.Main(m))
}

// leftOver returns the exit code of an instance that has ended well, and is not 0 if a goroutine goes on.
func leftOver() int {
	stacks := make([]byte, 1<<20)
	for range 500 { // what was told to end may take a moment
		ended := true
		all := string(stacks[:runtime.Stack(stacks, true)])
		for i, goroutine := range strings.Split(all, "\n\n") {
			ended = ended && (i == 0 || strings.Contains(goroutine, "os/signal.loop")) // 0 is this one
		}
		if ended {
			return 0
		}
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Fprintf(os.Stderr, "goroutines are left:\n%s\n", stacks[:runtime.Stack(stacks, true)])
	return 3
}

// A running is an instance of the program, in a process of its own.
type running struct {
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr strings.Builder
	out    string   // what it printed when it began
	keys   []string // in that, if it is the first
	url    string
}

var (
	key  = regexp.MustCompile(`(?m)^[a-z -]+  (isk_[A-Za-z0-9_-]{44})$`)
	base = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
	curl = regexp.MustCompile(`(?m)^# (\d+): .*\ncurl -i -H 'Authorization: Bearer (\S+)' http://[^/]+(/\S+)(?: -d '(.*)')?(?: -X (\w+))?$`)
)

// program returns the command that runs main in a process of its own, as built for the test.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), instanceEnv+"=1")
	return cmd
}

// begin starts an instance, which prints something once it serves.
func begin(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{cmd: program(t, args...)}
	r.cmd.Stderr = &r.stderr
	stdout, err := r.cmd.StdoutPipe()
	if err == nil {
		r.stdout = bufio.NewReader(stdout)
		err = r.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(time.Minute, func() { r.cmd.Process.Kill() })
	t.Cleanup(func() { limit.Stop(); r.cmd.Process.Kill(); r.cmd.Wait() })
	return r
}

// serves waits until it does.
func (r *running) serves() error {
	for {
		line, err := r.stdout.ReadString('\n')
		r.out += line
		if err != nil {
			return fmt.Errorf("it printed %q, then: %w; %s", r.out, cmp.Or(r.cmd.Wait(), err), r.stderr.String())
		}
		if strings.HasPrefix(line, "Listening on") || len(curl.FindAllString(r.out, -1)) == 6 {
			break
		}
	}
	for _, m := range key.FindAllStringSubmatch(r.out, -1) {
		r.keys = append(r.keys, m[1])
	}
	r.url = base.FindString(r.out)
	return nil
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	r := begin(t, args...)
	if err := r.serves(); err != nil {
		t.Fatal(err)
	}
	return r
}

// promises does on r what first, which printed keys, said that one should, and sees whether r answers as promised.
func (r *running) promises(t *testing.T, first *running) {
	t.Helper()
	var statuses []string
	for _, m := range curl.FindAllStringSubmatch(first.out, -1) {
		method := m[5]
		if method == "" && m[4] != "" {
			method = "POST"
		}
		if got := r.status(t, method, m[3], m[2], m[4]); got != m[1] {
			t.Errorf("%s\nanswers %s", m[0], got)
		}
		statuses = append(statuses, m[1])
	}
	if want := []string{"200", "201", "200", "403", "401", "401"}; !slices.Equal(statuses, want) || len(first.keys) != 4 {
		t.Errorf("%d keys and curl lines for %v, want 4 and %v", len(first.keys), statuses, want)
	}
}

func (r *running) status(t *testing.T, method, path, key, body string) string {
	t.Helper()
	req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.Status[:3]
}

// stop asks it to end, and expects that it ends well, has logged no key, and prints nothing more.
func (r *running) stop(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r.stdout)
	if err := cmp.Or(r.cmd.Wait(), err); err != nil || len(rest) > 0 {
		t.Errorf("after %v: %q, %v\n%s", sig, rest, err, r.stderr.String())
	}
	if strings.Contains(r.stderr.String(), "isk_") {
		t.Errorf("the log has a key: %s", r.stderr.String())
	}
}

// used expects the four keys in the table, and the uses of those that were let through.
func used(t *testing.T, store auth.KeyStore) {
	t.Helper()
	var names []string
	for r, err := range auth.NewKeyring(store, nil).List(t.Context(), auth.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, r.Name)
		if want := r.Name == "full access" || r.Name == "read-only"; want == r.LastUsedAt.IsZero() {
			t.Errorf("%s was last used at %v", r.Name, r.LastUsedAt)
		}
	}
	if want := []string{"full access", "read-only", "expired", "revoked"}; !slices.Equal(names, want) {
		t.Fatalf("the table has %v, want %v", names, want)
	}
}

func open(t *testing.T, dsn string) (*sql.DB, *sqlstore.Store) {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	store, err := sqlstore.NewPostgres(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	return db, store
}

// firstStartLock takes the lock under which the keys are made. The functions wait until n instances wait for it, and
// give it back.
func firstStartLock(t *testing.T, dsn string) (waiting func(n int), release func()) {
	t.Helper()
	db, _ := open(t, dsn)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtext('auth/examples/postgres'))"); err != nil {
		t.Fatal(err)
	}
	const query = `SELECT count(*) FROM pg_locks own JOIN pg_locks other USING (locktype, database, classid, objid, objsubid)
		WHERE locktype = 'advisory' AND own.pid = pg_backend_pid() AND NOT other.granted`
	waiting = func(n int) {
		t.Helper()
		for got := 0; got < n; {
			if err := tx.QueryRowContext(ctx, query).Scan(&got); err != nil {
				t.Fatalf("%d instances wait for the lock, want %d: %v", got, n, err)
			}
		}
	}
	return waiting, func() { tx.Rollback() }
}

// Of three that start at once on an empty database one prints keys, which hold on all, and go on at the next start;
// one that is revoked is refused by all.
func TestInstances(t *testing.T) {
	dsn := pgtest.DSN(t)
	waiting, release := firstStartLock(t, dsn)
	var all []*running
	for range 3 {
		all = append(all, begin(t, "-dsn", dsn))
	}
	waiting(len(all))
	release()
	var first *running
	for _, r := range all {
		if err := r.serves(); err != nil {
			t.Fatal(err)
		}
		if len(r.keys) > 0 && first != nil {
			t.Fatal("two of them print keys")
		}
		if len(r.keys) > 0 {
			first = r
		}
	}
	if first == nil {
		t.Fatal("none of them prints keys")
	}
	for _, r := range all {
		r.promises(t, first)
	}
	for _, r := range all {
		r.stop(t, syscall.SIGTERM)
	}
	db, store := open(t, dsn)
	used(t, store)

	all = []*running{start(t, "-dsn", dsn), start(t, "-dsn", dsn)}
	for _, r := range all {
		if strings.Contains(r.out, "isk_") || !strings.Contains(r.out, "the keys of the first start go on") {
			t.Errorf("the second start prints\n%s", r.out)
		}
		r.promises(t, first)
	}
	refused := func(key string) {
		t.Helper()
		for _, r := range all {
			for end := time.Now().Add(time.Minute); r.status(t, "GET", "/api/v1/documents", key, "") != "401"; {
				if time.Now().After(end) {
					t.Fatal("a revoked key is let through for a minute")
				}
			}
		}
	}
	keyring := auth.NewKeyring(store, nil)
	for r, err := range keyring.List(t.Context(), auth.Filter{}) {
		if err == nil && r.Name == "full access" {
			err = keyring.Revoke(t.Context(), r.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	refused(first.keys[0])
	if _, err := db.Exec("UPDATE api_keys SET revoked_at = now() WHERE name = 'read-only'"); err != nil { // as with psql
		t.Fatal(err)
	}
	refused(first.keys[1])
	for _, r := range all {
		r.stop(t, os.Interrupt)
	}
}

// A start that failed while it made the keys is made up for by the next, all of whose keys hold.
func TestHalfWay(t *testing.T) {
	dsn := pgtest.DSN(t)
	db, _ := open(t, dsn)
	r := start(t, "-dsn", dsn)
	r.stop(t, syscall.SIGTERM)
	for _, failed := range []string{
		"UPDATE api_keys SET revoked_at = NULL WHERE name = 'revoked'",
		"DELETE FROM api_keys WHERE name IN ('expired', 'revoked')",
	} {
		if _, err := db.Exec(failed); err != nil {
			t.Fatal(err)
		}
		r := start(t, "-dsn", dsn)
		r.promises(t, r)
		r.stop(t, syscall.SIGTERM)
	}
}

// Who is told to end while another makes the keys ends well too.
func TestStopWhileStarting(t *testing.T) {
	dsn := pgtest.DSN(t)
	waiting, _ := firstStartLock(t, dsn)
	r := begin(t, "-dsn", dsn)
	waiting(1)
	r.stop(t, syscall.SIGTERM)
}

// What is wrong with the database is said, without its password.
func TestBadDSN(t *testing.T) {
	for _, dsn := range []string{
		"postgres://user:pa55word@127.0.0.1:1/none",
		"postgres://user:pa55word@127.0.0.1:port/none",
		"postgres://user:pa55word@127.0.0.1:1/none?sslmode=none",
		"postgres://user:pa55word@[::1/none",
		"postgres://user:pa55word%zz@127.0.0.1/none",
		"host=127.0.0.1 port=1 user=user password=pa55word dbname=none",
		"host=127.0.0.1 port=port user=user password='pa55word' dbname=none",
		"user=user password=pa55word nonsense",
	} {
		out, err := program(t, "-dsn", dsn).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "postgres: ") || strings.Contains(string(out), "pa55word") {
			t.Errorf("%s: %v: %s", dsn, err, out)
		}
	}
}
