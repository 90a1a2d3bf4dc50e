package authotel_test

import (
	"context"
	"crypto/rand"
	"maps"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/examples/metrics/internal/scene"
	"github.com/insigner/auth/keyring"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

type points = map[string]float64

// TestCollect sends requests by HTTP and reads the metrics.
func TestCollect(t *testing.T) {
	reader, m := newMetrics(t)
	s := scene.New(t, m)
	waitUntilWatched(t, reader)
	for name := range scene.Keys {
		s.Get(t, name)
	}
	for range 10 {
		s.Get(t, "good")
	}
	check(t, "decisions", reader, points{
		"auth.decisions auth.code=OK auth.step=authorize":                   11,
		"auth.decisions auth.code=INSUFFICIENT_SCOPE auth.step=authorize":   1,
		"auth.decisions auth.code=MISSING_KEY auth.step=authenticate":       1,
		"auth.decisions auth.code=INVALID_FORMAT auth.step=authenticate":    1,
		"auth.decisions auth.code=INVALID_KEY auth.step=authenticate":       2,
		"auth.decisions auth.code=KEY_REVOKED auth.step=authenticate":       1,
		"auth.decisions auth.code=KEY_DISABLED auth.step=authenticate":      1,
		"auth.decisions auth.code=KEY_EXPIRED auth.step=authenticate":       1,
		"auth.decisions auth.code=STORE_UNAVAILABLE auth.step=authenticate": 0,
		"auth.decisions auth.code=OK auth.step=recheck":                     0,
		"auth.lookup.duration":                             16, // those of six keys, and ten again
		"auth.store.lookup.duration auth.result=found":     5,
		"auth.store.lookup.duration auth.result=not_found": 1,
		"auth.store.active_lookups":                        0,
		"auth.watch.up":                                    1,
		"auth.watch.losses":                                0,
		"auth.watch.last_loss.timestamp":                   0,
		"auth.watch.changes":                               0,
	})

	s.Revoke(t, "good")
	s.Get(t, "good")
	check(t, "revoked", reader, points{
		"auth.decisions auth.code=KEY_REVOKED auth.step=authenticate": 2,
		"auth.store.lookup.duration auth.result=found":                6,
		"auth.watch.changes": 1,
	})

	before := float64(time.Now().Unix())
	s.Store.Report(auth.WatchLost)
	s.Store.Break(true)
	s.Get(t, "good")
	check(t, "an outage", reader, points{
		"auth.decisions auth.code=STORE_UNAVAILABLE auth.step=authenticate": 1,
		"auth.store.lookup.duration auth.result=error":                      1,
		"auth.watch.up":     0,
		"auth.watch.losses": 1,
	})
	lost := collect(t, reader)["auth.watch.last_loss.timestamp"]
	if lost < before || lost > float64(time.Now().Unix()+1) {
		t.Errorf("the watch was lost at %v, and the test began at %v", lost, before)
	}
	s.Store.Report(auth.WatchStarted)
	check(t, "watched again", reader, points{"auth.watch.up": 1, "auth.watch.losses": 1})
}

// TestDelta checks that an exporter of deltas has the state of the watch each
// time, not only when it has changed.
func TestDelta(t *testing.T) {
	reader, m := newMetrics(t, metric.WithTemporalitySelector(func(metric.InstrumentKind) metricdata.Temporality {
		return metricdata.DeltaTemporality
	}))
	scene.New(t, m)
	waitUntilWatched(t, reader)
	for range 3 {
		check(t, "nothing new", reader, points{"auth.watch.up": 1, "auth.watch.last_loss.timestamp": 0})
	}
}

// TestClientGone checks that a client that goes away is no outage.
func TestClientGone(t *testing.T) {
	reader, m := newMetrics(t)
	began := make(chan struct{})
	a := auth.New(hanging(began), &auth.Options{OnDecision: m.OnDecision})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	if _, err := a.Verify(ctx, (auth.Scheme{}).NewKey().Reveal()); err == nil {
		t.Error("got no error")
	}
	check(t, "the client left", reader, points{
		"auth.decisions auth.code=CLIENT_GONE auth.step=authenticate":       1,
		"auth.decisions auth.code=STORE_UNAVAILABLE auth.step=authenticate": 0,
	})
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
	reader, m := newMetrics(t)
	began := make(chan struct{})
	store := m.Store(hanging(began))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { store.Lookup(ctx, auth.Hash{}); close(done) }()
	<-began
	check(t, "in progress", reader, points{"auth.store.active_lookups": 1})
	cancel()
	<-done
	check(t, "done", reader, points{"auth.store.active_lookups": 0, "auth.store.lookup.duration auth.result=canceled": 1})
}

// TestNotWatched checks that a store that is no Watcher has no metrics of a
// watch: 0 would mean that it was lost.
func TestNotWatched(t *testing.T) {
	reader, m := newMetrics(t)
	m.Store(hanging(nil))
	absent(t, "no Watcher", reader, "auth.watch")
}

// TestDropped checks that what was dropped is read with each collection.
func TestDropped(t *testing.T) {
	reader, m := newMetrics(t)
	absent(t, "without recorders", reader, "auth.last_uses")
	store := new(keyring.MemoryStore)
	lastUsed := keyring.NewLastUsedRecorder(store, nil)
	recorder := apilog.NewRecorder(apilog.NewMemoryStore(1), nil)
	if err := m.LastUsesDropped(lastUsed.Dropped); err != nil {
		t.Fatal(err)
	}
	if err := m.LogEntriesDropped(recorder.Dropped); err != nil {
		t.Fatal(err)
	}
	check(t, "nothing", reader, points{"auth.last_uses.dropped": 0, "auth.log.entries.dropped": 0})
	recorder.Close(t.Context())
	lastUsed.Close() // later uses are dropped
	record := auth.Record{ID: "1"}
	a := auth.New(store, &auth.Options{OnDecision: lastUsed.OnDecision})
	key := (auth.Scheme{}).NewKey()
	record.Hash = (auth.Scheme{}).Hashes(key)[0]
	if err := store.Insert(t.Context(), &record); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Verify(t.Context(), key.Reveal()); err != nil {
		t.Fatal(err)
	}
	check(t, "a use", reader, points{"auth.last_uses.dropped": 1})

	var entries uint64
	reader, m = newMetrics(t)
	if err := m.LogEntriesDropped(func() uint64 { return entries }); err != nil {
		t.Fatal(err)
	}
	check(t, "no entries", reader, points{"auth.log.entries.dropped": 0})
	entries = 1 << 40
	check(t, "entries", reader, points{"auth.log.entries.dropped": 1 << 40})
}

// TestLimiter checks that the state of a limiter is read with each collection.
func TestLimiter(t *testing.T) {
	reader, m := newMetrics(t)
	absent(t, "without a limiter", reader, "auth.ratelimit.local")
	local := false
	if err := m.Limiter(func() bool { return local }); err != nil {
		t.Fatal(err)
	}
	check(t, "shared", reader, points{"auth.ratelimit.local": 0, "auth.ratelimit.refusals": 0})
	local = true
	if m.RateLimited(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), auth.ErrInvalidKey) {
		t.Error("RateLimited says that it has answered")
	}
	check(t, "local", reader, points{"auth.ratelimit.local": 1, "auth.ratelimit.refusals": 1})
}

// TestFlood checks that no client, and no code of a host, makes a new point.
func TestFlood(t *testing.T) {
	reader, m := newMetrics(t)
	s := scene.New(t, m)
	waitUntilWatched(t, reader)
	s.Get(t, "unknown")
	m.OnDecision(t.Context(), auth.Decision{Step: "other", Err: auth.ErrInvalidKey, Code: "first"})
	before := slices.Sorted(maps.Keys(collect(t, reader)))
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
	if after := slices.Sorted(maps.Keys(collect(t, reader))); !slices.Equal(after, before) {
		t.Errorf("got the points %q, want those from before, %q", after, before)
	}
	check(t, "flood", reader, points{
		"auth.decisions auth.code=INVALID_KEY auth.step=authenticate":    4001,
		"auth.decisions auth.code=INVALID_FORMAT auth.step=authenticate": 4000,
		"auth.decisions auth.code=OTHER auth.step=authorize":             4000,
		"auth.decisions auth.code=OTHER auth.step=other":                 4001,
	})
}

// TestNoSecrets checks that no metric tells whose a request was.
func TestNoSecrets(t *testing.T) {
	reader, m := newMetrics(t)
	s := scene.New(t, m)
	for name := range scene.Keys {
		s.Get(t, name)
	}
	s.Store.Report(auth.WatchLost)
	s.Store.Break(true)
	s.Get(t, "good")
	for name := range collect(t, reader) {
		for _, secret := range s.Secrets() {
			if strings.Contains(name, secret) {
				t.Errorf("%s shows %q", name, secret)
			}
		}
	}
}

// TestConventions checks names and units against the semantic conventions of
// OpenTelemetry: https://opentelemetry.io/docs/specs/semconv/general/metrics/.
func TestConventions(t *testing.T) {
	reader, m := newMetrics(t)
	s := scene.New(t, m)
	m.LastUsesDropped(func() uint64 { return 0 })
	m.LogEntriesDropped(func() uint64 { return 0 })
	m.Limiter(func() bool { return false })
	s.Get(t, "good")
	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`^auth(\.[a-z]+(_[a-z]+)*)+$`)
	n := 0
	for _, m := range data.ScopeMetrics[0].Metrics {
		n++
		if !name.MatchString(m.Name) {
			t.Errorf("%s is not a name in a namespace", m.Name)
		}
		if strings.HasSuffix(m.Name, ".total") || strings.HasSuffix(m.Name, "seconds") {
			t.Errorf("%s has a unit or a type in its name", m.Name)
		}
		if _, histogram := m.Data.(metricdata.Histogram[float64]); histogram && m.Unit != "s" {
			t.Errorf("%s has unit %q, want s", m.Name, m.Unit)
		}
		if _, sum := m.Data.(metricdata.Sum[int64]); sum && !regexp.MustCompile(`^\{[a-z]+\}$`).MatchString(m.Unit) {
			t.Errorf("%s has unit %q, want an annotation such as {decision}", m.Name, m.Unit)
		}
		if !strings.HasSuffix(m.Description, ".") {
			t.Errorf("%s has the description %q, want a sentence", m.Name, m.Description)
		}
	}
	if n != 12 {
		t.Errorf("got %d metrics, want 12", n)
	}
}

func TestAllocations(t *testing.T) {
	if scene.RaceEnabled {
		t.Skip("the race detector allocates")
	}
	_, m := newMetrics(t)
	ctx := t.Context()
	for _, d := range []auth.Decision{
		{Step: auth.StepAuthorize, Lookup: time.Microsecond},
		{Step: auth.StepAuthenticate, Err: auth.ErrMissingKey, Code: "MISSING_KEY"},
		{Step: auth.StepAuthenticate, Err: auth.ErrKeyRevoked, Code: "KEY_REVOKED", Lookup: time.Second},
	} {
		if got := testing.AllocsPerRun(1000, func() { m.OnDecision(ctx, d) }); got != 0 {
			t.Errorf("%v makes %v allocations, want 0", d, got)
		}
	}
}

func BenchmarkOnDecision(b *testing.B) {
	_, m := newMetrics(b)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		m.OnDecision(ctx, auth.Decision{Step: auth.StepAuthorize, Lookup: 100})
	}
}
