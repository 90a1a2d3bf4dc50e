package authprom_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/examples/metrics/authprom"
	"github.com/insigner/auth/examples/metrics/internal/scene"
	"github.com/insigner/auth/keyring"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func newMetrics() (*prometheus.Registry, *authprom.Metrics) {
	registry := prometheus.NewRegistry()
	return registry, authprom.New(registry)
}

// TestScrape sends requests and reads the metrics, both by HTTP.
func TestScrape(t *testing.T) {
	registry, m := newMetrics()
	s := scene.New(t, m)
	waitForLine(t, registry, "auth_watch_up 1")
	for name, code := range scene.Keys {
		status := s.Get(t, name)
		if want := map[string]int{"OK": 200, "INSUFFICIENT_SCOPE": 403}[code]; status != want && (want != 0 || status != 401) {
			t.Errorf("%s: got status %d", name, status)
		}
	}
	for range 10 {
		s.Get(t, "good")
	}
	checkLines(t, "decisions", scrape(t, registry),
		`auth_decisions_total{code="OK",step="authorize"} 11`,
		`auth_decisions_total{code="INSUFFICIENT_SCOPE",step="authorize"} 1`,
		`auth_decisions_total{code="MISSING_KEY",step="authenticate"} 1`,
		`auth_decisions_total{code="INVALID_FORMAT",step="authenticate"} 1`,
		`auth_decisions_total{code="INVALID_KEY",step="authenticate"} 2`,
		`auth_decisions_total{code="KEY_REVOKED",step="authenticate"} 1`,
		`auth_decisions_total{code="KEY_DISABLED",step="authenticate"} 1`,
		`auth_decisions_total{code="KEY_EXPIRED",step="authenticate"} 1`,
		`auth_decisions_total{code="STORE_UNAVAILABLE",step="authenticate"} 0`,
		`auth_decisions_total{code="OK",step="recheck"} 0`,
		`auth_lookup_duration_seconds_count 16`, // those of six keys, and ten again
		`auth_store_lookup_duration_seconds_count{result="found"} 5`,
		`auth_store_lookup_duration_seconds_count{result="not_found"} 1`,
		`auth_store_lookup_duration_seconds_count{result="error"} 0`,
		`auth_store_active_lookups 0`,
		`auth_watch_up 1`,
		`auth_watch_losses_total 0`,
		`auth_watch_last_loss_timestamp_seconds 0`,
		`auth_watch_changes_total 0`,
	)

	s.Revoke(t, "good")
	if status := s.Get(t, "good"); status != 401 {
		t.Errorf("revoked: got status %d, want 401", status)
	}
	checkLines(t, "revoked", scrape(t, registry),
		`auth_decisions_total{code="KEY_REVOKED",step="authenticate"} 2`,
		`auth_store_lookup_duration_seconds_count{result="found"} 6`,
		`auth_watch_changes_total 1`,
	)

	before := time.Now().Unix()
	s.Store.Report(auth.WatchLost)
	s.Store.Break(true)
	if status := s.Get(t, "revoked"); status != 503 {
		t.Errorf("an outage: got status %d, want 503", status)
	}
	text := scrape(t, registry)
	checkLines(t, "an outage", text,
		`auth_decisions_total{code="STORE_UNAVAILABLE",step="authenticate"} 1`,
		`auth_store_lookup_duration_seconds_count{result="error"} 1`,
		`auth_watch_up 0`,
		`auth_watch_losses_total 1`,
	)
	var lost float64
	fmt.Sscan(regexp.MustCompile(`(?m)^auth_watch_last_loss_timestamp_seconds (.*)$`).FindStringSubmatch(text)[1], &lost)
	if lost < float64(before) || lost > float64(time.Now().Unix()+1) {
		t.Errorf("the watch was lost at %v, and the test began at %d", lost, before)
	}
	s.Store.Report(auth.WatchStarted)
	checkLines(t, "watched again", scrape(t, registry), `auth_watch_up 1`, `auth_watch_losses_total 1`)
}

// TestClientGone checks that a client that goes away is no outage.
func TestClientGone(t *testing.T) {
	registry, m := newMetrics()
	began := make(chan struct{})
	a := auth.New(hanging(began), &auth.Options{OnDecision: m.OnDecision})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	if _, err := a.Verify(ctx, (auth.Scheme{}).NewKey().Reveal()); err == nil {
		t.Error("got no error")
	}
	checkLines(t, "the client left", scrape(t, registry),
		`auth_decisions_total{code="CLIENT_GONE",step="authenticate"} 1`,
		`auth_decisions_total{code="STORE_UNAVAILABLE",step="authenticate"} 0`,
	)
}

// A hanging store tells of a lookup and waits for its context.
type hanging chan struct{}

func (h hanging) Lookup(ctx context.Context, _ auth.Hash) (*auth.Record, error) {
	close(h)
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestActiveLookups checks that a lookup in progress is seen.
func TestActiveLookups(t *testing.T) {
	registry, m := newMetrics()
	began := make(chan struct{})
	store := m.Store(hanging(began))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { store.Lookup(ctx, auth.Hash{}); close(done) }()
	<-began
	checkLines(t, "in progress", scrape(t, registry), `auth_store_active_lookups 1`)
	cancel()
	<-done
	checkLines(t, "done", scrape(t, registry), `auth_store_active_lookups 0`,
		`auth_store_lookup_duration_seconds_count{result="canceled"} 1`)
}

// TestNotWatched checks that a store that is no Watcher has no metrics of a
// watch: 0 would mean that it was lost.
func TestNotWatched(t *testing.T) {
	registry, m := newMetrics()
	m.Store(hanging(nil))
	if text := scrape(t, registry); strings.Contains(text, "auth_watch") {
		t.Errorf("got metrics of a watch:\n%s", text)
	}
}

// TestDropped checks that what was dropped is read with each scrape.
func TestDropped(t *testing.T) {
	registry, m := newMetrics()
	store := new(keyring.MemoryStore)
	lastUsed := keyring.NewLastUsedRecorder(store, nil)
	recorder := apilog.NewRecorder(apilog.NewMemoryStore(1), nil)
	m.LastUsesDropped(lastUsed.Dropped)
	m.LogEntriesDropped(recorder.Dropped)
	checkLines(t, "nothing", scrape(t, registry), `auth_last_uses_dropped_total 0`, `auth_log_entries_dropped_total 0`)

	lastUsed.Close() // later uses are dropped
	registry2, m2 := newMetrics()
	s := scene.New(t, both{m2, lastUsed.OnDecision})
	s.Get(t, "good")
	s.Get(t, "good")
	checkLines(t, "two uses", scrape(t, registry), `auth_last_uses_dropped_total 2`)
	checkLines(t, "of others", scrape(t, registry2), `auth_decisions_total{code="OK",step="authorize"} 2`)
	recorder.Close(t.Context())

	var entries uint64
	registry3, m3 := newMetrics()
	m3.LogEntriesDropped(func() uint64 { return entries })
	scrape(t, registry3)
	entries = 1 << 40
	checkLines(t, "entries", scrape(t, registry3), `auth_log_entries_dropped_total 1.099511627776e+12`)
}

// TestLimiter checks that the state of a limiter is read with each scrape.
func TestLimiter(t *testing.T) {
	registry, m := newMetrics()
	if text := scrape(t, registry); strings.Contains(text, "auth_ratelimit_local") {
		t.Errorf("without a limiter:\n%s", text)
	}
	local := false
	m.Limiter(func() bool { return local })
	checkLines(t, "shared", scrape(t, registry), `auth_ratelimit_local 0`, `auth_ratelimit_refusals_total 0`)
	local = true
	if m.RateLimited(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), auth.ErrInvalidKey) {
		t.Error("RateLimited says that it has answered")
	}
	checkLines(t, "local", scrape(t, registry), `auth_ratelimit_local 1`, `auth_ratelimit_refusals_total 1`)
}

// Both are Metrics with another hook.
type both struct {
	*authprom.Metrics
	hook func(context.Context, auth.Decision)
}

func (b both) OnDecision(ctx context.Context, d auth.Decision) {
	b.Metrics.OnDecision(ctx, d)
	b.hook(ctx, d)
}

// TestFlood checks that no client, and no code of a host, makes a new series.
func TestFlood(t *testing.T) {
	registry, m := newMetrics()
	s := scene.New(t, m)
	m.OnDecision(t.Context(), auth.Decision{Step: "other", Err: auth.ErrInvalidKey, Code: "first"})
	before := series(scrape(t, registry))
	var flood sync.WaitGroup
	for range 4 {
		flood.Go(func() {
			for range 1000 {
				text := rand.Text()
				s.Auth.Verify(t.Context(), (auth.Scheme{}).NewKey().Reveal())
				s.Auth.Verify(t.Context(), text)
				m.OnDecision(t.Context(), auth.Decision{Step: auth.StepAuthorize, Err: &auth.Problem{Code: text}, Code: text})
				m.OnDecision(t.Context(), auth.Decision{Step: auth.Step(text), Err: &auth.Problem{Code: text}, Code: text})
			}
		})
	}
	flood.Wait()
	text := scrape(t, registry)
	if after := series(text); after != before {
		t.Errorf("got %d series, want the %d from before", after, before)
	}
	checkLines(t, "flood", text,
		`auth_decisions_total{code="INVALID_KEY",step="authenticate"} 4000`,
		`auth_decisions_total{code="INVALID_FORMAT",step="authenticate"} 4000`,
		`auth_decisions_total{code="OTHER",step="authorize"} 4000`,
		`auth_decisions_total{code="OTHER",step="other"} 4001`,
	)
}

// TestNoSecrets checks that no metric tells whose a request was.
func TestNoSecrets(t *testing.T) {
	registry, m := newMetrics()
	s := scene.New(t, m)
	for name := range scene.Keys {
		s.Get(t, name)
	}
	s.Store.Report(auth.WatchLost)
	s.Store.Break(true)
	s.Get(t, "good")
	text := scrape(t, registry)
	for _, secret := range s.Secrets() {
		if strings.Contains(text, secret) {
			t.Errorf("the metrics show %q", secret)
		}
	}
}

func TestAllocations(t *testing.T) {
	if scene.RaceEnabled {
		t.Skip("the race detector allocates")
	}
	_, m := newMetrics()
	ctx := t.Context()
	for _, d := range []auth.Decision{
		{Step: auth.StepAuthorize, Lookup: time.Microsecond},
		{Step: auth.StepAuthenticate, Err: auth.ErrMissingKey, Code: "MISSING_KEY"},
		{Step: auth.StepAuthenticate, Err: auth.ErrKeyRevoked, Code: "KEY_REVOKED", Lookup: time.Second},
		{Step: auth.StepAuthenticate, Err: auth.ErrStoreUnavailable, Code: "made-up", Lookup: time.Second},
	} {
		if got := testing.AllocsPerRun(1000, func() { m.OnDecision(ctx, d) }); got != 0 {
			t.Errorf("%v makes %v allocations, want 0", d, got)
		}
	}
}

// TestLint checks the names against the conventions of Prometheus.
func TestLint(t *testing.T) {
	registry, m := newMetrics()
	scene.New(t, m)
	m.LogEntriesDropped(func() uint64 { return 0 })
	m.LastUsesDropped(func() uint64 { return 0 })
	m.Limiter(func() bool { return false })
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func BenchmarkOnDecision(b *testing.B) {
	_, m := newMetrics()
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		m.OnDecision(ctx, auth.Decision{Step: auth.StepAuthorize, Lookup: 100})
	}
}
