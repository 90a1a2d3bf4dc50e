// Package ratelimit limits the requests of each API key: 120 a minute, as the
// inSigner API publishes it, or by plan.
//
//	limiter := ratelimit.New(nil, nil)
//	http.ListenAndServe("127.0.0.1:8080", a.Middleware(limiter.Middleware(mux)))
//
// The Limiter goes inside the Middleware, Optional or Require of an
// auth.Authenticator. So a request without a key, or with an unknown one, never
// reaches it. Each answer tells the client its limit, and a request beyond it is
// answered with 429 and Retry-After. See [Limiter.Middleware].
//
// # Limits
//
// A [Limit] of 120 a minute means 120 requests at once, and then 2 a second. See
// its documentation for the most that a client can send in any minute.
// Options.Limit returns the limit for a key, and Options.Key whose budget its
// requests take from. By default, a key and those that it was rotated to share
// one.
//
// # Several instances
//
// Without a [Counter], each instance counts by itself. With that of [NewRedis],
// all instances share the budgets:
//
//	limiter := ratelimit.New(ratelimit.NewRedis(client, nil), nil)
//
// Both decide alike. A budget in Redis follows the clock of Redis, and one in
// memory a monotonic clock, so a clock that is wrong or set changes nothing.
//
// # Outages
//
// No request fails because Redis does. A request waits for it for at most 50
// milliseconds, with any options of the client. After one failure, this instance
// counts in memory, and only one request a second asks Redis. When that
// succeeds, Redis decides again. Each change is one line in the log.
//
// If the failure was that an answer took too long, and the answer comes within a
// second, Redis decides again at once. If Redis fails again within a minute,
// more than one probe must succeed, twice as many each time and at most 60.
//
// In an outage, each instance counts on from what Redis said to it last. For a
// key that it has not seen, that is a full budget. With N instances, a client
// whose requests reach all of them has up to N times its limit. What was taken
// from the instances is not taken from the budgets in Redis afterwards. It stays
// taken on its instance, so an outage that comes and goes gives no new budgets.
//
// # Security
//
// A limit protects the API from its customers' mistakes, and each customer from
// the others. It does not protect from a flood without keys.
//
// A budget in memory costs up to 40 bytes until it is full again, a minute
// after its last request for a limit of 120 a minute. With Redis too, each
// instance has one for each key that it serves. A key that is beyond its limit
// is refused without asking Redis, until its next request will be accepted, for
// a second at most. At most 512 calls of the client are in progress, those that
// no request waits for included.
//
// Redis gets the Chain of keys, or what Options.Key returns. Texts that are long
// or have unusual characters are hashed. The password of the client never
// appears in the log of a Limiter.
package ratelimit
