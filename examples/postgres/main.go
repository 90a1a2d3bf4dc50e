// Command postgres is the API of the quickstart, with its keys in PostgreSQL.
// Any number of instances can use one database.
package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/internal/exampleapi"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	dsn := flag.String("dsn", "postgres://localhost/postgres", "URL of the database, on its primary server")
	watchDSN := flag.String("watch-dsn", "", "the same database without a pooler such as PgBouncer, if -dsn has one")
	migrate := flag.Bool("migrate", true, "create the tables, or bring them up to date")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *dsn, *watchDSN, *migrate); err != nil && !errors.Is(err, context.Canceled) { // stopped during startup
		log.Fatal("postgres: ", err)
	}
}

// run serves until ctx is done. Then it finishes the requests in progress and
// writes the last uses and the API logs.
func run(ctx context.Context, addr, dsn, watchDSN string, migrate bool) (err error) {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(20)
	db.SetMaxIdleConns(20)
	opts := new(postgres.Options)
	if watchDSN != "" {
		if opts.WatchConfig, err = pgx.ParseConfig(watchDSN); err != nil {
			return err
		}
	}
	store, err := postgres.New(db, opts)
	if err != nil {
		return err
	}
	defer store.Close()
	logs, err := postgres.NewLogs(db, nil)
	if err != nil {
		return err
	}
	if migrate {
		if err := cmp.Or(store.Migrate(ctx), logs.Migrate(ctx)); err != nil {
			return err
		}
	}
	scheme := auth.Scheme{Catalog: auth.PublishedCatalog()}
	cached := cache.New(store, nil) // an accepted request costs no query
	defer cached.Close()
	lastUsed := keyring.NewLastUsedRecorder(store, nil)
	defer func() { err = cmp.Or(err, lastUsed.Close()) }() // err is the result of the function
	recorder := apilog.NewRecorder(logs, &apilog.Options{Scheme: scheme})
	a := auth.New(cached, &auth.Options{Scheme: scheme, OnDecision: func(ctx context.Context, d auth.Decision) {
		lastUsed.OnDecision(ctx, d)
		recorder.OnDecision(ctx, d)
	}})
	manager := keyring.NewManager(store, &keyring.Options{Scheme: scheme})
	api := recorder.Middleware(a.Middleware(exampleapi.API(manager, logs)))
	served := exampleapi.Serve(ctx, addr, manager, api)
	closing, cancel := context.WithTimeout(context.Background(), exampleapi.CloseTimeout)
	defer cancel()
	return cmp.Or(served, recorder.Close(closing))
}
