package sqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/sqlstore"
	"modernc.org/sqlite"
)

// A full disk: what cannot be written is an error, what was written stays, and it goes on when there is room.
func TestSQLiteDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s, db := newSQLite(t, path)
	db.SetMaxOpenConns(1) // max_page_count is per connection
	valid := inserted(t, s)
	_, err := db.Exec("PRAGMA max_page_count = 40")
	must(t, err)
	var kept []auth.Record
	for {
		r := record()
		if err := s.Insert(t.Context(), r); err != nil {
			if errors.Is(err, auth.ErrExists) || errors.Is(err, auth.ErrNotFound) {
				t.Fatal(err)
			}
			break
		}
		if kept = append(kept, r); len(kept) > 10000 {
			t.Fatal("the disk does not get full")
		}
	}
	next := record()
	next.Replaces, next.Metadata = valid.ID, map[string]string{"k": string(make([]byte, 100000))}
	if err := s.Replace(t.Context(), next, time.Now()); err == nil {
		t.Error("Replace succeeded on a full disk")
	}
	_, err = db.Exec("PRAGMA max_page_count = 100000")
	must(t, err)
	if got, err := s.Lookup(t.Context(), valid.Hash); err != nil || got.ReplacedBy != "" || !got.ExpiresAt.IsZero() {
		t.Errorf("half of a rotation: %v, %v", fields(got), err)
	}
	for _, r := range kept {
		if _, err := s.Lookup(t.Context(), r.Hash); err != nil {
			t.Errorf("lost: %v", err)
		}
	}
	must(t, s.Replace(t.Context(), next, time.Now()))
	checkRotations(t, s)
}

func TestSQLiteReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	rw, _ := newSQLite(t, path)
	valid := inserted(t, rw)
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(1000)&_pragma=foreign_keys(1)")
	must(t, err)
	defer db.Close()
	s, err := sqlstore.NewSQLite(db, &quick)
	must(t, err)
	ctx := t.Context()
	next := record()
	next.Replaces = valid.ID
	for what, err := range map[string]error{
		"Insert":  s.Insert(ctx, record()),
		"Revoke":  s.Revoke(ctx, valid.ID, time.Now()),
		"Replace": s.Replace(ctx, next, time.Now()),
		"Touch":   s.Touch(ctx, map[string]time.Time{valid.ID: time.Now()}),
	} {
		if err == nil || errors.Is(err, auth.ErrNotFound) || errors.Is(err, auth.ErrExists) {
			t.Errorf("%s in a read-only database: %v", what, err)
		}
	}
	if got, err := s.Lookup(ctx, valid.Hash); err != nil || got.ID != valid.ID || !got.RevokedAt.IsZero() {
		t.Errorf("Lookup in a read-only database: %v, %v", fields(got), err)
	}
	if err := s.Revoke(ctx, "no_such_key", time.Now()); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("Revoke of an unknown key: %v", err)
	}
}

// While another process holds the write lock, look-ups go on, and a writer waits until its client leaves.
func TestSQLiteBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s, _ := newSQLite(t, path)
	_, other := newSQLite(t, path)
	valid := inserted(t, s)
	tx, err := other.Begin()
	must(t, err)
	defer tx.Rollback()
	_, err = tx.Exec("UPDATE api_keys SET revoked_at = 1")
	must(t, err)
	if got, err := s.Lookup(t.Context(), valid.Hash); err != nil || !got.RevokedAt.IsZero() {
		t.Errorf("what is not committed is seen: %v, %v", fields(got), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := s.Insert(ctx, record()); err == nil || errors.Is(err, auth.ErrExists) {
		t.Errorf("Insert while another writes: %v", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("a client that leaves waits for %v", took)
	}
	done := make(chan error)
	go func() { done <- s.Insert(t.Context(), record()) }()
	time.Sleep(50 * time.Millisecond)
	must(t, tx.Rollback())
	if err := <-done; err != nil {
		t.Errorf("Insert after another wrote: %v", err)
	}
}

// Readers and writers of several pools on one file: nobody fails, nothing is lost.
func TestSQLiteTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	var wg sync.WaitGroup
	for range 3 {
		s, _ := newSQLite(t, path)
		valid := inserted(t, s)
		for range 3 {
			wg.Go(func() {
				for range 15 {
					old, next := inserted(t, s), record()
					next.Replaces = old.ID
					if err := s.Replace(t.Context(), next, time.Now()); err != nil {
						t.Error(err)
					}
					if err := s.Touch(t.Context(), map[string]time.Time{old.ID: time.Now(), valid.ID: time.Now()}); err != nil {
						t.Error(err)
					}
				}
			})
			wg.Go(func() {
				for range 100 {
					if _, err := s.Lookup(t.Context(), valid.Hash); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	s, _ := newSQLite(t, path)
	checkRotations(t, s)
}

// crashEnv names the variable that makes the test binary a process which ends in the middle of a rotation.
const crashEnv = "SQLSTORE_TEST_CRASH"

// crashInRotation rotates the only key in the file; the second write ends the process.
func crashInRotation(path string) {
	err := sqlite.RegisterFunction("crash", &sqlite.FunctionImpl{
		Scalar: func(*sqlite.FunctionContext, []driver.Value) (driver.Value, error) { os.Exit(42); return nil, nil },
	})
	db, err2 := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+
		"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_pragma=trusted_schema(1)")
	s, err3 := sqlstore.NewSQLite(db, nil)
	if err := errors.Join(err, err2, err3); err != nil {
		panic(err)
	}
	page, err := s.List(context.Background(), "", auth.Position{}, 1)
	if err != nil {
		panic(err)
	}
	next := auth.Record{ID: "next", Replaces: page[0].ID, Hash: auth.Hash{1}}
	panic(s.Replace(context.Background(), next, time.Now()))
}

func TestSQLiteCrashInRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s, db := newSQLite(t, path)
	old := inserted(t, s)
	_, err := db.Exec("CREATE TRIGGER boom AFTER UPDATE ON api_keys WHEN NEW.replaced_by <> '' BEGIN SELECT crash(); END")
	must(t, err)
	exe, err := os.Executable()
	must(t, err)
	child := exec.Command(exe)
	child.Env = append(os.Environ(), crashEnv+"="+path)
	out, err := child.CombinedOutput()
	if child.ProcessState.ExitCode() != 42 {
		t.Fatalf("the process did not end in the middle: %v\n%s", err, out)
	}
	_, err = db.Exec("DROP TRIGGER boom")
	must(t, err)
	if got, err := s.Lookup(t.Context(), old.Hash); err != nil || got.ReplacedBy != "" || !got.ExpiresAt.IsZero() {
		t.Errorf("the old key: %v, %v", fields(got), err)
	}
	if _, err := s.Lookup(t.Context(), auth.Hash{1}); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("the successor: %v", err)
	}
	next := record()
	next.Replaces = old.ID
	must(t, s.Replace(t.Context(), next, time.Now()))
	checkRotations(t, s)
}
