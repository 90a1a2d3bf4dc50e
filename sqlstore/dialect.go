package sqlstore

import "strings"

// A dialect is what differs between the databases.
type dialect struct {
	name         string // that of its directory in Migrations
	schemas      bool   // a table's name may have a schema
	microseconds bool   // times are integers

	lock  string // locks the row with id $1 and returns hash, revoked_at, replaced_by, expires_at
	touch string // see Store.Touch

	taken   func(error) bool // whether a unique index refused a row
	tooLate func(error) bool // whether another transaction changed it first
}

// queries are the statements of a Store, made once.
type queries struct {
	lookup, get, list, listOwner, insert, find, revoke, lock, replace, touch string
}

func (d *dialect) queries(t table) queries {
	const page = " (created_at, id) > ($1, $2) ORDER BY created_at, id LIMIT $3"
	render := func(sql string) string {
		if d.name == "sqlite" {
			// "$1" would be a parameter with a name, "?1" is one with a number.
			sql = strings.ReplaceAll(sql, "$", "?")
		}
		return strings.ReplaceAll(sql, "{table}", t.quoted(""))
	}
	return queries{
		lookup:    render("SELECT " + columns + " FROM {table} WHERE hash = $1"),
		get:       render("SELECT " + columns + " FROM {table} WHERE id = $1"),
		list:      render("SELECT " + columns + " FROM {table} WHERE" + page),
		listOwner: render("SELECT " + columns + " FROM {table} WHERE owner = $4 AND" + page),
		insert: render("INSERT INTO {table} (" + columns +
			") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"),
		find:    render("SELECT hash FROM {table} WHERE id = $1"),
		revoke:  render("UPDATE {table} SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL"),
		lock:    render(d.lock),
		replace: render("UPDATE {table} SET replaced_by = $2, expires_at = $3 WHERE id = $1"),
		touch:   render(d.touch),
	}
}
