package authtest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

const (
	keeps     = "A store keeps what it is given and decides nothing."
	insertsAs = "Insert adds r as it is, its Revision too."
	taken     = "Insert: if its ID or its Hash is taken, the error matches keyring.ErrExists. " + noChange
	noChange  = "A method that returns an error has changed nothing."
	times     = "Times keep at least their microseconds; the time zone need not be kept."
	untouched = "A record that is passed in must not be modified afterwards."
)

// oddText is what text columns, quoting and encoding by hand break on. It has
// no NUL.
const oddText = " a,b;c|d\"e'f`g\\h%i_j\n\t\r{\"k\":[1]}\x01\x7f<&>é e\u0301 \u2028\U0001F511 "

// variants returns a record for each change, after that change.
func (m *maker) variants(changes ...func(r *auth.Record)) []*auth.Record {
	list := m.records(len(changes))
	for i, change := range changes {
		change(list[i])
	}
	return list
}

// kept returns a check that a record comes back as it was inserted, in each of
// these variants.
func kept(changes ...func(r *auth.Record)) func(p *probe) {
	return func(p *probe) {
		list := p.variants(changes...)
		p.insert(list...)
		p.holds(list...)
	}
}

var oddTimes = []func(r *auth.Record){
	func(r *auth.Record) { r.ExpiresAt = epoch.Add(time.Microsecond) },
	func(r *auth.Record) { r.ExpiresAt = epoch.Add(-time.Microsecond) },
	func(r *auth.Record) { r.ExpiresAt = epoch.Add(678901 * time.Microsecond) },
	func(r *auth.Record) { r.ExpiresAt = epoch.Add(999) }, // nanoseconds, which a store may drop
	func(r *auth.Record) { r.DisabledAt = epoch.Add(999999 * time.Microsecond) },
	func(r *auth.Record) { r.RevokedAt = epoch.Add(1001 * time.Microsecond) },
	func(r *auth.Record) { r.UpdatedAt = epoch.Add(100001 * time.Microsecond) },
}

// oddScopes are valid.
var oddScopes = []func(r *auth.Record){
	func(r *auth.Record) { r.Scopes = nil },
	func(r *auth.Record) { r.Scopes = auth.Scopes{} },
	func(r *auth.Record) { r.Scopes = auth.Scopes{"*"} },
	func(r *auth.Record) { r.Scopes = auth.Scopes{"templates.read", "documents.read", "*", "audit.read"} },
	func(r *auth.Record) { r.Scopes = auth.Scopes{"a.b", "documents.read", "a.b", "a.b"} },
	func(r *auth.Record) {
		r.Scopes = auth.Scopes{"Admin", "admin", "documents:read", "lists:get_all", "a-1:b_2.*"}
	},
}

var oddMetadata = []func(r *auth.Record){
	func(r *auth.Record) { r.Metadata = nil },
	func(r *auth.Record) { r.Metadata = map[string]string{} },
	func(r *auth.Record) { r.Metadata = map[string]string{"empty": "", "": "no key"} },
	func(r *auth.Record) {
		r.Metadata = map[string]string{"a": "1", "A": "2", "a ": "3", "a,b": "c=d", "a=b": "c,d"}
	},
	func(r *auth.Record) {
		r.Metadata = map[string]string{oddText: oddText, "null": "null", "list": "[1, 2]"}
	},
}

var oddTexts = []func(r *auth.Record){
	func(r *auth.Record) { r.Name, r.UpdatedBy = oddText, oddText },
	func(r *auth.Record) { r.Name, r.UpdatedBy = "", "" },
	func(r *auth.Record) { r.Name, r.UpdatedBy = "NULL", "null" },
	func(r *auth.Record) { r.Name, r.UpdatedBy = "  spaces  ", "0" },
	func(r *auth.Record) { r.Name = "'; DROP TABLE keys; --" },
}

// longValues are the longest that a keyring.Manager writes.
var longValues = []func(r *auth.Record){
	func(r *auth.Record) { r.Name = strings.Repeat("é", 127) + "x" },
	func(r *auth.Record) { r.Name = strings.Repeat("\U0001F511", 63) },
	func(r *auth.Record) { r.UpdatedBy = strings.Repeat("u", 255) },
	func(r *auth.Record) { r.Scopes = auth.Scopes{auth.Scope(strings.Repeat("s", 255))} },
	func(r *auth.Record) {
		r.Scopes = nil
		for i := range 256 {
			r.Scopes = append(r.Scopes, auth.Scope(fmt.Sprintf("documents.part-%03d.%s", i, strings.Repeat("x", 236))))
		}
	},
	func(r *auth.Record) {
		r.Metadata = make(map[string]string)
		for i := range 64 {
			r.Metadata[fmt.Sprintf("key%02d", i)] = strings.Repeat("\x01", 251) // in JSON six times as long
		}
	},
}

var insertCases = []storeCase{
	{name: "Insert keeps every field", rule: insertsAs + " " + keeps, check: func(p *probe) {
		full, bare := p.record(0), p.record(1)
		full.DisabledAt, full.RevokedAt = epoch.Add(time.Hour), epoch.Add(2*time.Hour)
		full.LastUsedAt, full.UpdatedAt = epoch.Add(3*time.Hour), epoch.Add(4*time.Hour)
		full.UpdatedBy, full.Revision = changer, 1<<40
		full.RotatedFrom, full.RotatedTo, full.Chain = p.id(10), p.id(11), p.id(12)
		bare.Hint, bare.Name, bare.CreatedBy, bare.UpdatedBy = "", "", "", ""
		bare.Scopes, bare.Metadata, bare.ExpiresAt = nil, nil, time.Time{}
		p.insert(full, bare)
		p.holds(full, bare)
	}},
	{name: "Insert keeps any UUID", rule: insertsAs + " An ID is a UUID in canonical form, of any version.",
		check: func(p *probe) {
			if p.newID != nil {
				return
			}
			var list []*auth.Record
			for i, id := range []string{
				"00000000-0000-4000-8000-000000000000",
				"ffffffff-ffff-4fff-bfff-ffffffffffff",
				"019b0a5e-7c00-7000-8000-000000000000",
				"ffffffff-ffff-7fff-bfff-ffffffffffff",
				"ffffffff-ffff-8000-8100-000000000000",
				"00000000-0000-8fff-bfff-ffffffffffff",
			} {
				list = append(list, newRecord(i, id, p.owner(0)))
			}
			p.insert(list...)
			p.holds(list...)
		}},
	{name: "Insert keeps microseconds", rule: times, check: func(p *probe) {
		kept(slices.Concat(oddTimes, []func(r *auth.Record){
			func(r *auth.Record) { r.CreatedAt = r.CreatedAt.Add(999999 * time.Microsecond) },
			func(r *auth.Record) { r.LastUsedAt = epoch.Add(500001 * time.Microsecond) },
		})...)(p)
	}},
	{name: "Insert keeps times of any zone", rule: times, check: kept(
		inZone(14*3600), inZone(-12*3600), inZone(5*3600+45*60), inZone(-(3600 + 7)),
		func(r *auth.Record) { // another day in UTC
			r.ExpiresAt = time.Date(2031, 12, 31, 23, 59, 59, 0, time.FixedZone("", -11*3600))
		},
		func(r *auth.Record) { // with a monotonic reading, which is not part of the time
			now := time.Now()
			r.CreatedAt, r.ExpiresAt, r.LastUsedAt = now, now.Add(time.Hour), now.Add(time.Minute)
		},
	)},
	{name: "Insert keeps early and late times", rule: times + " " + keeps, check: kept(
		func(r *auth.Record) { r.ExpiresAt = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC) },
		func(r *auth.Record) { r.CreatedAt = time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC) },
		func(r *auth.Record) { r.ExpiresAt = time.Unix(-1, 0) },
		func(r *auth.Record) { r.ExpiresAt = time.Unix(0, 0) }, // expired, though the time is zero by another count
		func(r *auth.Record) { r.RevokedAt = time.Unix(0, 0) },
		func(r *auth.Record) { r.DisabledAt = time.Unix(0, 0) },
		func(r *auth.Record) { r.ExpiresAt = time.Date(2038, 1, 19, 3, 14, 8, 0, time.UTC) },
		func(r *auth.Record) { r.ExpiresAt = time.Date(2262, 4, 12, 0, 0, 0, 0, time.UTC) },
		func(r *auth.Record) { r.ExpiresAt = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC) },
	)},
	{name: "Insert keeps zero times", rule: keeps + " A zero ExpiresAt: never. A zero DisabledAt: not disabled. " +
		"A zero RevokedAt: not revoked. A zero LastUsedAt: not used.", check: kept(
		func(r *auth.Record) { r.ExpiresAt = time.Time{} },
		func(r *auth.Record) { r.ExpiresAt = time.Time{}.In(time.FixedZone("", 3600)) }, // zero in any zone
		func(r *auth.Record) { r.RevokedAt = time.Time{}.In(time.FixedZone("", -3600)) },
		func(r *auth.Record) { r.DisabledAt = time.Time{}.In(time.FixedZone("", 7200)) },
	)},
	{name: "Insert keeps scopes", rule: keeps, check: kept(oddScopes...)},
	{name: "Insert keeps invalid scopes", rule: keeps + " An invalid scope grants nothing. A store that cannot keep " +
		"one may refuse it, but must not make others of it.", check: func(p *probe) {
		for _, r := range p.variants(
			func(r *auth.Record) { r.Scopes = auth.Scopes{""} },
			func(r *auth.Record) { r.Scopes = auth.Scopes{"", "documents.read", ""} },
			func(r *auth.Record) { r.Scopes = auth.Scopes{"documents.*.read", " a.b ", "."} },
			func(r *auth.Record) { r.Scopes = auth.Scopes{"a.b,c.d"} },
			func(r *auth.Record) { r.Scopes = auth.Scopes{"a.b c.d"} },
			func(r *auth.Record) { r.Scopes = auth.Scopes{"a.b\nc.d", "a.b;c.d", "a.b|c.d"} },
			func(r *auth.Record) { r.Scopes = auth.Scopes{`{"a.b"}`, `"`, oddText} },
		) {
			if err := p.keys.Insert(p.ctx, r); err != nil {
				p.lacks(r)
				continue
			}
			p.holds(r)
		}
	}},
	{name: "Insert keeps metadata", rule: keeps, check: kept(oddMetadata...)},
	{name: "Insert keeps text", rule: keeps, check: func(p *probe) {
		kept(slices.Concat(oddTexts, []func(r *auth.Record){
			func(r *auth.Record) { r.CreatedBy = oddText },
			func(r *auth.Record) { r.CreatedBy = "staff:Ada Lovelace <ada@example.com>" },
			func(r *auth.Record) { r.Hint = "…" },
			func(r *auth.Record) { r.Hint = "a_prefix-of-32-characters-at-mo_…U1v2" },
			func(r *auth.Record) {
				if p.anyOwner() {
					r.Owner = oddText
				}
			},
		})...)(p)
	}},
	{name: "Insert keeps long values", rule: keeps, check: func(p *probe) {
		kept(slices.Concat(longValues, []func(r *auth.Record){
			func(r *auth.Record) { r.CreatedBy = strings.Repeat("c", 255) },
			func(r *auth.Record) {
				if p.anyOwner() {
					r.Owner = strings.Repeat("ö", 127)
				}
			},
		})...)(p)
	}},
	{name: "Insert with a taken ID", rule: taken, check: func(p *probe) {
		first := p.record(1)
		p.insert(first)
		second := with(p.record(2), func(r *auth.Record) { r.ID = first.ID })
		p.fails("Insert of another record with that ID", p.keys.Insert(p.ctx, second), keyring.ErrExists)
		p.lacksHash(second)
		p.holds(first)
		p.fails("Insert of the same record again", p.keys.Insert(p.ctx, first), keyring.ErrExists)
		p.holds(first)
	}},
	{name: "Insert with a taken hash", rule: taken, check: func(p *probe) {
		first := p.record(1)
		p.insert(first)
		for i, owner := range []string{p.owner(0), p.owner(1)} {
			second := p.record(2 + i)
			second.Hash, second.Owner = first.Hash, owner
			p.fails("Insert of another record with that Hash", p.keys.Insert(p.ctx, second), keyring.ErrExists)
			p.lacksID(second.ID)
		}
		p.holds(first)
	}},
	{name: "Insert with what a revoked record has", rule: taken, check: func(p *probe) {
		first := p.record(1)
		first.RevokedAt, first.DisabledAt, first.ExpiresAt = epoch, epoch, past
		p.insert(first)
		p.fails("Insert of a good record with the ID and the Hash of a revoked one", p.keys.Insert(p.ctx, p.record(1)),
			keyring.ErrExists)
		p.holds(first)
	}},
	{name: "Insert of a record without an ID", rule: "Insert: a record without an ID is an error.",
		check: func(p *probe) {
			r := with(p.record(1), func(r *auth.Record) { r.ID = "" })
			p.refused("Insert of a record without an ID", p.keys.Insert(p.ctx, r))
			p.lacks(r)
		}},
	{name: "Insert of records that differ only in ID and hash", rule: taken + " Nothing else is unique.",
		check: func(p *probe) {
			list := p.records(8)
			for i, r := range list {
				*r = *p.record(0)
				r.ID, r.Hash = p.id(i), hashOf(i)
			}
			p.insert(list...)
			p.holds(list...)
		}},
	{name: "Insert does not modify the record", rule: untouched, check: func(p *probe) {
		r := p.record(1)
		r.Scopes = auth.Scopes{"templates.read", "documents.read"}
		r.CreatedAt = r.CreatedAt.Add(999).In(time.FixedZone("", 3600))
		before := r.Clone()
		p.insert(r)
		p.ok("the record that was inserted", modified(r, before))
	}},
}

func inZone(offset int) func(r *auth.Record) {
	zone := time.FixedZone("", offset)
	return func(r *auth.Record) {
		r.CreatedAt, r.UpdatedAt, r.ExpiresAt = r.CreatedAt.In(zone), r.UpdatedAt.In(zone), r.ExpiresAt.In(zone)
		r.DisabledAt, r.RevokedAt = epoch.In(zone), epoch.Add(time.Second).In(zone)
		r.LastUsedAt = epoch.Add(time.Minute).In(zone)
	}
}

// modified says how r, which the store was given or has returned, is not what
// it was before, or returns nil.
func modified(r, before *auth.Record) error {
	if err := differences(r, before); err != nil {
		return fmt.Errorf("it was modified: %w", err)
	}
	for _, f := range []struct{ got, want time.Time }{
		{r.CreatedAt, before.CreatedAt}, {r.UpdatedAt, before.UpdatedAt}, {r.ExpiresAt, before.ExpiresAt},
		{r.DisabledAt, before.DisabledAt}, {r.RevokedAt, before.RevokedAt}, {r.LastUsedAt, before.LastUsedAt},
	} {
		if !f.got.Equal(f.want) || f.got.Location() != f.want.Location() {
			return fmt.Errorf("it was modified: a time is %s, was %s", brief(f.got), brief(f.want))
		}
	}
	return nil
}
