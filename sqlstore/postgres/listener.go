package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/insigner/auth"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A listener is a connection that listens, with what the heartbeat knows of it.
type listener struct {
	store  *Store
	conn   *pgx.Conn // only run uses it
	notify func(auth.Change)
	name   string // of this listener, at the start of its beats
	server string // what identity returned on conn
	table  string // its OID
	direct bool   // there is no pooler between conn and the server

	// beats gets one whenever a beat is heard, if nobody has taken the last.
	beats chan struct{}

	// doubts gets one whenever another instance has found another server.
	doubts chan struct{}

	state   sync.Mutex // held while WatchStarted and WatchLost are reported
	on      bool       // the last of them was WatchStarted
	stopped bool

	mu       sync.Mutex
	heard    time.Time // when the last beat arrived
	last     string    // that beat
	own      string    // the last beat that this listener sent
	ownHeard bool      // it has arrived

	wake context.CancelFunc // ends the wait of run for a notification
	send string             // a beat that run is to send itself
}

// channel is what the triggers notify. A table with the same name in another
// schema notifies the same channel. That costs a cache a few lookups. What
// listeners send to each other holds the OID of the table.
func (s *Store) channel() string { return s.keys.Table.Name + "_changed" }

// newListener connects and sends LISTEN. Each address gets that long.
func (s *Store) newListener(ctx context.Context, each time.Duration, notify func(auth.Change)) (*listener, error) {
	l := &listener{store: s, notify: notify, name: rand.Text(), beats: make(chan struct{}, 1), doubts: make(chan struct{}, 1)}
	var err error
	if l.conn, err = s.connect(ctx, each, l.receive); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := l.begin(ctx); err != nil {
		hangUp(l.conn)
		return nil, err
	}
	return l, nil
}

// begin sends LISTEN and checks the table.
func (l *listener) begin(ctx context.Context) error {
	if _, err := l.conn.Exec(ctx, `LISTEN "`+l.store.channel()+`"`); err != nil {
		return err
	}
	var err error
	if l.server, l.table, err = l.store.identity(ctx, l.conn); err != nil {
		return err
	}
	// A pooler makes up the process ID that a client gets when it connects.
	var pid uint32
	if err := l.conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		return err
	}
	l.direct = pid == l.conn.PgConn().PID()
	// A session that listens is idle most of the time. PostgreSQL 13 has no such
	// setting.
	_, err = l.conn.Exec(ctx, `SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'`)
	if err != nil {
		return err
	}
	return l.check(ctx, l.conn)
}

func (l *listener) hangUp() { hangUp(l.conn) }

// run receives until the connection fails, the heartbeat fails or ctx is done.
// It reports WatchStarted once it knows that announcements arrive, and then
// WatchLost at the end. It returns whether it did, and why it ended.
func (l *listener) run(ctx context.Context, logger *slog.Logger) (started bool, err error) {
	ctx, fail := context.WithCancelCause(ctx)
	var background sync.WaitGroup
	defer background.Wait() // to close connections may take a second, so this comes last
	defer fail(nil)
	background.Go(func() {
		err := l.beat(ctx, func() {
			if l.start() {
				logger.Debug("sqlstore/postgres: watching for changes")
			}
		})
		if err != nil {
			fail(fmt.Errorf("heartbeat: %w", err))
		}
	})
	err = l.receiveAll(ctx)
	fail(err)
	started = l.stop()
	if started && isFault(err) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		l.conn.Exec(ctx, notifyQuery, l.store.channel(), doubtPrefix+l.table)
	}
	return started, err
}

// receiveAll receives until the connection fails or ctx is done.
func (l *listener) receiveAll(ctx context.Context) error {
	for {
		err := l.wait(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case isFault(err):
			return err
		case err != nil:
			return fmt.Errorf("connection lost: %w", err)
		}
	}
}

// wait receives until the connection fails, or until wake is called. Then it
// sends what is to be sent.
func (l *listener) wait(ctx context.Context) error {
	waiting, wake := context.WithCancel(ctx)
	defer wake()
	if l.sleep(wake) {
		// It calls receive. The end of the context leaves the connection usable.
		err := l.conn.PgConn().WaitForNotification(waiting)
		if err != nil && (waiting.Err() == nil || l.conn.IsClosed()) {
			return err
		}
	}
	l.mu.Lock()
	text := l.send
	l.send, l.wake = "", nil
	l.mu.Unlock()
	if text == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.store.timeout)
	defer cancel()
	err := l.check(ctx, l.conn)
	if err == nil {
		_, err = l.conn.Exec(ctx, notifyQuery, l.store.channel(), text)
	}
	return err
}

// sleep keeps what ends the wait for a notification. It returns false if there
// is something to send already.
func (l *listener) sleep(wake context.CancelFunc) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wake = wake
	return l.send == ""
}

// sendItself sends a beat on the connection that listens.
func (l *listener) sendItself(beat string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.send = beat
	if l.wake != nil {
		l.wake()
	}
}

// receive is called with each announcement when it is read.
func (l *listener) receive(_ *pgconn.PgConn, n *pgconn.Notification) {
	if n.Channel != l.store.channel() {
		return
	}
	switch {
	case strings.HasPrefix(n.Payload, beatPrefix):
		if strings.HasPrefix(n.Payload, l.anyBeat()) {
			l.hear(n.Payload)
		}
		return
	case strings.HasPrefix(n.Payload, doubtPrefix):
		if n.Payload == doubtPrefix+l.table {
			signal(l.doubts)
		}
		return
	case n.Payload == "all": // a TRUNCATE
		l.reset()
		return
	}
	var hash auth.Hash
	if b, err := hex.DecodeString(n.Payload); err == nil && len(b) == len(hash) {
		copy(hash[:], b)
		l.notify(auth.Change{Kind: auth.RecordChanged, Hash: hash})
	}
}

// start reports WatchStarted, unless stop was called.
func (l *listener) start() bool {
	l.state.Lock()
	defer l.state.Unlock()
	if !l.stopped {
		l.on = true
		l.notify(auth.Change{Kind: auth.WatchStarted})
	}
	return l.on
}

// stop reports WatchLost if the watch had started, and returns whether it had.
// Nothing is reported afterwards.
func (l *listener) stop() bool {
	l.state.Lock()
	defer l.state.Unlock()
	started := l.on
	l.on, l.stopped = false, true
	if started {
		l.notify(auth.Change{Kind: auth.WatchLost})
	}
	return started
}

// reset makes a cache discard all copies, unless it has none yet.
func (l *listener) reset() {
	l.state.Lock()
	defer l.state.Unlock()
	if l.on {
		l.notify(auth.Change{Kind: auth.WatchLost})
		l.notify(auth.Change{Kind: auth.WatchStarted})
	}
}

// hear notes a beat, of this listener or of another one.
func (l *listener) hear(beat string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard, l.last = time.Now(), beat
	l.ownHeard = l.ownHeard || beat == l.own
	signal(l.beats)
}

// signal sends a value, unless the last one was not taken yet.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
