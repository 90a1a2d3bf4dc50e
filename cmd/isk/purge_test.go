package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth/internal/pgtest"
)

// With a clock that is wrong, keys that still work would seem to have ended.
func TestPurgeWithAWrongClock(t *testing.T) {
	t.Parallel()
	e := env{envDatabase: pgtest.DSN(t)}
	e.must(t, "migrate")
	e.must(t, "create", "--name", "k", "--owner", "acme", "--scope", "a.read", "--expires", "1y")
	for _, test := range []struct {
		ahead time.Duration
		code  int
	}{
		{3 * 365 * 24 * time.Hour, exitFailed},
		{-2 * time.Minute, exitFailed},
		{0, exitDone},
	} {
		var stdout, stderr bytes.Buffer
		a := newApp(strings.NewReader(""), &stdout, &stderr, func(name string) string { return e[name] })
		a.now = func() time.Time { return time.Now().Add(test.ahead) }
		if code := a.run(t.Context(), []string{"purge", "--dead-for", "90d", "--yes"}); code != test.code {
			t.Errorf("%v ahead: exit code %d, want %d: %s", test.ahead, code, test.code, stderr.String())
		}
		if wrong := strings.Contains(stderr.String(), "the clock of this machine"); wrong != (test.code == exitFailed) {
			t.Errorf("%v ahead: it said %q", test.ahead, stderr.String())
		}
	}
	if list := e.must(t, "list", "--owner", "acme"); !strings.Contains(list.stdout, "acme") {
		t.Error("the key that works is gone")
	}
}
