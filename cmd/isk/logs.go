package main

import (
	"context"

	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/insigner/auth/sqlstore/sqlite"
)

// A logStore is what both packages of sqlstore have for API logs.
type logStore interface {
	apilog.Store
	Migrate(ctx context.Context) error
}

// logs returns the API logs in the database of the session.
func (s *session) logs() (logStore, error) {
	if s.kind == "sqlite" {
		return sqlite.NewLogs(s.db, nil)
	}
	return postgres.NewLogs(s.db, nil)
}
