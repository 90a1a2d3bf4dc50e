package apilog

import (
	"cmp"
	"strconv"
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
	maxError     = 1024 // in the log of the host
	maxIdentity  = 1024 // of KeyID and Owner, which are never cut off
)

// What looks like a key, and what replaces it. Of a key that is cut off, so few
// characters that nobody can guess the rest may stay.
const (
	struckOut  = "[key]"
	keyLen     = 44 // after the prefix
	minKeyLen  = 24 // of a part of one, where a word begins
	inWordLen  = 40 // of a part of one, inside a word
	maxGaps    = 4  // in a key that a terminal or a mail has wrapped
	maxGap     = 3  // bytes of one
	maxForeign = 512
)

// What separates the fields of a text, for keys that Scheme.AlsoAccept takes:
// these and control characters. A weak separator can also be in a key, so such a
// key can be several fields in a row: base64 has "/" and "=".
const (
	separators       = ` ?&;,"'()<>[]{}`
	weakSeparators   = "/=:.|!*~`@#$\\^+%"
	maxForeignFields = 8
)

// A cleaner makes texts of clients fit to be stored.
type cleaner struct {
	prefix     string
	tails      []string // what decoding can leave of the prefix: of "%ab_", "_"
	alsoAccept func(string) bool
}

func newCleaner(s auth.Scheme) *cleaner {
	c := &cleaner{prefix: cmp.Or(s.Prefix, auth.DefaultPrefix), alsoAccept: s.AlsoAccept}
	for i := 0; i < min(4, len(c.prefix)-1) && isHex(c.prefix[i]); i++ {
		c.tails = append(c.tails, c.prefix[i+1:])
	}
	return c
}

// clean returns text as valid UTF-8 without NUL and without keys, and at most
// limit bytes of it. A text that needs no change costs no allocation.
func (c *cleaner) clean(text string, limit int) string {
	var tails []string
	plain := unescape(text)
	if c.alsoAccept != nil && len(plain) < len(text) { // which may have changed such a key
		text, _ = c.strikeForeign(text, limit)
		plain = unescape(text)
	}
	if len(plain) < len(text) {
		tails = c.tails
	}
	if struck, found := c.strike(plain, limit, tails); found {
		text = struck
	} else if len(plain) < len(text) {
		text, _ = c.strike(text, limit, nil)
	}
	whole := len(text) <= limit
	if !whole {
		text = text[:min(len(text), limit+utf8.UTFMax)] // so that mend has little to do
	}
	text = mend(text)
	if whole && len(text) <= limit {
		return text
	}
	end := min(limit, len(text))
	for end < len(text) && !utf8.RuneStart(text[end]) {
		end--
	}
	return strings.Clone(text[:end])
}

// mend returns text as valid UTF-8 without NUL.
func mend(text string) string {
	if utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 {
		return text
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// strike returns text without the keys that begin in the first limit bytes of
// the result, and whether there were any.
func (c *cleaner) strike(text string, limit int, tails []string) (struck string, found bool) {
	text, found = replace(text, len(text), func(from, _ int) (int, int) {
		return findKey(text, from, c.prefix, minKeyLen)
	})
	for _, tail := range tails {
		struck, more := replace(text, len(text), func(from, _ int) (int, int) {
			return findKey(text, from, tail, keyLen)
		})
		text, found = struck, found || more
	}
	if c.alsoAccept != nil { // at last, since only this pass ends at the limit
		struck, more := c.strikeForeign(text, limit)
		text, found = struck, found || more
	}
	return text, found
}

func (c *cleaner) strikeForeign(text string, limit int) (struck string, found bool) {
	return replace(text, limit, func(from, until int) (int, int) { return c.findForeign(text, from, until) })
}

// replace replaces what find finds from one position on and until another, as
// long as the result is shorter than limit.
func replace(text string, limit int, find func(from, until int) (start, end int)) (_ string, found bool) {
	var out strings.Builder
	done := 0 // what of text is in out
	for out.Len() < limit {
		start, end := find(done, min(done+limit-out.Len(), len(text)))
		if start < 0 {
			break
		}
		out.WriteString(text[done:start] + struckOut)
		done, found = end, true
	}
	if !found {
		return text, false
	}
	out.WriteString(text[done:])
	return out.String(), true
}

// findKey returns where the next key in text is, or -1. Least is how many
// characters have to follow the prefix where a word begins. Inside a word it has
// to be nearly a whole key.
func findKey(text string, from int, prefix string, least int) (start, end int) {
	for i := from; ; {
		j := strings.IndexByte(text[i:], '_') // which ends each prefix
		if j < 0 {
			return -1, -1
		}
		i += j + 1
		start = i - len(prefix)
		if start < from || !strings.EqualFold(text[start:i], prefix) {
			continue
		}
		if start > 0 && isAlphanumeric(text[start-1]) {
			least = max(least, inWordLen)
		}
		if end = endOfKey(text, i, least); end > 0 {
			return start, end
		}
	}
}

// endOfKey returns where the key that begins at from ends, or 0 without a key.
// It has least characters in a row, or is a whole key with gaps.
func endOfKey(text string, from, least int) (end int) {
	n := 0
	for end = from; end < len(text) && isKeyChar(text[end]); end++ {
		n++
	}
	if n >= least {
		return end
	}
	for range maxGaps {
		gap := end
		for gap < len(text) && gap-end < maxGap && isGap(text[gap]) {
			gap++
		}
		if gap == end {
			return 0
		}
		for end = gap; end < len(text) && isKeyChar(text[end]); end++ {
			n++
		}
		if n >= keyLen {
			return end
		}
	}
	return 0
}

// isGap reports whether a byte can be in a key that was wrapped, or that could
// not be decoded.
func isGap(b byte) bool { return b <= ' ' || b == 0x7f || b == '%' || b >= 0x80 }

// findForeign returns where the next key that the Scheme also accepts is, if it
// begins before until, or -1.
func (c *cleaner) findForeign(text string, from, until int) (start, end int) {
	for start = from; start < until; {
		var ends [maxForeignFields]int
		n, next := 0, 0
		for i := start; n < len(ends) && i <= start+maxForeign; i++ {
			if i < len(text) && !isControl(text[i]) && strings.IndexByte(separators+weakSeparators, text[i]) < 0 {
				continue
			}
			ends[n] = i
			n++
			if next == 0 {
				next = i + 1
			}
			if i == len(text) || isControl(text[i]) || strings.IndexByte(separators, text[i]) >= 0 {
				break
			}
		}
		for n--; n >= 0; n-- { // the longest first
			if ends[n] > start && c.accepted(text[start:ends[n]]) {
				return start, ends[n]
			}
		}
		start = cmp.Or(next, start+maxForeign)
	}
	return -1, -1
}

// accepted asks the host. A panic counts as yes.
func (c *cleaner) accepted(key string) (yes bool) {
	defer func() {
		if recover() != nil {
			yes = true
		}
	}()
	return c.alsoAccept(key)
}

func isControl(b byte) bool { return b < ' ' || b == 0x7f }

func isAlphanumeric(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z'
}

func isKeyChar(b byte) bool { return isAlphanumeric(b) || b == '-' || b == '_' }

// unescape undoes percent-encoding (RFC 3986 section 2.1), and what JSON, HTML and
// programming languages have for characters of ASCII: \u005f, %u005f, \x5f, &#95;
// and &#x5f;. It does so also of what was encoded several times. It leaves what
// encodes nothing. It takes time in proportion to the length.
func unescape(text string) string {
	if !strings.ContainsAny(text, `%\&`) {
		return text
	}
	out := make([]byte, 0, len(text))
	for i := range len(text) {
		out = append(out, text[i])
		for {
			b, n := escapeAtEnd(out)
			if n == 0 {
				break
			}
			out = append(out[:len(out)-n], b)
		}
	}
	if len(out) == len(text) {
		return text
	}
	return string(out)
}

// escapeAtEnd returns the byte that the last n bytes of s encode, or 0 of them.
func escapeAtEnd(s []byte) (b byte, n int) {
	last := len(s) - 1
	if s[last] == ';' {
		return reference(s)
	}
	if !isHex(s[last]) || last < 2 || !isHex(s[last-1]) {
		return 0, 0
	}
	b = unhex(s[last-1])<<4 | unhex(s[last])
	switch {
	case s[last-2] == '%':
		return b, 3
	case b >= 0x80 || last < 3:
		return 0, 0
	case s[last-2]|0x20 == 'x' && s[last-3] == '\\':
		return b, 4
	case last >= 5 && s[last-2] == '0' && s[last-3] == '0' && s[last-4]|0x20 == 'u' && (s[last-5] == '\\' || s[last-5] == '%'):
		return b, 6
	}
	return 0, 0
}

// reference is escapeAtEnd for the character references of HTML.
func reference(s []byte) (b byte, n int) {
	const longest = len("&#x000005f;")
	start := len(s) - 2
	for ; start >= 0 && len(s)-start <= longest && isAlphanumeric(s[start]); start-- {
	}
	if start < 1 || s[start] != '#' || s[start-1] != '&' {
		return 0, 0
	}
	digits, base := s[start+1:len(s)-1], 10
	if len(digits) > 0 && digits[0]|0x20 == 'x' {
		digits, base = digits[1:], 16
	}
	code, err := strconv.ParseUint(string(digits), base, 7)
	if err != nil {
		return 0, 0
	}
	return byte(code), len(s) - start + 1
}

func isHex(b byte) bool { return b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'f' }

func unhex(b byte) byte {
	if b <= '9' {
		return b - '0'
	}
	return b | 0x20 - 'a' + 10
}

// identity returns a key ID or an owner as it is stored. If no store can keep
// it, it is not known: cut off, it could be that of somebody else.
func identity(s string) string {
	if len(s) > maxIdentity || !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return ""
	}
	return s
}
