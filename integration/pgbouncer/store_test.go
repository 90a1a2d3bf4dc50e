package pgbouncer_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestStore(t *testing.T) {
	for _, mode := range []string{"transaction", "session"} {
		t.Run(mode, func(t *testing.T) {
			dsn := pgtest.DSN(t)
			b := startBouncer(t, dsn, mode)
			direct, db := open(t, dsn), open(t, b.url(dsn))
			if mode == "session" { // a client keeps a connection to the server
				db.SetMaxOpenConns(maxServers)
			}
			watchConfig, err := pgx.ParseConfig(dsn)
			must(t, err)
			tables := 0
			authtest.TestStoreWith(t, func(t *testing.T) keyring.Store {
				tables++
				opts := &postgres.Options{Table: fmt.Sprint("keys_", tables), Logger: quiet, WatchConfig: watchConfig,
					HeartbeatInterval: time.Hour, HeartbeatTimeout: patience}
				migrate(t, direct, opts)
				s, err := postgres.New(db, opts)
				must(t, err)
				return s
			}, nil)
		})
	}
}

// setUp returns a migrated Store through a PgBouncer in transaction mode, and
// its *sql.DB.
func setUp(t *testing.T, opts postgres.Options) (*postgres.Store, *sql.DB) {
	t.Helper()
	dsn := pgtest.DSN(t)
	b := startBouncer(t, dsn, "transaction")
	migrate(t, open(t, dsn), nil)
	return newStore(t, b, dsn, opts)
}

// backends returns how many connections to the server answer n queries that run
// at the same time.
func backends(t *testing.T, db *sql.DB, n int) int {
	t.Helper()
	var mu sync.Mutex
	seen := map[int]bool{}
	var queries sync.WaitGroup
	for range n {
		queries.Go(func() {
			var pid int
			if err := db.QueryRow("SELECT pg_backend_pid()").Scan(&pid); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			seen[pid] = true
		})
	}
	queries.Wait()
	return len(seen)
}

func TestParallelLookups(t *testing.T) {
	const clients = 50
	s, db := setUp(t, postgres.Options{MaxLookups: clients})
	if n := backends(t, db, 4*clients); n > maxServers {
		t.Fatalf("%d connections to the server are in use, more than the %d that PgBouncer shares", n, maxServers)
	}
	keys := keyring.NewManager(s, nil).Unconfined("test")
	var lookups sync.WaitGroup
	for i := range clients {
		r, key, err := keys.Create(t.Context(), keyring.Spec{Name: fmt.Sprint("key ", i), Owner: "org_1"})
		must(t, err)
		hash := auth.BLAKE2b(nil)(key.Reveal())
		lookups.Go(func() {
			for range 20 {
				got, err := s.Lookup(context.Background(), hash)
				if err != nil {
					t.Errorf("Lookup: %v", err)
					return
				}
				if got.ID != r.ID {
					t.Errorf("Lookup of the hash of %s returns %s", r.ID, got.ID)
				}
			}
		})
	}
	lookups.Wait()
}

// TestTouch writes the last uses of many keys in one statement.
func TestTouch(t *testing.T) {
	s, _ := setUp(t, postgres.Options{})
	keys := keyring.NewManager(s, &keyring.Options{MaxKeys: 1000}).Unconfined("test")
	used := time.Now().UTC().Truncate(time.Second)
	uses := map[string]time.Time{}
	for range 500 {
		r, _, err := keys.Create(t.Context(), keyring.Spec{Name: "key", Owner: "org_1"})
		must(t, err)
		uses[r.ID] = used
	}
	must(t, s.Touch(t.Context(), uses))
	for r, err := range keys.List(t.Context(), keyring.Filter{}) {
		must(t, err)
		if !r.LastUsedAt.Equal(used) {
			t.Fatalf("LastUsedAt is %v, want %v", r.LastUsedAt, used)
		}
		delete(uses, r.ID)
	}
	if len(uses) > 0 {
		t.Errorf("%d keys are missing in the list", len(uses))
	}
}

// TestActors interleaves changes by the library with changes by SQL on the same
// few connections to the server. Each actor must come out as its own, though
// the library names it in a setting of the connection.
func TestActors(t *testing.T) {
	s, db := setUp(t, postgres.Options{})
	manager := keyring.NewManager(s, nil)
	var role string
	must(t, db.QueryRow("SELECT session_user").Scan(&role))
	raw := "sql:" + role

	var clients sync.WaitGroup
	for i := range 12 {
		name := fmt.Sprint("actor ", i)
		keys := manager.For(keyring.Actor{Name: name, Owner: fmt.Sprint("org_", i), Scopes: auth.Scopes{"*"}})
		clients.Go(func() {
			for range 5 {
				if err := useKeys(keys, db, name, raw); err != nil {
					t.Error(err)
				}
			}
		})
	}
	clients.Wait()
}

// useKeys creates two keys, changes them by keys and by SQL, and deletes them.
// It returns an error if an event names another actor than the one who made the
// change.
func useKeys(keys *keyring.Keyring, db *sql.DB, name, raw string) error {
	ctx := context.Background()
	var id, successor string
	wantOld, wantNew := []string{}, []string{}
	sqlStep := func(id *string, query string) func() error {
		return func() error { _, err := db.ExecContext(ctx, query, *id); return err }
	}
	for _, step := range []struct {
		old, new string // who the change of the key, and of its successor, is by
		run      func() error
	}{
		{name, "", func() error {
			r, _, err := keys.Create(ctx, keyring.Spec{Name: "key", Scopes: auth.Scopes{"documents.read"}})
			id = r.ID
			return err
		}},
		{raw, "", sqlStep(&id, "UPDATE api_keys SET name = 'by SQL' WHERE id = $1")},
		{name, "", func() error {
			_, err := keys.Update(ctx, id, func(r *auth.Record) error { r.Name = "by " + name; return nil })
			return err
		}},
		{"", "", func() error { return rollBack(ctx, db, id) }},
		{raw, "", sqlStep(&id, "UPDATE api_keys SET disabled_at = now() WHERE id = $1")},
		{name, "", func() error { return keys.Enable(ctx, id) }},
		{name, name, func() error {
			r, _, err := keys.Rotate(ctx, id, time.Hour)
			successor = r.ID
			return err
		}},
		{"", raw, sqlStep(&successor, "UPDATE api_keys SET revoked_at = now() WHERE id = $1")},
		{name, "", func() error { return keys.Delete(ctx, id) }},
		{"", raw, sqlStep(&successor, "DELETE FROM api_keys WHERE id = $1")},
	} {
		if err := step.run(); err != nil {
			return err
		}
		if step.old != "" {
			wantOld = append(wantOld, step.old)
		}
		if step.new != "" {
			wantNew = append(wantNew, step.new)
		}
	}
	return errors.Join(checkActors(ctx, keys, id, wantOld), checkActors(ctx, keys, successor, wantNew))
}

// rollBack begins a change in the name of somebody, as the library does, and
// gives up.
func rollBack(ctx context.Context, db *sql.DB, id string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, "SET LOCAL insigner.by = 'by:nobody'"); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE api_keys SET name = 'by nobody', revision = revision + 1 WHERE id = $1", id)
	return err
}

// checkActors returns an error unless the events of the key are by these
// actors, oldest first.
func checkActors(ctx context.Context, keys *keyring.Keyring, id string, want []string) error {
	var by []string
	for e, err := range keys.Events(ctx, keyring.EventFilter{KeyID: id}) {
		if err != nil {
			return err
		}
		by = append(by, e.By)
	}
	slices.Reverse(by)
	if !slices.Equal(by, want) {
		return fmt.Errorf("the events of a key are by %q, want %q", by, want)
	}
	return nil
}

// TestDefaultMode shows why the documentation names a mode of executing
// queries. With the default of pgx, one client prepares a statement on a
// connection to the server, and another one on the same connection.
func TestDefaultMode(t *testing.T) {
	dsn := pgtest.DSN(t)
	b := startBouncer(t, dsn, "transaction")
	migrate(t, open(t, dsn), nil)
	// A PgBouncer from 1.21 on can keep track of statements.
	_ = b.admin("SET max_prepared_statements = 0")
	s, err := postgres.New(open(t, b.urlWith(dsn, "")), &postgres.Options{Logger: quiet})
	must(t, err)
	_, hash := create(t, keyring.NewManager(s, nil).Unconfined("test"))

	var lookups sync.WaitGroup
	failed := make(chan error, 1)
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	for range 20 {
		lookups.Go(func() {
			for ctx.Err() == nil {
				if _, err := s.Lookup(ctx, hash); err != nil {
					select {
					case failed <- err:
					default:
					}
					stop()
				}
			}
		})
	}
	lookups.Wait()
	e, ok := errors.AsType[*pgconn.PgError](<-failed)
	if !ok || e.Code != "42P05" && e.Code != "26000" {
		t.Errorf("with the default of pgx the first lookup that fails does so with %v, "+
			"want SQLSTATE 42P05 or 26000 about a prepared statement", e)
	}
}

// TestStatementMode shows what works in pool_mode=statement: all but rotations.
func TestStatementMode(t *testing.T) {
	dsn := pgtest.DSN(t)
	b := startBouncer(t, dsn, "statement")
	migrate(t, open(t, dsn), nil)
	s, _ := newStore(t, b, dsn, postgres.Options{})
	keys := keyring.NewManager(s, nil).Unconfined("test")
	r, key, err := keys.Create(t.Context(), keyring.Spec{Name: "key", Owner: "org_1"})
	must(t, err)
	_, _, err = keys.Rotate(t.Context(), r.ID, time.Hour)
	if err == nil || !strings.Contains(err.Error(), "transaction blocks not allowed in statement pooling mode") {
		t.Errorf("Rotate: got error %v, want one that names the mode of PgBouncer", err)
	}
	_, err = keys.Update(t.Context(), r.ID, func(r *auth.Record) error { r.Name = "another"; return nil })
	must(t, err)
	must(t, s.Touch(t.Context(), map[string]time.Time{r.ID: time.Now()}))
	must(t, keys.Revoke(t.Context(), r.ID))
	got, err := s.Lookup(t.Context(), auth.BLAKE2b(nil)(key.Reveal()))
	must(t, err)
	if got.RevokedAt.IsZero() {
		t.Error("after Revoke, RevokedAt is zero")
	}
	must(t, keys.Delete(t.Context(), r.ID))
	must(t, checkActors(t.Context(), keys, r.ID, []string{"staff:test", "staff:test", "staff:test", "staff:test"}))
}
