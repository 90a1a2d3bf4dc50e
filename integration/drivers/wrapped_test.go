package drivers_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/XSAM/otelsql"
	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/ngrok/sqlmw"
	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"
)

// wrappers open a *sql.DB whose connections lead to those of pgx.
var wrappers = []struct {
	name   string
	hidden bool // New cannot follow them, so it needs a WatchConfig
	suite  bool // run the conformance suite too
	open   func(dsn string) (*sql.DB, error)
}{
	{"otelsql", false, true, func(dsn string) (*sql.DB, error) { return otelsql.Open("pgx", dsn) }},
	{"otelsql with a connector", false, false, func(dsn string) (*sql.DB, error) {
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		return otelsql.OpenDB(stdlib.GetConnector(*config)), nil
	}},
	{"GORM", false, false, func(dsn string) (*sql.DB, error) {
		db, err := gorm.Open(gormpostgres.Open(dsn), nil)
		if err != nil {
			return nil, err
		}
		return db.DB()
	}},
	{"embedded connection", false, true, func(dsn string) (*sql.DB, error) {
		return openWrapped(dsn, func(c *stdlib.Conn) driver.Conn { return tracedConn{c, c} }), nil
	}},
	{"embedded connection with few methods", false, true, func(dsn string) (*sql.DB, error) {
		return openWrapped(dsn, func(c *stdlib.Conn) driver.Conn { return commentedConn{c} }), nil
	}},
	{"sqlmw", true, false, func(dsn string) (*sql.DB, error) {
		d, err := sql.Open("pgx", dsn)
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return sql.OpenDB(&connector{dsn, sqlmw.Driver(d.Driver(), new(sqlmw.NullInterceptor))}), nil
	}},
}

func TestWrapped(t *testing.T) {
	for _, w := range wrappers {
		t.Run(w.name, func(t *testing.T) {
			dsn := pgtest.DSN(t)
			db, err := w.open(dsn)
			must(t, err)
			t.Cleanup(func() { db.Close() })
			opts := postgres.Options{Logger: quiet, HeartbeatInterval: time.Hour, HeartbeatTimeout: patience}
			if w.hidden {
				if _, err := postgres.New(db, &opts); err == nil || !strings.Contains(err.Error(), "set Options.WatchConfig") {
					t.Errorf("postgres.New without WatchConfig: got error %v, want one that says to set it", err)
				}
				opts.WatchConfig, err = pgx.ParseConfig(dsn)
				must(t, err)
			}
			tables := 0
			newStore := func(t *testing.T) *postgres.Store {
				tables++
				opts.Table = fmt.Sprint("keys_", tables)
				s, err := postgres.New(db, &opts)
				must(t, err)
				t.Cleanup(func() { s.Close() })
				must(t, s.Migrate(t.Context()))
				return s
			}
			if w.suite {
				t.Run("conformance", func(t *testing.T) {
					authtest.TestStore(t, func(t *testing.T) keyring.Store { return newStore(t) })
				})
			}
			t.Run("changes", func(t *testing.T) { checkChanges(t, newStore(t)) })
			t.Run("Watch", func(t *testing.T) { checkWatch(t, newStore(t), db, opts.Table) })
		})
	}
}

// checkChanges checks the methods that need something special of a driver: an
// error of the server, a transaction, a parameter that is a list.
func checkChanges(t *testing.T, s *postgres.Store) {
	t.Helper()
	keys := keyring.NewManager(s, nil).Unconfined("test")
	r, _, err := keys.Create(t.Context(), keyring.Spec{Name: "key", Owner: "org_1"})
	must(t, err)
	if err := s.Insert(t.Context(), &r); !errors.Is(err, keyring.ErrExists) {
		t.Errorf("Insert of a record that is there: got error %v, want ErrExists", err)
	}
	_, _, err = keys.Rotate(t.Context(), r.ID, time.Hour)
	must(t, err)
	used := time.Now().UTC().Truncate(time.Second)
	must(t, s.Touch(t.Context(), map[string]time.Time{r.ID: used}))
	got, err := s.Get(t.Context(), r.ID)
	must(t, err)
	if !got.LastUsedAt.Equal(used) {
		t.Errorf("after Touch, LastUsedAt is %v, want %v", got.LastUsedAt, used)
	}
}

// checkWatch checks that Watch starts, and reports what SQL changes.
func checkWatch(t *testing.T, s *postgres.Store, db *sql.DB, table string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	changes, ended := make(chan auth.Change, 1000), make(chan error, 1)
	go func() { ended <- s.Watch(ctx, func(c auth.Change) { changes <- c }) }()
	defer func() { stop(); <-ended }()
	await := func(want auth.Change) {
		t.Helper()
		for timeout := time.After(patience); ; {
			select {
			case c := <-changes:
				if c == want {
					return
				}
			case <-timeout:
				t.Fatalf("Watch does not report %v", want)
			}
		}
	}
	await(auth.Change{Kind: auth.WatchStarted})
	key := authtest.NewKey(t, s)
	execute(t, db, "UPDATE "+table+" SET disabled_at = now()")
	await(auth.Change{Kind: auth.RecordChanged, Hash: auth.BLAKE2b(nil)(key.Reveal())})
}

// A connector opens connections with a driver.
type connector struct {
	dsn    string
	driver driver.Driver
}

func (c *connector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c *connector) Driver() driver.Driver                        { return c.driver }

// openWrapped opens a *sql.DB with connections of pgx that wrap wraps.
func openWrapped(dsn string, wrap func(*stdlib.Conn) driver.Conn) *sql.DB {
	return sql.OpenDB(&connector{dsn, wrappingDriver{wrap}})
}

type wrappingDriver struct {
	wrap func(*stdlib.Conn) driver.Conn
}

func (d wrappingDriver) Open(dsn string) (driver.Conn, error) {
	c, err := stdlib.GetDefaultDriver().Open(dsn)
	if err != nil {
		return nil, err
	}
	return d.wrap(c.(*stdlib.Conn)), nil
}

// A tracedConn embeds a driver.Conn, and passes everything else on, as that of
// Datadog does.
type tracedConn struct {
	driver.Conn
	inner *stdlib.Conn
}

func (c tracedConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return c.inner.BeginTx(ctx, opts)
}

func (c tracedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	return c.inner.PrepareContext(ctx, query)
}

func (c tracedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.inner.ExecContext(ctx, query, args)
}

func (c tracedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.inner.QueryContext(ctx, query, args)
}

func (c tracedConn) CheckNamedValue(v *driver.NamedValue) error { return c.inner.CheckNamedValue(v) }
func (c tracedConn) ResetSession(ctx context.Context) error     { return c.inner.ResetSession(ctx) }

// A commentedConn passes on only what the wrapper of sqlcommenter does: neither
// BeginTx nor CheckNamedValue.
type commentedConn struct{ driver.Conn }

func (c commentedConn) Raw() driver.Conn { return c.Conn }

func (c commentedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	return c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, comment(query))
}

func (c commentedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, comment(query), args)
}

func (c commentedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, comment(query), args)
}

func comment(query string) string { return strings.TrimSpace(query) + "/*application='test'*/" }
