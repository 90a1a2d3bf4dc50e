package main

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/insigner/auth"
)

// A keyFinder finds keys in texts where none belongs: with the prefix of the
// API, or with the published one.
type keyFinder struct{ pattern *regexp.Regexp }

func newKeyFinder(prefix string) keyFinder {
	prefixes := []string{auth.DefaultPrefix}
	if prefix != "" && (auth.Scheme{Prefix: prefix}).Validate() == nil {
		prefixes = append(prefixes, prefix)
	}
	for i, p := range prefixes {
		prefixes[i] = regexp.QuoteMeta(p)
	}
	return keyFinder{regexp.MustCompile(`(?:` + strings.Join(prefixes, "|") + `)[0-9A-Za-z_-]{44}`)}
}

// holds reports whether text holds a key.
func (f keyFinder) holds(text string) bool { return f.pattern.MatchString(text) }

// strike replaces the keys in text.
func (f keyFinder) strike(text string) string {
	if f.pattern == nil {
		return text
	}
	return f.pattern.ReplaceAllString(text, "[key]")
}

// refuse refuses arguments that hold a key. The message does not repeat it.
func (f keyFinder) refuse(args []string) error {
	if !slices.ContainsFunc(args, f.holds) {
		return nil
	}
	return &failure{code: "KEY_IN_ARGUMENTS", exit: exitUsage,
		message: "an argument holds a key, which now stands in the history of the shell and in the list of processes: " +
			"revoke that key. No command takes a key as an argument: " +
			"isk find reads it from the standard input, and tells its ID for isk revoke"}
}

const struckOut = "xxxxx"

// secrets are texts that no message may have.
type secrets []string

// minSecret is how long a password is that is struck out wherever it stands. A
// shorter one is struck out where it stands as a password.
const minSecret = 4

// add adds a secret, also as it stands in a URL.
func (s *secrets) add(texts ...string) {
	for _, text := range texts {
		for _, form := range []string{text, url.QueryEscape(text), url.PathEscape(text), url.UserPassword("", text).String()[1:]} {
			if len(form) >= minSecret && !slices.Contains(*s, form) {
				*s = append(*s, form)
			}
		}
	}
	slices.SortFunc(*s, func(a, b string) int { return len(b) - len(a) }) // a part of another comes later
}

var (
	// urlPassword is a password in a URL, or a part of one that was not escaped.
	urlPassword = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@'"` + "`" + `]*:)[^\s'"` + "`" + `]*@`)

	// setPassword is a password in a connection string or in a query.
	setPassword = regexp.MustCompile(`(?i)\b((?:ssl)?password)(\s*=\s*|%3D)('(?:[^'\\]|\\.)*'|[^\s&'"` + "`" + `]*)`)
)

// strike replaces the secrets in text.
func (s secrets) strike(text string) string {
	text = urlPassword.ReplaceAllString(text, "${1}"+struckOut+"@")
	text = setPassword.ReplaceAllString(text, "${1}${2}"+struckOut)
	for _, secret := range s {
		text = strings.ReplaceAll(text, secret, struckOut)
	}
	return text
}
