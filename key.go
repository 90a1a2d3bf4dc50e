package auth

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"unicode/utf8"
)

// A Key is a secret API key. [Scheme.NewKey] makes one, [Scheme.ParseKey]
// parses one.
//
// It redacts itself. Under every fmt verb, in slog, JSON and text it shows its
// [Key.Hint], also as an unexported field, through a pointer, in a slice or in
// a map. Reflection does not reach its text. [Key.Reveal] is the only way to
// read the secret.
//
// The zero Key is no key: Reveal and Hint return "". Do not compare two Keys
// with ==, which only reports whether one is a copy of the other.
type Key struct {
	secret *secret

	// prefixLen is how much of the text its Hint shows. It is not part of
	// secret: a struct of a single pointer is stored in an interface as that
	// pointer, and packages that dump unexported fields with package unsafe
	// take it for an address of the struct and crash.
	prefixLen int
}

// A secret holds the text in a closure. Packages fmt and reflect print a func
// as an address and cannot look inside.
type secret struct{ reveal func() string }

func newKey(text string, prefixLen int) Key {
	return Key{&secret{func() string { return text }}, prefixLen}
}

// Reveal returns the whole key, as a client sends it. Show it once, to the
// person who created the key, and store it nowhere.
func (k Key) Reveal() string {
	if k.secret == nil {
		return ""
	}
	return k.secret.reveal()
}

// Hint returns the prefix and the last four characters, "isk_…U1v2". It is
// enough for the owner to tell keys apart. It is safe to store and show, since
// 240 unknown bits remain.
//
// For a key that only Scheme.AlsoAccept takes, the prefix is shown if it is
// that of the Scheme. For a key of fewer than 24 characters the Hint is "…".
func (k Key) Hint() string {
	text := k.Reveal()
	if text == "" {
		return ""
	}
	const shown = 4
	secret := text[k.prefixLen:]
	if utf8.RuneCountInString(text) < 24 || utf8.RuneCountInString(secret) < 3*shown {
		return "…"
	}
	end := secret[len(secret)-shown:]
	for i := range len(end) {
		if end[i] <= ' ' || end[i] > '~' { // only what can be printed anywhere
			return "…"
		}
	}
	return text[:k.prefixLen] + "…" + end
}

// String returns the Hint.
func (k Key) String() string { return k.Hint() }

// Format writes the Hint, for every verb.
func (k Key) Format(f fmt.State, verb rune) { io.WriteString(f, k.Hint()) }

// LogValue returns the Hint.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.Hint()) }

// MarshalJSON returns the Hint as a JSON string.
func (k Key) MarshalJSON() ([]byte, error) { return json.Marshal(k.Hint()) }

// MarshalText returns the Hint.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.Hint()), nil }
