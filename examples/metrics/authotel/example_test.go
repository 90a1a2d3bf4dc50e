package authotel_test

import (
	"context"
	"log"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/examples/metrics/authotel"
	"github.com/insigner/auth/keyring"
	"go.opentelemetry.io/otel"
)

func Example() {
	store := new(keyring.MemoryStore)
	lastUsed := keyring.NewLastUsedRecorder(store, nil)
	defer lastUsed.Close()
	recorder := apilog.NewRecorder(apilog.NewMemoryStore(1000), nil)
	defer recorder.Close(context.Background())

	metrics, err := authotel.New(otel.Meter("github.com/insigner/auth"))
	if err != nil {
		log.Fatal(err)
	}
	if err := metrics.LogEntriesDropped(recorder.Dropped); err != nil {
		log.Fatal(err)
	}
	if err := metrics.LastUsesDropped(lastUsed.Dropped); err != nil {
		log.Fatal(err)
	}
	cached := cache.New(metrics.Store(store), nil) // the cache asks the measured store
	defer cached.Close()
	a := auth.New(cached, &auth.Options{OnDecision: func(ctx context.Context, d auth.Decision) {
		metrics.OnDecision(ctx, d)
		lastUsed.OnDecision(ctx, d)
		recorder.OnDecision(ctx, d)
	}})
	_ = a // its Middleware and Require protect the routes
}
