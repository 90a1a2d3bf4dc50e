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
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/sqlite"
	modernc "modernc.org/sqlite"
)

func TestSQLiteSettingsRequired(t *testing.T) {
	good := []string{"busy_timeout(100)", "journal_mode(WAL)", "foreign_keys(1)"}
	open := func(name string, pragmas ...string) error {
		db, err := sql.Open("sqlite", name+"?_pragma="+strings.Join(pragmas, "&_pragma="))
		must(t, err)
		defer db.Close()
		_, err = sqlite.New(db, nil)
		return err
	}
	must(t, open("file:"+sqliteFile(t), good...))
	for i, name := range []string{"busy_timeout", "journal_mode", "foreign_keys"} {
		err := open("file:"+sqliteFile(t), slices.Delete(slices.Clone(good), i, i+1)...)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("sqlite.New without %s: %v, want an error that names it", name, err)
		}
	}
	err := open("file:"+sqliteFile(t), append(slices.Clone(good), "locking_mode(EXCLUSIVE)")...)
	if err == nil || !strings.Contains(err.Error(), "locking_mode") {
		t.Errorf("sqlite.New with an exclusive lock: %v, want an error that names locking_mode", err)
	}
	if err := open("file::memory:", good...); err == nil || !strings.Contains(err.Error(), "journal_mode") {
		t.Errorf("sqlite.New in memory: %v, want an error that names journal_mode", err)
	}
}

// A setting of one connection is not one of the pool.
func TestSQLiteSettingsOfOneConnection(t *testing.T) {
	db, err := sql.Open("sqlite", "file:"+sqliteFile(t)+"?_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)")
	must(t, err)
	defer db.Close()
	execute(t, db, "PRAGMA busy_timeout = 100")
	if _, err := sqlite.New(db, nil); err == nil {
		t.Error("sqlite.New accepts a busy_timeout that only one connection has")
	}
}

func TestOpenSQLiteSettings(t *testing.T) {
	_, db := newSQLite(t, filepath.Join(t.TempDir(), "a?b #c%20d&é'.db"))
	var synchronous int
	must(t, db.QueryRow("PRAGMA synchronous").Scan(&synchronous))
	if synchronous != 2 {
		t.Errorf("synchronous is %d, want 2 (FULL)", synchronous)
	}
	tx, err := db.Begin()
	must(t, err)
	defer tx.Rollback()
	other, err := db.Conn(t.Context())
	must(t, err)
	defer other.Close()
	execute(t, other, "PRAGMA busy_timeout = 0")
	if _, err := other.ExecContext(t.Context(), "DELETE FROM api_keys"); err == nil {
		t.Error("a transaction takes no lock when it begins")
	}
}

func TestOpenSQLitePathRefused(t *testing.T) {
	t.Chdir(t.TempDir())
	for path, want := range map[string]string{"": "empty", ":memory:": "MemoryStore", "a\x00.bak": "invalid"} {
		if _, err := sqlite.Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("OpenSQLite(%q): %v, want an error with %q", path, err, want)
		}
	}
	files, err := os.ReadDir(".")
	must(t, err)
	if len(files) > 0 {
		t.Errorf("OpenSQLite created %v", files)
	}
}

// Two slashes at the start are part of a path, and no host in a URL.
func TestOpenSQLiteTwoSlashes(t *testing.T) {
	path := sqliteFile(t)
	s, _ := newSQLite(t, "/"+path)
	inserted(t, s)
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file is not there: %v", err)
	}
}

func TestOpenSQLiteFileMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	path := sqliteFile(t)
	s, _ := newSQLite(t, path)
	inserted(t, s)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		must(t, err)
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("the mode of %s is %o, want 600", filepath.Base(path+suffix), mode)
		}
	}
}

// On a full disk a write is an error and what was written stays. There is no
// half of a rotation.
func TestSQLiteDiskFull(t *testing.T) {
	s, db := newSQLite(t, sqliteFile(t))
	db.SetMaxOpenConns(1) // max_page_count is per connection
	old := inserted(t, s)
	execute(t, db, "PRAGMA max_page_count = 60")
	var kept []*auth.Record
	for {
		r := newRecord()
		if err := s.Insert(t.Context(), r.Clone()); err != nil {
			if errors.Is(err, keyring.ErrExists) {
				t.Fatal(err)
			}
			break
		}
		if kept = append(kept, r); len(kept) > 10000 {
			t.Fatal("the disk does not get full")
		}
	}
	next, successor := rotated(old)
	successor.Metadata = map[string]string{"k": strings.Repeat("v", 300_000)}
	if err := s.Update(t.Context(), next.Clone(), successor.Clone()); err == nil {
		t.Error("Update with a successor succeeds on a full disk")
	}
	execute(t, db, "PRAGMA max_page_count = 100000")
	wantStored(t, s, old)
	for _, r := range kept {
		wantStored(t, s, r)
	}
	must(t, s.Update(t.Context(), next.Clone(), successor.Clone()))
	wantStored(t, s, next)
	wantStored(t, s, successor)
}

func TestSQLiteReadOnly(t *testing.T) {
	path := sqliteFile(t)
	writable, _ := newSQLite(t, path)
	r := inserted(t, writable)
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(1000)&_pragma=foreign_keys(1)")
	must(t, err)
	defer db.Close()
	s, err := sqlite.New(db, &onFile)
	must(t, err)
	ctx := t.Context()
	next, successor := rotated(r)
	for what, err := range map[string]error{
		"Insert":                s.Insert(ctx, newRecord()),
		"Update":                s.Update(ctx, revoked(r), nil),
		"Update with successor": s.Update(ctx, next, successor),
		"Delete":                s.Delete(ctx, r.ID, "somebody"),
		"Touch":                 s.Touch(ctx, map[string]time.Time{r.ID: time.Now()}),
	} {
		if err == nil {
			t.Errorf("%s succeeds in a read-only database", what)
		}
		for _, sentinel := range []error{auth.ErrNotFound, keyring.ErrExists, keyring.ErrConflict} {
			if errors.Is(err, sentinel) {
				t.Errorf("%s: %v, want an error that does not match %q", what, err, sentinel)
			}
		}
	}
	wantStored(t, s, r)
	if err := s.Delete(ctx, "unknown", "somebody"); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("Delete of an unknown key: %v, want ErrNotFound", err)
	}
}

// While another process holds the write lock, lookups are answered, and a
// writer waits until its client leaves or the lock is free.
func TestSQLiteLockedByAnother(t *testing.T) {
	path := sqliteFile(t)
	s, db := newSQLite(t, path)
	other := openSQLite(t, path)
	r := inserted(t, s)
	tx, err := other.Begin()
	must(t, err)
	defer tx.Rollback()
	execute(t, tx, "UPDATE api_keys SET revoked_at = 1")
	wantStored(t, s, r) // what is not committed is not seen

	// The connection in use is that of the Insert, which waits for the lock.
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Insert(ctx, newRecord()) }()
	await(t, "Insert to begin", func() bool { return db.Stats().InUse > 0 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Insert of a client that leaves: %v, want context.Canceled", err)
	}

	inserting := newRecord()
	go func() { done <- s.Insert(t.Context(), inserting.Clone()) }()
	await(t, "Insert to begin", func() bool { return db.Stats().InUse > 0 })
	must(t, tx.Rollback())
	if err := <-done; err != nil {
		t.Errorf("Insert after another has written: %v", err)
	}
	wantStored(t, s, inserting)
}

// Writers of one process take turns, also those of several pools. None waits in
// SQLite, whose busy_timeout is 1 millisecond here. A writer whose client leaves
// gives up its turn.
func TestSQLiteWritersTakeTurns(t *testing.T) {
	path := sqliteFile(t)
	newSQLite(t, path)
	var stores []store
	for range 3 {
		db, err := sql.Open("sqlite", "file:"+path+
			"?_pragma=busy_timeout(1)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_txlock=immediate")
		must(t, err)
		defer db.Close()
		s, err := sqlite.New(db, &onFile)
		must(t, err)
		stores = append(stores, s)
	}
	var wg sync.WaitGroup
	for _, s := range stores {
		valid := inserted(t, s)
		for range 3 {
			wg.Go(func() {
				for range 15 {
					old := inserted(t, s)
					next, successor := rotated(old)
					if err := s.Update(t.Context(), next, successor); err != nil {
						t.Errorf("Update: %v", err)
					}
					if err := s.Touch(t.Context(), map[string]time.Time{old.ID: time.Now(), valid.ID: time.Now()}); err != nil {
						t.Errorf("Touch: %v", err)
					}
					gone, cancel := context.WithCancel(t.Context())
					cancel()
					if err := s.Insert(gone, newRecord()); !errors.Is(err, context.Canceled) {
						t.Errorf("Insert of a client that has left: %v, want context.Canceled", err)
					}
				}
			})
			wg.Go(func() {
				for range 100 {
					if _, err := s.Lookup(t.Context(), valid.Hash); err != nil {
						t.Errorf("Lookup: %v", err)
					}
				}
			})
		}
	}
	wg.Wait()
	wantWholeRotations(t, stores[0])
}

// crashEnv names the variable that makes the test binary a process that ends in
// the middle of a rotation.
const crashEnv = "SQLSTORE_TEST_CRASH"

// crashInRotation rotates the only key in the file. The second write ends the
// process.
func crashInRotation(path string) {
	err := modernc.RegisterFunction("crash", &modernc.FunctionImpl{
		Scalar: func(*modernc.FunctionContext, []driver.Value) (driver.Value, error) { os.Exit(42); return nil, nil },
	})
	db, err2 := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+
		"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_pragma=trusted_schema(1)")
	s, err3 := sqlite.New(db, nil)
	if err := errors.Join(err, err2, err3); err != nil {
		panic(err)
	}
	page, err := s.List(context.Background(), keyring.Query{Limit: 1})
	if err != nil {
		panic(err)
	}
	next, successor := rotated(page[0])
	successor.Hash = auth.Hash{1}
	panic(s.Update(context.Background(), next, successor))
}

func TestSQLiteCrashInRotation(t *testing.T) {
	path := sqliteFile(t)
	s, db := newSQLite(t, path)
	old := inserted(t, s)
	execute(t, db, "CREATE TRIGGER boom AFTER INSERT ON api_keys BEGIN SELECT crash(); END")
	exe, err := os.Executable()
	must(t, err)
	child := exec.Command(exe)
	child.Env = append(os.Environ(), crashEnv+"="+path)
	out, err := child.CombinedOutput()
	if code := child.ProcessState.ExitCode(); code != 42 {
		t.Fatalf("the process ended with %d, want 42: %v\n%s", code, err, out)
	}
	execute(t, db, "DROP TRIGGER boom")
	wantStored(t, s, old)
	wantMissing(t, s, auth.Hash{1})
	next, successor := rotated(old)
	must(t, s.Update(t.Context(), next.Clone(), successor.Clone()))
	wantStored(t, s, next)
	wantStored(t, s, successor)
}

// What SQL changes is reported, whether through the *sql.DB of the Store or by
// another process.
func TestSQLiteWatchForeignChanges(t *testing.T) {
	path := sqliteFile(t)
	s, own := newSQLite(t, path)
	w := watch(t, s)
	for name, db := range map[string]*sql.DB{"the same *sql.DB": own, "another": openSQLite(t, path)} {
		hash, other := newRecord().Hash, newRecord().Hash
		for _, test := range []struct {
			query string
			arg   any
			want  []auth.Hash
		}{
			{"INSERT INTO api_keys (id, hash) VALUES ('foreign', $1)", hash[:], nil},
			{"UPDATE api_keys SET revoked_at = 1 WHERE hash = $1", hash[:], []auth.Hash{hash}},
			{"UPDATE api_keys SET hash = $1 WHERE id = 'foreign'", other[:], []auth.Hash{hash, other}},
			{"UPDATE api_keys SET last_used_at = 1 WHERE hash = $1", other[:], nil},
			{"INSERT OR REPLACE INTO api_keys (id, hash) VALUES ('foreign', $1)", hash[:], nil},
			{"DELETE FROM api_keys WHERE hash = $1", hash[:], []auth.Hash{hash}},
		} {
			execute(t, db, test.query, test.arg)
			if strings.HasPrefix(test.query, "INSERT") { // perhaps it replaced another row
				w.expect(lost)
				w.expect(started)
			}
			for _, hash := range test.want {
				if got := w.next(); got != change(hash) {
					t.Errorf("%s: %s: reported %v %v, want %v", name, test.query, got, got.Hash.String(), hash.String())
				}
			}
		}
	}
}

// All copies are discarded if events are missing, and nothing is promised while
// nothing records changes.
func TestSQLiteWatchGap(t *testing.T) {
	path := sqliteFile(t)
	s, db := newSQLite(t, path)
	inserted(t, s)
	w := watch(t, s)
	tx, err := db.Begin()
	must(t, err)
	execute(t, tx, "UPDATE api_keys SET name = 'other'")
	execute(t, tx, "DELETE FROM api_keys_events")
	must(t, tx.Commit())
	w.expect(lost)
	w.expect(started)

	execute(t, db, "DROP TRIGGER api_keys_revise")
	w.expect(lost)
	execute(t, db, "DELETE FROM api_keys_goose WHERE version_id > 0; DROP TABLE api_keys; DROP TABLE api_keys_events; "+
		"DROP TABLE api_keys_actor")
	must(t, s.Migrate(t.Context()))
	w.expect(started)
	inserted(t, s)
	execute(t, db, "UPDATE api_keys SET name = 'other'")
	for w.next().Kind != auth.RecordChanged {
	}
}

// If the file is replaced, the Store still uses the old one. Nothing is promised
// then.
func TestSQLiteWatchReplacedFile(t *testing.T) {
	path := sqliteFile(t)
	s, _ := newSQLite(t, path)
	other := sqliteFile(t)
	newSQLite(t, other)
	w := watch(t, s)
	must(t, os.Rename(other, path))
	w.expect(lost)
	again, err := sqlite.New(openSQLite(t, path), &onFile)
	must(t, err)
	watch(t, again).end() // one that uses the new file
	if got := w.all(); len(got) > 0 {
		t.Errorf("reported %v, want nothing", got)
	}
}
