package transfer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/insigner/auth"
)

// A Reader reads the rows of a file.
type Reader struct {
	format Format
	in     *limited
	next   func() (*Row, error)
	keys   bool
	ended  error
}

// NewReader returns a Reader. If format is empty, the content tells it. It
// reads the begin of the file, and the header of a CSV. The error is a
// *LineError or that of in.
func NewReader(in io.Reader, format Format) (*Reader, error) {
	r := &Reader{format: format, in: &limited{in: bufio.NewReaderSize(in, 64<<10), left: MaxRow, last: '\n'}}
	if err := r.skipMark(); err != nil {
		return nil, err
	}
	if r.format == "" {
		var err error
		if r.format, err = r.detect(); err != nil {
			return nil, err
		}
	}
	var err error
	switch r.format {
	case CSV:
		var c *csvReader
		if c, err = newCSVReader(r.in); err == nil {
			r.next, r.keys = c.next, c.has.contains(keyColumn)
		}
	case Lines:
		r.next = newLinesReader(r.in)
	default:
		err = fmt.Errorf("transfer: no reader of the format %q", string(r.format))
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Format returns that of the file.
func (r *Reader) Format() Format { return r.format }

// HasKeys reports whether a CSV has a column with keys.
func (r *Reader) HasKeys() bool { return r.keys }

// Next returns the next row, or io.EOF after the last. After a *LineError that
// is not the Last, Next returns the rows that follow.
func (r *Reader) Next() (*Row, error) {
	if r.ended != nil {
		return nil, r.ended
	}
	r.in.left = MaxRow
	row, err := r.next()
	if err == nil {
		return row, nil
	}
	if line, ok := errors.AsType[*LineError](err); !ok || line.Last {
		r.ended = err
		if ok {
			r.ended = io.EOF
		}
	}
	return nil, err
}

// skipMark skips a byte order mark.
func (r *Reader) skipMark() error {
	start, err := r.in.in.Peek(3)
	if err != nil && err != io.EOF {
		return err
	}
	switch {
	case bytes.Equal(start, []byte("\xef\xbb\xbf")):
		r.in.in.Discard(3)
	case bytes.HasPrefix(start, []byte("\xff\xfe")), bytes.HasPrefix(start, []byte("\xfe\xff")):
		return &LineError{Reason: "the file is UTF-16; save it as UTF-8", Last: true}
	}
	return nil
}

// detect tells the format by the first character.
func (r *Reader) detect() (Format, error) {
	for n := 1; ; n++ {
		start, err := r.in.in.Peek(n)
		if len(start) < n {
			if err == io.EOF {
				return CSV, nil
			}
			if err == bufio.ErrBufferFull {
				return CSV, nil
			}
			return "", err
		}
		switch start[n-1] {
		case ' ', '\t', '\r', '\n':
			continue
		case '{':
			return Lines, nil
		case '[':
			return "", &LineError{Reason: "the file is a JSON array; write each object on a line of its own, " +
				"as isk export --format jsonl does", Last: true}
		}
		return CSV, nil
	}
}

// A limited reads at most so many bytes, so that a file without line breaks or
// with one quotation mark too many does not fill the memory.
type limited struct {
	in   *bufio.Reader
	left int
	last byte // that was read
	err  error

	cells  int  // of the row, without the last
	quoted bool // in quotes
}

// maxCells is how many cells a row of a CSV has at most, since package csv needs
// a hundred bytes for each.
const maxCells = 1000

var (
	errTooLong = errors.New("the row is too long")
	errTooMany = errors.New("the row has too many cells")
)

// count counts the cells of a CSV.
func (l *limited) count(text []byte) error {
	for _, c := range text {
		switch {
		case c == '"':
			l.quoted = !l.quoted // twice for one that is doubled
		case l.quoted:
		case c == '\n':
			l.cells = 0
		case c == ',':
			if l.cells++; l.cells >= maxCells {
				return errTooMany
			}
		}
	}
	return nil
}

// Read is for a CSV.
func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooLong
	}
	n, err := l.in.Read(p[:min(len(p), l.left)])
	l.left -= n
	if n > 0 {
		l.last = p[n-1]
	}
	if err != nil && err != io.EOF {
		l.err = err
	}
	if many := l.count(p[:n]); many != nil {
		return 0, many
	}
	return n, err
}

// set sets a field of the row by a text that is not empty, as a CSV has it.
func (r *Row) set(c int, text string) error {
	switch column := &columns[c]; column.kind {
	case keyKind:
		r.Key = text
	case textKind:
		*column.text(&r.Record) = text
		return storable([]byte(text)) // NUL can be escaped
	case hashKind:
		hash, err := auth.ParseHash(text)
		if err != nil {
			return errors.New("is not a hash: 64 hex digits")
		}
		r.Record.Hash = hash
	case timeKind:
		t, err := parseTime(column.name, text)
		if err != nil {
			return err
		}
		*column.time(&r.Record) = t
	case revisionKind:
		n, ok := parseRevision(text)
		if !ok {
			return errors.New("is not an integer of 64 bits")
		}
		r.Record.Revision = n
	case scopesKind:
		return r.setScopes(text)
	case metadataKind:
		p := parser{text: []byte(text)}
		metadata, err := p.document().object()
		if err != nil {
			return err
		}
		r.Record.Metadata = metadata
	}
	return nil
}

// setScopes sets the scopes by a text: a JSON array, or scopes that are
// separated by blanks or commas, which no scope has.
func (r *Row) setScopes(text string) error {
	if strings.HasPrefix(text, "[") {
		p := parser{text: []byte(text)}
		scopes, err := p.document().array()
		r.Record.Scopes = scopes
		return err
	}
	for _, s := range strings.FieldsFunc(text, func(c rune) bool { return c == ' ' || c == ',' }) {
		r.Record.Scopes = append(r.Record.Scopes, auth.Scope(s))
	}
	return nil
}

// parseTime parses a time in RFC 3339. An expiry can also be a date, which is
// the end of that day in UTC as in isk create, or "never".
func parseTime(name, text string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil && strict(t, text) {
		return t.UTC(), nil
	}
	if name != "expiresAt" {
		return time.Time{}, errors.New("is not a time such as 2027-12-31T18:00:00Z")
	}
	if text == "never" {
		return time.Time{}, nil
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.AddDate(0, 0, 1), nil
	}
	return time.Time{}, errors.New("is not a time such as 2027-12-31T18:00:00Z, a date or never")
}

// strict reports whether text has the form of RFC 3339 section 5.6. Package time
// also takes an hour with one digit, a comma and any offset (go.dev/issue/54580).
func strict(t time.Time, text string) bool {
	const seconds = "2006-01-02T15:04:05"
	if len(text) <= len(seconds) || text[:len(seconds)] != t.Format(seconds) {
		return false
	}
	zone := text[len(seconds):]
	if zone[0] == '.' {
		zone = strings.TrimLeft(zone[1:], "0123456789")
	}
	return zone == "Z" || zone == t.Format("-07:00") && zone[1:] < "24"
}

func parseRevision(text string) (n int64, ok bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == text
}

// complain returns an error about a column of a line.
func complain(line int, c int, err error) error {
	return &LineError{Line: line, Reason: columns[c].name + " " + err.Error()}
}

// end checks what the columns of a row have in common.
func (r *Row) end() error {
	var reason string
	hashed := r.filled.contains(columnOf["hash"])
	switch {
	case r.Complete() && r.Key == "":
		for _, name := range [...]string{"id", "hash", "createdAt", "revision"} {
			if !r.filled.contains(columnOf[name]) {
				reason = name + " is empty"
			}
		}
	case r.Key == "" && !hashed:
		reason = "there is neither a hash nor a key"
	case r.Key != "" && hashed:
		reason = "there are both a hash and a key"
	}
	if reason != "" {
		return &LineError{Line: r.Line, Reason: reason}
	}
	return nil
}

// storable returns an error if no store keeps the text.
func storable(text []byte) error {
	if !utf8.Valid(text) {
		return errors.New("is not valid UTF-8")
	}
	if slices.Contains(text, 0) {
		return errors.New("has a NUL")
	}
	return nil
}
