package sqlstore

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/insigner/auth"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// watchers are the callers of Watch. They hear at once of what this Store
// changes.
type watchers struct {
	mu     sync.RWMutex
	notify map[*func(auth.Change)]struct{}
}

func (w *watchers) add(notify *func(auth.Change)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.notify == nil {
		w.notify = make(map[*func(auth.Change)]struct{})
	}
	w.notify[notify] = struct{}{}
}

// remove returns when notify is no longer called.
func (w *watchers) remove(notify *func(auth.Change)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.notify, notify)
}

func (w *watchers) changed(hashes ...auth.Hash) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for notify := range w.notify {
		for _, hash := range hashes {
			(*notify)(auth.Change{Kind: auth.RecordChanged, Hash: hash})
		}
	}
}

// Watch implements [auth.Watcher]. Watching, above, says what it reports and
// when. On PostgreSQL each call has its own connection, which is not in the
// pool of the *sql.DB. If the table, its triggers or the database are missing,
// Watch logs why and tries again. notify must not change the Store.
//
// Watch returns the error of ctx when ctx is done. It returns another error at
// once if it cannot know how to connect: Options.WatchConfig is nil, and the
// driver of the *sql.DB is not that of pgx.
func (s *Store) Watch(ctx context.Context, notify func(auth.Change)) error {
	s.watchers.add(&notify)
	defer s.watchers.remove(&notify)
	if s.dialect != postgres {
		notify(auth.Change{Kind: auth.WatchStarted})
		<-ctx.Done()
		notify(auth.Change{Kind: auth.WatchLost})
		return ctx.Err()
	}
	logger := s.logger.With("table", s.table.quoted(""))
	backoff := minBackoff
	for {
		started, err := s.listen(ctx, notify, logger)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, errDriver) {
			return wrap("watch", err)
		}
		if started {
			backoff = minBackoff
		}
		// Jitter, so that the instances do not all connect at the same time.
		pause := backoff/2 + rand.N(backoff/2)
		logger.Warn("sqlstore: not watching for changes", "error", err, "retry", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// listen connects and reports what arrives until the connection is lost or ctx
// is done. It returns whether it reported WatchStarted, and why it ended.
func (s *Store) listen(ctx context.Context, notify func(auth.Change), logger *slog.Logger) (started bool, err error) {
	l, err := s.connect(ctx, notify)
	if err != nil {
		return false, err
	}
	defer l.hangUp()
	if err := l.begin(ctx); err != nil {
		return false, err
	}
	notify(auth.Change{Kind: auth.WatchStarted})
	logger.Info("sqlstore: watching for changes")
	err = l.run(ctx)
	// First of all, since to close a connection may take time.
	notify(auth.Change{Kind: auth.WatchLost})
	return true, err
}

// A listener is a connection that listens. Only one goroutine uses it.
type listener struct {
	store  *Store
	conn   *pgx.Conn
	notify func(auth.Change)
	table  uint32 // the OID of the table whose triggers were found
	nonce  string // what the last heartbeat sent
	beaten bool   // whether it has come back
}

var errDriver = errors.New("the driver of the *sql.DB is not that of pgx: set Options.WatchConfig")

// watchConfig returns how to connect. It asks the pool each time, since a
// BeforeConnect hook may have set a password that expires. SetConnMaxLifetime
// limits the age of the connection that it gets.
func (s *Store) watchConfig(ctx context.Context) (*pgx.ConnConfig, error) {
	if s.config != nil {
		return s.config.Copy(), nil
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var config *pgx.ConnConfig
	err = conn.Raw(func(driverConn any) error {
		c, ok := driverConn.(*stdlib.Conn)
		if !ok {
			return errDriver
		}
		config = c.Conn().Config()
		return nil
	})
	return config, err
}

func (s *Store) connect(ctx context.Context, notify func(auth.Change)) (*listener, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	config, err := s.watchConfig(ctx)
	if err != nil {
		return nil, err
	}
	l := &listener{store: s, notify: notify}
	config.OnNotification = l.receive
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // nothing is worth preparing
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: c.Conn()}
	}
	// A connection that fails sends a cancel request on another connection,
	// which may hang as well. There is nothing to cancel.
	var connected atomic.Bool
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if connected.Load() {
			return nil, net.ErrClosed
		}
		return dial(ctx, network, address)
	}
	l.conn, err = pgx.ConnectConfig(ctx, config)
	connected.Store(true)
	return l, err
}

// hangUp closes the connection and waits until its goroutines have ended.
func (l *listener) hangUp() {
	conn := l.conn.PgConn()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn.Close(ctx)
	conn.Conn().Close()
	<-conn.CleanupDone()
}

// begin sends LISTEN and checks that announcements arrive.
func (l *listener) begin(ctx context.Context) error {
	beat, cancel := context.WithTimeout(ctx, l.store.timeout)
	defer cancel()
	if _, err := l.conn.Exec(beat, `LISTEN "`+l.store.table.channel()+`"`); err != nil {
		return err
	}
	return l.beat(ctx)
}

// run receives until the connection fails or ctx is done.
func (l *listener) run(ctx context.Context) error {
	for {
		wait, cancel := context.WithTimeout(ctx, l.store.interval)
		for wait.Err() == nil {
			// It calls receive. The end of wait leaves the connection usable.
			err := l.conn.PgConn().WaitForNotification(wait)
			if err != nil && (wait.Err() == nil || l.conn.IsClosed()) {
				cancel()
				return fmt.Errorf("connection lost: %w", err)
			}
		}
		cancel()
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.beat(ctx); err != nil {
			return fmt.Errorf("heartbeat: %w", err)
		}
	}
}

// beat checks the triggers, sends an announcement through the *sql.DB, and
// waits for it. A mere answer of the server would not be enough: a pooler
// answers, but delivers no announcements.
func (l *listener) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.store.timeout)
	defer cancel()
	l.nonce, l.beaten = fmt.Sprintf("beat %016x", rand.Uint64()), false
	var oid sql.Null[uint32]
	var triggers int
	err := l.conn.QueryRow(ctx, `SELECT to_regclass($1)::oid,
			(SELECT count(*) FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
			WHERE t.tgrelid = to_regclass($1) AND t.tgenabled IN ('O', 'A') AND p.proname = $2)`,
		l.store.table.quoted(""), l.store.table.name+"_notify").
		Scan(&oid, &triggers)
	switch {
	case err != nil:
		return err
	case !oid.Valid:
		return errors.New("the table does not exist: call Migrate")
	case triggers != 3:
		return fmt.Errorf("%d triggers announce changes and are enabled, not 3", triggers)
	case l.table != 0 && l.table != oid.V:
		return errors.New("the table was replaced by another")
	}
	l.table = oid.V
	// Through the pool, like lookups and changes. If the pool leads to another
	// server, nothing comes back.
	if _, err := l.store.db.ExecContext(ctx, "SELECT pg_notify($1, $2)", l.store.table.channel(), l.nonce); err != nil {
		return fmt.Errorf("connection of the pool: %w", err)
	}
	for !l.beaten {
		if err := l.conn.PgConn().WaitForNotification(ctx); err != nil {
			return fmt.Errorf("announcements do not arrive: %w", err)
		}
	}
	return nil
}

// receive is called with each announcement when it is read.
func (l *listener) receive(_ *pgconn.PgConn, n *pgconn.Notification) {
	if strings.HasPrefix(n.Payload, "beat ") {
		l.beaten = l.beaten || n.Payload == l.nonce // others come from other instances
		return
	}
	var hash auth.Hash
	if b, err := hex.DecodeString(n.Payload); err == nil && len(b) == len(hash) {
		copy(hash[:], b)
		l.notify(auth.Change{Kind: auth.RecordChanged, Hash: hash})
		return
	}
	if n.Payload == "all" { // a TRUNCATE
		l.notify(auth.Change{Kind: auth.WatchLost})
		l.notify(auth.Change{Kind: auth.WatchStarted})
	}
}
