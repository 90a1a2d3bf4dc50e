package sqlstore_test

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
)

// list returns the IDs of the records that q selects.
func list(t *testing.T, s keyring.Store, q keyring.Query) []string {
	t.Helper()
	q.Limit = cmp.Or(q.Limit, 1000)
	page, err := s.List(t.Context(), q)
	must(t, err)
	ids := []string{}
	for _, r := range page {
		ids = append(ids, r.ID)
	}
	return ids
}

func wantList(t *testing.T, s keyring.Store, q keyring.Query, want ...string) {
	t.Helper()
	if got := list(t, s, q); !slices.Equal(got, want) {
		t.Errorf("List(%+v) returns %q, want %q", q, got, want)
	}
}

// IDs are in the order of their bytes, in a database of any language.
func TestListOrder(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		var want []string
		at := time.Now().UTC().Truncate(time.Microsecond)
		for _, id := range []string{"a", "B", "_", "é", "e", "-", "Z", "aa", "a-b", "ab", "a_", "\U0001F511", "\uFFFD", "1", "10", "2"} {
			r := newRecord()
			r.ID, r.CreatedAt = id, at
			must(t, s.Insert(t.Context(), r))
			want = append(want, id)
		}
		for _, id := range []string{"older", "Older"} {
			r := newRecord()
			r.ID, r.CreatedAt = id, at.Add(-time.Hour)
			must(t, s.Insert(t.Context(), r))
		}
		slices.Sort(want)
		want = slices.Concat([]string{"Older", "older"}, want)
		backwards := slices.Clone(want)
		slices.Reverse(backwards)
		for _, q := range []keyring.Query{{}, {Owner: "org_1"}, {CreatedBy: "somebody"}} {
			wantList(t, s, q, want...)
			q.NewestFirst = true
			wantList(t, s, q, backwards...)
			wantPages(t, s, q, 3, backwards)
			q.NewestFirst = false
			wantPages(t, s, q, 3, want)
		}
		if onPostgres(t) { // the language of this server may have the same order
			var collation string
			must(t, db.QueryRow("SELECT DISTINCT pg_collation_for(id) FROM api_keys").Scan(&collation))
			if collation != `"C"` {
				t.Errorf("the collation of IDs is %s, want \"C\"", collation)
			}
		}
	})
}

// wantPages reads q in pages of that size.
func wantPages(t *testing.T, s keyring.Store, q keyring.Query, size int, want []string) {
	t.Helper()
	var got []string
	for q.Limit = size; ; {
		page, err := s.List(t.Context(), q)
		must(t, err)
		for _, r := range page {
			got = append(got, r.ID)
			q.After = keyring.PositionOf(r)
		}
		if len(page) < size {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages of %+v hold %q, want %q", q, got, want)
	}
}

// The order is part of the query. It does not follow from an index.
func TestListOrderWithoutIndex(t *testing.T) {
	dsn := pgtest.DSN(t)
	newPostgres(t, dsn, nil)
	db := openPostgres(t, dsn)
	db.SetMaxOpenConns(1)
	execute(t, db, "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off")
	s, err := postgres.New(db, &steady)
	must(t, err)
	at := time.Now().Truncate(time.Microsecond)
	for _, id := range []string{"c", "b", "a"} {
		r := newRecord()
		r.ID, r.CreatedAt = id, at
		must(t, s.Insert(t.Context(), r))
	}
	wantList(t, s, keyring.Query{}, "a", "b", "c")
	wantList(t, s, keyring.Query{Owner: "org_1", NewestFirst: true}, "c", "b", "a")
}

func TestListLimitRefused(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		inserted(t, s)
		for _, limit := range []int{0, -1, math.MinInt} {
			if page, err := s.List(t.Context(), keyring.Query{Limit: limit}); err == nil {
				t.Errorf("List with the limit %d returns %d records, want an error", limit, len(page))
			}
		}
		if n := len(list(t, s, keyring.Query{Limit: math.MaxInt})); n != 1 {
			t.Errorf("List with the largest limit returns %d records, want 1", n)
		}
	})
}

// A filter that no text column can match selects nothing.
func TestListFilterThatCannotBeStored(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		inserted(t, s)
		for _, text := range []string{"\x00", "\xff", "org_1\x00"} {
			wantList(t, s, keyring.Query{Owner: text})
			wantList(t, s, keyring.Query{Chain: text})
			wantList(t, s, keyring.Query{CreatedBy: text})
		}
		wantList(t, s, keyring.Query{Text: "\x00"})
	})
}

// Each position has a place in the order, also one that no record can have.
func TestListAfter(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		at := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
		first, second := newRecord(), newRecord()
		first.ID, first.CreatedAt = "a", time.Time{} // no record is earlier
		second.ID, second.CreatedAt = "b", at
		must(t, s.Insert(t.Context(), first))
		must(t, s.Insert(t.Context(), second))
		for _, test := range []struct {
			after    keyring.Position
			oldest   []string
			newest   []string
			describe string
		}{
			{keyring.Position{}, []string{"a", "b"}, []string{"b", "a"}, "zero"},
			{keyring.Position{ID: "a"}, []string{"b"}, nil, "of the first record"},
			{keyring.Position{CreatedAt: at, ID: "a"}, []string{"b"}, []string{"a"}, "same time, earlier ID"},
			{keyring.Position{CreatedAt: at, ID: "b"}, nil, []string{"a"}, "of the second record"},
			{keyring.Position{CreatedAt: at.Add(999), ID: "b"}, nil, []string{"a"}, "of the second record, with nanoseconds"},
			{keyring.Position{CreatedAt: at, ID: "c"}, nil, []string{"b", "a"}, "same time, later ID"},
			{keyring.Position{CreatedAt: at}, []string{"b"}, []string{"a"}, "time without ID"},
			{keyring.Position{CreatedAt: time.Time{}.Add(-1), ID: "z"}, []string{"a", "b"}, nil, "before the zero time"},
			{keyring.Position{CreatedAt: time.Unix(-1e15, 0), ID: "z"}, []string{"a", "b"}, nil, "long ago"},
			{keyring.Position{CreatedAt: time.Unix(1e15, 0)}, nil, []string{"b", "a"}, "far ahead"},
			{keyring.Position{CreatedAt: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, nil, []string{"b", "a"}, "year 10000"},
		} {
			q := keyring.Query{After: test.after, Limit: 10}
			if got := list(t, s, q); !slices.Equal(got, test.oldest) {
				t.Errorf("%s, oldest first: %q, want %q", test.describe, got, test.oldest)
			}
			q.NewestFirst = true
			if got := list(t, s, q); !slices.Equal(got, test.newest) {
				t.Errorf("%s, newest first: %q, want %q", test.describe, got, test.newest)
			}
		}
	})
}

// Expiries are compared exactly, though the database keeps only microseconds.
func TestListExpiry(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		at := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
		never, expires := newRecord(), newRecord()
		never.ID, expires.ID, expires.ExpiresAt = "never", "expires", at
		must(t, s.Insert(t.Context(), never))
		must(t, s.Insert(t.Context(), expires))
		for _, test := range []struct {
			q    keyring.Query
			want []string
		}{
			{keyring.Query{ExpiresFrom: at}, []string{"expires"}},
			{keyring.Query{ExpiresFrom: at.Add(1)}, nil},
			{keyring.Query{ExpiresFrom: at.Add(-1)}, []string{"expires"}},
			{keyring.Query{ExpiresBefore: at}, nil},
			{keyring.Query{ExpiresBefore: at.Add(1)}, []string{"expires"}},
			{keyring.Query{ExpiresBefore: at.Add(-1)}, nil},
			{keyring.Query{ExpiresFrom: at, ExpiresBefore: at.Add(1)}, []string{"expires"}},
			{keyring.Query{ExpiresBefore: time.Unix(1e15, 0)}, []string{"expires"}},
			{keyring.Query{ExpiresFrom: time.Unix(1e15, 0)}, nil},
			{keyring.Query{States: keyring.Expired, Now: at}, []string{"expires"}},
			{keyring.Query{States: keyring.Expired, Now: at.Add(-1)}, nil},
			{keyring.Query{States: keyring.Active, Now: at}, []string{"never"}},
		} {
			got := list(t, s, test.q)
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("List(%+v) returns %q, want %q", test.q, got, test.want)
			}
		}
	})
}

func TestListStates(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		past, future := now.Add(-time.Hour), now.Add(time.Hour)
		var all []*auth.Record
		for _, expires := range []time.Time{{}, past, now, future} {
			for _, disabled := range []time.Time{{}, past, future} {
				for _, gone := range []time.Time{{}, past, future} {
					r := newRecord()
					r.ExpiresAt, r.DisabledAt, r.RevokedAt = expires, disabled, gone
					must(t, s.Insert(t.Context(), r.Clone()))
					all = append(all, r)
				}
			}
		}
		for states := range keyring.States(32) {
			q := keyring.Query{States: states, Now: now, Limit: 1000}
			want := []string{}
			for _, r := range all {
				if q.Matches(r) {
					want = append(want, r.ID)
				}
			}
			got := list(t, s, q)
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("states %v: %d records, want %d", states, len(got), len(want))
			}
		}
	})
}

func TestListText(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		r := newRecord()
		r.ID, r.Hint, r.Name, r.Owner = "key_Abc", "isk_…U1v2", "Backend % _ \\ 'x'", "Acme Inc"
		must(t, s.Insert(t.Context(), r))
		for _, test := range []struct {
			text string
			want bool
		}{
			{"backend", true}, {"BACKEND", true}, {"acme", true}, {"KEY_aBC", true}, {"u1V2", true}, {"isk_…u1v2", true},
			{"% _", true}, {"\\", true}, {"'X'", true}, {"c", true},
			{"backendx", false}, {"b%d", false}, {"key.abc", false}, {"xacme", false}, {"é", false},
		} {
			if got := len(list(t, s, keyring.Query{Text: test.text})) == 1; got != test.want {
				t.Errorf("text %q selects the record: %t, want %t", test.text, got, test.want)
			}
		}
		// Only Go knows the lower case of these. The Keyring checks them again.
		for _, name := range []string{"ÉCOLE", "\u212Aelvin", "\u0130stanbul", "ДОКУМЕНТЫ"} {
			r := newRecord()
			r.Name = name
			must(t, s.Insert(t.Context(), r))
			for _, text := range []string{strings.ToLower(name), string([]rune(strings.ToLower(name))[:1])} {
				if got := list(t, s, keyring.Query{Text: text}); !slices.Contains(got, r.ID) {
					t.Errorf("text %q does not select the name %q", text, name)
				}
			}
		}
	})
}

// A row that cannot be read costs only itself.
func TestListUnreadable(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		conn := withoutChecks(t, db)
		var good, bad []string
		insert := func(id string) string {
			r := newRecord()
			r.ID = id
			must(t, s.Insert(t.Context(), r))
			return id
		}
		for i, edit := range unreadable(t) {
			good = append(good, insert(fmt.Sprintf("good_%02d", i)))
			bad = append(bad, insert(fmt.Sprintf("bad_%02d", i)))
			execute(t, conn, "UPDATE api_keys SET "+edit.set+" WHERE id = $1", bad[i])
		}
		good = append(good, insert("last"))
		for _, newestFirst := range []bool{false, true} {
			for _, size := range []int{1, 2, 7, 1000} {
				gotGood, gotBad := listUnreadable(t, s, keyring.Query{NewestFirst: newestFirst, Limit: size})
				if !slices.Equal(gotGood, good) {
					t.Errorf("pages of %d, newest first %t: readable %q, want %q", size, newestFirst, gotGood, good)
				}
				if !slices.Equal(gotBad, bad) {
					t.Errorf("pages of %d, newest first %t: unreadable %q, want %q", size, newestFirst, gotBad, bad)
				}
			}
		}
		wantKeyringList(t, s, good, bad)
	})
}

// listUnreadable reads q page by page and returns the sorted IDs of what can be
// read and of what cannot.
func listUnreadable(t *testing.T, s keyring.Store, q keyring.Query) (good, bad []string) {
	t.Helper()
	for {
		page, err := s.List(t.Context(), q)
		n, last := len(page), q.After
		for _, r := range page {
			good = append(good, r.ID)
			last = later(last, keyring.PositionOf(r), q.NewestFirst)
		}
		for _, err := range joined(t, err) {
			if n++; err.At.IsZero() {
				t.Fatalf("%v: no position", err)
			}
			bad = append(bad, err.ID)
			last = later(last, err.At, q.NewestFirst)
		}
		if n > q.Limit {
			t.Fatalf("List returns %d rows, want at most %d", n, q.Limit)
		}
		if n < q.Limit {
			slices.Sort(good)
			slices.Sort(bad)
			return good, bad
		}
		q.After = last
	}
}

// joined returns the errors that err joins. It holds nothing else.
func joined(t *testing.T, err error) (all []*keyring.RecordError) {
	t.Helper()
	if err == nil {
		return nil
	}
	join, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("List: %v, want errors that are joined", err)
	}
	for _, err := range join.Unwrap() {
		e, ok := err.(*keyring.RecordError)
		if !ok {
			t.Fatalf("List joins %T, want *keyring.RecordError: %v", err, err)
		}
		all = append(all, e)
	}
	return all
}

// later returns the one of two positions that is later in the list.
func later(a, b keyring.Position, newestFirst bool) keyring.Position {
	if a.IsZero() {
		return b
	}
	order := cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	if (order < 0) != newestFirst {
		return b
	}
	return a
}

// wantKeyringList fails unless a Keyring lists these records and these errors.
func wantKeyringList(t *testing.T, s keyring.Store, good, bad []string) {
	t.Helper()
	var gotGood, gotBad []string
	for r, err := range keyring.NewManager(s, nil).Unconfined("test").List(t.Context(), keyring.Filter{}) {
		var unread *keyring.RecordError
		switch {
		case err == nil:
			gotGood = append(gotGood, r.ID)
		case errors.As(err, &unread):
			gotBad = append(gotBad, unread.ID)
		default:
			t.Errorf("Keyring.List: %v", err)
		}
	}
	slices.Sort(gotGood)
	slices.Sort(gotBad)
	if !slices.Equal(gotGood, good) {
		t.Errorf("Keyring.List yields %q, want %q", gotGood, good)
	}
	if !slices.Equal(gotBad, bad) {
		t.Errorf("Keyring.List yields errors for %q, want %q", gotBad, bad)
	}
}

// An outage is not mistaken for rows that cannot be read.
func TestListOutage(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		inserted(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		page, err := s.List(ctx, keyring.Query{Limit: 10})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("List: %v, want context.Canceled", err)
		}
		if len(page) > 0 {
			t.Errorf("List returns %d records, want none", len(page))
		}
		var unread *keyring.RecordError
		if errors.As(err, &unread) {
			t.Errorf("List: %v, want no *keyring.RecordError", err)
		}
	})
}

// Lookups and lists, in both directions, use an index and sort nothing.
func TestQueriesUseIndexes(t *testing.T) {
	at := keyring.Position{CreatedAt: time.Now(), ID: "a"}
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			s, spy, conn := newSpied(t)
			explain := "EXPLAIN QUERY PLAN "
			if onPostgres(t) {
				explain = "EXPLAIN "
				execute(t, conn, "SET enable_seqscan = off; SET enable_bitmapscan = off")
			}
			check := func(index string) {
				t.Helper()
				query, args := spy.last()
				plan := planOf(t, conn, explain+query, args)
				if !strings.Contains(plan, index) {
					t.Errorf("%s\ndoes not use %s:\n%s", query, index, plan)
				}
				for _, slow := range []string{"seq scan", "sort", "temp b-tree", "scan api_keys\n"} {
					if strings.Contains(plan, slow) {
						t.Errorf("%s\nhas %q in its plan:\n%s", query, slow, plan)
					}
				}
			}
			s.Lookup(t.Context(), auth.Hash{})
			check("index")
			s.Get(t.Context(), "a")
			check("index")
			for _, test := range []struct {
				index string
				q     keyring.Query
			}{
				{"created_idx", keyring.Query{}},
				{"created_idx", keyring.Query{After: at}},
				{"owner_idx", keyring.Query{Owner: "a"}},
				{"owner_idx", keyring.Query{Owner: "a", After: at}},
				{"owner_idx", keyring.Query{Owner: "a", States: keyring.Active, Text: "b"}},
				{"chain_idx", keyring.Query{Chain: "a", After: at}},
				{"created_by_idx", keyring.Query{CreatedBy: "a", After: at}},
			} {
				test.q.Limit = 10
				list(t, s, test.q)
				check(test.index)
				test.q.NewestFirst = true
				list(t, s, test.q)
				check(test.index)
			}
		})
	}
}

// newSpied returns a Store, what it asks its database, and a connection to
// that.
func newSpied(t *testing.T) (store, *wrappedDriver, *sql.Conn) {
	t.Helper()
	var spy *wrappedDriver
	var plain *sql.DB
	newStore := makeSQLite
	if onPostgres(t) {
		dsn := pgtest.DSN(t)
		newPostgres(t, dsn, nil)
		plain, newStore = openPostgres(t, dsn), makePostgres
		spy = &wrappedDriver{inner: plain.Driver(), name: dsn}
	} else {
		path := sqliteFile(t)
		_, plain = newSQLite(t, path)
		spy = &wrappedDriver{inner: plain.Driver(), name: requiredSettings(path)}
	}
	db := sql.OpenDB(spy)
	t.Cleanup(func() { db.Close() })
	s, err := newStore(db, &steady)
	must(t, err)
	conn, err := plain.Conn(t.Context())
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return s, spy, conn
}

// planOf returns the plan of a query, in lower case.
func planOf(t *testing.T, conn *sql.Conn, query string, args []any) string {
	t.Helper()
	rows, err := conn.QueryContext(t.Context(), query, args...)
	must(t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	must(t, err)
	var plan strings.Builder
	for rows.Next() {
		line := make([]any, len(columns))
		for i := range line {
			line[i] = new(any)
		}
		must(t, rows.Scan(line...))
		fmt.Fprintln(&plan, *line[len(line)-1].(*any))
	}
	must(t, rows.Err())
	return strings.ToLower(plan.String())
}
