package transfer_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cmd/isk/internal/transfer"
	"github.com/insigner/auth/keyring"
)

// FuzzRecord checks that any record that a store keeps comes back in both
// formats.
func FuzzRecord(f *testing.F) {
	f.Add("id", "a\r\nb", "=1", "documents.read", "k\x00", "v", int64(1), int64(0), int64(-1), uint8(3))
	f.Add("\ufeff", `json:"x"`, "\r", "", "", "", int64(-62135596800000000), int64(253402300799999999), int64(1), uint8(255))
	f.Fuzz(func(t *testing.T, id, name, owner, scope, key, value string, created, expires, revision int64, which uint8) {
		text := func(s string) string { return strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "") }
		at := func(micros int64) time.Time {
			const first, last = -62135596800000000, 253402300799999999
			if micros < first || micros > last {
				micros %= last
				micros = max(micros, first)
			}
			return time.UnixMicro(micros).UTC()
		}
		r := &auth.Record{ID: "x" + text(id), Name: text(name), Owner: text(owner), CreatedAt: at(created), Revision: revision}
		r.Chain, r.Hint, r.CreatedBy, r.UpdatedBy = r.ID, r.Owner, r.Name, text(scope)
		r.RotatedFrom, r.RotatedTo = r.Owner, r.Name
		copy(r.Hash[:], id+name)
		if which&1 != 0 {
			r.Scopes = auth.Scopes{auth.Scope(strings.ToValidUTF8(scope, "?"))}
		}
		if which&2 != 0 {
			r.Scopes = append(r.Scopes, "documents.read", auth.Scope(strings.ToValidUTF8(value, "?")))
		}
		if which&4 != 0 {
			r.Metadata = map[string]string{strings.ToValidUTF8(key, "?"): strings.ToValidUTF8(value, "?"), "a": "b"}
		}
		for i, field := range []*time.Time{&r.ExpiresAt, &r.UpdatedAt, &r.DisabledAt, &r.RevokedAt, &r.LastUsedAt} {
			if which&(8<<i) != 0 {
				*field = at(expires + int64(i))
			}
		}
		for _, format := range formats {
			rows, problems := read(written(t, format, r), "")
			if len(rows) != 1 {
				t.Fatalf("%s: %v", format, problems)
			}
			if got, want := fields(&rows[0].Record), fields(r); got != want || !rows[0].Complete() {
				t.Errorf("%s: came back as\n %s\nwant\n %s", format, got, want)
			}
		}
	})
}

// FuzzRead checks that no file makes a Reader or a Checker panic, or show a key
// or a hash.
func FuzzRead(f *testing.F) {
	const key = "isk_SECRETSECRETSECRETSECRETSECRETSECRETSECRET12"
	const hash = "5EC9E75EC9E75EC9E75EC9E75EC9E75EC9E75EC9E75EC9E75EC9E75EC9E75EC9"
	for _, format := range formats {
		f.Add(written(f, format, full()))
	}
	f.Add("name,owner,scopes,key,hash\nK,K,a,K,\nK,K,K,,H\n")
	f.Add(`{"name":"K","owner":"H","scopes":["K"],"key":"K","metadata":{"K":"K"},"\ud83d\ude00":"\ud83d"}` + "\n")
	f.Add("K,K\nH,H")
	f.Add("\ufeffname,owner,scopes,hash,createdAt,K\n\"K\",b,\"[\"\"K\"\"]\",H,K,")
	holds := func(text string) bool { return strings.Contains(text, "isk_") }
	f.Fuzz(func(t *testing.T, file string) {
		file = strings.NewReplacer("K", key, "H", hash).Replace(file)
		r, err := transfer.NewReader(strings.NewReader(file), "")
		check := func(err error) {
			if text := err.Error(); strings.Contains(text, "SECRET") || strings.Contains(text, "5EC9") {
				t.Errorf("the error shows a secret: %s", text)
			}
		}
		if err != nil {
			check(err)
			return
		}
		c := transfer.NewChecker(auth.Scheme{}, "me", new(keyring.MemoryStore), holds)
		for {
			row, err := r.Next()
			if err == nil {
				_, err = c.Record(context.Background(), row)
			} else if _, ok := err.(*transfer.LineError); !ok {
				return // io.EOF
			}
			if err != nil {
				check(err)
			}
		}
	})
}
