package keyapi

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// A precondition is an If-Match or If-None-Match field. The zero precondition
// stands for a missing field.
type precondition struct {
	set  bool
	any  bool     // "*"
	tags []string // without W/, quotes and the suffix of a proxy
}

// precondition reads a field of the request (RFC 9110 sections 13.1.1 and
// 13.1.2).
func (c *call) precondition(field string) (precondition, error) {
	values := c.r.Header.Values(field)
	if len(values) == 0 {
		return precondition{}, nil
	}
	p := precondition{set: true}
	text := strings.Trim(strings.Join(values, ","), " \t")
	if text == "*" {
		p.any = true
		return p, nil
	}
	malformed := c.badParameter(field, field+` must be "*" or entity tags in double quotes, such as "3"`)
	for text != "" {
		if text[0] == ',' || text[0] == ' ' || text[0] == '\t' {
			text = text[1:]
			continue
		}
		text = strings.TrimPrefix(text, "W/")
		rest, ok := strings.CutPrefix(text, `"`)
		if !ok {
			return p, malformed
		}
		tag, rest, ok := strings.Cut(rest, `"`)
		if !ok {
			return p, malformed
		}
		after, _, _ := strings.Cut(rest, ",")
		text = rest[len(after):]
		if after = strings.Trim(after, " \t"); after != "" && withoutSuffix(after) != "" {
			return p, malformed
		}
		p.tags = append(p.tags, withoutSuffix(tag))
	}
	if len(p.tags) == 0 {
		return p, malformed
	}
	return p, nil
}

// withoutSuffix removes what proxies that compress add to an entity tag: a mark
// and the name of a coding, as in "5-gzip", "5;br" or "5--gzip".
func withoutSuffix(tag string) string {
	stem := strings.TrimRight(tag, "abcdefghijklmnopqrstuvwxyz")
	cut := strings.TrimRight(stem, "-;:+.")
	if stem == tag || cut == stem {
		return tag
	}
	return cut
}

// matches reports whether the field names that revision.
func (p precondition) matches(revision int64) bool {
	for _, tag := range p.tags {
		if tag == strconv.FormatInt(revision, 10) {
			return true
		}
	}
	return p.any
}

// preconditions returns a check of a key against the If-Match and the
// If-None-Match of the request, in that order (RFC 9110 section 13.2.2).
func (c *call) preconditions() (check func(r *auth.Record) error, err error) {
	match, err := c.precondition("If-Match")
	if err != nil {
		return nil, err
	}
	unless, err := c.precondition("If-None-Match")
	if err != nil {
		return nil, err
	}
	return func(r *auth.Record) error {
		switch {
		case match.set && !match.matches(r.Revision):
			return c.preconditionFailed("If-Match", "The key has been changed: it has another revision; read it again")
		case unless.set && unless.matches(r.Revision) && c.reads() && keyring.StateOf(r, time.Now()) == keyring.Expired:
			return nil // time alone has changed the status, but no revision
		case unless.set && unless.matches(r.Revision) && c.reads():
			return errNotModified
		case unless.set && unless.matches(r.Revision):
			return c.preconditionFailed("If-None-Match", "The key is there, and has that revision")
		}
		return nil
	}, nil
}

// errNotModified is what a check returns if the answer is 304.
var errNotModified = errors.New("keyapi: not modified")

func (c *call) reads() bool { return c.r.Method == http.MethodGet || c.r.Method == http.MethodHead }

func (c *call) preconditionFailed(field, detail string) error {
	p := c.problem(http.StatusPreconditionFailed, "PRECONDITION_FAILED", detail)
	p.Parameter = field
	return p
}

// checkPreconditions compares the fields with the key as it is now.
func (c *call) checkPreconditions() error {
	check, err := c.preconditions()
	if err != nil || len(c.r.Header.Values("If-Match"))+len(c.r.Header.Values("If-None-Match")) == 0 {
		return err
	}
	r, err := c.keys.Get(c.r.Context(), c.id)
	if err != nil {
		return err
	}
	return check(&r)
}

func entityTag(r *auth.Record) string { return `"` + strconv.FormatInt(r.Revision, 10) + `"` }
