package faults_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/internal/pgtest"
)

// signalAll sends a signal to a server and its children.
func signalAll(t testing.TB, pid int, signal syscall.Signal) {
	t.Helper()
	must(t, syscall.Kill(pid, signal)) // first, so that it has no more children
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	must(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); fields[1] == strconv.Itoa(pid) {
			child, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			must(t, err)
			syscall.Kill(child, signal) // it may have ended
		}
	}
}

// A pair are a primary server and its standby.
type pair struct{ primary, standby *pgtest.Server }

func startPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{primary: pgtest.Start(t)}
	p.standby = p.primary.Standby(t)
	return p
}

// promote makes the standby a primary server that has all keys.
func (p *pair) promote(t *testing.T, last issued) *sql.DB {
	t.Helper()
	db := open(t, p.standby.URL("postgres"))
	eventually(t, "replication", func() bool {
		var n int
		return db.QueryRow("SELECT count(*) FROM api_keys WHERE id = $1", last.record.ID).Scan(&n) == nil && n == 1
	})
	execute(t, db, "SELECT pg_promote()")
	return db
}

// revokeBySQL revokes a key on a server.
func revokeBySQL(t *testing.T, db *sql.DB, k issued) time.Time {
	t.Helper()
	execute(t, db, "UPDATE api_keys SET revoked_at = now() WHERE id = $1", k.record.ID)
	return time.Now()
}

// TestFailover replaces the primary server by its standby. What is revoked there
// is refused soon, though an instance had the key in memory, and no valid key
// gets 401.
func TestFailover(t *testing.T) {
	for _, test := range []struct {
		name string
		old  func(t *testing.T, old *pgtest.Server) // what happens to the old primary server
		many bool                                   // the DSN names both servers; otherwise a proxy switches
	}{
		{"the old server runs, and its connections stay", func(*testing.T, *pgtest.Server) {}, false},
		{"the old server is frozen", func(t *testing.T, old *pgtest.Server) {
			signalAll(t, old.PID(), syscall.SIGSTOP)
			t.Cleanup(func() { signalAll(t, old.PID(), syscall.SIGCONT) })
		}, false},
		{"the old server has crashed", func(_ *testing.T, old *pgtest.Server) { old.Crash() }, false},
		{"a DSN of two hosts", func(_ *testing.T, old *pgtest.Server) { old.Crash() }, true},
		{"a DSN of two hosts, the first frozen", func(t *testing.T, old *pgtest.Server) {
			signalAll(t, old.PID(), syscall.SIGSTOP)
			t.Cleanup(func() { signalAll(t, old.PID(), syscall.SIGCONT) })
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			servers := startPair(t)
			p, dsn := newProxy(t, servers.primary.URL("postgres"))
			if test.many {
				dsn = strings.Replace(servers.primary.URL("postgres"), servers.primary.Addr(),
					servers.primary.Addr()+","+servers.standby.Addr(), 1) + "&target_session_attrs=read-write&connect_timeout=1"
			}
			in := startPostgres(t, dsn, "", cache.Options{TTL: time.Hour, LookupTimeout: 4 * time.Second})
			var keys []issued
			for range 4 {
				r, key := in.create(t)
				in.remembers(t, key)
				keys = append(keys, issued{record: r, key: key})
			}
			must(t, in.uses.Close()) // otherwise its writes would wait too
			promoted := servers.promote(t, keys[len(keys)-1])
			test.old(t, servers.primary)
			p.to(servers.standby.Addr())
			at := revokeBySQL(t, promoted, keys[0])
			t.Logf("refused after %v", in.refuses(t, "revoked on the new server", keys[0].key, at))
			for _, k := range keys[1:] {
				in.becomes(t, "a valid key", k.key, accepted, unavailable)
				in.remembers(t, k.key)
			}
			at = revokeBySQL(t, promoted, keys[1])
			in.refuses(t, "revoked on the new server while it is watched", keys[1].key, at)
		})
	}
}

// TestClientStopped stops a process while another revokes a key. When it
// continues, it refuses the key, though it had it in memory.
func TestClientStopped(t *testing.T) {
	dsn := pgtest.DSN(t)
	here, err := defaultInstance(dsn)
	must(t, err)
	t.Cleanup(func() { here.close() })
	there, pid := startChildProcess(t, dsn)
	ask := func(key string) string { return get(t.Context(), here.client, there, key) }
	for range 3 {
		r, key := here.create(t)
		eventually(t, "the other process accepts the key", func() bool { return ask(key) == accepted })
		must(t, syscall.Kill(pid, syscall.SIGSTOP))
		must(t, here.manage.Revoke(t.Context(), r.ID))
		at := time.Now()
		must(t, syscall.Kill(pid, syscall.SIGCONT))
		eventually(t, "it is refused", func() bool {
			got := ask(key)
			if got != accepted && got != revoked && got != unavailable {
				t.Fatalf("after the process continued: %q", got)
			}
			if took := time.Since(at); got == accepted && took > bound {
				t.Fatalf("accepted %v after it was revoked", took)
			}
			return got == revoked
		})
	}
}
