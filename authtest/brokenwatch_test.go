package authtest_test

import (
	"context"
	"errors"
	"time"

	"github.com/insigner/auth"
)

// Faults of a SnapshotStore and of a Watcher.
var optionalFaults = []optionalFault{
	{"LookupSnapshot never forgets", "LookupSnapshot answers as Lookup does", func() auth.KeyStore {
		return &staleSnapshots{seen: make(map[auth.Hash]auth.Snapshot)}
	}},
	{"LookupSnapshot returns a zero Snapshot for none", "LookupSnapshot answers as Lookup does", func() auth.KeyStore {
		return new(zeroSnapshots)
	}},
	{"LookupSnapshot returns a revoked record before it is", "Snapshots stay", func() auth.KeyStore {
		return new(earlySnapshots)
	}},

	watching("Watch says nothing", "Watch begins with ChangesSeen",
		func(ctx context.Context, m *auth.MemoryStore, notify func(auth.Change)) error { return wait(ctx) }),
	watching("Watch begins with a change", "Watch begins with ChangesSeen",
		func(ctx context.Context, m *auth.MemoryStore, notify func(auth.Change)) error {
			notify(auth.Change{Kind: auth.RecordChanged})
			return m.Watch(ctx, notify)
		}),
	watching("Watch reports what it made up", "Watch begins with ChangesSeen",
		func(ctx context.Context, m *auth.MemoryStore, notify func(auth.Change)) error {
			notify(auth.Change{Kind: auth.ChangesSeen})
			notify(auth.Change{Kind: 7})
			return wait(ctx)
		}),
	watching("Watch reports no changes", "Watch reports Insert", silent),
	watching("Watch reports a moment later", "Watch reports Revoke", late),
	watching("Watch reports the old record of Replace only", "Watch reports both records of Replace",
		func(ctx context.Context, m *auth.MemoryStore, notify func(auth.Change)) error {
			n := 0
			return m.Watch(ctx, func(c auth.Change) {
				if c.Kind == auth.RecordChanged {
					if n++; n == 1 {
						return
					}
				}
				notify(c)
			})
		}),
	{"Watch reports before the change", "Watch reports after the change", func() auth.KeyStore { return new(eager) }},
	{"Watch reports Touch", "Watch does not report Touch", func() auth.KeyStore { return new(chatty) }},
	{"the last to Watch is the only one", "Watch any number of times", func() auth.KeyStore { return new(single) }},
	watching("Watch returns nil", "Watch any number of times",
		func(ctx context.Context, m *auth.MemoryStore, notify func(auth.Change)) error {
			m.Watch(ctx, notify)
			return nil
		}),
	watching("Watch does not return", "Watch with a context that is done",
		func(_ context.Context, m *auth.MemoryStore, notify func(auth.Change)) error {
			return m.Watch(context.Background(), notify)
		}),
	watching("Watch returns at once", "Watch reports Insert",
		func(_ context.Context, m *auth.MemoryStore, notify func(auth.Change)) error {
			return errors.New("not today")
		}),
}

type optionalFault struct {
	fault  string
	caught string
	store  func() auth.KeyStore
}

type watcher struct {
	auth.MemoryStore
	watch func(ctx context.Context, m *auth.MemoryStore, notify func(auth.Change)) error
}

func (w *watcher) Watch(ctx context.Context, notify func(auth.Change)) error {
	return w.watch(ctx, &w.MemoryStore, notify)
}

func watching(fault, caught string,
	watch func(ctx context.Context, m *auth.MemoryStore, notify func(auth.Change)) error) optionalFault {
	return optionalFault{fault, caught, func() auth.KeyStore { return &watcher{watch: watch} }}
}

func wait(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func silent(ctx context.Context, _ *auth.MemoryStore, notify func(auth.Change)) error {
	notify(auth.Change{Kind: auth.ChangesSeen})
	return wait(ctx)
}

func late(ctx context.Context, m *auth.MemoryStore, notify func(auth.Change)) error {
	return m.Watch(ctx, func(c auth.Change) {
		if c.Kind == auth.RecordChanged {
			go func() {
				time.Sleep(10 * time.Millisecond)
				notify(c)
			}()
			return
		}
		notify(c)
	})
}

type staleSnapshots struct {
	auth.MemoryStore
	seen map[auth.Hash]auth.Snapshot
}

func (s *staleSnapshots) Snapshots() auth.Store { return s }

func (s *staleSnapshots) LookupSnapshot(ctx context.Context, hash auth.Hash) (auth.Snapshot, error) {
	if snapshot, ok := s.seen[hash]; ok {
		return snapshot, nil
	}
	snapshot, err := s.MemoryStore.LookupSnapshot(ctx, hash)
	if err == nil {
		s.seen[hash] = snapshot
	}
	return snapshot, err
}

type zeroSnapshots struct{ auth.MemoryStore }

func (s *zeroSnapshots) Snapshots() auth.Store { return s }

func (s *zeroSnapshots) LookupSnapshot(ctx context.Context, hash auth.Hash) (auth.Snapshot, error) {
	snapshot, _ := s.MemoryStore.LookupSnapshot(ctx, hash)
	return snapshot, nil
}

// A Snapshot itself cannot be changed; what a store puts into it can be wrong.
type earlySnapshots struct{ auth.MemoryStore }

func (s *earlySnapshots) Snapshots() auth.Store { return s }

func (s *earlySnapshots) LookupSnapshot(ctx context.Context, hash auth.Hash) (auth.Snapshot, error) {
	r, err := s.Lookup(ctx, hash)
	r.RevokedAt = time.Now()
	return auth.NewSnapshot(r), err
}

// eager reports a Revoke, takes its time and then makes it.
type eager struct {
	auth.MemoryStore
	notify func(auth.Change)
}

func (s *eager) Watch(ctx context.Context, notify func(auth.Change)) error {
	s.notify = notify
	return silent(ctx, &s.MemoryStore, notify)
}

func (s *eager) Revoke(ctx context.Context, id string, at time.Time) error {
	r, err := s.Get(ctx, id)
	if err != nil {
		return err
	}
	s.notify(auth.Change{Kind: auth.RecordChanged, Hash: r.Hash})
	time.Sleep(50 * time.Millisecond)
	return s.MemoryStore.Revoke(ctx, id, at)
}

type chatty struct {
	auth.MemoryStore
	notify func(auth.Change)
}

func (s *chatty) Watch(ctx context.Context, notify func(auth.Change)) error {
	s.notify = notify
	return s.MemoryStore.Watch(ctx, notify)
}

func (s *chatty) Touch(ctx context.Context, lastUsed map[string]time.Time) error {
	for id := range lastUsed {
		if r, err := s.Get(ctx, id); err == nil {
			s.notify(auth.Change{Kind: auth.RecordChanged, Hash: r.Hash})
		}
	}
	return s.MemoryStore.Touch(ctx, lastUsed)
}

// single ends the watch that there is when another begins, without a word.
type single struct {
	auth.MemoryStore
	cancel context.CancelFunc
}

func (s *single) Watch(ctx context.Context, notify func(auth.Change)) error {
	if s.cancel != nil {
		s.cancel()
	}
	inner, cancel := context.WithCancel(ctx)
	s.cancel = cancel
	s.MemoryStore.Watch(inner, func(c auth.Change) {
		if c.Kind != auth.ChangesLost {
			notify(c)
		}
	})
	return wait(ctx)
}
