package main

import (
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	grafana "github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/text"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// TestSchema checks the file against the types that Grafana generates from its
// schema. A member that is unknown, has another type or is missing is an error,
// in the options of each kind of panel too.
func TestSchema(t *testing.T) {
	runtime := cog.NewRuntime()
	for _, v := range []func() variants.PanelcfgConfig{heatmap.VariantConfig, stat.VariantConfig, statetimeline.VariantConfig,
		text.VariantConfig, timeseries.VariantConfig} {
		runtime.RegisterPanelcfgVariant(v())
	}
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	file, _ := readDashboard(t)
	//lint:ignore SA1019 This is the form that every version of Grafana loads; that of dashboardv2 needs a new one.
	var d grafana.Dashboard
	if err := d.UnmarshalJSONStrict(file); err != nil && err.Error() != "" { // it returns an empty list of errors
		t.Fatal(err)
	}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	if want := grafana.NewDashboard().SchemaVersion; d.SchemaVersion != want {
		t.Errorf("the schema has version %d, want %d", d.SchemaVersion, want)
	}
	for _, p := range d.Panels {
		if p.Panel == nil {
			continue
		}
		if _, known := runtime.ConfigForPanelcfgVariant(p.Panel.Type); !known {
			t.Errorf("%s: the options of a %s were not checked", *p.Panel.Title, p.Panel.Type)
		}
	}
}

// TestPanels checks what a schema cannot.
func TestPanels(t *testing.T) {
	_, d := readDashboard(t)
	ids, cells := make(map[int]bool), make(map[[2]int]string)
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: its ID is that of another panel", p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" {
					t.Fatalf("%s covers %s", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s is wider than the page", p.Title)
		}
		if p.Type == "row" || p.Type == "text" {
			continue
		}
		if p.Description == "" {
			t.Errorf("%s has no description", p.Title)
		}
		if p.FieldConfig.Defaults.Unit == "" {
			t.Errorf("%s has no unit", p.Title)
		}
		if len(p.Targets) == 0 {
			t.Errorf("%s has no query", p.Title)
		}
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" {
				t.Errorf("%s: the data source is %q, want the variable", p.Title, target.Datasource.UID)
			}
			selectors := regexp.MustCompile(`auth_[a-z_]+`).FindAllString(target.Expr, -1)
			if n := strings.Count(target.Expr, `job=~"$job",instance=~"$instance"`); n != len(selectors) {
				t.Errorf("%s: of %d metrics in %s, %d are those of the job and the instance", p.Title, len(selectors), target.Expr, n)
			}
		}
	}
}

// TestEveryMetricIsShown checks that the dashboard has all metrics, and no
// other.
func TestEveryMetricIsShown(t *testing.T) {
	registry, _ := byPrometheus(t)
	exported := families(t, registry)
	file, d := readDashboard(t)
	shown := make(map[string]bool)
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			for _, name := range regexp.MustCompile(`auth_[a-z_]+`).FindAllString(target.Expr, -1) {
				shown[base(name)] = true
			}
		}
	}
	for name := range exported {
		if !shown[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
	alerts, err := os.ReadFile("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`\bauth_[a-z_]+`).FindAllString(string(file)+string(alerts), -1) {
		if _, ok := exported[base(name)]; !ok {
			t.Errorf("%s is no metric", name)
		}
	}
}

// base returns the name of the histogram of a series.
func base(name string) string {
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return name
}

// TestSameNames checks that Prometheus gets the same metrics from both
// adapters, so that the dashboard and the alerts are for both. Labels differ by
// a prefix, which docs/metrics.md tells how to remove.
func TestSameNames(t *testing.T) {
	registry, s := byPrometheus(t)
	s.Get(t, "good")
	want := families(t, registry)
	registry, s = byOpenTelemetry(t)
	s.Get(t, "good")
	got := families(t, registry)
	delete(got, "target_info") // of the resource
	if !reflect.DeepEqual(got, want) {
		t.Errorf("OpenTelemetry has\n%v\nPrometheus has\n%v", got, want)
	}
}

// TestTable checks that docs/metrics.md lists all metrics, with types and
// labels, and no other.
func TestTable(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	registry, _ := byPrometheus(t)
	var want []string
	for name, f := range families(t, registry) {
		labels := ""
		if len(f.Labels) > 0 {
			labels = "`" + strings.Join(f.Labels, "`, `") + "`"
		}
		want = append(want, strings.TrimRight(fmt.Sprintf("| `%s` | %s | %s", name, f.Type, labels), " "))
	}
	var got []string
	for _, m := range regexp.MustCompile("(?m)^(\\| `auth_[a-z_]+` \\| [a-z]+ \\|[^|]*)\\|").FindAllStringSubmatch(string(page), -1) {
		got = append(got, strings.TrimRight(m[1], " "))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the table has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	alerts, err := os.ReadFile("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)alert: (\w+)$`).FindAllStringSubmatch(string(alerts), -1) {
		if !strings.Contains(string(page), "| "+m[1]+" |") {
			t.Errorf("the page does not say what to do about %s", m[1])
		}
	}
}

// TestAlerts checks the rules, and what they do, by the tools of Prometheus.
func TestAlerts(t *testing.T) {
	promtool := installed(t, "promtool")
	for _, args := range [][]string{
		{"check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml"},
		{"test", "rules", "alerts_test.yaml"},
	} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	rules, err1 := os.ReadFile("alerts.yaml")
	tests, err2 := os.ReadFile("alerts_test.yaml")
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for _, m := range regexp.MustCompile(`(?m)alert: (\w+)$`).FindAllStringSubmatch(string(rules), -1) {
		if !strings.Contains(string(tests), `alertname="`+m[1]+`"`) && !strings.Contains(string(tests), "alertname: "+m[1]+"\n") {
			t.Errorf("no test has %s fire", m[1])
		}
	}
}

// TestExposition checks what is scraped by the tool of Prometheus.
func TestExposition(t *testing.T) {
	promtool := installed(t, "promtool")
	registry, s := byPrometheus(t)
	s.Get(t, "good")
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(exposition(t, registry))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
