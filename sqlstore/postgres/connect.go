package postgres

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// watchConfig returns how to connect. It asks the pool if it does not know, or
// if forgetConfig was called. If the pool has no connection to spare, what was
// known before is good enough.
func (s *Store) watchConfig(ctx context.Context) (*pgx.ConnConfig, error) {
	s.mu.Lock()
	known, stale := s.config, s.stale
	s.stale = false
	s.mu.Unlock()
	switch {
	case known == nil:
		// The DSN may name several hosts, and connect_timeout is for each.
		if err := s.learnConfig(ctx); err != nil {
			return nil, err
		}
	case stale:
		ctx, cancel := context.WithTimeout(ctx, s.timeout)
		defer cancel()
		s.learnConfig(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config.Copy(), nil
}

// forgetConfig is called if the server refuses the password, which may have
// expired.
func (s *Store) forgetConfig() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = !s.given
}

// dial connects in the time limit.
func (s *Store) dial(ctx context.Context, limit time.Duration, notify pgconn.NotificationHandler) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	config, err := s.watchConfig(ctx)
	if err != nil {
		return nil, err
	}
	return s.connect(ctx, limit/time.Duration(addresses(ctx, config)), notify)
}

// connect connects to the first server of the configuration that answers. Each
// address gets its own timeout, so that one that is silent does not use up the
// time of the next.
func (s *Store) connect(ctx context.Context, each time.Duration, notify pgconn.NotificationHandler) (*pgx.Conn, error) {
	config, err := s.watchConfig(ctx)
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = each
	config.OnNotification = notify
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // nothing is worth preparing
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: c.Conn()}
	}
	resolve := config.LookupFunc
	config.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		ctx, cancel := context.WithTimeout(ctx, each)
		defer cancel()
		return resolve(ctx, host)
	}
	// A connection that fails sends a cancel request on another connection,
	// which may hang as well. There is nothing to cancel.
	var connected atomic.Bool
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if connected.Load() {
			return nil, net.ErrClosed
		}
		ctx, cancel := context.WithTimeout(ctx, each)
		defer cancel()
		return dial(ctx, network, address)
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	connected.Store(true)
	if strings.HasPrefix(code(err), "28") { // invalid authorization specification, invalid password
		s.forgetConfig()
	}
	return conn, err
}

// addresses returns how many addresses config leads to. A host may have several,
// and each is tried twice if TLS is optional.
func addresses(ctx context.Context, config *pgx.ConnConfig) int {
	n := 0
	resolved := make(map[string]int)
	count := func(host string) {
		if _, ok := resolved[host]; !ok {
			ips, _ := config.LookupFunc(ctx, host) // what fails here fails again later
			resolved[host] = len(ips)
		}
		n += max(1, resolved[host])
	}
	count(config.Host)
	for _, f := range config.Fallbacks {
		count(f.Host)
	}
	return n
}

// hangUp closes the connection and waits until its goroutines have ended.
func hangUp(c *pgx.Conn) {
	conn := c.PgConn()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn.Close(ctx)
	conn.Conn().Close()
	<-conn.CleanupDone()
}
