package sqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/jackc/pgx/v5"
)

// A switchedConnector connects to the first of several databases.
type switchedConnector struct {
	inner driver.Driver
	names []string
}

var switching sync.Mutex

func (c *switchedConnector) Connect(context.Context) (driver.Conn, error) {
	switching.Lock()
	defer switching.Unlock()
	return c.inner.Open(c.names[0])
}

func (c *switchedConnector) Driver() driver.Driver { return c }

func (c *switchedConnector) Open(string) (driver.Conn, error) { return c.Connect(context.Background()) }

// next switches to the next database.
func (c *switchedConnector) next() {
	switching.Lock()
	defer switching.Unlock()
	c.names = c.names[1:]
}

func sessions(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	must(t, db.QueryRow("SELECT sessions FROM pg_stat_database WHERE datname = current_database()").Scan(&n))
	return n
}

// Clients that send made-up keys and hang up cost no connections, and leave half
// of the pool to changes.
func TestLookupHangUp(t *testing.T) {
	dsn := pgtest.DSN(t)
	db, psql := openPostgres(t, dsn), openPostgres(t, dsn)
	const pool = 8
	db.SetMaxOpenConns(pool)
	db.SetMaxIdleConns(pool)
	s, err := postgres.New(db, &steady)
	must(t, err)
	must(t, s.Migrate(t.Context()))
	before := sessions(t, psql)
	var stop atomic.Bool
	var clients sync.WaitGroup
	var hungUp atomic.Int64
	var most atomic.Int64
	for range 100 {
		clients.Go(func() {
			for !stop.Load() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(2000))*time.Microsecond)
				_, err := s.Lookup(ctx, newRecord().Hash)
				if errors.Is(err, context.DeadlineExceeded) {
					hungUp.Add(1)
				} else if !errors.Is(err, auth.ErrNotFound) {
					t.Errorf("Lookup: %v", err)
				}
				cancel()
				if n := int64(db.Stats().InUse); n > most.Load() {
					most.Store(n)
				}
			}
		})
	}
	await(t, "clients that hang up", func() bool { return hungUp.Load() > 5000 })
	if n := most.Load(); n > pool/2 {
		t.Errorf("the lookups use %d connections of %d, want at most half", n, pool)
	}
	r := inserted(t, s)
	must(t, s.Update(t.Context(), revoked(r), nil))
	stop.Store(true)
	clients.Wait()
	await(t, "the statistics of the server", func() bool { return sessions(t, psql) > before })
	if n := sessions(t, psql) - before; n > pool+2 {
		t.Errorf("%d new sessions, want at most those of the pool, %d", n, pool)
	}
}

// A lookup whose client leaves gives its place to another one, at once if it
// waits and within a second if its query runs.
func TestLookupPlaces(t *testing.T) {
	dsn := pgtest.DSN(t)
	db, psql := openPostgres(t, dsn), openPostgres(t, dsn)
	s, err := postgres.New(db, &postgres.Options{Logger: quiet, MaxLookups: 1})
	must(t, err)
	must(t, s.Migrate(t.Context()))
	r := inserted(t, s)
	observer := openPostgres(t, dsn)
	tx, err := psql.Begin()
	must(t, err)
	defer tx.Rollback()
	execute(t, tx, "LOCK TABLE api_keys")
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	gone := make(chan error, 3)
	for range cap(gone) {
		go func() { _, err := s.Lookup(ctx, r.Hash); gone <- err }()
	}
	await(t, "a query that waits", func() bool { return waitingForLock(t, observer) == 1 })
	leave()
	for range cap(gone) {
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("Lookup of a client that left: %v, want context.Canceled", err)
		}
	}
	stays := make(chan error, 1)
	go func() { _, err := s.Lookup(t.Context(), r.Hash); stays <- err }()
	must(t, tx.Rollback())
	if err := <-stays; err != nil {
		t.Errorf("the next lookup: %v", err)
	}
}

// A panic of the driver is on the goroutine that called Lookup.
func TestLookupPanic(t *testing.T) {
	dsn := pgtest.DSN(t)
	newPostgres(t, dsn, nil)
	opts := steady
	db := sql.OpenDB(panicking{})
	defer db.Close()
	opts.MaxLookups = 1
	var err error
	opts.WatchConfig, err = pgx.ParseConfig(dsn)
	must(t, err)
	s, err := postgres.New(db, &opts)
	must(t, err)
	for range 2 { // the place is free again
		func() {
			defer func() {
				if v := recover(); v != "panic of the driver" {
					t.Errorf("recovered %v, want the panic of the driver", v)
				}
			}()
			s.Lookup(t.Context(), auth.Hash{})
		}()
	}
}

// panicking is a driver that cannot connect.
type panicking struct{}

func (panicking) Connect(context.Context) (driver.Conn, error) { panic("panic of the driver") }

func (panicking) Driver() driver.Driver { return panicking{} }

func (panicking) Open(string) (driver.Conn, error) { panic("panic of the driver") }

// The type of a column changes while each connection has prepared its
// statements. No call fails.
func TestColumnTypeChanges(t *testing.T) {
	dsn := pgtest.DSN(t)
	db, psql := openPostgres(t, dsn), openPostgres(t, dsn)
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	s, err := postgres.New(db, &steady)
	must(t, err)
	must(t, s.Migrate(t.Context()))
	r := inserted(t, s)
	use := func() {
		t.Helper()
		var calls sync.WaitGroup
		for range 4 {
			calls.Go(func() {
				_, err := s.Lookup(t.Context(), r.Hash)
				_, err2 := s.Get(t.Context(), r.ID)
				old := newRecord()
				err3 := s.Insert(t.Context(), old.Clone())
				next, successor := rotated(old)
				err4 := s.Update(t.Context(), next, successor)
				if err := errors.Join(err, err2, err3, err4); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
	}
	for _, kind := range []string{"timestamptz(3)", "timestamptz(6)", "timestamptz"} {
		for range 4 {
			use()
		}
		execute(t, psql, "ALTER TABLE api_keys ALTER COLUMN last_used_at TYPE "+kind)
	}
	use()
}

// TouchOlder writes a last use only if the stored one is old enough. So of many
// instances one writes.
func TestTouchOlder(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		at := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
		for _, test := range []struct {
			stored, used time.Time
			age          time.Duration
			writes       bool
		}{
			{time.Time{}, at, time.Minute, true},
			{at, at.Add(time.Minute), time.Minute, false},
			{at, at.Add(time.Minute + time.Microsecond), time.Minute, true},
			{at, at.Add(time.Microsecond), 0, true},
			{at, at, 0, false},
			{at, at.Add(-time.Hour), time.Minute, false},
			{at, at.Add(59 * time.Minute), time.Hour, false},
		} {
			r := newRecord()
			r.LastUsedAt = test.stored
			must(t, s.Insert(t.Context(), r.Clone()))
			must(t, s.TouchOlder(t.Context(), map[string]time.Time{r.ID: test.used}, test.age))
			if test.writes {
				r.LastUsedAt = test.used
			}
			wantStored(t, s, r)
		}
	})
}
