package apilog

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/insigner/auth"
)

const keyChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// FuzzKeyInText hides a key in a text: behind and in front of something, and
// escaped at random several times over. No part of it that helps may be left,
// whether decoded again or not. A text without a key is left alone.
func FuzzKeyInText(f *testing.F) {
	f.Add("/v1/", "/x", "", uint64(1))
	f.Add("/%", "%", "ab_", uint64(2))
	f.Add("risk_isk_", "isk_", "acme_live_", uint64(3))
	f.Add("%25%2", "5\x00\xff", "d_", uint64(4))
	f.Add(strings.Repeat("x", 1000), "", "A_", uint64(5))
	f.Add("/risk_assessment_report", "/%2F/ü", "", uint64(6))
	f.Fuzz(func(t *testing.T, before, after, prefix string, seed uint64) {
		scheme := auth.Scheme{Prefix: prefix}
		if scheme.Validate() != nil || len(before)+len(after) > 10_000 {
			return
		}
		random := rand.New(rand.NewPCG(seed, 0))
		key := cmp.Or(prefix, auth.DefaultPrefix)
		for range keyLen {
			key += string(keyChars[random.IntN(len(keyChars))])
		}
		text := before + escapeSome(random, key) + after
		c := newCleaner(scheme)
		for _, limit := range []int{maxMethod, maxRequestID, maxPath} {
			got := c.clean(text, limit)
			if !utf8.ValidString(got) || strings.Contains(got, "\x00") {
				t.Errorf("%q cannot be stored", got)
			}
			if len(got) > limit {
				t.Errorf("%d bytes are left, want at most %d", len(got), limit)
			}
			for range 6 {
				for i := len(key) - 44; i+16 <= len(key); i++ {
					if strings.Contains(got, key[i:i+16]) {
						t.Fatalf("%q becomes %q, which holds a part of the key", text, got)
					}
				}
				got = unescapeOnce(got)
			}
		}

		plain := before + after
		if got := c.clean(plain, maxPath); fits(plain, prefix) && got != plain {
			t.Errorf("without a key, %q becomes %q", plain, got)
		}
	})
}

// fits reports whether a text can be stored as it is: it is short, and nothing
// in it looks like a key, however it is decoded.
func fits(text, prefix string) bool {
	prefix = cmp.Or(prefix, auth.DefaultPrefix)
	if len(text) > 1024 || !utf8.ValidString(text) || strings.Contains(text, "\x00") {
		return false
	}
	for range len(text) {
		if strings.Contains(strings.ToLower(text), strings.ToLower(prefix)) {
			return false
		}
		plain := unescapeOnce(text)
		if plain == text {
			return !strings.Contains(text, "_") || len(prefix) > 2
		}
		text = plain
	}
	return true
}

// escapeSome escapes some characters of text, and some of what comes out.
func escapeSome(random *rand.Rand, text string) string {
	for range random.IntN(4) {
		var b strings.Builder
		often := random.IntN(4)
		for i := range len(text) {
			if random.IntN(4) < often {
				fmt.Fprintf(&b, "%%%02X", text[i])
			} else {
				b.WriteByte(text[i])
			}
		}
		text = b.String()
	}
	if random.IntN(2) == 0 { // lower-case digits of escapes
		text = escapeCase(text)
	}
	return text
}

// escapeCase writes the hexadecimal digits of escapes in lower case.
func escapeCase(text string) string {
	b := []byte(text)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:], strings.ToLower(string(b[i+1:i+3])))
			i += 2
		}
	}
	return string(b)
}

// unescapeOnce decodes text as a server does, but leaves what is no escape.
func unescapeOnce(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if i+3 <= len(text) {
			if plain, err := url.PathUnescape(text[i : i+3]); err == nil && text[i] == '%' {
				b.WriteString(plain)
				i += 2
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
