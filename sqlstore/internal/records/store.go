// Package records keeps the records of keys in a table of an SQL database.
// Packages postgres and sqlite each give it a [Dialect], and add what their
// database has in addition.
package records

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// A Store keeps keys in a table. It is a keyring.Store.
type Store struct {
	Table    Table
	Watchers Watchers // of changes made by this Store
	Logger   *slog.Logger

	// Turn waits for the turn of a writer and returns how to end it, with the
	// error of the context. If nil, writers do not wait for each other.
	Turn func(context.Context) (end func(), err error)

	db      *sql.DB
	dialect *Dialect
	queries queries
}

var _ keyring.Store = (*Store)(nil)

// New returns a Store, or what is wrong with the name of the table. If logger
// is nil, it is slog.Default().
func New(db *sql.DB, d *Dialect, table string, logger *slog.Logger) (*Store, error) {
	t, err := ParseTable(cmp.Or(table, DefaultTable), d.Schemas)
	if err != nil {
		return nil, err
	}
	if logger == nil {
		logger = slog.Default()
	}
	return &Store{Table: t, Logger: logger, db: db, dialect: d, queries: d.queries(t)}, nil
}

// Lookup returns the record with that hash. It takes one round trip, once the
// connection has prepared the statement. A row that cannot be read is a
// *keyring.RecordError.
func (s *Store) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	return s.one(ctx, "lookup", s.queries.lookup, hash[:])
}

// Get returns the record with that ID, or a *keyring.RecordError.
func (s *Store) Get(ctx context.Context, id string) (*auth.Record, error) {
	if checkText(id) != nil {
		return nil, auth.ErrNotFound
	}
	return s.one(ctx, "get", s.queries.get, id)
}

func (s *Store) one(ctx context.Context, what, query string, arg any) (*auth.Record, error) {
	var w *row
	err := s.retry(func() error {
		w = new(row)
		return s.db.QueryRowContext(ctx, query, arg).Scan(w.dest()...)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, auth.ErrNotFound
	case err != nil:
		return nil, s.wrap(what, err)
	}
	r, err := w.result()
	return r, s.wrap(what, err)
}

// wrap adds where an error comes from. An answer that the contract names is
// returned as it is.
func (s *Store) wrap(what string, err error) error {
	switch err {
	case nil, auth.ErrNotFound, keyring.ErrConflict:
		return err
	}
	hint := ""
	if s.dialect.Hint != nil {
		hint = s.dialect.Hint(err)
	}
	return fmt.Errorf("%s: %s: %w%s", s.dialect.Package, what, err, hint)
}

// Insert implements keyring.Store.
func (s *Store) Insert(ctx context.Context, r *auth.Record) error {
	return s.wrap("insert", s.insert(ctx, r))
}

func (s *Store) insert(ctx context.Context, r *auth.Record) error {
	values, err := s.dialect.values(r)
	if err != nil {
		return err
	}
	// Also after an error, for the outcome may be unknown.
	defer s.Watchers.changed(r.Hash)
	err = s.write(ctx, r.CreatedBy, func(q querier) error {
		return insertRow(ctx, q, s.queries.insert, values)
	})
	return s.exists(ctx, err, r)
}

// write calls f, which executes one statement on behalf of an actor, when it is
// this writer's turn.
func (s *Store) write(ctx context.Context, actor string, f func(q querier) error) error {
	if s.queries.begin != "" {
		return s.transaction(ctx, actor, "", f)
	}
	return s.inTurn(ctx, func() error { return f(s.db) })
}

// transaction calls f in a transaction that begins with the statements first.
func (s *Store) transaction(ctx context.Context, actor, first string, f func(q querier) error) error {
	return s.inTurn(ctx, func() error {
		tx, err := s.db.BeginTx(ctx, nil) // no options: many wrappers of a driver do not support them
		if err != nil {
			return err
		}
		defer tx.Rollback()
		execute := func(query string, args ...any) {
			if err == nil && query != "" {
				_, err = tx.ExecContext(ctx, query, args...)
			}
		}
		execute(first)
		if s.queries.begin != "" {
			execute(s.queries.begin, actor)
		}
		if err == nil {
			err = f(tx)
		}
		execute(s.queries.end)
		if err != nil {
			return err
		}
		return tx.Commit()
	})
}

// inTurn calls f when it is this writer's turn, until f need not be called
// again.
func (s *Store) inTurn(ctx context.Context, f func() error) error {
	if s.Turn != nil {
		end, err := s.Turn(ctx)
		if err != nil {
			return err
		}
		defer end()
	}
	return s.retry(f)
}

// A querier is a *sql.DB or a *sql.Tx.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func insertRow(ctx context.Context, q querier, query string, values []any) error {
	result, err := q.ExecContext(ctx, query, values...)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n != 1 {
		err = fmt.Errorf("the database inserted %d rows instead of 1: %w", n, errPrevented)
	}
	return err
}

// errPrevented is what the database does not report: it says that all is well,
// and has not done what it was told.
var errPrevented = errors.New("look for row-level security, a trigger or a rule that prevents it")

// retry calls f until it can do no better. Another transaction may have been
// faster, where default_transaction_isolation is repeatable read or
// serializable. Or the type of a column was changed, so that each connection
// must prepare its statements once more.
func (s *Store) retry(f func() error) error {
	for try := 1; ; try++ {
		if err := f(); err == nil || try == 100 || !s.dialect.Again(err) {
			return err
		}
	}
}

// exists returns err, together with keyring.ErrExists if the ID or the hash of
// r is taken. A unique index of the host's own may be the cause as well.
func (s *Store) exists(ctx context.Context, err error, r *auth.Record) error {
	if err == nil || !s.dialect.Taken(err) {
		return err
	}
	var taken bool
	if err2 := s.db.QueryRowContext(ctx, s.queries.taken, r.ID, r.Hash[:]).Scan(&taken); err2 != nil {
		return errors.Join(err, err2)
	}
	if taken {
		return fmt.Errorf("%w: %w", keyring.ErrExists, err)
	}
	return err
}

// Update implements keyring.Store. If the database reports success but changed
// no row, Update returns an error that says so.
func (s *Store) Update(ctx context.Context, r, successor *auth.Record) error {
	return s.wrap("update", s.update(ctx, r, successor))
}

func (s *Store) update(ctx context.Context, r, successor *auth.Record) error {
	if r.ID == "" || checkText(r.ID) != nil {
		return auth.ErrNotFound
	}
	values, err := s.dialect.values(r)
	if err != nil {
		return err
	}
	args := []any{r.ID, r.Revision - 1}
	for i, c := range columns {
		if !c.fixed {
			args = append(args, values[i])
		}
	}
	var inserted []any
	hashes := []auth.Hash{r.Hash}
	if successor != nil {
		if inserted, err = s.dialect.values(successor); err != nil {
			return fmt.Errorf("successor: %w", err)
		}
		hashes = append(hashes, successor.Hash)
	}
	// Also after an error, for the outcome may be unknown.
	defer func() { s.Watchers.changed(hashes...) }()
	change := func(q querier) error {
		stored, err := s.change(ctx, q, r, args)
		if err == nil && stored != r.Hash {
			hashes = append(hashes, stored)
		}
		return err
	}
	if successor == nil {
		return s.write(ctx, r.UpdatedBy, change)
	}
	err = s.transaction(ctx, r.UpdatedBy, s.dialect.BeginRotation, func(q querier) error {
		if err := change(q); err != nil {
			return err
		}
		if s.queries.begin != "" && successor.CreatedBy != r.UpdatedBy {
			if _, err := q.ExecContext(ctx, s.queries.begin, successor.CreatedBy); err != nil {
				return err
			}
		}
		return insertRow(ctx, q, s.queries.insert, inserted)
	})
	return s.exists(ctx, err, successor)
}

// change executes the update statement, and makes sure that it changed exactly
// the row of r. It returns the hash that is stored.
func (s *Store) change(ctx context.Context, q querier, r *auth.Record, args []any) (auth.Hash, error) {
	rows, err := q.QueryContext(ctx, s.queries.update, args...)
	if err != nil {
		return auth.Hash{}, err
	}
	defer rows.Close()
	var n int
	var hash []byte
	var revision int64
	var kept bool // that it is revoked or disabled, or is not
	for rows.Next() {
		n++
		if err := rows.Scan(&hash, &revision, &kept); err != nil {
			return auth.Hash{}, err
		}
	}
	if err := rows.Err(); err != nil { // it may follow the last row
		return auth.Hash{}, err
	}
	rows.Close()
	switch {
	case n == 0:
		return auth.Hash{}, s.whyUnchanged(ctx, q, r)
	case n > 1:
		return auth.Hash{}, fmt.Errorf("%d rows have the ID %q", n, r.ID)
	case revision != r.Revision:
		return auth.Hash{}, fmt.Errorf("the database kept revision %d of record %q: %w", revision, r.ID, errPrevented)
	case !kept:
		return auth.Hash{}, fmt.Errorf("the database kept revoked_at or disabled_at of record %q: %w", r.ID, errPrevented)
	}
	var stored auth.Hash
	copy(stored[:], hash)
	return stored, nil
}

// whyUnchanged returns why an update with the revision of r found no row.
func (s *Store) whyUnchanged(ctx context.Context, q querier, r *auth.Record) error {
	var revision int64
	switch err := q.QueryRowContext(ctx, s.queries.revision, r.ID).Scan(&revision); {
	case errors.Is(err, sql.ErrNoRows):
		return auth.ErrNotFound
	case err != nil:
		return err
	case revision != r.Revision-1:
		return keyring.ErrConflict
	}
	return fmt.Errorf("the database changed no row, though it has revision %d of record %q: %w",
		revision, r.ID, errPrevented)
}

// Delete implements keyring.Store.
func (s *Store) Delete(ctx context.Context, id, by string) error {
	return s.wrap("delete", s.delete(ctx, id, by))
}

func (s *Store) delete(ctx context.Context, id, by string) error {
	if checkText(id) != nil {
		return auth.ErrNotFound
	}
	if err := checkText(by); err != nil {
		return fmt.Errorf("by: %w", err)
	}
	for range maxDeletes {
		// The hash is read first, so that the change is reported even if its
		// outcome stays unknown.
		hash, err := s.hashOf(ctx, s.db, id)
		if err != nil {
			return err
		}
		if len(hash) == len(auth.Hash{}) { // else no lookup has found it
			defer s.Watchers.changed(auth.Hash(hash))
		}
		deleted := false
		err = s.write(ctx, by, func(q querier) (err error) {
			deleted, err = s.deleteRow(ctx, q, id, hash, by)
			return err
		})
		if deleted || err != nil {
			return err
		}
	}
	return errors.New("the row was replaced again and again")
}

const maxDeletes = 10 // of a row that is replaced by another with the same ID

// hashOf returns what the hash column of the row with that ID holds.
func (s *Store) hashOf(ctx context.Context, q querier, id string) (hash []byte, err error) {
	err = s.retry(func() error { return q.QueryRowContext(ctx, s.queries.hash, id).Scan(&hash) })
	if errors.Is(err, sql.ErrNoRows) {
		return nil, auth.ErrNotFound
	}
	return hash, err
}

// deleteRow deletes the row with that ID and hash. It reports false if another
// row with that ID has replaced it.
func (s *Store) deleteRow(ctx context.Context, q querier, id string, hash []byte, by string) (deleted bool, err error) {
	result, err := q.ExecContext(ctx, s.queries.remove, id, hash, by)
	if err != nil {
		return false, err
	}
	switch n, err := result.RowsAffected(); {
	case err != nil:
		return false, err
	case n == 1:
		return true, nil
	case n > 1:
		return false, fmt.Errorf("%d rows had that ID", n)
	}
	now, err := s.hashOf(ctx, q, id)
	if err != nil {
		return false, err
	}
	if !bytes.Equal(now, hash) {
		return false, nil
	}
	return false, fmt.Errorf("the database deleted no row: %w", errPrevented)
}

// Touch implements keyring.Store, in one statement.
func (s *Store) Touch(ctx context.Context, lastUsed map[string]time.Time) error {
	return s.TouchOlder(ctx, lastUsed, 0)
}

// TouchOlder is Touch, but skips a record whose LastUsedAt is less than age
// before the given time.
func (s *Store) TouchOlder(ctx context.Context, lastUsed map[string]time.Time, age time.Duration) error {
	return s.wrap("touch", s.touch(ctx, lastUsed, age))
}

func (s *Store) touch(ctx context.Context, lastUsed map[string]time.Time, age time.Duration) error {
	ids := make([]string, 0, len(lastUsed))
	micros := make([]int64, 0, len(lastUsed))
	for id, t := range lastUsed {
		if t.After(maxTime) {
			return fmt.Errorf("record %q: %w", id, errRange)
		}
		// No stored time is earlier than a zero time, and no record has an ID
		// that cannot be stored.
		if t, err := truncate(t); err == nil && !t.IsZero() && checkText(id) == nil {
			ids, micros = append(ids, id), append(micros, t.UnixMicro())
		}
	}
	if len(ids) == 0 {
		return nil
	}
	uses, err := s.dialect.TouchArg(ids, micros)
	if err != nil {
		return err
	}
	return s.inTurn(ctx, func() error {
		_, err := s.db.ExecContext(ctx, s.queries.touch, uses, age.Microseconds())
		return err
	})
}
