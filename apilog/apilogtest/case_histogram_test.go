package apilogtest_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/insigner/auth/apilog"
)

var histogramFaults = []fault{
	{"Histogram fails as long as nothing was ever written", "Histogram of an empty store", true, counting(
		func(s *store, _ *apilog.Query, _ *time.Duration) error {
			if !s.written() {
				return errors.New("no such table")
			}
			return nil
		})},
	{"empty buckets are left out", "Histogram", false, func(s *store) {
		s.onHistogram = func(ctx context.Context, q apilog.Query, step time.Duration) ([]apilog.Bucket, error) {
			buckets, err := s.MemoryStore.Histogram(ctx, q, step)
			var full []apilog.Bucket
			for _, b := range buckets {
				if b.Requests > 0 {
					full = append(full, b)
				}
			}
			return full, err
		}
	}},
	{"buckets of 10 minutes start at full 10 minutes", "Histogram", true, counting(
		func(_ *store, q *apilog.Query, step *time.Duration) error {
			if *step == 10*time.Minute && q.To.Sub(q.From) == 5*time.Hour {
				q.From = q.From.Truncate(*step)
			}
			return nil
		})},
	{"the last bucket counts after To", "Histogram whose last bucket ends after To", false, counting(
		func(_ *store, q *apilog.Query, step *time.Duration) error {
			if buckets, err := apilog.Buckets(*q, *step); err == nil && len(buckets) > 0 {
				q.To = buckets[len(buckets)-1].Start.Add(*step)
			}
			return nil
		})},
	{"a step that is longer than the range is an error", "Histogram whose last bucket ends after To", true, counting(
		func(_ *store, q *apilog.Query, step *time.Duration) error {
			if q.To.After(q.From) && *step > q.To.Sub(q.From) {
				return fmt.Errorf("%w: the step is too long", apilog.ErrInvalidQuery)
			}
			return nil
		})},
	{"buckets start at full milliseconds", "Histogram at the microsecond", true, counting(
		func(_ *store, q *apilog.Query, _ *time.Duration) error {
			if q.From.Before(q.To) {
				q.From = q.From.Truncate(time.Millisecond)
			}
			return nil
		})},
	{"a step has whole milliseconds", "Histogram at the microsecond", true, counting(
		func(_ *store, _ *apilog.Query, step *time.Duration) error {
			*step = step.Truncate(time.Millisecond)
			return nil
		})},
	{"From of a histogram is rounded up", "Histogram below a microsecond", true, counting(
		func(_ *store, q *apilog.Query, _ *time.Duration) error {
			q.From = roundedUp(q.From)
			return nil
		})},
	{"To of a histogram is rounded up", "Histogram below a microsecond", true, counting(
		func(_ *store, q *apilog.Query, _ *time.Duration) error {
			q.To = roundedUp(q.To)
			return nil
		})},
	{"499 is no client error", "Histogram of errors", true, adding(func(b *apilog.Bucket, e *apilog.Entry) {
		if b.Add(e); e.Status == 499 {
			b.ClientErrors--
		}
	})},
	{"500 is no server error", "Histogram of errors", true, adding(func(b *apilog.Bucket, e *apilog.Entry) {
		if b.Add(e); e.Status == 500 {
			b.ServerErrors--
		}
	})},
	{"a server error is a client error, too", "Histogram of errors", true, adding(
		func(b *apilog.Bucket, e *apilog.Entry) {
			if b.Add(e); e.Status >= 500 {
				b.ClientErrors++
			}
		})},
	{"lost entries count as one", "Histogram of lost entries", true, adding(func(b *apilog.Bucket, e *apilog.Entry) {
		if b.Add(e); e.Lost != 0 {
			b.Requests -= e.Lost - 1
		}
	})},
	{"lost entries count as one more", "Histogram of lost entries", true, adding(
		func(b *apilog.Bucket, e *apilog.Entry) {
			if b.Add(e); e.Lost != 0 {
				b.Requests++
			}
		})},
	{"Histogram ignores the owner", "Histogram with filters", true, counting(
		func(_ *store, q *apilog.Query, _ *time.Duration) error {
			q.Owner = ""
			return nil
		})},
	{"Histogram ignores StatusTo", "Histogram with filters", true, counting(
		func(_ *store, q *apilog.Query, _ *time.Duration) error {
			q.StatusTo = 0
			return nil
		})},
	{"Histogram ignores the key with an owner and a code", "Histogram with filters", true, counting(
		func(_ *store, q *apilog.Query, _ *time.Duration) error {
			if q.Owner != "" && q.Code != "" {
				q.KeyID = ""
			}
			return nil
		})},
	{"Histogram counts Limit entries", "Histogram with After or Limit", true, func(s *store) {
		s.onHistogram = func(ctx context.Context, q apilog.Query, step time.Duration) ([]apilog.Bucket, error) {
			if q.Limit <= 0 {
				return s.MemoryStore.Histogram(ctx, q, step)
			}
			return s.counted(q, step, s.all()[:q.Limit], (*apilog.Bucket).Add)
		}
	}},
	{"Histogram continues after After", "Histogram with After or Limit", true, counting(
		func(_ *store, q *apilog.Query, _ *time.Duration) error {
			if at, ok := apilog.TimeOf(q.After); ok {
				q.To = at
			}
			return nil
		})},
	{"Histogram checks After", "Histogram with After or Limit", true, counting(
		func(s *store, q *apilog.Query, _ *time.Duration) error {
			if _, ok := s.find(q.After); !ok && q.After != "" {
				return apilog.ErrInvalidQuery
			}
			return nil
		})},
	{"Histogram counts the newest 1000", "Histogram of many entries", true, func(s *store) {
		s.onHistogram = func(ctx context.Context, q apilog.Query, step time.Duration) ([]apilog.Bucket, error) {
			all := s.all()
			if len(all) <= 1000 {
				return s.MemoryStore.Histogram(ctx, q, step)
			}
			return s.counted(q, step, all[:1000], (*apilog.Bucket).Add)
		}
	}},
	{"there are 1000 buckets at most", "Histogram of many buckets", true, counting(
		func(_ *store, q *apilog.Query, step *time.Duration) error {
			if buckets, _ := apilog.Buckets(*q, *step); len(buckets) > 1000 {
				return apilog.ErrInvalidQuery
			}
			return nil
		})},
	{"one bucket too many is left out", "Histogram of many buckets", true, counting(
		func(_ *store, q *apilog.Query, step *time.Duration) error {
			if end := q.From.Add(apilog.MaxBuckets * *step); q.To.Sub(end) == time.Microsecond {
				q.To = end
			}
			return nil
		})},
	{"a range has 292 years at most", "Histogram of centuries", true, counting(
		func(_ *store, q *apilog.Query, step *time.Duration) error {
			if !q.From.IsZero() && !q.To.IsZero() && *step >= time.Millisecond {
				if span := q.To.Sub(q.From); q.From.Add(span).Before(q.To) {
					q.To = q.From.Add(span)
				}
			}
			return nil
		})},
	{"the zone of From of a histogram is ignored", "Histogram in any zone", true, counting(
		func(_ *store, q *apilog.Query, _ *time.Duration) error {
			if q.From.Location() != time.Local {
				q.From = wallClock(q.From)
			}
			return nil
		})},
	{"a step of 0 is an hour", "Histogram that makes no sense", true, counting(
		func(_ *store, _ *apilog.Query, step *time.Duration) error {
			if *step == 0 {
				*step = time.Hour
			}
			return nil
		})},
	{"a range is an error of its own", "Histogram that makes no sense", true, counting(
		func(_ *store, q *apilog.Query, _ *time.Duration) error {
			if q.To.Before(q.From) {
				return errors.New("the range is empty")
			}
			return nil
		})},
	{"a histogram without To ends now", "Histogram that makes no sense", true, counting(
		func(_ *store, q *apilog.Query, _ *time.Duration) error {
			if q.To.IsZero() && !q.From.IsZero() {
				q.To = q.From.AddDate(0, 0, 30)
			}
			return nil
		})},
}
