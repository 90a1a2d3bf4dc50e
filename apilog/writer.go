package apilog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	appendTimeout = 5 * time.Second // for one Append
	maxFailures   = 100             // one after the other, until the store counts as down
	logEvery      = time.Minute
)

// retryAfter are the pauses before a batch is written again if the store is
// down. After the last attempt its entries are lost.
var retryAfter = []time.Duration{200 * time.Millisecond, 500 * time.Millisecond, time.Second}

// A writer writes what is in the queue to the store.
type writer struct {
	store    Store
	queue    *queue
	interval time.Duration
	redact   func(*Entry)
	logger   *slog.Logger
	cleaner  *cleaner

	ctx     context.Context // ends with that of Close
	cancel  context.CancelFunc
	awake   chan struct{} // there is much to write
	closing chan struct{} // closed by close
	done    chan struct{}
	once    sync.Once
	closed  chan struct{} // closed once err is known
	err     error         // of close

	down    bool      // after the last batch
	logged  time.Time // when lost entries were logged
	told    uint64    // lost entries that were logged
	lastErr atomic.Pointer[error]
}

func newWriter(store Store, q *queue, interval time.Duration, redact func(*Entry), logger *slog.Logger, c *cleaner) *writer {
	ctx, cancel := context.WithCancel(context.Background())
	return &writer{
		store: store, queue: q, interval: interval, redact: redact, logger: logger, cleaner: c,
		ctx:     ctx,
		cancel:  cancel,
		awake:   make(chan struct{}, 1),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
		closed:  make(chan struct{}),
	}
}

// wake makes the writer write before the interval is over.
func (w *writer) wake() {
	select {
	case w.awake <- struct{}{}:
	default:
	}
}

func (w *writer) run() {
	defer close(w.done)
	ticker := time.NewTicker(w.interval)
	defer ticker.Stop()
	for {
		select {
		case <-w.awake:
			w.writeQueue()
		case <-ticker.C:
			w.writeQueue()
			w.writeCounts()
			w.logLost()
		case <-w.closing:
			w.writeQueue()
			w.writeCounts()
			return
		}
	}
}

// close ends the writer. Of several calls the first one does it, and the others
// wait for it unless their ctx ends first.
func (w *writer) close(ctx context.Context) error {
	first := false
	w.once.Do(func() { first = true })
	if first {
		w.err = w.end(ctx)
		close(w.closed)
		return w.err
	}
	select {
	case <-w.closed:
		return w.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *writer) end(ctx context.Context) (err error) {
	before := w.queue.close()
	defer w.cancel()
	close(w.closing)
	finished := false
	select {
	case <-w.done:
		finished = true
	case <-ctx.Done():
	}
	uncounted := w.queue.abandon()
	if lost := w.queue.dropped() - before; lost > 0 || uncounted > 0 {
		err = fmt.Errorf("apilog: close: %d entries were lost; the store has no count of %d", lost, uncounted)
		if cause := w.lastErr.Load(); cause != nil {
			err = fmt.Errorf("%w: %w", err, *cause)
		}
	}
	if uncounted > 0 {
		w.log(slog.LevelError, "auth/apilog: lost entries are not counted in the store", "entries", uncounted)
	}
	if finished {
		w.logged = time.Time{}
		w.logLost()
	}
	return err
}

// writeQueue writes what waits now, in batches. What comes while it does so is
// for the next time, so that a busy server comes to the counts too.
func (w *writer) writeQueue() {
	for range w.queue.waits() {
		b := w.queue.take()
		if b == nil { // Close has given up the rest
			return
		}
		w.queue.done(b, w.write(b.entries))
	}
}

// writeCounts writes how many entries were lost.
func (w *writer) writeCounts() {
	for counts := range slices.Chunk(w.queue.takeLost(time.Now()), batchSize) {
		lost := int64(0)
		for i := range counts {
			lost += counts[i].Lost
		}
		w.queue.counted(lost, w.write(counts))
	}
}

// write completes the entries and appends them to the store. It returns those
// that could not be written.
func (w *writer) write(entries []Entry) (failed []Entry) {
	entries, failed = w.redactAll(entries)
	setIDs(entries)
	wasDown := w.down
	for attempt := 0; len(entries) > 0; attempt++ {
		a := attempts{w: w}
		a.append(entries)
		entries = a.failed
		w.down = a.down || a.written == 0
		if !w.down || wasDown || attempt == len(retryAfter) || !w.pause(retryAfter[attempt]) {
			break
		}
	}
	return append(failed, entries...)
}

// redactAll returns the entries that the host has redacted, and those for which
// it panicked, without what they hold.
func (w *writer) redactAll(entries []Entry) (redacted, failed []Entry) {
	if w.redact == nil {
		return entries, nil
	}
	redacted = make([]Entry, 0, len(entries))
	for i := range entries {
		e, err := w.redactOne(entries[i])
		if err != nil {
			w.lastErr.Store(&err)
			failed = append(failed, Entry{Lost: e.Lost})
			continue
		}
		redacted = append(redacted, e)
	}
	return redacted, failed
}

func (w *writer) redactOne(e Entry) (_ Entry, err error) {
	defer recovered(&err)
	lost := e.Lost
	w.redact(&e)
	e.Lost = lost
	for _, text := range []*string{&e.Method, &e.Route, &e.Path, &e.Code, &e.RequestID, &e.UserAgent} {
		*text = mend(*text) // the host may have cut it off within a character
	}
	e.KeyID, e.Owner = identity(e.KeyID), identity(e.Owner)
	return e, nil
}

// pause waits for d. It reports whether that time passed: not if the context of
// Close ended.
func (w *writer) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-w.ctx.Done():
		return false
	}
}

// Attempts append a batch, in parts if it has to be.
type attempts struct {
	w        *writer
	failures int  // one after the other
	written  int  // entries
	down     bool // the store takes nothing
	failed   []Entry
}

// append appends the entries. If that fails, it appends their halves, so that
// only bad entries fail.
func (a *attempts) append(entries []Entry) {
	switch {
	case len(entries) == 0:
		return
	case a.down:
		a.failed = append(a.failed, entries...)
		return
	}
	hung, err := a.w.appendOnce(entries)
	if err == nil {
		a.failures = 0
		a.written += len(entries)
		return
	}
	a.w.lastErr.Store(&err)
	a.failures++
	a.down = hung || a.failures >= maxFailures
	if a.down || len(entries) == 1 {
		a.failed = append(a.failed, entries...)
		return
	}
	half := len(entries) / 2
	a.append(entries[:half])
	a.append(entries[half:])
}

// appendOnce reports whether the store took until its context ended.
func (w *writer) appendOnce(entries []Entry) (hung bool, err error) {
	ctx, cancel := context.WithTimeout(w.ctx, appendTimeout)
	defer cancel()
	if ctx.Err() != nil {
		return true, ctx.Err()
	}
	defer func() { hung = ctx.Err() != nil }()
	defer recovered(&err)
	return false, w.store.Append(ctx, slices.Clip(entries))
}

// logLost logs that entries were lost, at most once a minute.
func (w *writer) logLost() {
	lost := w.queue.dropped()
	if lost == w.told || !w.logged.IsZero() && time.Since(w.logged) < logEvery {
		return
	}
	args := []any{"entries", lost - w.told}
	if err := w.lastErr.Swap(nil); err != nil {
		args = append(args, "error", w.cleaner.clean((*err).Error(), maxError))
	}
	w.log(slog.LevelWarn, "auth/apilog: entries were lost", args...)
	w.logged, w.told = time.Now(), lost
}

func (w *writer) log(level slog.Level, msg string, args ...any) {
	logger := w.logger
	if logger == nil {
		logger = slog.Default()
	}
	logger.Log(context.Background(), level, msg, args...)
}

// recovered turns a panic of the host's code into an error, since no recovery
// of the host reaches the goroutine. Its value may hold a secret.
func recovered(err *error) {
	if v := recover(); v != nil {
		*err = errors.Join(*err, fmt.Errorf("it panicked with a %T", v))
	}
}

// jitter returns d, give or take a tenth.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}
