package sqlstore_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/insigner/auth/sqlstore/sqlite"
	_ "github.com/jackc/pgx/v5/stdlib"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		crashInRotation(path)
	}
	os.Exit(pgtest.Main(m))
}

// patience is how long a test waits for what must happen before it fails. No
// test passes because it is over.
const patience = time.Minute

var quiet = slog.New(slog.DiscardHandler)

// quick makes Watch notice a silent connection within half a second.
var quick = postgres.Options{
	Logger:            quiet,
	HeartbeatInterval: 200 * time.Millisecond,
	HeartbeatTimeout:  300 * time.Millisecond,
}

// steady makes Watch keep a connection under load. Its heartbeat ends no test.
var steady = postgres.Options{Logger: quiet, HeartbeatInterval: time.Hour, HeartbeatTimeout: patience}

// A store is what both packages have.
type store interface {
	keyring.Store
	auth.Watcher
	Migrate(ctx context.Context) error
	TouchOlder(ctx context.Context, lastUsed map[string]time.Time, age time.Duration) error
	InsertAll(ctx context.Context, records iter.Seq2[*auth.Record, error], opts *sqlstore.InsertAllOptions) (int64, error)
	Close() error
}

// makePostgres and makeSQLite return a Store in a database, without Migrate.
func makePostgres(db *sql.DB, opts *postgres.Options) (store, error) {
	s, err := postgres.New(db, opts)
	if err != nil {
		return nil, err // not a nil *postgres.Store
	}
	return s, nil
}

func makeSQLite(db *sql.DB, opts *postgres.Options) (store, error) {
	s, err := sqlite.New(db, &sqlite.Options{Table: opts.Table, Logger: opts.Logger})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// onFile are the options of a Store on SQLite.
var onFile = sqlite.Options{Logger: quiet}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await waits until f returns true.
func await(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// execute executes a statement, as psql would.
func execute(t testing.TB, db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(context.Background(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func openPostgres(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	must(t, err)
	db.SetMaxIdleConns(16)
	t.Cleanup(func() { db.Close() })
	return db
}

// newPostgres returns a migrated Store with its own pool. If opts is nil, it is
// steady.
func newPostgres(t testing.TB, dsn string, opts *postgres.Options) store {
	t.Helper()
	if opts == nil {
		opts = &steady
	}
	s, err := postgres.New(openPostgres(t, dsn), opts)
	must(t, err)
	must(t, s.Migrate(t.Context()))
	return s
}

func openSQLite(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sqlite.Open(path)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

// newSQLite returns a migrated Store with its own pool, and that pool.
func newSQLite(t testing.TB, path string) (store, *sql.DB) {
	t.Helper()
	db := openSQLite(t, path)
	s, err := sqlite.New(db, &onFile)
	must(t, err)
	must(t, s.Migrate(t.Context()))
	return s, db
}

// sqliteFile returns the path of a file that does not exist yet.
func sqliteFile(t testing.TB) string { return filepath.Join(t.TempDir(), "keys.db") }

// openDeferred opens an SQLite database with the required settings only.
func openDeferred(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", requiredSettings(path))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func requiredSettings(path string) string {
	return "file:" + path + "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)"
}

// A database is one that the tests run on.
type database struct {
	name string
	open func(t testing.TB) (store, *sql.DB) // the *sql.DB is for psql's part
}

var databases = []database{
	{"postgres", func(t testing.TB) (store, *sql.DB) {
		dsn := pgtest.DSN(t)
		return newPostgres(t, dsn, nil), openPostgres(t, dsn)
	}},
	{"sqlite", func(t testing.TB) (store, *sql.DB) {
		return newSQLite(t, sqliteFile(t))
	}},
}

// onEach runs f on each database.
func onEach(t *testing.T, f func(t *testing.T, s store, db *sql.DB)) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			s, db := d.open(t)
			f(t, s, db)
		})
	}
}

// onPostgres reports whether the test runs on PostgreSQL, in onEach.
func onPostgres(t *testing.T) bool {
	for part := range strings.SplitSeq(t.Name(), "/") {
		if part == "postgres" {
			return true
		}
	}
	return false
}

// newRecord returns a record with its own ID and hash.
func newRecord() *auth.Record {
	now := time.Now().UTC().Truncate(time.Microsecond)
	r := &auth.Record{
		ID:        "key_" + strings.ToLower(rand.Text()),
		Name:      "test",
		Owner:     "org_1",
		Scopes:    auth.Scopes{"documents.read"},
		CreatedAt: now,
		CreatedBy: "somebody",
		UpdatedAt: now,
		UpdatedBy: "somebody",
		Revision:  1,
	}
	r.Chain = r.ID
	rand.Read(r.Hash[:])
	return r
}

// inserted returns a new record that is in the store.
func inserted(t testing.TB, s keyring.Store) *auth.Record {
	t.Helper()
	r := newRecord()
	must(t, s.Insert(t.Context(), r.Clone()))
	return r
}

// changed returns the next revision of r, changed by f.
func changed(r *auth.Record, f func(r *auth.Record)) *auth.Record {
	next := r.Clone()
	next.Revision++
	f(next)
	return next
}

func revoked(r *auth.Record) *auth.Record {
	return changed(r, func(r *auth.Record) { r.RevokedAt = time.Now().UTC().Truncate(time.Microsecond) })
}

// rotated returns the next revision of r, and its successor.
func rotated(r *auth.Record) (next, successor *auth.Record) {
	successor = newRecord()
	successor.RotatedFrom, successor.Chain = r.ID, r.Chain
	next = changed(r, func(r *auth.Record) {
		r.RotatedTo = successor.ID
		r.ExpiresAt = time.Now().UTC().Add(time.Hour).Truncate(time.Microsecond)
	})
	return next, successor
}

// fields shows all of a record, which its own methods do not.
func fields(r *auth.Record) any {
	if r == nil {
		return nil
	}
	type all auth.Record
	return all(*r)
}

// wantStored fails unless the store holds exactly r.
func wantStored(t testing.TB, s keyring.Store, r *auth.Record) {
	t.Helper()
	got, err := s.Get(context.Background(), r.ID)
	if err != nil {
		t.Errorf("Get(%q): %v", r.ID, err)
		return
	}
	if got, want := fmt.Sprintf("%+v", fields(got)), fmt.Sprintf("%+v", fields(r)); got != want {
		t.Errorf("stored\n %s\nwant\n %s", got, want)
	}
}

// wantMissing fails unless the store holds no record with that hash.
func wantMissing(t testing.TB, s keyring.Store, hash auth.Hash) {
	t.Helper()
	if r, err := s.Lookup(context.Background(), hash); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("Lookup of a record that must not be there: %v, %v", r, err)
	}
}

// wantWholeRotations fails if a rotation happened only in part.
func wantWholeRotations(t testing.TB, s keyring.Store) {
	t.Helper()
	all := make(map[string]*auth.Record)
	for after := (keyring.Position{}); ; {
		page, err := s.List(context.Background(), keyring.Query{After: after, Limit: 500})
		must(t, err)
		for _, r := range page {
			all[r.ID], after = r, keyring.PositionOf(r)
		}
		if len(page) < 500 {
			break
		}
	}
	for _, r := range all {
		if r.RotatedFrom != "" {
			if old := all[r.RotatedFrom]; old == nil || old.RotatedTo != r.ID {
				t.Errorf("%s replaced %s, which is %+v", r.ID, r.RotatedFrom, fields(old))
			}
		}
		if r.RotatedTo != "" {
			if next := all[r.RotatedTo]; next == nil || next.RotatedFrom != r.ID {
				t.Errorf("%s was replaced by %s, which is %+v", r.ID, r.RotatedTo, fields(next))
			}
		}
	}
}

// A watching collects what a Watch reports.
type watching struct {
	t       testing.TB
	changes chan auth.Change
	stop    context.CancelFunc
	ended   chan struct{}
}

var (
	started = auth.Change{Kind: auth.WatchStarted}
	lost    = auth.Change{Kind: auth.WatchLost}
)

func change(hash auth.Hash) auth.Change { return auth.Change{Kind: auth.RecordChanged, Hash: hash} }

// watch returns when Watch has reported that it started.
func watch(t testing.TB, s auth.Watcher) *watching {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watching{t, make(chan auth.Change, 10000), cancel, make(chan struct{})}
	go func() {
		defer close(w.ended)
		if err := s.Watch(ctx, func(c auth.Change) { w.changes <- c }); !errors.Is(err, context.Canceled) {
			t.Errorf("Watch returned %v, want context.Canceled", err)
		}
	}()
	t.Cleanup(w.end)
	w.expect(started)
	return w
}

// end ends the Watch and waits until it has returned.
func (w *watching) end() {
	w.stop()
	select {
	case <-w.ended:
	case <-time.After(patience):
		w.t.Error("Watch does not return after its context is done")
	}
}

// next returns the next change.
func (w *watching) next() auth.Change {
	w.t.Helper()
	select {
	case c := <-w.changes:
		return c
	case <-time.After(patience):
		w.t.Fatal("waited in vain for a change")
		return auth.Change{}
	}
}

// expect reads until each of the changes was reported, in any order and any
// number of times. It fails if another change is reported.
func (w *watching) expect(want ...auth.Change) {
	w.t.Helper()
	for missing := slices.Clone(want); len(missing) > 0; {
		c := w.next()
		if !slices.Contains(want, c) {
			w.t.Fatalf("reported %v, want %v", c, want)
		}
		missing = slices.DeleteFunc(missing, func(m auth.Change) bool { return m == c })
	}
}

// all returns what was reported and not read. It does not wait.
func (w *watching) all() (changes []auth.Change) {
	for len(w.changes) > 0 {
		changes = append(changes, <-w.changes)
	}
	return changes
}

// logs is a slog.Handler that keeps what is logged.
type logs struct {
	mu      sync.Mutex
	records []slog.Record
}

func (l *logs) Enabled(context.Context, slog.Level) bool { return true }
func (l *logs) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logs) WithGroup(string) slog.Handler            { return l }

func (l *logs) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r)
	return nil
}

// count returns how many lines have an error with that text.
func (l *logs) count(text string) (n int) {
	for _, err := range l.values("error") {
		if strings.Contains(err.String(), text) {
			n++
		}
	}
	return n
}

// values returns the attributes with that key.
func (l *logs) values(key string) (values []slog.Value) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.records {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == key {
				values = append(values, a.Value)
			}
			return true
		})
	}
	return values
}

// A proxy passes bytes on until it falls silent. Then it keeps connections open
// and drops what arrives.
type proxy struct {
	address string

	mu     sync.Mutex
	silent chan struct{} // closed while it is silent
	falls  bool          // silent when left is 0
	left   int           // how many more messages the client may send
}

func newProxy(t testing.TB, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{address: l.Addr().String(), silent: make(chan struct{})}
	var conns sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); l.Close(); conns.Wait() })
	conns.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			context.AfterFunc(ctx, func() { client.Close(); server.Close() })
			conns.Go(func() { p.copy(client, server, false) })
			conns.Go(func() { p.copy(server, client, true) })
		}
	})
	return p
}

// silence makes it silent, or lets new connections pass again.
func (p *proxy) silence(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isSilent() == on {
		return
	}
	if on {
		close(p.silent)
	} else {
		p.silent = make(chan struct{})
	}
}

// fallSilent makes it silent once the client has sent n more messages. The
// channel that it returns is closed then.
func (p *proxy) fallSilent(n int) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.falls, p.left = true, n
	return p.silent
}

func (p *proxy) isSilent() bool {
	select {
	case <-p.silent:
		return true
	default:
		return false
	}
}

func (p *proxy) copy(dst, src net.Conn, fromClient bool) {
	muted := false
	buf := make([]byte, 1<<16)
	for {
		n, err := src.Read(buf)
		p.mu.Lock()
		if fromClient && p.falls && err == nil {
			if p.left == 0 && !p.isSilent() {
				close(p.silent)
			}
			p.left--
		}
		muted = muted || p.isSilent() // for good, since the dropped bytes are missing
		p.mu.Unlock()
		if muted && err == nil {
			continue
		}
		if !muted {
			dst.Write(buf[:n])
		}
		if err != nil {
			if !muted || !errors.Is(err, io.EOF) {
				dst.Close()
			}
			return
		}
	}
}

// A wrappedDriver is a driver.Connector around another driver. It keeps the
// last query.
type wrappedDriver struct {
	inner  driver.Driver
	name   string // that inner opens
	opaque bool   // its connections do not show what they wrap

	mu    sync.Mutex
	query string
	args  []any
}

func (w *wrappedDriver) Driver() driver.Driver { return w }

func (w *wrappedDriver) Connect(context.Context) (driver.Conn, error) { return w.Open(w.name) }

func (w *wrappedDriver) Open(name string) (driver.Conn, error) {
	c, err := w.inner.Open(name)
	if w.opaque {
		return opaqueConn{wrappedConn{c, w}}, err
	}
	return wrappedConn{c, w}, err
}

// last returns the last query and its parameters.
func (w *wrappedDriver) last() (string, []any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.query, w.args
}

type (
	hidden     driver.Conn
	opaqueConn struct{ hidden }
)

type wrappedConn struct {
	driver.Conn
	driver *wrappedDriver
}

func (c wrappedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.driver.mu.Lock()
	c.driver.query, c.driver.args = query, nil
	for _, a := range args {
		c.driver.args = append(c.driver.args, a.Value)
	}
	c.driver.mu.Unlock()
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}
