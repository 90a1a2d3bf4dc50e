package ratelimit

import "context"

// A Counter keeps the budgets of many keys. [NewRedis] makes one that many
// instances share. A host may implement another.
//
// It is safe for concurrent use. It must count such that the requests of all
// instances together keep to the [Limit], and Take must be atomic.
type Counter interface {
	// Take takes n requests of the budget of key, if the limit permits all of
	// them; otherwise it takes none. If n is 0, it looks and takes nothing.
	//
	// Key is any text. A Limiter passes a limit that is valid and complete, and
	// not Unlimited. It is that of this call: if the last call for the key had
	// another one, the requests that were taken then still count, but no longer
	// than the Period of this limit.
	//
	// An error means that the budget is unknown. Then the [Limiter] decides by
	// a counter of its own, in memory. It does so too after 50 milliseconds
	// without an answer. Ctx ends after a second. It is not canceled if the
	// client leaves.
	Take(ctx context.Context, key string, limit Limit, n int) (Usage, error)
}
