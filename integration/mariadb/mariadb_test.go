package mariadb_test

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/integration/mariadb"
	"github.com/insigner/auth/keyring"
)

func TestStore(t *testing.T) {
	dbs := make(map[keyring.Store]*sql.DB)
	authtest.TestStoreWith(t, func(t *testing.T) keyring.Store {
		db := newDatabase(t)
		s := mariadb.New(db)
		dbs[s] = db
		return s
	}, &authtest.StoreOptions{
		NewOwner: func(t *testing.T, store keyring.Store) string { return newCustomer(t, dbs[store]) },
	})
}

// newCustomer adds a customer, whose ID the collations of MariaDB may take for
// that of another.
func newCustomer(t *testing.T, db *sql.DB) string {
	t.Helper()
	var n int
	if err := db.QueryRow("SELECT COUNT(*) FROM customers").Scan(&n); err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf([]string{"org_%d", "org_%d ", "ORG_%d", "örg_%d"}[n%4], n/4+1)
	execute(t, db, "INSERT INTO customers (id) VALUES (?)", id)
	return id
}

func TestLookup(t *testing.T) {
	authtest.TestLookup(t, func(t *testing.T, records ...auth.Record) auth.Store {
		db := newDatabase(t)
		s := mariadb.New(db)
		for _, r := range records {
			execute(t, db, "INSERT IGNORE INTO customers (id) VALUES (?)", r.Owner)
			r.ID = fmt.Sprintf("00000000-0000-4000-8000-%012s", r.ID)
			r.Chain = r.ID
			if err := s.Insert(t.Context(), &r); err != nil {
				t.Fatal(err)
			}
		}
		return s
	})
}

// newStore returns a store with the customer "org_test", and its database.
func newStore(t *testing.T) (*mariadb.Store, *sql.DB) {
	t.Helper()
	db := newDatabase(t)
	execute(t, db, "INSERT INTO customers (id) VALUES ('org_test')")
	return mariadb.New(db), db
}

// TestRowThatCannotBeRead tests what the suite cannot: a row that somebody
// broke costs only itself.
func TestRowThatCannotBeRead(t *testing.T) {
	for _, c := range []struct{ column, value string }{
		{"scopes", `{"documents.read": true}`},
		{"metadata", `["documents"]`},
	} {
		t.Run(c.column, func(t *testing.T) {
			s, db := newStore(t)
			bad, good := authtest.NewKey(t, s), authtest.NewKey(t, s)
			broken, err := s.Lookup(t.Context(), auth.BLAKE2b(nil)(bad.Reveal()))
			if err != nil {
				t.Fatal(err)
			}
			execute(t, db, "UPDATE api_keys SET "+c.column+" = ? WHERE hash = ?", c.value, broken.Hash[:])

			if _, err := s.Lookup(t.Context(), broken.Hash); err == nil || errors.Is(err, auth.ErrNotFound) {
				t.Errorf("Lookup of the broken row: got error %v, want one that does not match ErrNotFound", err)
			}
			page, err := s.List(t.Context(), keyring.Query{Limit: 10})
			if len(page) != 1 {
				t.Fatalf("List: got %d records, want 1", len(page))
			}
			if want := auth.BLAKE2b(nil)(good.Reveal()); page[0].Hash != want {
				t.Errorf("List returned another record than the good one")
			}
			e, ok := errors.AsType[*keyring.RecordError](err)
			if !ok {
				t.Fatalf("List: got error %v, want a *RecordError", err)
			}
			if e.ID != broken.ID {
				t.Errorf("the RecordError is about %s, want %s", e.ID, broken.ID)
			}
			if e.At != keyring.PositionOf(broken) {
				t.Errorf("the RecordError is at %v, want %v", e.At, keyring.PositionOf(broken))
			}
		})
	}
}

// TestOwnerIsCustomer tests the foreign key.
func TestOwnerIsCustomer(t *testing.T) {
	s, db := newStore(t)
	keys := keyring.NewManager(s, nil).Unconfined("test")
	_, _, err := keys.Create(t.Context(), keyring.Spec{Name: "name", Owner: "org_unknown"})
	if err == nil {
		t.Error("Create with an owner that is no customer: got no error")
	}
	if errors.Is(err, keyring.ErrExists) {
		t.Errorf("Create with an owner that is no customer: got error %v, which says that the key exists", err)
	}
	authtest.NewKey(t, s)
	if _, err := db.Exec("DELETE FROM customers WHERE id = 'org_test'"); err == nil {
		t.Error("a customer with keys was deleted")
	}
}

// TestTextThatIsTooLong tests that MariaDB does not cut it.
func TestTextThatIsTooLong(t *testing.T) {
	s, _ := newStore(t)
	authtest.NewKey(t, s)
	list, err := s.List(t.Context(), keyring.Query{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	r := list[0].Clone()
	r.Revision++
	r.UpdatedAt = r.UpdatedAt.Add(time.Second)
	r.Name = strings.Repeat("é", 256)
	if s.Update(t.Context(), r, nil) == nil {
		t.Error("Update with a name of 256 characters: got no error")
	}
}

// TestDeadlock tests that a transaction is tried again if InnoDB ends it. Two
// insertions of one ID wait for the deletion of the row that has it. When that
// is committed, each waits for the other.
func TestDeadlock(t *testing.T) {
	s, db := newStore(t)
	authtest.NewKey(t, s)
	list, err := s.List(t.Context(), keyring.Query{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	deletion, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer deletion.Rollback()
	if _, err := deletion.Exec("DELETE FROM api_keys"); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 2)
	for range 2 {
		go func() { errs <- s.Insert(t.Context(), list[0]) }()
	}
	for waiting := 0; waiting < 2; time.Sleep(time.Millisecond) {
		if len(errs) > 0 {
			t.Fatalf("Insert did not wait for the deletion: %v", <-errs)
		}
		const query = `SELECT variable_value FROM information_schema.global_status
			WHERE variable_name = 'Innodb_row_lock_current_waits'`
		if err := db.QueryRow(query).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	if err := deletion.Commit(); err != nil {
		t.Fatal(err)
	}
	inserted := 0
	for range 2 {
		err := <-errs
		if err == nil {
			inserted++
			continue
		}
		if !errors.Is(err, keyring.ErrExists) {
			t.Errorf("Insert: got error %v, want none or ErrExists", err)
		}
	}
	if inserted != 1 {
		t.Errorf("%d of 2 insertions of one ID succeeded, want 1", inserted)
	}
}
