package fanout_test

import (
	"context"
	"log"
	"os"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/fanout"
	"github.com/insigner/auth/keyring"
	"github.com/redis/go-redis/v9"
)

func Example() {
	store := new(keyring.MemoryStore) // in a real program a *postgres.Store
	ctx := context.Background()

	secret, err := os.ReadFile("/run/secrets/fanout")
	if err != nil {
		log.Print(err)
		return
	}
	client := redis.NewClient(&redis.Options{
		Addr:                  "redis:6379",
		Username:              "isk",
		Password:              os.Getenv("REDIS_PASSWORD"),
		DialTimeout:           2 * time.Second,
		ReadTimeout:           2 * time.Second,
		ContextTimeoutEnabled: true,
	})
	defer client.Close()
	conn := fanout.NewRedis(client)
	opts := &fanout.Options{Secret: secret, Realm: "acme"}

	// In two or more processes:
	go func() {
		err := fanout.Publish(ctx, store, conn, opts)
		log.Print("no changes are published any more: ", err)
	}()

	// In all others:
	cached := cache.New(fanout.New(store, conn, opts), nil)
	defer cached.Close()
	a := auth.New(cached, nil)
	_ = a
}
