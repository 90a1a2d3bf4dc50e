package records

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// List implements [keyring.Store]. It selects by everything in q. By q.Text it
// may select more: it returns each record that has letters outside of ASCII.
//
// It is an error if q.After.ID is not valid UTF-8 or has a NUL.
func (s *Store) List(ctx context.Context, q keyring.Query) ([]*auth.Record, error) {
	records, unread, err := s.list(ctx, &q)
	if err != nil {
		return nil, s.wrap("list", err)
	}
	return records, errors.Join(unread...)
}

// list returns the records that can be read, and a *keyring.RecordError for
// each of the others.
func (s *Store) list(ctx context.Context, q *keyring.Query) (records []*auth.Record, unread []error, err error) {
	if q.Limit < 1 {
		return nil, nil, fmt.Errorf("limit %d is not positive", q.Limit)
	}
	query, args, err := s.listQuery(q)
	if err != nil || query == "" {
		return nil, nil, err
	}
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var w row
		if err := rows.Scan(w.dest()...); err != nil {
			return nil, nil, err
		}
		if r, err := w.result(); err != nil {
			unread = append(unread, err)
		} else {
			records = append(records, r)
		}
	}
	return records, unread, rows.Err()
}

// listQuery returns the statement for q, or none if q selects nothing.
func (s *Store) listQuery(q *keyring.Query) (query string, args []any, err error) {
	text := strings.ToLower(q.Text)
	for _, t := range [...]string{q.Owner, q.Chain, q.CreatedBy, text} {
		if checkText(t) != nil {
			return "", nil, nil
		}
	}
	var c conditions
	for _, column := range [...]struct{ name, value string }{
		{"owner", q.Owner}, {"chain", q.Chain}, {"created_by", q.CreatedBy},
	} {
		if column.value != "" {
			c.and(column.name+" = $1", column.value)
		}
	}
	compare, direction := ">", ""
	if q.NewestFirst {
		compare, direction = "<", " DESC"
	}
	if !q.After.IsZero() {
		if !s.dialect.Microseconds && checkText(q.After.ID) != nil {
			return "", nil, errors.New("the ID of the position is not valid UTF-8 or has a NUL")
		}
		c.and("(created_at, id) "+compare+" ($1, $2)", s.dialect.position(q.After.CreatedAt), q.After.ID)
	}
	if q.States != 0 {
		in := inStates(q.States)
		switch {
		case in == "":
			return "", nil, nil
		case strings.Contains(in, "$1"):
			c.and(in, s.dialect.position(q.Now))
		default:
			c.and(in)
		}
	}
	if !q.ExpiresFrom.IsZero() {
		c.and("expires_at >= $1", s.dialect.position(roundUp(q.ExpiresFrom)))
	}
	if !q.ExpiresBefore.IsZero() {
		c.and("expires_at < $1", s.dialect.position(roundUp(q.ExpiresBefore)))
	}
	if text != "" {
		c.and(s.dialect.Contains, text)
	}
	c.args = append(c.args, q.Limit)
	return s.dialect.render(fmt.Sprintf("SELECT %s FROM {table}%s ORDER BY created_at%s, id%[3]s LIMIT $%[4]d",
		columnNames(), c.where(), direction, len(c.args)), s.Table), c.args, nil
}

// inStates returns the condition for rows that are in one of these states at
// the time $1, or "" if none of them is known. It says what auth.Record.Check
// does.
func inStates(states keyring.States) string {
	var in []string
	for _, state := range [...]struct {
		bit       keyring.States
		condition string
	}{
		{keyring.Revoked, "revoked_at IS NOT NULL"},
		{keyring.Disabled, "revoked_at IS NULL AND disabled_at IS NOT NULL"},
		{keyring.Expired, "revoked_at IS NULL AND disabled_at IS NULL AND expires_at <= $1"},
		{keyring.Active, "revoked_at IS NULL AND disabled_at IS NULL AND (expires_at IS NULL OR expires_at > $1)"},
	} {
		if states&state.bit != 0 {
			in = append(in, state.condition)
		}
	}
	if len(in) == 0 {
		return ""
	}
	return "(" + strings.Join(in, " OR ") + ")"
}

// roundUp returns the first microsecond that is not before t.
func roundUp(t time.Time) time.Time {
	if down := t.Truncate(time.Microsecond); down.Before(t) {
		return down.Add(time.Microsecond)
	}
	return t
}

// conditions are what follows WHERE.
type conditions struct {
	all  []string
	args []any
}

// and adds a condition whose parameters are $1 and $2.
func (c *conditions) and(condition string, args ...any) {
	n := len(c.args)
	c.all = append(c.all, strings.NewReplacer("$1", fmt.Sprint("$", n+1), "$2", fmt.Sprint("$", n+2)).Replace(condition))
	c.args = append(c.args, args...)
}

func (c *conditions) where() string {
	if len(c.all) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.all, " AND ")
}
