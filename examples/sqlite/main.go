// Command sqlite is the API of the quickstart, with its keys in an SQLite file.
// It is for one process and needs no database server.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/internal/exampleapi"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/sqlite"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	file := flag.String("db", "keys.db", "file of the database, created if there is none")
	migrate := flag.Bool("migrate", true, "create the tables, or bring them up to date")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *file, *migrate); err != nil && !errors.Is(err, context.Canceled) { // stopped during startup
		log.Fatal("sqlite: ", err)
	}
}

// run serves until ctx is done. Then it finishes the requests in progress and
// writes the last uses.
func run(ctx context.Context, addr, file string, migrate bool) (err error) {
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
	if migrate {
		if err := store.Migrate(ctx); err != nil {
			return err
		}
	}
	cached := cache.New(store, nil) // an accepted request costs no query
	defer cached.Close()
	lastUsed := keyring.NewLastUsedRecorder(store, nil)
	defer func() { err = cmp.Or(err, lastUsed.Close()) }() // err is the result of the function
	a := auth.New(cached, &auth.Options{OnDecision: lastUsed.OnDecision})
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	if err := exampleapi.PrintKeys(ctx, keyring.NewManager(store, nil), listener.Addr()); err != nil {
		return err
	}
	server := &http.Server{Handler: a.Middleware(exampleapi.API()), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	down := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		down <- server.Shutdown(ctx)
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-down
}
