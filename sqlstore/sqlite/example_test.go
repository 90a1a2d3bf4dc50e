package sqlite_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/sqlite"
)

func ExampleNew() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	db, err := sqlite.Open(filepath.Join(dir, "keys.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	store, err := sqlite.New(db, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		log.Fatal(err)
	}

	keys := keyring.NewManager(store, nil).Unconfined("setup")
	record, _, err := keys.Create(ctx, keyring.Spec{Name: "CI", Owner: "org_1", Scopes: auth.Scopes{"documents.read"}})
	if err != nil {
		log.Fatal(err)
	}
	if err := keys.Revoke(ctx, record.ID); err != nil {
		log.Fatal(err)
	}
	record, err = keys.Get(ctx, record.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(record.Name, record.Owner, record.Scopes, record.CreatedBy, record.Check(time.Now()))
	// Output: CI org_1 [documents.read] staff:setup auth: the API key has been revoked
}

// Tokens is an auth.Store for a table that existed before: with other names,
// SHA-256 in hexadecimal, and a flag for keys that were disabled. One method is
// all that an Authenticator needs.
type Tokens struct{ DB *sql.DB }

// Lookup implements auth.Store.
func (t Tokens) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	r := &auth.Record{Hash: hash}
	var permissions string
	var until sql.NullInt64
	var disabled bool
	err := t.DB.QueryRowContext(ctx,
		"SELECT token_id, tenant, permissions, valid_until, disabled FROM tokens WHERE sha256 = ?", hash.String()).
		Scan(&r.ID, &r.Owner, &permissions, &until, &disabled)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, auth.ErrNotFound
	}
	if err != nil {
		return nil, err // an outage is never "not found"
	}
	for _, p := range strings.Fields(permissions) {
		r.Scopes = append(r.Scopes, auth.Scope(p))
	}
	// Return what is stored, also of a disabled or expired key: Record.Check
	// decides.
	if until.Valid {
		r.ExpiresAt = time.Unix(until.Int64, 0)
	}
	if disabled {
		r.DisabledAt = time.Unix(1, 0) // any time that is not zero
	}
	return r, nil
}

// Keep a table of keys that you have already.
func Example_ownTable() {
	dir, err := os.MkdirTemp("", "tokens")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := sqlite.Open(filepath.Join(dir, "tokens.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	_, err = db.Exec(`CREATE TABLE tokens (token_id TEXT, sha256 TEXT UNIQUE, tenant TEXT, permissions TEXT,
		valid_until INTEGER, disabled INTEGER NOT NULL DEFAULT 0)`)
	if err != nil {
		log.Fatal(err)
	}
	scheme := auth.Scheme{Prefix: "acme_", Hashers: []auth.Hasher{auth.SHA256(nil)}}
	good, disabled := scheme.NewKey(), scheme.NewKey()
	for id, key := range map[int]auth.Key{1: good, 2: disabled} {
		_, err := db.Exec("INSERT INTO tokens VALUES (?, ?, 'acme', 'documents.read documents.write', NULL, ?)",
			fmt.Sprint(id), scheme.Hashes(key)[0].String(), id == 2)
		if err != nil {
			log.Fatal(err)
		}
	}

	a := auth.New(Tokens{db}, &auth.Options{Scheme: scheme})
	handler := a.Require("documents.read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		record, _ := auth.FromContext(r.Context())
		fmt.Fprintf(w, "hello %s", record.Owner)
	}))
	for _, key := range []auth.Key{good, disabled, scheme.NewKey()} {
		r := httptest.NewRequest("GET", "/documents", nil)
		r.Header.Set("Authorization", "Bearer "+key.Reveal())
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code == http.StatusOK {
			fmt.Println(w.Code, w.Body)
			continue
		}
		var problem auth.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil {
			log.Fatal(err)
		}
		fmt.Println(w.Code, problem.Code)
	}
	// Output:
	// 200 hello acme
	// 401 KEY_DISABLED
	// 401 INVALID_KEY
}
