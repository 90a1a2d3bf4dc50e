package auth

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// DefaultPrefix starts the keys of the inSigner API (inSigner API
// documentation, "Key format").
const DefaultPrefix = "isk_"

// A Scheme describes the keys of one API: what they look like, how they are
// hashed, and which scopes exist. The [Authenticator] that checks keys and the
// keyring.Manager that creates them need the same Scheme: with different
// prefixes or peppers, every new key would be refused.
//
// The zero Scheme is that of the inSigner API. [Scheme.Validate] tells whether
// a Scheme can work; the other methods panic if it cannot.
type Scheme struct {
	// Prefix starts each key. It has 1 to 32 characters of A-Z a-z 0-9 _ and -,
	// and ends in _. If empty, DefaultPrefix is used.
	Prefix string

	// Hashers hash keys. A new key is stored under the hash of the first one. A
	// lookup tries each in order until the store knows a hash, so each costs an
	// unknown key one lookup. More than one is for a transition: to a new
	// pepper, or from a table with other hashes. If empty, BLAKE2b(nil) is
	// used.
	Hashers []Hasher

	// AlsoAccept, if not nil, reports whether a key of another shape may be
	// looked up: one that was issued before this library came. It must check
	// the whole shape, and be safe for concurrent use. It sees no key longer
	// than 512 bytes.
	AlsoAccept func(key string) bool

	// Catalog, if not nil, lists the scopes that exist. Then no key is created
	// with another scope. If a route requires one, the Authenticator's Require
	// panics at startup, and the package's Require answers 500 and logs it.
	Catalog Catalog
}

// Validate returns an error that says which field cannot work, or nil. [New]
// and keyring.NewManager panic with it.
func (s Scheme) Validate() error {
	if p := s.Prefix; p != "" && (len(p) > maxPrefixLen || p[len(p)-1] != '_' || !allKeyChars(p)) {
		return fmt.Errorf("auth: the prefix %s is not 1 to 32 characters of A-Z a-z 0-9 _ -, ending in _", quote(p))
	}
	if slices.ContainsFunc(s.Hashers, func(h Hasher) bool { return h == nil }) {
		return errors.New("auth: one of the hashers is nil")
	}
	for _, info := range s.Catalog {
		if !info.Scope.valid() {
			return fmt.Errorf("auth: the catalog lists %s, which is not a valid scope", quote(string(info.Scope)))
		}
	}
	return nil
}

// must returns s with its defaults filled in. It panics, naming the call, if s
// cannot work.
func (s Scheme) must(call string) Scheme {
	if err := s.Validate(); err != nil {
		panic(call + strings.TrimPrefix(err.Error(), "auth"))
	}
	if s.Prefix == "" {
		s.Prefix = DefaultPrefix
	}
	if len(s.Hashers) == 0 {
		s.Hashers = defaultHashers
	}
	return s
}

var defaultHashers = []Hasher{BLAKE2b(nil)}

// NewKey returns a new key: the prefix and 33 bytes of crypto/rand in 44
// characters.
func (s Scheme) NewKey() Key {
	s = s.must("auth.Scheme.NewKey")
	var b [randomBytes]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program if the system has no randomness
	return newKey(s.Prefix+base64.RawURLEncoding.EncodeToString(b[:]), len(s.Prefix))
}

// ParseKey parses a whole key: the prefix and 44 characters of A-Z a-z 0-9 -
// and _, or what AlsoAccept takes. The error is [ErrInvalidFormat] if text does
// not start with the prefix, and [ErrInvalidKey] if it does but is malformed.
// Neither quotes text.
func (s Scheme) ParseKey(text string) (Key, error) {
	s = s.must("auth.Scheme.ParseKey")
	if err := s.check(text); err != nil {
		return Key{}, err
	}
	prefixLen := 0
	if strings.HasPrefix(text, s.Prefix) {
		prefixLen = len(s.Prefix)
	}
	return newKey(text, prefixLen), nil
}

// Valid reports whether key is the prefix and 44 characters of A-Z a-z 0-9 -
// and _. It does not ask AlsoAccept. The Valid of one Scheme can be the
// AlsoAccept of another.
func (s Scheme) Valid(key string) bool {
	s = s.must("auth.Scheme.Valid")
	return s.wellFormed(key)
}

// Hashes returns the hashes of a key, one for each of the Hashers. A new key is
// stored under the first. For the zero Key it returns nil.
func (s Scheme) Hashes(key Key) []Hash {
	s = s.must("auth.Scheme.Hashes")
	text := key.Reveal()
	if text == "" {
		return nil
	}
	hashes := make([]Hash, len(s.Hashers))
	for i, hasher := range s.Hashers {
		hashes[i] = hasher(text)
	}
	return hashes
}

// check decides about the shape of a credential, before it is hashed. The
// defaults of s are filled in.
func (s *Scheme) check(credential string) error {
	if s.wellFormed(credential) || s.accepted(credential) {
		return nil
	}
	if strings.HasPrefix(credential, s.Prefix) {
		return ErrInvalidKey
	}
	return ErrInvalidFormat
}

func (s *Scheme) wellFormed(credential string) bool {
	return len(credential) == len(s.Prefix)+randomLen && strings.HasPrefix(credential, s.Prefix) &&
		allKeyChars(credential[len(s.Prefix):])
}

func (s *Scheme) accepted(credential string) bool {
	return s.AlsoAccept != nil && credential != "" && len(credential) <= maxKeyLen && s.AlsoAccept(credential)
}
