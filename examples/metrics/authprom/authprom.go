// Package authprom has the metrics of package auth for Prometheus. Copy it and
// package observe into your program.
package authprom

import (
	"context"
	"net/http"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/examples/metrics/observe"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the metrics of one Authenticator and of what it uses. [New] makes
// them. The values of their labels are fixed: none comes from a client or a
// record.
type Metrics struct {
	register  prometheus.Registerer
	decisions *prometheus.CounterVec
	counters  map[observe.Outcome]prometheus.Counter
	lookups   prometheus.Histogram
	limited   prometheus.Counter
}

// New returns Metrics that are registered with r. To have them twice in a
// program, use prometheus.WrapRegistererWith and a label that tells them apart.
func New(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		register: r,
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "auth_decisions_total",
			Help: "Decisions about keys, by step and code. The code of a key that passed is OK.",
		}, []string{"step", "code"}),
		counters: make(map[observe.Outcome]prometheus.Counter),
		lookups: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "auth_lookup_duration_seconds",
			Help:    "How long decisions waited for the record of a key, from the cache or the store.",
			Buckets: observe.LookupBuckets,
		}),
		limited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "auth_ratelimit_refusals_total",
			Help: "Requests that were answered with 429.",
		}),
	}
	for _, o := range observe.Outcomes() {
		m.counters[o] = m.decisions.WithLabelValues(o.Step, o.Code)
	}
	r.MustRegister(m.decisions, m.lookups, m.limited)
	return m
}

// OnDecision counts a decision. It is for auth.Options.OnDecision. It allocates
// nothing.
func (m *Metrics) OnDecision(ctx context.Context, d auth.Decision) {
	o := observe.OutcomeOf(ctx, d)
	if c, ok := m.counters[o]; ok {
		c.Inc()
	} else { // a step of a later version of package auth
		m.decisions.WithLabelValues(o.Step, o.Code).Inc()
	}
	if d.Lookup > 0 {
		m.lookups.Observe(d.Lookup.Seconds())
	}
}

// Store returns a store that measures the lookups in store and, if that is an
// [auth.Watcher], its watch. Give it to cache.New, and call Store once.
func (m *Metrics) Store(store auth.Store) auth.Store {
	active := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "auth_store_active_lookups",
		Help: "Lookups in the store that are in progress.",
	})
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "auth_store_lookup_duration_seconds",
		Help:    "How long lookups in the store took, by result. They are what the cache could not answer.",
		Buckets: observe.StoreBuckets,
	}, []string{"result"})
	results := make(map[observe.Result]prometheus.Observer)
	for _, result := range observe.Results {
		results[result] = durations.WithLabelValues(string(result))
	}
	m.register.MustRegister(active, durations)

	up := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "auth_watch_up",
		Help: "1 if changes of keys are reported, 0 if not: then the store is asked for every request.",
	})
	losses := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "auth_watch_losses_total",
		Help: "How often the watch was lost.",
	})
	lastLoss := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "auth_watch_last_loss_timestamp_seconds",
		Help: "When the watch was lost the last time, in seconds since 1970. 0 if never.",
	})
	changes := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "auth_watch_changes_total",
		Help: "Changes of keys that were reported.",
	})
	measured := observe.Store(store, observe.Hooks{
		LookupStarted: func(context.Context) { active.Inc() },
		LookupDone: func(_ context.Context, result observe.Result, took time.Duration) {
			active.Dec()
			results[result].Observe(took.Seconds())
		},
		WatchState: func(isUp bool) {
			if isUp {
				up.Set(1)
			} else {
				up.Set(0)
			}
		},
		WatchLost: func() {
			losses.Inc()
			lastLoss.SetToCurrentTime()
		},
		RecordChanged: changes.Inc,
	})
	if _, ok := measured.(auth.Watcher); ok {
		m.register.MustRegister(up, losses, lastLoss, changes)
	}
	return measured
}

// LogEntriesDropped exports what the method Dropped of an apilog.Recorder
// returns.
func (m *Metrics) LogEntriesDropped(dropped func() uint64) {
	m.counter("auth_log_entries_dropped_total", "API log entries that were lost.", dropped)
}

// LastUsesDropped exports what the method Dropped of a keyring.LastUsedRecorder
// returns.
func (m *Metrics) LastUsesDropped(dropped func() uint64) {
	m.counter("auth_last_uses_dropped_total", "Last uses of keys that were lost.", dropped)
}

// Limiter exports what the method Local of a ratelimit.Limiter returns. Call it
// only if the limiter has a Counter, such as Redis: without one, it is always
// local.
func (m *Metrics) Limiter(local func() bool) {
	gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "auth_ratelimit_local",
		Help: "1 if this instance limits requests by itself, since the shared counter fails; 0 if not.",
	}, func() float64 {
		if local() {
			return 1
		}
		return 0
	})
	m.register.MustRegister(gauge)
}

// RateLimited counts a request that a limiter refused, and leaves the answer to
// it. It is for ratelimit.Options.ErrorHandler.
func (m *Metrics) RateLimited(http.ResponseWriter, *http.Request, error) (answered bool) {
	m.limited.Inc()
	return false
}

func (m *Metrics) counter(name, help string, value func() uint64) {
	m.register.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
		func() float64 { return float64(value()) }))
}
