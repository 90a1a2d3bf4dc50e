package authtest

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/insigner/auth"
)

const (
	order = "List returns records in ascending order of CreatedAt, then of ID (byte by byte)."
	pages = "List returns at most limit records, beginning behind the position after; no record need stand there."
	owner = "An owner that is not empty leaves only that owner's."
)

// orderedIDs are IDs in the order of their bytes, which is not that of any language's collation.
var orderedIDs = []string{"key", "key-", "key-a", "key0", "key10", "key9", "keyA", "keyAb", "keyB", "keyZ", "key_", "key_A",
	"key_a", "keya", "keyaB", "keyab", "keyz", "key~"}

// scattered returns n records in order, five at a time with one CreatedAt, and inserts them in another order.
func (p *probe) scattered(n int) []auth.Record {
	list := records(n)
	for i := range list {
		list[i].ID = fmt.Sprintf("key%c%d", "_-aAbBzZ"[i*5%8], i)
		list[i].CreatedAt = epoch.Add(time.Duration(i/5) * time.Microsecond)
	}
	for i := range list {
		p.insert(list[i*7%n]) // n is no multiple of 7
	}
	sortRecords(list)
	return list
}

func sortRecords(list []auth.Record) {
	slices.SortFunc(list, func(a, b auth.Record) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
}

func ids(list []auth.Record) []string {
	ids := make([]string, len(list))
	for i, r := range list {
		ids[i] = r.ID
	}
	return ids
}

// pagesThrough reports if pages of any size do not give these IDs, each once and in their order.
func (p *probe) pagesThrough(owner string, want []string) {
	for limit := 1; limit <= len(want)+1; limit++ {
		var all []auth.Record
		var after auth.Position
		for len(all) <= len(want) {
			page := p.list(owner, after, limit)
			if len(page) == 0 {
				break
			}
			if len(all)+len(page) < len(want) && len(page) < limit {
				p.errorf("List of owner %q with limit %d returned %d records though there are more", owner, limit, len(page))
			}
			all = append(all, page...)
			after = at(page[len(page)-1])
		}
		p.sameIDs(fmt.Sprintf("List of owner %q in pages of %d", owner, limit), all, want)
	}
}

var listCases = []storeCase{
	{name: "List of an empty store", rule: pages, check: func(p *probe) {
		p.lists("", auth.Position{}, 10)
		p.lists("org_1", at(record(1)), 1)
	}},
	{name: "List keeps every field", rule: keeps, check: func(p *probe) {
		full := record(1)
		full.RevokedAt, full.LastUsedAt = epoch.Add(time.Hour), epoch.Add(time.Minute)
		full.Replaces, full.ReplacedBy = "key_before", "key_behind"
		list := []auth.Record{record(0), full, record(2)}
		list[2].ExpiresAt = time.Time{}
		p.insert(list...)
		p.lists("", auth.Position{}, 10, ids(list)...)
		for i, got := range p.list("", auth.Position{}, 3) {
			p.ok("List: "+got.ID, differences(got, list[i]))
		}
	}},
	{name: "List has revoked and expired records", rule: keeps + " Whether a key is revoked or expired is Record.Check's " +
		"to say.", check: func(p *probe) {
		list := records(5)
		list[0].RevokedAt = epoch
		list[1].ExpiresAt = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
		list[3].ExpiresAt = time.Time{}
		p.insert(list...)
		p.revoke(list[2].ID, epoch)
		next := successor(5, list[3])
		p.replace(next, epoch)
		p.lists("", auth.Position{}, 10, ids(append(list, next))...)
	}},
	{name: "List shows what changed", rule: "Revoke sets RevokedAt; Replace sets ReplacedBy and ExpiresAt; Touch sets " +
		"LastUsedAt.", check: func(p *probe) {
		list := records(3)
		p.insert(list...)
		p.revoke(list[0].ID, epoch)
		p.touch(map[string]time.Time{list[1].ID: epoch})
		next := successor(3, list[2])
		p.replace(next, epoch)
		list[0].RevokedAt, list[1].LastUsedAt = epoch, epoch
		list[2] = replaced(list[2], next.ID, epoch)
		for i, got := range p.list("", auth.Position{}, 3) {
			p.ok("List: "+got.ID, differences(got, list[i]))
		}
	}},
	{name: "List orders by CreatedAt", rule: order, check: func(p *probe) {
		zones := []*time.Location{time.UTC, time.FixedZone("", 14*3600), time.FixedZone("", -12*3600)}
		list := records(9)
		for i := range list {
			list[i].ID = fmt.Sprintf("key_%d", 9-i) // against the order of time
			list[i].CreatedAt = epoch.Add(time.Duration(i) * time.Microsecond).In(zones[i%3])
		}
		list[0].CreatedAt = time.Date(1969, 7, 20, 20, 17, 40, 0, time.UTC)
		list[8].CreatedAt = time.Date(2262, 4, 12, 0, 0, 0, 0, time.UTC) // nanoseconds since 1970 do not reach so far
		for i := range list {
			p.insert(list[i*4%9])
		}
		p.lists("", auth.Position{}, 20, ids(list)...)
		p.pagesThrough("", ids(list))
	}},
	{name: "List orders by ID byte by byte", rule: order, check: func(p *probe) {
		n := len(orderedIDs)
		for i := range n {
			r := record(i)
			r.ID, r.CreatedAt = orderedIDs[i*5%n], epoch
			p.insert(r)
		}
		p.lists("", auth.Position{}, n+1, orderedIDs...)
		for i, id := range orderedIDs {
			p.lists("", auth.Position{CreatedAt: epoch, ID: id}, n+1, orderedIDs[i+1:]...)
		}
	}},
	{name: "List pages give every record once", rule: pages, check: func(p *probe) {
		list := p.scattered(23)
		p.pagesThrough("", ids(list))
	}},
	{name: "List pages past records that came and changed", rule: pages, check: func(p *probe) {
		list := records(6)
		p.insert(list...)
		first := p.list("", auth.Position{}, 3)
		if len(first) != 3 {
			p.errorf("List with limit 3 returned %d of 6 records", len(first))
			return
		}
		p.revoke(list[2].ID, epoch) // the one at the position
		p.touch(map[string]time.Time{list[2].ID: epoch, list[4].ID: epoch})
		early := record(100)
		early.CreatedAt = epoch.Add(-time.Hour)
		p.insert(early)
		p.lists("", at(first[2]), 10, ids(list[3:])...)
	}},
	{name: "List begins behind any position", rule: pages, check: func(p *probe) {
		list := records(4)
		for i := range list {
			list[i].CreatedAt = epoch.Add(time.Duration(i/2) * time.Second)
		}
		p.insert(list...)
		all := ids(list)
		for _, c := range []struct {
			after time.Duration
			id    string
			want  []string
		}{
			{-time.Hour, "zzz", all},
			{-time.Microsecond, "zzz", all},
			{0, "", all},
			{0, "key", all},
			{0, "key_0000", all[1:]},
			{0, "key_00005", all[1:]},
			{0, "key_0001", all[2:]},
			{0, "zzz", all[2:]},
			{time.Microsecond, "", all[2:]},
			{time.Second, "", all[2:]},
			{time.Second, "key_0001", all[2:]}, // an ID that stands elsewhere
			{time.Second, "key_0002", all[3:]},
			{time.Second, "key_0003", nil},
			{time.Hour, "", nil},
		} {
			p.lists("", auth.Position{CreatedAt: epoch.Add(c.after), ID: c.id}, 10, c.want...)
			p.lists("", auth.Position{CreatedAt: epoch.Add(c.after).In(time.FixedZone("", 14*3600)), ID: c.id}, 10, c.want...)
		}
	}},
	{name: "List begins at the zero Position", rule: "A zero Position is the beginning.", check: func(p *probe) {
		list := records(3)
		list[0].CreatedAt = time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC)
		list[1].CreatedAt = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
		p.insert(list...)
		p.lists("", auth.Position{}, 10, ids(list)...)
		p.lists("org_1", auth.Position{}, 1, list[0].ID)
	}},
	{name: "List of an owner", rule: owner, check: func(p *probe) {
		owners := []string{"org_1", "Org_1", "org_10", "org", "orgx1", "org-1", "org_%", "%", "_____", "", " org_1", "org_1 ",
			"o'rg", `org\_1`, "org_1,org_2", "örg"}
		var list []auth.Record
		for i := range 2 * len(owners) {
			r := record(i)
			r.Owner = owners[i%len(owners)]
			list = append(list, r)
		}
		p.insert(list...)
		for i, owner := range owners {
			if owner == "" {
				continue // that is every owner
			}
			p.lists(owner, auth.Position{}, 100, list[i].ID, list[i+len(owners)].ID)
		}
		p.lists("nobody", auth.Position{}, 100)
		p.lists("org_2", auth.Position{}, 100)
		p.lists("' OR ''='", auth.Position{}, 100)
		p.lists("", auth.Position{}, 100, ids(list)...)
	}},
	{name: "List of an owner in pages", rule: owner + " " + pages, check: func(p *probe) {
		var want []string
		for i := range 17 {
			r := record(i)
			r.CreatedAt = epoch.Add(time.Duration(i/4) * time.Second)
			if i%3 == 0 {
				r.Owner = "org_2"
				want = append(want, r.ID)
			}
			p.insert(r)
		}
		p.pagesThrough("org_2", want)
		p.lists("org_2", at(record(1)), 1, want[2:3]...)
	}},
	{name: "List refuses a limit below 1", rule: "A limit below 1 is an error.", check: func(p *probe) {
		p.insert(record(1))
		for _, limit := range []int{0, -1, -1 << 31} {
			for _, owner := range []string{"", "org_1", "nobody"} {
				if page, err := p.keys.List(p.ctx, owner, auth.Position{}, limit); err == nil {
					p.errorf("List of owner %q with limit %d returned %d records and no error", owner, limit, len(page))
				}
			}
		}
		p.lists("", auth.Position{}, 1<<31-1, record(1).ID)
	}},
}
