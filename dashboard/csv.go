package dashboard

import (
	"cmp"
	"encoding/csv"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/insigner/auth/keyring"
)

// csvPage is how many entries a download reads at a time.
const csvPage = 1000

// A download writes a CSV file, page by page. The answer begins with the first
// page, so that before it everything can still fail.
type download struct {
	c        *call
	csv      *csv.Writer
	rc       *http.ResponseController
	name     string
	columns  []string
	begun    bool
	giveBack func()
}

// download begins a download, or refuses it since the owner has one already.
func (c *call) download(name string, columns ...string) (*download, error) {
	giveBack, ok := c.slot("download", maxDownloads)
	if !ok {
		c.w.Header().Set("Retry-After", "10")
		return nil, &failure{status: http.StatusTooManyRequests, title: "Another download is running",
			detail: "Wait until it has ended, and try again."}
	}
	return &download{c: c, csv: csv.NewWriter(c.w), rc: http.NewResponseController(c.w), name: name, columns: columns,
		giveBack: giveBack}, nil
}

// begin begins the answer if it has not begun. It reports whether a body is asked
// for.
func (d *download) begin() bool {
	if !d.begun {
		d.begun = true
		h := d.c.w.Header()
		h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
		h.Set("Content-Disposition", `attachment; filename="`+d.name+"-"+time.Now().UTC().Format("20060102-150405")+`.csv"`)
		d.extend()
		d.csv.UseCRLF = true // RFC 4180 section 2
		d.csv.Write(d.columns)
	}
	return d.c.r.Method != http.MethodHead
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

// page ends a page.
func (d *download) page() {
	d.csv.Flush()
	if err := d.csv.Error(); err != nil {
		d.c.logFailure(err)
		panic(http.ErrAbortHandler)
	}
	d.rc.Flush()
	d.extend()
}

// fail ends a download with an error. If it has begun, a last line says that it is
// not complete, and the connection is broken off, so that nobody takes a part for
// the whole.
func (d *download) fail(err error) error {
	if !d.begun {
		return err
	}
	d.c.logFailure(err)
	d.row(d.c.text("INCOMPLETE: the download broke off here"))
	d.csv.Flush()
	d.rc.Flush()
	panic(http.ErrAbortHandler)
}

// neutral returns a text that no spreadsheet takes for a formula: what could begin
// one gets a quote in front, also behind a separator, at which some spreadsheets
// split a cell. A number stays.
func neutral(text string) string {
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return text
	}
	var b strings.Builder
	begins := true // what follows would be the beginning of a cell
	for i, c := range text {
		switch {
		case begins && strings.ContainsRune("=+-@|%\uff1d\uff0b\uff0d\uff20", c), i == 0 && strings.ContainsRune("\t\r\n", c):
			b.WriteByte('\'')
			begins = false
		case strings.ContainsRune(";,\t\r\n|", c):
			begins = true
		case !unicode.IsSpace(c) && !unicode.IsControl(c) && !unicode.Is(unicode.Cf, c) && c != '\'' && c != '"':
			begins = false
		}
		b.WriteRune(c)
	}
	return b.String()
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
	for _, err := range c.keys.List(c.ctx(), keyring.Filter{}) { // who cannot act reads nothing
		if _, ok := errors.AsType[*keyring.RecordError](err); err != nil && !ok {
			return err
		}
		break
	}
	c.staffRead(f.Owner, f.Key)
	d, err := c.download("api-logs", "Time", "Method", "Path", "Status", "Code", "Duration", "Key", "Address", "Route", "Request ID",
		"User agent")
	if err != nil {
		return err
	}
	defer d.giveBack()
	q.Limit, q.After = csvPage, ""
	known := make(map[string]namedKey)
	for {
		entries, err := c.logs.List(c.ctx(), q)
		rows, namesErr := c.rows(entries, known)
		if err = cmp.Or(err, namesErr); err != nil {
			return d.fail(err)
		}
		if !d.begin() {
			return nil
		}
		for _, e := range rows {
			d.entry(e)
		}
		d.page()
		if len(entries) < csvPage {
			return nil
		}
		q.After = entries[len(entries)-1].ID
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
	if e.KeyID == "" {
		return ""
	}
	return e.Key.String()
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
	d, err := c.download("activity", "Time", "Key", "Key ID", "Change", "By", "Changes")
	if err != nil {
		return err
	}
	defer d.giveBack()
	n := 0
	for row, err := range c.eventRows(f, q) {
		if err != nil {
			return d.fail(err)
		}
		if !d.begin() {
			return nil
		}
		var changes []string
		for _, ch := range row.Changes {
			changes = append(changes, ch.Field+": "+ch.from+" -> "+ch.to)
		}
		d.row(row.Time.UTC().Format(time.RFC3339Nano), row.Key.String(), row.KeyID, c.text(row.What), row.By.String(), strings.Join(changes, "; "))
		if n++; n%csvPage == 0 {
			d.page()
		}
	}
	if d.begin() {
		d.page()
	}
	return nil
}
