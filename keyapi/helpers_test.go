package keyapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/insigner/auth"
	"github.com/insigner/auth/keyapi"
	"github.com/insigner/auth/keyring"
)

const (
	prefix = "/api/v1/keys"
	day    = 24 * time.Hour
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// A server is the API as a host mounts it.
type server struct {
	http.Handler
	t       *testing.T
	store   *hookedStore
	manager *keyring.Manager
	log     *bytes.Buffer
}

// newServer returns a server with an empty store. Each change, if there are
// any, can set options.
func newServer(t *testing.T, changes ...func(o *keyapi.Options, k *keyring.Options)) *server {
	t.Helper()
	s := &server{t: t, store: &hookedStore{MemoryStore: new(keyring.MemoryStore)}, log: new(bytes.Buffer)}
	logger := slog.New(slog.NewTextHandler(s.log, nil))
	opts, keyringOpts := keyapi.Options{Logger: logger}, keyring.Options{}
	for _, change := range changes {
		change(&opts, &keyringOpts)
	}
	s.manager = keyring.NewManager(s.store, &keyringOpts)
	a := auth.New(s.store.MemoryStore, &auth.Options{Scheme: keyringOpts.Scheme, Logger: logger})
	h := http.StripPrefix(prefix, keyapi.New(s.manager, &opts))
	if opts.Actor == nil {
		h = a.Middleware(h)
	}
	mux := http.NewServeMux()
	mux.Handle(prefix, h)
	mux.Handle(prefix+"/", h)
	s.Handler = mux
	return s
}

// actAs makes the host say who acts: the name and the owner of a header field.
func actAs(o *keyapi.Options, _ *keyring.Options) {
	o.Actor = func(r *http.Request) (keyring.Actor, error) {
		return keyring.Actor{Name: "ada", Owner: "acme", Scopes: auth.Scopes{"*"}}, nil
	}
}

// A client sends requests with one key.
type client struct {
	s      *server
	id     string
	secret string
}

// client returns a client with a new key of an owner.
func (s *server) client(owner string, scopes ...auth.Scope) *client {
	s.t.Helper()
	return s.clientWith(keyring.Spec{Name: "client", Owner: owner, Scopes: scopes})
}

func (s *server) clientWith(spec keyring.Spec) *client {
	s.t.Helper()
	r, key, err := s.manager.Unconfined("setup").Create(context.Background(), spec)
	must(s.t, err)
	return &client{s, r.ID, key.Reveal()}
}

// record returns what the store has about a key.
func (s *server) record(id string) auth.Record {
	s.t.Helper()
	r, err := s.store.MemoryStore.Get(context.Background(), id)
	must(s.t, err)
	return *r
}

// An answer is what a request is answered with.
type answer struct {
	t      *testing.T
	what   string
	status int
	header http.Header
	text   string
	body   map[string]any
}

// do sends a request. A body is JSON unless a field says otherwise. Fields are
// names and values.
func (c *client) do(method, path, body string, fields ...string) *answer {
	c.s.t.Helper()
	r := httptest.NewRequest(method, prefix+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.secret != "" {
		r.Header.Set("Authorization", "Bearer "+c.secret)
	}
	for i := 0; i < len(fields); i += 2 {
		if fields[i+1] == "" {
			r.Header.Del(fields[i])
		} else if i > 0 && fields[i] == fields[i-2] {
			r.Header.Add(fields[i], fields[i+1])
		} else {
			r.Header.Set(fields[i], fields[i+1])
		}
	}
	return c.s.send(r)
}

// send serves a request, and checks what is true of every answer.
func (s *server) send(r *http.Request) *answer {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	a := &answer{s.t, r.Method + " " + r.URL.String(), w.Code, w.Header(), w.Body.String(), nil}
	if w.Code == http.StatusTemporaryRedirect || w.Code == http.StatusMovedPermanently {
		return a
	}
	equal(s.t, a.what+": Cache-Control", w.Header().Get("Cache-Control"), "no-store")
	equal(s.t, a.what+": X-Content-Type-Options", w.Header().Get("X-Content-Type-Options"), "nosniff")
	if a.text == "" {
		return a
	}
	must(s.t, json.Unmarshal(w.Body.Bytes(), &a.body))
	want := "application/json"
	if w.Code >= 400 {
		want = "application/problem+json"
		equal(s.t, a.what+": status in the body", fmt.Sprint(a.body["status"]), fmt.Sprint(w.Code))
	}
	equal(s.t, a.what+": Content-Type", w.Header().Get("Content-Type"), want)
	equal(s.t, a.what+": Content-Length", w.Header().Get("Content-Length"), fmt.Sprint(w.Body.Len()))
	return a
}

// is checks the status, and ends the test if it is another.
func (a *answer) is(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: got status %d, want %d: %s", a.what, a.status, status, a.text)
	}
	return a
}

// refused checks the status, the code and the place of a refusal: a pointer if
// it begins with "/" or is "body", else a parameter, or neither if it is empty.
func (a *answer) refused(what string, status int, code, place string) {
	a.t.Helper()
	equal(a.t, what+": status of "+a.text, a.status, status)
	equal(a.t, what+": code", a.str("code"), code)
	pointer, hasPointer := a.body["pointer"]
	parameter, hasParameter := a.body["parameter"]
	switch {
	case place == "":
		equal(a.t, what+": pointer", hasPointer, false)
		equal(a.t, what+": parameter", hasParameter, false)
	case place == "body":
		equal(a.t, what+": pointer", pointer, any(""))
	case place[0] == '/':
		equal(a.t, what+": pointer", pointer, any(place))
	default:
		equal(a.t, what+": parameter", parameter, any(place))
	}
}

func (a *answer) str(member string) string { s, _ := a.body[member].(string); return s }

// ids returns the IDs in a list.
func (a *answer) ids() (ids []string) {
	a.t.Helper()
	for _, item := range a.data() {
		ids = append(ids, item["id"].(string))
	}
	return ids
}

// data returns the entries of a list.
func (a *answer) data() (data []map[string]any) {
	a.t.Helper()
	list, ok := a.body["data"].([]any)
	if !ok {
		a.t.Fatalf("%s: data is not a list: %s", a.what, a.text)
	}
	for _, item := range list {
		data = append(data, item.(map[string]any))
	}
	return data
}

func (a *answer) meta() map[string]any { m, _ := a.body["meta"].(map[string]any); return m }

// create creates a key and returns a client with it.
func (c *client) create(body string) *client {
	c.s.t.Helper()
	a := c.do("POST", "", body).is(201)
	return &client{c.s, a.str("id"), a.str("key")}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// same compares two values as JSON.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	equal(t, what, canonical(got), canonical(want))
}

// canonical returns JSON with its members in order.
func canonical(v any) string {
	text, _ := json.Marshal(v)
	json.Unmarshal(text, &v)
	text, _ = json.Marshal(v)
	return string(text)
}

func contains(t *testing.T, what, text, part string, want bool) {
	t.Helper()
	if strings.Contains(text, part) != want {
		t.Errorf("%s: %q in %q is %v, want %v", what, part, text, !want, want)
	}
}

// panics checks that f panics with exactly this text.
func panics(t *testing.T, what, text string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		equal(t, what, fmt.Sprint(recover()), text)
	}()
	f()
}

// A hookedStore is a MemoryStore with methods that a test can replace.
type hookedStore struct {
	*keyring.MemoryStore
	insert func(r *auth.Record) error
	get    func(id string) (*auth.Record, error)
	list   func(q keyring.Query) ([]*auth.Record, error)
	update func(r, successor *auth.Record) error
	events func(q keyring.EventQuery) ([]keyring.Event, error)
}

func (s *hookedStore) Insert(ctx context.Context, r *auth.Record) error {
	if s.insert != nil {
		return s.insert(r)
	}
	return s.MemoryStore.Insert(ctx, r)
}

func (s *hookedStore) Get(ctx context.Context, id string) (*auth.Record, error) {
	if s.get != nil {
		return s.get(id)
	}
	return s.MemoryStore.Get(ctx, id)
}

func (s *hookedStore) List(ctx context.Context, q keyring.Query) ([]*auth.Record, error) {
	if s.list != nil {
		return s.list(q)
	}
	return s.MemoryStore.List(ctx, q)
}

func (s *hookedStore) Update(ctx context.Context, r, successor *auth.Record) error {
	if s.update != nil {
		return s.update(r, successor)
	}
	return s.MemoryStore.Update(ctx, r, successor)
}

func (s *hookedStore) Events(ctx context.Context, q keyring.EventQuery) ([]keyring.Event, error) {
	if s.events != nil {
		return s.events(q)
	}
	return s.MemoryStore.Events(ctx, q)
}

// A failingReader fails with an error.
type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

var _ io.Reader = failingReader{}
