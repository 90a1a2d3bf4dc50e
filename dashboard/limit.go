package dashboard

import (
	"time"

	"github.com/insigner/auth"
)

// A RateLimit is how many requests the API accepts from a key, and how many of
// them are left.
type RateLimit struct {
	// Requests are accepted in each Period. If 0, there is no limit.
	Requests int
	Period   time.Duration

	// Remaining requests are accepted at once, and all Requests again after Reset
	// without a request.
	Remaining int
	Reset     time.Duration
}

// limitOf returns what the page of a key shows of its limit: how many requests,
// how many of them now, and the reason if that is not known.
func (c *call) limitOf(r *auth.Record) (limit, left, failed string) {
	if c.Options.RateLimit == nil || r.Check(time.Now()) != nil {
		return "", "", ""
	}
	l, err := c.Options.RateLimit(c.ctx(), *r.Clone())
	if err != nil { // the key can be managed nevertheless
		c.logFailure(err)
		return "", "", c.text("The rate limit cannot be read right now.")
	}
	if l.Requests <= 0 {
		return c.text("No limit"), "", ""
	}
	remaining := min(max(0, l.Remaining), l.Requests)
	if remaining < l.Requests {
		seconds := max(1, int64((l.Reset+time.Second-1)/time.Second))
		left = c.text("%d of %d, all of them in %d s", remaining, l.Requests, seconds)
	} else {
		left = c.text("%d of %d", remaining, l.Requests)
	}
	return c.per(l.Requests, l.Period), left, ""
}

// per is a number of requests in a period, in words.
func (c *call) per(requests int, period time.Duration) string {
	switch period {
	case time.Second:
		return c.text("%d a second", requests)
	case time.Minute:
		return c.text("%d a minute", requests)
	case time.Hour:
		return c.text("%d an hour", requests)
	case day:
		return c.text("%d a day", requests)
	}
	return c.text("%d in %s", requests, period)
}
