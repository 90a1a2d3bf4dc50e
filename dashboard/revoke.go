package dashboard

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/apilog"
	"github.com/insigner/auth/keyring"
)

// set makes a change that needs nothing else, and goes back to the key.
func (c *call) set(change func(*keyring.Keyring, context.Context, string) error, notice string) error {
	if _, err := c.key(); err != nil {
		return err
	}
	if err := change(c.keys, c.ctx(), c.id); err != nil {
		return err
	}
	return c.redirect("keys/"+url.PathEscape(c.id), url.Values{"notice": {notice}})
}

// A revokeForm is the page that asks before a key is revoked.
type revokeForm struct {
	View     *view
	Key      auth.Record
	Made     []auth.Record // what it made and is not revoked
	Problem  string
	Requests int64 // of the last 24 hours
	Sample   int   // how many of them Routes and Addresses count
	Routes   []counted
	Addrs    []counted
	HasLog   bool
}

// A counted is a text with how often it occurs.
type counted struct {
	Text string
	N    int
}

// revokeKey is the page "Revoke".
func (c *call) revokeKey() error { return c.askRevoke("", http.StatusOK) }

func (c *call) askRevoke(problem string, status int) error {
	r, err := c.key()
	if err != nil {
		return err
	}
	if !r.RevokedAt.IsZero() {
		return auth.ErrKeyRevoked
	}
	f := revokeForm{View: &view{call: c}, Key: r, Problem: problem}
	if f.Made, err = c.made(r.ID); err != nil {
		return err
	}
	if c.logs != nil {
		if err := f.count(c); err != nil { // the key can be revoked nevertheless
			c.logFailure(err)
		}
	}
	return c.renderTitle(status, "revoke", c.text("Revoke %s", nameOf(&r)), f)
}

// made returns the keys that a key made, without those that are revoked.
func (c *call) made(id string) (keys []auth.Record, err error) {
	ids, err := c.keys.Made(c.ctx(), id)
	for _, id := range ids {
		r, getErr := c.keys.Get(c.ctx(), id)
		switch {
		case getErr == nil && r.RevokedAt.IsZero():
			keys = append(keys, r)
		case getErr != nil && !errors.Is(getErr, auth.ErrNotFound):
			err = cmp.Or(err, getErr)
		}
	}
	return keys, err
}

// count adds what the key did in the last 24 hours.
func (f *revokeForm) count(c *call) error {
	now := time.Now()
	q := apilog.Query{KeyID: f.Key.ID, Owner: f.Key.Owner, From: now.Add(-24 * time.Hour), To: now, Limit: 1000}
	buckets, err := c.logs.Histogram(c.ctx(), q, time.Hour)
	if err != nil {
		return err
	}
	for _, b := range buckets {
		f.Requests += b.Requests
	}
	entries, err := c.logs.List(c.ctx(), q)
	if err != nil {
		return err
	}
	routes, addrs := make(map[string]int), make(map[string]int)
	for _, e := range entries {
		if e.Lost != 0 {
			continue
		}
		f.Sample++
		routes[cmp.Or(shown(e.Route), shown(e.Method+" "+e.Path))]++
		if e.RemoteAddr != (netip.Addr{}) {
			addrs[e.RemoteAddr.String()]++
		}
	}
	f.Routes, f.Addrs, f.HasLog = top(routes), top(addrs), true
	return nil
}

// top returns the five most frequent texts.
func top(counts map[string]int) (list []counted) {
	for text, n := range counts {
		list = append(list, counted{text, n})
	}
	slices.SortFunc(list, func(a, b counted) int { return cmp.Or(b.N-a.N, cmp.Compare(a.Text, b.Text)) })
	return list[:min(5, len(list))]
}

// revoke answers the form of that page.
func (c *call) revoke() error {
	if _, err := c.key(); err != nil {
		return err
	}
	made, err := c.made(c.id)
	if err != nil {
		return err
	}
	choice := c.r.PostForm.Get("also")
	if len(made) > 0 && choice != "only" && choice != "made" {
		return c.askRevoke(c.text("Choose which keys to revoke."), http.StatusUnprocessableEntity)
	}
	ctx := context.WithoutCancel(c.ctx()) // it goes on if the client leaves
	notice := "revoked"
	if choice == "made" {
		_, err = c.keys.RevokeMade(ctx, c.id)
		notice = "ended"
	} else {
		err = c.keys.Revoke(ctx, c.id)
	}
	if err != nil {
		return err
	}
	return c.redirect("keys/"+url.PathEscape(c.id), url.Values{"notice": {notice}})
}

// revokeSelected answers the button "Revoke selected": first with a question that
// names the number, and then, if that is still right, by revoking.
func (c *call) revokeSelected() error {
	form := c.r.PostForm
	s := c.selectionOf(form)
	all := form.Get("all") != ""
	var keys []auth.Record
	c.staffRead(s.Owner, "")
	if all {
		if _, err := c.each(c.ctx(), s, keyring.Filter{NewestFirst: true}, func(r *auth.Record) bool {
			if r.RevokedAt.IsZero() {
				keys = append(keys, *r)
			}
			return true
		}); err != nil {
			return err
		}
	} else {
		for _, id := range form["id"] { // all of them or none
			r, err := c.keys.Get(c.ctx(), id)
			if err != nil {
				return err
			}
			if r.RevokedAt.IsZero() {
				keys = append(keys, r)
			}
		}
	}
	if len(keys) == 0 {
		return &failure{status: http.StatusUnprocessableEntity, title: "No key is selected",
			detail: "Go back, and select at least one that is not revoked."}
	}
	n := strconv.Itoa(len(keys))
	if confirmed := form.Get("confirmed"); confirmed != n {
		status := http.StatusOK
		if confirmed != "" {
			status = http.StatusConflict // there are more now, or less
		}
		ids := form["id"]
		if all {
			ids = nil
		}
		title := c.text("Revoke %d keys", len(keys))
		if len(keys) == 1 {
			title = c.text("Revoke 1 key")
		}
		return c.renderTitle(status, "revokeselected", title, struct {
			selection
			Keys  []auth.Record
			IDs   []string
			All   bool
			N     int
			Other bool // another number than before
		}{s, keys[:min(len(keys), pageSize)], ids, all, len(keys), confirmed != ""})
	}
	ctx := context.WithoutCancel(c.ctx()) // it goes on if the client leaves
	rc := http.NewResponseController(c.w)
	for i, r := range keys {
		if i%100 == 0 {
			rc.SetWriteDeadline(time.Now().Add(time.Minute)) // some servers have none
		}
		if err := c.keys.Revoke(ctx, r.ID); err != nil && !errors.Is(err, auth.ErrNotFound) {
			c.logFailure(err)
			return &failure{status: http.StatusServiceUnavailable, title: "Not all keys have been revoked",
				detail: "The keys cannot be reached now. Select the others, and try again."}
		}
	}
	q := s.query()
	q.Set("notice", "ended")
	return c.redirect("", q)
}
