// Package authotel has the metrics of package auth for OpenTelemetry. Copy it
// and package observe into your program.
package authotel

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/examples/metrics/observe"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Metrics are the metrics of one Authenticator and of what it uses. [New] makes
// them. The values of their attributes are fixed: none comes from a client or a
// record.
type Metrics struct {
	meter     metric.Meter
	decisions metric.Int64Counter
	outcomes  map[observe.Outcome][]metric.AddOption
	lookups   metric.Float64Histogram
	limited   metric.Int64Counter

	active    metric.Int64UpDownCounter
	durations metric.Float64Histogram
	results   map[observe.Result][]metric.RecordOption

	watched  atomic.Bool // the store is an auth.Watcher
	up       atomic.Int64
	losses   metric.Int64Counter
	lastLoss atomic.Int64 // in nanoseconds since 1970
	changes  metric.Int64Counter
}

// New returns Metrics with the instruments of a meter, such as
// otel.Meter("github.com/insigner/auth"). The error is that of the meter.
func New(meter metric.Meter) (*Metrics, error) {
	m := &Metrics{
		meter:    meter,
		outcomes: make(map[observe.Outcome][]metric.AddOption),
		results:  make(map[observe.Result][]metric.RecordOption),
	}
	var errs [9]error
	m.decisions, errs[0] = meter.Int64Counter("auth.decisions", metric.WithUnit("{decision}"),
		metric.WithDescription("Decisions about keys, by step and code. The code of a key that passed is OK."))
	m.lookups, errs[1] = meter.Float64Histogram("auth.lookup.duration", metric.WithUnit("s"),
		metric.WithDescription("How long decisions waited for the record of a key, from the cache or the store."),
		metric.WithExplicitBucketBoundaries(observe.LookupBuckets...))
	m.active, errs[2] = meter.Int64UpDownCounter("auth.store.active_lookups", metric.WithUnit("{lookup}"),
		metric.WithDescription("Lookups in the store that are in progress."))
	m.durations, errs[3] = meter.Float64Histogram("auth.store.lookup.duration", metric.WithUnit("s"),
		metric.WithDescription("How long lookups in the store took, by result. They are what the cache could not answer."),
		metric.WithExplicitBucketBoundaries(observe.StoreBuckets...))
	m.losses, errs[4] = meter.Int64Counter("auth.watch.losses", metric.WithUnit("{loss}"),
		metric.WithDescription("How often the watch was lost."))
	m.changes, errs[5] = meter.Int64Counter("auth.watch.changes", metric.WithUnit("{change}"),
		metric.WithDescription("Changes of keys that were reported."))
	m.limited, errs[6] = meter.Int64Counter("auth.ratelimit.refusals", metric.WithUnit("{refusal}"),
		metric.WithDescription("Requests that were answered with 429."))
	// These are observed, so that an exporter of deltas has them each time.
	_, errs[7] = meter.Int64ObservableGauge("auth.watch.up",
		metric.WithDescription("1 if changes of keys are reported, 0 if not: then the store is asked for every request."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			if m.watched.Load() {
				o.Observe(m.up.Load())
			}
			return nil
		}))
	_, errs[8] = meter.Float64ObservableGauge("auth.watch.last_loss.timestamp", metric.WithUnit("s"),
		metric.WithDescription("When the watch was lost the last time, in seconds since 1970. 0 if never."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			if m.watched.Load() {
				o.Observe(time.Duration(m.lastLoss.Load()).Seconds())
			}
			return nil
		}))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	m.limited.Add(context.Background(), 0)
	for _, o := range observe.Outcomes() {
		m.outcomes[o] = addOptions(o)
		m.decisions.Add(context.Background(), 0, m.outcomes[o]...)
	}
	for _, result := range observe.Results {
		set := attribute.NewSet(attribute.String("auth.result", string(result)))
		m.results[result] = []metric.RecordOption{metric.WithAttributeSet(set)}
	}
	return m, nil
}

func addOptions(o observe.Outcome) []metric.AddOption {
	set := attribute.NewSet(attribute.String("auth.step", o.Step), attribute.String("auth.code", o.Code))
	return []metric.AddOption{metric.WithAttributeSet(set)}
}

// OnDecision counts a decision. It is for auth.Options.OnDecision.
func (m *Metrics) OnDecision(ctx context.Context, d auth.Decision) {
	o := observe.OutcomeOf(ctx, d)
	options, ok := m.outcomes[o]
	if !ok { // a step of a later version of package auth
		options = addOptions(o)
	}
	m.decisions.Add(ctx, 1, options...)
	if d.Lookup > 0 {
		m.lookups.Record(ctx, d.Lookup.Seconds())
	}
}

// Store returns a store that measures the lookups in store and, if that is an
// [auth.Watcher], its watch. Give it to cache.New, and call Store once.
func (m *Metrics) Store(store auth.Store) auth.Store {
	measured := observe.Store(store, observe.Hooks{
		LookupStarted: func(ctx context.Context) { m.active.Add(ctx, 1) },
		LookupDone: func(ctx context.Context, result observe.Result, took time.Duration) {
			m.active.Add(ctx, -1)
			m.durations.Record(ctx, took.Seconds(), m.results[result]...)
		},
		WatchState: func(isUp bool) {
			if isUp {
				m.up.Store(1)
			} else {
				m.up.Store(0)
			}
		},
		WatchLost: func() {
			m.lastLoss.Store(time.Now().UnixNano())
			m.losses.Add(context.Background(), 1)
		},
		RecordChanged: func() { m.changes.Add(context.Background(), 1) },
	})
	m.active.Add(context.Background(), 0)
	if _, ok := measured.(auth.Watcher); ok {
		m.losses.Add(context.Background(), 0)
		m.changes.Add(context.Background(), 0)
		m.watched.Store(true)
	}
	return measured
}

// LogEntriesDropped exports what the method Dropped of an apilog.Recorder
// returns. The error is that of the meter.
func (m *Metrics) LogEntriesDropped(dropped func() uint64) error {
	return m.counter("auth.log.entries.dropped", "{entry}", "API log entries that were lost.", dropped)
}

// LastUsesDropped exports what the method Dropped of a keyring.LastUsedRecorder
// returns. The error is that of the meter.
func (m *Metrics) LastUsesDropped(dropped func() uint64) error {
	return m.counter("auth.last_uses.dropped", "{use}", "Last uses of keys that were lost.", dropped)
}

// Limiter exports what the method Local of a ratelimit.Limiter returns. Call it
// only if the limiter has a Counter, such as Redis: without one, it is always
// local. The error is that of the meter.
func (m *Metrics) Limiter(local func() bool) error {
	_, err := m.meter.Int64ObservableGauge("auth.ratelimit.local",
		metric.WithDescription("1 if this instance limits requests by itself, since the shared counter fails; 0 if not."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			if local() {
				o.Observe(1)
			} else {
				o.Observe(0)
			}
			return nil
		}))
	return err
}

// RateLimited counts a request that a limiter refused, and leaves the answer to
// it. It is for ratelimit.Options.ErrorHandler.
func (m *Metrics) RateLimited(_ http.ResponseWriter, r *http.Request, _ error) (answered bool) {
	m.limited.Add(r.Context(), 1)
	return false
}

func (m *Metrics) counter(name, unit, description string, value func() uint64) error {
	_, err := m.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(description),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(value()))
			return nil
		}))
	return err
}
