package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/internal/pgtest"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/postgres"
)

// bySQL is who makes a change with SQL.
func bySQL(t *testing.T) string {
	if onPostgres(t) {
		return "sql:postgres"
	}
	return "sql:"
}

// eventsOf returns the events of a key, newest first.
func eventsOf(t *testing.T, s store, id string) []keyring.Event {
	t.Helper()
	events, err := s.Events(t.Context(), keyring.EventQuery{KeyID: id, Limit: 100})
	must(t, err)
	return events
}

// Each change with SQL is one event, with the row before and after.
func TestEventsOfForeignChanges(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		for _, test := range []struct {
			set  string
			kind keyring.EventKind // empty: there is no event
		}{
			{"name = 'other'", keyring.EventUpdated},
			{"name = name", ""},
			{"scopes = '[]'", keyring.EventUpdated},
			{"metadata = '{\"a\":\"b\"}'", keyring.EventUpdated},
			{"owner = 'org_2'", keyring.EventUpdated},
			{"expires_at = created_at", keyring.EventUpdated},
			{"disabled_at = created_at", keyring.EventDisabled},
			{"disabled_at = created_at, name = 'other'", keyring.EventDisabled},
			{"revoked_at = created_at", keyring.EventRevoked},
			{"revoked_at = created_at, disabled_at = created_at", keyring.EventRevoked},
			{"rotated_to = 'other', revoked_at = created_at", keyring.EventRotated},
			{"last_used_at = created_at", ""},
			{"updated_by = 'other'", ""},
			{"updated_at = NULL", ""},
			{"revision = revision + 1", ""},
		} {
			r := inserted(t, s)
			execute(t, db, "UPDATE api_keys SET "+test.set+" WHERE id = $1", r.ID)
			now, err := s.Get(t.Context(), r.ID)
			must(t, err)
			events := eventsOf(t, s, r.ID)
			if test.kind == "" {
				if len(events) != 1 {
					t.Errorf("%s: %v, want no event", test.set, events)
				}
				continue
			}
			if len(events) != 2 {
				t.Errorf("%s: %v, want one event", test.set, events)
				continue
			}
			wantEvent(t, test.set, events[0], keyring.EventOf(r, now, bySQL(t), now.UpdatedAt))
			if got := events[0].Kind; got != test.kind {
				t.Errorf("%s: the kind is %q, want %q", test.set, got, test.kind)
			}
		}
	})
}

// wantEvent checks all but the ID of an event.
func wantEvent(t *testing.T, what string, got, want keyring.Event) {
	t.Helper()
	describe := func(e keyring.Event) string {
		text := fmt.Sprint(e.Kind, " ", e.KeyID, " ", e.Owner, " ", e.By, " ", e.Revision, " ", e.Time.UTC())
		for _, r := range []*auth.Record{e.Before, e.After} {
			if r == nil {
				text += "\n\tnil"
			} else {
				text += fmt.Sprintf("\n\t%+v %v", fields(r), r.Hash.String())
			}
		}
		return text
	}
	if got, want := describe(got), describe(want); got != want {
		t.Errorf("%s: the event is\n%s\nwant\n%s", what, got, want)
	}
}

// Rows that are inserted, deleted and replaced with SQL have events too.
func TestEventsOfForeignRows(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		hash, other := newRecord().Hash, newRecord().Hash
		execute(t, db, "INSERT INTO api_keys (id, hash, owner, created_by) VALUES ('foreign', $1, 'org_9', 'x')", hash[:])
		first, err := s.Get(t.Context(), "foreign")
		must(t, err)
		if onPostgres(t) {
			execute(t, db, "DELETE FROM api_keys WHERE id = 'foreign'")
			execute(t, db, "INSERT INTO api_keys (id, hash) VALUES ('foreign', $1)", other[:])
		} else {
			execute(t, db, "INSERT OR REPLACE INTO api_keys (id, hash) VALUES ('foreign', $1)", other[:])
		}
		second, err := s.Get(t.Context(), "foreign")
		must(t, err)
		events := eventsOf(t, s, "foreign")
		if len(events) != 3 {
			t.Fatalf("%v, want created, deleted and created", events)
		}
		for i, want := range []keyring.Event{
			keyring.EventOf(nil, second, bySQL(t), events[0].Time),
			keyring.EventOf(first, nil, bySQL(t), events[1].Time),
			keyring.EventOf(nil, first, bySQL(t), events[2].Time),
		} {
			wantEvent(t, fmt.Sprint("event ", i), events[i], want)
		}
	})
}

// What logical replication copies stays as it is, and its events name the actor
// that the publisher recorded.
func TestEventsOfReplication(t *testing.T) {
	dsn := pgtest.DSN(t)
	s, db := newPostgres(t, dsn, nil), openPostgres(t, dsn)
	conn, err := db.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	execute(t, conn, "SET session_replication_role = replica")
	r := newRecord()
	execute(t, conn, `INSERT INTO api_keys (id, hash, name, owner, created_by, updated_by, revision)
		VALUES ($1, $2, 'test', 'org_1', 'somebody', 'somebody', 7)`, r.ID, r.Hash[:])
	execute(t, conn, "UPDATE api_keys SET name = 'other', updated_by = 'another', revision = 9 WHERE id = $1", r.ID)
	now, err := s.Get(t.Context(), r.ID)
	must(t, err)
	if now.Revision != 9 {
		t.Errorf("the revision is %d, want 9", now.Revision)
	}
	if now.UpdatedBy != "another" {
		t.Errorf("it was updated by %q, want another", now.UpdatedBy)
	}
	execute(t, conn, "DELETE FROM api_keys WHERE id = $1", r.ID)
	var by []string
	for _, e := range eventsOf(t, s, r.ID) {
		by = append(by, e.By)
	}
	if want := []string{"sql:postgres", "another", "somebody"}; !slices.Equal(by, want) {
		t.Errorf("the events are by %q, want %q", by, want)
	}
}

// A TRUNCATE deletes each key.
func TestEventsOfTruncate(t *testing.T) {
	dsn := pgtest.DSN(t)
	s, db := newPostgres(t, dsn, nil), openPostgres(t, dsn)
	list := []*auth.Record{inserted(t, s), inserted(t, s)}
	execute(t, db, "TRUNCATE api_keys")
	for _, r := range list {
		events := eventsOf(t, s, r.ID)
		if len(events) != 2 {
			t.Fatalf("%v, want deleted and created", events)
		}
		wantEvent(t, "TRUNCATE", events[0], keyring.EventOf(r, nil, "sql:postgres", events[0].Time))
	}
}

// A change that is rolled back has no event.
func TestEventsRollBack(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		r := inserted(t, s)
		tx, err := db.Begin()
		must(t, err)
		execute(t, tx, "UPDATE api_keys SET name = 'other' WHERE id = $1", r.ID)
		execute(t, tx, "DELETE FROM api_keys WHERE id = $1", r.ID)
		must(t, tx.Rollback())
		if got := eventsOf(t, s, r.ID); len(got) != 1 {
			t.Errorf("%v, want only that of Insert", got)
		}
		next, successor := rotated(r)
		successor.ID = r.ID // taken
		if err := s.Update(t.Context(), next, successor); !errors.Is(err, keyring.ErrExists) {
			t.Fatalf("Update: %v, want ErrExists", err)
		}
		if got := eventsOf(t, s, r.ID); len(got) != 1 {
			t.Errorf("after a failed rotation: %v, want only that of Insert", got)
		}
	})
}

// A record of an event that cannot be read does not hide the others.
func TestEventsUnreadable(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		r := inserted(t, s)
		execute(t, db, "UPDATE api_keys_events SET after = '{\"id\": 1}' WHERE key_id = $1", r.ID)
		must(t, s.Update(t.Context(), revoked(r), nil))
		events := eventsOf(t, s, r.ID)
		if len(events) != 2 {
			t.Fatalf("%v, want 2", events)
		}
		if events[1].After != nil {
			t.Errorf("the record that cannot be read is %v, want nil", events[1].After)
		}
		if events[0].After == nil {
			t.Error("the record that can be read is nil")
		}
	})
}

// The role that serves requests can change keys, but no event, neither itself
// nor through the function that writes them.
func TestEventsOfRestrictedRole(t *testing.T) {
	dsn := pgtest.DSN(t)
	newPostgres(t, dsn, nil)
	db := openPostgres(t, dsn)
	role := "api_" + strings.ToLower(quoteName(dsn)[len(quoteName(dsn))-6:len(quoteName(dsn))-1])
	execute(t, db, `CREATE ROLE "`+role+`" LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON api_keys TO "`+role+`";
		GRANT SELECT ON api_keys_events TO "`+role+`"`)
	t.Cleanup(func() { execute(t, openPostgres(t, dsn), `DROP OWNED BY "`+role+`"; DROP ROLE "`+role+`"`) })
	as := openPostgres(t, strings.Replace(dsn, "postgres@", role+"@", 1))
	s, err := postgres.New(as, &steady)
	must(t, err)
	r := inserted(t, s)
	next, successor := rotated(r)
	must(t, s.Update(t.Context(), next, successor))
	must(t, s.Delete(t.Context(), r.ID, "somebody"))
	execute(t, as, "UPDATE api_keys SET name = 'other'")
	var kinds []keyring.EventKind
	for e := range slices.Values(eventsOf(t, s, "")) {
		kinds = append(kinds, e.Kind)
	}
	want := []keyring.EventKind{keyring.EventUpdated, keyring.EventDeleted, keyring.EventCreated, keyring.EventRotated,
		keyring.EventCreated}
	if !slices.Equal(kinds, want) {
		t.Errorf("the events are %q, want %q", kinds, want)
	}
	if events := eventsOf(t, s, successor.ID); events[0].By != "sql:"+role {
		t.Errorf("a change with SQL is by %q, want %q", events[0].By, "sql:"+role)
	}
	for _, query := range []string{
		"INSERT INTO api_keys_events (at, kind, key_id, owner, made_by, role, revision) VALUES (now(), '', '', '', '', '', 1)",
		"UPDATE api_keys_events SET made_by = 'somebody'",
		"DELETE FROM api_keys_events",
		"TRUNCATE api_keys_events",
		"TRUNCATE api_keys",
		"ALTER TABLE api_keys DISABLE TRIGGER ALL",
		"SET session_replication_role = replica",
		"CREATE TEMP TABLE mine (LIKE api_keys); CREATE TRIGGER t AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION api_keys_record()",
	} {
		if _, err := as.ExecContext(t.Context(), query); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%s: %v, want that permission is denied", query, err)
		}
	}
}

// The events tell the whole life of a key, also of one whose changes came at the
// same time.
func TestEventsAreAChain(t *testing.T) {
	onEach(t, func(t *testing.T, s store, db *sql.DB) {
		manager := keyring.NewManager(s, nil)
		keys := manager.Unconfined("somebody")
		r, _, err := keys.Create(t.Context(), keyring.Spec{Name: "test", Owner: "org_1", Scopes: auth.Scopes{"a.b"}})
		must(t, err)
		done := make(chan error)
		for i := range 4 {
			go func() {
				var err error
				for n := range 10 {
					_, err2 := keys.Update(context.Background(), r.ID, func(r *auth.Record) error {
						r.Name = fmt.Sprint("name ", i, n)
						return nil
					})
					err = errors.Join(err, err2)
					_, err2 = db.Exec("UPDATE api_keys SET name = $1 WHERE id = $2", fmt.Sprint("sql ", i, n), r.ID)
					err = errors.Join(err, err2)
				}
				done <- err
			}()
		}
		for range 4 {
			must(t, <-done)
		}
		events := eventsOf(t, s, r.ID)
		if len(events) != 81 {
			t.Errorf("%d events, want 81", len(events))
		}
		now, err := s.Get(t.Context(), r.ID)
		must(t, err)
		for _, e := range events {
			if e.After == nil || fmt.Sprint(fields(e.After)) != fmt.Sprint(fields(now)) {
				t.Fatalf("%v: it ends with\n%v\nwant\n%v", e, e.After, now)
			}
			now = e.Before
		}
	})
}

// A trigger that another role creates for its own table does not run code of
// that role with the rights of the owner.
func TestRecordOfAnotherOwner(t *testing.T) {
	dsn := pgtest.DSN(t)
	newPostgres(t, dsn, nil)
	db := openPostgres(t, dsn)
	role := "evil_" + strings.Trim(quoteName(dsn), `"`)
	execute(t, db, `GRANT EXECUTE ON FUNCTION api_keys_record() TO PUBLIC; CREATE ROLE "`+role+`" LOGIN;
		CREATE SCHEMA evil AUTHORIZATION "`+role+`"; GRANT SELECT ON api_keys, api_keys_events TO "`+role+`"`) // as after pg_restore --no-acl
	t.Cleanup(func() {
		execute(t, openPostgres(t, dsn), `DROP SCHEMA evil CASCADE; DROP OWNED BY "`+role+`"; DROP ROLE "`+role+`"`)
	})
	as := openPostgres(t, strings.Replace(dsn, "postgres@", role+"@", 1))
	execute(t, as, `CREATE TABLE evil.x (LIKE public.api_keys); CREATE TABLE evil.x_events (LIKE public.api_keys_events);
		CREATE TRIGGER t AFTER INSERT ON evil.x FOR EACH ROW EXECUTE FUNCTION public.api_keys_record()`)
	hash := newRecord().Hash
	insert := func(db *sql.DB) error {
		_, err := db.ExecContext(t.Context(), `INSERT INTO evil.x (id, hash, hint, name, owner, scopes, metadata, created_at,
			created_by, updated_by, revision, rotated_from, rotated_to, chain)
			VALUES ('a', $1, '', '', '', '[]', '{}', now(), '', '', 1, '', '', '')`, hash[:])
		return err
	}
	err := insert(as)
	if err == nil || !strings.Contains(err.Error(), "several owners") {
		t.Errorf("an insert into a table of another role: %v, want that it is refused", err)
	}
	execute(t, db, "ALTER TABLE evil.x OWNER TO postgres") // and the events are still those of the role
	if err := insert(db); err == nil || !strings.Contains(err.Error(), "several owners") {
		t.Errorf("events in a table of another role: %v, want that it is refused", err)
	}
}

// A notification of a TRUNCATE starts no watch.
func TestTruncateStartsNoWatch(t *testing.T) {
	dsn := pgtest.DSN(t)
	s, db := newPostgres(t, dsn, nil), openPostgres(t, dsn)
	execute(t, db, "ALTER TABLE api_keys DISABLE TRIGGER api_keys_on_update")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Watch(ctx, func(c auth.Change) { t.Errorf("reported %v", c) }) }()
	for range 200 { // some of them while Watch listens and has not found the fault yet
		execute(t, db, "SELECT pg_notify('api_keys_changed', 'all')")
	}
	cancel()
	<-ended
}
