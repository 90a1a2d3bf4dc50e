// Package faults tests servers with a cache and a database, on real connections:
// what happens when they fail, and how fast a revocation is seen.
package faults_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/internal/redistest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/insigner/auth/sqlstore/sqlite"
	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(childEnv); dsn != "" {
		serveChild(dsn)
		return
	}
	if config := os.Getenv(publisherEnv); config != "" {
		servePublisher(config)
		return
	}
	code := pgtest.Main(m)
	redistest.Report()
	os.Exit(code)
}

const (
	interval = 200 * time.Millisecond
	timeout  = 300 * time.Millisecond

	// bound is how late another instance may see a revocation if the watcher's
	// connection fails: what its Store promises, plus the delays of a busy
	// machine.
	bound = interval + timeout + 20*time.Second
)

var quiet = slog.New(slog.DiscardHandler)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition. It gives up after 90 seconds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// A store is what the stores of module sqlstore have.
type store interface {
	keyring.Store
	auth.Watcher
	Migrate(ctx context.Context) error
	TouchOlder(ctx context.Context, lastUsed map[string]time.Time, age time.Duration) error
	Close() error
}

// A counted store counts the lookups that the cache does not answer.
type counted struct {
	store
	lookups sync.Map // of atomic.Int64, by hash
}

func (c *counted) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	n, _ := c.lookups.LoadOrStore(hash, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	return c.store.Lookup(ctx, hash)
}

func (c *counted) of(hash auth.Hash) int64 {
	if n, ok := c.lookups.Load(hash); ok {
		return n.(*atomic.Int64).Load()
	}
	return 0
}

// An instance is a server whose keys are in a database, with a cache.
type instance struct {
	db     *sql.DB
	keys   *counted
	manage *keyring.Keyring
	cache  *cache.Store
	uses   *keyring.LastUsedRecorder
	server *httptest.Server
	client *http.Client
}

func newInstance(db *sql.DB, keys store, opts cache.Options) *instance {
	opts.Logger = quiet
	in := &instance{db: db, keys: &counted{store: keys}, manage: keyring.NewManager(keys, nil).Unconfined("test")}
	in.cache = cache.New(in.keys, &opts)
	in.uses = keyring.NewLastUsedRecorder(in.keys, &keyring.LastUsedOptions{Interval: 100 * time.Millisecond, Logger: quiet})
	a := auth.New(in.cache, &auth.Options{OnDecision: in.uses.OnDecision, Logger: quiet})
	in.server = httptest.NewServer(a.Middleware(auth.Require("documents.read")(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"data":[{"id":"doc_1","title":"Lease"}],"meta":{"count":1,"hasMore":false}}`)
		}))))
	in.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	return in
}

// close closes everything in the order in which a program does. It returns the
// error of the LastUsedRecorder.
func (in *instance) close() error {
	in.client.CloseIdleConnections()
	in.server.Close()
	err := in.uses.Close()
	in.cache.Close()
	in.keys.Close()
	in.db.Close()
	return err
}

// startPostgres starts an instance on a database. Its watcher connects to
// watchDSN, unless that is empty.
func startPostgres(t testing.TB, dsn, watchDSN string, opts cache.Options) *instance {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	must(t, err)
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	if watchDSN == "" {
		watchDSN = dsn
	}
	config, err := pgx.ParseConfig(watchDSN)
	must(t, err)
	config.RuntimeParams["application_name"] = "watcher"
	s, err := postgres.New(db, &postgres.Options{Logger: quiet, HeartbeatInterval: interval,
		HeartbeatTimeout: timeout, WatchConfig: config})
	must(t, err)
	must(t, s.Migrate(t.Context()))
	in := newInstance(db, s, opts)
	t.Cleanup(func() { in.close() })
	return in
}

func startSQLite(t testing.TB, db *sql.DB, opts cache.Options) *instance {
	t.Helper()
	s, err := sqlite.New(db, &sqlite.Options{Logger: quiet})
	must(t, err)
	in := newInstance(db, s, opts)
	t.Cleanup(func() { in.close() })
	return in
}

const (
	accepted    = "200"
	revoked     = "401 KEY_REVOKED"
	expired     = "401 KEY_EXPIRED"
	unknown     = "401 INVALID_KEY"
	forbidden   = "403 INSUFFICIENT_SCOPE"
	unavailable = "503"
)

// get returns the answer to a request with the key. It is one of the constants, or
// describes another answer.
func (in *instance) get(ctx context.Context, key string) string {
	return get(ctx, in.client, in.server.URL, key)
}

func get(ctx context.Context, client *http.Client, url, key string) string {
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return err.Error()
	}
	r.Header.Set("Authorization", "Bearer "+key)
	resp, err := client.Do(r)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return accepted
	case http.StatusServiceUnavailable:
		return unavailable
	}
	var problem auth.Problem
	if err := json.Unmarshal(body, &problem); err != nil {
		return fmt.Sprint(resp.StatusCode, " ", err)
	}
	return fmt.Sprint(resp.StatusCode, " ", problem.Code)
}

// wants checks that the answer is one of want.
func (in *instance) wants(t testing.TB, what, key string, want ...string) {
	t.Helper()
	got := in.get(context.Background(), key)
	for _, w := range want {
		if got == w {
			return
		}
	}
	t.Errorf("%s: %q, want %q", what, got, want)
}

// becomes waits for the answer want. Until then, only those of before may come.
func (in *instance) becomes(t testing.TB, what, key, want string, before ...string) {
	t.Helper()
	eventually(t, what+": "+want, func() bool {
		got := in.get(context.Background(), key)
		for _, b := range before {
			if got == b {
				return false
			}
		}
		if got != want {
			t.Fatalf("%s: %q, want %q", what, got, want)
		}
		return true
	})
}

// refuses waits until a key that was just revoked is refused, and fails if that
// takes longer than bound. It returns how long it took.
func (in *instance) refuses(t testing.TB, what, key string, since time.Time) time.Duration {
	t.Helper()
	for {
		sent := time.Since(since)
		switch got := in.get(context.Background(), key); got {
		case revoked:
			in.wants(t, what+", once refused", key, revoked, unavailable)
			return time.Since(since)
		case accepted:
			if sent > bound {
				t.Fatalf("%s: accepted %v after it was revoked", what, sent)
			}
		case unavailable:
			if sent > 30*time.Second {
				t.Fatalf("%s: no answer %v after it was revoked", what, sent)
			}
			time.Sleep(time.Millisecond)
		default:
			t.Fatalf("%s: %q", what, got)
		}
	}
}

// remembers waits until the key is accepted without a lookup.
func (in *instance) remembers(t testing.TB, key string) {
	t.Helper()
	hash := auth.BLAKE2b(nil)(key)
	eventually(t, "answered from memory", func() bool {
		before := in.keys.of(hash)
		for range 3 {
			if in.get(context.Background(), key) != accepted {
				return false
			}
		}
		return in.keys.of(hash) == before
	})
}

func (in *instance) create(t testing.TB, scopes ...auth.Scope) (auth.Record, string) {
	t.Helper()
	return in.createUntil(t, time.Time{}, scopes...)
}

func (in *instance) createUntil(t testing.TB, expires time.Time, scopes ...auth.Scope) (auth.Record, string) {
	t.Helper()
	if scopes == nil {
		scopes = auth.Scopes{"documents.read"}
	}
	r, key, err := in.manage.Create(context.Background(), keyring.Spec{Name: "test", Owner: "org_1", Scopes: scopes,
		ExpiresAt: expires})
	must(t, err)
	return r, key.Reveal()
}
