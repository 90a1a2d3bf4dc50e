package mariadb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// note writes an event. The Hash of a record does not get into it, since it
// stays out of JSON.
func note(ctx context.Context, tx *sql.Tx, e keyring.Event) error {
	before, err := snapshot(e.Before)
	if err != nil {
		return err
	}
	after, err := snapshot(e.After)
	if err != nil {
		return err
	}
	key, _ := parseID(e.KeyID)
	_, err = tx.ExecContext(ctx, `INSERT INTO api_key_events (time, kind, key_id, owner, actor, revision, before_change,
		after_change) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, e.Time, string(e.Kind), key, e.Owner, e.By, e.Revision, before, after)
	return err
}

// snapshot returns r as JSON, or NULL if it is nil.
func snapshot(r *auth.Record) (sql.NullString, error) {
	if r == nil {
		return sql.NullString{}, nil
	}
	text, err := json.Marshal(r)
	return sql.NullString{String: string(text), Valid: true}, err
}

// Events implements [keyring.Store].
func (s *Store) Events(ctx context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
	if q.Limit < 1 {
		return nil, fmt.Errorf("mariadb: the limit is %d", q.Limit)
	}
	w := new(where)
	if q.KeyID != "" {
		w.andID("key_id", q.KeyID)
	}
	for _, f := range []struct{ column, value string }{
		{"owner", q.Owner}, {"actor", q.By}, {"kind", string(q.Kind)},
	} {
		if f.value != "" {
			w.and(f.column+" = ?", f.value)
		}
	}
	if !q.From.IsZero() {
		w.and("time >= ?", q.From)
	}
	if !q.To.IsZero() {
		w.and("time < ?", q.To)
	}
	if q.After != "" {
		after, err := s.event(ctx, q.After, q.Owner)
		if err != nil {
			return nil, err
		}
		w.and("id < ?", after)
	}
	rows, err := s.db.QueryContext(ctx, `SELECT id, time, kind, key_id, owner, actor, revision, before_change, after_change
		FROM api_key_events`+w.String()+" ORDER BY id DESC LIMIT ?", append(w.args, q.Limit)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var events []keyring.Event
	for rows.Next() {
		e, err := scanEvent(rows)
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

// event returns the number of the event with that ID, of that owner if it is
// not empty.
func (s *Store) event(ctx context.Context, id, owner string) (int64, error) {
	// MariaDB would take "7x" for 7.
	number, err := strconv.ParseInt(id, 10, 64)
	if err != nil || strconv.FormatInt(number, 10) != id {
		return 0, auth.ErrNotFound
	}
	err = s.db.QueryRowContext(ctx, "SELECT id FROM api_key_events WHERE id = ? AND (? = '' OR owner = ?)", number, owner,
		owner).Scan(&number)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, auth.ErrNotFound
	}
	return number, err
}

func scanEvent(rows *sql.Rows) (keyring.Event, error) {
	var e keyring.Event
	var key, before, after []byte
	if err := rows.Scan(&e.ID, &e.Time, &e.Kind, &key, &e.Owner, &e.By, &e.Revision, &before, &after); err != nil {
		return e, err
	}
	e.KeyID = formatID(key)
	var err error
	if before != nil {
		err = json.Unmarshal(before, &e.Before)
	}
	if after != nil {
		err = errors.Join(err, json.Unmarshal(after, &e.After))
	}
	return e, err
}
