// Package mariadb is a [keyring.Store] over the tables of an application that
// runs on MariaDB. It is an example and a test, not a package to import: copy
// what you need.
//
// It shows that the contract of keyring.Store, and authtest.TestStoreWith, ask
// for nothing that only the databases of module sqlstore can do. This store
// differs from those in all that an application is free to choose:
//
//   - An ID is a UUID in a BINARY(16).
//   - An owner is a row of the application's own table, with a foreign key.
//   - A text is a VARCHAR(255), a list is JSON, a time is a DATETIME(6) in UTC.
//   - Events are written by the store, not by triggers.
//   - It is no auth.Watcher. So a cache sees a revocation after its TTL.
//
// # What to know about MariaDB
//
// A column of text needs a collation that compares bytes, since most others
// take "org_1" and "ORG_1" for one owner. It must be one without padding, such
// as utf8mb4_nopad_bin: utf8mb4_bin takes "org_1" and "org_1 " for one owner.
//
// The type UUID does not fit. MariaDB 10.11 refuses one of 64 UUIDs of version
// 8, which a [keyring.Manager] makes for Spec.Once, and it orders UUIDs in
// another way than their text. BINARY(16) keeps each UUID and orders them as
// their text.
//
// A column of type TEXT holds 64 kB. 256 long scopes take more. JSON is a
// LONGTEXT.
//
// Outside strict mode a text that is too long is cut, and nobody is told.
// [Open] asks for strict mode.
//
// InnoDB ends one of two transactions that wait for each other. The store tries
// that one again.
package mariadb

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// Schema creates the tables.
//
//go:embed schema.sql
var Schema string

// Open opens a database in the way that a [Store] needs. The DSN is one of
// go-sql-driver/mysql.
func Open(dsn string) (*sql.DB, error) {
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	config.ParseTime, config.Loc = true, time.UTC
	config.ClientFoundRows = true // a row that stays the same is counted too
	if config.Params == nil {
		config.Params = make(map[string]string)
	}
	config.Params["sql_mode"] = "'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE'"
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// A Store keeps keys in the tables of [Schema].
type Store struct{ db *sql.DB }

// New returns a Store in a database that [Open] has opened.
func New(db *sql.DB) *Store { return &Store{db} }

// Lookup implements [auth.Store].
func (s *Store) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	return one(s.db.QueryRowContext(ctx, "SELECT "+columns+" FROM api_keys WHERE hash = ?", hash[:]))
}

// Get implements [keyring.Store].
func (s *Store) Get(ctx context.Context, id string) (*auth.Record, error) {
	key, ok := parseID(id)
	if !ok {
		return nil, auth.ErrNotFound
	}
	return one(s.db.QueryRowContext(ctx, "SELECT "+columns+" FROM api_keys WHERE id = ?", key))
}

// one returns the record of a row, if there is one.
func one(row *sql.Row) (*auth.Record, error) {
	r, err := scanRecord(row)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, auth.ErrNotFound
	}
	if err != nil {
		return nil, err // an outage is not "no such key"
	}
	return r, nil
}

// Insert implements [keyring.Store].
func (s *Store) Insert(ctx context.Context, r *auth.Record) error {
	return s.transact(ctx, func(tx *sql.Tx) error { return insert(ctx, tx, r) })
}

func insert(ctx context.Context, tx *sql.Tx, r *auth.Record) error {
	values, err := valuesOf(r)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO api_keys ("+columns+") VALUES ("+placeholders+")", values...)
	if isError(err, duplicateEntry) {
		return keyring.ErrExists
	}
	if err != nil {
		return err
	}
	return note(ctx, tx, keyring.EventOf(nil, r, r.CreatedBy, r.CreatedAt))
}

// Update implements [keyring.Store].
func (s *Store) Update(ctx context.Context, r, successor *auth.Record) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		old, err := lock(ctx, tx, r.ID)
		if err != nil {
			return err
		}
		if old.Revision != r.Revision-1 {
			return keyring.ErrConflict
		}
		changed := r.Clone()
		changed.Hash, changed.Owner, changed.LastUsedAt = old.Hash, old.Owner, old.LastUsedAt
		changed.CreatedAt, changed.CreatedBy = old.CreatedAt, old.CreatedBy
		if err := replace(ctx, tx, changed); err != nil {
			return err
		}
		if err := note(ctx, tx, keyring.EventOf(old, changed, changed.UpdatedBy, changed.UpdatedAt)); err != nil {
			return err
		}
		if successor == nil {
			return nil
		}
		return insert(ctx, tx, successor)
	})
}

// lock returns the record with that ID, which nobody else can change until the
// end of the transaction.
func lock(ctx context.Context, tx *sql.Tx, id string) (*auth.Record, error) {
	key, ok := parseID(id)
	if !ok {
		return nil, auth.ErrNotFound
	}
	return one(tx.QueryRowContext(ctx, "SELECT "+columns+" FROM api_keys WHERE id = ? FOR UPDATE", key))
}

// replace makes r the row with its ID.
func replace(ctx context.Context, tx *sql.Tx, r *auth.Record) error {
	values, err := valuesOf(r)
	if err != nil {
		return err
	}
	result, err := tx.ExecContext(ctx, "UPDATE api_keys SET "+assignments+" WHERE id = ?", append(values, values[0])...)
	return oneRow(result, err)
}

// oneRow returns an error if a statement has not written exactly one row.
func oneRow(result sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err != nil {
		return err
	}
	if n != 1 {
		return fmt.Errorf("mariadb: %d rows were written, want 1", n)
	}
	return nil
}

// Delete implements [keyring.Store].
func (s *Store) Delete(ctx context.Context, id, by string) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		old, err := lock(ctx, tx, id)
		if err != nil {
			return err
		}
		key, _ := parseID(id)
		if err := oneRow(tx.ExecContext(ctx, "DELETE FROM api_keys WHERE id = ?", key)); err != nil {
			return err
		}
		return note(ctx, tx, keyring.EventOf(old, nil, by, time.Now()))
	})
}

// Touch implements [keyring.Store]. Calls with the same IDs lock their rows in
// one order, so that they do not wait for each other.
func (s *Store) Touch(ctx context.Context, lastUsed map[string]time.Time) error {
	if len(lastUsed) == 0 {
		return nil
	}
	ids := slices.Sorted(maps.Keys(lastUsed))
	return s.transact(ctx, func(tx *sql.Tx) error {
		touch, err := tx.PrepareContext(ctx, `UPDATE api_keys SET last_used_at = ?
			WHERE id = ? AND (last_used_at IS NULL OR last_used_at < ?)`)
		if err != nil {
			return err
		}
		defer touch.Close()
		for _, id := range ids {
			key, ok := parseID(id)
			at := lastUsed[id]
			if !ok || at.IsZero() {
				continue
			}
			if _, err := touch.ExecContext(ctx, at, key, at); err != nil {
				return err
			}
		}
		return nil
	})
}

// Numbers of errors.
const (
	duplicateEntry = 1062
	deadlock       = 1213
)

func isError(err error, number uint16) bool {
	e, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && e.Number == number
}

// transact calls f in a transaction, and again if the transaction and another
// one waited for each other. Each statement sees what is committed before it.
func (s *Store) transact(ctx context.Context, f func(tx *sql.Tx) error) error {
	for {
		err := s.attempt(ctx, f)
		if !isError(err, deadlock) || ctx.Err() != nil {
			return err
		}
	}
}

func (s *Store) attempt(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}
