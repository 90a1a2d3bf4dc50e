package ratelimit_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/ratelimit"
)

type nothing struct{ h http.Header }

func (n *nothing) Header() http.Header         { return n.h }
func (n *nothing) Write(b []byte) (int, error) { return len(b), nil }
func (n *nothing) WriteHeader(int)             {}

func BenchmarkMiddleware(b *testing.B) {
	store := new(keyring.MemoryStore)
	key := authtest.NewKey(b, store, "a.b")
	a := auth.New(store, nil)
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	r := authtest.WithKey(httptest.NewRequest("GET", "/", nil), key)
	for _, c := range []struct {
		name string
		h    http.Handler
	}{
		{"without", a.Middleware(h)},
		{"with", a.Middleware(ratelimit.New(nil, &ratelimit.Options{Limit: func(auth.Record) ratelimit.Limit {
			return ratelimit.Limit{Requests: 1e9}
		}}).Middleware(h))},
		{"refused", a.Middleware(ratelimit.New(nil, nil).Middleware(h))},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.h.ServeHTTP(&nothing{make(http.Header)}, r)
			}
		})
	}
}
