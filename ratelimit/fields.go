package ratelimit

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
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
// Limiter outside. If nothing remains of that, it returns the seconds until it
// has one request, otherwise 0.
func writeFields(w http.ResponseWriter, r *http.Request, u Usage) (outside int) {
	h := w.Header()
	if len(r.Header["Origin"]) > 0 {
		expose(h)
	}
	if outer := h[fieldRemaining]; len(outer) == 1 {
		remaining, err := strconv.Atoi(outer[0])
		if err == nil && remaining == 0 && len(h[fieldReset]) == 1 && len(h[fieldLimit]) == 1 {
			reset, _ := strconv.Atoi(h[fieldReset][0])
			limit, _ := strconv.Atoi(h[fieldLimit][0])
			outside = (reset + limit - 1) / max(limit, 1) // an interval at most
		}
		if err == nil && remaining < u.Remaining {
			return outside
		}
	}
	values := newValues()
	values[0], values[1] = decimals(u.Limit.Requests, u.Remaining)
	values[2], _ = decimals(seconds(u.Reset), 0)
	h[fieldLimit] = values[0:1:1]
	h[fieldRemaining] = values[1:2:2]
	h[fieldReset] = values[2:3:3]
	return outside
}

// expose lets scripts of other origins read the fields.
func expose(h http.Header) {
	if outer := h[fieldExpose]; !slices.Contains(outer, exposed) {
		h[fieldExpose] = append(slices.Clone(outer), exposed)
	}
}

// newValues returns space for the values of the three fields. It comes from a
// block, so that most answers need no allocation for it. An answer keeps its
// block in memory, which has 768 bytes.
func newValues() []string {
	const fields, block = 3, 16
	free := freeValues.Get().(*[]string)
	if len(*free) == 0 {
		*free = make([]string, fields*block)
	}
	values := (*free)[:fields:fields]
	*free = (*free)[fields:]
	freeValues.Put(free)
	return values
}

var freeValues = sync.Pool{New: func() any { return new([]string) }}

// refuse answers a request beyond the limit.
func (l *Limiter) refuse(w http.ResponseWriter, r *http.Request, u Usage, outside int) {
	wait := max(seconds(u.RetryAfter), outside, 1)
	p := &auth.Problem{
		Type:   askAuthenticator(r).base + "rate-limited",
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
	requests := plural(l.Requests, "request")
	switch l.Period {
	case time.Second:
		return requests + " a second"
	case time.Minute:
		return requests + " a minute"
	case time.Hour:
		return requests + " an hour"
	case 24 * time.Hour:
		return requests + " a day"
	}
	return requests + " in " + l.Period.String()
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// small has the numbers that fields have most often.
var small = func() (list [1000]string) {
	for i := range list {
		list[i] = strconv.Itoa(i)
	}
	return list
}()

// decimals returns a and b in decimal, in one allocation at most.
func decimals(a, b int) (string, string) {
	if 0 <= a && a < len(small) && 0 <= b && b < len(small) {
		return small[a], small[b]
	}
	var buf [40]byte
	text := strconv.AppendInt(buf[:0], int64(a), 10)
	n := len(text)
	both := string(strconv.AppendInt(text, int64(b), 10))
	return both[:n], both[n:]
}
