package keyapi_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
)

// fill stores n keys of an owner, oldest first, and returns their IDs, newest
// first. Three of them have the same time.
func (s *server) fill(owner string, n int) (ids []string) {
	s.t.Helper()
	for i := range n {
		id := fmt.Sprintf("%s-%04d", owner, i)
		r := auth.Record{ID: id, Owner: owner, Name: fmt.Sprintf("key %d", i), Hash: auth.BLAKE2b(nil)(id), Revision: 1,
			CreatedAt: epoch.Add(time.Duration(i/3) * time.Millisecond).Add(7)}
		must(s.t, s.store.Insert(context.Background(), &r))
		ids = append(ids, id)
	}
	slices.Reverse(ids)
	return ids
}

// all follows the cursors of a list, and returns the IDs and the length of each
// page.
func (c *client) all(path string) (ids []string, pages []int) {
	c.s.t.Helper()
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	for next := ""; ; {
		a := c.do("GET", path+next, "").is(200)
		ids, pages = append(ids, a.ids()...), append(pages, len(a.data()))
		same(c.s.t, "count", a.meta()["count"], len(a.data()))
		cursor, more := a.meta()["nextCursor"].(string)
		same(c.s.t, "hasMore", a.meta()["hasMore"], more)
		if !more {
			same(c.s.t, "nextCursor of the last page", a.meta()["nextCursor"], nil)
			return ids, pages
		}
		next = sep + "cursor=" + url.QueryEscape(cursor)
	}
}

func TestList(t *testing.T) {
	s := newServer(t, actAs)
	c := &client{s: s}
	a := c.do("GET", "", "").is(200)
	equal(t, "empty list", a.text, `{"data":[],"meta":{"count":0,"hasMore":false,"nextCursor":null}}`+"\n")

	want := s.fill("acme", 205)
	s.fill("globex", 205)
	for _, l := range []struct {
		query string
		pages []int
	}{
		{"", []int{50, 50, 50, 50, 5}},
		{"?limit=200", []int{200, 5}},
		{"?limit=41", []int{41, 41, 41, 41, 41}},
		{"?limit=100&status=active", []int{100, 100, 5}},
	} {
		ids, pages := c.all(l.query)
		same(t, l.query+": pages", pages, l.pages)
		same(t, l.query+": IDs", ids, want)
	}
	ids, _ := c.all("?limit=1&q=KEY%2020")
	same(t, "keys with the text", ids, []string{"acme-0204", "acme-0203", "acme-0202", "acme-0201", "acme-0200",
		"acme-0020"})
}

func TestListMembers(t *testing.T) {
	c := newServer(t).client("acme", "*")
	same(t, "key", c.do("GET", "", "").data()[0], c.do("GET", "/"+c.id, "").body)
}

func TestListByStatus(t *testing.T) {
	s := newServer(t, actAs)
	c := &client{s: s}
	disabled, revoked, expired := c.create(`{"name":"key"}`).id, c.create(`{"name":"key"}`).id,
		c.create(`{"name":"key"}`).id
	c.do("POST", "/"+disabled+"/disable", "").is(200)
	c.do("POST", "/"+revoked+"/revoke", "").is(200)
	active := c.do("POST", "/"+expired+"/rotate", "").is(201).str("id")
	for _, l := range []struct {
		status string
		want   []string
	}{
		{"active", []string{active}},
		{"disabled", []string{disabled}},
		{"revoked", []string{revoked}},
		{"expired", []string{expired}},
		{"active,disabled", []string{active, disabled}},
		{"expired,revoked,active,disabled", []string{active, expired, revoked, disabled}},
	} {
		same(t, l.status, c.do("GET", "?status="+l.status, "").is(200).ids(), l.want)
	}
}

// Rows that cannot be read cost only themselves.
func TestListWithUnreadableRows(t *testing.T) {
	s := newServer(t, actAs)
	c := &client{s: s}
	want := s.fill("acme", 20)
	unreadable := func(id string) bool {
		return strings.HasSuffix(id, "3") || strings.HasSuffix(id, "4") || id == want[0] || id == want[19]
	}
	s.store.list = func(q keyring.Query) ([]*auth.Record, error) {
		records, err := s.store.MemoryStore.List(context.Background(), q)
		var rows []error
		readable := records[:0:0]
		for _, r := range records {
			if unreadable(r.ID) {
				rows = append(rows, &keyring.RecordError{ID: r.ID, At: keyring.PositionOf(r), Err: errors.New("bad JSON")})
			} else {
				readable = append(readable, r)
			}
		}
		return readable, errors.Join(append(rows, err)...)
	}
	ids, pages := c.all("?limit=5")
	same(t, "IDs", ids, slices.DeleteFunc(slices.Clone(want), unreadable))
	same(t, "pages", pages, []int{5, 5, 4})
	contains(t, "log", s.log.String(), "record acme-0013 cannot be read: bad JSON", true)
}

func TestListFails(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	hash := auth.BLAKE2b(nil)("x").String()
	s.store.list = func(keyring.Query) ([]*auth.Record, error) {
		return nil, errors.New("row " + hash + " of /var/run/db.sock")
	}
	a := c.do("GET", "", "")
	a.refused("list", 503, "STORE_UNAVAILABLE", "")
	equal(t, "Retry-After", a.header.Get("Retry-After"), "5")
	contains(t, "answer", a.text, "sock", false)
	contains(t, "log", s.log.String(), "row [redacted] of /var/run/db.sock", true)
}

func TestBadParameters(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	for _, p := range []struct{ query, parameter string }{
		{"?limit=0", "limit"}, {"?limit=201", "limit"}, {"?limit=-1", "limit"}, {"?limit=", "limit"}, {"?limit", "limit"},
		{"?limit=1e2", "limit"}, {"?limit=1.0", "limit"}, {"?limit=%2B5", "limit"}, {"?limit=05", "limit"},
		{"?limit=0x10", "limit"},
		{"?limit=99999999999999999999", "limit"}, {"?limit=5&limit=5", "limit"}, {"?limit=5&%6cimit=5", "limit"},
		{"?limit=%zz", "limit"}, {"?limit=%D9%A5", "limit"},
		{"?status=", "status"}, {"?status=any", "status"}, {"?status=Active", "status"}, {"?status=active,", "status"},
		{"?status=active|revoked", "status"},
		{"?q=%ff", "q"}, {"?q=%00", "q"}, {"?q=" + strings.Repeat("x", 256), "q"},
		{"?Limit=5", "Limit"}, {"?owner=globex", "owner"}, {"?state=active", "state"}, {"?createdBy=x", "createdBy"},
		{"?a;b", "a;b"}, {"?=5", ""}, {"?%zz=5", ""},
		{"?" + strings.Repeat("x", 32) + "=5", ""},
		{"?cursor=", "cursor"}, {"?cursor=x", "cursor"}, {"?cursor=!", "cursor"},
		{"?cursor=" + strings.Repeat("A", 4000), "cursor"},
	} {
		a := c.do("GET", p.query, "")
		a.refused(p.query, 400, "INVALID_REQUEST", p.parameter)
	}
	for _, p := range []struct{ query, parameter string }{
		{"?kind=create", "kind"}, {"?kind=", "kind"}, {"?from=yesterday", "from"}, {"?to=2026-01-02", "to"},
		{"?from=2026-01-02T03:04:05", "from"},
		{"?to=0000-01-01T00:00:00Z", "to"}, {"?q=x", "q"}, {"?cursor=x", "cursor"}, {"?limit=201", "limit"},
	} {
		c.do("GET", "/events"+p.query, "").refused(p.query, 400, "INVALID_REQUEST", p.parameter)
		c.do("GET", "/"+c.id+"/events"+p.query, "").refused(p.query, 400, "INVALID_REQUEST", p.parameter)
	}
	for _, rt := range keyapi.Routes() {
		path := strings.ReplaceAll(rt[1], "{id}", c.id)
		c.do(rt[0], path+"?dry=1", `{"name":"x"}`).refused(rt[0]+" "+path, 400, "INVALID_REQUEST", "dry")
	}
	equal(t, "revision", s.record(c.id).Revision, 1)
	c.do("GET", "?&limit=5&", "").is(200)
}

// A cursor is good for the list that it came from, and for no other.
func TestForeignCursors(t *testing.T) {
	s := newServer(t)
	ada, bob := s.client("acme", "*"), s.client("globex", "*")
	for range 3 {
		ada.create(`{"name":"key"}`)
		bob.create(`{"name":"key"}`)
	}
	lists := []struct {
		c           *client
		path, query string
	}{
		{ada, "", "?limit=1"}, {ada, "", "?limit=1&status=active"}, {ada, "", "?limit=1&status=active,disabled"},
		{ada, "", "?limit=1&q=key"},
		{bob, "", "?limit=1"}, {ada, "/events", "?limit=1"}, {ada, "/events", "?limit=1&kind=created"},
		{ada, "/events", "?limit=1&from=2026-01-01T00:00:00Z"}, {ada, "/events", "?limit=1&to=2999-01-01T00:00:00Z"},
		{bob, "/events", "?limit=1"},
	}
	for i, from := range lists {
		cursor := from.c.do("GET", from.path+from.query, "").is(200).meta()["nextCursor"].(string)
		for j, to := range lists {
			a := to.c.do("GET", to.path+to.query+"&cursor="+cursor, "")
			if i == j {
				a.is(200)
			} else {
				a.refused(fmt.Sprintf("cursor of list %d in list %d", i, j), 400, "INVALID_REQUEST", "cursor")
			}
		}
		// Another byte anywhere.
		raw, err := base64.RawURLEncoding.DecodeString(cursor)
		must(t, err)
		for at := range raw {
			raw[at] ^= 1
			from.c.do("GET", from.path+from.query+"&cursor="+base64.RawURLEncoding.EncodeToString(raw), "").
				refused(fmt.Sprintf("list %d with byte %d changed", i, at), 400, "INVALID_REQUEST", "cursor")
			raw[at] ^= 1
		}
		from.c.do("GET", from.path+from.query+"&cursor="+cursor[:len(cursor)-1], "").refused("short cursor", 400,
			"INVALID_REQUEST", "cursor")
	}
	cursor := ada.do("GET", "?limit=2", "").meta()["nextCursor"].(string)
	equal(t, "keys with another limit", len(ada.do("GET", "?limit=3&cursor="+cursor, "").is(200).ids()), 2)
}

// forge returns a cursor as a client can compute it.
func forge(t *testing.T, owner string, filters []string, place []byte) string {
	t.Helper()
	text, err := json.Marshal([]any{owner, "", filters, place})
	must(t, err)
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(append(sum[:12:12], place...))
}

// A forged cursor gets a client no further than its own list, and no store gets
// what it cannot take.
func TestForgedCursors(t *testing.T) {
	s := newServer(t)
	c := s.client("acme", "*")
	position := func(seconds int64, nanos uint32, id string) []byte {
		b := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, uint64(seconds)), nanos)
		return append(b, id...)
	}
	now := time.Now().Unix() + 5
	for _, f := range []struct {
		place  []byte
		status int
	}{
		{position(now, 0, "x"), 200},
		{position(now, 999_999_999, strings.Repeat("x", 255)), 200},
		{position(0, 0, "x"), 200},
		{position(now, 1_000_000_000, "x"), 400},
		{position(math.MaxInt64, 0, "x"), 400},
		{position(math.MinInt64, 0, "x"), 400},
		{position(-62135596801, 0, "x"), 400},
		{position(253402300800, 0, "x"), 400},
		{position(now, 0, strings.Repeat("x", 256)), 400},
		{position(now, 0, "\xff"), 400},
		{position(now, 0, "\x00"), 400},
		{position(now, 0, ""), 400},
		{[]byte("x"), 400},
	} {
		cursor := forge(t, "acme", []string{"keys", "any", ""}, f.place)
		equal(t, fmt.Sprintf("keys after %q", f.place), c.do("GET", "?cursor="+cursor, "").status, f.status)
	}
	bob := s.client("globex", "*").do("GET", "/events", "").is(200).ids()[0]
	for _, place := range []string{"x", "\xff", "\x00", strings.Repeat("9", 256), bob, "-1", "99999999999999999999"} {
		cursor := forge(t, "acme", []string{"events", "", "", ""}, []byte(place))
		c.do("GET", "/events?cursor="+cursor, "").refused(fmt.Sprintf("events after %q", place), 400, "INVALID_REQUEST",
			"cursor")
	}
}

// A cursor stays good when its key is gone.
func TestCursorAfterDelete(t *testing.T) {
	s := newServer(t, actAs)
	c := &client{s: s}
	want := s.fill("acme", 10)
	a := c.do("GET", "?limit=4", "").is(200)
	for _, id := range want[2:6] {
		c.do("DELETE", "/"+id, "").is(204)
	}
	same(t, "rest", c.do("GET", "?cursor="+a.meta()["nextCursor"].(string), "").is(200).ids(), want[6:])
}

func TestScopesList(t *testing.T) {
	catalog := auth.PublishedCatalog()
	s := newServer(t, func(_ *keyapi.Options, k *keyring.Options) { k.Scheme.Catalog = catalog })
	a := s.client("acme", "*").do("GET", "/scopes", "").is(200)
	same(t, "data", a.body["data"], catalog)
	same(t, "meta", a.body["meta"], map[string]any{"count": 23, "hasMore": false, "nextCursor": nil})
	a = newServer(t).client("acme", "*").do("GET", "/scopes", "").is(200)
	same(t, "data without a catalog", a.body["data"], []string{})
}
