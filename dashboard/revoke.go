package dashboard

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
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

const (
	madeTime    = 2 * time.Second // how long a page searches what a key made
	revokeTime  = 5 * time.Minute // how long a revocation may take
	maxSelected = 100_000         // keys that are revoked at a time
)

// set makes a change that needs nothing else, and goes back to the key.
func (c *call) set(change func(*keyring.Keyring, context.Context, string) error, notice string) error {
	if _, err := c.key(); err != nil {
		return err
	}
	if err := change(c.keys, c.ctx(), c.id); err != nil {
		return err
	}
	return c.back(notice)
}

// back goes to the page of the key that the path names.
func (c *call) back(notice string) error {
	return c.redirect("keys/"+url.PathEscape(c.id), url.Values{"notice": {notice}})
}

// A revokeForm is the page that asks before a key is revoked.
type revokeForm struct {
	View     *view
	Key      auth.Record
	Ended    bool // it is revoked or deleted, so only what it made can be revoked
	Made     made
	Problem  string
	Requests int64 // of the last 24 hours
	Sample   int   // how many of them Routes and Addrs count
	Routes   []counted
	Addrs    []counted
	HasLog   bool
}

// What a key made and is not revoked.
type made struct {
	Keys []auth.Record // at most a page of them
	N    int
	More bool // perhaps there are more
}

// A counted is a text with how often it occurs.
type counted struct {
	Text string
	N    int
}

// revokeKey is the page "Revoke".
func (c *call) revokeKey() error { return c.askRevoke("", http.StatusOK) }

func (c *call) askRevoke(problem string, status int) error {
	r, err := c.keys.Get(c.ctx(), c.id)
	deleted := errors.Is(err, auth.ErrNotFound)
	if deleted {
		if last, ok := c.last(c.id); ok {
			r, err = last, nil
		}
	}
	if err != nil {
		return err
	}
	c.staffRead(r.Owner, c.id)
	f := revokeForm{View: c.view(), Key: r, Ended: deleted || !r.RevokedAt.IsZero(), Problem: problem, Made: c.made(c.id)}
	if c.logs != nil && !f.Ended {
		if err := f.count(c); err != nil { // the key can be revoked nevertheless
			c.logFailure(err)
		}
	}
	return c.renderTitle(status, "revoke", c.text("Revoke %s", nameOf(&r)), f)
}

// made returns what a key made and is not revoked, as far as it is found in time:
// a thief may have made a hundred thousand keys.
func (c *call) made(id string) (m made) {
	giveBack, ok := c.slot("made", maxCharts)
	if !ok {
		return made{More: true}
	}
	defer giveBack()
	ctx, cancel := context.WithTimeout(c.ctx(), madeTime)
	defer cancel()
	keys, err := c.keys.Made(ctx, id)
	if err != nil && !errors.Is(err, auth.ErrNotFound) {
		c.logFailure(err)
		m.More = true
	}
	for _, r := range keys {
		if r.RevokedAt.IsZero() && r.Hash != (auth.Hash{}) {
			if m.N++; m.N <= pageSize {
				m.Keys = append(m.Keys, r)
			}
		}
	}
	return m
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
	f.Key.LastUsedAt = lastUse(&f.Key, entries)
	routes, addrs := make(map[string]int), make(map[string]int)
	for _, e := range entries {
		if e.Lost != 0 {
			continue
		}
		f.Sample++
		routes[cmp.Or(shown(e.Route), shown(e.Method+" "+e.Path))]++
		if e.RemoteAddr.IsValid() {
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

// revoke answers the form of that page. Whether there are keys to choose from is
// only asked if no choice came: what hinders the search must not hinder the
// revocation.
func (c *call) revoke() error {
	choice := c.r.PostForm.Get("also")
	if choice != "only" && choice != "made" {
		if m := c.made(c.id); m.N > 0 || m.More {
			return c.askRevoke(c.text("Choose which keys to revoke."), http.StatusUnprocessableEntity)
		}
	}
	if r, err := c.keys.Get(c.ctx(), c.id); err == nil {
		c.staffRead(r.Owner, r.ID)
	}
	http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(revokeTime)) // some servers have none
	ctx := context.WithoutCancel(c.ctx())                                        // it goes on if the client leaves
	if choice != "made" {
		if err := c.keys.Revoke(ctx, c.id); err != nil {
			return err
		}
		return c.back("revoked")
	}
	revoked, err := c.keys.RevokeMade(ctx, c.id)
	if err != nil && (len(revoked) == 0 || errors.Is(err, auth.ErrNotFound)) {
		return err
	}
	if err != nil {
		return c.revoked(len(revoked), 0, err, selection{})
	}
	return c.back("ended")
}

// revoked is the answer to a revocation of several keys. It is no redirect, so
// that no link can claim it.
func (c *call) revoked(n, failed int, err error, s selection) error {
	status, title := http.StatusOK, c.text("%d keys have been revoked", n)
	if n == 1 {
		title = c.text("1 key has been revoked")
	}
	if err != nil {
		c.logFailure(err)
		status = http.StatusServiceUnavailable
	}
	query := ""
	if q := s.query(); len(q) > 0 {
		query = "?" + q.Encode()
	}
	return c.renderTitle(status, "revoked", title, struct {
		Failed     int
		Incomplete bool
		Query      string
	}{failed, err != nil, query})
}

// A set is keys that are selected: all of their IDs, and a page of their records.
type set struct {
	ids        []string
	shown      []auth.Record
	unreadable int
}

func (s *set) add(r *auth.Record) {
	if !r.RevokedAt.IsZero() || slices.Contains(s.ids[max(0, len(s.ids)-1):], r.ID) {
		return
	}
	s.ids = append(s.ids, r.ID)
	if len(s.shown) < pageSize {
		s.shown = append(s.shown, *r)
	}
}

// digest tells one set from another.
func (s *set) digest() string {
	ids := slices.Clone(s.ids)
	slices.Sort(ids)
	sum := sha256.Sum256([]byte(strings.Join(ids, "\n")))
	return hex.EncodeToString(sum[:8])
}

// selected returns the keys that a form selects. Of IDs, all must be the viewer's.
func (c *call) selected(form url.Values, s selection) (set set, err error) {
	if form.Get("all") == "" {
		ids := slices.Clone(form["id"])
		slices.Sort(ids)
		for _, id := range slices.Compact(ids) {
			r, err := c.keys.Get(c.ctx(), id)
			if err != nil {
				return set, err
			}
			c.staffRead(r.Owner, r.ID)
			set.add(&r)
		}
		return set, nil
	}
	c.staffRead(s.Owner, "")
	set.unreadable, err = c.each(c.ctx(), s, keyring.Filter{NewestFirst: true}, func(r *auth.Record) bool {
		set.add(r)
		return len(set.ids) < maxSelected
	})
	return set, err
}

// revokeSelected answers the button "Revoke selected": first with a question that
// names the number, and then, if these are still the same keys, by revoking.
func (c *call) revokeSelected() error {
	form := c.r.PostForm
	s := c.selectionOf(form)
	set, err := c.selected(form, s)
	if err != nil {
		return err
	}
	if len(set.ids) == 0 {
		return &failure{status: http.StatusUnprocessableEntity, title: "No key is selected",
			detail: "Go back, and select at least one that is not revoked."}
	}
	n, asked := strconv.Itoa(len(set.ids)), form.Get("confirmed")
	if asked != n || form.Get("set") != set.digest() {
		return c.askRevokeSelected(form, s, set, asked != "")
	}
	ctx := context.WithoutCancel(c.ctx()) // it goes on if the client leaves
	rc := http.NewResponseController(c.w)
	done, failed := 0, 0
	var failure error
	for i, id := range set.ids {
		if i%100 == 0 {
			rc.SetWriteDeadline(time.Now().Add(revokeTime)) // some servers have none
		}
		switch err := c.keys.Revoke(ctx, id); {
		case err == nil:
			done++
		case !errors.Is(err, auth.ErrNotFound): // which does not spare the others
			failed++
			failure = cmp.Or(failure, err)
		}
	}
	return c.revoked(done, failed, failure, s)
}

func (c *call) askRevokeSelected(form url.Values, s selection, set set, again bool) error {
	status, title := http.StatusOK, c.text("Revoke %d keys", len(set.ids))
	if again {
		status = http.StatusConflict // there are others now
	}
	if len(set.ids) == 1 {
		title = c.text("Revoke 1 key")
	}
	all, ids := form.Get("all") != "", set.ids
	if all {
		ids = nil
	}
	return c.renderTitle(status, "revokeselected", title, struct {
		selection
		Keys       []auth.Record
		IDs        []string
		All        bool
		N          int
		Set        string
		Other      bool // other keys than before
		Unreadable int
		Query      string
	}{s, set.shown, ids, all, len(set.ids), set.digest(), again, set.unreadable, "?" + s.query().Encode()})
}
