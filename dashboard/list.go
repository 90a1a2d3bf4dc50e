package dashboard

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// pageSize is how many keys, changes or requests a page shows.
const pageSize = 50

// expiresSoon is how long before its expiry a key is shown as "Expires soon".
const expiresSoon = 7 * 24 * time.Hour

// A status is what a key is now, in a word.
type status string

const (
	statusActive   status = "Active"
	statusSoon     status = "Expires soon"
	statusRotated  status = "Rotated"
	statusDisabled status = "Disabled"
	statusExpired  status = "Expired"
	statusRevoked  status = "Revoked"
)

func statusOf(r *auth.Record, now time.Time) status {
	switch keyring.StateOf(r, now) {
	case keyring.Revoked:
		return statusRevoked
	case keyring.Expired:
		return statusExpired
	case keyring.Disabled:
		return statusDisabled
	}
	switch {
	case r.RotatedTo != "":
		return statusRotated
	case !r.ExpiresAt.IsZero() && r.ExpiresAt.Before(now.Add(expiresSoon)):
		return statusSoon
	}
	return statusActive
}

// Status is what a key is now.
func (v *view) Status(r auth.Record) status { return statusOf(&r, time.Now()) }

// current reports whether the key is neither revoked nor expired.
func current(r *auth.Record) bool {
	return keyring.StateOf(r, time.Now())&(keyring.Active|keyring.Disabled) != 0
}

// Current is current, for templates.
func (v *view) Current(r auth.Record) bool { return current(&r) }

// A choice is one of the select "Status". The states are what a list asks the
// store for, and keep, if not nil, what it keeps of that.
type choice struct {
	Value, Text string
	states      keyring.States
	keep        func(c *call, r *auth.Record) bool
}

func is(statuses ...status) func(*call, *auth.Record) bool {
	return func(_ *call, r *auth.Record) bool { return slices.Contains(statuses, statusOf(r, time.Now())) }
}

// choices returns the options of the select "Status".
func (c *call) choices() []choice {
	list := []choice{
		{"current", "Current", keyring.Active | keyring.Disabled, nil},
		{"active", "Active", keyring.Active, is(statusActive, statusSoon)},
		{"disabled", "Disabled", keyring.Disabled, nil},
		{"rotated", "Rotated", keyring.Active, is(statusRotated)},
		{"expired", "Expired", keyring.Expired, nil},
		{"revoked", "Revoked", keyring.Revoked, nil},
	}
	if c.keyOptions.MaxLifetime > 0 {
		list = append(list, choice{"long", "Longer than permitted", keyring.Active | keyring.Disabled, (*call).tooLong})
	}
	return append(list, choice{"any", "Any", 0, nil})
}

// tooLong reports whether a key lives longer than is permitted: it was made before
// that was so, or by staff.
func (c *call) tooLong(r *auth.Record) bool {
	limit := c.keyOptions.MaxLifetime
	return limit > 0 && current(r) && (r.ExpiresAt.IsZero() || r.ExpiresAt.After(time.Now().Add(limit)))
}

// TooLong is tooLong, for templates.
func (v *view) TooLong(r auth.Record) bool { return v.tooLong(&r) }

// A selection is what the search asks for.
type selection struct {
	Text, Status, Owner string
}

// selectionOf reads a selection from a link or a form.
func (c *call) selectionOf(values url.Values) selection {
	s := selection{Text: strings.TrimSpace(values.Get("q")), Status: cmp.Or(values.Get("status"), "current")}
	if c.viewer.Staff {
		s.Owner = strings.TrimSpace(values.Get("owner"))
	}
	return s
}

// query returns the selection as the query of a link.
func (s selection) query() url.Values {
	q := query(map[string]string{"q": s.Text, "status": s.Status, "owner": s.Owner})
	if s.Status == "current" {
		q.Del("status")
	}
	return q
}

// each calls yield with the keys that are selected, and counts rows that cannot
// be read, until yield returns false.
func (c *call) each(ctx context.Context, s selection, f keyring.Filter, yield func(*auth.Record) bool) (unreadable int, err error) {
	choices := c.choices()
	i := slices.IndexFunc(choices, func(choice choice) bool { return choice.Value == s.Status })
	if i < 0 {
		return 0, &failure{status: http.StatusBadRequest, title: "There is no such status"}
	}
	f.Text, f.Owner, f.States = s.Text, s.Owner, choices[i].states
	for r, err := range c.keys.List(ctx, f) {
		if _, ok := errors.AsType[*keyring.RecordError](err); ok {
			c.logFailure(err)
			unreadable++
			continue
		}
		if err != nil {
			return unreadable, err
		}
		if keep := choices[i].keep; keep != nil && !keep(c, &r) {
			continue
		}
		if !yield(&r) {
			break
		}
	}
	return unreadable, nil
}

// listKeys is the page "API Keys".
func (c *call) listKeys() error {
	values := c.r.URL.Query()
	s := c.selectionOf(values)
	f := keyring.Filter{NewestFirst: true}
	newer, older := values.Get("newer"), values.Get("older")
	if at := cmp.Or(newer, older); at != "" {
		after, ok := parsePosition(at)
		if !ok {
			return &failure{status: http.StatusBadRequest, title: "This address is not valid"}
		}
		f.After, f.NewestFirst = after, newer == ""
	}
	c.staffRead(s.Owner, "")
	if values.Get("notice") == "unknown" {
		c.notice = c.text("No key matches the key that you entered. It may have been deleted, or belong to another account.")
	}
	var keys []auth.Record
	unreadable, err := c.each(c.ctx(), s, f, func(r *auth.Record) bool {
		keys = append(keys, *r)
		return len(keys) <= pageSize
	})
	if err != nil {
		return err
	}
	more := len(keys) > pageSize
	keys = keys[:min(len(keys), pageSize)]
	hasNewer, hasOlder := older != "", more
	if newer != "" {
		if !more { // the first page, which may have become longer
			return c.redirect("", s.query())
		}
		slices.Reverse(keys)
		hasNewer, hasOlder = true, true
	}
	link := func(name string, r *auth.Record) string {
		q := s.query()
		q.Set(name, position(r))
		return "?" + q.Encode()
	}
	data := struct {
		selection
		Keys         []auth.Record
		Choices      any
		Newer, Older string
		Unreadable   int
		None         bool // no key at all, also of another status
		AnyStatus    string
		Selectable   bool
	}{selection: s, Keys: keys, Choices: c.choices(), Unreadable: unreadable}
	if len(keys) > 0 && hasNewer {
		data.Newer = link("newer", &keys[0])
	}
	if len(keys) > 0 && hasOlder {
		data.Older = link("older", &keys[len(keys)-1])
	}
	data.Selectable = !c.viewer.ReadOnly && slices.ContainsFunc(keys, func(r auth.Record) bool { return r.RevokedAt.IsZero() })
	if len(keys) == 0 && unreadable == 0 {
		any := selection{Text: s.Text, Owner: s.Owner, Status: "any"}
		found := false
		if _, err := c.each(c.ctx(), any, keyring.Filter{}, func(*auth.Record) bool { found = true; return false }); err != nil {
			return err
		}
		if found {
			data.AnyStatus = "?" + any.query().Encode()
		}
		data.None = !found && s.Text == "" && s.Owner == ""
	}
	return c.render(http.StatusOK, "keys", "API Keys", data)
}
