// Package sqlstore is a module with a package for each database that keeps API
// keys:
//
//   - [github.com/insigner/auth/sqlstore/postgres] for PostgreSQL,
//   - [github.com/insigner/auth/sqlstore/sqlite] for SQLite.
//
// A program links only the driver of the package that it imports.
package sqlstore
