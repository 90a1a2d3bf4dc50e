package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"strconv"
	"sync"

	"golang.org/x/crypto/blake2b"
)

// A Hash identifies a key in a [Store]. The key cannot be computed from it, and
// a hash that is presented as a key is refused.
type Hash [32]byte

// ParseHash parses 64 hex digits. The error does not quote them.
func ParseHash(s string) (Hash, error) {
	var h Hash
	err := h.UnmarshalText([]byte(s))
	return h, err
}

// String returns 64 lower-case hex digits. Keep them out of logs: somebody with
// a list of keys could look them up by their hashes.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Format writes what String returns, for every verb, so that a hash in an error
// has one spelling, which the log can hide.
func (h Hash) Format(f fmt.State, verb rune) { io.WriteString(f, h.String()) }

// MarshalText returns what String returns.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText parses 64 hex digits. On an error h is unchanged.
func (h *Hash) UnmarshalText(text []byte) error {
	var got Hash
	if len(text) != hex.EncodedLen(len(got)) {
		return errors.New("auth: a hash has 64 hex digits, not " + strconv.Itoa(len(text)) + " bytes")
	}
	if _, err := hex.Decode(got[:], text); err != nil {
		return errors.New("auth: a hash has 64 hex digits and no other character")
	}
	*h = got
	return nil
}

// LogValue returns the first 8 hex digits. They are enough to find a row, and
// too few to look up a key.
func (h Hash) LogValue() slog.Value { return slog.StringValue(hex.EncodeToString(h[:4]) + "…") }

// A Hasher maps the text of a whole key ("isk_…") to its [Hash]. It must be
// deterministic, safe for concurrent use, and one-way for input that cannot be
// guessed.
//
// It is called for each request, and a fast hash is right: a key has 264
// random bits, which nobody can guess. A slow hash (bcrypt, Argon2) protects
// passwords, which people choose. Here it would only let a client with made-up
// keys burn the server's time.
type Hasher func(key string) Hash

// BLAKE2b returns BLAKE2b-256 (RFC 7693), keyed with the pepper. If pepper is
// nil, it is unkeyed.
//
// A pepper is a secret that is not stored in the database, best 32 random
// bytes. With a pepper, somebody who steals the table cannot even tell whether
// a given key is in it. BLAKE2b panics if the pepper is longer than 64 bytes.
// It also panics if the pepper is empty but not nil: that is what an unset
// environment variable looks like.
func BLAKE2b(pepper []byte) Hasher {
	if pepper == nil {
		return blake2bSum
	}
	if len(pepper) == 0 {
		panic("auth.BLAKE2b: the pepper is empty; pass nil to hash without one")
	}
	if len(pepper) > blake2b.Size {
		panic("auth.BLAKE2b: the pepper has " + strconv.Itoa(len(pepper)) + " bytes; at most 64 (RFC 7693 section 2.1)")
	}
	pepper = append([]byte(nil), pepper...)
	return keyedHasher(func() hash.Hash {
		h, err := blake2b.New256(pepper)
		if err != nil {
			panic("auth.BLAKE2b: " + err.Error()) // its only error is a pepper over 64 bytes
		}
		return h
	})
}

// SHA256 returns SHA-256 (FIPS 180-4) if pepper is nil, for tables that
// already hold such hashes. Otherwise it returns HMAC-SHA-256 (RFC 2104), keyed
// with the pepper, which may have any length. It panics if the pepper is empty
// but not nil: that is what an unset environment variable looks like.
func SHA256(pepper []byte) Hasher {
	if pepper == nil {
		return sha256Sum
	}
	if len(pepper) == 0 {
		panic("auth.SHA256: the pepper is empty; pass nil to hash without one")
	}
	pepper = append([]byte(nil), pepper...)
	return keyedHasher(func() hash.Hash { return hmac.New(sha256.New, pepper) })
}

const (
	randomBytes  = 33 // of crypto/rand in a key: 264 bits, which need no padding in base64
	randomLen    = 44 // the same in base64url (RFC 4648 section 5)
	maxPrefixLen = 32
	maxKeyLen    = 512 // of any credential that is hashed
)

// keyChar holds the base64url alphabet (RFC 4648 section 5).
var keyChar = func() (t [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
		t[c] = true
	}
	return t
}()

func allKeyChars(s string) bool {
	for i := range len(s) {
		if !keyChar[s[i]] {
			return false
		}
	}
	return true
}

// stackKeyLen is the length of keys that are hashed without an allocation: the
// longest prefix, then 44 characters.
const stackKeyLen = maxPrefixLen + randomLen

func blake2bSum(key string) Hash {
	var buf [stackKeyLen]byte
	if len(key) > len(buf) {
		return blake2b.Sum256([]byte(key))
	}
	return blake2b.Sum256(buf[:copy(buf[:], key)])
}

func sha256Sum(key string) Hash {
	var buf [stackKeyLen]byte
	if len(key) > len(buf) {
		return sha256.Sum256([]byte(key))
	}
	return sha256.Sum256(buf[:copy(buf[:], key)])
}

// keyedHasher keeps states of a keyed hash for reuse, since making one
// allocates and hashes the pepper.
func keyedHasher(newHash func() hash.Hash) Hasher {
	type state struct {
		hash hash.Hash
		in   []byte
		out  Hash
	}
	pool := &sync.Pool{New: func() any { return &state{hash: newHash(), in: make([]byte, 0, stackKeyLen)} }}
	return func(key string) Hash {
		s := pool.Get().(*state)
		s.in = append(s.in[:0], key...)
		s.hash.Write(s.in)
		s.hash.Sum(s.out[:0])
		sum := s.out
		clear(s.in) // the pool holds no keys
		s.hash.Reset()
		pool.Put(s)
		return sum
	}
}
