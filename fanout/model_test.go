package fanout_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/fanout"
	"github.com/insigner/auth/keyring"
)

// A network is a broker that loses, repeats, delays and reorders messages, that
// freezes and restarts, and to which anybody can send again what was sent
// before. Each party has a link of its own, which can be cut or fall silent.
type network struct {
	random *rand.Rand // guarded by mu

	mu       sync.Mutex
	subs     map[string][]*inbox
	frozen   chan struct{} // closed when the broker thaws; nil if it is not frozen
	recorded []recorded
	perfect  bool
}

type recorded struct {
	channel string
	message []byte
}

// An inbox is one subscription.
type inbox struct {
	link    *link
	receive chan []byte
	broken  chan struct{} // closed when the broker ends the connection
}

// A link is the Conn of one party.
type link struct {
	net    *network
	silent bool          // guarded by net.mu; what is sent is lost without a sign
	cut    chan struct{} // closed when its connections are cut; guarded by net.mu
	down   bool          // it cannot connect; guarded by net.mu
}

var errCut = errors.New("connection lost")

func (n *network) newLink() *link { return &link{net: n, cut: make(chan struct{})} }

func (l *link) Publish(ctx context.Context, channel string, message []byte) error {
	n := l.net
	n.mu.Lock()
	frozen, silent, down := n.frozen, l.silent, l.down
	n.mu.Unlock()
	if down {
		return errCut
	}
	if silent {
		<-ctx.Done()
		return ctx.Err()
	}
	if frozen != nil {
		// The broker gets the message when it thaws, whether the client waits or
		// not.
		go func() { <-frozen; n.deliver(channel, message) }()
		select {
		case <-frozen:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	n.deliver(channel, message)
	return nil
}

// deliver gives a message to each inbox: late, not at all, or twice.
func (n *network) deliver(channel string, message []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.recorded) < 5000 {
		n.recorded = append(n.recorded, recorded{channel, slices.Clone(message)})
	}
	for _, box := range n.subs[channel] {
		copies := 1
		delay := time.Duration(n.random.IntN(int(3 * time.Millisecond)))
		if !n.perfect {
			switch n.random.IntN(400) {
			case 0:
				copies = 0
			case 1, 2:
				copies = 2
			case 3:
				delay += time.Duration(n.random.IntN(int(3 * time.Second)))
			}
		}
		for range copies {
			go func() {
				time.Sleep(delay)
				n.put(box, message)
			}()
		}
	}
}

// put puts a message into an inbox, once the broker is not frozen.
func (n *network) put(box *inbox, message []byte) {
	for {
		n.mu.Lock()
		frozen, silent := n.frozen, box.link.silent
		n.mu.Unlock()
		if frozen == nil {
			if silent {
				return
			}
			break
		}
		<-frozen
	}
	select {
	case box.receive <- slices.Clone(message):
	case <-box.broken:
	}
}

func (l *link) Subscribe(ctx context.Context, channel string, ready func(), receive func([]byte)) error {
	n := l.net
	n.mu.Lock()
	if l.down {
		n.mu.Unlock()
		return errCut
	}
	cut := l.cut
	box := &inbox{link: l, receive: make(chan []byte), broken: make(chan struct{})}
	if n.subs == nil {
		n.subs = make(map[string][]*inbox)
	}
	n.subs[channel] = append(n.subs[channel], box)
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.subs[channel] = slices.DeleteFunc(n.subs[channel], func(b *inbox) bool { return b == box })
		select {
		case <-box.broken:
		default:
			close(box.broken)
		}
	}()
	ready()
	for {
		select {
		case m := <-box.receive:
			receive(m)
		case <-box.broken:
			return errCut
		case <-cut:
			return errCut
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (n *network) freeze() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen == nil {
		n.frozen = make(chan struct{})
	}
}

func (n *network) thaw() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen != nil {
		close(n.frozen)
		n.frozen = nil
	}
}

// restart ends all connections.
func (n *network) restart() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, boxes := range n.subs {
		for _, box := range boxes {
			select {
			case <-box.broken:
			default:
				close(box.broken)
			}
		}
	}
}

// replay sends something again that was sent before, or garbage.
func (n *network) replay() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.recorded) == 0 {
		return
	}
	r := n.recorded[n.random.IntN(len(n.recorded))]
	message := slices.Clone(r.message)
	switch n.random.IntN(4) {
	case 0:
		message[n.random.IntN(len(message))] ^= 1 << n.random.IntN(8)
	case 1:
		message = message[:n.random.IntN(len(message))]
	}
	for _, box := range n.subs[r.channel] {
		go n.put(box, message)
	}
}

func (l *link) set(down, silent bool) {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	l.down, l.silent = down, silent
	if down {
		close(l.cut)
		l.cut = make(chan struct{})
	}
}

// A database holds what was committed when.
type database struct {
	keyring.MemoryStore            // for Lookup
	mu                  sync.Mutex // held while sources report
	sources             []*source

	log      sync.Mutex
	commits  []commit
	answered time.Time     // when the newest lookup of a source began that was answered
	frozen   chan struct{} // closed when it thaws; nil if it is not frozen
}

// freeze makes it frozen, or not. While frozen, it answers nothing and commits nothing.
func (d *database) freeze(on bool) {
	d.log.Lock()
	defer d.log.Unlock()
	switch {
	case on && d.frozen == nil:
		d.frozen = make(chan struct{})
	case !on && d.frozen != nil:
		close(d.frozen)
		d.frozen = nil
	}
}

// silence returns for how long no lookup of a source was answered.
func (d *database) silence() time.Duration {
	d.log.Lock()
	defer d.log.Unlock()
	return time.Since(d.answered)
}

// list returns what was committed. It must not be modified.
func (d *database) list() []commit {
	d.log.Lock()
	defer d.log.Unlock()
	return d.commits
}

type commit struct {
	hash auth.Hash
	at   time.Time
}

func (d *database) commit() auth.Hash {
	d.mu.Lock()
	defer d.mu.Unlock()
	var hash auth.Hash
	d.log.Lock()
	if d.frozen != nil {
		d.log.Unlock()
		return hash
	}
	binary.BigEndian.PutUint64(hash[:], uint64(len(d.commits)))
	d.commits = append(d.commits, commit{hash, time.Now()})
	d.log.Unlock()
	for _, s := range d.sources {
		s.report(hash)
	}
	return hash
}

// A source is the Watcher of a publisher. It can stop to hear of changes, and
// notices that after its bound. If it is cut off, it gets no answer either.
type source struct {
	*database
	watch   sync.Mutex
	notify  func(auth.Change) // nil if there is no watch
	deaf    bool
	cut     chan struct{}      // closed when it is not cut off any more; nil if it is not
	trouble chan time.Duration // makes it deaf, and lost for that long
}

// Lookup looks a hash up that is not there. A lookup that was under way when the
// source was cut off or the database froze gets its answer afterwards.
func (s *source) Lookup(ctx context.Context, _ auth.Hash) (*auth.Record, error) {
	begin := time.Now()
	time.Sleep(rand.N(20 * time.Millisecond))
	s.watch.Lock()
	cut := s.cut
	s.watch.Unlock()
	s.log.Lock()
	frozen := s.frozen
	s.log.Unlock()
	for _, wait := range []chan struct{}{cut, frozen} {
		if wait != nil {
			select {
			case <-wait:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	s.log.Lock()
	defer s.log.Unlock()
	if begin.After(s.answered) {
		s.answered = begin
	}
	return nil, auth.ErrNotFound
}

// cutOff cuts it off for a while. That it is lost is noticed after its bound, and
// it is back when it is not cut off any more.
func (s *source) cutOff(d time.Duration) {
	cut := make(chan struct{})
	s.watch.Lock()
	s.cut = cut
	s.watch.Unlock()
	time.AfterFunc(d, func() {
		s.watch.Lock()
		defer s.watch.Unlock()
		s.cut = nil
		close(cut)
	})
	select {
	case s.trouble <- max(0, d-modelBound):
	default:
	}
}

func (d *database) newSource() *source {
	s := &source{database: d, trouble: make(chan time.Duration)}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sources = append(d.sources, s)
	return s
}

func (s *source) report(hash auth.Hash) {
	s.watch.Lock()
	defer s.watch.Unlock()
	if s.notify != nil && !s.deaf {
		s.notify(auth.Change{Kind: auth.RecordChanged, Hash: hash})
	}
}

func (s *source) set(notify func(auth.Change), kind auth.ChangeKind, deaf bool) {
	s.watch.Lock()
	defer s.watch.Unlock()
	if kind != 0 && notify != nil {
		notify(auth.Change{Kind: kind})
	}
	s.notify, s.deaf = notify, deaf
	if kind == auth.WatchLost {
		s.notify = nil
	}
}

func (s *source) Watch(ctx context.Context, notify func(auth.Change)) error {
	defer s.set(notify, auth.WatchLost, false)
	for {
		s.set(notify, auth.WatchStarted, false)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case lost := <-s.trouble:
			s.set(notify, 0, true)
			time.Sleep(modelBound - time.Millisecond)
			s.set(notify, auth.WatchLost, false)
			time.Sleep(lost)
		}
	}
}

const (
	modelLost  = 500 * time.Millisecond
	modelBound = 2 * time.Second
)

// An observer checks what is reported to a subscriber.
type observer struct {
	t       *testing.T
	name    string
	db      *database
	mu      sync.Mutex
	watched bool
	since   time.Time
	heard   map[auth.Hash]bool
	checked int // so many of the commits need no check any more
	spells  int // how often the watch started
}

func (o *observer) notify(c auth.Change) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch c.Kind {
	case auth.WatchStarted:
		if o.watched {
			o.t.Errorf("%s: WatchStarted twice", o.name)
		}
		o.watched, o.since, o.heard, o.checked = true, time.Now(), make(map[auth.Hash]bool), len(o.db.list())
		o.spells++
	case auth.WatchLost:
		if !o.watched {
			o.t.Errorf("%s: WatchLost, but the watch was not there", o.name)
		}
		o.checkLocked()
		o.watched = false
	case auth.RecordChanged:
		if !o.watched {
			o.t.Errorf("%s: RecordChanged, but the watch was not there", o.name)
		}
		o.heard[c.Hash] = true
	}
}

// check fails if a change is not reported that was committed too long ago, or if
// no publisher had an answer from the database for too long.
func (o *observer) check() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.checkLocked()
}

func (o *observer) checkLocked() {
	if !o.watched {
		return
	}
	if silence := o.db.silence(); silence > modelLost {
		o.t.Errorf("%s: the watch is there, though the database has answered nothing for %v", o.name, silence)
	}
	for _, c := range o.db.list()[o.checked:] {
		late := time.Since(c.at)
		if late <= modelLost+modelBound {
			return
		}
		o.checked++
		if c.at.After(o.since) && !o.heard[c.hash] {
			o.t.Errorf("%s: a change is not reported after %v, though the watch is there since %v",
				o.name, late, time.Since(o.since))
		}
	}
}

// In no schedule of failures does a subscriber that believes itself watched miss
// a change for longer than LostAfter and WatchBound together, nor stay so for
// longer than LostAfter if the database answers no publisher.
func TestModel(t *testing.T) {
	for _, seed := range []uint64{0, 1, rand.Uint64()} {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runModel(t, seed) })
		})
	}
}

func runModel(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	net := &network{random: rand.New(rand.NewPCG(seed, 2))}
	db := new(database)
	opts := &fanout.Options{Secret: secret, Logger: quiet, LostAfter: modelLost, WatchBound: modelBound}
	type process struct {
		link   *link
		source *source
		end    func()
	}
	start := func(run func(ctx context.Context, l *link) error) (p *process) {
		ctx, cancel := context.WithCancel(context.Background())
		p = &process{link: net.newLink()}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := run(ctx, p.link); !errors.Is(err, context.Canceled) {
				t.Errorf("a party ended with %v", err)
			}
		}()
		p.end = func() { cancel(); <-done }
		return p
	}
	publisher := func() *process {
		source := db.newSource()
		p := start(func(ctx context.Context, l *link) error { return fanout.Publish(ctx, source, l, opts) })
		p.source = source
		return p
	}
	var publishers, subscribers []*process
	var observers []*observer
	for i := range 3 {
		o := &observer{t: t, name: fmt.Sprint("subscriber ", i), db: db}
		observers = append(observers, o)
		subscribers = append(subscribers, start(func(ctx context.Context, l *link) error {
			return fanout.New(db, l, opts).Watch(ctx, o.notify)
		}))
	}
	for range 2 {
		publishers = append(publishers, publisher())
	}
	later := func(f func()) { time.AfterFunc(time.Duration(random.IntN(int(6*time.Second))), f) }
	any := func() *process {
		all := append(slices.Clone(publishers), subscribers...)
		return all[random.IntN(len(all))]
	}
	check := func() {
		for _, o := range observers {
			o.check()
		}
	}
	const steps = 2000
	for range steps {
		time.Sleep(time.Duration(random.IntN(int(100 * time.Millisecond))))
		check()
		switch random.IntN(120) {
		case 0:
			net.freeze()
			later(net.thaw)
		case 1:
			net.restart()
		case 2:
			l := any().link
			l.set(true, false)
			later(func() { l.set(false, false) })
		case 3:
			l := any().link
			l.set(false, true)
			later(func() { l.set(true, false); l.set(false, false) })
		case 4:
			i := random.IntN(len(publishers))
			if random.IntN(2) == 0 {
				publishers[i].link.set(true, false) // it is killed, and says nothing
			}
			publishers[i].end()
			publishers[i] = publisher()
		case 5:
			if len(publishers) < 3 {
				publishers = append(publishers, publisher())
			}
		case 6:
			if len(publishers) > 1 {
				publishers[0].end()
				publishers = publishers[1:]
			}
		case 7, 8:
			select {
			case publishers[random.IntN(len(publishers))].source.trouble <- time.Duration(random.IntN(int(time.Second))):
			default:
			}
		case 9:
			for range 300 {
				db.commit()
			}
		case 20:
			db.freeze(true)
			later(func() { db.freeze(false) })
		case 21:
			publishers[random.IntN(len(publishers))].source.cutOff(time.Duration(random.IntN(int(6 * time.Second))))
		case 22:
			for _, p := range publishers {
				p.source.cutOff(time.Duration(random.IntN(int(6 * time.Second))))
			}
		case 10, 11, 12, 13, 14, 15, 16, 17, 18, 19:
			net.replay()
		default:
			db.commit()
		}
	}
	// When nothing fails any more, everything is reported.
	net.mu.Lock()
	net.perfect = true
	net.mu.Unlock()
	db.freeze(false)
	time.Sleep(time.Minute)
	check()
	hash := db.commit()
	time.Sleep(time.Second)
	for i, o := range observers {
		o.mu.Lock()
		if !o.heard[hash] {
			t.Errorf("%s: a change is not reported when all is well again", o.name)
		}
		t.Logf("%s: the watch started %d times", o.name, o.spells)
		o.mu.Unlock()
		subscribers[i].end()
	}
	for _, p := range publishers {
		p.end()
	}
	time.Sleep(10 * time.Second) // until everything has been delivered
}
