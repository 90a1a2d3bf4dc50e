// Package migrations tests the SQL files of sqlstore/postgres and
// sqlstore/sqlite with the migration tools for which they are written. Nothing
// imports it.
package migrations
