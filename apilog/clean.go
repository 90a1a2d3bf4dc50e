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
	struckOut  = "[key]"
	keyLen     = 44 // after the prefix
	minKeyLen  = 24 // of a part of one, where a word begins
	maxForeign = 512
)

// What separates the fields of a text, for keys that Scheme.AlsoAccept takes.
// Such a key can be several fields in a row: base64 has "/" and "=".
const (
	separators       = ` ?&;,"'()<>[]{}`
	weakSeparators   = "/=:"
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
	for i := 0; i < 2 && isHex(c.prefix[i]); i++ {
		c.tails = append(c.tails, c.prefix[i+1:])
	}
	return c
}

// clean returns text as valid UTF-8 without NUL and without keys, and at most
// limit bytes of it. A text that needs no change costs no allocation.
func (c *cleaner) clean(text string, limit int) string {
	var tails []string
	plain := unescape(text)
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
		struck, more := replace(text, limit, func(from, until int) (int, int) {
			return c.findForeign(text, from, until)
		})
		text, found = struck, found || more
	}
	return text, found
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
// characters have to follow the prefix where a word begins. Inside a word it
// has to be a whole key.
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
		for end = i; end < len(text) && isKeyChar(text[end]); {
			end++
		}
		if n := end - i; n >= keyLen || n >= least && (start == 0 || !isAlphanumeric(text[start-1])) {
			return start, end
		}
	}
}

// findForeign returns where the next key that the Scheme also accepts is, if it
// begins before until, or -1.
func (c *cleaner) findForeign(text string, from, until int) (start, end int) {
	for start = from; start < until; {
		var ends [maxForeignFields]int
		n, next := 0, 0
		for i := start; n < len(ends) && i <= start+maxForeign; i++ {
			if i < len(text) && strings.IndexByte(separators+weakSeparators, text[i]) < 0 {
				continue
			}
			ends[n] = i
			n++
			if next == 0 {
				next = i + 1
			}
			if i == len(text) || strings.IndexByte(separators, text[i]) >= 0 {
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

func isAlphanumeric(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z'
}

func isKeyChar(b byte) bool { return isAlphanumeric(b) || b == '-' || b == '_' }

// unescape undoes percent-encoding (RFC 3986 section 2.1), also of what was
// encoded several times. It leaves a percent sign that encodes nothing. It
// takes time in proportion to the length.
func unescape(text string) string {
	first := 0
	for ; ; first++ {
		i := strings.IndexByte(text[first:], '%')
		if i < 0 {
			return text
		}
		if first += i; isEscape(text[first:]) {
			break
		}
	}
	out := append(make([]byte, 0, len(text)), text[:first]...)
	for i := first; i < len(text); i++ {
		out = append(out, text[i])
		for n := len(out); n >= 3 && isEscape(out[n-3:]); n = len(out) {
			out = append(out[:n-3], unhex(out[n-2])<<4|unhex(out[n-1]))
		}
	}
	return string(out)
}

func isEscape[T string | []byte](s T) bool {
	return len(s) >= 3 && s[0] == '%' && isHex(s[1]) && isHex(s[2])
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
