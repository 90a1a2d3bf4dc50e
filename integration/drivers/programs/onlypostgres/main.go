// Command onlypostgres is a minimal program with its keys in PostgreSQL. The
// script .ci/builds builds it for many systems.
package main

import (
	"context"
	"database/sql"
	"log"
	"net/http"
	"os"

	"github.com/insigner/auth"
	"github.com/insigner/auth/sqlstore/postgres"
	_ "github.com/jackc/pgx/v5/stdlib"
)

func main() {
	db, err := sql.Open("pgx", os.Getenv("DSN"))
	if err != nil {
		log.Fatal(err)
	}
	store, err := postgres.New(db, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Migrate(context.Background()); err != nil {
		log.Fatal(err)
	}
	a := auth.New(store, nil)
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", a.Middleware(http.NotFoundHandler())))
}
