package authtest_test

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
)

// filtering breaks which records List selects. The query without is what q is
// without what is broken; matches is to select what that leaves.
func filtering(without func(q *keyring.Query), matches func(q keyring.Query, r *auth.Record) bool) func(t *table) {
	return func(t *table) {
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			if q.Limit < 1 {
				return t.list(q)
			}
			rest := q
			without(&rest)
			return limited(t.selected(q, func(r *auth.Record) bool { return rest.Matches(r) && matches(q, r) }), q.Limit), nil
		}
	}
}

// owned, createdBy and chained break how one field is compared.
func owned(same func(has, owner string) bool) func(t *table) {
	return filtering(func(q *keyring.Query) { q.Owner = "" }, func(q keyring.Query, r *auth.Record) bool {
		return q.Owner == "" || same(r.Owner, q.Owner)
	})
}

func createdBy(same func(has, actor string) bool) func(t *table) {
	return filtering(func(q *keyring.Query) { q.CreatedBy = "" }, func(q keyring.Query, r *auth.Record) bool {
		return q.CreatedBy == "" || same(r.CreatedBy, q.CreatedBy)
	})
}

func chained(same func(r *auth.Record, chain string) bool) func(t *table) {
	return filtering(func(q *keyring.Query) { q.Chain = "" }, func(q keyring.Query, r *auth.Record) bool {
		return q.Chain == "" || same(r, q.Chain)
	})
}

// texts breaks where and how a text is looked for.
func texts(contains func(r *auth.Record, text string) bool) func(t *table) {
	return filtering(func(q *keyring.Query) { q.Text = "" }, func(q keyring.Query, r *auth.Record) bool {
		return q.Text == "" || contains(r, q.Text)
	})
}

// late selects some records only after the limit has cut the page.
func late(when func(q keyring.Query) bool, without func(q *keyring.Query)) func(t *table) {
	return func(t *table) {
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			if !when(q) {
				return t.list(q)
			}
			rest := q
			without(&rest)
			page, err := t.list(rest)
			return slices.DeleteFunc(page, func(r *auth.Record) bool { return !q.Matches(r) }), err
		}
	}
}

func trailing(a, b string) bool { return strings.TrimRight(a, " ") == strings.TrimRight(b, " ") }

func lower(s string) string {
	return strings.Map(func(c rune) rune {
		if 'A' <= c && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return c
	}, s)
}

func anyOf(r *auth.Record, contains func(s string) bool) bool {
	return slices.ContainsFunc([]string{r.Name, r.Owner, r.ID, r.Hint}, contains)
}

var filterFaults = []fault{
	{"the owner is ignored", "List of an owner", false, owned(func(has, owner string) bool { return true })},
	{"an owner in any case", "List of an owner", true, owned(strings.EqualFold)},
	{"an owner is a pattern", "List of an owner", false, owned(func(has, owner string) bool {
		return has == owner || strings.HasSuffix(owner, "%") && strings.HasPrefix(has, strings.TrimSuffix(owner, "%"))
	})},
	{"spaces at the end of an owner do not count", "List of an owner", true, owned(trailing)},
	{"the chain is ignored", "List of a chain", false, chained(func(*auth.Record, string) bool { return true })},
	{"a chain starts anywhere", "List of a chain", true, chained(func(r *auth.Record, chain string) bool {
		return r.Chain == chain || r.RotatedFrom == chain
	})},
	{"a creator in any case", "List of a creator", true, createdBy(strings.EqualFold)},
	{"a creator is the start of one", "List of a creator", false, createdBy(strings.HasPrefix)},
	{"a creator is who changed the key", "List of a creator", false, filtering(
		func(q *keyring.Query) { q.CreatedBy = "" },
		func(q keyring.Query, r *auth.Record) bool { return q.CreatedBy == "" || r.UpdatedBy == q.CreatedBy })},
	{"the creator is ignored with an owner and a chain", "List by several of owner, chain and creator", true, filtering(
		func(q *keyring.Query) { q.CreatedBy = "" },
		func(q keyring.Query, r *auth.Record) bool {
			return q.Owner != "" && q.Chain != "" || q.CreatedBy == "" || r.CreatedBy == q.CreatedBy
		})},
	{"an owner is selected after the limit", "List of an owner page by page", false, late(
		func(q keyring.Query) bool { return q.Owner != "" }, func(q *keyring.Query) { q.Owner = "" })},
	{"a creator is selected after the limit", "List of an owner page by page", true, late(
		func(q keyring.Query) bool { return q.CreatedBy != "" }, func(q *keyring.Query) { q.CreatedBy = "" })},
	{"a key is revoked and expired at once", "List of states", true, filtering(
		func(q *keyring.Query) { q.States = 0 },
		func(q keyring.Query, r *auth.Record) bool {
			expired := !r.ExpiresAt.IsZero() && !r.ExpiresAt.After(q.Now)
			return q.States == 0 || q.States&keyring.StateOf(r, q.Now) != 0 && (!expired || q.States&keyring.Expired != 0)
		})},
	{"Now is ignored", "List of states", true, func(t *table) {
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			q.Now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
			return t.list(q)
		}
	}},
	{"ExpiresFrom excludes itself", "List by expiry", true, filtering(func(q *keyring.Query) {},
		func(q keyring.Query, r *auth.Record) bool {
			return q.ExpiresFrom.IsZero() || r.ExpiresAt.After(q.ExpiresFrom)
		})},
	{"expiries are seconds", "List by expiry", false, filtering(func(q *keyring.Query) {},
		func(q keyring.Query, r *auth.Record) bool {
			return q.ExpiresBefore.IsZero() || r.ExpiresAt.Truncate(time.Second).Before(q.ExpiresBefore.Truncate(time.Second))
		})},
	{"a text is looked for in the name only", "List by text", true, texts(func(r *auth.Record, text string) bool {
		return strings.Contains(strings.ToLower(r.Name), strings.ToLower(text))
	})},
	{"a text starts the name", "List by text", true, texts(func(r *auth.Record, text string) bool {
		return anyOf(r, func(s string) bool { return strings.HasPrefix(strings.ToLower(s), strings.ToLower(text)) })
	})},
	{"a text is of one case", "List by text", false, texts(func(r *auth.Record, text string) bool {
		return anyOf(r, func(s string) bool { return strings.Contains(s, text) })
	})},
	{"only the letters of ASCII have a case", "List by text", true, texts(func(r *auth.Record, text string) bool {
		return anyOf(r, func(s string) bool { return strings.Contains(lower(s), lower(text)) })
	})},
	{"States are selected after the limit", "List of states", false, late(
		func(q keyring.Query) bool { return q.States != 0 }, func(q *keyring.Query) { q.States = 0 })},
	{"States of an owner are selected after the limit", "List of states, expiry and text page by page", true, late(
		func(q keyring.Query) bool { return q.States != 0 && q.Owner != "" }, func(q *keyring.Query) { q.States = 0 })},
	{"a text newest first is selected after the limit", "List of states, expiry and text page by page", false, late(
		func(q keyring.Query) bool { return q.Text != "" && q.NewestFirst }, func(q *keyring.Query) { q.Text = "" })},
}
