package integration

import (
	"cmp"
	"context"
	"database/sql"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
	_ "github.com/jackc/pgx/v5/stdlib"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(floodEnv); spec != "" {
		runFlood(spec)
		return
	}
	if file := os.Getenv(crashEnv); file != "" {
		runCrash(file)
		return
	}
	os.Exit(pgtest.Main(m))
}

var silent = slog.New(slog.DiscardHandler)

// An instance is an API as people run it: keys in PostgreSQL, a cache, last uses,
// and a route wrapped by Require.
type instance struct {
	db      *sql.DB
	store   store
	counted *counted // wraps store, for the cache
	cache   *cache.Store
	uses    *keyring.LastUsedRecorder
	keys    *keyring.Keyring
	server  *httptest.Server
	client  *http.Client
}

func newInstance(dsn string, so *postgres.Options, co *cache.Options) (*instance, error) {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(10)
	db.SetMaxIdleConns(10)
	store, err := postgres.New(db, so)
	if err == nil {
		err = store.Migrate(context.Background())
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return serve(db, store, co), nil
}

func serve(db *sql.DB, store store, co *cache.Options) *instance {
	a := &instance{db: db, store: store, keys: keyring.NewManager(store, nil).Unconfined("test"),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}, Timeout: time.Minute}}
	if co == nil {
		co = &cache.Options{Logger: silent}
	}
	a.counted = &counted{store: store}
	a.cache = cache.New(a.counted, co)
	a.uses = keyring.NewLastUsedRecorder(store, &keyring.LastUsedOptions{Interval: time.Second, Logger: silent})
	authenticator := auth.New(a.cache, &auth.Options{OnDecision: a.uses.OnDecision, Logger: silent})
	a.server = httptest.NewServer(authenticator.Middleware(auth.Require("documents.read")(http.HandlerFunc(list))))
	return a
}

func list(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, `{"data":[{"id":"doc_1","title":"Lease"}],"cursor":null}`+"\n")
}

func (a *instance) close() error {
	a.client.CloseIdleConnections()
	a.server.Close()
	return cmp.Or(a.uses.Close(), a.cache.Close(), a.db.Close())
}

// start starts an instance in this process that ends with the test.
func start(t testing.TB, dsn string, so *postgres.Options, co *cache.Options) *instance {
	t.Helper()
	if so == nil {
		so = &postgres.Options{Logger: silent}
	}
	a, err := newInstance(dsn, so, co)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.close() })
	return a
}

// get sends a request and returns its status, or 0 and an error if there is no answer.
func get(ctx context.Context, client *http.Client, url, key string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization", "Bearer "+key)
	resp, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Body.Close()
}

func (a *instance) status(t testing.TB, key string) int {
	t.Helper()
	status, err := get(context.Background(), a.client, a.server.URL, key)
	if err != nil {
		t.Errorf("a request: %v", err)
	}
	return status
}

// create creates a key that may read documents.
func (a *instance) create(t testing.TB) (id, key string) {
	t.Helper()
	r, k, err := a.keys.Create(context.Background(), keyring.Spec{Name: "test", Scopes: auth.Scopes{"documents.read"}})
	if err != nil {
		t.Fatal(err)
	}
	return r.ID, k.Reveal()
}

// eventually waits for a condition. It gives up after a minute.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// warm waits until an instance answers from memory, so that a request costs no
// query.
func (a *instance) warm(t testing.TB, keys ...string) {
	t.Helper()
	eventually(t, "answers from memory", func() bool {
		before := a.counted.lookups.Load()
		for range 2 {
			before = a.counted.lookups.Load()
			for _, key := range keys {
				if a.status(t, key) != 200 {
					return false
				}
			}
		}
		return a.counted.lookups.Load() == before
	})
}

// A store is what the stores of module sqlstore have.
type store interface {
	keyring.Store
	auth.Watcher
	Migrate(ctx context.Context) error
	TouchOlder(ctx context.Context, lastUsed map[string]time.Time, age time.Duration) error
	Close() error
}

// A counted store counts the lookups that reach the database.
type counted struct {
	store
	lookups atomic.Int64
}

func (c *counted) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	c.lookups.Add(1)
	return c.store.Lookup(ctx, hash)
}
