package dashboard

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

const (
	day       = 24 * time.Hour
	maxScopes = 256 // that a form may send; a Keyring permits no more
)

// A keyForm is the form of a key: that of a new one, or of one that is edited.
// It keeps what was typed, also if that is wrong.
type keyForm struct {
	form
	Name     string
	Owner    string // only staff choose it
	Scopes   []scopeChoice
	Apart    []scopeChoice // those that are not offered, and that the key has
	Expires  string        // value of the select
	Date     string        // of "Custom date"
	Offset   string        // minutes east of UTC, by the script
	Options  []expiryChoice
	Once     string // of a new key
	Revision string // of a key that is edited
	SignIn   string // where to sign in again, or ""
	Changed  []eventRow

	NotCopied []auth.Scope // of the key that a new one is to be like
}

// A scopeChoice is a checkbox.
type scopeChoice struct {
	N           int // of the checkbox on the page
	Scope       auth.Scope
	Description string
	Checked     bool
	Note        string        // why it stands apart
	Covered     []scopeChoice // of a wildcard
}

// ID is that of the checkbox.
func (s scopeChoice) ID() string { return fmt.Sprintf("scope-%d", s.N) }

// An expiryChoice is an option of the select "Expires".
type expiryChoice struct {
	Value, Text string
	At          time.Time // zero for never and for a custom date
}

// A form is what all forms have: the view, and what is wrong with the fields.
type form struct {
	View     *view
	Problems []problem
}

// A problem is what is wrong with a field.
type problem struct {
	View        *view
	Field, Text string
}

// problem adds what is wrong with a field.
func (f *form) problem(field, text string) {
	f.Problems = append(f.Problems, problem{f.View, field, text})
}

// Wrong returns what is wrong with a field, or "".
func (f *form) Wrong(field string) string {
	for _, p := range f.Problems {
		if p.Field == field {
			return p.Text
		}
	}
	return ""
}

// newKeyForm returns an empty form.
func (c *call) newKeyForm() *keyForm {
	f := &keyForm{form: form{View: c.view()}, Once: rand.Text()}
	f.Options = c.expiryChoices(time.Now())
	f.Expires = "never"
	if !c.latestExpiry(time.Now()).IsZero() {
		f.Expires = "latest"
	}
	return f
}

// read takes over what was typed.
func (f *keyForm) read(c *call) (scopes []auth.Scope) {
	values := c.r.PostForm
	f.Name = strings.TrimSpace(values.Get("name"))
	f.Expires, f.Date, f.Offset = values.Get("expires"), values.Get("date"), values.Get("offset")
	f.Once, f.Revision = values.Get("once"), values.Get("revision")
	if c.viewer.Staff {
		f.Owner = strings.TrimSpace(values.Get("owner"))
	}
	for _, s := range values["scope"][:min(len(values["scope"]), maxScopes+1)] {
		scopes = append(scopes, auth.Scope(s))
	}
	return scopes
}

// offer lists the scopes of the Catalog that the viewer may grant, wildcards
// first, and apart from them those of the key that are not offered.
func (f *keyForm) offer(c *call, checked, of []auth.Scope) {
	var all []scopeChoice
	for _, info := range c.keyOptions.Scheme.Catalog {
		if c.viewer.Staff || c.viewer.Scopes.Covers(info.Scope) {
			all = append(all, scopeChoice{N: len(all), Scope: info.Scope, Description: info.Description,
				Checked: slices.Contains(checked, info.Scope)})
		}
	}
	offered := func(s auth.Scope) bool {
		return slices.ContainsFunc(all, func(o scopeChoice) bool { return o.Scope == s })
	}
	for _, s := range of {
		if offered(s) {
			continue
		}
		apart := scopeChoice{N: len(all) + len(f.Apart), Scope: s, Checked: slices.Contains(checked, s), Note: "No longer offered"}
		for _, info := range c.keyOptions.Scheme.Catalog {
			if info.Scope == s {
				apart.Description, apart.Note = info.Description, "Not yours to give"
			}
		}
		f.Apart = append(f.Apart, apart)
	}
	f.Scopes = nest(all)
}

// nest puts each scope under the narrowest wildcard that covers it.
func nest(all []scopeChoice) []scopeChoice {
	wild := func(s auth.Scope) bool { return strings.HasSuffix(string(s), "*") }
	wider := func(s auth.Scope) (n int) { // how many wildcards cover it
		for _, o := range all {
			if o.Scope != s && wild(o.Scope) && o.Scope.Covers(s) {
				n++
			}
		}
		return n
	}
	slices.SortStableFunc(all, func(a, b scopeChoice) int { // wildcards first, and the widest of them
		switch {
		case wild(a.Scope) && !wild(b.Scope):
			return -1
		case wild(b.Scope) && !wild(a.Scope):
			return 1
		case !wild(a.Scope):
			return 0
		}
		return cmp.Compare(wider(a.Scope), wider(b.Scope))
	})
	var under func(parent *scopeChoice) []scopeChoice
	parentOf := func(i int) int {
		for j := len(all) - 1; j >= 0; j-- {
			if j != i && wild(all[j].Scope) && all[j].Scope != all[i].Scope && all[j].Scope.Covers(all[i].Scope) && j < i {
				return j
			}
		}
		return -1
	}
	parents := make([]int, len(all))
	for i := range all {
		parents[i] = parentOf(i)
	}
	under = func(parent *scopeChoice) (list []scopeChoice) {
		for i := range all {
			if parents[i] >= 0 && parent != nil && all[parents[i]].Scope == parent.Scope || parents[i] < 0 && parent == nil {
				s := all[i]
				s.Covered = under(&s)
				list = append(list, s)
			}
		}
		return list
	}
	return under(nil)
}

// expiryChoices are those of the select "Expires" that are permitted.
func (c *call) expiryChoices(now time.Time) []expiryChoice {
	limit := c.latestExpiry(now)
	var list []expiryChoice
	if !limit.IsZero() {
		list = append(list, expiryChoice{"latest", "Latest permitted date", limit})
	}
	for _, preset := range []struct {
		value, text string
		until       time.Time
	}{
		{"7d", "7 days", now.Add(7 * day)},
		{"30d", "30 days", now.Add(30 * day)},
		{"90d", "90 days", now.Add(90 * day)},
		{"1y", "1 year", now.AddDate(1, 0, 0)},
	} {
		if limit.IsZero() || !preset.until.After(limit) {
			list = append(list, expiryChoice{preset.value, preset.text, preset.until})
		}
	}
	if limit.IsZero() {
		list = append(list, expiryChoice{"never", "No expiration", time.Time{}})
	}
	return append(list, expiryChoice{"custom", "Custom date", time.Time{}})
}

// latestExpiry is the latest that the viewer may set, or zero.
func (c *call) latestExpiry(now time.Time) (t time.Time) {
	if c.viewer.Staff {
		return t
	}
	t = c.viewer.ExpiresAt
	if c.keyOptions.MaxLifetime > 0 {
		if until := now.Add(c.keyOptions.MaxLifetime); t.IsZero() || until.Before(t) {
			t = until
		}
	}
	return t
}

// expiry returns the expiry that was chosen. Zero means never, or as late as is
// permitted.
func (f *keyForm) expiry(now time.Time) (time.Time, bool) {
	for _, choice := range f.Options {
		if choice.Value == f.Expires && choice.Value != "custom" {
			if choice.Value == "latest" {
				return time.Time{}, true
			}
			return choice.At, true
		}
	}
	if f.Expires != "custom" {
		f.problem("expires", f.View.call.text("Choose when the key expires."))
		return time.Time{}, false
	}
	date, err := time.Parse(time.DateOnly, f.Date)
	offset, offsetErr := parseOffset(f.Offset)
	switch {
	case err != nil || offsetErr != nil:
		f.problem("date", f.View.call.text("Enter a date, such as %s.", now.AddDate(0, 1, 0).Format(time.DateOnly)))
	case date.Year() > 9999:
		f.problem("date", f.View.call.text("The date is too late."))
	default:
		end := date.AddDate(0, 0, 1).Add(-offset) // at the end of the day
		if end.After(now) {
			return end, true
		}
		f.problem("date", f.View.call.text("The date has passed. Choose today or a later day."))
	}
	return time.Time{}, false
}

// parseOffset returns how far the reader's zone is east of UTC.
func parseOffset(minutes string) (time.Duration, error) {
	if minutes == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(minutes)
	if err != nil || n < -12*60 || n > 14*60 {
		return 0, errors.New("no offset of a time zone")
	}
	return time.Duration(n) * time.Minute, nil
}

// refused says at the fields what a Keyring refused. It returns the error if that
// is about none of them.
func (f *keyForm) refused(c *call, err error) error {
	wrong, ok := errors.AsType[*keyring.ArgumentError](err)
	switch {
	case errors.Is(err, keyring.ErrTooManyKeys):
		f.problem("", f.tooMany(c))
	case !ok || wrong.Field == "Actor":
		return err
	case wrong.Field == "Name" && !hasText(f.Name):
		f.problem("name", c.text("Enter a name."))
	case wrong.Field == "Name" && len(f.Name) > 255:
		f.problem("name", c.text("The name is too long. Enter at most 255 characters."))
	case wrong.Field == "Name":
		f.problem("name", c.text("The name has characters that cannot be stored."))
	case wrong.Field == "Owner":
		f.problem("owner", c.text("Enter the owner of the key."))
	case wrong.Field == "Scopes" || errors.Is(err, auth.ErrInsufficientScope):
		f.problem("scopes", c.text("A scope cannot be granted: %s.", wrong.Reason))
	case wrong.Field == "ExpiresAt" && f.Expires == "custom":
		f.problem("date", c.text("The expiry is not permitted: %s.", wrong.Reason))
	case wrong.Field == "ExpiresAt":
		f.problem("expires", c.text("The expiry is not permitted: %s.", wrong.Reason))
	default:
		return err
	}
	return nil
}

// hasText reports whether a name can be seen.
func hasText(name string) bool { return nameOf(&auth.Record{Name: name}) != "" }

// tooMany says how many keys there are, and which could be revoked: those that
// were not used for the longest time.
func (f *keyForm) tooMany(c *call) string {
	var keys []auth.Record
	n := 0
	for r, err := range c.keys.List(c.ctx(), keyring.Filter{States: keyring.Active | keyring.Disabled}) {
		if err == nil {
			n++
			keys = append(keys, r)
		}
	}
	slices.SortStableFunc(keys, func(a, b auth.Record) int { return a.LastUsedAt.Compare(b.LastUsedAt) })
	var names []string
	for _, r := range keys[:min(3, len(keys))] {
		names = append(names, nameOf(&r)+" ("+shown(r.Hint)+")")
	}
	return c.text("You have %d keys that are neither revoked nor expired; %d are permitted. Revoke one first. Least recently used: %s.",
		n, c.keyOptions.MaxKeys, strings.Join(names, ", "))
}

// once returns the Spec.Once of the form: its random value with a digest of what
// was typed. So sending the same form again makes no second key, and sending it
// with another name does.
func (f *keyForm) once(scopes []auth.Scope) string {
	text := fmt.Sprintf("%q %q %q %q %q %q %q", f.Once, f.Name, f.Owner, scopes, f.Expires, f.Date, f.Offset)
	sum := sha256.Sum256([]byte(text))
	return "dashboard " + hex.EncodeToString(sum[:])
}

// Help is what the select means, an instant for each option that has one.
func (f *keyForm) Help() template.HTML {
	var parts []string
	for _, o := range f.Options {
		if !o.At.IsZero() {
			parts = append(parts, fmt.Sprintf(`<span data-expires="%s">%s: %s</span>`, o.Value, f.View.T(o.Text), f.View.Time(o.At)))
		}
	}
	return template.HTML(strings.Join(parts, " "))
}

// Form returns f, for templates that get it in another struct.
func (f *keyForm) Form() *keyForm { return f }
