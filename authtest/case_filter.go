package authtest

import (
	"fmt"
	"slices"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

const (
	ownerRule   = "Owner: only keys of that owner."
	chainRule   = "Chain: only keys of that chain of rotations."
	creatorRule = "CreatedBy: only keys that this actor created."
	mustObey    = "A Store must obey Owner, Chain, CreatedBy, NewestFirst, After and Limit."
	shouldObey  = "A Store should obey States, ExpiresFrom, ExpiresBefore and Text, which a Keyring checks again. " +
		"It may return more, but not less."
)

// finds reports that List, page by page, leaves out a record of list that q
// selects, returns one that it must not, or one twice. What a store should
// obey, it need not.
func (p *probe) finds(q keyring.Query, list []*auth.Record) {
	must := keyring.Query{Owner: q.Owner, Chain: q.Chain, CreatedBy: q.CreatedBy}
	for _, limit := range []int{3, len(list) + 1} {
		q.Limit = limit
		got := ids(p.pages(q, len(list)))
		what := describe(q) + ", page by page"
		for _, r := range list {
			found := slices.Contains(got, r.ID)
			if !found && q.Matches(r) {
				p.errorf("%s: got no record %s (%s), want it", what, r.ID, r.Name)
			}
			if found && !must.Matches(r) {
				p.errorf("%s: got the record %s (%s), want it left out", what, r.ID, r.Name)
			}
		}
		slices.Sort(got)
		if once := slices.Compact(slices.Clone(got)); len(once) != len(got) {
			p.errorf("%s: got %d records, want each of %d once", what, len(got), len(once))
		}
	}
}

// oddOwners are texts that a careless comparison takes for one another.
var oddOwners = []string{"org_1", "Org_1", "org_10", "org", "orgx1", "org-1", "org_%", "%", "_____", " org_1", "org_1 ",
	"o'rg", `org\_1`, "org_1,org_2", "örg"}

var filterCases = []storeCase{
	{name: "List of an owner", rule: ownerRule + " " + mustObey, check: func(p *probe) {
		owners := oddOwners
		if !p.anyOwner() {
			owners = []string{p.owner(0), p.owner(1), p.owner(2)}
		}
		list := p.records(2 * len(owners))
		for i, r := range list {
			r.Owner = owners[i%len(owners)]
		}
		p.insert(list...)
		for _, owner := range owners {
			var want []string
			for _, r := range list {
				if r.Owner == owner {
					want = append(want, r.ID)
				}
			}
			p.lists(keyring.Query{Owner: owner}, want...)
			p.lists(keyring.Query{Owner: owner, NewestFirst: true}, reversed(want)...)
		}
		for _, owner := range []string{"nobody", "' OR ''='", "ORG_1", "org_2"} {
			if !slices.Contains(owners, owner) {
				p.lists(keyring.Query{Owner: owner})
			}
		}
		p.lists(keyring.Query{}, ids(list)...)
	}},
	{name: "List of a chain", rule: chainRule + " " + mustObey, check: func(p *probe) {
		list := p.records(9)
		p.insert(list[:3]...)
		for i := 3; i < len(list); i++ { // three chains of three keys
			old, successor := p.rotated(list[i-3], i)
			p.rotate(old, successor)
			list[i] = successor
		}
		for i := range 3 {
			want := ids([]*auth.Record{list[i], list[i+3], list[i+6]})
			p.lists(keyring.Query{Chain: list[i].ID}, want...)
			p.lists(keyring.Query{Chain: list[i].ID, NewestFirst: true}, reversed(want)...)
			p.lists(keyring.Query{Chain: list[i+3].ID}) // it is in a chain, but not the first
		}
		p.lists(keyring.Query{Chain: p.id(100)})
	}},
	{name: "List of a creator", rule: creatorRule + " " + mustObey, check: func(p *probe) {
		actors := []string{"ada", "Ada", "ada ", "staff:ada", "ad%", "a_a", "ad", "adax"}
		list := p.records(2 * len(actors))
		for i, r := range list {
			r.CreatedBy = actors[i%len(actors)]
			r.UpdatedBy = actors[0]
		}
		p.insert(list...)
		for i, actor := range actors {
			want := []string{list[i].ID, list[i+len(actors)].ID}
			p.lists(keyring.Query{CreatedBy: actor}, want...)
			p.lists(keyring.Query{CreatedBy: actor, NewestFirst: true}, reversed(want)...)
		}
		p.lists(keyring.Query{CreatedBy: "grace"})
		p.lists(keyring.Query{CreatedBy: "a%"})
	}},
	{name: "List by several of owner, chain and creator",
		rule: ownerRule + " " + chainRule + " " + creatorRule + " " + mustObey,
		check: func(p *probe) {
			list := p.records(16)
			for i, r := range list { // each combination twice
				r.Owner = p.owner(i & 1)
				r.Chain = p.id(i >> 1 & 1)
				r.CreatedBy = fmt.Sprint("actor_", i>>2&1)
			}
			p.insert(list...)
			for i := range 8 {
				for mask := range 8 {
					var q keyring.Query
					if mask&1 != 0 {
						q.Owner = list[i].Owner
					}
					if mask&2 != 0 {
						q.Chain = list[i].Chain
					}
					if mask&4 != 0 {
						q.CreatedBy = list[i].CreatedBy
					}
					var want []string
					for j, r := range list {
						if (i^j)&mask == 0 {
							want = append(want, r.ID)
						}
					}
					p.lists(q, want...)
				}
			}
		}},
	{name: "List of an owner page by page", rule: pageRule + " " + mustObey, check: func(p *probe) {
		list := p.records(23)
		for i, r := range list {
			r.CreatedAt = epoch.Add(time.Duration(i/4) * time.Second)
			if i%3 == 0 {
				r.Owner, r.CreatedBy, r.Chain = p.owner(1), "actor_2", p.id(0)
			}
		}
		p.insert(list...)
		for _, q := range []keyring.Query{{Owner: p.owner(1)}, {Chain: p.id(0)}, {CreatedBy: "actor_2"}} {
			for _, newest := range []bool{false, true} {
				q.NewestFirst = newest
				for _, limit := range []int{1, 2, 3, 7, 8, 9} {
					q.Limit = limit
					if got := len(p.pages(q, len(list))); got != 8 {
						p.errorf("%s, page by page: got %d records, want 8", describe(q), got)
					}
				}
			}
		}
	}},
	{name: "List of states", rule: "States: only keys in one of these states, at Now. " + shouldObey,
		check: func(p *probe) {
			list := p.inStates()
			list = append(list, p.record(12), p.record(13))
			list[12].ExpiresAt = epoch.AddDate(0, 6, 0)
			list[13].RevokedAt = epoch.AddDate(50, 0, 0) // a time in the future counts too
			p.insert(list...)
			for states := range keyring.States(18) { // with a bit that is unknown
				for _, now := range []time.Time{past.AddDate(-1, 0, 0), past, epoch.AddDate(0, 6, 0), epoch.AddDate(20, 0, 0)} {
					p.finds(keyring.Query{States: states, Now: now}, list)
				}
			}
		}},
	{name: "List by expiry", rule: "ExpiresFrom and ExpiresBefore: not before the one, before the other. " + shouldObey,
		check: func(p *probe) {
			list := p.records(8)
			for i, r := range list {
				r.ExpiresAt = epoch.Add(time.Duration(i) * time.Microsecond)
			}
			list[6].ExpiresAt = time.Time{}
			list[7].ExpiresAt = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
			p.insert(list...)
			at := []time.Time{{}, epoch.Add(-time.Hour), epoch, epoch.Add(2 * time.Microsecond),
				epoch.Add(3 * time.Microsecond).In(time.FixedZone("", -12*3600)), list[7].ExpiresAt}
			for _, from := range at {
				for _, before := range at {
					p.finds(keyring.Query{ExpiresFrom: from, ExpiresBefore: before}, list)
				}
			}
		}},
	{name: "List by text",
		rule: "Text: only keys whose name, owner, ID or hint contains it, in upper or lower case. " + shouldObey,
		check: func(p *probe) {
			list := p.records(10)
			for i, name := range []string{"Production Backend", "production", "PRODUCTION", "Müller ÉTÉ", "MÜLLER été",
				"100% sure", "a_b", `back\slash`, "it's \"quoted\"", "[a-z]"} {
				list[i].Name = name
			}
			list[5].Owner, list[6].Owner = p.owner(1), p.owner(1)
			list[7].Hint, list[8].Hint = "isk_…Prod", "acme_live_…Xy_Z"
			p.insert(list...)
			texts := []string{"prod", "PROD", "Production B", "müller", "MÜLLER", "été", "100%", "%", "a_b", "_", `\`, `k\s`,
				"'", `"`, "[a", "…", "…prod", "ACME_LIVE", "xy_z", "isk_", "nowhere", " "}
			for _, r := range []*auth.Record{list[0], list[5]} {
				texts = append(texts, r.Owner, r.ID, r.ID[:len(r.ID)-1], r.ID[len(r.ID)/2:])
			}
			for _, text := range texts {
				p.finds(keyring.Query{Text: text}, list)
				p.finds(keyring.Query{Text: text, Owner: p.owner(1), NewestFirst: true}, list)
			}
		}},
	{name: "List of states, expiry and text page by page", rule: pageRule + " " + shouldObey, check: func(p *probe) {
		list := p.records(24)
		for i, r := range list {
			if i%5 != 0 {
				r.RevokedAt, r.ExpiresAt, r.Name = epoch, past, fmt.Sprint("another ", i)
			}
			if i%2 == 0 {
				r.Owner = p.owner(1)
			}
		}
		p.insert(list...)
		for _, q := range []keyring.Query{
			{States: keyring.Active, Now: epoch},
			{ExpiresFrom: epoch},
			{Text: "key"},
			{States: keyring.Active | keyring.Disabled, Now: epoch, ExpiresFrom: epoch, Text: "key"},
		} {
			for _, newest := range []bool{false, true} {
				q.NewestFirst = newest
				for _, owner := range []string{"", p.owner(1)} {
					q.Owner = owner
					p.finds(q, list)
				}
			}
		}
	}},
}
