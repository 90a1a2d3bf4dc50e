package dashboard

import (
	"cmp"
	"errors"
	"net/url"
	"regexp"
	"strings"
	"unicode"

	"github.com/insigner/auth"
)

// search answers the form of the search. It is a POST, so that a key that
// somebody enters is in no URL.
func (c *call) search() error {
	s := c.selectionOf(c.r.PostForm)
	for _, text := range []*string{&s.Text, &s.Owner} {
		key, rest := c.keyIn(*text)
		if key == (auth.Key{}) {
			*text = rest
			continue
		}
		r, err := c.keys.Find(c.ctx(), key)
		if errors.Is(err, auth.ErrNotFound) {
			s.Text, s.Owner = "", ""
			q := s.query()
			q.Set("notice", "unknown")
			return c.redirect("", q)
		}
		if err != nil {
			return err
		}
		return c.redirect("keys/"+url.PathEscape(r.ID), nil)
	}
	return c.redirect("", s.query())
}

// runs are what a key can be in a text. An ID of a Keyring has the form of a UUID.
var (
	runs = regexp.MustCompile(`[A-Za-z0-9_-]+`)
	uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
)

const (
	keyLen    = 44 // after the prefix
	hintLen   = 4  // with which a hint ends
	maxPublic = 15 // of a run that looks random, and may stay in a URL
)

// keyIn returns the key that a text holds, also in quotes, behind "Bearer" or in a
// line of a configuration. Without a key, it returns the text for a link: of
// what may be a part of a key only the last characters, which a hint has too.
func (c *call) keyIn(text string) (key auth.Key, rest string) {
	text = strings.TrimSpace(text)
	prefix := cmp.Or(c.keyOptions.Scheme.Prefix, auth.DefaultPrefix)
	words := strings.FieldsFunc(text, func(c rune) bool { return unicode.IsSpace(c) || strings.ContainsRune(`"'<>=:,;()`, c) })
	for _, word := range words { // keys of every shape
		if key, err := c.keyOptions.Scheme.ParseKey(word); err == nil {
			return key, ""
		}
	}
	for _, run := range runs.FindAllString(text, -1) {
		if i := strings.Index(strings.ToLower(run), strings.ToLower(prefix)); i >= 0 {
			secret := run[i+len(prefix):]
			if len(secret) >= keyLen {
				if key, err := c.keyOptions.Scheme.ParseKey(prefix + secret[:keyLen]); err == nil {
					return key, ""
				}
			}
			if len(secret) > hintLen {
				return key, secret[len(secret)-hintLen:]
			}
			continue
		}
		if len(run) == keyLen { // without its prefix
			if key, err := c.keyOptions.Scheme.ParseKey(prefix + run); err == nil && looksRandom(run) {
				return key, ""
			}
		}
		if len(run) > maxPublic && looksRandom(run) && !uuid.MatchString(run) {
			return key, run[len(run)-hintLen:]
		}
	}
	return key, text
}

// looksRandom reports whether a run is no word or name: it has digits, or a letter
// in upper case after one in lower case.
func looksRandom(run string) bool {
	lower := false
	for _, c := range run {
		if unicode.IsDigit(c) || lower && unicode.IsUpper(c) {
			return true
		}
		lower = unicode.IsLower(c)
	}
	return false
}
