package authotel_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth/examples/metrics/authotel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

func newMetrics(t testing.TB, opts ...metric.ManualReaderOption) (*metric.ManualReader, *authotel.Metrics) {
	t.Helper()
	reader := metric.NewManualReader(opts...)
	m, err := authotel.New(metric.NewMeterProvider(metric.WithReader(reader)).Meter("github.com/insigner/auth"))
	if err != nil {
		t.Fatal(err)
	}
	return reader, m
}

// collect returns the values of the points, by name and attributes, such as
// "auth.decisions auth.code=OK auth.step=authorize". Of a histogram it is the
// count.
func collect(t *testing.T, reader *metric.ManualReader) map[string]float64 {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	points := make(map[string]float64)
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				addPoints(points, m.Name, data.DataPoints)
			case metricdata.Gauge[int64]:
				addPoints(points, m.Name, data.DataPoints)
			case metricdata.Gauge[float64]:
				addPoints(points, m.Name, data.DataPoints)
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					points[pointName(m.Name, p.Attributes)] = float64(p.Count)
				}
			default:
				t.Fatalf("%s is a %T", m.Name, data)
			}
		}
	}
	return points
}

func addPoints[N int64 | float64](points map[string]float64, name string, list []metricdata.DataPoint[N]) {
	for _, p := range list {
		points[pointName(name, p.Attributes)] = float64(p.Value)
	}
}

func pointName(name string, set attribute.Set) string {
	for _, a := range set.ToSlice() {
		name += fmt.Sprintf(" %s=%s", a.Key, a.Value.AsString())
	}
	return name
}

// check checks that there are these points.
func check(t *testing.T, what string, reader *metric.ManualReader, want map[string]float64) {
	t.Helper()
	got := collect(t, reader)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if value, ok := got[name]; !ok {
			t.Errorf("%s: there is no %s in %q", what, name, slices.Sorted(maps.Keys(got)))
		} else if value != want[name] {
			t.Errorf("%s: %s is %v, want %v", what, name, value, want[name])
		}
	}
}

// absent checks that no point has a name that begins so.
func absent(t *testing.T, what string, reader *metric.ManualReader, prefix string) {
	t.Helper()
	for name := range collect(t, reader) {
		if strings.HasPrefix(name, prefix) {
			t.Errorf("%s: there is %s", what, name)
		}
	}
}

func waitUntilWatched(t *testing.T, reader *metric.ManualReader) {
	t.Helper()
	for collect(t, reader)["auth.watch.up"] != 1 {
		time.Sleep(time.Millisecond)
	}
}
