package ratelimit

import (
	"fmt"
	"math"
	"math/bits"
	"time"
)

// A Limit is how many requests are accepted. Limit{120, time.Minute} means: 120
// at once, and then 2 a second.
//
// A budget that is full holds Requests requests. Each accepted request takes
// one. One comes back after each interval of Period/Requests, until the budget
// is full again (the generic cell rate algorithm). So no window has an edge at
// which two budgets can be used.
//
// In any Period, at most 2*Requests - 1 requests are accepted: a full budget at
// once, and what comes back until the Period ends. For 120 a minute, these are
// 239 in the worst 60 seconds. In a time t, they are Requests + t/interval,
// less 1 if t is a multiple of the interval. Over hours, it is the rate.
//
// The zero Limit is 120 a minute. If only the Period is zero, it is a minute.
// Any other Limit is invalid if it has
//
//   - fewer than 1 or more than 1,000,000,000 Requests, except Unlimited, or
//   - a Period that is negative or longer than 366 days.
//
// The interval is at least a microsecond. It is rounded up, by less than 120
// nanoseconds, or by a part in 4,000,000,000 if that is more.
type Limit struct {
	Requests int
	Period   time.Duration
}

// Unlimited, as the Requests of a [Limit], accepts every request. The Period
// does not matter, and no fields are sent.
const Unlimited = math.MaxInt

const (
	maxRequests = 1_000_000_000
	maxPeriod   = 366 * 24 * time.Hour
	minInterval = time.Microsecond
)

var defaultLimit = Limit{Requests: 120, Period: time.Minute}

// complete returns l with its defaults, and whether it is valid.
func (l Limit) complete() (Limit, bool) {
	switch {
	case l == Limit{}:
		return defaultLimit, true
	case l.Requests == Unlimited:
		return Limit{Requests: Unlimited}, true
	case l.Period == 0:
		l.Period = time.Minute
	}
	return l, 1 <= l.Requests && l.Requests <= maxRequests && 0 < l.Period && l.Period <= maxPeriod
}

// String returns the Limit as "120 requests in 1m0s".
func (l Limit) String() string {
	l, ok := l.complete()
	switch {
	case !ok:
		return fmt.Sprintf("invalid limit of %d requests in %v", l.Requests, l.Period)
	case l.Requests == Unlimited:
		return "no limit"
	case l.Requests == 1:
		return fmt.Sprintf("1 request in %v", l.Period)
	}
	return fmt.Sprintf("%d requests in %v", l.Requests, l.Period)
}

// An interval is the time after which one request comes back: parts/2^shift
// seconds.
//
// Redis adds and compares times as floating-point seconds. As the interval is
// such a fraction, it does so exactly, and the 100th of 100 requests is
// accepted. Seconds since 2017, which redis_rate uses, have 53-29 bits for the
// fraction until 2034 and one less until 2051.
type interval struct {
	parts uint64
	shift int
}

const maxShift = 23

// interval returns Period/Requests, rounded up. The Limit is complete.
func (l Limit) interval() interval {
	period := max(uint64(l.Period), uint64(l.Requests)*uint64(minInterval))
	i := interval{shift: maxShift}
	for {
		i.parts = mulDiv(period, 1<<i.shift, uint64(l.Requests)*uint64(time.Second))
		if i.parts < 1<<33 { // seconds that fit in a time.Duration
			return i
		}
		i.shift--
	}
}

// duration returns the interval in nanoseconds, rounded up.
func (i interval) duration() time.Duration {
	return time.Duration(mulDiv(i.parts, uint64(time.Second), 1<<i.shift))
}

// mulDiv returns a*b/c, rounded up.
func mulDiv(a, b, c uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	q, r := bits.Div64(hi, lo, c)
	if r > 0 {
		q++
	}
	return q
}

// A Usage is what a [Counter] knows of a budget.
type Usage struct {
	Limit Limit

	// Allowed reports whether the requests were taken. If none were asked for,
	// it reports whether one would be accepted now.
	Allowed bool

	// Remaining is how many requests would be accepted now, at once.
	Remaining int

	// Reset is the time until the budget is full. It is never negative.
	Reset time.Duration

	// RetryAfter is the time after which the requests would be accepted, if
	// nobody else takes any. It is 0 if Allowed is true. If more requests were
	// asked for than the Limit has, they are never accepted, and it is Reset.
	RetryAfter time.Duration
}
