package auth

import (
	"encoding/base64"
	"encoding/hex"
	"math/bits"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// redact returns text, the error of a store, without key and without hash, in
// each way in which fmt, drivers, URLs and JSON spell them. It also strikes out
// what has the shape of another whole key or hash. Everything else stays as it
// is, since an operator needs it: socket paths, host names, addresses, queries.
//
// If there is nothing to strike out, it allocates nothing, since it runs for
// each request during an outage.
func redact(text, prefix, key string, hash Hash) string {
	var keyBuf, keyBase64 [maxKeyLen * 3 / 2]byte // on the stack
	var digits, hashBase64, digitsBase64 [3 * len(hash)]byte
	keyBytes, hexDigits := append(keyBuf[:0], key...), hex.AppendEncode(digits[:0], hash[:])
	secrets := [...]struct {
		bytes, base64 []byte
		label         string
	}{
		{keyBytes, base64.RawStdEncoding.AppendEncode(keyBase64[:0], keyBytes), "[key]"},
		{hash[:], base64.RawStdEncoding.AppendEncode(hashBase64[:0], hash[:]), "[hash]"},
		{hexDigits, base64.RawStdEncoding.AppendEncode(digitsBase64[:0], hexDigits), "[hash]"},
	}
	var spellings [len(secrets) * len(forms)]spelling
	var starts [256]uint32 // which of the spellings can start with a byte
	for i, s := range secrets {
		for j, form := range forms {
			k := i*len(forms) + j
			spellings[k] = spelling{form, s.bytes, s.label}
			if form == asBase64 {
				spellings[k].secret = s.base64
			}
			spellings[k].markStarts(&starts, 1<<k)
		}
	}

	var out []byte
	done := 0 // what of text is in out
	for i := 0; i < len(text); {
		n, label := shape(text, i, prefix)
		for set := starts[text[i]]; n == 0 && set != 0; set &= set - 1 {
			s := &spellings[bits.TrailingZeros32(set)]
			n, label = s.length(text[i:]), s.label
			if label == "[key]" && len(key) < shortKeyLen && !alone(text, i, n, "") {
				n = 0
			}
		}
		if n == 0 {
			i++
			continue
		}
		out = append(append(out, text[done:i]...), label...)
		i += n
		done = i
	}
	if done == 0 {
		return text
	}
	return string(append(out, text[done:]...))
}

// A shorter key is not struck out inside a word, where it may be a part of what
// an operator needs. Only Scheme.AlsoAccept takes such keys.
const shortKeyLen = 24

// shape returns the length of another whole key or hash at text[i], or 0.
func shape(text string, i int, prefix string) (n int, label string) {
	rest := text[i:]
	n = len(prefix) + randomLen
	if len(rest) >= n && strings.HasPrefix(rest, prefix) && allKeyChars(rest[:n]) && alone(text, i, n, "-_") {
		return n, "[key]"
	}
	n = 2 * len(Hash{})
	if _, digits := number(rest, 16); digits == n && alone(text, i, n, "") {
		return n, "[hash]"
	}
	return 0, ""
}

// alone reports whether neither a letter nor a digit nor one of others is next
// to the n bytes at text[i].
func alone(text string, i, n int, others string) bool {
	joins := func(c byte) bool { return digit(c) < 36 || strings.IndexByte(others, c) >= 0 }
	if i+n < len(text) && joins(text[i+n]) {
		return false
	}
	return i == 0 || !joins(text[i-1]) || escapeEnd.MatchString(text[max(i-12, 0):i])
}

// escapeEnd matches text that ends with an escape, or with the mark of a
// hexadecimal number. The letter or digit at its end belongs to that.
var escapeEnd = regexp.MustCompile(
	`(\\[abfnrtvx]|0[xX]|%[0-9A-Fa-f]{2}|\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\[[0-9;]*m)$`)

// A spelling is a way to write a secret.
type spelling struct {
	form   int
	secret []byte
	label  string // what replaces it
}

const (
	asText    = iota // the bytes as they are, or escaped as in URLs, in JSON and by %q
	spaced           // the same with a space between two, as by %c
	asBase64         // like asText, in either alphabet; the secret is the base64
	inHex            // two digits for each byte
	asNumbers        // plus the base: a number for each byte
)

var forms = [...]int{asText, spaced, asBase64, inHex, asNumbers + 2, asNumbers + 8, asNumbers + 10, asNumbers + 16}

// base returns the base of inHex and asNumbers.
func (s *spelling) base() int {
	if s.form == inHex {
		return 16
	}
	return s.form - asNumbers
}

// markStarts sets bit in starts for each byte that s can start with, and for
// some more. So length is called for few of them.
func (s *spelling) markStarts(starts *[256]uint32, bit uint32) {
	if len(s.secret) == 0 {
		return
	}
	first := s.secret[0]
	others := "%\\+-_\xc2\xc3\xef" // escapes, the other alphabet, Latin-1 in UTF-8, a replacement
	if s.form >= inHex {
		for first >= byte(s.base()) {
			first /= byte(s.base())
		}
		first, others = "0123456789abcdef"[first], "0"
	}
	starts[first] |= bit
	starts[first&^0x20] |= bit // upper case
	for i := range len(others) {
		starts[others[i]] |= bit
	}
}

// length returns the length of s at the start of text, or 0.
func (s *spelling) length(text string) int {
	if n := len(s.secret); s.form == asText && len(text) >= n && text[:n] == string(s.secret) {
		return n // also if the bytes look like an escape
	}
	n := 0
	for i := 0; i < len(s.secret); {
		if i > 0 {
			between, ok := s.gap(text[n:])
			if !ok {
				return 0
			}
			n += between
		}
		if n == len(text) {
			return 0
		}
		length, used := s.next(text[n:], s.secret[i:])
		if length == 0 {
			return 0
		}
		n += length
		i += used
	}
	return n
}

// gap returns the length of what stands between two bytes of the secret at the
// start of text, and whether it may stand there.
func (s *spelling) gap(text string) (n int, ok bool) {
	switch s.form {
	case asText, asBase64, inHex:
		return 0, true
	case spaced:
		return 1, strings.HasPrefix(text, " ")
	}
	for n < len(text) && n < 8 && (digit(text[n]) > 36 || strings.IndexByte("xXuU", text[n]) >= 0) {
		n++
	}
	return n, n > 0
}

// next returns the length of the first of the bytes at the start of text, or 0,
// and how many bytes that is: a rune may be escaped as one.
func (s *spelling) next(text string, bytes []byte) (length, used int) {
	b := int(bytes[0])
	switch s.form {
	case asBase64:
		if text[0] == '-' && b == '+' || text[0] == '_' && b == '/' {
			return 1, 1
		}
		return nextOfText(text, bytes)
	case spaced:
		if b >= utf8.RuneSelf { // as Latin-1, in UTF-8
			if strings.HasPrefix(text, string(rune(b))) {
				return 2, 1
			}
			return 0, 0
		}
		return nextOfText(text, bytes)
	case asText:
		return nextOfText(text, bytes)
	case inHex:
		if value, n := number(head(text, 2), 16); n == 2 && value == b {
			return 2, 1
		}
		return 0, 0
	}
	mark := 0
	if len(text) > 2 && text[0] == '0' && digit(text[1]) >= s.base() && strings.IndexByte("bBoOxX", text[1]) >= 0 {
		mark = 2
	}
	if value, n := number(text[mark:], s.base()); n > 0 && value == b {
		return mark + n, 1
	}
	return 0, 0
}

func nextOfText(text string, bytes []byte) (length, used int) {
	b := int(bytes[0])
	r, size := utf8.DecodeRune(bytes)
	switch {
	case b == '\\' && strings.HasPrefix(text, `\\`):
		return 2, 1
	case text[0] == '\\':
		if length, value := unescape(text); value == int(r) {
			return length, size
		} else if value == b {
			return length, 1
		}
	case text[0] == '%':
		if value, n := number(head(text[1:], 2), 16); n == 2 && value == b {
			return 3, 1
		}
	}
	switch {
	case strings.HasPrefix(text, string(bytes[:size])):
		return size, size
	case b == ' ' && text[0] == '+':
		return 1, 1
	case r == utf8.RuneError && strings.HasPrefix(text, "\ufffd"):
		return len("\ufffd"), 1
	}
	return 0, 0
}

// unescape returns the length of the escape at the start of text, and its
// value. Text starts with a backslash, or with several if it is escaped again.
func unescape(text string) (length, value int) {
	n := 1
	for n < len(text) && n < 4 && text[n] == '\\' {
		n++
	}
	if n == len(text) {
		return 0, -1
	}
	width, base := 0, 16
	switch c := text[n]; {
	case c == 'x':
		n, width = n+1, 2
	case c == 'u':
		n, width = n+1, 4
	case c == 'U':
		n, width = n+1, 8
	case digit(c) < 8:
		width, base = 3, 8
	default:
		if i := strings.IndexByte("abfnrtv", c); i >= 0 {
			c = "\a\b\f\n\r\t\v"[i]
		}
		return n + 1, int(c)
	}
	value, digits := number(head(text[n:], width), base)
	if digits < width {
		return 0, -1
	}
	return n + width, value
}

// number returns the value of the digits at the start of text, and how many
// there are. It reads at most one more than a hash has, and cuts a value that
// is too large for a rune.
func number(text string, base int) (value, length int) {
	for length < len(text) && length <= 2*len(Hash{}) && digit(text[length]) < base {
		value = min(value*base+digit(text[length]), utf8.MaxRune+1)
		length++
	}
	return value, length
}

// digit returns the value of c as a digit, 10 to 35 for a letter, and more than
// 36 for anything else.
func digit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'z':
		return int(c|0x20-'a') + 10
	}
	return 99
}

// head returns the first n bytes of text, or "" if it is shorter.
func head(text string, n int) string {
	if len(text) < n {
		return ""
	}
	return text[:n]
}

// quote quotes a programmer's mistake for a panic or an error, unless it could
// be a key in the wrong place.
func quote(s string) string {
	run := 0
	for i := range len(s) {
		if run++; !keyChar[s[i]] {
			run = 0
		}
		if run >= randomLen-4 {
			return "(not shown: " + strconv.Itoa(len(s)) + " bytes that may hold a key)"
		}
	}
	if len(s) > 100 {
		return strconv.Quote(s[:100]) + "…"
	}
	return strconv.Quote(s)
}

// oneLine returns s with everything escaped that could end a line, hide text or
// change its direction, so that a name in a log cannot forge a second line.
func oneLine(s string) string {
	for _, c := range s {
		if !strconv.IsPrint(c) || c == utf8.RuneError {
			quoted := strconv.Quote(s)
			return quoted[1 : len(quoted)-1]
		}
	}
	return s
}
