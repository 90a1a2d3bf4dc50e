package ratelimit_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/insigner/auth/ratelimit"
)

// A line is a hook of a client that answers in place of Redis, and keeps the
// number of commands that come together.
type line struct {
	redis.Hook
	mu   sync.Mutex
	sent []int
	hang chan struct{} // if not nil, it answers when this is closed
}

func (l *line) answer(cmds []redis.Cmder) error {
	l.mu.Lock()
	l.sent = append(l.sent, len(cmds))
	hang := l.hang
	l.mu.Unlock()
	if hang != nil {
		<-hang
	}
	for _, cmd := range cmds {
		key := cmd.Args()[3].(string)
		cmd.(*redis.Cmd).SetVal([]any{int64(1), int64(len(key)), "-1", "0.5"})
	}
	return nil
}

func (l *line) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error { return l.answer([]redis.Cmder{cmd}) }
}

func (l *line) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error { return l.answer(cmds) }
}

func (l *line) DialHook(next redis.DialHook) redis.DialHook { return next }

// wants checks how many commands came together each time.
func (l *line) wants(t *testing.T, what string, want ...int) {
	t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.sent, want) {
		t.Errorf("%s: %d are sent together, want %d", what, l.sent, want)
	}
}

// TestBatches: what is called while Redis is asked is sent together, and each
// call gets its own answer. A connection that hangs holds up no later call.
func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
		defer client.Close()
		l := &line{hang: make(chan struct{})}
		client.AddHook(l)
		counter := ratelimit.NewRedis(client, &ratelimit.RedisOptions{Prefix: prefix})
		var answers atomic.Int64
		var wg sync.WaitGroup
		call := func(keys ...string) {
			for _, key := range keys {
				wg.Go(func() {
					u := take(t, counter, key, ratelimit.Limit{}, 1)
					if got, want := u.Remaining, len("rate:"+prefix+":"+key); got != want {
						t.Errorf("the call for %q gets the answer of another key: %d, want %d", key, got, want)
					}
					answers.Add(1)
				})
				synctest.Wait()
			}
		}
		call("a", "bb")
		l.wants(t, "two calls", 1, 1)
		call("ccc", "dddd", "eeeee")
		l.wants(t, "three more", 1, 1)
		close(l.hang)
		wg.Wait()
		l.wants(t, "after the answer", 1, 1, 3)

		hang := make(chan struct{})
		l.hang = hang
		answers.Store(0)
		call("a", "bb")
		time.Sleep(10 * time.Millisecond)
		call("ccc")
		l.wants(t, "after 10 ms", 1, 1, 3, 1, 1)
		l.mu.Lock()
		l.hang = nil
		l.mu.Unlock()
		time.Sleep(time.Nanosecond)
		call("dddd")
		l.wants(t, "after more than that", 1, 1, 3, 1, 1, 2)
		if got := answers.Load(); got != 2 {
			t.Errorf("with two connections that hang, %d later calls get an answer, want 2", got)
		}
		close(hang)
		wg.Wait()
	})
}

// TestClientPanics: a hook of the client that panics is an outage.
func TestClientPanics(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	client.AddHook(new(panics))
	l, log := open(t, client)
	comesTo(t, l, true)
	if got := log.lines("broken hook"); len(got) != 1 {
		t.Errorf("the log does not name the panic: %q", log.lines(""))
	}
}

type panics struct{ line }

func (*panics) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(context.Context, redis.Cmder) error { panic("broken hook") }
}
