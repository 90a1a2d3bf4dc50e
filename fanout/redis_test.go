package fanout_test

import (
	"testing"
	"time"

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
	servers := redistest.StartCluster(t)
	var addrs []string
	for _, s := range servers {
		addrs = append(addrs, s.Addr())
	}
	store := new(keyring.MemoryStore)
	for _, addr := range addrs {
		conn := fanout.NewRedis(client(t, &redis.UniversalOptions{Addrs: []string{addr}, IsClusterMode: true}))
		publish(t, store, conn, options())
	}
	whole := fanout.NewRedis(client(t, &redis.UniversalOptions{Addrs: addrs}))
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
