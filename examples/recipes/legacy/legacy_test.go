package legacy_test

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/insigner/auth"
	"github.com/insigner/auth/authtest"
	"github.com/insigner/auth/examples/recipes/internal/try"
	"github.com/insigner/auth/examples/recipes/legacy"
	"github.com/insigner/auth/keyring"
)

var scheme = legacy.Scheme([]byte("0123456789abcdef0123456789abcdef"))

// Keys that the earlier system issued.
const (
	good    = "sk_live_" + "00112233445566778899aabbccddeeff"
	reader  = "sk_live_" + "11111111111111111111111111111111"
	revoked = "sk_live_" + "22222222222222222222222222222222"
	expired = "sk_live_" + "33333333333333333333333333333333"
	unknown = "sk_live_" + "44444444444444444444444444444444"
)

// open returns an empty table.
func open(t *testing.T) legacy.Table {
	t.Helper()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1) // each connection would have a database of its own
	_, err = db.ExecContext(t.Context(), `CREATE TABLE tokens (id INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE,
		last4 TEXT NOT NULL, label TEXT NOT NULL, account TEXT NOT NULL, permissions TEXT NOT NULL,
		created_at TIMESTAMP NOT NULL, expires_at TIMESTAMP, revoked BOOLEAN NOT NULL)`)
	if err != nil {
		t.Fatal(err)
	}
	return legacy.Table{DB: db}
}

// add adds a row for r. The state is what the table can hold of it.
func add(t *testing.T, table legacy.Table, r auth.Record, last4 string) {
	t.Helper()
	var permissions []string
	for _, scope := range r.Scopes {
		permissions = append(permissions, string(scope))
	}
	expires := sql.NullTime{Time: r.ExpiresAt, Valid: !r.ExpiresAt.IsZero()}
	revoked := !r.DisabledAt.IsZero() || !r.RevokedAt.IsZero()
	_, err := table.DB.ExecContext(t.Context(), `INSERT INTO tokens (sha256, last4, label, account, permissions, created_at,
		expires_at, revoked) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, r.Hash.String(), last4, r.Name, r.Owner,
		strings.Join(permissions, " "), r.CreatedAt, expires, revoked)
	if err != nil {
		t.Fatal(err)
	}
}

// filled returns a table with the keys above, except the unknown one.
func filled(t *testing.T) legacy.Table {
	t.Helper()
	table := open(t)
	past := time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		key    string
		record auth.Record
	}{
		{reader, auth.Record{Scopes: auth.Scopes{"documents.read"}}},
		{good, auth.Record{Scopes: auth.Scopes{"documents.read", "documents.create"}}},
		{revoked, auth.Record{Scopes: auth.Scopes{"documents.create"}, RevokedAt: past}},
		{expired, auth.Record{Scopes: auth.Scopes{"documents.create"}, ExpiresAt: past}},
	} {
		r := c.record
		r.Hash, r.Name, r.Owner, r.CreatedAt = sha256.Sum256([]byte(c.key)), "Backend", "org_1", past
		add(t, table, r, c.key[len(c.key)-4:])
	}
	return table
}

// serve starts an API with one route and returns its URL.
func serve(t *testing.T, store auth.Store) string {
	t.Helper()
	a := auth.New(store, &auth.Options{Scheme: scheme})
	return try.Server(t, a.Require("documents.create")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
}

// outcome returns the code of the answer to a request with key, or "" if it was
// accepted.
func outcome(t *testing.T, url, key string) string {
	t.Helper()
	got := try.Send(t, "GET", url, try.Header("Authorization", "Bearer "+key))
	if got.Status == 200 {
		return ""
	}
	return got.Code()
}

func TestLookup(t *testing.T) {
	authtest.TestLookup(t, func(t *testing.T, records ...auth.Record) auth.Store {
		table := open(t)
		for _, r := range records {
			add(t, table, r, "")
		}
		return table
	})
}

// TestEarlierKeys checks the answers before and after the import, which are the
// same.
func TestEarlierKeys(t *testing.T) {
	table := filled(t)
	imported := new(keyring.MemoryStore)
	for range 2 { // it may be repeated
		if err := legacy.Import(t.Context(), table, imported); err != nil {
			t.Fatal(err)
		}
	}
	for name, store := range map[string]auth.Store{
		"the table":          table,
		"both":               legacy.Both{New: new(keyring.MemoryStore), Old: table},
		"the imported table": imported,
	} {
		url := serve(t, store)
		for key, want := range map[string]string{
			good:                  "",
			reader:                "INSUFFICIENT_SCOPE",
			revoked:               "KEY_REVOKED",
			expired:               "KEY_EXPIRED",
			unknown:               "INVALID_KEY",
			good + "0":            "INVALID_FORMAT",
			good[:len(good)-1]:    "INVALID_FORMAT",
			strings.ToUpper(good): "INVALID_FORMAT",
			strings.Replace(good, "sk_live_", "sk_test_", 1): "INVALID_FORMAT",
			scheme.NewKey().Reveal():                         "INVALID_KEY",
		} {
			if got := outcome(t, url, key); got != want {
				t.Errorf("%s: the code for %s is %q, want %q", name, key, got, want)
			}
		}
	}
}

// TestHashIsNoKey checks that what the table holds does not open anything.
func TestHashIsNoKey(t *testing.T) {
	sum := sha256.Sum256([]byte(good))
	if got := outcome(t, serve(t, filled(t)), hex.EncodeToString(sum[:])); got != "INVALID_FORMAT" {
		t.Errorf("the code for a hash is %q, want INVALID_FORMAT", got)
	}
}

func TestNewKeyNextToTable(t *testing.T) {
	store := new(keyring.MemoryStore)
	manager := keyring.NewManager(store, &keyring.Options{Scheme: scheme})
	_, key, err := manager.Unconfined("test").Create(t.Context(), keyring.Spec{
		Name: "new", Owner: "org_1", Scopes: auth.Scopes{"documents.create"},
	})
	if err != nil {
		t.Fatal(err)
	}
	url := serve(t, legacy.Both{New: store, Old: filled(t)})
	if got := outcome(t, url, key.Reveal()); got != "" {
		t.Errorf("the code for a new key is %q, want none", got)
	}
}

func TestOutageIsNotUnknown(t *testing.T) {
	table := filled(t)
	table.DB.Close()
	url := serve(t, legacy.Both{New: new(keyring.MemoryStore), Old: table})
	if got := outcome(t, url, good); got != "STORE_UNAVAILABLE" {
		t.Errorf("the code is %q, want STORE_UNAVAILABLE", got)
	}
}

// TestUnreadableRow checks that one bad row keeps no other from being imported.
func TestUnreadableRow(t *testing.T) {
	table, store := filled(t), new(keyring.MemoryStore)
	_, err := table.DB.ExecContext(t.Context(), `UPDATE tokens SET sha256 = 'none' WHERE permissions = 'documents.read'`)
	if err != nil {
		t.Fatal(err)
	}
	if err := legacy.Import(t.Context(), table, store); err == nil {
		t.Error("the import of a bad row returns no error")
	}
	url := serve(t, store)
	for key, want := range map[string]string{
		good:    "",
		revoked: "KEY_REVOKED",
		expired: "KEY_EXPIRED",
		reader:  "INVALID_KEY",
	} {
		if got := outcome(t, url, key); got != want {
			t.Errorf("the code for %s is %q, want %q", key, got, want)
		}
	}
}

func TestReplace(t *testing.T) {
	store := new(keyring.MemoryStore)
	if err := legacy.Import(t.Context(), filled(t), store); err != nil {
		t.Fatal(err)
	}
	manager := keyring.NewManager(store, &keyring.Options{Scheme: scheme})
	if n := remaining(t, manager); n != 2 {
		t.Errorf("before, %d keys remain, want 2", n)
	}
	record, err := manager.Unconfined("test").Find(t.Context(), parse(t, good))
	if err != nil {
		t.Fatal(err)
	}
	if want := "sk_live_…eeff"; record.Hint != want {
		t.Errorf("the hint is %q, want %q", record.Hint, want)
	}
	key, err := legacy.Replace(t.Context(), manager, record.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(key.Reveal(), "acme_") {
		t.Errorf("the new key is %v, want one that starts with acme_", key)
	}
	url := serve(t, store)
	for _, text := range []string{good, key.Reveal()} {
		if got := outcome(t, url, text); got != "" {
			t.Errorf("after the rotation the code is %q, want none", got)
		}
	}
	if n := remaining(t, manager); n != 1 {
		t.Errorf("after, %d keys remain, want 1", n)
	}
	old, err := manager.Unconfined("test").Get(t.Context(), record.ID)
	if err != nil {
		t.Fatal(err)
	}
	if days := time.Until(old.ExpiresAt).Hours() / 24; days > 14 {
		t.Errorf("the earlier key stays valid for %.1f days, want 14", days)
	}
}

func remaining(t *testing.T, manager *keyring.Manager) int {
	t.Helper()
	list, err := legacy.Remaining(t.Context(), manager)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func parse(t *testing.T, text string) auth.Key {
	t.Helper()
	key, err := scheme.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
