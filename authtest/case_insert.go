package authtest

import (
	"fmt"
	"strings"
	"time"

	"github.com/insigner/auth"
)

const (
	keeps    = "KeyStore keeps what it is given and decides nothing."
	lookup   = "Lookup returns the record whose Hash is hash, revoked and expired ones too."
	notFound = "If there is no such record the error matches ErrNotFound."
	exists   = "Insert: if there is a record with its ID or its Hash already, the error matches ErrExists. A method " +
		"that returns an error has changed nothing."
	times = "Times must survive with microseconds at least; the zone need not."
)

// oddText is what text columns, quoting and encoding by hand break on. It has no NUL.
const oddText = " a,b;c|d\"e'f`g\\h%i_j\n\t\r{\"k\":[1]}\x01\x7f<&>é e\u0301 \u2028\U0001F511 "

var lookupCases = []storeCase{
	{name: "Lookup finds", rule: lookup, check: func(p *probe) {
		list := records(5)
		p.insert(list...)
		p.holds(list...)
	}},
	{name: "Lookup finds revoked", rule: lookup, check: func(p *probe) {
		r := record(1)
		r.RevokedAt = epoch
		p.insert(r, record(2))
		p.revoke(record(2).ID, epoch)
		p.holds(r)
		_, err := p.Lookup(p.ctx, record(2).Hash)
		p.ok("Lookup of a record after Revoke", err)
	}},
	{name: "Lookup finds expired", rule: lookup, check: func(p *probe) {
		r := record(1)
		r.ExpiresAt = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
		p.insert(r)
		p.holds(r)
	}},
	{name: "Lookup finds none", rule: notFound, check: func(p *probe) {
		p.lacks(record(1))
		p.insert(record(2))
		p.lacks(record(1))
	}},
	{name: "Lookup compares the whole hash", rule: lookup + " " + notFound, check: func(p *probe) {
		r := record(1)
		p.insert(r)
		for _, other := range similar(r.Hash) {
			_, err := p.Lookup(p.ctx, other.hash)
			p.fails("Lookup of "+other.what, err, auth.ErrNotFound)
		}
		for i, hash := range oddHashes() {
			r := record(10 + i)
			r.Hash = hash
			p.insert(r)
		}
		for i, hash := range oddHashes() {
			r := record(10 + i)
			r.Hash = hash
			p.holds(r)
		}
	}},
	{name: "Get finds none", rule: "Get returns the record with that ID, or an error that matches ErrNotFound.",
		check: func(p *probe) {
			r := record(1)
			r.ID = "key_Ab"
			p.insert(r)
			p.holds(r)
			for _, id := range []string{"key_ab", "KEY_AB", "key_A", "key_Ab ", " key_Ab", "key_Abc", "key-Ab", "key_%",
				"%", "key_A_", "", "'", "key_Ab'--", "0"} {
				got, err := p.keys.Get(p.ctx, id)
				p.fails(fmt.Sprintf("Get %q beside %q", id, r.ID), err, auth.ErrNotFound)
				if err == nil && got.ID != id {
					p.errorf("Get %q returned the record %q", id, got.ID)
				}
			}
		}},
}

// kept returns a check that a record comes back as it was inserted, in each of these variants.
func kept(variants ...func(r *auth.Record)) func(p *probe) {
	return func(p *probe) {
		var list []auth.Record
		for i, change := range variants {
			r := record(i)
			change(&r)
			p.insert(r)
			list = append(list, r)
		}
		p.holds(list...)
	}
}

var insertCases = []storeCase{
	{name: "Insert keeps every field", rule: keeps, check: kept(
		func(*auth.Record) {},
		func(r *auth.Record) {
			r.RevokedAt, r.LastUsedAt = epoch.Add(time.Hour), epoch.Add(time.Minute)
			r.Replaces, r.ReplacedBy = "key_before", "key_behind"
		},
		func(r *auth.Record) { *r = auth.Record{ID: r.ID, Hash: r.Hash, CreatedAt: r.CreatedAt} },
	)},
	{name: "Insert keeps microseconds", rule: times, check: kept(
		func(r *auth.Record) { r.ExpiresAt = epoch.Truncate(time.Second).Add(time.Microsecond) },
		func(r *auth.Record) { r.ExpiresAt = epoch.Truncate(time.Second).Add(-time.Microsecond) },
		func(r *auth.Record) { r.CreatedAt = r.CreatedAt.Add(999999 * time.Microsecond) },
		func(r *auth.Record) { r.RevokedAt, r.LastUsedAt = epoch.Add(1001*time.Microsecond), epoch.Add(-1) },
		func(r *auth.Record) { r.ExpiresAt = epoch.Add(999) }, // nanoseconds, which a store may drop
	)},
	{name: "Insert keeps instants in any zone", rule: times, check: kept(
		inZone(14*3600), inZone(-12*3600), inZone(5*3600+45*60), inZone(-(3600 + 7)),
		func(r *auth.Record) { // Monday in one zone, Tuesday in another
			r.ExpiresAt = time.Date(2031, 12, 31, 23, 59, 59, 0, time.FixedZone("", -11*3600))
		},
		func(r *auth.Record) { // a monotonic reading is not part of the instant
			now := time.Now()
			r.CreatedAt, r.ExpiresAt, r.LastUsedAt = now, now.Add(time.Hour), now.Add(time.Minute)
		},
	)},
	{name: "Insert keeps early and late times", rule: times + " " + keeps, check: kept(
		func(r *auth.Record) { r.ExpiresAt = time.Time{}.Add(time.Microsecond) }, // expired, not "never expires"
		func(r *auth.Record) { r.ExpiresAt = time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC) },
		func(r *auth.Record) { r.RevokedAt = time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC) }, // revoked
		func(r *auth.Record) { r.ExpiresAt = time.Date(1677, 1, 1, 0, 0, 0, 0, time.UTC) },
		func(r *auth.Record) { r.RevokedAt = time.Unix(0, 0) }, // revoked, though zero by another count
		func(r *auth.Record) { r.ExpiresAt = time.Unix(0, 0) },
		func(r *auth.Record) { r.ExpiresAt = time.Unix(-1, 0) },
		func(r *auth.Record) { r.ExpiresAt = time.Date(2038, 1, 19, 3, 14, 8, 0, time.UTC) },
		func(r *auth.Record) { r.ExpiresAt = time.Date(2262, 4, 12, 0, 0, 0, 0, time.UTC) },
		func(r *auth.Record) { r.ExpiresAt = time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC) },
		func(r *auth.Record) { r.CreatedAt = time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC) },
	)},
	{name: "Insert keeps zero times", rule: keeps + " A zero ExpiresAt: never; a zero RevokedAt: not revoked; a zero " +
		"LastUsedAt: never seen.", check: kept(
		func(r *auth.Record) { r.ExpiresAt, r.RevokedAt, r.LastUsedAt = time.Time{}, time.Time{}, time.Time{} },
		func(r *auth.Record) { r.ExpiresAt = time.Time{}.In(time.FixedZone("", 3600)) }, // the same instant
		func(r *auth.Record) { r.RevokedAt = time.Time{}.In(time.FixedZone("", -3600)) },
	)},
	{name: "Insert keeps scopes", rule: keeps + " That goes for scopes that are none, which grant nothing.", check: kept(
		func(r *auth.Record) { r.Scopes = auth.Scopes{"templates.read", "documents.read", "*", "audit.read"} },
		func(r *auth.Record) {
			r.Scopes = auth.Scopes{"documents.read", "documents.read", "a.b", "documents.read"}
		},
		func(r *auth.Record) { r.Scopes = nil },
		func(r *auth.Record) { r.Scopes = auth.Scopes{} },
		func(r *auth.Record) { r.Scopes = auth.Scopes{""} },
		func(r *auth.Record) { r.Scopes = auth.Scopes{"", "documents.read", ""} },
		func(r *auth.Record) {
			r.Scopes = auth.Scopes{"Documents.Read", "documents", "documents.*.read", " a.b "}
		},
		func(r *auth.Record) {
			r.Scopes = auth.Scopes{"a.b,c.d", "a.b c.d", "a.b\nc.d", `{"a.b"}`, `"`, oddText}
		},
	)},
	{name: "Insert keeps metadata", rule: keeps, check: kept(
		func(r *auth.Record) { r.Metadata = nil },
		func(r *auth.Record) { r.Metadata = map[string]string{} },
		func(r *auth.Record) { r.Metadata = map[string]string{"empty": "", "": "no key"} },
		func(r *auth.Record) {
			r.Metadata = map[string]string{"a": "1", "A": "2", "a ": "3", "a,b": "c=d", "a=b": "c,d"}
		},
		func(r *auth.Record) {
			r.Metadata = map[string]string{oddText: oddText, "null": "null", "list": "[1, 2]"}
		},
	)},
	{name: "Insert keeps text", rule: keeps, check: kept(
		func(r *auth.Record) {
			r.Hint, r.Name, r.Owner, r.CreatedBy = oddText, oddText, oddText, oddText
			r.Replaces, r.ReplacedBy = oddText, oddText
		},
		func(r *auth.Record) { r.Hint, r.Name, r.Owner, r.CreatedBy = "", "", "", "" },
		func(r *auth.Record) { r.Name, r.Owner, r.CreatedBy = "NULL", "null", "0" },
		func(r *auth.Record) { r.Name, r.Owner = "  spaces  ", "Org_1 " },
		func(r *auth.Record) { r.Name = "'; DROP TABLE keys; --" },
	)},
	{name: "Insert keeps long values", rule: keeps, check: kept(
		func(r *auth.Record) { r.ID += strings.Repeat("x", 92) },
		func(r *auth.Record) { r.Name = strings.Repeat("é€\U0001F511", 400) },
		func(r *auth.Record) { r.Owner, r.CreatedBy = strings.Repeat("o", 1000), strings.Repeat("c", 1000) },
		func(r *auth.Record) { r.Metadata = map[string]string{"long": strings.Repeat("0123456789", 7000)} },
		func(r *auth.Record) {
			r.Scopes = nil
			for i := range 500 {
				r.Scopes = append(r.Scopes, auth.Scope(fmt.Sprintf("documents.part-%d.read", i)))
			}
		},
	)},
	{name: "Insert refuses an ID that exists", rule: exists, check: func(p *probe) {
		first, second := record(1), record(2)
		second.ID = first.ID
		p.insert(first)
		p.fails("Insert of another record with the same ID", p.keys.Insert(p.ctx, second), auth.ErrExists)
		p.holds(first)
		_, err := p.Lookup(p.ctx, second.Hash)
		p.fails("Lookup of the hash that was refused", err, auth.ErrNotFound)
		p.lists("", auth.Position{}, 10, first.ID)
	}},
	{name: "Insert refuses a hash that exists", rule: exists, check: func(p *probe) {
		first, second := record(1), record(2)
		second.Hash = first.Hash
		p.insert(first)
		p.fails("Insert of another record with the same Hash", p.keys.Insert(p.ctx, second), auth.ErrExists)
		p.holds(first)
		_, err := p.keys.Get(p.ctx, second.ID)
		p.fails("Get of the ID that was refused", err, auth.ErrNotFound)
		p.lists("", auth.Position{}, 10, first.ID)
		p.fails("Insert of the same record again", p.keys.Insert(p.ctx, first), auth.ErrExists)
		p.holds(first)
	}},
	{name: "Insert refuses what a revoked record has", rule: exists, check: func(p *probe) {
		first := record(1)
		first.RevokedAt, first.ExpiresAt = epoch, epoch
		p.insert(first)
		p.fails("Insert of a record that is there, revoked", p.keys.Insert(p.ctx, first), auth.ErrExists)
		fresh := record(1)
		p.fails("Insert of a valid record beside a revoked one with its ID and Hash", p.keys.Insert(p.ctx, fresh),
			auth.ErrExists)
		p.holds(first)
	}},
	{name: "Insert refuses a record without an ID", rule: "Insert: a record without an ID is an error.", check: func(p *probe) {
		r := record(1)
		r.ID = ""
		p.refused("Insert of a record without an ID", p.keys.Insert(p.ctx, r))
		p.lacks(r)
		p.lists("", auth.Position{}, 10)
	}},
	{name: "Insert tells records apart by ID and hash only", rule: exists, check: func(p *probe) {
		var list []auth.Record
		for i, id := range []string{"key_a", "key_A", "key-a", "key_a_", "key_", "KEY_A", "key_a1", "key_a 1"} {
			r := record(0) // the same in all else
			r.ID, r.Hash = id, record(i).Hash
			list = append(list, r)
		}
		p.insert(list...)
		p.holds(list...)
	}},
}

func inZone(offset int) func(r *auth.Record) {
	zone := time.FixedZone("", offset)
	return func(r *auth.Record) {
		r.CreatedAt, r.ExpiresAt = r.CreatedAt.In(zone), r.ExpiresAt.In(zone)
		r.RevokedAt, r.LastUsedAt = epoch.In(zone), epoch.Add(time.Second).In(zone)
	}
}
