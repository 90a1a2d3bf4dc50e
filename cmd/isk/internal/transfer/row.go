// Package transfer reads and writes keys as CSV and as JSON lines, for isk
// import and isk export.
//
// A [Writer] writes every field of a record, so that a [Reader] gives the same
// record back. A [Checker] makes records of rows that others have written. No
// error of this package has the text of a row: it could be a key.
package transfer

import (
	"strconv"
	"strings"
	"time"

	"github.com/insigner/auth"
)

// A Format is that of a file.
type Format string

const (
	CSV   Format = "csv"   // RFC 4180, with a header
	Lines Format = "jsonl" // a JSON object on each line
	Array Format = "json"  // a JSON array; only a Writer knows it
)

// MaxRow is how many bytes a row has at most. A Writer writes no longer one, and
// a Reader stops at it.
const MaxRow = 16 << 20

// A Row is what a line of a file says.
type Row struct {
	Line   int         // of the file, from 1, where the row begins
	Record auth.Record // the fields that the row has
	Key    string      // a secret; empty if the row has a hash

	has    columnSet // the columns of the file
	filled columnSet // those that are not empty in this row
}

// Complete reports whether the row has every column that a Writer writes. Then
// it is the record of a store, to be restored as it is.
func (r *Row) Complete() bool { return r.has&exported == exported }

// HasKey reports whether the row has a column or member for a key.
func (r *Row) HasKey() bool { return r.has.contains(keyColumn) }

// A columnSet has a bit for each column.
type columnSet uint32

func (s columnSet) contains(c int) bool { return s&(1<<c) != 0 }

// A column is a field of a record, and how a file has it.
type column struct {
	name string
	kind kind
	text func(r *auth.Record) *string    // of a text
	time func(r *auth.Record) *time.Time // of a time
}

type kind int

const (
	textKind kind = iota
	timeKind
	hashKind
	scopesKind
	metadataKind
	revisionKind
	keyKind
)

// columns are those of a file, in the order in which a Writer writes them. The
// last is for a Reader only. The names are those of the JSON of package auth.
var columns = [...]column{
	{name: "id", text: func(r *auth.Record) *string { return &r.ID }},
	{name: "hash", kind: hashKind},
	{name: "hint", text: func(r *auth.Record) *string { return &r.Hint }},
	{name: "name", text: func(r *auth.Record) *string { return &r.Name }},
	{name: "owner", text: func(r *auth.Record) *string { return &r.Owner }},
	{name: "scopes", kind: scopesKind},
	{name: "metadata", kind: metadataKind},
	{name: "createdAt", kind: timeKind, time: func(r *auth.Record) *time.Time { return &r.CreatedAt }},
	{name: "createdBy", text: func(r *auth.Record) *string { return &r.CreatedBy }},
	{name: "updatedAt", kind: timeKind, time: func(r *auth.Record) *time.Time { return &r.UpdatedAt }},
	{name: "updatedBy", text: func(r *auth.Record) *string { return &r.UpdatedBy }},
	{name: "revision", kind: revisionKind},
	{name: "expiresAt", kind: timeKind, time: func(r *auth.Record) *time.Time { return &r.ExpiresAt }},
	{name: "disabledAt", kind: timeKind, time: func(r *auth.Record) *time.Time { return &r.DisabledAt }},
	{name: "revokedAt", kind: timeKind, time: func(r *auth.Record) *time.Time { return &r.RevokedAt }},
	{name: "lastUsedAt", kind: timeKind, time: func(r *auth.Record) *time.Time { return &r.LastUsedAt }},
	{name: "rotatedFrom", text: func(r *auth.Record) *string { return &r.RotatedFrom }},
	{name: "rotatedTo", text: func(r *auth.Record) *string { return &r.RotatedTo }},
	{name: "chain", text: func(r *auth.Record) *string { return &r.Chain }},
	{name: "key", kind: keyKind},
}

const (
	numExported = len(columns) - 1
	exported    = columnSet(1<<numExported - 1)
	keyColumn   = numExported
)

var columnOf = func() map[string]int {
	m := make(map[string]int, len(columns))
	for i, c := range columns {
		m[c.name] = i
	}
	return m
}()

// required are the columns that every row has, in addition to hash or key.
var required = []string{"name", "owner", "scopes"}

// missing returns the names of the columns that rows with these columns lack.
func missing(has columnSet) []string {
	var names []string
	if !has.contains(columnOf["hash"]) && !has.contains(keyColumn) {
		names = append(names, "hash or key")
	}
	for _, name := range required {
		if !has.contains(columnOf[name]) {
			names = append(names, name)
		}
	}
	return names
}

// A LineError says what is wrong with a line of a file, without its text.
type LineError struct {
	Line   int // from 1; 0 if it is about the file
	Reason string
	Last   bool // what follows cannot be read
}

func (e *LineError) Error() string {
	if e.Line == 0 {
		return e.Reason
	}
	return "line " + strconv.Itoa(e.Line) + ": " + e.Reason
}

// shown returns a name that somebody gave to a column, if it cannot be a key, a
// hash or a part of them. Otherwise it returns "", and the name is not shown.
func shown(name string) string {
	if len(name) > 24 {
		return ""
	}
	for _, c := range []byte(name) {
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '_' && c != ' ' {
			return ""
		}
	}
	return name
}

// unknownColumn says that there is no column or member of that name, and which
// one is meant.
func unknownColumn(what, name string) string {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("_", "", " ", "", "-", "").Replace(s))
	}
	for _, c := range columns {
		if plain(c.name) == plain(name) {
			return "there is no " + what + " " + strconv.Quote(name) + ", but " + c.name // only another spelling
		}
	}
	if shown(name) == "" {
		return "a " + what + " is unknown; its name is not shown, since it could be a key"
	}
	return "there is no " + what + " " + strconv.Quote(name)
}
