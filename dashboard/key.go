package dashboard

import (
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/keyring"
)

// keyEvents and keyEntries are how many of each the page of a key shows.
const (
	keyEvents  = 50
	keyEntries = 20
)

// showKey is the page of one key.
func (c *call) showKey() error {
	r, err := c.keys.Get(c.ctx(), c.id)
	if errors.Is(err, auth.ErrNotFound) {
		return c.showDeleted()
	}
	if err != nil {
		return err
	}
	c.staffRead(r.Owner, r.ID)
	data := struct {
		Key             auth.Record
		Waiting         bool
		Chain           []auth.Record
		Chart           *chart
		NoChart         string
		Log             entryTable
		Events          eventTable
		NoLog, NoEvents string

		Limit, Left, NoLimit string
	}{Key: r}
	data.Limit, data.Left, data.NoLimit = c.limitOf(&r)
	v := c.view()
	data.Log = entryTable{View: v, Short: true}
	c.notice = c.noticeOf(&r)
	data.Events, err = c.eventTable(keyring.EventFilter{KeyID: r.ID}, keyEvents, true)
	if err != nil { // the key can be managed nevertheless
		data.NoEvents = c.text("The activity cannot be loaded right now.")
		if errors.Is(err, errors.ErrUnsupported) {
			data.NoEvents = c.text("No activity is kept here")
		} else {
			c.logFailure(err)
		}
	}
	for next, err := range c.keys.List(c.ctx(), keyring.Filter{Chain: r.Chain, NewestFirst: true}) {
		if err == nil && next.ID != r.ID && r.Chain != "" {
			data.Chain = append(data.Chain, next)
		}
		if len(data.Chain) == keyEvents {
			break
		}
	}
	if c.logs != nil {
		q := apilog.Query{KeyID: r.ID, Owner: r.Owner, Limit: keyEntries}
		entries, logsErr := c.logs.List(c.ctx(), q)
		if logsErr == nil {
			data.Key.LastUsedAt = lastUse(&r, entries)
			if data.Log.Entries, err = c.rows(entries, nil); err != nil {
				return err
			}
			now := time.Now()
			q.From, q.To = now.Add(-30*day), now
			data.Chart, data.NoChart = c.chart(q)
		} else { // the key can be managed nevertheless
			c.logFailure(logsErr)
			data.NoLog = c.text("The API logs cannot be reached now. Try again in a moment.")
		}
	}
	data.Waiting = data.Key.LastUsedAt.IsZero() && len(data.Log.Entries) == 0 && r.Check(time.Now()) == nil
	return c.renderTitle(http.StatusOK, "key", nameOf(&r), data)
}

// showDeleted is the page of a key that is only known from its events.
func (c *call) showDeleted() error {
	events, err := c.eventTable(keyring.EventFilter{KeyID: c.id}, keyEvents, true)
	if errors.Is(err, errors.ErrUnsupported) || err == nil && len(events.Events) == 0 {
		return auth.ErrNotFound
	}
	if err != nil {
		return err
	}
	last := events.last
	c.staffRead(last.Owner, c.id)
	return c.renderTitle(http.StatusOK, "deleted", nameOf(&last), struct {
		Key    auth.Record
		Events eventTable
	}{last, events})
}

// lastUse returns the last use of a key. The logs know it earlier than the record.
// A request that was refused for the key itself does not count.
func lastUse(r *auth.Record, entries []apilog.Entry) time.Time {
	for _, e := range entries { // newest first
		if e.Lost == 0 && e.Status != http.StatusUnauthorized && e.Time.After(r.LastUsedAt) {
			return e.Time
		}
	}
	return r.LastUsedAt
}

// isUsed reports whether there was a request with the key. The last use is
// written now and then, and the logs within a second.
func (c *call) isUsed(r *auth.Record) (bool, error) {
	if !r.LastUsedAt.IsZero() || c.logs == nil {
		return !r.LastUsedAt.IsZero(), nil
	}
	entries, err := c.logs.List(c.ctx(), apilog.Query{KeyID: r.ID, Owner: r.Owner, Limit: 1})
	return len(entries) > 0, err
}

// used tells the script whether the key was used.
func (c *call) used() error {
	r, err := c.key()
	if err != nil {
		return err
	}
	used, err := c.isUsed(&r)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(c.w).Encode(map[string]bool{"used": used})
}

// LastUsed is the last use of a key, as precisely as it is known.
func (v *view) LastUsed(r auth.Record) template.HTML {
	switch {
	case r.LastUsedAt.IsZero():
		return v.T("Never")
	case time.Since(r.LastUsedAt) < 2*time.Minute:
		return v.T("In the last two minutes")
	}
	return v.Time(r.LastUsedAt)
}

// editKey is the page "Edit".
func (c *call) editKey() error {
	r, err := c.key()
	if err != nil {
		return err
	}
	return c.edit(&r, c.editForm(&r), r.Scopes, http.StatusOK)
}

// editForm returns the form with what the key has.
func (c *call) editForm(r *auth.Record) *keyForm {
	f := c.newKeyForm()
	f.Name, f.Revision, f.Expires = r.Name, strconv.FormatInt(r.Revision, 10), "keep"
	keep := expiryChoice{"keep", "Keep: never expires", time.Time{}}
	if !r.ExpiresAt.IsZero() {
		keep = expiryChoice{"keep", "Keep", r.ExpiresAt}
	}
	f.Options = append([]expiryChoice{keep}, f.Options...)
	return f
}

// edit answers with the form.
func (c *call) edit(r *auth.Record, f *keyForm, checked []auth.Scope, status int) error {
	f.offer(c, checked, r.Scopes)
	return c.renderTitle(status, "edit", c.text("Edit %s", nameOf(r)), struct {
		*keyForm
		Key auth.Record
	}{f, *r})
}

// union returns the scopes of a, and those of b that are not in it.
func union(a, b []auth.Scope) []auth.Scope {
	all := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// errStale means that the key was changed since the form was opened.
var errStale = errors.New("dashboard: the form is stale")

// save answers the form of the page "Edit".
func (c *call) save() error {
	r, err := c.key()
	if err != nil {
		return err
	}
	f := c.editForm(&r)
	latest := f.Revision
	checked := f.read(c)
	if f.Revision != latest {
		return c.stale(f, checked)
	}
	if f.Name == strings.TrimSpace(r.Name) {
		f.Name = r.Name // with blanks around it
	} else if !hasText(f.Name) {
		f.problem("name", c.text("Enter a name."))
	}
	if len(checked) == 0 && len(r.Scopes) > 0 {
		f.problem("scopes", c.text("Choose at least one scope."))
	}
	expires, ok := r.ExpiresAt, true
	if f.Expires != "keep" {
		expires, ok = f.expiry(time.Now())
		if ok && expires.IsZero() {
			expires = c.latestExpiry(time.Now())
		}
	}
	if !ok || len(f.Problems) > 0 {
		return c.edit(&r, f, checked, http.StatusUnprocessableEntity)
	}
	scopes := ordered(r.Scopes, checked)
	actions := actionsOf(&r, scopes, expires)
	if f.SignIn = c.confirmed(actions...); f.SignIn != "" {
		return c.edit(&r, f, checked, http.StatusForbidden)
	}
	changed := false
	_, err = c.keys.Update(c.ctx(), r.ID, func(r *auth.Record) error {
		if strconv.FormatInt(r.Revision, 10) != f.Revision || !slices.Equal(actionsOf(r, scopes, expires), actions) {
			return errStale // what was confirmed was about another revision
		}
		changed = r.Name != f.Name || !slices.Equal(r.Scopes, scopes) || !r.ExpiresAt.Equal(expires)
		r.Name, r.Scopes = f.Name, scopes
		if !r.ExpiresAt.Equal(expires) {
			r.ExpiresAt = expires
		}
		return nil
	})
	if errors.Is(err, errStale) {
		return c.stale(f, checked)
	}
	if errors.Is(err, keyring.ErrRotated) {
		f.problem("expires", c.text("The key was rotated, so it cannot expire later."))
		return c.edit(&r, f, checked, http.StatusUnprocessableEntity)
	}
	if err != nil {
		if err := f.refused(c, err); err != nil {
			return err
		}
		return c.edit(&r, f, checked, http.StatusUnprocessableEntity)
	}
	notice := "unchanged"
	if changed {
		notice = "saved"
	}
	return c.redirect("keys/"+url.PathEscape(r.ID), url.Values{"notice": {notice}})
}

// ordered returns the checked scopes: those that the key has in their order, then
// the others. So saving a form unchanged changes nothing.
func ordered(has, checked []auth.Scope) []auth.Scope {
	kept := slices.DeleteFunc(slices.Clone(has), func(s auth.Scope) bool { return !slices.Contains(checked, s) })
	return union(kept, checked)
}

// actionsOf returns what a change does that a stolen session could outlive by.
func actionsOf(r *auth.Record, scopes auth.Scopes, expires time.Time) (actions []Action) {
	if slices.ContainsFunc(scopes, func(s auth.Scope) bool { return !r.Scopes.Covers(s) }) {
		actions = append(actions, ActionWiden)
	}
	if !r.ExpiresAt.IsZero() && (expires.IsZero() || expires.After(r.ExpiresAt)) {
		actions = append(actions, ActionExtend)
	}
	return actions
}

// stale answers a form that was opened before somebody else changed the key: with
// what was typed, and what changed in between.
func (c *call) stale(f *keyForm, checked []auth.Scope) error {
	r, err := c.keys.Get(c.ctx(), c.id)
	if err != nil {
		return err
	}
	opened, _ := strconv.ParseInt(f.Revision, 10, 64)
	events, err := c.eventTable(keyring.EventFilter{KeyID: r.ID}, keyEvents, true)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	for _, e := range events.Events {
		if e.Revision > opened {
			f.Changed = append(f.Changed, e)
		}
	}
	f.problem("", c.text("The key was changed since you opened this page. Nothing of what you entered is saved yet. Press Save to overwrite the change."))
	f.Revision = strconv.FormatInt(r.Revision, 10)
	return c.edit(&r, f, checked, http.StatusConflict)
}

func (c *call) disable() error { return c.set((*keyring.Keyring).Disable, "disabled") }

func (c *call) enable() error {
	if signIn := c.confirmed(ActionEnable); signIn != "" {
		return c.signInFirst(signIn)
	}
	return c.set((*keyring.Keyring).Enable, "enabled")
}
