package transfer_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cmd/isk/internal/transfer"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fields shows all of a record, which its own methods do not.
func fields(r *auth.Record) string {
	type all auth.Record
	return fmt.Sprintf("%+q", fmt.Sprintf("%+v %d %d", all(*r), len(r.Scopes), len(r.Metadata)))
}

// written returns a file with the records.
func written(t testing.TB, format transfer.Format, records ...*auth.Record) string {
	t.Helper()
	var b bytes.Buffer
	w := transfer.NewWriter(&b, format)
	for _, r := range records {
		must(t, w.Write(r))
	}
	must(t, w.Close())
	return b.String()
}

// read returns the rows of a file, and a line for each error.
func read(text string, format transfer.Format) (rows []*transfer.Row, problems []string) {
	r, err := transfer.NewReader(strings.NewReader(text), format)
	if err != nil {
		return nil, []string{err.Error()}
	}
	for {
		row, err := r.Next()
		switch {
		case err == io.EOF:
			return rows, problems
		case err != nil:
			problems = append(problems, err.Error())
			if _, ok := errors.AsType[*transfer.LineError](err); !ok {
				return rows, problems
			}
		default:
			rows = append(rows, row)
		}
	}
}

// full returns a record with each field set.
func full() *auth.Record {
	at := func(n int) time.Time { return time.Date(2026, 11, 29, 12, 0, n, 123_456_000, time.UTC) }
	r := &auth.Record{
		ID: "0198c2f4-7a3e-7b1c-9d5e-2f8a6b4c1d0e", Hint: "isk_…U1v2", Name: "CI", Owner: "acme",
		Scopes: auth.Scopes{"documents.read", "templates:*"}, Metadata: map[string]string{"team": "billing", "a": ""},
		CreatedAt: at(1), CreatedBy: "alice", UpdatedAt: at(2), UpdatedBy: "staff:bob", Revision: 7,
		ExpiresAt: at(3), DisabledAt: at(4), RevokedAt: at(5), LastUsedAt: at(6),
		RotatedFrom: "from", RotatedTo: "to", Chain: "first",
	}
	for i := range r.Hash {
		r.Hash[i] = byte(i * 7)
	}
	return r
}

const (
	hash1 = "0000000000000000000000000000000000000000000000000000000000000001"
	hash2 = "0000000000000000000000000000000000000000000000000000000000000002"
)
