package fanout

import (
	"crypto/rand"
	"time"

	"github.com/insigner/auth"
)

// EncodeAgain decodes a message and encodes it again.
func EncodeAgain(message []byte) (again []byte, ok bool) {
	f, ok := decode(message)
	if !ok {
		return nil, false
	}
	return f.encode(), true
}

// EncodeHelloAgain decodes a hello and encodes it again.
func EncodeHelloAgain(message []byte) (again []byte, ok bool) {
	n, ok := decodeHello(message)
	if !ok {
		return nil, false
	}
	return encodeHello(n), true
}

// LargestSealed returns how long the largest message of a publisher is, and how
// long one may be.
func LargestSealed() (largest, limit int) {
	f := &frame{hashes: make([]auth.Hash, maxHashes), nonces: make([]nonce, maxNonces)}
	return len(newChannel("x", "x", []Secret{make(Secret, minSecret)}).seal(f.encode())), maxSealed
}

// A Follower is a follower of one publisher, whose messages the test makes.
type Follower struct {
	f     *follower
	frame frame
	asked nonce
}

// NewFollower returns one.
func NewFollower(opts *Options, notify func(auth.Change)) *Follower {
	s, err := opts.settings()
	if err != nil {
		panic(err)
	}
	f := &Follower{f: newFollower(s, notify, func(auth.Hash) {})}
	rand.Read(f.frame.epoch[:])
	return f
}

// Hello makes the next message answer a hello that is sent after now.
func (f *Follower) Hello(now time.Time) { f.asked = f.f.challenge(now) }

// Receive takes the next message, with these times of the publisher.
func (f *Follower) Receive(now time.Time, publisher, proven time.Duration) {
	fr := f.frame
	f.frame.number++
	fr.number = f.frame.number
	fr.now, fr.proven, fr.every, fr.nonces = publisher, proven, f.f.every, []nonce{f.asked}
	f.f.receive(now, &fr)
}

// SetWall sets how the clock on the wall is read, until the returned function is
// called.
func SetWall(f func(time.Time) time.Time) (undo func()) {
	old := wall
	wall = f
	return func() { wall = old }
}
