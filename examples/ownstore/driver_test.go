package ownstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/insigner/auth"
)

// openTokens opens a database that knows one query, that of [Tokens], and holds
// these records.
func openTokens(records ...auth.Record) *sql.DB { return sql.OpenDB(tokensDB(records)) }

// tokensDB is a driver without a database, so that this module needs none.
type tokensDB []auth.Record

func (d tokensDB) Connect(context.Context) (driver.Conn, error) { return tokensConn{d}, nil }
func (d tokensDB) Driver() driver.Driver                        { return nil }

type tokensConn struct{ records tokensDB }

func (c tokensConn) Close() error                        { return nil }
func (c tokensConn) Begin() (driver.Tx, error)           { return nil, errors.ErrUnsupported }
func (c tokensConn) Prepare(string) (driver.Stmt, error) { return nil, errors.ErrUnsupported }

// QueryContext implements driver.QueryerContext.
func (c tokensConn) QueryContext(_ context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if !strings.HasSuffix(query, "FROM api_tokens WHERE sha256 = $1") || len(args) != 1 {
		return nil, errors.New("syntax error in " + strconv.Quote(query))
	}
	hash, ok := args[0].Value.([]byte)
	if !ok {
		return nil, errors.New("$1 is not a bytea")
	}
	for _, r := range c.records {
		if string(r.Hash[:]) == string(hash) {
			var scopes []string
			for _, s := range r.Scopes {
				scopes = append(scopes, string(s))
			}
			return &tokensRow{values: []driver.Value{r.ID, r.Owner, strings.Join(scopes, " "),
				nullable(r.ExpiresAt), nullable(r.DisabledAt), nullable(r.RevokedAt)}}, nil
		}
	}
	return new(tokensRow), nil
}

func nullable(t time.Time) driver.Value {
	if t.IsZero() {
		return nil
	}
	return t
}

// A tokensRow is one row, or none.
type tokensRow struct{ values []driver.Value }

func (r *tokensRow) Columns() []string { return make([]string, 6) }
func (r *tokensRow) Close() error      { return nil }

func (r *tokensRow) Next(dest []driver.Value) error {
	if r.values == nil {
		return io.EOF
	}
	copy(dest, r.values)
	r.values = nil
	return nil
}
