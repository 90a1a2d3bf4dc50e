package transfer

import (
	"bufio"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/insigner/auth"
)

// A Writer writes records so that a Reader gives the same ones back. A record
// has no secret.
type Writer struct {
	format Format
	out    *bufio.Writer
	rows   *csv.Writer
	cells  []string
	buf    []byte
	n      int64
}

// NewWriter returns a Writer.
func NewWriter(out io.Writer, format Format) *Writer {
	w := &Writer{format: format, out: bufio.NewWriterSize(out, 64<<10)}
	if format == CSV {
		w.rows = csv.NewWriter(w.out)
		for _, c := range columns[:numExported] {
			w.cells = append(w.cells, c.name)
		}
		w.rows.Write(w.cells) // an error comes again
	}
	return w
}

// A RecordError is why a record cannot be written. Nothing of it was written.
type RecordError struct{ Reason string }

func (e *RecordError) Error() string { return e.Reason }

// Write writes a record. After a *RecordError others can be written.
func (w *Writer) Write(r *auth.Record) error {
	if err := writable(r); err != nil {
		return err
	}
	if w.format == CSV {
		return w.writeCSV(r)
	}
	return w.writeJSON(r)
}

// Close writes what is left, and the end. It does not close the underlying
// writer.
func (w *Writer) Close() error {
	switch w.format {
	case CSV:
		w.rows.Flush()
		if err := w.rows.Error(); err != nil {
			return err
		}
	case Array:
		end := "\n]\n"
		if w.n == 0 {
			end = "[]\n"
		}
		if _, err := w.out.WriteString(end); err != nil {
			return err
		}
	}
	return w.out.Flush()
}

// writable returns an error if the text of a field would not come back as it is.
func writable(r *auth.Record) error {
	for _, c := range columns[:numExported] {
		var err error
		switch c.kind {
		case textKind:
			err = storable([]byte(*c.text(r)))
		case timeKind:
			if t := c.time(r).UTC(); t.Year() < 0 || t.Year() > 9999 {
				err = errors.New("has no four digits for the year")
			}
		}
		if err != nil {
			return &RecordError{c.name + " " + err.Error()}
		}
	}
	texts := make([]string, 0, len(r.Scopes)+2*len(r.Metadata))
	for _, s := range r.Scopes {
		texts = append(texts, string(s))
	}
	for k, v := range r.Metadata {
		texts = append(texts, k, v)
	}
	for _, s := range texts {
		if strings.ToValidUTF8(s, "") != s {
			return &RecordError{"scopes or metadata are not valid UTF-8"}
		}
	}
	if r.ID == "" {
		return &RecordError{"id is empty"}
	}
	return nil
}

func (w *Writer) writeCSV(r *auth.Record) error {
	size := 0
	for i, c := range columns[:numExported] {
		w.cells[i] = c.cell(r)
		size += 2*len(w.cells[i]) + 3 // if each character is a quotation mark
	}
	if size > MaxRow {
		return errTooLarge
	}
	return w.rows.Write(w.cells)
}

var errTooLarge = &RecordError{fmt.Sprintf("it has more than %d MB", MaxRow>>20)}

// cell returns the field of a record as a CSV has it.
func (c *column) cell(r *auth.Record) string {
	switch c.kind {
	case hashKind:
		return hex.EncodeToString(r.Hash[:])
	case scopesKind:
		return scopesCell(r.Scopes)
	case metadataKind:
		if len(r.Metadata) == 0 {
			return ""
		}
		return string(appendMetadata(nil, r.Metadata))
	case timeKind:
		if t := *c.time(r); !t.IsZero() || c.name == "createdAt" {
			return string(appendTime(nil, t))
		}
		return ""
	case revisionKind:
		return strconv.FormatInt(r.Revision, 10)
	}
	text := *c.text(r)
	if strings.IndexByte(text, '\r') >= 0 || strings.HasPrefix(text, escape) {
		return escape[:len(escape)-1] + string(appendText(nil, text))
	}
	return text
}

// scopesCell returns scopes that are separated by blanks, or a JSON array if
// they are no scopes.
func scopesCell(scopes auth.Scopes) string {
	for _, s := range scopes {
		if _, err := auth.ParseScope(string(s)); err != nil {
			return string(appendScopes(nil, scopes))
		}
	}
	var b strings.Builder
	for i, s := range scopes {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(s))
	}
	return b.String()
}

func (w *Writer) writeJSON(r *auth.Record) error {
	b := w.buf[:0]
	switch {
	case w.format == Array && w.n == 0:
		b = append(b, "[\n"...)
	case w.format == Array:
		b = append(b, ",\n"...)
	}
	for i, c := range columns[:numExported] {
		if i == 0 {
			b = append(b, '{')
		} else {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, c.name...)
		b = append(b, `":`...)
		b = c.append(b, r)
	}
	b = append(b, '}')
	if w.format == Lines {
		b = append(b, '\n')
	}
	if w.buf = b; cap(b) > 1<<20 {
		w.buf = nil
	}
	if len(b) > MaxRow {
		return errTooLarge
	}
	w.n++
	_, err := w.out.Write(b)
	return err
}

// append appends the field of a record as JSON.
func (c *column) append(b []byte, r *auth.Record) []byte {
	switch c.kind {
	case hashKind:
		b = append(b, '"')
		b = hex.AppendEncode(b, r.Hash[:])
		return append(b, '"')
	case scopesKind:
		return appendScopes(b, r.Scopes)
	case metadataKind:
		return appendMetadata(b, r.Metadata)
	case timeKind:
		t := *c.time(r)
		if t.IsZero() && c.name != "createdAt" {
			return append(b, "null"...)
		}
		b = append(b, '"')
		b = appendTime(b, t)
		return append(b, '"')
	case revisionKind:
		return strconv.AppendInt(b, r.Revision, 10)
	}
	return appendText(b, *c.text(r))
}

func appendTime(b []byte, t time.Time) []byte { return t.UTC().AppendFormat(b, time.RFC3339Nano) }

// appendText appends a text as JSON, which cannot fail.
func appendText(b []byte, text string) []byte {
	quoted, _ := json.Marshal(text)
	return append(b, quoted...)
}

func appendScopes(b []byte, scopes auth.Scopes) []byte {
	b = append(b, '[')
	for i, s := range scopes {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, string(s))
	}
	return append(b, ']')
}

// appendMetadata appends a JSON object, sorted by its names.
func appendMetadata(b []byte, metadata map[string]string) []byte {
	if len(metadata) == 0 {
		return append(b, "{}"...)
	}
	object, _ := json.Marshal(metadata)
	return append(b, object...)
}
