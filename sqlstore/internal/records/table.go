package records

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The names of the tables if Options name none.
const (
	DefaultTable     = "api_keys"
	DefaultLogsTable = "api_logs"
)

// A Table is a name that was checked, so that it can be quoted. Names derived
// from it fit in the 63 bytes that PostgreSQL allows.
type Table struct{ Schema, Name string }

var (
	tablePattern  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,47}$`)
	schemaPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)
)

// ParseTable returns the table with the name s, which may have a schema.
func ParseTable(s string, schemas bool) (Table, error) {
	schema, name, qualified := strings.Cut(s, ".")
	if !qualified {
		schema, name = "", s
	}
	if qualified && !(schemas && schemaPattern.MatchString(schema)) || !tablePattern.MatchString(name) {
		return Table{}, fmt.Errorf("%q is not the name of a table", s)
	}
	return Table{schema, name}, nil
}

// Quoted returns the name of the table with a suffix, as SQL needs it.
func (t Table) Quoted(suffix string) string {
	if t.Schema == "" {
		return `"` + t.Name + suffix + `"`
	}
	return `"` + t.Schema + `"."` + t.Name + suffix + `"`
}

var defaultName = regexp.MustCompile(`(["'])(?:` + DefaultTable + `|` + DefaultLogsTable + `)((?:_[a-z_]+)?)["'](\()?`)

// tables are the suffixes of those that belong to a table.
var tables = []string{"_events", "_actor", "_default"}

// Render replaces the default name in the text of a migration by that of the
// table. Tables and functions get the schema. Indexes and triggers are in that
// of the table.
func (t Table) Render(text string) string {
	return defaultName.ReplaceAllStringFunc(text, func(match string) string {
		m := defaultName.FindStringSubmatch(match)
		quote, suffix, paren := m[1], m[2], m[3]
		if quote == `"` && (suffix == "" || slices.Contains(tables, suffix) || paren != "") {
			return t.Quoted(suffix) + paren
		}
		return quote + t.Name + suffix + quote + paren
	})
}
