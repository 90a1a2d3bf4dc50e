// Package scene is an API with keys of each kind, for the tests of the
// adapters.
package scene

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/cache"
	"github.com/insigner/auth/keyring"
)

// Metrics is what the adapters have in common.
type Metrics interface {
	OnDecision(ctx context.Context, d auth.Decision)
	Store(store auth.Store) auth.Store
}

// A Scene is an API with its keys.
type Scene struct {
	URL   string
	Store *Store // the underlying one
	Auth  *auth.Authenticator

	keys    map[string]auth.Key
	records map[string]auth.Record
	staff   *keyring.Keyring
}

// Keys are those of a Scene, with the code that a request with them gets.
var Keys = map[string]string{
	"good":     "OK",
	"none":     "MISSING_KEY",
	"foreign":  "INVALID_FORMAT",
	"cut":      "INVALID_KEY",
	"unknown":  "INVALID_KEY",
	"revoked":  "KEY_REVOKED",
	"disabled": "KEY_DISABLED",
	"expired":  "KEY_EXPIRED",
	"narrow":   "INSUFFICIENT_SCOPE",
}

// New starts an API whose decisions and lookups are measured. It ends with the
// test.
func New(t testing.TB, m Metrics) *Scene {
	t.Helper()
	s := &Scene{
		Store:   new(Store),
		keys:    map[string]auth.Key{"unknown": auth.Scheme{}.NewKey()},
		records: make(map[string]auth.Record),
	}
	s.staff = keyring.NewManager(&s.Store.MemoryStore, nil).Unconfined("metrics-test-staff")
	for name := range Keys {
		switch name {
		case "none", "foreign", "cut", "unknown":
			continue
		}
		s.Create(t, name)
	}
	for name, end := range map[string]func(context.Context, string) error{
		"revoked": s.staff.Revoke, "disabled": s.staff.Disable, "expired": s.expire} {
		if err := end(t.Context(), s.records[name].ID); err != nil {
			t.Fatal(err)
		}
	}
	quiet := slog.New(slog.DiscardHandler)
	cached := cache.New(m.Store(s.Store), &cache.Options{Logger: quiet})
	s.Auth = auth.New(cached, &auth.Options{OnDecision: m.OnDecision, Logger: quiet})
	mux := http.NewServeMux()
	mux.Handle("/private-path/{id}", s.Auth.Require("documents.read")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	server := httptest.NewServer(mux)
	s.URL = server.URL
	t.Cleanup(func() { server.Close(); cached.Close() })
	return s
}

// expire ends a key that expires. No Keyring does that, so the record is
// changed in the store.
func (s *Scene) expire(ctx context.Context, id string) error {
	r, err := s.Store.Get(ctx, id)
	if err != nil {
		return err
	}
	past := r.Clone()
	past.Revision++
	past.ExpiresAt = time.Now().Add(-time.Hour)
	return s.Store.Update(ctx, past, nil)
}

// Create creates a key with that name.
func (s *Scene) Create(t testing.TB, name string) {
	t.Helper()
	scope := auth.Scope("documents.read")
	if name == "narrow" {
		scope = "documents.create"
	}
	r, key, err := s.staff.Create(t.Context(), keyring.Spec{
		Name: "secret-name-of-" + name, Owner: "secret-owner-of-" + name, Scopes: auth.Scopes{scope}})
	if err != nil {
		t.Fatal(err)
	}
	s.keys[name], s.records[name] = key, r
}

// Revoke revokes the key with that name.
func (s *Scene) Revoke(t testing.TB, name string) {
	t.Helper()
	if err := s.staff.Revoke(t.Context(), s.records[name].ID); err != nil {
		t.Fatal(err)
	}
}

// Get sends a request with the key of that name and returns the status.
func (s *Scene) Get(t testing.TB, name string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/private-path/secret-id", nil)
	if err != nil {
		t.Fatal(err)
	}
	if credential := s.credential(name); credential != "" {
		r.Header.Set("Authorization", "Bearer "+credential)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func (s *Scene) credential(name string) string {
	switch name {
	case "none":
		return ""
	case "foreign":
		return "sk_" + s.keys["good"].Reveal()
	case "cut":
		return s.keys["good"].Reveal()[:40]
	}
	return s.keys[name].Reveal()
}

// Secrets are what no metric may hold: keys, hashes, and what tells whose a
// request is and where it went.
func (s *Scene) Secrets() []string {
	list := []string{"isk_", "secret", "private", "metrics-test-staff"}
	for name, key := range s.keys {
		list = append(list, key.Reveal()[:20], auth.Scheme{}.Hashes(key)[0].String())
		if r, ok := s.records[name]; ok {
			list = append(list, r.ID, r.Owner, r.Name, r.Hint)
		}
	}
	return list
}

// A Store is a MemoryStore that can break and lose its watch.
type Store struct {
	keyring.MemoryStore
	broken atomic.Bool
	notify atomic.Pointer[func(auth.Change)]
}

var errBroken = errors.New("secret error of the database")

// Break makes lookups fail, or no longer.
func (s *Store) Break(broken bool) { s.broken.Store(broken) }

// Lookup implements auth.Store.
func (s *Store) Lookup(ctx context.Context, hash auth.Hash) (*auth.Record, error) {
	if s.broken.Load() {
		return nil, errBroken
	}
	return s.MemoryStore.Lookup(ctx, hash)
}

// Watch implements auth.Watcher.
func (s *Store) Watch(ctx context.Context, notify func(auth.Change)) error {
	s.notify.Store(&notify)
	return s.MemoryStore.Watch(ctx, notify)
}

// Report reports a change, such as auth.WatchLost, once the store is watched.
func (s *Store) Report(kind auth.ChangeKind) {
	for ; ; time.Sleep(time.Millisecond) {
		if notify := s.notify.Load(); notify != nil {
			(*notify)(auth.Change{Kind: kind})
			return
		}
	}
}

// RaceEnabled reports whether the race detector is on, which makes allocations
// of its own.
var RaceEnabled = func() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}()
