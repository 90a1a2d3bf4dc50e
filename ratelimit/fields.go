package ratelimit

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/insigner/auth"
)

// The fields of an answer, in canonical form.
const (
	fieldLimit      = "Ratelimit-Limit"
	fieldRemaining  = "Ratelimit-Remaining"
	fieldReset      = "Ratelimit-Reset"
	fieldRetryAfter = "Retry-After"
	fieldExpose     = "Access-Control-Expose-Headers"
)

const exposed = "RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After"

// writeFields sets the fields for u, unless less remains of the budget of a
// Limiter outside. It returns the seconds until the budgets of those outside
// have a request again, or 0 if they have.
func writeFields(w http.ResponseWriter, r *http.Request, u Usage) (outside int) {
	h := w.Header()
	values := new([4]string) // one allocation for all fields
	if len(r.Header["Origin"]) > 0 {
		values[3] = exposed
		if outer := h[fieldExpose]; len(outer) == 0 {
			h[fieldExpose] = values[3:4:4]
		} else if !slices.Contains(outer, exposed) {
			h[fieldExpose] = append(slices.Clone(outer), exposed)
		}
	}
	if outer := h[fieldRemaining]; len(outer) == 1 {
		remaining, err := strconv.Atoi(outer[0])
		if err == nil {
			if remaining == 0 && len(h[fieldReset]) == 1 {
				outside, _ = strconv.Atoi(h[fieldReset][0])
			}
			if u.Allowed && remaining < u.Remaining {
				return outside
			}
		}
	}
	values[0] = decimal(u.Limit.Requests)
	values[1] = decimal(u.Remaining)
	values[2] = decimal(seconds(u.Reset))
	h[fieldLimit] = values[0:1:1]
	h[fieldRemaining] = values[1:2:2]
	h[fieldReset] = values[2:3:3]
	return outside
}

// refuse answers a request beyond the limit.
func (l *Limiter) refuse(w http.ResponseWriter, r *http.Request, u Usage, outside int) {
	wait := max(seconds(u.RetryAfter), outside, 1)
	p := &auth.Problem{
		Type:   problemBase(r) + "rate-limited",
		Title:  http.StatusText(http.StatusTooManyRequests),
		Status: http.StatusTooManyRequests,
		Detail: fmt.Sprintf("The limit is %s; try again in %s", describe(u.Limit), plural(wait, "second")),
		Code:   "RATE_LIMITED",
	}
	w.Header()[fieldRetryAfter] = []string{strconv.Itoa(wait)}
	if set, ok := r.Context().Value((*auth.Problem)(nil)).(func(code string)); ok {
		set(p.Code) // the API logs
	}
	if l.errorHandler != nil && l.errorHandler(w, r, p) {
		return
	}
	auth.WriteProblem(w, r, p)
}

// seconds rounds up to whole seconds.
func seconds(d time.Duration) int {
	s := int(d / time.Second)
	if d%time.Second > 0 {
		s++
	}
	return max(s, 0)
}

// describe returns "120 requests a minute".
func describe(l Limit) string {
	for unit, name := range map[time.Duration]string{
		time.Second: "second", time.Minute: "minute", time.Hour: "hour", 24 * time.Hour: "day",
	} {
		if l.Period == unit {
			return plural(l.Requests, "request") + " a" + strings.Repeat("n", strings.Count(name, "hour")) + " " + name
		}
	}
	return plural(l.Requests, "request") + " in " + l.Period.String()
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// decimals are the texts of the numbers that fields have most often.
var decimals = sync.OnceValue(func() *[10_000]string {
	list := new([10_000]string)
	for i := range list {
		list[i] = strconv.Itoa(i)
	}
	return list
})

func decimal(n int) string {
	if list := decimals(); 0 <= n && n < len(list) {
		return list[n]
	}
	return strconv.Itoa(n)
}

// problemBase returns the problem base of the Authenticator that r has passed:
// it is part of the answer to any of its own errors.
func problemBase(r *http.Request) string {
	a := askAuthenticator(r)
	return a.base
}
