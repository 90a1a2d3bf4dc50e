package dashboard

import (
	"time"

	"github.com/insigner/auth/apilog"
)

// A chart is bars of requests over time. The drawing has no text: that stands
// around it, so that it is legible at any width.
type chart struct {
	View                                 *view
	From, To                             time.Time
	Step                                 time.Duration
	Requests, ClientErrors, ServerErrors int64
	Top                                  int64 // of the scale
	Width                                int
	Bars                                 []bar
	Rows                                 []apilog.Bucket // that are not empty
}

// A bar is a part of a bucket in the drawing, which is 100 units high.
type bar struct {
	Class      string
	X, Y, W, H float64
}

// steps are what the buckets of a chart can last, but for whole days.
var steps = []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute,
	30 * time.Minute, time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, day}

// stepOf returns the step for a range: the shortest that gives no more than about
// a hundred buckets.
func stepOf(length time.Duration) time.Duration {
	const wanted = 100
	for _, step := range steps {
		if length/step <= wanted {
			return step
		}
	}
	return (length/wanted/day + 1) * day
}

// chart returns the chart of what q selects, in the range of q, or why there is
// none. The page is of use without it.
func (c *call) chart(q apilog.Query) (ch *chart, why string) {
	giveBack, ok := c.slot("chart", maxCharts)
	if !ok {
		return nil, c.text("Too many charts are drawn for you at the same time. Reload the page.")
	}
	defer giveBack()
	step := stepOf(q.To.Sub(q.From))
	buckets, err := c.logs.Histogram(c.ctx(), q, step)
	if err != nil {
		c.logFailure(err)
		return nil, c.text("The chart cannot be drawn now. Try again, or choose a shorter range.")
	}
	ch = &chart{View: c.view(), From: q.From, To: q.To, Step: step, Width: len(buckets) * 10, Top: 1}
	for _, b := range buckets {
		ch.Requests += b.Requests
		ch.ClientErrors += b.ClientErrors
		ch.ServerErrors += b.ServerErrors
		ch.Top = max(ch.Top, b.Requests)
		if b.Requests > 0 {
			ch.Rows = append(ch.Rows, b)
		}
	}
	for i, b := range buckets {
		y := 100.0
		for _, part := range []struct {
			class string
			n     int64
		}{{"server", b.ServerErrors}, {"client", b.ClientErrors}, {"ok", b.Requests - b.ClientErrors - b.ServerErrors}} {
			if part.n <= 0 {
				continue
			}
			h := max(100*float64(part.n)/float64(ch.Top), 1)
			y = max(y-h, 0)
			ch.Bars = append(ch.Bars, bar{part.class, float64(i*10 + 1), y, 8, h})
		}
	}
	return ch, ""
}
