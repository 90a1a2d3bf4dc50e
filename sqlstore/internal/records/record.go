package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// A column is one of the table, and how a record is written to it and read from
// it. Errors leave out the value.
type column struct {
	name  string
	fixed bool // Store.Update does not change it
	actor bool // it names an actor
	value func(d *Dialect, r *auth.Record) (any, error)
	read  func(w *row, src any) error
}

const numColumns = 19

var columns = [numColumns]column{
	textColumn("id", true, func(r *auth.Record) *string { return &r.ID }),
	{"hash", true, false, hashValue, (*row).readHash},
	textColumn("hint", false, func(r *auth.Record) *string { return &r.Hint }),
	textColumn("name", false, func(r *auth.Record) *string { return &r.Name }),
	textColumn("owner", true, func(r *auth.Record) *string { return &r.Owner }),
	{"scopes", false, false, scopesValue, (*row).readScopes},
	{"metadata", false, false, metadataValue, (*row).readMetadata},
	{"created_at", true, false, createdAtValue, (*row).readCreatedAt},
	actorColumn("created_by", true, func(r *auth.Record) *string { return &r.CreatedBy }),
	timeColumn("updated_at", false, func(r *auth.Record) *time.Time { return &r.UpdatedAt }),
	actorColumn("updated_by", false, func(r *auth.Record) *string { return &r.UpdatedBy }),
	{"revision", false, false, revisionValue, (*row).readRevision},
	timeColumn("expires_at", false, func(r *auth.Record) *time.Time { return &r.ExpiresAt }),
	timeColumn("disabled_at", false, func(r *auth.Record) *time.Time { return &r.DisabledAt }),
	timeColumn("revoked_at", false, func(r *auth.Record) *time.Time { return &r.RevokedAt }),
	timeColumn("last_used_at", true, func(r *auth.Record) *time.Time { return &r.LastUsedAt }),
	textColumn("rotated_from", false, func(r *auth.Record) *string { return &r.RotatedFrom }),
	textColumn("rotated_to", false, func(r *auth.Record) *string { return &r.RotatedTo }),
	textColumn("chain", false, func(r *auth.Record) *string { return &r.Chain }),
}

// columnNames returns what follows SELECT.
func columnNames() string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	return strings.Join(names, ", ")
}

// values returns the parameters for the columns of r, or an error if r cannot
// be stored as it is.
func (d *Dialect) values(r *auth.Record) ([]any, error) {
	if r.ID == "" {
		return nil, errNoID
	}
	values := make([]any, len(columns))
	for i, c := range columns {
		v, err := c.value(d, r)
		if err != nil {
			return nil, fmt.Errorf("record %q: column %s: %w", r.ID, c.name, err)
		}
		values[i] = v
	}
	return values, nil
}

// A row is where the driver puts the columns of a record. What cannot be read
// does not end the query, as an error of Scan would: it costs only this row.
type row struct {
	record    auth.Record
	createdAt time.Time // also one that no record can have
	err       error     // about the first column that cannot be read
	cells     [numColumns]cell
}

// A cell is an sql.Scanner for a column of a row.
type cell struct {
	row    *row
	column int
}

// Scan never fails. It keeps the error in the row.
func (c *cell) Scan(src any) error {
	column := &columns[c.column]
	if err := column.read(c.row, src); err != nil && c.row.err == nil {
		c.row.err = fmt.Errorf("column %s: %w", column.name, err)
	}
	return nil
}

// dest returns the parameters of Scan.
func (w *row) dest() []any {
	dest := make([]any, len(columns))
	for i := range w.cells {
		w.cells[i] = cell{w, i}
		dest[i] = &w.cells[i]
	}
	return dest
}

// result returns what was read, or a *keyring.RecordError.
func (w *row) result() (*auth.Record, error) {
	if w.err == nil {
		r := w.record // not the cells with it
		return &r, nil
	}
	e := &keyring.RecordError{ID: w.record.ID, Err: w.err}
	if !w.createdAt.IsZero() {
		e.At = keyring.Position{CreatedAt: w.createdAt, ID: w.record.ID}
	}
	return nil, e
}

// textColumn returns the column of a text field.
func textColumn(name string, fixed bool, field func(r *auth.Record) *string) column {
	return column{name, fixed, false,
		func(_ *Dialect, r *auth.Record) (any, error) {
			s := *field(r)
			return s, checkText(s)
		},
		func(w *row, src any) error {
			s, err := textOf(src)
			if err != nil {
				return err
			}
			*field(&w.record) = s // also if it is bad, since the ID names the row
			return checkText(s)
		}}
}

// actorColumn returns the column of a text field that names an actor.
func actorColumn(name string, fixed bool, field func(r *auth.Record) *string) column {
	c := textColumn(name, fixed, field)
	c.actor = true
	return c
}

// textOf returns the text that a driver returned.
func textOf(src any) (string, error) {
	switch src := src.(type) {
	case string:
		return src, nil
	case []byte:
		return string(src), nil
	}
	return "", errors.New("not text")
}

// checkText returns an error if a text column does not keep s as it is, in
// PostgreSQL. Both databases shall behave alike.
func checkText(s string) error {
	if !utf8.ValidString(s) {
		return errUTF8
	}
	if strings.IndexByte(s, 0) >= 0 {
		return errors.New("a NUL in the text")
	}
	return nil
}

var errUTF8 = errors.New("not valid UTF-8")

func hashValue(_ *Dialect, r *auth.Record) (any, error) { return r.Hash[:], nil }

func (w *row) readHash(src any) error {
	b, ok := src.([]byte)
	if !ok || len(b) != len(w.record.Hash) {
		return errors.New("not 32 bytes")
	}
	w.record.Hash = auth.Hash(b)
	return nil
}

func revisionValue(_ *Dialect, r *auth.Record) (any, error) { return r.Revision, nil }

func (w *row) readRevision(src any) error {
	n, ok := src.(int64)
	if !ok {
		return errors.New("not an integer")
	}
	w.record.Revision = n
	return nil
}

// scopesValue returns a JSON array. Package json would replace invalid UTF-8
// silently.
func scopesValue(_ *Dialect, r *auth.Record) (any, error) {
	for _, s := range r.Scopes {
		if !utf8.ValidString(string(s)) {
			return nil, errUTF8
		}
	}
	text, err := json.Marshal(r.Scopes) // never null
	return string(text), err
}

func (w *row) readScopes(src any) error {
	text, err := jsonOf(src)
	if err != nil {
		return err
	}
	var scopes []*auth.Scope // not auth.Scopes, in which null would become ""
	if json.Unmarshal(text, &scopes) != nil || scopes == nil || slices.Contains(scopes, nil) {
		return errors.New("not a JSON array of strings")
	}
	for _, s := range scopes {
		w.record.Scopes = append(w.record.Scopes, *s)
	}
	return nil
}

// metadataValue returns a JSON object.
func metadataValue(_ *Dialect, r *auth.Record) (any, error) {
	for k, v := range r.Metadata {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return nil, errUTF8
		}
	}
	if r.Metadata == nil {
		return "{}", nil // not null
	}
	text, err := json.Marshal(r.Metadata)
	return string(text), err
}

func (w *row) readMetadata(src any) error {
	text, err := jsonOf(src)
	if err != nil {
		return err
	}
	var metadata map[string]*string // in map[string]string null would become ""
	if json.Unmarshal(text, &metadata) != nil || metadata == nil ||
		slices.Contains(slices.Collect(maps.Values(metadata)), nil) {
		return errors.New("not a JSON object of strings")
	}
	if len(metadata) == 0 {
		return nil // nil and empty mean the same
	}
	w.record.Metadata = make(map[string]string, len(metadata))
	for k, v := range metadata {
		w.record.Metadata[k] = *v
	}
	return nil
}

// jsonOf returns the text of a JSON column.
func jsonOf(src any) ([]byte, error) {
	text, err := textOf(src)
	if err == nil && !utf8.ValidString(text) {
		err = errUTF8
	}
	return []byte(text), err
}

// maxTime is the latest time that a record has. Later ones have no JSON (RFC
// 3339).
var maxTime = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).Add(-time.Microsecond)

var (
	errRange = errors.New("not in the years 1 to 9999 (UTC)")

	// The zero time means something else, such as "never". A time must not
	// become it by truncation.
	errZero = errors.New("less than a microsecond after the zero time")
)

// truncate returns t in UTC and whole microseconds, or an error if the database
// cannot keep it.
func truncate(t time.Time) (time.Time, error) {
	t = t.UTC().Truncate(time.Microsecond)
	return t, checkTime(t)
}

func checkTime(t time.Time) error {
	if t.Before(time.Time{}) || t.After(maxTime) {
		return errRange
	}
	return nil
}

// time returns the parameter for t.
func (d *Dialect) time(t time.Time) any {
	if d.Microseconds {
		return t.UnixMicro()
	}
	return t
}

// timeOf returns the time that a driver returned. It may be one that no record
// can have.
func timeOf(src any) (time.Time, error) {
	switch src := src.(type) {
	case time.Time:
		return src.UTC(), nil
	case int64:
		return time.UnixMicro(src).UTC(), nil
	case string: // from pgx
		switch src {
		case "infinity":
			return infinity, nil
		case "-infinity":
			return minusInfinity, nil
		}
	}
	return time.Time{}, errors.New("not a time")
}

// timeColumn returns the column of a time that is NULL if it is zero.
func timeColumn(name string, fixed bool, field func(r *auth.Record) *time.Time) column {
	return column{name, fixed, false,
		func(d *Dialect, r *auth.Record) (any, error) {
			if field(r).IsZero() {
				return nil, nil
			}
			t, err := truncate(*field(r))
			if err == nil && t.IsZero() {
				err = errZero
			}
			return d.time(t), err
		},
		func(w *row, src any) error {
			if src == nil {
				return nil
			}
			t, err := timeOf(src)
			if err != nil {
				return err
			}
			if t.IsZero() {
				return errZero // it would be taken for NULL
			}
			*field(&w.record) = t
			return checkTime(t)
		}}
}

func createdAtValue(d *Dialect, r *auth.Record) (any, error) {
	t, err := truncate(r.CreatedAt)
	return d.time(t), err
}

func (w *row) readCreatedAt(src any) error {
	t, err := timeOf(src)
	if err != nil {
		return err
	}
	w.record.CreatedAt, w.createdAt = t, t
	return checkTime(t)
}

// A column can hold these if somebody has removed its CHECK constraint. A list
// must continue after such rows, so they need a position.
var (
	// PostgreSQL has times from 4713 BC to the year 294276, -infinity and
	// infinity.
	minusInfinity = time.Date(-4713, 1, 1, 0, 0, 0, 0, time.UTC)
	infinity      = time.Date(294277, 1, 1, 0, 0, 0, 0, time.UTC)

	minMicro = time.UnixMicro(math.MinInt64)
	maxMicro = time.UnixMicro(math.MaxInt64)
)

// position returns the parameter for a time that is compared with a column. It
// may be one that no record can have.
func (d *Dialect) position(t time.Time) any {
	t = t.UTC().Truncate(time.Microsecond)
	switch {
	case d.Microseconds && t.Before(minMicro):
		return int64(math.MinInt64)
	case d.Microseconds && t.After(maxMicro):
		return int64(math.MaxInt64)
	case !d.Microseconds && !t.After(minusInfinity):
		return "-infinity"
	case !d.Microseconds && !t.Before(infinity):
		return "infinity"
	}
	return d.time(t)
}
