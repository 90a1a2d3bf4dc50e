// Package logs holds what the log stores of packages postgres and sqlite share:
// the columns of the table, and how a query becomes SQL.
package logs

import (
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/insigner/auth/apilog"
)

// Columns are those of the table, in the order of Values and Scan.
var Columns = []string{"id", "at", "duration_us", "key_id", "owner", "method", "route", "path", "status", "code",
	"request_bytes", "response_bytes", "request_id", "user_agent", "remote_addr", "lost"}

// A Dialect is what differs between the databases.
type Dialect struct {
	Param string                     // what a parameter begins with: "$" or "?"
	Time  func(t time.Time) any      // a time as a parameter
	Addr  func(a netip.Addr) any     // an address as a parameter
	Read  func(column string) string // how a column is selected

	// Rest is a condition, %s, by which the planner does not look for rows, and
	// of which it does not believe that it leaves few. The entries of a key are
	// all of one owner.
	Rest string
}

// Values returns the values of the columns for an entry.
func (d *Dialect) Values(e *apilog.Entry) []any {
	return []any{e.ID, d.Time(e.Time), e.Duration.Microseconds(), e.KeyID, e.Owner, e.Method, e.Route, e.Path,
		int64(e.Status), e.Code, e.RequestBytes, e.ResponseBytes, e.RequestID, e.UserAgent, d.Addr(e.RemoteAddr), e.Lost}
}

// A Row is where Scan puts the columns of an entry.
type Row struct {
	entry    apilog.Entry
	duration int64  // in microseconds
	addr     string // or ""
}

// Dest returns the destinations for Scan. At is that of the time.
func (r *Row) Dest(at any) []any {
	e := &r.entry
	return []any{&e.ID, at, &r.duration, &e.KeyID, &e.Owner, &e.Method, &e.Route, &e.Path, &e.Status, &e.Code,
		&e.RequestBytes, &e.ResponseBytes, &e.RequestID, &e.UserAgent, &r.addr, &e.Lost}
}

// Entry returns the entry of time t. A time without a duration or an address
// that cannot be read is one that somebody else wrote.
func (r *Row) Entry(t time.Time) apilog.Entry {
	e := r.entry
	e.Time = t.UTC()
	e.Duration = time.Duration(r.duration) * time.Microsecond
	e.RemoteAddr, _ = netip.ParseAddr(r.addr)
	return e
}

// ErrAfter means that a query continues after an entry that there is not.
var ErrAfter = fmt.Errorf("%w: After is not the ID of an entry", apilog.ErrInvalidQuery)

// A Position is a place in a list: that of an entry.
type Position struct {
	Time time.Time
	ID   string
}

// A Select is a statement with its arguments.
type Select struct {
	SQL  string
	Args []any
}

// List returns the statement that lists what q selects. After is where it
// continues, if it is not nil.
func (d *Dialect) List(table string, q apilog.Query, after *Position) Select {
	if after != nil && !q.To.IsZero() {
		// Else the planner may find rows by To, and skip those until after.
		if q.To.UnixMicro() <= after.Time.UnixMicro() {
			after = nil
		} else {
			q.To = time.Time{}
		}
	}
	var b builder
	b.filter(d, q)
	if after != nil {
		// The first one is for the planner, which prunes partitions by it.
		at := b.arg(d, d.Time(after.Time))
		b.where("at <= " + at)
		b.where("(at, id) < (" + at + ", " + b.arg(d, after.ID) + ")")
	}
	limit := q.Limit
	if limit <= 0 {
		limit = apilog.DefaultLimit
	}
	columns := make([]string, len(Columns))
	for i, c := range Columns {
		columns[i] = d.Read(c)
	}
	sql := "SELECT " + strings.Join(columns, ", ") + " FROM " + table + b.clause() +
		" ORDER BY at DESC, id DESC LIMIT " + b.arg(d, int64(limit))
	return Select{sql, b.args}
}

// counts are the columns of a histogram: all requests, client errors and server
// errors.
const counts = `
	coalesce(sum(CASE WHEN lost <> 0 THEN lost ELSE 1 END), 0),
	coalesce(sum(CASE WHEN status BETWEEN 400 AND 499 THEN 1 ELSE 0 END), 0),
	coalesce(sum(CASE WHEN status >= 500 THEN 1 ELSE 0 END), 0)`

// Bucket returns the statement that counts what q selects: all requests, client
// errors and server errors.
func (d *Dialect) Bucket(table string, q apilog.Query) Select {
	var b builder
	b.filter(d, q)
	return Select{"SELECT" + counts + " FROM " + table + b.clause(), b.args}
}

// Histogram returns the statement that counts what q selects: the number of a
// bucket, all requests, client errors and server errors. Number is the number
// of the bucket in SQL; %s stands for q.From, in microseconds since 1970, and for
// the step in microseconds.
func (d *Dialect) Histogram(table string, q apilog.Query, step time.Duration, number string) Select {
	var b builder
	b.filter(d, q)
	sql := "SELECT " + fmt.Sprintf(number, b.arg(d, q.From.UnixMicro()), b.arg(d, step.Microseconds())) +
		" AS bucket," + counts + " FROM " + table + b.clause() + " GROUP BY bucket"
	return Select{sql, b.args}
}

// A builder collects conditions and arguments.
type builder struct {
	conditions []string
	args       []any
}

func (b *builder) arg(d *Dialect, value any) string {
	b.args = append(b.args, value)
	return fmt.Sprint(d.Param, len(b.args))
}

func (b *builder) where(condition string) { b.conditions = append(b.conditions, condition) }

func (b *builder) clause() string {
	if len(b.conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(b.conditions, " AND ")
}

// filter adds the conditions of q, but for After.
func (b *builder) filter(d *Dialect, q apilog.Query) {
	if q.Owner != "" {
		owner := "owner = " + b.arg(d, q.Owner)
		if q.KeyID != "" {
			owner = fmt.Sprintf(d.Rest, owner)
		}
		b.where(owner)
	}
	for _, f := range []struct{ column, value string }{
		{"key_id", q.KeyID}, {"method", q.Method}, {"route", q.Route},
		{"code", q.Code}, {"request_id", q.RequestID},
	} {
		if f.value != "" {
			b.where(f.column + " = " + b.arg(d, f.value))
		}
	}
	if q.RemoteAddr.IsValid() {
		b.where("remote_addr = " + b.arg(d, d.Addr(q.RemoteAddr)))
	}
	if q.StatusFrom != 0 {
		b.where("status >= " + b.arg(d, int64(q.StatusFrom)))
	}
	if q.StatusTo != 0 {
		b.where("status <= " + b.arg(d, int64(q.StatusTo)))
	}
	if !q.From.IsZero() {
		b.where("at >= " + b.arg(d, d.Time(q.From)))
	}
	if !q.To.IsZero() {
		b.where("at < " + b.arg(d, d.Time(q.To)))
	}
}

// Fill adds the rows of Histogram to the buckets.
func Fill(rows *sql.Rows, buckets []apilog.Bucket) error {
	for rows.Next() {
		var i, requests, clientErrors, serverErrors int64
		if err := rows.Scan(&i, &requests, &clientErrors, &serverErrors); err != nil {
			return err
		}
		if i < 0 || i >= int64(len(buckets)) {
			return fmt.Errorf("bucket %d of %d", i, len(buckets))
		}
		b := &buckets[i]
		b.Requests, b.ClientErrors, b.ServerErrors = requests, clientErrors, serverErrors
	}
	return rows.Err()
}

// Check returns an error if a text of the entry is not valid UTF-8 without NUL,
// for a database that would take it.
func Check(e *apilog.Entry) error {
	for _, text := range []string{e.ID, e.KeyID, e.Owner, e.Method, e.Route, e.Path, e.Code, e.RequestID, e.UserAgent} {
		if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
			return errors.New("a text of an entry is not valid UTF-8, or holds a NUL")
		}
	}
	return nil
}
