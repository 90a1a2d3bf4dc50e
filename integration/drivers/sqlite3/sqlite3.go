// Package sqlite3 stands for github.com/mattn/go-sqlite3, which needs cgo and a
// minute to compile. Its driver has the same name and type, and opens nothing.
package sqlite3

import (
	"database/sql"
	"database/sql/driver"
	"errors"
)

func init() { sql.Register("sqlite3", new(SQLiteDriver)) }

// SQLiteDriver is a driver.Driver.
type SQLiteDriver struct{}

// Open returns an error.
func (*SQLiteDriver) Open(string) (driver.Conn, error) { return nil, errors.New("this is not SQLite") }
