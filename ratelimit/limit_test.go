package ratelimit_test

import (
	"log/slog"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/ratelimit"
)

const day = 24 * time.Hour

// TestLimit: what each Limit means.
func TestLimit(t *testing.T) {
	const invalid = -1
	for _, c := range []struct {
		limit     ratelimit.Limit
		remaining int // after one request
		text      string
	}{
		{ratelimit.Limit{}, 119, "120 requests in 1m0s"},
		{ratelimit.Limit{Requests: 120, Period: time.Minute}, 119, "120 requests in 1m0s"},
		{ratelimit.Limit{Requests: 600}, 599, "600 requests in 1m0s"},
		{ratelimit.Limit{Requests: 1}, 0, "1 request in 1m0s"},
		{ratelimit.Limit{Requests: 1, Period: 366 * day}, 0, "1 request in 8784h0m0s"},
		{ratelimit.Limit{Requests: 5, Period: 100 * time.Millisecond}, 4, "5 requests in 100ms"},
		{ratelimit.Limit{Requests: 7, Period: time.Nanosecond}, 6, "7 requests in 1ns"},
		{ratelimit.Limit{Requests: 1e9}, 1e9 - 1, "1000000000 requests in 1m0s"},
		{ratelimit.Limit{Requests: 1e9, Period: 366 * day}, 1e9 - 1, "1000000000 requests in 8784h0m0s"},
		{ratelimit.Limit{Requests: 1e9, Period: time.Nanosecond}, 1e9 - 1, "1000000000 requests in 1ns"},
		{ratelimit.Limit{Requests: ratelimit.Unlimited}, ratelimit.Unlimited, "no limit"},
		{ratelimit.Limit{Requests: ratelimit.Unlimited, Period: -1}, ratelimit.Unlimited, "no limit"},
		{ratelimit.Limit{Period: time.Minute}, invalid, "invalid limit of 0 requests in 1m0s"},
		{ratelimit.Limit{Requests: -1}, invalid, "invalid limit of -1 requests in 1m0s"},
		{ratelimit.Limit{Requests: math.MinInt, Period: time.Minute}, invalid, "invalid limit of -9223372036854775808 requests in 1m0s"},
		{ratelimit.Limit{Requests: 1, Period: -1}, invalid, "invalid limit of 1 requests in -1ns"},
		{ratelimit.Limit{Requests: 1, Period: 366*day + 1}, invalid, "invalid limit of 1 requests in 8784h0m0.000000001s"},
		{ratelimit.Limit{Requests: 1, Period: math.MaxInt64}, invalid, "invalid limit of 1 requests in 2562047h47m16.854775807s"},
		{ratelimit.Limit{Requests: 1e9 + 1}, invalid, "invalid limit of 1000000001 requests in 1m0s"},
		{ratelimit.Limit{Requests: math.MaxInt - 1}, invalid, "invalid limit of 9223372036854775806 requests in 1m0s"},
	} {
		synctest.Test(t, func(t *testing.T) {
			opts := limited(c.limit.Requests, c.limit.Period)
			opts.Logger = slog.New(slog.DiscardHandler)
			l := ratelimit.New(nil, opts)
			if got := c.limit.String(); got != c.text {
				t.Errorf("String returns %q, want %q", got, c.text)
			}
			w := call(t, l, recordOf("k"))
			u, err := l.Usage(t.Context(), recordOf("k"))
			if c.remaining == invalid {
				if w.Code != 500 {
					t.Errorf("%v: the status is %d, want 500", c.limit, w.Code)
				}
				if err == nil {
					t.Errorf("%v: Usage returns no error", c.limit)
				}
				return
			}
			if w.Code != 200 {
				t.Errorf("%v: the status is %d, want 200", c.limit, w.Code)
			}
			if err != nil {
				t.Errorf("%v: Usage returns %v", c.limit, err)
			}
			if u.Remaining != c.remaining {
				t.Errorf("%v: after a request, %d remain, want %d", c.limit, u.Remaining, c.remaining)
			}
			if u.Reset < 0 {
				t.Errorf("%v: Reset is %v", c.limit, u.Reset)
			}
		})
	}
}

// TestWorstWindow: a client that sends whenever it can gets a full budget at
// once and one request after each interval, so 2*Requests-1 in the worst
// Period. TestRedisWorstWindow is the same on Redis.
func TestWorstWindow(t *testing.T) {
	for _, limit := range []ratelimit.Limit{
		{Requests: 120, Period: time.Minute},
		{Requests: 100, Period: time.Minute}, // 0.6 s is no binary fraction
		{Requests: 7, Period: time.Minute},   // nor is it a number of nanoseconds
		{Requests: 1, Period: time.Second},
		{Requests: 1000, Period: time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := ratelimit.New(nil, limited(limit.Requests, limit.Period))
			r := recordOf("k")
			start := time.Now()
			var at []time.Duration // of accepted requests
			for time.Since(start) < 3*limit.Period {
				if accepted(t, l, r) {
					at = append(at, time.Since(start))
					continue
				}
				u, err := l.Usage(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(u.RetryAfter - 1)
				if accepted(t, l, r) {
					t.Fatalf("%v: accepted before RetryAfter", limit)
				}
				time.Sleep(time.Nanosecond)
			}
			if got, want := worst(at, limit.Period), 2*limit.Requests-1; got != want {
				t.Errorf("%v: %d requests in the worst Period, want %d", limit, got, want)
			}
			if got, want := at[limit.Requests-1], time.Duration(0); got != want {
				t.Errorf("%v: the last of a full budget is accepted after %v, want at once", limit, got)
			}
		})
	}
}

// worst returns how many of these times are at most in one window.
func worst(at []time.Duration, window time.Duration) (most int) {
	first := 0
	for i := range at {
		for at[i]-at[first] >= window {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// TestLimitChanges: another limit counts at the next request, or within one of
// its intervals if the budget is empty.
func TestLimitChanges(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after ratelimit.Limit
		used          int
		accepted      int           // at once after the change
		wait          time.Duration // then
	}{
		{"raised", ratelimit.Limit{Requests: 120}, ratelimit.Limit{Requests: 240}, 120, 0, 250 * time.Millisecond},
		{"raised, half used", ratelimit.Limit{Requests: 120}, ratelimit.Limit{Requests: 240}, 60, 120, 250 * time.Millisecond},
		{"lowered", ratelimit.Limit{Requests: 240}, ratelimit.Limit{Requests: 120}, 120, 60, 500 * time.Millisecond},
		{"from a day to a minute", ratelimit.Limit{Requests: 10, Period: day}, ratelimit.Limit{Requests: 120}, 10, 0, 500 * time.Millisecond},
		{"from a minute to a day", ratelimit.Limit{Requests: 120}, ratelimit.Limit{Requests: 24, Period: day}, 120, 23, time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			limit := c.before
			l := ratelimit.New(nil, &ratelimit.Options{Limit: func(auth.Record) ratelimit.Limit { return limit }})
			r := recordOf("k")
			if got := burst(t, l, r, c.used); got != c.used {
				t.Fatalf("%s: %d accepted before, want %d", c.name, got, c.used)
			}
			limit = c.after
			if got := burst(t, l, r, c.accepted+1); got != c.accepted {
				t.Errorf("%s: %d accepted at once, want %d", c.name, got, c.accepted)
			}
			time.Sleep(c.wait - 1)
			if accepted(t, l, r) {
				t.Errorf("%s: accepted before %v", c.name, c.wait)
			}
			time.Sleep(time.Nanosecond)
			if !accepted(t, l, r) {
				t.Errorf("%s: refused after %v", c.name, c.wait)
			}
		})
	}
}
