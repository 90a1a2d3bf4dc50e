package fanout

import (
	"crypto/rand"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/insigner/auth"
)

// A follower decides whether a subscriber may believe that it has missed
// nothing. It does no I/O, starts nothing, and gets the time from its caller.
//
// It follows the stream of each publisher. What it knows of one is this: from
// stream.from on, it has received everything that the publisher sent, up to the
// time stream.proven at least. So of the changes that were committed after from,
// it has reported all that were committed before proven, less the bound of the
// publisher's Watcher. A stream is good while proven is less than LostAfter ago.
//
// A good stream is full if nothing is missing since WatchStarted. The watch is
// there while one stream is full. When it starts, each good stream is full. One
// that becomes good later is not: before its from, another publisher may have
// missed changes without knowing it yet. It becomes full when a full stream has
// proven that this was not so: when it is proven for a time that is the bound
// after from.
type follower struct {
	*settings
	notify  func(auth.Change)
	forget  func(auth.Hash) // called with a change that is not reported, since the watch is lost
	refresh time.Duration   // how old the last answer may be
	changed chan struct{}   // gets one when check is to be called again

	mu         sync.Mutex // held while notify is called
	streams    map[epoch]*stream
	challenges []challenge // the newest last
	watched    bool
	lost       bool      // it was watched before, and then no stream was fresh
	start      time.Time // when it is to be watched again; zero if no stream is fresh
	stopped    bool
	clocks     clocks
}

// clocks are what both clocks of the system showed at the same time.
type clocks struct{ monotonic, wall time.Time }

// A stream is what is known of an epoch of a publisher.
type stream struct {
	next   uint64        // the number of the next frame
	from   time.Time     // since when no frame is missing
	proven time.Time     // until when the store answered, and all changes that the publisher heard of have been received
	bound  time.Duration // how long it may take to notice that it hears of none
	full   bool

	// The publisher's time base was not before the subscriber's time asked.
	asked time.Time
	base  time.Duration
}

// A challenge is the nonce of a hello.
type challenge struct {
	nonce nonce
	asked time.Time // before it was sent
}

const (
	maxStreams    = 16
	maxChallenges = 8

	// maxDrift says how much faster one clock may run than another: one part in
	// so many. What is known of the time of a publisher is refreshed after at
	// most so many LostAfter, when that has cost little of it.
	maxDrift     = 1000
	refreshAfter = 24

	// checksPerLost is how often in LostAfter the clocks are compared.
	checksPerLost = 10
)

func newFollower(s *settings, notify func(auth.Change), forget func(auth.Hash)) *follower {
	most := refreshAfter * s.lostAfter
	return &follower{
		settings: s,
		notify:   notify,
		forget:   forget,
		refresh:  most/2 + mathrand.N(most/2), // so that those that started together do not ask together
		changed:  make(chan struct{}, 1),
		streams:  make(map[epoch]*stream),
		clocks:   readClocks(time.Now()),
	}
}

func readClocks(now time.Time) clocks { return clocks{now, wall(now)} }

// challenge returns a nonce for a hello that is sent after now.
func (f *follower) challenge(now time.Time) nonce {
	c := challenge{asked: now}
	rand.Read(c.nonce[:])
	f.mu.Lock()
	defer f.mu.Unlock()
	f.challenges = append(f.challenges, c)
	if n := len(f.challenges); n > maxChallenges {
		f.challenges = append([]challenge(nil), f.challenges[n-maxChallenges:]...)
	}
	return c.nonce
}

// answered returns when the newest hello was sent that the frame answers.
func (f *follower) answered(fr *frame) (asked time.Time, ok bool) {
	for _, c := range f.challenges {
		for i := range fr.nonces {
			if fr.nonces[i] == c.nonce {
				asked, ok = c.asked, true
			}
		}
	}
	return asked, ok
}

// An advice says whether a hello should be sent.
type advice int

const (
	noAdvice advice = iota
	sendHello
	noHello // one was answered
)

// receive takes a frame.
func (f *follower) receive(now time.Time, fr *frame) advice {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return noAdvice
	}
	f.expire(now) // first: a frame that was waiting is no excuse for the time before
	asked, answered := f.answered(fr)
	s := f.streams[fr.epoch]
	switch {
	case s == nil && (fr.end || len(f.streams) >= maxStreams):
		return noAdvice
	case s == nil && !answered: // anybody could have sent that again
		return sendHello
	case s == nil:
		s = &stream{from: now, asked: asked, base: fr.now}
		f.streams[fr.epoch] = s
		signal(f.changed)
	case fr.number < s.next:
		return noAdvice
	case fr.number > s.next: // some are missing
		s.full = false
		s.from = now
	}
	s.next = fr.number + 1
	s.bound = fr.bound
	if answered && asked.After(s.at(fr.now)) {
		s.asked, s.base = asked, fr.now
	}
	s.proven = s.at(fr.proven)
	late := now.Sub(s.at(fr.now))
	if fr.end || now.Sub(s.proven) >= f.lostAfter || late < 0 { // one of the future means that our clock stood still
		delete(f.streams, fr.epoch)
	}
	f.settle(now)
	f.report(fr.hashes)
	switch {
	case late > f.every || late < 0 || now.Sub(s.asked) > f.refresh:
		return sendHello
	case answered:
		return noHello
	}
	return noAdvice
}

// at returns a time of the subscriber that is not after the given one of the
// publisher.
func (s *stream) at(publisher time.Duration) time.Time {
	passed := publisher - s.base
	return s.asked.Add(passed - passed.Abs()/maxDrift)
}

func (f *follower) report(hashes []auth.Hash) {
	for _, hash := range hashes {
		if f.watched {
			f.notify(auth.Change{Kind: auth.RecordChanged, Hash: hash})
		} else {
			f.forget(hash)
		}
	}
}

// check notices what has not come. It returns after what time it is to be called
// again.
func (f *follower) check(now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expire(now)
	wait := f.lostAfter / checksPerLost
	if !f.start.IsZero() {
		wait = min(wait, f.start.Sub(now))
	}
	for _, s := range f.streams {
		wait = min(wait, s.proven.Add(f.lostAfter).Sub(now))
	}
	return max(wait, 0)
}

// expire forgets the streams that are not good any more.
func (f *follower) expire(now time.Time) {
	if f.slept(now) {
		clear(f.streams)
	}
	for e, s := range f.streams {
		if now.Sub(s.proven) >= f.lostAfter {
			delete(f.streams, e)
		}
	}
	f.settle(now)
}

// slept reports whether the machine was suspended, or its clock was set. The
// monotonic clock stands still during that, on some systems, so the clock on the
// wall is compared.
func (f *follower) slept(now time.Time) bool {
	passed, onTheWall := now.Sub(f.clocks.monotonic), wall(now).Sub(f.clocks.wall)
	slept := (onTheWall - passed).Abs() > f.lostAfter/checksPerLost
	// Clocks that are adjusted slowly differ after some time.
	if slept || passed > f.refresh {
		f.clocks = readClocks(now)
	}
	return slept
}

// wall returns the time without the reading of the monotonic clock. It is a
// variable for tests.
var wall = func(t time.Time) time.Time { return t.Round(0) }

// settle reports whether the watch is there, if that has changed.
func (f *follower) settle(now time.Time) {
	if f.stopped {
		return
	}
	if f.watched && !f.anyFull() {
		f.watched = false
		f.lost = !f.anyFresh(now)
		f.notify(auth.Change{Kind: auth.WatchLost})
	}
	if !f.watched && f.mayStart(now) {
		for _, s := range f.streams {
			s.full = true
		}
		f.watched, f.lost, f.start = true, false, time.Time{}
		f.notify(auth.Change{Kind: auth.WatchStarted})
	}
	f.promote()
}

// mayStart reports whether the watch may start. If all instances lost theirs,
// because the broker or all publishers were gone, they start again at different
// times within LostAfter. A cache reads each key again then, and the database
// should not get all of that together.
func (f *follower) mayStart(now time.Time) bool {
	switch {
	case !f.anyFresh(now):
		f.start = time.Time{}
		return false
	case !f.lost:
		return true
	case f.start.IsZero():
		f.start = now.Add(mathrand.N(f.lostAfter))
	}
	return !now.Before(f.start)
}

// anyFresh reports whether a stream is not only good, but proven by the last
// beats. When a broker fails, the streams stop to be good one after another,
// and to start with one that is about to stop would be in vain.
func (f *follower) anyFresh(now time.Time) bool {
	for _, s := range f.streams {
		if now.Sub(s.proven) < 3*f.every {
			return true
		}
	}
	return false
}

func (f *follower) anyFull() bool {
	for _, s := range f.streams {
		if s.full {
			return true
		}
	}
	return false
}

// promote makes streams full. LostAfter is for a publisher that was paused and
// has not read yet what has come in that time.
func (f *follower) promote() {
	for _, full := range f.streams {
		if !full.full {
			continue
		}
		for _, s := range f.streams {
			if !full.proven.Before(s.from.Add(full.bound + f.lostAfter)) {
				s.full = true
			}
		}
	}
}

// stop reports WatchLost if the watch is there. Nothing is reported afterwards.
func (f *follower) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watched {
		f.notify(auth.Change{Kind: auth.WatchLost})
	}
	f.watched, f.stopped = false, true
}
