package dashboard

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// newKey is the page "Create API Key".
func (c *call) newKey() error {
	f := c.newKeyForm()
	var scopes []auth.Scope
	if like := c.r.URL.Query().Get("like"); like != "" { // the key that this one is to be like
		r, err := c.keys.Get(c.ctx(), like)
		if err != nil {
			return err
		}
		c.staffRead(r.Owner, r.ID)
		f.Name, f.Owner, scopes = r.Name, r.Owner, r.Scopes
	}
	f.offer(c, scopes, scopes)
	for _, s := range f.Apart {
		f.NotCopied = append(f.NotCopied, s.Scope)
	}
	f.Apart = nil
	f.SignIn = c.confirmed(ActionCreate)
	return c.render(http.StatusOK, "new", "Create API Key", f)
}

// create answers the form of that page.
func (c *call) create() error {
	f := c.newKeyForm()
	scopes := f.read(c)
	now := time.Now()
	expires, ok := f.expiry(now)
	if !hasText(f.Name) {
		f.problem("name", c.text("Enter a name."))
	}
	if len(scopes) == 0 {
		f.problem("scopes", c.text("Choose at least one scope."))
	}
	if c.viewer.Staff && f.Owner == "" {
		f.problem("owner", c.text("Enter the owner of the key."))
	}
	if !ok || len(f.Problems) > 0 {
		return c.again(f, scopes, http.StatusUnprocessableEntity)
	}
	if f.SignIn = c.confirmed(ActionCreate); f.SignIn != "" {
		return c.again(f, scopes, http.StatusForbidden)
	}
	slices.Sort(scopes)
	scopes = slices.Compact(scopes)
	r, key, err := c.keys.Create(c.ctx(), keyring.Spec{
		Name: f.Name, Owner: f.Owner, Scopes: scopes, ExpiresAt: expires, Once: f.once(scopes),
	})
	if first, ok := errors.AsType[*keyring.ExistsError](err); ok {
		return c.exists(&first.Record, "This key already exists", true)
	}
	if err != nil {
		if err := f.refused(c, err); err != nil {
			return err
		}
		return c.again(f, scopes, http.StatusUnprocessableEntity)
	}
	return c.saveYourKey(&r, key)
}

// again answers with the form as it was sent, and what is wrong with it.
func (c *call) again(f *keyForm, scopes []auth.Scope, status int) error {
	f.offer(c, scopes, nil)
	return c.render(status, "new", "Create API Key", f)
}

// saveYourKey is the page that shows a key, for the only time.
func (c *call) saveYourKey(r *auth.Record, key auth.Key) error {
	data := struct {
		Key, Old auth.Record
		Secret   string
		Curl     string
	}{Key: *r, Secret: key.Reveal()}
	if r.RotatedFrom != "" {
		if old, err := c.keys.Get(c.ctx(), r.RotatedFrom); err == nil { // else the key is shown nevertheless
			data.Old = old
		}
	}
	if c.APIBase != "" {
		data.Curl = `curl -H "Authorization: Bearer ` + data.Secret + `" ` + c.APIBase + "/self"
	}
	return c.render(http.StatusOK, "saved", "Save your key", data)
}

// exists is the answer if there is a key already: to a POST that is repeated, by a
// reload, a double click or Back. The key was shown in the answer to the first,
// which the browser may have thrown away. So it offers to replace the key, as
// long as nobody uses it.
func (c *call) exists(r *auth.Record, title string, repeated bool) error {
	last, err := c.tip(r)
	if err != nil {
		return err
	}
	c.staffRead(last.Owner, last.ID)
	used, err := c.isUsed(last)
	if err != nil {
		c.logFailure(err) // then nobody knows
		used = true
	}
	return c.render(http.StatusConflict, "exists", title, struct {
		Key      auth.Record
		Repeated bool
		CanSwap  bool
	}{*last, repeated, repeated && !used && c.replaceable(last)})
}

// replaceable reports whether a key is one that the viewer has just made.
func (c *call) replaceable(r *auth.Record) bool {
	name := c.viewer.Name
	if c.viewer.Staff {
		name = "staff:" + name
	}
	now := time.Now()
	return r.CreatedBy == name && now.Sub(r.CreatedAt) < day && r.Check(now) == nil
}

// tip returns the newest key of the chain of r.
func (c *call) tip(r *auth.Record) (*auth.Record, error) {
	if r.RotatedTo == "" || r.Chain == "" {
		return r, nil
	}
	for next, err := range c.keys.List(c.ctx(), keyring.Filter{Chain: r.Chain, NewestFirst: true}) {
		return &next, err
	}
	return r, nil
}

// replace answers the button of the page of a repeated POST: a new key in place
// of one that nobody has seen.
func (c *call) replace() error {
	r, err := c.key()
	if err != nil {
		return err
	}
	if r.RotatedTo != "" {
		return c.exists(&r, "The key was replaced already", true)
	}
	used, err := c.isUsed(&r)
	if err != nil {
		return err
	}
	if used || !c.replaceable(&r) {
		return c.exists(&r, "The key cannot be replaced", false)
	}
	if signIn := c.confirmed(ActionRotate); signIn != "" {
		return c.signInFirst(signIn)
	}
	next, key, err := c.keys.Rotate(c.ctx(), r.ID, 0)
	if errors.Is(err, keyring.ErrRotated) {
		if r, err = c.keys.Get(c.ctx(), r.ID); err != nil {
			return err
		}
		return c.exists(&r, "The key was replaced already", true)
	}
	if err != nil {
		return err
	}
	return c.saveYourKey(&next, key)
}

// signInFirst answers a POST without fields that needs a fresh sign-in.
func (c *call) signInFirst(signIn string) error {
	return c.render(http.StatusForbidden, "signin", "Sign in again first", struct {
		View   *view
		SignIn string
	}{c.view(), signIn})
}

// rotateForm is the form of the page "Rotate".
type rotateForm struct {
	View    *view
	Key     auth.Record
	Graces  []grace
	Grace   string
	Problem string
	SignIn  string
}

// A grace is for how long the old key stays valid.
type grace struct {
	Value, Text string
	For         time.Duration
}

var graces = []grace{
	{"now", "Now", 0},
	{"1h", "1 hour", time.Hour},
	{"24h", "24 hours", 24 * time.Hour},
	{"7d", "7 days", 7 * day},
}

// rotateKey is the page "Rotate".
func (c *call) rotateKey() error {
	r, err := c.key()
	if err != nil {
		return err
	}
	if r.RotatedTo != "" {
		return c.exists(&r, "The key has been rotated already", false)
	}
	f := &rotateForm{View: c.view(), Key: r, Graces: graces, Grace: "24h", SignIn: c.confirmed(ActionRotate)}
	return c.renderTitle(http.StatusOK, "rotate", c.text("Rotate %s", nameOf(&r)), f)
}

// rotate answers the form of that page.
func (c *call) rotate() error {
	r, err := c.key()
	if err != nil {
		return err
	}
	f := &rotateForm{View: c.view(), Key: r, Graces: graces, Grace: c.r.PostForm.Get("grace")}
	status := http.StatusOK
	i := slices.IndexFunc(graces, func(g grace) bool { return g.Value == f.Grace })
	if i < 0 {
		f.Problem, status = c.text("Choose how long the old key stays valid."), http.StatusUnprocessableEntity
	} else if f.SignIn = c.confirmed(ActionRotate); f.SignIn != "" {
		status = http.StatusForbidden
	}
	if status != http.StatusOK {
		return c.renderTitle(status, "rotate", c.text("Rotate %s", nameOf(&r)), f)
	}
	next, key, err := c.keys.Rotate(c.ctx(), r.ID, graces[i].For)
	if errors.Is(err, keyring.ErrRotated) {
		if r, err = c.keys.Get(c.ctx(), r.ID); err != nil {
			return err
		}
		return c.exists(&r, "The key has been rotated already", true)
	}
	if errors.Is(err, keyring.ErrTooManyKeys) {
		return &failure{status: http.StatusConflict, title: "There are too many keys",
			detail: "Rotate this one without an overlap, or revoke another first."}
	}
	if err != nil {
		return err
	}
	return c.saveYourKey(&next, key)
}
