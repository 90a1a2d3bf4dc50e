// Command sqlite is the API of the quickstart, with its keys in an SQLite file.
// It is for one process and needs no database server.
package main

import (
	"cmp"
	"context"
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
	"github.com/insigner/auth/sqlstore/sqlite"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	file := flag.String("db", "keys.db", "file of the database, created if it is missing")
	logFile := flag.String("logs", "logs.db", "file of the API logs, which are many: not that of the keys")
	migrate := flag.Bool("migrate", true, "create the tables, or bring them up to date")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *file, *logFile, *migrate); err != nil && !errors.Is(err, context.Canceled) { // stopped during startup
		log.Fatal("sqlite: ", err)
	}
}

// run serves until ctx is done. Then it finishes the requests in progress and
// writes the last uses and the API logs.
func run(ctx context.Context, addr, file, logFile string, migrate bool) (err error) {
	db, err := sqlite.Open(file)
	if err != nil {
		return err
	}
	defer db.Close()
	store, err := sqlite.New(db, nil)
	if err != nil {
		return err
	}
	defer store.Close()
	logDB, err := sqlite.Open(logFile)
	if err != nil {
		return err
	}
	defer logDB.Close()
	logs, err := sqlite.NewLogs(logDB, nil)
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
