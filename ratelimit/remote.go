package ratelimit

import (
	"context"
	"log/slog"
)

// A remote asks a Counter, as long as that answers.
type remote struct {
	counter Counter
	log     func() *slog.Logger
}

func newRemote(counter Counter, log func() *slog.Logger) *remote {
	return &remote{counter: counter, log: log}
}

func (m *remote) down() bool { return false }

// take reports false if the Counter cannot decide now.
func (m *remote) take(ctx context.Context, key string, limit Limit, n int) (Usage, bool) {
	u, err := m.counter.Take(context.WithoutCancel(ctx), key, limit, n)
	return u, err == nil
}
