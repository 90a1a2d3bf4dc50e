package fanout

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Options configures [Publish] and [New]. A Secret is needed. All publishers and
// subscribers of an API get the same Options.
type Options struct {
	// Secret authenticates what is published. It has at least 32 bytes, which
	// nobody can guess: those that openssl rand -base64 32 prints, without the
	// line break. Somebody who has it, and may publish on the broker, can hide
	// revocations from all caches.
	Secret Secret

	// AlsoAccept are further secrets that are accepted, but not used for what
	// is sent. So a secret can be replaced: first add the new one here, in
	// every process; then make it the Secret, with the old one here; then
	// remove the old one.
	AlsoAccept []Secret

	// Realm names the API, as in auth.Options. APIs that share a broker need
	// different ones: messages of another are ignored, even if Prefix and
	// Secret are the same. If empty, "api".
	Realm string

	// Prefix is what the names of the two channels begin with. They end in
	// "changes" and "hellos". If empty, it is "auth:" + Realm + ":".
	Prefix string

	// LostAfter is how long a subscriber stays content without the proof that
	// it has missed nothing. Publishers send a beat five times in this time. It
	// is at least 50 milliseconds. If zero, 5 seconds.
	LostAfter time.Duration

	// WatchBound is how long the Watcher of a publisher may take to notice that
	// it hears of no changes any more. If zero, 15 seconds: those that
	// sqlstore/postgres takes by default, and 5 more. New does not use it:
	// publishers tell it to subscribers.
	WatchBound time.Duration

	// MaxLookups is how many lookups in the store the result of New makes at a
	// time. More wait for their turn, as long as their context permits. When
	// many instances lose their watch at once, this is what the database gets
	// from each of them. If zero, 4. Publish does not use it.
	MaxLookups int

	// Logger gets a line when the connection to the broker, or the watch of a
	// publisher, is lost and when it is back. If nil, it is slog.Default() at
	// the time of the call.
	Logger *slog.Logger
}

// minSecret is how many bytes a secret has at least.
const minSecret = 32

// beatsPerLost is how many beats are sent in LostAfter. Some may be late.
const beatsPerLost = 5

// settings are Options with their defaults, without the secrets.
type settings struct {
	changes, hellos *channel
	lostAfter       time.Duration
	every           time.Duration // between beats
	watchBound      time.Duration
	maxLookups      int
	logger          *slog.Logger
}

func (s *settings) log() *slog.Logger {
	if s.logger != nil {
		return s.logger
	}
	return slog.Default()
}

func (o *Options) settings() (*settings, error) {
	if o == nil {
		o = new(Options)
	}
	if len(o.Secret) == 0 {
		return nil, errors.New("Options.Secret is missing")
	}
	secrets := append([]Secret{o.Secret}, o.AlsoAccept...)
	for _, secret := range secrets {
		if len(secret) < minSecret {
			return nil, fmt.Errorf("a secret has %d bytes, and needs at least %d", len(secret), minSecret)
		}
	}
	s := &settings{lostAfter: o.LostAfter, watchBound: o.WatchBound, maxLookups: o.MaxLookups, logger: o.Logger}
	if s.lostAfter == 0 {
		s.lostAfter = 5 * time.Second
	}
	if s.watchBound == 0 {
		s.watchBound = 15 * time.Second
	}
	if s.maxLookups == 0 {
		s.maxLookups = 4
	}
	const minLostAfter, maxDuration = 50 * time.Millisecond, 24 * time.Hour
	switch {
	case s.lostAfter < minLostAfter || s.lostAfter > maxDuration:
		return nil, fmt.Errorf("Options.LostAfter is %v, and must be from %v to %v", o.LostAfter, minLostAfter, maxDuration)
	case s.watchBound < 0 || s.watchBound > maxDuration:
		return nil, fmt.Errorf("Options.WatchBound is %v, and must be from 0 to %v", o.WatchBound, maxDuration)
	case s.maxLookups < 0:
		return nil, fmt.Errorf("Options.MaxLookups %d is negative", o.MaxLookups)
	}
	s.every = s.lostAfter / beatsPerLost
	realm, prefix := o.Realm, o.Prefix
	if realm == "" {
		realm = "api"
	}
	if prefix == "" {
		prefix = "auth:" + realm + ":"
	}
	s.changes = newChannel(prefix+"changes", realm, secrets)
	s.hellos = newChannel(prefix+"hellos", realm, secrets)
	return s, nil
}

// A Secret is a shared secret. Package fmt, slog and JSON do not print it.
// However, they print a Secret in an unexported field of another struct.
type Secret []byte

const redacted = "[redacted]"

// String returns "[redacted]".
func (s Secret) String() string { return redacted }

// Format writes "[redacted]", for every verb but %p, %T and %w.
func (s Secret) Format(f fmt.State, verb rune) { io.WriteString(f, redacted) }

// LogValue returns "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[redacted]".
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
