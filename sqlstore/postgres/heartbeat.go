package postgres

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	mathrand "math/rand/v2"

	"github.com/jackc/pgx/v5"
)

// The heartbeat finds out that announcements no longer arrive, although nothing
// fails.
//
// All instances share it. One of them checks the table and sends a beat, on the
// connection that listens. So an instance that hears it knows that its own
// connection delivers, and that the triggers are in force. The author of the
// last beat sends the next one, a little earlier than the others would. An
// instance that hears nothing for an interval sends one itself, and must hear
// that within the timeout. So the cost is one notification per interval, and
// one delivery per instance.
//
// After a failover, the old server may still run and deliver. So the author also
// opens a new connection, once per interval, and compares the servers. If they
// differ, it tells the others, which then do the same. Each instance does it
// once a minute all the same, since an author can be mistaken. It also compares
// the server of its pool, once per interval. In both cases only another server
// counts as a failure, and not that there is no connection.

const (
	beatPrefix  = "beat "
	doubtPrefix = "doubt " // of an instance that has found another server
	notifyQuery = "SELECT pg_notify($1, $2)"

	// ownCheck is how often each instance at least opens a new connection.
	ownCheck = time.Minute
)

// A fault is a failure that does not go away by itself.
type fault struct{ text string }

func (f *fault) Error() string { return f.text }

func isFault(err error) bool { return errors.As(err, new(*fault)) }

// beat runs the heartbeat until it fails or ctx is done. It calls started after
// the first proof.
func (l *listener) beat(ctx context.Context, started func()) error {
	if _, err := l.comparePool(ctx, true); isFault(err) {
		return err
	}
	// A new connection that leads straight to the server needs no other proof.
	// So instances that start together send nothing to each other.
	if !l.direct {
		if err := l.prove(ctx); err != nil {
			return err
		}
	}
	l.begun()
	started()
	ctx, cancel := context.WithCancelCause(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel(nil)
	background.Go(func() { cancel(l.comparePools(ctx)) })
	background.Go(func() { cancel(l.compareServers(ctx)) })
	for {
		timer := time.NewTimer(time.Until(l.due()))
		select {
		case <-timer.C:
			if err := l.prove(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		case <-l.beats:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// begun starts the time until the first beat.
func (l *listener) begun() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heard.IsZero() {
		l.heard = time.Now()
	}
}

// due returns when this instance sends the next beat, if it hears none.
func (l *listener) due() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	interval := float64(l.store.interval)
	if l.isAuthor() {
		return l.heard.Add(time.Duration(0.6 * interval))
	}
	// Jitter, so that not all of them notice at once that the author is gone.
	return l.heard.Add(time.Duration((0.8 + 0.2*mathrand.Float64()) * interval))
}

// isAuthor reports whether the last beat was that of this instance. The caller
// holds l.mu.
func (l *listener) isAuthor() bool { return strings.HasPrefix(l.last, l.beatPrefix()) }

func (l *listener) beatPrefix() string { return l.anyBeat() + l.name + " " }

// anyBeat returns what a beat begins with, for the table of this instance. One
// in another schema has the same channel.
func (l *listener) anyBeat() string { return beatPrefix + l.table + " " }

// prove sends a beat, and returns when it has arrived.
func (l *listener) prove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.store.timeout)
	defer cancel()
	beat := l.beatPrefix() + rand.Text()
	l.expect(beat)
	if err := l.sendBeat(ctx, beat); err != nil {
		return err
	}
	for !l.hasHeard() {
		select {
		case <-l.beats:
		case <-ctx.Done():
			hint := ""
			if !l.direct {
				hint = "; through a pooler such as PgBouncer: set Options.WatchConfig to connect without it"
			}
			return fmt.Errorf("announcements do not arrive: %w%s", ctx.Err(), hint)
		}
	}
	return nil
}

// expect sets the beat that this instance sends next.
func (l *listener) expect(beat string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.own, l.ownHeard = beat, false
}

func (l *listener) hasHeard() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ownHeard
}

// sendBeat sends a beat on the connection that listens, or on another one if
// there is a pooler in between: it could deliver what it gets on the same
// connection, and nothing else.
func (l *listener) sendBeat(ctx context.Context, beat string) error {
	if l.direct {
		l.sendItself(beat)
		return nil
	}
	conn, err := l.store.dial(ctx, l.store.timeout, nil)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	if err := l.check(ctx, conn); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, notifyQuery, l.store.channel(), beat)
	return err
}

// checkQuery returns what is wrong with the table $1, or "". Its triggers must
// call the function $2, even if session_replication_role is replica.
const checkQuery = `SELECT CASE
	WHEN to_regclass($1) IS NULL THEN 'the table does not exist: call Migrate'
	WHEN EXISTS (SELECT FROM pg_inherits WHERE inhparent = to_regclass($1))
		THEN 'the table has partitions or children, whose changes are not announced'
	ELSE coalesce((
		SELECT 'triggers are missing, or not enabled by ALTER TABLE … ENABLE ALWAYS TRIGGER: ' || string_agg(name, ', ')
		FROM unnest($3::text[]) AS name
		WHERE NOT EXISTS (
			SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
			WHERE t.tgrelid = to_regclass($1) AND t.tgname = name AND t.tgenabled = 'A' AND p.proname = $2)), '')
	END`

// check returns a fault if changes of the table are not announced, or if conn
// leads to another server than the connection that listens.
func (l *listener) check(ctx context.Context, conn *pgx.Conn) error {
	table := l.store.keys.Table
	triggers := []string{table.Name + "_on_row", table.Name + "_on_update", table.Name + "_on_truncate"}
	var wrong string
	err := conn.QueryRow(ctx, checkQuery, table.Quoted(""), table.Name+"_notify", triggers).Scan(&wrong)
	if err != nil {
		return err
	}
	if wrong != "" {
		return &fault{wrong}
	}
	server, _, err := l.store.identity(ctx, conn)
	if err == nil && server != l.server {
		err = &fault{"new connections lead to another server or database, or the table was replaced"}
	}
	return err
}

// identityQuery returns what differs for another server, for the same server
// after a restart, for another database, and for another table with the name
// $1.
const identityQuery = `SELECT concat_ws(' ', to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'),
	current_database(), to_regclass($1)::oid)`

// identity also returns the OID of the table.
func (s *Store) identity(ctx context.Context, conn *pgx.Conn) (server, table string, err error) {
	err = conn.QueryRow(ctx, identityQuery, s.keys.Table.Quoted("")).Scan(&server)
	return server, server[strings.LastIndexByte(server, ' ')+1:], err
}

// comparePools compares the server of the pool once per interval, until it finds
// another one or ctx is done.
func (l *listener) comparePools(ctx context.Context) error {
	for begin := time.Now(); ; {
		if l.pause(ctx, nil); ctx.Err() != nil {
			return ctx.Err()
		}
		// A connection that was in use during a failover is idle soon.
		discarded, err := l.comparePool(ctx, time.Since(begin) < settling)
		if isFault(err) {
			return err
		}
		if discarded > 0 {
			l.reset() // what lookups have read there may be old
		}
	}
}

// compareServers compares the server of a new connection, until it finds another
// one or ctx is done.
func (l *listener) compareServers(ctx context.Context) error {
	next := time.Now().Add(time.Duration(mathrand.Float64() * float64(ownCheck)))
	var last time.Time
	for {
		doubted := l.pause(ctx, l.doubts)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		now := time.Now()
		doubted = doubted && now.Sub(last) > l.store.interval/2 // anybody can send doubts
		if !doubted && !l.leads() && now.Before(next) {
			continue
		}
		if err := l.compareNew(ctx); isFault(err) {
			return err
		}
		last = now
		next = now.Add(time.Duration((0.9 + 0.1*mathrand.Float64()) * float64(ownCheck)))
	}
}

// pause waits for about an interval, or until ctx is done or something arrives.
// It reports whether something arrived.
func (l *listener) pause(ctx context.Context, arrives <-chan struct{}) bool {
	timer := time.NewTimer(time.Duration((0.9 + 0.1*mathrand.Float64()) * float64(l.store.interval)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-arrives:
		return true
	}
	return false
}

// settling is how long after the start all idle connections of the pool are
// compared, each time. Later, to touch them would keep them from being closed
// by SetConnMaxIdleTime.
const settling = 30 * time.Second

func (l *listener) leads() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.isAuthor()
}

// comparePool returns a fault if the *sql.DB leads to another server. Any other
// error says only that the pool could not answer. It looks at one connection,
// or at all that are idle. It returns how many it has discarded.
//
// After a failover, the pool may hold connections to the old server, if that
// still runs. Those that are idle are discarded. Only if a new one leads to
// another server too, that is a fault.
func (l *listener) comparePool(ctx context.Context, all bool) (discarded int, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.store.timeout)
	defer cancel()
	db := l.store.db
	var good []*sql.Conn // held, so that the pool hands out the others
	defer func() {
		for _, conn := range good {
			conn.Close()
		}
	}()
	open := db.Stats().OpenConnections
	for n := 0; ; n++ {
		conn, err := db.Conn(ctx)
		if err != nil {
			return discarded, err
		}
		var server string
		err = conn.QueryRowContext(ctx, identityQuery, l.store.keys.Table.Quoted("")).Scan(&server)
		if err == nil && server != l.server {
			discard(conn)
			discarded++
			if n > open && len(good) == 0 {
				return discarded, &fault{"the *sql.DB leads to another server, database or table than the connection that listens"}
			}
			all = true
			continue
		}
		good = append(good, conn)
		if err != nil || !all || n >= open || db.Stats().Idle == 0 {
			return discarded, err
		}
	}
}

// discard closes a connection of the pool, so that it is not used again. A
// pgxpool under the *sql.DB would keep one that is not closed.
func discard(conn *sql.Conn) {
	conn.Raw(func(driverConn any) error {
		if c := unwrap(driverConn); c != nil {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			c.Conn().Close(ctx)
		}
		return driver.ErrBadConn
	})
}

// compareNew checks the table on a new connection.
func (l *listener) compareNew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.store.timeout)
	defer cancel()
	conn, err := l.store.dial(ctx, l.store.timeout, nil)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	return l.check(ctx, conn)
}
