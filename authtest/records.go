package authtest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/insigner/auth"
)

// epoch is a time with microseconds, which a store must keep, and nothing below, which it need not.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)

// record returns a record with every field that a fresh one has set; another for every i, made i seconds after epoch.
func record(i int) auth.Record {
	id := fmt.Sprintf("key_%04d", i)
	return auth.Record{
		ID:        id,
		Hash:      auth.SHA256("authtest " + id),
		Hint:      fmt.Sprintf("isk_…%04d", i),
		Name:      fmt.Sprint("Key ", i),
		Owner:     "org_1",
		Scopes:    auth.Scopes{"documents.read", "templates.*"},
		CreatedAt: epoch.Add(time.Duration(i) * time.Second),
		ExpiresAt: epoch.AddDate(10, 0, i),
		CreatedBy: "user_1",
		Metadata:  map[string]string{"environment": "test", "number": fmt.Sprint(i)},
	}
}

// records returns n records, record(0) and so on.
func records(n int) []auth.Record {
	list := make([]auth.Record, n)
	for i := range list {
		list[i] = record(i)
	}
	return list
}

// successor returns record(i) as the one that replaces old.
func successor(i int, old auth.Record) auth.Record {
	r := record(i)
	r.Replaces = old.ID
	return r
}

// replaced returns old as it should be after a Replace.
func replaced(old auth.Record, by string, expires time.Time) auth.Record {
	old.ReplacedBy = by
	old.ExpiresAt = expires
	return old
}

// at returns the position of r.
func at(r auth.Record) auth.Position { return auth.Position{CreatedAt: r.CreatedAt, ID: r.ID} }

// differences says in which fields got is not want, or returns nil. What a store need not keep counts for nothing: the
// zone of a time, what is below a microsecond, and whether a list without elements is nil.
func differences(got, want auth.Record) error {
	var list []string
	differ := func(field string, same bool, got, want any) {
		if !same {
			list = append(list, fmt.Sprintf("%s is %s, want %s", field, brief(got), brief(want)))
		}
	}
	if got.Hash != want.Hash {
		list = append(list, "the Hash is another") // a log is no place for it
	}
	for _, f := range []struct{ field, got, want string }{
		{"ID", got.ID, want.ID},
		{"Hint", got.Hint, want.Hint},
		{"Name", got.Name, want.Name},
		{"Owner", got.Owner, want.Owner},
		{"CreatedBy", got.CreatedBy, want.CreatedBy},
		{"Replaces", got.Replaces, want.Replaces},
		{"ReplacedBy", got.ReplacedBy, want.ReplacedBy},
	} {
		differ(f.field, f.got == f.want, f.got, f.want)
	}
	for _, f := range []struct {
		field     string
		got, want time.Time
	}{
		{"CreatedAt", got.CreatedAt, want.CreatedAt},
		{"ExpiresAt", got.ExpiresAt, want.ExpiresAt},
		{"RevokedAt", got.RevokedAt, want.RevokedAt},
		{"LastUsedAt", got.LastUsedAt, want.LastUsedAt},
	} {
		differ(f.field, sameTime(f.got, f.want), f.got, f.want)
	}
	differ("Scopes", slices.Equal(got.Scopes, want.Scopes), got.Scopes, want.Scopes)
	differ("Metadata", maps.Equal(got.Metadata, want.Metadata), got.Metadata, want.Metadata)
	if list == nil {
		return nil
	}
	return errors.New(strings.Join(list, "; "))
}

func sameTime(got, want time.Time) bool {
	return got.IsZero() == want.IsZero() && got.Sub(want).Abs() < time.Microsecond
}

func brief(v any) string {
	var s string
	switch v := v.(type) {
	case time.Time:
		if s = v.Format(time.RFC3339Nano); v.IsZero() {
			s = "zero"
		}
	default:
		s = fmt.Sprintf("%q", v)
	}
	if len(s) > 200 {
		s = fmt.Sprintf("%.100s… (%d bytes)", s, len(s))
	}
	return s
}

func (p *probe) sameIDs(what string, got []auth.Record, want []string) {
	ids := make([]string, len(got))
	for i, r := range got {
		ids[i] = r.ID
	}
	if !slices.Equal(ids, want) {
		p.errorf("%s: got %s, want %s", what, brief(ids), brief(want))
	}
}

// similar returns hashes that a careless comparison takes for h: as text, ignoring case, up to a NUL or without
// trailing spaces, or only in part.
func similar(h auth.Hash) []similarHash {
	half, reverse := h, h
	clear(half[16:])
	slices.Reverse(reverse[:])
	list := []similarHash{{"the zero hash", auth.Hash{}}, {"the first half of a hash", half}, {"a hash in reverse", reverse}}
	for i := range h {
		bit, letter := h, h
		bit[i] ^= 1
		letter[i] ^= 0x20
		list = append(list, similarHash{fmt.Sprintf("a hash with another bit in byte %d", i), bit},
			similarHash{fmt.Sprintf("a hash with byte %d in another case, if it is a letter", i), letter})
	}
	return list
}

type similarHash struct {
	what string
	hash auth.Hash
}

// oddHashes are hashes that text columns and C strings change.
func oddHashes() []auth.Hash {
	list := make([]auth.Hash, 6)
	for i := range list[0] {
		list[0][i] = 'a'
		list[1][i] = 'A'
		list[2][i] = ' '
		list[3][i] = 0xff
		list[4][i] = byte(i) // begins with a NUL
		list[5][i] = "%_'\\"[i%4]
	}
	return list
}
