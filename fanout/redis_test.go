package fanout_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/fanout"
	"github.com/insigner/auth/internal/redistest"
	"github.com/insigner/auth/keyring"
	"github.com/redis/go-redis/v9"
)

// client returns a client of a server that is closed with the test.
func client(t testing.TB, opts *redis.UniversalOptions) redis.UniversalClient {
	t.Helper()
	c := redis.NewUniversalClient(opts)
	t.Cleanup(func() { c.Close() })
	return c
}

// soon are options with which a loss is noticed soon.
func soon() *fanout.Options {
	opts := options()
	opts.LostAfter = time.Second
	return opts
}

// arrives changes keys until the watch has reported a change of one that was
// made while it was there.
func (w *watch) arrives(store keyring.Store) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		r := insert(w.t, store)
		for range 100 {
			for _, c := range w.all() {
				if c == changed(r) {
					return
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	w.t.Fatal("no change was reported in a minute")
}

func TestRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	conn := fanout.NewRedis(client(t, &redis.UniversalOptions{Addrs: []string{server.Addr()}}))
	store := new(keyring.MemoryStore)
	publish(t, store, conn, soon())
	w := watchOf(t, fanout.New(store, conn, soon()))
	w.expect(started)
	r := insert(t, store)
	w.expect(changed(r))

	t.Run("frozen", func(t *testing.T) {
		server.Freeze()
		w.expect(lost)
		server.Thaw()
		w.arrives(store)
	})
	t.Run("killed", func(t *testing.T) {
		server.Kill()
		w.expect(lost)
		must(t, server.Restart())
		w.arrives(store)
	})
}

// On a cluster, a message reaches those who are connected to another node.
func TestCluster(t *testing.T) {
	t.Parallel()
	servers := redistest.StartCluster(t)
	var addrs []string
	for _, s := range servers {
		addrs = append(addrs, s.Addr())
		if _, err := s.Do("ACL", "SETUSER", "isk", "on", ">"+password, "resetchannels", "&auth:api:*", "-@all", "+publish",
			"+subscribe", "+cluster|slots", "+cluster|shards", "+command"); err != nil {
			t.Fatal(err)
		}
	}
	store := new(keyring.MemoryStore)
	for _, addr := range addrs {
		conn := fanout.NewRedis(client(t, &redis.UniversalOptions{Addrs: []string{addr}, IsClusterMode: true,
			Username: "isk", Password: password}))
		publish(t, store, conn, options())
	}
	whole := fanout.NewRedis(client(t, &redis.UniversalOptions{Addrs: addrs, Username: "isk", Password: password}))
	all := []*watch{watchOf(t, fanout.New(store, whole, options()))}
	for _, addr := range addrs { // each on its own node
		one := fanout.NewRedis(client(t, &redis.UniversalOptions{Addrs: []string{addr}}))
		all = append(all, watchOf(t, fanout.New(store, one, options())))
	}
	for _, w := range all {
		w.arrives(store)
	}
}

// After a failover, everybody finds the new primary server.
func TestSentinel(t *testing.T) {
	t.Parallel()
	primary, _, sentinel := redistest.StartSentinel(t)
	opts := &redis.UniversalOptions{Addrs: []string{sentinel.Addr()}, MasterName: "primary"}
	store := new(keyring.MemoryStore)
	publish(t, store, fanout.NewRedis(client(t, opts)), soon())
	w := watchOf(t, fanout.New(store, fanout.NewRedis(client(t, opts)), soon()))
	w.arrives(store)
	primary.Kill()
	w.expect(lost)
	w.arrives(store)
}

// acl gives a user rights, and returns a Conn of that user.
func acl(t *testing.T, server *redistest.Server, user string, rules ...string) fanout.Conn {
	t.Helper()
	args := append([]string{"ACL", "SETUSER", user, "on", ">" + password, "resetchannels", "-@all"}, rules...)
	if _, err := server.Do(args...); err != nil {
		t.Fatal(err)
	}
	return fanout.NewRedis(client(t, &redis.UniversalOptions{Addrs: []string{server.Addr()}, Username: user,
		Password: password}))
}

const password = "pa55-w0rd"

// The rights that docs/fanout.md names are enough. If one is missing, that is an
// error at once, though the others are there.
func TestRedisRights(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	store := new(keyring.MemoryStore)
	conn := acl(t, server, "all", "&auth:api:*", "+publish", "+subscribe")
	publish(t, store, conn, soon())
	watchOf(t, fanout.New(store, conn, soon())).arrives(store)

	for what, conn := range map[string]fanout.Conn{
		"no command":      acl(t, server, "u1", "&*"),
		"no SUBSCRIBE":    acl(t, server, "u2", "&*", "+publish"),
		"no PUBLISH":      acl(t, server, "u3", "&*", "+subscribe"),
		"another channel": acl(t, server, "u4", "&auth:other:*", "+publish", "+subscribe"),
		"no hellos":       acl(t, server, "u5", "&auth:api:changes", "+publish", "+subscribe"),
		"no changes":      acl(t, server, "u6", "&auth:api:hellos", "+publish", "+subscribe"),
		"no such user": fanout.NewRedis(client(t, &redis.UniversalOptions{Addrs: []string{server.Addr()},
			Username: "nobody", Password: password})),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := fanout.Publish(ctx, store, conn, options()); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: Publish: got error %v, want %v", what, err, fs.ErrPermission)
		}
		err := fanout.New(store, conn, options()).Watch(ctx, func(auth.Change) {})
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: Watch: got error %v, want %v", what, err, fs.ErrPermission)
		}
		if err != nil && strings.Contains(err.Error(), password) {
			t.Errorf("%s: the password is in %v", what, err)
		}
	}
}

// A cache logs that it cannot watch, and asks the store for every request.
func TestCacheWithoutRights(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	store := new(keyring.MemoryStore)
	var log lines
	conn := acl(t, server, "none", "&*")
	c := cache.New(fanout.New(store, conn, options()), &cache.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	defer c.Close()
	for end := time.Now().Add(time.Minute); !strings.Contains(log.String(), "NOPERM"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in a minute, NOPERM is not in the log: %s", log.String())
		}
	}
	if !strings.Contains(log.String(), "cannot watch store for changes") {
		t.Errorf("the log does not say what follows: %s", log.String())
	}
}

// lines is a log that may be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func TestStoreOnRedis(t *testing.T) {
	server := redistest.Start(t)
	conn := fanout.NewRedis(client(t, &redis.UniversalOptions{Addrs: []string{server.Addr()}}))
	testStore(t, func(*testing.T) fanout.Conn { return conn })
}

// Nothing is left when the context is done, also while the server is frozen or
// gone.
func TestRedisEnds(t *testing.T) { // not parallel to others, whose goroutines it would see
	for _, what := range []string{"works", "is frozen", "is gone"} {
		server := redistest.Start(t)
		c := redis.NewClient(&redis.Options{Addr: server.Addr(), ReadTimeout: 500 * time.Millisecond, ContextTimeoutEnabled: true})
		conn, store := fanout.NewRedis(c), new(keyring.MemoryStore)
		ctx, cancel := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		ended.Go(func() { fanout.Publish(ctx, store, conn, soon()) })
		up := make(chan struct{}, 10)
		ended.Go(func() { fanout.New(store, conn, soon()).Watch(ctx, func(auth.Change) { up <- struct{}{} }) })
		<-up
		switch what {
		case "is frozen":
			server.Freeze()
			<-up // lost
		case "is gone":
			server.Kill()
			<-up
		}
		cancel()
		ended.Wait()
		buf := make([]byte, 1<<20)
		if stacks := string(buf[:runtime.Stack(buf, true)]); strings.Contains(stacks, "fanout.(*") {
			t.Errorf("the server %s: a goroutine is left:\n%s", what, stacks)
		}
		c.Close()
	}
}
