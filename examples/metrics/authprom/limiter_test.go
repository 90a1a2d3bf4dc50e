package authprom_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/ratelimit"
)

// TestRateLimit checks a real limiter whose shared counter fails.
func TestRateLimit(t *testing.T) {
	registry, m := newMetrics()
	limiter := ratelimit.New(broken{}, &ratelimit.Options{
		Limit:        func(auth.Record) ratelimit.Limit { return ratelimit.Limit{Requests: 2} },
		ErrorHandler: m.RateLimited,
	})
	m.Limiter(limiter.Local)
	checkLines(t, "at first", scrape(t, registry), `auth_ratelimit_local 0`, `auth_ratelimit_refusals_total 0`)

	store := new(keyring.MemoryStore)
	key := authtest.NewKey(t, store, "documents.read")
	handler := auth.New(store, nil).Middleware(limiter.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	for n, want := range []int{200, 200, 429, 429} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, authtest.WithKey(httptest.NewRequest("GET", "/", nil), key))
		if w.Code != want {
			t.Errorf("request %d: got status %d, want %d", n, w.Code, want)
		}
	}
	checkLines(t, "limited", scrape(t, registry), `auth_ratelimit_local 1`, `auth_ratelimit_refusals_total 2`)
}

// A broken counter is a Redis that is down.
type broken struct{}

func (broken) Take(context.Context, string, ratelimit.Limit, int) (ratelimit.Usage, error) {
	return ratelimit.Usage{}, errors.New("down")
}
