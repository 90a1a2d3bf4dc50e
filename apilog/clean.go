package apilog

import (
	"cmp"
	"strings"
	"unicode/utf8"

	"github.com/insigner/auth"
)

// The longest texts of an entry, in bytes.
const (
	maxMethod    = 32
	maxPath      = 1024 // and of a route
	maxCode      = 64
	maxRequestID = 128
	maxUserAgent = 512
	maxIdentity  = 1024 // of KeyID and Owner, which are never cut off
)

// What looks like a key, and what replaces it. Of a key that is cut off, so few
// characters that nobody can guess the rest may stay.
const (
	struckOut    = "[key]"
	keyLen       = 44 // after the prefix
	minKeyLen    = 24 // of a part of one, where a word begins
	maxForeign   = 512
	fieldsOfPath = "/?&=;,: "
)

// A cleaner makes texts of clients fit to be stored.
type cleaner struct {
	prefix     string // in lower case
	alsoAccept func(string) bool
}

func newCleaner(s auth.Scheme) *cleaner {
	return &cleaner{strings.ToLower(cmp.Or(s.Prefix, auth.DefaultPrefix)), s.AlsoAccept}
}

// clean returns text as valid UTF-8 without NUL and without keys, and at most
// limit bytes of it. A text that needs no change costs no allocation.
func (c *cleaner) clean(text string, limit int) string {
	if c.suspect(text) {
		if plain := unescape(text); c.strike(&plain) {
			text = plain
		}
	}
	if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
		text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	}
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return strings.Clone(text[:limit])
}

// suspect reports whether text can hold a key.
func (c *cleaner) suspect(text string) bool {
	if len(text) < minKeyLen && c.alsoAccept == nil {
		return false
	}
	return c.alsoAccept != nil || strings.IndexByte(text, '%') >= 0 || c.find(text) >= 0
}

// find returns where the prefix of keys begins in text, in any letter case, or
// -1.
func (c *cleaner) find(text string) int {
	first := c.prefix[0]
	for i := 0; i+len(c.prefix) <= len(text); i++ {
		if lower(text[i]) == first && strings.EqualFold(text[i:i+len(c.prefix)], c.prefix) {
			return i
		}
	}
	return -1
}

func lower(b byte) byte {
	if b >= 'A' && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}

// strike replaces the keys in text. It reports whether there were any.
func (c *cleaner) strike(text *string) (found bool) {
	var out strings.Builder
	rest, before := *text, byte(0)
	for {
		i := c.find(rest)
		if i < 0 {
			break
		}
		if i > 0 {
			before = rest[i-1]
		}
		end := i + len(c.prefix)
		for end < len(rest) && isKeyChar(rest[end]) {
			end++
		}
		n := end - i - len(c.prefix)
		if n >= keyLen || n >= minKeyLen && !isAlphanumeric(before) {
			out.WriteString(rest[:i] + struckOut)
			found = true
		} else {
			end = i + 1 // another one may begin within this
			out.WriteString(rest[:end])
		}
		before = rest[end-1]
		rest = rest[end:]
	}
	out.WriteString(rest)
	struck := out.String()
	if c.alsoAccept != nil {
		struck, found = c.strikeForeign(struck, found)
	}
	if found {
		*text = struck
	}
	return found
}

// strikeForeign replaces the fields of text that the Scheme also accepts.
func (c *cleaner) strikeForeign(text string, found bool) (string, bool) {
	var out strings.Builder
	for text != "" {
		end := strings.IndexAny(text, fieldsOfPath)
		if end < 0 {
			end = len(text)
		}
		field := text[:end]
		if field != "" && len(field) <= maxForeign && field != struckOut && c.alsoAccept(field) {
			field, found = struckOut, true
		}
		out.WriteString(field)
		if end < len(text) {
			out.WriteByte(text[end])
			end++
		}
		text = text[end:]
	}
	return out.String(), found
}

func isAlphanumeric(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z'
}

func isKeyChar(b byte) bool { return isAlphanumeric(b) || b == '-' || b == '_' }

// unescape undoes percent-encoding (RFC 3986 section 2.1), also of what was
// encoded several times. It leaves a percent sign that encodes nothing. It
// takes time in proportion to the length.
func unescape(text string) string {
	if strings.IndexByte(text, '%') < 0 {
		return text
	}
	out := make([]byte, 0, len(text))
	for i := range len(text) {
		out = append(out, text[i])
		for n := len(out); n >= 3 && out[n-3] == '%' && isHex(out[n-2]) && isHex(out[n-1]); n = len(out) {
			out = append(out[:n-3], unhex(out[n-2])<<4|unhex(out[n-1]))
		}
	}
	return string(out)
}

func isHex(b byte) bool { return b >= '0' && b <= '9' || lower(b) >= 'a' && lower(b) <= 'f' }

func unhex(b byte) byte {
	if b <= '9' {
		return b - '0'
	}
	return lower(b) - 'a' + 10
}

// identity returns a key ID or an owner as it is stored. If no store can keep
// it, it is not known: cut off, it could be that of somebody else.
func identity(s string) string {
	if len(s) > maxIdentity || !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return ""
	}
	return s
}
