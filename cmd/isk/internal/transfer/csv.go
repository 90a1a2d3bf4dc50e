package transfer

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// escape begins a cell that holds a text as JSON. A Writer needs it for texts
// with a CR, since readers of CSV take CRLF for LF, also in quotes.
const escape = `json:"`

// A csvReader reads the rows of a CSV.
type csvReader struct {
	in      *limited
	rows    *csv.Reader
	columns []int // of each cell
	has     columnSet
	line    int // of the last row
}

// newCSVReader reads the header.
func newCSVReader(in *limited) (*csvReader, error) {
	c := &csvReader{in: in, rows: csv.NewReader(in)}
	c.rows.FieldsPerRecord = -1 // the message of package csv names no number
	c.rows.ReuseRecord = true
	header, err := c.rows.Read()
	if err == io.EOF {
		return nil, &LineError{Reason: "the file is empty; the first line names the columns", Last: true}
	}
	if err != nil {
		return nil, c.syntax(err)
	}
	line, _ := c.rows.FieldPos(0)
	if reason := c.header(header); reason != "" {
		return nil, &LineError{Line: line, Reason: reason, Last: true}
	}
	return c, nil
}

// header keeps which columns there are, or returns what is wrong with them.
func (c *csvReader) header(names []string) string {
	var problems []string
	known := 0
	if strings.ContainsAny(strings.Join(names, ","), "\r\n") {
		return "the first line has a line break in a column; end the lines in LF or CRLF"
	}
	for _, name := range names {
		i, ok := columnOf[name]
		switch {
		case !ok:
			problems = append(problems, unknownColumn("column", name))
		case c.has.contains(i):
			problems = append(problems, "the column "+name+" is there twice")
		default:
			c.has |= 1 << i
		}
		if ok {
			known++
		}
		c.columns = append(c.columns, i)
	}
	if known == 0 {
		reason := "the first line names no column that is known, such as hash, name, owner, scopes"
		if strings.ContainsAny(strings.Join(names, ","), ";\t") {
			reason += "; separate the columns by commas"
		}
		return reason
	}
	if names := missing(c.has); len(names) > 0 {
		problems = append(problems, "the columns are missing: "+strings.Join(names, ", "))
	}
	return strings.Join(problems, "; ")
}

func (c *csvReader) next() (*Row, error) {
	cells, err := c.rows.Read()
	if err == io.EOF && c.in.last != '\n' && c.has&exported == exported {
		// The last cell can be cut off, and no other mark tells the end.
		return nil, &LineError{Line: c.line, Reason: "the file ends in the middle of a line", Last: true}
	}
	if err != nil {
		return nil, c.syntax(err)
	}
	row := &Row{has: c.has}
	row.Line, _ = c.rows.FieldPos(0)
	c.line = row.Line
	if len(cells) != len(c.columns) {
		return nil, &LineError{Line: row.Line, Reason: fmt.Sprintf("it has %d cells, but there are %d columns", len(cells), len(c.columns))}
	}
	for i, cell := range cells {
		if cell == "" {
			continue
		}
		column := c.columns[i]
		row.filled |= 1 << column
		err := storable([]byte(cell))
		if err == nil && columns[column].kind == textKind && strings.HasPrefix(cell, escape) {
			p := parser{text: []byte(cell[len(escape)-1:])}
			cell, err = p.document().string()
		}
		if err == nil {
			err = row.set(column, cell)
		}
		if err != nil {
			return nil, complain(row.Line, column, err)
		}
	}
	return row, row.end()
}

// syntax returns what is said of an error of package csv.
func (c *csvReader) syntax(err error) error {
	if parse, ok := errors.AsType[*csv.ParseError](err); ok && c.in.err == nil {
		reason := `a cell has a " that is not doubled, or no " at its end`
		if parse.StartLine != parse.Line {
			reason += fmt.Sprintf("; the row begins on line %d", parse.StartLine)
		}
		return &LineError{Line: parse.Line, Reason: reason, Last: true}
	}
	if errors.Is(err, errTooLong) {
		return &LineError{Line: c.line + 1, Reason: tooLong, Last: true}
	}
	if errors.Is(err, errTooMany) {
		return &LineError{Line: c.line + 1, Reason: tooMany, Last: true}
	}
	return err
}

var tooMany = fmt.Sprintf("the row that begins here, or later, has more than %d cells", maxCells)

var tooLong = fmt.Sprintf("the row that begins here, or later, has more than %d MB", MaxRow>>20)
