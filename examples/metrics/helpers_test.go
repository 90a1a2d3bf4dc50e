package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/insigner/auth/examples/metrics/authotel"
	"github.com/insigner/auth/examples/metrics/authprom"
	"github.com/insigner/auth/examples/metrics/internal/scene"
	"github.com/prometheus/client_golang/prometheus"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
)

// byPrometheus starts an API with the adapter for Prometheus.
func byPrometheus(t *testing.T) (*prometheus.Registry, *scene.Scene) {
	t.Helper()
	registry := prometheus.NewRegistry()
	m := authprom.New(registry)
	m.LogEntriesDropped(sometimes())
	m.LastUsesDropped(sometimes())
	m.Limiter(func() bool { return false })
	return registry, scene.New(t, m)
}

// byOpenTelemetry starts an API with the adapter for OpenTelemetry, whose
// metrics Prometheus reads.
func byOpenTelemetry(t *testing.T) (*prometheus.Registry, *scene.Scene) {
	t.Helper()
	registry := prometheus.NewRegistry()
	reader, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
	if err != nil {
		t.Fatal(err)
	}
	m, err := authotel.New(metric.NewMeterProvider(metric.WithReader(reader)).Meter("github.com/insigner/auth"))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		m.LogEntriesDropped(sometimes()), m.LastUsesDropped(sometimes()), m.Limiter(func() bool { return false })} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return registry, scene.New(t, m)
}

// sometimes returns a counter that is one more at each call.
func sometimes() func() uint64 {
	n := new(atomic.Uint64)
	return func() uint64 { return n.Add(1) }
}

// A family is what a metric is called in an exposition.
type family struct {
	Type   string // counter, gauge or histogram
	Labels []string
}

// families returns the metrics of a registry, by name.
func families(t *testing.T, registry *prometheus.Registry) map[string]family {
	t.Helper()
	gathered, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]family)
	for _, f := range gathered {
		labels := []string{}
		for _, pair := range f.GetMetric()[0].GetLabel() {
			// OpenTelemetry has its names, in a namespace, and says whose the metric is.
			if name := strings.TrimPrefix(pair.GetName(), "auth_"); !strings.HasPrefix(name, "otel_") {
				labels = append(labels, name)
			}
		}
		slices.Sort(labels)
		all[f.GetName()] = family{strings.ToLower(f.GetType().String()), labels}
	}
	return all
}

// A panel is what the tests read of a panel.
type panel struct {
	ID          int
	Title, Type string
	Description string
	GridPos     struct{ H, W, X, Y int }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Datasource  struct{ UID string }
	Targets     []struct {
		Expr, LegendFormat string
		Datasource         struct{ UID string }
	}
}

// A dashboard is what the tests read of a dashboard.
type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Panels        []panel
	Templating    struct {
		List []struct {
			Name, Type string
			Query      json.RawMessage
			Definition string
		}
	}
}

func readDashboard(t *testing.T) (text []byte, d dashboard) {
	t.Helper()
	text, err := os.ReadFile("grafana.json")
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return text, d
}
