package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/insigner/auth"
)

// Lookup implements [auth.Store], with one round trip, once the connection has prepared the statement.
func (s *Store) Lookup(ctx context.Context, hash auth.Hash) (auth.Record, error) {
	return s.one(ctx, "look up", s.queries.lookup, hash[:])
}

// Get implements [auth.KeyStore].
func (s *Store) Get(ctx context.Context, id string) (auth.Record, error) {
	if !storable(id) {
		return auth.Record{}, auth.ErrNotFound
	}
	return s.one(ctx, "get", s.queries.get, id)
}

func (s *Store) one(ctx context.Context, what, query string, arg any) (auth.Record, error) {
	r, err := scan(s.db.QueryRowContext(ctx, query, arg))
	if errors.Is(err, sql.ErrNoRows) {
		return auth.Record{}, auth.ErrNotFound
	}
	return r, wrap(what, err)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("sqlstore: %s: %w", what, err)
}

// List implements [auth.KeyStore].
func (s *Store) List(ctx context.Context, owner string, after auth.Position, limit int) ([]auth.Record, error) {
	page, err := s.list(ctx, owner, after, limit)
	return page, wrap("list", err)
}

func (s *Store) list(ctx context.Context, owner string, after auth.Position, limit int) ([]auth.Record, error) {
	if limit < 1 {
		return nil, fmt.Errorf("a limit of %d", limit)
	}
	if !storable(after.ID) {
		return nil, errors.New("the position's ID is not valid UTF-8 or holds a NUL")
	}
	if !storable(owner) {
		return nil, nil
	}
	// No record stands before the first time or behind the last. The position is cut off as the records' times are.
	at, err := truncate(after.CreatedAt)
	if err != nil && after.CreatedAt.After(maxTime) {
		return nil, nil
	} else if err != nil {
		at, after.ID = time.Time{}, ""
	}
	query, args := s.queries.list, []any{s.dialect.value(at), after.ID, limit}
	if owner != "" {
		query, args = s.queries.listOwner, append(args, owner)
	}
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []auth.Record
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, err
		}
		page = append(page, r)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return page, nil
}

// Insert implements [auth.KeyStore]. It refuses a record without an ID.
func (s *Store) Insert(ctx context.Context, r auth.Record) error {
	values, err := s.dialect.values(&r)
	if err != nil {
		return wrap("insert", err)
	}
	// Whatever the outcome, which a lost connection hides: what was read before may be wrong.
	defer s.watchers.changed(r.Hash)
	return wrap("insert", s.exists(s.exec(ctx, s.queries.insert, values)))
}

// exec runs one statement, in a transaction of its own: nothing is locked while the database waits for a client. Where
// transactions are isolated by default, one that came too late is told so, and tries again.
func (s *Store) exec(ctx context.Context, query string, args []any) error {
	for tries := 1; ; tries++ {
		_, err := s.db.ExecContext(ctx, query, args...)
		if err == nil || tries == 100 || !s.dialect.tooLate(err) {
			return err
		}
	}
}

// exists returns ErrExists, with what the database says, if err is that a row with that ID or hash is there.
func (s *Store) exists(err error) error {
	if err != nil && s.dialect.taken(err) {
		return fmt.Errorf("%w: %w", auth.ErrExists, err)
	}
	return err
}

// Revoke implements [auth.KeyStore]. A zero time is an error, since it would revoke nothing.
func (s *Store) Revoke(ctx context.Context, id string, at time.Time) error {
	err := s.revoke(ctx, id, at)
	if errors.Is(err, auth.ErrNotFound) {
		return err
	}
	return wrap("revoke", err)
}

func (s *Store) revoke(ctx context.Context, id string, at time.Time) error {
	at, err := truncate(at)
	if err != nil {
		return fmt.Errorf("the time %w", err)
	}
	if at.IsZero() {
		return errors.New("the time is zero")
	}
	if !storable(id) {
		return auth.ErrNotFound
	}
	// The hash first, so that it can be reported even if the outcome stays unknown.
	var hash auth.Hash
	switch err := s.db.QueryRowContext(ctx, s.queries.find, id).Scan((*hashColumn)(&hash)); {
	case errors.Is(err, sql.ErrNoRows):
		return auth.ErrNotFound
	case err != nil:
		return err
	}
	defer s.watchers.changed(hash)
	return s.exec(ctx, s.queries.revoke, []any{id, s.dialect.value(at)})
}

// Replace implements [auth.KeyStore]. A zero expires is an error, since it would make the old key last for ever.
func (s *Store) Replace(ctx context.Context, successor auth.Record, expires time.Time) error {
	err := s.replace(ctx, &successor, expires)
	switch err {
	case auth.ErrNotFound, auth.ErrKeyRevoked, auth.ErrSuperseded:
		return err
	}
	return wrap("replace", err)
}

func (s *Store) replace(ctx context.Context, successor *auth.Record, expires time.Time) error {
	values, err := s.dialect.values(successor)
	if err != nil {
		return err
	}
	if expires, err = truncate(expires); err != nil {
		return fmt.Errorf("the expiry %w", err)
	}
	if expires.IsZero() {
		return errors.New("the expiry is zero")
	}
	tx, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()

	var old auth.Record
	switch err := tx.QueryRowContext(ctx, s.queries.lock, successor.Replaces).Scan((*hashColumn)(&old.Hash),
		timeColumn{&old.RevokedAt, true}, &old.ReplacedBy, timeColumn{&old.ExpiresAt, true}); {
	case errors.Is(err, sql.ErrNoRows):
		return auth.ErrNotFound
	case err != nil:
		return err
	case !old.RevokedAt.IsZero():
		return auth.ErrKeyRevoked
	case old.ReplacedBy != "":
		return auth.ErrSuperseded
	}
	if old.ExpiresAt.IsZero() || old.ExpiresAt.After(expires) {
		old.ExpiresAt = expires
	}
	if _, err := tx.ExecContext(ctx, s.queries.insert, values...); err != nil {
		return s.exists(err)
	}
	_, err = tx.ExecContext(ctx, s.queries.replace, successor.Replaces, successor.ID, s.dialect.value(old.ExpiresAt))
	if err != nil {
		return err
	}
	defer s.watchers.changed(old.Hash, successor.Hash)
	return tx.Commit()
}

// begin starts a transaction in which a row that was waited for is seen as it is now, whatever the database's default.
func (s *Store) begin(ctx context.Context) (*sql.Tx, error) {
	if s.dialect == postgres {
		return s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	}
	return s.db.BeginTx(ctx, nil)
}

// Touch implements [auth.KeyStore], in one statement.
func (s *Store) Touch(ctx context.Context, lastUsed map[string]time.Time) error {
	return wrap("touch", s.touch(ctx, lastUsed))
}

func (s *Store) touch(ctx context.Context, lastUsed map[string]time.Time) error {
	times := make(map[string]time.Time, len(lastUsed))
	for id, t := range lastUsed {
		if t.After(maxTime) {
			return fmt.Errorf("the time of %q %w", id, errTime)
		}
		// Nothing is earlier than a zero time, and no record has an ID that cannot be stored.
		if t, err := truncate(t); err == nil && !t.IsZero() && storable(id) {
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
	return s.exec(ctx, s.queries.touch, args)
}

// touchArgs returns the parameters of the touch statement: two arrays, or a JSON array of pairs.
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
