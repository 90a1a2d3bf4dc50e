package apilog

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/insigner/auth"
)

// Options configures a [Recorder]. The zero Options are valid.
type Options struct {
	// Scheme is that of the Authenticator. It says what a key looks like, for
	// keys in paths. The zero Scheme is that of keys which start with "isk_".
	Scheme auth.Scheme

	// QueueSize is how many entries at most wait to be written, at some 2 kB
	// each if clients send the longest texts. If 0, it is 16,384.
	QueueSize int

	// FlushInterval is how long an entry waits at most if the store is well. A
	// crash loses the entries of that time. If 0, it is one second.
	FlushInterval time.Duration

	// Retention is how long entries are kept: for that time, and until the end
	// of the day in UTC. If 0, it is 30 days. If negative, they are kept until
	// the host deletes them.
	Retention time.Duration

	// KeylessPerSecond is how many requests without a known key are kept in a
	// second. The others are counted. If 0, it is 20. If negative, none are
	// kept.
	KeylessPerSecond int

	// Skip, if not nil, reports whether a request is left out, for example a
	// health check. It is called before the handler, so r.Pattern is empty. A
	// request that is skipped is not counted.
	Skip func(r *http.Request) bool

	// Redact, if not nil, may clear or shorten fields of an entry before it is
	// stored. It is called in the background, one call at a time, also for
	// entries with Lost set. If it panics, the entry is lost and counted.
	Redact func(e *Entry)

	// RemoteAddr, if not nil, returns the address of the client. It is for
	// servers behind a proxy. X-Forwarded-For can be forged: use the last
	// address in it that is not one of your proxies. If the address is not
	// known, return the zero Addr. If RemoteAddr is nil, the address is that of
	// http.Request.RemoteAddr.
	RemoteAddr func(r *http.Request) netip.Addr

	// Logger gets lost entries, at most once a minute, and failures of the
	// retention. If nil, it is slog.Default() at the time of the call.
	Logger *slog.Logger
}

const (
	defaultQueueSize = 16_384
	defaultKeyless   = 20
	defaultRetention = 30 * 24 * time.Hour
	retentionEvery   = time.Hour
	retentionTimeout = 30 * time.Minute
)

// A Recorder writes an [Entry] for each request that passes its Middleware.
// [NewRecorder] makes one. The zero value cannot be used.
type Recorder struct {
	store      Store
	skip       func(*http.Request) bool
	remoteAddr func(*http.Request) netip.Addr
	cleaner    *cleaner
	queue      *queue
	writer     *writer

	stop     context.CancelFunc // of the retention
	retained chan struct{}      // closed once the retention has ended
}

// NewRecorder returns a Recorder that writes to store in the background until
// Close. If opts is nil, the defaults are used. It panics if the store is nil,
// if QueueSize or FlushInterval is negative, or if the Scheme is invalid.
func NewRecorder(store Store, opts *Options) *Recorder {
	const call = "apilog.NewRecorder"
	mustHave(call, store)
	var o Options
	if opts != nil {
		o = *opts
	}
	switch {
	case o.QueueSize < 0:
		panic(fmt.Sprintf("%s: QueueSize is %d, which is negative", call, o.QueueSize))
	case o.FlushInterval < 0:
		panic(fmt.Sprintf("%s: FlushInterval is %v, which is negative", call, o.FlushInterval))
	}
	if err := o.Scheme.Validate(); err != nil {
		panic(call + strings.TrimPrefix(err.Error(), "auth"))
	}
	if o.QueueSize == 0 {
		o.QueueSize = defaultQueueSize
	}
	if o.FlushInterval == 0 {
		o.FlushInterval = time.Second
	}
	if o.Retention == 0 {
		o.Retention = defaultRetention
	}
	if o.KeylessPerSecond == 0 {
		o.KeylessPerSecond = defaultKeyless
	}
	c := newCleaner(o.Scheme)
	q := newQueue(o.QueueSize, max(o.KeylessPerSecond, 0))
	ctx, stop := context.WithCancel(context.Background())
	r := &Recorder{
		store:      store,
		skip:       o.Skip,
		remoteAddr: o.RemoteAddr,
		cleaner:    c,
		queue:      q,
		writer:     newWriter(store, q, o.FlushInterval, o.Redact, o.Logger, c),
		stop:       stop,
		retained:   make(chan struct{}),
	}
	go r.writer.run()
	go r.retain(ctx, o.Retention)
	return r
}

// OnDecision notes the key of a request, and why it was refused. It is for
// auth.Options.OnDecision. A decision outside the Middleware of r is ignored.
func (r *Recorder) OnDecision(ctx context.Context, d auth.Decision) {
	if v := r.visitOf(ctx); v != nil {
		v.decided(d)
	}
}

// SetCode sets the Code of the entry for the request with that context, and so
// says why a handler, or another module, refused it. Without a Recorder it does
// nothing.
func SetCode(ctx context.Context, code string) {
	for v := visitOf(ctx); v != nil; v = visitOf(v.Context) {
		v.setCode(code)
	}
}

// Omit leaves the request with that context out of the logs.
// Handlers call it that are no part of the API, such as the pages on which
// customers read their logs. Without a Recorder it does nothing.
func Omit(ctx context.Context) {
	for v := visitOf(ctx); v != nil; v = visitOf(v.Context) {
		v.omit()
	}
}

// Dropped returns how many entries were lost since the start, including those
// that Options.KeylessPerSecond left out.
func (r *Recorder) Dropped() uint64 { return r.queue.dropped() }

// Close writes the entries that wait and the counts of those that were lost,
// and returns the error of that. What is not written when ctx ends is lost.
// Later requests are lost as well, so shut the HTTP server down first. It waits
// for all that it has started, unless ctx ends first. A second Close returns the
// same.
func (r *Recorder) Close(ctx context.Context) error {
	r.stop()
	err := r.writer.close(ctx)
	select {
	case <-r.retained:
	case <-ctx.Done():
	}
	return err
}

// retain deletes old entries, as long as the Recorder runs.
func (r *Recorder) retain(ctx context.Context, keep time.Duration) {
	defer close(r.retained)
	if keep < 0 {
		return
	}
	for {
		const day = 24 * time.Hour
		if err := r.deleteBefore(ctx, time.Now().UTC().Add(-keep).Truncate(day)); err != nil && ctx.Err() == nil {
			r.writer.log(slog.LevelError, "auth/apilog: cannot delete old entries", "error", r.cleaner.clean(err.Error(), maxError))
		}
		select {
		case <-time.After(jitter(retentionEvery)):
		case <-ctx.Done():
			return
		}
	}
}

func (r *Recorder) deleteBefore(ctx context.Context, t time.Time) (err error) {
	ctx, cancel := context.WithTimeout(ctx, retentionTimeout)
	defer cancel()
	defer recovered(&err)
	_, err = r.store.DeleteBefore(ctx, t)
	return err
}
