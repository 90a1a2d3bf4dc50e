package records

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// A Dialect is what differs between the databases. The statements name the
// table as {table}, and tables whose name begins with it as {table_suffix}.
// Parameters are $1, $2 and so on.
type Dialect struct {
	Package      string // the errors begin with it
	Schemas      bool   // a table name may have a schema
	Microseconds bool   // times are integers
	Numbered     string // what a parameter begins with, if it is not "$"

	// By is what a statement writes into the column of an actor. %s stands for
	// the parameter. It also tells the triggers who makes the change.
	By string

	// Same is the operator that compares two values, of which either may be NULL.
	Same string

	// Delete removes the row with the ID $1 and the hash $2, and tells the
	// triggers that the actor $3 does it.
	Delete string

	// Begin and End surround each change, in its transaction, if they are not
	// empty. Begin has the parameter $1, the actor. It is for databases in
	// which By and Delete cannot tell the triggers.
	Begin, End string

	// BeginRotation is executed first in the transaction of a rotation, if it
	// is not empty.
	BeginRotation string

	// InsertAll inserts the objects of the JSON array $1, which have a member
	// for each column, and skips those that a unique index refuses. {columns}
	// stands for the names of the columns, and {values} for their values:
	// Member for each {column}, and HashMember for the hash. It returns the ID
	// and the hash of each row that it has inserted.
	InsertAll, Member, HashMember string

	// BeginAll is executed first in the transaction of InsertAll, if it is not
	// empty. Actor then tells the triggers that the actor $1 makes each change.
	// Wide makes one announcement stand for all rows that are inserted from
	// then on, if it is not empty.
	BeginAll, Actor, Wide string

	// Spool makes InsertAll read all records before the transaction begins,
	// since others cannot write as long as it lasts.
	Spool bool

	// Touch is the statement of Store.Touch. TouchArg returns $1, a JSON text. $2
	// is how much later than the stored time a use must be, in microseconds.
	Touch    string
	TouchArg func(ids []string, micros []int64) (string, error)

	// Contains is a condition that holds for each row whose name, owner, ID or
	// hint contains $1, in upper or lower case. $1 is in lower case. It may
	// hold for other rows too.
	Contains string

	// Taken reports that a unique index refused a row, and Again that the same
	// statement, executed again, can succeed.
	Taken, Again func(error) bool

	// Hint returns what may help against an error, or "".
	Hint func(error) string

	// Migrations holds files of SQL, for a tool that knows the database by the
	// name Goose. Exists is whether there is a table with the name $1. Locker
	// makes other processes wait, if it is not nil.
	Migrations fs.FS
	Goose      goose.Dialect
	Exists     string
	Locker     func(Table) lock.SessionLocker

	// Differs returns how the table that is there differs from the one that the
	// SQL of these files makes, or nothing.
	Differs func(ctx context.Context, tx *sql.Tx, t Table, files []string) ([]string, error)
}

// render returns sql for this dialect and this table.
func (d *Dialect) render(sql string, t Table) string {
	if d.Numbered != "" {
		// "$1" would be a parameter with a name, "?1" is one with a number.
		sql = strings.ReplaceAll(sql, "$", d.Numbered)
	}
	return tableNames.ReplaceAllStringFunc(sql, func(s string) string { return t.Quoted(s[len("{table") : len(s)-1]) })
}

var tableNames = regexp.MustCompile(`\{table[a-z_]*\}`)

// queries are the statements of a Store that are the same for each call.
type queries struct {
	lookup, get, insert, update, remove, touch string

	insertAll, actor, wide string

	hash     string // of the row with that ID
	revision string // of the row with that ID
	taken    string // whether there is a row with that ID or hash

	whichTaken string // whether there is a row with that ID, and one with that hash

	begin, end string
}

func (d *Dialect) queries(t Table) queries {
	var parameters, changes, kept, members []string
	for i, c := range columns {
		member := strings.ReplaceAll(d.Member, "{column}", c.name)
		if c.name == "hash" {
			member = d.HashMember
		}
		members = append(members, member)
		parameters = append(parameters, d.parameter(c.actor && c.fixed, i+1))
		if !c.fixed {
			p := d.parameter(c.actor, len(changes)+3)
			changes = append(changes, c.name+" = "+p)
			if c.name == "revoked_at" || c.name == "disabled_at" {
				kept = append(kept, c.name+" "+d.Same+" "+p)
			}
		}
	}
	render := func(sql string) string { return d.render(sql, t) }
	all := strings.NewReplacer("{columns}", columnNames(), "{values}", strings.Join(members, ", "))
	return queries{
		lookup: render("SELECT " + columnNames() + " FROM {table} WHERE hash = $1"),
		get:    render("SELECT " + columnNames() + " FROM {table} WHERE id = $1"),
		insert: render("INSERT INTO {table} (" + columnNames() +
			") VALUES (" + strings.Join(parameters, ", ") + ")"),
		update: render("UPDATE {table} SET " + strings.Join(changes, ", ") +
			" WHERE id = $1 AND revision = $2 RETURNING hash, revision, " + strings.Join(kept, " AND ")),
		remove:   render(d.Delete),
		touch:    render(d.Touch),
		hash:     render("SELECT hash FROM {table} WHERE id = $1"),
		revision: render("SELECT revision FROM {table} WHERE id = $1"),
		taken:    render("SELECT EXISTS (SELECT 1 FROM {table} WHERE id = $1 OR hash = $2)"),
		whichTaken: render("SELECT EXISTS (SELECT 1 FROM {table} WHERE id = $1), " +
			"EXISTS (SELECT 1 FROM {table} WHERE hash = $2)"),
		insertAll: render(all.Replace(d.InsertAll)),
		actor:     render(d.Actor),
		wide:      render(d.Wide),
		begin:     render(d.Begin),
		end:       render(d.End),
	}
}

// parameter returns parameter n, as the value of an actor's column or of
// another one.
func (d *Dialect) parameter(actor bool, n int) string {
	p := fmt.Sprint("$", n)
	if actor {
		return fmt.Sprintf(d.By, p)
	}
	return p
}
