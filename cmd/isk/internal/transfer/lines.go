package transfer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"

	"github.com/insigner/auth"
)

// A linesReader reads JSON lines.
type linesReader struct {
	in   *limited
	line int    // that was read last
	buf  []byte // of that line
}

func newLinesReader(in *limited) (next func() (*Row, error)) {
	return (&linesReader{in: in}).next
}

func (l *linesReader) next() (*Row, error) {
	for {
		text, err := l.readLine()
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		row := &Row{Line: l.line}
		if err := row.parse(text); err != nil {
			if _, ok := errors.AsType[*LineError](err); !ok {
				err = &LineError{Line: l.line, Reason: err.Error()}
			}
			return nil, err
		}
		return row, row.end()
	}
}

// readLine returns the next line, or io.EOF.
func (l *linesReader) readLine() ([]byte, error) {
	l.buf = l.buf[:0]
	for {
		part, err := l.in.in.ReadSlice('\n')
		l.buf = append(l.buf, part...)
		switch {
		case err != nil && err != bufio.ErrBufferFull && (err != io.EOF || len(l.buf) == 0):
			return nil, err
		case err != bufio.ErrBufferFull:
			l.line++
			if cap(l.buf) > 1<<20 && len(l.buf) < 1<<16 {
				l.buf = bytes.Clone(l.buf) // not as much memory as the longest line
			}
			return l.buf, nil
		case len(l.buf) > MaxRow:
			return nil, &LineError{Line: l.line + 1, Reason: tooLong, Last: true}
		}
	}
}

// parse sets the fields of the row.
func (r *Row) parse(text []byte) error {
	p := parser{text: text}
	if err := p.document().members(func(name string) error {
		c, ok := columnOf[name]
		if !ok {
			return errors.New(unknownColumn("member", name))
		}
		if r.has.contains(c) {
			return errors.New("the member " + name + " is there twice")
		}
		r.has |= 1 << c
		if err := r.parseMember(&p, c); err != nil {
			return complain(r.Line, c, err)
		}
		return nil
	}); err != nil {
		return err
	}
	if names := missing(r.has); len(names) > 0 {
		return fmt.Errorf("members are missing: %s", joined(names))
	}
	return nil
}

func joined(names []string) string {
	text := names[0]
	for _, name := range names[1:] {
		text += ", " + name
	}
	return text
}

// parseMember sets a field by the value that follows.
func (r *Row) parseMember(p *parser, c int) (err error) {
	if p.null() {
		return nil
	}
	switch columns[c].kind {
	case scopesKind:
		r.Record.Scopes, err = p.array()
		if len(r.Record.Scopes) > 0 {
			r.filled |= 1 << c
		}
		return err
	case metadataKind:
		r.Record.Metadata, err = p.object()
		if len(r.Record.Metadata) > 0 {
			r.filled |= 1 << c
		}
		return err
	}
	var text string
	if columns[c].kind == revisionKind {
		text, err = p.number()
	} else {
		text, err = p.string()
	}
	if err != nil || text == "" {
		return err
	}
	r.filled |= 1 << c
	return r.set(c, text)
}

// A parser reads JSON (RFC 8259) that was checked already. It is stricter than
// package encoding/json: nothing is there twice, and no text has half of a
// surrogate pair.
type parser struct {
	text []byte
	pos  int
	err  error
}

// document checks the syntax.
func (p *parser) document() *parser {
	if err := storable(p.text); err != nil {
		p.err = err
	} else if !json.Valid(p.text) {
		p.err = errors.New("is not JSON")
	}
	return p
}

// peek returns the next character that is not white space.
func (p *parser) peek() byte {
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; c {
		case ' ', '\t', '\r', '\n':
			p.pos++
		default:
			return c
		}
	}
	return 0
}

// null reads null, if it is there.
func (p *parser) null() bool {
	if p.err != nil || p.peek() != 'n' {
		return false
	}
	p.pos += len("null")
	return true
}

func (p *parser) number() (string, error) {
	if c := p.peek(); p.err != nil || c != '-' && (c < '0' || c > '9') {
		return "", p.refuse("is not a number")
	}
	start := p.pos
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; c {
		case ',', '}', ']', ' ', '\t', '\r', '\n':
			return string(p.text[start:p.pos]), nil
		default:
			p.pos++
		}
	}
	return string(p.text[start:]), nil
}

// refuse returns the error of the document, or one of the value.
func (p *parser) refuse(reason string) error {
	if p.err != nil {
		return p.err
	}
	return errors.New(reason)
}

func (p *parser) string() (string, error) {
	if p.err != nil || p.peek() != '"' {
		return "", p.refuse("is not a text in quotes")
	}
	start := p.pos
	plain := true
	for p.pos++; p.text[p.pos] != '"'; p.pos++ {
		if p.text[p.pos] == '\\' {
			plain = false
			p.pos++
		}
	}
	p.pos++
	quoted := p.text[start:p.pos]
	if plain {
		return string(quoted[1 : len(quoted)-1]), nil
	}
	if !pairs(quoted) {
		return "", errors.New("has half of a surrogate pair")
	}
	var s string
	err := json.Unmarshal(quoted, &s)
	return s, err
}

// pairs reports whether all surrogates in a JSON string are pairs. Package json
// would replace others silently.
func pairs(quoted []byte) bool {
	unit := func(b []byte) rune {
		if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
			return -1
		}
		n, _ := strconv.ParseUint(string(b[2:6]), 16, 16)
		return rune(n)
	}
	for i := 0; i < len(quoted); i++ {
		if quoted[i] != '\\' {
			continue
		}
		if c := unit(quoted[i:]); utf16.IsSurrogate(c) {
			if utf16.DecodeRune(c, unit(quoted[i+6:])) == '\ufffd' {
				return false
			}
			i += 6 + 5
		} else {
			i++
		}
	}
	return true
}

// array reads an array of texts. An empty one is nil.
func (p *parser) array() (auth.Scopes, error) {
	const reason = "is not an array of texts"
	if p.err != nil || p.peek() != '[' {
		return nil, p.refuse(reason)
	}
	var scopes auth.Scopes
	for p.pos++; p.peek() != ']'; {
		if p.peek() == ',' {
			p.pos++
		}
		if p.peek() != '"' {
			return nil, errors.New(reason)
		}
		s, err := p.string()
		if err != nil {
			return nil, err
		}
		scopes = append(scopes, auth.Scope(s))
	}
	p.pos++
	return scopes, nil
}

// object reads an object with texts. An empty one is nil.
func (p *parser) object() (map[string]string, error) {
	const reason = "is not an object with texts"
	if p.err != nil || p.peek() != '{' {
		return nil, p.refuse(reason)
	}
	var entries map[string]string
	err := p.members(func(name string) error {
		if _, ok := entries[name]; ok {
			return errors.New("has an entry twice")
		}
		if p.peek() != '"' {
			return errors.New(reason)
		}
		value, err := p.string()
		if entries == nil {
			entries = make(map[string]string)
		}
		entries[name] = value
		return err
	})
	return entries, err
}

// members calls f with the name of each member of an object, when its value is
// next.
func (p *parser) members(f func(name string) error) error {
	if p.err != nil || p.peek() != '{' {
		return p.refuse("it is not a JSON object")
	}
	for p.pos++; p.peek() != '}'; {
		if p.peek() == ',' {
			p.pos++
		}
		name, err := p.string()
		if err != nil {
			return err
		}
		p.peek()
		p.pos++ // the colon
		if err := f(name); err != nil {
			return err
		}
	}
	p.pos++
	return nil
}
