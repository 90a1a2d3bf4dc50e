package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore"
	"github.com/insigner/auth/sqlstore/sqlite"
)

// yielding yields the records, and then the error if it is not nil.
func yielding(records []*auth.Record, err error) iter.Seq2[*auth.Record, error] {
	return func(yield func(*auth.Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// newRecords returns n records with their own IDs and hashes.
func newRecords(n int) []*auth.Record {
	all := make([]*auth.Record, n)
	for i := range all {
		all[i] = newRecord()
	}
	return all
}

// rows returns how many rows the table has, and how many events there are.
func rows(t testing.TB, db *sql.DB) (keys, events int) {
	t.Helper()
	must(t, db.QueryRow("SELECT (SELECT count(*) FROM api_keys), (SELECT count(*) FROM api_keys_events)").
		Scan(&keys, &events))
	return keys, events
}

// wantRows fails unless the tables have so many rows.
func wantRows(t testing.TB, db *sql.DB, keys int) {
	t.Helper()
	gotKeys, gotEvents := rows(t, db)
	if gotKeys != keys {
		t.Errorf("the table has %d keys, want %d", gotKeys, keys)
	}
	if gotEvents != keys {
		t.Errorf("there are %d events, want %d", gotEvents, keys)
	}
}

func TestInsertAllKeepsEveryField(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		full := newRecord()
		full.Hint, full.Name, full.Owner = "isk_…U1v2", "\ufeff=SUM(A1)\r\n\"'\\ \u2028", " , "
		full.Scopes = auth.Scopes{"", "a b", "nul\x00", "</script>", "documents.read"}
		full.Metadata = map[string]string{"": "", "nul\x00": "\x00", `"`: "\\", "ü": "\u2029"}
		full.CreatedAt = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
		full.UpdatedAt = time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC)
		full.CreatedBy, full.UpdatedBy, full.Revision = "somebody else", "sql:", math.MinInt64
		full.ExpiresAt = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
		full.DisabledAt = time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
		full.RevokedAt = time.Date(2026, 11, 29, 12, 0, 0, 123_456_000, time.UTC)
		full.LastUsedAt = time.Date(1900, 2, 28, 0, 0, 0, 1000, time.UTC)
		full.RotatedFrom, full.RotatedTo, full.Chain = "gone", "gone too", "gone long ago"
		bare := &auth.Record{ID: "x", Revision: math.MaxInt64}
		all := append(newRecords(1200), full, bare)
		n, err := s.InsertAll(t.Context(), yielding(all, nil), nil)
		must(t, err)
		if n != int64(len(all)) {
			t.Errorf("InsertAll returned %d, want %d", n, len(all))
		}
		for _, r := range []*auth.Record{all[0], all[499], all[500], all[1199], full, bare} {
			wantStored(t, s, r)
		}
		wantRows(t, db, len(all))
	})
}

func TestInsertAllMakesEventsOfTheImporter(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		r := newRecord()
		_, err := s.InsertAll(t.Context(), yielding([]*auth.Record{r}, nil), &sqlstore.InsertAllOptions{By: "staff:bob"})
		must(t, err)
		events, err := s.Events(t.Context(), keyring.EventQuery{KeyID: r.ID, Limit: 10})
		must(t, err)
		if len(events) != 1 {
			t.Fatalf("there are %d events, want 1", len(events))
		}
		if e := events[0]; e.Kind != keyring.EventCreated || e.By != "staff:bob" {
			t.Errorf("the event is %s by %q, want created by staff:bob", e.Kind, e.By)
		}
		if got, want := fmt.Sprintf("%+v", fields(events[0].After)), fmt.Sprintf("%+v", fields(r)); got != want {
			t.Errorf("the event has\n %s\nwant\n %s", got, want)
		}
		other := inserted(t, s) // nobody else acts as the importer
		events, err = s.Events(t.Context(), keyring.EventQuery{KeyID: other.ID, Limit: 10})
		must(t, err)
		if events[0].By != other.CreatedBy {
			t.Errorf("the event of an insertion afterwards is by %q, want %q", events[0].By, other.CreatedBy)
		}
	})
}

// A rotation names two actors if the successor was created by another.
func TestRotationEventsNameTheirActors(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		next, successor := rotated(inserted(t, s))
		next.UpdatedBy, successor.CreatedBy = "rotator", "creator"
		must(t, s.Update(t.Context(), next, successor))
		for id, by := range map[string]string{next.ID: "rotator", successor.ID: "creator"} {
			events, err := s.Events(t.Context(), keyring.EventQuery{KeyID: id, Limit: 1})
			must(t, err)
			if events[0].By != by {
				t.Errorf("the event %s is by %q, want %q", events[0].Kind, events[0].By, by)
			}
		}
	})
}

func TestInsertAllNamesWhatItRefuses(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		stored := inserted(t, s)
		all := newRecords(1500)
		all[3].ID = stored.ID
		all[700].Hash = stored.Hash
		all[701] = all[701].Clone()
		all[701].ID = all[2].ID
		all[1300].Hash = all[600].Hash
		all[1400], all[1401] = all[1399].Clone(), all[1399].Clone()
		n, err := s.InsertAll(t.Context(), yielding(all, nil), nil)
		if n != 0 {
			t.Errorf("InsertAll returned %d with an error, want 0", n)
		}
		var refused *sqlstore.RefusedError
		if !errors.As(err, &refused) {
			t.Fatalf("InsertAll returned %v, want a *RefusedError", err)
		}
		want := map[int64]string{3: "the ID is", 700: "the hash is", 701: "the ID is", 1300: "the hash is",
			1400: "the ID and the hash", 1401: "the ID and the hash"}
		if refused.Total != int64(len(want)) {
			t.Errorf("%d were refused, want %d", refused.Total, len(want))
		}
		for _, r := range refused.Refused {
			if want[r.Index] == "" || !strings.Contains(r.Err.Error(), want[r.Index]) {
				t.Errorf("record %d: %v, want %q", r.Index, r.Err, want[r.Index])
			}
			if !errors.Is(r.Err, keyring.ErrExists) {
				t.Errorf("record %d: %v does not match ErrExists", r.Index, r.Err)
			}
			delete(want, r.Index)
		}
		if len(want) > 0 {
			t.Errorf("not refused: %v", slices.Sorted(maps.Keys(want)))
		}
		if !errors.Is(err, keyring.ErrExists) {
			t.Errorf("%v does not match ErrExists", err)
		}
		if text := err.Error(); strings.Contains(text, stored.ID) || strings.Contains(text, stored.Hash.String()) {
			t.Errorf("the error shows a record: %s", text)
		}
		wantRows(t, db, 1)
	})
}

func TestInsertAllNamesAHundred(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		all := newRecords(600)
		_, err := s.InsertAll(t.Context(), yielding(all, nil), nil)
		must(t, err)
		_, err = s.InsertAll(t.Context(), yielding(all, nil), nil)
		var refused *sqlstore.RefusedError
		if !errors.As(err, &refused) {
			t.Fatalf("InsertAll returned %v, want a *RefusedError", err)
		}
		if len(refused.Refused) != sqlstore.MaxRefused {
			t.Errorf("it names %d, want %d", len(refused.Refused), sqlstore.MaxRefused)
		}
		if refused.Total != 600 {
			t.Errorf("the total is %d, want 600", refused.Total)
		}
		wantRows(t, db, 600)
	})
}

func TestInsertAllRefusesWhatCannotBeStored(t *testing.T) {
	for _, c := range []struct {
		name, want string
		spoil      func(r *auth.Record)
	}{
		{"no ID", "has no ID", func(r *auth.Record) { r.ID = "" }},
		{"NUL", "column name", func(r *auth.Record) { r.Name = "secret\x00" }},
		{"UTF-8", "column owner", func(r *auth.Record) { r.Owner = "secret\xff" }},
		{"scope", "column scopes", func(r *auth.Record) { r.Scopes = auth.Scopes{"secret\xff"} }},
		{"metadata", "column metadata", func(r *auth.Record) { r.Metadata = map[string]string{"secret\xff": ""} }},
		{"year 10000", "column expires_at", func(r *auth.Record) { r.ExpiresAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }},
		{"nearly zero", "column revoked_at", func(r *auth.Record) { r.RevokedAt = time.Time{}.Add(1) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, s store, db *sql.DB) {
				all := newRecords(3)
				c.spoil(all[1])
				_, err := s.InsertAll(t.Context(), yielding(all, nil), nil)
				var refused *sqlstore.RefusedError
				if !errors.As(err, &refused) {
					t.Fatalf("InsertAll returned %v, want a *RefusedError", err)
				}
				if r := refused.Refused[0]; r.Index != 1 || !strings.Contains(r.Err.Error(), c.want) {
					t.Errorf("record %d was refused: %v; want 1: %s", r.Index, r.Err, c.want)
				}
				if text := err.Error(); strings.Contains(text, "secret") || strings.Contains(text, all[0].ID) {
					t.Errorf("the error shows a record: %s", text)
				}
				wantRows(t, db, 0)
			})
		})
	}
}

// A trigger of the host prevents the row, and no unique index.
func TestInsertAllTellsOfATrigger(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		if onPostgres(t) {
			execute(t, db, `CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$`)
			execute(t, db, `CREATE TRIGGER forbid BEFORE INSERT ON api_keys FOR EACH ROW WHEN (NEW.name = 'no')
				EXECUTE FUNCTION forbid()`)
		} else {
			execute(t, db, `CREATE TRIGGER forbid BEFORE INSERT ON api_keys WHEN NEW.name = 'no'
				BEGIN SELECT RAISE(IGNORE); END`)
		}
		all := newRecords(3)
		all[2].Name = "no"
		_, err := s.InsertAll(t.Context(), yielding(all, nil), nil)
		var refused *sqlstore.RefusedError
		if !errors.As(err, &refused) {
			t.Fatalf("InsertAll returned %v, want a *RefusedError", err)
		}
		if r := refused.Refused[0]; r.Index != 2 || !strings.Contains(r.Err.Error(), "trigger") {
			t.Errorf("record %d was refused: %v; want 2, for a trigger", r.Index, r.Err)
		}
		if errors.Is(err, keyring.ErrExists) {
			t.Errorf("%v matches ErrExists", err)
		}
		wantRows(t, db, 0)
	})
}

func TestInsertAllWritesNothing(t *testing.T) {
	broken := errors.New("the file is broken")
	for _, c := range []struct {
		name string
		call func(ctx context.Context, s store, all []*auth.Record) (int64, error)
		n    int64
		want error
	}{
		{"after an error of the sequence", func(ctx context.Context, s store, all []*auth.Record) (int64, error) {
			return s.InsertAll(ctx, yielding(all, broken), nil)
		}, 0, broken},
		{"in a dry run", func(ctx context.Context, s store, all []*auth.Record) (int64, error) {
			return s.InsertAll(ctx, yielding(all, nil), &sqlstore.InsertAllOptions{DryRun: true})
		}, 1100, nil},
		{"if canceled by the sequence", func(ctx context.Context, s store, all []*auth.Record) (int64, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			return s.InsertAll(ctx, func(yield func(*auth.Record, error) bool) {
				for i, r := range all {
					if i == 1050 {
						cancel()
					}
					if !yield(r, nil) {
						return
					}
				}
			}, nil)
		}, 0, context.Canceled},
		{"if canceled between batches", func(ctx context.Context, s store, all []*auth.Record) (int64, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			return s.InsertAll(ctx, yielding(all, nil), &sqlstore.InsertAllOptions{Progress: func(n int64) {
				if n >= 1000 {
					cancel()
				}
			}})
		}, 0, context.Canceled},
		{"of nothing", func(ctx context.Context, s store, _ []*auth.Record) (int64, error) {
			return s.InsertAll(ctx, yielding(nil, nil), nil)
		}, 0, nil},
		{"if the actor cannot be stored", func(ctx context.Context, s store, all []*auth.Record) (int64, error) {
			n, err := s.InsertAll(ctx, yielding(all, nil), &sqlstore.InsertAllOptions{By: "\x00"})
			if err == nil {
				return n, errors.New("no error")
			}
			return n, nil
		}, 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, s store, db *sql.DB) {
				n, err := c.call(t.Context(), s, newRecords(1100))
				if !errors.Is(err, c.want) {
					t.Errorf("InsertAll returned %v, want %v", err, c.want)
				}
				if n != c.n {
					t.Errorf("InsertAll returned %d, want %d", n, c.n)
				}
				wantRows(t, db, 0)
				inserted(t, s) // the store still works
			})
		})
	}
}

func TestInsertAllReportsProgress(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		var got []int64
		_, err := s.InsertAll(t.Context(), yielding(newRecords(1100), nil),
			&sqlstore.InsertAllOptions{Progress: func(n int64) { got = append(got, n) }})
		must(t, err)
		if want := []int64{500, 1000, 1100}; !slices.Equal(got, want) {
			t.Errorf("progress was %d, want %d", got, want)
		}
	})
}

// other returns another Store on the same database.
func other(t *testing.T, db *sql.DB) store {
	t.Helper()
	if onPostgres(t) {
		s, err := makePostgres(db, &steady)
		must(t, err)
		return s
	}
	s, err := sqlite.New(db, &onFile)
	must(t, err)
	return s
}

func TestInsertAllIsWatched(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		own, others := watch(t, s), watch(t, other(t, db))
		few := newRecords(2)
		_, err := s.InsertAll(t.Context(), yielding(few, nil), nil)
		must(t, err)
		if got := own.all(); !slices.Contains(got, change(few[0].Hash)) || !slices.Contains(got, change(few[1].Hash)) {
			t.Errorf("when InsertAll returned, its Store had reported %v", got)
		}
		others.expect(change(few[0].Hash), change(few[1].Hash))
	})
}

func TestInsertAllIsWatchedAsAWhole(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		own, others := watch(t, s), watch(t, other(t, db))
		many := newRecords(10_500)
		_, err := s.InsertAll(t.Context(), yielding(many, nil), nil)
		must(t, err)
		if got := own.all(); !slices.Contains(got, lost) || !slices.Contains(got, started) {
			t.Error("when InsertAll returned, its Store had not reported WatchLost and WatchStarted")
		}
		changes := 0
		for c := others.next(); c != lost; c = others.next() {
			changes++
		}
		if changes > 1500 {
			t.Errorf("%d changes were reported one by one, want at most 1,500", changes)
		}
		if c := others.next(); c != started {
			t.Errorf("after WatchLost came %v, want WatchStarted", c)
		}
		revoke := revoked(many[0])
		must(t, s.Update(t.Context(), revoke, nil))
		await(t, "the revocation after it", func() bool { return others.next() == change(revoke.Hash) })
	})
}

// While the records are read, which can take as long as somebody types, another
// process can write.
func TestInsertAllLetsOthersWriteWhileItReads(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		all := newRecords(1200)
		third := newRecord()
		_, err := s.InsertAll(t.Context(), func(yield func(*auth.Record, error) bool) {
			for i, r := range all {
				if i == 1100 {
					must(t, other(t, db).Insert(t.Context(), third))
				}
				if !yield(r, nil) {
					return
				}
			}
		}, nil)
		must(t, err)
		wantStored(t, s, third)
		wantRows(t, db, len(all)+1)
	})
}

// What others insert in between is refused, like what was there before.
func TestInsertAllMeetsOthers(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		all := newRecords(1200)
		taken := newRecord()
		taken.Hash = all[1150].Hash
		_, err := s.InsertAll(t.Context(), func(yield func(*auth.Record, error) bool) {
			for i, r := range all {
				if i == 1100 {
					must(t, other(t, db).Insert(t.Context(), taken))
				}
				if !yield(r, nil) {
					return
				}
			}
		}, nil)
		var refused *sqlstore.RefusedError
		if !errors.As(err, &refused) {
			t.Fatalf("InsertAll returned %v, want a *RefusedError", err)
		}
		if refused.Total != 1 || refused.Refused[0].Index != 1150 {
			t.Errorf("refused were %+v, want record 1150", refused.Refused)
		}
		wantRows(t, db, 1)
	})
}

// Where transactions are serializable by default, a key of another transaction
// would be a failure of all.
func TestInsertAllOnASerializableDatabase(t *testing.T) {
	dsn := pgtest.DSN(t)
	db := openPostgres(t, dsn)
	execute(t, db, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()); END $$")
	s := newPostgres(t, dsn, nil)
	all := newRecords(1200)
	taken := newRecord()
	taken.Hash = all[1150].Hash
	_, err := s.InsertAll(t.Context(), func(yield func(*auth.Record, error) bool) {
		for i, r := range all {
			if i == 1100 {
				must(t, s.Insert(t.Context(), taken))
			}
			if !yield(r, nil) {
				return
			}
		}
	}, nil)
	var refused *sqlstore.RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("InsertAll returned %v, want a *RefusedError", err)
	}
	if refused.Total != 1 || refused.Refused[0].Index != 1150 {
		t.Errorf("refused were %+v, want record 1150", refused.Refused)
	}
}

// The file of the spool is gone afterwards, also after an error.
func TestInsertAllLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	s, _ := newSQLite(t, sqliteFile(t))
	_, err := s.InsertAll(t.Context(), yielding(newRecords(1200), nil), nil)
	must(t, err)
	s.InsertAll(t.Context(), yielding(newRecords(1200), errors.New("broken")), nil)
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) > 0 {
		t.Errorf("%d files were left", len(entries))
	}
}
