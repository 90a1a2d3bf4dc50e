package mariadb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// A where is the condition of a query.
type where struct {
	terms []string
	args  []any
}

func (w *where) and(term string, args ...any) {
	w.terms = append(w.terms, "("+term+")")
	w.args = append(w.args, args...)
}

func (w *where) String() string {
	if len(w.terms) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.terms, " AND ")
}

// List implements [keyring.Store]. It leaves Text to the Keyring: MariaDB does
// not know each pair of letters that Go does.
func (s *Store) List(ctx context.Context, q keyring.Query) ([]*auth.Record, error) {
	if q.Limit < 1 {
		return nil, fmt.Errorf("mariadb: the limit is %d", q.Limit)
	}
	w, err := selection(q)
	if err != nil {
		return nil, err
	}
	order := " ORDER BY created_at, id"
	if q.NewestFirst {
		order = " ORDER BY created_at DESC, id DESC"
	}
	rows, err := s.db.QueryContext(ctx, "SELECT "+columns+" FROM api_keys"+w.String()+order+" LIMIT ?",
		append(w.args, q.Limit)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []*auth.Record
	var unread []error
	for rows.Next() {
		r, err := scanRecord(rows)
		if bad, ok := errors.AsType[*keyring.RecordError](err); ok {
			unread = append(unread, bad)
			continue
		}
		if err != nil {
			return nil, err
		}
		page = append(page, r)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return page, errors.Join(unread...)
}

func selection(q keyring.Query) (*where, error) {
	w := new(where)
	if q.Owner != "" {
		w.and("owner = ?", q.Owner)
	}
	if q.CreatedBy != "" {
		w.and("created_by = ?", q.CreatedBy)
	}
	if q.Chain != "" {
		w.andID("chain", q.Chain)
	}
	if q.States != 0 {
		w.andState(q.States, q.Now)
	}
	if !q.ExpiresFrom.IsZero() {
		w.and("expires_at >= ?", q.ExpiresFrom)
	}
	if !q.ExpiresBefore.IsZero() {
		w.and("expires_at < ?", q.ExpiresBefore)
	}
	if q.After.IsZero() {
		return w, nil
	}
	id, ok := parseID(q.After.ID)
	if !ok {
		return nil, fmt.Errorf("mariadb: the position has the ID %q, which is not a UUID", q.After.ID)
	}
	at := q.After.CreatedAt
	if q.NewestFirst {
		w.and("created_at < ? OR created_at = ? AND id < ?", at, at, id)
	} else {
		w.and("created_at > ? OR created_at = ? AND id > ?", at, at, id)
	}
	return w, nil
}

// andID selects rows with an ID in that column. None has one that is not a
// UUID.
func (w *where) andID(column, id string) {
	if key, ok := parseID(id); ok {
		w.and(column+" = ?", key)
	} else {
		w.and("FALSE")
	}
}

// andState selects rows as keyring.StateOf sorts them.
func (w *where) andState(states keyring.States, now time.Time) {
	either := new(where)
	if states&keyring.Revoked != 0 {
		either.and("revoked_at IS NOT NULL")
	}
	if states&keyring.Disabled != 0 {
		either.and("revoked_at IS NULL AND disabled_at IS NOT NULL")
	}
	if states&keyring.Expired != 0 {
		either.and("revoked_at IS NULL AND disabled_at IS NULL AND expires_at <= ?", now)
	}
	if states&keyring.Active != 0 {
		either.and("revoked_at IS NULL AND disabled_at IS NULL AND (expires_at IS NULL OR expires_at > ?)", now)
	}
	if len(either.terms) == 0 {
		either.and("FALSE") // an unknown bit selects nothing
	}
	w.and(strings.Join(either.terms, " OR "), either.args...)
}
