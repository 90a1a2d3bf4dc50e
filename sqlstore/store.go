package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// Lookup implements [auth.Store]. It takes one round trip, once the connection
// has prepared the statement. A row that cannot be read is a
// [*keyring.RecordError].
func (s *Store) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	return s.one(ctx, "lookup", s.queries.lookup, hash[:])
}

// Get implements [keyring.Store]. A row that cannot be read is a
// [*keyring.RecordError].
func (s *Store) Get(ctx context.Context, id string) (*auth.Record, error) {
	if checkText(id) != nil {
		return nil, auth.ErrNotFound
	}
	return s.one(ctx, "get", s.queries.get, id)
}

func (s *Store) one(ctx context.Context, what, query string, arg any) (*auth.Record, error) {
	var w row
	switch err := s.db.QueryRowContext(ctx, query, arg).Scan(w.dest()...); {
	case errors.Is(err, sql.ErrNoRows):
		return nil, auth.ErrNotFound
	case err != nil:
		return nil, wrap(what, err)
	}
	r, err := w.result()
	return r, wrap(what, err)
}

// wrap adds where an error comes from. An answer that the contract names is
// returned as it is.
func wrap(what string, err error) error {
	switch err {
	case nil, auth.ErrNotFound, keyring.ErrConflict:
		return err
	}
	return fmt.Errorf("sqlstore: %s: %w", what, err)
}

// Insert implements [keyring.Store].
func (s *Store) Insert(ctx context.Context, r *auth.Record) error {
	return wrap("insert", s.insert(ctx, r))
}

func (s *Store) insert(ctx context.Context, r *auth.Record) error {
	values, err := s.dialect.values(r)
	if err != nil {
		return err
	}
	// Also after an error, for the outcome may be unknown.
	defer s.watchers.changed(r.Hash)
	end, err := s.turn.wait(ctx)
	if err != nil {
		return err
	}
	defer end()
	err = s.retry(func() error { return insertRow(ctx, s.db, s.queries.insert, values) })
	return s.exists(ctx, err, r)
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

// retry calls f, which executes a statement outside of a transaction, until no
// other transaction was faster. That happens where
// default_transaction_isolation is repeatable read or serializable.
func (s *Store) retry(f func() error) error {
	for try := 1; ; try++ {
		if err := f(); err == nil || try == 100 || !s.dialect.tooLate(err) {
			return err
		}
	}
}

// exists returns err, together with keyring.ErrExists if the ID or the hash of
// r is taken. A unique index of the host's own may be the cause as well.
func (s *Store) exists(ctx context.Context, err error, r *auth.Record) error {
	if err == nil || !s.dialect.taken(err) {
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

// Update implements [keyring.Store]. Without a successor it is a single
// statement. With one it is a transaction, which keeps the key from being
// changed for at most 5 seconds if the client dies in the middle.
//
// If the database reports success but changed no row, Update returns an error
// that says so. Reasons are row-level security, a trigger and a rule.
func (s *Store) Update(ctx context.Context, r, successor *auth.Record) error {
	return wrap("update", s.update(ctx, r, successor))
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
	defer func() { s.watchers.changed(hashes...) }()
	end, err := s.turn.wait(ctx)
	if err != nil {
		return err
	}
	defer end()
	change := func(q querier) error {
		stored, err := s.change(ctx, q, r, args)
		if err == nil && stored != r.Hash {
			hashes = append(hashes, stored)
		}
		return err
	}
	if successor == nil {
		return s.retry(func() error { return change(s.db) })
	}
	err = s.transaction(ctx, func(tx *sql.Tx) error {
		if err := change(tx); err != nil {
			return err
		}
		return insertRow(ctx, tx, s.queries.insert, inserted)
	})
	return s.exists(ctx, err, successor)
}

// transaction calls f in a transaction. After f has waited for a row it sees
// the row as it is then, also if the default of the database is another.
func (s *Store) transaction(ctx context.Context, f func(tx *sql.Tx) error) error {
	var opts sql.TxOptions
	if s.dialect == postgres {
		opts.Isolation = sql.LevelReadCommitted
	}
	tx, err := s.db.BeginTx(ctx, &opts)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if s.dialect.beginRotation != "" {
		if _, err := tx.ExecContext(ctx, s.dialect.beginRotation); err != nil {
			return err
		}
	}
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
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
	for rows.Next() {
		n++
		if err := rows.Scan(&hash, &revision); err != nil {
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

// Delete implements [keyring.Store]. It does not record by: this Store keeps no
// events.
func (s *Store) Delete(ctx context.Context, id, by string) error {
	return wrap("delete", s.delete(ctx, id))
}

func (s *Store) delete(ctx context.Context, id string) error {
	if checkText(id) != nil {
		return auth.ErrNotFound
	}
	end, err := s.turn.wait(ctx)
	if err != nil {
		return err
	}
	defer end()
	for range maxDeletes {
		// The hash is read first, so that the change is reported even if its
		// outcome stays unknown.
		hash, err := s.hashOf(ctx, id)
		if err != nil {
			return err
		}
		if len(hash) == len(auth.Hash{}) { // else no lookup has found it
			defer s.watchers.changed(auth.Hash(hash))
		}
		deleted := false
		err = s.retry(func() (err error) {
			deleted, err = s.deleteRow(ctx, id, hash)
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
func (s *Store) hashOf(ctx context.Context, id string) (hash []byte, err error) {
	err = s.db.QueryRowContext(ctx, s.queries.hash, id).Scan(&hash)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, auth.ErrNotFound
	}
	return hash, err
}

// deleteRow deletes the row with that ID and hash. It reports false if another
// row with that ID has replaced it.
func (s *Store) deleteRow(ctx context.Context, id string, hash []byte) (deleted bool, err error) {
	result, err := s.db.ExecContext(ctx, s.queries.remove, id, hash)
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
	now, err := s.hashOf(ctx, id)
	if err != nil {
		return false, err
	}
	if !bytes.Equal(now, hash) {
		return false, nil
	}
	return false, fmt.Errorf("the database deleted no row: %w", errPrevented)
}

// Touch implements [keyring.Store], in one statement.
func (s *Store) Touch(ctx context.Context, lastUsed map[string]time.Time) error {
	return wrap("touch", s.touch(ctx, lastUsed))
}

func (s *Store) touch(ctx context.Context, lastUsed map[string]time.Time) error {
	times := make(map[string]time.Time, len(lastUsed))
	for id, t := range lastUsed {
		if t.After(maxTime) {
			return fmt.Errorf("record %q: %w", id, errRange)
		}
		// No stored time is earlier than a zero time, and no record has an ID
		// that cannot be stored.
		if t, err := truncate(t); err == nil && !t.IsZero() && checkText(id) == nil {
			times[id] = t
		}
	}
	if len(times) == 0 {
		return nil
	}
	args, err := s.touchArgs(times)
	if err != nil {
		return err
	}
	end, err := s.turn.wait(ctx)
	if err != nil {
		return err
	}
	defer end()
	return s.retry(func() error {
		_, err := s.db.ExecContext(ctx, s.queries.touch, args...)
		return err
	})
}

// touchArgs returns the parameters of the touch statement: two arrays, or a
// JSON array of pairs.
func (s *Store) touchArgs(times map[string]time.Time) ([]any, error) {
	if s.dialect == postgres {
		ids := slices.Collect(maps.Keys(times))
		at := make([]time.Time, len(ids))
		for i, id := range ids {
			at[i] = times[id]
		}
		return []any{ids, at}, nil
	}
	pairs := make([][2]any, 0, len(times))
	for id, at := range times {
		pairs = append(pairs, [2]any{id, at.UnixMicro()})
	}
	text, err := json.Marshal(pairs)
	return []any{string(text)}, err
}

// Events returns an error that matches [errors.ErrUnsupported]: this Store
// keeps no events.
func (s *Store) Events(context.Context, keyring.EventQuery) ([]keyring.Event, error) {
	return nil, wrap("events", errors.ErrUnsupported)
}
