package keyring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/insigner/auth"
)

const (
	touchBatch   = 1000             // keys in one Touch
	touchTimeout = 10 * time.Second // for one Touch
)

// LastUsedOptions configures a [LastUsedRecorder].
type LastUsedOptions struct {
	// Interval is the time between two writes, give or take a tenth. If 0, it
	// is one minute.
	Interval time.Duration

	// MaxKeys is how many keys at most can wait for a write, at some 150 bytes
	// each; as many more can be in the write. If 0, it is 100,000.
	MaxKeys int

	// Logger gets failed writes. If nil, it is slog.Default() at the time of
	// the call.
	Logger *slog.Logger
}

// A LastUsedRecorder keeps LastUsedAt of the records: the last time that the
// key was good. It collects the times in memory and writes them in batches. So
// no request waits for a write, and a busy key costs one update per interval.
//
// Each instance has a recorder of its own. So that they do not all write the
// last use of the same key, the stores of module sqlstore skip a key whose
// stored time is not older than the interval, less a tenth. A store of yours
// does it if it has this method, which is like Touch:
//
//	TouchOlder(ctx context.Context, lastUsed map[string]time.Time, age time.Duration) error
//
// If the store fails, the times wait for the next write. If MaxKeys of them
// wait, the times of other keys are dropped and counted.
//
//	lastUsed := keyring.NewLastUsedRecorder(store, nil)
//	defer lastUsed.Close()
//	a := auth.New(store, &auth.Options{OnDecision: lastUsed.OnDecision})
type LastUsedRecorder struct {
	store    Store
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

// An olderToucher sets LastUsedAt of a record only if it is at least age before
// the given time.
type olderToucher interface {
	TouchOlder(ctx context.Context, lastUsed map[string]time.Time, age time.Duration) error
}

// NewLastUsedRecorder returns a LastUsedRecorder that writes to store in the
// background until Close. If opts is nil, the defaults are used. It panics if
// the store is nil or an option is negative.
func NewLastUsedRecorder(store Store, opts *LastUsedOptions) *LastUsedRecorder {
	const call = "keyring.NewLastUsedRecorder"
	mustHave(call, store)
	var o LastUsedOptions
	if opts != nil {
		o = *opts
	}
	if o.Interval < 0 {
		panic(fmt.Sprintf("%s: Interval is %v, which is negative", call, o.Interval))
	}
	if o.MaxKeys < 0 {
		panic(fmt.Sprintf("%s: MaxKeys is %d, which is negative", call, o.MaxKeys))
	}
	if o.Interval == 0 {
		o.Interval = time.Minute
	}
	if o.MaxKeys == 0 {
		o.MaxKeys = 100_000
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &LastUsedRecorder{
		store:    store,
		interval: o.Interval,
		maxKeys:  o.MaxKeys,
		logger:   o.Logger,
		times:    make(map[string]*atomic.Int64),
		stop:     stop,
		done:     make(chan struct{}),
	}
	go l.run(ctx)
	return l
}

// OnDecision notes the use of a key. It is for auth.Options.OnDecision. A use
// is a decision for which the Authenticator asked its store, and found the key
// good, even if its scopes did not suffice.
func (l *LastUsedRecorder) OnDecision(_ context.Context, d auth.Decision) {
	good := d.Err == nil || errors.Is(d.Err, auth.ErrInsufficientScope)
	if id := d.KeyID(); id != "" && d.Lookup > 0 && good {
		l.note(id, d.Time.UnixMicro())
	}
}

// note remembers that the key was used at that time, in microseconds since
// 1970.
func (l *LastUsedRecorder) note(id string, at int64) {
	l.mu.RLock()
	known := l.times[id]
	if known != nil {
		forward(known, at)
	}
	l.mu.RUnlock()
	if known != nil {
		return
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	switch known := l.times[id]; {
	case known != nil:
		forward(known, at)
	case l.closed, len(l.times) >= l.maxKeys:
		l.dropped.Add(1)
	default:
		known = new(atomic.Int64)
		known.Store(at)
		l.times[id] = known
	}
}

// forward sets t to at if that is later.
func forward(t *atomic.Int64, at int64) {
	for old := t.Load(); at > old && !t.CompareAndSwap(old, at); old = t.Load() {
	}
}

// Dropped returns how many uses were not recorded: too many keys waited, the
// last write failed, or the recorder was closed.
func (l *LastUsedRecorder) Dropped() uint64 { return l.dropped.Load() }

// Close writes the times that wait, and returns the error of that write. It
// takes at most 10 seconds if the store obeys its context. Later uses count as
// dropped, so shut the HTTP server down first. A second Close returns the same.
func (l *LastUsedRecorder) Close() error {
	l.stop()
	<-l.done
	return l.closeErr
}

func (l *LastUsedRecorder) run(ctx context.Context) {
	defer close(l.done)
	for {
		// The jitter keeps instances that started together from writing
		// together.
		timer := time.NewTimer(time.Duration(float64(l.interval) * (0.9 + 0.2*rand.Float64())))
		select {
		case <-timer.C:
			l.flush(ctx)
		case <-ctx.Done():
			timer.Stop()
			last, cancel := context.WithTimeout(context.Background(), touchTimeout)
			defer cancel()
			l.closeErr = l.flush(last)
			l.mu.Lock()
			l.closed = true
			l.dropped.Add(uint64(len(l.times)))
			l.times = nil
			l.mu.Unlock()
			return
		}
	}
}

// flush writes all times that wait. Those that cannot be written wait again.
func (l *LastUsedRecorder) flush(ctx context.Context) error {
	l.mu.Lock()
	times := l.times
	l.times = make(map[string]*atomic.Int64)
	l.mu.Unlock()

	for len(times) > 0 {
		batch := make(map[string]time.Time, min(touchBatch, len(times)))
		for id, at := range times {
			if batch[id] = time.UnixMicro(at.Load()).UTC(); len(batch) == touchBatch {
				break
			}
		}
		if err := l.touch(ctx, batch); err != nil {
			for id, at := range times {
				l.note(id, at.Load())
			}
			if ctx.Err() != context.Canceled { // by Close, which writes them next
				l.log("auth/keyring: cannot write last uses", "keys", len(times), "error", err)
			}
			return fmt.Errorf("keyring: write last uses: %w", err)
		}
		for id := range batch {
			delete(times, id)
		}
	}
	return nil
}

func (l *LastUsedRecorder) touch(ctx context.Context, batch map[string]time.Time) (err error) {
	ctx, cancel := context.WithTimeout(ctx, touchTimeout)
	defer cancel()
	defer func() { // no recovery of the host reaches this goroutine
		if v := recover(); v != nil {
			err = fmt.Errorf("the store panicked with a %T", v) // the value may hold a secret
		}
	}()
	if s, ok := l.store.(olderToucher); ok {
		return s.TouchOlder(ctx, batch, l.interval-l.interval/10)
	}
	return l.store.Touch(ctx, batch)
}

func (l *LastUsedRecorder) log(msg string, args ...any) {
	logger := l.logger
	if logger == nil {
		logger = slog.Default()
	}
	logger.Error(msg, args...)
}
