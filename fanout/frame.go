package fanout

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/insigner/auth"
)

// A channel is the name of one, with the keys that authenticate its messages.
// The first signs, all verify.
type channel struct {
	name string
	keys []Secret
}

const tagLen = sha256.Size

// newChannel derives a key for the channel from each secret. So a message of one
// channel or realm is not accepted by another.
func newChannel(name, realm string, secrets []Secret) *channel {
	c := &channel{name: name}
	for _, secret := range secrets {
		c.keys = append(c.keys, tag(secret, fmt.Appendf(nil, "github.com/insigner/auth/fanout 1 %q %q", realm, name)))
	}
	return c
}

// tag returns HMAC-SHA-256 (RFC 2104).
func tag(key Secret, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)
}

// seal appends what authenticates the message.
func (c *channel) seal(message []byte) []byte { return append(message, tag(c.keys[0], message)...) }

// open returns a message without what authenticates it, and whether it is
// authentic.
func (c *channel) open(sealed []byte) (message []byte, ok bool) {
	if len(sealed) < tagLen || len(sealed) > maxSealed {
		return nil, false
	}
	message, given := sealed[:len(sealed)-tagLen], sealed[len(sealed)-tagLen:]
	for _, key := range c.keys {
		if hmac.Equal(given, tag(key, message)) {
			return message, true
		}
	}
	return nil, false
}

type (
	epoch [16]byte // of a publisher; a new one whenever its watch starts
	nonce [16]byte // of a hello
)

// A frame is one message of a publisher. Each is also a beat.
type frame struct {
	epoch  epoch
	number uint64 // 1, 2, 3, … in the epoch

	// now is the time when the frame was made, and proven is an earlier one. All
	// changes that the publisher heard of by then are in this frame or an earlier
	// one, and a lookup that began then was answered by the store.
	now, proven time.Duration

	end    bool          // the last one of the epoch
	every  time.Duration // between beats
	bound  time.Duration // Options.WatchBound
	hashes []auth.Hash   // of records that were changed
	nonces []nonce       // of hellos that came before now
}

const (
	version    = 1
	headLen    = 1 + 1 + 16 + 5*8 + 2 + 2
	maxHashes  = 128 // in a frame
	maxNonces  = 256
	maxSealed  = 9000
	helloLen   = 1 + 16
	endsStream = 1 // a flag
)

func (f *frame) encode() []byte {
	b := make([]byte, 0, headLen+32*len(f.hashes)+16*len(f.nonces)+tagLen)
	var flags byte
	if f.end {
		flags = endsStream
	}
	b = append(b, version, flags)
	b = append(b, f.epoch[:]...)
	b = binary.BigEndian.AppendUint64(b, f.number)
	for _, d := range []time.Duration{f.now, f.proven, f.every, f.bound} {
		b = binary.BigEndian.AppendUint64(b, uint64(d))
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.hashes)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.nonces)))
	for i := range f.hashes {
		b = append(b, f.hashes[i][:]...)
	}
	for i := range f.nonces {
		b = append(b, f.nonces[i][:]...)
	}
	return b
}

// decode returns the frame in a message, and whether it is one.
func decode(b []byte) (f *frame, ok bool) {
	if len(b) < headLen || b[0] != version || b[1]&^endsStream != 0 {
		return nil, false
	}
	f = &frame{end: b[1]&endsStream != 0}
	b = b[2:]
	b = b[copy(f.epoch[:], b):]
	f.number = binary.BigEndian.Uint64(b)
	for i, d := range []*time.Duration{&f.now, &f.proven, &f.every, &f.bound} {
		*d = time.Duration(binary.BigEndian.Uint64(b[8+8*i:]))
		if *d < 0 {
			return nil, false
		}
	}
	b = b[5*8:]
	if f.proven > f.now {
		return nil, false
	}
	hashes, nonces := int(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[2:]))
	b = b[4:]
	if len(b) != 32*hashes+16*nonces {
		return nil, false
	}
	f.hashes, f.nonces = make([]auth.Hash, hashes), make([]nonce, nonces)
	for i := range f.hashes {
		b = b[copy(f.hashes[i][:], b):]
	}
	for i := range f.nonces {
		b = b[copy(f.nonces[i][:], b):]
	}
	return f, true
}

func encodeHello(n nonce) []byte { return append([]byte{version}, n[:]...) }

func decodeHello(b []byte) (n nonce, ok bool) {
	if len(b) != helloLen || b[0] != version {
		return n, false
	}
	return nonce(b[1:]), true
}
