package faults_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// A load sends requests to instances with one database while something happens to
// it, and checks each answer. An answer may be 503, but never wrong.
type load struct {
	t         *testing.T
	instances []*instance
	valid     []issued
	stop      context.CancelFunc
	workers   sync.WaitGroup

	answers     atomic.Int64
	unavailable atomic.Int64
	last        atomic.Int64 // when the last request got 503: Unix time in nanoseconds
	healthy     atomic.Bool  // no request may get 503
	remembered  atomic.Bool  // no request with a valid key may get 503

	writing sync.RWMutex // held while keys are changed

	mu      sync.Mutex
	kept    []issued // created, and perhaps revoked
	revoked []issued
}

// An issued key is one whose creation the instance has acknowledged.
type issued struct {
	record auth.Record
	key    string
	by     *instance
	at     time.Time // when it was revoked
}

func startLoad(t *testing.T, instances ...*instance) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, instances: instances, stop: cancel}
	t.Cleanup(func() { cancel(); l.workers.Wait() })
	for range 8 {
		r, key := instances[0].create(t)
		l.valid = append(l.valid, issued{record: r, key: key})
	}
	r, key := instances[0].create(t)
	must(t, instances[0].manage.Revoke(ctx, r.ID))
	l.revoked = append(l.revoked, issued{r, key, instances[0], time.Now()})
	for _, in := range instances {
		for range 3 {
			l.work(ctx, func() {
				l.ask(in, "a valid key", l.valid[rand.N(len(l.valid))].key, l.remembered.Load(), accepted)
			})
		}
		l.work(ctx, func() { l.askRevoked(in, l.oneOf(&l.revoked)) })
		l.work(ctx, func() { l.ask(in, "an unknown key", auth.Scheme{}.NewKey().Reveal(), false, unknown) })
		l.work(ctx, func() { l.write(ctx, in) })
	}
	return l
}

func (l *load) work(ctx context.Context, f func()) {
	l.workers.Go(func() {
		for ctx.Err() == nil {
			f()
			time.Sleep(time.Millisecond) // a load, not a benchmark
		}
	})
}

func (l *load) oneOf(list *[]issued) issued {
	l.mu.Lock()
	defer l.mu.Unlock()
	return (*list)[rand.N(len(*list))]
}

// ask sends a request and checks the answer.
func (l *load) ask(in *instance, what, key string, always bool, want ...string) {
	healthy := l.healthy.Load()
	got := in.get(context.Background(), key)
	if got == unavailable {
		l.unavailable.Add(1)
		l.last.Store(time.Now().UnixNano())
		if always || healthy && l.healthy.Load() {
			l.t.Errorf("%s: 503", what)
		}
		return
	}
	l.answers.Add(1)
	for _, w := range want {
		if got == w {
			return
		}
	}
	l.t.Errorf("%s: %q, want %q", what, got, want)
}

func (l *load) askRevoked(in *instance, k issued) {
	if k.by == in || time.Since(k.at) > bound {
		l.ask(in, "a revoked key", k.key, false, revoked)
	} else {
		l.ask(in, "a key that is being revoked", k.key, false, revoked, accepted)
	}
}

// write creates a key, uses it on all instances, revokes it and uses it again.
func (l *load) write(ctx context.Context, in *instance) {
	l.writing.RLock()
	defer l.writing.RUnlock()
	r, key, err := in.manage.Create(ctx, keyring.Spec{Name: "test", Scopes: auth.Scopes{"documents.read"}})
	if err != nil {
		return
	}
	k := issued{record: r, key: key.Reveal(), by: in}
	l.mu.Lock()
	l.kept = append(l.kept, k)
	l.mu.Unlock()
	for _, other := range l.instances {
		l.ask(other, "a new key", k.key, false, accepted)
	}
	if err := in.manage.Revoke(ctx, r.ID); err != nil {
		return
	}
	k.at = time.Now()
	l.mu.Lock()
	l.revoked = append(l.revoked, k)
	l.mu.Unlock()
	for _, other := range l.instances {
		l.askRevoked(other, k)
	}
}

// grows waits until there were n more answers.
func (l *load) grows(n int64) {
	l.t.Helper()
	n += l.answers.Load()
	eventually(l.t, "answers", func() bool { return l.answers.Load() > n })
}

// fails waits until n more requests were answered with 503.
func (l *load) fails(n int64) {
	l.t.Helper()
	n += l.unavailable.Load()
	eventually(l.t, "503", func() bool { return l.unavailable.Load() > n })
}

// recovers waits until all requests are answered, and checks that they still are.
func (l *load) recovers() {
	l.t.Helper()
	for _, in := range l.instances {
		in.remembers(l.t, l.valid[0].key)
	}
	// The pool notices a dead connection when it uses it, or after a second.
	eventually(l.t, "no 503 for a while", func() bool {
		return time.Since(time.Unix(0, l.last.Load())) > 1200*time.Millisecond
	})
	l.healthy.Store(true)
	l.grows(200)
	l.healthy.Store(false)
}

// pause returns when no key is being changed and every instance has seen all
// changes.
func (l *load) pause() (resume func()) {
	l.t.Helper()
	l.writing.Lock()
	resume = sync.OnceFunc(l.writing.Unlock)
	l.t.Cleanup(resume) // before the cleanup that waits for the writers
	l.mu.Lock()
	list := l.revoked
	l.mu.Unlock()
	for _, in := range l.instances {
		for _, k := range list {
			in.refuses(l.t, "a revoked key", k.key, k.at)
		}
	}
	return resume
}

// end stops the load and checks that nothing acknowledged is lost.
func (l *load) end() {
	l.t.Helper()
	l.stop()
	l.workers.Wait()
	l.t.Logf("%d answers, %d times 503; %d keys created, %d revoked", l.answers.Load(), l.unavailable.Load(),
		len(l.kept), len(l.revoked))
	if len(l.revoked) < 5 {
		l.t.Error("the load did next to nothing")
	}
	ctx := context.Background()
	for _, in := range l.instances {
		for _, k := range l.valid {
			in.becomes(l.t, "a valid key in the end", k.key, accepted, unavailable)
		}
		for _, k := range l.revoked {
			in.refuses(l.t, "a revoked key in the end", k.key, k.at)
		}
	}
	for _, k := range l.kept {
		var err error
		eventually(l.t, "an answer of the database", func() bool { // a connection of the pool may still be broken
			_, err = l.instances[0].manage.Get(ctx, k.record.ID)
			return err == nil || errors.Is(err, auth.ErrNotFound)
		})
		if err != nil {
			l.t.Errorf("lost: %v", err)
		}
	}
	for _, k := range l.valid {
		eventually(l.t, "a last use that was written", func() bool {
			r, err := l.instances[0].manage.Get(ctx, k.record.ID)
			return err == nil && !r.LastUsedAt.IsZero()
		})
	}
}
