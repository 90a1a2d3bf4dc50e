package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	touchBatch   = 1000             // keys in one Touch
	touchTimeout = 10 * time.Second // for one Touch
)

// UseRecorderOptions configures a [UseRecorder]. The zero value is ready.
type UseRecorderOptions struct {
	Interval time.Duration // between writes, give or take a tenth; 0: a minute
	MaxKeys  int           // how many keys' times wait for a write at most, some 150 bytes each, and as many beside one; 0: 100,000
	Logger   *slog.Logger  // gets failed writes; nil: slog.Default, as it is at the time
}

// A UseRecorder keeps Record.LastUsedAt: the newest time that the key passed [Record.Check]. It gathers the times in
// memory and writes them in batches, so that no request waits for a write and a busy key costs one update a batch.
// If the store fails they wait for the next write; while MaxKeys of them wait, the times of further keys are dropped
// and counted, and requests go on.
//
//	uses := auth.NewUseRecorder(store, nil)
//	defer uses.Close()
//	a := auth.New(store, &auth.Options{OnDecision: uses.OnDecision})
type UseRecorder struct {
	store    KeyStore
	interval time.Duration
	maxKeys  int
	logger   *slog.Logger
	dropped  atomic.Uint64

	mu     sync.RWMutex // never held during a write to the store
	times  map[string]*atomic.Int64
	closed bool

	stop     context.CancelFunc
	done     chan struct{}
	closeErr error // valid once done is closed
}

// NewUseRecorder returns a UseRecorder that writes to store in the background until Close. Nil opts: the defaults. It
// panics if the store is nil or an option is negative.
func NewUseRecorder(store KeyStore, opts *UseRecorderOptions) *UseRecorder {
	const call = "auth.NewUseRecorder"
	if store == nil {
		panic(call + ": the store is nil")
	}
	var o UseRecorderOptions
	if opts != nil {
		o = *opts
	}
	if o.Interval < 0 || o.MaxKeys < 0 {
		panic(fmt.Sprintf("%s: Interval %v or MaxKeys %d is negative", call, o.Interval, o.MaxKeys))
	}
	if o.Interval == 0 {
		o.Interval = time.Minute
	}
	if o.MaxKeys == 0 {
		o.MaxKeys = 100_000
	}
	ctx, stop := context.WithCancel(context.Background())
	u := &UseRecorder{store: store, interval: o.Interval, maxKeys: o.MaxKeys, logger: o.Logger,
		times: make(map[string]*atomic.Int64), stop: stop, done: make(chan struct{})}
	go u.run(ctx)
	return u
}

// OnDecision notes the use of a key: it goes into [Options]. A use is a decision for which the Authenticator's store, be
// it a cache, was asked and the record passed its Check, whether or not its scopes sufficed.
func (u *UseRecorder) OnDecision(_ *http.Request, d Decision) {
	if d.record == nil || d.Lookup == 0 || d.Err != nil && !errors.Is(d.Err, ErrInsufficientScope) {
		return
	}
	u.note(d.record.ID, d.Time.UnixMicro())
}

// note remembers that the key was used at that time, in microseconds of the Unix epoch.
func (u *UseRecorder) note(id string, at int64) {
	u.mu.RLock()
	known := u.times[id]
	if known != nil {
		forward(known, at)
	}
	u.mu.RUnlock()
	if known != nil {
		return
	}

	u.mu.Lock()
	defer u.mu.Unlock()
	switch known := u.times[id]; {
	case known != nil:
		forward(known, at)
	case u.closed, len(u.times) >= u.maxKeys:
		u.dropped.Add(1)
	default:
		known = new(atomic.Int64)
		known.Store(at)
		u.times[id] = known
	}
}

// forward sets t to at if that is later.
func forward(t *atomic.Int64, at int64) {
	for old := t.Load(); at > old && !t.CompareAndSwap(old, at); old = t.Load() {
	}
}

// Dropped returns how many uses went unrecorded: too many keys waited, or the last write failed, or it was closed.
func (u *UseRecorder) Dropped() uint64 { return u.dropped.Load() }

// Close writes what waits, within 10 seconds if the store heeds its context, and returns the error of that write. Later
// uses count as dropped.
// Close the server first. Closing again returns the same.
func (u *UseRecorder) Close() error {
	u.stop()
	<-u.done
	return u.closeErr
}

func (u *UseRecorder) run(ctx context.Context) {
	defer close(u.done)
	for {
		// The jitter keeps instances that started together from writing together.
		wait := time.NewTimer(time.Duration(float64(u.interval) * (0.9 + 0.2*rand.Float64())))
		select {
		case <-wait.C:
			u.flush(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.Background(), touchTimeout)
			defer cancel()
			u.closeErr = u.flush(last)
			u.mu.Lock()
			u.closed = true
			u.dropped.Add(uint64(len(u.times)))
			u.times = nil
			u.mu.Unlock()
			return
		}
	}
}

// flush writes all that waits. What cannot be written waits on.
func (u *UseRecorder) flush(ctx context.Context) error {
	u.mu.Lock()
	times := u.times
	u.times = make(map[string]*atomic.Int64)
	u.mu.Unlock()

	batch := make(map[string]time.Time, min(touchBatch, len(times)))
	for id, at := range times {
		batch[id] = time.UnixMicro(at.Load()).UTC()
		if len(batch) < touchBatch && len(batch) < len(times) {
			continue
		}
		if err := u.touch(ctx, batch); err != nil {
			for id, at := range times {
				u.note(id, at.Load())
			}
			if ctx.Err() != context.Canceled { // by Close, which writes them next
				logger := u.logger
				if logger == nil {
					logger = slog.Default()
				}
				logger.Error("auth: last uses could not be written; they wait", "keys", len(times), "error", err)
			}
			return fmt.Errorf("auth: write last uses: %w", err)
		}
		for id := range batch {
			delete(times, id)
		}
		clear(batch)
	}
	return nil
}

func (u *UseRecorder) touch(ctx context.Context, batch map[string]time.Time) (err error) {
	ctx, cancel := context.WithTimeout(ctx, touchTimeout)
	defer cancel()
	defer func() { // no host's recovery reaches this goroutine
		if v := recover(); v != nil {
			err = errors.New("auth: the store panicked")
		}
	}()
	return u.store.Touch(ctx, batch)
}
