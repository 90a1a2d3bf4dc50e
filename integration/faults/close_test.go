package faults_test

import (
	"bytes"
	"regexp"
	"runtime"
	"testing"
	"time"

	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/internal/pgtest"
)

// goroutines returns the stacks that match.
func goroutines(pattern string) (found []string) {
	match := regexp.MustCompile(pattern)
	buf := make([]byte, 1<<24)
	for stack := range bytes.SplitSeq(buf[:runtime.Stack(buf, true)], []byte("\n\n")) {
		if match.Match(stack) {
			found = append(found, string(stack))
		}
	}
	return found
}

// TestCloseLeavesNothing checks that no goroutine and no connection is left after
// Close, in any state of the database.
func TestCloseLeavesNothing(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.URL("postgres")
	for _, test := range []struct {
		name   string
		before func(p *proxy)
		fails  bool // if the last uses cannot be written
	}{
		{"up", func(*proxy) {}, false},
		{"down", func(*proxy) { server.Stop() }, true},
		{"silent", func(p *proxy) { p.set(silent) }, false},
		{"cut", func(p *proxy) { p.set(cut) }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, watchDSN := newProxy(t, dsn)
			in := startPostgres(t, dsn, watchDSN, cache.Options{StaleIfError: time.Hour})
			_, key := in.create(t)
			in.remembers(t, key)
			test.before(p)
			in.wants(t, "a key in memory", key, accepted) // its use is to be written
			if err := in.close(); (err != nil) != test.fails {
				t.Errorf("Close of the LastUsedRecorder: %v", err)
			}
			const ours = `github\.com/insigner/auth(/cache|/sqlstore)?\.|github\.com/jackc/|github\.com/maypok86/|database/sql\.`
			eventually(t, "no goroutine is left", func() bool { return len(goroutines(ours)) == 0 })
			if test.fails {
				must(t, server.Start())
			}
			if test.name == "silent" {
				p.set(cut) // otherwise the server does not learn that the client is gone
			}
			admin := open(t, dsn)
			eventually(t, "no connection is left", func() (none bool) {
				must(t, admin.QueryRow(`SELECT count(*) = 0 FROM pg_stat_activity
					WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`).Scan(&none))
				return none
			})
		})
	}
}
