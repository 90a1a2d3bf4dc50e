package authprom_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// scrape asks for the metrics by HTTP and returns the text.
func scrape(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer server.Close()
	resp, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		t.Fatalf("the scrape got status %d: %s", resp.StatusCode, text)
	}
	return string(text)
}

// checkLines checks that the text has each of these lines.
func checkLines(t *testing.T, what, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			t.Errorf("%s: no line %q in\n%s", what, line, text)
		}
	}
}

// waitForLine waits until a scrape has this line.
func waitForLine(t *testing.T, registry *prometheus.Registry, line string) {
	t.Helper()
	for text := ""; !strings.Contains(text, "\n"+line+"\n"); time.Sleep(time.Millisecond) {
		text = scrape(t, registry)
	}
}

// series returns the lines of samples in a text.
func series(text string) (n int) {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			n++
		}
	}
	return n
}
