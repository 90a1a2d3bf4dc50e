package postgres

import (
	"cmp"
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
// fails. It proves three things: that this connection delivers, that the
// triggers are in force, and that new connections lead to the same server.
//
// All instances share the proof. One connects anew, checks the table and sends
// a beat. An instance that hears it on the connection that listens knows all
// three. The author of the last beat sends the next one, a little earlier than
// the others would. So the cost is one connection and one notification per
// interval, and one delivery per instance.
//
// An instance that hears nothing for an interval sends a beat itself, and must
// hear that within the timeout.
//
// In addition, each instance compares the server of its pool with the server
// that it listens to, once per interval, and now and then that of a new
// connection. For these no beat is sent, and only another server counts as a
// failure.

const (
	beatPrefix  = "beat "
	notifyQuery = "SELECT pg_notify($1, $2)"

	// ownProof is how often each instance at least checks with a connection of
	// its own. The beats of others may come from an instance that is mistaken.
	ownProof = time.Minute
)

// A fault is a failure that does not go away by itself, and that a beat of
// another instance does not disprove.
type fault struct{ text string }

func (f *fault) Error() string { return f.text }

func isFault(err error) bool { return errors.As(err, new(*fault)) }

// beat runs the heartbeat until it fails or ctx is done. It calls started after
// the first proof.
func (l *listener) beat(ctx context.Context, started func()) error {
	if err := l.comparePool(ctx, true); isFault(err) {
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
	background.Go(func() { cancel(l.compare(ctx)) })
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
	if strings.HasPrefix(l.last, beatPrefix+l.name) {
		return l.heard.Add(time.Duration(0.5 * interval))
	}
	// Jitter, so that not all of them notice at once that the author is gone.
	return l.heard.Add(time.Duration((0.8 + 0.2*mathrand.Float64()) * interval))
}

// prove returns when a beat of this instance, or of another one, has arrived.
func (l *listener) prove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.store.timeout)
	defer cancel()
	beat := beatPrefix + l.name + " " + rand.Text()
	before := l.expect(beat)
	sendErr := l.sendBeat(ctx, beat, before)
	if isFault(sendErr) {
		return sendErr
	}
	for {
		switch count, own := l.heardBeats(); {
		case own, sendErr != nil && count > before: // another instance could do it
			return nil
		}
		select {
		case <-l.beats:
		case <-ctx.Done():
			hint := ""
			if !l.direct {
				hint = "; through a pooler such as PgBouncer: set Options.WatchConfig to connect without it"
			}
			return fmt.Errorf("announcements do not arrive: %w%s", cmp.Or(sendErr, ctx.Err()), hint)
		}
	}
}

// expect sets the beat that this instance sends next. It returns how many beats
// have been heard.
func (l *listener) expect(beat string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.own, l.ownHeard = beat, false
	return l.count
}

// heardBeats returns how many beats have been heard, and whether that of this
// instance was one of them.
func (l *listener) heardBeats() (count int, own bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count, l.ownHeard
}

// errHeard means that there is no need for another beat.
var errHeard = errors.New("another instance was faster")

// sendBeat checks the table on a new connection, and sends a beat. The error is
// errHeard if more beats than before arrived first.
//
// If a new connection cannot be had, as from a server that is overloaded or has
// none to spare, the one that listens sends the beat.
func (l *listener) sendBeat(ctx context.Context, beat string, before int) error {
	connecting, interrupt := context.WithCancel(ctx)
	defer interrupt()
	l.setInterrupt(interrupt)
	conn, err := l.store.dial(connecting, l.store.timeout/2, nil)
	l.setInterrupt(nil)
	if err == nil {
		defer hangUp(conn)
	}
	if count, _ := l.heardBeats(); count > before {
		return errHeard
	}
	if err != nil {
		l.sendItself(beat)
		return err
	}
	if err := l.check(ctx, conn); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, notifyQuery, l.store.channel(), beat)
	return err
}

// setInterrupt sets what the next beat calls.
func (l *listener) setInterrupt(f context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.interrupt = f
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
	server, err := l.store.identity(ctx, conn)
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

func (s *Store) identity(ctx context.Context, conn *pgx.Conn) (id string, err error) {
	err = conn.QueryRow(ctx, identityQuery, s.keys.Table.Quoted("")).Scan(&id)
	return id, err
}

// compare compares servers until it finds another one or ctx is done.
func (l *listener) compare(ctx context.Context) error {
	interval := l.store.interval
	next := time.Now().Add(time.Duration(mathrand.Float64() * float64(ownProof)))
	for {
		timer := time.NewTimer(time.Duration((0.9 + 0.1*mathrand.Float64()) * float64(interval)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		own := time.Now().After(next)
		if err := l.comparePool(ctx, own); isFault(err) {
			return err
		}
		if own {
			if err := l.compareNew(ctx); isFault(err) {
				return err
			}
			next = time.Now().Add(time.Duration((0.9 + 0.1*mathrand.Float64()) * float64(ownProof)))
		}
	}
}

// comparePool returns a fault if the *sql.DB leads to another server. Any other
// error says only that the pool could not answer. It looks at one connection,
// or at all that are idle.
//
// After a failover, the pool may hold connections to the old server, if that
// still runs. Those that are idle are discarded. Only if a new one leads to
// another server too, that is a fault.
func (l *listener) comparePool(ctx context.Context, all bool) error {
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
			return err
		}
		var server string
		err = conn.QueryRowContext(ctx, identityQuery, l.store.keys.Table.Quoted("")).Scan(&server)
		if err == nil && server != l.server {
			discard(conn)
			if n > open && len(good) == 0 {
				return &fault{"the *sql.DB leads to another server, database or table than the connection that listens"}
			}
			all = true
			continue
		}
		good = append(good, conn)
		if err != nil || !all || n >= open || db.Stats().Idle == 0 {
			return err
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
