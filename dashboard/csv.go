package dashboard

import (
	"encoding/csv"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// csvPage is how many entries a download reads at a time.
const csvPage = 1000

// A download writes a CSV file, page by page.
type download struct {
	c   *call
	csv *csv.Writer
	rc  *http.ResponseController
}

// download begins a download, or refuses it since the owner has one already.
func (c *call) download(name string, columns ...string) (*download, func(), error) {
	giveBack, ok := c.slot("download", maxDownloads)
	if !ok {
		c.w.Header().Set("Retry-After", "10")
		return nil, nil, &failure{status: http.StatusTooManyRequests, title: "Another download is going on",
			detail: "Wait until it has ended, and try again."}
	}
	d := &download{c: c, csv: csv.NewWriter(c.w), rc: http.NewResponseController(c.w)}
	h := c.w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
	h.Set("Content-Disposition", `attachment; filename="`+name+"-"+time.Now().UTC().Format("20060102-150405")+`.csv"`)
	d.extend()
	d.csv.UseCRLF = true // RFC 4180 section 2
	d.csv.Write(columns)
	return d, giveBack, nil
}

// extend gives the client time to read a page.
func (d *download) extend() { d.rc.SetWriteDeadline(time.Now().Add(time.Minute)) } // some servers have none

// row writes a line. Texts are neutralized, numbers are not.
func (d *download) row(cells ...string) {
	for i, cell := range cells {
		cells[i] = neutral(cell)
	}
	d.csv.Write(cells)
}

// page ends a page. If the client has left, or the store has failed, it breaks the
// connection off, so that nobody takes a part for the whole.
func (d *download) page(err error) {
	d.csv.Flush()
	if err == nil {
		err = d.csv.Error()
	}
	if err != nil {
		d.c.logFailure(err)
		panic(http.ErrAbortHandler)
	}
	d.rc.Flush()
	d.extend()
}

// neutral returns a text that no spreadsheet takes for a formula: one that could
// be gets a quote in front. A number stays.
func neutral(text string) string {
	trimmed := strings.TrimLeftFunc(text, func(c rune) bool {
		return unicode.IsSpace(c) || unicode.IsControl(c) || unicode.Is(unicode.Cf, c) || c == '\'' || c == '"'
	})
	if trimmed == "" || !strings.ContainsRune("=+-@|%\uff1d\uff0b\uff0d\uff20", []rune(trimmed)[0]) {
		if text == "" || !strings.ContainsRune("\t\r\n", []rune(text)[0]) {
			return text
		}
		return "'" + text
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return text
	}
	return "'" + text
}

// logsCSV is the download of the page "API Logs".
func (c *call) logsCSV() error {
	if c.logs == nil {
		return c.noSuchPage()
	}
	f, q := c.logFilterOf(time.Now())
	if len(f.Problems) > 0 {
		return c.apiLogs()
	}
	c.staffRead(f.Owner, f.Key)
	q.Limit, q.After = csvPage, ""
	entries, err := c.logs.List(c.ctx(), q) // before the answer begins, so that it can still fail
	if err != nil {
		return err
	}
	d, giveBack, err := c.download("api-logs", "Time", "Method", "Path", "Status", "Code", "Duration", "Key", "Address", "Route",
		"Request ID", "User agent")
	if err != nil {
		return err
	}
	defer giveBack()
	known := make(map[string]namedKey)
	for {
		for _, e := range c.rows(entries, known) {
			d.entry(e)
		}
		d.page(nil)
		if len(entries) < csvPage {
			return nil
		}
		q.After = entries[len(entries)-1].ID
		if entries, err = c.logs.List(c.ctx(), q); err != nil {
			d.page(err)
		}
	}
}

// entry writes an entry. The duration is in milliseconds.
func (d *download) entry(e entryRow) {
	at := e.Time.UTC().Format(time.RFC3339Nano)
	if e.Lost != 0 {
		d.row(at, "", d.c.view().Requests(e.Lost), "", "", "", e.keyText(), "", "", "", "")
		return
	}
	addr := ""
	if e.RemoteAddr.IsValid() {
		addr = e.RemoteAddr.String()
	}
	d.row(at, e.Method, e.Path, strconv.Itoa(e.Status), e.Code,
		strconv.FormatFloat(float64(e.Duration.Microseconds())/1000, 'f', 3, 64), e.keyText(), addr, e.Route, e.RequestID, e.UserAgent)
}

// keyText names the key of an entry.
func (e entryRow) keyText() string {
	if e.KeyState != "" {
		return e.KeyName + " (" + e.KeyState + ")"
	}
	return e.KeyName
}

func (c *call) view() *view { return &view{call: c} }

// activityCSV is the download of the page "Activity".
func (c *call) activityCSV() error {
	f, q := c.eventFilterOf()
	if len(f.Problems) > 0 {
		return c.activity()
	}
	c.staffRead(f.Owner, f.Key)
	q.After = ""
	d, giveBack, err := (*download)(nil), func() {}, error(nil)
	n := 0
	begin := func() error {
		if d == nil {
			d, giveBack, err = c.download("activity", "Time", "Key", "Key ID", "What", "By", "Changes")
		}
		return err
	}
	defer func() { giveBack() }()
	for e, err := range c.keys.Events(c.ctx(), q) {
		if err != nil && d == nil {
			return err
		}
		if err != nil {
			d.page(err)
		}
		if err := begin(); err != nil {
			giveBack = func() {}
			return err
		}
		row := c.rowOf(&e)
		var changes []string
		for _, ch := range row.Changes {
			changes = append(changes, ch.Field+": "+ch.From+" -> "+ch.To)
		}
		d.row(e.Time.UTC().Format(time.RFC3339Nano), row.KeyName, e.KeyID, c.text(row.What), row.By, strings.Join(changes, "; "))
		if n++; n%csvPage == 0 {
			d.page(nil)
		}
	}
	if err := begin(); err != nil {
		giveBack = func() {}
		return err
	}
	d.page(nil)
	return nil
}
