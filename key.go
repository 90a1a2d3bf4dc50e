package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/blake2b"
)

// Prefix is what a key of the published format starts with (inSigner API documentation, "Key format").
const Prefix = "isk_"

const (
	secretBytes  = 33 // of crypto/rand: 264 bits, and no padding in base64
	secretLen    = 44 // the same in base64url (RFC 4648 section 5)
	maxPrefixLen = 32
	maxKeyLen    = maxPrefixLen + secretLen
)

// A Key is a secret API key: a prefix, then 44 characters of A-Z a-z 0-9 - and _.
//
// It redacts itself: under every fmt verb, in slog, JSON and text it shows its [Key.Hint], and it keeps its text
// where reflection does not reach, so that it stays hidden as an unexported field, behind a pointer, in a slice or
// in a map as well. [Key.Reveal] is the only way to read it.
//
// The zero Key is no key: Reveal and Hint return "". Two Keys are not meant to be compared: == tells only whether
// one is a copy of the other.
type Key struct{ secret *secret }

// secret holds the text in a closure: fmt shows a nested pointer as an address, and packages that follow pointers
// by reflection find a func there and stop.
type secret struct {
	reveal func() (text string, prefixLen int)
}

func newSecret(text string, prefixLen int) Key {
	return Key{&secret{func() (string, int) { return text, prefixLen }}}
}

// NewKey makes a key of the published format from 33 bytes of crypto/rand.
func NewKey() Key { return KeyFormat{}.NewKey() }

// ParseKey reads a key of the published format. The error is [ErrInvalidFormat] if s does not start with [Prefix],
// and [ErrInvalidKey] if anything but 44 characters of A-Z a-z 0-9 - and _ follows. Neither quotes s.
func ParseKey(s string) (Key, error) { return KeyFormat{}.ParseKey(s) }

// A KeyFormat says what keys look like: a prefix, then 44 characters. The zero KeyFormat is the published one,
// "isk_"; another API sets its own, such as "acme_live_".
type KeyFormat struct {
	// Prefix is 1 to 32 characters of A-Z a-z 0-9 _ and -, the last of them _. Empty: [Prefix].
	// Everything that takes a KeyFormat panics on another.
	Prefix string
}

// NewKey makes a key from 33 bytes of crypto/rand.
func (f KeyFormat) NewKey() Key {
	prefix := f.check("auth.KeyFormat.NewKey")
	var b [secretBytes]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program if the system has no randomness
	return newSecret(prefix+base64.RawURLEncoding.EncodeToString(b[:]), len(prefix))
}

// ParseKey reads a key. The error is [ErrInvalidFormat] if s does not start with the prefix, and [ErrInvalidKey] if
// anything but 44 characters of A-Z a-z 0-9 - and _ follows. Neither quotes s.
func (f KeyFormat) ParseKey(s string) (Key, error) {
	prefix := f.check("auth.KeyFormat.ParseKey")
	if err := checkKey(prefix, s); err != nil {
		return Key{}, err
	}
	return newSecret(s, len(prefix)), nil
}

// check returns the prefix, or panics in the name of call.
func (f KeyFormat) check(call string) string {
	if f.Prefix == "" {
		return Prefix
	}
	if len(f.Prefix) > maxPrefixLen || f.Prefix[len(f.Prefix)-1] != '_' || !allKeyChars(f.Prefix) {
		panic(call + ": KeyFormat prefix " + quote(f.Prefix) +
			" is not 1 to 32 characters of A-Z a-z 0-9 _ -, ending in _")
	}
	return f.Prefix
}

// checkKey is the second and the third decision: the prefix, then exactly 44 characters.
func checkKey(prefix, s string) error {
	if !strings.HasPrefix(s, prefix) {
		return ErrInvalidFormat
	}
	if len(s) != len(prefix)+secretLen || !allKeyChars(s[len(prefix):]) {
		return ErrInvalidKey
	}
	return nil
}

// keyChar holds the base64url alphabet of RFC 4648 section 5.
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

// Reveal returns the whole key, the text that a client sends. Show it once, to the one who asked for it.
func (k Key) Reveal() string {
	if k.secret == nil {
		return ""
	}
	text, _ := k.secret.reveal()
	return text
}

// Hint returns the prefix and the last four characters, "isk_…U1v2": enough for its owner to tell keys apart, and
// safe to store and show, for 240 unknown bits remain.
func (k Key) Hint() string {
	if k.secret == nil {
		return ""
	}
	text, prefixLen := k.secret.reveal()
	return text[:prefixLen] + "…" + text[len(text)-4:]
}

// String returns the Hint.
func (k Key) String() string { return k.Hint() }

// Format writes the Hint, whatever the verb.
func (k Key) Format(f fmt.State, verb rune) { io.WriteString(f, k.Hint()) }

// LogValue returns the Hint.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.Hint()) }

// MarshalJSON returns the Hint as a JSON string.
func (k Key) MarshalJSON() ([]byte, error) { return json.Marshal(k.Hint()) }

// MarshalText returns the Hint.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.Hint()), nil }

// A Hash identifies a key in a [Store]. A key cannot be had from its hash, and a hash presented as a key is refused.
type Hash [32]byte

// ParseHash reads 64 hex digits. The error does not quote them.
func ParseHash(s string) (Hash, error) {
	var h Hash
	err := h.UnmarshalText([]byte(s))
	return h, err
}

// String returns 64 lower-case hex digits. Keep them out of logs: a hash there is one leak away from a look-up table.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Format writes what String does, whatever the verb: "%x" of a Stringer would be the hex digits of the hex digits, and
// a hash that an error quotes in yet another spelling is hard to find and hide.
func (h Hash) Format(f fmt.State, verb rune) { io.WriteString(f, h.String()) }

// MarshalText returns what String does.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads 64 hex digits. On an error h stays as it was.
func (h *Hash) UnmarshalText(text []byte) error {
	var got Hash
	if len(text) != hex.EncodedLen(len(got)) {
		return errors.New("auth: a hash is 64 hex digits, not " + strconv.Itoa(len(text)) + " bytes")
	}
	if _, err := hex.Decode(got[:], text); err != nil {
		return errors.New("auth: a hash is 64 hex digits; there is another character among these")
	}
	*h = got
	return nil
}

// LogValue returns the first 8 hex digits: enough to find the row, too few to look the key up.
func (h Hash) LogValue() slog.Value { return slog.StringValue(hex.EncodeToString(h[:4]) + "…") }

// A Hasher maps the text of a whole key ("isk_…") to its [Hash]. It must be deterministic, safe for concurrent use,
// and one-way for input that cannot be guessed. It is called on the request path: a fast hash is right here, for a
// key has 264 random bits; a slow one (bcrypt, Argon2) protects guessable passwords, and would let anybody with a
// made-up key burn this server's time.
type Hasher func(key string) Hash

// BLAKE2b returns keyed BLAKE2b-256 (RFC 7693), with the pepper as its key. A nil pepper: unkeyed.
//
// A pepper is a secret that the database does not hold, 32 random bytes for choice: with it a stolen table does not
// even tell whether a given key is in it. It panics if the pepper is longer than 64 bytes, and if it is empty but
// not nil, which is what an environment variable that is not set looks like.
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

func blake2bSum(key string) Hash {
	var buf [maxKeyLen]byte // on the stack; a key always fits
	if len(key) > len(buf) {
		return blake2b.Sum256([]byte(key))
	}
	return blake2b.Sum256(buf[:copy(buf[:], key)])
}

// SHA256 is plain SHA-256 (FIPS 180-4), for tables that already hold it. It is a [Hasher] itself.
func SHA256(key string) Hash {
	var buf [maxKeyLen]byte
	if len(key) > len(buf) {
		return sha256.Sum256([]byte(key))
	}
	return sha256.Sum256(buf[:copy(buf[:], key)])
}

// HMACSHA256 returns HMAC-SHA-256 (RFC 2104) with the pepper as its key, of any length. It panics if the pepper is
// empty: without one, use [SHA256].
func HMACSHA256(pepper []byte) Hasher {
	if len(pepper) == 0 {
		panic("auth.HMACSHA256: the pepper is empty; use auth.SHA256 to hash without one")
	}
	pepper = append([]byte(nil), pepper...)
	return keyedHasher(func() hash.Hash { return hmac.New(sha256.New, pepper) })
}

// keyedHasher keeps states of a keyed hash for reuse, since making one allocates and hashes the pepper.
func keyedHasher(newHash func() hash.Hash) Hasher {
	type state struct {
		hash hash.Hash
		in   []byte
		out  Hash
	}
	pool := &sync.Pool{New: func() any { return &state{hash: newHash(), in: make([]byte, 0, maxKeyLen)} }}
	return func(key string) Hash {
		s := pool.Get().(*state)
		s.in = append(s.in[:0], key...)
		s.hash.Write(s.in)
		s.hash.Sum(s.out[:0])
		sum := s.out
		clear(s.in) // what lies in the pool is not the key
		s.hash.Reset()
		pool.Put(s)
		return sum
	}
}

// quote quotes a programmer's mistake for a panic or an error, unless it could be a key in the wrong place.
func quote(s string) string {
	run := 0
	for i := range len(s) {
		if run++; !keyChar[s[i]] {
			run = 0
		}
		if run >= secretLen-4 {
			return "(not shown: " + strconv.Itoa(len(s)) + " bytes that may hold a key)"
		}
	}
	if len(s) > 100 {
		return strconv.Quote(s[:100]) + "…"
	}
	return strconv.Quote(s)
}
