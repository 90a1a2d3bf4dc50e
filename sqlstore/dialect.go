package sqlstore

import (
	"fmt"
	"strings"
)

// A dialect is what differs between the databases.
type dialect struct {
	name         string // of its directory in Migrations
	schemas      bool   // a table name may have a schema
	microseconds bool   // times are integers

	// touch is the statement of Store.Touch.
	touch string

	// contains is a condition that holds for each row whose name, owner, ID or
	// hint contains $1, in upper or lower case. $1 is in lower case. It may
	// hold for other rows too.
	contains string

	// beginRotation is executed first in the transaction of a rotation, if it
	// is not empty.
	beginRotation string

	taken   func(error) bool // a unique index refused a row
	tooLate func(error) bool // another transaction changed the row first
}

// render returns sql for this dialect and this table.
func (d *dialect) render(sql string, t table) string {
	if d.name == "sqlite" {
		// "$1" would be a parameter with a name, "?1" is one with a number.
		sql = strings.ReplaceAll(sql, "$", "?")
	}
	return strings.ReplaceAll(sql, "{table}", t.quoted(""))
}

// queries are the statements of a Store that are the same for each call.
type queries struct {
	lookup, get, insert, update, remove, touch string

	hash     string // of the row with that ID
	revision string // of the row with that ID
	taken    string // whether there is a row with that ID or hash
}

func (d *dialect) queries(t table) queries {
	var parameters, changes []string
	for i, c := range columns {
		parameters = append(parameters, fmt.Sprintf("$%d", i+1))
		if !c.fixed {
			changes = append(changes, fmt.Sprintf("%s = $%d", c.name, len(changes)+3))
		}
	}
	render := func(sql string) string { return d.render(sql, t) }
	return queries{
		lookup: render("SELECT " + columnNames() + " FROM {table} WHERE hash = $1"),
		get:    render("SELECT " + columnNames() + " FROM {table} WHERE id = $1"),
		insert: render("INSERT INTO {table} (" + columnNames() +
			") VALUES (" + strings.Join(parameters, ", ") + ")"),
		update: render("UPDATE {table} SET " + strings.Join(changes, ", ") +
			" WHERE id = $1 AND revision = $2 RETURNING hash, revision"),
		remove:   render("DELETE FROM {table} WHERE id = $1 AND hash = $2"),
		touch:    render(d.touch),
		hash:     render("SELECT hash FROM {table} WHERE id = $1"),
		revision: render("SELECT revision FROM {table} WHERE id = $1"),
		taken:    render("SELECT EXISTS (SELECT 1 FROM {table} WHERE id = $1 OR hash = $2)"),
	}
}
