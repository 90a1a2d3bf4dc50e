package keyapi

import (
	"cmp"
	"regexp"
	"strings"

	"github.com/insigner/auth"
)

// A detector finds keys where none belongs: in a path, a query, a name. They
// must reach no store, no log and no answer.
type detector struct {
	scheme auth.Scheme
	key    *regexp.Regexp // a key of the Scheme, anywhere in a text
}

func newDetector(s auth.Scheme) *detector {
	prefix := cmp.Or(s.Prefix, auth.DefaultPrefix)
	return &detector{s, regexp.MustCompile(regexp.QuoteMeta(prefix) + `[0-9A-Za-z_-]{44}`)}
}

// holdsKey reports whether text holds a key: one with the prefix anywhere, or as
// a word one that Scheme.AlsoAccept takes. An ID in the form that a Keyring makes
// is not a key, even if AlsoAccept takes it.
func (d *detector) holdsKey(text string) bool {
	if d.key.MatchString(text) {
		return true
	}
	for word := range strings.FieldsSeq(text) {
		if _, err := d.scheme.ParseKey(word); err == nil && !madeID.MatchString(word) {
			return true
		}
	}
	return false
}

// madeID is the form of an ID that a Keyring makes: a UUID of version 7 or 8.
var madeID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[78][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// longRun is what could be a key or a hash. An ID is shorter.
var longRun = regexp.MustCompile(`[A-Za-z0-9_+-]{40,}`)

const (
	struckOut   = "[redacted]"
	minStricken = 9 // bytes; a shorter text is no secret, and may be a part of any other
)

// redact strikes out of the error of a store what could be a key or a hash, and
// the texts of the client, which could be a part of one.
func redact(text string, ofClient ...string) string {
	for _, s := range ofClient {
		if len(s) >= minStricken && !madeID.MatchString(s) {
			text = strings.ReplaceAll(text, s, struckOut)
		}
	}
	return longRun.ReplaceAllString(text, struckOut)
}
