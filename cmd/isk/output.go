package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// say tells people something, on the standard error.
func (a *app) say(format string, args ...any) {
	if !a.json {
		a.tell("", fmt.Sprintf(format, args...))
	}
}

// warn tells people that something is not as it should be. With --json it
// becomes a member of the object at the end.
func (a *app) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if a.json {
		if len(a.warnings) < maxWarnings {
			a.warnings = append(a.warnings, a.safe(text))
		}
		return
	}
	a.tell("isk: ", text)
}

// maxWarnings is how many warnings --json keeps.
const maxWarnings = 1000

func (a *app) tell(prefix, text string) {
	fmt.Fprintf(a.stderr, "%s%s\n", prefix, printable(a.safe(text)))
}

// safe returns text on one line, without secrets and without keys.
func (a *app) safe(text string) string {
	return a.keys.strike(a.secrets.strike(lineBreaks.ReplaceAllString(text, " ")))
}

var lineBreaks = regexp.MustCompile(`\s*\n\s*`)

// end tells the error, if there is one, and returns the exit code.
func (a *app) end(ctx context.Context, err error) int {
	var f *failure
	if err != nil {
		f = asFailure(ctx, err)
	}
	switch {
	case a.json && (f != nil || len(a.warnings) > 0):
		object := map[string]any{}
		if f != nil {
			for name, value := range f.more {
				object[name] = value
			}
			object["code"], object["message"], object["exit"] = f.code, a.safe(f.message), f.exit
		}
		if len(a.warnings) > 0 {
			object["warnings"] = a.warnings
		}
		writeJSON(a.stderr, object)
	case f != nil:
		a.tell("isk: ", f.message)
	}
	if f == nil {
		return exitDone
	}
	return f.exit
}

// writeJSON writes a value and a line break to the standard output.
func (a *app) writeJSON(value any) error { return writeJSON(a.stdout, value) }

func writeJSON(w io.Writer, value any) error {
	text, err := encodeJSON(value)
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// encodeJSON returns value on one line. Characters that could control a terminal
// are escaped.
func encodeJSON(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	text := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	harmless := func(r rune) bool { return r < 0x7f || unicode.IsPrint(r) } // the encoder escapes those below 0x20
	if bytes.IndexFunc(text, func(r rune) bool { return !harmless(r) }) < 0 {
		return text, nil
	}
	var escaped []byte
	for _, r := range string(text) {
		switch {
		case harmless(r):
			escaped = utf8.AppendRune(escaped, r)
		case r > 0xffff:
			high, low := utf16Pair(r)
			escaped = fmt.Appendf(escaped, `\u%04x\u%04x`, high, low)
		default:
			escaped = fmt.Appendf(escaped, `\u%04x`, r)
		}
	}
	return escaped, nil
}

// utf16Pair returns the surrogates of r (RFC 8259 section 7).
func utf16Pair(r rune) (high, low rune) {
	r -= 0x10000
	return 0xd800 + r>>10, 0xdc00 + r&0x3ff
}

// A jsonArray is an array that is written element by element, each on a line of
// its own.
type jsonArray struct {
	w io.Writer
	n int
}

func (j *jsonArray) add(value any) error {
	text, err := encodeJSON(value)
	if err != nil {
		return err
	}
	before := ",\n"
	if j.n == 0 {
		before = "[\n"
	}
	j.n++
	_, err = j.w.Write(append([]byte(before), text...))
	return err
}

func (j *jsonArray) end() error {
	text := "\n]\n"
	if j.n == 0 {
		text = "[]\n"
	}
	_, err := io.WriteString(j.w, text)
	return err
}

// printable returns text as one line that cannot control a terminal: other
// characters than letters, marks, numbers, symbols, punctuation and the space
// are written as in Go.
func printable(text string) string {
	if strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) < 0 {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		text = text[size:]
	}
	return b.String()
}

// A table writes rows for people and for pipes. On a terminal it has a heading
// and aligned columns. Otherwise the cells of a row are separated by tabs, and
// there is no heading. No cell has a line break or a tab.
type table struct {
	w       io.Writer
	aligned bool
	titles  []string
	widths  []int
	waiting [][]string // for the widths
	begun   bool
}

// tableSample is how many rows decide about the widths of the columns.
const tableSample = 200

func (a *app) newTable(titles ...string) *table {
	return &table{w: a.rows, aligned: isTerminal(a.stdout), titles: titles}
}

func (t *table) add(cells ...string) error {
	row := make([]string, len(cells))
	for i, cell := range cells {
		row[i] = printable(cell)
	}
	if !t.aligned {
		_, err := io.WriteString(t.w, strings.Join(row, "\t")+"\n")
		return err
	}
	if t.begun {
		return t.write(row)
	}
	t.waiting = append(t.waiting, row)
	if len(t.waiting) < tableSample {
		return nil
	}
	return t.end()
}

// end writes the rows that wait.
func (t *table) end() error {
	if len(t.waiting) == 0 || t.begun {
		return nil
	}
	t.begun = true
	t.widths = make([]int, len(t.titles))
	rows := append([][]string{t.titles}, t.waiting...)
	t.waiting = nil
	for _, row := range rows {
		for i, cell := range row {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		if err := t.write(row); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) write(row []string) error {
	var b strings.Builder
	for i, cell := range row {
		b.WriteString(cell)
		if i < len(row)-1 {
			b.WriteString(strings.Repeat(" ", max(0, t.widths[i]-utf8.RuneCountInString(cell))+2))
		}
	}
	_, err := io.WriteString(t.w, strings.TrimRight(b.String(), " ")+"\n")
	return err
}

// rows are the elements of a list: of a JSON array or of a table.
type rows struct {
	*table
	array *jsonArray
}

// newRows returns rows with these titles, or an array with --json.
func (a *app) newRows(titles ...string) *rows {
	if a.json {
		return &rows{array: &jsonArray{w: a.rows}}
	}
	return &rows{table: a.newTable(titles...)}
}

func (r *rows) addJSON(value any) error { return r.array.add(value) }

// end writes what is left, and the end.
func (r *rows) end() error {
	if r.array != nil {
		return r.array.end()
	}
	return r.table.end()
}
