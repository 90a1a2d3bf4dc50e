package ratelimit

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxBatches is how many batches are in progress, as long as Redis answers
	// quickly.
	maxBatches = 2

	// slowBatch is how long calls wait for a batch in progress. After that, the
	// next call makes another one. So a connection that hangs holds up nobody
	// who comes later.
	slowBatch = 10 * time.Millisecond
)

// A batcher is a client that sends the scripts of concurrent calls together, in
// one pipeline. What is called while batches are in progress is the next batch.
type batcher struct {
	redis.UniversalClient

	mu      sync.Mutex
	waiting []*script
	batches int       // in progress
	last    time.Time // when the last one began
}

// A script is one call.
type script struct {
	cmd  *redis.Cmd
	done chan struct{}
}

// EvalSha calls a script, as that of the client does. It is what redis_rate
// uses.
func (b *batcher) EvalSha(ctx context.Context, sha1 string, keys []string, args ...any) *redis.Cmd {
	list := make([]any, 0, 3+len(keys)+len(args))
	list = append(list, "evalsha", sha1, len(keys))
	for _, key := range keys {
		list = append(list, key)
	}
	cmd := redis.NewCmd(ctx, append(list, args...)...)
	cmd.SetFirstKeyPos(3)
	s := &script{cmd, make(chan struct{})}
	b.mu.Lock()
	b.waiting = append(b.waiting, s)
	if b.batches < maxBatches || time.Since(b.last) > slowBatch {
		b.batches++
		go b.send(context.WithoutCancel(ctx), b.next())
	}
	b.mu.Unlock()
	<-s.done
	return cmd
}

// next returns what is waiting. The batcher is locked.
func (b *batcher) next() []*script {
	list := b.waiting
	b.waiting, b.last = nil, time.Now()
	return list
}

// send sends a batch, and then what was called while it was in progress.
func (b *batcher) send(ctx context.Context, list []*script) {
	for len(list) > 0 {
		b.exec(ctx, list)
		for _, s := range list {
			close(s.done)
		}
		b.mu.Lock()
		if list = b.next(); len(list) == 0 {
			b.batches--
		}
		b.mu.Unlock()
	}
}

// exec sends a batch. Each command gets its result.
func (b *batcher) exec(ctx context.Context, list []*script) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	defer func() { // a hook of the client may panic
		if v := recover(); v != nil {
			for _, s := range list {
				s.cmd.SetErr(fmt.Errorf("the client of Redis panics: %v", v))
			}
		}
	}()
	if len(list) == 1 {
		b.Process(ctx, list[0].cmd)
		return
	}
	b.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, s := range list {
			p.Process(ctx, s.cmd)
		}
		return nil
	})
}
