package transfer_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cmd/isk/internal/transfer"
)

var formats = []transfer.Format{transfer.CSV, transfer.Lines}

func TestEveryFieldComesBack(t *testing.T) {
	texts := []string{"", "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", `"`, `"quoted"`, "a\nb", "a\r\nb", "\r", "\r\n", "\n", "a\rb",
		" leading", "trailing ", "\t", "\ufeffmark", "\ufeff", `json:"`, `json:"x"`, "json:", ",", ";", "ü", "\u2028", "😀", `\`,
		`\u0000`, `\.`, "<script>&", "'", "null", "never", "{}", "[]", "\x7f\x01", "\u0085", strings.Repeat("x", 10_000)}
	for _, text := range texts {
		r := full()
		r.ID, r.Hint, r.Name, r.Owner, r.CreatedBy, r.UpdatedBy = "x"+text, text, text, text, text, text
		r.RotatedFrom, r.RotatedTo, r.Chain = text, text, text
		r.Scopes = auth.Scopes{auth.Scope(text), "a"}
		r.Metadata = map[string]string{text: "1", "2": text}
		wantBack(t, fmt.Sprintf("%.20q", text), r)
	}
	for name, change := range map[string]func(r *auth.Record){
		"as it is":        func(r *auth.Record) {},
		"no scope":        func(r *auth.Record) { r.Scopes = nil },
		"one blank scope": func(r *auth.Record) { r.Scopes = auth.Scopes{""} },
		"odd scopes":      func(r *auth.Record) { r.Scopes = auth.Scopes{"a,b", " ", "[", "nul\x00", "a"} },
		"a scope twice":   func(r *auth.Record) { r.Scopes = auth.Scopes{"a", "a"} },
		"no metadata":     func(r *auth.Record) { r.Metadata = nil },
		"NUL in metadata": func(r *auth.Record) { r.Metadata = map[string]string{"\x00": "\x00"} },
		"zero times": func(r *auth.Record) {
			r.CreatedAt, r.UpdatedAt, r.ExpiresAt, r.DisabledAt, r.RevokedAt, r.LastUsedAt =
				time.Time{}, time.Time{}, time.Time{}, time.Time{}, time.Time{}, time.Time{}
		},
		"first and last times": func(r *auth.Record) {
			r.CreatedAt = time.Time{}.Add(time.Microsecond)
			r.ExpiresAt = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
		},
		"least revision":    func(r *auth.Record) { r.Revision = math.MinInt64 },
		"greatest revision": func(r *auth.Record) { r.Revision = math.MaxInt64 },
		"no revision":       func(r *auth.Record) { r.Revision = 0 },
		"no hash":           func(r *auth.Record) { r.Hash = auth.Hash{} },
		"nothing":           func(r *auth.Record) { *r = auth.Record{ID: "x"} },
	} {
		r := full()
		change(r)
		wantBack(t, name, r)
	}
}

// wantBack fails unless the record comes back, between two others.
func wantBack(t *testing.T, name string, r *auth.Record) {
	t.Helper()
	for _, format := range formats {
		file := written(t, format, full(), r, full())
		rows, problems := read(file, "")
		if len(problems) > 0 || len(rows) != 3 {
			t.Errorf("%s, %s: %d rows, %v", format, name, len(rows), problems)
			continue
		}
		for i, want := range []*auth.Record{full(), r, full()} {
			if !rows[i].Complete() {
				t.Errorf("%s, %s: row %d is not complete", format, name, i)
			}
			if got, want := fields(&rows[i].Record), fields(want); got != want {
				t.Errorf("%s, %s: row %d came back as\n %s\nwant\n %s", format, name, i, got, want)
			}
		}
	}
}

func TestEmptyFiles(t *testing.T) {
	const header = "id,hash,hint,name,owner,scopes,metadata,createdAt,createdBy,updatedAt,updatedBy,revision," +
		"expiresAt,disabledAt,revokedAt,lastUsedAt,rotatedFrom,rotatedTo,chain\n"
	for format, want := range map[transfer.Format]string{transfer.CSV: header, transfer.Lines: "", transfer.Array: "[]\n"} {
		if got := written(t, format); got != want {
			t.Errorf("%s: no record is %q, want %q", format, got, want)
		}
	}
	if rows, problems := read(header, transfer.CSV); len(rows)+len(problems) > 0 {
		t.Errorf("the header alone gives %d rows, %v", len(rows), problems)
	}
	if rows, problems := read("", transfer.Lines); len(rows)+len(problems) > 0 {
		t.Errorf("no line gives %d rows, %v", len(rows), problems)
	}
}

func TestArray(t *testing.T) {
	if got, want := written(t, transfer.Array, full(), full()), "["; !strings.HasPrefix(got, want) {
		t.Errorf("an array begins with %.10q", got)
	}
	_, problems := read(written(t, transfer.Array, full()), "")
	if len(problems) != 1 || !strings.Contains(problems[0], "array") {
		t.Errorf("an array is read with %q, want one problem that names it", problems)
	}
}

func TestWriterRefuses(t *testing.T) {
	for name, change := range map[string]func(r *auth.Record){
		"NUL":               func(r *auth.Record) { r.Name = "secret\x00" },
		"UTF-8":             func(r *auth.Record) { r.Owner = "secret\xff" },
		"UTF-8 in scopes":   func(r *auth.Record) { r.Scopes = auth.Scopes{"secret\xff"} },
		"UTF-8 in metadata": func(r *auth.Record) { r.Metadata = map[string]string{"secret\xff": ""} },
		"no ID":             func(r *auth.Record) { r.ID = "" },
		"year 10000":        func(r *auth.Record) { r.ExpiresAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"size":              func(r *auth.Record) { r.Name = strings.Repeat("secret", transfer.MaxRow/6) },
	} {
		for _, format := range formats {
			r := full()
			change(r)
			var b strings.Builder
			w := transfer.NewWriter(&b, format)
			err := w.Write(r)
			if _, ok := errors.AsType[*transfer.RecordError](err); !ok {
				t.Fatalf("%s, %s: Write returned %v, want a *RecordError", format, name, err)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("%s, %s: the error shows the text", format, name)
			}
			must(t, w.Write(full()))
			must(t, w.Close())
			if rows, problems := read(b.String(), format); len(rows) != 1 || len(problems) > 0 {
				t.Errorf("%s, %s: afterwards there are %d rows, %v", format, name, len(rows), problems)
			}
		}
	}
}

func TestWriterReportsErrors(t *testing.T) {
	for _, format := range []transfer.Format{transfer.CSV, transfer.Lines, transfer.Array} {
		w := transfer.NewWriter(failing{}, format)
		err := w.Write(full())
		if closed := w.Close(); err == nil {
			err = closed
		}
		if !errors.Is(err, errFull) {
			t.Errorf("%s: the error of the file is %v, want %v", format, err, errFull)
		}
	}
}

var errFull = errors.New("the disk is full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }

func TestReadWhatOthersWrite(t *testing.T) {
	row := "CI,acme,documents.read," + hash1
	for _, c := range []struct {
		name, file string
		lines      []int // of the rows
	}{
		{"LF", "name,owner,scopes,hash\n" + row + "\n" + row + "\n", []int{2, 3}},
		{"no line break at the end", "name,owner,scopes,hash\n" + row, []int{2}},
		{"CRLF", "name,owner,scopes,hash\r\n" + row + "\r\n" + row + "\r\n", []int{2, 3}},
		{"BOM", "\ufeffname,owner,scopes,hash\n" + row + "\n", []int{2}},
		{"BOM and quotes", "\ufeff\"name\",\"owner\",scopes,hash\n" + row + "\n", []int{2}},
		{"another order", "hash,scopes,owner,name\n" + hash1 + ",a,b,c\n", []int{2}},
		{"quoted line breaks", "name,owner,scopes,hash\n\"a\nb\r\nc\",acme,a," + hash1 + "\n" + row + "\n", []int{2, 5}},
		{"blank lines", "\n\nname,owner,scopes,hash\n\n" + row + "\n\n\n" + row + "\n", []int{5, 8}},
		{"JSON lines", `{"name":"a","owner":"b","scopes":["a"],"hash":"` + hash1 + `"}` + "\n\n" +
			` { "hash" : "` + hash2 + `", "scopes" : [ "a" , "b" ] , "owner" : "b" , "name" : "c", "expiresAt" : null } `, []int{1, 3}},
		{"JSON lines, CRLF and BOM", "\ufeff" + `{"name":"a","owner":"b","scopes":[],"hash":"` + hash1 + `"}` + "\r\n", []int{1}},
	} {
		rows, problems := read(c.file, "")
		if len(problems) > 0 {
			t.Errorf("%s: %v", c.name, problems)
		}
		var lines []int
		for _, r := range rows {
			lines = append(lines, r.Line)
		}
		if fmt.Sprint(lines) != fmt.Sprint(c.lines) {
			t.Errorf("%s: rows on lines %v, want %v", c.name, lines, c.lines)
		}
	}
}

func TestReadForms(t *testing.T) {
	for _, c := range []struct{ column, text, want string }{
		{"scopes", "a b", "[a b]"},
		{"scopes", " a,b , c ", "[a b c]"},
		{"scopes", `["a","b c"]`, "[a b c]"},
		{"scopes", `[ ]`, "[]"},
		{"expiresAt", "2027-12-31T18:00:00Z", "2027-12-31 18:00:00 +0000 UTC"},
		{"expiresAt", "2027-12-31T18:00:00.123456+02:00", "2027-12-31 16:00:00.123456 +0000 UTC"},
		{"expiresAt", "2027-12-31", "2028-01-01 00:00:00 +0000 UTC"},
		{"expiresAt", "never", "0001-01-01 00:00:00 +0000 UTC"},
		{"expiresAt", "", "0001-01-01 00:00:00 +0000 UTC"},
		{"metadata", `{"a":"b"}`, "map[a:b]"},
		{"metadata", ` { } `, "map[]"},
		{"name", `json:"a\r\nb"`, "a\r\nb"},
		{"name", `json:x`, "json:x"},
		{"revision", "-5", "-5"},
	} {
		cell := `"` + strings.ReplaceAll(c.text, `"`, `""`) + `"`
		file := c.column + ",hash\n" + cell + "," + hash1 + "\n"
		for _, name := range []string{"name", "owner", "scopes"} {
			if name != c.column {
				file = strings.Replace(strings.Replace(file, ",hash", ","+name+",hash", 1), ","+hash1, ",a,"+hash1, 1)
			}
		}
		rows, problems := read(file, transfer.CSV)
		if len(rows) != 1 {
			t.Errorf("%s %q: %v", c.column, c.text, problems)
			continue
		}
		r := rows[0].Record
		got := map[string]any{"scopes": r.Scopes, "expiresAt": r.ExpiresAt, "metadata": r.Metadata, "name": r.Name, "revision": r.Revision}
		if text := fmt.Sprint(got[c.column]); text != c.want {
			t.Errorf("%s %q is %s, want %s", c.column, c.text, text, c.want)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	const secret = "isk_SECRETSECRETSECRETSECRETSECRETSECRETSECRET12"
	row := "CI,acme,documents.read," + hash1
	json := func(members string) string {
		return `{"name":"secret","owner":"b","scopes":["a"],"hash":"` + hash1 + `"` + members + "}\n"
	}
	for _, c := range []struct{ name, file, want string }{
		{"empty", "", "the file is empty"},
		{"UTF-16", "\xff\xfen\x00a\x00", "UTF-16"},
		{"no header", secret + ",secret,a\n", "line 1: the first line names no column that is known"},
		{"semicolons", "name;owner;scopes;hash\n", "separate the columns by commas"},
		{"CR alone", "name,owner,scopes,hash\rsecret,b,c,d\r", "end the lines in LF or CRLF"},
		{"unknown column", "name,owner,scopes,hash,nmae\n", `there is no column "nmae"`},
		{"unknown column with a key", "name,owner,scopes,hash," + secret + "\n", "a column is unknown; its name is not shown"},
		{"unknown column that could be a key", "name,owner,scopes,hash,iskSECRETSECRETSECRETSECRET\n", "a column is unknown; its name is not shown"},
		{"another spelling", "name,owner,scopes,hash,created_at\n", `there is no column "created_at", but createdAt`},
		{"upper case", "name,owner,scopes,hash,ExpiresAt\n", `there is no column "ExpiresAt", but expiresAt`},
		{"column twice", "name,owner,scopes,hash,name\n", "the column name is there twice"},
		{"missing columns", "name,hash\n", "the columns are missing: owner, scopes"},
		{"missing hash", "name,owner,scopes\n", "the columns are missing: hash or key"},
		{"too few cells", "name,owner,scopes,hash\n" + row + "\nsecret,b\n", "line 3: it has 2 cells, but there are 4 columns"},
		{"too many cells", "name,owner,scopes,hash\n" + row + ",secret\n", "line 2: it has 5 cells"},
		{"cells after quoted breaks", "name,owner,scopes,hash\n\"a\n\nb\",c,d," + hash1 + "\nsecret\n", "line 5: it has 1 cells"},
		{"open quote", "name,owner,scopes,hash\n\"secret,b\nc,d\n", `line 3: a cell has a "`},
		{"stray quote", "name,owner,scopes,hash\nsec\"ret,b,c,d\n", `line 2: a cell has a "`},
		{"hash", "name,owner,scopes,hash\nsecret,b,c," + secret + "\n", "line 2: hash is not a hash"},
		{"no hash", "name,owner,scopes,hash\nsecret,b,c,\n", "line 2: there is neither a hash nor a key"},
		{"hash and key", "name,owner,scopes,hash,key\nsecret,b,c," + hash1 + "," + secret + "\n", "line 2: there are both"},
		{"UTF-8", "name,owner,scopes,hash\nsecret\xff,b,c," + hash1 + "\n", "line 2: name is not valid UTF-8"},
		{"NUL", "name,owner,scopes,hash\nsecret\x00,b,c," + hash1 + "\n", "line 2: name has a NUL"},
		{"time", "name,owner,scopes,hash,createdAt\na,b,c," + hash1 + ",secret\n", "line 2: createdAt is not a time"},
		{"date as a time", "name,owner,scopes,hash,createdAt\na,b,c," + hash1 + ",2027-01-01\n", "line 2: createdAt is not a time"},
		{"day that is not", "name,owner,scopes,hash,expiresAt\na,b,c," + hash1 + ",2027-02-30\n", "line 2: expiresAt is not a time"},
		{"one digit", "name,owner,scopes,hash,createdAt\na,b,c," + hash1 + ",2027-01-01T1:00:00Z\n", "line 2: createdAt"},
		{"comma", "name,owner,scopes,hash,createdAt\na,b,c," + hash1 + ",\"2027-01-01T01:00:00,5Z\"\n", "line 2: createdAt"},
		{"offset", "name,owner,scopes,hash,createdAt\na,b,c," + hash1 + ",2027-01-01T01:00:00+24:00\n", "line 2: createdAt"},
		{"revision", "name,owner,scopes,hash,revision\na,b,c," + hash1 + ",1e3\n", "line 2: revision is not an integer"},
		{"great revision", "name,owner,scopes,hash,revision\na,b,c," + hash1 + ",9223372036854775808\n", "line 2: revision"},
		{"scopes", "name,owner,scopes,hash\na,b,[secret," + hash1 + "\n", "line 2: scopes is not JSON"},
		{"scopes of numbers", "name,owner,scopes,hash\na,b,[1]," + hash1 + "\n", "line 2: scopes is not an array of texts"},
		{"metadata", "name,owner,scopes,hash,metadata\na,b,c," + hash1 + ",secret\n", "line 2: metadata is not JSON"},
		{"metadata twice", "name,owner,scopes,hash,metadata\na,b,c," + hash1 + ",\"{\"\"a\"\":\"\"1\"\",\"\"a\"\":\"\"2\"\"}\"\n", "has an entry twice"},
		{"metadata nested", "name,owner,scopes,hash,metadata\na,b,c," + hash1 + ",\"{\"\"a\"\":{}}\"\n", "is not an object with texts"},
		{"escape", "name,owner,scopes,hash\n\"json:\"\"secret\",b,c," + hash1 + "\n", "line 2: name is not JSON"},

		{"JSON syntax", json("")[:40] + "\n", "line 1: is not JSON"},
		{"trailing garbage", strings.TrimSpace(json("")) + " secret\n", "line 1: is not JSON"},
		{"two objects", strings.TrimSpace(json("")) + json(""), "line 1: is not JSON"},
		{"not an object", `{"name":"a"}` + "\n" + `"secret"` + "\n", "line 2: it is not a JSON object"},
		{"member twice", json(`,"name":"secret"`), "line 1: the member name is there twice"},
		{"member twice, escaped", json(`,"n\u0061me":"secret"`), "line 1: the member name is there twice"},
		{"unknown member", json(`,"nmae":"secret"`), `line 1: there is no member "nmae"`},
		{"unknown member with a key", json(`,"` + secret + `":1`), "line 1: a member is unknown"},
		{"case", json(`,"ID":"x"`), `there is no member "ID", but id`},
		{"missing members", `{"hash":"` + hash1 + `"}`, "line 1: members are missing: name, owner, scopes"},
		{"type", json(`,"id":1`), "line 1: id is not a text in quotes"},
		{"type of revision", json(`,"revision":"1"`), "line 1: revision is not a number"},
		{"fraction", json(`,"revision":1.0`), "line 1: revision is not an integer"},
		{"type of scopes", strings.Replace(json(""), `["a"]`, `"secret"`, 1), "line 1: scopes is not an array of texts"},
		{"null in scopes", strings.Replace(json(""), `["a"]`, `["secret",null]`, 1), "line 1: scopes is not an array of texts"},
		{"null in metadata", json(`,"metadata":{"secret":null}`), "line 1: metadata is not an object with texts"},
		{"entry twice", json(`,"metadata":{"secret":"","secr\u0065t":""}`), "line 1: metadata has an entry twice"},
		{"half a pair", json(`,"id":"secret\ud800"`), "line 1: id has half of a surrogate pair"},
		{"half a pair, second", json(`,"id":"secret\udc00\ud800"`), "line 1: id has half of a surrogate pair"},
		{"UTF-8 in JSON", json(`,"id":"secret` + "\xff" + `"`), "line 1: is not valid UTF-8"},
		{"NUL in JSON", json(`,"id":"secret` + "\x00" + `"`), "line 1: has a NUL"},
		{"escaped NUL in JSON", json(`,"id":"secret\u0000"`), "line 1: id has a NUL"},
	} {
		_, problems := read(c.file, "")
		text := strings.Join(problems, "\n")
		if len(problems) == 0 || !strings.Contains(text, c.want) {
			t.Errorf("%s: %q, want %q", c.name, problems, c.want)
		}
		if strings.Contains(text, "SECRET") || strings.Contains(text, "secret") || strings.Contains(text, hash1[:8]) {
			t.Errorf("%s: the error shows the row: %q", c.name, problems)
		}
	}
}

func TestReadGoesOnAfterBadLines(t *testing.T) {
	row := "CI,acme,documents.read," + hash1 + "\n"
	rows, problems := read("name,owner,scopes,hash\nx\n"+row+"a,b,c,d\n"+row, "")
	if len(rows) != 2 || len(problems) != 2 {
		t.Errorf("there are %d rows and %d problems, want 2 and 2", len(rows), len(problems))
	}
	line := `{"name":"a","owner":"b","scopes":["a"],"hash":"` + hash1 + `"}` + "\n"
	rows, problems = read("{}\n"+line+"x\n"+line, transfer.Lines)
	if len(rows) != 2 || len(problems) != 2 {
		t.Errorf("there are %d rows and %d problems, want 2 and 2", len(rows), len(problems))
	}
}

// The last cell of an export can be cut off without another trace.
func TestReadNoticesTheMissingEnd(t *testing.T) {
	file := written(t, transfer.CSV, full(), full())
	for n := len(file) - 1; n > len(file)-80; n-- {
		if _, problems := read(file[:n], ""); len(problems) == 0 {
			t.Errorf("without its last %d bytes it is read without a problem", len(file)-n)
		}
	}
	file = written(t, transfer.Lines, full(), full())
	for n := len(file) - 2; n > len(file)-80; n-- {
		if _, problems := read(file[:n], ""); len(problems) == 0 {
			t.Errorf("without its last %d bytes it is read without a problem", len(file)-n)
		}
	}
}

// An endless is a file without line breaks.
type endless struct{ begin io.Reader }

func (e endless) Read(p []byte) (int, error) {
	if n, err := e.begin.Read(p); err == nil {
		return n, nil
	}
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestReadBoundsRows(t *testing.T) {
	for name, begin := range map[string]string{
		"CSV":            "name,owner,scopes,hash\n",
		"CSV, in quotes": "name,owner,scopes,hash\n\"",
		"header":         "name,",
		"JSON lines":     `{"name":"`,
	} {
		r, err := transfer.NewReader(endless{strings.NewReader(begin)}, "")
		if err == nil {
			_, err = r.Next()
		}
		line, ok := errors.AsType[*transfer.LineError](err)
		if !ok {
			t.Errorf("%s: an endless row is %v, want a *LineError", name, err)
			continue
		}
		if !line.Last || !strings.Contains(line.Reason, "more than 16 MB") {
			t.Errorf("%s: an endless row is %+v, want the last error, about its size", name, line)
		}
		if r == nil {
			continue
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("%s: afterwards comes %v, want io.EOF", name, err)
		}
	}
}

func TestReadBoundsCells(t *testing.T) {
	const header = "name,owner,scopes,hash"
	hash := strings.Repeat("0", 64)
	for name, test := range map[string]struct {
		file string
		many bool
	}{
		"header":        {header + strings.Repeat(",", transfer.MaxRow/2) + "\n", true},
		"row":           {header + "\n" + strings.Repeat(",", transfer.MaxRow/2) + "\n", true},
		"cells of rows": {header + "\n" + strings.Repeat("n,o,a.read,"+hash+"\n", 1000), false},
		"in quotes":     {header + "\n\"n\"\"" + strings.Repeat(",", 1000) + "\",o,a.read," + hash + "\n", false},
	} {
		rows, problems := read(test.file, transfer.CSV)
		many := len(problems) == 1 && strings.Contains(problems[0], "more than 1000 cells")
		if many != test.many {
			t.Errorf("%s: there are %d rows and the problems %.300q", name, len(rows), problems)
		}
		if !test.many && len(problems) > 0 {
			t.Errorf("%s: the problems are %.300q, want none", name, problems)
		}
	}
}

func TestReadReportsErrorsOfTheFile(t *testing.T) {
	broken := errors.New("input/output error")
	for _, format := range formats {
		file := written(t, format, full(), full())
		for n := range len(file) {
			r, err := transfer.NewReader(io.MultiReader(strings.NewReader(file[:n]), iotest.ErrReader(broken)), format)
			for err == nil {
				_, err = r.Next()
			}
			if !errors.Is(err, broken) {
				t.Fatalf("%s: an error after %d bytes is %v, want %v", format, n, err, broken)
			}
		}
	}
}

func TestLineIndex(t *testing.T) {
	var x transfer.LineIndex
	lines := []int{2, 3, 4, 9, 10, 12, 13, 20}
	for _, line := range lines {
		x.Add(line)
	}
	for i, want := range lines {
		if got := x.Line(int64(i)); got != want {
			t.Errorf("record %d is on line %d, want %d", i, got, want)
		}
	}
	for _, i := range []int64{-1, int64(len(lines))} {
		if got := x.Line(i); got != 0 {
			t.Errorf("record %d is on line %d, want 0", i, got)
		}
	}
}

func TestLineIndexDoesNotGrow(t *testing.T) {
	allocs := testing.AllocsPerRun(1, func() {
		var x transfer.LineIndex
		for line := range 100_000 {
			x.Add(line + 2)
		}
	})
	if allocs > 1 {
		t.Errorf("100,000 records on consecutive lines cost %v allocations, want 1", allocs)
	}
}
