package records

import (
	"fmt"
	"regexp"
	"strings"
)

// DefaultTable is the name of the table if Options name none.
const DefaultTable = "api_keys"

// A Table is a name that was checked, so that it can be quoted. Names derived
// from it fit in the 63 bytes that PostgreSQL allows.
type Table struct{ Schema, Name string }

var (
	tablePattern  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,47}$`)
	schemaPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)
)

// parseTable returns the table with the name s, which may have a schema.
func parseTable(s string, schemas bool) (Table, error) {
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

var defaultName = regexp.MustCompile(`(["'])` + DefaultTable + `((?:_[a-z_]+)?)["'](\()?`)

// Render replaces the default name in the text of a migration by that of the
// table. Tables and functions get the schema. Indexes and triggers are in that
// of the table.
func (t Table) Render(text string) string {
	return defaultName.ReplaceAllStringFunc(text, func(match string) string {
		m := defaultName.FindStringSubmatch(match)
		quote, suffix, paren := m[1], m[2], m[3]
		if quote == `"` && (suffix == "" || suffix == "_events" || suffix == "_actor" || paren != "") {
			return t.Quoted(suffix) + paren
		}
		return quote + t.Name + suffix + quote + paren
	})
}
