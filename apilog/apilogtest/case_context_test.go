package apilogtest_test

import (
	"context"
	"time"

	"github.com/insigner/auth/apilog"
)

var contextFaults = []fault{
	{"a failed List is an empty one", "Reading with a context that is done", true, func(s *store) {
		s.onList = func(ctx context.Context, q apilog.Query) ([]apilog.Entry, error) {
			if ctx.Err() != nil {
				return nil, nil
			}
			return s.MemoryStore.List(ctx, q)
		}
	}},
	{"a failed Histogram has empty buckets", "Reading with a context that is done", true, func(s *store) {
		s.onHistogram = func(ctx context.Context, q apilog.Query, step time.Duration) ([]apilog.Bucket, error) {
			if ctx.Err() != nil {
				return apilog.Buckets(q, step)
			}
			return s.MemoryStore.Histogram(ctx, q, step)
		}
	}},
	{"Append ignores the context", "Append with a context that is done", true, func(s *store) {
		s.onAppend = func(ctx context.Context, entries []apilog.Entry) error {
			return s.MemoryStore.Append(context.WithoutCancel(ctx), entries)
		}
	}},
	{"Append fails, and stores the entries", "Append with a context that is done", true, func(s *store) {
		s.onAppend = func(ctx context.Context, entries []apilog.Entry) error {
			s.MemoryStore.Append(context.WithoutCancel(ctx), entries)
			return ctx.Err()
		}
	}},
	{"DeleteBefore ignores the context", "Delete with a context that is done", true, func(s *store) {
		s.onDeleteBefore = func(ctx context.Context, t time.Time) (int64, error) {
			return s.MemoryStore.DeleteBefore(context.WithoutCancel(ctx), t)
		}
	}},
	{"DeleteOwner fails, and deletes", "Delete with a context that is done", true, func(s *store) {
		s.onDeleteOwner = func(ctx context.Context, owner string) (int64, error) {
			n, err := s.MemoryStore.DeleteOwner(context.WithoutCancel(ctx), owner)
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			return n, err
		}
	}},
}
