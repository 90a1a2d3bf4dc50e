package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/examples/metrics/internal/scene"
	"github.com/insigner/auth/internal/child"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// serve serves the metrics of a registry, and returns host and port.
func serve(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func exposition(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	return get(t, "http://"+serve(t, registry))
}

// A server is a Prometheus that runs for a test.
type server struct {
	url   string
	began time.Time
}

// start starts a Prometheus that scrapes these targets twice a second.
func start(t *testing.T, jobs map[string][]string) *server {
	t.Helper()
	program := installed(t, "prometheus")
	dir := t.TempDir()
	rules, err := filepath.Abs("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// The relabeling is that of docs/metrics.md.
	config := fmt.Sprintf("global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s}\n"+
		"rule_files: [%q]\nscrape_configs:\n", rules)
	for job, targets := range jobs {
		list, _ := json.Marshal(targets)
		config += fmt.Sprintf("  - job_name: %s\n    static_configs: [{targets: %s}]\n    metric_relabel_configs:\n%s", job, list, relabeling)
	}
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 5 { // the port may be taken by another process
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := listener.Addr().String()
		listener.Close()
		if runs(t, program, dir, file, addr) {
			return &server{"http://" + addr, time.Now()}
		}
	}
	t.Fatal("Prometheus does not start")
	return nil
}

const relabeling = `      - action: labelmap
        regex: auth_(step|code|result)
`

// runs starts the program, and reports whether it gets ready.
func runs(t *testing.T, program, dir, config, addr string) bool {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := child.Start(cmd); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	for {
		select {
		case <-ended:
			t.Logf("Prometheus ended: %s", log.String())
			return false
		case <-time.After(50 * time.Millisecond):
		}
		if resp, err := http.Get("http://" + addr + "/-/ready"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == 200 {
				return true
			}
		}
	}
}

// A result is one series of an answer.
type result struct {
	Metric map[string]string
	Values [][2]any
	Value  [2]any
}

// api asks for something, and decodes the data of the answer.
func (s *server) api(t *testing.T, path string, form url.Values, data any) {
	t.Helper()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
		Warnings      []string
	}
	resp, err := http.Get(s.url + path + "?" + form.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatalf("%s: status %d: %v", path, resp.StatusCode, err)
	}
	if answer.Status != "success" {
		t.Fatalf("%s %v: %s", path, form, answer.Error)
	}
	if len(answer.Warnings) > 0 {
		t.Errorf("%s %v: %q", path, form, answer.Warnings)
	}
	if err := json.Unmarshal(answer.Data, data); err != nil {
		t.Fatal(err)
	}
}

// queryRange returns the series of an expression since the start.
func (s *server) queryRange(t *testing.T, expr string) []result {
	t.Helper()
	var data struct{ Result []result }
	now := time.Now() // this is one of the points, so it is a number of steps from the start
	start := now.Add(-time.Second - now.Sub(s.began).Truncate(time.Second))
	s.api(t, "/api/v1/query_range", url.Values{
		"query": {expr}, "step": {"1"}, "start": {stamp(start)}, "end": {stamp(now)},
	}, &data)
	return data.Result
}

func stamp(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }

// waitFor waits until an expression is true of some series.
func (s *server) waitFor(t *testing.T, expr string) {
	t.Helper()
	for {
		var data struct{ Result []result }
		if s.api(t, "/api/v1/query", url.Values{"query": {expr}}, &data); len(data.Result) > 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestGrafanaQueries runs each query of the dashboard in a Prometheus that
// scrapes three instances: two with the adapter for Prometheus, and one with
// that for OpenTelemetry.
func TestGrafanaQueries(t *testing.T) {
	installed(t, "prometheus")
	registryA, a := byPrometheus(t)
	registryB, b := byPrometheus(t)
	registryC, c := byOpenTelemetry(t)
	for _, s := range []*scene.Scene{a, b, c} { // a histogram of OpenTelemetry does not begin at zero
		s.Get(t, "good")
		s.Get(t, "unknown")
	}
	p := start(t, map[string][]string{
		"api":  {serve(t, registryA), serve(t, registryB)},
		"otel": {serve(t, registryC)},
	})
	p.waitFor(t, `count(count_over_time(auth_decisions_total{code="OK"}[10m]) >= 2) == 9`) // three steps of each
	for _, s := range []*scene.Scene{a, b, c} {
		happen(t, s)
	}
	p.waitFor(t, `count(auth_watch_losses_total == 1) == 3`)
	p.waitFor(t, `count(auth_decisions_total{code="STORE_UNAVAILABLE",step="authenticate"} == 1) == 3`)

	_, d := readDashboard(t)
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			p.checkVariable(t, v.Definition)
		}
	}
	for _, job := range []string{"api", "otel", "api|otel"} { // as Grafana writes several
		for _, panel := range d.Panels {
			for _, target := range panel.Targets {
				p.checkQuery(t, job+": "+panel.Title, substitute(target.Expr, job), target.LegendFormat)
			}
		}
	}
	p.checkAlerts(t)
}

// happen makes everything happen that the dashboard shows.
func happen(t *testing.T, s *scene.Scene) {
	t.Helper()
	for range 3 {
		for name := range scene.Keys {
			s.Get(t, name)
		}
	}
	s.Revoke(t, "good")
	s.Get(t, "good")
	s.Store.Report(auth.WatchLost)
	s.Store.Break(true)
	s.Get(t, "narrow")
	s.Store.Break(false)
	s.Store.Report(auth.WatchStarted)
}

// substitute does what Grafana does with variables.
func substitute(expr, job string) string {
	return strings.NewReplacer("$__rate_interval", "30s", "$job", job, "$instance", ".*").Replace(expr)
}

func (s *server) checkQuery(t *testing.T, what, expr, legend string) {
	t.Helper()
	if strings.Contains(expr, "$") {
		t.Errorf("%s: an unknown variable in %s", what, expr)
	}
	points := 0
	for _, r := range s.queryRange(t, expr) {
		for _, m := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(legend, -1) {
			if r.Metric[m[1]] == "" {
				t.Errorf("%s: the legend needs %s, and there is only %v", what, m[1], r.Metric)
			}
		}
		for _, v := range r.Values {
			if f, err := strconv.ParseFloat(v[1].(string), 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
				points++
			}
		}
	}
	if points == 0 {
		t.Errorf("%s: no data for %s", what, expr)
	}
}

// checkVariable checks a query of the form label_values(selector, label).
func (s *server) checkVariable(t *testing.T, definition string) {
	t.Helper()
	m := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(definition)
	if m == nil {
		t.Fatalf("%s is no query for the values of a label", definition)
	}
	var values []string
	s.api(t, "/api/v1/label/"+m[2]+"/values", url.Values{"match[]": {substitute(m[1], ".*")}}, &values)
	if len(values) < 2 {
		t.Errorf("%s: got %q", definition, values)
	}
}

// checkAlerts checks that Prometheus evaluates each rule.
func (s *server) checkAlerts(t *testing.T) {
	t.Helper()
	for {
		var data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
		s.api(t, "/api/v1/rules", nil, &data)
		if len(data.Groups) != 1 {
			t.Fatalf("got %d groups of rules, want 1", len(data.Groups))
		}
		unknown := false
		for _, r := range data.Groups[0].Rules {
			if r.Health == "err" {
				t.Errorf("%s: %s", r.Name, r.LastError)
			}
			unknown = unknown || r.Health == "unknown"
		}
		if !unknown {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
