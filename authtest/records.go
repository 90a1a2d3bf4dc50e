package authtest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// epoch is when the first record was created. It has whole seconds, so that
// only the cases about fractions depend on them.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const (
	creator = "user_1" // of records
	changer = "user_2" // of changed records
	deleter = "user_3"
)

// A maker makes records that the store accepts. The zero maker makes those of
// TestStore.
type maker struct {
	newID    func() string // if nil, uuid
	newOwner func() string // if nil, any text

	mu     sync.Mutex
	ids    map[int]string
	owners map[int]string
}

// newMaker returns a maker for s. If opts is nil, the zero StoreOptions are
// used.
func newMaker(t *testing.T, s keyring.Store, opts *StoreOptions) *maker {
	m := new(maker)
	if opts == nil {
		return m
	}
	m.newID = opts.NewID
	if opts.NewOwner != nil {
		m.newOwner = func() string { return opts.NewOwner(t, s) }
	}
	return m
}

// id returns the ID of record(i).
func (m *maker) id(i int) string {
	if m.newID == nil {
		return uuid(i)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return remember(&m.ids, i, m.newID)
}

// owner returns an owner, another one for each i. That of records is owner(0).
func (m *maker) owner(i int) string {
	if m.newOwner == nil {
		return fmt.Sprint("org_", i+1)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return remember(&m.owners, i, m.newOwner)
}

// anyOwner reports whether the store accepts any text as an owner.
func (m *maker) anyOwner() bool { return m.newOwner == nil }

func remember(known *map[int]string, i int, create func() string) string {
	if *known == nil {
		*known = make(map[int]string)
	}
	if _, ok := (*known)[i]; !ok {
		(*known)[i] = create()
	}
	return (*known)[i]
}

// uuid returns a UUID of version 8 (RFC 9562 section 5.8), another one for each
// i and in no order. None is one that only "Insert keeps any UUID" is about.
func uuid(i int) string {
	b := sha256.Sum256(fmt.Append(nil, "authtest ID ", i))
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x81
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// hashOf returns the hash of record(i).
func hashOf(i int) auth.Hash { return auth.SHA256(nil)(fmt.Sprint("authtest key ", i)) }

// record returns a new key with every field that such a key has, another one
// for each i, created i seconds after epoch. It is a new copy with each call.
func (m *maker) record(i int) *auth.Record { return newRecord(i, m.id(i), m.owner(0)) }

func newRecord(i int, id, owner string) *auth.Record {
	created := epoch.Add(time.Duration(i) * time.Second)
	return &auth.Record{
		ID:        id,
		Hint:      fmt.Sprintf("isk_…%04d", i%10000),
		Name:      fmt.Sprint("Key ", i),
		Owner:     owner,
		Hash:      hashOf(i),
		Scopes:    auth.Scopes{"documents.read", "templates.*"},
		Metadata:  map[string]string{"environment": "test", "number": fmt.Sprint(i)},
		CreatedAt: created,
		CreatedBy: creator,
		UpdatedAt: created,
		UpdatedBy: creator,
		Revision:  1,
		ExpiresAt: created.AddDate(10, 0, 0),
		Chain:     id,
	}
}

// records returns n records, record(0) and so on.
func (m *maker) records(n int) []*auth.Record {
	list := make([]*auth.Record, n)
	for i := range list {
		list[i] = m.record(i)
	}
	return list
}

// with returns r after f has changed it.
func with(r *auth.Record, f func(r *auth.Record)) *auth.Record {
	f(r)
	return r
}

// changed returns what a change by f makes of r, which stays as it is.
func changed(r *auth.Record, f func(r *auth.Record)) *auth.Record {
	c := r.Clone()
	c.Revision++
	c.UpdatedAt = c.UpdatedAt.Add(time.Minute)
	c.UpdatedBy = changer
	f(c)
	return c
}

// renamed returns what a change of the name makes of r.
func renamed(r *auth.Record, name string) *auth.Record {
	return changed(r, func(r *auth.Record) { r.Name = name })
}

// revoked returns what a revocation makes of r.
func revoked(r *auth.Record) *auth.Record {
	return changed(r, func(r *auth.Record) { r.RevokedAt = r.UpdatedAt })
}

// rotated returns what a rotation makes of r, and record(i) as its successor.
func (m *maker) rotated(r *auth.Record, i int) (old, successor *auth.Record) {
	successor = m.record(i)
	successor.RotatedFrom = r.ID
	successor.Chain = r.Chain
	old = changed(r, func(r *auth.Record) {
		r.RotatedTo = successor.ID
		r.ExpiresAt = r.UpdatedAt.Add(time.Hour)
	})
	return old, successor
}

// used returns r as it is after a Touch.
func used(r *auth.Record, at time.Time) *auth.Record {
	c := r.Clone()
	c.LastUsedAt = at
	return c
}

// differences says in which fields got is not want, or returns nil. It ignores
// what a store need not keep: the zone of a time, what is below a microsecond,
// and whether a list without elements is nil.
func differences(got, want *auth.Record) error {
	if got == nil {
		return errors.New("got neither a record nor an error")
	}
	var list []string
	differ := func(field string, same bool, got, want any) {
		if !same {
			list = append(list, fmt.Sprintf("%s is %s, want %s", field, brief(got), brief(want)))
		}
	}
	if got.Hash != want.Hash {
		list = append(list, "the Hash is another") // hashes stay out of logs
	}
	for _, f := range []struct{ field, got, want string }{
		{"ID", got.ID, want.ID},
		{"Hint", got.Hint, want.Hint},
		{"Name", got.Name, want.Name},
		{"Owner", got.Owner, want.Owner},
		{"CreatedBy", got.CreatedBy, want.CreatedBy},
		{"UpdatedBy", got.UpdatedBy, want.UpdatedBy},
		{"RotatedFrom", got.RotatedFrom, want.RotatedFrom},
		{"RotatedTo", got.RotatedTo, want.RotatedTo},
		{"Chain", got.Chain, want.Chain},
	} {
		differ(f.field, f.got == f.want, f.got, f.want)
	}
	for _, f := range []struct {
		field     string
		got, want time.Time
	}{
		{"CreatedAt", got.CreatedAt, want.CreatedAt},
		{"UpdatedAt", got.UpdatedAt, want.UpdatedAt},
		{"ExpiresAt", got.ExpiresAt, want.ExpiresAt},
		{"DisabledAt", got.DisabledAt, want.DisabledAt},
		{"RevokedAt", got.RevokedAt, want.RevokedAt},
		{"LastUsedAt", got.LastUsedAt, want.LastUsedAt},
	} {
		differ(f.field, sameTime(f.got, f.want), f.got, f.want)
	}
	differ("Revision", got.Revision == want.Revision, got.Revision, want.Revision)
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
	case int64:
		s = fmt.Sprint(v)
	default:
		s = fmt.Sprintf("%q", v)
	}
	if len(s) > 200 {
		s = fmt.Sprintf("%.100s… (%d bytes)", s, len(s))
	}
	return s
}

func ids(list []*auth.Record) []string {
	ids := make([]string, len(list))
	for i, r := range list {
		if r != nil {
			ids[i] = r.ID
		}
	}
	return ids
}

func (p *probe) sameIDs(what string, got []*auth.Record, want []string) {
	if ids := ids(got); !slices.Equal(ids, want) {
		p.errorf("%s: got %d records %s, want %d records %s", what, len(ids), brief(ids), len(want), brief(want))
	}
}

// A similarHash is one that a careless comparison takes for another.
type similarHash struct {
	what string
	hash auth.Hash
}

// similar returns hashes that a careless comparison takes for h: as text,
// ignoring case, up to a NUL or without trailing spaces, or only in part.
func similar(h auth.Hash) []similarHash {
	half, reverse := h, h
	clear(half[16:])
	slices.Reverse(reverse[:])
	list := []similarHash{
		{"the zero hash", auth.Hash{}},
		{"the first half of a hash", half},
		{"a hash in reverse", reverse},
	}
	for i := range h {
		bit, letter := h, h
		bit[i] ^= 1
		letter[i] ^= 0x20
		list = append(list,
			similarHash{fmt.Sprintf("a hash with another bit in byte %d", i), bit},
			similarHash{fmt.Sprintf("a hash with byte %d in another case, if it is a letter", i), letter})
	}
	return list
}

// oddHashes are hashes that text columns and C strings change.
func oddHashes() []auth.Hash {
	list := make([]auth.Hash, 6)
	for i := range list[0] {
		list[0][i] = 'a'
		list[1][i] = 'A'
		list[2][i] = ' '
		list[3][i] = 0xff
		list[4][i] = byte(i) // starts with a NUL
		list[5][i] = "%_'\\"[i%4]
	}
	return list
}
