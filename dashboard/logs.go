package dashboard

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
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
	defaultRange = 7 * day
	rangeOfAll   = day // of staff who look at all owners
	maxRange     = 400 * day
	offeredKeys  = 200    // in the select "Key"
	knownKeys    = 10_000 // whose names a download keeps
)

// A logFilter is what the form of the page "API Logs" asks for.
type logFilter struct {
	form
	Key      string
	Status   string
	Method   string
	Route    string
	Request  string
	Addr     string
	Owner    string // only staff choose it
	From, To timeField
	After    string
	Keys     []option
}

// An option is one of a select.
type option struct{ Value, Text string }

// A timeField is an input for a time, with the zone that it means.
type timeField struct {
	Value  string // as typed, in the zone of Offset
	Offset string // minutes east of UTC; empty for UTC
	Time   time.Time
}

const localTime = "2006-01-02T15:04"

// read takes over what was typed.
func (t *timeField) read(values url.Values, name string) (ok bool) {
	t.Value, t.Offset = values.Get(name), values.Get(name+"Offset")
	if t.Value == "" {
		return true
	}
	at, err := time.Parse(localTime, t.Value)
	if err != nil {
		at, err = time.Parse(localTime+":05", t.Value)
	}
	offset, offsetErr := parseOffset(t.Offset)
	if err != nil || offsetErr != nil || at.Year() > 9999 {
		return false
	}
	t.Time = at.Add(-offset)
	return true
}

// Shown is what was typed, if an input of times can show it.
func (t timeField) Shown() string {
	if t.Time.IsZero() {
		return ""
	}
	return t.Value
}

// Instant is the time for the script, which shows it in the reader's zone.
func (t timeField) Instant() string {
	if t.Time.IsZero() {
		return ""
	}
	return t.Time.UTC().Format(time.RFC3339)
}

var (
	statusChoices = []string{"2xx", "3xx", "4xx", "5xx", "101", "200", "201", "202", "204", "304", "400", "401", "403", "404", "405", "409",
		"410", "412", "413", "415", "422", "429", "499", "500", "501", "502", "503", "504"}
	codeChoices   = []string{"INSUFFICIENT_SCOPE", "KEY_DISABLED", "KEY_EXPIRED", "KEY_REVOKED", "INVALID_KEY", "MISSING_KEY", "RATE_LIMITED"}
	methodChoices = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
)

// Statuses and Methods are the options of the selects, with that which is chosen.
func (f *logFilter) Statuses() []string {
	if slices.Contains(codeChoices, f.Status) {
		return statusChoices
	}
	return with(statusChoices, f.Status)
}

// Codes are further options of the select "Status".
func (f *logFilter) Codes() []string { return codeChoices }

func (f *logFilter) Methods() []string { return with(methodChoices, f.Method) }

func with(choices []string, chosen string) []string {
	if chosen == "" || slices.Contains(choices, chosen) {
		return choices
	}
	return append(slices.Clone(choices), chosen)
}

// logFilterOf reads the form. The query is only meaningful without Problems.
func (c *call) logFilterOf(now time.Time) (f logFilter, q apilog.Query) {
	values := c.r.URL.Query()
	get := func(name string) string { return strings.TrimSpace(values.Get(name)) }
	f = logFilter{form: form{View: c.view()}, Key: get("key"), Status: get("status"), Method: get("method"), Route: get("route"),
		Request: get("request"), Addr: get("address"), After: get("after")}
	wrong := func(field, text string) {
		f.problem(field, c.text(text))
	}
	q = apilog.Query{KeyID: f.Key, Method: f.Method, Route: f.Route, RequestID: f.Request, After: f.After}
	if c.viewer.Staff {
		f.Owner = get("owner")
		q.Owner = f.Owner
	}
	switch from, err := strconv.Atoi(strings.TrimSuffix(f.Status, "xx")); {
	case f.Status == "":
	case strings.ToUpper(f.Status) == f.Status && f.Status[0] >= 'A' && f.Status[0] <= 'Z':
		q.Code = f.Status
	case err != nil:
		wrong("status", "Choose a status.")
	case strings.HasSuffix(f.Status, "xx") && from >= 1 && from <= 9:
		q.StatusFrom, q.StatusTo = from*100, from*100+99
	case from >= 100 && from <= 999:
		q.StatusFrom, q.StatusTo = from, from
	default:
		wrong("status", "Choose a status.")
	}
	if f.Addr != "" {
		addr, err := netip.ParseAddr(f.Addr)
		if err != nil {
			wrong("address", "Enter an address, such as 192.0.2.1.")
		}
		q.RemoteAddr = addr.Unmap().WithZone("")
	}
	fromOK, toOK := f.From.read(values, "from"), f.To.read(values, "to")
	if !fromOK {
		wrong("from", "Enter a date and a time.")
	}
	if !toOK {
		wrong("to", "Enter a date and a time.")
	}
	q.To = f.To.Time
	if q.To.IsZero() {
		q.To = now
	}
	q.From = f.From.Time
	if q.From.IsZero() && c.viewer.Staff && q.Owner == "" && q.KeyID == "" {
		q.From = q.To.Add(-rangeOfAll)
	} else if q.From.IsZero() {
		q.From = q.To.Add(-defaultRange)
	}
	switch {
	case !fromOK || !toOK:
	case !q.From.Before(q.To):
		wrong("from", "The end is not after the beginning.")
	case q.To.Sub(q.From) > maxRange:
		wrong("from", "The range is longer than 400 days.")
	}
	return f, q
}

// query returns the filter as the query of a link.
func (f *logFilter) query() url.Values {
	return query(map[string]string{"key": f.Key, "status": f.Status, "method": f.Method, "route": f.Route,
		"request": f.Request, "address": f.Addr, "owner": f.Owner, "from": f.From.Value, "fromOffset": f.From.Offset,
		"to": f.To.Value, "toOffset": f.To.Offset})
}

// An entryTable is rows of API logs.
type entryTable struct {
	View    *view
	Short   bool // of one key
	Entries []entryRow
}

// An entryRow is an entry with what is known of its key.
type entryRow struct {
	apilog.Entry
	Key namedKey
}

// Took is the duration in a unit that fits.
func (e entryRow) Took() string {
	switch d := e.Duration; {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	default:
		return d.Round(time.Second).String()
	}
}

// StatusClass is the class of the badge.
func (e entryRow) StatusClass() string {
	switch {
	case e.Status >= 500:
		return "bad"
	case e.Status >= 400:
		return "warn"
	}
	return "good"
}

// Requests says that requests are missing.
func (v *view) Requests(lost int64) string {
	if lost == 1 {
		return v.text("1 request was not recorded")
	}
	return v.text("%d requests were not recorded", lost)
}

// rows returns entries with the names of their keys. Known are keys that were
// looked up before.
func (c *call) rows(entries []apilog.Entry, known map[string]namedKey) (rows []entryRow, err error) {
	if known == nil {
		known = make(map[string]namedKey)
	}
	for _, e := range entries {
		row := entryRow{Entry: e}
		if e.KeyID != "" {
			if row.Key, err = c.named(e.KeyID, known); err != nil {
				return nil, err
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// A namedKey is how a key is called, also if it is deleted.
type namedKey struct {
	ID, Name, Hint string
	State          string // "revoked", "deleted" or ""
}

// String names the key in one line.
func (k namedKey) String() string {
	text := k.Name
	if k.Hint != "" {
		text += " (" + k.Hint + ")"
	}
	if k.State != "" {
		text += " (" + k.State + ")"
	}
	return text
}

// namedOf returns how the key of a record is called.
func (c *call) namedOf(r *auth.Record) namedKey {
	k := namedKey{ID: r.ID, Name: nameOf(r), Hint: shown(r.Hint)}
	if k.Name == k.Hint {
		k.Hint = ""
	}
	if !r.RevokedAt.IsZero() {
		k.State = c.text("revoked")
	}
	return k
}

// named returns how a key is called. Known are keys that were looked up before.
func (c *call) named(id string, known map[string]namedKey) (namedKey, error) {
	if k, ok := known[id]; ok {
		return k, nil
	}
	r, err := c.keys.Get(c.ctx(), id)
	k := c.namedOf(&r)
	if errors.Is(err, auth.ErrNotFound) {
		k = namedKey{ID: id, Name: shown(id)}
		if last, ok := c.last(id); ok {
			k = c.namedOf(&last)
			k.ID = id
		}
		k.State = c.text("deleted")
	} else if err != nil {
		return k, err
	}
	if len(known) == knownKeys {
		clear(known)
	}
	known[id] = k
	return k, nil
}

// last returns what the last event of a key says that it was.
func (c *call) last(id string) (auth.Record, bool) {
	for e, err := range c.keys.Events(c.ctx(), keyring.EventFilter{KeyID: id}) {
		if err != nil {
			return auth.Record{}, false
		}
		if r := cmp.Or(e.After, e.Before); r != nil {
			return *r, true
		}
	}
	return auth.Record{}, false
}

// apiLogs is the page "API Logs".
func (c *call) apiLogs() error {
	if c.logs == nil {
		return c.noSuchPage()
	}
	f, q := c.logFilterOf(time.Now())
	c.staffRead(f.Owner, f.Key)
	data := struct {
		*logFilter
		Log       entryTable
		Chart     *chart
		NoChart   string
		Older     string
		Newest    string
		CSV       string
		Days      int
		Retention int
		Shown     apilog.Query
		Many      bool // there are more keys than the select has
		Ranges    []option
	}{logFilter: &f, Log: entryTable{View: f.View}, Shown: q}
	if c.LogsRetention > 0 {
		data.Retention = int((c.LogsRetention + day - 1) / day)
	}
	var err error
	if f.Keys, err = c.offeredKeysOf(f.Owner, f.Key); err != nil {
		return err
	}
	data.Many = len(f.Keys) >= offeredKeys
	data.Ranges = c.ranges(&f, time.Now())
	if len(f.Problems) > 0 {
		return c.render(http.StatusUnprocessableEntity, "logs", "API Logs", data)
	}
	q.Limit = pageSize + 1
	entries, err := c.logs.List(c.ctx(), q)
	if err != nil {
		return err
	}
	if len(entries) > pageSize {
		entries = entries[:pageSize]
		older := f.query()
		older.Set("after", entries[pageSize-1].ID)
		data.Older = "?" + older.Encode()
	}
	if data.Log.Entries, err = c.rows(entries, nil); err != nil {
		return err
	}
	if f.After != "" {
		data.Newest = "?" + f.query().Encode()
	} else {
		data.Chart, data.NoChart = c.chart(q)
	}
	data.CSV = "logs.csv?" + f.query().Encode()
	data.Days = int((q.To.Sub(q.From) + day - 1) / day)
	return c.render(http.StatusOK, "logs", "API Logs", data)
}

// offeredKeysOf returns the options of the select "Key": the newest keys, those
// that were deleted lately, and that which is chosen.
func (c *call) offeredKeysOf(owner, chosen string) (list []option, err error) {
	for r, err := range c.keys.List(c.ctx(), keyring.Filter{NewestFirst: true, Owner: owner}) {
		if _, ok := errors.AsType[*keyring.RecordError](err); ok {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(list) == offeredKeys {
			break
		}
		list = append(list, option{r.ID, c.namedOf(&r).String()})
	}
	n := 0
	for e, err := range c.keys.Events(c.ctx(), keyring.EventFilter{Kind: keyring.EventDeleted, Owner: owner}) {
		if err != nil || n == offeredKeys/10 {
			break
		}
		if e.Before != nil {
			k := c.namedOf(e.Before)
			k.State = c.text("deleted")
			list = append(list, option{e.KeyID, k.String()})
			n++
		}
	}
	if chosen != "" && !slices.ContainsFunc(list, func(o option) bool { return o.Value == chosen }) {
		k, err := c.named(chosen, make(map[string]namedKey))
		if err != nil {
			return nil, err
		}
		list = append(list, option{chosen, k.String()})
	}
	return list, nil
}

// ranges returns links to the same filters in ranges until now.
func (c *call) ranges(f *logFilter, now time.Time) (list []option) {
	for _, r := range []struct {
		text   string
		length time.Duration
	}{{"Last hour", time.Hour}, {"24 hours", day}, {"7 days", 7 * day}, {"30 days", 30 * day}} {
		q := f.query()
		for _, name := range []string{"to", "toOffset", "fromOffset"} {
			q.Del(name)
		}
		q.Set("from", now.UTC().Add(-r.length).Format(localTime))
		list = append(list, option{"?" + q.Encode(), c.text(r.text)})
	}
	return list
}
