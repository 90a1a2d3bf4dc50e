package postgres_test

import (
	"context"
	"database/sql"
	"log"
	"net/http"
	"os"

	"github.com/insigner/auth"
	"github.com/insigner/auth/sqlstore/postgres"
)

func ExampleNew() {
	ctx := context.Background()
	// The driver: import _ "github.com/jackc/pgx/v5/stdlib"
	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(20)
	db.SetMaxIdleConns(20) // with the default of 2, connections are opened and closed all the time

	store, err := postgres.New(db, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		log.Fatal(err)
	}
	a := auth.New(store, nil)
	http.Handle("GET /api/v1/documents", a.Require("documents.read")(http.NotFoundHandler()))
}
