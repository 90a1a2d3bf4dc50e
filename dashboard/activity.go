package dashboard

import (
	"cmp"
	"errors"
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
	KeyName  string
	Kind     keyring.EventKind
	What     string // a text
	By       string
	Revision int64
	Changes  []change
}

// A change is what a field was, and what it became. Both are shown as they are.
type change struct {
	Field    string // a text
	From, To string
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

// rowOf returns an event as the viewer sees it.
func (c *call) rowOf(e *keyring.Event) eventRow {
	row := eventRow{ID: e.ID, Time: e.Time, KeyID: e.KeyID, Kind: e.Kind, By: c.by(e.By), Revision: e.Revision}
	for _, kind := range kinds {
		if kind.Value == e.Kind {
			row.What = kind.Text
		}
	}
	if r := cmp.Or(e.After, e.Before); r != nil {
		row.KeyName = nameOf(r)
	}
	row.KeyName = cmp.Or(row.KeyName, shown(e.KeyID))
	if e.Before == nil && e.Kind != keyring.EventCreated || e.After == nil && e.Kind != keyring.EventDeleted {
		return row // one of the records is not theirs to see
	}
	before, after := c.fieldsOf(e.Before), c.fieldsOf(e.After)
	for i := range after {
		if before[i].To != after[i].To {
			row.Changes = append(row.Changes, change{after[i].Field, before[i].To, after[i].To})
		}
	}
	return row
}

// fieldsOf returns what can change in a record, each with its value in To.
func (c *call) fieldsOf(r *auth.Record) []change {
	var values [6]string
	if r != nil {
		at := func(t time.Time) string {
			if t.IsZero() {
				return ""
			}
			return utc(t)
		}
		var scopes []string
		for _, s := range r.Scopes {
			scopes = append(scopes, shown(string(s)))
		}
		expires := at(r.ExpiresAt)
		values = [6]string{nameOf(r), strings.Join(scopes, ", "), cmp.Or(expires, c.text("Never")), at(r.DisabledAt),
			at(r.RevokedAt), shown(r.RotatedTo)}
	}
	var fields []change
	for i, name := range []string{"Name", "Scopes", "Expires", "Disabled", "Revoked", "Successor"} {
		fields = append(fields, change{Field: name, To: values[i]})
	}
	return fields
}

// by returns who made a change, as the viewer sees it: a key by its name, and for
// customers staff and SQL as "Support".
func (c *call) by(name string) string {
	if !c.viewer.Staff && (strings.HasPrefix(name, "staff:") || strings.HasPrefix(name, "sql:")) {
		return c.text("Support")
	}
	return shown(name)
}

// By is by, for templates.
func (v *view) By(name string) string { return v.by(name) }

// eventTable returns at most n changes.
func (c *call) eventTable(f keyring.EventFilter, n int, short bool) (t eventTable, err error) {
	t = eventTable{View: &view{call: c}, Short: short}
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
		t.Events = append(t.Events, c.rowOf(&e))
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
	View     *view
	Key      string
	By       string
	Kind     string
	Owner    string
	From, To timeField
	Problems []problem
	Kinds    any
	Keys     []option
}

// Wrong returns what is wrong with a field, or "".
func (f *eventFilter) Wrong(field string) string {
	for _, p := range f.Problems {
		if p.Field == field {
			return p.Text
		}
	}
	return ""
}

// eventFilterOf reads the form.
func (c *call) eventFilterOf() (f eventFilter, q keyring.EventFilter) {
	values := c.r.URL.Query()
	get := func(name string) string { return strings.TrimSpace(values.Get(name)) }
	f = eventFilter{View: &view{call: c}, Key: get("key"), By: get("by"), Kind: get("kind"), Kinds: kinds}
	if c.viewer.Staff {
		f.Owner = get("owner")
	}
	for _, field := range []struct {
		name string
		t    *timeField
	}{{"from", &f.From}, {"to", &f.To}} {
		if !field.t.read(values, field.name) {
			f.Problems = append(f.Problems, problem{f.View, field.name, c.text("Enter a date and a time.")})
		}
	}
	if f.Kind != "" && !slices.ContainsFunc(kinds, func(k struct {
		Value keyring.EventKind
		Text  string
	}) bool {
		return string(k.Value) == f.Kind
	}) {
		f.Problems = append(f.Problems, problem{f.View, "kind", c.text("Choose a kind.")})
	}
	return f, keyring.EventFilter{KeyID: f.Key, By: f.By, Kind: keyring.EventKind(f.Kind), Owner: f.Owner,
		From: f.From.Time, To: f.To.Time, After: get("after")}
}

func (f *eventFilter) query() url.Values {
	q := make(url.Values)
	for name, value := range map[string]string{"key": f.Key, "by": f.By, "kind": f.Kind, "owner": f.Owner,
		"from": f.From.Value, "fromOffset": f.From.Offset, "to": f.To.Value, "toOffset": f.To.Offset} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

// activity is the page "Activity".
func (c *call) activity() error {
	f, q := c.eventFilterOf()
	c.staffRead(f.Owner, f.Key)
	data := struct {
		*eventFilter
		Table              eventTable
		Older, Newest, CSV string
	}{eventFilter: &f, Table: eventTable{View: f.View}}
	var err error
	if f.Keys, err = c.offeredKeysOf(f.Owner, f.Key); err != nil {
		return err
	}
	if len(f.Problems) > 0 {
		return c.render(http.StatusUnprocessableEntity, "activity", "Activity", data)
	}
	table, err := c.eventTable(q, pageSize+1, false)
	switch {
	case errors.Is(err, auth.ErrNotFound) && q.After == "":
		f.Problems = append(f.Problems, problem{f.View, "key", c.text("There is no such key.")})
		return c.render(http.StatusUnprocessableEntity, "activity", "Activity", data)
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
	data.Table = table
	data.CSV = "activity.csv?" + f.query().Encode()
	return c.render(http.StatusOK, "activity", "Activity", data)
}
