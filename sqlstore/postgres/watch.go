package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/insigner/auth"
)

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// Watch implements [auth.Watcher]. Watching, above, says what it reports and
// when. Each call has its own connection, which is not in the pool of the
// *sql.DB. If the table, its triggers or the database are missing, Watch logs
// why and tries again. notify must not change the Store.
//
// Watch returns the error of ctx when ctx is done, and another error once the
// Store is closed.
func (s *Store) Watch(ctx context.Context, notify func(auth.Change)) error {
	err := s.keys.Watchers.Run(ctx, notify, s.watch)
	return fmt.Errorf("%s: watch: %w", dialect.Package, err)
}

func (s *Store) watch(ctx context.Context, notify func(auth.Change)) {
	logger := s.keys.Logger.With("table", s.keys.Table.Quoted(""))
	backoff := minBackoff
	for {
		started, err := s.listen(ctx, s.timeout+2*backoff, notify, logger)
		if ctx.Err() != nil {
			return
		}
		if started {
			backoff = minBackoff
		}
		// Jitter, so that the instances do not all connect at the same time.
		pause := backoff/2 + rand.N(backoff/2)
		logger.Warn("sqlstore/postgres: not watching for changes", "error", err, "retry", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// listen connects and reports what arrives until the connection is lost or ctx
// is done. It returns whether it reported WatchStarted, and why it ended.
// To connect, it gives each address some time. That is more after failures: a
// server that is overloaded by connections would not recover if they were
// all given up and begun again.
func (s *Store) listen(ctx context.Context, each time.Duration, notify func(auth.Change), logger *slog.Logger) (
	started bool, err error) {
	l, err := s.newListener(ctx, each, notify)
	if err != nil {
		return false, err
	}
	defer l.hangUp()
	return l.run(ctx, logger)
}
