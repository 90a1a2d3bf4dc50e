package ratelimit_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/insigner/auth"
	"github.com/insigner/auth/ratelimit"
)

func list(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "the documents") }

var a, key = func() (*auth.Authenticator, auth.Key) {
	store := storeOf(auth.Record{ID: "key_1", Owner: "org_1", Chain: "key_1"})
	return auth.New(store, nil), store.key
}()

// Every key has 120 requests a minute, counted in this process.
func Example() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/documents", list)

	limiter := ratelimit.New(nil, nil)
	handler := a.Middleware(limiter.Middleware(mux))

	r := httptest.NewRequest("GET", "/api/v1/documents", nil)
	r.Header.Set("Authorization", "Bearer "+key.Reveal())
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Header().Get("RateLimit-Remaining"))
	for range 120 {
		w = httptest.NewRecorder()
		handler.ServeHTTP(w, r)
	}
	fmt.Println(w.Code, w.Header().Get("Retry-After"))
	// Output:
	// 200 119
	// 429 1
}

// Each plan has a limit of its own, and all keys of an owner share it.
func ExampleOptions() {
	plans := map[string]ratelimit.Limit{
		"free":     {Requests: 120, Period: time.Minute},
		"pro":      {Requests: 1200, Period: time.Minute},
		"internal": {Requests: ratelimit.Unlimited},
	}
	limiter := ratelimit.New(nil, &ratelimit.Options{
		Limit: func(r auth.Record) ratelimit.Limit { return plans[r.Metadata["plan"]] },
		Key:   func(r auth.Record) string { return r.Owner },
	})

	http.Handle("/", a.Middleware(limiter.Middleware(http.HandlerFunc(list))))
}

// Instances that use the same Redis share the budgets.
func ExampleNewRedis() {
	client := redis.NewClient(&redis.Options{
		Addr:                  "redis.internal:6379",
		Username:              "limits",
		Password:              "from your secret manager",
		TLSConfig:             &tls.Config{MinVersion: tls.VersionTLS12, ServerName: "redis.internal"},
		ContextTimeoutEnabled: true,
		DialTimeout:           100 * time.Millisecond,
		ReadTimeout:           100 * time.Millisecond,
		MaxRetries:            -1,
	})
	limiter := ratelimit.New(ratelimit.NewRedis(client, nil), nil)

	http.Handle("/", a.Middleware(limiter.Middleware(http.HandlerFunc(list))))
}

// A page shows how much of its limit a key uses.
func ExampleLimiter_Usage() {
	limiter := ratelimit.New(nil, nil)
	http.HandleFunc("GET /limits", func(w http.ResponseWriter, r *http.Request) {
		key, _ := auth.FromContext(r.Context())
		u, err := limiter.Usage(r.Context(), key)
		if err != nil {
			log.Print(err)
			http.Error(w, "the limits are not known", http.StatusServiceUnavailable)
			return
		}
		json.NewEncoder(w).Encode(map[string]int{"limit": u.Limit.Requests, "remaining": u.Remaining})
	})
}

// A host answers refusals in its own format.
func ExampleOptions_errorHandler() {
	limiter := ratelimit.New(nil, &ratelimit.Options{
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) bool {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(auth.ProblemFor(err).Status)
			io.WriteString(w, `{"error": "slow down"}`)
			return true
		},
	})

	http.Handle("/", a.Middleware(limiter.Middleware(http.HandlerFunc(list))))
}
