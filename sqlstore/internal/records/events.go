package records

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// Events implements keyring.Store. A record that cannot be read is nil.
func (s *Store) Events(ctx context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
	events, err := s.events(ctx, &q)
	return events, s.wrap("events", err)
}

func (s *Store) events(ctx context.Context, q *keyring.EventQuery) ([]keyring.Event, error) {
	if q.Limit < 1 {
		return nil, fmt.Errorf("limit %d is not positive", q.Limit)
	}
	var c conditions
	if q.After != "" {
		id, err := s.eventAfter(ctx, q)
		if err != nil {
			return nil, err
		}
		c.and("id < $1", id)
	}
	for _, column := range [...]struct{ name, value string }{
		{"key_id", q.KeyID}, {"owner", q.Owner}, {"made_by", q.By}, {"kind", string(q.Kind)},
	} {
		if checkText(column.value) != nil {
			return nil, nil
		}
		if column.value != "" {
			c.and(column.name+" = $1", column.value)
		}
	}
	if !q.From.IsZero() {
		c.and("at >= $1", s.dialect.position(roundUp(q.From)))
	}
	if !q.To.IsZero() {
		c.and("at < $1", s.dialect.position(roundUp(q.To)))
	}
	c.args = append(c.args, q.Limit)
	rows, err := s.db.QueryContext(ctx, s.dialect.render(fmt.Sprintf(
		"SELECT id, at, kind, key_id, owner, made_by, revision, before, after FROM {table_events}%s ORDER BY id DESC LIMIT $%d",
		c.where(), len(c.args)), s.Table), c.args...)
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

// eventAfter returns the number of the event q.After, or auth.ErrNotFound if
// q.Owner has no such event.
func (s *Store) eventAfter(ctx context.Context, q *keyring.EventQuery) (int64, error) {
	id, err := strconv.ParseInt(q.After, 10, 64)
	if err != nil || strconv.FormatInt(id, 10) != q.After {
		return 0, auth.ErrNotFound
	}
	var owner string
	err = s.db.QueryRowContext(ctx, s.dialect.render("SELECT owner FROM {table_events} WHERE id = $1", s.Table), id).
		Scan(&owner)
	if errors.Is(err, sql.ErrNoRows) || err == nil && q.Owner != "" && owner != q.Owner {
		return 0, auth.ErrNotFound
	}
	return id, err
}

func scanEvent(rows *sql.Rows) (keyring.Event, error) {
	var e keyring.Event
	var id int64
	var at any
	var before, after []byte
	err := rows.Scan(&id, &at, &e.Kind, &e.KeyID, &e.Owner, &e.By, &e.Revision, &before, &after)
	if err != nil {
		return e, err
	}
	if e.Time, err = timeOf(at); err != nil {
		return e, fmt.Errorf("event %d: %w", id, err)
	}
	e.ID = strconv.FormatInt(id, 10)
	e.Before, e.After = recordOf(before), recordOf(after)
	return e, nil
}

// recordOf returns the record of an event, which is a JSON object with a member
// for each column. It returns nil if the event has none, or one that cannot be
// read.
func recordOf(text []byte) *auth.Record {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var members map[string]any
	if d.Decode(&members) != nil || members == nil {
		return nil
	}
	var w row
	for _, c := range columns {
		src, err := c.srcOf(members[c.name])
		if err != nil || c.read(&w, src) != nil {
			return nil
		}
	}
	return &w.record
}

// srcOf returns what a driver returns for a column whose value is v in JSON.
func (c *column) srcOf(v any) (any, error) {
	switch v := v.(type) {
	case json.Number:
		return v.Int64()
	case string:
		switch {
		case c.name == "hash": // PostgreSQL precedes it with \x
			return hex.DecodeString(strings.TrimPrefix(v, `\x`))
		case strings.HasSuffix(c.name, "_at"):
			return time.Parse(time.RFC3339Nano, v)
		}
	}
	return v, nil
}
