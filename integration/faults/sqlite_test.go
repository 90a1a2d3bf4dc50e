package faults_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/sqlite"
)

func newSQLite(t *testing.T, path string, opts cache.Options) *instance {
	t.Helper()
	db, err := sqlite.Open(path)
	must(t, err)
	in := startSQLite(t, db, opts)
	must(t, in.keys.Migrate(t.Context()))
	return in
}

// TestSQLiteReadOnly opens the file for reading only. Requests are answered, writes
// fail with an error, and a revocation by another process is seen after the TTL.
func TestSQLiteReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	rw := newSQLite(t, path, cache.Options{})
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(1000)&_pragma=foreign_keys(1)")
	must(t, err)
	ro := startSQLite(t, db, cache.Options{TTL: 200 * time.Millisecond, UnknownTTL: time.Millisecond})
	l := startLoad(t, rw) // it writes at the same time
	l.healthy.Store(true)
	for range 5 {
		r, key := rw.create(t)
		ro.remembers(t, key)
		if err := ro.manage.Revoke(t.Context(), r.ID); err == nil {
			t.Error("a revocation in a read-only database succeeded")
		}
		ro.wants(t, "after a revocation that failed", key, accepted)
		must(t, rw.manage.Revoke(t.Context(), r.ID))
		rw.wants(t, "revoked here", key, revoked)
		ro.refuses(t, "revoked by another process", key, time.Now())
	}
	if err := ro.uses.Close(); err == nil {
		t.Error("last uses were written to a read-only database")
	}
	l.healthy.Store(false)
	l.end()
}

// TestSQLiteDiskFull fills the disk. Requests are answered, from memory and from the
// file, and writes fail with an error.
func TestSQLiteDiskFull(t *testing.T) {
	in := newSQLite(t, filepath.Join(t.TempDir(), "db"), cache.Options{TTL: 50 * time.Millisecond})
	in.db.SetMaxOpenConns(1) // max_page_count is per connection
	l := startLoad(t, in)
	l.healthy.Store(true)
	l.grows(100)
	execute(t, in.db, "PRAGMA max_page_count = 400")
	var keys []issued
	for {
		r, key, err := in.manage.Create(t.Context(), keyring.Spec{Name: "test", Scopes: auth.Scopes{"documents.read"}})
		if err != nil {
			break
		}
		keys = append(keys, issued{record: r, key: key.Reveal()})
		if len(keys) > 10_000 {
			t.Fatal("the disk does not get full")
		}
	}
	l.grows(100)
	for i, k := range keys[max(0, len(keys)-20):] {
		in.wants(t, "stored before the disk was full", k.key, accepted)
		if _, _, err := in.manage.Rotate(t.Context(), k.record.ID, 0); err == nil {
			continue // there was still room
		}
		in.wants(t, "a rotation that failed", k.key, accepted)
		if i%2 == 0 && in.manage.Revoke(t.Context(), k.record.ID) == nil {
			in.wants(t, "revoked on a full disk", k.key, revoked)
		}
	}
	execute(t, in.db, "PRAGMA max_page_count = 100000")
	for _, k := range keys[:min(20, len(keys))] {
		must(t, in.manage.Revoke(t.Context(), k.record.ID))
		in.wants(t, "revoked when there is room again", k.key, revoked)
	}
	l.grows(100)
	l.healthy.Store(false)
	l.end()
}

// TestSQLiteTableGone checks that requests get 503, not 401, while the table cannot
// be read.
func TestSQLiteTableGone(t *testing.T) {
	for _, test := range []struct {
		name  string
		stale time.Duration
	}{
		{"default", 0},
		{"StaleIfError", time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := newSQLite(t, filepath.Join(t.TempDir(), "db"), cache.Options{TTL: 50 * time.Millisecond, StaleIfError: test.stale})
			l := startLoad(t, in)
			for range 2 {
				expires := time.Now().Add(300 * time.Millisecond)
				_, expiring := in.createUntil(t, expires)
				in.wants(t, "a key that expires soon", expiring, accepted, expired)
				for _, k := range l.valid {
					in.wants(t, "a valid key", k.key, accepted)
				}
				l.grows(100)
				l.remembered.Store(test.stale > 0)
				execute(t, in.db, "ALTER TABLE api_keys RENAME TO elsewhere")
				l.fails(50)
				time.Sleep(time.Until(expires))
				if test.stale > 0 {
					in.wants(t, "expired since", expiring, expired, unavailable) // the report of its creation may have come late
				} else {
					in.wants(t, "no table", l.valid[0].key, unavailable)
				}
				execute(t, in.db, "ALTER TABLE elsewhere RENAME TO api_keys")
				r, key := in.create(t)
				in.wants(t, "made afterwards", key, accepted)
				must(t, in.manage.Revoke(context.Background(), r.ID))
				in.wants(t, "revoked afterwards", key, revoked)
				l.recovers()
				l.remembered.Store(false)
			}
			l.end()
		})
	}
}
