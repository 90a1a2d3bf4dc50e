package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
	"github.com/insigner/auth/sqlstore/sqlite"
)

func TestConformance(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		db := openPostgres(t, pgtest.DSN(t))
		tables := 0
		authtest.TestStore(t, func(t *testing.T) keyring.Store {
			tables++ // a table is made faster than a database
			opts := steady
			opts.Table = fmt.Sprint("keys_", tables)
			s, err := postgres.New(db, &opts)
			must(t, err)
			must(t, s.Migrate(t.Context()))
			return s
		})
	})
	t.Run("sqlite", func(t *testing.T) {
		authtest.TestStore(t, func(t *testing.T) keyring.Store {
			s, _ := newSQLite(t, sqliteFile(t)) // each connection reads the whole schema of its file
			return s
		})
	})
}

// A Store answers random calls as a MemoryStore does.
func TestLikeMemoryStore(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		seed := rand.Uint64()
		r := &randomCalls{Rand: rand.New(rand.NewPCG(seed, 0)), memory: new(keyring.MemoryStore)}
		answers := make(map[string]int)
		for i := range 2500 {
			what, call := r.next(t.Context())
			want, wantErr := call(r.memory)
			got, err := call(s)
			for _, sentinel := range []error{auth.ErrNotFound, keyring.ErrExists, keyring.ErrConflict} {
				if errors.Is(wantErr, sentinel) {
					answers[what+": "+sentinel.Error()]++
				}
				if errors.Is(err, sentinel) != errors.Is(wantErr, sentinel) {
					t.Fatalf("seed %d, step %d: %s: error %v, want %v", seed, i, what, err, wantErr)
				}
			}
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("seed %d, step %d: %s: error %v, want %v", seed, i, what, err, wantErr)
			}
			if got, want := describe(got), describe(want); got != want {
				t.Fatalf("seed %d, step %d: %s:\n got %s\nwant %s", seed, i, what, got, want)
			}
			if wantErr == nil {
				answers[what]++
			}
		}
		for _, what := range []string{
			"Insert", "Insert: " + keyring.ErrExists.Error(),
			"Update", "Update: " + keyring.ErrConflict.Error(), "Update: " + auth.ErrNotFound.Error(),
			"Rotate", "Rotate: " + keyring.ErrConflict.Error(), "Rotate: " + keyring.ErrExists.Error(),
			"Delete", "Delete: " + auth.ErrNotFound.Error(),
			"Get", "Get: " + auth.ErrNotFound.Error(), "Lookup", "Lookup: " + auth.ErrNotFound.Error(), "List", "Touch",
		} {
			if answers[what] == 0 {
				t.Errorf("seed %d: no call was answered with %q", seed, what)
			}
		}
	})
}

// describe shows records with all their fields.
func describe(records []*auth.Record) string {
	var b strings.Builder
	for _, r := range records {
		fmt.Fprintf(&b, "\n\t%+v", fields(r))
	}
	return b.String()
}

// randomCalls makes calls with few IDs, hashes and times, so that they meet.
type randomCalls struct {
	*rand.Rand
	memory *keyring.MemoryStore
}

func (r *randomCalls) one(n int) bool { return r.IntN(n) == 0 }

func (r *randomCalls) id() string { return fmt.Sprint("key_", r.IntN(40)) }

func (r *randomCalls) hash() auth.Hash { return auth.Hash{31: byte(r.IntN(40))} }

func (r *randomCalls) text() string { return []string{"", "a", "b"}[r.IntN(3)] }

func (r *randomCalls) time() time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 123456000, time.UTC).Add(time.Duration(r.IntN(20)) * time.Microsecond)
}

func (r *randomCalls) optionalTime() time.Time {
	if r.one(2) {
		return time.Time{}
	}
	return r.time()
}

func (r *randomCalls) record() *auth.Record {
	rec := &auth.Record{
		ID: r.id(), Hash: r.hash(), Hint: r.text(), Name: r.text(), Owner: r.text(), CreatedAt: r.time(),
		CreatedBy: r.text(), UpdatedAt: r.optionalTime(), UpdatedBy: r.text(), Revision: int64(1 + r.IntN(3)),
		ExpiresAt: r.optionalTime(), DisabledAt: r.optionalTime(), RevokedAt: r.optionalTime(),
		LastUsedAt: r.optionalTime(), RotatedFrom: r.text(), RotatedTo: r.text(), Chain: r.text(),
	}
	if r.one(2) {
		rec.Scopes = auth.Scopes{"a.*", auth.Scope("b." + r.text())}
		rec.Metadata = map[string]string{"k": r.text()}
	}
	return rec
}

// update returns a record to store, whose revision mostly follows the stored
// one.
func (r *randomCalls) update(ctx context.Context) *auth.Record {
	rec := r.record()
	if stored, err := r.memory.Get(ctx, rec.ID); err == nil && !r.one(4) {
		rec.Revision = stored.Revision + 1
	}
	return rec
}

func (r *randomCalls) query() keyring.Query {
	q := keyring.Query{
		Owner: r.text(), Chain: r.text(), CreatedBy: r.text(), NewestFirst: r.one(2), Limit: r.IntN(12), Now: r.time(),
		ExpiresFrom: r.optionalTime(), ExpiresBefore: r.optionalTime(), Text: []string{"", "", "A", "key_1"}[r.IntN(4)],
	}
	if r.one(2) {
		q.Owner, q.Chain, q.ExpiresFrom, q.ExpiresBefore = "", "", time.Time{}, time.Time{}
	}
	if r.one(2) {
		q.States = keyring.States(r.IntN(32))
	}
	if r.one(2) {
		q.After = keyring.Position{CreatedAt: r.time(), ID: r.id()}
	}
	return q
}

// next returns a call and its name.
func (r *randomCalls) next(ctx context.Context) (string, func(s keyring.Store) ([]*auth.Record, error)) {
	switch r.IntN(10) {
	case 0, 1:
		rec := r.record()
		return "Insert", func(s keyring.Store) ([]*auth.Record, error) { return nil, s.Insert(ctx, rec.Clone()) }
	case 2:
		id := r.id()
		return "Get", func(s keyring.Store) ([]*auth.Record, error) { return single(s.Get(ctx, id)) }
	case 3:
		hash := r.hash()
		return "Lookup", func(s keyring.Store) ([]*auth.Record, error) { return single(s.Lookup(ctx, hash)) }
	case 4, 5:
		q := r.query()
		return "List", func(s keyring.Store) ([]*auth.Record, error) { return s.List(ctx, q) }
	case 6:
		rec := r.update(ctx)
		return "Update", func(s keyring.Store) ([]*auth.Record, error) { return nil, s.Update(ctx, rec.Clone(), nil) }
	case 7:
		rec, successor := r.update(ctx), r.record()
		return "Rotate", func(s keyring.Store) ([]*auth.Record, error) {
			return nil, s.Update(ctx, rec.Clone(), successor.Clone())
		}
	case 8:
		id := r.id()
		return "Delete", func(s keyring.Store) ([]*auth.Record, error) { return nil, s.Delete(ctx, id, "somebody") }
	default:
		used := map[string]time.Time{r.id(): r.time(), r.id(): r.time(), "none": r.time()}
		return "Touch", func(s keyring.Store) ([]*auth.Record, error) { return nil, s.Touch(ctx, used) }
	}
}

func single(r *auth.Record, err error) ([]*auth.Record, error) {
	if err != nil {
		return nil, err
	}
	return []*auth.Record{r}, nil
}

// An ID that no text column can hold is not found. It is no error of the
// database.
func TestIDThatCannotBeStored(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		ctx := t.Context()
		kept := inserted(t, s)
		for _, id := range []string{"", "\x00", "\xff", kept.ID + "\x00"} {
			if _, err := s.Get(ctx, id); !errors.Is(err, auth.ErrNotFound) {
				t.Errorf("Get(%q): %v, want ErrNotFound", id, err)
			}
			r := revoked(kept)
			r.ID = id
			if err := s.Update(ctx, r, nil); !errors.Is(err, auth.ErrNotFound) {
				t.Errorf("Update(%q): %v, want ErrNotFound", id, err)
			}
			if err := s.Delete(ctx, id, "somebody"); !errors.Is(err, auth.ErrNotFound) {
				t.Errorf("Delete(%q): %v, want ErrNotFound", id, err)
			}
			if err := s.Touch(ctx, map[string]time.Time{id: time.Now()}); err != nil {
				t.Errorf("Touch(%q): %v", id, err)
			}
		}
		wantStored(t, s, kept)
	})
}

// A record or successor that cannot be stored changes nothing.
func TestUpdateRefused(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		r := inserted(t, s)
		for name, f := range map[string]func(next, successor *auth.Record){
			"name with NUL":               func(next, _ *auth.Record) { next.Name = "a\x00b" },
			"expiry too late":             func(next, _ *auth.Record) { next.ExpiresAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
			"expiry near the zero time":   func(next, _ *auth.Record) { next.ExpiresAt = time.Time{}.Add(1) },
			"revocation before year 1":    func(next, _ *auth.Record) { next.RevokedAt = time.Time{}.Add(-1) },
			"successor without ID":        func(_, successor *auth.Record) { successor.ID = "" },
			"successor's scope not UTF-8": func(_, successor *auth.Record) { successor.Scopes = auth.Scopes{"a\xff"} },
		} {
			next, successor := rotated(r)
			f(next, successor)
			hash := successor.Hash
			if err := s.Update(t.Context(), next, successor); err == nil {
				t.Errorf("%s: Update succeeds", name)
			}
			wantMissing(t, s, hash)
			wantStored(t, s, r)
		}
	})
}

// A successor whose ID or hash is taken leaves the old key as it was.
func TestUpdateSuccessorExists(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		r, other := inserted(t, s), inserted(t, s)
		for name, f := range map[string]func(successor *auth.Record){
			"ID":   func(successor *auth.Record) { successor.ID = other.ID },
			"hash": func(successor *auth.Record) { successor.Hash = other.Hash },
		} {
			next, successor := rotated(r)
			f(successor)
			if err := s.Update(t.Context(), next, successor); !errors.Is(err, keyring.ErrExists) {
				t.Errorf("the %s is taken: %v, want ErrExists", name, err)
			}
			wantStored(t, s, r)
			wantStored(t, s, other)
		}
	})
}

// ErrExists is about ID and hash. A unique index of the host's own is not.
func TestUniqueIndexOfHost(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		execute(t, db, "CREATE UNIQUE INDEX one_name ON api_keys (owner, name)")
		r := inserted(t, s)
		same := newRecord()
		err := s.Insert(t.Context(), same)
		if err == nil {
			t.Error("Insert succeeds")
		}
		if errors.Is(err, keyring.ErrExists) {
			t.Errorf("Insert: %v, want an error that does not match ErrExists", err)
		}
		next, successor := rotated(r)
		err = s.Update(t.Context(), next, successor)
		if err == nil {
			t.Error("Update succeeds")
		}
		if errors.Is(err, keyring.ErrExists) {
			t.Errorf("Update: %v, want an error that does not match ErrExists", err)
		}
		wantStored(t, s, r)
	})
}

// prevented is how to make a database report success for what it did not do.
var prevented = map[string][]struct{ name, setup, undo string }{
	"postgres": {
		{"BEFORE trigger that returns NULL",
			`CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
			CREATE TRIGGER swallow BEFORE INSERT OR UPDATE OR DELETE ON api_keys FOR EACH ROW EXECUTE FUNCTION swallow()`,
			"DROP FUNCTION swallow CASCADE"},
		{"BEFORE UPDATE trigger that returns OLD",
			`CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF TG_OP = ''UPDATE'' THEN RETURN OLD; END IF; RETURN NULL; END';
			CREATE TRIGGER keep BEFORE INSERT OR UPDATE OR DELETE ON api_keys FOR EACH ROW EXECUTE FUNCTION keep()`,
			"DROP FUNCTION keep CASCADE"},
		{"rules",
			`CREATE RULE i AS ON INSERT TO api_keys DO INSTEAD NOTHING; CREATE RULE u AS ON UPDATE TO api_keys DO INSTEAD NOTHING;
			CREATE RULE d AS ON DELETE TO api_keys DO INSTEAD NOTHING`,
			"DROP RULE i ON api_keys; DROP RULE u ON api_keys; DROP RULE d ON api_keys"},
	},
	"sqlite": {
		{"BEFORE triggers that ignore",
			`CREATE TRIGGER i BEFORE INSERT ON api_keys BEGIN SELECT RAISE(IGNORE); END;
			CREATE TRIGGER u BEFORE UPDATE ON api_keys BEGIN SELECT RAISE(IGNORE); END;
			CREATE TRIGGER d BEFORE DELETE ON api_keys BEGIN SELECT RAISE(IGNORE); END`,
			"DROP TRIGGER i; DROP TRIGGER u; DROP TRIGGER d"},
	},
}

// A write that the database prevents is an error, and neither success nor an
// answer that makes the caller try again.
func TestPreventedWrite(t *testing.T) {
	for _, d := range databases {
		for _, p := range prevented[d.name] {
			t.Run(d.name+"/"+p.name, func(t *testing.T) {
				s, db := d.open(t)
				r := inserted(t, s)
				execute(t, db, p.setup)
				wantPrevented(t, s, r)
				execute(t, db, p.undo)
				wantStored(t, s, r)
			})
		}
	}
}

// wantPrevented fails unless each method that changes r reports that the
// database prevents it.
func wantPrevented(t *testing.T, s store, r *auth.Record) {
	t.Helper()
	ctx := t.Context()
	next, successor := rotated(r)
	for what, err := range map[string]error{
		"Insert":                s.Insert(ctx, newRecord()),
		"Update":                s.Update(ctx, revoked(r), nil),
		"Update with successor": s.Update(ctx, next, successor),
		"Delete":                s.Delete(ctx, r.ID, "somebody"),
	} {
		if err == nil {
			t.Errorf("%s succeeds", what)
			continue
		}
		for _, sentinel := range []error{auth.ErrNotFound, keyring.ErrConflict, keyring.ErrExists} {
			if errors.Is(err, sentinel) {
				t.Errorf("%s: %v, want an error that does not match %q", what, err, sentinel)
			}
		}
		// PostgreSQL itself reports a rule that prevents UPDATE … RETURNING.
		if text := err.Error(); !strings.Contains(text, "trigger") && !strings.Contains(text, "RETURNING") {
			t.Errorf("%s: %q, want a text that names possible reasons", what, text)
		}
	}
	wantMissing(t, s, successor.Hash)
}

// A trigger that keeps a key from being revoked or disabled makes an error of it.
func TestKeptState(t *testing.T) {
	dsn := pgtest.DSN(t)
	s, db := newPostgres(t, dsn, nil), openPostgres(t, dsn)
	execute(t, db, `CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN NEW.revoked_at := OLD.revoked_at; NEW.disabled_at := OLD.disabled_at; RETURN NEW; END';
		CREATE TRIGGER keep BEFORE UPDATE ON api_keys FOR EACH ROW EXECUTE FUNCTION keep()`)
	for what, change := range map[string]func(r *auth.Record){
		"revoked":  func(r *auth.Record) { r.RevokedAt = r.CreatedAt },
		"disabled": func(r *auth.Record) { r.DisabledAt = r.CreatedAt },
	} {
		err := s.Update(t.Context(), changed(inserted(t, s), change), nil)
		if err == nil || !strings.Contains(err.Error(), "trigger") {
			t.Errorf("a key that is not %s after all: Update returns %v, want an error that names a trigger", what, err)
		}
	}
	must(t, s.Update(t.Context(), changed(inserted(t, s), func(r *auth.Record) { r.Name = "other" }), nil))
}

// A key with the greatest revision can be used, changed and revoked, also with
// SQL.
func TestGreatestRevision(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		for what, revoke := range map[string]func(r *auth.Record) error{
			"the library": func(r *auth.Record) error {
				return keyring.NewManager(s, nil).Unconfined("test").Revoke(t.Context(), r.ID)
			},
			"SQL": func(r *auth.Record) error {
				_, err := db.Exec("UPDATE api_keys SET revoked_at = created_at WHERE id = $1", r.ID)
				return err
			},
		} {
			r := newRecord()
			r.Revision = math.MaxInt64
			must(t, s.Insert(t.Context(), r.Clone()))
			must(t, s.Touch(t.Context(), map[string]time.Time{r.ID: time.Now()}))
			if err := revoke(r); err != nil {
				t.Errorf("%s does not revoke it: %v", what, err)
				continue
			}
			now, err := s.Get(t.Context(), r.ID)
			must(t, err)
			if now.RevokedAt.IsZero() {
				t.Errorf("after %s: it is not revoked", what)
			}
			if now.Revision != math.MinInt64 {
				t.Errorf("after %s: the revision is %d, want %d", what, now.Revision, int64(math.MinInt64))
			}
		}
	})
}

// A successor that the database does not insert leaves the old key as it was.
func TestPreventedSuccessor(t *testing.T) {
	for name, setup := range map[string]string{
		"postgres": `CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
			CREATE TRIGGER swallow BEFORE INSERT ON api_keys FOR EACH ROW EXECUTE FUNCTION swallow()`,
		"sqlite": "CREATE TRIGGER swallow BEFORE INSERT ON api_keys BEGIN SELECT RAISE(IGNORE); END",
	} {
		t.Run(name, func(t *testing.T) {
			s, db := databases[slices.IndexFunc(databases, func(d database) bool { return d.name == name })].open(t)
			r := inserted(t, s)
			execute(t, db, setup)
			next, successor := rotated(r)
			if err := s.Update(t.Context(), next, successor); err == nil {
				t.Error("Update succeeds")
			}
			wantStored(t, s, r)
		})
	}
}

// Row-level security shows the row and does not let it be changed.
func TestPreventedByRowLevelSecurity(t *testing.T) {
	dsn := pgtest.DSN(t)
	admin := openPostgres(t, dsn)
	owner := newPostgres(t, dsn, nil)
	r := inserted(t, owner)
	role := "reader_" + quoteName(dsn)
	execute(t, admin, `CREATE ROLE `+role+`; GRANT ALL ON api_keys TO `+role+`; GRANT `+role+` TO CURRENT_USER;
		ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY; CREATE POLICY reads ON api_keys FOR SELECT USING (true)`)
	t.Cleanup(func() { execute(t, admin, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	u, err := url.Parse(dsn)
	must(t, err)
	q := u.Query()
	q.Set("role", role)
	u.RawQuery = q.Encode()
	s, err := postgres.New(openPostgres(t, u.String()), &steady)
	must(t, err)
	next, successor := rotated(r)
	for what, err := range map[string]error{
		"Update":                s.Update(t.Context(), revoked(r), nil),
		"Update with successor": s.Update(t.Context(), next, successor),
		"Delete":                s.Delete(t.Context(), r.ID, "somebody"),
	} {
		if err == nil || !strings.Contains(err.Error(), "row-level security") {
			t.Errorf("%s: %v, want an error that names row-level security", what, err)
		}
	}
	if err := s.Insert(t.Context(), newRecord()); err == nil {
		t.Error("Insert succeeds")
	}
	wantStored(t, owner, r)
}

// A change made with SQL counts the revision up, so that nobody who read the
// row before overwrites it.
func TestRevisionOfForeignChanges(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		by, now, number := "sql:", "123456789", "1"
		if onPostgres(t) {
			must(t, db.QueryRow("SELECT 'sql:' || session_user").Scan(&by))
			now, number = "now()", "now()"
		}
		for _, test := range []struct {
			set     string
			changes bool
		}{
			{"name = 'other'", true},
			{"owner = 'other'", true},
			{"scopes = '[]'", true},
			{`metadata = '{"a":"b"}'`, true},
			{"hint = 'other'", true},
			{"expires_at = " + now, true},
			{"disabled_at = " + now, true},
			{"revoked_at = " + now, true},
			{"rotated_to = 'other'", true},
			{"rotated_from = 'other'", true},
			{"chain = 'other'", true},
			{"created_at = " + now, true},
			{"created_by = 'other'", true},
			{"updated_by = 'other'", true},
			{"revision = 0", true},
			{"revision = revision, name = 'other'", true},
			{"name = 'other', last_used_at = " + number, true},
			{"last_used_at = " + number, false},
			{"name = name", false},
		} {
			r := inserted(t, s)
			execute(t, db, "UPDATE api_keys SET "+test.set+" WHERE id = $1", r.ID)
			got, err := s.Get(t.Context(), r.ID)
			must(t, err)
			if !test.changes {
				if got.Revision != r.Revision {
					t.Errorf("%s: revision is %d, want %d", test.set, got.Revision, r.Revision)
				}
				continue
			}
			if got.Revision != r.Revision+1 {
				t.Errorf("%s: revision is %d, want %d", test.set, got.Revision, r.Revision+1)
			}
			if got.UpdatedBy != by {
				t.Errorf("%s: updated_by is %q, want %q", test.set, got.UpdatedBy, by)
			}
			if !got.UpdatedAt.After(r.UpdatedAt.Add(-time.Second)) {
				t.Errorf("%s: updated_at is %v, want the time of the change", test.set, got.UpdatedAt)
			}
			if err := s.Update(t.Context(), revoked(r), nil); !errors.Is(err, keyring.ErrConflict) {
				t.Errorf("%s: Update of the revision before: %v, want ErrConflict", test.set, err)
			}
		}
	})
}

// actAs makes the changes of conn those of a program that names the actor, until
// the end of the test.
func actAs(t *testing.T, conn *sql.Conn, actor string) {
	t.Helper()
	if onPostgres(t) {
		execute(t, conn, "SELECT set_config('insigner.by', 'by:' || $1, false)", actor)
	} else {
		execute(t, conn, "INSERT INTO api_keys_actor (made_by) VALUES ($1)", actor)
	}
}

// A program that names the actor and counts the revision keeps what it wrote.
func TestRevisionCountedByWriter(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		r := inserted(t, s)
		conn, err := db.Conn(t.Context())
		must(t, err)
		defer conn.Close()
		actAs(t, conn, "import")
		execute(t, conn, "UPDATE api_keys SET name = 'other', revision = revision + 1, updated_by = 'import' WHERE id = $1", r.ID)
		want := r.Clone()
		want.Name, want.Revision, want.UpdatedBy = "other", r.Revision+1, "import"
		wantStored(t, s, want)
		events, err := s.Events(t.Context(), keyring.EventQuery{KeyID: r.ID, Limit: 1})
		must(t, err)
		if len(events) != 1 || events[0].By != "import" {
			t.Errorf("Events: %v, want one by import", events)
		}
	})
}

// Rows that are inserted with SQL need only an ID and a hash.
func TestForeignInsert(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		start := time.Now()
		hash := newRecord().Hash
		execute(t, db, "INSERT INTO api_keys (id, hash) VALUES ('foreign', $1)", hash[:])
		r, err := s.Get(t.Context(), "foreign")
		must(t, err)
		if r.Revision != 1 {
			t.Errorf("revision is %d, want 1", r.Revision)
		}
		if d := r.CreatedAt.Sub(start).Abs(); d > patience {
			t.Errorf("created_at is %v, want the time of the change, %v", r.CreatedAt, start)
		}
	})
}

// Of many updates of one revision, exactly one succeeds, at each isolation
// level that a database may have by default.
func TestUpdateConcurrent(t *testing.T) {
	onIsolationLevels(t, func(t *testing.T, dsn string) {
		updateConcurrently(t, newPostgres(t, dsn, nil), newPostgres(t, dsn, nil))
	})
	t.Run("sqlite", func(t *testing.T) {
		path := sqliteFile(t)
		a, _ := newSQLite(t, path)
		b, _ := newSQLite(t, path)
		updateConcurrently(t, a, b)
	})
	t.Run("sqlite deferred", func(t *testing.T) { // transactions of this pool begin without a lock
		s, err := sqlite.New(openDeferred(t, sqliteFile(t)), &onFile)
		must(t, err)
		must(t, s.Migrate(t.Context()))
		updateConcurrently(t, s)
	})
}

func updateConcurrently(t *testing.T, stores ...store) {
	for round := range 10 {
		old := inserted(t, stores[0])
		var succeeded atomic.Int64
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				next, successor := rotated(old)
				if round%2 == 0 {
					next, successor = revoked(old), nil
				}
				switch err := stores[i%len(stores)].Update(t.Context(), next, successor); {
				case err == nil:
					succeeded.Add(1)
				case !errors.Is(err, keyring.ErrConflict):
					t.Errorf("Update: %v, want nil or ErrConflict", err)
				}
			})
		}
		wg.Wait()
		if n := succeeded.Load(); n != 1 {
			t.Errorf("%d updates of one revision succeed, want 1", n)
		}
	}
	wantWholeRotations(t, stores[0])
}

// onIsolationLevels calls f with a database for each isolation level that may
// be the default.
func onIsolationLevels(t *testing.T, f func(t *testing.T, dsn string)) {
	for _, level := range []string{"read committed", "repeatable read", "serializable"} {
		t.Run(level, func(t *testing.T) {
			dsn := pgtest.DSN(t)
			execute(t, openPostgres(t, dsn),
				"ALTER DATABASE "+quoteName(dsn)+" SET default_transaction_isolation TO '"+level+"'")
			f(t, dsn)
		})
	}
}

// quoteName returns the name of the database of a URL.
func quoteName(dsn string) string {
	return dsn[strings.LastIndex(dsn, "/")+1 : strings.Index(dsn+"?", "?")]
}

func TestDelete(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		r, other := inserted(t, s), inserted(t, s)
		must(t, s.Delete(t.Context(), r.ID, "somebody"))
		wantMissing(t, s, r.Hash)
		wantStored(t, s, other)
		if err := s.Delete(t.Context(), r.ID, "somebody"); !errors.Is(err, auth.ErrNotFound) {
			t.Errorf("Delete again: %v, want ErrNotFound", err)
		}
	})
}

func TestTouch(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		ctx := t.Context()
		records := make([]*auth.Record, 50)
		// Many more than are written at once, and most of them unknown.
		many := make(map[string]time.Time)
		for i := range 12000 {
			many[fmt.Sprint("unknown_", i)] = time.Now()
		}
		at := time.Date(9999, 1, 2, 3, 4, 5, 123456789, time.UTC)
		for i := range records {
			records[i] = inserted(t, s)
			many[records[i].ID] = at
		}
		must(t, s.Touch(ctx, many))
		must(t, s.Touch(ctx, map[string]time.Time{records[0].ID: at.Add(-time.Hour), records[1].ID: {}}))
		must(t, s.Touch(ctx, nil))
		for _, r := range records {
			r.LastUsedAt = at.Truncate(time.Microsecond)
			wantStored(t, s, r)
		}
		late := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
		if err := s.Touch(ctx, map[string]time.Time{records[0].ID: late}); err == nil {
			t.Error("Touch with a time in the year 10000 succeeds")
		}
	})
}

// Of many concurrent calls with the same keys, none waits for another that
// waits for it, and the latest time stays.
func TestTouchConcurrent(t *testing.T) {
	onEach(t, func(t *testing.T, s store, _ *sql.DB) {
		ids := make([]string, 50)
		for i := range ids {
			ids[i] = inserted(t, s).ID
		}
		touchConcurrently(t, s, ids)
	})
}

// The rows are locked in the order of their IDs with each plan of the database,
// also with one that follows the random order of the call.
func TestTouchConcurrentByIndex(t *testing.T) {
	dsn := pgtest.DSN(t)
	s := newPostgres(t, dsn, nil)
	ids := make([]string, 200)
	for i := range ids {
		ids[i] = inserted(t, s).ID
	}
	u, err := url.Parse(dsn)
	must(t, err)
	q := u.Query()
	for _, plan := range []string{"enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin"} {
		q.Set(plan, "off")
	}
	u.RawQuery = q.Encode()
	touchConcurrently(t, newPostgres(t, u.String(), nil), ids)
}

func touchConcurrently(t *testing.T, s store, ids []string) {
	latest := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				used := make(map[string]time.Time)
				for _, id := range ids {
					used[id] = latest.Add(-time.Duration(i*10+j) * time.Second)
				}
				if err := s.Touch(t.Context(), used); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		r, err := s.Get(t.Context(), id)
		must(t, err)
		if !r.LastUsedAt.Equal(latest) {
			t.Errorf("last use is %v, want %v", r.LastUsedAt, latest)
		}
	}
}

// Last uses are written while keys are revoked. Each call succeeds, and nothing
// is lost, at each isolation level.
func TestTouchAndUpdateConcurrent(t *testing.T) {
	onIsolationLevels(t, func(t *testing.T, dsn string) {
		s := newPostgres(t, dsn, nil)
		records := make(map[string]*auth.Record)
		for range 80 {
			r := inserted(t, s)
			records[r.ID] = r
		}
		ids := slices.Collect(maps.Keys(records))
		latest := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for j := range 10 {
					used := make(map[string]time.Time)
					for id := range records {
						used[id] = latest.Add(time.Duration(j-9) * time.Minute)
					}
					if err := s.Touch(t.Context(), used); err != nil {
						t.Error(err)
					}
				}
			})
			wg.Go(func() {
				for _, id := range ids[20*i : 20*(i+1)] {
					if err := s.Update(t.Context(), revoked(records[id]), nil); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		for id := range records {
			r, err := s.Get(t.Context(), id)
			must(t, err)
			if r.RevokedAt.IsZero() {
				t.Errorf("%s is not revoked", id)
			}
			if !r.LastUsedAt.Equal(latest) {
				t.Errorf("last use is %v, want %v", r.LastUsedAt, latest)
			}
		}
	})
}
