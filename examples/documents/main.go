// Command documents is the API of the other examples as one of many processes:
// the keys and the API logs are in PostgreSQL, the limits of all processes are
// counted in Redis, and changes of keys come through Redis too. At least two
// processes publish them; examples/cluster/run starts ten.
package main

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/fanout"
	"github.com/insigner/auth/internal/exampleapi"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/ratelimit"
	"github.com/insigner/auth/sqlstore/postgres"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	dsn := flag.String("dsn", "postgres://localhost/postgres", "URL of the database, on its primary server")
	redisURL := flag.String("redis", "redis://127.0.0.1:6379", "URL of Redis")
	secretFile := flag.String("secret-file", "", "file with the secret of the fan-out, 32 bytes or more; the same for all processes")
	publish := flag.Bool("publish", false, "watch the database, and publish its changes to the other processes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	secret, err := readSecret(*secretFile)
	if err != nil {
		log.Fatal("documents: -secret-file: ", err)
	}
	err = run(ctx, *addr, *dsn, *redisURL, secret, *publish)
	if err != nil && !errors.Is(err, context.Canceled) { // stopped during startup
		log.Fatal("documents: ", err)
	}
}

// readSecret reads the secret of the fan-out. As for isk publish, a line break at
// the end of the file does not count.
func readSecret(file string) (fanout.Secret, error) {
	if file == "" {
		return nil, errors.New("it is missing")
	}
	secret, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	secret = bytes.TrimSuffix(bytes.TrimSuffix(secret, []byte("\n")), []byte("\r"))
	if len(secret) < 32 {
		return nil, fmt.Errorf("%s has %d bytes, but a secret has 32 or more", file, len(secret))
	}
	return secret, nil
}

// run serves until ctx is done, or until publishing fails. Then it finishes the
// requests in progress and writes the last uses and the API logs.
func run(ctx context.Context, addr, dsn, redisURL string, secret fanout.Secret, publish bool) (err error) {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(8) // of each process
	db.SetMaxIdleConns(8)
	// A publisher hears within three seconds that its watch is lost.
	store, err := postgres.New(db, &postgres.Options{HeartbeatInterval: time.Second, HeartbeatTimeout: 2 * time.Second})
	if err != nil {
		return err
	}
	defer store.Close()
	logs, err := postgres.NewLogs(db, nil)
	if err != nil {
		return err
	}
	if err := cmp.Or(store.Migrate(ctx), logs.Migrate(ctx)); err != nil {
		return err
	}
	redisOptions, err := redis.ParseURL(redisURL)
	if err != nil {
		return errors.New("-redis: not a URL of Redis") // the error would show its password
	}
	client := redis.NewClient(redisOptions)
	defer client.Close()

	conn := fanout.NewRedis(client)
	fan := &fanout.Options{Secret: secret, WatchBound: 3 * time.Second}
	var watcher auth.Watcher = store
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	if publish {
		published := make(chan struct{})
		go func() {
			defer close(published)
			fail(fanout.Publish(ctx, store, conn, fan))
		}()
		defer func() { fail(nil); <-published }()
	} else {
		watcher = fanout.New(store, conn, fan)
	}
	cached := cache.New(watcher, nil) // an accepted request costs no query
	defer cached.Close()

	scheme := auth.Scheme{Catalog: auth.PublishedCatalog()}
	lastUsed := keyring.NewLastUsedRecorder(store, nil)
	defer func() { err = cmp.Or(err, lastUsed.Close()) }() // err is the result of the function
	recorder := apilog.NewRecorder(logs, &apilog.Options{Scheme: scheme})
	a := auth.New(cached, &auth.Options{Scheme: scheme, OnDecision: func(ctx context.Context, d auth.Decision) {
		lastUsed.OnDecision(ctx, d)
		recorder.OnDecision(ctx, d)
	}})
	limiter := ratelimit.New(ratelimit.NewRedis(client, nil), &ratelimit.Options{Limit: plan})
	manager := keyring.NewManager(store, &keyring.Options{Scheme: scheme})
	api := recorder.Middleware(a.Middleware(limiter.Middleware(exampleapi.API(manager, logs))))
	served := exampleapi.ListenAndServe(ctx, addr, api, func(at net.Addr) error {
		_, err := fmt.Printf("Listening on http://%s\n", at)
		return err
	})
	closing, cancel := context.WithTimeout(context.Background(), exampleapi.CloseTimeout)
	defer cancel()
	return cmp.Or(served, recorder.Close(closing), context.Cause(ctx))
}

// plan is the limit of a key: 120 requests a minute, unless its owner has paid
// for more.
func plan(r auth.Record) ratelimit.Limit {
	if r.Metadata["plan"] == "business" {
		return ratelimit.Limit{Requests: 600_000, Period: time.Minute}
	}
	return ratelimit.Limit{Requests: 120, Period: time.Minute}
}
