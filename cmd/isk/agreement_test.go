package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
	"github.com/insigner/auth/sqlstore/sqlite"
)

// openStore opens the store of an environment, as a server does.
func openStore(t *testing.T, e env) *sqlite.Store {
	t.Helper()
	db, err := sqlite.Open(strings.TrimPrefix(e[envDatabase], "sqlite://"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.New(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close(); db.Close() })
	return store
}

// TestSchemeIsThatOfTheServer lets a server check what the command makes.
func TestSchemeIsThatOfTheServer(t *testing.T) {
	e := migrated(t)
	store := openStore(t, e)
	for name, pepper := range map[string]string{
		"plain": "a pepper of the API", "line break": "a pepper of the API\n", "CRLF": "a pepper of the API\r\n",
	} {
		file := filepath.Join(t.TempDir(), "pepper")
		if err := os.WriteFile(file, []byte(pepper), 0o600); err != nil {
			t.Fatal(err)
		}
		with := env{envDatabase: e[envDatabase], envPepper: file, envPrefix: "acme_"}
		key := strings.TrimSuffix(with.must(t, "create", "--name", "x", "--owner", "acme", "--scope", "a.read").stdout, "\n")
		scheme := auth.Scheme{Prefix: "acme_", Hashers: []auth.Hasher{auth.BLAKE2b([]byte("a pepper of the API"))}}
		if _, err := auth.New(store, &auth.Options{Scheme: scheme}).Verify(t.Context(), key); err != nil {
			t.Errorf("%s: the server refuses the key: %v", name, err)
		}
		if r := with.runWith(t.Context(), key, "find"); r.code != exitDone {
			t.Errorf("%s: find: exit code %d: %s", name, r.code, r.stderr)
		}
		r := env{envDatabase: e[envDatabase], envPrefix: "acme_"}.runWith(t.Context(), key, "find")
		if r.code != exitNotFound || !strings.Contains(r.stderr, envPepper) {
			t.Errorf("%s: find without the pepper: exit code %d: %s", name, r.code, r.stderr)
		}
	}
	long := filepath.Join(t.TempDir(), "long")
	if err := os.WriteFile(long, []byte(strings.Repeat("x", 65)), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := (env{envDatabase: e[envDatabase], envPepper: long}).run(t, "list"); r.code != exitUsage {
		t.Errorf("a pepper of 65 bytes: exit code %d, want 2", r.code)
	}
}

// TestKeysOfOtherShapes manages records whose keys this Scheme does not make.
func TestKeysOfOtherShapes(t *testing.T) {
	const legacy = "sk_live_51Habcdef0123456789"
	e := migrated(t)
	accept := func(key string) bool { return key == legacy }
	manager := keyring.NewManager(openStore(t, e), &keyring.Options{Scheme: auth.Scheme{AlsoAccept: accept}})
	key, err := auth.Scheme{AlsoAccept: accept}.ParseKey(legacy)
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := manager.Unconfined("x").Create(t.Context(), keyring.Spec{
		Name: "old", Owner: "acme", Scopes: auth.Scopes{"a.read"}, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if found := e.runWith(t.Context(), legacy+"\n", "find", "--json"); !strings.Contains(found.stdout, r.ID) {
		t.Errorf("find: %s%s", found.stdout, found.stderr)
	}
	for _, args := range [][]string{{"show", r.ID}, {"edit", r.ID, "--expires", "30d"}, {"disable", r.ID}, {"enable", r.ID},
		{"rotate", r.ID}, {"events", r.ID}, {"revoke", r.ID}, {"revoke", "--made", r.ID, "--yes"}, {"delete", r.ID, "--yes"}} {
		e.must(t, args...)
	}
}

func TestRevokeMade(t *testing.T) {
	e := migrated(t)
	manager := keyring.NewManager(openStore(t, e), nil)
	id := createKey(t, e)
	leaked, err := manager.Unconfined("x").Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	other := createKey(t, e)
	made, _, err := manager.For(keyring.ActorOf(leaked)).Create(t.Context(), keyring.Spec{Name: "made", Scopes: leaked.Scopes})
	if err != nil {
		t.Fatal(err)
	}
	if r := e.run(t, "revoke", "--made", id); r.code != exitUsage || !strings.Contains(r.stderr, "the 1 key that it made") {
		t.Errorf("without --yes: exit code %d: %s", r.code, r.stderr)
	}
	e.must(t, "revoke", "--made", id, "--yes")
	for id, want := range map[string]string{id: "revoked", made.ID: "revoked", other: "active"} {
		if r := e.must(t, "show", id, "--json"); !strings.Contains(r.stdout, `"status":"`+want+`"`) {
			t.Errorf("want %s: %s", want, r.stdout)
		}
	}
}

// TestJSONIsThatOfTheKeyAPI compares the members that both have.
func TestJSONIsThatOfTheKeyAPI(t *testing.T) {
	e := migrated(t)
	id := createKey(t, e, "--expires", "30d", "--metadata", "team=billing")
	e.must(t, "rotate", id)
	e.must(t, "disable", id)
	manager := keyring.NewManager(openStore(t, e), nil)
	api := keyapi.New(manager, &keyapi.Options{
		Metadata: []string{"team"},
		Actor: func(*http.Request) (keyring.Actor, error) {
			return keyring.Actor{Name: "x", Owner: "acme", Scopes: auth.Scopes{"*"}}, nil
		},
	})
	get := func(path string) (value map[string]any) {
		w := httptest.NewRecorder()
		api.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if err := json.Unmarshal(w.Body.Bytes(), &value); err != nil {
			t.Fatalf("%s: %v: %s", path, err, w.Body)
		}
		return value
	}
	same := func(name string, ours, theirs map[string]any) {
		t.Helper()
		if len(theirs) < 5 {
			t.Fatalf("%s: the key API answers %v", name, theirs)
		}
		for member, want := range theirs {
			if member == "by" { // customers read "Support"
				continue
			}
			if got, ok := ours[member]; !ok || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %s is %v, in the key API %v", name, member, got, want)
			}
		}
	}
	var key map[string]any
	if err := json.Unmarshal([]byte(e.must(t, "show", id, "--json").stdout), &key); err != nil {
		t.Fatal(err)
	}
	same("show", key, get("/"+id))
	var events []map[string]any
	if err := json.Unmarshal([]byte(e.must(t, "events", id, "--json").stdout), &events); err != nil {
		t.Fatal(err)
	}
	theirs := get("/" + id + "/events")["data"].([]any)
	if len(events) != len(theirs) || len(events) != 3 {
		t.Fatalf("%d events, in the key API %d", len(events), len(theirs))
	}
	for i, event := range events {
		same("events", event, theirs[i].(map[string]any))
	}
}

func TestWhoActs(t *testing.T) {
	e := migrated(t)
	for _, test := range []struct {
		as   string
		code int
	}{
		{"alice", exitDone}, {"alice@example.com", exitDone}, {strings.Repeat("x", 249), exitDone},
		{strings.Repeat("x", 250), exitUsage}, {"a\x00b", exitUsage}, {"\xff", exitUsage},
	} {
		r := e.run(t, "create", "--name", "x", "--owner", "acme", "--scope", "a.read", "--as", test.as, "--json")
		if r.code != test.code {
			t.Errorf("--as %.20q: exit code %d, want %d: %s", test.as, r.code, test.code, r.stderr)
		}
		if r.code == exitDone && !strings.Contains(r.stdout, `"createdBy":"staff:`+test.as+`"`) {
			t.Errorf("--as %q: %s", test.as, r.stdout)
		}
	}
}
