// Command dashboard is the API of the other examples with the pages on which
// customers manage their keys, in one process: documents API, key API, API logs
// and dashboard. It keeps all of it in an SQLite file, or in PostgreSQL.
//
// Its sign-in is a demonstration: anybody can be anybody. Do not put it where
// others reach it.
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

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/dashboard"
	"github.com/insigner/auth/internal/exampleapi"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/ratelimit"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/insigner/auth/sqlstore/sqlite"
	_ "github.com/jackc/pgx/v5/stdlib"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	file := flag.String("db", "dashboard.db", "file of the SQLite database, created if it is missing; that of the API logs has .logs after it")
	dsn := flag.String("dsn", "", "URL of a PostgreSQL database to use in place of the files")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *file, *dsn); err != nil && !errors.Is(err, context.Canceled) { // stopped during startup
		log.Fatal("dashboard: ", err)
	}
}

// A store is where keys are.
type store interface {
	keyring.Store
	auth.Watcher
	Migrate(ctx context.Context) error
	Close() error
}

// A logStore is where API logs are.
type logStore interface {
	apilog.Store
	Migrate(ctx context.Context) error
}

// openSQLite opens two files: with one, each change of a key would wait for the
// logs.
func openSQLite(file string) (keys store, logs logStore, closeAll func(), err error) {
	db, err := sqlite.Open(file)
	if err != nil {
		return nil, nil, nil, err
	}
	logDB, err := sqlite.Open(file + ".logs")
	if err != nil {
		db.Close()
		return nil, nil, nil, err
	}
	closeAll = func() { db.Close(); logDB.Close() }
	if keys, err = sqlite.New(db, nil); err == nil {
		logs, err = sqlite.NewLogs(logDB, nil)
	}
	return keys, logs, closeAll, err
}

func openPostgres(dsn string) (keys store, logs logStore, closeAll func(), err error) {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return nil, nil, nil, err
	}
	db.SetMaxOpenConns(20)
	db.SetMaxIdleConns(20)
	if keys, err = postgres.New(db, nil); err == nil {
		logs, err = postgres.NewLogs(db, nil)
	}
	return keys, logs, func() { db.Close() }, err
}

// run serves until ctx is done. Then it finishes the requests in progress and
// writes the last uses and the API logs.
func run(ctx context.Context, addr, file, dsn string) (err error) {
	keys, logs, closeAll, err := openSQLite(file)
	if dsn != "" {
		if closeAll != nil {
			closeAll()
		}
		keys, logs, closeAll, err = openPostgres(dsn)
	}
	if closeAll != nil {
		defer closeAll()
	}
	if err != nil {
		return err
	}
	defer keys.Close()
	if err := cmp.Or(keys.Migrate(ctx), logs.Migrate(ctx)); err != nil {
		return err
	}
	scheme := auth.Scheme{Catalog: auth.PublishedCatalog()}
	cached := cache.New(keys, nil) // an accepted request costs no query
	defer cached.Close()
	lastUsed := keyring.NewLastUsedRecorder(keys, nil)
	defer func() { err = cmp.Or(err, lastUsed.Close()) }() // err is the result of the function
	recorder := apilog.NewRecorder(logs, &apilog.Options{Scheme: scheme})
	a := auth.New(cached, &auth.Options{Scheme: scheme, OnDecision: func(ctx context.Context, d auth.Decision) {
		lastUsed.OnDecision(ctx, d)
		recorder.OnDecision(ctx, d)
	}})
	manager := keyring.NewManager(keys, &keyring.Options{Scheme: scheme})
	if err := demonstrate(ctx, manager, keys, logs); err != nil {
		return err
	}

	limiter := ratelimit.New(nil, nil) // in memory: this is the only process
	var sessions sessions
	mux := http.NewServeMux()
	mux.Handle("/api/", recorder.Middleware(a.Middleware(limiter.Middleware(exampleapi.API(manager, logs)))))
	mux.HandleFunc("GET /{$}", sessions.page)
	mux.Handle("POST /{$}", http.NewCrossOriginProtection().Handler(http.HandlerFunc(sessions.signIn)))
	served := exampleapi.ListenAndServe(ctx, addr, mux, func(at net.Addr) error {
		tcp := *at.(*net.TCPAddr)
		if tcp.IP.IsUnspecified() {
			tcp.IP = net.IPv4(127, 0, 0, 1)
		}
		url := "http://" + tcp.String()
		mux.Handle("/developers/", dashboard.New(dashboard.Options{
			Manager:      manager,
			Viewer:       sessions.viewer,
			Logs:         logs,
			RateLimit:    rateLimit(limiter),
			Prefix:       "/developers/",
			Title:        "inSigner",
			APIBase:      url + "/api/v1/keys",
			StaffSecrets: false,
		}))
		fmt.Printf("Listening on %s. Open it in a browser. Press Ctrl-C to stop.\n", url)
		return nil
	})
	closing, cancel := context.WithTimeout(context.Background(), exampleapi.CloseTimeout)
	defer cancel()
	return cmp.Or(served, recorder.Close(closing))
}

// rateLimit returns what the page of a key shows of a limiter.
func rateLimit(limiter *ratelimit.Limiter) func(context.Context, auth.Record) (dashboard.RateLimit, error) {
	return func(ctx context.Context, r auth.Record) (dashboard.RateLimit, error) {
		u, err := limiter.Usage(ctx, r)
		l := dashboard.RateLimit{Requests: u.Limit.Requests, Period: u.Limit.Period, Remaining: u.Remaining, Reset: u.Reset}
		if l.Requests == ratelimit.Unlimited {
			l.Requests = 0 // no limit
		}
		return l, err
	}
}
