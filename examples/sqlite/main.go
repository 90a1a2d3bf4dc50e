// Command sqlite is the quickstart's documents API with its keys in an SQLite file: for one process, without a server.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/examples/documents"
	"github.com/insigner/auth/sqlstore"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	file := flag.String("db", "keys.db", "file of the database, made if there is none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *file); err != nil && !errors.Is(err, context.Canceled) { // stopped while it started
		log.Fatal("sqlite: ", err)
	}
}

// run serves until ctx is done, then finishes the requests that are under way and writes the last uses.
func run(ctx context.Context, addr, file string) (err error) {
	db, err := sqlstore.OpenSQLite(file)
	if err != nil {
		return err
	}
	defer db.Close()
	store, err := sqlstore.NewSQLite(db, nil)
	if err == nil {
		err = store.Migrate(ctx)
	}
	if err != nil {
		return err
	}
	cached := cache.New(store, nil) // an accepted request costs no query; a revocation counts at once
	defer cached.Close()
	uses := auth.NewUseRecorder(store, nil)
	defer func() { err = cmp.Or(err, uses.Close()) }() // err is the result of the function
	a := auth.New(cached, &auth.Options{OnDecision: uses.OnDecision})
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	if err := firstStart(ctx, auth.NewKeyring(store, nil), listener.Addr()); err != nil {
		return err
	}
	server := &http.Server{Handler: a.Middleware(documents.API()), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
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

// firstStart makes the keys to try it with, unless an earlier start did.
func firstStart(ctx context.Context, keyring *auth.Keyring, addr net.Addr) error {
	for r, err := range keyring.List(ctx, auth.Filter{State: auth.StateRevoked}) {
		if err != nil {
			return err
		}
		if r.Name == "revoked" { // what PrintKeys does last: a start that failed before is made up for
			fmt.Printf("Listening on http://%s; the keys of the first start go on.\n", addr)
			return nil
		}
	}
	return documents.PrintKeys(ctx, keyring, addr)
}
