// Command metrics is the API of the quickstart with metrics for Prometheus. It
// serves them at /metrics, on an address of their own: they are not for
// customers.
package main

import (
	"cmp"
	"context"
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
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/examples/metrics/authprom"
	"github.com/insigner/auth/internal/exampleapi"
	"github.com/insigner/auth/keyring"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	metricsAddr := flag.String("metrics", "127.0.0.1:9464", "address of the metrics, for Prometheus only")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *metricsAddr); err != nil {
		log.Fatal("metrics: ", err)
	}
}

// run serves until ctx is done. Then it finishes the requests in progress.
func run(ctx context.Context, addr, metricsAddr string) error {
	scheme := auth.Scheme{Catalog: auth.PublishedCatalog()}
	store := new(keyring.MemoryStore)
	manager := keyring.NewManager(store, &keyring.Options{Scheme: scheme})
	logs := apilog.NewMemoryStore(10_000)
	lastUsed := keyring.NewLastUsedRecorder(store, nil)
	defer lastUsed.Close()
	recorder := apilog.NewRecorder(logs, &apilog.Options{Scheme: scheme})

	metrics := authprom.New(prometheus.DefaultRegisterer)
	metrics.LogEntriesDropped(recorder.Dropped)
	metrics.LastUsesDropped(lastUsed.Dropped)
	cached := cache.New(metrics.Store(store), nil) // the cache asks the measured store
	defer cached.Close()
	a := auth.New(cached, &auth.Options{Scheme: scheme, OnDecision: func(ctx context.Context, d auth.Decision) {
		metrics.OnDecision(ctx, d)
		lastUsed.OnDecision(ctx, d)
		recorder.OnDecision(ctx, d)
	}})

	listener, err := net.Listen("tcp", metricsAddr)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.Handler())
	server := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	go server.Serve(listener)
	defer server.Close()
	fmt.Printf("Metrics on %s/metrics\n", listener.Addr())

	served := exampleapi.Serve(ctx, addr, manager, recorder.Middleware(a.Middleware(exampleapi.API(manager, logs))))
	closing, cancel := context.WithTimeout(context.Background(), exampleapi.CloseTimeout)
	defer cancel()
	return cmp.Or(served, recorder.Close(closing))
}
