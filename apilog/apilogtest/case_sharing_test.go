package apilogtest_test

import (
	"context"
	"fmt"
	"time"

	"github.com/insigner/auth/apilog"
)

var sharingFaults = []fault{
	{"List returns one slice for two calls", "A list belongs to the caller", true, func(s *store) {
		cached := make(map[apilog.Query][]apilog.Entry)
		s.onList = func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
			if q.Limit != 4 {
				return s.MemoryStore.List(ctx, q)
			}
			var err error
			if _, ok := cached[q]; !ok {
				cached[q], err = s.MemoryStore.List(ctx, q)
			}
			return cached[q], err
		}
	}},
	{"List returns a part of what the store holds", "A list belongs to the caller", true, func(s *store) {
		var held []apilog.Entry
		s.onList = func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
			page, err := s.MemoryStore.List(ctx, q)
			if q != (apilog.Query{Limit: 4}) && q != (apilog.Query{Limit: 1000}) || len(page) > 6 {
				return page, err
			}
			if held == nil {
				held = s.all()
			}
			if len(held) != 6 || len(s.all()) != 6 || held[0].ID != "" && held[0] != s.all()[0] {
				return page, err // of another case
			}
			return held[:min(q.Limit, len(held))], err
		}
	}},
	{"Histogram returns one slice for two calls", "A histogram belongs to the caller", true, func(s *store) {
		cached := make(map[string][]apilog.Bucket)
		s.onHistogram = func(ctx context.Context, q apilog.Query, step time.Duration) ([]apilog.Bucket, error) {
			if ctx.Err() != nil || step != time.Second || q.To.Sub(q.From) != 6*time.Second {
				return s.MemoryStore.Histogram(ctx, q, step)
			}
			var err error
			key := fmt.Sprint(q)
			if cached[key] == nil {
				cached[key], err = s.MemoryStore.Histogram(ctx, q, step)
			}
			return cached[key], err
		}
	}},
	{"List fills one slice again and again", "A list stays as it is", true, func(s *store) {
		var buffer []apilog.Entry
		s.onList = func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
			page, err := s.MemoryStore.List(ctx, q)
			if q.Limit == 6 {
				buffer = append(buffer[:0], page...)
				page = buffer
			}
			return page, err
		}
	}},
}
