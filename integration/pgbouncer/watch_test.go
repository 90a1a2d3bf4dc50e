package pgbouncer_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/jackc/pgx/v5"
)

// An observed store notes what Watch reports, and counts lookups.
type observed struct {
	*postgres.Store

	mu      sync.Mutex
	changes []auth.ChangeKind
	lookups int
}

func (o *observed) Watch(ctx context.Context, notify func(auth.Change)) error {
	return o.Store.Watch(ctx, func(c auth.Change) {
		o.mu.Lock()
		o.changes = append(o.changes, c.Kind)
		o.mu.Unlock()
		notify(c)
	})
}

func (o *observed) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	o.mu.Lock()
	o.lookups++
	o.mu.Unlock()
	return o.Store.Lookup(ctx, hash)
}

func (o *observed) saw(kind auth.ChangeKind) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.changes, kind)
}

func (o *observed) asked() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lookups
}

// TestWatchThroughTrouble tests that a cache does not notice what happens to
// PgBouncer, since its store watches without. Keys that it holds stay valid, and
// revocations arrive.
func TestWatchThroughTrouble(t *testing.T) {
	for _, c := range []struct {
		name        string
		begin, over func(t *testing.T, b *bouncer)
	}{
		{"paused",
			func(t *testing.T, b *bouncer) { must(t, b.admin("PAUSE")) },
			func(t *testing.T, b *bouncer) { must(t, b.admin("RESUME")) }},
		{"restarted",
			func(_ *testing.T, b *bouncer) { b.stop() },
			func(t *testing.T, b *bouncer) { must(t, b.start()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dsn := pgtest.DSN(t)
			b := startBouncer(t, dsn, "transaction")
			migrate(t, open(t, dsn), nil)
			s, db := newStore(t, b, dsn, postgres.Options{HeartbeatInterval: 100 * time.Millisecond})
			o := &observed{Store: s}
			cached := cache.New(o, &cache.Options{Logger: quiet, LookupTimeout: patience, QueueTimeout: patience})
			t.Cleanup(func() { cached.Close() })
			await(t, "the cache watches", func() bool { return o.saw(auth.WatchStarted) })

			// Another instance, without PgBouncer.
			other, err := postgres.New(open(t, dsn), &postgres.Options{Logger: quiet})
			must(t, err)
			keys := keyring.NewManager(other, nil).Unconfined("test")
			_, valid := create(t, keys)
			id, revoked := create(t, keys)
			for _, hash := range []auth.Hash{valid, revoked} {
				await(t, "the cache holds the key", func() bool {
					before := o.asked()
					_, err := cached.Lookup(t.Context(), hash)
					must(t, err)
					return o.asked() == before
				})
			}
			must(t, db.Ping()) // there is a connection that can break

			c.begin(t, b)
			before := o.asked()
			awaitHeartbeats(t, dsn, 10)
			if _, err := cached.Lookup(t.Context(), valid); err != nil {
				t.Errorf("Lookup of a key in the cache: %v", err)
			}
			if n := o.asked() - before; n > 0 {
				t.Errorf("the cache asked the store %d times for a key that it holds", n)
			}
			must(t, keys.Revoke(t.Context(), id))
			await(t, "the revocation arrives", func() bool { return o.saw(auth.RecordChanged) })
			c.over(t, b)
			await(t, "the store answers again", func() bool {
				_, err := s.Lookup(t.Context(), valid)
				return err == nil
			})
			var r *auth.Record
			await(t, "the cache answers again", func() bool {
				r, err = cached.Lookup(t.Context(), revoked)
				return err == nil
			})
			if r.RevokedAt.IsZero() {
				t.Error("a key that was revoked in the trouble is valid afterwards")
			}
			awaitHeartbeats(t, dsn, 10)
			if o.saw(auth.WatchLost) {
				t.Error("Watch reported WatchLost")
			}
		})
	}
}

func create(t *testing.T, keys *keyring.Keyring) (id string, hash auth.Hash) {
	t.Helper()
	r, key, err := keys.Create(t.Context(), keyring.Spec{Name: "key", Owner: "org_1"})
	must(t, err)
	return r.ID, auth.BLAKE2b(nil)(key.Reveal())
}

// awaitHeartbeats waits until instances have announced n heartbeats.
func awaitHeartbeats(t *testing.T, dsn string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	must(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(ctx, "LISTEN api_keys_changed")
	must(t, err)
	for n > 0 {
		notification, err := conn.WaitForNotification(ctx)
		must(t, err)
		if strings.HasPrefix(notification.Payload, "beat ") {
			n--
		}
	}
}

// TestWatchThroughPgBouncer tests that Watch works through PgBouncer in session
// mode. In the other modes it reports no start, so a cache keeps asking the
// store.
func TestWatchThroughPgBouncer(t *testing.T) {
	for _, mode := range []string{"session", "transaction", "statement"} {
		t.Run(mode, func(t *testing.T) {
			dsn := pgtest.DSN(t)
			b := startBouncer(t, dsn, mode)
			migrate(t, open(t, dsn), nil)
			logged := new(logs)
			db := open(t, b.url(dsn))
			db.SetMaxOpenConns(1) // of the others, one listens, and one is for the heartbeat
			s, err := postgres.New(db, &postgres.Options{Logger: slog.New(logged), HeartbeatTimeout: 2 * time.Second})
			must(t, err)
			o := &observed{Store: s}
			ended := make(chan error)
			ctx, stop := context.WithCancel(t.Context())
			go func() { ended <- o.Watch(ctx, func(auth.Change) {}) }()
			defer func() { stop(); <-ended }()

			if mode == "session" {
				await(t, "Watch reports that it started", func() bool { return o.saw(auth.WatchStarted) })
				return
			}
			await(t, "Watch logs that it cannot", func() bool { return logged.has("announcements do not arrive") })
			if o.saw(auth.WatchStarted) {
				t.Error("Watch reported WatchStarted, though announcements do not arrive")
			}
		})
	}
}

// logs is a slog.Handler that keeps the errors that are logged.
type logs struct {
	mu     sync.Mutex
	errors []string
}

func (*logs) Enabled(context.Context, slog.Level) bool { return true }
func (l *logs) WithAttrs([]slog.Attr) slog.Handler     { return l }
func (l *logs) WithGroup(string) slog.Handler          { return l }

func (l *logs) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "error" {
			l.errors = append(l.errors, a.Value.String())
		}
		return true
	})
	return nil
}

func (l *logs) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.errors, func(e string) bool { return strings.Contains(e, text) })
}
