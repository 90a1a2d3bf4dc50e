// Command postgres is the quickstart's documents API with its keys in PostgreSQL: start any number on one database.
package main

import (
	"cmp"
	"context"
	"database/sql"
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
	_ "github.com/jackc/pgx/v5/stdlib"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	dsn := flag.String("dsn", "postgres://localhost/postgres", "URL of the database, on its primary server")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *dsn); err != nil && !errors.Is(err, context.Canceled) { // stopped while it started
		log.Fatal("postgres: ", err)
	}
}

// run serves until ctx is done, then finishes the requests that are under way and writes the last uses.
func run(ctx context.Context, addr, dsn string) (err error) {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(20)
	db.SetMaxIdleConns(20)
	store, err := sqlstore.NewPostgres(db, nil)
	if err == nil {
		err = store.Migrate(ctx)
	}
	if err != nil {
		return err
	}
	cached := cache.New(store, nil) // an accepted request costs no query; a revocation arrives within milliseconds
	defer cached.Close()
	uses := auth.NewUseRecorder(store, nil)
	defer func() { err = cmp.Or(err, uses.Close()) }() // err is the result of the function
	a := auth.New(cached, &auth.Options{OnDecision: uses.OnDecision})
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	if err := firstStart(ctx, db, auth.NewKeyring(store, nil), listener.Addr()); err != nil {
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

// firstStart makes the keys to try it with. Of instances that start together, the others wait for the first.
func firstStart(ctx context.Context, db *sql.DB, keyring *auth.Keyring, addr net.Addr) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // which gives the lock back
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtext('auth/examples/postgres'))"); err != nil {
		return err
	}
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
