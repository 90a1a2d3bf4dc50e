// Command othersqlite links the store in PostgreSQL together with another
// driver with the name "sqlite". A second one with that name would end it before
// main.
package main

import (
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	_ "github.com/glebarez/sqlite" // the driver "sqlite", for GORM
	"github.com/insigner/auth/sqlstore/postgres"
	_ "github.com/jackc/pgx/v5/stdlib"
)

func main() {
	dir, err := os.MkdirTemp("", "othersqlite")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := sql.Open("sqlite", filepath.Join(dir, "data.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if err := db.Ping(); err != nil {
		log.Fatal(err)
	}
	keys, err := sql.Open("pgx", "postgres://127.0.0.1/keys")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := postgres.New(keys, nil); err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.Join(sql.Drivers(), " "))
}
