// Package pgtest starts PostgreSQL servers for tests, from the binaries on the
// machine. They listen on the loopback interface, keep nothing, and end with
// the test.
//
//	import _ "github.com/jackc/pgx/v5/stdlib" // pgtest uses its driver, "pgx"
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
//	func TestStore(t *testing.T) {
//		db, err := sql.Open("pgx", pgtest.DSN(t))
//		...
//	}
//
// A test that needs a server is skipped if PostgreSQL is not installed: if
// there are no binaries in the PATH or in /usr/lib/postgresql. Main then prints
// one line that says so.
package pgtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/insigner/auth/internal/notice"
)

const (
	// EnvDSN names the variable with the URL of a server that DSN uses instead
	// of starting one. Its user must be allowed to create databases.
	EnvDSN = "AUTH_TEST_POSTGRES_DSN"

	// EnvBin names the variable with the directory of the binaries to use, such
	// as /usr/lib/postgresql/17/bin.
	EnvBin = "AUTH_TEST_POSTGRES_BIN"
)

// errMissing is why a test is skipped.
var errMissing = errors.New("PostgreSQL is not installed")

var shared struct {
	mu     sync.Mutex
	main   bool // Main runs and will stop the server
	server *Server
}

var skipped atomic.Int64 // tests

// Main runs the tests of a package. The first call of DSN starts a server,
// which they share. Main stops it and returns the exit code of the tests.
//
// If tests were skipped since PostgreSQL is not installed, it prints a line
// about it.
func Main(m *testing.M) int {
	shared.mu.Lock()
	shared.main = true
	shared.mu.Unlock()
	code := m.Run()
	if shared.server != nil {
		shared.server.remove()
	}
	if n := skipped.Load(); n > 0 {
		name := strings.TrimSuffix(filepath.Base(os.Args[0]), ".test")
		notice.Print(fmt.Sprintf("%s: %v: the tests against it were skipped (%d); install it with: "+
			"apt-get install postgresql; then run: go test -count=1", name, errMissing, n))
	}
	return code
}

// skip skips the test if err is that there is no PostgreSQL, and fails it if it
// is another error.
func skip(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errMissing) {
		skipped.Add(1)
		t.Skip(err)
	}
	if err != nil {
		t.Fatal("pgtest: ", err)
	}
}

var databases atomic.Int64

// DSN returns the URL of a new, empty database. It is on the server that
// [EnvDSN] names. If that is not set, it is on the server that the tests of the
// package share, or without Main on one for this test. The database is dropped
// when the test ends.
func DSN(t testing.TB) string {
	t.Helper()
	base := os.Getenv(EnvDSN)
	if base == "" {
		base = sharedServer(t).URL("postgres")
	}
	name := fmt.Sprintf("auth_test_%d_%d", os.Getpid(), databases.Add(1))
	execute(t, base, "CREATE DATABASE "+name)
	t.Cleanup(func() { execute(t, base, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	u, err := url.Parse(base)
	if err != nil {
		t.Fatalf("pgtest: %s is not a URL", EnvDSN)
	}
	u.Path = "/" + name
	return u.String()
}

// execute executes a statement on a connection of its own.
func execute(t testing.TB, dsn, query string) {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err == nil {
		defer db.Close()
		_, err = db.ExecContext(context.Background(), query)
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
		s, err := newServer(nil, (*Server).init)
		skip(t, err)
		shared.server = s
	}
	return shared.server
}
