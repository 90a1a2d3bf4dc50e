package dashboard

import (
	"cmp"
	"errors"
	"fmt"
	"html/template"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// An eventTable is rows of changes.
type eventTable struct {
	View   *view
	Short  bool // of one key
	Events []eventRow
	last   auth.Record // what the newest of them knows of its key
}

// An eventRow is a change, as the viewer sees it.
type eventRow struct {
	ID       string
	Time     time.Time
	KeyID    string
	Key      namedKey
	Kind     keyring.EventKind
	What     string // a text
	By       actor
	Revision int64
	Changes  []change
}

// An actor is who made a change: a key, or a name.
type actor struct {
	Key  namedKey // with an ID if it was a key
	Name string
}

// String names the actor in one line.
func (a actor) String() string {
	if a.Key.ID != "" {
		return a.Key.String()
	}
	return a.Name
}

// A change is what a field was, and what it became.
type change struct {
	Field    string // a text
	From, To template.HTML
	from, to string // the same as text
}

// kinds are what an event did, as texts.
var kinds = []struct {
	Value keyring.EventKind
	Text  string
}{
	{keyring.EventCreated, "Created"},
	{keyring.EventUpdated, "Changed"},
	{keyring.EventRotated, "Rotated"},
	{keyring.EventDisabled, "Disabled"},
	{keyring.EventEnabled, "Enabled"},
	{keyring.EventRevoked, "Revoked"},
	{keyring.EventDeleted, "Deleted"},
}

// rowOf returns an event as the viewer sees it. Known are keys that were looked
// up before.
func (c *call) rowOf(e *keyring.Event, known map[string]namedKey) eventRow {
	row := eventRow{ID: e.ID, Time: e.Time, KeyID: e.KeyID, Kind: e.Kind, By: c.by(e.By, known), Revision: e.Revision}
	for _, kind := range kinds {
		if kind.Value == e.Kind {
			row.What = kind.Text
		}
	}
	row.Key = namedKey{ID: e.KeyID, Name: shown(e.KeyID)}
	if r := cmp.Or(e.After, e.Before); r != nil {
		row.Key = c.namedOf(r)
		row.Key.State = ""
	}
	if e.Before == nil && e.Kind != keyring.EventCreated || e.After == nil && e.Kind != keyring.EventDeleted || e.After == nil {
		return row // one of the records is not theirs to see, or nothing is left
	}
	before, after := c.fieldsOf(e.Before), c.fieldsOf(e.After)
	for i, f := range after {
		if before[i].to != f.to {
			row.Changes = append(row.Changes, change{f.Field, before[i].To, f.To, before[i].to, f.to})
		}
	}
	return row
}

// fieldsOf returns what can change in a record and is not said by the kind of the
// event, each with its value in To.
func (c *call) fieldsOf(r *auth.Record) (fields []change) {
	add := func(field, text string, html template.HTML) {
		fields = append(fields, change{Field: field, To: html, to: text})
	}
	plain := func(field, text string) { add(field, text, template.HTML(template.HTMLEscapeString(text))) }
	if r == nil {
		for _, field := range []string{"Name", "Scopes", "Expires", "Successor"} {
			plain(field, "")
		}
		return fields
	}
	var scopes []string
	for _, s := range r.Scopes {
		scopes = append(scopes, shown(string(s)))
	}
	plain("Name", nameOf(r))
	plain("Scopes", strings.Join(scopes, ", "))
	if r.ExpiresAt.IsZero() {
		plain("Expires", c.text("Never"))
	} else {
		add("Expires", utc(r.ExpiresAt), c.view().Time(r.ExpiresAt))
	}
	if r.RotatedTo == "" {
		plain("Successor", "")
	} else {
		link := fmt.Sprintf(`<a href="%s">%s</a>`, template.HTMLEscapeString(c.view().KeyPath(r.RotatedTo)),
			template.HTMLEscapeString(shown(r.RotatedTo)))
		add("Successor", r.RotatedTo, template.HTML(link))
	}
	return fields
}

// by returns who made a change, as the viewer sees it: a key by its name, and for
// customers staff and SQL as "Support".
func (c *call) by(name string, known map[string]namedKey) actor {
	if !c.viewer.Staff && isSupport(name) {
		return actor{Name: c.text("Support")}
	}
	if uuid.MatchString(name) { // the ID of a key that acted itself
		if k, err := c.named(name, known); err == nil && k.Name != shown(name) {
			return actor{Key: k}
		}
	}
	return actor{Name: shown(name)}
}

func isSupport(name string) bool {
	return strings.HasPrefix(name, "staff:") || strings.HasPrefix(name, "sql:")
}

// By is by, for templates.
func (v *view) By(name string) string { return v.by(name, make(map[string]namedKey)).String() }

// eventRows returns the changes that a filter selects. Customers select "Support"
// by that name, and nobody behind it.
func (c *call) eventRows(f eventFilter, q keyring.EventFilter) iter.Seq2[eventRow, error] {
	support := !c.viewer.Staff && f.By == c.text("Support")
	if support {
		q.By = ""
	}
	known := make(map[string]namedKey)
	return func(yield func(eventRow, error) bool) {
		for e, err := range c.keys.Events(c.ctx(), q) {
			if err == nil && !c.viewer.Staff && f.By != "" && support != isSupport(e.By) {
				continue
			}
			row := eventRow{}
			if err == nil {
				row = c.rowOf(&e, known)
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

// eventTable returns at most n changes of a key.
func (c *call) eventTable(f keyring.EventFilter, n int, short bool) (t eventTable, err error) {
	t = eventTable{View: c.view(), Short: short}
	known := make(map[string]namedKey)
	for e, err := range c.keys.Events(c.ctx(), f) {
		if err != nil {
			return t, err
		}
		if len(t.Events) == 0 {
			if r := cmp.Or(e.After, e.Before); r != nil {
				t.last = *r
			}
			t.last.ID, t.last.Owner = e.KeyID, e.Owner
		}
		t.Events = append(t.Events, c.rowOf(&e, known))
		if len(t.Events) == n {
			break
		}
	}
	return t, nil
}

// EventTable returns a table of changes of one key.
func (v *view) EventTable(events []eventRow) eventTable {
	return eventTable{View: v, Short: true, Events: events}
}

// An eventFilter is what the form of the page "Activity" asks for.
type eventFilter struct {
	form
	Key      string
	By       string
	Kind     string
	Owner    string
	From, To timeField
	Kinds    any
	Keys     []option
}

// eventFilterOf reads the form.
func (c *call) eventFilterOf() (f eventFilter, q keyring.EventFilter) {
	values := c.r.URL.Query()
	get := func(name string) string { return strings.TrimSpace(values.Get(name)) }
	f = eventFilter{form: form{View: c.view()}, Key: get("key"), By: get("by"), Kind: get("kind"), Kinds: kinds}
	if c.viewer.Staff {
		f.Owner = get("owner")
	}
	for _, field := range []struct {
		name string
		t    *timeField
	}{{"from", &f.From}, {"to", &f.To}} {
		if !field.t.read(values, field.name) {
			f.problem(field.name, c.text("Enter a date and a time."))
		}
	}
	if f.Kind != "" && !slices.ContainsFunc(kinds, func(k struct {
		Value keyring.EventKind
		Text  string
	}) bool {
		return string(k.Value) == f.Kind
	}) {
		f.problem("kind", c.text("Choose a kind."))
	}
	return f, keyring.EventFilter{KeyID: f.Key, By: f.By, Kind: keyring.EventKind(f.Kind), Owner: f.Owner,
		From: f.From.Time, To: f.To.Time, After: get("after")}
}

func (f *eventFilter) query() url.Values {
	return query(map[string]string{"key": f.Key, "by": f.By, "kind": f.Kind, "owner": f.Owner,
		"from": f.From.Value, "fromOffset": f.From.Offset, "to": f.To.Value, "toOffset": f.To.Offset})
}

// activity is the page "Activity".
func (c *call) activity() error {
	f, q := c.eventFilterOf()
	c.staffRead(f.Owner, f.Key)
	data := struct {
		*eventFilter
		Table              eventTable
		Older, Newest, CSV string
		Filtered           bool
	}{eventFilter: &f, Table: eventTable{View: f.View}}
	var err error
	if f.Keys, err = c.offeredKeysOf(f.Owner, f.Key); err != nil {
		return err
	}
	if len(f.Problems) > 0 {
		return c.render(http.StatusUnprocessableEntity, "activity", "Activity", data)
	}
	table := eventTable{View: f.View}
	for row, rowErr := range c.eventRows(f, q) {
		if err = rowErr; err != nil {
			break
		}
		if table.Events = append(table.Events, row); len(table.Events) > pageSize {
			break
		}
	}
	switch {
	case errors.Is(err, auth.ErrNotFound) && q.After == "":
		f.problem("key", c.text("There is no such key."))
		return c.render(http.StatusUnprocessableEntity, "activity", "Activity", data)
	case errors.Is(err, auth.ErrNotFound):
		return &failure{status: http.StatusBadRequest, title: "This address is not valid"}
	case err != nil:
		return err
	}
	if len(table.Events) > pageSize {
		table.Events = table.Events[:pageSize]
		older := f.query()
		older.Set("after", table.Events[pageSize-1].ID)
		data.Older = "?" + older.Encode()
	}
	if q.After != "" {
		data.Newest = "?" + f.query().Encode()
	}
	data.Table, data.Filtered = table, len(f.query()) > 0
	data.CSV = "activity.csv?" + f.query().Encode()
	return c.render(http.StatusOK, "activity", "Activity", data)
}
