package authtest_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/keyring"
)

func TestStoreAcceptsMemoryStore(t *testing.T) {
	authtest.TestStore(t, func(*testing.T) keyring.Store { return new(keyring.MemoryStore) })
}

// The store that the broken ones are made of must be accepted, or they would
// prove nothing.
func TestStoreAcceptsTable(t *testing.T) {
	authtest.TestStore(t, func(*testing.T) keyring.Store { return newTable() })
}

// A plainStore is a store without Watch.
type plainStore struct{ keyring.Store }

func TestStoreAcceptsStoreWithoutWatch(t *testing.T) {
	authtest.TestStoreWith(t, func(*testing.T) keyring.Store { return plainStore{newTable()} }, new(authtest.StoreOptions))
}

// findings returns what a case finds wrong with a table to which apply was
// applied. Time is that of a bubble, so that no store and no case waits for it.
func findings(t *testing.T, c authtest.Case, apply func(t *table), opts *authtest.StoreOptions) (err error) {
	run := func(t *testing.T) {
		s := newTable()
		apply(s)
		if c.About(t.Context(), s) {
			err = c.Run(t, s, opts)
		}
	}
	if c.Name == "Reading during changes" { // its readers do not wait, so that time would stand still
		run(t)
		return err
	}
	synctest.Test(t, func(t *testing.T) {
		run(t)
		time.Sleep(24 * time.Hour) // for calls that take longer than the case waits
	})
	return err
}

// A fault is something wrong with a store, and the case of TestStore that is
// there to find it.
type fault struct {
	what  string
	found string // the name of the case
	only  bool   // no other case finds it
	apply func(t *table)
}

var faults = slices.Concat(readFaults, insertFaults, listFaults, filterFaults, updateFaults, deleteFaults, touchFaults,
	sharingFaults, contextFaults, concurrencyFaults, eventFaults, watchFaults)

func TestStoreRejectsBrokenStores(t *testing.T) {
	cases := authtest.Cases()
	for _, f := range faults {
		t.Run(f.what, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(cases, func(c authtest.Case) bool { return c.Name == f.found })
			if i < 0 {
				t.Fatalf("there is no case %q", f.found)
			}
			err := findings(t, cases[i], f.apply, nil)
			if err == nil {
				t.Fatalf("the case %q does not find it", f.found)
			}
			t.Logf("%v\nthe rule: %s", err, cases[i].Rule)
			if !f.only || raceEnabled {
				return
			}
			for _, c := range slices.Delete(slices.Clone(cases), i, i+1) {
				if err := findings(t, c, f.apply, nil); err != nil {
					t.Errorf("the case %q finds it too: %v", c.Name, err)
				}
			}
		})
	}
}

// No case could be left out: each finds a fault that no other one finds.
func TestStoreHasNoUselessCase(t *testing.T) {
	for _, c := range authtest.Cases() {
		if !slices.ContainsFunc(faults, func(f fault) bool { return f.only && f.found == c.Name }) {
			t.Errorf("there is no fault that only the case %q finds", c.Name)
		}
	}
}

func TestStoreNamesEachRule(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range authtest.Cases() {
		if seen[c.Name] {
			t.Errorf("there are two cases %q", c.Name)
		}
		seen[c.Name] = true
		if strings.TrimSpace(c.Rule) == "" {
			t.Errorf("the case %q has no rule", c.Name)
		}
	}
}

// peculiarities are what distinguishes a right store from a table. TestStore
// must accept each of them, and all at once.
var peculiarities = []struct {
	what  string
	opts  *authtest.StoreOptions
	apply func(t *table)
}{
	{"IDs are UUIDs in any case", nil, uuidColumn},
	{"an owner references a table", &authtest.StoreOptions{NewOwner: insertCustomer}, func(t *table) {
		t.refuses = append(t.refuses, func(r *auth.Record) error {
			if !slices.Contains(t.owners, r.Owner) {
				return errors.New("violates foreign key constraint")
			}
			return nil
		})
	}},
	{"a column has 255 characters", nil, func(t *table) {
		t.refuses = append(t.refuses, func(r *auth.Record) error {
			texts := []string{r.ID, r.Hint, r.Name, r.Owner, r.CreatedBy, r.UpdatedBy, r.RotatedFrom, r.RotatedTo, r.Chain}
			for _, s := range r.Scopes {
				texts = append(texts, string(s))
			}
			for key, value := range r.Metadata {
				texts = append(texts, key, value)
			}
			if slices.ContainsFunc(texts, func(s string) bool { return utf8.RuneCountInString(s) > 255 }) {
				return errors.New("value too long for type character varying(255)")
			}
			return nil
		})
	}},
	{"a time is a DATETIME(6) in the zone of the server", nil, func(t *table) {
		t.keeps = append(t.keeps, func(r *auth.Record) {
			for _, at := range timesOf(r) {
				if *at = at.Round(time.Microsecond); !at.IsZero() {
					*at = at.In(time.FixedZone("", 2*3600))
				}
			}
		})
		t.refuses = append(t.refuses, func(r *auth.Record) error {
			for _, at := range timesOf(r) {
				if year := at.UTC().Year(); !at.IsZero() && (year < 1000 || year > 9999) {
					return errors.New("incorrect datetime value")
				}
			}
			return nil
		})
	}},
	{"empty lists come back as nil", nil, func(t *table) {
		t.keeps = append(t.keeps, func(r *auth.Record) {
			if len(r.Scopes) == 0 {
				r.Scopes = nil
			}
			if len(r.Metadata) == 0 {
				r.Metadata = nil
			}
		})
	}},
	{"invalid scopes are refused", nil, func(t *table) {
		t.refuses = append(t.refuses, func(r *auth.Record) error {
			for _, s := range r.Scopes {
				if _, err := auth.ParseScope(string(s)); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{"a change of what never changes is refused", nil, func(t *table) {
		t.onUpdate = func(_ context.Context, r, successor *auth.Record) error {
			old, err := t.get(r.ID)
			if err == nil && (old.Hash != r.Hash || old.Owner != r.Owner || !sameMicrosecond(old.CreatedAt, r.CreatedAt) ||
				old.CreatedBy != r.CreatedBy) {
				return errors.New("a column is read-only")
			}
			return t.update(r, successor)
		}
	}},
	{"List ignores what it need not obey", nil, func(t *table) {
		t.onList = func(_ context.Context, q keyring.Query) ([]*auth.Record, error) {
			q.States, q.Text, q.ExpiresFrom, q.ExpiresBefore = 0, "", time.Time{}, time.Time{}
			return t.list(q)
		}
	}},
	{"no events", nil, func(t *table) {
		t.onEvents = func(context.Context, keyring.EventQuery) ([]keyring.Event, error) {
			return nil, fmt.Errorf("the table of events: %w", errors.ErrUnsupported)
		}
	}},
	{"an event has no hash, and the time of the database", nil, func(t *table) {
		t.notes = func(e *keyring.Event) bool {
			for _, r := range []*auth.Record{e.Before, e.After} {
				if r != nil {
					r.Hash, r.LastUsedAt = auth.Hash{}, time.Time{}
				}
			}
			e.Time = time.Now()
			return true
		}
	}},
	{"an Update that was canceled is written after the next read", nil, func(t *table) {
		update, get := t.onUpdate, t.onGet
		if update == nil {
			update = func(_ context.Context, r, successor *auth.Record) error { return t.update(r, successor) }
		}
		if get == nil {
			get = func(_ context.Context, id string) (*auth.Record, error) { return t.get(id) }
		}
		late := make(chan func(), 1)
		t.onUpdate = func(ctx context.Context, r, successor *auth.Record) error {
			if _, ends := ctx.Deadline(); successor == nil || !ends {
				return update(ctx, r, successor)
			}
			time.Sleep(100 * time.Microsecond)
			if ctx.Err() == nil {
				return update(ctx, r, successor)
			}
			select {
			case late <- func() { update(ctx, r, successor) }:
			default:
			}
			return ctx.Err()
		}
		t.onGet = func(ctx context.Context, id string) (*auth.Record, error) {
			r, err := get(ctx, id)
			select {
			case f := <-late:
				f()
			default:
			}
			return r, err
		}
	}},
	{"a context that is done is an error", nil, func(t *table) { t.asksContext = true }},
	{"Watch reports twice, and again later", nil, watching(
		func(ctx context.Context, notify func(auth.Change), right watchFunc) error {
			var mu sync.Mutex
			var late []auth.Change
			return right(ctx, func(c auth.Change) {
				mu.Lock()
				defer mu.Unlock()
				notify(c)
				notify(c)
				for _, c := range late {
					notify(c)
				}
				if c.Kind == auth.RecordChanged {
					late = append(late[max(0, len(late)-3):], c)
				}
			})
		})},
	{"Watch is lost at the first change", nil, watching(
		func(ctx context.Context, notify func(auth.Change), right watchFunc) error {
			var n atomic.Int64
			return right(ctx, func(c auth.Change) {
				if n.Add(1) == 2 {
					notify(auth.Change{Kind: auth.WatchLost})
					time.Sleep(moment)
					notify(auth.Change{Kind: auth.WatchStarted})
					return
				}
				notify(c)
			})
		})},
}

func TestStoreAcceptsPeculiarStores(t *testing.T) {
	for _, p := range peculiarities {
		t.Run(p.what, func(t *testing.T) {
			t.Parallel()
			for _, c := range authtest.Cases() {
				if err := findings(t, c, p.apply, p.opts); err != nil {
					t.Errorf("the case %q: %v", c.Name, err)
				}
			}
		})
	}
	t.Run("all at once", func(t *testing.T) {
		t.Parallel()
		for _, c := range authtest.Cases() {
			err := findings(t, c, func(t *table) {
				for _, p := range peculiarities {
					p.apply(t)
				}
			}, &authtest.StoreOptions{NewOwner: insertCustomer})
			if err != nil {
				t.Errorf("the case %q: %v", c.Name, err)
			}
		}
	})
}

// IDs and owners may have any form, also that of what a case takes for unknown.
func TestStoreAcceptsAnyNames(t *testing.T) {
	owners := []string{"ORG_1", "nobody", "org_2", "org_1", "%"}
	for _, c := range authtest.Cases() {
		var id, owner int
		err := findings(t, c, func(*table) {}, &authtest.StoreOptions{
			NewID: func() string {
				id++
				return fmt.Sprint(id)
			},
			NewOwner: func(*testing.T, keyring.Store) string {
				owner++
				return owners[owner-1]
			},
		})
		if err != nil {
			t.Errorf("the case %q: %v", c.Name, err)
		}
	}
}

// insertCustomer adds a customer to the table of owners.
func insertCustomer(_ *testing.T, store keyring.Store) string {
	s := store.(*table)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owners = append(s.owners, fmt.Sprint("customer ", len(s.owners)+1))
	return s.owners[len(s.owners)-1]
}

// uuidColumn makes a table compare IDs as a column of type uuid does.
func uuidColumn(t *table) {
	malformed := func(id string) bool { return len(id) != 36 || strings.Count(id, "-") != 4 }
	t.refuses = append(t.refuses, func(r *auth.Record) error {
		if malformed(r.ID) || malformed(r.Chain) || r.RotatedFrom != "" && malformed(r.RotatedFrom) ||
			r.RotatedTo != "" && malformed(r.RotatedTo) {
			return errors.New("invalid input syntax for type uuid")
		}
		return nil
	})
	t.keeps = append(t.keeps, func(r *auth.Record) { r.ID = strings.ToLower(r.ID) })
	t.onGet = func(_ context.Context, id string) (*auth.Record, error) {
		if malformed(id) {
			return nil, auth.ErrNotFound
		}
		return t.get(strings.ToLower(id))
	}
	t.onDelete = func(_ context.Context, id, by string) error {
		if malformed(id) {
			return auth.ErrNotFound
		}
		return t.delete(strings.ToLower(id), by)
	}
	t.onTouch = func(_ context.Context, lastUsed map[string]time.Time) error {
		for id := range lastUsed {
			if malformed(id) {
				return errors.New("invalid input syntax for type uuid")
			}
		}
		return t.touch(lastUsed)
	}
}

func timesOf(r *auth.Record) []*time.Time {
	return []*time.Time{&r.CreatedAt, &r.UpdatedAt, &r.ExpiresAt, &r.DisabledAt, &r.RevokedAt, &r.LastUsedAt}
}

func sameMicrosecond(a, b time.Time) bool { return a.Sub(b).Abs() < time.Microsecond }

// mixedIDs returns a generator of IDs that sort differently by language than by
// bytes, and of which some differ only in case.
func mixedIDs() func() string {
	var n atomic.Int64
	return func() string {
		i := int(n.Add(1)) - 1
		return fmt.Sprint([]string{"key-", "Key", "key_", "KEY", "kez", "KEZ"}[i%6], i/6)
	}
}

func TestStoreWithOwnIDs(t *testing.T) {
	newStore := func(*testing.T) keyring.Store { return newTable() }
	authtest.TestStoreWith(t, newStore, &authtest.StoreOptions{NewID: mixedIDs()})
}

// These faults show only with IDs that are text.
func TestStoreWithOwnIDsRejectsBrokenStores(t *testing.T) {
	for _, f := range []fault{
		{"IDs in any case", "Insert of records that differ only in ID and hash", false, func(t *table) {
			t.onInsert = func(_ context.Context, r *auth.Record) error {
				if _, err := t.find(func(old *auth.Record) bool { return strings.EqualFold(old.ID, r.ID) }); err == nil {
					return keyring.ErrExists
				}
				return t.insert(r)
			}
		}},
		{"IDs are sorted by language", "List orders by ID byte by byte", false, ordering(
			func(a, b keyring.Position) int {
				return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(strings.ToLower(a.ID), strings.ToLower(b.ID)),
					cmp.Compare(a.ID, b.ID))
			})},
		{"IDs are sorted without signs", "List orders by ID byte by byte", false, ordering(
			func(a, b keyring.Position) int {
				letters := strings.NewReplacer("-", "", "_", "")
				return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(letters.Replace(a.ID), letters.Replace(b.ID)),
					cmp.Compare(a.ID, b.ID))
			})},
	} {
		t.Run(f.what, func(t *testing.T) {
			for _, c := range authtest.Cases() {
				if c.Name != f.found {
					continue
				}
				if findings(t, c, f.apply, &authtest.StoreOptions{NewID: mixedIDs()}) == nil {
					t.Errorf("the case %q does not find it", f.found)
				}
				if err := findings(t, c, f.apply, nil); err != nil {
					t.Errorf("the case %q finds it with UUIDs, so the test of NewID proves nothing: %v", f.found, err)
				}
			}
		})
	}
}
