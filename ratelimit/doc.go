// Package ratelimit limits the requests of each API key: 120 a minute, as the
// inSigner API publishes it, or by plan.
//
//	limiter := ratelimit.New(nil, nil)
//	http.ListenAndServe("127.0.0.1:8080", a.Middleware(limiter.Middleware(mux)))
package ratelimit
